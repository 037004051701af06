/* SPDX-License-Identifier: Apache-2.0
 * Rounding of inputs in groups and as a library does it, the obvious way: the nearest of all codes, found by looking at each. */
#include <stdlib.h>

#include "kernels/run/ref.h"

static float absmax_of(const struct bk_mat *x, int64_t i, int64_t first, int64_t n)
{
	double m = 0;

	for (int64_t j = first; j < first + n; j++)
		m = fmax(m, fabs(get(x, i, j)));
	return (float)m;
}

/* The nearest of n ascending values, ties to the even index. */
static double nearest_of(const double *list, int n, double x)
{
	int best = 0;

	for (int k = 1; k < n; k++) {
		const double d = fabs(list[k] - fabs(x)), was = fabs(list[best] - fabs(x));

		if (d < was || (d == was && k % 2 == 0))
			best = k;
	}
	return copysign(list[best], x);
}

static double e2m1(double x)
{
	static const double list[8] = { 0, .5, 1, 1.5, 2, 3, 4, 6 };

	return nearest_of(list, 8, x);
}

static double e4m3(double x)
{
	double list[127];

	for (int k = 0; k < 127; k++)
		list[k] = (double)bk_e4m3_f32((uint8_t)k);
	return nearest_of(list, 127, x);
}

static uint8_t e4m3_byte(double x)
{
	for (int k = 0; k < 127; k++)
		if ((double)bk_e4m3_f32((uint8_t)k) == fabs(x))
			return (uint8_t)(k | (signbit(x) ? 0x80 : 0));
	return 0x7f;
}

int bk_ref_quant_groups(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how)
{
	const int64_t groups = x->cols / how->group;

	(void)r;
	for (int64_t i = 0; i < x->rows; i++)
		for (int64_t g = 0; g < groups; g++) {
			const float top = absmax_of(x, i, g * how->group, how->group);
			float s = fmaxf(top, 1e-10f) / 448, f = 0;

			if (how->kind == BK_TOKEN_E2M1) {
				s = (float)e4m3((double)fminf(how->scale * (top / 6), 448));
				f = s > 0 ? how->scale / s : 0;
			}
			for (int64_t j = g * how->group; j < (g + 1) * how->group; j++) {
				const float v = (float)get(x, i, j);
				const double t = how->kind == BK_TOKEN_E2M1 ? e2m1((double)(v * f)) : e4m3((double)(v / s));

				((uint8_t *)codes->p)[i * codes->ld + j] = e4m3_byte(t);
			}
			scales[i * groups + g] = how->kind == BK_TOKEN_E2M1 ? s / how->scale : s;
		}
	return 0;
}

int bk_ref_gemm_groups(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, int64_t group,
		       const void *bias)
{
	const struct bk_mat v = vector(bias, y->cols, y->dtype);
	const int64_t groups = x->cols / group;

	(void)r;
	for (int64_t i = 0; i < y->rows; i++)
		for (int64_t j = 0; j < y->cols; j++) {
			double s = 0;

			for (int64_t k = 0; k < x->cols; k++)
				s += get(x, i, k) * get(w, j, k) * (double)sx[i * groups + k / group] * (double)sw[j * groups + k / group];
			set(y, i, j, s + (bias ? get(&v, 0, j) : 0));
		}
	return 0;
}

int bk_ref_round_inputs(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how)
{
	const int64_t width = how->group ? how->group : x->cols;

	(void)r;
	for (int64_t i = 0; i < x->rows; i++)
		for (int64_t first = 0; first < x->cols; first += width) {
			const double top = (double)absmax_of(x, i, first, width);
			double s = (double)how->scale;

			if (how->kind == BK_TOKEN_E2M1) {
				s = e4m3((double)fminf(how->scale * (float)stored(top / 6, x->dtype), 448));
				s = (double)((float)(s > 0 ? s : .125) / how->scale);
			} else {
				s = stored(s > 0 ? s : top / (how->kind == BK_TOKEN_INT8 ? 127.5 : 448), x->dtype);
				s = s != 0 ? s : x->dtype == BK_BF16 ? 0x1p-7 : 0x1p-23;
			}
			for (int64_t j = first; j < first + width; j++) {
				const double q = (double)((float)get(x, i, j) / (float)s), t = how->kind == BK_TOKEN_E2M1 ? q : stored(q, x->dtype);
				const double v = how->kind == BK_TOKEN_E2M1   ? e2m1(t) :
						 how->kind == BK_TOKEN_E4M3 ? e4m3(t) : fmax(-128, fmin(127, nearbyint(t)));

				set(y, i, j, (double)((float)v * (float)s));
			}
		}
	return 0;
}
