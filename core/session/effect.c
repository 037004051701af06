/* SPDX-License-Identifier: Apache-2.0
 * What quantized units do to the model's answers on the kept windows. Hidden states at the doors of blocks are kept for the base and for the plan that was
 * measured last, as many as memory allows, each under a hash of the choices before it; so an edit in a block runs from there on. Logits, losses and means
 * are those of core/evaluate over one pass of the same windows: the numbers of a full evaluation, bit for bit. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/evaluate/run.h"
#include "core/session/live.h"

struct state { int block; uint64_t prefix; struct bl_pass *pass; bool filled; };

struct bl_live_states {
	struct bl_live_calib *calib;    /* counted; passes borrow its ids */
	int64_t *start;
	struct bl_sequences seq;
	int blocks, stride;             /* states at multiples of it, and the base's output */
	struct state *base, *plan; int n; /* [n] each: block i * stride; base[n - 1]: the output */
	struct bl_pass *work;
	struct bl_head_kept logits;     /* of the base */
};

void bl_live_states_free(struct bl_live *l)
{
	struct bl_live_states *s = l->states;

	if (!s)
		return;
	for (int i = 0; i < s->n; i++) {
		bl_pass_free(s->base[i].pass);
		bl_pass_free(s->plan[i].pass);
	}
	bl_pass_free(s->work);
	bl_head_drop(&s->logits, l->forward);
	bl_free(s->base);
	bl_free(s->plan);
	bl_free(s->start);
	bl_live_calib_unref(s->calib);
	bl_free(s);
	l->states = NULL;
}

/* A quarter of what is free may hold states. */
static int choose_stride(struct bl_live *l, int blocks, int64_t tokens)
{
	uint64_t each = (uint64_t)(tokens * l->s->model->config.hidden) * 2, room = bl_engine_available(&l->engine) / 4 / (each ? each : 1);
	int stride = 1;

	while (stride < blocks && 2 * (uint64_t)((blocks + stride - 1) / stride) + 2 > room)
		stride++;
	return stride;
}

static enum bl_status states(struct bl_live_turn *t, struct bl_live_states **out, struct bl_err *err)
{
	struct bl_live *l = t->l;
	int64_t windows = bl_calib_kept_windows(t->calib->c), len = bl_calib_window(t->calib->c);

	if (l->states && l->states->calib != t->calib)
		bl_live_states_free(l);
	if (!l->states) {
		struct bl_live_states *s = l->states = bl_xalloc(1, sizeof *s);
		s->calib = bl_live_calib_ref(t->calib);
		s->start = bl_xalloc((size_t)windows + 1, sizeof *s->start);
		for (int64_t i = 0; i <= windows; i++)
			s->start[i] = i * len;
		s->seq = (struct bl_sequences){bl_calib_ids(t->calib->c), s->start, windows};
		s->blocks = (int)l->s->model->config.layers;
		s->stride = choose_stride(l, s->blocks, windows * len);
		s->n = (s->blocks + s->stride - 1) / s->stride + 1;
		s->base = bl_xalloc((size_t)s->n, sizeof *s->base);
		s->plan = bl_xalloc((size_t)s->n, sizeof *s->plan);
		for (int i = 0; i < s->n; i++)
			s->base[i].block = s->plan[i].block = i < s->n - 1 ? i * s->stride : s->blocks;
	}
	if (!l->states->work && bl_pass_new(&l->states->work, l->forward, &l->states->seq, err))
		return err->status;
	*out = l->states;
	return BL_OK;
}

/* ---- choices ---- */

struct assignment { /* of choices to units */
	const struct bl_live_plan *plan; /* NULL: `unit` alone, or the base when there is none */
	const struct bl_live_request *unit;
};

/* A unit alone stands in a block whose other units are in full precision, after the plan's stages: its partners hold the other side of their factors. */
static struct bl_choice partner_of(const struct bl_live_request *r)
{
	return (struct bl_choice){.scheme = BL_SCHEME_FULL, .params = (char *)(uintptr_t)"", .stages = r->choice.stages};
}

static uint64_t hash_of(const struct bl_live *l, const struct assignment *a, int unit)
{
	if (a->plan)
		return a->plan->hash[unit];
	if (!a->unit || a->unit->unit == unit)
		return a->unit ? a->unit->hash : 0;
	const struct bl_choice c = partner_of(a->unit);
	return l->s->model->units[unit].block == l->s->model->units[a->unit->unit].block ? bl_live_choice_hash(&c, a->unit->zero_nonfinite) : 0;
}

/* Of what the input of a block depends on; 0: the base's. */
static uint64_t prefix_of(struct bl_live *l, const struct assignment *a, int block)
{
	uint64_t h = 0;

	for (int i = 0; i < l->s->model->n_units; i++)
		if (l->s->model->units[i].block < block && hash_of(l, a, i))
			h = (h ^ (hash_of(l, a, i) + (uint64_t)i)) * 0x9e3779b97f4a7c15u + 1;
	return h;
}

/* Norms and biases that go with the stages, where a block has any of them. */
static enum bl_status small_of(struct bl_live *l, const struct assignment *a, int block, struct bl_weight_set *set, struct bl_err *err)
{
	const struct bl_choice *c = a->plan && a->plan->n ? &a->plan->choice[0] : a->unit ? &a->unit->choice : NULL;
	struct bl_fold *f = NULL;

	set->small = NULL;
	if (!c || (a->unit && l->s->model->units[a->unit->unit].block != block) || bl_live_fold(l, c, &f, err))
		return err->status;
	bl_fold_unref(set->keep);
	set->keep = f;
	set->small = f && bl_fold_changes_small(f) ? bl_fold_model(f) : NULL;
	return BL_OK;
}

/* The replacements of one block into set->of, counted. */
static enum bl_status solve_block(struct bl_live *l, const struct assignment *a, int block, struct bl_weight_set *set, struct bl_err *err)
{
	for (int i = 0; i < set->n; i++) {
		struct bl_unit_weights *w = NULL;
		if (l->s->model->units[i].block != block || !hash_of(l, a, i))
			continue;
		const struct bl_choice partner = a->plan ? a->plan->choice[i] : partner_of(a->unit), *c = a->plan || a->unit->unit != i ? &partner : &a->unit->choice;
		if (bl_live_solve(l, i, c, a->plan ? a->plan->zero_nonfinite : a->unit->zero_nonfinite, &w, err))
			return err->status;
		set->of[i] = w ? bl_unit_weights_ref(w) : NULL;
	}
	return small_of(l, a, block, set, err);
}

static void release_set(struct bl_weight_set *set)
{
	for (int i = 0; i < set->n; i++) {
		bl_unit_weights_unref(set->of[i]);
		set->of[i] = NULL;
	}
}

/* ---- running ---- */

struct watch { struct bl_live_turn *t; const struct bl_live_plan *plan; };

/* Something more urgent is there, or the result would not be of the plan any more. */
static bool has_to_stop(const struct watch *w)
{
	struct bl_live *l = w->t->l;
	bool stop = bl_job_checkpoint(w->t->job) || ((!w->t->own || w->t->polite) && bl_job_wanted(w->t->job));

	if (w->t->own)
		return stop;
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < l->n_queue && !stop; i++)
		stop = l->queue[i]->kind == BL_LIVE_ERROR;
	if (w->plan)
		stop |= !l->plan || strcmp(l->plan->digest, w->plan->digest) != 0;
	else
		stop |= l->effect_wanted;
	pthread_mutex_unlock(&l->lock);
	return stop;
}

static void batch_done(void *ctx, int block, int64_t tokens_done)
{
	const struct watch *w = ctx;

	(void)block;
	(void)tokens_done;
	if (has_to_stop(w))
		atomic_store(&w->t->l->cancel, 1);
}

static void report(void *ctx, const char *phase, double done, double total, const char *unit)
{
	(void)phase;
	(void)done;
	(void)total;
	(void)unit;
	batch_done(ctx, 0, 0);
}

static enum bl_status store(struct bl_live *l, struct state *s, uint64_t prefix, struct bl_pass *from, struct bl_err *err)
{
	s->filled = false;
	if ((!s->pass && bl_pass_new(&s->pass, l->forward, &l->states->seq, err)) || bl_pass_copy(s->pass, from, err))
		return err->status;
	s->prefix = prefix;
	s->filled = true;
	return BL_OK;
}

/* Blocks from .. end of st->work. Into: where states go. */
static enum bl_status run_blocks(struct bl_live_turn *t, struct bl_live_states *st, const struct assignment *a, int from, struct state *into, const struct watch *w,
				 struct bl_err *err)
{
	struct bl_live *l = t->l;
	struct bl_weight_set set = {.of = bl_xalloc((size_t)l->s->model->n_units + 1, sizeof *set.of), .n = l->s->model->n_units};
	struct bl_tap tap = {.ctx = (void *)(uintptr_t)w, .batch_done = batch_done};

	for (int b = from; b < st->blocks && !err->status; b++) {
		if (has_to_stop(w)) {
			bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
			break;
		}
		if (into && b % st->stride == 0 && b > from && store(l, &into[b / st->stride], prefix_of(l, a, b), st->work, err))
			break;
		if (solve_block(l, a, b, &set, err) == BL_OK && bl_pass_block(st->work, b, &set, &tap, err) == BL_OK)
			bl_engine_check(&l->engine, l->engine.ops->wait(l->engine.run), "the effect of a plan", err); /* what is queued cannot make room for an edit */
		release_set(&set);
	}
	bl_free(set.of);
	bl_fold_unref(set.keep);
	return err->status;
}

static enum bl_status ensure_base(struct bl_live_turn *t, struct bl_live_states *st, const struct watch *w, struct bl_err *err)
{
	const struct assignment none = {NULL, NULL};
	int from = 0;

	if (st->base[st->n - 1].filled)
		return BL_OK;
	for (int i = st->n - 2; i > 0 && !from; i--) /* what an interrupted run left */
		from = st->base[i].filled ? st->base[i].block : 0;
	if (from ? bl_pass_copy(st->work, st->base[from / st->stride].pass, err) : bl_pass_embed(st->work, err))
		return err->status;
	if (!from && store(t->l, &st->base[0], 0, st->work, err))
		return err->status;
	if (run_blocks(t, st, &none, from, st->base, w, err))
		return err->status;
	return store(t->l, &st->base[st->n - 1], 0, st->work, err);
}

/* The latest state that the assignment shares with the base or with the plan of the last run. */
static const struct state *start_of(struct bl_live *l, const struct bl_live_states *st, const struct assignment *a)
{
	for (int i = st->n - 2; i > 0; i--) {
		uint64_t prefix = prefix_of(l, a, st->base[i].block);
		if (!prefix && st->base[i].filled)
			return &st->base[i];
		if (st->plan[i].filled && st->plan[i].prefix == prefix)
			return &st->plan[i];
	}
	return &st->base[0];
}

static enum bl_status compare(struct bl_live_turn *t, struct bl_live_states *st, const struct watch *w, double *kl, double *top1, struct bl_err *err)
{
	int64_t windows = st->seq.n, len = bl_calib_window(t->calib->c), n = windows * (len - 1), k = 0;
	struct bl_eval_passes passes = {st->base[st->n - 1].pass, st->work, &st->logits};
	struct bl_eval_rows rows = {NULL, NULL, NULL, NULL};
	struct bl_weight_set some = {.of = NULL};
	int64_t *tokens = NULL;
	int32_t *targets = NULL;
	struct bl_eval_run run;
	struct bl_eval_kl out;

	if (!st->logits.rows)
		bl_head_keep(&st->logits, t->l->forward, n);
	if (bl_try_alloc(&tokens, (size_t)n + 1, sizeof *tokens, "tokens of a comparison", err) == BL_OK &&
	    bl_try_alloc(&targets, (size_t)n + 1, sizeof *targets, "tokens of a comparison", err) == BL_OK &&
	    bl_try_alloc(&rows.kl, (size_t)n + 1, sizeof *rows.kl, "tokens of a comparison", err) == BL_OK &&
	    bl_try_alloc(&rows.same, (size_t)n + 1, sizeof *rows.same, "tokens of a comparison", err) == BL_OK) {
		for (int64_t i = 0; i < windows; i++)
			for (int64_t j = 0; j + 1 < len; j++, k++) {
				tokens[k] = i * len + j;
				targets[k] = st->seq.ids[i * len + j + 1];
			}
		bl_eval_run_init(&run, t->l->forward, &some, windows * len, "kl", report, (void *)(uintptr_t)w);
		if (bl_eval_rows_run(&rows, &run, &passes, tokens, targets, n, err) == BL_OK) {
			bl_eval_kl_of(&out, rows.kl, rows.same, windows, len - 1);
			*kl = out.mean;
			*top1 = out.top1;
		}
	}
	bl_free(tokens);
	bl_free(targets);
	bl_free(rows.kl);
	bl_free(rows.same);
	return err->status;
}

static enum bl_status effect(struct bl_live_turn *t, const struct assignment *a, double *kl, double *top1, struct bl_err *err)
{
	struct watch w = {t, a->plan};
	struct bl_live_states *st = NULL;

	if (!bl_live_forward(t->l, 0, err) || states(t, &st, err) || ensure_base(t, st, &w, err))
		return err->status;
	const struct state *from = start_of(t->l, st, a);
	if (bl_pass_copy(st->work, from->pass, err) || run_blocks(t, st, a, from->block, a->plan ? st->plan : NULL, &w, err))
		return err->status;
	return compare(t, st, &w, kl, top1, err);
}

enum bl_status bl_live_plan_effect(struct bl_live_turn *t, const struct bl_live_plan *p, double *kl, double *top1, struct bl_err *err)
{
	struct assignment a = {p, NULL};

	return effect(t, &a, kl, top1, err);
}

enum bl_status bl_live_unit_effect(struct bl_live_turn *t, const struct bl_live_request *r, double *kl, double *top1, struct bl_err *err)
{
	struct assignment a = {NULL, r};

	return effect(t, &a, kl, top1, err);
}
