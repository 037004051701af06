/* SPDX-License-Identifier: Apache-2.0
 * Elements of matrices for the obvious loops: read as double, written with one rounding. */
#ifndef BK_RUN_REF_H
#define BK_RUN_REF_H

#include <math.h>
#include <string.h>

#include "kernels/common/num.h"
#include "kernels/load_rows/load_rows.h"
#include "kernels/run/run.h"

static inline double get(const struct bk_mat *m, int64_t i, int64_t j)
{
	const char *p = m->p;
	int64_t at = i * m->ld + j;
	float f = 0;

	switch (m->dtype) {
	case BK_F32:
		memcpy(&f, p + 4 * at, 4);
		break;
	case BK_BF16:
	case BK_F16:
		bk_load_rows_ref(&f, p + 2 * at, (enum bk_dtype)m->dtype, 1);
		break;
	case BK_I8:
		f = (float)((const int8_t *)p)[at];
		break;
	default:
		f = bk_e4m3_f32(((const uint8_t *)p)[at]);
		break;
	}
	return (double)f;
}

/* The nearest value with so many bits of mantissa, ties to even; least: exponent below which steps no longer shrink. */
static inline double nearest(double x, int bits, int least)
{
	int e;
	double step;

	if (x == 0 || !isfinite(x))
		return x;
	frexp(x, &e);
	step = ldexp(1, (e > least ? e : least) - bits);
	return nearbyint(x / step) * step;
}

/* as stored in that type */
static inline double stored(double x, int dtype)
{
	if (dtype == BK_BF16)
		return nearest((double)(float)x, 8, -125);
	if (dtype == BK_F16) {
		x = nearest((double)(float)x, 11, -13);
		return fabs(x) > 65504 ? copysign(INFINITY, x) : x;
	}
	return (double)(float)x;
}

static inline void set(const struct bk_mat *m, int64_t i, int64_t j, double x)
{
	char *p = m->p;
	int64_t at = i * m->ld + j;
	float f = (float)stored(x, m->dtype);
	uint32_t u = bk_f32_bits(f);
	uint16_t h = (uint16_t)(u >> 16);
	int e;

	if (m->dtype == BK_F32) {
		memcpy(p + 4 * at, &f, 4);
		return;
	}
	if (m->dtype == BK_F16) {
		h = u >> 16 & 0x8000;
		if (isnan(f))
			h |= 0x7e00;
		else if (isinf(f))
			h |= 0x7c00;
		else if (fabsf(f) >= 0x1p-14f)
			h = (uint16_t)(h + ((uint32_t)(ilogbf(f) + 15) << 10) + (uint32_t)((fabs(frexp((double)f, &e)) * 2 - 1) * 1024));
		else
			h = (uint16_t)(h + (uint32_t)ldexp(fabs((double)f), 24));
	}
	memcpy(p + 2 * at, &h, 2);
}

static inline struct bk_mat vector(const void *p, int64_t n, int dtype) { return (struct bk_mat){ (void *)p, 1, n, n, dtype }; }
static inline double round_like(double x, const struct bk_mat *m) { return stored(x, m->dtype); }

int bk_ref_quant_groups(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how);
int bk_ref_gemm_groups(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, int64_t group,
		       const void *bias);
int bk_ref_round_inputs(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how);

#endif
