/* SPDX-License-Identifier: Apache-2.0
 * Multiple choice by log-likelihood: every choice with its context is one sequence; many of them go through the model at once, and only the places that
 * predict a choice's tokens go through the head. */
#include <string.h>

#include "core/base/mem.h"
#include "core/evaluate/run.h"

#define PASS_TOKENS (128ll << 10)
#define SEQUENCE_MAX (1ll << 20)

/* ---- sequences ---- */

struct encoder {
	struct bl_mcq_sequences *s;
	size_t cap_ids, cap_start, cap_from;
	const struct bl_tokenizer *t;
	const struct bl_chat *chat;
	int32_t end;
	struct bl_str text;
	struct bl_ids context, whole;
};

static enum bl_status add_choice(struct encoder *e, const char *choice, struct bl_err *err)
{
	struct bl_mcq_sequences *s = e->s;
	size_t context_bytes = e->text.len, same = 0, at = (size_t)s->start[s->n];

	bl_str_add(&e->text, choice);
	e->whole.n = 0;
	enum bl_status st = bl_tokenizer_encode(e->t, bl_str_c(&e->text), e->text.len, false, &e->whole, err);
	e->text.len = context_bytes;
	if (st)
		return st;
	if ((int64_t)e->whole.n >= SEQUENCE_MAX)
		return bl_fail(err, BL_INVALID, "a question of %zu tokens is too long", e->whole.n);
	/* What follows the context's own tokens is the choice; where the last of them merges with the choice, from that token on. */
	while (same < e->context.n && same < e->whole.n && e->context.ids[same] == e->whole.ids[same])
		same++;
	if (same >= e->whole.n)
		same = e->whole.n ? e->whole.n - 1 : 0;
	if (!same)
		return bl_fail(err, BL_INVALID, "the question \"%.60s\" gives no tokens in front of its choices", bl_str_c(&e->text));
	bl_xgrow(&s->ids, &e->cap_ids, at + e->whole.n + 1);
	memcpy(s->ids + at, e->whole.ids, e->whole.n * sizeof *s->ids);
	s->ids[at + e->whole.n] = e->end;
	bl_xgrow(&s->start, &e->cap_start, (size_t)s->n + 2);
	bl_xgrow(&s->from, &e->cap_from, (size_t)s->n + 1);
	s->from[s->n++] = (int64_t)same;
	s->start[s->n] = (int64_t)(at + e->whole.n + 1);
	return BL_OK;
}

static enum bl_status add_item(struct encoder *e, const struct bl_mcq_item *it, struct bl_err *err)
{
	struct bl_message turn = {"user", it->question};

	bl_str_clear(&e->text);
	e->context.n = 0;
	if (!e->chat)
		bl_str_add(&e->text, it->question);
	else if (bl_chat_render(e->chat, &turn, 1, true, &e->text, err))
		return err->status;
	if (bl_tokenizer_encode(e->t, bl_str_c(&e->text), e->text.len, false, &e->context, err))
		return err->status;
	for (int i = 0; i < it->n_choices; i++)
		if (add_choice(e, it->choices[i], err))
			return err->status;
	return BL_OK;
}

enum bl_status bl_mcq_encode(struct bl_mcq_sequences *s, const struct bl_mcq_item *items, size_t n, const struct bl_tokenizer *t, const struct bl_chat *chat,
			     int32_t end, struct bl_err *err)
{
	struct encoder e = {.s = s, .t = t, .chat = chat, .end = end};

	memset(s, 0, sizeof *s);
	bl_xgrow(&s->start, &e.cap_start, 1);
	s->start[0] = 0;
	for (size_t i = 0; i < n && !err->status; i++)
		add_item(&e, &items[i], err);
	bl_str_free(&e.text);
	bl_ids_free(&e.context);
	bl_ids_free(&e.whole);
	if (err->status)
		bl_mcq_sequences_free(s);
	return err->status;
}

void bl_mcq_sequences_free(struct bl_mcq_sequences *s)
{
	bl_free(s->ids);
	bl_free(s->start);
	bl_free(s->from);
	memset(s, 0, sizeof *s);
}

/* ---- scoring ---- */

struct scores { double *base, *plan; int64_t *tokens; int32_t *targets; int64_t *start; float *nll_base, *nll_plan; };

static enum bl_status scores_alloc(struct scores *v, const struct bl_mcq_sequences *s, bool two, struct bl_err *err)
{
	size_t n = (size_t)s->n, all = (size_t)s->start[s->n];
	const char what[] = "the scores of all choices";

	if (bl_try_alloc(&v->base, n, 8, what, err) || bl_try_alloc(&v->tokens, all, 8, what, err) || bl_try_alloc(&v->targets, all, 4, what, err) ||
	    bl_try_alloc(&v->start, n + 1, 8, what, err) || bl_try_alloc(&v->nll_base, all, 4, what, err))
		return err->status;
	if (two && (bl_try_alloc(&v->plan, n, 8, what, err) || bl_try_alloc(&v->nll_plan, all, 4, what, err)))
		return err->status;
	return BL_OK;
}

static void scores_free(struct scores *v)
{
	bl_free(v->base);
	bl_free(v->plan);
	bl_free(v->tokens);
	bl_free(v->targets);
	bl_free(v->start);
	bl_free(v->nll_base);
	bl_free(v->nll_plan);
}

/* Sequences first .. last - 1 in one pass. */
static enum bl_status part(struct scores *v, struct bl_eval_run *r, const struct bl_mcq_sequences *s, int64_t first, int64_t last, struct bl_err *err)
{
	int64_t base = s->start[first], n = last - first, k = 0;
	struct bl_sequences q = {s->ids + base, v->start, n};
	struct bl_eval_rows rows = {v->nll_base, r->set ? v->nll_plan : NULL, NULL, NULL};
	struct bl_eval_passes p;

	for (int64_t i = 0; i <= n; i++)
		v->start[i] = s->start[first + i] - base;
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = v->start[i] + s->from[first + i]; j < v->start[i + 1]; j++, k++) {
			v->tokens[k] = j - 1;
			v->targets[k] = q.ids[j];
		}
	if (bl_eval_passes_run(&p, r, &q, err))
		return err->status;
	bl_eval_rows_run(&rows, r, &p, v->tokens, v->targets, k, err);
	bl_eval_passes_free(&p);
	if (err->status)
		return err->status;
	k = 0;
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = v->start[i] + s->from[first + i]; j < v->start[i + 1]; j++, k++) {
			v->base[first + i] -= (double)v->nll_base[k];
			if (r->set)
				v->plan[first + i] -= (double)v->nll_plan[k];
		}
	return BL_OK;
}

static void mark(uint8_t *right, const double *score, const struct bl_mcq_item *items, size_t n)
{
	for (size_t i = 0, at = 0; i < n; at += (size_t)items[i++].n_choices)
		right[i] = bl_eval_best(score + at, items[i].n_choices) == items[i].answer;
}

static enum bl_status sum_up(const struct scores *v, const struct bl_mcq_item *items, size_t n, struct bl_eval_mcq *base, struct bl_eval_mcq *plan, struct bl_err *err)
{
	uint8_t *right[2] = {NULL, NULL};

	if (bl_try_alloc(&right[0], n, 1, "the marks", err) == BL_OK && bl_try_alloc(&right[1], n, 1, "the marks", err) == BL_OK) {
		mark(right[0], v->base, items, n);
		if (base)
			bl_eval_mcq_of(base, right[0], NULL, (int64_t)n);
		if (v->plan && plan) {
			mark(right[1], v->plan, items, n);
			bl_eval_mcq_of(plan, right[1], right[0], (int64_t)n);
		}
	}
	bl_free(right[0]);
	bl_free(right[1]);
	return err->status;
}

enum bl_status bl_evaluate_mcq(struct bl_forward *f, const struct bl_weight_set *set, const struct bl_mcq_item *items, size_t n, const struct bl_tokenizer *t,
			       const struct bl_chat *chat, int32_t end, struct bl_eval_mcq *base, struct bl_eval_mcq *plan, bl_eval_report *report, void *ctx,
			       struct bl_err *err)
{
	return bl_evaluate_mcq_again(NULL, f, set, items, n, t, chat, end, base, plan, report, ctx, err);
}

enum bl_status bl_evaluate_mcq_again(struct bl_eval_base *kept, struct bl_forward *f, const struct bl_weight_set *set, const struct bl_mcq_item *items, size_t n,
				     const struct bl_tokenizer *t, const struct bl_chat *chat, int32_t end, struct bl_eval_mcq *base, struct bl_eval_mcq *plan,
				     bl_eval_report *report, void *ctx, struct bl_err *err)
{
	struct bl_mcq_sequences s;
	struct scores v = {.base = NULL};
	struct bl_eval_run r;

	if (!n)
		return bl_fail(err, BL_USAGE, "there is no question to ask");
	if (bl_mcq_encode(&s, items, n, t, chat, end, err))
		return err->status;
	bl_eval_run_init(&r, f, set, s.start[s.n], "multiple choice", report, ctx);
	r.kept = kept;
	if (scores_alloc(&v, &s, set != NULL, err) == BL_OK)
		for (int64_t i = 0, k; i < s.n && !err->status; i = k, r.part++) {
			for (k = i + 1; k < s.n && s.start[k + 1] - s.start[i] <= PASS_TOKENS; k++)
				;
			part(&v, &r, &s, i, k, err);
		}
	if (!err->status)
		sum_up(&v, items, n, base, plan, err);
	scores_free(&v);
	bl_mcq_sequences_free(&s);
	return err->status;
}
