/* SPDX-License-Identifier: Apache-2.0
 * Edits of the plan as screens make them. Every edit is one undo step with a label that says what it did. */
#include "tui/edit.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/plugin/registry.h"

static const struct { enum bl_action action; struct bl_scheme scheme; } scheme_actions[] = {
	{BL_ACT_SCHEME_FULL, {.number = BL_NUM_FULL, .bits = 16, .symmetric = 1}},
	{BL_ACT_SCHEME_W8A8,
	 {.number = BL_NUM_INT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL, .act = BL_ACT_INT8_TOKEN}},
	{BL_ACT_SCHEME_W4A16, {.number = BL_NUM_INT, .bits = 4, .symmetric = 1, .strategy = BL_STRATEGY_GROUP, .group = 128}},
	{BL_ACT_SCHEME_FP8,
	 {.number = BL_NUM_FLOAT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL, .act = BL_ACT_FP8_TOKEN}},
};

const struct bl_scheme *bl_edit_scheme_of(enum bl_action a)
{
	for (size_t i = 0; i < sizeof scheme_actions / sizeof scheme_actions[0]; i++)
		if (scheme_actions[i].action == a)
			return &scheme_actions[i].scheme;
	return NULL;
}

enum bl_role bl_edit_scheme_role(const struct bl_scheme *s)
{
	if (s->number == BL_NUM_FULL)
		return BL_ROLE_FULL;
	if (s->number == BL_NUM_FLOAT || s->number == BL_NUM_E2M1)
		return BL_ROLE_FP8;
	return s->bits == 8 ? BL_ROLE_INT8 : s->bits == 4 ? BL_ROLE_INT4 : BL_ROLE_OTHER;
}

char *bl_edit_unit_label(const struct bl_app *app, int unit, char *dst)
{
	const struct bl_unit *u = &app->session->model->units[unit];

	snprintf(dst, 32, "%d %s", u->block, bl_unit_kind_name(u->kind));
	return dst;
}

bool bl_edit_unit_says(const struct bl_app *app, int unit, const char *text)
{
	char label[32], scheme[BL_SCHEME_NAME_MAX];
	const struct bl_choice *c = bl_plan_choice(app->session->plan, unit);

	return strcasestr(app->session->model->units[unit].name, text) || strcasestr(bl_edit_unit_label(app, unit, label), text) ||
	       strcasestr(bl_scheme_name(scheme, &c->scheme), text) || strcasestr(c->method, text);
}

enum bl_status bl_edit_find(const struct bl_app *app, const char *text, uint8_t *selected, struct bl_err *err)
{
	const struct bl_model *m = app->session->model;
	struct bl_err why = BL_ERR_INIT;
	int n = 0;

	if (bl_pattern_match(m, text, selected, NULL, &why) == BL_OK)
		return BL_OK;
	for (int i = 0; i < m->n_units; i++)
		n += selected[i] = bl_edit_unit_says(app, i, text);
	if (!n)
		*err = why;
	return n ? BL_OK : why.status;
}

static int count_selected(const struct bl_app *app, const uint8_t *selected, int *first)
{
	int n = 0;

	for (int i = app->session->model->n_units - 1; i >= 0; i--)
		if (selected[i]) {
			*first = i;
			n++;
		}
	return n;
}

/* Who is meant, for labels: "11 down" or "30 units" */
static char *who(const struct bl_app *app, const uint8_t *selected, char *dst)
{
	int first = 0, n = count_selected(app, selected, &first);

	if (n == 1)
		return bl_edit_unit_label(app, first, dst);
	snprintf(dst, 32, "%d units", n);
	return dst;
}

/* What happened, and what the target says about the first selected unit that it refuses. */
static void report(struct bl_app *app, const uint8_t *selected, const char *what, int n_locked, bool changed)
{
	char label[32];
	int n_refused = 0, first_refused = -1;

	for (int i = 0; i < app->session->model->n_units; i++)
		if (selected[i] && !bl_session_verdict(app->session, i)->legal) {
			n_refused++;
			if (first_refused < 0)
				first_refused = i;
		}
	if (first_refused >= 0)
		bl_app_message(app, BL_MSG_WARN, "%s: %s (%d unit%s; u undoes, :problems lists)",
			       bl_edit_unit_label(app, first_refused, label),
			       bl_session_verdict(app->session, first_refused)->sentence, n_refused, n_refused == 1 ? "" : "s");
	else if (n_locked)
		bl_app_message(app, BL_MSG_WARN, "%s: %s; %d locked unit%s kept (l unlocks)", who(app, selected, label),
			       changed ? what : "nothing changed", n_locked, n_locked == 1 ? "" : "s");
	else if (changed)
		bl_app_message(app, BL_MSG_INFO, "%s: %s (u undoes)", who(app, selected, label), what);
	else
		bl_app_message(app, BL_MSG_INFO, "%s: already %s", who(app, selected, label), what);
}

bool bl_edit_is_quantized(struct bl_app *app)
{
	const char *by = app->session->model->config.quant_method;

	if (!by[0])
		return false;
	bl_app_message(app, BL_MSG_WARN, "the checkpoint is already quantized (%s): it can be looked at, run, verified and converted; schemes and methods are chosen for the original",
		       by);
	return true;
}

unsigned bl_edit_scheme(struct bl_app *app, const uint8_t *selected, const struct bl_scheme *scheme)
{
	struct bl_plan *p = app->session->plan;
	char name[BL_SCHEME_NAME_MAX], label[32], step[96];
	int n_locked = 0;

	if (bl_edit_is_quantized(app))
		return BL_REACT_REDRAW;
	bl_scheme_name(name, scheme);
	snprintf(step, sizeof step, "%s: %s", who(app, selected, label), name);
	bl_plan_begin(p, step);
	for (int i = 0; i < app->session->model->n_units; i++)
		if (selected[i] && !bl_plan_set_scheme(p, i, scheme))
			n_locked++;
	bool changed = bl_plan_end(p);
	if (changed)
		bl_app_edited(app);
	report(app, selected, name, n_locked, changed);
	return BL_REACT_REDRAW | (changed ? BL_REACT_EDITED : 0);
}

unsigned bl_edit_scheme_text(struct bl_app *app, const uint8_t *selected, const char *text)
{
	struct bl_scheme s;
	struct bl_err err = BL_ERR_INIT;

	if (bl_scheme_parse(&s, text, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	return bl_edit_scheme(app, selected, &s);
}

unsigned bl_edit_method_text(struct bl_app *app, const uint8_t *selected, const char *text)
{
	struct bl_session *s = app->session;
	const char *comma = strchr(text, ',');
	char name[BL_METHOD_NAME_MAX], step[96], label[32];
	struct bl_err err = BL_ERR_INIT;
	double *values = NULL;
	int n_locked = 0, n_full = 0;

	if (bl_edit_is_quantized(app))
		return BL_REACT_REDRAW;
	snprintf(name, sizeof name, "%.*s", comma ? (int)(comma - text) : (int)strlen(text), text);
	const struct bl_method *m = bl_registry_method(&s->registry, name);
	if (!m) {
		bl_app_message(app, BL_MSG_ERROR, "no method is called \"%s\" · Tab after :method lists them", name);
		return BL_REACT_REDRAW;
	}
	if (bl_params_parse(&values, m->params, m->n_params, comma ? comma + 1 : "", name, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	char *canonical = bl_params_text(m->params, m->n_params, values);
	snprintf(step, sizeof step, "%s: %s", who(app, selected, label), text);
	bl_plan_begin(s->plan, step);
	for (int i = 0; i < s->model->n_units; i++) {
		if (!selected[i])
			continue;
		if (bl_plan_choice(s->plan, i)->scheme.number == BL_NUM_FULL)
			n_full++;
		else if (!bl_plan_set_method(s->plan, i, name, canonical))
			n_locked++;
	}
	bool changed = bl_plan_end(s->plan);
	bl_free(canonical);
	bl_free(values);
	if (changed)
		bl_app_edited(app);
	if (n_full)
		bl_app_message(app, BL_MSG_WARN, "%d unit%s in full precision take no method: choose a scheme first", n_full,
			       n_full == 1 ? "" : "s");
	else
		report(app, selected, text, n_locked, changed);
	return BL_REACT_REDRAW | (changed ? BL_REACT_EDITED : 0);
}

unsigned bl_edit_lock(struct bl_app *app, const uint8_t *selected)
{
	struct bl_plan *p = app->session->plan;
	char label[32], step[64];
	bool lock = false;

	for (int i = 0; i < app->session->model->n_units; i++)
		if (selected[i] && !bl_plan_choice(p, i)->locked)
			lock = true;
	snprintf(step, sizeof step, "%s %s", lock ? "lock" : "unlock", who(app, selected, label));
	bl_plan_begin(p, step);
	for (int i = 0; i < app->session->model->n_units; i++)
		if (selected[i])
			bl_plan_set_lock(p, i, lock);
	bool changed = bl_plan_end(p);
	if (changed)
		bl_app_edited(app);
	bl_app_message(app, BL_MSG_INFO, "%s: %s", label, lock ? "locked, edits skip it" : "unlocked");
	return BL_REACT_REDRAW | (changed ? BL_REACT_EDITED : 0);
}
