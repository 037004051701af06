/* SPDX-License-Identifier: Apache-2.0
 * What the CPU's operations do to one row, always in float32: elements are loaded, worked on in a buffer that stays in the first-level cache, and
 * stored. `round`: intermediate results are rounded to bfloat16, as a runtime that stores them does. Nothing needs alignment; all variants give the same bits. */
#ifndef BK_RUN_ROWS_H
#define BK_RUN_ROWS_H

#include "kernels/common/variants.h"
#include "kernels/run/run.h"

struct bk_row_kl_sums { double kl; float lse_p, lse_q; int64_t best_p, best_q; };

/* name, result, parameters, arguments */
#define BK_ROWS(X)                                                                                                                                     \
	X(load, void, (float *d, const void *s, int dtype, int64_t n), (d, s, dtype, n))                                                              \
	X(store, void, (void *d, int dtype, const float *s, int64_t n), (d, dtype, s, n))                                                             \
	X(norm, void, (float *y, const float *x, const float *w, int64_t n, double eps, int plus_one, int round), (y, x, w, n, eps, plus_one, round)) \
	X(rope, void, (float *x, const float *c, const float *s, int64_t half, int round), (x, c, s, half, round))                                    \
	X(add, void, (float *x, const float *a, int64_t n), (x, a, n))                                                                                \
	X(scale, void, (float *x, float f, int64_t n), (x, f, n))                                                                                     \
	X(gate, void, (float *h, const float *g, const float *u, int64_t n, int kind, int round), (h, g, u, n, kind, round))                          \
	X(softcap, void, (float *x, float cap, int64_t n), (x, cap, n))                                                                               \
	X(maximum, float, (const float *x, int64_t n), (x, n))                                                                                        \
	X(absmax, float, (const float *x, int64_t n), (x, n))                                                                                         \
	X(weights, float, (float *x, float top, int64_t n, int round), (x, top, n, round))                                                            \
	X(int8_codes, void, (int8_t *c, const float *x, float f, int divide, int64_t n), (c, x, f, divide, n))                                         \
	X(e4m3_codes, void, (uint8_t *c, const float *x, float s, int64_t n), (c, x, s, n))                                                           \
	X(e2m1_codes, void, (uint8_t *c, const float *x, float f, int64_t n), (c, x, f, n))                                                           \
	X(grouped, void, (float *x, const float *s, int64_t group, int64_t n), (x, s, group, n))                                                      \
	X(rounded, void, (float *x, float s, int kind, int round, int64_t n), (x, s, kind, round, n))                                                 \
	X(dot, float, (const float *a, const void *b, int dtype, int64_t n), (a, b, dtype, n))                                                        \
	X(log_sum, float, (const float *x, int64_t n, int64_t *best), (x, n, best))                                                                   \
	X(kl, void, (struct bk_row_kl_sums *o, const float *p, const float *q, int64_t n), (o, p, q, n))                                              \
	X(moments, void, (float *absmax, double *sum, double *sum2, const float *x, int64_t n), (absmax, sum, sum2, x, n))                            \
	X(squares, void, (double *d2, double *b2, double *ab, const float *a, const float *b, int64_t n), (d2, b2, ab, a, b, n))

struct bk_rows { BK_ROWS(BK_FIELD) };
const struct bk_rows *bk_rows_best(void);
const struct bk_rows *bk_rows_level(int i); /* NULL beyond the last that this processor runs */

#endif
