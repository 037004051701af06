/* SPDX-License-Identifier: Apache-2.0
 * Problems: what the serving target says about the plan, and what opening the checkpoint noticed. Enter goes to the unit. */
#include <stdio.h>

#include "core/base/str.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

struct problems_state { struct bl_list list; };

static int count(struct bl_app *app, int *n_plan)
{
	bl_session_problems(app->session, n_plan, NULL);
	return *n_plan + app->session->model->n_problems;
}

/* The sentence wrapped at blanks; returns rows used. */
static int wrapped(struct bl_grid_s *g, struct bl_grid_view v, int y, enum bl_role role, const char *text)
{
	int used = 0;
	char part[512];

	while (*text && y + used < v.row + v.rows) {
		size_t len = 0, cut = 0;
		int width = v.cols - 6;

		while (text[len] && (int)len < width) {
			if (text[len] == ' ')
				cut = len;
			len++;
		}
		if (text[len] && cut)
			len = cut;
		while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80) /* not inside a UTF-8 character */
			len--;
		if (!len)
			break;
		snprintf(part, sizeof part, "%.*s", (int)len, text);
		bl_grid_text(g, y + used++, v.col + 6, v.cols - 6, role, 0, part);
		text += len;
		while (*text == ' ')
			text++;
	}
	return used ? used : 1;
}

static void problems_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct problems_state *st = state;
	int n_plan, n_all = count(app, &n_plan), y = v.row + 1;
	const struct bl_problem *problems = bl_session_problems(app->session, NULL, NULL);

	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "%d of the plan for %s, %d of the checkpoint", n_plan,
		      app->session->target->title, n_all - n_plan);
	if (!n_all) {
		bl_grid_text(g, v.row + 2, v.col + 2, v.cols - 2, BL_ROLE_GOOD, 0,
			     "Nothing to complain about: every unit has a kernel on the target.");
		return;
	}
	bl_list_fit(&st->list, n_all, (v.rows - 1) / 2);
	for (int i = st->list.top; i < n_all && y < v.row + v.rows; i++) {
		bool fatal = i < n_plan && problems[i].fatal;
		char label[32] = "";
		int first = y;

		if (i < n_plan && problems[i].unit >= 0)
			bl_edit_unit_label(app, problems[i].unit, label);
		bl_grid_textf(g, y, v.col + 2, v.cols - 2, fatal ? BL_ROLE_ERROR : BL_ROLE_WARN, 0, "%s %s%s%s",
			      fatal ? bl_app_glyph(app, "✗", "x") : "!", i < n_plan ? label : "checkpoint",
			      i < n_plan && problems[i].rule ? "  rule " : "", i < n_plan && problems[i].rule ? problems[i].rule : "");
		y++;
		y += wrapped(g, v, y, BL_ROLE_TEXT, i < n_plan ? problems[i].sentence : app->session->model->problems[i - n_plan]);
		if (i == st->list.row) {
			bl_grid_paint(g, first, v.col, v.cols, BL_ROLE_SELECTED, BL_ATTR_REVERSE);
			bl_grid_text(g, first, v.col, 1, BL_ROLE_SELECTED, BL_ATTR_REVERSE, bl_app_glyph(app, "▶", ">"));
		}
	}
}

static unsigned problems_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct problems_state *st = state;
	int n_plan, n_all = count(app, &n_plan);
	char unit[32];

	unsigned react = bl_list_act(&st->list, a, arg, n_all, 16);
	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_OPEN:
		if (st->list.row < n_plan && bl_session_problems(app->session, NULL, NULL)[st->list.row].unit >= 0) {
			snprintf(unit, sizeof unit, "%d", bl_session_problems(app->session, NULL, NULL)[st->list.row].unit);
			bl_app_push(app, "unit", unit);
		}
		return BL_REACT_REDRAW;
	default: return BL_REACT_UNKNOWN;
	}
	return BL_REACT_REDRAW;
}

const struct bl_screen bl_screen_problems = {
	.name = "problems",
	.title = "Problems",
	.footer = "open down up target back help",
	.state_bytes = sizeof(struct problems_state),
	.draw = problems_draw,
	.act = problems_act,
};
