/* SPDX-License-Identifier: Apache-2.0
 * Template text into tokens, with the whitespace control of Jinja2: "-" takes all space on its side, "+" keeps it, a block at the start of a line
 * takes the space before it, and the first newline after a block goes. */
#include "core/text/jinja.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/text/private.h"

struct jj_block { struct jj_block *next; };

#define BLOCK 65536

void *jj_alloc(struct jj_arena *a, size_t n, size_t size)
{
	size_t bytes = n * size;

	if (size && n > SIZE_MAX / size / 2)
		return NULL;
	bytes = (bytes + 15) & ~(size_t)15;
	if (!a->blocks || a->cap - a->used < bytes) {
		size_t want = bytes + sizeof(struct jj_block) + 16 > BLOCK ? bytes + sizeof(struct jj_block) + 16 : BLOCK;
		if (want > a->max || a->total > a->max - want)
			return NULL;
		struct jj_block *b = bl_xalloc(1, want);
		b->next = a->blocks;
		a->blocks = b;
		a->total += want;
		a->cap = want;
		a->used = 16;
	}
	void *p = (char *)a->blocks + a->used;
	a->used += bytes;
	return p;
}

void jj_arena_free(struct jj_arena *a)
{
	for (struct jj_block *b = a->blocks, *next; b; b = next) {
		next = b->next;
		bl_free(b);
	}
	a->blocks = NULL;
}

struct lexer {
	const char *s, *p, *end;
	int line;
	bool line_start;     /* what comes stands at the start of a line */
	struct jj_tokens *out;
	struct jj_arena *arena;
	struct bl_err *err;
};

static struct jj_token *add(struct lexer *l, enum jj_kind kind, const char *s, size_t n)
{
	bl_xgrow(&l->out->t, &l->out->cap, l->out->n + 1);
	struct jj_token *t = &l->out->t[l->out->n++];
	*t = (struct jj_token){.kind = kind, .line = l->line, .s = s, .n = n};
	return t;
}

static enum bl_status refuse(struct lexer *l, const char *what)
{
	return bl_fail(l->err, BL_INVALID, "line %d: %s", l->line, what);
}

static size_t space_at(const char *p, const char *end)
{
	uint32_t cp;

	if (p == end)
		return 0;
	int n = bl_utf8_next((const uint8_t *)p, (size_t)(end - p), &cp);
	return n > 0 && (bl_is_space(cp) || (cp >= 0x1c && cp <= 0x1f)) ? (size_t)n : 0;
}

/* s without the space at its end */
static size_t right_strip(const char *s, size_t n)
{
	while (n) {
		size_t from = n - 1;
		while (from && ((uint8_t)s[from] & 0xc0) == 0x80)
			from--;
		if (space_at(s + from, s + n) != n - from)
			break;
		n = from;
	}
	return n;
}

static void count_lines(struct lexer *l, const char *from, const char *to)
{
	for (; from < to; from++)
		l->line += *from == '\n';
}

/* Text up to a tag (or the end); tag: 0 at the end. */
static void data(struct lexer *l, const char *from, const char *to, char tag, char sign)
{
	size_t n = (size_t)(to - from);

	if (sign == '-') {
		n = right_strip(from, n);
	} else if (sign != '+' && (tag == '%' || tag == '#')) {
		size_t start = n;
		while (start && from[start - 1] != '\n')
			start--;
		if ((start || l->line_start) && right_strip(from + start, n - start) == 0)
			n = start;
	}
	if (n)
		add(l, JJ_DATA, from, n);
	count_lines(l, from, to);
}

/* What is behind the end of a tag and goes with it. */
static void after_tag(struct lexer *l, char tag, char sign)
{
	const char *from = l->p;

	if (sign == '-')
		for (size_t n; (n = space_at(l->p, l->end)) > 0;)
			l->p += n;
	else if (sign != '+' && tag != '}' && l->p < l->end && *l->p == '\n')
		l->p++;
	l->line_start = l->p > from && l->p[-1] == '\n';
	count_lines(l, from, l->p);
}

static enum bl_status string(struct lexer *l)
{
	struct bl_str b = {0};
	char quote = *l->p++, *copy;

	while (l->p < l->end && *l->p != quote) {
		static const char from[] = "nrtabfv\\'\"\n", to[] = "\n\r\t\a\b\f\v\\'\"\0";
		char c = *l->p++;
		l->line += c == '\n';
		if (c != '\\' || l->p == l->end) {
			bl_str_addc(&b, c);
			continue;
		}
		const char *known = memchr(from, *l->p, sizeof from - 1);
		int digits = *l->p == 'x' ? 2 : *l->p == 'u' ? 4 : *l->p == 'U' ? 8 : 0;
		if (known) {
			if (*l->p != '\n')
				bl_str_addc(&b, to[known - from]);
			l->p++;
		} else if (digits && l->end - l->p > digits) {
			char hex[9] = {0}, *end;
			memcpy(hex, l->p + 1, (size_t)digits);
			unsigned long cp = strtoul(hex, &end, 16);
			if (*end || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000) || strchr("+- ", hex[0])) {
				bl_str_free(&b);
				return refuse(l, "a character code in a string that is none");
			}
			bl_utf8_add(&b, (uint32_t)cp);
			l->p += digits + 1;
		} else if ((*l->p >= '0' && *l->p <= '7') || *l->p == 'N') {
			bl_str_free(&b);
			return bl_fail(l->err, BL_UNSUPPORTED, "line %d: the escape \\%c in a string is not supported", l->line, *l->p);
		} else {
			bl_str_addc(&b, '\\');
		}
	}
	if (l->p == l->end) {
		bl_str_free(&b);
		return refuse(l, "a string that is not closed");
	}
	l->p++;
	if (!(copy = jj_alloc(l->arena, b.len + 1, 1))) {
		bl_str_free(&b);
		return refuse(l, "the template is too large");
	}
	memcpy(copy, bl_str_c(&b), b.len);
	add(l, JJ_STRING, copy, b.len);
	bl_str_free(&b);
	return BL_OK;
}

static enum bl_status number(struct lexer *l)
{
	const char *from = l->p;
	char text[40];
	bool real = false;

	while (l->p < l->end && *l->p >= '0' && *l->p <= '9')
		l->p++;
	if (l->end - l->p > 1 && *l->p == '.' && l->p[1] >= '0' && l->p[1] <= '9') {
		real = true;
		for (l->p++; l->p < l->end && *l->p >= '0' && *l->p <= '9'; l->p++)
			;
	}
	if (l->p - from > 18 || (l->p < l->end && (*l->p == '_' || (*l->p | 0x20) == 'e' || (*l->p | 0x20) == 'x' || (*l->p | 0x20) == 'b' ||
			(*l->p | 0x20) == 'o')))
		return bl_fail(l->err, BL_UNSUPPORTED, "line %d: this spelling of a number is not supported", l->line);
	memcpy(text, from, (size_t)(l->p - from));
	text[l->p - from] = '\0';
	struct jj_token *t = add(l, real ? JJ_FLOAT : JJ_INT, from, (size_t)(l->p - from));
	t->i = strtoll(text, NULL, 10);
	t->d = strtod(text, NULL);
	return BL_OK;
}

static bool is_letter(char c)
{
	return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_';
}

/* One token of an expression. */
static enum bl_status expression_token(struct lexer *l)
{
	static const char *const pairs[] = {"==", "!=", "<=", ">=", "//", "**"};
	const char *from = l->p;

	if (is_letter(*l->p)) {
		while (l->p < l->end && (is_letter(*l->p) || (*l->p >= '0' && *l->p <= '9')))
			l->p++;
		add(l, JJ_NAME, from, (size_t)(l->p - from));
		return BL_OK;
	}
	if (*l->p >= '0' && *l->p <= '9')
		return number(l);
	if (*l->p == '\'' || *l->p == '"')
		return string(l);
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
		if (l->end - l->p > 1 && !memcmp(l->p, pairs[i], 2)) {
			l->p += 2;
			add(l, JJ_OP, from, 2);
			return BL_OK;
		}
	if (!strchr("+-*/%~<>=.,:|()[]{}", *l->p))
		return refuse(l, "a character that does not belong into an expression");
	l->p++;
	add(l, JJ_OP, from, 1);
	return BL_OK;
}

/* Behind the opening of {{ or {%: up to its end. */
static enum bl_status inside(struct lexer *l, char tag)
{
	int open = 0;

	add(l, tag == '%' ? JJ_BLOCK_BEGIN : JJ_VAR_BEGIN, l->p, 0);
	while (l->p < l->end) {
		size_t n = space_at(l->p, l->end);
		if (n) {
			l->line += *l->p == '\n';
			l->p += n;
			continue;
		}
		const char *close = l->p + (*l->p == '-' || (*l->p == '+' && tag == '%'));
		if (!open && l->end - close > 1 && close[0] == tag && close[1] == '}') {
			char sign = close > l->p ? *l->p : 0;
			add(l, tag == '%' ? JJ_BLOCK_END : JJ_VAR_END, l->p, 0);
			l->p = close + 2;
			after_tag(l, tag, sign);
			return BL_OK;
		}
		open += strchr("([{", *l->p) != NULL;
		open -= strchr(")]}", *l->p) != NULL;
		if (open < 0)
			return refuse(l, "a closing bracket too many");
		if (expression_token(l))
			return l->err->status;
	}
	return refuse(l, tag == '%' ? "a block that is not closed" : "an expression that is not closed");
}

enum bl_status jj_lex(struct jj_tokens *out, struct jj_arena *a, const char *source, size_t n, struct bl_err *err)
{
	struct lexer l = {source, source, source + n, 1, true, out, a, err};

	while (!err->status) {
		const char *from = l.p, *tag = from;
		while (tag < l.end && !(l.end - tag > 1 && tag[0] == '{' && strchr("{%#", tag[1]) && tag[1]))
			tag++;
		char kind = tag < l.end ? tag[1] : 0, sign = 0;
		if (kind && l.end - tag > 2 && (tag[2] == '-' || tag[2] == '+'))
			sign = tag[2];
		if (kind == '{' && sign == '+') /* a plus before a value */
			sign = 0;
		data(&l, from, tag, kind, sign);
		if (!kind)
			break;
		l.p = tag + 2 + (sign != 0);
		if (kind == '#') {
			const char *close = l.p;
			while (l.end - close > 1 && !(close[0] == '#' && close[1] == '}'))
				close++;
			if (l.end - close <= 1)
				return refuse(&l, "a comment that is not closed");
			count_lines(&l, l.p, close);
			sign = close > l.p && (close[-1] == '-' || close[-1] == '+') ? close[-1] : 0;
			l.p = close + 2;
			after_tag(&l, '#', sign);
		} else {
			inside(&l, kind == '{' ? '}' : '%');
		}
	}
	add(&l, JJ_EOF, l.p, 0);
	return err->status;
}
