/* SPDX-License-Identifier: Apache-2.0
 * Shared by the files of the GPU's solvers. */
#ifndef BK_SOLVE_CUDA_CUH
#define BK_SOLVE_CUDA_CUH

#include "kernels/run/run_cuda.cuh"

extern "C" {
#include "kernels/solve/solve.h"
}
#include "kernels/solve/solve_grid.h"

#define ROWS    64 /* rows (threads) of a thread block that has a row per thread */
#define PANEL   64 /* of the factor */
#define THREADS 256

struct view { /* what a kernel needs of a bk_mat of float32 */
	float *p;
	int64_t ld;
};

static inline struct view view_of(const struct bk_mat *m) { return { (float *)m->p, m->ld }; }
static inline unsigned blocks_of(int64_t n, int64_t per) { return (unsigned)((n + per - 1) / per); }
static inline struct bk_mat part(const struct bk_mat *m, int64_t row, int64_t col, int64_t rows, int64_t cols)
{
	return { (float *)m->p + row * m->ld + col, rows, cols, m->ld, BK_F32 };
}

/* solve_factor.cu, solve_scales.cu, solve_round.cu, solve_small.cu, solve_prune.cu: as in solve.h */
int bk_solve_permute_sym(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *h, const int32_t *order, double damp, double dead);
int bk_solve_factor(const struct bk_solve *s, const struct bk_mat *h, int *failed);
int bk_solve_permute_cols(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *src, const int32_t *order, int back);
int bk_solve_scale_search(const struct bk_solve *s, float *scales, int8_t *zeros, const struct bk_mat *w, const float *weight, const struct bk_grid *g,
			  const struct bk_search *how);
int bk_solve_round(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r, const float *scales,
		   const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f, const struct bk_mat *mask);
int bk_solve_descend(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *h, const float *scales, const int8_t *zeros,
		     const struct bk_grid *g, int sweeps);
int bk_solve_refit(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
		   const int8_t *zeros, const struct bk_grid *g);
int bk_solve_diff(const struct bk_solve *s, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *codes, const float *scales, const int8_t *zeros, const int32_t *group_of,
		  const struct bk_grid *g);
int bk_solve_nonfinite(const struct bk_solve *s, uint64_t *found, const struct bk_mat *w);
int bk_solve_diagonal(const struct bk_solve *s, float *out, const struct bk_mat *h);
int bk_solve_solve_rows(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *r);
int bk_solve_over_rms(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *x, const struct bk_mat *y);
int bk_solve_prune(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r, const struct bk_prune *how);
int bk_solve_select(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *w, const float *weight, const struct bk_prune *how);
int bk_solve_absmax(const struct bk_solve *s, float *out, const struct bk_mat *w, int64_t width);
int bk_solve_add_scaled(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *x, float a);
int bk_solve_difference(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *g, const struct bk_mat *h, const int32_t *order);
int bk_solve_feed(const struct bk_solve *s, const struct bk_mat *c, const struct bk_mat *r, float a);

#endif
