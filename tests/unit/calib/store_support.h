/* SPDX-License-Identifier: Apache-2.0
 * What the tests of the store share: a small calibration of the demo model with a fake forward; the operations and the engine are the CPU's real ones. */
#ifndef BL_TESTS_UNIT_CALIB_STORE_SUPPORT_H
#define BL_TESTS_UNIT_CALIB_STORE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/base/clock.h"
#include "core/calib/private.h"
#include "fake_forward.h"

#define MODEL BL_SOURCE_DIR "/tests/models/tiny-exaone4"
#define WINDOWS 12
#define LEN 8

static char dir[64];
static struct bl_model *model;
static struct bl_backend backend; /* the processor alone */
static struct bl_pool *pool;
static struct bl_engine engine;
static int32_t ids[WINDOWS * LEN];
static struct bl_forward forward;
static const struct bl_calib_data data = { ids, WINDOWS, LEN, "test" };
static atomic_int cancel;
static struct bl_calib_options options = { .hessians = true, .keep_windows = 3, .device = "cpu", .cancel = &cancel };

static inline int setup(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	bl_guard_install();
	snprintf(dir, sizeof dir, "/tmp/bl-calib-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	forward = (struct bl_forward){ .m = model, .e = &engine, .batch = 4 * LEN, .fail_block = -1 };
	atomic_store(&cancel, 0);
	options = (struct bl_calib_options){ .hessians = true, .keep_windows = 3, .device = "cpu", .cancel = &cancel };
	return bl_engine_open(&engine, &backend, "cpu", pool, 0, &err) ? -1 : 0;
}

static inline int teardown(void **state)
{
	(void)state;
	bl_engine_close(&engine);
	bl_file_fail_at(0);
	bl_remove_tree(dir);
	return 0;
}

static inline const char *at(const char *name)
{
	static char path[4][512];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof path[0], "%s/%s", dir, name);
	return p;
}

static inline const char *file_of(const char *cache, const char *name)
{
	static char path[4][512];
	static unsigned next;
	char *p = path[next++ % 4], key[65];

	bl_calib_key(key, model, &data, &options);
	snprintf(p, sizeof path[0], "%s/calib/%s/%s", at(cache), key, name);
	return p;
}

static inline enum bl_status run(const char *cache, struct bl_err *err)
{
	struct bl_calib *c = NULL;

	if (!bl_calib_run(&c, &forward, &data, at(cache), &options, NULL, NULL, NULL, err)) {
		bl_calib_settle(c, err);
		bl_calib_free(c);
	}
	return err->status;
}

static inline void run_ok(const char *cache)
{
	struct bl_err err = BL_ERR_INIT;

	if (run(cache, &err))
		fail_msg("%s", err.text);
}

static inline struct bl_calib *open_ok(const char *cache)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_calib *c = NULL;
	char key[65];

	bl_calib_key(key, model, &data, &options);
	if (bl_calib_open(&c, model, at(cache), key, &err))
		fail_msg("%s", err.text);
	return c;
}

static inline void same_bytes(const char *a, const char *b)
{
	struct bl_err err = BL_ERR_INIT;
	char **x, **y, *p, *q;
	size_t n, m, np, nq;

	assert_int_equal(bl_list_dir(&x, &n, file_of(a, ""), &err), BL_OK);
	assert_int_equal(bl_list_dir(&y, &m, file_of(b, ""), &err), BL_OK);
	assert_int_equal(n, m);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(x[i], y[i]);
		assert_int_equal(bl_read_file(&p, &np, file_of(a, x[i]), 1u << 30, false, &err), BL_OK);
		assert_int_equal(bl_read_file(&q, &nq, file_of(b, y[i]), 1u << 30, false, &err), BL_OK);
		if (np != nq || memcmp(p, q, np))
			fail_msg("%s differs between %s and %s", x[i], a, b);
		bl_free(p);
		bl_free(q);
	}
	bl_list_free(x);
	bl_list_free(y);
}

static inline void flip(const char *path, uint64_t offset)
{
	int fd = open(path, O_RDWR);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
}

static inline int threads_now(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* What all tests use; false when it cannot be had. */
static inline bool open_common(void)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_rng r;

	if (bl_model_open(&model, MODEL, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return false;
	}
	bl_rng_seed(&r, 1);
	for (int i = 0; i < WINDOWS * LEN; i++)
		ids[i] = (int32_t)(bl_rng_u64(&r) % 1000);
	pool = bl_pool_new(2);
	return true;
}

static inline int run_all(const struct CMUnitTest *tests, size_t n)
{
	int bad;

	if (!open_common())
		return 1;
	bad = _cmocka_run_group_tests("store", tests, n, NULL, NULL);
	bl_pool_free(pool);
	bl_model_close(model);
	return bad;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
