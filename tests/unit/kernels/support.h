/* SPDX-License-Identifier: Apache-2.0
 * What tests of the CUDA module share. */
#ifndef TEST_KERNELS_SUPPORT_H
#define TEST_KERNELS_SUPPORT_H

#include "kernels/cuda/cuda_ops.h"

/* The module as the program would open it: from the folder above the test, or the build folder. NULL, and said, when there is none. */
const struct bk_cuda_ops *test_open_module(void **handle);

#endif
