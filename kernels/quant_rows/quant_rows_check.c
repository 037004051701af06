/* SPDX-License-Identifier: Apache-2.0
 * quant_rows against the reference: ranges, scales, codes and decoded values must be the same bits, error sums within what float lanes
 * and the approximate power may lose. Rows hold what breaks rounding: ties, zeros of both signs, subnormals, huge values, one-signed groups. */
#include <math.h>
#include <string.h>

#include "kernels/common/check.h"
#include "kernels/common/num.h"
#include "kernels/quant_rows/quant_rows.h"

struct data {
	int64_t rows, cols, n, ns; /* n elements, ns scales */
	struct bk_grid g;
	float *w, *lo, *hi, *lo_b, *hi_b, *s, *s_b, *y, *y_b, *e, *e_b;
	int8_t *z, *z_b, *q, *q_b;
};

/* One row of a kind. */
static void fill(struct bk_check *c, float *w, int64_t n)
{
	int kind = (int)bk_check_int(c, 0, 9);
	float size = ldexpf(1, (int)bk_check_int(c, -12, 4));

	for (int64_t i = 0; i < n; i++) {
		float x = (float)bk_check_gauss(c) * size;

		switch (kind) {
		case 0: x = 0; break;
		case 1: x = fabsf(x); break;
		case 2: x = -fabsf(x); break;
		case 3: x = 0.5f * (float)bk_check_int(c, -15, 15); break;
		case 4: x = x * 0x1p-126f; break;
		case 5: x = x / size * 0x1p124f; break;
		case 6: x = bk_check_int(c, 0, 2) ? x : -0.0f; break;
		case 7: x = 0.25f; break;
		default: break;
		}
		w[i] = bk_check_int(c, 0, 7) ? bk_round_bf16(x) : x;
	}
}

static int same(const struct bk_check *c, const void *a, const void *b, size_t n)
{
	(void)c;
	return n == 0 || memcmp(a, b, n) == 0;
}

static int compare(const struct bk_ops *ops, struct bk_check *c, struct data *d)
{
	const struct bk_ops *ref = bk_ops_ref();
	const char *what = d->g.number == BK_E4M3 ? "e4m3" : d->g.symmetric ? "symmetric" : "asymmetric";
	double shrink = bk_check_int(c, 0, 1) ? 1 : 1 - (double)bk_check_int(c, 1, 30) / 100;
	double w2 = 0, e2 = 0, w2_b = 0, e2_b = 0;
	int8_t *z = d->g.symmetric ? NULL : d->z, *z_b = d->g.symmetric ? NULL : d->z_b;

	ops->range(d->lo, d->hi, d->w, d->rows, d->cols, &d->g);
	ref->range(d->lo_b, d->hi_b, d->w, d->rows, d->cols, &d->g);
	for (int64_t i = 0; i < d->ns; i++) /* -0.0 and 0.0 are both right */
		if (d->lo[i] != d->lo_b[i] || d->hi[i] != d->hi_b[i])
			return bk_check_fail(c, "range of group %lld is %g .. %g instead of %g .. %g", (long long)i, (double)d->lo[i],
					     (double)d->hi[i], (double)d->lo_b[i], (double)d->hi_b[i]);
	ops->scales(d->s, z, d->lo, d->hi, d->ns, shrink, &d->g);
	ref->scales(d->s_b, z_b, d->lo, d->hi, d->ns, shrink, &d->g);
	if (!same(c, d->s, d->s_b, (size_t)d->ns * 4) || (z && !same(c, z, z_b, (size_t)d->ns)))
		return bk_check_fail(c, "%s scales or zero points differ at %d bits", what, d->g.bits);
	for (int quotient = BK_QUOTIENT_BF16; quotient <= BK_QUOTIENT_F32; quotient++) {
		double norm = bk_check_int(c, 0, 1) ? 2 : 1 + 4 * bk_check_unit(c);

		ops->encode(d->q, d->w, d->s, z, d->rows, d->cols, &d->g, quotient);
		ref->encode(d->q_b, d->w, d->s, z, d->rows, d->cols, &d->g, quotient);
		for (int64_t i = 0; i < d->n; i++)
			if (d->q[i] != d->q_b[i])
				return bk_check_fail(c, "%s code %lld of %g is %d instead of %d at %d bits, quotient %d", what, (long long)i,
						     (double)d->w[i], d->q[i], d->q_b[i], d->g.bits, quotient);
		ops->decode(d->y, d->q, d->s, z, d->rows, d->cols, &d->g);
		ref->decode(d->y_b, d->q, d->s, z, d->rows, d->cols, &d->g);
		for (int64_t i = 0; i < d->n; i++)
			if (d->y[i] != d->y_b[i])
				return bk_check_fail(c, "%s decoded %lld is %g instead of %g", what, (long long)i, (double)d->y[i], (double)d->y_b[i]);
		ops->error(d->e, d->w, d->s, z, d->rows, d->cols, &d->g, quotient, norm);
		ref->error(d->e_b, d->w, d->s, z, d->rows, d->cols, &d->g, quotient, norm);
		for (int64_t i = 0; i < d->ns; i++)
			/* an error far below the scale may be taken for 2^-60 of it */
			if (!bk_check_near(d->e[i], d->e_b[i], 2e-5, 1e-36 + (double)(d->n / d->ns) * pow(ldexp(d->s[i], -59), norm)))
				return bk_check_fail(c, "%s error of group %lld is %g instead of %g, norm %g", what, (long long)i, (double)d->e[i],
						     (double)d->e_b[i], norm);
	}
	ops->sum_squares(&w2, &e2, d->w, d->y, d->n);
	ref->sum_squares(&w2_b, &e2_b, d->w, d->y, d->n);
	if (!bk_check_near(w2, w2_b, 1e-12, 0) || !bk_check_near(e2, e2_b, 1e-12, 0))
		return bk_check_fail(c, "sums of squares %g, %g instead of %g, %g", w2, e2, w2_b, e2_b);
	return 0;
}

static int one(const struct bk_ops *ops, struct bk_check *c, struct bk_grid g)
{
	static const int64_t widths[] = { 1, 2, 7, 15, 16, 17, 32, 64, 100, 128 };
	struct data d = { .g = g, .rows = bk_check_int(c, 1, 5) };
	int64_t width = widths[bk_check_int(c, 0, 9)], spr = bk_check_int(c, 1, 4);
	int bad;

	d.g.group = bk_check_int(c, 0, 1) ? width : 0;
	d.cols = d.g.group ? width * spr : bk_check_int(c, 1, 3000);
	d.n = d.rows * d.cols;
	d.ns = d.rows * (d.g.group ? spr : 1);
	float **floats[] = { &d.w, &d.y, &d.y_b, &d.lo, &d.hi, &d.lo_b, &d.hi_b, &d.s, &d.s_b, &d.e, &d.e_b };
	int8_t **bytes[] = { &d.q, &d.q_b, &d.z, &d.z_b };
	for (int i = 0; i < 11; i++)
		*floats[i] = bk_check_alloc((size_t)(i < 3 ? d.n : d.ns) * 4, 4);
	for (int i = 0; i < 4; i++)
		*bytes[i] = bk_check_alloc((size_t)(i < 2 ? d.n : d.ns), 1);
	for (int64_t r = 0; r < d.rows; r++)
		fill(c, d.w + r * d.cols, d.cols);
	bad = compare(ops, c, &d);
	for (int i = 0; i < 11; i++)
		if (!bk_check_free(*floats[i]))
			bad = bk_check_fail(c, "quant_rows wrote behind the end of array %d", i);
	for (int i = 0; i < 4; i++)
		if (!bk_check_free(*bytes[i]))
			bad = bk_check_fail(c, "quant_rows wrote behind the end of byte array %d", i);
	return bad;
}

int bk_quant_rows_check(const struct bk_ops *ops, struct bk_check *c)
{
	for (int bits = 2; bits <= 8; bits++)
		for (int symmetric = 0; symmetric < 2; symmetric++)
			for (int i = 0; i < 12; i++)
				if (one(ops, c, (struct bk_grid){ .number = BK_INT, .bits = bits, .symmetric = symmetric }))
					return 1;
	for (int i = 0; i < 24; i++)
		if (one(ops, c, (struct bk_grid){ .number = BK_E4M3, .bits = 8, .symmetric = 1 }))
			return 1;
	return 0;
}
