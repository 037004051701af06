/* SPDX-License-Identifier: Apache-2.0
 * quant_rows on the GPU: encode. Bound by memory (3 bytes per 16-bit weight); each thread takes 4 neighbours of one group when the width allows
 * it. Division is the correctly rounded one and nothing is contracted, so codes are the CPU's codes. */
#include "kernels/cuda/launch.cuh"

enum { INT_SYM, INT_ASYM, E4M3 };

template <int KIND, bool BF16> __device__ __forceinline__ int8_t code_of(float x, float s, float z, float bottom, float top)
{
	float t = __fdiv_rn(x, s);

	if (BF16)
		t = bk_round_bf16(t);
	if (KIND == INT_ASYM) {
		t = __fadd_rn(t, z);
		if (BF16)
			t = bk_round_bf16(t);
	}
	t = t < bottom ? bottom : t;
	t = t > top ? top : t;
	if (KIND == E4M3)
		return (int8_t)bk_f32_e4m3(__fadd_rn(t, 0.0f));
	return (int8_t)__float2int_rn(t);
}

/* codes, w [n_rows, cols]; scales, zeros [n_rows, cols / width]; V divides width */
template <int KIND, bool BF16, int DTYPE, int V>
__global__ void encode_kernel(int8_t *__restrict__ codes, const typename bk_elem<DTYPE>::type *__restrict__ w,
			      const float *__restrict__ scales, const int8_t *__restrict__ zeros, int64_t n_rows, uint32_t cols,
			      uint32_t width, float bottom, float top)
{
	struct alignas(sizeof(typename bk_elem<DTYPE>::type) * V) in { typename bk_elem<DTYPE>::type x[V]; };
	struct alignas(V) out { int8_t q[V]; };
	const uint32_t spr = cols / width;

	for (int64_t row = blockIdx.y; row < n_rows; row += gridDim.y)
		for (uint32_t c = (blockIdx.x * blockDim.x + threadIdx.x) * V; c < cols; c += gridDim.x * blockDim.x * V) {
			const int64_t at = row * cols + c, k = row * spr + c / width;
			const float s = scales[k], z = KIND == INT_ASYM ? (float)zeros[k] : 0.0f;
			const in v = *(const in *)(w + at);
			out o;

#pragma unroll
			for (int j = 0; j < V; j++)
				o.q[j] = code_of<KIND, BF16>(bk_elem<DTYPE>::load(v.x[j]), s, z, bottom, top);
			*(out *)(codes + at) = o;
		}
}

struct call {
	int8_t *codes;
	const void *w;
	const float *scales;
	const int8_t *zeros;
	int64_t n_rows;
	uint32_t cols, width;
	float bottom, top;
	cudaStream_t stream;
};

template <int KIND, bool BF16, int DTYPE, int V> static int launch(const call &c)
{
	const uint32_t threads = 256, per_block = threads * V;
	const dim3 grid((c.cols + per_block - 1) / per_block, (unsigned)(c.n_rows < 65535 ? c.n_rows : 65535));

	encode_kernel<KIND, BF16, DTYPE, V><<<grid, threads, 0, c.stream>>>(c.codes, (const typename bk_elem<DTYPE>::type *)c.w, c.scales, c.zeros,
									    c.n_rows, c.cols, c.width, c.bottom, c.top);
	return bk_launched();
}

template <int KIND, bool BF16> static int by_dtype(const call &c, enum bk_dtype dtype)
{
	const bool wide = c.width % 4 == 0;

	switch (dtype) {
	case BK_BF16:
		return wide ? launch<KIND, BF16, BK_BF16, 4>(c) : launch<KIND, BF16, BK_BF16, 1>(c);
	case BK_F16:
		return wide ? launch<KIND, BF16, BK_F16, 4>(c) : launch<KIND, BF16, BK_F16, 1>(c);
	case BK_F32:
		return wide ? launch<KIND, BF16, BK_F32, 4>(c) : launch<KIND, BF16, BK_F32, 1>(c);
	}
	return BK_CUDA_REFUSED;
}

int bk_cuda_encode(int8_t *d_codes, const void *d_w, enum bk_dtype dtype, const float *d_scales, const int8_t *d_zeros, int64_t n_rows,
		   int64_t cols, const struct bk_grid *g, enum bk_quotient quotient, void *stream)
{
	const bool bf16 = quotient == BK_QUOTIENT_BF16;
	call c = { d_codes, d_w, d_scales, d_zeros, n_rows, (uint32_t)cols, (uint32_t)(g->group ? g->group : cols),
		   (float)-(1 << (g->bits - 1)), (float)((1 << (g->bits - 1)) - 1), (cudaStream_t)stream };

	if (cols < 0 || n_rows < 0 || cols > 1 << 30 || g->group < 0 || (g->group && cols % g->group) || (!g->symmetric && !d_zeros))
		return BK_CUDA_REFUSED;
	if (n_rows == 0 || cols == 0)
		return 0;
	if (g->number == BK_E4M3) {
		c.bottom = -448.0f;
		c.top = 448.0f;
		return bf16 ? by_dtype<E4M3, true>(c, dtype) : by_dtype<E4M3, false>(c, dtype);
	}
	if (g->symmetric)
		return bf16 ? by_dtype<INT_SYM, true>(c, dtype) : by_dtype<INT_SYM, false>(c, dtype);
	return bf16 ? by_dtype<INT_ASYM, true>(c, dtype) : by_dtype<INT_ASYM, false>(c, dtype);
}
