/* SPDX-License-Identifier: Apache-2.0
 * quant_rows: rows of float32 weights -> ranges -> scales and zero points -> codes, and back.
 *   w, w_hat      [n_rows, cols] row-major, finite; nothing needs alignment
 *   lo, hi, scales, zeros, err   [n_rows, spr], spr = group ? cols / group : 1; group divides cols
 *   codes         [n_rows, cols]: signed grid values, or E4M3 bytes
 * Scales are rounded to bfloat16 and never 0 (a zero range gives 2^-7). Numbers are those of compressed-tensors, bit for bit:
 *   symmetric   s = bf16(max(|lo|,|hi|) / ((2^b-1)/2));      q = rne(clamp(r(w/s)))           r = bf16 rounding, or none (quotient)
 *   asymmetric  s = bf16(bf16(hi-lo) / (2^b-1)), z = rne(clamp(bf16(qmin - bf16(lo/s))));     q = rne(clamp(r(r(w/s) + z)))
 *   E4M3        s = bf16(absmax / 448);                      code = e4m3(clamp(r(w/s), 448)), and -0.0 gives 0x00
 * shrink: lo and hi are multiplied by it first (rounded to bf16, as a bf16 tensor times a number is); exactly 1 leaves them alone.
 * Where hi - lo overflows, the library stores an infinite scale; here both ends are divided first (the only difference).
 * error: sum of |w - Q(w)|^norm per group; norm 2 is a plain square, any other goes through exp2(norm * log2(x)) with a relative
 * error of about 1e-6; the sum does not depend on the variant.
 * sum_squares adds to *w2 the sum of w^2 and to *e2 that of (w - w_hat)^2; double sums in a fixed order.
 * Workspace: none. Refused: nothing; callers have checked the grid. */
#ifndef BK_QUANT_ROWS_H
#define BK_QUANT_ROWS_H

#include "kernels/common/variants.h"
#include "kernels/ops.h"

#define BK_SCALE_OF_ZERO 0x1p-7f
#define BK_F32_MAX 0x1.fffffep127f

#define BK_RANGE_PARAMS (float *lo, float *hi, const float *w, int64_t n_rows, int64_t cols, const struct bk_grid *g)
#define BK_SCALES_PARAMS \
	(float *scales, int8_t *zeros, const float *lo, const float *hi, int64_t n, double shrink, const struct bk_grid *g)
#define BK_ENCODE_PARAMS                                                                                         \
	(int8_t * codes, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols, \
	 const struct bk_grid *g, enum bk_quotient quotient)
#define BK_DECODE_PARAMS                                                                                             \
	(float *w_hat, const int8_t *codes, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols, \
	 const struct bk_grid *g)
#define BK_ERROR_PARAMS                                                                                      \
	(float *err, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols, \
	 const struct bk_grid *g, enum bk_quotient quotient, double norm)
#define BK_SUM_SQUARES_PARAMS (double *w2, double *e2, const float *w, const float *w_hat, int64_t n)

void bk_range_ref BK_RANGE_PARAMS;
void bk_scales_ref BK_SCALES_PARAMS;
void bk_encode_ref BK_ENCODE_PARAMS;
void bk_decode_ref BK_DECODE_PARAMS;
void bk_error_ref BK_ERROR_PARAMS;
void bk_sum_squares_ref BK_SUM_SQUARES_PARAMS;

BK_DECLARE(void, bk_range, BK_RANGE_PARAMS);
BK_DECLARE(void, bk_scales, BK_SCALES_PARAMS);
BK_DECLARE(void, bk_encode, BK_ENCODE_PARAMS);
BK_DECLARE(void, bk_decode, BK_DECODE_PARAMS);
BK_DECLARE(void, bk_error, BK_ERROR_PARAMS);
BK_DECLARE(void, bk_sum_squares, BK_SUM_SQUARES_PARAMS);

#endif
