/* SPDX-License-Identifier: Apache-2.0
 * Which units a text means, and "PATTERN=SCHEME" applied to them. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/plan/regex.h"
#include "core/plan/state.h"

static enum bl_status match_regex(const struct bl_model *m, const char *text, uint8_t *selected, int *n, struct bl_err *err)
{
	int64_t budget = BL_REGEX_BUDGET_NS;
	struct bl_regex *re = NULL;

	if (bl_regex_open(&re, text, "pattern ", BL_USAGE, err))
		return err->status;
	for (int i = 0; i < m->n_units && !err->status; i++) {
		const struct bl_unit *u = &m->units[i];
		for (int j = -1; j < u->n_members && !selected[i] && !err->status; j++)
			selected[i] = bl_regex_match(re, j < 0 ? u->name : u->members[j].name, &budget, err);
		*n += selected[i];
	}
	bl_regex_free(re);
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

/* "SCHEME[:METHOD[,key=value...]]" taken apart. */
struct setting { struct bl_scheme scheme; char method[BL_METHOD_NAME_MAX]; char *params; };

static enum bl_status parse_setting(struct setting *out, const char *text, struct bl_err *err)
{
	const char *colon = strchr(text, ':'), *comma = colon ? strchr(colon, ',') : NULL;
	size_t len = !colon ? 0 : comma ? (size_t)(comma - colon - 1) : strlen(colon + 1);
	char *scheme = bl_xstrndup(text, colon ? (size_t)(colon - text) : strlen(text));
	enum bl_status status = bl_scheme_parse(&out->scheme, scheme, err);

	bl_free(scheme);
	if (status)
		return status;
	if (!bl_text_is_plain(text, BL_PARAMS_TEXT_MAX))
		return bl_fail(err, BL_USAGE, "%.100s: must be at most %d bytes of text", text, BL_PARAMS_TEXT_MAX);
	if (colon && (!len || len >= sizeof out->method))
		return bl_fail(err, BL_USAGE, "%s: the method's name must be 1 to %zu bytes long", text, sizeof out->method - 1);
	memset(out->method, 0, sizeof out->method);
	if (colon)
		memcpy(out->method, colon + 1, len);
	out->params = comma ? bl_xstrdup(comma + 1) : NULL;
	return BL_OK;
}

/* The first '=' that is followed by a scheme (a regular expression may hold '=' too), else the last one; NULL: none. */
static const char *find_equals(const char *text)
{
	for (const char *c = strchr(text, '='); c; c = strchr(c + 1, '=')) {
		struct bl_err ignored = BL_ERR_INIT;
		struct bl_scheme scheme;
		size_t len = strcspn(c + 1, ":");
		char name[BL_SCHEME_NAME_MAX];
		if (len >= sizeof name)
			continue;
		memcpy(name, c + 1, len);
		name[len] = '\0';
		if (bl_scheme_parse(&scheme, name, &ignored) == BL_OK)
			return c;
	}
	return strrchr(text, '=');
}

/* The first '=' that is followed by a name and by the end of it (params hold '=', too); NULL: none. */
static const char *find_method(const char *text)
{
	for (const char *c = strchr(text, '='); c; c = strchr(c + 1, '=')) {
		size_t n = strspn(c + 1, "abcdefghijklmnopqrstuvwxyz0123456789_-");
		if (n && n < BL_METHOD_NAME_MAX && (!c[1 + n] || c[1 + n] == ','))
			return c;
	}
	return NULL;
}

/* The units that match the first `len` bytes of text, as one step. s NULL: schemes stay, and units in full precision, which have no method, are passed over. */
static enum bl_status apply(struct bl_plan *p, const struct bl_model *m, const char *text, size_t len, const struct bl_scheme *s, const char *method, const char *params,
			    int *n_changed, int *n_locked, struct bl_err *err)
{
	char *pattern = bl_xstrndup(text, len);
	uint8_t *selected = bl_xalloc((size_t)m->n_units + 1, 1);
	int changed = 0, locked = 0;

	if (bl_pattern_match(m, pattern, selected, NULL, err) == BL_OK) {
		bl_plan_begin(p, text);
		for (int i = 0; i < m->n_units; i++) {
			if (!selected[i] || (!s && !*bl_plan_choice(p, i)->method))
				continue;
			bool done = !s || bl_plan_set_scheme(p, i, s);
			if (done && *method)
				done = bl_plan_set_method(p, i, method, params);
			changed += done;
			locked += !done;
		}
		bl_plan_end(p);
		if (n_changed)
			*n_changed = changed;
		if (n_locked)
			*n_locked = locked;
	}
	bl_free(selected);
	bl_free(pattern);
	return err->status;
}

enum bl_status bl_plan_method_text(struct bl_plan *p, const struct bl_model *m, const char *text, int *n_changed, int *n_locked, struct bl_err *err)
{
	const char *eq = find_method(text);

	if (!eq || eq == text || !bl_text_is_plain(text, BL_PARAMS_TEXT_MAX))
		return bl_fail(err, BL_USAGE, "%.200s: must be PATTERN=METHOD[,key=value]", text);
	const char *comma = strchr(eq, ',');
	char *method = bl_xstrndup(eq + 1, comma ? (size_t)(comma - eq - 1) : strlen(eq + 1));

	apply(p, m, text, (size_t)(eq - text), NULL, method, comma ? comma + 1 : NULL, n_changed, n_locked, err);
	bl_free(method);
	return err->status;
}

enum bl_status bl_plan_set_text(struct bl_plan *p, const struct bl_model *m, const char *text, int *n_changed, int *n_locked, struct bl_err *err)
{
	const char *eq = find_equals(text);
	struct setting set = {.params = NULL};

	if (!eq || eq == text)
		return bl_fail(err, BL_USAGE, "%s: must be PATTERN=SCHEME[:METHOD[,key=value]]", text);
	if (parse_setting(&set, eq + 1, err))
		return err->status;
	apply(p, m, text, (size_t)(eq - text), &set.scheme, set.method, set.params, n_changed, n_locked, err);
	bl_free(set.params);
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
		if (bl_plan_set_scheme(p, i, &s))
			bl_plan_set_method(p, i, "", "");
	bl_plan_end(p);
	return BL_OK;
}
