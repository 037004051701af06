/* SPDX-License-Identifier: Apache-2.0
 * Inputs of linears rounded in groups of columns, and as the compressed-tensors library rounds them. */
#include <math.h>

#include "kernels/common/num.h"
#include "kernels/run/cpu.h"

struct rounding { struct bk_run *r; const struct bk_mat *to, *x; float *scales; struct bk_rounding how; int64_t rows, width; };

static bool refused(const struct bk_mat *to, const struct bk_mat *x, const struct bk_rounding *how)
{
	return !bk_same_shape(to, x) || (x->dtype != BK_BF16 && x->dtype != BK_F32) || !bk_shaped(to) || !bk_shaped(x) || how->kind < BK_TOKEN_INT8 ||
	       how->kind > BK_TOKEN_E2M1 || how->group < 0 || (how->group && x->cols % how->group) || !(how->scale >= 0) || !isfinite(how->scale) ||
	       (how->kind == BK_TOKEN_E2M1 ? !how->group || !(how->scale > 0) : how->group && how->scale > 0);
}

static int each_row(struct rounding *w, bk_parallel_fn *fn)
{
	w->width = w->how.group ? w->how.group : w->x->cols;
	w->rows = bk_rows_per_item(w->x->cols);
	if (!w->x->rows || !w->x->cols)
		return 0;
	if (bk_desks_need(w->r, (size_t)w->x->cols))
		return BK_RUN_NO_MEMORY;
	bk_each(w->r, (size_t)bk_cut(w->x->rows, w->rows), fn, w);
	return 0;
}

static float e4m3_up_to_448(float f) { return bk_e4m3_f32((uint8_t)bk_f32_e4m3(f < 448.0f ? f : 448.0f)); }

/* --- codes, as servers make them --- */

static void codes_item(void *arg, size_t item)
{
	struct rounding *w = arg;
	const struct bk_rows *rows = w->r->rows;
	struct bk_desk *d = bk_desk_take(w->r);
	int64_t first = (int64_t)item * w->rows, last = bk_min(w->x->rows, first + w->rows), n = w->x->cols / w->width;

	for (int64_t i = first; i < last; i++) {
		rows->load(d->p, bk_at(w->x, i, 0), w->x->dtype, w->x->cols);
		for (int64_t g = 0; g < n; g++) {
			const float *x = d->p + g * w->width;
			uint8_t *c = bk_at(w->to, i, g * w->width);
			float top = rows->absmax(x, w->width), s;

			if (w->how.kind == BK_TOKEN_E4M3) {
				s = (top > 1e-10f ? top : 1e-10f) / 448.0f;
				rows->e4m3_codes(c, x, s, w->width);
			} else {
				s = e4m3_up_to_448(w->how.scale * (top / 6.0f));
				rows->e2m1_codes(c, x, s > 0 ? w->how.scale / s : 0, w->width);
				s /= w->how.scale;
			}
			w->scales[i * n + g] = s;
		}
	}
	bk_desk_give(d);
}

BK_OP(quant_groups, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how)
{
	struct rounding w = { .r = r, .to = codes, .x = x, .scales = scales, .how = *how };

	if (refused(codes, x, how) || codes->dtype != BK_F8 || how->kind == BK_TOKEN_INT8 || !how->group)
		return BK_RUN_REFUSED;
	return each_row(&w, codes_item);
}

/* --- values, as the library makes them --- */

static float library_scale(const struct bk_rounding *how, float top, int round)
{
	float s = how->scale;

	if (how->kind == BK_TOKEN_E2M1) {
		s = e4m3_up_to_448(s * (round ? bk_round_bf16(top / 6.0f) : top / 6.0f));
		return (s > 0 ? s : 0.125f) / how->scale;
	}
	if (s > 0)
		return round ? bk_round_bf16(s) : s;
	s = top / (how->kind == BK_TOKEN_INT8 ? 127.5f : 448.0f);
	s = round ? bk_round_bf16(s) : s;
	return s != 0 ? s : round ? 0x1p-7f : 0x1p-23f;
}

static void values_item(void *arg, size_t item)
{
	struct rounding *w = arg;
	const struct bk_rows *rows = w->r->rows;
	struct bk_desk *d = bk_desk_take(w->r);
	const int round = w->x->dtype == BK_BF16;
	int64_t first = (int64_t)item * w->rows, last = bk_min(w->x->rows, first + w->rows), n = w->x->cols / w->width;

	for (int64_t i = first; i < last; i++) {
		rows->load(d->p, bk_at(w->x, i, 0), w->x->dtype, w->x->cols);
		for (int64_t g = 0; g < n; g++) {
			float *x = d->p + g * w->width;

			rows->rounded(x, library_scale(&w->how, rows->absmax(x, w->width), round), (int)w->how.kind, round, w->width);
		}
		rows->store(bk_at(w->to, i, 0), w->to->dtype, d->p, w->x->cols);
	}
	bk_desk_give(d);
}

BK_OP(round_inputs, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how)
{
	struct rounding w = { .r = r, .to = y, .x = x, .how = *how };

	if (refused(y, x, how) || y->dtype != x->dtype)
		return BK_RUN_REFUSED;
	return each_row(&w, values_item);
}
