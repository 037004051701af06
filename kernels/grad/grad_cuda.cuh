/* SPDX-License-Identifier: Apache-2.0
 * Inside of the CUDA module's tuning operations. */
#ifndef BK_GRAD_CUDA_CUH
#define BK_GRAD_CUDA_CUH

#include "kernels/run/run_cuda.cuh"

extern "C" {
#include "kernels/grad/grad.h"
}

#define BK_GRAD_OP(name, ...) int bk_grad_cuda_##name(struct bk_run *r, __VA_ARGS__)
/* grad_rows.cu */
BK_GRAD_OP(rmsnorm_back, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, const struct bk_norm *n, const struct bk_mat *dy, int add);
BK_GRAD_OP(head_norm_rope, const struct bk_mat *y, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
	   const struct bk_rope *rope);
BK_GRAD_OP(head_norm_rope_back, const struct bk_mat *dx, float *dweight, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n,
	   const struct bk_rope *rope, const struct bk_mat *dy);
/* grad_elements.cu */
BK_GRAD_OP(gate_back, const struct bk_mat *dg, const struct bk_mat *du, const struct bk_mat *g, const struct bk_mat *u, const struct bk_mat *dh,
	   enum bk_gate kind);
BK_GRAD_OP(softcap_back, const struct bk_mat *dx, const struct bk_mat *y, const struct bk_mat *dy, double cap);
BK_GRAD_OP(kl_back, const struct bk_mat *dq, float *kl, const struct bk_mat *p, const struct bk_mat *q, float scale);
BK_GRAD_OP(mse_back, const struct bk_mat *d, double *sum, const struct bk_mat *a, const struct bk_mat *b, float scale);
BK_GRAD_OP(sign_step, float *p, const float *g, int64_t n, float lr, const struct bk_limits *limits);
BK_GRAD_OP(adam_step, float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *adam);
BK_GRAD_OP(axpy, float *y, float a, const float *x, int64_t n);
BK_GRAD_OP(product, float *y, const float *a, const float *b, int64_t n);
/* grad_quant.cu */
BK_GRAD_OP(fake_quant, const struct bk_mat *w_hat, const struct bk_mat *codes, const struct bk_fake *f);
BK_GRAD_OP(fake_quant_back, float *dv, float *dscale, const struct bk_mat *g, const struct bk_fake *f);
BK_GRAD_OP(codes_value, const struct bk_mat *w_hat, const struct bk_mat *codes, const float *scale, const int8_t *zero, const struct bk_grid *grid);
BK_GRAD_OP(codes_back, float *dscale, const struct bk_mat *g, const struct bk_mat *codes, const int8_t *zero, const struct bk_grid *grid);
BK_GRAD_OP(fake_tokens, const struct bk_mat *y, const struct bk_mat *x, enum bk_token_codes kind, float scale);
/* grad_attention.cu, grad_flash.cu */
BK_GRAD_OP(attention_lse, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
	   const struct bk_attention *a);
BK_GRAD_OP(attention_back, const struct bk_mat *dq, const struct bk_mat *dk, const struct bk_mat *dv, const struct bk_mat *q, const struct bk_mat *k,
	   const struct bk_mat *v, const struct bk_mat *out, const float *lse, const struct bk_mat *dout, const struct bk_attention *a);

struct bk_back { /* one call of attention_back */
	struct bk_mat dq, dk, dv, q, k, v, dout;
	const float *lse, *delta; /* [rows, heads] */
	const struct bk_attention *a;
};
int bk_grad_flash(struct bk_run *r, const struct bk_back *b, bool *done); /* where the tensor cores can */

static inline bool bk_alike(const struct bk_mat *a, const struct bk_mat *b) { return bk_same_shape(a, b) && a->dtype == b->dtype; }

#endif
