/* SPDX-License-Identifier: Apache-2.0
 * The CUDA module, as the program would open it: from the folder above this test, or the build folder. Skipped, saying why, without
 * the module or a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cuda_check.h"

static const struct bk_cuda_ops *open_module(void **handle)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	bk_cuda_module_fn module;
	void *symbol;

	if (n > 0) {
		path[n] = '\0';
		strcpy(strrchr(path, '/'), "/../bitlathe_cuda.so");
	}
	if (n <= 0 || access(path, R_OK) != 0)
		snprintf(path, sizeof(path), "%s/bitlathe_cuda.so", BL_BUILD_DIR);
	if (access(path, R_OK) != 0) {
		print_message("there is no CUDA module: built without nvcc\n");
		return NULL;
	}
	*handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!*handle)
		fail_msg("%s", dlerror());
	symbol = dlsym(*handle, "bk_cuda_module");
	assert_non_null(symbol);
	memcpy(&module, &symbol, sizeof(module));
	return module();
}

static void agrees_with_reference(void **state)
{
	void *handle = NULL;
	const struct bk_cuda_ops *ops = open_module(&handle);
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
