/* SPDX-License-Identifier: Apache-2.0
 * Backward of norms. First a pass over rows (or heads of rows) for what needs a sum over one; then columns of a run of rows per block, where results
 * are elementwise and sums over rows come along. Those of the blocks are added in order at the end. */
#include "kernels/grad/grad_cuda.cuh"

#define CHUNKS 256 /* of rows, at most */

struct norm_back {
	struct bk_mat dx, x, dy;
	const void *weight;
	int weight_dtype;
	float one, eps; /* one: 1 when the weight is 1 + w */
	float2 *stats;  /* [rows] 1 / rms; what x is taken times */
	float *part;    /* [chunks, cols] or NULL */
	int64_t chunk;
	int add;
	bool by8, weight_by8;
};

static __device__ __forceinline__ void weight8(float (&w)[8], const struct norm_back &n, int64_t j)
{
	if (n.weight_dtype == BK_BF16)
		bk_load8<BK_BF16>(w, n.weight, j, n.x.cols, n.weight_by8);
	else if (n.weight_dtype == BK_F32)
		bk_load8<BK_F32>(w, n.weight, j, n.x.cols, n.weight_by8);
	else
		bk_load8<BK_F16>(w, n.weight, j, n.x.cols, n.weight_by8);
}

static __device__ __forceinline__ float2 stats_of(float squares, float products, float n, float eps)
{
	const float inverse = 1 / sqrtf(squares / n + eps);

	return make_float2(inverse, products / n * inverse * inverse);
}

/* THREADS 32: a warp per row, 4 rows per block; 128: a block per row */
template <int DTYPE, int THREADS> static __global__ void __launch_bounds__(128) norm_stats(const struct norm_back n)
{
	__shared__ float sh[33];
	const int t = threadIdx.x % THREADS, size = (int)sizeof(typename bk_elem<DTYPE>::type);
	const int64_t i = (int64_t)blockIdx.x * (128 / THREADS) + threadIdx.x / THREADS, cols = n.x.cols;
	float squares = 0, products = 0;

	if (i >= n.x.rows)
		return;
	for (int64_t j = t * 8; j < cols; j += THREADS * 8) {
		float x[8], dy[8], w[8];

		bk_load8<DTYPE>(x, bk_row(n.x, i, size), j, cols, n.by8);
		bk_load8<DTYPE>(dy, bk_row(n.dy, i, size), j, cols, n.by8);
		weight8(w, n, j);
#pragma unroll
		for (int e = 0; e < 8; e++) { /* beyond the row x is 0 */
			squares = fmaf(x[e], x[e], squares);
			products = fmaf(dy[e] * (n.one + w[e]), x[e], products);
		}
	}
	squares = bk_reduce<THREADS, bk_sum>(squares, sh);
	products = bk_reduce<THREADS, bk_sum>(products, sh);
	if (t == 0)
		n.stats[i] = stats_of(squares, products, (float)cols, n.eps);
}

/* 256 columns by 8 rows at a time */
template <int DTYPE> static __global__ void __launch_bounds__(256) norm_columns(const struct norm_back n)
{
	__shared__ float sh[8][256];
	const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, size = (int)sizeof(typename bk_elem<DTYPE>::type);
	const int64_t j = (int64_t)blockIdx.x * 256 + lane * 8, cols = n.x.cols, first = (int64_t)blockIdx.y * n.chunk;
	const int64_t last = first + n.chunk < n.x.rows ? first + n.chunk : n.x.rows;
	float acc[8] = {}, w[8];

	if (j < cols) {
		weight8(w, n, j);
		for (int64_t i = first + warp; i < last; i += 8) {
			const float2 s = n.stats[i];
			float x[8], dy[8], old[8];

			bk_load8<DTYPE>(x, bk_row(n.x, i, size), j, cols, n.by8);
			bk_load8<DTYPE>(dy, bk_row(n.dy, i, size), j, cols, n.by8);
			if (n.add)
				bk_load8<DTYPE>(old, bk_row(n.dx, i, size), j, cols, n.by8);
#pragma unroll
			for (int e = 0; e < 8; e++) {
				const float d = s.x * (dy[e] * (n.one + w[e]) - x[e] * s.y);

				acc[e] = fmaf(dy[e], x[e] * s.x, acc[e]);
				x[e] = n.add ? old[e] + d : d;
			}
			bk_store8<DTYPE>(bk_row_out(n.dx, i, size), j, cols, n.by8, x);
		}
	}
	if (!n.part)
		return;
#pragma unroll
	for (int e = 0; e < 8; e++)
		sh[warp][lane * 8 + e] = acc[e];
	__syncthreads();
	if ((int64_t)blockIdx.x * 256 + threadIdx.x < cols) {
		float s = 0;

#pragma unroll
		for (int k = 0; k < 8; k++)
			s += sh[k][threadIdx.x];
		n.part[(int64_t)blockIdx.y * cols + (int64_t)blockIdx.x * 256 + threadIdx.x] = s;
	}
}

static __global__ void add_parts(float *sum, const float *part, int64_t n, int64_t chunks)
{
	const int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
	double s = 0;

	if (j >= n)
		return;
	for (int64_t k = 0; k < chunks; k++)
		s += (double)part[k * n + j];
	sum[j] = (float)((double)sum[j] + s);
}

static int64_t chunk_of(int64_t rows)
{
	const int64_t least = (rows + CHUNKS - 1) / CHUNKS;

	return least < 64 ? 64 : least;
}

/* stats [units] and parts [chunks, cols] */
static int scratch_of(struct bk_run *r, int64_t units, int64_t cols, int64_t chunks, bool parts, float2 **stats, float **part)
{
	const size_t first = ((size_t)units * sizeof(float2) + 255) / 256 * 256;
	void *s;
	const int e = bk_run_scratch(r, &s, first + (parts ? (size_t)(chunks * cols) * sizeof(float) : 0));

	*stats = (float2 *)s;
	*part = parts && !e ? (float *)((char *)s + first) : NULL;
	return e;
}

template <int DTYPE> static void norm_launch(struct bk_run *r, const struct norm_back &n, int64_t chunks)
{
	if (n.x.cols <= 1024)
		norm_stats<DTYPE, 32><<<bk_ceil(n.x.rows, 4), 128, 0, r->stream>>>(n);
	else
		norm_stats<DTYPE, 128><<<(unsigned)n.x.rows, 128, 0, r->stream>>>(n);
	norm_columns<DTYPE><<<dim3(bk_ceil(n.x.cols, 256), (unsigned)chunks), 256, 0, r->stream>>>(n);
}

BK_GRAD_OP(rmsnorm_back, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, const struct bk_norm *n, const struct bk_mat *dy, int add)
{
	struct norm_back b;
	int64_t chunks;
	int e;

	if (!bk_mat_ok(dx) || !bk_mat_ok(x) || !bk_mat_ok(dy) || !bk_alike(dx, x) || !bk_alike(dx, dy) || !bk_is_io(x->dtype) || !n || !n->weight ||
	    !bk_is_float(n->dtype))
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	b = (struct norm_back){ *dx,
				*x,
				*dy,
				n->weight,
				(int)n->dtype,
				n->plus_one ? 1.0f : 0.0f,
				(float)n->eps,
				NULL,
				NULL,
				chunk_of(x->rows),
				add,
				bk_by8(dx) && bk_by8(x) && bk_by8(dy),
				(uintptr_t)n->weight % 16 == 0 };
	chunks = (x->rows + b.chunk - 1) / b.chunk;
	e = scratch_of(r, x->rows, x->cols, chunks, dweight != NULL, &b.stats, &b.part);
	if (e)
		return e;
	if (x->dtype == BK_BF16)
		norm_launch<BK_BF16>(r, b, chunks);
	else
		norm_launch<BK_F32>(r, b, chunks);
	if (dweight)
		add_parts<<<bk_ceil(x->cols, 128), 128, 0, r->stream>>>(dweight, b.part, x->cols, chunks);
	return bk_launched();
}

/* ---- heads: a unit is one head of one row, a thread has channels j and j + dim / 2 ---- */

struct head_back {
	struct bk_mat dx, x, dy;
	int heads, dim;
	const void *weight; /* NULL: no norm */
	int weight_dtype;
	float one, eps;
	const float *cos, *sin;
	const int32_t *position;
	float2 *stats;
	float *part; /* [chunks, dim] or NULL */
	int64_t chunk;
};

/* the gradient of the norm's result */
template <int DTYPE> static __device__ __forceinline__ void unturned(float &lo, float &hi, const struct head_back &h, int64_t i, int head, int j)
{
	const int half = h.dim / 2;
	const int64_t at = i * h.dy.ld + (int64_t)head * h.dim + j;

	lo = bk_load_any(h.dy.p, at, DTYPE);
	hi = bk_load_any(h.dy.p, at + half, DTYPE);
	if (h.cos) {
		const int64_t k = (int64_t)h.position[i] * half + j;
		const float c = bk_rounded<DTYPE>(h.cos[k]), s = bk_rounded<DTYPE>(h.sin[k]), a = lo, b = hi;

		lo = a * c + b * s;
		hi = b * c - a * s;
	}
}

template <int DTYPE> static __global__ void __launch_bounds__(128) head_stats(const struct head_back h)
{
	const int64_t unit = (int64_t)blockIdx.x * 4 + threadIdx.x / 32, i = unit / h.heads;
	const int lane = threadIdx.x & 31, half = h.dim / 2, head = (int)(unit % h.heads);
	float squares = 0, products = 0;

	if (i >= h.x.rows)
		return;
	for (int j = lane; j < half; j += 32) {
		const int64_t at = i * h.x.ld + (int64_t)head * h.dim + j;
		const float x0 = bk_load_any(h.x.p, at, DTYPE), x1 = bk_load_any(h.x.p, at + half, DTYPE);
		float lo, hi;

		unturned<DTYPE>(lo, hi, h, i, head, j);
		squares = fmaf(x0, x0, fmaf(x1, x1, squares));
		products = fmaf(lo * (h.one + bk_load_any(h.weight, j, h.weight_dtype)), x0, products);
		products = fmaf(hi * (h.one + bk_load_any(h.weight, j + half, h.weight_dtype)), x1, products);
	}
	squares = bk_reduce<32, bk_sum>(squares, NULL);
	products = bk_reduce<32, bk_sum>(products, NULL);
	if (lane == 0)
		h.stats[unit] = stats_of(squares, products, (float)h.dim, h.eps);
}

/* 32 pairs of channels by 8 units at a time */
template <int DTYPE> static __global__ void __launch_bounds__(256) head_columns(const struct head_back h)
{
	__shared__ float sh[2][8][32];
	const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, half = h.dim / 2, j = blockIdx.x * 32 + lane;
	const int64_t units = h.dx.rows * h.heads, first = (int64_t)blockIdx.y * h.chunk, last = first + h.chunk < units ? first + h.chunk : units;
	float acc0 = 0, acc1 = 0;

	if (j < half) {
		const float w0 = h.weight ? h.one + bk_load_any(h.weight, j, h.weight_dtype) : 1;
		const float w1 = h.weight ? h.one + bk_load_any(h.weight, j + half, h.weight_dtype) : 1;

		for (int64_t unit = first + warp; unit < last; unit += 8) {
			const int64_t i = unit / h.heads, to = i * h.dx.ld + unit % h.heads * h.dim + j;
			float lo, hi;

			unturned<DTYPE>(lo, hi, h, i, (int)(unit % h.heads), j);
			if (h.weight) {
				const int64_t at = i * h.x.ld + unit % h.heads * h.dim + j;
				const float2 s = h.stats[unit];
				const float x0 = bk_load_any(h.x.p, at, DTYPE), x1 = bk_load_any(h.x.p, at + half, DTYPE);

				acc0 = fmaf(lo, x0 * s.x, acc0);
				acc1 = fmaf(hi, x1 * s.x, acc1);
				lo = s.x * (lo * w0 - x0 * s.y);
				hi = s.x * (hi * w1 - x1 * s.y);
			}
			bk_store_any(h.dx.p, to, DTYPE, lo);
			bk_store_any(h.dx.p, to + half, DTYPE, hi);
		}
	}
	if (!h.part)
		return;
	sh[0][warp][lane] = acc0;
	sh[1][warp][lane] = acc1;
	__syncthreads();
	if (warp < 2 && j < half) {
		float s = 0;

#pragma unroll
		for (int k = 0; k < 8; k++)
			s += sh[warp][k][lane];
		h.part[(int64_t)blockIdx.y * h.dim + j + warp * half] = s;
	}
}

template <int DTYPE> static void head_launch(struct bk_run *r, const struct head_back &h, int64_t chunks)
{
	if (h.weight)
		head_stats<DTYPE><<<bk_ceil(h.x.rows * h.heads, 4), 128, 0, r->stream>>>(h);
	head_columns<DTYPE><<<dim3(bk_ceil(h.dim / 2, 32), (unsigned)chunks), 256, 0, r->stream>>>(h);
}

BK_GRAD_OP(head_norm_rope, const struct bk_mat *y, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
	   const struct bk_rope *rope)
{
	if (n || rope)
		return bk_run_head_norm_rope_to(r, y, x, heads, head_dim, n, rope);
	if (!bk_mat_ok(y) || !bk_mat_ok(x) || !bk_alike(y, x) || !bk_is_io(x->dtype) || heads < 1 || head_dim < 1 ||
	    x->cols != (int64_t)heads * head_dim)
		return BK_RUN_REFUSED;
	return bk_run_convert(r, y, x);
}

BK_GRAD_OP(head_norm_rope_back, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
	   const struct bk_rope *rope, const struct bk_mat *dy)
{
	struct head_back h;
	int64_t units, chunks;
	int e = 0;

	if (!bk_mat_ok(dx) || !bk_mat_ok(dy) || !bk_alike(dx, dy) || !bk_is_io(dx->dtype) || heads < 1 || head_dim < 2 || head_dim % 2 ||
	    head_dim > 4096 || dx->cols != (int64_t)heads * head_dim || (rope && (!rope->cos || !rope->sin || !rope->position)) ||
	    (n && (!n->weight || !bk_is_float(n->dtype) || !bk_mat_ok(x) || !bk_alike(x, dx))))
		return BK_RUN_REFUSED;
	if (!dx->rows)
		return 0;
	units = dx->rows * heads;
	h = (struct head_back){ *dx,
				n ? *x : *dx,
				*dy,
				heads,
				head_dim,
				n ? n->weight : NULL,
				n ? (int)n->dtype : 0,
				n && n->plus_one ? 1.0f : 0.0f,
				n ? (float)n->eps : 0,
				rope ? rope->cos : NULL,
				rope ? rope->sin : NULL,
				rope ? rope->position : NULL,
				NULL,
				NULL,
				chunk_of(units) };
	chunks = (units + h.chunk - 1) / h.chunk;
	if (n)
		e = scratch_of(r, units, head_dim, chunks, dweight != NULL, &h.stats, &h.part);
	if (e)
		return e;
	if (dx->dtype == BK_BF16)
		head_launch<BK_BF16>(r, h, chunks);
	else
		head_launch<BK_F32>(r, h, chunks);
	if (n && dweight)
		add_parts<<<bk_ceil(head_dim, 128), 128, 0, r->stream>>>(dweight, h.part, head_dim, chunks);
	return bk_launched();
}
