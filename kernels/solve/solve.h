/* SPDX-License-Identifier: Apache-2.0
 * Rounding a linear against its inputs' second moments. For W [N, K] and H = sum x xᵀ [K, K] all of these make tr(D H Dᵀ), D = W - Ŵ, small; rows of W are
 * independent. Everything is float32 in the run's memory unless said; codes int8 (or e4m3 bytes, e2m1 patterns); scales are what bk_grid.scale can hold; zeros are grid values.
 *
 *   With P H Pᵀ + damp I = R Rᵀ, R upper triangular, rounding column k of the permuted matrix to the grid point next to
 *       w_k + sum_{j<k} d_j R[j,k] / R[k,k]
 *   is the GPTQ update without an inverse (GPTQ, arXiv 2210.17323; the equivalence: QuIP, arXiv 2307.13304), and |D R|² is the damped loss exactly.
 *
 * A float32 matrix may take the place of another only where that is said. Functions return 0, an error of the run's table, or BK_RUN_REFUSED. Rows do not depend on other rows, nor on the number of threads. */
#ifndef BK_SOLVE_SOLVE_H
#define BK_SOLVE_SOLVE_H

#include "kernels/run/run.h"

#define BK_SOLVE_BLOCK 128 /* columns rounded between two matrix products; changes no result beyond the last bits of sums */

struct bk_solve { /* where it runs */
	const struct bk_run_ops *ops;
	struct bk_run *run;
	void (*parallel)(void *ctx, size_t n, bk_parallel_fn *fn, void *arg); /* CPU only; NULL: in place */
	void *parallel_ctx;
};

struct bk_search { /* scale search: candidates are whole-range scale * (1 - (1 - least) * i / steps), i = 0 .. steps; the smallest sum weight * |w - Q(w)|^norm wins, the larger scale on a tie */
	double least;
	int steps;
	double norm;    /* 0: 2 */
	int full_range; /* symmetric integers: also try absmax / 2^(bits-1) with either sign of scale (a scale may then be negative); E2M1: also absmax / 4 */
};

struct bk_prune { /* how many become 0: `ratio` of all, or (m > 0; 2, 4, 8 or 16) n of every m columns */
	double ratio;
	int n, m;
};

/* What the inputs have lost on the way, made up for column by column (GPTAQ, arXiv 2504.02692). With S = feed(C), C = sum (x - y) yᵀ, H = sum y yᵀ, column k goes
 * to the grid point next to
 *     v_k = w_k + (sum_{j<k} d_j R[j,k] + sum_{j<k} v_j S[j,k]) / R[k,k]
 * which is GPTAQ's update: its P, with which the columns to come move by v_k P[k,:], is S R⁻¹. */
struct bk_feed {
	const struct bk_mat *s, *v; /* s [K, K]; v [N, K]: out, what was rounded. Both or none */
	const float *first;         /* [N]: rounded in the place of column 0; NULL: nothing is */
};

struct bk_solve_ops {
	size_t size;
	/* dst [K, K] (may be h): row and column i are those of order[i] of h (NULL: as they are), mirrored to both triangles, damp added to the diagonal; a
	 * diagonal element that is 0 (a channel that never fired) becomes `dead`. h: lower triangle counts. dst must not be h when order is given. */
	int (*permute_sym)(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *h, const int32_t *order, double damp, double dead);
	/* h (both triangles) becomes R: upper triangle with h = R Rᵀ, zeros below. *failed: 1 when h is not positive definite (h is then garbage). In CUDA, and
	 * beyond 16384 columns on the CPU, no second matrix is needed. */
	int (*factor)(const struct bk_solve *s, const struct bk_mat *h, int *failed);
	/* dst[:, i] = src[:, order[i]] (back: dst[:, order[i]] = src[:, i]); float32, bfloat16 or codes */
	int (*permute_cols)(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *src, const int32_t *order, int back);
	/* scales [N, spr], zeros [N, spr] or NULL; weight [K] >= 0: importance of a column. Refused, like refit, where scales are given. */
	int (*scale_search)(const struct bk_solve *s, float *scales, int8_t *zeros, const struct bk_mat *w, const float *weight, const struct bk_grid *g,
			    const struct bk_search *how);
	/* codes, d <- w, all [N, K] in the order of R's columns (d may be w); group_of [K]: the scale's index of each column. g FULL: codes are bfloat16, scales and
	 * zeros are not looked at. f: more flows into each column; NULL: nothing more. mask [N, K] (int8): where it is not 0 the weight becomes 0 (with a zero point:
	 * the code that stands for it); NULL: nowhere. */
	int (*round)(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r,
		     const float *scales, const int8_t *zeros, const int32_t *group_of, const struct bk_grid *g, const struct bk_feed *f, const struct bk_mat *mask);
	/* Coordinate descent from codes and d (= W - Ŵ): each code in turn goes where the loss is smallest, others fixed. h: both triangles. */
	int (*descend)(const struct bk_solve *s, const struct bk_mat *codes, const struct bk_mat *d, const struct bk_mat *h, const float *scales,
		       const int8_t *zeros, const struct bk_grid *g, int sweeps);
	/* The best scales for the codes (normal equations per row), rounded to what can be stored; a row keeps its old ones unless the loss falls. d follows. */
	int (*refit)(const struct bk_solve *s, float *scales, const struct bk_mat *d, const struct bk_mat *codes, const struct bk_mat *w, const struct bk_mat *h,
		     const int8_t *zeros, const struct bk_grid *g);
	/* loss[n] = row n of d · h · dᵀ, both triangles of h; base likewise for w: what a relative error divides by. float64 sums. */
	int (*loss)(const struct bk_solve *s, double *loss, const struct bk_mat *d, const struct bk_mat *h);
	/* d = w - what codes, scales [N, spr] and zeros stand for (d may be w); group_of [K] in the run's memory, NULL: columns stand in the order of groups */
	int (*diff)(const struct bk_solve *s, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *codes, const float *scales, const int8_t *zeros,
		    const int32_t *group_of, const struct bk_grid *g);
	/* w float32. found [2] in the run's memory, zeroed by the caller: += how many elements are not finite, max= 1 + N K - the index of the first of them, counted
	 * from 0 row by row. They become 0. */
	int (*nonfinite)(const struct bk_solve *s, uint64_t *found, const struct bk_mat *w);
	int (*diagonal)(const struct bk_solve *s, float *out, const struct bk_mat *h); /* out [K] in the run's memory */
	/* y [N, K] := y (R Rᵀ)⁻¹, r as factor made it */
	int (*solve_rows)(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *r);
	/* dst (shape and type of x, BF16 or F32) = x, each row over the root mean square of the same row of y (0: as it is); x and y of one type */
	int (*over_rms)(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *x, const struct bk_mat *y);
	int (*add_scaled)(const struct bk_solve *s, const struct bk_mat *y, const struct bk_mat *x, float a); /* y += a x, float32 */
	/* SparseGPT (arXiv 2301.00774): mask [N, K] int8, 1 where a weight becomes 0; d = w - what is left, which makes up for it. Of each block of BK_SOLVE_BLOCK
	 * columns (in R's order) those with the smallest (weight as updated so far * R[k,k])^2 go, over all rows; n of m columns (in R's order): row by row.
	 * d may be w. */
	int (*prune)(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *d, const struct bk_mat *w, const struct bk_mat *r, const struct bk_prune *how);
	/* mask: row by row the smallest |w| * weight[k] (the lower column of equals), (int)(ratio * K) of them or n of m */
	int (*select)(const struct bk_solve *s, const struct bk_mat *mask, const struct bk_mat *w, const float *weight, const struct bk_prune *how);
	int (*absmax)(const struct bk_solve *s, float *out, const struct bk_mat *w, int64_t width); /* out [N, K / width]: largest |w| of `width` columns; w finite */
	/* dst [K, K] = g - h, both triangles, with rows and columns in `order` (NULL: as they are; else dst is neither of them). */
	int (*difference)(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *g, const struct bk_mat *h, const int32_t *order);
	/* c [K, K] := a (c R⁻ᵀ), of which only what is above the diagonal stays */
	int (*feed)(const struct bk_solve *s, const struct bk_mat *c, const struct bk_mat *r, float a);
};

const struct bk_solve_ops *bk_solve_cpu(void);
struct bk_check;
int bk_solve_check(const struct bk_solve *s, const struct bk_solve_ops *ops, struct bk_check *c); /* against the CPU's; kernels/common/check.h */

#endif
