/* SPDX-License-Identifier: Apache-2.0
 * Weight statistics of a unit. 16-bit weights need one pass: each worker counts how often every bit pattern occurs, the tables are added,
 * and everything else is arithmetic over 65536 exact counts, so neither threads nor order can change a digit. float32 (or mixed) units
 * need two passes whose partial sums are kept per tile and added in tile order. Workers borrow an accumulator for each tile. */
#include "core/stats/weight_stats.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/base/half.h"
#include "core/base/mem.h"

#define TILE_ELEMS (1 << 17)
#define PATTERNS   65536
#define FLUSH_AT   (1u << 31) /* elements in a 32-bit table before it is emptied into the 64-bit one */
#define OUTLIER_RMS 6.0

struct tile { int member; int64_t row0, n, at; }; /* at: row within the unit */

struct slot { /* accumulators that one tile at a time has for itself */
	struct slot *next, *all;
	uint32_t *counts;      /* 16-bit path */
	uint16_t span[2];      /* of patterns without sign, as count16 leaves it */
	uint64_t n_counted;
	uint16_t *col16;
	float *col32, *rows32; /* float32 path; rows32: converted rows of a 16-bit member */
	uint64_t bins[BL_STATS_BINS];
};

struct run {
	const struct bl_unit *u;
	struct bl_weight_stats *s;
	struct tile *tiles;
	size_t n_tiles;
	bool narrow;           /* all members share one 16-bit type */
	uint16_t inf;
	uint16_t *row16, *col16; /* [rows], [cols] */
	uint64_t *totals;      /* [PATTERNS] */
	uint16_t span[2];
	struct bk_pass32 *first;
	struct bk_pass32_central *second;
	pthread_mutex_t lock;
	struct slot *idle, *slots;
	uint64_t n_nonfinite;
};

static enum bk_dtype kernel_dtype(enum bl_dtype d) { return d == BL_BF16 ? BK_BF16 : d == BL_F16 ? BK_F16 : BK_F32; }

static const void *tile_data(const struct run *r, const struct tile *t)
{
	const struct bl_member *m = &r->u->members[t->member];

	return (const char *)m->weight->data + (size_t)(t->row0 * m->cols) * (size_t)bl_dtype_bytes(m->weight->dtype);
}

/* Also called for a tile after another failed: a slot may stay out when its tile never came back, so slots are made as needed. */
static enum bl_status borrow(struct run *r, struct slot **out, struct bl_err *err)
{
	struct slot *s;
	size_t cols = (size_t)r->u->cols;
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
		s->span[0] = 0xffff;
		if (r->narrow) {
			st = bl_try_alloc(&s->counts, PATTERNS, sizeof(*s->counts), "a table of counts", err);
			if (st == BL_OK)
				st = bl_try_alloc(&s->col16, cols, sizeof(*s->col16), "column maxima", err);
		} else {
			st = bl_try_alloc(&s->col32, cols, sizeof(*s->col32), "column maxima", err);
		}
		pthread_mutex_lock(&r->lock);
		s->all = r->slots;
		r->slots = s;
		pthread_mutex_unlock(&r->lock);
	}
	if (st == BL_OK)
		*out = s;
	return st;
}

/* Empties a slot's table into the totals: both zeros, and the span on either side of the sign. */
static void flush(struct run *r, struct slot *s)
{
	for (int sign = 0; sign < PATTERNS; sign += PATTERNS / 2) {
		uint64_t *restrict t = r->totals + sign;
		uint32_t *restrict c = s->counts + sign;

		t[0] += c[0];
		c[0] = 0;
		for (int i = s->span[0]; i <= s->span[1]; i++) {
			t[i] += c[i];
			c[i] = 0;
		}
	}
	r->span[0] = s->span[0] < r->span[0] ? s->span[0] : r->span[0];
	r->span[1] = s->span[1] > r->span[1] ? s->span[1] : r->span[1];
	s->n_counted = 0;
}

static void give_back(struct run *r, struct slot *s, uint64_t n_nonfinite)
{
	pthread_mutex_lock(&r->lock);
	if (s->n_counted >= FLUSH_AT)
		flush(r, s);
	r->n_nonfinite += n_nonfinite;
	s->next = r->idle;
	r->idle = s;
	pthread_mutex_unlock(&r->lock);
}

static enum bl_status count_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	struct slot *s;
	uint64_t odd;
	enum bl_status st = borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	odd = bl_cpu_ops()->count16(s->counts, s->span, r->row16 + t->at, s->col16, tile_data(r, t), t->n, r->u->cols, r->inf);
	s->n_counted += (uint64_t)(t->n * r->u->cols);
	give_back(r, s, odd);
	return BL_OK;
}

/* The tile's rows as float32: in place, or converted into the slot. */
static enum bl_status tile_f32(struct run *r, const struct tile *t, struct slot *s, const void **out, struct bl_err *err)
{
	enum bl_dtype d = r->u->members[t->member].weight->dtype;
	int64_t n = t->n * r->u->cols;

	*out = tile_data(r, t);
	if (d == BL_F32)
		return BL_OK;
	if (!s->rows32) {
		size_t cap = (size_t)(r->u->cols > TILE_ELEMS ? r->u->cols : TILE_ELEMS);
		enum bl_status st = bl_try_alloc(&s->rows32, cap, sizeof(float), "converted rows", err);

		if (st != BL_OK)
			return st;
	}
	(void)bl_cpu_ops()->load_rows(s->rows32, *out, kernel_dtype(d), n);
	*out = s->rows32;
	return BL_OK;
}

static enum bl_status first_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	const void *w;
	struct slot *s;
	enum bl_status st = borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	st = tile_f32(r, t, s, &w, err);
	if (st == BL_OK) {
		r->first[item] = (struct bk_pass32){ .min = INFINITY, .max = -INFINITY };
		bl_cpu_ops()->pass32(&r->first[item], r->s->row_absmax + t->at, s->col32, w, t->n, r->u->cols);
	}
	give_back(r, s, 0);
	return st;
}

static enum bl_status second_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	const struct tile *t = &r->tiles[item];
	const void *w;
	struct slot *s;
	enum bl_status st = borrow(r, &s, err);

	if (st != BL_OK)
		return st;
	st = tile_f32(r, t, s, &w, err);
	if (st == BL_OK)
		bl_cpu_ops()->pass32_central(&r->second[item], s->bins, BL_STATS_BINS, w, t->n * r->u->cols, r->s->mean,
					     OUTLIER_RMS * r->s->rms, r->s->absmax);
	give_back(r, s, 0);
	return st;
}

static void set_kurtosis(struct bl_weight_stats *s, double m2, double m4, double n)
{
	double var = m2 / n;

	s->kurtosis = var > 0 && var * var > 0 ? m4 / n / (var * var) : 0;
}

static float pattern_value(const struct run *r, int pattern)
{
	return r->inf == 0x7f80 ? bl_bf16_f32((uint16_t)pattern) : bl_f16_f32((uint16_t)pattern);
}

struct value { double v, n; }; /* a finite value and how often it occurs */

/* The finite values that occur, in the order of their patterns, into list (NULL: only counted). */
static size_t occurring(const struct run *r, struct value *list)
{
	size_t n = 0;
	int first = r->span[0] < r->inf ? r->span[0] : r->inf, last = r->span[1] < r->inf ? r->span[1] : r->inf - 1;

	for (int sign = 0; sign < PATTERNS; sign += PATTERNS / 2)
		for (int i = 0; i <= last; i = i ? i + 1 : first) {
			if (!r->totals[sign + i])
				continue;
			if (list)
				list[n] = (struct value){ pattern_value(r, sign + i), (double)r->totals[sign + i] };
			n++;
		}
	return n;
}

/* Everything that follows from the counts. */
static enum bl_status finish_narrow(struct run *r, struct bl_err *err)
{
	struct bl_weight_stats *s = r->s;
	double n = 0, sum = 0, sum2 = 0, m2 = 0, m4 = 0, beyond = 0;
	size_t n_values;
	struct value *list;
	enum bl_status st;

	for (struct slot *k = r->slots; k; k = k->all) {
		flush(r, k);
		for (int64_t c = 0; c < s->cols; c++) /* patterns without sign are ordered like their values */
			r->col16[c] = k->col16[c] > r->col16[c] ? k->col16[c] : r->col16[c];
	}
	for (int64_t c = 0; c < s->cols; c++)
		s->col_absmax[c] = pattern_value(r, r->col16[c]);
	for (int64_t i = 0; i < s->rows; i++)
		s->row_absmax[i] = pattern_value(r, r->row16[i]);
	s->n_nonfinite = r->n_nonfinite;
	n_values = occurring(r, NULL);
	if (n_values == 0)
		return BL_OK;
	st = bl_try_alloc(&list, n_values, sizeof(*list), "a table of values", err);
	if (st != BL_OK)
		return st;
	(void)occurring(r, list);
	s->min = INFINITY;
	s->max = -INFINITY;
	for (size_t i = 0; i < n_values; i++) {
		n += list[i].n;
		sum += list[i].n * list[i].v;
		sum2 += list[i].n * list[i].v * list[i].v;
		s->min = (float)list[i].v < s->min ? (float)list[i].v : s->min;
		s->max = (float)list[i].v > s->max ? (float)list[i].v : s->max;
	}
	s->mean = sum / n;
	s->rms = sqrt(sum2 / n);
	s->absmax = fmaxf(-s->min, s->max);
	for (size_t i = 0; i < n_values; i++) {
		double d = list[i].v - s->mean, q = d * d;

		m2 += list[i].n * q;
		m4 += list[i].n * q * q;
		beyond += fabs(list[i].v) > OUTLIER_RMS * s->rms ? list[i].n : 0;
		s->histogram[bk_bin(list[i].v, s->absmax, BL_STATS_BINS)] += (uint64_t)list[i].n;
	}
	set_kurtosis(s, m2, m4, n);
	s->outlier_share = beyond / n;
	bl_free(list);
	return BL_OK;
}

/* After pass 1; false when there is nothing finite to go on with. */
static bool finish_first(struct run *r, double *n)
{
	struct bl_weight_stats *s = r->s;
	double sum = 0, sum2 = 0;

	s->min = INFINITY;
	s->max = -INFINITY;
	for (size_t i = 0; i < r->n_tiles; i++) {
		sum += r->first[i].sum;
		sum2 += r->first[i].sum2;
		s->n_nonfinite += r->first[i].n_nonfinite;
		s->min = fminf(s->min, r->first[i].min);
		s->max = fmaxf(s->max, r->first[i].max);
	}
	for (struct slot *k = r->slots; k; k = k->all)
		for (int64_t c = 0; c < s->cols; c++)
			s->col_absmax[c] = fmaxf(s->col_absmax[c], k->col32[c]);
	*n = (double)(s->n_elems - s->n_nonfinite);
	if (s->n_elems == s->n_nonfinite) {
		s->min = s->max = 0;
		return false;
	}
	s->mean = sum / *n;
	s->rms = sqrt(sum2 / *n);
	s->absmax = fmaxf(-s->min, s->max);
	return true;
}

static void finish_second(struct run *r, double n)
{
	double m2 = 0, m4 = 0;
	uint64_t beyond = 0;

	for (size_t i = 0; i < r->n_tiles; i++) {
		m2 += r->second[i].m2;
		m4 += r->second[i].m4;
		beyond += r->second[i].n_outliers;
	}
	for (struct slot *k = r->slots; k; k = k->all)
		for (int b = 0; b < BL_STATS_BINS; b++)
			r->s->histogram[b] += k->bins[b];
	set_kurtosis(r->s, m2, m4, n);
	r->s->outlier_share = (double)beyond / n;
}

/* Where the first non-finite elements are, in file order. One item of a pool run, so that a vanishing file is an error here too. */
static enum bl_status locate(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	struct bl_weight_stats *s = r->s;
	const int room = (int)(sizeof(s->first_nonfinite) / sizeof(*s->first_nonfinite));
	float *row;
	enum bl_status st = bl_try_alloc(&row, (size_t)s->cols, sizeof(*row), "a row", err);

	(void)item;
	for (size_t t = 0; st == BL_OK && t < r->n_tiles && s->n_first < room; t++) {
		const struct bl_member *m = &r->u->members[r->tiles[t].member];

		for (int64_t i = 0; i < r->tiles[t].n && s->n_first < room; i++) {
			const char *src = (const char *)tile_data(r, &r->tiles[t]) +
					  (size_t)(i * m->cols) * (size_t)bl_dtype_bytes(m->weight->dtype);

			if (!bl_cpu_ops()->load_rows(row, src, kernel_dtype(m->weight->dtype), m->cols))
				continue;
			for (int64_t c = 0; c < m->cols && s->n_first < room; c++)
				if (!isfinite(row[c]))
					s->first_nonfinite[s->n_first++] = (struct bl_nonfinite){
						.tensor = bl_xstrdup(m->weight->name), .row = r->tiles[t].row0 + i, .col = c, .value = row[c]
					};
		}
	}
	bl_free(row);
	return st;
}

/* The k-th smallest of v[0..n-1] comes to v[k], no larger ones before it. Sorting all channels took a twentieth of the time of everything. */
static float select_nth(float *v, int64_t n, int64_t k)
{
	int64_t from = 0, to = n - 1;

	while (from < to) {
		float pivot = v[from + (to - from) / 2];
		int64_t i = from, j = to;

		while (i <= j) {
			while (v[i] < pivot)
				i++;
			while (pivot < v[j])
				j--;
			if (i <= j) {
				float t = v[i];

				v[i++] = v[j];
				v[j--] = t;
			}
		}
		if (k <= j)
			to = j;
		else if (k >= i)
			from = i;
		else
			break;
	}
	return v[k];
}

static enum bl_status channel_spread(struct bl_weight_stats *s, struct bl_err *err)
{
	float *v, below;
	enum bl_status st;

	if (!s->rows)
		return BL_OK;
	st = bl_try_alloc(&v, (size_t)s->rows, sizeof(*v), "channel ranges", err);
	if (st != BL_OK)
		return st;
	memcpy(v, s->row_absmax, (size_t)s->rows * sizeof(*v));
	s->channel.median = select_nth(v, s->rows, s->rows / 2);
	below = v[0];
	for (int64_t i = 1; i < s->rows / 2; i++)
		below = v[i] > below ? v[i] : below;
	if (s->rows % 2 == 0)
		s->channel.median = (below + s->channel.median) / 2;
	s->channel.min = s->channel.max = v[0];
	for (int64_t i = 1; i < s->rows; i++) {
		s->channel.min = v[i] < s->channel.min ? v[i] : s->channel.min;
		s->channel.max = v[i] > s->channel.max ? v[i] : s->channel.max;
	}
	bl_free(v);
	return BL_OK;
}

/* Checks the members and cuts them into tiles. */
static enum bl_status prepare(struct run *r, struct bl_err *err)
{
	const struct bl_unit *u = r->u;
	int64_t rows_per_tile = u->cols > 0 && u->cols < TILE_ELEMS ? TILE_ELEMS / u->cols : 1, at = 0;
	size_t cap = 0;
	enum bl_status st;

	r->narrow = true;
	for (int i = 0; i < u->n_members; i++) {
		const struct bl_member *m = &u->members[i];

		if (!m->weight)
			return bl_fail(err, BL_UNSUPPORTED, "%s: already quantized, there are no weights to look at", m->name);
		if (m->weight->dtype != BL_BF16 && m->weight->dtype != BL_F16 && m->weight->dtype != BL_F32)
			return bl_fail(err, BL_UNSUPPORTED, "%s: statistics need BF16, F16 or F32", m->weight->name);
		r->narrow = r->narrow && m->weight->dtype != BL_F32 && m->weight->dtype == u->members[0].weight->dtype;
		cap += (size_t)(m->rows / rows_per_tile + 1);
	}
	if (u->n_members)
		r->inf = u->members[0].weight->dtype == BL_BF16 ? 0x7f80 : 0x7c00;
	st = bl_try_alloc(&r->tiles, cap + 1, sizeof(*r->tiles), "the tiles of a unit", err);
	if (st != BL_OK)
		return st;
	for (int i = 0; i < u->n_members && u->cols; i++)
		for (int64_t row = 0; row < u->members[i].rows; row += rows_per_tile) {
			int64_t left = u->members[i].rows - row, n = left < rows_per_tile ? left : rows_per_tile;

			r->tiles[r->n_tiles++] = (struct tile){ .member = i, .row0 = row, .n = n, .at = at };
			at += n;
		}
	st = bl_try_alloc(&r->s->row_absmax, (size_t)u->rows + 1, sizeof(float), "row maxima", err);
	if (st == BL_OK)
		st = bl_try_alloc(&r->s->col_absmax, (size_t)u->cols + 1, sizeof(float), "column maxima", err);
	if (st == BL_OK && r->narrow) {
		st = bl_try_alloc(&r->row16, (size_t)u->rows + 1, sizeof(*r->row16), "row maxima", err);
		if (st == BL_OK)
			st = bl_try_alloc(&r->col16, (size_t)u->cols + 1, sizeof(*r->col16), "column maxima", err);
		if (st == BL_OK)
			st = bl_try_alloc(&r->totals, PATTERNS, sizeof(*r->totals), "a table of counts", err);
	} else if (st == BL_OK) {
		st = bl_try_alloc(&r->first, r->n_tiles + 1, sizeof(*r->first), "partial sums", err);
		if (st == BL_OK)
			st = bl_try_alloc(&r->second, r->n_tiles + 1, sizeof(*r->second), "partial sums", err);
	}
	return st;
}

static void release(struct run *r)
{
	while (r->slots) {
		struct slot *s = r->slots;

		r->slots = s->all;
		bl_free(s->counts);
		bl_free(s->col16);
		bl_free(s->col32);
		bl_free(s->rows32);
		bl_free(s);
	}
	bl_free(r->tiles);
	bl_free(r->row16);
	bl_free(r->col16);
	bl_free(r->totals);
	bl_free(r->first);
	bl_free(r->second);
	pthread_mutex_destroy(&r->lock);
}

enum bl_status bl_weight_stats_run(struct bl_weight_stats **out, const struct bl_model *m, int unit, struct bl_pool *pool,
				   const atomic_int *cancel, struct bl_err *err)
{
	struct run r = { .u = &m->units[unit], .span = { 0xffff, 0 } };
	double n = 0;
	enum bl_status st = bl_try_alloc(&r.s, 1, sizeof(*r.s), "the statistics of a unit", err);

	if (st != BL_OK)
		return st;
	pthread_mutex_init(&r.lock, NULL);
	r.s->rows = r.u->rows;
	r.s->cols = r.u->cols;
	r.s->n_elems = (uint64_t)(r.u->rows * r.u->cols);
	st = prepare(&r, err);
	if (st == BL_OK)
		st = bl_pool_run(pool, r.n_tiles, r.narrow ? count_tile : first_tile, &r, cancel, err);
	if (st != BL_OK)
		goto done;
	if (r.narrow) {
		st = finish_narrow(&r, err);
	} else if (finish_first(&r, &n)) {
		st = bl_pool_run(pool, r.n_tiles, second_tile, &r, cancel, err);
		if (st == BL_OK)
			finish_second(&r, n);
	}
	if (st == BL_OK && r.s->n_nonfinite)
		st = bl_pool_run(pool, 1, locate, &r, cancel, err);
	if (st == BL_OK)
		st = channel_spread(r.s, err);
done:
	release(&r);
	if (st != BL_OK) {
		bl_weight_stats_free(r.s);
		return st;
	}
	*out = r.s;
	return BL_OK;
}

struct each {
	const struct bl_model *m;
	const int *units;
	struct bl_pool *pool;
	const atomic_int *cancel;
	bl_weight_stats_done *done;
	void *ctx;
};

static enum bl_status each_unit(void *ctx, size_t item, struct bl_err *err)
{
	const struct each *e = ctx;
	struct bl_weight_stats *s = NULL;
	struct bl_err own = BL_ERR_INIT;
	enum bl_status st = bl_weight_stats_run(&s, e->m, e->units[item], e->pool, e->cancel, &own);

	if (st == BL_CANCELLED) {
		*err = own;
		return st;
	}
	e->done(e->ctx, e->units[item], s, st == BL_OK ? NULL : &own);
	return BL_OK;
}

enum bl_status bl_weight_stats_each(const struct bl_model *m, const int *units, size_t n, struct bl_pool *pool, bl_weight_stats_done *done,
				    void *ctx, const atomic_int *cancel, struct bl_err *err)
{
	struct each e = { .m = m, .units = units, .pool = pool, .cancel = cancel, .done = done, .ctx = ctx };

	return bl_pool_run(pool, n, each_unit, &e, cancel, err);
}

void bl_weight_stats_free(struct bl_weight_stats *s)
{
	if (!s)
		return;
	for (int i = 0; i < s->n_first; i++)
		bl_free(s->first_nonfinite[i].tensor);
	bl_free(s->row_absmax);
	bl_free(s->col_absmax);
	bl_free(s);
}
