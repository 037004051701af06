/* SPDX-License-Identifier: Apache-2.0
 * The small operations of the GPU's solvers: element by element, and rows times an inverse. */
#include <float.h>

#include "kernels/solve/solve_cuda.cuh"

/* ---- what codes stand for ---- */

static __global__ void diff_kernel(struct view d, struct view w, const int8_t *__restrict__ codes, int64_t ldc, const float *__restrict__ scales,
				   const int8_t *__restrict__ zeros, const int32_t *__restrict__ group_of, int64_t cols, int64_t spr, int64_t width, int number)
{
	const int64_t row = blockIdx.x;

	for (int64_t k = threadIdx.x; k < cols; k += THREADS) {
		if (number == BK_FULL) {
			d.p[row * d.ld + k] = w.p[row * w.ld + k] - bk_bf16_f32(((const uint16_t *)(const void *)codes)[row * ldc + k]);
			continue;
		}
		const int64_t at = row * spr + (group_of ? group_of[k] : k / width);

		d.p[row * d.ld + k] = w.p[row * w.ld + k] - bk_grid_value(codes[row * ldc + k], scales[at], zeros ? (float)zeros[at] : 0, number);
	}
}

int bk_solve_diff(const struct bk_solve *s, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *codes, const float *scales, const int8_t *zeros,
		const int32_t *group_of, const struct bk_grid *g)
{
	const int64_t width = g->group ? g->group : w->cols;

	if (width < 1 || w->cols % width || d->rows != w->rows || d->cols != w->cols || codes->rows != w->rows || codes->cols != w->cols)
		return BK_RUN_REFUSED;
	diff_kernel<<<(unsigned)w->rows, THREADS, 0, bk_run_stream(s->run)>>>(view_of(d), view_of(w), (const int8_t *)codes->p, codes->ld, scales, zeros, group_of, w->cols,
									      w->cols / width, width, g->number);
	return bk_launched();
}

static __global__ void finite_kernel(unsigned long long *found, struct view w, int64_t rows, int64_t cols)
{
	const int64_t row = blockIdx.x;

	for (int64_t k = threadIdx.x; k < cols; k += THREADS)
		if (!(fabsf(w.p[row * w.ld + k]) <= FLT_MAX)) {
			w.p[row * w.ld + k] = 0;
			atomicAdd(&found[0], 1ull);
			atomicMax(&found[1], 1ull + (unsigned long long)(rows * cols - (row * cols + k)));
		}
}

int bk_solve_nonfinite(const struct bk_solve *s, uint64_t *found, const struct bk_mat *w)
{
	finite_kernel<<<(unsigned)w->rows, THREADS, 0, bk_run_stream(s->run)>>>((unsigned long long *)found, view_of(w), w->rows, w->cols);
	return bk_launched();
}

static __global__ void diagonal_kernel(float *out, struct view h, int64_t k)
{
	const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < k)
		out[i] = h.p[i * h.ld + i];
}

int bk_solve_diagonal(const struct bk_solve *s, float *out, const struct bk_mat *h)
{
	if (h->rows != h->cols)
		return BK_RUN_REFUSED;
	diagonal_kernel<<<blocks_of(h->cols, THREADS), THREADS, 0, bk_run_stream(s->run)>>>(out, view_of(h), h->cols);
	return bk_launched();
}

/* ---- rows times the inverse ---- */

/* A panel's columns, a row per thread: x := x R⁻ᵀ (BACK, from the last column on) or x R⁻¹, R the panel's own triangle. */
template <bool BACK> static __global__ void panel_rows_kernel(struct view y, int64_t rows, struct view r, int64_t at, int n)
{
	__shared__ float t[PANEL][PANEL + 1];
	const int64_t row = (int64_t)blockIdx.x * ROWS + threadIdx.x;
	float x[PANEL];

	for (int e = (int)threadIdx.x; e < PANEL * PANEL; e += ROWS) {
		const int i = e / PANEL, j = e % PANEL;

		t[i][j] = i < n && j < n ? r.p[(at + i) * r.ld + at + j] : (i == j);
	}
	__syncthreads();
	if (row >= rows)
		return;
#pragma unroll
	for (int j = 0; j < PANEL; j++)
		x[j] = j < n ? y.p[row * y.ld + at + j] : 0;
#pragma unroll
	for (int q = 0; q < PANEL; q++) {
		const int j = BACK ? PANEL - 1 - q : q;

		x[j] /= t[j][j];
#pragma unroll
		for (int i = 0; i < PANEL; i++)
			if (BACK ? i < j : i > j)
				x[i] -= x[j] * (BACK ? t[i][j] : t[j][i]);
	}
#pragma unroll
	for (int j = 0; j < PANEL; j++)
		if (j < n)
			y.p[row * y.ld + at + j] = x[j];
}

/* y Rᵀ⁻¹, from the last panel to the first */
static int from_the_right(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *r)
{
	const int64_t k = r->cols, rows = y->rows, panels = (k + PANEL - 1) / PANEL;
	cudaStream_t stream = bk_run_stream(s->run);
	int error = 0;

	for (int64_t p = panels - 1; p >= 0 && !error; p--) {
		const int64_t at = p * PANEL, n = k - at < PANEL ? k - at : PANEL, rest = k - at - n;
		const struct bk_mat here = part(y, 0, at, rows, n), done = part(y, 0, at + n, rows, rest), right = part(r, at, at + n, n, rest);

		if (rest > 0)
			error = s->ops->gemm(s->run, &here, &done, 0, &right, 1, -1, 1, NULL);
		if (!error) {
			panel_rows_kernel<true><<<blocks_of(rows, ROWS), ROWS, 0, stream>>>(view_of(y), rows, view_of(r), at, (int)n);
			error = bk_launched();
		}
	}
	return error;
}

/* Then R⁻¹, from the first to the last. */
int bk_solve_solve_rows(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *r)
{
	const int64_t k = r->cols, rows = y->rows, panels = (k + PANEL - 1) / PANEL;
	cudaStream_t stream = bk_run_stream(s->run);
	int error;

	if (r->rows != k || y->cols != k)
		return BK_RUN_REFUSED;
	error = from_the_right(s, y, r);
	for (int64_t p = 0; p < panels && !error; p++) {
		const int64_t at = p * PANEL, n = k - at < PANEL ? k - at : PANEL;
		const struct bk_mat here = part(y, 0, at, rows, n), done = part(y, 0, 0, rows, at), above = part(r, 0, at, at, n);

		if (at > 0)
			error = s->ops->gemm(s->run, &here, &done, 0, &above, 0, -1, 1, NULL);
		if (!error) {
			panel_rows_kernel<false><<<blocks_of(rows, ROWS), ROWS, 0, stream>>>(view_of(y), rows, view_of(r), at, (int)n);
			error = bk_launched();
		}
	}
	return error;
}

template <int DTYPE> static __global__ void over_rms_kernel(void *dst, int64_t ldd, const void *x, int64_t ldx, const void *y, int64_t ldy, int64_t xn, int64_t yn)
{
	__shared__ double all[THREADS];
	const int64_t row = blockIdx.x;
	double sum = 0;

	for (int64_t k = threadIdx.x; k < yn; k += THREADS) {
		const double v = bk_load_any(y, row * ldy + k, DTYPE);

		sum += v * v;
	}
	all[threadIdx.x] = sum;
	__syncthreads();
	for (int half = THREADS / 2; half > 0; half /= 2) {
		if ((int)threadIdx.x < half)
			all[threadIdx.x] += all[threadIdx.x + half];
		__syncthreads();
	}
	const float by = all[0] > 0 ? (float)(1 / sqrt(all[0] / (double)yn)) : 1;

	for (int64_t k = threadIdx.x; k < xn; k += THREADS) {
		const float v = bk_load_any(x, row * ldx + k, DTYPE) * by;

		if (DTYPE == BK_F32)
			((float *)dst)[row * ldd + k] = v;
		else
			((uint16_t *)dst)[row * ldd + k] = bk_to_bf16(v);
	}
}

int bk_solve_over_rms(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *x, const struct bk_mat *y)
{
	cudaStream_t stream = bk_run_stream(s->run);

	if (dst->rows != x->rows || dst->cols != x->cols || y->rows != x->rows || y->cols < 1 || dst->dtype != x->dtype || y->dtype != x->dtype ||
	    (x->dtype != BK_BF16 && x->dtype != BK_F32))
		return BK_RUN_REFUSED;
	if (!x->rows)
		return 0;
	if (x->dtype == BK_BF16)
		over_rms_kernel<BK_BF16><<<(unsigned)x->rows, THREADS, 0, stream>>>(dst->p, dst->ld, x->p, x->ld, y->p, y->ld, x->cols, y->cols);
	else
		over_rms_kernel<BK_F32><<<(unsigned)x->rows, THREADS, 0, stream>>>(dst->p, dst->ld, x->p, x->ld, y->p, y->ld, x->cols, y->cols);
	return bk_launched();
}

static __global__ void add_scaled_kernel(struct view y, struct view x, int64_t cols, float a)
{
	const int64_t row = blockIdx.x;

	for (int64_t k = threadIdx.x; k < cols; k += THREADS)
		y.p[row * y.ld + k] += a * x.p[row * x.ld + k];
}

int bk_solve_add_scaled(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *x, float a)
{
	if (x->rows != y->rows || x->cols != y->cols)
		return BK_RUN_REFUSED;
	add_scaled_kernel<<<(unsigned)y->rows, THREADS, 0, bk_run_stream(s->run)>>>(view_of(y), view_of(x), y->cols, a);
	return bk_launched();
}

/* a group per warp */
static __global__ void absmax_kernel(float *out, struct view w, int64_t groups, int64_t spr, int64_t width)
{
	const int64_t id = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
	float top = 0;

	if (id >= groups)
		return;
	const float *x = w.p + id / spr * w.ld + id % spr * width;

	for (int64_t k = threadIdx.x % 32; k < width; k += 32)
		top = fmaxf(top, fabsf(x[k]));
	for (int o = 16; o > 0; o /= 2)
		top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
	if (threadIdx.x % 32 == 0)
		out[id] = top;
}

int bk_solve_absmax(const struct bk_solve *s, float *out, const struct bk_mat *w, int64_t width)
{
	if (width < 1 || w->cols % width)
		return BK_RUN_REFUSED;
	const int64_t spr = w->cols / width, groups = w->rows * spr;

	absmax_kernel<<<blocks_of(groups, THREADS / 32), THREADS, 0, bk_run_stream(s->run)>>>(out, view_of(w), groups, spr, width);
	return bk_launched();
}

/* ---- what inputs have lost ---- */

static __global__ void difference_kernel(struct view dst, struct view g, struct view h, const int32_t *__restrict__ order, int64_t k)
{
	const int64_t row = blockIdx.x, p = order ? order[row] : row;

	for (int64_t j = threadIdx.x; j < k; j += THREADS) {
		const int64_t q = order ? order[j] : j;

		dst.p[row * dst.ld + j] = g.p[p * g.ld + q] - h.p[p * h.ld + q];
	}
}

int bk_solve_difference(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *g, const struct bk_mat *h, const int32_t *order)
{
	const int64_t k = g->cols;

	if (g->rows != k || h->rows != k || h->cols != k || dst->rows != k || dst->cols != k || (order && (dst->p == g->p || dst->p == h->p)))
		return BK_RUN_REFUSED;
	difference_kernel<<<(unsigned)k, THREADS, 0, bk_run_stream(s->run)>>>(view_of(dst), view_of(g), view_of(h), order, k);
	return bk_launched();
}

static __global__ void above_kernel(struct view c, int64_t k, float a)
{
	const int64_t row = blockIdx.x;

	for (int64_t j = threadIdx.x; j < k; j += THREADS)
		c.p[row * c.ld + j] = j > row ? a * c.p[row * c.ld + j] : 0;
}

int bk_solve_feed(const struct bk_solve *s, const struct bk_mat *c, const struct bk_mat *r, float a)
{
	const int64_t k = c->cols;
	int error;

	if (c->rows != k || r->rows != k || r->cols != k)
		return BK_RUN_REFUSED;
	error = from_the_right(s, c, r);
	if (error)
		return error;
	above_kernel<<<(unsigned)k, THREADS, 0, bk_run_stream(s->run)>>>(view_of(c), k, a);
	return bk_launched();
}
