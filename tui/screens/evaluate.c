/* SPDX-License-Identifier: Apache-2.0
 * Evaluation: what to measure on, and the newest result with base and plan side by side, standard errors beside every number. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/pager.h"
#include "tui/widgets/table.h"

#define RESULT_ROWS 9 /* rule, heading, five numbers, two lines on how */

struct evaluate_state {
	struct bl_list list;
};

/* ---- the result ---- */

struct pen {
	struct bl_app *app;
	struct bl_grid_s *g;
	struct bl_grid_view v;
	int y;
	bool stale, has_plan;
	int base, plan; /* right ends of the columns, 0: no room for it */
};

/* "12.413 ±0.081"; stale numbers of the plan carry the mark. */
static void put(const struct pen *p, double value, double se, double scale, int decimals, bool of_plan)
{
	int end = of_plan ? p->plan : p->base;
	const char *mark = of_plan && p->stale ? "?" : "";
	char text[64];

	if (!end)
		return;
	if (!isfinite(value))
		snprintf(text, sizeof text, "%s", bl_app_glyph(p->app, "·", "."));
	else if (se > 0)
		snprintf(text, sizeof text, "%.*f%s %s%.*f", decimals, scale * value, mark, bl_app_glyph(p->app, "±", "+-"), decimals, scale * se);
	else
		snprintf(text, sizeof text, "%.*f%s", decimals, scale * value, mark);
	bl_grid_text_right(p->g, p->y, p->v.col + end, 20, isfinite(value) ? BL_ROLE_MEASURED : BL_ROLE_UNKNOWN, 0, text);
}

static bool begin_row(struct pen *p, const char *name)
{
	if (p->y >= p->v.row + p->v.rows)
		return false;
	bl_grid_text(p->g, p->y, p->v.col + 2, 18, BL_ROLE_TEXT, 0, name);
	return true;
}

static void end_row(struct pen *p, const char *note)
{
	bl_grid_text(p->g, p->y, p->v.col + p->plan + 2, p->v.cols - p->plan - 2, BL_ROLE_DIM, 0, note);
	p->y++;
}

static void draw_numbers(struct pen *p, const struct bl_eval_result *r)
{
	char note[96] = "";

	if (r->has_ppl && begin_row(p, "perplexity")) {
		put(p, r->base_ppl.value, r->base_ppl.stderr_, 1, 3, false);
		if (p->has_plan) {
			put(p, r->plan_ppl.value, r->plan_ppl.stderr_, 1, 3, true);
			snprintf(note, sizeof note, "%+.2f %%", 100 * (r->plan_ppl.value / r->base_ppl.value - 1));
		}
		end_row(p, note);
	}
	if (r->has_kl && p->has_plan && begin_row(p, "KL to base")) {
		put(p, 0, 0, 1, 0, false);
		put(p, r->kl.mean, r->kl.stderr_, 1, 5, true);
		end_row(p, "nat, mean");
		if (begin_row(p, "  median p99 max")) {
			snprintf(note, sizeof note, "%.5f  %.4f  %.3f", r->kl.median, r->kl.p99, r->kl.max);
			bl_grid_text_right(p->g, p->y, p->v.col + p->plan, 30, BL_ROLE_MEASURED, 0, note);
			end_row(p, "");
		}
		if (begin_row(p, "same top token")) {
			put(p, 1, 0, 100, 2, false);
			put(p, r->kl.top1, 0, 100, 2, true);
			end_row(p, "per cent");
		}
	}
	if (r->has_mcq && begin_row(p, "choices right")) {
		put(p, r->base_mcq.acc, r->base_mcq.stderr_, 1, 4, false);
		note[0] = '\0';
		if (p->has_plan) {
			put(p, r->plan_mcq.acc, r->plan_mcq.stderr_, 1, 4, true);
			snprintf(note, sizeof note, "%.1f %% flipped", 100 * r->plan_mcq.flips);
		}
		end_row(p, note);
	}
}

static void draw_result(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct pen p = { .app = app, .g = g, .v = v, .y = v.row };
	const struct bl_eval_result *r = bl_session_evaluation(app->session, &p.stale);
	char hhmm[6], secs[24];
	struct bl_job_view job;

	if (v.rows < 1)
		return;
	if (bl_app_find_job(app, "evaluate", &job)) {
		bl_grid_textf(g, p.y, v.col + 2, v.cols - 2, BL_ROLE_HEADING, 0, "%s is %s: P pauses, C-c asks to cancel", job.name,
			      job.state == BL_JOB_PAUSED ? "paused" : job.state == BL_JOB_QUEUED ? "queued" : "running");
		if (++p.y >= v.row + v.rows)
			return;
	}
	if (!r) {
		bl_pager_wrap(g, (struct bl_grid_view){ p.y, v.col + 2, v.row + v.rows - p.y, v.cols - 2 }, 0, BL_ROLE_HINT,
			      "Nothing is measured yet. Name a file above with Space (rows of text for ppl and kl, questions for mcq); Enter measures the base "
			      "model and the plan on the same windows. Here they will stand side by side, with standard errors.",
			      10);
		return;
	}
	p.has_plan = r->has_plan;
	p.base = v.cols >= 62 || !p.has_plan ? 38 : 0;
	p.plan = v.cols >= 62 ? 59 : 38;
	if (p.base)
		bl_grid_text_right(g, p.y, v.col + p.base, 20, BL_ROLE_HEADING, 0, "base");
	if (p.has_plan)
		bl_grid_text_right(g, p.y, v.col + p.plan, 20, BL_ROLE_HEADING, 0, p.stale ? "plan as it was ?" : "plan");
	p.y++;
	draw_numbers(&p, r);
	if (p.y < v.row + v.rows)
		p.y += bl_pager_wrap(g, (struct bl_grid_view){ p.y, v.col + 2, v.row + v.rows - p.y, v.cols - 2 }, 0, BL_ROLE_DIM, r->protocol, 2);
	bl_wall_hhmm(r->wall_s, hhmm);
	if (p.y < v.row + v.rows)
		bl_grid_textf(g, p.y, v.col + 2, v.cols - 2, BL_ROLE_DIM, 0, "measured %s on %s in %s%s", hhmm, r->device,
			      bl_human_secs(secs, sizeof secs, r->seconds),
			      p.stale ? " · ? plan changed: Enter measures anew" : r->has_plan ? "" : " · the plan is the base itself");
}

/* ---- the form ---- */

static void evaluate_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct evaluate_state *st = state;
	const struct bl_eval_request *r = bl_app_eval_form(app);
	int room = v.rows - RESULT_ROWS - 1, shown, y = v.row;

	if (room < 2)
		room = 2;
	shown = BL_EVAL_FIELDS < room ? BL_EVAL_FIELDS : room;
	bl_grid_text(g, y++, v.col, v.cols, BL_ROLE_HEADING, 0, "Evaluate: base and plan on the same data");
	bl_list_fit(&st->list, BL_EVAL_FIELDS, shown);
	for (int i = 0; i < shown; i++, y++) {
		const struct bl_form_field *f = &bl_eval_fields[st->list.top + i];

		bl_screen_field(app, g, v, y, f, r, f->help);
		if (st->list.top + i == st->list.row)
			bl_screen_cursor(app, g, v, y);
	}
	if (y < v.row + v.rows)
		bl_grid_hline(g, y++, v.col, v.cols, BL_ROLE_RULE);
	draw_result(app, g, (struct bl_grid_view){ y, v.col, v.row + v.rows - y, v.cols });
}

static unsigned evaluate_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct evaluate_state *st = state;
	struct bl_eval_request *r = bl_app_eval_form(app);
	const struct bl_form_field *f = &bl_eval_fields[st->list.row < BL_EVAL_FIELDS ? st->list.row : 0];
	struct bl_err err = BL_ERR_INIT;
	unsigned react = bl_list_act(&st->list, a, arg, BL_EVAL_FIELDS, BL_EVAL_FIELDS);

	if (react != BL_REACT_UNKNOWN)
		return react;
	switch (a) {
	case BL_ACT_PANE_NEXT:
	case BL_ACT_PANE_PREV:
		st->list.row = (st->list.row + (a == BL_ACT_PANE_NEXT ? 1 : BL_EVAL_FIELDS - 1)) % BL_EVAL_FIELDS;
		return BL_REACT_REDRAW;
	case BL_ACT_OPEN:
		bl_start_evaluation(app);
		return BL_REACT_REDRAW;
	case BL_ACT_FIELD:
		bl_screen_change(app, f, r, arg);
		return BL_REACT_REDRAW;
	case BL_ACT_FILE_DROP:
		if (f->kind == BL_FORM_FILE)
			bl_form_set(f, r, "", &err);
		else
			bl_app_message(app, BL_MSG_INFO, "the cursor is not on a file");
		return BL_REACT_REDRAW;
	case BL_ACT_LEFT:
	case BL_ACT_RIGHT:
		bl_form_step(f, r, a == BL_ACT_RIGHT ? 1 : -1);
		return BL_REACT_REDRAW;
	default:
		return BL_REACT_UNKNOWN;
	}
}

static void evaluate_leave(struct bl_app *app, void *state)
{
	(void)state;
	bl_app_save_forms(app);
}

static void evaluate_row_text(struct bl_app *app, void *state, struct bl_str *out)
{
	struct bl_str line = { 0 };

	(void)state;
	bl_eval_form_print(bl_app_eval_form(app), &line);
	bl_str_addf(out, ":evaluate %s", bl_str_c(&line));
	bl_str_free(&line);
}

const struct bl_screen bl_screen_evaluate = {
	.name = "evaluate",
	.title = "Evaluate",
	.footer = "open=start field=change drop-file cancel back help",
	.state_bytes = sizeof(struct evaluate_state),
	.leave = evaluate_leave,
	.draw = evaluate_draw,
	.act = evaluate_act,
	.row_text = evaluate_row_text,
};
