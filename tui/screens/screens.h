/* SPDX-License-Identifier: Apache-2.0
 * What screens share: their rows (for screens.c) and the text of numbers that several of them show. */
#ifndef BL_TUI_SCREENS_H
#define BL_TUI_SCREENS_H

#include "tui/app.h"

extern const struct bl_screen bl_screen_welcome, bl_screen_layers, bl_screen_unit, bl_screen_snapshots, bl_screen_export,
	bl_screen_problems, bl_screen_config, bl_screen_jobs, bl_screen_log, bl_screen_help;

/* Weight-only error of a unit under a choice in dB: "-41.2", "…" while it is computed, "·" when it does not apply, "refused". dst >= 24 bytes. */
char *bl_screen_error_text(struct bl_app *app, int unit, const struct bl_choice *c, char *dst);
/* Same as a number for sorting: NAN unless known. */
double bl_screen_error_db(struct bl_app *app, int unit, const struct bl_choice *c);
/* A number with `decimals` so that decimal points line up in a column `width` wide; exponent form when it does not fit. */
char *bl_screen_number(char *dst, size_t cap, double v, int width, int decimals);

#endif
