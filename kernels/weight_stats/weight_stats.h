/* SPDX-License-Identifier: Apache-2.0
 * weight_stats: what one pass over weights on disk must collect so that every statistic follows from it.
 *
 * 16-bit types: a table of how often each of the 65536 bit patterns occurs. Moments, extremes, quantiles, histograms over any range
 * and non-finite counts are then exact sums over the table, whatever the order of the rows, so threads cannot change a result.
 *   counts   [65536] uint32, added to; the caller sees to it that none passes 2^32 - 1
 *   span     [2] smallest and largest pattern without sign that occurs besides 0 (start from {0xffff, 0}): what lies outside is not
 *            counted but 0, so adding up tables of real weights touches a tenth of them
 *   row_max  [n_rows] uint16 bits of the largest finite |w| of each row, written
 *   col_max  [cols] uint16 bits, raised to the largest finite |w| of each column
 *   w        [n_rows, cols] row-major, any alignment;   inf: 0x7f80 for bf16, 0x7c00 for f16
 *   returns the number of non-finite elements
 * float32: two passes. pass32 adds to acc (start from {0, 0, 0, +inf, -inf}), row_max [n_rows] written, col_max [cols] raised; sums run
 * in 16 double lanes per row. pass32_central needs the mean: central moments, elements beyond `limit`, histogram of n_bins
 * equal bins over [-absmax, absmax] (absmax 0: everything in the middle bin); rows do not matter to it, non-finite elements are skipped.
 * Workspace: none. Refused: nothing. */
#ifndef BK_WEIGHT_STATS_H
#define BK_WEIGHT_STATS_H

#include "kernels/common/variants.h"
#include "kernels/ops.h"

#define BK_COUNT16_PARAMS                                                                                                  \
	(uint32_t * counts, uint16_t *span, uint16_t *row_max, uint16_t *col_max, const void *w, int64_t n_rows, int64_t cols, \
	 uint16_t inf)
#define BK_PASS32_PARAMS (struct bk_pass32 * acc, float *row_max, float *col_max, const void *w, int64_t n_rows, int64_t cols)
#define BK_PASS32_CENTRAL_PARAMS                                                                                           \
	(struct bk_pass32_central * acc, uint64_t *bins, int n_bins, const void *w, int64_t n, double mean, double limit, \
	 float absmax)

uint64_t bk_count16_ref BK_COUNT16_PARAMS;
void bk_pass32_ref BK_PASS32_PARAMS;
void bk_pass32_central_ref BK_PASS32_CENTRAL_PARAMS;

BK_DECLARE(uint64_t, bk_count16, BK_COUNT16_PARAMS);
BK_DECLARE(void, bk_pass32, BK_PASS32_PARAMS);
BK_DECLARE(void, bk_pass32_central, BK_PASS32_CENTRAL_PARAMS);

#endif
