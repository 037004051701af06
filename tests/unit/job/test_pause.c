/* SPDX-License-Identifier: Apache-2.0
 * Pausing: at a checkpoint, before the start, with a cancel in between; time that does not count; quiet jobs that make room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/job/job.h"

struct steps { atomic_int n, end, dropped; int order; };
static atomic_int clock_of_starts;

static enum bl_status run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct steps *s = ctx;

	s->order = atomic_fetch_add(&clock_of_starts, 1) + 1;
	while (!atomic_load(&s->end)) {
		if (bl_job_checkpoint(j))
			return bl_fail(err, BL_CANCELLED, "stopped");
		bl_job_progress(j, "steps", atomic_fetch_add(&s->n, 1) + 1, 1e6, "steps");
		usleep(1000);
	}
	return BL_OK;
}

static enum bl_status run_quiet(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct steps *s = ctx;

	(void)err;
	s->order = atomic_fetch_add(&clock_of_starts, 1) + 1;
	while (!atomic_load(&s->end) && !bl_job_wanted(j) && !atomic_load(bl_job_cancel_flag(j)))
		usleep(500);
	return BL_OK;
}

static void drop(void *ctx)
{
	atomic_fetch_add(&((struct steps *)ctx)->dropped, 1);
}

static const struct bl_job_ops pausable = {.name = "steps", .lane = BL_LANE_MAIN, .run = run, .drop = drop, .pausable = true};
static const struct bl_job_ops rigid = {.name = "rigid", .lane = BL_LANE_MAIN, .run = run, .drop = drop};
static const struct bl_job_ops quiet = {.name = "quiet", .lane = BL_LANE_MAIN, .run = run_quiet, .drop = drop, .quiet = true};

static struct bl_job_view until(struct bl_jobs *js, uint64_t id, enum bl_job_state state)
{
	struct bl_job_view v = {0};

	for (int i = 0; i < 20000; i++, usleep(500)) {
		assert_true(bl_jobs_view(js, id, &v));
		if (v.state == state)
			return v;
	}
	fail_msg("job never reached state %d", (int)state);
	return v;
}

static void stands_and_goes_on(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct steps s = {0};
	struct bl_err err = BL_ERR_INIT;
	uint64_t id = bl_jobs_add(js, &pausable, &s, NULL);

	(void)state;
	until(js, id, BL_JOB_RUNNING);
	while (atomic_load(&s.n) < 300)
		usleep(500);
	assert_true(bl_jobs_pause(js, id));
	struct bl_job_view a = until(js, id, BL_JOB_PAUSED), b;
	int n = atomic_load(&s.n);
	usleep(400000);
	assert_int_equal(atomic_load(&s.n), n);
	assert_true(bl_jobs_view(js, id, &b));
	assert_true(fabs(b.seconds - a.seconds) < 1e-3); /* work time stands still */
	assert_true(b.seconds_left == a.seconds_left && b.seconds_left > 0);
	bl_jobs_resume(js, id);
	while (atomic_load(&s.n) < n + 150)
		usleep(500);
	assert_true(bl_jobs_view(js, id, &b));
	assert_true(b.seconds < a.seconds + 0.395 || b.seconds > a.seconds + 0.9); /* the pause is not in it, unless the machine was that slow */
	assert_true(b.rate > 0.5 * a.rate || b.seconds > a.seconds + 0.9);
	atomic_store(&s.end, 1);
	assert_int_equal(bl_jobs_wait(js, id, &err), BL_OK);
	assert_false(bl_jobs_pause(js, id)); /* it is over */
	bl_jobs_free(js);
	assert_int_equal(atomic_load(&s.dropped), 1);
}

static void cancel_ends_a_pause(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct steps s = {0}, left = {0};
	struct bl_err err = BL_ERR_INIT;
	uint64_t id = bl_jobs_add(js, &pausable, &s, NULL);

	(void)state;
	bl_jobs_pause(js, id);
	until(js, id, BL_JOB_PAUSED);
	bl_jobs_cancel(js, id);
	assert_int_equal(bl_jobs_wait(js, id, &err), BL_CANCELLED);
	id = bl_jobs_add(js, &pausable, &left, NULL);
	until(js, id, BL_JOB_RUNNING);
	bl_jobs_pause(js, id);
	until(js, id, BL_JOB_PAUSED);
	bl_jobs_free(js); /* so does the end of everything */
	assert_int_equal(atomic_load(&s.dropped) + atomic_load(&left.dropped), 2);
}

static void queued_ones_are_held_back(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct steps first = {0}, held = {0}, next = {.end = 1}, dropped = {0};
	struct bl_err err = BL_ERR_INIT;
	uint64_t a = bl_jobs_add(js, &rigid, &first, NULL);

	(void)state;
	until(js, a, BL_JOB_RUNNING);
	assert_false(bl_jobs_pause(js, a)); /* it has no checkpoints: nothing is promised */
	uint64_t b = bl_jobs_add(js, &rigid, &held, NULL), c = bl_jobs_add(js, &rigid, &next, NULL), d = bl_jobs_add(js, &rigid, &dropped, NULL);
	assert_true(bl_jobs_pause(js, b));
	assert_true(bl_jobs_pause(js, d));
	until(js, b, BL_JOB_PAUSED);
	atomic_store(&first.end, 1);
	assert_int_equal(bl_jobs_wait(js, c, &err), BL_OK); /* overtakes the one held back */
	assert_int_equal(held.order, 0);
	atomic_store(&held.end, 1);
	bl_jobs_resume(js, b);
	assert_int_equal(bl_jobs_wait(js, b, &err), BL_OK);
	bl_jobs_cancel(js, d);
	assert_int_equal(bl_jobs_wait(js, d, &err), BL_CANCELLED);
	assert_int_equal(atomic_load(&dropped.dropped), 1);
	assert_int_equal(dropped.order, 0);
	d = bl_jobs_add(js, &rigid, &dropped, NULL);
	bl_jobs_pause(js, d);
	bl_jobs_free(js);
	assert_true(atomic_load(&dropped.dropped) == 2);
}

static void quiet_ones_make_room(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct steps upkeep = {0}, more = {.end = 1}, loud = {.end = 1};
	struct bl_err err = BL_ERR_INIT;
	struct bl_job_view v;
	uint64_t a = bl_jobs_add(js, &quiet, &upkeep, NULL);

	(void)state;
	until(js, a, BL_JOB_RUNNING);
	uint64_t b = bl_jobs_add(js, &quiet, &more, NULL); /* quiet ones do not drive each other out */
	usleep(20000);
	assert_true(bl_jobs_view(js, a, &v) && v.state == BL_JOB_RUNNING && v.quiet);
	uint64_t c = bl_jobs_add(js, &rigid, &loud, NULL);
	assert_int_equal(bl_jobs_wait(js, c, &err), BL_OK);
	bl_jobs_wait(js, b, &err);
	for (int i = 0; i < 4000 && bl_jobs_busy(js); i++)
		usleep(500);
	assert_true(loud.order < more.order); /* added later, run first */
	assert_false(bl_jobs_view(js, a, &v)); /* forgotten */
	assert_int_equal(bl_jobs_list(js, &v, 1), 1);
	assert_int_equal(v.id, c);
	bl_jobs_free(js);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(stands_and_goes_on), cmocka_unit_test(cancel_ends_a_pause),
					   cmocka_unit_test(queued_ones_are_held_back), cmocka_unit_test(quiet_ones_make_room)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
