/* SPDX-License-Identifier: Apache-2.0
 * What tests of the workbench share: a folder of their own with the demo model as "tiny", the workbench without a terminal, hands and eyes. */
#ifndef TEST_TUI_SUPPORT_H
#define TEST_TUI_SUPPORT_H

#include <stdbool.h>

#include "tui/app_private.h"

extern char test_folder[]; /* its path */
int test_enter_folder(void **state); /* group set-up and tear-down */
int test_leave_folder(void **state);
/* With the demo model, or at the welcome screen. Dropped with test_drop. */
struct bl_app *test_app(int rows, int cols, bool model);
void test_drop(struct bl_app *app);
void test_press(struct bl_app *app, const char *script); /* as --keys plays it */
bool test_shows(struct bl_app *app, const char *text);   /* somewhere on the screen */

#endif
