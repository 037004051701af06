/* SPDX-License-Identifier: Apache-2.0
 * Prints a grid with curses, which sends only what changed. The one place that knows colours of terminals. */
#ifndef BL_TUI_CURSES_OUT_H
#define BL_TUI_CURSES_OUT_H

#include "tui/grid.h"
#include "tui/theme.h"

struct bl_curses;
/* color: the setting (auto, never, 16, 256, truecolor). A missing or unknown TERM falls back to what every terminal
 * understands; one that cannot place its cursor is BL_USAGE with a sentence. */
enum bl_status bl_curses_open(struct bl_curses **out, const char *color, bool mouse, struct bl_err *err);
void bl_curses_close(struct bl_curses *c);
/* all: everything anew. */
void bl_curses_print(struct bl_curses *c, const struct bl_grid_s *g, const struct bl_theme *t, bool all);
void bl_curses_resize(struct bl_curses *c, int rows, int cols);
void bl_curses_leave(struct bl_curses *c); /* before stopping */
void bl_curses_enter(struct bl_curses *c); /* after it */
int bl_curses_colors(const struct bl_curses *c);
/* What the terminal database says of TERM, without starting curses: -1 when it does not know it. */
int bl_curses_terminal_colors(void);
/* After a change of the setting. */
void bl_curses_set_color(struct bl_curses *c, const char *color);

#endif
