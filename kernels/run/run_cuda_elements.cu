/* SPDX-License-Identifier: Apache-2.0
 * Elementwise operations, 8 elements per thread. One kernel body: rows over the grid's second dimension, so that no index is divided. */
#include "kernels/run/each8.cuh"

/* ---- from one type to another, rows as they are or by index ---- */

template <int TO, int FROM> struct move_rows {
	struct bk_mat y, x;
	const int32_t *ids;
	float scale;
	bool to8, from8;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		const int64_t from = ids ? ids[i] : i;
		float v[8];

		bk_load8<FROM>(v, bk_row(x, from, size_of<FROM>::n), j, cols, from8);
		if (scale != 1) {
#pragma unroll
			for (int e = 0; e < 8; e++)
				v[e] *= scale;
		}
		bk_store8<TO>(bk_row_out(y, i, size_of<TO>::n), j, cols, to8, v);
	}
};

template <int TO> static int move_to(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const int32_t *ids, float scale)
{
	const bool to8 = bk_by8(y), from8 = bk_by8(x);

	switch (x->dtype) {
	case BK_BF16: return launch(r, move_rows<TO, BK_BF16>{ *y, *x, ids, scale, to8, from8 }, y->rows, y->cols);
	case BK_F16: return launch(r, move_rows<TO, BK_F16>{ *y, *x, ids, scale, to8, from8 }, y->rows, y->cols);
	case BK_F32: return launch(r, move_rows<TO, BK_F32>{ *y, *x, ids, scale, to8, from8 }, y->rows, y->cols);
	case BK_I8: return launch(r, move_rows<TO, BK_I8>{ *y, *x, ids, scale, to8, from8 }, y->rows, y->cols);
	default: return launch(r, move_rows<TO, BK_F8>{ *y, *x, ids, scale, to8, from8 }, y->rows, y->cols);
	}
}

static int move_any(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const int32_t *ids, float scale)
{
	if (y->dtype == BK_BF16)
		return move_to<BK_BF16>(r, y, x, ids, scale);
	return y->dtype == BK_F16 ? move_to<BK_F16>(r, y, x, ids, scale) : move_to<BK_F32>(r, y, x, ids, scale);
}

int bk_run_gather(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *e, const int32_t *ids, float scale)
{
	if (!bk_mat_ok(y) || !bk_mat_ok(e) || !ids || y->cols != e->cols || !bk_is_float(y->dtype) || !bk_is_float(e->dtype) || (y->rows && !e->rows))
		return BK_RUN_REFUSED;
	return move_any(r, y, e, ids, scale);
}

int bk_run_convert(struct bk_run *r, const struct bk_mat *dst, const struct bk_mat *src)
{
	if (!bk_mat_ok(dst) || !bk_mat_ok(src) || !bk_same_shape(dst, src) || !bk_is_float(dst->dtype))
		return BK_RUN_REFUSED;
	return move_any(r, dst, src, NULL, 1);
}

/* ---- arithmetic ---- */

template <int DTYPE> struct add_rows {
	struct bk_mat x, a;
	bool by8;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		float v[8], w[8];

		bk_load8<DTYPE>(v, bk_row(x, i, size_of<DTYPE>::n), j, cols, by8);
		bk_load8<DTYPE>(w, bk_row(a, i, size_of<DTYPE>::n), j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			v[e] += w[e];
		bk_store8<DTYPE>(bk_row_out(x, i, size_of<DTYPE>::n), j, cols, by8, v);
	}
};

int bk_run_add(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a)
{
	if (!bk_mat_ok(x) || !bk_mat_ok(a) || !bk_same_shape(x, a) || x->dtype != a->dtype || !bk_is_io(x->dtype))
		return BK_RUN_REFUSED;
	if (x->dtype == BK_BF16)
		return launch(r, add_rows<BK_BF16>{ *x, *a, bk_by8(x) && bk_by8(a) }, x->rows, x->cols);
	return launch(r, add_rows<BK_F32>{ *x, *a, bk_by8(x) && bk_by8(a) }, x->rows, x->cols);
}

template <int DTYPE> static __device__ __forceinline__ float act(float g, bool gelu)
{
	if (gelu)
		return bk_rounded<DTYPE>(0.5f * g * (1 + tanhf(0.7978845608028654f * (g + 0.044715f * g * g * g))));
	return bk_rounded<DTYPE>(DTYPE == BK_F32 ? g / (1 + expf(-g)) : __fdividef(g, 1 + __expf(-g)));
}

template <int DTYPE> struct gate_rows {
	struct bk_mat h, g, u;
	bool gelu, by8;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		float v[8], w[8];

		bk_load8<DTYPE>(v, bk_row(g, i, size_of<DTYPE>::n), j, cols, by8);
		bk_load8<DTYPE>(w, bk_row(u, i, size_of<DTYPE>::n), j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			v[e] = act<DTYPE>(v[e], gelu) * w[e];
		bk_store8<DTYPE>(bk_row_out(h, i, size_of<DTYPE>::n), j, cols, by8, v);
	}
};

int bk_run_gate(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *g, const struct bk_mat *u, enum bk_gate kind)
{
	bool by8;

	if (!bk_mat_ok(h) || !bk_mat_ok(g) || !bk_mat_ok(u) || !bk_same_shape(h, g) || !bk_same_shape(h, u) || h->dtype != g->dtype || h->dtype != u->dtype ||
	    !bk_is_io(h->dtype) || (kind != BK_GATE_SILU && kind != BK_GATE_GELU_TANH))
		return BK_RUN_REFUSED;
	by8 = bk_by8(h) && bk_by8(g) && bk_by8(u);
	if (h->dtype == BK_BF16)
		return launch(r, gate_rows<BK_BF16>{ *h, *g, *u, kind == BK_GATE_GELU_TANH, by8 }, h->rows, h->cols);
	return launch(r, gate_rows<BK_F32>{ *h, *g, *u, kind == BK_GATE_GELU_TANH, by8 }, h->rows, h->cols);
}

template <int DTYPE> struct cap_rows {
	struct bk_mat x;
	float cap;
	bool by8;
	__device__ __forceinline__ void operator()(int64_t i, int64_t j, int64_t cols) const
	{
		float v[8];

		bk_load8<DTYPE>(v, bk_row(x, i, size_of<DTYPE>::n), j, cols, by8);
#pragma unroll
		for (int e = 0; e < 8; e++)
			v[e] = cap * tanhf(v[e] / cap);
		bk_store8<DTYPE>(bk_row_out(x, i, size_of<DTYPE>::n), j, cols, by8, v);
	}
};

int bk_run_softcap(struct bk_run *r, const struct bk_mat *x, double cap)
{
	if (!bk_mat_ok(x) || !bk_is_io(x->dtype) || !(cap > 0) || !isfinite(cap))
		return BK_RUN_REFUSED;
	if (x->dtype == BK_BF16)
		return launch(r, cap_rows<BK_BF16>{ *x, (float)cap, bk_by8(x) }, x->rows, x->cols);
	return launch(r, cap_rows<BK_F32>{ *x, (float)cap, bk_by8(x) }, x->rows, x->cols);
}
