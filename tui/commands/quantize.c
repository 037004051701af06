/* SPDX-License-Identifier: Apache-2.0
 * quantize: solves the units whose method needs what flows into them, into the cache; and what commands share that need them solved. */
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/run.h"
#include "tui/cli.h"

enum bl_status bl_cli_solve(struct bl_cli *c, struct bl_session *s, const uint8_t *selected, struct bl_err *err)
{
	struct bl_err none = BL_ERR_INIT;
	bool needed = false;

	for (int i = 0; i < s->model->n_units; i++)
		needed |= bl_session_choice_whole(s, bl_plan_choice(s->plan, i));
	if (!needed)
		return BL_OK;
	if (bl_session_adopt_calib(s, NULL, &none)) {
		if (none.status != BL_NOT_FOUND)
			*err = none;
		else
			bl_fail(err, BL_INVALID, "the plan's methods need a calibration, and none of this model is stored: `bitlathe calibrate %s --data FILE`", s->model->id);
		return err->status;
	}
	uint64_t job = bl_session_quantize(s, selected);
	return job ? bl_cli_job(c, s, "quantize", job, err) : BL_OK;
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
			bl_cli_line(c, "  %-40s %-12s %-6s %7.2f dB  %6.3f s%s%s", s->model->units[i].name, scheme, ch->method, rel > 0 ? 10 * log10(rel) : -999, seconds,
				    *text ? "  " : "", text);
		}
	}
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
	if (!err->status && !bl_cli_solve(c, s, selected, err))
		report(c, s, selected);
	bl_free(selected);
	bl_session_close(s);
	return err->status;
}
