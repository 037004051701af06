/* SPDX-License-Identifier: Apache-2.0
 * Regular expressions with bounds. Python's syntax and PCRE2's agree where module names are concerned. */
#include "core/plan/regex.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/clock.h"
#include "core/base/mem.h"

#define STEPS_MAX 50000 /* of one match; names are short, honest expressions need a few hundred */
#define DEPTH_MAX 1000
#define HEAP_KIB_MAX 4096

struct bl_regex {
	pcre2_code *code;
	pcre2_match_context *context;
	pcre2_match_data *data;
	char *text, *where;
	enum bl_status status;
};

void bl_regex_free(struct bl_regex *r)
{
	if (!r)
		return;
	pcre2_match_data_free(r->data);
	pcre2_match_context_free(r->context);
	pcre2_code_free(r->code);
	bl_free(r->text);
	bl_free(r->where);
	bl_free(r);
}

enum bl_status bl_regex_open(struct bl_regex **out, const char *text, const char *where, enum bl_status status, struct bl_err *err)
{
	int code = 0;
	PCRE2_SIZE at = 0;
	PCRE2_UCHAR why[160];
	struct bl_regex *r = bl_xalloc(1, sizeof *r);

	r->text = bl_xstrdup(text);
	r->where = bl_xstrdup(where);
	r->status = status;
	r->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &code, &at, NULL);
	if (!r->code) {
		pcre2_get_error_message(code, why, sizeof why);
		bl_fail(err, status, "%sre:%.200s: at byte %zu: %s", where, text, (size_t)at, (char *)why);
	} else {
		r->context = pcre2_match_context_create(NULL);
		r->data = pcre2_match_data_create(1, NULL);
		if (!r->context || !r->data)
			bl_fail(err, BL_NO_MEMORY, "%sre:%.200s: not enough memory", where, text);
	}
	if (err->status) {
		bl_regex_free(r);
		return err->status;
	}
	pcre2_set_match_limit(r->context, STEPS_MAX);
	pcre2_set_depth_limit(r->context, DEPTH_MAX);
	pcre2_set_heap_limit(r->context, HEAP_KIB_MAX);
	*out = r;
	return BL_OK;
}

bool bl_regex_match(struct bl_regex *r, const char *name, int64_t *budget_ns, struct bl_err *err)
{
	int64_t start = (int64_t)bl_now_ns();
	int rc = pcre2_match(r->code, (PCRE2_SPTR)name, strlen(name), 0, 0, r->data, r->context);

	*budget_ns -= (int64_t)bl_now_ns() - start;
	if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
		bl_fail(err, r->status, "%sre:%.200s: takes too long to match (rule out nested repetition)", r->where, r->text);
	else if (*budget_ns < 0)
		bl_fail(err, r->status, "%sre:%.200s: the regular expressions take too long to match", r->where, r->text);
	return !err->status && rc >= 0;
}
