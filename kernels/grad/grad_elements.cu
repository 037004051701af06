/* SPDX-License-Identifier: Apache-2.0
 * Backward of elementwise operations and of losses, and optimizer steps. */
#include "kernels/grad/grad_cuda.cuh"
#include "kernels/run/each8.cuh"
#include "kernels/run/loss.cuh"

/* ---- gates and caps ---- */

template <int DTYPE> struct gate_back_rows {
	struct bk_mat dg, du, g, u, dh;
	bool gelu, by8;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		float a[8], b[8], d[8];

		bk_load8<DTYPE>(a, bk_row(g, i, size_of<DTYPE>::n), j, cols, by8);
		bk_load8<DTYPE>(b, bk_row(u, i, size_of<DTYPE>::n), j, cols, by8);
		bk_load8<DTYPE>(d, bk_row(dh, i, size_of<DTYPE>::n), j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++) {
			const float x = a[e], x2 = x * x, y = 1 / (1 + expf(gelu ? -1.5957691216f * (x + 0.044715f * x * x2) : -x));
			const float slope = gelu ? y + x * (y * (1 - y)) * (1.5957691216f * (1 + 0.134145f * x2)) : y * (1 + x * (1 - y));

			a[e] = d[e] * b[e] * slope;
			b[e] = d[e] * (x * y);
		}
		bk_store8<DTYPE>(bk_row_out(dg, i, size_of<DTYPE>::n), j, cols, by8, a);
		bk_store8<DTYPE>(bk_row_out(du, i, size_of<DTYPE>::n), j, cols, by8, b);
	}
};

BK_GRAD_OP(gate_back, const struct bk_mat *dg, const struct bk_mat *du, const struct bk_mat *g, const struct bk_mat *u, const struct bk_mat *dh,
	   enum bk_gate kind)
{
	const bool gelu = kind == BK_GATE_GELU_TANH;
	bool by8;

	if (!bk_mat_ok(dg) || !bk_mat_ok(du) || !bk_mat_ok(g) || !bk_mat_ok(u) || !bk_mat_ok(dh) || !bk_alike(dg, du) || !bk_alike(dg, g) ||
	    !bk_alike(dg, u) || !bk_alike(dg, dh) || !bk_is_io(dg->dtype) || (kind != BK_GATE_SILU && !gelu))
		return BK_RUN_REFUSED;
	by8 = bk_by8(dg) && bk_by8(du) && bk_by8(g) && bk_by8(u) && bk_by8(dh);
	if (dg->dtype == BK_BF16)
		return launch(r, gate_back_rows<BK_BF16>{ *dg, *du, *g, *u, *dh, gelu, by8 }, dg->rows, dg->cols);
	return launch(r, gate_back_rows<BK_F32>{ *dg, *du, *g, *u, *dh, gelu, by8 }, dg->rows, dg->cols);
}

template <int DTYPE> struct cap_back_rows {
	struct bk_mat dx, y, dy;
	float cap;
	bool by8;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		float a[8], d[8];

		bk_load8<DTYPE>(a, bk_row(y, i, size_of<DTYPE>::n), j, cols, by8);
		bk_load8<DTYPE>(d, bk_row(dy, i, size_of<DTYPE>::n), j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			d[e] *= 1 - a[e] / cap * (a[e] / cap);
		bk_store8<DTYPE>(bk_row_out(dx, i, size_of<DTYPE>::n), j, cols, by8, d);
	}
};

BK_GRAD_OP(softcap_back, const struct bk_mat *dx, const struct bk_mat *y, const struct bk_mat *dy, double cap)
{
	bool by8;

	if (!bk_mat_ok(dx) || !bk_mat_ok(y) || !bk_mat_ok(dy) || !bk_alike(dx, y) || !bk_alike(dx, dy) || !bk_is_io(dx->dtype) || !(cap > 0) ||
	    !isfinite(cap))
		return BK_RUN_REFUSED;
	by8 = bk_by8(dx) && bk_by8(y) && bk_by8(dy);
	if (dx->dtype == BK_BF16)
		return launch(r, cap_back_rows<BK_BF16>{ *dx, *y, *dy, (float)cap, by8 }, dx->rows, dx->cols);
	return launch(r, cap_back_rows<BK_F32>{ *dx, *y, *dy, (float)cap, by8 }, dx->rows, dx->cols);
}

/* ---- losses ---- */

/* A block per row: log-sum-exps as in kl_rows, then the row again (it lies in the cache). */
template <int P, int Q>
static __global__ void __launch_bounds__(LOSS_THREADS)
	kl_back_rows(const struct bk_mat dq, float *kl, const struct bk_mat p, const struct bk_mat q, float scale, bool p8, bool q8)
{
	__shared__ struct part sh[LOSS_THREADS / 32];
	__shared__ float lse_of[2];
	const int64_t i = blockIdx.x, cols = q.cols;
	const void *row_p = bk_row(p, i, size_of<P>::n), *row_q = bk_row(q, i, size_of<Q>::n);
	void *to = bk_row_out(dq, i, size_of<Q>::n);
	const float none[8] = {};
	struct part a = { -INFINITY, 0, 0, 0x7fffffff }, b = a;
	float lp, lq;

	for (int64_t j = threadIdx.x * 8; j < cols; j += LOSS_THREADS * 8) {
		float v[8], w[8], d[8];

		logits8<P, false>(v, row_p, j, cols, p8);
		logits8<Q, false>(w, row_q, j, cols, q8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			d[e] = j + e < cols ? v[e] - w[e] : 0;
		part_add(a, v, d, j);
		part_add(b, w, none, j);
	}
	a = part_block(a, sh);
	b = part_block(b, sh);
	if (threadIdx.x == 0) {
		const double l = lse(a), m = lse(b);

		lse_of[0] = (float)l;
		lse_of[1] = (float)m;
		if (kl)
			kl[i] = (float)((double)a.with / (double)a.sum - l + m);
	}
	__syncthreads();
	lp = lse_of[0];
	lq = lse_of[1];
	for (int64_t j = threadIdx.x * 8; j < cols; j += LOSS_THREADS * 8) {
		float v[8], w[8];

		bk_load8<P>(v, row_p, j, cols, p8);
		bk_load8<Q>(w, row_q, j, cols, q8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			w[e] = (expf(w[e] - lq) - expf(v[e] - lp)) * scale;
		bk_store8<Q>(to, j, cols, q8, w);
	}
}

BK_GRAD_OP(kl_back, const struct bk_mat *dq, float *kl, const struct bk_mat *p, const struct bk_mat *q, float scale)
{
	bool p8, q8;

	if (!bk_mat_ok(dq) || !bk_mat_ok(p) || !bk_mat_ok(q) || !bk_alike(dq, q) || !bk_same_shape(p, q) || !bk_is_io(p->dtype) ||
	    !bk_is_io(q->dtype))
		return BK_RUN_REFUSED;
	if (!q->rows || !q->cols)
		return 0;
	p8 = bk_by8(p), q8 = bk_by8(q) && bk_by8(dq);
#define DO(P, Q) kl_back_rows<P, Q><<<(unsigned)q->rows, LOSS_THREADS, 0, r->stream>>>(*dq, kl, *p, *q, scale, p8, q8)
	if (p->dtype == BK_BF16 && q->dtype == BK_BF16)
		DO(BK_BF16, BK_BF16);
	else if (p->dtype == BK_BF16)
		DO(BK_BF16, BK_F32);
	else if (q->dtype == BK_BF16)
		DO(BK_F32, BK_BF16);
	else
		DO(BK_F32, BK_F32);
#undef DO
	return bk_launched();
}

#define SUM_BLOCKS 1024

/* part[block] = its sum of squares, in double */
template <int A, int B>
static __global__ void __launch_bounds__(256)
	mse_back_blocks(const struct bk_mat d, double *part, const struct bk_mat a, const struct bk_mat b, float twice, bool a8, bool b8)
{
	__shared__ double sh[8];
	const int64_t per_row = (a.cols + 7) / 8, n = a.rows * per_row;
	double s = 0;

	for (int64_t at = (int64_t)blockIdx.x * 256 + threadIdx.x; at < n; at += (int64_t)gridDim.x * 256) {
		const int64_t i = at / per_row, j = at % per_row * 8;
		float v[8], w[8];

		bk_load8<A>(v, bk_row(a, i, size_of<A>::n), j, a.cols, a8);
		bk_load8<B>(w, bk_row(b, i, size_of<B>::n), j, a.cols, b8);
#pragma unroll
		for (int e = 0; e < 8; e++) { /* beyond the row both are 0 */
			const double x = (double)v[e] - (double)w[e];

			s = fma(x, x, s);
			v[e] = (v[e] - w[e]) * twice;
		}
		bk_store8<A>(bk_row_out(d, i, size_of<A>::n), j, a.cols, a8, v);
	}
	if (!part)
		return;
#pragma unroll
	for (int k = 16; k; k >>= 1)
		s += __shfl_xor_sync(0xffffffffu, s, k);
	if ((threadIdx.x & 31) == 0)
		sh[threadIdx.x >> 5] = s;
	__syncthreads();
	if (threadIdx.x == 0) {
		s = 0;
		for (int k = 0; k < 8; k++)
			s += sh[k];
		part[blockIdx.x] = s;
	}
}

static __global__ void add_squares(double *sum, const double *part, int n)
{
	double s = 0;

	for (int k = threadIdx.x; k < n; k += 32)
		s += part[k];
#pragma unroll
	for (int k = 16; k; k >>= 1)
		s += __shfl_xor_sync(0xffffffffu, s, k);
	if (threadIdx.x == 0)
		*sum += s;
}

BK_GRAD_OP(mse_back, const struct bk_mat *d, double *sum, const struct bk_mat *a, const struct bk_mat *b, float scale)
{
	int64_t blocks;
	void *part = NULL;
	bool a8, b8;
	int e;

	if (!bk_mat_ok(d) || !bk_mat_ok(a) || !bk_mat_ok(b) || !bk_alike(d, a) || !bk_same_shape(a, b) || !bk_is_io(a->dtype) || !bk_is_io(b->dtype))
		return BK_RUN_REFUSED;
	if (!a->rows || !a->cols)
		return 0;
	blocks = (a->rows * ((a->cols + 7) / 8) + 255) / 256;
	blocks = blocks < SUM_BLOCKS ? blocks : SUM_BLOCKS;
	e = sum ? bk_run_scratch(r, &part, SUM_BLOCKS * sizeof(double)) : 0;
	if (e)
		return e;
	a8 = bk_by8(a) && bk_by8(d), b8 = bk_by8(b);
#define DO(A, B) mse_back_blocks<A, B><<<(unsigned)blocks, 256, 0, r->stream>>>(*d, (double *)part, *a, *b, 2 * scale, a8, b8)
	if (a->dtype == BK_BF16 && b->dtype == BK_BF16)
		DO(BK_BF16, BK_BF16);
	else if (a->dtype == BK_BF16)
		DO(BK_BF16, BK_F32);
	else if (b->dtype == BK_BF16)
		DO(BK_F32, BK_BF16);
	else
		DO(BK_F32, BK_F32);
#undef DO
	if (sum)
		add_squares<<<1, 32, 0, r->stream>>>(sum, (const double *)part, (int)blocks);
	return bk_launched();
}

/* ---- steps: f(i) for each of n floats ---- */

template <class F> static __global__ void __launch_bounds__(256) each(const F f, int64_t n)
{
	for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < n; i += (int64_t)gridDim.x * 256)
		f(i);
}

template <class F> static int go(struct bk_run *r, const F &f, int64_t n)
{
	const int64_t blocks = (n + 255) / 256;

	if (n <= 0)
		return n < 0 ? BK_RUN_REFUSED : 0;
	each<<<(unsigned)(blocks < 65535 ? blocks : 65535), 256, 0, r->stream>>>(f, n);
	return bk_launched();
}

static __device__ __forceinline__ float limited(float x, const struct bk_limits &l)
{
	return !(l.lo < l.hi) ? x : x < l.lo ? l.lo : x > l.hi ? l.hi : x;
}

struct sign_each {
	float *p;
	const float *g;
	float lr;
	struct bk_limits limits;
	__device__ __forceinline__ void operator()(int64_t i) const { p[i] = limited(p[i] - (g[i] > 0 ? lr : g[i] < 0 ? -lr : 0.0f), limits); }
};

struct adam_each {
	float *p, *m, *v;
	const float *g;
	struct bk_adam a;
	float c1, c2;
	__device__ __forceinline__ void operator()(int64_t i) const
	{
		const float x = p[i], d = g[i], mi = a.beta1 * m[i] + (1 - a.beta1) * d, vi = a.beta2 * v[i] + (1 - a.beta2) * (d * d);

		m[i] = mi;
		v[i] = vi;
		p[i] = limited(x - a.lr * (mi * c1 / (sqrtf(vi * c2) + a.eps) + a.decay * x), a.limits);
	}
};

struct axpy_each {
	float *y, a;
	const float *x;
	__device__ __forceinline__ void operator()(int64_t i) const { y[i] = fmaf(a, x[i], y[i]); }
};

struct product_each {
	float *y;
	const float *a, *b;
	__device__ __forceinline__ void operator()(int64_t i) const { y[i] = a[i] * b[i]; }
};

BK_GRAD_OP(sign_step, float *p, const float *g, int64_t n, float lr, const struct bk_limits *limits)
{
	return go(r, sign_each{ p, g, lr, limits ? *limits : bk_limits{ 0, 0 } }, n);
}

BK_GRAD_OP(adam_step, float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *adam)
{
	if (!adam || adam->step < 1)
		return BK_RUN_REFUSED;
	return go(r,
		  adam_each{ p, m, v, g, *adam, (float)(1 / (1 - pow((double)adam->beta1, (double)adam->step))),
			     (float)(1 / (1 - pow((double)adam->beta2, (double)adam->step))) },
		  n);
}

BK_GRAD_OP(axpy, float *y, float a, const float *x, int64_t n) { return go(r, axpy_each{ y, a, x }, n); }
BK_GRAD_OP(product, float *y, const float *a, const float *b, int64_t n) { return go(r, product_each{ y, a, b }, n); }
