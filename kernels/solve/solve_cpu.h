/* SPDX-License-Identifier: Apache-2.0
 * Shared by the files of the CPU's solvers: rows of matrices, tiles of rows over threads. */
#ifndef BK_SOLVE_CPU_H
#define BK_SOLVE_CPU_H

#include "kernels/solve/solve.h"

#define TILE  64
#define BLOCK BK_SOLVE_BLOCK

static inline float *row_f(const struct bk_mat *m, int64_t i) { return (float *)m->p + i * m->ld; }
static inline uint16_t *row_h(const struct bk_mat *m, int64_t i) { return (uint16_t *)m->p + i * m->ld; }
static inline int8_t *row_c(const struct bk_mat *m, int64_t i) { return (int8_t *)m->p + i * m->ld; }

static inline void run(const struct bk_solve *s, size_t n, bk_parallel_fn *fn, void *arg)
{
	if (s->parallel) {
		s->parallel(s->parallel_ctx, n, fn, arg);
		return;
	}
	for (size_t i = 0; i < n; i++)
		fn(arg, i);
}

static inline size_t tiles_of(int64_t rows) { return (size_t)((rows + TILE - 1) / TILE); }

/* solve_small_cpu.c, solve_prune_cpu.c */
/* c[m, n] = beta c + alpha a[m, k] b[k, n], one thread */
void bk_cpu_product(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t m, int64_t n, int64_t k, float alpha, float beta);
float *bk_cpu_inverse_diagonal(const struct bk_mat *m); /* malloc'd; NULL: no memory */
int bk_cpu_solve_diff(const struct bk_solve *s, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *codes, const float *scales,
		      const int8_t *zeros, const int32_t *group_of,
		  const struct bk_grid *g);
int bk_cpu_solve_nonfinite(const struct bk_solve *s, uint64_t *found, const struct bk_mat *w);
int bk_cpu_solve_diagonal(const struct bk_solve *s, float *out, const struct bk_mat *h);
int bk_cpu_solve_solve_rows(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *r);
int bk_cpu_solve_over_rms(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *x, const struct bk_mat *y);
int bk_cpu_solve_absmax(const struct bk_solve *s, float *out, const struct bk_mat *w, int64_t width);
int bk_cpu_solve_prune(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		       const struct bk_prune *how);
int bk_cpu_solve_select(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *w, const float *weight, const struct bk_prune *how);
int bk_cpu_solve_add_scaled(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *x, float scale);
int bk_cpu_solve_difference(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *g, const struct bk_mat *h, const int32_t *order);
int bk_cpu_solve_feed(const struct bk_solve *s, const struct bk_mat *c, const struct bk_mat *r, float scale);

#endif
