/* SPDX-License-Identifier: Apache-2.0
 * The session: open, edit bookkeeping, statistics, caches by revision, autosave. */
#include "core/session/session.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/plan/recipe.h"
#include "core/session/live.h"
#include "core/session/stored.h"

/* ---- open ---- */

void bl_session_notice(struct bl_session *s, char *sentence)
{
	if (s->notice) {
		bl_log(BL_LOG_INFO, "%s", s->notice);
		bl_free(s->notice);
	}
	s->notice = sentence;
}

static enum bl_status open_documents(struct bl_session *s, const char *what, const struct bl_session_options *o, struct bl_err *err)
{
	int n;
	char *model = NULL, *note = NULL;
	bool is_plan = bl_plan_is_file(what);

	if (is_plan && bl_plan_file_model(&model, what, err))
		return err->status;
	enum bl_status status = bl_model_open(&s->model, is_plan ? model : what, err);
	bl_free(model);
	if (status)
		return is_plan ? bl_err_prefix(err, "%s: its model", what) : status;
	if (is_plan) {
		if (bl_plan_load(&s->plan, s->model, what, &note, err))
			return err->status;
		s->plan_path = bl_xstrdup(what);
		if (note)
			bl_session_notice(s, note);
	} else {
		s->plan = bl_plan_new(s->model, o->target ? o->target : o->new_target ? o->new_target : bl_target_rows(&n)[0].name);
	}
	if (is_plan && o->target && strcmp(o->target, bl_plan_target(s->plan)))
		bl_plan_set_target(s->plan, o->target);
	return bl_target_find(&s->target, bl_plan_target(s->plan), err);
}

enum bl_status bl_session_open(struct bl_session **out, const char *what, const struct bl_session_options *o, struct bl_err *err)
{
	struct bl_session *s = bl_xalloc(1, sizeof *s);

	s->priv = bl_xalloc(1, sizeof *s->priv);
	s->seed = o->seed;
	pthread_mutex_init(&s->priv->lock, NULL);
	pthread_mutex_init(&s->priv->result_lock, NULL);
	pthread_mutex_init(&s->priv->stored_lock, NULL);
	if (open_documents(s, what, o, err)) {
		bl_session_close(s);
		return err->status;
	}
	s->priv->stats = bl_xalloc((size_t)s->model->n_units + 1, sizeof *s->priv->stats);
	s->priv->no_stats = bl_xalloc((size_t)s->model->n_units + 1, sizeof *s->priv->no_stats);
	for (int i = 0; i < s->model->n_units; i++)
		for (int j = 0; j < s->model->units[i].n_members; j++)
			if (!s->model->units[i].members[j].weight)
				atomic_store(&s->priv->no_stats[i], true); /* quantized already */
	bl_session_stored_look(s);
	s->priv->verdicts = bl_xalloc((size_t)s->model->n_units + 1, sizeof *s->priv->verdicts);
	s->pool = bl_pool_new(o->threads);
	s->jobs = bl_jobs_new();
	bl_registry_open(&s->registry, o->program_dir);
	atomic_store(&s->priv->zero_nonfinite, bl_plan_zero_nonfinite(s->plan));
	bl_live_open(s, o);
	bl_live_start_adopting(s);
	s->priv->autosave = o->autosave;
	s->priv->autosaved_at = bl_plan_revision(s->plan);
	if (o->autosave) {
		s->priv->autosave_path = bl_plan_autosave_path(s->model);
		bl_session_recover(s);
	}
	*out = s;
	return BL_OK;
}

void bl_session_close(struct bl_session *s)
{
	if (!s)
		return;
	struct bl_session_private *p = s->priv;
	if (p->live)
		bl_live_unwatch(p->live);
	bl_jobs_free(s->jobs);
	bl_session_autosave_close(s);
	bl_live_close(s);
	for (int i = 0; p->stats && i < s->model->n_units; i++)
		bl_weight_stats_free(atomic_load(&p->stats[i]));
	bl_session_errors_fini(s);
	bl_session_export_fini(s);
	bl_session_stored_fini(s);
	bl_free(s->priv->ranges);
	bl_pool_free(s->pool);
	if (s->jobs)
		bl_registry_close(&s->registry);
	bl_plan_free(s->plan);
	bl_model_close(s->model);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->result_lock);
	pthread_mutex_destroy(&p->stored_lock);
	bl_free(p->stats);
	bl_free(p->no_stats);
	bl_free(p->verdicts);
	bl_free(p->problems);
	bl_free(p->autosave_path);
	bl_free(p);
	bl_free(s->plan_path);
	bl_free(s->notice);
	bl_free(s);
}

bool bl_session_job_over(const struct bl_session *s, uint64_t id)
{
	struct bl_job_view v;

	return !bl_jobs_view(s->jobs, id, &v) || v.state >= BL_JOB_DONE;
}

/* ---- statistics ---- */

/* The next batch of units without statistics: wanted ones first, then in order. Small enough that a change of mind soon counts. */
#define STATS_BATCH 16

static bool lacks_stats(const struct bl_session *s, int unit)
{
	return !atomic_load(&s->priv->stats[unit]) && !atomic_load(&s->priv->no_stats[unit]);
}

static size_t next_units(const struct bl_session *s, int units[STATS_BATCH])
{
	int total = s->model->n_units, first = atomic_load(&s->priv->want_first), last = atomic_load(&s->priv->want_last);
	size_t n = 0;

	for (int i = first < 0 ? 0 : first; i <= last && i < total && n < STATS_BATCH; i++)
		if (lacks_stats(s, i))
			units[n++] = i;
	for (int i = 0; i < total && n < STATS_BATCH; i++)
		if (lacks_stats(s, i) && (i < first || i > last))
			units[n++] = i;
	return n;
}

struct stats_run { struct bl_session *s; struct bl_job *j; atomic_int done, failed; };

/* From any thread. A unit that cannot be read is reported once and stays unknown. */
static void stats_done(void *ctx, int unit, struct bl_weight_stats *st, const struct bl_err *why)
{
	struct stats_run *r = ctx;

	if (st) {
		atomic_store(&r->s->priv->stats[unit], st);
	} else {
		bl_log(BL_LOG_ERROR, "weights of %s: %s", r->s->model->units[unit].name, why ? why->text : "unknown");
		atomic_store(&r->s->priv->no_stats[unit], true);
		atomic_fetch_add(&r->failed, 1);
	}
	bl_job_progress(r->j, "units", atomic_fetch_add(&r->done, 1) + 1, r->s->model->n_units, "units");
}

static enum bl_status stats_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct bl_session *s = ctx;
	struct stats_run run = {s, j, 0, 0};
	int units[STATS_BATCH];

	for (int i = 0; i < s->model->n_units; i++)
		run.done += !lacks_stats(s, i); /* by a job that was cancelled */
	for (size_t n; (n = next_units(s, units)) > 0;)
		if (bl_weight_stats_each(s->model, units, n, s->pool, stats_done, &run, bl_job_cancel_flag(j), err))
			return err->status;
	if (atomic_load(&run.failed))
		return bl_fail(err, BL_INVALID, "the weights of %d units could not be read: the log says why", atomic_load(&run.failed));
	return BL_OK;
}

void bl_session_want(struct bl_session *s, int first_unit, int last_unit)
{
	atomic_store(&s->priv->want_first, first_unit < last_unit ? first_unit : last_unit);
	atomic_store(&s->priv->want_last, first_unit < last_unit ? last_unit : first_unit);
}

void bl_session_start_stats(struct bl_session *s)
{
	static const struct bl_job_ops ops = {.name = "weight ranges", .lane = BL_LANE_LIGHT, .run = stats_run};
	int units[STATS_BATCH];

	if (bl_session_job_over(s, s->priv->stats_job) && next_units(s, units))
		s->priv->stats_job = bl_jobs_add(s->jobs, &ops, s, NULL);
}

const struct bl_weight_stats *bl_session_stats(const struct bl_session *s, int unit)
{
	return atomic_load(&s->priv->stats[unit]);
}

bool bl_session_stats_running(const struct bl_session *s)
{
	return !bl_session_job_over(s, s->priv->stats_job);
}

/* ---- caches by revision ---- */

const struct bl_verdict *bl_session_verdict(struct bl_session *s, int unit)
{
	struct bl_session_private *p = s->priv;

	if (p->verdicts_at != bl_plan_revision(s->plan) + 1) {
		for (int i = 0; i < s->model->n_units; i++)
			bl_target_check_unit(&p->verdicts[i], s->target, s->model, i, bl_session_scheme(s, i, NULL));
		p->verdicts_at = bl_plan_revision(s->plan) + 1;
	}
	return &p->verdicts[unit];
}

const struct bl_problem *bl_session_problems(struct bl_session *s, int *n, int *n_fatal)
{
	struct bl_session_private *p = s->priv;

	if (p->problems_at != bl_plan_revision(s->plan) + 1) {
		bl_free(p->problems);
		p->n_problems = bl_target_check_plan(&p->problems, &p->n_fatal, s->target, s->model, s->plan);
		p->problems_at = bl_plan_revision(s->plan) + 1;
	}
	if (n)
		*n = p->n_problems;
	if (n_fatal)
		*n_fatal = p->n_fatal;
	return p->problems;
}

const struct bl_plan_estimate *bl_session_estimate(struct bl_session *s)
{
	struct bl_session_private *p = s->priv;

	if (p->estimate_at != bl_plan_revision(s->plan) + 1) {
		bl_plan_estimate(&p->estimate, s->model, s->plan, s->target);
		p->estimate_at = bl_plan_revision(s->plan) + 1;
	}
	return &p->estimate;
}

void bl_session_edited(struct bl_session *s)
{
	struct bl_err ignored = BL_ERR_INIT;

	bl_target_find(&s->target, bl_plan_target(s->plan), &ignored); /* an unknown target keeps the old one */
	atomic_store(&s->priv->zero_nonfinite, bl_plan_zero_nonfinite(s->plan));
	s->priv->verdicts_at = s->priv->problems_at = s->priv->estimate_at = 0;
	if (!s->priv->edited_ns)
		s->priv->edited_ns = bl_now_ns();
}

/* ---- recipes ---- */

static bool is_method(const void *registry, const char *name)
{
	return bl_registry_method(registry, name) != NULL;
}

enum bl_status bl_session_recipe(struct bl_session *s, const char *path, struct bl_str *notes, struct bl_err *err)
{
	struct bl_recipe_methods methods = {is_method, &s->registry};

	return bl_recipe_load(s->plan, s->model, path, &methods, notes, err);
}

/* ---- saving ---- */

char *bl_session_plan_file(const struct bl_session *s)
{
	struct bl_str name = {0};

	if (s->plan_path)
		return bl_xstrdup(s->plan_path);
	bl_str_addf(&name, "%s.plan.json", s->model->title);
	return bl_str_take(&name);
}

enum bl_status bl_session_save(struct bl_session *s, const char *path, struct bl_err *err)
{
	char *name = bl_session_plan_file(s);

	if (!path)
		path = name;
	if (bl_plan_save(s->plan, path, err) == BL_OK) {
		char *copy = bl_xstrdup(path);
		bl_free(s->plan_path);
		s->plan_path = copy;
		bl_session_autosave_drop(s);
	}
	bl_free(name);
	return err->status;
}
