/* SPDX-License-Identifier: Apache-2.0
 * What is known of the plan, in one place: performance and score from the effect and the evaluation, and snapshots that carry all of it. */
#include <math.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/session/live.h"

void bl_session_quality(struct bl_session *s, struct bl_plan_estimate *e, struct bl_effect *effect)
{
	bool stale = false;
	const struct bl_eval_result *r = bl_session_evaluation(s, &stale);
	struct bl_quality q = {.kl = BL_QUANTITY_UNKNOWN("nat")};

	*e = *bl_session_estimate(s);
	bl_session_effect(s, effect);
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
		bl_results_error_key(key, &s->model->units[i], choice, zero);
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

	bl_session_quality(s, &e, &effect);
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
