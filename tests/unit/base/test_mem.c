/* SPDX-License-Identifier: Apache-2.0
 * Allocation: zeroed, aligned, overflow-checked; failure is a status or an orderly end; the n-th failure hook counts right. */
#include "tests/unit/base/support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/mem.h"

static void small_family(void **state)
{
	int *p = bl_xalloc(100, sizeof *p);
	char *s = bl_xstrdup("word"), *t = bl_xstrndup("word", 2), *u = bl_xstrndup("ab", 100);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(p[i], 0);
	p[99] = 7;
	p = bl_xrealloc(p, 200, sizeof *p);
	assert_int_equal(p[99], 7);
	assert_string_equal(s, "word");
	assert_string_equal(t, "wo");
	assert_string_equal(u, "ab");
	bl_free(p);
	bl_free(s);
	bl_free(t);
	bl_free(u);
	bl_free(bl_xalloc(0, 8));
	bl_free(NULL);
}

static void growing(void **state)
{
	uint32_t *p = NULL;
	size_t cap = 0, calls = 0, last = 0;

	(void)state;
	for (size_t i = 0; i < 10000; i++) {
		bl_xgrow(&p, &cap, i + 1);
		assert_true(cap > i);
		assert_int_equal(p[i], 0); /* new elements are zero */
		p[i] = (uint32_t)i;
		calls += cap != last;
		last = cap;
	}
	assert_true(calls < 20); /* geometric */
	for (size_t i = 0; i < 10000; i++)
		assert_int_equal(p[i], i);
	bl_free(p);
}

static void large_family(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	unsigned char *p = (unsigned char *)1, *kept;

	(void)state;
	for (size_t n = 0; n < 300; n += 37) {
		assert_int_equal(bl_try_alloc(&p, n, 3, "the buffer", &err), BL_OK);
		assert_int_equal((uintptr_t)p % 64, 0);
		for (size_t i = 0; i < n * 3; i++)
			assert_int_equal(p[i], 0);
		memset(p, 255, n * 3);
		bl_free(p);
	}
	kept = p = (unsigned char *)1;
	assert_int_equal(bl_try_alloc(&p, SIZE_MAX / 2, 4, "the buffer", &err), BL_NO_MEMORY);
	assert_ptr_equal(p, kept);
	assert_non_null(strstr(err.text, "the buffer"));
	bl_err_clear(&err);
	assert_int_equal(bl_try_alloc(&p, (size_t)1 << 62, 1, "all of it", &err), BL_NO_MEMORY);
	assert_non_null(strstr(err.text, "4611686018427387904"));
	assert_null(bl_try_malloc(SIZE_MAX));
}

static void nth_fails(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	void *p[4] = { NULL };
	uint64_t before = bl_mem_count();

	(void)state;
	bl_mem_fail_at(3);
	for (int i = 0; i < 4; i++)
		p[i] = bl_try_malloc(8);
	assert_int_equal(bl_mem_count() - before, 4);
	assert_non_null(p[0]);
	assert_non_null(p[1]);
	assert_null(p[2]);
	assert_non_null(p[3]);
	for (int i = 0; i < 4; i++)
		bl_free(p[i]);
	bl_mem_fail_at(1);
	assert_int_equal(bl_try_alloc(&p[0], 8, 1, "x", &err), BL_NO_MEMORY);
	bl_mem_fail_at(1);
	bl_mem_fail_at(0);
	p[0] = bl_try_malloc(8);
	assert_non_null(p[0]);
	bl_free(p[0]);
}

static void hook(void)
{
	if (write(2, "[restored]", 10) != 10)
		_exit(98);
}

static void exhaust_small(void)
{
	bl_fatal_hook(hook);
	bl_mem_fail_at(2);
	bl_free(bl_xalloc(1, 1));
	bl_free(bl_xalloc(1, 1));
}

static void overflow_small(void)
{
	volatile size_t n = SIZE_MAX / 2;

	bl_free(bl_xalloc(n, 4));
}

static void small_family_ends_orderly(void **state)
{
	char text[500];
	int status = in_child(exhaust_small, text, sizeof text);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 6);
	assert_memory_equal(text, "[restored]", 10); /* the terminal first, then the sentence */
	assert_non_null(strstr(text, "not enough memory"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	status = in_child(overflow_small, text, sizeof text);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_family), cmocka_unit_test(growing), cmocka_unit_test(large_family),
		cmocka_unit_test(nth_fails), cmocka_unit_test(small_family_ends_orderly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
