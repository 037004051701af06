/* SPDX-License-Identifier: Apache-2.0
 * AWQ's search: between no scaling and scaling by the inputs alone, which exponent loses least once the scaled weights are rounded. What the original asks the
 * parent module for, the squared error of the output, is here tr(D H D^T) with the kept Hessian: the same number without running anything. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/transform/private.h"

struct awq {
	const struct fold_reader *r;
	const float *h;    /* [cols, cols], both triangles; NULL: energies alone */
	double *xbar, *wbar; /* [channels] */
	float *d, *y;      /* [cols] */
	int bits;
	int64_t group;
};

/* d = w - Q(w s) / s of one row */
static void difference(const struct awq *a, const float *w, const double *s)
{
	const double half = (exp2(a->bits) - 1) / 2, least = -exp2(a->bits - 1), most = -least - 1;

	for (int64_t at = 0; at < a->r->cols; at += a->group) {
		double top = 0;

		for (int64_t j = at; j < at + a->group; j++) {
			double v = fabs((double)w[j]) * s[bl_channel_of(&a->r->c, j)];
			top = v > top ? v : top;
		}
		const double step = bl_round_bf16((float)(top / half));
		for (int64_t j = at; j < at + a->group; j++) {
			double f = s[bl_channel_of(&a->r->c, j)], q = step > 0 ? nearbyint((double)w[j] * f / step) : 0;

			q = q < least ? least : q > most ? most : q;
			a->d[j] = (float)(w[j] - q * step / f);
		}
	}
}

static double loss_of(struct awq *a, const double *s)
{
	const int64_t cols = a->r->cols;
	double sum = 0;

	for (int64_t n = 0; n < a->r->rows; n++) {
		difference(a, a->r->w + n * cols, s);
		if (!a->h) {
			for (int64_t j = 0; j < cols; j++)
				sum += (double)a->d[j] * a->d[j] * a->r->energy[j];
			continue;
		}
		memset(a->y, 0, (size_t)cols * sizeof *a->y);
		for (int64_t i = 0; i < cols; i++) {
			const float d = a->d[i], *h = a->h + i * cols;

			for (int64_t j = 0; d != 0 && j < cols; j++)
				a->y[j] += d * h[j];
		}
		for (int64_t j = 0; j < cols; j++)
			sum += (double)a->y[j] * a->d[j];
	}
	return sum;
}

static void averages(struct awq *a)
{
	const struct fold_reader *r = a->r;

	for (int64_t j = 0; j < r->cols; j++) {
		int64_t c = bl_channel_of(&r->c, j);
		double x = sqrt((double)r->energy[j]);

		a->xbar[c] = x > a->xbar[c] ? x : a->xbar[c];
	}
	for (int64_t n = 0; n < r->rows; n++)
		for (int64_t at = 0; at < r->cols; at += a->group) {
			const float *w = r->w + n * r->cols;
			double top = 0;

			for (int64_t j = at; j < at + a->group; j++)
				top = fabs((double)w[j]) > top ? fabs((double)w[j]) : top;
			for (int64_t j = at; j < at + a->group; j++)
				a->wbar[bl_channel_of(&r->c, j)] += fabs((double)w[j]) / (top + 1e-6) / (double)(r->rows * r->c.copies);
		}
}

static void candidate(double *s, const struct awq *a, double ratio, bool pow2)
{
	for (int64_t c = 0; c < a->r->c.n; c++)
		s[c] = pow(a->xbar[c], ratio) / (pow(a->wbar[c], 1 - ratio) + 1e-4);
	for (int64_t c = 0; c < a->r->c.n; c++)
		s[c] = isfinite(s[c]) ? fmax(s[c], 1e-4) : 1;
	fold_finish(s, a->r->c.n, pow2);
}

static enum bl_status whole_hessian(float **out, const struct fold_block *b, const struct fold_reader *r, struct bl_err *err)
{
	const int64_t cols = r->cols;
	const float *h;
	float *tmp = NULL;

	if (bl_calib_hessian(b->calib, b->block * BL_UNIT_KIND_COUNT + (int)r->c.reader, &h, err) ||
	    bl_try_alloc(out, (size_t)(cols * cols), sizeof **out, "a Hessian", err) || bl_try_alloc(&tmp, (size_t)(cols * cols), sizeof *tmp, "a Hessian", err))
		return err->status;
	for (int64_t i = 0; i < cols; i++)
		for (int64_t j = 0; j <= i; j++)
			(*out)[i * cols + j] = (*out)[j * cols + i] = h[i * cols + j];
	bl_ops_hessian(b->ops, &r->c, *out, tmp, cols);
	bl_free(tmp);
	return BL_OK;
}

enum bl_status fold_awq(double *s, const struct fold_block *b, const struct fold_reader *r, const struct bl_stage *st, struct bl_err *err)
{
	const int64_t group = (int64_t)bl_stage_value(st, "group");
	const int grid = (int)bl_stage_value(st, "grid");
	struct awq a = { .r = r, .bits = (int)bl_stage_value(st, "bits"), .group = group && r->cols % group == 0 ? group : r->cols };
	float *h = NULL;
	double *try = NULL;

	if (bl_stage_value(st, "error") == 0 && whole_hessian(&h, b, r, err))
		goto done;
	a.h = h;
	a.xbar = bl_xalloc(3 * (size_t)r->c.n + 1, sizeof *a.xbar);
	a.wbar = a.xbar + r->c.n;
	try = a.wbar + r->c.n;
	a.d = bl_xalloc(2 * (size_t)r->cols + 1, sizeof *a.d);
	a.y = a.d + r->cols;
	averages(&a);
	for (int64_t c = 0; c < r->c.n; c++)
		s[c] = 1;
	double least = loss_of(&a, s);
	for (int i = 0; i + 1 < grid; i++) {
		candidate(try, &a, grid > 2 ? (double)i / (grid - 2) : 0, bl_stage_value(st, "pow2") != 0);
		double loss = loss_of(&a, try);
		if (loss < least) { /* one that is not a number is not less */
			least = loss;
			memcpy(s, try, (size_t)r->c.n * sizeof *s);
		}
	}
done:
	bl_free(h);
	bl_free(a.xbar);
	bl_free(a.d);
	return err->status;
}
