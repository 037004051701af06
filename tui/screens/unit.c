/* SPDX-License-Identifier: Apache-2.0
 * One unit in detail: a pane with its weights (histogram, output channels, input channels, members) and below it every offered scheme with
 * its size, weight-only error, modelled time and the target's verdict. Enter takes a scheme into the plan. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/estimate/estimate.h"
#include "tui/edit.h"
#include "tui/screens/screens.h"
#include "tui/widgets/histogram.h"
#include "tui/widgets/table.h"

enum pane { PANE_HISTOGRAM, PANE_OUT, PANE_IN, PANE_MEMBERS, PANE_COUNT };

struct unit_state {
	struct bl_list list;
	int unit, pane;
	bool log;
};

/* The rows of the table: the offered schemes, and the plan's own when it is not among them. */
static int n_candidates(const struct bl_app *app, const struct unit_state *st)
{
	int n;
	const struct bl_scheme_row *rows = bl_scheme_rows(&n);
	const struct bl_scheme *mine = &bl_plan_choice(app->session->plan, st->unit)->scheme;

	for (int i = 0; i < n; i++)
		if (bl_scheme_equal(&rows[i].scheme, mine))
			return n;
	return n + 1;
}

static struct bl_scheme candidate(const struct bl_app *app, const struct unit_state *st, int i)
{
	int n;
	const struct bl_scheme_row *rows = bl_scheme_rows(&n);

	return i < n ? rows[i].scheme : bl_plan_choice(app->session->plan, st->unit)->scheme;
}

/* The choice a row stands for: the plan's method and parameters where it has one, else the default. */
static struct bl_choice choice_for(const struct bl_app *app, const struct unit_state *st, const struct bl_scheme *s)
{
	struct bl_choice c = *bl_plan_choice(app->session->plan, st->unit);

	if (!c.method[0] && s->number != BL_NUM_FULL)
		snprintf(c.method, sizeof c.method, "rtn");
	c.scheme = *s;
	return c;
}

/* ---- panes ---- */

static void draw_histogram(struct bl_app *app, struct unit_state *st, const struct bl_weight_stats *s, struct bl_grid_s *g,
			   struct bl_grid_view v)
{
	int cols = v.cols - 12 < 64 ? v.cols - 12 : 64, bars = v.rows - 2;
	uint64_t top = 0;
	char text[96];

	if (cols < 8 || bars < 1)
		return;
	bl_histogram(g, (struct bl_grid_view){v.row, v.col + 10, bars, cols}, s->histogram, BL_STATS_BINS, st->log);
	for (int i = 0; i < BL_STATS_BINS; i++)
		if (s->histogram[i] > top)
			top = s->histogram[i];
	snprintf(text, sizeof text, "%.2g", (double)top);
	bl_grid_text_right(g, v.row, v.col + 9, 9, BL_ROLE_DIM, 0, text);
	if (bars > 1)
		bl_grid_text_right(g, v.row + bars - 1, v.col + 9, 9, BL_ROLE_DIM, 0, st->log ? "1 (log)" : "0");
	snprintf(text, sizeof text, "%.4g", -(double)s->absmax);
	bl_grid_text(g, v.row + bars, v.col + 10, 12, BL_ROLE_DIM, 0, text);
	bl_grid_text(g, v.row + bars, v.col + 10 + cols / 2, 2, BL_ROLE_DIM, 0, "0");
	snprintf(text, sizeof text, "%.4g", (double)s->absmax);
	bl_grid_text_right(g, v.row + bars, v.col + 10 + cols, 12, BL_ROLE_DIM, 0, text);
	bl_app_keys_of(app, BL_ACT_SCALE, text, sizeof text);
	bl_grid_textf(g, v.row + bars + 1, v.col + 10, cols, BL_ROLE_DIM, 0, "%s counts of 64 bins over the whole range (%s switches)",
		      st->log ? "logarithmic" : "linear", text);
}

struct channel { float value; int64_t index; };

static int larger_first(const void *a, const void *b)
{
	const struct channel *x = a, *y = b;

	return x->value < y->value ? 1 : x->value > y->value ? -1 : x->index < y->index ? -1 : 1;
}

/* Profile of all channels (the largest of each bucket) and the worst ones with their numbers. */
static void draw_channels(struct bl_app *app, struct unit_state *st, const float *absmax, int64_t n, const char *what, struct bl_grid_s *g,
			  struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[st->unit];
	int cols = v.cols - 4 < 72 ? v.cols - 4 : 72;
	struct channel *all = bl_xalloc((size_t)n + 1, sizeof *all);
	uint64_t bucket[72] = {0};

	if (cols < 8 || n < 1) {
		bl_free(all);
		return;
	}
	for (int64_t i = 0; i < n; i++)
		all[i] = (struct channel){absmax[i], i};
	qsort(all, (size_t)n, sizeof *all, larger_first);
	double top = all[0].value > 0 ? all[0].value : 1;
	for (int64_t i = 0; i < n; i++) {
		uint64_t h = (uint64_t)(1e6 * (double)absmax[i] / top);
		int64_t b = i * cols / n;
		if (h > bucket[b])
			bucket[b] = h;
	}
	int bars = v.rows - 3 > 4 ? 4 : v.rows - 3;
	if (bars > 0)
		bl_histogram(g, (struct bl_grid_view){v.row, v.col + 2, bars, cols}, bucket, cols, false);
	bl_grid_textf(g, v.row + bars, v.col + 2, cols, BL_ROLE_DIM, 0, "largest |w| per %s 0..%lld: median %.4g, top %.4g", what,
		      (long long)n - 1, (double)all[n / 2].value, (double)all[0].value);
	for (int k = 0, y = v.row + bars + 1, x = v.col + 2; k < n && y < v.row + v.rows; k++) {
		char text[64];
		int64_t local = all[k].index;
		const char *member = "";

		if (n == u->rows) /* output channels: say which member */
			for (int j = 0; j < u->n_members; j++) {
				member = u->members[j].name;
				if (local < u->members[j].rows)
					break;
				local -= u->members[j].rows;
			}
		const char *dot = strrchr(member, '.');
		if (*member)
			snprintf(text, sizeof text, "%s[%lld] %.4g", dot ? dot + 1 : member, (long long)local, (double)all[k].value);
		else
			snprintf(text, sizeof text, "%lld %.4g", (long long)local, (double)all[k].value);
		if (x + 22 > v.col + v.cols) {
			x = v.col + 2;
			if (++y >= v.row + v.rows)
				break;
		}
		bl_grid_text(g, y, x, 21, BL_ROLE_MEASURED, 0, text);
		x += 22;
	}
	bl_free(all);
}

static void draw_members(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[st->unit];
	int y = v.row;

	bl_grid_textf(g, y++, v.col + 2, v.cols - 2, BL_ROLE_DIM, 0, "served as one layer: %s", u->name);
	for (int i = 0; i < u->n_members && y < v.row + v.rows; i++) {
		const struct bl_member *m = &u->members[i];
		bl_grid_textf(g, y++, v.col + 2, v.cols - 2, BL_ROLE_TEXT, 0, "%-44s %lldx%lld %s%s", m->name, (long long)m->rows,
			      (long long)m->cols, m->weight ? bl_dtype_name(m->weight->dtype) : "quantized", m->bias ? " + bias" : "");
	}
	if (u->n_members > 1 && y < v.row + v.rows)
		bl_grid_text(g, y, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "The server fuses them, so they always share one scheme.");
}

static void draw_pane(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_weight_stats *s = bl_session_stats(app->session, st->unit);

	if (st->pane == PANE_MEMBERS)
		draw_members(app, st, g, v);
	else if (!s)
		bl_grid_text(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "reading the weights…");
	else if (st->pane == PANE_HISTOGRAM)
		draw_histogram(app, st, s, g, v);
	else if (st->pane == PANE_OUT)
		draw_channels(app, st, s->row_absmax, s->rows, "output channel", g, v);
	else
		draw_channels(app, st, s->col_absmax, s->cols, "input channel", g, v);
}

/* ---- head and table ---- */

static void draw_head(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[st->unit];
	const struct bl_choice *c = bl_plan_choice(app->session->plan, st->unit);
	const struct bl_weight_stats *s = bl_session_stats(app->session, st->unit);
	static const char *const panes[PANE_COUNT] = {"histogram", "output channels", "input channels", "members"};
	char scheme[BL_SCHEME_NAME_MAX];
	const char *dot = bl_app_glyph(app, "·", "-");

	bl_grid_textf(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0, "block %d %s %s [%lldx%lld] %s %s %s %s%s%s%s", u->block, dot,
		      bl_unit_kind_name(u->kind), (long long)u->rows, (long long)u->cols, dot, bl_scheme_name(scheme, &c->scheme), dot,
		      c->method[0] ? c->method : "-", c->params && *c->params ? " " : "", c->params ? c->params : "",
		      c->locked ? "  locked" : "");
	if (s)
		bl_grid_textf(g, v.row + 1, v.col, v.cols, BL_ROLE_TEXT, 0,
			      "weights  %.4g %s %.4g  rms %.4g  kurt %.1f  outl %.3f %%  spread %.1f", (double)s->min,
			      bl_app_glyph(app, "…", ".."), (double)s->max, s->rms, s->kurtosis, 100 * s->outlier_share,
			      s->channel.median > 0 ? (double)(s->channel.max / s->channel.median) : 0.0);
	if (s && s->n_nonfinite)
		bl_grid_textf(g, v.row + 2, v.col, v.cols, BL_ROLE_ERROR, 0, "%llu NaN or Inf, first at %s[%lld,%lld] %s :allow-nonfinite stores zeros",
			      (unsigned long long)s->n_nonfinite, s->n_first ? s->first_nonfinite[0].tensor : "?",
			      s->n_first ? (long long)s->first_nonfinite[0].row : -1, s->n_first ? (long long)s->first_nonfinite[0].col : -1, dot);
	else
		bl_grid_textf(g, v.row + 2, v.col, v.cols, BL_ROLE_DIM, 0, "%s (Tab: %s)", panes[st->pane], panes[(st->pane + 1) % PANE_COUNT]);
}

static void draw_table(struct bl_app *app, struct unit_state *st, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_unit *u = &app->session->model->units[st->unit];
	const struct bl_choice *mine = bl_plan_choice(app->session->plan, st->unit);
	int n = n_candidates(app, st), rows = v.rows - 1;

	bl_grid_text(g, v.row, v.col, v.cols, BL_ROLE_HEADING, 0,
		     bl_app_glyph(app, "  scheme            MB  w-err dB     ~µs  ", "  scheme            MB  w-err dB     ~us  "));
	bl_grid_textf(g, v.row, v.col + 42, v.cols - 42, BL_ROLE_HEADING, 0, "served by (%s)", app->session->target->title);
	if (rows < 1)
		return;
	bl_list_fit(&st->list, n, rows);
	for (int i = st->list.top, y = v.row + 1; i < n && y < v.row + v.rows; i++, y++) {
		struct bl_scheme s = candidate(app, st, i);
		struct bl_choice c = choice_for(app, st, &s);
		struct bl_quantity q = bl_unit_time(u, &s, app->session->target, 8);
		struct bl_verdict verdict;
		char name[BL_SCHEME_NAME_MAX], err[24], us[24] = "";
		bool here = bl_scheme_equal(&s, &mine->scheme);

		bl_target_check_unit(&verdict, app->session->target, app->session->model, st->unit, &s);
		if (q.origin != BL_UNKNOWN)
			snprintf(us, sizeof us, "%.1f", q.value);
		bl_grid_text(g, y, v.col + 2, 15, bl_edit_scheme_role(&s), 0, bl_scheme_name(name, &s));
		bl_grid_textf(g, y, v.col + 16, 8, BL_ROLE_TEXT, 0, "%6.2f", (double)bl_unit_bytes(u, &s) / 1e6);
		bl_grid_text_right(g, y, v.col + 32, 9, BL_ROLE_MEASURED, 0, bl_screen_error_text(app, st->unit, &c, err));
		bl_grid_text_right(g, y, v.col + 40, 7, BL_ROLE_MODELLED, 0, *us ? us : bl_app_glyph(app, "·", "."));
		bl_grid_text(g, y, v.col + 42, 1, verdict.legal ? (verdict.sentence[0] ? BL_ROLE_WARN : BL_ROLE_GOOD) : BL_ROLE_ERROR, 0,
			     !verdict.legal ? bl_app_glyph(app, "✗", "x") : verdict.sentence[0] ? "!" : bl_app_glyph(app, "✓", "+"));
		bl_grid_textf(g, y, v.col + 44, v.cols - 44, verdict.legal ? BL_ROLE_TEXT : BL_ROLE_WARN, 0, "%s%s%s%s",
			      here ? bl_app_glyph(app, "← plan  ", "<- plan  ") : "", verdict.legal && verdict.kernel ? verdict.kernel : "",
			      verdict.legal && verdict.sentence[0] ? ": " : "", verdict.sentence);
		if (i == st->list.row) {
			bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, BL_ATTR_REVERSE);
			bl_grid_text(g, y, v.col, 1, BL_ROLE_SELECTED, BL_ATTR_REVERSE, bl_app_glyph(app, "▶", ">"));
		}
	}
}

static void unit_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct unit_state *st = state;
	int n = n_candidates(app, st), pane_rows = v.rows - 5 - n - 1;

	if (pane_rows < 6)
		pane_rows = v.rows >= 18 ? 7 : v.rows / 3;
	draw_head(app, st, g, v);
	draw_pane(app, st, g, (struct bl_grid_view){v.row + 3, v.col, pane_rows, v.cols});
	bl_grid_hline(g, v.row + 3 + pane_rows, v.col, v.cols, BL_ROLE_RULE);
	draw_table(app, st, g, (struct bl_grid_view){v.row + 4 + pane_rows, v.col, v.rows - 4 - pane_rows, v.cols});
	bl_session_want(app->session, st->unit, st->unit);
}

/* ---- actions ---- */

static void to_plan_row(struct bl_app *app, struct unit_state *st)
{
	for (int i = 0; i < n_candidates(app, st); i++) {
		struct bl_scheme s = candidate(app, st, i);
		if (bl_scheme_equal(&s, &bl_plan_choice(app->session->plan, st->unit)->scheme))
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
		react = bl_edit_method_text(app, sel, arg);
	} else {
		react = bl_edit_lock(app, sel);
	}
	bl_free(sel);
	to_plan_row(app, st);
	return react;
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
	case BL_ACT_PANE_NEXT: st->pane = (st->pane + 1) % PANE_COUNT; break;
	case BL_ACT_PANE_PREV: st->pane = (st->pane + PANE_COUNT - 1) % PANE_COUNT; break;
	case BL_ACT_SCALE: st->log = !st->log; st->pane = PANE_HISTOGRAM; break;
	case BL_ACT_BLOCK_NEXT: case BL_ACT_BLOCK_PREV: case BL_ACT_KIND_NEXT: case BL_ACT_KIND_PREV: return jump(app, st, a);
	case BL_ACT_SCHEME: case BL_ACT_METHOD:
		if (!*arg) {
			bl_app_prompt(app, a == BL_ACT_SCHEME ? "scheme: " : "method: ", a == BL_ACT_METHOD ? "rtn" : NULL,
				      a == BL_ACT_SCHEME ? "SCHEME" : "METHOD", a);
			break;
		}
		return edit(app, st, a, arg);
	case BL_ACT_OPEN: case BL_ACT_LOCK: return edit(app, st, a, arg);
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
	.footer = "open pane-next scale method lock kind-next undo back help",
	.state_bytes = sizeof(struct unit_state),
	.enter = unit_enter,
	.draw = unit_draw,
	.act = unit_act,
	.row_text = unit_row_text,
};
