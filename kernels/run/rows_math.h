/* SPDX-License-Identifier: Apache-2.0
 * Pieces of row by row loops that become vector code. exp is a polynomial (Cephes' coefficients, error below 2 units in the last place) because a library
 * call would stop the vectorizer. */
#ifndef BK_RUN_ROWS_MATH_H
#define BK_RUN_ROWS_MATH_H

#include "kernels/common/num.h"
#include "kernels/common/variants.h"

#define LANES 16

/* x in -87.3 .. 88.4 gives e^x; below it 0, above it e^88.4 */
BK_BODY float fast_exp(float x)
{
	float y = x > 88.37f ? 88.37f : x, n, r, p;

	y = y < -87.33f ? -87.33f : y;
	n = bk_round_int(y * 1.44269504f);
	r = y - n * 0.693359375f;
	r = r - n * -2.12194440e-4f;
	p = 1.9875691500e-4f;
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	p = p * bk_bits_f32((uint32_t)((int32_t)n + 127) << 23);
	return bk_bits_f32(bk_pick(x < -87.33f, 0, bk_f32_bits(x != x ? x : p)));
}

BK_BODY float maybe_round(float f, int round) { return round ? bk_round_bf16(f) : f; }

BK_BODY uint16_t to_bf16(float f)
{
	uint32_t u = bk_f32_bits(f);

	return (uint16_t)(bk_pick((u & 0x7fffffffu) > 0x7f800000u, u | 0x400000u, u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

BK_BODY float sum_lanes(const float *l)
{
	float s = 0;

	for (int k = 0; k < LANES; k++)
		s += l[k];
	return s;
}

#endif
