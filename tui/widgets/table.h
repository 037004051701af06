/* SPDX-License-Identifier: Apache-2.0
 * Lists: a cursor that the movement actions move and that stays in view, and tables of columns (headings, alignment,
 * what fits). */
#ifndef BL_TUI_TABLE_H
#define BL_TUI_TABLE_H

#include "tui/action.h"
#include "tui/grid.h"

struct bl_list {
	int row, top;
};

/* Runs a movement action (down, up, pages, top, bottom; arg: a count) over n rows of which `visible` fit.
 * BL_REACT_UNKNOWN for other actions. */
unsigned bl_list_act(struct bl_list *l, enum bl_action a, const char *arg, int n, int visible);
/* Keeps the cursor inside n rows and in view. */
void bl_list_fit(struct bl_list *l, int n, int visible);
/* Case-insensitive search (ASCII) in text(ctx, row), starting after (or, backwards, before) the cursor and going round;
 * moves the cursor and returns true when found. */
bool bl_list_search(struct bl_list *l, int n, const char *needle, bool backwards,
		    void (*text)(void *ctx, int row, struct bl_str *out), void *ctx);

enum bl_align { BL_LEFT, BL_RIGHT };
struct bl_column {
	const char *title; /* UTF-8, with the unit */
	int width;         /* columns; 0: takes the rest */
	enum bl_align align;
	int fit; /* 0: always; larger: dropped first when the width is short */
	const char *help;
};
struct bl_cell_text {
	char text[512];
	enum bl_role role;
};

struct bl_table {
	const struct bl_column *columns;
	int n_columns;
	/* Text of a cell; `out` is empty and has the role TEXT. */
	void (*cell)(void *ctx, int row, int column, struct bl_cell_text *out);
	void *ctx;
	int n_rows;
	const char *match; /* text to underline, may be NULL */
};
/* Heading in the first row of v, then rows from l->top with the cursor marked by '>' and a bar. */
void bl_table_draw(struct bl_grid_s *g, struct bl_grid_view v, const struct bl_table *t, struct bl_list *l);

#endif
