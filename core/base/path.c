/* SPDX-License-Identifier: Apache-2.0
 * Names of files and folders: joining, testing, listing, removing; and where the user's own files belong. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"

#define LIST_MAX 100000

char *bl_path_join(const char *dir, const char *name)
{
	size_t n = strlen(dir), m = strlen(name);
	bool slash = n && dir[n - 1] != '/';
	char *s = bl_xalloc(n + m + 2, 1);

	memcpy(s, dir, n);
	if (slash)
		s[n++] = '/';
	memcpy(s + n, name, m);
	return s;
}

const char *bl_path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

char *bl_path_dir(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return bl_xstrdup(".");
	return bl_xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
}

bool bl_path_is_inside(const char *name)
{
	const unsigned char *p;

	if (!*name || *name == '/')
		return false;
	for (p = (const unsigned char *)name; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			return false;
	for (const char *part = name;; part++) {
		size_t n = strcspn(part, "/");

		if (n == 2 && part[0] == '.' && part[1] == '.')
			return false;
		part += n;
		if (!*part)
			return true;
	}
}

bool bl_is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool bl_is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int64_t bl_file_bytes(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

enum bl_status bl_mkdirs(const char *path, int mode, struct bl_err *err)
{
	char *p = bl_xstrdup(path), *s = p;
	bool last;
	enum bl_status status = BL_OK;

	do {
		char kept;

		s += strspn(s, "/");
		s += strcspn(s, "/");
		kept = *s;
		last = !kept;
		*s = '\0';
		if (*p && mkdir(p, mode) && (errno != EEXIST || !bl_is_dir(p))) {
			if (errno == EEXIST)
				errno = ENOTDIR;
			status = bl_fail_sys(err, BL_IO, "%s: the folder cannot be created", p);
			break;
		}
		*s = kept;
	} while (!last);
	bl_free(p);
	return status == BL_OK ? BL_OK : err->status;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)at;
	if (kind == FTW_DP || kind == FTW_D || kind == FTW_DNR)
		(void)!rmdir(path);
	else
		(void)!unlink(path);
	return 0;
}

void bl_remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

enum bl_status bl_list_dir(char ***out, size_t *n, const char *path, struct bl_err *err)
{
	DIR *d = opendir(path);
	struct dirent *e;
	char **names = NULL;
	size_t cap = 0, count = 0;
	enum bl_status status = BL_OK;

	if (!d)
		return bl_fail_sys(err, errno == ENOENT || errno == ENOTDIR ? BL_NOT_FOUND : errno == ELOOP ? BL_INVALID : BL_IO,
				   "%s: cannot be listed", path);
	bl_xgrow(&names, &cap, 1);
	while ((errno = 0, e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (count == LIST_MAX) {
			status = bl_fail(err, BL_INVALID, "%s: holds more than %d names", path, LIST_MAX);
			break;
		}
		bl_xgrow(&names, &cap, count + 2);
		names[count++] = bl_xstrdup(e->d_name);
		names[count] = NULL;
	}
	if (!e && errno) {
		bl_fail_sys(err, BL_IO, "%s: cannot be listed", path);
		status = err->status;
	}
	closedir(d);
	if (status) {
		bl_list_free(names);
		return status;
	}
	qsort(names, count, sizeof *names, by_name);
	*out = names;
	if (n)
		*n = count;
	return BL_OK;
}

void bl_list_free(char **names)
{
	if (!names)
		return;
	for (char **p = names; *p; p++)
		bl_free(*p);
	bl_free(names);
}

uint64_t bl_free_bytes(const char *path)
{
	struct statvfs v;
	char *p = bl_xstrdup(path);

	while (statvfs(p, &v)) {
		char *up = bl_path_dir(p);
		bool stuck = !strcmp(up, p);

		bl_free(p);
		p = up;
		if (stuck) {
			bl_free(p);
			return 0;
		}
	}
	bl_free(p);
	return (uint64_t)v.f_bavail * v.f_frsize;
}

char *bl_xdg_dir(const char *which)
{
	static const char *const row[][2] = { { "CONFIG", ".config" }, { "STATE", ".local/state" }, { "CACHE", ".cache" } };
	char name[32], *base, *dir;
	const char *value, *home = getenv("HOME"), *below = ".config";
	size_t i;

	snprintf(name, sizeof name, "XDG_%s_HOME", which);
	value = getenv(name);
	if (value && *value == '/') /* the specification: relative values are ignored */
		return bl_path_join(value, "bitlathe");
	for (i = 0; i < sizeof row / sizeof *row; i++)
		if (!strcmp(row[i][0], which))
			below = row[i][1];
	if (!home || *home != '/') {
		struct passwd *pw = getpwuid(getuid());

		home = pw && pw->pw_dir && *pw->pw_dir == '/' ? pw->pw_dir : "/";
	}
	base = bl_path_join(home, below);
	dir = bl_path_join(base, "bitlathe");
	bl_free(base);
	return dir;
}
