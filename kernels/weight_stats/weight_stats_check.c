/* SPDX-License-Identifier: Apache-2.0
 * weight_stats against the reference: counts, maxima and lists must be equal, sums close. Some rows hold NaN and Inf. */
#include <math.h>
#include <string.h>

#include "kernels/common/check.h"
#include "kernels/common/num.h"
#include "kernels/weight_stats/weight_stats.h"

static int same_extremes(const struct bk_extremes *a, const struct bk_extremes *b)
{
	return a->hi == b->hi && a->lo == b->lo && a->least == b->least;
}

static int narrow_extremes(const struct bk_ops *ops, struct bk_check *c, uint16_t inf)
{
	int64_t rows = bk_check_int(c, 1, 6), cols = bk_check_int(c, 1, 500);
	unsigned char *w = bk_check_alloc((size_t)(rows * cols) * 2, 1);
	struct bk_extremes ends[2] = { BK_NO_EXTREMES, BK_NO_EXTREMES };
	uint16_t *row[2], *col[2];
	uint64_t odd[2];
	int bad = 0, mixed = (int)bk_check_int(c, 0, 1), sign = (int)bk_check_int(c, 0, 2);

	for (int64_t i = 0; i < rows * cols; i++) {
		uint16_t u = (uint16_t)bk_check_bits(c);

		if (bk_check_int(c, 0, 19) == 0)
			u &= 0x8000;
		if ((u & 0x7fff) >= inf && !(mixed && bk_check_int(c, 0, 3) == 0))
			u &= 0x83ff;
		u = sign == 0 ? u : sign == 1 ? u | 0x8000 : u & 0x7fff;
		memcpy(w + 2 * i, &u, 2);
	}
	for (int k = 0; k < 2; k++) {
		row[k] = bk_check_alloc((size_t)rows * 2, 2);
		col[k] = bk_check_alloc((size_t)cols * 2, 2);
		memset(col[k], 0, (size_t)cols * 2);
		odd[k] = (k ? bk_ops_ref() : ops)->tops16(row[k], col[k], w, rows, cols, inf);
		(k ? bk_ops_ref() : ops)->ends16(&ends[k], w, rows * cols, inf);
	}
	if (odd[0] != odd[1] || !same_extremes(&ends[0], &ends[1]))
		bad = bk_check_fail(c, "ends16: %#x %#x %#x instead of %#x %#x %#x", (unsigned)ends[0].hi, ends[0].lo, ends[0].least,
				    (unsigned)ends[1].hi, ends[1].lo, ends[1].least);
	else if (memcmp(row[0], row[1], (size_t)rows * 2) != 0 || memcmp(col[0], col[1], (size_t)cols * 2) != 0)
		bad = bk_check_fail(c, "tops16: maxima differ for %lld x %lld", (long long)rows, (long long)cols);
	for (int k = 0; k < 2; k++)
		if (!bk_check_free(row[k]) || !bk_check_free(col[k]))
			bad = bk_check_fail(c, "tops16 wrote behind an end");
	bk_check_free(w);
	return bad;
}

static int wide_extremes(const struct bk_ops *ops, struct bk_check *c)
{
	int64_t rows = bk_check_int(c, 1, 6), cols = bk_check_int(c, 1, 500);
	unsigned char *w = bk_check_alloc((size_t)(rows * cols) * 4, 1);
	struct bk_extremes ends[2] = { BK_NO_EXTREMES, BK_NO_EXTREMES };
	struct bk_central m[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	uint64_t odd[2];
	float *row[2], *col[2];
	int bad = 0, mixed = (int)bk_check_int(c, 0, 1), sign = (int)bk_check_int(c, 0, 2);

	for (int64_t i = 0; i < rows * cols; i++) {
		float x = (float)(0.1 + bk_check_gauss(c));

		x = sign == 0 ? x : sign == 1 ? -fabsf(x) : fabsf(x);
		if (mixed && bk_check_int(c, 0, 9) == 0)
			x = bk_check_int(c, 0, 1) ? NAN : bk_check_int(c, 0, 1) ? INFINITY : -INFINITY;
		memcpy(w + 4 * i, &x, 4);
	}
	for (int k = 0; k < 2; k++) {
		const struct bk_ops *o = k ? bk_ops_ref() : ops;

		row[k] = bk_check_alloc((size_t)rows * 4, 4);
		col[k] = bk_check_alloc((size_t)cols * 4, 4);
		memset(col[k], 0, (size_t)cols * 4);
		odd[k] = o->extremes32(&ends[k], row[k], col[k], w, rows, cols);
		o->central(&m[k], w, rows * cols, 0.1);
	}
	if (odd[0] != odd[1] || !same_extremes(&ends[0], &ends[1]))
		bad = bk_check_fail(c, "extremes32: %#x %#x %#x instead of %#x %#x %#x", (unsigned)ends[0].hi, ends[0].lo, ends[0].least,
				    (unsigned)ends[1].hi, ends[1].lo, ends[1].least);
	else if (memcmp(row[0], row[1], (size_t)rows * 4) != 0 || memcmp(col[0], col[1], (size_t)cols * 4) != 0)
		bad = bk_check_fail(c, "extremes32: maxima differ");
	else if (!bk_check_near(m[0].m1, m[1].m1, 1e-12, 1e-9) || !bk_check_near(m[0].m2, m[1].m2, 1e-12, 0) || !bk_check_near(m[0].m4, m[1].m4, 1e-12, 0))
		bad = bk_check_fail(c, "central: %g %g instead of %g %g", m[0].m2, m[0].m4, m[1].m2, m[1].m4);
	for (int k = 0; k < 2; k++)
		if (!bk_check_free(row[k]) || !bk_check_free(col[k]))
			bad = bk_check_fail(c, "extremes32 wrote behind an end");
	bk_check_free(w);
	return bad;
}

/* n elements, |w| < 2^top; some small, some at the limit, zeros of both signs, some not finite */
static void fill(struct bk_check *c, unsigned char *w, enum bk_dtype dtype, int64_t n, int top, int odd)
{
	for (int64_t i = 0; i < n; i++) {
		int kind = (int)bk_check_int(c, 0, 15);
		float x = (float)ldexp(bk_check_unit(c), top - (kind < 4 ? 3 * kind : 1));
		uint32_t u;
		uint16_t h;

		if (kind == 4)
			x = 0;
		else if (kind == 5)
			x = (float)ldexp(1, top - 5);
		else if (kind == 6)
			x = nextafterf((float)ldexp(1, top - 5), 0);
		u = bk_f32_bits(bk_check_int(c, 0, 1) ? x : -x);
		if (odd && kind == 7)
			u |= 0x7f800000u;
		if (dtype == BK_F32) {
			memcpy(w + 4 * i, &u, 4);
			continue;
		}
		h = (uint16_t)(u >> 16);
		if (dtype == BK_F16) { /* of the right size, any bits below */
			int e = (int)(u >> 23 & 0xff) - 112;

			h = (uint16_t)((u >> 16 & 0x8000) | (uint32_t)(e < 0 ? 0 : e > 31 ? 31 : e) << 10 | (u >> 13 & 0x3ff));
		}
		memcpy(w + 2 * i, &h, 2);
	}
}

static int same_sums(struct bk_check *c, const double *got, const double *want, int64_t n, int top)
{
	for (int k = 0; k < 4; k++)
		if (!bk_check_near(got[k], want[k], k % 2 ? 3e-6 : 0, k % 2 ? 0 : 3e-6 * (double)n * ldexp(1, (k + 1) * top)))
			return bk_check_fail(c, "powers: sum %d is %g instead of %g", k + 1, got[k], want[k]);
	return 0;
}

static int narrow_lists(const struct bk_ops *ops, struct bk_check *c, enum bk_dtype dtype)
{
	int64_t n = bk_check_int(c, 0, 3) ? bk_check_int(c, 0, 700) : bk_check_int(c, 700, 9000), listed[2];
	int top = dtype == BK_F16 ? (int)bk_check_int(c, -8, 15) : (int)bk_check_int(c, BK_TOP_MIN, 120), odd = (int)bk_check_int(c, 0, 1);
	unsigned char *w = bk_check_alloc((size_t)n * 2, 1);
	uint16_t *list[2], limit = bk_check_int(c, 0, 7) ? (uint16_t)(dtype == BK_F16 ? (top + 10) << 10 : (top + 122) << 7) : 1;
	uint32_t *counts[2];
	uint64_t below[2] = { 0 }, above[2];
	double sums[2][4] = { { 0 }, { 0 } }, plain[4] = { 0 };
	int bad = 0;

	fill(c, w, dtype, n, top, odd);
	for (int k = 0; k < 2; k++) {
		const struct bk_ops *o = k ? bk_ops_ref() : ops;

		list[k] = bk_check_alloc((size_t)(n + BK_LIST_ROOM) * 2, 2);
		counts[k] = bk_check_alloc(65536 * 4, 4);
		memset(counts[k], 0, 65536 * 4);
		listed[k] = o->look16(sums[k], list[k], &below[k], w, dtype, n, top, limit, odd);
		o->tally16(counts[k], list[k], listed[k], k ? 0 : 128);
		above[k] = o->above(w, dtype, n, limit);
	}
	ops->powers(plain, w, dtype, n, top, odd);
	if (bk_check_int(c, 0, 1)) { /* the other way of counting, whichever this table has */
		memset(counts[0], 0, 65536 * 4);
		bk_tally16_loads(counts[0], list[0], listed[0], 0);
	}
	if (listed[0] != listed[1] || memcmp(list[0], list[1], (size_t)listed[0] * 2) != 0 || below[0] != below[1])
		bad = bk_check_fail(c, "look16: %lld listed, %llu below zero instead of %lld, %llu of %lld", (long long)listed[0],
				    (unsigned long long)below[0], (long long)listed[1], (unsigned long long)below[1], (long long)n);
	else if (memcmp(counts[0], counts[1], 65536 * 4) != 0)
		bad = bk_check_fail(c, "tally16: counts differ");
	else if (above[0] != above[1])
		bad = bk_check_fail(c, "above: %llu instead of %llu", (unsigned long long)above[0], (unsigned long long)above[1]);
	else
		bad = same_sums(c, sums[0], sums[1], n, top) || same_sums(c, plain, sums[1], n, top);
	for (int k = 0; k < 2; k++)
		if (!bk_check_free(list[k]) || !bk_check_free(counts[k]))
			bad = bk_check_fail(c, "look16 or tally16 wrote behind an end");
	bk_check_free(w);
	return bad;
}

/* sweep16 against tops16 and look16, which ask for less. */
static int swept(const struct bk_ops *ops, struct bk_check *c)
{
	const int64_t cols = BK_RUN * bk_check_int(c, 1, 5), rows = bk_check_int(c, 1, 5), n = rows * cols;
	const int top = (int)bk_check_int(c, -BK_PLAIN_TOP - 3, BK_PLAIN_TOP + 3), odd = !bk_check_int(c, 0, 3);
	const uint16_t limit = bk_check_int(c, 0, 7) ? (uint16_t)((127 + top - 5) << 7) : 1;
	unsigned char *w = bk_check_alloc((size_t)n * 2, 1);
	uint16_t *row[2], *col[2], *list[2], most = 0;
	uint64_t below[2] = { 7, 7 };
	double sums[2][4] = { { 0 }, { 0 } };
	int64_t listed[2];
	uint64_t seen = 0;
	int bad = 0;

	fill(c, w, BK_BF16, n, top, odd);
	for (int k = 0; k < 2; k++) {
		row[k] = bk_check_alloc((size_t)rows * 2, 2);
		col[k] = bk_check_alloc((size_t)cols * 2, 2);
		list[k] = bk_check_alloc((size_t)(n + BK_LIST_ROOM) * 2, 2);
		memset(col[k], 0, (size_t)cols * 2);
	}
	listed[0] = ops->sweep16(row[0], col[0], sums[0], list[0], &below[0], w, rows, cols, limit);
	seen = bk_ops_ref()->tops16(row[1], col[1], w, rows, cols, 0x7f80);
	for (int64_t i = 0; i < rows; i++)
		most = row[1][i] > most ? row[1][i] : most;
	listed[1] = bk_ops_ref()->look16(sums[1], list[1], &below[1], w, BK_BF16, n, top, limit, seen != 0);
	if (seen || most >= (127 + BK_PLAIN_TOP) << 7 || most < (127 - BK_PLAIN_TOP) << 7)
		bad = listed[0] != -1 || below[0] != 7 || sums[0][1] != 0 ? bk_check_fail(c, "sweep16: does not leave to others what it cannot do") : 0;
	else if (listed[0] != listed[1] || memcmp(list[0], list[1], (size_t)listed[0] * 2) != 0 || below[0] != below[1])
		bad = bk_check_fail(c, "sweep16: %lld listed instead of %lld", (long long)listed[0], (long long)listed[1]);
	else if (memcmp(row[0], row[1], (size_t)rows * 2) != 0)
		bad = bk_check_fail(c, "sweep16: row maxima differ");
	else
		bad = same_sums(c, sums[0], sums[1], n, top);
	if (!bad && memcmp(col[0], col[1], (size_t)cols * 2) != 0) /* finite ones, in any case */
		bad = bk_check_fail(c, "sweep16: column maxima differ");
	for (int k = 0; k < 2; k++)
		if (!bk_check_free(row[k]) || !bk_check_free(col[k]) || !bk_check_free(list[k]))
			bad = bk_check_fail(c, "sweep16 wrote behind an end");
	bk_check_free(w);
	return bad;
}

static int wide_lists(const struct bk_ops *ops, struct bk_check *c)
{
	int64_t n = bk_check_int(c, 0, 3) ? bk_check_int(c, 0, 700) : bk_check_int(c, 700, 9000), listed[2];
	int top = (int)bk_check_int(c, BK_TOP_MIN, 120), odd = (int)bk_check_int(c, 0, 1);
	float absmax = bk_check_int(c, 0, 9) ? (float)ldexp(0.9, top) : 0;
	unsigned char *w = bk_check_alloc((size_t)n * 4, 1);
	uint32_t *list[2], limit = bk_check_int(c, 0, 7) ? (uint32_t)(top + 122) << 23 : 1;
	uint64_t below[2] = { 0 }, above[2], bins[2][65] = { { 0 }, { 0 } };
	double sums[2][4] = { { 0 }, { 0 } };
	int bad = 0;

	fill(c, w, BK_F32, n, top, odd);
	for (int k = 0; k < 2; k++) {
		const struct bk_ops *o = k ? bk_ops_ref() : ops;

		list[k] = bk_check_alloc((size_t)(n + BK_LIST_ROOM) * 4, 4);
		listed[k] = o->list32(list[k], &below[k], w, n, limit);
		o->bins32(bins[k], list[k], listed[k], absmax, 64);
		above[k] = o->above(w, BK_F32, n, limit);
		o->powers(sums[k], w, BK_F32, n, top, odd);
	}
	if (listed[0] != listed[1] || memcmp(list[0], list[1], (size_t)listed[0] * 4) != 0 || below[0] != below[1])
		bad = bk_check_fail(c, "list32: %lld listed, %llu below zero instead of %lld, %llu of %lld", (long long)listed[0],
				    (unsigned long long)below[0], (long long)listed[1], (unsigned long long)below[1], (long long)n);
	else if (memcmp(bins[0], bins[1], sizeof(*bins)) != 0)
		bad = bk_check_fail(c, "bins32: counts differ");
	else if (above[0] != above[1])
		bad = bk_check_fail(c, "above: %llu instead of %llu", (unsigned long long)above[0], (unsigned long long)above[1]);
	else
		bad = same_sums(c, sums[0], sums[1], n, top);
	for (int k = 0; k < 2; k++)
		if (!bk_check_free(list[k]))
			bad = bk_check_fail(c, "list32 wrote behind an end");
	bk_check_free(w);
	return bad;
}

int bk_weight_stats_check(const struct bk_ops *ops, struct bk_check *c)
{
	for (int i = 0; i < 40; i++)
		if (narrow_extremes(ops, c, i % 2 ? 0x7f80 : 0x7c00) || wide_extremes(ops, c) || narrow_lists(ops, c, BK_BF16) ||
		    narrow_lists(ops, c, BK_F16) || wide_lists(ops, c) || (ops->sweep16 && swept(ops, c)))
			return 1;
	return 0;
}
