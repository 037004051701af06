/* SPDX-License-Identifier: Apache-2.0
 * Text that scrolls: broken at blanks or, when a word is longer than the width, anywhere between characters. */
#ifndef BL_TUI_PAGER_H
#define BL_TUI_PAGER_H

#include "tui/action.h"
#include "tui/grid.h"

struct bl_pager {
	int top;
	int lines; /* of the text at the width last drawn */
};

/* Rows that the text takes in `cols` columns, at most `most`; drawn into v from its row `top` on when g is given. */
int bl_pager_wrap(struct bl_grid_s *g, struct bl_grid_view v, int top, enum bl_role role, const char *text, int most);
void bl_pager_draw(struct bl_grid_s *g, struct bl_grid_view v, struct bl_pager *p, enum bl_role role, const char *text);
/* Movement actions; BL_REACT_UNKNOWN for others. */
unsigned bl_pager_act(struct bl_pager *p, enum bl_action a, const char *arg, int visible);

#endif
