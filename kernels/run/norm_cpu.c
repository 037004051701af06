/* SPDX-License-Identifier: Apache-2.0
 * Operations that take a row and give a row. Every item works on a run of rows through one desk of float32 buffers. */
#include "kernels/run/cpu.h"

enum row_op { OP_GATHER, OP_CONVERT, OP_NORM, OP_ADD, OP_ADD_NORM, OP_NORM_ADD, OP_HEADS, OP_GATE, OP_SOFTCAP };

struct row_job {
	struct bk_run *r;
	enum row_op op;
	const struct bk_mat *y, *x, *a;
	const struct bk_norm *n;
	const struct bk_rope *rope;
	const int32_t *ids;
	float scale;
	int heads, head_dim, kind, round;
	int64_t per_item, cols;
	double cap;
};

static void heads_row(const struct row_job *j, float *x, const float *w, int64_t row)
{
	const struct bk_rows *rows = j->r->rows;
	int64_t half = j->head_dim / 2, pos = j->rope ? j->rope->position[row] : 0;

	for (int h = 0; h < j->heads; h++) {
		float *p = x + (int64_t)h * j->head_dim;

		if (j->n)
			rows->norm(p, p, w, j->head_dim, j->n->eps, j->n->plus_one, j->round);
		if (j->rope)
			rows->rope(p, j->rope->cos + pos * half, j->rope->sin + pos * half, half, j->round);
	}
}

static void one_row(const struct row_job *j, int64_t i, float *x, float *a, const float *w)
{
	const struct bk_rows *rows = j->r->rows;
	int64_t n = j->cols;

	if (j->op == OP_GATHER)
		rows->load(x, bk_at(j->a, j->ids[i], 0), j->a->dtype, n);
	else if (j->op == OP_NORM_ADD)
		rows->load(x, bk_at(j->a, i, 0), j->a->dtype, n);
	else
		rows->load(x, bk_at(j->x, i, 0), j->x->dtype, n);
	switch (j->op) {
	case OP_GATHER:
		if (j->scale != 1)
			rows->scale(x, j->scale, n);
		break;
	case OP_CONVERT:
		break;
	case OP_ADD:
	case OP_ADD_NORM:
		rows->load(a, bk_at(j->a, i, 0), j->a->dtype, n);
		rows->add(x, a, n);
		rows->store(bk_at(j->x, i, 0), j->x->dtype, x, n);
		if (j->op == OP_ADD)
			return;
		if (j->x->dtype == BK_BF16)
			rows->load(x, bk_at(j->x, i, 0), BK_BF16, n);
		rows->norm(x, x, w, n, j->n->eps, j->n->plus_one, j->round);
		break;
	case OP_NORM:
		rows->norm(x, x, w, n, j->n->eps, j->n->plus_one, j->round);
		break;
	case OP_NORM_ADD:
		rows->norm(x, x, w, n, j->n->eps, j->n->plus_one, j->round);
		rows->load(a, bk_at(j->x, i, 0), j->x->dtype, n);
		rows->add(x, a, n);
		break;
	case OP_HEADS:
		heads_row(j, x, w, i);
		break;
	case OP_GATE:
		rows->load(a, bk_at(j->a, i, 0), j->a->dtype, n);
		rows->gate(x, x, a, n, j->kind, j->round);
		break;
	case OP_SOFTCAP:
		rows->softcap(x, (float)j->cap, n);
		break;
	}
	rows->store(bk_at(j->y, i, 0), j->y->dtype, x, n);
}

static void row_item(void *arg, size_t item)
{
	const struct row_job *j = arg;
	int64_t first = (int64_t)item * j->per_item, last = bk_min(j->y->rows, first + j->per_item), n_w = j->heads ? j->head_dim : j->cols;
	struct bk_desk *d = bk_desk_take(j->r);
	float *w = d->p + 2 * j->cols;

	if (j->n)
		j->r->rows->load(w, j->n->weight, (int)j->n->dtype, n_w);
	for (int64_t i = first; i < last; i++)
		one_row(j, i, d->p, d->p + j->cols, w);
	bk_desk_give(d);
}

static int go(struct row_job j)
{
	if (!bk_shaped(j.y) || !bk_is_float(j.y->dtype) || (j.x && (!bk_shaped(j.x) || !bk_is_float(j.x->dtype))) ||
	    (j.a && (!bk_shaped(j.a) || !bk_is_float(j.a->dtype))) || (j.n && !bk_is_float((int)j.n->dtype)))
		return BK_RUN_REFUSED;
	j.cols = j.y->cols;
	j.per_item = bk_rows_per_item(j.cols);
	j.round = j.y->dtype == BK_BF16;
	if (!j.cols || !j.y->rows)
		return 0;
	if (bk_desks_need(j.r, (size_t)(3 * j.cols)))
		return BK_RUN_NO_MEMORY;
	bk_each(j.r, (size_t)bk_cut(j.y->rows, j.per_item), row_item, &j);
	return 0;
}

BK_OP(gather, const struct bk_mat *y, const struct bk_mat *e, const int32_t *ids, float scale)
{
	return y->cols != e->cols ? BK_RUN_REFUSED : go((struct row_job){ .r = r, .op = OP_GATHER, .y = y, .a = e, .ids = ids, .scale = scale });
}

BK_OP(convert, const struct bk_mat *dst, const struct bk_mat *src)
{
	return !bk_same_shape(dst, src) ? BK_RUN_REFUSED : go((struct row_job){ .r = r, .op = OP_CONVERT, .y = dst, .x = src });
}

BK_OP(rmsnorm, const struct bk_mat *y, const struct bk_mat *x, const struct bk_norm *n)
{
	return !bk_same_shape(y, x) ? BK_RUN_REFUSED : go((struct row_job){ .r = r, .op = OP_NORM, .y = y, .x = x, .n = n });
}

BK_OP(add, const struct bk_mat *x, const struct bk_mat *a)
{
	return !bk_same_shape(x, a) ? BK_RUN_REFUSED : go((struct row_job){ .r = r, .op = OP_ADD, .y = x, .x = x, .a = a });
}

BK_OP(add_rmsnorm, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n)
{
	if (!bk_same_shape(y, x) || !bk_same_shape(x, a))
		return BK_RUN_REFUSED;
	return go((struct row_job){ .r = r, .op = OP_ADD_NORM, .y = y, .x = x, .a = a, .n = n });
}

BK_OP(rmsnorm_add, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n)
{
	return !bk_same_shape(x, a) ? BK_RUN_REFUSED : go((struct row_job){ .r = r, .op = OP_NORM_ADD, .y = x, .x = x, .a = a, .n = n });
}

BK_OP(head_norm_rope, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n, const struct bk_rope *rope)
{
	if (heads < 1 || head_dim < 1 || x->cols != (int64_t)heads * head_dim || (rope && head_dim % 2))
		return BK_RUN_REFUSED;
	if (!n && !rope)
		return 0;
	return go((struct row_job){ .r = r, .op = OP_HEADS, .y = x, .x = x, .n = n, .rope = rope, .heads = heads, .head_dim = head_dim });
}

BK_OP(gate, const struct bk_mat *h, const struct bk_mat *g, const struct bk_mat *u, enum bk_gate kind)
{
	if (!bk_same_shape(h, g) || !bk_same_shape(g, u) || (kind != BK_GATE_SILU && kind != BK_GATE_GELU_TANH))
		return BK_RUN_REFUSED;
	return go((struct row_job){ .r = r, .op = OP_GATE, .y = h, .x = g, .a = u, .kind = (int)kind });
}

BK_OP(softcap, const struct bk_mat *x, double cap)
{
	return !(cap > 0) ? BK_RUN_REFUSED : go((struct row_job){ .r = r, .op = OP_SOFTCAP, .y = x, .x = x, .cap = cap });
}
