/* SPDX-License-Identifier: Apache-2.0
 * Small floating-point formats. Encoders scale the input so that the target's last place is one unit and let
 * the processor's own round-to-nearest-even do the rounding; no tables, no data-dependent branches in the common case. */
#include "core/base/half.h"

#include <math.h>

float bl_f16_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;

	if (e == 31)
		return bl_bits_f32(sign | 0x7f800000u | m << 13);
	if (e == 0) {
		float f = (float)m * 0x1p-24f;

		return sign ? -f : f;
	}
	return bl_bits_f32(sign | (e + 112) << 23 | m << 13);
}

uint16_t bl_f32_f16(float f)
{
	uint32_t u = bl_f32_bits(f), a = u & 0x7fffffffu;
	uint16_t sign = (uint16_t)(u >> 16 & 0x8000);

	if (a > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff));
	if (a >= 0x477ff000u) /* 65520 and above round to infinity */
		return sign | 0x7c00;
	if (a < 0x38800000u) { /* below 2^-14: adding 0.5 leaves units of 2^-24 in the low bits, rounded to even */
		float t = bl_bits_f32(a) + 0.5f;

		return (uint16_t)(sign | (bl_f32_bits(t) - 0x3f000000u));
	}
	a += 0xfffu + (a >> 13 & 1);
	return (uint16_t)(sign | ((a >> 13) - (112u << 10)));
}

float bl_e4m3_f32(uint8_t v)
{
	uint32_t sign = (uint32_t)(v & 0x80) << 24, e = v >> 3 & 15, m = v & 7;

	if ((v & 0x7f) == 0x7f)
		return bl_bits_f32(sign | 0x7fc00000u);
	if (e == 0) {
		float f = (float)m * 0x1p-9f;

		return sign ? -f : f;
	}
	return bl_bits_f32(sign | (e + 120) << 23 | m << 20);
}

uint8_t bl_f32_e4m3(float f)
{
	uint32_t u = bl_f32_bits(f), a = u & 0x7fffffffu;
	uint8_t sign = (uint8_t)(u >> 24 & 0x80);

	if (a > 0x7f800000u)
		return 0x7f;
	if (a >= 0x43e00000u) /* 448: everything from here on saturates */
		return sign | 0x7e;
	if (a < 0x3c800000u) { /* below 2^-6: units of 2^-9 */
		float t = bl_bits_f32(a) + 0x1p14f;

		return (uint8_t)(sign | (bl_f32_bits(t) - 0x46800000u));
	}
	a += 0x7ffffu + (a >> 20 & 1);
	return (uint8_t)(sign | ((a >> 20) - (120u << 3)));
}

static const float e2m1_value[8] = { 0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f };

float bl_e2m1_f32(uint8_t code)
{
	float f = e2m1_value[code & 7];

	return code & 8 ? -f : f;
}

uint8_t bl_f32_e2m1(float f)
{
	uint8_t sign = bl_f32_bits(f) >> 31 ? 8 : 0;
	float a = fabsf(f);

	/* the eight values are units of 1/2, 1 and 2 in three stretches; rintf breaks ties to the even code in each */
	if (!(a <= 5.0f)) /* also NaN, which the format cannot hold */
		return sign | 7;
	if (a < 2.0f)
		return (uint8_t)(sign | (uint8_t)rintf(a * 2.0f));
	if (a < 4.0f)
		return (uint8_t)(sign | (uint8_t)(2 + (int)rintf(a)));
	return (uint8_t)(sign | 6);
}
