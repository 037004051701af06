/* SPDX-License-Identifier: Apache-2.0
 * Attention, one query row and head per block, everything in float32: for float32 states, for decoding, and for whatever the fast kernel
 * (run_cuda_flash.cu) leaves out. A thread computes the score of a key; then it owns channels of the output. */
#include "kernels/run/run_cuda.cuh"

#define THREADS 128
#define DIM_MAX 512
#define OWNED   (DIM_MAX / THREADS)

struct plain {
	struct bk_mat out, q, k, v;
	float *lse; /* [rows, heads] or NULL */
	int group, dim;
	float scale, cap;
	int64_t window;
	const int32_t *q_start, *kv_start;
	bool by8;
};

template <int DTYPE> static __global__ void __launch_bounds__(THREADS) attention_rows(const struct plain a)
{
	typedef typename bk_elem<DTYPE>::type T;
	__shared__ float q[DIM_MAX], p[THREADS], sh[33];
	const int64_t q0 = a.q_start[blockIdx.z], kv0 = a.kv_start[blockIdx.z], n_q = a.q_start[blockIdx.z + 1] - q0, n_kv = a.kv_start[blockIdx.z + 1] - kv0;
	const int64_t i = blockIdx.x, last = i + n_kv - n_q; /* the last key of this row */
	const int64_t first = a.window && last - a.window + 1 > 0 ? last - a.window + 1 : 0;
	const int64_t head = blockIdx.y, kv_head = head / a.group;
	float acc[OWNED] = {}, max = -INFINITY, sum = 0;

	if (i >= n_q)
		return;
	for (int d = threadIdx.x; d < a.dim; d += THREADS)
		q[d] = bk_load_any(a.q.p, (q0 + i) * a.q.ld + head * a.dim + d, DTYPE);
	__syncthreads();
	for (int64_t base = first; base <= last; base += THREADS) {
		const int64_t j = base + threadIdx.x;
		const int n = (int)(last + 1 - base < THREADS ? last + 1 - base : THREADS);
		float s = -INFINITY, top, fade;

		if (j <= last) {
			const T *k = (const T *)a.k.p + (kv0 + j) * a.k.ld + kv_head * a.dim;
			float v[8];

			s = 0;
			for (int d = 0; d < a.dim; d += 8) {
				bk_load8<DTYPE>(v, k, d, a.dim, a.by8);
#pragma unroll
				for (int e = 0; e < 8; e++)
					s = d + e < a.dim ? fmaf(v[e], q[d + e], s) : s;
			}
			s *= a.scale;
			if (a.cap > 0)
				s = a.cap * tanhf(s / a.cap);
		}
		top = fmaxf(max, bk_reduce<THREADS, bk_max>(s, sh));
		fade = max > -INFINITY ? expf(max - top) : 0;
		s = s > -INFINITY ? expf(s - top) : 0;
		max = top;
		p[threadIdx.x] = s;
		sum = sum * fade + bk_reduce<THREADS, bk_sum>(s, sh); /* its barriers also show p to all */
#pragma unroll
		for (int o = 0; o < OWNED; o++) {
			const int d = threadIdx.x + o * THREADS;
			float x = acc[o] * fade;

			if (d >= a.dim)
				continue;
			for (int t = 0; t < n; t++)
				x = fmaf(p[t], bk_load_any(a.v.p, (kv0 + base + t) * a.v.ld + kv_head * a.dim + d, DTYPE), x);
			acc[o] = x;
		}
		__syncthreads();
	}
	if (a.lse && threadIdx.x == 0)
		a.lse[(q0 + i) * gridDim.y + head] = max + logf(sum);
#pragma unroll
	for (int o = 0; o < OWNED; o++) {
		const int d = threadIdx.x + o * THREADS;

		if (d < a.dim)
			bk_store_any(a.out.p, (q0 + i) * a.out.ld + head * a.dim + d, DTYPE, sum > 0 ? acc[o] / sum : 0);
	}
}

static bool contract(const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v, const struct bk_attention *a)
{
	return bk_mat_ok(out) && bk_mat_ok(q) && bk_mat_ok(k) && bk_mat_ok(v) && bk_is_io(q->dtype) && out->dtype == q->dtype && k->dtype == q->dtype &&
	       v->dtype == q->dtype && a && a->heads > 0 && a->kv_heads > 0 && a->heads % a->kv_heads == 0 && a->head_dim > 0 && a->head_dim <= DIM_MAX &&
	       q->cols == (int64_t)a->heads * a->head_dim && k->cols == (int64_t)a->kv_heads * a->head_dim && bk_same_shape(q, out) && bk_same_shape(k, v) &&
	       a->window >= 0 && a->softcap >= 0 && a->seq.n >= 0 && a->seq.max_q >= 0 && a->seq.max_kv >= 0 && a->heads <= 65535;
}

int bk_run_attention_lse(struct bk_run *r, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
			 const struct bk_attention *a)
{
	bool done = false;
	int e;

	if (!contract(out, q, k, v, a) || (a->seq.n && (!a->seq.q_start || !a->seq.kv_start)))
		return BK_RUN_REFUSED;
	if (!a->seq.n || !a->seq.max_q || !q->rows)
		return 0;
	e = a->seq.max_q > 4 ? bk_flash(r, out, lse, q, k, v, a, &done) : 0;
	if (e || done)
		return e;
	for (int at = 0; at < a->seq.n; at += 65535) {
		const struct plain p = { *out, *q, *k, *v, lse, a->heads / a->kv_heads, a->head_dim, (float)a->scale, (float)a->softcap, a->window,
					 a->seq.q_start + at, a->seq.kv_start + at, bk_by8(k) && a->head_dim % 8 == 0 };
		const dim3 grid((unsigned)a->seq.max_q, (unsigned)a->heads, (unsigned)(a->seq.n - at < 65535 ? a->seq.n - at : 65535));

		if (q->dtype == BK_BF16)
			attention_rows<BK_BF16><<<grid, THREADS, 0, r->stream>>>(p);
		else
			attention_rows<BK_F32><<<grid, THREADS, 0, r->stream>>>(p);
	}
	return bk_launched();
}

int bk_run_attention(struct bk_run *r, const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
		     const struct bk_attention *a)
{
	return bk_run_attention_lse(r, out, NULL, q, k, v, a);
}
