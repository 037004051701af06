/* SPDX-License-Identifier: Apache-2.0
 * Matrix products through cuBLASLt, opened at run time. Row-major c = op(a) op(b) is column-major cᵀ = op(b)ᵀ op(a)ᵀ: b goes first, and a row-major
 * matrix is the column-major one of its transpose. The library's first heuristic answer is kept per shape and never timed, so the same shapes give the
 * same bits; partial sums are added in float32. What the library has no kernel for goes to run_cuda_gemm_any.cu. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/run/run_cuda.cuh"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

#define WORKSPACE ((size_t)48 << 20)
#define PANEL     ((size_t)32 << 20) /* bytes of one intermediate of gemm_codes, so that it stays in the L2 cache of large devices */
#define PLANS     512                /* shapes kept; a power of two */

#define LT_LIST(F)                                                                                                                                   \
	F(cublasLtCreate) F(cublasLtDestroy) F(cublasLtMatmul) F(cublasLtMatmulAlgoGetHeuristic) F(cublasLtMatmulDescCreate)                         \
	F(cublasLtMatmulDescDestroy) F(cublasLtMatmulDescSetAttribute) F(cublasLtMatrixLayoutCreate) F(cublasLtMatrixLayoutDestroy)                  \
	F(cublasLtMatmulPreferenceCreate) F(cublasLtMatmulPreferenceDestroy) F(cublasLtMatmulPreferenceSetAttribute)                                 \
	F(cublasLtMatrixLayoutSetAttribute)

static struct {
	void *handle;
	char why[256];
#define F(name) __typeof__(&name) p_##name;
	LT_LIST(F)
#undef F
} lt;

struct key { /* everything the heuristic sees */
	int64_t m, n, k, lda, ldb, ldc;
	int32_t ta, tb, type_ab, type_c, beta, bias, align, pad;
};

struct plan {
	struct key key;
	bool used, none; /* none: the library has no kernel */
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t a, b, c;
	cublasLtMatmulAlgo_t algo;
};

struct bk_blas {
	cublasLtHandle_t handle;
	void *workspace;
	struct plan plans[PLANS];
};

const char *bk_blas_missing(void) { return lt.why; }

static void *open_library(void)
{
	static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13",
					     "/usr/local/cuda/lib64/libcublasLt.so.12", "libcublasLt.so" };
	void *h = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !h; i++)
		h = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	return h;
}

static int load(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int error = 0;

	pthread_mutex_lock(&lock);
	if (!lt.handle) {
		void *h = open_library();

		if (!h) {
			snprintf(lt.why, sizeof(lt.why), "cuBLASLt is not installed (libcublasLt.so.13 or .12 cannot be loaded; it comes with the CUDA toolkit: "
							 "install it, or name its folder in LD_LIBRARY_PATH)");
			error = BK_RUN_NO_BLAS;
		}
#define F(name)                                                                                                  \
	if (!error && !(lt.p_##name = (__typeof__(&name))dlsym(h, #name))) {                                         \
		snprintf(lt.why, sizeof(lt.why), "the cuBLASLt library found has no " #name ": it is too old"); \
		error = BK_RUN_NO_BLAS;                                                                          \
	}
		LT_LIST(F)
#undef F
		if (!error)
			lt.handle = h;
		else if (h)
			dlclose(h);
	}
	pthread_mutex_unlock(&lock);
	return error;
}

static int status(cublasStatus_t s)
{
	cudaError_t e;

	if (s == CUBLAS_STATUS_SUCCESS)
		return 0;
	e = cudaGetLastError(); /* the device's own error says more */
	return e != cudaSuccess ? (int)e : BK_BLAS_ERROR + (int)s;
}

int bk_blas_open(struct bk_run *r)
{
	int e = load();

	if (e)
		return e;
	r->blas = (struct bk_blas *)calloc(1, sizeof(*r->blas));
	if (!r->blas)
		return BK_RUN_NO_MEMORY;
	e = status(lt.p_cublasLtCreate(&r->blas->handle));
	if (!e)
		e = (int)cudaMalloc(&r->blas->workspace, WORKSPACE);
	if (e == cudaErrorMemoryAllocation)
		(void)cudaGetLastError();
	return e;
}

static void plan_free(struct plan *p)
{
	if (p->desc)
		(void)lt.p_cublasLtMatmulDescDestroy(p->desc);
	if (p->a)
		(void)lt.p_cublasLtMatrixLayoutDestroy(p->a);
	if (p->b)
		(void)lt.p_cublasLtMatrixLayoutDestroy(p->b);
	if (p->c)
		(void)lt.p_cublasLtMatrixLayoutDestroy(p->c);
	memset(p, 0, sizeof(*p));
}

void bk_blas_close(struct bk_run *r)
{
	if (!r->blas)
		return;
	for (int i = 0; i < PLANS; i++)
		plan_free(&r->blas->plans[i]);
	if (r->blas->handle)
		(void)lt.p_cublasLtDestroy(r->blas->handle);
	if (r->blas->workspace)
		(void)cudaFree(r->blas->workspace);
	free(r->blas);
	r->blas = NULL;
}

static cudaDataType_t data_type(int dtype) { return dtype == BK_BF16 ? CUDA_R_16BF : dtype == BK_I8 ? CUDA_R_8I : CUDA_R_32F; }

/* 16 when every address and stride is; else what they share */
static int alignment(const void *p, int64_t ld, size_t size)
{
	const uintptr_t bits = (uintptr_t)p | (uintptr_t)((size_t)ld * size) | 256;

	return (int)(bits & (~bits + 1)); /* lowest bit */
}

/* first: what cuBLASLt calls A, which is b of the row-major product */
static cublasStatus_t plan_make(struct bk_blas *blas, struct plan *p)
{
	const struct key *k = &p->key;
	const bool ints = k->type_ab == BK_I8;
	const cublasOperation_t op_a = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
	const cudaDataType_t ab = data_type(k->type_ab), c = ints ? CUDA_R_32I : data_type(k->type_c);
	const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
	const uint32_t align = (uint32_t)k->align, schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	const size_t workspace = WORKSPACE;
	const void *some_bias = blas->workspace; /* the heuristic only wants one */
	cublasLtMatmulPreference_t want = NULL;
	cublasLtMatmulHeuristicResult_t found;
	int n_found = 0;
	cublasStatus_t s;

	s = lt.p_cublasLtMatmulDescCreate(&p->desc, ints ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F, ints ? CUDA_R_32I : CUDA_R_32F);
#define TRY(call)                        \
	if (s == CUBLAS_STATUS_SUCCESS) \
	s = lt.p_##call
	TRY(cublasLtMatmulDescSetAttribute)(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof(op_a));
	TRY(cublasLtMatmulDescSetAttribute)(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof(op_b));
	if (k->bias) {
		TRY(cublasLtMatmulDescSetAttribute)(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue));
		TRY(cublasLtMatmulDescSetAttribute)(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &some_bias, sizeof(some_bias));
	}
	TRY(cublasLtMatrixLayoutCreate)(&p->a, ab, (uint64_t)(k->tb ? k->k : k->n), (uint64_t)(k->tb ? k->n : k->k), k->ldb);
	TRY(cublasLtMatrixLayoutCreate)(&p->b, ab, (uint64_t)(k->ta ? k->m : k->k), (uint64_t)(k->ta ? k->k : k->m), k->lda);
	TRY(cublasLtMatrixLayoutCreate)(&p->c, c, (uint64_t)k->n, (uint64_t)k->m, k->ldc);
	TRY(cublasLtMatmulPreferenceCreate)(&want);
	TRY(cublasLtMatmulPreferenceSetAttribute)(want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));
	TRY(cublasLtMatmulPreferenceSetAttribute)(want, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes));
	TRY(cublasLtMatmulPreferenceSetAttribute)(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align, sizeof(align));
	TRY(cublasLtMatmulPreferenceSetAttribute)(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align, sizeof(align));
	TRY(cublasLtMatmulPreferenceSetAttribute)(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align, sizeof(align));
	TRY(cublasLtMatmulPreferenceSetAttribute)(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align, sizeof(align));
	TRY(cublasLtMatmulAlgoGetHeuristic)(blas->handle, p->desc, p->a, p->b, p->c, p->c, want, 1, &found, &n_found);
#undef TRY
	if (want)
		(void)lt.p_cublasLtMatmulPreferenceDestroy(want);
	if (s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_INVALID_VALUE || s == CUBLAS_STATUS_ARCH_MISMATCH || (!s && !n_found)) {
		p->none = true;
		return CUBLAS_STATUS_SUCCESS;
	}
	if (s == CUBLAS_STATUS_SUCCESS)
		p->algo = found.algo;
	return s;
}

static struct plan *plan_get(struct bk_run *r, const struct key *k, int *error)
{
	struct bk_blas *blas = r->blas;
	uint64_t h = 1469598103934665603u;
	struct plan *p = NULL;

	for (size_t i = 0; i < sizeof(*k); i++)
		h = (h ^ ((const unsigned char *)k)[i]) * 1099511628211u;
	for (int probe = 0; probe < 8; probe++) {
		p = &blas->plans[(h + (uint64_t)probe) & (PLANS - 1)];
		if (!p->used)
			break;
		if (!memcmp(&p->key, k, sizeof(*k)))
			return p;
	}
	plan_free(p); /* an empty place, or the one that makes room */
	p->key = *k;
	*error = status(plan_make(blas, p));
	if (*error) {
		plan_free(p);
		return NULL;
	}
	p->used = true;
	return p;
}

/* type_c is told apart from c->dtype for int8's int32 sums. *done false: no kernel, nothing was issued. */
static int lt_gemm(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta,
		   const void *bias, bool *done)
{
	struct key key;
	struct plan *p;
	const size_t size = bk_size(a->dtype), size_c = a->dtype == BK_I8 ? 4 : bk_size(c->dtype);
	const int32_t alpha_i = 1, beta_i = 0;
	const bool ints = a->dtype == BK_I8;
	int e = 0, al, al2;

	memset(&key, 0, sizeof(key));
	key.m = c->rows, key.n = c->cols, key.k = ta ? a->rows : a->cols;
	key.lda = a->ld > a->cols ? a->ld : a->cols;
	key.ldb = b->ld > b->cols ? b->ld : b->cols;
	key.ldc = c->ld > c->cols ? c->ld : c->cols;
	key.ta = ta != 0, key.tb = tb != 0, key.type_ab = a->dtype, key.type_c = c->dtype, key.beta = beta != 0, key.bias = bias != NULL;
	al = alignment(a->p, a->ld, size), al2 = alignment(b->p, b->ld, size);
	key.align = al < al2 ? al : al2;
	al = alignment(c->p, c->ld, size_c);
	key.align = al < key.align ? al : key.align;
	if (key.align > 16)
		key.align = 16;
	*done = false;
	p = plan_get(r, &key, &e);
	if (!p || p->none)
		return e;
	if (bias)
		e = status(lt.p_cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias)));
	if (!e)
		e = status(lt.p_cublasLtMatmul(r->blas->handle, p->desc, ints ? (const void *)&alpha_i : (const void *)&alpha, b->p, p->a, a->p, p->b,
					     ints ? (const void *)&beta_i : (const void *)&beta, c->p, p->c, c->p, p->c, &p->algo, r->blas->workspace,
					     WORKSPACE, r->stream));
	*done = !e;
	return e;
}

int bk_run_gemm(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta,
		const void *bias)
{
	bool done = false, fused;
	int e = 0;

	if (!bk_mat_ok(c) || !bk_mat_ok(a) || !bk_mat_ok(b) || a->dtype != b->dtype || !bk_is_io(a->dtype) || !bk_is_io(c->dtype) ||
	    (ta ? a->cols : a->rows) != c->rows || (tb ? b->rows : b->cols) != c->cols || (ta ? a->rows : a->cols) != (tb ? b->cols : b->rows))
		return BK_RUN_REFUSED;
	if (!c->rows || !c->cols)
		return 0;
	fused = bias && b->dtype == c->dtype; /* a bias of another type than c's has no epilogue */
	if ((ta ? a->rows : a->cols) > 0 && !(a->dtype == BK_F32 && c->dtype == BK_BF16) && !(a->dtype == BK_BF16 && r->capability < 80))
		e = lt_gemm(r, c, a, ta, b, tb, alpha, beta, fused ? bias : NULL, &done);
	if (e)
		return e;
	if (!done)
		return bk_gemm_any(r, c, a, ta, b, tb, alpha, beta, bias, b->dtype);
	return bias && !fused ? bk_add_bias(r, c, bias, b->dtype) : 0;
}

/* ---- codes ---- */

static int64_t at_most(int64_t n, size_t bytes_each)
{
	int64_t fit = (int64_t)(PANEL / bytes_each) / 128 * 128;

	fit = fit < 128 ? 128 : fit;
	return n < fit ? n : fit;
}

static struct bk_mat rows_of(const struct bk_mat *m, int64_t first, int64_t n)
{
	return (struct bk_mat){ (char *)m->p + first * m->ld * (int64_t)bk_size(m->dtype), n, m->cols, m->ld, m->dtype };
}

static struct bk_mat block_of(const struct bk_mat *m, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
	return (struct bk_mat){ (char *)m->p + (row * m->ld + col) * (int64_t)bk_size(m->dtype), rows, cols, m->ld, m->dtype };
}

/* One panel: rows of x by rows of w, both padded or expanded as the kernels want them. */
static int codes_panel(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw,
		       const void *bias, char *acc, int64_t n_acc)
{
	const bool ints = x->dtype == BK_I8;
	const struct bk_mat c = { acc, x->rows, w->rows, n_acc, BK_F32 };
	bool done = false;
	int e = lt_gemm(r, &c, x, 0, w, 1, 1, 0, NULL, &done);

	if (!e && !done)
		e = ints ? BK_BLAS_ERROR + (int)CUBLAS_STATUS_NOT_SUPPORTED : bk_gemm_any(r, &c, x, 0, w, 1, 1, 0, NULL, 0);
	return e ? e : bk_scale_codes(r, y, acc, n_acc, ints, sx, sw, bias);
}

int bk_run_gemm_codes(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw,
		      const void *bias)
{
	const int64_t k = x ? x->cols : 0, kp = (k + 15) / 16 * 16;
	int64_t n_step, t_step;
	bool ints, pad_x, pad_w;
	char *xs, *ws, *acc;
	int e;

	if (!bk_mat_ok(y) || !bk_mat_ok(x) || !bk_mat_ok(w) || !sx || !sw || x->dtype != w->dtype || (x->dtype != BK_I8 && x->dtype != BK_F8) ||
	    !bk_is_io(y->dtype) || k != w->cols || k < 1 || y->rows != x->rows || y->cols != w->rows || k > (INT64_C(1) << 17) - 16)
		return BK_RUN_REFUSED;
	if (!y->rows || !y->cols)
		return 0;
	ints = x->dtype == BK_I8;
	/* int8 kernels: K a multiple of 16, rows of w a multiple of 16; e4m3 codes are exact in bf16 */
	n_step = at_most(y->cols, (size_t)kp * (ints ? 1 : 2));
	pad_x = !ints || k % 16 || (uintptr_t)x->p % 16 || x->ld % 16;
	pad_w = !ints || k % 16 || (uintptr_t)w->p % 16 || w->ld % 16 || y->cols % 16;
	if (!pad_w)
		n_step = y->cols < 16384 ? y->cols : 16384;
	t_step = at_most(y->rows, (size_t)(kp * 2 > n_step * 4 ? kp * 2 : n_step * 4));
	{
		const size_t elem = ints ? 1 : 2, n_pad = (size_t)((n_step + 15) / 16 * 16);
		const size_t x_bytes = pad_x ? ((size_t)(t_step * kp) * elem + 255) / 256 * 256 : 0;
		const size_t w_bytes = pad_w ? (n_pad * (size_t)kp * elem + 255) / 256 * 256 : 0;
		void *s;

		e = bk_run_scratch(r, &s, x_bytes + w_bytes + (size_t)t_step * n_pad * 4);
		xs = (char *)s, ws = xs + x_bytes, acc = ws + w_bytes;
	}
	for (int64_t n0 = 0; n0 < y->cols && !e; n0 += n_step) {
		const int64_t n = y->cols - n0 < n_step ? y->cols - n0 : n_step, n_pad = (n + 15) / 16 * 16;
		struct bk_mat wn = rows_of(w, n0, n);

		if (pad_w) {
			const struct bk_mat from = wn;

			wn = (struct bk_mat){ ws, n_pad, kp, kp, ints ? (int)BK_I8 : (int)BK_BF16 };
			e = bk_pad_codes(r, ws, n_pad, kp, &from);
		}
		for (int64_t t0 = 0; t0 < y->rows && !e; t0 += t_step) {
			const int64_t t = y->rows - t0 < t_step ? y->rows - t0 : t_step;
			const struct bk_mat yt = block_of(y, t0, t, n0, n);
			struct bk_mat xt = rows_of(x, t0, t);

			if (pad_x) {
				const struct bk_mat from = xt;

				xt = (struct bk_mat){ xs, t, kp, kp, ints ? (int)BK_I8 : (int)BK_BF16 };
				e = bk_pad_codes(r, xs, t, kp, &from);
			}
			if (!e)
				e = codes_panel(r, &yt, &xt, sx + t0, &wn, sw + n0,
						bias ? (const char *)bias + n0 * (int64_t)bk_size(y->dtype) : NULL, acc, n_pad);
		}
	}
	return e;
}

/* ---- hessian ---- */

/* Strips of rows, each up to its last diagonal element: a strip's product is one call. Strips of about 1024 rows keep every product large (measured on an H100
 * at K = 2048, 4096 and 5120: narrower ones compute less and take longer). */
static int64_t strip_rows(int64_t k)
{
	const int64_t strips = k < 1024 ? 1 : k < 2048 ? 2 : (k + 1023) / 1024;

	return ((k + strips - 1) / strips + 127) / 128 * 128;
}

int bk_run_hessian(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *x)
{
	int64_t step;
	int e = 0;

	if (!bk_mat_ok(h) || !bk_mat_ok(x) || h->dtype != BK_F32 || h->rows != h->cols || h->rows != x->cols || !bk_is_io(x->dtype))
		return BK_RUN_REFUSED;
	if (!x->rows || !x->cols)
		return 0;
	step = strip_rows(h->rows);
	for (int64_t at = 0; at < h->rows && !e; at += step) {
		const int64_t n = h->rows - at < step ? h->rows - at : step;
		const struct bk_mat c = block_of(h, at, n, 0, at + n), a = block_of(x, 0, x->rows, at, n), b = block_of(x, 0, x->rows, 0, at + n);

		e = bk_run_gemm(r, &c, &a, 1, &b, 0, 1, 1, NULL);
	}
	return e;
}

#else /* nothing to build against */
struct bk_blas { int none; };
const char *bk_blas_missing(void) { return "this build of the CUDA module was made without cuBLASLt's header"; }
int bk_blas_open(struct bk_run *r) { (void)r; return BK_RUN_NO_BLAS; }
void bk_blas_close(struct bk_run *r) { (void)r; }
int bk_run_gemm(struct bk_run *, const struct bk_mat *, const struct bk_mat *, int, const struct bk_mat *, int, float, float, const void *)
{
	return BK_RUN_NO_BLAS;
}
int bk_run_gemm_codes(struct bk_run *, const struct bk_mat *, const struct bk_mat *, const float *, const struct bk_mat *, const float *, const void *)
{
	return BK_RUN_NO_BLAS;
}
int bk_run_hessian(struct bk_run *, const struct bk_mat *, const struct bk_mat *) { return BK_RUN_NO_BLAS; }
#endif
