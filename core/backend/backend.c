/* SPDX-License-Identifier: Apache-2.0
 * The CPU back end. */
#include "core/backend/backend.h"

const struct bk_ops *bl_cpu_ops(void) { return bk_ops_cpu(); }
