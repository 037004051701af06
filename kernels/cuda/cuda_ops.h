/* SPDX-License-Identifier: Apache-2.0
 * What the CUDA module gives the program: one table, found by the C symbol bk_cuda_module. Pointers named d_* are device memory,
 * 16-byte aligned (as allocations are). Launchers take a stream, allocate nothing, wait for nothing, and return the launch's error: 0, a CUDA error
 * number, or BK_CUDA_REFUSED for arguments outside their contract. Everything runs on the device chosen last by `use` in the calling thread. */
#ifndef BK_CUDA_OPS_H
#define BK_CUDA_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/grad/grad.h"
#include "kernels/ops.h"
#include "kernels/run/run.h"
#include "kernels/solve/solve.h"

#define BK_CUDA_VERSION 3
#define BK_CUDA_REFUSED (-1)

struct bk_cuda_device {
	char name[128];
	uint64_t total_bytes, free_bytes;
	int capability; /* 10 * major + minor */
	int n_processors;
};

struct bk_cuda_ops {
	uint32_t version; /* BK_CUDA_VERSION */
	size_t size;      /* sizeof(struct bk_cuda_ops) */
	const char *(*error_text)(int error);
	int (*device_count)(int *n);
	int (*device)(int i, struct bk_cuda_device *out);
	int (*use)(int i);
	int (*alloc)(void **d_out, size_t bytes);
	int (*release)(void *d);
	int (*stream_new)(void **out);
	int (*stream_free)(void *stream);
	int (*wait)(void *stream); /* until everything launched into it is done */
	int (*copy_in)(void *d_dst, const void *src, size_t bytes, void *stream);
	int (*copy_out)(void *dst, const void *d_src, size_t bytes, void *stream);

	/* quant_rows: codes of weights as they lie on disk, the same bits as the CPU's encode after load_rows.
	 *   d_codes [n_rows, cols]   d_w [n_rows, cols] of dtype   d_scales, d_zeros [n_rows, spr]; d_zeros NULL when symmetric
	 * Refused: cols above 2^30, groups that do not divide cols. */
	int (*encode)(int8_t *d_codes, const void *d_w, enum bk_dtype dtype, const float *d_scales, const int8_t *d_zeros, int64_t n_rows,
		      int64_t cols, const struct bk_grid *g, enum bk_quotient quotient, void *stream);
	/* weight_stats: sums and extremes of n elements of any type. *d_out is written.
	 * Sums are double over short float32 runs, in an order that does not depend on the device. d_work: moments_work_bytes of memory. */
	size_t moments_work_bytes;
	int (*moments)(struct bk_moments *d_out, void *d_work, const void *d_w, enum bk_dtype dtype, int64_t n, void *stream);

	const struct bk_run_ops *run; /* running a decoder; needs cuBLASLt on the machine, which `open` says when it is not there */
	const struct bk_solve_ops *solve; /* on a run of `run`, as is the next */
	const struct bk_grad_ops *grad;
};

typedef const struct bk_cuda_ops *(*bk_cuda_module_fn)(void);

#endif
