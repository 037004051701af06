/* SPDX-License-Identifier: Apache-2.0
 * End to end: the divergence of next-token distributions, through the head and all blocks back. Each step runs the base model over its batch first, so that
 * a batch may be anything: windows, or windows put together from pieces. Of the tuned model only the blocks' inputs are kept; on the way back each block is
 * run again, its gradients become steps at once, and it is left. Windows that are held out tell which state is the best. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "core/tune/private.h"

struct model {
	struct tune *t;
	struct tune_order order;
	int64_t *train, n_train, *held, n_held;
	int blocks, first;         /* first: the first block that is trained */
	struct bk_mat *x;          /* [blocks + 1] */
	struct bk_mat *base;       /* [blocks + 1]: the base model's; without features all but the last are two that take turns */
	double *norm;              /* [blocks + 1]: sums of squares of the first batch's base, 0: not known yet */
	double *sum;               /* in the run's memory */
	struct bk_mat d, again;
	int32_t *ids;
	double before, best, last; /* divergences of what is held out */
	double batch_kl, trained_kl; /* of a step; the mean of those since the last look */
	int64_t best_step, steps;  /* of a try */
	int tries;
	double rate, best_rate;    /* of a try, times the method's */
};

/* --- batches --- */

static void copy_windows(struct model *k, const int64_t *windows)
{
	const struct tune *t = k->t;

	for (int64_t j = 0; j < t->batch; j++)
		memcpy(k->ids + j * t->rq->len, t->rq->ids + windows[j] * t->rq->len, (size_t)t->rq->len * sizeof *k->ids);
}

/* Each window has its own share of other tokens: from none to twice the mean. */
static void add_noise(struct model *k, int32_t *ids)
{
	const int64_t len = k->t->rq->len;
	const uint64_t share = (uint64_t)(k->t->how->noise * (double)tune_order_draw(&k->order, (2 << 20) + 1));

	for (int64_t i = 0; i < len; i++) {
		if (tune_order_draw(&k->order, 1 << 20) >= share)
			continue;
		const int64_t window = k->train[tune_order_draw(&k->order, (uint64_t)k->n_train)];

		ids[i] = k->t->rq->ids[window * len + (int64_t)tune_order_draw(&k->order, (uint64_t)len)];
	}
}

/* Windows to train on: as they come, or put together. */
static void draw_batch(struct model *k)
{
	const struct tune *t = k->t;
	const int64_t len = t->rq->len, most = t->how->pieces < len ? t->how->pieces : len;

	for (int64_t j = 0; j < t->batch; j++) {
		const int64_t n = most > 1 ? 1 + (int64_t)tune_order_draw(&k->order, (uint64_t)most) : 1;

		for (int64_t i = 0; i < n; i++) {
			const int64_t first = i * len / n, size = (i + 1) * len / n - first, window = tune_order_next(&k->order);
			const int64_t from = n > 1 ? (int64_t)tune_order_draw(&k->order, (uint64_t)(len - size + 1)) : 0;

			memcpy(k->ids + j * len + first, t->rq->ids + window * len + from, (size_t)size * sizeof *k->ids);
		}
	}
	for (int64_t j = 0; t->how->noise > 0 && j < t->batch; j++)
		add_noise(k, k->ids + j * len);
}

/* --- both models over a batch --- */

static enum bl_status base_forward(struct model *k, struct bl_tape_weight *w, struct bl_err *err)
{
	struct tune *t = k->t;

	if (bl_tape_embed(t->tape, k->ids, &k->base[0], err))
		return err->status;
	for (int b = 0; b < k->blocks; b++)
		if (tune_base_weights(t, b, w, err) || bl_tape_block(t->tape, b, w, &k->base[b], &k->base[b + 1], err))
			return err->status;
	return BL_OK;
}

static enum bl_status forwards(struct model *k, bool keep, struct bl_tape_weight *w, struct bl_err *err)
{
	struct tune *t = k->t;

	if (base_forward(k, w, err) || bl_tape_embed(t->tape, k->ids, &k->x[0], err))
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

/* d += the gradient of the features at the output of block b. */
static enum bl_status add_features(struct model *k, int b, struct bl_err *err)
{
	struct tune *t = k->t;
	double *norm = &k->norm[b + 1];

	if (*norm <= 0 && (TUNE_OP(t, err, "features", zero(t->e->run, k->sum, sizeof *norm)) ||
			   TUNE_OP(t, err, "features", dot(t->e->run, k->sum, &k->base[b + 1], &k->base[b + 1])) ||
			   TUNE_OP(t, err, "features", get(t->e->run, norm, k->sum, sizeof *norm))))
		return err->status;
	if (!(*norm > 0) || !isfinite(*norm))
		return BL_OK;
	if (TUNE_GRAD(t, err, "features", mse_back(t->e->run, &k->again, NULL, &k->x[b + 1], &k->base[b + 1], (float)(t->how->features / (*norm * k->blocks)))))
		return err->status;
	return TUNE_OP(t, err, "features", add(t->e->run, &k->d, &k->again));
}

static enum bl_status one_step(struct model *k, double *kl, struct bl_err *err)
{
	struct tune *t = k->t;
	const struct bl_tape_sink sink = { t, tune_wants, tune_step };
	struct bl_tape_weight w[BL_UNIT_KIND_COUNT];

	draw_batch(k);
	if (forwards(k, true, w, err) || bl_tape_kl(t->tape, &k->x[k->blocks], &k->base[k->blocks], &k->d, kl, err))
		return err->status;
	*kl /= (double)t->tokens;
	if (!isfinite(*kl)) /* no direction to go */
		return BL_OK;
	for (int b = k->blocks - 1; b >= k->first; b--) {
		if (t->how->features > 0 && add_features(k, b, err))
			return err->status;
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
	for (int64_t i = 0; i < k->n_held; i += t->batch) {
		copy_windows(k, k->held + i);
		if (forwards(k, false, w, err) || bl_tape_kl(t->tape, &k->x[k->blocks & 1], &k->base[k->blocks], NULL, kl, err))
			return err->status;
	}
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
	bl_log(BL_LOG_DEBUG, "step %lld of %lld: held out %.6f, trained on %.6f", (long long)k->t->step, (long long)k->steps, k->last, k->trained_kl);
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
	int64_t looked = 0, since = 0;
	double sum = 0;

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
		sum += k->batch_kl;
		since++;
		if (t->step * t->how->looks / k->steps > looked) {
			looked = t->step * t->how->looks / k->steps;
			k->trained_kl = sum / (double)since;
			sum = 0;
			since = 0;
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
		snprintf(t->report, sizeof t->report, "KL of %lld windows held out %.6f, %.6f at first (%.6f of those trained on at last); step %lld of %lld, rates times %.3g", (long long)k->n_held, k->best, k->before, k->trained_kl,
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

	for (int64_t i = 0; i < t->windows * t->rq->len; i++)
		if (t->rq->ids[i] < 0 || t->rq->ids[i] >= t->m->config.vocab)
			return bl_fail(err, BL_INVALID, "token %lld: id %d is outside the vocabulary of %lld", (long long)i, t->rq->ids[i], (long long)t->m->config.vocab);
	held = t->how->held_out > 0 ? ((held > 0 ? held : 1) + t->batch - 1) / t->batch * t->batch : 0;
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

static bool shared_base(const struct model *k, int b) { return b >= 2 && !(k->t->how->features > 0); }

static enum bl_status allocate(struct model *k, struct bl_err *err)
{
	struct tune *t = k->t;
	const size_t bytes = (size_t)t->tokens * (size_t)t->hidden * (t->dtype == BK_F32 ? 4 : 2);
	struct bk_mat *const more[] = { &k->d, &k->again };

	k->x = bl_xalloc((size_t)k->blocks + 1, sizeof *k->x);
	k->base = bl_xalloc((size_t)k->blocks + 1, sizeof *k->base);
	k->norm = bl_xalloc((size_t)k->blocks + 1, sizeof *k->norm);
	for (int b = 0; b <= k->blocks; b++) {
		k->x[b] = k->base[b] = tune_mat(NULL, t->tokens, t->hidden, t->dtype);
		if (bl_engine_alloc(t->e, &k->x[b].p, bytes, "inputs of blocks", err))
			return err->status;
		if (!shared_base(k, b) && bl_engine_alloc(t->e, &k->base[b].p, bytes, "the base model's blocks", err))
			return err->status;
		if (shared_base(k, b))
			k->base[b].p = k->base[b - 2].p;
	}
	for (int i = 0; i < 2; i++) {
		*more[i] = tune_mat(NULL, t->tokens, t->hidden, t->dtype);
		if (bl_engine_alloc(t->e, &more[i]->p, bytes, "hidden states of a batch", err))
			return err->status;
	}
	if (bl_engine_alloc(t->e, (void **)&k->sum, sizeof *k->sum, "sums", err))
		return err->status;
	return bl_try_alloc(&k->ids, (size_t)t->tokens, sizeof *k->ids, "token numbers", err);
}

enum bl_status tune_model(struct tune *t, struct bl_err *err)
{
	struct model k = { .t = t, .blocks = (int)t->m->config.layers };

	while (k.first < k.blocks * BL_UNIT_KIND_COUNT && !t->rq->units[k.first].tuned)
		k.first++;
	k.first /= BL_UNIT_KIND_COUNT;
	for (int i = 0; i < t->m->n_units; i++)
		t->together += t->rq->units[i].tuned;
	if (!divide(&k, err) && !allocate(&k, err)) {
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
	for (int b = 0; k.x && b <= k.blocks; b++)
		bl_engine_release(t->e, k.x[b].p);
	for (int b = 0; k.base && b <= k.blocks; b++)
		if (!shared_base(&k, b))
			bl_engine_release(t->e, k.base[b].p);
	bl_engine_release(t->e, k.d.p);
	bl_engine_release(t->e, k.again.p);
	bl_engine_release(t->e, k.sum);
	tune_order_free(&k.order);
	bl_free(k.x);
	bl_free(k.base);
	bl_free(k.norm);
	bl_free(k.ids);
	bl_free(k.train);
	bl_free(k.held);
	return err->status;
}
