/* SPDX-License-Identifier: Apache-2.0
 * Units whose method sees them whole (GPTQ and its kin): solved on the main lane from the calibration's Hessians, kept in the cache by what they depend on. */
#include <limits.h>
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

struct bl_solve_request bl_live_request(const struct bl_session *s, const struct bl_fold *f, int unit, const struct bl_choice *c, bool zero)
{
	return (struct bl_solve_request){.registry = &s->registry, .model = f ? bl_fold_model(f) : s->model, .unit = unit, .scheme = c->scheme, .method = c->method,
					 .params = c->params ? c->params : "", .zero_nonfinite = zero};
}

enum bl_status bl_live_no_calibration(const struct bl_session *s, int unit, const struct bl_choice *c, struct bl_err *err)
{
	return bl_fail(err, BL_INVALID, "%s: %s needs a calibration with Hessians: calibrate first (c, or `bitlathe calibrate MODEL --data FILE`)", s->model->units[unit].name,
		       c->method);
}

bool bl_session_choice_trained(const struct bl_session *s, const struct bl_choice *c)
{
	const struct bl_method *m = c->scheme.number == BL_NUM_FULL ? NULL : bl_registry_method(&s->registry, c->method);

	return m && bl_method_trains(&s->registry, m);
}

bool bl_live_trained(const struct bl_live *l, const struct bl_choice *c) { return bl_session_choice_trained(l->s, c); }

/* A unit whose codes depend on what is chosen for others: its inputs are the quantized model's, or all are trained together. */
static bool chained(const struct bl_live *l, int unit, const struct bl_choice *c) { return bl_live_inputs(l, unit, c).quantized || bl_live_trained(l, c); }

bool bl_live_chain_of(struct bl_live *l, int unit, const struct bl_choice *c, char chain[65])
{
	struct bl_live_plan *p;

	if (!chained(l, unit, c))
		return false;
	pthread_mutex_lock(&l->lock);
	p = l->plan ? bl_live_plan_ref(l->plan) : NULL;
	pthread_mutex_unlock(&l->lock);
	if (!p)
		return false;
	bl_live_chain(chain, l, p, bl_live_trained(l, c) ? INT_MAX : l->s->model->units[unit].block);
	bl_live_plan_unref(p);
	return true;
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

/* The key of a unit under what its moments come from: data that went by, else the calibration in use. False when there is neither. */
bool bl_live_solved_key(struct bl_live *l, const struct bl_solve_request *rq, char key[65])
{
	struct bl_live_calib *calib = bl_live_get_calib(l);
	char source[65] = "";

	pthread_mutex_lock(&l->lock);
	snprintf(source, sizeof source, "%s", l->direct_key);
	pthread_mutex_unlock(&l->lock);
	if (!source[0] && calib && (bl_calib_has_hessians(calib->c) || rq->chain))
		snprintf(source, sizeof source, "%s", bl_calib_key_of(calib->c));
	bl_live_calib_unref(calib);
	if (source[0])
		bl_solved_key(key, rq, source, "");
	return source[0] != '\0';
}

enum bl_status bl_live_stored_unit(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, struct bl_solved **out, struct bl_err *err)
{
	struct bl_fold *f = NULL;
	char key[65], chain[65];

	if (bl_live_fold(l, c, &f, err))
		return err->status;
	struct bl_solve_request rq = bl_live_request(l->s, f, unit, c, zero);
	rq.chain = bl_live_chain_of(l, unit, c, chain) ? chain : NULL;
	if (!bl_live_solved_key(l, &rq, key))
		bl_live_no_calibration(l->s, unit, c, err);
	else
		bl_live_load_solved(l, &rq, key, out, err);
	bl_fold_unref(f);
	return err->status;
}

static enum bl_status solve_now(struct bl_live *l, struct bl_solve_request *rq, const struct bl_fold *f, const struct bl_calib *calib, struct bl_solved **out, struct bl_err *err)
{
	float *own = NULL;

	for (;;) {
		if (!bl_live_engine(l, 0, err))
			break;
		rq->tokens = bl_calib_tokens(calib);
		if (!own && (f ? bl_fold_hessian(f, calib, rq->unit, &rq->h, &own, err) : bl_calib_hessian(calib, rq->unit, &rq->h, err)))
			break;
		if (!bl_solve_unit(out, &l->engine, rq, err) || !bl_live_failed(l, 1, err))
			break;
		bl_err_clear(err); /* with less memory taken by weights */
	}
	bl_free(own);
	return err->status;
}

enum bl_status bl_live_solved_unit(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, const atomic_int *cancel, struct bl_solved **out, struct bl_err *err)
{
	struct bl_live_calib *calib = bl_live_get_calib(l);
	struct bl_err unsaved = BL_ERR_INIT;
	struct bl_fold *f = NULL;
	char key[65], chain[65];

	if (bl_live_fold(l, c, &f, err))
		goto done;
	struct bl_solve_request rq = bl_live_request(l->s, f, unit, c, zero);
	rq.cancel = cancel;
	rq.chain = bl_live_chain_of(l, unit, c, chain) ? chain : NULL;
	if (!bl_live_solved_key(l, &rq, key)) {
		bl_live_no_calibration(l->s, unit, c, err);
		goto done;
	}
	if (!bl_live_load_solved(l, &rq, key, out, err))
		goto done;
	if (rq.chain || bl_live_streamed(l, unit, c)) {
		bl_err_prefix(err, "%s is solved together with others, or while the data go through the model (r or `bitlathe quantize` does it)", l->s->model->units[unit].name);
		goto done;
	}
	bl_err_clear(err); /* not there, or damaged: solved (again) */
	if (!calib || !bl_calib_has_hessians(calib->c))
		bl_live_no_calibration(l->s, unit, c, err);
	else if (!solve_now(l, &rq, f, calib->c, out, err) && bl_live_save_solved(l, *out, key, &unsaved))
		bl_log(BL_LOG_WARN, "a solved unit is not kept: %s", unsaved.text);
done:
	bl_fold_unref(f);
	bl_live_calib_unref(calib);
	return err->status;
}

/* ---- of a plan ---- */

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
	struct bl_fold *f = NULL;

	bl_live_publish(s);
	if (s->model->n_units) /* made before the pool asks for it */
		bl_live_fold(s->priv->live, bl_plan_choice(s->plan, 0), &f, err);
	bl_fold_unref(f);
	if (!err->status && !bl_pool_run(s->pool, (size_t)s->model->n_units, load_one, &k, NULL, err))
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
