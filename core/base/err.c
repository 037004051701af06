/* SPDX-License-Identifier: Apache-2.0
 * Outcomes: the first error of a chain is kept, its text is made printable here, once, so that nothing
 * downstream (screen, log, stderr, JSON) has to distrust it again. */
#include "core/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"

static const struct {
	const char *name, *text;
	int exit_code;
} rows[] = {
#define BL_ERR(n, code, sentence) { #n, sentence, code },
#include "core/base/err_list.h"
#undef BL_ERR
};

__attribute__((format(printf, 5, 0)))
static enum bl_status fail_v(struct bl_err *err, enum bl_status status, int sys, const char *where, const char *fmt,
			     va_list ap)
{
	char raw[sizeof err->text], full[sizeof err->text + 128], msg[100];

	if (err->status != BL_OK)
		return status;
	vsnprintf(raw, sizeof raw, fmt, ap);
	if (sys) {
		/* room for the system's reason is kept even when the text before it is cut */
		raw[sizeof raw - sizeof msg - 3] = '\0';
		snprintf(full, sizeof full, "%s: %s", raw, strerror_r(sys, msg, sizeof msg));
	} else {
		snprintf(full, sizeof full, "%s", raw);
	}
	bl_printable(err->text, sizeof err->text, full);
	err->sys = sys;
	err->where = where;
	err->status = status; /* last: a jump out of a guarded function never leaves a status without text */
	return status;
}

enum bl_status bl_fail_at(struct bl_err *err, enum bl_status status, int sys, const char *where, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail_v(err, status, sys, where, fmt, ap);
	va_end(ap);
	return status;
}

enum bl_status bl_fail_sys_at(struct bl_err *err, enum bl_status status, const char *where, const char *fmt, ...)
{
	int sys = errno;
	va_list ap;

	if (sys == ENOSPC || sys == EDQUOT)
		status = BL_NO_SPACE;
	else if (sys == ENOMEM)
		status = BL_NO_MEMORY;
	va_start(ap, fmt);
	fail_v(err, status, sys, where, fmt, ap);
	va_end(ap);
	return status;
}

enum bl_status bl_err_prefix(struct bl_err *err, const char *fmt, ...)
{
	char raw[sizeof err->text / 2], full[sizeof raw + sizeof err->text];
	va_list ap;

	if (err->status == BL_OK)
		return BL_OK;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	snprintf(full, sizeof full, "%s: %s", raw, err->text);
	bl_printable(err->text, sizeof err->text, full);
	return err->status;
}

void bl_err_clear(struct bl_err *err)
{
	*err = BL_ERR_INIT;
}

static unsigned row_of(enum bl_status s)
{
	return (unsigned)s < BL_STATUS_COUNT ? (unsigned)s : BL_FAILED;
}

const char *bl_status_name(enum bl_status s)
{
	return rows[row_of(s)].name;
}

const char *bl_status_text(enum bl_status s)
{
	return rows[row_of(s)].text;
}

int bl_status_exit(enum bl_status s)
{
	return rows[row_of(s)].exit_code;
}
