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

/* What goes over the columns of a tile of rows: rounding, descent, refit. */
struct round_args {
	const struct bk_mat *codes, *d, *w, *r, *h, *mask, *s, *v; /* s, v: bk_feed's */
	const float *first;
	float *scales;
	const int8_t *zeros;
	const int32_t *group_of; /* NULL: column / width */
	struct bk_grid g;
	int64_t spr, width;
	int sweeps;
	float *inv;              /* [K] 1 / diagonal */
	int no_memory;
};

static inline float zero_of(const struct round_args *a, int64_t row, int64_t group) { return a->zeros ? (float)a->zeros[row * a->spr + group] : 0; }

/* solve_factor_cpu.c, solve_scales_cpu.c, solve_round_cpu.c, solve_small_cpu.c, solve_prune_cpu.c: as in solve.h */
int bk_cpu_solve_permute_sym(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *h, const int32_t *order, double damp, double dead);
int bk_cpu_solve_factor(const struct bk_solve *s, const struct bk_mat *h, int *failed);
int bk_cpu_solve_permute_cols(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *src, const int32_t *order, int back);
int bk_cpu_solve_scale_search(const struct bk_solve *s, float *scales, int8_t *zeros, const struct bk_mat *w, const float *weight, const struct bk_grid *g,
			      const struct bk_search *how);
int bk_cpu_solve_round(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r, const float *scales,
		       const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f, const struct bk_mat *mask);
int bk_cpu_solve_descend(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *h, const float *scales, const int8_t *zeros,
			 const struct bk_grid *g, int sweeps);
int bk_cpu_solve_refit(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
		       const int8_t *zeros, const struct bk_grid *g);
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
