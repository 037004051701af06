/* SPDX-License-Identifier: Apache-2.0
 * Products of any types, strides and shapes in float32, for what the library has no kernel for; and what stands around the products of codes: padding,
 * expanding, scaling. */
#include "kernels/run/run_cuda.cuh"

#define TILE 64
#define STEP 16

struct any { struct bk_mat c, a, b; int ta, tb; float alpha, beta; const void *bias; int bias_dtype; int64_t k; };

/* 64 x 64 of c per block of 256, 4 x 4 per thread. */
static __global__ void __launch_bounds__(256) gemm_any(const struct any g)
{
	__shared__ float sa[STEP][TILE + 1], sb[STEP][TILE + 1];
	const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
	const int64_t row0 = (int64_t)blockIdx.y * TILE, col0 = (int64_t)blockIdx.x * TILE;
	float sum[4][4] = {};

	for (int64_t k0 = 0; k0 < g.k; k0 += STEP) {
		for (int i = threadIdx.x; i < TILE * STEP; i += 256) {
			/* neighbours in a thread's index are neighbours in memory */
			const int ka = g.ta ? i / TILE : i % STEP, ra = g.ta ? i % TILE : i / STEP;
			const int kb = g.tb ? i % STEP : i / TILE, rb = g.tb ? i / STEP : i % TILE;
			const int64_t k1 = k0 + ka, k2 = k0 + kb, m = row0 + ra, n = col0 + rb;

			sa[ka][ra] = k1 < g.k && m < g.c.rows ? bk_load_any(g.a.p, g.ta ? k1 * g.a.ld + m : m * g.a.ld + k1, g.a.dtype) : 0;
			sb[kb][rb] = k2 < g.k && n < g.c.cols ? bk_load_any(g.b.p, g.tb ? n * g.b.ld + k2 : k2 * g.b.ld + n, g.b.dtype) : 0;
		}
		__syncthreads();
#pragma unroll
		for (int k = 0; k < STEP; k++) {
			float x[4], y[4];

#pragma unroll
			for (int i = 0; i < 4; i++)
				x[i] = sa[k][ty * 4 + i], y[i] = sb[k][tx * 4 + i];
#pragma unroll
			for (int i = 0; i < 4; i++)
#pragma unroll
				for (int j = 0; j < 4; j++)
					sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
		}
		__syncthreads();
	}
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++) {
			const int64_t m = row0 + ty * 4 + i, n = col0 + tx * 4 + j, at = m * g.c.ld + n;
			float v = g.alpha * sum[i][j];

			if (m >= g.c.rows || n >= g.c.cols)
				continue;
			if (g.beta != 0)
				v += g.beta * bk_load_any(g.c.p, at, g.c.dtype);
			if (g.bias)
				v += bk_load_any(g.bias, n, g.bias_dtype);
			bk_store_any(g.c.p, at, g.c.dtype, v);
		}
}

int bk_gemm_any(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta,
		const void *bias, int bias_dtype)
{
	/* rows in pieces: the second grid dimension ends at 65535 */
	for (int64_t at = 0; at < c->rows; at += 65535 * (int64_t)TILE) {
		const int64_t n = c->rows - at < 65535 * (int64_t)TILE ? c->rows - at : 65535 * (int64_t)TILE;
		struct any g = { *c, *a, *b, ta, tb, alpha, beta, bias, bias_dtype, ta ? a->rows : a->cols };

		g.c.p = (char *)c->p + at * c->ld * (int64_t)bk_size(c->dtype);
		g.c.rows = n;
		g.a.p = (char *)a->p + (ta ? at : at * a->ld) * (int64_t)bk_size(a->dtype);
		gemm_any<<<dim3(bk_ceil(c->cols, TILE), bk_ceil(n, TILE)), 256, 0, r->stream>>>(g);
	}
	return bk_launched();
}

/* ---- around codes ---- */

/* dst [rows, cols] without gaps, zeros beyond src; int8 stays, e4m3 becomes bf16. cols: a multiple of 16. */
static __global__ void pad_codes(void *dst, int64_t rows, int64_t cols, const struct bk_mat src, bool by8)
{
	const int64_t per_row = cols / 8, n = rows * per_row;

	for (int64_t at = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; at < n; at += (int64_t)gridDim.x * blockDim.x) {
		const int64_t i = at / per_row, j = at % per_row * 8, have = i < src.rows ? src.cols : 0;
		const void *row = bk_row(src, i < src.rows ? i : 0, 1);
		float v[8];

		if (src.dtype == BK_F8) {
			bk_load8<BK_F8>(v, row, j, have, by8);
			bk_store8<BK_BF16>(dst, i * cols + j, i * cols + cols, true, v);
		} else {
			uint2 w = make_uint2(0, 0);

			for (int k = 0; k < 8; k++)
				if (j + k < have)
					(k < 4 ? w.x : w.y) |= (uint32_t)((const uint8_t *)row)[j + k] << (8 * (k & 3));
			*(uint2 *)((uint8_t *)dst + i * cols + j) = w;
		}
	}
}

int bk_pad_codes(struct bk_run *r, void *dst, int64_t rows, int64_t cols, const struct bk_mat *src)
{
	const int64_t n = rows * (cols / 8);
	const unsigned blocks = bk_ceil(n, 256);

	pad_codes<<<blocks < 65535 ? blocks : 65535, 256, 0, r->stream>>>(dst, rows, cols, *src, bk_by8(src));
	return bk_launched();
}

template <int DTYPE, bool INTS>
static __global__ void __launch_bounds__(256) scale_codes(const struct bk_mat y, const void *acc, int64_t acc_ld, const float *sx, const float *sw,
							  const void *bias, bool by8)
{
	const int64_t j = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;

	if (j >= y.cols)
		return;
	for (int64_t i = blockIdx.y; i < y.rows; i += gridDim.y) {
		const int4 *from = (const int4 *)((const int32_t *)acc + i * acc_ld + j); /* rows of acc are padded to 16 */
		const int4 lo = from[0], hi = from[1];
		const int32_t w[8] = { lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w };
		float v[8];

#pragma unroll
		for (int k = 0; k < 8; k++) {
			const int64_t n = j + k < y.cols ? j + k : y.cols - 1;

			v[k] = (INTS ? (float)w[k] : __int_as_float(w[k])) * (sx[i] * sw[n]);
			if (bias)
				v[k] += bk_load_any(bias, n, DTYPE);
		}
		bk_store8<DTYPE>(bk_row_out(y, i, (int)sizeof(typename bk_elem<DTYPE>::type)), j, y.cols, by8, v);
	}
}

int bk_scale_codes(struct bk_run *r, const struct bk_mat *y, const void *acc, int64_t acc_ld, bool acc_int, const float *sx, const float *sw,
		   const void *bias)
{
	const dim3 grid(bk_ceil(y->cols, 2048), (unsigned)(y->rows < 65535 ? y->rows : 65535));
	const bool by8 = bk_by8(y);

	if (y->dtype == BK_BF16 && acc_int)
		scale_codes<BK_BF16, true><<<grid, 256, 0, r->stream>>>(*y, acc, acc_ld, sx, sw, bias, by8);
	else if (y->dtype == BK_BF16)
		scale_codes<BK_BF16, false><<<grid, 256, 0, r->stream>>>(*y, acc, acc_ld, sx, sw, bias, by8);
	else if (acc_int)
		scale_codes<BK_F32, true><<<grid, 256, 0, r->stream>>>(*y, acc, acc_ld, sx, sw, bias, by8);
	else
		scale_codes<BK_F32, false><<<grid, 256, 0, r->stream>>>(*y, acc, acc_ld, sx, sw, bias, by8);
	return bk_launched();
}

static __global__ void add_bias(const struct bk_mat c, const void *bias, int bias_dtype)
{
	const int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (j < c.cols)
		for (int64_t i = blockIdx.y; i < c.rows; i += gridDim.y)
			bk_store_any(c.p, i * c.ld + j, c.dtype, bk_load_any(c.p, i * c.ld + j, c.dtype) + bk_load_any(bias, j, bias_dtype));
}

int bk_add_bias(struct bk_run *r, const struct bk_mat *c, const void *bias, int bias_dtype)
{
	add_bias<<<dim3(bk_ceil(c->cols, 256), (unsigned)(c->rows < 65535 ? c->rows : 65535)), 256, 0, r->stream>>>(*c, bias, bias_dtype);
	return bk_launched();
}
