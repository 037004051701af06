/* SPDX-License-Identifier: Apache-2.0
 * Weight statistics of float32 units, or of members of several types: two passes (see weight_stats.c). */
#include "core/stats/private.h"

#include <math.h>

enum bl_status bl_stats_first_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	const struct bk_ops *ops = bl_cpu_ops();
	int64_t few = bl_stats_few_rows(r), cols = r->u->cols;
	uint64_t odd = 0;
	const void *w;
	struct slot *s;
	enum bl_status st = bl_stats_borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	st = bl_stats_tile_f32(r, t, s, &w, err);
	for (int64_t i = 0; st == BL_OK && i < t->n; i += few) {
		int64_t n = t->n - i < few ? t->n - i : few;
		float *rows = r->s->row_absmax + t->at + i, top = 0;
		uint64_t gone = ops->extremes32(&s->ends, rows, s->col32, (const float *)w + i * cols, n, cols);

		for (int64_t k = 0; k < n; k++)
			top = rows[k] > top ? rows[k] : top;
		ops->powers(r->sums[item], (const float *)w + i * cols, BK_F32, n * cols, bl_stats_top(top), gone != 0);
		odd += gone;
	}
	bl_stats_give_back(r, s, odd);
	return st;
}

static enum bl_status second_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	const struct bk_ops *ops = bl_cpu_ops();
	const double absmax = (double)r->s->absmax;
	uint32_t top = bl_stats_bits_below(r, absmax), limit = top > (OCTAVES + 1) << 23 ? top - (OCTAVES << 23) : 1;
	int64_t few = bl_stats_few_rows(r) * r->u->cols, n = t->n * r->u->cols;
	const void *w;
	struct slot *s;
	enum bl_status st = bl_stats_borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	st = bl_stats_tile_f32(r, t, s, &w, err);
	for (int64_t i = 0; st == BL_OK && i < n; i += few) {
		int64_t m = n - i < few ? n - i : few, listed = ops->list32(s->list32, &s->below, (const float *)w + i, m, limit);

		s->n_counted += (uint64_t)listed;
		for (int64_t k = 0; k < listed; k++)
			s->below -= s->list32[k] >> 31;
		ops->bins32(s->bins, s->list32, listed, r->s->absmax, BL_STATS_BINS);
	}
	if (st == BL_OK && absmax > OUTLIER_RMS * r->s->rms)
		s->n_above += ops->above(w, BK_F32, n, bl_stats_bits_below(r, OUTLIER_RMS * r->s->rms));
	bl_stats_give_back(r, s, 0);
	return st;
}

enum bl_status bl_stats_finish_wide(struct run *r, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_weight_stats *s = r->s;
	uint64_t beyond = 0, listed = 0, below = 0;
	enum bl_status st;

	s->n_nonfinite = r->n_nonfinite;
	for (struct slot *k = r->slots; k; k = k->all)
		for (int64_t c = 0; c < s->cols; c++)
			s->col_absmax[c] = fmaxf(s->col_absmax[c], k->col32[c]);
	if (s->n_elems == s->n_nonfinite)
		return BL_OK;
	bl_stats_set_ends(r);
	s->absmax = fmaxf(-s->min, s->max);
	st = bl_stats_moments(r, pool, cancel, err);
	if (st == BL_OK)
		st = bl_pool_run(pool, r->n_tiles, second_tile, r, cancel, err);
	for (struct slot *k = r->slots; k; k = k->all) {
		beyond += k->n_above;
		listed += k->n_counted;
		below += k->below;
		for (int b = 0; b < BL_STATS_BINS; b++)
			s->histogram[b] += k->bins[b];
	}
	s->histogram[MIDDLE - 1] += below;
	s->histogram[MIDDLE] += s->n_elems - listed - below; /* what is not finite is listed */
	s->outlier_share = (double)beyond / (double)(s->n_elems - s->n_nonfinite);
	return st;
}
