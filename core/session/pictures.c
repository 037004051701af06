/* SPDX-License-Identifier: Apache-2.0
 * Each picture is a value that a job fills once; another unit or choice makes another one. */
#include "core/session/pictures.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/session/live.h"

struct bl_picture {
	atomic_int refs, state; /* enum bl_known */
	int unit, rows, cols;   /* of the map */
	uint64_t hash;
	struct bl_choice choice; /* params owned */
	bool zero_nonfinite, weights_only;
	const struct bl_live_calib *of; /* only compared */
	float *v;
	char why[160];
};

struct picture_job { struct bl_session *s; struct bl_picture *p; };

static void unref(struct bl_picture *p)
{
	if (!p || atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	bl_free(p->choice.params);
	bl_free(p->v);
	bl_free(p);
}

void bl_live_pictures_free(struct bl_live *l)
{
	unref(l->row_errors);
	unref(l->weight_map);
	l->row_errors = l->weight_map = NULL;
}

void bl_live_pictures_ask_again(struct bl_live *l)
{
	if (l->row_errors && atomic_load(&l->row_errors->state) == BL_KNOWN_REFUSED)
		atomic_store(&l->row_errors->state, BL_KNOWN_NO);
}

static void settle(struct picture_job *k, const struct bl_err *err)
{
	if (err->status)
		bl_printable(k->p->why, sizeof k->p->why, err->text);
	atomic_store(&k->p->state, err->status == BL_OK ? BL_KNOWN_YES : err->status == BL_CANCELLED ? BL_KNOWN_NO : BL_KNOWN_REFUSED);
	bl_jobs_wake(k->s->jobs);
}

static void picture_drop(void *ctx)
{
	struct picture_job *k = ctx;

	if (atomic_load(&k->p->state) == BL_KNOWN_COMPUTING) /* it never ran: asked for again */
		atomic_store(&k->p->state, BL_KNOWN_NO);
	unref(k->p);
	bl_free(k);
}

/* A picture as it is, or a new one whose job was started. */
static struct bl_picture *make(struct bl_session *s, struct bl_picture **at, const struct bl_picture *want, const struct bl_job_ops *ops, size_t elems)
{
	struct bl_picture *p = *at;

	if (p && p->unit == want->unit && p->hash == want->hash && p->of == want->of && atomic_load(&p->state) != BL_KNOWN_NO)
		return p;
	struct picture_job *k = bl_xalloc(1, sizeof *k);
	p = bl_xalloc(1, sizeof *p);
	*p = *want;
	p->refs = 2;
	p->choice.params = bl_xstrdup(want->choice.params ? want->choice.params : "");
	p->v = bl_xalloc(elems + 1, sizeof *p->v);
	atomic_store(&p->state, BL_KNOWN_COMPUTING);
	unref(*at);
	*at = p;
	k->s = s;
	k->p = p;
	bl_jobs_add(s->jobs, ops, k, NULL);
	return p;
}

/* ---- errors by row ---- */

struct row_work { struct picture_job *k; struct bl_solver solver; const struct bl_member *m; float *out; };

static enum bl_status one_row(void *ctx, size_t row, struct bl_err *err)
{
	struct row_work *w = ctx;
	struct bl_rows_buf buf = {0};
	double w2 = 0, e2 = 0;

	bl_solve_rows_error(&w->solver, w->m, (int64_t)row, 1, &buf, &w2, &e2, err);
	w->out[row] = w2 > 0 ? (float)(e2 / w2) : 0;
	bl_rows_buf_free(&buf);
	return err->status;
}

static enum bl_status weights_alone(struct picture_job *k, const atomic_int *cancel, struct bl_err *err)
{
	const struct bl_unit *u = &k->s->model->units[k->p->unit];
	struct row_work w = {.k = k, .out = k->p->v};

	if (bl_session_choice_whole(k->s, &k->p->choice))
		return bl_fail(err, BL_INVALID, "%s needs a calibration with Hessians", k->p->choice.method);
	if (bl_solver_init(&w.solver, &k->s->registry, &k->p->choice.scheme, k->p->choice.method, k->p->choice.params, k->p->zero_nonfinite, err))
		return err->status;
	k->p->weights_only = true;
	for (int i = 0; i < u->n_members && !err->status; w.out += u->members[i++].rows) {
		w.m = &u->members[i];
		bl_pool_run(k->s->pool, (size_t)w.m->rows, one_row, &w, cancel, err);
	}
	bl_solver_fini(&w.solver);
	return err->status;
}

static enum bl_status rows_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct picture_job *k = ctx;
	struct bl_live *l = k->s->priv->live;
	struct bl_live_turn t = {.job = j, .l = l, .calib = bl_live_get_calib(l), .own = true};
	struct bl_unit_weights *w = NULL;
	struct bl_fold *f = NULL;

	if (!t.calib || !bl_calib_has_hessians(t.calib->c))
		weights_alone(k, bl_job_cancel_flag(j), err);
	else if (!bl_live_fold(l, &k->p->choice, &f, err) && !bl_live_solve(l, k->p->unit, &k->p->choice, k->p->zero_nonfinite, &w, err) && w)
		bl_live_row_errors(&t, f, k->p->unit, w, k->p->v, err);
	bl_fold_unref(f);
	bl_live_calib_unref(t.calib);
	settle(k, err);
	return err->status;
}

enum bl_known bl_session_row_errors(struct bl_session *s, int unit, const struct bl_choice *c, const float **rel, bool *weights_only, char why[160])
{
	static const struct bl_job_ops ops = {.name = "errors by row", .lane = BL_LANE_MAIN, .run = rows_run, .drop = picture_drop, .quiet = true};
	bool zero = bl_plan_zero_nonfinite(s->plan);
	struct bl_picture want = {.unit = unit, .choice = *c, .hash = bl_live_choice_hash(c, zero), .zero_nonfinite = zero};

	*rel = NULL;
	if (!want.hash || !s->model->units[unit].members[0].weight)
		return BL_KNOWN_NO;
	bl_session_calib(s);
	want.of = s->priv->live->calib_shown;
	struct bl_picture *p = make(s, &s->priv->live->row_errors, &want, &ops, (size_t)s->model->units[unit].rows);
	enum bl_known known = (enum bl_known)atomic_load(&p->state);
	*weights_only = known == BL_KNOWN_YES && p->weights_only;
	if (known == BL_KNOWN_YES)
		*rel = p->v;
	else if (known == BL_KNOWN_REFUSED)
		memcpy(why, p->why, sizeof p->why);
	return known;
}

/* ---- blocks of weights ---- */

struct map_work { const struct bl_unit *u; struct bl_picture *p; };

static float weight_at(const struct bl_tensor *t, int64_t i)
{
	uint16_t half;
	float f;

	if (t->dtype == BL_F32)
		return memcpy(&f, (const char *)t->data + i * 4, 4), f;
	memcpy(&half, (const char *)t->data + i * 2, 2);
	return t->dtype == BL_BF16 ? bl_bf16_f32(half) : bl_f16_f32(half);
}

/* One line of blocks. */
static enum bl_status map_line(void *ctx, size_t line, struct bl_err *err)
{
	const struct map_work *w = ctx;
	const struct bl_unit *u = w->u;
	double sum[BL_MAP_COLS] = {0};
	int64_t from = (int64_t)line * u->rows / w->p->rows, to = ((int64_t)line + 1) * u->rows / w->p->rows;

	(void)err;
	for (int64_t row = from; row < to; row++) {
		int64_t in = row;
		int m = 0;
		while (in >= u->members[m].rows)
			in -= u->members[m++].rows;
		for (int b = 0; b < w->p->cols; b++)
			for (int64_t i = b * u->cols / w->p->cols; i < (b + 1) * u->cols / w->p->cols; i++) {
				double v = (double)weight_at(u->members[m].weight, in * u->cols + i);
				sum[b] += isfinite(v) ? v * v : 0;
			}
	}
	for (int b = 0; b < w->p->cols; b++) {
		int64_t n = (to - from) * ((b + 1) * u->cols / w->p->cols - b * u->cols / w->p->cols);
		w->p->v[(int)line * w->p->cols + b] = n > 0 ? (float)sqrt(sum[b] / (double)n) : 0;
	}
	return BL_OK;
}

struct guarded { void *ctx; size_t line; };

static enum bl_status in_guard(void *ctx, struct bl_err *err)
{
	const struct guarded *g = ctx;

	return map_line(g->ctx, g->line, err);
}

/* The file may shrink under the map. */
static enum bl_status guarded_line(void *ctx, size_t line, struct bl_err *err)
{
	struct guarded g = {ctx, line};

	return bl_guard_run(in_guard, &g, err);
}

static enum bl_status map_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct picture_job *k = ctx;
	struct map_work w = {&k->s->model->units[k->p->unit], k->p};

	bl_pool_run(k->s->pool, (size_t)k->p->rows, guarded_line, &w, bl_job_cancel_flag(j), err);
	settle(k, err);
	return err->status;
}

enum bl_known bl_session_weight_map(struct bl_session *s, int unit, const float **rms, int *rows, int *cols, char why[160])
{
	static const struct bl_job_ops ops = {.name = "weights as a map", .lane = BL_LANE_LIGHT, .run = map_run, .drop = picture_drop, .quiet = true};
	const struct bl_unit *u = &s->model->units[unit];
	struct bl_picture want = {.unit = unit, .hash = 1, .rows = u->rows < BL_MAP_ROWS ? (int)u->rows : BL_MAP_ROWS,
				  .cols = u->cols < BL_MAP_COLS ? (int)u->cols : BL_MAP_COLS};

	*rms = NULL;
	if (!u->members[0].weight)
		return BL_KNOWN_NO;
	struct bl_picture *p = make(s, &s->priv->live->weight_map, &want, &ops, (size_t)want.rows * (size_t)want.cols);
	enum bl_known known = (enum bl_known)atomic_load(&p->state);
	*rows = p->rows;
	*cols = p->cols;
	if (known == BL_KNOWN_YES)
		*rms = p->v;
	else if (known == BL_KNOWN_REFUSED)
		memcpy(why, p->why, sizeof p->why);
	return known;
}
