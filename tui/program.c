/* SPDX-License-Identifier: Apache-2.0
 * Actions that belong to no screen: one function each, found through a table. They edit through the session, say what
 * happened in one sentence and what to do next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/plan/recipe.h"
#include "tui/app_private.h"
#include "tui/edit.h"

typedef unsigned handler(struct bl_app *app, const char *arg);

/* ---- the plan ---- */

static void edited(struct bl_app *app)
{
	bl_app_edited(app);
}

static unsigned report_edit(struct bl_app *app, int changed, int locked, const char *what)
{
	int n = 0, fatal = 0;
	const struct bl_problem *p;
	char tail[400] = "", lock[64] = "";

	edited(app);
	p = bl_session_problems(app->session, &n, &fatal);
	for (int i = 0; i < n && fatal && !tail[0]; i++)
		if (p[i].fatal)
			snprintf(tail, sizeof tail, " · %s refuses: %s", app->session->target->title, p[i].sentence);
	if (locked)
		snprintf(lock, sizeof lock, ", %d locked left alone (l unlocks)", locked);
	bl_app_message(app, fatal ? BL_MSG_WARN : BL_MSG_INFO, "%s: %d unit%s changed%s%s", what, changed,
		       changed == 1 ? "" : "s", lock, tail);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_set(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	int changed = 0, locked = 0;

	if (bl_edit_is_quantized(app))
		return BL_REACT_REDRAW;
	if (bl_plan_set_text(app->session->plan, app->session->model, arg, &changed, &locked, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	return report_edit(app, changed, locked, arg);
}

/* Without words: the stages as they are, to be edited. */
static unsigned do_stages(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;

	if (!*arg) {
		bl_app_prompt(app, "stages ", bl_plan_stages(app->session->plan), "TRANSFORM", BL_ACT_STAGES);
		return BL_REACT_REDRAW;
	}
	if (bl_session_set_stages(app->session, strcmp(arg, "none") ? arg : "", &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	edited(app);
	if (*bl_plan_stages(app->session->plan))
		bl_app_message(app, bl_session_calib(app->session) ? BL_MSG_INFO : BL_MSG_WARN, "stages: %s (u undoes)%s", bl_plan_stages(app->session->plan),
			       bl_session_calib(app->session) ? "" : " · their numbers come from a calibration: c");
	else
		bl_app_message(app, BL_MSG_INFO, "no stages (u undoes)");
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_preset(struct bl_app *app, const char *arg)
{
	char text[128];

	snprintf(text, sizeof text, "all=%s", arg);
	return do_set(app, text);
}

static unsigned do_recommended(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	int n = 0;

	(void)arg;
	if (bl_session_set_methods(app->session, "recommended", &n, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	if (!n) {
		bl_app_message(app, BL_MSG_INFO, "no unit has a scheme yet: choose schemes first (8, 4, a or :preset W4A16)");
		return BL_REACT_REDRAW;
	}
	bl_app_message(app, bl_session_calib(app->session) ? BL_MSG_INFO : BL_MSG_WARN, "recommended methods for %d unit%s (u undoes) · %s", n, n == 1 ? "" : "s",
		       bl_session_calib(app->session) ? "r on one of them solves, x exports" : "they are solved from a calibration: c");
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_undo(struct bl_app *app, const char *arg)
{
	const char *label = bl_plan_undo_label(app->session->plan);
	char what[160];

	(void)arg;
	snprintf(what, sizeof what, "%s", label ? label : "");
	if (!bl_plan_undo(app->session->plan)) {
		bl_app_message(app, BL_MSG_INFO, "nothing to undo");
		return BL_REACT_REDRAW;
	}
	edited(app);
	bl_app_message(app, BL_MSG_INFO, "undone: %s (C-r brings it back)", what);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_redo(struct bl_app *app, const char *arg)
{
	const char *label = bl_plan_redo_label(app->session->plan);
	char what[160];

	(void)arg;
	snprintf(what, sizeof what, "%s", label ? label : "");
	if (!bl_plan_redo(app->session->plan)) {
		bl_app_message(app, BL_MSG_INFO, "nothing to redo");
		return BL_REACT_REDRAW;
	}
	edited(app);
	bl_app_message(app, BL_MSG_INFO, "done again: %s", what);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

/* A file that this plan does not come from may be somebody's work: replacing it is asked for. "!NAME": it was. */
static bool may_write(struct bl_app *app, enum bl_action a, const char *name)
{
	char question[600], sure[512];

	if (!bl_is_file(name))
		return true;
	if (strlen(name) + 2 > sizeof sure) {
		bl_app_message(app, BL_MSG_ERROR, "this file exists: choose another name");
		return false;
	}
	snprintf(sure, sizeof sure, "!%s", name);
	snprintf(question, sizeof question, "%s exists. Replace it?", name);
	bl_app_ask(app, question, a, sure);
	return false;
}

static unsigned do_save(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	bool sure = *arg == '!';
	char *own = bl_session_plan_file(app->session);
	const char *name = arg[sure] ? arg + sure : own;
	bool mine = app->session->plan_path && !strcmp(name, app->session->plan_path);

	if (mine || sure || may_write(app, BL_ACT_SAVE, name)) {
		if (bl_session_save(app->session, name, &err))
			bl_app_message_err(app, &err);
		else
			bl_app_message(app, BL_MSG_INFO, "plan saved as %s", app->session->plan_path);
	}
	bl_free(own);
	return BL_REACT_REDRAW;
}

static unsigned do_snapshot(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;

	if (bl_session_snapshot(app->session, arg, "", &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	edited(app);
	bl_app_message(app, BL_MSG_INFO, "snapshot %s saved (S lists them)", arg);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_restore(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	int i = bl_plan_find_snapshot(app->session->plan, arg);

	if (i < 0) {
		bl_app_message(app, BL_MSG_ERROR, "there is no snapshot %s · S lists them", arg);
		return BL_REACT_REDRAW;
	}
	if (bl_plan_snapshot_restore(app->session->plan, i, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	edited(app);
	bl_app_message(app, BL_MSG_INFO, "snapshot %s restored (u undoes)", arg);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_recipe(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str notes = { 0 };
	int n = 0;

	if (bl_session_recipe(app->session, arg, &notes, &err)) {
		bl_app_message_err(app, &err);
		bl_str_free(&notes);
		return BL_REACT_REDRAW;
	}
	bl_str_c(&notes);
	for (char *save = NULL, *l = strtok_r(notes.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save), n++)
		bl_app_message(app, BL_MSG_WARN, "recipe: %s", l);
	bl_str_free(&notes);
	edited(app);
	if (n)
		bl_app_message(app, BL_MSG_WARN, "%s applied; %d thing%s of it cannot be honoured: L lists them", arg,
			       n, n == 1 ? "" : "s");
	else
		bl_app_message(app, BL_MSG_INFO, "%s applied (u undoes)", arg);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_write_recipe(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str text = { 0 };

	if (*arg != '!' && !may_write(app, BL_ACT_RECIPE_WRITE, arg))
		return BL_REACT_REDRAW;
	arg += *arg == '!';
	bl_recipe_print(&text, app->session->plan, app->session->model, "bitlathe");
	if (bl_write_file(arg, bl_str_c(&text), text.len, 0644, &err))
		bl_app_message_err(app, &err);
	else
		bl_app_message(app, BL_MSG_INFO, "recipe written to %s", arg);
	bl_str_free(&text);
	return BL_REACT_REDRAW;
}

static unsigned do_config(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	const char *equals = strchr(arg, '=');
	char *key;

	if (!*arg) {
		bl_app_push(app, "config", NULL);
		return BL_REACT_REDRAW;
	}
	if (!equals) {
		bl_app_message(app, BL_MSG_ERROR, "config wants KEY=VALUE; KEY= drops the edit");
		return BL_REACT_REDRAW;
	}
	key = bl_xstrndup(arg, (size_t)(equals - arg));
	if (bl_plan_set_edit(app->session->plan, key, equals[1] ? equals + 1 : NULL, &err)) {
		bl_app_message_err(app, &err);
	} else {
		edited(app);
		bl_app_message(app, BL_MSG_INFO,
			       equals[1] ? "config.json will have %s (u undoes)"
					 : "the edit of %s is dropped (u undoes)",
			       equals[1] ? arg : key);
	}
	bl_free(key);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_target(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	const struct bl_target *t;

	if (!*arg) {
		bl_app_prompt(app, "target ", NULL, "TARGET", BL_ACT_TARGET);
		return BL_REACT_REDRAW;
	}
	if (bl_target_find(&t, arg, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	bl_plan_begin(app->session->plan, t->name);
	bl_plan_set_target(app->session->plan, t->name);
	bl_plan_end(app->session->plan);
	edited(app);
	bl_app_message(app, BL_MSG_INFO, "the plan is now checked against %s", t->title);
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

static unsigned do_allow_nonfinite(struct bl_app *app, const char *arg)
{
	struct bl_plan *p = app->session->plan;
	bool on = !bl_plan_zero_nonfinite(p);

	(void)arg;
	bl_plan_begin(p, on ? "NaN and Inf become zero" : "NaN and Inf are refused");
	bl_plan_set_zero_nonfinite(p, on);
	bl_plan_end(p);
	edited(app);
	bl_app_message(app, BL_MSG_INFO,
		       on ? "NaN and Inf weights will be stored as zero (u undoes)"
			  : "NaN and Inf weights are refused again");
	return BL_REACT_EDITED | BL_REACT_REDRAW;
}

/* ---- work ---- */

/* Other jobs may begin and end before the answer: the job that the question names is the one that is cancelled. */
void bl_ask_cancel(struct bl_app *app, const struct bl_job_view *job)
{
	char question[160], id[24];

	snprintf(question, sizeof question, "Cancel %s?", job->name);
	snprintf(id, sizeof id, "#%llu", (unsigned long long)job->id);
	bl_app_ask(app, question, BL_ACT_CANCEL, id);
}

static unsigned do_cancel(struct bl_app *app, const char *arg)
{
	struct bl_job_view job;

	if (*arg == '#')
		bl_jobs_cancel(app->session->jobs, strtoull(arg + 1, NULL, 10));
	else if (bl_app_jobs_running(app, &job) || bl_app_find_job(app, "", &job)) /* the one of the job line, else one that waits */
		bl_ask_cancel(app, &job);
	else
		bl_app_message(app, BL_MSG_INFO, "nothing is running · Q leaves");
	return BL_REACT_REDRAW;
}

static unsigned do_verify(struct bl_app *app, const char *arg)
{
	return bl_verify_start(app, arg);
}

/* ---- the program ---- */

static unsigned do_back(struct bl_app *app, const char *arg)
{
	(void)arg;
	if (app->priv->depth > 1)
		bl_app_pop(app);
	else
		bl_app_message(app, BL_MSG_INFO, "this is the first screen · Q leaves bitlathe");
	return BL_REACT_REDRAW;
}

static unsigned do_command(struct bl_app *app, const char *arg)
{
	if (*arg)
		return bl_action_run_text(app, arg);
	bl_app_prompt(app, ":", NULL, "COMMAND", BL_ACT_COMMAND);
	return BL_REACT_REDRAW;
}

enum bl_status bl_app_set_theme(struct bl_app *app, const char *name, struct bl_err *err)
{
	struct bl_theme t;
	struct bl_str warnings = { 0 };
	enum bl_status status = bl_theme_load(&t, name, app->options.program_dir, &warnings, err);

	if (status == BL_OK) {
		app->theme = t;
		app->priv->redraw = true;
		if (warnings.len) {
			warnings.s[strcspn(warnings.s, "\n")] = '\0';
			bl_app_message(app, BL_MSG_WARN, "%s", warnings.s);
		}
	}
	bl_str_free(&warnings);
	return status;
}

void bl_app_save_settings(struct bl_app *app)
{
	struct bl_err err = BL_ERR_INIT;
	char *path;

	if (!app->priv->persistent)
		return;
	path = bl_settings_path();
	if (bl_settings_save(app->settings, path, &err))
		bl_app_message_err(app, &err);
	bl_free(path);
}

static unsigned do_setting(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	const char *equals = strchr(arg, '=');
	char *name;

	if (!equals) {
		bl_app_message(app, BL_MSG_ERROR, "setting wants NAME=VALUE · Tab completes both");
		return BL_REACT_REDRAW;
	}
	name = bl_xstrndup(arg, (size_t)(equals - arg));
	if (bl_settings_set(app->settings, name, equals + 1, &err)) {
		bl_app_message_err(app, &err);
	} else {
		if (!strcmp(name, "theme") && bl_app_set_theme(app, equals + 1, &err))
			bl_app_message_err(app, &err);
		if (!strcmp(name, "glyphs") && strcmp(equals + 1, "auto") != 0)
			app->grid.ascii = !strcmp(equals + 1, "ascii");
		app->priv->redraw = true;
		bl_app_save_settings(app);
		bl_app_message(app, BL_MSG_INFO, "%s", arg);
	}
	bl_free(name);
	return BL_REACT_REDRAW;
}

static unsigned do_theme(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;

	if (bl_app_set_theme(app, arg, &err) || bl_settings_set(app->settings, "theme", arg, &err)) {
		bl_app_message_err(app, &err);
		return BL_REACT_REDRAW;
	}
	bl_app_save_settings(app);
	bl_app_message(app, BL_MSG_INFO, "theme %s: %s", app->theme.name, app->theme.sentence);
	return BL_REACT_REDRAW;
}

static unsigned do_copy(struct bl_app *app, const char *arg)
{
	const struct bl_screen *top = bl_app_top(app);
	struct bl_str text = { 0 };

	(void)arg;
	if (top->row_text)
		top->row_text(app, bl_app_state(app), &text);
	if (!text.len) {
		bl_app_message(app, BL_MSG_INFO, "there is no row to copy here");
		bl_str_free(&text);
		return BL_REACT_REDRAW;
	}
	bl_app_message(app, BL_MSG_INFO, "copied: %s", text.s);
	bl_free(app->priv->clipboard);
	app->priv->clipboard = bl_str_take(&text);
	return BL_REACT_REDRAW;
}

static unsigned do_redraw(struct bl_app *app, const char *arg)
{
	(void)arg;
	app->priv->redraw = true;
	return BL_REACT_REDRAW;
}

static unsigned do_dump(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str text = { 0 };

	if (*arg != '!' && !may_write(app, BL_ACT_DUMP, arg))
		return BL_REACT_REDRAW;
	arg += *arg == '!';
	app->priv->message.on = false;
	bl_app_draw(app);
	bl_grid_dump(&app->grid, &text, false);
	if (bl_write_file(arg, bl_str_c(&text), text.len, 0644, &err))
		bl_app_message_err(app, &err);
	else
		bl_app_message(app, BL_MSG_INFO, "screen written to %s", arg);
	bl_str_free(&text);
	return BL_REACT_REDRAW;
}

static unsigned do_dismiss(struct bl_app *app, const char *arg)
{
	(void)arg;
	app->priv->message.on = false;
	return BL_REACT_REDRAW;
}

static unsigned do_suspend(struct bl_app *app, const char *arg)
{
	(void)arg;
	app->priv->suspend = true;
	return BL_REACT_REDRAW;
}

static unsigned do_quit_now(struct bl_app *app, const char *arg)
{
	(void)arg;
	app->priv->quit = true;
	return BL_REACT_NONE;
}

/* Work that somebody asked for; reading weights and keeping the screen up to date is none. */
static bool work_is_lost(const struct bl_app *app)
{
	static const char *const kinds[] = { "export", "verify", "calibrate", "evaluate", "quantize", "search" };
	struct bl_job_view j;

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (bl_app_find_job(app, kinds[i], &j))
			return true;
	return false;
}

static unsigned do_quit(struct bl_app *app, const char *arg)
{
	bool job = work_is_lost(app);
	bool dirty = app->session && bl_plan_dirty(app->session->plan);

	if (!job && !dirty)
		return do_quit_now(app, arg);
	bl_app_ask(app,
		   job && dirty ? "A job is running, the plan is not saved (w saves). Cancel it and leave?"
		   : job        ? "A job is running. Leave and cancel it?"
				: "The plan is not saved (w saves). Leave anyway?",
		   BL_ACT_QUIT_NOW, "");
	return BL_REACT_REDRAW;
}

/* Actions that only open a screen. */
static const struct {
	enum bl_action action;
	const char *screen;
} opens[] = {
	{ BL_ACT_SNAPSHOTS, "snapshots" }, { BL_ACT_PROBLEMS, "problems" },
	{ BL_ACT_JOBS, "jobs" },           { BL_ACT_LOG, "log" },
	{ BL_ACT_HELP, "help" },           { BL_ACT_EXPORT, "export" },
	{ BL_ACT_COMPARE, "snapshots" },
};

static const struct {
	enum bl_action action;
	bool needs_session;
	handler *fn;
} handlers[] = {
	{ BL_ACT_SET, true, do_set },
	{ BL_ACT_STAGES, true, do_stages },
	{ BL_ACT_PRESET, true, do_preset },
	{ BL_ACT_RECOMMENDED, true, do_recommended },
	{ BL_ACT_UNDO, true, do_undo },
	{ BL_ACT_REDO, true, do_redo },
	{ BL_ACT_SAVE, true, do_save },
	{ BL_ACT_SNAPSHOT_SAVE, true, do_snapshot },
	{ BL_ACT_SNAPSHOT_RESTORE, true, do_restore },
	{ BL_ACT_RECIPE_READ, true, do_recipe },
	{ BL_ACT_RECIPE_WRITE, true, do_write_recipe },
	{ BL_ACT_CONFIG, true, do_config },
	{ BL_ACT_TARGET, true, do_target },
	{ BL_ACT_ALLOW_NONFINITE, true, do_allow_nonfinite },
	{ BL_ACT_CANCEL, true, do_cancel },
	{ BL_ACT_VERIFY, true, do_verify },
	{ BL_ACT_CALIBRATE, true, bl_do_calibrate },
	{ BL_ACT_EVALUATE, true, bl_do_evaluate },
	{ BL_ACT_BUDGET, true, bl_do_budget },
	{ BL_ACT_ADOPT, true, bl_do_adopt },
	{ BL_ACT_PAUSE, true, bl_do_pause },
	{ BL_ACT_RESUME, true, bl_do_resume },
	{ BL_ACT_BACK, false, do_back },
	{ BL_ACT_COMMAND, false, do_command },
	{ BL_ACT_THEME, false, do_theme },
	{ BL_ACT_SETTING, false, do_setting },
	{ BL_ACT_COPY, false, do_copy },
	{ BL_ACT_REDRAW, false, do_redraw },
	{ BL_ACT_DUMP, false, do_dump },
	{ BL_ACT_DISMISS, false, do_dismiss },
	{ BL_ACT_SUSPEND, false, do_suspend },
	{ BL_ACT_QUIT, false, do_quit },
	{ BL_ACT_QUIT_NOW, false, do_quit_now },
};

unsigned bl_program_act(struct bl_app *app, enum bl_action a, const char *arg)
{
	for (size_t i = 0; i < sizeof opens / sizeof opens[0]; i++)
		if (opens[i].action == a) {
			bl_app_push(app, opens[i].screen, *arg ? arg : NULL);
			return BL_REACT_REDRAW;
		}
	for (size_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++) {
		if (handlers[i].action != a)
			continue;
		if (handlers[i].needs_session && !app->session) {
			bl_app_message(app, BL_MSG_WARN,
				       "open a checkpoint first: Enter on one of the list, or bitlathe FOLDER");
			return BL_REACT_REDRAW;
		}
		return handlers[i].fn(app, arg);
	}
	return BL_REACT_UNKNOWN;
}
