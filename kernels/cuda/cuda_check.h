/* SPDX-License-Identifier: Apache-2.0
 * Check of the CUDA module's kernels. */
#ifndef BK_CUDA_CHECK_H
#define BK_CUDA_CHECK_H

#include "kernels/common/check.h"
#include "kernels/cuda/cuda_ops.h"

int bk_cuda_check(const struct bk_cuda_ops *ops, struct bk_check *c);

#endif
