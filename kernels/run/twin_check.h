/* SPDX-License-Identifier: Apache-2.0
 * Two back ends side by side: the same random inputs through both tables, odd shapes, strides and addresses, results close and nothing written beside them. */
#ifndef BK_RUN_TWIN_CHECK_H
#define BK_RUN_TWIN_CHECK_H

#include "kernels/common/check.h"
#include "kernels/run/run.h"

struct bk_side { const struct bk_run_ops *ops; struct bk_run *run; };
/* big: shapes that several blocks share; else small ones (for memory checkers). only: names of operations that contain it; NULL: all. */
int bk_run_twin_check(const struct bk_side *want, const struct bk_side *got, struct bk_check *c, int big, const char *only);

#endif
