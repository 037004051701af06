/* SPDX-License-Identifier: Apache-2.0
 * Largest |input| of every unit, and nothing else: what a static scale needs. */
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/evaluate/run.h"

struct looker {
	struct bl_eval_run *run;
	struct bl_engine *e;
	const struct bl_model *m;
	struct bk_input_acc acc;
	char *memory; size_t bytes;
	int64_t widest;
	float *host, *absmax;
};

static enum bl_status alloc(struct looker *l, struct bl_err *err)
{
	size_t k, fixed = (2 * BK_INPUT_BINS + 1) * sizeof(uint64_t);

	for (int i = 0; i < l->m->n_units; i++)
		l->widest = l->m->units[i].cols > l->widest ? l->m->units[i].cols : l->widest;
	k = (size_t)l->widest;
	l->bytes = k * (2 * sizeof(double) + sizeof(float)) + fixed;
	if (bl_engine_alloc(l->e, (void **)&l->memory, l->bytes, "ranges of inputs", err) || bl_try_alloc(&l->host, k, sizeof *l->host, "ranges of inputs", err))
		return err->status;
	l->acc.sum = (double *)(void *)l->memory; /* the wide ones first: everything is aligned */
	l->acc.sum2 = l->acc.sum + k;
	l->acc.bins = (uint64_t *)(void *)(l->acc.sum2 + k);
	l->acc.token_bins = l->acc.bins + BK_INPUT_BINS;
	l->acc.nonfinite = l->acc.token_bins + BK_INPUT_BINS;
	l->acc.absmax = (float *)(void *)(l->acc.nonfinite + 1);
	return BL_OK;
}

/* x is the input of `unit` and of every unit that shares it. */
static enum bl_status look(void *ctx, int unit, int64_t first_token, const struct bk_mat *x, struct bl_err *err)
{
	struct looker *l = ctx;
	const struct bk_run_ops *ops = l->e->ops;
	uint64_t nonfinite = 0;

	(void)first_token;
	if (bl_engine_check(l->e, ops->zero(l->e->run, l->memory, l->bytes), "ranges of inputs", err) ||
	    bl_engine_check(l->e, ops->input_stats(l->e->run, &l->acc, x), "ranges of inputs", err) ||
	    bl_engine_check(l->e, ops->get(l->e->run, l->host, l->acc.absmax, (size_t)x->cols * sizeof *l->host), "ranges of inputs", err) ||
	    bl_engine_check(l->e, ops->get(l->e->run, &nonfinite, l->acc.nonfinite, sizeof nonfinite), "ranges of inputs", err))
		return err->status;
	for (int64_t i = 0; i < x->cols; i++)
		l->absmax[unit] = fmaxf(l->absmax[unit], l->host[i]);
	if (nonfinite)
		return bl_fail(err, BL_INVALID, "%s: its input holds %llu values that are not finite: a static scale has no meaning", l->m->units[unit].name,
			       (unsigned long long)nonfinite);
	return BL_OK;
}

static void done(void *ctx, int block, int64_t tokens_done)
{
	struct looker *l = ctx;

	(void)block;
	bl_eval_tell(l->run, (double)tokens_done);
}

enum bl_status bl_eval_ranges(float *absmax, struct bl_forward *f, const struct bl_weight_set *set, const struct bl_eval_windows *w, bl_eval_report *report, void *ctx,
			       struct bl_err *err)
{
	struct bl_eval_run run;
	struct looker l = {.run = &run, .e = bl_forward_engine(f), .m = bl_forward_model(f), .absmax = absmax};
	struct bl_tap tap = {.ctx = &l, .input = look, .batch_done = done};
	struct bl_pass *p = NULL;
	int64_t *start = NULL;

	memset(absmax, 0, (size_t)l.m->n_units * sizeof *absmax);
	bl_eval_run_init(&run, f, NULL, w->n * w->len, "ranges", report, ctx);
	if (alloc(&l, err) || bl_try_alloc(&start, (size_t)w->n + 1, sizeof *start, "the windows", err))
		goto end;
	for (int64_t i = 0; i <= w->n; i++)
		start[i] = i * w->len;
	struct bl_sequences s = {w->ids, start, w->n};
	if (bl_pass_new(&p, f, &s, err) || bl_pass_embed(p, err))
		goto end;
	for (int b = 0; b < (int)l.m->config.layers; b++) {
		if (bl_pass_block(p, b, set, &tap, err))
			goto end;
		run.done += (double)bl_pass_tokens(p);
	}
end:
	bl_pass_free(p);
	bl_engine_release(l.e, l.memory);
	bl_free(l.host);
	bl_free(start);
	return err->status;
}
