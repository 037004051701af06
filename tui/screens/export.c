/* SPDX-License-Identifier: Apache-2.0
 * Export: what will be written and whether it may, the run, the proof. The work is a job of the session; leaving the screen does not
 * stop it. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/export/export.h"
#include "core/session/run.h"
#include "tui/app_private.h"
#include "tui/screens/screens.h"
#include "tui/widgets/pager.h"

struct export_state {
	char out[BL_EXPORT_NAME_MAX];
	uint64_t previewed;             /* plan revision of the preview, plus 1; 0: none */
	bool ok;                        /* the preview found nothing in the way */
	struct bl_export_result preview;
	struct bl_err err;
	bool files;                     /* Tab: list of files instead of the steps */
	int top;
};

static void refresh(struct bl_app *app, struct export_state *st)
{
	struct bl_session *s = app->session;
	float *absmax;
	struct bl_export_request rq = {.model = s->model, .plan = s->plan, .registry = &s->registry, .target = s->target, .out = st->out,
				       .overwrite = true, .pool = s->pool, .seed = s->seed};

	if (st->previewed == bl_plan_revision(s->plan) + 1)
		return;
	bl_export_result_free(&st->preview); /* nothing of it is fine too */
	memset(&st->preview, 0, sizeof st->preview);
	bl_err_clear(&st->err);
	rq.input_absmax = absmax = bl_session_input_absmax(s);
	st->ok = bl_export_preview(&st->preview, &rq, &st->err) == BL_OK;
	bl_free(absmax);
	if (!st->ok)
		memset(&st->preview, 0, sizeof st->preview);
	st->previewed = bl_plan_revision(s->plan) + 1;
}

struct pen { struct bl_app *app; struct bl_grid_s *g; struct bl_grid_view v; int y; };

static void step(struct pen *p, int number, bool ok, bool warn, const char *what, const char *result)
{
	enum bl_role role = !ok ? BL_ROLE_ERROR : warn ? BL_ROLE_WARN : BL_ROLE_GOOD;

	if (p->y >= p->v.row + p->v.rows)
		return;
	bl_grid_textf(p->g, p->y, p->v.col, p->v.cols - 32, BL_ROLE_TEXT, 0, "%2d %s", number, what);
	bl_grid_text(p->g, p->y, p->v.col + p->v.cols - 31, 2, role, 0,
		     !ok ? bl_app_glyph(p->app, "✗", "x") : warn ? "!" : bl_app_glyph(p->app, "✓", "+"));
	bl_grid_text(p->g, p->y, p->v.col + p->v.cols - 29, 29, role, 0, result);
	p->y++;
}

static void line(struct pen *p, enum bl_role role, const char *text)
{
	if (p->y < p->v.row + p->v.rows)
		bl_grid_text(p->g, p->y++, p->v.col, p->v.cols, role, 0, text);
}

/* A sentence below its step, in as many rows as it takes. */
static void paragraph(struct pen *p, int indent, enum bl_role role, const char *text)
{
	int room = p->v.row + p->v.rows - p->y;

	if (room > 0)
		p->y += bl_pager_wrap(p->g, (struct bl_grid_view){p->y, p->v.col + indent, room, p->v.cols - indent}, 0, role, text, room);
}

static void sentence(struct pen *p, enum bl_role role, const char *text)
{
	paragraph(p, 5, role, text);
}

#define PROBLEMS_SHOWN 3

static void draw_legality(struct bl_app *app, struct pen *p, int *n_fatal)
{
	struct bl_session *s = app->session;
	int n;
	const struct bl_problem *problems = bl_session_problems(s, &n, n_fatal);
	char text[200], keys[64];

	snprintf(text, sizeof text, "plan legal for %s", s->target->title);
	bl_app_keys_of(app, BL_ACT_PROBLEMS, keys, sizeof keys);
	step(p, 1, *n_fatal == 0, n > 0, text, *n_fatal ? "refused there" : n ? "with warnings" : "every unit has a kernel");
	for (int i = 0; i < n && i < PROBLEMS_SHOWN; i++)
		sentence(p, problems[i].fatal ? BL_ROLE_ERROR : BL_ROLE_WARN, problems[i].sentence);
	if (n > PROBLEMS_SHOWN) {
		snprintf(text, sizeof text, "and %d more: %.*s lists them", n - PROBLEMS_SHOWN, (int)strcspn(keys, ","), keys);
		sentence(p, BL_ROLE_WARN, text);
	}
}

/* Units whose method works on a whole unit, from what a calibration kept. */
static int n_to_solve(const struct bl_session *s)
{
	int n = 0;

	for (int i = 0; i < s->model->n_units; i++)
		n += bl_session_choice_whole(s, bl_plan_choice(s->plan, i));
	return n;
}

/* What the export has to solve first, and from what. */
static void draw_solved(struct bl_app *app, struct pen *p)
{
	bool calibrated = bl_session_calib(app->session) != NULL;
	char result[40];
	int n = n_to_solve(app->session);

	snprintf(result, sizeof result, calibrated ? "%d kept, or solved first" : "%d need a calibration", n);
	step(p, 2, calibrated || !n, false, "every unit solved", n ? result : "nothing needs it");
	if (n && !calibrated)
		sentence(p, BL_ROLE_ERROR, "their method solves them from what flows in: c runs the model over data");
}

static void draw_steps(struct bl_app *app, struct export_state *st, struct pen *p)
{
	struct bl_session *s = app->session;
	int n_fatal;
	char text[200], size[32], space[32], badge[240];

	draw_legality(app, p, &n_fatal);
	draw_solved(app, p);
	bool hf = bl_target_loads_in_transformers(s->model, s->plan, badge);
	step(p, 3, true, !hf, "also loads in transformers 4.57", hf ? "yes" : "no: only in the server");
	if (!hf && badge[0])
		sentence(p, BL_ROLE_DIM, badge);
	if (!st->ok) {
		step(p, 4, false, false, "what would be written", "cannot be said");
		if (!n_fatal) /* otherwise that was said */
			sentence(p, BL_ROLE_ERROR, st->err.text);
		return;
	}
	snprintf(text, sizeof text, "files, companions copied (Tab lists)");
	snprintf(size, sizeof size, "%d files", st->preview.n_files);
	step(p, 4, true, false, text, size);
	const char *edits = bl_str_c(&st->preview.edits);
	int n_edits = 0;
	for (const char *c = edits; *c; c++)
		n_edits += *c == '\n';
	if (*edits && edits[strlen(edits) - 1] != '\n')
		n_edits++;
	snprintf(size, sizeof size, "%d listed", n_edits);
	step(p, 5, true, false, "config.json: changes", n_edits ? size : *st->preview.format ? "only quantization_config" : "none");
	for (const char *c = edits; *c;) {
		size_t len = strcspn(c, "\n");
		snprintf(text, sizeof text, "     %.*s", (int)(len < 180 ? len : 180), c);
		line(p, BL_ROLE_DIM, text);
		c += len + (c[len] == '\n');
	}
	uint64_t need = st->preview.package_bytes, have = bl_free_bytes(st->out);
	bl_human_bytes(size, sizeof size, (double)need);
	bl_human_bytes(space, sizeof space, (double)have);
	snprintf(text, sizeof text, "space: %s needed", size);
	snprintf(badge, sizeof badge, "%s free", space);
	step(p, 6, have > need, false, text, badge);
	bool exists = bl_is_file(st->out) || bl_is_dir(st->out);
	step(p, 7, true, exists, exists ? "the name is taken: replaced after the proof" : "the name is free", exists ? "asks first" : "");
}

static void draw_files(struct export_state *st, struct pen *p)
{
	char size[32], text[200], name[128];

	for (int i = st->top; i < st->preview.n_files && p->y < p->v.row + p->v.rows; i++) {
		int end = p->v.cols < 72 ? p->v.cols : 72;

		bl_human_bytes(size, sizeof size, (double)st->preview.files[i].bytes);
		snprintf(text, sizeof text, "model/%s", bl_printable(name, sizeof name, st->preview.files[i].name));
		bl_grid_text(p->g, p->y, p->v.col + 3, end - 14, BL_ROLE_TEXT, 0, text);
		bl_grid_text_right(p->g, p->y++, p->v.col + end, 10, BL_ROLE_TEXT, 0, size);
	}
}

static void draw_result(struct bl_app *app, struct export_state *st, struct pen *p)
{
	const struct bl_export_result *r = bl_session_export_result(app->session);
	struct bl_job_view view;
	const uint64_t id = app->priv->export_job;
	const struct bl_job_view *job = id && bl_jobs_view(app->session->jobs, id, &view) ? &view : NULL;
	char text[256], size[32];
	const char *dot = bl_app_glyph(app, "·", "-");

	if (job && job->state < BL_JOB_DONE) {
		line(p, BL_ROLE_HEADING,
		     job->state == BL_JOB_RUNNING ? "running: the job line below shows progress; C-c asks to cancel" : "waits for the job before it (J lists them); C-c asks to cancel");
		return;
	}
	if (job && job->state == BL_JOB_FAILED) {
		snprintf(text, sizeof text, "failed: %.220s", job->err.text);
		paragraph(p, 0, BL_ROLE_ERROR, text);
		line(p, BL_ROLE_HINT, "Nothing was left behind under the final name. Enter tries again.");
		return;
	}
	if (job && job->state == BL_JOB_CANCELLED)
		line(p, BL_ROLE_WARN, "cancelled: nothing was left behind");
	if (!r || !id || (job && job->state != BL_JOB_DONE))
		return;
	bl_human_bytes(size, sizeof size, (double)r->package_bytes);
	snprintf(text, sizeof text, "written %s %s %s %lld tensors %s %s, %.2f s + proof %.2f s", st->out, dot, size, (long long)r->tensors,
		 dot, *r->format ? r->format : "full precision", r->seconds_write, r->seconds_prove);
	line(p, BL_ROLE_GOOD, text);
	snprintf(text, sizeof text, "proof: %lld tensors compared, nothing missing or surplus", (long long)r->proof.proved_tensors);
	line(p, BL_ROLE_GOOD, text);
	snprintf(text, sizeof text, "       max |w-Q(w)| %.4g = %.2f steps %s %.2f %% relative", r->proof.max_abs_error, r->proof.max_step_error, dot,
		 100 * r->proof.relative_error);
	line(p, BL_ROLE_GOOD, text);
	for (int i = 0; i < r->n_files; i++)
		if (bl_ends_with(r->files[i].name, ".safetensors")) {
			snprintf(text, sizeof text, "sha256 %.16s%s %s", r->files[i].sha256, bl_app_glyph(app, "…", ".."), r->files[i].name);
			line(p, BL_ROLE_DIM, text);
		}
}

static void export_draw(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view v)
{
	struct export_state *st = state;
	struct pen p = {app, g, v, v.row};

	refresh(app, st);
	bl_grid_textf(g, p.y++, v.col, v.cols, BL_ROLE_HEADING, 0, "to  %s   format %s%s%s%s", st->out, bl_plan_format(app->session->plan),
		      st->ok && st->preview.format[0] ? " (" : "", st->ok ? st->preview.format : "", st->ok && st->preview.format[0] ? ")" : "");
	if (st->files && st->ok)
		draw_files(st, &p);
	else
		draw_steps(app, st, &p);
	if (p.y < v.row + v.rows - 1)
		bl_grid_hline(g, p.y++, v.col, v.cols, BL_ROLE_RULE);
	draw_result(app, st, &p);
	if (!app->priv->export_job)
		line(&p, BL_ROLE_HINT, "Enter writes, reads back, proves, and only then gives it its name.");
}

static void set_out(struct bl_app *app, struct export_state *st, const char *name)
{
	snprintf(st->out, sizeof st->out, "%s", name);
	snprintf(app->priv->export_out, sizeof app->priv->export_out, "%s", name);
	st->previewed = 0;
	app->priv->export_job = 0;
}

static void export_enter(struct bl_app *app, void *state, const char *arg)
{
	struct export_state *st = state;
	struct bl_job_view job;

	if (arg && *arg)
		set_out(app, st, arg);
	else /* where the last one went: its progress, then its proof; what failed is in the log */
		snprintf(st->out, sizeof st->out, "%s", app->priv->export_out[0] ? app->priv->export_out : "submit.zip");
	if (bl_jobs_view(app->session->jobs, app->priv->export_job, &job) && job.state > BL_JOB_DONE)
		app->priv->export_job = 0;
}

static void export_leave(struct bl_app *app, void *state)
{
	struct export_state *st = state;

	(void)app;
	bl_export_result_free(&st->preview); /* nothing of it is fine too */
}

static unsigned start(struct bl_app *app, struct export_state *st, bool sure)
{
	int n_fatal = 0;

	if (bl_job_in_the_way(app, "export"))
		return BL_REACT_REDRAW;
	refresh(app, st); /* keys may come faster than frames */
	bl_session_problems(app->session, NULL, &n_fatal);
	if (!st->ok || n_fatal) {
		bl_app_message(app, BL_MSG_ERROR, "%s", n_fatal ? "the target refuses this plan · :problems says why, :target changes it" : st->err.text);
		return BL_REACT_REDRAW;
	}
	if (n_to_solve(app->session) && !bl_session_calib(app->session)) {
		bl_app_message(app, BL_MSG_ERROR, "%d unit%s: the method needs a calibration first · c makes one", n_to_solve(app->session),
			       n_to_solve(app->session) == 1 ? "" : "s");
		return BL_REACT_REDRAW;
	}
	if (!sure && (bl_is_file(st->out) || bl_is_dir(st->out))) {
		bl_app_ask(app, "Replace what is there (after the proof)?", BL_ACT_EXPORT, "!");
		return BL_REACT_REDRAW;
	}
	snprintf(app->priv->export_out, sizeof app->priv->export_out, "%s", st->out);
	bl_app_answered(app);
	app->priv->export_job = bl_session_export(app->session, st->out, true, false);
	return BL_REACT_REDRAW;
}

static unsigned export_act(struct bl_app *app, void *state, enum bl_action a, const char *arg)
{
	struct export_state *st = state;
	char other[BL_EXPORT_NAME_MAX + 8];

	switch (a) {
	case BL_ACT_OPEN: return start(app, st, false);
	case BL_ACT_EXPORT:
		if (!strcmp(arg, "!"))
			return start(app, st, true);
		if (*arg)
			set_out(app, st, arg);
		return BL_REACT_REDRAW;
	case BL_ACT_EXPORT_FOLDER:
		if (bl_ends_with(st->out, ".zip"))
			snprintf(other, sizeof other, "%.*s", (int)strlen(st->out) - 4, st->out);
		else
			snprintf(other, sizeof other, "%s.zip", st->out);
		set_out(app, st, other);
		return BL_REACT_REDRAW;
	case BL_ACT_EXPORT_NAME:
		if (*arg)
			set_out(app, st, arg);
		else
			bl_app_prompt(app, "export to: ", st->out, "FILE", a);
		return BL_REACT_REDRAW;
	case BL_ACT_PANE_NEXT: case BL_ACT_PANE_PREV:
		st->files = !st->files;
		st->top = 0;
		return BL_REACT_REDRAW;
	case BL_ACT_DOWN:
		if (st->files && st->top + 1 < st->preview.n_files)
			st->top++;
		return BL_REACT_REDRAW;
	case BL_ACT_UP:
		if (st->files && st->top > 0)
			st->top--;
		return BL_REACT_REDRAW;
	default: return BL_REACT_UNKNOWN;
	}
}

const struct bl_screen bl_screen_export = {
	.name = "export",
	.title = "Export",
	.footer = "open=start export-folder=zip/folder export-name=name pane-next=files problems cancel back help",
	.state_bytes = sizeof(struct export_state),
	.enter = export_enter,
	.leave = export_leave,
	.draw = export_draw,
	.act = export_act,
};
