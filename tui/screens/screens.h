/* SPDX-License-Identifier: Apache-2.0
 * What screens share: their rows (for screens.c) and the text of numbers that several of them show. */
#ifndef BL_TUI_SCREENS_H
#define BL_TUI_SCREENS_H

#include "tui/app.h"
#include "tui/form.h"
#include "tui/widgets/table.h"

extern const struct bl_screen bl_screen_welcome, bl_screen_layers, bl_screen_unit, bl_screen_snapshots, bl_screen_export,
	bl_screen_problems, bl_screen_config, bl_screen_jobs, bl_screen_log, bl_screen_help,
	bl_screen_calibrate, bl_screen_evaluate, bl_screen_methods, bl_screen_parameters, bl_screen_budget;

/* Whether errors are those of the layer's output on the calibration set; else of the weights alone. Headings say which. */
bool bl_screen_errors_are_true(const struct bl_app *app);
/* Error of a unit under a choice in dB: "-41.2", "…" while it is computed, "·" when it does not apply, "refused". dst >= 24 bytes. */
char *bl_screen_error_text(struct bl_app *app, int unit, const struct bl_choice *c, char *dst);
/* Same as a number for sorting: NAN unless known. */
double bl_screen_error_db(struct bl_app *app, int unit, const struct bl_choice *c);
/* A number with `decimals` so that decimal points line up in a column `width` wide; exponent form when it does not fit. */
char *bl_screen_number(char *dst, size_t cap, double v, int width, int decimals);
/* KL of the unit alone at a choice x 1000: "1.10", "~1.1", "…", "·". want: asks for the measurement. dst >= 24 bytes. */
char *bl_screen_kl_text(struct bl_app *app, int unit, const struct bl_choice *c, bool want, char *dst);
bool bl_screen_kl_is_cheap(struct bl_app *app); /* so that it may be measured for all that is seen */
double bl_screen_kl(struct bl_app *app, int unit, const struct bl_choice *c); /* for sorting: NAN unless known */
/* A histogram of an input (its bins or token_bins) as counts of `per` bins each (8: a power of two), the one with the largest value last; what is smaller
 * than the first goes into it. */
void bl_screen_input_bins(const uint64_t *bins, uint64_t *counts, int n, int per);
/* The same as one line of cols <= 12 characters. Returns dst. */
char *bl_screen_input_spark(const struct bl_app *app, const struct bl_input_stats *x, int cols, char *dst, size_t cap);
char *bl_screen_gib(char dst[24], uint64_t bytes); /* "9.1 GiB", "120 MiB" */
/* The end of a name that is wider than cols, in place, with an ellipsis before it. */
char *bl_screen_tail(char *name, int cols);

/* Units as an argument of a screen: "3,7,11" from marks [n units], and back (NULL when none is left; bl_free). first: the smallest. */
char *bl_screen_units_text(const struct bl_app *app, const uint8_t *selected);
uint8_t *bl_screen_units_from(const struct bl_app *app, const char *text, int *n, int *first);
/* m: methods side by side for these units; R: a method's parameters. text: METHOD[,key=value], "" for what the first of them has. */
unsigned bl_screen_open_methods(struct bl_app *app, const uint8_t *selected);
unsigned bl_screen_open_parameters(struct bl_app *app, const uint8_t *selected, const char *text);
/* r: the units' own choices, as a job. */
unsigned bl_screen_solve(struct bl_app *app, const uint8_t *selected);

/* Rows of forms: label, value, what it means; the cursor; changing (arg "": asks, or turns a flag). */
void bl_screen_field(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, int y, const struct bl_form_field *f, const void *request,
		     const char *help);
void bl_screen_cursor(struct bl_app *app, struct bl_grid_s *g, struct bl_grid_view v, int y);
void bl_screen_change(struct bl_app *app, const struct bl_form_field *f, void *request, const char *arg);

/* The three search actions of a screen with a list; `search` keeps what was asked for. none: what begins the sentence when no row has it ("no key"). */
unsigned bl_screen_search(struct bl_app *app, struct bl_list *l, int n, char search[128], enum bl_action a, const char *arg,
			  void (*text)(void *ctx, int row, struct bl_str *out), void *ctx, const char *none);

#endif
