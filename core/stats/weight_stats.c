/* SPDX-License-Identifier: Apache-2.0
 * Weight statistics of a unit. 16-bit weights need one pass over tiles. A tile is looked at a few rows at a time, while they are in the cache:
 * for maxima, and to count bit patterns; everything else is arithmetic over 65536 exact counts. Where the processor is better at it (lists of
 * kernels/ops.h) only what is at least a 32nd of the largest |w| so far is counted; the rest is in one of the two middle bins, whatever absmax
 * will be, and moments are sums of powers. float32 (or mixed) units need two passes, the second of which knows absmax.
 * Sums are kept per tile and added in tile order, all else is integers, so neither threads nor order can change a digit.
 * Rare units need more: where the mean is far from zero, moments are taken again around it; where signs are all the same, the least is looked
 * for; where outliers begin below a 32nd of absmax, they are counted. Workers borrow an accumulator for each tile. */
#include "core/stats/weight_stats.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/stats/private.h"

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
			const char *src = (const char *)bl_stats_tile(r, &r->tiles[t]) +
					  (size_t)(i * m->cols) * (size_t)bl_dtype_bytes(m->weight->dtype);

			if (!bl_cpu_ops()->load_rows(row, src, bl_stats_dtype(m->weight->dtype), m->cols))
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
	r->dtype = r->narrow && u->n_members ? bl_stats_dtype(u->members[0].weight->dtype) : BK_F32;
	if (u->n_members)
		r->inf = u->members[0].weight->dtype == BL_BF16 ? 0x7f80 : 0x7c00;
	r->octave = r->inf == 0x7f80 ? 1 << 7 : 1 << 10;
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
	}
	if (st == BL_OK)
		st = bl_try_alloc(&r->sums, r->n_tiles + 1, sizeof(*r->sums), "partial sums", err);
	return st;
}

static void release(struct run *r)
{
	while (r->slots) {
		struct slot *s = r->slots;

		r->slots = s->all;
		bl_free(s->counts);
		bl_free(s->list);
		bl_free(s->col16);
		bl_free(s->col32);
		bl_free(s->rows32);
		bl_free(s->list32);
		bl_free(s);
	}
	bl_free(r->tiles);
	bl_free(r->row16);
	bl_free(r->col16);
	bl_free(r->totals);
	bl_free(r->values);
	bl_free(r->sums);
	bl_free(r->central);
	pthread_mutex_destroy(&r->lock);
}

enum bl_status bl_weight_stats_run(struct bl_weight_stats **out, const struct bl_model *m, int unit, struct bl_pool *pool,
				   const atomic_int *cancel, struct bl_err *err)
{
	struct run r = { .u = &m->units[unit] };
	enum bl_status st = bl_try_alloc(&r.s, 1, sizeof(*r.s), "the statistics of a unit", err);

	if (st != BL_OK)
		return st;
	pthread_mutex_init(&r.lock, NULL);
	atomic_init(&r.top, 0);
	r.s->rows = r.u->rows;
	r.s->cols = r.u->cols;
	r.s->n_elems = (uint64_t)(r.u->rows * r.u->cols);
	st = prepare(&r, err);
	if (st == BL_OK)
		st = bl_pool_run(pool, r.n_tiles, r.narrow ? bl_stats_count_tile : bl_stats_first_tile, &r, cancel, err);
	if (st != BL_OK)
		goto done;
	st = r.narrow ? bl_stats_finish_narrow(&r, pool, cancel, err) : bl_stats_finish_wide(&r, pool, cancel, err);
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
