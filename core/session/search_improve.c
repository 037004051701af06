/* SPDX-License-Identifier: Apache-2.0
 * From sums to the model: sums of losses ignore that units act on each other, so whole plans are measured: what the sums say is best, what people do by hand, and then
 * one exchange after the other, the most promising first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/session/search_private.h"

struct best { int *at; double kl, top1, value; };

/* Smaller is better; infinite: outside of what was asked for. */
static double value_of(const struct bl_search_run *k, const int *at, double kl)
{
	double score;

	if (k->rq.budget != BL_BUDGET_SCORE)
		return bl_search_cost(k, at) <= bl_search_limit(k) ? kl : INFINITY;
	score = bl_search_score(k, bl_search_step_ms(k, at), kl);
	if (k->rq.value <= 0)
		return -score;
	return score >= k->rq.value ? kl : INFINITY;
}

static struct bl_search_trial *trial(struct bl_search_run *k, const int *at, double kl)
{
	struct bl_search_result *r = k->out;

	bl_xgrow(&r->trial, &k->cap_trials, (size_t)r->n_trials + 1);
	struct bl_search_trial *t = &r->trial[r->n_trials++];
	*t = (struct bl_search_trial){.kl = kl, .bytes = bl_search_bytes(k, at), .step_ms = bl_search_step_ms(k, at)};
	return t;
}

/* Measured; taken when it is better. *kept may be NULL. */
static enum bl_status try_plan(struct bl_search_run *k, struct best *b, const int *at, const char *what, bool *kept, struct bl_err *err)
{
	double kl, top1, value;

	if (bl_search_measure(k, at, &kl, &top1, err))
		return err->status;
	value = value_of(k, at, kl);
	struct bl_search_trial *t = trial(k, at, kl);
	snprintf(t->what, sizeof t->what, "%s", what);
	t->kept = value < b->value;
	if (kept)
		*kept = t->kept;
	if (t->kept) {
		memcpy(b->at, at, (size_t)k->n * sizeof *at);
		b->kl = kl;
		b->top1 = top1;
		b->value = value;
	}
	return BL_OK;
}

/* ---- rules of thumb ---- */

/* The option of a unit that is the same choice as option `of` of unit `from`; -1: the unit does not have it. */
static int same_option(const struct bl_search_run *k, int unit, const struct bl_choice *c)
{
	for (int i = 0; i < k->unit[unit].n; i++) {
		const struct bl_choice *o = &k->unit[unit].o[i].c;
		if (bl_scheme_equal(&o->scheme, &c->scheme) && !strcmp(o->method, c->method) && !strcmp(o->params, c->params))
			return i;
	}
	return -1;
}

static bool uniform(const struct bl_search_run *k, const struct bl_choice *c, int *at)
{
	bool any = false;

	for (int i = 0; i < k->n; i++) {
		int o = same_option(k, i, c);
		any |= o >= 0;
		at[i] = o < 0 ? 0 : o; /* locked, or without a kernel */
	}
	return any;
}

/* Block number `turn` of an order from the ends inwards: 0 both, 1 from the front, 2 from the back. */
static int nth_block(int order, int turn, int blocks)
{
	if (order == 1)
		return turn;
	if (order == 2)
		return blocks - 1 - turn;
	return turn % 2 ? blocks - 1 - turn / 2 : turn / 2;
}

/* Everything in `low`, then block after block in `high` as long as the budget lasts; units of the last block one by one. */
static int from_the_ends(const struct bl_search_run *k, const struct bl_choice *low, const struct bl_choice *high, int order, int *at)
{
	const struct bl_model *m = k->s->model;
	int blocks = (int)m->config.layers, raised = 0;

	if (!uniform(k, low, at) || bl_search_cost(k, at) > bl_search_limit(k))
		return 0;
	for (int turn = 0; turn < blocks; turn++)
		for (int i = 0; i < k->n; i++) {
			int was = at[i], o = same_option(k, i, high);
			if (m->units[i].block != nth_block(order, turn, blocks) || o < 0)
				continue;
			at[i] = o;
			if (bl_search_cost(k, at) <= bl_search_limit(k))
				raised++;
			else
				at[i] = was;
		}
	return raised;
}

static enum bl_status rules_of_thumb(struct bl_search_run *k, struct best *b, struct bl_err *err)
{
	static const char *const names[] = {"both ends", "the first blocks", "the last blocks"};
	const struct bl_search_unit *widest = &k->unit[0];
	int *at = bl_xalloc((size_t)k->n + 1, sizeof *at), *low_at = bl_xalloc((size_t)k->n + 1, sizeof *at);
	const struct bl_choice *low = NULL;
	uint64_t dearest = 0;

	for (int i = 1; i < k->n; i++)
		widest = k->unit[i].n > widest->n ? &k->unit[i] : widest;
	for (int i = 0; i < widest->n; i++) /* the dearest format that all of it fits in */
		if (uniform(k, &widest->o[i].c, low_at) && bl_search_cost(k, low_at) <= bl_search_limit(k) && bl_search_cost(k, low_at) >= dearest) {
			low = &widest->o[i].c;
			dearest = bl_search_cost(k, low_at);
		}
	for (int i = 0; low && i < widest->n && !err->status; i++) {
		const struct bl_choice *high = &widest->o[i].c;
		char a[BL_SCHEME_NAME_MAX], z[BL_SCHEME_NAME_MAX], what[96];
		if (!uniform(k, high, at) || bl_search_cost(k, at) <= dearest)
			continue;
		for (int order = 0; order < 3 && !err->status; order++) {
			if (!from_the_ends(k, low, high, order, at))
				continue;
			snprintf(what, sizeof what, "%s in %s, the rest in %s", names[order], bl_scheme_name(a, &high->scheme), bl_scheme_name(z, &low->scheme));
			try_plan(k, b, at, what, NULL, err);
		}
	}
	bl_free(at);
	bl_free(low_at);
	return err->status;
}

/* ---- exchanges ---- */

struct move { int unit[2], to[2]; double value; }; /* unit[1] -1: one unit alone */

static int by_value(const void *a, const void *b)
{
	const struct move *x = a, *y = b;

	return x->value < y->value ? -1 : x->value > y->value;
}

/* Sums move by what the units lose alone, scaled to what the plan really loses. */
static void add_move(struct bl_search_run *k, const struct best *b, int *at, struct move *best, int *n, int cap, struct move m, double scale)
{
	int was[2] = {at[m.unit[0]], m.unit[1] < 0 ? 0 : at[m.unit[1]]};
	double change = k->unit[m.unit[0]].o[m.to[0]].loss - k->unit[m.unit[0]].o[was[0]].loss;

	at[m.unit[0]] = m.to[0];
	if (m.unit[1] >= 0) {
		change += k->unit[m.unit[1]].o[m.to[1]].loss - k->unit[m.unit[1]].o[was[1]].loss;
		at[m.unit[1]] = m.to[1];
	}
	m.value = value_of(k, at, fmax(b->kl + scale * change, 0));
	at[m.unit[0]] = was[0];
	if (m.unit[1] >= 0)
		at[m.unit[1]] = was[1];
	if (!isfinite(m.value) || (*n == cap && m.value >= best[cap - 1].value))
		return;
	best[*n < cap ? (*n)++ : cap - 1] = m;
	qsort(best, (size_t)*n, sizeof *best, by_value);
}

static int moves(struct bl_search_run *k, const struct best *b, int *at, struct move *best, int cap)
{
	double sum = bl_search_loss(k, at), scale = sum > 0 && b->kl > 0 ? fmin(fmax(b->kl / sum, 0.25), 4) : 1;
	int n = 0;

	for (int i = 0; i < k->n; i++)
		for (int o = 0; o < k->unit[i].n; o++) {
			if (o == at[i])
				continue;
			add_move(k, b, at, best, &n, cap, (struct move){{i, -1}, {o, 0}, 0}, scale);
			for (int j = i + 1; j < k->n; j++)
				for (int q = 0; q < k->unit[j].n; q++)
					if (q != at[j])
						add_move(k, b, at, best, &n, cap, (struct move){{i, j}, {o, q}, 0}, scale);
		}
	return n;
}

static void say_move(const struct bl_search_run *k, const struct move *m, char what[96])
{
	char name[BL_SCHEME_NAME_MAX];
	size_t n = 0;

	for (int i = 0; i < 2 && m->unit[i] >= 0; i++) {
		const struct bl_unit *u = &k->s->model->units[m->unit[i]];
		n += (size_t)snprintf(what + n, 96 - n, "%s%d.%s to %s", i ? ", " : "", u->block, bl_unit_kind_name(u->kind),
				      bl_scheme_name(name, &k->unit[m->unit[i]].o[m->to[i]].c.scheme));
		n = n < 95 ? n : 95;
	}
}

static uint64_t hash_of(const struct bl_search_run *k, const int *at)
{
	return bl_hash64(at, (size_t)k->n * sizeof *at);
}

#define PROMISING 256

static enum bl_status exchange(struct bl_search_run *k, struct best *b, struct bl_err *err)
{
	struct move *m = bl_xalloc(PROMISING, sizeof *m);
	uint64_t *tried = bl_xalloc((size_t)k->rq.trials + 1, sizeof *tried);
	int *at = bl_xalloc((size_t)k->n + 1, sizeof *at), n_tried = 0;

	while (n_tried < k->rq.trials && !err->status) {
		bool kept = false;
		memcpy(at, b->at, (size_t)k->n * sizeof *at);
		int n = moves(k, b, at, m, PROMISING), fresh = 0;
		for (int i = 0; i < n && !kept && n_tried < k->rq.trials && !err->status; i++) {
			char what[96];
			bool seen = false;
			memcpy(at, b->at, (size_t)k->n * sizeof *at);
			for (int q = 0; q < 2 && m[i].unit[q] >= 0; q++)
				at[m[i].unit[q]] = m[i].to[q];
			for (int q = 0; q < n_tried; q++)
				seen |= tried[q] == hash_of(k, at);
			if (seen)
				continue;
			fresh++;
			tried[n_tried++] = hash_of(k, at);
			say_move(k, &m[i], what);
			bl_job_progress(k->job, "exchanges", n_tried, k->rq.trials, "plans");
			try_plan(k, b, at, what, &kept, err);
		}
		if (!kept && !fresh)
			break;
		if (!kept)
			break; /* the promising ones were tried, none helped */
	}
	bl_free(m);
	bl_free(tried);
	bl_free(at);
	return err->status;
}

enum bl_status bl_search_improve(struct bl_search_run *k, int *at, struct bl_err *err)
{
	struct best b = {bl_xalloc((size_t)k->n + 1, sizeof *b.at), NAN, NAN, INFINITY};

	bl_job_progress(k->job, "whole plans", 0, 1, "plans");
	if (!try_plan(k, &b, at, "the least sum", NULL, err) && k->rq.budget != BL_BUDGET_SCORE)
		rules_of_thumb(k, &b, err);
	if (!err->status && isfinite(b.value))
		exchange(k, &b, err);
	if (!err->status && isfinite(b.value)) {
		memcpy(at, b.at, (size_t)k->n * sizeof *at);
		k->out->kl = b.kl;
		k->out->top1 = b.top1;
	}
	bl_free(b.at);
	return err->status;
}
