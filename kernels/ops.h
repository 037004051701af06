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

struct bk_pass32 { /* first pass over float32 rows: finite elements only */
	uint64_t n_nonfinite;
	double sum, sum2;
	float min, max; /* +inf, -inf when there is no finite element */
};
struct bk_pass32_central { /* second pass, around a given mean */
	double m2, m4;
	uint64_t n_outliers; /* |w| > limit */
};

struct bk_ops {
	size_t size;      /* sizeof(struct bk_ops) */
	const char *name; /* "ref", "base", "avx2", "avx512" */
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
	uint64_t (*count16)(uint32_t *counts, uint16_t *span, uint16_t *row_max, uint16_t *col_max, const void *w, int64_t n_rows, int64_t cols,
			    uint16_t inf);
	void (*pass32)(struct bk_pass32 *acc, float *row_max, float *col_max, const void *w, int64_t n_rows, int64_t cols);
	void (*pass32_central)(struct bk_pass32_central *acc, uint64_t *bins, int n_bins, const void *w, int64_t n, double mean, double limit,
			       float absmax);
};

const struct bk_ops *bk_ops_ref(void);
/* Tables this processor can run, slowest first; NULL beyond the last. bk_ops_cpu() is the last of them. */
const struct bk_ops *bk_ops_level(int i);
const struct bk_ops *bk_ops_cpu(void);

/* The bin of a finite x; shared by all who fill such a histogram. */
static inline int bk_bin(double x, double absmax, int n_bins)
{
	int b;

	if (!(absmax > 0))
		return n_bins / 2;
	b = (int)((x + absmax) / (2 * absmax) * n_bins);
	return b < 0 ? 0 : b >= n_bins ? n_bins - 1 : b;
}

#endif
