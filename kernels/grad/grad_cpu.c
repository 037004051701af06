/* SPDX-License-Identifier: Apache-2.0
 * Backward operations that take rows and give rows, and their table. Items are runs of rows; what is summed over rows is summed per item first,
 * then over the items in order. */
#include <string.h>

#include "kernels/grad/grad_cpu.h"

#define ITEMS 64 /* that sum, at most */

enum back_op { OP_NORM, OP_HEADS, OP_HEADS_FORWARD, OP_GATE, OP_SOFTCAP, OP_KL, OP_MSE };

struct job {
	struct bk_run *r;
	const struct bk_grad_rows *rows;
	enum back_op op;
	const struct bk_mat *out, *out2, *a, *b, *c; /* a, b, c are read */
	const struct bk_norm *n;
	const struct bk_rope *rope;
	float *dweight;
	double *sum;
	float *kl;
	int heads, head_dim, kind, add;
	float f;
	int64_t per_item, cols, n_w, items;
	float *part;   /* [items, n_w] of dweight */
	double *total; /* [items] of sum */
};

static void heads_row(const struct job *j, float *x, const float *kept, float *dx, float *dw, const float *w, int64_t row)
{
	const int64_t half = j->head_dim / 2, pos = j->rope ? j->rope->position[row] : 0;
	const int round = j->out->dtype == BK_BF16;

	for (int h = 0; h < j->heads; h++) {
		const int64_t at = (int64_t)h * j->head_dim;

		if (j->op == OP_HEADS_FORWARD) {
			if (j->n)
				j->r->rows->norm(x + at, x + at, w, j->head_dim, j->n->eps, j->n->plus_one, round);
			if (j->rope)
				j->r->rows->rope(x + at, j->rope->cos + pos * half, j->rope->sin + pos * half, half, round);
			continue;
		}
		if (j->rope)
			j->rows->rope_back(x + at, j->rope->cos + pos * half, j->rope->sin + pos * half, half, round);
		if (j->n)
			j->rows->norm_back(dx + at, dw, kept + at, w, x + at, j->head_dim, j->n->eps, j->n->plus_one);
	}
}

static void store(const struct bk_mat *m, int64_t i, const float *x, const struct bk_rows *rows)
{
	rows->store(bk_at(m, i, 0), m->dtype, x, m->cols);
}

static void one_row(const struct job *j, int64_t i, float *x[5], float *dw, const float *w, double *sum)
{
	const struct bk_rows *rows = j->r->rows;
	const struct bk_mat *in[3] = { j->a, j->b, j->c };
	struct bk_row_kl_sums kl;
	double none = 0, none2 = 0;

	for (int k = 0; k < 3; k++)
		if (in[k])
			rows->load(x[k], bk_at(in[k], i, 0), in[k]->dtype, j->cols);
	switch (j->op) {
	case OP_NORM: /* a: x, b: dy */
		j->rows->norm_back(x[3], dw, x[0], w, x[1], j->cols, j->n->eps, j->n->plus_one);
		if (j->add) {
			rows->load(x[0], bk_at(j->out, i, 0), j->out->dtype, j->cols);
			rows->add(x[3], x[0], j->cols);
		}
		break;
	case OP_HEADS:         /* a: dy, b: x */
	case OP_HEADS_FORWARD: /* a: x */
		heads_row(j, x[0], x[1], x[3], dw, w, i);
		store(j->out, i, j->op == OP_HEADS && j->n ? x[3] : x[0], rows);
		return;
	case OP_GATE:
		j->rows->gate_back(x[3], x[4], x[0], x[1], x[2], j->cols, j->kind);
		store(j->out2, i, x[4], rows);
		break;
	case OP_SOFTCAP:
		j->rows->softcap_back(x[3], x[0], x[1], j->f, j->cols);
		break;
	case OP_KL: /* a: p, b: q */
		rows->kl(&kl, x[0], x[1], j->cols);
		j->rows->soft_diff(x[3], x[0], kl.lse_p, x[1], kl.lse_q, j->f, j->cols);
		if (j->kl)
			j->kl[i] = (float)kl.kl;
		break;
	case OP_MSE:
		j->rows->diff(x[3], x[0], x[1], 2 * j->f, j->cols);
		if (j->sum)
			rows->squares(sum, &none, &none2, x[0], x[1], j->cols);
		break;
	}
	store(j->out, i, x[3], rows);
}

static void job_item(void *arg, size_t item)
{
	struct job *j = arg;
	const int64_t first = (int64_t)item * j->per_item, last = bk_min(j->out->rows, first + j->per_item);
	struct bk_desk *d = bk_desk_take(j->r);
	float *x[5], *w = d->p + 5 * j->cols, *dw = j->dweight ? j->part + (int64_t)item * j->n_w : NULL;
	double sum = 0;

	for (int k = 0; k < 5; k++)
		x[k] = d->p + k * j->cols;
	if (j->n)
		j->r->rows->load(w, j->n->weight, (int)j->n->dtype, j->n_w);
	if (dw)
		memset(dw, 0, (size_t)j->n_w * sizeof(*dw));
	for (int64_t i = first; i < last; i++)
		one_row(j, i, x, dw, w, &sum);
	if (j->sum)
		j->total[item] = sum;
	bk_desk_give(d);
}

static void finish(const struct job *j)
{
	for (int64_t i = 0; j->dweight && i < j->n_w; i++) {
		double s = (double)j->dweight[i];

		for (int64_t k = 0; k < j->items; k++)
			s += (double)j->part[k * j->n_w + i];
		j->dweight[i] = (float)s;
	}
	for (int64_t k = 0; j->sum && k < j->items; k++)
		*j->sum += j->total[k];
}

static int go(struct job j)
{
	const struct bk_mat *all[] = { j.out, j.out2, j.a, j.b, j.c };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (all[i] && (!bk_same_shape(all[i], j.out) || !bk_shaped(all[i]) || !bk_is_io(all[i]->dtype)))
			return BK_RUN_REFUSED;
	if (j.n && !bk_is_float((int)j.n->dtype))
		return BK_RUN_REFUSED;
	j.rows = bk_grad_rows_best();
	j.cols = j.out->cols;
	j.n_w = j.heads ? j.head_dim : j.cols;
	j.per_item = bk_rows_per_item(j.cols);
	if (j.dweight || j.sum)
		j.per_item = bk_max(j.per_item, bk_cut(j.out->rows, ITEMS));
	j.items = bk_cut(j.out->rows, j.per_item);
	if (!j.cols || !j.out->rows)
		return 0;
	j.part = j.dweight ? bk_shared(j.r, 0, (size_t)(j.items * j.n_w)) : NULL;
	j.total = j.sum ? (double *)(void *)bk_shared(j.r, 1, 2 * (size_t)j.items) : NULL;
	if ((j.dweight && !j.part) || (j.sum && !j.total) || bk_desks_need(j.r, (size_t)(6 * j.cols)))
		return BK_RUN_NO_MEMORY;
	bk_each(j.r, (size_t)j.items, job_item, &j);
	finish(&j);
	return 0;
}

static int same_type(const struct bk_mat *a, const struct bk_mat *b) { return a->dtype == b->dtype; }

static int rmsnorm_back(struct bk_run *r, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, const struct bk_norm *n,
			const struct bk_mat *dy, int add)
{
	if (!same_type(dx, x) || !same_type(dx, dy))
		return BK_RUN_REFUSED;
	return go((struct job){ .r = r, .op = OP_NORM, .out = dx, .a = x, .b = dy, .n = n, .dweight = dweight, .add = add });
}

static int bad_heads(const struct bk_mat *x, int heads, int head_dim, const struct bk_rope *rope)
{
	return heads < 1 || head_dim < 1 || x->cols != (int64_t)heads * head_dim || (rope && head_dim % 2);
}

static int head_norm_rope(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
			  const struct bk_rope *rope)
{
	if (!same_type(y, x) || bad_heads(x, heads, head_dim, rope))
		return BK_RUN_REFUSED;
	return go((struct job){ .r = r, .op = OP_HEADS_FORWARD, .out = y, .a = x, .n = n, .rope = rope, .heads = heads, .head_dim = head_dim });
}

static int head_norm_rope_back(struct bk_run *r, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, int heads, int head_dim,
			       const struct bk_norm *n, const struct bk_rope *rope, const struct bk_mat *dy)
{
	if (!same_type(dx, dy) || (n && (!x || !same_type(x, dx))) || bad_heads(dx, heads, head_dim, rope))
		return BK_RUN_REFUSED;
	return go((struct job){ .r = r,
				.op = OP_HEADS,
				.out = dx,
				.a = dy,
				.b = n ? x : NULL,
				.n = n,
				.rope = rope,
				.heads = heads,
				.head_dim = head_dim,
				.dweight = n ? dweight : NULL });
}

static int gate_back(struct bk_run *r, const struct bk_mat *dg, const struct bk_mat *du, const struct bk_mat *g, const struct bk_mat *u,
		     const struct bk_mat *dh, enum bk_gate kind)
{
	if (!same_type(dg, du) || !same_type(dg, g) || !same_type(dg, u) || !same_type(dg, dh) || (kind != BK_GATE_SILU && kind != BK_GATE_GELU_TANH))
		return BK_RUN_REFUSED;
	return go((struct job){ .r = r, .op = OP_GATE, .out = dg, .out2 = du, .a = g, .b = u, .c = dh, .kind = (int)kind });
}

static int softcap_back(struct bk_run *r, const struct bk_mat *dx, const struct bk_mat *y, const struct bk_mat *dy, double cap)
{
	if (!same_type(dx, y) || !same_type(dx, dy) || !(cap > 0))
		return BK_RUN_REFUSED;
	return go((struct job){ .r = r, .op = OP_SOFTCAP, .out = dx, .a = y, .b = dy, .f = (float)cap });
}

static int kl_back(struct bk_run *r, const struct bk_mat *dq, float *kl, const struct bk_mat *p, const struct bk_mat *q, float scale)
{
	if (!same_type(dq, q) || q->cols > INT32_MAX)
		return BK_RUN_REFUSED;
	return go((struct job){ .r = r, .op = OP_KL, .out = dq, .a = p, .b = q, .kl = kl, .f = scale });
}

static int mse_back(struct bk_run *r, const struct bk_mat *d, double *sum, const struct bk_mat *a, const struct bk_mat *b, float scale)
{
	if (!same_type(d, a))
		return BK_RUN_REFUSED;
	return go((struct job){ .r = r, .op = OP_MSE, .out = d, .a = a, .b = b, .sum = sum, .f = scale });
}

static int attention_lse(struct bk_run *r, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k,
			 const struct bk_mat *v, const struct bk_attention *a)
{
	return lse ? bk_cpu_attention_lse(r, out, lse, q, k, v, a) : BK_RUN_REFUSED;
}

const struct bk_grad_ops *bk_grad_cpu(void)
{
	static const struct bk_grad_ops table = {
		.size = sizeof(struct bk_grad_ops),
		.name = "cpu",
		.rmsnorm_back = rmsnorm_back,
		.head_norm_rope = head_norm_rope,
		.head_norm_rope_back = head_norm_rope_back,
		.attention_lse = attention_lse,
		.attention_back = bk_grad_cpu_attention_back,
		.gate_back = gate_back,
		.softcap_back = softcap_back,
		.kl_back = kl_back,
		.mse_back = mse_back,
		.fake_quant = bk_grad_cpu_fake_quant,
		.fake_quant_back = bk_grad_cpu_fake_quant_back,
		.codes_value = bk_grad_cpu_codes_value,
		.codes_back = bk_grad_cpu_codes_back,
		.fake_tokens = bk_grad_cpu_fake_tokens,
		.sign_step = bk_grad_cpu_sign_step,
		.adam_step = bk_grad_cpu_adam_step,
		.axpy = bk_grad_cpu_axpy,
		.product = bk_grad_cpu_product,
	};

	return &table;
}
