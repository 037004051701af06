/* SPDX-License-Identifier: Apache-2.0
 * Where work runs. The CPU is always there: bl_cpu_ops() is the best table this processor can run. CUDA is a module beside the
 * program that is opened only when a driver is installed; when it cannot be used, `note` says why in one sentence. */
#ifndef BL_BACKEND_BACKEND_H
#define BL_BACKEND_BACKEND_H

#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops.h"

const struct bk_ops *bl_cpu_ops(void);
/* For tests, while nothing runs: other kernels from now on; NULL: the best again. */
void bl_cpu_ops_use(const struct bk_ops *ops);

struct bl_backend {
	const struct bk_ops *cpu;
	const struct bk_cuda_ops *cuda;  /* NULL: see note */
	struct bk_cuda_device *devices;  /* [n_devices] */
	int n_devices;
	char *note;                      /* why there is no CUDA; "" when there is */
	void *handle;
};
/* The CUDA module that open would look at (bl_free), NULL: there is none. */
char *bl_backend_module(const char *program_dir);
/* program_dir: folder of the running program, or NULL; searched for bitlathe_cuda.so, as is ../lib/bitlathe. Never fails. */
void bl_backend_open(struct bl_backend *b, const char *program_dir);
void bl_backend_close(struct bl_backend *b);

#endif
