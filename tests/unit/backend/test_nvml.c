/* SPDX-License-Identifier: Apache-2.0
 * The management library: absent, not what it says it is, or there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "core/backend/nvml.h"

static void no_library(void **state)
{
	char why[200] = "";

	(void)state;
	assert_null(bl_nvml_open("/nowhere/libnvidia-ml.so.1", why, sizeof(why)));
	assert_non_null(strstr(why, "not installed"));
	bl_nvml_close(NULL);
}

static void another_library(void **state)
{
	char why[200] = "";

	(void)state;
	assert_null(bl_nvml_open("libm.so.6", why, sizeof(why)));
	assert_non_null(strstr(why, "is not the NVIDIA management library"));
}

static void what_there_is(void **state)
{
	char why[200] = "";
	struct bl_nvml *v = bl_nvml_open(NULL, why, sizeof(why));
	struct bl_nvml_look l;

	(void)state;
	if (!v) {
		assert_true(strlen(why) > 10);
		print_message("skipped: %s\n", why);
		skip();
	}
	for (int i = 0; i < bl_nvml_count(v); i++) {
		assert_true(bl_nvml_look(v, i, &l));
		assert_true(l.name[0] && (!l.has_memory || l.used_bytes <= l.total_bytes));
		assert_true(!l.has_use || (l.use_percent >= 0 && l.use_percent <= 100));
		print_message("%s: %.1f of %.1f GiB, %d %%, %d C, %.0f W, %d others\n", l.name, (double)l.used_bytes / (1 << 30), (double)l.total_bytes / (1 << 30),
			      l.use_percent, l.temperature, l.watts, l.others);
	}
	assert_false(bl_nvml_look(v, -1, &l));
	assert_false(bl_nvml_look(v, bl_nvml_count(v), &l));
	bl_nvml_close(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(no_library), cmocka_unit_test(another_library), cmocka_unit_test(what_there_is) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
