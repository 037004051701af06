/* SPDX-License-Identifier: Apache-2.0
 * Rounding against second moments, on a synthetic layer: the textbook update with an inverse in double is the reference, and each step may only lower the loss. */
#include "kernels/solve/solve.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/common/check.h"
#include "kernels/solve/solve_grid.h"

enum { N = 70, K = 256, T = 900 };

struct layer {
	float w[N * K], h[K * K], hd[K * K], r[K * K], d[N * K], scales[N * K], weight[K];
	int8_t codes[N * K], zeros[N * K];
	int32_t order[K], group_of[K];
};

static struct layer *L;
static struct bk_check rng = { .state = 42 };
static const struct bk_solve cpu;
static const struct bk_solve_ops *ops;

static struct bk_mat mat(void *p, int64_t rows, int64_t cols, int dtype) { return (struct bk_mat){ p, rows, cols, cols, dtype }; }
#define M_W mat(L->w, N, K, BK_F32)
#define M_H mat(L->h, K, K, BK_F32)
#define M_HD mat(L->hd, K, K, BK_F32)
#define M_R mat(L->r, K, K, BK_F32)
#define M_D mat(L->d, N, K, BK_F32)
#define M_C mat(L->codes, N, K, BK_I8)

static int set_up(void **state)
{
	float *x = malloc(sizeof(float) * T * K), *mix = malloc(sizeof(float) * K * 32);

	(void)state;
	ops = bk_solve_cpu();
	L = calloc(1, sizeof *L);
	assert_non_null(L);
	for (int i = 0; i < K * 32; i++)
		mix[i] = (float)(bk_check_gauss(&rng) / 5.6);
	for (int t = 0; t < T; t++) {
		double z[32];

		for (int i = 0; i < 32; i++)
			z[i] = bk_check_gauss(&rng);
		for (int k = 0; k < K; k++) {
			double v = 0.5 * bk_check_gauss(&rng);

			for (int i = 0; i < 32; i++)
				v += mix[k * 32 + i] * z[i];
			x[t * K + k] = bk_round_bf16((float)(v * (k % 50 == 7 ? 20 : 1)));
		}
	}
	for (int i = 0; i < K; i++)
		for (int j = 0; j <= i; j++) {
			double s = 0;

			for (int t = 0; t < T; t++)
				s += (double)x[t * K + i] * x[t * K + j];
			L->h[i * K + j] = (float)s;
		}
	for (int i = 0; i < N * K; i++)
		L->w[i] = bk_round_bf16((float)(0.02 * bk_check_gauss(&rng) * (bk_check_unit(&rng) < .002 ? 6 : 1)));
	free(x);
	free(mix);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(L);
	return 0;
}

static double mean_diagonal(void)
{
	double m = 0;

	for (int k = 0; k < K; k++)
		m += L->h[k * K + k];
	return m / K;
}

static int by_energy(const void *a, const void *b)
{
	const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
	const float x = L->h[i * K + i], y = L->h[j * K + j];

	return x > y ? -1 : x < y ? 1 : i - j;
}

static void prepare(const struct bk_grid *g, bool ordered, double damping, bool search)
{
	struct bk_search how = { .least = search ? 0.3 : 0.999999, .steps = search ? 70 : 1 };
	struct bk_mat w = M_W, h = M_H, hd = M_HD, r = M_R;
	const int64_t width = g->group ? g->group : K;
	int failed = -1;

	for (int k = 0; k < K; k++) {
		L->order[k] = k;
		L->weight[k] = search ? L->h[k * K + k] : 1;
	}
	if (ordered)
		qsort(L->order, K, sizeof *L->order, by_energy);
	for (int k = 0; k < K; k++)
		L->group_of[k] = (int32_t)(L->order[k] / width);
	assert_int_equal(ops->scale_search(&cpu, L->scales, g->symmetric ? NULL : L->zeros, &w, L->weight, g, &how), 0);
	assert_int_equal(ops->permute_sym(&cpu, &r, &h, L->order, damping * mean_diagonal(), 1), 0);
	assert_int_equal(ops->factor(&cpu, &r, &failed), 0);
	assert_int_equal(failed, 0);
	assert_int_equal(ops->permute_sym(&cpu, &hd, &h, NULL, damping * mean_diagonal(), 1), 0);
}

/* codes and d of all rows, in the original order */
static void do_round(const struct bk_grid *g)
{
	static float wp[N * K], dp[N * K];
	static int8_t cp[N * K];
	struct bk_mat w = M_W, mwp = mat(wp, N, K, BK_F32), mdp = mat(dp, N, K, BK_F32), mcp = mat(cp, N, K, BK_I8), r = M_R, d = M_D, c = M_C;

	assert_int_equal(ops->permute_cols(&cpu, &mwp, &w, L->order, 0), 0);
	assert_int_equal(ops->round(&cpu, &mcp, &mdp, &mwp, &r, L->scales, g->symmetric ? NULL : L->zeros, L->group_of, g, NULL, NULL), 0);
	assert_int_equal(ops->permute_cols(&cpu, &d, &mdp, L->order, 1), 0);
	assert_int_equal(ops->permute_cols(&cpu, &c, &mcp, L->order, 1), 0);
}

static double total_loss(void)
{
	double loss[N], sum = 0;
	struct bk_mat d = M_D, hd = M_HD;

	assert_int_equal(ops->loss(&cpu, loss, &d, &hd), 0);
	for (int i = 0; i < N; i++)
		sum += loss[i];
	return sum;
}

static void round_plainly(const struct bk_grid *g)
{
	const int64_t width = g->group ? g->group : K, spr = K / width;

	for (int i = 0; i < N; i++)
		for (int k = 0; k < K; k++) {
			const float s = L->scales[i * spr + k / width], z = g->symmetric ? 0 : (float)L->zeros[i * spr + k / width];
			const struct bk_code q = bk_grid_round(L->w[i * K + k], s, z, g->number, bk_grid_lo(g), bk_grid_hi(g));

			L->codes[i * K + k] = (int8_t)q.code;
			L->d[i * K + k] = L->w[i * K + k] - q.value;
		}
}

/* The update of the paper: U upper with inverse(H) = UᵀU, columns in turn, in double. Returns how many codes differ from L->codes. */
static int against_inverse(const struct bk_grid *g)
{
	static double a[K][K], inv[K][K], u[K][K], w[N][K];
	const int64_t width = g->group ? g->group : K, spr = K / width;
	int differ = 0;

	for (int i = 0; i < K; i++)
		for (int j = 0; j < K; j++) {
			a[i][j] = L->hd[L->order[i] * K + L->order[j]];
			inv[i][j] = i == j;
		}
	for (int p = 0; p < K; p++) { /* Gauss-Jordan: positive definite, no pivoting needed */
		const double f = 1 / a[p][p];

		for (int j = 0; j < K; j++) {
			a[p][j] *= f;
			inv[p][j] *= f;
		}
		for (int i = 0; i < K; i++) {
			const double m = a[i][p];

			for (int j = 0; j < K && i != p; j++) {
				a[i][j] -= m * a[p][j];
				inv[i][j] -= m * inv[p][j];
			}
		}
	}
	for (int i = 0; i < K; i++) /* inv = UᵀU: Cholesky, transposed */
		for (int j = i; j < K; j++) {
			double s = inv[i][j];

			for (int k = 0; k < i; k++)
				s -= u[k][i] * u[k][j];
			u[i][j] = j == i ? sqrt(s) : s / u[i][i];
		}
	for (int n = 0; n < N; n++)
		for (int k = 0; k < K; k++)
			w[n][k] = L->w[n * K + L->order[k]];
	for (int n = 0; n < N; n++)
		for (int k = 0; k < K; k++) {
			const int col = L->order[k];
			const float s = L->scales[n * spr + col / width], z = g->symmetric ? 0 : (float)L->zeros[n * spr + col / width];
			const struct bk_code q = bk_grid_round((float)w[n][k], s, z, g->number, bk_grid_lo(g), bk_grid_hi(g));
			const double e = (w[n][k] - q.value) / u[k][k];

			differ += (int8_t)q.code != L->codes[n * K + col];
			for (int j = k + 1; j < K; j++)
				w[n][j] -= e * u[k][j];
		}
	return differ;
}

static const struct bk_grid grids[] = {
	{ BK_INT, 4, 1, 128, BK_SCALE_BF16, 0 }, { BK_INT, 4, 1, 0, BK_SCALE_BF16, 0 }, { BK_INT, 3, 1, 64, BK_SCALE_BF16, 0 }, { BK_INT, 4, 0, 32, BK_SCALE_BF16, 0 },
	{ BK_INT, 8, 1, 0, BK_SCALE_BF16, 0 }, { BK_E4M3, 8, 1, 0, BK_SCALE_BF16, 0 }, { BK_E2M1, 4, 1, 32, BK_SCALE_POW2, 0 }, { BK_E2M1, 4, 1, 16, BK_SCALE_E4M3, 20000 },
};
#define N_GRIDS (sizeof grids / sizeof grids[0])

static void the_same_as_with_an_inverse(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * N_GRIDS; i++) {
		prepare(&grids[i / 2], i % 2, 0.01, i % 3 == 0);
		do_round(&grids[i / 2]);
		/* float32 against double: a value next to a tie may fall on the other side, and takes what follows in its row with it */
		assert_in_range(against_inverse(&grids[i / 2]), 0, N * K / 100);
	}
}

static void the_loss_is_the_length_of_d_times_r(void **state)
{
	double sum = 0, loss;

	(void)state;
	prepare(&grids[0], true, 0.01, false);
	do_round(&grids[0]);
	loss = total_loss();
	for (int n = 0; n < N; n++)
		for (int k = 0; k < K; k++) {
			double s = 0;

			for (int j = 0; j <= k; j++)
				s += (double)L->d[n * K + L->order[j]] * L->r[j * K + k];
			sum += s * s;
		}
	assert_true(fabs(sum - loss) < 1e-5 * loss);
}

static void each_step_lowers_the_loss(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_GRIDS; i++) {
		const struct bk_grid *g = &grids[i];
		struct bk_mat w = M_W, hd = M_HD, d = M_D, c = M_C;
		double plain, with_order, refitted, before;

		prepare(g, true, 0.01, false);
		round_plainly(g);
		plain = total_loss();
		do_round(g);
		with_order = total_loss();
		assert_true(with_order < 0.8 * plain);
		before = with_order;
		for (int pass = 0; pass < 2; pass++) {
			assert_int_equal(ops->refit(&cpu, L->scales, &d, &c, &w, &hd, g->symmetric ? NULL : L->zeros, g), 0);
			refitted = total_loss();
			assert_true(refitted <= before * (1 + 1e-6));
			assert_int_equal(ops->descend(&cpu, &c, &d, &hd, L->scales, g->symmetric ? NULL : L->zeros, g, 2), 0);
			before = total_loss();
			assert_true(before <= refitted * (1 + 1e-6));
		}
		assert_true(before < with_order);
		for (int k = 0; k < N * K; k++) { /* d is what codes and scales say */
			const int64_t width = g->group ? g->group : K, spr = K / width, at = k / K * spr + k % K / width;
			const float v = bk_grid_value(L->codes[k], L->scales[at], g->symmetric ? 0 : (float)L->zeros[at], g->number);

			assert_true(fabsf(L->w[k] - v - L->d[k]) < 1e-6f);
			assert_true(L->scales[at] == bk_scale_near(L->scales[at], g));
		}
	}
}

/* Scales of 4-bit floats against what each is by definition; what is next to one is itself. */
static void scales_of_small_floats(void **state)
{
	const struct bk_grid mx = { BK_E2M1, 4, 1, 32, BK_SCALE_POW2, 0 }, nv = { BK_E2M1, 4, 1, 16, BK_SCALE_E4M3, 448 };
	static const float value[16] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -.5f, -1, -1.5f, -2, -3, -4, -6 };

	(void)state;
	assert_true(bk_scale_of(6, &mx) == 1 && bk_scale_of(7, &mx) == 2 && bk_scale_of(1, &mx) == 0.25f && bk_scale_of(0, &mx) == 0x1p-127f);
	assert_true(bk_scale_of(6, &nv) == 1 && bk_scale_of(0, &nv) == 0.125f / 448 && bk_scale_of(3, &nv) == 0.5f);
	assert_true(bk_scale_near(0.9f, &mx) == 1 && bk_scale_near(1.4f, &mx) == 1 && bk_scale_near(1.6f, &mx) == 2 && bk_scale_near(-1, &mx) == 0);
	for (int c = 0; c < 16; c++) {
		assert_true(bk_grid_value(c, 2, 0, BK_E2M1) == 2 * value[c]);
		assert_int_equal(bk_grid_round(2 * value[c], 2, 0, BK_E2M1, -8, 7).code, c == 8 ? 0 : c);
	}
	static const struct { float x; int code; } ties[] = { { .25f, 0 }, { .75f, 2 }, { 1.25f, 2 }, { 1.75f, 4 }, { 2.5f, 4 }, { 3.5f, 6 }, { 5, 6 }, { 5.1f, 7 }, { 99, 7 }, { -3.5f, 14 } };

	for (size_t i = 0; i < sizeof ties / sizeof ties[0]; i++)
		assert_int_equal(bk_grid_round(ties[i].x, 1, 0, BK_E2M1, -8, 7).code, ties[i].code);
}

/* The search's own arithmetic for 4-bit floats is that of the grid: the scale it takes is the first of the least, by plain sums in its order. */
static void the_search_rounds_as_the_grid(void **state)
{
	const struct bk_grid *g = &grids[7];
	static float scales[N * K / 16], top[N * K / 16];
	const struct bk_search how = { .least = 0.3, .steps = 70, .full_range = 1 };
	struct bk_mat w = M_W;

	(void)state;
	for (int k = 0; k < K; k++)
		L->weight[k] = (float)(1 + k % 7);
	assert_int_equal(ops->scale_search(&cpu, scales, NULL, &w, L->weight, g, &how), 0);
	assert_int_equal(ops->absmax(&cpu, top, &w, 16), 0);
	for (int i = 0; i < N * K / 16; i++) {
		const float *x = L->w + i * 16, *weight = L->weight + i * 16 % K;
		float best = 3e38f, want = 0;

		for (int c = 0; c < 2 * 71; c++) {
			const float p = (float)(1 - (1 - how.least) * (c / 2) / 70), s = bk_scale_of(c % 2 ? 1.5f * (top[i] * p) : top[i] * p, g);
			float sum[8] = { 0 }, all;

			for (int k = 0; k < 16; k++) {
				const float e = x[k] - bk_grid_round(x[k], s, 0, BK_E2M1, -8, 7).value;

				sum[k & 7] += weight[k] * (e * e);
			}
			all = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
			if (all < best) {
				best = all;
				want = s;
			}
		}
		assert_true(scales[i] == want);
	}
}

static void weighted_scales_are_better_where_it_counts(void **state)
{
	double plain, weighted;

	(void)state;
	prepare(&grids[0], true, 0.01, false);
	do_round(&grids[0]);
	plain = total_loss();
	prepare(&grids[0], true, 0.01, true);
	do_round(&grids[0]);
	weighted = total_loss();
	assert_true(weighted < 0.7 * plain);
}

static void what_is_not_positive_definite_is_told(void **state)
{
	struct bk_mat r = M_R, h = M_H;
	int failed = -1;
	const float kept = L->h[5 * K + 5];

	(void)state;
	L->h[5 * K + 5] = NAN;
	assert_int_equal(ops->permute_sym(&cpu, &r, &h, NULL, 1, 1), 0);
	assert_int_equal(ops->factor(&cpu, &r, &failed), 0);
	assert_int_equal(failed, 1);
	L->h[5 * K + 5] = -1;
	assert_int_equal(ops->permute_sym(&cpu, &r, &h, NULL, 0.1, 1), 0);
	assert_int_equal(ops->factor(&cpu, &r, &failed), 0);
	assert_int_equal(failed, 1);
	L->h[5 * K + 5] = kept;
	memset(L->hd, 0, sizeof L->hd); /* rank 0, saved by damping alone */
	struct bk_mat zero = M_HD;
	assert_int_equal(ops->permute_sym(&cpu, &r, &zero, NULL, 0, 0), 0);
	assert_int_equal(ops->factor(&cpu, &r, &failed), 0);
	assert_int_equal(failed, 1);
	assert_int_equal(ops->permute_sym(&cpu, &r, &zero, NULL, 0.01, 1), 0);
	assert_int_equal(ops->factor(&cpu, &r, &failed), 0);
	assert_int_equal(failed, 0);
}

static void groups_of_zeros_stay_zero(void **state)
{
	float kept[128];

	(void)state;
	memcpy(kept, L->w, sizeof kept);
	memset(L->w, 0, sizeof kept);
	prepare(&grids[0], false, 0.01, true);
	round_plainly(&grids[0]);
	for (int k = 0; k < 128; k++)
		assert_int_equal(L->codes[k], 0);
	assert_true(L->scales[0] == 0x1p-7f);
	memcpy(L->w, kept, sizeof kept);
}

/* SparseGPT as it is written, with the inverse and in double: the score of a weight is its square over the inverse's, what was removed before is made up for. */
static double textbook(double ratio, int n, int m, int8_t *mask)
{
	static double r[K][K], u[K][K], w[N][K], score[N][BK_SOLVE_BLOCK];
	double loss = 0;

	for (int i = 0; i < K; i++)
		for (int j = 0; j < K; j++)
			r[i][j] = L->r[i * K + j];
	for (int j = K - 1; j >= 0; j--) { /* u = r^-1, upper */
		u[j][j] = 1 / r[j][j];
		for (int i = j - 1; i >= 0; i--) {
			double s = 0;

			for (int k = i + 1; k <= j; k++)
				s += r[i][k] * u[k][j];
			u[i][j] = -s / r[i][i];
		}
	}
	for (int i = 0; i < N; i++)
		for (int k = 0; k < K; k++)
			w[i][k] = L->w[i * K + k];
	for (int c0 = 0; c0 < K; c0 += BK_SOLVE_BLOCK) {
		const int count = (int)(ratio * N * BK_SOLVE_BLOCK);

		for (int i = 0; i < N && !m; i++)
			for (int j = 0; j < BK_SOLVE_BLOCK; j++)
				score[i][j] = w[i][c0 + j] * w[i][c0 + j] / (u[c0 + j][c0 + j] * u[c0 + j][c0 + j]);
		for (int i = 0; i < N && !m; i++)
			for (int j = 0; j < BK_SOLVE_BLOCK; j++) {
				int before = 0;

				for (int a = 0; a < N; a++)
					for (int b = 0; b < BK_SOLVE_BLOCK; b++)
						before += score[a][b] < score[i][j];
				mask[i * K + c0 + j] = before < count;
			}
		for (int i = 0; i < N; i++)
			for (int k = c0; k < c0 + BK_SOLVE_BLOCK; k++) {
				for (int p = 0; m && k % m == 0 && p < m; p++) {
					int before = 0;

					for (int q = 0; q < m; q++)
						before += fabs(w[i][k + q] / u[k + q][k + q]) < fabs(w[i][k + p] / u[k + p][k + p]);
					mask[i * K + k + p] = before < n;
				}
				const double e = mask[i * K + k] ? w[i][k] / u[k][k] : 0;

				loss += e * e;
				for (int j = k + 1; j < K && e != 0; j++)
					w[i][j] -= e * u[k][j];
			}
	}
	return loss;
}

static void pruning_as_it_is_written(void **state)
{
	static const struct bk_prune hows[] = { { 0.5, 0, 0 }, { 0.2, 0, 0 }, { 0, 2, 4 }, { 0, 4, 8 } };
	static int8_t mask[N * K], want[N * K];
	struct bk_mat mm = mat(mask, N, K, BK_I8), d = M_D, w = M_W, r = M_R;

	(void)state;
	prepare(&grids[0], false, 0.01, false);
	for (size_t i = 0; i < sizeof hows / sizeof hows[0]; i++) {
		const double loss = textbook(hows[i].ratio, hows[i].n, hows[i].m, want);
		int differ = 0, zeros = 0;

		assert_int_equal(ops->prune(&cpu, &mm, &d, &w, &r, &hows[i]), 0);
		for (int k = 0; k < N * K; k++) {
			differ += mask[k] != want[k];
			zeros += mask[k];
			assert_true(!mask[k] || L->d[k] == L->w[k]);
		}
		assert_in_range(differ, 0, N * K / 500); /* float32 against double: neighbours may change places */
		assert_int_equal(zeros, hows[i].m ? N * K / 2 : 2 * (int)(hows[i].ratio * N * BK_SOLVE_BLOCK));
		assert_true(fabs(total_loss() - loss) < 0.005 * loss); /* the loss is that of what is left */
	}
	const struct bk_prune nothing = { 0, 0, 0 }, odd = { 0, 2, 3 };

	assert_int_equal(ops->prune(&cpu, &mm, &d, &w, &r, &nothing), 0);
	for (int k = 0; k < N * K; k++)
		assert_true(!mask[k] && L->d[k] == 0);
	assert_int_equal(ops->prune(&cpu, &mm, &d, &w, &r, &odd), BK_RUN_REFUSED);
}

/* Small enough to see: |w| times weight, the lower column of equals. */
static void selecting_by_hand(void **state)
{
	static float w[2 * 8] = { 1, -2, 3, -4, 5, -6, 7, -8, 1, 1, 1, 1, 0, 0, 2, 2 }, weight[8] = { 8, 1, 1, 1, 1, 1, 1, 0.1f };
	static const int8_t half[2 * 8] = { 0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0 }, two_of_four[2 * 8] = { 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0 };
	int8_t mask[16];
	const struct bk_mat mw = mat(w, 2, 8, BK_F32), mm = mat(mask, 2, 8, BK_I8);
	const struct bk_prune a = { 0.5, 0, 0 }, b = { 0, 2, 4 };

	(void)state;
	w[15] = 20; /* times 0.1 */
	assert_int_equal(ops->select(&cpu, &mm, &mw, weight, &a), 0);
	assert_memory_equal(mask, half, sizeof half);
	assert_int_equal(ops->select(&cpu, &mm, &mw, weight, &b), 0);
	assert_memory_equal(mask, two_of_four, sizeof two_of_four);
}

/* No mask is no mask; what is masked stands for 0 on every grid, with zero points too, and what is left makes up for it. */
static void rounding_with_zeros(void **state)
{
	static float e[N * K], e2[N * K];
	static int8_t codes[N * K], codes2[N * K], mask[N * K];
	static uint16_t full[N * K];
	const struct bk_mat w = M_W, r = M_R, me = mat(e, N, K, BK_F32), me2 = mat(e2, N, K, BK_F32), mc = mat(codes, N, K, BK_I8), mc2 = mat(codes2, N, K, BK_I8),
			    mm = mat(mask, N, K, BK_I8), mf = mat(full, N, K, BK_BF16);
	const struct bk_grid as_it_is = { .number = BK_FULL, .bits = 16, .symmetric = 1 };
	const struct bk_prune half = { 0.5, 0, 0 };

	(void)state;
	for (size_t i = 0; i < N_GRIDS; i++) {
		const struct bk_grid *g = &grids[i];
		const int64_t width = g->group ? g->group : K;
		const int8_t *zeros = g->symmetric ? NULL : L->zeros;

		prepare(g, false, 0.01, false);
		memset(mask, 0, sizeof mask);
		assert_int_equal(ops->round(&cpu, &mc, &me, &w, &r, L->scales, zeros, L->group_of, g, NULL, NULL), 0);
		assert_int_equal(ops->round(&cpu, &mc2, &me2, &w, &r, L->scales, zeros, L->group_of, g, NULL, &mm), 0); /* nowhere */
		assert_memory_equal(codes, codes2, sizeof codes);
		assert_int_equal(ops->select(&cpu, &mm, &w, L->weight, &half), 0);
		assert_int_equal(ops->round(&cpu, &mc2, &me2, &w, &r, L->scales, zeros, L->group_of, g, NULL, &mm), 0);
		for (int k = 0; k < N * K; k++) {
			const int64_t at = k / K * (K / width) + k % K / width;

			if (mask[k])
				assert_true(bk_grid_value(codes2[k], L->scales[at], zeros ? (float)zeros[at] : 0, g->number) == 0 && e2[k] == L->w[k]);
		}
	}
	assert_int_equal(ops->round(&cpu, &mf, &me, &w, &r, NULL, NULL, L->group_of, &as_it_is, NULL, &mm), 0);
	for (int k = 0; k < N * K; k++)
		assert_true(mask[k] ? full[k] == 0 : fabsf(L->w[k] - bk_bf16_f32(full[k]) - e[k]) <= 1e-6f);
	assert_int_equal(ops->round(&cpu, &mc, &me, &w, &r, NULL, NULL, L->group_of, &as_it_is, NULL, &mm), BK_RUN_REFUSED); /* codes of another size */
}

/* With other inputs y than the base's x, the best weights without rounding are W* = W + W C H^-1, C = sum (x - y) y^T: the error of any Q on them is that of W*,
 * up to what no Q can change. */
static void the_exact_target(void **state)
{
	enum { ROWS = 8, COLS = 24, TOKENS = 200 };
	static float x[TOKENS * COLS], y[TOKENS * COLS], w[ROWS * COLS], star[ROWS * COLS], h[COLS * COLS], g[COLS * COLS], r[COLS * COLS], q[ROWS * COLS];
	const struct bk_mat mr = mat(r, COLS, COLS, BK_F32), mh = mat(h, COLS, COLS, BK_F32), ms = mat(star, ROWS, COLS, BK_F32), mw = mat(w, ROWS, COLS, BK_F32);
	double constant = 0;
	int failed = -1;

	(void)state;
	for (int i = 0; i < TOKENS * COLS; i++) {
		x[i] = (float)bk_check_gauss(&rng);
		y[i] = x[i] * 0.9f + 0.2f * (float)bk_check_gauss(&rng);
	}
	for (int i = 0; i < ROWS * COLS; i++)
		w[i] = (float)bk_check_gauss(&rng);
	for (int i = 0; i < COLS; i++)
		for (int j = 0; j < COLS; j++)
			for (int t = 0; t < TOKENS; t++) {
				h[i * COLS + j] += y[t * COLS + i] * y[t * COLS + j];
				g[i * COLS + j] += x[t * COLS + i] * y[t * COLS + j];
			}
	for (int n = 0; n < ROWS; n++)
		for (int j = 0; j < COLS; j++)
			for (int i = 0; i < COLS; i++)
				star[n * COLS + j] += w[n * COLS + i] * (g[i * COLS + j] - h[i * COLS + j]);
	assert_int_equal(ops->permute_sym(&cpu, &mr, &mh, NULL, 0, 1), 0);
	assert_int_equal(ops->factor(&cpu, &mr, &failed), 0);
	assert_int_equal(failed, 0);
	assert_int_equal(ops->solve_rows(&cpu, &ms, &mr), 0);
	assert_int_equal(ops->add_scaled(&cpu, &ms, &mw, 1), 0);
	for (int which = 0; which < 4; which++) { /* Q: W* itself, then others */
		double output = 0, quadratic = 0;

		for (int i = 0; i < ROWS * COLS; i++)
			q[i] = which == 0 ? star[i] : which == 1 ? w[i] : rintf(w[i] * (float)which) / (float)which;
		for (int n = 0; n < ROWS; n++) {
			for (int t = 0; t < TOKENS; t++) {
				double e = 0;

				for (int k = 0; k < COLS; k++)
					e += (double)q[n * COLS + k] * y[t * COLS + k] - (double)w[n * COLS + k] * x[t * COLS + k];
				output += e * e;
			}
			for (int i = 0; i < COLS; i++)
				for (int j = 0; j < COLS; j++)
					quadratic += ((double)q[n * COLS + i] - star[n * COLS + i]) * h[i * COLS + j] * ((double)q[n * COLS + j] - star[n * COLS + j]);
		}
		if (which == 0)
			constant = output;
		assert_true(fabs(output - quadratic - constant) < 1e-4 * output);
	}
}

/* The block of columns between two products changes nothing but the last bits; d may take w's place and changes nothing at all. */
static void in_place_and_not(void **state)
{
	static float wp[N * K], dp[N * K];
	static int8_t cp[N * K], cq[N * K];
	const struct bk_mat w = M_W, mwp = mat(wp, N, K, BK_F32), mdp = mat(dp, N, K, BK_F32), mcp = mat(cp, N, K, BK_I8), mcq = mat(cq, N, K, BK_I8), r = M_R;

	(void)state;
	prepare(&grids[0], true, 0.01, true);
	assert_int_equal(ops->permute_cols(&cpu, &mwp, &w, L->order, 0), 0);
	assert_int_equal(ops->round(&cpu, &mcp, &mdp, &mwp, &r, L->scales, NULL, L->group_of, &grids[0], NULL, NULL), 0);
	assert_int_equal(ops->round(&cpu, &mcq, &mwp, &mwp, &r, L->scales, NULL, L->group_of, &grids[0], NULL, NULL), 0);
	assert_memory_equal(cp, cq, sizeof cp);
	assert_memory_equal(dp, wp, sizeof dp);
}

/* The check that other back ends are held against accepts the CPU's own table, and notices a table that rounds plainly. */
static int plain_round(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		       const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f, const struct bk_mat *mask)
{
	float *one = calloc((size_t)(w->cols * w->cols), sizeof *one);
	struct bk_mat unit = { one, w->cols, w->cols, w->cols, BK_F32 };
	int error;

	(void)r;
	for (int64_t i = 0; one && i < w->cols; i++)
		one[i * w->cols + i] = 1;
	error = one ? bk_solve_cpu()->round(s, codes, d, w, &unit, scales, zeros, group_of, g, f, mask) : BK_RUN_NO_MEMORY;
	free(one);
	return error;
}

/* … one that forgets what else flows in, and one that keeps a whole matrix where only a triangle is wanted. */
static int unfed_round(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		       const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f, const struct bk_mat *mask)
{
	static float zero[512 * 512];
	const struct bk_mat none = { zero, w->cols, w->cols, w->cols, BK_F32 };
	struct bk_feed less = { NULL, NULL, NULL };

	if (f)
		less = (struct bk_feed){ f->s ? &none : NULL, f->v, f->first };
	return bk_solve_cpu()->round(s, codes, d, w, r, scales, zeros, group_of, g, &less, mask);
}

static int whole_feed(const struct bk_solve *s, const struct bk_mat *c, const struct bk_mat *r, float a)
{
	const int error = bk_solve_cpu()->feed(s, c, r, a);

	for (int64_t i = 0; i < c->rows; i++)
		((float *)c->p)[i * c->ld + i] = 1;
	return error;
}

static void the_check_checks(void **state)
{
	const struct bk_run_options o = { .threads = 1 };
	struct bk_solve s = { .ops = bk_run_cpu() };
	struct bk_solve_ops broken = *bk_solve_cpu();

	(void)state;
	assert_int_equal(s.ops->open(&s.run, &o), 0);
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct bk_check c = { .state = seed };

		if (bk_solve_check(&s, bk_solve_cpu(), &c))
			fail_msg("%s", c.why);
	}
	broken.round = plain_round;
	struct bk_check c = { .state = 4 };
	assert_int_equal(bk_solve_check(&s, &broken, &c), 1);
	broken = *bk_solve_cpu();
	broken.round = unfed_round;
	assert_int_equal(bk_solve_check(&s, &broken, &c), 1);
	broken = *bk_solve_cpu();
	broken.feed = whole_feed;
	assert_int_equal(bk_solve_check(&s, &broken, &c), 1);
	s.ops->close(s.run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_check_checks),
		cmocka_unit_test(the_same_as_with_an_inverse),
		cmocka_unit_test(the_loss_is_the_length_of_d_times_r),
		cmocka_unit_test(each_step_lowers_the_loss),
		cmocka_unit_test(scales_of_small_floats),
		cmocka_unit_test(the_search_rounds_as_the_grid),
		cmocka_unit_test(weighted_scales_are_better_where_it_counts),
		cmocka_unit_test(what_is_not_positive_definite_is_told),
		cmocka_unit_test(groups_of_zeros_stay_zero),
		cmocka_unit_test(pruning_as_it_is_written),
		cmocka_unit_test(selecting_by_hand),
		cmocka_unit_test(rounding_with_zeros),
		cmocka_unit_test(the_exact_target),
		cmocka_unit_test(in_place_and_not),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
