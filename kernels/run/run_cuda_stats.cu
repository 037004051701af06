/* SPDX-License-Identifier: Apache-2.0
 * Sums over inputs: ranges and histograms per channel and token, distances, products. Every sum has one order: pieces are cut by shape and device, partial
 * sums meet in a second launch; what is counted in integers or maxima may meet in any order. */
#include "kernels/run/run_cuda.cuh"

/* ---- input_stats ---- */

#define WARPS   4   /* of a block, each with rows of its own */
#define COLS    256 /* of a block: 32 lanes of 8 */
#define RUN     16  /* rows whose sums stay in float32 */
#define AHEAD   4   /* rows loaded before the first is used */
/* Magnitudes of 2^-24 .. 2^8 have a byte per bin, lane and warp, in words of the lane's own bank, so that no two threads meet at a counter; the others,
 * which are rare, go to the block's histogram at once. A byte holds what one run can bring. */
#define NEAR_LO ((127 - 24) << 3)
#define NEAR_N  256

struct stats {
	struct bk_mat x;
	int64_t chunk;              /* rows of a block */
	float *absmax;              /* [chunks, K] */
	double *sum, *sum2;         /* [chunks, K] */
	uint32_t *row_max;          /* [rows], bits of a float, zeroed */
	unsigned long long *bins, *nonfinite;
	bool by8;
};

static __device__ __forceinline__ uint32_t bin_of(float a) { return bk_to_bf16(a) >> 4 & (BK_INPUT_BINS - 1); }

/* of the 32 lanes */
static __device__ __forceinline__ uint32_t most_of_warp(float v)
{
#if __CUDA_ARCH__ >= 800
	return __reduce_max_sync(0xffffffffu, bk_f32_bits(v)); /* not negative: bits sort as values do */
#else
#pragma unroll
	for (int d = 16; d; d >>= 1)
		v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
	return bk_f32_bits(v);
#endif
}

/* What one lane keeps of its 8 columns. */
struct lane { float most[8], f1[8], f2[8]; double d1[8], d2[8]; unsigned bad; };

/* One row's 8 values; n of them exist. Returns the largest magnitude. */
template <int DTYPE, bool FULL>
static __device__ __forceinline__ float take_row(struct lane &l, const float (&v)[8], int n, uint8_t *near, uint32_t *bins)
{
	float row = 0;

#pragma unroll
	for (int e = 0; e < 8; e++) {
		float x = v[e], a = fabsf(x);
		const uint32_t bin = DTYPE == BK_BF16 ? bk_f32_bits(a) >> 20 : bin_of(a), k = bin - NEAR_LO;

		if (!FULL && e >= n)
			continue;
		if (k < NEAR_N) {
			near[(k >> 2) * 128 + (k & 3)]++;
		} else if (a < INFINITY) {
			atomicAdd(&bins[bin], 1u);
		} else {
			l.bad++;
			x = a = 0;
		}
		l.f1[e] += x;
		l.f2[e] = fmaf(x, x, l.f2[e]);
		l.most[e] = fmaxf(l.most[e], a);
		row = fmaxf(row, a);
	}
	return row;
}

/* The warp's bytes go to the block's histogram and become zeros: a lane adds up 4 bins at a time over all lanes, as two pairs of 16 bits. */
static __device__ __forceinline__ void pour(uint32_t *words, uint32_t *bins, int lane)
{
	__syncwarp();
#pragma unroll
	for (int half = 0; half < NEAR_N / 4 / 32; half++) {
		const int row = half * 32 + lane;
		uint32_t even = 0, odd = 0;

		for (int c = 0; c < 32; c++) { /* each lane begins in a bank of its own */
			const uint32_t w = words[row * 32 + ((c + lane) & 31)];

			even += w & 0x00ff00ffu;
			odd += w >> 8 & 0x00ff00ffu;
		}
		if (even & 0xffff)
			atomicAdd(&bins[NEAR_LO + 4 * row], even & 0xffff);
		if (odd & 0xffff)
			atomicAdd(&bins[NEAR_LO + 4 * row + 1], odd & 0xffff);
		if (even >> 16)
			atomicAdd(&bins[NEAR_LO + 4 * row + 2], even >> 16);
		if (odd >> 16)
			atomicAdd(&bins[NEAR_LO + 4 * row + 3], odd >> 16);
	}
	__syncwarp();
	for (int i = 0; i < NEAR_N / 4; i++)
		words[i * 32 + lane] = 0;
}

/* Rows first, first + WARPS, ... of the block's part, for one warp. */
template <int DTYPE, bool FULL>
static __device__ __forceinline__ void take_rows(struct lane &l, const struct stats &s, int64_t first, int64_t end, int64_t col, int n, uint32_t *words,
						 uint32_t *bins)
{
	const int lane = threadIdx.x & 31, size = (int)sizeof(typename bk_elem<DTYPE>::type);
	uint8_t *near = (uint8_t *)(words + lane);

	for (int64_t run = first; run < end; run += RUN * WARPS) {
#pragma unroll
		for (int e = 0; e < 8; e++)
			l.f1[e] = l.f2[e] = 0;
		for (int k = 0; k < RUN; k += AHEAD) {
			float v[AHEAD][8];

#pragma unroll
			for (int u = 0; u < AHEAD; u++) {
				const int64_t i = run + (int64_t)(k + u) * WARPS;

				if (i < end)
					bk_take8<DTYPE, FULL>(v[u], bk_row(s.x, i, size), col, s.x.cols, s.by8);
			}
#pragma unroll
			for (int u = 0; u < AHEAD; u++) {
				const int64_t i = run + (int64_t)(k + u) * WARPS;
				uint32_t top;

				if (i >= end)
					break;
				top = most_of_warp(take_row<DTYPE, FULL>(l, v[u], n, near, bins));
				if (lane == 0)
					atomicMax(&s.row_max[i], top);
			}
		}
		pour(words, bins, lane);
#pragma unroll
		for (int e = 0; e < 8; e++)
			l.d1[e] += l.f1[e], l.d2[e] += l.f2[e];
	}
}

template <int DTYPE> static __global__ void __launch_bounds__(32 * WARPS, 4) stats_chunks(const struct stats s)
{
	__shared__ uint32_t bins[BK_INPUT_BINS];
	__shared__ __align__(16) uint32_t near[WARPS][NEAR_N / 4 * 32];
	const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	const int64_t cols = s.x.cols, col0 = (int64_t)blockIdx.x * COLS, col = col0 + lane * 8, first = (int64_t)blockIdx.y * s.chunk;
	const int64_t end = first + s.chunk < s.x.rows ? first + s.chunk : s.x.rows;
	const int n = col + 8 <= cols ? 8 : col < cols ? (int)(cols - col) : 0;
	struct lane l = {};

	for (int i = threadIdx.x; i < BK_INPUT_BINS; i += blockDim.x)
		bins[i] = 0;
	for (int i = 0; i < NEAR_N / 4; i++)
		near[warp][i * 32 + lane] = 0;
	__syncthreads();
	if (s.by8 && col0 + COLS <= cols)
		take_rows<DTYPE, true>(l, s, first + warp, end, col, n, near[warp], bins);
	else
		take_rows<DTYPE, false>(l, s, first + warp, end, col, n, near[warp], bins);
	if (l.bad)
		atomicAdd(s.nonfinite, (unsigned long long)l.bad);
	__syncthreads();
	for (int i = threadIdx.x; i < BK_INPUT_BINS; i += blockDim.x)
		if (bins[i])
			atomicAdd(&s.bins[i], (unsigned long long)bins[i]);
	/* the warps' columns, added in the order of the warps */
	double *sh1 = (double *)near, *sh2 = sh1 + COLS;
	float *sh3 = (float *)(sh2 + COLS);

	for (int w = 0; w < WARPS; w++) {
		__syncthreads();
		if (w == warp)
#pragma unroll
			for (int e = 0; e < 8; e++) {
				const int c = lane * 8 + e;

				sh1[c] = w ? sh1[c] + l.d1[e] : l.d1[e];
				sh2[c] = w ? sh2[c] + l.d2[e] : l.d2[e];
				sh3[c] = w ? fmaxf(sh3[c], l.most[e]) : l.most[e];
			}
	}
	__syncthreads();
	for (int c = threadIdx.x; c < COLS; c += blockDim.x) {
		const int64_t j = col0 + c, at = blockIdx.y * cols + j;

		if (j < cols)
			s.sum[at] = sh1[c], s.sum2[at] = sh2[c], s.absmax[at] = sh3[c];
	}
}

#define PARTS 8 /* of the chunks of a column, each added up by a thread, then in order */

static __global__ void __launch_bounds__(32 * PARTS) stats_columns(struct bk_input_acc acc, const struct stats s, int64_t chunks)
{
	__shared__ double sh1[PARTS][32], sh2[PARTS][32];
	__shared__ float sh3[PARTS][32];
	const int64_t j = (int64_t)blockIdx.x * 32 + threadIdx.x, cols = s.x.cols;
	double a = 0, b = 0;
	float m = 0;

	if (j < cols) {
#pragma unroll 4
		for (int64_t c = threadIdx.y; c < chunks; c += PARTS) {
			a += s.sum[c * cols + j];
			b += s.sum2[c * cols + j];
			m = fmaxf(m, s.absmax[c * cols + j]);
		}
	}
	sh1[threadIdx.y][threadIdx.x] = a;
	sh2[threadIdx.y][threadIdx.x] = b;
	sh3[threadIdx.y][threadIdx.x] = m;
	__syncthreads();
	if (threadIdx.y || j >= cols)
		return;
	for (int p = 1; p < PARTS; p++) {
		a += sh1[p][threadIdx.x];
		b += sh2[p][threadIdx.x];
		m = fmaxf(m, sh3[p][threadIdx.x]);
	}
	acc.sum[j] += a;
	acc.sum2[j] += b;
	acc.absmax[j] = fmaxf(acc.absmax[j], m);
}

static __global__ void __launch_bounds__(256) stats_tokens(unsigned long long *token_bins, const uint32_t *row_max, int64_t rows)
{
	__shared__ uint32_t bins[BK_INPUT_BINS];

	for (int i = threadIdx.x; i < BK_INPUT_BINS; i += blockDim.x)
		bins[i] = 0;
	__syncthreads();
	for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < rows; i += (int64_t)gridDim.x * blockDim.x)
		atomicAdd(&bins[bin_of(bk_bits_f32(row_max[i]))], 1u);
	__syncthreads();
	for (int i = threadIdx.x; i < BK_INPUT_BINS; i += blockDim.x)
		if (bins[i])
			atomicAdd(&token_bins[i], (unsigned long long)bins[i]);
}

static size_t up256(size_t n) { return (n + 255) / 256 * 256; }

int bk_run_input_stats(struct bk_run *r, const struct bk_input_acc *acc, const struct bk_mat *x)
{
	int64_t chunks, col_blocks;
	struct stats s;
	char *p;
	void *scratch;
	int e;

	if (!bk_mat_ok(x) || !bk_is_io(x->dtype) || !acc || !acc->absmax || !acc->sum || !acc->sum2 || !acc->bins || !acc->token_bins || !acc->nonfinite)
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	col_blocks = bk_ceil(x->cols, COLS);
	chunks = (8 * (int64_t)r->n_sm + col_blocks - 1) / col_blocks;
	s.chunk = (x->rows + chunks - 1) / chunks;
	s.chunk = (s.chunk + WARPS - 1) / WARPS * WARPS;
	chunks = (x->rows + s.chunk - 1) / s.chunk;
	e = bk_run_scratch(r, &scratch, up256((size_t)(chunks * x->cols) * 8) * 2 + up256((size_t)(chunks * x->cols) * 4) + up256((size_t)x->rows * 4));
	if (e)
		return e;
	p = (char *)scratch;
	s.x = *x;
	s.sum = (double *)p, p += up256((size_t)(chunks * x->cols) * 8);
	s.sum2 = (double *)p, p += up256((size_t)(chunks * x->cols) * 8);
	s.absmax = (float *)p, p += up256((size_t)(chunks * x->cols) * 4);
	s.row_max = (uint32_t *)p;
	s.bins = (unsigned long long *)acc->bins;
	s.nonfinite = (unsigned long long *)acc->nonfinite;
	s.by8 = bk_by8(x);
	e = (int)cudaMemsetAsync(s.row_max, 0, (size_t)x->rows * 4, r->stream);
	if (e)
		return bk_launched();
	if (x->dtype == BK_BF16)
		stats_chunks<BK_BF16><<<dim3((unsigned)col_blocks, (unsigned)chunks), 32 * WARPS, 0, r->stream>>>(s);
	else
		stats_chunks<BK_F32><<<dim3((unsigned)col_blocks, (unsigned)chunks), 32 * WARPS, 0, r->stream>>>(s);
	stats_columns<<<bk_ceil(x->cols, 32), dim3(32, PARTS), 0, r->stream>>>(*acc, s, chunks);
	stats_tokens<<<x->rows < 32768 ? bk_ceil(x->rows, 1024) : 32, 256, 0, r->stream>>>((unsigned long long *)acc->token_bins, s.row_max, x->rows);
	return bk_launched();
}

/* ---- distances and products ---- */

struct pair { struct bk_mat a, b; bool by8; };

/* Two sums over all elements; DOT: sum of a b, and nothing. */
template <int DTYPE, bool DOT> static __global__ void __launch_bounds__(256) pair_sums(double *part, const struct pair p)
{
	__shared__ double sh[2][8];
	const int size = (int)sizeof(typename bk_elem<DTYPE>::type);
	const int64_t per_row = (p.a.cols + 7) / 8, n = p.a.rows * per_row, step = (int64_t)gridDim.x * blockDim.x;
	int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, i = at / per_row, j = at % per_row;
	const int64_t step_i = step / per_row, step_j = step % per_row;
	double s0 = 0, s1 = 0;

	for (; at < n; at += step) {
		float v[8], w[8];

		bk_load8<DTYPE>(v, bk_row(p.a, i, size), j * 8, p.a.cols, p.by8);
		bk_load8<DTYPE>(w, bk_row(p.b, i, size), j * 8, p.a.cols, p.by8);
#pragma unroll
		for (int e = 0; e < 8; e++) {
			const double x = v[e], y = w[e], d = x - y;

			if (DOT) {
				s0 = fma(x, y, s0);
			} else {
				s0 = fma(d, d, s0);
				s1 = fma(y, y, s1);
			}
		}
		i += step_i;
		j += step_j;
		if (j >= per_row)
			j -= per_row, i++;
	}
#pragma unroll
	for (int d = 16; d; d >>= 1) {
		s0 += __shfl_xor_sync(0xffffffffu, s0, d);
		s1 += __shfl_xor_sync(0xffffffffu, s1, d);
	}
	if ((threadIdx.x & 31) == 0)
		sh[0][threadIdx.x >> 5] = s0, sh[1][threadIdx.x >> 5] = s1;
	__syncthreads();
	if (threadIdx.x < 2) {
		double s = 0;

		for (int w = 0; w < 8; w++)
			s += sh[threadIdx.x][w];
		part[2 * blockIdx.x + threadIdx.x] = s;
	}
}

static __global__ void pair_finish(double *sums, const double *part, int n_blocks, int n_sums)
{
	const int lane = threadIdx.x & 31, which = threadIdx.x >> 5;
	double s = 0;

	for (int b = lane; b < n_blocks; b += 32)
		s += part[2 * b + which];
#pragma unroll
	for (int d = 16; d; d >>= 1)
		s += __shfl_xor_sync(0xffffffffu, s, d);
	if (lane == 0 && which < n_sums)
		sums[which] += s;
}

template <bool DOT> static int pair_launch(struct bk_run *r, double *sums, const struct bk_mat *a, const struct bk_mat *b)
{
	struct pair p;
	int64_t blocks;
	void *part;
	int e;

	if (!bk_mat_ok(a) || !bk_mat_ok(b) || !sums || !bk_same_shape(a, b) || a->dtype != b->dtype || !bk_is_io(a->dtype))
		return BK_RUN_REFUSED;
	if (!a->rows || !a->cols)
		return 0;
	blocks = (a->rows * ((a->cols + 7) / 8) + 1023) / 1024;
	blocks = blocks < 8 * r->n_sm ? blocks : 8 * r->n_sm;
	e = bk_run_scratch(r, &part, (size_t)blocks * 16);
	if (e)
		return e;
	p = (struct pair){ *a, *b, bk_by8(a) && bk_by8(b) };
	if (a->dtype == BK_BF16)
		pair_sums<BK_BF16, DOT><<<(unsigned)blocks, 256, 0, r->stream>>>((double *)part, p);
	else
		pair_sums<BK_F32, DOT><<<(unsigned)blocks, 256, 0, r->stream>>>((double *)part, p);
	pair_finish<<<1, 64, 0, r->stream>>>(sums, (const double *)part, (int)blocks, DOT ? 1 : 2);
	return bk_launched();
}

int bk_run_diff_sums(struct bk_run *r, double *sums, const struct bk_mat *a, const struct bk_mat *b) { return pair_launch<false>(r, sums, a, b); }
int bk_run_dot(struct bk_run *r, double *sum, const struct bk_mat *a, const struct bk_mat *b) { return pair_launch<true>(r, sum, a, b); }

/* ---- mirror ---- */

static __global__ void __launch_bounds__(256) mirror_tiles(const struct bk_mat h)
{
	__shared__ float tile[32][33];
	const int tx = threadIdx.x & 31, ty = threadIdx.x >> 5;
	const int64_t row0 = (int64_t)blockIdx.y * 32, col0 = (int64_t)blockIdx.x * 32;
	float *p = (float *)h.p;

	if (col0 > row0)
		return;
	for (int k = ty; k < 32; k += 8)
		if (row0 + k < h.rows && col0 + tx < h.cols)
			tile[k][tx] = p[(row0 + k) * h.ld + col0 + tx];
	__syncthreads();
	for (int k = ty; k < 32; k += 8) {
		const int64_t i = col0 + k, j = row0 + tx; /* the mirrored place of tile[tx][k] */

		if (i < h.rows && j < h.cols && j > i)
			p[i * h.ld + j] = tile[tx][k];
	}
}

int bk_run_mirror(struct bk_run *r, const struct bk_mat *h)
{
	if (!bk_mat_ok(h) || h->rows != h->cols || h->dtype != BK_F32)
		return BK_RUN_REFUSED;
	if (!h->rows)
		return 0;
	mirror_tiles<<<dim3(bk_ceil(h->cols, 32), bk_ceil(h->rows, 32)), 256, 0, r->stream>>>(*h);
	return bk_launched();
}
