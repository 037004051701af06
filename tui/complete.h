/* SPDX-License-Identifier: Apache-2.0
 * Completion. Kinds are the argument texts of the action list: "COMMAND", "PATTERN", "SCHEME", "METHOD[,key=value]",
 * "PATTERN=SCHEME[:METHOD[,key=value]]", "FILE", "SNAPSHOT", "THEME", "TARGET", "COLUMN", "NAMES", "NAME=VALUE",
 * "KEY=VALUE", "UNIT". */
#ifndef BL_TUI_COMPLETE_H
#define BL_TUI_COMPLETE_H

#include "tui/app.h"

#define BL_COMPLETIONS_MAX 400

struct bl_completion {
	char **items; /* whole words that may stand at `from` */
	int n;
	size_t from;    /* byte offset of the word in the text */
	char note[200]; /* "30 units", a range, what is wrong; "" */
	bool bad;       /* the note is a complaint */
};

/* For the text before the cursor. Never fails; frees what *c held. */
void bl_complete(struct bl_app *app, struct bl_completion *c, const char *kind, const char *text, size_t cursor);
void bl_completion_free(struct bl_completion *c);

#endif
