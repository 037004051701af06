/* SPDX-License-Identifier: Apache-2.0
 * Units whose Hessians are of the model as quantized so far. Two streams of hidden states go through the blocks: the quantized one, whose inputs to a block
 * make the Hessians while the block still has its own weights; and, where weights are to make up for what the inputs have lost, the base's beside it, batch by
 * batch, for the cross moments. Then the block's units are solved and the quantized stream goes through what came out. Activations stay in full precision:
 * what the server rounds them to is not part of what a weight can mend. */
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/session/live.h"
#include "core/solve/store.h"

#define KINDS 4 /* units of a block */

struct streams {
	struct bl_live *l;
	struct bl_job *job;
	const struct bl_live_plan *plan;
	const struct bl_calib *calib;
	struct bl_forward *f;
	struct bl_engine *e;
	struct bl_pass *quantized, *work, *base; /* base: NULL unless some unit is corrected */
	int64_t *start;
	void *h[KINDS], *cross[KINDS], *x[KINDS]; /* x: the base's inputs of one batch */
	bool want[KINDS], corrected[KINDS];
	int block, blocks;
	int64_t n_tokens;
	double done, total; /* tokens times blocks */
};

struct bl_solve_inputs bl_live_inputs(const struct bl_live *l, const struct bl_choice *c)
{
	if (c->scheme.number == BL_NUM_FULL)
		return (struct bl_solve_inputs){false, 0};
	return bl_solve_inputs_of(&l->s->registry, c->method, c->params);
}

void bl_live_chain(char chain[65], const struct bl_live *l, const struct bl_live_plan *p, int block)
{
	struct bl_str s = {0};
	char scheme[BL_SCHEME_NAME_MAX];

	for (int i = 0; i < p->n; i++)
		if (l->s->model->units[i].block < block && p->choice[i].scheme.number != BL_NUM_FULL)
			bl_str_addf(&s, "%d %s %s %s\n", i, bl_scheme_name(scheme, &p->choice[i].scheme), p->choice[i].method, p->choice[i].params ? p->choice[i].params : "");
	bl_str_addf(&s, "nonfinite %d\n", p->zero_nonfinite);
	bl_sha256_of(bl_str_c(&s), s.len, chain);
	bl_str_free(&s);
}

/* ---- taps ---- */

static int64_t cols_of(const struct streams *s, int kind) { return s->l->s->model->units[s->block * KINDS + kind].cols; }
static struct bk_mat square(const struct streams *s, void *p, int kind) { return (struct bk_mat){p, cols_of(s, kind), cols_of(s, kind), cols_of(s, kind), BK_F32}; }

static enum bl_status keep_input(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct streams *s = ctx;
	const int kind = unit - s->block * KINDS;
	const struct bk_mat to = {s->x[kind], x->rows, x->cols, x->cols, x->dtype};

	(void)first;
	return s->x[kind] ? bl_engine_check(s->e, s->e->ops->convert(s->e->run, &to, x), "keeping inputs", err) : BL_OK;
}

static enum bl_status add_input(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct streams *s = ctx;
	const int kind = unit - s->block * KINDS;
	const struct bk_mat h = square(s, s->h[kind], kind), g = square(s, s->cross[kind], kind), base = {s->x[kind], x->rows, x->cols, x->cols, x->dtype};

	(void)first;
	if (!s->want[kind])
		return BL_OK;
	if (bl_engine_check(s->e, s->e->ops->hessian(s->e->run, &h, x), "Hessians", err) || !s->corrected[kind])
		return err->status;
	return bl_engine_check(s->e, s->e->ops->gemm(s->e->run, &g, &base, 1, x, 0, 1, 1, NULL), "cross moments", err);
}

static void batch_done(void *ctx, int block, int64_t tokens)
{
	struct streams *s = ctx;
	char note[48];

	snprintf(note, sizeof note, "block %d/%d", block + 1, s->blocks);
	bl_job_note(s->job, note);
	bl_job_progress(s->job, "propagate", s->done + (double)tokens, s->total, "tokens");
	if (bl_job_checkpoint(s->job))
		atomic_store(&s->l->cancel, 1);
}

/* ---- one block ---- */

static void drop_moments(struct streams *s)
{
	for (int k = 0; k < KINDS; k++) {
		bl_engine_release(s->e, s->h[k]);
		bl_engine_release(s->e, s->cross[k]);
		bl_engine_release(s->e, s->x[k]);
		s->h[k] = s->cross[k] = s->x[k] = NULL;
	}
}

static enum bl_status make_moments(struct streams *s, struct bl_err *err)
{
	for (int k = 0; k < KINDS; k++) {
		const size_t bytes = (size_t)(cols_of(s, k) * cols_of(s, k)) * 4;

		if (!s->want[k])
			continue;
		if (bl_engine_alloc(s->e, &s->h[k], bytes, "a Hessian", err) || bl_engine_check(s->e, s->e->ops->zero(s->e->run, s->h[k], bytes), "Hessians", err))
			return err->status;
		if (!s->corrected[k])
			continue;
		if (bl_engine_alloc(s->e, &s->cross[k], bytes, "cross moments", err) ||
		    bl_engine_check(s->e, s->e->ops->zero(s->e->run, s->cross[k], bytes), "cross moments", err) ||
		    bl_engine_alloc(s->e, &s->x[k], (size_t)(bl_pass_batch_tokens(s->work) * cols_of(s, k)) * 2, "inputs of a batch", err))
			return err->status;
	}
	return BL_OK;
}

/* The moments of the block's inputs; the base's stream, when there is one, is behind the block afterwards. */
static enum bl_status collect(struct streams *s, struct bl_err *err)
{
	const struct bl_tap add = {.ctx = s, .input = add_input, .batch_done = batch_done}, keep = {.ctx = s, .input = keep_input};
	bool any = false, side_by_side = false;

	for (int k = 0; k < KINDS; k++) {
		any |= s->want[k];
		side_by_side |= s->want[k] && s->corrected[k];
	}
	if (any && (make_moments(s, err) || bl_pass_copy(s->work, s->quantized, err)))
		return err->status;
	if (!side_by_side) {
		if (any && bl_pass_block(s->work, s->block, NULL, &add, err))
			return err->status;
		return s->base ? bl_pass_block(s->base, s->block, NULL, &(struct bl_tap){.ctx = s}, err) : BL_OK;
	}
	for (int b = 0; b < bl_pass_batches(s->work); b++) {
		if (bl_pass_step(s->base, s->block, b, NULL, &keep, err) || bl_pass_step(s->work, s->block, b, NULL, &add, err))
			return err->status;
		batch_done(s, s->block, (int64_t)((double)s->n_tokens * (b + 1) / bl_pass_batches(s->work)));
	}
	return BL_OK;
}

static enum bl_status solve(struct streams *s, int kind, struct bl_solved **out, struct bl_err *err)
{
	const int unit = s->block * KINDS + kind;
	const struct bl_choice *c = &s->plan->choice[unit];
	struct bl_err unsaved = BL_ERR_INIT;
	struct bl_solve_request rq = bl_live_request(s->l->s, unit, c, s->plan->zero_nonfinite);
	char key[65], chain[65];

	bl_live_chain(chain, s->l, s->plan, s->block);
	rq.chain = chain;
	bl_solved_key(key, &rq, bl_calib_key_of(s->calib), "");
	if (!s->want[kind])
		return bl_solved_load(out, &rq, s->l->cache_dir, key, err);
	rq.h_device = s->h[kind];
	rq.cross_device = s->corrected[kind] ? s->cross[kind] : NULL;
	rq.correct = bl_live_inputs(s->l, c).correct;
	rq.tokens = s->n_tokens;
	rq.cancel = bl_job_cancel_flag(s->job);
	if (bl_solve_unit(out, s->e, &rq, err))
		return err->status;
	if (*(*out)->report)
		bl_log(BL_LOG_WARN, "%s", (*out)->report);
	if (bl_solved_save(*out, s->l->cache_dir, key, &unsaved))
		bl_log(BL_LOG_WARN, "a solved unit is not kept: %s", unsaved.text);
	return BL_OK;
}

/* What the quantized stream goes through: the unit's new weights, its inputs as they are. */
static enum bl_status replace(struct streams *s, int kind, struct bl_weight_set *set, struct bl_err *err)
{
	const int unit = s->block * KINDS + kind;
	struct bl_choice c = s->plan->choice[unit];
	struct bl_solved *u = NULL;

	if (c.scheme.number == BL_NUM_FULL)
		return BL_OK;
	if (bl_live_inputs(s->l, &c).quantized)
		solve(s, kind, &u, err);
	else if (bl_session_choice_whole(s->l->s, &c))
		bl_live_solved_unit(s->l, unit, &c, s->plan->zero_nonfinite, bl_job_cancel_flag(s->job), &u, err);
	c.scheme.act = BL_ACT_NONE;
	if (!err->status)
		bl_live_unit_weights(s->l->s, unit, &c, s->plan->zero_nonfinite, u, &set->of[unit], err);
	bl_solved_free(u);
	return err->status;
}

/* Units of the block that are asked for and not stored yet. */
static void look_up(struct streams *s, const uint8_t *selected)
{
	char key[65], chain[65];

	bl_live_chain(chain, s->l, s->plan, s->block);
	for (int k = 0; k < KINDS; k++) {
		const int unit = s->block * KINDS + k;
		const struct bl_choice *c = &s->plan->choice[unit];
		const struct bl_solve_inputs in = bl_live_inputs(s->l, c);
		struct bl_solve_request rq = bl_live_request(s->l->s, unit, c, s->plan->zero_nonfinite);
		struct bl_err ignored = BL_ERR_INIT;
		struct bl_solved *u = NULL;

		(void)selected; /* what comes behind depends on all of them */
		rq.chain = chain;
		s->want[k] = s->corrected[k] = false;
		if (!in.quantized)
			continue;
		bl_solved_key(key, &rq, bl_calib_key_of(s->calib), "");
		s->want[k] = bl_solved_load(&u, &rq, s->l->cache_dir, key, &ignored) != BL_OK;
		s->corrected[k] = s->want[k] && in.correct > 0;
		bl_solved_free(u);
	}
}

static enum bl_status one_block(struct streams *s, bool last, struct bl_err *err)
{
	const struct bl_model *m = s->l->s->model;
	struct bl_weight_set set = {bl_xalloc((size_t)m->n_units + 1, sizeof *set.of), m->n_units};
	const struct bl_tap tap = {.ctx = s, .batch_done = batch_done};

	collect(s, err);
	s->done += (double)s->n_tokens;
	for (int k = 0; k < KINDS && !err->status; k++)
		replace(s, k, &set, err);
	drop_moments(s);
	if (!err->status && !last)
		bl_pass_block(s->quantized, s->block, &set, &tap, err);
	s->done += (double)s->n_tokens;
	for (int i = 0; i < set.n; i++)
		bl_unit_weights_unref(set.of[i]);
	bl_free(set.of);
	return err->status;
}

/* ---- all of them ---- */

static enum bl_status open_passes(struct streams *s, bool corrected, struct bl_err *err)
{
	const int64_t len = bl_calib_window(s->calib), windows = bl_calib_tokens(s->calib) / len;
	struct bl_pass **const all[] = {&s->quantized, &s->work, corrected ? &s->base : NULL};
	struct bl_sequences seq;

	s->n_tokens = windows * len;
	s->start = bl_xalloc((size_t)windows + 1, sizeof *s->start);
	for (int64_t i = 0; i <= windows; i++)
		s->start[i] = i * len;
	seq = (struct bl_sequences){bl_calib_ids(s->calib), s->start, windows};
	for (int i = 0; i < 3; i++)
		if (all[i] && bl_pass_new(all[i], s->f, &seq, err))
			return err->status;
	for (int i = 0; i < 3; i++) /* the last one had the least memory; side by side they need the same batches */
		if (all[i] && bl_pass_batch_tokens(*all[i]) != bl_pass_batch_tokens(corrected ? s->base : s->work) &&
		    bl_pass_set_batch(*all[i], bl_pass_batch_tokens(corrected ? s->base : s->work), err))
			return err->status;
	if (bl_pass_embed(s->quantized, err) || (s->base && bl_pass_embed(s->base, err)))
		return err->status;
	return BL_OK;
}

static enum bl_status run(struct streams *s, const uint8_t *selected, struct bl_err *err)
{
	int last = -1;
	bool corrected = false;

	for (int b = 0; b < s->blocks; b++) {
		s->block = b;
		look_up(s, selected);
		for (int k = 0; k < KINDS; k++) {
			last = s->want[k] ? b : last;
			corrected |= s->corrected[k];
		}
	}
	if (last < 0)
		return BL_OK;
	s->total = 2.0 * (last + 1) * (double)bl_calib_tokens(s->calib);
	s->f = bl_live_forward(s->l, 0, err);
	if (!s->f)
		return err->status;
	s->e = &s->l->engine;
	if (open_passes(s, corrected, err))
		return err->status;
	for (int b = 0; b <= last && !err->status; b++) {
		s->block = b;
		look_up(s, selected);
		one_block(s, b == last, err);
	}
	return err->status;
}

enum bl_status bl_live_propagate(struct bl_live *l, struct bl_job *j, const struct bl_live_plan *p, const uint8_t *selected, struct bl_live_calib *calib,
				 struct bl_err *err)
{
	do {
		struct streams s = {.l = l, .job = j, .plan = p, .calib = calib->c, .blocks = (int)l->s->model->config.layers};

		bl_err_clear(err);
		run(&s, selected, err);
		if (s.e)
			drop_moments(&s);
		bl_pass_free(s.quantized);
		bl_pass_free(s.work);
		bl_pass_free(s.base);
		bl_free(s.start);
	} while (err->status && bl_live_failed(l, bl_calib_window(calib->c), err)); /* what was solved is stored */
	return err->status;
}
