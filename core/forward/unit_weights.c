/* SPDX-License-Identifier: Apache-2.0
 * Replacements of weights: shared, counted, const after they were made. */
#include "core/base/mem.h"
#include "core/forward/weights.h"

struct bl_unit_weights *bl_unit_weights_new(int unit, enum bl_weights_kind kind, int64_t rows, int64_t cols)
{
	static _Atomic(uint64_t) last_id;
	struct bl_unit_weights *w = bl_try_malloc(sizeof(*w));
	size_t n;

	if (!w)
		return NULL;
	*w = (struct bl_unit_weights){ .unit = unit, .kind = kind, .rows = rows, .cols = cols, .id = atomic_fetch_add(&last_id, 1) + 1 };
	atomic_init(&w->refs, 1);
	if (rows < 0 || cols < 0 || __builtin_mul_overflow((size_t)rows, (size_t)cols, &n) || n > SIZE_MAX / 4)
		goto fail;
	if (kind == BL_WEIGHTS_DENSE)
		w->dense = bl_try_malloc(n * sizeof(*w->dense) + 1);
	else
		w->codes = bl_try_malloc(n + 1);
	if (kind == BL_WEIGHTS_CODES)
		w->scales = bl_try_malloc((size_t)rows * sizeof(*w->scales) + 1);
	if (kind == BL_WEIGHTS_DENSE ? w->dense != NULL : w->codes && w->scales)
		return w;
fail:
	bl_unit_weights_unref(w);
	return NULL;
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
