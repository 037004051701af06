/* SPDX-License-Identifier: Apache-2.0
 * The solvers on the GPU, and the loss that they lower. Large products go through the run's gemm (float32, no TF32). */
#include "kernels/solve/solve_cuda.cuh"

static __global__ void row_dots_kernel(double *out, const float *c, struct view d, int64_t cols)
{
	__shared__ double all[THREADS];
	const int64_t row = blockIdx.x;
	double sum = 0;

	for (int64_t k = threadIdx.x; k < cols; k += THREADS)
		sum += (double)c[row * cols + k] * d.p[row * d.ld + k];
	all[threadIdx.x] = sum;
	__syncthreads();
	for (int half = THREADS / 2; half > 0; half /= 2) {
		if ((int)threadIdx.x < half)
			all[threadIdx.x] += all[threadIdx.x + half];
		__syncthreads();
	}
	if (threadIdx.x == 0)
		out[row] = all[0];
}

static int loss(const struct bk_solve *s, double *out, const struct bk_mat *d, const struct bk_mat *h)
{
	void *work = NULL;
	int error;

	if (h->rows != d->cols || h->cols != d->cols)
		return BK_RUN_REFUSED;
	error = s->ops->alloc(s->run, &work, (size_t)(d->rows * d->cols) * sizeof(float));
	if (!error) {
		const struct bk_mat c = { work, d->rows, d->cols, d->cols, BK_F32 };

		error = s->ops->gemm(s->run, &c, d, 0, h, 0, 1, 0, NULL);
	}
	if (!error) {
		row_dots_kernel<<<(unsigned)d->rows, THREADS, 0, bk_run_stream(s->run)>>>(out, (const float *)work, view_of(d), d->cols);
		error = bk_launched();
	}
	s->ops->release(s->run, work);
	return error;
}

static const struct bk_solve_ops ops = {
	sizeof(struct bk_solve_ops), bk_solve_permute_sym, bk_solve_factor, bk_solve_permute_cols, bk_solve_scale_search, bk_solve_round, bk_solve_descend,
	bk_solve_refit, loss, bk_solve_diff, bk_solve_nonfinite, bk_solve_diagonal, bk_solve_solve_rows, bk_solve_over_rms, bk_solve_add_scaled,
	bk_solve_prune, bk_solve_select, bk_solve_absmax,
	bk_solve_difference, bk_solve_feed,
};

const struct bk_solve_ops *bk_solve_cuda(void) { return &ops; }
