/* SPDX-License-Identifier: Apache-2.0
 * JSON behind bounds: json_scan.c judges the text, cJSON builds the tree with our allocator, and duplicate keys are
 * refused on the tree, where escapes are already decoded ("a" and "\u0061" are one key). Printing is our own: cJSON
 * cannot sort, cannot choose the indent, and prints numbers with up to 17 digits where fewer do. */
#include "core/base/json.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json_scan.h"
#include "core/base/mem.h"

#define EXACT 9007199254740992.0 /* 2^53: integers up to here are exact in a double */
#define SMALL_OBJECT 8

static void install_hooks(void)
{
	cJSON_Hooks hooks = { .malloc_fn = bl_try_malloc, .free_fn = bl_free };

	cJSON_InitHooks(&hooks);
}

static void use_our_allocator(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install_hooks);
}

/* before main: a tree built by hand and one parsed later must come from the same allocator */
__attribute__((constructor)) static void at_start(void)
{
	use_our_allocator();
}

static enum bl_status duplicate(const char *name, const char *file, struct bl_err *err)
{
	return bl_fail(err, BL_INVALID, "%s: the key \"%s\" stands twice in one object", file, name);
}

static enum bl_status check_keys(const cJSON *v, const char *file, struct bl_err *err) /* depth <= 64: scanned */
{
	struct bl_names seen = { 0 };
	const cJSON *c, *d;
	size_t n = 0;
	enum bl_status s = BL_OK;

	for (c = v->child; c && n <= SMALL_OBJECT; c = c->next)
		n++;
	for (c = v->child; c; c = c->next) {
		if (!cJSON_IsObject(v)) {
			/* an array has no keys */
		} else if (n <= SMALL_OBJECT) {
			for (d = v->child; d != c; d = d->next)
				if (!strcmp(d->string, c->string))
					return duplicate(c->string, file, err);
		} else if (bl_names_add(&seen, c->string) < 0) {
			s = duplicate(c->string, file, err);
			break;
		}
		if (c->child && (s = check_keys(c, file, err)))
			break;
	}
	bl_names_free(&seen);
	return s;
}

/* The next number behind *at, which lies inside the checked text; *at moves behind it. Returns its length. */
static size_t next_number(const char **at, const char **start)
{
	const char *p = *at;

	while (*p != '-' && (*p < '0' || *p > '9'))
		if (*p++ == '"') {
			while (*p != '"')
				p += *p == '\\' ? 2 : 1;
			p++;
		}
	*start = p;
	while (*p && strchr("+-.eE0123456789", *p))
		p++;
	*at = p;
	return (size_t)(p - *start);
}

/* A double does not know whether it was spelled 16 or 16.0, and readers of config.json do mind: numbers whose spelling would be lost
 * carry it in valuestring (which cJSON leaves NULL for numbers, copies and frees). Values stand in the tree in the order of the text. */
static bool keep_spellings(cJSON *v, const char **at)
{
	for (cJSON *c = v->child; c; c = c->next) {
		if (c->child && !keep_spellings(c, at))
			return false;
		if (!cJSON_IsNumber(c))
			continue;
		const char *start;
		size_t n = next_number(at, &start);
		bool whole = c->valuedouble == floor(c->valuedouble);
		bool spelled = memchr(start, '.', n) || memchr(start, 'e', n) || memchr(start, 'E', n);
		if (!whole || (!spelled && fabs(c->valuedouble) < EXACT))
			continue;
		if (!(c->valuestring = bl_try_malloc(n + 1)))
			return false;
		memcpy(c->valuestring, start, n);
		c->valuestring[n] = '\0';
	}
	return true;
}

enum bl_status bl_json_parse(cJSON **out, const char *text, size_t n, size_t max_values, const char *file, struct bl_err *err)
{
	cJSON *root;
	size_t reals = 0;

	if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* a byte order mark, as some editors leave it */
		text += 3;
		n -= 3;
	}
	if (bl_json_scan(text, n, max_values, &reals, file, err))
		return err->status;
	use_our_allocator();
	root = cJSON_ParseWithLength(text, n);
	if (root && reals) {
		const char *at = text;
		if (!keep_spellings(root, &at)) {
			cJSON_Delete(root);
			root = NULL;
		}
	}
	if (!root) /* the text is good, so only memory can have been missing */
		return bl_fail(err, BL_NO_MEMORY, "%s: not enough memory for its %zu bytes of JSON", file, n);
	if (check_keys(root, file, err)) {
		cJSON_Delete(root);
		return err->status;
	}
	*out = root;
	return BL_OK;
}

enum bl_status bl_json_load(cJSON **out, const char *path, size_t max_bytes, size_t max_values, struct bl_err *err)
{
	char *text;
	size_t n;
	enum bl_status s;

	if (bl_read_file(&text, &n, path, max_bytes, true, err))
		return err->status;
	s = bl_json_parse(out, text, n, max_values, path, err);
	bl_free(text);
	return s;
}

/* --- getters --- */

static const cJSON *find(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return v && !cJSON_IsNull(v) ? v : NULL;
}

bool bl_json_is_null_or_missing(const cJSON *o, const char *key)
{
	return !find(o, key);
}

static enum bl_status missing(const cJSON *o, const char *key, bool required, const char *file, struct bl_err *err)
{
	if (!cJSON_IsObject(o))
		return bl_fail(err, BL_INVALID, "%s: %s: its parent must be an object", file, key);
	if (required)
		return bl_fail(err, BL_INVALID, "%s: %s: is missing", file, key);
	return BL_OK;
}

/* What stands there instead, short enough for a message. */
static const char *shown(const cJSON *v, char out[64])
{
	if (cJSON_IsNumber(v))
		snprintf(out, 64, "%.15g", v->valuedouble);
	else if (cJSON_IsString(v))
		snprintf(out, 64, "\"%.40s\"%s", v->valuestring, strlen(v->valuestring) > 40 ? "..." : "");
	else
		snprintf(out, 64, "%s",
			 cJSON_IsBool(v) ? (cJSON_IsTrue(v) ? "true" : "false") : cJSON_IsArray(v) ? "an array" : "an object");
	return out;
}

enum bl_status bl_json_int(const cJSON *o, const char *key, int64_t min, int64_t max, bool required, int64_t *out,
			   const char *file, struct bl_err *err)
{
	const cJSON *v = find(o, key);
	char text[64];
	double d;

	if (!v)
		return missing(o, key, required, file, err);
	d = v->valuedouble;
	if (!cJSON_IsNumber(v) || d != floor(d) || fabs(d) > EXACT || (int64_t)d < min || (int64_t)d > max)
		return bl_fail(err, BL_INVALID, "%s: %s: must be an integer in %" PRId64 " .. %" PRId64 ", is %s", file, key, min, max,
			       shown(v, text));
	*out = (int64_t)d;
	return BL_OK;
}

enum bl_status bl_json_num(const cJSON *o, const char *key, double min, double max, bool required, double *out,
			   const char *file, struct bl_err *err)
{
	const cJSON *v = find(o, key);
	char text[64];

	if (!v)
		return missing(o, key, required, file, err);
	if (!cJSON_IsNumber(v) || !(v->valuedouble >= min && v->valuedouble <= max))
		return bl_fail(err, BL_INVALID, "%s: %s: must be a number in %g .. %g, is %s", file, key, min, max, shown(v, text));
	*out = v->valuedouble;
	return BL_OK;
}

enum bl_status bl_json_bool(const cJSON *o, const char *key, bool required, bool *out, const char *file, struct bl_err *err)
{
	const cJSON *v = find(o, key);
	char text[64];

	if (!v)
		return missing(o, key, required, file, err);
	if (!cJSON_IsBool(v))
		return bl_fail(err, BL_INVALID, "%s: %s: must be true or false, is %s", file, key, shown(v, text));
	*out = cJSON_IsTrue(v);
	return BL_OK;
}

enum bl_status bl_json_str(const cJSON *o, const char *key, size_t max_bytes, bool required, const char **out, const char *file,
			   struct bl_err *err)
{
	const cJSON *v = find(o, key);
	char text[64];

	if (!v)
		return missing(o, key, required, file, err);
	if (!cJSON_IsString(v))
		return bl_fail(err, BL_INVALID, "%s: %s: must be a string, is %s", file, key, shown(v, text));
	if (strlen(v->valuestring) > max_bytes)
		return bl_fail(err, BL_INVALID, "%s: %s: has %zu bytes, at most %zu are allowed", file, key, strlen(v->valuestring),
			       max_bytes);
	for (const char *p = v->valuestring; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || (*p == '\xc2' && (unsigned char)p[1] < 0xa0))
			return bl_fail(err, BL_INVALID, "%s: %s: holds a control character at byte %td", file, key, p - v->valuestring);
	*out = v->valuestring;
	return BL_OK;
}

/* --- printing --- */

static void print_number(struct bl_str *b, double d)
{
	char text[40];
	int digits;

	if (!isfinite(d)) {
		bl_str_add(b, "null"); /* JSON has no word for it */
		return;
	}
	if (d == floor(d) && fabs(d) < 1e17 && !(d == 0 && signbit(d))) {
		bl_str_addf(b, "%.0f", d);
		return;
	}
	for (digits = 1; digits < 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, d);
		if (strtod(text, NULL) == d)
			break;
	}
	snprintf(text, sizeof text, "%.*g", digits, d);
	bl_str_add(b, text);
	if (d == 0)
		bl_str_add(b, ".0"); /* "-0" alone would be read as an integer without its sign */
}

static int by_key(const void *a, const void *b)
{
	return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static void new_line(struct bl_str *b, int indent, int depth)
{
	if (indent > 0)
		bl_str_addf(b, "\n%*s", indent * depth, "");
}

static void print_value(struct bl_str *b, const cJSON *v, int indent, bool sort_keys, int depth);

static void print_children(struct bl_str *b, const cJSON *v, int indent, bool sort_keys, int depth)
{
	bool object = cJSON_IsObject(v);
	size_t n = 0, i = 0;
	const cJSON *c, **order;

	for (c = v->child; c; c = c->next)
		n++;
	if (!n) {
		bl_str_add(b, object ? "{}" : "[]");
		return;
	}
	order = bl_xalloc(n, sizeof *order);
	for (c = v->child; c; c = c->next)
		order[i++] = c;
	if (object && sort_keys)
		qsort(order, n, sizeof *order, by_key);
	bl_str_addc(b, object ? '{' : '[');
	for (i = 0; i < n; i++) {
		if (i)
			bl_str_addc(b, ',');
		new_line(b, indent, depth + 1);
		if (object) {
			bl_str_add_json(b, order[i]->string);
			bl_str_add(b, indent > 0 ? ": " : ":");
		}
		print_value(b, order[i], indent, sort_keys, depth + 1);
	}
	new_line(b, indent, depth);
	bl_str_addc(b, object ? '}' : ']');
	bl_free(order);
}

static void print_value(struct bl_str *b, const cJSON *v, int indent, bool sort_keys, int depth)
{
	if (cJSON_IsNumber(v) && v->valuestring)
		bl_str_add(b, v->valuestring);
	else if (cJSON_IsNumber(v))
		print_number(b, v->valuedouble);
	else if (cJSON_IsString(v))
		bl_str_add_json(b, v->valuestring);
	else if (cJSON_IsRaw(v))
		bl_str_add(b, v->valuestring);
	else if (cJSON_IsBool(v))
		bl_str_add(b, cJSON_IsTrue(v) ? "true" : "false");
	else if (cJSON_IsObject(v) || cJSON_IsArray(v))
		print_children(b, v, indent, sort_keys, depth);
	else
		bl_str_add(b, "null");
}

void bl_json_print(struct bl_str *b, const cJSON *v, int indent, bool sort_keys)
{
	print_value(b, v, indent, sort_keys, 0);
}

cJSON *bl_json_add_int(cJSON *o, const char *key, int64_t v)
{
	char text[24];

	if (v >= -(int64_t)EXACT && v <= (int64_t)EXACT)
		return cJSON_AddNumberToObject(o, key, (double)v);
	snprintf(text, sizeof text, "%" PRId64, v);
	return cJSON_AddRawToObject(o, key, text);
}
