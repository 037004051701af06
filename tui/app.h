/* SPDX-License-Identifier: Apache-2.0
 * The workbench: a stack of screens over one session, the fixed lines, prompts and messages; independent of any terminal. The loop
 * (app_loop.c) feeds it keys and prints its grid; --keys feeds it a script. */
#ifndef BL_TUI_APP_H
#define BL_TUI_APP_H

#include "core/session/session.h"
#include "core/settings/settings.h"
#include "tui/screen.h"
#include "tui/theme.h"

struct bl_app {
	struct bl_session *session;       /* NULL on the welcome screen */
	struct bl_settings *settings;
	struct bl_session_options options;
	struct bl_theme theme;
	struct bl_grid_s grid;
	struct bl_app_private *priv;      /* screen stack, prompt, message, keymap, history */
};

struct bl_app *bl_app_new(struct bl_settings *settings, const struct bl_session_options *o, int rows, int cols, bool ascii);
void bl_app_free(struct bl_app *app);
/* model or plan; NULL: welcome screen. On failure the welcome screen shows the error and it is also returned. */
enum bl_status bl_app_open(struct bl_app *app, const char *what, struct bl_err *err);
void bl_app_resize(struct bl_app *app, int rows, int cols);
/* One decoded key ("j", "C-d", "<Enter>", "<F1>", "<Esc>", "é"). Returns reactions. */
unsigned bl_app_key(struct bl_app *app, const char *key);
void bl_app_draw(struct bl_app *app);    /* into app->grid */
void bl_app_tick(struct bl_app *app);    /* jobs drained, autosave, finished jobs reported */
unsigned bl_app_paste(struct bl_app *app, const char *text); /* goes into a prompt, never into keys */
enum bl_mouse { BL_MOUSE_CLICK, BL_MOUSE_WHEEL_UP, BL_MOUSE_WHEEL_DOWN };
unsigned bl_app_mouse(struct bl_app *app, enum bl_mouse what, int row, int col);
/* History, hints and recent models are read from and kept in the user's state folder (the workbench; not scripts). */
void bl_app_keep_state(struct bl_app *app);
bool bl_app_should_quit(const struct bl_app *app);
bool bl_app_wants_suspend(struct bl_app *app); /* and clears it */
bool bl_app_wants_redraw(struct bl_app *app);  /* full repaint asked for; clears it */
char *bl_app_take_clipboard(struct bl_app *app); /* text to copy by OSC 52, or NULL; bl_free */
int bl_app_timeout_ms(const struct bl_app *app); /* until the next thing of its own accord; -1: never */

/* for screens */
void bl_app_push(struct bl_app *app, const char *screen, const char *arg);
void bl_app_pop(struct bl_app *app);
const struct bl_screen *bl_app_top(const struct bl_app *app);
void *bl_app_state(const struct bl_app *app); /* of the top screen */
enum bl_message_kind { BL_MSG_INFO, BL_MSG_WARN, BL_MSG_ERROR };
const struct bl_screen *bl_app_below(const struct bl_app *app); /* the screen Back leads to, NULL */
/* One sentence above the last line; errors stay until dismissed, infos until the next key; all go to the log. */
void bl_app_message(struct bl_app *app, enum bl_message_kind kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void bl_app_message_err(struct bl_app *app, const struct bl_err *err);
/* What was done now is what the error or warning on the screen asked for: it goes. It stays in the log. */
void bl_app_answered(struct bl_app *app);
/* Asks for a line on the last lines; when accepted runs `then` with the text. initial may be NULL. complete: argument kind for completion ("PATTERN", "FILE", "SCHEME" …), may be NULL. */
void bl_app_prompt(struct bl_app *app, const char *label, const char *initial, const char *complete, enum bl_action then);
/* y/n question on the last lines. */
void bl_app_ask(struct bl_app *app, const char *question, enum bl_action yes, const char *arg);
/* After a change of app->settings that is to be remembered (scripts remember nothing). */
void bl_app_save_settings(struct bl_app *app);
/* After any edit of session->plan. */
void bl_app_edited(struct bl_app *app);
/* "measured 0.41 / ~0.41 / ·": with decimals, right place for the decimal point; dst >= 24 bytes */
char *bl_app_quantity(const struct bl_app *app, char *dst, const struct bl_quantity *q, int decimals);
/* Same for a number that is out of date (the plan changed since) or being computed. */
enum bl_mark { BL_MARK_NONE, BL_MARK_STALE, BL_MARK_COMPUTING };
char *bl_app_quantity_marked(const struct bl_app *app, char *dst, const struct bl_quantity *q, int decimals, enum bl_mark mark);
const char *bl_app_glyph(const struct bl_app *app, const char *utf8, const char *ascii);
/* Keys bound to an action in the current screen, "j, <Down>"; for footers and help. */
char *bl_app_keys_of(const struct bl_app *app, enum bl_action a, char *dst, size_t cap);

#endif
