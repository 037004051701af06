/* SPDX-License-Identifier: Apache-2.0
 * What is sequential over columns on the CPU: rounding with feedback and coordinate descent. */
#include "kernels/solve/solve_cpu.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/solve/solve_grid.h"

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

int bk_cpu_solve_round(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f, const struct bk_mat *mask)
{
	const int64_t width = g->group ? g->group : w->cols;
	const struct bk_feed more = f ? *f : (struct bk_feed){0};
	struct round_args a = { .codes = codes, .d = d, .w = w, .r = r, .s = more.s, .v = more.v, .first = more.first, .scales = (float *)scales,
				.zeros = g->number == BK_FULL ? NULL : zeros, .group_of = group_of, .g = *g, .spr = w->cols / width, .width = width, .mask = mask };

	if (w->cols % width || (g->number == BK_FULL) != (codes->dtype == BK_BF16) || r->rows != w->cols || r->cols != w->cols || d->rows != w->rows ||
	    d->cols != w->cols || !group_of || !more.s != !more.v)
		return BK_RUN_REFUSED;
	if (more.s && (more.s->rows != w->cols || more.s->cols != w->cols || more.v->rows != w->rows || more.v->cols != w->cols))
		return BK_RUN_REFUSED;
	a.inv = bk_cpu_inverse_diagonal(r);
	if (!a.inv)
		return BK_RUN_NO_MEMORY;
	run(s, tiles_of(w->rows), round_tile, &a);
	free(a.inv);
	return 0;
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

int bk_cpu_solve_descend(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *h, const float *scales,
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
