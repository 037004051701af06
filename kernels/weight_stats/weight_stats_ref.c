/* SPDX-License-Identifier: Apache-2.0
 * weight_stats, the obvious way. */
#include "kernels/weight_stats/weight_stats.h"

#include <math.h>
#include <string.h>

uint64_t bk_count16_ref BK_COUNT16_PARAMS
{
	uint64_t odd = 0;

	for (int64_t r = 0; r < n_rows; r++) {
		row_max[r] = 0;
		for (int64_t c = 0; c < cols; c++) {
			uint16_t u, a;

			memcpy(&u, (const char *)w + 2 * (r * cols + c), 2);
			counts[u]++;
			a = u & 0x7fff;
			if (a && a < span[0])
				span[0] = a;
			if (a > span[1])
				span[1] = a;
			if (a >= inf) {
				odd++;
				continue;
			}
			if (a > row_max[r])
				row_max[r] = a;
			if (a > col_max[c])
				col_max[c] = a;
		}
	}
	return odd;
}

void bk_pass32_ref BK_PASS32_PARAMS
{
	for (int64_t r = 0; r < n_rows; r++) {
		row_max[r] = 0;
		for (int64_t c = 0; c < cols; c++) {
			float x;

			memcpy(&x, (const char *)w + 4 * (r * cols + c), 4);
			if (!isfinite(x)) {
				acc->n_nonfinite++;
				continue;
			}
			acc->sum += x;
			acc->sum2 += (double)x * x;
			acc->min = fminf(acc->min, x);
			acc->max = fmaxf(acc->max, x);
			row_max[r] = fmaxf(row_max[r], fabsf(x));
			col_max[c] = fmaxf(col_max[c], fabsf(x));
		}
	}
}

void bk_pass32_central_ref BK_PASS32_CENTRAL_PARAMS
{
	for (int64_t i = 0; i < n; i++) {
		float x;
		double d;

		memcpy(&x, (const char *)w + 4 * i, 4);
		if (!isfinite(x))
			continue;
		d = x - mean;
		acc->m2 += d * d;
		acc->m4 += d * d * d * d;
		acc->n_outliers += fabs((double)x) > limit;
		bins[bk_bin(x, absmax, n_bins)]++;
	}
}
