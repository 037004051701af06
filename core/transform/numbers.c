/* SPDX-License-Identifier: Apache-2.0
 * From a stage and what is known of a block to operations on channels. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/transform/private.h"

#define SEARCH_ROWS 512

static void add_scale(struct fold_block *b, const struct fold_reader *r, const double *s)
{
	struct bl_op *op = bl_ops_add(b->ops, BL_OP_SCALE, r->c.pair, r->c.n);

	for (int64_t c = 0; c < r->c.n; c++)
		op->mul[c] = (float)(1 / s[c]);
}

static enum bl_status smooth(struct fold_block *b, const struct bl_stage *st, enum bl_fold_pair pair, struct bl_err *err)
{
	const struct fold_goal goal = { .bits = (int)bl_stage_value(st, "bits"), .group = (int64_t)bl_stage_value(st, "group"),
					.activations = (int)bl_stage_value(st, "activations"), .pow2 = bl_stage_value(st, "pow2") != 0 };
	const int search = (int)bl_stage_value(st, "search");
	struct fold_reader r;
	double *s;

	if (fold_reader_open(&r, b, pair, search ? SEARCH_ROWS : 0, err))
		return err->status;
	s = bl_xalloc((size_t)r.c.n + 1, sizeof *s);
	const bool blind = goal.activations != 2 && !r.x; /* nothing was kept to look at: said where samples are taken */
	if (search && !blind)
		fold_search_alpha(s, &r, &goal);
	else
		fold_start(s, &r, bl_stage_value(st, "alpha"));
	if (search == 2 && !blind)
		fold_search_channels(s, &r, &goal);
	fold_finish(s, r.c.n, goal.pow2);
	add_scale(b, &r, s);
	bl_free(s);
	fold_reader_free(&r);
	return BL_OK;
}

static enum bl_status awq(struct fold_block *b, const struct bl_stage *st, enum bl_fold_pair pair, struct bl_err *err)
{
	struct fold_reader r;
	double *s;

	if (fold_reader_open(&r, b, pair, (int64_t)bl_stage_value(st, "rows"), err))
		return err->status;
	s = bl_xalloc((size_t)r.c.n + 1, sizeof *s);
	if (!fold_awq(s, b, &r, st, err)) {
		fold_finish(s, r.c.n, bl_stage_value(st, "pow2") != 0);
		add_scale(b, &r, s);
	}
	bl_free(s);
	fold_reader_free(&r);
	return err->status;
}

struct rank { double value; int32_t at; };

static int descending(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;

	return x->value > y->value ? -1 : x->value < y->value ? 1 : x->at < y->at ? -1 : x->at > y->at;
}

static enum bl_status permute(struct fold_block *b, const struct bl_stage *st, enum bl_fold_pair pair, struct bl_err *err)
{
	const bool by_absmax = bl_stage_value(st, "by") != 0;
	struct fold_reader r;
	struct rank *rank;

	if (fold_reader_open(&r, b, pair, 0, err))
		return err->status;
	rank = bl_xalloc((size_t)r.c.n + 1, sizeof *rank);
	for (int64_t c = 0; c < r.c.n; c++)
		rank[c].at = (int32_t)c;
	for (int64_t j = 0; j < r.cols; j++) { /* the copies of a channel together */
		double v = by_absmax ? r.absmax[j] : r.energy[j], *to = &rank[bl_channel_of(&r.c, j)].value;

		*to = by_absmax ? fmax(*to, v) : *to + v;
	}
	const int64_t span = r.c.head ? r.c.head : r.c.n;
	struct bl_op *op = bl_ops_add(b->ops, BL_OP_ORDER, pair, r.c.n);
	for (int64_t at = 0; at < r.c.n; at += span) {
		qsort(rank + at, (size_t)span, sizeof *rank, descending);
		for (int64_t i = 0; i < span; i++)
			op->from[at + i] = rank[at + i].at;
	}
	bl_free(rank);
	fold_reader_free(&r);
	return BL_OK;
}

enum bl_status fold_stage(struct fold_block *b, const struct bl_stage *s, struct bl_err *err)
{
	for (int p = 0; p < BL_FOLD_LEGAL; p++) {
		if (!(s->pairs >> p & 1))
			continue;
		switch (s->transform->kind) {
		case BL_TRANSFORM_SMOOTH: smooth(b, s, (enum bl_fold_pair)p, err); break;
		case BL_TRANSFORM_AWQ: awq(b, s, (enum bl_fold_pair)p, err); break;
		case BL_TRANSFORM_PERMUTE: permute(b, s, (enum bl_fold_pair)p, err); break;
		case BL_TRANSFORM_ROTATE: bl_ops_add(b->ops, BL_OP_HADAMARD, (enum bl_fold_pair)p, 0); break;
		}
		if (err->status)
			return err->status;
	}
	return BL_OK;
}
