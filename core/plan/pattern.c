/* SPDX-License-Identifier: Apache-2.0
 * Which units a text means. Regular expressions go through PCRE2 with a match limit: a hostile pattern ends, it does not hang. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/plan/plan.h"

#define MATCH_LIMIT 100000

static enum bl_status match_regex(const struct bl_model *m, const char *regex, uint8_t *selected, int *n, struct bl_err *err)
{
	int code = 0;
	PCRE2_SIZE at = 0;
	PCRE2_UCHAR text[160];
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &code, &at, NULL);

	if (!re) {
		pcre2_get_error_message(code, text, sizeof text);
		return bl_fail(err, BL_USAGE, "pattern re:%s: at byte %zu: %s", regex, (size_t)at, (char *)text);
	}
	pcre2_match_context *mc = pcre2_match_context_create(NULL);
	pcre2_match_data *md = pcre2_match_data_create_from_pattern(re, NULL);
	pcre2_set_match_limit(mc, MATCH_LIMIT);
	pcre2_set_depth_limit(mc, 1000);
	for (int i = 0; i < m->n_units && !err->status; i++) {
		const struct bl_unit *u = &m->units[i];
		for (int j = -1; j < u->n_members && !selected[i] && !err->status; j++) {
			const char *name = j < 0 ? u->name : u->members[j].name;
			int rc = pcre2_match(re, (PCRE2_SPTR)name, strlen(name), 0, 0, md, mc);
			if (rc >= 0) {
				selected[i] = 1;
				++*n;
			} else if (rc != PCRE2_ERROR_NOMATCH) {
				bl_fail(err, BL_USAGE, "pattern re:%s: takes too long to match (rule out nested repetition)", regex);
			}
		}
	}
	pcre2_match_data_free(md);
	pcre2_match_context_free(mc);
	pcre2_code_free(re);
	return err->status;
}

static int kind_from(const char *s)
{
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
		if (!strcmp(bl_unit_kind_name((enum bl_unit_kind)k), s))
			return k;
	return -1;
}

/* "11", "4-11", "4-11.down", "down", "first", "last.qkv", "all"; false when the text is not of that form. */
static bool parse_range(const struct bl_model *m, const char *s, long *from, long *to, int *kind)
{
	long last = (long)m->config.layers - 1;
	char *end = (char *)(uintptr_t)s;

	*from = 0;
	*to = last;
	*kind = -1;
	if (!strcmp(s, "all"))
		return true;
	if ((*kind = kind_from(s)) >= 0)
		return true;
	if (isdigit((unsigned char)*s)) {
		*from = *to = strtol(s, &end, 10);
		if (*end == '-' && isdigit((unsigned char)end[1]))
			*to = strtol(end + 1, &end, 10);
	} else if (bl_starts_with(s, "first")) {
		*from = *to = 0;
		end += 5;
	} else if (bl_starts_with(s, "last")) {
		*from = *to = last;
		end += 4;
	} else {
		return false;
	}
	if (!*end)
		return true;
	return (*end == '.' || *end == ' ') && (*kind = kind_from(end + 1)) >= 0;
}

enum bl_status bl_pattern_match(const struct bl_model *m, const char *pattern, uint8_t *selected, int *n_selected, struct bl_err *err)
{
	long from, to;
	int kind, n = 0;
	uint8_t *found = bl_xalloc((size_t)m->n_units + 1, 1);

	if (bl_starts_with(pattern, "re:")) {
		match_regex(m, pattern + 3, found, &n, err);
	} else if (parse_range(m, pattern, &from, &to, &kind)) {
		for (int i = 0; i < m->n_units; i++)
			if (m->units[i].block >= from && m->units[i].block <= to && (kind < 0 || (int)m->units[i].kind == kind)) {
				found[i] = 1;
				n++;
			}
	} else {
		int i = bl_model_unit(m, pattern);
		if (i >= 0) {
			found[i] = 1;
			n = 1;
		}
	}
	if (!err->status && !n)
		bl_fail(err, BL_USAGE, "pattern %s: matches no unit (a name, re:REGEX, a kind like down, blocks like 4-11 or 4-11.down, all)", pattern);
	if (!err->status) {
		memcpy(selected, found, (size_t)m->n_units);
		if (n_selected)
			*n_selected = n;
	}
	bl_free(found);
	return err->status;
}

enum bl_status bl_plan_set_text(struct bl_plan *p, const struct bl_model *m, const char *text, int *n_changed, int *n_locked, struct bl_err *err)
{
	const char *eq = NULL, *rest;
	struct bl_scheme scheme;
	char *pattern, *name, method[BL_METHOD_NAME_MAX] = "", *params = NULL;
	int changed = 0, locked = 0;

	/* the last '=' that is followed by a scheme: a regular expression may hold '=' too */
	for (const char *c = text; *c; c++) {
		struct bl_err ignored = BL_ERR_INIT;
		if (*c != '=')
			continue;
		name = bl_xstrndup(c + 1, strcspn(c + 1, ":"));
		if (bl_scheme_parse(&scheme, name, &ignored) == BL_OK)
			eq = c;
		bl_free(name);
		if (eq)
			break;
	}
	if (!eq) {
		eq = strrchr(text, '=');
		if (!eq)
			return bl_fail(err, BL_USAGE, "%s: must be PATTERN=SCHEME[:METHOD[,key=value]]", text);
		return bl_scheme_parse(&scheme, eq + 1, err);
	}
	rest = strchr(eq + 1, ':');
	if (rest) {
		const char *comma = strchr(rest + 1, ',');
		size_t len = comma ? (size_t)(comma - rest - 1) : strlen(rest + 1);
		if (!len || len >= sizeof method)
			return bl_fail(err, BL_USAGE, "%s: the method's name must be 1 to %zu bytes long", text, sizeof method - 1);
		memcpy(method, rest + 1, len);
		params = comma ? bl_xstrdup(comma + 1) : NULL;
	}
	pattern = bl_xstrndup(text, (size_t)(eq - text));
	uint8_t *sel = bl_xalloc((size_t)m->n_units + 1, 1);
	if (bl_pattern_match(m, pattern, sel, NULL, err) == BL_OK) {
		bl_plan_begin(p, text);
		for (int i = 0; i < m->n_units; i++) {
			if (!sel[i])
				continue;
			if (!bl_plan_set_scheme(p, i, &scheme)) {
				locked++;
				continue;
			}
			if (*method && scheme.number != BL_NUM_FULL)
				bl_plan_set_method(p, i, method, params);
			changed++;
		}
		bl_plan_end(p);
		if (n_changed)
			*n_changed = changed;
		if (n_locked)
			*n_locked = locked;
	}
	bl_free(sel);
	bl_free(pattern);
	bl_free(params);
	return err->status;
}

enum bl_status bl_plan_preset(struct bl_plan *p, const struct bl_model *m, const char *name, struct bl_err *err)
{
	struct bl_scheme s;
	char label[64];

	if (bl_scheme_parse(&s, name, err))
		return err->status;
	snprintf(label, sizeof label, "preset %s", name);
	bl_plan_begin(p, label);
	for (int i = 0; i < m->n_units; i++)
		bl_plan_set_scheme(p, i, &s);
	bl_plan_end(p);
	return BL_OK;
}
