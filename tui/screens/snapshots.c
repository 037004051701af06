/* SPDX-License-Identifier: Apache-2.0
 * Snapshots: the list above, below it what differs between the marked one (or the plan) and the one under the cursor. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/estimate/estimate.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

struct snapshots_state {
	struct bl_list list, diff;
	int marked;          /* snapshot to compare with; -1: the plan */
	bool in_diff;        /* Tab: the cursor is in the list of differences */
};

/* Side a or b of the comparison: NULL snapshot = the plan as it is. */
static const struct bl_choice *choice_of(const struct bl_app *app, int snapshot, int unit)
{
	const struct bl_plan *p = app->session->plan;

	return snapshot < 0 ? bl_plan_choice(p, unit) : bl_snapshot_choice(bl_plan_snapshot(p, snapshot), unit);
}

static bool same(const struct bl_choice *a, const struct bl_choice *b)
{
	return bl_scheme_equal(&a->scheme, &b->scheme) && !strcmp(a->method, b->method) &&
	       !strcmp(a->params ? a->params : "", b->params ? b->params : "");
}

static int n_differing(const struct bl_app *app, int a, int b)
{
	int n = 0;

	for (int i = 0; i < app->session->model->n_units; i++)
		n += !same(choice_of(app, a, i), choice_of(app, b, i));
	return n;
}

/* The k-th unit that differs, -1 past the end. */
static int differing(const struct bl_app *app, int a, int b, int k)
{
	for (int i = 0; i < app->session->model->n_units; i++)
		if (!same(choice_of(app, a, i), choice_of(app, b, i)) && k-- == 0)
			return i;
	return -1;
}

static double linear_mb(const struct bl_app *app, int snapshot)
{
	const struct bl_model *m = app->session->model;
	double bytes = 0;

	for (int i = 0; i < m->n_units; i++)
		bytes += (double)bl_unit_bytes(&m->units[i], &choice_of(app, snapshot, i)->scheme);
	return bytes / 1e6;
}

static const char *name_of(const struct bl_app *app, int snapshot)
{
	return snapshot < 0 ? "plan" : bl_plan_snapshot(app->session->plan, snapshot)->name;
}

/* A number that the snapshot carries, under a heading that ends at column `end`. */
static void number(const struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, int y, int end, double value, int decimals)
{
	char text[32];

	if (isfinite(value))
		snprintf(text, sizeof text, "%.*f", decimals, value);
	else
		snprintf(text, sizeof text, "%s", bl_app_glyph(app, "·", "."));
	bl_grid_text_right(g, y, v.col + end, 9, isfinite(value) ? BL_ROLE_TEXT : BL_ROLE_UNKNOWN, 0, text);
}

static void draw_snapshot(struct bl_app *app, struct snapshots_state *st, struct bl_grid_s *g, struct bl_grid_view v, int y, int i)
{
	const struct bl_snapshot *s = bl_plan_snapshot(app->session->plan, i);
	const struct bl_snapshot_results *r = s->results;
	char hhmm[6], units[24], name[80], note[120];
	int differs = n_differing(app, -1, i);

	bl_wall_hhmm(s->wall_s, hhmm);
	bl_printable(name, sizeof name, s->name);
	bl_printable(note, sizeof note, s->note ? s->note : "");
	snprintf(units, sizeof units, "%4d unit%s", differs, differs == 1 ? "" : "s");
	bl_grid_text(g, y, v.col + 1, 1, BL_ROLE_TEXT, 0, i == st->marked ? "*" : " ");
	bl_grid_text(g, y, v.col + 2, 18, BL_ROLE_TEXT, 0, name);
	bl_grid_text(g, y, v.col + 21, 5, BL_ROLE_TEXT, 0, hhmm);
	bl_grid_text(g, y, v.col + 27, 11, BL_ROLE_TEXT, 0, units);
	number(app, g, v, y, 48, linear_mb(app, i), 1);
	number(app, g, v, y, 57, r ? r->kl : NAN, 4);
	number(app, g, v, y, 64, r ? r->score : NAN, 3);
	bl_grid_text(g, y, v.col + 66, v.cols - 66, BL_ROLE_TEXT, 0, note);
	if (v.cols >= 100) {
		number(app, g, v, y, v.cols - 11, r ? r->ppl : NAN, 3);
		number(app, g, v, y, v.cols - 1, r ? r->mcq : NAN, 4);
	}
	if (i != st->list.row)
		return;
	bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, st->in_diff ? 0 : BL_ATTR_REVERSE);
	bl_grid_text(g, y, v.col, 1, BL_ROLE_SELECTED, BL_ATTR_REVERSE, bl_app_glyph(app, "▶", ">"));
}

static void draw_list(struct bl_app *app, struct snapshots_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	int n = bl_plan_n_snapshots(app->session->plan);

	bl_grid_text(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "   name               when   differs  linears MB       KL  score  note");
	if (v.cols >= 100)
		bl_grid_text_right(g, v.row, v.col + v.cols - 1, 20, BL_ROLE_HEADING, 0, "ppl     choices");
	bl_list_fit(&st->list, n, v.rows - 1);
	for (int i = st->list.top, y = v.row + 1; i < n && y < v.row + v.rows; i++, y++)
		draw_snapshot(app, st, g, v, y, i);
}

/* How much more the model diverges with the other side's choice for this unit alone: "+1.02"; "…" while one of the two is computed. */
static const char *kl_difference(struct bl_app *app, int u, const struct bl_choice *a, const struct bl_choice *b, bool want, char dst[24])
{
	char text[24];
	double d;

	bl_screen_kl_text(app, u, a, want, text); /* asks for both */
	bl_screen_kl_text(app, u, b, want, text);
	d = bl_screen_kl(app, u, b) - bl_screen_kl(app, u, a);
	if (isfinite(d))
		snprintf(dst, 24, "%+.2f", d);
	else if (bl_session_unit_kl_computing(app->session, u, a) || bl_session_unit_kl_computing(app->session, u, b))
		snprintf(dst, 24, "%s", bl_app_glyph(app, "…", "~"));
	else
		snprintf(dst, 24, "%s", bl_app_glyph(app, "·", "."));
	return dst;
}

static void draw_diff(struct bl_app *app, struct snapshots_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_model *m = app->session->model;
	int a = st->marked, b = st->list.row, n = n_differing(app, a, b);
	char here[BL_SCHEME_NAME_MAX], there[BL_SCHEME_NAME_MAX];
	bool cheap = bl_screen_kl_is_cheap(app);

	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "%s %s %s: %d unit%s", name_of(app, a),
		      bl_app_glyph(app, "→", "->"), name_of(app, b), n, n == 1 ? " differs" : "s differ");
	bl_grid_text(g, v.row + 1, v.col, v.cols, BL_ROLE_HEADING, 0, "  blk unit     here       there");
	bl_grid_text_right(g, v.row + 1, v.col + 44, 8, BL_ROLE_HEADING, 0, bl_app_glyph(app, "ΔMB", "d MB"));
	bl_grid_text_right(g, v.row + 1, v.col + 59, 14, BL_ROLE_HEADING, 0, bl_screen_errors_are_true(app) ? "err dB here" : "w-err dB here");
	bl_grid_text_right(g, v.row + 1, v.col + 67, 8, BL_ROLE_HEADING, 0, "there");
	bl_grid_text_right(g, v.row + 1, v.col + 78, 10, BL_ROLE_HEADING, 0, bl_app_glyph(app, "ΔKL·10³", "dKL*1e3"));
	bl_list_fit(&st->diff, n, v.rows - 2);
	for (int k = st->diff.top, y = v.row + 2; y < v.row + v.rows; k++, y++) {
		int u = differing(app, a, b, k);

		if (u < 0)
			break;
		const struct bl_choice *ca = choice_of(app, a, u), *cb = choice_of(app, b, u);
		double mb = ((double)bl_unit_bytes(&m->units[u], &cb->scheme) - (double)bl_unit_bytes(&m->units[u], &ca->scheme)) / 1e6;
		char ea[24], eb[24], kl[24], line[160];

		bl_screen_error_text(app, u, ca, ea);
		bl_screen_error_text(app, u, cb, eb);
		snprintf(line, sizeof line, "  %3d %-8s %-10s %-10s %+8.2f", m->units[u].block, bl_unit_kind_name(m->units[u].kind), bl_scheme_short(here, &ca->scheme),
			 bl_scheme_short(there, &cb->scheme), mb);
		bl_grid_text(g, y, v.col, v.cols, BL_ROLE_TEXT, 0, line);
		bl_grid_text_right(g, y, v.col + 59, 9, BL_ROLE_MEASURED, 0, ea);
		bl_grid_text_right(g, y, v.col + 67, 8, BL_ROLE_MEASURED, 0, eb);
		bl_grid_text_right(g, y, v.col + 78, 9, BL_ROLE_MEASURED, 0, kl_difference(app, u, ca, cb, cheap || (st->in_diff && k == st->diff.row), kl));
		if (st->in_diff && k == st->diff.row) {
			bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, BL_ATTR_REVERSE);
			bl_grid_text(g, y, v.col, 1, BL_ROLE_SELECTED, BL_ATTR_REVERSE, bl_app_glyph(app, "▶", ">"));
		}
	}
}

static void snapshots_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view body)
{
	struct snapshots_state *st = state;
	int n = bl_plan_n_snapshots(app->session->plan);

	if (!n) {
		bl_grid_text(g, body.row + 1, body.col + 2, body.cols - 2, BL_ROLE_TEXT, 0, "No snapshots yet.");
		bl_grid_text(g, body.row + 3, body.col + 2, body.cols - 2, BL_ROLE_HINT, 0,
			     "A snapshot keeps every unit's scheme, method and parameters under a name.");
		bl_grid_text(g, body.row + 4, body.col + 2, body.cols - 2, BL_ROLE_HINT, 0,
			     "n saves the plan as it is now; here you will compare and restore.");
		return;
	}
	bl_list_fit(&st->list, n, body.rows);
	if (st->marked >= n)
		st->marked = -1;
	int list_rows = body.rows / 2 < n + 1 ? body.rows / 2 : n + 1;
	if (list_rows < 2)
		list_rows = 2;
	draw_list(app, st, g, (struct bl_grid_view){body.row, body.col, list_rows, body.cols});
	if (body.rows > list_rows + 3) {
		bl_grid_hline(g, body.row + list_rows, body.col, body.cols, BL_ROLE_RULE);
		draw_diff(app, st, g,
			  (struct bl_grid_view){body.row + list_rows + 1, body.col, body.rows - list_rows - 1, body.cols});
	}
}

static void snapshots_enter(struct bl_app *app, void *state, const char *arg)
{
	struct snapshots_state *st = state;

	st->marked = -1;
	if (arg && *arg) {
		int i = bl_plan_find_snapshot(app->session->plan, arg);
		if (i >= 0)
			st->list.row = i;
	}
}

static unsigned restore(struct bl_app *app, int i)
{
	struct bl_err err = BL_ERR_INIT;
	char name[80];

	bl_printable(name, sizeof name, bl_plan_snapshot(app->session->plan, i)->name);
	if (bl_plan_snapshot_restore(app->session->plan, i, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	bl_app_edited(app);
	bl_app_message(app, BL_MSG_INFO, "restored %s (u undoes)", name);
	return BL_REACT_REDRAW | BL_REACT_EDITED;
}

static unsigned take_unit(struct bl_app *app, struct snapshots_state *st)
{
	struct bl_plan *p = app->session->plan;
	int u = differing(app, st->marked, st->list.row, st->diff.row);
	char label[32], step[64];

	if (u < 0)
		return BL_REACT_REDRAW;
	const struct bl_choice *c = choice_of(app, st->list.row, u);
	snprintf(step, sizeof step, "take %s from a snapshot", bl_edit_unit_label(app, u, label));
	bl_plan_begin(p, step);
	bool ok = bl_plan_set_choice(p, u, c);
	if (bl_plan_end(p))
		bl_app_edited(app);
	bl_app_message(app, ok ? BL_MSG_INFO : BL_MSG_WARN, ok ? "took %s from %s (u undoes)" : "%s is locked; %s was not taken", label,
		       name_of(app, st->list.row));
	return BL_REACT_REDRAW | BL_REACT_EDITED;
}

static unsigned snapshots_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct snapshots_state *st = state;
	struct bl_plan *p = app->session->plan;
	struct bl_err err = BL_ERR_INIT;
	int n = bl_plan_n_snapshots(p), n_diff = n ? n_differing(app, st->marked, st->list.row < n ? st->list.row : 0) : 0;

	unsigned react = st->in_diff ? bl_list_act(&st->diff, a, arg, n_diff, 8) : bl_list_act(&st->list, a, arg, n, 8);
	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_PANE_NEXT: case BL_ACT_PANE_PREV:
		st->in_diff = !st->in_diff && n_diff > 0;
		return BL_REACT_REDRAW;
	default: break;
	}
	if (!n)
		return BL_REACT_UNKNOWN;
	switch (a) {
	case BL_ACT_OPEN: return st->in_diff ? take_unit(app, st) : restore(app, st->list.row);
	case BL_ACT_SNAPSHOT_TAKE: return take_unit(app, st);
	case BL_ACT_COMPARE:
		if (*arg) {
			int i = bl_plan_find_snapshot(p, arg);
			if (i < 0)
				bl_app_message(app, BL_MSG_ERROR, "no snapshot is called \"%s\"", arg);
			else
				st->marked = i;
		} else {
			st->marked = st->marked == st->list.row ? -1 : st->list.row;
			bl_app_message(app, BL_MSG_INFO, st->marked < 0 ? "comparing with the plan" :
				       "comparing with %s: move to the other one", name_of(app, st->marked));
		}
		return BL_REACT_REDRAW;
	case BL_ACT_SNAPSHOT_RENAME:
		if (!*arg)
			bl_app_prompt(app, "new name: ", bl_plan_snapshot(p, st->list.row)->name, NULL, BL_ACT_SNAPSHOT_RENAME);
		else if (bl_plan_snapshot_rename(p, st->list.row, arg, &err))
			bl_app_message_err(app, &err);
		else
			bl_app_edited(app);
		return BL_REACT_REDRAW;
	case BL_ACT_SNAPSHOT_DROP:
		bl_app_message(app, BL_MSG_INFO, "dropped %s (u undoes)", name_of(app, st->list.row));
		bl_plan_snapshot_drop(p, st->list.row);
		st->marked = -1;
		bl_app_edited(app);
		return BL_REACT_REDRAW | BL_REACT_EDITED;
	default: return BL_REACT_UNKNOWN;
	}
}

static void snapshots_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	const struct snapshots_state *st = state;

	if (st->list.row < bl_plan_n_snapshots(app->session->plan))
		bl_str_add(out, name_of(app, st->list.row));
}

const struct bl_screen bl_screen_snapshots = {
	.name = "snapshots",
	.title = "Snapshots",
	.footer = "open snapshot rename drop compare take pane-next back help",
	.state_bytes = sizeof(struct snapshots_state),
	.enter = snapshots_enter,
	.draw = snapshots_draw,
	.act = snapshots_act,
	.row_text = snapshots_row_text,
};
