/* SPDX-License-Identifier: Apache-2.0
 * The session's background work: what is cancelled can go on, what cannot be computed says why, results appear when their job ended,
 * and the screen's thread never waits for any of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "support.h"

static struct bl_choice choice(const char *scheme, const char *method, const char *params)
{
	struct bl_choice c = { .params = (char *)(uintptr_t)params };
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_scheme_parse(&c.scheme, scheme, &err), BL_OK);
	snprintf(c.method, sizeof c.method, "%s", method);
	return c;
}

static int known_units(struct bl_session *s)
{
	int n = 0;

	for (int i = 0; i < s->model->n_units; i++)
		n += bl_session_stats(s, i) != NULL;
	return n;
}

static uint64_t job_called(struct bl_session *s, const char *name)
{
	struct bl_job_view v[64];
	int n = bl_jobs_list(s->jobs, v, 64);

	for (int i = 0; i < n && i < 64; i++)
		if (!strcmp(v[i].name, name))
			return v[i].id;
	return 0;
}

/* A job that keeps a lane until it is told, so that others stay queued. */
struct plug { atomic_int in, out; };

static enum bl_status plug_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct plug *p = ctx;

	(void)j;
	(void)err;
	atomic_store(&p->in, 1);
	while (!atomic_load(&p->out))
		usleep(200);
	return BL_OK;
}

static void plug_lane(struct bl_session *s, struct plug *p, enum bl_job_lane lane)
{
	struct bl_job_ops ops = { .name = "plug", .lane = lane, .run = plug_run };

	bl_jobs_add(s->jobs, &ops, p, NULL);
	while (!atomic_load(&p->in))
		usleep(200);
}

static void cancelled_statistics_go_on(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 2);
	struct plug p = { 0 };
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	plug_lane(s, &p, BL_LANE_LIGHT);
	bl_session_start_stats(s);
	bl_session_start_stats(s);
	assert_true(bl_session_stats_running(s));
	uint64_t first = job_called(s, "weight ranges");
	assert_true(first > 0);
	bl_jobs_cancel(s->jobs, first);
	assert_false(bl_session_stats_running(s));
	atomic_store(&p.out, 1);
	wait_idle(s);
	assert_int_equal(known_units(s), 0);
	bl_session_start_stats(s);
	uint64_t second = job_called(s, "weight ranges");
	assert_true(second > first);
	assert_int_equal(bl_jobs_wait(s->jobs, second, &err), BL_OK);
	assert_int_equal(known_units(s), s->model->n_units);
	bl_session_start_stats(s); /* nothing is left to do */
	assert_false(bl_jobs_busy(s->jobs));
	assert_int_equal(job_called(s, "weight ranges"), second);
	struct bl_job_view v;
	assert_true(bl_jobs_view(s->jobs, second, &v));
	assert_true(v.done == s->model->n_units && v.total == s->model->n_units);
	bl_session_close(s);
}

/* The wanted ones are known before any that lies more than a batch behind them. */
static void wanted_units_come_first(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 1);
	int last = s->model->n_units - 1, wanted_known = -1;

	(void)state;
	assert_true(last >= 31);
	bl_session_want(s, last, last - 3); /* either order */
	bl_session_start_stats(s);
	for (;;) {
		/* far behind in the order of units; looked at first: whatever is computed between the looks, it came after */
		bool all = true, behind = bl_session_stats(s, last - 5) != NULL;
		for (int i = last - 3; i <= last; i++)
			all &= bl_session_stats(s, i) != NULL;
		wanted_known = known_units(s);
		if (all)
			break;
		assert_false(behind);
	}
	assert_true(wanted_known >= 4);
	bl_session_want(s, -5, 100000); /* any numbers will do */
	wait_idle(s);
	assert_int_equal(known_units(s), s->model->n_units);
	bl_session_close(s);
}

static void weights_that_are_not_finite(void **state)
{
	char *folder = copy_model("nan"), why[160] = "";
	struct bl_err err = BL_ERR_INIT;
	struct bl_choice c = choice("W8A8", "rtn", "");
	double rel = -1;

	(void)state;
	plant_nan(folder, 2);
	struct bl_session *s = open_with(folder, false, 2);
	bl_session_weight_error(s, 2, &c, &rel, why);
	bl_session_weight_error(s, 3, &c, &rel, why);
	bl_session_wait_errors(s);
	assert_int_equal(bl_session_weight_error(s, 2, &c, &rel, why), BL_KNOWN_REFUSED);
	assert_non_null(strstr(why, "NaN at [0,0]"));
	assert_true(rel == -1);
	assert_int_equal(bl_session_weight_error(s, 3, &c, &rel, why), BL_KNOWN_YES); /* the others are none the worse */
	assert_true(rel > 0 && rel < 1e-3);

	bl_plan_set_zero_nonfinite(s->plan, true); /* another question */
	bl_session_edited(s);
	assert_int_equal(bl_session_weight_error(s, 2, &c, &rel, why), BL_KNOWN_COMPUTING);
	bl_session_wait_errors(s);
	assert_int_equal(bl_session_weight_error(s, 2, &c, &rel, why), BL_KNOWN_YES);
	assert_true(rel > 0 && rel < 1e-3);

	bl_session_start_stats(s);
	wait_idle(s);
	assert_true(bl_session_stats(s, 2)->n_nonfinite > 0);
	bl_plan_set_zero_nonfinite(s->plan, false);
	set_all(s, "W8A8");
	char *out = bl_path_join(test_dir, "nan.zip");
	uint64_t job = bl_session_export(s, out, false, false);
	assert_int_not_equal(bl_jobs_wait(s->jobs, job, &err), BL_OK);
	assert_non_null(strstr(err.text, "NaN"));
	assert_false(bl_is_file(out));
	assert_null(bl_session_export_result(s));
	bl_session_close(s);
	bl_free(out);
	bl_free(folder);
}

static void refused_with_a_reason(void **state)
{
	static const struct { const char *scheme, *method, *params, *why; } rows[] = {
		{ "W8A8", "no-such", "", "no-such" },
		{ "W8A8", "rtn", "colour=red", "colour" },
		{ "W4A16", "rtn", "observer=\033[31m", "\\x1b" },
	};
	struct bl_session *s = open_with(DEMO_MODEL, false, 2);
	double rel = -1;
	char why[160];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_choice c = choice(rows[i].scheme, rows[i].method, rows[i].params);
		bl_session_weight_error(s, 0, &c, &rel, why);
		bl_session_wait_errors(s);
		assert_int_equal(bl_session_weight_error(s, 0, &c, &rel, why), BL_KNOWN_REFUSED);
		if (!strstr(why, rows[i].why))
			fail_msg("%s: %s", rows[i].why, why);
		assert_null(strchr(why, '\033'));
	}
	struct bl_choice full = choice("BF16", "", "");
	assert_int_equal(bl_session_weight_error(s, 0, &full, &rel, why), BL_KNOWN_NO);
	assert_false(bl_jobs_busy(s->jobs));
	assert_true(rel == -1);
	bl_session_close(s);
}

/* Bit for bit, whatever the number of threads and the order of asking. */
static void errors_do_not_depend_on_threads(void **state)
{
	static const char *const schemes[] = { "W8A8", "W4A16", "W8A16", "FP8_DYNAMIC" };
	double first[4][64];

	(void)state;
	for (int threads = 1; threads <= 5; threads += 2) {
		struct bl_session *s = open_with(DEMO_MODEL, false, threads);
		char why[160];
		double rel;
		assert_true(s->model->n_units <= 64);
		for (int k = 0; k < 4; k++) {
			struct bl_choice c = choice(schemes[threads == 3 ? 3 - k : k], "rtn", "");
			for (int u = 0; u < s->model->n_units; u++)
				bl_session_weight_error(s, u, &c, &rel, why);
		}
		bl_session_wait_errors(s);
		for (int k = 0; k < 4; k++) {
			struct bl_choice c = choice(schemes[k], "rtn", "");
			for (int u = 0; u < s->model->n_units; u++) {
				assert_int_equal(bl_session_weight_error(s, u, &c, &rel, why), BL_KNOWN_YES);
				if (threads == 1)
					first[k][u] = rel;
				assert_memory_equal(&first[k][u], &rel, sizeof rel);
			}
		}
		bl_session_close(s);
	}
}

/* Whether the job was running, or had not even begun: what was asked for can be asked for again. */
static void cancelled_errors_can_be_asked_for_again(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 1);
	struct plug p = { 0 };
	char why[160];
	double rel;

	(void)state;
	struct bl_choice c = choice("W4A16", "rtn", "");
	plug_lane(s, &p, BL_LANE_LIGHT);
	for (int u = 0; u < 8; u++)
		assert_int_equal(bl_session_weight_error(s, u, &c, &rel, why), BL_KNOWN_COMPUTING);
	assert_true(job_called(s, "weight-only errors") > 0);
	bl_jobs_cancel(s->jobs, job_called(s, "weight-only errors")); /* queued */
	for (int u = 0; u < 8; u++)
		assert_int_equal(bl_session_weight_error(s, u, &c, &rel, why), BL_KNOWN_COMPUTING);
	atomic_store(&p.out, 1);
	bl_session_wait_errors(s);
	for (int u = 0; u < 8; u++)
		assert_int_equal(bl_session_weight_error(s, u, &c, &rel, why), BL_KNOWN_YES);

	c = choice("W8A16", "rtn", "");
	for (int round = 0; round < 20; round++) { /* running, or just over */
		for (int u = 0; u < s->model->n_units; u++)
			bl_session_weight_error(s, u, &c, &rel, why);
		usleep((useconds_t)round * 100);
		bl_jobs_cancel(s->jobs, job_called(s, "weight-only errors")); /* 0 when it is over: it is forgotten then */
	}
	for (int u = 0; u < s->model->n_units; u++)
		bl_session_weight_error(s, u, &c, &rel, why);
	bl_session_wait_errors(s);
	for (int u = 0; u < s->model->n_units; u++) {
		enum bl_known known = bl_session_weight_error(s, u, &c, &rel, why);
		if (known != BL_KNOWN_YES) { /* asked for between the cancel and its job's end */
			bl_session_wait_errors(s);
			known = bl_session_weight_error(s, u, &c, &rel, why);
		}
		assert_int_equal(known, BL_KNOWN_YES);
	}
	bl_session_close(s);
}

static void the_newest_question_is_answered_first(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 1);
	struct bl_choice c = choice("W4A16", "rtn", "");
	struct plug p = { 0 };
	char why[160];
	double rel;
	int n = s->model->n_units;

	(void)state;
	plug_lane(s, &p, BL_LANE_LIGHT);
	for (int u = 0; u < n; u++)
		bl_session_weight_error(s, u, &c, &rel, why);
	atomic_store(&p.out, 1);
	while (bl_session_weight_error(s, 0, &c, &rel, why) == BL_KNOWN_COMPUTING) /* the oldest is the last: */
		usleep(100);
	for (int u = 0; u < n; u++)
		assert_int_equal(bl_session_weight_error(s, u, &c, &rel, why), BL_KNOWN_YES);
	bl_session_close(s);
}

/* A result is shown when its job is over, with the progress complete; the plan of the moment of asking is what was exported. */
static void a_result_appears_with_the_end_of_its_job(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 2);
	char *out = bl_path_join(test_dir, "result.zip");
	struct bl_err err = BL_ERR_INIT;
	struct bl_job_view v;

	(void)state;
	set_all(s, "W8A8");
	bl_session_start_stats(s);
	uint64_t job = bl_session_export(s, out, false, false);
	set_all(s, "BF16");
	for (;;) {
		const struct bl_export_result *r = bl_session_export_result(s);
		assert_true(bl_jobs_view(s->jobs, job, &v));
		if (r)
			assert_int_equal(v.state, BL_JOB_DONE);
		if (r || v.state > BL_JOB_DONE)
			break;
		usleep(50);
	}
	assert_int_equal(bl_jobs_wait(s->jobs, job, &err), BL_OK);
	const struct bl_export_result *r = bl_session_export_result(s);
	assert_non_null(r);
	assert_ptr_equal(r, bl_session_export_result(s)); /* until there is a newer one */
	assert_string_equal(r->format, "int-quantized");
	assert_string_equal(v.phase, "prove");
	assert_string_equal(v.unit, "bytes");
	if (!(v.total > 0 && v.done == v.total))
		fail_msg("%.0f of %.0f %s", v.done, v.total, v.unit);
	job = bl_session_export(s, out, false, false); /* the name is taken */
	assert_int_not_equal(bl_jobs_wait(s->jobs, job, &err), BL_OK);
	assert_ptr_equal(r, bl_session_export_result(s));
	bl_session_close(s);
	bl_free(out);
}

static void until_running(struct bl_session *s, uint64_t job)
{
	struct bl_job_view v = { .state = BL_JOB_QUEUED };

	while (bl_jobs_view(s->jobs, job, &v) && v.state == BL_JOB_QUEUED)
		usleep(20);
}

/* What the job says about a cancel is what lies on the disk. The moment of the cancel moves to and fro over the end of the export: later
 * after one that was heard, earlier after one that came too late, so that both are seen however slow or busy the machine is. */
static void a_late_cancel_does_not_lie(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 2);
	char *out = bl_path_join(test_dir, "late.zip");
	int done = 0, cancelled = 0;
	uint64_t wait_us = 0;

	(void)state;
	set_all(s, "W8A8");
	for (int i = 0; i < 24 || ((!done || !cancelled) && i < 1000); i++) {
		struct bl_err err = BL_ERR_INIT;
		uint64_t job = bl_session_export(s, out, false, false);
		until_running(s, job);
		if (wait_us)
			usleep((useconds_t)wait_us);
		bl_jobs_cancel(s->jobs, job);
		enum bl_status status = bl_jobs_wait(s->jobs, job, &err);
		assert_true(status == BL_OK || status == BL_CANCELLED);
		assert_int_equal(bl_is_file(out), status == BL_OK);
		done += status == BL_OK;
		cancelled += status == BL_CANCELLED;
		wait_us = status == BL_OK ? wait_us * 2 / 3 : wait_us * 3 / 2 + 100;
		wait_us = wait_us < 900000 ? wait_us : 900000;
		unlink(out);
	}
	assert_true(cancelled > 0);
	assert_true(done > 0);
	bl_session_close(s);
	bl_free(out);
}

/* A cancel is heard before the next piece of work, not when somebody next looks for it: of exports that were cancelled as soon as they
 * ran hardly one may end as if nothing had been said. */
static void a_cancel_is_heard_at_once(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 2);
	char *out = bl_path_join(test_dir, "heard.zip");
	int heard = 0, tries = 0;

	(void)state;
	set_all(s, "W8A8");
	/* a machine that gives this thread no time between "running" and the cancel may spoil most of the tries, not all of them */
	for (; heard < 10 && tries < 200; tries++) {
		struct bl_err err = BL_ERR_INIT;
		uint64_t job = bl_session_export(s, out, true, false);
		until_running(s, job);
		bl_jobs_cancel(s->jobs, job);
		heard += bl_jobs_wait(s->jobs, job, &err) == BL_CANCELLED;
		unlink(out);
	}
	assert_int_equal(heard, 10);
	bl_session_close(s);
	bl_free(out);
}

/* One sitting of frames with every core at work; how many of them took longer than 50 ms. */
static int slow_frames(int *frames, uint64_t *worst)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 0);
	char *out = bl_path_join(test_dir, "busy.zip"), why[160];
	struct bl_choice c[3] = { choice("W4A16", "rtn", ""), choice("W8A8", "rtn", ""), choice("W8A16", "rtn", "") };
	struct bl_job_view v[16];
	double rel;
	int slow = 0, n = 0;

	set_all(s, "W4A16");
	bl_session_start_stats(s);
	bl_session_export(s, out, true, false);
	while (bl_jobs_busy(s->jobs) && n < 3000) {
		uint64_t start = bl_now_ns();
		bl_jobs_drain(s->jobs);
		bl_jobs_list(s->jobs, v, 16);
		bl_session_want(s, n % 20, n % 20 + 8);
		for (int u = 0; u < s->model->n_units; u++) {
			bl_session_stats(s, u);
			bl_session_verdict(s, u);
			bl_session_weight_error(s, u, &c[n / 50 % 3], &rel, why);
		}
		bl_session_problems(s, NULL, NULL);
		bl_session_estimate(s);
		bl_session_export_result(s);
		bl_session_tick(s);
		uint64_t took = bl_now_ns() - start;
		*worst = took > *worst ? took : *worst;
		slow += took > 50000000;
		n++;
		struct pollfd wake = { bl_jobs_wake_fd(s->jobs), POLLIN, 0 };
		poll(&wake, 1, 5);
	}
	wait_idle(s);
	bl_session_close(s);
	unlink(out);
	bl_free(out);
	*frames = n;
	return slow;
}

/* What a frame asks for is answered at once. Who waits for work does so every time; the scheduler of a busy machine does not. */
static void getters_never_wait_for_work(void **state)
{
	uint64_t worst = 0;
	int slow = 0, frames = 0;

	(void)state;
	for (int sitting = 0; sitting < 8; sitting++) {
		slow = slow_frames(&frames, &worst);
		if (slow <= 1 + frames / 50)
			return;
	}
	fail_msg("%d of %d frames took more than 50 ms, the worst %.1f ms", slow, frames, (double)worst / 1e6);
}

/* Closing in the middle of everything ends soon and leaves nothing. */
static void closing_in_the_middle(void **state)
{
	char *folder = bl_path_join(test_dir, "middle"), *out = bl_path_join(folder, "a.zip"), **names;
	struct bl_err err = BL_ERR_INIT;
	struct bl_choice c = choice("W4A16", "rtn", "");
	char why[160];
	double rel;
	size_t n;

	(void)state;
	assert_int_equal(bl_mkdirs(folder, 0755, &err), BL_OK);
	for (int i = 0; i < 6; i++) {
		struct bl_session *s = open_with(DEMO_MODEL, true, 2);
		set_all(s, "W8A8");
		bl_session_start_stats(s);
		for (int u = 0; u < 20; u++)
			bl_session_weight_error(s, u, &c, &rel, why);
		bl_session_export(s, out, true, false);
		bl_session_export(s, out, true, false);
		usleep((useconds_t)i * 3000);
		char *path = state_file(s);
		bl_session_close(s);
		assert_true(bl_is_file(path)); /* the unsaved plan */
		unlink(path);
		bl_free(path);
		assert_int_equal(bl_list_dir(&names, &n, folder, &err), BL_OK);
		for (size_t k = 0; k < n; k++)
			assert_string_equal(names[k], "a.zip"); /* whole, or not there */
		bl_list_free(names);
		unlink(out);
	}
	bl_free(folder);
	bl_free(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cancelled_statistics_go_on),
		cmocka_unit_test(wanted_units_come_first),
		cmocka_unit_test(weights_that_are_not_finite),
		cmocka_unit_test(refused_with_a_reason),
		cmocka_unit_test(errors_do_not_depend_on_threads),
		cmocka_unit_test(cancelled_errors_can_be_asked_for_again),
		cmocka_unit_test(the_newest_question_is_answered_first),
		cmocka_unit_test(a_result_appears_with_the_end_of_its_job),
		cmocka_unit_test(a_late_cancel_does_not_lie),
		cmocka_unit_test(a_cancel_is_heard_at_once),
		cmocka_unit_test(getters_never_wait_for_work),
		cmocka_unit_test(closing_in_the_middle),
	};

	return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
