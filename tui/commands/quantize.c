/* SPDX-License-Identifier: Apache-2.0
 * quantize: solves the units whose method needs what flows into them, into the cache; and what commands share that need them solved. */
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/run.h"
#include "tui/cli.h"

enum bl_status bl_cli_solve(struct bl_cli *c, struct bl_session *s, const uint8_t *selected, const struct bl_calib_request *data, struct bl_err *err)
{
	struct bl_err none = BL_ERR_INIT;
	bool needed = false;

	for (int i = 0; i < s->model->n_units; i++)
		needed |= bl_session_choice_whole(s, bl_plan_choice(s->plan, i));
	if (!needed)
		return BL_OK;
	if (!data && bl_session_adopt_calib(s, NULL, &none)) {
		if (none.status != BL_NOT_FOUND)
			*err = none;
		else
			bl_fail(err, BL_INVALID, "the plan's methods need a calibration, and none of this model is stored: `bitlathe calibrate %s --data FILE`", s->model->id);
		return err->status;
	}
	const uint64_t job = bl_session_quantize(s, selected, data);
	return job ? bl_cli_job(c, s, "quantize", job, err) : BL_OK;
}

void bl_cli_would_solve(struct bl_cli *c, struct bl_session *s, const uint8_t *selected, int n_files)
{
	struct bl_err none = BL_ERR_INIT;
	const bool stored = !n_files && bl_session_adopt_calib(s, NULL, &none) == BL_OK;
	char report[512];
	double rel, seconds;
	int n = 0, done = 0;

	for (int i = 0; i < s->model->n_units; i++)
		if ((!selected || selected[i]) && bl_session_choice_whole(s, bl_plan_choice(s->plan, i))) {
			n++;
			done += stored && bl_session_solved_look(s, i, &rel, &seconds, report, sizeof report);
		}
	if (c->json) {
		cJSON_AddBoolToObject(c->json, "dry_run", true);
		bl_json_add_int(c->json, "would_solve", n - done);
		bl_json_add_int(c->json, "solved", done);
		if (stored)
			cJSON_AddStringToObject(c->json, "calibration", bl_session_calib_title(s));
		else
			cJSON_AddNullToObject(c->json, "calibration");
		return;
	}
	bl_cli_line(c, "would solve %d unit%s, %d more %s solved already", n - done, n - done == 1 ? "" : "s", done, done == 1 ? "is" : "are");
	if (n_files)
		bl_cli_line(c, "after a calibration on %d file%s (`calibrate --dry-run` says what it needs)", n_files, n_files == 1 ? "" : "s");
	else if (stored)
		bl_cli_wrapped(c, 2, "with the calibration %s", bl_session_calib_title(s));
	else if (n)
		bl_cli_line(c, "a calibration is needed and none is stored: --data FILE... makes one");
}

/* What --data and its options ask for; n_files 0: nothing. */
static enum bl_status data_of(struct bl_calib_request *r, const char **files, const struct bl_cli *c, struct bl_err *err)
{
	const struct bl_options *o = &c->o;
	long long samples, seqlen;

	*r = (struct bl_calib_request){.hessians = true, .block_inputs = true, .keep_windows = 16};
	if (bl_option_data(o, files, &r->n_files, err))
		return err->status;
	r->files = (char **)(uintptr_t)files;
	if (bl_option_int(o, BL_OPT_SAMPLES, 1, 1ll << 24, 512, &samples, err) || bl_option_int(o, BL_OPT_SEQLEN, 2, 1 << 24, 2048, &seqlen, err))
		return err->status;
	r->samples = samples;
	r->seqlen = seqlen;
	return bl_cli_size(o, BL_OPT_MEMORY_LIMIT, 1, &r->memory_limit, err);
}

/* A folder is all that is wanted, and nothing in the plan needs ranges of inputs, kept windows or stages: then the moments need not be kept. */
static bool once(const struct bl_cli *c, const struct bl_session *s)
{
	bool ranges = false;

	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *ch = bl_plan_choice(s->plan, i);
		ranges |= bl_act_is_static(ch->scheme.act) || bl_session_choice_trained(s, ch) || *bl_choice_stages(ch);
	}
	return bl_given(&c->o, BL_OPT_OUT) && !ranges;
}

static enum bl_status solve(struct bl_cli *c, struct bl_session *s, const uint8_t *selected, struct bl_err *err)
{
	const char *files[BL_MANY_MAX + 16];
	struct bl_calib_request data;

	if (data_of(&data, files, c, err))
		return err->status;
	if (bl_given(&c->o, BL_OPT_DRY_RUN)) {
		bl_cli_would_solve(c, s, selected, data.n_files);
		return BL_OK;
	}
	if (data.n_files && !once(c, s)) {
		if (bl_cli_job(c, s, "calibrate", bl_session_calibrate(s, &data), err))
			return err->status;
		data.n_files = 0;
	}
	return bl_cli_solve(c, s, selected, data.n_files ? &data : NULL, err);
}

static void report_seconds(struct bl_cli *c, const struct bl_solve_seconds *t)
{
	const struct { const char *name; double s; } parts[] = {{"total", t->total}, {"prepare", t->prepare}, {"moments", t->moments}, {"up", t->up},
							       {"solve", t->solve}, {"out", t->out}, {"files", t->files}};
	cJSON *o = c->json ? cJSON_AddObjectToObject(c->json, "solve_seconds") : NULL;

	for (size_t i = 0; i < sizeof parts / sizeof parts[0] && c->json; i++)
		cJSON_AddNumberToObject(o, parts[i].name, parts[i].s);
	if (c->json)
		bl_json_add_int(o, "units", t->units);
	else if (c->verbose && t->units)
		bl_cli_wrapped(c, 8, "time    %.2f s for %d units: %.2f waiting for Hessians, %.2f running the model, %.2f copies up, %.2f solving, %.2f waiting for files "
			       "(%.2f of writing beside it)", t->total, t->units, t->prepare, t->moments, t->up, t->solve, t->out, t->files);
}

static void report(struct bl_cli *c, struct bl_session *s, const uint8_t *selected)
{
	cJSON *units = c->json ? cJSON_AddArrayToObject(c->json, "units") : NULL;
	char scheme[BL_SCHEME_NAME_MAX], text[512];
	double rel, seconds, total = 0;
	int n = 0;

	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *ch = bl_plan_choice(s->plan, i);

		if ((selected && !selected[i]) || !bl_session_choice_whole(s, ch) || !bl_session_solved_look(s, i, &rel, &seconds, text, sizeof text))
			continue;
		n++;
		total += seconds;
		bl_scheme_name(scheme, &ch->scheme);
		if (c->json) {
			cJSON *u = cJSON_CreateObject();
			cJSON_AddStringToObject(u, "name", s->model->units[i].name);
			cJSON_AddStringToObject(u, "scheme", scheme);
			cJSON_AddStringToObject(u, "method", ch->method);
			cJSON_AddNumberToObject(u, "error_rel", rel);
			cJSON_AddNumberToObject(u, "error_db", rel > 0 ? 10 * log10(rel) : -999);
			cJSON_AddNumberToObject(u, "seconds", seconds);
			cJSON_AddStringToObject(u, "report", text);
			cJSON_AddItemToArray(units, u);
		} else {
			bl_cli_line(c, "  %-33s %-12s %-9s %7.2f dB %6.3f s%s%s", s->model->units[i].name, scheme, ch->method, rel > 0 ? 10 * log10(rel) : -999, seconds,
				    *text ? "  " : "", text);
		}
	}
	report_seconds(c, bl_session_solve_seconds(s));
	if (!c->json)
		bl_cli_line(c, "%d units solved, %.2f s of work", n, total);
}

enum bl_status bl_cmd_quantize(struct bl_cli *c, struct bl_err *err)
{
	const char *pattern = c->o.value[BL_OPT_UNIT];
	struct bl_session *s;
	uint8_t *selected = NULL;

	if (bl_cli_open(c, &s, c->o.args[0], err))
		return err->status;
	if (pattern) {
		selected = bl_xalloc((size_t)s->model->n_units + 1, 1);
		bl_pattern_match(s->model, pattern, selected, NULL, err);
	}
	if (!err->status && !solve(c, s, selected, err)) {
		if (!bl_given(&c->o, BL_OPT_DRY_RUN))
			report(c, s, selected);
		if (bl_given(&c->o, BL_OPT_OUT))
			bl_cli_export(c, s, err);
	}
	bl_free(selected);
	bl_session_close(s);
	return err->status;
}
