/* SPDX-License-Identifier: Apache-2.0
 * Outcomes. A function that can fail returns enum bl_status and takes a
 * struct bl_err * (never NULL) as its last argument; on failure the struct holds one sentence
 * (what, where: file, field, index, what to do), on success it is untouched.
 * The first error wins: bl_fail on a struct that already holds an error keeps the old text.
 * Out-parameters stay untouched on failure. Nothing in core prints or exits. */
#ifndef BL_BASE_ERR_H
#define BL_BASE_ERR_H

enum bl_status {
#define BL_ERR(name, exit_code, text) BL_##name,
#include "core/base/err_list.h"
#undef BL_ERR
	BL_STATUS_COUNT
};

struct bl_err {
	enum bl_status status; /* BL_OK: empty */
	int sys;               /* errno at the time, 0 when it plays no part */
	const char *where;     /* file:line of the origin in our source */
	char text[512];        /* one line, control characters already escaped */
};

#define BL_ERR_INIT ((struct bl_err){0})

/* Records the error unless one is held; returns `status` (so: return bl_fail(err, BL_INVALID, ...)).
 * Text from files may be passed through %s: control characters and broken UTF-8 are escaped as \xNN. */
#define bl_fail(err, status, ...) bl_fail_at(err, status, 0, BL_HERE, __VA_ARGS__)
/* Same, and appends ": strerror(errno)". ENOSPC and EDQUOT become BL_NO_SPACE, ENOMEM BL_NO_MEMORY. */
#define bl_fail_sys(err, status, ...) bl_fail_sys_at(err, status, BL_HERE, __VA_ARGS__)
#define BL_HERE BL_HERE2(__FILE__, __LINE__)
#define BL_HERE2(f, l) BL_HERE3(f, l)
#define BL_HERE3(f, l) f ":" #l

enum bl_status bl_fail_at(struct bl_err *err, enum bl_status status, int sys, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
enum bl_status bl_fail_sys_at(struct bl_err *err, enum bl_status status, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Puts "prefix: " before the held text (to name the file an inner parser did not know). Returns err->status. */
enum bl_status bl_err_prefix(struct bl_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bl_err_clear(struct bl_err *err);

const char *bl_status_name(enum bl_status s); /* "INVALID" */
const char *bl_status_text(enum bl_status s); /* default sentence */
int bl_status_exit(enum bl_status s);         /* process exit code */

#endif
