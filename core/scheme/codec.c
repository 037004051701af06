/* SPDX-License-Identifier: Apache-2.0
 * Codes as weights, and table grids. */
#include "core/scheme/codec.h"

#include <math.h>

#include "core/base/half.h"

#define SCB_UNIT 7.874015718698502e-3f /* 1/127 as bitsandbytes writes it */
#define FP4_MAX 6.0f
#define E4M3_MAX 448.0f

static const float e2m1[16] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -.5f, -1, -1.5f, -2, -3, -4, -6 };
static const float nf4[16] = {
	-1.f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.f,
	0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.f,
};

/* What bitsandbytes calls fp4, by code: 0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4 and their negatives. */
static const float bnb_fp4[16] = {
	0, 0x1.555556p-8f, 0x1.555556p-1f, 1, 0x1.555556p-2f, .5f, 0x1.555556p-3f, .25f, 0, -0x1.555556p-8f, -0x1.555556p-1f, -1, -0x1.555556p-2f, -.5f, -0x1.555556p-3f, -.25f,
};

float bl_scheme_value(const struct bl_scheme *s, int8_t code)
{
	switch (s->number) {
	case BL_NUM_FLOAT: return bl_e4m3_f32((uint8_t)code);
	case BL_NUM_E2M1: return e2m1[code & 15];
	case BL_NUM_NF4: return nf4[code & 15];
	case BL_NUM_BNB_FP4: return bnb_fp4[code & 15];
	default: return (float)code;
	}
}

float bl_scheme_step(const struct bl_scheme *s, float scale)
{
	return s->number == BL_NUM_SCB ? scale * SCB_UNIT : scale;
}

/* One row. */
static void decode_row(float *w, const struct bl_scheme *s, const struct bl_coded *c, int64_t row, int64_t cols, const float table[256])
{
	const int64_t spr = bl_scheme_scales_per_row(s, cols), width = cols / spr;
	const int8_t *q = c->codes + row * cols, *zeros = c->zeros ? c->zeros + row * spr : NULL;
	const float *scales = c->scales + row * spr;

	if (s->number == BL_NUM_SCB) {
		for (int64_t k = 0; k < cols; k++)
			w[k] = (float)q[k] * scales[0] * SCB_UNIT;
	} else if (c->group_of) {
		for (int64_t k = 0; k < cols; k++) {
			const int32_t g = c->group_of[k];

			w[k] = (table[(uint8_t)q[k]] - (zeros ? (float)zeros[g] : 0)) * scales[g];
		}
	} else {
		for (int64_t g = 0; g < spr; g++) {
			const float z = zeros ? (float)zeros[g] : 0;

			for (int64_t k = g * width; k < (g + 1) * width; k++)
				w[k] = (table[(uint8_t)q[k]] - z) * scales[g];
		}
	}
}

void bl_scheme_decode(float *w, const struct bl_scheme *s, const struct bl_coded *c, int64_t rows, int64_t cols)
{
	float table[256];

	for (int i = 0; i < 256; i++)
		table[i] = bl_scheme_value(s, (int8_t)(uint8_t)i);
	for (int64_t r = 0; r < rows; r++)
		decode_row(w + r * cols, s, c, r, cols, table);
}

void bl_scheme_decode_bf16(uint16_t *w, const struct bl_scheme *s, const struct bl_coded *c, int64_t rows, int64_t cols)
{
	enum { PIECE = 64 };
	float table[256], f[PIECE];

	for (int i = 0; i < 256; i++)
		table[i] = bl_scheme_value(s, (int8_t)(uint8_t)i);
	for (int64_t r = 0; r < rows; r++) {
		const int64_t spr = bl_scheme_scales_per_row(s, cols), width = cols / spr;

		for (int64_t k0 = 0; k0 < cols; k0 += PIECE) {
			const int64_t n = cols - k0 < PIECE ? cols - k0 : PIECE;

			for (int64_t k = 0; k < n; k++) {
				const int64_t g = r * spr + (c->group_of ? c->group_of[k0 + k] : (k0 + k) / width);
				const float q = table[(uint8_t)c->codes[r * cols + k0 + k]] - (c->zeros ? (float)c->zeros[g] : 0);

				f[k] = s->number == BL_NUM_SCB ? q * c->scales[g] * SCB_UNIT : q * c->scales[g];
			}
			for (int64_t k = 0; k < n; k++)
				w[r * cols + k0 + k] = bl_f32_bf16(f[k]);
		}
	}
}

/* ---- tables ---- */

/* Biased exponent of the power of two below absmax, carried from a mantissa of 1.75 on, as far below as the largest value's exponent. */
static float mx_scale(float absmax, int below)
{
	int e = (int)(((bl_f32_bits(bl_round_bf16(absmax)) >> 16) + 32) >> 7) - below;

	e = e < 0 ? 0 : e > 254 ? 254 : e;
	return e ? bl_bits_f32((uint32_t)e << 23) : 0x1p-127f;
}

float bl_mx8_scale(float absmax) { return mx_scale(absmax, 8); }

void bl_book_scales(float *scales, const float *absmax, int64_t n, int number)
{
	for (int64_t i = 0; i < n; i++)
		scales[i] = number == BL_NUM_E2M1 ? mx_scale(absmax[i], 2) : number == BL_NUM_SCB && absmax[i] == 0 ? 0x1p-7f : absmax[i];
}

/* Ties go to the even code; a negative value that becomes 0 keeps its sign, -0.0 does not. */
static int8_t encode_e2m1(float x)
{
	const float a = fabsf(x);
	const int i = (a > .25f) + (a >= .75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f);

	return (int8_t)(i | (x < 0 ? 8 : 0));
}

/* The number of midpoints below x: a midpoint goes down. */
static int8_t encode_nf4(float x)
{
	int lo = 0, hi = 15;

	while (lo < hi) {
		const int mid = (lo + hi) / 2;

		if ((nf4[mid] + nf4[mid + 1]) / 2 < x)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (int8_t)lo;
}

/* The same over the values in ascending order; of the two codes of 0 the first is the lower one. */
static int8_t encode_bnb_fp4(float x)
{
	static const int8_t order[16] = { 11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3 };
	int i = 0;

	while (i < 15 && (bnb_fp4[order[i]] + bnb_fp4[order[i + 1]]) / 2 < x)
		i++;
	return order[i];
}

static float clampf(float x, float top) { return x < -top ? -top : x > top ? top : x; }

void bl_book_encode(int8_t *codes, const float *w, const float *scales, int64_t rows, int64_t cols, int number, int64_t group)
{
	const int64_t width = group > 0 ? group : cols, n = rows * (cols / width);

	for (int64_t i = 0; i < n; i++) {
		const float s = scales[i], *x = w + i * width;
		int8_t *q = codes + i * width;

		if (number == BL_NUM_E2M1 && width == 32) {
			for (int64_t k = 0; k < width; k++)
				q[k] = encode_e2m1(clampf(bl_round_bf16(x[k] / s), FP4_MAX));
		} else if (number == BL_NUM_E2M1) {
			for (int64_t k = 0; k < width; k++)
				q[k] = encode_e2m1(clampf(x[k] / s, FP4_MAX));
		} else if (number == BL_NUM_NF4 || number == BL_NUM_BNB_FP4) {
			const float inv = 1 / (s > 1e-38f ? s : 1e-38f);

			for (int64_t k = 0; k < width; k++)
				q[k] = number == BL_NUM_NF4 ? encode_nf4(clampf(x[k] * inv, 1)) : encode_bnb_fp4(clampf(x[k] * inv, 1));
		} else { /* reciprocal first */
			const float r = s > 0 ? 1 / s * 127 : 0;

			for (int64_t k = 0; k < width; k++)
				q[k] = (int8_t)rintf(clampf(x[k] * r, 127));
		}
	}
}

void bl_book_decode(float *w, const int8_t *codes, const float *scales, int64_t rows, int64_t cols, int number, int64_t group)
{
	const struct bl_scheme s = { .number = (uint8_t)number, .group = (uint16_t)(group > 0 ? group : 0) };
	const struct bl_coded c = { codes, scales, NULL, NULL };

	bl_scheme_decode(w, &s, &c, rows, cols);
}

/* ---- NVFP4 ---- */

float bl_nvfp4_global(float unit_absmax)
{
	return unit_absmax > 0 ? bl_round_bf16(bl_round_bf16(1 / unit_absmax) * (E4M3_MAX * FP4_MAX)) : 1;
}

float bl_nvfp4_scale(float group_absmax, float global)
{
	const uint8_t s = bl_f32_e4m3(clampf(global * bl_round_bf16(group_absmax / FP4_MAX), E4M3_MAX));

	return (s ? bl_e4m3_f32(s) : 0.125f) / global;
}
