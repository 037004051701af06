/* SPDX-License-Identifier: Apache-2.0
 * `:verify FILE` as a background job: the proof runs on the job thread, a small watcher carries its progress to the job
 * line and the cancel flag back; the outcome becomes a message, the findings go to the log. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "tui/app_private.h"

/* Shared by the screen and the job; freed by whoever lets go last. */
struct bl_verify_job {
	atomic_int owners;
	atomic_int finished; /* the watcher ends */
	uint64_t id;
	char *path;
	struct bl_session *session; /* outlives its jobs */
	struct bl_progress progress;
	struct bl_verify_result result;
	bool have_result;
};

struct watch {
	struct bl_verify_job *v;
	struct bl_job *job;
};

static void let_go(struct bl_verify_job *v)
{
	if (atomic_fetch_sub(&v->owners, 1) != 1)
		return;
	if (v->have_result)
		bl_verify_result_free(&v->result);
	bl_free(v->path);
	bl_free(v);
}

static void drop(void *ctx)
{
	let_go(ctx);
}

static void *watcher(void *arg)
{
	struct watch *w = arg;
	const struct timespec pause = { .tv_nsec = 50000000 };

	while (!atomic_load(&w->v->finished)) {
		struct bl_progress *p = &w->v->progress;

		if (atomic_load(bl_job_cancel_flag(w->job)))
			atomic_store(&p->cancel, 1);
		bl_job_progress(w->job, "prove", (double)atomic_load(&p->done_bytes),
				(double)atomic_load(&p->total_bytes), "bytes");
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static enum bl_status run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct bl_verify_job *v = ctx;
	struct bl_verify_request rq = { .path = v->path,
					.base = v->session->model,
					.target = v->session->target,
					.pool = v->session->pool,
					.progress = &v->progress };
	struct watch w = { v, j };
	pthread_t thread;
	bool watching = pthread_create(&thread, NULL, watcher, &w) == 0;
	enum bl_status status = bl_verify_run(&v->result, &rq, err);

	v->have_result = status == BL_OK;
	atomic_store(&v->finished, 1);
	if (watching)
		pthread_join(thread, NULL);
	return status;
}

unsigned bl_verify_start(struct bl_app *app, const char *path)
{
	static const struct bl_job_ops ops = { .name = "verify", .lane = BL_LANE_MAIN, .run = run, .drop = drop };
	struct bl_verify_job *v;
	char title[64];

	if (bl_job_in_the_way(app, "verify")) /* its findings are still to come */
		return BL_REACT_REDRAW;
	bl_verify_free(app);
	v = bl_xalloc(1, sizeof *v);
	atomic_init(&v->owners, 2);
	v->path = bl_xstrdup(path);
	v->session = app->session;
	snprintf(title, sizeof title, "verify %.50s", path);
	app->priv->verify = v;
	v->id = bl_jobs_add(app->session->jobs, &ops, v, title);
	bl_app_message(app, BL_MSG_INFO, "verifying %s against %s (J shows jobs)", path, app->session->model->title);
	return BL_REACT_REDRAW;
}

void bl_verify_report(struct bl_app *app, const struct bl_job_view *job)
{
	struct bl_verify_job *v = app->priv->verify;
	const struct bl_verify_result *r;
	int first = 0;

	if (!v || v->id != job->id || !v->have_result)
		return;
	r = &v->result;
	while (first < r->n_findings && !r->findings[first].fatal)
		first++;
	for (int i = 0; i < r->n_findings; i++)
		bl_log(r->findings[i].fatal ? BL_LOG_ERROR : BL_LOG_WARN, "%s: %s: %s", v->path, r->findings[i].where,
		       r->findings[i].sentence);
	if (r->n_fatal)
		bl_app_message(app, BL_MSG_ERROR, "%s: %d mismatch%s, first %s: %s · L lists all", v->path, r->n_fatal,
			       r->n_fatal == 1 ? "" : "es", r->findings[first].where, r->findings[first].sentence);
	else if (r->undecoded)
		bl_app_message(app, BL_MSG_ERROR, "%s: not proved: %d linears are stored in a form whose numbers are not read here", v->path, (int)r->undecoded);
	else
		bl_app_message(app, BL_MSG_INFO, "%s: proved, %d tensors, max |w-w^| %.2f step, relative error %.2e",
			       v->path, (int)r->proved_tensors, r->max_step_error, r->relative_error);
}

/* The screen lets go; a job that still runs is told to end. */
void bl_verify_free(struct bl_app *app)
{
	struct bl_verify_job *v = app->priv->verify;

	if (!v)
		return;
	atomic_store(&v->progress.cancel, 1);
	app->priv->verify = NULL;
	let_go(v);
}
