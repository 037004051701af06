/* SPDX-License-Identifier: Apache-2.0
 * Export as a job of the session: on a copy of the plan, progress translated, result handed over when it ended. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/session/live.h"
#include "core/session/run.h"

struct export_job {
	struct bl_session *s;
	struct bl_plan *plan;
	const struct bl_target *target;
	char *out;
	float *input_absmax; /* NULL: no calibration, or not needed */
	bool overwrite, ignore_rules;
	struct bl_progress progress;
	struct bl_job *job;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended;
};

/* Where it is; at the end all is done, whatever was too small to count. */
static void report(struct export_job *e, bool over)
{
	int phase = atomic_load(&e->progress.phase);
	double done = (double)atomic_load(&e->progress.done_bytes), total = (double)atomic_load(&e->progress.total_bytes);

	if (atomic_load(&e->progress.phase) == phase) /* else these may be bytes of both */
		bl_job_progress(e->job, phase ? "prove" : "write", over ? total : done, total, "bytes");
}

/* Copies progress into the job, some twenty times a second. The end of the export ends it at once. */
static void *watch(void *arg)
{
	struct export_job *e = arg;
	struct timespec until;

	pthread_mutex_lock(&e->lock);
	while (!e->ended) {
		report(e, false);
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 50000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&e->changed, &e->lock, &until);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

static void end_watch(struct export_job *e, pthread_t watcher)
{
	pthread_mutex_lock(&e->lock);
	e->ended = true;
	pthread_cond_signal(&e->changed);
	pthread_mutex_unlock(&e->lock);
	pthread_join(watcher, NULL);
}

static enum bl_status export_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct export_job *e = ctx;
	struct bl_session *s = e->s;
	struct bl_export_request rq = {.model = s->model, .plan = e->plan, .registry = &s->registry, .target = e->target, .out = e->out,
				       .overwrite = e->overwrite, .ignore_rules = e->ignore_rules, .pool = s->pool, .progress = &e->progress, .seed = s->seed,
				       .input_absmax = e->input_absmax};
	struct bl_export_result *r = bl_xalloc(1, sizeof *r);
	struct bl_solved **all = bl_live_solved_plan(s->priv->live, e->plan, j, err);
	pthread_t watcher;

	struct bl_fold *fold = NULL;
	if (err->status || (s->model->n_units && bl_live_fold(s->priv->live, bl_plan_choice(e->plan, 0), &fold, err))) {
		bl_live_solved_plan_free(all, s->model->n_units);
		bl_free(r);
		return err->status;
	}
	rq.model = fold ? bl_fold_model(fold) : s->model;
	for (int i = 0; fold && e->input_absmax && i < s->model->n_units; i++)
		e->input_absmax[i] = bl_live_absmax(s->priv->live, i, bl_plan_choice(e->plan, i), true);
	rq.solved = all;
	e->job = j;
	e->progress.cancel_from = bl_job_cancel_flag(j); /* heard at once, not when the watcher looks next */
	bool watched = pthread_create(&watcher, NULL, watch, e) == 0;
	enum bl_status status = bl_export_run(r, &rq, err);
	if (watched)
		end_watch(e, watcher);
	bl_live_solved_plan_free(all, s->model->n_units);
	bl_fold_unref(fold);
	if (status) {
		bl_free(r);
		return status;
	}
	bl_job_keep(j); /* the file has its name: a cancel that came too late may not say that there is none */
	report(e, true);
	pthread_mutex_lock(&s->priv->result_lock);
	struct bl_export_result *old = s->priv->result;
	s->priv->result = r;
	s->priv->result_job = bl_job_id(j);
	pthread_mutex_unlock(&s->priv->result_lock);
	if (old) {
		bl_export_result_free(old);
		bl_free(old);
	}
	return BL_OK;
}

static void export_drop(void *ctx)
{
	struct export_job *e = ctx;

	bl_plan_free(e->plan);
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	bl_free(e->out);
	bl_free(e->input_absmax);
	bl_free(e);
}

uint64_t bl_session_export(struct bl_session *s, const char *out, bool overwrite, bool ignore_rules)
{
	static const struct bl_job_ops ops = {.name = "export", .lane = BL_LANE_MAIN, .run = export_run, .drop = export_drop};
	struct export_job *e = bl_xalloc(1, sizeof *e);
	struct bl_str title = {0};

	e->s = s;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	e->plan = bl_plan_copy(s->plan);
	e->target = s->target;
	e->input_absmax = bl_session_input_absmax(s);
	e->out = bl_xstrdup(out);
	e->overwrite = overwrite;
	e->ignore_rules = ignore_rules;
	bl_str_addf(&title, "export %s", out);
	uint64_t id = bl_jobs_add(s->jobs, &ops, e, bl_str_c(&title));
	bl_str_free(&title);
	return id;
}

/* Not before its job ended. The screen keeps what it was given until it asks again. */
const struct bl_export_result *bl_session_export_result(const struct bl_session *s)
{
	struct bl_session_private *p = s->priv;

	pthread_mutex_lock(&p->result_lock);
	if (p->result && bl_session_job_over(s, p->result_job)) {
		if (p->shown) {
			bl_export_result_free(p->shown);
			bl_free(p->shown);
		}
		p->shown = p->result;
		p->result = NULL;
	}
	pthread_mutex_unlock(&p->result_lock);
	return p->shown;
}

void bl_session_export_fini(struct bl_session *s)
{
	struct bl_export_result *both[2] = {s->priv->result, s->priv->shown};

	for (int i = 0; i < 2; i++)
		if (both[i]) {
			bl_export_result_free(both[i]);
			bl_free(both[i]);
		}
}
