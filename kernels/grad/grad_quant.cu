/* SPDX-License-Identifier: Apache-2.0
 * Fake quantization: values 8 at a time, gradients of scales with a warp per group. Quotients and sums are those of the CPU, to the bit, where they
 * decide about a code. */
#include "kernels/grad/grad_cuda.cuh"
#include "kernels/run/each8.cuh"

struct point {
	float s, z;
}; /* s 0: nothing there */

struct fake {
	struct bk_mat w_hat, codes, w, v, g; /* p NULL: not there */
	const float *scale;
	const int8_t *zero;
	float lo, hi;
	int fp8;
	int64_t width, spr;
	float *dv, *dscale;
	bool w8, v8, hat8, codes8, groups8; /* groups8: 8 elements of one vector have one scale */
};

static __device__ __forceinline__ struct point point_at(const struct fake &f, int64_t at)
{
	const float s = f.scale ? bk_bf16_f32(bk_to_bf16(f.scale[at])) : 0;
	struct point p = { isfinite(s) ? s : 0, f.zero ? (float)f.zero[at] : 0 };

	return p;
}

static __device__ __forceinline__ float clampf(float x, float lo, float hi) /* a NaN becomes lo */
{
	x = x > lo ? x : lo;
	return x < hi ? x : hi;
}

/* The code's value for x = w / s; *in: nothing was clamped */
static __device__ __forceinline__ float code_of(float x, float v, const struct point &p, const struct fake &f, bool &in)
{
	float whole, q;

	if (f.fp8) {
		in = x >= -448.0f && x <= 448.0f;
		return bk_e4m3_f32((uint8_t)bk_f32_e4m3(clampf(x, -448.0f, 448.0f)));
	}
	whole = rintf(clampf(__fadd_rn(x, v), f.lo - p.z - 1, f.hi - p.z + 1)) + p.z;
	q = clampf(whole, f.lo, f.hi);
	in = whole == q;
	return q;
}

static __device__ __forceinline__ void store_codes(const struct fake &f, const float (&q)[8], int64_t i, int64_t j, int64_t cols)
{
	uint8_t *to = (uint8_t *)f.codes.p + i * f.codes.ld + j;
	uint32_t w[2] = { 0, 0 };

#pragma unroll
	for (int e = 0; e < 8; e++) {
		const uint32_t c = f.fp8 ? (q[e] == 0 ? 0u : bk_f32_e4m3(q[e])) : (uint32_t)(uint8_t)(int8_t)(int)q[e];

		w[e / 4] |= c << (8 * (e & 3));
	}
	if (f.codes8 && j + 8 <= cols)
		*(uint2 *)to = make_uint2(w[0], w[1]);
	else
		for (int e = 0; e < 8 && j + e < cols; e++)
			to[e] = (uint8_t)(w[e / 4] >> (8 * (e & 3)));
}

/* CODES 0: from w; BK_I8, BK_F8: from codes that stay */
template <int W, int HAT, int CODES> struct fake_rows {
	struct fake f;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		float w[8], v[8] = {}, q[8], hat[8];
		struct point p = point_at(f, i * f.spr + j / f.width);

		if (CODES) {
			bk_load8<CODES ? CODES : BK_I8>(q, bk_row(f.codes, i, 1), j, cols, f.codes8);
		} else {
			bk_load8<W>(w, bk_row(f.w, i, size_of<W>::n), j, cols, f.w8);
			if (f.v.p)
				bk_load8<BK_F32>(v, bk_row(f.v, i, 4), j, cols, f.v8);
		}
#pragma unroll
		for (int e = 0; e < 8; e++) {
			bool in;

			if (!f.groups8 && e > 0 && j + e < cols)
				p = point_at(f, i * f.spr + (j + e) / f.width);
			if (!CODES)
				q[e] = p.s != 0 ? code_of(__fdiv_rn(w[e], p.s), v[e], p, f, in) : 0;
			hat[e] = p.s != 0 ? p.s * (q[e] - p.z) : 0;
		}
		if (!CODES && f.codes.p)
			store_codes(f, q, i, j, cols);
		if (f.w_hat.p)
			bk_store8<HAT>(bk_row_out(f.w_hat, i, size_of<HAT>::n), j, cols, f.hat8, hat);
	}
};

/* A warp per group. dscale may be NULL, dv too. */
template <int W, int G, int CODES> static __global__ void __launch_bounds__(256) fake_back(const struct fake f)
{
	const int64_t unit = (int64_t)blockIdx.x * 8 + threadIdx.x / 32, i = unit / f.spr, first = unit % f.spr * f.width;
	const int lane = threadIdx.x & 31;
	struct point p;
	float sum = 0;

	if (i >= f.g.rows)
		return;
	p = point_at(f, unit);
	for (int64_t k = first + lane; k < first + f.width; k += 32) {
		const float g = bk_load_any(f.g.p, i * f.g.ld + k, G);
		bool in = false;

		if (CODES) {
			sum = fmaf(g, bk_load_any(f.codes.p, i * f.codes.ld + k, CODES) - p.z, sum);
			continue;
		}
		if (p.s != 0) {
			const float x = __fdiv_rn(bk_load_any(f.w.p, i * f.w.ld + k, W), p.s);
			const float q = code_of(x, f.v.p ? ((const float *)f.v.p)[i * f.v.ld + k] : 0, p, f, in);

			sum = fmaf(g, q - p.z - (in ? x : 0), sum);
		}
		if (f.dv)
			f.dv[i * f.g.cols + k] = in ? p.s * g : 0;
	}
	sum = bk_reduce<32, bk_sum>(sum, NULL);
	if (lane == 0 && f.dscale)
		f.dscale[unit] += sum;
}

/* What all four check. w or codes give the shape. */
static bool contract(struct fake *f, const struct bk_mat *w_hat, const struct bk_mat *codes, const struct bk_mat *w, const float *v,
		     const struct bk_mat *g, const int8_t *zero, const struct bk_grid *grid)
{
	const struct bk_mat *of = w ? w : codes, none = { NULL, 0, 0, 0, 0 };

	if (!bk_mat_ok(of) || (grid->number != BK_INT && grid->number != BK_E4M3) || grid->group < 0)
		return false;
	if (grid->number == BK_INT ? grid->bits < 2 || grid->bits > 8 || (!grid->symmetric && !zero) : v || zero)
		return false;
	if ((w && !bk_is_io(w->dtype)) || (w_hat && (!bk_mat_ok(w_hat) || !bk_is_io(w_hat->dtype) || !bk_same_shape(w_hat, of))) ||
	    (g && (!bk_mat_ok(g) || !bk_is_io(g->dtype) || !bk_same_shape(g, of))) ||
	    (codes && (!bk_mat_ok(codes) || codes->dtype != (grid->number == BK_INT ? BK_I8 : BK_F8) || !bk_same_shape(codes, of))))
		return false;
	*f = (struct fake){ w_hat ? *w_hat : none, codes ? *codes : none, w ? *w : none,
			    v ? bk_mat{ (void *)v, of->rows, of->cols, of->cols, BK_F32 } : none, g ? *g : none };
	f->zero = zero;
	f->hi = (float)((1 << (grid->bits - 1)) - 1);
	f->lo = -f->hi - 1;
	f->fp8 = grid->number != BK_INT;
	f->width = grid->group ? grid->group : of->cols;
	if (f->width && of->cols % f->width)
		return false;
	f->spr = f->width ? of->cols / f->width : 0;
	f->w8 = w && bk_by8(w), f->v8 = v && bk_by8(&f->v), f->hat8 = w_hat && bk_by8(w_hat), f->codes8 = codes && bk_by8(codes);
	f->groups8 = f->width % 8 == 0 || f->spr == 1;
	return true;
}

template <int W> static int values(struct bk_run *r, const struct fake &f, int64_t rows, int64_t cols)
{
	if (f.w_hat.dtype == BK_F32)
		return launch(r, fake_rows<W, BK_F32, 0>{ f }, rows, cols);
	return launch(r, fake_rows<W, BK_BF16, 0>{ f }, rows, cols);
}

BK_GRAD_OP(fake_quant, const struct bk_mat *w_hat, const struct bk_mat *codes, const struct bk_fake *k)
{
	struct fake f;

	if (!k || !k->w || !k->scale || !contract(&f, w_hat, codes, k->w, k->v, NULL, k->zero, &k->grid))
		return BK_RUN_REFUSED;
	f.scale = k->scale;
	return k->w->dtype == BK_BF16 ? values<BK_BF16>(r, f, k->w->rows, k->w->cols) : values<BK_F32>(r, f, k->w->rows, k->w->cols);
}

BK_GRAD_OP(codes_value, const struct bk_mat *w_hat, const struct bk_mat *codes, const float *scale, const int8_t *zero, const struct bk_grid *grid)
{
	struct fake f;

	if (!w_hat || !codes || !scale || !grid || !contract(&f, w_hat, codes, NULL, NULL, NULL, zero, grid))
		return BK_RUN_REFUSED;
	f.scale = scale;
	if (f.fp8)
		return w_hat->dtype == BK_BF16 ? launch(r, fake_rows<BK_F32, BK_BF16, BK_F8>{ f }, codes->rows, codes->cols)
					       : launch(r, fake_rows<BK_F32, BK_F32, BK_F8>{ f }, codes->rows, codes->cols);
	return w_hat->dtype == BK_BF16 ? launch(r, fake_rows<BK_F32, BK_BF16, BK_I8>{ f }, codes->rows, codes->cols)
				       : launch(r, fake_rows<BK_F32, BK_F32, BK_I8>{ f }, codes->rows, codes->cols);
}

template <int W, int CODES> static int back(struct bk_run *r, const struct fake &f)
{
	const unsigned blocks = bk_ceil(f.g.rows * f.spr, 8);

	if (!f.g.rows || !f.g.cols)
		return 0;
	if (f.g.dtype == BK_BF16)
		fake_back<W, BK_BF16, CODES><<<blocks, 256, 0, r->stream>>>(f);
	else
		fake_back<W, BK_F32, CODES><<<blocks, 256, 0, r->stream>>>(f);
	return bk_launched();
}

BK_GRAD_OP(fake_quant_back, float *dv, float *dscale, const struct bk_mat *g, const struct bk_fake *k)
{
	struct fake f;

	if (!k || !k->w || !k->scale || !g || !contract(&f, NULL, NULL, k->w, k->v, g, k->zero, &k->grid))
		return BK_RUN_REFUSED;
	f.scale = k->scale;
	f.dv = dv;
	f.dscale = dscale;
	return k->w->dtype == BK_BF16 ? back<BK_BF16, 0>(r, f) : back<BK_F32, 0>(r, f);
}

BK_GRAD_OP(codes_back, float *dscale, const struct bk_mat *g, const struct bk_mat *codes, const int8_t *zero, const struct bk_grid *grid)
{
	struct fake f;

	if (!dscale || !g || !codes || !grid || !contract(&f, NULL, codes, NULL, NULL, g, zero, grid))
		return BK_RUN_REFUSED;
	f.dscale = dscale;
	return f.fp8 ? back<BK_F32, BK_F8>(r, f) : back<BK_F32, BK_I8>(r, f);
}

/* ---- tokens: a block per row, which is read twice ---- */

template <int DTYPE>
static __global__ void __launch_bounds__(128) token_rows(const struct bk_mat y, const struct bk_mat x, bool e4m3, float fixed, bool by8)
{
	__shared__ float sh[33];
	const int64_t i = blockIdx.x, cols = x.cols;
	const void *row = bk_row(x, i, size_of<DTYPE>::n);
	void *to = bk_row_out(y, i, size_of<DTYPE>::n);
	float top = 0, scale = fixed, factor = 0;

	if (!(fixed > 0)) {
		for (int64_t j = threadIdx.x * 8; j < cols; j += 128 * 8) {
			float v[8];

			bk_load8<DTYPE>(v, row, j, cols, by8);
#pragma unroll
			for (int e = 0; e < 8; e++)
				top = fmaxf(top, fabsf(v[e]));
		}
		top = bk_reduce<128, bk_max>(top, sh);
		scale = e4m3 ? fmaxf(__fdiv_rn(top, 448.0f), 1.0f / (448.0f * 512.0f)) : __fdiv_rn(top, 127.0f);
		factor = top > 0 ? __fdiv_rn(127.0f, top) : 0;
	}
	for (int64_t j = threadIdx.x * 8; j < cols; j += 128 * 8) {
		float v[8];

		bk_load8<DTYPE>(v, row, j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++) {
			if (e4m3)
				v[e] = bk_e4m3_f32((uint8_t)bk_f32_e4m3(fminf(fmaxf(__fdiv_rn(v[e], scale), -448.0f), 448.0f)));
			else
				v[e] = rintf(fminf(fmaxf(fixed > 0 ? __fdiv_rn(v[e], scale) : v[e] * factor, -128.0f), 127.0f));
			v[e] *= scale;
		}
		bk_store8<DTYPE>(to, j, cols, by8, v);
	}
}

BK_GRAD_OP(fake_tokens, const struct bk_mat *y, const struct bk_mat *x, enum bk_token_codes kind, float scale)
{
	const bool e4m3 = kind == BK_TOKEN_E4M3;

	if (!bk_mat_ok(y) || !bk_mat_ok(x) || !bk_alike(y, x) || !bk_is_io(x->dtype) || !(scale >= 0) || !isfinite(scale) ||
	    (kind != BK_TOKEN_INT8 && !e4m3))
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	if (x->dtype == BK_BF16)
		token_rows<BK_BF16><<<(unsigned)x->rows, 128, 0, r->stream>>>(*y, *x, e4m3, scale, bk_by8(x) && bk_by8(y));
	else
		token_rows<BK_F32><<<(unsigned)x->rows, 128, 0, r->stream>>>(*y, *x, e4m3, scale, bk_by8(x) && bk_by8(y));
	return bk_launched();
}
