/* SPDX-License-Identifier: Apache-2.0
 * Replacements of weights: shared, counted, const after they were made. */
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/forward/weights.h"
#include "core/scheme/scheme.h"

static struct bl_unit_weights *make(int unit, enum bl_weights_kind kind, int64_t rows, int64_t cols, int64_t group)
{
	static _Atomic(uint64_t) last_id;
	struct bl_unit_weights *w = bl_try_malloc(sizeof(*w));
	size_t n;

	if (!w)
		return NULL;
	*w = (struct bl_unit_weights){ .unit = unit, .kind = kind, .rows = rows, .cols = cols, .group = group, .id = atomic_fetch_add(&last_id, 1) + 1 };
	atomic_init(&w->refs, 1);
	if (rows < 0 || cols < 0 || __builtin_mul_overflow((size_t)rows, (size_t)cols, &n) || n > SIZE_MAX / 4)
		goto fail;
	if (kind == BL_WEIGHTS_DENSE)
		w->dense = bl_try_malloc(n * sizeof(*w->dense) + 1);
	else
		w->codes = bl_try_malloc(n + 1);
	if (kind == BL_WEIGHTS_CODES)
		w->scales = bl_try_malloc((size_t)(rows * bl_unit_weights_spr(w)) * sizeof(*w->scales) + 1);
	if (kind == BL_WEIGHTS_DENSE ? w->dense != NULL : w->codes && w->scales)
		return w;
fail:
	bl_unit_weights_unref(w);
	return NULL;
}

struct bl_unit_weights *bl_unit_weights_new(int unit, enum bl_weights_kind kind, int64_t rows, int64_t cols)
{
	return make(unit, kind, rows, cols, 0);
}

struct bl_unit_weights *bl_unit_weights_grouped(int unit, int64_t rows, int64_t cols, int64_t group)
{
	return make(unit, BL_WEIGHTS_CODES, rows, cols, group);
}

enum bl_weights_act bl_weights_act_of(int act, bool symmetric, int64_t group)
{
	switch (act) {
	case BL_ACT_INT8_TOKEN: return symmetric && !group ? BL_WEIGHTS_ACT_INT8_TOKEN : BL_WEIGHTS_ACT_NONE;
	case BL_ACT_FP8_TOKEN: return symmetric && !group ? BL_WEIGHTS_ACT_FP8_TOKEN : BL_WEIGHTS_ACT_NONE;
	case BL_ACT_INT8_TENSOR: return symmetric && !group ? BL_WEIGHTS_ACT_INT8_STATIC : BL_WEIGHTS_ACT_NONE;
	case BL_ACT_FP8_TENSOR: return symmetric && !group ? BL_WEIGHTS_ACT_FP8_STATIC : BL_WEIGHTS_ACT_NONE;
	case BL_ACT_FP8_GROUP: return group ? BL_WEIGHTS_ACT_FP8_GROUP : BL_WEIGHTS_ACT_NONE;
	case BL_ACT_FP4_GROUP: return group ? BL_WEIGHTS_ACT_FP4_GROUP : BL_WEIGHTS_ACT_NONE;
	default: return BL_WEIGHTS_ACT_NONE;
	}
}

/* Scales as a model object of bfloat16 holds them; FP4's stay as the file has them, two factors. */
struct bl_unit_weights *bl_unit_weights_transformers(struct bl_unit_weights *w)
{
	const bool e4m3 = bl_act_is_e4m3(w->act);
	const int64_t spr = bl_unit_weights_spr(w), width = w->cols / spr;
	struct bl_unit_weights *d;

	if (w->kind != BL_WEIGHTS_CODES)
		return bl_unit_weights_ref(w);
	d = make(w->unit, BL_WEIGHTS_DENSE, w->rows, w->cols, w->group);
	if (!d)
		return NULL;
	d->act = w->act;
	d->input_scale = w->input_scale;
	for (int64_t i = 0; i < w->rows * spr; i++) {
		const float s = w->act == BL_WEIGHTS_ACT_FP4_GROUP ? w->scales[i] : bl_round_bf16(w->scales[i]);
		const int8_t *q = w->codes + i * width;

		for (int64_t k = 0; k < width; k++)
			d->dense[i * width + k] = bl_f32_bf16((e4m3 ? bl_e4m3_f32((uint8_t)q[k]) : (float)q[k]) * s);
	}
	return d;
}

struct bl_unit_weights *bl_unit_weights_ref(struct bl_unit_weights *w)
{
	if (w)
		atomic_fetch_add(&w->refs, 1);
	return w;
}

void bl_unit_weights_unref(struct bl_unit_weights *w)
{
	if (!w || atomic_fetch_sub(&w->refs, 1) != 1)
		return;
	bl_free(w->dense);
	bl_free(w->codes);
	bl_free(w->scales);
	bl_free(w);
}
