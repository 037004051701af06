/* SPDX-License-Identifier: Apache-2.0
 * Outcomes: first error wins, text is printable, system reasons map to the right status, exit codes are the contract. */
#include "tests/unit/base/support.h"

#include <errno.h>
#include <string.h>

#include "core/base/err.h"

static void first_error_wins(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_int_equal(bl_fail(&err, BL_INVALID, "one %d", 1), BL_INVALID);
	assert_int_equal(bl_fail(&err, BL_IO, "two"), BL_IO);
	assert_int_equal(err.status, BL_INVALID);
	assert_string_equal(err.text, "one 1");
	assert_non_null(strstr(err.where, "test_err.c:"));
	assert_int_not_equal(err.where[0], '/'); /* a path of the build machine has no business in the program */
	bl_err_clear(&err);
	assert_int_equal(err.status, BL_OK);
	assert_string_equal(err.text, "");
}

static void text_is_printable(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	char long_name[2000];

	(void)state;
	bl_fail(&err, BL_INVALID, "tensor \"%s\"", "a\033[2J\n\x7f\xff\xc2\x9b z");
	assert_string_equal(err.text, "tensor \"a\\x1b[2J\\x0a\\x7f\\xff\\xc2\\x9b z\"");
	bl_err_clear(&err);
	memset(long_name, '\033', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	bl_fail(&err, BL_INVALID, "%s", long_name);
	assert_in_range(strlen(err.text), 400, sizeof err.text - 1);
	assert_int_equal(strlen(err.text) % 4, 0); /* no half escape */
}

static void system_reasons(void **state)
{
	static const struct { int sys; enum bl_status want; const char *text; } row[] = {
		{ ENOSPC, BL_NO_SPACE, "x: f: No space left on device" },
		{ EDQUOT, BL_NO_SPACE, "x: f: Disk quota exceeded" },
		{ ENOMEM, BL_NO_MEMORY, "x: f: Cannot allocate memory" },
		{ EACCES, BL_IO, "x: f: Permission denied" },
	};
	char long_name[2000];

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		struct bl_err err = BL_ERR_INIT;

		errno = row[i].sys;
		assert_int_equal(bl_fail_sys(&err, BL_IO, "x: %s", "f"), row[i].want);
		assert_int_equal(err.status, row[i].want);
		assert_int_equal(err.sys, row[i].sys);
		assert_string_equal(err.text, row[i].text);
	}
	struct bl_err err = BL_ERR_INIT;

	memset(long_name, 'n', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	errno = EACCES;
	bl_fail_sys(&err, BL_IO, "%s", long_name);
	assert_non_null(strstr(err.text, ": Permission denied")); /* the reason survives a long name */
}

static void prefix(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_int_equal(bl_err_prefix(&err, "file"), BL_OK);
	assert_string_equal(err.text, "");
	bl_fail(&err, BL_INVALID, "index 3: too large");
	assert_int_equal(bl_err_prefix(&err, "%s", "model\tx"), BL_INVALID);
	assert_string_equal(err.text, "model\\x09x: index 3: too large");
}

static void exit_codes(void **state)
{
	static const struct { enum bl_status s; int code; const char *name; } row[] = {
		{ BL_OK, 0, "OK" }, { BL_FAILED, 1, "FAILED" }, { BL_IO, 1, "IO" }, { BL_USAGE, 2, "USAGE" },
		{ BL_NOT_FOUND, 3, "NOT_FOUND" }, { BL_INVALID, 3, "INVALID" }, { BL_UNSUPPORTED, 3, "UNSUPPORTED" },
		{ BL_RULE, 4, "RULE" }, { BL_MISMATCH, 5, "MISMATCH" }, { BL_NO_MEMORY, 6, "NO_MEMORY" },
		{ BL_NO_SPACE, 6, "NO_SPACE" }, { BL_NO_DEVICE, 7, "NO_DEVICE" }, { BL_TIMEOUT, 124, "TIMEOUT" },
		{ BL_CANCELLED, 130, "CANCELLED" }, { BL_TERMINATED, 143, "TERMINATED" },
	};

	(void)state;
	assert_int_equal(sizeof row / sizeof *row, BL_STATUS_COUNT);
	for (size_t i = 0; i < BL_STATUS_COUNT; i++) {
		assert_int_equal(bl_status_exit(row[i].s), row[i].code);
		assert_string_equal(bl_status_name(row[i].s), row[i].name);
		assert_true(strlen(bl_status_text(row[i].s)) > 3);
	}
	assert_int_equal(bl_status_exit((enum bl_status)999), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_error_wins), cmocka_unit_test(text_is_printable), cmocka_unit_test(system_reasons),
		cmocka_unit_test(prefix), cmocka_unit_test(exit_codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
