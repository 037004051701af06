/* SPDX-License-Identifier: Apache-2.0
 * Reading a calibration back. Heads and statistics are checked when it is opened, Hessians and block inputs when they are first asked for. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/calib/private.h"

struct look { /* for bl_guard_run */
	const uint8_t *data;
	uint64_t bytes;
	const struct calib_head *want;
	const char *name;
	int first, last; /* sections */
};

static enum bl_status look(void *ctx, struct bl_err *err)
{
	const struct look *l = ctx;

	if (l->want && calib_head_check(l->data, l->bytes, l->want, l->name, err))
		return err->status;
	for (int i = l->first; i <= l->last; i++)
		if (calib_section_check(l->data, i, l->name, err))
			return err->status;
	return BL_OK;
}

enum bl_status calib_map_file(struct bl_map *map, const struct calib_head *want, const char *folder, struct bl_err *err)
{
	char name[32], *path;
	struct bl_map m;
	struct look l = { .want = want, .first = 0, .last = -1 };

	calib_file_name(name, want->kind, (int)want->index);
	path = bl_path_join(folder, name);
	if (!bl_map_open(&m, path, err)) {
		l.data = m.data;
		l.bytes = m.bytes;
		l.name = path;
		if (bl_guard_run(look, &l, err))
			bl_map_close(&m);
		else
			*map = m;
	}
	bl_free(path);
	return err->status;
}

enum bl_status calib_file_verify(const struct calib_shape *s, const char *folder, enum calib_file_kind kind, int index, struct calib_head *head, struct bl_err *err)
{
	struct calib_head want;
	struct bl_map map;
	struct look l;

	calib_head_make(&want, s, kind, index);
	if (calib_map_file(&map, &want, folder, err))
		return err->status;
	l = (struct look){ .data = map.data, .bytes = map.bytes, .name = map.path, .first = 0, .last = (int)want.n_sections - 1 };
	if (!bl_guard_run(look, &l, err) && head)
		memcpy(head, map.data, sizeof *head);
	bl_map_close(&map);
	return err->status;
}

/* --- opening --- */

static const struct calib_entry *entry_of(const struct calib_manifest *m, const char *name)
{
	for (size_t i = 0; i < m->n_files; i++)
		if (!strcmp(m->files[i].name, name))
			return &m->files[i];
	return NULL;
}

struct file_want { const struct calib_manifest *manifest; const struct bl_map *map; };

static enum bl_status same_as_listed(void *ctx, struct bl_err *err)
{
	const struct file_want *w = ctx;
	const struct calib_entry *e = entry_of(w->manifest, bl_path_base(w->map->path));
	struct calib_head h;
	char digest[33];

	memcpy(&h, w->map->data, sizeof h);
	snprintf(digest, sizeof digest, "%016" PRIx64 "%016" PRIx64, h.sum.a, h.sum.b);
	if (!e || e->bytes != w->map->bytes || strcmp(e->digest, digest))
		return bl_fail(err, BL_MISMATCH, "%s: is not the file that the manifest lists; calibrate again", w->map->path);
	return BL_OK;
}

static enum bl_status map_listed(const struct bl_calib *c, struct calib_file *f, enum calib_file_kind kind, int index, struct bl_err *err)
{
	struct calib_head want;
	struct bl_map map;
	struct file_want w = { &c->manifest, &map };

	if (f->map.path)
		return BL_OK;
	calib_head_make(&want, &c->shape, kind, index);
	if (calib_map_file(&map, &want, c->folder, err))
		return err->status;
	if (bl_guard_run(same_as_listed, &w, err))
		bl_map_close(&map);
	else
		f->map = map;
	return err->status;
}

static enum bl_status checked(struct calib_file *f, int section, struct bl_err *err)
{
	struct look l = { .data = f->map.data, .bytes = f->map.bytes, .name = f->map.path, .first = section, .last = section };

	if (!atomic_load(&f->checked[section]) && !bl_guard_run(look, &l, err))
		atomic_store(&f->checked[section], 1);
	return err->status;
}

struct stats_ctx { struct bl_input_stats *s; const struct calib_file *f; const struct calib_section *section; int64_t cols, tokens; };

static enum bl_status make_stats(void *ctx, struct bl_err *err)
{
	struct stats_ctx *x = ctx;

	return calib_stats_make(x->s, x->f->map.data + x->section->offset, x->cols, x->tokens, x->f->map.path, err);
}

static enum bl_status load_block(struct bl_calib *c, int block, struct bl_err *err)
{
	struct calib_file *f = &c->blocks[block];
	struct calib_head h;

	if (map_listed(c, f, CALIB_BLOCK, block, err))
		return err->status;
	calib_head_make(&h, &c->shape, CALIB_BLOCK, block);
	for (uint32_t i = 0; i < h.n_sections; i++) {
		int unit = (int)h.section[i].unit;
		struct stats_ctx x = { &c->stats[unit], f, &h.section[i], c->shape.m->units[unit].cols, h.tokens };

		if (h.section[i].kind == CALIB_HESSIAN)
			c->section[unit] = (int)i;
		else if (checked(f, (int)i, err) || bl_guard_run(make_stats, &x, err))
			return err->status;
	}
	return BL_OK;
}

enum bl_status calib_open_as(struct bl_calib **out, const struct calib_shape *s, struct calib_manifest *m, const char *folder, struct bl_err *err)
{
	struct bl_calib *c = bl_xalloc(1, sizeof *c);
	int blocks = (int)s->m->config.layers;

	c->shape = *s;
	c->manifest = *m;
	*m = (struct calib_manifest){ 0 };
	c->folder = bl_xstrdup(folder);
	pthread_mutex_init(&c->lock, NULL);
	c->stats = bl_xalloc((size_t)s->m->n_units, sizeof *c->stats);
	c->section = bl_xalloc((size_t)s->m->n_units, sizeof *c->section);
	c->blocks = bl_xalloc((size_t)blocks, sizeof *c->blocks);
	c->inputs = bl_xalloc((size_t)blocks + 1, sizeof *c->inputs);
	calib_digest_of(c->digest, &c->manifest);
	for (int b = 0; b < blocks; b++)
		if (load_block(c, b, err))
			goto failed;
	if (map_listed(c, &c->ids, CALIB_IDS, 0, err) || checked(&c->ids, 0, err))
		goto failed;
	*out = c;
	return BL_OK;
failed:
	bl_calib_free(c);
	return err->status;
}

enum bl_status bl_calib_open(struct bl_calib **out, const struct bl_model *m, const char *cache_dir, const char *key, struct bl_err *err)
{
	struct calib_manifest manifest = { 0 };
	struct calib_shape shape;
	char *folder;

	if (!calib_key_ok(key))
		return bl_fail(err, BL_INVALID, "%s: is not the key of a calibration (64 hexadecimal digits)", key);
	folder = calib_folder(cache_dir, key);
	if (calib_manifest_load(&manifest, folder, err))
		goto done;
	shape = (struct calib_shape){ .m = m, .windows = manifest.windows, .len = manifest.len, .keep = manifest.keep, .hessians = manifest.hessians,
				      .fp32 = manifest.fp32 };
	memcpy(shape.key, manifest.key, sizeof shape.key);
	if (strcmp(manifest.key, key))
		bl_fail(err, BL_MISMATCH, "%s/manifest.json: is of calibration %.12s; drop it and calibrate again", folder, manifest.key);
	else if (!manifest.complete)
		bl_fail(err, BL_NOT_FOUND, "%s: is not finished; calibrate again to go on", folder);
	else if (strcmp(manifest.model_digest, m->digest))
		bl_fail(err, BL_MISMATCH, "%s: was made from another model (%s), or the model's files have changed; calibrate again", folder, manifest.title);
	else if (calib_shape_ok(&shape, err) && (manifest.blocks != m->config.layers || manifest.hidden != m->config.hidden))
		bl_fail(err, BL_MISMATCH, "%s/manifest.json: has %" PRId64 " blocks of %" PRId64 ", the model has others", folder, manifest.blocks,
			manifest.hidden);
	else if (!err->status)
		calib_open_as(out, &shape, &manifest, folder, err);
done:
	calib_manifest_free(&manifest);
	bl_free(folder);
	return err->status;
}

static void file_close(struct calib_file *f)
{
	if (f->map.path)
		bl_map_close(&f->map);
}

void bl_calib_free(struct bl_calib *c)
{
	struct bl_err ignored = BL_ERR_INIT;

	if (!c)
		return;
	bl_calib_settle(c, &ignored);
	for (int b = 0; b < c->shape.m->config.layers; b++) {
		file_close(&c->blocks[b]);
		file_close(&c->inputs[b]);
	}
	file_close(&c->inputs[c->shape.m->config.layers]);
	file_close(&c->ids);
	for (int u = 0; u < c->shape.m->n_units; u++)
		calib_stats_free(&c->stats[u]);
	pthread_mutex_destroy(&c->lock);
	calib_manifest_free(&c->manifest);
	bl_free(c->stats);
	bl_free(c->section);
	bl_free(c->blocks);
	bl_free(c->inputs);
	bl_free(c->folder);
	bl_free(c);
}

/* --- what it holds --- */

const char *bl_calib_key_of(const struct bl_calib *c)
{
	return c->shape.key;
}

const char *bl_calib_digest(const struct bl_calib *c)
{
	return c->digest;
}

int64_t bl_calib_tokens(const struct bl_calib *c)
{
	return c->shape.windows * c->shape.len;
}

bool bl_calib_has_hessians(const struct bl_calib *c)
{
	return c->shape.hessians;
}

const struct bl_input_stats *bl_calib_stats(const struct bl_calib *c, int unit)
{
	return unit >= 0 && unit < c->shape.m->n_units ? &c->stats[unit] : NULL;
}

/* Maps are made and checked under a lock: the calibration is const to everybody else. */
static enum bl_status use(const struct bl_calib *c, struct calib_file *f, enum calib_file_kind kind, int index, int section, struct bl_err *err)
{
	struct bl_calib *own = (struct bl_calib *)(uintptr_t)c;

	pthread_mutex_lock(&own->lock);
	if (!map_listed(c, f, kind, index, err))
		checked(f, section, err);
	pthread_mutex_unlock(&own->lock);
	return err->status;
}

static const void *at_section(const struct calib_file *f, const struct calib_head *h, int section)
{
	return f->map.data + h->section[section].offset;
}

enum bl_status bl_calib_hessian(const struct bl_calib *c, int unit, const float **h, struct bl_err *err)
{
	struct calib_head head;
	int block = unit / CALIB_UNITS;

	if (unit < 0 || unit >= c->shape.m->n_units || !c->shape.hessians)
		return bl_fail(err, BL_NOT_FOUND, "calibration %.12s: holds no Hessian of unit %d; calibrate with Hessians", c->shape.key, unit);
	if (use(c, &c->blocks[block], CALIB_BLOCK, block, c->section[unit], err))
		return err->status;
	calib_head_make(&head, &c->shape, CALIB_BLOCK, block);
	*h = at_section(&c->blocks[block], &head, c->section[unit]);
	return BL_OK;
}

int64_t bl_calib_kept_windows(const struct bl_calib *c)
{
	return c->shape.keep;
}

int64_t bl_calib_window(const struct bl_calib *c)
{
	return c->shape.len;
}

const int32_t *bl_calib_ids(const struct bl_calib *c)
{
	struct calib_head head;

	calib_head_make(&head, &c->shape, CALIB_IDS, 0);
	return at_section(&c->ids, &head, 0);
}

enum bl_status bl_calib_block_input(const struct bl_calib *c, int block, const uint16_t **x, struct bl_err *err)
{
	struct calib_head head;

	if (block < 0 || block > c->shape.m->config.layers || !c->shape.keep)
		return bl_fail(err, BL_NOT_FOUND, "calibration %.12s: keeps no input of block %d; calibrate with kept windows", c->shape.key, block);
	if (use(c, &c->inputs[block], CALIB_INPUTS, block, 0, err))
		return err->status;
	calib_head_make(&head, &c->shape, CALIB_INPUTS, block);
	*x = at_section(&c->inputs[block], &head, 0);
	return BL_OK;
}

struct bl_calib_seconds bl_calib_seconds(const struct bl_calib *c)
{
	return c->seconds;
}

enum bl_status bl_calib_settle(struct bl_calib *c, struct bl_err *err)
{
	if (c->settling)
		pthread_join(c->thread, NULL);
	c->settling = false;
	if (c->settle_err.status && !err->status)
		*err = c->settle_err;
	return err->status;
}
