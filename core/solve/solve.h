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
	int8_t *codes;   /* [rows, cols]; scheme BF16_SPARSE: bfloat16 patterns, two bytes each */
	int code_bytes;
	float *scales;   /* [rows, spr] */
	int8_t *zeros;   /* [rows, spr]; NULL when symmetric */
	int32_t *group_of; /* [cols], with scheme.order; else NULL */
	float global;    /* number that the scales are in units of (NVFP4), of the unit; else 0 */
	double rel;      /* tr(D H D^T) / tr(W H W^T), weights alone */
	double seconds;
	char *report;    /* sentences, one a line; "" */
	struct bl_map map; /* of a stored one: codes, scales and zeros lie in it */
	bool borrowed;     /* they lie in memory of the caller */
};
void bl_solved_free(struct bl_solved *s);

struct bl_solve_request {
	const struct bl_registry *registry;
	const struct bl_model *model;
	int unit;
	struct bl_scheme scheme;
	const char *method, *params;
	const float *h;           /* [cols, cols] lower triangle counts: sum x x^T */
	void *h_device;           /* the same in the engine's memory, instead; afterwards both triangles are filled */
	/* The weights are to make up for what the inputs have lost: sum x y^T in the engine's memory, x the inputs of the base model, y those that h is of; the
	 * method gets W + correct W (C) (H + 1 % I)^-1, C = sum (x - y) y^T, in the place of W. Overwritten. correct 0: goes to the method (bl_method_crosses) and
	 * stays. NULL: not wanted. */
	void *cross_device;
	double correct;
	int64_t tokens;
	bool zero_nonfinite;      /* NaN and Inf in weights become 0 instead of an error */
	const atomic_int *cancel; /* may be NULL */
	const char *chain;        /* what the inputs depend on beside the calibration; NULL: nothing. Part of the key */
};
/* BL_INVALID: weights or Hessian not finite (named); BL_UNSUPPORTED: the method refuses; BL_NO_MEMORY, BL_NO_DEVICE, BL_CANCELLED. */
enum bl_status bl_solve_unit(struct bl_solved **out, struct bl_engine *e, const struct bl_solve_request *rq, struct bl_err *err);

/* The same in steps, so that copies of one unit go on beside the work on another: begin starts uploads, ready waits for them (for all that were begun), run
 * solves and frees the job, also on failure. Codes, scales and zeros of *out lie in `host` when it is given. */
struct bl_solve_job;
enum bl_status bl_solve_begin(struct bl_solve_job **out, struct bl_engine *e, const struct bl_solve_request *rq, struct bl_err *err);
enum bl_status bl_solve_ready(struct bl_solve_job *j, struct bl_err *err);
enum bl_status bl_solve_run(struct bl_solved **out, struct bl_solve_job *j, void *host, struct bl_err *err);
void bl_solve_drop(struct bl_solve_job *j); /* one that was not run; NULL is fine */
/* Bytes that `host` must have, from the engine's host_alloc for speed. */
size_t bl_solve_host_bytes(const struct bl_unit *u, const struct bl_scheme *s);
/* Device bytes that a unit takes: when it waits, and at most while a method like GPTQ works on it (rounds: with refits;
 * crosses: one that weighs two models' inputs against each other, without what lies there for it). */
void bl_solve_need(const struct bl_unit *u, const struct bl_scheme *s, bool rounds, bool crosses, uint64_t *waiting, uint64_t *working);

/* How many weights a method's parameters say become 0; false: none. */
struct bl_sparsity { double ratio; int n, m; }; /* m > 0: n of every m neighbours in a row */
bool bl_method_sparsity(const struct bl_registry *r, const char *method, const char *params, struct bl_sparsity *out);
/* Whose inputs a method's parameters ask for (plugin_api.h, "Names that the host knows"). */
struct bl_solve_inputs { bool quantized, by_rms, cross; double correct; }; /* cross: and the base's beside them */
struct bl_solve_inputs bl_solve_inputs_of(const struct bl_registry *r, const char *method, const char *params);

#endif
