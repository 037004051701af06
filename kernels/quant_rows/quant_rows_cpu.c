/* SPDX-License-Identifier: Apache-2.0
 * quant_rows, fast: straight-line bodies over one group that the compiler turns into vector code; what varies per call (grid, quotient)
 * is a constant inside each inlined copy. Minimum and maximum are taken over order-preserving integers because float minima may not be
 * reordered. Divisions stay divisions: a reciprocal would change codes. */
#include "kernels/quant_rows/quant_rows.h"

#include <math.h>

#include "kernels/common/num.h"

#define LANES 16 /* partial sums; fixed, so that all variants add in the same order */

BK_BODY int64_t spr(int64_t cols, const struct bk_grid *g) { return g->group ? cols / g->group : 1; }
BK_BODY float grid_min(const struct bk_grid *g) { return (float)-(1 << (g->bits - 1)); }
BK_BODY float grid_max(const struct bk_grid *g) { return (float)((1 << (g->bits - 1)) - 1); }
BK_BODY float clampf(float t, float lo, float hi)
{
	t = t < lo ? lo : t;
	return t > hi ? hi : t;
}
BK_BODY int32_t order_key(uint32_t u) { return (int32_t)(u ^ ((u >> 31) * 0x7fffffffu)); }

BK_BODY void bk_range_body BK_RANGE_PARAMS
{
	int64_t n = spr(cols, g), width = n == 1 ? cols : g->group;

	for (int64_t i = 0; i < n_rows * n; i++) {
		const float *x = w + i * width;
		int32_t a = order_key(bk_f32_bits(x[0])), b = a;

		for (int64_t k = 0; k < width; k++) {
			int32_t key = order_key(bk_f32_bits(x[k]));

			a = key < a ? key : a;
			b = key > b ? key : b;
		}
		lo[i] = bk_bits_f32((uint32_t)order_key((uint32_t)a));
		hi[i] = bk_bits_f32((uint32_t)order_key((uint32_t)b));
	}
}
BK_VARIANTS(void, bk_range, BK_RANGE_PARAMS, (lo, hi, w, n_rows, cols, g))

BK_BODY float usable(float s)
{
	return s == 0.0f ? BK_SCALE_OF_ZERO : s;
}

BK_BODY void bk_scales_body BK_SCALES_PARAMS
{
	float p = (float)shrink, top = grid_max(g), bottom = grid_min(g);
	float steps = g->number == BK_E4M3 ? 448.0f : (float)((1 << g->bits) - 1) * (g->symmetric ? 0.5f : 1.0f);

	for (int64_t i = 0; i < n; i++) {
		float a = lo[i], b = hi[i], r, s, z;

		if (shrink != 1) {
			a = bk_round_bf16(a * p);
			b = bk_round_bf16(b * p);
		}
		if (g->symmetric) {
			a = fabsf(a);
			b = fabsf(b);
			scales[i] = usable(bk_round_bf16((a > b ? a : b) / steps));
			continue;
		}
		a = a < 0.0f ? a : 0.0f;
		b = b > 0.0f ? b : 0.0f;
		r = bk_round_bf16(b - a);
		s = bk_round_bf16(r <= BK_F32_MAX ? r / steps : b / steps - a / steps);
		z = clampf(bk_round_bf16(bottom - bk_round_bf16(a / s)), bottom, top); /* s may be 0 here, as in the library: z ends at a border */
		zeros[i] = z == z ? (int8_t)bk_round_int(z) : 0;
		scales[i] = usable(s);
	}
}
BK_VARIANTS(void, bk_scales, BK_SCALES_PARAMS, (scales, zeros, lo, hi, n, shrink, g))

/* The grid point of x in units of the scale (zero point still added), rounding to integers left to the caller. */
BK_BODY float quotient_of(float x, float s, float z, float bottom, float top, int asym, int bf16)
{
	float t = x / s;

	if (bf16)
		t = bk_round_bf16(t);
	if (asym) {
		t += z;
		if (bf16)
			t = bk_round_bf16(t);
	}
	return clampf(t, bottom, top);
}

BK_BODY void encode_int(int8_t *restrict q, const float *restrict x, int64_t n, float s, float z, float bottom, float top, int asym, int bf16)
{
	for (int64_t k = 0; k < n; k++)
		q[k] = (int8_t)(int32_t)bk_round_int(quotient_of(x[k], s, z, bottom, top, asym, bf16));
}

BK_BODY void encode_e4m3(int8_t *restrict q, const float *restrict x, int64_t n, float s, int bf16)
{
	/* + 0.0f: the library adds a zero point of +0, which turns -0.0 into +0.0 */
	for (int64_t k = 0; k < n; k++)
		q[k] = (int8_t)(uint8_t)bk_f32_e4m3(quotient_of(x[k], s, 0.0f, -448.0f, 448.0f, 0, bf16) + 0.0f);
}

BK_BODY void bk_encode_body BK_ENCODE_PARAMS
{
	int64_t n = spr(cols, g), width = n == 1 ? cols : g->group;
	float bottom = grid_min(g), top = grid_max(g);
	int kind = g->number == BK_E4M3 ? 2 : !g->symmetric;

	for (int64_t i = 0; i < n_rows * n; i++) {
		const float *x = w + i * width;
		int8_t *q = codes + i * width;
		float z = kind == 1 ? zeros[i] : 0.0f;

		switch (kind * 2 + (quotient == BK_QUOTIENT_BF16)) {
		case 0: encode_int(q, x, width, scales[i], z, bottom, top, 0, 0); break;
		case 1: encode_int(q, x, width, scales[i], z, bottom, top, 0, 1); break;
		case 2: encode_int(q, x, width, scales[i], z, bottom, top, 1, 0); break;
		case 3: encode_int(q, x, width, scales[i], z, bottom, top, 1, 1); break;
		case 4: encode_e4m3(q, x, width, scales[i], 0); break;
		case 5: encode_e4m3(q, x, width, scales[i], 1); break;
		}
	}
}
BK_VARIANTS(void, bk_encode, BK_ENCODE_PARAMS, (codes, w, scales, zeros, n_rows, cols, g, quotient))

BK_BODY void bk_decode_body BK_DECODE_PARAMS
{
	int64_t n = spr(cols, g), width = n == 1 ? cols : g->group;

	for (int64_t i = 0; i < n_rows * n; i++) {
		const int8_t *restrict q = codes + i * width;
		float *restrict y = w_hat + i * width;
		float s = scales[i];
		int32_t z = g->symmetric ? 0 : zeros[i];

		if (g->number == BK_E4M3) {
			for (int64_t k = 0; k < width; k++)
				y[k] = bk_e4m3_f32((uint8_t)q[k]) * s;
		} else {
			for (int64_t k = 0; k < width; k++)
				y[k] = (float)(q[k] - z) * s;
		}
	}
}
BK_VARIANTS(void, bk_decode, BK_DECODE_PARAMS, (w_hat, codes, scales, zeros, n_rows, cols, g))

/* log2 of a positive normal number: mantissa into [sqrt(1/2), sqrt(2)), then the series of atanh. */
BK_BODY float log2_of(float x)
{
	uint32_t u = bk_f32_bits(x), e = (u - 0x3f3504f3u) & 0xff800000u;
	float m = bk_bits_f32(u - e), z = (m - 1.0f) / (m + 1.0f), y = z * z;
	float p = 0.111111111f;

	p = p * y + 0.142857143f;
	p = p * y + 0.2f;
	p = p * y + 0.333333333f;
	p = p * y + 1.0f;
	return (float)((int32_t)e >> 23) + p * z * 2.88539008f;
}

/* 2^y for y <= 126; 0 below 2^-126 */
BK_BODY float exp2_of(float y)
{
	float c = y < -126.0f ? -126.0f : y, i = bk_round_int(c), f = c - i, p = 0.000154035304f;

	p = p * f + 0.00133335581f;
	p = p * f + 0.00961812911f;
	p = p * f + 0.0555041087f;
	p = p * f + 0.240226507f;
	p = p * f + 0.693147181f;
	p = p * f + 1.0f;
	p *= bk_bits_f32((uint32_t)((int32_t)i + 127) << 23);
	return bk_bits_f32(bk_pick(y >= -126.0f, bk_f32_bits(p), 0));
}

/* x rounded to the nearest E4M3 value, |x| <= 448 */
BK_BODY float snap_e4m3(float x)
{
	uint32_t u = bk_f32_bits(x), a = u & 0x7fffffffu;
	uint32_t normal = (a + 0x7ffffu + (a >> 20 & 1)) & 0xfff00000u;
	uint32_t tiny = bk_f32_bits((bk_bits_f32(a) + 0x1p14f) - 0x1p14f);

	return bk_bits_f32((u & 0x80000000u) | bk_pick(a < 0x3c800000u, tiny, normal));
}

struct error_call { /* constants of one group */
	float s, z, bottom, top, unit, norm;
};

/* Errors are measured in units of the scale (unit = 1/s) so that the power neither overflows nor vanishes. */
BK_BODY float error_at(float x, const struct error_call *c, int kind, int bf16, int square)
{
	float t = quotient_of(x, c->s, c->z, c->bottom, c->top, kind == 1, bf16), e;

	t = kind == 2 ? snap_e4m3(t) : bk_round_int(t) - c->z;
	e = fabsf((x - t * c->s) * c->unit);
	if (square)
		return e * e;
	/* 2^-60 units keep the logarithm away from 0 and are lost beside any error that counts */
	return bk_bits_f32(bk_pick(e > 0.0f, bk_f32_bits(exp2_of(c->norm * log2_of(e + 0x1p-60f))), 0));
}

BK_BODY double error_group(const float *restrict x, int64_t n, const struct error_call *c, int kind, int bf16, int square)
{
	double sum = 0;
	int64_t k = 0;

	while (k < n) {
		float lane[LANES] = { 0 };
		int64_t end = n - k > 64 * LANES ? k + 64 * LANES : n;

		for (; k + LANES <= end; k += LANES)
			for (int j = 0; j < LANES; j++)
				lane[j] += error_at(x[k + j], c, kind, bf16, square);
		for (int j = 0; k < end; k++, j++)
			lane[j] += error_at(x[k], c, kind, bf16, square);
		for (int j = 0; j < LANES; j++)
			sum += lane[j];
	}
	return sum;
}

BK_BODY void bk_error_body BK_ERROR_PARAMS
{
	int64_t n = spr(cols, g), width = n == 1 ? cols : g->group;
	int kind = g->number == BK_E4M3 ? 2 : !g->symmetric;
	struct error_call c = { .bottom = kind == 2 ? -448.0f : grid_min(g), .top = kind == 2 ? 448.0f : grid_max(g), .norm = (float)norm };

	for (int64_t i = 0; i < n_rows * n; i++) {
		const float *x = w + i * width;
		double sum = 0, back;

		c.s = scales[i];
		c.z = kind == 1 ? zeros[i] : 0.0f;
		c.unit = clampf(1.0f / c.s, 0x1p-120f, 0x1p120f);
		switch (kind * 4 + (quotient == BK_QUOTIENT_BF16) * 2 + (norm == 2)) {
		case 0: sum = error_group(x, width, &c, 0, 0, 0); break;
		case 1: sum = error_group(x, width, &c, 0, 0, 1); break;
		case 2: sum = error_group(x, width, &c, 0, 1, 0); break;
		case 3: sum = error_group(x, width, &c, 0, 1, 1); break;
		case 4: sum = error_group(x, width, &c, 1, 0, 0); break;
		case 5: sum = error_group(x, width, &c, 1, 0, 1); break;
		case 6: sum = error_group(x, width, &c, 1, 1, 0); break;
		case 7: sum = error_group(x, width, &c, 1, 1, 1); break;
		case 8: sum = error_group(x, width, &c, 2, 0, 0); break;
		case 9: sum = error_group(x, width, &c, 2, 0, 1); break;
		case 10: sum = error_group(x, width, &c, 2, 1, 0); break;
		case 11: sum = error_group(x, width, &c, 2, 1, 1); break;
		}
		back = pow(1.0 / (double)c.unit, norm);
		err[i] = (float)(sum * back);
	}
}
BK_VARIANTS(void, bk_error, BK_ERROR_PARAMS, (err, w, scales, zeros, n_rows, cols, g, quotient, norm))

BK_BODY void bk_sum_squares_body BK_SUM_SQUARES_PARAMS
{
	double a[LANES] = { 0 }, b[LANES] = { 0 };
	int64_t k = 0;

	for (; k + LANES <= n; k += LANES)
		for (int j = 0; j < LANES; j++) {
			double x = w[k + j], e = x - (double)w_hat[k + j];

			a[j] += x * x;
			b[j] += e * e;
		}
	for (int j = 0; k < n; k++, j++) {
		double x = w[k], e = x - (double)w_hat[k];

		a[j] += x * x;
		b[j] += e * e;
	}
	for (int j = 0; j < LANES; j++) {
		*w2 += a[j];
		*e2 += b[j];
	}
}
BK_VARIANTS(void, bk_sum_squares, BK_SUM_SQUARES_PARAMS, (w2, e2, w, w_hat, n))
