/* SPDX-License-Identifier: Apache-2.0
 * Methods side by side for one unit: a job solves it with each, the table fills as it goes, Enter takes the row for the unit and all units it was opened for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/tryout.h"
#include "tui/app_private.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/pager.h"
#include "tui/widgets/table.h"

struct methods_state {
	struct bl_list list;
	uint8_t *selected;
	int n, unit;
	struct bl_try row[BL_TRY_MAX];
	int n_rows;
};

/* ---- units as an argument ---- */

char *bl_screen_units_text(const struct bl_app *app, const uint8_t *selected)
{
	struct bl_str text = {0};

	for (int i = 0; i < app->session->model->n_units; i++)
		if (selected[i])
			bl_str_addf(&text, "%s%d", text.len ? "," : "", i);
	return bl_str_take(&text);
}

uint8_t *bl_screen_units_from(const struct bl_app *app, const char *text, int *n, int *first)
{
	uint8_t *selected = bl_xalloc((size_t)app->session->model->n_units + 1, 1);

	*n = 0;
	*first = -1;
	while (text && *text >= '0' && *text <= '9') {
		char *end;
		long i = strtol(text, &end, 10);
		if (i >= 0 && i < app->session->model->n_units && !selected[i]) {
			selected[i] = 1;
			++*n;
			*first = *first < 0 || i < *first ? (int)i : *first;
		}
		text = *end == ',' ? end + 1 : end;
	}
	if (*n)
		return selected;
	bl_free(selected);
	return NULL;
}

static int first_quantized(const struct bl_app *app, const uint8_t *selected)
{
	for (int i = 0; i < app->session->model->n_units; i++)
		if (selected[i] && bl_plan_choice(app->session->plan, i)->scheme.number != BL_NUM_FULL)
			return i;
	return -1;
}

static unsigned nothing_to_solve(struct bl_app *app)
{
	if (bl_edit_is_quantized(app))
		return BL_REACT_REDRAW;
	bl_app_message(app, BL_MSG_WARN, "a unit in full precision takes no method: choose a scheme first (4, 8, a)");
	return BL_REACT_REDRAW;
}

unsigned bl_screen_open_methods(struct bl_app *app, const uint8_t *selected)
{
	uint8_t *quantized;
	char *text;

	if (first_quantized(app, selected) < 0)
		return nothing_to_solve(app);
	quantized = bl_xalloc((size_t)app->session->model->n_units + 1, 1);
	for (int i = 0; i < app->session->model->n_units; i++)
		quantized[i] = selected[i] && bl_plan_choice(app->session->plan, i)->scheme.number != BL_NUM_FULL;
	text = bl_screen_units_text(app, quantized);
	bl_app_push(app, "methods", text);
	bl_free(text);
	bl_free(quantized);
	return BL_REACT_REDRAW;
}

unsigned bl_screen_solve(struct bl_app *app, const uint8_t *selected)
{
	if (first_quantized(app, selected) < 0)
		return nothing_to_solve(app);
	if (bl_session_quantize(app->session, selected, NULL))
		bl_app_message(app, BL_MSG_INFO, "solving: the line above shows how far it is, C-c asks to cancel");
	else
		bl_app_message(app, BL_MSG_INFO, "nothing to solve ahead here, it is computed as shown · m lists other methods");
	return BL_REACT_REDRAW;
}

/* ---- drawing ---- */

static void method_text(const struct bl_choice *c, char *to, size_t cap)
{
	snprintf(to, cap, "%s%s%s", c->method, *c->params ? "," : "", c->params);
}

static void draw_number(struct bl_app *app, struct bl_grid_s *g, int y, int end, const struct bl_try *t, double v, const char *format)
{
	char text[32];

	if (isfinite(v))
		snprintf(text, sizeof text, *format == '1' ? "%.1f" : *format == '2' ? "%.2f" : "%.3f", v);
	else
		snprintf(text, sizeof text, "%s", t->known == BL_KNOWN_COMPUTING ? bl_app_glyph(app, "…", "~") : bl_app_glyph(app, "·", "."));
	bl_grid_text_right(g, y, end, 9, isfinite(v) ? BL_ROLE_MEASURED : BL_ROLE_UNKNOWN, 0, text);
}

/* The smallest error of what is known. */
static double least(const struct methods_state *st, double (*of)(const struct bl_try *))
{
	double best = INFINITY;
	int known = 0;

	for (int i = 0; i < st->n_rows; i++) {
		known += isfinite(of(&st->row[i])) != 0;
		best = of(&st->row[i]) < best ? of(&st->row[i]) : best; /* NaN is never smaller */
	}
	return known > 1 ? best : -INFINITY;
}

static double rel_of(const struct bl_try *t) { return t->rel; }
static double kl_of(const struct bl_try *t) { return t->kl; }

/* "model.layers.0.self_attn.o_proj: takes no ..." without the name: the heading has it. */
static const char *without_name(const char *why)
{
	size_t name = strcspn(why, ": ");

	return why[name] == ':' && why[name + 1] == ' ' && memchr(why, '.', name) ? why + name + 2 : why;
}

static void draw_row(struct bl_app *app, struct methods_state *st, struct bl_grid_s *g, struct bl_grid_view v, int y, int i)
{
	const struct bl_try *t = &st->row[i];
	const struct bl_choice *own = bl_plan_choice(app->session->plan, st->unit);
	bool mine = !strcmp(own->method, t->choice.method) && !strcmp(own->params, t->choice.params) && bl_scheme_equal(&own->scheme, &t->choice.scheme);
	char text[400], note[200] = "";
	int names = v.cols >= 100 ? 44 : v.cols >= 60 ? 28 : v.cols - 24, at = v.col + 2 + names;

	method_text(&t->choice, text, sizeof text);
	bl_grid_text(g, y, v.col + 2, names, BL_ROLE_TEXT, 0, text);
	draw_number(app, g, y, at + 9, t, t->rel > 0 ? 10 * log10(t->rel) : t->rel, "1");
	draw_number(app, g, y, at + 18, t, 1e3 * t->kl, "2");
	if (v.cols >= 60)
		draw_number(app, g, y, at + 27, t, t->seconds, "3");
	if (t->known == BL_KNOWN_REFUSED)
		snprintf(note, sizeof note, "%s", without_name(t->why));
	else
		snprintf(note, sizeof note, "%s%s%s", mine ? bl_app_glyph(app, "← plan  ", "<- plan  ") : "", isfinite(t->rel) && t->rel <= least(st, rel_of) ? "best error  " : "",
			 isfinite(t->kl) && t->kl <= least(st, kl_of) ? "best KL" : "");
	if (v.cols >= 80)
		bl_grid_text(g, y, at + 29, v.col + v.cols - at - 29, t->known == BL_KNOWN_REFUSED ? BL_ROLE_WARN : BL_ROLE_GOOD, 0, note);
	if (i == st->list.row)
		bl_screen_cursor(app, g, v, y);
}

static void draw_head(struct bl_app *app, struct methods_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[st->unit];
	char scheme[BL_SCHEME_NAME_MAX], more[48] = "";
	int names = v.cols >= 100 ? 44 : v.cols >= 60 ? 28 : v.cols - 24, at = v.col + 2 + names;
	bool true_ones = bl_screen_errors_are_true(app);

	if (st->n > 1)
		snprintf(more, sizeof more, " %s Enter sets all %d tagged", bl_app_glyph(app, "·", "-"), st->n);
	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "Methods for block %d %s %s%s", u->block, bl_unit_kind_name(u->kind),
		      bl_scheme_name(scheme, &bl_plan_choice(app->session->plan, st->unit)->scheme), more);
	bl_grid_text(g, v.row + 1, v.col + 2, names, BL_ROLE_HEADING, 0, "method");
	bl_grid_text_right(g, v.row + 1, at + 9, 9, BL_ROLE_HEADING, 0, true_ones ? "err dB" : "w-err dB");
	bl_grid_text_right(g, v.row + 1, at + 18, 9, BL_ROLE_HEADING, 0, bl_app_glyph(app, "KL·10³", "KL*1e3"));
	if (v.cols >= 60)
		bl_grid_text_right(g, v.row + 1, at + 27, 9, BL_ROLE_HEADING, 0, "solve s");
}

static void draw_note(struct bl_app *app, struct methods_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_try *t = st->list.row < st->n_rows ? &st->row[st->list.row] : NULL;
	const struct bl_method *m = t ? bl_registry_method(&app->session->registry, t->choice.method) : NULL;
	char text[600];

	if (!t || v.rows < 1)
		return;
	snprintf(text, sizeof text, "%s: %s%s%s%s%s", t->choice.method, m ? m->sentence : "", *t->report ? " · " : "", t->report,
		 t->known == BL_KNOWN_REFUSED ? " · " : "", t->known == BL_KNOWN_REFUSED ? t->why : "");
	bl_pager_wrap(g, v, 0, BL_ROLE_DIM, text, v.rows);
}

/* What is known now; texts of the rows are borrowed until another tryout starts. */
static void refresh(struct bl_app *app, struct methods_state *st)
{
	int unit;

	st->n_rows = bl_session_tried(app->session, &unit, st->row, BL_TRY_MAX);
	if (unit != st->unit)
		st->n_rows = 0;
}

static void methods_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct methods_state *st = state;
	int notes = v.rows >= 14 ? 3 : v.rows >= 8 ? 2 : 0, rows = v.rows - 2 - (notes ? notes + 1 : 0);

	refresh(app, st);
	draw_head(app, st, g, v);
	if (rows < 1)
		return;
	bl_list_fit(&st->list, st->n_rows, rows);
	for (int i = st->list.top, y = v.row + 2; i < st->n_rows && y < v.row + 2 + rows; i++, y++)
		draw_row(app, st, g, v, y, i);
	if (!notes)
		return;
	bl_grid_hline(g, v.row + 2 + rows, v.col, v.cols, BL_ROLE_RULE);
	draw_note(app, st, g, (struct bl_grid_view){v.row + 3 + rows, v.col + 2, notes, v.cols - 2});
}

/* ---- acting ---- */

/* The rows so far with one more, which comes first. */
static void add_row(struct bl_app *app, struct methods_state *st, const char *text)
{
	struct bl_choice all[BL_TRY_MAX];
	struct bl_err err = BL_ERR_INIT;
	char *words = bl_xstrdup(text), *params = strchr(words, ',');
	double *values = NULL;
	int n = 1;

	if (params)
		*params++ = '\0';
	const struct bl_method *m = bl_registry_method(&app->session->registry, words);
	if (!m || bl_params_parse(&values, m->params, m->n_params, params ? params : "", words, &err)) {
		if (m)
			bl_app_message_err(app, &err);
		bl_free(words);
		return;
	}
	char *canonical = bl_params_text(m->params, m->n_params, values);
	all[0] = *bl_plan_choice(app->session->plan, st->unit);
	snprintf(all[0].method, sizeof all[0].method, "%s", words);
	all[0].params = canonical;
	for (int i = 0; i < st->n_rows && n < BL_TRY_MAX; i++)
		if (strcmp(st->row[i].choice.method, words) != 0 || strcmp(st->row[i].choice.params, canonical) != 0)
			all[n++] = st->row[i].choice;
	bl_session_try(app->session, st->unit, all, n);
	refresh(app, st);
	st->list.row = 0;
	bl_free(canonical);
	bl_free(values);
	bl_free(words);
}

static unsigned methods_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct methods_state *st = state;

	refresh(app, st);
	unsigned react = bl_list_act(&st->list, a, arg, st->n_rows, 8);
	char text[400] = "";

	if (react != BL_REACT_UNKNOWN)
		return react;
	if (st->list.row < st->n_rows)
		method_text(&st->row[st->list.row].choice, text, sizeof text);
	switch (a) {
	case BL_ACT_OPEN:
		if (!*text)
			return BL_REACT_REDRAW;
		react = bl_edit_method_text(app, st->selected, text);
		bl_app_pop(app);
		return react;
	case BL_ACT_SOLVE:
		if (*text)
			add_row(app, st, text);
		return BL_REACT_REDRAW;
	case BL_ACT_SOLVE_WITH:
		if (*arg) {
			add_row(app, st, arg);
			return BL_REACT_REDRAW;
		}
		return bl_screen_open_parameters(app, st->selected, text);
	default: return BL_REACT_UNKNOWN;
	}
}

/* The job for which the rows had to wait is over: they go on. */
static void go_on(struct bl_app *app, struct methods_state *st)
{
	struct bl_choice all[BL_TRY_MAX];
	struct bl_job_view job;

	if (!bl_session_try_made_room(app->session) || bl_app_find_job(app, "", &job))
		return;
	refresh(app, st);
	for (int i = 0; i < st->n_rows; i++)
		all[i] = st->row[i].choice;
	if (st->n_rows)
		bl_session_try(app->session, st->unit, all, st->n_rows);
}

static void methods_tick(struct bl_app *app, void *state)
{
	struct methods_state *st = state;
	char text[sizeof app->priv->method_text];

	go_on(app, st);

	if (!app->priv->method_text[0])
		return;
	memcpy(text, app->priv->method_text, sizeof text); /* the form above is done */
	app->priv->method_text[0] = '\0';
	add_row(app, st, text);
}

static void methods_enter(struct bl_app *app, void *state, const char *arg)
{
	struct methods_state *st = state;
	struct bl_choice all[BL_TRY_MAX];

	st->selected = bl_screen_units_from(app, arg, &st->n, &st->unit);
	if (!st->selected) {
		st->selected = bl_xalloc((size_t)app->session->model->n_units + 1, 1);
		st->unit = 0;
	}
	app->priv->method_text[0] = '\0';
	int n = bl_session_try_list(app->session, st->unit, &bl_plan_choice(app->session->plan, st->unit)->scheme, all, BL_TRY_MAX);
	bl_session_try(app->session, st->unit, all, n);
}

static void methods_leave(struct bl_app *app, void *state)
{
	struct methods_state *st = state;

	(void)app;
	bl_free(st->selected);
}

static void methods_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	struct methods_state *st = state;
	char text[400];

	refresh(app, st);
	if (st->list.row >= st->n_rows)
		return;
	method_text(&st->row[st->list.row].choice, text, sizeof text);
	bl_str_add(out, text);
}

const struct bl_screen bl_screen_methods = {
	.name = "methods",
	.title = "Methods",
	.footer = "open=take solve-with=parameters solve cancel back help",
	.state_bytes = sizeof(struct methods_state),
	.enter = methods_enter,
	.leave = methods_leave,
	.draw = methods_draw,
	.act = methods_act,
	.row_text = methods_row_text,
	.tick = methods_tick,
};
