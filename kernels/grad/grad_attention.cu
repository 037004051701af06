/* SPDX-License-Identifier: Apache-2.0
 * Attention's backward, everything in float32: one row of queries (for dq) or of keys (for dk and dv) and one head per block, for float32 states and
 * for what the fast kernels (grad_flash.cu) leave out. A thread computes the score of a pair; then it owns channels of the results. */
#include "kernels/grad/grad_cuda.cuh"

#define THREADS 128
#define DIM_MAX 512
#define OWNED   (DIM_MAX / THREADS)

struct plain {
	struct bk_mat dq, dk, dv, q, k, v, dout;
	const float *lse, *delta;
	int group, dim, heads;
	float scale, cap;
	int64_t window;
	const int32_t *q_start, *kv_start;
	bool by8;
};

/* delta[row, head] = sum of dout out: a warp each */
template <int DTYPE>
static __global__ void __launch_bounds__(128) deltas(float *delta, const struct bk_mat out, const struct bk_mat dout, int heads, int dim)
{
	const int64_t unit = (int64_t)blockIdx.x * 4 + threadIdx.x / 32, i = unit / heads, at = unit % heads * dim;
	float s = 0;

	if (i >= out.rows)
		return;
	for (int c = threadIdx.x & 31; c < dim; c += 32)
		s = fmaf(bk_load_any(out.p, i * out.ld + at + c, DTYPE), bk_load_any(dout.p, i * dout.ld + at + c, DTYPE), s);
	s = bk_reduce<32, bk_sum>(s, NULL);
	if ((threadIdx.x & 31) == 0)
		delta[unit] = s;
}

template <int DTYPE>
static __device__ __forceinline__ float dot_row(const float *a, const struct bk_mat &m, int64_t row, int64_t col, int dim, bool by8)
{
	const typename bk_elem<DTYPE>::type *p = (const typename bk_elem<DTYPE>::type *)m.p + row * m.ld + col;
	float s = 0, v[8];

	for (int d = 0; d < dim; d += 8) {
		bk_load8<DTYPE>(v, p, d, dim, by8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			s = d + e < dim ? fmaf(v[e], a[d + e], s) : s;
	}
	return s;
}

/* weight of a pair and the gradient of its product */
static __device__ __forceinline__ void pair_back(float &p, float &ds, float s, float dp, float lse, float delta, const struct plain &a)
{
	float slope = a.scale;

	s *= a.scale;
	if (a.cap > 0) {
		const float t = tanhf(s / a.cap);

		s = a.cap * t;
		slope *= 1 - t * t;
	}
	p = expf(s - lse);
	ds = p * (dp - delta) * slope;
}

template <int DTYPE, bool KEYS> static __global__ void __launch_bounds__(THREADS) back_rows(const struct plain a)
{
	__shared__ float x[DIM_MAX], y[DIM_MAX], p[THREADS], g[THREADS]; /* own row: k and v, or q and dout */
	const int64_t q0 = a.q_start[blockIdx.z], kv0 = a.kv_start[blockIdx.z], n_q = a.q_start[blockIdx.z + 1] - q0,
		      n_kv = a.kv_start[blockIdx.z + 1] - kv0;
	const int64_t i = blockIdx.x, off = n_kv - n_q, own = KEYS ? kv0 + i : q0 + i, own_col = (int64_t)blockIdx.y * a.dim;
	const int64_t q_last =
		a.window && i - off + a.window < n_q ? i - off + a.window : n_q; /* of a key: first query, and the one after the last */
	const int64_t q_first = i - off > 0 ? i - off : 0, at = i + off;         /* of a query: its last key */
	const int64_t first = KEYS ? q_first : a.window && at - a.window + 1 > 0 ? at - a.window + 1 : 0, end = KEYS ? q_last : at + 1;
	const int h0 = KEYS ? blockIdx.y * a.group : blockIdx.y, n_heads = KEYS ? a.group : 1;
	float acc0[OWNED] = {}, acc1[OWNED] = {};

	if (i >= (KEYS ? n_kv : n_q))
		return;
	for (int c = threadIdx.x; c < a.dim; c += THREADS) {
		x[c] = bk_load_any(KEYS ? a.k.p : a.q.p, own * (KEYS ? a.k.ld : a.q.ld) + own_col + c, DTYPE);
		y[c] = bk_load_any(KEYS ? a.v.p : a.dout.p, own * (KEYS ? a.v.ld : a.dout.ld) + own_col + c, DTYPE);
	}
	__syncthreads();
	for (int h = h0; h < h0 + n_heads; h++) {
		const int64_t col = (int64_t)(KEYS ? h : h / a.group) * a.dim;
		const struct bk_mat &other = KEYS ? a.q : a.k, &second = KEYS ? a.dout : a.v;
		const int64_t start = KEYS ? q0 : kv0;

		for (int64_t base = first; base < end; base += THREADS) {
			const int64_t j = base + threadIdx.x;
			const int n = (int)(end - base < THREADS ? end - base : THREADS);

			if (j < end) {
				const int64_t pair = (KEYS ? q0 + j : own) * a.heads + h;
				const float s = dot_row<DTYPE>(x, other, start + j, col, a.dim, a.by8),
					    dp = dot_row<DTYPE>(y, second, start + j, col, a.dim, a.by8);

				pair_back(p[threadIdx.x], g[threadIdx.x], s, dp, a.lse[pair], a.delta[pair], a);
			}
			__syncthreads();
#pragma unroll
			for (int o = 0; o < OWNED; o++) {
				const int c = threadIdx.x + o * THREADS;

				if (c >= a.dim)
					continue;
				for (int t = 0; t < n; t++) {
					acc0[o] = fmaf(g[t], bk_load_any(other.p, (start + base + t) * other.ld + col + c, DTYPE), acc0[o]);
					if (KEYS)
						acc1[o] = fmaf(p[t], bk_load_any(second.p, (start + base + t) * second.ld + col + c, DTYPE), acc1[o]);
				}
			}
			__syncthreads();
		}
	}
#pragma unroll
	for (int o = 0; o < OWNED; o++) {
		const int c = threadIdx.x + o * THREADS;

		if (c >= a.dim)
			continue;
		bk_store_any(KEYS ? a.dk.p : a.dq.p, own * (KEYS ? a.dk.ld : a.dq.ld) + own_col + c, DTYPE, acc0[o]);
		if (KEYS)
			bk_store_any(a.dv.p, own * a.dv.ld + own_col + c, DTYPE, acc1[o]);
	}
}

/* keys first: dq may lie where dout does */
template <int DTYPE> static int plain_launch(struct bk_run *r, struct plain p, const struct bk_attention *a)
{
	for (int at = 0; at < a->seq.n; at += 65535) {
		const unsigned n = (unsigned)(a->seq.n - at < 65535 ? a->seq.n - at : 65535);

		p.q_start = a->seq.q_start + at;
		p.kv_start = a->seq.kv_start + at;
		back_rows<DTYPE, true><<<dim3((unsigned)a->seq.max_kv, (unsigned)a->kv_heads, n), THREADS, 0, r->stream>>>(p);
		if (a->seq.max_q)
			back_rows<DTYPE, false><<<dim3((unsigned)a->seq.max_q, (unsigned)a->heads, n), THREADS, 0, r->stream>>>(p);
	}
	return bk_launched();
}

static bool contract(const struct bk_back *b, const struct bk_mat *out)
{
	const struct bk_attention *a = b->a;
	const struct bk_mat *all[] = { &b->q, &b->dout, &b->dq, out, &b->k, &b->v, &b->dk, &b->dv };

	if (!b->lse || a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads || a->heads > 65535 || a->head_dim < 1 || a->head_dim > DIM_MAX ||
	    a->window < 0 || !(a->softcap >= 0) || a->seq.n < 0 || a->seq.max_q < 0 || a->seq.max_kv < 0 ||
	    (a->seq.n && (!a->seq.q_start || !a->seq.kv_start)))
		return false;
	for (int i = 0; i < 8; i++)
		if (!bk_mat_ok(all[i]) || !bk_is_io(all[i]->dtype) || !bk_alike(all[i], i < 4 ? &b->q : &b->k) || all[i]->dtype != b->q.dtype)
			return false;
	return b->q.cols == (int64_t)a->heads * a->head_dim && b->k.cols == (int64_t)a->kv_heads * a->head_dim;
}

BK_GRAD_OP(attention_back, const struct bk_mat *dq, const struct bk_mat *dk, const struct bk_mat *dv, const struct bk_mat *q, const struct bk_mat *k,
	   const struct bk_mat *v, const struct bk_mat *out, const float *lse, const struct bk_mat *dout, const struct bk_attention *a)
{
	struct bk_back b;
	struct plain p;
	bool done = false;
	void *delta;
	int e;

	if (!dq || !dk || !dv || !q || !k || !v || !out || !dout || !a)
		return BK_RUN_REFUSED;
	b = (struct bk_back){ *dq, *dk, *dv, *q, *k, *v, *dout, lse, NULL, a };
	if (!contract(&b, out))
		return BK_RUN_REFUSED;
	if (!a->seq.n || !a->seq.max_kv || !k->rows)
		return 0;
	e = bk_run_scratch(r, &delta, (size_t)q->rows * (size_t)a->heads * sizeof(float));
	if (e)
		return e;
	b.delta = (const float *)delta;
	if (q->rows && q->dtype == BK_BF16)
		deltas<BK_BF16><<<bk_ceil(q->rows * a->heads, 4), 128, 0, r->stream>>>((float *)delta, *out, *dout, a->heads, a->head_dim);
	else if (q->rows)
		deltas<BK_F32><<<bk_ceil(q->rows * a->heads, 4), 128, 0, r->stream>>>((float *)delta, *out, *dout, a->heads, a->head_dim);
	e = bk_launched();
	if (!e)
		e = bk_grad_flash(r, &b, &done);
	if (e || done)
		return e;
	p = (struct plain){ *dq,
			    *dk,
			    *dv,
			    *q,
			    *k,
			    *v,
			    *dout,
			    lse,
			    b.delta,
			    a->heads / a->kv_heads,
			    a->head_dim,
			    a->heads,
			    (float)a->scale,
			    (float)a->softcap,
			    a->window,
			    NULL,
			    NULL,
			    bk_by8(q) && bk_by8(k) && bk_by8(v) && bk_by8(dout) && a->head_dim % 8 == 0 };
	return q->dtype == BK_BF16 ? plain_launch<BK_BF16>(r, p, a) : plain_launch<BK_F32>(r, p, a);
}

BK_GRAD_OP(attention_lse, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
	   const struct bk_attention *a)
{
	return lse ? bk_run_attention_lse(r, out, lse, q, k, v, a) : BK_RUN_REFUSED;
}
