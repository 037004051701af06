/* SPDX-License-Identifier: Apache-2.0
 * Units of the bundled model through a method that sees them whole: better than plain rounding, the same on any number of threads, stored and read back,
 * and what cannot be solved is said. */
#include "tests/unit/solve/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/solve/store.h"

/* damping 1 and no order is close to plain rounding; each step beyond it must pay */
static void every_step_pays(void **state)
{
	static const char *const steps[] = { "dampening_frac=1,actorder=none,observer=minmax", "actorder=none,observer=minmax", "observer=minmax", "", "rounds=2" };
	static const char *const schemes[] = { "W4A16", "W4A16_channel", "W3A16", "W4A16_ASYM" };

	for (size_t k = 0; k < sizeof schemes / sizeof schemes[0]; k++) {
		double last = INFINITY;
		for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
			struct bl_solved *s = solve(*state, 0, schemes[k], steps[i]);

			assert_string_equal(s->report, "");
			assert_true(s->rel > 0 && s->rel < last * (i == 2 ? 1.05 : 1));
			last = s->rel;
			bl_solved_free(s);
		}
	}
}

/* The relative error that is told is that of the codes, in plain double sums. */
static void the_error_is_that_of_the_codes(void **state)
{
	struct fixture *f = *state;
	struct bl_solved *s = solve(f, 2, "W4A16", "");
	const struct bl_unit *u = &f->m->units[2];
	double base = 0, loss = 0;
	int64_t at = 0;

	for (int m = 0; m < u->n_members; at += u->members[m++].rows)
		for (int64_t row = 0; row < u->members[m].rows; row += 37) {
			double w[256], d[256];

			for (int k = 0; k < 256; k++) {
				const uint32_t bits = (uint32_t)((const uint16_t *)u->members[m].weight->data)[row * 256 + k] << 16;
				float v;

				memcpy(&v, &bits, 4);
				w[k] = v;
				d[k] = v - (double)s->codes[(at + row) * 256 + k] * s->scales[(at + row) * 2 + k / 128];
			}
			for (int i = 0; i < 256; i++)
				for (int j = 0; j < 256; j++) {
					const double h = i >= j ? f->h[i * 256 + j] : f->h[j * 256 + i];

					base += w[i] * h * w[j];
					loss += d[i] * h * d[j];
				}
		}
	assert_true(fabs(loss / base - s->rel) < 0.15 * s->rel); /* a sample of the rows */
	bl_solved_free(s);
}

static void threads_change_nothing(void **state)
{
	struct fixture *f = *state;
	struct bl_solved *a = solve(f, 0, "W4A16", "rounds=1"), *b;
	struct bl_pool *one = bl_pool_new(1), *two = f->pool;

	f->e.pool = one;
	b = solve(f, 0, "W4A16", "rounds=1");
	f->e.pool = two;
	bl_pool_free(one);
	assert_memory_equal(a->codes, b->codes, (size_t)(a->rows * a->cols));
	assert_memory_equal(a->scales, b->scales, (size_t)(a->rows * a->spr) * sizeof(float));
	bl_solved_free(a);
	bl_solved_free(b);
}

static void stored_and_read_back(void **state)
{
	struct fixture *f = *state;
	struct bl_solve_request rq = request(f, 0, "W4A16_ASYM", ""), other = request(f, 0, "W4A16_ASYM", "dampening_frac=0.02");
	struct bl_solved *s = solve(f, 0, "W4A16_ASYM", ""), *back = NULL;
	struct bl_err err = BL_ERR_INIT;
	char key[65], key2[65], path[256];

	bl_solved_key(key, &rq, "calibration", "cpu");
	bl_solved_key(key2, &other, "calibration", "cpu");
	assert_string_not_equal(key, key2);
	assert_int_equal(bl_solved_load(&back, &rq, f->dir, key, false, &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_equal(bl_solved_save(s, f->dir, key, &err), BL_OK);
	assert_int_equal(bl_solved_load(&back, &rq, f->dir, key, false, &err), BL_OK);
	assert_memory_equal(s->codes, back->codes, (size_t)(s->rows * s->cols));
	assert_memory_equal(s->scales, back->scales, (size_t)(s->rows * s->spr) * sizeof(float));
	assert_memory_equal(s->zeros, back->zeros, (size_t)(s->rows * s->spr));
	assert_true(s->rel == back->rel);
	bl_solved_free(back);
	snprintf(path, sizeof path, "%s/solved/%s.bin", f->dir, key);
	for (int64_t at = 0; at < bl_file_bytes(path); at += 4099) { /* one byte anywhere */
		FILE *file = fopen(path, "r+b");
		int c;

		assert_non_null(file);
		fseek(file, (long)at, SEEK_SET);
		c = fgetc(file);
		fseek(file, (long)at, SEEK_SET);
		fputc(c ^ 0x10, file);
		fclose(file);
		assert_int_equal(bl_solved_load(&back, &rq, f->dir, key, false, &err), BL_MISMATCH);
		bl_err_clear(&err);
		file = fopen(path, "r+b");
		fseek(file, (long)at, SEEK_SET);
		fputc(c, file);
		fclose(file);
	}
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(bl_solved_load(&back, &rq, f->dir, key, false, &err), BL_MISMATCH);
	bl_solved_free(s);
}

static void hessians_that_are_no_good(void **state)
{
	struct fixture *f = *state;
	struct bl_solve_request rq = request(f, 0, "W4A16", "dampening_frac=0");
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;
	float *h = bl_xalloc(256 * 256, sizeof *h);

	/* NaN on the diagonal: refused by name */
	memcpy(h, f->h, 256 * 256 * sizeof *h);
	h[9 * 256 + 9] = NAN;
	rq.h = h;
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "channel 9"));
	bl_err_clear(&err);
	/* off the diagonal: refused too, and infinity as well */
	memcpy(h, f->h, 256 * 256 * sizeof *h);
	h[90 * 256 + 7] = NAN;
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "overflowing"));
	bl_err_clear(&err);
	h[90 * 256 + 7] = INFINITY;
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_INVALID);
	bl_err_clear(&err);
	/* rank 1, no damping: the ladder finds one and says so */
	for (int i = 0; i < 256; i++)
		for (int j = 0; j < 256; j++)
			h[i * 256 + j] = (float)((i % 7 + 1) * (j % 7 + 1));
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
	assert_non_null(strstr(s->report, "damping raised"));
	bl_solved_free(s);
	/* indefinite beyond repair: plain rounding, told */
	h[1 * 256 + 0] = 1e9f;
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
	assert_non_null(strstr(s->report, "rounded plainly"));
	bl_solved_free(s);
	/* nothing ever fired */
	memset(h, 0, 256 * 256 * sizeof *h);
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
	assert_true(s->rel == 0);
	bl_solved_free(s);
	/* a dead channel keeps its weights, rounded */
	memcpy(h, f->h, 256 * 256 * sizeof *h);
	for (int k = 0; k < 256; k++)
		h[(k > 17 ? k : 17) * 256 + (k > 17 ? 17 : k)] = 0;
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
	int used = 0;
	for (int64_t row = 0; row < s->rows; row++)
		used += s->codes[row * 256 + 17] != 0;
	assert_true(used > s->rows / 4);
	bl_solved_free(s);
	bl_free(h);
}

/* A unit whose first member has these weights instead. */
struct changed { struct bl_member *m; const struct bl_tensor *was; struct bl_tensor t; uint16_t *w; };

static void change(struct changed *c, struct fixture *f, int unit)
{
	c->m = (struct bl_member *)(uintptr_t)&f->m->units[unit].members[0];
	c->was = c->m->weight;
	c->t = *c->was;
	c->w = malloc((size_t)c->t.bytes);
	assert_non_null(c->w);
	memcpy(c->w, c->was->data, (size_t)c->t.bytes);
	c->t.data = (void *)c->w;
	c->m->weight = &c->t;
}

static void change_back(struct changed *c)
{
	c->m->weight = c->was;
	free(c->w);
}

static uint16_t bf16(float v)
{
	uint32_t u;

	memcpy(&u, &v, 4);
	return (uint16_t)(u >> 16);
}

/* Not finite: named with its place, or zero where that was asked for. */
static void weights_that_are_not_finite(void **state)
{
	static const char *const params[] = { "", "rounds=1" };
	struct fixture *f = *state;
	struct changed c;
	struct bl_solved *s = NULL;

	change(&c, f, 0);
	c.w[3 * 256 + 200] = 0x7fc0;
	c.w[70 * 256 + 1] = 0xff80;
	for (int i = 0; i < 2; i++) {
		struct bl_solve_request rq = request(f, 0, "W4A16", params[i]);
		struct bl_err err = BL_ERR_INIT;

		assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_INVALID);
		assert_non_null(strstr(err.text, "NaN at [3,200]"));
		bl_err_clear(&err);
		rq.zero_nonfinite = true;
		assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
		assert_true(isfinite(s->rel));
		bl_solved_free(s);
	}
	change_back(&c);
}

/* What is extreme but finite is solved like the rest, without a word; the rows it is not in do not change. */
static void extremes(void **state)
{
	static const char *const schemes[] = { "W4A16", "W4A16_ASYM", "W8A8", "FP8_DYNAMIC" };
	struct fixture *f = *state;

	for (size_t k = 0; k < sizeof schemes / sizeof schemes[0]; k++) {
		struct bl_solved *usual = solve(f, 0, schemes[k], "observer=minmax"), *s;
		struct changed c;

		change(&c, f, 0);
		c.w[0] = bf16(1e4f);                /* an outlier */
		c.w[256 + 9] = bf16(-1e6f);         /* beyond float16 */
		for (int i = 0; i < 128; i++)       /* a group of zeros */
			c.w[2 * 256 + 128 + i] = 0;
		s = solve(f, 0, schemes[k], "observer=minmax");
		assert_string_equal(s->report, "");
		for (int64_t i = 0; i < s->rows * s->spr; i++)
			assert_true(isfinite(s->scales[i]) && s->scales[i] != 0);
		if (s->spr == 2) /* its codes may make up for others' errors, on the grid that a group without range has */
			assert_true(s->scales[2 * 2 + 1] == 0x1p-7f);
		assert_memory_equal(s->codes + 3 * 256, usual->codes + 3 * 256, (size_t)(s->rows - 3) * 256);
		change_back(&c);
		bl_solved_free(s);
		bl_solved_free(usual);
	}
}

/* Groups in the order of energy: every group full, no worse than groups as they lie, and stored with the rest. */
static void groups_by_an_index(void **state)
{
	static const char *const params[] = { "", "rounds=1" };
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		struct bl_solved *s = solve(f, 0, "W4A16_actorder", params[i]), *as_they_lie = solve(f, 0, "W4A16", params[i]), *back = NULL;
		struct bl_solve_request rq = request(f, 0, "W4A16_actorder", params[i]);
		struct bl_err err = BL_ERR_INIT;
		int n[2] = { 0 };
		float weakest = INFINITY, strongest = 0;
		char key[65];

		for (int k = 0; k < 256; k++) {
			const float energy = f->h[k * 256 + k];

			n[s->group_of[k]]++;
			weakest = s->group_of[k] == 0 && energy < weakest ? energy : weakest;
			strongest = s->group_of[k] == 1 && energy > strongest ? energy : strongest;
		}
		assert_true(n[0] == 128 && n[1] == 128 && weakest >= strongest);
		assert_true(s->rel > 0 && s->rel < 1.1 * as_they_lie->rel);
		bl_solved_key(key, &rq, "calibration", "cpu");
		assert_int_equal(bl_solved_save(s, f->dir, key, &err), BL_OK);
		assert_int_equal(bl_solved_load(&back, &rq, f->dir, key, false, &err), BL_OK);
		assert_memory_equal(s->group_of, back->group_of, 256 * sizeof *s->group_of);
		assert_memory_equal(s->codes, back->codes, (size_t)(s->rows * s->cols));
		bl_solved_free(back);
		bl_solved_free(as_they_lie);
		bl_solved_free(s);
	}
}

/* Where float32 sums end it is said, and by what name it can still be rounded. */
static void beyond_the_range(void **state)
{
	struct fixture *f = *state;
	struct bl_solve_request rq = request(f, 0, "W4A16", "");
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;
	struct changed c;

	change(&c, f, 0);
	c.w[256 + 9] = bf16(-3e38f);
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "overflow"));
	change_back(&c);
}

/* One input channel ten thousand times the others: the error counts there, and is no worse than the others' would make it. */
static void an_outlier_channel(void **state)
{
	struct fixture *f = *state;
	struct bl_solve_request rq = request(f, 0, "W4A16", "");
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;
	float *h = bl_xalloc(256 * 256, sizeof *h);

	for (int i = 0; i < 256; i++)
		for (int j = 0; j <= i; j++)
			h[i * 256 + j] = f->h[i * 256 + j] * (i == 60 ? 1e4f : 1) * (j == 60 ? 1e4f : 1);
	rq.h = h;
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
	assert_string_equal(s->report, "");
	assert_true(s->rel > 0 && s->rel < 0.01);
	bl_solved_free(s);
	bl_free(h);
}

/* ---- 8- and 4-bit floats of every kind ---- */

static const char *const floats[] = { "FP8_DYNAMIC", "FP8_channel", "FP8", "FP8_BLOCK", "NVFP4", "NVFP4A16", "MXFP4A16", "MXFP8A16" };
#define N_FLOATS (sizeof floats / sizeof floats[0])

/* Whatever the grid: the error told is that of the codes, below that of rounding to nearest, and lower still with scales that are sought. */
static void floats_of_every_kind(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < N_FLOATS; i++) {
		struct bl_solve_request rq = request(f, 0, floats[i], "");
		struct bl_solved *minmax = solve(f, 0, floats[i], "observer=minmax"), *sought = solve(f, 0, floats[i], ""), *refit = solve(f, 0, floats[i], "rounds=2");
		struct nearest n = round_to_nearest(f, 0, &rq.scheme);
		const double plain = relative_loss(f, 0, &rq.scheme, n.codes, n.scales);

		assert_true(fabs(relative_loss(f, 0, &rq.scheme, sought->codes, sought->scales) - sought->rel) < 1e-3 * sought->rel);
		assert_true(minmax->rel < 0.95 * plain && sought->rel < 1.02 * minmax->rel && refit->rel <= sought->rel * 1.0001);
		assert_memory_equal(minmax->scales, n.scales, (size_t)(minmax->rows * minmax->spr) * sizeof(float));
		if (bl_scheme_is_shared(&rq.scheme) && rq.scheme.strategy != BL_STRATEGY_TENSOR_GROUP) { /* not sought, not refitted, and that is told */
			assert_memory_equal(refit->scales, n.scales, (size_t)(refit->rows * refit->spr) * sizeof(float));
			assert_non_null(strstr(refit->report, "not refitted"));
		} else {
			assert_string_equal(refit->report, "");
			assert_true(sought->rel < minmax->rel || rq.scheme.number == BL_NUM_FLOAT);
		}
		assert_true((sought->global > 0) == (rq.scheme.strategy == BL_STRATEGY_TENSOR_GROUP));
		bl_free(n.codes);
		bl_free(n.scales);
		bl_solved_free(minmax);
		bl_solved_free(sought);
		bl_solved_free(refit);
	}
}

/* Inputs that have nothing to do with each other: nothing can be made up for, and the codes are those of rounding to nearest, bit for bit. */
static void nothing_to_make_up_for(void **state)
{
	static const char *const schemes[] = { "NVFP4A16", "NVFP4" };
	struct fixture *f = *state;
	float *h = bl_xalloc(256 * 256, sizeof *h);

	for (int k = 0; k < 256; k++)
		h[k * 256 + k] = (float)(1 + k % 5);
	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
		struct bl_solve_request rq = request(f, 0, schemes[i], "observer=minmax");
		struct nearest n = round_to_nearest(f, 0, &rq.scheme);
		struct bl_err err = BL_ERR_INIT;
		struct bl_solved *s = NULL;

		rq.h = h;
		assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
		assert_memory_equal(s->codes, n.codes, (size_t)(s->rows * s->cols));
		assert_memory_equal(s->scales, n.scales, (size_t)(s->rows * s->spr) * sizeof(float));
		bl_free(n.codes);
		bl_free(n.scales);
		bl_solved_free(s);
	}
	bl_free(h);
}

static void refusals(void **state)
{
	struct fixture *f = *state;
	struct bl_solve_request rq = request(f, 0, "W4A16", "dampening_frac=7");
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;

	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_USAGE);
	bl_err_clear(&err);
	rq = request(f, 0, "BF16", "");
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_INVALID);
	bl_err_clear(&err);
	rq = request(f, 0, "W4A16", "");
	rq.method = "rtn";
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_NOT_FOUND);
}

/* The down projection of a model of 32 thousand million parameters: 27392 inputs, within 10 GiB with the damping ladder and all. What is said to be needed is
 * held against what is taken, on a small unit, by the engine's own count. */
static void what_it_takes(void **state)
{
	struct fixture *f = *state;
	struct bl_tensor t = { .dtype = BL_BF16 };
	struct bl_unit wide = { .members = { { .weight = &t, .rows = 5120, .cols = 27392 } }, .n_members = 1, .rows = 5120, .cols = 27392 };
	struct bl_solve_request rq = request(f, 2, "W4A16", "");
	struct bl_backend backend;
	struct bl_engine e = { 0 };
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;
	uint64_t waiting, working;

	bl_solve_need(&wide, &rq.scheme, false, false, &waiting, &working);
	assert_true(waiting < working && working < (uint64_t)10 << 30);
	bl_solve_need(&f->m->units[2], &rq.scheme, false, false, &waiting, &working);
	bl_backend_open(&backend, NULL);
	assert_int_equal(bl_engine_open(&e, &backend, "cpu", f->pool, working, &err), BL_OK);
	if (bl_solve_unit(&s, &e, &rq, &err))
		fail_msg("%s", err.text);
	bl_solved_free(s);
	bl_engine_close(&e);
	/* and no memory is no memory, whenever it runs out */
	for (uint64_t part = 1; part < 4; part++) {
		assert_int_equal(bl_engine_open(&e, &backend, "cpu", f->pool, waiting * part / 4, &err), BL_OK);
		assert_int_equal(bl_solve_unit(&s, &e, &rq, &err), BL_NO_MEMORY);
		bl_err_clear(&err);
		bl_engine_close(&e);
	}
	bl_backend_close(&backend);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_step_pays),          cmocka_unit_test(the_error_is_that_of_the_codes), cmocka_unit_test(threads_change_nothing),
		cmocka_unit_test(stored_and_read_back),     cmocka_unit_test(hessians_that_are_no_good),      cmocka_unit_test(refusals),
		cmocka_unit_test(weights_that_are_not_finite), cmocka_unit_test(extremes),                   cmocka_unit_test(an_outlier_channel),
		cmocka_unit_test(floats_of_every_kind), cmocka_unit_test(nothing_to_make_up_for), cmocka_unit_test(groups_by_an_index), cmocka_unit_test(beyond_the_range),          cmocka_unit_test(what_it_takes),
	};

	return cmocka_run_group_tests(tests, solve_set_up, solve_tear_down);
}
