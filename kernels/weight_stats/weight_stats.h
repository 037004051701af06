/* SPDX-License-Identifier: Apache-2.0
 * weight_stats: what one pass over weights on disk must collect so that every statistic follows from it (float32: two).
 *
 * 16-bit types: a table of how often each of the 65536 bit patterns occurs. Moments, extremes, quantiles, histograms over any range and
 * non-finite counts are then exact sums over the table, whatever the order of the rows. But counting stores once per element, and processors
 * store once a cycle. Where lanes can be compressed fast (ops.lists) this is beaten: moments are sums of powers, which is vector code, and
 * histograms have equally wide bins, so that most weights are in the two bins beside zero, where the sign says which; only the others are listed
 * and counted by their patterns. Measured in 2026-11 on a Zen 3 core, where 16-bit lanes cannot be compressed and a table does it: 8.8 GB/s
 * without counting, 4 with lists, 4.6 with counts of all. Tried without gain: two or four tables, loads of single elements, addresses made by
 * vector code, counting pairs of coarse classes (half the stores, but more of everything else).
 * float32: extremes and moments first; a second pass knows the range and puts what is not small into bins.
 *
 * tops16, extremes32   rows of 16-bit types (inf: 0x7f80 for bf16, 0x7c00 for f16) and of float32
 *   row_max  [n_rows] largest finite |w| of each row (16: its bits), written
 *   col_max  [cols] raised to the largest finite |w| of each column
 *   acc      (32) what the smallest and the largest element follow from
 *   returns the number of non-finite elements
 * ends16     acc of extremes32 for n elements of a 16-bit type
 * powers     n elements of any type, all |w| < 2^top, top >= BK_TOP_MIN; rows do not matter to it
 *   sums     [4] the sums of w, w^2, w^3, w^4 are added. Short runs of neighbours are summed in float32, the rest in double: single roundings
 *            of 2^-24 do not show in sums over thousands. The digits depend on the table of operations, not on threads.
 *   odd      not 0: some are not finite, which then count as zeros
 * look16     powers of a 16-bit type, and besides
 *   list     [n + BK_LIST_ROOM] gets the bits of elements with |w| >= limit (its bits), in order
 *   below    is raised by the number of elements below zero
 *   returns the list's length; what is not finite is neither in it nor in `below`
 * tally16    counts [65536] how often each of the bits in a list, or of all weights, occurs, added; the caller sees to it that none passes
 *            2^32 - 1; ahead: not 0, fetches what is so many bytes further on: counting leaves the memory idle
 * sweep16    tops16 and look16 of bfloat16 in one, where cols is a multiple of BK_RUN; -1, with nothing but maxima touched, when an element is not finite or
 *            the largest is not within 2^-BK_PLAIN_TOP .. 2^BK_PLAIN_TOP: the others are to be asked. May be missing from a table (NULL)
 * list32     list and below of look16, for float32; what is not finite is in both like what is
 * bins32     bins [n_bins + 1] float32 bits in bins of bk_bin are counted, what is not finite in the last
 * above      the number of finite elements with |w| > limit (bits of the type without sign)
 * central    float32: n times the first, second and fourth moment around `mean` is added; those not finite are skipped
 * Any alignment of w. Workspace: none. Refused: nothing. */
#ifndef BK_WEIGHT_STATS_H
#define BK_WEIGHT_STATS_H

#include "kernels/common/variants.h"
#include "kernels/ops.h"

#define BK_PLAIN_TOP 20     /* fourth powers of such elements are far from both ends of float32 as they are */
#define BK_TOP_MIN   (-121) /* so that float32 holds 2^-top and what comes of it */

#define BK_TOPS16_PARAMS (uint16_t * row_max, uint16_t *col_max, const void *w, int64_t n_rows, int64_t cols, uint16_t inf)
#define BK_ENDS16_PARAMS (struct bk_extremes * acc, const void *w, int64_t n, uint16_t inf)
#define BK_EXTREMES32_PARAMS \
	(struct bk_extremes * acc, float *row_max, float *col_max, const void *w, int64_t n_rows, int64_t cols)
#define BK_POWERS_PARAMS (double *sums, const void *w, enum bk_dtype dtype, int64_t n, int top, int odd)
#define BK_LOOK16_PARAMS                                                                                                       \
	(double *sums, uint16_t *list, uint64_t *below, const void *w, enum bk_dtype dtype, int64_t n, int top, uint16_t limit, int odd)
#define BK_SWEEP16_PARAMS                                                                                                      \
	(uint16_t * row_max, uint16_t *col_max, double *sums, uint16_t *list, uint64_t *below, const void *w, int64_t n_rows, int64_t cols, uint16_t limit)
#define BK_TALLY16_PARAMS (uint32_t * counts, const void *list, int64_t n, int64_t ahead)
#define BK_LIST32_PARAMS  (uint32_t * list, uint64_t *below, const void *w, int64_t n, uint32_t limit)
#define BK_BINS32_PARAMS  (uint64_t * bins, const uint32_t *list, int64_t n, float absmax, int n_bins)
#define BK_ABOVE_PARAMS   (const void *w, enum bk_dtype dtype, int64_t n, uint32_t limit)
#define BK_CENTRAL_PARAMS (struct bk_central * acc, const void *w, int64_t n, double mean)

uint64_t bk_tops16_ref BK_TOPS16_PARAMS;
void bk_ends16_ref BK_ENDS16_PARAMS;
uint64_t bk_extremes32_ref BK_EXTREMES32_PARAMS;
void bk_powers_ref BK_POWERS_PARAMS;
int64_t bk_look16_ref BK_LOOK16_PARAMS;
void bk_tally16_ref BK_TALLY16_PARAMS;
int64_t bk_list32_ref BK_LIST32_PARAMS;
void bk_bins32_ref BK_BINS32_PARAMS;
uint64_t bk_above_ref BK_ABOVE_PARAMS;
void bk_central_ref BK_CENTRAL_PARAMS;

BK_DECLARE(uint64_t, bk_tops16, BK_TOPS16_PARAMS);
BK_DECLARE(void, bk_ends16, BK_ENDS16_PARAMS);
BK_DECLARE(uint64_t, bk_extremes32, BK_EXTREMES32_PARAMS);
BK_DECLARE(void, bk_powers, BK_POWERS_PARAMS);
BK_DECLARE(int64_t, bk_look16, BK_LOOK16_PARAMS);
#ifdef BK_HAVE_X86
void bk_powers_vbmi2 BK_POWERS_PARAMS;
int64_t bk_look16_vbmi2 BK_LOOK16_PARAMS;
int64_t bk_sweep16_vbmi2 BK_SWEEP16_PARAMS;
#endif
BK_DECLARE(void, bk_tally16, BK_TALLY16_PARAMS);
void bk_tally16_loads BK_TALLY16_PARAMS; /* for some processors */
BK_DECLARE(int64_t, bk_list32, BK_LIST32_PARAMS);
BK_DECLARE(void, bk_bins32, BK_BINS32_PARAMS);
BK_DECLARE(uint64_t, bk_above, BK_ABOVE_PARAMS);
BK_DECLARE(void, bk_central, BK_CENTRAL_PARAMS);

#endif
