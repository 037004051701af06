/* SPDX-License-Identifier: Apache-2.0
 * Values of templates, with Python's rules: strings are counted in characters, True is 1, what is missing is undefined and complains when used. */
#include "core/text/jinja.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text/private.h"

struct jj_value jj_fail(struct jj_run *r, enum bl_status s, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	bl_fail(r->err, s, "line %d: %s", r->line, text);
	return JJ_UNDEFINED("");
}

bool jj_spend(struct jj_run *r, size_t bytes)
{
	r->steps += 1 + bytes / 32;
	if (r->steps > JJ_STEPS_MAX)
		jj_fail(r, BL_INVALID, "the template takes more than %d steps", JJ_STEPS_MAX);
	return !r->err->status;
}

static void *get(struct jj_run *r, size_t n, size_t size)
{
	void *p = r->err->status ? NULL : jj_alloc(&r->arena, n ? n : 1, size);

	if (!p && !r->err->status)
		jj_fail(r, BL_INVALID, "the template needs more than %d MiB", JJ_MEMORY_MAX >> 20);
	return p;
}

struct jj_value jj_string(struct jj_run *r, const char *s, size_t n)
{
	char *copy = jj_spend(r, n) ? get(r, n + 1, 1) : NULL;

	if (!copy)
		return JJ_STR("", 0);
	memcpy(copy, s, n);
	return JJ_STR(copy, n);
}

struct jj_list *jj_list_new(struct jj_run *r, size_t n)
{
	static struct jj_list none;
	struct jj_list *l = jj_spend(r, n) ? get(r, 1, sizeof *l) : NULL;

	if (!l || !(l->v = get(r, n, sizeof *l->v)))
		return &none;
	l->n = n;
	return l;
}

struct jj_dict *jj_dict_new(struct jj_run *r) { return get(r, 1, sizeof(struct jj_dict)); }

const struct jj_value *jj_dict_get(const struct jj_dict *d, const char *key, size_t n)
{
	for (size_t i = 0; d && i < d->n; i++)
		if (d->p[i].key.type == JT_STRING && d->p[i].key.n == n && !memcmp(d->p[i].key.s, key, n))
			return &d->p[i].value;
	return NULL;
}

void jj_dict_set(struct jj_run *r, struct jj_dict *d, struct jj_value key, struct jj_value value)
{
	if (!d || r->err->status || !jj_spend(r, d->n * 8))
		return;
	if (key.type != JT_STRING) {
		jj_fail(r, BL_UNSUPPORTED, "a key that is %s is not supported", jj_type_name(key));
		return;
	}
	struct jj_value *old = (struct jj_value *)jj_dict_get(d, key.s, key.n);
	if (old) {
		*old = value;
		return;
	}
	if (d->n == d->cap) {
		struct jj_pair *p = get(r, d->cap ? 2 * d->cap : 4, sizeof *p);
		if (!p)
			return;
		if (d->n)
			memcpy(p, d->p, d->n * sizeof *p);
		d->cap = d->cap ? 2 * d->cap : 4;
		d->p = p;
	}
	d->p[d->n++] = (struct jj_pair){key, value};
}

void jj_frame_set(struct jj_run *r, struct jj_frame *f, const char *name, struct jj_value v)
{
	for (size_t i = 0; i < f->n; i++)
		if (!strcmp(f->vars[i].name, name)) {
			f->vars[i].value = v;
			return;
		}
	if (f->n == f->cap) {
		struct jj_var *vars = get(r, f->cap ? 2 * f->cap : 8, sizeof *vars);
		if (!vars)
			return;
		if (f->n)
			memcpy(vars, f->vars, f->n * sizeof *vars);
		f->cap = f->cap ? 2 * f->cap : 8;
		f->vars = vars;
	}
	f->vars[f->n++] = (struct jj_var){name, v};
}

const char *jj_type_name(struct jj_value v)
{
	static const char *const names[] = {"undefined", "none", "a boolean", "an integer", "a float", "a string", "a list", "a mapping", "a namespace",
			"a macro",
					    "a function", "the loop"};
	return names[v.type];
}

bool jj_true(struct jj_value v)
{
	switch (v.type) {
	case JT_UNDEFINED: case JT_NONE: return false;
	case JT_BOOL: return v.b;
	case JT_INT: return v.i != 0;
	case JT_FLOAT: return v.d != 0;
	case JT_STRING: return v.n != 0;
	case JT_LIST: return v.list->n != 0;
	case JT_DICT: return v.dict && v.dict->n != 0;
	default: return true;
	}
}

static bool is_number(struct jj_value v) { return v.type == JT_BOOL || v.type == JT_INT || v.type == JT_FLOAT; }
static double number(struct jj_value v) { return v.type == JT_BOOL ? v.b : v.type == JT_INT ? (double)v.i : v.d; }
static int64_t integer(struct jj_value v) { return v.type == JT_BOOL ? v.b : v.i; }

bool jj_equal(struct jj_run *r, struct jj_value a, struct jj_value b)
{
	bool same = true;

	if (is_number(a) && is_number(b))
		return a.type == JT_FLOAT || b.type == JT_FLOAT ? number(a) == number(b) : integer(a) == integer(b);
	if (a.type != b.type || ++r->depth > 2 * JJ_DEPTH_MAX)
		return false;
	switch (a.type) {
	case JT_UNDEFINED: case JT_NONE: break;
	case JT_STRING:
		same = a.n == b.n && jj_spend(r, a.n) && !memcmp(a.s, b.s, a.n);
		break;
	case JT_LIST:
		same = a.list->n == b.list->n;
		for (size_t i = 0; same && i < a.list->n && jj_spend(r, 0); i++)
			same = jj_equal(r, a.list->v[i], b.list->v[i]);
		break;
	case JT_DICT:
		same = a.dict->n == b.dict->n;
		for (size_t i = 0; same && i < a.dict->n && jj_spend(r, a.dict->n * 8); i++) {
			const struct jj_value *other = jj_dict_get(b.dict, a.dict->p[i].key.s, a.dict->p[i].key.n);
			same = other && jj_equal(r, a.dict->p[i].value, *other);
		}
		break;
	default:
		same = a.dict == b.dict;
	}
	r->depth--;
	return same;
}

int jj_compare(struct jj_run *r, struct jj_value a, struct jj_value b)
{
	if (is_number(a) && is_number(b)) {
		if (a.type != JT_FLOAT && b.type != JT_FLOAT)
			return integer(a) < integer(b) ? -1 : integer(a) > integer(b);
		return number(a) < number(b) ? -1 : number(a) > number(b);
	}
	if (a.type == JT_STRING && b.type == JT_STRING && jj_spend(r, a.n)) {
		int c = memcmp(a.s, b.s, a.n < b.n ? a.n : b.n); /* the order of UTF-8 is the order of characters */
		return c ? c : a.n < b.n ? -1 : a.n > b.n;
	}
	if (a.type == JT_LIST && b.type == JT_LIST)
		jj_fail(r, BL_UNSUPPORTED, "the order of lists is not supported");
	jj_fail(r, BL_INVALID, "%s and %s have no order", jj_type_name(a), jj_type_name(b));
	return 0;
}

struct jj_value jj_in(struct jj_run *r, struct jj_value needle, struct jj_value hay)
{
	if (hay.type == JT_STRING) {
		if (needle.type != JT_STRING)
			return jj_fail(r, BL_INVALID, "%s cannot be in a string", jj_type_name(needle));
		return JJ_BOOL(jj_spend(r, hay.n) && (!needle.n || memmem(hay.s, hay.n, needle.s, needle.n)));
	}
	if (hay.type == JT_DICT && (needle.type == JT_LIST || needle.type == JT_DICT))
		return jj_fail(r, BL_INVALID, "%s cannot be a key", jj_type_name(needle));
	if (hay.type == JT_DICT)
		return JJ_BOOL(needle.type == JT_STRING && jj_spend(r, hay.dict->n * 8) && jj_dict_get(hay.dict, needle.s, needle.n));
	if (hay.type == JT_UNDEFINED)
		return JJ_BOOL(false);
	if (hay.type != JT_LIST)
		return jj_fail(r, BL_INVALID, "nothing can be in %s", jj_type_name(hay));
	for (size_t i = 0; i < hay.list->n && jj_spend(r, 0); i++)
		if (jj_equal(r, needle, hay.list->v[i]))
			return JJ_BOOL(true);
	return JJ_BOOL(false);
}

/* The shortest digits that mean this number, as Python writes it. */
static void print_float(struct bl_str *out, double d)
{
	char text[40];
	int digits = 1;

	do
		snprintf(text, sizeof text, "%.*g", digits, d);
	while (strtod(text, NULL) != d && ++digits <= 17);
	bl_str_add(out, text);
	if (!strpbrk(text, ".eni"))
		bl_str_add(out, ".0");
}

void jj_print(struct jj_run *r, struct bl_str *out, struct jj_value v)
{
	switch (v.type) {
	case JT_UNDEFINED: break;
	case JT_NONE: bl_str_add(out, "None"); break;
	case JT_BOOL: bl_str_add(out, v.b ? "True" : "False"); break;
	case JT_INT: bl_str_addf(out, "%lld", (long long)v.i); break;
	case JT_FLOAT:
		if (fabs(v.d) >= 1e15 || (v.d != 0 && fabs(v.d) < 1e-4))
			jj_fail(r, BL_UNSUPPORTED, "showing a number this large or small is not supported");
		else
			print_float(out, v.d);
		break;
	case JT_STRING:
		if (jj_spend(r, v.n))
			bl_str_addn(out, v.s, v.n);
		break;
	default: jj_fail(r, BL_UNSUPPORTED, "showing %s is not supported", jj_type_name(v));
	}
	if (out->len - r->out_start > (size_t)JJ_OUTPUT_MAX)
		jj_fail(r, BL_INVALID, "more than %d MiB come out of the template", JJ_OUTPUT_MAX >> 20);
}

struct jj_value jj_to_string(struct jj_run *r, struct jj_value v)
{
	struct bl_str b = {0};
	size_t start = r->out_start;

	if (v.type == JT_STRING)
		return v;
	r->out_start = 0;
	jj_print(r, &b, v);
	r->out_start = start;
	struct jj_value s = jj_string(r, bl_str_c(&b), b.len);
	bl_str_free(&b);
	return s;
}

/* ---- strings by characters ---- */

size_t jj_chars(struct jj_value s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((uint8_t)s.s[i] & 0xc0) != 0x80;
	return n;
}

static size_t char_bytes(struct jj_value s, size_t at)
{
	size_t end = at + 1;

	while (end < s.n && ((uint8_t)s.s[end] & 0xc0) == 0x80)
		end++;
	return end - at;
}

struct jj_list *jj_iterate(struct jj_run *r, struct jj_value v)
{
	struct jj_list *l;
	size_t at = 0;

	switch (v.type) {
	case JT_LIST:
		return v.list;
	case JT_DICT:
		l = jj_list_new(r, v.dict->n);
		for (size_t i = 0; i < l->n; i++)
			l->v[i] = v.dict->p[i].key;
		return l;
	case JT_STRING:
		l = jj_list_new(r, jj_spend(r, v.n) ? jj_chars(v) : 0);
		for (size_t i = 0; i < l->n; i++, at += l->v[i - 1].n)
			l->v[i] = JJ_STR(v.s + at, char_bytes(v, at));
		return l;
	default:
		if (v.type != JT_UNDEFINED)
			jj_fail(r, BL_INVALID, "%s cannot be gone through", jj_type_name(v));
		return jj_list_new(r, 0);
	}
}

/* ---- parts ---- */

static struct jj_value loop_attr(struct jj_run *r, const struct jj_loop *l, const char *name)
{
	int64_t at = (int64_t)l->at, n = (int64_t)l->items->n;

	if (!strcmp(name, "index"))
		return JJ_INT(at + 1);
	if (!strcmp(name, "index0"))
		return JJ_INT(at);
	if (!strcmp(name, "revindex"))
		return JJ_INT(n - at);
	if (!strcmp(name, "revindex0"))
		return JJ_INT(n - at - 1);
	if (!strcmp(name, "first"))
		return JJ_BOOL(at == 0);
	if (!strcmp(name, "last"))
		return JJ_BOOL(at + 1 == n);
	if (!strcmp(name, "length"))
		return JJ_INT(n);
	if (!strcmp(name, "previtem"))
		return at ? l->items->v[at - 1] : JJ_UNDEFINED("there is no previous item");
	if (!strcmp(name, "nextitem"))
		return at + 1 < n ? l->items->v[at + 1] : JJ_UNDEFINED("there is no next item");
	return jj_fail(r, BL_UNSUPPORTED, "loop.%s is not supported", name);
}

static struct jj_value missing(struct jj_run *r, struct jj_value v, const char *name)
{
	if (v.type == JT_UNDEFINED)
		return jj_fail(r, BL_INVALID, "\"%.60s\" of something undefined (%.60s)", name, v.name);
	return JJ_UNDEFINED(name);
}

/* What strings and lists have in Python: true where a template asks for it without a call. */
static bool is_python_method(const char *name)
{
	static const char all[] = " capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha isascii isdecimal isdigit "
				  "isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip maketrans partition removeprefix removesuffix "
				  "replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title translate upper zfill append clear "
				  "copy extend insert pop remove reverse sort ";
	size_t n = strlen(name);

	for (const char *at = all; (at = strstr(at, name)); at++)
		if (at > all && at[-1] == ' ' && at[n] == ' ')
			return true;
	return false;
}

struct jj_value jj_attr(struct jj_run *r, struct jj_value v, const char *name)
{
	static const char *const methods[] = {"items", "keys", "values", "get", "copy", "pop", "update", "clear", "setdefault", "popitem", "fromkeys"};
	const struct jj_value *found;

	if (v.type == JT_LOOP)
		return loop_attr(r, v.loop, name);
	for (size_t i = 0; v.type == JT_DICT && i < sizeof methods / sizeof methods[0]; i++)
		if (!strcmp(name, methods[i]))
			return jj_fail(r, BL_UNSUPPORTED, "the method %s without a call is not supported", name);
	if ((v.type == JT_STRING || v.type == JT_LIST) && is_python_method(name))
		return jj_fail(r, BL_UNSUPPORTED, "the method %s without a call is not supported", name);
	if ((v.type == JT_DICT || v.type == JT_NAMESPACE) && (found = jj_dict_get(v.dict, name, strlen(name))))
		return *found;
	return missing(r, v, name);
}

struct jj_value jj_item(struct jj_run *r, struct jj_value v, struct jj_value key)
{
	const struct jj_value *found;
	int64_t i = key.type == JT_BOOL ? key.b : key.i;

	if (v.type == JT_UNDEFINED)
		return missing(r, v, key.type == JT_STRING ? key.s : "an item");
	if ((v.type == JT_DICT || v.type == JT_NAMESPACE) && key.type == JT_STRING)
		return jj_spend(r, v.dict->n * 8) && (found = jj_dict_get(v.dict, key.s, key.n)) ? *found : JJ_UNDEFINED(key.s);
	if ((v.type == JT_LIST || v.type == JT_STRING) && (key.type == JT_INT || key.type == JT_BOOL)) {
		int64_t n = v.type == JT_LIST ? (int64_t)v.list->n : jj_spend(r, v.n) ? (int64_t)jj_chars(v) : 0;
		i = i < 0 ? i + n : i;
		if (i < 0 || i >= n)
			return JJ_UNDEFINED("an index out of range");
		if (v.type == JT_LIST)
			return v.list->v[i];
		size_t at = 0;
		while (i--)
			at += char_bytes(v, at);
		return JJ_STR(v.s + at, char_bytes(v, at));
	}
	return JJ_UNDEFINED("an item");
}

static bool bound(struct jj_run *r, struct jj_value v, int64_t fallback, int64_t n, bool back, int64_t *out)
{
	*out = fallback;
	if (v.type == JT_NONE)
		return true;
	if (v.type != JT_INT && v.type != JT_BOOL) {
		jj_fail(r, BL_INVALID, "a slice goes from integer to integer, not %s", jj_type_name(v));
		return false;
	}
	int64_t i = integer(v);
	i = i < 0 ? i + n : i;
	*out = i < 0 ? (back ? -1 : 0) : i >= n ? (back ? n - 1 : n) : i;
	return true;
}

struct jj_value jj_slice(struct jj_run *r, struct jj_value v, struct jj_value from, struct jj_value to, struct jj_value step)
{
	struct jj_list *items = v.type == JT_STRING || v.type == JT_LIST ? jj_iterate(r, v) : NULL, *out;
	int64_t by = step.type == JT_INT || step.type == JT_BOOL ? integer(step) : step.type == JT_NONE ? 1 : 0, n, a, b, count = 0;

	if (v.type == JT_UNDEFINED)
		return missing(r, v, "a slice");
	if (!items)
		return jj_fail(r, BL_INVALID, "%s cannot be sliced", jj_type_name(v));
	n = (int64_t)items->n;
	if (!by || by < -JJ_OUTPUT_MAX || by > JJ_OUTPUT_MAX)
		return jj_fail(r, BL_INVALID, "a slice needs a step that is an integer and not 0");
	if (!bound(r, from, by > 0 ? 0 : n - 1, n, by < 0, &a) || !bound(r, to, by > 0 ? n : -1, n, by < 0, &b))
		return JJ_UNDEFINED("");
	for (int64_t i = a; by > 0 ? i < b : i > b; i += by)
		count++;
	out = jj_list_new(r, (size_t)count);
	for (size_t i = 0; i < out->n; i++, a += by)
		out->v[i] = items->v[a];
	if (v.type == JT_LIST)
		return (struct jj_value){.type = JT_LIST, .list = out};
	struct bl_str s = {0};
	for (size_t i = 0; i < out->n; i++)
		bl_str_addn(&s, out->v[i].s, out->v[i].n);
	struct jj_value made = jj_string(r, bl_str_c(&s), s.len);
	bl_str_free(&s);
	return made;
}

/* ---- operators ---- */

static struct jj_value join(struct jj_run *r, struct jj_value a, struct jj_value b)
{
	char *s = jj_spend(r, a.n + b.n) ? get(r, a.n + b.n + 1, 1) : NULL;

	if (!s)
		return JJ_STR("", 0);
	memcpy(s, a.s, a.n);
	memcpy(s + a.n, b.s, b.n);
	return JJ_STR(s, a.n + b.n);
}

static struct jj_value on_integers(struct jj_run *r, char op, int64_t a, int64_t b)
{
	int64_t v = 0;
	bool over = false;

	if ((op == 'd' || op == '%') && !b)
		return jj_fail(r, BL_INVALID, "division by zero");
	if ((op == 'd' || op == '%') && b == -1)
		return op == '%' ? JJ_INT(0) : on_integers(r, '*', a, -1);
	switch (op) {
	case '+': over = __builtin_add_overflow(a, b, &v); break;
	case '-': over = __builtin_sub_overflow(a, b, &v); break;
	case '*': over = __builtin_mul_overflow(a, b, &v); break;
	case 'd': v = a / b - (a % b && (a % b < 0) != (b < 0)); break;
	default: v = a % b + (a % b && (a % b < 0) != (b < 0) ? b : 0);
	}
	return over ? jj_fail(r, BL_INVALID, "a number that is too large") : JJ_INT(v);
}

static struct jj_value repeat(struct jj_run *r, struct jj_value v, int64_t times)
{
	size_t n = v.type == JT_STRING ? v.n : v.list->n;

	if (times > 0 && n && times > JJ_OUTPUT_MAX / (int64_t)n)
		return jj_fail(r, BL_INVALID, "a value that is too long");
	n = times > 0 ? n * (size_t)times : 0;
	if (v.type == JT_LIST) {
		struct jj_list *l = jj_list_new(r, n);
		for (size_t i = 0; i < l->n; i++)
			l->v[i] = v.list->v[i % v.list->n];
		return (struct jj_value){.type = JT_LIST, .list = l};
	}
	char *p = jj_spend(r, n) ? get(r, n + 1, 1) : NULL;
	for (size_t i = 0; p && v.n && i < n; i += v.n)
		memcpy(p + i, v.s, v.n);
	return p ? JJ_STR(p, n) : JJ_STR("", 0);
}

struct jj_value jj_binary(struct jj_run *r, char op, struct jj_value a, struct jj_value b)
{
	if (op == '~') {
		a = jj_to_string(r, a);
		return join(r, a, jj_to_string(r, b));
	}
	if (op == '+' && a.type == JT_STRING && b.type == JT_STRING)
		return join(r, a, b);
	if (op == '+' && a.type == JT_LIST && b.type == JT_LIST) {
		struct jj_list *l = jj_list_new(r, a.list->n + b.list->n);
		for (size_t i = 0; i < l->n; i++)
			l->v[i] = i < a.list->n ? a.list->v[i] : b.list->v[i - a.list->n];
		return (struct jj_value){.type = JT_LIST, .list = l};
	}
	bool whole_a = a.type == JT_INT || a.type == JT_BOOL, whole_b = b.type == JT_INT || b.type == JT_BOOL;
	if (op == '*' && whole_a && (b.type == JT_STRING || b.type == JT_LIST))
		return repeat(r, b, integer(a));
	if (op == '*' && whole_b && (a.type == JT_STRING || a.type == JT_LIST))
		return repeat(r, a, integer(b));
	if (!is_number(a) || !is_number(b))
		return jj_fail(r, a.type == JT_UNDEFINED || b.type == JT_UNDEFINED || op == '+' ? BL_INVALID : BL_UNSUPPORTED,
			       "%s and %s do not go with \"%s\"%s%.60s", jj_type_name(a), jj_type_name(b), op == 'd' ? "//" : (char[]){op, 0},
			       a.type == JT_UNDEFINED || b.type == JT_UNDEFINED ? ": undefined is " : "",
			       a.type == JT_UNDEFINED ? a.name : b.type == JT_UNDEFINED ? b.name : "");
	if (op == '/')
		return number(b) == 0 ? jj_fail(r, BL_INVALID, "division by zero") : (struct jj_value){.type = JT_FLOAT, .d = number(a) / number(b)};
	if (a.type != JT_FLOAT && b.type != JT_FLOAT)
		return on_integers(r, op, integer(a), integer(b));
	if (op == '+' || op == '-' || op == '*') {
		double x = number(a), y = number(b);
		return (struct jj_value){.type = JT_FLOAT, .d = op == '+' ? x + y : op == '-' ? x - y : x * y};
	}
	return jj_fail(r, BL_UNSUPPORTED, "this operator on floats is not supported");
}
