/* SPDX-License-Identifier: Apache-2.0
 * The fold: numbers of every block, tensors from them, a model that points at those, and what follows for Hessians and ranges. */
#include "core/transform/fold.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/transform/sample.h"
#include "core/transform/store.h"
#include "core/transform/tensors.h"

struct bl_fold {
	atomic_int refs;
	const struct bl_model *base;
	struct bl_model model;          /* the checkpoint's, but for tensors, units and digest */
	struct bl_ops *ops;             /* [layers] */
	struct fold_tensor *tensors; int n_tensors; size_t cap_tensors;
	uint8_t *changed;               /* [n_units] */
	bool small;
	struct bl_str report;
};

/* ---- numbers ---- */

struct deciding { const struct bl_fold_request *rq; const struct bl_stages *stages; struct bl_fold *f; struct fold_sample *samples; };

static enum bl_status decide_block(void *ctx, size_t block, struct bl_err *err)
{
	const struct deciding *d = ctx;
	struct fold_block b = { .m = d->rq->model, .calib = d->rq->calib, .block = (int)block, .ops = &d->f->ops[block] };

	for (int k = 0; d->samples && k < BL_UNIT_KIND_COUNT; k++)
		b.sample[k] = d->samples[block * BL_UNIT_KIND_COUNT + (size_t)k];
	for (int i = 0; i < d->stages->n; i++)
		if (fold_stage(&b, &d->stages->at[i], err))
			return bl_err_prefix(err, "stage %s, block %zu", d->stages->at[i].transform->name, block);
	return BL_OK;
}

static enum bl_status take_samples(struct deciding *d, struct bl_err *err)
{
	unsigned readers = 0;

	for (int i = 0; i < d->stages->n; i++) {
		const struct bl_stage *s = &d->stages->at[i];

		if (s->transform->kind != BL_TRANSFORM_SMOOTH || bl_stage_value(s, "search") == 0 || bl_stage_value(s, "activations") == 2)
			continue;
		for (int p = 0; p < BL_FOLD_LEGAL; p++)
			if (s->pairs >> p & 1)
				readers |= 1u << bl_channels_of(d->rq->model, (enum bl_fold_pair)p).reader;
	}
	if (!readers)
		return BL_OK;
	d->samples = bl_xalloc((size_t)d->rq->model->n_units + 1, sizeof *d->samples);
	return fold_samples(d->samples, d->rq->model, d->rq->calib, readers, d->rq->pool, d->rq->cancel, err);
}

static enum bl_status decide(struct bl_fold *f, const struct bl_fold_request *rq, const struct bl_stages *stages, struct bl_err *err)
{
	struct deciding d = { rq, stages, f, NULL };

	for (int i = 0; i < stages->n; i++)
		if (stages->at[i].transform->needs_calibration && !rq->calib)
			return bl_fail(err, BL_INVALID, "stage %s needs a calibration: calibrate first (c, or `bitlathe calibrate MODEL --data FILE`)",
				       stages->at[i].transform->name);
	if (!take_samples(&d, err))
		bl_pool_run(rq->pool, (size_t)rq->model->config.layers, decide_block, &d, rq->cancel, err);
	for (int i = 0; d.samples && i < rq->model->n_units; i++)
		bl_free(d.samples[i].x);
	bl_free(d.samples);
	return err->status;
}

/* ---- the model ---- */

static void replace(struct bl_fold *f, const struct fold_tensor *t)
{
	struct bl_model *m = &f->model;

	for (int64_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i] == t->from)
			m->tensors[i] = &t->t;
	for (int u = t->block * BL_UNIT_KIND_COUNT; u < (t->block + 1) * BL_UNIT_KIND_COUNT; u++)
		for (int i = 0; i < m->units[u].n_members; i++) {
			struct bl_member *member = &m->units[u].members[i];

			if (member->weight == t->from || member->bias == t->from)
				f->changed[u] = 1;
			f->small |= member->bias == t->from;
			member->weight = member->weight == t->from ? &t->t : member->weight;
			member->bias = member->bias == t->from ? &t->t : member->bias;
		}
	f->small |= t->norm;
}

static void make_view(struct bl_fold *f, const char *key)
{
	const struct bl_model *base = f->base;
	struct bl_model *m = &f->model;

	*m = *base;
	memcpy(m->digest, key, sizeof m->digest);
	m->tensors = bl_xalloc((size_t)base->n_tensors + 1, sizeof(*m->tensors));
	memcpy(m->tensors, base->tensors, (size_t)base->n_tensors * sizeof(*m->tensors));
	m->units = bl_xalloc((size_t)base->n_units + 1, sizeof *m->units);
	memcpy(m->units, base->units, (size_t)base->n_units * sizeof *m->units);
	f->changed = bl_xalloc((size_t)base->n_units + 1, 1);
	for (int i = 0; i < f->n_tensors; i++)
		replace(f, &f->tensors[i]);
}

static void key_of(char key[65], const struct bl_fold_request *rq)
{
	struct bl_str s = { 0 };

	bl_str_addf(&s, "fold %d\nmodel %s\nstages %s\ncalibration %s\n", FOLD_PRODUCER, rq->model->digest, rq->stages, rq->calib ? bl_calib_key_of(rq->calib) : "");
	bl_sha256_of(bl_str_c(&s), s.len, key);
	bl_str_free(&s);
}

static void describe(struct bl_fold *f)
{
	for (int p = 0; p < BL_FOLD_LEGAL; p++) {
		const struct bl_channels c = bl_channels_of(f->base, (enum bl_fold_pair)p);
		double least = INFINITY, most = 0;
		bool orders = false, mixes = false;

		for (int b = 0; b < f->base->config.layers; b++)
			for (int i = 0; i < f->ops[b].n; i++) {
				const struct bl_op *op = &f->ops[b].at[i];

				if (op->pair != c.pair)
					continue;
				orders |= op->kind == BL_OP_ORDER;
				mixes |= op->kind == BL_OP_HADAMARD;
				for (int64_t k = 0; op->kind == BL_OP_SCALE && k < c.n; k++) {
					least = fmin(least, 1 / (double)op->mul[k]);
					most = fmax(most, 1 / (double)op->mul[k]);
				}
			}
		if (most > 0 || orders || mixes)
			bl_str_addf(&f->report, "%s%s:", f->report.len ? "\n" : "", bl_fold_pair_name(c.pair));
		if (most > 0)
			bl_str_addf(&f->report, " factors %.3g to %.3g", least, most);
		if (orders)
			bl_str_add(&f->report, " channels in order");
		if (mixes)
			bl_str_add(&f->report, " heads rotated");
	}
}

enum bl_status bl_fold_new(struct bl_fold **out, const struct bl_fold_request *rq, struct bl_err *err)
{
	const int layers = (int)rq->model->config.layers;
	struct bl_err ignored = BL_ERR_INIT;
	struct bl_stages stages;
	struct bl_fold *f;
	char key[65];

	if (bl_stages_parse(&stages, rq->model, rq->stages, err))
		return err->status;
	f = bl_xalloc(1, sizeof *f);
	atomic_init(&f->refs, 1);
	f->base = rq->model;
	f->ops = bl_xalloc((size_t)layers + 1, sizeof *f->ops);
	key_of(key, rq);
	if (rq->model->n_units != layers * BL_UNIT_KIND_COUNT || rq->model->config.quantized)
		bl_fail(err, BL_UNSUPPORTED, "%s: its weights cannot be changed by stages: %s", rq->model->title,
			rq->model->config.quantized ? "it is quantized already" : "its blocks are not made of four units");
	else if ((!rq->cache_dir || fold_load(f->ops, rq->model, rq->cache_dir, key, &ignored)) && !decide(f, rq, &stages, err) && rq->cache_dir)
		fold_save(f->ops, rq->model, rq->cache_dir, key);
	bl_stages_free(&stages);
	for (int b = 0; b < layers && !err->status; b++)
		fold_tensors_of(&f->tensors, &f->n_tensors, &f->cap_tensors, rq->model, b, &f->ops[b]);
	if (!err->status)
		fold_tensors_make(f->tensors, f->n_tensors, rq->model, rq->pool, rq->cancel, err);
	if (err->status) {
		bl_fold_unref(f);
		return err->status;
	}
	make_view(f, key);
	describe(f);
	*out = f;
	return BL_OK;
}

struct bl_fold *bl_fold_ref(struct bl_fold *f)
{
	if (f)
		atomic_fetch_add(&f->refs, 1);
	return f;
}

void bl_fold_unref(struct bl_fold *f)
{
	if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	for (int b = 0; b < f->base->config.layers; b++)
		bl_ops_free(&f->ops[b]);
	for (int i = 0; i < f->n_tensors; i++)
		bl_free((void *)(uintptr_t)f->tensors[i].t.data);
	bl_free(f->tensors);
	bl_free(f->ops);
	bl_free(f->changed);
	bl_free(f->model.tensors);
	bl_free(f->model.units);
	bl_str_free(&f->report);
	bl_free(f);
}

/* ---- what follows ---- */

const struct bl_model *bl_fold_model(const struct bl_fold *f) { return &f->model; }
bool bl_fold_changes(const struct bl_fold *f, int unit) { return f->changed[unit]; }
bool bl_fold_changes_small(const struct bl_fold *f) { return f->small; }
const char *bl_fold_report(const struct bl_fold *f) { return bl_str_c((struct bl_str *)(uintptr_t)&f->report); }

static bool input_of(const struct bl_fold *f, int unit, struct bl_channels *c)
{
	const struct bl_unit *u = &f->base->units[unit];
	enum bl_fold_pair pair;

	if (!bl_pair_read_by(f->base, u->kind, &pair) || !bl_ops_touch(&f->ops[u->block], pair))
		return false;
	*c = bl_channels_of(f->base, pair);
	return true;
}

bool bl_fold_changes_input(const struct bl_fold *f, int unit)
{
	struct bl_channels c;

	return input_of(f, unit, &c);
}

/* H' from the lower triangle of H, which is all that counts of either. */
static void factors_and_order(float *made, const float *h, const int64_t *from, const float *mul, int64_t k)
{
	bool in_order = true;

	for (int64_t i = 0; i < k; i++)
		in_order &= from[i] == i;
	for (int64_t i = 0; i < k; i++) {
		float *to = made + i * k;

		for (int64_t j = 0; in_order && j <= i; j++)
			to[j] = h[i * k + j] * mul[i] * mul[j];
		for (int64_t j = 0; !in_order && j <= i; j++) {
			const int64_t a = from[i] > from[j] ? from[i] : from[j], b = from[i] > from[j] ? from[j] : from[i];

			to[j] = h[a * k + b] * mul[i] * mul[j];
		}
	}
}

enum bl_status bl_fold_hessian(const struct bl_fold *f, const struct bl_calib *c, int unit, const float **h, float **own, struct bl_err *err)
{
	const struct bl_ops *ops = &f->ops[f->base->units[unit].block];
	const int64_t k = f->base->units[unit].cols;
	struct bl_channels channels;
	float *made, *tmp = NULL, *mul = NULL;
	int64_t *from = NULL;
	const float *stored;

	*own = NULL;
	if (!input_of(f, unit, &channels))
		return bl_calib_hessian(c, unit, h, err);
	if (bl_calib_hessian(c, unit, &stored, err) || bl_try_alloc(&made, (size_t)(k * k), sizeof *made, "a Hessian after the plan's stages", err))
		return err->status;
	from = bl_xalloc((size_t)k + 1, sizeof *from);
	mul = bl_xalloc((size_t)k + 1, sizeof *mul);
	if (bl_ops_columns(ops, &channels, from, mul, k)) {
		factors_and_order(made, stored, from, mul, k);
	} else if (!bl_try_alloc(&tmp, (size_t)(k * k), sizeof *tmp, "a Hessian after the plan's stages", err)) {
		for (int64_t i = 0; i < k; i++)
			for (int64_t j = 0; j <= i; j++)
				made[i * k + j] = made[j * k + i] = stored[i * k + j];
		bl_ops_hessian(ops, &channels, made, tmp, k);
	}
	bl_free(tmp);
	bl_free(from);
	bl_free(mul);
	if (err->status)
		bl_free(made);
	else
		*h = *own = made;
	return err->status;
}

bool bl_fold_channels(const struct bl_fold *f, int unit, float *absmax, double *mean, double *rms)
{
	const struct bl_ops *ops = &f->ops[f->base->units[unit].block];
	struct bl_channels c;

	if (!input_of(f, unit, &c))
		return true;
	return bl_ops_absmax(ops, &c, absmax, f->base->units[unit].cols) && bl_ops_moments(ops, &c, mean, rms, f->base->units[unit].cols);
}

float bl_fold_absmax(const struct bl_fold *f, const struct bl_calib *c, int unit)
{
	const struct bl_input_stats *in = bl_calib_stats(c, unit);
	const int64_t cols = f->base->units[unit].cols;
	struct bl_channels channels;
	float most = 0, *v;

	if (!in || in->nonfinite)
		return NAN;
	if (!input_of(f, unit, &channels))
		return in->absmax;
	v = bl_xalloc((size_t)cols + 1, sizeof *v);
	memcpy(v, in->channel_absmax, (size_t)cols * sizeof *v);
	if (!bl_ops_absmax(&f->ops[f->base->units[unit].block], &channels, v, cols))
		most = NAN;
	for (int64_t j = 0; j < cols && !isnan(most); j++)
		most = v[j] > most ? v[j] : most;
	bl_free(v);
	return most;
}
