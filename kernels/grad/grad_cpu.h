/* SPDX-License-Identifier: Apache-2.0
 * Inside of the CPU's tuning operations. */
#ifndef BK_GRAD_CPU_H
#define BK_GRAD_CPU_H

#include "kernels/grad/grad_rows.h"
#include "kernels/run/cpu.h"

#define BK_GRAD_OP(name, ...) int bk_grad_cpu_##name(struct bk_run *r, __VA_ARGS__)
BK_GRAD_OP(attention_back, const struct bk_mat *dq, const struct bk_mat *dk, const struct bk_mat *dv, const struct bk_mat *q, const struct bk_mat *k,
	   const struct bk_mat *v, const struct bk_mat *out, const float *lse, const struct bk_mat *dout, const struct bk_attention *a);
BK_GRAD_OP(fake_quant, const struct bk_mat *w_hat, const struct bk_mat *codes, const struct bk_fake *f);
BK_GRAD_OP(fake_quant_back, float *dv, float *dscale, const struct bk_mat *g, const struct bk_fake *f);
BK_GRAD_OP(codes_value, const struct bk_mat *w_hat, const struct bk_mat *codes, const float *scale, const int8_t *zero, const struct bk_grid *grid);
BK_GRAD_OP(codes_back, float *dscale, const struct bk_mat *g, const struct bk_mat *codes, const int8_t *zero, const struct bk_grid *grid);
BK_GRAD_OP(fake_tokens, const struct bk_mat *y, const struct bk_mat *x, enum bk_token_codes kind, float scale);
BK_GRAD_OP(sign_step, float *p, const float *g, int64_t n, float lr, const struct bk_limits *limits);
BK_GRAD_OP(adam_step, float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *adam);
BK_GRAD_OP(axpy, float *y, float a, const float *x, int64_t n);
BK_GRAD_OP(product, float *y, const float *a, const float *b, int64_t n);

static inline int bk_is_io(int dtype) { return dtype == BK_F32 || dtype == BK_BF16; }

#endif
