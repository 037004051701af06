/* SPDX-License-Identifier: Apache-2.0
 * Keys from a file instead of a terminal (--keys FILE --size COLSxROWS [--frames DIR]). The file: words separated by
 * blanks and lines,
 *
 *     j <Enter> C-d          keys, as in keymaps
 *     "down=W4A16" <Enter>   text to type; \" and \\ inside
 *     wait                   until no job runs (and the screen has what it asked for); wait-stats: until all weights
 * are read resize 100x30          columns x rows dump                   appends the screen as it is to the output #
 * comment to the end of the line
 *
 * A word that is no key is an error with its line. */
#ifndef BL_TUI_SCRIPT_H
#define BL_TUI_SCRIPT_H

#include "tui/app.h"

struct bl_script {
	const char *keys_path; /* "-": stdin */
	int rows, cols;
	const char *frames_dir; /* every frame as NNNN.txt; NULL: none */
	enum bl_status (*stopped)(const void *ctx, struct bl_err *err); /* asked between keys and while waiting; NULL: nothing stops it */
	const void *ctx;
	bool ascii, with_roles; /* roles: looks behind the text, for tests of themes */
};

/* "80x24" */
enum bl_status bl_script_size(const char *text, int *rows, int *cols, struct bl_err *err);
/* Makes an app, opens `what` (NULL: the list of checkpoints), plays, appends dumps and the final screen to `out`. */
enum bl_status bl_script_run(const struct bl_script *s, struct bl_settings *settings,
			     const struct bl_session_options *o, const char *what, struct bl_str *out,
			     struct bl_err *err);
/* Plays a text into an app that exists. */
enum bl_status bl_script_play(struct bl_app *app, const struct bl_script *s, const char *text, size_t n,
			      struct bl_str *out, struct bl_err *err);

#endif
