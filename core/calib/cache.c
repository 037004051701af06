/* SPDX-License-Identifier: Apache-2.0
 * What is stored in the cache folder: CACHE/<kind>/<key>. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/calib/private.h"

#define DEPTH_MAX 8

/* Bytes that a folder takes on the disk (holes take none) and when it was last written to. */
static void measure(int parent, const char *name, int depth, uint64_t *bytes, int64_t *wall_s)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	struct stat st;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			measure(fd, e->d_name, depth + 1, bytes, wall_s);
		*bytes += 512 * (uint64_t)st.st_blocks;
		if (st.st_mtime > *wall_s)
			*wall_s = st.st_mtime;
	}
	closedir(d);
}

static void describe(struct bl_cache_entry *e, const char *cache_dir)
{
	char *kind = bl_path_join(cache_dir, e->kind), *folder = bl_path_join(kind, e->key);

	measure(AT_FDCWD, folder, 0, &e->bytes, &e->wall_s);
	if (!strcmp(e->kind, "calib")) {
		struct calib_manifest m = { 0 };
		struct bl_err ignored = BL_ERR_INIT;

		if (!calib_manifest_load(&m, folder, &ignored)) {
			e->model = bl_xstrdup(m.title);
			e->complete = m.complete;
		}
		calib_manifest_free(&m);
	} else {
		e->complete = true;
	}
	if (!e->model)
		e->model = bl_xstrdup("");
	bl_free(folder);
	bl_free(kind);
}

static int newest_first(const void *a, const void *b)
{
	const struct bl_cache_entry *x = a, *y = b;

	if (x->wall_s != y->wall_s)
		return x->wall_s > y->wall_s ? -1 : 1;
	return strcmp(x->key, y->key);
}

static bool is_folder(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISDIR(st.st_mode);
}

static void list(struct bl_cache_entry **out, size_t *n, const char *cache_dir, bool described)
{
	struct bl_cache_entry *v = NULL;
	size_t cap = 0, n_kinds = 0;
	char **kinds = NULL;
	struct bl_err ignored = BL_ERR_INIT;

	*out = NULL;
	*n = 0;
	if (!bl_is_dir(cache_dir) || bl_list_dir(&kinds, &n_kinds, cache_dir, &ignored))
		return;
	for (size_t k = 0; k < n_kinds; k++) {
		char *folder = bl_path_join(cache_dir, kinds[k]), **names = NULL;
		size_t n_names = 0;

		bl_err_clear(&ignored);
		if (kinds[k][0] != '.' && is_folder(folder) && !bl_list_dir(&names, &n_names, folder, &ignored)) {
			for (size_t i = 0; i < n_names; i++) {
				char *path = bl_path_join(folder, names[i]);

				if (calib_key_ok(names[i]) && is_folder(path)) {
					bl_xgrow(&v, &cap, *n + 1);
					v[*n] = (struct bl_cache_entry){ .key = bl_xstrdup(names[i]), .kind = bl_xstrdup(kinds[k]) };
					if (described)
						describe(&v[*n], cache_dir);
					++*n;
				}
				bl_free(path);
			}
			bl_list_free(names);
		}
		bl_free(folder);
	}
	bl_list_free(kinds);
	if (described && *n)
		qsort(v, *n, sizeof *v, newest_first);
	*out = v;
}

void bl_cache_list(struct bl_cache_entry **out, size_t *n, const char *cache_dir)
{
	list(out, n, cache_dir, true);
}

void bl_cache_free(struct bl_cache_entry *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bl_free(e[i].key);
		bl_free(e[i].kind);
		bl_free(e[i].model);
	}
	bl_free(e);
}

static enum bl_status drop(const char *folder, struct bl_err *err)
{
	int fd = calib_lock(folder, err);
	char *parent, *gone;
	struct bl_str name = { 0 };

	if (fd < 0)
		return err->status;
	/* a name of its own first: a half-removed folder must not be taken for a calibration */
	bl_str_addf(&name, ".drop-%ld-%s", (long)getpid(), bl_path_base(folder));
	parent = bl_path_dir(folder);
	gone = bl_path_join(parent, bl_str_c(&name));
	if (rename(folder, gone))
		bl_fail_sys(err, BL_IO, "%s: cannot be removed", folder);
	else
		bl_remove_tree(gone);
	bl_free(parent);
	bl_free(gone);
	bl_str_free(&name);
	close(fd);
	return err->status;
}

enum bl_status bl_cache_drop(const char *cache_dir, const char *key_prefix, bool look, struct bl_err *err)
{
	struct bl_cache_entry *e;
	size_t n, found = 0, at = 0;

	list(&e, &n, cache_dir, false);
	for (size_t i = 0; i < n; i++)
		if (*key_prefix && bl_starts_with(e[i].key, key_prefix)) {
			found++;
			at = i;
		}
	if (!found) {
		bl_fail(err, BL_NOT_FOUND, "%s: no key in %s begins so; list them with: cache list", key_prefix, cache_dir);
	} else if (found > 1) {
		bl_fail(err, BL_INVALID, "%s: %zu keys begin so; give more of it", key_prefix, found);
	} else if (!look) {
		char *kind = bl_path_join(cache_dir, e[at].kind), *folder = bl_path_join(kind, e[at].key);

		drop(folder, err);
		bl_free(folder);
		bl_free(kind);
	}
	bl_cache_free(e, n);
	return err->status;
}

enum bl_status bl_calib_find(char key[65], const struct bl_model *m, const char *cache_dir, struct bl_err *err)
{
	struct bl_cache_entry *e;
	size_t n;
	bool found = false;

	bl_cache_list(&e, &n, cache_dir);
	for (size_t i = 0; i < n && !found; i++) {
		struct calib_manifest manifest = { 0 };
		struct bl_err ignored = BL_ERR_INIT;
		char *folder;

		if (strcmp(e[i].kind, "calib") || !e[i].complete)
			continue;
		folder = calib_folder(cache_dir, e[i].key);
		if (!calib_manifest_load(&manifest, folder, &ignored) && !strcmp(manifest.model_digest, m->digest)) {
			memcpy(key, e[i].key, 65);
			found = true;
		}
		calib_manifest_free(&manifest);
		bl_free(folder);
	}
	bl_cache_free(e, n);
	return found ? BL_OK : bl_fail(err, BL_NOT_FOUND, "%s: no finished calibration of it is stored in %s; run: calibrate", m->title, cache_dir);
}
