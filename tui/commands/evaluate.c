/* SPDX-License-Identifier: Apache-2.0
 * evaluate: the model, or base and plan side by side: perplexity, distance to the base, multiple choice; and what that makes of the score. */
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/measure.h"
#include "tui/cli.h"

struct evaluate_work {
	struct bl_session *s;
	struct bl_measure_request rq;
	struct bl_eval_result result;
	struct bl_progress progress;
	const char *phase; /* of the last report */
};

/* done and total in tokens; a new phase starts anew. */
static void report(void *ctx, const char *phase, double done, double total, const char *unit)
{
	struct evaluate_work *w = ctx;

	(void)unit;
	if (w->phase != phase) {
		atomic_store(&w->progress.done_bytes, 0);
		atomic_fetch_add(&w->progress.phase, w->phase != NULL);
		w->phase = phase;
	}
	atomic_store(&w->progress.total_bytes, (uint64_t)total);
	atomic_store(&w->progress.done_bytes, (uint64_t)done);
}

static enum bl_status evaluate_work(void *ctx, struct bl_err *err)
{
	struct evaluate_work *w = ctx;

	return bl_measure_alone(&w->result, w->s, &w->rq, &w->progress.cancel, report, w, err);
}

/* ---- JSON ---- */

static void ppl_json(cJSON *o, const struct bl_eval_ppl *p)
{
	cJSON *j = cJSON_AddObjectToObject(o, "ppl");

	cJSON_AddNumberToObject(j, "value", p->value);
	cJSON_AddStringToObject(j, "unit", "ppl");
	cJSON_AddNumberToObject(j, "spread", p->stderr_);
	cJSON_AddStringToObject(j, "origin", "measured");
	cJSON_AddStringToObject(j, "from", "standard error over windows");
	cJSON_AddNumberToObject(j, "nll", p->nll);
	bl_json_add_int(j, "tokens", p->tokens);
	bl_json_add_int(j, "windows", p->windows);
}

static void mcq_json(cJSON *o, const struct bl_eval_mcq *m, bool plan)
{
	cJSON *j = cJSON_AddObjectToObject(o, "mcq");

	cJSON_AddNumberToObject(j, "acc", m->acc);
	cJSON_AddNumberToObject(j, "stderr", m->stderr_);
	if (plan)
		cJSON_AddNumberToObject(j, "flips", m->flips);
	bl_json_add_int(j, "n", m->n);
}

void bl_cli_eval_json(cJSON *o, const struct bl_eval_result *r)
{
	cJSON *base = cJSON_AddObjectToObject(o, "base");

	if (r->has_ppl) {
		ppl_json(base, &r->base_ppl);
		ppl_json(o, r->has_plan ? &r->plan_ppl : &r->base_ppl);
	}
	if (r->has_kl) {
		cJSON *j = cJSON_AddObjectToObject(o, "kl");
		cJSON_AddNumberToObject(j, "mean", r->kl.mean);
		cJSON_AddNumberToObject(j, "stderr", r->kl.stderr_);
		cJSON_AddNumberToObject(j, "median", r->kl.median);
		cJSON_AddNumberToObject(j, "p99", r->kl.p99);
		cJSON_AddNumberToObject(j, "max", r->kl.max);
		bl_json_add_int(j, "tokens", r->kl.tokens);
		cJSON_AddNumberToObject(o, "top1", r->kl.top1);
		cJSON_AddNumberToObject(o, "top1_stderr", r->kl.top1_stderr);
	}
	if (r->has_mcq) {
		mcq_json(base, &r->base_mcq, false);
		mcq_json(o, r->has_plan ? &r->plan_mcq : &r->base_mcq, r->has_plan);
	}
	cJSON_AddBoolToObject(o, "plan", r->has_plan);
	cJSON_AddNumberToObject(o, "seconds", r->seconds);
}

static void result_json(cJSON *o, const struct bl_eval_result *r, const struct bl_plan_estimate *e, bool transformers)
{
	bl_cli_eval_json(o, r);
	cJSON_AddStringToObject(o, "arithmetic", transformers ? "transformers" : "server");
	bl_json_add_int(o, "weights_alone", r->weights_alone);
	cJSON_AddStringToObject(o, "protocol", r->protocol);
	cJSON_AddStringToObject(o, "device", r->device);
	if (r->has_plan) {
		cJSON_AddStringToObject(o, "plan_digest", r->plan_digest);
		bl_cli_quantity(o, "time_ratio", &e->time_ratio);
		bl_cli_quantity(o, "perf_ratio", &e->perf_ratio);
		bl_cli_quantity(o, "score", &e->score);
	}
}

/* ---- text ---- */

/* quantized: the checkpoint that was measured in the plan's place, or NULL */
static void result_text(struct bl_cli *c, const struct bl_session *s, const struct bl_eval_result *r, const struct bl_plan_estimate *e, const char *quantized)
{
	char summary[BL_SCHEME_NAME_MAX];

	bl_cli_wrapped(c, 2, "%s%s%s on %s, %.1f s", s->model->title, !r->has_plan ? "" : quantized ? " and " : " and its plan ",
		       !r->has_plan ? "" : quantized ? quantized : bl_plan_summary(summary, s->plan), r->device, r->seconds);
	bl_cli_wrapped(c, 2, "protocol: %s", r->protocol);
	if (r->weights_alone)
		bl_cli_wrapped(c, 2, "of the weights alone: the client also rounds what flows into %d units", r->weights_alone);
	bl_cli_line(c, "%-16s%-22s%s", "", "base", !r->has_plan ? "" : quantized ? "quantized" : "plan");
	if (r->has_ppl && r->has_plan)
		bl_cli_line(c, "perplexity      %8.3f +- %-7.3f   %8.3f +- %-7.3f (%+.2f %%)", r->base_ppl.value, r->base_ppl.stderr_, r->plan_ppl.value,
			    r->plan_ppl.stderr_, 100 * (r->plan_ppl.value / r->base_ppl.value - 1));
	else if (r->has_ppl)
		bl_cli_line(c, "perplexity      %8.3f +- %.3f", r->base_ppl.value, r->base_ppl.stderr_);
	if (r->has_mcq && r->has_plan)
		bl_cli_line(c, "multiple choice   %6.4f +- %-7.4f     %6.4f +- %-7.4f (%+.4f)", r->base_mcq.acc, r->base_mcq.stderr_, r->plan_mcq.acc,
			    r->plan_mcq.stderr_, r->plan_mcq.acc - r->base_mcq.acc);
	else if (r->has_mcq)
		bl_cli_line(c, "multiple choice   %6.4f +- %.4f (%lld questions)", r->base_mcq.acc, r->base_mcq.stderr_, (long long)r->base_mcq.n);
	if (r->has_mcq && r->has_plan)
		bl_cli_line(c, "                %.2f %% of %lld answers went from right to wrong or back", 100 * r->plan_mcq.flips, (long long)r->plan_mcq.n);
	if (r->has_kl) {
		bl_cli_line(c, "KL to the base  %.5f +- %.5f nats per token", r->kl.mean, r->kl.stderr_);
		bl_cli_line(c, "                median %.5f, p99 %.4f, max %.3f", r->kl.median, r->kl.p99, r->kl.max);
		bl_cli_line(c, "top-1 agreement %.2f %% +- %.2f of %lld tokens", 100 * r->kl.top1, 100 * r->kl.top1_stderr, (long long)r->kl.tokens);
	}
	if (r->has_plan && !quantized && e->score.origin != BL_UNKNOWN)
		bl_cli_wrapped(c, 8, "score   ~%.3f +- %.3f: performance %.3f +- %.3f (%s), time per token ~%.2fx (modelled, %s)", e->score.value, e->score.spread,
			       e->perf_ratio.value, e->perf_ratio.spread, bl_origin_name(e->perf_ratio.origin), e->time_ratio.value, s->target->title);
}

/* ---- the command ---- */

static struct bl_plan_estimate estimate_of(struct bl_session *s, const struct bl_eval_result *r)
{
	struct bl_plan_estimate e = *bl_session_estimate(s);
	struct bl_quality q = {.has_mcq = r->has_mcq, .base_acc = r->base_mcq.acc, .plan_acc = r->plan_mcq.acc, .flips = r->plan_mcq.flips, .n = r->plan_mcq.n,
			       .kl = BL_QUANTITY_UNKNOWN("nat")};

	if (r->has_kl)
		q.kl = (struct bl_quantity){r->kl.mean, r->kl.stderr_, BL_MEASURED, "nat", "evaluation"};
	bl_estimate_quality(&e, &q);
	return e;
}

static enum bl_status request(struct evaluate_work *w, const struct bl_cli *c, const char **data, struct bl_err *err)
{
	const struct bl_options *o = &c->o;
	long long windows, seqlen, items, samples;
	bool transformers;

	int n;

	if (bl_option_data(o, data, &n, err))
		return err->status;
	w->rq.n_data = (size_t)n;
	if (bl_option_int(o, BL_OPT_WINDOWS, 1, 1ll << 40, 0, &windows, err) || bl_option_int(o, BL_OPT_SEQLEN, 2, 1 << 20, BL_EVAL_SEQLEN, &seqlen, err) ||
	    bl_option_int(o, BL_OPT_ITEMS, 1, 1ll << 40, 0, &items, err) || bl_option_int(o, BL_OPT_SAMPLES, 1, 1ll << 40, 512, &samples, err) ||
	    bl_cli_size(o, BL_OPT_MEMORY_LIMIT, 1, &w->rq.eval.memory_limit, err) || bl_cli_arithmetic(c, &transformers, err))
		return err->status;
	w->rq.eval.arithmetic = transformers ? BL_ARITHMETIC_TRANSFORMERS : BL_ARITHMETIC_SERVER;
	w->rq.eval.ppl = (char *)(uintptr_t)o->value[BL_OPT_PPL];
	w->rq.eval.kl = (char *)(uintptr_t)o->value[BL_OPT_KL];
	w->rq.eval.mcq = (char *)(uintptr_t)o->value[BL_OPT_MCQ];
	w->rq.eval.windows = windows;
	w->rq.eval.seqlen = w->rq.seqlen = seqlen;
	w->rq.eval.items = items;
	w->rq.samples = samples;
	w->rq.device = bl_given(o, BL_OPT_DEVICE) ? o->value[BL_OPT_DEVICE] : "auto";
	w->rq.program_dir = c->program_dir;
	w->rq.data = data;
	w->rq.quantized = bl_given(o, BL_OPT_BASE) ? o->args[0] : NULL;
	if (!w->rq.eval.ppl && !w->rq.eval.kl && !w->rq.eval.mcq)
		return bl_fail(err, BL_USAGE, "nothing to measure: --ppl FILE, --kl FILE or --mcq FILE says on what");
	return BL_OK;
}

/* --dry-run: what would be measured, and what of the plan would be solved for it. */
static void look(struct bl_cli *c, const struct evaluate_work *w, struct bl_err *err)
{
	const struct { const char *what, *file; } asked[] = {{"ppl", w->rq.eval.ppl}, {"kl", w->rq.eval.kl}, {"mcq", w->rq.eval.mcq}};

	for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
		if (!asked[i].file)
			continue;
		if (!bl_is_file(asked[i].file)) {
			bl_fail(err, BL_NOT_FOUND, "--%s %s: no such file", asked[i].what, asked[i].file);
			return;
		}
		if (!c->json)
			bl_cli_wrapped(c, 8, "would measure %s on %s", asked[i].what, asked[i].file);
	}
	if (!w->rq.quantized)
		bl_cli_would_solve(c, w->s, NULL, 0);
	else if (c->json)
		cJSON_AddBoolToObject(c->json, "dry_run", true);
}

enum bl_status bl_cmd_evaluate(struct bl_cli *c, struct bl_err *err)
{
	const char *data[BL_MANY_MAX + 16];
	struct evaluate_work w = {.phase = NULL};

	if (request(&w, c, data, err) || bl_cli_open(c, &w.s, w.rq.quantized ? c->o.value[BL_OPT_BASE] : c->o.args[0], err))
		return err->status;
	if (bl_given(&c->o, BL_OPT_DRY_RUN)) {
		look(c, &w, err);
		bl_session_close(w.s);
		return err->status;
	}
	if (!w.rq.n_data)
		bl_free(bl_session_input_absmax(w.s)); /* a plan with static activations takes a stored calibration up */
	if ((w.rq.quantized || !bl_cli_solve(c, w.s, NULL, NULL, err)) && bl_cli_work(c, "evaluate", evaluate_work, &w, &w.progress, err) == BL_OK) {
		struct bl_plan_estimate e = estimate_of(w.s, &w.result);
		if (w.rq.eval.kl && !w.result.has_plan && !w.rq.eval.ppl && !w.rq.eval.mcq)
			bl_fail(err, BL_USAGE, "--kl: the plan changes nothing, so there is no distance to measure (--preset, --set or a plan file says what it changes)");
		else if (w.rq.eval.kl && !w.result.has_plan)
			bl_str_addf(&c->remarks, "--kl: the plan changes nothing, so there is no distance to measure\n");
		if (err->status)
			; /* nothing was measured */
		else if (c->json)
			result_json(c->json, &w.result, &e, w.rq.eval.arithmetic == BL_ARITHMETIC_TRANSFORMERS);
		else
			result_text(c, w.s, &w.result, &e, w.rq.quantized);
	}
	bl_session_close(w.s);
	return err->status;
}
