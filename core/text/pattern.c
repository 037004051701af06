/* SPDX-License-Identifier: Apache-2.0
 * Split patterns are written for Oniguruma (Ruby syntax). Where PCRE2 reads the same text otherwise, it is rewritten: \s, \w and \d as Unicode has
 * them, scripts without their extensions, \uHHHH, {,n}. What has no equal (nested classes, \h, \b, back references …) is refused by name. */
#include <string.h>

#include "core/text/private.h"

const char bl_pattern_gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

#define SPACES     "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACES "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}" \
		   "\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORDS      "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}" /* its table of Latin-1 counts these in */

struct reader { const char *start, *p, *end; struct bl_str *out; struct bl_err *err; };

static enum bl_status refuse(const struct reader *r, const char *what)
{
	return bl_fail(r->err, BL_UNSUPPORTED, "at byte %td: %s is not supported in a split pattern", r->p - r->start, what);
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* r->p stands behind \p or \P. Names of one or two letters are general categories, others are scripts. */
static enum bl_status property(struct reader *r, bool negated)
{
	const char *name = r->p + 1, *close = r->p < r->end && *r->p == '{' ? memchr(r->p, '}', (size_t)(r->end - r->p)) : NULL;

	if (!close)
		return refuse(r, "\\p without braces");
	if (name < close && *name == '^') {
		negated = !negated;
		name++;
	}
	for (const char *c = name; c < close; c++)
		if (!((*c >= '0' && *c <= '9') || ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z') || *c == '_'))
			return refuse(r, "this property");
	bool category = close - name <= 2;
	bl_str_addf(r->out, "\\%c{%s%.*s}", negated ? 'P' : 'p', category || (close - name == 10 && !memcmp(name, "Alphabetic", 10)) ? "" : "sc:",
		    (int)(close - name), name);
	r->p = close + 1;
	return BL_OK;
}

/* \u0041, \x41, \x{1F600}: all become \x{…}. r->p stands behind the letter. */
static enum bl_status code_point(struct reader *r, char letter)
{
	const char *from = r->p;
	int n = 0;

	if (letter == 'x' && r->p < r->end && *r->p == '{') {
		from = ++r->p;
		while (r->p < r->end && is_hex(*r->p))
			r->p++;
		n = (int)(r->p - from);
		if (r->p == r->end || *r->p != '}' || n < 1 || n > 6)
			return refuse(r, "this \\x");
		r->p++;
	} else {
		int most = letter == 'u' ? 4 : 2;
		while (n < most && r->p < r->end && is_hex(*r->p)) {
			r->p++;
			n++;
		}
		if (n < most || (letter == 'x' && from[0] >= '8'))
			return refuse(r, "this character code");
	}
	bl_str_addf(r->out, "\\x{%.*s}", n, from);
	return BL_OK;
}

/* r->p stands on the backslash. *set: it stands for several characters. */
static enum bl_status escape(struct reader *r, bool in_class, bool *set)
{
	char c = r->p + 1 < r->end ? r->p[1] : '\0';

	*set = strchr("sSwWdDpP", c) && c;
	if (!c || (in_class && c == 'W'))
		return refuse(r, c ? "\\W in a class" : "a backslash at the end");
	r->p += 2;
	switch (c) {
	case 's': case 'S':
		if (in_class)
			bl_str_add(r->out, c == 's' ? SPACES : NOT_SPACES);
		else
			bl_str_addf(r->out, "[%s%s]", c == 's' ? "" : "^", SPACES);
		return BL_OK;
	case 'w': case 'W':
		bl_str_addf(r->out, in_class ? "%s" WORDS "%s" : "[%s" WORDS "%s", c == 'W' ? "^" : "", in_class ? "" : "]");
		return BL_OK;
	case 'd': case 'D':
		bl_str_addf(r->out, "\\%c{Nd}", c == 'd' ? 'p' : 'P');
		return BL_OK;
	case 'p': case 'P':
		return property(r, c == 'P');
	case 'n': case 'r': case 't': case 'f': case 'a': case 'e':
		bl_str_addf(r->out, "\\%c", c);
		return BL_OK;
	case 'v':
		bl_str_add(r->out, "\\x{b}");
		return BL_OK;
	case 'x': case 'u':
		return code_point(r, c);
	case 'A': case 'z':
		if (!in_class) {
			bl_str_addf(r->out, "\\%c", c);
			return BL_OK;
		}
		break;
	default:
		if ((uint8_t)c < 0x80 && !((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))) {
			bl_str_addf(r->out, "\\%c", c);
			return BL_OK;
		}
	}
	char text[40];
	r->p -= 2;
	bl_str_clear(r->out);
	bl_str_addf(r->out, (uint8_t)c < 0x80 ? "\\%c" : "this escape", c);
	bl_printable(text, sizeof text, r->out->s);
	return refuse(r, text);
}

static enum bl_status class(struct reader *r)
{
	bool set = false, was_set = false, dash = false;
	const char *first;

	bl_str_addc(r->out, *r->p++);
	if (r->p < r->end && *r->p == '^')
		bl_str_addc(r->out, *r->p++);
	for (first = r->p; r->p < r->end && (*r->p != ']' || r->p == first); was_set = set, set = false) {
		char c = *r->p;
		if (c == ']' || c == '[')
			return refuse(r, c == '[' ? "a class in a class" : "an empty class");
		if (c == '&' && r->p + 1 < r->end && r->p[1] == '&')
			return refuse(r, "&& in a class");
		if (c == '-' && was_set && r->p + 1 < r->end && r->p[1] != ']')
			return refuse(r, "a range that begins with a set");
		if (c == '\\') {
			if (escape(r, true, &set))
				return r->err->status;
			if (set && dash)
				return refuse(r, "a range that ends with a set");
			dash = false;
			continue;
		}
		dash = c == '-' && r->p != first;
		bl_str_addc(r->out, c);
		r->p++;
	}
	if (r->p == r->end)
		return refuse(r, "a class that is not closed");
	bl_str_addc(r->out, *r->p++);
	return BL_OK;
}

/* r->p stands on an opening parenthesis. */
static enum bl_status group(struct reader *r)
{
	static const char *const known[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};
	size_t left = (size_t)(r->end - r->p);

	if (r->p == r->start && left > 4 && !memcmp(r->p, "(?i)", 4)) {
		bl_str_add(r->out, "(?i)");
		r->p += 4;
		return BL_OK;
	}
	if (left > 1 && r->p[1] == '*')
		return refuse(r, "(*");
	if (left > 1 && r->p[1] == '?') {
		for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
			if (left >= strlen(known[i]) && !memcmp(r->p, known[i], strlen(known[i]))) {
				bl_str_add(r->out, known[i]);
				r->p += strlen(known[i]);
				return BL_OK;
			}
		return refuse(r, "this group");
	}
	bl_str_add(r->out, "(?:"); /* nothing refers back */
	r->p++;
	return BL_OK;
}

/* r->p stands on an opening brace. */
static enum bl_status interval(struct reader *r)
{
	const char *p = r->p + 1, *low = p, *high;
	int n_low, n_high = -1;

	while (p < r->end && *p >= '0' && *p <= '9')
		p++;
	n_low = (int)(p - low);
	high = p + 1;
	if (p < r->end && *p == ',') {
		for (p++; p < r->end && *p >= '0' && *p <= '9'; p++)
			;
		n_high = (int)(p - high);
	}
	if (p == r->end || *p != '}' || (!n_low && n_high <= 0)) { /* not an interval: a brace */
		bl_str_add(r->out, "\\{");
		r->p++;
		return BL_OK;
	}
	p++;
	if (n_low > 5 || n_high > 5)
		return refuse(r, "so long an interval");
	if (p < r->end && (*p == '+' || (*p == '?' && n_high < 0)))
		return refuse(r, "what follows this interval");
	bl_str_addf(r->out, "{%.*s", n_low ? n_low : 1, n_low ? low : "0");
	if (n_high >= 0)
		bl_str_addf(r->out, ",%.*s", n_high, high);
	bl_str_addc(r->out, '}');
	r->p = p;
	return BL_OK;
}

enum bl_status bl_pattern_translate(struct bl_str *out, const char *pattern, size_t n, struct bl_err *err)
{
	struct reader r = {pattern, pattern, pattern + n, out, err};
	bool ignored;

	while (r.p < r.end && !err->status)
		switch (*r.p) {
		case '\\':
			escape(&r, false, &ignored);
			break;
		case '[':
			class(&r);
			break;
		case '(':
			group(&r);
			break;
		case '{':
			interval(&r);
			break;
		default:
			bl_str_addc(out, *r.p++);
		}
	return err->status;
}
