/* SPDX-License-Identifier: Apache-2.0
 * The CUDA module, as the program would open it: from the folder above this test, or the build folder. Skipped, saying why, without
 * the module or a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>

#include "kernels/cuda/cuda_check.h"
#include "tests/unit/kernels/support.h"

static void agrees_with_reference(void **state)
{
	void *handle = NULL;
	const struct bk_cuda_ops *ops = test_open_module(&handle);
	struct bk_cuda_device d;
	int n = 0, error;

	(void)state;
	if (!ops)
		skip();
	assert_int_equal(ops->version, BK_CUDA_VERSION);
	assert_int_equal(ops->size, sizeof(*ops));
	error = ops->device_count(&n);
	if (error || n == 0) {
		print_message("there is no CUDA device: %s\n", ops->error_text(error));
		dlclose(handle);
		skip();
	}
	assert_int_equal(ops->device(0, &d), 0);
	print_message("%s, capability %d, %.1f GiB\n", d.name, d.capability, (double)d.total_bytes / (1 << 30));
	assert_true(d.total_bytes >= d.free_bytes && d.n_processors > 0);
	assert_int_equal(ops->use(0), 0);
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct bk_check c = { .state = seed };

		if (bk_cuda_check(ops, &c))
			fail_msg("seed %d: %s", (int)seed, c.why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(agrees_with_reference) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
