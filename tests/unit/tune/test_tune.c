/* SPDX-License-Identifier: Apache-2.0
 * Training on the bundled model, a few windows of it: losses fall, what comes out is on the grid, two runs give the same bytes, codes that a start brings come
 * out again when nothing moves, and what makes no sense is refused. */
#include "core/tune/tune.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/base/rng.h"

#define WINDOWS 6
#define LENGTH 24
#define UNITS 32

struct fixture {
	struct bl_model *m;
	struct bl_backend backend;
	struct bl_pool *pool;
	struct bl_engine e;
	int32_t ids[WINDOWS * LENGTH];
};

struct outcome { struct bl_solved *of[UNITS]; atomic_int cancel; int reports, cancel_at; };

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	const char *device = getenv("BL_TEST_DEVICE"), *beside = getenv("BL_BUILD_DIR");
	struct bl_err err = BL_ERR_INIT;
	struct bl_rng rng;

	if (bl_model_open(&f->m, BL_SOURCE_DIR "/tests/models/tiny-exaone4", &err))
		fail_msg("%s", err.text);
	bl_backend_open(&f->backend, beside ? beside : BL_BUILD_DIR);
	f->pool = bl_pool_new(2);
	if (bl_engine_open(&f->e, &f->backend, device ? device : "cpu", f->pool, 0, &err))
		fail_msg("%s", err.text);
	bl_rng_seed(&rng, 3);
	for (int i = 0; i < WINDOWS * LENGTH; i++)
		f->ids[i] = (int32_t)(bl_rng_u64(&rng) % (uint64_t)f->m->config.vocab);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	bl_engine_close(&f->e);
	bl_pool_free(f->pool);
	bl_backend_close(&f->backend);
	bl_model_close(f->m);
	free(f);
	return 0;
}

static enum bl_status take(void *ctx, struct bl_solved *s, struct bl_err *err)
{
	struct outcome *o = ctx;

	(void)err;
	assert_null(o->of[s->unit]);
	o->of[s->unit] = s;
	return BL_OK;
}

static void hear(void *ctx, const char *phase, double done, double total)
{
	struct outcome *o = ctx;

	assert_non_null(phase);
	assert_true(done >= 0 && done <= total);
	if (++o->reports == o->cancel_at)
		atomic_store(&o->cancel, 1);
}

static void drop(struct outcome *o)
{
	for (int i = 0; i < UNITS; i++)
		bl_solved_free(o->of[i]);
	*o = (struct outcome){ 0 };
}

static struct bl_tuning blocks(void)
{
	return (struct bl_tuning){ .scope = BL_TUNING_BLOCK, .start = BL_TUNING_RANGE, .step = BL_TUNING_SIGN, .offset_rate = 0.04, .factor_rate = 0.04, .factor_least = 1e-3,
				   .factor_most = 1, .batch = 3, .iterations = 25, .quantized_inputs = 1, .seed = 1 };
}

static struct bl_tuning whole(void)
{
	return (struct bl_tuning){ .scope = BL_TUNING_MODEL, .start = BL_TUNING_RANGE, .step = BL_TUNING_ADAM, .offset_rate = 0.01, .factor_rate = 0.001, .factor_least = 0.5,
				   .factor_most = 2, .beta1 = 0.9, .beta2 = 0.99, .batch = 2, .epochs = 8, .held_out = 0, .looks = 1, .tries = 1, .seed = 1 };
}

/* Units first .. last-1 are trained. */
static enum bl_status run(struct fixture *f, const struct bl_tuning *how, const char *scheme, int first, int last, struct bl_solved *const *start, struct outcome *o,
			  struct bl_err *err)
{
	struct bl_tune_unit units[UNITS] = { 0 };
	struct bl_tune_request rq = { .model = f->m, .how = *how, .units = units, .ids = f->ids, .windows = WINDOWS, .len = LENGTH, .cancel = &o->cancel, .ctx = o,
				      .report = hear, .done = take };

	assert_int_equal(f->m->n_units, UNITS);
	for (int i = first; i < last; i++) {
		units[i].tuned = true;
		units[i].start = start ? start[i] : NULL;
		assert_int_equal(bl_scheme_parse(&units[i].scheme, scheme, err), BL_OK);
	}
	return bl_tuning_check(how, "x", err) ? err->status : bl_tune_run(&f->e, &rq, err);
}

static double told(const char *report, const char *after)
{
	const char *at = strstr(report, after);

	assert_non_null(at);
	return strtod(at + strlen(after), NULL);
}

static void on_grid(const struct bl_solved *s, int lo, int hi)
{
	int least = hi, most = lo;

	for (int64_t i = 0; i < s->rows * s->cols; i++) {
		least = s->codes[i] < least ? s->codes[i] : least;
		most = s->codes[i] > most ? s->codes[i] : most;
	}
	assert_true(least >= lo && most <= hi && least < most);
	for (int64_t i = 0; i < s->rows * s->spr; i++) {
		uint32_t bits;
		memcpy(&bits, &s->scales[i], 4);
		assert_true(isfinite(s->scales[i]) && s->scales[i] != 0 && !(bits & 0xffff)); /* a bfloat16 */
	}
}

static void equal(const struct outcome *a, const struct outcome *b)
{
	for (int i = 0; i < UNITS; i++) {
		assert_int_equal(a->of[i] != NULL, b->of[i] != NULL);
		if (!a->of[i])
			continue;
		assert_memory_equal(a->of[i]->codes, b->of[i]->codes, (size_t)(a->of[i]->rows * a->of[i]->cols));
		assert_memory_equal(a->of[i]->scales, b->of[i]->scales, (size_t)(a->of[i]->rows * a->of[i]->spr) * sizeof(float));
	}
}

static void block_by_block(void **state)
{
	static struct outcome a, b;
	struct bl_tuning how = blocks();
	struct bl_err err = BL_ERR_INIT;

	if (run(*state, &how, "W4A16", 0, 8, NULL, &a, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < UNITS; i++)
		assert_int_equal(a.of[i] != NULL, i < 8);
	for (int i = 0; i < 8; i++) {
		const double best = told(a.of[i]->report, "difference "), first = told(a.of[i]->report, ", ");

		on_grid(a.of[i], -8, 7);
		assert_true(best > 0 && best < 0.8 * first);
	}
	if (run(*state, &how, "W4A16", 0, 8, NULL, &b, &err))
		fail_msg("%s", err.text);
	equal(&a, &b);
	drop(&a);
	drop(&b);
}

static void end_to_end(void **state)
{
	static struct outcome a, b, c;
	struct bl_tuning how = whole();
	struct bl_err err = BL_ERR_INIT;

	if (run(*state, &how, "W3A16", 0, UNITS, NULL, &a, &err) || run(*state, &how, "W3A16", 0, UNITS, NULL, &b, &err))
		fail_msg("%s", err.text);
	equal(&a, &b);
	for (int i = 0; i < UNITS; i++)
		on_grid(a.of[i], -4, 3);
	const double trained = told(a.of[0]->report, "batch ");
	drop(&b);
	how.offset_rate = how.factor_rate = 0; /* the same path, nothing moves */
	if (run(*state, &how, "W3A16", 0, UNITS, NULL, &c, &err))
		fail_msg("%s", err.text);
	assert_true(trained < 0.9 * told(c.of[0]->report, "batch "));
	drop(&a);
	drop(&c);
}

/* Windows that are put together, other tokens, features: the same bytes each time, and each of them other bytes than without. */
static void drawn(void **state)
{
	static struct outcome plain, a, b;
	struct bl_tuning how = whole();
	struct bl_err err = BL_ERR_INIT;

	how.epochs = 1;
	how.offset_rate = 0.1;
	if (run(*state, &how, "W4A16", 28, 32, NULL, &plain, &err))
		fail_msg("%s", err.text);
	for (int k = 0; k < 3; k++) {
		how.pieces = k == 0 ? 4 : 0;
		how.noise = k == 1 ? 0.3 : 0;
		how.features = k == 2 ? 30 : 0;
		if (run(*state, &how, "W4A16", 28, 32, NULL, &a, &err) || run(*state, &how, "W4A16", 28, 32, NULL, &b, &err))
			fail_msg("%s", err.text);
		equal(&a, &b);
		assert_memory_not_equal(a.of[30]->codes, plain.of[30]->codes, (size_t)(a.of[30]->rows * a.of[30]->cols));
		drop(&a);
		drop(&b);
	}
	drop(&plain);
}

/* W8A8 on one unit of the last block alone: inputs are rounded on the way, everything before stays as it is. */
static void one_unit(void **state)
{
	static struct outcome a;
	struct bl_tuning how = whole();
	struct bl_err err = BL_ERR_INIT;

	how.epochs = 1;
	how.held_out = 0.3;
	how.tries = 2;
	how.try_factor = 3;
	if (run(*state, &how, "W8A8", 31, 32, NULL, &a, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < UNITS; i++)
		assert_int_equal(a.of[i] != NULL, i == 31);
	on_grid(a.of[31], -128, 127);
	assert_true(told(a.of[31]->report, "held out ") <= told(a.of[31]->report, ", "));
	drop(&a);
}

/* Codes of a start that are far from the nearest come out again. */
static void start_kept(void **state)
{
	static struct outcome a, b;
	struct bl_tuning how = whole();
	struct bl_err err = BL_ERR_INIT;
	struct bl_rng rng;

	bl_rng_seed(&rng, 11);
	how.epochs = 0.1;
	if (run(*state, &how, "W4A16", 4, 6, NULL, &a, &err))
		fail_msg("%s", err.text);
	for (int i = 4; i < 6; i++)
		for (int64_t k = 0; k < a.of[i]->rows * a.of[i]->cols; k++) {
			int q = a.of[i]->codes[k] + (int)(bl_rng_u64(&rng) % 3) - 1;
			a.of[i]->codes[k] = (int8_t)(q < -8 ? -8 : q > 7 ? 7 : q);
		}
	how.start = BL_TUNING_CODES;
	snprintf(how.start_method, sizeof how.start_method, "x");
	how.offset_rate = how.factor_rate = 0;
	if (run(*state, &how, "W4A16", 4, 6, a.of, &b, &err))
		fail_msg("%s", err.text);
	equal(&a, &b);
	drop(&a);
	drop(&b);
}

static void refusals(void **state)
{
	static struct outcome a;
	struct bl_tuning how = whole(), bad;
	struct bl_err err = BL_ERR_INIT;

	a.cancel_at = 3;
	assert_int_equal(run(*state, &how, "W4A16", 0, 4, NULL, &a, &err), BL_CANCELLED);
	drop(&a);
	bl_err_clear(&err);
	assert_int_equal(run(*state, &how, "W4A16_ASYM", 0, 4, NULL, &a, &err), BL_UNSUPPORTED);
	bl_err_clear(&err);
	bad = how;
	bad.start = BL_TUNING_CODES; /* and nothing to start from */
	assert_int_equal(run(*state, &bad, "W4A16", 0, 4, NULL, &a, &err), BL_FAILED);
	bl_err_clear(&err);
	bad = how;
	bad.held_out = 0.95; /* of six windows all */
	bad.batch = 1;
	assert_int_equal(run(*state, &bad, "W4A16", 0, 4, NULL, &a, &err), BL_INVALID);
	bl_err_clear(&err);
	const struct { size_t at; double v; } wrong[] = { { offsetof(struct bl_tuning, offset_rate), NAN }, { offsetof(struct bl_tuning, factor_rate), -1 },
							  { offsetof(struct bl_tuning, epochs), 0 }, { offsetof(struct bl_tuning, factor_most), 0.5 },
							  { offsetof(struct bl_tuning, beta2), 1 }, { offsetof(struct bl_tuning, offset_growth), NAN }, { offsetof(struct bl_tuning, held_out), 1 },
							  { offsetof(struct bl_tuning, noise), 1.5 }, { offsetof(struct bl_tuning, features), -1 } };
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		bad = how;
		memcpy((char *)&bad + wrong[i].at, &wrong[i].v, sizeof wrong[i].v);
		assert_int_equal(bl_tuning_check(&bad, "x", &err), BL_INVALID);
		bl_err_clear(&err);
	}
	drop(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(block_by_block), cmocka_unit_test(end_to_end), cmocka_unit_test(drawn), cmocka_unit_test(one_unit), cmocka_unit_test(start_kept),
					    cmocka_unit_test(refusals) };

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
