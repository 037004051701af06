/* SPDX-License-Identifier: Apache-2.0
 * search: mixed precision under a budget; the plan it finds is printed, and written with -o. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/mem.h"
#include "core/session/search.h"
#include "tui/cli.h"

static const char *const budget_names[] = {"bytes", "time", "score"};

/* A method that there is, with parameters that it has: what a scheme makes of it shows when it is solved. */
static enum bl_status known_finish(const struct bl_session *s, const char *text, struct bl_err *err)
{
	size_t n = strcspn(text, ",");
	char name[BL_METHOD_NAME_MAX];
	double *values = NULL;

	snprintf(name, sizeof name, "%.*s", (int)n, text);
	const struct bl_method *m = bl_registry_method(&s->registry, name);
	if (!strcmp(text, "recommended"))
		return BL_OK;
	if (!m)
		return bl_fail(err, BL_USAGE, "--finish: method \"%.40s\" is not known (`bitlathe plugins` lists them)", name);
	bl_params_parse(&values, m->params, m->n_params, text[n] ? text + n + 1 : "", m->name, err);
	bl_free(values);
	return err->status ? bl_err_prefix(err, "--finish") : BL_OK;
}

static enum bl_status request(struct bl_search_request *rq, const struct bl_cli *c, struct bl_session *s, struct bl_err *err)
{
	static const enum bl_option options[] = {BL_OPT_BYTES, BL_OPT_TIME, BL_OPT_SCORE};
	long long trials;
	int given = -1;

	for (int i = 0; i < 3; i++) {
		if (!bl_given(&c->o, options[i]))
			continue;
		if (given >= 0)
			return bl_fail(err, BL_USAGE, "one budget at a time: --%s or --%s", budget_names[given], budget_names[i]);
		given = i;
	}
	if (given < 0)
		return bl_fail(err, BL_USAGE, "what is the budget? --bytes 60%%, --time 0.8x or --score best");
	if (bl_option_int(&c->o, BL_OPT_TRIALS, 0, 10000, 12, &trials, err))
		return err->status;
	if (bl_given(&c->o, BL_OPT_FINISH)) { /* known before minutes are spent */
		if (known_finish(s, c->o.value[BL_OPT_FINISH], err))
			return err->status;
	}
	rq->options = c->o.value[BL_OPT_OPTIONS];
	rq->trials = (int)trials;
	rq->ignore_rules = bl_given(&c->o, BL_OPT_IGNORE_RULES);
	return bl_search_budget(rq, (enum bl_budget)given, c->o.value[options[given]], s, err);
}

/* ---- output ---- */

static void units_json(cJSON *o, const struct bl_session *s, const struct bl_search_result *r)
{
	cJSON *list = cJSON_AddArrayToObject(o, "units");

	for (int i = 0; i < r->n; i++) {
		cJSON *u = cJSON_CreateObject();
		char name[BL_SCHEME_NAME_MAX];
		struct bl_quantity loss = {r->loss[i], 0, r->measured ? BL_MEASURED : BL_MODELLED, r->measured ? "nat" : "ratio",
					   r->measured ? "this unit alone, on the kept windows, less the rounding that any change brings" : "layer error"};
		cJSON_AddItemToArray(list, u);
		cJSON_AddStringToObject(u, "name", s->model->units[i].name);
		cJSON_AddStringToObject(u, "scheme", bl_scheme_name(name, &r->choice[i].scheme));
		cJSON_AddStringToObject(u, "method", r->choice[i].method);
		cJSON_AddStringToObject(u, "params", r->choice[i].params);
		bl_json_add_int(u, "bytes", (int64_t)bl_unit_bytes(&s->model->units[i], &r->choice[i].scheme));
		bl_cli_quantity(u, "loss", &loss);
	}
}

static void to_json(cJSON *o, struct bl_session *s, const struct bl_search_result *r)
{
	cJSON *b = cJSON_AddObjectToObject(o, "budget"), *f, *list;
	struct bl_quantity kl = {r->kl, 0, isfinite(r->kl) ? BL_MEASURED : BL_UNKNOWN, "nat", "measured on the kept windows of the calibration"};

	cJSON_AddStringToObject(b, "of", budget_names[r->budget]);
	cJSON_AddNumberToObject(b, "value", r->value);
	cJSON_AddStringToObject(b, "unit", r->budget == BL_BUDGET_BYTES ? "bytes" : r->budget == BL_BUDGET_TIME ? "ms" : "score");
	cJSON_AddStringToObject(o, "losses", r->measured ? "measured" : "modelled");
	cJSON_AddNumberToObject(o, "loss_sum", r->loss_sum);
	bl_cli_quantity(o, "kl", &kl);
	bl_json_add_int(o, "bytes_total", (int64_t)r->bytes);
	bl_cli_quantity(o, "step_time", &r->estimate.step_ms);
	bl_cli_quantity(o, "time_ratio", &r->estimate.time_ratio);
	bl_cli_quantity(o, "score", &r->estimate.score);
	cJSON_AddStringToObject(o, "speed_model", r->speed);
	f = cJSON_AddObjectToObject(o, "front");
	cJSON_AddBoolToObject(f, "exact", r->exact);
	bl_json_add_int(f, "points", r->points);
	bl_json_add_int(f, "grain", (int64_t)r->grain);
	bl_json_add_int(o, "measurements", r->measurements);
	bl_json_add_int(o, "changed", r->changed);
	list = cJSON_AddArrayToObject(o, "trials");
	for (int i = 0; i < r->n_trials; i++) {
		cJSON *t = cJSON_CreateObject();
		cJSON_AddItemToArray(list, t);
		cJSON_AddStringToObject(t, "what", r->trial[i].what);
		cJSON_AddNumberToObject(t, "kl", r->trial[i].kl);
		bl_json_add_int(t, "bytes", (int64_t)r->trial[i].bytes);
		cJSON_AddNumberToObject(t, "step_ms", r->trial[i].step_ms);
		cJSON_AddBoolToObject(t, "kept", r->trial[i].kept);
	}
	units_json(o, s, r);
	cJSON_AddNumberToObject(o, "seconds", r->seconds);
}

static void units_text(struct bl_cli *c, const struct bl_session *s, const struct bl_search_result *r)
{
	char name[BL_SCHEME_NAME_MAX];

	bl_cli_line(c, "%-40s %-13s %-8s %12s", "unit", "scheme", "method", r->measured ? "KL alone" : "~error");
	for (int i = 0; i < r->n; i++)
		bl_cli_line(c, "%-40s %-13s %-8s %12.6f", s->model->units[i].name, bl_scheme_name(name, &r->choice[i].scheme),
			    *r->choice[i].method ? r->choice[i].method : "-", r->loss[i]);
}

static void to_text(struct bl_cli *c, struct bl_session *s, const struct bl_search_result *r)
{
	char a[32], b[32];
	const char *axis = r->budget == BL_BUDGET_BYTES ? "bytes" : "ns";

	units_text(c, s, r);
	bl_cli_line(c, "size    %s of %s", bl_human_bytes(a, sizeof a, (double)r->bytes), bl_human_bytes(b, sizeof b, (double)r->estimate.base_bytes));
	bl_cli_line(c, "time    ~%.3f ms a step at batch 8, ~%.3fx (modelled)", r->estimate.step_ms.value, r->estimate.time_ratio.value);
	bl_cli_wrapped(c, 8, "        %s", r->speed);
	if (isfinite(r->kl))
		bl_cli_line(c, "KL      %.5f measured on the kept windows (%.5f is the sum of units alone)", r->kl, r->loss_sum);
	else
		bl_cli_wrapped(c, 8, "loss    ~%.6f, the sum of layer errors: modelled, for the calibration keeps no windows to measure on (--keep-windows)", r->loss_sum);
	if (r->estimate.score.origin != BL_UNKNOWN)
		bl_cli_line(c, "score   ~%.4f +- %.4f", r->estimate.score.value, r->estimate.score.spread);
	if (r->exact)
		bl_cli_line(c, "front   %d plans, exact to the %s", r->points, r->budget == BL_BUDGET_BYTES ? "byte" : "nanosecond");
	else
		bl_cli_wrapped(c, 8, "front   %d plans, thinned to one in %llu %s: at least as good as the best plan for a budget %llu %s smaller", r->points,
			       (unsigned long long)r->grain, axis, (unsigned long long)r->grain * (unsigned long long)r->n, axis);
	for (int i = 0; i < r->n_trials; i++)
		bl_cli_wrapped(c, 8, "%s KL %.5f  %s%s", i ? "       " : "tried  ", r->trial[i].kl, r->trial[i].what, r->trial[i].kept ? " (kept)" : "");
	bl_cli_line(c, "%d units changed, %d measurements, %.1f s", r->changed, r->measurements, r->seconds);
}

/* ---- the found plan, solved once more ---- */

struct finish { const char *how; int units; double was, kl; bool kept; };
struct measure_work { struct bl_session *s; double kl; struct bl_progress progress; };

static enum bl_status measure_work(void *ctx, struct bl_err *err)
{
	struct measure_work *w = ctx;
	struct bl_effect e = {.computing = true};

	for (;;) {
		bl_session_effect(w->s, &e);
		if (!e.computing)
			break;
		if (atomic_load(&w->progress.cancel))
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		nanosleep(&(struct timespec){0, 5000000}, NULL);
	}
	w->kl = e.kl.origin == BL_MEASURED && !e.stale ? e.kl.value : NAN;
	return BL_OK;
}

/* Both KL are on the same kept windows; a plan that is not better is undone. */
static enum bl_status finish(struct finish *f, struct bl_cli *c, struct bl_session *s, const struct bl_search_result *r, struct bl_err *err)
{
	struct measure_work w = {.s = s};

	f->was = r->kl;
	if (bl_session_set_methods(s, f->how, &f->units, err) || bl_cli_solve(c, s, NULL, NULL, err) || bl_cli_work(c, "measure", measure_work, &w, &w.progress, err))
		return err->status;
	f->kl = w.kl;
	f->kept = !isfinite(f->was) || f->kl < f->was;
	if (!f->kept) {
		bl_plan_undo(s->plan);
		bl_session_edited(s);
	}
	return BL_OK;
}

static void finish_out(struct bl_cli *c, const struct finish *f)
{
	struct bl_quantity kl = {f->kl, 0, isfinite(f->kl) ? BL_MEASURED : BL_UNKNOWN, "nat", "measured on the kept windows of the calibration"};

	if (c->json) {
		cJSON *o = cJSON_AddObjectToObject(c->json, "finish");
		cJSON_AddStringToObject(o, "method", f->how);
		bl_json_add_int(o, "units", f->units);
		bl_cli_quantity(o, "kl", &kl);
		cJSON_AddBoolToObject(o, "kept", f->kept);
	} else if (isfinite(f->kl)) {
		bl_cli_wrapped(c, 8, "finish  KL %.5f with %s for %d units%s", f->kl, f->how, f->units, f->kept ? "" : ": not better, the plan stays as it was found");
	} else {
		bl_cli_wrapped(c, 8, "finish  %s for %d units; not measured, for the calibration keeps no windows", f->how, f->units);
	}
}

/* ---- the command ---- */

static enum bl_status save(struct bl_cli *c, struct bl_session *s, struct bl_err *err)
{
	const char *out = c->o.value[BL_OPT_OUT];

	if (!out)
		return BL_OK;
	if (bl_session_save(s, out, err) == BL_OK)
		bl_str_addf(&c->remarks, "saved %s\n", s->plan_path);
	return err->status;
}

/* --dry-run: the budget in numbers, what there is to measure with. */
static enum bl_status look(struct bl_cli *c, struct bl_session *s, const struct bl_search_request *rq, struct bl_err *err)
{
	const char *files[BL_MANY_MAX + 16], *unit = rq->budget == BL_BUDGET_BYTES ? "bytes" : rq->budget == BL_BUDGET_TIME ? "ms a step" : "score";
	struct bl_err none = BL_ERR_INIT;
	int n;

	if (bl_option_data(&c->o, files, &n, err))
		return err->status;
	const bool stored = !n && bl_session_adopt_calib(s, NULL, &none) == BL_OK;
	if (c->json) {
		cJSON *b = cJSON_AddObjectToObject(c->json, "budget");
		cJSON_AddStringToObject(b, "of", budget_names[rq->budget]);
		cJSON_AddNumberToObject(b, "value", rq->value);
		cJSON_AddStringToObject(b, "unit", rq->budget == BL_BUDGET_TIME ? "ms" : unit);
		cJSON_AddBoolToObject(c->json, "dry_run", true);
		if (stored)
			cJSON_AddStringToObject(c->json, "calibration", bl_session_calib_title(s));
		else
			cJSON_AddNullToObject(c->json, "calibration");
		return BL_OK;
	}
	bl_cli_line(c, "would search within %.6g %s, %d units", rq->value, unit, s->model->n_units);
	if (stored)
		bl_cli_wrapped(c, 2, "with the calibration %s", bl_session_calib_title(s));
	else if (n)
		bl_cli_line(c, "after a calibration on %d file%s", n, n == 1 ? "" : "s");
	else
		bl_cli_line(c, "a calibration is needed and none is stored: --data FILE... makes one");
	return BL_OK;
}

enum bl_status bl_cmd_search(struct bl_cli *c, struct bl_err *err)
{
	const char *out = c->o.value[BL_OPT_OUT];
	struct bl_search_request rq = {.trials = 12};
	struct bl_session *s;

	if (bl_cli_open(c, &s, c->o.args[0], err))
		return err->status;
	const bool dry = bl_given(&c->o, BL_OPT_DRY_RUN);
	if ((dry || !out || !bl_cli_may_write(c, s, out, err)) && !request(&rq, c, s, err) && dry)
		look(c, s, &rq, err);
	else if (!err->status && !bl_cli_calibration(c, s, true, 2048, err)) {
		uint64_t job = bl_session_search(s, &rq, err);
		if (job && !bl_cli_job(c, s, "search", job, err)) {
			const struct bl_search_result *r = bl_session_searched(s);
			struct finish f = {.how = c->o.value[BL_OPT_FINISH], .kl = NAN};
			bl_session_search_take(s);
			if (c->json)
				to_json(c->json, s, r);
			else
				to_text(c, s, r);
			if (f.how && !finish(&f, c, s, r, err))
				finish_out(c, &f);
			if (!err->status)
				save(c, s, err);
		}
	}
	bl_session_close(s);
	return err->status;
}
