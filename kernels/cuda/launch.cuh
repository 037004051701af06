/* SPDX-License-Identifier: Apache-2.0
 * Shared by the CUDA files: loading one element of any type, the launchers' signatures, and the check behind every launch. */
#ifndef BK_CUDA_LAUNCH_CUH
#define BK_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}
#include "kernels/common/num.h"

template <int DTYPE> struct bk_elem;
template <> struct bk_elem<BK_BF16> {
	typedef uint16_t type;
	static __device__ __forceinline__ float load(uint16_t h) { return bk_bf16_f32(h); }
};
template <> struct bk_elem<BK_F16> {
	typedef uint16_t type;
	static __device__ __forceinline__ float load(uint16_t h) { return bk_f16_f32(h); }
};
template <> struct bk_elem<BK_F32> {
	typedef float type;
	static __device__ __forceinline__ float load(float f) { return f; }
};

/* Fetches, and clears, the error of the launch before it. */
static inline int bk_launched(void) { return (int)cudaGetLastError(); }

int bk_cuda_encode(int8_t *d_codes, const void *d_w, enum bk_dtype dtype, const float *d_scales, const int8_t *d_zeros, int64_t n_rows,
		   int64_t cols, const struct bk_grid *g, enum bk_quotient quotient, void *stream);
int bk_cuda_moments(struct bk_moments *d_out, void *d_work, const void *d_w, enum bk_dtype dtype, int64_t n, void *stream);
size_t bk_cuda_moments_work_bytes(void);
const struct bk_run_ops *bk_run_cuda(void);
const struct bk_solve_ops *bk_solve_cuda(void);
const struct bk_grad_ops *bk_grad_cuda(void);

#endif
