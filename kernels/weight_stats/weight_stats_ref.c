/* SPDX-License-Identifier: Apache-2.0
 * weight_stats, the obvious way. */
#include "kernels/weight_stats/weight_stats.h"

#include <math.h>
#include <string.h>

#include "kernels/common/num.h"

static uint32_t bits_at(const void *w, enum bk_dtype dtype, int64_t i)
{
	uint16_t h;
	uint32_t u;

	if (dtype == BK_F32) {
		memcpy(&u, (const char *)w + 4 * i, 4);
		return u;
	}
	memcpy(&h, (const char *)w + 2 * i, 2);
	return h;
}

static float value_of(uint32_t bits, enum bk_dtype dtype)
{
	return dtype == BK_F32 ? bk_bits_f32(bits) : dtype == BK_BF16 ? bk_bf16_f32((uint16_t)bits) : bk_f16_f32((uint16_t)bits);
}

uint64_t bk_tops16_ref BK_TOPS16_PARAMS
{
	uint64_t odd = 0;

	for (int64_t r = 0; r < n_rows; r++) {
		row_max[r] = 0;
		for (int64_t c = 0; c < cols; c++) {
			uint16_t a = bits_at(w, BK_BF16, r * cols + c) & 0x7fff;

			if (a >= inf) {
				odd++;
				continue;
			}
			row_max[r] = a > row_max[r] ? a : row_max[r];
			col_max[c] = a > col_max[c] ? a : col_max[c];
		}
	}
	return odd;
}

void bk_ends16_ref BK_ENDS16_PARAMS
{
	for (int64_t i = 0; i < n; i++) {
		uint16_t u = (uint16_t)bits_at(w, BK_BF16, i), a = u & 0x7fff;

		if (a >= inf)
			continue;
		acc->hi = (int16_t)u > acc->hi ? (int16_t)u : acc->hi;
		acc->lo = u > acc->lo ? u : acc->lo;
		acc->least = a < acc->least ? a : acc->least;
	}
}

uint64_t bk_extremes32_ref BK_EXTREMES32_PARAMS
{
	uint64_t odd = 0;

	for (int64_t r = 0; r < n_rows; r++) {
		row_max[r] = 0;
		for (int64_t c = 0; c < cols; c++) {
			uint32_t u = bits_at(w, BK_F32, r * cols + c), a = u & 0x7fffffffu;

			if (a >= 0x7f800000u) {
				odd++;
				continue;
			}
			acc->hi = (int32_t)u > acc->hi ? (int32_t)u : acc->hi;
			acc->lo = u > acc->lo ? u : acc->lo;
			acc->least = a < acc->least ? a : acc->least;
			row_max[r] = fmaxf(row_max[r], bk_bits_f32(a));
			col_max[c] = fmaxf(col_max[c], bk_bits_f32(a));
		}
	}
	return odd;
}

void bk_powers_ref BK_POWERS_PARAMS
{
	(void)top, (void)odd;
	for (int64_t i = 0; i < n; i++) {
		float x = value_of(bits_at(w, dtype, i), dtype);
		double d = isfinite(x) ? x : 0;

		sums[0] += d;
		sums[1] += d * d;
		sums[2] += d * d * d;
		sums[3] += d * d * d * d;
	}
}

int64_t bk_look16_ref BK_LOOK16_PARAMS
{
	int64_t m = 0;

	bk_powers_ref(sums, w, dtype, n, top, odd);
	for (int64_t i = 0; i < n; i++) {
		uint16_t u = (uint16_t)bits_at(w, dtype, i);

		if (!isfinite(value_of(u, dtype)))
			continue;
		if ((u & 0x7fff) >= limit)
			list[m++] = u;
		*below += value_of(u, dtype) < 0;
	}
	return m;
}

void bk_tally16_ref BK_TALLY16_PARAMS
{
	(void)ahead;
	for (int64_t i = 0; i < n; i++)
		counts[bits_at(list, BK_BF16, i)]++;
}

int64_t bk_list32_ref BK_LIST32_PARAMS
{
	int64_t m = 0;

	for (int64_t i = 0; i < n; i++) {
		uint32_t u = bits_at(w, BK_F32, i);

		if ((u & 0x7fffffffu) >= limit)
			list[m++] = u;
		*below += u > 0x80000000u;
	}
	return m;
}

void bk_bins32_ref BK_BINS32_PARAMS
{
	for (int64_t i = 0; i < n; i++) {
		float x = bk_bits_f32(list[i]);

		bins[isfinite(x) ? bk_bin((double)x, (double)absmax, n_bins) : n_bins]++;
	}
}

uint64_t bk_above_ref BK_ABOVE_PARAMS
{
	uint32_t sign = dtype == BK_F32 ? 0x80000000u : 0x8000u;
	uint64_t m = 0;

	for (int64_t i = 0; i < n; i++) {
		uint32_t a = bits_at(w, dtype, i) & ~sign;

		m += a > limit && isfinite(value_of(a, dtype));
	}
	return m;
}

void bk_central_ref BK_CENTRAL_PARAMS
{
	for (int64_t i = 0; i < n; i++) {
		float x = value_of(bits_at(w, BK_F32, i), BK_F32);
		double d = x - mean;

		if (!isfinite(x))
			continue;
		acc->m1 += d;
		acc->m2 += d * d;
		acc->m4 += d * d * d * d;
	}
}
