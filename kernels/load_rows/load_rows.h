/* SPDX-License-Identifier: Apache-2.0
 * load_rows: weights as they lie on disk -> float32, exactly.
 *   dst  [n] float32        src [n] bf16, f16 or f32, little-endian, any alignment; no overlap
 * Returns 1 when an element is NaN or infinite (they are stored all the same), else 0. Infinite and NaN payloads survive.
 * Workspace: none. Refused: nothing. */
#ifndef BK_LOAD_ROWS_H
#define BK_LOAD_ROWS_H

#include "kernels/common/variants.h"
#include "kernels/ops.h"

int bk_load_rows_ref(float *dst, const void *src, enum bk_dtype dtype, int64_t n);
BK_DECLARE(int, bk_load_rows, (float *dst, const void *src, enum bk_dtype dtype, int64_t n));

#endif
