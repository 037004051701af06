/* SPDX-License-Identifier: Apache-2.0
 * Opening a device with model and plan on it, and hidden states into a file. The file is laid out first and written as results come. */
#include "core/session/run_model.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/session/run_private.h"
#include "core/session/stored.h"

#define IDS_MOST ((int64_t)1 << 24)

/* --- place --- */

enum bl_status bl_place_open(struct bl_place *p, struct bl_session *s, const struct bl_run_place *at, bool fp32, struct bl_err *err)
{
	struct bl_forward_options o = {.fp32 = fp32, .cancel = bl_progress_cancel(at->progress)};

	*p = (struct bl_place){.s = s};
	bl_backend_open(&p->backend, at->program_dir);
	if (bl_engine_open(&p->engine, &p->backend, at->device ? at->device : "auto", s->pool, at->memory_limit, err))
		return err->status;
	p->opened = true;
	if (bl_measure_weights(&p->set, s, s->plan, o.cancel, err) || bl_session_own(s, at->arithmetic, &p->own, &o.own, err))
		return err->status;
	if (at->arithmetic == BL_ARITHMETIC_TRANSFORMERS) {
		struct bl_weight_set was = p->set;
		p->set = (struct bl_weight_set){.of = NULL};
		bl_weights_transformers(&p->set, &was, s->pool, err);
		bl_measure_weights_free(&was);
	}
	if (err->status || bl_forward_new(&p->f, s->model, &p->engine, &o, err))
		return err->status;
	return BL_OK;
}

void bl_place_close(struct bl_place *p)
{
	bl_forward_free(p->f);
	bl_measure_weights_free(&p->set);
	bl_measure_weights_free(&p->own);
	if (p->opened)
		bl_engine_close(&p->engine);
	bl_backend_close(&p->backend);
}

/* --- ids --- */

struct reading { const struct bl_tensor *t; int32_t *ids; const char *path; };

static enum bl_status read_ids(void *ctx, struct bl_err *err)
{
	struct reading *r = ctx;

	for (int64_t i = 0; i < r->t->n_elems; i++) {
		int64_t wide = 0;
		int32_t narrow = 0;

		if (r->t->dtype == BL_I64)
			memcpy(&wide, (const char *)r->t->data + 8 * i, 8);
		else
			memcpy(&narrow, (const char *)r->t->data + 4 * i, 4);
		wide = r->t->dtype == BL_I64 ? wide : narrow;
		if (wide < 0 || wide > INT32_MAX)
			return bl_fail(err, BL_INVALID, "%s: input_ids: element %lld is %lld, no token has that number", r->path, (long long)i, (long long)wide);
		r->ids[i] = (int32_t)wide;
	}
	return BL_OK;
}

enum bl_status bl_ids_read(int32_t **out, int64_t *rows, int64_t *cols, const char *path, struct bl_err *err)
{
	struct bl_st st = {.n_tensors = 0};
	struct reading r = {.path = path};

	if (bl_st_open(&st, path, err))
		return err->status;
	r.t = bl_st_find(&st, "input_ids");
	if (!r.t || r.t->rank != 2 || (r.t->dtype != BL_I32 && r.t->dtype != BL_I64) || r.t->n_elems < 1 || r.t->n_elems > IDS_MOST)
		bl_fail(err, BL_INVALID, "%s: needs a tensor input_ids [B,T] of I32 or I64 with 1 .. %lld elements", path, (long long)IDS_MOST);
	else if (bl_try_alloc(&r.ids, (size_t)r.t->n_elems, sizeof *r.ids, "token numbers", err) == BL_OK && bl_guard_run(read_ids, &r, err) == BL_OK) {
		*rows = r.t->shape[0];
		*cols = r.t->shape[1];
		*out = r.ids;
		r.ids = NULL;
	}
	bl_free(r.ids);
	bl_st_close(&st);
	return err->status;
}

/* --- the file --- */

struct inputs { float *absmax; double *sums; uint64_t *bins; }; /* of one unit, in the run's memory */

struct dump {
	struct bl_place place;
	const struct bl_forward_request *r;
	struct bl_pass *pass;
	int32_t *ids;
	int64_t rows, cols, last, hidden, vocab;
	int layers;
	struct bl_tensor *t; int64_t n_tensors;
	char (*names)[1200];
	struct bl_replace file; bool begun;
	uint64_t bytes;
	struct inputs *inputs;     /* [units] */
	float *floats; char *raw;  /* of a chunk */
	int64_t chunk;             /* elements */
};

static void add(struct dump *d, const char *name, enum bl_dtype dtype, int rank, int64_t a, int64_t b, int64_t c)
{
	struct bl_tensor *t = &d->t[d->n_tensors];
	int64_t n = a * (rank > 1 ? b : 1) * (rank > 2 ? c : 1);

	snprintf(d->names[d->n_tensors], sizeof *d->names, "%s", name);
	*t = (struct bl_tensor){.name = d->names[d->n_tensors], .dtype = dtype, .rank = rank, .shape = {a, b, c}, .n_elems = n,
				.bytes = (uint64_t)n * (uint64_t)bl_dtype_bytes(dtype)};
	d->n_tensors++;
}

static enum bl_status lay_out(struct dump *d, struct bl_err *err)
{
	const struct bl_model *m = d->place.s->model;
	struct bl_str head = {0};
	char name[1200];
	int64_t most = d->layers + 3;

	for (int i = 0; i < m->n_units; i++)
		most += m->units[i].n_members;
	d->t = bl_xalloc((size_t)most, sizeof *d->t);
	d->names = bl_xalloc((size_t)most, sizeof *d->names);
	add(d, "input_ids", BL_I32, 2, d->rows, d->cols, 0);
	for (int i = 0; i <= d->layers; i++) {
		snprintf(name, sizeof name, "hidden_%02d", i);
		add(d, name, BL_F32, 3, d->rows, d->cols, d->hidden);
	}
	add(d, "logits", BL_F32, 3, d->rows, d->last, d->vocab);
	for (int i = 0; i < m->n_units; i++)
		for (int j = 0; j < m->units[i].n_members; j++) {
			snprintf(name, sizeof name, "input_absmax.%s", m->units[i].members[j].name);
			add(d, name, BL_F32, 1, m->units[i].cols, 0, 0);
		}
	d->bytes = bl_st_layout(d->t, d->n_tensors, &head);
	if (bl_replace_begin(&d->file, d->r->out, 0644, err) == BL_OK) {
		d->begun = true;
		bl_pwrite_all(d->file.fd, bl_str_c(&head), head.len, 0, d->r->out, err);
	}
	bl_str_free(&head);
	return err->status;
}

static enum bl_status put(struct dump *d, const char *name, int64_t first, const void *data, int64_t n, struct bl_err *err)
{
	for (int64_t i = 0; i < d->n_tensors; i++)
		if (!strcmp(d->t[i].name, name))
			return bl_pwrite_all(d->file.fd, data, (size_t)n * 4, d->t[i].offset + (uint64_t)first * 4, d->r->out, err);
	return bl_fail(err, BL_FAILED, "%s: is not in the file", name);
}

static const float *floats(struct dump *d, int64_t n)
{
	if (d->r->fp32)
		return (const float *)(const void *)d->raw;
	for (int64_t i = 0; i < n; i++) {
		uint16_t h;
		memcpy(&h, d->raw + 2 * i, 2);
		d->floats[i] = bl_bf16_f32(h);
	}
	return d->floats;
}

static enum bl_status put_hidden(struct dump *d, int at, struct bl_err *err)
{
	int64_t rows = d->chunk / d->hidden, n = d->rows * d->cols;
	char name[32];

	snprintf(name, sizeof name, "hidden_%02d", at);
	for (int64_t i = 0; i < n; i += rows) {
		int64_t k = n - i < rows ? n - i : rows;
		if (bl_pass_read(d->pass, i, k, d->raw, err) || put(d, name, i * d->hidden, floats(d, k * d->hidden), k * d->hidden, err))
			return err->status;
	}
	return BL_OK;
}

static enum bl_status take_logits(void *ctx, int64_t first, const struct bk_mat *l, struct bl_err *err)
{
	struct dump *d = ctx;
	struct bl_engine *e = &d->place.engine;
	int64_t n = l->rows * l->cols;

	if (bl_engine_check(e, e->ops->get(e->run, d->raw, l->p, (size_t)n * (d->r->fp32 ? 4 : 2)), "reading logits", err))
		return err->status;
	return put(d, "logits", first * d->vocab, floats(d, n), n, err);
}

static enum bl_status see(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct dump *d = ctx;
	struct bl_engine *e = &d->place.engine;
	struct inputs *in = &d->inputs[unit];
	uint64_t *b;

	(void)first;
	if (!in->bins) {
		size_t bytes = (2 * BK_INPUT_BINS + 1) * 8 + (size_t)x->cols * 20;
		if (bl_engine_alloc(e, (void **)&in->bins, bytes, "ranges of inputs", err) ||
		    bl_engine_check(e, e->ops->zero(e->run, in->bins, bytes), "ranges of inputs", err))
			return err->status;
		in->sums = (double *)(void *)(in->bins + 2 * BK_INPUT_BINS + 1);
		in->absmax = (float *)(void *)(in->sums + 2 * x->cols);
	}
	b = in->bins;
	struct bk_input_acc acc = {in->absmax, in->sums, in->sums + x->cols, b, b + BK_INPUT_BINS, b + 2 * BK_INPUT_BINS};
	return bl_engine_check(e, e->ops->input_stats(e->run, &acc, x), "ranges of inputs", err);
}

static enum bl_status put_ranges(struct dump *d, struct bl_err *err)
{
	const struct bl_model *m = d->place.s->model;
	struct bl_engine *e = &d->place.engine;
	char name[1200];

	for (int i = 0; i < m->n_units; i++) {
		if (bl_engine_check(e, e->ops->get(e->run, d->raw, d->inputs[i].absmax, (size_t)m->units[i].cols * 4), "ranges of inputs", err))
			return err->status;
		for (int j = 0; j < m->units[i].n_members; j++) {
			snprintf(name, sizeof name, "input_absmax.%s", m->units[i].members[j].name);
			if (put(d, name, 0, d->raw, m->units[i].cols, err))
				return err->status;
		}
	}
	return BL_OK;
}

static enum bl_status logits(struct dump *d, struct bl_err *err)
{
	int64_t n = d->rows * d->last, rows = d->chunk / d->vocab, *which = NULL;
	struct bl_head_sink sink = {d, take_logits};

	if (bl_try_alloc(&which, (size_t)n, sizeof *which, "token numbers", err))
		return err->status;
	for (int64_t i = 0; i < n; i++)
		which[i] = i / d->last * d->cols + d->cols - d->last + i % d->last;
	bl_pass_head(d->pass, which, n, rows < 512 ? rows : 512, &sink, err);
	bl_free(which);
	return err->status;
}

static enum bl_status through(struct dump *d, struct bl_err *err)
{
	struct bl_tap tap = {.ctx = d, .input = see};
	struct bl_progress *p = d->r->at.progress;

	if (p)
		atomic_store(&p->total_bytes, (uint64_t)d->layers + 1);
	if (put(d, "input_ids", 0, d->ids, d->rows * d->cols, err) || bl_pass_embed(d->pass, err) || put_hidden(d, 0, err))
		return err->status;
	for (int b = 0; b < d->layers; b++) {
		if (bl_pass_block(d->pass, b, d->place.set.of ? &d->place.set : NULL, &tap, err) || (b + 1 < d->layers && put_hidden(d, b + 1, err)))
			return err->status;
		if (p)
			atomic_fetch_add(&p->done_bytes, 1);
	}
	if (logits(d, err) || bl_pass_final_norm(d->pass, err) || put_hidden(d, d->layers, err))
		return err->status;
	return put_ranges(d, err);
}

static enum bl_status prepare(struct dump *d, struct bl_session *s, struct bl_err *err)
{
	int64_t *start = NULL;

	if (bl_ids_read(&d->ids, &d->rows, &d->cols, d->r->ids, err) || bl_place_open(&d->place, s, &d->r->at, d->r->fp32, err))
		return err->status;
	d->layers = (int)s->model->config.layers;
	d->hidden = s->model->config.hidden;
	d->vocab = s->model->config.vocab;
	d->last = d->r->last && d->r->last < d->cols ? d->r->last : d->cols;
	d->inputs = bl_xalloc((size_t)s->model->n_units, sizeof *d->inputs);
	d->chunk = 1 << 20;
	for (int i = 0; i < s->model->n_units; i++)
		d->chunk = d->chunk < s->model->units[i].cols ? s->model->units[i].cols : d->chunk;
	d->chunk = d->chunk < d->vocab ? d->vocab : d->chunk;
	if (bl_try_alloc(&d->raw, (size_t)d->chunk, 4, "results", err) || bl_try_alloc(&d->floats, (size_t)d->chunk, 4, "results", err) ||
	    bl_try_alloc(&start, (size_t)d->rows + 1, sizeof *start, "sequences", err))
		return err->status;
	for (int64_t i = 0; i <= d->rows; i++)
		start[i] = i * d->cols;
	struct bl_sequences seq = {d->ids, start, d->rows};
	if (bl_pass_new(&d->pass, d->place.f, &seq, err) == BL_OK)
		lay_out(d, err);
	bl_free(start);
	return err->status;
}

enum bl_status bl_session_forward(struct bl_session *s, const struct bl_forward_request *r, struct bl_forward_report *out, struct bl_err *err)
{
	struct dump d = {.r = r};
	uint64_t t0 = bl_now_ns();

	if (prepare(&d, s, err) == BL_OK && through(&d, err) == BL_OK && bl_replace_commit(&d.file, err) == BL_OK) {
		d.begun = false;
		*out = (struct bl_forward_report){.sequences = d.rows, .tokens = d.rows * d.cols, .tensors = d.n_tensors, .bytes = d.bytes,
						  .seconds = (double)(bl_now_ns() - t0) * 1e-9};
		snprintf(out->device, sizeof out->device, "%s", d.place.engine.name);
	}
	if (d.begun)
		bl_replace_rollback(&d.file);
	bl_pass_free(d.pass);
	for (int i = 0; d.inputs && i < s->model->n_units; i++)
		bl_engine_release(&d.place.engine, d.inputs[i].bins);
	bl_place_close(&d.place);
	bl_free(d.inputs);
	bl_free(d.raw);
	bl_free(d.floats);
	bl_free(d.t);
	bl_free(d.names);
	bl_free(d.ids);
	return err->status;
}
