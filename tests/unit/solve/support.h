/* SPDX-License-Identifier: Apache-2.0
 * Units of the bundled model on the CPU's engine, with a Hessian that any of their inputs could have. */
#ifndef TEST_SOLVE_SUPPORT_H
#define TEST_SOLVE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/solve/solve.h"

struct fixture {
	struct bl_model *m;
	struct bl_backend backend;
	struct bl_pool *pool;
	struct bl_engine e;
	struct bl_registry r;
	float *h; /* of any unit with so many columns */
	char dir[64];
};
int solve_set_up(void **state);
int solve_tear_down(void **state);
struct bl_solve_request request(const struct fixture *f, int unit, const char *scheme, const char *params); /* of gptq */
struct bl_solved *solve(struct fixture *f, int unit, const char *scheme, const char *params);

/* A unit rounded to nearest, by the code that exports use. */
struct nearest { int8_t *codes; float *scales; };
struct nearest round_to_nearest(const struct fixture *f, int unit, const struct bl_scheme *s);
/* tr(D H D^T) / tr(W H W^T) in double, from what a client decodes */
double relative_loss(const struct fixture *f, int unit, const struct bl_scheme *s, const int8_t *codes, const float *scales);

#endif
