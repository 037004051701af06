/* SPDX-License-Identifier: Apache-2.0
 * The autosave: the plan as it was at most a second ago, beside what other runs left. Writing waits for the disk, which an export keeps busy for
 * hundreds of milliseconds, so a thread of its own does it; the screen's thread only prints the text. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/live.h"

#define AUTOSAVE_NS 1000000000ull
#define NEVER UINT64_MAX /* no revision */

static void *save(void *arg)
{
	struct bl_session_private *p = arg;
	struct bl_err err = BL_ERR_INIT;
	char *dir = bl_path_dir(p->autosave_path);

	if (bl_mkdirs(dir, 0700, &err) || bl_write_file(p->autosave_path, bl_str_c(&p->saving), p->saving.len, 0600, &err))
		bl_log(BL_LOG_WARN, "the plan could not be saved automatically: %s", err.text);
	atomic_store(&p->save_failed, err.status != BL_OK);
	bl_free(dir);
	atomic_store(&p->saved, true);
	return NULL;
}

static void join(struct bl_session_private *p)
{
	if (p->has_saver)
		pthread_join(p->saver, NULL);
	p->has_saver = false;
}

/* What could not be written is still to be written. */
static bool failed(struct bl_session_private *p)
{
	if (!atomic_exchange(&p->save_failed, false))
		return false;
	p->autosaved_at = NEVER;
	return true;
}

static void start(struct bl_session *s)
{
	struct bl_session_private *p = s->priv;

	join(p);
	bl_str_clear(&p->saving);
	bl_plan_print(&p->saving, s->plan);
	p->autosaved_at = bl_plan_revision(s->plan);
	p->edited_ns = 0;
	atomic_store(&p->saved, false);
	p->has_saver = pthread_create(&p->saver, NULL, save, p) == 0;
	if (!p->has_saver)
		save(p);
}

void bl_session_tick(struct bl_session *s)
{
	struct bl_session_private *p = s->priv;

	bl_live_tick(s);
	if (p->has_saver && atomic_load(&p->saved) && failed(p) && !p->edited_ns)
		p->edited_ns = bl_now_ns();
	if (!p->autosave || !p->edited_ns || bl_now_ns() - p->edited_ns < AUTOSAVE_NS)
		return;
	if (p->has_saver && !atomic_load(&p->saved))
		return; /* the disk is slow: the next turn asks again */
	if (bl_plan_revision(s->plan) != p->autosaved_at)
		start(s);
	p->edited_ns = 0;
}

void bl_session_autosave_drop(struct bl_session *s)
{
	struct bl_session_private *p = s->priv;

	join(p);
	if (p->autosave_path)
		unlink(p->autosave_path);
	p->autosaved_at = bl_plan_revision(s->plan);
	p->edited_ns = 0;
}

void bl_session_autosave_close(struct bl_session *s)
{
	struct bl_session_private *p = s->priv;

	join(p);
	failed(p);
	if (p->autosave_path && s->plan && !bl_plan_dirty(s->plan))
		bl_session_autosave_drop(s);
	else if (p->autosave_path && s->plan && bl_plan_revision(s->plan) != p->autosaved_at)
		start(s); /* an edit of the last second; whatever ends the program, it is not lost */
	join(p);
	bl_str_free(&p->saving);
}

/* ---- taking up again ---- */

static bool newer(const char *a, const char *b)
{
	struct stat sa, sb;

	if (stat(a, &sa))
		return false;
	if (stat(b, &sb))
		return true;
	return sa.st_mtim.tv_sec != sb.st_mtim.tv_sec ? sa.st_mtim.tv_sec > sb.st_mtim.tv_sec : sa.st_mtim.tv_nsec > sb.st_mtim.tv_nsec;
}

/* The whole text: locks and snapshots count too. */
static bool same_plan(const struct bl_plan *a, const struct bl_plan *b)
{
	struct bl_str x = {0}, y = {0};

	bl_plan_print(&x, a);
	bl_plan_print(&y, b);
	bool same = !strcmp(bl_str_c(&x), bl_str_c(&y));
	bl_str_free(&x);
	bl_str_free(&y);
	return same;
}

static void take_document(struct bl_plan *to, const struct bl_plan *from)
{
	struct bl_err ignored = BL_ERR_INIT; /* what could be read can be set */

	bl_plan_set_target(to, bl_plan_target(from));
	bl_plan_set_format(to, bl_plan_format(from));
	bl_plan_set_zero_nonfinite(to, bl_plan_zero_nonfinite(from));
	for (int i = 0; i < bl_plan_n_units(to); i++) {
		const struct bl_choice *c = bl_plan_choice(from, i);
		bl_plan_set_lock(to, i, false);
		bl_plan_set_scheme(to, i, &c->scheme);
		if (c->method[0])
			bl_plan_set_method(to, i, c->method, c->params);
		bl_plan_set_lock(to, i, c->locked);
	}
	for (int i = bl_plan_n_edits(to); i-- > 0;)
		bl_plan_set_edit(to, bl_plan_edit(to, i)->key, NULL, &ignored);
	for (int i = 0; i < bl_plan_n_edits(from); i++)
		bl_plan_set_edit(to, bl_plan_edit(from, i)->key, bl_plan_edit(from, i)->value, &ignored);
}

/* Whether snapshot i of a holds what snapshot j of b holds; both plans are copies for trying out. */
static bool same_snapshot(struct bl_plan *a, int i, struct bl_plan *b, int j)
{
	struct bl_err ignored = BL_ERR_INIT;
	char x[65], y[65];

	if (bl_plan_snapshot_restore(a, i, &ignored) || bl_plan_snapshot_restore(b, j, &ignored))
		return false;
	bl_plan_digest(a, x);
	bl_plan_digest(b, y);
	return !strcmp(x, y);
}

#define NAME_BYTES 65 /* of a snapshot's name and its NUL */

static void free_name(const struct bl_plan *p, const char *wanted, char name[NAME_BYTES])
{
	char cut[41];

	bl_printable(cut, sizeof cut, wanted); /* never half a character */
	snprintf(name, NAME_BYTES, "%s", wanted);
	for (int i = 1; bl_plan_find_snapshot(p, name) >= 0; i++)
		snprintf(name, NAME_BYTES, "%s (recovered %d)", cut, i);
}

/* Snapshots that are here stay; those that only the autosave has are added, under another name where theirs means something else here. */
static void take_snapshots(struct bl_plan *to, const struct bl_plan *from)
{
	struct bl_plan *had = bl_plan_copy(to), *other = bl_plan_copy(from);
	char name[NAME_BYTES];

	for (int i = bl_plan_n_snapshots(from); i-- > 0;) { /* the oldest first: their order stays */
		const struct bl_snapshot *snap = bl_plan_snapshot(from, i);
		struct bl_err err = BL_ERR_INIT;
		int here = bl_plan_find_snapshot(had, snap->name);
		if (here >= 0 && same_snapshot(had, here, other, i))
			continue;
		if (bl_plan_snapshot_restore(other, i, &err) == BL_OK) {
			take_document(to, other);
			free_name(to, snap->name, name);
			bl_plan_snapshot_save_with(to, name, snap->note, bl_snapshot_results_copy(snap->results), &err);
		}
		if (err.status)
			bl_log(BL_LOG_WARN, "snapshot %s of the recovered plan is left out: %s", snap->name, err.text);
	}
	bl_plan_free(had);
	bl_plan_free(other);
}

/* Never deleted: it may be somebody's only copy. */
static void put_aside(const char *path, const char *why)
{
	struct bl_str aside = {0};

	bl_str_addf(&aside, "%s.old", path);
	if (rename(path, bl_str_c(&aside)) == 0)
		bl_log(BL_LOG_INFO, "%s: it is kept as %s", why, bl_str_c(&aside));
	bl_str_free(&aside);
}

void bl_session_recover(struct bl_session *s)
{
	const char *path = s->priv->autosave_path;
	struct bl_err err = BL_ERR_INIT;
	struct bl_plan *found = NULL;

	if (!bl_is_file(path))
		return;
	if (bl_plan_load(&found, s->model, path, NULL, &err)) {
		bl_err_prefix(&err, "an unsaved plan of an earlier run could not be read");
		put_aside(path, err.text);
		bl_session_notice(s, bl_xstrdup(err.text));
		return;
	}
	bool older = s->plan_path && !newer(path, s->plan_path);
	if (!same_plan(found, s->plan) && older) {
		put_aside(path, "an unsaved plan of an earlier run is older than the plan that was opened");
	} else if (!same_plan(found, s->plan)) { /* what differs becomes one step that can be undone */
		bl_plan_begin(s->plan, "recovered autosave");
		take_snapshots(s->plan, found);
		take_document(s->plan, found);
		bl_plan_end(s->plan);
		bl_session_edited(s);
		bl_session_notice(s, bl_xstrdup("the unsaved plan of an earlier run was taken up again (u takes it back, w saves it)"));
	}
	bl_plan_free(found);
}
