/* SPDX-License-Identifier: Apache-2.0
 * Mixed precision within a budget: a form of four lines, and below it what the last search found: the plan's numbers, what was tried, which units it changes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/search.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/pager.h"
#include "tui/widgets/table.h"

enum field { F_BUDGET, F_VALUE, F_OPTIONS, F_TRIALS, N_FIELDS };

static const struct { const char *name, *help; } fields[N_FIELDS] = {
	{"budget", "bytes, time of a decode step, or score"},
	{"limit", "60%  6.5MB  0.8x  2.9ms  best  0.6  plan"},
	{"options", "what units may become: W4A16;W8A16;BF16"},
	{"trials", "whole plans measured to beat the sums"},
};
static const char *const budgets[] = {"bytes", "time", "score"};
static const char *const usual[] = {"60%", "0.8x", "best"};

struct budget_state { struct bl_list list; int top; };

static char *value_of(struct bl_app *app, int field)
{
	char *v = app->priv->budget_fields[field];
	const char *first[N_FIELDS] = {"bytes", "60%", "", "12"};

	if (!app->priv->budget_fields[F_BUDGET][0]) /* never asked for yet */
		for (int i = 0; i < N_FIELDS; i++)
			snprintf(app->priv->budget_fields[i], sizeof app->priv->budget_fields[i], "%s", first[i]);
	return v;
}

static int kind_of(struct bl_app *app)
{
	for (int i = 0; i < 3; i++)
		if (!strcmp(value_of(app, F_BUDGET), budgets[i]))
			return i;
	return 0;
}

/* ---- the result ---- */

static int line(struct bl_grid_s *g, struct bl_grid_view v, int y, enum bl_role role, const char *text)
{
	if (y >= v.row + v.rows)
		return y;
	return y + bl_pager_wrap(g, (struct bl_grid_view){y, v.col + 2, v.row + v.rows - y, v.cols - 2}, 0, role, text, 4);
}

static int draw_numbers(struct bl_app *app, const struct bl_search_result *r, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_plan_estimate *now = bl_session_estimate(app->session);
	char text[800], score[64] = "", kl[64];
	int y = v.row;

	if (isfinite(r->kl))
		snprintf(kl, sizeof kl, "KL %.5f measured", r->kl);
	else
		snprintf(kl, sizeof kl, "loss ~%.5f from layer errors", r->loss_sum);
	if (r->estimate.score.origin != BL_UNKNOWN)
		snprintf(score, sizeof score, "  score ~%.4f", r->estimate.score.value);
	snprintf(text, sizeof text, "found: %.2f MB (plan now %.2f)  step ~%.3f ms (now ~%.3f)  %s%s  %d unit%s changed", (double)r->bytes / 1e6, (double)now->bytes / 1e6,
		 r->estimate.step_ms.value, now->step_ms.value, kl, score, r->changed, r->changed == 1 ? "" : "s");
	y = line(g, v, y, BL_ROLE_TEXT, text);
	if (r->exact)
		snprintf(text, sizeof text, "%d plans on the front, exact; losses of units alone add up to %.5f", r->points, r->loss_sum);
	else
		snprintf(text, sizeof text, "%d plans on the front, thinned to one in %llu %s; losses of units alone add up to %.5f", r->points, (unsigned long long)r->grain,
			 r->budget == BL_BUDGET_BYTES ? "bytes" : "ns", r->loss_sum);
	y = line(g, v, y, BL_ROLE_DIM, text);
	if (r->budget != BL_BUDGET_BYTES)
		y = line(g, v, y, BL_ROLE_DIM, r->speed);
	return y;
}

static int draw_trials(struct bl_app *app, const struct bl_search_result *r, struct bl_grid_s *g, struct bl_grid_view v, int y, int most)
{
	char text[200];
	int kept = 0;

	for (int i = 0; i < r->n_trials; i++)
		kept = r->trial[i].kept ? i : kept;
	for (int k = -1, n = 0; k < r->n_trials && n < most && y < v.row + v.rows; k++) { /* the one that was found, then in order */
		int i = k < 0 ? kept : k;
		if (k == kept || i >= r->n_trials)
			continue;
		snprintf(text, sizeof text, "%s KL %.5f  %s%s", k < 0 ? "tried" : "     ", r->trial[i].kl, r->trial[i].what,
			 i == kept ? bl_app_glyph(app, "  ← found", "  <- found") : "");
		bl_grid_text(g, y++, v.col + 2, v.cols - 2, i == kept ? BL_ROLE_GOOD : BL_ROLE_TEXT, 0, text);
		n++;
	}
	return y;
}

static void draw_units(struct bl_app *app, const struct bl_search_result *r, struct bl_grid_s *g, struct bl_grid_view v, int y)
{
	const struct bl_model *m = app->session->model;
	int per_row = (v.cols - 2) / 29 > 0 ? (v.cols - 2) / 29 : 1, n = 0;

	if (y >= v.row + v.rows)
		return;
	bl_grid_text(g, y++, v.col + 2, v.cols - 2, BL_ROLE_HEADING, 0, r->measured ? "unit  scheme  KL·10³ alone, above what any change brings" : "unit  scheme  ~layer error");
	for (int i = 0; i < r->n && y + n / per_row < v.row + v.rows; i++, n++) {
		char scheme[BL_SCHEME_NAME_MAX], label[24];
		snprintf(label, sizeof label, "%d.%s", m->units[i].block, bl_unit_kind_name(m->units[i].kind));
		bl_grid_textf(g, y + n / per_row, v.col + 2 + 29 * (n % per_row), 27, BL_ROLE_TEXT, 0, "%-11.11s%-10.10s%6.2f", label,
			      bl_scheme_short(scheme, &r->choice[i].scheme), 1e3 * r->loss[i]);
	}
}

static void draw_result(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v)
{
	const struct bl_search_result *r = bl_session_searched(app->session);
	struct bl_job_view job;
	char key[64];

	if (bl_app_find_job(app, "search", &job)) {
		bl_grid_textf(g, v.row, v.col + 2, v.cols - 2, BL_ROLE_HEADING, 0, "the search is %s: P pauses, C-c asks to cancel; what it measured is kept",
			      job.state == BL_JOB_PAUSED ? "paused" : job.state == BL_JOB_QUEUED ? "queued" : "running");
		v.row++;
		v.rows--;
	}
	if (v.rows < 1)
		return;
	if (!r) {
		bl_pager_wrap(g, (struct bl_grid_view){v.row, v.col + 2, v.rows, v.cols - 2}, 0, BL_ROLE_HINT,
			      bl_session_calib(app->session) ?
			      "Enter measures what each unit loses under each option, alone, on the kept windows of the calibration; finds the plan with the least sum "
			      "within the limit; then measures that plan, rules of thumb at the same cost, and exchanges of two units. Here will stand what was found." :
			      "A search measures what units lose, and that needs a calibration: c makes one. Then Enter finds the plan that loses least within the limit.",
			      10);
		return;
	}
	int y = draw_numbers(app, r, g, v);
	bl_app_keys_of(app, BL_ACT_BUDGET_TAKE, key, sizeof key);
	if (y < v.row + v.rows)
		bl_grid_textf(g, y++, v.col + 2, v.cols - 2, BL_ROLE_HINT, 0, "%s takes it into the plan, as one step that u undoes", key);
	y = draw_trials(app, r, g, v, y, v.row + v.rows - y > 10 ? 6 : 3);
	draw_units(app, r, g, v, y);
}

/* ---- the form ---- */

static void budget_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct budget_state *st = state;
	int wide = v.cols >= 70 ? 22 : v.cols - 14, y = v.row;

	bl_grid_text(g, y++, v.col, v.cols, BL_ROLE_HEADING, 0, "Mixed precision within a budget");
	bl_list_fit(&st->list, N_FIELDS, N_FIELDS);
	for (int i = 0; i < N_FIELDS && y < v.row + v.rows; i++, y++) {
		char shown[160];
		snprintf(shown, sizeof shown, "%s", *value_of(app, i) ? value_of(app, i) : "4, 8 and 16 bits");
		bl_screen_tail(shown, wide);
		bl_grid_text(g, y, v.col + 2, 9, BL_ROLE_KEYTEXT, 0, fields[i].name);
		bl_grid_text(g, y, v.col + 12, wide, BL_ROLE_TEXT, 0, shown);
		if (v.cols >= 70)
			bl_grid_text(g, y, v.col + 13 + wide, v.cols - 13 - wide, BL_ROLE_DIM, 0, fields[i].help);
		if (i == st->list.row)
			bl_screen_cursor(app, g, v, y);
	}
	if (y < v.row + v.rows)
		bl_grid_hline(g, y++, v.col, v.cols, BL_ROLE_RULE);
	draw_result(app, g, (struct bl_grid_view){y, v.col, v.row + v.rows - y, v.cols});
}

/* The field as a whole number, none when it is empty; -1: it is no such number. */
static int trials_of(struct bl_app *app)
{
	const char *text = value_of(app, F_TRIALS);
	char *end;
	const long v = strtol(text, &end, 10);

	return *end || v < 0 || v > 10000 ? -1 : (int)v;
}

static bool start(struct bl_app *app)
{
	struct bl_search_request rq = {.options = *value_of(app, F_OPTIONS) ? value_of(app, F_OPTIONS) : NULL, .trials = trials_of(app)};
	struct bl_err err = BL_ERR_INIT;
	struct bl_job_view job;

	if (bl_app_find_job(app, "search", &job)) {
		bl_app_message(app, BL_MSG_WARN, "a search is there already · C-c cancels it");
		return false;
	}
	if (rq.trials < 0)
		bl_fail(&err, BL_USAGE, "trials: must be a whole number up to 10000");
	if (!err.status && !bl_search_budget(&rq, (enum bl_budget)kind_of(app), value_of(app, F_VALUE), app->session, &err))
		bl_session_search(app->session, &rq, &err);
	if (err.status)
		bl_app_message_err(app, &err);
	else
		bl_app_answered(app);
	return !err.status;
}

static void set_kind(struct bl_app *app, int kind)
{
	snprintf(value_of(app, F_BUDGET), sizeof app->priv->budget_fields[0], "%s", budgets[kind]);
	snprintf(value_of(app, F_VALUE), sizeof app->priv->budget_fields[0], "%s", usual[kind]);
}

static unsigned change(struct bl_app *app, int field, const char *arg)
{
	char label[48];

	if (field == F_BUDGET && *arg) {
		for (int i = 0; i < 3; i++)
			if (!strcmp(arg, budgets[i])) {
				set_kind(app, i);
				return BL_REACT_REDRAW;
			}
		bl_app_message(app, BL_MSG_ERROR, "budget: bytes, time or score");
	} else if (field == F_BUDGET) {
		set_kind(app, (kind_of(app) + 1) % 3);
	} else if (*arg) {
		snprintf(value_of(app, field), sizeof app->priv->budget_fields[0], "%s", arg);
		bl_app_answered(app);
	} else {
		snprintf(label, sizeof label, "%s: ", fields[field].name);
		bl_app_prompt(app, label, value_of(app, field), NULL, BL_ACT_FIELD);
	}
	return BL_REACT_REDRAW;
}

static unsigned budget_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct budget_state *st = state;
	unsigned react = bl_list_act(&st->list, a, arg, N_FIELDS, N_FIELDS);
	char text[24];

	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_PANE_NEXT: case BL_ACT_PANE_PREV:
		st->list.row = (st->list.row + (a == BL_ACT_PANE_NEXT ? 1 : N_FIELDS - 1)) % N_FIELDS;
		return BL_REACT_REDRAW;
	case BL_ACT_OPEN: start(app); return BL_REACT_REDRAW;
	case BL_ACT_FIELD: return change(app, st->list.row, arg);
	case BL_ACT_LEFT: case BL_ACT_RIGHT:
		if (st->list.row == F_BUDGET)
			set_kind(app, (kind_of(app) + (a == BL_ACT_RIGHT ? 1 : 2)) % 3);
		else if (st->list.row == F_TRIALS) {
			int n = atoi(value_of(app, F_TRIALS));
			snprintf(text, sizeof text, "%d", a == BL_ACT_RIGHT ? (n ? 2 * n : 1) : n / 2);
			change(app, F_TRIALS, text);
		}
		return BL_REACT_REDRAW;
	case BL_ACT_BUDGET_TAKE:
		if (!bl_session_searched(app->session)) {
			bl_app_message(app, BL_MSG_WARN, "nothing was found yet: Enter starts the search");
		} else if (bl_session_search_take(app->session)) {
			bl_app_edited(app);
			bl_app_message(app, BL_MSG_INFO, "the plan that was found is the plan now (u undoes)");
			return BL_REACT_REDRAW | BL_REACT_EDITED;
		} else {
			bl_app_message(app, BL_MSG_INFO, "the plan is that already");
		}
		return BL_REACT_REDRAW;
	default: return BL_REACT_UNKNOWN;
	}
}

/* ":budget bytes=60% trials=4 options=W4A16;BF16" */
unsigned bl_do_budget(struct bl_app *app, const char *arg)
{
	char *copy, *rest = NULL;
	bool ok = true;

	if (!*arg) {
		bl_app_push(app, "budget", NULL);
		return BL_REACT_REDRAW;
	}
	copy = bl_xstrdup(arg);
	for (char *w = strtok_r(copy, " ", &rest); w && ok; w = strtok_r(NULL, " ", &rest)) {
		char *eq = strchr(w, '=');
		ok = eq != NULL;
		if (!ok)
			break;
		*eq++ = '\0';
		int kind = -1;
		for (int i = 0; i < 3; i++)
			kind = !strcmp(w, budgets[i]) ? i : kind;
		if (kind >= 0) {
			set_kind(app, kind);
			snprintf(value_of(app, F_VALUE), sizeof app->priv->budget_fields[0], "%s", eq);
		} else if (!strcmp(w, "options") || !strcmp(w, "trials")) {
			snprintf(value_of(app, *w == 'o' ? F_OPTIONS : F_TRIALS), sizeof app->priv->budget_fields[0], "%s", eq);
		} else {
			ok = false;
		}
	}
	bl_free(copy);
	if (!ok)
		bl_app_message(app, BL_MSG_ERROR, "budget takes bytes=, time= or score=, options= and trials=");
	else if (start(app))
		bl_app_message(app, BL_MSG_INFO, "search queued: B shows what it finds");
	return BL_REACT_REDRAW;
}

const struct bl_screen bl_screen_budget = {
	.name = "budget",
	.title = "Budget",
	.footer = "open=search field=change take-plan cancel undo back help",
	.state_bytes = sizeof(struct budget_state),
	.draw = budget_draw,
	.act = budget_act,
};
