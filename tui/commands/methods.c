/* SPDX-License-Identifier: Apache-2.0
 * methods: units solved alone with every method that takes them, side by side: what each reaches and takes. Nothing of the plan changes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/tryout.h"
#include "tui/cli.h"

static void number(cJSON *o, const char *key, double v)
{
	if (isfinite(v))
		cJSON_AddNumberToObject(o, key, v);
	else
		cJSON_AddNullToObject(o, key);
}

static void row_json(cJSON *list, const struct bl_try *t)
{
	cJSON *o = cJSON_CreateObject();

	cJSON_AddItemToArray(list, o);
	cJSON_AddStringToObject(o, "method", t->choice.method);
	cJSON_AddStringToObject(o, "params", t->choice.params);
	number(o, "error_rel", t->rel);
	number(o, "error_db", t->rel > 0 ? 10 * log10(t->rel) : NAN);
	number(o, "kl", t->kl);
	number(o, "seconds", t->seconds);
	cJSON_AddBoolToObject(o, "with_inputs", t->with_activations);
	cJSON_AddBoolToObject(o, "weights_only", t->weights_only);
	if (*t->report)
		cJSON_AddStringToObject(o, "report", t->report);
	if (t->known == BL_KNOWN_REFUSED)
		cJSON_AddStringToObject(o, "refused", t->why);
}

static void cell(struct bl_str *line, double v, const char *format)
{
	char text[24];

	snprintf(text, sizeof text, *format == '1' ? "%.1f" : *format == '2' ? "%.2f" : "%.3f", v);
	bl_str_addf(line, " %9s", isfinite(v) ? text : ".");
}

static void row_text(struct bl_cli *c, const struct bl_try *t, double best)
{
	struct bl_str name = {0}, line = {0};

	bl_str_addf(&name, "%s%s%s", t->choice.method, *t->choice.params ? "," : "", t->choice.params);
	if (name.len > 40)
		bl_cli_line(c, "  %s", name.s);
	bl_str_addf(&line, "  %-40s", name.len > 40 ? "" : name.s);
	cell(&line, t->rel > 0 ? 10 * log10(t->rel) : NAN, "1");
	cell(&line, 1e3 * t->kl, "2");
	cell(&line, t->seconds, "3");
	bl_cli_line(c, "%s%s", line.s, isfinite(t->rel) && t->rel <= best ? "  best" : "");
	if (t->known == BL_KNOWN_REFUSED)
		bl_cli_wrapped(c, 4, "    %s", t->why);
	bl_str_free(&name);
	bl_str_free(&line);
}

static enum bl_status one_unit(struct bl_cli *c, struct bl_session *s, int unit, const struct bl_scheme *scheme, cJSON *list, struct bl_err *err)
{
	struct bl_choice rows[BL_TRY_MAX];
	struct bl_try *found = bl_xalloc(BL_TRY_MAX, sizeof *found);
	const int n = bl_session_try_list(s, unit, scheme, rows, BL_TRY_MAX);
	char name[BL_SCHEME_NAME_MAX];
	double best = INFINITY;
	int which, k = 0;

	if (!bl_cli_job(c, s, "methods", bl_session_try(s, unit, rows, n), err))
		k = bl_session_tried(s, &which, found, BL_TRY_MAX);
	for (int i = 0; i < k; i++)
		best = found[i].rel < best ? found[i].rel : best;
	if (!err->status && list) {
		cJSON *u = cJSON_CreateObject();
		cJSON_AddItemToArray(list, u);
		cJSON_AddStringToObject(u, "name", s->model->units[unit].name);
		cJSON_AddStringToObject(u, "scheme", bl_scheme_name(name, scheme));
		cJSON *methods = cJSON_AddArrayToObject(u, "methods");
		for (int i = 0; i < k; i++)
			row_json(methods, &found[i]);
	} else if (!err->status) {
		bl_cli_line(c, "%s, %s", s->model->units[unit].name, bl_scheme_name(name, scheme));
		bl_cli_line(c, "  %-40s %9s %9s %9s", "method", bl_session_calib(s) ? "err dB" : "w-err dB", "KL*1e3", "solve s");
		for (int i = 0; i < k; i++)
			row_text(c, &found[i], best);
	}
	bl_free(found);
	return err->status;
}

static enum bl_status run(struct bl_cli *c, struct bl_session *s, const uint8_t *selected, struct bl_err *err)
{
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "units") : NULL;
	struct bl_err none = BL_ERR_INIT;
	struct bl_scheme scheme;
	const bool given = bl_given(&c->o, BL_OPT_SCHEME);

	if (given && bl_scheme_parse(&scheme, c->o.value[BL_OPT_SCHEME], err))
		return err->status;
	(void)bl_session_adopt_calib(s, NULL, &none); /* without one: methods that need none, and the errors of weights */
	for (int i = 0; i < s->model->n_units && !err->status; i++) {
		if (!selected[i])
			continue;
		if (!given)
			scheme = bl_plan_choice(s->plan, i)->scheme;
		if (scheme.number == BL_NUM_FULL)
			return bl_fail(err, BL_USAGE, "%s is in full precision, and that needs no method: --scheme says under which to compare them", s->model->units[i].name);
		one_unit(c, s, i, &scheme, list, err);
	}
	return err->status;
}

enum bl_status bl_cmd_methods(struct bl_cli *c, struct bl_err *err)
{
	struct bl_session *s;

	if (!bl_given(&c->o, BL_OPT_UNIT))
		return bl_fail(err, BL_USAGE, "methods: --unit PATTERN says for which unit");
	if (bl_cli_open(c, &s, c->o.args[0], err))
		return err->status;
	uint8_t *selected = bl_xalloc((size_t)s->model->n_units + 1, 1);
	if (bl_pattern_match(s->model, c->o.value[BL_OPT_UNIT], selected, NULL, err) == BL_OK)
		run(c, s, selected, err);
	bl_free(selected);
	bl_session_close(s);
	return err->status;
}
