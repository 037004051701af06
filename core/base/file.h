/* SPDX-License-Identifier: Apache-2.0
 * Files: read-only maps that survive a shrinking file, bounded reads, and the only way bitlathe writes
 * something that lasts: a hidden temporary beside the target, fsync, rename, fsync of the folder.
 * Failure injection for tests: BL_TEST_FAIL_WRITE=n makes the n-th write-side call (open for write,
 * write, fsync, rename) fail with ENOSPC; bl_file_fail_at(n) does it from code. */
#ifndef BL_BASE_FILE_H
#define BL_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct bl_map { /* read-only view of a whole regular file */
	const uint8_t *data;
	size_t bytes;
	char *path;
	int fd;
	int64_t mtime_ns; /* and inode, device: to notice a replaced file */
	uint64_t ino, dev;
};

/* Refuses anything but a regular file (symlinks to one are followed). An empty file maps to bytes 0. */
enum bl_status bl_map_open(struct bl_map *m, const char *path, struct bl_err *err);
void bl_map_close(struct bl_map *m);
/* Memory that the kernel may write out: a file without a name in `dir`, mapped to read and write, its room on the disk taken at once. */
enum bl_status bl_scratch_open(void **out, uint64_t bytes, const char *dir, struct bl_err *err);
void bl_scratch_close(void *p, uint64_t bytes);
/* BL_INVALID, naming the file, when it was replaced, truncated or touched since it was mapped. */
enum bl_status bl_map_unchanged(const struct bl_map *m, struct bl_err *err);

/* Runs fn(ctx) so that a SIGBUS caused by reading a mapped file that shrank becomes BL_IO with a sentence
 * instead of death. Thread-safe (per-thread jump buffer), nestable; fn must not hold locks. */
enum bl_status bl_guard_run(enum bl_status (*fn)(void *ctx, struct bl_err *err), void *ctx, struct bl_err *err);
/* Installs the process-wide SIGBUS handler; call at start. Again is harmless, and needed after somebody else installed theirs
 * (CMocka does, before each test: call it inside the test). */
void bl_guard_install(void);

/* Whole file as a NUL-terminated buffer (bl_free); BL_INVALID beyond max_bytes, on a NUL inside when text. */
enum bl_status bl_read_file(char **out, size_t *out_bytes, const char *path, size_t max_bytes, bool text, struct bl_err *err);

/* --- writing what lasts --- */
struct bl_replace { /* one file being replaced */
	int fd;      /* write here (or pwrite) */
	char *path;  /* final name */
	char *tmp;   /* ".NAME.bl-PID-N.tmp" in the same folder */
};
enum bl_status bl_replace_begin(struct bl_replace *r, const char *path, int mode, struct bl_err *err);
enum bl_status bl_replace_commit(struct bl_replace *r, struct bl_err *err);  /* fsync, rename, fsync folder; frees r */
/* Only the rename: for stores whose contents prove themselves when they are read and that are brought to the disk later. Frees r. */
enum bl_status bl_replace_rename(struct bl_replace *r, struct bl_err *err);
void bl_replace_rollback(struct bl_replace *r);                              /* removes the temporary; safe when zeroed */
enum bl_status bl_write_file(const char *path, const void *data, size_t n, int mode, struct bl_err *err); /* all three */

/* A folder being replaced: write into d->tmp, then commit renames it to path. An existing `path` is refused
 * unless `overwrite`, in which case it is exchanged and the old one removed after the rename. */
struct bl_replace_dir {
	char *path, *tmp;
	bool overwrite;
};
enum bl_status bl_replace_dir_begin(struct bl_replace_dir *d, const char *path, bool overwrite, struct bl_err *err);
enum bl_status bl_replace_dir_commit(struct bl_replace_dir *d, struct bl_err *err);
void bl_replace_dir_rollback(struct bl_replace_dir *d);

/* A new file inside a folder that is being replaced: a descriptor, or -1 with the error recorded. Refuses an existing one. */
int bl_create_file(const char *path, int mode, struct bl_err *err);
enum bl_status bl_pwrite_all(int fd, const void *data, size_t n, uint64_t offset, const char *path, struct bl_err *err);
enum bl_status bl_fsync(int fd, const char *path, struct bl_err *err);
void bl_file_fail_at(uint64_t nth);

/* --- names --- */
char *bl_path_join(const char *dir, const char *name);  /* bl_free */
const char *bl_path_base(const char *path);             /* borrow */
char *bl_path_dir(const char *path);                    /* bl_free; "." when none */
/* True for a plain relative name that stays inside: no leading '/', no "..", no NUL, no control characters, not empty. */
bool bl_path_is_inside(const char *name);
bool bl_is_dir(const char *path);
bool bl_is_file(const char *path);
int64_t bl_file_bytes(const char *path); /* -1: none */
enum bl_status bl_mkdirs(const char *path, int mode, struct bl_err *err);
void bl_remove_tree(const char *path); /* best effort, does not follow links */
/* Sorted names in a folder (no "." and ".."), NULL-terminated; free with bl_list_free. At most 100,000. */
enum bl_status bl_list_dir(char ***out, size_t *n, const char *path, struct bl_err *err);
void bl_list_free(char **names);
uint64_t bl_free_bytes(const char *path); /* of the file system that holds path or its nearest existing parent */

/* $XDG_<which>_HOME/bitlathe with the usual defaults; which = "CONFIG", "STATE", "CACHE". bl_free. */
char *bl_xdg_dir(const char *which);

#endif
