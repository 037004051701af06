/* SPDX-License-Identifier: Apache-2.0
 * Weight ranges of a unit: one pass over its members' bytes (float32: two). Results do not depend on the number of threads; the sums of powers
 * behind mean, rms and kurtosis are double over short float32 runs, all else is exact. Outlier: |w| > 6 rms of the unit. Histogram: 64 equal
 * bins over [-absmax, absmax]. */
#ifndef BL_STATS_WEIGHT_STATS_H
#define BL_STATS_WEIGHT_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/base/pool.h"
#include "core/model/model.h"

#define BL_STATS_BINS 64

struct bl_nonfinite { char *tensor; int64_t row, col; float value; };

struct bl_weight_stats {
	uint64_t n_elems, n_nonfinite;
	double mean, rms, kurtosis;     /* kurtosis: E[(w-mean)^4]/var^2 (3 for a Gaussian); 0 when var is 0 */
	double outlier_share;           /* 0..1 */
	float min, max, absmax;
	uint64_t histogram[BL_STATS_BINS];
	int64_t rows, cols;             /* fused */
	float *row_absmax;              /* [rows]: output channels, members in order */
	float *col_absmax;              /* [cols]: input channels, over all members */
	struct { float min, median, max; } channel; /* of row_absmax */
	struct bl_nonfinite first_nonfinite[8]; int n_first; /* where to look */
};

enum bl_status bl_weight_stats_run(struct bl_weight_stats **out, const struct bl_model *m, int unit, struct bl_pool *pool,
				   const atomic_int *cancel, struct bl_err *err);
void bl_weight_stats_free(struct bl_weight_stats *s);

/* Many units, in the given order, several at a time: the way to do a whole model (one unit after the other leaves most threads waiting
 * at the end of each). `done` gets each result from some thread and owns it; s is NULL and why set when a unit has none, which does not
 * stop the others. Returns BL_OK or BL_CANCELLED. */
typedef void bl_weight_stats_done(void *ctx, int unit, struct bl_weight_stats *s, const struct bl_err *why);
enum bl_status bl_weight_stats_each(const struct bl_model *m, const int *units, size_t n, struct bl_pool *pool, bl_weight_stats_done *done,
				    void *ctx, const atomic_int *cancel, struct bl_err *err);

#endif
