/* SPDX-License-Identifier: Apache-2.0
 * From one format to another: the same numbers, or a refusal that says why. Every pair is proved by the export itself, which compares what it wrote with the
 * source bit for bit; here the ways there and back, what is refused, and what a damaged source gives. */
#include "support.h"

#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/format/format.h"

/* Writes `plan` in `format` to scratch(name). */
static void make(struct fix *f, const char *plan, const char *format, const char *name)
{
	struct bl_export_result r;

	fix_plan(f, plan);
	bl_plan_set_format(f->plan, format);
	fix_export(f, scratch(name), &r);
	bl_export_result_free(&r);
}

/* From scratch(from) to scratch(to) in a format; the error, or BL_OK. */
static enum bl_status convert(const char *from, const char *format, const char *to, struct bl_err *err)
{
	struct fix f;
	struct bl_export_result r;

	fix_open(&f, scratch(from), 2);
	struct bl_export_request rq = fix_request(&f, scratch(to));
	rq.format = format;
	if (bl_export_run(&r, &rq, err) == BL_OK) {
		assert_true(r.proof.compared && r.proof.max_abs_error == 0 && r.proof.n_fatal == 0);
		bl_export_result_free(&r);
	}
	fix_close(&f);
	return err->status;
}

static void must(const char *from, const char *format, const char *to)
{
	struct bl_err err = BL_ERR_INIT;

	if (convert(from, format, to, &err))
		fail_msg("%s to %s: %s", from, format, err.text);
}

static void must_not(const char *from, const char *format, enum bl_status status, const char *says)
{
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(convert(from, format, "refused", &err), status);
	if (!strstr(err.text, says))
		fail_msg("%s to %s says \"%s\"", from, format, err.text);
	assert_false(bl_is_dir(scratch("refused")));
	assert_true(scratch_is_clean());
}

static void same_weights(const char *a, const char *b)
{
	char x[65], y[65], path[2][600];

	snprintf(path[0], sizeof path[0], "%s/model.safetensors", scratch(a));
	snprintf(path[1], sizeof path[1], "%s/model.safetensors", scratch(b));
	digest_of(path[0], x);
	digest_of(path[1], y);
	assert_string_equal(x, y);
}

static void there_and_back(void **state)
{
	static const struct { const char *plan, *home, *abroad; } rows[] = {
		{"W4A16 0.down=BF16 1.qkv=W8A16_g128", "gptq", "compressed-tensors"}, {"W4A16_ASYM", "awq", "compressed-tensors"}, {"W4A16_ASYM_g32", "gptq_v2", "awq"},
		{"W4A16", "compressed-tensors", "auto_round"}, {"W8A16", "compressed-tensors", "gptq"},
	};
	struct fix f;

	(void)state;
	fix_open(&f, TINY, 2);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		make(&f, rows[i].plan, rows[i].home, "home");
		must("home", rows[i].abroad, "abroad");
		must("abroad", rows[i].home, "again");
		same_weights("home", "again");
		must("home", rows[i].home, "copy"); /* its own format: as it is */
		same_weights("home", "copy");
	}
	fix_close(&f);
}

static void refused(void **state)
{
	struct fix f;

	(void)state;
	fix_open(&f, TINY, 2);
	make(&f, "NF4_DQ", "bitsandbytes", "a");
	must_not("a", "compressed-tensors", BL_RULE, "quantized again");
	make(&f, "NF4", "bitsandbytes", "a");
	must_not("a", "gptq", BL_RULE, "integer weights");
	make(&f, "W4A16_ASYM", "awq", "a");
	must_not("a", "auto_round", BL_RULE, "AWQ");
	must_not("a", "bf16", BL_RULE, "full precision");
	make(&f, "W8A8", "compressed-tensors", "a");
	must_not("a", "gptq", BL_RULE, "full precision");
	make(&f, "W3A16", "compressed-tensors", "a");
	must_not("a", "gptq", BL_RULE, "2, 4 or 8 bits");
	make(&f, "W8A16_g128", "compressed-tensors", "a");
	must_not("a", "awq", BL_RULE, "4-bit");
	fix_close(&f);
}

/* One scale below what float16 holds, one zero point of 0: neither can be written as it is. */
static void not_exact(void **state)
{
	char path[600], *text;
	struct bl_st st;
	struct fix f;
	size_t n;

	(void)state;
	fix_open(&f, TINY, 2);
	make(&f, "W4A16", "compressed-tensors", "a");
	snprintf(path, sizeof path, "%s/model.safetensors", scratch("a"));
	OK(bl_st_open(&st, path, &err));
	const struct bl_tensor *t = bl_st_find(&st, "model.layers.1.mlp.up_proj.weight_scale");
	OK(bl_read_file(&text, &n, path, 1u << 30, false, &err));
	const uint16_t tiny = bl_f32_bf16(0x1.02p-20f);
	memcpy(text + t->offset, &tiny, 2);
	bl_st_close(&st);
	put_file(path, text, n);
	bl_free(text);
	must_not("a", "gptq", BL_RULE, "no float16 numbers");
	must_not("a", "awq", BL_RULE, "no float16 numbers");
	fix_close(&f);
}

/* A plan with zero points cannot always go into the first version of GPTQ. */
static void zero_points(void **state)
{
	struct bl_registry r;
	struct bl_x_tensor t[8];
	int8_t codes[32 * 32] = {0}, zeros[32];
	float scales[32];
	uint32_t words[32];

	(void)state;
	bl_registry_open(&r, BL_BUILD_DIR);
	const struct bl_exporter *v1 = bl_registry_exporter(&r, "gptq"), *v2 = bl_registry_exporter(&r, "gptq_v2");
	struct bl_x_module m = {.name = "m", .unit = "u", .rows = 32, .cols = 32, .quantized = 1, .grid = {.number = BL_GRID_INT, .bits = 4, .group = 32}};
	struct bl_x_rows rows = {.n = 32, .codes = codes, .scales = scales, .zeros = zeros, .host = &r.host};
	for (int i = 0; i < 32; i++) {
		scales[i] = 0.5f;
		zeros[i] = (int8_t)(i % 16 - 8);
	}
	assert_int_equal(v2->tensors(&m, t, 8), 4);
	assert_null(v2->pack(&m, 1, &rows, words));
	assert_int_equal(words[0], 0x76543210u);
	assert_non_null(strstr(v1->pack(&m, 1, &rows, words), "gptq_v2"));
	zeros[0] = zeros[16] = 0;
	assert_null(v1->pack(&m, 1, &rows, words));
	assert_int_equal(words[0], 0x65432107u);
	bl_registry_close(&r);
}

/* The key-value cache's scheme goes where it belongs, or is refused. */
static void kv_cache(void **state)
{
	struct bl_export_result r;
	struct bl_problem *problems = NULL;
	struct bl_err why = BL_ERR_INIT;
	struct fix f;
	char *text;
	size_t n;
	bool warned = false;

	(void)state;
	fix_open(&f, TINY, 2);
	assert_int_equal(bl_plan_set_edit(f.plan, "kv_cache_scheme", "\"int4\"", &why), BL_USAGE);
	bl_err_clear(&why);
	OK(bl_plan_set_edit(f.plan, "kv_cache_scheme", "\"fp8\"", &err));
	fix_plan(&f, "W8A8");
	const int count = bl_target_check_plan(&problems, NULL, f.target, f.model, f.plan);
	for (int i = 0; i < count; i++)
		warned |= strstr(problems[i].sentence, "--kv-cache-dtype") && !problems[i].fatal;
	assert_true(warned);
	bl_free(problems);
	fix_export(&f, scratch("kv"), &r);
	bl_export_result_free(&r);
	OK(bl_read_file(&text, &n, scratch("kv/config.json"), 1 << 20, true, &err));
	cJSON *c;
	OK(bl_json_parse(&c, text, n, 100000, "config", &err));
	const cJSON *q = cJSON_GetObjectItem(c, "quantization_config"), *kv = cJSON_GetObjectItem(q, "kv_cache_scheme");
	assert_int_equal(cJSON_GetObjectItem(kv, "num_bits")->valueint, 8);
	assert_string_equal(cJSON_GetObjectItem(kv, "type")->valuestring, "float");
	assert_null(cJSON_GetObjectItem(c, "kv_cache_scheme"));
	cJSON_Delete(c);
	bl_free(text);
	bl_plan_set_format(f.plan, "gptq");
	fix_plan(&f, "W4A16");
	struct bl_export_request rq = fix_request(&f, scratch("no"));
	assert_int_equal(bl_export_run(&r, &rq, &why), BL_RULE);
	assert_non_null(strstr(why.text, "has no place"));
	fix_close(&f);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {T(there_and_back), T(refused), T(not_exact), T(zero_points), T(kv_cache)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
