/* SPDX-License-Identifier: Apache-2.0
 * Rows as texts, and what is done for each of them. */
#include "core/session/compare.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/machine.h"
#include "core/session/measure.h"

/* ---- rows from texts ---- */

static bool is_scheme(const char *word)
{
	struct bl_err none = BL_ERR_INIT;
	struct bl_scheme scheme;
	char name[BL_SCHEME_NAME_MAX];
	size_t n = strcspn(word, ":");

	if (n >= sizeof name)
		return false;
	memcpy(name, word, n);
	name[n] = '\0';
	return bl_scheme_parse(&scheme, name, &none) == BL_OK;
}

static enum bl_status apply_file(struct bl_session *s, const char *file, struct bl_err *err)
{
	struct bl_plan *p = NULL;
	char *note = NULL;

	if (!bl_plan_load(&p, s->model, file, &note, err)) {
		bl_plan_set_stages(s->plan, bl_plan_stages(p));
		for (int i = 0; i < s->model->n_units; i++) {
			const struct bl_choice *c = bl_plan_choice(p, i);
			bl_plan_set_scheme(s->plan, i, &c->scheme);
			if (c->scheme.number != BL_NUM_FULL)
				bl_plan_set_method(s->plan, i, c->method, c->params);
		}
	}
	bl_plan_free(p);
	bl_free(note);
	return err->status;
}

static enum bl_status add_stage(struct bl_session *s, const char *stage, struct bl_err *err)
{
	struct bl_str text = {0};

	bl_str_addf(&text, "%s%s%s", bl_plan_stages(s->plan), *bl_plan_stages(s->plan) ? ";" : "", stage);
	bl_session_set_stages(s, bl_str_c(&text), err);
	bl_str_free(&text);
	return err->status;
}

static enum bl_status apply_word(struct bl_session *s, const char *word, struct bl_err *err)
{
	struct bl_str text = {0};
	size_t n = strlen(word);

	if (!strcmp(word, "recommended"))
		return bl_session_recommend(s, err);
	if (bl_starts_with(word, "stage="))
		return add_stage(s, word + strlen("stage="), err);

	if (n > 5 && !strcmp(word + n - 5, ".json"))
		return apply_file(s, word, err);
	bl_str_addf(&text, "%s%s", is_scheme(word) ? "all=" : "", word);
	bl_plan_set_text(s->plan, s->model, bl_str_c(&text), NULL, NULL, err);
	bl_str_free(&text);
	return err->status;
}

/* The methods take their parameters, or say what is wrong with them, before anything runs. */
static enum bl_status check_choices(const struct bl_session *s, struct bl_err *err)
{
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(s->plan, i);
		struct bl_solver solver;

		if (c->scheme.number == BL_NUM_FULL)
			continue;
		if (bl_solver_init(&solver, &s->registry, &c->scheme, c->method, c->params, false, err))
			return bl_err_prefix(err, "%s", s->model->units[i].name);
		bl_solver_fini(&solver);
	}
	return BL_OK;
}

enum bl_status bl_compare_plan(struct bl_session *s, const char *row, struct bl_err *err)
{
	char *words = bl_xstrdup(row), *rest = NULL;

	bl_plan_begin(s->plan, row);
	bl_plan_preset(s->plan, s->model, "BF16", err);
	bl_plan_set_stages(s->plan, "");
	for (char *w = strtok_r(words, " \t", &rest); w && !err->status; w = strtok_r(NULL, " \t", &rest))
		apply_word(s, w, err);
	bl_plan_end(s->plan);
	bl_free(words);
	bl_session_edited(s);
	if (err->status || check_choices(s, err))
		return bl_err_prefix(err, "row \"%s\"", row);
	return BL_OK;
}

static enum bl_status make_row(struct bl_compare_row *row, struct bl_session *s, const char *text, struct bl_err *err)
{
	int n_fatal = 0;

	row->text = bl_xstrdup(text);
	if (bl_compare_plan(s, text, err))
		return err->status;
	row->bytes = bl_session_estimate(s)->bytes;
	row->time_ratio = bl_session_estimate(s)->time_ratio.value;
	bl_session_problems(s, NULL, &n_fatal);
	row->legal = n_fatal == 0;
	row->needs_calibration = *bl_plan_stages(s->plan) != '\0';
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(s->plan, i);
		row->needs_calibration |= bl_session_choice_whole(s, c) || bl_act_is_static(c->scheme.act);
	}
	return BL_OK;
}

enum bl_status bl_compare_new(struct bl_compare **out, struct bl_session *s, const char *const *rows, int n, struct bl_err *err)
{
	struct bl_compare *c = bl_xalloc(1, sizeof *c);

	c->row = bl_xalloc((size_t)n + 1, sizeof *c->row);
	for (; c->n < n && !err->status; c->n++)
		make_row(&c->row[c->n], s, rows[c->n], err);
	if (err->status)
		bl_compare_free(c);
	else
		*out = c;
	return err->status;
}

void bl_compare_free(struct bl_compare *c)
{
	for (int i = 0; c && i < c->n; i++)
		bl_free(c->row[i].text);
	if (c)
		bl_free(c->row);
	bl_free(c);
}

/* Settings of methods that are worth a row beside the defaults; ones that a method does not have are left out. */
static const struct { const char *method, *params; } worth[] = {
	{"rtn", "observer=mse"}, {"gptq", "observer=minmax"}, {"gptq", "observer=mse"}, {"gptq", "rounds=4"}, {"gptq", "inputs=quantized,qep_alpha=0.5"},
};
/* What is done to the weights before, and with which method that is worth a row. */
static const struct { const char *stage, *method; bool rounds_inputs; } worth_before[] = {
	{"awq", "rtn", false}, {"awq", "gptq", false}, {"smooth", "rtn", true}, {"smooth", "gptq", true},
};

static void add_row(const struct bl_session *s, const char *scheme, const char *method, const char *params, char ***rows, size_t *n, size_t *cap)
{
	struct bl_err none = BL_ERR_INIT;
	struct bl_str text = {0};
	struct bl_scheme parsed;
	struct bl_solver solver;

	if (bl_scheme_parse(&parsed, scheme, &none) || bl_solver_init(&solver, &s->registry, &parsed, method, params, false, &none))
		return;
	bl_solver_fini(&solver);
	bl_str_addf(&text, "%s:%s%s%s", scheme, method, *params ? "," : "", params);
	bl_xgrow(rows, cap, *n + 1);
	(*rows)[(*n)++] = bl_str_take(&text);
}

/* What needs no data comes first, what trains a whole plan last. */
static int order_of(const struct bl_session *s, const struct bl_method *m)
{
	return !strcmp(m->name, "rtn") ? 0 : bl_method_trains(&s->registry, m) ? 3 : bl_method_whole(&s->registry, m) ? 2 : 1;
}

static void append(char **text, const char *what, const char *name)
{
	struct bl_str longer = {0};

	bl_str_addf(&longer, "%s %s%s", *text, what, name);
	bl_free(*text);
	*text = bl_str_take(&longer);
}

void bl_compare_all_methods(const struct bl_session *s, const char *scheme, bool with_more, char ***rows, size_t *n, size_t *cap)
{
	struct bl_err none = BL_ERR_INIT;
	struct bl_scheme parsed;

	for (int turn = 0; turn < 4; turn++)
		for (int i = 0; i < bl_registry_n_methods(&s->registry); i++) {
			const struct bl_method *m = bl_registry_method_at(&s->registry, i);
			if (order_of(s, m) != turn)
				continue;
			add_row(s, scheme, m->name, "", rows, n, cap);
			for (size_t k = 0; k < sizeof worth / sizeof worth[0]; k++)
				if (!strcmp(worth[k].method, m->name))
					add_row(s, scheme, m->name, worth[k].params, rows, n, cap);
		}
	for (size_t k = 0; with_more && k < sizeof worth_before / sizeof worth_before[0]; k++) {
		size_t before = *n;
		if (bl_scheme_parse(&parsed, scheme, &none) || (parsed.act != BL_ACT_NONE) != worth_before[k].rounds_inputs)
			continue;
		add_row(s, scheme, worth_before[k].method, "", rows, n, cap);
		if (*n > before)
			append(&(*rows)[*n - 1], "stage=", worth_before[k].stage);
	}
	if (with_more && bl_registry_method(&s->registry, "tune")) {
		bl_xgrow(rows, cap, *n + 1);
		(*rows)[*n] = bl_xstrdup(scheme);
		append(&(*rows)[(*n)++], "recommended", "");
	}
}

/* ---- measuring ---- */

struct comparison {
	struct bl_session *s;
	struct bl_progress *progress;
	struct bl_eval_request rq;
	struct bl_measure *m;
	char protocol[65], device[160]; /* digest of what is measured; where */
};

/* Two jobs: what is measured is opened and the device looked at; then one for each row. Their context lives as long as the comparison, which waits for them. */
struct row_job { struct comparison *k; struct bl_plan *plan; struct bl_eval_result r; struct bl_job *job; };

static void report(void *ctx, const char *phase, double done, double total, const char *unit)
{
	struct row_job *r = ctx;

	bl_job_progress(r->job, phase, done, total, unit);
	if (bl_job_checkpoint(r->job))
		atomic_store(&r->k->s->priv->live->cancel, 1);
}

static enum bl_status open_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct row_job *r = ctx;
	struct comparison *k = r->k;
	struct bl_live *l = k->s->priv->live;
	uint64_t total, available;

	(void)j;
	bl_live_relax(l);
	bl_ram_look(&total, &available);
	struct bl_forward *f = bl_live_forward(l, k->rq.memory_limit, err);
	if (!f || bl_measure_open(&k->m, k->s, &k->rq, available / 4, err))
		return err->status;
	bl_measure_digest(k->m, k->protocol);
	snprintf(k->device, sizeof k->device, "%s", bl_forward_engine(f)->name);
	return BL_OK;
}

static enum bl_status row_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct row_job *r = ctx;
	struct comparison *k = r->k;
	struct bl_live *l = k->s->priv->live;

	r->job = j;
	do {
		bl_err_clear(err);
		struct bl_forward *f = bl_live_forward(l, k->rq.memory_limit, err);
		if (f)
			bl_measure_one(&r->r, k->m, f, r->plan, report, r, err);
	} while (err->status && bl_live_failed(l, k->rq.seqlen > 0 ? k->rq.seqlen : BL_EVAL_SEQLEN, err));
	return err->status;
}

static void row_drop(void *ctx) { (void)ctx; }

/* The job's progress becomes ours, our cancel the job's. */
static enum bl_status wait_for(struct comparison *k, uint64_t job, struct bl_err *err)
{
	struct bl_job_view v;
	char phase[sizeof v.phase] = "";

	while (bl_jobs_view(k->s->jobs, job, &v) && v.state < BL_JOB_DONE) {
		if (atomic_load(&k->progress->cancel))
			bl_jobs_cancel(k->s->jobs, job);
		if (strcmp(phase, v.phase) != 0) {
			atomic_fetch_add(&k->progress->phase, *phase != '\0');
			memcpy(phase, v.phase, sizeof phase);
		}
		atomic_store(&k->progress->total_bytes, (uint64_t)v.total);
		atomic_store(&k->progress->done_bytes, (uint64_t)v.done);
		nanosleep(&(struct timespec){0, 10000000}, NULL);
	}
	return bl_jobs_wait(k->s->jobs, job, err);
}

/* What the numbers of the session's plan depend on. */
static void key_of(struct comparison *k, char key[65])
{
	struct bl_session *s = k->s;
	struct bl_live *l = s->priv->live;
	struct bl_live_calib *calib = bl_live_get_calib(l);
	struct bl_str text = {0};
	bool needs = *bl_plan_stages(s->plan) != '\0';

	bl_live_publish(s);
	bl_str_addf(&text, "eval 2 %s|%s|%s|%s|%s", BL_VERSION, s->model->digest, l->plan->digest, k->protocol, k->device);
	for (int i = 0; i < l->plan->n; i++) {
		const struct bl_choice *c = &l->plan->choice[i];
		if (c->scheme.number == BL_NUM_FULL)
			continue;
		bl_str_addf(&text, "|%s", bl_registry_method_version(&s->registry, c->method));
		needs |= bl_session_choice_whole(s, c);
		if (bl_act_is_static(c->scheme.act))
			bl_str_addf(&text, " %.9g", (double)bl_session_unit_absmax(s, i));
	}
	bl_str_addf(&text, "|%s", needs && calib ? bl_calib_key_of(calib->c) : "");
	bl_sha256_of(bl_str_c(&text), text.len, key);
	bl_str_free(&text);
	bl_live_calib_unref(calib);
}

/* Solved anew where it is in the cache already: what that took then is added up instead. */
static enum bl_status solve(struct comparison *k, struct bl_compare_row *row, struct bl_err *err)
{
	char report_[16];
	double rel, seconds, known = 0;
	uint64_t start = bl_now_ns(), job;
	bool all = true;

	for (int i = 0; i < k->s->model->n_units; i++)
		if (bl_session_choice_whole(k->s, bl_plan_choice(k->s->plan, i))) {
			bool there = bl_session_solved_look(k->s, i, &rel, &seconds, report_, sizeof report_);
			all &= there;
			known += there ? seconds : 0;
		}
	job = bl_session_quantize(k->s, NULL, NULL);
	if (job && wait_for(k, job, err))
		return err->status;
	row->solve_s = all ? known : (double)(bl_now_ns() - start) / 1e9;
	return BL_OK;
}

static enum bl_status measure_row(struct comparison *k, struct bl_compare_row *row, struct bl_err *err)
{
	static const struct bl_job_ops ops = {.name = "compare", .lane = BL_LANE_MAIN, .run = row_run, .drop = row_drop, .pausable = true};
	struct row_job r = {.k = k};
	char key[65];

	if (bl_compare_plan(k->s, row->text, err))
		return err->status;
	key_of(k, key);
	row->stored = bl_eval_stored(&row->r, &row->solve_s, k->s->priv->live->cache_dir, key);
	if (row->stored) {
		row->done = true;
		return BL_OK;
	}
	if (solve(k, row, err))
		return err->status;
	r.plan = bl_plan_copy(k->s->plan);
	if (!wait_for(k, bl_jobs_add(k->s->jobs, &ops, &r, "compare"), err)) {
		row->r = r.r;
		row->solve_s += r.r.weights_seconds;
		row->done = true;
		bl_eval_store(&row->r, row->solve_s, k->s->priv->live->cache_dir, key);
	}
	bl_plan_free(r.plan);
	return err->status;
}

static bool goes_on(const struct bl_err *err)
{
	return err->status != BL_CANCELLED && err->status != BL_NO_DEVICE && err->status != BL_NO_MEMORY;
}

enum bl_status bl_compare_run(struct bl_session *s, struct bl_compare *c, const struct bl_eval_request *rq, struct bl_progress *progress, struct bl_err *err)
{
	static const struct bl_job_ops ops = {.name = "compare", .lane = BL_LANE_MAIN, .run = open_run, .drop = row_drop};
	struct comparison k = {.s = s, .progress = progress, .rq = *rq};
	struct row_job r = {.k = &k};

	if (!wait_for(&k, bl_jobs_add(s->jobs, &ops, &r, "compare"), err))
		for (int i = 0; i < c->n && !err->status; i++) {
			struct bl_compare_row *row = &c->row[i];
			if (!measure_row(&k, row, err)) {
				c->base = row->r;
				c->has_base = true;
			} else if (goes_on(err)) {
				snprintf(row->why, sizeof row->why, "%s", err->text);
				bl_err_clear(err);
			}
		}
	bl_measure_close(k.m);
	return err->status;
}
