/* SPDX-License-Identifier: Apache-2.0
 * The solvers on the GPU. Large products go through the run's gemm (float32, no TF32); what is sequential over columns runs with a row per thread: 32 columns
 * in registers at a time, the rest of the block of 128 in shared memory. Cholesky is blocked by 64: a panel by one thread block, the rest a product. */
#include <float.h>

#include "kernels/solve/solve_cuda.cuh"

#define BLOCK   BK_SOLVE_BLOCK
#define COLUMNS 32 /* in registers; where two matrices are in shared memory, half of them */

/* ---- the matrix ---- */

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

static int permute_sym(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *h, const int32_t *order, double damp, double dead)
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
static int factor(const struct bk_solve *s, const struct bk_mat *h, int *failed)
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

static int permute_cols(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *src, const int32_t *order, int back)
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

/* ---- scales: a group of columns per warp, or per thread block when it is wide ---- */

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

static int scale_search(const struct bk_solve *s, float *scales, int8_t *zeros, const struct bk_mat *w, const float *weight, const struct bk_grid *g,
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

/* ---- sequential over columns: rounding with feedback, coordinate descent ---- */

enum mode { ROUND, DESCEND, FED };

struct walk_args {
	int8_t *codes;
	int64_t ldc;
	struct view d, w, m; /* m: R (ROUND, FED) or h (DESCEND); w: not DESCEND */
	const float *t;      /* [n_rows, BLOCK]: feedback of the columns before, times R (ROUND; FED: and S); gradient d h (DESCEND, ld ldt) */
	int64_t ldt;
	float *delta;        /* DESCEND: out [n_rows, BLOCK], what moved */
	const float *scales;
	const int8_t *zeros;
	const int32_t *group_of;
	struct bk_grid g;
	int64_t n_rows, spr, width, c0;
	int n;               /* columns of this block */
	const int8_t *mask;  /* ROUND: where it is not 0 the weight becomes 0; NULL: nowhere */
	int64_t ldm;
	struct view s, v;    /* FED: bk_feed's, or NULL */
	const float *first;
};

template <int MODE> static __global__ void __launch_bounds__(ROWS) walk_kernel(struct walk_args a)
{
	enum { SUB = MODE == FED ? COLUMNS / 2 : COLUMNS };
	__shared__ float t[BLOCK][ROWS], m[COLUMNS][BLOCK]; /* FED: S below R */
	const int tid = (int)threadIdx.x;
	const int64_t row = (int64_t)blockIdx.x * ROWS + tid;
	const bool live = row < a.n_rows;
	const float lo = bk_grid_lo(&a.g), hi = bk_grid_hi(&a.g);

	for (int e = tid; e < ROWS * BLOCK; e += ROWS) {
		const int r = e / BLOCK, c = e % BLOCK;
		const int64_t at = (int64_t)blockIdx.x * ROWS + r;

		t[c][r] = at < a.n_rows && c < a.n ? a.t[at * a.ldt + c] : 0;
	}
	for (int j0 = 0; j0 < a.n; j0 += SUB) {
		float x[SUB], e[SUB], v[SUB];

		__syncthreads();
		for (int i = tid; i < SUB * BLOCK; i += ROWS) {
			const int r = j0 + i / BLOCK, c = i % BLOCK;

			m[i / BLOCK][c] = r < a.n && c < a.n ? a.m.p[(a.c0 + r) * a.m.ld + a.c0 + c] : (r == c);
			if (MODE == FED)
				m[(SUB + i / BLOCK) % COLUMNS][c] = a.s.p && r < a.n && c < a.n ? a.s.p[(a.c0 + r) * a.s.ld + a.c0 + c] : 0;
		}
		__syncthreads();
#pragma unroll
		for (int j = 0; j < SUB; j++)
			x[j] = t[j0 + j][tid];
#pragma unroll
		for (int j = 0; j < SUB; j++) {
			const int64_t k = a.c0 + j0 + j;
			const float diagonal = m[j][j0 + j];

			e[j] = v[j] = 0;
			if (live && j0 + j < a.n) {
				const int64_t group = MODE == DESCEND ? k / a.width : a.group_of[k];
				const bool full = MODE == ROUND && a.g.number == BK_FULL;
				const float scale = full ? 1 : a.scales[row * a.spr + group], zero = a.zeros ? (float)a.zeros[row * a.spr + group] : 0;

				if (MODE != DESCEND) {
					const float w = a.w.p[row * a.w.ld + k];

					v[j] = MODE == FED && k == 0 && a.first ? a.first[row] : w + x[j] / diagonal;
					const struct bk_code q = MODE == ROUND && a.mask && a.mask[row * a.ldm + k] ? bk_grid_zero(zero, a.g.number)
														     : bk_grid_round(v[j], scale, zero, a.g.number, lo, hi);

					if (full)
						((uint16_t *)(void *)a.codes)[row * a.ldc + k] = (uint16_t)q.code;
					else
						a.codes[row * a.ldc + k] = (int8_t)q.code;
					a.d.p[row * a.d.ld + k] = e[j] = w - q.value;
					if (MODE == FED && a.v.p)
						a.v.p[row * a.v.ld + k] = v[j];
				} else {
					const int code = a.codes[row * a.ldc + k];
					const float now = bk_grid_value(code, scale, zero, a.g.number);
					const struct bk_code q = bk_grid_round(now + x[j] / diagonal, scale, zero, a.g.number, lo, hi);

					if (q.code != code) {
						const float step = q.value - now;

						a.codes[row * a.ldc + k] = (int8_t)q.code;
						a.d.p[row * a.d.ld + k] -= step;
						e[j] = -step;
					}
				}
			}
			if (MODE == DESCEND && live && j0 + j < a.n)
				a.delta[row * BLOCK + j0 + j] = -e[j];
#pragma unroll
			for (int l = j + 1; l < SUB; l++)
				x[l] += e[j] * m[j][j0 + l];
			if (MODE == FED) {
#pragma unroll
				for (int l = j + 1; l < SUB; l++)
					x[l] += v[j] * m[(SUB + j) % COLUMNS][j0 + l];
			}
		}
		for (int l = j0 + SUB; l < a.n; l++) {
			float sum = t[l][tid];

#pragma unroll
			for (int j = 0; j < SUB; j++)
				sum += e[j] * m[j][l];
			if (MODE == FED) {
#pragma unroll
				for (int j = 0; j < SUB; j++)
					sum += v[j] * m[(SUB + j) % COLUMNS][l];
			}
			t[l][tid] = sum;
		}
	}
}

/* What flows into n columns from c0 on: [d, v] of the columns before, times [R; S]. */
static int feedback(const struct bk_solve *s, void *work, const struct bk_mat *d, const struct bk_mat *r, const struct bk_feed *f, int64_t c0, int64_t n)
{
	const struct bk_mat t = { work, d->rows, n, BLOCK, BK_F32 };
	int error;

	if (!c0)
		return s->ops->zero(s->run, work, (size_t)(d->rows * BLOCK) * sizeof(float));
	const struct bk_mat before = part(d, 0, 0, d->rows, c0), above = part(r, 0, c0, c0, n);

	error = s->ops->gemm(s->run, &t, &before, 0, &above, 0, 1, 0, NULL);
	if (error || !f->s)
		return error;
	const struct bk_mat rounded = part(f->v, 0, 0, d->rows, c0), over = part(f->s, 0, c0, c0, n);

	return s->ops->gemm(s->run, &t, &rounded, 0, &over, 0, 1, 1, NULL);
}

static int round_any(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f,
		     const struct bk_mat *mask)
{
	const int64_t width = g->group ? g->group : w->cols, rows = w->rows, cols = w->cols;
	const struct view none = { NULL, 0 };
	void *work = NULL;
	int error;

	if (cols % width || (g->number == BK_FULL) != (codes->dtype == BK_BF16) || r->rows != cols || r->cols != cols || d->rows != rows || d->cols != cols || !group_of ||
	    !f->s != !f->v)
		return BK_RUN_REFUSED;
	if (f->s && (f->s->rows != cols || f->s->cols != cols || f->v->rows != rows || f->v->cols != cols))
		return BK_RUN_REFUSED;
	error = s->ops->alloc(s->run, &work, (size_t)(rows * BLOCK) * sizeof(float));
	for (int64_t c0 = 0; c0 < cols && !error; c0 += BLOCK) {
		const int64_t n = cols - c0 < BLOCK ? cols - c0 : BLOCK;
		struct walk_args a = { (int8_t *)codes->p, codes->ld, view_of(d), view_of(w), view_of(r), (const float *)work, BLOCK, NULL, scales,
				       g->number == BK_FULL ? NULL : zeros, group_of, *g, rows, cols / width, width, c0, (int)n,
				       mask ? (const int8_t *)mask->p : NULL, mask ? mask->ld : 0, f->s ? view_of(f->s) : none, f->s ? view_of(f->v) : none, f->first };

		error = feedback(s, work, d, r, f, c0, n);
		if (error)
			break;
		if (f->s || f->first)
			walk_kernel<FED><<<blocks_of(rows, ROWS), ROWS, 0, bk_run_stream(s->run)>>>(a);
		else
			walk_kernel<ROUND><<<blocks_of(rows, ROWS), ROWS, 0, bk_run_stream(s->run)>>>(a);
		error = bk_launched();
	}
	s->ops->release(s->run, work);
	return error;
}

static const struct bk_feed no_feed = { NULL, NULL, NULL };

static int round_fed(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f)
{
	return round_any(s, codes, d, w, r, scales, zeros, group_of, g, f, NULL);
}

static int round_masked(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
			const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_mat *mask)
{
	return round_any(s, codes, d, w, r, scales, zeros, group_of, g, &no_feed, mask);
}

static int round_all(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g)
{
	return round_any(s, codes, d, w, r, scales, zeros, group_of, g, &no_feed, NULL);
}

static int descend(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *h, const float *scales,
		   const int8_t *zeros, const struct bk_grid *g, int sweeps)
{
	const int64_t width = g->group ? g->group : d->cols, rows = d->rows, cols = d->cols;
	void *work = NULL, *delta = NULL;
	int error;

	if (cols % width || h->rows != cols || h->cols != cols)
		return BK_RUN_REFUSED;
	error = s->ops->alloc(s->run, &work, (size_t)(rows * cols) * sizeof(float));
	if (!error)
		error = s->ops->alloc(s->run, &delta, (size_t)(rows * BLOCK) * sizeof(float));
	const struct bk_mat grad = { work, rows, cols, cols, BK_F32 };

	if (!error)
		error = s->ops->gemm(s->run, &grad, d, 0, h, 0, 1, 0, NULL);
	for (int sweep = 0; sweep < sweeps && !error; sweep++)
		for (int64_t c0 = 0; c0 < cols && !error; c0 += BLOCK) {
			const int64_t n = cols - c0 < BLOCK ? cols - c0 : BLOCK;
			const struct bk_mat moved = { delta, rows, n, BLOCK, BK_F32 }, strip = part(h, c0, 0, n, cols);
			struct walk_args a = { (int8_t *)codes->p, codes->ld, view_of(d), view_of(d), view_of(h), (const float *)work + c0, cols, (float *)delta, scales,
					       zeros, NULL, *g, rows, cols / width, width, c0, (int)n, NULL, 0, { NULL, 0 }, { NULL, 0 }, NULL };

			walk_kernel<DESCEND><<<blocks_of(rows, ROWS), ROWS, 0, bk_run_stream(s->run)>>>(a);
			error = bk_launched();
			if (!error)
				error = s->ops->gemm(s->run, &grad, &moved, 0, &strip, 0, -1, 1, NULL);
		}
	s->ops->release(s->run, work);
	s->ops->release(s->run, delta);
	return error;
}

/* ---- scales for given codes ---- */

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

static int refit(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
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

/* ---- loss ---- */

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
	sizeof(struct bk_solve_ops), permute_sym, factor, permute_cols, scale_search, round_all, descend, refit, loss, bk_solve_diff, bk_solve_nonfinite, bk_solve_diagonal, bk_solve_solve_rows, bk_solve_over_rms, bk_solve_add_scaled,
	round_masked, bk_solve_prune, bk_solve_select, bk_solve_absmax,
	bk_solve_difference, bk_solve_feed, round_fed,
};

const struct bk_solve_ops *bk_solve_cuda(void) { return &ops; }
