/* SPDX-License-Identifier: Apache-2.0
 * Scales in small types. Both expect values that these types hold. */
#include <math.h>

#include "plugins/exporters/compressed_tensors/ct.h"

static float e4m3(int code)
{
	const int e = code >> 3, m = code & 7;

	return e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);
}

const char *ct_e4m3_of(float x, uint8_t *code)
{
	int lo = 0, hi = 126; /* 448 */

	if (!(x > 0 && x < 500))
		return "a scale is outside of what 8 bits hold";
	while (lo < hi) { /* the last one that is not above x by more than half a step */
		const int mid = (lo + hi + 1) / 2;

		if (e4m3(mid) - x > x - e4m3(mid - 1))
			hi = mid - 1;
		else
			lo = mid;
	}
	*code = (uint8_t)lo;
	return fabsf(e4m3(lo) - x) > 1e-5f * x ? "a scale is none of the 8-bit floats over the unit's number" : NULL;
}

uint16_t ct_f16_of(float x)
{
	const uint16_t sign = signbit(x) ? 0x8000 : 0;
	int e;
	const float a = fabsf(x), f = frexpf(a, &e); /* a = f 2^e, f in [0.5, 1) */

	if (a < 0x1p-14f)
		return (uint16_t)(sign | (int)(a * 0x1p24f));
	return (uint16_t)(sign | (e + 14) << 10 | ((int)(f * 2048) - 1024));
}
