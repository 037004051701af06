/* SPDX-License-Identifier: Apache-2.0
 * Tuning operations of two back ends side by side, as kernels/run/twin_check.h does for the forward's. */
#ifndef BK_GRAD_CHECK_H
#define BK_GRAD_CHECK_H

#include "kernels/grad/grad.h"
#include "kernels/run/twin_check.h"

struct bk_grad_side { struct bk_side side; const struct bk_grad_ops *ops; };
int bk_grad_check(const struct bk_grad_side *want, const struct bk_grad_side *got, struct bk_check *c, int big, const char *only);

#endif
