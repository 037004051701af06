/* SPDX-License-Identifier: Apache-2.0
 * A small calibration of the demo model. */
#include "live_support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/file.h"
#include "core/base/mem.h"

char data_file[96];

static const char *const words[] = {"the old house", "stood", "at the end", "of a long road,", "and nobody", "remembered", "who had built it;",
				    "in winter", "the wind came", "through every wall.", "She said", "that two and three", "make five,", "but he only laughed."};

int live_setup(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str text = {0};
	uint32_t turn = 7;

	if (support_setup(state) || setenv("XDG_CACHE_HOME", test_dir, 1))
		return -1;
	for (int i = 0; i < 2500; i++) {
		turn = turn * 1664525 + 1013904223;
		bl_str_addf(&text, "%s%s", i ? " " : "", words[(turn >> 16) % (sizeof words / sizeof *words)]);
	}
	snprintf(data_file, sizeof data_file, "%s/words.txt", test_dir);
	bl_write_file(data_file, bl_str_c(&text), text.len, 0644, &err);
	bl_str_free(&text);
	return err.status ? -1 : 0;
}

const char *live_device(void)
{
	const char *device = getenv("BL_TEST_DEVICE");

	return device ? device : "cpu";
}

const char *live_program_dir(void)
{
	const char *beside = getenv("BL_BUILD_DIR"); /* where the module is */

	return beside ? beside : BL_BUILD_DIR;
}

struct bl_session *open_live(const char *what)
{
	struct bl_session_options o = {.threads = 2, .seed = 42, .program_dir = live_program_dir(), .device = live_device()};
	struct bl_err err = BL_ERR_INIT;
	struct bl_session *s = NULL;

	if (bl_session_open(&s, what, &o, &err))
		fail_msg("%s", err.text);
	return s;
}

struct bl_calib_request small_request(int64_t keep)
{
	static char *files[1];

	files[0] = data_file;
	return (struct bl_calib_request){.files = files, .n_files = 1, .samples = WINDOWS, .seqlen = LENGTH, .hessians = true, .block_inputs = keep > 0, .keep_windows = keep};
}

void calibrate_small(struct bl_session *s, int64_t keep)
{
	struct bl_calib_request r = small_request(keep);
	struct bl_err err = BL_ERR_INIT;

	if (bl_jobs_wait(s->jobs, bl_session_calibrate(s, &r), &err))
		fail_msg("%s", err.text);
	assert_non_null(bl_session_calib(s));
}

struct bl_choice choice_of(const char *scheme, const char *method, const char *params)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_choice c = {.params = (char *)(uintptr_t)params};

	assert_int_equal(bl_scheme_parse(&c.scheme, scheme, &err), BL_OK);
	snprintf(c.method, sizeof c.method, "%s", method);
	return c;
}

void set_text(struct bl_session *s, const char *text)
{
	struct bl_err err = BL_ERR_INIT;

	if (bl_plan_set_text(s->plan, s->model, text, NULL, NULL, &err))
		fail_msg("%s", err.text);
	bl_session_edited(s);
}

double error_of(struct bl_session *s, int unit, const struct bl_choice *c, bool *with_activations)
{
	struct bl_layer_error e = {-1, false};
	char why[160] = "";

	bl_session_layer_error(s, unit, c, &e, why);
	bl_session_wait_live(s);
	if (bl_session_layer_error(s, unit, c, &e, why) != BL_KNOWN_YES)
		fail_msg("unit %d: %s", unit, why);
	if (with_activations)
		*with_activations = e.with_activations;
	return e.rel;
}

struct bl_effect effect_of(struct bl_session *s)
{
	struct bl_effect e;

	bl_session_effect(s, &e);
	bl_session_wait_live(s);
	bl_session_effect(s, &e);
	if (e.kl.origin != BL_MEASURED || e.stale)
		fail_msg("the effect is not measured");
	return e;
}
