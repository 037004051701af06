/* SPDX-License-Identifier: Apache-2.0
 * load_rows, fast. The check for NaN and Inf is an integer maximum over the bits without sign, which costs nothing beside the stores. */
#include "kernels/load_rows/load_rows.h"

#include "kernels/common/num.h"

BK_BODY int bk_load_rows_body(float *restrict dst, const void *restrict src, enum bk_dtype dtype, int64_t n)
{
	const bk_u16_any *h = src;
	const bk_u32_any *u = src;
	uint32_t top = 0;

	switch (dtype) {
	case BK_BF16:
		for (int64_t i = 0; i < n; i++) {
			uint32_t a = (uint32_t)h[i] << 16, b = a & 0x7fffffffu;

			top = b > top ? b : top;
			dst[i] = bk_bits_f32(a);
		}
		break;
	case BK_F16:
		for (int64_t i = 0; i < n; i++) {
			float f = bk_f16_f32(h[i]);
			uint32_t b = bk_f32_bits(f) & 0x7fffffffu;

			top = b > top ? b : top;
			dst[i] = f;
		}
		break;
	case BK_F32:
		for (int64_t i = 0; i < n; i++) {
			uint32_t a = u[i], b = a & 0x7fffffffu;

			top = b > top ? b : top;
			dst[i] = bk_bits_f32(a);
		}
		break;
	}
	return top >= 0x7f800000u;
}

BK_VARIANTS(int, bk_load_rows, (float *dst, const void *src, enum bk_dtype dtype, int64_t n), (dst, src, dtype, n))
