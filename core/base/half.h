/* SPDX-License-Identifier: Apache-2.0
 * Small floating-point formats <-> float32. Rounding is to nearest, ties to even, everywhere.
 * e4m3 = "fn" variant: no infinities, NaN 0x7F/0xFF, largest 448; encoding saturates. e2m1: codes 0..15 (bit 3 = sign). */
#ifndef BL_BASE_HALF_H
#define BL_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float bl_bits_f32(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t bl_f32_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float bl_bf16_f32(uint16_t h) { return bl_bits_f32((uint32_t)h << 16); }
static inline uint16_t bl_f32_bf16(float f)
{
	uint32_t u = bl_f32_bits(f);
	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40); /* quiet NaN */
	return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
/* f rounded to bf16 and back */
static inline float bl_round_bf16(float f) { return bl_bf16_f32(bl_f32_bf16(f)); }

float bl_f16_f32(uint16_t h);
uint16_t bl_f32_f16(float f);
float bl_e4m3_f32(uint8_t v);
uint8_t bl_f32_e4m3(float f); /* saturating; NaN -> 0x7F; -0.0 keeps its sign */
float bl_e2m1_f32(uint8_t code);
uint8_t bl_f32_e2m1(float f);

#endif
