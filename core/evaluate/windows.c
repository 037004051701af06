/* SPDX-License-Identifier: Apache-2.0
 * Perplexity and divergence over windows. */
#include <string.h>

#include "core/base/mem.h"
#include "core/evaluate/run.h"
#include "core/text/dataset.h"

#define PASS_TOKENS (256ll << 10)

struct values { struct bl_eval_rows rows; int64_t *tokens; int32_t *targets; int64_t *start; };

static void values_free(struct values *v)
{
	bl_free(v->rows.nll_base);
	bl_free(v->rows.nll_plan);
	bl_free(v->rows.kl);
	bl_free(v->rows.same);
	bl_free(v->tokens);
	bl_free(v->targets);
	bl_free(v->start);
}

static enum bl_status values_alloc(struct values *v, const struct bl_eval_windows *w, int64_t per_pass, bool two, struct bl_err *err)
{
	size_t n = (size_t)(w->n * (w->len - 1)), part = (size_t)(per_pass * (w->len - 1));
	const char what[] = "the losses of all tokens";

	if (bl_try_alloc(&v->rows.nll_base, n, 4, what, err) || bl_try_alloc(&v->tokens, part, 8, what, err) || bl_try_alloc(&v->targets, part, 4, what, err) ||
	    bl_try_alloc(&v->start, (size_t)per_pass + 1, 8, what, err))
		return err->status;
	if (two && (bl_try_alloc(&v->rows.nll_plan, n, 4, what, err) || bl_try_alloc(&v->rows.kl, n, 4, what, err) || bl_try_alloc(&v->rows.same, n, 4, what, err)))
		return err->status;
	return BL_OK;
}

/* Windows first .. first + n - 1 in one pass. */
static enum bl_status part(struct values *v, struct bl_eval_run *r, const struct bl_eval_windows *w, int64_t first, int64_t n, struct bl_err *err)
{
	const int32_t *ids = w->ids + first * w->len;
	struct bl_sequences s = {ids, v->start, n};
	struct bl_eval_passes p;
	int64_t k = 0, at = first * (w->len - 1);
	struct bl_eval_rows rows = {v->rows.nll_base + at, r->set ? v->rows.nll_plan + at : NULL, r->set ? v->rows.kl + at : NULL, r->set ? v->rows.same + at : NULL};

	for (int64_t i = 0; i < n; i++) {
		v->start[i] = i * w->len;
		for (int64_t j = 0; j + 1 < w->len; j++, k++) {
			v->tokens[k] = i * w->len + j;
			v->targets[k] = ids[i * w->len + j + 1];
		}
	}
	v->start[n] = n * w->len;
	if (bl_eval_passes_run(&p, r, &s, err))
		return err->status;
	bl_eval_rows_run(&rows, r, &p, v->tokens, v->targets, k, err);
	bl_eval_passes_free(&p);
	return err->status;
}

enum bl_status bl_evaluate_windows(struct bl_forward *f, const struct bl_weight_set *set, const struct bl_eval_windows *w, struct bl_eval_ppl *base,
				   struct bl_eval_ppl *plan, struct bl_eval_kl *kl, bl_eval_report *report, void *ctx, struct bl_err *err)
{
	return bl_evaluate_windows_again(NULL, f, set, w, base, plan, kl, report, ctx, err);
}

enum bl_status bl_evaluate_windows_again(struct bl_eval_base *kept, struct bl_forward *f, const struct bl_weight_set *set, const struct bl_eval_windows *w,
					 struct bl_eval_ppl *base, struct bl_eval_ppl *plan, struct bl_eval_kl *kl, bl_eval_report *report, void *ctx,
					 struct bl_err *err)
{
	struct bl_eval_run r;
	struct values v = {.tokens = NULL};
	int64_t per_pass;

	if (w->n < 1 || w->len < 2)
		return bl_fail(err, BL_USAGE, "evaluation needs at least one window of two tokens, not %lld of %lld", (long long)w->n, (long long)w->len);
	per_pass = w->len < PASS_TOKENS ? PASS_TOKENS / w->len : 1;
	per_pass = per_pass < w->n ? per_pass : w->n;
	bl_eval_run_init(&r, f, set, w->n * w->len, "windows", report, ctx);
	r.kept = kept;
	if (values_alloc(&v, w, per_pass, set != NULL, err) == BL_OK) {
		for (int64_t i = 0; i < w->n && !err->status; i += per_pass, r.part++)
			part(&v, &r, w, i, w->n - i < per_pass ? w->n - i : per_pass, err);
		if (!err->status && base)
			bl_eval_ppl_of(base, v.rows.nll_base, w->n, w->len - 1);
		if (!err->status && set && plan)
			bl_eval_ppl_of(plan, v.rows.nll_plan, w->n, w->len - 1);
		if (!err->status && set && kl)
			bl_eval_kl_of(kl, v.rows.kl, v.rows.same, w->n, w->len - 1);
	}
	values_free(&v);
	return err->status;
}

enum bl_status bl_eval_windows_load(int32_t **ids, struct bl_eval_windows *w, const char *file, const struct bl_tokenizer *t, const struct bl_chat *chat, int64_t len,
				    int64_t max_windows, struct bl_err *err)
{
	struct bl_dataset_options o = {.max_tokens = max_windows > 0 ? max_windows * len : 0};
	struct bl_dataset *d;
	struct bl_windows cut;
	int32_t *copy = NULL;

	if (len < 2)
		return bl_fail(err, BL_USAGE, "a window of %lld tokens predicts nothing: at least 2 are needed", (long long)len);
	if (bl_dataset_load(&d, &file, 1, t, chat, "the checkpoint has no chat template", &o, err))
		return err->status;
	bl_dataset_windows(&cut, d, len, max_windows);
	if (cut.n < 1)
		bl_fail(err, BL_INVALID, "%s: %zu tokens do not fill one window of %lld (shorter ones: --seqlen)", file, d->ids.n, (long long)len);
	else if (bl_try_alloc(&copy, (size_t)(cut.n * cut.len), sizeof *copy, "the windows", err) == BL_OK) {
		memcpy(copy, cut.ids, (size_t)(cut.n * cut.len) * sizeof *copy);
		*ids = copy;
		*w = (struct bl_eval_windows){copy, cut.n, cut.len};
	}
	bl_dataset_free(d);
	return err->status;
}
