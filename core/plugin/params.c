/* SPDX-License-Identifier: Apache-2.0
 * Parameter rows of plugins: text to values and back. Numbers are read and written with a decimal point whatever the user's locale is,
 * because the text goes into plans and recipes that travel. */
#include "core/plugin/registry.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"

#define VALUE_MAX 64

static const struct { const char *word; double value; } booleans[] = {
	{ "true", 1 }, { "false", 0 }, { "yes", 1 }, { "no", 0 }, { "on", 1 }, { "off", 0 }, { "1", 1 }, { "0", 0 },
};

/* The i-th of "a|b|c" as start and length; false beyond the last. */
static bool choice_at(const char *choices, int i, const char **start, size_t *n)
{
	const char *p = choices ? choices : "";

	for (; i > 0; i--) {
		p = strchr(p, '|');
		if (!p)
			return false;
		p++;
	}
	*start = p;
	*n = strcspn(p, "|");
	return *n > 0;
}

static double number_of(const char *text, bool *ok)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(c);
	char *end;
	double v = strtod(text, &end);

	uselocale(before);
	freelocale(c);
	*ok = end != text && *end == '\0' && isfinite(v) && !isspace((unsigned char)*text) && !strpbrk(text, "xXpP");
	return v;
}

static void number_text(char *dst, size_t cap, double v)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(c);

	for (int digits = 6; digits <= 17; digits++) {
		snprintf(dst, cap, "%.*g", digits, v);
		if (strtod(dst, NULL) == v)
			break;
	}
	uselocale(before);
	freelocale(c);
}

static enum bl_status parse_value(double *out, const struct bl_param *p, const char *text, const char *owner, struct bl_err *err)
{
	char lo[32], hi[32];
	double v = 0;
	bool ok = false;

	switch (p->type) {
	case BL_PARAM_INT:
	case BL_PARAM_REAL:
		v = number_of(text, &ok);
		if (ok && v >= p->min && v <= p->max && (p->type == BL_PARAM_REAL || v == floor(v)))
			break;
		number_text(lo, sizeof(lo), p->min);
		number_text(hi, sizeof(hi), p->max);
		return bl_fail(err, BL_USAGE, "%s: %s must be %s in %s .. %s, is \"%s\"", owner, p->name,
			       p->type == BL_PARAM_INT ? "an integer" : "a number", lo, hi, text);
	case BL_PARAM_BOOL:
		for (size_t i = 0; i < sizeof(booleans) / sizeof(*booleans) && !ok; i++) {
			ok = bl_ieq(text, booleans[i].word);
			v = booleans[i].value;
		}
		if (!ok)
			return bl_fail(err, BL_USAGE, "%s: %s must be true or false, is \"%s\"", owner, p->name, text);
		break;
	case BL_PARAM_CHOICE: {
		const char *word;
		size_t n;

		for (int i = 0; !ok && choice_at(p->choices, i, &word, &n); i++) {
			ok = strlen(text) == n && memcmp(text, word, n) == 0;
			v = i;
		}
		if (!ok)
			return bl_fail(err, BL_USAGE, "%s: %s must be one of %s, is \"%s\"", owner, p->name,
				       p->choices ? p->choices : "(nothing)", text);
		break;
	}
	default:
		return bl_fail(err, BL_INVALID, "%s: %s has a type that this program does not know", owner, p->name);
	}
	*out = v;
	return BL_OK;
}

static enum bl_status unknown_name(const struct bl_param *rows, int n, const char *name, const char *owner, struct bl_err *err)
{
	struct bl_str known = { 0 };

	for (int i = 0; i < n; i++) {
		bl_str_add(&known, i ? ", " : "");
		bl_str_add(&known, rows[i].name);
	}
	if (n)
		bl_fail(err, BL_USAGE, "%s has no parameter \"%s\"; it has %s", owner, name, bl_str_c(&known));
	else
		bl_fail(err, BL_USAGE, "%s has no parameter \"%s\"; it has none", owner, name);
	bl_str_free(&known);
	return BL_USAGE;
}

/* One "name=value" of n bytes. */
static enum bl_status parse_item(double *values, char *given, const struct bl_param *rows, int n, const char *item, size_t bytes,
				 const char *owner, struct bl_err *err)
{
	char text[2 * VALUE_MAX], *name = text, *value, *end;
	int i;

	while (bytes && isspace((unsigned char)*item)) {
		item++;
		bytes--;
	}
	while (bytes && isspace((unsigned char)item[bytes - 1]))
		bytes--;
	if (bytes >= sizeof(text))
		return bl_fail(err, BL_USAGE, "%s: a parameter longer than %d characters: \"%.40s ...\"", owner, 2 * VALUE_MAX - 1, item);
	memcpy(text, item, bytes);
	text[bytes] = '\0';
	value = strchr(text, '=');
	if (!value)
		return bl_fail(err, BL_USAGE, "%s: parameters are name=value, separated by commas; found \"%s\"", owner, text);
	for (end = value; end > name && isspace((unsigned char)end[-1]);)
		end--;
	*end = '\0';
	for (value++; isspace((unsigned char)*value);)
		value++;
	for (i = 0; i < n && strcmp(rows[i].name, name) != 0;)
		i++;
	if (i == n)
		return unknown_name(rows, n, name, owner, err);
	if (given[i])
		return bl_fail(err, BL_USAGE, "%s: %s is given twice", owner, name);
	given[i] = 1;
	return parse_value(&values[i], &rows[i], value, owner, err);
}

enum bl_status bl_params_parse(double **out, const struct bl_param *rows, int n, const char *text, const char *owner,
			       struct bl_err *err)
{
	double *values = bl_xalloc((size_t)n + 1, sizeof(*values));
	char *given = bl_xalloc((size_t)n + 1, 1);
	enum bl_status st = BL_OK;

	for (int i = 0; i < n && st == BL_OK; i++)
		st = parse_value(&values[i], &rows[i], rows[i].fallback ? rows[i].fallback : "", owner, err);
	while (st == BL_OK && text && *text) {
		size_t bytes = strcspn(text, ",");

		st = parse_item(values, given, rows, n, text, bytes, owner, err);
		text += bytes;
		if (*text == ',' && *++text == '\0' && st == BL_OK)
			st = bl_fail(err, BL_USAGE, "%s: the parameters end with a comma", owner);
	}
	bl_free(given);
	if (st != BL_OK) {
		bl_free(values);
		return st;
	}
	*out = values;
	return BL_OK;
}

char *bl_params_text(const struct bl_param *rows, int n, bl_param_values v)
{
	struct bl_str s = { 0 };
	struct bl_err ignored = BL_ERR_INIT;

	for (int i = 0; i < n; i++) {
		double fallback = NAN;
		char number[32];
		const char *word;
		size_t bytes;

		(void)parse_value(&fallback, &rows[i], rows[i].fallback ? rows[i].fallback : "", "", &ignored);
		if (fallback == v[i])
			continue;
		bl_str_addf(&s, "%s%s=", s.len ? "," : "", rows[i].name);
		if (rows[i].type == BL_PARAM_BOOL) {
			bl_str_add(&s, v[i] != 0 ? "true" : "false");
		} else if (rows[i].type == BL_PARAM_CHOICE && choice_at(rows[i].choices, (int)v[i], &word, &bytes)) {
			bl_str_addn(&s, word, bytes);
		} else {
			number_text(number, sizeof(number), v[i]);
			bl_str_add(&s, number);
		}
	}
	return s.len ? bl_str_take(&s) : bl_xstrdup("");
}
