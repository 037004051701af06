/* SPDX-License-Identifier: Apache-2.0
 * The export screen comes and goes, its job stays: progress, failure and proof are there when one comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "tests/unit/tui/support.h"

static enum bl_status hold(struct bl_job *j, void *ctx, struct bl_err *err)
{
	(void)err;
	while (!atomic_load((atomic_int *)ctx) && !bl_job_checkpoint(j))
		usleep(1000);
	return BL_OK;
}

static void the_proof_is_there_after_coming_back(void **state)
{
	struct bl_app *app = test_app(24, 80, true);
	atomic_int end = 0;
	const struct bl_job_ops ops = { .name = "evaluate", .lane = BL_LANE_MAIN, .run = hold };

	(void)state;
	test_press(app, "wait");
	bl_jobs_add(app->session->jobs, &ops, &end, NULL);
	test_press(app, "8 x n C-u \"mine.zip\" <Enter> <Enter>");
	assert_true(test_shows(app, "waits for the job before it"));
	test_press(app, "q x");
	assert_true(test_shows(app, "mine.zip"));
	assert_true(test_shows(app, "waits for the job before it"));
	test_press(app, "<Enter>"); /* not a second one */
	assert_true(test_shows(app, "queued already"));
	test_press(app, "<Esc> q");
	atomic_store(&end, 1);
	test_press(app, "wait x");
	assert_true(test_shows(app, "mine.zip"));
	assert_true(test_shows(app, "nothing missing or surplus"));
	assert_true(bl_is_file("mine.zip"));
	test_press(app, "n C-u \"other.zip\" <Enter>"); /* another name: another export */
	assert_false(test_shows(app, "nothing missing or surplus"));
	test_drop(app);
}

static void what_needs_a_calibration_says_so_before_it_starts(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "= \"0-3=W8A8:gptq\" <Enter> x");
	assert_true(test_shows(app, "16 need a calibration"));
	assert_true(test_shows(app, "c runs the model over data"));
	test_press(app, "<Enter>");
	assert_true(test_shows(app, "16 units: the method needs a calibration first"));
	assert_int_equal(bl_app_find_job(app, "export", &(struct bl_job_view){ 0 }), false);
	test_press(app, "<Esc> u");
	assert_true(test_shows(app, "nothing needs it"));
	test_drop(app);
}

static void a_failure_is_not_of_the_next_export(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "8 x n C-u \"no/such/folder/x.zip\" <Enter> <Enter> wait");
	assert_true(test_shows(app, "Nothing was left behind"));
	test_press(app, "<Esc> q x");
	assert_false(test_shows(app, "Nothing was left behind"));
	assert_true(test_shows(app, "no/such/folder/x.zip"));
	test_drop(app);
}

/* An export opened again: what is in the file is shown as that, and nothing can be chosen for it. */
static void a_quantized_checkpoint_is_looked_at(void **state)
{
	static const char *const keys[] = { "8", "a \"W8A8\" <Enter>", "m", "R", "r", "= \"all=W8A8\" <Enter>", "<Enter> 8", "<Enter> j <Enter>", ": \"method gptq\" <Enter>" };
	struct bl_app *app = test_app(24, 80, true);
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	test_press(app, ": \"preset W4A16\" <Enter> x d n C-u \"q4\" <Enter> <Enter> wait");
	assert_int_equal(bl_app_open(app, "q4", &err), BL_OK);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		test_press(app, keys[i]);
		assert_true(test_shows(app, "already quantized"));
		assert_false(bl_plan_dirty(app->session->plan));
		test_press(app, "<Esc>");
		if (strcmp(bl_app_top(app)->name, "layers") != 0)
			test_press(app, "<Esc>");
	}
	test_press(app, "<Enter> wait");
	assert_true(test_shows(app, "← in file"));
	assert_true(test_shows(app, "quantized in the file"));
	assert_false(test_shows(app, "reading the weights"));
	assert_false(test_shows(app, "← plan"));
	test_drop(app);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_proof_is_there_after_coming_back),
		cmocka_unit_test(what_needs_a_calibration_says_so_before_it_starts),
		cmocka_unit_test(a_failure_is_not_of_the_next_export),
		cmocka_unit_test(a_quantized_checkpoint_is_looked_at),
	};

	return cmocka_run_group_tests(tests, test_enter_folder, test_leave_folder);
}
