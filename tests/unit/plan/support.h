/* SPDX-License-Identifier: Apache-2.0
 * What the tests of core/plan share: models of given shapes that live in memory without weights, and a scratch folder. */
#ifndef BL_TESTS_UNIT_PLAN_SUPPORT_H
#define BL_TESTS_UNIT_PLAN_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/plan/plan.h"

struct shape { int layers; int64_t hidden, ffn, heads, kv_heads, head_dim, vocab; bool tied; const char *name; };
extern const struct shape tiny_shape;    /* 2 blocks, 64 wide */
extern const struct shape exaone_1b;     /* EXAONE-4.0-1.2B: 30 blocks */
extern const struct shape exaone_32b;    /* EXAONE-4.0-32B: 64 blocks */

/* A checkpoint of that shape, opened from a header alone: the data behind it is never touched. */
struct bl_model *model_make(const struct shape *s);
void model_drop(struct bl_model *m);
const char *scheme_of(const struct bl_plan *p, int unit); /* name, in one of four rotating buffers */

int scratch_make(void **state);
int scratch_drop(void **state);
const char *in(void **state, const char *name);

#endif
