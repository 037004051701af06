/* SPDX-License-Identifier: Apache-2.0
 * weight_stats against the reference: counts, maxima and bins must be equal, double sums close. Some rows hold NaN and Inf. */
#include <math.h>
#include <string.h>

#include "kernels/common/check.h"
#include "kernels/weight_stats/weight_stats.h"

static int narrow(const struct bk_ops *ops, struct bk_check *c, uint16_t inf)
{
	int64_t rows = bk_check_int(c, 1, 6), cols = bk_check_int(c, 1, 500);
	unsigned char *w = bk_check_alloc((size_t)(rows * cols) * 2, 1);
	uint32_t *counts[2];
	uint16_t *row[2], *col[2], span[2][2] = { { 0xffff, 0 }, { 0xffff, 0 } };
	uint64_t odd[2];
	int bad = 0, mixed = (int)bk_check_int(c, 0, 1);

	for (int64_t i = 0; i < rows * cols; i++) {
		uint16_t u = (uint16_t)bk_check_bits(c);

		if (bk_check_int(c, 0, 19) == 0)
			u &= 0x8000;
		if ((u & 0x7fff) >= inf && !(mixed && bk_check_int(c, 0, 3) == 0))
			u &= 0x83ff;
		memcpy(w + 2 * i, &u, 2);
	}
	for (int k = 0; k < 2; k++) {
		counts[k] = bk_check_alloc(65536 * 4, 4);
		row[k] = bk_check_alloc((size_t)rows * 2, 2);
		col[k] = bk_check_alloc((size_t)cols * 2, 2);
		memset(counts[k], 0, 65536 * 4);
		memset(col[k], 0, (size_t)cols * 2);
		odd[k] = (k ? bk_ops_ref() : ops)->count16(counts[k], span[k], row[k], col[k], w, rows, cols, inf);
	}
	if (memcmp(span[0], span[1], sizeof(span[0])) != 0)
		bad = bk_check_fail(c, "count16: span %#x .. %#x instead of %#x .. %#x", span[0][0], span[0][1], span[1][0], span[1][1]);
	else if (odd[0] != odd[1] || memcmp(counts[0], counts[1], 65536 * 4) != 0)
		bad = bk_check_fail(c, "count16: counts differ");
	else if (memcmp(row[0], row[1], (size_t)rows * 2) != 0 || memcmp(col[0], col[1], (size_t)cols * 2) != 0)
		bad = bk_check_fail(c, "count16: maxima differ for %lld x %lld", (long long)rows, (long long)cols);
	for (int k = 0; k < 2; k++)
		if (!bk_check_free(counts[k]) || !bk_check_free(row[k]) || !bk_check_free(col[k]))
			bad = bk_check_fail(c, "count16 wrote behind an end");
	bk_check_free(w);
	return bad;
}

static int wide(const struct bk_ops *ops, struct bk_check *c)
{
	int64_t rows = bk_check_int(c, 1, 6), cols = bk_check_int(c, 1, 500);
	unsigned char *w = bk_check_alloc((size_t)(rows * cols) * 4, 1);
	struct bk_pass32 a[2];
	struct bk_pass32_central m[2];
	uint64_t bins[2][64];
	float *row[2], *col[2];
	int bad = 0, mixed = (int)bk_check_int(c, 0, 1);

	for (int64_t i = 0; i < rows * cols; i++) {
		float x = (float)(0.1 + bk_check_gauss(c));

		if (mixed && bk_check_int(c, 0, 9) == 0)
			x = bk_check_int(c, 0, 1) ? NAN : bk_check_int(c, 0, 1) ? INFINITY : -INFINITY;
		memcpy(w + 4 * i, &x, 4);
	}
	memset(bins, 0, sizeof(bins));
	for (int k = 0; k < 2; k++) {
		const struct bk_ops *o = k ? bk_ops_ref() : ops;

		row[k] = bk_check_alloc((size_t)rows * 4, 4);
		col[k] = bk_check_alloc((size_t)cols * 4, 4);
		memset(col[k], 0, (size_t)cols * 4);
		a[k] = (struct bk_pass32){ .min = INFINITY, .max = -INFINITY };
		m[k] = (struct bk_pass32_central){ 0 };
		o->pass32(&a[k], row[k], col[k], w, rows, cols);
		o->pass32_central(&m[k], bins[k], 64, w, rows * cols, 0.1, 1.5, 2.5f);
	}
	if (a[0].n_nonfinite != a[1].n_nonfinite || a[0].min != a[1].min || a[0].max != a[1].max ||
	    !bk_check_near(a[0].sum, a[1].sum, 1e-9, 1e-9) || !bk_check_near(a[0].sum2, a[1].sum2, 1e-12, 0))
		bad = bk_check_fail(c, "pass32: sum %g, min %g, max %g instead of %g, %g, %g", a[0].sum, (double)a[0].min, (double)a[0].max,
				    a[1].sum, (double)a[1].min, (double)a[1].max);
	else if (memcmp(row[0], row[1], (size_t)rows * 4) != 0 || memcmp(col[0], col[1], (size_t)cols * 4) != 0)
		bad = bk_check_fail(c, "pass32: maxima differ");
	else if (memcmp(bins[0], bins[1], sizeof(bins[0])) != 0 || m[0].n_outliers != m[1].n_outliers ||
		 !bk_check_near(m[0].m2, m[1].m2, 1e-12, 0) || !bk_check_near(m[0].m4, m[1].m4, 1e-12, 0))
		bad = bk_check_fail(c, "pass32_central differs");
	for (int k = 0; k < 2; k++)
		if (!bk_check_free(row[k]) || !bk_check_free(col[k]))
			bad = bk_check_fail(c, "pass32 wrote behind an end");
	bk_check_free(w);
	return bad;
}

int bk_weight_stats_check(const struct bk_ops *ops, struct bk_check *c)
{
	for (int i = 0; i < 40; i++)
		if (narrow(ops, c, i % 2 ? 0x7f80 : 0x7c00) || wide(ops, c))
			return 1;
	return 0;
}
