/* SPDX-License-Identifier: Apache-2.0
 * Where training starts: scales, and offsets such that the codes of another method come out. */
#include <math.h>

#include "core/base/half.h"
#include "core/tune/private.h"

#define INSIDE 0.49f /* how far from the middle of its cell an offset may leave a weight */

/* Weights of rows first .. first+n-1 of a member as float32. */
static enum bl_status load(const struct tune *t, const struct bl_tensor *x, float *to, int64_t n, int64_t cols, struct bl_err *err)
{
	if (!bl_cpu_ops()->load_rows(to, x->data, x->dtype == BL_BF16 ? BK_BF16 : x->dtype == BL_F16 ? BK_F16 : BK_F32, n))
		return BL_OK;
	for (int64_t i = 0; i < n; i++) {
		if (isfinite(to[i]))
			continue;
		if (!t->rq->zero_nonfinite)
			return bl_fail(err, BL_INVALID, "%s: %s at [%lld,%lld]", x->name, isnan(to[i]) ? "NaN" : to[i] > 0 ? "Inf" : "-Inf", (long long)(i / cols),
				       (long long)(i % cols));
		to[i] = 0;
	}
	return BL_OK;
}

/* The largest weight of the group lands on -2^(bits-1). */
static float range_scale(const float *w, int64_t n, int bits)
{
	float most = 0;

	for (int64_t i = 0; i < n; i++)
		if (fabsf(w[i]) > fabsf(most))
			most = w[i];
	const float s = bl_round_bf16(-most / (float)(1 << (bits - 1)));
	return fabsf(s) >= 0x1p-7f * 0x1p-7f ? s : 0x1p-7f;
}

static void offsets(const struct tune_state *s, float *v, const float *w, const int8_t *codes, const float *base, const int8_t *zero)
{
	const int64_t width = s->cols / s->spr;
	const float lo = -(float)(1 << (s->grid.bits - 1)), hi = -lo - 1;

	for (int64_t n = 0; n < s->rows; n++)
		for (int64_t k = 0; k < s->cols; k++) {
			const int64_t i = n * s->cols + k, j = n * s->spr + k / width;
			const float q = (float)codes[i] - (zero ? (float)zero[j] : 0), u = base[j] != 0 ? w[i] / base[j] : 0;
			const float least = codes[i] == (int)lo ? fminf(u, q) : q - INSIDE, most = codes[i] == (int)hi ? fmaxf(u, q) : q + INSIDE;

			/* a weight that the grid's end holds stays where it is, unless another code was chosen */
			v[i] = (u < least ? least : u > most ? most : u) - u;
		}
}

enum bl_status tune_start(struct tune *t, struct tune_state *s, float *base, int8_t *zero, float *v, struct bl_err *err)
{
	const struct bl_unit *u = &t->m->units[s->unit];
	const struct bl_solved *start = t->rq->units[s->unit].start;
	const int64_t width = s->cols / s->spr;
	float *w = NULL;
	int64_t at = 0;

	if (t->how->start != BL_TUNING_RANGE) {
		if (!start || start->rows != s->rows || start->cols != s->cols || start->spr != s->spr || (zero && !start->zeros))
			return bl_fail(err, BL_FAILED, "%s: what it starts from is of another shape", u->name);
		for (int64_t i = 0; i < s->rows * s->spr; i++) {
			base[i] = start->scales[i];
			if (zero)
				zero[i] = start->zeros[i];
		}
		if (t->how->start == BL_TUNING_SCALES || !v)
			return BL_OK;
	} else if (zero || s->grid.number != BK_INT) {
		return bl_fail(err, BL_UNSUPPORTED, "%s: starting from the whole range is for symmetric integers", u->name);
	}
	if (bl_try_alloc(&w, (size_t)(s->rows * s->cols), sizeof *w, "the unit's weights", err))
		return err->status;
	for (int i = 0; i < u->n_members && !err->status; at += u->members[i++].rows)
		load(t, u->members[i].weight, w + at * s->cols, u->members[i].rows * s->cols, s->cols, err);
	if (!err->status && t->how->start == BL_TUNING_RANGE)
		for (int64_t j = 0; j < s->rows * s->spr; j++)
			base[j] = range_scale(w + j * width, width, s->grid.bits);
	else if (!err->status)
		offsets(s, v, w, start->codes, base, zero);
	bl_free(w);
	return err->status;
}
