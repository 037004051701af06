/* SPDX-License-Identifier: Apache-2.0
 * Evaluation as a job: files read, the plan's units solved, base and plan measured side by side. The result belongs to the plan it was started with. */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/evaluate/run.h"
#include "core/session/live.h"

struct eval_job {
	struct bl_session *s;
	struct bl_eval_request rq;
	struct bl_live_plan *plan;
	struct bl_job *job;
	struct bl_tokenizer *tokenizer;
	struct bl_chat *chat;
	int32_t *ids[2];
	struct bl_eval_windows w[2];     /* ppl, kl */
	struct bl_mcq_item *items; size_t n_items;
	struct bl_weight_set set;
};

static char *text_or_null(const char *s)
{
	return s ? bl_xstrdup(s) : NULL;
}

static bool changes_anything(const struct bl_live_plan *p)
{
	for (int i = 0; i < p->n; i++)
		if (p->hash[i])
			return true;
	return false;
}

static enum bl_status read_files(struct eval_job *e, struct bl_err *err)
{
	const char *dir = e->s->model->dir, *file[2] = {e->rq.ppl, e->rq.kl};
	struct bl_err no_chat = BL_ERR_INIT;
	int64_t len = e->rq.seqlen > 0 ? e->rq.seqlen : 1024;

	bl_job_note(e->job, "reading data");
	if (bl_tokenizer_open(&e->tokenizer, dir, err))
		return err->status;
	if (bl_chat_open(&e->chat, dir, &no_chat)) {
		e->chat = NULL;
		if (e->rq.mcq)
			return bl_fail(err, no_chat.status, "multiple choice asks through the chat template: %s", no_chat.text);
	}
	for (int i = 0; i < 2; i++) {
		if (i == 1 && file[0] && file[1] && !strcmp(file[0], file[1]))
			e->w[1] = e->w[0];
		else if (file[i] && bl_eval_windows_load(&e->ids[i], &e->w[i], file[i], e->tokenizer, e->chat, len, e->rq.windows, err))
			return err->status;
	}
	if (e->rq.mcq && bl_mcq_load(&e->items, &e->n_items, e->rq.mcq, err))
		return err->status;
	return BL_OK;
}

static void release_set(struct eval_job *e)
{
	for (int i = 0; e->set.of && i < e->set.n; i++)
		bl_unit_weights_unref(e->set.of[i]);
	bl_free(e->set.of);
	e->set.of = NULL;
}

static enum bl_status solve(struct eval_job *e, struct bl_err *err)
{
	struct bl_live *l = e->s->priv->live;
	int total = 0, done = 0;

	e->set = (struct bl_weight_set){bl_xalloc((size_t)e->plan->n + 1, sizeof *e->set.of), e->plan->n};
	for (int i = 0; i < e->plan->n; i++)
		total += e->plan->hash[i] != 0;
	for (int i = 0; i < e->plan->n && !err->status; i++) {
		struct bl_unit_weights *w = NULL;
		if (!e->plan->hash[i])
			continue;
		if (bl_job_checkpoint(e->job))
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		if (bl_live_solve(l, i, &e->plan->choice[i], e->plan->zero_nonfinite, &w, err) == BL_OK)
			e->set.of[i] = w ? bl_unit_weights_ref(w) : NULL;
		bl_job_progress(e->job, "solve", ++done, total, "units");
	}
	return err->status;
}

/* Between batches: progress, pause, cancel. */
static void report(void *ctx, const char *phase, double done, double total, const char *unit)
{
	struct eval_job *e = ctx;

	bl_job_progress(e->job, phase, done, total, unit);
	if (bl_job_checkpoint(e->job))
		atomic_store(&e->s->priv->live->cancel, 1);
}

static int32_t end_token(const struct eval_job *e)
{
	const cJSON *eos = cJSON_GetObjectItemCaseSensitive(e->s->model->config.json, "eos_token_id");

	if (cJSON_IsArray(eos))
		eos = cJSON_GetArrayItem(eos, 0);
	return cJSON_IsNumber(eos) && eos->valuedouble >= 0 && eos->valuedouble < (double)bl_tokenizer_size(e->tokenizer) ? (int32_t)eos->valuedouble : -1;
}

static enum bl_status measure_windows(struct eval_job *e, struct bl_forward *f, struct bl_eval_result *r, struct bl_err *err)
{
	const struct bl_weight_set *set = r->has_plan ? &e->set : NULL;
	bool same = e->w[0].ids == e->w[1].ids;

	if (e->w[0].n && bl_evaluate_windows(f, set, &e->w[0], &r->base_ppl, &r->plan_ppl, same && set ? &r->kl : NULL, report, e, err))
		return err->status;
	r->has_ppl = e->w[0].n > 0;
	if (e->w[1].n && !same && set && bl_evaluate_windows(f, set, &e->w[1], NULL, NULL, &r->kl, report, e, err))
		return err->status;
	r->has_kl = e->w[1].n > 0 && set;
	return BL_OK;
}

static enum bl_status measure(struct eval_job *e, struct bl_eval_result *r, struct bl_err *err)
{
	struct bl_live *l = e->s->priv->live;
	struct bl_forward *f = bl_live_forward(l, e->rq.memory_limit, err);
	int32_t end;

	if (!f || measure_windows(e, f, r, err))
		return err->status;
	if (!e->rq.mcq)
		return BL_OK;
	size_t n = e->rq.items > 0 && (size_t)e->rq.items < e->n_items ? (size_t)e->rq.items : e->n_items;
	if ((end = end_token(e)) < 0)
		return bl_fail(err, BL_INVALID, "config.json names no eos_token_id, with which answers end");
	if (bl_evaluate_mcq(f, r->has_plan ? &e->set : NULL, e->items, n, e->tokenizer, e->chat, end, &r->base_mcq, &r->plan_mcq, report, e, err))
		return err->status;
	r->has_mcq = true;
	return BL_OK;
}

static void describe(struct eval_job *e, struct bl_eval_result *r)
{
	struct bl_str text = {0};
	const struct bl_eval_windows *w = e->w[0].n ? &e->w[0] : &e->w[1];

	if (w->n)
		bl_str_addf(&text, "%lld windows of %lld tokens, none shared, tokens 2 to %lld predicted", (long long)w->n, (long long)w->len, (long long)w->len);
	if (r->has_mcq)
		bl_str_addf(&text, "%s%lld questions, each choice by the sum of log p of its tokens and the end", text.len ? "; " : "", (long long)r->base_mcq.n);
	snprintf(r->protocol, sizeof r->protocol, "%s", bl_str_c(&text));
	bl_str_free(&text);
	snprintf(r->device, sizeof r->device, "%.63s", e->s->priv->live->engine.name);
	memcpy(r->plan_digest, e->plan->digest, sizeof r->plan_digest);
}

static enum bl_status eval_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct eval_job *e = ctx;
	struct bl_live *l = e->s->priv->live;
	struct bl_eval_result *r = bl_xalloc(1, sizeof *r);
	uint64_t began = bl_now_ns();
	int64_t len = e->rq.seqlen > 0 ? e->rq.seqlen : 1024;

	e->job = j;
	r->has_plan = changes_anything(e->plan);
	bl_live_relax(l);
	if (read_files(e, err) == BL_OK && (!r->has_plan || solve(e, err) == BL_OK)) {
		bl_job_note(j, "");
		do {
			bl_err_clear(err);
			measure(e, r, err);
		} while (err->status && bl_live_failed(l, len, err));
	}
	if (err->status) {
		bl_free(r);
		return err->status;
	}
	r->seconds = (double)(bl_now_ns() - began) / 1e9;
	r->wall_s = bl_wall_s();
	describe(e, r);
	bl_job_keep(j);
	pthread_mutex_lock(&l->lock);
	struct bl_eval_result *old = l->eval_next;
	l->eval_next = r;
	pthread_mutex_unlock(&l->lock);
	bl_free(old);
	return BL_OK;
}

static void eval_drop(void *ctx)
{
	struct eval_job *e = ctx;

	release_set(e);
	bl_free(e->ids[0]);
	bl_free(e->ids[1]);
	bl_mcq_free(e->items, e->n_items);
	bl_tokenizer_free(e->tokenizer);
	bl_chat_free(e->chat);
	bl_live_plan_unref(e->plan);
	bl_free(e->rq.ppl);
	bl_free(e->rq.kl);
	bl_free(e->rq.mcq);
	bl_free(e);
}

uint64_t bl_session_evaluate(struct bl_session *s, const struct bl_eval_request *r)
{
	static const struct bl_job_ops ops = {.name = "evaluate", .lane = BL_LANE_MAIN, .run = eval_run, .drop = eval_drop, .pausable = true};
	struct eval_job *e = bl_xalloc(1, sizeof *e);

	bl_live_publish(s);
	e->s = s;
	e->rq = *r;
	e->rq.ppl = text_or_null(r->ppl);
	e->rq.kl = text_or_null(r->kl);
	e->rq.mcq = text_or_null(r->mcq);
	e->plan = bl_live_plan_ref(s->priv->live->plan);
	return bl_jobs_add(s->jobs, &ops, e, NULL);
}

const struct bl_eval_result *bl_session_evaluation(const struct bl_session *cs, bool *stale)
{
	struct bl_session *s = (struct bl_session *)(uintptr_t)cs;
	struct bl_live *l = s->priv->live;

	pthread_mutex_lock(&l->lock);
	struct bl_eval_result *next = l->eval_next;
	l->eval_next = NULL;
	pthread_mutex_unlock(&l->lock);
	if (next) {
		bl_free(l->eval_shown);
		l->eval_shown = next;
		s->priv->estimate_at = 0; /* the estimates stand on it */
	}
	if (stale) {
		bl_live_publish(s);
		*stale = l->eval_shown && l->eval_shown->has_plan && strcmp(l->eval_shown->plan_digest, l->plan->digest) != 0;
	}
	return l->eval_shown;
}
