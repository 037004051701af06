/* SPDX-License-Identifier: Apache-2.0
 * A question for a line of text on the last line: editing, history, completion with what it means ("30 units"). */
#ifndef BL_TUI_PROMPT_H
#define BL_TUI_PROMPT_H

#include "tui/complete.h"
#include "tui/line_edit.h"

struct bl_history_line {
	char kind[16];
	char *text;
};
struct bl_history {
	struct bl_history_line *lines;
	size_t n, cap;
};

struct bl_prompt {
	bool on;
	char label[64], kind[64];
	enum bl_action then;
	bool live;             /* runs `then` after every key (filter) */
	char before_live[512]; /* argument to go back to on Esc */
	struct bl_line line;
	struct bl_completion completion;
	int chosen;              /* candidate that Tab put in, -1: none */
	long history;            /* line of the history shown, -1: what was typed */
	char typed[BL_LINE_MAX]; /* kept while walking the history */
};

struct bl_app;
unsigned bl_prompt_key(struct bl_app *app, const char *key);
void bl_prompt_paste(struct bl_app *app, const char *text);
void bl_prompt_close(struct bl_app *app);
/* Draws the question on the last row and what completion knows on the row above it. */
void bl_prompt_draw(struct bl_app *app);

void bl_history_add(struct bl_history *h, const char *kind, const char *text);
void bl_history_free(struct bl_history *h);
/* Text form: one "KIND<Tab>TEXT" a line. */
void bl_history_parse(struct bl_history *h, const char *text);
void bl_history_print(const struct bl_history *h, struct bl_str *out);

#endif
