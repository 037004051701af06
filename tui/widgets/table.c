/* SPDX-License-Identifier: Apache-2.0
 * Lists and tables. The cursor is a mark and a bar, never colour alone. */
#include "tui/widgets/table.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define COLUMNS_MAX 24

void bl_list_fit(struct bl_list *l, int n, int visible)
{
	if (visible < 1)
		visible = 1;
	if (l->row >= n)
		l->row = n - 1;
	if (l->row < 0)
		l->row = 0;
	if (l->top > l->row)
		l->top = l->row;
	if (l->top < l->row - visible + 1)
		l->top = l->row - visible + 1;
	if (l->top > n - visible)
		l->top = n - visible;
	if (l->top < 0)
		l->top = 0;
}

static int count_of(const char *arg)
{
	long v = arg && *arg ? strtol(arg, NULL, 10) : 1;

	return v < 1 ? 1 : v > 1000000 ? 1000000 : (int)v;
}

unsigned bl_list_act(struct bl_list *l, enum bl_action a, const char *arg, int n, int visible)
{
	int page = visible > 1 ? visible - 1 : 1, half = visible > 2 ? visible / 2 : 1;

	switch (a) {
	case BL_ACT_DOWN:
		l->row += count_of(arg);
		break;
	case BL_ACT_UP:
		l->row -= count_of(arg);
		break;
	case BL_ACT_PAGE_DOWN:
		l->row += page;
		break;
	case BL_ACT_PAGE_UP:
		l->row -= page;
		break;
	case BL_ACT_HALF_DOWN:
		l->row += half;
		break;
	case BL_ACT_HALF_UP:
		l->row -= half;
		break;
	case BL_ACT_TOP:
		l->row = 0;
		break;
	case BL_ACT_BOTTOM:
		l->row = n - 1;
		break;
	default:
		return BL_REACT_UNKNOWN;
	}
	bl_list_fit(l, n, visible);
	return BL_REACT_REDRAW;
}

bool bl_list_search(struct bl_list *l, int n, const char *needle, bool backwards,
		    void (*text)(void *ctx, int row, struct bl_str *out), void *ctx)
{
	struct bl_str s = { 0 };
	bool found = false;

	for (int i = 1; i <= n && !found && *needle; i++) {
		int row = (int)(((int64_t)l->row + (backwards ? n - i : i)) % n);

		bl_str_clear(&s);
		text(ctx, row, &s);
		if (strcasestr(bl_str_c(&s), needle)) {
			l->row = row;
			found = true;
		}
	}
	bl_str_free(&s);
	return found;
}

/* Which columns fit: those with the largest `fit` go first. Returns the width left for the column of width 0. */
static int choose(const struct bl_table *t, int cols, bool *shown)
{
	int used = 2, rest = 0;

	for (int i = 0; i < t->n_columns; i++) {
		shown[i] = true;
		rest += t->columns[i].width == 0;
		used += t->columns[i].width ? t->columns[i].width + 1 : 12;
	}
	while (used > cols) {
		int worst = -1;

		for (int i = 0; i < t->n_columns; i++)
			if (shown[i] && t->columns[i].fit && (worst < 0 || t->columns[i].fit >= t->columns[worst].fit))
				worst = i;
		if (worst < 0)
			break;
		shown[worst] = false;
		used -= t->columns[worst].width ? t->columns[worst].width + 1 : 12;
	}
	return cols - used + 12 * rest > 4 ? cols - used + 12 * rest - 1 : 4;
}

static void underline(struct bl_grid_s *g, int row, int col, const char *text, const char *needle)
{
	const char *at = text;
	size_t len = needle ? strlen(needle) : 0;
	char before[512];

	while (len && (at = strcasestr(at, needle))) {
		size_t n = (size_t)(at - text);
		char hit[512];

		if (n >= sizeof before || len >= sizeof hit)
			return;
		memcpy(before, text, n);
		before[n] = '\0';
		memcpy(hit, at, len);
		hit[len] = '\0';
		bl_grid_paint(g, row, col + bl_text_width(before), bl_text_width(hit), BL_ROLE_MATCH,
			      BL_ATTR_UNDERLINE);
		at += len;
	}
}

static void draw_row(struct bl_grid_s *g, struct bl_grid_view v, const struct bl_table *t, const bool *shown, int rest,
		     int y, int row)
{
	int x = v.col + 2;

	for (int i = 0; i < t->n_columns; i++) {
		const struct bl_column *c = &t->columns[i];
		int width = c->width ? c->width : rest;
		struct bl_cell_text cell = { "", row < 0 ? BL_ROLE_HEADING : BL_ROLE_TEXT };

		if (!shown[i])
			continue;
		if (width > v.col + v.cols - x)
			width = v.col + v.cols - x;
		if (row >= 0)
			t->cell(t->ctx, row, i, &cell);
		else
			strncat(cell.text, c->title, sizeof cell.text - 1);
		if (c->align == BL_RIGHT)
			bl_grid_text_right(g, y, x + width, width, cell.role, 0, cell.text);
		else
			bl_grid_text(g, y, x, width, cell.role, 0, cell.text);
		if (row >= 0 && c->align == BL_LEFT)
			underline(g, y, x, cell.text, t->match);
		x += width + 1;
	}
}

void bl_table_draw(struct bl_grid_s *g, struct bl_grid_view v, const struct bl_table *t, struct bl_list *l)
{
	bool shown[COLUMNS_MAX] = { 0 };
	int rest, visible = v.rows - 1;

	if (v.rows < 1 || t->n_columns > COLUMNS_MAX)
		return;
	rest = choose(t, v.cols, shown);
	draw_row(g, v, t, shown, rest, v.row, -1);
	bl_list_fit(l, t->n_rows, visible);
	for (int i = 0; i < visible && l->top + i < t->n_rows; i++) {
		int y = v.row + 1 + i;

		draw_row(g, v, t, shown, rest, y, l->top + i);
		if (l->top + i == l->row) {
			bl_grid_text(g, y, v.col, 1, BL_ROLE_SELECTED, 0, ">");
			bl_grid_paint(g, y, v.col, v.cols, BL_ROLE_SELECTED, 0);
		}
	}
}
