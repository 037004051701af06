/* SPDX-License-Identifier: Apache-2.0
 * What needs a sum or a maximum over a row: norms (fused with the addition beside them), rotary embeddings with the norm of each head, quantization of
 * activations. A row stays in registers between its one read and its one write: a warp takes rows up to 2048 elements, a block longer ones. */
#include "kernels/run/run_cuda.cuh"

#define ROW_MAX (512 * 8 * 8)

/* DO(threads per row, vectors of 8 per thread, whole vectors at aligned addresses?) with what suits the row */
#define WITH_SHAPE(cols, full, DO)                    \
	do {                                          \
		if ((full) && (cols) <= 32 * 64)      \
			DO(32, 8, true);              \
		else if ((full) && (cols) <= 128 * 40) \
			DO(128, 5, true);             \
		else if ((full) && (cols) <= 256 * 64) \
			DO(256, 8, true);             \
		else if ((cols) <= 32 * 64)           \
			DO(32, 8, false);             \
		else                                  \
			DO(512, 8, false);            \
	} while (0)

/* Threads per block and rows per block: warps share a block of 4. */
template <int THREADS> struct shape { enum { block = THREADS == 32 ? 128 : THREADS, rows = THREADS == 32 ? 4 : 1 }; };

template <int THREADS> static unsigned grid_of(int64_t rows)
{
	return bk_ceil(rows, shape<THREADS>::rows);
}

/* ---- norms ---- */

struct norm { struct bk_mat y, x, a; const void *weight; int weight_dtype, plus_one; float eps; bool by8, weight_by8; };
enum { NORM, ADD_NORM, NORM_ADD };

static __device__ __forceinline__ void weight8(float (&w)[8], const struct norm &n, int64_t j, int64_t cols)
{
	if (n.weight_dtype == BK_BF16)
		bk_load8<BK_BF16>(w, n.weight, j, cols, n.weight_by8);
	else if (n.weight_dtype == BK_F32)
		bk_load8<BK_F32>(w, n.weight, j, cols, n.weight_by8);
	else
		bk_load8<BK_F16>(w, n.weight, j, cols, n.weight_by8);
}

/* NORM: y = norm(x). ADD_NORM: x += a, y = norm(x). NORM_ADD: x += norm(a). */
template <int DTYPE, int THREADS, int VECTORS, bool FULL, int WHAT>
static __global__ void __launch_bounds__(shape<THREADS>::block) norm_rows(const struct norm n)
{
	__shared__ float sh[33];
	const int t = THREADS == 32 ? threadIdx.x & 31 : threadIdx.x, size = (int)sizeof(typename bk_elem<DTYPE>::type);
	const int64_t i = THREADS == 32 ? (int64_t)blockIdx.x * shape<THREADS>::rows + threadIdx.x / 32 : blockIdx.x, cols = n.x.cols;
	const struct bk_mat &from = WHAT == NORM_ADD ? n.a : n.x;
	float v[VECTORS][8], sum = 0, inverse;

	if (i >= n.x.rows)
		return;
#pragma unroll
	for (int k = 0; k < VECTORS; k++) {
		const int64_t j = (int64_t)(k * THREADS + t) * 8;

		if (j < cols)
			bk_take8<DTYPE, FULL>(v[k], bk_row(from, i, size), j, cols, n.by8);
	}
	if (WHAT == ADD_NORM) {
#pragma unroll
		for (int k = 0; k < VECTORS; k++) {
			const int64_t j = (int64_t)(k * THREADS + t) * 8;
			float a[8];

			if (j >= cols)
				continue;
			bk_take8<DTYPE, FULL>(a, bk_row(n.a, i, size), j, cols, n.by8);
#pragma unroll
			for (int e = 0; e < 8; e++)
				v[k][e] = bk_rounded<DTYPE>(v[k][e] + a[e]);
			bk_give8<DTYPE, FULL>(bk_row_out(n.x, i, size), j, cols, n.by8, v[k]);
		}
	}
#pragma unroll
	for (int k = 0; k < VECTORS; k++)
		if ((int64_t)(k * THREADS + t) * 8 < cols)
#pragma unroll
			for (int e = 0; e < 8; e++)
				sum = fmaf(v[k][e], v[k][e], sum);
	sum = bk_reduce<THREADS, bk_sum>(sum, sh);
	inverse = 1 / sqrtf(sum / (float)cols + n.eps);
#pragma unroll
	for (int k = 0; k < VECTORS; k++) {
		const int64_t j = (int64_t)(k * THREADS + t) * 8;
		float w[8];

		if (j >= cols)
			continue;
		weight8(w, n, j, cols);
#pragma unroll
		for (int e = 0; e < 8; e++)
			v[k][e] = n.plus_one ? v[k][e] * inverse * (1 + w[e]) : bk_rounded<DTYPE>(v[k][e] * inverse) * w[e];
		if (WHAT == NORM_ADD) {
			bk_take8<DTYPE, FULL>(w, bk_row(n.x, i, size), j, cols, n.by8);
#pragma unroll
			for (int e = 0; e < 8; e++)
				v[k][e] = w[e] + bk_rounded<DTYPE>(v[k][e]);
		}
		bk_give8<DTYPE, FULL>(bk_row_out(WHAT == NORM_ADD ? n.x : n.y, i, size), j, cols, n.by8, v[k]);
	}
}

template <int WHAT>
static int norm_launch(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *m)
{
	struct norm n = { *y, *x, *a, NULL, 0, 0, 0, false, false };

	if (!bk_mat_ok(y) || !bk_mat_ok(x) || !bk_mat_ok(a) || !m || !m->weight || !bk_is_float(m->dtype) || !bk_is_io(x->dtype) || x->dtype != y->dtype ||
	    x->dtype != a->dtype || !bk_same_shape(x, y) || !bk_same_shape(x, a) || x->cols > ROW_MAX)
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	n.weight = m->weight, n.weight_dtype = m->dtype, n.plus_one = m->plus_one, n.eps = (float)m->eps;
	n.by8 = bk_by8(y) && bk_by8(x) && bk_by8(a);
	n.weight_by8 = (uintptr_t)m->weight % 16 == 0;
#define DO(T, V, F)                                                                                              \
	if (x->dtype == BK_BF16)                                                                                 \
		norm_rows<BK_BF16, T, V, F, WHAT><<<grid_of<T>(x->rows), shape<T>::block, 0, r->stream>>>(n);    \
	else                                                                                                     \
		norm_rows<BK_F32, T, V, F, WHAT><<<grid_of<T>(x->rows), shape<T>::block, 0, r->stream>>>(n)
	WITH_SHAPE(x->cols, n.by8 && x->cols % 8 == 0, DO);
#undef DO
	return bk_launched();
}

int bk_run_rmsnorm(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_norm *n) { return norm_launch<NORM>(r, y, x, x, n); }

int bk_run_add_rmsnorm(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n)
{
	return norm_launch<ADD_NORM>(r, y, x, a, n);
}

int bk_run_rmsnorm_add(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n)
{
	return norm_launch<NORM_ADD>(r, x, x, a, n);
}

/* ---- heads ---- */

struct head {
	struct bk_mat y, x;
	int heads, dim;
	const void *weight; int weight_dtype, plus_one; float eps;
	const float *cos, *sin; const int32_t *position;
};

/* the values of channels i and i + dim / 2, turned */
template <int DTYPE> static __device__ __forceinline__ void turn(float &lo, float &hi, float c, float s)
{
	const float cr = bk_rounded<DTYPE>(c), sr = bk_rounded<DTYPE>(s);
	const float a = bk_rounded<DTYPE>(lo * cr) - bk_rounded<DTYPE>(hi * sr), b = bk_rounded<DTYPE>(hi * cr) + bk_rounded<DTYPE>(lo * sr);

	lo = a;
	hi = b;
}

template <int DTYPE> static __device__ __forceinline__ float normed(const struct head &h, float v, float inverse, float w)
{
	return h.plus_one ? bk_rounded<DTYPE>(v * inverse * (1 + w)) : bk_rounded<DTYPE>(bk_rounded<DTYPE>(v * inverse) * w);
}

/* DIM / 16 neighbouring threads share a head, 8 channels of each half per thread. */
template <int DTYPE, int DIM> static __global__ void __launch_bounds__(128) head_rows(const struct head h)
{
	enum { LANES = DIM / 16 };
	const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, n = h.x.rows * h.heads;
	const int64_t unit = at / LANES < n ? at / LANES : n - 1; /* the last ones work along, for the shuffles, and store nothing */
	const int64_t i = unit / h.heads, head = unit % h.heads;
	const int j = (int)(at % LANES) * 8;
	const typename bk_elem<DTYPE>::type *p = (const typename bk_elem<DTYPE>::type *)h.x.p + i * h.x.ld + head * DIM;
	typename bk_elem<DTYPE>::type *to = (typename bk_elem<DTYPE>::type *)h.y.p + i * h.y.ld + head * DIM;
	float lo[8], hi[8], c[8], s[8];

	bk_load8<DTYPE>(lo, p, j, DIM, true);
	bk_load8<DTYPE>(hi, p, j + DIM / 2, DIM, true);
	if (h.weight) {
		float sum = 0, inverse;

#pragma unroll
		for (int e = 0; e < 8; e++)
			sum = fmaf(hi[e], hi[e], fmaf(lo[e], lo[e], sum));
#pragma unroll
		for (int d = LANES / 2; d; d >>= 1)
			sum += __shfl_xor_sync(0xffffffffu, sum, d);
		inverse = 1 / sqrtf(sum / DIM + h.eps);
#pragma unroll
		for (int e = 0; e < 8; e++) {
			lo[e] = normed<DTYPE>(h, lo[e], inverse, bk_load_any(h.weight, j + e, h.weight_dtype));
			hi[e] = normed<DTYPE>(h, hi[e], inverse, bk_load_any(h.weight, j + e + DIM / 2, h.weight_dtype));
		}
	}
	if (h.cos) {
		const int64_t row = (int64_t)h.position[i] * (DIM / 2);

		bk_load8<BK_F32>(c, h.cos + row, j, DIM / 2, true);
		bk_load8<BK_F32>(s, h.sin + row, j, DIM / 2, true);
#pragma unroll
		for (int e = 0; e < 8; e++)
			turn<DTYPE>(lo[e], hi[e], c[e], s[e]);
	}
	if (at / LANES >= n)
		return;
	bk_store8<DTYPE>(to, j, DIM, true, lo);
	bk_store8<DTYPE>(to, j + DIM / 2, DIM, true, hi);
}

/* Any size of head, any address: a warp per head. */
template <int DTYPE> static __global__ void __launch_bounds__(128) head_any(const struct head h)
{
	typedef typename bk_elem<DTYPE>::type T;
	const int64_t unit = (int64_t)blockIdx.x * 4 + threadIdx.x / 32, n = h.x.rows * h.heads;
	const int lane = threadIdx.x & 31, half = h.dim / 2;
	float sum = 0, inverse = 0;
	const T *p;
	T *to;
	int64_t i;

	if (unit >= n)
		return;
	i = unit / h.heads;
	p = (const T *)h.x.p + i * h.x.ld + unit % h.heads * h.dim;
	to = (T *)h.y.p + i * h.y.ld + unit % h.heads * h.dim;
	if (h.weight) {
		for (int j = lane; j < h.dim; j += 32) {
			const float v = bk_load_any(p, j, DTYPE);

			sum = fmaf(v, v, sum);
		}
		sum = bk_reduce<32, bk_sum>(sum, NULL);
		inverse = 1 / sqrtf(sum / (float)h.dim + h.eps);
	}
	for (int j = lane; j < half; j += 32) {
		float lo = bk_load_any(p, j, DTYPE), hi = bk_load_any(p, j + half, DTYPE);

		if (h.weight) {
			lo = normed<DTYPE>(h, lo, inverse, bk_load_any(h.weight, j, h.weight_dtype));
			hi = normed<DTYPE>(h, hi, inverse, bk_load_any(h.weight, j + half, h.weight_dtype));
		}
		if (h.cos) {
			const int64_t at = (int64_t)h.position[i] * half + j;

			turn<DTYPE>(lo, hi, h.cos[at], h.sin[at]);
		}
		bk_store_any(to, j, DTYPE, lo);
		bk_store_any(to, j + half, DTYPE, hi);
	}
}

template <int DTYPE> static int head_launch(struct bk_run *r, const struct head *h, bool fast)
{
	const int64_t n = h->x.rows * h->heads;

	if (fast && h->dim == 64)
		head_rows<DTYPE, 64><<<bk_ceil(n * 4, 128), 128, 0, r->stream>>>(*h);
	else if (fast && h->dim == 128)
		head_rows<DTYPE, 128><<<bk_ceil(n * 8, 128), 128, 0, r->stream>>>(*h);
	else if (fast && h->dim == 256)
		head_rows<DTYPE, 256><<<bk_ceil(n * 16, 128), 128, 0, r->stream>>>(*h);
	else
		head_any<DTYPE><<<bk_ceil(n, 4), 128, 0, r->stream>>>(*h);
	return bk_launched();
}

int bk_run_head_norm_rope_to(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
			     const struct bk_rope *rope)
{
	struct head h;
	bool fast;

	if (!bk_mat_ok(x) || !bk_mat_ok(y) || !bk_same_shape(x, y) || y->dtype != x->dtype || !bk_is_io(x->dtype) || heads < 1 || head_dim < 2 ||
	    head_dim % 2 || head_dim > 4096 || x->cols != (int64_t)heads * head_dim || (n && (!n->weight || !bk_is_float(n->dtype))) ||
	    (rope && (!rope->cos || !rope->sin || !rope->position)))
		return BK_RUN_REFUSED;
	if (!x->rows || (!n && !rope))
		return 0;
	h = (struct head){ *y, *x, heads, head_dim, n ? n->weight : NULL, n ? n->dtype : 0, n ? n->plus_one : 0, n ? (float)n->eps : 0,
			   rope ? rope->cos : NULL, rope ? rope->sin : NULL, rope ? rope->position : NULL };
	fast = bk_by8(x) && bk_by8(y) && (!rope || ((uintptr_t)rope->cos % 16 == 0 && (uintptr_t)rope->sin % 16 == 0));
	return x->dtype == BK_BF16 ? head_launch<BK_BF16>(r, &h, fast) : head_launch<BK_F32>(r, &h, fast);
}

int bk_run_head_norm_rope(struct bk_run *r, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n, const struct bk_rope *rope)
{
	return bk_run_head_norm_rope_to(r, x, x, heads, head_dim, n, rope);
}

/* ---- codes of activations ---- */

struct quant { struct bk_mat codes, x; float *scales; int e4m3; float fixed; bool by8; };

static __device__ __forceinline__ uint32_t code_of(float v, float by, bool e4m3)
{
	if (e4m3) {
		v = __fdiv_rn(v, by);
		return v != v ? 0x7fu : bk_f32_e4m3(fminf(fmaxf(v, -448.0f), 448.0f));
	}
	return (uint32_t)(uint8_t)(int8_t)__float2int_rn(fminf(fmaxf(v, -128.0f), 127.0f));
}

/* fixed 0: a scale per row from its absmax */
template <int DTYPE, int THREADS, int VECTORS, bool FULL>
static __global__ void __launch_bounds__(shape<THREADS>::block) quant_rows(const struct quant q)
{
	__shared__ float sh[33];
	const int t = THREADS == 32 ? threadIdx.x & 31 : threadIdx.x, size = (int)sizeof(typename bk_elem<DTYPE>::type);
	const int64_t i = THREADS == 32 ? (int64_t)blockIdx.x * shape<THREADS>::rows + threadIdx.x / 32 : blockIdx.x, cols = q.x.cols;
	float v[VECTORS][8], absmax = 0, scale = q.fixed, factor = 0;

	if (i >= q.x.rows)
		return;
#pragma unroll
	for (int k = 0; k < VECTORS; k++) {
		const int64_t j = (int64_t)(k * THREADS + t) * 8;

		if (j < cols)
			bk_take8<DTYPE, FULL>(v[k], bk_row(q.x, i, size), j, cols, q.by8);
	}
	if (!q.fixed) {
#pragma unroll
		for (int k = 0; k < VECTORS; k++)
			if ((int64_t)(k * THREADS + t) * 8 < cols)
#pragma unroll
				for (int e = 0; e < 8; e++)
					absmax = fmaxf(absmax, fabsf(v[k][e]));
		absmax = bk_reduce<THREADS, bk_max>(absmax, sh);
		scale = q.e4m3 ? fmaxf(__fdiv_rn(absmax, 448.0f), 1.0f / (448.0f * 512.0f)) : __fdiv_rn(absmax, 127.0f);
		factor = absmax > 0 ? __fdiv_rn(127.0f, absmax) : 0;
	}
	if (t == 0)
		q.scales[i] = scale;
#pragma unroll
	for (int k = 0; k < VECTORS; k++) {
		const int64_t j = (int64_t)(k * THREADS + t) * 8;
		uint8_t *to = (uint8_t *)q.codes.p + i * q.codes.ld + j;
		uint32_t w[2] = { 0, 0 };

		if (j >= cols)
			continue;
#pragma unroll
		for (int e = 0; e < 8; e++) {
			const float z = q.e4m3 ? v[k][e] : q.fixed ? __fdiv_rn(v[k][e], scale) : v[k][e] * factor;

			w[e / 4] |= code_of(z, scale, q.e4m3) << (8 * (e & 3));
		}
		if (FULL || (q.by8 && j + 8 <= cols))
			*(uint2 *)to = make_uint2(w[0], w[1]);
		else
			for (int e = 0; e < 8 && j + e < cols; e++)
				to[e] = (uint8_t)(w[e / 4] >> (8 * (e & 3)));
	}
}

static int quant_launch(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float fixed)
{
	struct quant q;

	if (!bk_mat_ok(codes) || !bk_mat_ok(x) || !scales || !bk_is_io(x->dtype) || !bk_same_shape(codes, x) || x->cols > ROW_MAX ||
	    !((kind == BK_TOKEN_INT8 && codes->dtype == BK_I8) || (kind == BK_TOKEN_E4M3 && codes->dtype == BK_F8)))
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	q = (struct quant){ *codes, *x, scales, kind == BK_TOKEN_E4M3, fixed, bk_by8(codes) && bk_by8(x) };
#define DO(T, V, F)                                                                                       \
	if (x->dtype == BK_BF16)                                                                          \
		quant_rows<BK_BF16, T, V, F><<<grid_of<T>(x->rows), shape<T>::block, 0, r->stream>>>(q);  \
	else                                                                                              \
		quant_rows<BK_F32, T, V, F><<<grid_of<T>(x->rows), shape<T>::block, 0, r->stream>>>(q)
	WITH_SHAPE(x->cols, q.by8 && x->cols % 8 == 0, DO);
#undef DO
	return bk_launched();
}

int bk_run_quant_tokens(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind)
{
	return quant_launch(r, codes, scales, x, kind, 0);
}

int bk_run_quant_static(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float scale)
{
	return scale > 0 && isfinite(scale) ? quant_launch(r, codes, scales, x, kind, scale) : BK_RUN_REFUSED;
}
