/* SPDX-License-Identifier: Apache-2.0
 * What is known of the plan, in one place: performance and score from the effect and the evaluation, and snapshots that carry all of it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/session/live.h"

static void quality(struct bl_session *s, struct bl_plan_estimate *e, struct bl_effect *effect, bool want)
{
	bool stale = false;
	const struct bl_eval_result *r = bl_session_evaluation(s, &stale);
	struct bl_quality q = {.kl = BL_QUANTITY_UNKNOWN("nat")};

	*e = *bl_session_estimate(s);
	(want ? bl_session_effect : bl_session_effect_known)(s, effect);
	if (effect->kl.origin == BL_UNKNOWN && r && r->has_kl && r->has_plan) { /* without a calibration: what was evaluated */
		effect->kl = (struct bl_quantity){.value = r->kl.mean, .spread = r->kl.stderr_, .origin = BL_MEASURED, .unit = "nat", .from = "evaluated"};
		effect->top1 = (struct bl_quantity){.value = r->kl.top1, .origin = BL_MEASURED, .unit = "share", .from = "evaluated"};
		effect->stale = stale;
		effect->age_s = bl_wall_s() > r->wall_s ? (double)(bl_wall_s() - r->wall_s) : 0;
	}
	q.kl = effect->kl;
	if (r && !stale && r->has_mcq && r->has_plan) {
		q.has_mcq = true;
		q.base_acc = r->base_mcq.acc;
		q.plan_acc = r->plan_mcq.acc;
		q.flips = r->plan_mcq.flips;
		q.n = r->plan_mcq.n;
	}
	if (e->perf_ratio.origin == BL_UNKNOWN)
		bl_estimate_quality(e, &q);
}

void bl_session_quality(struct bl_session *s, struct bl_plan_estimate *e, struct bl_effect *effect)
{
	quality(s, e, effect, true);
}

void bl_session_quality_known(struct bl_session *s, struct bl_plan_estimate *e, struct bl_effect *effect)
{
	quality(s, e, effect, false);
}

/* ---- from snapshots ---- */

#define SEEDED 100 /* newest snapshots that are looked at */

static const struct bl_choice *of_snapshot(const void *snapshot, int unit)
{
	return bl_snapshot_choice(snapshot, unit);
}

/* Oldest of the newest first, so that newer numbers win. */
static int first_seed(const struct bl_session *s)
{
	int n = bl_plan_n_snapshots(s->plan);

	return (n < SEEDED ? n : SEEDED) - 1;
}

static void seed_one(struct bl_session *s, const struct bl_snapshot *snap, struct bl_results *to)
{
	const struct bl_snapshot_results *r = snap->results;
	struct bl_live_plan *p = bl_live_plan_new(s->model->n_units, of_snapshot, snap, bl_snapshot_zero_nonfinite(snap));
	char key[65];

	bl_results_plan_key(key, p);
	bl_results_lend(to, key, (const double[3]){r->kl, r->top1, 0}, r->wall_s);
	for (int i = 0; i < p->n && i < r->n; i++) {
		if (!p->hash[i] || !isfinite(r->error[i]) || bl_live_trained(s->priv->live, &p->choice[i]))
			continue;
		bl_results_error_key(key, &s->model->units[i], &p->choice[i], p->zero_nonfinite);
		bl_results_lend(to, key, (const double[3]){r->error[i], p->choice[i].scheme.act != BL_ACT_NONE, 0}, r->wall_s);
	}
	bl_live_plan_unref(p);
}

void bl_live_seed(struct bl_session *s)
{
	struct bl_live_calib *c = bl_live_get_calib(s->priv->live);

	for (int i = first_seed(s); c && i >= 0; i--) {
		const struct bl_snapshot *snap = bl_plan_snapshot(s->plan, i);
		if (snap->results && !strcmp(snap->results->calib, bl_calib_key_of(c->c)))
			seed_one(s, snap, c->results);
	}
	bl_live_calib_unref(c);
}

void bl_live_seed_evals(struct bl_session *s)
{
	s->priv->live->evals_seeded = true;
	for (int i = first_seed(s); i >= 0; i--) {
		const struct bl_snapshot *snap = bl_plan_snapshot(s->plan, i);
		const struct bl_snapshot_results *r = snap->results;
		if (!r || !(isfinite(r->ppl) || isfinite(r->mcq) || isfinite(r->eval_kl)))
			continue;
		struct bl_eval_result e = {.has_plan = true, .wall_s = r->wall_s, .has_ppl = isfinite(r->ppl), .has_mcq = isfinite(r->mcq), .has_kl = isfinite(r->eval_kl)};
		struct bl_live_plan *p = bl_live_plan_new(s->model->n_units, of_snapshot, snap, bl_snapshot_zero_nonfinite(snap));
		e.plan_ppl.value = r->ppl;
		e.base_ppl.value = r->base_ppl;
		e.plan_mcq = (struct bl_eval_mcq){.acc = r->mcq, .n = r->mcq_n};
		e.base_mcq = (struct bl_eval_mcq){.acc = r->base_mcq, .n = r->mcq_n};
		e.kl.mean = r->eval_kl;
		snprintf(e.protocol, sizeof e.protocol, "as snapshot %s keeps it", snap->name);
		bl_live_eval_add(s->priv->live, &e, p->digest);
		bl_live_plan_unref(p);
	}
}

/* ---- into a snapshot ---- */

static double known(const struct bl_quantity *q)
{
	return q->origin == BL_UNKNOWN ? NAN : q->value;
}

/* Errors that are there already; asking for the others would begin work that nobody looks at. */
static void errors(struct bl_session *s, const struct bl_live_calib *c, struct bl_snapshot_results *r)
{
	bool zero = bl_plan_zero_nonfinite(s->plan);

	for (int i = 0; i < r->n; i++) {
		const struct bl_choice *choice = bl_plan_choice(s->plan, i);
		char key[65];
		double v[3];

		if (choice->scheme.number == BL_NUM_FULL)
			continue;
		char chain[65];
		bl_results_error_key(key, &s->model->units[i], choice, zero);
		if (bl_live_chain_of(s->priv->live, i, choice, chain))
			bl_results_chain_key(key, chain);
		if (bl_results_get(c->results, key, v, NULL))
			r->error[i] = v[0];
	}
}

enum bl_status bl_session_snapshot(struct bl_session *s, const char *name, const char *note, struct bl_err *err)
{
	struct bl_snapshot_results *r = bl_snapshot_results_new(s->model->n_units);
	struct bl_live_calib *c = bl_live_get_calib(s->priv->live);
	struct bl_plan_estimate e;
	struct bl_effect effect;
	bool stale = false;
	const struct bl_eval_result *ev;

	bl_session_quality_known(s, &e, &effect);
	r->bytes = (double)e.bytes;
	r->time_ratio = known(&e.time_ratio);
	r->wall_s = bl_wall_s();
	if (effect.kl.origin == BL_MEASURED && !effect.stale) { /* of exactly this plan */
		r->kl = effect.kl.value;
		r->top1 = known(&effect.top1);
		r->score = known(&e.score);
	}
	ev = bl_session_evaluation(s, &stale);
	if (ev && !stale && ev->has_plan) {
		r->ppl = ev->has_ppl ? ev->plan_ppl.value : NAN;
		r->base_ppl = ev->has_ppl ? ev->base_ppl.value : NAN;
		r->mcq = ev->has_mcq ? ev->plan_mcq.acc : NAN;
		r->base_mcq = ev->has_mcq ? ev->base_mcq.acc : NAN;
		r->mcq_n = ev->has_mcq ? ev->plan_mcq.n : 0;
		r->eval_kl = ev->has_kl ? ev->kl.mean : NAN;
		r->score = known(&e.score);
	}
	if (c) {
		memcpy(r->calib, bl_calib_key_of(c->c), sizeof r->calib);
		errors(s, c, r);
	}
	bl_live_calib_unref(c);
	return bl_plan_snapshot_save_with(s->plan, name, note, r, err);
}
