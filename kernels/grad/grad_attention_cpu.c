/* SPDX-License-Identifier: Apache-2.0
 * Attention's backward on the CPU: an item is one key/value head of one sequence, so that sums over its query heads have one place and one order. Per
 * block of queries: scores again, their weights from the log-sum-exp, and four small products. */
#include <cblas.h>
#include <string.h>

#include "kernels/grad/grad_cpu.h"

#define QUERIES 64

struct back {
	struct bk_run *r;
	const struct bk_grad_rows *rows;
	const struct bk_mat *dq, *dk, *dv, *q, *k, *v, *out, *dout;
	const float *lse;
	const struct bk_attention *a;
};

static void load(const struct back *b, float *to, const struct bk_mat *m, int64_t row, int64_t n, int64_t col)
{
	for (int64_t i = 0; i < n; i++)
		b->r->rows->load(to + i * b->a->head_dim, bk_at(m, row + i, col), m->dtype, b->a->head_dim);
}

static void store(const struct back *b, const struct bk_mat *m, int64_t row, int64_t n, int64_t col, const float *from)
{
	for (int64_t i = 0; i < n; i++)
		b->r->rows->store(bk_at(m, row + i, col), m->dtype, from + i * b->a->head_dim, b->a->head_dim);
}

/* c [m, n] = alpha op(a) op(b) + beta c; k: what is summed over */
static void product(float *c, int64_t ldc, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int ta, int64_t lda, const float *b, int tb,
		    int64_t ldb, float beta)
{
	cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha, a,
		    (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

struct floats {
	float *k, *v, *dk, *dv, *q, *out, *dout, *s, *dp;
}; /* keys [n_kv, d], queries [QUERIES, d], scores [QUERIES, n_kv] */

/* Queries t .. t + n of sequence s, head h: dq, and what they add to dk and dv. */
static void block(const struct back *b, const struct floats *f, int s, int h, int64_t t, int64_t n)
{
	const struct bk_attention *a = b->a;
	const int64_t d = a->head_dim, q0 = a->seq.q_start[s], n_kv = a->seq.kv_start[s + 1] - a->seq.kv_start[s],
		      off = n_kv - (a->seq.q_start[s + 1] - q0);
	const int64_t lo = a->window ? bk_max(0, off + t - a->window + 1) : 0, keys = off + t + n - lo;

	load(b, f->q, b->q, q0 + t, n, h * d);
	load(b, f->out, b->out, q0 + t, n, h * d);
	load(b, f->dout, b->dout, q0 + t, n, h * d);
	product(f->s, keys, n, keys, d, (float)a->scale, f->q, 0, d, f->k + lo * d, 1, d, 0);
	product(f->dp, keys, n, keys, d, 1, f->dout, 0, d, f->v + lo * d, 1, d, 0);
	for (int64_t i = 0; i < n; i++) {
		const int64_t at = off + t + i, first = a->window ? bk_max(0, at - a->window + 1) - lo : 0, see = at + 1 - lo - first;
		float *p = f->s + i * keys, *dp = f->dp + i * keys;
		const float delta = b->r->rows->dot(f->dout + i * d, f->out + i * d, BK_F32, d);

		if (a->softcap > 0)
			b->r->rows->softcap(p + first, (float)a->softcap, see);
		b->rows->score_back(p + first, dp + first, p + first, b->lse[(q0 + t + i) * a->heads + h], delta, (float)a->scale, (float)a->softcap,
				    see);
		memset(p, 0, (size_t)first * sizeof(*p));
		memset(dp, 0, (size_t)first * sizeof(*p));
		memset(p + first + see, 0, (size_t)(keys - first - see) * sizeof(*p));
		memset(dp + first + see, 0, (size_t)(keys - first - see) * sizeof(*p));
	}
	product(f->dv + lo * d, d, keys, d, n, 1, f->s, 1, keys, f->dout, 0, d, 1);
	product(f->dk + lo * d, d, keys, d, n, 1, f->dp, 1, keys, f->q, 0, d, 1);
	product(f->out, d, n, d, keys, 1, f->dp, 0, keys, f->k + lo * d, 0, d, 0);
	store(b, b->dq, q0 + t, n, h * d, f->out);
}

static void back_item(void *arg, size_t item)
{
	const struct back *b = arg;
	const struct bk_attention *a = b->a;
	const int s = (int)(item / (size_t)a->kv_heads), kv = (int)(item % (size_t)a->kv_heads), group = a->heads / a->kv_heads;
	const int64_t d = a->head_dim, k0 = a->seq.kv_start[s], n_kv = a->seq.kv_start[s + 1] - k0, n_q = a->seq.q_start[s + 1] - a->seq.q_start[s];
	struct bk_desk *desk = bk_desk_take(b->r);
	struct floats f;

	f.k = desk->p, f.v = f.k + n_kv * d, f.dk = f.v + n_kv * d, f.dv = f.dk + n_kv * d, f.q = f.dv + n_kv * d;
	f.out = f.q + QUERIES * d, f.dout = f.out + QUERIES * d, f.s = f.dout + QUERIES * d, f.dp = f.s + QUERIES * n_kv;
	load(b, f.k, b->k, k0, n_kv, kv * d);
	load(b, f.v, b->v, k0, n_kv, kv * d);
	memset(f.dk, 0, (size_t)(2 * n_kv * d) * sizeof(float));
	for (int h = kv * group; h < (kv + 1) * group; h++)
		for (int64_t t = 0; t < n_q; t += QUERIES)
			block(b, &f, s, h, t, bk_min(QUERIES, n_q - t));
	store(b, b->dk, k0, n_kv, kv * d, f.dk);
	store(b, b->dv, k0, n_kv, kv * d, f.dv);
	bk_desk_give(desk);
}

static int check(const struct back *b, int64_t *longest)
{
	const struct bk_attention *a = b->a;
	const struct bk_sequences *s = &a->seq;
	const struct bk_mat *all[] = { b->q, b->out, b->dout, b->dq, b->k, b->v, b->dk, b->dv };

	if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads || a->head_dim < 1 || a->head_dim > INT32_MAX / QUERIES || a->window < 0 ||
	    s->n < 0 || !b->lse || b->q->cols != (int64_t)a->heads * a->head_dim || b->k->cols != (int64_t)a->kv_heads * a->head_dim)
		return BK_RUN_REFUSED;
	for (int i = 0; i < 8; i++)
		if (!bk_same_shape(all[i], i < 4 ? b->q : b->k) || all[i]->dtype != b->q->dtype || !bk_is_io(all[i]->dtype) || !bk_shaped(all[i]))
			return BK_RUN_REFUSED;
	for (int i = 0; i < s->n; i++) {
		const int64_t n_q = s->q_start[i + 1] - (int64_t)s->q_start[i], n_kv = s->kv_start[i + 1] - (int64_t)s->kv_start[i];

		if (n_q < 0 || n_kv < n_q || s->q_start[i] < 0 || s->kv_start[i] < 0 || s->q_start[i + 1] > b->q->rows ||
		    s->kv_start[i + 1] > b->k->rows)
			return BK_RUN_REFUSED;
		*longest = bk_max(*longest, n_kv);
	}
	return 0;
}

BK_GRAD_OP(attention_back, const struct bk_mat *dq, const struct bk_mat *dk, const struct bk_mat *dv, const struct bk_mat *q, const struct bk_mat *k,
	   const struct bk_mat *v, const struct bk_mat *out, const float *lse, const struct bk_mat *dout, const struct bk_attention *a)
{
	struct back b = { r, bk_grad_rows_best(), dq, dk, dv, q, k, v, out, dout, lse, a };
	int64_t longest = 0;
	const int error = check(&b, &longest);

	if (error || !a->seq.n)
		return error;
	if (bk_desks_need(r, (size_t)(4 * longest * a->head_dim + QUERIES * (3 * (int64_t)a->head_dim + 2 * longest))))
		return BK_RUN_NO_MEMORY;
	bk_each(r, (size_t)a->seq.n * (size_t)a->kv_heads, back_item, &b);
	return 0;
}
