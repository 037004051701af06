/* SPDX-License-Identifier: Apache-2.0
 * The cell grid. Every way in goes through put(): it clips, keeps wide characters whole, drops what has no width, never
 * stores a control character and, in ASCII mode, replaces what has no ASCII form. */
#include "tui/grid.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

#include "core/base/mem.h"

/* What stands for a character where only ASCII can be shown. Ordered by code point. */
static const struct {
	uint32_t ch;
	char ascii;
} glyphs[] = {
	{ 0x00A0, ' ' },  { 0x00AB, '<' }, { 0x00B0, 'o' }, { 0x00B1, '+' }, { 0x00B2, '2' }, { 0x00B3, '3' },
	{ 0x00B5, 'u' },  { 0x00B7, '.' }, { 0x00BB, '>' }, { 0x00D7, 'x' }, { 0x0394, 'd' }, { 0x03BC, 'u' },
	{ 0x2010, '-' },  { 0x2011, '-' }, { 0x2012, '-' }, { 0x2013, '-' }, { 0x2014, '-' }, { 0x2018, '\'' },
	{ 0x2019, '\'' }, { 0x201C, '"' }, { 0x201D, '"' }, { 0x2022, '*' }, { 0x2026, '~' }, { 0x2039, '<' },
	{ 0x203A, '>' },  { 0x2190, '<' }, { 0x2191, '^' }, { 0x2192, '>' }, { 0x2193, 'v' }, { 0x2212, '-' },
	{ 0x2248, '~' },  { 0x2260, '!' }, { 0x2264, '<' }, { 0x2265, '>' }, { 0x23CE, '<' }, { 0x2423, '_' },
	{ 0x2500, '-' },  { 0x2502, '|' }, { 0x250C, '+' }, { 0x2510, '+' }, { 0x2514, '+' }, { 0x2518, '+' },
	{ 0x251C, '+' },  { 0x2524, '+' }, { 0x252C, '+' }, { 0x2534, '+' }, { 0x253C, '+' }, { 0x2581, '.' },
	{ 0x2582, ':' },  { 0x2583, '-' }, { 0x2584, '=' }, { 0x2585, '+' }, { 0x2586, '*' }, { 0x2587, '%' },
	{ 0x2588, '#' },  { 0x2589, '#' }, { 0x258A, '#' }, { 0x258B, '#' }, { 0x258C, '#' }, { 0x258D, '#' },
	{ 0x258E, '#' },  { 0x258F, '|' }, { 0x2591, '.' }, { 0x2592, ':' }, { 0x2593, '#' }, { 0x2595, '|' },
	{ 0x25B2, '^' },  { 0x25B6, '>' }, { 0x25BC, 'v' }, { 0x25C0, '<' }, { 0x25CB, 'o' }, { 0x25CF, '*' },
	{ 0x26BF, 'L' },  { 0x2713, '+' }, { 0x2714, '+' }, { 0x2717, 'x' }, { 0x2718, 'x' },
};

static uint32_t to_ascii(uint32_t ch)
{
	size_t lo = 0, hi = sizeof glyphs / sizeof glyphs[0];
	utf8proc_int32_t parts[8];
	utf8proc_ssize_t n;
	int last_boundclass = 0;

	if (ch < 0x80)
		return ch;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (glyphs[mid].ch == ch)
			return (unsigned char)glyphs[mid].ascii;
		if (glyphs[mid].ch < ch)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* letters with marks: the letter */
	n = utf8proc_decompose_char((utf8proc_int32_t)ch, parts, 8, UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE,
				    &last_boundclass);
	return n > 0 && parts[0] >= 0x20 && parts[0] < 0x7f ? (uint32_t)parts[0] : '?';
}

/* Columns of a character: 0 for marks and invisible format characters, 1 for what is shown as '?'. */
static int width_of(uint32_t ch)
{
	utf8proc_category_t cat;

	if (ch >= 0x20 && ch < 0x7f)
		return 1;
	cat = utf8proc_category((utf8proc_int32_t)ch);
	switch (cat) {
	case UTF8PROC_CATEGORY_MN:
	case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_CF:
		return 0;
	case UTF8PROC_CATEGORY_CC:
	case UTF8PROC_CATEGORY_CS:
	case UTF8PROC_CATEGORY_CN:
	case UTF8PROC_CATEGORY_CO:
	case UTF8PROC_CATEGORY_ZL:
	case UTF8PROC_CATEGORY_ZP:
		return 1;
	default: {
		int w = utf8proc_charwidth((utf8proc_int32_t)ch);

		return w < 0 ? 0 : w > 2 ? 2 : w;
	}
	}
}

static uint32_t clean(uint32_t ch)
{
	utf8proc_category_t cat;

	if (ch >= 0x20 && ch < 0x7f)
		return ch;
	cat = utf8proc_category((utf8proc_int32_t)ch);
	return cat == UTF8PROC_CATEGORY_CC || cat == UTF8PROC_CATEGORY_CS || cat == UTF8PROC_CATEGORY_CN ||
			       cat == UTF8PROC_CATEGORY_CO || cat == UTF8PROC_CATEGORY_ZL || cat == UTF8PROC_CATEGORY_ZP
		       ? '?'
		       : ch;
}

/* Next character of a text; broken UTF-8 is one '?' per byte. */
static uint32_t next(const char **s)
{
	utf8proc_int32_t cp;
	utf8proc_ssize_t n;

	if ((unsigned char)**s < 0x80)
		return (unsigned char)*(*s)++;
	n = utf8proc_iterate((const utf8proc_uint8_t *)*s, (utf8proc_ssize_t)strnlen(*s, 4), &cp);
	if (n <= 0) {
		(*s)++;
		return '?';
	}
	*s += n;
	return (uint32_t)cp;
}

int bl_text_width(const char *utf8)
{
	int w = 0;

	while (*utf8)
		w += width_of(next(&utf8));
	return w;
}

void bl_text_cut(char *utf8, size_t cap, int cols)
{
	const char *at = utf8, *end = utf8;
	int w = 0;

	if (bl_text_width(utf8) <= cols)
		return;
	while (*at) {
		w += width_of(next(&at));
		if (w > cols - 1 || (size_t)(at - utf8) + sizeof "…" > cap)
			break;
		end = at[-1] == ' ' ? end : at;
	}
	snprintf(utf8 + (end - utf8), cap - (size_t)(end - utf8), "%s", cols > 0 ? "…" : "");
}

void bl_grid_init(struct bl_grid_s *g, int rows, int cols, bool ascii)
{
	*g = (struct bl_grid_s){ .rows = rows < 1 ? 1 : rows, .cols = cols < 1 ? 1 : cols, .ascii = ascii };
	g->cells = bl_xalloc((size_t)g->rows * (size_t)g->cols, sizeof *g->cells);
	bl_grid_clear(g);
}

void bl_grid_free(struct bl_grid_s *g)
{
	bl_free(g->cells);
	*g = (struct bl_grid_s){ 0 };
}

void bl_grid_clear(struct bl_grid_s *g)
{
	for (int i = 0; i < g->rows * g->cols; i++)
		g->cells[i] = (struct bl_cell){ .ch = ' ', .role = BL_ROLE_TEXT, .width = 1 };
	g->cursor_row = g->cursor_col = -1;
}

/* Overwriting half of a wide character blanks the other half. */
static void unlink_wide(struct bl_grid_s *g, int row, int col)
{
	struct bl_cell *c = &g->cells[(size_t)row * (size_t)g->cols + (size_t)col];

	if (c->width == 0 && col > 0) {
		c[-1].ch = ' ';
		c[-1].width = 1;
	} else if (c->width == 2 && col + 1 < g->cols) {
		c[1].ch = ' ';
		c[1].width = 1;
	}
	c->ch = ' ';
	c->width = 1;
}

/* One character; `room` columns are left. Returns the columns it takes, -1 when it does not fit. */
static int put(struct bl_grid_s *g, int row, int col, int room, uint32_t ch, enum bl_role role, uint8_t attr)
{
	int w = width_of(ch);
	struct bl_cell *c;

	if (w == 0)
		return 0;
	ch = clean(ch);
	if (g->ascii) {
		ch = to_ascii(ch);
		if (w == 2 && room >= 2) /* keep the columns of the original */
			put(g, row, col + 1, 1, '?', role, attr);
	}
	if (w > room)
		return -1;
	if (row < 0 || row >= g->rows || col >= g->cols || col + w <= 0)
		return w;
	if (col < 0 || col + w > g->cols) { /* half of it is outside */
		int inside = col < 0 ? 0 : col;

		unlink_wide(g, row, inside);
		c = &g->cells[(size_t)row * (size_t)g->cols + (size_t)inside];
		*c = (struct bl_cell){ .ch = ' ', .role = (uint8_t)role, .attr = attr, .width = 1 };
		return w;
	}
	c = &g->cells[(size_t)row * (size_t)g->cols + (size_t)col];
	unlink_wide(g, row, col);
	if (w == 2 && !g->ascii) {
		unlink_wide(g, row, col + 1);
		c[1] = (struct bl_cell){ .ch = 0, .role = (uint8_t)role, .attr = attr, .width = 0 };
	}
	*c = (struct bl_cell){ .ch = ch, .role = (uint8_t)role, .attr = attr, .width = g->ascii ? 1 : (uint8_t)w };
	return w;
}

int bl_grid_text(struct bl_grid_s *g, int row, int col, int max_cols, enum bl_role role, uint8_t attr, const char *utf8)
{
	int used = 0, limit = max_cols;
	bool cut;

	if (max_cols <= 0 || max_cols > 100000)
		return 0;
	cut = bl_text_width(utf8) > max_cols;
	if (cut && max_cols > 3)
		limit--;
	while (*utf8) {
		int w = put(g, row, col + used, limit - used, next(&utf8), role, attr);

		if (w < 0)
			break;
		used += w;
		if (used >= limit)
			break;
	}
	if (cut && max_cols > 3) {
		put(g, row, col + used, 1, 0x2026, role, attr);
		used++;
	}
	return used;
}

int bl_grid_textf(struct bl_grid_s *g, int row, int col, int max_cols, enum bl_role role, uint8_t attr, const char *fmt,
		  ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return bl_grid_text(g, row, col, max_cols, role, attr, text);
}

int bl_grid_text_right(struct bl_grid_s *g, int row, int col_end, int max_cols, enum bl_role role, uint8_t attr,
		       const char *utf8)
{
	int w = bl_text_width(utf8);

	if (w > max_cols)
		w = max_cols;
	return w > 0 ? bl_grid_text(g, row, col_end - w, w, role, attr, utf8) : 0;
}

void bl_grid_fill(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, uint8_t attr, uint32_t ch)
{
	int w = width_of(ch);

	if (w < 1 || cols > 100000)
		return;
	for (int i = 0; i + w <= cols; i += w)
		put(g, row, col + i, w, ch, role, attr);
}

void bl_grid_hline(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role)
{
	bl_grid_fill(g, row, col, cols, role, 0, 0x2500);
}

void bl_grid_paint(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, uint8_t attr)
{
	int end = cols > g->cols - col ? g->cols : col + cols;

	if (row < 0 || row >= g->rows)
		return;
	for (int i = col < 0 ? 0 : col; i < end; i++) {
		struct bl_cell *c = &g->cells[(size_t)row * (size_t)g->cols + (size_t)i];

		c->role = (uint8_t)role;
		c->attr |= attr;
	}
}

static const char *role_name(int role)
{
	static const char *const names[] = {
#define X(id, name, fallback, mono) name,
		BL_ROLES(X)
#undef X
	};

	return role < BL_ROLE_COUNT ? names[role] : "?";
}

static void dump_roles(const struct bl_cell *row, int n, struct bl_str *out)
{
	const char *sep = "    ";

	for (int i = 0; i < n;) {
		int start = i;

		while (i < n && row[i].role == row[start].role && row[i].attr == row[start].attr)
			i++;
		if (row[start].role == BL_ROLE_TEXT && !row[start].attr)
			continue;
		bl_str_addf(out, "%s%d-%d %s", sep, start, i - 1, role_name(row[start].role));
		if (row[start].attr)
			bl_str_addf(out, "/%s%s%s%s", row[start].attr & BL_ATTR_BOLD ? "b" : "",
				    row[start].attr & BL_ATTR_REVERSE ? "r" : "",
				    row[start].attr & BL_ATTR_UNDERLINE ? "u" : "",
				    row[start].attr & BL_ATTR_DIM ? "d" : "");
		sep = ", ";
	}
	if (sep[0] == ',')
		bl_str_addc(out, '\n');
}

void bl_grid_dump(const struct bl_grid_s *g, struct bl_str *out, bool with_roles)
{
	for (int r = 0; r < g->rows; r++) {
		const struct bl_cell *row = &g->cells[(size_t)r * (size_t)g->cols];
		int n = g->cols;

		while (n > 0 && row[n - 1].ch == ' ')
			n--;
		for (int i = 0; i < n; i++) {
			utf8proc_uint8_t utf8[4];

			if (row[i].width)
				bl_str_addn(out, utf8, (size_t)utf8proc_encode_char((utf8proc_int32_t)row[i].ch, utf8));
		}
		bl_str_addc(out, '\n');
		if (with_roles)
			dump_roles(row, g->cols, out);
	}
}
