/* SPDX-License-Identifier: Apache-2.0
 * Pruned units of the bundled model: how many zeros and where, in full precision and on top of every grid; nothing to remove is GPTQ; what makes up for what it
 * removes loses less; the same on any number of threads, stored and read back. */
#include "tests/unit/solve/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/scheme/codec.h"
#include "core/solve/store.h"

static struct bl_solved *prune(struct fixture *f, int unit, const char *scheme, const char *method, const char *params)
{
	struct bl_solve_request rq = request(f, unit, scheme, params);
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;

	rq.method = method;
	if (bl_solve_unit(&s, &f->e, &rq, &err))
		fail_msg("%s %s %s: %s", scheme, method, params, err.text);
	return s;
}

/* Decoded weights [rows, cols]. */
static float *weights_of(const struct bl_solved *s, const char *scheme)
{
	float *w = bl_xalloc((size_t)(s->rows * s->cols), sizeof *w);
	const struct bl_coded coded = { s->codes, s->scales, s->zeros, s->group_of };
	struct bl_scheme sch;
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_scheme_parse(&sch, scheme, &err), BL_OK);
	if (s->code_bytes == 2)
		for (int64_t i = 0; i < s->rows * s->cols; i++) {
			const uint32_t u = (uint32_t)((const uint16_t *)(const void *)s->codes)[i] << 16;

			memcpy(&w[i], &u, 4);
		}
	else
		bl_scheme_decode(w, &sch, &coded, s->rows, s->cols);
	return w;
}

static const char *const schemes[] = { "BF16_SPARSE", "W4A16", "W4A16_ASYM", "W8A8", "FP8_DYNAMIC", "FP8_BLOCK", "NVFP4A16", "MXFP4A16", "MXFP8A16", "W4A16_actorder" };
#define N_SCHEMES (sizeof schemes / sizeof schemes[0])

static void nothing_to_remove_is_gptq(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 1; i < N_SCHEMES; i++) {
		struct bl_solved *a = prune(f, 0, schemes[i], "gptq", ""), *b = prune(f, 0, schemes[i], "sparsegpt", "sparsity=0");

		assert_memory_equal(a->codes, b->codes, (size_t)(a->rows * a->cols));
		assert_memory_equal(a->scales, b->scales, (size_t)(a->rows * a->spr) * sizeof(float));
		assert_true(a->rel == b->rel);
		bl_solved_free(a);
		bl_solved_free(b);
	}
	struct bl_solved *s = prune(f, 0, "BF16_SPARSE", "sparsegpt", "sparsity=0"), *w = prune(f, 0, "BF16_SPARSE", "wanda", "sparsity=0");
	const struct bl_unit *u = &f->m->units[0];
	int64_t at = 0;

	for (int m = 0; m < u->n_members; at += u->members[m++].rows) { /* the weights themselves */
		assert_memory_equal((const uint16_t *)(const void *)s->codes + at * u->cols, u->members[m].weight->data, (size_t)u->members[m].weight->bytes);
		assert_memory_equal((const uint16_t *)(const void *)w->codes + at * u->cols, u->members[m].weight->data, (size_t)u->members[m].weight->bytes);
	}
	assert_true(s->rel == 0 && w->rel == 0);
	bl_solved_free(s);
	bl_solved_free(w);
}

/* Of every m neighbours at least n are 0 (rounding may add some; in full precision it is n). */
static void patterns_are_exact(void **state)
{
	static const struct { const char *params; int n, m; } kinds[] = { { "mask_structure=2:4", 2, 4 }, { "mask_structure=4:8", 4, 8 }, { "mask_structure=1:2", 1, 2 } };
	static const char *const methods[] = { "sparsegpt", "wanda" };

	for (size_t i = 0; i < N_SCHEMES; i++)
		for (size_t k = 0; k < (i < 2 ? 3 : 1) * 2; k++) {
			struct bl_solved *s = prune(*state, 0, schemes[i], methods[k % 2], kinds[k / 2].params);
			const int n = kinds[k / 2].n, m = kinds[k / 2].m;
			float *w = weights_of(s, schemes[i]);

			for (int64_t at = 0; at < s->rows * s->cols; at += m) {
				int zeros = 0;

				for (int j = 0; j < m; j++)
					zeros += w[at + j] == 0;
				if (i ? zeros < n : zeros != n)
					fail_msg("%s %s: %d zeros of %d at %d", schemes[i], kinds[k / 2].params, zeros, m, (int)at);
			}
			bl_free(w);
			bl_solved_free(s);
		}
}

/* As many as asked for, in each linear of a unit by itself. */
static void shares_are_kept(void **state)
{
	static const char *const methods[] = { "sparsegpt", "wanda" };
	struct fixture *f = *state;
	const struct bl_unit *u = &f->m->units[0];

	for (int i = 0; i < 4; i++) {
		struct bl_solved *s = prune(f, 0, "BF16_SPARSE", methods[i % 2], i < 2 ? "sparsity=0.5" : "sparsity=0.3");
		float *w = weights_of(s, "BF16_SPARSE");
		int64_t at = 0;

		for (int m = 0; m < u->n_members; at += u->members[m++].rows) {
			const double all = (double)(u->members[m].rows * u->cols);
			int64_t zeros = 0;

			for (int64_t k = 0; k < u->members[m].rows * u->cols; k++)
				zeros += w[at * u->cols + k] == 0;
			assert_true(fabs((double)zeros - (i < 2 ? 0.5 : 0.3) * all) <= (double)u->members[m].rows + 1);
		}
		bl_free(w);
		bl_solved_free(s);
	}
}

/* Looking at inputs is better than not, and making up for what is removed is better still. */
static void each_idea_pays(void **state)
{
	static const char *const kinds[] = { "sparsity=0.5", "mask_structure=2:4", "mask_structure=4:8" };
	static const struct { const char *method, *more; } ways[] = { { "wanda", ",score=magnitude" }, { "wanda", "" }, { "wanda", ",update=hessian" }, { "sparsegpt", "" } };

	for (size_t i = 0; i < 2; i++)
		for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
			double rel[4];

			for (size_t j = 0; j < 4; j++) {
				char params[96];
				struct bl_solved *s;

				snprintf(params, sizeof params, "%s%s", kinds[k], ways[j].more);
				s = prune(*state, 1, schemes[i], ways[j].method, params);
				assert_string_equal(s->report, "");
				rel[j] = s->rel;
				bl_solved_free(s);
			}
			assert_true(rel[1] < rel[0] && rel[2] < rel[1] && rel[3] < rel[1]);
			assert_true(rel[3] < 1.05 * rel[2]);
		}
}

/* Wanda by hand: |w| sqrt(h) of a row, the smallest half goes, what is left is as it was. */
static void wanda_by_hand(void **state)
{
	struct fixture *f = *state;
	struct bl_solved *s = prune(f, 1, "BF16_SPARSE", "wanda", "sparsity=0.25");
	float *w = weights_of(s, "BF16_SPARSE");
	const uint16_t *was = (const uint16_t *)f->m->units[1].members[0].weight->data;

	for (int64_t row = 0; row < s->rows; row += 17) {
		float score[256];

		for (int k = 0; k < 256; k++) {
			const uint32_t u = (uint32_t)was[row * 256 + k] << 16;
			float v;

			memcpy(&v, &u, 4);
			score[k] = fabsf(v) * sqrtf(f->h[k * 256 + k]);
		}
		for (int k = 0; k < 256; k++) {
			int below = 0;

			for (int j = 0; j < 256; j++)
				below += score[j] < score[k];
			if (below < 64 - 2)
				assert_true(w[row * 256 + k] == 0);
			if (below >= 64)
				assert_int_equal(((const uint16_t *)(const void *)s->codes)[row * 256 + k], was[row * 256 + k]);
		}
	}
	bl_free(w);
	bl_solved_free(s);
}

static void threads_and_the_store(void **state)
{
	static const struct { const char *scheme, *method, *params; } all[] = { { "BF16_SPARSE", "sparsegpt", "" }, { "W4A16", "sparsegpt", "mask_structure=2:4" },
										{ "BF16_SPARSE", "wanda", "" } };
	struct fixture *f = *state;
	struct bl_pool *one = bl_pool_new(1), *two = f->pool;

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		struct bl_solve_request rq = request(f, 0, all[i].scheme, all[i].params);
		struct bl_solved *a = prune(f, 0, all[i].scheme, all[i].method, all[i].params), *b, *back = NULL;
		struct bl_err err = BL_ERR_INIT;
		char key[65];

		f->e.pool = one;
		b = prune(f, 0, all[i].scheme, all[i].method, all[i].params);
		f->e.pool = two;
		assert_memory_equal(a->codes, b->codes, (size_t)(a->rows * a->cols * a->code_bytes));
		rq.method = all[i].method;
		bl_solved_key(key, &rq, "calibration", "cpu");
		assert_int_equal(bl_solved_save(a, f->dir, key, &err), BL_OK);
		assert_int_equal(bl_solved_load(&back, &rq, f->dir, key, false, &err), BL_OK);
		assert_memory_equal(a->codes, back->codes, (size_t)(a->rows * a->cols * a->code_bytes));
		assert_memory_equal(a->scales, back->scales, (size_t)(a->rows * a->spr) * sizeof(float));
		bl_solved_free(a);
		bl_solved_free(b);
		bl_solved_free(back);
	}
	bl_pool_free(one);
}

/* What cannot be is said: rounding in full precision, no factor. */
static void what_is_told(void **state)
{
	struct fixture *f = *state;
	struct bl_solve_request rq = request(f, 0, "BF16_SPARSE", "");
	struct bl_err err = BL_ERR_INIT;
	struct bl_solved *s = NULL;
	float *h = bl_xalloc(256 * 256, sizeof *h);

	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_UNSUPPORTED); /* gptq has nothing to do there */
	bl_err_clear(&err);
	for (int i = 0; i < 256; i++)
		h[i * 256 + i] = 1;
	h[1 * 256 + 0] = 1e9f;
	rq = request(f, 0, "BF16_SPARSE", "mask_structure=2:4");
	rq.method = "sparsegpt";
	rq.h = h;
	assert_int_equal(bl_solve_unit(&s, &f->e, &rq, &err), BL_OK);
	assert_non_null(strstr(s->report, "pruned by size"));
	bl_solved_free(s);
	bl_free(h);
}

static void what_parameters_promise(void **state)
{
	struct fixture *f = *state;
	struct bl_sparsity s = { 0 };

	assert_true(bl_method_sparsity(&f->r, "sparsegpt", "", &s) && s.ratio == 0.5 && s.m == 0);
	assert_true(bl_method_sparsity(&f->r, "wanda", "mask_structure=4:8", &s) && s.ratio == 0.5 && s.n == 4 && s.m == 8);
	assert_true(bl_method_sparsity(&f->r, "wanda", "mask_structure=0:0,sparsity=0.7", &s) && s.ratio == 0.7 && s.m == 0);
	assert_false(bl_method_sparsity(&f->r, "sparsegpt", "sparsity=0", &s));
	assert_false(bl_method_sparsity(&f->r, "gptq", "", &s));
	assert_false(bl_method_sparsity(&f->r, "rtn", "", &s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_to_remove_is_gptq), cmocka_unit_test(patterns_are_exact), cmocka_unit_test(shares_are_kept), cmocka_unit_test(each_idea_pays),
		cmocka_unit_test(wanda_by_hand), cmocka_unit_test(threads_and_the_store), cmocka_unit_test(what_is_told), cmocka_unit_test(what_parameters_promise),
	};

	return cmocka_run_group_tests(tests, solve_set_up, solve_tear_down);
}
