/* SPDX-License-Identifier: Apache-2.0
 * Units of a quantized checkpoint as weights to run with. */
#include "core/session/stored.h"

#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/format/format.h"
#include "core/session/measure.h"
#include "core/session/private.h"

#define ROWS 64 /* at once: formats that store the matrix transposed have many rows in one line of cache */

struct making { const struct bl_source *source; struct bl_weight_set *set; };

struct rows { int8_t *codes, *zeros; float *scales; int32_t *order; };

static enum bl_weights_act act_of(const struct bl_scheme *s)
{
	return bl_weights_act_of(s->act, s->symmetric, s->group);
}

static enum bl_status rows_alloc(struct rows *r, const struct bl_linear *l, struct bl_err *err)
{
	const size_t cols = (size_t)l->member->cols, spr = (size_t)bl_scheme_scales_per_row(&l->scheme, l->member->cols);

	*r = (struct rows){0};
	if (bl_try_alloc(&r->codes, ROWS * cols, 1, "rows of codes", err) || bl_try_alloc(&r->zeros, ROWS * spr, 1, "zero points", err) ||
	    bl_try_alloc(&r->scales, ROWS * spr, sizeof *r->scales, "scales", err) || bl_try_alloc(&r->order, cols, sizeof *r->order, "groups of columns", err))
		return err->status;
	if (bl_linear_order(l))
		memcpy(r->order, bl_linear_order(l)->data, 4 * cols);
	return BL_OK;
}

static void rows_free(struct rows *r)
{
	bl_free(r->codes);
	bl_free(r->zeros);
	bl_free(r->scales);
	bl_free(r->order);
}

/* Rows of one linear to row `at` of the unit's weights. */
static enum bl_status put_linear(struct bl_unit_weights *w, int64_t at, const struct bl_linear *l, struct bl_err *err)
{
	const int64_t cols = w->cols, spr = bl_scheme_scales_per_row(&l->scheme, cols);
	struct rows r;

	if (rows_alloc(&r, l, err) == BL_OK)
		for (int64_t row = 0, n; row < l->member->rows; row += n) {
			n = l->member->rows - row < ROWS ? l->member->rows - row : ROWS;
			if (w->kind == BL_WEIGHTS_CODES) {
				int8_t *to = w->codes + (at + row) * cols;
				bl_linear_rows(l, row, n, to, w->scales + (at + row) * spr, r.zeros);
				bl_codes_to_run(w, &l->scheme, to, (at + row) * cols, n * cols);
				continue;
			}
			bl_linear_rows(l, row, n, r.codes, r.scales, r.zeros);
			for (int64_t i = 0; i < n * spr && l->scheme.number == BL_NUM_INT; i++)
				r.scales[i] = bl_round_bf16(r.scales[i]); /* a bfloat16 client holds them in its own type */
			const struct bl_coded c = {r.codes, r.scales, l->scheme.symmetric ? NULL : r.zeros, l->scheme.order ? r.order : NULL};
			bl_scheme_decode_bf16(w->dense + (at + row) * cols, &l->scheme, &c, n, cols);
		}
	rows_free(&r);
	return err->status;
}

/* A part in full precision beside quantized ones. */
static enum bl_status put_plain(struct bl_unit_weights *w, int64_t at, const struct bl_member *m, struct bl_err *err)
{
	const struct bl_tensor *t = m->weight;
	uint16_t *to = w->dense + at * w->cols;

	if (w->kind != BL_WEIGHTS_DENSE)
		return bl_fail(err, BL_UNSUPPORTED, "%s: in full precision beside parts whose inputs are rounded: this cannot be run", m->name);
	for (int64_t i = 0; i < t->n_elems; i++) {
		uint16_t h;
		float f;

		if (t->dtype == BL_F32) {
			memcpy(&f, (const uint8_t *)t->data + 4 * i, 4);
		} else {
			memcpy(&h, (const uint8_t *)t->data + 2 * i, 2);
			f = t->dtype == BL_BF16 ? bl_bf16_f32(h) : bl_f16_f32(h);
		}
		to[i] = bl_f32_bf16(f);
	}
	return BL_OK;
}

static enum bl_status make_unit(void *ctx, size_t item, struct bl_err *err)
{
	struct making *k = ctx;
	const struct bl_unit *u = &k->source->m->units[item];
	const struct bl_linear *first = bl_source_linear(k->source, (int)item, 0);
	enum bl_weights_act act = first->format ? act_of(&first->scheme) : BL_WEIGHTS_ACT_NONE;
	bool any = false;
	int64_t at = 0;

	for (int j = 0; j < u->n_members; j++) {
		any |= first[j].format != NULL;
		if (first[j].format && (act_of(&first[j].scheme) != act || (act != BL_WEIGHTS_ACT_NONE && first[j].scheme.group != first->scheme.group)))
			return bl_fail(err, BL_UNSUPPORTED, "%s: its parts round their inputs in different ways: this cannot be run", u->name);
	}
	if (!any)
		return BL_OK;
	struct bl_unit_weights *w = act == BL_WEIGHTS_ACT_NONE ? bl_unit_weights_new((int)item, BL_WEIGHTS_DENSE, u->rows, u->cols) :
								 bl_unit_weights_grouped((int)item, u->rows, u->cols, first->scheme.group);
	if (!w)
		return bl_fail(err, BL_NO_MEMORY, "memory: %.1f MiB asked for the weights of %s", (double)(u->rows * u->cols) / (1 << 19), u->name);
	w->act = act;
	w->input_scale = act == BL_WEIGHTS_ACT_NONE ? 0 : bl_linear_input(first);
	k->set->of[item] = w;
	for (int j = 0; j < u->n_members; at += u->members[j++].rows)
		if (first[j].format ? put_linear(w, at, &first[j], err) : put_plain(w, at, &u->members[j], err))
			return err->status;
	return BL_OK;
}

enum bl_status bl_stored_weights(struct bl_weight_set *out, const struct bl_model *m, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_weight_set set = {.n = m->n_units};
	struct bl_source *source = NULL;

	if (bl_source_open(&source, m, true, err))
		return err->status;
	struct making k = {source, &set};
	set.of = bl_xalloc((size_t)set.n + 1, sizeof *set.of);
	if (bl_pool_run(pool, (size_t)set.n, make_unit, &k, cancel, err))
		bl_measure_weights_free(&set);
	else
		*out = set;
	bl_source_close(source);
	return err->status;
}

enum bl_status bl_session_stored(struct bl_session *s, const struct bl_weight_set **out, struct bl_err *err)
{
	*out = NULL;
	if (!s->model->config.quantized)
		return BL_OK;
	pthread_mutex_lock(&s->priv->stored_lock);
	if (!s->priv->stored.of)
		bl_stored_weights(&s->priv->stored, s->model, s->pool, NULL, err);
	if (!err->status)
		*out = &s->priv->stored;
	pthread_mutex_unlock(&s->priv->stored_lock);
	return err->status;
}

enum bl_status bl_session_own(struct bl_session *s, enum bl_arithmetic a, struct bl_weight_set *room, const struct bl_weight_set **out, struct bl_err *err)
{
	if (bl_session_stored(s, out, err) || !*out || a == BL_ARITHMETIC_SERVER)
		return err->status;
	if (bl_weights_transformers(room, *out, s->pool, err) == BL_OK)
		*out = room;
	return err->status;
}

/* ---- what the file says of its units ---- */

void bl_session_stored_look(struct bl_session *s)
{
	struct bl_err why = BL_ERR_INIT; /* of a method that is not read: said when the model is asked to run */
	struct bl_source *source = NULL;

	if (!s->model->config.quantized || bl_source_open(&source, s->model, false, &why))
		return;
	s->priv->stored_units = bl_xalloc((size_t)s->model->n_units + 1, sizeof *s->priv->stored_units);
	for (int i = 0; i < s->model->n_units; i++) {
		struct bl_stored_unit *u = &s->priv->stored_units[i];
		bool known = bl_source_scheme(source, i, &u->scheme);
		for (int j = 0; j < s->model->units[i].n_members && !u->format[0]; j++)
			if (bl_source_linear(source, i, j)->format)
				snprintf(u->format, sizeof u->format, "%s", known ? bl_source_linear(source, i, j)->name : "?");
		if (!known)
			u->scheme = BL_SCHEME_FULL;
	}
	bl_source_close(source);
}

const struct bl_scheme *bl_session_scheme(const struct bl_session *s, int unit, const char **format)
{
	const struct bl_scheme *chosen = &bl_plan_choice(s->plan, unit)->scheme;
	const struct bl_stored_unit *u = s->priv->stored_units ? &s->priv->stored_units[unit] : NULL;
	bool stored = u && u->format[0] && chosen->number == BL_NUM_FULL;

	if (format)
		*format = stored ? u->format : NULL;
	return stored ? &u->scheme : chosen;
}

void bl_session_stored_fini(struct bl_session *s)
{
	bl_free(s->priv->stored_units);
	bl_measure_weights_free(&s->priv->stored);
}

/* ---- two checkpoints ---- */

struct rest { const struct bl_model *base, *other; };

static enum bl_status compare_rest(void *ctx, struct bl_err *err)
{
	const struct rest *r = ctx;

	for (int64_t i = 0; i < r->base->n_tensors; i++) {
		const struct bl_tensor *a = r->base->tensors[i], *b = bl_model_tensor(r->other, a->name);
		char *module = bl_ends_with(a->name, ".weight") ? bl_xstrndup(a->name, strlen(a->name) - 7) : NULL;
		const bool linear = module && bl_model_unit(r->base, module) >= 0;

		bl_free(module);
		if (linear || (a == r->base->head && r->base->config.tied))
			continue;
		if (!b || a->dtype != b->dtype || a->bytes != b->bytes || memcmp(a->data, b->data, a->bytes))
			return bl_fail(err, BL_INVALID, "%s: %s in the quantized checkpoint, so the two cannot be compared side by side", a->name, b ? "is another one" : "is not there");
	}
	return BL_OK;
}

enum bl_status bl_same_rest(const struct bl_model *base, const struct bl_model *quantized, struct bl_err *err)
{
	struct rest r = {base, quantized};
	bool same = base->n_units == quantized->n_units && !strcmp(base->config.model_type, quantized->config.model_type);

	for (int i = 0; same && i < base->n_units; i++)
		same = base->units[i].rows == quantized->units[i].rows && base->units[i].cols == quantized->units[i].cols;
	if (!same)
		return bl_fail(err, BL_INVALID, "%s: has not the shape of %s", quantized->title, base->title);
	return bl_guard_run(compare_rest, &r, err);
}
