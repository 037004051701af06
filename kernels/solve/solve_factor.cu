/* SPDX-License-Identifier: Apache-2.0
 * A Hessian and its factor on the GPU, and matrices with their columns in another order. Cholesky is blocked by 64: a panel by one thread block, the rest a
 * product. */
#include <float.h>

#include "kernels/solve/solve_cuda.cuh"

static __global__ void permute_sym_kernel(struct view dst, struct view h, const int32_t *__restrict__ order, int64_t k, float damp, float dead)
{
	const int64_t j = (int64_t)blockIdx.x * 32 + threadIdx.x;

	for (int64_t i = (int64_t)blockIdx.y * 32 + threadIdx.y; i < k && i < (int64_t)(blockIdx.y + 1) * 32 && j < k; i += blockDim.y) {
		const int64_t p = order ? order[i] : i, q = order ? order[j] : j;
		float v = p >= q ? h.p[p * h.ld + q] : h.p[q * h.ld + p];

		if (i == j)
			v = (v == 0 ? dead : v) + damp;
		dst.p[i * dst.ld + j] = v;
	}
}

int bk_solve_permute_sym(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *h, const int32_t *order, double damp, double dead)
{
	const int64_t k = h->cols;
	const dim3 grid(blocks_of(k, 32), blocks_of(k, 32)), block(32, 8);

	if (h->rows != k || dst->rows != k || dst->cols != k || (order && dst->p == h->p) || blocks_of(k, 32) > 65535)
		return BK_RUN_REFUSED;
	permute_sym_kernel<<<grid, block, 0, bk_run_stream(s->run)>>>(view_of(dst), view_of(h), order, k, (float)damp, (float)dead);
	return bk_launched();
}

/* Element (i, j) changes places with (k-1-i, k-1-j). */
static __global__ void flip_kernel(struct view a, int64_t k)
{
	const int64_t j = (int64_t)blockIdx.x * 32 + threadIdx.x;

	for (int64_t i = (int64_t)blockIdx.y * 32 + threadIdx.y; i < k && i < (int64_t)(blockIdx.y + 1) * 32 && j < k; i += blockDim.y) {
		const int64_t p = k - 1 - i, q = k - 1 - j;

		if (i < p || (i == p && j < q)) {
			const float x = a.p[i * a.ld + j];

			a.p[i * a.ld + j] = a.p[p * a.ld + q];
			a.p[p * a.ld + q] = x;
		}
	}
}

static __global__ void clear_lower_kernel(struct view a, int64_t k)
{
	const int64_t j = (int64_t)blockIdx.x * 32 + threadIdx.x;

	for (int64_t i = (int64_t)blockIdx.y * 32 + threadIdx.y; i < k && i < (int64_t)(blockIdx.y + 1) * 32 && j < k; i += blockDim.y)
		if (j < i)
			a.p[i * a.ld + j] = 0;
}

/* Cholesky of a panel's diagonal block, lower, in place. *failed is raised, never cleared. */
static __global__ void panel_kernel(struct view a, int64_t at, int n, int *failed)
{
	__shared__ float l[PANEL][PANEL + 1];

	for (int e = (int)threadIdx.x; e < n * n; e += THREADS)
		l[e / n][e % n] = a.p[(at + e / n) * a.ld + at + e % n];
	__syncthreads();
	for (int j = 0; j < n; j++) {
		const float d = l[j][j];

		if (threadIdx.x == 0 && !(d > 0 && d < FLT_MAX))
			*failed = 1;
		__syncthreads();
		const float root = sqrtf(d), inv = 1 / root;

		for (int i = j + (int)threadIdx.x; i < n; i += THREADS)
			l[i][j] = i == j ? root : l[i][j] * inv;
		__syncthreads();
		for (int e = (int)threadIdx.x; e < (n - j - 1) * (n - j - 1); e += THREADS) {
			const int r = j + 1 + e / (n - j - 1), c = j + 1 + e % (n - j - 1);

			if (c <= r)
				l[r][c] -= l[r][j] * l[c][j];
		}
		__syncthreads();
	}
	for (int e = (int)threadIdx.x; e < n * n; e += THREADS)
		a.p[(at + e / n) * a.ld + at + e % n] = l[e / n][e % n];
}

/* Rows below a panel: x := x L⁻ᵀ, a row per thread. */
static __global__ void below_kernel(struct view a, int64_t at, int n, int64_t k)
{
	__shared__ float l[PANEL][PANEL + 1];
	const int64_t row = at + n + (int64_t)blockIdx.x * ROWS + threadIdx.x;
	float x[PANEL];

	for (int e = (int)threadIdx.x; e < PANEL * PANEL; e += ROWS)
		l[e / PANEL][e % PANEL] = e / PANEL < n && e % PANEL < n ? a.p[(at + e / PANEL) * a.ld + at + e % PANEL] : (e / PANEL == e % PANEL);
	__syncthreads();
	if (row >= k)
		return;
#pragma unroll
	for (int j = 0; j < PANEL; j++)
		x[j] = j < n ? a.p[row * a.ld + at + j] : 0;
#pragma unroll
	for (int j = 0; j < PANEL; j++) {
		x[j] /= l[j][j];
#pragma unroll
		for (int i = j + 1; i < PANEL; i++)
			x[i] -= x[j] * l[i][j];
	}
#pragma unroll
	for (int j = 0; j < PANEL; j++)
		if (j < n)
			a.p[row * a.ld + at + j] = x[j];
}

static int cholesky(const struct bk_solve *s, const struct bk_mat *a, int *d_failed)
{
	const int64_t k = a->cols;
	cudaStream_t stream = bk_run_stream(s->run);

	for (int64_t at = 0; at < k; at += PANEL) {
		const int n = (int)(k - at < PANEL ? k - at : PANEL);
		const int64_t rest = k - at - n;
		int error;

		panel_kernel<<<1, THREADS, 0, stream>>>(view_of(a), at, n, d_failed);
		if (rest > 0) {
			const struct bk_mat x = part(a, at + n, at, rest, n);

			below_kernel<<<blocks_of(rest, ROWS), ROWS, 0, stream>>>(view_of(a), at, n, k);
			error = bk_launched();
			/* the trailing part in strips of rows, so that little of the other triangle is computed */
			for (int64_t r0 = 0; r0 < rest && !error; r0 += 1024) {
				const int64_t rows = rest - r0 < 1024 ? rest - r0 : 1024;
				const struct bk_mat c = part(a, at + n + r0, at + n, rows, r0 + rows), y = part(&x, r0, 0, rows, n), z = part(&x, 0, 0, r0 + rows, n);

				error = s->ops->gemm(s->run, &c, &y, 0, &z, 1, -1, 1, NULL);
			}
			if (error)
				return error;
		}
	}
	return bk_launched();
}

/* In place: for the widest inputs a second matrix would not fit. */
int bk_solve_factor(const struct bk_solve *s, const struct bk_mat *h, int *failed)
{
	const int64_t k = h->cols;
	const dim3 grid(blocks_of(k, 32), blocks_of((k + 1) / 2, 32)), whole(blocks_of(k, 32), blocks_of(k, 32)), block(32, 8);
	cudaStream_t stream = bk_run_stream(s->run);
	void *flag = NULL;
	int error;

	if (h->rows != k || k < 1 || blocks_of(k, 32) > 65535)
		return BK_RUN_REFUSED;
	error = s->ops->alloc(s->run, &flag, sizeof(int));
	if (!error)
		error = s->ops->zero(s->run, flag, sizeof(int));
	if (!error) {
		flip_kernel<<<grid, block, 0, stream>>>(view_of(h), k);
		error = cholesky(s, h, (int *)flag);
	}
	if (!error) {
		flip_kernel<<<grid, block, 0, stream>>>(view_of(h), k);
		clear_lower_kernel<<<whole, block, 0, stream>>>(view_of(h), k);
		error = bk_launched();
	}
	if (!error)
		error = s->ops->get(s->run, failed, flag, sizeof(int));
	s->ops->release(s->run, flag);
	return error;
}

template <typename T> static __global__ void move_cols_kernel(T *dst, int64_t ldd, const T *src, int64_t lds, const int32_t *__restrict__ order, int64_t cols, int back)
{
	const int64_t row = blockIdx.x;

	for (int64_t j = threadIdx.x; j < cols; j += THREADS) {
		if (back)
			dst[row * ldd + order[j]] = src[row * lds + j];
		else
			dst[row * ldd + j] = src[row * lds + order[j]];
	}
}

int bk_solve_permute_cols(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *src, const int32_t *order, int back)
{
	cudaStream_t stream = bk_run_stream(s->run);

	if (dst->rows != src->rows || dst->cols != src->cols || dst->dtype != src->dtype || dst->p == src->p || !order)
		return BK_RUN_REFUSED;
	if (dst->dtype == BK_F32)
		move_cols_kernel<<<(unsigned)dst->rows, THREADS, 0, stream>>>((float *)dst->p, dst->ld, (const float *)src->p, src->ld, order, dst->cols, back);
	else if (dst->dtype == BK_BF16)
		move_cols_kernel<<<(unsigned)dst->rows, THREADS, 0, stream>>>((uint16_t *)dst->p, dst->ld, (const uint16_t *)src->p, src->ld, order, dst->cols, back);
	else
		move_cols_kernel<<<(unsigned)dst->rows, THREADS, 0, stream>>>((int8_t *)dst->p, dst->ld, (const int8_t *)src->p, src->ld, order, dst->cols, back);
	return bk_launched();
}
