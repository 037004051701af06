/* SPDX-License-Identifier: Apache-2.0
 * Tiles of bf16 in shared memory and what the tensor cores take from them (kernels/run/run_cuda_flash.cu, kernels/grad). */
#ifndef BK_RUN_FLASH_CUH
#define BK_RUN_FLASH_CUH

#include "kernels/run/run_cuda.cuh"

#if __CUDA_ARCH__ >= 800
static __device__ __forceinline__ uint32_t smem_of(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

static __device__ __forceinline__ void fetch16(uint32_t to, const void *from, bool there)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}

static __device__ __forceinline__ void fetch_end(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
static __device__ __forceinline__ void fetch_wait(void) { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

static __device__ __forceinline__ void matrices(uint32_t (&r)[4], uint32_t at)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

static __device__ __forceinline__ void matrices_turned(uint32_t (&r)[4], uint32_t at)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(at)
		     : "memory");
}

static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ float exp2_fast(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

static __device__ __forceinline__ uint32_t pair16(float lo, float hi)
{
	uint32_t r;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
	return r;
}

/* byte offset of 16-byte piece c of row i in a tile with HDP channels */
template <int HDP> static __device__ __forceinline__ uint32_t spot(int i, int c)
{
	return (uint32_t)(i * HDP * 2 + ((c ^ (HDP >= 64 ? i & 7 : i >> 1 & 3)) << 4));
}

/* ROWS rows from `from` on, zeros where there are none or beyond the head's channels */
template <int HDP, int ROWS, int THREADS>
static __device__ __forceinline__ void fetch_tile(uint32_t to, const uint16_t *from, int64_t ld, int64_t first, int64_t n_rows, int dim)
{
#pragma unroll
	for (int at = 0; at < ROWS * HDP / 8; at += THREADS) {
		const int k = at + threadIdx.x, i = k / (HDP / 8), c = k % (HDP / 8);
		const bool there = first + i < n_rows && c * 8 < dim;

		fetch16(to + spot<HDP>(i, c), there ? from + (first + i) * ld + c * 8 : from, there);
	}
}
#endif

#endif
