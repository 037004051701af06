/* SPDX-License-Identifier: Apache-2.0
 * Panes of the unit screen: its weights and what flows into it. Each draws into v, and says what is missing where nothing is known yet. */
#ifndef BL_TUI_UNIT_PANES_H
#define BL_TUI_UNIT_PANES_H

#include "tui/app.h"

enum bl_unit_pane { BL_PANE_HISTOGRAM, BL_PANE_OUT, BL_PANE_IN, BL_PANE_INPUT, BL_PANE_TOKENS, BL_PANE_MAP, BL_PANE_ERRORS, BL_PANE_BLOCKS, BL_PANE_MEMBERS, BL_PANE_COUNT };

const char *bl_unit_pane_name(int pane);
void bl_unit_pane_draw(struct bl_app *app, int unit, int pane, bool log, struct bl_grid_s *g, struct bl_grid_view v);
void bl_unit_errors_pane(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v); /* unit_pictures.c */
void bl_unit_blocks_pane(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v);
/* "input ▁▂▇█ 0 … 38.9 …" and "channels by |x|·|w| …", one row each. */
void bl_unit_input_line(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v, int y);
void bl_unit_channels_line(struct bl_app *app, int unit, struct bl_grid_s *g, struct bl_grid_view v, int y);

#endif
