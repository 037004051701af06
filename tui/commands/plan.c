/* SPDX-License-Identifier: Apache-2.0
 * plan and check: make or change a plan, say what it amounts to and whether the target takes it. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/plan/recipe.h"
#include "core/session/run.h"
#include "tui/cli.h"

static bool weight_error(struct bl_session *s, int unit, double *rel)
{
	char why[160];

	return bl_session_weight_error(s, unit, bl_plan_choice(s->plan, unit), rel, why) == BL_KNOWN_YES;
}

/* What a stored calibration tells of the unit's choice. */
static void live_json(cJSON *e, struct bl_session *s, int i)
{
	const struct bl_choice *c = bl_plan_choice(s->plan, i);
	struct bl_quantity kl = bl_session_unit_kl(s, i, c, false);
	struct bl_layer_error le;

	if (bl_session_layer_error_known(s, i, c, &le)) {
		struct bl_quantity q = {le.rel, 0, BL_MEASURED, "ratio", le.with_activations ? "|Q(x)W^T - xW^T|^2/|xW^T|^2 on the kept windows" : "tr(dW H dW^T)/tr(W H W^T)"};
		if (!le.with_activations && bl_scheme_rounds_inputs(&c->scheme))
			q.from = "tr(dW H dW^T)/tr(W H W^T), weights only: inputs are rounded, too";
		bl_cli_quantity(e, "error_rel", &q);
		q.value = 10 * log10(le.rel);
		q.unit = "dB";
		if (le.rel > 0)
			bl_cli_quantity(e, "error_db", &q);
	}
	if (kl.origin != BL_UNKNOWN) {
		bl_cli_quantity(e, "kl", &kl);
		cJSON_AddBoolToObject(e, "kl_weights_alone", bl_scheme_weights_alone(&c->scheme));
	}
}

static void unit_json(cJSON *list, struct bl_session *s, int i)
{
	const struct bl_unit *u = &s->model->units[i];
	const struct bl_choice *c = bl_plan_choice(s->plan, i);
	const struct bl_verdict *v = bl_session_verdict(s, i);
	struct bl_quantity time = bl_unit_time(u, &c->scheme, s->target, 8);
	char name[BL_SCHEME_NAME_MAX];
	cJSON *e = cJSON_CreateObject();
	double rel;

	cJSON_AddItemToArray(list, e);
	cJSON_AddStringToObject(e, "name", u->name);
	cJSON_AddStringToObject(e, "scheme", bl_scheme_name(name, &c->scheme));
	cJSON_AddStringToObject(e, "method", c->method);
	cJSON_AddStringToObject(e, "params", c->params);
	cJSON_AddBoolToObject(e, "locked", c->locked);
	bl_json_add_int(e, "bytes", (int64_t)bl_unit_bytes(u, &c->scheme));
	cJSON_AddBoolToObject(e, "legal", v->legal);
	cJSON_AddStringToObject(e, "kernel", v->kernel ? v->kernel : "");
	cJSON_AddStringToObject(e, "reason", v->sentence);
	bl_cli_quantity(e, "time", &time);
	if (c->scheme.number != BL_NUM_FULL && weight_error(s, i, &rel)) {
		struct bl_quantity q = {rel, 0, BL_MEASURED, "ratio", "|W-Q(W)|^2/|W|^2, weights only"};
		bl_cli_quantity(e, "weight_error_rel", &q);
		if (rel > 0) {
			q.value = 10 * log10(rel);
			q.unit = "dB";
			bl_cli_quantity(e, "weight_error_db", &q);
		}
	}
	live_json(e, s, i);
}

static void totals_json(cJSON *j, struct bl_session *s)
{
	struct bl_plan_estimate estimate, *e = &estimate;
	struct bl_effect effect;
	int n, n_fatal;
	const struct bl_problem *p = bl_session_problems(s, &n, &n_fatal);
	char text[240], digest[65];

	bl_session_quality_known(s, e, &effect);
	cJSON_AddStringToObject(j, "model", s->model->id);
	cJSON_AddStringToObject(j, "target", s->target->name);
	cJSON_AddStringToObject(j, "format", bl_plan_format(s->plan));
	bl_plan_digest(s->plan, digest);
	cJSON_AddStringToObject(j, "digest", digest);
	bl_json_add_int(j, "bytes_total", (int64_t)e->bytes);
	bl_json_add_int(j, "bytes_base", (int64_t)e->base_bytes);
	bl_cli_quantity(j, "time_ratio", &e->time_ratio);
	bl_cli_quantity(j, "step_time", &e->step_ms);
	bl_cli_quantity(j, "prefill_time", &e->prefill_ms);
	bl_cli_quantity(j, "prefill_ratio", &e->prefill_ratio);
	bl_cli_quantity(j, "server_memory", &e->server_gib);
	cJSON *parts = cJSON_AddObjectToObject(j, "server_memory_parts");
	bl_cli_quantity(parts, "weights", &e->weights_gib);
	bl_cli_quantity(parts, "kv_cache", &e->kv_gib);
	bl_cli_quantity(parts, "activations", &e->activations_gib);
	bl_cli_quantity(parts, "overhead", &e->overhead_gib);
	bl_cli_quantity(j, "kl", &effect.kl);
	bl_cli_quantity(j, "top1", &effect.top1);
	if (bl_session_calib(s))
		cJSON_AddStringToObject(j, "calibration", bl_calib_key_of(bl_session_calib(s)));
	bl_cli_quantity(j, "perf_ratio", &e->perf_ratio);
	bl_cli_quantity(j, "score", &e->score);
	cJSON_AddBoolToObject(j, "legal", n_fatal == 0);
	cJSON_AddBoolToObject(j, "loads_in_transformers", bl_target_loads_in_transformers(s->model, s->plan, text));
	bl_cli_problems(j, "problems", s->model, p, n);
	cJSON *stages = cJSON_AddArrayToObject(j, "stages");
	for (const char *at = bl_plan_stages(s->plan); *at; at += strcspn(at, ";"), at += *at == ';') {
		char *stage = bl_xstrndup(at, strcspn(at, ";"));
		cJSON_AddItemToArray(stages, cJSON_CreateString(stage));
		bl_free(stage);
	}
	cJSON *edits = cJSON_AddObjectToObject(j, "config_edits");
	for (int i = 0; i < bl_plan_n_edits(s->plan); i++)
		cJSON_AddStringToObject(edits, bl_plan_edit(s->plan, i)->key, bl_plan_edit(s->plan, i)->value);
}

static void quality_text(struct bl_cli *c, const struct bl_plan_estimate *e, const struct bl_effect *effect, const char *calib)
{
	if (effect->kl.origin == BL_UNKNOWN)
		bl_cli_line(c, "quality unknown until it is measured%s", *calib ? " (--measure)" : "");
	else
		bl_cli_line(c, "quality KL %s%.5f to the base (%s)", effect->kl.origin == BL_MEASURED ? "" : "~", effect->kl.value, bl_origin_name(effect->kl.origin));
	if (effect->top1.origin != BL_UNKNOWN)
		bl_cli_line(c, "        top-1 agreement %.2f %%", 100 * effect->top1.value);
	if (e->score.origin != BL_UNKNOWN)
		bl_cli_line(c, "score   ~%.3f +- %.3f: performance %.3f, time ~%.2fx", e->score.value, e->score.spread, e->perf_ratio.value, e->time_ratio.value);
	if (*calib)
		bl_cli_line(c, "        on the calibration %s", calib);
}

static void totals_text(struct bl_cli *c, struct bl_session *s)
{
	struct bl_plan_estimate estimate, *e = &estimate;
	struct bl_effect effect;
	int n, n_fatal;
	const struct bl_problem *p = bl_session_problems(s, &n, &n_fatal);
	char a[32], b[32], text[240];

	bl_session_quality_known(s, e, &effect);
	bl_cli_line(c, "size    %s of %s (%+.1f %%)", bl_human_bytes(a, sizeof a, (double)e->bytes), bl_human_bytes(b, sizeof b, (double)e->base_bytes),
		    100 * ((double)e->bytes / (double)e->base_bytes - 1));
	bl_cli_line(c, "time    ~%.2fx per token at batch 8, ~%.2f ms a step (modelled)", e->time_ratio.value, e->step_ms.value);
	bl_cli_line(c, "prompt  ~%.2fx, ~%.0f ms for %d tokens (modelled)", e->prefill_ratio.value, e->prefill_ms.value, BL_PREFILL_TOKENS);
	bl_cli_line(c, "memory  ~%.1f GiB at the server (modelled), it has %.1f", e->server_gib.value, s->target->gpu.mem_gib);
	bl_cli_line(c, "        weights %.2f, KV cache ~%.2f, activations ~%.2f, overhead ~%.2f", e->weights_gib.value, e->kv_gib.value, e->activations_gib.value,
		    e->overhead_gib.value);
	quality_text(c, e, &effect, bl_session_calib_title(s));
	if (!bl_target_loads_in_transformers(s->model, s->plan, text))
		bl_cli_wrapped(c, 8, "note    not in transformers 4.57: %s", text);
	for (const char *at = bl_plan_stages(s->plan); *at; at += strcspn(at, ";"), at += *at == ';')
		bl_cli_wrapped(c, 8, "stage   %.*s", (int)strcspn(at, ";"), at);
	for (int i = 0; i < bl_plan_n_edits(s->plan); i++)
		bl_cli_wrapped(c, 8, "config  %s = %s", bl_plan_edit(s->plan, i)->key, *bl_plan_edit(s->plan, i)->value ? bl_plan_edit(s->plan, i)->value : "(removed)");
	bl_cli_line(c, "target  %s: %s", s->target->title, n_fatal ? "refuses this plan" : n ? "takes it, with remarks" : "takes every unit");
	for (int i = 0; i < n; i++)
		bl_cli_wrapped(c, 4, "  %s %s", p[i].fatal ? "x" : "!", p[i].sentence);
}

static void live_text(struct bl_session *s, int i, char text[40])
{
	const struct bl_choice *c = bl_plan_choice(s->plan, i);
	struct bl_quantity kl = bl_session_unit_kl(s, i, c, false);
	struct bl_layer_error le = {0, false};
	char a[16] = ".", b[16] = ".";

	if (bl_session_layer_error_known(s, i, c, &le) && le.rel > 0)
		snprintf(a, sizeof a, "%.1f", 10 * log10(le.rel));
	if (kl.origin != BL_UNKNOWN)
		snprintf(b, sizeof b, "%.3f", 1e3 * kl.value);
	snprintf(text, 40, "%6s %7s", a, b);
}

static void units_text(struct bl_cli *c, struct bl_session *s, const uint8_t *sel)
{
	char name[BL_SCHEME_NAME_MAX], error[24], live[40] = "";
	bool calib = bl_session_calib(s) != NULL;

	bl_cli_line(c, " blk unit     scheme          method      MB   ~us  %s  kernel", calib ? "err dB  KL*1e3" : "w-err dB");
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_unit *u = &s->model->units[i];
		const struct bl_choice *ch = bl_plan_choice(s->plan, i);
		double rel = 0;

		if (!sel[i])
			continue;
		snprintf(error, sizeof error, "%8s", ch->scheme.number == BL_NUM_FULL ? "-" : ".");
		if (ch->scheme.number != BL_NUM_FULL && weight_error(s, i, &rel) && rel > 0)
			snprintf(error, sizeof error, "%8.1f", 10 * log10(rel));
		if (calib)
			live_text(s, i, live);
		bl_cli_line(c, "%4d %-8s %-15s %-6s %7.2f %5.1f  %s  %s%s", u->block, bl_unit_kind_name(u->kind), bl_scheme_name(name, &ch->scheme),
			    ch->method[0] ? ch->method : "-", (double)bl_unit_bytes(u, &ch->scheme) / 1e6, bl_unit_time(u, &ch->scheme, s->target, 8).value, calib ? live : error,
			    bl_session_verdict(s, i)->kernel, ch->locked ? "  locked" : "");
	}
}

/* The weight errors of the units that are shown: computed side by side in the background while this waits. */
struct errors_work { struct bl_session *s; const uint8_t *sel; struct bl_progress progress; };

static enum bl_status errors_work(void *ctx, struct bl_err *err)
{
	struct errors_work *w = ctx;
	struct timespec pause = {0, 5000000};
	uint64_t done = 0, total = 1;

	while (done < total) {
		done = total = 0;
		for (int i = 0; i < w->s->model->n_units; i++) {
			const struct bl_choice *choice = bl_plan_choice(w->s->plan, i);
			char why[160];
			double rel;
			if (!w->sel[i] || choice->scheme.number == BL_NUM_FULL)
				continue;
			total += w->s->model->units[i].bytes;
			if (bl_session_weight_error(w->s, i, choice, &rel, why) != BL_KNOWN_COMPUTING)
				done += w->s->model->units[i].bytes;
		}
		atomic_store(&w->progress.done_bytes, done);
		atomic_store(&w->progress.total_bytes, total);
		if (atomic_load(&w->progress.cancel)) /* closing the session ends what still runs */
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		if (done < total)
			nanosleep(&pause, NULL);
	}
	return BL_OK;
}

/* Layer errors from a stored calibration, and with --measure the effect of every unit and of the plan. */
struct live_work { struct bl_session *s; const uint8_t *sel; bool measure; struct bl_progress progress; };

/* What one unit still needs: 0, 1 or 2 numbers. */
static uint64_t missing(struct live_work *w, int i)
{
	const struct bl_choice *c = bl_plan_choice(w->s->plan, i);
	struct bl_layer_error le;
	char why[160];
	uint64_t n = bl_session_layer_error(w->s, i, c, &le, why) == BL_KNOWN_COMPUTING;

	if (w->measure)
		n += bl_session_unit_kl(w->s, i, c, true).origin == BL_UNKNOWN && bl_session_unit_kl_computing(w->s, i, c);
	return n;
}

static enum bl_status live_work(void *ctx, struct bl_err *err)
{
	struct live_work *w = ctx;
	struct timespec pause = {0, 5000000};
	uint64_t left = 1, total = 0;
	struct bl_effect effect = {.computing = false};

	while (left) {
		left = 0;
		for (int i = 0; i < w->s->model->n_units; i++)
			if (w->sel[i])
				left += missing(w, i);
		if (w->measure) {
			bl_session_effect(w->s, &effect);
			left += effect.computing;
		}
		total = left > total ? left : total;
		atomic_store(&w->progress.total_bytes, total);
		atomic_store(&w->progress.done_bytes, total - left);
		if (atomic_load(&w->progress.cancel))
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		if (left)
			nanosleep(&pause, NULL);
	}
	return BL_OK;
}

#define CHEAP_OPS 5e11 /* some seconds of a processor, once: they are kept */

/* Whether the errors are worth computing although nobody asked: methods that solve are not. */
static bool cheap(struct bl_session *s, const uint8_t *sel)
{
	const struct bl_calib *calib = bl_session_calib(s);
	double ops = 0, kept = (double)(bl_calib_kept_windows(calib) * bl_calib_window(calib));

	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_unit *u = &s->model->units[i];
		const struct bl_choice *c = bl_plan_choice(s->plan, i);
		if (!sel[i] || c->scheme.number == BL_NUM_FULL)
			continue;
		if (bl_session_choice_whole(s, c))
			return false;
		ops += 4.0 * (double)u->rows * (double)u->cols * (c->scheme.act == BL_ACT_NONE ? (double)u->cols : kept);
	}
	return ops < CHEAP_OPS;
}

static enum bl_status live(struct bl_cli *c, struct bl_session *s, const uint8_t *sel, struct bl_err *err)
{
	struct live_work w = {.s = s, .sel = sel, .measure = bl_given(&c->o, BL_OPT_MEASURE)};
	struct bl_err none = BL_ERR_INIT;

	if (bl_session_adopt_calib(s, NULL, &none)) {
		if (w.measure)
			return bl_fail(err, none.status, "--measure: %s", none.text);
		return BL_OK;
	}
	if (!w.measure && !cheap(s, sel))
		return BL_OK;
	return bl_cli_work(c, "measure", live_work, &w, &w.progress, err);
}

enum bl_status bl_cli_may_write(const struct bl_cli *c, const struct bl_session *s, const char *path, struct bl_err *err)
{
	bool own = s->plan_path && !strcmp(path, s->plan_path); /* the plan that was opened: changing it is what was asked for */
	struct stat st;

	if (own || stat(path, &st))
		return BL_OK;
	if (!S_ISREG(st.st_mode)) /* the new file would take the name of the device or pipe, whatever --force says */
		return bl_fail(err, BL_USAGE, "%s: is not a regular file, so it is not replaced", path);
	if (bl_cli_may_replace(c, path))
		return BL_OK;
	return bl_fail(err, BL_USAGE, "%s: exists (--force replaces it)", path);
}

static bool to_stdout(const struct bl_cli *c, enum bl_option o)
{
	return bl_given(&c->o, o) && !strcmp(c->o.value[o], "-");
}

/* -o - or --write-recipe -: that alone is printed. */
static enum bl_status print_alone(struct bl_cli *c, struct bl_session *s, struct bl_err *err)
{
	const bool plan = to_stdout(c, BL_OPT_OUT), recipe = to_stdout(c, BL_OPT_WRITE_RECIPE);

	if (recipe && bl_given(&c->o, BL_OPT_OUT) && !plan && !bl_given(&c->o, BL_OPT_DRY_RUN) &&
	    (bl_cli_may_write(c, s, c->o.value[BL_OPT_OUT], err) || bl_session_save(s, c->o.value[BL_OPT_OUT], err)))
		return err->status;
	if (c->json || (plan && recipe))
		return bl_fail(err, BL_USAGE, "standard output takes one of the plan (-o -), the recipe (--write-recipe -) and --json");
	if (plan)
		bl_plan_print(&c->text, s->plan);
	else
		bl_recipe_print(&c->text, s->plan, s->model, "bitlathe " BL_VERSION);
	return BL_OK;
}

/* Before anything is computed: a refusal should not take half a minute. */
static enum bl_status may_save(const struct bl_cli *c, const struct bl_session *s, struct bl_err *err)
{
	const char *out = c->o.value[BL_OPT_OUT], *recipe = c->o.value[BL_OPT_WRITE_RECIPE];

	if (bl_given(&c->o, BL_OPT_DRY_RUN))
		return BL_OK;
	if ((out && bl_cli_may_write(c, s, out, err)) || (recipe && bl_cli_may_write(c, s, recipe, err)))
		return err->status;
	return BL_OK;
}

static enum bl_status save(struct bl_cli *c, struct bl_session *s, struct bl_err *err)
{
	const char *out = c->o.value[BL_OPT_OUT], *recipe = c->o.value[BL_OPT_WRITE_RECIPE];
	struct bl_str text = {0};

	if (bl_given(&c->o, BL_OPT_DRY_RUN))
		return BL_OK;
	if (!out && s->plan_path && bl_plan_dirty(s->plan))
		out = s->plan_path; /* a plan file given and changed is the plan that is saved */
	if (out && bl_session_save(s, out, err))
		return err->status;
	if (out)
		bl_str_addf(&c->remarks, "saved %s\n", s->plan_path);
	if (recipe) {
		bl_recipe_print(&text, s->plan, s->model, "bitlathe " BL_VERSION);
		bl_write_file(recipe, bl_str_c(&text), text.len, 0644, err);
		bl_str_free(&text);
	}
	return err->status;
}

static enum bl_status run(struct bl_cli *c, bool only_rules, struct bl_err *err)
{
	struct bl_session *s;
	int n_fatal = 0;

	if (bl_cli_open(c, &s, c->o.args[0], err))
		return err->status;
	uint8_t *sel = bl_xalloc((size_t)s->model->n_units + 1, 1);
	if (bl_pattern_match(s->model, bl_given(&c->o, BL_OPT_UNIT) ? c->o.value[BL_OPT_UNIT] : "all", sel, NULL, err))
		goto done;
	if (to_stdout(c, BL_OPT_OUT) || to_stdout(c, BL_OPT_WRITE_RECIPE)) {
		print_alone(c, s, err);
		goto done;
	}
	if (!only_rules && may_save(c, s, err))
		goto done;
	struct errors_work work = {.s = s, .sel = sel};
	if (!only_rules && bl_cli_work(c, "plan", errors_work, &work, &work.progress, err))
		goto done;
	if (!only_rules && live(c, s, sel, err))
		goto done;
	bl_session_problems(s, NULL, &n_fatal);
	if (c->json) {
		cJSON *list = cJSON_AddArrayToObject(c->json, "units");
		for (int i = 0; i < s->model->n_units; i++)
			if (sel[i])
				unit_json(list, s, i);
		totals_json(c->json, s);
	} else {
		if (!only_rules)
			units_text(c, s, sel);
		totals_text(c, s);
	}
	if (!only_rules && save(c, s, err))
		goto done;
	if (only_rules && n_fatal) {
		int n;
		const struct bl_problem *p = bl_session_problems(s, &n, NULL);
		for (int i = 0; i < n; i++)
			if (p[i].fatal) {
				bl_fail(err, BL_RULE, "%s", p[i].sentence);
				break;
			}
	}
done:
	bl_free(sel);
	bl_session_close(s);
	return err->status;
}

enum bl_status bl_cmd_plan(struct bl_cli *c, struct bl_err *err)
{
	return run(c, false, err);
}

enum bl_status bl_cmd_check(struct bl_cli *c, struct bl_err *err)
{
	return run(c, true, err);
}
