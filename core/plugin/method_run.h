/* SPDX-License-Identifier: Apache-2.0
 * Runs a method over rows of a linear as it lies on disk: conversion to float32, the non-finite policy, the call, and (for the weight-only
 * error) the decoded difference. Works in slices of rows that fit the second-level cache. Used by export and by the error estimates, so both always see the same codes. */
#ifndef BL_PLUGIN_METHOD_RUN_H
#define BL_PLUGIN_METHOD_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/model/model.h"
#include "core/plugin/registry.h"

struct bl_solver { /* one method with parameters for one scheme; const after init, usable from many threads */
	const struct bl_registry *registry;
	const struct bl_method *method;
	struct bl_scheme scheme;
	struct bl_grid grid;
	double *params;
	bool zero_nonfinite; /* NaN and Inf in weights become 0 instead of an error */
};
enum bl_status bl_solver_init(struct bl_solver *s, const struct bl_registry *r, const struct bl_scheme *scheme, const char *method,
			      const char *params, bool zero_nonfinite, struct bl_err *err); /* scales over more than a row go with plain rtn alone */
void bl_solver_fini(struct bl_solver *s);

struct bl_rows_buf { /* scratch of one thread, grown on demand; zero-initialise */
	float *scales;        /* [n, spr] of the last call, as are codes [n, cols] and zeros [n, spr] (NULL when symmetric) */
	int8_t *codes, *zeros;
	float *w, *w_hat;     /* a few rows at a time */
	void *scratch;
	int8_t *zeros_store;
	float *raw;           /* [n, spr]: with scales that are quantized again the ones to write; `scales` are what a client makes of them. Else NULL */
	float global;         /* number that the scales are in units of (NVFP4), of the unit; else 0 */
	const struct bl_member *shared_of; struct bl_scheme shared_scheme; float *shared; /* scales over more than a row: of the linear looked at last */
	size_t cap_codes, cap_scales, cap_zeros, cap_w, cap_w_hat, cap_scratch, cap_shared, cap_raw;
};
void bl_rows_buf_free(struct bl_rows_buf *b);

/* Solves rows row0..row0+n of a member; results in b->codes, b->scales, b->zeros. A NaN or Inf is BL_INVALID
 * "model.layers.11.mlp.down_proj.weight: NaN at [17,204]" unless zero_nonfinite. */
enum bl_status bl_solve_rows(const struct bl_solver *s, const struct bl_member *m, int64_t row0, int64_t n, struct bl_rows_buf *b, struct bl_err *err);

/* Sum of squares of W and of W - W^ over those rows (double). Calls bl_solve_rows. */
enum bl_status bl_solve_rows_error(const struct bl_solver *s, const struct bl_member *m, int64_t row0, int64_t n, struct bl_rows_buf *b,
				   double *w2, double *e2, struct bl_err *err);

#endif
