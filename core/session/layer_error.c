/* SPDX-License-Identifier: Apache-2.0
 * The output error of a unit. Where activations stay as they are, |X dWᵀ|² = tr(dW H dWᵀ) from the stored Hessian H = XᵀX: no pass over data. Where the
 * server quantizes activations it is measured on the kept windows: the block runs on its kept input, and both products are formed from what the unit sees
 * there. The inputs of the block that ran last stay on the device while they fit, so that another choice for it costs two products. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/session/live.h"

#define CHUNK_ELEMS (32ll << 20) /* of a float32 product */
#define SLOTS       6            /* Hessians on the device */
#define KINDS       4            /* distinct inputs of a block */

struct bl_live_hessians {
	struct { int unit; const struct bl_calib *of; float *h; int64_t cols; uint64_t used; } slot[SLOTS];
	uint64_t turn;
	struct { int unit; double value; const struct bl_calib *of; } *base; /* [n_units] tr(W H Wᵀ); of NULL: unknown */
	struct {                            /* inputs of one block, bf16 [tokens, cols] */
		const struct bl_calib *of; int block; int64_t tokens;
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
		for (int i = 0; i < SLOTS; i++)
			bl_engine_release(&l->engine, h->slot[i].h);
		drop_inputs(l);
	}
	bl_free(h->base);
	bl_free(h);
	l->hessians = NULL;
}

static struct bl_live_hessians *state(struct bl_live *l)
{
	if (!l->hessians) {
		l->hessians = bl_xalloc(1, sizeof *l->hessians);
		l->hessians->base = bl_xalloc((size_t)l->s->model->n_units + 1, sizeof *l->hessians->base);
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

/* out: float32 of W (w NULL) or of the decoded W^ - W; or half: W in bfloat16, as the model runs with it. */
struct rows { const struct bl_unit *u; const struct bl_unit_weights *w; float *out; uint16_t *half; int64_t row0; };

static bool is_fp8(const struct bl_unit_weights *w)
{
	return w->act == BL_WEIGHTS_ACT_FP8_TOKEN || w->act == BL_WEIGHTS_ACT_FP8_STATIC;
}

static float decoded(const struct bl_unit_weights *w, int64_t row, int64_t at)
{
	if (w->kind == BL_WEIGHTS_DENSE)
		return bl_bf16_f32(w->dense[at]);
	return (is_fp8(w) ? bl_e4m3_f32((uint8_t)w->codes[at]) : (float)w->codes[at]) * w->scales[row];
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
	if (r->half) {
		uint16_t *half = r->half + (int64_t)item * k;
		if (t->dtype == BL_BF16)
			memcpy(half, (const char *)t->data + in * k * 2, (size_t)k * 2);
		else
			for (int64_t i = 0; i < k; i++)
				half[i] = bl_f32_bf16(float_at(t->data, t->dtype, in * k + i));
		return BL_OK;
	}
	float *out = r->out + (int64_t)item * k;
	for (int64_t i = 0; i < k; i++)
		out[i] = float_at(t->data, t->dtype, in * k + i);
	for (int64_t i = 0; r->w && i < k; i++)
		out[i] = decoded(r->w, row, row * k + i) - out[i];
	return BL_OK;
}

/* ---- from the Hessian ---- */

static enum bl_status hessian_on_device(struct bl_live_turn *t, int unit, float **out, struct bl_err *err)
{
	struct bl_live_hessians *hs = state(t->l);
	struct bl_engine *e = &t->l->engine;
	int64_t k = t->l->s->model->units[unit].cols;
	int oldest = 0;
	const float *h;

	for (int i = 0; i < SLOTS; i++) {
		if (hs->slot[i].h && hs->slot[i].unit == unit && hs->slot[i].of == t->calib->c) {
			hs->slot[i].used = ++hs->turn;
			*out = hs->slot[i].h;
			return BL_OK;
		}
		if (hs->slot[i].used < hs->slot[oldest].used)
			oldest = i;
	}
	if (bl_calib_hessian(t->calib->c, unit, &h, err))
		return err->status;
	bl_engine_release(e, hs->slot[oldest].h);
	hs->slot[oldest].h = NULL;
	hs->slot[oldest].used = 0;
	void *p;
	if (bl_engine_alloc(e, &p, (size_t)(k * k) * sizeof(float), "a Hessian", err))
		return err->status;
	struct bk_mat m = mat(p, k, k, BK_F32);
	if (bl_engine_check(e, e->ops->put(e->run, p, h, (size_t)(k * k) * sizeof(float)), "bringing in a Hessian", err) ||
	    bl_engine_check(e, e->ops->mirror(e->run, &m), "mirroring a Hessian", err)) {
		bl_engine_release(e, p);
		return err->status;
	}
	hs->slot[oldest].h = p;
	hs->slot[oldest].unit = unit;
	hs->slot[oldest].of = t->calib->c;
	hs->slot[oldest].used = ++hs->turn;
	*out = p;
	return BL_OK;
}

struct trace { float *host; void *a, *b; double *sum; int64_t chunk; };

static void trace_free(struct bl_engine *e, struct trace *w)
{
	bl_free(w->host);
	bl_engine_release(e, w->a);
	bl_engine_release(e, w->b);
	bl_engine_release(e, w->sum);
}

static enum bl_status trace_alloc(struct bl_engine *e, struct trace *w, const struct bl_unit *u, struct bl_err *err)
{
	void *sum = NULL;

	*w = (struct trace){.chunk = CHUNK_ELEMS / (u->cols > 0 ? u->cols : 1)};
	w->chunk = w->chunk < 1 ? 1 : w->chunk > u->rows ? u->rows : w->chunk;
	size_t bytes = (size_t)(w->chunk * u->cols) * sizeof(float);
	if (bl_try_alloc(&w->host, bytes, 1, "rows of a layer error", err) || bl_engine_alloc(e, &w->a, bytes, "rows of a layer error", err) ||
	    bl_engine_alloc(e, &w->b, bytes, "rows of a layer error", err) || bl_engine_alloc(e, &sum, 2 * sizeof(double), "a sum", err)) {
		trace_free(e, w);
		*w = (struct trace){.host = NULL};
		return err->status;
	}
	w->sum = sum;
	return BL_OK;
}

/* tr(D H Dᵀ) with D = W or W^ - W, row by row in chunks. */
static enum bl_status trace_of(struct bl_live_turn *t, const struct bl_unit *u, const struct bl_unit_weights *delta, float *h, double *out, struct bl_err *err)
{
	struct bl_engine *e = &t->l->engine;
	const struct bk_run_ops *o = e->ops;
	struct trace w;

	if (trace_alloc(e, &w, u, err))
		return err->status;
	bl_engine_check(e, o->zero(e->run, w.sum, 2 * sizeof(double)), "a sum", err);
	for (int64_t row = 0; row < u->rows && !err->status; row += w.chunk) {
		int64_t n = u->rows - row < w.chunk ? u->rows - row : w.chunk;
		struct rows rows = {.u = u, .w = delta, .out = w.host, .row0 = row};
		struct bk_mat d = mat(w.a, n, u->cols, BK_F32), dh = mat(w.b, n, u->cols, BK_F32), hm = mat(h, u->cols, u->cols, BK_F32);
		if (bl_pool_run(t->l->s->pool, (size_t)n, fill_row, &rows, bl_job_cancel_flag(t->job), err) ||
		    bl_engine_check(e, o->put(e->run, w.a, w.host, (size_t)(n * u->cols) * sizeof(float)), "bringing in weights", err) ||
		    bl_engine_check(e, o->gemm(e->run, &dh, &d, 0, &hm, 0, 1, 0, NULL), "a layer error", err))
			break;
		bl_engine_check(e, o->dot(e->run, w.sum, &dh, &d), "a layer error", err);
	}
	if (!err->status)
		bl_engine_check(e, o->get(e->run, out, w.sum, sizeof(double)), "a layer error", err);
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
	float *back = NULL;
	struct trace w;

	if (trace_alloc(e, &w, u, err))
		return err->status;
	bl_try_alloc(&back, (size_t)(w.chunk * u->cols), sizeof *back, "rows of a layer error", err);
	for (int64_t row = 0; row < u->rows && !err->status; row += w.chunk) {
		int64_t n = u->rows - row < w.chunk ? u->rows - row : w.chunk;
		struct rows rows = {.u = u, .w = delta, .out = w.host, .row0 = row};
		struct row_dots dots = {w.host, back, u->cols, out + row};
		struct bk_mat d = mat(w.a, n, u->cols, BK_F32), dh = mat(w.b, n, u->cols, BK_F32), hm = mat(h, u->cols, u->cols, BK_F32);
		size_t bytes = (size_t)(n * u->cols) * sizeof(float);
		if (bl_pool_run(t->l->s->pool, (size_t)n, fill_row, &rows, bl_job_cancel_flag(t->job), err) ||
		    bl_engine_check(e, o->put(e->run, w.a, w.host, bytes), "bringing in weights", err) ||
		    bl_engine_check(e, o->gemm(e->run, &dh, &d, 0, &hm, 0, 1, 0, NULL), "a layer error", err) ||
		    bl_engine_check(e, o->get(e->run, back, w.b, bytes), "a layer error", err))
			break;
		bl_pool_run(t->l->s->pool, (size_t)n, row_dot, &dots, bl_job_cancel_flag(t->job), err);
	}
	bl_free(back);
	trace_free(e, &w);
	return err->status;
}

enum bl_status bl_live_row_errors(struct bl_live_turn *t, int unit, const struct bl_unit_weights *w, float *rel, struct bl_err *err)
{
	const struct bl_unit *u = &t->l->s->model->units[unit];
	double *error = NULL, *base = NULL;
	float *h = NULL;

	if (!bl_live_forward(t->l, 0, err) || hessian_on_device(t, unit, &h, err))
		return err->status;
	if (!bl_try_alloc(&error, (size_t)u->rows, sizeof *error, "errors by row", err) && !bl_try_alloc(&base, (size_t)u->rows, sizeof *base, "errors by row", err) &&
	    !row_traces(t, u, NULL, h, base, err) && !row_traces(t, u, w, h, error, err))
		for (int64_t i = 0; i < u->rows; i++)
			rel[i] = base[i] > 0 && error[i] > 0 ? (float)(error[i] / base[i]) : 0;
	bl_free(error);
	bl_free(base);
	return err->status;
}

static enum bl_status from_hessian(struct bl_live_turn *t, struct bl_live_request *r, const struct bl_unit_weights *w, struct bl_err *err)
{
	const struct bl_unit *u = &t->l->s->model->units[r->unit];
	struct bl_live_hessians *hs = state(t->l);
	double error;
	float *h = NULL;

	if (!bl_calib_has_hessians(t->calib->c))
		return bl_fail(err, BL_UNSUPPORTED, "the calibration kept ranges only: calibrate with Hessians");
	if (hessian_on_device(t, r->unit, &h, err))
		return err->status;
	if (hs->base[r->unit].of != t->calib->c) {
		if (trace_of(t, u, NULL, h, &hs->base[r->unit].value, err))
			return err->status;
		hs->base[r->unit].of = t->calib->c;
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
	const struct bl_unit_weights *w;
	void *wd, *codes, *scales;      /* bf16 W, codes and scales of W^ on the device */
	void *xq, *sx, *y, *yq;         /* of a chunk of tokens */
	double *sums;
	int64_t chunk;
};

static void measure_free(struct bl_engine *e, struct measure *m)
{
	void *all[] = {m->wd, m->codes, m->scales, m->xq, m->sx, m->y, m->yq, m->sums};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		bl_engine_release(e, all[i]);
}

static bool is_static(const struct bl_unit_weights *w)
{
	return w->act == BL_WEIGHTS_ACT_INT8_STATIC || w->act == BL_WEIGHTS_ACT_FP8_STATIC;
}

static enum bl_status put_base(struct bl_live *l, struct measure *m, const struct bl_unit *u, struct bl_err *err)
{
	struct bl_engine *e = &l->engine;
	struct rows rows = {.u = u};
	size_t elems = (size_t)(u->rows * u->cols);

	if (bl_try_alloc(&rows.half, elems, sizeof *rows.half, "the weights of a unit", err) == BL_OK &&
	    bl_pool_run(l->s->pool, (size_t)u->rows, fill_row, &rows, NULL, err) == BL_OK)
		bl_engine_check(e, e->ops->put(e->run, m->wd, rows.half, elems * 2), "bringing in weights", err);
	bl_free(rows.half);
	return err->status;
}

static enum bl_status measure_begin(struct bl_live *l, struct measure *m, const struct bl_unit *u, struct bl_err *err)
{
	struct bl_engine *e = &l->engine;
	size_t n = (size_t)u->rows, k = (size_t)u->cols, elems = n * k;
	void *sums = NULL;

	m->chunk = CHUNK_ELEMS / (u->rows > u->cols ? u->rows : u->cols);
	m->chunk = m->chunk < 16 ? 16 : m->chunk;
	size_t c = (size_t)m->chunk;
	const char what[] = "an error with quantized activations";
	if (bl_engine_alloc(e, &m->wd, elems * 2, what, err) || bl_engine_alloc(e, &m->codes, elems, what, err) ||
	    bl_engine_alloc(e, &m->scales, n * 4, what, err) || bl_engine_alloc(e, &m->xq, c * k, what, err) || bl_engine_alloc(e, &m->sx, c * 4, what, err) ||
	    bl_engine_alloc(e, &m->y, c * n * 4, what, err) || bl_engine_alloc(e, &m->yq, c * n * 4, what, err) || bl_engine_alloc(e, &sums, 16, what, err))
		return err->status;
	m->sums = sums;
	if (bl_engine_check(e, e->ops->zero(e->run, sums, 16), what, err) || bl_engine_check(e, e->ops->put(e->run, m->codes, m->w->codes, elems), what, err) ||
	    bl_engine_check(e, e->ops->put(e->run, m->scales, m->w->scales, n * 4), what, err))
		return err->status;
	return put_base(l, m, u, err);
}

/* Adds what the tokens of x give. */
static enum bl_status measure_rows(struct bl_live *l, struct measure *m, const struct bk_mat *x, struct bl_err *err)
{
	struct bl_engine *e = &l->engine;
	const struct bk_run_ops *o = e->ops;
	const struct bl_unit_weights *w = m->w;
	enum bk_token_codes kind = is_fp8(w) ? BK_TOKEN_E4M3 : BK_TOKEN_INT8;
	int codes = is_fp8(w) ? BK_F8 : BK_I8;
	struct bk_mat wd = mat(m->wd, w->rows, w->cols, BK_BF16), wq = mat(m->codes, w->rows, w->cols, codes);

	for (int64_t at = 0; at < x->rows && !err->status; at += m->chunk) {
		int64_t n = x->rows - at < m->chunk ? x->rows - at : m->chunk;
		struct bk_mat xs = *x, xq = mat(m->xq, n, w->cols, codes), y = mat(m->y, n, w->rows, BK_F32), yq = mat(m->yq, n, w->rows, BK_F32);
		xs.p = (char *)x->p + at * x->ld * 2;
		xs.rows = n;
		int error = is_static(w) ? o->quant_static(e->run, &xq, m->sx, &xs, kind, w->input_scale) : o->quant_tokens(e->run, &xq, m->sx, &xs, kind);
		if (!error)
			error = o->gemm(e->run, &y, &xs, 0, &wd, 1, 1, 0, NULL);
		if (!error)
			error = o->gemm_codes(e->run, &yq, &xq, m->sx, &wq, m->scales, NULL);
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

static enum bl_status run_block(struct bl_live_turn *t, int block, struct tap *tap, struct bl_err *err)
{
	const struct bl_calib *c = t->calib->c;
	int64_t windows = bl_calib_kept_windows(c), len = bl_calib_window(c);
	int64_t *start = bl_xalloc((size_t)windows + 1, sizeof *start);
	struct bl_sequences seq = {bl_calib_kept_ids(c), start, windows};
	struct bl_tap look = {.ctx = tap, .input = see_input};
	struct bl_pass *p = NULL;
	const uint16_t *x;

	for (int64_t i = 0; i <= windows; i++)
		start[i] = i * len;
	if (bl_calib_block_input(c, block, &x, err) == BL_OK && bl_pass_new(&p, t->l->forward, &seq, err) == BL_OK &&
	    bl_pass_write(p, 0, windows * len, x, err) == BL_OK)
		bl_pass_block(p, block, NULL, &look, err);
	bl_pass_free(p);
	bl_free(start);
	return err->status;
}

static enum bl_status measure_all(struct bl_live_turn *t, struct measure *m, size_t n, struct bl_err *err)
{
	struct bl_live *l = t->l;
	struct bl_live_hessians *hs = state(l);
	const struct bl_model *model = l->s->model;
	int block = model->units[m[0].r->unit].block;
	int64_t tokens = bl_calib_kept_windows(t->calib->c) * bl_calib_window(t->calib->c);
	struct tap tap = {t, m, n, false};

	for (size_t i = 0; i < n; i++)
		if (measure_begin(l, &m[i], &model->units[m[i].r->unit], err))
			return err->status;
	if (hs->inputs.of != t->calib->c || hs->inputs.block != block) {
		tap.store = inputs_alloc(l, block, tokens);
		if (run_block(t, block, &tap, err)) {
			drop_inputs(l);
			return err->status;
		}
		if (tap.store) {
			hs->inputs.of = t->calib->c;
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
	size_t n_measured = 0;

	if (!bl_live_forward(l, 0, err))
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
			from_hessian(t, r[i], w, err);
	}
	if (n_measured && !err->status)
		measure_all(t, m, n_measured, err);
	for (size_t i = 0; i < n_measured; i++) {
		measure_free(&l->engine, &m[i]);
		bl_unit_weights_unref((struct bl_unit_weights *)(uintptr_t)m[i].w);
	}
	bl_free(m);
	return err->status;
}
