/* SPDX-License-Identifier: Apache-2.0
 * The live job: what the screen asked for, one piece at a time, most urgent first, on the main lane whenever no other job wants it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/live.h"

#define GROUP_MAX 8
#define NAP_NS    5000000

struct live_job { struct bl_session *s; bool emptied; };

enum turn { TURN_NONE, TURN_ERRORS, TURN_EFFECT, TURN_UNIT, TURN_WAIT };
struct work { enum turn turn; struct bl_live_request *r[GROUP_MAX]; size_t n; struct bl_live_plan *plan; struct bl_live_calib *calib; };

/* ---- choosing ---- */

static void take(struct bl_live *l, size_t i, struct work *w)
{
	w->r[w->n++] = l->queue[i];
	memmove(&l->queue[i], &l->queue[i + 1], (l->n_queue - i - 1) * sizeof *l->queue);
	l->n_queue--;
}

/* Newest request of a kind; visible ones win. n_queue: none. */
static size_t newest(const struct bl_live *l, enum bl_live_kind kind)
{
	int first = atomic_load(&l->want_first), last = atomic_load(&l->want_last);
	size_t found = l->n_queue;

	for (size_t i = l->n_queue; i-- > 0;) {
		if (l->queue[i]->kind != kind)
			continue;
		if (l->queue[i]->unit >= first && l->queue[i]->unit <= last)
			return i;
		if (found == l->n_queue)
			found = i;
	}
	return found;
}

/* Requests that one run of a block serves. */
static void take_group(struct bl_live *l, size_t i, struct work *w)
{
	const struct bl_model *m = l->s->model;

	take(l, i, w);
	const struct bl_live_request *r = w->r[0];
	for (size_t j = l->n_queue; r->choice.scheme.act != BL_ACT_NONE && j-- > 0 && w->n < GROUP_MAX;) {
		const struct bl_live_request *o = l->queue[j];
		if (o->kind == BL_LIVE_ERROR && o->calib == r->calib && o->choice.scheme.act != BL_ACT_NONE && m->units[o->unit].block == m->units[r->unit].block &&
		    !strcmp(bl_choice_stages(&o->choice), bl_choice_stages(&r->choice)))
			take(l, j, w);
	}
}

static void choose(struct bl_live *l, struct live_job *e, struct work *w)
{
	pthread_mutex_lock(&l->lock);
	size_t i = newest(l, BL_LIVE_ERROR), unit = newest(l, BL_LIVE_UNIT_KL);
	if (i < l->n_queue) {
		w->turn = TURN_ERRORS;
		take_group(l, i, w);
	} else if (l->effect_wanted && l->plan && l->calib) {
		w->turn = bl_now_ns() < l->effect_due_ns ? TURN_WAIT : TURN_EFFECT;
		if (w->turn == TURN_EFFECT) {
			w->plan = bl_live_plan_ref(l->plan);
			w->calib = bl_live_calib_ref(l->calib);
			l->effect_running = true;
		}
	} else if (unit < l->n_queue) {
		w->turn = TURN_UNIT;
		take(l, unit, w);
	} else {
		l->effect_wanted = l->effect_running = false;
		l->running = false;
		e->emptied = true;
	}
	pthread_mutex_unlock(&l->lock);
}

/* ---- doing ---- */

static void settle(const struct bl_live *l, struct bl_live_request *r, const struct bl_err *err)
{
	bool unsolved = err->status == BL_NOT_FOUND && bl_session_choice_whole(l->s, &r->choice);

	if (err->status == BL_OK) {
		double v[3] = {r->value, r->kind == BL_LIVE_ERROR ? r->with_activations : r->extra, 0};
		bl_results_put(r->calib->results, r->key, v, bl_wall_s());
	} else {
		bl_printable(r->why, sizeof r->why, err->text);
	}
	atomic_store(&r->state, err->status == BL_OK ? BL_KNOWN_YES : err->status == BL_CANCELLED ? BL_KNOWN_NO : unsolved ? BL_KNOWN_UNSOLVED : BL_KNOWN_REFUSED);
}

static int64_t longest(const struct bl_live_calib *c)
{
	return bl_calib_window(c->c);
}

static enum bl_status errors_of(struct bl_live_turn *t, struct bl_live_request **r, size_t n, struct bl_err *err)
{
	do {
		bl_err_clear(err);
		bl_live_errors(t, r, n, err);
	} while (err->status && bl_live_failed(t->l, longest(t->calib), err));
	return err->status;
}

/* One bad request does not spoil the others of its group. */
static void do_errors(struct bl_live_turn *t, struct work *w)
{
	struct bl_err err = BL_ERR_INIT;

	t->calib = w->r[0]->calib;
	errors_of(t, w->r, w->n, &err);
	bool alone = w->n > 1 && err.status && err.status != BL_CANCELLED && err.status != BL_NO_DEVICE;
	for (size_t i = 0; i < w->n; i++) {
		if (alone)
			errors_of(t, &w->r[i], 1, &err);
		settle(t->l, w->r[i], &err);
	}
}

static void put_back(struct bl_live *l, struct bl_live_request *r)
{
	pthread_mutex_lock(&l->lock);
	bl_xgrow(&l->queue, &l->cap_queue, l->n_queue + 1);
	l->queue[l->n_queue++] = r;
	pthread_mutex_unlock(&l->lock);
}

static void do_unit(struct bl_live_turn *t, struct work *w)
{
	struct bl_live_request *r = w->r[0];
	struct bl_err err = BL_ERR_INIT;

	t->calib = r->calib;
	do {
		bl_err_clear(&err);
		bl_live_unit_effect(t, r, &r->value, &r->extra, &err);
	} while (err.status && bl_live_failed(t->l, longest(r->calib), &err));
	if (err.status == BL_CANCELLED && !atomic_load(bl_job_cancel_flag(t->job)))
		put_back(t->l, r); /* something else comes first */
	else
		settle(t->l, r, &err);
}

static void do_effect(struct bl_live_turn *t, struct work *w)
{
	struct bl_live *l = t->l;
	struct bl_err err = BL_ERR_INIT;
	char key[65];
	double v[3] = {0};

	t->calib = w->calib;
	do {
		bl_err_clear(&err);
		bl_live_plan_effect(t, w->plan, &v[0], &v[1], &err);
	} while (err.status && bl_live_failed(l, longest(w->calib), &err));
	if (!err.status) {
		bl_results_plan_key(key, w->plan);
		bl_results_put(w->calib->results, key, v, bl_wall_s());
	} else if (err.status != BL_CANCELLED) {
		bl_log(BL_LOG_ERROR, "the plan's effect could not be measured: %s", err.text);
	}
	pthread_mutex_lock(&l->lock);
	l->effect_running = false;
	if (err.status && err.status != BL_CANCELLED)
		memcpy(l->effect_failed, w->plan->digest, sizeof l->effect_failed);
	if (err.status != BL_CANCELLED && !strcmp(l->plan->digest, w->plan->digest))
		l->effect_wanted = false;
	pthread_mutex_unlock(&l->lock);
	bl_live_plan_unref(w->plan);
	bl_live_calib_unref(w->calib);
}

static const struct bl_job_ops live_ops;

/* Somebody else has the lane next; this goes on afterwards. */
static void hand_over(struct bl_session *s)
{
	struct live_job *e = bl_xalloc(1, sizeof *e);

	e->s = s;
	atomic_store(&s->priv->live->job, bl_jobs_add(s->jobs, &live_ops, e, NULL));
}

static enum bl_status live_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct live_job *e = ctx;
	struct bl_live *l = e->s->priv->live;
	struct bl_live_turn t = {.job = j, .l = l};

	bl_live_relax(l);
	for (;;) {
		struct work w = {.turn = TURN_NONE};
		if (atomic_load(bl_job_cancel_flag(j)))
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		if (bl_job_wanted(j)) {
			e->emptied = true; /* nothing is lost: the next one has the queue */
			hand_over(e->s);
			return BL_OK;
		}
		choose(l, e, &w);
		if (w.turn == TURN_NONE)
			break;
		if (w.turn == TURN_WAIT)
			nanosleep(&(struct timespec){0, NAP_NS}, NULL);
		else if (w.turn == TURN_ERRORS)
			do_errors(&t, &w);
		else if (w.turn == TURN_EFFECT)
			do_effect(&t, &w);
		else
			do_unit(&t, &w);
		if (w.turn != TURN_WAIT)
			bl_jobs_wake(e->s->jobs);
	}
	struct bl_live_calib *c = bl_live_get_calib(l);
	if (c)
		bl_results_save(c->results);
	bl_live_calib_unref(c);
	return BL_OK;
}

/* Also for a job that never ran: what it leaves in the queue is forgotten, or nobody would ever compute it. */
static void live_drop(void *ctx)
{
	struct live_job *e = ctx;
	struct bl_live *l = e->s->priv->live;

	pthread_mutex_lock(&l->lock);
	if (!e->emptied) {
		while (l->n_queue)
			atomic_store(&l->queue[--l->n_queue]->state, BL_KNOWN_NO);
		l->running = l->effect_wanted = l->effect_running = false;
	}
	pthread_mutex_unlock(&l->lock);
	bl_free(e);
}

static const struct bl_job_ops live_ops = {.name = "live numbers", .lane = BL_LANE_MAIN, .run = live_run, .drop = live_drop, .quiet = true};

void bl_live_wake(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;

	pthread_mutex_lock(&l->lock);
	bool start = !l->running && (l->n_queue || l->effect_wanted);
	l->running |= start;
	pthread_mutex_unlock(&l->lock);
	if (start)
		hand_over(s);
}

/* ---- waiting, for the command line ---- */

void bl_session_wait_live(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;
	struct bl_effect effect;

	bl_session_effect(s, &effect); /* asks for it */
	for (;;) {
		struct bl_err ignored = BL_ERR_INIT;
		pthread_mutex_lock(&l->lock);
		bool running = l->running;
		l->effect_due_ns = 0;
		pthread_mutex_unlock(&l->lock);
		if (!running)
			return;
		bl_jobs_wait(s->jobs, atomic_load(&l->job), &ignored);
	}
}
