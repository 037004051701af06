/* SPDX-License-Identifier: Apache-2.0
 * Shared by the files of the CUDA run: its state, 8 elements at a time of any type, reductions over a group of threads.
 * Everything is issued into r->stream; copies beside it have streams of their own (run_cuda_transfer.cu). */
#ifndef BK_RUN_CUDA_CUH
#define BK_RUN_CUDA_CUH

#include <math.h>
#include <pthread.h>
#include <stdbool.h>

#include "kernels/cuda/launch.cuh"

#define BK_RUN_NO_BLAS (-4)
#define BK_BLAS_ERROR  100000 /* + cublasStatus_t */

struct bk_transfer;
struct bk_blas;

struct bk_alloc { void *p; uint64_t bytes; };

struct bk_run {
	int device, capability, n_sm;
	uint64_t limit, used;
	bool pools;
	cudaMemPool_t pool;
	cudaStream_t stream;
	struct bk_alloc *allocs;
	size_t n_allocs, cap_allocs;
	void **hosts;
	size_t n_hosts, cap_hosts;
	void *scratch;         /* of one operation at a time; grows */
	size_t scratch_bytes;
	struct bk_transfer *transfer;
	struct bk_blas *blas;
};

static inline cudaStream_t bk_run_stream(const struct bk_run *r) { return r->stream; }

/* run_cuda.cu */
int bk_run_scratch(struct bk_run *r, void **out, size_t bytes); /* valid until the next call */
int bk_run_join(struct bk_run *r);                               /* what was issued later waits for every copy so far */
/* run_cuda_transfer.cu */
int bk_transfer_open(struct bk_run *r, const struct bk_run_options *o);
void bk_transfer_close(struct bk_run *r);
bool bk_is_pinned(const void *p);
bool bk_transfer_meets(const struct bk_run *r, const void *p, size_t bytes); /* a copy that was not joined yet goes there, or comes from there */
int bk_run_upload(struct bk_run *r, void *dst, const void *src, size_t bytes);
int bk_run_upload_join(struct bk_run *r);
int bk_run_download(struct bk_run *r, void *dst, const void *src, size_t bytes);
int bk_run_download_join(struct bk_run *r);
/* run_cuda_gemm.cu */
int bk_blas_open(struct bk_run *r);
void bk_blas_close(struct bk_run *r);
const char *bk_blas_missing(void); /* why there is no cuBLASLt */
int bk_run_gemm(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta,
		const void *bias);
int bk_run_gemm_codes(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw,
		      const void *bias);
int bk_run_hessian(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *x);
/* run_cuda_gemm_any.cu: any types, any shapes, slower */
int bk_gemm_any(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta,
		const void *bias, int bias_dtype);
int bk_scale_codes(struct bk_run *r, const struct bk_mat *y, const void *acc, int64_t acc_ld, bool acc_int, const float *sx, const float *sw,
		   const void *bias);
int bk_pad_codes(struct bk_run *r, void *dst, int64_t rows, int64_t cols, const struct bk_mat *src);
int bk_add_bias(struct bk_run *r, const struct bk_mat *c, const void *bias, int bias_dtype);
/* run_cuda_rows.cu */
int bk_run_rmsnorm(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_norm *n);
int bk_run_add_rmsnorm(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n);
int bk_run_rmsnorm_add(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n);
int bk_run_head_norm_rope_to(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
			     const struct bk_rope *rope);
int bk_run_head_norm_rope(struct bk_run *r, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n, const struct bk_rope *rope);
int bk_run_quant_tokens(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind);
int bk_run_quant_static(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float scale);
/* run_cuda_groups.cu */
int bk_run_quant_groups(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how);
int bk_run_gemm_groups(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, int64_t group,
		       const void *bias);
int bk_run_round_inputs(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how);
/* run_cuda_elements.cu */
int bk_run_gather(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *e, const int32_t *ids, float scale);
int bk_run_convert(struct bk_run *r, const struct bk_mat *dst, const struct bk_mat *src);
int bk_run_add(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a);
int bk_run_gate(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *g, const struct bk_mat *u, enum bk_gate kind);
int bk_run_softcap(struct bk_run *r, const struct bk_mat *x, double cap);
/* run_cuda_attention.cu, run_cuda_flash.cu */
int bk_run_attention(struct bk_run *r, const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
		     const struct bk_attention *a);
int bk_run_attention_lse(struct bk_run *r, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
			 const struct bk_attention *a);
int bk_flash(struct bk_run *r, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
	     const struct bk_attention *a, bool *done);
/* run_cuda_stats.cu */
int bk_run_input_stats(struct bk_run *r, const struct bk_input_acc *acc, const struct bk_mat *x);
int bk_run_diff_sums(struct bk_run *r, double *sums, const struct bk_mat *a, const struct bk_mat *b);
int bk_run_dot(struct bk_run *r, double *sum, const struct bk_mat *a, const struct bk_mat *b);
int bk_run_mirror(struct bk_run *r, const struct bk_mat *h);
/* run_cuda_loss.cu */
int bk_run_row_loss(struct bk_run *r, const struct bk_row_loss *out, const struct bk_mat *logits, const int32_t *targets);
int bk_run_row_kl(struct bk_run *r, const struct bk_row_kl *out, const struct bk_mat *p, const struct bk_mat *q, const int32_t *targets);

/* ---- contracts ---- */

static inline size_t bk_size(int dtype) { return dtype == BK_F32 ? 4 : dtype == BK_BF16 || dtype == BK_F16 ? 2 : 1; }
static inline bool bk_is_float(int dtype) { return dtype >= BK_BF16 && dtype <= BK_F32; }
static inline bool bk_is_io(int dtype) { return dtype == BK_BF16 || dtype == BK_F32; } /* what hidden states are stored in */

static inline bool bk_mat_ok(const struct bk_mat *m)
{
	return m && m->rows >= 0 && m->cols >= 0 && (m->p || !m->rows || !m->cols) && (m->ld >= m->cols || m->rows <= 1) && m->dtype >= BK_BF16 &&
	       m->dtype <= BK_F8 && (uintptr_t)m->p % bk_size(m->dtype) == 0 && m->rows < INT64_C(1) << 31 && m->cols < INT64_C(1) << 30;
}

static inline bool bk_same_shape(const struct bk_mat *a, const struct bk_mat *b) { return a->rows == b->rows && a->cols == b->cols; }

/* Rows can be read and written 8 elements at a time (the last ones of a row one by one). */
static inline bool bk_by8(const struct bk_mat *m)
{
	const size_t size = bk_size(m->dtype), unit = size == 4 ? 16 : 8 * size;

	return (uintptr_t)m->p % unit == 0 && (size_t)m->ld * size % unit == 0;
}

static inline unsigned bk_ceil(int64_t n, int64_t by) { return (unsigned)((n + by - 1) / by); }

/* ---- device ---- */

/* To the nearest, ties to even; a NaN of any payload stays a NaN. */
static __device__ __forceinline__ uint16_t bk_to_bf16(float f)
{
#if __CUDA_ARCH__ >= 800
	uint16_t h;

	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
#else
	const uint32_t u = bk_f32_bits(f);

	return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
#endif
}

static __device__ __forceinline__ uint16_t bk_to_f16(float f)
{
	uint16_t h;

	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
	return h;
}

template <int DTYPE> static __device__ __forceinline__ float bk_rounded(float f)
{
	return DTYPE == BK_BF16 ? bk_bf16_f32(bk_to_bf16(f)) : DTYPE == BK_F16 ? bk_f16_f32(bk_to_f16(f)) : f;
}

static __device__ __forceinline__ float bk_load_any(const void *p, int64_t i, int dtype)
{
	switch (dtype) {
	case BK_BF16: return bk_bf16_f32(((const uint16_t *)p)[i]);
	case BK_F16: return bk_f16_f32(((const uint16_t *)p)[i]);
	case BK_F32: return ((const float *)p)[i];
	case BK_I8: return (float)((const int8_t *)p)[i];
	default: return bk_e4m3_f32(((const uint8_t *)p)[i]);
	}
}

static __device__ __forceinline__ void bk_store_any(void *p, int64_t i, int dtype, float f)
{
	if (dtype == BK_F32)
		((float *)p)[i] = f;
	else
		((uint16_t *)p)[i] = dtype == BK_BF16 ? bk_to_bf16(f) : bk_to_f16(f);
}

/* elements i .. i + 7 of a row of n; beyond n: 0. by8: the addresses allow it. */
template <int DTYPE> static __device__ __forceinline__ void bk_load8(float (&v)[8], const void *row, int64_t i, int64_t n, bool by8)
{
	if (by8 && i + 8 <= n) {
		if (DTYPE == BK_F32) {
			const float4 a = *(const float4 *)((const float *)row + i), b = *(const float4 *)((const float *)row + i + 4);

			v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
		} else if (DTYPE == BK_BF16 || DTYPE == BK_F16) {
			const uint4 a = *(const uint4 *)((const uint16_t *)row + i);
			const uint32_t w[4] = { a.x, a.y, a.z, a.w };

#pragma unroll
			for (int k = 0; k < 4; k++) {
				v[2 * k] = DTYPE == BK_BF16 ? bk_bits_f32(w[k] << 16) : bk_f16_f32((uint16_t)w[k]);
				v[2 * k + 1] = DTYPE == BK_BF16 ? bk_bits_f32(w[k] & 0xffff0000u) : bk_f16_f32((uint16_t)(w[k] >> 16));
			}
		} else {
			const uint2 a = *(const uint2 *)((const uint8_t *)row + i);

#pragma unroll
			for (int k = 0; k < 8; k++) {
				const uint8_t c = (uint8_t)((k < 4 ? a.x : a.y) >> (8 * (k & 3)));

				v[k] = DTYPE == BK_I8 ? (float)(int8_t)c : bk_e4m3_f32(c);
			}
		}
		return;
	}
#pragma unroll
	for (int k = 0; k < 8; k++)
		v[k] = i + k < n ? bk_load_any(row, i + k, DTYPE) : 0;
}

template <int DTYPE> static __device__ __forceinline__ void bk_store8(void *row, int64_t i, int64_t n, bool by8, const float (&v)[8])
{
	if (by8 && i + 8 <= n) {
		if (DTYPE == BK_F32) {
			*(float4 *)((float *)row + i) = make_float4(v[0], v[1], v[2], v[3]);
			*(float4 *)((float *)row + i + 4) = make_float4(v[4], v[5], v[6], v[7]);
		} else {
			uint32_t w[4];

#pragma unroll
			for (int k = 0; k < 4; k++)
				w[k] = DTYPE == BK_BF16 ? bk_to_bf16(v[2 * k]) | (uint32_t)bk_to_bf16(v[2 * k + 1]) << 16
							: bk_to_f16(v[2 * k]) | (uint32_t)bk_to_f16(v[2 * k + 1]) << 16;
			*(uint4 *)((uint16_t *)row + i) = make_uint4(w[0], w[1], w[2], w[3]);
		}
		return;
	}
#pragma unroll
	for (int k = 0; k < 8; k++)
		if (i + k < n)
			bk_store_any(row, i + k, DTYPE, v[k]);
}

/* The same where a row is whole vectors at such addresses: FULL, else as above. */
template <int DTYPE, bool FULL> static __device__ __forceinline__ void bk_take8(float (&v)[8], const void *row, int64_t i, int64_t n, bool by8)
{
	if (FULL)
		bk_load8<DTYPE>(v, row, i, i + 8, true);
	else
		bk_load8<DTYPE>(v, row, i, n, by8);
}

template <int DTYPE, bool FULL> static __device__ __forceinline__ void bk_give8(void *row, int64_t i, int64_t n, bool by8, const float (&v)[8])
{
	if (FULL)
		bk_store8<DTYPE>(row, i, i + 8, true, v);
	else
		bk_store8<DTYPE>(row, i, n, by8, v);
}

struct bk_sum { static __device__ __forceinline__ float of(float a, float b) { return a + b; } };
struct bk_max { static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); } };

/* Over the THREADS of a row, in one fixed order; every thread gets it. THREADS: 32, or the whole block (then `sh` holds 33 floats). */
template <int THREADS, class OP> static __device__ __forceinline__ float bk_reduce(float v, float *sh)
{
#pragma unroll
	for (int d = 16; d; d >>= 1)
		v = OP::of(v, __shfl_xor_sync(0xffffffffu, v, d));
	if (THREADS > 32) {
		const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;

		__syncthreads(); /* sh may still be read from the call before */
		if (lane == 0)
			sh[warp] = v;
		__syncthreads();
		v = sh[0];
#pragma unroll
		for (int w = 1; w < THREADS / 32; w++)
			v = OP::of(v, sh[w]);
	}
	return v;
}

static __device__ __forceinline__ const void *bk_row(const struct bk_mat &m, int64_t i, int size) { return (const char *)m.p + i * m.ld * size; }
static __device__ __forceinline__ void *bk_row_out(const struct bk_mat &m, int64_t i, int size) { return (char *)m.p + i * m.ld * size; }

#endif
