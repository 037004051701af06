/* SPDX-License-Identifier: Apache-2.0
 * Block by block (AutoRound). Two streams of hidden states: what the model in full precision gives is the target, what the quantized blocks before give is the
 * input. The state with the smallest loss of a batch is the one that stays. */
#include <math.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/tune/private.h"

struct blocks {
	struct tune *t;
	struct bl_pass *target, *input;
	struct tune_order order;
	struct bk_mat x, y, want, d;
	double *sum;              /* in the run's memory */
	int block;
	double first, best;       /* losses */
};

static bool trains(const struct tune *t, int block)
{
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
		if (t->rq->units[block * BL_UNIT_KIND_COUNT + k].tuned)
			return true;
	return false;
}

static bool later(const struct tune *t, int block)
{
	while (++block < t->m->config.layers)
		if (trains(t, block))
			return true;
	return false;
}

static enum bl_status one_step(struct blocks *b, int64_t i, struct bl_err *err)
{
	struct tune *t = b->t;
	const struct bl_tape_sink sink = { t, tune_wants, tune_step };
	const double elements = (double)t->tokens * (double)t->hidden;
	const float fall = (float)(1 - (double)i / (double)t->how->iterations);
	struct bl_tape_weight w[BL_UNIT_KIND_COUNT];
	double sum = 0;

	t->step = i + 1;
	t->offset_rate = (float)t->how->offset_rate * fall;
	t->factor_rate = (float)t->how->factor_rate * fall;
	for (int64_t j = 0; j < t->batch; j++) {
		const int64_t from = tune_order_next(&b->order);
		if (bl_tape_take(t->tape, b->input, from, &b->x, j, err) || bl_tape_take(t->tape, b->target, from, &b->want, j, err))
			return err->status;
	}
	if (tune_weights(t, b->block, false, w, err) || bl_tape_block(t->tape, b->block, w, &b->x, &b->y, err) ||
	    TUNE_OP(t, err, "losses", zero(t->e->run, b->sum, sizeof sum)) ||
	    TUNE_GRAD(t, err, "losses", mse_back(t->e->run, &b->d, b->sum, &b->y, &b->want, (float)(1 / elements))) ||
	    TUNE_OP(t, err, "losses", get(t->e->run, &sum, b->sum, sizeof sum)))
		return err->status;
	sum /= elements;
	if (i == 0)
		b->first = sum;
	if (sum < b->best) { /* what gave it, before the step */
		b->best = sum;
		for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
			if (tune_keep(t, b->block * BL_UNIT_KIND_COUNT + k, err))
				return err->status;
	}
	if (!isfinite(sum))
		return BL_OK;
	return bl_tape_back(t->tape, b->block, w, &b->x, &b->d, false, &sink, err);
}

/* The input of the next block: the block with what stayed, over all windows. */
static enum bl_status advance(struct blocks *b, struct bl_err *err)
{
	struct tune *t = b->t;
	struct bl_tape_weight w[BL_UNIT_KIND_COUNT];

	if (tune_weights(t, b->block, true, w, err))
		return err->status;
	for (int64_t at = 0; at < t->windows && !err->status; at += t->batch) {
		const int64_t n = t->windows - at < t->batch ? t->windows - at : t->batch;

		for (int64_t j = 0; j < t->batch && !err->status; j++)
			bl_tape_take(t->tape, b->input, at + (j < n ? j : 0), &b->x, j, err);
		if (!err->status && !bl_tape_block(t->tape, b->block, w, &b->x, &b->y, err))
			for (int64_t j = 0; j < n && !err->status; j++)
				bl_tape_give(t->tape, b->input, at + j, &b->y, j, err);
	}
	return err->status;
}

static enum bl_status train(struct blocks *b, struct bl_err *err)
{
	struct tune *t = b->t;
	const int64_t all = (int64_t)t->m->config.layers * t->how->iterations;

	b->best = INFINITY;
	t->start_ns = bl_now_ns();
	t->together = 0;
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
		t->together += t->rq->units[b->block * BL_UNIT_KIND_COUNT + k].tuned;
	for (int64_t i = 0; i < t->how->iterations && !err->status; i++) {
		if (t->rq->report)
			t->rq->report(t->rq->ctx, "steps", (double)(b->block * t->how->iterations + i), (double)all);
		one_step(b, i, err);
	}
	if (err->status)
		return err->status;
	if (isinf(b->best))
		snprintf(t->report, sizeof t->report, "block %d: left as it started: its losses are not finite", b->block);
	else
		snprintf(t->report, sizeof t->report, "block %d: mean square difference %.4g, %.4g at first", b->block, b->best, b->first);
	for (int k = 0; k < BL_UNIT_KIND_COUNT && !err->status; k++)
		if (t->rq->units[b->block * BL_UNIT_KIND_COUNT + k].tuned)
			tune_result(t, b->block * BL_UNIT_KIND_COUNT + k, err);
	return err->status;
}

static enum bl_status one_block(struct blocks *b, struct bl_err *err)
{
	struct tune *t = b->t;
	const bool quantized = t->how->quantized_inputs, more = later(t, b->block);

	if (!trains(t, b->block) && !more)
		return BL_OK;
	if (!quantized && bl_pass_copy(b->input, b->target, err))
		return err->status;
	if (bl_pass_block(b->target, b->block, NULL, NULL, err))
		return err->status;
	for (int k = 0; k < BL_UNIT_KIND_COUNT && !err->status; k++)
		tune_state_open(t, b->block * BL_UNIT_KIND_COUNT + k, err);
	if (!err->status && trains(t, b->block))
		train(b, err);
	if (!err->status && quantized && more)
		advance(b, err);
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
		tune_state_close(t, b->block * BL_UNIT_KIND_COUNT + k);
	return err->status;
}

enum bl_status tune_blocks(struct tune *t, struct bl_err *err)
{
	struct blocks b = { .t = t };
	const struct bl_sequences seq = { t->rq->ids, NULL, t->windows };
	struct bl_sequences s = seq;
	int64_t *start = bl_xalloc((size_t)t->windows + 1, sizeof *start), *windows = bl_xalloc((size_t)t->windows, sizeof *windows);
	const size_t row = (size_t)t->hidden * (t->dtype == BK_F32 ? 4 : 2), bytes = (size_t)t->tokens * row;
	struct bk_mat *const mats[] = { &b.x, &b.y, &b.want, &b.d };

	for (int64_t i = 0; i <= t->windows; i++)
		start[i] = i * t->rq->len;
	for (int64_t i = 0; i < t->windows; i++)
		windows[i] = i;
	s.start = start;
	tune_order_init(&b.order, windows, t->windows, t->how->seed);
	for (int i = 0; i < 4 && !err->status; i++) {
		*mats[i] = tune_mat(NULL, t->tokens, t->hidden, t->dtype);
		bl_engine_alloc(t->e, &mats[i]->p, bytes, "hidden states of a batch", err);
	}
	if (!err->status && !bl_engine_alloc(t->e, (void **)&b.sum, sizeof(double), "losses", err) && !bl_pass_new(&b.target, t->f, &s, err) &&
	    !bl_pass_new(&b.input, t->f, &s, err) && !bl_pass_embed(b.target, err) && !bl_pass_embed(b.input, err))
		for (b.block = 0; b.block < t->m->config.layers && !err->status; b.block++)
			one_block(&b, err);
	bl_pass_free(b.target);
	bl_pass_free(b.input);
	for (int i = 0; i < 4; i++)
		bl_engine_release(t->e, mats[i]->p);
	bl_engine_release(t->e, b.sum);
	tune_order_free(&b.order);
	bl_free(start);
	bl_free(windows);
	return err->status;
}
