/* SPDX-License-Identifier: Apache-2.0
 * Columns of the layers screen as a table: adding one is one row and one function. */
#ifndef BL_TUI_LAYERS_COLUMNS_H
#define BL_TUI_LAYERS_COLUMNS_H

#include "tui/app.h"

struct bl_layer_cell { char text[96]; enum bl_role role; };

struct bl_layer_column {
	const char *name;     /* for :columns and :sort */
	const char *title;    /* UTF-8; unit of the numbers included */
	int width;            /* columns on screen */
	bool left;            /* left-aligned text; numbers are right-aligned with equal decimals */
	bool bar_before;      /* a vertical rule stands before it */
	int fit;              /* 1: always shown; larger: shown when the terminal is wide enough, in this order; 0: not shown by itself */
	int fit_calib;        /* the same once the model was calibrated: then other columns matter; 0: not shown by itself */
	void (*cell)(struct bl_app *app, int unit, struct bl_layer_cell *out);
	/* Value to sort by: NAN sorts last. NULL: not sortable. */
	double (*key)(struct bl_app *app, int unit);
	const char *help;
};

/* NULL past the end. */
const struct bl_layer_column *bl_layer_column(int i);
const struct bl_layer_column *bl_layer_column_find(const char *name);
/* What stands above it now: the error column says which error it is. */
const char *bl_layer_column_title(const struct bl_app *app, const struct bl_layer_column *c);
/* The columns to show: the user's comma-separated names, or what fits into `cols` and is of interest: calibrated (or being so) other ones. Returns how many (<= cap). The spark column, when
 * chosen, is last and takes the rest of the width. */
int bl_layer_columns_choose(const char *names, bool calibrated, int cols, const struct bl_layer_column **out, int cap);

#endif
