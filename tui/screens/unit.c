/* SPDX-License-Identifier: Apache-2.0
 * One unit in detail: its weights and what flows in, a pane (unit_panes.c), and below it every offered scheme with its size, error, effect on the
 * model, modelled time and the target's verdict. Enter takes a scheme into the plan. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/estimate/estimate.h"
#include "core/session/tryout.h"
#include "tui/app_private.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/screens/unit_panes.h"
#include "tui/widgets/table.h"

struct unit_state {
	struct bl_list list;
	int unit, pane;
	bool log;
	bool cheap; /* every row may be measured */
};

/* What the unit is now: the plan's choice, or what a checkpoint stores that is quantized already. */
static const struct bl_scheme *own_scheme(const struct bl_app *app, const struct unit_state *st)
{
	return bl_session_scheme(app->session, st->unit, NULL);
}

static bool is_stored(const struct bl_app *app)
{
	return app->session->model->config.quant_method[0] != '\0';
}

/* The rows of the table: the offered schemes, and the unit's own when it is not among them. */
static int n_candidates(const struct bl_app *app, const struct unit_state *st)
{
	int n;
	const struct bl_scheme_row *rows = bl_scheme_rows(&n);
	const struct bl_scheme *mine = own_scheme(app, st);

	for (int i = 0; i < n; i++)
		if (bl_scheme_equal(&rows[i].scheme, mine))
			return n;
	return n + 1;
}

static struct bl_scheme candidate(const struct bl_app *app, const struct unit_state *st, int i)
{
	int n;
	const struct bl_scheme_row *rows = bl_scheme_rows(&n);

	return i < n ? rows[i].scheme : *own_scheme(app, st);
}

/* The choice a row stands for: the plan's method and parameters where it has one, else the default. */
static struct bl_choice choice_for(const struct bl_app *app, const struct unit_state *st, const struct bl_scheme *s)
{
	struct bl_choice c = *bl_plan_choice(app->session->plan, st->unit);

	if (!bl_plan_keeps_method(&c, s)) {
		memset(c.method, 0, sizeof c.method);
		snprintf(c.method, sizeof c.method, "%s", bl_plan_usual_method(s));
		c.params = "";
	}
	c.scheme = *s;
	return c;
}

/* ---- head and table ---- */

#define ROWS_FOR_INPUT 14 /* of the body: fewer have no room for the lines about the input */

static void draw_title(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[st->unit];
	const struct bl_choice *c = bl_plan_choice(app->session->plan, st->unit);
	const struct bl_input_stats *x = bl_session_input(app->session, st->unit);
	char scheme[BL_SCHEME_NAME_MAX], input[64];
	const char *dot = bl_app_glyph(app, "·", "-"), *format;
	const struct bl_scheme *is = bl_session_scheme(app->session, st->unit, &format);
	int used;

	used = bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "block %d %s %s [%lldx%lld] %s %s %s %s%s%s%s", u->block, dot,
			     bl_unit_kind_name(u->kind), (long long)u->rows, (long long)u->cols, dot, bl_scheme_name(scheme, is), dot,
			     format ? format : c->method[0] ? c->method : "-", c->params && *c->params ? " " : "", c->params ? c->params : "",
			     c->locked ? "  locked" : "");
	if (!x || !x->n_outlier_channels)
		return;
	snprintf(input, sizeof input, "|x|max %.4g, ch %d", (double)x->outlier[0].absmax, x->outlier[0].channel);
	if (used + 2 + bl_text_width(input) <= v.cols)
		bl_grid_text_right(g, v.row, v.col + v.cols, v.cols, BL_ROLE_WARN, 0, input);
}

/* Returns the rows used. */
static int draw_head(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_weight_stats *s = bl_session_stats(app->session, st->unit);
	const char *dot = bl_app_glyph(app, "·", "-");
	int y = v.row + 1;

	draw_title(app, st, g, v);
	if (s)
		bl_grid_textf(g, y, v.col, v.cols, BL_ROLE_TEXT, 0,
			      "weights  %.4g %s %.4g  rms %.4g  kurt %.1f  outl %.3f %%  spread %.1f", (double)s->min,
			      bl_app_glyph(app, "…", ".."), (double)s->max, s->rms, s->kurtosis, 100 * s->outlier_share,
			      s->channel.median > 0 ? (double)(s->channel.max / s->channel.median) : 0.0);
	else if (is_stored(app))
		bl_grid_text(g, y, v.col, v.cols, BL_ROLE_DIM, 0, "weights  quantized in the file: codes and scales, no values to look at");
	y++;
	if (v.rows >= ROWS_FOR_INPUT) {
		bl_unit_input_line(app, st->unit, g, v, y++);
		bl_unit_channels_line(app, st->unit, g, v, y++);
	}
	if (s && s->n_nonfinite)
		bl_grid_textf(g, y, v.col, v.cols, BL_ROLE_ERROR, 0, "%llu NaN or Inf, first at %s[%lld,%lld] %s :allow-nonfinite stores zeros",
			      (unsigned long long)s->n_nonfinite, s->n_first ? s->first_nonfinite[0].tensor : "?",
			      s->n_first ? (long long)s->first_nonfinite[0].row : -1, s->n_first ? (long long)s->first_nonfinite[0].col : -1, dot);
	else
		bl_grid_textf(g, y, v.col, v.cols, BL_ROLE_DIM, 0, "%s (Tab: %s)", bl_unit_pane_name(st->pane),
			      bl_unit_pane_name((st->pane + 1) % BL_PANE_COUNT));
	return y + 1 - v.row;
}

static void draw_candidate(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v, int y, int i)
{
	const struct bl_unit *u = &app->session->model->units[st->unit];
	struct bl_scheme s = candidate(app, st, i);
	struct bl_choice c = choice_for(app, st, &s);
	struct bl_quantity q = bl_unit_time(u, &s, app->session->target, 8);
	struct bl_verdict verdict;
	char name[BL_SCHEME_NAME_MAX], text[24], us[24] = "";
	bool mine = bl_scheme_equal(&s, own_scheme(app, st)), stored = is_stored(app);
	const char *here = stored ? bl_app_glyph(app, "← in file  ", "<- in file  ") : bl_app_glyph(app, "← plan  ", "<- plan  ");

	bl_target_check_unit(&verdict, app->session->target, app->session->model, st->unit, &s);
	if (q.origin != BL_UNKNOWN)
		snprintf(us, sizeof us, "%.1f", q.value);
	if (bl_text_width(bl_scheme_name(name, &s)) > 14)
		bl_scheme_short(name, &s);
	bl_grid_text(g, y, v.col + 2, 14, bl_edit_scheme_role(&s), 0, name);
	bl_grid_text(g, y, v.col + 17, 6, BL_ROLE_TEXT, 0, s.number == BL_NUM_FULL ? bl_app_glyph(app, "–", "-") : stored ? mine ? "file" : "" : c.method);
	bl_grid_textf(g, y, v.col + 23, 6, BL_ROLE_TEXT, 0, "%6.2f", (double)bl_unit_bytes(u, &s) / 1e6);
	bl_grid_text_right(g, y, v.col + 38, 9, BL_ROLE_MEASURED, 0, stored ? "" : bl_screen_error_text(app, st->unit, &c, text));
	/* a run of the model each: where that takes long, for the plan's own and the row under the cursor */
	bl_grid_text_right(g, y, v.col + 45, 7, BL_ROLE_MEASURED, 0, stored ? "" : bl_screen_kl_text(app, st->unit, &c, st->cheap || mine || i == st->list.row, text));
	bl_grid_text_right(g, y, v.col + 52, 7, BL_ROLE_MODELLED, 0, *us ? us : bl_app_glyph(app, "·", "."));
	bl_grid_text(g, y, v.col + 54, 1, verdict.legal ? (verdict.sentence[0] ? BL_ROLE_WARN : BL_ROLE_GOOD) : BL_ROLE_ERROR, 0,
		     !verdict.legal ? bl_app_glyph(app, "✗", "x") : verdict.sentence[0] ? "!" : bl_app_glyph(app, "✓", "+"));
	bl_grid_textf(g, y, v.col + 56, v.cols - 56, verdict.legal ? BL_ROLE_TEXT : BL_ROLE_WARN, 0, "%s%s%s%s",
		      mine ? here : "", verdict.legal && verdict.kernel ? verdict.kernel : "",
		      verdict.legal && verdict.sentence[0] ? ": " : "", verdict.legal ? verdict.sentence : bl_app_reason(verdict.sentence, v.cols - 56));
	if (i == st->list.row)
		bl_screen_cursor(app, g, v, y);
}

static void draw_table(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	int n = n_candidates(app, st), rows = v.rows - 1;
	static const struct {
		const char *title;
		int end;
	} titles[] = {{"MB", 29}, {"err dB", 38}, {"KL·10³", 45}, {"~µs", 52}};

	bl_grid_text(g, v.row, v.col + 2, 14, BL_ROLE_HEADING, 0, "scheme");
	bl_grid_text(g, v.row, v.col + 17, 6, BL_ROLE_HEADING, 0, "method");
	for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
		bl_grid_text_right(g, v.row, v.col + titles[i].end, 8, BL_ROLE_HEADING, 0,
				   i == 1 && !bl_screen_errors_are_true(app) ? "w-err dB" : i == 2 ? bl_app_glyph(app, "KL·10³", "KL*1e3") : titles[i].title);
	bl_grid_textf(g, v.row, v.col + 54, v.cols - 54, BL_ROLE_HEADING, 0, v.cols - 54 >= 12 + bl_text_width(app->session->target->title) ? "served by (%s)" : "served by",
		      app->session->target->title);
	if (rows < 1)
		return;
	bl_list_fit(&st->list, n, rows);
	st->cheap = bl_screen_kl_is_cheap(app);
	for (int i = st->list.top, y = v.row + 1; i < n && y < v.row + v.rows; i++, y++)
		draw_candidate(app, st, g, v, y, i);
}

static void unit_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct unit_state *st = state;
	int head = draw_head(app, st, g, v), n = n_candidates(app, st), pane_rows = v.rows - head - 2 - n - 1;
	bool small = v.rows < 11; /* room for one of the two: Tab goes from the table through the panes */

	if (small)
		pane_rows = st->pane ? v.rows - head : 0;
	else if (pane_rows < 6)
		pane_rows = v.rows >= 18 ? 6 : v.rows / 3;
	bl_unit_pane_draw(app, st->unit, st->pane, st->log, g, (struct bl_grid_view){v.row + head, v.col, pane_rows, v.cols});
	if (!small)
		bl_grid_hline(g, v.row + head + pane_rows++, v.col, v.cols, BL_ROLE_RULE);
	head += pane_rows;
	if (!small || !st->pane)
		draw_table(app, st, g, (struct bl_grid_view){v.row + head, v.col, v.rows - head, v.cols});
	bl_session_want(app->session, st->unit, st->unit);
	bl_session_want_errors(app->session, st->unit, st->unit);
}

/* ---- actions ---- */

static void to_plan_row(struct bl_app *app, struct unit_state *st)
{
	for (int i = 0; i < n_candidates(app, st); i++) {
		struct bl_scheme s = candidate(app, st, i);
		if (bl_scheme_equal(&s, own_scheme(app, st)))
			st->list.row = i;
	}
}

static unsigned edit(struct bl_app *app, struct unit_state *st, enum bl_action a, const char *arg)
{
	uint8_t *sel = bl_xalloc((size_t)app->session->model->n_units + 1, 1);
	unsigned react;

	sel[st->unit] = 1;
	if (a == BL_ACT_OPEN) {
		struct bl_scheme s = candidate(app, st, st->list.row);
		react = bl_edit_scheme(app, sel, &s);
	} else if (bl_edit_scheme_of(a)) {
		react = bl_edit_scheme(app, sel, bl_edit_scheme_of(a));
	} else if (a == BL_ACT_SCHEME) {
		react = bl_edit_scheme_text(app, sel, arg);
	} else if (a == BL_ACT_METHOD) {
		react = *arg ? bl_edit_method_text(app, sel, arg) : bl_screen_open_methods(app, sel);
	} else if (a == BL_ACT_SOLVE_WITH) {
		react = bl_screen_open_parameters(app, sel, arg);
	} else {
		react = bl_edit_lock(app, sel);
	}
	bl_free(sel);
	to_plan_row(app, st);
	return react;
}

/* The row under the cursor, whether or not it is the plan's: its numbers come first. */
static unsigned solve_row(struct bl_app *app, struct unit_state *st)
{
	struct bl_scheme s = candidate(app, st, st->list.row);
	struct bl_choice c = choice_for(app, st, &s);
	char name[BL_SCHEME_NAME_MAX];

	if (bl_edit_is_quantized(app))
		return BL_REACT_REDRAW;
	if (s.number == BL_NUM_FULL) {
		bl_app_message(app, BL_MSG_INFO, "full precision has nothing to solve");
		return BL_REACT_REDRAW;
	}
	bl_session_try(app->session, st->unit, &c, 1);
	bl_app_message(app, BL_MSG_INFO, "solving as %s with %s: its row shows error and KL when they are there", bl_scheme_name(name, &s), c.method);
	return BL_REACT_REDRAW;
}

static unsigned jump(struct bl_app *app, struct unit_state *st, enum bl_action a)
{
	const struct bl_model *m = app->session->model;
	int step = a == BL_ACT_BLOCK_NEXT || a == BL_ACT_KIND_NEXT ? 1 : -1;

	for (int i = st->unit + step; i >= 0 && i < m->n_units; i += step)
		if (m->units[i].kind == m->units[st->unit].kind) { /* next block, same kind: both keys mean it here */
			st->unit = i;
			to_plan_row(app, st);
			break;
		}
	return BL_REACT_REDRAW;
}

static unsigned unit_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct unit_state *st = state;
	unsigned react = bl_list_act(&st->list, a, arg, n_candidates(app, st), 8);

	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_PANE_NEXT: st->pane = (st->pane + 1) % BL_PANE_COUNT; break;
	case BL_ACT_PANE_PREV: st->pane = (st->pane + BL_PANE_COUNT - 1) % BL_PANE_COUNT; break;
	case BL_ACT_SCALE:
		st->log = !st->log;
		if (st->pane != BL_PANE_INPUT && st->pane != BL_PANE_TOKENS)
			st->pane = BL_PANE_HISTOGRAM;
		break;
	case BL_ACT_BLOCK_NEXT: case BL_ACT_BLOCK_PREV: case BL_ACT_KIND_NEXT: case BL_ACT_KIND_PREV: return jump(app, st, a);
	case BL_ACT_SCHEME:
		if (!*arg) {
			bl_app_prompt(app, "scheme: ", NULL, "SCHEME", a);
			break;
		}
		return edit(app, st, a, arg);
	case BL_ACT_SOLVE: return solve_row(app, st);
	case BL_ACT_METHOD: case BL_ACT_SOLVE_WITH: case BL_ACT_OPEN: case BL_ACT_LOCK: return edit(app, st, a, arg);
	default: return bl_edit_scheme_of(a) ? edit(app, st, a, arg) : BL_REACT_UNKNOWN;
	}
	return BL_REACT_REDRAW;
}

static void unit_enter(struct bl_app *app, void *state, const char *arg)
{
	struct unit_state *st = state;

	st->unit = arg ? atoi(arg) : 0;
	if (st->unit < 0 || st->unit >= app->session->model->n_units)
		st->unit = 0;
	st->log = bl_settings_bool(app->settings, BL_SET_LOG_SCALE);
	to_plan_row(app, st);
	bl_session_start_stats(app->session);
}

static void unit_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	const struct unit_state *st = state;

	bl_str_add(out, app->session->model->units[st->unit].name);
}

const struct bl_screen bl_screen_unit = {
	.name = "unit",
	.title = "Unit",
	.footer = "open=take pane-next=pane method solve solve-with=with scale lock back help",
	.state_bytes = sizeof(struct unit_state),
	.enter = unit_enter,
	.draw = unit_draw,
	.act = unit_act,
	.row_text = unit_row_text,
};
