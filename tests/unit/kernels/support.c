/* SPDX-License-Identifier: Apache-2.0
 * Opening the CUDA module. */
#include "tests/unit/kernels/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct bk_cuda_ops *test_open_module(void **handle)
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
