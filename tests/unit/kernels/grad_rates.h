/* SPDX-License-Identifier: Apache-2.0
 * How fast tuning operations are, printed when BL_TEST_RATES is set (its number: tokens). */
#ifndef TEST_KERNELS_GRAD_RATES_H
#define TEST_KERNELS_GRAD_RATES_H

#include "kernels/grad/grad_check.h"

void test_grad_rates(const struct bk_grad_side *s, int tokens); /* fails the test when an operation does */

#endif
