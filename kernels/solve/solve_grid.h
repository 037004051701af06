/* SPDX-License-Identifier: Apache-2.0
 * One weight to its code and back, shared by the CPU and CUDA solvers: quotient in float32, ties to even, clamp last for integers. */
#ifndef BK_SOLVE_GRID_H
#define BK_SOLVE_GRID_H

#include "kernels/common/num.h"
#include "kernels/ops.h"

struct bk_code { int code; float value; };

BK_FN float bk_clampf(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }

/* inv = 1 / scale; scale is not 0 */
BK_FN struct bk_code bk_grid_round(float x, float scale, float zero, int number, float lo, float hi)
{
	struct bk_code c;

	if (number == BK_INT) {
		const float q = bk_round_int(bk_clampf(x / scale + zero, lo, hi));

		c.code = (int)q;
		c.value = (q - zero) * scale;
	} else {
		const uint32_t e = bk_f32_e4m3(bk_clampf(x / scale, -448.0f, 448.0f));

		c.code = (int)(int8_t)(e == 0x80u ? 0u : e);
		c.value = bk_e4m3_f32((uint8_t)e) * scale;
	}
	return c;
}
BK_FN float bk_grid_value(int code, float scale, float zero, int number)
{
	return number == BK_INT ? ((float)code - zero) * scale : bk_e4m3_f32((uint8_t)code) * scale;
}
BK_FN float bk_grid_lo(const struct bk_grid *g) { return -(float)(1 << (g->bits - 1)); }
BK_FN float bk_grid_hi(const struct bk_grid *g) { return (float)((1 << (g->bits - 1)) - 1); }

#endif
