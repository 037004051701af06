/* SPDX-License-Identifier: Apache-2.0
 * Running a decoder, the obvious way: element by element, sums in double, the C library's functions, one rounding where run.h says that something
 * is stored. Memory is the CPU back end's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/run/ref.h"

/* --- products --- */

static int gemm(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta, const void *bias)
{
	const struct bk_mat v = vector(bias, c->cols, b->dtype);
	const int64_t k = ta ? a->rows : a->cols;

	(void)r;
	for (int64_t i = 0; i < c->rows; i++)
		for (int64_t j = 0; j < c->cols; j++) {
			double s = 0;

			for (int64_t q = 0; q < k; q++)
				s += (ta ? get(a, q, i) : get(a, i, q)) * (tb ? get(b, j, q) : get(b, q, j));
			set(c, i, j, (double)alpha * s + (beta != 0 ? (double)beta * get(c, i, j) : 0) + (bias ? get(&v, 0, j) : 0));
		}
	return 0;
}

static int gemm_codes(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, const void *bias)
{
	const struct bk_mat v = vector(bias, y->cols, y->dtype);

	(void)r;
	for (int64_t i = 0; i < y->rows; i++)
		for (int64_t j = 0; j < y->cols; j++) {
			double s = 0;

			for (int64_t q = 0; q < x->cols; q++)
				s += get(x, i, q) * get(w, j, q);
			set(y, i, j, s * (double)sx[i] * (double)sw[j] + (bias ? get(&v, 0, j) : 0));
		}
	return 0;
}

static int hessian(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *x)
{
	(void)r;
	for (int64_t i = 0; i < h->rows; i++)
		for (int64_t j = 0; j <= i; j++) {
			double s = get(h, i, j);

			for (int64_t t = 0; t < x->rows; t++)
				s += get(x, t, i) * get(x, t, j);
			set(h, i, j, s);
		}
	return 0;
}

static int mirror(struct bk_run *r, const struct bk_mat *h)
{
	(void)r;
	for (int64_t i = 0; i < h->rows; i++)
		for (int64_t j = 0; j < i; j++)
			set(h, j, i, get(h, i, j));
	return 0;
}

/* --- activation codes: float32 steps, as the server takes them --- */

static float absmax_of(const struct bk_mat *x, int64_t i)
{
	double m = 0;

	for (int64_t j = 0; j < x->cols; j++)
		m = fmax(m, fabs(get(x, i, j)));
	return (float)m;
}

static void int8_row(const struct bk_mat *c, const struct bk_mat *x, int64_t i, float f, int divide)
{
	for (int64_t j = 0; j < x->cols; j++) {
		float v = (float)get(x, i, j), t = divide ? v / f : v * f;

		((int8_t *)c->p)[i * c->ld + j] = (int8_t)fmaxf(-128, fminf(127, rintf(t)));
	}
}

static void e4m3_row(const struct bk_mat *c, const struct bk_mat *x, int64_t i, float s)
{
	for (int64_t j = 0; j < x->cols; j++) {
		double t = (double)((float)get(x, i, j) / s), best = INFINITY;
		uint8_t code = 0;

		t = fmax(-448, fmin(448, t));
		for (int b = 0; b < 256; b++) { /* the nearest of all codes, ties to the even one */
			double d = fabs((double)bk_e4m3_f32((uint8_t)b) - t);

			if ((b & 0x7f) == 0x7f || (b >> 7) != (signbit(t) != 0))
				continue;
			if (d < best || (d == best && !(b & 1))) {
				best = d;
				code = (uint8_t)b;
			}
		}
		((uint8_t *)c->p)[i * c->ld + j] = code;
	}
}

static int quant(const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float fixed)
{
	for (int64_t i = 0; i < x->rows; i++) {
		float top = absmax_of(x, i);

		if (kind == BK_TOKEN_INT8) {
			scales[i] = fixed > 0 ? fixed : top / 127;
			int8_row(codes, x, i, fixed > 0 ? fixed : top > 0 ? 127 / top : 0, fixed > 0);
		} else {
			scales[i] = fixed > 0 ? fixed : fmaxf(top / 448, 1.0f / (448 * 512));
			e4m3_row(codes, x, i, scales[i]);
		}
	}
	return 0;
}

static int quant_tokens(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind)
{
	(void)r;
	return quant(codes, scales, x, kind, 0);
}

static int quant_static(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float scale)
{
	(void)r;
	return quant(codes, scales, x, kind, scale);
}

/* --- rows --- */

static int gather(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *e, const int32_t *ids, float scale)
{
	(void)r;
	for (int64_t i = 0; i < y->rows; i++)
		for (int64_t j = 0; j < y->cols; j++)
			set(y, i, j, (double)((float)get(e, ids[i], j) * scale));
	return 0;
}

static int convert(struct bk_run *r, const struct bk_mat *dst, const struct bk_mat *src)
{
	(void)r;
	for (int64_t i = 0; i < dst->rows; i++)
		for (int64_t j = 0; j < dst->cols; j++)
			set(dst, i, j, get(src, i, j));
	return 0;
}

/* columns first .. first+n of row i: y = norm(x), or y += norm(x) */
static void norm_part(const struct bk_mat *y, const struct bk_mat *x, int64_t i, int64_t first, int64_t n, const struct bk_norm *w, int add)
{
	const struct bk_mat weight = vector(w->weight, n, (int)w->dtype);
	double s = 0, f;

	for (int64_t j = 0; j < n; j++)
		s += get(x, i, first + j) * get(x, i, first + j);
	f = 1 / sqrt(s / (double)n + w->eps);
	for (int64_t j = 0; j < n; j++) {
		double v = get(x, i, first + j) * f, g = get(&weight, 0, j);

		v = w->plus_one ? round_like(v * (1 + g), y) : round_like(round_like(v, y) * g, y);
		set(y, i, first + j, add ? get(y, i, first + j) + v : v);
	}
}

static int rmsnorm(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_norm *n)
{
	(void)r;
	for (int64_t i = 0; i < x->rows; i++)
		norm_part(y, x, i, 0, x->cols, n, 0);
	return 0;
}

static int add(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a)
{
	(void)r;
	for (int64_t i = 0; i < x->rows; i++)
		for (int64_t j = 0; j < x->cols; j++)
			set(x, i, j, get(x, i, j) + get(a, i, j));
	return 0;
}

static int add_rmsnorm(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n)
{
	return add(r, x, a) || rmsnorm(r, y, x, n);
}

static int rmsnorm_add(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n)
{
	(void)r;
	for (int64_t i = 0; i < x->rows; i++)
		norm_part(x, a, i, 0, x->cols, n, 1);
	return 0;
}

static int head_norm_rope(struct bk_run *r, const struct bk_mat *x, int heads, int d, const struct bk_norm *n, const struct bk_rope *rope)
{
	(void)r;
	for (int64_t i = 0; i < x->rows; i++)
		for (int64_t h = 0; h < heads; h++) {
			if (n)
				norm_part(x, x, i, h * d, d, n, 0);
			for (int64_t j = 0; rope && j < d / 2; j++) {
				double c = round_like((double)rope->cos[rope->position[i] * (d / 2) + j], x), s = round_like((double)rope->sin[rope->position[i] * (d / 2) + j], x);
				double a = get(x, i, h * d + j), b = get(x, i, h * d + j + d / 2);

				set(x, i, h * d + j, round_like(a * c, x) - round_like(b * s, x));
				set(x, i, h * d + j + d / 2, round_like(b * c, x) + round_like(a * s, x));
			}
		}
	return 0;
}

static int gate(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *g, const struct bk_mat *u, enum bk_gate kind)
{
	(void)r;
	for (int64_t i = 0; i < h->rows; i++)
		for (int64_t j = 0; j < h->cols; j++) {
			double x = get(g, i, j);
			double a = kind == BK_GATE_SILU ? x / (1 + exp(-x)) : 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));

			set(h, i, j, round_like(a, h) * get(u, i, j));
		}
	return 0;
}

static int softcap(struct bk_run *r, const struct bk_mat *x, double cap)
{
	(void)r;
	for (int64_t i = 0; i < x->rows; i++)
		for (int64_t j = 0; j < x->cols; j++)
			set(x, i, j, cap * tanh(get(x, i, j) / cap));
	return 0;
}

/* --- attention: one query, one head --- */

static void attend(const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v, const struct bk_attention *a, int s, int64_t row,
		   int h)
{
	const int64_t first = a->seq.kv_start[s], n = a->seq.kv_start[s + 1] - first, at = n - (a->seq.q_start[s + 1] - row), d = a->head_dim;
	const int64_t lo = a->window && at - a->window + 1 > 0 ? at - a->window + 1 : 0, hq = h * d, hk = h / (a->heads / a->kv_heads) * d;
	double *w = calloc((size_t)n, sizeof(*w)), top = -INFINITY, sum = 0;

	if (!w)
		abort(); /* a check, not the program */
	for (int64_t j = lo; j <= at; j++) {
		for (int64_t c = 0; c < d; c++)
			w[j] += get(q, row, hq + c) * get(k, first + j, hk + c);
		w[j] *= a->scale;
		if (a->softcap > 0)
			w[j] = a->softcap * tanh(w[j] / a->softcap);
		top = fmax(top, w[j]);
	}
	for (int64_t j = lo; j <= at; j++) {
		w[j] = exp(w[j] - top);
		sum += w[j];
	}
	for (int64_t c = 0; c < d; c++) {
		double o = 0;

		for (int64_t j = lo; j <= at; j++)
			o += w[j] * get(v, first + j, hk + c);
		set(out, row, hq + c, o / sum);
	}
	free(w);
}

static int attention(struct bk_run *r, const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v, const struct bk_attention *a)
{
	(void)r;
	for (int s = 0; s < a->seq.n; s++)
		for (int64_t i = a->seq.q_start[s]; i < a->seq.q_start[s + 1]; i++)
			for (int h = 0; h < a->heads; h++)
				attend(out, q, k, v, a, s, i, h);
	return 0;
}

/* --- numbers --- */

static unsigned bin_of(double x)
{
	return bk_f32_bits((float)stored(fabs(x), BK_BF16)) >> 20 & (BK_INPUT_BINS - 1);
}

static int input_stats(struct bk_run *r, const struct bk_input_acc *acc, const struct bk_mat *x)
{
	(void)r;
	for (int64_t i = 0; i < x->rows; i++) {
		double top = 0;

		for (int64_t j = 0; j < x->cols; j++) {
			double v = get(x, i, j);

			if (!isfinite(v)) {
				acc->nonfinite[0]++;
				continue;
			}
			acc->absmax[j] = fmaxf(acc->absmax[j], fabsf((float)v));
			acc->sum[j] += v;
			acc->sum2[j] += v * v;
			acc->bins[bin_of(v)]++;
			top = fmax(top, fabs(v));
		}
		acc->token_bins[bin_of(top)]++;
	}
	return 0;
}

static int diff_sums(struct bk_run *r, double *sums, const struct bk_mat *a, const struct bk_mat *b)
{
	(void)r;
	for (int64_t i = 0; i < a->rows; i++)
		for (int64_t j = 0; j < a->cols; j++) {
			double x = get(a, i, j), y = get(b, i, j);

			sums[0] += (x - y) * (x - y);
			sums[1] += y * y;
		}
	return 0;
}

static int dot(struct bk_run *r, double *sum, const struct bk_mat *a, const struct bk_mat *b)
{
	(void)r;
	for (int64_t i = 0; i < a->rows; i++)
		for (int64_t j = 0; j < a->cols; j++)
			*sum += get(a, i, j) * get(b, i, j);
	return 0;
}

static double log_sum(const struct bk_mat *m, int64_t i, int64_t *best)
{
	double s = 0;

	*best = 0;
	for (int64_t j = 1; j < m->cols; j++)
		if (get(m, i, j) > get(m, i, *best))
			*best = j;
	for (int64_t j = 0; j < m->cols; j++)
		s += exp(get(m, i, j) - get(m, i, *best));
	return get(m, i, *best) + log(s);
}

static int row_loss(struct bk_run *r, const struct bk_row_loss *out, const struct bk_mat *l, const int32_t *targets)
{
	(void)r;
	for (int64_t i = 0; i < l->rows; i++) {
		int64_t best;
		double z = log_sum(l, i, &best);

		out->nll[i] = targets[i] < 0 ? 0 : (float)(z - get(l, i, targets[i]));
		out->argmax[i] = (int32_t)best;
	}
	return 0;
}

static int row_kl(struct bk_run *r, const struct bk_row_kl *out, const struct bk_mat *p, const struct bk_mat *q, const int32_t *targets)
{
	(void)r;
	for (int64_t i = 0; i < p->rows; i++) {
		int64_t best_p, best_q;
		double zp = log_sum(p, i, &best_p), zq = log_sum(q, i, &best_q), s = 0;

		for (int64_t j = 0; j < p->cols; j++)
			s += exp(get(p, i, j) - zp) * ((get(p, i, j) - zp) - (get(q, i, j) - zq));
		out->kl[i] = (float)s;
		out->nll_p[i] = targets[i] < 0 ? 0 : (float)(zp - get(p, i, targets[i]));
		out->nll_q[i] = targets[i] < 0 ? 0 : (float)(zq - get(q, i, targets[i]));
		out->same[i] = best_p == best_q;
	}
	return 0;
}

const struct bk_run_ops *bk_run_ref(void)
{
	static struct bk_run_ops t;

	if (t.version)
		return &t;
	t = *bk_run_cpu();
	t.name = "ref";
	t.gemm = gemm;
	t.gemm_codes = gemm_codes;
	t.quant_tokens = quant_tokens;
	t.quant_static = quant_static;
	t.quant_groups = bk_ref_quant_groups;
	t.gemm_groups = bk_ref_gemm_groups;
	t.round_inputs = bk_ref_round_inputs;
	t.gather = gather;
	t.convert = convert;
	t.rmsnorm = rmsnorm;
	t.add = add;
	t.add_rmsnorm = add_rmsnorm;
	t.rmsnorm_add = rmsnorm_add;
	t.head_norm_rope = head_norm_rope;
	t.attention = attention;
	t.gate = gate;
	t.softcap = softcap;
	t.input_stats = input_stats;
	t.hessian = hessian;
	t.diff_sums = diff_sums;
	t.dot = dot;
	t.mirror = mirror;
	t.row_loss = row_loss;
	t.row_kl = row_kl;
	return &t;
}
