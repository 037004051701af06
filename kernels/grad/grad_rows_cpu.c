/* SPDX-License-Identifier: Apache-2.0
 * One row of the backward operations, as loops that become vector code; sums over a fixed number of lanes. */
#include "kernels/grad/grad_rows.h"

#include <math.h>

#include "kernels/run/rows_math.h"

/* dx_i = r (dy_i g_i - x_i r d), d = mean_i dy_i g_i x_i r */
BK_BODY void norm_back_body(float *restrict dx, float *restrict dw, const float *restrict x, const float *restrict w, const float *restrict dy,
			    int64_t n, double eps, int plus_one)
{
	const float one = plus_one ? 1.0f : 0.0f;
	float l[LANES] = { 0 }, k[LANES] = { 0 }, r, f;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int j = 0; j < LANES; j++) {
			l[j] += x[i + j] * x[i + j];
			k[j] += dy[i + j] * (one + w[i + j]) * x[i + j];
		}
	for (; i < n; i++) {
		l[i % LANES] += x[i] * x[i];
		k[i % LANES] += dy[i] * (one + w[i]) * x[i];
	}
	r = 1.0f / sqrtf(sum_lanes(l) / (float)n + (float)eps);
	f = sum_lanes(k) / (float)n * r * r;
	for (i = 0; i < n; i++)
		dx[i] = r * (dy[i] * (one + w[i]) - x[i] * f);
	if (dw)
		for (i = 0; i < n; i++)
			dw[i] += dy[i] * (x[i] * r);
}

/* the transpose of the rotation */
BK_BODY void rope_back_body(float *x, const float *c, const float *s, int64_t half, int round)
{
	for (int64_t i = 0; i < half; i++) {
		float ci = maybe_round(c[i], round), si = maybe_round(s[i], round), a = x[i], b = x[i + half];

		x[i] = a * ci + b * si;
		x[i + half] = b * ci - a * si;
	}
}

BK_BODY void gate_back_body(float *restrict dg, float *restrict du, const float *restrict g, const float *restrict u, const float *restrict dh,
			    int64_t n, int kind)
{
	if (kind == BK_GATE_SILU)
		for (int64_t i = 0; i < n; i++) {
			float y = 1.0f / (1.0f + fast_exp(-g[i]));

			du[i] = dh[i] * (g[i] * y);
			dg[i] = dh[i] * u[i] * (y * (1.0f + g[i] * (1.0f - y)));
		}
	else
		for (int64_t i = 0; i < n; i++) {
			float g2 = g[i] * g[i], y = 1.0f / (1.0f + fast_exp(-1.5957691216f * (g[i] + 0.044715f * g[i] * g2)));

			du[i] = dh[i] * (g[i] * y);
			dg[i] = dh[i] * u[i] * (y + g[i] * (y * (1.0f - y)) * (1.5957691216f * (1.0f + 0.134145f * g2)));
		}
}

BK_BODY void softcap_back_body(float *restrict dx, const float *restrict y, const float *restrict dy, float cap, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		float t = y[i] / cap;

		dx[i] = dy[i] * (1.0f - t * t);
	}
}

BK_BODY void soft_diff_body(float *restrict dq, const float *restrict p, float lse_p, const float *restrict q, float lse_q, float f, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		dq[i] = (fast_exp(q[i] - lse_q) - fast_exp(p[i] - lse_p)) * f;
}

BK_BODY void diff_body(float *restrict d, const float *restrict a, const float *restrict b, float f, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		d[i] = (a[i] - b[i]) * f;
}

/* p = softmax weights of the scores s; dp, the gradient of p, becomes that of the products before scale. p may be s. */
BK_BODY void score_back_body(float *p, float *restrict dp, const float *s, float lse, float delta, float scale, float cap, int64_t n)
{
	if (cap > 0)
		for (int64_t i = 0; i < n; i++) {
			float t = s[i] / cap, e = fast_exp(s[i] - lse);

			dp[i] = e * (dp[i] - delta) * (1.0f - t * t) * scale;
			p[i] = e;
		}
	else
		for (int64_t i = 0; i < n; i++) {
			float e = fast_exp(s[i] - lse);

			dp[i] = e * (dp[i] - delta) * scale;
			p[i] = e;
		}
}

/* --- fake quantization of one group: grad.h's formulas --- */

BK_BODY float clampf(float x, float lo, float hi) /* a NaN becomes lo */
{
	x = x > lo ? x : lo;
	return x < hi ? x : hi;
}

BK_BODY void fake_body(float *restrict w_hat, float *restrict q, const float *restrict w, const float *restrict v, int64_t n,
		       const struct bk_point *g)
{
	const float s = g->s, z = g->z, lo = g->lo, hi = g->hi;

	if (s == 0) {
		for (int64_t i = 0; i < n; i++)
			w_hat[i] = q[i] = 0;
	} else if (g->number != BK_INT) {
		for (int64_t i = 0; i < n; i++) {
			q[i] = bk_e4m3_f32((uint8_t)bk_f32_e4m3(clampf(w[i] / s, -448.0f, 448.0f)));
			w_hat[i] = s * q[i];
		}
	} else if (v) {
		for (int64_t i = 0; i < n; i++) {
			q[i] = clampf(bk_round_int(clampf(w[i] / s + v[i], lo - z - 1, hi - z + 1)) + z, lo, hi);
			w_hat[i] = s * (q[i] - z);
		}
	} else {
		for (int64_t i = 0; i < n; i++) {
			q[i] = clampf(bk_round_int(clampf(w[i] / s, lo - z - 1, hi - z + 1)) + z, lo, hi);
			w_hat[i] = s * (q[i] - z);
		}
	}
}

#define CHUNK 256 /* of a group, between two passes; a multiple of LANES */

/* keep: s where nothing was clamped, else 0; add: what an element adds to the gradient of its scale, over dw */
BK_BODY void fake_parts(float *restrict keep, float *restrict add, const float *restrict w, const float *restrict v, int64_t n,
			const struct bk_point *g)
{
	const float s = g->s, z = g->z, lo = g->lo, hi = g->hi;

	if (g->number != BK_INT)
		for (int64_t i = 0; i < n; i++) {
			const float x = w[i] / s, q = bk_e4m3_f32((uint8_t)bk_f32_e4m3(clampf(x, -448.0f, 448.0f)));
			const int in = x >= -448.0f && x <= 448.0f;

			add[i] = q - (in ? x : 0.0f);
			keep[i] = in ? s : 0.0f;
		}
	else
		for (int64_t i = 0; i < n; i++) {
			const float x = w[i] / s, whole = bk_round_int(clampf(x + v[i], lo - z - 1, hi - z + 1)) + z, q = clampf(whole, lo, hi);

			add[i] = q - z - (whole == q ? x : 0.0f);
			keep[i] = whole == q ? s : 0.0f;
		}
}

/* v: of zeros where there is none */
BK_BODY float fake_back_body(float *restrict dv, const float *restrict dw, const float *restrict w, const float *restrict v, int64_t n,
			     const struct bk_point *g)
{
	float l[LANES] = { 0 }, keep[CHUNK], add[CHUNK];

	if (g->s == 0) {
		for (int64_t i = 0; i < n; i++)
			dv[i] = 0;
		return 0;
	}
	for (int64_t at = 0; at < n; at += CHUNK) {
		const int64_t m = n - at < CHUNK ? n - at : CHUNK;
		int64_t i = 0;

		fake_parts(keep, add, w + at, v + at, m, g);
		for (int64_t k = 0; k < m; k++)
			dv[at + k] = dw[at + k] * keep[k];
		for (; i + LANES <= m; i += LANES)
			for (int k = 0; k < LANES; k++)
				l[k] += dw[at + i + k] * add[i + k];
		for (; i < m; i++)
			l[i % LANES] += dw[at + i] * add[i];
	}
	return sum_lanes(l);
}

BK_BODY float code_back_body(const float *dw, const float *q, int64_t n, float z)
{
	float l[LANES] = { 0 };
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int j = 0; j < LANES; j++)
			l[j] += dw[i + j] * (q[i + j] - z);
	for (; i < n; i++)
		l[i % LANES] += dw[i] * (q[i] - z);
	return sum_lanes(l);
}

BK_BODY void code_value_body(float *restrict w_hat, const float *restrict q, int64_t n, const struct bk_point *g)
{
	const float s = g->s, z = g->z;

	if (s == 0)
		for (int64_t i = 0; i < n; i++)
			w_hat[i] = 0;
	else
		for (int64_t i = 0; i < n; i++)
			w_hat[i] = s * (q[i] - z);
}

BK_BODY void to_e4m3_body(uint8_t *restrict c, const float *restrict q, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		uint32_t e = bk_f32_e4m3(q[i]);

		c[i] = (uint8_t)bk_pick(e == 0x80u, 0, e);
	}
}

BK_BODY void to_i8_body(int8_t *restrict c, const float *restrict q, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		c[i] = (int8_t)(int32_t)q[i];
}

/* --- steps --- */

BK_BODY void sign_body(float *restrict p, const float *restrict g, int64_t n, float lr)
{
	for (int64_t i = 0; i < n; i++)
		p[i] -= g[i] > 0 ? lr : g[i] < 0 ? -lr : 0.0f;
}

BK_BODY void adam_body(float *restrict p, float *restrict m, float *restrict v, const float *restrict g, int64_t n, const struct bk_adam *a, float c1,
		       float c2)
{
	const float b1 = a->beta1, b2 = a->beta2, eps = a->eps, decay = a->decay, lr = a->lr;

	for (int64_t i = 0; i < n; i++) {
		m[i] = b1 * m[i] + (1.0f - b1) * g[i];
		v[i] = b2 * v[i] + (1.0f - b2) * (g[i] * g[i]);
		p[i] -= lr * (m[i] * c1 / (sqrtf(v[i] * c2) + eps) + decay * p[i]);
	}
}

BK_BODY void limit_body(float *p, int64_t n, float lo, float hi)
{
	for (int64_t i = 0; i < n; i++) {
		float x = p[i] < lo ? lo : p[i];

		p[i] = x > hi ? hi : x;
	}
}

BK_BODY void axpy_body(float *restrict y, float a, const float *restrict x, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] += a * x[i];
}

BK_BODY void product_body(float *y, const float *a, const float *b, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] = a[i] * b[i];
}

BK_LEVELS(bk_grad_rows, BK_GRAD_ROWS)
