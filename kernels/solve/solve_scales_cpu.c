/* SPDX-License-Identifier: Apache-2.0
 * Scales on the CPU: those that lose least before anything is rounded, and the best ones for given codes. */
#include "kernels/solve/solve_cpu.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/solve/solve_grid.h"

struct search_args {
	float *scales;
	int8_t *zeros;
	const struct bk_mat *w;
	const float *weight;
	struct bk_grid g;
	struct bk_search how;
	int64_t spr, width;
};

/* As bk_grid_round and the sum below, bit for bit, in a form that becomes vector code; n is a multiple of 8. */
static float e2m1_loss(const float *w, const float *weight, int64_t n, float scale)
{
	float sum[8] = { 0 };

	for (int64_t k = 0; k < n; k += 8)
		for (int l = 0; l < 8; l++) {
			const float v = w[k + l] / scale, b = fabsf(v), a = b > 6 ? 6 : b;
			const uint32_t fine = bk_f32_bits(.5f * bk_round_int(2 * a)), mid = bk_f32_bits(bk_round_int(a)), wide = bk_f32_bits(2 * bk_round_int(.5f * a));
			const uint32_t u = bk_pick(a < 2, fine, bk_pick(a < 4, mid, wide)) | (bk_f32_bits(v) & 0x80000000u);
			const float e = w[k + l] - bk_bits_f32(u) * scale;

			sum[l] += weight[k + l] * (e * e);
		}
	return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static float group_loss(const float *w, const float *weight, int64_t n, float scale, float zero, const struct bk_grid *g, float norm)
{
	const float lo = bk_grid_lo(g), hi = bk_grid_hi(g);
	float sum[8] = { 0 };

	if (g->number == BK_E2M1 && norm == 2 && n % 8 == 0)
		return e2m1_loss(w, weight, n, scale);
	for (int64_t k = 0; k < n; k++) {
		const float e = w[k] - bk_grid_round(w[k], scale, zero, g->number, lo, hi).value;

		sum[k & 7] += weight[k] * (norm == 2 ? e * e : powf(fabsf(e), norm));
	}
	return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static void search_group(const struct search_args *a, int64_t row, int64_t group)
{
	const float *w = row_f(a->w, row) + group * a->width, *weight = a->weight + group * a->width;
	const float qmin = bk_grid_lo(&a->g), qmax = bk_grid_hi(&a->g);
	const float levels = (float)(1 << a->g.bits) - 1, norm = a->how.norm > 0 ? (float)a->how.norm : 2;
	float lo = 0, hi = 0, best = FLT_MAX, best_scale = a->g.scale == BK_SCALE_BF16 ? 0x1p-7f : bk_scale_of(0, &a->g), best_zero = 0;

	for (int64_t k = 0; k < a->width; k++) {
		lo = w[k] < lo ? w[k] : lo;
		hi = w[k] > hi ? w[k] : hi;
	}
	for (int i = 0; i <= a->how.steps && (lo < 0 || hi > 0); i++) {
		const float p = (float)(1 - (1 - a->how.least) * i / a->how.steps);
		const float top = (-lo > hi ? -lo : hi) * p;
		float scale = a->g.symmetric ? bk_scale_of(top, &a->g) : bk_round_bf16((hi - lo) * p / levels), zero = 0, e;

		if (!(scale > 0) || !isfinite(scale))
			continue;
		if (!a->g.symmetric)
			zero = bk_round_int(bk_clampf(qmin - lo * p / scale, qmin, qmax));
		e = group_loss(w, weight, a->width, scale, zero, &a->g, norm);
		if (e < best) {
			best = e;
			best_scale = scale;
			best_zero = zero;
		}
		if (!a->how.full_range || !a->g.symmetric || a->g.number == BK_E4M3)
			continue;
		if (a->g.number == BK_E2M1) {
			scale = bk_scale_of(1.5f * top, &a->g); /* the largest element at 4, where neighbours are nearer */
		} else {
			scale = bk_round_bf16(top / -qmin);
			if (hi >= -lo)
				scale = -scale; /* the largest element lands on the most negative code */
		}
		if (!(fabsf(scale) > 0) || !isfinite(scale))
			continue;
		e = group_loss(w, weight, a->width, scale, 0, &a->g, norm);
		if (e < best) {
			best = e;
			best_scale = scale;
			best_zero = 0;
		}
	}
	a->scales[row * a->spr + group] = best_scale;
	if (a->zeros)
		a->zeros[row * a->spr + group] = (int8_t)best_zero;
}

static void search_tile(void *arg, size_t tile)
{
	const struct search_args *a = arg;

	for (int64_t i = (int64_t)tile * TILE; i < a->w->rows && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t g = 0; g < a->spr; g++)
			search_group(a, i, g);
}

int bk_cpu_solve_scale_search(const struct bk_solve *s, float *scales, int8_t *zeros, const struct bk_mat *w, const float *weight, const struct bk_grid *g,
			const struct bk_search *how)
{
	const int64_t width = g->group ? g->group : w->cols;
	struct search_args a = { scales, zeros, w, weight, *g, *how, w->cols / (width ? width : 1), width };

	if (width < 1 || w->cols % width || (!g->symmetric && !zeros) || how->steps < 1 || g->scale == BK_SCALE_GIVEN)
		return BK_RUN_REFUSED;
	run(s, tiles_of(w->rows), search_tile, &a);
	return 0;
}

/* ---- for given codes ---- */

/* Cholesky of m [n, n] and solution of m x = b in b; false when m is not positive definite. */
static bool solve_small(double *m, double *b, int64_t n)
{
	for (int64_t j = 0; j < n; j++) {
		double d = m[j * n + j];

		for (int64_t k = 0; k < j; k++)
			d -= m[j * n + k] * m[j * n + k];
		if (!(d > 0))
			return false;
		d = m[j * n + j] = sqrt(d);
		for (int64_t i = j + 1; i < n; i++) {
			double z = m[i * n + j];

			for (int64_t k = 0; k < j; k++)
				z -= m[i * n + k] * m[j * n + k];
			m[i * n + j] = z / d;
		}
	}
	for (int64_t i = 0; i < n; i++) {
		for (int64_t k = 0; k < i; k++)
			b[i] -= m[i * n + k] * b[k];
		b[i] /= m[i * n + i];
	}
	for (int64_t i = n - 1; i >= 0; i--) {
		for (int64_t k = i + 1; k < n; k++)
			b[i] -= m[k * n + i] * b[k];
		b[i] /= m[i * n + i];
	}
	return true;
}

/* sᵀ m s - 2 sᵀ b: the loss up to what does not depend on s */
static double partial_loss(const double *m, const double *b, const double *s, int64_t n)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++) {
		for (int64_t j = 0; j < n; j++)
			sum += s[i] * m[i * n + j] * s[j];
		sum -= 2 * s[i] * b[i];
	}
	return sum;
}

static void refit_row(struct round_args *a, int64_t row, const float *unit, const double *m, const double *b, double *work)
{
	const int64_t n = a->spr, cols = a->d->cols;
	double *f = work, *x = work + n * n, *old = x + n;
	float *scales = a->scales + row * n;

	memcpy(f, m, (size_t)(n * n) * sizeof *f);
	memcpy(x, b, (size_t)n * sizeof *x);
	for (int64_t i = 0; i < n; i++) {
		f[i * n + i] = f[i * n + i] * (1 + 1e-9) + 1e-300;
		old[i] = scales[i];
	}
	if (!solve_small(f, x, n))
		return;
	for (int64_t i = 0; i < n; i++) {
		x[i] = bk_scale_near((float)x[i], &a->g);
		if (!(fabs(x[i]) > 0) || !isfinite(x[i]) || (x[i] > 0) != (old[i] > 0))
			x[i] = old[i];
	}
	if (!(partial_loss(m, b, x, n) < partial_loss(m, b, old, n)))
		return;
	for (int64_t k = 0; k < cols; k++)
		row_f(a->d, row)[k] = row_f(a->w, row)[k] - unit[k] * (float)x[k / a->width];
	for (int64_t i = 0; i < n; i++)
		scales[i] = (float)x[i];
}

static void refit_tile(void *arg, size_t tile)
{
	struct round_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, n = a->d->rows - row0 < TILE ? a->d->rows - row0 : TILE, cols = a->d->cols, spr = a->spr, width = a->width;
	float *unit = malloc((size_t)(TILE * cols) * sizeof *unit), *c = malloc((size_t)(TILE * cols) * sizeof *c);
	double *m = malloc((size_t)(TILE * spr * spr) * sizeof *m), *b = malloc((size_t)(TILE * spr) * sizeof *b);
	double *work = malloc((size_t)(spr * spr + 2 * spr) * sizeof *work);

	if (unit && c && m && b && work) {
		for (int64_t i = 0; i < n; i++)
			for (int64_t k = 0; k < cols; k++)
				unit[i * cols + k] = bk_grid_value(row_c(a->codes, row0 + i)[k], 1, zero_of(a, row0 + i, k / width), a->g.number);
		bk_cpu_product(c, cols, row_f(a->w, row0), a->w->ld, row_f(a->h, 0), a->h->ld, n, cols, cols, 1, 0);
		for (int64_t i = 0; i < n; i++)
			for (int64_t g = 0; g < spr; g++) {
				double sum = 0;

				for (int64_t k = g * width; k < (g + 1) * width; k++)
					sum += (double)unit[i * cols + k] * c[i * cols + k];
				b[i * spr + g] = sum;
			}
		for (int64_t e = 0; e < spr; e++) {
			bk_cpu_product(c, cols, unit + e * width, cols, row_f(a->h, e * width), a->h->ld, n, cols, width, 1, 0);
			for (int64_t i = 0; i < n; i++)
				for (int64_t g = 0; g < spr; g++) {
					double sum = 0;

					for (int64_t k = g * width; k < (g + 1) * width; k++)
						sum += (double)unit[i * cols + k] * c[i * cols + k];
					m[(i * spr + g) * spr + e] = sum;
				}
		}
		for (int64_t i = 0; i < n; i++)
			refit_row(a, row0 + i, unit + i * cols, m + i * spr * spr, b + i * spr, work);
	} else {
		__atomic_store_n(&a->no_memory, 1, __ATOMIC_RELAXED);
	}
	free(unit);
	free(c);
	free(m);
	free(b);
	free(work);
}

int bk_cpu_solve_refit(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
		 const int8_t *zeros, const struct bk_grid *g)
{
	const int64_t width = g->group ? g->group : w->cols;
	struct round_args a = { .codes = codes, .d = d, .w = w, .h = h, .scales = scales, .zeros = zeros, .g = *g, .spr = w->cols / width, .width = width };

	if (w->cols % width || h->rows != w->cols || h->cols != w->cols || g->scale == BK_SCALE_GIVEN)
		return BK_RUN_REFUSED;
	run(s, tiles_of(w->rows), refit_tile, &a);
	return a.no_memory ? BK_RUN_NO_MEMORY : 0;
}
