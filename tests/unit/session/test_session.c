/* SPDX-License-Identifier: Apache-2.0
 * The session against direct computation; edits while jobs run; the autosave of a killed process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/session.h"

#define MODEL BL_SOURCE_DIR "/tests/models/tiny-exaone4"

static char dir[64];

static struct bl_session *open_session(const char *what, bool autosave)
{
	struct bl_session_options o = {.threads = 3, .seed = 42, .program_dir = BL_BUILD_DIR, .autosave = autosave};
	struct bl_err err = BL_ERR_INIT;
	struct bl_session *s = NULL;

	if (bl_session_open(&s, what, &o, &err))
		fail_msg("%s", err.text);
	return s;
}

static void until_idle(struct bl_session *s)
{
	for (int i = 0; i < 4000 && bl_jobs_busy(s->jobs); i++)
		usleep(5000);
	assert_false(bl_jobs_busy(s->jobs));
}

static void statistics(void **state)
{
	struct bl_session *s = open_session(MODEL, false);
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	bl_session_want(s, 20, 25);
	bl_session_start_stats(s);
	bl_session_start_stats(s); /* twice is once */
	until_idle(s);
	for (int i = 0; i < s->model->n_units; i++) {
		struct bl_weight_stats *direct;
		const struct bl_weight_stats *got = bl_session_stats(s, i);
		assert_non_null(got);
		assert_int_equal(bl_weight_stats_run(&direct, s->model, i, s->pool, NULL, &err), BL_OK);
		assert_true(got->rms == direct->rms && got->absmax == direct->absmax && got->kurtosis == direct->kurtosis);
		assert_memory_equal(got->histogram, direct->histogram, sizeof got->histogram);
		bl_weight_stats_free(direct);
	}
	bl_session_close(s);
}

static void weight_errors(void **state)
{
	struct bl_session *s = open_session(MODEL, false);
	struct bl_err err = BL_ERR_INIT;
	struct bl_choice c = {.method = "rtn", .params = (char *)(uintptr_t)""};
	double rel = -1;
	char why[160];

	(void)state;
	assert_int_equal(bl_scheme_parse(&c.scheme, "W4A16", &err), BL_OK);
	assert_int_equal(bl_session_weight_error(s, 3, &c, &rel, why), BL_KNOWN_COMPUTING);
	bl_session_wait_errors(s);
	assert_int_equal(bl_session_weight_error(s, 3, &c, &rel, why), BL_KNOWN_YES);
	struct bl_solver solver;
	struct bl_rows_buf buf = {0};
	double w2 = 0, e2 = 0, w, e;
	assert_int_equal(bl_solver_init(&solver, &s->registry, &c.scheme, "rtn", "", false, &err), BL_OK);
	for (int j = 0; j < s->model->units[3].n_members; j++) {
		const struct bl_member *m = &s->model->units[3].members[j];
		assert_int_equal(bl_solve_rows_error(&solver, m, 0, m->rows, &buf, &w, &e, &err), BL_OK);
		w2 += w;
		e2 += e;
	}
	assert_true(fabs(rel - e2 / w2) < 1e-12);
	assert_true(rel > 0.005 && rel < 0.05); /* about -19 dB */
	bl_rows_buf_free(&buf);
	bl_solver_fini(&solver);
	snprintf(c.method, sizeof c.method, "magic");
	bl_session_weight_error(s, 3, &c, &rel, why);
	bl_session_wait_errors(s);
	assert_int_equal(bl_session_weight_error(s, 3, &c, &rel, why), BL_KNOWN_REFUSED);
	assert_non_null(strstr(why, "magic"));
	bl_session_close(s);
}

/* Edits, undo, exports and statistics at once: for the thread sanitizer, and that each export holds the plan it was started with. */
static void edits_while_jobs_run(void **state)
{
	struct bl_session *s = open_session(MODEL, false);
	struct bl_err err = BL_ERR_INIT;
	char *out = bl_path_join(dir, "busy.zip");
	double rel;
	char why[160];

	(void)state;
	bl_session_start_stats(s);
	assert_int_equal(bl_plan_preset(s->plan, s->model, "W8A8", &err), BL_OK);
	bl_session_edited(s);
	uint64_t job = bl_session_export(s, out, true, false);
	for (int i = 0; i < 60; i++) {
		assert_int_equal(bl_plan_set_text(s->plan, s->model, i % 2 ? "down=W4A16" : "4-5=W8A16", NULL, NULL, &err), BL_OK);
		bl_session_edited(s);
		bl_session_want(s, i % 30, i % 30 + 2);
		bl_session_weight_error(s, i % 32, bl_plan_choice(s->plan, i % 32), &rel, why);
		bl_session_estimate(s);
		bl_session_verdict(s, i % 32);
		bl_session_stats(s, i % 32);
		if (i % 5 == 0)
			bl_plan_undo(s->plan);
		bl_session_tick(s);
		usleep(300);
	}
	assert_int_equal(bl_jobs_wait(s->jobs, job, &err), BL_OK);
	const struct bl_export_result *r = bl_session_export_result(s);
	assert_non_null(r);
	assert_int_equal(r->tensors, 146);
	assert_string_equal(r->format, "int-quantized");
	assert_int_equal(r->proof.n_fatal, 0);
	until_idle(s);
	bl_session_close(s);
	bl_free(out);
}

static void cancelled_export_leaves_nothing(void **state)
{
	struct bl_session *s = open_session(MODEL, false);
	struct bl_err err = BL_ERR_INIT;
	char *folder = bl_path_join(dir, "cancelled"), *out = bl_path_join(folder, "a.zip"), **names;
	size_t n;

	(void)state;
	assert_int_equal(bl_mkdirs(folder, 0755, &err), BL_OK);
	assert_int_equal(bl_plan_preset(s->plan, s->model, "W4A16", &err), BL_OK);
	bl_session_edited(s);
	for (int i = 0; i < 8; i++) {
		uint64_t job = bl_session_export(s, out, true, false);
		usleep((useconds_t)(i * 1500));
		bl_jobs_cancel(s->jobs, job);
		bl_err_clear(&err);
		enum bl_status st = bl_jobs_wait(s->jobs, job, &err);
		assert_true(st == BL_OK || st == BL_CANCELLED);
		assert_int_equal(bl_list_dir(&names, &n, folder, &err), BL_OK);
		assert_int_equal(n, bl_is_file(out) ? 1 : 0);
		bl_list_free(names);
		unlink(out);
	}
	bl_session_close(s);
	bl_free(folder);
	bl_free(out);
}

static void a_killed_process_loses_a_second_at_most(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	int status;

	(void)state;
	setenv("XDG_STATE_HOME", dir, 1);
	pid_t pid = fork();
	if (!pid) {
		struct bl_session *s = open_session(MODEL, true);
		bl_plan_preset(s->plan, s->model, "W8A8", &err);
		bl_session_edited(s);
		char *path = bl_plan_autosave_path(s->model);
		usleep(1100000);
		bl_session_tick(s); /* a second is over: this one writes, by a thread of its own that may be slow to get its turn */
		for (int i = 0; i < 6000 && !bl_is_file(path); i++)
			usleep(10000);
		raise(SIGKILL);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status));
	struct bl_session *s = open_session(MODEL, true);
	char name[BL_SCHEME_NAME_MAX];
	assert_string_equal(bl_plan_summary(name, s->plan), "W8A8");
	assert_non_null(s->notice);
	assert_true(bl_plan_undo(s->plan)); /* taken up again as one step */
	assert_string_equal(bl_plan_summary(name, s->plan), "BF16");
	assert_false(bl_plan_undo(s->plan));
	char *path = bl_plan_autosave_path(s->model);
	bl_session_close(s); /* nothing unsaved: it goes */
	assert_false(bl_is_file(path));
	bl_free(path);
	unsetenv("XDG_STATE_HOME");
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/bl-session-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	bl_remove_tree(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statistics), cmocka_unit_test(weight_errors), cmocka_unit_test(edits_while_jobs_run),
		cmocka_unit_test(cancelled_export_leaves_nothing), cmocka_unit_test(a_killed_process_loses_a_second_at_most),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
