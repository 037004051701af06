/* SPDX-License-Identifier: Apache-2.0
 * Where training starts: scales, and offsets such that the codes of another method come out. */
#include <math.h>
#include <stdatomic.h>

#include "core/base/half.h"
#include "core/model/nonfinite.h"
#include "core/tune/private.h"

#define INSIDE 0.3f /* where in its cell a weight starts whose code is not the nearest: at its border the first steps, which are mostly noise, would push it back */

#define ROWS 32 /* at a time */

struct starting { /* on the engine's threads: any split gives the same */
	struct tune *t;
	const struct tune_state *s;
	const struct bl_unit *u;
	const int8_t *codes; /* of the start, or NULL: from the range */
	float *base, *v;
	const int8_t *zero;
	_Atomic(int64_t) bad; /* the first element that is not finite; -1 */
	atomic_bool no_memory;
};

static const struct bl_tensor *member_at(const struct bl_unit *u, int64_t row, int64_t *first)
{
	int i = 0;

	for (*first = 0; row - *first >= u->members[i].rows; i++)
		*first += u->members[i].rows;
	return u->members[i].weight;
}

static void note_bad(struct starting *k, int64_t at)
{
	int64_t seen = atomic_load(&k->bad);

	while ((seen < 0 || at < seen) && !atomic_compare_exchange_weak(&k->bad, &seen, at))
		;
}

/* A row as float32. */
static void load(struct starting *k, float *to, int64_t row)
{
	int64_t first;
	const struct bl_tensor *x = member_at(k->u, row, &first);
	const size_t elem = x->dtype == BL_F32 ? 4 : 2;

	if (!bl_cpu_ops()->load_rows(to, (const char *)x->data + (size_t)((row - first) * k->s->cols) * elem, x->dtype == BL_BF16 ? BK_BF16 : x->dtype == BL_F16 ? BK_F16 : BK_F32,
				     k->s->cols))
		return;
	for (int64_t i = 0; i < k->s->cols; i++) {
		if (isfinite(to[i]))
			continue;
		if (!k->t->rq->zero_nonfinite)
			note_bad(k, row * k->s->cols + i);
		to[i] = 0;
	}
}

/* The largest weight of the group lands on -2^(bits-1). */
static float range_scale(const float *w, int64_t n, int bits)
{
	float most = 0;

	for (int64_t i = 0; i < n; i++)
		if (fabsf(w[i]) > fabsf(most))
			most = w[i];
	const float s = bl_round_bf16(-most / (float)(1 << (bits - 1)));
	return fabsf(s) >= 0x1p-14f ? s : 0x1p-7f;
}

static void offsets(const struct starting *k, const float *w, int64_t row)
{
	const struct tune_state *s = k->s;
	const int64_t width = s->cols / s->spr;
	const int lo = -(1 << (s->grid.bits - 1)), hi = -lo - 1;

	for (int64_t c = 0; c < s->cols; c++) {
		const int64_t i = row * s->cols + c, j = row * s->spr + c / width;
		const float q = (float)k->codes[i] - (k->zero ? (float)k->zero[j] : 0), u = k->base[j] != 0 ? w[c] / k->base[j] : 0;
		const bool held = (k->codes[i] == lo && u < q) || (k->codes[i] == hi && u > q); /* by the grid's end */

		k->v[i] = held || fabsf(u - q) < 0.5f ? 0 : q + (u < q ? -INSIDE : INSIDE) - u;
	}
}

static void some_rows(void *arg, size_t item)
{
	struct starting *k = arg;
	const struct tune_state *s = k->s;
	const int64_t width = s->cols / s->spr, end = (int64_t)(item + 1) * ROWS < s->rows ? (int64_t)(item + 1) * ROWS : s->rows;
	float *w = bl_try_malloc((size_t)s->cols * sizeof *w);

	if (!w)
		atomic_store(&k->no_memory, true);
	for (int64_t row = (int64_t)item * ROWS; w && row < end; row++) {
		load(k, w, row);
		if (k->codes)
			offsets(k, w, row);
		for (int64_t j = 0; !k->codes && j < s->spr; j++)
			k->base[row * s->spr + j] = range_scale(w + j * width, width, s->grid.bits);
	}
	bl_free(w);
}

enum bl_status tune_start(struct tune *t, struct tune_state *s, float *base, int8_t *zero, float *v, struct bl_err *err)
{
	const struct bl_unit *u = &t->m->units[s->unit];
	const struct bl_solved *start = t->rq->units[s->unit].start;
	struct starting k = { .t = t, .s = s, .u = u, .base = base, .v = v, .zero = zero };

	atomic_init(&k.bad, -1);
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
		k.codes = start->codes;
	} else if (zero || s->grid.number != BK_INT) {
		return bl_fail(err, BL_UNSUPPORTED, "%s: starting from the whole range is for symmetric integers", u->name);
	}
	bl_engine_parallel(t->e, (size_t)((s->rows + ROWS - 1) / ROWS), some_rows, &k);
	if (atomic_load(&k.no_memory))
		return bl_fail(err, BL_NO_MEMORY, "memory: %.1f MiB asked for rows of weights", (double)s->cols / (1 << 18));
	if (atomic_load(&k.bad) >= 0) {
		int64_t at = atomic_load(&k.bad), first;
		const struct bl_tensor *w = member_at(u, at / s->cols, &first);

		return bl_refuse_nonfinite(w, at - first * s->cols, err);
	}
	return bl_engine_check(t->e, 0, "reading weights", err); /* a file that shrank */
}
