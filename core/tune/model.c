/* SPDX-License-Identifier: Apache-2.0
 * End to end: the divergence of next-token distributions, through the head and all blocks back. Forwards only the blocks' inputs are kept; on the way back each
 * block is run again, its gradients become steps at once, and it is left. Windows that are held out tell which state is the best. */
#include <math.h>
#include <stdio.h>

#include "core/base/log.h"
#include "core/tune/private.h"

struct model {
	struct tune *t;
	struct bl_pass *base; int64_t *base_start; /* what comes out of the base model's last block */
	struct tune_order order;
	int64_t *train, n_train, *held, n_held;
	int blocks, first;         /* first: the first block that is trained */
	struct bk_mat *x;          /* [blocks + 1] */
	struct bk_mat d, want, again;
	int32_t *ids;
	double before, best, last; /* divergences of what is held out */
	double batch_kl;
	int64_t best_step, steps;  /* of a try */
	int tries;
	double rate, best_rate;    /* of a try, times the method's */
};

static enum bl_status forwards(struct model *k, const int64_t *windows, bool keep, struct bl_tape_weight *w, struct bl_err *err)
{
	struct tune *t = k->t;
	const int64_t len = t->rq->len;

	for (int64_t j = 0; j < t->batch && !err->status; j++) {
		for (int64_t i = 0; i < len; i++)
			k->ids[j * len + i] = t->rq->ids[windows[j] * len + i];
		bl_tape_take(t->tape, k->base, windows[j], &k->want, j, err);
	}
	if (err->status || bl_tape_embed(t->tape, k->ids, &k->x[0], err))
		return err->status;
	for (int b = 0; b < k->blocks; b++) {
		const struct bk_mat *x = &k->x[keep ? b : b & 1], *y = &k->x[keep ? b + 1 : (b + 1) & 1];

		if (tune_cancelled(t))
			return bl_fail(err, BL_CANCELLED, "cancelled");
		if (tune_weights(t, b, false, w, err) || bl_tape_block(t->tape, b, w, x, y, err))
			return err->status;
	}
	return BL_OK;
}

static enum bl_status one_step(struct model *k, double *kl, struct bl_err *err)
{
	struct tune *t = k->t;
	const struct bl_tape_sink sink = { t, tune_wants, tune_step };
	struct bl_tape_weight w[BL_UNIT_KIND_COUNT];
	int64_t *windows = bl_xalloc((size_t)t->batch, sizeof *windows);

	for (int64_t j = 0; j < t->batch; j++)
		windows[j] = tune_order_next(&k->order);
	forwards(k, windows, true, w, err);
	bl_free(windows);
	if (err->status || bl_tape_kl(t->tape, &k->x[k->blocks], &k->want, &k->d, kl, err))
		return err->status;
	*kl /= (double)t->tokens;
	if (!isfinite(*kl)) /* no direction to go */
		return BL_OK;
	for (int b = k->blocks - 1; b >= k->first; b--) {
		if (b < k->blocks - 1 && (tune_weights(t, b, false, w, err) || bl_tape_block(t->tape, b, w, &k->x[b], &k->again, err)))
			return err->status;
		if (bl_tape_back(t->tape, b, w, &k->x[b], &k->d, b > k->first, &sink, err))
			return err->status;
	}
	return BL_OK;
}

/* Mean divergence of what is held out. */
static enum bl_status look(struct model *k, double *kl, struct bl_err *err)
{
	struct tune *t = k->t;
	struct bl_tape_weight w[BL_UNIT_KIND_COUNT];

	*kl = 0;
	for (int64_t i = 0; i < k->n_held; i += t->batch)
		if (forwards(k, k->held + i, false, w, err) || bl_tape_kl(t->tape, &k->x[k->blocks & 1], &k->want, NULL, kl, err))
			return err->status;
	*kl /= (double)k->n_held * (double)t->rq->len;
	return BL_OK;
}

static enum bl_status keep(struct model *k, struct bl_err *err)
{
	for (int i = 0; i < k->t->m->n_units && !err->status; i++)
		tune_keep(k->t, i, err);
	return err->status;
}

static enum bl_status judge(struct model *k, struct bl_err *err)
{
	if (!k->n_held)
		return k->t->step == k->steps ? keep(k, err) : BL_OK;
	if (look(k, &k->last, err))
		return err->status;
	bl_log(BL_LOG_DEBUG, "step %lld of %lld: held out %.6f, batch %.6f", (long long)k->t->step, (long long)k->steps, k->last, k->batch_kl);
	if (!(k->last < k->best))
		return BL_OK;
	k->best = k->last;
	k->best_step = k->t->step;
	k->best_rate = k->rate;
	return keep(k, err);
}

/* 1, f, 1/f, f^2 ... */
static double rate_of(const struct model *k, int at)
{
	return at ? pow(k->t->how->try_factor, (at % 2 ? 1 : -1) * (double)((at + 1) / 2)) : 1;
}

static enum bl_status one_try(struct model *k, int at, struct bl_err *err)
{
	struct tune *t = k->t;
	int64_t looked = 0;

	k->rate = rate_of(k, at);
	for (int i = 0; at && i < t->m->n_units; i++)
		if (tune_state_restart(t, i, err))
			return err->status;
	tune_order_free(&k->order);
	tune_order_init(&k->order, k->train, k->n_train, t->how->seed);
	for (t->step = 1; t->step <= k->steps; t->step++) {
		const double fall = k->rate * (1 - (double)(t->step - 1) / (double)k->steps);

		t->offset_rate = (float)(t->how->offset_rate * fall);
		t->factor_rate = (float)(t->how->factor_rate * fall);
		if (t->rq->report)
			t->rq->report(t->rq->ctx, "steps", (double)(at * k->steps + t->step - 1), (double)(k->tries * k->steps));
		k->batch_kl = 0;
		if (one_step(k, &k->batch_kl, err))
			return err->status;
		if (t->step * t->how->looks / k->steps > looked) {
			looked = t->step * t->how->looks / k->steps;
			if (judge(k, err))
				return err->status;
		}
	}
	return BL_OK;
}

static enum bl_status train(struct model *k, struct bl_err *err)
{
	struct tune *t = k->t;

	k->steps = (int64_t)(t->how->epochs * (double)k->n_train / (double)t->batch + 0.5);
	k->steps = k->steps < 1 ? 1 : k->steps;
	k->tries = k->n_held ? (int)t->how->tries : 1;
	if (k->n_held && look(k, &k->before, err))
		return err->status;
	k->best = k->n_held && isfinite(k->before) ? k->before : INFINITY;
	for (int at = 0; at < k->tries; at++)
		if (one_try(k, at, err))
			return err->status;
	if (k->n_held)
		snprintf(t->report, sizeof t->report, "KL of %lld windows held out %.6f, %.6f at first; step %lld of %lld, rates times %.3g", (long long)k->n_held, k->best, k->before,
			 (long long)k->best_step, (long long)k->steps, k->best_rate);
	else
		snprintf(t->report, sizeof t->report, "KL of the last batch %.6f; step %lld", k->batch_kl, (long long)k->steps);
	return BL_OK;
}

/* Every so many windows one is held out: of each kind of text a part. Whole batches of them. */
static enum bl_status divide(struct model *k, struct bl_err *err)
{
	struct tune *t = k->t;
	int64_t held = (int64_t)(t->how->held_out * (double)t->windows + 0.5), at = 0;

	held = t->how->held_out > 0 ? (held + t->batch - 1) / t->batch * t->batch : 0;
	if (t->windows - held < t->batch)
		return bl_fail(err, BL_INVALID, "%lld windows are too few to tune on in batches of %lld with %lld held out: calibrate with more, or set batch=1",
			       (long long)t->windows, (long long)t->batch, (long long)held);
	k->train = bl_xalloc((size_t)t->windows, sizeof *k->train);
	k->held = bl_xalloc((size_t)held + 1, sizeof *k->held);
	for (int64_t i = 0; i < t->windows; i++) {
		if (at < held && i == (2 * at + 1) * t->windows / (2 * held)) {
			k->held[k->n_held++] = i;
			at++;
		} else {
			k->train[k->n_train++] = i;
		}
	}
	return BL_OK;
}

static void base_done(void *ctx, int block, int64_t tokens)
{
	struct model *k = ctx;
	const double all = (double)bl_pass_tokens(k->base);

	if (k->t->rq->report)
		k->t->rq->report(k->t->rq->ctx, "base model", (double)block + (double)tokens / all, (double)k->blocks);
}

static enum bl_status run_base(struct model *k, struct bl_err *err)
{
	struct tune *t = k->t;
	const struct bl_tap tap = { .ctx = k, .batch_done = base_done };
	struct bl_sequences s = { t->rq->ids, NULL, t->windows };
	int64_t *start = bl_xalloc((size_t)t->windows + 1, sizeof *start);

	for (int64_t i = 0; i <= t->windows; i++)
		start[i] = i * t->rq->len;
	s.start = start;
	if (!bl_pass_new(&k->base, t->f, &s, err) && !bl_pass_embed(k->base, err))
		bl_pass_run(k->base, 0, NULL, &tap, err);
	k->base_start = start;
	return err->status;
}

static enum bl_status allocate(struct model *k, struct bl_err *err)
{
	struct tune *t = k->t;
	const size_t bytes = (size_t)t->tokens * (size_t)t->hidden * (t->dtype == BK_F32 ? 4 : 2);
	struct bk_mat *const more[] = { &k->d, &k->want, &k->again };

	k->x = bl_xalloc((size_t)k->blocks + 1, sizeof *k->x);
	for (int b = 0; b <= k->blocks; b++) {
		k->x[b] = tune_mat(NULL, t->tokens, t->hidden, t->dtype);
		if (bl_engine_alloc(t->e, &k->x[b].p, bytes, "inputs of blocks", err))
			return err->status;
	}
	for (int i = 0; i < 3; i++) {
		*more[i] = tune_mat(NULL, t->tokens, t->hidden, t->dtype);
		if (bl_engine_alloc(t->e, &more[i]->p, bytes, "hidden states of a batch", err))
			return err->status;
	}
	return bl_try_alloc(&k->ids, (size_t)t->tokens, sizeof *k->ids, "token numbers", err);
}

enum bl_status tune_model(struct tune *t, struct bl_err *err)
{
	struct model k = { .t = t, .blocks = (int)t->m->config.layers };

	while (k.first < k.blocks * BL_UNIT_KIND_COUNT && !t->rq->units[k.first].tuned)
		k.first++;
	k.first /= BL_UNIT_KIND_COUNT;
	if (!divide(&k, err) && !run_base(&k, err) && !allocate(&k, err)) {
		for (int i = 0; i < t->m->n_units && !err->status; i++)
			tune_state_open(t, i, err);
		if (!err->status)
			train(&k, err);
		for (int i = 0; i < t->m->n_units && !err->status; i++)
			if (t->rq->units[i].tuned)
				tune_result(t, i, err);
		for (int i = 0; i < t->m->n_units; i++)
			tune_state_close(t, i);
	}
	bl_pass_free(k.base);
	for (int b = 0; k.x && b <= k.blocks; b++)
		bl_engine_release(t->e, k.x[b].p);
	bl_engine_release(t->e, k.d.p);
	bl_engine_release(t->e, k.want.p);
	bl_engine_release(t->e, k.again.p);
	tune_order_free(&k.order);
	bl_free(k.base_start);
	bl_free(k.x);
	bl_free(k.ids);
	bl_free(k.train);
	bl_free(k.held);
	return err->status;
}
