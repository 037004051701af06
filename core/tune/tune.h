/* SPDX-License-Identifier: Apache-2.0
 * Training what rounding has fixed: offsets and scales of a plan's units, block by block (AutoRound) or end to end, as a plugin's struct bl_tuning says.
 * Numbers are float32 on the CPU; on CUDA activations are bfloat16 and what is trained is float32. The same request on the same kind of device gives the
 * same bytes; a run that was interrupted starts anew and ends with them too. */
#ifndef BL_TUNE_TUNE_H
#define BL_TUNE_TUNE_H

#include <stdatomic.h>

#include "core/forward/forward.h"
#include "core/plugin/plugin_api.h"
#include "core/scheme/scheme.h"
#include "core/solve/solve.h"

struct bl_tune_unit {
	bool tuned;
	struct bl_scheme scheme;               /* tuned */
	float input_scale;                     /* of a static activation */
	const struct bl_solved *start;         /* tuned, unless the start is BL_TUNING_RANGE: what start_method found */
	const struct bl_unit_weights *fixed;   /* not tuned: what it computes with; NULL: the model's own */
};

struct bl_tune_request {
	const struct bl_model *model;
	struct bl_tuning how;
	const struct bl_tune_unit *units;      /* [n_units] */
	const int32_t *ids;                    /* [windows, len] */
	int64_t windows, len;
	bool zero_nonfinite;
	const atomic_int *cancel;              /* may be NULL */
	void *ctx;
	void (*report)(void *ctx, const char *phase, double done, double total); /* may be NULL */
	/* For the relative error of what came out (NULL, or gives NULL: it is 0): [cols, cols], lower triangle counts; valid until asked for again. */
	enum bl_status (*hessian)(void *ctx, int unit, const float **h, struct bl_err *err);
	/* A unit is done: taken over. */
	enum bl_status (*done)(void *ctx, struct bl_solved *s, struct bl_err *err);
};

/* Refuses numbers that make no sense, whoever set them. owner: the method. */
enum bl_status bl_tuning_check(const struct bl_tuning *how, const char *owner, struct bl_err *err);
enum bl_status bl_tune_run(struct bl_engine *e, const struct bl_tune_request *rq, struct bl_err *err);

#endif
