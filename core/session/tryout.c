/* SPDX-License-Identifier: Apache-2.0
 * The tryout job. Its rows are shared with the screen under a lock of their own; numbers also go to the cache of results, so that every other screen has them. */
#include "core/session/tryout.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/session/compare.h"
#include "core/session/live.h"

struct bl_tryout {
	atomic_int refs;
	pthread_mutex_t lock;
	int unit, n;
	struct bl_try row[BL_TRY_MAX]; /* params owned */
	char *stages;                  /* of the plan, in every choice */
	bool zero_nonfinite, made_room;
};

static void unref(struct bl_tryout *t)
{
	if (!t || atomic_fetch_sub(&t->refs, 1) > 1)
		return;
	for (int i = 0; i < t->n; i++)
		bl_free(t->row[i].choice.params);
	bl_free(t->stages);
	pthread_mutex_destroy(&t->lock);
	bl_free(t);
}

void bl_live_tryouts_free(struct bl_live *l)
{
	unref(l->tryout);
	for (int i = 0; i < l->n_try_params; i++)
		bl_free(l->try_params[i]);
	l->tryout = NULL;
	l->n_try_params = 0;
}

/* ---- the job ---- */

struct try_job { struct bl_session *s; struct bl_tryout *t; struct bl_live_turn turn; };

static void publish(struct try_job *k, int i, const struct bl_try *row)
{
	pthread_mutex_lock(&k->t->lock);
	char *params = k->t->row[i].choice.params;
	k->t->row[i] = *row;
	k->t->row[i].choice.params = params;
	pthread_mutex_unlock(&k->t->lock);
	bl_jobs_wake(k->s->jobs);
}

/* By the solver itself: its own clock for what comes from the cache. */
static enum bl_status solve(struct try_job *k, struct bl_try *row, struct bl_err *err)
{
	struct bl_live *l = k->turn.l;
	struct bl_unit_weights *w = NULL;
	struct bl_solved *u = NULL;
	uint64_t start;

	if (bl_session_choice_whole(k->s, &row->choice) &&
	    bl_live_solved_unit(l, k->t->unit, &row->choice, k->t->zero_nonfinite, bl_job_cancel_flag(k->turn.job), &u, err))
		return err->status;
	start = bl_now_ns();
	if (!bl_live_unit_weights(k->s, k->t->unit, &row->choice, k->t->zero_nonfinite, u, &w, err))
		row->seconds = u ? u->seconds : (double)(bl_now_ns() - start) / 1e9;
	if (u)
		snprintf(row->report, sizeof row->report, "%.159s", u->report);
	bl_solved_free(u);
	bl_unit_weights_unref(w);
	return err->status;
}

struct weight_error { struct bl_solver solver; const struct bl_unit *u; double w2[64], e2[64]; };

static enum bl_status member_error(void *ctx, size_t item, struct bl_err *err)
{
	struct weight_error *k = ctx;
	struct bl_rows_buf buf = {0};
	const struct bl_member *m = &k->u->members[item];

	bl_solve_rows_error(&k->solver, m, 0, m->rows, &buf, &k->w2[item], &k->e2[item], err);
	bl_rows_buf_free(&buf);
	return err->status;
}

static enum bl_status weights_alone(struct try_job *k, struct bl_try *row, struct bl_err *err)
{
	struct weight_error w = {.u = &k->s->model->units[k->t->unit]};
	double w2 = 0, e2 = 0;

	if (w.u->n_members > 64 || bl_solver_init(&w.solver, &k->s->registry, &row->choice.scheme, row->choice.method, row->choice.params, k->t->zero_nonfinite, err))
		return err->status;
	if (!bl_pool_run(k->s->pool, (size_t)w.u->n_members, member_error, &w, bl_job_cancel_flag(k->turn.job), err)) {
		for (int i = 0; i < w.u->n_members; i++) {
			w2 += w.w2[i];
			e2 += w.e2[i];
		}
		row->rel = w2 > 0 ? e2 / w2 : 0;
		row->weights_only = true;
	}
	bl_solver_fini(&w.solver);
	return err->status;
}

static enum bl_status number(struct try_job *k, struct bl_try *row, enum bl_live_kind kind, struct bl_err *err)
{
	struct bl_live_request r = {.kind = kind, .unit = k->t->unit, .choice = row->choice, .zero_nonfinite = k->t->zero_nonfinite, .calib = k->turn.calib,
				    .hash = bl_live_choice_hash(&row->choice, k->t->zero_nonfinite)};
	struct bl_live_request *one = &r;
	const struct bl_unit *u = &k->s->model->units[k->t->unit];
	double v[3] = {0};

	(kind == BL_LIVE_ERROR ? bl_results_error_key : bl_results_unit_kl_key)(r.key, u, &row->choice, k->t->zero_nonfinite);
	if (!bl_results_get(r.calib->results, r.key, v, NULL)) {
		do {
			bl_err_clear(err);
			if (kind == BL_LIVE_ERROR)
				bl_live_errors(&k->turn, &one, 1, err);
			else
				bl_live_unit_effect(&k->turn, &r, &r.value, &r.extra, err);
		} while (err->status && bl_live_failed(k->turn.l, bl_calib_window(r.calib->c), err));
		if (err->status)
			return err->status;
		v[0] = r.value;
		v[1] = kind == BL_LIVE_ERROR ? r.with_activations : r.extra;
		bl_results_put(r.calib->results, r.key, v, bl_wall_s());
	}
	if (kind == BL_LIVE_ERROR) {
		row->rel = v[0];
		row->with_activations = v[1] > 0;
	} else {
		row->kl = v[0];
	}
	return BL_OK;
}

static enum bl_status one_row(struct try_job *k, int i, struct bl_err *err)
{
	struct bl_try row = k->t->row[i]; /* its params do not change while the job is there */
	struct bl_live_calib *calib = k->turn.calib;
	bool full = row.choice.scheme.number == BL_NUM_FULL;

	const struct bl_method *m = bl_registry_method(&k->s->registry, row.choice.method);

	bool trains = m && bl_method_trains(&k->s->registry, m);

	if (trains || bl_live_inputs(k->turn.l, k->t->unit, &row.choice).quantized) { /* of a unit alone it would be another method */
		row.known = BL_KNOWN_REFUSED;
		snprintf(row.why, sizeof row.why, "%s: choose it for them, then solve", trains ? "trains all units that have it together" : "solved block after block");
		publish(k, i, &row);
		return BL_OK;
	}
	if (m && bl_method_whole(&k->s->registry, m) && !calib) {
		row.known = BL_KNOWN_REFUSED;
		snprintf(row.why, sizeof row.why, "needs a calibration (c)");
		publish(k, i, &row);
		return BL_OK;
	}
	row.known = BL_KNOWN_COMPUTING;
	publish(k, i, &row);
	if (!full && !solve(k, &row, err)) {
		publish(k, i, &row);
		if (calib && (bl_calib_has_hessians(calib->c)))
			number(k, &row, BL_LIVE_ERROR, err);
		else if (!bl_session_choice_whole(k->s, &row.choice))
			weights_alone(k, &row, err);
		publish(k, i, &row);
		if (!err->status && calib && bl_calib_kept_windows(calib->c) > 0)
			number(k, &row, BL_LIVE_UNIT_KL, err);
	}
	row.known = err->status ? BL_KNOWN_REFUSED : BL_KNOWN_YES;
	if (err->status)
		bl_printable(row.why, sizeof row.why, err->text);
	if (err->status == BL_CANCELLED)
		row.known = BL_KNOWN_NO;
	publish(k, i, &row);
	return err->status;
}

static enum bl_status try_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct try_job *k = ctx;

	const bool many = k->t->n > 1; /* a look at many can go on later; one was asked for by itself */

	k->turn = (struct bl_live_turn){.job = j, .l = k->s->priv->live, .calib = bl_live_get_calib(k->s->priv->live), .own = true, .polite = many};
	bl_live_relax(k->turn.l);
	for (int i = 0; i < k->t->n && !err->status; i++) {
		bl_job_progress(j, "methods", i, k->t->n, "methods");
		if (bl_job_checkpoint(j) || (many && bl_job_wanted(j)))
			bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		else if (one_row(k, i, err) && err->status != BL_CANCELLED && err->status != BL_NO_DEVICE && err->status != BL_NO_MEMORY)
			bl_err_clear(err); /* this method cannot: its row says why */
	}
	if (!err->status)
		bl_job_progress(j, "methods", k->t->n, k->t->n, "methods");
	pthread_mutex_lock(&k->t->lock);
	k->t->made_room = err->status == BL_CANCELLED && !atomic_load(bl_job_cancel_flag(j));
	pthread_mutex_unlock(&k->t->lock);
	if (k->turn.calib)
		bl_results_save(k->turn.calib->results);
	bl_live_calib_unref(k->turn.calib);
	return err->status;
}

static void try_drop(void *ctx)
{
	struct try_job *k = ctx;

	unref(k->t);
	bl_free(k);
}

/* ---- the screen's side ---- */

uint64_t bl_session_try(struct bl_session *s, int unit, const struct bl_choice *c, int n)
{
	static const struct bl_job_ops ops = {.name = "methods", .lane = BL_LANE_MAIN, .run = try_run, .drop = try_drop, .pausable = true};
	struct bl_live *l = s->priv->live;
	struct try_job *k = bl_xalloc(1, sizeof *k);
	struct bl_tryout *t = bl_xalloc(1, sizeof *t);
	char title[64];

	if (l->try_job)
		bl_jobs_cancel(s->jobs, l->try_job);
	t->refs = 2;
	pthread_mutex_init(&t->lock, NULL);
	t->unit = unit;
	t->zero_nonfinite = bl_plan_zero_nonfinite(s->plan);
	t->stages = bl_xstrdup(bl_plan_stages(s->plan));
	for (t->n = 0; t->n < n && t->n < BL_TRY_MAX; t->n++) {
		t->row[t->n] = (struct bl_try){.choice = c[t->n], .seconds = NAN, .rel = NAN, .kl = NAN};
		t->row[t->n].choice.stages = t->stages;
		t->row[t->n].choice.params = bl_xstrdup(c[t->n].params ? c[t->n].params : "");
	}
	unref(l->tryout);
	l->tryout = t;
	k->s = s;
	k->t = t;
	snprintf(title, sizeof title, "methods for %d %s", s->model->units[unit].block, bl_unit_kind_name(s->model->units[unit].kind));
	return l->try_job = bl_jobs_add(s->jobs, &ops, k, title);
}

int bl_session_tried(struct bl_session *s, int *unit, struct bl_try *out, int cap)
{
	struct bl_tryout *t = s->priv->live->tryout;

	*unit = -1;
	if (!t)
		return 0;
	*unit = t->unit;
	pthread_mutex_lock(&t->lock);
	for (int i = 0; i < t->n && i < cap; i++)
		out[i] = t->row[i];
	pthread_mutex_unlock(&t->lock);
	return t->n;
}

bool bl_session_try_made_room(struct bl_session *s)
{
	struct bl_tryout *t = s->priv->live->tryout;
	bool made = false;

	if (t) {
		pthread_mutex_lock(&t->lock);
		made = t->made_room;
		pthread_mutex_unlock(&t->lock);
	}
	return made;
}

static bool has(const struct bl_choice *c, int n, const struct bl_choice *one)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(c[i].method, one->method) && !strcmp(c[i].params, one->params))
			return true;
	return false;
}

int bl_session_try_list(struct bl_session *s, int unit, const struct bl_scheme *scheme, struct bl_choice *out, int cap)
{
	struct bl_live *l = s->priv->live;
	const struct bl_choice *own = bl_plan_choice(s->plan, unit);
	struct bl_plan *scratch = bl_plan_new(s->model, s->target->name);
	struct bl_err none = BL_ERR_INIT;
	char name[BL_SCHEME_NAME_MAX], **rows = NULL;
	size_t n_rows = 0, cap_rows = 0;
	int n = 0;

	for (int i = 0; i < l->n_try_params; i++)
		bl_free(l->try_params[i]);
	l->n_try_params = 0;
	if (bl_scheme_equal(&own->scheme, scheme) && own->method[0] && cap > 0) {
		out[n] = *own;
		out[n++].params = l->try_params[l->n_try_params++] = bl_xstrdup(own->params);
	}
	bl_compare_all_methods(s, bl_scheme_name(name, scheme), false, &rows, &n_rows, &cap_rows);
	for (size_t i = 0; i < n_rows; i++) {
		struct bl_str text = {0};
		bl_str_addf(&text, "all=%s", rows[i]);
		if (n < cap && n < BL_TRY_MAX && !bl_plan_set_text(scratch, s->model, bl_str_c(&text), NULL, NULL, &none) &&
		    !has(out, n, bl_plan_choice(scratch, unit))) {
			out[n] = *bl_plan_choice(scratch, unit);
			out[n].params = l->try_params[l->n_try_params++] = bl_xstrdup(out[n].params);
			n++;
		}
		bl_str_free(&text);
		bl_free(rows[i]);
	}
	bl_free(rows);
	bl_plan_free(scratch);
	return n;
}
