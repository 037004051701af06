/* SPDX-License-Identifier: Apache-2.0
 * Inputs of linears rounded in groups of columns, and as the compressed-tensors library rounds them: a warp per group (or row). Products of codes in groups:
 * both sides become float32 in panels, and the library multiplies those. Quotients are those of the CPU, to the bit. */
#include "kernels/run/each8.cuh"

#define PANEL ((size_t)64 << 20) /* bytes of one side's float32 panel */

struct rounding { struct bk_mat to, x; float *scales; int kind; int64_t width, groups; float scale; };

static __device__ __forceinline__ float e4m3_up_to_448(float f) { return bk_e4m3_f32((uint8_t)bk_f32_e4m3(fminf(f, 448.0f))); }

/* A NaN among them gives what fmaxf gives: the others' largest. */
static __device__ __forceinline__ float group_absmax(const struct rounding &q, int64_t i, int64_t first, int lane)
{
	float m = 0;

	for (int64_t j = lane; j < q.width; j += 32)
		m = fmaxf(m, fabsf(bk_load_any(q.x.p, i * q.x.ld + first + j, q.x.dtype)));
	return bk_reduce<32, bk_max>(m, NULL);
}

static __device__ __forceinline__ float clamped(float v, float lo, float hi) { return v != v ? v : fminf(fmaxf(v, lo), hi); }

/* ---- codes, as servers make them ---- */

static __global__ void __launch_bounds__(256) group_codes(const struct rounding q)
{
	const int64_t unit = (int64_t)blockIdx.x * 8 + threadIdx.x / 32, i = unit / q.groups, first = unit % q.groups * q.width;
	const int lane = threadIdx.x & 31;
	float s, f = 0;

	if (i >= q.x.rows)
		return;
	s = group_absmax(q, i, first, lane);
	if (q.kind == BK_TOKEN_E4M3) {
		s = __fdiv_rn(fmaxf(s, 1e-10f), 448.0f);
	} else {
		s = e4m3_up_to_448(__fmul_rn(q.scale, __fdiv_rn(s, 6.0f)));
		f = s > 0 ? __fdiv_rn(q.scale, s) : 0;
	}
	for (int64_t j = lane; j < q.width; j += 32) {
		const float v = bk_load_any(q.x.p, i * q.x.ld + first + j, q.x.dtype);
		const float t = q.kind == BK_TOKEN_E4M3 ? clamped(__fdiv_rn(v, s), -448.0f, 448.0f) : clamped(__fmul_rn(v, f), -6.0f, 6.0f);
		const uint32_t c = t != t ? 0x7fu : bk_f32_e4m3(q.kind == BK_TOKEN_E4M3 ? t : bk_round_e2m1(t));

		((uint8_t *)q.to.p)[i * q.to.ld + first + j] = (uint8_t)c;
	}
	if (lane == 0)
		q.scales[unit] = q.kind == BK_TOKEN_E4M3 ? s : __fdiv_rn(s, q.scale);
}

/* ---- values, as the library makes them ---- */

template <int DTYPE> static __device__ __forceinline__ float library_scale(const struct rounding &q, float top)
{
	float s = q.scale;

	if (q.kind == BK_TOKEN_E2M1) {
		s = e4m3_up_to_448(__fmul_rn(s, bk_rounded<DTYPE>(__fdiv_rn(top, 6.0f))));
		return __fdiv_rn(s > 0 ? s : 0.125f, q.scale);
	}
	if (s > 0)
		return bk_rounded<DTYPE>(s);
	s = bk_rounded<DTYPE>(__fdiv_rn(top, q.kind == BK_TOKEN_INT8 ? 127.5f : 448.0f));
	return s != 0 ? s : DTYPE == BK_BF16 ? 0x1p-7f : 0x1p-23f;
}

template <int DTYPE> static __global__ void __launch_bounds__(256) group_values(const struct rounding q)
{
	const int64_t unit = (int64_t)blockIdx.x * 8 + threadIdx.x / 32, i = unit / q.groups, first = unit % q.groups * q.width;
	const int lane = threadIdx.x & 31;
	float s;

	if (i >= q.x.rows)
		return;
	s = library_scale<DTYPE>(q, group_absmax(q, i, first, lane));
	for (int64_t j = lane; j < q.width; j += 32) {
		const float v = bk_load_any(q.x.p, i * q.x.ld + first + j, DTYPE), t = __fdiv_rn(v, s);
		float y;

		if (q.kind == BK_TOKEN_INT8)
			y = rintf(clamped(bk_rounded<DTYPE>(t), -128.0f, 127.0f));
		else if (q.kind == BK_TOKEN_E4M3)
			y = t != t ? t : bk_e4m3_f32((uint8_t)bk_f32_e4m3(clamped(bk_rounded<DTYPE>(t), -448.0f, 448.0f)));
		else
			y = t != t ? t : bk_round_e2m1(clamped(t, -6.0f, 6.0f));
		bk_store_any(q.to.p, i * q.to.ld + first + j, DTYPE, __fmul_rn(y, s));
	}
}

static bool rounding_ok(const struct bk_mat *to, const struct bk_mat *x, const struct bk_rounding *how)
{
	return bk_mat_ok(to) && bk_mat_ok(x) && how && bk_same_shape(to, x) && bk_is_io(x->dtype) && how->kind >= BK_TOKEN_INT8 && how->kind <= BK_TOKEN_E2M1 &&
	       how->group >= 0 && !(how->group && x->cols % how->group) && how->scale >= 0 && isfinite(how->scale) &&
	       (how->kind == BK_TOKEN_E2M1 ? how->group && how->scale > 0 : !(how->group && how->scale > 0));
}

static struct rounding rounding_of(const struct bk_mat *to, float *scales, const struct bk_mat *x, const struct bk_rounding *how)
{
	const int64_t width = how->group ? how->group : x->cols;

	return (struct rounding){ *to, *x, scales, (int)how->kind, width, width ? x->cols / width : 0, how->scale };
}

int bk_run_quant_groups(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how)
{
	struct rounding q;

	if (!rounding_ok(codes, x, how) || !scales || codes->dtype != BK_F8 || how->kind == BK_TOKEN_INT8 || !how->group)
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	q = rounding_of(codes, scales, x, how);
	group_codes<<<bk_ceil(x->rows * q.groups, 8), 256, 0, r->stream>>>(q);
	return bk_launched();
}

int bk_run_round_inputs(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how)
{
	struct rounding q;

	if (!rounding_ok(y, x, how) || y->dtype != x->dtype)
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	q = rounding_of(y, NULL, x, how);
	if (x->dtype == BK_BF16)
		group_values<BK_BF16><<<bk_ceil(x->rows * q.groups, 8), 256, 0, r->stream>>>(q);
	else
		group_values<BK_F32><<<bk_ceil(x->rows * q.groups, 8), 256, 0, r->stream>>>(q);
	return bk_launched();
}

/* ---- products ---- */

struct spread { /* float32 of codes, each times its group's scale */
	struct bk_mat to, codes;
	const float *scales;
	int64_t group, groups;
	bool by8;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		float v[8];

		bk_load8<BK_F8>(v, bk_row(codes, i, 1), j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			if (j + e < cols)
				v[e] *= scales[i * groups + (j + e) / group];
		bk_store8<BK_F32>(bk_row_out(to, i, 4), j, cols, true, v);
	}
};

/* Rows first .. first+n of the codes into `to`, whose rows are padded to 4. */
static int spread_rows(struct bk_run *r, struct bk_mat *out, void *to, const struct bk_mat *codes, const float *scales, int64_t group, int64_t first, int64_t n)
{
	const int64_t k = codes->cols, groups = k / group;
	const struct bk_mat from = { (char *)codes->p + first * codes->ld, n, k, codes->ld, BK_F8 };

	*out = (struct bk_mat){ to, n, k, (k + 3) / 4 * 4, BK_F32 };
	return launch(r, spread{ *out, from, scales + first * groups, group, groups, bk_by8(&from) }, n, k);
}

static int64_t step_of(int64_t rows, int64_t row_bytes)
{
	int64_t fit = (int64_t)PANEL / row_bytes / 128 * 128;

	fit = fit < 128 ? 128 : fit;
	return rows < fit ? rows : fit;
}

int bk_run_gemm_groups(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, int64_t group,
		       const void *bias)
{
	int64_t n_step, t_step, kp;
	char *ws, *xs, *acc;
	void *s = NULL;
	int e;

	if (!bk_mat_ok(y) || !bk_mat_ok(x) || !bk_mat_ok(w) || !sx || !sw || x->dtype != BK_F8 || w->dtype != BK_F8 || !bk_is_io(y->dtype) || x->cols != w->cols ||
	    group < 1 || x->cols < 1 || x->cols % group || y->rows != x->rows || y->cols != w->rows)
		return BK_RUN_REFUSED;
	if (!y->rows || !y->cols)
		return 0;
	kp = (x->cols + 3) / 4 * 4;
	n_step = step_of(y->cols, kp * 4);
	t_step = step_of(y->rows, (kp > n_step ? kp : n_step) * 4);
	{
		const size_t w_bytes = ((size_t)(n_step * kp) * 4 + 255) / 256 * 256, x_bytes = ((size_t)(t_step * kp) * 4 + 255) / 256 * 256;

		e = bk_run_scratch(r, &s, w_bytes + x_bytes + (size_t)(t_step * ((n_step + 3) / 4 * 4)) * 4);
		ws = (char *)s, xs = ws + w_bytes, acc = xs + x_bytes;
	}
	for (int64_t n0 = 0; n0 < y->cols && !e; n0 += n_step) {
		const int64_t n = y->cols - n0 < n_step ? y->cols - n0 : n_step;
		struct bk_mat wn;

		e = spread_rows(r, &wn, ws, w, sw, group, n0, n);
		for (int64_t t0 = 0; t0 < y->rows && !e; t0 += t_step) {
			const int64_t t = y->rows - t0 < t_step ? y->rows - t0 : t_step, size = (int64_t)bk_size(y->dtype);
			const struct bk_mat c = { acc, t, n, (n + 3) / 4 * 4, BK_F32 }, yt = { (char *)y->p + (t0 * y->ld + n0) * size, t, n, y->ld, y->dtype };
			struct bk_mat xt;

			e = spread_rows(r, &xt, xs, x, sx, group, t0, t);
			if (!e)
				e = bk_run_gemm(r, &c, &xt, 0, &wn, 1, 1, 0, NULL);
			if (!e && bias)
				e = bk_add_bias(r, &c, (const char *)bias + n0 * size, y->dtype);
			if (!e)
				e = bk_run_convert(r, &yt, &c);
		}
	}
	return e;
}
