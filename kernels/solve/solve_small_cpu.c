/* SPDX-License-Identifier: Apache-2.0
 * The small operations of the CPU's solvers: element by element, and rows times an inverse. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/solve/solve_cpu.h"
#include "kernels/solve/solve_grid.h"

void bk_cpu_product(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
	if (m > 0 && n > 0 && k > 0)
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)n, (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
	else if (beta == 0)
		for (int64_t i = 0; i < m; i++)
			memset(c + i * ldc, 0, (size_t)n * sizeof *c);
}

float *bk_cpu_inverse_diagonal(const struct bk_mat *m)
{
	float *inv = malloc((size_t)m->cols * sizeof *inv);

	for (int64_t k = 0; inv && k < m->cols; k++)
		inv[k] = 1 / row_f(m, k)[k];
	return inv;
}

/* ---- what codes stand for ---- */

struct diff_args { const struct bk_mat *d, *w, *codes; const float *scales; const int8_t *zeros; const int32_t *group_of; struct bk_grid g; int64_t spr, width; };

static void diff_tile(void *arg, size_t tile)
{
	const struct diff_args *a = arg;

	for (int64_t i = (int64_t)tile * TILE; i < a->w->rows && i < (int64_t)(tile + 1) * TILE; i++) {
		const float *w = row_f(a->w, i);
		const int8_t *c = row_c(a->codes, i);
		float *d = row_f(a->d, i);

		if (a->g.number == BK_FULL) {
			for (int64_t k = 0; k < a->w->cols; k++)
				d[k] = w[k] - bk_bf16_f32(row_h(a->codes, i)[k]);
			continue;
		}
		for (int64_t k = 0; a->group_of && k < a->w->cols; k++) {
			const int64_t at = i * a->spr + a->group_of[k];

			d[k] = w[k] - bk_grid_value(c[k], a->scales[at], a->zeros ? (float)a->zeros[at] : 0, a->g.number);
		}
		for (int64_t g = 0; g < a->spr && !a->group_of; g++) {
			const float scale = a->scales[i * a->spr + g], zero = a->zeros ? (float)a->zeros[i * a->spr + g] : 0;

			for (int64_t k = g * a->width; k < (g + 1) * a->width; k++)
				d[k] = w[k] - bk_grid_value(c[k], scale, zero, a->g.number);
		}
	}
}

int bk_cpu_solve_diff(const struct bk_solve *s, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *codes, const float *scales, const int8_t *zeros,
		const int32_t *group_of, const struct bk_grid *g)
{
	const int64_t width = g->group ? g->group : w->cols;
	struct diff_args a = { d, w, codes, scales, zeros, group_of, *g, width ? w->cols / width : 0, width };

	if (width < 1 || w->cols % width || d->rows != w->rows || d->cols != w->cols || codes->rows != w->rows || codes->cols != w->cols)
		return BK_RUN_REFUSED;
	run(s, tiles_of(w->rows), diff_tile, &a);
	return 0;
}

struct finite_args { const struct bk_mat *w; uint64_t *found; };

static void finite_tile(void *arg, size_t tile)
{
	const struct finite_args *a = arg;
	uint64_t n = 0, first = 0, seen;

	for (int64_t i = (int64_t)tile * TILE; i < a->w->rows && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t k = 0; k < a->w->cols; k++)
			if (!isfinite(row_f(a->w, i)[k])) {
				row_f(a->w, i)[k] = 0;
				if (!n++)
					first = 1 + (uint64_t)(a->w->rows * a->w->cols - (i * a->w->cols + k));
			}
	if (!n)
		return;
	__atomic_fetch_add(&a->found[0], n, __ATOMIC_RELAXED);
	seen = __atomic_load_n(&a->found[1], __ATOMIC_RELAXED);
	while (seen < first && !__atomic_compare_exchange_n(&a->found[1], &seen, first, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

int bk_cpu_solve_nonfinite(const struct bk_solve *s, uint64_t *found, const struct bk_mat *w)
{
	struct finite_args a = { w, found };

	run(s, tiles_of(w->rows), finite_tile, &a);
	return 0;
}

int bk_cpu_solve_diagonal(const struct bk_solve *s, float *out, const struct bk_mat *h)
{
	(void)s;
	if (h->rows != h->cols)
		return BK_RUN_REFUSED;
	for (int64_t k = 0; k < h->cols; k++)
		out[k] = row_f(h, k)[k];
	return 0;
}

struct rows_args { const struct bk_mat *y, *r; };

static void solve_tile(void *arg, size_t tile)
{
	const struct rows_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, n = a->y->rows - row0 < TILE ? a->y->rows - row0 : TILE;
	const int k = (int)a->y->cols, ldr = (int)a->r->ld, ldy = (int)a->y->ld;

	cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, (int)n, k, 1, row_f(a->r, 0), ldr, row_f(a->y, row0), ldy);
	cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, (int)n, k, 1, row_f(a->r, 0), ldr, row_f(a->y, row0), ldy);
}

int bk_cpu_solve_solve_rows(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *r)
{
	struct rows_args a = { y, r };

	if (r->rows != r->cols || r->rows != y->cols || y->cols > INT32_MAX / 2)
		return BK_RUN_REFUSED;
	run(s, tiles_of(y->rows), solve_tile, &a);
	return 0;
}

struct rms_args { const struct bk_mat *dst, *x, *y; };

static float element(const struct bk_mat *m, int64_t i, int64_t k)
{
	return m->dtype == BK_F32 ? row_f(m, i)[k] : bk_bf16_f32(((const uint16_t *)m->p)[i * m->ld + k]);
}

static void rms_tile(void *arg, size_t tile)
{
	const struct rms_args *a = arg;

	for (int64_t i = (int64_t)tile * TILE; i < a->x->rows && i < (int64_t)(tile + 1) * TILE; i++) {
		double sum = 0;

		for (int64_t k = 0; k < a->y->cols; k++)
			sum += (double)element(a->y, i, k) * element(a->y, i, k);
		const float by = sum > 0 ? (float)(1 / sqrt(sum / (double)a->y->cols)) : 1;

		for (int64_t k = 0; k < a->x->cols; k++) {
			const float v = element(a->x, i, k) * by;

			if (a->dst->dtype == BK_F32)
				row_f(a->dst, i)[k] = v;
			else
				((uint16_t *)a->dst->p)[i * a->dst->ld + k] = (uint16_t)(bk_f32_bits(bk_round_bf16(v)) >> 16);
		}
	}
}

int bk_cpu_solve_over_rms(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *x, const struct bk_mat *y)
{
	struct rms_args a = { dst, x, y };

	if (dst->rows != x->rows || dst->cols != x->cols || y->rows != x->rows || y->cols < 1 || dst->dtype != x->dtype || y->dtype != x->dtype ||
	    (x->dtype != BK_BF16 && x->dtype != BK_F32))
		return BK_RUN_REFUSED;
	run(s, tiles_of(x->rows), rms_tile, &a);
	return 0;
}

struct add_args { const struct bk_mat *y, *x; float a; };

static void add_tile(void *arg, size_t tile)
{
	const struct add_args *a = arg;

	for (int64_t i = (int64_t)tile * TILE; i < a->y->rows && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t k = 0; k < a->y->cols; k++)
			row_f(a->y, i)[k] += a->a * row_f(a->x, i)[k];
}

int bk_cpu_solve_add_scaled(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *x, float scale)
{
	struct add_args a = { y, x, scale };

	if (x->rows != y->rows || x->cols != y->cols)
		return BK_RUN_REFUSED;
	run(s, tiles_of(y->rows), add_tile, &a);
	return 0;
}

struct absmax_args { float *out; const struct bk_mat *w; int64_t width; };

static void absmax_tile(void *arg, size_t tile)
{
	const struct absmax_args *a = arg;
	const int64_t spr = a->w->cols / a->width;

	for (int64_t i = (int64_t)tile * TILE; i < a->w->rows && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t g = 0; g < spr; g++) {
			const float *w = row_f(a->w, i) + g * a->width;
			float top = 0;

			for (int64_t k = 0; k < a->width; k++)
				top = fabsf(w[k]) > top ? fabsf(w[k]) : top;
			a->out[i * spr + g] = top;
		}
}

int bk_cpu_solve_absmax(const struct bk_solve *s, float *out, const struct bk_mat *w, int64_t width)
{
	struct absmax_args a = { out, w, width };

	if (width < 1 || w->cols % width)
		return BK_RUN_REFUSED;
	run(s, tiles_of(w->rows), absmax_tile, &a);
	return 0;
}

/* ---- what inputs have lost ---- */

struct difference_args { const struct bk_mat *dst, *g, *h; const int32_t *order; };

static void difference_tile(void *arg, size_t tile)
{
	const struct difference_args *a = arg;

	for (int64_t i = (int64_t)tile * TILE; i < a->dst->rows && i < (int64_t)(tile + 1) * TILE; i++) {
		const int64_t p = a->order ? a->order[i] : i;

		for (int64_t j = 0; j < a->dst->cols; j++) {
			const int64_t q = a->order ? a->order[j] : j;

			row_f(a->dst, i)[j] = row_f(a->g, p)[q] - row_f(a->h, p)[q];
		}
	}
}

int bk_cpu_solve_difference(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *g, const struct bk_mat *h, const int32_t *order)
{
	struct difference_args a = { dst, g, h, order };

	if (g->rows != g->cols || h->rows != g->rows || h->cols != g->cols || dst->rows != g->rows || dst->cols != g->cols ||
	    (order && (dst->p == g->p || dst->p == h->p)))
		return BK_RUN_REFUSED;
	run(s, tiles_of(g->rows), difference_tile, &a);
	return 0;
}

struct feed_args { const struct bk_mat *c, *r; float a; };

static void feed_tile(void *arg, size_t tile)
{
	const struct feed_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, n = a->c->rows - row0 < TILE ? a->c->rows - row0 : TILE, k = a->c->cols;

	cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, (int)n, (int)k, a->a, row_f(a->r, 0), (int)a->r->ld, row_f(a->c, row0),
		    (int)a->c->ld);
	for (int64_t i = row0; i < row0 + n; i++)
		for (int64_t j = 0; j <= i; j++)
			row_f(a->c, i)[j] = 0;
}

int bk_cpu_solve_feed(const struct bk_solve *s, const struct bk_mat *c, const struct bk_mat *r, float scale)
{
	struct feed_args a = { c, r, scale };

	if (c->rows != c->cols || r->rows != c->rows || r->cols != c->cols || c->cols > INT32_MAX / 2)
		return BK_RUN_REFUSED;
	run(s, tiles_of(c->rows), feed_tile, &a);
	return 0;
}
