/* SPDX-License-Identifier: Apache-2.0
 * Where work runs. The CPU is always there: bl_cpu_ops() is the best table this processor can run. CUDA is a module beside the
 * program that is opened only when a driver is installed; when it cannot be used, `note` says why in one sentence. */
#ifndef BL_BACKEND_BACKEND_H
#define BL_BACKEND_BACKEND_H

#include "kernels/ops.h"

const struct bk_ops *bl_cpu_ops(void);

#endif
