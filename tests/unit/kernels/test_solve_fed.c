/* SPDX-License-Identifier: Apache-2.0
 * Rounding with what inputs have lost: GPTAQ's update as it is published (an inverse, a matrix P, running weights), in double, gives the same codes; without a
 * loss of inputs nothing changes, to the last bit; the first column goes where it is told to. */
#include "kernels/solve/solve.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/common/check.h"
#include "kernels/solve/solve_grid.h"

enum { N = 70, K = 192, T = 600 }; /* more than one block of columns, more than one tile of rows */

struct layer {
	float w[N * K], wp[N * K], h[K * K], g[K * K], r[K * K], s[K * K], v[N * K], d[N * K], scales[N * K];
	int8_t codes[N * K], zeros[N * K];
	int32_t order[K], group_of[K];
};

static struct layer *L;
static const struct bk_solve cpu;
static const struct bk_solve_ops *ops;
static const struct bk_grid grids[] = { { BK_INT, 4, 1, 64, BK_SCALE_BF16, 0 }, { BK_INT, 3, 1, 0, BK_SCALE_BF16, 0 }, { BK_INT, 4, 0, 32, BK_SCALE_BF16, 0 } };

static struct bk_mat mat(void *p, int64_t rows, int64_t cols, int dtype) { return (struct bk_mat){ p, rows, cols, cols, dtype }; }
static int64_t width_of(const struct bk_grid *g) { return g->group ? g->group : K; }
static int8_t *zeros_of(const struct bk_grid *g) { return g->symmetric ? NULL : L->zeros; }

/* h: sum y y^T; g: sum x y^T, y what is left of x after noise and some shrinking */
static int set_up(void **state)
{
	struct bk_check rng = { .state = 11 };
	float *x = malloc(sizeof(float) * T * K), *y = malloc(sizeof(float) * T * K);

	(void)state;
	ops = bk_solve_cpu();
	L = calloc(1, sizeof *L);
	assert_true(L && x && y);
	for (int t = 0; t < T; t++) {
		const double common = bk_check_gauss(&rng);

		for (int k = 0; k < K; k++) {
			const double v = (common * (k % 4) + bk_check_gauss(&rng)) * (k % 50 == 7 ? 10 : 1);

			x[t * K + k] = (float)v;
			y[t * K + k] = (float)(0.9 * v + 0.2 * bk_check_gauss(&rng));
		}
	}
	for (int i = 0; i < K; i++)
		for (int j = 0; j < K; j++) {
			double h = 0, g = 0;

			for (int t = 0; t < T; t++) {
				h += (double)y[t * K + i] * y[t * K + j];
				g += (double)x[t * K + i] * y[t * K + j];
			}
			L->h[i * K + j] = (float)h;
			L->g[i * K + j] = (float)g;
		}
	for (int i = 0; i < N * K; i++)
		L->w[i] = bk_round_bf16((float)(0.02 * bk_check_gauss(&rng)));
	for (int k = 0; k < K; k++)
		L->order[k] = (k * 35 + 3) % K;
	free(x);
	free(y);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(L);
	return 0;
}

static double damping(void)
{
	double m = 0;

	for (int k = 0; k < K; k++)
		m += 0.01 * L->h[k * K + k] / K;
	return m;
}

static void prepare(const struct bk_grid *g)
{
	const struct bk_search how = { .least = 0.5, .steps = 20 };
	const struct bk_mat w = mat(L->w, N, K, BK_F32), wp = mat(L->wp, N, K, BK_F32), h = mat(L->h, K, K, BK_F32), r = mat(L->r, K, K, BK_F32);
	float one[K];
	int failed = 1;

	for (int k = 0; k < K; k++) {
		one[k] = 1;
		L->group_of[k] = (int32_t)(L->order[k] / width_of(g));
	}
	assert_int_equal(ops->scale_search(&cpu, L->scales, zeros_of(g), &w, one, g, &how), 0);
	assert_int_equal(ops->permute_sym(&cpu, &r, &h, L->order, damping(), 1), 0);
	assert_int_equal(ops->factor(&cpu, &r, &failed), 0);
	assert_int_equal(failed, 0);
	assert_int_equal(ops->permute_cols(&cpu, &wp, &w, L->order, 0), 0);
}

static void do_round_fed(const struct bk_grid *g, const float *moment, double alpha, const float *first)
{
	const struct bk_mat wp = mat(L->wp, N, K, BK_F32), h = mat(L->h, K, K, BK_F32), gg = mat((float *)(uintptr_t)moment, K, K, BK_F32), r = mat(L->r, K, K, BK_F32),
			    s = mat(L->s, K, K, BK_F32), v = mat(L->v, N, K, BK_F32), d = mat(L->d, N, K, BK_F32), codes = mat(L->codes, N, K, BK_I8);
	const struct bk_feed f = { &s, &v, first };

	assert_int_equal(ops->difference(&cpu, &s, &gg, &h, L->order), 0);
	assert_int_equal(ops->feed(&cpu, &s, &r, (float)alpha), 0);
	assert_int_equal(ops->round(&cpu, &codes, &d, &wp, &r, L->scales, zeros_of(g), L->group_of, g, &f, NULL), 0);
}

static double up[K][K], pm[K][K];

/* U = R^-1, upper; P = alpha triu(C U^T, 1) U */
static void make_p(double alpha)
{
	static double cu[K][K];

	memset(up, 0, sizeof up);
	for (int j = 0; j < K; j++) {
		up[j][j] = 1 / (double)L->r[j * K + j];
		for (int i = j - 1; i >= 0; i--) {
			double z = 0;

			for (int k = i + 1; k <= j; k++)
				z += (double)L->r[i * K + k] * up[k][j];
			up[i][j] = -z / L->r[i * K + i];
		}
	}
	for (int i = 0; i < K; i++)
		for (int j = 0; j < K; j++) {
			cu[i][j] = 0;
			for (int k = j; k < K && j > i; k++)
				cu[i][j] += ((double)L->g[L->order[i] * K + L->order[k]] - L->h[L->order[i] * K + L->order[k]]) * up[j][k];
		}
	for (int i = 0; i < K; i++)
		for (int j = 0; j < K; j++) {
			pm[i][j] = 0;
			for (int k = i + 1; k <= j; k++)
				pm[i][j] += alpha * cu[i][k] * up[k][j];
		}
}

/* Row n as published: E = (w - q) / U[k,k]; w[k+1..] -= E U[k,k+1..] - w_k P[k,k+1..]. Where a code is other than ours it must be a near tie; then ours goes on. */
static int against_the_paper(const struct bk_grid *g, int n)
{
	const int64_t spr = K / width_of(g);
	double w[K];
	int other = 0;

	for (int k = 0; k < K; k++)
		w[k] = L->wp[n * K + k];
	for (int k = 0; k < K; k++) {
		const int64_t at = n * spr + L->group_of[k];
		const float zero = g->symmetric ? 0 : (float)L->zeros[at];
		const struct bk_code q = bk_grid_round((float)w[k], L->scales[at], zero, g->number, bk_grid_lo(g), bk_grid_hi(g));
		const double mine = bk_grid_value(L->codes[n * K + k], L->scales[at], zero, g->number), e = (w[k] - mine) / up[k][k];

		if (q.code != L->codes[n * K + k]) {
			assert_true(fabs(fabs(w[k] - mine) - 0.5 * fabs(L->scales[at])) < 1e-3 * fabs(L->scales[at]));
			other++;
		}
		for (int j = k + 1; j < K; j++)
			w[j] -= e * up[k][j] - w[k] * pm[k][j];
	}
	return other;
}

static void the_same_as_published(void **state)
{
	static const double alphas[] = { 0.25, 1 };

	(void)state;
	for (size_t i = 0; i < sizeof grids / sizeof grids[0]; i++)
		for (int a = 0; a < 2; a++) {
			int other = 0;

			prepare(&grids[i]);
			do_round_fed(&grids[i], L->g, alphas[a], NULL);
			make_p(alphas[a]);
			for (int n = 0; n < N; n++)
				other += against_the_paper(&grids[i], n);
			assert_true(other < N * K / 200);
		}
}

/* No loss of inputs: the plain rounding's codes and remainders; with some: others. */
static void without_a_loss_nothing_changes(void **state)
{
	static int8_t codes[N * K];
	static float d[N * K];

	(void)state;
	for (size_t i = 0; i < sizeof grids / sizeof grids[0]; i++) {
		const struct bk_mat wp = mat(L->wp, N, K, BK_F32), r = mat(L->r, K, K, BK_F32), md = mat(d, N, K, BK_F32), mc = mat(codes, N, K, BK_I8);

		prepare(&grids[i]);
		assert_int_equal(ops->round(&cpu, &mc, &md, &wp, &r, L->scales, zeros_of(&grids[i]), L->group_of, &grids[i], NULL, NULL), 0);
		do_round_fed(&grids[i], L->h, 1, NULL);
		assert_memory_equal(codes, L->codes, sizeof codes);
		assert_memory_equal(d, L->d, sizeof d);
		do_round_fed(&grids[i], L->g, 1, NULL);
		assert_memory_not_equal(codes, L->codes, sizeof codes);
	}
}

static void the_first_column_is_told(void **state)
{
	const struct bk_grid *g = &grids[0];
	float first[N];

	(void)state;
	prepare(g);
	for (int n = 0; n < N; n++)
		first[n] = (float)(n % 15 - 7) * L->scales[n * (K / 64) + L->group_of[0]];
	do_round_fed(g, L->h, 1, first);
	for (int n = 0; n < N; n++)
		assert_int_equal(L->codes[n * K], n % 15 - 7);
}

static void what_does_not_fit_is_refused(void **state)
{
	const struct bk_mat k = mat(L->h, K, K, BK_F32), small = mat(L->s, K - 1, K, BK_F32), w = mat(L->wp, N, K, BK_F32), d = mat(L->d, N, K, BK_F32), c = mat(L->codes, N, K, BK_I8);
	const struct bk_feed half = { &k, NULL, NULL }, other = { &small, &w, NULL };

	(void)state;
	assert_int_equal(ops->difference(&cpu, &small, &k, &k, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->difference(&cpu, &k, &k, &k, L->order), BK_RUN_REFUSED);
	assert_int_equal(ops->feed(&cpu, &small, &k, 1), BK_RUN_REFUSED);
	assert_int_equal(ops->round(&cpu, &c, &d, &w, &k, L->scales, NULL, L->group_of, &grids[1], &half, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->round(&cpu, &c, &d, &w, &k, L->scales, NULL, L->group_of, &grids[1], &other, NULL), BK_RUN_REFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_as_published),
		cmocka_unit_test(without_a_loss_nothing_changes),
		cmocka_unit_test(the_first_column_is_told),
		cmocka_unit_test(what_does_not_fit_is_refused),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
