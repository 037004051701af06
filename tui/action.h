/* SPDX-License-Identifier: Apache-2.0
 * Actions: everything a person can do in the workbench. One list (action_list.h) makes the enum, the `:` commands with their completion, the key table behind `?`,
 * the last line of every screen and the manual. Default keys are text in keymap_default.conf, which goes through the same parser as the user's file. An action
 * returns reactions; it never draws. */
#ifndef BL_TUI_ACTION_H
#define BL_TUI_ACTION_H

#include <stdint.h>

#include "core/base/err.h"

enum bl_action {
#define BL_ACTION(id, name, args, group, screens, sentence) BL_ACT_##id,
#include "tui/action_list.h"
#undef BL_ACTION
	BL_ACTION_COUNT
};

enum bl_reaction { BL_REACT_NONE = 0, BL_REACT_REDRAW = 1, BL_REACT_EDITED = 2, BL_REACT_QUIT = 4, BL_REACT_UNKNOWN = 8 };

struct bl_action_row {
	const char *name;     /* "set": the `:` command */
	const char *args;     /* "PATTERN=SCHEME[:METHOD]", "" none: shown in help, drives completion (PATTERN, SCHEME, FILE, SNAPSHOT, THEME, TARGET, COLUMN …) */
	const char *group;    /* "Move", "Choose", "Plan", "Work", "Look", "Program" */
	const char *screens;  /* "*" or space separated screen names */
	const char *sentence; /* help, manual */
};
const struct bl_action_row *bl_action_row(enum bl_action a);
int bl_action_find(const char *name); /* -1: none */

struct bl_app;
/* Runs an action: the screen's own handler first, then the program's. arg may be "". */
unsigned bl_action_run(struct bl_app *app, enum bl_action a, const char *arg);
/* ":text" as typed. Unknown or ambiguous names become an error message on screen. */
unsigned bl_action_run_text(struct bl_app *app, const char *text);

#endif
