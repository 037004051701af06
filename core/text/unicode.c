/* SPDX-License-Identifier: Apache-2.0
 * Characters: decoding with replacement as Python does it, classes, normal forms. Most text is in its normal form already: characters that stand
 * for themselves whatever is beside them are copied, and only the runs around others go through utf8proc's tables. */
#include <string.h>

#include <utf8proc.h>

#include "core/base/mem.h"
#include "core/text/private.h"

int bl_utf8_next(const uint8_t *p, size_t n, uint32_t *cp)
{
	uint8_t c = p[0], low = 0x80, high = 0xbf;
	int need = c < 0x80 ? 0 : c >= 0xc2 && c <= 0xdf ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : -1;

	*cp = 0xfffd;
	if (need < 0)
		return -1;
	if (!need) {
		*cp = c;
		return 1;
	}
	/* no long forms, no surrogates, nothing above U+10FFFF: the second byte decides */
	low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : low;
	high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : high;
	uint32_t v = c & (0x3fu >> need);
	for (int i = 1; i <= need; i++) {
		if ((size_t)i >= n || p[i] < low || p[i] > high)
			return -i;
		v = v << 6 | (p[i] & 0x3fu);
		low = 0x80;
		high = 0xbf;
	}
	*cp = v;
	return need + 1;
}

void bl_utf8_add(struct bl_str *b, uint32_t cp)
{
	char out[4];

	if (cp < 0x80) {
		bl_str_addc(b, (char)cp);
		return;
	}
	int n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
	for (int i = n - 1; i > 0; i--, cp >>= 6)
		out[i] = (char)(0x80 | (cp & 0x3f));
	out[0] = (char)((0xf00u >> n & 0xff) | cp);
	bl_str_addn(b, out, (size_t)n);
}

void bl_utf8_repair(struct bl_str *out, const char *text, size_t n)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t from = 0, at = 0;

	while (at < n) {
		uint32_t cp;
		int len = bl_utf8_next(p + at, n - at, &cp);
		if (len > 0) {
			at += (size_t)len;
			continue;
		}
		bl_str_addn(out, text + from, at - from);
		bl_utf8_add(out, 0xfffd);
		from = at += (size_t)-len;
	}
	bl_str_addn(out, text + from, n - from);
}

bool bl_is_space(uint32_t c)
{
	return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
	       c == 0x202f || c == 0x205f || c == 0x3000;
}

bool bl_is_word(uint32_t c)
{
	if (c < 0x80)
		return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_PC:
		return true;
	default: /* joiners; letters in circles and squares are alphabetic symbols */
		return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
		       (c >= 0x1f170 && c <= 0x1f189);
	}
}

/* ---- normal forms ---- */

/* Characters that got a class or a decomposition after the tables that `tokenizers` carries: for it they are inert. */
static const struct { uint32_t first, last; } newer[] = {
	{0x7fd, 0x7fd}, {0x898, 0x89f}, {0x8ca, 0x8d3}, {0x9fe, 0x9fe}, {0xc3c, 0xc3c}, {0xd3b, 0xd3c}, {0xeba, 0xeba}, {0x1715, 0x1715},
	{0x1abf, 0x1ace}, {0x1df6, 0x1dfa}, {0x32ff, 0x32ff}, {0xa7f2, 0xa7f4}, {0xa82c, 0xa82c}, {0xab69, 0xab69}, {0x10781, 0x10785},
	{0x10787, 0x107b0}, {0x107b2, 0x107ba}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
	{0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11938, 0x11938},
	{0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99},
	{0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e030, 0x1e06d},
	{0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}, {0x1f16c, 0x1f16c},
	{0x1fbf0, 0x1fbf9},
};

static bool is_newer(uint32_t c)
{
	size_t low = 0, high = sizeof newer / sizeof newer[0];

	while (low < high) {
		size_t mid = (low + high) / 2;
		if (c > newer[mid].last)
			low = mid + 1;
		else
			high = mid;
	}
	return low < sizeof newer / sizeof newer[0] && c >= newer[low].first;
}

static int class_of(int32_t c)
{
	return is_newer((uint32_t)c) ? 0 : utf8proc_get_property(c)->combining_class & 0xff;
}

/* Whole ranges without marks, compositions' second halves or other spellings: most of all text. */
static bool is_inert(uint32_t c)
{
	return c < 0x300 || (c >= 0xac00 && c <= 0xd7a3) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3041 && c <= 0x3096) ||
	       (c >= 0x30a1 && c <= 0x30fa) || (c >= 0x400 && c <= 0x482) || (c >= 0x48a && c <= 0x52f) || (c >= 0x2010 && c <= 0x205e) ||
	       (c >= 0x2190 && c <= 0x2328) || (c >= 0x2500 && c <= 0x2aff && c != 0x2adc) || (c >= 0x3001 && c <= 0x3020) || (c >= 0xff01 && c <= 0xffee) ||
	       (c >= 0x1f300 && c <= 0x1faff) || c == 0xfffd;
}

bool bl_normal_quick(enum bl_form form, uint32_t c)
{
	if (c < 0x80)
		return true;
	if (form == BL_NFC && is_inert(c))
		return true;
	return c == 0x11a7 || is_newer(c); /* U+11A7 stands before the final jamos and would be taken for one */
}

struct chars { int32_t *c; size_t n, cap; };

/* Marks in canonical order: stable, by class. Long runs are counted, so that a hostile text costs no more than its length. */
static void order(int32_t *c, size_t n)
{
	size_t count[257] = {0};

	if (n <= 16) {
		for (size_t i = 1; i < n; i++) {
			int32_t v = c[i];
			size_t j = i;
			for (; j && class_of(c[j - 1]) > class_of(v); j--)
				c[j] = c[j - 1];
			c[j] = v;
		}
		return;
	}
	int32_t *copy = bl_xalloc(n, sizeof *copy);
	memcpy(copy, c, n * sizeof *copy);
	for (size_t i = 0; i < n; i++)
		count[class_of(c[i]) + 1]++;
	for (int i = 1; i < 257; i++)
		count[i] += count[i - 1];
	for (size_t i = 0; i < n; i++)
		c[count[class_of(copy[i])]++] = copy[i];
	bl_free(copy);
}

static void normalize_run(enum bl_form form, struct chars *v, struct bl_str *out, const uint8_t *p, size_t n)
{
	utf8proc_option_t options = UTF8PROC_STABLE | (form == BL_NFKC || form == BL_NFKD ? UTF8PROC_COMPAT : 0) | UTF8PROC_DECOMPOSE;
	int boundary = 0;

	v->n = 0;
	for (size_t at = 0; at < n;) {
		uint32_t cp;
		at += (size_t)bl_utf8_next(p + at, n - at, &cp);
		bl_xgrow(&v->c, &v->cap, v->n + 32);
		utf8proc_ssize_t got = is_newer(cp) ? -1 : utf8proc_decompose_char((utf8proc_int32_t)cp, v->c + v->n, (utf8proc_ssize_t)(v->cap - v->n),
				options, &boundary);
		if (got < 0 || (size_t)got > v->cap - v->n) { /* it stands for itself */
			v->c[v->n] = (int32_t)cp;
			got = 1;
		}
		v->n += (size_t)got;
	}
	for (size_t i = 0; i < v->n;) {
		size_t end = i;
		while (end < v->n && class_of(v->c[end]))
			end++;
		order(v->c + i, end - i);
		i = end > i ? end : i + 1;
	}
	if (form == BL_NFC || form == BL_NFKC) {
		utf8proc_ssize_t left = utf8proc_normalize_utf32(v->c, (utf8proc_ssize_t)v->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
		v->n = left >= 0 ? (size_t)left : v->n;
	}
	for (size_t i = 0; i < v->n; i++)
		bl_utf8_add(out, (uint32_t)v->c[i]);
}

bool bl_normalize(enum bl_form form, struct bl_str *out, const char *text, size_t n)
{
	const uint8_t *p = (const uint8_t *)text;
	struct chars v = {0};
	size_t done = 0, last = 0, at = 0; /* copied so far; where the character before `at` begins */
	uint32_t cp;

	while (at < n) {
		if (p[at] < 0x80) {
			last = at++;
			continue;
		}
		int len = bl_utf8_next(p + at, n - at, &cp);
		if (bl_normal_quick(form, cp)) {
			last = at;
			at += (size_t)len;
			continue;
		}
		size_t end = at;
		while (end < n) {
			len = bl_utf8_next(p + end, n - end, &cp);
			if (bl_normal_quick(form, cp))
				break;
			end += (size_t)len;
		}
		bl_str_addn(out, text + done, last - done);
		normalize_run(form, &v, out, p + last, end - last);
		done = last = at = end;
	}
	if (done)
		bl_str_addn(out, text + done, n - done);
	bl_free(v.c);
	return done != 0;
}
