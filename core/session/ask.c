/* SPDX-License-Identifier: Apache-2.0
 * What the screen asks about errors and effects: tables of requests that the live job fills, numbers that were known before, the plan as it is. */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/search.h"

#define DEBOUNCE_NS      150000000ull /* after an edit, before the whole plan is measured */
#define DEBOUNCE_CUDA_NS 40000000ull  /* where that takes a moment only: longer than between two repeats of a held key */

/* ---- shared values ---- */

struct bl_live_calib *bl_live_calib_ref(struct bl_live_calib *c)
{
	if (c)
		atomic_fetch_add(&c->refs, 1);
	return c;
}

void bl_live_calib_unref(struct bl_live_calib *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) > 1)
		return;
	bl_results_free(c->results);
	bl_calib_free(c->c);
	bl_free(c);
}

struct bl_live_plan *bl_live_plan_ref(struct bl_live_plan *p)
{
	if (p)
		atomic_fetch_add(&p->refs, 1);
	return p;
}

void bl_live_plan_unref(struct bl_live_plan *p)
{
	if (!p || atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	for (int i = 0; i < p->n; i++) {
		bl_free(p->choice[i].params);
		bl_free(p->choice[i].stages);
	}
	bl_free(p->choice);
	bl_free(p->hash);
	bl_free(p);
}

/* Of the choices alone: neither target nor locks nor config edits change what the model computes. */
static void digest_of(struct bl_live_plan *p)
{
	char scheme[BL_SCHEME_NAME_MAX];
	struct bl_sha256 h;

	bl_sha256_init(&h);
	for (int i = 0; i < p->n; i++) {
		const struct bl_choice *c = &p->choice[i];
		if (!p->hash[i])
			continue;
		bl_sha256_add(&h, &i, sizeof i);
		bl_scheme_name(scheme, &c->scheme);
		bl_sha256_add(&h, scheme, strlen(scheme) + 1);
		bl_sha256_add(&h, c->method, strlen(c->method) + 1);
		bl_sha256_add(&h, c->params, strlen(c->params) + 1);
		if (*bl_choice_stages(c))
			bl_sha256_add(&h, bl_choice_stages(c), strlen(bl_choice_stages(c)) + 1);
	}
	bl_sha256_add(&h, &p->zero_nonfinite, sizeof p->zero_nonfinite);
	bl_sha256_hex(&h, p->digest);
}

struct bl_live_plan *bl_live_plan_new(int n, const struct bl_choice *(*at)(const void *from, int unit), const void *from, bool zero)
{
	struct bl_live_plan *p = bl_xalloc(1, sizeof *p);

	p->refs = 1;
	p->n = n;
	p->zero_nonfinite = zero;
	p->choice = bl_xalloc((size_t)p->n + 1, sizeof *p->choice);
	p->hash = bl_xalloc((size_t)p->n + 1, sizeof *p->hash);
	for (int i = 0; i < p->n; i++) {
		p->choice[i] = *at(from, i);
		p->choice[i].params = bl_xstrdup(p->choice[i].params);
		p->choice[i].stages = bl_xstrdup(bl_choice_stages(&p->choice[i]));
		p->hash[i] = bl_live_choice_hash(&p->choice[i], p->zero_nonfinite);
	}
	digest_of(p);
	return p;
}

static const struct bl_choice *of_plan(const void *plan, int unit)
{
	return bl_plan_choice(plan, unit);
}

void bl_live_publish(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;
	struct bl_live_plan *old = l->plan; /* only this thread replaces it */

	if (old && old->revision == bl_plan_revision(s->plan))
		return;
	struct bl_live_plan *p = bl_live_plan_new(bl_plan_n_units(s->plan), of_plan, s->plan, bl_plan_zero_nonfinite(s->plan));
	p->revision = bl_plan_revision(s->plan);
	for (int i = 0; i < p->n; i++) /* trained: what it computes depends on all of the plan */
		if (bl_live_trained(l, &p->choice[i]))
			p->hash[i] ^= bl_hash64(p->digest, 64) & ~(uint64_t)1;
	pthread_mutex_lock(&l->lock);
	l->plan = p;
	if (!old || strcmp(old->digest, p->digest) != 0) {
		l->effect_wanted = false; /* asked for again when the screen shows it */
		l->effect_due_ns = bl_now_ns() + (l->view.cuda ? DEBOUNCE_CUDA_NS : DEBOUNCE_NS);
	}
	pthread_mutex_unlock(&l->lock);
	bl_live_plan_unref(old);
}

struct bl_live_calib *bl_live_get_calib(struct bl_live *l)
{
	pthread_mutex_lock(&l->lock);
	struct bl_live_calib *c = bl_live_calib_ref(l->calib);
	pthread_mutex_unlock(&l->lock);
	return c;
}

/* ---- requests ---- */

static void free_request(struct bl_live_request *r)
{
	bl_live_calib_unref(r->calib);
	bl_free(r->choice.params);
	bl_free(r->choice.stages);
	bl_free(r);
}

/* Those of a calibration that is not in use any more. */
static void purge(struct bl_live *l)
{
	for (int i = 0; i < BL_LIVE_BUCKETS; i++)
		for (struct bl_live_request **at = &l->buckets[i]; *at;) {
			struct bl_live_request *r = *at;
			if (r->calib == l->calib_shown || atomic_load(&r->state) == BL_KNOWN_COMPUTING) {
				at = &r->next_hash;
				continue;
			}
			*at = r->next_hash;
			free_request(r);
		}
}

/* The calibration as the screen sees it. */
static struct bl_live_calib *shown(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;
	struct bl_live_calib *now = bl_live_get_calib(l);

	if (now == l->calib_shown) {
		bl_live_calib_unref(now);
	} else {
		struct bl_live_calib *old = l->calib_shown;
		l->calib_shown = now;
		purge(l);
		bl_live_calib_unref(old);
		bl_live_seed(s);
	}
	return l->calib_shown;
}

const struct bl_calib *bl_session_calib(const struct bl_session *s)
{
	const struct bl_live_calib *c = shown((struct bl_session *)(uintptr_t)s);

	return c ? c->c : NULL;
}

static struct bl_live_request *find(struct bl_session *s, enum bl_live_kind kind, int unit, const struct bl_choice *c, bool make)
{
	struct bl_live *l = s->priv->live;
	bool zero = bl_plan_zero_nonfinite(s->plan);
	char chain[65];
	bool chained = bl_live_chain_of(l, unit, c, chain);
	uint64_t hash = bl_live_choice_hash(c, zero) ^ (chained ? bl_hash64(chain, 64) & ~(uint64_t)1 : 0), bucket = (hash + (uint64_t)unit * 2 + (uint64_t)kind) % BL_LIVE_BUCKETS;
	struct bl_live_request *r = l->buckets[bucket];

	while (r && !(r->kind == kind && r->unit == unit && r->hash == hash && r->calib == l->calib_shown && bl_scheme_equal(&r->choice.scheme, &c->scheme) &&
		      !strcmp(r->choice.method, c->method) && !strcmp(r->choice.params, c->params) &&
		      !strcmp(bl_choice_stages(&r->choice), bl_choice_stages(c))))
		r = r->next_hash;
	if (r || !make)
		return r;
	r = bl_xalloc(1, sizeof *r);
	r->kind = kind;
	r->unit = unit;
	r->choice = *c;
	r->choice.params = bl_xstrdup(c->params);
	r->choice.stages = bl_xstrdup(bl_choice_stages(c));
	r->zero_nonfinite = zero;
	r->hash = hash;
	r->calib = bl_live_calib_ref(l->calib_shown);
	(kind == BL_LIVE_ERROR ? bl_results_error_key : bl_results_unit_kl_key)(r->key, &s->model->units[unit], c, zero);
	if (chained)
		bl_results_chain_key(r->key, chain);
	r->next_hash = l->buckets[bucket];
	l->buckets[bucket] = r;
	double v[3];
	if (bl_results_get(r->calib->results, r->key, v, NULL)) { /* of an earlier run, or of a snapshot */
		r->value = v[0];
		r->extra = v[1];
		r->with_activations = v[1] > 0;
		atomic_store(&r->state, BL_KNOWN_YES);
	}
	return r;
}

static enum bl_known ask(struct bl_session *s, struct bl_live_request *r)
{
	struct bl_live *l = s->priv->live;
	enum bl_known known = (enum bl_known)atomic_load(&r->state);

	if (known != BL_KNOWN_NO)
		return known;
	atomic_store(&r->state, BL_KNOWN_COMPUTING);
	pthread_mutex_lock(&l->lock);
	bl_xgrow(&l->queue, &l->cap_queue, l->n_queue + 1);
	l->queue[l->n_queue++] = r;
	pthread_mutex_unlock(&l->lock);
	bl_live_wake(s);
	return BL_KNOWN_COMPUTING;
}

enum bl_known bl_session_layer_error(struct bl_session *s, int unit, const struct bl_choice *c, struct bl_layer_error *out, char why[160])
{
	if (!shown(s) || c->scheme.number == BL_NUM_FULL)
		return BL_KNOWN_NO;
	struct bl_live_request *r = find(s, BL_LIVE_ERROR, unit, c, true);
	enum bl_known known = ask(s, r);
	if (known == BL_KNOWN_YES)
		*out = (struct bl_layer_error){r->value, r->with_activations};
	if (known == BL_KNOWN_REFUSED || known == BL_KNOWN_UNSOLVED)
		memcpy(why, r->why, sizeof r->why);
	return known;
}

bool bl_session_layer_error_known(struct bl_session *s, int unit, const struct bl_choice *c, struct bl_layer_error *out)
{
	if (!shown(s) || c->scheme.number == BL_NUM_FULL)
		return false;
	struct bl_live_request *r = find(s, BL_LIVE_ERROR, unit, c, true);
	bool known = atomic_load(&r->state) == BL_KNOWN_YES;
	if (known)
		*out = (struct bl_layer_error){r->value, r->with_activations};
	return known;
}

void bl_session_want_errors(struct bl_session *s, int first_unit, int last_unit)
{
	struct bl_live *l = s->priv->live;

	atomic_store(&l->want_first, first_unit < last_unit ? first_unit : last_unit);
	atomic_store(&l->want_last, first_unit < last_unit ? last_unit : first_unit);
}

/* ---- effects ---- */

static const char kl_from[] = "measured on the kept windows of the calibration", sum_from[] = "sum of what the units do alone";

struct bl_quantity bl_session_unit_kl(struct bl_session *s, int unit, const struct bl_choice *c, bool want)
{
	struct bl_quantity q = BL_QUANTITY_UNKNOWN("nat");

	if (!shown(s) || c->scheme.number == BL_NUM_FULL || bl_calib_kept_windows(s->priv->live->calib_shown->c) < 1)
		return q;
	struct bl_live_request *r = find(s, BL_LIVE_UNIT_KL, unit, c, true);
	enum bl_known known = want ? ask(s, r) : (enum bl_known)atomic_load(&r->state);
	if (known == BL_KNOWN_YES)
		q = (struct bl_quantity){.value = r->value, .origin = BL_MEASURED, .unit = "nat", .from = kl_from};
	return q;
}

bool bl_session_unit_kl_computing(struct bl_session *s, int unit, const struct bl_choice *c)
{
	if (!shown(s) || c->scheme.number == BL_NUM_FULL)
		return false;
	const struct bl_live_request *r = find(s, BL_LIVE_UNIT_KL, unit, c, false);
	return r && atomic_load(&r->state) == BL_KNOWN_COMPUTING;
}

static bool plain(const struct bl_live_plan *p)
{
	for (int i = 0; i < p->n; i++)
		if (p->hash[i])
			return false;
	return true;
}

static void model_effect(struct bl_session *s, struct bl_effect *out)
{
	double sum = 0;

	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(s->plan, i);
		if (c->scheme.number == BL_NUM_FULL)
			continue;
		struct bl_quantity q = bl_session_unit_kl(s, i, c, false);
		if (q.origin != BL_MEASURED)
			return;
		sum += q.value;
	}
	out->kl = (struct bl_quantity){.value = sum, .spread = sum / 2, .origin = BL_MODELLED, .unit = "nat", .from = sum_from};
}

static void measured(struct bl_effect *out, double kl, double top1)
{
	out->kl = (struct bl_quantity){.value = kl, .origin = BL_MEASURED, .unit = "nat", .from = kl_from};
	out->top1 = (struct bl_quantity){.value = top1, .origin = BL_MEASURED, .unit = "share", .from = kl_from};
}

/* Asks for the plan's own number; true when it is on its way. */
static bool want_effect(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;

	pthread_mutex_lock(&l->lock);
	bool can = strcmp(l->effect_failed, l->plan->digest) != 0;
	l->effect_wanted = can;
	pthread_mutex_unlock(&l->lock);
	if (can)
		bl_live_wake(s);
	return can;
}

static void look(struct bl_session *s, struct bl_effect *out, bool want)
{
	struct bl_live *l = s->priv->live;
	const struct bl_live_calib *c = shown(s);
	double v[3];
	int64_t wall;
	char key[65];

	*out = (struct bl_effect){.kl = BL_QUANTITY_UNKNOWN("nat"), .top1 = BL_QUANTITY_UNKNOWN("share")};
	if (!c || bl_calib_kept_windows(c->c) < 1)
		return;
	bl_live_publish(s);
	if (l->last_calib != c)
		l->last_digest[0] = '\0';
	l->last_calib = c;
	if (plain(l->plan)) {
		measured(out, 0, 1);
		return;
	}
	bl_results_plan_key(key, l->plan);
	if (bl_results_get(c->results, key, v, &wall)) {
		measured(out, v[0], v[1]);
		out->age_s = bl_wall_s() > wall ? (double)(bl_wall_s() - wall) : 0;
		memcpy(l->last_digest, l->plan->digest, sizeof l->last_digest);
		l->last = *out;
		l->last_wall_s = wall;
		return;
	}
	if (l->last_digest[0]) {
		*out = l->last;
		out->age_s = bl_wall_s() > l->last_wall_s ? (double)(bl_wall_s() - l->last_wall_s) : 0;
		out->stale = true;
	} else {
		model_effect(s, out);
	}
	out->computing = want && want_effect(s);
}

void bl_session_effect(struct bl_session *s, struct bl_effect *out)
{
	look(s, out, true);
}

void bl_session_effect_known(struct bl_session *s, struct bl_effect *out)
{
	look(s, out, false);
}

/* ---- life ---- */

void bl_live_open(struct bl_session *s, const struct bl_session_options *o)
{
	struct bl_live *l = bl_xalloc(1, sizeof *l);

	s->priv->live = l;
	l->s = s;
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->use_lock, NULL);
	pthread_mutex_init(&l->backend_lock, NULL);
	pthread_mutex_init(&l->fold_lock, NULL);
	pthread_mutex_init(&l->fold_build, NULL);
	pthread_cond_init(&l->watch_change, NULL);
	l->program_dir = o->program_dir ? bl_xstrdup(o->program_dir) : NULL;
	l->cache_dir = o->cache_dir ? bl_xstrdup(o->cache_dir) : bl_xdg_dir("CACHE");
	l->memory_limit = o->memory_limit;
	l->inputs = bl_xalloc((size_t)s->model->n_units + 1, sizeof *l->inputs);
	atomic_store(&l->want_last, -1);
	bl_session_set_device(s, o->device ? o->device : "auto", &(struct bl_err){0});
	if (!l->device)
		bl_session_set_device(s, "auto", &(struct bl_err){0});
}

void bl_live_close(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;

	if (!l)
		return;
	bl_live_device_close(l);
	bl_live_weights_free(l);
	bl_live_calib_unref(l->calib_shown);
	bl_live_calib_unref(l->calib);
	l->calib_shown = NULL;
	for (int i = 0; i < BL_LIVE_BUCKETS; i++)
		while (l->buckets[i]) {
			struct bl_live_request *r = l->buckets[i];
			l->buckets[i] = r->next_hash;
			free_request(r);
		}
	bl_live_plan_unref(l->plan);
	bl_live_tick(s);
	for (int i = 0; i < s->model->n_units; i++)
		bl_live_input_free(atomic_load(&l->inputs[i]));
	bl_live_data_unref(l->data);
	bl_live_evals_free(l);
	bl_live_tryouts_free(l);
	bl_live_pictures_free(l);
	bl_search_result_free(l->search_next);
	bl_search_result_free(l->search);
	bl_free(l->inputs);
	bl_free(l->old_inputs);
	bl_free(l->queue);
	bl_free(l->device);
	bl_free(l->trusted);
	bl_free(l->program_dir);
	bl_free(l->cache_dir);
	pthread_cond_destroy(&l->watch_change);
	bl_live_folds_free(l);
	pthread_mutex_destroy(&l->backend_lock);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->use_lock);
	bl_free(l);
	s->priv->live = NULL;
}

void bl_live_ask_again(struct bl_live *l)
{
	pthread_mutex_lock(&l->lock);
	l->effect_failed[0] = '\0';
	pthread_mutex_unlock(&l->lock);
	for (int i = 0; i < BL_LIVE_BUCKETS; i++)
		for (struct bl_live_request *r = l->buckets[i]; r; r = r->next_hash)
			if (atomic_load(&r->state) >= BL_KNOWN_REFUSED)
				atomic_store(&r->state, BL_KNOWN_NO);
	bl_live_pictures_ask_again(l);
}

/* What the screen was given before is not on it any more. */
void bl_live_tick(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;

	if (atomic_exchange(&l->solved_more, false))
		bl_live_ask_again(l);
	pthread_mutex_lock(&l->lock);
	struct bl_input_stats **old = l->old_inputs;
	size_t n = l->n_old;
	l->old_inputs = NULL;
	l->n_old = l->cap_old = 0;
	pthread_mutex_unlock(&l->lock);
	for (size_t i = 0; i < n; i++)
		bl_live_input_free(old[i]);
	bl_free(old);
}
