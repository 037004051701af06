/* SPDX-License-Identifier: Apache-2.0
 * What the kernels offer, as tables of functions. One table per instruction set, one of obvious loops to check against, and (in the
 * CUDA module) one whose pointers are device pointers. Contracts of the operations: kernels/<op>/<op>.h. */
#ifndef BK_OPS_H
#define BK_OPS_H

#include <stddef.h>
#include <stdint.h>

enum bk_dtype { BK_BF16 = 1, BK_F16, BK_F32 };
enum bk_number { BK_INT = 1, BK_E4M3 = 2, BK_E2M1 = 3, BK_FULL = 4 }; /* E2M1: solvers only, codes are the stored patterns; FULL: the same, values in bfloat16 */
/* What a scale can be (solvers): bfloat16; a power of two; an E4M3 value over bk_grid.unit; shared by rows, so that none is sought or refitted. */
enum bk_scale { BK_SCALE_BF16, BK_SCALE_POW2, BK_SCALE_E4M3, BK_SCALE_GIVEN };
enum bk_quotient { BK_QUOTIENT_BF16 = 0, BK_QUOTIENT_F32 = 1 };

struct bk_grid { /* where codes live */
	int number;    /* enum bk_number */
	int bits;      /* 2..8 */
	int symmetric; /* 0: a zero point per scale (integers only) */
	int64_t group; /* columns per scale, divides cols; 0: one scale per row */
	int scale;     /* enum bk_scale */
	float unit;    /* BK_SCALE_E4M3: what the stored scales are over */
};

struct bk_moments { /* finite elements only */
	uint64_t n_nonfinite;
	double sum, sum2;
	float min, max; /* +inf, -inf when there is no finite element */
};
struct bk_central { /* around a given mean */
	double m1, m2, m4;
};

/* Bit patterns of finite elements, from which the smallest and the largest follow whatever their signs. Start: BK_NO_EXTREMES. */
struct bk_extremes {
	int32_t hi;     /* the largest as a signed number: the largest element, if one is not negative */
	uint32_t lo;    /* the largest as an unsigned number: the smallest element, if one is negative */
	uint32_t least; /* the smallest without sign */
};
#define BK_NO_EXTREMES { INT32_MIN, 0, UINT32_MAX }

#define BK_RUN       512 /* elements between additions of double numbers */
#define BK_LIST_ROOM 32 /* entries of a list that are written and mean nothing */

struct bk_ops {
	size_t size;      /* sizeof(struct bk_ops) */
	const char *name; /* "ref", "base", "avx2", "avx512", "avx512vbmi2" */
	int lists;        /* look16 is faster than tally16 of everything */
	/* load_rows */
	int (*load_rows)(float *dst, const void *src, enum bk_dtype dtype, int64_t n);
	/* quant_rows */
	void (*range)(float *lo, float *hi, const float *w, int64_t n_rows, int64_t cols, const struct bk_grid *g);
	void (*scales)(float *scales, int8_t *zeros, const float *lo, const float *hi, int64_t n, double shrink, const struct bk_grid *g);
	void (*encode)(int8_t *codes, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		       const struct bk_grid *g, enum bk_quotient quotient);
	void (*decode)(float *w_hat, const int8_t *codes, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		       const struct bk_grid *g);
	void (*error)(float *err, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		      const struct bk_grid *g, enum bk_quotient quotient, double norm);
	void (*sum_squares)(double *w2, double *e2, const float *w, const float *w_hat, int64_t n);
	/* weight_stats */
	uint64_t (*tops16)(uint16_t *row_max, uint16_t *col_max, const void *w, int64_t n_rows, int64_t cols, uint16_t inf);
	void (*ends16)(struct bk_extremes *acc, const void *w, int64_t n, uint16_t inf);
	uint64_t (*extremes32)(struct bk_extremes *acc, float *row_max, float *col_max, const void *w, int64_t n_rows, int64_t cols);
	void (*powers)(double *sums, const void *w, enum bk_dtype dtype, int64_t n, int top, int odd);
	int64_t (*look16)(double *sums, uint16_t *list, uint64_t *below, const void *w, enum bk_dtype dtype, int64_t n, int top, uint16_t limit,
			  int odd);
	int64_t (*sweep16)(uint16_t *row_max, uint16_t *col_max, double *sums, uint16_t *list, uint64_t *below, const void *w, int64_t n_rows, int64_t cols,
			   uint16_t limit); /* may be NULL */
	void (*tally16)(uint32_t *counts, const void *list, int64_t n, int64_t ahead);
	int64_t (*list32)(uint32_t *list, uint64_t *below, const void *w, int64_t n, uint32_t limit);
	void (*bins32)(uint64_t *bins, const uint32_t *list, int64_t n, float absmax, int n_bins);
	uint64_t (*above)(const void *w, enum bk_dtype dtype, int64_t n, uint32_t limit);
	void (*central)(struct bk_central *acc, const void *w, int64_t n, double mean);
};

const struct bk_ops *bk_ops_ref(void);
/* Tables this processor can run, slowest first; NULL beyond the last. bk_ops_cpu() is the last of them. */
const struct bk_ops *bk_ops_level(int i);
const struct bk_ops *bk_ops_cpu(void);

/* The bin of a finite x; shared by all who fill such a histogram. n_bins is even. */
static inline int bk_bin(double x, double absmax, int n_bins)
{
	int b;

	if (!(absmax > 0))
		return n_bins / 2;
	b = (int)((x + absmax) / (2 * absmax) * n_bins);
	b -= x < 0 && b == n_bins / 2; /* absmax swallowed it */
	return b < 0 ? 0 : b >= n_bins ? n_bins - 1 : b;
}

#endif
