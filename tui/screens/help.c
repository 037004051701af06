/* SPDX-License-Identifier: Apache-2.0
 * Help: every command that works on the screen one came from, with the keys bound to it now, in groups. Scrolls,
 * searches; Enter runs the command under the cursor. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

#define WIDE        110 /* columns for command, arguments and sentence in one row */
#define DETAIL_ROWS 3
#define ROWS_MAX    (BL_ACTION_COUNT + 16)

struct help_row {
	int action;
	const char *group;
}; /* action -1: a heading or, with group NULL, a blank */
struct help_state {
	struct bl_list list;
	const struct bl_screen *of;
	struct help_row rows[ROWS_MAX];
	int n;
	char search[128];
};

static void help_enter(struct bl_app *app, void *state, const char *arg)
{
	static const char *const groups[] = { "Move", "Choose", "Plan", "Work", "Look", "Program" };
	struct help_state *st = state;

	(void)arg;
	st->of = bl_app_below(app) ? bl_app_below(app) : bl_app_top(app);
	for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
		int before = st->n;

		if (st->n)
			st->rows[st->n++] = (struct help_row){ -1, NULL };
		st->rows[st->n++] = (struct help_row){ -1, groups[g] };
		for (int a = 0; a < BL_ACTION_COUNT; a++)
			if (!strcmp(bl_action_row((enum bl_action)a)->group, groups[g]) &&
			    bl_action_on_screen((enum bl_action)a, st->of->name))
				st->rows[st->n++] = (struct help_row){ a, groups[g] };
		if (st->rows[st->n - 1].action < 0) /* nothing in this group */
			st->n = before;
	}
	st->list.row = 1;
}

static void texts(struct bl_app *app, const struct help_state *st, int row, char *keys, char *command)
{
	const struct bl_action_row *r;

	keys[0] = command[0] = '\0';
	if (st->rows[row].action < 0)
		return;
	r = bl_action_row((enum bl_action)st->rows[row].action);
	bl_app_keys_on(app, st->of->name, (enum bl_action)st->rows[row].action, keys, 64);
	snprintf(command, 96, ":%s%s%s", r->name, r->args[0] ? " " : "", r->args);
}

static void text_of(void *ctx, int row, struct bl_str *out)
{
	struct {
		struct bl_app *app;
		struct help_state *st;
	} *c = ctx;
	char keys[64], command[96];

	if (c->st->rows[row].action < 0)
		return;
	texts(c->app, c->st, row, keys, command);
	bl_str_addf(out, "%s %s %s", keys, command, bl_action_row((enum bl_action)c->st->rows[row].action)->sentence);
}

static void draw_row(struct bl_app *app, struct help_state *st, struct bl_grid_s *g, struct bl_grid_view v, int y,
		     int row)
{
	char keys[64], command[96];
	int wide = v.cols >= WIDE, x = v.col + 2, key_cols = v.cols >= 60 ? 16 : 8, command_cols = wide ? 44 : 18;

	if (st->rows[row].action < 0) {
		if (st->rows[row].group)
			bl_grid_text(g, y, v.col, v.cols, BL_ROLE_HEADING, 0, st->rows[row].group);
		return;
	}
	texts(app, st, row, keys, command);
	if (!wide)
		command[strcspn(command, " ")] = '\0';
	bl_grid_text(g, y, x, key_cols, BL_ROLE_KEY, 0, keys);
	bl_grid_text(g, y, x + key_cols + 1, command_cols, BL_ROLE_TEXT, 0, command);
	x += key_cols + 1 + command_cols + 1;
	bl_grid_text(g, y, x, v.col + v.cols - x, BL_ROLE_DIM, 0,
		     bl_action_row((enum bl_action)st->rows[row].action)->sentence);
}

/* Narrow columns cut what they show, so the row under the cursor stands below in full. */
static void draw_detail(struct bl_app *app, struct help_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	char keys[64], command[96];
	int row = st->list.row, y = v.row + v.rows - DETAIL_ROWS;

	bl_grid_hline(g, y, v.col, v.cols, BL_ROLE_RULE);
	if (st->rows[row].action < 0)
		return;
	texts(app, st, row, keys, command);
	bl_grid_text(g, y + 1, v.col + 2, v.cols - 2, BL_ROLE_KEY, 0, command);
	bl_grid_text(g, y + 2, v.col + 2, v.cols - 2, BL_ROLE_TEXT, 0,
		     bl_action_row((enum bl_action)st->rows[row].action)->sentence);
}

static int visible_rows(struct bl_grid_view v)
{
	return v.rows - 1 - (v.rows >= 10 && v.cols < WIDE ? DETAIL_ROWS : 0);
}

static void help_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct help_state *st = state;
	int visible = visible_rows(v);

	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0,
		      "Keys and commands of: %s  (%d of %d; / searches, Enter runs it)", st->of->title,
		      st->list.row + 1, st->n);
	bl_list_fit(&st->list, st->n, visible);
	for (int i = 0; i < visible && st->list.top + i < st->n; i++) {
		int y = v.row + 1 + i;

		draw_row(app, st, g, v, y, st->list.top + i);
		if (st->list.top + i == st->list.row) {
			bl_grid_text(g, y, v.col, 1, BL_ROLE_SELECTED, 0, ">");
			bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, 0);
		}
	}
	if (visible < v.rows - 1)
		draw_detail(app, st, g, v);
}

static unsigned help_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct help_state *st = state;
	struct {
		struct bl_app *app;
		struct help_state *st;
	} c = { app, st };
	unsigned react = bl_list_act(&st->list, a, arg, st->n, visible_rows(bl_app_body(app)));
	int action;

	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_OPEN:
		action = st->rows[st->list.row].action;
		if (action < 0)
			return BL_REACT_REDRAW;
		bl_app_pop(app);
		if (bl_action_row((enum bl_action)action)->args[0] == '[') {
			bl_action_ask_argument(app, (enum bl_action)action);
			return BL_REACT_REDRAW;
		}
		return bl_action_run(app, (enum bl_action)action, "");
	case BL_ACT_HELP:
		return BL_REACT_REDRAW;
	case BL_ACT_SEARCH:
	case BL_ACT_SEARCH_NEXT:
	case BL_ACT_SEARCH_PREV:
		return bl_screen_search(app, &st->list, st->n, st->search, a, arg, text_of, &c, "nothing here");
	default:
		return BL_REACT_UNKNOWN;
	}
}

static void help_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	struct {
		struct bl_app *app;
		struct help_state *st;
	} c = { app, state };

	text_of(&c, c.st->list.row, out);
}

const struct bl_screen bl_screen_help = {
	.name = "help",
	.title = "Help",
	.footer = "down up page-down search open=run back",
	.state_bytes = sizeof(struct help_state),
	.enter = help_enter,
	.draw = help_draw,
	.act = help_act,
	.row_text = help_row_text,
};
