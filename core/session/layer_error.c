/* SPDX-License-Identifier: Apache-2.0
 * The output error of a unit. Where activations stay as they are, |X dWᵀ|² = tr(dW H dWᵀ) from the stored Hessian H = XᵀX: no pass over data. Where the
 * server quantizes activations it is measured on the kept windows: the block runs on its kept input, and both products are formed from what the unit sees
 * there. The inputs of the block that ran last stay on the device while they fit, so that another choice for it costs two products. Weights are the forward's:
 * what is quantized anew goes to the device once, for the error and for the pass that follows it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/measure.h"

#define CHUNK_ELEMS (32ll << 20) /* of a float32 product */
#define KINDS       4            /* distinct inputs of a block */

struct bl_live_hessians {
	struct { const struct bl_calib *of; uint64_t fold; float *h; uint64_t used; } *slot; /* [n_units] on the device, as many as `room` holds */
	uint64_t turn, bytes, room;
	struct { int unit; double value; const struct bl_calib *of; uint64_t fold; } *base; /* [n_units] tr(W H Wᵀ); of NULL: unknown */
	struct {                            /* inputs of one block, bf16 [tokens, cols] */
		const struct bl_calib *of; uint64_t fold; int block; int64_t tokens;
		int unit[KINDS]; void *x[KINDS]; int64_t cols[KINDS];
	} inputs;
};

static void drop_inputs(struct bl_live *l)
{
	struct bl_live_hessians *h = l->hessians;

	for (int i = 0; i < KINDS; i++) {
		bl_engine_release(&l->engine, h->inputs.x[i]);
		h->inputs.x[i] = NULL;
	}
	h->inputs.of = NULL;
}

void bl_live_hessians_free(struct bl_live *l)
{
	struct bl_live_hessians *h = l->hessians;

	if (!h)
		return;
	if (l->engine_open) {
		for (int i = 0; i < l->s->model->n_units; i++)
			bl_engine_release(&l->engine, h->slot[i].h);
		drop_inputs(l);
	}
	bl_free(h->slot);
	bl_free(h->base);
	bl_free(h);
	l->hessians = NULL;
}

static struct bl_live_hessians *state(struct bl_live *l)
{
	if (!l->hessians) {
		l->hessians = bl_xalloc(1, sizeof *l->hessians);
		l->hessians->base = bl_xalloc((size_t)l->s->model->n_units + 1, sizeof *l->hessians->base);
		l->hessians->slot = bl_xalloc((size_t)l->s->model->n_units + 1, sizeof *l->hessians->slot);
		l->hessians->room = bl_engine_available(&l->engine) / 8;
	}
	return l->hessians;
}

static struct bk_mat mat(void *p, int64_t rows, int64_t cols, int dtype)
{
	return (struct bk_mat){p, rows, cols, cols, dtype};
}

/* ---- weights on the host ---- */

static float float_at(const void *p, enum bl_dtype dtype, int64_t i)
{
	uint16_t h;
	float f;

	if (dtype == BL_F32)
		return memcpy(&f, (const char *)p + i * 4, 4), f;
	memcpy(&h, (const char *)p + i * 2, 2);
	return dtype == BL_BF16 ? bl_bf16_f32(h) : bl_f16_f32(h);
}

/* out: float32 of W (w NULL) or of the decoded W^ - W. */
struct rows { const struct bl_unit *u; const struct bl_unit_weights *w; float *out; int64_t row0; };

static float decoded(const struct bl_unit_weights *w, int64_t row, int64_t at)
{
	if (w->kind == BL_WEIGHTS_DENSE)
		return bl_bf16_f32(w->dense[at]);
	return (bl_act_is_e4m3(w->act) ? bl_e4m3_f32((uint8_t)w->codes[at]) : (float)w->codes[at]) * w->scales[w->group ? at / w->group : row];
}

static enum bl_status fill_row(void *ctx, size_t item, struct bl_err *err)
{
	const struct rows *r = ctx;
	const struct bl_unit *u = r->u;
	int64_t row = r->row0 + (int64_t)item, in = row, k = u->cols;
	int m = 0;

	(void)err;
	while (in >= u->members[m].rows)
		in -= u->members[m++].rows;
	const struct bl_tensor *t = u->members[m].weight;
	float *out = r->out + (int64_t)item * k;
	for (int64_t i = 0; i < k; i++)
		out[i] = float_at(t->data, t->dtype, in * k + i);
	for (int64_t i = 0; r->w && i < k; i++)
		out[i] = decoded(r->w, row, row * k + i) - out[i];
	return BL_OK;
}

/* ---- from the Hessian ---- */

static void drop_hessian(struct bl_live *l, int unit)
{
	struct bl_live_hessians *hs = l->hessians;
	int64_t k = l->s->model->units[unit].cols;

	if (!hs->slot[unit].h)
		return;
	bl_engine_release(&l->engine, hs->slot[unit].h);
	hs->slot[unit].h = NULL;
	hs->bytes -= (uint64_t)(k * k) * sizeof(float);
}

static void make_room(struct bl_live *l, uint64_t bytes)
{
	struct bl_live_hessians *hs = l->hessians;

	while (hs->bytes && hs->bytes + bytes > hs->room) {
		int oldest = -1;
		for (int i = 0; i < l->s->model->n_units; i++)
			if (hs->slot[i].h && (oldest < 0 || hs->slot[i].used < hs->slot[oldest].used))
				oldest = i;
		drop_hessian(l, oldest);
	}
}

static enum bl_status hessian_on_device(struct bl_live_turn *t, const struct bl_fold *f, int unit, float **out, struct bl_err *err)
{
	struct bl_live_hessians *hs = state(t->l);
	struct bl_engine *e = &t->l->engine;
	int64_t k = t->l->s->model->units[unit].cols;
	size_t bytes = (size_t)(k * k) * sizeof(float);
	const float *h;
	float *own = NULL;
	void *p;

	hs->slot[unit].used = ++hs->turn;
	if (hs->slot[unit].h && hs->slot[unit].of == t->calib->c && hs->slot[unit].fold == bl_live_fold_id(f)) {
		*out = hs->slot[unit].h;
		return BL_OK;
	}
	drop_hessian(t->l, unit);
	make_room(t->l, bytes);
	if (f ? bl_fold_hessian(f, t->calib->c, unit, &h, &own, err) : bl_calib_hessian(t->calib->c, unit, &h, err))
		return err->status;
	if (bl_engine_alloc(e, &p, bytes, "a Hessian", err)) {
		bl_free(own);
		return err->status;
	}
	struct bk_mat m = mat(p, k, k, BK_F32);
	if (bl_engine_check(e, e->ops->upload(e->run, p, h, bytes), "bringing in a Hessian", err) ||
	    bl_engine_check(e, e->ops->upload_join(e->run), "bringing in a Hessian", err) ||
	    bl_engine_check(e, e->ops->mirror(e->run, &m), "mirroring a Hessian", err)) {
		bl_engine_release(e, p);
		bl_free(own);
		return err->status;
	}
	bl_free(own);
	hs->slot[unit].h = p;
	hs->slot[unit].of = t->calib->c;
	hs->slot[unit].fold = bl_live_fold_id(f);
	hs->bytes += bytes;
	*out = p;
	return BL_OK;
}

struct trace { void *a, *b, *ids; double *sum; int64_t chunk; };

static void trace_free(struct bl_engine *e, struct trace *w)
{
	bl_engine_release(e, w->a);
	bl_engine_release(e, w->b);
	bl_engine_release(e, w->ids);
	bl_engine_release(e, w->sum);
}

static enum bl_status trace_alloc(struct bl_engine *e, struct trace *w, const struct bl_unit *u, struct bl_err *err)
{
	void *sum = NULL;
	int32_t *ids;

	*w = (struct trace){.chunk = CHUNK_ELEMS / (u->cols > 0 ? u->cols : 1)};
	w->chunk = w->chunk < 1 ? 1 : w->chunk > u->rows ? u->rows : w->chunk;
	size_t n = (size_t)w->chunk, bytes = n * (size_t)u->cols * sizeof(float);
	if (bl_engine_alloc(e, &w->a, bytes, "rows of a layer error", err) || bl_engine_alloc(e, &w->b, bytes, "rows of a layer error", err) ||
	    bl_engine_alloc(e, &w->ids, n * sizeof *ids, "row numbers", err) || bl_engine_alloc(e, &sum, 2 * sizeof(double), "a sum", err)) {
		trace_free(e, w);
		*w = (struct trace){.a = NULL};
		return err->status;
	}
	w->sum = sum;
	ids = bl_xalloc(n + 1, sizeof *ids);
	for (size_t i = 0; i < n; i++)
		ids[i] = (int32_t)i;
	bl_engine_check(e, e->ops->put(e->run, w->ids, ids, n * sizeof *ids), "row numbers", err);
	bl_free(ids);
	return err->status;
}

/* Where the model's own weights are what the file has, and the others are values, everything is on the device already; after stages it is not. */
static bool on_device(const struct bl_model *m, const struct bl_unit *u, const struct bl_unit_weights *w)
{
	if (u != &m->units[u->block * KINDS + (int)u->kind])
		return false;
	for (int i = 0; i < u->n_members; i++)
		if (u->members[i].weight->dtype != BL_BF16)
			return false;
	return !w || w->kind == BL_WEIGHTS_DENSE;
}

/* Rows row .. row+n of an operand, scale times (1: as they are, -1), into float32 dst. */
static enum bl_status spread(struct bl_engine *e, const struct trace *w, const struct bl_operand *o, int64_t row, struct bk_mat *dst, float scale, struct bl_err *err)
{
	int64_t at = 0, end = row + dst->rows;

	for (int i = 0; i < o->n && !err->status; at += o->w[i++].rows) {
		int64_t from = at > row ? at : row, to = at + o->w[i].rows < end ? at + o->w[i].rows : end;
		if (from >= to)
			continue;
		struct bk_mat src = o->w[i], part = *dst;
		src.p = (char *)src.p + (from - at) * src.ld * 2;
		part.p = (float *)part.p + (from - row) * part.ld;
		src.rows = part.rows = to - from;
		bl_engine_check(e, e->ops->gather(e->run, &part, &src, w->ids, scale), "rows of a layer error", err);
	}
	return err->status;
}

/* D = W, or W^ - W, of rows row .. row+n into w->a. */
static enum bl_status bring_rows(struct bl_live_turn *t, const struct trace *w, const struct bl_unit *u, const struct bl_unit_weights *delta, int64_t row, int64_t n,
				 struct bl_err *err)
{
	struct bl_live *l = t->l;
	struct bl_engine *e = &l->engine;
	const int unit = u->block * KINDS + (int)u->kind;
	struct bk_mat a = mat(w->a, n, u->cols, BK_F32), b = mat(w->b, n, u->cols, BK_F32);
	struct rows rows = {.u = u, .w = delta, .row0 = row};
	struct bl_operand own, other;

	if (on_device(l->s->model, u, delta)) {
		if (bl_forward_operand(l->forward, unit, NULL, &own, err) || spread(e, w, &own, row, delta ? &b : &a, delta ? -1 : 1, err) || !delta)
			return err->status;
		if (bl_forward_operand(l->forward, unit, delta, &other, err) || spread(e, w, &other, row, &a, 1, err))
			return err->status;
		return bl_engine_check(e, e->ops->add(e->run, &a, &b), "rows of a layer error", err);
	}
	if (bl_try_alloc(&rows.out, (size_t)(n * u->cols), sizeof *rows.out, "rows of a layer error", err) == BL_OK &&
	    bl_pool_run(l->s->pool, (size_t)n, fill_row, &rows, bl_job_cancel_flag(t->job), err) == BL_OK)
		bl_engine_check(e, e->ops->put(e->run, w->a, rows.out, (size_t)(n * u->cols) * sizeof(float)), "bringing in weights", err);
	bl_free(rows.out);
	return err->status;
}

/* tr(D H Dᵀ) with D = W or W^ - W, in chunks of rows. */
static enum bl_status trace_of(struct bl_live_turn *t, const struct bl_unit *u, const struct bl_unit_weights *delta, float *h, double *out, struct bl_err *err)
{
	struct bl_engine *e = &t->l->engine;
	const struct bk_run_ops *o = e->ops;
	struct trace w;

	if (trace_alloc(e, &w, u, err))
		goto done;
	bl_engine_check(e, o->zero(e->run, w.sum, 2 * sizeof(double)), "a sum", err);
	for (int64_t row = 0; row < u->rows && !err->status; row += w.chunk) {
		int64_t n = u->rows - row < w.chunk ? u->rows - row : w.chunk;
		struct bk_mat d = mat(w.a, n, u->cols, BK_F32), dh = mat(w.b, n, u->cols, BK_F32), hm = mat(h, u->cols, u->cols, BK_F32);
		if (bring_rows(t, &w, u, delta, row, n, err) || bl_engine_check(e, o->gemm(e->run, &dh, &d, 0, &hm, 0, 1, 0, NULL), "a layer error", err))
			break;
		bl_engine_check(e, o->dot(e->run, w.sum, &dh, &d), "a layer error", err);
	}
	if (!err->status)
		bl_engine_check(e, o->get(e->run, out, w.sum, sizeof(double)), "a layer error", err);
done:
	trace_free(e, &w);
	return err->status;
}

struct row_dots { const float *a, *b; int64_t cols; double *out; };

static enum bl_status row_dot(void *ctx, size_t row, struct bl_err *err)
{
	const struct row_dots *d = ctx;
	const float *a = d->a + (int64_t)row * d->cols, *b = d->b + (int64_t)row * d->cols;
	double sum = 0;

	(void)err;
	for (int64_t i = 0; i < d->cols; i++)
		sum += (double)a[i] * (double)b[i];
	d->out[row] = sum;
	return BL_OK;
}

/* d H dT of every row of D = W or W^ - W. */
static enum bl_status row_traces(struct bl_live_turn *t, const struct bl_unit *u, const struct bl_unit_weights *delta, float *h, double *out, struct bl_err *err)
{
	struct bl_engine *e = &t->l->engine;
	const struct bk_run_ops *o = e->ops;
	struct row_dots dots = {.cols = u->cols};
	float *rows = NULL, *back = NULL;
	struct trace w;

	if (trace_alloc(e, &w, u, err))
		goto done;
	bl_try_alloc(&rows, (size_t)(w.chunk * u->cols), sizeof *rows, "rows of a layer error", err);
	if (!err->status)
		bl_try_alloc(&back, (size_t)(w.chunk * u->cols), sizeof *back, "rows of a layer error", err);
	for (int64_t row = 0; row < u->rows && !err->status; row += w.chunk) {
		int64_t n = u->rows - row < w.chunk ? u->rows - row : w.chunk;
		struct bk_mat d = mat(w.a, n, u->cols, BK_F32), dh = mat(w.b, n, u->cols, BK_F32), hm = mat(h, u->cols, u->cols, BK_F32);
		size_t bytes = (size_t)(n * u->cols) * sizeof(float);
		if (bring_rows(t, &w, u, delta, row, n, err) || bl_engine_check(e, o->get(e->run, rows, w.a, bytes), "a layer error", err) ||
		    bl_engine_check(e, o->gemm(e->run, &dh, &d, 0, &hm, 0, 1, 0, NULL), "a layer error", err) ||
		    bl_engine_check(e, o->get(e->run, back, w.b, bytes), "a layer error", err))
			break;
		dots.a = rows;
		dots.b = back;
		dots.out = out + row;
		bl_pool_run(t->l->s->pool, (size_t)n, row_dot, &dots, bl_job_cancel_flag(t->job), err);
	}
done:
	bl_free(rows);
	bl_free(back);
	trace_free(e, &w);
	return err->status;
}

enum bl_status bl_live_row_errors(struct bl_live_turn *t, const struct bl_fold *f, int unit, const struct bl_unit_weights *w, float *rel, struct bl_err *err)
{
	const struct bl_unit *u = bl_live_unit(t->l, f, unit);
	double *error = NULL, *base = NULL;
	float *h = NULL;

	if (!bl_live_forward(t->l, 0, err) || hessian_on_device(t, f, unit, &h, err))
		return err->status;
	if (!bl_try_alloc(&error, (size_t)u->rows, sizeof *error, "errors by row", err) && !bl_try_alloc(&base, (size_t)u->rows, sizeof *base, "errors by row", err) &&
	    !row_traces(t, u, NULL, h, base, err) && !row_traces(t, u, w, h, error, err))
		for (int64_t i = 0; i < u->rows; i++)
			rel[i] = base[i] > 0 && error[i] > 0 ? (float)(error[i] / base[i]) : 0;
	bl_free(error);
	bl_free(base);
	return err->status;
}

static enum bl_status from_hessian(struct bl_live_turn *t, const struct bl_fold *f, struct bl_live_request *r, const struct bl_unit_weights *w, struct bl_err *err)
{
	const struct bl_unit *u = bl_live_unit(t->l, f, r->unit);
	struct bl_live_hessians *hs = state(t->l);
	double error;
	float *h = NULL;

	if (!bl_calib_has_hessians(t->calib->c))
		return bl_fail(err, BL_UNSUPPORTED, "the calibration kept ranges only: calibrate with Hessians");
	if (hessian_on_device(t, f, r->unit, &h, err))
		return err->status;
	if (hs->base[r->unit].of != t->calib->c || hs->base[r->unit].fold != bl_live_fold_id(f)) {
		if (trace_of(t, u, NULL, h, &hs->base[r->unit].value, err))
			return err->status;
		hs->base[r->unit].of = t->calib->c;
		hs->base[r->unit].fold = bl_live_fold_id(f);
	}
	if (trace_of(t, u, w, h, &error, err))
		return err->status;
	double base = hs->base[r->unit].value;
	if (!isfinite(error) || !isfinite(base))
		return bl_fail(err, BL_INVALID, "%s: its inputs or weights are not finite", u->name);
	r->value = base > 0 ? (error > 0 ? error / base : 0) : 0;
	r->with_activations = false;
	return BL_OK;
}

/* ---- on the kept inputs ---- */

struct measure { /* one request on its way over the tokens of its unit */
	struct bl_live_request *r;
	struct bl_unit_weights *w;      /* counted */
	struct bl_unit_weights *own;    /* in full precision after the stages; NULL: the model's own */
	void *xq, *sx, *y, *yq;         /* of a chunk of tokens */
	double *sums;
	int64_t chunk;
};

static void measure_free(struct bl_engine *e, struct measure *m)
{
	void *all[] = {m->xq, m->sx, m->y, m->yq, m->sums};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		bl_engine_release(e, all[i]);
	bl_unit_weights_unref(m->w);
	bl_unit_weights_unref(m->own);
}

static enum bl_status measure_begin(struct bl_live *l, struct measure *m, const struct bl_unit *u, struct bl_err *err)
{
	struct bl_engine *e = &l->engine;
	size_t n = (size_t)u->rows, k = (size_t)u->cols;
	void *sums = NULL;

	m->chunk = CHUNK_ELEMS / (u->rows > u->cols ? u->rows : u->cols);
	m->chunk = m->chunk < 16 ? 16 : m->chunk;
	size_t c = (size_t)m->chunk;
	const char what[] = "an error with quantized activations";
	if (bl_engine_alloc(e, &m->xq, c * k, what, err) || bl_engine_alloc(e, &m->sx, c * (size_t)bl_forward_scales_most(u->cols) * 4, what, err) || bl_engine_alloc(e, &m->y, c * n * 4, what, err) ||
	    bl_engine_alloc(e, &m->yq, c * n * 4, what, err) || bl_engine_alloc(e, &sums, 16, what, err))
		return err->status;
	m->sums = sums;
	return bl_engine_check(e, e->ops->zero(e->run, sums, 16), what, err);
}

/* y = x Wᵀ with the model's own weights, member by member. */
static int plain_product(struct bl_engine *e, const struct bl_operand *o, const struct bk_mat *y, const struct bk_mat *x)
{
	int64_t at = 0;
	int error = 0;

	for (int i = 0; i < o->n && !error; at += o->w[i++].rows) {
		struct bk_mat part = {(float *)y->p + at, y->rows, o->w[i].rows, y->ld, BK_F32};
		error = e->ops->gemm(e->run, &part, x, 0, &o->w[i], 1, 1, 0, NULL);
	}
	return error;
}

/* Adds what the tokens of x give. */
static enum bl_status measure_rows(struct bl_live *l, struct measure *m, const struct bk_mat *x, struct bl_err *err)
{
	struct bl_engine *e = &l->engine;
	const struct bk_run_ops *o = e->ops;
	const struct bl_unit_weights *w = m->w;
	struct bl_operand own, other;

	if (bl_forward_operand(l->forward, m->r->unit, m->own, &own, err) || bl_forward_operand(l->forward, m->r->unit, w, &other, err))
		return err->status;
	for (int64_t at = 0; at < x->rows && !err->status; at += m->chunk) {
		int64_t n = x->rows - at < m->chunk ? x->rows - at : m->chunk;
		struct bk_mat xs = *x, y = mat(m->y, n, w->rows, BK_F32), yq = mat(m->yq, n, w->rows, BK_F32);
		const struct bl_codes_product p = {&other.w[0], other.scales, w->act, w->input_scale, w->group, NULL};
		xs.p = (char *)x->p + at * x->ld * 2;
		xs.rows = n;
		if (bl_forward_codes_product(e, &p, &yq, &xs, m->xq, m->sx, err))
			break;
		int error = plain_product(e, &own, &y, &xs);
		if (!error)
			error = o->diff_sums(e->run, m->sums, &yq, &y);
		bl_engine_check(e, error, "an error with quantized activations", err);
	}
	return err->status;
}

static enum bl_status measure_end(struct bl_live *l, struct measure *m, const struct bl_unit *u, struct bl_err *err)
{
	double sums[2];

	if (bl_engine_check(&l->engine, l->engine.ops->get(l->engine.run, sums, m->sums, sizeof sums), "an error with quantized activations", err))
		return err->status;
	if (!isfinite(sums[0]) || !isfinite(sums[1]))
		return bl_fail(err, BL_INVALID, "%s: its inputs or weights are not finite", u->name);
	m->r->value = sums[1] > 0 ? sums[0] / sums[1] : 0;
	m->r->with_activations = true;
	return BL_OK;
}

struct tap { struct bl_live_turn *t; struct measure *m; size_t n; bool store; };

/* A batch of a unit's input: kept when there is room, measured at once otherwise. */
static enum bl_status see_input(void *ctx, int unit, int64_t first_token, const struct bk_mat *x, struct bl_err *err)
{
	struct tap *p = ctx;
	struct bl_live *l = p->t->l;
	struct bl_live_hessians *hs = l->hessians;

	for (int i = 0; p->store && i < KINDS; i++)
		if (hs->inputs.unit[i] == unit) {
			struct bk_mat dst = mat((char *)hs->inputs.x[i] + first_token * x->cols * 2, x->rows, x->cols, BK_BF16);
			return bl_engine_check(&l->engine, l->engine.ops->convert(l->engine.run, &dst, x), "keeping inputs", err);
		}
	for (size_t i = 0; !p->store && i < p->n; i++)
		if (p->m[i].r->unit == unit && measure_rows(l, &p->m[i], x, err))
			return err->status;
	return BL_OK;
}

/* Room for the inputs of a block, when a third of what is free holds them. */
static bool inputs_alloc(struct bl_live *l, int block, int64_t tokens)
{
	struct bl_live_hessians *hs = state(l);
	const struct bl_model *m = l->s->model;
	struct bl_err ignored = BL_ERR_INIT;
	uint64_t bytes = 0;
	int n = 0;

	drop_inputs(l);
	for (int i = 0; i < KINDS; i++)
		hs->inputs.unit[i] = -1;
	for (int i = 0; i < m->n_units; i++)
		if (m->units[i].block == block)
			bytes += (uint64_t)(tokens * m->units[i].cols) * 2;
	if (bytes > bl_engine_available(&l->engine) / 3)
		return false;
	for (int i = 0; i < m->n_units; i++) {
		if (m->units[i].block != block)
			continue;
		if (n == KINDS || bl_engine_alloc(&l->engine, &hs->inputs.x[n], (size_t)(tokens * m->units[i].cols) * 2, "inputs of a block", &ignored)) {
			drop_inputs(l);
			return false;
		}
		hs->inputs.unit[n] = i;
		hs->inputs.cols[n++] = m->units[i].cols;
	}
	return true;
}

static enum bl_status run_block(struct bl_live_turn *t, struct bl_fold *f, int block, struct tap *tap, struct bl_err *err)
{
	struct bl_weight_set set = {.of = NULL};
	const struct bl_calib *c = t->calib->c;
	int64_t windows = bl_calib_kept_windows(c), len = bl_calib_window(c);
	int64_t *start = bl_xalloc((size_t)windows + 1, sizeof *start);
	struct bl_sequences seq = {bl_calib_ids(c), start, windows};
	struct bl_tap look = {.ctx = tap, .input = see_input};
	struct bl_pass *p = NULL;
	const uint16_t *x;

	for (int64_t i = 0; i <= windows; i++)
		start[i] = i * len;
	if (bl_calib_block_input(c, block, &x, err) == BL_OK && bl_live_stage_set(&set, f, t->l->s->model, block, err) == BL_OK && bl_pass_new(&p, t->l->forward, &seq, err) == BL_OK &&
	    bl_pass_write(p, 0, windows * len, x, err) == BL_OK)
		bl_pass_block(p, block, set.of ? &set : NULL, &look, err);
	bl_measure_weights_free(&set);
	bl_pass_free(p);
	bl_free(start);
	return err->status;
}

static enum bl_status measure_all(struct bl_live_turn *t, struct bl_fold *f, struct measure *m, size_t n, struct bl_err *err)
{
	struct bl_live *l = t->l;
	struct bl_live_hessians *hs = state(l);
	const struct bl_model *model = l->s->model;
	int block = model->units[m[0].r->unit].block;
	int64_t tokens = bl_calib_kept_windows(t->calib->c) * bl_calib_window(t->calib->c);
	struct tap tap = {t, m, n, false};

	for (size_t i = 0; i < n; i++)
		if (measure_begin(l, &m[i], bl_live_unit(l, f, m[i].r->unit), err) || (f && bl_live_folded_weights(f, m[i].r->unit, &m[i].own, err)))
			return err->status;
	if (hs->inputs.of != t->calib->c || hs->inputs.block != block || hs->inputs.fold != bl_live_fold_id(f)) {
		tap.store = inputs_alloc(l, block, tokens);
		if (run_block(t, f, block, &tap, err)) {
			drop_inputs(l);
			return err->status;
		}
		if (tap.store) {
			hs->inputs.of = t->calib->c;
			hs->inputs.fold = bl_live_fold_id(f);
			hs->inputs.block = block;
			hs->inputs.tokens = tokens;
		}
	}
	for (size_t i = 0; i < n; i++) {
		for (int j = 0; hs->inputs.of && j < KINDS; j++)
			if (hs->inputs.unit[j] == m[i].r->unit) {
				struct bk_mat x = mat(hs->inputs.x[j], tokens, hs->inputs.cols[j], BK_BF16);
				if (measure_rows(l, &m[i], &x, err))
					return err->status;
			}
		if (measure_end(l, &m[i], &model->units[m[i].r->unit], err))
			return err->status;
	}
	return BL_OK;
}

enum bl_status bl_live_errors(struct bl_live_turn *t, struct bl_live_request **r, size_t n, struct bl_err *err)
{
	struct bl_live *l = t->l;
	struct measure *m = bl_xalloc(n + 1, sizeof *m);
	struct bl_fold *f = NULL;
	size_t n_measured = 0;

	if ((n && bl_live_fold(l, &r[0]->choice, &f, err)) || !bl_live_forward(l, 0, err))
		n = 0;
	for (size_t i = 0; i < n && !err->status; i++) {
		struct bl_unit_weights *w = NULL;
		if (bl_live_solve(l, r[i]->unit, &r[i]->choice, r[i]->zero_nonfinite, &w, err))
			break;
		if (!w)
			r[i]->value = 0;
		else if (w->kind == BL_WEIGHTS_CODES && bl_calib_kept_windows(t->calib->c) > 0)
			m[n_measured++] = (struct measure){.r = r[i], .w = bl_unit_weights_ref(w)};
		else
			from_hessian(t, f, r[i], w, err);
	}
	if (n_measured && !err->status)
		measure_all(t, f, m, n_measured, err);
	for (size_t i = 0; i < n_measured; i++)
		measure_free(&l->engine, &m[i]);
	bl_free(m);
	bl_fold_unref(f);
	return err->status;
}
