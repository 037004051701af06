/* SPDX-License-Identifier: Apache-2.0
 * The screen as data: rows x cols cells, each a character, a role (what it means; the theme decides how it looks) and attributes.
 * Screens draw into a grid and know no terminal; the grid is printed by curses_out.c, dumped by tests and by --keys. Text is UTF-8; in ASCII
 * mode the grid replaces what has no ASCII form through the glyph table. Control characters are never stored (they become '?').
 * Everything clips; nothing here fails. */
#ifndef BL_TUI_GRID_H
#define BL_TUI_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/str.h"
#include "tui/roles.h"

enum bl_attr { BL_ATTR_BOLD = 1, BL_ATTR_REVERSE = 2, BL_ATTR_UNDERLINE = 4, BL_ATTR_DIM = 8 };

struct bl_cell { uint32_t ch; uint8_t role, attr, width; }; /* width 0: right half of a wide character */
struct bl_grid_view { int row, col, rows, cols; };         /* a rectangle to draw in */

struct bl_grid_s { struct bl_cell *cells; int rows, cols; bool ascii; int cursor_row, cursor_col; /* -1: hidden */ };

void bl_grid_init(struct bl_grid_s *g, int rows, int cols, bool ascii);
void bl_grid_free(struct bl_grid_s *g);
void bl_grid_clear(struct bl_grid_s *g);
/* Draws text at (row, col) in at most max_cols columns (ellipsis "…"/"~" when cut and max_cols > 3); returns columns used. */
int bl_grid_text(struct bl_grid_s *g, int row, int col, int max_cols, enum bl_role role, uint8_t attr, const char *utf8);
int bl_grid_textf(struct bl_grid_s *g, int row, int col, int max_cols, enum bl_role role, uint8_t attr, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));
int bl_grid_text_right(struct bl_grid_s *g, int row, int col_end, int max_cols, enum bl_role role, uint8_t attr, const char *utf8);
void bl_grid_fill(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, uint8_t attr, uint32_t ch);
void bl_grid_hline(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role);
/* Overlays role/attr on existing cells (selection bar). */
void bl_grid_paint(struct bl_grid_s *g, int row, int col, int cols, enum bl_role role, uint8_t attr);
int bl_text_width(const char *utf8); /* columns, 0 for combining marks */
/* Shortens a text that is wider than that many columns: its beginning and "…". cap: of its memory, >= 4. */
void bl_text_cut(char *utf8, size_t cap, int cols);
/* Plain text of the grid, trailing blanks kept off, one line per row; with_roles appends role names per run (for tests of themes). */
void bl_grid_dump(const struct bl_grid_s *g, struct bl_str *out, bool with_roles);

#endif
