/* SPDX-License-Identifier: Apache-2.0
 * Two passes side by side. The plan's pass begins as a copy of the base's hidden states before the first block it changes, so nothing is computed twice. */
#include "core/evaluate/run.h"

#include <string.h>

#include "core/base/mem.h"

#define HEAD_ELEMS      (16ll << 20)  /* logits of one chunk */
#define HEAD_ELEMS_CUDA (128ll << 20) /* there the head's weights are read anew for every chunk */

int bl_eval_first_block(const struct bl_model *m, const struct bl_weight_set *set)
{
	int first = (int)m->config.layers;

	for (int i = 0; set && i < set->n && i < m->n_units; i++)
		if (set->of[i] && m->units[i].block < first)
			first = m->units[i].block;
	return first;
}

/* ---- progress ---- */

void bl_eval_run_init(struct bl_eval_run *r, struct bl_forward *f, const struct bl_weight_set *set, int64_t tokens, const char *phase, bl_eval_report *report, void *ctx)
{
	const struct bl_model *m = bl_forward_model(f);
	int blocks = (int)m->config.layers, first = bl_eval_first_block(m, set);

	*r = (struct bl_eval_run){.f = f, .set = set, .report = report, .report_ctx = ctx, .phase = phase, .blocks = blocks, .first = first,
				  .tokens = (double)tokens};
	r->total = (double)tokens * (blocks + 1 + (set ? blocks - first + 1 : 0));
}

void bl_eval_tell(const struct bl_eval_run *r, double running)
{
	if (r->report)
		r->report(r->report_ctx, r->phase, r->total > 0 ? r->tokens * (r->done + running) / r->total : 0, r->tokens, "tokens");
}

static void batch_done(void *ctx, int block, int64_t tokens_done)
{
	struct bl_eval_run *r = ctx;

	(void)block;
	bl_eval_tell(r, (double)tokens_done);
}

/* ---- the passes ---- */

static enum bl_status run_blocks(struct bl_pass *p, struct bl_eval_run *r, int from, int to, const struct bl_weight_set *set, struct bl_err *err)
{
	struct bl_tap tap = {.ctx = r, .batch_done = batch_done};

	for (int b = from; b < to; b++) {
		if (b + 1 < to)
			bl_forward_prefetch(r->f, b + 1, set);
		if (bl_pass_block(p, b, set, &tap, err))
			return err->status;
		r->done += (double)bl_pass_tokens(p);
		bl_eval_tell(r, 0);
	}
	return BL_OK;
}

static size_t pass_bytes(const struct bl_pass *p)
{
	return (size_t)bl_pass_tokens(p) * bl_pass_row_bytes(p);
}

/* Of the base's output; nothing is lost when there is no room. */
static enum bl_status keep_base(struct bl_eval_run *r, struct bl_pass *base, struct bl_err *err)
{
	void *room = r->kept ? bl_eval_base_room(r->kept, r->part, pass_bytes(base)) : NULL;

	if (room && bl_pass_read(base, 0, bl_pass_tokens(base), room, err))
		bl_eval_base_forget(r->kept, r->part);
	return err->status;
}

/* The base is there already: only the plan runs, from the first block it changes on after blocks of the base. */
static enum bl_status run_beside(struct bl_eval_passes *p, struct bl_eval_run *r, const struct bl_sequences *s, const void *kept, struct bl_err *err)
{
	if (r->set && (bl_pass_new(&p->plan, r->f, s, err) || bl_pass_embed(p->plan, err) || run_blocks(p->plan, r, 0, r->first, NULL, err) ||
		       run_blocks(p->plan, r, r->first, r->blocks, r->set, err)))
		return err->status;
	r->done += (double)bl_pass_tokens(p->base) * (r->blocks - (r->set ? r->first : 0));
	return bl_pass_write(p->base, 0, bl_pass_tokens(p->base), kept, err);
}

enum bl_status bl_eval_passes_run(struct bl_eval_passes *p, struct bl_eval_run *r, const struct bl_sequences *s, struct bl_err *err)
{
	*p = (struct bl_eval_passes){NULL, NULL, NULL};
	if (bl_pass_new(&p->base, r->f, s, err))
		goto fail;
	const void *kept = r->kept ? bl_eval_base_of(r->kept, r->part, pass_bytes(p->base)) : NULL;
	if (kept) {
		if (run_beside(p, r, s, kept, err))
			goto fail;
		return BL_OK;
	}
	if (bl_pass_embed(p->base, err) || run_blocks(p->base, r, 0, r->first, NULL, err))
		goto fail;
	if (r->set && (bl_pass_new(&p->plan, r->f, s, err) || bl_pass_copy(p->plan, p->base, err)))
		goto fail;
	if (run_blocks(p->base, r, r->first, r->blocks, NULL, err) || (r->set && run_blocks(p->plan, r, r->first, r->blocks, r->set, err)) || keep_base(r, p->base, err))
		goto fail;
	return BL_OK;
fail:
	bl_eval_passes_free(p);
	return err->status;
}

void bl_eval_passes_free(struct bl_eval_passes *p)
{
	bl_pass_free(p->base);
	bl_pass_free(p->plan);
	*p = (struct bl_eval_passes){NULL, NULL, NULL};
}

/* ---- rows of the head ---- */

struct rows {
	struct bl_eval_rows *out;
	struct bl_eval_run *run;
	struct bl_engine *e;
	const int32_t *targets_host;
	float *nll;                 /* where bl_pass_head's go */
	double before;
	int64_t cap;
	int32_t *targets, *index;   /* in the run's memory, [cap]; index: argmax or same */
	float *a, *b, *c;
};

static enum bl_status fetch(struct rows *w, void *dst, const void *src, int64_t n, struct bl_err *err)
{
	return dst ? bl_engine_check(w->e, w->e->ops->get(w->e->run, dst, src, (size_t)n * 4), "reading losses", err) : BL_OK;
}

static enum bl_status put_targets(struct rows *w, int64_t first, int64_t n, struct bl_err *err)
{
	if (n > w->cap)
		return bl_fail(err, BL_FAILED, "the head gave %lld rows at once where %lld were asked for", (long long)n, (long long)w->cap);
	return bl_engine_check(w->e, w->e->ops->put(w->e->run, w->targets, w->targets_host + first, (size_t)n * 4), "writing targets", err);
}

static enum bl_status one(void *ctx, int64_t first, const struct bk_mat *logits, struct bl_err *err)
{
	struct rows *w = ctx;
	struct bk_row_loss loss = {.nll = w->a, .argmax = w->index};

	if (put_targets(w, first, logits->rows, err) || bl_engine_check(w->e, w->e->ops->row_loss(w->e->run, &loss, logits, w->targets), "losses", err) ||
	    fetch(w, w->nll ? w->nll + first : NULL, w->a, logits->rows, err))
		return err->status;
	bl_eval_tell(w->run, w->before * (double)(first + logits->rows));
	return BL_OK;
}

static enum bl_status pair(void *ctx, int64_t first, const struct bk_mat *p, const struct bk_mat *q, struct bl_err *err)
{
	struct rows *w = ctx;
	struct bl_eval_rows *o = w->out;
	struct bk_row_kl kl = {.kl = w->c, .nll_p = w->a, .nll_q = w->b, .same = w->index};

	if (put_targets(w, first, p->rows, err) || bl_engine_check(w->e, w->e->ops->row_kl(w->e->run, &kl, p, q, w->targets), "divergence", err) ||
	    fetch(w, o->nll_base ? o->nll_base + first : NULL, w->a, p->rows, err) || fetch(w, o->nll_plan ? o->nll_plan + first : NULL, w->b, p->rows, err) ||
	    fetch(w, o->kl ? o->kl + first : NULL, w->c, p->rows, err) || fetch(w, o->same ? o->same + first : NULL, w->index, p->rows, err))
		return err->status;
	bl_eval_tell(w->run, w->before * (double)(first + p->rows));
	return BL_OK;
}

static enum bl_status alloc_rows(struct rows *w, struct bl_err *err)
{
	size_t bytes = (size_t)w->cap * 4;
	char *block = NULL;

	if (bl_engine_alloc(w->e, (void **)&block, 5 * bytes, "losses of rows", err))
		return err->status;
	w->targets = (int32_t *)(void *)block;
	w->index = (int32_t *)(void *)(block + bytes);
	w->a = (float *)(void *)(block + 2 * bytes);
	w->b = (float *)(void *)(block + 3 * bytes);
	w->c = (float *)(void *)(block + 4 * bytes);
	return BL_OK;
}

static enum bl_status head_rows(struct rows *w, struct bl_eval_passes *p, const int64_t *tokens, int64_t n, struct bl_err *err)
{
	struct bl_head_pair two = {w, pair};
	struct bl_head_sink alone = {w, one};

	if (alloc_rows(w, err))
		return err->status;
	if (p->plan) {
		bl_pass_head_pair(p->base, p->plan, tokens, n, w->cap, &two, p->kept, err);
	} else {
		w->nll = w->out->nll_base;
		bl_pass_head(p->base, tokens, n, w->cap, &alone, err);
	}
	bl_engine_release(w->e, w->targets);
	return err->status;
}

enum bl_status bl_eval_rows_run(struct bl_eval_rows *out, struct bl_eval_run *r, struct bl_eval_passes *p, const int64_t *tokens, const int32_t *targets, int64_t n,
				struct bl_err *err)
{
	struct rows w = {.out = out, .run = r, .e = bl_forward_engine(r->f), .targets_host = targets};
	int64_t vocab = bl_forward_model(r->f)->config.vocab, cap = (w.e->cuda ? HEAD_ELEMS_CUDA : HEAD_ELEMS) / (vocab > 0 ? vocab : 1);
	double all = (double)bl_pass_tokens(p->base);

	w.cap = cap < 64 ? 64 : cap > 8192 ? 8192 : cap;
	w.before = n ? all / (double)n * (p->plan ? 2 : 1) : 0;
	while (n && head_rows(&w, p, tokens, n, err)) {
		if (err->status != BL_NO_MEMORY || w.cap <= 64)
			return err->status;
		w.cap = w.cap / 2 > 64 ? w.cap / 2 : 64; /* the chunks are small beside what else is there: less of them at once */
		if (p->kept)
			p->kept->filled = false;
		bl_err_clear(err);
	}
	if (!n)
		return BL_OK;
	r->done += all * (p->plan ? 2 : 1);
	bl_eval_tell(r, 0);
	return err->status;
}
