/* SPDX-License-Identifier: Apache-2.0
 * What the tests of export and proof share: an opened model with a plan, a request, a scratch folder, files compared and changed. */
#ifndef TEST_EXPORT_SUPPORT_H
#define TEST_EXPORT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/export/export.h"
#include "core/export/layout.h"

#define TINY BL_SOURCE_DIR "/tests/models/tiny-exaone4"

#define OK(call)                                             \
	do {                                                 \
		struct bl_err err = BL_ERR_INIT;             \
		if ((call) != BL_OK)                         \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)

struct fix { /* everything an export needs */
	struct bl_model *model;
	struct bl_plan *plan;
	struct bl_registry registry;
	struct bl_pool *pool;
	const struct bl_target *target;
};

void fix_open(struct fix *f, const char *model, int threads);
void fix_close(struct fix *f);
/* plan: presets and settings separated by blanks: "W8A8 re:.*down_proj=W4A16" */
void fix_plan(struct fix *f, const char *text);
struct bl_export_request fix_request(struct fix *f, const char *out);
/* Export that must succeed, into out (replaced when it is there). */
void fix_export(struct fix *f, const char *out, struct bl_export_result *r);
/* The proof of path; base: against the fixture's model. The result is freed by the caller. */
void fix_verify(struct fix *f, const char *path, bool base, struct bl_verify_result *r);
/* First fatal sentence of a proof, "" when none. */
const char *first_fatal(const struct bl_verify_result *r);

int scratch_make(void **state); /* a folder of the test's own; scratch("a") is a path in it (ring of eight buffers) */
int scratch_drop(void **state);
const char *scratch(const char *name);
const char *shared_path(const char *rest); /* below ../shared ($BL_SHARED), NULL when not there; static buffer */
bool scratch_is_clean(void);               /* no ".*.tmp" in it */

/* Digest of a file, or of a folder's names and files. */
void digest_of(const char *path, char out[65]);
void copy_tree(const char *from, const char *to);
void put_file(const char *path, const void *data, size_t n);

#endif
