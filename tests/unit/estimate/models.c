/* SPDX-License-Identifier: Apache-2.0
 * The models in memory that the plan's tests use. */
#include "tests/unit/plan/support.c"
