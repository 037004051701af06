/* SPDX-License-Identifier: Apache-2.0
 * Reading: whole-file maps and bounded reads, of regular files only (a FIFO or device in a model folder must not hang us).
 * Writing: every write-side system call passes may_write(), the seam where tests make the n-th one fail; files and
 * folders get their final name by one rename after everything under it has reached the disk. */
#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"

#define TMP_BASE_MAX 180 /* of NAME_MAX 255: the rest is for the dot, process id, number and suffix */

static atomic_uint_fast64_t writes, write_fails_at;
static atomic_uint tmp_number;

__attribute__((constructor)) static void read_environment(void)
{
	const char *s = getenv("BL_TEST_FAIL_WRITE");

	if (s)
		bl_file_fail_at(strtoull(s, NULL, 10));
}

void bl_file_fail_at(uint64_t nth)
{
	atomic_store(&write_fails_at, nth ? atomic_load(&writes) + nth : 0);
}

static bool may_write(void)
{
	uint64_t i = atomic_fetch_add_explicit(&writes, 1, memory_order_relaxed) + 1;

	if (i != atomic_load_explicit(&write_fails_at, memory_order_relaxed))
		return true;
	errno = ENOSPC;
	return false;
}

/* --- reading --- */

static int64_t mtime_of(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static enum bl_status open_regular(int *fd, struct stat *st, const char *path, struct bl_err *err)
{
	int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (f < 0) /* links in a circle: the input is at fault, not the machine */
		return bl_fail_sys(err, errno == ENOENT || errno == ENOTDIR ? BL_NOT_FOUND : errno == ELOOP ? BL_INVALID : BL_IO,
				   "%s: cannot be opened", path);
	if (fstat(f, st)) {
		enum bl_status s = bl_fail_sys(err, BL_IO, "%s: cannot be examined", path);

		close(f);
		return s;
	}
	if (!S_ISREG(st->st_mode)) {
		close(f);
		return bl_fail(err, BL_INVALID, "%s: is %s, not a regular file", path,
			       S_ISDIR(st->st_mode) ? "a folder" : "a device, pipe or socket");
	}
	*fd = f;
	return BL_OK;
}

enum bl_status bl_map_open(struct bl_map *m, const char *path, struct bl_err *err)
{
	struct stat st;
	void *data = NULL;
	int fd = -1;

	if (open_regular(&fd, &st, path, err))
		return err->status;
	if (st.st_size > 0) {
		data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (data == MAP_FAILED) {
			bl_fail_sys(err, BL_IO, "%s: cannot be mapped into memory", path);
			close(fd);
			return err->status;
		}
	}
	*m = (struct bl_map){
		.data = data ? data : (const uint8_t *)"",
		.bytes = (size_t)st.st_size,
		.path = bl_xstrdup(path),
		.fd = fd,
		.mtime_ns = mtime_of(&st),
		.ino = st.st_ino,
		.dev = st.st_dev,
	};
	return BL_OK;
}

void bl_map_close(struct bl_map *m)
{
	if (!m->path)
		return;
	if (m->bytes)
		munmap((void *)(uintptr_t)m->data, m->bytes);
	close(m->fd);
	bl_free(m->path);
	*m = (struct bl_map){ .fd = -1 };
}

enum bl_status bl_scratch_open(void **out, uint64_t bytes, const char *dir, struct bl_err *err)
{
	char name[64], *path;
	void *p = MAP_FAILED;
	int fd;

	snprintf(name, sizeof name, ".scratch.bl-%ld-%u.tmp", (long)getpid(), atomic_fetch_add(&tmp_number, 1));
	path = bl_path_join(dir, name);
	fd = bl_create_file(path, 0600, err);
	if (fd >= 0) {
		unlink(path);
		errno = posix_fallocate(fd, 0, (off_t)bytes);
		if (!errno)
			p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED)
			bl_fail_sys(err, BL_IO, "%s: %.1f GiB for what does not fit the memory", path, (double)bytes / (1024.0 * 1024 * 1024));
		close(fd); /* the map keeps it */
	}
	bl_free(path);
	if (!err->status)
		*out = p;
	return err->status;
}

void bl_scratch_close(void *p, uint64_t bytes)
{
	if (p)
		munmap(p, bytes);
}

enum bl_status bl_map_unchanged(const struct bl_map *m, struct bl_err *err)
{
	struct stat here, open_file;

	if (fstat(m->fd, &open_file))
		return bl_fail_sys(err, BL_IO, "%s: cannot be examined", m->path);
	if ((uint64_t)open_file.st_size != m->bytes)
		return bl_fail(err, BL_INVALID, "%s: changed its size from %zu to %lld bytes while open; open the model again",
			       m->path, m->bytes, (long long)open_file.st_size);
	if (mtime_of(&open_file) != m->mtime_ns)
		return bl_fail(err, BL_INVALID, "%s: was written to while open; open the model again", m->path);
	if (stat(m->path, &here))
		return bl_fail_sys(err, BL_INVALID, "%s: vanished while open", m->path);
	if (here.st_ino != m->ino || here.st_dev != m->dev)
		return bl_fail(err, BL_INVALID, "%s: was replaced by another file while open; open the model again", m->path);
	return BL_OK;
}

enum bl_status bl_read_file(char **out, size_t *out_bytes, const char *path, size_t max_bytes, bool text, struct bl_err *err)
{
	struct stat st;
	char *buf = NULL;
	size_t cap, used = 0;
	int fd = -1;

	if (open_regular(&fd, &st, path, err))
		return err->status;
	if ((uint64_t)st.st_size > max_bytes) {
		bl_fail(err, BL_INVALID, "%s: has %lld bytes, more than the %zu that are read", path, (long long)st.st_size, max_bytes);
		goto done;
	}
	cap = (size_t)st.st_size + 1; /* files of /proc say 0: the loop grows */
	if (cap < 4096)
		cap = 4096;
	if (bl_try_alloc(&buf, cap, 1, path, err))
		goto done;
	for (;;) {
		ssize_t n = read(fd, buf + used, cap - 1 - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			bl_fail_sys(err, BL_IO, "%s: cannot be read", path);
			goto done;
		}
		if (n == 0)
			break;
		used += (size_t)n;
		if (used > max_bytes) {
			bl_fail(err, BL_INVALID, "%s: has more than the %zu bytes that are read", path, max_bytes);
			goto done;
		}
		if (used == cap - 1) {
			char *more;

			if (bl_try_alloc(&more, cap, 2, path, err))
				goto done;
			memcpy(more, buf, used);
			bl_free(buf);
			buf = more;
			cap *= 2;
		}
	}
	buf[used] = '\0';
	if (text && strlen(buf) != used) {
		bl_fail(err, BL_INVALID, "%s: byte %zu is NUL, so this is not a text file", path, strlen(buf));
		goto done;
	}
	*out = buf;
	if (out_bytes)
		*out_bytes = used;
	close(fd);
	return BL_OK;
done:
	close(fd);
	bl_free(buf);
	return err->status;
}

/* --- writing --- */

int bl_create_file(const char *path, int mode, struct bl_err *err)
{
	int fd = may_write() ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode) : -1;

	if (fd < 0)
		bl_fail_sys(err, BL_IO, "%s: cannot be created", path);
	return fd;
}

enum bl_status bl_pwrite_all(int fd, const void *data, size_t n, uint64_t offset, const char *path, struct bl_err *err)
{
	const char *p = data;

	while (n) {
		ssize_t w = may_write() ? pwrite(fd, p, n > 1u << 30 ? 1u << 30 : n, (off_t)offset) : -1;

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return bl_fail_sys(err, BL_IO, "%s: cannot be written", path);
		p += w;
		offset += (uint64_t)w;
		n -= (size_t)w;
	}
	return BL_OK;
}

enum bl_status bl_fsync(int fd, const char *path, struct bl_err *err)
{
	if (!may_write() || fsync(fd))
		return bl_fail_sys(err, BL_IO, "%s: cannot be brought to the disk", path);
	return BL_OK;
}

static enum bl_status fsync_folder(const char *dir, struct bl_err *err)
{
	int fd = may_write() ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, bad;

	if (fd < 0)
		return bl_fail_sys(err, BL_IO, "%s: cannot be opened", dir);
	bad = fsync(fd) && errno != EINVAL && errno != ENOSYS && errno != EROFS; /* file systems that do not know it for folders */
	if (bad)
		bl_fail_sys(err, BL_IO, "%s: cannot be brought to the disk", dir);
	close(fd);
	return bad ? err->status : BL_OK;
}

static enum bl_status fsync_folder_of(const char *path, struct bl_err *err)
{
	char *dir = bl_path_dir(path);
	enum bl_status s = fsync_folder(dir, err);

	bl_free(dir);
	return s;
}

/* ".NAME.bl-PID-N.tmp" beside path; a name that is already long is cut (at a character) to stay below NAME_MAX. */
static char *tmp_name(const char *path)
{
	const char *base = bl_path_base(path);
	size_t folder = (size_t)(base - path), keep = strlen(base), cap;
	char *s;

	if (keep > TMP_BASE_MAX) {
		keep = TMP_BASE_MAX;
		while (keep && ((unsigned char)base[keep] & 0xc0) == 0x80)
			keep--;
	}
	cap = folder + keep + 64;
	s = bl_xalloc(cap, 1);
	snprintf(s, cap, "%.*s.%.*s.bl-%ld-%u.tmp", (int)folder, path, (int)keep, base, (long)getpid(),
		 atomic_fetch_add(&tmp_number, 1) + 1);
	return s;
}

enum bl_status bl_replace_begin(struct bl_replace *r, const char *path, int mode, struct bl_err *err)
{
	char *tmp = NULL;
	int fd = -1, tries = 0;

	if (!*bl_path_base(path))
		return bl_fail(err, BL_INVALID, "%s: is not the name of a file", path);
	if (bl_is_dir(path))
		return bl_fail(err, BL_INVALID, "%s: is a folder, not a file", path);
	do { /* a leftover of a killed process with our number may stand in the way */
		bl_free(tmp);
		tmp = tmp_name(path);
		fd = may_write() ? open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode) : -1;
	} while (fd < 0 && errno == EEXIST && ++tries < 100);
	if (fd < 0) {
		bl_fail_sys(err, BL_IO, "%s: cannot be created", path);
		bl_free(tmp);
		return err->status;
	}
	*r = (struct bl_replace){ .fd = fd, .path = bl_xstrdup(path), .tmp = tmp };
	return BL_OK;
}

static void replace_drop(struct bl_replace *r)
{
	bl_free(r->path);
	bl_free(r->tmp);
	*r = (struct bl_replace){ .fd = -1 };
}

enum bl_status bl_replace_rename(struct bl_replace *r, struct bl_err *err)
{
	int bad = close(r->fd);

	r->fd = -1;
	if (bad) {
		bl_fail_sys(err, BL_IO, "%s: cannot be written", r->path);
		goto failed;
	}
	if (!may_write() || rename(r->tmp, r->path)) {
		bl_fail_sys(err, BL_IO, "%s: cannot be replaced", r->path);
		goto failed;
	}
	replace_drop(r);
	return BL_OK;
failed:
	bl_replace_rollback(r);
	return err->status;
}

enum bl_status bl_replace_commit(struct bl_replace *r, struct bl_err *err)
{
	char *path;
	enum bl_status s;

	if (bl_fsync(r->fd, r->path, err)) {
		bl_replace_rollback(r);
		return err->status;
	}
	path = bl_xstrdup(r->path);
	s = bl_replace_rename(r, err);
	if (!s)
		s = fsync_folder_of(path, err);
	bl_free(path);
	return s;
}

void bl_replace_rollback(struct bl_replace *r)
{
	if (!r->tmp)
		return;
	if (r->fd >= 0)
		close(r->fd);
	unlink(r->tmp);
	replace_drop(r);
}

enum bl_status bl_write_file(const char *path, const void *data, size_t n, int mode, struct bl_err *err)
{
	struct bl_replace r;

	if (bl_replace_begin(&r, path, mode, err))
		return err->status;
	if (bl_pwrite_all(r.fd, data, n, 0, path, err)) {
		bl_replace_rollback(&r);
		return err->status;
	}
	return bl_replace_commit(&r, err);
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

enum bl_status bl_replace_dir_begin(struct bl_replace_dir *d, const char *path, bool overwrite, struct bl_err *err)
{
	size_t n = strlen(path);
	char *clean, *tmp = NULL;
	const char *base;
	int bad, tries = 0;

	while (n > 1 && path[n - 1] == '/')
		n--;
	clean = bl_xstrndup(path, n);
	base = bl_path_base(clean);
	if (!*base || !strcmp(base, ".") || !strcmp(base, "..")) {
		bl_fail(err, BL_INVALID, "%s: name the folder itself, not \".\", \"..\" or \"/\"", path);
		goto failed;
	}
	if (exists(clean) && !bl_is_dir(clean)) {
		bl_fail(err, BL_INVALID, "%s: exists and is not a folder", path);
		goto failed;
	}
	if (exists(clean) && !overwrite) {
		bl_fail(err, BL_INVALID, "%s: exists already; choose another name or allow overwriting", path);
		goto failed;
	}
	do {
		bl_free(tmp);
		tmp = tmp_name(clean);
		bad = !may_write() || mkdir(tmp, 0777);
	} while (bad && errno == EEXIST && ++tries < 100);
	if (bad) {
		bl_fail_sys(err, BL_IO, "%s: cannot be created", path);
		goto failed;
	}
	*d = (struct bl_replace_dir){ .path = clean, .tmp = tmp, .overwrite = overwrite };
	return BL_OK;
failed:
	bl_free(clean);
	bl_free(tmp);
	return err->status;
}

/* Where the two folders cannot be exchanged in one step: the old one steps aside, and back when the new one cannot take
 * its name. */
static int exchange_by_steps(const char *tmp, const char *path)
{
	char *aside = tmp_name(path);
	int bad = rename(path, aside), saved;

	if (!bad && rename(tmp, path)) {
		saved = errno;
		(void)!rename(aside, path);
		errno = saved;
		bad = -1;
	} else if (!bad) {
		(void)!rename(aside, tmp);
	}
	bl_free(aside);
	return bad;
}

static int swap_in(struct bl_replace_dir *d, bool *old_in_tmp)
{
	if (!may_write())
		return -1;
	*old_in_tmp = false;
	if (renameat2(AT_FDCWD, d->tmp, AT_FDCWD, d->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST && !d->overwrite)
		return -1;
	if (errno != EEXIST && errno != EINVAL && errno != ENOSYS)
		return -1;
	if (!exists(d->path))
		return rename(d->tmp, d->path);
	if (!d->overwrite) {
		errno = EEXIST;
		return -1;
	}
	*old_in_tmp = true;
	if (renameat2(AT_FDCWD, d->tmp, AT_FDCWD, d->path, RENAME_EXCHANGE) == 0)
		return 0;
	return errno == EINVAL || errno == ENOSYS ? exchange_by_steps(d->tmp, d->path) : -1;
}

enum bl_status bl_replace_dir_commit(struct bl_replace_dir *d, struct bl_err *err)
{
	bool old_in_tmp = false;
	enum bl_status s;

	if (fsync_folder(d->tmp, err))
		goto failed;
	if (swap_in(d, &old_in_tmp)) {
		bl_fail_sys(err, BL_IO, "%s: cannot be put in place", d->path);
		goto failed;
	}
	s = fsync_folder_of(d->path, err);
	if (old_in_tmp)
		bl_remove_tree(d->tmp);
	bl_free(d->path);
	bl_free(d->tmp);
	*d = (struct bl_replace_dir){0};
	return s;
failed:
	bl_replace_dir_rollback(d);
	return err->status;
}

void bl_replace_dir_rollback(struct bl_replace_dir *d)
{
	if (!d->tmp)
		return;
	bl_remove_tree(d->tmp);
	bl_free(d->path);
	bl_free(d->tmp);
	*d = (struct bl_replace_dir){0};
}
