/* SPDX-License-Identifier: Apache-2.0
 * A small calibration of the demo model, for the tests of what stands on one. */
#ifndef BL_TESTS_UNIT_SESSION_LIVE_SUPPORT_H
#define BL_TESTS_UNIT_SESSION_LIVE_SUPPORT_H

#include "core/session/run.h"
#include "support.h"

#define WINDOWS 6
#define LENGTH  48

extern char data_file[96];

int live_setup(void **state);                            /* support_setup, caches of its own, a data file */
const char *live_device(void);                            /* BL_TEST_DEVICE, else the processor */
const char *live_program_dir(void);
struct bl_session *open_live(const char *what);          /* on live_device, cache in test_dir */
struct bl_calib_request small_request(int64_t keep);     /* files borrowed: not to be freed */
void calibrate_small(struct bl_session *s, int64_t keep); /* and waits */
struct bl_choice choice_of(const char *scheme, const char *method, const char *params);
void set_text(struct bl_session *s, const char *text);   /* "PATTERN=SCHEME…" + edited */
/* The first error of the plan's own choice for a unit, waited for. */
double error_of(struct bl_session *s, int unit, const struct bl_choice *c, bool *with_activations);
struct bl_effect effect_of(struct bl_session *s);        /* measured, waited for */

#endif
