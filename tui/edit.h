/* SPDX-License-Identifier: Apache-2.0
 * Edits of the plan as screens make them: one undo step, one message that says what happened (how many changed, how many were locked,
 * what the serving target says about it). */
#ifndef BL_TUI_EDIT_H
#define BL_TUI_EDIT_H

#include <stdint.h>

#include "tui/app.h"

/* units[n_units] nonzero = selected. Each returns reactions. */
unsigned bl_edit_scheme(struct bl_app *app, const uint8_t *selected, const struct bl_scheme *scheme);
unsigned bl_edit_scheme_text(struct bl_app *app, const uint8_t *selected, const char *text);
/* Of a checkpoint that is quantized already nothing is chosen: true, and the message says so. */
bool bl_edit_is_quantized(struct bl_app *app);
/* "METHOD[,key=value...]" */
unsigned bl_edit_method_text(struct bl_app *app, const uint8_t *selected, const char *text);
/* Locks all when any is unlocked, else unlocks all. */
unsigned bl_edit_lock(struct bl_app *app, const uint8_t *selected);
/* The scheme an action stands for (BL_ACT_SCHEME_W8A8 ...), NULL for other actions. */
const struct bl_scheme *bl_edit_scheme_of(enum bl_action a);
/* Role that a scheme is painted in. */
enum bl_role bl_edit_scheme_role(const struct bl_scheme *s);
/* "11 gate_up" of a unit; dst >= 32 bytes. Returns dst. */
char *bl_edit_unit_label(const struct bl_app *app, int unit, char *dst);
/* Is `text` part of what the row of a unit says, or of its full name? Upper and lower case are the same. */
bool bl_edit_unit_says(const struct bl_app *app, int unit, const char *text);
/* Units to look at, into selected [n_units]: a pattern, or what is part of what they say. An error when there are none. */
enum bl_status bl_edit_find(const struct bl_app *app, const char *text, uint8_t *selected, struct bl_err *err);

#endif
