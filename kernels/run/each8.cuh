/* SPDX-License-Identifier: Apache-2.0
 * Elementwise kernels: a thread has 8 elements of a row, rows lie over the grid's second dimension, so that no index is divided. */
#ifndef BK_RUN_EACH8_CUH
#define BK_RUN_EACH8_CUH

#include "kernels/run/run_cuda.cuh"

#define EACH8_THREADS 256

/* what f needs: the row, the column of the first of 8 elements, and the number of columns */
template <class F> static __global__ void __launch_bounds__(EACH8_THREADS) each8(const F f, int64_t rows, int64_t cols)
{
	const int64_t j = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;

	if (j < cols)
		for (int64_t i = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; i < rows; i += (int64_t)gridDim.y * blockDim.y)
			f(i, j, cols);
}

template <class F> static int launch(struct bk_run *r, const F &f, int64_t rows, int64_t cols)
{
	unsigned x = 32, y;
	int64_t blocks;

	if (!rows || !cols)
		return 0;
	while (x < EACH8_THREADS && x * 8 < cols)
		x *= 2;
	y = EACH8_THREADS / x;
	blocks = (rows + y - 1) / y;
	each8<<<dim3(bk_ceil(cols, 8 * (int64_t)x), (unsigned)(blocks < 65535 ? blocks : 65535)), dim3(x, y), 0, r->stream>>>(f, rows, cols);
	return bk_launched();
}

template <int DTYPE> struct size_of { enum { n = sizeof(typename bk_elem<DTYPE>::type) }; };
template <> struct size_of<BK_I8> { enum { n = 1 }; };
template <> struct size_of<BK_F8> { enum { n = 1 }; };

#endif
