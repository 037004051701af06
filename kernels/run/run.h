/* SPDX-License-Identifier: Apache-2.0
 * Running a decoder: one table of operations, two back ends (CPU: kernels/run/run_cpu*.c; CUDA: in the module). Matrices are row-major views.
 * Operations are issued in order and may return before they are done; `wait` and `get` wait. All return 0 or an error that error_text explains;
 * arguments outside a contract give BK_RUN_REFUSED and nothing is issued. One thread at a time may use a bk_run.
 * Numbers: inputs and outputs in the matrices' dtypes, sums in float32 or better, one rounding (to nearest, even) per stored result. Where a
 * comment says "rounded to y's type" between steps, that is what the reference runtime stores there. The same call on the same back end, device and
 * shapes gives the same bits. */
#ifndef BK_RUN_RUN_H
#define BK_RUN_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

#define BK_RUN_VERSION 1
#define BK_RUN_REFUSED (-1)
#define BK_RUN_NO_MEMORY (-2) /* the limit of bk_run_options, or the device's */
#define BK_RUN_UNREADABLE (-3) /* an upload's source could not be read (bk_run_options.read) */

enum { BK_I8 = 4, BK_F8 = 5 }; /* codes, beside enum bk_dtype: int8, e4m3 bytes */

struct bk_mat { /* [rows, cols], element (i, j) at p + (i * ld + j) * size of dtype */
	void *p;
	int64_t rows, cols, ld;
	int dtype; /* BK_BF16, BK_F16, BK_F32, BK_I8, BK_F8 */
};

typedef void bk_parallel_fn(void *arg, size_t item);
struct bk_run_options {
	int device;              /* CUDA ordinal */
	uint64_t memory_limit;   /* bytes that alloc may hand out; 0: all there is */
	int threads;             /* CPU */
	void (*parallel)(void *ctx, size_t n, bk_parallel_fn *fn, void *arg); /* CPU: runs fn(arg, 0..n-1) on several threads and waits; NULL: in place */
	void *parallel_ctx;
	/* Copies from memory that may be a mapped file, on a thread of the run; not 0: it cannot be read any more. NULL: memcpy. */
	int (*read)(void *dst, const void *src, size_t bytes);
};

struct bk_norm { const void *weight; enum bk_dtype dtype; double eps; int plus_one; }; /* weight [cols]; plus_one: times (1 + w), all in float32 (Gemma) */

/* Sequences of a batch. Row t of q belongs to sequence s with q_start[s] <= t < q_start[s+1]; its keys are rows kv_start[s] .. kv_start[s] + kv_len - 1
 * of k and v, kv_len = kv_start[s+1] - kv_start[s]; the last query stands at the last key. Arrays in the run's memory; the maxima are for launches. */
struct bk_sequences { int n; const int32_t *q_start, *kv_start; int64_t max_q, max_kv; };
struct bk_attention {
	int heads, kv_heads, head_dim; /* query head h reads key/value head h / (heads / kv_heads) */
	double scale;
	double softcap;  /* 0: none; else cap * tanh(s / cap) before the mask */
	int64_t window;  /* 0: none; else key j counts for query i when i - j < window */
	struct bk_sequences seq;
};
struct bk_rope { /* cosine and sine per position and pair, float32 [positions, head_dim / 2]; pair = channels (i, i + head_dim / 2) */
	const float *cos, *sin;
	const int32_t *position; /* [rows] */
	int64_t n_positions;
};
enum bk_gate { BK_GATE_SILU, BK_GATE_GELU_TANH };
enum bk_token_codes { BK_TOKEN_INT8 = 1, BK_TOKEN_E4M3 = 2, BK_TOKEN_E2M1 = 3 };

/* How inputs of a linear are rounded where not every row has just one scale, or not as a server does it. */
struct bk_rounding {
	enum bk_token_codes kind;
	int64_t group; /* columns per scale, divides cols; 0: one scale per row */
	float scale;   /* INT8, E4M3: > 0: the one scale of all rows (then no group). E2M1: what the scales of groups are in units of, 448 * 6 / the largest |x| */
};

#define BK_INPUT_BINS 2048
/* What flowed into a linear, summed up over calls; arrays in the run's memory, zeroed by the caller before the first. Bin of a value: bits 4..14 of |x| as
 * bfloat16 (8 bits of exponent, 3 of mantissa), so that any two histograms can be added. Non-finite elements count in `nonfinite` and nowhere else. */
struct bk_input_acc {
	float *absmax;        /* [K] per channel */
	double *sum, *sum2;   /* [K] */
	uint64_t *bins;       /* [BK_INPUT_BINS] of all elements */
	uint64_t *token_bins; /* [BK_INPUT_BINS] of each row's absmax */
	uint64_t *nonfinite;  /* [1] */
};

struct bk_row_loss { /* per row, arrays in the run's memory */
	float *nll;      /* -log softmax(logits)[target]; 0 where target < 0 */
	int32_t *argmax; /* lowest index of the largest */
};
struct bk_row_kl { /* p: base, q: other */
	float *kl;        /* sum_v p log(p / q), float32 log-softmax of both */
	float *nll_p, *nll_q;
	int32_t *same;    /* 1: the same argmax */
};

struct bk_run;
struct bk_run_ops {
	uint32_t version;  /* BK_RUN_VERSION */
	size_t size;       /* sizeof(struct bk_run_ops) */
	const char *name;  /* "cpu", "cuda" */
	bool unified;      /* its memory is the host's: host pointers may be given wherever the run's memory is asked for */

	const char *(*error_text)(int error);
	bool (*is_lost)(int error);      /* the device or its context is gone: only close works from here on */
	bool (*is_no_memory)(int error);
	int (*open)(struct bk_run **out, const struct bk_run_options *o);
	void (*close)(struct bk_run *r); /* releases everything that was allocated */
	int (*alloc)(struct bk_run *r, void **out, size_t bytes); /* 256-byte aligned, uninitialised */
	void (*release)(struct bk_run *r, void *p);               /* once what was issued before is done; NULL is fine */
	int (*memory)(struct bk_run *r, uint64_t *used, uint64_t *available);
	int (*host_alloc)(struct bk_run *r, void **out, size_t bytes); /* host memory that copies fastest (pinned) */
	void (*host_release)(struct bk_run *r, void *p);

	int (*put)(struct bk_run *r, void *dst, const void *src, size_t bytes);  /* host -> run; src may be reused on return */
	int (*get)(struct bk_run *r, void *dst, const void *src, size_t bytes);  /* run -> host, done on return */
	int (*copy)(struct bk_run *r, void *dst, const void *src, size_t bytes); /* within the run's memory */
	int (*zero)(struct bk_run *r, void *dst, size_t bytes);
	int (*wait)(struct bk_run *r);
	/* Copies beside the operations: upload starts when what was issued before it is done with dst and returns at once; src (mapped files too) must stay
	 * until a join. upload_join makes operations issued later see every upload so far (does not block the host unless it must). download is its twin. */
	int (*upload)(struct bk_run *r, void *dst, const void *src, size_t bytes);
	int (*upload_join)(struct bk_run *r);
	int (*download)(struct bk_run *r, void *dst, const void *src, size_t bytes); /* dst: best from host_alloc */
	int (*download_join)(struct bk_run *r); /* blocks until every download so far has arrived */

	/* c = alpha * op(a) op(b) + beta * c (+ bias[cols of c], type of b, may be NULL); op: transposed when ta / tb. a and b of one type (BF16 or F32; CPU: also F16),
	 * c BF16 or F32; F32 products are full float32 (no TF32). y = x Wᵀ is gemm(y, x, 0, w, 1, 1, 0). */
	int (*gemm)(struct bk_run *r, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta,
		    const void *bias);
	/* Dynamic activation quantization per row, as servers compute it. INT8: s = absmax / 127, code = clamp(rne(x * (127 / absmax)), -128, 127), absmax 0: codes 0;
	 * E4M3: s = max(absmax / 448, 1 / (448 * 512)), code = e4m3(clamp(x / s)). codes [rows, cols] I8 / F8, scales [rows]. */
	int (*quant_tokens)(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind);
	/* The same with one given scale for all rows (static): code = clamp(rne(x / scale)). scales [rows] are filled with it. */
	int (*quant_static)(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float scale);
	/* y[t,n] = sx[t] * sw[n] * sum_k x[t,k] w[n,k] (+ bias[n], type of y) over codes of one kind; INT8 sums are exact integers. */
	int (*gemm_codes)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw,
			  const void *bias);

	/* Codes in groups of columns, as servers compute them; codes are E4M3 bytes of both kinds (E2M1's values are among them), scales [rows, cols / group].
	 * E4M3: s = max(absmax, 1e-10) / 448, code = e4m3(clamp(x / s)). E2M1: t = e4m3(min(scale * (absmax / 6), 448)), code = e2m1(x * (scale / t)), 0 where t
	 * is 0, s = t / scale. */
	int (*quant_groups)(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how);
	/* y[t,n] = sum_g sx[t,g] sw[n,g] sum_{k in g} x[t,k] w[n,k] (+ bias[n], type of y) over E4M3 bytes; sx [T, K / group], sw [N, K / group]. */
	int (*gemm_groups)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, int64_t group,
			   const void *bias);
	/* y (type of x, may be x) = x rounded as the compressed-tensors library does it, every step in x's type: s = absmax / 127.5 or / 448 (INT8, E4M3; 0: the
	 * type's epsilon) or the given scale, y = s * round(clamp(x / s)). E2M1, in float32 from s on: s = e4m3(scale * (absmax / 6)) (0: 1/8) / scale. */
	int (*round_inputs)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how);

	/* y row i = e row ids[i], times scale (1: as it is), rounded to y's type. ids int32 in the run's memory, already range-checked. */
	int (*gather)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *e, const int32_t *ids, float scale);
	int (*convert)(struct bk_run *r, const struct bk_mat *dst, const struct bk_mat *src);
	/* y = norm(x): v = x / sqrt(mean(x^2) + eps) in float32, rounded to y's type, times weight, rounded again. y may be x. */
	int (*rmsnorm)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_norm *n);
	int (*add)(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a);                              /* x += a */
	int (*add_rmsnorm)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n); /* x += a; y = norm(x) */
	int (*rmsnorm_add)(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n);                      /* x += norm(a), the norm rounded first */
	/* In place on x [rows, heads * head_dim]: norm per head (n NULL: none), then RoPE (rope NULL: none). In BF16, cos and sin and each product are rounded. */
	int (*head_norm_rope)(struct bk_run *r, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n, const struct bk_rope *rope);
	int (*attention)(struct bk_run *r, const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
			 const struct bk_attention *a);
	int (*gate)(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *g, const struct bk_mat *u, enum bk_gate kind); /* h = act(g) (rounded) * u */
	int (*softcap)(struct bk_run *r, const struct bk_mat *x, double cap);

	int (*input_stats)(struct bk_run *r, const struct bk_input_acc *acc, const struct bk_mat *x);
	/* h [K, K] float32 += xᵀ x; only elements (i, j) with j <= i count, the others are unspecified. */
	int (*hessian)(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *x);
	/* sums[0] += sum (a - b)^2, sums[1] += sum b^2, in double, fixed order; sums in the run's memory */
	int (*diff_sums)(struct bk_run *r, double *sums, const struct bk_mat *a, const struct bk_mat *b);
	int (*dot)(struct bk_run *r, double *sum, const struct bk_mat *a, const struct bk_mat *b); /* *sum += sum a b, in double */
	/* h's other triangle from the one that counts */
	int (*mirror)(struct bk_run *r, const struct bk_mat *h);

	int (*row_loss)(struct bk_run *r, const struct bk_row_loss *out, const struct bk_mat *logits, const int32_t *targets);
	int (*row_kl)(struct bk_run *r, const struct bk_row_kl *out, const struct bk_mat *p, const struct bk_mat *q, const int32_t *targets);
};

const struct bk_run_ops *bk_run_cpu(void);
/* The obvious loops with sums in double, in the CPU's memory: what the others are checked with. */
const struct bk_run_ops *bk_run_ref(void);

#endif
