/* SPDX-License-Identifier: Apache-2.0
 * A map whose file shrinks: an error inside a guard, in every thread and nesting, and a death by SIGBUS without one. */
#include "tests/unit/base/support.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/file.h"

#define BYTES 65536

static struct bl_map map;

static int open_map(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	const char *path;
	static char zeros[BYTES];

	if (scratch_make(state))
		return -1;
	path = in(state, "f");
	if (bl_write_file(path, zeros, BYTES, 0644, &err) || bl_map_open(&map, path, &err))
		return -1;
	return 0;
}

static int close_map(void **state)
{
	bl_map_close(&map);
	return scratch_drop(state);
}

static enum bl_status read_all(void *ctx, struct bl_err *err)
{
	volatile unsigned sum = 0;

	(void)err;
	for (size_t i = 0; i < map.bytes; i += 512)
		sum += map.data[i];
	*(int *)ctx += 1;
	return BL_OK;
}

static enum bl_status fails(void *ctx, struct bl_err *err)
{
	(void)ctx;
	return bl_fail(err, BL_INVALID, "own reason");
}

struct nested {
	enum bl_status inner;
	int reached;
};

static enum bl_status outer(void *ctx, struct bl_err *err)
{
	struct nested *n = ctx;
	struct bl_err inner_err = BL_ERR_INIT;
	int done = 0;

	n->inner = bl_guard_run(read_all, &done, &inner_err);
	n->reached = 1; /* the inner guard catches; the outer one is active again */
	return bl_guard_run(read_all, &done, err) ? err->status : read_all(&done, err);
}

static void guarded(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct nested n = { 0 };
	int done = 0;

	bl_guard_install(); /* in the test: CMocka puts its own handler before each one */
	bl_guard_install();
	assert_int_equal(bl_guard_run(read_all, &done, &err), BL_OK);
	assert_int_equal(done, 1);
	assert_int_equal(bl_guard_run(fails, NULL, &err), BL_INVALID);
	assert_string_equal(err.text, "own reason");
	bl_err_clear(&err);
	assert_int_equal(truncate(in(state, "f"), 4096), 0);
	for (int i = 0; i < 3; i++) { /* again and again: the signal is not left blocked */
		bl_err_clear(&err);
		assert_int_equal(bl_guard_run(read_all, &done, &err), BL_IO);
		assert_non_null(strstr(err.text, "shorter"));
	}
	assert_int_equal(done, 1);
	bl_err_clear(&err);
	assert_int_equal(bl_guard_run(outer, &n, &err), BL_IO);
	assert_int_equal(n.inner, BL_IO);
	assert_int_equal(n.reached, 1);
	bl_err_clear(&err);
	assert_int_equal(bl_guard_run(fails, NULL, &err), BL_INVALID); /* and works after a jump */
}

static void *in_thread(void *arg)
{
	struct bl_err err = BL_ERR_INIT;
	int done = 0;

	(void)arg;
	for (int i = 0; i < 200; i++) {
		bl_err_clear(&err);
		if (bl_guard_run(read_all, &done, &err) != BL_IO)
			return "not caught";
	}
	return done ? "read what is gone" : NULL;
}

static void in_threads(void **state)
{
	pthread_t t[4];

	bl_guard_install();
	assert_int_equal(truncate(in(state, "f"), 0), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, in_thread, NULL), 0);
	for (int i = 0; i < 4; i++) {
		void *bad;

		pthread_join(t[i], &bad);
		assert_null(bad);
	}
}

static void as_in_a_program(void)
{
	signal(SIGBUS, SIG_DFL); /* without CMocka's handler */
	bl_guard_install();
}

static void read_unguarded(void)
{
	int done = 0;
	struct bl_err err = BL_ERR_INIT;

	as_in_a_program();
	read_all(&done, &err);
}

static void send_bus(void)
{
	as_in_a_program();
	raise(SIGBUS);
}

static enum bl_status send_inside(void *ctx, struct bl_err *err)
{
	(void)ctx;
	(void)err;
	send_bus();
	return BL_OK;
}

static void send_guarded(void)
{
	struct bl_err err = BL_ERR_INIT;

	bl_guard_run(send_inside, NULL, &err);
}

static bool died(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
}

static void unguarded_dies(void **state)
{
	char text[8192];

	assert_int_equal(truncate(in(state, "f"), 0), 0);
	assert_true(died(in_child(read_unguarded, text, sizeof text)));
	assert_true(died(in_child(send_bus, text, sizeof text)));
	assert_true(died(in_child(send_guarded, text, sizeof text))); /* a signal somebody sent is not a disk error */
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, open_map, close_map)
	const struct CMUnitTest tests[] = { ONE(guarded), ONE(in_threads), ONE(unguarded_dies) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
