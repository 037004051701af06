/* SPDX-License-Identifier: Apache-2.0
 * Tuning a decoder: the backward of kernels/run's operations, fake quantization with its gradients, losses and optimizer steps. A table beside
 * struct bk_run_ops, on the same runs: operations are issued into the run in order, with the same rules (0, an error that the run's error_text
 * explains, or BK_RUN_REFUSED with nothing issued).
 *
 * Activations and their gradients are BF16 or F32 matrices, those of one call of one type unless said. Computation is in float32 or better from the
 * stored inputs, with one rounding per stored result: forward's roundings between steps (rounding a norm before its weight, say) are passed
 * straight through. Gradients of parameters are float32 in the run's memory and are added to what is there (zero them first), in an order that
 * depends on shapes only, so that a call repeated gives the same bits. "a may be b": the same matrix, element for element.
 *
 * Products have no operation here: for y = x Wᵀ, dx = dy W is gemm(dx, dy, 0, w, 0, 1, beta) and dW = dyᵀ x is gemm(dw, dy, 1, x, 0, 1, beta) with
 * dw F32. */
#ifndef BK_GRAD_GRAD_H
#define BK_GRAD_GRAD_H

#include "kernels/run/run.h"

enum { BK_GRAD_SET = 0, BK_GRAD_ADD = 1 }; /* a result is written, or added to what is there */

/* A weight as a server will hold it, from what is tuned. For element (n, k), group j = k / group, s = scale[n, j] rounded to bfloat16:
 *   integers: u = w / s + v, q = clamp(rne(u) + z, lo, hi), w_hat = s (q - z), lo = -2^(bits-1), hi = -lo - 1; in = 1 where nothing was clamped
 *   e4m3 (symmetric, no v, no z): q = e4m3(clamp(w / s, -448, 448)), w_hat = s q; in = |w / s| <= 448
 * Where s is 0 or not finite: w_hat 0, code 0, no gradient. s may be negative. */
struct bk_fake {
	const struct bk_mat *w; /* [N, K] F32 or BF16: the weight, fixed */
	const float *v;         /* [N, K] float32 without gaps: added before rounding; NULL: 0 */
	const float *scale;     /* [N, spr] float32; spr = K / group, or 1 */
	const int8_t *zero;     /* [N, spr] in lo .. hi; NULL: 0 (needed when the grid is not symmetric) */
	struct bk_grid grid;
};

struct bk_limits { float lo, hi; }; /* of a parameter after a step; lo >= hi: none */
struct bk_adam { /* AdamW */
	float lr, beta1, beta2, eps, decay; /* p -= lr * (m' / (sqrt(v') + eps) + decay * p) */
	int64_t step;                       /* 1 for the first: m' = m / (1 - beta1^step), v' likewise */
	struct bk_limits limits;
};

struct bk_grad_ops {
	size_t size;      /* sizeof(struct bk_grad_ops) */
	const char *name; /* "cpu", "ref", "cuda" */

	/* Of y = norm(x): dx (=, +=) and, unless NULL, dweight [cols] += sum over rows. dx may be dy when it is set. Of x += norm(a) (rmsnorm_add):
	 * the gradient of x stays, that of a is this with x := a. Norms with plus_one have the gradient of w in 1 + w. */
	int (*rmsnorm_back)(struct bk_run *r, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, const struct bk_norm *n,
			    const struct bk_mat *dy, int add);
	/* y = head_norm_rope(x) with x kept; the same bits as in place. y may be x. n or rope, or both, may be NULL. */
	int (*head_norm_rope)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
			      const struct bk_rope *rope);
	/* dx = its gradient, unless NULL dweight [head_dim] += sum over rows and heads. dx may be dy. x (before the norm) may be NULL when n is. In
	 * BF16, cos and sin are rounded as in the forward. */
	int (*head_norm_rope_back)(struct bk_run *r, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, int heads, int head_dim,
				   const struct bk_norm *n, const struct bk_rope *rope, const struct bk_mat *dy);
	/* attention, and lse[row * heads + head] = log sum exp of its scores (after scale and softcap, over the keys that count): what
	 * attention_back needs. */
	int (*attention_lse)(struct bk_run *r, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k,
			     const struct bk_mat *v, const struct bk_attention *a);
	/* dq, dk, dv = the gradients; out and lse from attention_lse. dk and dv are sums over the query heads that read a key/value head; rows of
	 * keys that belong to no sequence are left alone. dq may be dout; dk, dv may not be k, v. */
	int (*attention_back)(struct bk_run *r, const struct bk_mat *dq, const struct bk_mat *dk, const struct bk_mat *dv, const struct bk_mat *q,
			      const struct bk_mat *k, const struct bk_mat *v, const struct bk_mat *out, const float *lse, const struct bk_mat *dout,
			      const struct bk_attention *a);
	/* Of h = act(g) u. dg may be g or dh, du may be u or dh. */
	int (*gate_back)(struct bk_run *r, const struct bk_mat *dg, const struct bk_mat *du, const struct bk_mat *g, const struct bk_mat *u,
			 const struct bk_mat *dh, enum bk_gate kind);
	/* Of y = cap tanh(x / cap), from y: dx = dy (1 - (y / cap)^2). dx may be dy or y. */
	int (*softcap_back)(struct bk_run *r, const struct bk_mat *dx, const struct bk_mat *y, const struct bk_mat *dy, double cap);

	/* Base logits p, own q [rows, vocab]: dq = (softmax(q) - softmax(p)) * scale; kl[row], unless NULL, = sum p log(p / q) as in row_kl. dq may
	 * be q or p; p may be of another type than q and dq. */
	int (*kl_back)(struct bk_run *r, const struct bk_mat *dq, float *kl, const struct bk_mat *p, const struct bk_mat *q, float scale);
	/* d = 2 (a - b) * scale; *sum, unless NULL, += sum (a - b)^2 in double (not scaled). d may be a or b; b may be of another type than a and
	 * d. */
	int (*mse_back)(struct bk_run *r, const struct bk_mat *d, double *sum, const struct bk_mat *a, const struct bk_mat *b, float scale);

	/* w_hat [N, K] F32 or BF16 and codes [N, K] (I8, or F8 for e4m3); either may be NULL. */
	int (*fake_quant)(struct bk_run *r, const struct bk_mat *w_hat, const struct bk_mat *codes, const struct bk_fake *f);
	/* From g = dL/dw_hat (F32 or BF16): dv [N, K] = s g in, float32 without gaps, and dscale [N, spr] += sum over the group of g (q - z - in w
	 * / s); either may be NULL. dv may be g where that is F32 without gaps. */
	int (*fake_quant_back)(struct bk_run *r, float *dv, float *dscale, const struct bk_mat *g, const struct bk_fake *f);
	/* The same where codes stay as they are: w_hat = s (code - z), dscale += sum over the group of g (code - z). scale [N, spr], zero as in
	 * bk_fake. */
	int (*codes_value)(struct bk_run *r, const struct bk_mat *w_hat, const struct bk_mat *codes, const float *scale, const int8_t *zero,
			   const struct bk_grid *grid);
	int (*codes_back)(struct bk_run *r, float *dscale, const struct bk_mat *g, const struct bk_mat *codes, const int8_t *zero,
			  const struct bk_grid *grid);
	/* y = code * scale of quant_tokens(x, kind), or with scale > 0 of quant_static: what a server's activation quantization makes of x. The
	 * gradient passes straight through. y may be x. */
	int (*fake_tokens)(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, enum bk_token_codes kind, float scale);

	/* n floats of the run's memory each */
	/* p -= lr * sign(g); limits may be NULL */
	int (*sign_step)(struct bk_run *r, float *p, const float *g, int64_t n, float lr, const struct bk_limits *limits);
	int (*adam_step)(struct bk_run *r, float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *adam);
	int (*axpy)(struct bk_run *r, float *y, float a, const float *x, int64_t n);         /* y += a x */
	int (*product)(struct bk_run *r, float *y, const float *a, const float *b, int64_t n); /* y = a b; y may be either */
};

/* On runs of bk_run_cpu() and bk_run_ref(), which share their memory. bk_grad_ref: the obvious loops, with sums in double. */
const struct bk_grad_ops *bk_grad_cpu(void);
const struct bk_grad_ops *bk_grad_ref(void);

#endif
