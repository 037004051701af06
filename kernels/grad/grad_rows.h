/* SPDX-License-Identifier: Apache-2.0
 * What the CPU's operations of grad.h do to one row of float32, beside kernels/run/rows.h. All variants give the same bits. */
#ifndef BK_GRAD_ROWS_H
#define BK_GRAD_ROWS_H

#include "kernels/grad/grad.h"
#include "kernels/run/rows.h"

struct bk_point { float s, z, lo, hi; int number; }; /* the grid under one scale; s 0: nothing there */

/* dw and v may be NULL where grad.h says that they may. name, result, parameters, arguments */
#define BK_GRAD_ROWS(X)                                                                                                                            \
	X(norm_back, void, (float *dx, float *dw, const float *x, const float *w, const float *dy, int64_t n, double eps, int plus_one),           \
	  (dx, dw, x, w, dy, n, eps, plus_one))                                                                                                    \
	X(rope_back, void, (float *x, const float *c, const float *s, int64_t half, int round), (x, c, s, half, round))                           \
	X(gate_back, void, (float *dg, float *du, const float *g, const float *u, const float *dh, int64_t n, int kind),                           \
	  (dg, du, g, u, dh, n, kind))                                                                                                             \
	X(softcap_back, void, (float *dx, const float *y, const float *dy, float cap, int64_t n), (dx, y, dy, cap, n))                            \
	X(soft_diff, void, (float *dq, const float *p, float lse_p, const float *q, float lse_q, float f, int64_t n),                              \
	  (dq, p, lse_p, q, lse_q, f, n))                                                                                                          \
	X(diff, void, (float *d, const float *a, const float *b, float f, int64_t n), (d, a, b, f, n))                                            \
	X(score_back, void, (float *p, float *dp, const float *s, float lse, float delta, float scale, float cap, int64_t n),                     \
	  (p, dp, s, lse, delta, scale, cap, n))                                                                                                   \
	X(fake, void, (float *w_hat, float *q, const float *w, const float *v, int64_t n, const struct bk_point *g), (w_hat, q, w, v, n, g))      \
	X(fake_back, float, (float *dv, const float *dw, const float *w, const float *v, int64_t n, const struct bk_point *g), (dv, dw, w, v, n, g)) \
	X(code_back, float, (const float *dw, const float *q, int64_t n, float z), (dw, q, n, z))                                                 \
	X(code_value, void, (float *w_hat, const float *q, int64_t n, const struct bk_point *g), (w_hat, q, n, g))                                \
	X(to_e4m3, void, (uint8_t *c, const float *q, int64_t n), (c, q, n))                                                                      \
	X(to_i8, void, (int8_t *c, const float *q, int64_t n), (c, q, n))                                                                         \
	X(sign, void, (float *p, const float *g, int64_t n, float lr), (p, g, n, lr))                                                             \
	X(adam, void, (float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *a, float c1, float c2),                      \
	  (p, m, v, g, n, a, c1, c2))                                                                                                              \
	X(limit, void, (float *p, int64_t n, float lo, float hi), (p, n, lo, hi))                                                                 \
	X(axpy, void, (float *y, float a, const float *x, int64_t n), (y, a, x, n))                                                               \
	X(product, void, (float *y, const float *a, const float *b, int64_t n), (y, a, b, n))

struct bk_grad_rows { BK_GRAD_ROWS(BK_FIELD) };
const struct bk_grad_rows *bk_grad_rows_best(void);
const struct bk_grad_rows *bk_grad_rows_level(int i); /* NULL beyond the last that this processor runs */

#endif
