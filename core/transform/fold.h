/* SPDX-License-Identifier: Apache-2.0
 * A model after the stages of a plan: another view of the same checkpoint whose changed tensors lie in memory, rounded to the type they are stored in. It
 * computes what the checkpoint computes (up to that rounding), so whatever quantizes, measures or writes a plan with stages takes this model's weights, while
 * errors and distances are still to the checkpoint. What a calibration knows of inputs follows without another run: H' = M H M^T. Const, counted. */
#ifndef BL_TRANSFORM_FOLD_H
#define BL_TRANSFORM_FOLD_H

#include <stdatomic.h>

#include "core/base/pool.h"
#include "core/calib/calib.h"
#include "core/model/model.h"

struct bl_fold;
struct bl_fold_request {
	const struct bl_model *model;   /* outlives the fold */
	const char *stages;             /* as in a plan; not "" */
	const struct bl_calib *calib;   /* NULL: none; then stages that need one fail */
	struct bl_pool *pool;
	const char *cache_dir;          /* numbers are kept under CACHE/folds; NULL: not */
	const atomic_int *cancel;
};
enum bl_status bl_fold_new(struct bl_fold **out, const struct bl_fold_request *rq, struct bl_err *err);
struct bl_fold *bl_fold_ref(struct bl_fold *f);
void bl_fold_unref(struct bl_fold *f); /* NULL is fine */

const struct bl_model *bl_fold_model(const struct bl_fold *f); /* its digest differs from the checkpoint's */
/* Whether the weights (or biases) of a unit, or what flows into it, are others than in the checkpoint. */
bool bl_fold_changes(const struct bl_fold *f, int unit);
bool bl_fold_changes_input(const struct bl_fold *f, int unit);
bool bl_fold_changes_small(const struct bl_fold *f); /* norms or biases */

/* As bl_calib_hessian, of the input after the stages. *own: to be freed with bl_free when it had to be made, else NULL. */
enum bl_status bl_fold_hessian(const struct bl_fold *f, const struct bl_calib *c, int unit, const float **h, float **own, struct bl_err *err);
/* Largest |input| of the unit over the calibration; NaN: not known (a rotation, or a calibration that saw NaN). */
float bl_fold_absmax(const struct bl_fold *f, const struct bl_calib *c, int unit);
/* Channel numbers of the input after the stages: absmax, mean, rms [cols] are changed in place. false: not known. */
bool bl_fold_channels(const struct bl_fold *f, int unit, float *absmax, double *mean, double *rms);
/* What was done, one line per stage and pair, for people ("smooth vo: factors 0.06 .. 32"). */
const char *bl_fold_report(const struct bl_fold *f);

#endif
