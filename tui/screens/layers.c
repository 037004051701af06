/* SPDX-License-Identifier: Apache-2.0
 * The home screen: one row per unit, columns from a table (layers_columns.c). Keeps its own order (filter, sort), cursor and tags;
 * everything else is the session's. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "tui/app_private.h"
#include "tui/edit.h"
#include "tui/screens/layers_columns.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

#define COLUMNS_MAX 32

struct layers_state {
	int *order, n_order;       /* units shown, in screen order */
	uint8_t *tags;             /* per unit */
	uint8_t *filtered;         /* per unit: 1 = shown; NULL without a filter */
	char filter[256], search[128];
	struct bl_list list;       /* cursor within order */
	int last_tag;              /* unit last tagged, -1 */
	const struct bl_layer_column *sort;
	bool reverse;
};

static int n_units(const struct bl_app *app)
{
	return app->session->model->n_units;
}

static int current(const struct layers_state *st)
{
	return st->n_order ? st->order[st->list.row] : -1;
}

/* ---- order ---- */

struct sort_item { double key; int unit; };

static int by_key(const void *a, const void *b)
{
	const struct sort_item *x = a, *y = b;

	if (isnan(x->key) || isnan(y->key))
		return isnan(x->key) != isnan(y->key) ? (isnan(x->key) ? 1 : -1) : x->unit - y->unit;
	return x->key < y->key ? -1 : x->key > y->key ? 1 : x->unit - y->unit;
}

static void reorder(struct bl_app *app, struct layers_state *st)
{
	int keep = current(st), n = 0;
	struct sort_item *items = bl_xalloc((size_t)n_units(app) + 1, sizeof *items);

	for (int i = 0; i < n_units(app); i++)
		if (!st->filtered || st->filtered[i])
			items[n++] = (struct sort_item){st->sort ? st->sort->key(app, i) : i, i};
	if (st->sort && st->reverse)
		for (int i = 0; i < n; i++)
			items[i].key = -items[i].key;
	qsort(items, (size_t)n, sizeof *items, by_key);
	st->n_order = n;
	for (int i = 0; i < n; i++) {
		st->order[i] = items[i].unit;
		if (items[i].unit == keep)
			st->list.row = i;
	}
	bl_free(items);
	if (st->list.row >= n)
		st->list.row = n ? n - 1 : 0;
}


static void go_to(struct bl_app *app, struct layers_state *st, int unit)
{
	for (int i = 0; i < st->n_order; i++)
		if (st->order[i] == unit) {
			st->list.row = i;
			return;
		}
	bl_app_message(app, BL_MSG_WARN, "that unit is hidden by the filter (f Enter shows all)");
}

/* ---- drawing ---- */

static void draw_heading(struct bl_app *app, struct layers_state *st, struct bl_grid_s *g, int y, struct bl_grid_view v,
			 const struct bl_layer_column **cols, int n)
{
	int x = v.col + 1;

	for (int i = 0; i < n && x < v.col + v.cols; i++) {
		const struct bl_layer_column *c = cols[i];
		uint8_t attr = st->sort == c ? BL_ATTR_UNDERLINE : 0;
		const char *title = bl_layer_column_title(app, c);

		if (c->bar_before) {
			bl_grid_text(g, y, x - 1, 1, BL_ROLE_RULE, 0, "│");
			x++;
		}
		int width = i == n - 1 && bl_ieq(c->name, "spark") ? v.col + v.cols - x : c->width;
		if (c->left)
			bl_grid_text(g, y, x, width, BL_ROLE_HEADING, attr, title);
		else
			bl_grid_text_right(g, y, x + width, width, BL_ROLE_HEADING, attr, title);
		x += width + 1;
	}
}

static void draw_row(struct bl_app *app, struct layers_state *st, struct bl_grid_s *g, int y, struct bl_grid_view v, int index,
		     const struct bl_layer_column **cols, int n)
{
	int unit = st->order[index], x = v.col + 1;
	bool here = index == st->list.row;

	for (int i = 0; i < n && x < v.col + v.cols; i++) {
		const struct bl_layer_column *c = cols[i];
		struct bl_layer_cell cell = {"", BL_ROLE_TEXT};

		if (c->bar_before) {
			bl_grid_text(g, y, x - 1, 1, BL_ROLE_RULE, 0, "│");
			x++;
		}
		c->cell(app, unit, &cell);
		if (c->left)
			bl_grid_text(g, y, x, c->width, cell.role, 0, cell.text);
		else
			bl_grid_text_right(g, y, x + c->width, c->width, cell.role, 0, cell.text);
		x += c->width + 1;
	}
	if (st->tags[unit])
		bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_TAGGED, BL_ATTR_BOLD);
	if (here)
		bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, BL_ATTR_REVERSE);
	const char *mark = here && st->tags[unit] ? "*" : here ? bl_app_glyph(app, "▶", ">") : st->tags[unit] ? "+" : " ";
	bl_grid_text(g, y, v.col, 1, here ? BL_ROLE_SELECTED : BL_ROLE_TAGGED, here ? BL_ATTR_REVERSE : 0, mark);
}

/* From the first moment of a calibration on: its columns are there before their values, so that nothing jumps. */
static bool calibrated(const struct bl_app *app)
{
	struct bl_job_view job;

	return bl_session_calib(app->session) || bl_app_find_job(app, "calibrate", &job);
}

/* The rows that are seen are worked on first; what the one under the cursor does to the model is measured. */
static void want_visible(struct bl_app *app, const struct layers_state *st, int rows)
{
	int last = st->list.top + rows - 1 < st->n_order ? st->list.top + rows - 1 : st->n_order - 1;
	char text[24];

	bl_session_want(app->session, st->order[st->list.top], st->order[last]);
	bl_session_want_errors(app->session, st->order[st->list.top], st->order[last]);
	if (bl_screen_kl_is_cheap(app))
		for (int i = last; i >= st->list.top; i--) /* the newest request is served first */
			bl_screen_kl_text(app, st->order[i], bl_plan_choice(app->session->plan, st->order[i]), true, text);
	bl_screen_kl_text(app, current(st), bl_plan_choice(app->session->plan, current(st)), true, text);
}

static void layers_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct layers_state *st = state;
	const struct bl_layer_column *cols[COLUMNS_MAX];
	int n = bl_layer_columns_choose(bl_settings_text(app->settings, BL_SET_COLUMNS), calibrated(app), v.cols, cols, COLUMNS_MAX);
	int rows = v.rows - 1, status = 0;

	if (st->filter[0]) {
		bl_grid_textf(g, v.row + v.rows - 1, v.col, v.cols, BL_ROLE_HINT, 0, "filter %s: %d of %d units (f Enter shows all)",
			      st->filter, st->n_order, n_units(app));
		status = 1;
	}
	rows -= status;
	draw_heading(app, st, g, v.row, v, cols, n);
	if (rows < 1)
		return;
	bl_list_fit(&st->list, st->n_order, rows);
	for (int i = st->list.top, y = v.row + 1; i < st->n_order && y < v.row + 1 + rows; i++, y++)
		draw_row(app, st, g, y, v, i, cols, n);
	if (!st->n_order)
		bl_grid_text(g, v.row + 2, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "No unit matches the filter.");
	else
		want_visible(app, st, rows);
}

/* ---- actions ---- */

/* Tagged units, or the one under the cursor. */
static uint8_t *selection(struct bl_app *app, struct layers_state *st)
{
	uint8_t *sel = bl_xalloc((size_t)n_units(app) + 1, 1);
	bool any = false;

	for (int i = 0; i < n_units(app); i++)
		any |= (sel[i] = st->tags[i]) != 0;
	if (!any && current(st) >= 0)
		sel[current(st)] = 1;
	return sel;
}

static int n_tagged(const struct bl_app *app, const struct layers_state *st)
{
	int n = 0;

	for (int i = 0; i < n_units(app); i++)
		n += st->tags[i];
	return n;
}

static unsigned edit(struct bl_app *app, struct layers_state *st, enum bl_action a, const char *arg)
{
	uint8_t *sel = selection(app, st);
	unsigned react;

	if (bl_edit_scheme_of(a))
		react = bl_edit_scheme(app, sel, bl_edit_scheme_of(a));
	else if (a == BL_ACT_SCHEME)
		react = bl_edit_scheme_text(app, sel, arg);
	else if (a == BL_ACT_METHOD)
		react = *arg ? bl_edit_method_text(app, sel, arg) : bl_screen_open_methods(app, sel);
	else if (a == BL_ACT_SOLVE_WITH)
		react = bl_screen_open_parameters(app, sel, arg);
	else if (a == BL_ACT_SOLVE)
		react = bl_screen_solve(app, sel);
	else
		react = bl_edit_lock(app, sel);
	bl_free(sel);
	return react;
}

static unsigned tag_pattern(struct bl_app *app, struct layers_state *st, const char *pattern)
{
	uint8_t *sel = bl_xalloc((size_t)n_units(app) + 1, 1);
	struct bl_err err = BL_ERR_INIT;
	int n = 0;

	if (bl_pattern_match(app->session->model, pattern, sel, &n, &err)) {
		bl_app_message_err(app, &err);
	} else {
		for (int i = 0; i < n_units(app); i++)
			st->tags[i] |= sel[i];
		bl_app_message(app, BL_MSG_INFO, "%d tagged: edits act on all of them (U removes the tags)", n_tagged(app, st));
	}
	bl_free(sel);
	return BL_REACT_REDRAW;
}

static unsigned tag(struct bl_app *app, struct layers_state *st, enum bl_action a)
{
	int unit = current(st), from = -1;

	if (unit < 0)
		return BL_REACT_REDRAW;
	switch (a) {
	case BL_ACT_TAG:
		st->tags[unit] ^= 1;
		st->last_tag = unit;
		if (st->list.row + 1 < st->n_order)
			st->list.row++;
		return BL_REACT_REDRAW;
	case BL_ACT_TAG_RANGE:
		for (int i = 0; i < st->n_order; i++)
			if (st->order[i] == st->last_tag)
				from = i;
		if (from < 0)
			from = st->list.row;
		for (int i = from < st->list.row ? from : st->list.row; i <= (from < st->list.row ? st->list.row : from); i++)
			st->tags[st->order[i]] = 1;
		st->last_tag = unit;
		break;
	case BL_ACT_TAG_KIND:
		for (int i = 0; i < st->n_order; i++)
			if (app->session->model->units[st->order[i]].kind == app->session->model->units[unit].kind)
				st->tags[st->order[i]] = 1;
		break;
	default: memset(st->tags, 0, (size_t)n_units(app)); break;
	}
	bl_app_message(app, BL_MSG_INFO, "%d tagged%s", n_tagged(app, st), n_tagged(app, st) ? ": edits act on all of them (U removes the tags)" : "");
	return BL_REACT_REDRAW;
}

static unsigned filter(struct bl_app *app, struct layers_state *st, const char *pattern)
{
	struct bl_err err = BL_ERR_INIT;
	uint8_t *sel = bl_xalloc((size_t)n_units(app) + 1, 1);

	if (*pattern && bl_edit_find(app, pattern, sel, &err)) {
		bl_app_message_err(app, &err);
		bl_free(sel);
		return BL_REACT_REDRAW;
	}
	bl_free(st->filtered);
	st->filtered = *pattern ? sel : NULL;
	if (!*pattern)
		bl_free(sel);
	bl_printable(st->filter, sizeof st->filter, pattern);
	reorder(app, st);
	st->list.top = 0;
	return BL_REACT_REDRAW;
}

static unsigned sort(struct bl_app *app, struct layers_state *st, const char *name)
{
	const struct bl_layer_column *c = *name ? bl_layer_column_find(name) : NULL;

	if (*name && (!c || !c->key)) {
		bl_app_message(app, BL_MSG_ERROR, "no column to sort by is called \"%s\" · Tab after :sort lists them", name);
		return BL_REACT_REDRAW;
	}
	st->reverse = c && c == st->sort ? !st->reverse : false;
	st->sort = c;
	reorder(app, st);
	if (c)
		bl_app_message(app, BL_MSG_INFO, "sorted by %s%s", c->name, st->reverse ? ", largest first" : "");
	else
		bl_app_message(app, BL_MSG_INFO, "file order");
	return BL_REACT_REDRAW;
}

static unsigned search(struct bl_app *app, struct layers_state *st, int step)
{
	if (!st->search[0]) {
		bl_app_message(app, BL_MSG_INFO, "nothing to search for yet: / starts a search");
		return BL_REACT_REDRAW;
	}
	for (int k = 1; k <= st->n_order; k++) {
		int i = ((st->list.row + step * k) % st->n_order + st->n_order) % st->n_order;
		if (bl_edit_unit_says(app, st->order[i], st->search)) {
			if ((step > 0) != (i > st->list.row) && i != st->list.row)
				bl_app_message(app, BL_MSG_INFO, "search wrapped around");
			st->list.row = i;
			return BL_REACT_REDRAW;
		}
	}
	bl_app_message(app, BL_MSG_WARN, "no row contains \"%s\"", st->search);
	return BL_REACT_REDRAW;
}

/* Next row in screen order whose unit satisfies the wish. */
static unsigned jump(struct bl_app *app, struct layers_state *st, enum bl_action a)
{
	const struct bl_unit *units = app->session->model->units;
	int step = a == BL_ACT_BLOCK_NEXT || a == BL_ACT_KIND_NEXT ? 1 : -1, here = current(st);
	bool kind = a == BL_ACT_KIND_NEXT || a == BL_ACT_KIND_PREV;

	if (here < 0)
		return BL_REACT_REDRAW;
	for (int i = st->list.row + step; i >= 0 && i < st->n_order; i += step) {
		const struct bl_unit *u = &units[st->order[i]];
		if (kind ? u->kind == units[here].kind : u->block != units[here].block) {
			st->list.row = i;
			if (!kind && step < 0) /* the first row of that block */
				while (st->list.row > 0 && units[st->order[st->list.row - 1]].block == u->block)
					st->list.row--;
			break;
		}
	}
	return BL_REACT_REDRAW;
}

static unsigned columns(struct bl_app *app, const char *names)
{
	struct bl_err err = BL_ERR_INIT;
	char copy[512];

	snprintf(copy, sizeof copy, "%s", names);
	for (char *save = NULL, *w = strtok_r(copy, ", ", &save); w; w = strtok_r(NULL, ", ", &save))
		if (!bl_layer_column_find(w)) {
			bl_app_message(app, BL_MSG_ERROR, "no column is called \"%s\" · Tab after :columns lists them", w);
			return BL_REACT_REDRAW;
		}
	if (bl_settings_set(app->settings, "columns", names, &err))
		bl_app_message_err(app, &err);
	else
		bl_app_save_settings(app);
	return BL_REACT_REDRAW;
}

static unsigned layers_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct layers_state *st = state;
	int page = app->grid.rows > 8 ? app->grid.rows - 8 : 1, unit = current(st);
	unsigned react = bl_list_act(&st->list, a, arg, st->n_order, page);
	char text[32];

	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_BLOCK_NEXT: case BL_ACT_BLOCK_PREV: case BL_ACT_KIND_NEXT: case BL_ACT_KIND_PREV: return jump(app, st, a);
	case BL_ACT_TAG: case BL_ACT_TAG_RANGE: case BL_ACT_TAG_KIND: case BL_ACT_UNTAG: return tag(app, st, a);
	case BL_ACT_OPEN:
		if (unit >= 0) {
			snprintf(text, sizeof text, "%d", unit);
			bl_app_push(app, "unit", text);
		}
		return BL_REACT_REDRAW;
	case BL_ACT_GOTO:
		if (!*arg)
			bl_app_prompt(app, "go to unit: ", NULL, "PATTERN", a);
		else {
			uint8_t *sel = bl_xalloc((size_t)n_units(app) + 1, 1);
			struct bl_err err = BL_ERR_INIT;
			int found = 0, first = -1;
			if (bl_pattern_match(app->session->model, arg, sel, &found, &err))
				bl_app_message_err(app, &err);
			else
				for (int i = n_units(app) - 1; i >= 0; i--)
					first = sel[i] ? i : first;
			if (first >= 0)
				go_to(app, st, first);
			bl_free(sel);
		}
		return BL_REACT_REDRAW;
	case BL_ACT_SEARCH:
		if (!*arg) {
			bl_app_prompt(app, "/", st->search, NULL, a);
			return BL_REACT_REDRAW;
		}
		snprintf(st->search, sizeof st->search, "%s", arg);
		return st->n_order ? search(app, st, 1) : BL_REACT_REDRAW;
	case BL_ACT_SEARCH_NEXT: return st->n_order ? search(app, st, 1) : BL_REACT_REDRAW;
	case BL_ACT_SEARCH_PREV: return st->n_order ? search(app, st, -1) : BL_REACT_REDRAW;
	case BL_ACT_FILTER:
		return filter(app, st, arg);
	case BL_ACT_SORT: return sort(app, st, arg);
	case BL_ACT_COLUMNS: return columns(app, arg);
	case BL_ACT_TAG_PATTERN: return *arg ? tag_pattern(app, st, arg) : BL_REACT_UNKNOWN; /* asks */
	case BL_ACT_SCHEME:
		if (!*arg) {
			bl_app_prompt(app, "scheme: ", NULL, "SCHEME", a);
			return BL_REACT_REDRAW;
		}
		return edit(app, st, a, arg);
	case BL_ACT_METHOD: case BL_ACT_SOLVE: case BL_ACT_SOLVE_WITH: case BL_ACT_LOCK: return edit(app, st, a, arg);
	default:
		return bl_edit_scheme_of(a) ? edit(app, st, a, arg) : BL_REACT_UNKNOWN;
	}
}

static void layers_enter(struct bl_app *app, void *state, const char *arg)
{
	struct layers_state *st = state;

	st->order = bl_xalloc((size_t)n_units(app) + 1, sizeof *st->order);
	st->tags = bl_xalloc((size_t)n_units(app) + 1, 1);
	st->last_tag = -1;
	reorder(app, st);
	if (arg && *arg && bl_model_unit(app->session->model, arg) >= 0)
		go_to(app, st, bl_model_unit(app->session->model, arg));
	bl_session_start_stats(app->session);
}

static void layers_leave(struct bl_app *app, void *state)
{
	struct layers_state *st = state;

	(void)app;
	bl_free(st->order);
	bl_free(st->tags);
	bl_free(st->filtered);
}

static void layers_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	const struct layers_state *st = state;
	char scheme[BL_SCHEME_NAME_MAX];
	const char *format = NULL;
	int unit = current(st);

	if (unit >= 0)
		bl_str_addf(out, "%s %s %s", app->session->model->units[unit].name, bl_scheme_name(scheme, bl_session_scheme(app->session, unit, &format)),
			    format ? format : bl_plan_choice(app->session->plan, unit)->method);
}

const struct bl_screen bl_screen_layers = {
	.name = "layers",
	.title = "Layers",
	.footer = "tag w8a8+w4a16+scheme=scheme method calibrate evaluate export undo snapshots filter lock help",
	.state_bytes = sizeof(struct layers_state),
	.enter = layers_enter,
	.leave = layers_leave,
	.draw = layers_draw,
	.act = layers_act,
	.row_text = layers_row_text,
};
