/* SPDX-License-Identifier: Apache-2.0
 * What lasts between runs, in $XDG_STATE_HOME/bitlathe: the history of prompts, models opened lately, which hints were
 * followed. All of it may be missing, broken or read-only: then it is simply not remembered. Also what happens once per
 * loop turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "tui/app_private.h"

#define STATE_BYTES_MAX (4 * 1024 * 1024)
#define JOBS_SHOWN      64

/* One thing a newcomer has not done yet, in the order in which it helps. */
static const struct {
	enum bl_action action;
	const char *screen, *text;
} hints[] = {
	{ BL_ACT_OPEN, "welcome", "%s opens the checkpoint under the cursor" },
	{ BL_ACT_OPEN, "layers", "%s opens a unit: histogram, channels, every scheme with its error" },
	{ BL_ACT_SCHEME_W8A8, "layers", "%s sets W8A8 on the row under the cursor; ? shows all keys" },
	{ BL_ACT_TAG, "layers", "%s tags rows: schemes then go to all tagged ones" },
	{ BL_ACT_SET, "layers", "%s sets schemes by pattern, as down=W4A16 or 0-3=BF16" },
	{ BL_ACT_UNDO, "layers", "%s takes the last edit back, as often as you like" },
	{ BL_ACT_CALIBRATE, "layers", "%s runs the model over your data: true errors and activation ranges" },
	{ BL_ACT_SNAPSHOTS, "layers", "%s keeps and compares named states of the plan" },
	{ BL_ACT_EXPORT, "layers", "%s writes the checkpoint and proves it" },
	{ BL_ACT_PANE_NEXT, "unit", "%s goes to the next pane" },
};

void bl_hints_done(struct bl_app *app, enum bl_action a)
{
	app->priv->hint_done[a] = true;
}

const char *bl_hint(const struct bl_app *app, char *dst)
{
	if (!bl_settings_bool(app->settings, BL_SET_HINTS) || app->priv->prompt.on || app->priv->ask.on)
		return NULL;
	for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++) {
		char keys[64];

		if (app->priv->hint_done[hints[i].action] || strcmp(hints[i].screen, bl_app_top(app)->name) != 0)
			continue;
		bl_app_keys_of(app, hints[i].action, keys, sizeof keys);
		keys[strcspn(keys, ",")] = '\0';
		if (!keys[0])
			continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(dst, 200, hints[i].text, keys);
#pragma GCC diagnostic pop
		return dst;
	}
	return NULL;
}

/* ---- files ---- */

static char *state_path(const char *name)
{
	char *dir = bl_xdg_dir("STATE"), *path = bl_path_join(dir, name);

	bl_free(dir);
	return path;
}

static char *read_state(const char *name)
{
	char *path = state_path(name), *text = NULL;
	size_t n;
	struct bl_err err = BL_ERR_INIT;

	if (!bl_is_file(path) || bl_read_file(&text, &n, path, STATE_BYTES_MAX, true, &err))
		text = NULL;
	bl_free(path);
	return text;
}

static void write_state(const char *name, struct bl_str *text)
{
	char *path = state_path(name), *dir = bl_path_dir(path);
	struct bl_err err = BL_ERR_INIT;

	if (bl_mkdirs(dir, 0700, &err) || bl_write_file(path, bl_str_c(text), text->len, 0600, &err))
		bl_log(BL_LOG_WARN, "%s", err.text);
	bl_free(dir);
	bl_free(path);
	bl_str_free(text);
}

static void add_recent(struct bl_app *app, const char *what, bool front)
{
	struct bl_app_private *p = app->priv;

	for (size_t i = 0; i < p->n_recent; i++)
		if (!strcmp(p->recent[i], what)) {
			if (!front)
				return;
			bl_free(p->recent[i]);
			memmove(&p->recent[i], &p->recent[i + 1], (p->n_recent - i - 1) * sizeof p->recent[0]);
			p->n_recent--;
			break;
		}
	if (p->n_recent >= BL_RECENT_MAX) {
		if (!front)
			return;
		bl_free(p->recent[--p->n_recent]);
	}
	if (front)
		memmove(&p->recent[1], &p->recent[0], p->n_recent * sizeof p->recent[0]);
	p->recent[front ? 0 : p->n_recent] = bl_xstrdup(what);
	p->n_recent++;
}

void bl_app_state_load(struct bl_app *app)
{
	char *text = read_state("history");

	if (text)
		bl_history_parse(&app->priv->history, text);
	bl_free(text);
	if (!app->priv->recent)
		app->priv->recent = bl_xalloc(BL_RECENT_MAX + 1, sizeof *app->priv->recent);
	if ((text = read_state("recent")))
		for (char *save = NULL, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
			if (strlen(l) < 4096)
				add_recent(app, l, false);
	bl_free(text);
	if ((text = read_state("hints")))
		for (char *save = NULL, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
			if (bl_action_find(l) >= 0)
				app->priv->hint_done[bl_action_find(l)] = true;
	bl_free(text);
}

void bl_app_state_save(struct bl_app *app)
{
	struct bl_app_private *p = app->priv;
	struct bl_str text = { 0 };

	if (!p->persistent)
		return;
	bl_history_print(&p->history, &text);
	write_state("history", &text);
	for (size_t i = 0; i < p->n_recent; i++)
		bl_str_addf(&text, "%s\n", p->recent[i]);
	write_state("recent", &text);
	for (int a = 0; a < BL_ACTION_COUNT; a++)
		if (p->hint_done[a])
			bl_str_addf(&text, "%s\n", bl_action_row((enum bl_action)a)->name);
	write_state("hints", &text);
}

void bl_app_state_free(struct bl_app *app)
{
	for (size_t i = 0; i < app->priv->n_recent; i++)
		bl_free(app->priv->recent[i]);
	bl_free(app->priv->recent);
	bl_history_free(&app->priv->history);
}

void bl_app_remember_model(struct bl_app *app, const char *what)
{
	char *full;

	if (!app->priv->persistent || strpbrk(what, "\n\t"))
		return;
	full = realpath(what, NULL); /* an id of the Hugging Face cache is no path */
	add_recent(app, full ? full : what, true);
	free(full);
}

const char *const *bl_app_recent(const struct bl_app *app, size_t *n)
{
	*n = app->priv->n_recent;
	return (const char *const *)app->priv->recent;
}

/* ---- once per loop turn ---- */

static bool was_running(const struct bl_app_private *p, uint64_t id)
{
	for (int i = 0; i < p->n_running; i++)
		if (p->running[i] == id)
			return true;
	return false;
}

/* What a cancelled job leaves, and how one goes on. */
static const char *left_behind(const char *name)
{
	static const struct {
		const char *kind, *text;
	} kinds[] = {
		{ "calibrate", "; what was finished is kept, c goes on from there" },
		{ "search", "; what was measured is kept, B goes on from there" },
		{ "quantize", "; what was solved is kept, r or x goes on from there" },
	};

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (bl_starts_with(name, kinds[i].kind))
			return kinds[i].text;
	return ", nothing was left behind";
}

static void report_end(struct bl_app *app, const struct bl_job_view *j)
{
	char secs[16];

	switch (j->state) {
	case BL_JOB_FAILED:
		bl_app_message(app, BL_MSG_ERROR, "%s: %s", j->name,
			       j->err.text[0] ? j->err.text : bl_status_text(j->err.status));
		break;
	case BL_JOB_CANCELLED:
		if (bl_starts_with(j->name, "methods")) /* it made room, or another one took its place: its rows say so */
			break;
		bl_app_message(app, BL_MSG_INFO, "%s: cancelled%s", j->name, left_behind(j->name));
		break;
	case BL_JOB_DONE:
		if (bl_starts_with(j->name, "verify"))
			bl_verify_report(app, j);
		else if (bl_starts_with(j->name, "export"))
			bl_app_message(app, BL_MSG_INFO, "%s: written and proved in %s (x shows the proof)", j->name,
				       bl_human_secs(secs, sizeof secs, j->seconds));
		else if (bl_starts_with(j->name, "calibrate"))
			bl_app_message(app, BL_MSG_INFO, "%s: done in %s; errors are the layers' true ones now", j->name,
				       bl_human_secs(secs, sizeof secs, j->seconds));
		else if (bl_starts_with(j->name, "evaluate"))
			bl_app_message(app, BL_MSG_INFO, "%s: done in %s (e shows the result)", j->name,
				       bl_human_secs(secs, sizeof secs, j->seconds));
		else if (bl_starts_with(j->name, "search") && strcmp(bl_app_top(app)->name, "budget") != 0)
			bl_app_message(app, BL_MSG_INFO, "%s: done in %s (B shows what was found, y there takes it)", j->name,
				       bl_human_secs(secs, sizeof secs, j->seconds));
		else if (bl_starts_with(j->name, "quantize"))
			bl_app_message(app, BL_MSG_INFO, "solved: the rows show what was reached, x exports");
		break;
	default:
		break;
	}
}

void bl_app_tick(struct bl_app *app)
{
	struct bl_app_private *p = app->priv;
	struct bl_job_view jobs[JOBS_SHOWN];
	int n, running = 0;

	if (!app->session)
		return;
	bl_jobs_drain(app->session->jobs);
	bl_session_tick(app->session);
	n = bl_jobs_list(app->session->jobs, jobs, JOBS_SHOWN);
	n = n < JOBS_SHOWN ? n : JOBS_SHOWN;
	for (int i = n - 1; i >= 0; i--) {
		bool ended = jobs[i].state >= BL_JOB_DONE && !jobs[i].quiet;

		/* one that began and ended between two turns counts too */
		if (ended && (was_running(p, jobs[i].id) || jobs[i].id > p->newest_job))
			report_end(app, &jobs[i]);
	}
	for (int i = 0; i < n; i++) {
		if (jobs[i].state < BL_JOB_DONE && !jobs[i].quiet)
			p->running[running++] = jobs[i].id;
		if (jobs[i].id > p->newest_job)
			p->newest_job = jobs[i].id;
	}
	p->n_running = running;
	p->depth_of_act++; /* a screen may leave */
	if (bl_app_top(app)->tick)
		bl_app_top(app)->tick(app, bl_app_state(app));
	bl_app_act_over(app);
}

int bl_app_timeout_ms(const struct bl_app *app)
{
	struct bl_device_view device;
	struct bl_effect effect;

	if (!app->session)
		return -1;
	if (bl_jobs_busy(app->session->jobs))
		return 500;
	if (bl_plan_dirty(app->session->plan))
		return 1000; /* the autosave */
	bl_session_device(app->session, &device);
	if (device.cuda)
		return 2000; /* its memory, and who else is there */
	bl_session_effect(app->session, &effect);
	return effect.kl.origin == BL_MEASURED ? 30000 : -1; /* how old it is */
}
