/* SPDX-License-Identifier: Apache-2.0
 * The escape-sequence decoder: one byte at a time, so it does not matter how a slow line cuts the stream. */
#include "tui/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

#define TORN_MS   1000 /* an unfinished sequence is given up after that long */
#define LATE_MS   300  /* the rest of a sequence whose ESC came alone */
#define PASTE_MAX (64 * 1024)

void bl_input_init(struct bl_input *in, int esc_ms)
{
	*in = (struct bl_input){ .esc_ms = esc_ms };
}

void bl_input_free(struct bl_input *in)
{
	bl_free(in->paste);
	*in = (struct bl_input){ .esc_ms = in->esc_ms };
}

/* ---- events ---- */

struct sink {
	bl_input_fn *fn;
	void *ctx;
};

static void emit(const struct sink *s, const char *prefix, const char *name)
{
	char text[BL_KEY_MAX + 4], key[BL_KEY_MAX];

	snprintf(text, sizeof text, "%s%s", prefix, name);
	if (bl_key_parse(key, text))
		s->fn(s->ctx, &(struct bl_input_event){ .kind = BL_INPUT_KEY, .text = key });
}

static void control(const struct sink *s, const char *prefix, unsigned char c)
{
	char name[8];

	switch (c) {
	case '\t':
		emit(s, prefix, "<Tab>");
		break;
	case '\r':
	case '\n':
		emit(s, prefix, "<Enter>");
		break;
	case 0x08:
	case 0x7f:
		emit(s, prefix, "<Backspace>");
		break;
	case 0:
		break; /* C-Space, and what broken lines send */
	default:
		snprintf(name, sizeof name, "C-%c", c < 0x1b ? 'a' + c - 1 : '@' + c);
		if (!*prefix)
			emit(s, "", name);
		break;
	}
}

static void paste(struct bl_input *in, unsigned char c)
{
	if (in->n_paste + 1 >= PASTE_MAX)
		return;
	bl_xgrow(&in->paste, &in->cap_paste, in->n_paste + 2);
	in->paste[in->n_paste++] = (char)c;
	in->paste[in->n_paste] = '\0';
}

/* The end marker has been taken off. Text that is no UTF-8 or holds a NUL is not worth guessing at. */
static void paste_done(struct bl_input *in, const struct sink *s)
{
	if (in->n_paste && !memchr(in->paste, 0, in->n_paste) && bl_utf8_valid(in->paste, in->n_paste))
		s->fn(s->ctx, &(struct bl_input_event){ .kind = BL_INPUT_PASTE, .text = in->paste });
	in->n_paste = 0;
}

/* ---- control sequences ---- */

static int numbers(const char *seq, int *out, int cap)
{
	int n = 0;

	while (n < cap) {
		char *end;
		long v = strtol(seq, &end, 10);

		out[n++] = v < 0 || v > 100000 ? 0 : (int)v;
		if (*end != ';' && *end != ':')
			break;
		seq = end + 1;
	}
	return n;
}

static const char *modifier(int m)
{
	m = m > 1 ? m - 1 : 0;
	return m & 4 ? "C-" : m & 2 ? "M-" : "";
}

static const char *by_letter(char c)
{
	static const struct {
		char c;
		const char *name;
	} keys[] = {
		{ 'A', "<Up>" },  { 'B', "<Down>" }, { 'C', "<Right>" }, { 'D', "<Left>" }, { 'H', "<Home>" },
		{ 'F', "<End>" }, { 'P', "<F1>" },   { 'Q', "<F2>" },    { 'S', "<F4>" },   { 'Z', "<S-Tab>" },
	};

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (keys[i].c == c)
			return keys[i].name;
	return NULL;
}

static const char *by_number(int n)
{
	static const struct {
		int n;
		const char *name;
	} keys[] = {
		{ 1, "<Home>" },     { 2, "<Insert>" }, { 3, "<Delete>" }, { 4, "<End>" },  { 5, "<PageUp>" },
		{ 6, "<PageDown>" }, { 7, "<Home>" },   { 8, "<End>" },    { 11, "<F1>" },  { 12, "<F2>" },
		{ 13, "<F3>" },      { 14, "<F4>" },    { 15, "<F5>" },    { 17, "<F6>" },  { 18, "<F7>" },
		{ 19, "<F8>" },      { 20, "<F9>" },    { 21, "<F10>" },   { 23, "<F11>" }, { 24, "<F12>" },
	};

	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (keys[i].n == n)
			return keys[i].name;
	return NULL;
}

static void mouse(const char *seq, bool press, const struct sink *s)
{
	int v[3] = { 0 };
	struct bl_input_event e = { .kind = BL_INPUT_MOUSE };

	if (numbers(seq + 1, v, 3) != 3 || v[1] < 1 || v[2] < 1 || !press)
		return;
	e.col = v[1] - 1;
	e.row = v[2] - 1;
	if (v[0] == 64 || v[0] == 65)
		e.mouse = v[0] == 64 ? BL_MOUSE_WHEEL_UP : BL_MOUSE_WHEEL_DOWN;
	else if (v[0] != 0)
		return;
	s->fn(s->ctx, &e);
}

/* A whole CSI: parameters in seq, `final` ends it. Everything not listed is a reply or unknown: nothing happens. */
static void csi(struct bl_input *in, char final, const struct sink *s)
{
	int v[3] = { 0 }, n;
	const char *name;

	in->state = BL_IN_GROUND;
	if (in->n_seq >= sizeof in->seq - 1)
		return; /* longer than any key */
	in->seq[in->n_seq] = '\0';
	if (in->seq[0] == '<') {
		if (final == 'M' || final == 'm')
			mouse(in->seq, final == 'M', s);
		return;
	}
	if (in->n_seq == 1 && in->seq[0] == '[') { /* Linux console: ESC [ [ A */
		if (final >= 'A' && final <= 'E')
			emit(s, "", ((const char *[]){ "<F1>", "<F2>", "<F3>", "<F4>", "<F5>" })[final - 'A']);
		return;
	}
	if (final == 'M' && !in->n_seq) { /* the old mouse report: three bytes follow */
		in->state = BL_IN_SKIP;
		in->need = 3;
		return;
	}
	if (strspn(in->seq, "0123456789;") != in->n_seq)
		return;
	n = numbers(in->seq, v, 3);
	if (final == '~') {
		if (v[0] == 200) {
			in->state = BL_IN_PASTE;
			in->n_paste = 0;
		} else if ((name = by_number(v[0]))) {
			emit(s, n > 1 ? modifier(v[1]) : "", name);
		}
		return;
	}
	if ((final == 'P' || final == 'Q' || final == 'S') && in->n_seq && v[0] != 1)
		return;
	if ((name = by_letter(final)))
		emit(s, n > 1 && final != 'Z' ? modifier(v[1]) : "", name);
}

static void escape(struct bl_input *in, unsigned char c, const struct sink *s)
{
	char one[2] = { (char)c, '\0' };

	in->n_seq = 0;
	in->state = BL_IN_GROUND;
	if (c == '[')
		in->state = BL_IN_CSI;
	else if (c == 'O')
		in->state = BL_IN_SS3;
	else if (c == ']' || c == 'P' || c == '_' || c == '^' || c == 'X')
		in->state = BL_IN_STRING; /* OSC, DCS, APC, PM, SOS: replies */
	else if (c < 0x20 || c == 0x7f)
		control(s, "M-", c);
	else if (c == ' ')
		emit(s, "M-", "<Space>");
	else if (c < 0x80)
		emit(s, "M-", one);
}

static void ground(struct bl_input *in, unsigned char c, const struct sink *s)
{
	char one[2] = { (char)c, '\0' };

	if (c == 0x1b) {
		in->state = BL_IN_ESC;
	} else if (c < 0x20 || c == 0x7f) {
		control(s, "", c);
	} else if (c < 0x80) {
		emit(s, "", c == ' ' ? "<Space>" : one);
	} else if (c >= 0xc2 && c <= 0xf4) {
		in->state = BL_IN_UTF8;
		in->need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
		in->seq[0] = (char)c;
		in->n_seq = 1;
	} /* else: a stray byte */
}

static void step(struct bl_input *in, unsigned char c, const struct sink *s)
{
	static const char marker[] = "\x1b[201~";

	switch (in->state) {
	case BL_IN_GROUND:
		ground(in, c, s);
		break;
	case BL_IN_UTF8:
		if ((c & 0xc0) != 0x80) {
			in->state = BL_IN_GROUND;
			ground(in, c, s);
			break;
		}
		in->seq[in->n_seq++] = (char)c;
		if (in->n_seq == in->need) {
			in->seq[in->n_seq] = '\0';
			in->state = BL_IN_GROUND;
			emit(s, "", in->seq);
		}
		break;
	case BL_IN_ESC:
		if (c == 0x1b)
			emit(s, "", "<Esc>");
		else
			escape(in, c, s);
		break;
	case BL_IN_CSI:
		if (c == 0x1b) {
			in->state = BL_IN_ESC;
		} else if (c == 0x18 || c == 0x1a || c >= 0x7f) {
			in->state = BL_IN_GROUND;
		} else if (c >= 0x40 && !(c == '[' && in->n_seq == 0)) {
			csi(in, (char)c, s);
		} else if (c >= 0x20 && in->n_seq < sizeof in->seq - 1) {
			in->seq[in->n_seq++] = (char)c;
		}
		break;
	case BL_IN_SS3:
		in->state = BL_IN_GROUND;
		if (c == 0x1b)
			in->state = BL_IN_ESC;
		else if (c == 'M')
			emit(s, "", "<Enter>");
		else if (c == 'R')
			emit(s, "", "<F3>");
		else if (by_letter((char)c) && c != 'Z')
			emit(s, "", by_letter((char)c));
		break;
	case BL_IN_STRING:
		if (c == 0x1b)
			in->state = BL_IN_STRING_ESC;
		else if (c == 0x07 || c == 0x18 || c == 0x1a)
			in->state = BL_IN_GROUND;
		break;
	case BL_IN_STRING_ESC:
		in->state = c == '\\' ? BL_IN_GROUND : c == 0x1b ? BL_IN_STRING_ESC : BL_IN_STRING;
		break;
	case BL_IN_PASTE:
		paste(in, c);
		if (c == '~' && in->n_paste >= sizeof marker - 1 &&
		    !memcmp(in->paste + in->n_paste - (sizeof marker - 1), marker, sizeof marker - 1)) {
			in->n_paste -= sizeof marker - 1;
			in->paste[in->n_paste] = '\0';
			in->state = BL_IN_GROUND;
			paste_done(in, s);
		}
		break;
	case BL_IN_SKIP:
		if (--in->need == 0)
			in->state = BL_IN_GROUND;
		break;
	}
}

/* Bytes of a control sequence without its ESC at the start of a chunk, 0 when it does not look like one. */
static size_t headless(const unsigned char *p, size_t n)
{
	size_t i = 1;

	if (n >= 2 && p[0] == 'O' &&
	    ((p[1] >= 'A' && p[1] <= 'D') || p[1] == 'H' || p[1] == 'F' || (p[1] >= 'P' && p[1] <= 'S')))
		return 2;
	if (n < 2 || p[0] != '[')
		return 0;
	while (i < n && i < 32 && p[i] >= 0x20 && p[i] < 0x40)
		i++;
	return i < n && p[i] >= 0x40 && p[i] < 0x7f ? i + 1 : 0;
}

void bl_input_feed(struct bl_input *in, const void *bytes, size_t n, uint64_t now_ms, bl_input_fn *fn, void *ctx)
{
	const unsigned char *p = bytes;
	const struct sink s = { fn, ctx };

	if (!n)
		return;
	if (in->state == BL_IN_GROUND && in->escaped && now_ms - in->escaped < LATE_MS) {
		size_t skip = headless(p, n); /* its ESC came so early that it was taken for the key */

		p += skip;
		n -= skip;
	}
	in->escaped = 0;
	for (size_t i = 0; i < n; i++)
		step(in, p[i], &s);
	in->since = now_ms;
}

int bl_input_timeout_ms(const struct bl_input *in, uint64_t now_ms)
{
	uint64_t limit = in->state == BL_IN_ESC ? (uint64_t)in->esc_ms : TORN_MS, spent = now_ms - in->since;

	if (in->state == BL_IN_GROUND)
		return -1;
	return spent >= limit ? 0 : (int)(limit - spent);
}

void bl_input_expire(struct bl_input *in, uint64_t now_ms, bl_input_fn *fn, void *ctx)
{
	const struct sink s = { fn, ctx };

	if (in->state == BL_IN_GROUND || bl_input_timeout_ms(in, now_ms) > 0)
		return;
	if (in->state == BL_IN_ESC) {
		in->escaped = now_ms ? now_ms : 1;
		in->state = BL_IN_GROUND;
		emit(&s, "", "<Esc>");
	} else {
		in->state = BL_IN_GROUND; /* torn: dropped */
		in->n_paste = 0;
	}
}
