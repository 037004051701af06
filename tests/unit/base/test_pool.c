/* SPDX-License-Identifier: Apache-2.0
 * The pool: every item once, the lowest error, cancelling, nesting, several callers, shrinking maps, quiet workers. */
#include "tests/unit/base/support.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/pool.h"
#include "core/base/turn.h"

enum { N = 5000 };

static enum bl_status count(void *ctx, size_t item, struct bl_err *err)
{
	(void)err;
	atomic_fetch_add((atomic_int *)ctx + item, 1);
	return BL_OK;
}

static void every_item_once(void **state)
{
	static atomic_int seen[N];

	(void)state;
	for (int threads = 1; threads <= 8; threads++) {
		struct bl_pool *p = bl_pool_new(threads);
		struct bl_err err = BL_ERR_INIT;

		assert_int_equal(bl_pool_threads(p), threads);
		for (int i = 0; i < N; i++)
			atomic_store(&seen[i], 0);
		for (size_t n = 0; n < 50; n++)
			assert_int_equal(bl_pool_run(p, n, count, seen, NULL, &err), BL_OK);
		for (int i = 0; i < N; i++)
			assert_int_equal(atomic_load(&seen[i]), i < 49 ? 49 - i : 0);
		assert_int_equal(bl_pool_run(p, N, count, seen, NULL, &err), BL_OK);
		assert_int_equal(atomic_load(&seen[N - 1]), 1);
		bl_pool_free(p);
	}
	struct bl_pool *p = bl_pool_new(0);
	assert_true(bl_pool_threads(p) >= 1);
	bl_pool_free(p);
	bl_pool_free(NULL);
}

struct failing {
	atomic_size_t lowest_late; /* items run although they lie behind the first failure by far */
	atomic_int another;
	size_t first;
};

static enum bl_status fail_some(void *ctx, size_t item, struct bl_err *err)
{
	struct failing *f = ctx;

	if (item > f->first + 100) {
		atomic_fetch_add(&f->lowest_late, 1);
		usleep(20); /* on a busy machine the failing items wait long: the late ones must not all be done by then */
	}
	if (item == f->first || item == f->first + 1 || item == f->first + 3) {
		/* the lowest waits until another has begun; then now it fails last, now first */
		if (item == f->first)
			for (int i = 0; i < 1000 && !atomic_load(&f->another); i++)
				usleep(50);
		else
			atomic_store(&f->another, 1);
		if ((item == f->first) == (f->first % 2 == 0))
			usleep(300);
		return bl_fail(err, BL_INVALID, "item %zu", item);
	}
	return BL_OK;
}

static enum bl_status fail_silently(void *ctx, size_t item, struct bl_err *err)
{
	(void)ctx;
	(void)err;
	return item == 2 ? BL_UNSUPPORTED : BL_OK;
}

static void lowest_error(void **state)
{
	struct bl_pool *p = bl_pool_new(4);

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct failing f = { .first = (size_t)round };
		struct bl_err err = BL_ERR_INIT;
		char want[32];

		assert_int_equal(bl_pool_run(p, 100000, fail_some, &f, NULL, &err), BL_INVALID);
		snprintf(want, sizeof want, "item %d", round);
		assert_string_equal(err.text, want);
		assert_true(atomic_load(&f.lowest_late) < 99000); /* the rest was skipped */
	}
	struct bl_err err = BL_ERR_INIT;
	assert_int_equal(bl_pool_run(p, 10, fail_silently, NULL, NULL, &err), BL_UNSUPPORTED);
	assert_string_equal(err.text, bl_status_text(BL_UNSUPPORTED));
	bl_pool_free(p);
}

struct cancelling {
	atomic_int flag, ran;
};

static enum bl_status cancel_at_100(void *ctx, size_t item, struct bl_err *err)
{
	struct cancelling *c = ctx;
	int before = atomic_fetch_add(&c->ran, 1);

	(void)item;
	(void)err;
	if (before == 100)
		atomic_store(&c->flag, 1);
	while (before > 100 && !atomic_load(&c->flag)) /* its thread was put aside just there: nobody runs ahead */
		usleep(50);
	return BL_OK;
}

static void cancel(void **state)
{
	struct bl_pool *p = bl_pool_new(3);
	struct bl_err err = BL_ERR_INIT;
	struct cancelling c = { 0 };

	(void)state;
	assert_int_equal(bl_pool_run(p, 1000000, cancel_at_100, &c, &c.flag, &err), BL_CANCELLED);
	assert_int_equal(err.status, BL_CANCELLED);
	assert_in_range(atomic_load(&c.ran), 101, 103); /* one that each other thread had begun */
	bl_err_clear(&err);
	atomic_store(&c.ran, 0);
	assert_int_equal(bl_pool_run(p, 10, cancel_at_100, &c, &c.flag, &err), BL_CANCELLED);
	assert_int_equal(atomic_load(&c.ran), 0);
	bl_err_clear(&err);
	atomic_store(&c.flag, 0);
	assert_int_equal(bl_pool_run(p, 10, cancel_at_100, &c, &c.flag, &err), BL_OK);
	bl_pool_free(p);
}

struct nest {
	struct bl_pool *pool;
	int depth;
	atomic_int *leaves;
};

static enum bl_status nest(void *ctx, size_t item, struct bl_err *err)
{
	struct nest *n = ctx, below = { n->pool, n->depth - 1, n->leaves };

	(void)item;
	if (!n->depth) {
		atomic_fetch_add(n->leaves, 1);
		return BL_OK;
	}
	return bl_pool_run(n->pool, 6, nest, &below, NULL, err);
}

static void nesting(void **state)
{
	(void)state;
	for (int threads = 1; threads < 5; threads++) {
		struct bl_pool *p = bl_pool_new(threads);
		struct bl_err err = BL_ERR_INIT;
		atomic_int leaves = 0;
		struct nest n = { p, 4, &leaves };

		assert_int_equal(bl_pool_run(p, 6, nest, &n, NULL, &err), BL_OK);
		assert_int_equal(atomic_load(&leaves), 6 * 6 * 6 * 6 * 6);
		bl_pool_free(p);
	}
}

struct caller {
	struct bl_pool *pool;
	long sum;
	const char *bad;
};

static enum bl_status plain_write(void *ctx, size_t item, struct bl_err *err)
{
	(void)err;
	((long *)ctx)[item] = (long)item + 1; /* not atomic: the pool must order it before bl_pool_run returns */
	return BL_OK;
}

static void *call_often(void *arg)
{
	struct caller *c = arg;
	long cells[64];

	for (int round = 0; round < 300; round++) {
		struct bl_err err = BL_ERR_INIT;
		long sum = 0;

		memset(cells, 0, sizeof cells);
		if (bl_pool_run(c->pool, 64, plain_write, cells, NULL, &err))
			c->bad = "failed";
		for (int i = 0; i < 64; i++)
			sum += cells[i];
		if (sum != 64 * 65 / 2)
			c->bad = "items missing";
	}
	return NULL;
}

static void several_callers(void **state)
{
	struct bl_pool *p = bl_pool_new(3);
	struct caller c[4];
	pthread_t t[4];

	(void)state;
	for (int i = 0; i < 4; i++) {
		c[i] = (struct caller){ .pool = p };
		assert_int_equal(pthread_create(&t[i], NULL, call_often, &c[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_null(c[i].bad);
	}
	bl_pool_free(p);
}

static enum bl_status read_item(void *ctx, size_t item, struct bl_err *err)
{
	struct bl_map *m = ctx;
	volatile unsigned char c = m->data[item * 4096];

	(void)c;
	(void)err;
	return BL_OK;
}

static void shrinking_map(void **state)
{
	struct bl_pool *p = bl_pool_new(4);
	struct bl_err err = BL_ERR_INIT;
	struct bl_map m;
	static char zeros[4096 * 64];

	bl_guard_install();
	assert_int_equal(bl_write_file(in(state, "f"), zeros, sizeof zeros, 0644, &err), BL_OK);
	assert_int_equal(bl_map_open(&m, in(state, "f"), &err), BL_OK);
	assert_int_equal(bl_pool_run(p, 64, read_item, &m, NULL, &err), BL_OK);
	assert_int_equal(truncate(in(state, "f"), 4096 * 10), 0);
	assert_int_equal(bl_pool_run(p, 64, read_item, &m, NULL, &err), BL_IO);
	bl_err_clear(&err);
	assert_int_equal(bl_pool_run(p, 10, read_item, &m, NULL, &err), BL_OK); /* the pool lives on */
	bl_map_close(&m);
	bl_pool_free(p);
}

struct niceness {
	pthread_t caller;
	int base;
	atomic_int wrong, workers;
};

static enum bl_status look_at_nice(void *ctx, size_t item, struct bl_err *err)
{
	struct niceness *n = ctx;
	int nice_now = getpriority(PRIO_PROCESS, (id_t)gettid());
	bool caller = pthread_equal(pthread_self(), n->caller);

	(void)item;
	(void)err;
	if (!caller)
		atomic_fetch_add(&n->workers, 1);
	else
		usleep(1000); /* leave some for the others */
	if (nice_now != (caller ? n->base : n->base + 5 > 19 ? 19 : n->base + 5))
		atomic_fetch_add(&n->wrong, 1);
	return BL_OK;
}

/* What computes does so once, however deep it was started; what answers stays as nice as it was, and so do its threads. */
static void *turns(void *ctx)
{
	int *n = ctx, base = getpriority(PRIO_PROCESS, (id_t)gettid());

	bl_thread_answers();
	n[0] = getpriority(PRIO_PROCESS, (id_t)gettid()) - base;
	bl_thread_computes();
	n[1] = getpriority(PRIO_PROCESS, (id_t)gettid()) - base;
	bl_thread_computes();
	n[2] = getpriority(PRIO_PROCESS, (id_t)gettid()) - base;
	return NULL;
}

static void turns_of_a_thread(void **state)
{
	int n[3] = { -1, -1, -1 }, base = getpriority(PRIO_PROCESS, (id_t)gettid()), step = base + 5 > 19 ? 19 - base : 5;
	pthread_t t;

	(void)state;
	if (sched_getscheduler(0) != SCHED_OTHER)
		skip(); /* somebody has chosen for this process */
	assert_int_equal(pthread_create(&t, NULL, turns, n), 0);
	pthread_join(t, NULL);
	assert_int_equal(n[0], 0);
	assert_int_equal(n[1], step);
	assert_true(n[2] == step || n[2] == 2 * step); /* the latter where policies cannot be set */
}

static void workers_step_back(void **state)
{
	struct bl_pool *p = bl_pool_new(3);
	struct bl_err err = BL_ERR_INIT;
	struct niceness n = { .caller = pthread_self(), .base = getpriority(PRIO_PROCESS, (id_t)gettid()) };

	(void)state;
	for (int i = 0; i < 3000 && !atomic_load(&n.workers); i++) /* on a busy machine they come late */
		assert_int_equal(bl_pool_run(p, 20, look_at_nice, &n, NULL, &err), BL_OK);
	assert_true(atomic_load(&n.workers) > 0);
	assert_int_equal(atomic_load(&n.wrong), 0);
	bl_pool_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_item_once), cmocka_unit_test(lowest_error), cmocka_unit_test(cancel),
		cmocka_unit_test(nesting), cmocka_unit_test(several_callers),
		cmocka_unit_test_setup_teardown(shrinking_map, scratch_make, scratch_drop),
		cmocka_unit_test(workers_step_back), cmocka_unit_test(turns_of_a_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
