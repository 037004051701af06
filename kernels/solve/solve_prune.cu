/* SPDX-License-Identifier: Apache-2.0
 * Which weights become 0, on the GPU. A row per thread walks over a block of columns, 32 of them in registers, like the rounding; the threshold over all rows of a
 * block is the k-th smallest score by its bits, eight at a time, from counts alone, so that it does not depend on the order of threads. */
#include "kernels/solve/solve_cuda.cuh"

#define BLOCK BK_SOLVE_BLOCK
#define SUB   32 /* columns in registers */

struct rank { /* on the device: the bits found so far, and which of those that have them */
	unsigned long long k;
	unsigned int found;
	unsigned int count[256];
};

struct prune_args {
	int8_t *mask;
	int64_t ldm;
	struct view d, w, r;
	const float *t; /* [n_rows, BLOCK]: what the columns before leave */
	float *score;   /* [n_rows, BLOCK] */
	const struct rank *rank; /* NULL: nothing goes */
	int64_t n_rows, c0;
	int n, keep_n; /* columns of this block; n of n:m */
};

enum { SCORE = -1, TAKE = 0 }; /* else m of n:m */

/* SCORE: what each weight would cost if none before it in the block were pruned. TAKE: those up to the threshold go. m: the n smallest of every m go. */
template <int MODE> static __global__ void __launch_bounds__(ROWS) prune_kernel(struct prune_args a)
{
	__shared__ float t[BLOCK][ROWS], m[SUB][BLOCK];
	const int tid = (int)threadIdx.x;
	const int64_t row = (int64_t)blockIdx.x * ROWS + tid;
	const bool live = row < a.n_rows;

	for (int e = tid; e < ROWS * BLOCK; e += ROWS) {
		const int r = e / BLOCK, c = e % BLOCK;
		const int64_t at = (int64_t)blockIdx.x * ROWS + r;

		t[c][r] = at < a.n_rows && c < a.n ? a.t[at * BLOCK + c] : 0;
	}
	for (int j0 = 0; j0 < a.n; j0 += SUB) {
		float x[SUB], w[SUB], e[SUB];
		uint32_t gone = 0; /* a bit per column of the piece */

		__syncthreads();
		for (int i = tid; i < SUB * BLOCK; i += ROWS) {
			const int r = j0 + i / BLOCK, c = i % BLOCK;

			m[i / BLOCK][c] = r < a.n && c < a.n ? a.r.p[(a.c0 + r) * a.r.ld + a.c0 + c] : (r == c);
		}
		__syncthreads();
#pragma unroll
		for (int j = 0; j < SUB; j++) {
			x[j] = t[j0 + j][tid];
			w[j] = live && j0 + j < a.n ? a.w.p[row * a.w.ld + a.c0 + j0 + j] : 0;
		}
#pragma unroll
		for (int j = 0; j < SUB; j++) {
			const bool here = live && j0 + j < a.n;
			const float diagonal = m[j][j0 + j];

			if (MODE > 0 && j % (MODE > 0 ? MODE : 1) == 0) { /* the next MODE columns, as if none of them were pruned */
				constexpr int M = MODE > 0 ? MODE : 1;
				float y[M], s[M];

#pragma unroll
				for (int p = 0; p < M; p++)
					y[p] = x[j + p < SUB ? j + p : 0];
#pragma unroll
				for (int p = 0; p < M; p++) {
					const int q0 = j + p < SUB ? j + p : 0;
					const float f = y[p] / m[q0][j0 + q0], v = (w[q0] + f) * m[q0][j0 + q0];

					s[p] = v * v;
#pragma unroll
					for (int q = p + 1; q < M; q++)
						y[q] -= f * m[q0][j0 + (j + q < SUB ? j + q : 0)];
				}
#pragma unroll
				for (int p = 0; p < M; p++) {
					int before = 0;

#pragma unroll
					for (int q = 0; q < M; q++)
						before += s[q] < s[p] || (s[q] == s[p] && q < p);
					gone |= (uint32_t)(before < a.keep_n) << (j + p < SUB ? j + p : 0);
				}
			}
			e[j] = -x[j] / diagonal;
			if (MODE == SCORE && here) {
				const float v = (w[j] - e[j]) * diagonal;

				a.score[row * BLOCK + j0 + j] = v * v;
			}
			if (MODE == TAKE && here && a.rank)
				gone |= (uint32_t)(__float_as_uint(a.score[row * BLOCK + j0 + j]) <= a.rank->found) << j;
			if (gone >> j & 1)
				e[j] = w[j];
			if (!here)
				e[j] = 0;
			if (MODE != SCORE && here) {
				a.mask[row * a.ldm + a.c0 + j0 + j] = (int8_t)(gone >> j & 1);
				a.d.p[row * a.d.ld + a.c0 + j0 + j] = e[j];
			}
#pragma unroll
			for (int l = j + 1; l < SUB; l++)
				x[l] += e[j] * m[j][j0 + l];
		}
		for (int l = j0 + SUB; l < a.n; l++) {
			float sum = t[l][tid];

#pragma unroll
			for (int j = 0; j < SUB; j++)
				sum += e[j] * m[j][l];
			t[l][tid] = sum;
		}
	}
}

/* ---- the k-th smallest ---- */

static __global__ void rank_start(struct rank *k, unsigned long long wanted)
{
	k->count[threadIdx.x] = 0;
	if (threadIdx.x == 0) {
		k->k = wanted;
		k->found = 0;
	}
}

static __global__ void rank_count(struct rank *k, const float *v, int64_t rows, int n, int shift)
{
	__shared__ unsigned int mine[256];
	const unsigned int found = k->found;

	mine[threadIdx.x] = 0;
	__syncthreads();
	for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < rows * n; i += (int64_t)gridDim.x * 256) {
		const unsigned int u = __float_as_uint(v[i / n * BLOCK + i % n]);

		if (shift == 24 || u >> (shift + 8) == found >> (shift + 8))
			atomicAdd(&mine[u >> shift & 255], 1u);
	}
	__syncthreads();
	if (mine[threadIdx.x])
		atomicAdd(&k->count[threadIdx.x], mine[threadIdx.x]);
}

static __global__ void rank_step(struct rank *k, int shift)
{
	if (threadIdx.x == 0) {
		int digit = 0;

		while (digit < 255 && k->k > k->count[digit])
			k->k -= k->count[digit++];
		k->found |= (unsigned int)digit << shift;
	}
	__syncthreads();
	k->count[threadIdx.x] = 0;
}

static int usable(const struct bk_prune *how, int64_t cols)
{
	if (how->m)
		return (how->m == 2 || how->m == 4 || how->m == 8 || how->m == 16) && cols % how->m == 0 && how->n >= 0 && how->n <= how->m;
	return how->ratio >= 0 && how->ratio <= 1;
}

static int walk(const struct bk_solve *s, struct prune_args *a, const struct bk_prune *how, struct rank *rank)
{
	cudaStream_t stream = bk_run_stream(s->run);
	const unsigned blocks = blocks_of(a->n_rows, ROWS);
	const uint64_t k = how->m ? 0 : (uint64_t)(how->ratio * (double)(a->n_rows * a->n));

	switch (how->m) {
	case 2: prune_kernel<2><<<blocks, ROWS, 0, stream>>>(*a); return bk_launched();
	case 4: prune_kernel<4><<<blocks, ROWS, 0, stream>>>(*a); return bk_launched();
	case 8: prune_kernel<8><<<blocks, ROWS, 0, stream>>>(*a); return bk_launched();
	case 16: prune_kernel<16><<<blocks, ROWS, 0, stream>>>(*a); return bk_launched();
	default: break;
	}
	if (k) {
		const unsigned counters = blocks_of(a->n_rows * a->n, 256 * 16);

		prune_kernel<SCORE><<<blocks, ROWS, 0, stream>>>(*a);
		rank_start<<<1, 256, 0, stream>>>(rank, k);
		for (int shift = 24; shift >= 0; shift -= 8) {
			rank_count<<<counters < 1024 ? counters : 1024, 256, 0, stream>>>(rank, a->score, a->n_rows, a->n, shift);
			rank_step<<<1, 256, 0, stream>>>(rank, shift);
		}
	}
	a->rank = k ? rank : NULL;
	prune_kernel<TAKE><<<blocks, ROWS, 0, stream>>>(*a);
	return bk_launched();
}

int bk_solve_prune(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r, const struct bk_prune *how)
{
	const int64_t rows = w->rows, cols = w->cols;
	void *t = NULL, *score = NULL, *rank = NULL;
	int error;

	if (!usable(how, cols) || r->rows != cols || r->cols != cols || d->rows != rows || d->cols != cols || mask->rows != rows || mask->cols != cols)
		return BK_RUN_REFUSED;
	error = s->ops->alloc(s->run, &t, (size_t)(rows * BLOCK) * sizeof(float));
	if (!error)
		error = s->ops->alloc(s->run, &score, (size_t)(rows * BLOCK) * sizeof(float));
	if (!error)
		error = s->ops->alloc(s->run, &rank, sizeof(struct rank));
	if (!error)
		error = s->ops->zero(s->run, t, (size_t)(rows * BLOCK) * sizeof(float));
	for (int64_t c0 = 0; c0 < cols && !error; c0 += BLOCK) {
		const int64_t n = cols - c0 < BLOCK ? cols - c0 : BLOCK;
		const struct bk_mat mt = { t, rows, n, BLOCK, BK_F32 };
		struct prune_args a = { (int8_t *)mask->p, mask->ld, view_of(d), view_of(w), view_of(r), (const float *)t, (float *)score, NULL, rows, c0, (int)n, how->n };

		if (c0) {
			const struct bk_mat before = part(d, 0, 0, rows, c0), above = part(r, 0, c0, c0, n);

			error = s->ops->gemm(s->run, &mt, &before, 0, &above, 0, 1, 0, NULL);
		}
		if (!error)
			error = walk(s, &a, how, (struct rank *)rank);
	}
	s->ops->release(s->run, t);
	s->ops->release(s->run, score);
	s->ops->release(s->run, rank);
	return error;
}

/* ---- row by row, without an update ---- */

struct select_args {
	int8_t *mask;
	int64_t ldm;
	struct view w;
	const float *weight;
	int64_t cols;
	int n, m;
	unsigned long long k;
};

static __device__ __forceinline__ float score_of(const struct select_args &a, int64_t row, int64_t j) { return fabsf(a.w.p[row * a.w.ld + j]) * a.weight[j]; }

static __global__ void select_some_kernel(struct select_args a)
{
	const int64_t row = blockIdx.x;

	for (int64_t j = threadIdx.x; j < a.cols; j += THREADS) {
		const int64_t first = j / a.m * a.m;
		const float mine = score_of(a, row, j);
		int before = 0;

		for (int64_t i = first; i < first + a.m; i++) {
			const float s = score_of(a, row, i);

			before += s < mine || (s == mine && i < j);
		}
		a.mask[row * a.ldm + j] = before < a.n;
	}
}

/* The k smallest of a row, a thread block per row; of equals at the border the lower columns. */
static __global__ void select_share_kernel(struct select_args a)
{
	__shared__ unsigned int count[256], found;
	__shared__ unsigned long long left;
	const int64_t row = blockIdx.x;

	if (threadIdx.x == 0) {
		found = 0;
		left = a.k;
	}
	for (int shift = 24; shift >= 0; shift -= 8) {
		count[threadIdx.x] = 0;
		__syncthreads();
		for (int64_t j = threadIdx.x; j < a.cols; j += THREADS) {
			const unsigned int u = __float_as_uint(score_of(a, row, j));

			if (shift == 24 || u >> (shift + 8) == found >> (shift + 8))
				atomicAdd(&count[u >> shift & 255], 1u);
		}
		__syncthreads();
		if (threadIdx.x == 0) {
			int digit = 0;

			while (digit < 255 && left > count[digit])
				left -= count[digit++];
			found |= (unsigned int)digit << shift;
		}
		__syncthreads();
	}
	for (int64_t j = threadIdx.x; j < a.cols; j += THREADS)
		a.mask[row * a.ldm + j] = __float_as_uint(score_of(a, row, j)) < found;
	__syncthreads();
	if (threadIdx.x == 0) /* `left` of those at the border go too */
		for (int64_t j = 0; j < a.cols && left; j++)
			if (__float_as_uint(score_of(a, row, j)) == found) {
				a.mask[row * a.ldm + j] = 1;
				left--;
			}
}

int bk_solve_select(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *w, const float *weight, const struct bk_prune *how)
{
	struct select_args a = { (int8_t *)mask->p, mask->ld, view_of(w), weight, w->cols, how->n, how->m, (unsigned long long)(how->ratio * (double)w->cols) };
	cudaStream_t stream = bk_run_stream(s->run);

	static_assert(THREADS == 256, "a counter per thread");
	if (!usable(how, w->cols) || mask->rows != w->rows || mask->cols != w->cols || !weight)
		return BK_RUN_REFUSED;
	if (how->m)
		select_some_kernel<<<(unsigned)w->rows, THREADS, 0, stream>>>(a);
	else if (a.k)
		select_share_kernel<<<(unsigned)w->rows, THREADS, 0, stream>>>(a);
	else
		for (int64_t row = 0; row < w->rows; row++) {
			const int error = s->ops->zero(s->run, (int8_t *)mask->p + row * mask->ld, (size_t)w->cols);

			if (error)
				return error;
		}
	return bk_launched();
}
