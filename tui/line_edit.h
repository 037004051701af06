/* SPDX-License-Identifier: Apache-2.0
 * One line of text being typed, with the keys of a shell. Knows no screen. */
#ifndef BL_TUI_LINE_EDIT_H
#define BL_TUI_LINE_EDIT_H

#include <stdbool.h>
#include <stddef.h>

#define BL_LINE_MAX 4096 /* bytes with NUL */

struct bl_line {
	char text[BL_LINE_MAX];
	char cut[BL_LINE_MAX]; /* what C-w, C-u, C-k took away, for C-y */
	size_t len, cursor;    /* bytes; the cursor stands between characters */
};

void bl_line_set(struct bl_line *l, const char *text);
/* True when the key belongs to the line (typing, moving, deleting). */
bool bl_line_key(struct bl_line *l, const char *key);
/* Inserts text at the cursor; control characters become blanks, what does not fit is left out. */
void bl_line_insert(struct bl_line *l, const char *text);
/* Replaces bytes [from, cursor) by text. */
void bl_line_replace(struct bl_line *l, size_t from, const char *text);

#endif
