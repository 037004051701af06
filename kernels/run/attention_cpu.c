/* SPDX-License-Identifier: Apache-2.0
 * Attention, one head and a few queries of one sequence per item: scores of all keys that any of these queries sees, softmax in float32 around each
 * row's maximum, weights rounded to the storage type, times the values, divided by the sum at the end (as fused kernels on servers do).
 * Keys are packed into panels, values converted, once per call. A row's result depends on its own sequence only. */
#include <math.h>
#include <string.h>

#include "kernels/run/cpu.h"

#define QUERIES 48
#define SCORES ((int64_t)1 << 22) /* floats of one item's scores, at most, for sequences so long that 48 rows of them would be more */

struct attention {
	struct bk_run *r;
	const struct bk_mat *out, *q, *k, *v;
	const struct bk_attention *a;
	float *lse;             /* [rows, heads] or NULL */
	float *keys, *values;   /* keys: per sequence and head panels; values: per head rows */
	int64_t dim16;          /* head_dim, up to a multiple of 16 */
	int64_t rows16;         /* rows of k, each sequence up to a multiple of 16 */
	int64_t queries, span;  /* of one item; floats of a row of scores */
	int32_t *start16;       /* [n + 1] first padded row of each sequence */
	int32_t *first_item;    /* [n + 1] first item of each sequence, for one head */
};

static int find_sequence(const int32_t *start, int n, int64_t x)
{
	int lo = 0, hi = n;

	while (hi - lo > 1) {
		int mid = lo + (hi - lo) / 2;

		if (start[mid] <= x)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

/* item: 16 padded rows of k and v, all heads */
static void prepare_item(void *arg, size_t item)
{
	struct attention *w = arg;
	const struct bk_rows *rows = w->r->rows;
	const struct bk_sequences *seq = &w->a->seq;
	int64_t at = (int64_t)item * BK_PANEL, d = w->a->head_dim;
	int s = find_sequence(w->start16, seq->n, at);
	int64_t first = seq->kv_start[s] + (at - w->start16[s]), n = bk_min(BK_PANEL, seq->kv_start[s + 1] - first);
	struct bk_desk *desk = bk_desk_take(w->r);

	for (int h = 0; h < w->a->kv_heads; h++) {
		float *key = w->keys + h * w->rows16 * d + at * d, *value = w->values + (h * w->rows16 + at) * w->dim16;

		for (int64_t i = 0; i < n; i++)
			rows->load(desk->p + i * d, bk_at(w->k, first + i, h * d), w->k->dtype, d);
		bk_tile_pack(key, desk->p, n, d, d);
		memset(value, 0, (size_t)(BK_PANEL * w->dim16) * sizeof(float));
		for (int64_t i = 0; i < n; i++)
			rows->load(value + i * w->dim16, bk_at(w->v, first + i, h * d), w->v->dtype, d);
	}
	bk_desk_give(desk);
}

struct span { int64_t first, n; }; /* keys */

/* Keys that query t of its sequence sees. */
static struct span sees(const struct attention *w, int64_t n_q, int64_t n_kv, int64_t t)
{
	int64_t at = n_kv - n_q + t, lo = w->a->window ? bk_max(0, at - w->a->window + 1) : 0;

	return (struct span){ lo, bk_max(0, at + 1 - lo) };
}

static void attend(struct attention *w, int s, int h, int64_t t0, int64_t n, float *desk)
{
	const struct bk_attention *a = w->a;
	const struct bk_rows *rows = w->r->rows;
	int64_t d = a->head_dim, q0 = a->seq.q_start[s], n_q = a->seq.q_start[s + 1] - q0, n_kv = a->seq.kv_start[s + 1] - a->seq.kv_start[s];
	int64_t kv = h / (a->heads / a->kv_heads), lo = sees(w, n_q, n_kv, t0).first / BK_PANEL * BK_PANEL;
	struct span last = sees(w, n_q, n_kv, t0 + n - 1);
	int64_t keys = last.first + last.n - lo;
	float *q = desk, *score = q + QUERIES * (d + 16), *o = score + w->queries * w->span, sum[QUERIES], top;

	for (int64_t i = 0; i < n; i++) {
		rows->load(q + i * (d + 16), bk_at(w->q, q0 + t0 + i, h * d), w->q->dtype, d);
		rows->scale(q + i * (d + 16), (float)a->scale, d);
	}
	w->r->tile(&(struct bk_tile){ .a = q, .b = w->keys + kv * w->rows16 * d + (w->start16[s] + lo) * d, .c = score, .m = n, .n = keys, .k = d,
				      .lda = d + 16, .panel = BK_PANEL * d, .step = BK_PANEL, .ldc = w->span });
	for (int64_t i = 0; i < n; i++) {
		float *p = score + i * w->span;
		struct span see = sees(w, n_q, n_kv, t0 + i);
		float *x = p + (see.first - lo);

		if (a->softcap > 0)
			rows->softcap(x, (float)a->softcap, see.n);
		top = rows->maximum(x, see.n);
		sum[i] = rows->weights(x, top, see.n, w->out->dtype == BK_BF16);
		if (w->lse)
			w->lse[(q0 + t0 + i) * a->heads + h] = top + logf(sum[i]);
		memset(p, 0, (size_t)(x - p) * sizeof(float));
		memset(x + see.n, 0, (size_t)(keys - (see.first - lo) - see.n) * sizeof(float));
	}
	w->r->tile(&(struct bk_tile){ .a = score, .b = w->values + (kv * w->rows16 + w->start16[s] + lo) * w->dim16, .c = o, .m = n, .n = d, .k = keys,
				      .lda = w->span, .panel = BK_PANEL, .step = w->dim16, .ldc = w->dim16 });
	for (int64_t i = 0; i < n; i++) {
		rows->scale(o + i * w->dim16, 1.0f / sum[i], d);
		rows->store(bk_at(w->out, q0 + t0 + i, h * d), w->out->dtype, o + i * w->dim16, d);
	}
}

static void attend_item(void *arg, size_t item)
{
	struct attention *w = arg;
	const struct bk_sequences *seq = &w->a->seq;
	int h = (int)(item % (size_t)w->a->heads);
	int64_t at = (int64_t)(item / (size_t)w->a->heads);
	int s = find_sequence(w->first_item, seq->n, at);
	int64_t t = (at - w->first_item[s]) * w->queries, n_q = seq->q_start[s + 1] - seq->q_start[s];
	struct bk_desk *d = bk_desk_take(w->r);

	attend(w, s, h, t, bk_min(w->queries, n_q - t), d->p);
	bk_desk_give(d);
}

/* One query per sequence (decoding): dot products over k and v as they lie, no packing. */
static void decode_item(void *arg, size_t item)
{
	struct attention *w = arg;
	const struct bk_attention *a = w->a;
	const struct bk_rows *rows = w->r->rows;
	int h = (int)(item % (size_t)a->heads), s = (int)(item / (size_t)a->heads);
	int64_t d = a->head_dim, n_kv = a->seq.kv_start[s + 1] - a->seq.kv_start[s], kv = h / (a->heads / a->kv_heads) * d;
	struct span see = sees(w, 1, n_kv, 0);
	int64_t first = a->seq.kv_start[s] + see.first;
	struct bk_desk *desk = bk_desk_take(w->r);
	float *q = desk->p, *o = q + d, *v = o + d, *x = v + d, sum, top;

	rows->load(q, bk_at(w->q, a->seq.q_start[s], h * d), w->q->dtype, d);
	for (int64_t j = 0; j < see.n; j++)
		x[j] = rows->dot(q, bk_at(w->k, first + j, kv), w->k->dtype, d);
	rows->scale(x, (float)a->scale, see.n);
	if (a->softcap > 0)
		rows->softcap(x, (float)a->softcap, see.n);
	top = rows->maximum(x, see.n);
	sum = rows->weights(x, top, see.n, w->out->dtype == BK_BF16);
	if (w->lse)
		w->lse[(int64_t)a->seq.q_start[s] * a->heads + h] = top + logf(sum);
	memset(o, 0, (size_t)d * sizeof(*o));
	for (int64_t j = 0; j < see.n; j++) {
		rows->load(v, bk_at(w->v, first + j, kv), w->v->dtype, d);
		rows->scale(v, x[j], d);
		rows->add(o, v, d);
	}
	rows->scale(o, 1.0f / sum, d);
	rows->store(bk_at(w->out, a->seq.q_start[s], h * d), w->out->dtype, o, d);
	bk_desk_give(desk);
}

static int check(const struct attention *w, int *only_decoding)
{
	const struct bk_attention *a = w->a;
	const struct bk_sequences *s = &a->seq;

	if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads || a->head_dim < 1 || w->q->cols != (int64_t)a->heads * a->head_dim ||
	    !bk_same_shape(w->out, w->q) || w->k->cols != (int64_t)a->kv_heads * a->head_dim || !bk_same_shape(w->k, w->v) || s->n < 0 ||
	    !bk_is_float(w->q->dtype) || !bk_is_float(w->k->dtype) || !bk_is_float(w->v->dtype) || !bk_is_float(w->out->dtype) ||
	    !bk_shaped(w->q) || !bk_shaped(w->k) || !bk_shaped(w->v) || !bk_shaped(w->out) || a->window < 0)
		return BK_RUN_REFUSED;
	*only_decoding = 1;
	for (int i = 0; i < s->n; i++) {
		int64_t n_q = s->q_start[i + 1] - (int64_t)s->q_start[i], n_kv = s->kv_start[i + 1] - (int64_t)s->kv_start[i];

		if (n_q < 0 || n_kv < n_q || s->q_start[i] < 0 || s->kv_start[i] < 0 || s->q_start[i + 1] > w->q->rows || s->kv_start[i + 1] > w->k->rows)
			return BK_RUN_REFUSED;
		*only_decoding = *only_decoding && n_q == 1;
	}
	return 0;
}

static int prepare(struct attention *w)
{
	const struct bk_sequences *s = &w->a->seq;
	int64_t d = w->a->head_dim, longest = 0, rows = 0, items = 0;

	w->start16 = (int32_t *)(void *)bk_shared(w->r, 2, 2 * ((size_t)s->n + 1));
	if (!w->start16)
		return BK_RUN_NO_MEMORY;
	w->first_item = w->start16 + s->n + 1;
	for (int i = 0; i < s->n; i++)
		longest = bk_max(longest, s->kv_start[i + 1] - s->kv_start[i]);
	w->span = bk_cut(longest, BK_PANEL) * BK_PANEL + BK_PANEL;
	w->queries = bk_max(1, bk_min(QUERIES, SCORES / w->span));
	for (int i = 0; i <= s->n; i++) {
		w->start16[i] = (int32_t)rows;
		w->first_item[i] = (int32_t)items;
		if (i == s->n)
			break;
		rows += bk_cut(s->kv_start[i + 1] - s->kv_start[i], BK_PANEL) * BK_PANEL;
		items += bk_cut(s->q_start[i + 1] - s->q_start[i], w->queries);
		if (rows > INT32_MAX / 2 || items > INT32_MAX / 2)
			return BK_RUN_REFUSED;
	}
	w->rows16 = rows;
	w->dim16 = bk_cut(d, BK_PANEL) * BK_PANEL;
	w->keys = bk_shared(w->r, 0, (size_t)(rows * d * w->a->kv_heads));
	w->values = bk_shared(w->r, 1, (size_t)(rows * w->dim16 * w->a->kv_heads));
	if (!w->keys || !w->values || bk_desks_need(w->r, (size_t)(QUERIES * (d + 16 + w->dim16) + w->queries * w->span + BK_PANEL * d)))
		return BK_RUN_NO_MEMORY;
	return 0;
}

BK_OP(attention_lse, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
      const struct bk_attention *a)
{
	struct attention w = { .r = r, .out = out, .q = q, .k = k, .v = v, .a = a, .lse = lse };
	int decoding = 0, error = check(&w, &decoding);

	if (error || !a->seq.n)
		return error;
	if (decoding) {
		if (bk_desks_need(r, (size_t)(3 * (int64_t)a->head_dim + k->rows)))
			return BK_RUN_NO_MEMORY;
		bk_each(r, (size_t)a->seq.n * (size_t)a->heads, decode_item, &w);
		return 0;
	}
	error = prepare(&w);
	if (error)
		return error;
	bk_each(r, (size_t)(w.rows16 / BK_PANEL), prepare_item, &w);
	bk_each(r, (size_t)w.first_item[a->seq.n] * (size_t)a->heads, attend_item, &w);
	return 0;
}

BK_OP(attention, const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v, const struct bk_attention *a)
{
	return bk_cpu_attention_lse(r, out, NULL, q, k, v, a);
}
