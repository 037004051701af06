/* SPDX-License-Identifier: Apache-2.0
 * The comparison job, and the texts that its rows are made from. */
#include "core/session/compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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

static enum bl_status apply_word(struct bl_plan **plan, struct bl_session *s, const char *word, struct bl_err *err)
{
	struct bl_str text = {0};
	size_t n = strlen(word);

	if (n > 5 && !strcmp(word + n - 5, ".json")) {
		char *note = NULL;
		struct bl_plan *p = NULL;
		if (!bl_plan_load(&p, s->model, word, &note, err)) {
			bl_plan_free(*plan);
			*plan = p;
		}
		bl_free(note);
		return err->status;
	}
	bl_str_addf(&text, "%s%s", is_scheme(word) ? "all=" : "", word);
	bl_plan_set_text(*plan, s->model, bl_str_c(&text), NULL, NULL, err);
	bl_str_free(&text);
	return err->status;
}

/* The methods take their parameters, or say what is wrong with them, before anything runs. */
static enum bl_status check_choices(const struct bl_session *s, const struct bl_plan *p, struct bl_err *err)
{
	for (int i = 0; i < s->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(p, i);
		struct bl_solver solver;

		if (c->scheme.number == BL_NUM_FULL)
			continue;
		if (bl_solver_init(&solver, &s->registry, &c->scheme, c->method, c->params, false, err))
			return bl_err_prefix(err, "%s", s->model->units[i].name);
		bl_solver_fini(&solver);
	}
	return BL_OK;
}

static enum bl_status make_row(struct bl_compare_row *row, struct bl_session *s, const char *text, struct bl_err *err)
{
	struct bl_plan_estimate e;
	struct bl_problem *problems = NULL;
	char *words = bl_xstrdup(text), *rest = NULL;

	row->text = bl_xstrdup(text);
	row->plan = bl_plan_new(s->model, s->target->name);
	bl_plan_set_zero_nonfinite(row->plan, bl_plan_zero_nonfinite(s->plan));
	for (char *w = strtok_r(words, " \t", &rest); w && !err->status; w = strtok_r(NULL, " \t", &rest))
		apply_word(&row->plan, s, w, err);
	bl_free(words);
	if (err->status || check_choices(s, row->plan, err))
		return bl_err_prefix(err, "row \"%s\"", text);
	bl_plan_estimate(&e, s->model, row->plan, s->target);
	row->bytes = e.bytes;
	row->time_ratio = e.time_ratio.value;
	bl_target_check_plan(&problems, &row->n_fatal, s->target, s->model, row->plan);
	bl_free(problems);
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
	for (int i = 0; c && i < c->n; i++) {
		bl_free(c->row[i].text);
		bl_plan_free(c->row[i].plan);
	}
	if (c)
		bl_free(c->row);
	bl_free(c);
}

/* Settings of methods that are worth a row beside the defaults; ones that a method does not have are left out. */
static const struct { const char *method, *params; } worth[] = {
	{"rtn", "observer=mse"}, {"gptq", "observer=minmax"}, {"gptq", "observer=mse"}, {"gptq", "rounds=4"},
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

void bl_compare_all_methods(const struct bl_session *s, const char *scheme, char ***rows, size_t *n, size_t *cap)
{
	static const char first[] = "rtn"; /* what needs no data comes first */

	for (int turn = 0; turn < 2; turn++)
		for (int i = 0; i < bl_registry_n_methods(&s->registry); i++) {
			const char *name = bl_registry_method_at(&s->registry, i)->name;
			if ((strcmp(name, first) == 0) != (turn == 0))
				continue;
			add_row(s, scheme, name, "", rows, n, cap);
			for (size_t k = 0; k < sizeof worth / sizeof worth[0]; k++)
				if (!strcmp(worth[k].method, name))
					add_row(s, scheme, name, worth[k].params, rows, n, cap);
		}
}

/* ---- the job ---- */

struct compare_job {
	struct bl_session *s;
	struct bl_compare *c;
	struct bl_eval_request rq;
	struct bl_measure *m;
	char protocol[65];           /* digest of what is measured */
	struct bl_job *job;
	int row;
};

static void report(void *ctx, const char *phase, double done, double total, const char *unit)
{
	struct compare_job *k = ctx;

	bl_job_progress(k->job, phase, done, total, unit);
	if (bl_job_checkpoint(k->job))
		atomic_store(&k->s->priv->live->cancel, 1);
}

static const struct bl_choice *of_plan(const void *plan, int unit)
{
	return bl_plan_choice(plan, unit);
}

/* What the numbers of a row depend on. */
static void key_of(struct compare_job *k, const struct bl_plan *plan, const char *device, char key[65])
{
	const struct bl_session *s = k->s;
	struct bl_live_plan *p = bl_live_plan_new(s->model->n_units, of_plan, plan, bl_plan_zero_nonfinite(plan));
	struct bl_live_calib *calib = bl_live_get_calib(s->priv->live);
	struct bl_str text = {0};
	bool needs = false;

	bl_str_addf(&text, "eval 1 %s|%s|%s|%s|%s", BL_VERSION, s->model->digest, p->digest, k->protocol, device);
	for (int i = 0; i < p->n; i++) {
		const struct bl_choice *c = &p->choice[i];
		if (!p->hash[i])
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
	bl_live_plan_unref(p);
}

static enum bl_status solve_row(struct compare_job *k, struct bl_compare_row *row, struct bl_err *err)
{
	struct bl_live *l = k->s->priv->live;
	const struct bl_plan *p = row->plan;
	int n = bl_plan_n_units(p);

	row->solve_s = 0;
	for (int i = 0; i < n && !err->status; i++) {
		struct bl_solved *u = NULL;

		if (!bl_session_choice_whole(k->s, bl_plan_choice(p, i)))
			continue;
		if (bl_job_checkpoint(k->job))
			return bl_fail(err, BL_CANCELLED, "cancelled");
		bl_job_progress(k->job, "solve", i, n, "units");
		if (!bl_live_solved_unit(l, i, bl_plan_choice(p, i), bl_plan_zero_nonfinite(p), bl_job_cancel_flag(k->job), &u, err))
			row->solve_s += u->seconds;
		bl_solved_free(u);
	}
	return err->status;
}

/* plan NULL: the base alone. */
static enum bl_status measure_row(struct compare_job *k, struct bl_eval_result *out, const struct bl_plan *plan, struct bl_err *err)
{
	struct bl_live *l = k->s->priv->live;

	do {
		struct bl_forward *f;
		bl_err_clear(err);
		f = bl_live_forward(l, k->rq.memory_limit, err);
		if (f)
			bl_measure_one(out, k->m, f, plan, report, k, err);
	} while (err->status && bl_live_failed(l, k->rq.seqlen > 0 ? k->rq.seqlen : BL_EVAL_SEQLEN, err));
	return err->status;
}

static bool goes_on(const struct bl_err *err)
{
	return err->status != BL_CANCELLED && err->status != BL_NO_DEVICE && err->status != BL_NO_MEMORY;
}

static enum bl_status do_row(struct compare_job *k, struct bl_compare_row *row, struct bl_err *err)
{
	struct bl_live *l = k->s->priv->live;
	struct bl_forward *f = bl_live_forward(l, k->rq.memory_limit, err);
	char key[65];

	if (!f)
		return err->status;
	key_of(k, row->plan, bl_forward_engine(f)->name, key);
	row->stored = bl_eval_stored(&row->r, &row->solve_s, l->cache_dir, key);
	if (!row->stored && !solve_row(k, row, err) && !measure_row(k, &row->r, row->plan, err)) {
		row->solve_s += row->r.weights_seconds;
		bl_eval_store(&row->r, row->solve_s, l->cache_dir, key);
	}
	row->done = !err->status;
	return err->status;
}

static enum bl_status compare_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct compare_job *k = ctx;
	uint64_t total, available;

	k->job = j;
	bl_live_relax(k->s->priv->live);
	bl_ram_look(&total, &available);
	if (bl_measure_open(&k->m, k->s, &k->rq, available / 4, err))
		return err->status;
	bl_measure_digest(k->m, k->protocol);
	for (k->row = 0; k->row < k->c->n; k->row++) {
		struct bl_compare_row *row = &k->c->row[k->row];
		char note[48];

		snprintf(note, sizeof note, "row %d of %d", k->row + 1, k->c->n);
		bl_job_note(j, note);
		if (!do_row(k, row, err)) {
			k->c->base = row->r;
			k->c->has_base = true;
		} else if (goes_on(err)) {
			snprintf(row->why, sizeof row->why, "%s", err->text);
			bl_err_clear(err);
		} else {
			return err->status;
		}
	}
	return BL_OK;
}

static void compare_drop(void *ctx)
{
	struct compare_job *k = ctx;

	bl_measure_close(k->m);
	bl_free(k->rq.ppl);
	bl_free(k->rq.kl);
	bl_free(k->rq.mcq);
	bl_free(k);
}

static char *text_or_null(const char *s)
{
	return s ? bl_xstrdup(s) : NULL;
}

uint64_t bl_session_compare(struct bl_session *s, struct bl_compare *c, const struct bl_eval_request *rq)
{
	static const struct bl_job_ops ops = {.name = "compare", .lane = BL_LANE_MAIN, .run = compare_run, .drop = compare_drop, .pausable = true};
	struct compare_job *k = bl_xalloc(1, sizeof *k);

	k->s = s;
	k->c = c;
	k->rq = *rq;
	k->rq.ppl = text_or_null(rq->ppl);
	k->rq.kl = text_or_null(rq->kl);
	k->rq.mcq = text_or_null(rq->mcq);
	return bl_jobs_add(s->jobs, &ops, k, NULL);
}
