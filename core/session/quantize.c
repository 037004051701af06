/* SPDX-License-Identifier: Apache-2.0
 * The job that solves a plan's units into the cache: from stored Hessians through one queue, from the data as they go by, or from both. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/solve/batch.h"
#include "core/solve/store.h"

struct quantize_job {
	struct bl_session *s;
	struct bl_plan *plan;
	uint8_t *of; int n;             /* units that are to be solved */
	struct bl_live_plan *live;
	bool propagate, train;          /* some of them while the data go by; some trained together */
	struct bl_calib_request data;   /* n_files > 0: what the moments are of, instead of a calibration in use */
};

/* Units of the plan whose moments are not in the store: of the quantized model's inputs, or with tokens weighed. */
static enum bl_status propagate(struct quantize_job *q, struct bl_job *j, struct bl_err *err)
{
	struct bl_live *l = q->s->priv->live;
	struct bl_live_calib *calib = bl_live_get_calib(l);

	if (calib) { /* base inputs are in the store by now */
		const struct bl_live_source source = {.ids = bl_calib_ids(calib->c), .windows = bl_calib_tokens(calib->c) / bl_calib_window(calib->c),
						      .len = bl_calib_window(calib->c), .key = bl_calib_key_of(calib->c)};
		if (*bl_choice_stages(&q->live->choice[0]))
			bl_fail(err, BL_UNSUPPORTED, "inputs=quantized does not go with stages yet: take either out of the plan");
		else
			bl_live_stream(l, j, q->live, q->of, &source, err);
	} else {
		bl_fail(err, BL_INVALID, "the plan's methods need a calibration: calibrate first (c, or `bitlathe calibrate MODEL --data FILE`)");
	}
	bl_live_calib_unref(calib);
	return err->status;
}

/* Units of the plan that are trained together, from what the others came to. */
static enum bl_status train(struct quantize_job *q, struct bl_job *j, struct bl_err *err)
{
	struct bl_live *l = q->s->priv->live;
	struct bl_live_calib *calib = bl_live_get_calib(l);

	if (calib)
		bl_live_tune(l, j, q->live, calib, err);
	else
		bl_fail(err, BL_INVALID, "the plan's methods need a calibration: calibrate first (c, or `bitlathe calibrate MODEL --data FILE`)");
	bl_live_calib_unref(calib);
	return err->status;
}

/* The other units: those that are not stored, through one queue. */
struct queue {
	struct quantize_job *q;
	struct bl_live *l;
	struct bl_job *j;
	struct bl_live_calib *calib;
	struct bl_fold *fold;
	float **own;     /* [n_units]: folded Hessians until their units are solved */
	char (*key)[65];
	int *unit;       /* [n]: left to solve */
	bool *there;     /* [n_units] */
	size_t n;
	atomic_int done;
};

static struct bl_solve_request request_of(const struct queue *k, int unit)
{
	return bl_live_request(k->l->s, k->fold, unit, bl_plan_choice(k->q->plan, unit), bl_plan_zero_nonfinite(k->q->plan));
}

static bool is_queued(const struct queue *k, int unit)
{
	const struct bl_choice *c = bl_plan_choice(k->q->plan, unit);

	return k->q->of[unit] && !bl_live_streamed(k->l, unit, c) && !bl_live_trained(k->l, c);
}

static enum bl_status check_stored(void *ctx, size_t item, struct bl_err *err)
{
	struct queue *k = ctx;
	const int unit = (int)item;
	struct bl_err none = BL_ERR_INIT;
	struct bl_solved *u = NULL;

	(void)err;
	if (!is_queued(k, unit))
		return BL_OK;
	const struct bl_solve_request rq = request_of(k, unit);
	bl_solved_key(k->key[unit], &rq, bl_calib_key_of(k->calib->c), "");
	k->there[unit] = !bl_live_load_solved(k->l, &rq, k->key[unit], &u, &none);
	bl_solved_free(u);
	return BL_OK;
}

static enum bl_status prepare(void *ctx, size_t i, struct bl_solve_request *rq, struct bl_err *err)
{
	struct queue *k = ctx;

	*rq = request_of(k, k->unit[i]);
	rq->tokens = bl_calib_tokens(k->calib->c);
	rq->cancel = bl_job_cancel_flag(k->j);
	if (!k->fold)
		return bl_calib_hessian(k->calib->c, rq->unit, &rq->h, err);
	bl_free(k->own[rq->unit]);
	k->own[rq->unit] = NULL;
	return bl_fold_hessian(k->fold, k->calib->c, rq->unit, &rq->h, &k->own[rq->unit], err);
}

static enum bl_status keep(void *ctx, size_t i, const struct bl_solved *s, struct bl_err *err)
{
	struct queue *k = ctx;

	(void)i;
	bl_free(k->own[s->unit]);
	k->own[s->unit] = NULL;
	if (bl_live_save_solved(k->l, s, k->key[s->unit], err))
		return err->status;
	k->there[s->unit] = true;
	bl_job_progress(k->j, "solve", atomic_fetch_add(&k->done, 1) + 1, k->q->n, "units");
	return BL_OK;
}

static bool stop(void *ctx) { return bl_job_checkpoint(((struct queue *)ctx)->j); }

static enum bl_status solve_queue(struct queue *k, struct bl_err *err)
{
	const struct bl_model *m = k->l->s->model;
	struct bl_solve_batch b = {.e = &k->l->engine, .prepare = prepare, .done = keep, .stop = stop, .ctx = k};
	struct bl_solve_seconds seconds = {0};

	do {
		bl_err_clear(err);
		k->n = 0;
		b.host_bytes = 0;
		for (int i = 0; i < m->n_units; i++) {
			if (!is_queued(k, i) || k->there[i])
				continue;
			k->unit[k->n++] = i;
			const size_t bytes = bl_solve_host_bytes(&m->units[i], &bl_plan_choice(k->q->plan, i)->scheme);
			b.host_bytes = bytes > b.host_bytes ? bytes : b.host_bytes;
		}
		b.n = k->n;
		if (b.n && !bl_live_engine(k->l, 0, err))
			return err->status;
		bl_solve_many(&b, &seconds, err);
	} while (err->status && bl_live_failed(k->l, 1, err));
	if (seconds.units)
		bl_log(BL_LOG_INFO, "%d units in %.2f s: %.2f waiting for Hessians, %.2f copies up, %.2f solving, %.2f waiting for files (%.2f of work)", seconds.units,
		       seconds.total, seconds.prepare, seconds.up, seconds.solve, seconds.out, seconds.files);
	k->l->solve_seconds = seconds; /* read when the job has ended */
	return err->status;
}

static enum bl_status solve_all(struct quantize_job *q, struct bl_job *j, struct bl_err *err)
{
	struct bl_live *l = q->s->priv->live;
	const int n = l->s->model->n_units;
	struct queue k = {.q = q, .l = l, .j = j, .calib = bl_live_get_calib(l)};
	int queued = 0;

	for (int i = 0; i < n; i++)
		queued += is_queued(&k, i);
	if (!queued)
		goto done;
	if (!k.calib || !bl_calib_has_hessians(k.calib->c)) {
		for (int i = 0; i < n && !err->status; i++)
			if (is_queued(&k, i))
				bl_live_no_calibration(l->s, i, bl_plan_choice(q->plan, i), err);
		goto done;
	}
	if (bl_live_fold(l, bl_plan_choice(q->plan, 0), &k.fold, err))
		goto done;
	k.own = bl_xalloc((size_t)n, sizeof *k.own);
	k.key = bl_xalloc((size_t)n, sizeof *k.key);
	k.unit = bl_xalloc((size_t)n, sizeof *k.unit);
	k.there = bl_xalloc((size_t)n, sizeof *k.there);
	if (!bl_pool_run(l->s->pool, (size_t)n, check_stored, &k, bl_job_cancel_flag(j), err))
		solve_queue(&k, err);
done:
	if (!err->status && q->propagate)
		propagate(q, j, err);
	if (!err->status && q->train)
		train(q, j, err);
	for (int i = 0; i < n && k.own; i++)
		bl_free(k.own[i]);
	bl_fold_unref(k.fold);
	bl_live_calib_unref(k.calib);
	bl_free(k.own);
	bl_free(k.key);
	bl_free(k.unit);
	bl_free(k.there);
	return err->status;
}

/* From the data as they go by, unless a calibration of them is stored. */
static enum bl_status solve_data(struct quantize_job *q, struct bl_job *j, struct bl_err *err)
{
	struct bl_live *l = q->s->priv->live;
	struct bl_err none = BL_ERR_INIT;
	struct bl_live_data *d = NULL;

	bl_job_note(j, "reading data");
	if (bl_live_data_load(&d, l->s->model, &q->data, bl_job_cancel_flag(j), err))
		return err->status;
	if (bl_live_engine(l, q->data.memory_limit, err)) {
		const struct bl_calib_data data = {d->ids, d->windows, d->len, d->digest};
		const struct bl_calib_options o = {.hessians = true, .keep_windows = q->data.keep_windows, .device = l->engine.cuda ? "cuda" : "cpu"};
		char key[65];

		bl_calib_key(key, l->s->model, &data, &o);
		if (!bl_live_take_up(l, key, &none) || q->train || *bl_choice_stages(&q->live->choice[0])) {
			solve_all(q, j, err);
		} else {
			const struct bl_live_source source = {.ids = d->ids, .windows = d->windows, .len = d->len, .key = key, .direct = true};

			pthread_mutex_lock(&l->lock);
			snprintf(l->direct_key, sizeof l->direct_key, "%s", key);
			pthread_mutex_unlock(&l->lock);
			bl_live_stream(l, j, q->live, q->of, &source, err);
		}
	}
	bl_live_data_unref(d);
	return err->status;
}

static enum bl_status quantize_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct quantize_job *q = ctx;

	if (q->data.n_files)
		solve_data(q, j, err);
	else
		solve_all(q, j, err);
	atomic_store(&q->s->priv->live->solved_more, true);
	return err->status;
}

static void quantize_drop(void *ctx)
{
	struct quantize_job *q = ctx;

	bl_live_plan_unref(q->live);
	bl_plan_free(q->plan);
	bl_calib_request_free(&q->data);
	bl_free(q->of);
	bl_free(q);
}

static const struct bl_choice *choice_at(const void *plan, int unit) { return bl_plan_choice(plan, unit); }

/* What is to be solved of a plan, which stays the caller's. */
static void choose(struct quantize_job *q, struct bl_session *s, struct bl_plan *p, const uint8_t *selected)
{
	bool ordered = false;

	*q = (struct quantize_job){.s = s, .plan = p, .of = bl_xalloc((size_t)s->model->n_units + 1, 1)};
	for (int i = 0; i < s->model->n_units; i++)
		ordered |= (!selected || selected[i]) && bl_live_streamed(s->priv->live, i, bl_plan_choice(p, i));
	for (int i = 0; i < s->model->n_units; i++) { /* inputs that are quantized depend on all that comes before */
		q->of[i] = (!selected || selected[i] || ordered) && bl_session_choice_whole(s, bl_plan_choice(p, i));
		q->n += q->of[i];
		q->train |= q->of[i] && bl_live_trained(s->priv->live, bl_plan_choice(p, i));
	}
	q->propagate = ordered;
	if (q->n)
		q->live = bl_live_plan_new(s->model->n_units, choice_at, p, bl_plan_zero_nonfinite(p));
}

uint64_t bl_session_quantize(struct bl_session *s, const uint8_t *selected, const struct bl_calib_request *data)
{
	static const struct bl_job_ops ops = {.name = "quantize", .lane = BL_LANE_MAIN, .run = quantize_run, .drop = quantize_drop};
	struct quantize_job *q = bl_xalloc(1, sizeof *q);

	bl_live_publish(s);
	choose(q, s, bl_plan_copy(s->plan), selected);
	if (data)
		bl_calib_request_copy(&q->data, data);
	if (q->n)
		return bl_jobs_add(s->jobs, &ops, q, "quantize");
	quantize_drop(q);
	return 0;
}

const struct bl_solve_seconds *bl_session_solve_seconds(const struct bl_session *s) { return &s->priv->live->solve_seconds; }

/* ---- for the export ---- */

struct bl_solved **bl_live_solved_plan(struct bl_live *l, const struct bl_plan *p, struct bl_job *j, struct bl_err *err)
{
	const int n = bl_plan_n_units(p);
	struct bl_solved **all = bl_xalloc((size_t)n + 1, sizeof *all);
	struct bl_fold *fold = NULL;
	struct quantize_job q;

	choose(&q, l->s, (struct bl_plan *)(uintptr_t)p, NULL);
	if (q.n && !solve_all(&q, j, err))
		bl_live_fold(l, bl_plan_choice(p, 0), &fold, err);
	for (int i = 0; i < n && !err->status; i++) {
		const struct bl_choice *c = bl_plan_choice(p, i);
		struct bl_solve_request rq = bl_live_request(l->s, fold, i, c, bl_plan_zero_nonfinite(p));
		char key[65], chain[65];

		if (!q.of[i])
			continue;
		const bool trained = bl_live_trained(l, c);
		if (trained || bl_live_inputs(l, i, c).quantized) {
			bl_live_chain(chain, l, q.live, trained ? INT_MAX : l->s->model->units[i].block);
			rq.chain = chain;
		}
		if (bl_live_solved_key(l, &rq, key))
			bl_live_load_solved(l, &rq, key, &all[i], err);
		else
			bl_live_no_calibration(l->s, i, bl_plan_choice(p, i), err);
	}
	if (q.n) /* the screen has not heard of what was solved */
		atomic_store(&l->solved_more, true);
	bl_fold_unref(fold);
	bl_live_plan_unref(q.live);
	bl_free(q.of);
	return all;
}
