/* SPDX-License-Identifier: Apache-2.0
 * Jobs as the workbench shows them: the line with the time left, the question before a cancel and whom it is about, what is asked before leaving. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/tui/support.h"

struct hold { atomic_int end, heard; }; /* heard: a cancel may be noticed */

static enum bl_status hold(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct hold *h = ctx;

	while (!atomic_load(&h->end)) {
		if (atomic_load(&h->heard) && bl_job_checkpoint(j))
			return bl_fail(err, BL_CANCELLED, "stopped");
		bl_job_progress(j, "steps", 1, 1000, "steps");
		usleep(1000);
	}
	return BL_OK;
}

static uint64_t add(struct bl_app *app, const char *name, enum bl_job_lane lane, struct hold *h)
{
	const struct bl_job_ops ops = { .name = name, .lane = lane, .run = hold };

	return bl_jobs_add(app->session->jobs, &ops, h, name);
}

static struct bl_job_view until(struct bl_app *app, uint64_t id, enum bl_job_state state)
{
	struct bl_job_view v = { 0 };

	for (int i = 0; i < 20000; i++, usleep(500))
		if (bl_jobs_view(app->session->jobs, id, &v) && v.state == state)
			return v;
	fail_msg("job never reached state %d", (int)state);
	return v;
}

/* The row that holds a text, as it is on the screen. */
static char *row_with(struct bl_app *app, const char *text, char *dst, size_t cap)
{
	struct bl_str s = { 0 };

	*dst = '\0';
	bl_app_draw(app);
	bl_grid_dump(&app->grid, &s, false);
	bl_str_c(&s);
	for (char *save = NULL, *l = strtok_r(s.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		if (strstr(l, text))
			snprintf(dst, cap, "%s", l);
	bl_str_free(&s);
	return dst;
}

static void the_time_left_is_never_cut_off(void **state)
{
	struct bl_job_view j = { .name = "methods for 0 qkv", .phase = "methods", .unit = "methods", .state = BL_JOB_RUNNING, .done = 2, .total = 14,
				 .rate = 0.1, .seconds_left = 79 };
	char text[200];

	(void)state;
	bl_job_line(&j, 80, text, sizeof text);
	assert_string_equal(text, "methods 2 of 14  1:19 left"); /* 0/s says nothing, and the unit was said */
	bl_job_line(&j, 20, text, sizeof text);
	assert_string_equal(text, "methods…  1:19 left");
	snprintf(j.note, sizeof j.note, "block 3/8");
	snprintf(j.name, sizeof j.name, "calibrate 16x1024");
	snprintf(j.phase, sizeof j.phase, "calibrate");
	snprintf(j.unit, sizeof j.unit, "tokens");
	j.rate = 523;
	bl_job_line(&j, 40, text, sizeof text);
	assert_string_equal(text, "block 3/8  523 tok/s  1:19 left");
	bl_job_line(&j, 27, text, sizeof text);
	assert_string_equal(text, "block 3/8  1:19 left");
	j.rate = 123456;
	bl_job_line(&j, 40, text, sizeof text);
	assert_string_equal(text, "block 3/8  123k tok/s  1:19 left");
	j.pausing = true;
	bl_job_line(&j, 40, text, sizeof text);
	assert_string_equal(text, "pausing (P goes on)  block 3/8");
	j.cancelling = true;
	bl_job_line(&j, 40, text, sizeof text);
	assert_string_equal(text, "cancelling");
}

static void a_question_shows_how_to_answer(void **state)
{
	char row[400];

	(void)state;
	for (int cols = 20; cols <= 120; cols += 20) {
		struct bl_app *app = test_app(24, cols, true);
		struct hold h = { .heard = 1 };
		uint64_t id = add(app, "export submit.zip", BL_LANE_MAIN, &h);

		until(app, id, BL_JOB_RUNNING);
		test_press(app, "8 Q");
		assert_true(app->priv->ask.on);
		assert_non_null(strstr(row_with(app, "job is", row, sizeof row), "(y/n)"));
		test_press(app, "n");
		atomic_store(&h.end, 1);
		test_drop(app);
	}
}

/* Jobs begin and end while the question stands. */
static void the_answer_is_about_the_job_of_the_question(void **state)
{
	struct bl_app *app = test_app(24, 80, true);
	struct hold first = { .heard = 1 }, second = { .heard = 1 };
	char row[400];

	(void)state;
	test_press(app, "wait");
	for (int on_list = 0; on_list < 2; on_list++) {
		atomic_store(&first.end, 0);
		uint64_t a = add(app, "evaluate", BL_LANE_MAIN, &first);
		until(app, a, BL_JOB_RUNNING);
		test_press(app, on_list ? "J C-c" : "C-c");
		assert_true(strlen(row_with(app, "Cancel evaluate? (y/n)", row, sizeof row)) > 0);
		uint64_t b = add(app, "export submit.zip", BL_LANE_LIGHT, &second);
		atomic_store(&first.end, 1); /* it is over before the answer, another one stands in its row */
		until(app, a, BL_JOB_DONE);
		until(app, b, BL_JOB_RUNNING);
		test_press(app, "y");
		usleep(20000);
		assert_int_equal(until(app, b, BL_JOB_RUNNING).cancelling, false);
		bl_jobs_cancel(app->session->jobs, b);
		until(app, b, BL_JOB_CANCELLED);
	}
	test_drop(app);
}

static void a_cancel_is_seen_at_once(void **state)
{
	struct bl_app *app = test_app(24, 80, true);
	struct hold h = { .heard = 0 };
	char row[400];

	(void)state;
	test_press(app, "wait");
	uint64_t id = add(app, "quantize", BL_LANE_MAIN, &h);
	until(app, id, BL_JOB_RUNNING);
	test_press(app, "C-c y");
	assert_non_null(strstr(row_with(app, "quantize", row, sizeof row), "cancelling"));
	atomic_store(&h.heard, 1);
	until(app, id, BL_JOB_CANCELLED);
	test_drop(app);
}

static void leaving_asks_about_every_job_one_waits_for(void **state)
{
	static const char *const names[] = { "export submit.zip", "verify submit.zip", "calibrate 16x1024", "evaluate", "search", "quantize" };

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct bl_app *app = test_app(24, 80, true);
		struct hold h = { .heard = 1 };
		uint64_t id = add(app, names[i], BL_LANE_MAIN, &h);

		until(app, id, BL_JOB_RUNNING);
		test_press(app, "q");
		assert_true(app->priv->ask.on);
		assert_false(bl_app_should_quit(app));
		test_drop(app);
	}
}

/* A long job stays in sight whatever else came and went. */
static void edits_do_not_push_a_job_off_the_line(void **state)
{
	struct bl_app *app = test_app(24, 80, true);
	struct hold h = { .heard = 1 };
	struct bl_job_view v[64];
	char row[400];

	(void)state;
	test_press(app, "wait");
	uint64_t id = add(app, "calibrate 16x1024", BL_LANE_MAIN, &h);
	until(app, id, BL_JOB_RUNNING);
	for (int i = 0; i < 20; i++) {
		test_press(app, i % 2 ? "b" : i % 4 ? "8 j" : "4 j");
		bl_app_draw(app);
		bl_session_wait_errors(app->session);
	}
	assert_true(strlen(row_with(app, "calibrate 16x1024", row, sizeof row)) > 0);
	int n = bl_jobs_list(app->session->jobs, v, 64);
	assert_true(n <= 3); /* nor fill the list of jobs */
	atomic_store(&h.end, 1);
	test_drop(app);
}

/* A look at methods makes room for work that waits, and goes on when that is done. */
static void methods_make_room(void **state)
{
	struct bl_app *app = test_app(24, 80, true);
	struct hold before = { .heard = 1 }, after = { .heard = 1 };
	struct bl_job_view methods;

	(void)state;
	test_press(app, "wait 8");
	uint64_t a = add(app, "evaluate", BL_LANE_MAIN, &before);
	until(app, a, BL_JOB_RUNNING);
	test_press(app, "m");
	assert_true(bl_app_find_job(app, "methods", &methods));
	uint64_t b = add(app, "export submit.zip", BL_LANE_MAIN, &after); /* behind it */
	atomic_store(&before.end, 1);
	until(app, b, BL_JOB_RUNNING);
	assert_int_equal(until(app, methods.id, BL_JOB_CANCELLED).err.status, BL_CANCELLED);
	bl_app_tick(app);
	assert_false(bl_app_find_job(app, "methods", &methods)); /* not while the other one works */
	assert_false(test_shows(app, "cancelled"));
	atomic_store(&after.end, 1);
	until(app, b, BL_JOB_DONE);
	test_press(app, "wait");
	assert_true(test_shows(app, "best error"));
	test_drop(app);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_time_left_is_never_cut_off),
		cmocka_unit_test(a_question_shows_how_to_answer),
		cmocka_unit_test(the_answer_is_about_the_job_of_the_question),
		cmocka_unit_test(a_cancel_is_seen_at_once),
		cmocka_unit_test(leaving_asks_about_every_job_one_waits_for),
		cmocka_unit_test(edits_do_not_push_a_job_off_the_line),
		cmocka_unit_test(methods_make_room),
	};

	return cmocka_run_group_tests(tests, test_enter_folder, test_leave_folder);
}
