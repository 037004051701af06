/* SPDX-License-Identifier: Apache-2.0
 * A screen: a constant row of functions plus private state that the framework allocates (state_bytes, zeroed) and frees. Screens draw into the body
 * rectangle (and give the text of the fixed lines); they keep their cursor when covered by another screen, so Back returns to the same row. */
#ifndef BL_TUI_SCREEN_H
#define BL_TUI_SCREEN_H

#include "tui/action.h"
#include "tui/grid.h"

struct bl_app;

struct bl_screen {
	const char *name;                 /* "layers": as in action_list.h and keymap contexts */
	const char *title;
	const char *footer;               /* action names for the last line, most useful first: "tag w8a8+w4a16=scheme open=start help"; after =: what it is
					   * called here, +: keys of several actions under one name */
	const char *(*footer_now)(const void *state); /* instead of it, where a screen shows something else for a while; NULL or returns NULL: it stays */
	size_t state_bytes;
	void (*enter)(struct bl_app *app, void *state, const char *arg); /* arg: "11.down", a file …; may be NULL */
	void (*leave)(struct bl_app *app, void *state);                  /* frees what enter allocated */
	void (*draw)(struct bl_app *app, void *state, struct bl_grid_s *g, struct bl_grid_view body);
	/* Returns BL_REACT_UNKNOWN when the action is not the screen's business. */
	unsigned (*act)(struct bl_app *app, void *state, enum bl_action a, const char *arg);
	/* Text of the row under the cursor (copy). May be NULL. */
	void (*row_text)(struct bl_app *app, void *state, struct bl_str *out);
	void (*tick)(struct bl_app *app, void *state); /* once per turn of the loop while it is on top; may be NULL */
};
extern const struct bl_screen *const bl_screens[]; /* NULL-terminated; screens/screens.c */

#endif
