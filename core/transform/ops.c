/* SPDX-License-Identifier: Apache-2.0
 * Operations on channels and everything that has them. */
#include "core/transform/ops.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"

void bl_ops_free(struct bl_ops *o)
{
	for (int i = 0; i < o->n; i++) {
		bl_free(o->at[i].mul);
		bl_free(o->at[i].from);
	}
	bl_free(o->at);
	*o = (struct bl_ops){ 0 };
}

struct bl_op *bl_ops_add(struct bl_ops *o, enum bl_op_kind kind, enum bl_fold_pair pair, int64_t n)
{
	struct bl_op op = { .kind = kind, .pair = pair };

	if (kind == BL_OP_SCALE)
		op.mul = bl_xalloc((size_t)n + 1, sizeof *op.mul);
	if (kind == BL_OP_ORDER)
		op.from = bl_xalloc((size_t)n + 1, sizeof *op.from);
	bl_xgrow(&o->at, &o->cap, (size_t)o->n + 1);
	o->at[o->n] = op;
	return &o->at[o->n++];
}

struct bl_channels bl_channels_of(const struct bl_model *m, enum bl_fold_pair pair)
{
	const struct bl_config *c = &m->config;

	switch (pair) {
	case BL_FOLD_VO: return (struct bl_channels){ pair, c->kv_heads * c->head_dim, c->head_dim, c->heads / c->kv_heads, BL_UNIT_O };
	case BL_FOLD_UP_DOWN: return (struct bl_channels){ pair, c->ffn, 0, 1, BL_UNIT_DOWN };
	case BL_FOLD_NORM_QKV: return (struct bl_channels){ pair, c->hidden, 0, 1, BL_UNIT_QKV };
	default: return (struct bl_channels){ pair, c->hidden, 0, 1, BL_UNIT_GATE_UP };
	}
}

bool bl_pair_read_by(const struct bl_model *m, enum bl_unit_kind k, enum bl_fold_pair *pair)
{
	for (int p = 0; p < BL_FOLD_LEGAL; p++)
		if (bl_channels_of(m, (enum bl_fold_pair)p).reader == k && !bl_arch_fold_refused(m->arch, (enum bl_fold_pair)p)) {
			*pair = (enum bl_fold_pair)p;
			return true;
		}
	return false;
}

bool bl_ops_touch(const struct bl_ops *o, enum bl_fold_pair pair)
{
	for (int i = 0; i < o->n; i++)
		if (o->at[i].pair == pair)
			return true;
	return false;
}

static bool any(const struct bl_ops *o, enum bl_fold_pair pair, enum bl_op_kind kind)
{
	for (int i = 0; i < o->n; i++)
		if (o->at[i].pair == pair && o->at[i].kind == kind)
			return true;
	return false;
}

bool bl_ops_mix(const struct bl_ops *o, enum bl_fold_pair pair) { return any(o, pair, BL_OP_HADAMARD); }
bool bl_ops_reorder(const struct bl_ops *o, enum bl_fold_pair pair) { return any(o, pair, BL_OP_ORDER); }

/* Sylvester's matrix over sqrt(n), which is its own inverse; stride between elements. */
static void hadamard(float *x, int64_t n, int64_t stride)
{
	const float scale = (float)(1 / sqrt((double)n));

	for (int64_t half = 1; half < n; half *= 2)
		for (int64_t at = 0; at < n; at += 2 * half)
			for (int64_t i = at; i < at + half; i++) {
				float a = x[i * stride], b = x[(i + half) * stride];

				x[i * stride] = a + b;
				x[(i + half) * stride] = a - b;
			}
	for (int64_t i = 0; i < n; i++)
		x[i * stride] *= scale;
}

/* The column that column j is afterwards taken from. */
static int64_t column_from(const struct bl_op *op, const struct bl_channels *c, int64_t j)
{
	if (!c->head)
		return op->from[j];
	return j - j % c->head + op->from[bl_channel_of(c, j)] % c->head;
}

/* inverse: columns of weights; else inputs */
static void vector(const struct bl_op *op, const struct bl_channels *c, float *row, float *tmp, int64_t cols, bool inverse)
{
	switch (op->kind) {
	case BL_OP_SCALE:
		for (int64_t j = 0; j < cols; j++) {
			float mul = op->mul[bl_channel_of(c, j)];
			row[j] = inverse ? row[j] / mul : row[j] * mul;
		}
		break;
	case BL_OP_ORDER:
		memcpy(tmp, row, (size_t)cols * sizeof *row);
		for (int64_t j = 0; j < cols; j++)
			row[j] = tmp[column_from(op, c, j)];
		break;
	case BL_OP_HADAMARD:
		for (int64_t j = 0; j + c->head <= cols; j += c->head)
			hadamard(row + j, c->head, 1);
		break;
	}
}

void bl_ops_reader_row(const struct bl_ops *o, const struct bl_channels *c, float *row, float *tmp, int64_t cols)
{
	for (int i = 0; i < o->n; i++)
		if (o->at[i].pair == c->pair)
			vector(&o->at[i], c, row, tmp, cols, true);
}

void bl_ops_maker_row(const struct bl_ops *o, const struct bl_channels *c, int64_t i, bool scaled, int64_t *from, double *mul)
{
	*from = i;
	*mul = 1;
	for (int k = o->n - 1; k >= 0; k--) {
		if (o->at[k].pair != c->pair)
			continue;
		if (o->at[k].kind == BL_OP_SCALE && scaled)
			*mul *= o->at[k].mul[*from];
		else if (o->at[k].kind == BL_OP_ORDER)
			*from = o->at[k].from[*from];
	}
}

void bl_ops_maker_head(const struct bl_ops *o, const struct bl_channels *c, int64_t head, float *rows, float *tmp, int64_t cols)
{
	const int64_t d = c->head, first = head * d;

	for (int k = 0; k < o->n; k++) {
		const struct bl_op *op = &o->at[k];

		if (op->pair != c->pair)
			continue;
		if (op->kind == BL_OP_SCALE) {
			for (int64_t i = 0; i < d; i++)
				for (int64_t j = 0; j < cols; j++)
					rows[i * cols + j] *= op->mul[first + i];
		} else if (op->kind == BL_OP_ORDER) {
			memcpy(tmp, rows, (size_t)(d * cols) * sizeof *rows);
			for (int64_t i = 0; i < d; i++)
				memcpy(rows + i * cols, tmp + op->from[first + i] % d * cols, (size_t)cols * sizeof *rows);
		} else {
			for (int64_t j = 0; j < cols; j++)
				hadamard(rows + j, d, cols);
		}
	}
}

bool bl_ops_columns(const struct bl_ops *o, const struct bl_channels *c, int64_t *from, float *mul, int64_t cols)
{
	if (bl_ops_mix(o, c->pair))
		return false;
	for (int64_t j = 0; j < cols; j++) {
		double m = 1;

		from[j] = j;
		for (int k = o->n - 1; k >= 0; k--) {
			if (o->at[k].pair != c->pair)
				continue;
			if (o->at[k].kind == BL_OP_SCALE)
				m *= (double)o->at[k].mul[bl_channel_of(c, from[j])];
			else
				from[j] = column_from(&o->at[k], c, from[j]);
		}
		mul[j] = (float)m;
	}
	return true;
}

void bl_ops_hessian(const struct bl_ops *o, const struct bl_channels *c, float *h, float *tmp, int64_t cols)
{
	for (int k = 0; k < o->n; k++) {
		const struct bl_op *op = &o->at[k];

		if (op->pair != c->pair)
			continue;
		if (op->kind == BL_OP_ORDER) {
			memcpy(tmp, h, (size_t)(cols * cols) * sizeof *h);
			for (int64_t i = 0; i < cols; i++)
				memcpy(h + i * cols, tmp + column_from(op, c, i) * cols, (size_t)cols * sizeof *h);
		} else if (op->kind == BL_OP_SCALE) {
			for (int64_t i = 0; i < cols; i++)
				for (int64_t j = 0; j < cols; j++)
					h[i * cols + j] *= op->mul[bl_channel_of(c, i)];
		} else {
			for (int64_t i = 0; i + c->head <= cols; i += c->head)
				for (int64_t j = 0; j < cols; j++)
					hadamard(h + i * cols + j, c->head, cols);
		}
		for (int64_t i = 0; i < cols; i++)
			vector(op, c, h + i * cols, tmp, cols, false);
	}
}

bool bl_ops_absmax(const struct bl_ops *o, const struct bl_channels *c, float *absmax, int64_t cols)
{
	float *tmp = bl_xalloc((size_t)cols + 1, sizeof *tmp);

	for (int i = 0; i < o->n; i++)
		if (o->at[i].pair == c->pair)
			vector(&o->at[i], c, absmax, tmp, cols, false);
	bl_free(tmp);
	return !bl_ops_mix(o, c->pair);
}

bool bl_ops_moments(const struct bl_ops *o, const struct bl_channels *c, double *mean, double *rms, int64_t cols)
{
	float *v = bl_xalloc(2 * (size_t)cols + 1, sizeof *v), *tmp = v + cols;
	double *both[2] = { mean, rms };

	for (int k = 0; k < 2; k++) {
		for (int64_t j = 0; j < cols; j++)
			v[j] = (float)both[k][j];
		for (int i = 0; i < o->n; i++)
			if (o->at[i].pair == c->pair)
				vector(&o->at[i], c, v, tmp, cols, false);
		for (int64_t j = 0; j < cols; j++)
			both[k][j] = v[j];
	}
	bl_free(v);
	return !bl_ops_mix(o, c->pair);
}
