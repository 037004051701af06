/* SPDX-License-Identifier: Apache-2.0
 * The parameters of a method as a form, from the method's own rows. Enter: to the methods screen when that is where it came from, else into the plan, and solved. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/pager.h"
#include "tui/widgets/table.h"

#define VALUE_MAX 64

struct parameters_state {
	struct bl_list list;
	uint8_t *selected;
	int n, unit;
	const struct bl_method *method;
	char (*value)[VALUE_MAX]; /* [n_params] */
};

/* "UNITS METHOD[,key=value]" */
unsigned bl_screen_open_parameters(struct bl_app *app, const uint8_t *selected, const char *text)
{
	struct bl_str arg = {0};
	char *units = bl_screen_units_text(app, selected);
	int n, first;
	uint8_t *sel = bl_screen_units_from(app, units, &n, &first);
	const struct bl_choice *c = sel ? bl_plan_choice(app->session->plan, first) : NULL;

	if (c && bl_edit_is_quantized(app))
		c = NULL;
	else if (c && !*text && c->scheme.number == BL_NUM_FULL)
		bl_app_message(app, BL_MSG_WARN, "a unit in full precision takes no method: choose a scheme first (4, 8, a)");
	else if (c) {
		bl_str_addf(&arg, "%s %s", units, *text ? text : c->method);
		if (!*text && *c->params)
			bl_str_addf(&arg, ",%s", c->params);
		bl_app_push(app, "parameters", bl_str_c(&arg));
	}
	bl_str_free(&arg);
	bl_free(units);
	bl_free(sel);
	return BL_REACT_REDRAW;
}

static void range_text(const struct bl_param *p, char *to, size_t cap)
{
	if (p->type == BL_PARAM_CHOICE)
		snprintf(to, cap, "%s", p->choices);
	else if (p->type == BL_PARAM_BOOL)
		snprintf(to, cap, "true|false");
	else
		snprintf(to, cap, "%.6g .. %.6g", p->min, p->max);
}

static void parameters_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct parameters_state *st = state;
	const struct bl_unit *u = &app->session->model->units[st->unit];
	int n = st->method ? st->method->n_params : 0, notes = v.rows >= 12 ? 4 : v.rows >= 7 ? 2 : 0, rows = v.rows - 2 - (notes ? notes + 1 : 0);
	char more[40] = "", text[200];

	if (st->n > 1)
		snprintf(more, sizeof more, " and %d more", st->n - 1);
	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "Parameters of %s for block %d %s%s", st->method ? st->method->name : "?", u->block,
		      bl_unit_kind_name(u->kind), more);
	bl_grid_text(g, v.row + 1, v.col + 2, 18, BL_ROLE_HEADING, 0, "parameter");
	bl_grid_text(g, v.row + 1, v.col + 20, 16, BL_ROLE_HEADING, 0, "value");
	bl_grid_text(g, v.row + 1, v.col + 36, v.cols - 36, BL_ROLE_HEADING, 0, "one of");
	if (rows < 1)
		return;
	bl_list_fit(&st->list, n, rows);
	for (int i = st->list.top, y = v.row + 2; i < n && y < v.row + 2 + rows; i++, y++) {
		const struct bl_param *p = &st->method->params[i];
		range_text(p, text, sizeof text);
		bl_grid_text(g, y, v.col + 2, 17, BL_ROLE_KEYTEXT, 0, p->name);
		bl_grid_text(g, y, v.col + 20, 15, strcmp(st->value[i], p->fallback) ? BL_ROLE_WARN : BL_ROLE_TEXT, 0, st->value[i]);
		bl_grid_text(g, y, v.col + 36, v.cols - 36, BL_ROLE_DIM, 0, text);
		if (i == st->list.row)
			bl_screen_cursor(app, g, v, y);
	}
	if (!notes)
		return;
	bl_grid_hline(g, v.row + 2 + rows, v.col, v.cols, BL_ROLE_RULE);
	struct bl_str note = {0};
	if (n && st->list.row < n)
		bl_str_addf(&note, "%s (usually %s)", st->method->params[st->list.row].sentence, st->method->params[st->list.row].fallback);
	else
		bl_str_add(&note, "This method has no parameters.");
	bl_pager_wrap(g, (struct bl_grid_view){v.row + 3 + rows, v.col + 2, notes, v.cols - 2}, 0, BL_ROLE_DIM, bl_str_c(&note), notes);
	bl_str_free(&note);
}

/* ---- changing ---- */

static void step_choice(const struct bl_param *p, char *value, int direction)
{
	char *copy = bl_xstrdup(p->choices), *rest = NULL, *word[32];
	int n = 0, at = 0;

	for (char *w = strtok_r(copy, "|", &rest); w && n < 32; w = strtok_r(NULL, "|", &rest)) {
		at = !strcmp(w, value) ? n : at;
		word[n++] = w;
	}
	if (n)
		snprintf(value, VALUE_MAX, "%s", word[(at + direction + n) % n]);
	bl_free(copy);
}

static void step(const struct bl_param *p, char *value, int direction)
{
	double x = strtod(value, NULL), to;

	if (p->type == BL_PARAM_CHOICE) {
		step_choice(p, value, direction);
		return;
	}
	if (p->type == BL_PARAM_BOOL) {
		snprintf(value, VALUE_MAX, "%s", !strcmp(value, "true") ? "false" : "true");
		return;
	}
	if (p->type == BL_PARAM_INT && p->max - p->min <= 64)
		to = x + direction;
	else if (x == 0)
		to = direction * (p->type == BL_PARAM_INT ? 1 : (p->max - p->min) / 128);
	else
		to = direction > 0 ? 2 * x : x / 2;
	if (p->type == BL_PARAM_INT)
		to = floor(to);
	to = to < p->min ? p->min : to > p->max ? p->max : to;
	snprintf(value, VALUE_MAX, "%.6g", to);
}

/* METHOD[,key=value...] with what differs from the usual; false with a message when a value does not do. */
static bool result(struct bl_app *app, const struct parameters_state *st, char *to, size_t cap)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str text = {0};
	double *values = NULL;

	for (int i = 0; i < st->method->n_params; i++)
		if (strcmp(st->value[i], st->method->params[i].fallback) != 0)
			bl_str_addf(&text, "%s%s=%s", text.len ? "," : "", st->method->params[i].name, st->value[i]);
	if (bl_params_parse(&values, st->method->params, st->method->n_params, bl_str_c(&text), st->method->name, &err))
		bl_app_message_err(app, &err);
	else
		snprintf(to, cap, "%s%s%s", st->method->name, text.len ? "," : "", bl_str_c(&text));
	bl_free(values);
	bl_str_free(&text);
	return err.status == BL_OK;
}

static unsigned finish(struct bl_app *app, struct parameters_state *st)
{
	char text[sizeof app->priv->method_text];
	const struct bl_screen *below = bl_app_below(app);
	unsigned react = BL_REACT_REDRAW;

	if (!st->method || !result(app, st, text, sizeof text))
		return react;
	if (below && !strcmp(below->name, "methods")) {
		memcpy(app->priv->method_text, text, sizeof text);
	} else {
		react = bl_edit_method_text(app, st->selected, text);
		bl_session_quantize(app->session, st->selected, NULL);
	}
	bl_app_pop(app);
	return react;
}

static unsigned parameters_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct parameters_state *st = state;
	int n = st->method ? st->method->n_params : 0;
	unsigned react = bl_list_act(&st->list, a, arg, n, 8);
	char label[80];

	if (react != BL_REACT_UNKNOWN)
		return react;
	if (a == BL_ACT_OPEN)
		return finish(app, st);
	if (!n || (a != BL_ACT_FIELD && a != BL_ACT_LEFT && a != BL_ACT_RIGHT))
		return BL_REACT_UNKNOWN;
	const struct bl_param *p = &st->method->params[st->list.row];
	if (a == BL_ACT_FIELD && *arg) {
		snprintf(st->value[st->list.row], VALUE_MAX, "%s", arg);
		result(app, st, (char[sizeof app->priv->method_text]){""}, sizeof app->priv->method_text); /* says so at once when it does not do */
	} else if (a == BL_ACT_FIELD && (p->type == BL_PARAM_INT || p->type == BL_PARAM_REAL)) {
		snprintf(label, sizeof label, "%s (is %.20s): ", p->name, st->value[st->list.row]);
		bl_app_prompt(app, label, NULL, NULL, BL_ACT_FIELD);
	} else {
		step(p, st->value[st->list.row], a == BL_ACT_LEFT ? -1 : 1);
	}
	return BL_REACT_REDRAW;
}

static void read_values(struct parameters_state *st, const char *params)
{
	char *copy = bl_xstrdup(params ? params : ""), *rest = NULL;

	for (int i = 0; i < st->method->n_params; i++)
		snprintf(st->value[i], VALUE_MAX, "%s", st->method->params[i].fallback);
	for (char *w = strtok_r(copy, ",", &rest); w; w = strtok_r(NULL, ",", &rest)) {
		char *eq = strchr(w, '=');
		if (!eq)
			continue;
		*eq = '\0';
		for (int i = 0; i < st->method->n_params; i++)
			if (!strcmp(st->method->params[i].name, w))
				snprintf(st->value[i], VALUE_MAX, "%s", eq + 1);
	}
	bl_free(copy);
}

static void parameters_enter(struct bl_app *app, void *state, const char *arg)
{
	struct parameters_state *st = state;
	const char *text = arg ? strchr(arg, ' ') : NULL;
	char name[BL_METHOD_NAME_MAX];

	st->selected = bl_screen_units_from(app, arg, &st->n, &st->unit);
	st->unit = st->unit < 0 ? 0 : st->unit;
	text = text ? text + 1 : "rtn";
	snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ","), text);
	st->method = bl_registry_method(&app->session->registry, name);
	if (!st->method) {
		bl_app_message(app, BL_MSG_ERROR, "no method is called \"%s\" · `bitlathe plugins` lists them", name);
		return;
	}
	st->value = bl_xalloc((size_t)st->method->n_params + 1, sizeof *st->value);
	text = strchr(text, ',');
	read_values(st, text ? text + 1 : "");
}

static void parameters_leave(struct bl_app *app, void *state)
{
	struct parameters_state *st = state;

	(void)app;
	bl_free(st->selected);
	bl_free(st->value);
}

const struct bl_screen bl_screen_parameters = {
	.name = "parameters",
	.title = "Parameters",
	.footer = "open=solve field=change left right back help",
	.state_bytes = sizeof(struct parameters_state),
	.enter = parameters_enter,
	.leave = parameters_leave,
	.draw = parameters_draw,
	.act = parameters_act,
};
