/* SPDX-License-Identifier: Apache-2.0
 * One weight to its code and back, shared by the CPU and CUDA solvers: quotient in float32, ties to even, clamp last for integers. */
#ifndef BK_SOLVE_GRID_H
#define BK_SOLVE_GRID_H

#include "kernels/common/num.h"
#include "kernels/ops.h"

struct bk_code { int code; float value; };

BK_FN float bk_clampf(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }

/* 0, .5, 1, 1.5, 2, 3, 4, 6, and their negatives */
BK_FN float bk_e2m1_f32(int code)
{
	const int e = code >> 1 & 3, m = code & 1;
	const float a = e ? .5f * (float)((2 + m) << (e - 1)) : .5f * (float)m;

	return code & 8 ? -a : a;
}

/* scale is not 0 */
BK_FN struct bk_code bk_grid_round(float x, float scale, float zero, int number, float lo, float hi)
{
	struct bk_code c;

	if (number == BK_FULL) { /* the code: the pattern of the value */
		c.value = bk_round_bf16(x);
		c.code = (int)(bk_f32_bits(c.value) >> 16);
	} else if (number == BK_INT) {
		const float q = bk_round_int(bk_clampf(x / scale + zero, lo, hi));

		c.code = (int)q;
		c.value = (q - zero) * scale;
	} else if (number == BK_E2M1) {
		const float v = x / scale, a = v < 0 ? -v : v;
		const int i = (a > .25f) + (a >= .75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f);

		c.code = i | (v < 0 ? 8 : 0);
		c.value = bk_e2m1_f32(c.code) * scale;
	} else {
		const uint32_t e = bk_f32_e4m3(bk_clampf(x / scale, -448.0f, 448.0f));

		c.code = (int)(int8_t)(e == 0x80u ? 0u : e);
		c.value = bk_e4m3_f32((uint8_t)e) * scale;
	}
	return c;
}
/* 0 on any grid */
BK_FN struct bk_code bk_grid_zero(float zero, int number)
{
	struct bk_code c;

	c.code = number == BK_INT ? (int)zero : 0;
	c.value = 0;
	return c;
}
BK_FN float bk_grid_value(int code, float scale, float zero, int number)
{
	return number == BK_INT ? ((float)code - zero) * scale : (number == BK_E2M1 ? bk_e2m1_f32(code) : bk_e4m3_f32((uint8_t)code)) * scale;
}
BK_FN float bk_grid_lo(const struct bk_grid *g) { return -(float)(1 << (g->bits - 1)); }
BK_FN float bk_grid_hi(const struct bk_grid *g) { return (float)((1 << (g->bits - 1)) - 1); }


/* The scale that puts a group's largest |w| at the end of a symmetric grid, as it can be stored. 0 where there is none (and bfloat16 has no rule for it). */
BK_FN float bk_scale_of(float top, const struct bk_grid *g)
{
	if (g->scale == BK_SCALE_POW2) { /* the power of two below, carried from a mantissa of 1.75 on, as far below as the grid's largest value is above 1 */
		int e = (int)(((bk_f32_bits(bk_round_bf16(top)) >> 16) + 32) >> 7) - (g->number == BK_E4M3 ? 8 : 2);

		e = e < 0 ? 0 : e > 254 ? 254 : e;
		return e ? bk_bits_f32((uint32_t)e << 23) : 0x1p-127f;
	}
	if (g->scale == BK_SCALE_E4M3) {
		const uint32_t s = bk_f32_e4m3(bk_clampf(g->unit * bk_round_bf16(top / 6.0f), -448.0f, 448.0f));

		return (s ? bk_e4m3_f32((uint8_t)s) : 0.125f) / g->unit;
	}
	return bk_round_bf16(top / (g->number == BK_INT ? ((float)(1 << g->bits) - 1) / 2 : g->number == BK_E4M3 ? 448.0f : 6.0f));
}
/* What can be stored next to a scale; 0: nothing. */
BK_FN float bk_scale_near(float x, const struct bk_grid *g)
{
	if (g->scale == BK_SCALE_POW2) {
		const uint32_t u = bk_f32_bits(x);

		return x > 0 ? bk_bits_f32((u + 0x400000u) & 0x7f800000u) : 0;
	}
	if (g->scale == BK_SCALE_E4M3)
		return x > 0 ? bk_e4m3_f32((uint8_t)bk_f32_e4m3(bk_clampf(x * g->unit, 0, 448.0f))) / g->unit : 0;
	return bk_round_bf16(x);
}

#endif
