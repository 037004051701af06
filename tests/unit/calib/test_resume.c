/* SPDX-License-Identifier: Apache-2.0
 * What becomes of a calibration that is killed, cancelled, short of disk or memory, or loses its device: the next run ends with the same bytes. */
#include "store_support.h"

#define PAUSE_US 1500 /* per batch */

/* --- it goes on --- */

static void killed(void **state)
{
	struct bl_rng r;
	uint64_t start, whole;
	int in_between = 0;

	(void)state;
	forward.sleep_us = PAUSE_US;
	start = bl_now_ns();
	run_ok("whole");
	whole = bl_now_ns() - start;
	bl_rng_seed(&r, 7);
	for (int i = 0; i < 20; i++) {
		char cache[16];
		bool complete;
		int stored;
		pid_t pid;

		snprintf(cache, sizeof cache, "k%d", i);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) { /* this program anew: a fork of one with threads is of no use */
			execl("/proc/self/exe", "calibrating", dir, cache, (char *)NULL);
			_exit(127);
		}
		usleep((useconds_t)(bl_rng_unit(&r) * (float)whole / 1000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		{
			char key[65];

			bl_calib_key(key, model, &data, &options);
			stored = bl_calib_stored(model, at(cache), key, &complete);
			in_between += stored > 0 && !complete;
		}
		forward.blocks_run = 0;
		run_ok(cache);
		assert_true(forward.blocks_run <= model->config.layers - (stored > 4 ? 4 : 0)); /* hidden states came from the store */
		same_bytes("whole", cache);
		bl_remove_tree(at(cache));
	}
	assert_true(in_between >= 3); /* else nothing was tested */
}

struct stop { int block; };

static void stop_at(void *ctx, const struct bl_calib_progress *p)
{
	if (!strcmp(p->phase, "forward") && p->block == ((struct stop *)ctx)->block)
		atomic_store(&cancel, 1);
}

static enum bl_status run_until(const char *cache, int block, struct bl_err *err)
{
	struct stop stop = { block };
	struct bl_calib *c = NULL;

	bl_calib_run(&c, &forward, &data, at(cache), &options, stop_at, NULL, &stop, err);
	assert_null(c);
	atomic_store(&cancel, 0);
	return err->status;
}

static void nothing_unfinished(const char *cache)
{
	struct bl_err err = BL_ERR_INIT;
	char **names;
	size_t n;

	assert_int_equal(bl_list_dir(&names, &n, file_of(cache, ""), &err), BL_OK);
	for (size_t i = 0; i < n; i++)
		assert_true(names[i][0] != '.');
	bl_list_free(names);
}

static void cancelled_run(void **state)
{
	int before = threads_now();

	(void)state;
	run_ok("whole");
	for (int b = 0; b < model->config.layers; b++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_calib *c = NULL;
		char key[65];
		bool complete;

		assert_int_equal(run_until("c", b, &err), BL_CANCELLED);
		for (int i = 0; i < 200 && threads_now() > before; i++) /* the kernel forgets a joined thread a moment later */
			usleep(5000);
		assert_true(threads_now() <= before);
		nothing_unfinished("c");
		bl_calib_key(key, model, &data, &options);
		assert_int_equal(bl_calib_stored(model, at("c"), key, &complete), b);
		assert_false(complete);
		bl_err_clear(&err);
		assert_int_equal(bl_calib_open(&c, model, at("c"), key, &err), BL_NOT_FOUND);
		if (b % 3 == 2) { /* else the next turn goes on from here */
			run_ok("c");
			same_bytes("whole", "c");
			bl_remove_tree(at("c"));
		}
	}
}

static void lost_device(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	bool complete;
	char key[65];

	(void)state;
	run_ok("whole");
	forward.fail_block = 5;
	assert_int_equal(run("l", &err), BL_NO_DEVICE);
	forward.fail_block = -1;
	bl_calib_key(key, model, &data, &options);
	assert_true(bl_calib_stored(model, at("l"), key, &complete) >= 4);
	run_ok("l");
	same_bytes("whole", "l");
}

static void disk_full(void **state)
{
	int failures = 0;

	(void)state;
	run_ok("whole");
	for (uint64_t n = 1; n < 400; n += n < 12 ? 1 : 37) {
		struct bl_err err = BL_ERR_INIT;

		bl_file_fail_at(n);
		if (run("d", &err)) {
			failures++;
			assert_true(err.status == BL_NO_SPACE);
			assert_non_null(strstr(err.text, "calib/"));
			if (bl_is_dir(file_of("d", "")))
				nothing_unfinished("d");
		}
		bl_file_fail_at(0);
		run_ok("d");
		same_bytes("whole", "d");
		bl_remove_tree(at("d"));
	}
	assert_true(failures > 10);
}

static void short_of_memory(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	forward.no_memory_beyond = 2 * LEN;
	run_ok("early"); /* batches of four windows become two */
	forward.no_memory_late = true;
	run_ok("late"); /* found out when some of the states are the block's outputs already */
	same_bytes("early", "late");
	forward.no_memory_beyond = 0;
	forward.batch = 2 * LEN;
	run_ok("asked"); /* as if it had been asked for */
	same_bytes("early", "asked");
	/* goes on with the batches it was begun with, whatever is asked for now */
	assert_int_equal(run_until("resumed", 5, &err), BL_CANCELLED);
	forward.batch = 6 * LEN;
	run_ok("resumed");
	same_bytes("early", "resumed");
	forward.no_memory_beyond = LEN / 2; /* not even one window */
	forward.no_memory_late = false;
	bl_err_clear(&err);
	assert_int_equal(run("never", &err), BL_NO_MEMORY);
	forward.no_memory_beyond = 0;
}

static void no_host_memory(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_engine small;

	(void)state;
	/* room for less than one set of Hessians */
	assert_int_equal(bl_engine_open(&small, &backend, "cpu", pool, 1u << 20, &err), BL_OK);
	forward.e = &small;
	assert_int_equal(run("n", &err), BL_NO_MEMORY);
	assert_non_null(strstr(err.text, "Hessians"));
	bl_engine_close(&small);
	/* for one set, not for two: the same bytes */
	bl_err_clear(&err);
	assert_int_equal(bl_engine_open(&small, &backend, "cpu", pool, calib_set_bytes(model, true, NULL) + (1u << 20), &err), BL_OK);
	run_ok("n");
	forward.e = &engine;
	bl_engine_close(&small);
	run_ok("whole");
	same_bytes("whole", "n");
}

/* The process that is killed: one slow run into DIR/CACHE. */
static int calibrating(const char *where, const char *cache)
{
	struct bl_err err = BL_ERR_INIT;

	if (!open_common() || bl_engine_open(&engine, &backend, "cpu", pool, 0, &err))
		return 1;
	snprintf(dir, sizeof dir, "%s", where);
	forward = (struct bl_forward){ .m = model, .e = &engine, .batch = 4 * LEN, .fail_block = -1, .sleep_us = PAUSE_US };
	return run(cache, &err) ? 1 : 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { T(killed), T(cancelled_run), T(lost_device), T(disk_full), T(short_of_memory), T(no_host_memory) };

	if (argc == 3)
		return calibrating(argv[1], argv[2]);
	return run_all(tests, sizeof tests / sizeof tests[0]);
}
