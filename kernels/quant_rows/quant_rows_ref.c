/* SPDX-License-Identifier: Apache-2.0
 * quant_rows, the obvious way: one element at a time, C library rounding, double sums. The check compares the fast versions with this. */
#include "kernels/quant_rows/quant_rows.h"

#include <math.h>
#include <string.h>

static float to_bf16(float f)
{
	uint32_t u;

	if (isnan(f) || isinf(f))
		return f;
	memcpy(&u, &f, 4);
	u = (u + 0x7fff + (u >> 16 & 1)) >> 16 << 16;
	memcpy(&f, &u, 4);
	return f;
}

static int spr(int64_t cols, const struct bk_grid *g) { return (int)(g->group ? cols / g->group : 1); }
static int64_t width(int64_t cols, const struct bk_grid *g) { return g->group ? g->group : cols; }
static float qmin(const struct bk_grid *g) { return (float)-(1 << (g->bits - 1)); }
static float qmax(const struct bk_grid *g) { return (float)((1 << (g->bits - 1)) - 1); }

/* f is within the format's range; the step is the distance of neighbours at f */
static float to_e4m3(float f)
{
	float a = fabsf(f), step;
	int e;

	if (a == 0)
		return f;
	frexpf(a, &e); /* a = m * 2^e, m in [0.5, 1) */
	step = ldexpf(1.0f, (e - 1 < -6 ? -6 : e - 1) - 3);
	return copysignf(rintf(a / step) * step, f);
}

static uint8_t e4m3_byte(float v)
{
	float a = fabsf(v);
	uint8_t sign = signbit(v) ? 0x80 : 0;
	int e;

	if (a < ldexpf(1.0f, -6))
		return (uint8_t)(sign | (int)ldexpf(a, 9));
	frexpf(a, &e);
	return (uint8_t)(sign | (e + 6) << 3 | ((int)ldexpf(a, 4 - e) - 8));
}

static float e4m3_value(uint8_t c)
{
	int e = c >> 3 & 15, m = c & 7;
	float a = (c & 0x7f) == 0x7f ? NAN : e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);

	return c & 0x80 ? -a : a;
}

/* The grid point of w in units of the scale, zero point still added. */
static float point(float w, float s, float z, const struct bk_grid *g, enum bk_quotient quotient)
{
	int bf16 = quotient == BK_QUOTIENT_BF16;
	float t = w / s;

	if (bf16)
		t = to_bf16(t);
	if (g->number == BK_E4M3)
		return to_e4m3(fmaxf(-448, fminf(448, t + 0.0f)));
	if (!g->symmetric)
		t = bf16 ? to_bf16(t + z) : t + z;
	return rintf(fmaxf(qmin(g), fminf(qmax(g), t)));
}

void bk_range_ref BK_RANGE_PARAMS
{
	for (int64_t i = 0; i < n_rows * spr(cols, g); i++) {
		lo[i] = hi[i] = w[i * width(cols, g)];
		for (int64_t k = 0; k < width(cols, g); k++) {
			lo[i] = fminf(lo[i], w[i * width(cols, g) + k]);
			hi[i] = fmaxf(hi[i], w[i * width(cols, g) + k]);
		}
	}
}

void bk_scales_ref BK_SCALES_PARAMS
{
	for (int64_t i = 0; i < n; i++) {
		float a = lo[i], b = hi[i], s;

		if (shrink != 1) {
			a = to_bf16(a * (float)shrink);
			b = to_bf16(b * (float)shrink);
		}
		if (g->symmetric) {
			s = to_bf16(fmaxf(fabsf(a), fabsf(b)) / (g->number == BK_E4M3 ? 448 : (float)((1 << g->bits) - 1) / 2));
		} else {
			float z, r;

			a = fminf(a, 0);
			b = fmaxf(b, 0);
			r = to_bf16(b - a);
			s = to_bf16(isfinite(r) ? r / (float)((1 << g->bits) - 1)
						: b / (float)((1 << g->bits) - 1) - a / (float)((1 << g->bits) - 1));
			z = to_bf16(qmin(g) - to_bf16(a / s));
			zeros[i] = isnan(z) ? 0 : (int8_t)rintf(fmaxf(qmin(g), fminf(qmax(g), z)));
		}
		scales[i] = s == 0 ? BK_SCALE_OF_ZERO : s;
	}
}

void bk_encode_ref BK_ENCODE_PARAMS
{
	for (int64_t i = 0; i < n_rows * cols; i++) {
		int64_t j = i / width(cols, g);
		float p = point(w[i], scales[j], g->symmetric ? 0 : zeros[j], g, quotient);

		codes[i] = g->number == BK_E4M3 ? (int8_t)e4m3_byte(p) : (int8_t)p;
	}
}

void bk_decode_ref BK_DECODE_PARAMS
{
	for (int64_t i = 0; i < n_rows * cols; i++) {
		int64_t j = i / width(cols, g);

		if (g->number == BK_E4M3)
			w_hat[i] = e4m3_value((uint8_t)codes[i]) * scales[j];
		else
			w_hat[i] = (float)(codes[i] - (g->symmetric ? 0 : zeros[j])) * scales[j];
	}
}

void bk_error_ref BK_ERROR_PARAMS
{
	for (int64_t j = 0; j < n_rows * spr(cols, g); j++) {
		double sum = 0;

		for (int64_t k = 0; k < width(cols, g); k++) {
			float x = w[j * width(cols, g) + k], z = g->symmetric ? 0 : zeros[j];

			sum += pow(fabs((double)(x - (point(x, scales[j], z, g, quotient) - z) * scales[j])), norm);
		}
		err[j] = (float)sum;
	}
}

void bk_sum_squares_ref BK_SUM_SQUARES_PARAMS
{
	for (int64_t i = 0; i < n; i++) {
		double e = (double)w[i] - w_hat[i];

		*w2 += (double)w[i] * w[i];
		*e2 += e * e;
	}
}
