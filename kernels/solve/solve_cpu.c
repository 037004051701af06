/* SPDX-License-Identifier: Apache-2.0
 * The solvers on the CPU: tiles of rows over threads, each tile with its own matrix products, so that no result depends on how many threads there are. The
 * factor is made in double (float32 beyond 16384 columns, where double would not fit beside the rest). */
#include "kernels/solve/solve_cpu.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/solve/solve_grid.h"

#define DOUBLE_MAX_COLS 16384

void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);

/* ---- the matrix ---- */

struct permute_args { const struct bk_mat *dst, *h; const int32_t *order; double damp, dead; };

static void permute_rows(void *arg, size_t tile)
{
	const struct permute_args *a = arg;
	const int64_t k = a->h->cols;

	for (int64_t i = (int64_t)tile * TILE; i < k && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t j = 0; j <= i; j++) {
			const int64_t p = a->order ? a->order[i] : i, q = a->order ? a->order[j] : j;
			float v = p >= q ? row_f(a->h, p)[q] : row_f(a->h, q)[p];

			if (i == j)
				v = (float)((v == 0 ? a->dead : (double)v) + a->damp);
			row_f(a->dst, i)[j] = v;
		}
}

static void mirror_rows(void *arg, size_t tile)
{
	const struct permute_args *a = arg;
	const int64_t k = a->dst->cols;

	for (int64_t i = (int64_t)tile * TILE; i < k && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t j = i + 1; j < k; j++)
			row_f(a->dst, i)[j] = row_f(a->dst, j)[i];
}

static int permute_sym(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *h, const int32_t *order, double damp, double dead)
{
	struct permute_args a = { dst, h, order, damp, dead };

	if (h->rows != h->cols || dst->rows != h->rows || dst->cols != h->cols || (order && dst->p == h->p))
		return BK_RUN_REFUSED;
	run(s, tiles_of(h->rows), permute_rows, &a);
	run(s, tiles_of(h->rows), mirror_rows, &a);
	return 0;
}

/* With J the reversal of indices, J h J = L Lᵀ and R = J L J. */
static void flip(float *p, int64_t k, int64_t ld)
{
	for (int64_t i = 0; i < (k + 1) / 2; i++)
		for (int64_t j = 0; j < k && (i != k - 1 - i || j < k - 1 - j); j++) {
			float *a = p + i * ld + j, *b = p + (k - 1 - i) * ld + (k - 1 - j), t = *a;

			*a = *b;
			*b = t;
		}
}

/* column-major "U" is the row-major lower triangle */
static int factor_wide(const struct bk_mat *h, int *info)
{
	const int64_t k = h->cols;
	const int n = (int)k;
	double *d = malloc((size_t)(k * k) * sizeof *d);

	if (!d)
		return BK_RUN_NO_MEMORY;
	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j <= i; j++)
			d[i * k + j] = row_f(h, k - 1 - i)[k - 1 - j];
	dpotrf_("U", &n, d, &n, info);
	for (int64_t i = 0; i < k && !*info; i++)
		for (int64_t j = 0; j < k; j++)
			row_f(h, i)[j] = j < i ? 0 : (float)d[(k - 1 - i) * k + (k - 1 - j)];
	free(d);
	return 0;
}

static void factor_in_place(const struct bk_mat *h, int *info)
{
	const int64_t k = h->cols;
	const int n = (int)k, ld = (int)h->ld;

	flip(row_f(h, 0), k, h->ld);
	spotrf_("U", &n, row_f(h, 0), &ld, info);
	flip(row_f(h, 0), k, h->ld);
	for (int64_t i = 1; i < k; i++)
		memset(row_f(h, i), 0, (size_t)i * sizeof(float));
}

static int factor(const struct bk_solve *s, const struct bk_mat *h, int *failed)
{
	const int64_t k = h->cols;
	int info = 0, error = 0;

	(void)s;
	if (h->rows != k || k < 1 || k > INT32_MAX / 2)
		return BK_RUN_REFUSED;
	if (k <= DOUBLE_MAX_COLS)
		error = factor_wide(h, &info);
	else
		factor_in_place(h, &info);
	if (error)
		return error;
	*failed = info != 0;
	for (int64_t i = 0; i < k && !*failed; i++)
		*failed = !(row_f(h, i)[i] > 0 && isfinite(row_f(h, i)[i]));
	return 0;
}

struct cols_args { const struct bk_mat *dst, *src; const int32_t *order; int back; };

static void move_cols(void *arg, size_t tile)
{
	const struct cols_args *a = arg;
	const bool f32 = a->dst->dtype == BK_F32;

	for (int64_t i = (int64_t)tile * TILE; i < a->dst->rows && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t j = 0; j < a->dst->cols; j++) {
			const int64_t to = a->back ? a->order[j] : j, from = a->back ? j : a->order[j];

			if (f32)
				row_f(a->dst, i)[to] = row_f(a->src, i)[from];
			else if (a->dst->dtype == BK_BF16)
				row_h(a->dst, i)[to] = row_h(a->src, i)[from];
			else
				row_c(a->dst, i)[to] = row_c(a->src, i)[from];
		}
}

static int permute_cols(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *src, const int32_t *order, int back)
{
	struct cols_args a = { dst, src, order, back };

	if (dst->rows != src->rows || dst->cols != src->cols || dst->dtype != src->dtype || dst->p == src->p || !order)
		return BK_RUN_REFUSED;
	run(s, tiles_of(dst->rows), move_cols, &a);
	return 0;
}

/* ---- scales ---- */

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

static int scale_search(const struct bk_solve *s, float *scales, int8_t *zeros, const struct bk_mat *w, const float *weight, const struct bk_grid *g,
			const struct bk_search *how)
{
	const int64_t width = g->group ? g->group : w->cols;
	struct search_args a = { scales, zeros, w, weight, *g, *how, w->cols / (width ? width : 1), width };

	if (width < 1 || w->cols % width || (!g->symmetric && !zeros) || how->steps < 1 || g->scale == BK_SCALE_GIVEN)
		return BK_RUN_REFUSED;
	run(s, tiles_of(w->rows), search_tile, &a);
	return 0;
}

/* ---- rounding with feedback ---- */

struct round_args {
	const struct bk_mat *codes, *d, *w, *r, *h, *mask, *s, *v; /* s, v: bk_feed's */
	const float *first;
	float *scales;
	const int8_t *zeros;
	const int32_t *group_of; /* NULL: column / width */
	struct bk_grid g;
	int64_t spr, width;
	int sweeps;
	float *inv;              /* [K] 1 / diagonal */
	int no_memory;
};

static float zero_of(const struct round_args *a, int64_t row, int64_t group) { return a->zeros ? (float)a->zeros[row * a->spr + group] : 0; }

static void round_tile(void *arg, size_t tile)
{
	struct round_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, n = a->w->rows - row0 < TILE ? a->w->rows - row0 : TILE, cols = a->w->cols;
	const float lo = bk_grid_lo(&a->g), hi = bk_grid_hi(&a->g);
	const bool full = a->g.number == BK_FULL;
	float t[TILE * BLOCK], tt[BLOCK][TILE], e[TILE], v[TILE];

	for (int64_t c0 = 0; c0 < cols; c0 += BLOCK) {
		const int64_t m = cols - c0 < BLOCK ? cols - c0 : BLOCK;

		bk_cpu_product(t, BLOCK, row_f(a->d, row0), a->d->ld, row_f(a->r, 0) + c0, a->r->ld, n, m, c0, 1, 0);
		if (a->s)
			bk_cpu_product(t, BLOCK, row_f(a->v, row0), a->v->ld, row_f(a->s, 0) + c0, a->s->ld, n, m, c0, 1, 1);
		for (int64_t j = 0; j < m; j++)
			for (int64_t i = 0; i < TILE; i++)
				tt[j][i] = i < n ? t[i * BLOCK + j] : 0;
		for (int64_t j = 0; j < m; j++) {
			const int64_t k = c0 + j, group = a->group_of[k];
			const float *r = row_f(a->r, k) + c0, *s = a->s ? row_f(a->s, k) + c0 : NULL;

			for (int64_t i = 0; i < n; i++) {
				const float w = row_f(a->w, row0 + i)[k], scale = full ? 1 : a->scales[(row0 + i) * a->spr + group], zero = zero_of(a, row0 + i, group);

				v[i] = k == 0 && a->first ? a->first[row0 + i] : w + tt[j][i] * a->inv[k];
				const struct bk_code q = a->mask && row_c(a->mask, row0 + i)[k] ? bk_grid_zero(zero, a->g.number)
												: bk_grid_round(v[i], scale, zero, a->g.number, lo, hi);

				if (full)
					row_h(a->codes, row0 + i)[k] = (uint16_t)q.code;
				else
					row_c(a->codes, row0 + i)[k] = (int8_t)q.code;
				row_f(a->d, row0 + i)[k] = e[i] = w - q.value;
			}
			for (int64_t i = n; i < TILE; i++)
				e[i] = v[i] = 0;
			for (int64_t l = j + 1; l < m; l++)
				for (int64_t i = 0; i < TILE; i++)
					tt[l][i] += e[i] * r[l];
			for (int64_t i = 0; s && i < n; i++)
				row_f(a->v, row0 + i)[k] = v[i];
			for (int64_t l = j + 1; s && l < m; l++)
				for (int64_t i = 0; i < TILE; i++)
					tt[l][i] += v[i] * s[l];
		}
	}
}

static int round_any(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f, const struct bk_mat *mask)
{
	const int64_t width = g->group ? g->group : w->cols;
	struct round_args a = { .codes = codes, .d = d, .w = w, .r = r, .s = f->s, .v = f->v, .first = f->first, .scales = (float *)scales,
				.zeros = g->number == BK_FULL ? NULL : zeros, .group_of = group_of, .g = *g, .spr = w->cols / width, .width = width, .mask = mask };

	if (w->cols % width || (g->number == BK_FULL) != (codes->dtype == BK_BF16) || r->rows != w->cols || r->cols != w->cols || d->rows != w->rows ||
	    d->cols != w->cols || !group_of || !f->s != !f->v)
		return BK_RUN_REFUSED;
	if (f->s && (f->s->rows != w->cols || f->s->cols != w->cols || f->v->rows != w->rows || f->v->cols != w->cols))
		return BK_RUN_REFUSED;
	a.inv = bk_cpu_inverse_diagonal(r);
	if (!a.inv)
		return BK_RUN_NO_MEMORY;
	run(s, tiles_of(w->rows), round_tile, &a);
	free(a.inv);
	return 0;
}

static const struct bk_feed no_feed = { NULL, NULL, NULL };

static int round_fed(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f)
{
	return round_any(s, codes, d, w, r, scales, zeros, group_of, g, f, NULL);
}

static int round_masked(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
			const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_mat *mask)
{
	return round_any(s, codes, d, w, r, scales, zeros, group_of, g, &no_feed, mask);
}

static int round_all(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g)
{
	return round_any(s, codes, d, w, r, scales, zeros, group_of, g, &no_feed, NULL);
}

/* gr = d h, kept current: after a block of columns moved by delta, gr -= delta h[block, :]. */
static void descend_tile(void *arg, size_t tile)
{
	struct round_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, n = a->d->rows - row0 < TILE ? a->d->rows - row0 : TILE, cols = a->d->cols;
	const float lo = bk_grid_lo(&a->g), hi = bk_grid_hi(&a->g);
	float *gr = malloc((size_t)(TILE * cols) * sizeof *gr), delta[TILE * BLOCK];

	if (!gr) {
		__atomic_store_n(&a->no_memory, 1, __ATOMIC_RELAXED);
		return;
	}
	bk_cpu_product(gr, cols, row_f(a->d, row0), a->d->ld, row_f(a->h, 0), a->h->ld, n, cols, cols, 1, 0);
	for (int sweep = 0; sweep < a->sweeps; sweep++)
		for (int64_t c0 = 0; c0 < cols; c0 += BLOCK) {
			const int64_t m = cols - c0 < BLOCK ? cols - c0 : BLOCK;
			bool moved = false;

			memset(delta, 0, sizeof delta);
			for (int64_t i = 0; i < n; i++) {
				float *g = gr + i * cols + c0, *d = row_f(a->d, row0 + i) + c0;
				int8_t *codes = row_c(a->codes, row0 + i) + c0;

				for (int64_t j = 0; j < m; j++) {
					const int64_t group = (c0 + j) / a->width;
					const float scale = a->scales[(row0 + i) * a->spr + group], zero = zero_of(a, row0 + i, group);
					const float now = bk_grid_value(codes[j], scale, zero, a->g.number);
					const struct bk_code q = bk_grid_round(now + g[j] * a->inv[c0 + j], scale, zero, a->g.number, lo, hi);
					const float step = q.value - now;
					const float *h = row_f(a->h, c0 + j) + c0;

					if (q.code == codes[j])
						continue;
					codes[j] = (int8_t)q.code;
					d[j] -= step;
					delta[i * BLOCK + j] = step;
					moved = true;
					for (int64_t l = 0; l < m; l++)
						g[l] -= step * h[l];
				}
			}
			if (!moved)
				continue;
			bk_cpu_product(gr, cols, delta, BLOCK, row_f(a->h, c0), a->h->ld, n, c0, m, -1, 1);
			bk_cpu_product(gr + c0 + m, cols, delta, BLOCK, row_f(a->h, c0) + c0 + m, a->h->ld, n, cols - c0 - m, m, -1, 1);
		}
	free(gr);
}

static int descend(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *h, const float *scales,
		   const int8_t *zeros, const struct bk_grid *g, int sweeps)
{
	const int64_t width = g->group ? g->group : d->cols;
	struct round_args a = { .codes = codes, .d = d, .h = h, .scales = (float *)scales, .zeros = zeros, .g = *g, .spr = d->cols / width, .width = width,
				.sweeps = sweeps };

	if (d->cols % width || h->rows != d->cols || h->cols != d->cols)
		return BK_RUN_REFUSED;
	a.inv = bk_cpu_inverse_diagonal(h);
	if (!a.inv)
		return BK_RUN_NO_MEMORY;
	run(s, tiles_of(d->rows), descend_tile, &a);
	free(a.inv);
	return a.no_memory ? BK_RUN_NO_MEMORY : 0;
}

/* ---- scales for given codes ---- */

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

static int refit(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
		 const int8_t *zeros, const struct bk_grid *g)
{
	const int64_t width = g->group ? g->group : w->cols;
	struct round_args a = { .codes = codes, .d = d, .w = w, .h = h, .scales = scales, .zeros = zeros, .g = *g, .spr = w->cols / width, .width = width };

	if (w->cols % width || h->rows != w->cols || h->cols != w->cols || g->scale == BK_SCALE_GIVEN)
		return BK_RUN_REFUSED;
	run(s, tiles_of(w->rows), refit_tile, &a);
	return a.no_memory ? BK_RUN_NO_MEMORY : 0;
}

/* ---- loss ---- */

struct loss_args { double *loss; const struct bk_mat *d, *h; int no_memory; };

static void loss_tile(void *arg, size_t tile)
{
	struct loss_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, n = a->d->rows - row0 < TILE ? a->d->rows - row0 : TILE, cols = a->d->cols;
	float *c = malloc((size_t)(TILE * cols) * sizeof *c);

	if (!c) {
		__atomic_store_n(&a->no_memory, 1, __ATOMIC_RELAXED);
		return;
	}
	bk_cpu_product(c, cols, row_f(a->d, row0), a->d->ld, row_f(a->h, 0), a->h->ld, n, cols, cols, 1, 0);
	for (int64_t i = 0; i < n; i++) {
		double sum = 0;

		for (int64_t k = 0; k < cols; k++)
			sum += (double)c[i * cols + k] * row_f(a->d, row0 + i)[k];
		a->loss[row0 + i] = sum;
	}
	free(c);
}

static int loss(const struct bk_solve *s, double *out, const struct bk_mat *d, const struct bk_mat *h)
{
	struct loss_args a = { out, d, h, 0 };

	if (h->rows != d->cols || h->cols != d->cols)
		return BK_RUN_REFUSED;
	run(s, tiles_of(d->rows), loss_tile, &a);
	return a.no_memory ? BK_RUN_NO_MEMORY : 0;
}

static const struct bk_solve_ops ops = {
	.size = sizeof(struct bk_solve_ops),
	.permute_sym = permute_sym,
	.factor = factor,
	.permute_cols = permute_cols,
	.scale_search = scale_search,
	.round = round_all,
	.descend = descend,
	.refit = refit,
	.loss = loss,
	.diff = bk_cpu_solve_diff,
	.nonfinite = bk_cpu_solve_nonfinite,
	.diagonal = bk_cpu_solve_diagonal,
	.solve_rows = bk_cpu_solve_solve_rows,
	.over_rms = bk_cpu_solve_over_rms,
	.add_scaled = bk_cpu_solve_add_scaled,
	.round_masked = round_masked,
	.prune = bk_cpu_solve_prune,
	.select = bk_cpu_solve_select,
	.absmax = bk_cpu_solve_absmax,
	.difference = bk_cpu_solve_difference,
	.feed = bk_cpu_solve_feed,
	.round_fed = round_fed,
};

const struct bk_solve_ops *bk_solve_cpu(void) { return &ops; }
