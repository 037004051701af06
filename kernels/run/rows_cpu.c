/* SPDX-License-Identifier: Apache-2.0
 * Row by row work, as loops that become vector code. Sums run over a fixed number of lanes so that every variant adds in the same order. */
#include "kernels/run/rows.h"

#include <math.h>
#include <string.h>

#include "kernels/run/rows_math.h"

static uint16_t to_f16(float f)
{
	uint32_t u = bk_f32_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;

	if (a > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00u);
	if (a >= 0x477ff000u) /* 65520 and up */
		return (uint16_t)(sign | 0x7c00u);
	if (a < 0x38800000u) /* below 2^-14: units of 2^-24 */
		return (uint16_t)(sign | (bk_f32_bits(bk_bits_f32(a) + 0.5f) - 0x3f000000u));
	return (uint16_t)(sign | ((a + 0xfffu + (a >> 13 & 1)) - (112u << 23)) >> 13);
}

BK_BODY void load_body(float *restrict d, const void *restrict s, int dtype, int64_t n)
{
	const bk_u16_any *h = s;
	const bk_u32_any *u = s;
	const int8_t *c = s;

	if (dtype == BK_BF16)
		for (int64_t i = 0; i < n; i++)
			d[i] = bk_bits_f32((uint32_t)h[i] << 16);
	else if (dtype == BK_F16)
		for (int64_t i = 0; i < n; i++)
			d[i] = bk_f16_f32(h[i]);
	else if (dtype == BK_F32)
		for (int64_t i = 0; i < n; i++)
			d[i] = bk_bits_f32(u[i]);
	else if (dtype == BK_I8)
		for (int64_t i = 0; i < n; i++)
			d[i] = (float)c[i];
	else
		for (int64_t i = 0; i < n; i++)
			d[i] = bk_e4m3_f32((uint8_t)c[i]);
}

BK_BODY void store_body(void *restrict d, int dtype, const float *restrict s, int64_t n)
{
	bk_u16_any *h = d;

	if (dtype == BK_BF16)
		for (int64_t i = 0; i < n; i++)
			h[i] = to_bf16(s[i]);
	else if (dtype == BK_F16)
		for (int64_t i = 0; i < n; i++)
			h[i] = to_f16(s[i]);
	else
		memcpy(d, s, (size_t)n * sizeof(float));
}

BK_BODY void norm_body(float *y, const float *x, const float *w, int64_t n, double eps, int plus_one, int round)
{
	float l[LANES] = { 0 }, r;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++)
			l[k] += x[i + k] * x[i + k];
	for (; i < n; i++)
		l[i % LANES] += x[i] * x[i];
	r = 1.0f / sqrtf(sum_lanes(l) / (float)n + (float)eps);
	if (plus_one)
		for (i = 0; i < n; i++)
			y[i] = maybe_round(x[i] * r * (1.0f + w[i]), round);
	else
		for (i = 0; i < n; i++)
			y[i] = maybe_round(maybe_round(x[i] * r, round) * w[i], round);
}

BK_BODY void rope_body(float *x, const float *c, const float *s, int64_t half, int round)
{
	for (int64_t i = 0; i < half; i++) {
		float ci = maybe_round(c[i], round), si = maybe_round(s[i], round), a = x[i], b = x[i + half];

		x[i] = maybe_round(maybe_round(a * ci, round) - maybe_round(b * si, round), round);
		x[i + half] = maybe_round(maybe_round(b * ci, round) + maybe_round(a * si, round), round);
	}
}

BK_BODY void add_body(float *restrict x, const float *restrict a, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		x[i] += a[i];
}

BK_BODY void scale_body(float *x, float f, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		x[i] *= f;
}

BK_BODY void gate_body(float *h, const float *g, const float *u, int64_t n, int kind, int round)
{
	if (kind == BK_GATE_SILU)
		for (int64_t i = 0; i < n; i++)
			h[i] = maybe_round(maybe_round(g[i] / (1.0f + fast_exp(-g[i])), round) * u[i], round);
	else /* 0.5 (1 + tanh z) = 1 / (1 + exp(-2 z)) */
		for (int64_t i = 0; i < n; i++) {
			float z = 1.5957691216f * (g[i] + 0.044715f * g[i] * g[i] * g[i]);

			h[i] = maybe_round(maybe_round(g[i] / (1.0f + fast_exp(-z)), round) * u[i], round);
		}
}

BK_BODY void softcap_body(float *x, float cap, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		float z = x[i] / cap, a = bk_bits_f32(bk_f32_bits(z) & 0x7fffffffu), e = fast_exp(-2.0f * a);
		float small = a - a * a * a * 0.33333333f, t = (1.0f - e) / (1.0f + e); /* the quotient loses digits near 0 */

		t = a < 0.02f ? small : t;
		x[i] = cap * bk_bits_f32(bk_f32_bits(t) | (bk_f32_bits(z) & 0x80000000u));
	}
}

BK_BODY float maximum_body(const float *x, int64_t n)
{
	float l[LANES], m = -INFINITY;
	int64_t i = 0;

	for (int k = 0; k < LANES; k++)
		l[k] = -INFINITY;
	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++)
			l[k] = x[i + k] > l[k] ? x[i + k] : l[k];
	for (; i < n; i++)
		m = x[i] > m ? x[i] : m;
	for (int k = 0; k < LANES; k++)
		m = l[k] > m ? l[k] : m;
	return m;
}

BK_BODY float absmax_body(const float *x, int64_t n)
{
	uint32_t l[LANES] = { 0 }, m = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++) {
			uint32_t a = bk_f32_bits(x[i + k]) & 0x7fffffffu;

			l[k] = a > l[k] ? a : l[k];
		}
	for (; i < n; i++)
		m = (bk_f32_bits(x[i]) & 0x7fffffffu) > m ? bk_f32_bits(x[i]) & 0x7fffffffu : m;
	for (int k = 0; k < LANES; k++)
		m = l[k] > m ? l[k] : m;
	return bk_bits_f32(m);
}

/* x = exp(x - top), returns their sum before rounding */
BK_BODY float weights_body(float *x, float top, int64_t n, int round)
{
	float l[LANES] = { 0 };
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++) {
			float e = fast_exp(x[i + k] - top);

			l[k] += e;
			x[i + k] = maybe_round(e, round);
		}
	for (; i < n; i++) {
		float e = fast_exp(x[i] - top);

		l[i % LANES] += e;
		x[i] = maybe_round(e, round);
	}
	return sum_lanes(l);
}

BK_BODY void int8_codes_body(int8_t *restrict c, const float *restrict x, float f, int divide, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		float t = divide ? x[i] / f : x[i] * f;

		t = t < -128.0f ? -128.0f : t;
		t = t > 127.0f ? 127.0f : t;
		t = t == t ? t : 0.0f;
		c[i] = (int8_t)(int32_t)bk_round_int(t);
	}
}

BK_BODY void e4m3_codes_body(uint8_t *restrict c, const float *restrict x, float s, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		float t = x[i] / s;
		int nan = t != t;

		t = t < -448.0f ? -448.0f : t;
		t = t > 448.0f ? 448.0f : t;
		c[i] = (uint8_t)bk_pick(nan, 0x7f, bk_f32_e4m3(nan ? 0.0f : t));
	}
}

BK_BODY void e2m1_codes_body(uint8_t *restrict c, const float *restrict x, float f, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		float t = x[i] * f;
		int nan = t != t;

		t = t < -6.0f ? -6.0f : t;
		t = t > 6.0f ? 6.0f : t;
		c[i] = (uint8_t)bk_pick(nan, 0x7f, bk_f32_e4m3(bk_round_e2m1(nan ? 0.0f : t)));
	}
}

BK_BODY void grouped_body(float *restrict x, const float *restrict s, int64_t group, int64_t n)
{
	for (int64_t g = 0; g * group < n; g++)
		for (int64_t i = 0; i < group; i++)
			x[g * group + i] *= s[g];
}

/* a NaN stays one */
BK_BODY void rounded_body(float *x, float s, int kind, int round, int64_t n)
{
	if (kind == BK_TOKEN_INT8)
		for (int64_t i = 0; i < n; i++) {
			float t = maybe_round(x[i] / s, round);

			t = t < -128.0f ? -128.0f : t;
			t = t > 127.0f ? 127.0f : t;
			x[i] = maybe_round(bk_round_int(t) * s, round);
		}
	else if (kind == BK_TOKEN_E4M3)
		for (int64_t i = 0; i < n; i++) {
			float t = maybe_round(x[i] / s, round), y;
			int nan = t != t;

			t = t < -448.0f ? -448.0f : t;
			t = t > 448.0f ? 448.0f : t;
			y = bk_e4m3_f32((uint8_t)bk_f32_e4m3(nan ? 0.0f : t));
			x[i] = maybe_round((nan ? x[i] : y) * s, round);
		}
	else
		for (int64_t i = 0; i < n; i++) {
			float t = x[i] / s;
			int nan = t != t;

			t = t < -6.0f ? -6.0f : t;
			t = t > 6.0f ? 6.0f : t;
			x[i] = maybe_round((nan ? t : bk_round_e2m1(t)) * s, round);
		}
}

BK_BODY float dot_body(const float *restrict a, const void *restrict b, int dtype, int64_t n)
{
	const bk_u16_any *h = b;
	const bk_u32_any *u = b;
	float l[2 * LANES] = { 0 }, t = 0;
	int64_t i = 0;

	if (dtype == BK_BF16) {
		for (; i + 2 * LANES <= n; i += 2 * LANES)
			for (int k = 0; k < 2 * LANES; k++)
				l[k] += a[i + k] * bk_bits_f32((uint32_t)h[i + k] << 16);
		for (; i < n; i++)
			t += a[i] * bk_bits_f32((uint32_t)h[i] << 16);
	} else if (dtype == BK_F16) {
		for (; i < n; i++)
			t += a[i] * bk_f16_f32(h[i]);
	} else {
		for (; i + 2 * LANES <= n; i += 2 * LANES)
			for (int k = 0; k < 2 * LANES; k++)
				l[k] += a[i + k] * bk_bits_f32(u[i + k]);
		for (; i < n; i++)
			t += a[i] * bk_bits_f32(u[i]);
	}
	return sum_lanes(l) + sum_lanes(l + LANES) + t;
}

BK_BODY float sum_exp(const float *x, float top, int64_t n)
{
	double l[LANES] = { 0 }, s = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++)
			l[k] += (double)fast_exp(x[i + k] - top);
	for (; i < n; i++)
		s += (double)fast_exp(x[i] - top);
	for (int k = 0; k < LANES; k++)
		s += l[k];
	return (float)log(s);
}

BK_BODY float log_sum_body(const float *x, int64_t n, int64_t *best)
{
	float top = maximum_body(x, n);

	*best = 0;
	for (int64_t i = 0; i < n; i++)
		if (x[i] == top) {
			*best = i;
			break;
		}
	return top + sum_exp(x, top, n);
}

BK_BODY void kl_body(struct bk_row_kl_sums *o, const float *p, const float *q, int64_t n)
{
	double l[LANES] = { 0 }, s = 0;
	int64_t i = 0;

	o->lse_p = log_sum_body(p, n, &o->best_p);
	o->lse_q = log_sum_body(q, n, &o->best_q);
	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++) {
			float lp = p[i + k] - o->lse_p, lq = q[i + k] - o->lse_q;

			l[k] += (double)(fast_exp(lp) * (lp - lq));
		}
	for (; i < n; i++) {
		float lp = p[i] - o->lse_p, lq = q[i] - o->lse_q;

		s += (double)(fast_exp(lp) * (lp - lq));
	}
	for (int k = 0; k < LANES; k++)
		s += l[k];
	o->kl = s;
}

/* Non-finite elements change nothing. */
BK_BODY void moments_body(float *restrict absmax, double *restrict sum, double *restrict sum2, const float *restrict x, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		uint32_t u = bk_f32_bits(x[i]), a = u & 0x7fffffffu;
		float f = bk_bits_f32(bk_pick(a >= 0x7f800000u, 0, u)), m = bk_bits_f32(bk_f32_bits(f) & 0x7fffffffu);

		absmax[i] = m > absmax[i] ? m : absmax[i];
		sum[i] += (double)f;
		sum2[i] += (double)f * (double)f;
	}
}

BK_BODY void squares_body(double *d2, double *b2, double *ab, const float *a, const float *b, int64_t n)
{
	double ld[LANES] = { 0 }, lb[LANES] = { 0 }, lp[LANES] = { 0 };
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++) {
			double x = (double)a[i + k], y = (double)b[i + k], d = x - y;

			ld[k] += d * d;
			lb[k] += y * y;
			lp[k] += x * y;
		}
	for (; i < n; i++) {
		double x = (double)a[i], y = (double)b[i], d = x - y;

		ld[i % LANES] += d * d;
		lb[i % LANES] += y * y;
		lp[i % LANES] += x * y;
	}
	for (int k = 0; k < LANES; k++) {
		*d2 += ld[k];
		*b2 += lb[k];
		*ab += lp[k];
	}
}

BK_LEVELS(bk_rows, BK_ROWS)
