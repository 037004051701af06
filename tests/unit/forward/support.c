/* SPDX-License-Identifier: Apache-2.0
 * Support of the forward tests. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"

void machine_open(struct machine *m, int threads, uint64_t memory_limit)
{
	struct bl_err err = BL_ERR_INIT;
	const char *device = getenv("BL_TEST_DEVICE"), *beside = getenv("BL_BUILD_DIR"); /* where the module is */

	bl_backend_open(&m->backend, beside ? beside : BL_BUILD_DIR);
	m->pool = bl_pool_new(threads);
	if (bl_engine_open(&m->engine, &m->backend, device ? device : "cpu", m->pool, memory_limit, &err))
		fail_msg("%s", err.text);
}

void machine_close(struct machine *m)
{
	bl_engine_close(&m->engine);
	bl_pool_free(m->pool);
	bl_backend_close(&m->backend);
}

char *shared(const char *name)
{
	const char *env = getenv("BL_SHARED");
	char *root = bl_path_join(BL_SOURCE_DIR, "../shared"), *path = bl_path_join(env ? env : root, name);

	bl_free(root);
	return path;
}

bool has_shared(const char *name)
{
	char *path = shared(name);
	bool there = bl_is_dir(path) || bl_is_file(path);

	if (!there)
		print_message("skipped: no %s\n", path);
	bl_free(path);
	return there;
}

struct bl_model *open_model(const char *path)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m = NULL;

	if (bl_model_open(&m, path, &err))
		fail_msg("%s: %s", path, err.text);
	return m;
}

struct bl_st *open_tensors(const char *path)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_st *st = bl_xalloc(1, sizeof(*st));

	if (bl_st_open(st, path, &err))
		fail_msg("%s: %s", path, err.text);
	return st;
}

void close_tensors(struct bl_st *st)
{
	bl_st_close(st);
	bl_free(st);
}

float *tensor_floats(const struct bl_st *st, const char *name, int64_t *n)
{
	const struct bl_tensor *t = bl_st_find(st, name);
	float *out;

	if (!t || (t->dtype != BL_F32 && t->dtype != BL_BF16))
		fail_msg("%s is not there", name);
	out = bl_xalloc((size_t)t->n_elems, sizeof(*out));
	for (int64_t i = 0; i < t->n_elems; i++) {
		uint16_t h;

		if (t->dtype == BL_F32) {
			memcpy(&out[i], (const char *)t->data + 4 * i, 4);
			continue;
		}
		memcpy(&h, (const char *)t->data + 2 * i, 2);
		out[i] = bl_bf16_f32(h);
	}
	*n = t->n_elems;
	return out;
}

int32_t *tensor_ids(const struct bl_st *st, const char *name, int64_t *rows, int64_t *cols)
{
	const struct bl_tensor *t = bl_st_find(st, name);
	int32_t *out;

	if (!t || t->rank != 2 || (t->dtype != BL_I32 && t->dtype != BL_I64))
		fail_msg("%s is not there", name);
	*rows = t->shape[0];
	*cols = t->shape[1];
	out = bl_xalloc((size_t)t->n_elems, sizeof(*out));
	for (int64_t i = 0; i < t->n_elems; i++) {
		int64_t wide;

		if (t->dtype == BL_I32) {
			memcpy(&out[i], (const char *)t->data + 4 * i, 4);
			continue;
		}
		memcpy(&wide, (const char *)t->data + 8 * i, 8);
		out[i] = (int32_t)wide;
	}
	return out;
}

/* --- computing --- */

struct taps { struct machine *m; struct bl_input_arrays { float *absmax; double *sum; uint64_t *bins; } *of; };

static enum bl_status see(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	struct taps *t = ctx;
	const struct bk_run_ops *ops = t->m->engine.ops;
	struct bk_run *run = t->m->engine.run;
	struct bk_input_acc acc;
	void *p;

	(void)first;
	if (!t->of[unit].absmax) {
		size_t bytes = (size_t)x->cols * 8 * 3 + (2 * BK_INPUT_BINS + 1) * 8;

		if (bl_engine_alloc(&t->m->engine, &p, bytes, "statistics", err))
			return err->status;
		ops->zero(run, p, bytes);
		t->of[unit].bins = p;
		t->of[unit].sum = (double *)(void *)((uint64_t *)p + 2 * BK_INPUT_BINS + 1);
		t->of[unit].absmax = (float *)(void *)(t->of[unit].sum + 2 * x->cols);
	}
	acc = (struct bk_input_acc){ t->of[unit].absmax, t->of[unit].sum, t->of[unit].sum + x->cols, t->of[unit].bins, t->of[unit].bins + BK_INPUT_BINS,
				     t->of[unit].bins + 2 * BK_INPUT_BINS };
	return bl_engine_check(&t->m->engine, ops->input_stats(run, &acc, x), "statistics", err);
}

static float *as_floats(const void *p, int64_t n, bool fp32)
{
	float *out = bl_xalloc((size_t)n, sizeof(*out));

	for (int64_t i = 0; i < n; i++)
		out[i] = fp32 ? ((const float *)p)[i] : bl_bf16_f32(((const uint16_t *)p)[i]);
	return out;
}

static float *read_hidden(struct bl_pass *p, const struct outcome *o, bool fp32)
{
	struct bl_err err = BL_ERR_INIT;
	void *raw = bl_xalloc((size_t)o->tokens, bl_pass_row_bytes(p));
	float *out;

	if (bl_pass_read(p, 0, o->tokens, raw, &err))
		fail_msg("%s", err.text);
	out = as_floats(raw, o->tokens * o->hidden_cols, fp32);
	bl_free(raw);
	return out;
}

struct sink { struct machine *m; struct outcome *o; bool fp32; };

static enum bl_status take(void *ctx, int64_t first, const struct bk_mat *l, struct bl_err *err)
{
	struct sink *s = ctx;
	int64_t n = l->rows * l->cols;
	void *raw = bl_xalloc((size_t)n, s->fp32 ? 4 : 2);
	float *f;

	if (bl_engine_check(&s->m->engine, s->m->engine.ops->get(s->m->engine.run, raw, l->p, (size_t)n * (s->fp32 ? 4 : 2)), "logits", err))
		return err->status;
	f = as_floats(raw, n, s->fp32);
	memcpy(s->o->logits + first * l->cols, f, (size_t)n * sizeof(*f));
	bl_free(f);
	bl_free(raw);
	return BL_OK;
}

static void run_all(struct outcome *o, struct machine *m, struct bl_pass *p, const struct asking *a, const struct bl_tap *tap, struct bl_err *err)
{
	if (bl_pass_embed(p, err))
		return;
	for (int b = 0; b < o->n_hidden; b++) {
		if (b && bl_pass_block(p, b - 1, a->set, tap, err))
			return;
		if (b + 1 < o->n_hidden)
			o->hidden[b] = read_hidden(p, o, a->fp32);
	}
	(void)m;
}

void compute(struct outcome *o, struct machine *m, const struct bl_model *model, const int32_t *ids, int64_t n_seq, int64_t seqlen, const struct asking *a)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_forward_options fo = { .fp32 = a->fp32, .batch_tokens = a->batch_tokens, .weight_bytes = a->weight_bytes, .host_bytes = a->host_bytes, .spill_dir = a->spill_dir,
					  .bf16_frequencies = a->bf16_frequencies };
	struct bl_forward *f = NULL;
	struct bl_pass *p = NULL;
	int64_t *start = bl_xalloc((size_t)n_seq + 1, sizeof(*start)), last = a->last ? a->last : seqlen, *which;
	struct bl_sequences s = { ids, start, n_seq };
	struct taps taps = { m, bl_xalloc((size_t)model->n_units, sizeof(*taps.of)) };
	struct bl_tap tap = { .ctx = &taps, .input = see };

	for (int64_t i = 0; i <= n_seq; i++)
		start[i] = i * seqlen;
	*o = (struct outcome){ .tokens = n_seq * seqlen, .hidden_cols = model->config.hidden, .vocab = model->config.vocab, .n_logits = n_seq * last,
			       .n_hidden = (int)model->config.layers + 1, .n_units = model->n_units };
	o->logits = bl_xalloc((size_t)(o->n_logits * o->vocab), sizeof(float));
	which = bl_xalloc((size_t)o->n_logits, sizeof(*which));
	for (int64_t i = 0; i < o->n_logits; i++)
		which[i] = i / last * seqlen + seqlen - last + i % last;
	if (bl_forward_new(&f, model, &m->engine, &fo, &err) == BL_OK && bl_pass_new(&p, f, &s, &err) == BL_OK) {
		run_all(o, m, p, a, a->absmax ? &tap : NULL, &err);
		if (!err.status && bl_pass_head(p, which, o->n_logits, 13, &(struct bl_head_sink){ &(struct sink){ m, o, a->fp32 }, take }, &err) == BL_OK &&
		    bl_pass_final_norm(p, &err) == BL_OK)
			o->hidden[o->n_hidden - 1] = read_hidden(p, o, a->fp32);
	}
	if (err.status)
		fail_msg("%s: %s", model->title, err.text);
	if (a->absmax) {
		o->absmax = bl_xalloc((size_t)model->n_units, sizeof(*o->absmax));
		for (int i = 0; i < model->n_units; i++) {
			o->absmax[i] = bl_xalloc((size_t)model->units[i].cols, sizeof(float));
			m->engine.ops->get(m->engine.run, o->absmax[i], taps.of[i].absmax, (size_t)model->units[i].cols * sizeof(float));
			bl_engine_release(&m->engine, taps.of[i].bins);
		}
	}
	bl_pass_free(p);
	bl_forward_free(f);
	bl_free(taps.of);
	bl_free(which);
	bl_free(start);
}

void outcome_free(struct outcome *o)
{
	for (int i = 0; i < o->n_hidden; i++)
		bl_free(o->hidden[i]);
	for (int i = 0; o->absmax && i < o->n_units; i++)
		bl_free(o->absmax[i]);
	bl_free(o->absmax);
	bl_free(o->logits);
}

bool outcomes_equal(const struct outcome *a, const struct outcome *b)
{
	for (int i = 0; i < a->n_hidden; i++)
		if (memcmp(a->hidden[i], b->hidden[i], (size_t)(a->tokens * a->hidden_cols) * sizeof(float)))
			return false;
	return !memcmp(a->logits, b->logits, (size_t)(a->n_logits * a->vocab) * sizeof(float));
}

double worst(const float *a, const float *b, int64_t n)
{
	double top = 0, sum = 0;

	for (int64_t i = 0; i < n; i++) {
		double d = fabs((double)a[i] - (double)b[i]);

		if (!(d <= top)) /* NaN too */
			top = isnan(d) ? INFINITY : d;
		sum += (double)b[i] * (double)b[i];
	}
	return sum > 0 ? top / sqrt(sum / (double)n) : top;
}

double rms_error(const float *a, const float *b, int64_t n)
{
	double d2 = 0, b2 = 0;

	for (int64_t i = 0; i < n; i++) {
		d2 += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		b2 += (double)b[i] * (double)b[i];
	}
	return sqrt(d2 / b2);
}
