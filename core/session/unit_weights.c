/* SPDX-License-Identifier: Apache-2.0
 * What the server would multiply with for a choice of scheme and method: codes and scales where activations are quantized too, else the decoded
 * weights, rounded to bfloat16 as its kernels do. */
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/scheme/codec.h"
#include "core/session/live.h"
#include "core/session/stored.h"

#define ITEM_ELEMS (1 << 18)

struct making {
	struct bl_solver solver;
	const struct bl_unit *unit;
	struct bl_unit_weights *w;
	int64_t rows_per_item;
};

/* Rows at .. at+n of the unit lie in these rows of a member. */
struct part { const struct bl_member *m; int64_t at, row0, n; };

static bool next_part(const struct bl_unit *u, int64_t first, int64_t last, struct part *p)
{
	int64_t start = 0;

	for (int i = 0; i < u->n_members; start += u->members[i++].rows) {
		int64_t end = start + u->members[i].rows, a = first > start ? first : start, b = last < end ? last : end;

		if (a >= b)
			continue;
		*p = (struct part){ &u->members[i], a, a - start, b - a };
		return true;
	}
	return false;
}

static void keep_codes(struct bl_unit_weights *w, const struct bl_scheme *s, const struct part *p, const struct bl_rows_buf *b)
{
	const int64_t n = p->n * w->cols, spr = bl_unit_weights_spr(w);

	bl_codes_to_run(w, s, b->codes, p->at * w->cols, n);
	for (int64_t i = 0; i < p->n * spr; i++)
		w->scales[p->at * spr + i] = b->scales[i];
}

void bl_codes_to_run(struct bl_unit_weights *w, const struct bl_scheme *s, const int8_t *codes, int64_t at, int64_t n)
{
	if (s->number != BL_NUM_E2M1)
		memmove(w->codes + at, codes, (size_t)n);
	else
		for (int64_t i = 0; i < n; i++)
			w->codes[at + i] = (int8_t)bl_f32_e4m3(bl_scheme_value(s, codes[i]));
}

static enum bl_status keep_dense(struct making *k, const struct part *p, const struct bl_rows_buf *b, struct bl_err *err)
{
	int64_t n = p->n * k->w->cols;
	float *f;

	if (bl_try_alloc(&f, (size_t)n, sizeof(*f), "decoded rows", err))
		return err->status;
	k->solver.registry->host.decode(f, b->codes, b->scales, b->zeros, p->n, k->w->cols, &k->solver.grid);
	for (int64_t i = 0; i < n; i++)
		k->w->dense[p->at * k->w->cols + i] = bl_f32_bf16(f[i]);
	bl_free(f);
	return BL_OK;
}

static enum bl_status make_rows(void *ctx, size_t item, struct bl_err *err)
{
	struct making *k = ctx;
	struct bl_rows_buf b = {0};
	int64_t first = (int64_t)item * k->rows_per_item, last = first + k->rows_per_item;
	struct part p;

	last = last < k->unit->rows ? last : k->unit->rows;
	for (; first < last && err->status == BL_OK && next_part(k->unit, first, last, &p); first = p.at + p.n) {
		if (bl_solve_rows(&k->solver, p.m, p.row0, p.n, &b, err))
			break;
		if (k->w->kind == BL_WEIGHTS_CODES)
			keep_codes(k->w, &k->solver.scheme, &p, &b);
		else
			keep_dense(k, &p, &b, err);
	}
	bl_rows_buf_free(&b);
	return err->status;
}

static void decode_ordered(float *f, const struct bl_solved *u, int64_t at, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		for (int64_t k = 0; k < u->cols; k++) {
			const int64_t group = (at + i) * u->spr + u->group_of[k];

			f[i * u->cols + k] = (float)(u->codes[(at + i) * u->cols + k] - (u->zeros ? u->zeros[group] : 0)) * u->scales[group];
		}
}

/* From the codes of a solved unit. */
static enum bl_status from_solved(struct bl_session *s, int unit, const struct bl_choice *c, const struct bl_solved *u, bool codes, struct bl_unit_weights **out,
				  struct bl_err *err)
{
	const struct bl_grid g = bl_grid_of(&c->scheme);
	struct bl_unit_weights *w = codes ? bl_unit_weights_grouped(unit, u->rows, u->cols, c->scheme.group) : bl_unit_weights_new(unit, BL_WEIGHTS_DENSE, u->rows, u->cols);
	const int64_t rows = 1 + ITEM_ELEMS / u->cols;
	float *f = NULL;

	if (!w)
		return bl_fail(err, BL_NO_MEMORY, "memory: %.1f MiB asked for the quantized weights of %s", (double)(u->rows * u->cols) / (1 << 19),
			       s->model->units[unit].name);
	*out = w;
	if (codes) {
		bl_codes_to_run(w, &c->scheme, u->codes, 0, u->rows * u->cols);
		memcpy(w->scales, u->scales, (size_t)(u->rows * bl_unit_weights_spr(w)) * sizeof *w->scales);
		return BL_OK;
	}
	if (c->scheme.number == BL_NUM_PRUNED) {
		memcpy(w->dense, u->codes, (size_t)(u->rows * u->cols) * sizeof *w->dense);
		return BL_OK;
	}
	if (bl_try_alloc(&f, (size_t)(rows * u->cols), sizeof *f, "decoded rows", err))
		return err->status;
	for (int64_t at = 0; at < u->rows; at += rows) {
		const int64_t n = u->rows - at < rows ? u->rows - at : rows;

		if (u->group_of)
			decode_ordered(f, u, at, n);
		else
			s->registry.host.decode(f, u->codes + at * u->cols, u->scales + at * u->spr, u->zeros ? u->zeros + at * u->spr : NULL, n, u->cols, &g);
		for (int64_t i = 0; i < n * u->cols; i++)
			w->dense[at * u->cols + i] = bl_f32_bf16(f[i]);
	}
	bl_free(f);
	return BL_OK;
}

/* Of the unit as the plan's stages left it. */
static enum bl_status weights_of(struct bl_session *s, const struct bl_unit *folded, int unit, const struct bl_choice *c, bool zero, const struct bl_solved *solved,
				 struct bl_unit_weights **out, struct bl_err *err)
{
	const enum bl_weights_act act = bl_weights_act_of(c->scheme.act, c->scheme.symmetric, c->scheme.group);
	struct making k = {.unit = folded};
	const bool codes = act != BL_WEIGHTS_ACT_NONE, fixed = codes && bl_act_is_static(c->scheme.act);
	float absmax = fixed ? bl_live_absmax(s->priv->live, unit, c, true) : 0;
	char name[BL_SCHEME_NAME_MAX];

	if (!isfinite(absmax))
		return bl_fail(err, BL_INVALID, "%s: %s rounds its inputs with one scale, and no calibration has their range: calibrate first, or choose %s", k.unit->name,
			       bl_scheme_name(name, &c->scheme), c->scheme.act == BL_ACT_FP4_GROUP ? "NVFP4A16" : bl_act_is_fp8(c->scheme.act) ? "FP8_DYNAMIC" : "W8A8");
	if (bl_session_choice_whole(s, c)) {
		struct bl_solved *u = NULL;
		if (!solved && bl_live_stored_unit(s->priv->live, unit, c, zero, &u, err)) {
			if (err->status == BL_NOT_FOUND)
				bl_err_prefix(err, "%s is not solved yet (r or `bitlathe quantize` does it)", c->method);
			return err->status;
		}
		if (!from_solved(s, unit, c, solved ? solved : u, codes, &k.w, err) && codes)
			k.w->act = act;
		if (k.w && fixed)
			k.w->input_scale = bl_act_input_scale(c->scheme.act, absmax);
		bl_solved_free(u);
		if (err->status)
			bl_unit_weights_unref(k.w);
		else
			*out = k.w;
		return err->status;
	}
	if (bl_solver_init(&k.solver, &s->registry, &c->scheme, c->method, c->params, zero, err))
		return err->status;
	k.w = codes ? bl_unit_weights_grouped(unit, k.unit->rows, k.unit->cols, c->scheme.group) : bl_unit_weights_new(unit, BL_WEIGHTS_DENSE, k.unit->rows, k.unit->cols);
	if (!k.w) {
		bl_fail(err, BL_NO_MEMORY, "memory: %.1f MiB asked for the quantized weights of %s", (double)(k.unit->rows * k.unit->cols) / (1 << 19),
			k.unit->name);
	} else {
		if (codes)
			k.w->act = act;
		if (fixed)
			k.w->input_scale = bl_act_input_scale(c->scheme.act, absmax);
		k.rows_per_item = k.unit->cols < ITEM_ELEMS ? ITEM_ELEMS / k.unit->cols : 1;
		bl_pool_run(s->pool, (size_t)((k.unit->rows + k.rows_per_item - 1) / k.rows_per_item), make_rows, &k, NULL, err);
	}
	bl_solver_fini(&k.solver);
	if (err->status)
		bl_unit_weights_unref(k.w);
	else
		*out = k.w;
	return err->status;
}

enum bl_status bl_live_unit_weights(struct bl_session *s, int unit, const struct bl_choice *c, bool zero, const struct bl_solved *solved, struct bl_unit_weights **out,
				    struct bl_err *err)
{
	struct bl_fold *f = NULL;

	*out = NULL;
	if (bl_live_fold(s->priv->live, c, &f, err))
		return err->status;
	if (c->scheme.number != BL_NUM_FULL)
		weights_of(s, bl_live_unit(s->priv->live, f, unit), unit, c, zero, solved, out, err);
	else if (f)
		bl_live_folded_weights(f, unit, out, err);
	bl_fold_unref(f);
	return err->status;
}

enum bl_status bl_session_unit_weights(struct bl_session *s, int unit, const struct bl_choice *c, struct bl_unit_weights **out, struct bl_err *err)
{
	return bl_live_unit_weights(s, unit, c, atomic_load(&s->priv->zero_nonfinite), NULL, out, err);
}
