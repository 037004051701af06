/* SPDX-License-Identifier: Apache-2.0
 * The terminal apart from what is drawn on it: its size, the signals (through a pipe, so that the loop can wait for
 * them) and the promise that whatever ends the process, the terminal is put back first. */
#ifndef BL_TUI_TERM_H
#define BL_TUI_TERM_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"

/* Characters beyond ASCII only where the locale says UTF-8. glyphs: the setting (auto, ascii, utf8). Sets the locale
 * for characters. */
bool bl_term_wants_ascii(const char *glyphs);
/* Of the terminal, else LINES and COLUMNS, else 24x80. */
void bl_term_size(int *rows, int *cols);

/* Remembers the modes. BL_USAGE without a terminal on stdin and stdout. */
enum bl_status bl_term_open(struct bl_err *err);
/* Installs the handlers; after curses has started, which installs its own. */
void bl_term_take_signals(void);
void bl_term_close(void);
/* Written, besides putting the modes back, when the process dies: async-signal-safe. NULL: nothing to put back now. */
void bl_term_set_restore(const char *bytes);
int bl_term_signal_fd(void);
/* The next signal that arrived, 0: none. */
int bl_term_next_signal(void);
/* Stops the process as C-z does in a shell; returns when it goes on. */
void bl_term_stop_here(void);
/* Puts text into the clipboard of the terminal (OSC 52), through tmux and screen. False when TERM is known not to
 * understand. */
bool bl_term_copy(const char *text);
/* Terminals that understand what xterm understands (pasting in brackets, mouse). */
bool bl_term_is_modern(void);

#endif
