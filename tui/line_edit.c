/* SPDX-License-Identifier: Apache-2.0
 * The line editor. All moves go by whole characters (UTF-8, combining marks stay with their letter). */
#include "tui/line_edit.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tui/grid.h"
#include "tui/key.h"

void bl_line_set(struct bl_line *l, const char *text)
{
	l->len = l->cursor = 0;
	l->text[0] = '\0';
	bl_line_insert(l, text);
}

static size_t char_bytes(const char *s)
{
	size_t n = 1;

	while (((unsigned char)s[n] & 0xC0) == 0x80)
		n++;
	return n;
}

static bool is_mark(const char *s)
{
	char one[8];

	snprintf(one, sizeof one, "%.*s", (int)char_bytes(s), s);
	return bl_text_width(one) == 0;
}

static size_t before(const struct bl_line *l, size_t at)
{
	do {
		while (at > 0 && ((unsigned char)l->text[--at] & 0xC0) == 0x80)
			;
	} while (at > 0 && is_mark(l->text + at));
	return at;
}

static size_t after(const struct bl_line *l, size_t at)
{
	if (at >= l->len)
		return l->len;
	do
		at += char_bytes(l->text + at);
	while (at < l->len && is_mark(l->text + at));
	return at > l->len ? l->len : at;
}

static bool is_word(const struct bl_line *l, size_t at)
{
	return isalnum((unsigned char)l->text[at]) || ((unsigned char)l->text[at] & 0x80);
}

static size_t word_before(const struct bl_line *l, size_t at)
{
	while (at > 0 && !is_word(l, before(l, at)))
		at = before(l, at);
	while (at > 0 && is_word(l, before(l, at)))
		at = before(l, at);
	return at;
}

static size_t word_after(const struct bl_line *l, size_t at)
{
	while (at < l->len && !is_word(l, at))
		at = after(l, at);
	while (at < l->len && is_word(l, at))
		at = after(l, at);
	return at;
}

static void remove_range(struct bl_line *l, size_t from, size_t to, bool keep)
{
	if (keep && to > from) {
		memcpy(l->cut, l->text + from, to - from);
		l->cut[to - from] = '\0';
	}
	memmove(l->text + from, l->text + to, l->len - to + 1);
	l->len -= to - from;
	l->cursor = from;
}

void bl_line_insert(struct bl_line *l, const char *text)
{
	while (*text) {
		size_t n = char_bytes(text);
		bool control = (unsigned char)*text < 0x20 || *text == 0x7f;

		if (l->len + n >= sizeof l->text)
			return;
		memmove(l->text + l->cursor + n, l->text + l->cursor, l->len - l->cursor + 1);
		memcpy(l->text + l->cursor, control ? " " : text, n);
		l->len += n;
		l->cursor += n;
		text += n;
	}
}

void bl_line_replace(struct bl_line *l, size_t from, const char *text)
{
	if (from <= l->cursor)
		remove_range(l, from, l->cursor, false);
	bl_line_insert(l, text);
}

bool bl_line_key(struct bl_line *l, const char *key)
{
	static const struct {
		const char *key;
		char does;
	} keys[] = {
		{ "<Left>", 'b' }, { "C-b", 'b' },       { "<Right>", 'f' },       { "C-f", 'f' }, { "<Home>", 'a' },
		{ "C-a", 'a' },    { "<End>", 'e' },     { "C-e", 'e' },           { "M-b", 'B' }, { "C-<Left>", 'B' },
		{ "M-f", 'F' },    { "C-<Right>", 'F' }, { "<Backspace>", 'h' },   { "C-h", 'h' }, { "<Delete>", 'd' },
		{ "C-d", 'd' },    { "C-w", 'w' },       { "M-<Backspace>", 'w' }, { "C-u", 'u' }, { "C-k", 'k' },
		{ "M-d", 'D' },    { "C-y", 'y' },
	};
	const char *typed = bl_key_typed(key);
	char does = 0;

	if (typed) {
		bl_line_insert(l, typed);
		return true;
	}
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (!strcmp(keys[i].key, key))
			does = keys[i].does;
	switch (does) {
	case 'b':
		l->cursor = before(l, l->cursor);
		return true;
	case 'f':
		l->cursor = after(l, l->cursor);
		return true;
	case 'a':
		l->cursor = 0;
		return true;
	case 'e':
		l->cursor = l->len;
		return true;
	case 'B':
		l->cursor = word_before(l, l->cursor);
		return true;
	case 'F':
		l->cursor = word_after(l, l->cursor);
		return true;
	case 'h':
		remove_range(l, before(l, l->cursor), l->cursor, false);
		return true;
	case 'd':
		remove_range(l, l->cursor, after(l, l->cursor), false);
		return true;
	case 'w':
		remove_range(l, word_before(l, l->cursor), l->cursor, true);
		return true;
	case 'D':
		remove_range(l, l->cursor, word_after(l, l->cursor), true);
		return true;
	case 'u':
		remove_range(l, 0, l->cursor, true);
		return true;
	case 'k':
		remove_range(l, l->cursor, l->len, true);
		return true;
	case 'y':
		bl_line_insert(l, l->cut);
		return true;
	default:
		return false;
	}
}
