/* SPDX-License-Identifier: Apache-2.0
 * Jobs: what runs, waits and has ended, newest first. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/table.h"

#define SHOWN 64

struct jobs_state {
	struct bl_list list;
};
struct view {
	struct bl_job_view jobs[SHOWN];
	int n, room; /* columns for the last column */
};

static void look(struct bl_app *app, struct view *v)
{
	int n = bl_jobs_list(app->session->jobs, v->jobs, SHOWN);

	v->n = 0;
	for (int i = 0; i < n && i < SHOWN; i++)
		if (!v->jobs[i].quiet) /* upkeep of what screens show is no news */
			v->jobs[v->n++] = v->jobs[i];
}

enum { COL_NAME, COL_STATE, COL_SHARE, COL_TIME, COL_DETAIL };

static const struct bl_column columns[] = {
	[COL_NAME] = { "job", 26, BL_LEFT, 0, "" },   [COL_STATE] = { "state", 9, BL_LEFT, 0, "" },
	[COL_SHARE] = { "done", 5, BL_RIGHT, 0, "" }, [COL_TIME] = { "time", 7, BL_RIGHT, 1, "" },
	[COL_DETAIL] = { "", 0, BL_LEFT, 0, "" },
};

static const struct {
	const char *name;
	enum bl_role role;
} states[] = {
	[BL_JOB_QUEUED] = { "queued", BL_ROLE_DIM },        [BL_JOB_RUNNING] = { "running", BL_ROLE_TEXT },
	[BL_JOB_DONE] = { "done", BL_ROLE_GOOD },           [BL_JOB_FAILED] = { "failed", BL_ROLE_ERROR },
	[BL_JOB_CANCELLED] = { "cancelled", BL_ROLE_WARN }, [BL_JOB_PAUSED] = { "paused", BL_ROLE_WARN },
};

static void cell(void *ctx, int row, int column, struct bl_cell_text *out)
{
	const struct view *v = ctx;
	const struct bl_job_view *j = &v->jobs[row];

	switch (column) {
	case COL_NAME:
		bl_printable(out->text, sizeof out->text, j->name);
		break;
	case COL_STATE:
		snprintf(out->text, sizeof out->text, "%s", states[j->state].name);
		out->role = states[j->state].role;
		break;
	case COL_SHARE:
		if (j->total > 0 && j->state != BL_JOB_FAILED && j->state != BL_JOB_CANCELLED)
			snprintf(out->text, sizeof out->text, "%.0f%%",
				 100 * (j->done < j->total ? j->done / j->total : 1));
		break;
	case COL_TIME:
		if (j->state != BL_JOB_QUEUED)
			bl_human_secs(out->text, 32, j->seconds);
		break;
	default:
		if (j->state == BL_JOB_FAILED)
			snprintf(out->text, sizeof out->text, "%s", j->err.text);
		else if (j->state == BL_JOB_RUNNING || (j->state == BL_JOB_PAUSED && j->seconds > 0))
			bl_job_line(j, v->room, out->text, sizeof out->text);
		break;
	}
}

static void jobs_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct jobs_state *st = state;
	struct view *view = bl_xalloc(1, sizeof *view);
	struct bl_table t = { columns, sizeof columns / sizeof columns[0], cell, view, 0, NULL };

	look(app, view);
	t.n_rows = view->n;
	view->room = v.cols - 2;
	for (size_t i = 0; i < COL_DETAIL; i++)
		view->room -= columns[i].width + 1;
	if (view->n)
		bl_table_draw(g, v, &t, &st->list);
	else
		bl_grid_text(g, v.row + 1, v.col + 2, v.cols - 2, BL_ROLE_TEXT, 0,
			     "No job has run yet. Reading weights, calibrations (c), exports (x) are listed here.");
	bl_free(view);
}

static unsigned pause_or_go_on(struct bl_app *app, const struct bl_job_view *j, bool only_on)
{
	if (j->state == BL_JOB_PAUSED || j->pausing || only_on)
		bl_jobs_resume(app->session->jobs, j->id);
	else if (!bl_jobs_pause(app->session->jobs, j->id))
		bl_app_message(app, BL_MSG_WARN, "%s cannot be paused · C-c cancels it", j->name);
	return BL_REACT_REDRAW;
}

/* What is done to the job under the cursor; to none: the program's own action looks for one. */
static unsigned act_on(struct bl_app *app, const struct bl_job_view *j, enum bl_action a, const char *arg)
{
	if (a == BL_ACT_OPEN) {
		if (j->state == BL_JOB_FAILED)
			bl_app_message_err(app, &j->err);
		return BL_REACT_REDRAW;
	}
	if (j->state >= BL_JOB_DONE)
		return BL_REACT_UNKNOWN;
	if (a == BL_ACT_CANCEL && *arg != '#') { /* with a number it is the answer to the question */
		bl_ask_cancel(app, j);
		return BL_REACT_REDRAW;
	}
	if (a == BL_ACT_PAUSE || a == BL_ACT_RESUME)
		return pause_or_go_on(app, j, a == BL_ACT_RESUME);
	return BL_REACT_UNKNOWN;
}

static unsigned jobs_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct jobs_state *st = state;
	struct view *v = bl_xalloc(1, sizeof *v);
	unsigned react;

	look(app, v);
	react = bl_list_act(&st->list, a, arg, v->n, bl_app_body(app).rows - 1);
	bl_list_fit(&st->list, v->n, bl_app_body(app).rows - 1);
	if (react == BL_REACT_UNKNOWN && v->n)
		react = act_on(app, &v->jobs[st->list.row], a, arg);
	bl_free(v);
	return react;
}

const struct bl_screen bl_screen_jobs = {
	.name = "jobs",
	.title = "Jobs",
	.footer = "pause cancel open=error down up back help",
	.state_bytes = sizeof(struct jobs_state),
	.draw = jobs_draw,
	.act = jobs_act,
};
