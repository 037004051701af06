/* SPDX-License-Identifier: Apache-2.0
 * Config edits: the keys of config.json that the export will change, as items of the plan; below them the model's own values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "tui/line_edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

struct config_state { struct bl_list list; char search[128]; };

static int n_keys(const struct bl_app *app)
{
	return cJSON_GetArraySize(app->session->model->config.json);
}

/* Rows: every key of the file, then edits of keys the file does not have. */
static int n_rows(const struct bl_app *app)
{
	const struct bl_plan *p = app->session->plan;
	int n = n_keys(app);

	for (int i = 0; i < bl_plan_n_edits(p); i++)
		if (!cJSON_GetObjectItemCaseSensitive(app->session->model->config.json, bl_plan_edit(p, i)->key))
			n++;
	return n;
}

static const char *key_of(const struct bl_app *app, int row)
{
	const struct bl_plan *p = app->session->plan;
	const cJSON *json = app->session->model->config.json;

	if (row < n_keys(app))
		return cJSON_GetArrayItem(json, row)->string;
	row -= n_keys(app);
	for (int i = 0; i < bl_plan_n_edits(p); i++)
		if (!cJSON_GetObjectItemCaseSensitive(json, bl_plan_edit(p, i)->key) && row-- == 0)
			return bl_plan_edit(p, i)->key;
	return "";
}

static const struct bl_config_edit *edit_of(const struct bl_app *app, const char *key)
{
	const struct bl_plan *p = app->session->plan;

	for (int i = 0; i < bl_plan_n_edits(p); i++)
		if (!strcmp(bl_plan_edit(p, i)->key, key))
			return bl_plan_edit(p, i);
	return NULL;
}

static void config_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct config_state *st = state;
	int n = n_rows(app), rows = v.rows - 1;

	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "config.json as it will be exported: %d edit%s (Enter edits, u undoes)",
		      bl_plan_n_edits(app->session->plan), bl_plan_n_edits(app->session->plan) == 1 ? "" : "s");
	bl_list_fit(&st->list, n, rows);
	for (int i = st->list.top, y = v.row + 1; i < n && y < v.row + v.rows; i++, y++) {
		const char *key = key_of(app, i);
		const cJSON *was = cJSON_GetObjectItemCaseSensitive(app->session->model->config.json, key);
		const struct bl_config_edit *e = edit_of(app, key);
		struct bl_str text = {0};
		char name[64], value[256];

		if (was)
			bl_json_print(&text, was, 0, false);
		else
			bl_str_add(&text, "(absent)");
		if (e)
			bl_str_addf(&text, " %s %s", bl_app_glyph(app, "→", "->"), *e->value ? e->value : "(removed)");
		bl_grid_text(g, y, v.col + 2, 28, e ? BL_ROLE_WARN : BL_ROLE_TEXT, 0, bl_printable(name, sizeof name, key));
		bl_grid_text(g, y, v.col + 31, v.cols - 31, e ? BL_ROLE_WARN : BL_ROLE_DIM, 0, bl_printable(value, sizeof value, bl_str_c(&text)));
		bl_str_free(&text);
		if (i == st->list.row) {
			bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, BL_ATTR_REVERSE);
			bl_grid_text(g, y, v.col, 1, BL_ROLE_SELECTED, BL_ATTR_REVERSE, bl_app_glyph(app, "▶", ">"));
		}
	}
}

/* "key=value", as :config takes it */
static void row_text_of(void *ctx, int row, struct bl_str *out)
{
	struct bl_app *app = ctx;
	const char *key = key_of(app, row);
	const cJSON *was = cJSON_GetObjectItemCaseSensitive(app->session->model->config.json, key);
	const struct bl_config_edit *e = edit_of(app, key);

	bl_str_addf(out, "%s=", key);
	if (e)
		bl_str_add(out, e->value);
	else if (was)
		bl_json_print(out, was, 0, false);
}

static unsigned config_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct config_state *st = state;
	int n = n_rows(app);
	char text[BL_LINE_MAX];

	unsigned react = bl_list_act(&st->list, a, arg, n, 16);
	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_OPEN: {
		struct bl_str line = {0};

		row_text_of(app, st->list.row, &line);
		bool fits = (size_t)snprintf(text, sizeof text, "%s", bl_str_c(&line)) < sizeof text;
		bl_str_free(&line);
		if (!fits) { /* half a value would be another one */
			bl_app_message(app, BL_MSG_INFO, "this value is too long to be edited here · :config KEY=VALUE sets another one");
			return BL_REACT_REDRAW;
		}
		bl_app_prompt(app, "config: ", text, NULL, BL_ACT_CONFIG);
		return BL_REACT_REDRAW;
	}
	case BL_ACT_SEARCH:
	case BL_ACT_SEARCH_NEXT:
	case BL_ACT_SEARCH_PREV:
		if (a == BL_ACT_SEARCH || st->search[0])
			return bl_screen_search(app, &st->list, n, st->search, a, arg, row_text_of, app, "no key");
		bl_app_message(app, BL_MSG_INFO, "nothing to search for yet: / starts a search");
		return BL_REACT_REDRAW;
	default: return BL_REACT_UNKNOWN;
	}
	return BL_REACT_REDRAW;
}

static void config_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	row_text_of(app, ((struct config_state *)state)->list.row, out);
}

const struct bl_screen bl_screen_config = {
	.name = "config",
	.title = "Config",
	.footer = "open=edit search undo back help",
	.state_bytes = sizeof(struct config_state),
	.draw = config_draw,
	.act = config_act,
	.row_text = config_row_text,
};
