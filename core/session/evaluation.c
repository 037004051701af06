/* SPDX-License-Identifier: Apache-2.0
 * Evaluation as a job. A result belongs to the choices it was measured with: going back to them brings it back. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/measure.h"

#define EVALS_KEPT 32

struct eval_job {
	struct bl_session *s;
	struct bl_eval_request rq;
	struct bl_plan *plan;
	char digest[65];
	struct bl_job *job;
};

static char *text_or_null(const char *s)
{
	return s ? bl_xstrdup(s) : NULL;
}

/* Between batches: progress, pause, cancel. */
static void report(void *ctx, const char *phase, double done, double total, const char *unit)
{
	struct eval_job *e = ctx;

	bl_job_progress(e->job, phase, done, total, unit);
	if (bl_job_checkpoint(e->job))
		atomic_store(&e->s->priv->live->cancel, 1);
}

static void set_next(struct bl_live *l, struct bl_live_eval *e)
{
	pthread_mutex_lock(&l->lock);
	struct bl_live_eval *old = l->eval_next;
	l->eval_next = e;
	pthread_mutex_unlock(&l->lock);
	bl_free(old);
}

static enum bl_status eval_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct eval_job *e = ctx;
	struct bl_live *l = e->s->priv->live;
	struct bl_live_eval *made = bl_xalloc(1, sizeof *made);

	e->job = j;
	bl_live_relax(l);
	do {
		struct bl_forward *f;
		bl_err_clear(err);
		f = bl_live_forward(l, e->rq.memory_limit, err);
		if (f)
			bl_measure_run(&made->r, e->s, f, e->plan, &e->rq, report, e, err);
	} while (err->status && bl_live_failed(l, e->rq.seqlen > 0 ? e->rq.seqlen : 1024, err));
	if (err->status) {
		bl_free(made);
		return err->status;
	}
	memcpy(made->digest, e->digest, sizeof made->digest);
	bl_job_keep(j);
	set_next(l, made);
	return BL_OK;
}

static void eval_drop(void *ctx)
{
	struct eval_job *e = ctx;

	bl_plan_free(e->plan);
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
	e->plan = bl_plan_copy(s->plan);
	memcpy(e->digest, s->priv->live->plan->digest, sizeof e->digest);
	return bl_jobs_add(s->jobs, &ops, e, NULL);
}

/* ---- results ---- */

void bl_live_evals_free(struct bl_live *l)
{
	bl_free(l->eval_next);
	while (l->evals) {
		struct bl_live_eval *e = l->evals;
		l->evals = e->next;
		bl_free(e);
	}
}

static void push(struct bl_live *l, struct bl_live_eval *e)
{
	struct bl_live_eval **at = &l->evals;
	int n = 0;

	e->next = l->evals;
	l->evals = e;
	while (*at) {
		struct bl_live_eval *o = *at;
		if (o != e && (n >= EVALS_KEPT || !strcmp(o->digest, e->digest))) {
			*at = o->next;
			bl_free(o);
			continue;
		}
		n++;
		at = &o->next;
	}
}

void bl_live_eval_add(struct bl_live *l, const struct bl_eval_result *r, const char *digest)
{
	struct bl_live_eval *e = bl_xalloc(1, sizeof *e);

	e->r = *r;
	snprintf(e->digest, sizeof e->digest, "%s", digest);
	e->of_snapshot = true;
	push(l, e);
}

/* That of exactly this plan; else the newest, which is stale. */
const struct bl_eval_result *bl_session_evaluation(const struct bl_session *cs, bool *stale)
{
	struct bl_session *s = (struct bl_session *)(uintptr_t)cs;
	struct bl_live *l = s->priv->live;

	pthread_mutex_lock(&l->lock);
	struct bl_live_eval *next = l->eval_next, *found;
	l->eval_next = NULL;
	pthread_mutex_unlock(&l->lock);
	bl_live_publish(s);
	if (!l->evals_seeded)
		bl_live_seed_evals(s);
	if (next)
		push(l, next);
	for (found = l->evals; found && strcmp(found->digest, l->plan->digest) != 0;)
		found = found->next;
	bool exact = found != NULL;
	if (!found)
		for (found = l->evals; found && found->of_snapshot;)
			found = found->next;
	if (stale)
		*stale = !exact && found;
	return found ? &found->r : NULL;
}
