/* SPDX-License-Identifier: Apache-2.0
 * What goes wrong only with luck: wakes between a drain's steps, a long job among many short ones, cancels that come
 * too late, progress from several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/job/job.h"

#define WAKES 100000

struct news { struct bl_jobs *js; atomic_int made; };

static void *make_news(void *arg)
{
	struct news *n = arg;

	unsigned pause = 1;

	for (int i = 0; i < WAKES; i++) {
		atomic_fetch_add(&n->made, 1);
		bl_jobs_wake(n->js);
		pause = pause * 1664525 + 1013904223;
		for (unsigned k = 0; k < pause >> 20; k++) /* so that wakes meet every step of a drain */
			atomic_load(&n->made);
	}
	return NULL;
}

/* A reader that only looks after a wake must see the last change: no wake may be lost between the steps of a drain. */
static void no_wake_is_lost(void **state)
{
	struct news n = { .js = bl_jobs_new() };
	struct pollfd p = { bl_jobs_wake_fd(n.js), POLLIN, 0 };
	pthread_t maker[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&maker[i], NULL, make_news, &n), 0);
	for (int seen = 0; seen < 2 * WAKES;) {
		if (poll(&p, 1, 60000) != 1)
			fail_msg("asleep after %d changes of which %d were seen", atomic_load(&n.made), seen);
		bl_jobs_drain(n.js);
		seen = atomic_load(&n.made);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(maker[i], NULL);
	bl_jobs_free(n.js);
}

static void the_wake_descriptor_blocks_nobody(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	int fd = bl_jobs_wake_fd(js);

	(void)state;
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	bl_jobs_drain(js); /* nothing there: returns */
	bl_jobs_free(js);
}

struct gate { atomic_int running, open; };

static enum bl_status pass(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct gate *g = ctx;

	(void)j;
	(void)err;
	atomic_store(&g->running, 1);
	while (atomic_load(&g->open) == 0)
		usleep(200);
	return BL_OK; /* whoever asked to stop was not heard */
}

static const struct bl_job_ops gate_ops = { .name = "gate", .lane = BL_LANE_MAIN, .run = pass };
static const struct bl_job_ops quick_ops = { .name = "quick", .lane = BL_LANE_LIGHT, .run = pass };

static void until(atomic_int *flag)
{
	for (int i = 0; i < 50000 && !atomic_load(flag); i++)
		usleep(200);
	assert_true(atomic_load(flag));
}

/* Kept are the 64 that ended last, however long ago they were added. */
static void a_long_job_outlives_many_short_ones(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct gate slow = { .open = 0 }, quick = { .open = 1 };
	struct bl_job_view v[256];
	struct bl_err err = BL_ERR_INIT;
	uint64_t last = 0;

	(void)state;
	uint64_t id = bl_jobs_add(js, &gate_ops, &slow, "long");
	for (int i = 0; i < 150; i++)
		last = bl_jobs_add(js, &quick_ops, &quick, NULL);
	assert_int_equal(bl_jobs_wait(js, last, &err), BL_OK);
	atomic_store(&slow.open, 1);
	assert_int_equal(bl_jobs_wait(js, id, &err), BL_OK);
	int n = bl_jobs_list(js, v, 256);
	assert_int_equal(n, 64);
	assert_string_equal(v[n - 1].name, "long");
	assert_int_equal(v[0].id, last);
	for (int i = 1; i < n; i++)
		assert_true(v[i - 1].id > v[i].id);
	bl_jobs_free(js);
}

struct waiter { struct bl_jobs *js; uint64_t id; enum bl_status outcome; atomic_int tid; };

static void *wait_for(void *arg)
{
	struct waiter *w = arg;
	struct bl_err err = BL_ERR_INIT;
	struct sched_param none = { 0 };

	sched_setscheduler(0, SCHED_IDLE, &none); /* this thread: everybody else comes first */
	atomic_store(&w->tid, (int)gettid());
	w->outcome = bl_jobs_wait(w->js, w->id, &err);
	return NULL;
}

/* Until the thread sleeps: nobody else touches the jobs meanwhile, so it can only be waiting for one. */
static void until_asleep(struct waiter *w)
{
	char path[64], line[256];

	until(&w->tid);
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&w->tid));
	for (int i = 0, times = 0; times < 3; i++) {
		FILE *f = fopen(path, "re");
		assert_non_null(f);
		assert_non_null(fgets(line, sizeof line, f));
		fclose(f);
		const char *after_name = strrchr(line, ')');
		assert_non_null(after_name);
		times = after_name[2] == 'S' ? times + 1 : 0;
		assert_true(i < 50000);
		usleep(200);
	}
}

/* Who waits learns the outcome even when 64 others end before he gets the processor. */
static void a_waiter_always_learns_the_outcome(void **state)
{
	cpu_set_t all, one;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
		if (CPU_ISSET(i, &all))
			CPU_SET(i, &one);
	sched_setaffinity(0, sizeof one, &one); /* one processor for this thread and those it starts */
	for (int round = 0; round < 20; round++) {
		struct bl_jobs *js = bl_jobs_new();
		struct gate first = { .open = 0 }, quick = { .open = 1 };
		struct bl_err err = BL_ERR_INIT;
		struct waiter w[4];
		pthread_t threads[4];
		uint64_t last = 0, id = bl_jobs_add(js, &quick_ops, &first, NULL);

		for (int i = 0; i < 4; i++) {
			w[i] = (struct waiter){ js, id, BL_FAILED, 0 };
			assert_int_equal(pthread_create(&threads[i], NULL, wait_for, &w[i]), 0);
		}
		for (int i = 0; i < 200; i++)
			last = bl_jobs_add(js, &quick_ops, &quick, NULL);
		for (int i = 0; i < 4; i++)
			until_asleep(&w[i]);
		atomic_store(&first.open, 1);
		assert_int_equal(bl_jobs_wait(js, last, &err), BL_OK);
		for (int i = 0; i < 4; i++) {
			pthread_join(threads[i], NULL);
			assert_int_equal(w[i].outcome, BL_OK);
		}
		bl_jobs_free(js);
	}
	sched_setaffinity(0, sizeof all, &all);
}

static void a_job_that_ends_with_cancel_set_is_cancelled(void **state)
{
	struct bl_jobs *js = bl_jobs_new();
	struct gate g = { .open = 0 };
	struct bl_job_view v;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	uint64_t id = bl_jobs_add(js, &gate_ops, &g, NULL);
	until(&g.running);
	bl_jobs_cancel(js, id);
	atomic_store(&g.open, 1);
	assert_int_equal(bl_jobs_wait(js, id, &err), BL_CANCELLED);
	assert_int_equal(bl_jobs_list(js, &v, 1), 1);
	assert_int_equal(v.state, BL_JOB_CANCELLED);
	bl_jobs_cancel(js, id); /* again is harmless */
	bl_jobs_free(js);
}

struct keeper { atomic_int kept, open; };

static enum bl_status keep(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct keeper *k = ctx;

	(void)err;
	while (!atomic_load(bl_job_cancel_flag(j)))
		usleep(200);
	bl_job_keep(j);
	atomic_store(&k->kept, 1);
	while (!atomic_load(&k->open))
		usleep(200);
	return BL_OK;
}

/* What stands cannot be called cancelled: neither by a cancel before the job said so nor by one after. */
static void finished_work_stands(void **state)
{
	static const struct bl_job_ops ops = { .name = "keeps", .lane = BL_LANE_MAIN, .run = keep };
	struct bl_jobs *js = bl_jobs_new();
	struct keeper k = { 0 };
	struct bl_job_view v;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	uint64_t id = bl_jobs_add(js, &ops, &k, NULL);
	bl_jobs_view(js, id, &v);
	while (v.state == BL_JOB_QUEUED)
		bl_jobs_view(js, id, &v);
	bl_jobs_cancel(js, id);
	until(&k.kept);
	bl_jobs_cancel(js, id);
	atomic_store(&k.open, 1);
	assert_int_equal(bl_jobs_wait(js, id, &err), BL_OK);
	assert_true(bl_jobs_view(js, id, &v));
	assert_int_equal(v.state, BL_JOB_DONE);
	assert_false(bl_jobs_view(js, id + 1, &v));
	bl_jobs_free(js);
}

struct steps { struct bl_jobs *js; struct bl_job_view mid, late, other; double longest_s; };

static enum bl_status step(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct steps *s = ctx;
	uint64_t last = bl_now_ns();

	(void)err;
	for (int i = 0; i <= 6; i++) {
		uint64_t before = last;
		bl_job_progress(j, "write", 100 * i, 2000, "bytes");
		last = bl_now_ns(); /* no two reports lie further apart than two of these looks */
		s->longest_s = fmax(s->longest_s, 2e-9 * (double)(last - before));
		if (i < 6)
			usleep(120000);
	}
	bl_job_progress(j, "write", 300, 2000, "bytes"); /* a slower thread */
	bl_jobs_view(s->js, bl_job_id(j), &s->mid);
	bl_job_progress(j, "write", 2001, 2000, "bytes");
	bl_jobs_view(s->js, bl_job_id(j), &s->late);
	bl_job_progress(j, "a phase\nwhose name is much longer than its field", 1, 10, "parts");
	usleep(120000);
	bl_job_progress(j, "a phase\nwhose name is much longer than its field", 2, 10, "parts");
	bl_jobs_view(s->js, bl_job_id(j), &s->other);
	return BL_OK;
}

static void progress_becomes_speed_and_time_left(void **state)
{
	static const struct bl_job_ops ops = { .name = "steps", .lane = BL_LANE_LIGHT, .run = step };
	struct bl_jobs *js = bl_jobs_new();
	struct steps s = { .js = js };
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_int_equal(bl_jobs_wait(js, bl_jobs_add(js, &ops, &s, NULL), &err), BL_OK);
	assert_string_equal(s.mid.phase, "write");
	assert_string_equal(s.mid.unit, "bytes");
	assert_true(s.mid.done == 600 && s.mid.total == 2000);
	assert_true(s.mid.rate > 100 / s.longest_s && s.mid.rate < 834); /* 100 in no less than 0.12 s */
	assert_true(s.mid.seconds_left >= 1400 / 834.0 && s.mid.seconds_left < 14 * s.longest_s);
	assert_true(s.late.seconds_left == 0);
	assert_true(s.other.done == 2);
	assert_true(s.other.rate > 0 && s.other.rate < 8.4); /* the same phase, although its name was cut */
	assert_string_equal(s.other.unit, "parts");
	assert_null(strchr(s.other.phase, '\n'));
	bl_jobs_free(js);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_wake_is_lost),
		cmocka_unit_test(the_wake_descriptor_blocks_nobody),
		cmocka_unit_test(a_long_job_outlives_many_short_ones),
		cmocka_unit_test(a_waiter_always_learns_the_outcome),
		cmocka_unit_test(a_job_that_ends_with_cancel_set_is_cancelled),
		cmocka_unit_test(finished_work_stands),
		cmocka_unit_test(progress_becomes_speed_and_time_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
