/* SPDX-License-Identifier: Apache-2.0
 * Tuning, the obvious way: the formulas of grad.h element by element, sums in double. On the runs of bk_run_ref. */
#include "kernels/grad/grad.h"

#include <stdlib.h>

#include "kernels/run/ref.h"

static void add_float(float *to, double x) { *to = (float)((double)*to + x); }

/* --- norms --- */

/* columns first .. first+n of row i; dw [n] double or NULL */
static void norm_back(const struct bk_mat *dx, double *dw, const struct bk_mat *x, int64_t i, int64_t first, int64_t n, const struct bk_norm *w,
		      const double *dy, int add)
{
	const struct bk_mat weight = vector(w->weight, n, (int)w->dtype);
	double s = 0, d = 0, f;

	for (int64_t j = 0; j < n; j++)
		s += get(x, i, first + j) * get(x, i, first + j);
	f = 1 / sqrt(s / (double)n + w->eps);
	for (int64_t j = 0; j < n; j++)
		d += dy[j] * (get(&weight, 0, j) + w->plus_one) * get(x, i, first + j) * f / (double)n;
	for (int64_t j = 0; j < n; j++) {
		const double v = get(x, i, first + j) * f, g = f * (dy[j] * (get(&weight, 0, j) + w->plus_one) - v * d);

		if (dw)
			dw[j] += dy[j] * v;
		set(dx, i, first + j, add ? get(dx, i, first + j) + g : g);
	}
}

static double *doubles(int64_t n)
{
	double *d = calloc((size_t)(n > 0 ? n : 1), sizeof(*d));

	if (!d)
		abort(); /* a check, not the program */
	return d;
}

static void finish(float *out, double *sum, int64_t n)
{
	for (int64_t j = 0; out && j < n; j++)
		add_float(out + j, sum[j]);
	free(sum);
}

static int rmsnorm_back(struct bk_run *r, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, const struct bk_norm *n,
			const struct bk_mat *dy, int add)
{
	double *dw = doubles(x->cols), *row = doubles(x->cols);

	(void)r;
	for (int64_t i = 0; i < x->rows; i++) {
		for (int64_t j = 0; j < x->cols; j++)
			row[j] = get(dy, i, j);
		norm_back(dx, dw, x, i, 0, x->cols, n, row, add);
	}
	free(row);
	finish(dweight, dw, x->cols);
	return 0;
}

static int head_norm_rope(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
			  const struct bk_rope *rope)
{
	const int e = bk_run_ref()->convert(r, y, x);

	return e ? e : bk_run_ref()->head_norm_rope(r, y, heads, head_dim, n, rope);
}

static int head_norm_rope_back(struct bk_run *r, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, int heads, int head_dim,
			       const struct bk_norm *n, const struct bk_rope *rope, const struct bk_mat *dy)
{
	const int64_t d = head_dim;
	double *dw = doubles(d), *row = doubles(d);

	(void)r;
	for (int64_t i = 0; i < dx->rows; i++)
		for (int64_t h = 0; h < heads; h++) {
			for (int64_t j = 0; j < d; j++)
				row[j] = get(dy, i, h * d + j);
			for (int64_t j = 0; rope && j < d / 2; j++) {
				const double c = round_like((double)rope->cos[rope->position[i] * (d / 2) + j], dx),
					     s = round_like((double)rope->sin[rope->position[i] * (d / 2) + j], dx), a = row[j], b = row[j + d / 2];

				row[j] = a * c + b * s;
				row[j + d / 2] = b * c - a * s;
			}
			if (n)
				norm_back(dx, dw, x, i, h * d, d, n, row, 0);
			for (int64_t j = 0; !n && j < d; j++)
				set(dx, i, h * d + j, row[j]);
		}
	free(row);
	finish(dweight, dw, d);
	return 0;
}

/* --- attention: one query, one head --- */

struct seen {
	int64_t first, lo, at, q, k;
}; /* keys first + lo .. first + at; channels q and k on */

static struct seen sees(const struct bk_attention *a, int s, int64_t row, int h)
{
	const int64_t first = a->seq.kv_start[s], at = a->seq.kv_start[s + 1] - first - (a->seq.q_start[s + 1] - row);

	return (struct seen){ first, a->window && at - a->window + 1 > 0 ? at - a->window + 1 : 0, at, (int64_t)h * a->head_dim,
			      (int64_t)(h / (a->heads / a->kv_heads)) * a->head_dim };
}

static double score(const struct bk_mat *q, const struct bk_mat *k, const struct bk_attention *a, const struct seen *w, int64_t row, int64_t j)
{
	double s = 0;

	for (int64_t c = 0; c < a->head_dim; c++)
		s += get(q, row, w->q + c) * get(k, w->first + j, w->k + c);
	s *= a->scale;
	return a->softcap > 0 ? a->softcap * tanh(s / a->softcap) : s;
}

static int attention_lse(struct bk_run *r, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k,
			 const struct bk_mat *v, const struct bk_attention *a)
{
	for (int s = 0; s < a->seq.n; s++)
		for (int64_t i = a->seq.q_start[s]; i < a->seq.q_start[s + 1]; i++)
			for (int h = 0; h < a->heads; h++) {
				const struct seen w = sees(a, s, i, h);
				double top = -INFINITY, sum = 0;

				for (int64_t j = w.lo; j <= w.at; j++)
					top = fmax(top, score(q, k, a, &w, i, j));
				for (int64_t j = w.lo; j <= w.at; j++)
					sum += exp(score(q, k, a, &w, i, j) - top);
				lse[i * a->heads + h] = (float)(top + log(sum));
			}
	return bk_run_ref()->attention(r, out, q, k, v, a);
}

struct sums {
	double *q, *k, *v;
}; /* [rows, cols] of each */

static void attend_back(const struct sums *d, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v, const struct bk_mat *out,
			float lse, const struct bk_mat *dout, const struct bk_attention *a, const struct seen *w, int64_t row)
{
	double delta = 0;

	for (int64_t c = 0; c < a->head_dim; c++)
		delta += get(dout, row, w->q + c) * get(out, row, w->q + c);
	for (int64_t j = w->lo; j <= w->at; j++) {
		const double s = score(q, k, a, w, row, j), p = exp(s - (double)lse);
		const int64_t key = (w->first + j) * k->cols + w->k;
		double dp = 0, ds;

		for (int64_t c = 0; c < a->head_dim; c++) {
			dp += get(dout, row, w->q + c) * get(v, w->first + j, w->k + c);
			d->v[key + c] += p * get(dout, row, w->q + c);
		}
		ds = p * (dp - delta) * a->scale * (a->softcap > 0 ? 1 - s / a->softcap * (s / a->softcap) : 1);
		for (int64_t c = 0; c < a->head_dim; c++) {
			d->q[row * q->cols + w->q + c] += ds * get(k, w->first + j, w->k + c);
			d->k[key + c] += ds * get(q, row, w->q + c);
		}
	}
}

static void set_rows(const struct bk_mat *m, const double *d, int64_t first, int64_t last)
{
	for (int64_t i = first; i < last; i++)
		for (int64_t j = 0; j < m->cols; j++)
			set(m, i, j, d[i * m->cols + j]);
}

static int attention_back(struct bk_run *r, const struct bk_mat *dq, const struct bk_mat *dk, const struct bk_mat *dv, const struct bk_mat *q,
			  const struct bk_mat *k, const struct bk_mat *v, const struct bk_mat *out, const float *lse, const struct bk_mat *dout,
			  const struct bk_attention *a)
{
	const struct sums d = { doubles(q->rows * q->cols), doubles(k->rows * k->cols), doubles(k->rows * k->cols) };

	(void)r;
	for (int s = 0; s < a->seq.n; s++)
		for (int64_t i = a->seq.q_start[s]; i < a->seq.q_start[s + 1]; i++)
			for (int h = 0; h < a->heads; h++) {
				const struct seen w = sees(a, s, i, h);

				attend_back(&d, q, k, v, out, lse[i * a->heads + h], dout, a, &w, i);
			}
	for (int s = 0; s < a->seq.n; s++) {
		set_rows(dq, d.q, a->seq.q_start[s], a->seq.q_start[s + 1]);
		set_rows(dk, d.k, a->seq.kv_start[s], a->seq.kv_start[s + 1]);
		set_rows(dv, d.v, a->seq.kv_start[s], a->seq.kv_start[s + 1]);
	}
	free(d.q), free(d.k), free(d.v);
	return 0;
}

/* --- elements and losses --- */

static int gate_back(struct bk_run *r, const struct bk_mat *dg, const struct bk_mat *du, const struct bk_mat *g, const struct bk_mat *u,
		     const struct bk_mat *dh, enum bk_gate kind)
{
	(void)r;
	for (int64_t i = 0; i < g->rows; i++)
		for (int64_t j = 0; j < g->cols; j++) {
			const double x = get(g, i, j), y = get(u, i, j), d = get(dh, i, j), s = 1 / (1 + exp(-x));
			const double t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));

			if (kind == BK_GATE_SILU) {
				set(du, i, j, d * x * s);
				set(dg, i, j, d * y * s * (1 + x * (1 - s)));
			} else {
				set(du, i, j, d * 0.5 * x * (1 + t));
				set(dg, i, j, d * y * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x)));
			}
		}
	return 0;
}

static int softcap_back(struct bk_run *r, const struct bk_mat *dx, const struct bk_mat *y, const struct bk_mat *dy, double cap)
{
	(void)r;
	for (int64_t i = 0; i < y->rows; i++)
		for (int64_t j = 0; j < y->cols; j++)
			set(dx, i, j, get(dy, i, j) * (1 - get(y, i, j) / cap * (get(y, i, j) / cap)));
	return 0;
}

static double log_sum(const struct bk_mat *m, int64_t i)
{
	double top = -INFINITY, s = 0;

	for (int64_t j = 0; j < m->cols; j++)
		top = fmax(top, get(m, i, j));
	for (int64_t j = 0; j < m->cols; j++)
		s += exp(get(m, i, j) - top);
	return top + log(s);
}

static int kl_back(struct bk_run *r, const struct bk_mat *dq, float *kl, const struct bk_mat *p, const struct bk_mat *q, float scale)
{
	(void)r;
	for (int64_t i = 0; i < q->rows; i++) {
		const double zp = log_sum(p, i), zq = log_sum(q, i);
		double sum = 0;

		for (int64_t j = 0; j < q->cols; j++) {
			const double lp = get(p, i, j) - zp, lq = get(q, i, j) - zq;

			sum += exp(lp) * (lp - lq);
			set(dq, i, j, (exp(lq) - exp(lp)) * (double)scale);
		}
		if (kl)
			kl[i] = (float)sum;
	}
	return 0;
}

static int mse_back(struct bk_run *r, const struct bk_mat *d, double *sum, const struct bk_mat *a, const struct bk_mat *b, float scale)
{
	(void)r;
	for (int64_t i = 0; i < a->rows; i++)
		for (int64_t j = 0; j < a->cols; j++) {
			const double x = get(a, i, j) - get(b, i, j);

			if (sum)
				*sum += x * x;
			set(d, i, j, 2 * x * (double)scale);
		}
	return 0;
}

/* --- fake quantization: float32 steps where they decide about a code --- */

struct point {
	double q, w_hat, x;
	int in;
};

static struct point fake_one(const struct bk_fake *f, int64_t n, int64_t k)
{
	const int64_t width = f->grid.group ? f->grid.group : f->w->cols, at = n * (f->w->cols / width) + k / width;
	const double s = stored((double)f->scale[at], BK_BF16), z = f->zero ? f->zero[at] : 0, hi = (double)((1 << (f->grid.bits - 1)) - 1),
		     lo = -hi - 1;
	const double x = (double)((float)get(f->w, n, k) / (float)s);
	struct point p = { 0, 0, x, 0 };

	if (s == 0 || !isfinite(s))
		return (struct point){ 0, 0, 0, 0 };
	if (f->grid.number != BK_INT) {
		double best = INFINITY;

		p.in = fabs(x) <= 448;
		for (int b = 0; b < 256; b++) { /* the nearest of all codes, ties to the even one */
			const double t = fmax(-448, fmin(448, x)), value = (double)bk_e4m3_f32((uint8_t)b), e = fabs(value - t);

			if ((b & 0x7f) != 0x7f && (b >> 7) == (signbit(t) != 0) && (e < best || (e == best && !(b & 1)))) {
				best = e;
				p.q = value;
			}
		}
	} else {
		const double whole = rint((double)((float)x + (f->v ? f->v[n * f->w->cols + k] : 0.0f))) + z;

		p.q = fmin(hi, fmax(lo, whole));
		p.in = p.q == whole;
	}
	p.w_hat = s * (p.q - z);
	return p;
}

static int fake_quant(struct bk_run *r, const struct bk_mat *w_hat, const struct bk_mat *codes, const struct bk_fake *f)
{
	(void)r;
	for (int64_t n = 0; n < f->w->rows; n++)
		for (int64_t k = 0; k < f->w->cols; k++) {
			const struct point p = fake_one(f, n, k);

			if (w_hat)
				set(w_hat, n, k, p.w_hat);
			if (codes && codes->dtype == BK_I8)
				((int8_t *)codes->p)[n * codes->ld + k] = (int8_t)p.q;
			else if (codes)
				((uint8_t *)codes->p)[n * codes->ld + k] = p.q == 0 ? 0 : (uint8_t)bk_f32_e4m3((float)p.q);
		}
	return 0;
}

static int fake_quant_back(struct bk_run *r, float *dv, float *dscale, const struct bk_mat *g, const struct bk_fake *f)
{
	const int64_t width = f->grid.group ? f->grid.group : f->w->cols, spr = f->w->cols / width;

	(void)r;
	for (int64_t n = 0; n < f->w->rows; n++)
		for (int64_t j = 0; j < spr; j++) {
			const int64_t at = n * spr + j;
			const double s = stored((double)f->scale[at], BK_BF16), z = f->zero ? f->zero[at] : 0;
			double sum = 0;

			for (int64_t k = j * width; k < (j + 1) * width; k++) {
				const struct point p = fake_one(f, n, k);
				const double d = get(g, n, k);

				sum += s == 0 || !isfinite(s) ? 0 : d * (p.q - z - (p.in ? p.x : 0));
				if (dv)
					dv[n * f->w->cols + k] = (float)(p.in ? s * d : 0);
			}
			if (dscale)
				add_float(dscale + at, sum);
		}
	return 0;
}

static int codes_value(struct bk_run *r, const struct bk_mat *w_hat, const struct bk_mat *codes, const float *scale, const int8_t *zero,
		       const struct bk_grid *grid)
{
	const int64_t width = grid->group ? grid->group : codes->cols;

	(void)r;
	for (int64_t n = 0; n < codes->rows; n++)
		for (int64_t k = 0; k < codes->cols; k++) {
			const int64_t at = n * (codes->cols / width) + k / width;
			const double s = stored((double)scale[at], BK_BF16);

			set(w_hat, n, k, isfinite(s) ? s * (get(codes, n, k) - (zero ? zero[at] : 0)) : 0);
		}
	return 0;
}

static int codes_back(struct bk_run *r, float *dscale, const struct bk_mat *g, const struct bk_mat *codes, const int8_t *zero,
		      const struct bk_grid *grid)
{
	const int64_t width = grid->group ? grid->group : codes->cols, spr = codes->cols / width;

	(void)r;
	for (int64_t at = 0; at < codes->rows * spr; at++) {
		double sum = 0;

		for (int64_t k = at % spr * width; k < (at % spr + 1) * width; k++)
			sum += get(g, at / spr, k) * (get(codes, at / spr, k) - (zero ? zero[at] : 0));
		add_float(dscale + at, sum);
	}
	return 0;
}

static int fake_tokens(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, enum bk_token_codes kind, float scale)
{
	const struct bk_run_ops *ops = bk_run_ref();
	const size_t n = (size_t)(x->rows * x->cols);
	const struct bk_mat codes = { malloc(n + 1), x->rows, x->cols, x->cols, kind == BK_TOKEN_INT8 ? BK_I8 : BK_F8 };
	float *scales = malloc(((size_t)x->rows + 1) * sizeof(*scales));
	int e = !codes.p || !scales ? BK_RUN_NO_MEMORY : 0;

	if (!e)
		e = scale > 0 ? ops->quant_static(r, &codes, scales, x, kind, scale) : ops->quant_tokens(r, &codes, scales, x, kind);
	for (int64_t i = 0; i < x->rows && !e; i++)
		for (int64_t j = 0; j < x->cols; j++)
			set(y, i, j, get(&codes, i, j) * (double)scales[i]);
	free(codes.p), free(scales);
	return e;
}

/* --- steps --- */

static void limit(float *p, const struct bk_limits *l)
{
	if (l && l->lo < l->hi)
		*p = fminf(l->hi, fmaxf(l->lo, *p));
}

static int sign_step(struct bk_run *r, float *p, const float *g, int64_t n, float lr, const struct bk_limits *limits)
{
	(void)r;
	for (int64_t i = 0; i < n; i++) {
		p[i] -= lr * (float)((g[i] > 0) - (g[i] < 0));
		limit(p + i, limits);
	}
	return 0;
}

static int adam_step(struct bk_run *r, float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *a)
{
	const double b1 = (double)a->beta1, b2 = (double)a->beta2;

	(void)r;
	for (int64_t i = 0; i < n; i++) {
		const double d = (double)g[i], mi = b1 * (double)m[i] + (1 - b1) * d, vi = b2 * (double)v[i] + (1 - b2) * d * d;

		p[i] = (float)((double)p[i] -
			       (double)a->lr * (mi / (1 - pow(b1, (double)a->step)) / (sqrt(vi / (1 - pow(b2, (double)a->step))) + (double)a->eps) +
						(double)a->decay * (double)p[i]));
		m[i] = (float)mi;
		v[i] = (float)vi;
		limit(p + i, &a->limits);
	}
	return 0;
}

static int axpy(struct bk_run *r, float *y, float a, const float *x, int64_t n)
{
	(void)r;
	for (int64_t i = 0; i < n; i++)
		add_float(y + i, (double)a * (double)x[i]);
	return 0;
}

static int product(struct bk_run *r, float *y, const float *a, const float *b, int64_t n)
{
	(void)r;
	for (int64_t i = 0; i < n; i++)
		y[i] = a[i] * b[i];
	return 0;
}

const struct bk_grad_ops *bk_grad_ref(void)
{
	static const struct bk_grad_ops table = {
		.size = sizeof(struct bk_grad_ops),
		.name = "ref",
		.rmsnorm_back = rmsnorm_back,
		.head_norm_rope = head_norm_rope,
		.head_norm_rope_back = head_norm_rope_back,
		.attention_lse = attention_lse,
		.attention_back = attention_back,
		.gate_back = gate_back,
		.softcap_back = softcap_back,
		.kl_back = kl_back,
		.mse_back = mse_back,
		.fake_quant = fake_quant,
		.fake_quant_back = fake_quant_back,
		.codes_value = codes_value,
		.codes_back = codes_back,
		.fake_tokens = fake_tokens,
		.sign_step = sign_step,
		.adam_step = adam_step,
		.axpy = axpy,
		.product = product,
	};

	return &table;
}
