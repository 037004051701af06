/* SPDX-License-Identifier: Apache-2.0
 * load_rows, the obvious way: fields taken apart with ldexp. */
#include "kernels/load_rows/load_rows.h"

#include <math.h>
#include <string.h>

static float from_f16(uint16_t h)
{
	int e = h >> 10 & 31, m = h & 1023;
	float f;

	if (e == 31)
		f = m ? NAN : INFINITY;
	else
		f = e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
	return h & 0x8000 ? -f : f;
}

int bk_load_rows_ref(float *dst, const void *src, enum bk_dtype dtype, int64_t n)
{
	const unsigned char *p = src;
	int odd = 0;

	for (int64_t i = 0; i < n; i++) {
		uint16_t h;
		uint32_t u;

		switch (dtype) {
		case BK_BF16:
			memcpy(&h, p + 2 * i, 2);
			u = (uint32_t)h << 16;
			memcpy(&dst[i], &u, 4);
			break;
		case BK_F16:
			memcpy(&h, p + 2 * i, 2);
			dst[i] = from_f16(h);
			break;
		case BK_F32:
			memcpy(&dst[i], p + 4 * i, 4);
			break;
		}
		if (!isfinite(dst[i]))
			odd = 1;
	}
	return odd;
}
