/* SPDX-License-Identifier: Apache-2.0
 * Weight statistics of units whose members share one 16-bit type: one pass (see weight_stats.c). */
#include "core/stats/private.h"

#include <math.h>

#include "core/base/mem.h"

/* The unit's largest pattern so far, of which this thread has seen `top`. */
static uint16_t raise_top(struct run *r, unsigned top)
{
	unsigned was = atomic_load(&r->top);

	while (was < top && !atomic_compare_exchange_weak(&r->top, &was, top))
		;
	return (uint16_t)(was < top ? top : was);
}

static uint16_t limit_under(const struct run *r, unsigned top) /* 1: where patterns are no logarithms */
{
	return top > (OCTAVES + 1) * r->octave ? (uint16_t)(top - OCTAVES * r->octave) : 1;
}

static void note_limit(struct slot *s, uint16_t limit)
{
	s->low = limit < s->low ? limit : s->low;
	s->most = limit > s->most ? limit : s->most;
}

static uint16_t largest_of(const struct run *r, int64_t at, int64_t n)
{
	uint16_t top = 0;

	for (int64_t i = at; i < at + n; i++)
		top = r->row16[i] > top ? r->row16[i] : top;
	return top;
}

/* In one pass, with the limit that what came before allows: more is listed than need be where larger elements turn up. False: the other way is needed. */
static bool sweep_rows(struct run *r, struct slot *s, double sums[4], const char *w, int64_t at, int64_t n)
{
	const struct bk_ops *ops = bl_cpu_ops();
	const unsigned top = atomic_load(&r->top);
	int64_t listed;

	if (!ops->lists || !ops->sweep16 || r->dtype != BK_BF16 || !top || r->u->cols % BK_RUN)
		return false;
	listed = ops->sweep16(r->row16 + at, s->col16, sums, s->list, &s->below, w, n, r->u->cols, limit_under(r, top));
	if (listed < 0)
		return false;
	note_limit(s, limit_under(r, top));
	raise_top(r, largest_of(r, at, n));
	ops->tally16(s->counts, s->list, listed, 0);
	s->n_counted += (uint64_t)listed;
	return true;
}

/* n rows at w, of which the first is the unit's row `at`. */
static uint64_t look_at_rows(struct run *r, struct slot *s, double sums[4], const char *w, int64_t at, int64_t n)
{
	const struct bk_ops *ops = bl_cpu_ops();
	int64_t cols = r->u->cols, listed;
	uint64_t odd;
	uint16_t top, limit;

	if (sweep_rows(r, s, sums, w, at, n))
		return 0;
	odd = ops->tops16(r->row16 + at, s->col16, w, n, cols, r->inf);
	top = raise_top(r, largest_of(r, at, n));
	limit = limit_under(r, top);
	if (!ops->lists) {
		s->low = 0;
		ops->tally16(s->counts, w, n * cols, 2 * n * cols);
		s->n_counted += (uint64_t)(n * cols);
		return odd;
	}
	note_limit(s, limit);
	listed = ops->look16(sums, s->list, &s->below, w, r->dtype, n * cols, bl_stats_top(bl_stats_value(r, top)), limit, odd != 0);
	ops->tally16(s->counts, s->list, listed, 0);
	s->n_counted += (uint64_t)listed;
	return odd;
}

enum bl_status bl_stats_count_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	const char *w = bl_stats_tile(r, t);
	int64_t few = bl_stats_few_rows(r);
	uint64_t odd = 0;
	struct slot *s;
	enum bl_status st = bl_stats_borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	for (int64_t i = 0; i < t->n; i += few)
		odd += look_at_rows(r, s, r->sums[item], w + 2 * i * r->u->cols, t->at + i, t->n - i < few ? t->n - i : few);
	bl_stats_give_back(r, s, odd);
	return BL_OK;
}

/* The finite values that were counted and how often. */
static enum bl_status list_values(struct run *r, struct bl_err *err)
{
	unsigned top = atomic_load(&r->top);
	size_t n = 0;
	enum bl_status st;

	for (int sign = 0; sign < PATTERNS; sign += PATTERNS / 2)
		for (unsigned i = r->low; i <= top; i++)
			n += r->totals[sign + (int)i] != 0;
	st = bl_try_alloc(&r->values, n + 1, sizeof(*r->values), "a table of values", err);
	for (int sign = 0; st == BL_OK && sign < PATTERNS; sign += PATTERNS / 2)
		for (unsigned i = r->low; i <= top; i++)
			if (r->totals[sign + (int)i])
				r->values[r->n_values++] = (struct value){ bl_stats_value(r, (uint32_t)sign + i), i, (double)r->totals[sign + (int)i] };
	return st;
}

/* The smallest and largest element, where the counts tell: they may not know what is small. */
static bool ends_from_counts(struct run *r)
{
	struct bl_weight_stats *s = r->s;
	bool up = false, down = false;

	s->min = INFINITY;
	s->max = -INFINITY;
	for (size_t i = 0; i < r->n_values; i++) {
		const struct value *x = &r->values[i];

		s->min = x->v < s->min ? x->v : s->min;
		s->max = x->v > s->max ? x->v : s->max;
		up = up || (x->v > 0 && x->pattern >= r->most);
		down = down || (x->v < 0 && x->pattern >= r->most);
	}
	return r->most == 0 || (up && down);
}

static void set_histogram(struct run *r)
{
	struct bl_weight_stats *s = r->s;
	uint64_t listed = 0, below = 0;

	for (size_t i = 0; i < r->n_values; i++) {
		const struct value *x = &r->values[i];
		uint64_t n = (uint64_t)x->n;

		listed += n;
		below += x->v < 0 ? n : 0;
		s->histogram[bk_bin((double)x->v, (double)s->absmax, BL_STATS_BINS)] += n;
	}
	if (r->most == 0)
		return;
	s->histogram[MIDDLE - 1] += r->below - below;
	s->histogram[MIDDLE] += s->n_elems - s->n_nonfinite - listed - (r->below - below);
}

/* What pass 1 gathered, from all slots. */
static void gather_narrow(struct run *r)
{
	struct bl_weight_stats *s = r->s;

	r->low = 0xffff;
	for (struct slot *k = r->slots; k; k = k->all) {
		bl_stats_flush(r, k);
		r->low = k->low < r->low ? k->low : r->low;
		r->most = k->most > r->most ? k->most : r->most;
		r->below += k->below;
		for (int64_t c = 0; c < s->cols; c++) /* patterns without sign are ordered like their values */
			r->col16[c] = k->col16[c] > r->col16[c] ? k->col16[c] : r->col16[c];
	}
	for (int64_t c = 0; c < s->cols; c++)
		s->col_absmax[c] = bl_stats_value(r, r->col16[c]);
	for (int64_t i = 0; i < s->rows; i++)
		s->row_absmax[i] = bl_stats_value(r, r->row16[i]);
	s->n_nonfinite = r->n_nonfinite;
	s->absmax = bl_stats_value(r, atomic_load(&r->top));
}

static void moments_from_counts(struct run *r)
{
	struct bl_weight_stats *s = r->s;
	double n = (double)(s->n_elems - s->n_nonfinite), sum = 0, sum2 = 0, m2 = 0, m4 = 0;

	for (size_t i = 0; i < r->n_values; i++) {
		double v = (double)r->values[i].v;

		sum += r->values[i].n * v;
		sum2 += r->values[i].n * v * v;
	}
	s->mean = sum / n;
	s->rms = sqrt(sum2 / n);
	for (size_t i = 0; i < r->n_values; i++) {
		double d = (double)r->values[i].v - s->mean, q = d * d;

		m2 += r->values[i].n * q;
		m4 += r->values[i].n * q * q;
	}
	bl_stats_set_kurtosis(s, m2 / n, m4 / n);
}

/* ---- rarely: ends and outliers among what is small ---- */

static enum bl_status ends_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	struct slot *s;
	enum bl_status st = bl_stats_borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	bl_cpu_ops()->ends16(&s->ends, bl_stats_tile(r, t), t->n * r->u->cols, r->inf);
	bl_stats_give_back(r, s, 0);
	return BL_OK;
}

static enum bl_status above_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	uint32_t limit = bl_stats_bits_below(r, OUTLIER_RMS * r->s->rms);
	struct slot *s;
	enum bl_status st = bl_stats_borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	s->n_above += bl_cpu_ops()->above(bl_stats_tile(r, t), r->dtype, t->n * r->u->cols, limit);
	bl_stats_give_back(r, s, 0);
	return BL_OK;
}

enum bl_status bl_stats_finish_narrow(struct run *r, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_weight_stats *s = r->s;
	uint32_t limit;
	uint64_t beyond = 0;
	enum bl_status st;

	gather_narrow(r);
	if (s->n_elems == s->n_nonfinite)
		return BL_OK;
	st = list_values(r, err);
	if (st != BL_OK)
		return st;
	set_histogram(r);
	if (!ends_from_counts(r)) {
		st = bl_pool_run(pool, r->n_tiles, ends_tile, r, cancel, err);
		if (st != BL_OK)
			return st;
		bl_stats_set_ends(r);
	}
	if (r->most == 0)
		moments_from_counts(r);
	else
		st = bl_stats_moments(r, pool, cancel, err);
	if (st != BL_OK || !((double)s->absmax > OUTLIER_RMS * s->rms))
		return st;
	limit = bl_stats_bits_below(r, OUTLIER_RMS * s->rms);
	if (limit + 1 >= r->most) {
		for (size_t i = 0; i < r->n_values; i++)
			beyond += r->values[i].pattern > limit ? (uint64_t)r->values[i].n : 0;
	} else {
		st = bl_pool_run(pool, r->n_tiles, above_tile, r, cancel, err);
		for (struct slot *k = r->slots; k; k = k->all)
			beyond += k->n_above;
	}
	s->outlier_share = (double)beyond / (double)(s->n_elems - s->n_nonfinite);
	return st;
}
