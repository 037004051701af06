/* SPDX-License-Identifier: Apache-2.0
 * The log: every message so far, newest last; Enter shows a long one whole. */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

#define KEPT 1000 /* lines of the ring */

struct log_state {
	struct bl_list list;
	bool placed;
	char search[128];
};

static size_t first_line(void)
{
	size_t n = bl_log_count();

	return n > KEPT ? n - KEPT : 0;
}

static int n_lines(void)
{
	return (int)(bl_log_count() - first_line());
}

static const struct bl_column columns[] = {
	{ "time", 5, BL_LEFT, 1, "" },
	{ "kind", 5, BL_LEFT, 0, "" },
	{ "message", 0, BL_LEFT, 0, "" },
};

static void cell(void *ctx, int row, int column, struct bl_cell_text *out)
{
	static const char *const names[] = { "debug", "info", "warn", "error" };
	static const enum bl_role roles[] = { BL_ROLE_DIM, BL_ROLE_TEXT, BL_ROLE_WARN, BL_ROLE_ERROR };
	struct bl_log_line line;

	(void)ctx;
	if (!bl_log_get(first_line() + (size_t)row, &line))
		return;
	if (column == 0)
		bl_wall_hhmm(line.wall_s, out->text);
	else if (column == 1)
		snprintf(out->text, sizeof out->text, "%s", names[line.level]);
	else
		snprintf(out->text, sizeof out->text, "%s", line.text);
	if (column == 1)
		out->role = roles[line.level];
}

static void log_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct log_state *st = state;
	struct bl_table t = { columns, 3, cell, NULL, n_lines(), st->search };

	(void)app;
	if (!t.n_rows) {
		bl_grid_text(g, v.row + 1, v.col + 2, v.cols - 2, BL_ROLE_TEXT, 0,
			     "Nothing has been said yet. Every message, warning and error is kept here.");
		return;
	}
	if (!st->placed) { /* what was said last is what one comes for */
		st->list.row = t.n_rows - 1;
		st->placed = true;
	}
	bl_table_draw(g, v, &t, &st->list);
}

static void text_of(void *ctx, int row, struct bl_str *out)
{
	struct bl_log_line line;

	(void)ctx;
	if (bl_log_get(first_line() + (size_t)row, &line))
		bl_str_add(out, line.text);
}

static unsigned log_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct log_state *st = state;
	unsigned react = bl_list_act(&st->list, a, arg, n_lines(), bl_app_body(app).rows - 1);
	struct bl_str text = { 0 };

	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_OPEN:
		text_of(NULL, st->list.row, &text);
		if (text.len)
			bl_app_show(app, BL_MSG_WARN, text.s); /* stays until dismissed, over several rows */
		bl_str_free(&text);
		return BL_REACT_REDRAW;
	case BL_ACT_SEARCH:
	case BL_ACT_SEARCH_NEXT:
	case BL_ACT_SEARCH_PREV:
		if (a != BL_ACT_SEARCH && !st->search[0])
			return BL_REACT_UNKNOWN;
		return bl_screen_search(app, &st->list, n_lines(), st->search, a, arg, text_of, NULL, "no message");
	default:
		return BL_REACT_UNKNOWN;
	}
}

static void log_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	(void)app;
	text_of(NULL, ((struct log_state *)state)->list.row, out);
}

const struct bl_screen bl_screen_log = {
	.name = "log",
	.title = "Log",
	.footer = "down up bottom open search copy back help",
	.state_bytes = sizeof(struct log_state),
	.draw = log_draw,
	.act = log_act,
	.row_text = log_row_text,
};
