/* SPDX-License-Identifier: Apache-2.0
 * Sums of exponentials over a row by a block: running maxima and sums per thread, joined in one fixed order. */
#ifndef BK_RUN_LOSS_CUH
#define BK_RUN_LOSS_CUH

#include "kernels/run/run_cuda.cuh"

#define LOSS_THREADS 512 /* of a block */
#define LOG2E   1.4426950408889634f

/* of one thread or more: maximum, where, sum of e^(x - max), sum of e^(x - max) times what is given */
struct part { float max, sum, with; int32_t at; };

static __device__ __forceinline__ void part_join(struct part &a, const struct part &b)
{
	const float m = fmaxf(a.max, b.max), fa = a.max > -INFINITY ? exp2f((a.max - m) * LOG2E) : 0, fb = b.max > -INFINITY ? exp2f((b.max - m) * LOG2E) : 0;

	a.sum = a.sum * fa + b.sum * fb;
	a.with = a.with * fa + b.with * fb;
	a.at = b.max > a.max || (b.max == a.max && b.at < a.at) ? b.at : a.at;
	a.max = m;
}

/* 8 elements from column j on; beyond the row they are -inf, and w is 0 */
static __device__ __forceinline__ void part_add(struct part &a, const float (&v)[8], const float (&w)[8], int64_t j)
{
	float m = v[0];
	int at = 0;

#pragma unroll
	for (int e = 1; e < 8; e++)
		if (v[e] > m)
			m = v[e], at = e;
	if (m > a.max) {
		const float f = a.max > -INFINITY ? exp2f((a.max - m) * LOG2E) : 0;

		a.sum *= f;
		a.with *= f;
		a.max = m;
		a.at = (int32_t)j + at;
	}
	if (a.max == -INFINITY)
		return;
#pragma unroll
	for (int e = 0; e < 8; e++) {
		const float x = exp2f((v[e] - a.max) * LOG2E);

		a.sum += x;
		a.with = fmaf(x, w[e], a.with);
	}
}

/* The block's; valid in thread 0. */
static __device__ __forceinline__ struct part part_block(struct part a, struct part *sh)
{
#pragma unroll
	for (int d = 16; d; d >>= 1) {
		struct part b;

		b.max = __shfl_down_sync(0xffffffffu, a.max, d);
		b.sum = __shfl_down_sync(0xffffffffu, a.sum, d);
		b.with = __shfl_down_sync(0xffffffffu, a.with, d);
		b.at = __shfl_down_sync(0xffffffffu, a.at, d);
		part_join(a, b);
	}
	__syncthreads();
	if ((threadIdx.x & 31) == 0)
		sh[threadIdx.x >> 5] = a;
	__syncthreads();
	if (threadIdx.x == 0)
		for (int w = 1; w < LOSS_THREADS / 32; w++)
			part_join(a, sh[w]);
	return a;
}

template <int DTYPE, bool FULL> static __device__ __forceinline__ void logits8(float (&v)[8], const void *row, int64_t j, int64_t cols, bool by8)
{
	bk_take8<DTYPE, FULL>(v, row, j, cols, by8);
	if (!FULL && j + 8 > cols)
#pragma unroll
		for (int e = 0; e < 8; e++)
			if (j + e >= cols)
				v[e] = -INFINITY;
}

static __device__ __forceinline__ double lse(const struct part &a) { return (double)a.max + log((double)a.sum); }

#endif
