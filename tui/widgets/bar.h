/* SPDX-License-Identifier: Apache-2.0
 * Bars: a share of a width, in eighths of a column (ASCII: whole columns of '#'). */
#ifndef BL_TUI_BAR_H
#define BL_TUI_BAR_H

#include "tui/grid.h"

/* share 0..1 (clamped, NaN = 0) of `cols` columns; the rest is painted as the empty bar. */
void bl_bar_draw(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, double share);
/* Same without the empty rest: for lists where the text goes on behind. Returns the columns used. */
int bl_bar_draw_plain(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, double share);

#endif
