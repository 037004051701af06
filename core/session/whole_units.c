/* SPDX-License-Identifier: Apache-2.0
 * Units whose method sees them whole (GPTQ and its kin): solved on the main lane from the calibration's Hessians, kept in the cache by what they depend on. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/live.h"
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
		bl_solved_load(out, &rq, l->cache_dir, key, err);
	}
	bl_live_calib_unref(calib);
	return err->status;
}

static enum bl_status solve_now(struct bl_live *l, struct bl_solve_request *rq, const struct bl_calib *calib, struct bl_solved **out, struct bl_err *err)
{
	for (;;) {
		if (!bl_live_forward(l, 0, err))
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
	if (!bl_solved_load(out, &rq, l->cache_dir, key, err))
		goto done;
	if (rq.chain) {
		bl_err_prefix(err, "%s is solved after the blocks before it (`bitlathe quantize` does it)", l->s->model->units[unit].name);
		goto done;
	}
	bl_err_clear(err); /* not there, or damaged: solved (again) */
	if (solve_now(l, &rq, calib->c, out, err))
		goto done;
	if (*(*out)->report)
		bl_log(BL_LOG_WARN, "%s", (*out)->report);
	if (bl_solved_save(*out, l->cache_dir, key, &unsaved))
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

static enum bl_status quantize_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct quantize_job *q = ctx;
	int done = 0;

	if (q->propagate && propagate(q, j, err))
		return err->status;
	for (int i = 0; i < bl_plan_n_units(q->plan) && !err->status; i++) {
		struct bl_solved *u = NULL;

		if (!q->of[i])
			continue;
		if (bl_job_checkpoint(j))
			return bl_fail(err, BL_CANCELLED, "cancelled");
		bl_live_solved_unit(q->s->priv->live, i, bl_plan_choice(q->plan, i), bl_plan_zero_nonfinite(q->plan), bl_job_cancel_flag(j), &u, err);
		bl_solved_free(u);
		bl_job_progress(j, "solve", ++done, q->n, "units");
	}
	return err->status;
}

static void quantize_drop(void *ctx)
{
	struct quantize_job *q = ctx;

	bl_live_plan_unref(q->propagate);
	bl_plan_free(q->plan);
	bl_free(q->of);
	bl_free(q);
}

uint64_t bl_session_quantize(struct bl_session *s, const uint8_t *selected)
{
	static const struct bl_job_ops ops = {.name = "quantize", .lane = BL_LANE_MAIN, .run = quantize_run, .drop = quantize_drop};
	struct quantize_job *q = bl_xalloc(1, sizeof *q);

	bool ordered = false;

	q->s = s;
	q->plan = bl_plan_copy(s->plan);
	q->of = bl_xalloc((size_t)s->model->n_units + 1, 1);
	for (int i = 0; i < s->model->n_units; i++) {
		q->of[i] = (!selected || selected[i]) && bl_session_choice_whole(s, bl_plan_choice(s->plan, i));
		q->n += q->of[i];
		ordered |= q->of[i] && bl_live_inputs(s->priv->live, bl_plan_choice(s->plan, i)).quantized;
	}
	bl_live_publish(s);
	if (ordered)
		q->propagate = bl_live_plan_ref(s->priv->live->plan);
	if (q->n)
		return bl_jobs_add(s->jobs, &ops, q, "quantize");
	quantize_drop(q);
	return 0;
}

/* ---- for the export ---- */

struct bl_solved **bl_live_solved_plan(struct bl_live *l, const struct bl_plan *p, struct bl_job *j, struct bl_err *err)
{
	const int n = bl_plan_n_units(p);
	struct bl_solved **all = bl_xalloc((size_t)n + 1, sizeof *all);

	for (int i = 0; i < n && !err->status; i++) {
		if (!bl_session_choice_whole(l->s, bl_plan_choice(p, i)))
			continue;
		bl_job_progress(j, "solve", i, n, "units");
		bl_live_solved_unit(l, i, bl_plan_choice(p, i), bl_plan_zero_nonfinite(p), bl_job_cancel_flag(j), &all[i], err);
	}
	return all;
}

void bl_live_solved_plan_free(struct bl_solved **all, int n)
{
	for (int i = 0; i < n; i++)
		bl_solved_free(all[i]);
	bl_free(all);
}

struct bl_solved **bl_session_solved(struct bl_session *s, struct bl_err *err)
{
	struct bl_solved **all = bl_xalloc((size_t)s->model->n_units + 1, sizeof *all);

	for (int i = 0; i < s->model->n_units && !err->status; i++)
		if (bl_session_choice_whole(s, bl_plan_choice(s->plan, i)))
			bl_live_stored_unit(s->priv->live, i, bl_plan_choice(s->plan, i), bl_plan_zero_nonfinite(s->plan), &all[i], err);
	if (!err->status)
		return all;
	bl_live_solved_plan_free(all, s->model->n_units);
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
