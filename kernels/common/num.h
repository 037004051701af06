/* SPDX-License-Identifier: Apache-2.0
 * Number formats as straight-line integer and float arithmetic, so that a loop over them becomes vector code on any
 * processor, and so that the CUDA kernels share it. Rounding is to nearest, ties to even. Kernels know nothing of core: this repeats what they need of it. */
#ifndef BK_COMMON_NUM_H
#define BK_COMMON_NUM_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define BK_FN static __host__ __device__ __forceinline__
#else
#define BK_FN static inline
#endif

/* elements at any address */
typedef uint16_t __attribute__((aligned(1), may_alias)) bk_u16_any;
typedef uint32_t __attribute__((aligned(1), may_alias)) bk_u32_any;

BK_FN float bk_bits_f32(uint32_t u)
{
	float f;

	memcpy(&f, &u, 4);
	return f;
}

BK_FN uint32_t bk_f32_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u;
}

BK_FN float bk_bf16_f32(uint16_t h) { return bk_bits_f32((uint32_t)h << 16); }

/* c ? a : b without a branch, in a form every compiler turns into a vector blend */
BK_FN uint32_t bk_pick(int c, uint32_t a, uint32_t b)
{
	uint32_t mask = 0u - (uint32_t)c;

	return (a & mask) | (b & ~mask);
}

/* To bfloat16 and back. Infinities stay, NaNs stay NaNs as long as they are quiet. */
BK_FN float bk_round_bf16(float f)
{
	uint32_t u = bk_f32_bits(f);

	return bk_bits_f32((u + 0x7fffu + (u >> 16 & 1)) & 0xffff0000u);
}

BK_FN float bk_f16_f32(uint16_t h)
{
	uint32_t x = h, sign = (x & 0x8000) << 16, a = (x & 0x7fff) << 13;
	uint32_t normal = a + (112u << 23), odd = a + (224u << 23); /* odd: Inf and NaN */
	uint32_t tiny = bk_f32_bits(bk_bits_f32(normal + (1u << 23)) - 0x1p-14f);
	uint32_t u = bk_pick(a >= 31u << 23, odd, bk_pick(a < 1u << 23, tiny, normal));

	return bk_bits_f32(sign | u);
}

/* -128 .. 127 at most: the sum lands where a float's last place is 1 */
BK_FN float bk_round_int(float f) { return (f + 12582912.0f) - 12582912.0f; }

/* |f| <= 448 */
BK_FN uint32_t bk_f32_e4m3(float f)
{
	uint32_t u = bk_f32_bits(f), sign = u >> 24 & 0x80u, a = u & 0x7fffffffu;
	uint32_t normal = ((a + 0x7ffffu + (a >> 20 & 1)) >> 20) - 960u;
	uint32_t tiny = bk_f32_bits(bk_bits_f32(a) + 0x1p14f) - 0x46800000u; /* units of 2^-9 */

	return sign | bk_pick(a < 0x3c800000u, tiny, normal);
}

/* The nearest of 0, .5, 1, 1.5, 2, 3, 4, 6 with the sign of f, ties to the even code; |f| <= 6 */
BK_FN float bk_round_e2m1(float f)
{
	float a = bk_bits_f32(bk_f32_bits(f) & 0x7fffffffu);
	uint32_t up = bk_pick(a < 2.0f, 0x40000000u, bk_pick(a < 4.0f, 0x3f800000u, 0x3f000000u)); /* 2, 1, 1/2 */
	float y = bk_round_int(a * bk_bits_f32(up)) * bk_bits_f32(bk_pick(a < 2.0f, 0x3f000000u, bk_pick(a < 4.0f, 0x3f800000u, 0x40000000u)));

	return bk_bits_f32(bk_f32_bits(y) | (bk_f32_bits(f) & 0x80000000u));
}

BK_FN float bk_e4m3_f32(uint8_t c)
{
	uint32_t x = c, sign = (x & 0x80) << 24, a = x & 0x7f;
	uint32_t normal = (a << 20) + (120u << 23), tiny = bk_f32_bits((float)(int32_t)a * 0x1p-9f);
	uint32_t u = bk_pick(a < 8, tiny, bk_pick(a == 0x7f, 0x7fc00000u, normal));

	return bk_bits_f32(sign | u);
}

#endif
