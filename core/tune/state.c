/* SPDX-License-Identifier: Apache-2.0
 * What is trained of a unit, and how a gradient becomes a step. */
#include <math.h>
#include <string.h>

#include "core/base/file.h"
#include "core/tune/private.h"

static uint64_t padded(uint64_t bytes) { return (bytes + 255) & ~(uint64_t)255; }

static int dtype_of(enum bl_dtype d) { return d == BL_BF16 ? BK_BF16 : d == BL_F16 ? BK_F16 : BK_F32; }

/* --- weights --- */

/* bfloat16 where all members are; else float32. */
static int weight_dtype(const struct bl_unit *u)
{
	for (int i = 0; i < u->n_members; i++)
		if (u->members[i].weight->dtype != BL_BF16)
			return BK_F32;
	return BK_BF16;
}

static enum bl_status put_member(struct tune *t, const struct bl_tensor *x, const struct bk_mat *to, struct bl_err *err)
{
	const size_t bytes = (size_t)(to->rows * to->cols) * (dtype_of(x->dtype) == BK_F32 ? 4 : 2);
	struct bk_mat from = tune_mat((void *)x->data, to->rows, to->cols, dtype_of(x->dtype));
	void *there = NULL;

	if (from.dtype == to->dtype) /* the source may be a mapped file: as an upload it is read under guard */
		return TUNE_OP(t, err, "weights", upload(t->e->run, to->p, x->data, bytes)) ? err->status : TUNE_OP(t, err, "weights", upload_join(t->e->run));
	if (bl_engine_alloc(t->e, &there, bytes, "weights on their way to another type", err))
		return err->status;
	from.p = there;
	if (!TUNE_OP(t, err, "weights", upload(t->e->run, there, x->data, bytes)) && !TUNE_OP(t, err, "weights", upload_join(t->e->run)))
		TUNE_OP(t, err, "weights", convert(t->e->run, to, &from));
	bl_engine_release(t->e, there);
	return err->status;
}

/* With zeros where they are not finite. */
static enum bl_status put_finite(struct tune *t, const struct bl_tensor *x, const struct bk_mat *to, struct bl_err *err)
{
	const int64_t n = to->rows * to->cols;
	float *w = NULL;

	if (bl_try_alloc(&w, (size_t)n, sizeof *w, "the unit's weights", err))
		return err->status;
	if (bl_cpu_ops()->load_rows(w, x->data, dtype_of(x->dtype), n))
		for (int64_t i = 0; i < n; i++)
			w[i] = isfinite(w[i]) ? w[i] : 0;
	TUNE_OP(t, err, "weights", put(t->e->run, to->p, w, (size_t)n * sizeof *w));
	bl_free(w);
	return err->status;
}

static enum bl_status put_own(struct tune *t, struct tune_state *s, struct bk_mat *to, struct bl_err *err)
{
	const struct bl_unit *u = &t->m->units[s->unit];
	const bool zeros = t->rq->zero_nonfinite && s->tuned;
	const int dtype = zeros ? BK_F32 : weight_dtype(u);
	const size_t elem = dtype == BK_F32 ? 4 : 2;
	int64_t row = 0;

	*to = tune_mat(NULL, s->rows, s->cols, dtype);
	if (bl_engine_alloc(t->e, &to->p, (size_t)(s->rows * s->cols) * elem, "weights", err))
		return err->status;
	for (int i = 0; i < u->n_members; row += u->members[i++].rows) {
		const struct bk_mat part = tune_mat((char *)to->p + (size_t)(row * s->cols) * elem, u->members[i].rows, s->cols, dtype);

		if (zeros ? put_finite(t, u->members[i].weight, &part, err) : put_member(t, u->members[i].weight, &part, err))
			return err->status;
	}
	return BL_OK;
}

static enum bl_status put_fixed(struct tune *t, struct tune_state *s, const struct bl_unit_weights *x, struct bl_err *err)
{
	const size_t n = (size_t)(s->rows * s->cols);
	const bool codes = x->kind == BL_WEIGHTS_CODES;
	struct bl_grid g = { .number = bl_act_is_e4m3(x->act) ? BL_GRID_E4M3 : BL_GRID_INT, .bits = 8, .symmetric = 1 };
	float *decoded = NULL;

	if (x->rows != s->rows || x->cols != s->cols)
		return bl_fail(err, BL_FAILED, "%s: what it computes with is of another shape", t->m->units[s->unit].name);
	s->act = codes && !x->group ? x->act : BL_WEIGHTS_ACT_NONE; /* a tape rounds no groups: beside what is tuned those inputs stay */
	s->input_scale = x->input_scale;
	s->w = tune_mat(NULL, s->rows, s->cols, codes ? BK_F32 : BK_BF16);
	if (bl_engine_alloc(t->e, &s->w.p, n * (codes ? 4 : 2), "weights", err))
		return err->status;
	if (!codes)
		return TUNE_OP(t, err, "weights", put(t->e->run, s->w.p, x->dense, n * 2));
	if (bl_try_alloc(&decoded, n, sizeof *decoded, "decoded weights", err))
		return err->status;
	const struct bk_grid k = { .number = (int)g.number, .bits = 8, .symmetric = 1, .group = x->group };
	bl_cpu_ops()->decode(decoded, x->codes, x->scales, NULL, s->rows, s->cols, &k);
	TUNE_OP(t, err, "weights", put(t->e->run, s->w.p, decoded, n * 4));
	bl_free(decoded);
	return err->status;
}

/* --- what is trained --- */

static void cut(struct tune_state *s, bool moments, char *p, uint64_t *bytes)
{
	const uint64_t n = padded((uint64_t)(s->rows * s->cols) * 4), g = padded((uint64_t)(s->rows * s->spr) * 4);
	float **const wide[] = { &s->v, &s->v1, &s->v2 }, **const narrow[] = { &s->base, &s->factor, &s->scale, &s->dscale, &s->best_scale, &s->f1, &s->f2 };
	uint64_t at = 0;

	for (int i = 0; s->offsets && i < (moments ? 3 : 1); i++, at += n)
		*wide[i] = p ? (float *)(void *)(p + at) : NULL;
	for (int i = 0; i < (moments ? 7 : 5); i++, at += g)
		*narrow[i] = p ? (float *)(void *)(p + at) : NULL;
	s->best = p ? (int8_t *)(p + at) : NULL;
	at += padded((uint64_t)(s->rows * s->cols));
	if (!s->grid.symmetric) {
		s->zero = p ? (int8_t *)(p + at) : NULL;
		at += padded((uint64_t)(s->rows * s->spr));
	}
	*bytes = at;
}

static enum bl_status fill(struct tune *t, struct tune_state *s, bool moments, bool is_best, struct bl_err *err)
{
	const size_t n = (size_t)(s->rows * s->cols), g = (size_t)(s->rows * s->spr);
	const bool codes = s->offsets && t->how->start == BL_TUNING_CODES;
	float *base = NULL, *one = NULL, *v = NULL;
	int8_t *zero = NULL;

	if (bl_try_alloc(&base, g, sizeof *base, "scales", err) || bl_try_alloc(&one, g, sizeof *one, "scales", err) ||
	    (s->zero && bl_try_alloc(&zero, g, 1, "zero points", err)) || (codes && bl_try_alloc(&v, n, sizeof *v, "offsets", err)) || tune_start(t, s, base, zero, v, err))
		goto done;
	for (size_t i = 0; i < g; i++)
		one[i] = 1;
	if (TUNE_OP(t, err, "scales", put(t->e->run, s->base, base, g * sizeof *base)) || TUNE_OP(t, err, "scales", put(t->e->run, s->factor, one, g * sizeof *one)) ||
	    (zero && TUNE_OP(t, err, "zero points", put(t->e->run, s->zero, zero, g))))
		goto done;
	if (s->offsets && (v ? TUNE_OP(t, err, "offsets", put(t->e->run, s->v, v, n * sizeof *v)) : TUNE_OP(t, err, "offsets", zero(t->e->run, s->v, n * 4))))
		goto done;
	if (moments) {
		if (s->offsets && (TUNE_OP(t, err, "moments", zero(t->e->run, s->v1, n * 4)) || TUNE_OP(t, err, "moments", zero(t->e->run, s->v2, n * 4))))
			goto done;
		if (TUNE_OP(t, err, "moments", zero(t->e->run, s->f1, g * 4)) || TUNE_OP(t, err, "moments", zero(t->e->run, s->f2, g * 4)))
			goto done;
	}
	if (is_best)
		tune_keep(t, s->unit, err);
done:
	bl_free(base);
	bl_free(one);
	bl_free(v);
	bl_free(zero);
	return err->status;
}

enum bl_status tune_state_open(struct tune *t, int unit, struct bl_err *err)
{
	const struct bl_tune_unit *in = &t->rq->units[unit];
	const struct bl_unit *u = &t->m->units[unit];
	struct tune_state *s = &t->states[unit];
	const bool moments = t->how->step == BL_TUNING_ADAM;
	uint64_t bytes = 0;

	*s = (struct tune_state){ .unit = unit, .tuned = in->tuned, .rows = u->rows, .cols = u->cols };
	if (!in->tuned)
		return in->fixed && (put_fixed(t, s, in->fixed, err) || t->how->scope == BL_TUNING_BLOCK) ? err->status : put_own(t, s, in->fixed ? &s->full : &s->w, err);
	s->spr = bl_scheme_scales_per_row(&in->scheme, u->cols);
	s->grid = (struct bk_grid){ .number = in->scheme.number == BL_NUM_FLOAT ? BK_E4M3 : BK_INT, .bits = in->scheme.bits, .symmetric = in->scheme.symmetric,
				    .group = in->scheme.strategy == BL_STRATEGY_GROUP ? in->scheme.group : 0 };
	s->offsets = s->grid.number == BK_INT;
	s->growth = s->grid.bits > 4 ? (float)exp2(t->how->offset_growth * (s->grid.bits - 4)) : 1;
	if (in->scheme.act <= BL_ACT_FP8_TENSOR) /* as a server multiplies codes */
		s->act = bl_weights_act_of(in->scheme.act, in->scheme.symmetric, in->scheme.group);
	s->input_scale = in->input_scale;
	if (put_own(t, s, &s->w, err))
		return err->status;
	cut(s, moments, NULL, &bytes);
	if (bl_engine_alloc(t->e, &s->own, (size_t)bytes, "what is tuned", err))
		return err->status;
	cut(s, moments, s->own, &bytes);
	return fill(t, s, moments, true, err);
}

enum bl_status tune_state_restart(struct tune *t, int unit, struct bl_err *err)
{
	struct tune_state *s = &t->states[unit];

	return s->tuned ? fill(t, s, t->how->step == BL_TUNING_ADAM, false, err) : BL_OK;
}

void tune_state_close(struct tune *t, int unit)
{
	struct tune_state *s = &t->states[unit];

	bl_engine_release(t->e, s->w.p);
	bl_engine_release(t->e, s->full.p);
	bl_engine_release(t->e, s->own);
	*s = (struct tune_state){ 0 };
}

/* --- what it computes with --- */

static enum bl_status fake_of(struct tune *t, struct tune_state *s, struct bk_fake *f, struct bl_err *err)
{
	*f = (struct bk_fake){ .w = &s->w, .v = s->v, .scale = s->scale, .zero = s->zero, .grid = s->grid };
	return TUNE_GRAD(t, err, "scales", product(t->e->run, s->scale, s->base, s->factor, s->rows * s->spr));
}

enum bl_status tune_weights(struct tune *t, int block, bool best, struct bl_tape_weight w[BL_UNIT_KIND_COUNT], struct bl_err *err)
{
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++) {
		struct tune_state *s = &t->states[block * BL_UNIT_KIND_COUNT + k];
		const struct bk_mat to = tune_mat(t->w_hat[k], s->rows, s->cols, t->dtype), codes = tune_mat(s->best, s->rows, s->cols, s->grid.number == BK_INT ? BK_I8 : BK_F8);
		struct bk_fake f;

		w[k] = (struct bl_tape_weight){ to, s->act, s->input_scale };
		if (!s->tuned && s->w.dtype == t->dtype)
			w[k].w = s->w;
		else if (!s->tuned ? TUNE_OP(t, err, "weights", convert(t->e->run, &to, &s->w)) :
			 best	   ? TUNE_GRAD(t, err, "weights", codes_value(t->e->run, &to, &codes, s->best_scale, s->zero, &s->grid)) :
				     fake_of(t, s, &f, err) || TUNE_GRAD(t, err, "rounding weights", fake_quant(t->e->run, &to, NULL, &f)))
			return err->status;
	}
	return BL_OK;
}

enum bl_status tune_base_weights(struct tune *t, int block, struct bl_tape_weight w[BL_UNIT_KIND_COUNT], struct bl_err *err)
{
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++) {
		const struct tune_state *s = &t->states[block * BL_UNIT_KIND_COUNT + k];
		const struct bk_mat *own = s->full.p ? &s->full : &s->w, to = tune_mat(t->w_hat[k], s->rows, s->cols, t->dtype);

		w[k] = (struct bl_tape_weight){ own->dtype == t->dtype ? *own : to, BL_WEIGHTS_ACT_NONE, 0 };
		if (own->dtype != t->dtype && TUNE_OP(t, err, "weights", convert(t->e->run, &to, own)))
			return err->status;
	}
	return BL_OK;
}

enum bl_status tune_keep(struct tune *t, int unit, struct bl_err *err)
{
	struct tune_state *s = &t->states[unit];
	const struct bk_mat codes = tune_mat(s->best, s->rows, s->cols, s->grid.number == BK_INT ? BK_I8 : BK_F8);
	/* through bfloat16, as they will be stored */
	struct bk_fake f;

	if (!s->tuned)
		return BL_OK;
	if (fake_of(t, s, &f, err) || TUNE_GRAD(t, err, "rounding weights", fake_quant(t->e->run, NULL, &codes, &f)))
		return err->status;
	const struct bk_mat half = tune_mat(s->dscale, s->rows, s->spr, BK_BF16), from = tune_mat(s->scale, s->rows, s->spr, BK_F32), to = tune_mat(s->best_scale, s->rows, s->spr, BK_F32);
	return TUNE_OP(t, err, "scales", convert(t->e->run, &half, &from)) ? err->status : TUNE_OP(t, err, "scales", convert(t->e->run, &to, &half));
}

/* --- steps --- */

bool tune_wants(void *ctx, int unit) { return ((struct tune *)ctx)->states[unit].tuned; }

static enum bl_status move(struct tune *t, float *p, float *m1, float *m2, const float *g, int64_t n, float rate, const struct bk_limits *limits, struct bl_err *err)
{
	const struct bk_adam adam = { .lr = rate, .beta1 = (float)t->how->beta1, .beta2 = (float)t->how->beta2, .eps = 1e-15f, .step = t->step,
				      .limits = limits ? *limits : (struct bk_limits){ 0, 0 } };

	if (rate <= 0)
		return BL_OK;
	if (t->how->step == BL_TUNING_SIGN)
		return TUNE_GRAD(t, err, "a step", sign_step(t->e->run, p, g, n, rate, limits));
	return TUNE_GRAD(t, err, "a step", adam_step(t->e->run, p, m1, m2, g, n, &adam));
}

enum bl_status tune_step(void *ctx, int unit, const struct bk_mat *g, struct bl_err *err)
{
	struct tune *t = ctx;
	struct tune_state *s = &t->states[unit];
	const struct bk_limits limits = { (float)t->how->factor_least, (float)t->how->factor_most };
	const int64_t n = s->rows * s->spr;
	struct bk_fake f;

	if (fake_of(t, s, &f, err) || TUNE_OP(t, err, "gradients", zero(t->e->run, s->dscale, (size_t)n * 4)) ||
	    TUNE_GRAD(t, err, "gradients", fake_quant_back(t->e->run, s->offsets ? g->p : NULL, s->dscale, g, &f)) ||
	    TUNE_GRAD(t, err, "gradients", product(t->e->run, s->dscale, s->dscale, s->base, n)) ||
	    (s->offsets && move(t, s->v, s->v1, s->v2, g->p, s->rows * s->cols, t->offset_rate * s->growth, NULL, err)))
		return err->status;
	return move(t, s->factor, s->f1, s->f2, s->dscale, n, t->factor_rate, &limits, err);
}
