/* SPDX-License-Identifier: Apache-2.0
 * The loop of the workbench on a terminal. */
#ifndef BL_TUI_APP_LOOP_H
#define BL_TUI_APP_LOOP_H

#include "tui/app.h"

/* Runs until the user leaves. BL_OK; BL_CANCELLED after SIGINT, BL_TERMINATED after SIGTERM, SIGHUP or a lost terminal
 * (the plan is autosaved); BL_USAGE without a usable terminal. The terminal is as before afterwards. */
enum bl_status bl_app_loop(struct bl_app *app, struct bl_err *err);

/* All of it: makes the app for this terminal, opens `what` (a model or plan; NULL: the list of checkpoints), runs the
 * loop, closes. */
enum bl_status bl_workbench(struct bl_settings *settings, const struct bl_session_options *o, const char *what,
			    struct bl_err *err);

#endif
