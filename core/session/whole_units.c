/* SPDX-License-Identifier: Apache-2.0
 * Units whose method sees them whole (GPTQ and its kin): solved on the main lane from the calibration's Hessians, kept in the cache by what they depend on. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/solve/batch.h"
#include "core/solve/store.h"

bool bl_session_choice_whole(const struct bl_session *s, const struct bl_choice *c)
{
	const struct bl_method *m = c->scheme.number == BL_NUM_FULL ? NULL : bl_registry_method(&s->registry, c->method);

	return m && bl_method_whole(&s->registry, m);
}

struct bl_solve_request bl_live_request(const struct bl_session *s, int unit, const struct bl_choice *c, bool zero)
{
	return (struct bl_solve_request){.registry = &s->registry, .model = s->model, .unit = unit, .scheme = c->scheme, .method = c->method,
					 .params = c->params ? c->params : "", .zero_nonfinite = zero};
}

static enum bl_status no_calibration(const struct bl_session *s, int unit, const struct bl_choice *c, struct bl_err *err)
{
	return bl_fail(err, BL_INVALID, "%s: %s needs a calibration with Hessians: calibrate first (c, or `bitlathe calibrate MODEL --data FILE`)", s->model->units[unit].name,
		       c->method);
}

/* Of a unit whose inputs are the quantized model's, by the plan as it was published last. */
static void put_chain(struct bl_live *l, struct bl_solve_request *rq, const struct bl_choice *c, char chain[65])
{
	struct bl_live_plan *p;

	if (!bl_live_inputs(l, c).quantized)
		return;
	pthread_mutex_lock(&l->lock);
	p = l->plan ? bl_live_plan_ref(l->plan) : NULL;
	pthread_mutex_unlock(&l->lock);
	if (!p)
		return;
	bl_live_chain(chain, l, p, l->s->model->units[rq->unit].block);
	rq->chain = chain;
	bl_live_plan_unref(p);
}

/* What this process has written, or has checked once, is not checked again. */
static bool is_trusted(struct bl_live *l, int unit, const char *key)
{
	pthread_mutex_lock(&l->lock);
	const bool yes = l->trusted && !strcmp(l->trusted[unit], key);
	pthread_mutex_unlock(&l->lock);
	return yes;
}

static void trust(struct bl_live *l, int unit, const char *key)
{
	pthread_mutex_lock(&l->lock);
	if (!l->trusted)
		l->trusted = bl_xalloc((size_t)l->s->model->n_units + 1, sizeof *l->trusted);
	snprintf(l->trusted[unit], sizeof *l->trusted, "%s", key);
	pthread_mutex_unlock(&l->lock);
}

enum bl_status bl_live_load_solved(struct bl_live *l, const struct bl_solve_request *rq, const char *key, struct bl_solved **out, struct bl_err *err)
{
	if (!bl_solved_load(out, rq, l->cache_dir, key, is_trusted(l, rq->unit, key), err))
		trust(l, rq->unit, key);
	return err->status;
}

enum bl_status bl_live_save_solved(struct bl_live *l, const struct bl_solved *u, const char *key, struct bl_err *err)
{
	if (*u->report)
		bl_log(BL_LOG_WARN, "%s", u->report);
	if (!bl_solved_save(u, l->cache_dir, key, err))
		trust(l, u->unit, key);
	return err->status;
}

enum bl_status bl_live_stored_unit(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, struct bl_solved **out, struct bl_err *err)
{
	struct bl_live_calib *calib = bl_live_get_calib(l);
	struct bl_solve_request rq = bl_live_request(l->s, unit, c, zero);
	char key[65], chain[65];

	put_chain(l, &rq, c, chain);
	if (!calib || (!bl_calib_has_hessians(calib->c) && !rq.chain)) {
		no_calibration(l->s, unit, c, err);
	} else {
		bl_solved_key(key, &rq, bl_calib_key_of(calib->c), "");
		bl_live_load_solved(l, &rq, key, out, err);
	}
	bl_live_calib_unref(calib);
	return err->status;
}

static enum bl_status solve_now(struct bl_live *l, struct bl_solve_request *rq, const struct bl_calib *calib, struct bl_solved **out, struct bl_err *err)
{
	for (;;) {
		if (!bl_live_engine(l, 0, err))
			return err->status;
		rq->tokens = bl_calib_tokens(calib);
		if (bl_calib_hessian(calib, rq->unit, &rq->h, err) || !bl_solve_unit(out, &l->engine, rq, err) || !bl_live_failed(l, 1, err))
			return err->status;
		bl_err_clear(err); /* with less memory taken by weights */
	}
}

enum bl_status bl_live_solved_unit(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, const atomic_int *cancel, struct bl_solved **out, struct bl_err *err)
{
	struct bl_live_calib *calib = bl_live_get_calib(l);
	struct bl_solve_request rq = bl_live_request(l->s, unit, c, zero);
	struct bl_err unsaved = BL_ERR_INIT;
	char key[65], chain[65];

	rq.cancel = cancel;
	put_chain(l, &rq, c, chain);
	if (!calib || (!bl_calib_has_hessians(calib->c) && !rq.chain)) {
		no_calibration(l->s, unit, c, err);
		goto done;
	}
	bl_solved_key(key, &rq, bl_calib_key_of(calib->c), "");
	if (!bl_live_load_solved(l, &rq, key, out, err))
		goto done;
	if (rq.chain) {
		bl_err_prefix(err, "%s is solved after the blocks before it (`bitlathe quantize` does it)", l->s->model->units[unit].name);
		goto done;
	}
	bl_err_clear(err); /* not there, or damaged: solved (again) */
	if (solve_now(l, &rq, calib->c, out, err))
		goto done;
	if (bl_live_save_solved(l, *out, key, &unsaved))
		bl_log(BL_LOG_WARN, "a solved unit is not kept: %s", unsaved.text);
done:
	bl_live_calib_unref(calib);
	return err->status;
}

/* ---- the job ---- */

struct quantize_job { struct bl_session *s; struct bl_plan *plan; uint8_t *of; int n; struct bl_live_plan *propagate; };

/* Units of the plan whose inputs are the quantized model's. */
static enum bl_status propagate(struct quantize_job *q, struct bl_job *j, struct bl_err *err)
{
	struct bl_live *l = q->s->priv->live;
	struct bl_live_calib *calib = bl_live_get_calib(l);

	if (calib)
		bl_live_propagate(l, j, q->propagate, q->of, calib, err);
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
	char (*key)[65];
	int *unit;       /* [n]: left to solve */
	bool *there;     /* [n_units] */
	size_t n;
	atomic_int done;
};

static struct bl_solve_request request_of(const struct queue *k, int unit)
{
	return bl_live_request(k->l->s, unit, bl_plan_choice(k->q->plan, unit), bl_plan_zero_nonfinite(k->q->plan));
}

static bool is_queued(const struct queue *k, int unit)
{
	return k->q->of[unit] && !bl_live_inputs(k->l, bl_plan_choice(k->q->plan, unit)).quantized;
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
	return bl_calib_hessian(k->calib->c, rq->unit, &rq->h, err);
}

static enum bl_status keep(void *ctx, size_t i, const struct bl_solved *s, struct bl_err *err)
{
	struct queue *k = ctx;

	(void)i;
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

	if (q->propagate && propagate(q, j, err))
		goto done;
	for (int i = 0; i < n; i++)
		queued += is_queued(&k, i);
	if (!queued)
		goto done;
	if (!k.calib || !bl_calib_has_hessians(k.calib->c)) {
		for (int i = 0; i < n && !err->status; i++)
			if (is_queued(&k, i))
				no_calibration(l->s, i, bl_plan_choice(q->plan, i), err);
		goto done;
	}
	k.key = bl_xalloc((size_t)n, sizeof *k.key);
	k.unit = bl_xalloc((size_t)n, sizeof *k.unit);
	k.there = bl_xalloc((size_t)n, sizeof *k.there);
	if (!bl_pool_run(l->s->pool, (size_t)n, check_stored, &k, bl_job_cancel_flag(j), err))
		solve_queue(&k, err);
done:
	bl_live_calib_unref(k.calib);
	bl_free(k.key);
	bl_free(k.unit);
	bl_free(k.there);
	return err->status;
}

static enum bl_status quantize_run(struct bl_job *j, void *ctx, struct bl_err *err) { return solve_all(ctx, j, err); }

static void quantize_drop(void *ctx)
{
	struct quantize_job *q = ctx;

	bl_live_plan_unref(q->propagate);
	bl_plan_free(q->plan);
	bl_free(q->of);
	bl_free(q);
}

static const struct bl_choice *choice_at(const void *plan, int unit) { return bl_plan_choice(plan, unit); }

/* What is to be solved of a plan, which stays the caller's. */
static void choose(struct quantize_job *q, struct bl_session *s, struct bl_plan *p, const uint8_t *selected)
{
	bool ordered = false;

	*q = (struct quantize_job){.s = s, .plan = p, .of = bl_xalloc((size_t)s->model->n_units + 1, 1)};
	for (int i = 0; i < s->model->n_units; i++) {
		q->of[i] = (!selected || selected[i]) && bl_session_choice_whole(s, bl_plan_choice(p, i));
		q->n += q->of[i];
		ordered |= q->of[i] && bl_live_inputs(s->priv->live, bl_plan_choice(p, i)).quantized;
	}
	if (ordered)
		q->propagate = bl_live_plan_new(s->model->n_units, choice_at, p, bl_plan_zero_nonfinite(p));
}

uint64_t bl_session_quantize(struct bl_session *s, const uint8_t *selected)
{
	static const struct bl_job_ops ops = {.name = "quantize", .lane = BL_LANE_MAIN, .run = quantize_run, .drop = quantize_drop};
	struct quantize_job *q = bl_xalloc(1, sizeof *q);

	bl_live_publish(s);
	choose(q, s, bl_plan_copy(s->plan), selected);
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
	struct bl_live_calib *calib = bl_live_get_calib(l);
	struct quantize_job q;

	choose(&q, l->s, (struct bl_plan *)(uintptr_t)p, NULL);
	if (q.n)
		solve_all(&q, j, err);
	for (int i = 0; i < n && !err->status; i++) {
		struct bl_solve_request rq = bl_live_request(l->s, i, bl_plan_choice(p, i), bl_plan_zero_nonfinite(p));
		char key[65], chain[65];

		if (!q.of[i])
			continue;
		if (bl_live_inputs(l, bl_plan_choice(p, i)).quantized) {
			bl_live_chain(chain, l, q.propagate, l->s->model->units[i].block);
			rq.chain = chain;
		}
		bl_solved_key(key, &rq, bl_calib_key_of(calib->c), "");
		bl_live_load_solved(l, &rq, key, &all[i], err);
	}
	bl_live_plan_unref(q.propagate);
	bl_live_calib_unref(calib);
	bl_free(q.of);
	return all;
}

void bl_live_solved_plan_free(struct bl_solved **all, int n)
{
	for (int i = 0; i < n; i++)
		bl_solved_free(all[i]);
	bl_free(all);
}

struct loading { struct bl_session *s; struct bl_solved **all; };

static enum bl_status load_one(void *ctx, size_t i, struct bl_err *err)
{
	struct loading *k = ctx;
	const struct bl_choice *c = bl_plan_choice(k->s->plan, (int)i);

	if (bl_session_choice_whole(k->s, c))
		bl_live_stored_unit(k->s->priv->live, (int)i, c, bl_plan_zero_nonfinite(k->s->plan), &k->all[i], err);
	return err->status;
}

struct bl_solved **bl_session_solved(struct bl_session *s, struct bl_err *err)
{
	struct loading k = {s, bl_xalloc((size_t)s->model->n_units + 1, sizeof *k.all)};

	bl_live_publish(s);
	if (!bl_pool_run(s->pool, (size_t)s->model->n_units, load_one, &k, NULL, err))
		return k.all;
	bl_live_solved_plan_free(k.all, s->model->n_units);
	return NULL;
}

void bl_session_solved_free(struct bl_session *s, struct bl_solved **all)
{
	if (all)
		bl_live_solved_plan_free(all, s->model->n_units);
}

bool bl_session_solved_look(struct bl_session *s, int unit, double *rel, double *seconds, char *report, size_t cap)
{
	struct bl_err none = BL_ERR_INIT;
	struct bl_solved *u = NULL;

	if (bl_live_stored_unit(s->priv->live, unit, bl_plan_choice(s->plan, unit), bl_plan_zero_nonfinite(s->plan), &u, &none))
		return false;
	*rel = u->rel;
	*seconds = u->seconds;
	snprintf(report, cap, "%s", u->report);
	bl_solved_free(u);
	return true;
}
