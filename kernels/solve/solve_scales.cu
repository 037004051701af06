/* SPDX-License-Identifier: Apache-2.0
 * Scales on the GPU: those that lose least before anything is rounded, a group of columns per warp, or per thread block when it is wide; and the best ones for
 * given codes. */
#include <float.h>

#include "kernels/solve/solve_cuda.cuh"

struct search_args {
	float *scales;
	int8_t *zeros;
	struct view w;
	const float *weight;
	struct bk_grid g;
	float least, norm;
	int steps, full_range;
	int64_t n_rows, spr, width;
};

template <int LANES> static __device__ __forceinline__ float sum_over(float v, float *shared)
{
	for (int o = 16; o > 0; o /= 2)
		v += __shfl_xor_sync(0xffffffffu, v, o);
	if (LANES == 32)
		return v;
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		shared[threadIdx.x / 32] = v;
	__syncthreads();
	v = 0;
	for (int i = 0; i < LANES / 32; i++)
		v += shared[i];
	return v;
}

template <int LANES, bool MAX> static __device__ __forceinline__ float edge_over(float v, float *shared)
{
	for (int o = 16; o > 0; o /= 2) {
		const float u = __shfl_xor_sync(0xffffffffu, v, o);

		v = MAX ? fmaxf(v, u) : fminf(v, u);
	}
	if (LANES == 32)
		return v;
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		shared[threadIdx.x / 32] = v;
	__syncthreads();
	for (int i = 0; i < LANES / 32; i++)
		v = MAX ? fmaxf(v, shared[i]) : fminf(v, shared[i]);
	return v;
}

template <int LANES> static __device__ float group_loss(const struct search_args &a, const float *w, const float *weight, int lane, float scale, float zero, float *shared)
{
	const float lo = bk_grid_lo(&a.g), hi = bk_grid_hi(&a.g);
	float sum = 0;

	for (int64_t k = lane; k < a.width; k += LANES) {
		const float e = w[k] - bk_grid_round(w[k], scale, zero, a.g.number, lo, hi).value;

		sum += weight[k] * (a.norm == 2 ? e * e : powf(fabsf(e), a.norm));
	}
	return sum_over<LANES>(sum, shared);
}

template <int LANES> static __global__ void search_kernel(struct search_args a)
{
	__shared__ float shared[32];
	const int64_t group_id = LANES == 32 ? (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32 : (int64_t)blockIdx.x;
	const int lane = LANES == 32 ? (int)threadIdx.x % 32 : (int)threadIdx.x;
	const int64_t row = group_id / a.spr, group = group_id % a.spr;

	if (row >= a.n_rows)
		return;
	const float *w = a.w.p + row * a.w.ld + group * a.width, *weight = a.weight + group * a.width;
	const float qmin = bk_grid_lo(&a.g), qmax = bk_grid_hi(&a.g), levels = (float)(1 << a.g.bits) - 1;
	float lo = 0, hi = 0, best = FLT_MAX, best_scale = a.g.scale == BK_SCALE_BF16 ? 0x1p-7f : bk_scale_of(0, &a.g), best_zero = 0;

	for (int64_t k = lane; k < a.width; k += LANES) {
		lo = fminf(lo, w[k]);
		hi = fmaxf(hi, w[k]);
	}
	lo = edge_over<LANES, false>(lo, shared);
	hi = edge_over<LANES, true>(hi, shared);
	for (int i = 0; i <= a.steps && (lo < 0 || hi > 0); i++) {
		const float p = (float)(1 - (1 - (double)a.least) * i / a.steps), top = fmaxf(-lo, hi) * p;
		float scale = a.g.symmetric ? bk_scale_of(top, &a.g) : bk_round_bf16((hi - lo) * p / levels), zero = 0, e;

		if (!(scale > 0) || !(scale < FLT_MAX))
			continue;
		if (!a.g.symmetric)
			zero = bk_round_int(bk_clampf(qmin - lo * p / scale, qmin, qmax));
		e = group_loss<LANES>(a, w, weight, lane, scale, zero, shared);
		if (e < best) {
			best = e;
			best_scale = scale;
			best_zero = zero;
		}
		if (!a.full_range || !a.g.symmetric || a.g.number == BK_E4M3)
			continue;
		scale = a.g.number == BK_E2M1 ? bk_scale_of(1.5f * top, &a.g) : bk_round_bf16(top / -qmin) * (hi >= -lo ? -1.0f : 1.0f);
		if (!(fabsf(scale) > 0) || !(fabsf(scale) < FLT_MAX))
			continue;
		e = group_loss<LANES>(a, w, weight, lane, scale, 0, shared);
		if (e < best) {
			best = e;
			best_scale = scale;
			best_zero = 0;
		}
	}
	if (lane == 0) {
		a.scales[row * a.spr + group] = best_scale;
		if (a.zeros)
			a.zeros[row * a.spr + group] = (int8_t)best_zero;
	}
}

int bk_solve_scale_search(const struct bk_solve *s, float *scales, int8_t *zeros, const struct bk_mat *w, const float *weight, const struct bk_grid *g,
			const struct bk_search *how)
{
	const int64_t width = g->group ? g->group : w->cols;
	cudaStream_t stream = bk_run_stream(s->run);
	struct search_args a = { scales, zeros, view_of(w), weight, *g, (float)how->least, how->norm > 0 ? (float)how->norm : 2.0f, how->steps, how->full_range, w->rows, 0, width };

	if (width < 1 || w->cols % width || (!g->symmetric && !zeros) || how->steps < 1 || g->scale == BK_SCALE_GIVEN)
		return BK_RUN_REFUSED;
	a.spr = w->cols / width;
	if (width <= 512)
		search_kernel<32><<<blocks_of(w->rows * a.spr, THREADS / 32), THREADS, 0, stream>>>(a);
	else
		search_kernel<THREADS><<<(unsigned)(w->rows * a.spr), THREADS, 0, stream>>>(a);
	return bk_launched();
}

/* ---- for given codes ---- */

/* unit[n, k]: code - zero, what a scale multiplies */
static __global__ void unit_kernel(float *unit, const int8_t *codes, int64_t ldc, const int8_t *zeros, int64_t cols, int64_t spr, int64_t width, int number)
{
	const int64_t row = blockIdx.x;

	for (int64_t k = threadIdx.x; k < cols; k += THREADS)
		unit[row * cols + k] = bk_grid_value(codes[row * ldc + k], 1, zeros ? (float)zeros[row * spr + k / width] : 0, number);
}

/* out[(g * stride + e) * rows + row] = sum over group g of unit * c: a warp per row and group */
static __global__ void group_dots_kernel(double *out, const float *unit, const float *c, int64_t rows, int64_t cols, int64_t spr, int64_t width, int64_t e, int64_t stride)
{
	const int64_t id = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32, row = id / spr, g = id % spr;
	double sum = 0;

	if (row >= rows)
		return;
	for (int64_t k = g * width + threadIdx.x % 32; k < (g + 1) * width; k += 32)
		sum += (double)unit[row * cols + k] * c[row * cols + k];
	for (int o = 16; o > 0; o /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, o);
	if (threadIdx.x % 32 == 0)
		out[(g * stride + e) * rows + row] = sum;
}

struct refit_args {
	const double *m, *b; /* [n, n, rows], [n, rows] */
	double *f, *x;       /* work of the same shapes */
	float *scales;
	struct view d, w;
	const float *unit;
	int64_t rows, cols, n, width;
	int *taken;          /* [rows] */
	struct bk_grid g;
};

#define AT(p, i, j) p[((i) * a.n + (j)) * a.rows + row]
#define ROW(p, i)   p[(i) * a.rows + row]

static __device__ double partial_loss(const struct refit_args &a, int64_t row, bool fresh)
{
	double sum = 0;

	for (int64_t i = 0; i < a.n; i++) {
		const double si = fresh ? ROW(a.x, i) : a.scales[row * a.n + i];

		for (int64_t j = 0; j < a.n; j++)
			sum += si * AT(a.m, i, j) * (fresh ? ROW(a.x, j) : (double)a.scales[row * a.n + j]);
		sum -= 2 * si * ROW(a.b, i);
	}
	return sum;
}

static __global__ void refit_kernel(struct refit_args a)
{
	const int64_t row = (int64_t)blockIdx.x * ROWS + threadIdx.x;
	bool fine = row < a.rows;

	if (!fine)
		return;
	a.taken[row] = 0;
	for (int64_t j = 0; j < a.n && fine; j++) {
		double d = AT(a.m, j, j) * (1 + 1e-9) + 1e-300;

		for (int64_t k = 0; k < j; k++)
			d -= AT(a.f, j, k) * AT(a.f, j, k);
		fine = d > 0;
		d = sqrt(d);
		AT(a.f, j, j) = d;
		for (int64_t i = j + 1; i < a.n; i++) {
			double z = AT(a.m, i, j);

			for (int64_t k = 0; k < j; k++)
				z -= AT(a.f, i, k) * AT(a.f, j, k);
			AT(a.f, i, j) = z / d;
		}
	}
	if (!fine)
		return;
	for (int64_t i = 0; i < a.n; i++) {
		double z = ROW(a.b, i);

		for (int64_t k = 0; k < i; k++)
			z -= AT(a.f, i, k) * ROW(a.x, k);
		ROW(a.x, i) = z / AT(a.f, i, i);
	}
	for (int64_t i = a.n - 1; i >= 0; i--) {
		double z = ROW(a.x, i);

		for (int64_t k = i + 1; k < a.n; k++)
			z -= AT(a.f, k, i) * ROW(a.x, k);
		ROW(a.x, i) = z / AT(a.f, i, i);
	}
	for (int64_t i = 0; i < a.n; i++) {
		const float old = a.scales[row * a.n + i], now = bk_scale_near((float)ROW(a.x, i), &a.g);

		ROW(a.x, i) = fabsf(now) > 0 && fabsf(now) < FLT_MAX && (now > 0) == (old > 0) ? now : old;
	}
	if (!(partial_loss(a, row, true) < partial_loss(a, row, false)))
		return;
	for (int64_t i = 0; i < a.n; i++)
		a.scales[row * a.n + i] = (float)ROW(a.x, i);
	a.taken[row] = 1;
}

static __global__ void follow_kernel(struct refit_args a)
{
	const int64_t row = blockIdx.x;

	if (!a.taken[row])
		return;
	for (int64_t k = threadIdx.x; k < a.cols; k += THREADS)
		a.d.p[row * a.d.ld + k] = a.w.p[row * a.w.ld + k] - a.unit[row * a.cols + k] * a.scales[row * a.n + k / a.width];
}

static int refit_chunk(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
		       const int8_t *zeros, const struct bk_grid *g, void *const work[7])
{
	const int64_t rows = w->rows, cols = w->cols, width = g->group ? g->group : cols, spr = cols / width;
	cudaStream_t stream = bk_run_stream(s->run);
	const struct bk_mat unit = { work[0], rows, cols, cols, BK_F32 }, c = { work[1], rows, cols, cols, BK_F32 };
	struct refit_args a = { (const double *)work[2], (const double *)work[3], (double *)work[4], (double *)work[5], scales, view_of(d), view_of(w),
				(const float *)work[0], rows, cols, spr, width, (int *)work[6], *g };
	int error;

	unit_kernel<<<(unsigned)rows, THREADS, 0, stream>>>((float *)work[0], (const int8_t *)codes->p, codes->ld, zeros, cols, spr, width, g->number);
	error = s->ops->gemm(s->run, &c, w, 0, h, 0, 1, 0, NULL);
	if (!error)
		group_dots_kernel<<<blocks_of(rows * spr, THREADS / 32), THREADS, 0, stream>>>((double *)work[3], (const float *)work[0], (const float *)work[1], rows,
											      cols, spr, width, 0, 1);
	for (int64_t e = 0; e < spr && !error; e++) {
		const struct bk_mat ue = part(&unit, 0, e * width, rows, width), he = part(h, e * width, 0, width, cols);

		error = s->ops->gemm(s->run, &c, &ue, 0, &he, 0, 1, 0, NULL);
		if (!error)
			group_dots_kernel<<<blocks_of(rows * spr, THREADS / 32), THREADS, 0, stream>>>((double *)work[2], (const float *)work[0], (const float *)work[1],
												      rows, cols, spr, width, e, spr);
	}
	if (error)
		return error;
	refit_kernel<<<blocks_of(rows, ROWS), ROWS, 0, stream>>>(a);
	follow_kernel<<<(unsigned)rows, THREADS, 0, stream>>>(a);
	return bk_launched();
}

#define REFIT_BYTES (256u << 20) /* for the normal equations of the rows done at a time */

int bk_solve_refit(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
		 const int8_t *zeros, const struct bk_grid *g)
{
	const int64_t cols = w->cols, width = g->group ? g->group : cols, spr = width ? cols / width : 0;
	int64_t chunk = spr ? (int64_t)(REFIT_BYTES / (sizeof(double) * 2 * (size_t)(spr * spr))) : 0;
	void *work[7] = { NULL };
	int error = 0;

	if (!spr || cols % width || h->rows != cols || h->cols != cols || chunk < 1 || g->scale == BK_SCALE_GIVEN)
		return BK_RUN_REFUSED;
	chunk = chunk > w->rows ? w->rows : chunk;
	const size_t bytes[7] = { (size_t)(chunk * cols) * 4, (size_t)(chunk * cols) * 4, (size_t)(chunk * spr * spr) * 8, (size_t)(chunk * spr) * 8,
				  (size_t)(chunk * spr * spr) * 8, (size_t)(chunk * spr) * 8, (size_t)chunk * sizeof(int) };

	for (int i = 0; i < 7 && !error; i++)
		error = s->ops->alloc(s->run, &work[i], bytes[i]);
	for (int64_t row = 0; row < w->rows && !error; row += chunk) {
		const int64_t n = w->rows - row < chunk ? w->rows - row : chunk;
		const struct bk_mat dn = part(d, row, 0, n, cols), wn = part(w, row, 0, n, cols), cn = { (int8_t *)codes->p + row * codes->ld, n, cols, codes->ld, codes->dtype };

		error = refit_chunk(s, scales + row * spr, &dn, &cn, &wn, h, zeros ? zeros + row * spr : NULL, g, work);
	}
	for (int i = 0; i < 7; i++)
		s->ops->release(s->run, work[i]);
	return error;
}
