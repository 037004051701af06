/* SPDX-License-Identifier: Apache-2.0
 * Samples of inputs for searches. */
#ifndef BL_TRANSFORM_SAMPLE_H
#define BL_TRANSFORM_SAMPLE_H

#include "core/transform/private.h"

/* all: [n_units], filled for units whose kind is in `readers` (1 << enum bl_unit_kind); what was allocated is the caller's, on failure too. */
enum bl_status fold_samples(struct fold_sample *all, const struct bl_model *m, const struct bl_calib *c, unsigned readers, struct bl_pool *pool, const atomic_int *cancel,
			    struct bl_err *err);

#endif
