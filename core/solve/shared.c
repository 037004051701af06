/* SPDX-License-Identifier: Apache-2.0
 * Largest weights come from the engine, what follows from them is made here, as core/plugin/method_run.c makes it from files. */
#include "core/solve/shared.h"

#include "core/backend/backend.h"
#include "core/base/mem.h"
#include "core/scheme/codec.h"

static float most(const float *v, int64_t n)
{
	float top = 0;

	for (int64_t i = 0; i < n; i++)
		top = v[i] > top ? v[i] : top;
	return top;
}

static float scale_of(float top)
{
	const struct bk_grid g = { .number = BK_E4M3, .bits = 8, .symmetric = 1 };
	const float lo = -top;
	float scale;

	bl_cpu_ops()->scales(&scale, NULL, &lo, &top, 1, 1, &g);
	return scale;
}

/* tops [rows, spr] of a linear become scales: all equal, or equal within squares (the last row of squares may be cut off). */
static void share(float *tops, const struct bl_scheme *s, int64_t rows, int64_t spr)
{
	const int64_t height = s->strategy == BL_STRATEGY_BLOCK ? s->group : rows;

	for (int64_t row = 0; row < rows; row += height) {
		const int64_t end = rows - row < height ? rows : row + height;

		for (int64_t g = 0; g < spr; g++) {
			float top = 0;

			for (int64_t i = row; i < end; i++)
				top = tops[i * spr + g] > top ? tops[i * spr + g] : top;
			top = scale_of(top);
			for (int64_t i = row; i < end; i++)
				tops[i * spr + g] = top;
		}
	}
}

enum bl_status bl_shared_find(struct bl_solve_device *d, const struct bl_scheme *s, const struct bl_unit *u, const struct bk_mat *w, struct bl_err *err)
{
	struct bl_engine *e = d->engine;
	const int64_t spr = bl_scheme_scales_per_row(s, u->cols), n = w->rows * spr, width = u->cols / spr;
	float *tops = NULL;
	int64_t at = 0;

	if (!bl_scheme_is_shared(s))
		return BL_OK;
	d->given_bytes = (size_t)n * sizeof *tops;
	if (bl_try_alloc(&tops, (size_t)n, sizeof *tops, "scales", err))
		return err->status;
	if (bl_engine_alloc(e, &d->given, d->given_bytes, "scales", err) || bl_engine_check(e, d->ops->absmax(&d->solve, d->given, w, width), "ranges", err) ||
	    bl_engine_check(e, e->ops->get(e->run, tops, d->given, d->given_bytes), "ranges", err))
		goto done;
	if (s->strategy == BL_STRATEGY_TENSOR_GROUP) { /* one number for all parts that the server fuses; scales of groups are sought */
		d->global = bl_nvfp4_global(most(tops, n));
		bl_engine_release(e, d->given);
		d->given = NULL;
	} else {
		for (int m = 0; m < u->n_members; at += u->members[m++].rows)
			share(tops + at * spr, s, u->members[m].rows, spr);
		bl_engine_check(e, e->ops->put(e->run, d->given, tops, d->given_bytes), "scales", err);
	}
done:
	bl_free(tops);
	return err->status;
}
