/* SPDX-License-Identifier: Apache-2.0
 * A quantized checkpoint that is opened computes what the plan computes that it was made from: the same weights, and the same logits to the last bit. */
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/model/safetensors.h"
#include "core/session/measure.h"
#include "core/session/run_model.h"
#include "core/session/stored.h"

#define OK(call)                                             \
	do {                                                 \
		struct bl_err err = BL_ERR_INIT;             \
		if ((call) != BL_OK)                         \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)

static char *in_dir(const char *name) { return bl_path_join(test_dir, name); }

static void export_to(struct bl_session *s, const char *format, const char *out)
{
	struct bl_export_request rq = {.model = s->model, .plan = s->plan, .registry = &s->registry, .target = s->target, .out = out, .format = format, .overwrite = true,
				       .ignore_rules = true, .pool = s->pool, .seed = 42};
	struct bl_export_result r;

	OK(bl_export_run(&r, &rq, &err));
	bl_export_result_free(&r);
}

static void same_unit(const struct bl_unit_weights *a, const struct bl_unit_weights *b)
{
	const size_t n = (size_t)(a->rows * a->cols);

	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->act, b->act);
	if (a->kind == BL_WEIGHTS_DENSE)
		assert_memory_equal(a->dense, b->dense, n * sizeof *a->dense);
	else
		assert_memory_equal(a->codes, b->codes, n);
	if (a->kind == BL_WEIGHTS_CODES)
		assert_memory_equal(a->scales, b->scales, (size_t)a->rows * sizeof *a->scales);
}

static void put_ids(const char *path)
{
	struct bl_tensor t = {.name = "input_ids", .dtype = BL_I32, .rank = 2, .shape = {1, 6}, .n_elems = 6, .bytes = 24};
	const int32_t ids[6] = {11, 200, 3, 77, 1000, 42};
	struct bl_str out = {0};

	bl_st_layout(&t, 1, &out);
	bl_str_addn(&out, ids, sizeof ids);
	OK(bl_write_file(path, out.s, out.len, 0644, &err));
	bl_str_free(&out);
}

static void forward(struct bl_session *s, const char *ids, const char *out)
{
	struct bl_forward_request r = {.at = {.device = "cpu", .program_dir = BL_BUILD_DIR}, .ids = ids, .out = out};
	struct bl_forward_report report;

	OK(bl_session_forward(s, &r, &report, &err));
}

static void same_logits(const char *a, const char *b)
{
	struct bl_st x, y;

	OK(bl_st_open(&x, a, &err));
	OK(bl_st_open(&y, b, &err));
	const struct bl_tensor *p = bl_st_find(&x, "logits"), *q = bl_st_find(&y, "logits");
	assert_true(p && q && p->bytes == q->bytes);
	assert_memory_equal(p->data, q->data, p->bytes);
	bl_st_close(&x);
	bl_st_close(&y);
}

static void computes_what_the_plan_does(void **state)
{
	static const struct { const char *scheme, *format; } rows[] = {
		{"W4A16", "gptq"}, {"W8A8", "compressed-tensors"}, {"NF4_DQ", "bitsandbytes"}, {"NVFP4A16", "compressed-tensors"}, {"FP8_BLOCK", "compressed-tensors"},
	};
	char *out = in_dir("q"), *ids = in_dir("ids.safetensors"), *a = in_dir("a.safetensors"), *b = in_dir("b.safetensors");

	(void)state;
	put_ids(ids);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct bl_session *s = open_with(DEMO_MODEL, false, 2), *q;
		struct bl_weight_set plan;
		const struct bl_weight_set *own = NULL;

		set_all(s, rows[i].scheme);
		OK(bl_plan_set_text(s->plan, s->model, "2.down=BF16", NULL, NULL, &err));
		bl_session_edited(s);
		export_to(s, rows[i].format, out);
		q = open_with(out, false, 2);
		OK(bl_session_stored(q, &own, &err));
		OK(bl_measure_weights(&plan, s, s->plan, NULL, &err));
		assert_non_null(own);
		for (int u = 0; u < plan.n; u++) {
			assert_true((plan.of[u] != NULL) == (own->of[u] != NULL));
			if (plan.of[u])
				same_unit(plan.of[u], own->of[u]);
		}
		bl_measure_weights_free(&plan);
		if (i < 2) {
			forward(s, ids, a);
			forward(q, ids, b);
			same_logits(a, b);
		}
		OK(bl_same_rest(s->model, q->model, &err));
		bl_session_close(q);
		bl_session_close(s);
	}
	bl_free(out);
	bl_free(ids);
	bl_free(a);
	bl_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(computes_what_the_plan_does, support_setup, support_teardown)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
