/* SPDX-License-Identifier: Apache-2.0
 * The back end says what it has, and in one sentence why it has not; a module that is none does no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/base/file.h"
#include "core/base/mem.h"

static void cpu_is_always_there(void **state)
{
	struct bl_backend b;

	(void)state;
	bl_backend_open(&b, NULL);
	assert_ptr_equal(b.cpu, bl_cpu_ops());
	assert_true(b.cpu->size == sizeof(struct bk_ops) && b.cpu->name && b.cpu->encode);
	assert_null(b.cuda);
	assert_non_null(strstr(b.note, "no CUDA module"));
	bl_backend_close(&b);
	bl_backend_close(&b);
}

static void either_devices_or_a_reason(void **state)
{
	struct bl_backend b;

	(void)state;
	bl_backend_open(&b, BL_BUILD_DIR);
	if (b.cuda) {
		assert_true(b.n_devices > 0 && b.devices[0].name[0] && b.devices[0].capability >= 50);
		assert_string_equal(b.note, "");
	} else {
		assert_true(strlen(b.note) > 10);
		assert_null(strchr(b.note, '\n'));
		print_message("%s\n", b.note);
	}
	bl_backend_close(&b);
}

static void not_a_module(void **state)
{
	char dir[] = "/tmp/bl-backend-XXXXXX";
	struct bl_backend b;
	struct bl_err err = BL_ERR_INIT;
	char *path;

	(void)state;
	assert_non_null(mkdtemp(dir));
	path = bl_path_join(dir, "bitlathe_cuda.so");
	assert_int_equal(bl_write_file(path, "no ELF", 6, 0644, &err), BL_OK);
	bl_backend_open(&b, dir);
	assert_null(b.cuda);
	assert_true(strstr(b.note, "driver") || strstr(b.note, "cannot be loaded"));
	bl_backend_close(&b);
	bl_remove_tree(dir);
	bl_free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cpu_is_always_there),
		cmocka_unit_test(either_devices_or_a_reason),
		cmocka_unit_test(not_a_module),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
