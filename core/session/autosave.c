/* SPDX-License-Identifier: Apache-2.0
 * The autosave: the plan as it was at most a second ago, beside what other runs left. Writing waits for the disk, which an export keeps busy for
 * hundreds of milliseconds, so a thread of its own does it; the screen's thread only prints the text. */
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/private.h"

#define AUTOSAVE_NS 1000000000ull

static void *save(void *arg)
{
	struct bl_session_private *p = arg;
	struct bl_err err = BL_ERR_INIT;
	char *dir = bl_path_dir(p->autosave_path);

	if (bl_mkdirs(dir, 0700, &err) || bl_write_file(p->autosave_path, bl_str_c(&p->saving), p->saving.len, 0600, &err))
		bl_log(BL_LOG_WARN, "the plan could not be saved automatically: %s", err.text);
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

	if (p->autosave_path && s->plan && !bl_plan_dirty(s->plan))
		bl_session_autosave_drop(s);
	else if (p->autosave_path && s->plan && bl_plan_revision(s->plan) != p->autosaved_at)
		start(s); /* an edit of the last second; whatever ends the program, it is not lost */
	join(p);
	bl_str_free(&p->saving);
}

/* An autosave that differs from what was opened becomes one undoable step. */
static void take_up(struct bl_session *s, const struct bl_plan *found, struct bl_err *err)
{
	bl_plan_begin(s->plan, "recovered autosave");
	bl_plan_set_target(s->plan, bl_plan_target(found));
	bl_plan_set_format(s->plan, bl_plan_format(found));
	bl_plan_set_zero_nonfinite(s->plan, bl_plan_zero_nonfinite(found));
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(found, i);
		bl_plan_set_lock(s->plan, i, false);
		bl_plan_set_scheme(s->plan, i, &c->scheme);
		if (c->method[0])
			bl_plan_set_method(s->plan, i, c->method, c->params);
		bl_plan_set_lock(s->plan, i, c->locked);
	}
	while (bl_plan_n_edits(s->plan))
		bl_plan_set_edit(s->plan, bl_plan_edit(s->plan, 0)->key, NULL, err);
	for (int i = 0; i < bl_plan_n_edits(found); i++)
		bl_plan_set_edit(s->plan, bl_plan_edit(found, i)->key, bl_plan_edit(found, i)->value, err);
	bl_plan_end(s->plan);
	bl_session_edited(s);
}

enum bl_status bl_session_recover(struct bl_session *s, bool *taken, struct bl_err *err)
{
	struct bl_plan *found = NULL;
	char a[65], b[65];

	*taken = false;
	if (!bl_is_file(s->priv->autosave_path))
		return BL_OK;
	if (bl_plan_load(&found, s->model, s->priv->autosave_path, NULL, err))
		return bl_err_prefix(err, "an unsaved plan of an earlier run could not be read");
	bl_plan_digest(found, a);
	bl_plan_digest(s->plan, b);
	*taken = strcmp(a, b) != 0;
	if (*taken)
		take_up(s, found, err);
	bl_plan_free(found);
	return BL_OK;
}
