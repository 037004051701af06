/* SPDX-License-Identifier: Apache-2.0
 * What the tests of the session share: a folder of their own with the state of a user in it, sessions, copies of the demo model. */
#ifndef BL_TESTS_UNIT_SESSION_SUPPORT_H
#define BL_TESTS_UNIT_SESSION_SUPPORT_H

#include <stdbool.h>

#include "core/session/session.h"

#define DEMO_MODEL BL_SOURCE_DIR "/tests/models/tiny-exaone4"

extern char test_dir[64];

int support_setup(void **state);    /* makes test_dir, puts XDG_STATE_HOME there */
int support_teardown(void **state); /* removes it */

struct bl_session *open_with(const char *what, bool autosave, int threads);
void wait_idle(struct bl_session *s);
void set_all(struct bl_session *s, const char *scheme); /* preset + edited */
char *state_file(const struct bl_session *s);           /* the autosave; bl_free */
/* A copy of the demo model as test_dir/NAME; bl_free. */
char *copy_model(const char *name);
/* Makes the first weight of a unit's first member NaN, in the files under `folder`. */
void plant_nan(const char *folder, int unit);

#endif
