/* SPDX-License-Identifier: Apache-2.0
 * Units solved while the data go through the model, block by block, from moments that never leave the device. Two streams of hidden states, each there when
 * somebody needs it: the base's, and that of the model as quantized so far, whose inputs to a block are taken while the block still has its own weights; then
 * the stream goes through what came out of them. For units that are to make up for what their inputs have lost, the two go side by side, batch by batch.
 * Activations stay in full precision: what the server rounds them to is not part of what a weight can mend. */
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/session/live.h"
#include "core/session/measure.h"
#include "core/solve/store.h"

#define KINDS 4 /* units of a block */

enum stream { NONE, BASE, QUANTIZED, CROSSED }; /* whose inputs a unit's moments are of */

struct streams {
	struct bl_live *l;
	struct bl_job *job;
	const struct bl_live_plan *plan;
	const struct bl_live_source *source;
	struct bl_forward *f;
	struct bl_engine *e;
	struct bl_pass *base, *quantized, *work;
	int64_t *start, n_tokens, batch; /* batch: tokens at once, at most */
	int blocks, block;         /* block: whose moments there are; -1: none yet */
	int last_base, last_quantized; /* the last block that needs the stream's inputs */
	enum stream *want;         /* [n_units]: of those that are to be solved */
	bool *by_rms;              /* [n_units]: tokens count by one over the mean square of the output */
	int *unit; size_t n;       /* [n] in order */
	char (*key)[65];           /* [n_units] */
	void *h[KINDS], *cross[KINDS], *x[KINDS]; /* x: the base's inputs of one batch */
	void *scaled[KINDS];       /* inputs of one batch over what comes out */
	struct bk_mat seen;        /* the input of the linear that runs */
	struct bl_fold *fold;      /* the plan's stages; NULL: none */
	struct bl_weight_set own;  /* the block's weights in full precision after them; of NULL: the checkpoint's */
	struct bl_weight_set set;  /* what the quantized stream goes through */
	pthread_mutex_t lock;
	pthread_cond_t made;       /* a unit of `set`, or failed */
	bool failed;
	atomic_int solved;
};

struct bl_solve_inputs bl_live_inputs(const struct bl_live *l, int unit, const struct bl_choice *c)
{
	const struct bl_model *m = l->s->model;
	const enum bl_unit_kind kind = m->units[unit].kind;
	struct bl_solve_inputs in = {.quantized = false};

	if (c->scheme.number == BL_NUM_FULL)
		return in;
	in = bl_solve_inputs_of(&l->s->registry, c->method, c->params);
	in.by_rms &= m->arch->norms != BL_NORM_PRE && (kind == BL_UNIT_O || kind == BL_UNIT_DOWN);
	return in;
}

bool bl_live_streamed(const struct bl_live *l, int unit, const struct bl_choice *c)
{
	const struct bl_solve_inputs in = bl_live_inputs(l, unit, c);

	return in.quantized || in.by_rms;
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

static enum stream want_of(const struct streams *s, int kind) { return s->want[s->block * KINDS + kind]; }
static int64_t cols_of(const struct streams *s, int kind) { return s->l->s->model->units[s->block * KINDS + kind].cols; }
static struct bk_mat square(const struct streams *s, void *p, int kind) { return (struct bk_mat){p, cols_of(s, kind), cols_of(s, kind), cols_of(s, kind), BK_F32}; }

static int over_rms(const struct streams *s, const struct bk_mat *dst, const struct bk_mat *x, const struct bk_mat *y)
{
	const struct bk_solve solve = {.ops = s->e->ops, .run = s->e->run, .parallel = bl_engine_parallel, .parallel_ctx = s->e};

	return s->e->solve->over_rms(&solve, dst, x, y);
}

static enum bl_status base_input(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct streams *s = ctx;
	const int kind = unit - s->block * KINDS;
	const struct bk_mat h = square(s, s->h[kind], kind), keep = {s->x[kind], x->rows, x->cols, x->cols, x->dtype};

	(void)first;
	s->seen = *x;
	if (want_of(s, kind) == BASE)
		return s->by_rms[unit] ? BL_OK : bl_engine_check(s->e, s->e->ops->hessian(s->e->run, &h, x), "Hessians", err);
	return s->x[kind] ? bl_engine_check(s->e, s->e->ops->convert(s->e->run, &keep, x), "keeping inputs", err) : BL_OK;
}

static enum bl_status base_output(void *ctx, int unit, int64_t first, const struct bk_mat *y, struct bl_err *err)
{
	struct streams *s = ctx;
	const int kind = unit - s->block * KINDS;
	const struct bk_mat h = square(s, s->h[kind], kind), scaled = {s->scaled[kind], s->seen.rows, s->seen.cols, s->seen.cols, s->seen.dtype};

	(void)first;
	if (want_of(s, kind) != BASE || !s->by_rms[unit] || bl_engine_check(s->e, over_rms(s, &scaled, &s->seen, y), "weighing tokens", err))
		return err->status;
	return bl_engine_check(s->e, s->e->ops->hessian(s->e->run, &h, &scaled), "Hessians", err);
}

static enum bl_status add_quantized(struct streams *s, int kind, const struct bk_mat *x, struct bl_err *err)
{
	const struct bk_mat h = square(s, s->h[kind], kind), g = square(s, s->cross[kind], kind), base = {s->x[kind], x->rows, x->cols, x->cols, x->dtype};

	if (bl_engine_check(s->e, s->e->ops->hessian(s->e->run, &h, x), "Hessians", err) || want_of(s, kind) != CROSSED)
		return err->status;
	return bl_engine_check(s->e, s->e->ops->gemm(s->e->run, &g, &base, 1, x, 0, 1, 1, NULL), "cross moments", err);
}

static enum bl_status quantized_output(void *ctx, int unit, int64_t first, const struct bk_mat *y, struct bl_err *err)
{
	struct streams *s = ctx;
	const int kind = unit - s->block * KINDS;
	const struct bk_mat scaled = {s->scaled[kind], s->seen.rows, s->seen.cols, s->seen.cols, s->seen.dtype};
	const struct bk_mat base = {s->x[kind], s->seen.rows, s->seen.cols, s->seen.cols, s->seen.dtype};

	(void)first;
	if (want_of(s, kind) < QUANTIZED || !s->by_rms[unit] || bl_engine_check(s->e, over_rms(s, &scaled, &s->seen, y), "weighing tokens", err) ||
	    (s->x[kind] && bl_engine_check(s->e, over_rms(s, &base, &base, y), "weighing tokens", err)))
		return err->status;
	return add_quantized(s, kind, &scaled, err);
}

static enum bl_status quantized_input(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct streams *s = ctx;
	const int kind = unit - s->block * KINDS;

	(void)first;
	s->seen = *x;
	return want_of(s, kind) < QUANTIZED || s->by_rms[unit] ? BL_OK : add_quantized(s, kind, x, err);
}

static void batch_done(void *ctx, int block, int64_t tokens)
{
	struct streams *s = ctx;
	char note[48];

	(void)tokens;
	snprintf(note, sizeof note, "block %d/%d", block + 1, s->blocks);
	bl_job_note(s->job, note);
	if (bl_job_checkpoint(s->job))
		atomic_store(&s->l->cancel, 1);
}

/* ---- moments of a block ---- */

static void drop_moments(struct streams *s)
{
	for (int k = 0; k < KINDS && s->e; k++) {
		bl_engine_release(s->e, s->h[k]);
		bl_engine_release(s->e, s->cross[k]);
		bl_engine_release(s->e, s->x[k]);
		bl_engine_release(s->e, s->scaled[k]);
		s->h[k] = s->cross[k] = s->x[k] = s->scaled[k] = NULL;
	}
}

static enum bl_status zeros(struct streams *s, void **out, size_t bytes, const char *what, struct bl_err *err)
{
	if (bl_engine_alloc(s->e, out, bytes, what, err))
		return err->status;
	return bl_engine_check(s->e, s->e->ops->zero(s->e->run, *out, bytes), what, err);
}

static enum bl_status make_moments(struct streams *s, struct bl_err *err)
{
	for (int k = 0; k < KINDS; k++) {
		const size_t bytes = (size_t)(cols_of(s, k) * cols_of(s, k)) * 4;

		if (want_of(s, k) == NONE)
			continue;
		if (zeros(s, &s->h[k], bytes, "a Hessian", err))
			return err->status;
		if (s->by_rms[s->block * KINDS + k] && bl_engine_alloc(s->e, &s->scaled[k], (size_t)(s->batch * cols_of(s, k)) * 2, "inputs of a batch", err))
			return err->status;
		if (want_of(s, k) == CROSSED && (zeros(s, &s->cross[k], bytes, "cross moments", err) ||
						   bl_engine_alloc(s->e, &s->x[k], (size_t)(s->batch * cols_of(s, k)) * 2, "inputs of a batch", err)))
			return err->status;
	}
	return BL_OK;
}

/* Afterwards the base's stream is behind the block, the quantized one still before it. */
static enum bl_status collect(struct streams *s, struct bl_err *err)
{
	const struct bl_tap base = {.ctx = s, .input = base_input, .output = base_output, .batch_done = batch_done}, quantized = {.ctx = s, .input = quantized_input, .output = quantized_output, .batch_done = batch_done};
	bool any = false, side_by_side = false;

	for (int k = 0; k < KINDS; k++) {
		any |= want_of(s, k) >= QUANTIZED;
		side_by_side |= want_of(s, k) == CROSSED;
	}
	bl_measure_weights_free(&s->own);
	if (make_moments(s, err) || (any && bl_pass_copy(s->work, s->quantized, err)) || bl_live_stage_set(&s->own, s->fold, s->l->s->model, s->block, err))
		return err->status;
	const struct bl_weight_set *own = s->own.of ? &s->own : NULL;
	for (int b = 0; side_by_side && b < bl_pass_batches(s->work); b++) {
		if (bl_pass_step(s->base, s->block, b, own, &base, err) || bl_pass_step(s->work, s->block, b, own, &quantized, err))
			return err->status;
		batch_done(s, s->block, 0);
	}
	if (side_by_side)
		return BL_OK;
	if (s->base && s->block <= s->last_base && bl_pass_block(s->base, s->block, own, &base, err))
		return err->status;
	return any ? bl_pass_block(s->work, s->block, own, &quantized, err) : BL_OK;
}

/* ---- the quantized stream goes on ---- */

static enum bl_status put_weights(struct streams *s, int unit, const struct bl_solved *u, struct bl_err *err)
{
	struct bl_choice c = s->plan->choice[unit];
	struct bl_unit_weights *w = NULL;

	c.scheme.act = BL_ACT_NONE;
	bl_live_unit_weights(s->l->s, unit, &c, s->plan->zero_nonfinite, u, &w, err);
	pthread_mutex_lock(&s->lock);
	s->set.of[unit] = w;
	s->failed |= err->status != BL_OK;
	pthread_cond_broadcast(&s->made);
	pthread_mutex_unlock(&s->lock);
	return err->status;
}

/* Units that are not solved in this run: they are in the store, or need no moments. */
static enum bl_status fetch_weights(struct streams *s, int unit, struct bl_err *err)
{
	const struct bl_choice *c = &s->plan->choice[unit];
	struct bl_solved *u = NULL;

	if (bl_session_choice_whole(s->l->s, c)) {
		const struct bl_solve_request rq = bl_live_request(s->l->s, s->fold, unit, c, s->plan->zero_nonfinite);
		if (bl_live_load_solved(s->l, &rq, s->key[unit], &u, err))
			return err->status;
	}
	put_weights(s, unit, u, err);
	bl_solved_free(u);
	return err->status;
}

static enum bl_status go_on(struct streams *s, struct bl_err *err)
{
	const struct bl_tap tap = {.ctx = s, .batch_done = batch_done};

	for (int k = 0; k < KINDS; k++) {
		const int unit = s->block * KINDS + k;

		if (s->plan->choice[unit].scheme.number == BL_NUM_FULL) {
			if (s->fold && bl_fold_changes(s->fold, unit) && put_weights(s, unit, NULL, err))
				return err->status;
			continue;
		}
		if (s->want[unit] == NONE && fetch_weights(s, unit, err))
			return err->status;
		pthread_mutex_lock(&s->lock);
		while (!s->set.of[unit] && !s->failed)
			pthread_cond_wait(&s->made, &s->lock);
		const bool failed = s->failed;
		pthread_mutex_unlock(&s->lock);
		if (failed) /* the writer has the reason */
			return bl_fail(err, BL_FAILED, "%s: its new weights are not there", s->l->s->model->units[unit].name);
	}
	bl_pass_block(s->quantized, s->block, &s->set, &tap, err);
	for (int k = 0; k < KINDS; k++) {
		bl_unit_weights_unref(s->set.of[s->block * KINDS + k]);
		s->set.of[s->block * KINDS + k] = NULL;
	}
	return err->status;
}

/* ---- what the queue asks for ---- */

static enum bl_status prepare(void *ctx, size_t i, struct bl_solve_request *rq, struct bl_err *err)
{
	struct streams *s = ctx;
	const int unit = s->unit[i];

	(void)err;
	*rq = bl_live_request(s->l->s, s->fold, unit, &s->plan->choice[unit], s->plan->zero_nonfinite);
	rq->tokens = s->n_tokens;
	rq->cancel = bl_job_cancel_flag(s->job);
	if (s->want[unit] == CROSSED)
		rq->correct = bl_live_inputs(s->l, unit, &s->plan->choice[unit]).correct;
	return BL_OK;
}

static enum bl_status moments(void *ctx, size_t i, struct bl_solve_request *rq, bool early, struct bl_err *err)
{
	struct streams *s = ctx;
	const int block = s->unit[i] / KINDS, kind = s->unit[i] % KINDS;

	if (block != s->block && early)
		return BL_OK;
	while (s->block < block) {
		drop_moments(s);
		if (s->block >= 0 && s->quantized && s->block < s->last_quantized && go_on(s, err))
			return err->status;
		s->block++;
		if (collect(s, err))
			return err->status;
	}
	rq->h_device = s->h[kind];
	rq->cross_device = s->cross[kind];
	return BL_OK;
}

static enum bl_status done(void *ctx, size_t i, const struct bl_solved *u, struct bl_err *err)
{
	struct streams *s = ctx;

	(void)i;
	if (bl_live_save_solved(s->l, u, s->key[u->unit], err)) {
		pthread_mutex_lock(&s->lock);
		s->failed = true;
		pthread_cond_broadcast(&s->made);
		pthread_mutex_unlock(&s->lock);
		return err->status;
	}
	bl_job_progress(s->job, "solve", atomic_fetch_add(&s->solved, 1) + 1, (double)s->n, "units");
	if (s->quantized && s->l->s->model->units[u->unit].block < s->last_quantized)
		put_weights(s, u->unit, u, err);
	return err->status;
}

static bool stop(void *ctx) { return bl_job_checkpoint(((struct streams *)ctx)->job); }

/* ---- all of them ---- */

static void look_up(struct streams *s, const uint8_t *selected)
{
	const struct bl_model *m = s->l->s->model;

	for (int i = 0; i < m->n_units; i++) {
		const struct bl_choice *c = &s->plan->choice[i];
		const struct bl_solve_inputs in = bl_live_inputs(s->l, i, c);
		struct bl_solve_request rq = bl_live_request(s->l->s, s->fold, i, c, s->plan->zero_nonfinite);
		struct bl_err ignored = BL_ERR_INIT;
		struct bl_solved *u = NULL;
		char chain[65];

		if (!bl_session_choice_whole(s->l->s, c) || bl_live_trained(s->l, c))
			continue;
		if (in.quantized) {
			bl_live_chain(chain, s->l, s->plan, m->units[i].block);
			rq.chain = chain;
		}
		bl_solved_key(s->key[i], &rq, s->source->key, "");
		const bool there = !bl_live_load_solved(s->l, &rq, s->key[i], &u, &ignored);
		bl_solved_free(u);
		if (there || (!in.quantized && !in.by_rms && !s->source->direct))
			continue;
		if (!in.quantized && selected && !selected[i]) /* nobody's inputs depend on it unless the stream is quantized */
			continue;
		s->by_rms[i] = in.by_rms;
		s->want[i] = !in.quantized ? BASE : in.correct > 0 || in.cross ? CROSSED : QUANTIZED;
		s->unit[s->n++] = i;
		if (s->want[i] != QUANTIZED)
			s->last_base = m->units[i].block;
		if (s->want[i] >= QUANTIZED)
			s->last_quantized = m->units[i].block;
	}
}

static enum bl_status open_passes(struct streams *s, struct bl_err *err)
{
	struct bl_pass **const all[] = {&s->base, &s->quantized, &s->work};
	const bool needed[] = {s->last_base >= 0, s->last_quantized >= 0, s->last_quantized >= 0};
	struct bl_sequences seq;
	int64_t least = INT64_MAX;

	s->start = bl_xalloc((size_t)s->source->windows + 1, sizeof *s->start);
	for (int64_t i = 0; i <= s->source->windows; i++)
		s->start[i] = i * s->source->len;
	seq = (struct bl_sequences){s->source->ids, s->start, s->source->windows};
	for (int i = 0; i < 3; i++) {
		if (!needed[i])
			continue;
		if (bl_pass_new(all[i], s->f, &seq, err))
			return err->status;
		least = bl_pass_batch_tokens(*all[i]) < least ? bl_pass_batch_tokens(*all[i]) : least;
	}
	for (int i = 0; i < 3; i++) /* side by side they need the same batches */
		if (needed[i] && bl_pass_batch_tokens(*all[i]) != least && bl_pass_set_batch(*all[i], least, err))
			return err->status;
	for (int i = 0; i < 3; i++)
		s->batch = needed[i] && bl_pass_batch_tokens(*all[i]) > s->batch ? bl_pass_batch_tokens(*all[i]) : s->batch;
	if ((s->base && bl_pass_embed(s->base, err)) || (s->quantized && bl_pass_embed(s->quantized, err)))
		return err->status;
	return BL_OK;
}

static enum bl_status run(struct streams *s, const uint8_t *selected, struct bl_solve_seconds *seconds, struct bl_err *err)
{
	const struct bl_model *m = s->l->s->model;
	struct bl_solve_batch b = {.prepare = prepare, .moments = moments, .done = done, .stop = stop, .ctx = s};

	look_up(s, selected);
	if (!s->n)
		return BL_OK;
	s->f = bl_live_forward(s->l, 0, err);
	if (!s->f)
		return err->status;
	b.e = s->e = &s->l->engine;
	b.n = s->n;
	for (size_t i = 0; i < s->n; i++) {
		const size_t bytes = bl_solve_host_bytes(&m->units[s->unit[i]], &s->plan->choice[s->unit[i]].scheme);
		b.host_bytes = bytes > b.host_bytes ? bytes : b.host_bytes;
	}
	if (open_passes(s, err))
		return err->status;
	return bl_solve_many(&b, seconds, err);
}

enum bl_status bl_live_stream(struct bl_live *l, struct bl_job *j, const struct bl_live_plan *p, const uint8_t *selected, const struct bl_live_source *source,
			      struct bl_err *err)
{
	const size_t n = (size_t)l->s->model->n_units;
	struct bl_solve_seconds seconds = {0};

	do {
		struct streams s = {.l = l, .job = j, .plan = p, .source = source, .blocks = (int)l->s->model->config.layers, .block = -1, .last_base = -1,
				    .last_quantized = -1, .n_tokens = source->windows * source->len, .set = {.of = bl_xalloc(n + 1, sizeof *s.set.of), .n = (int)n}};

		bl_err_clear(err);
		s.want = bl_xalloc(n, sizeof *s.want);
		s.by_rms = bl_xalloc(n, sizeof *s.by_rms);
		s.unit = bl_xalloc(n, sizeof *s.unit);
		s.key = bl_xalloc(n, sizeof *s.key);
		pthread_mutex_init(&s.lock, NULL);
		pthread_cond_init(&s.made, NULL);
		if (!n || !bl_live_fold(l, &p->choice[0], &s.fold, err)) {
			s.set.small = s.fold && bl_fold_changes_small(s.fold) ? bl_fold_model(s.fold) : NULL;
			run(&s, selected, &seconds, err);
		}
		drop_moments(&s);
		bl_pass_free(s.base);
		bl_pass_free(s.quantized);
		bl_pass_free(s.work);
		for (size_t i = 0; i < n; i++)
			bl_unit_weights_unref(s.set.of[i]);
		bl_measure_weights_free(&s.own);
		bl_fold_unref(s.fold);
		pthread_mutex_destroy(&s.lock);
		pthread_cond_destroy(&s.made);
		bl_free(s.set.of);
		bl_free(s.want);
		bl_free(s.by_rms);
		bl_free(s.unit);
		bl_free(s.key);
		bl_free(s.start);
	} while (err->status && bl_live_failed(l, source->len, err)); /* what was solved is stored */
	l->solve_seconds = seconds;
	return err->status;
}
