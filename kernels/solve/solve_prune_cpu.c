/* SPDX-License-Identifier: Apache-2.0
 * Which weights become 0, on the CPU. What is found over all rows (the threshold of a block of columns) is found between two passes over tiles of rows, so that
 * it does not depend on how many threads there are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/solve/solve_cpu.h"
#include "kernels/solve/solve_grid.h"

/* The bits of the k-th smallest (k >= 1) of n floats >= 0: their order is that of their bits. Strided: `rows` runs of n elements. */
static uint32_t kth_smallest(const float *v, int64_t rows, int64_t ld, int64_t n, uint64_t k)
{
	uint32_t found = 0;

	for (int shift = 24; shift >= 0; shift -= 8) {
		uint64_t count[256] = { 0 };
		int digit = 0;

		for (int64_t i = 0; i < rows; i++)
			for (int64_t j = 0; j < n; j++) {
				const uint32_t u = bk_f32_bits(v[i * ld + j]);

				if (shift == 24 || u >> (shift + 8) == found >> (shift + 8))
					count[u >> shift & 255]++;
			}
		while (k > count[digit])
			k -= count[digit++];
		found |= (uint32_t)digit << shift;
	}
	return found;
}

/* The n smallest of m scores; the lower index of equals. */
static void smallest(int8_t *mask, const float *score, int m, int n)
{
	for (int i = 0; i < m; i++) {
		int before = 0;

		for (int j = 0; j < m; j++)
			before += score[j] < score[i] || (score[j] == score[i] && j < i);
		mask[i] = before < n;
	}
}

static int usable(const struct bk_prune *how, int64_t cols)
{
	if (how->m)
		return (how->m == 2 || how->m == 4 || how->m == 8 || how->m == 16) && cols % how->m == 0 && how->n >= 0 && how->n <= how->m;
	return how->ratio >= 0 && how->ratio <= 1;
}

struct prune_args {
	const struct bk_mat *mask, *d, *w, *r;
	struct bk_prune how;
	const float *inv;
	float *t, *score; /* [N, BLOCK] of the block at hand */
	int64_t c0, n;
	uint32_t limit;   /* scores up to it go */
	int any;
};

/* What the columns before have left for the block, and what each weight of it would cost. */
static void score_tile(void *arg, size_t tile)
{
	const struct prune_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, rows = a->w->rows - row0 < TILE ? a->w->rows - row0 : TILE;

	bk_cpu_product(a->t + row0 * BLOCK, BLOCK, row_f(a->d, row0), a->d->ld, row_f(a->r, 0) + a->c0, a->r->ld, rows, a->n, a->c0, 1, 0);
	if (a->how.m)
		return;
	for (int64_t i = row0; i < row0 + rows; i++) {
		float t[BLOCK];

		memcpy(t, a->t + i * BLOCK, (size_t)a->n * sizeof *t);
		for (int64_t j = 0; j < a->n; j++) {
			const float *r = row_f(a->r, a->c0 + j) + a->c0, f = t[j] * a->inv[a->c0 + j], x = (row_f(a->w, i)[a->c0 + j] + f) * r[j];

			a->score[i * BLOCK + j] = x * x;
			for (int64_t l = j + 1; l < a->n; l++)
				t[l] -= f * r[l];
		}
	}
}

/* The next m columns, as if none of them were pruned. */
static void choose(const struct prune_args *a, int8_t *mask, const float *w, const float *t, int64_t j)
{
	float x[16], score[16];

	memcpy(x, t + j, (size_t)a->how.m * sizeof *x);
	for (int p = 0; p < a->how.m; p++) {
		const float *r = row_f(a->r, a->c0 + j + p) + a->c0 + j, f = x[p] * a->inv[a->c0 + j + p], v = (w[j + p] + f) * r[p];

		score[p] = v * v;
		for (int q = p + 1; q < a->how.m; q++)
			x[q] -= f * r[q];
	}
	smallest(mask + j, score, a->how.m, a->how.n);
}

static void prune_tile(void *arg, size_t tile)
{
	const struct prune_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, rows = a->w->rows - row0 < TILE ? a->w->rows - row0 : TILE;

	for (int64_t i = row0; i < row0 + rows; i++) {
		float *t = a->t + i * BLOCK, *d = row_f(a->d, i) + a->c0, w[BLOCK];
		int8_t *mask = row_c(a->mask, i) + a->c0;

		memcpy(w, row_f(a->w, i) + a->c0, (size_t)a->n * sizeof *w); /* d may be w */
		for (int64_t j = 0; j < a->n; j++) {
			const float *r = row_f(a->r, a->c0 + j) + a->c0;

			if (a->how.m && j % a->how.m == 0)
				choose(a, mask, w, t, j);
			if (!a->how.m)
				mask[j] = a->any && bk_f32_bits(a->score[i * BLOCK + j]) <= a->limit;
			d[j] = mask[j] ? w[j] : -t[j] * a->inv[a->c0 + j];
			for (int64_t l = j + 1; l < a->n; l++)
				t[l] += d[j] * r[l];
		}
	}
}

int bk_cpu_solve_prune(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		       const struct bk_prune *how)
{
	struct prune_args a = { .mask = mask, .d = d, .w = w, .r = r, .how = *how };
	const size_t block = (size_t)(w->rows * BLOCK);
	float *inv;

	if (!usable(how, w->cols) || r->rows != w->cols || r->cols != w->cols || d->rows != w->rows || d->cols != w->cols || mask->rows != w->rows || mask->cols != w->cols)
		return BK_RUN_REFUSED;
	a.inv = inv = bk_cpu_inverse_diagonal(r);
	a.t = malloc(block * sizeof *a.t);
	a.score = malloc(block * sizeof *a.score);
	const int error = inv && a.t && a.score ? 0 : BK_RUN_NO_MEMORY;

	for (; !error && a.c0 < w->cols; a.c0 += BLOCK) {
		a.n = w->cols - a.c0 < BLOCK ? w->cols - a.c0 : BLOCK;
		run(s, tiles_of(w->rows), score_tile, &a);
		const uint64_t k = how->m ? 0 : (uint64_t)(how->ratio * (double)(w->rows * a.n));

		a.any = k > 0;
		a.limit = k ? kth_smallest(a.score, w->rows, BLOCK, a.n, k) : 0;
		run(s, tiles_of(w->rows), prune_tile, &a);
	}
	free(inv);
	free(a.t);
	free(a.score);
	return error;
}

/* ---- row by row, without an update ---- */

struct select_args { const struct bk_mat *mask, *w; const float *weight; struct bk_prune how; int no_memory; };

static void select_tile(void *arg, size_t tile)
{
	struct select_args *a = arg;
	const int64_t cols = a->w->cols;
	const uint64_t k = a->how.m ? 0 : (uint64_t)(a->how.ratio * (double)cols);
	float *score = malloc((size_t)cols * sizeof *score);

	if (!score) {
		__atomic_store_n(&a->no_memory, 1, __ATOMIC_RELAXED);
		return;
	}
	for (int64_t i = (int64_t)tile * TILE; i < a->w->rows && i < (int64_t)(tile + 1) * TILE; i++) {
		int8_t *mask = row_c(a->mask, i);
		uint64_t left = k;

		for (int64_t j = 0; j < cols; j++)
			score[j] = fabsf(row_f(a->w, i)[j]) * a->weight[j];
		for (int64_t j = 0; a->how.m && j < cols; j += a->how.m)
			smallest(mask + j, score + j, a->how.m, a->how.n);
		if (a->how.m)
			continue;
		const uint32_t limit = k ? kth_smallest(score, 1, cols, cols, k) : 0;

		for (int64_t j = 0; j < cols; j++) {
			mask[j] = k && bk_f32_bits(score[j]) < limit;
			left -= (uint64_t)mask[j];
		}
		for (int64_t j = 0; j < cols && left; j++)
			if (bk_f32_bits(score[j]) == limit) {
				mask[j] = 1;
				left--;
			}
	}
	free(score);
}

int bk_cpu_solve_select(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *w, const float *weight, const struct bk_prune *how)
{
	struct select_args a = { mask, w, weight, *how, 0 };

	if (!usable(how, w->cols) || mask->rows != w->rows || mask->cols != w->cols || !weight)
		return BK_RUN_REFUSED;
	run(s, tiles_of(w->rows), select_tile, &a);
	return a.no_memory ? BK_RUN_NO_MEMORY : 0;
}
