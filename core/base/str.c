/* SPDX-License-Identifier: Apache-2.0
 * Growable byte strings, and the one place that turns bytes of unknown origin into text safe for a terminal. */
#include "core/base/str.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

static void reserve(struct bl_str *b, size_t more)
{
	if (more >= SIZE_MAX - b->len - 1)
		bl_fatal(6, "bitlathe: not enough memory for a text");
	bl_xgrow(&b->s, &b->cap, b->len + more + 1);
}

void bl_str_addn(struct bl_str *b, const void *s, size_t n)
{
	reserve(b, n);
	if (n)
		memcpy(b->s + b->len, s, n);
	b->len += n;
	b->s[b->len] = '\0';
}

void bl_str_add(struct bl_str *b, const char *s)
{
	bl_str_addn(b, s, strlen(s));
}

void bl_str_addc(struct bl_str *b, char c)
{
	bl_str_addn(b, &c, 1);
}

void bl_str_vaddf(struct bl_str *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	reserve(b, 64);
	n = vsnprintf(b->s + b->len, b->cap - b->len, fmt, ap);
	if (n >= 0 && (size_t)n >= b->cap - b->len) {
		reserve(b, (size_t)n);
		n = vsnprintf(b->s + b->len, b->cap - b->len, fmt, again);
	}
	va_end(again);
	if (n > 0)
		b->len += (size_t)n;
	b->s[b->len] = '\0';
}

void bl_str_addf(struct bl_str *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	bl_str_vaddf(b, fmt, ap);
	va_end(ap);
}

const char *bl_str_c(struct bl_str *b)
{
	if (!b->s)
		reserve(b, 0);
	b->s[b->len] = '\0';
	return b->s;
}

char *bl_str_take(struct bl_str *b)
{
	char *s;

	bl_str_c(b);
	s = b->s;
	*b = (struct bl_str){0};
	return s;
}

void bl_str_clear(struct bl_str *b)
{
	b->len = 0;
	if (b->s)
		b->s[0] = '\0';
}

void bl_str_free(struct bl_str *b)
{
	bl_free(b->s);
	*b = (struct bl_str){0};
}

/* Length of the well-formed UTF-8 sequence at s (1..4) and its code point; 0 when it is not one. */
static size_t utf8_next(const unsigned char *s, size_t n, uint32_t *cp)
{
	static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len, i;
	uint32_t c = s[0];

	if (c < 0x80) {
		*cp = c;
		return 1;
	}
	len = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
	if (!len || len > n)
		return 0;
	c &= 0x7fu >> len;
	for (i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*cp = c;
	return len;
}

bool bl_utf8_valid(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	uint32_t cp;

	while (n) {
		size_t len = utf8_next(p, n, &cp);

		if (!len)
			return false;
		p += len;
		n -= len;
	}
	return true;
}

/* What moves the cursor, starts an escape sequence, or reorders the text around it. */
static bool is_unprintable(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

char *bl_printable(char *dst, size_t cap, const char *src)
{
	const unsigned char *p = (const unsigned char *)src;
	size_t n = strlen(src), used = 0, i;
	uint32_t cp = 0;

	if (!cap)
		return dst;
	while (n) {
		size_t len = utf8_next(p, n, &cp);
		bool plain = len && !is_unprintable(cp);

		if (!len)
			len = 1;
		if (used + (plain ? len : 4 * len) >= cap)
			break; /* never half a character or half an escape */
		for (i = 0; i < len; i++) {
			if (plain)
				dst[used++] = (char)p[i];
			else
				used += (size_t)snprintf(dst + used, cap - used, "\\x%02x", p[i]);
		}
		p += len;
		n -= len;
	}
	dst[used] = '\0';
	return dst;
}

void bl_str_add_json(struct bl_str *b, const char *s)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n = strlen(s);
	uint32_t cp = 0;

	bl_str_addc(b, '"');
	while (n) {
		size_t len = utf8_next(p, n, &cp);

		if (!len) { /* JSON is UTF-8: a broken byte becomes the replacement character */
			bl_str_add(b, "\xef\xbf\xbd");
			len = 1;
		} else if (cp == '"' || cp == '\\') {
			bl_str_addc(b, '\\');
			bl_str_addc(b, (char)cp);
		} else if (cp < 0x20 || cp == 0x7f) {
			static const char short_form[] = "\bb\ff\nn\rr\tt";
			const char *f = short_form;

			while (*f && (uint32_t)*f != cp)
				f += 2;
			if (*f)
				bl_str_addf(b, "\\%c", f[1]);
			else
				bl_str_addf(b, "\\u%04x", (unsigned)cp);
		} else {
			bl_str_addn(b, p, len);
		}
		p += len;
		n -= len;
	}
	bl_str_addc(b, '"');
}

bool bl_starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool bl_ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

static int lower(unsigned char c)
{
	return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

bool bl_ieq(const char *a, const char *b)
{
	/* not strcasecmp: that one follows the locale (Turkish i) */
	for (; *a && lower((unsigned char)*a) == lower((unsigned char)*b); a++, b++)
		;
	return lower((unsigned char)*a) == lower((unsigned char)*b);
}

char *bl_human_bytes(char *dst, size_t cap, double bytes)
{
	static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
	double v = fabs(bytes);
	size_t u = 0;
	int digits;

	if (!isfinite(bytes)) {
		snprintf(dst, cap, "?");
		return dst;
	}
	while (v >= 999.5 && u + 1 < sizeof unit / sizeof *unit) {
		v /= 1000;
		u++;
	}
	digits = u == 0 ? 0 : v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
	snprintf(dst, cap, "%s%.*f %s", bytes < 0 && v > 0 ? "-" : "", digits, v, unit[u]);
	return dst;
}

bool bl_parse_bytes(const char *text, double *out)
{
	static const char letters[] = "kmgt";
	char *end;
	double v = strtod(text, &end), scale = 1;
	const char *letter;

	if (end == text || !isfinite(v) || v < 0)
		return false;
	while (*end == ' ')
		end++;
	if (*end && (letter = strchr(letters, lower((unsigned char)*end))) != NULL) {
		const bool thousands = lower((unsigned char)end[1]) == 'b';
		for (const char *at = letters; at <= letter; at++)
			scale *= thousands ? 1000 : 1024;
		end += end[1] == 'i' ? 2 : 1;
	}
	if (lower((unsigned char)*end) == 'b')
		end++;
	if (*end || v * scale > 1e18)
		return false;
	*out = v * scale;
	return true;
}

char *bl_human_secs(char *dst, size_t cap, double secs)
{
	uint64_t s;

	if (!isfinite(secs) || secs < 0 || secs > 3.6e9) {
		snprintf(dst, cap, "?");
		return dst;
	}
	s = (uint64_t)(secs + 0.5);
	if (s >= 3600)
		snprintf(dst, cap, "%u:%02u:%02u", (unsigned)(s / 3600), (unsigned)(s / 60 % 60), (unsigned)(s % 60));
	else
		snprintf(dst, cap, "%u:%02u", (unsigned)(s / 60), (unsigned)(s % 60));
	return dst;
}
