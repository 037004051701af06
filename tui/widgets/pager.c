/* SPDX-License-Identifier: Apache-2.0
 * The pager. Control characters other than the end of a line become '?' in the grid. */
#include "tui/widgets/pager.h"

#include <string.h>

#include "tui/widgets/table.h"

#define LINE_MAX_BYTES 2048
#define LINES_MAX      100000

/* Bytes of the next screen line of text that fit into cols; *next: where the one after it begins. */
static size_t next_line(const char *text, int cols, const char **next)
{
	size_t len = 0, cut = 0;
	int width = 0;

	while (text[len] && text[len] != '\n' && len < LINE_MAX_BYTES - 8) {
		size_t step = 1;
		char one[8];

		while (step < 4 && ((unsigned char)text[len + step] & 0xC0) == 0x80)
			step++;
		memcpy(one, text + len, step);
		one[step] = '\0';
		if (width + bl_text_width(one) > cols)
			break;
		width += bl_text_width(one);
		len += step;
		if (text[len - 1] == ' ')
			cut = len;
	}
	if (!text[len] || text[len] == '\n') {
		*next = text[len] ? text + len + 1 : text + len;
		return len;
	}
	if (cut > len / 2) /* a blank far to the left would leave the line nearly empty */
		len = cut;
	*next = text + (len ? len : 1);
	return len;
}

int bl_pager_wrap(struct bl_grid_s *g, struct bl_grid_view v, int top, enum bl_role role, const char *text, int most)
{
	int line = 0;

	while (*text && line < most && v.cols > 1) {
		char buffer[LINE_MAX_BYTES];
		const char *next;
		size_t len = next_line(text, v.cols, &next);

		if (g && line >= top && line < top + v.rows) {
			memcpy(buffer, text, len);
			buffer[len] = '\0';
			bl_grid_text(g, v.row + line - top, v.col, v.cols, role, 0, buffer);
		}
		text = next;
		line++;
	}
	return line;
}

void bl_pager_draw(struct bl_grid_s *g, struct bl_grid_view v, struct bl_pager *p, enum bl_role role, const char *text)
{
	p->lines = bl_pager_wrap(NULL, v, 0, role, text, LINES_MAX);
	if (p->top > p->lines - v.rows)
		p->top = p->lines - v.rows;
	if (p->top < 0)
		p->top = 0;
	bl_pager_wrap(g, v, p->top, role, text, p->top + v.rows);
}

unsigned bl_pager_act(struct bl_pager *p, enum bl_action a, const char *arg, int visible)
{
	struct bl_list l = { p->top, p->top };
	unsigned react = bl_list_act(&l, a, arg, p->lines, visible);

	if (react != BL_REACT_UNKNOWN)
		p->top = l.row;
	return react;
}
