/* SPDX-License-Identifier: Apache-2.0
 * Solving a unit with a method that needs what flows into it: weights and Hessian go to the engine, the plugin works there through the functions of
 * plugin_api.h, codes come back. One call per unit; members that share an input are solved together, their rows one after the other. */
#ifndef BL_SOLVE_SOLVE_H
#define BL_SOLVE_SOLVE_H

#include <stdatomic.h>

#include "core/backend/engine.h"
#include "core/base/file.h"
#include "core/model/model.h"
#include "core/plugin/registry.h"

struct bl_solved { /* of a unit, members' rows one after the other */
	int unit;
	int64_t rows, cols, spr;
	int8_t *codes;   /* [rows, cols] */
	float *scales;   /* [rows, spr] */
	int8_t *zeros;   /* [rows, spr]; NULL when symmetric */
	double rel;      /* tr(D H D^T) / tr(W H W^T), weights alone */
	double seconds;
	char *report;    /* sentences, one a line; "" */
	struct bl_map map; /* of a stored one: codes, scales and zeros lie in it */
};
void bl_solved_free(struct bl_solved *s);

struct bl_solve_request {
	const struct bl_registry *registry;
	const struct bl_model *model;
	int unit;
	struct bl_scheme scheme;
	const char *method, *params;
	const float *h;           /* [cols, cols] lower triangle counts: sum x x^T */
	int64_t tokens;
	bool zero_nonfinite;      /* NaN and Inf in weights become 0 instead of an error */
	const atomic_int *cancel; /* may be NULL */
};
/* BL_INVALID: weights or Hessian not finite (named); BL_UNSUPPORTED: the method refuses; BL_NO_MEMORY, BL_NO_DEVICE, BL_CANCELLED. */
enum bl_status bl_solve_unit(struct bl_solved **out, struct bl_engine *e, const struct bl_solve_request *rq, struct bl_err *err);

#endif
