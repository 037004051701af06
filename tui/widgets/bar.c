/* SPDX-License-Identifier: Apache-2.0
 * Bars, drawn character by character so that the filled and the empty part have their own roles. */
#include "tui/widgets/bar.h"

#include <math.h>

static const uint32_t eighths[] = { 0, 0x258F, 0x258E, 0x258D, 0x258C, 0x258B, 0x258A, 0x2589 };

int bl_bar_draw_plain(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, double share)
{
	int full, part;

	if (!(share > 0) || cols <= 0)
		return 0;
	if (share > 1)
		share = 1;
	full = (int)(share * cols);
	part = (int)((share * cols - full) * 8);
	if (g->ascii) {
		full = (int)lround(share * cols);
		part = 0;
	}
	bl_grid_fill(g, row, col, full, role, 0, 0x2588);
	if (part && full < cols)
		bl_grid_fill(g, row, col + full++, 1, role, 0, eighths[part]);
	return full;
}

void bl_bar_draw(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, double share)
{
	int used = bl_bar_draw_plain(g, row, col, cols, role, share);

	bl_grid_fill(g, row, col + used, cols - used, BL_ROLE_BAR_EMPTY, 0, 0x2591);
}
