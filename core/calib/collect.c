/* SPDX-License-Identifier: Apache-2.0
 * A calibration from the outside: finds out what is stored, has the rest made, lists it all, and sees to it that it reaches the disk. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/calib/private.h"

struct check {
	struct calib_job *j;
	atomic_int bad_ids;
	struct bl_input_stats *stats; /* [n_units] of stored blocks, to announce */
};

/* Leftovers of a killed run, and hidden states that are not the newest usable ones. The folder is locked: they are nobody's. */
static void tidy(const char *folder, int keep_hidden)
{
	struct bl_err ignored = BL_ERR_INIT;
	char **names, keep[32];
	size_t n;

	if (bl_list_dir(&names, &n, folder, &ignored))
		return;
	calib_file_name(keep, CALIB_HIDDEN, keep_hidden < 0 ? 0 : keep_hidden);
	for (size_t i = 0; i < n; i++) {
		bool temporary = names[i][0] == '.' && bl_ends_with(names[i], ".tmp");

		if (temporary || (bl_starts_with(names[i], "hidden_") && (keep_hidden < 0 || strcmp(names[i], keep)))) {
			char *path = bl_path_join(folder, names[i]);

			unlink(path);
			bl_free(path);
		}
	}
	bl_list_free(names);
}

static bool is_there(const char *folder, enum calib_file_kind kind, int index)
{
	char name[32], *path;
	bool there;

	calib_file_name(name, kind, index);
	path = bl_path_join(folder, name);
	there = bl_is_file(path);
	bl_free(path);
	return there;
}

/* Items: blocks, then inputs, then ids. A file that is not as it must be is made anew; that is no error. */
static enum bl_status check_item(void *ctx, size_t item, struct bl_err *err)
{
	struct check *k = ctx;
	struct calib_job *j = k->j;
	size_t blocks = (size_t)j->shape.m->config.layers;
	enum calib_file_kind kind = item < blocks ? CALIB_BLOCK : item <= 2 * blocks ? CALIB_INPUTS : CALIB_IDS;
	int index = (int)(kind == CALIB_BLOCK ? item : kind == CALIB_INPUTS ? item - blocks : 0);
	struct bl_err why = BL_ERR_INIT;
	struct calib_head h = { 0 };
	bool bad;

	(void)err;
	if (kind == CALIB_INPUTS && !j->shape.keep)
		return BL_OK;
	bad = !is_there(j->folder, kind, index);
	if (!bad && calib_file_verify(&j->shape, j->folder, kind, index, &h, &why)) {
		bl_log(BL_LOG_WARN, "%s", why.text);
		bad = true;
	}
	if (kind == CALIB_BLOCK) {
		j->need[index] = bad;
		j->batch[index] = bad ? 0 : h.batch;
	} else if (kind == CALIB_INPUTS) {
		j->need_input[index] = bad;
	} else {
		atomic_store(&k->bad_ids, bad);
	}
	return BL_OK;
}

static enum bl_status look_over(struct calib_job *j, struct bl_err *err)
{
	struct check k = { .j = j };
	struct bl_pool *pool = bl_forward_engine(j->f)->pool;
	size_t n = 2 * (size_t)j->shape.m->config.layers + 2;

	if (pool) {
		bl_pool_run(pool, n, check_item, &k, j->o->cancel, err);
	} else {
		for (size_t i = 0; i < n && !err->status; i++)
			check_item(&k, i, err);
	}
	j->need_ids = atomic_load(&k.bad_ids);
	return err->status;
}

/* The newest set of hidden states that is of use: no block before it is missing. */
static int stored_hidden(const struct calib_job *j)
{
	int best = -1;

	for (int b = 1; b < j->shape.m->config.layers && !j->need[b - 1] && !j->need_input[b - 1]; b++) {
		struct bl_err why = BL_ERR_INIT;

		if (is_there(j->folder, CALIB_HIDDEN, b) && !calib_file_verify(&j->shape, j->folder, CALIB_HIDDEN, b, NULL, &why))
			best = b;
	}
	return best;
}

/* What is stored already is news to whoever watches. */
static enum bl_status announce_stored(const struct calib_job *j, struct bl_err *err)
{
	for (int b = 0; j->unit_done && b < j->shape.m->config.layers; b++) {
		struct calib_head h;
		struct bl_map map;

		calib_head_make(&h, &j->shape, CALIB_BLOCK, b);
		if (j->need[b])
			continue;
		if (calib_map_file(&map, &h, j->folder, err))
			return err->status;
		for (int i = 0; i < CALIB_UNITS && !err->status; i++) {
			struct bl_input_stats s;
			int unit = b * CALIB_UNITS + i;

			if (!calib_stats_make(&s, map.data + h.section[i].offset, j->shape.m->units[unit].cols, h.tokens, map.path, err)) {
				j->unit_done(j->ctx, unit, &s);
				calib_stats_free(&s);
			}
		}
		bl_map_close(&map);
		if (err->status)
			return err->status;
	}
	return BL_OK;
}

/* --- the manifest --- */

static enum bl_status write_manifest(const char *folder, const struct calib_manifest *m, bool durable, struct bl_err *err)
{
	char *path = bl_path_join(folder, "manifest.json");
	struct bl_str text = { 0 };
	struct bl_replace file;

	calib_manifest_print(&text, m);
	if (durable)
		bl_write_file(path, bl_str_c(&text), text.len, 0644, err);
	else if (!bl_replace_begin(&file, path, 0644, err)) {
		if (bl_pwrite_all(file.fd, bl_str_c(&text), text.len, 0, path, err))
			bl_replace_rollback(&file);
		else
			bl_replace_rename(&file, err);
	}
	bl_str_free(&text);
	bl_free(path);
	return err->status;
}

static enum bl_status list_file(struct calib_manifest *m, const struct calib_shape *s, const char *folder, enum calib_file_kind kind, int index, struct bl_err *err)
{
	struct calib_entry *e = &m->files[m->n_files];
	struct calib_head want, h;
	struct bl_map map;

	calib_head_make(&want, s, kind, index);
	if (calib_map_file(&map, &want, folder, err))
		return err->status;
	memcpy(&h, map.data, sizeof h);
	bl_map_close(&map);
	calib_file_name(e->name, kind, index);
	e->bytes = h.bytes;
	snprintf(e->digest, sizeof e->digest, "%016" PRIx64 "%016" PRIx64, h.sum.a, h.sum.b);
	m->n_files++;
	return BL_OK;
}

static enum bl_status list_files(struct calib_manifest *m, const struct calib_shape *s, const char *folder, struct bl_err *err)
{
	int blocks = (int)s->m->config.layers;

	bl_free(m->files);
	m->files = bl_xalloc((size_t)(2 * blocks + 2), sizeof *m->files);
	m->n_files = 0;
	for (int b = 0; b < blocks; b++)
		if (list_file(m, s, folder, CALIB_BLOCK, b, err))
			return err->status;
	for (int b = 0; s->keep && b <= blocks; b++)
		if (list_file(m, s, folder, CALIB_INPUTS, b, err))
			return err->status;
	return list_file(m, s, folder, CALIB_IDS, 0, err);
}

static void manifest_copy(struct calib_manifest *dst, const struct calib_manifest *src)
{
	*dst = *src;
	dst->files = bl_xalloc(src->n_files + 1, sizeof *dst->files);
	memcpy(dst->files, src->files, src->n_files * sizeof *dst->files);
}

/* --- to the disk --- */

struct settle { struct bl_calib *c; int lock; };

static enum bl_status sync_file(const char *folder, const char *name, struct bl_err *err)
{
	char *path = bl_path_join(folder, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		bl_fail_sys(err, BL_IO, "%s: cannot be opened", path);
	else
		bl_fsync(fd, path, err);
	if (fd >= 0)
		close(fd);
	bl_free(path);
	return err->status;
}

static void *settle_main(void *arg)
{
	struct settle *s = arg;
	struct calib_manifest *m = &s->c->manifest;
	struct bl_err *err = &s->c->settle_err;

	for (size_t i = 0; i < m->n_files; i++)
		if (sync_file(s->c->folder, m->files[i].name, err))
			goto done;
	if (!write_manifest(s->c->folder, m, true, err))
		tidy(s->c->folder, -1);
done:
	if (err->status)
		bl_log(BL_LOG_WARN, "calibration is not finished on the disk: %s", err->text);
	close(s->lock);
	bl_free(s);
	return NULL;
}

static void settle(struct bl_calib *c, int lock)
{
	struct settle *s = bl_xalloc(1, sizeof *s);

	*s = (struct settle){ c, lock };
	c->manifest.complete = true; /* before the thread starts: nobody writes to it afterwards */
	if (pthread_create(&c->thread, NULL, settle_main, s))
		settle_main(s);
	else
		c->settling = true;
}

/* --- all of it --- */

static enum bl_status bounded(const struct bl_calib_data *d, const struct calib_shape *s, struct bl_err *err)
{
	if (!d->ids || !calib_shape_ok(s, err))
		return err->status ? err->status : bl_fail(err, BL_INVALID, "calibration: there are no data");
	return BL_OK;
}

static enum bl_status run_locked(struct bl_calib **out, struct calib_job *j, struct calib_manifest *m, int lock, struct bl_err *err)
{
	struct calib_manifest stored = { 0 };
	struct bl_calib_seconds seconds = { 0 };
	struct bl_err ignored = BL_ERR_INIT;
	uint64_t start = bl_now_ns();
	char digest[65] = "";

	if (look_over(j, err))
		return err->status;
	if (!calib_manifest_load(&stored, j->folder, &ignored) && stored.complete && !calib_work_left(j))
		calib_digest_of(digest, &stored);
	calib_manifest_free(&stored);
	if (!*digest && write_manifest(j->folder, m, false, err))
		return err->status;
	j->hidden = *digest ? -1 : stored_hidden(j); /* of a finished one they are leftovers of a run that was killed at its very end */
	tidy(j->folder, j->hidden);
	if (announce_stored(j, err) || calib_compute(j, &seconds, err) || list_files(m, &j->shape, j->folder, err))
		return err->status;
	manifest_copy(&stored, m);
	calib_open_as(out, &j->shape, &stored, j->folder, err);
	calib_manifest_free(&stored);
	if (err->status)
		return err->status;
	seconds.total = (double)(bl_now_ns() - start) / 1e9;
	seconds.forward = seconds.total - seconds.hessian - seconds.io;
	(*out)->seconds = seconds;
	if (strcmp(digest, (*out)->digest)) {
		settle(*out, lock);
	} else {
		(*out)->manifest.complete = true;
		close(lock);
	}
	return BL_OK;
}

enum bl_status bl_calib_run(struct bl_calib **out, struct bl_forward *f, const struct bl_calib_data *d, const char *cache_dir, const struct bl_calib_options *o,
			    bl_calib_report *report, void (*unit_done)(void *ctx, int unit, const struct bl_input_stats *s), void *ctx, struct bl_err *err)
{
	struct calib_job j = { .f = f, .data = d, .o = o, .hidden = -1, .report = report, .unit_done = unit_done, .ctx = ctx };
	struct calib_manifest m;
	int lock, blocks;

	calib_shape_of(&j.shape, bl_forward_model(f), d, o);
	if (bounded(d, &j.shape, err))
		return err->status;
	blocks = (int)j.shape.m->config.layers;
	calib_manifest_of(&m, &j.shape, d, o->device);
	calib_key_of(m.key, &m);
	memcpy(j.shape.key, m.key, sizeof m.key);
	j.folder = calib_folder(cache_dir, m.key);
	if (bl_mkdirs(j.folder, 0777, err)) {
		bl_free(j.folder);
		return err->status;
	}
	lock = calib_lock(j.folder, err);
	if (lock >= 0) {
		j.need = bl_xalloc((size_t)blocks, sizeof *j.need);
		j.need_input = bl_xalloc((size_t)blocks + 1, sizeof *j.need_input);
		j.batch = bl_xalloc((size_t)blocks, sizeof *j.batch);
		if (run_locked(out, &j, &m, lock, err))
			close(lock);
		if (err->status == BL_NO_SPACE || err->status == BL_NO_MEMORY || err->status == BL_CANCELLED || err->status == BL_NO_DEVICE)
			bl_log(BL_LOG_INFO, "calibration %.12s: what is stored stays; the next run goes on from there", m.key);
	}
	calib_manifest_free(&m);
	bl_free(j.need);
	bl_free(j.need_input);
	bl_free(j.batch);
	bl_free(j.folder);
	return err->status;
}
