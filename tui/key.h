/* SPDX-License-Identifier: Apache-2.0
 * Names of keys. One spelling each: a character by itself ("j", "é"), "C-x" with Control, "M-x" with Alt, and names in
 * angle brackets
 * ("<Enter>", "<S-Tab>", "C-<Up>"). The decoder makes them, keymaps and scripts are checked against them. */
#ifndef BL_TUI_KEY_H
#define BL_TUI_KEY_H

#include <stdbool.h>
#include <stddef.h>

#define BL_KEY_MAX 24 /* bytes with NUL */

/* The one spelling of what somebody wrote ("<space>", " ", "ctrl+x" is not accepted); false when it is no key. */
bool bl_key_parse(char dst[BL_KEY_MAX], const char *text);
/* Name i of the keys in angle brackets, NULL past the end: "Enter" ... "F12". */
const char *bl_key_name(int i);
/* The character a key types ("<Space>" types a blank), NULL when it types nothing. */
const char *bl_key_typed(const char *key);
/* As people read it: "Space", "Enter", "^C", "j". dst >= BL_KEY_MAX. Returns dst. */
char *bl_key_label(char *dst, const char *key);

#endif
