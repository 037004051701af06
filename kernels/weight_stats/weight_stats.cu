/* SPDX-License-Identifier: Apache-2.0
 * weight_stats on the GPU: sums, extremes and the number of non-finite elements in one read. A fixed number of blocks and fixed trees of
 * additions make the digits the same on every device. Sums of 8 neighbours are float32, the rest is double: cards for inference have few
 * double units, and 8 roundings of 2^-24 do not show in sums over millions. Runs whose squares float32 cannot hold are double throughout. */
#include "kernels/cuda/launch.cuh"

#define BLOCKS  1024
#define THREADS 256
#define RUN     8 /* elements one thread takes at a time */

static __device__ __forceinline__ void merge(struct bk_moments &a, const struct bk_moments &b)
{
	a.n_nonfinite += b.n_nonfinite;
	a.sum += b.sum;
	a.sum2 += b.sum2;
	a.min = b.min < a.min ? b.min : a.min;
	a.max = b.max > a.max ? b.max : a.max;
}

static __device__ __forceinline__ struct bk_moments nothing(void)
{
	struct bk_moments a;

	a.n_nonfinite = 0;
	a.sum = a.sum2 = 0;
	a.min = bk_bits_f32(0x7f800000u);
	a.max = bk_bits_f32(0xff800000u);
	return a;
}

/* Thread 0 ends with the sum over the block. */
static __device__ void reduce_block(struct bk_moments &a)
{
	__shared__ struct bk_moments all[THREADS];

	all[threadIdx.x] = a;
	__syncthreads();
	for (int half = THREADS / 2; half > 0; half /= 2) {
		if ((int)threadIdx.x < half)
			merge(all[threadIdx.x], all[threadIdx.x + half]);
		__syncthreads();
	}
	a = all[0];
}

template <int DTYPE> __global__ void moments_kernel(struct bk_moments *partial, const typename bk_elem<DTYPE>::type *__restrict__ w, int64_t n)
{
	struct alignas(16) chunk { typename bk_elem<DTYPE>::type x[16 / sizeof(typename bk_elem<DTYPE>::type)]; };
	const int per_chunk = 16 / sizeof(typename bk_elem<DTYPE>::type);
	struct bk_moments a = nothing();

	for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * RUN; i < n; i += (int64_t)BLOCKS * THREADS * RUN) {
		float x[RUN], top = 0, s1 = 0, s2 = 0;

#pragma unroll
		for (int c = 0; c < RUN; c += per_chunk) {
			chunk v;

			if (i + c + per_chunk <= n) {
				v = *(const chunk *)(w + i + c);
			} else {
				for (int j = 0; j < per_chunk; j++)
					v.x[j] = i + c + j < n ? w[i + c + j] : (typename bk_elem<DTYPE>::type)0;
			}
#pragma unroll
			for (int j = 0; j < per_chunk; j++) {
				const float y = bk_elem<DTYPE>::load(v.x[j]);
				const bool finite = (bk_f32_bits(y) & 0x7fffffffu) < 0x7f800000u;

				x[c + j] = finite ? y : 0.0f;
				a.n_nonfinite += !finite;
				if (finite && i + c + j < n) {
					a.min = y < a.min ? y : a.min;
					a.max = y > a.max ? y : a.max;
				}
			}
		}
#pragma unroll
		for (int j = 0; j < RUN; j++) {
			top = fmaxf(top, fabsf(x[j]));
			s1 += x[j];
			s2 += x[j] * x[j];
		}
		if (top > 1e-15f && top < 1e15f) {
			a.sum += s1;
			a.sum2 += s2;
		} else {
			for (int j = 0; j < RUN; j++) {
				a.sum += x[j];
				a.sum2 += (double)x[j] * x[j];
			}
		}
	}
	reduce_block(a);
	if (threadIdx.x == 0)
		partial[blockIdx.x] = a;
}

static __global__ void total_kernel(struct bk_moments *out, const struct bk_moments *partial)
{
	struct bk_moments a = partial[threadIdx.x];

	for (int i = threadIdx.x + THREADS; i < BLOCKS; i += THREADS)
		merge(a, partial[i]);
	reduce_block(a);
	if (threadIdx.x == 0)
		*out = a;
}

size_t bk_cuda_moments_work_bytes(void) { return BLOCKS * sizeof(struct bk_moments); }

template <int DTYPE> static void launch(struct bk_moments *partial, const void *w, int64_t n, cudaStream_t stream)
{
	moments_kernel<DTYPE><<<BLOCKS, THREADS, 0, stream>>>(partial, (const typename bk_elem<DTYPE>::type *)w, n);
}

int bk_cuda_moments(struct bk_moments *d_out, void *d_work, const void *d_w, enum bk_dtype dtype, int64_t n, void *stream)
{
	struct bk_moments *partial = (struct bk_moments *)d_work;
	int error;

	if (n < 0 || (uintptr_t)d_w % 16)
		return BK_CUDA_REFUSED;
	if (dtype == BK_BF16)
		launch<BK_BF16>(partial, d_w, n, (cudaStream_t)stream);
	else if (dtype == BK_F16)
		launch<BK_F16>(partial, d_w, n, (cudaStream_t)stream);
	else
		launch<BK_F32>(partial, d_w, n, (cudaStream_t)stream);
	error = bk_launched();
	if (error)
		return error;
	total_kernel<<<1, THREADS, 0, (cudaStream_t)stream>>>(d_out, partial);
	return bk_launched();
}
