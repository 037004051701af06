/* SPDX-License-Identifier: Apache-2.0
 * One strict pass over JSON text before cJSON may build a tree from it. cJSON accepts more than JSON (control characters
 * in strings, odd numbers), recurses, and allocates as it goes; after this pass depth, number of values and therefore
 * memory are bounded, and what two parsers could read differently (NUL in strings, half surrogates, huge numbers) is gone. */
#include "core/base/json_scan.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/str.h"

#define DEPTH_MAX 64
#define EXACT_DIGITS 15 /* integers of so many digits are exact in a double */
#define NUMBER_MAX 60 /* cJSON copies a number into 63 bytes and cuts what is longer */

struct scan {
	const char *text, *at, *end;
	size_t values, max_values, reals;
	const char *file;
	struct bl_err *err;
};

static bool refuse(struct scan *s, const char *where, const char *what)
{
	size_t line = 1;
	const char *start = s->text, *nl;

	while ((nl = memchr(start, '\n', (size_t)(where - start)))) {
		line++;
		start = nl + 1;
	}
	bl_fail(s->err, BL_INVALID, "%s: line %zu, column %zu: %s", s->file, line, (size_t)(where - start) + 1, what);
	return false;
}

static void skip_space(struct scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
		s->at++;
}

static int hex4(struct scan *s)
{
	int v = 0;

	if (s->end - s->at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)s->at[i], l = c | 0x20;

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if (l >= 'a' && l <= 'f')
			v = v << 4 | (l - 'a' + 10);
		else
			return -1;
	}
	s->at += 4;
	return v;
}

static bool escape(struct scan *s)
{
	const char *start = s->at - 1;
	int v;

	if (s->at == s->end)
		return refuse(s, start, "the text ends inside a string");
	if (*s->at != 'u') {
		if (!strchr("\"\\/bfnrt", *s->at) || !*s->at)
			return refuse(s, start, "unknown escape in a string");
		s->at++;
		return true;
	}
	s->at++;
	v = hex4(s);
	if (v < 0)
		return refuse(s, start, "\\u must be followed by four hexadecimal digits");
	if (v == 0)
		return refuse(s, start, "a string holds a NUL character");
	if (v >= 0xdc00 && v <= 0xdfff)
		return refuse(s, start, "half of a surrogate pair in a string");
	if (v >= 0xd800 && v <= 0xdbff) {
		if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u')
			return refuse(s, start, "half of a surrogate pair in a string");
		s->at += 2;
		v = hex4(s);
		if (v < 0xdc00 || v > 0xdfff)
			return refuse(s, start, "half of a surrogate pair in a string");
	}
	return true;
}

/* at stands behind the opening quote */
static bool string(struct scan *s)
{
	const char *start = s->at - 1, *run = s->at;
	bool ascii = true;

	for (;;) {
		unsigned char c;

		if (s->at == s->end)
			return refuse(s, start, "a string is not closed");
		c = (unsigned char)*s->at++;
		if (c >= 0x80) {
			ascii = false;
		} else if (c == '"') {
			break;
		} else if (c < 0x20) {
			return refuse(s, s->at - 1, "control character in a string");
		} else if (c == '\\' && !escape(s)) {
			return false;
		}
	}
	if (!ascii && !bl_utf8_valid(run, (size_t)(s->at - run)))
		return refuse(s, start, "a string is not valid UTF-8");
	return true;
}

static size_t digits(struct scan *s)
{
	const char *start = s->at;

	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return (size_t)(s->at - start);
}

static bool number(struct scan *s)
{
	const char *start = s->at;
	bool exponent = false, point = false, ok;

	if (*s->at == '-')
		s->at++;
	if (s->at < s->end && *s->at == '0') {
		s->at++;
		ok = true;
	} else {
		ok = digits(s) > 0;
	}
	if (ok && s->at < s->end && *s->at == '.') {
		point = true;
		s->at++;
		ok = digits(s) > 0;
	}
	if (ok && s->at < s->end && (*s->at | 0x20) == 'e') {
		exponent = true;
		s->at++;
		if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
			s->at++;
		ok = digits(s) > 0;
	}
	if (!ok)
		return refuse(s, start, "this is not a number");
	if (s->at - start > NUMBER_MAX)
		return refuse(s, start, "a number is longer than 60 characters");
	if (exponent) {
		char copy[NUMBER_MAX + 1] = { 0 };

		memcpy(copy, start, (size_t)(s->at - start));
		if (!isfinite(strtod(copy, NULL)))
			return refuse(s, start, "a number is too large");
	}
	s->reals += exponent || point || s->at - start > EXACT_DIGITS;
	return true;
}

static bool word(struct scan *s, const char *w)
{
	size_t n = strlen(w);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, w, n))
		return refuse(s, s->at, "this is not JSON (only true, false and null stand without quotes)");
	s->at += n;
	return true;
}

static bool scalar(struct scan *s)
{
	switch (*s->at) {
	case '"':
		s->at++;
		return string(s);
	case 't':
		return word(s, "true");
	case 'f':
		return word(s, "false");
	case 'n':
		return word(s, "null");
	case '-': case '0': case '1': case '2': case '3': case '4':
	case '5': case '6': case '7': case '8': case '9':
		return number(s);
	default:
		return refuse(s, s->at, "this is not JSON (a value was expected)");
	}
}

/* "key" : with the space around it; at stands on what should be the quote */
static bool key(struct scan *s)
{
	if (s->at == s->end || *s->at != '"')
		return refuse(s, s->at, "a key in quotes was expected");
	s->at++;
	if (!string(s))
		return false;
	skip_space(s);
	if (s->at == s->end || *s->at != ':')
		return refuse(s, s->at, "':' was expected after a key");
	s->at++;
	skip_space(s);
	return true;
}

/* After a value: closes what ends here, then steps over a comma. Depth 0 afterwards: the document is complete. */
static bool after_value(struct scan *s, const char *stack, int *depth)
{
	while (*depth) {
		skip_space(s);
		if (s->at == s->end)
			return refuse(s, s->at, "the text ends inside an object or array");
		if (*s->at == ',') {
			s->at++;
			skip_space(s);
			return stack[*depth - 1] == '{' ? key(s) : true;
		}
		if (*s->at != (stack[*depth - 1] == '{' ? '}' : ']'))
			return refuse(s, s->at, "',' or the end of the object or array was expected");
		s->at++;
		--*depth;
	}
	return true;
}

enum bl_status bl_json_scan(const char *text, size_t n, size_t max_values, size_t *reals, const char *file, struct bl_err *err)
{
	struct scan s = { .text = text, .at = text, .end = text + n, .max_values = max_values, .file = file, .err = err };
	char stack[DEPTH_MAX];
	int depth = 0;

	skip_space(&s);
	if (s.at == s.end)
		return bl_fail(err, BL_INVALID, "%s: is empty; one JSON object was expected", file);
	if (*s.at != '{') {
		refuse(&s, s.at, "one JSON object was expected");
		return BL_INVALID;
	}
	do {
		if (s.at == s.end) {
			refuse(&s, s.at, "the text ends where a value was expected");
			return BL_INVALID;
		}
		if (++s.values > max_values)
			return bl_fail(err, BL_INVALID, "%s: holds more than %zu values", file, max_values);
		if (*s.at == '{' || *s.at == '[') {
			if (depth == DEPTH_MAX) {
				refuse(&s, s.at, "nested deeper than 64 levels");
				return BL_INVALID;
			}
			stack[depth++] = *s.at++;
			skip_space(&s);
			if (s.at == s.end || *s.at != (stack[depth - 1] == '{' ? '}' : ']')) {
				if (stack[depth - 1] == '{' && !key(&s))
					return BL_INVALID;
				continue; /* on to the first value inside */
			}
		} else if (!scalar(&s)) {
			return BL_INVALID;
		}
		if (!after_value(&s, stack, &depth))
			return BL_INVALID;
	} while (depth);
	skip_space(&s);
	if (s.at != s.end) {
		refuse(&s, s.at, "something follows the object");
		return BL_INVALID;
	}
	*reals = s.reals;
	return BL_OK;
}
