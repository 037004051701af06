/* SPDX-License-Identifier: Apache-2.0
 * Problems: what the serving target says about the plan, and what opening the checkpoint noticed. Enter goes to the unit. */
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

struct problems_state { struct bl_list list; };

static bool is_nonfinite(const struct bl_app *app, int unit)
{
	const struct bl_weight_stats *s = bl_session_stats(app->session, unit);

	return s && s->n_nonfinite;
}

/* The k-th unit whose weights are not all finite, -1 past the end (or not read yet). */
static int nonfinite_unit(const struct bl_app *app, int k)
{
	for (int i = 0; i < app->session->model->n_units; i++)
		if (is_nonfinite(app, i) && k-- == 0)
			return i;
	return -1;
}

static int count(struct bl_app *app, int *n_plan)
{
	int n = 0;

	bl_session_problems(app->session, n_plan, NULL);
	for (int i = 0; i < app->session->model->n_units; i++)
		n += is_nonfinite(app, i);
	return *n_plan + app->session->model->n_problems + n;
}

/* One row of the list: of the plan, of what opening noticed, of weights that are not finite. */
struct problem { int unit; bool fatal; const char *rule; char label[32], text[400]; };

static struct problem problem_at(struct bl_app *app, int i)
{
	const struct bl_model *m = app->session->model;
	struct problem p = { -1, false, NULL, "checkpoint", "" };
	int n_plan;
	const struct bl_problem *of_plan = bl_session_problems(app->session, &n_plan, NULL);

	if (i < n_plan) {
		p.unit = of_plan[i].unit;
		p.fatal = of_plan[i].fatal;
		p.rule = of_plan[i].rule;
		snprintf(p.text, sizeof p.text, "%s", of_plan[i].sentence);
		p.label[0] = '\0';
	} else if (i < n_plan + m->n_problems) {
		snprintf(p.text, sizeof p.text, "%s", m->problems[i - n_plan]);
	} else if ((p.unit = nonfinite_unit(app, i - n_plan - m->n_problems)) >= 0) {
		bool zero = bl_plan_zero_nonfinite(app->session->plan);

		bl_edit_nonfinite(app, p.unit, p.text, 160);
		p.fatal = !zero;
		strcat(p.text, zero ? ": stored as zero" : ": the export refuses them; :allow-nonfinite stores zeros");
	}
	if (p.unit >= 0)
		bl_edit_unit_label(app, p.unit, p.label);
	return p;
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

	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "%d of the plan for %s, %d of the checkpoint", n_plan,
		      app->session->target->title, n_all - n_plan);
	if (!n_all) {
		bl_grid_text(g, v.row + 2, v.col + 2, v.cols - 2, BL_ROLE_GOOD, 0,
			     "Nothing to complain about: every unit has a kernel on the target.");
		return;
	}
	bl_list_fit(&st->list, n_all, (v.rows - 1) / 2);
	for (int i = st->list.top; i < n_all && y < v.row + v.rows; i++) {
		struct problem p = problem_at(app, i);
		int first = y;

		bl_grid_textf(g, y, v.col + 2, v.cols - 2, p.fatal ? BL_ROLE_ERROR : BL_ROLE_WARN, 0, "%s %s%s%s",
			      p.fatal ? bl_app_glyph(app, "✗", "x") : "!", p.label, p.rule ? "  rule " : "", p.rule ? p.rule : "");
		y++;
		y += wrapped(g, v, y, BL_ROLE_TEXT, p.text);
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
		if (st->list.row < n_all && problem_at(app, st->list.row).unit >= 0) {
			snprintf(unit, sizeof unit, "%d", problem_at(app, st->list.row).unit);
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
