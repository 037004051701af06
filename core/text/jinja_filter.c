/* SPDX-License-Identifier: Apache-2.0
 * Filters, tests, methods of strings and mappings, and the functions that templates find. */
#include "core/text/jinja.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text/private.h"

static const char *const filters[] = {"trim", "strip", "tojson", "length", "count", "default", "d", "join", "first", "last", "upper", "lower",
			"capitalize", "replace",
				      "string", "int", "list", "items", "reverse", "selectattr", "rejectattr", "map", "safe", "select", "reject", "indent"};
static const char *const tests[] = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "float",
			"boolean", "true",
				    "false", "odd", "even", "eq", "equalto", "ne", "lt", "gt", "le", "ge", "in", "divisibleby", "sameas"};

static bool among(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(list[i], name))
			return true;
	return false;
}

bool jj_known_filter(const char *name) { return strcmp(name, "strip") && among(filters, sizeof filters / sizeof filters[0], name); }
bool jj_known_test(const char *name) { return among(tests, sizeof tests / sizeof tests[0], name); }

const struct jj_value *jj_arg(const struct jj_args *a, size_t at, const char *name)
{
	if (at < a->n)
		return &a->v[at];
	for (size_t i = 0; name && i < a->n_named; i++)
		if (!strcmp(a->named[i].key.s, name))
			return &a->named[i].value;
	return NULL;
}

static bool at_most(struct jj_run *r, const char *what, const struct jj_args *a, size_t n)
{
	if (a->n + a->n_named > n)
		jj_fail(r, BL_UNSUPPORTED, "%s with so many arguments is not supported", what);
	return !r->err->status;
}

static bool is_string(struct jj_run *r, const char *what, const struct jj_value *v)
{
	if (!v || v->type != JT_STRING)
		jj_fail(r, BL_INVALID, "%s works on strings, not on %s", what, v ? jj_type_name(*v) : "nothing");
	return !r->err->status;
}

static struct jj_value taken(struct jj_run *r, struct bl_str *b)
{
	struct jj_value v = jj_string(r, bl_str_c(b), b->len);

	bl_str_free(b);
	return v;
}

/* ---- strings ---- */

static bool stripped(uint32_t cp, const struct jj_value *chars)
{
	if (!chars || chars->type != JT_STRING)
		return bl_is_space(cp) || (cp >= 0x1c && cp <= 0x1f);
	for (size_t at = 0; at < chars->n;) {
		uint32_t c;
		int n = bl_utf8_next((const uint8_t *)chars->s + at, chars->n - at, &c);
		if (c == cp)
			return true;
		at += (size_t)(n < 0 ? -n : n);
	}
	return false;
}

static struct jj_value strip(struct jj_run *r, struct jj_value s, const struct jj_value *chars, bool left, bool right)
{
	uint32_t cp;

	if (!jj_spend(r, s.n * (chars && chars->type == JT_STRING ? 1 + chars->n / 8 : 1)))
		return s;
	while (left && s.n) {
		int n = bl_utf8_next((const uint8_t *)s.s, s.n, &cp);
		if (n < 0 || !stripped(cp, chars))
			break;
		s.s += n;
		s.n -= (size_t)n;
	}
	while (right && s.n) {
		size_t from = s.n - 1;
		while (from && ((uint8_t)s.s[from] & 0xc0) == 0x80)
			from--;
		if (bl_utf8_next((const uint8_t *)s.s + from, s.n - from, &cp) < 0 || !stripped(cp, chars))
			break;
		s.n = from;
	}
	return s;
}

static struct jj_value replace(struct jj_run *r, struct jj_value s, const struct jj_value *from, const struct jj_value *to)
{
	struct bl_str b = {0};
	size_t at = 0;

	if (!is_string(r, "replace", from) || !is_string(r, "replace", to))
		return s;
	if (!from->n)
		return jj_fail(r, BL_UNSUPPORTED, "replacing nothing is not supported");
	for (const char *hit; at < s.n && jj_spend(r, to->n) && (hit = memmem(s.s + at, s.n - at, from->s, from->n));) {
		bl_str_addn(&b, s.s + at, (size_t)(hit - s.s) - at);
		bl_str_addn(&b, to->s, to->n);
		at = (size_t)(hit - s.s) + from->n;
		if (b.len > (size_t)JJ_OUTPUT_MAX)
			jj_fail(r, BL_INVALID, "a string that is too long");
	}
	if (at < s.n)
		bl_str_addn(&b, s.s + at, s.n - at);
	return taken(r, &b);
}

static struct jj_value change_case(struct jj_run *r, struct jj_value s, bool upper, bool capital)
{
	struct jj_value copy = jj_string(r, s.s, s.n);
	char *p = (char *)copy.s;

	for (size_t i = 0; i < copy.n; i++) {
		bool up = capital ? i == 0 : upper;
		if ((uint8_t)p[i] >= 0x80)
			return jj_fail(r, BL_UNSUPPORTED, "changing the case of letters beyond ASCII is not supported");
		if (up ? p[i] >= 'a' && p[i] <= 'z' : p[i] >= 'A' && p[i] <= 'Z')
			p[i] ^= 0x20;
	}
	return copy;
}

static struct jj_value split(struct jj_run *r, struct jj_value s, const struct jj_args *a)
{
	const struct jj_value *by = jj_arg(a, 0, "sep"), *most = jj_arg(a, 1, "maxsplit");
	int64_t left = most && most->type == JT_INT && most->i >= 0 ? most->i : INT64_MAX;
	size_t n = 1, i = 0, step = 1;
	const char *p = s.s, *end = s.s + s.n, *hit;

	if (!by || by->type == JT_NONE || !is_string(r, "split", by) || !by->n)
		return jj_fail(r, BL_UNSUPPORTED, "split without a separator is not supported");
	step = by->n;
	for (const char *q = p; jj_spend(r, 0) && (int64_t)n <= left && (hit = memmem(q, (size_t)(end - q), by->s, step)); q = hit + step)
		n++;
	if (left < INT64_MAX && (int64_t)n > left + 1)
		n = (size_t)left + 1;
	struct jj_list *l = jj_list_new(r, jj_spend(r, s.n) ? n : 0);
	for (; i < l->n; i++) {
		hit = i + 1 < l->n ? memmem(p, (size_t)(end - p), by->s, step) : NULL;
		l->v[i] = JJ_STR(p, (size_t)((hit ? hit : end) - p));
		p = hit ? hit + step : end;
	}
	return (struct jj_value){.type = JT_LIST, .list = l};
}

/* startswith, endswith: a string, or a list of which one fits. */
static struct jj_value edge(struct jj_run *r, struct jj_value s, const struct jj_value *what, bool start)
{
	struct jj_list one, *l = &one;

	if (!what || (what->type != JT_STRING && what->type != JT_LIST))
		return jj_fail(r, BL_INVALID, "startswith and endswith need a string");
	one = (struct jj_list){(struct jj_value *)what, 1};
	if (what->type == JT_LIST)
		l = what->list;
	for (size_t i = 0; i < l->n && jj_spend(r, l->v[i].type == JT_STRING ? l->v[i].n : 0); i++)
		if (is_string(r, "startswith", &l->v[i]) && l->v[i].n <= s.n && !memcmp(start ? s.s : s.s + s.n - l->v[i].n, l->v[i].s, l->v[i].n))
			return JJ_BOOL(true);
	return JJ_BOOL(false);
}

static struct jj_value join(struct jj_run *r, struct jj_list *l, const struct jj_value *by)
{
	struct bl_str b = {0};
	size_t start = r->out_start;

	r->out_start = 0;
	for (size_t i = 0; i < l->n && !r->err->status && jj_spend(r, 0); i++) {
		if (i && by)
			jj_print(r, &b, *by);
		jj_print(r, &b, l->v[i]);
	}
	r->out_start = start;
	return taken(r, &b);
}

static struct jj_value string_method(struct jj_run *r, struct jj_value s, const char *name, const struct jj_args *a)
{
	const struct jj_value *first = jj_arg(a, 0, NULL);

	if (a->n_named && strcmp(name, "split"))
		return jj_fail(r, BL_UNSUPPORTED, "named arguments of %s are not supported", name);
	if (!at_most(r, name, a, !strcmp(name, "replace") || !strcmp(name, "split") ? 2 : 1))
		return s;
	bool left = !strcmp(name, "lstrip"), right = !strcmp(name, "rstrip");
	if (left || right || !strcmp(name, "strip")) {
		if (first && first->type != JT_STRING && first->type != JT_NONE)
			return jj_fail(r, BL_INVALID, "%s takes a string", name);
		return strip(r, s, first, !right, !left);
	}
	if (!strcmp(name, "split"))
		return split(r, s, a);
	if (!strcmp(name, "startswith") || !strcmp(name, "endswith"))
		return edge(r, s, first, *name == 's');
	if (!strcmp(name, "replace"))
		return replace(r, s, first, jj_arg(a, 1, NULL));
	if (!strcmp(name, "upper") || !strcmp(name, "lower") || !strcmp(name, "capitalize"))
		return change_case(r, s, *name == 'u', *name == 'c');
	if (!strcmp(name, "join") && first)
		return join(r, jj_iterate(r, *first), &s);
	if (!strcmp(name, "find") && is_string(r, "find", first) && jj_spend(r, s.n)) {
		const char *hit = memmem(s.s, s.n, first->s, first->n);
		return JJ_INT(!first->n ? 0 : hit ? (int64_t)jj_chars(JJ_STR(s.s, (size_t)(hit - s.s))) : -1);
	}
	return jj_fail(r, BL_UNSUPPORTED, "the method %.60s of strings is not supported", name);
}

static struct jj_value pairs(struct jj_run *r, struct jj_dict *d, char what)
{
	struct jj_list *l = jj_list_new(r, d->n);

	for (size_t i = 0; i < l->n; i++) {
		if (what != 'i') {
			l->v[i] = what == 'k' ? d->p[i].key : d->p[i].value;
			continue;
		}
		struct jj_list *two = jj_list_new(r, 2);
		if (two->n == 2) {
			two->v[0] = d->p[i].key;
			two->v[1] = d->p[i].value;
		}
		l->v[i] = (struct jj_value){.type = JT_LIST, .list = two};
	}
	return (struct jj_value){.type = JT_LIST, .list = l};
}

struct jj_value jj_method(struct jj_run *r, struct jj_value v, const char *name, const struct jj_args *a)
{
	if (v.type == JT_STRING)
		return string_method(r, v, name, a);
	if (v.type == JT_DICT && (!strcmp(name, "items") || !strcmp(name, "keys") || !strcmp(name, "values")) && at_most(r, name, a, 0))
		return pairs(r, v.dict, *name);
	if (v.type == JT_DICT && !strcmp(name, "get") && is_string(r, "get", jj_arg(a, 0, NULL)) && at_most(r, name, a, 2)) {
		const struct jj_value *found = jj_spend(r, v.dict->n * 8) ? jj_dict_get(v.dict, a->v[0].s, a->v[0].n) : NULL;
		return found ? *found : a->n > 1 ? a->v[1] : JJ_NONE;
	}
	if (v.type == JT_LOOP && !strcmp(name, "cycle") && a->n)
		return a->v[v.loop->at % a->n];
	if (v.type == JT_UNDEFINED)
		return jj_fail(r, BL_INVALID, "%.60s() of something undefined (%.60s)", name, v.name);
	return jj_fail(r, BL_UNSUPPORTED, "the method %.60s of %s is not supported", name, jj_type_name(v));
}

/* ---- JSON, as json.dumps without ensure_ascii ---- */

static void json_string(struct bl_str *out, struct jj_value v)
{
	static const char plain[] = "\"\\\b\f\n\r\t", named[] = "\"\\bfnrt";

	bl_str_addc(out, '"');
	for (size_t i = 0; i < v.n; i++) {
		const char *k = memchr(plain, v.s[i], sizeof plain - 1);
		if (k)
			bl_str_addf(out, "\\%c", named[k - plain]);
		else if ((uint8_t)v.s[i] < 0x20)
			bl_str_addf(out, "\\u%04x", (unsigned)v.s[i]);
		else
			bl_str_addc(out, v.s[i]);
	}
	bl_str_addc(out, '"');
}

static void new_line(struct bl_str *out, int64_t indent, int depth)
{
	if (indent >= 0)
		bl_str_addf(out, "\n%*s", (int)indent * depth, "");
}

static void json(struct jj_run *r, struct bl_str *out, struct jj_value v, int64_t indent, int depth)
{
	bool list = v.type == JT_LIST;
	size_t n = list ? v.list->n : v.type == JT_DICT ? v.dict->n : 0;

	if (!jj_spend(r, v.type == JT_STRING ? v.n : (size_t)(depth * (indent > 0 ? indent : 0))) || depth > JJ_DEPTH_MAX ||
			out->len > (size_t)JJ_OUTPUT_MAX) {
		jj_fail(r, BL_INVALID, "a value that is too large for tojson");
		return;
	}
	if (v.type == JT_STRING) {
		json_string(out, v);
	} else if (list || v.type == JT_DICT) {
		bl_str_addc(out, list ? '[' : '{');
		for (size_t i = 0; i < n && !r->err->status; i++) {
			if (i)
				bl_str_add(out, indent >= 0 ? "," : ", ");
			new_line(out, indent, depth + 1);
			if (!list) {
				json_string(out, v.dict->p[i].key);
				bl_str_add(out, ": ");
			}
			json(r, out, list ? v.list->v[i] : v.dict->p[i].value, indent, depth + 1);
		}
		if (n)
			new_line(out, indent, depth);
		bl_str_addc(out, list ? ']' : '}');
	} else if (v.type == JT_NONE || v.type == JT_BOOL) {
		bl_str_add(out, v.type == JT_NONE ? "null" : v.b ? "true" : "false");
	} else if (v.type == JT_INT || v.type == JT_FLOAT) {
		size_t start = r->out_start;
		r->out_start = 0;
		jj_print(r, out, v);
		r->out_start = start;
	} else {
		jj_fail(r, BL_INVALID, "%s has no JSON", jj_type_name(v));
	}
}

static struct jj_value to_json(struct jj_run *r, struct jj_value v, const struct jj_args *a)
{
	const struct jj_value *indent = NULL;
	struct bl_str b = {0};

	for (size_t i = 0; i < a->n_named; i++) {
		if (!strcmp(a->named[i].key.s, "indent"))
			indent = &a->named[i].value;
		else if (strcmp(a->named[i].key.s, "ensure_ascii") || jj_true(a->named[i].value))
			return jj_fail(r, BL_UNSUPPORTED, "tojson with %s is not supported", a->named[i].key.s);
	}
	if (a->n || (indent && indent->type != JT_NONE && (indent->type != JT_INT || indent->i < 0 || indent->i > 16)))
		return jj_fail(r, BL_UNSUPPORTED, "tojson with these arguments is not supported");
	json(r, &b, v, indent && indent->type == JT_INT ? indent->i : -1, 0);
	return taken(r, &b);
}

/* ---- filters ---- */

/* selectattr("name", "test", …), select("test", …) and their opposites */
static struct jj_value choose(struct jj_run *r, struct jj_list *l, const struct jj_args *a, bool by_attribute, bool keep)
{
	size_t skip = by_attribute ? 1 : 0, n = 0;
	const char *test = NULL;

	if ((by_attribute && !is_string(r, "selectattr", jj_arg(a, 0, NULL))) || a->n_named)
		return jj_fail(r, BL_UNSUPPORTED, "select with these arguments is not supported");
	if (a->n > skip) {
		if (!is_string(r, "select", &a->v[skip]) || !jj_known_test(a->v[skip].s))
			return jj_fail(r, BL_UNSUPPORTED, "the test \"%.60s\" is not supported", a->v[skip].type == JT_STRING ? a->v[skip].s : "");
		test = a->v[skip].s;
	}
	struct jj_args rest = {.v = a->n > skip + 1 ? a->v + skip + 1 : NULL, .n = a->n > skip + 1 ? a->n - skip - 1 : 0};
	struct jj_list *out = jj_list_new(r, l->n);
	for (size_t i = 0; i < out->n && !r->err->status; i++) {
		struct jj_value v = by_attribute ? jj_item(r, l->v[i], a->v[0]) : l->v[i];
		if (!r->err->status && (test ? jj_test(r, test, v, &rest) : jj_true(v)) == keep)
			out->v[n++] = l->v[i];
	}
	if (out->v)
		out->n = n;
	return (struct jj_value){.type = JT_LIST, .list = out};
}

static struct jj_value map(struct jj_run *r, struct jj_list *l, const struct jj_args *a)
{
	const struct jj_value *attribute = a->n ? NULL : jj_arg(a, 1, "attribute");
	struct jj_args rest = {.v = a->n > 1 ? a->v + 1 : NULL, .n = a->n > 1 ? a->n - 1 : 0};

	if (attribute ? attribute->type != JT_STRING || a->n_named > 1 || strchr(attribute->s, '.') : !a->n || a->n_named || a->v[0].type != JT_STRING ||
			!jj_known_filter(a->v[0].s))
		return jj_fail(r, BL_UNSUPPORTED, "map with these arguments is not supported");
	struct jj_list *out = jj_list_new(r, l->n);
	if (++r->calls > JJ_CALLS_MAX)
		return jj_fail(r, BL_INVALID, "too many filters in filters");
	for (size_t i = 0; i < out->n && !r->err->status; i++)
		out->v[i] = attribute ? jj_item(r, l->v[i], *attribute) : jj_filter(r, a->v[0].s, l->v[i], &rest);
	r->calls--;
	return (struct jj_value){.type = JT_LIST, .list = out};
}

static struct jj_value reverse(struct jj_run *r, struct jj_value v)
{
	return v.type == JT_STRING || v.type == JT_LIST ? jj_slice(r, v, JJ_NONE, JJ_NONE, JJ_INT(-1)) :
							  jj_fail(r, BL_UNSUPPORTED, "reverse of %s is not supported", jj_type_name(v));
}

static struct jj_value to_int(struct jj_run *r, struct jj_value v, const struct jj_args *a)
{
	char text[24], *end;

	if (a->n + a->n_named)
		return jj_fail(r, BL_UNSUPPORTED, "int with arguments is not supported");
	if (v.type == JT_INT || v.type == JT_BOOL)
		return JJ_INT(v.type == JT_BOOL ? v.b : v.i);
	if (v.type == JT_FLOAT && v.d > -1e15 && v.d < 1e15)
		return JJ_INT((int64_t)v.d);
	if (v.type != JT_STRING || v.n > 18)
		return jj_fail(r, BL_UNSUPPORTED, "int of %s is not supported", jj_type_name(v));
	memcpy(text, v.s, v.n);
	text[v.n] = '\0';
	long long i = strtoll(text, &end, 10);
	return JJ_INT(*end || !v.n ? 0 : i);
}

static struct jj_value default_of(struct jj_run *r, struct jj_value v, const struct jj_args *a)
{
	const struct jj_value *other = jj_arg(a, 0, "default_value"), *also_false = jj_arg(a, 1, "boolean");

	if (!at_most(r, "default", a, 2))
		return v;
	if (v.type != JT_UNDEFINED && !(also_false && jj_true(*also_false) && !jj_true(v)))
		return v;
	return other ? *other : JJ_STR("", 0);
}

static struct jj_value indent(struct jj_run *r, struct jj_value v, const struct jj_args *a)
{
	const struct jj_value *width = jj_arg(a, 0, "width"), *first = jj_arg(a, 1, "first"), *blank = jj_arg(a, 2, "blank");
	int64_t by = width && width->type == JT_INT ? width->i : 4;
	struct bl_str b = {0};

	if (!is_string(r, "indent", &v) || !at_most(r, "indent", a, 3))
		return v;
	if (by < 0 || by > 64 || (width && width->type != JT_INT))
		return jj_fail(r, BL_UNSUPPORTED, "indent by this is not supported");
	for (size_t at = 0, line = 0; at < v.n || !line; line++) {
		const char *end = memchr(v.s + at, '\n', v.n - at);
		size_t n = end ? (size_t)(end - v.s) - at : v.n - at;
		if (!jj_spend(r, n + (size_t)by))
			break;
		if (line ? n || (blank && jj_true(*blank)) : first && jj_true(*first))
			bl_str_addf(&b, "%*s", (int)by, "");
		bl_str_addn(&b, v.s + at, n);
		if (!end)
			break;
		bl_str_addc(&b, '\n');
		at += n + 1;
		if (at == v.n && blank && jj_true(*blank))
			bl_str_addf(&b, "%*s", (int)by, "");
	}
	return taken(r, &b);
}

static struct jj_value list_filter(struct jj_run *r, const char *name, struct jj_value v, const struct jj_args *a)
{
	bool chooses = strstr(name, "select") || strstr(name, "reject") || !strcmp(name, "map");
	struct jj_list *l = chooses && !jj_true(v) ? jj_list_new(r, 0) : jj_iterate(r, v); /* these take anything false for nothing */

	if (r->err->status)
		return v;
	if (!strcmp(name, "first") || !strcmp(name, "last"))
		return l->n ? l->v[*name == 'f' ? 0 : l->n - 1] : JJ_UNDEFINED("an item of an empty list");
	if (!strcmp(name, "join")) {
		if (jj_arg(a, 1, "attribute"))
			return jj_fail(r, BL_UNSUPPORTED, "join with an attribute is not supported");
		return join(r, l, jj_arg(a, 0, "d"));
	}
	if (!strcmp(name, "list"))
		return (struct jj_value){.type = JT_LIST, .list = l};
	if (!strcmp(name, "map"))
		return map(r, l, a);
	return choose(r, l, a, strstr(name, "attr") != NULL, *name == 's');
}

struct jj_value jj_filter(struct jj_run *r, const char *name, struct jj_value v, const struct jj_args *a)
{
	if (!strcmp(name, "default") || !strcmp(name, "d"))
		return default_of(r, v, a);
	if (!strcmp(name, "tojson"))
		return to_json(r, v, a);
	if (!strcmp(name, "trim")) {
		v = jj_to_string(r, v);
		return at_most(r, name, a, 1) ? strip(r, v, jj_arg(a, 0, "chars"), true, true) : v;
	}
	if (!strcmp(name, "length") || !strcmp(name, "count")) {
		if (v.type == JT_STRING)
			return JJ_INT(jj_spend(r, v.n) ? (int64_t)jj_chars(v) : 0);
		return JJ_INT((int64_t)jj_iterate(r, v)->n);
	}
	if (!strcmp(name, "upper") || !strcmp(name, "lower") || !strcmp(name, "capitalize"))
		return change_case(r, jj_to_string(r, v), *name == 'u', *name == 'c');
	if (!strcmp(name, "string") || !strcmp(name, "safe"))
		return jj_to_string(r, v);
	if (!strcmp(name, "replace"))
		return at_most(r, name, a, 2) ? replace(r, jj_to_string(r, v), jj_arg(a, 0, NULL), jj_arg(a, 1, NULL)) : v;
	if (!strcmp(name, "int"))
		return to_int(r, v, a);
	if (!strcmp(name, "indent"))
		return indent(r, v, a);
	if (!strcmp(name, "reverse"))
		return reverse(r, v);
	if (!strcmp(name, "items")) {
		if (v.type == JT_UNDEFINED)
			return (struct jj_value){.type = JT_LIST, .list = jj_list_new(r, 0)};
		return v.type == JT_DICT ? pairs(r, v.dict, 'i') : jj_fail(r, BL_INVALID, "items works on mappings, not on %s", jj_type_name(v));
	}
	return list_filter(r, name, v, a);
}

/* ---- tests ---- */

static bool compared(struct jj_run *r, const char *name, struct jj_value v, const struct jj_value *o)
{
	if (!o) {
		jj_fail(r, BL_INVALID, "the test %s needs a value", name);
		return false;
	}
	if (!strcmp(name, "eq") || !strcmp(name, "equalto"))
		return jj_equal(r, v, *o);
	if (!strcmp(name, "ne"))
		return !jj_equal(r, v, *o);
	if (!strcmp(name, "in"))
		return jj_true(jj_in(r, v, *o));
	if (!strcmp(name, "sameas"))
		return v.type == o->type && (v.type == JT_BOOL || v.type == JT_NONE) && jj_equal(r, v, *o);
	int c = jj_compare(r, v, *o);
	return *name == 'l' ? c < 0 || (name[1] == 'e' && !c) : c > 0 || (name[1] == 'e' && !c);
}

bool jj_test(struct jj_run *r, const char *name, struct jj_value v, const struct jj_args *a)
{
	const struct jj_value *o = jj_arg(a, 0, NULL);
	bool container = v.type == JT_STRING || v.type == JT_LIST || v.type == JT_DICT;

	if (!strcmp(name, "defined") || !strcmp(name, "undefined"))
		return (v.type == JT_UNDEFINED) == (*name == 'u');
	if (!strcmp(name, "none"))
		return v.type == JT_NONE;
	if (!strcmp(name, "string"))
		return v.type == JT_STRING;
	if (!strcmp(name, "mapping"))
		return v.type == JT_DICT;
	if (!strcmp(name, "iterable"))
		return container || v.type == JT_UNDEFINED || v.type == JT_LOOP;
	if (!strcmp(name, "sequence"))
		return container || v.type == JT_UNDEFINED;
	if (!strcmp(name, "number"))
		return v.type == JT_INT || v.type == JT_FLOAT || v.type == JT_BOOL;
	if (!strcmp(name, "integer") || !strcmp(name, "float") || !strcmp(name, "boolean"))
		return v.type == (*name == 'i' ? JT_INT : *name == 'f' ? JT_FLOAT : JT_BOOL);
	if (!strcmp(name, "true") || !strcmp(name, "false"))
		return v.type == JT_BOOL && v.b == (*name == 't');
	if (!strcmp(name, "odd") || !strcmp(name, "even") || !strcmp(name, "divisibleby")) {
		struct jj_value by = *name == 'd' && o ? *o : JJ_INT(2);
		struct jj_value rest = v.type == JT_FLOAT || by.type == JT_FLOAT ? jj_fail(r, BL_UNSUPPORTED, "this test on floats is not supported") :
				jj_binary(r, '%', v, by);
		return !r->err->status && (rest.i != 0) == (*name == 'o');
	}
	return compared(r, name, v, o);
}

/* ---- functions ---- */

static struct jj_value range(struct jj_run *r, const struct jj_args *a)
{
	int64_t from = 0, to, by = 1, n = 0;

	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].type != JT_INT || a->v[i].i > JJ_OUTPUT_MAX || a->v[i].i < -JJ_OUTPUT_MAX)
			return jj_fail(r, BL_INVALID, "range takes integers of a sensible size");
	if (!a->n || a->n > 3 || a->n_named)
		return jj_fail(r, BL_INVALID, "range takes one to three integers");
	to = a->v[a->n > 1].i;
	from = a->n > 1 ? a->v[0].i : 0;
	by = a->n > 2 ? a->v[2].i : 1;
	if (!by)
		return jj_fail(r, BL_INVALID, "range with a step of 0");
	for (int64_t i = from; n <= 100000 && (by > 0 ? i < to : i > to); i += by)
		n++;
	if (n > 100000)
		return jj_fail(r, BL_INVALID, "range over more than 100000 numbers");
	struct jj_list *l = jj_list_new(r, (size_t)n);
	for (size_t i = 0; i < l->n; i++, from += by)
		l->v[i] = JJ_INT(from);
	return (struct jj_value){.type = JT_LIST, .list = l};
}

struct jj_value jj_function(struct jj_run *r, const char *name, const struct jj_args *a)
{
	if (!strcmp(name, "range"))
		return range(r, a);
	if (!strcmp(name, "raise_exception"))
		return jj_fail(r, BL_INVALID, "the template refuses this conversation: %.200s",
			       a->n && a->v[0].type == JT_STRING ? jj_string(r, a->v[0].s, a->v[0].n).s : "");
	if (!strcmp(name, "strftime_now"))
		return jj_fail(r, BL_UNSUPPORTED, "strftime_now puts today's date into the text, so that the same data would not give the same tokens tomorrow: "
			       "write a fixed date into the template");
	struct jj_value v = {.type = *name == 'n' ? JT_NAMESPACE : JT_DICT, .dict = jj_dict_new(r)};
	if (a->n > 1 || (a->n && a->v[0].type != JT_DICT) || !v.dict)
		return jj_fail(r, BL_UNSUPPORTED, "%s with these arguments is not supported", name);
	for (size_t i = 0; a->n && i < a->v[0].dict->n; i++)
		jj_dict_set(r, v.dict, a->v[0].dict->p[i].key, a->v[0].dict->p[i].value);
	for (size_t i = 0; i < a->n_named; i++)
		jj_dict_set(r, v.dict, a->named[i].key, a->named[i].value);
	return v;
}
