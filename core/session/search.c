/* SPDX-License-Identifier: Apache-2.0
 * The search as a job: units and options are laid out on the screen's thread, losses are measured on the main lane (and kept in the cache of the calibration, so a
 * search that was stopped goes on), then the knapsack and what follows it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/plan/knapsack.h"
#include "core/session/search_private.h"

/* ---- sums ---- */

uint64_t bl_search_bytes(const struct bl_search_run *k, const int *at)
{
	uint64_t sum = k->rest_bytes;

	for (int i = 0; i < k->n; i++)
		sum += k->unit[i].o[at[i]].bytes;
	return sum;
}

static uint64_t step_ns(const struct bl_search_run *k, const int *at)
{
	uint64_t sum = k->rest_ns;

	for (int i = 0; i < k->n; i++)
		sum += k->unit[i].o[at[i]].ns;
	return sum;
}

double bl_search_step_ms(const struct bl_search_run *k, const int *at)
{
	return (double)step_ns(k, at) / 1e6;
}

uint64_t bl_search_cost(const struct bl_search_run *k, const int *at)
{
	return k->rq.budget == BL_BUDGET_BYTES ? bl_search_bytes(k, at) : step_ns(k, at);
}

uint64_t bl_search_limit(const struct bl_search_run *k)
{
	if (k->rq.budget == BL_BUDGET_SCORE)
		return UINT64_MAX;
	if (k->rq.budget == BL_BUDGET_BYTES)
		return (uint64_t)k->rq.value;
	return (uint64_t)(k->rq.value * 1e6) + (uint64_t)k->n; /* times of units are rounded to nanoseconds */
}

double bl_search_loss(const struct bl_search_run *k, const int *at)
{
	double sum = 0;

	for (int i = 0; i < k->n; i++)
		sum += k->unit[i].o[at[i]].loss;
	return sum;
}

double bl_search_score(const struct bl_search_run *k, double step_ms, double kl)
{
	struct bl_plan_estimate e = k->full;
	struct bl_quality q = {.kl = {kl, 0, BL_MEASURED, "nat", "search"}};

	e.time_ratio = (struct bl_quantity){step_ms / k->full.step_ms.value, 0, BL_MODELLED, "ratio", ""};
	bl_estimate_quality(&e, &q);
	return e.score.value;
}

/* ---- measuring ---- */

static bool measurable(const struct bl_search_run *k)
{
	return bl_calib_kept_windows(k->turn.calib->c) > 0;
}

/* One number of one unit alone, from the cache or measured now. */
static enum bl_status number(struct bl_search_run *k, int unit, const struct bl_choice *c, enum bl_live_kind kind, double *out, struct bl_err *err)
{
	struct bl_live_request r = {.kind = kind, .unit = unit, .choice = *c, .zero_nonfinite = k->zero_nonfinite, .calib = k->turn.calib,
				    .hash = bl_live_choice_hash(c, k->zero_nonfinite)};
	struct bl_live_request *one = &r;
	const struct bl_unit *u = &k->s->model->units[unit];
	double v[3] = {0};
	char key[65];

	(kind == BL_LIVE_UNIT_KL ? bl_results_unit_kl_key : bl_results_error_key)(key, u, c, k->zero_nonfinite);
	if (!bl_results_get(k->turn.calib->results, key, v, NULL)) {
		do {
			bl_err_clear(err);
			if (kind == BL_LIVE_UNIT_KL)
				bl_live_unit_effect(&k->turn, &r, &r.value, &r.extra, err);
			else
				bl_live_errors(&k->turn, &one, 1, err);
		} while (err->status && bl_live_failed(k->turn.l, bl_calib_window(k->turn.calib->c), err));
		if (err->status)
			return err->status;
		v[0] = r.value;
		v[1] = kind == BL_LIVE_UNIT_KL ? r.extra : r.with_activations;
		bl_results_put(k->turn.calib->results, key, v, bl_wall_s());
		k->made += kind == BL_LIVE_UNIT_KL || !measurable(k);
	}
	*out = v[0];
	return BL_OK;
}

/* What a unit loses alone; *usable false: the option cannot be solved there. */
static enum bl_status unit_loss(struct bl_search_run *k, int unit, struct bl_search_option *o, bool *usable, struct bl_err *err)
{
	o->loss = o->rel = 0;
	*usable = true;
	if (!bl_live_choice_hash(&o->c, k->zero_nonfinite))
		return BL_OK; /* as it is on disk */
	if (bl_calib_has_hessians(k->turn.calib->c) || !measurable(k))
		number(k, unit, &o->c, BL_LIVE_ERROR, &o->rel, err);
	else
		o->rel = NAN;
	o->loss = o->rel;
	if (!err->status && measurable(k))
		number(k, unit, &o->c, BL_LIVE_UNIT_KL, &o->loss, err);
	*usable = err->status != BL_UNSUPPORTED && err->status != BL_INVALID && isfinite(o->loss);
	if (!*usable)
		bl_err_clear(err);
	return err->status;
}

/* Any change at all, however small, makes activations round to other bfloat16 neighbours: a divergence that is the same for every option, that does not add up over
 * units, and that would make full precision look better than it is. It is what is left when a line through the finest and the coarsest option (divergence over layer
 * error) comes to no error at all. */
static void take_floor(struct bl_search_unit *u)
{
	const struct bl_search_option *fine = NULL, *coarse = NULL;
	double floor_;

	for (int i = 0; i < u->n; i++) {
		const struct bl_search_option *o = &u->o[i];
		if (o->c.scheme.number == BL_NUM_FULL || !(o->rel > 0))
			continue;
		fine = !fine || o->rel < fine->rel ? o : fine;
		coarse = !coarse || o->rel > coarse->rel ? o : coarse;
	}
	if (!fine || !(coarse->rel > 2 * fine->rel)) /* too near to each other for a line */
		return;
	floor_ = (fine->loss * coarse->rel - coarse->loss * fine->rel) / (coarse->rel - fine->rel);
	floor_ = floor_ < 0 ? 0 : floor_ > 0.99 * fine->loss ? 0.99 * fine->loss : floor_;
	for (int i = 0; i < u->n; i++)
		if (u->o[i].c.scheme.number != BL_NUM_FULL)
			u->o[i].loss = u->o[i].loss > floor_ ? u->o[i].loss - floor_ : 0;
}

static const struct bl_choice *of_array(const void *from, int unit)
{
	return &((const struct bl_choice *)from)[unit];
}

enum bl_status bl_search_measure(struct bl_search_run *k, const int *at, double *kl, double *top1, struct bl_err *err)
{
	struct bl_choice *c = bl_xalloc((size_t)k->n + 1, sizeof *c);
	double v[3] = {0};
	char key[65];

	for (int i = 0; i < k->n; i++)
		c[i] = k->unit[i].o[at[i]].c;
	struct bl_live_plan *p = bl_live_plan_new(k->n, of_array, c, k->zero_nonfinite);
	bl_results_plan_key(key, p);
	if (!bl_results_get(k->turn.calib->results, key, v, NULL)) {
		do {
			bl_err_clear(err);
			bl_live_plan_effect(&k->turn, p, &v[0], &v[1], err);
		} while (err->status && bl_live_failed(k->turn.l, bl_calib_window(k->turn.calib->c), err));
		if (!err->status)
			bl_results_put(k->turn.calib->results, key, v, bl_wall_s());
	}
	*kl = v[0];
	*top1 = v[1];
	bl_live_plan_unref(p);
	bl_free(c);
	return err->status;
}

static enum bl_status sensitivities(struct bl_search_run *k, struct bl_err *err)
{
	int total = 0, done = 0;

	for (int i = 0; i < k->n; i++)
		total += k->unit[i].n;
	for (int i = k->n; i-- > 0 && !err->status;) { /* late blocks first: theirs are the quickest, and their states serve the others */
		struct bl_search_unit *u = &k->unit[i];
		for (int o = 0; o < u->n && !err->status; o++, done++) {
			bool usable;
			bl_job_progress(k->job, measurable(k) ? "units alone" : "layer errors", done, total, "runs");
			if (bl_job_checkpoint(k->job))
				return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
			if (unit_loss(k, i, &u->o[o], &usable, err))
				break;
			if (usable || u->n == 1)
				continue;
			memmove(&u->o[o], &u->o[o + 1], (size_t)(u->n - o - 1) * sizeof u->o[0]);
			u->n--;
			o--;
		}
		if (!err->status && measurable(k))
			take_floor(u);
	}
	return err->status;
}

/* ---- the least sum ---- */

static int choose_point(const struct bl_search_run *k, const struct bl_knapsack *f)
{
	int best = -1;
	double most = -INFINITY;

	if (k->rq.budget != BL_BUDGET_SCORE) {
		uint64_t rest = k->rq.budget == BL_BUDGET_BYTES ? k->rest_bytes : k->rest_ns;
		return bl_search_limit(k) < rest ? -1 : bl_knapsack_within(f, bl_search_limit(k) - rest);
	}
	for (int i = 0; i < bl_knapsack_n(f); i++) {
		struct bl_knapsack_option p = bl_knapsack_at(f, i);
		double score = bl_search_score(k, (double)(p.cost + k->rest_ns) / 1e6, p.loss);
		if (k->rq.value > 0 ? score >= k->rq.value : score > most) { /* points come with falling loss: the last that is good enough */
			best = i;
			most = score;
		}
	}
	return best;
}

static enum bl_status least_sum(struct bl_search_run *k, int *at, struct bl_err *err)
{
	struct bl_knapsack_option *o = bl_xalloc((size_t)k->n * (BL_SEARCH_OPTIONS + 1) + 1, sizeof *o);
	int *n_options = bl_xalloc((size_t)k->n + 1, sizeof *n_options), n = 0, point;
	struct bl_knapsack *f = NULL;

	for (int i = 0; i < k->n; i++) {
		n_options[i] = k->unit[i].n;
		for (int j = 0; j < k->unit[i].n; j++)
			o[n++] = (struct bl_knapsack_option){k->rq.budget == BL_BUDGET_BYTES ? k->unit[i].o[j].bytes : k->unit[i].o[j].ns, k->unit[i].o[j].loss};
	}
	bl_job_progress(k->job, "least sum", 0, 1, "plans");
	if (!bl_knapsack_solve(&f, o, n_options, k->n, 0, err)) {
		point = choose_point(k, f);
		if (point < 0 && k->rq.budget == BL_BUDGET_SCORE)
			bl_fail(err, BL_INVALID, "no plan of these options reaches a score of %.3f by what its units lose alone: ask for the best one", k->rq.value);
		else if (point < 0)
			bl_fail(err, BL_INVALID, "the smallest plan of these options costs more than the budget: a larger one, or more options");
		else
			bl_knapsack_choice(f, point, at);
		k->out->exact = bl_knapsack_exact(f);
		k->out->grain = bl_knapsack_grain(f);
		k->out->points = bl_knapsack_n(f);
	}
	bl_knapsack_free(f);
	bl_free(n_options);
	bl_free(o);
	return err->status;
}

/* ---- the result ---- */

static void say_speed(const struct bl_search_run *k, const int *at, char *to, size_t cap)
{
	const struct bl_gpu *g = &k->target->gpu;
	size_t n = (size_t)snprintf(to, cap, "row %s of the speed model: %.0f GB/s x %.3f, %.0f us a step, %.1f us to quantize inputs; %s", g->title, g->bw_gb_s, g->bw_share,
				    g->step_us, g->quant_us, g->fit);

	for (int i = 0; i < k->n; i++) { /* each format once, with the kernel that the server takes for it */
		const struct bl_scheme *s = &k->unit[i].o[at[i]].c.scheme;
		char name[BL_SCHEME_NAME_MAX];
		struct bl_verdict v;
		int units = 0;
		bool seen = false;
		for (int j = 0; j < k->n; j++) {
			bool same = bl_scheme_equal(s, &k->unit[j].o[at[j]].c.scheme);
			seen |= same && j < i;
			units += same;
		}
		if (seen || n >= cap)
			continue;
		bl_target_check_unit(&v, k->target, k->s->model, i, s);
		n += (size_t)snprintf(to + n, cap - n, "; %s: %d units, %s", bl_scheme_name(name, s), units, v.kernel && *v.kernel ? v.kernel : "plain product");
	}
}

static void finish(struct bl_search_run *k, const int *at)
{
	struct bl_search_result *r = k->out;

	r->n = k->n;
	r->choice = bl_xalloc((size_t)k->n + 1, sizeof *r->choice);
	r->loss = bl_xalloc((size_t)k->n + 1, sizeof *r->loss);
	for (int i = 0; i < k->n; i++) {
		const struct bl_search_option *o = &k->unit[i].o[at[i]];
		r->choice[i] = o->c;
		r->choice[i].params = bl_xstrdup(o->c.params);
		r->choice[i].stages = NULL;
		r->loss[i] = o->loss;
		r->options = k->unit[i].n > r->options ? k->unit[i].n : r->options;
		r->changed += !bl_scheme_equal(&o->c.scheme, &k->before[i].scheme) || strcmp(o->c.method, k->before[i].method) != 0 ||
			      strcmp(o->c.params, k->before[i].params) != 0;
	}
	r->loss_sum = bl_search_loss(k, at);
	r->measured = measurable(k);
	r->bytes = bl_search_bytes(k, at);
	r->measurements = k->made;
	r->estimate = k->full;
	r->estimate.bytes = r->bytes;
	r->estimate.step_ms.value = bl_search_step_ms(k, at);
	r->estimate.step_ms.spread = r->estimate.step_ms.value * k->full.step_ms.spread / k->full.step_ms.value;
	r->estimate.time_ratio.value = r->estimate.step_ms.value / k->full.step_ms.value;
	r->estimate.time_ratio.spread = fabs(1 - r->estimate.time_ratio.value) * k->full.step_ms.spread / k->full.step_ms.value;
	if (isfinite(r->kl)) {
		struct bl_quality q = {.kl = {r->kl, 0, BL_MEASURED, "nat", "search"}};
		bl_estimate_quality(&r->estimate, &q);
	}
	say_speed(k, at, r->speed, sizeof r->speed);
}

void bl_search_result_free(struct bl_search_result *r)
{
	if (!r)
		return;
	for (int i = 0; i < r->n; i++)
		bl_free(r->choice[i].params);
	bl_free(r->choice);
	bl_free(r->loss);
	bl_free(r->trial);
	bl_free(r);
}

/* ---- the job ---- */

static enum bl_status search_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct bl_search_run *k = ctx;
	struct bl_live *l = k->s->priv->live;
	int *at = bl_xalloc((size_t)k->n + 1, sizeof *at);
	uint64_t start = bl_now_ns();

	k->job = j;
	k->turn = (struct bl_live_turn){.job = j, .l = l, .calib = bl_live_get_calib(l), .own = true};
	k->out = bl_xalloc(1, sizeof *k->out);
	k->out->budget = k->rq.budget;
	k->out->value = k->rq.value;
	k->out->kl = k->out->top1 = NAN;
	bl_live_relax(l);
	if (!k->turn.calib)
		bl_fail(err, BL_INVALID, "the calibration is gone");
	else if (!measurable(k) && k->rq.budget == BL_BUDGET_SCORE)
		bl_fail(err, BL_INVALID, "a score needs the model's divergence: calibrate with kept windows");
	else if (!sensitivities(k, err) && !least_sum(k, at, err) && measurable(k))
		bl_search_improve(k, at, err);
	if (!err->status) {
		finish(k, at);
		k->out->seconds = (double)(bl_now_ns() - start) / 1e9;
		bl_job_keep(j);
		pthread_mutex_lock(&l->lock);
		struct bl_search_result *old = l->search_next;
		l->search_next = k->out;
		pthread_mutex_unlock(&l->lock);
		bl_search_result_free(old);
		k->out = NULL;
	}
	if (k->turn.calib)
		bl_results_save(k->turn.calib->results);
	bl_live_calib_unref(k->turn.calib);
	bl_free(at);
	return err->status;
}

static void search_drop(void *ctx)
{
	struct bl_search_run *k = ctx;

	for (size_t i = 0; i < k->n_params; i++)
		bl_free(k->params[i]);
	bl_free(k->params);
	bl_free(k->before);
	bl_free(k->unit);
	bl_search_result_free(k->out);
	bl_free(k);
}

/* ---- the request ---- */

static char *keep(struct bl_search_run *k, const char *params)
{
	bl_xgrow(&k->params, &k->cap_params, k->n_params + 1);
	return k->params[k->n_params++] = bl_xstrdup(params ? params : "");
}

static void add_option(struct bl_search_run *k, int unit, const struct bl_choice *c)
{
	struct bl_search_unit *u = &k->unit[unit];
	const struct bl_unit *mu = &k->s->model->units[unit];

	if (u->n > BL_SEARCH_OPTIONS)
		return;
	u->o[u->n] = (struct bl_search_option){.c = *c, .bytes = mu->members[0].weight ? bl_unit_bytes(mu, &c->scheme) : 0,
					       .ns = (uint64_t)llround(bl_unit_time(mu, &c->scheme, k->s->target, 8).value * 1000)};
	u->o[u->n].c.params = keep(k, c->params);
	u->o[u->n].c.stages = k->stages;
	u->n++;
}

static bool takes(const struct bl_search_run *k, int unit, const struct bl_choice *c)
{
	struct bl_err none = BL_ERR_INIT;
	struct bl_verdict v;
	struct bl_solver solver;

	bl_target_check_unit(&v, k->s->target, k->s->model, unit, &c->scheme);
	if (!v.legal && !k->rq.ignore_rules)
		return false;
	if (c->scheme.number == BL_NUM_FULL)
		return true;
	if (c->scheme.group && k->s->model->units[unit].cols % c->scheme.group)
		return false;
	if (bl_solver_init(&solver, &k->s->registry, &c->scheme, c->method, c->params, k->zero_nonfinite, &none))
		return false;
	bl_solver_fini(&solver);
	return true;
}

/* 4, 8 and 16 bits; 8 bits with and without quantized inputs: the target's kernels decide. */
static const char *standard_options(const struct bl_session *s)
{
	const struct bl_calib *c = bl_session_calib(s);

	return c && bl_calib_has_hessians(c) && bl_registry_method(&s->registry, "gptq") ? "W4A16:gptq;W8A16;W8A8;BF16" : "W4A16;W8A16;W8A8;BF16";
}

static enum bl_status parse_options(struct bl_search_run *k, const char *text, struct bl_choice *o, int *n, struct bl_err *err)
{
	struct bl_session *s = k->s;
	char *words = bl_xstrdup(text), *rest = NULL;

	for (char *w = strtok_r(words, "; \t", &rest); w && !err->status; w = strtok_r(NULL, "; \t", &rest)) {
		struct bl_plan *p = bl_plan_new(s->model, s->target->name);
		struct bl_str set = {0};
		bl_str_addf(&set, "all=%s", w);
		if (*n == BL_SEARCH_OPTIONS)
			bl_fail(err, BL_USAGE, "more than %d options", BL_SEARCH_OPTIONS);
		else if (!bl_plan_set_text(p, s->model, bl_str_c(&set), NULL, NULL, err) && s->model->n_units) {
			o[*n] = *bl_plan_choice(p, 0);
			o[*n].params = keep(k, o[*n].params);
			o[*n].stages = k->stages;
			const struct bl_method *m = bl_registry_method(&s->registry, o[*n].method);
			struct bl_solver solver;
			const struct bl_solve_inputs in = bl_solve_inputs_of(&s->registry, o[*n].method, o[*n].params);
			if (in.quantized || in.by_rms)
				bl_fail(err, BL_UNSUPPORTED, "%s while the data go through the model, and a search looks at each unit alone: search with gptq, then --finish %s%s%s",
					in.quantized ? "solved on what the blocks before give as they were quantized," : "its tokens are weighed", o[*n].method, *o[*n].params ? "," : "",
					o[*n].params);
			else if (m && bl_method_trains(&s->registry, m))
				bl_fail(err, BL_UNSUPPORTED, "%s trains all units together, and a search looks at each alone: search with gptq, then --finish %s", m->name, m->name);
			else if (o[*n].scheme.number != BL_NUM_FULL &&
			    !bl_solver_init(&solver, &s->registry, &o[*n].scheme, o[*n].method, o[*n].params, k->zero_nonfinite, err))
				bl_solver_fini(&solver);
			++*n;
		}
		if (err->status)
			bl_err_prefix(err, "option %s", w);
		bl_str_free(&set);
		bl_plan_free(p);
	}
	bl_free(words);
	if (!err->status && *n < 2)
		bl_fail(err, BL_USAGE, "a search needs at least two options, as \"W4A16:gptq;W8A16;BF16\"");
	return err->status;
}

static void lay_out(struct bl_search_run *k, const struct bl_choice *o, int n)
{
	const struct bl_model *m = k->s->model;
	struct bl_scheme full = BL_SCHEME_FULL;
	struct bl_plan *p = bl_plan_new(m, k->s->target->name);

	bl_plan_estimate(&k->full, m, p, k->s->target);
	bl_plan_free(p);
	k->rest_bytes = k->full.bytes;
	k->rest_ns = (uint64_t)llround(k->full.step_ms.value * 1e6);
	for (int i = 0; i < k->n; i++) {
		const struct bl_choice *now = bl_plan_choice(k->s->plan, i);
		k->before[i] = *now;
		k->before[i].params = keep(k, now->params);
		k->before[i].stages = k->stages;
		for (int j = 0; j < n && !now->locked && m->units[i].members[0].weight; j++)
			if (takes(k, i, &o[j]))
				add_option(k, i, &o[j]);
		if (!k->unit[i].n)
			add_option(k, i, now);
		if (m->units[i].members[0].weight)
			k->rest_bytes -= bl_unit_bytes(&m->units[i], &full);
		k->rest_ns -= (uint64_t)llround(bl_unit_time(&m->units[i], &full, k->s->target, 8).value * 1000);
	}
}

uint64_t bl_session_search(struct bl_session *s, const struct bl_search_request *rq, struct bl_err *err)
{
	static const struct bl_job_ops ops = {.name = "search", .lane = BL_LANE_MAIN, .run = search_run, .drop = search_drop, .pausable = true};
	struct bl_search_run *k;
	struct bl_choice o[BL_SEARCH_OPTIONS];
	int n = 0;

	if (!bl_session_calib(s)) {
		bl_fail(err, BL_INVALID, "a search measures what units lose, and there is no calibration: calibrate first (c, or `bitlathe calibrate MODEL --data FILE`)");
		return 0;
	}
	k = bl_xalloc(1, sizeof *k);
	k->s = s;
	k->target = s->target;
	k->rq = *rq;
	k->rq.options = NULL;
	k->zero_nonfinite = bl_plan_zero_nonfinite(s->plan);
	k->stages = keep(k, bl_plan_stages(s->plan));
	k->n = s->model->n_units;
	k->unit = bl_xalloc((size_t)k->n + 1, sizeof *k->unit);
	k->before = bl_xalloc((size_t)k->n + 1, sizeof *k->before);
	if (parse_options(k, rq->options && *rq->options ? rq->options : standard_options(s), o, &n, err)) {
		search_drop(k);
		return 0;
	}
	lay_out(k, o, n);
	return bl_jobs_add(s->jobs, &ops, k, "search");
}

/* ---- for the front ends ---- */

const struct bl_search_result *bl_session_searched(struct bl_session *s)
{
	struct bl_live *l = s->priv->live;

	pthread_mutex_lock(&l->lock);
	struct bl_search_result *next = l->search_next;
	l->search_next = NULL;
	pthread_mutex_unlock(&l->lock);
	if (next) {
		bl_search_result_free(l->search);
		l->search = next;
	}
	return l->search;
}

bool bl_session_search_take(struct bl_session *s)
{
	const struct bl_search_result *r = bl_session_searched(s);
	char label[80];

	if (!r || r->n != bl_plan_n_units(s->plan))
		return false;
	snprintf(label, sizeof label, r->budget == BL_BUDGET_BYTES ? "search: %.2f MB" : r->budget == BL_BUDGET_TIME ? "search: ~%.3f ms a step" : "search: best score",
		 r->budget == BL_BUDGET_BYTES ? (double)r->bytes / 1e6 : r->estimate.step_ms.value);
	bl_plan_begin(s->plan, label);
	for (int i = 0; i < r->n; i++) {
		bl_plan_set_scheme(s->plan, i, &r->choice[i].scheme);
		if (r->choice[i].scheme.number != BL_NUM_FULL)
			bl_plan_set_method(s->plan, i, r->choice[i].method, r->choice[i].params);
	}
	bool changed = bl_plan_end(s->plan);
	bl_session_edited(s);
	return changed;
}
