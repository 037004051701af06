/* SPDX-License-Identifier: Apache-2.0
 * Weight statistics: accumulators, bit patterns, moments from sums of powers. */
#include "core/stats/private.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"

enum bk_dtype bl_stats_dtype(enum bl_dtype d) { return d == BL_BF16 ? BK_BF16 : d == BL_F16 ? BK_F16 : BK_F32; }

const void *bl_stats_tile(const struct run *r, const struct tile *t)
{
	const struct bl_member *m = &r->u->members[t->member];

	return (const char *)m->weight->data + (size_t)(t->row0 * m->cols) * (size_t)bl_dtype_bytes(m->weight->dtype);
}

/* The tile's rows as float32: in place, or converted into the slot. */
enum bl_status bl_stats_tile_f32(struct run *r, const struct tile *t, struct slot *s, const void **out, struct bl_err *err)
{
	enum bl_dtype d = r->u->members[t->member].weight->dtype;
	int64_t n = t->n * r->u->cols;

	*out = bl_stats_tile(r, t);
	if (d == BL_F32)
		return BL_OK;
	if (!s->rows32) {
		size_t cap = (size_t)(r->u->cols > TILE_ELEMS ? r->u->cols : TILE_ELEMS);
		enum bl_status st = bl_try_alloc(&s->rows32, cap, sizeof(float), "converted rows", err);

		if (st != BL_OK)
			return st;
	}
	(void)bl_cpu_ops()->load_rows(s->rows32, *out, bl_stats_dtype(d), n);
	*out = s->rows32;
	return BL_OK;
}

int64_t bl_stats_few_rows(const struct run *r)
{
	int64_t n = r->narrow && !bl_cpu_ops()->lists ? FEW_ELEMS / 4 : FEW_ELEMS;

	return r->u->cols < n ? n / r->u->cols : 1;
}

static enum bl_status fill_slot(const struct run *r, struct slot *s, struct bl_err *err)
{
	size_t cols = (size_t)r->u->cols, few = (size_t)bl_stats_few_rows(r) * cols;
	enum bl_status st;

	s->ends = (struct bk_extremes)BK_NO_EXTREMES;
	s->low = 0xffff;
	if (r->narrow) {
		st = bl_try_alloc(&s->counts, PATTERNS, sizeof(*s->counts), "a table of counts", err);
		if (st == BL_OK)
			st = bl_try_alloc(&s->list, few + BK_LIST_ROOM, sizeof(*s->list), "a list of weights", err);
		if (st == BL_OK)
			st = bl_try_alloc(&s->col16, cols, sizeof(*s->col16), "column maxima", err);
	} else {
		st = bl_try_alloc(&s->list32, few + BK_LIST_ROOM, sizeof(*s->list32), "a list of weights", err);
		if (st == BL_OK)
			st = bl_try_alloc(&s->col32, cols, sizeof(*s->col32), "column maxima", err);
	}
	return st;
}

/* A slot may stay out when its tile never came back, so slots are made as needed. */
enum bl_status bl_stats_borrow(struct run *r, struct slot **out, struct bl_err *err)
{
	struct slot *s;
	enum bl_status st = BL_OK;

	pthread_mutex_lock(&r->lock);
	s = r->idle;
	if (s)
		r->idle = s->next;
	pthread_mutex_unlock(&r->lock);
	if (!s) {
		st = bl_try_alloc(&s, 1, sizeof(*s), "an accumulator", err);
		if (st != BL_OK)
			return st;
		st = fill_slot(r, s, err);
		pthread_mutex_lock(&r->lock);
		s->all = r->slots;
		r->slots = s;
		pthread_mutex_unlock(&r->lock);
	}
	if (st == BL_OK)
		*out = s;
	return st;
}

/* Empties a slot's table into the totals: what lists can hold, on either side of the sign. */
void bl_stats_flush(struct run *r, struct slot *s)
{
	unsigned top = atomic_load(&r->top);

	for (int sign = 0; sign < PATTERNS; sign += PATTERNS / 2) {
		uint64_t *restrict t = r->totals + sign;
		uint32_t *restrict c = s->counts + sign;

		for (unsigned i = s->low; i <= top; i++) {
			t[i] += c[i];
			c[i] = 0;
		}
	}
	s->n_counted = 0;
}

void bl_stats_give_back(struct run *r, struct slot *s, uint64_t n_nonfinite)
{
	pthread_mutex_lock(&r->lock);
	if (s->n_counted >= FLUSH_AT)
		bl_stats_flush(r, s);
	r->n_nonfinite += n_nonfinite;
	s->next = r->idle;
	r->idle = s;
	pthread_mutex_unlock(&r->lock);
}

/* The smallest top with |w| < 2^top that kernels take. */
int bl_stats_top(float absmax)
{
	int e = TOP_MIN;

	if (absmax > 0)
		(void)frexpf(absmax, &e);
	return e > TOP_MIN ? e : TOP_MIN;
}

float bl_stats_value(const struct run *r, uint32_t bits)
{
	float f;

	if (r->dtype == BK_BF16)
		return bl_bf16_f32((uint16_t)bits);
	if (r->dtype == BK_F16)
		return bl_f16_f32((uint16_t)bits);
	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* The pattern of the largest value that is not above x >= 0. */
uint32_t bl_stats_bits_below(const struct run *r, double x)
{
	float f = (float)fmin(x, 3e38);
	uint32_t u;

	if ((double)f > x)
		f = nextafterf(f, 0);
	memcpy(&u, &f, sizeof(u));
	if (r->dtype == BK_F32)
		return u;
	if (r->dtype == BK_BF16)
		return u >> 16;
	u = bl_f32_f16(f);
	return u && bl_stats_value(r, u) > f ? u - 1 : u;
}

void bl_stats_set_ends(struct run *r)
{
	struct bl_weight_stats *s = r->s;
	const uint32_t sign = r->dtype == BK_F32 ? 0x80000000u : 0x8000u;
	struct bk_extremes e = BK_NO_EXTREMES;

	for (struct slot *k = r->slots; k; k = k->all) {
		e.hi = k->ends.hi > e.hi ? k->ends.hi : e.hi;
		e.lo = k->ends.lo > e.lo ? k->ends.lo : e.lo;
		e.least = k->ends.least < e.least ? k->ends.least : e.least;
	}
	s->max = e.hi >= 0 ? bl_stats_value(r, (uint32_t)e.hi) : -bl_stats_value(r, e.least);
	s->min = e.lo & sign ? bl_stats_value(r, e.lo) : bl_stats_value(r, e.least);
}

/* ---- moments ---- */

void bl_stats_set_kurtosis(struct bl_weight_stats *s, double var, double m4)
{
	s->kurtosis = var > 0 && var * var > 0 ? m4 / (var * var) : 0;
}

/* False: the mean is too far from zero for sums of powers. */
static bool set_moments(struct run *r)
{
	struct bl_weight_stats *s = r->s;
	double sum[4] = { 0 }, n = (double)(s->n_elems - s->n_nonfinite), mean, var, m4;

	for (size_t i = 0; i < r->n_tiles; i++)
		for (int k = 0; k < 4; k++)
			sum[k] += r->sums[i][k];
	s->mean = mean = sum[0] / n;
	s->rms = sqrt(sum[1] / n);
	var = sum[1] / n - mean * mean;
	m4 = sum[3] / n - mean * (4 * sum[2] / n - mean * (6 * sum[1] / n - 3 * mean * mean));
	bl_stats_set_kurtosis(s, var, m4);
	return mean * mean <= var / 16;
}

static enum bl_status central_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	const void *w;
	struct slot *s;
	enum bl_status st = bl_stats_borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	st = bl_stats_tile_f32(r, t, s, &w, err);
	if (st == BL_OK)
		bl_cpu_ops()->central(&r->central[item], w, t->n * r->u->cols, r->s->mean);
	bl_stats_give_back(r, s, 0);
	return st;
}

/* Twice: sums of float32 runs are not exact enough for a mean far from zero. */
static enum bl_status central_moments(struct run *r, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_weight_stats *s = r->s;
	double n = (double)(s->n_elems - s->n_nonfinite);
	enum bl_status st = bl_try_alloc(&r->central, r->n_tiles + 1, sizeof(*r->central), "partial sums", err);

	for (int pass = 0; st == BL_OK && pass < 2; pass++) {
		struct bk_central c = { .m1 = 0 };
		double var;

		memset(r->central, 0, r->n_tiles * sizeof(*r->central));
		st = bl_pool_run(pool, r->n_tiles, central_tile, r, cancel, err);
		for (size_t i = 0; st == BL_OK && i < r->n_tiles; i++) {
			c.m1 += r->central[i].m1;
			c.m2 += r->central[i].m2;
			c.m4 += r->central[i].m4;
		}
		var = c.m2 / n;
		if (pass == 0) {
			s->mean += c.m1 / n;
			s->rms = sqrt(s->mean * s->mean + fmax(var - c.m1 / n * (c.m1 / n), 0));
		}
		bl_stats_set_kurtosis(s, var, c.m4 / n);
	}
	return st;
}

enum bl_status bl_stats_moments(struct run *r, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_weight_stats *s = r->s;

	if (s->min < s->max)
		return set_moments(r) ? BL_OK : central_moments(r, pool, cancel, err);
	s->mean = (double)s->max;
	s->rms = fabs(s->mean);
	return BL_OK;
}
