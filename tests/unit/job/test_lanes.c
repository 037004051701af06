/* SPDX-License-Identifier: Apache-2.0
 * Lanes, cancellation, waiting, one wake for many changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/job/job.h"

struct step { atomic_int gate, ran, dropped; int fail; };

static enum bl_status run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct step *s = ctx;

	atomic_store(&s->ran, 1);
	for (int i = 0; i < 20000 && atomic_load(&s->gate); i++) {
		if (atomic_load(bl_job_cancel_flag(j)))
			return bl_fail(err, BL_CANCELLED, "stopped");
		bl_job_progress(j, "steps", i, 20000, "units");
		usleep(500);
	}
	return s->fail ? bl_fail(err, BL_INVALID, "number %d", s->fail) : BL_OK;
}

static void drop(void *ctx)
{
	atomic_fetch_add(&((struct step *)ctx)->dropped, 1);
}

static const struct bl_job_ops main_ops = {.name = "main", .lane = BL_LANE_MAIN, .run = run, .drop = drop};
static const struct bl_job_ops light_ops = {.name = "light", .lane = BL_LANE_LIGHT, .run = run, .drop = drop};

static void lanes_run_side_by_side(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct step slow = {.gate = 1}, after = {.gate = 0}, light = {.gate = 0};
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	uint64_t a = bl_jobs_add(js, &main_ops, &slow, "slow"), b = bl_jobs_add(js, &main_ops, &after, NULL), c = bl_jobs_add(js, &light_ops, &light, NULL);
	assert_int_equal(bl_jobs_wait(js, c, &err), BL_OK); /* while the main lane is held up */
	assert_int_equal(atomic_load(&after.ran), 0);       /* jobs of a lane keep their order */
	assert_true(bl_jobs_lane_busy(js, BL_LANE_MAIN));
	assert_false(bl_jobs_lane_busy(js, BL_LANE_LIGHT));
	atomic_store(&slow.gate, 0);
	assert_int_equal(bl_jobs_wait(js, a, &err), BL_OK);
	assert_int_equal(bl_jobs_wait(js, b, &err), BL_OK);
	assert_int_equal(atomic_load(&slow.dropped) + atomic_load(&after.dropped) + atomic_load(&light.dropped), 3);
	struct bl_job_view v[4];
	assert_int_equal(bl_jobs_list(js, v, 4), 3);
	assert_string_equal(v[2].name, "slow");
	assert_false(bl_jobs_busy(js));
	bl_jobs_free(js);
}

static void failures_and_cancelling(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct step slow = {.gate = 1}, queued = {.gate = 0}, bad = {.fail = 7};
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	uint64_t a = bl_jobs_add(js, &main_ops, &slow, NULL), b = bl_jobs_add(js, &main_ops, &queued, NULL), c = bl_jobs_add(js, &light_ops, &bad, NULL);
	assert_int_equal(bl_jobs_wait(js, c, &err), BL_INVALID);
	assert_string_equal(err.text, "number 7");
	bl_jobs_cancel(js, b);
	bl_jobs_cancel(js, a);
	bl_err_clear(&err);
	assert_int_equal(bl_jobs_wait(js, a, &err), BL_CANCELLED);
	bl_err_clear(&err);
	assert_int_equal(bl_jobs_wait(js, b, &err), BL_CANCELLED);
	assert_int_equal(atomic_load(&queued.ran), 0);
	assert_int_equal(atomic_load(&queued.dropped), 1);
	bl_err_clear(&err);
	assert_int_equal(bl_jobs_wait(js, 999, &err), BL_NOT_FOUND);
	bl_jobs_free(js);
}

static void one_wake_for_many_changes(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct pollfd p = {bl_jobs_wake_fd(js), POLLIN, 0};
	char buf[64];

	(void)state;
	for (int i = 0; i < 1000; i++)
		bl_jobs_wake(js);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_int_equal(read(p.fd, buf, sizeof buf), 1);
	bl_jobs_drain(js);
	assert_int_equal(poll(&p, 1, 0), 0);
	bl_jobs_wake(js);
	assert_int_equal(poll(&p, 1, 1000), 1);
	bl_jobs_free(js);
}

static void freeing_cancels(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct step slow = {.gate = 1}, queued[100];

	(void)state;
	memset(queued, 0, sizeof queued);
	bl_jobs_add(js, &main_ops, &slow, NULL);
	for (int i = 0; i < 100; i++)
		bl_jobs_add(js, &main_ops, &queued[i], NULL);
	bl_jobs_free(js);
	assert_int_equal(atomic_load(&slow.dropped), 1);
	for (int i = 0; i < 100; i++)
		assert_int_equal(atomic_load(&queued[i].dropped), 1);
}

static void old_ones_are_forgotten(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct step s[200];
	struct bl_job_view v[8];
	struct bl_err err = BL_ERR_INIT;
	uint64_t last = 0;

	(void)state;
	memset(s, 0, sizeof s);
	for (int i = 0; i < 200; i++)
		last = bl_jobs_add(js, &light_ops, &s[i], NULL);
	assert_int_equal(bl_jobs_wait(js, last, &err), BL_OK);
	assert_true(bl_jobs_list(js, v, 8) <= 65);
	bl_jobs_free(js);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lanes_run_side_by_side), cmocka_unit_test(failures_and_cancelling), cmocka_unit_test(one_wake_for_many_changes),
		cmocka_unit_test(freeing_cancels), cmocka_unit_test(old_ones_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
