/* SPDX-License-Identifier: Apache-2.0
 * Units that are trained together: what they start from is solved first (and kept), then one run makes all of them. Stored under what the whole plan says, so
 * that a plan never gets codes that were trained beside other choices. A run that was interrupted starts anew and ends with the same bytes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/measure.h"
#include "core/solve/store.h"
#include "core/tune/tune.h"

struct tuning {
	struct bl_live *l;
	struct bl_job *job;
	const struct bl_live_plan *plan;
	const struct bl_calib *calib;
	const struct bl_method *method;
	struct bl_fold *fold;
	struct bl_tuning how;
	struct bl_tune_unit *units;          /* [n_units] */
	struct bl_solved **start;            /* [n_units] */
	struct bl_unit_weights **fixed;      /* [n_units] */
	float *own;                          /* a Hessian */
	int first;                           /* trained unit */
	struct bl_live_plan *before;         /* the plan with the method that it starts from, when that trains too */
};

static const struct bl_choice *choice(const struct tuning *t, int unit) { return &t->plan->choice[unit]; }

/* One method with one set of parameters. */
static enum bl_status agree(struct tuning *t, struct bl_err *err)
{
	const struct bl_session *s = t->l->s;
	const struct bl_choice *c, *f;
	double *params = NULL;

	while (!bl_live_trained(t->l, choice(t, t->first)))
		t->first++;
	f = choice(t, t->first);
	t->method = bl_registry_method(&s->registry, f->method);
	for (int i = t->first; i < t->plan->n; i++) {
		c = choice(t, i);
		if (!bl_live_trained(t->l, c))
			continue;
		if (strcmp(c->method, f->method) != 0 || strcmp(c->params, f->params) != 0)
			return bl_fail(err, BL_INVALID, "%s and %s are trained together and must have the same method and parameters (%s %s, %s %s)", s->model->units[t->first].name,
				       s->model->units[i].name, f->method, f->params, c->method, c->params);
		const struct bl_grid g = bl_grid_of(&c->scheme);
		const char *why = bl_scheme_is_shared(&c->scheme) ? "scales over more than a row are not trained" :
				  t->method->refuses(&g, s->model->units[i].rows, s->model->units[i].cols);
		if (why)
			return bl_fail(err, BL_UNSUPPORTED, "%s: %s cannot do this: %s", s->model->units[i].name, c->method, why);
	}
	if (bl_params_parse(&params, t->method->params, t->method->n_params, f->params, t->method->name, err))
		return err->status;
	t->how = (struct bl_tuning){.size = sizeof t->how};
	const char *why = t->method->tuning(&t->how, params);
	bl_free(params);
	return why ? bl_fail(err, BL_INVALID, "%s: %s", f->method, why) : bl_tuning_check(&t->how, f->method, err);
}

static void key_of(const struct tuning *t, int unit, char key[65])
{
	struct bl_solve_request rq = bl_live_request(t->l->s, t->fold, unit, choice(t, unit), t->plan->zero_nonfinite);
	char chain[65];

	bl_live_chain(chain, t->l, t->plan, t->plan->n);
	rq.chain = chain;
	bl_solved_key(key, &rq, bl_calib_key_of(t->calib), "");
}

static bool all_stored(const struct tuning *t)
{
	for (int i = t->first; i < t->plan->n; i++) {
		struct bl_solve_request rq = bl_live_request(t->l->s, t->fold, i, choice(t, i), t->plan->zero_nonfinite);
		struct bl_err ignored = BL_ERR_INIT;
		struct bl_solved *u = NULL;
		char key[65];

		if (!bl_live_trained(t->l, choice(t, i)))
			continue;
		key_of(t, i, key);
		if (bl_live_load_solved(t->l, &rq, key, &u, &ignored))
			return false;
		bl_solved_free(u);
	}
	return true;
}

static enum bl_status tune_plan(struct bl_live *l, struct bl_job *j, const struct bl_live_plan *p, const struct bl_calib *calib, int depth, struct bl_err *err);

static const struct bl_choice *choice_at(const void *from, int unit) { return (const struct bl_choice *)from + unit; }

/* A start that is trained itself is a plan of its own, stored like any other. */
static enum bl_status train_before(struct tuning *t, int depth, struct bl_err *err)
{
	struct bl_choice start = {.params = t->how.start_params}, *all;

	snprintf(start.method, sizeof start.method, "%s", t->how.start_method);
	start.scheme = choice(t, t->first)->scheme;
	if (t->how.start == BL_TUNING_RANGE || !bl_live_trained(t->l, &start))
		return BL_OK;
	if (depth > 1)
		return bl_fail(err, BL_UNSUPPORTED, "%s starts from %s, which starts from what is trained too: that is one too many", choice(t, t->first)->method, start.method);
	all = bl_xalloc((size_t)t->plan->n + 1, sizeof *all);
	for (int i = 0; i < t->plan->n; i++) {
		all[i] = *choice(t, i);
		if (!bl_live_trained(t->l, choice(t, i)))
			continue;
		memcpy(all[i].method, start.method, sizeof all[i].method);
		all[i].params = t->how.start_params;
	}
	t->before = bl_live_plan_new(t->plan->n, choice_at, all, t->plan->zero_nonfinite);
	bl_free(all);
	return tune_plan(t->l, t->job, t->before, t->calib, depth + 1, err);
}

static enum bl_status load_before(struct tuning *t, int unit, struct bl_err *err)
{
	const struct tuning b = {.l = t->l, .plan = t->before, .calib = t->calib, .fold = t->fold};
	struct bl_solve_request rq = bl_live_request(t->l->s, t->fold, unit, choice(&b, unit), t->plan->zero_nonfinite);
	char key[65];

	key_of(&b, unit, key);
	return bl_live_load_solved(t->l, &rq, key, &t->start[unit], err);
}

/* What a unit starts from, or computes with. */
static enum bl_status prepare(struct tuning *t, int unit, struct bl_err *err)
{
	struct bl_live *l = t->l;
	const struct bl_choice *c = choice(t, unit);
	struct bl_choice from = *c;
	struct bl_tune_unit *u = &t->units[unit];

	u->tuned = bl_live_trained(l, c);
	u->scheme = c->scheme;
	if (!u->tuned) {
		if (bl_session_choice_whole(l->s, c) && bl_live_solved_unit(l, unit, c, t->plan->zero_nonfinite, bl_job_cancel_flag(t->job), &t->start[unit], err))
			return err->status;
		bl_live_unit_weights(l->s, unit, c, t->plan->zero_nonfinite, t->start[unit], &t->fixed[unit], err);
		u->fixed = t->fixed[unit];
		return err->status;
	}
	if (bl_act_is_static(c->scheme.act)) {
		const float absmax = bl_live_absmax(l, unit, c, true);
		if (!isfinite(absmax))
			return bl_fail(err, BL_INVALID, "%s: its inputs are rounded with one scale, and no calibration has their range", l->s->model->units[unit].name);
		u->input_scale = bl_act_input_scale(c->scheme.act, absmax);
	}
	if (t->how.start == BL_TUNING_RANGE)
		return BL_OK;
	snprintf(from.method, sizeof from.method, "%s", t->how.start_method);
	from.params = t->how.start_params;
	if (!bl_session_choice_whole(l->s, &from))
		return bl_fail(err, BL_NOT_FOUND, "%s starts from method \"%s\", which is not among the plugins that solve whole units", c->method, from.method);
	if (t->before)
		load_before(t, unit, err);
	else
		bl_live_solved_unit(l, unit, &from, t->plan->zero_nonfinite, bl_job_cancel_flag(t->job), &t->start[unit], err);
	u->start = t->start[unit];
	return err->status;
}

static void report(void *ctx, const char *phase, double done, double total)
{
	struct tuning *t = ctx;

	bl_job_progress(t->job, phase, done, total, "");
	bl_job_checkpoint(t->job);
}

static enum bl_status hessian(void *ctx, int unit, const float **h, struct bl_err *err)
{
	struct tuning *t = ctx;

	bl_free(t->own);
	t->own = NULL;
	if (!bl_calib_has_hessians(t->calib))
		return BL_OK;
	return t->fold ? bl_fold_hessian(t->fold, t->calib, unit, h, &t->own, err) : bl_calib_hessian(t->calib, unit, h, err);
}

static enum bl_status done(void *ctx, struct bl_solved *s, struct bl_err *err)
{
	struct tuning *t = ctx;
	char key[65];

	key_of(t, s->unit, key);
	bl_solved_save(s, t->l->cache_dir, key, err); /* not kept, it would be lost; what it reports is no warning */
	bl_log(BL_LOG_INFO, "%s: %s", t->l->s->model->units[s->unit].name, s->report);
	bl_solved_free(s);
	return err->status;
}

static enum bl_status train(struct tuning *t, int depth, struct bl_err *err)
{
	struct bl_live *l = t->l;
	const struct bl_model *m = t->fold ? bl_fold_model(t->fold) : l->s->model;
	struct bl_tune_request rq = {.model = m, .how = t->how, .units = t->units, .ids = bl_calib_ids(t->calib), .len = bl_calib_window(t->calib),
				     .windows = bl_calib_tokens(t->calib) / bl_calib_window(t->calib), .zero_nonfinite = t->plan->zero_nonfinite,
				     .cancel = bl_job_cancel_flag(t->job), .ctx = t, .report = report, .hessian = hessian, .done = done};

	train_before(t, depth, err);
	for (int i = 0; i < t->plan->n && !err->status; i++) {
		if (bl_job_checkpoint(t->job))
			return bl_fail(err, BL_CANCELLED, "cancelled");
		bl_job_progress(t->job, "solve", i, t->plan->n, "units");
		prepare(t, i, err);
	}
	if (err->status || !bl_live_forward(l, 0, err))
		return err->status;
	bl_live_drop_forward(l); /* the run has its own, in the type it trains with */
	return bl_tune_run(&l->engine, &rq, err);
}

static enum bl_status tune_plan(struct bl_live *l, struct bl_job *j, const struct bl_live_plan *p, const struct bl_calib *calib, int depth, struct bl_err *err)
{
	struct tuning t = {.l = l, .job = j, .plan = p, .calib = calib};
	const size_t n = (size_t)p->n + 1;

	t.units = bl_xalloc(n, sizeof *t.units);
	t.start = bl_xalloc(n, sizeof *t.start);
	t.fixed = bl_xalloc(n, sizeof *t.fixed);
	if (!agree(&t, err) && !bl_live_fold(l, choice(&t, 0), &t.fold, err) && !all_stored(&t))
		train(&t, depth, err);
	for (int i = 0; i < p->n; i++) {
		bl_solved_free(t.start[i]);
		bl_unit_weights_unref(t.fixed[i]);
	}
	bl_live_plan_unref(t.before);
	bl_fold_unref(t.fold);
	bl_free(t.own);
	bl_free(t.units);
	bl_free(t.start);
	bl_free(t.fixed);
	return err->status;
}

enum bl_status bl_live_tune(struct bl_live *l, struct bl_job *j, const struct bl_live_plan *p, struct bl_live_calib *calib, struct bl_err *err)
{
	return tune_plan(l, j, p, calib->c, 0, err);
}

/* ---- what is recommended ---- */

#define RECOMMENDED "tune"

/* Factors between linears, looked for with the rounding in mind that the first reader of such factors (o or down) has in the plan. */
static void recommend_stages(struct bl_session *s)
{
	struct bl_err none = BL_ERR_INIT;
	const struct bl_scheme *of = NULL;
	struct bl_str text = {0};

	for (int i = 0; i < s->model->n_units && !of; i++) {
		const struct bl_choice *c = bl_plan_choice(s->plan, i);
		const enum bl_unit_kind kind = s->model->units[i].kind;

		if ((kind == BL_UNIT_O || kind == BL_UNIT_DOWN) && !strcmp(c->method, RECOMMENDED) && (c->scheme.act != BL_ACT_NONE || c->scheme.number == BL_NUM_INT))
			of = &c->scheme;
	}
	if (!of || *bl_plan_stages(s->plan))
		return;
	bl_str_add(&text, "smooth:search=channel,pow2=false");
	if (of->number == BL_NUM_INT && of->bits >= 2 && of->bits <= 8)
		bl_str_addf(&text, ",bits=%d,group=%d", (int)of->bits, of->strategy == BL_STRATEGY_GROUP ? (int)of->group : 0);
	bl_str_addf(&text, ",activations=%s", of->act == BL_ACT_NONE ? "none" : bl_act_is_static(of->act) ? "tensor" : "token");
	if (bl_session_set_stages(s, bl_str_c(&text), &none))
		bl_log(BL_LOG_WARN, "channels are not evened out: %s", none.text);
	bl_str_free(&text);
}

enum bl_status bl_session_recommend(struct bl_session *s, struct bl_err *err)
{

	if (!bl_registry_method(&s->registry, RECOMMENDED))
		return bl_fail(err, BL_NOT_FOUND, "the plugin of method %s is not there", RECOMMENDED);
	bl_plan_begin(s->plan, "recommended methods");
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(s->plan, i);

		if (bl_scheme_is_full(&c->scheme) || c->scheme.strategy == BL_STRATEGY_TENSOR)
			continue;
		bl_plan_set_method(s->plan, i, RECOMMENDED, "");
	}
	recommend_stages(s);
	bl_plan_end(s->plan);
	return BL_OK;
}

/* ---- one method for what is quantized ---- */

static enum bl_status set_methods(struct bl_session *s, const char *name, const char *params, int *n, struct bl_err *err)
{
	struct bl_err last = BL_ERR_INIT;

	if (!bl_registry_method(&s->registry, name))
		return bl_fail(err, BL_USAGE, "method \"%.40s\" is not known (`bitlathe plugins` lists them)", name);
	bl_plan_begin(s->plan, name);
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(s->plan, i);
		struct bl_err why = BL_ERR_INIT;
		struct bl_solver solver;

		if (c->scheme.number == BL_NUM_FULL || c->locked)
			continue;
		if (bl_solver_init(&solver, &s->registry, &c->scheme, name, params, bl_plan_zero_nonfinite(s->plan), &why)) {
			last = why;
			continue;
		}
		bl_solver_fini(&solver);
		bl_plan_set_method(s->plan, i, name, params);
		++*n;
	}
	bl_plan_end(s->plan);
	if (!*n && last.status)
		*err = last;
	return err->status;
}

enum bl_status bl_session_set_methods(struct bl_session *s, const char *text, int *n, struct bl_err *err)
{
	char *name = bl_xstrdup(text), *comma = strchr(name, ',');
	int changed = 0;

	if (comma)
		*comma = '\0';
	if (!strcmp(text, "recommended")) {
		bl_session_recommend(s, err);
		for (int i = 0; i < s->model->n_units; i++)
			changed += !strcmp(bl_plan_choice(s->plan, i)->method, RECOMMENDED);
	} else {
		set_methods(s, name, comma ? comma + 1 : "", &changed, err);
	}
	bl_session_edited(s);
	if (n)
		*n = changed;
	bl_free(name);
	return err->status;
}
