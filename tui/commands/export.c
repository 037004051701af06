/* SPDX-License-Identifier: Apache-2.0
 * export and verify. */
#include <string.h>

#include "core/base/mem.h"
#include "core/base/file.h"
#include "core/session/run.h"
#include "core/transform/fold.h"
#include "tui/cli.h"

static void files_json(cJSON *j, const char *name, uint64_t bytes, const char *sha256)
{
	cJSON *e = cJSON_CreateObject();

	cJSON_AddStringToObject(e, "name", name);
	bl_json_add_int(e, "bytes", (int64_t)bytes);
	cJSON_AddStringToObject(e, "sha256", sha256);
	cJSON_AddItemToArray(j, e);
}

static void proof_json(cJSON *j, const struct bl_verify_result *r)
{
	cJSON *p = cJSON_AddObjectToObject(j, "proved"), *list;

	bl_json_add_int(p, "tensors", r->proved_tensors);
	cJSON_AddNumberToObject(p, "max_abs_error", r->max_abs_error);
	cJSON_AddNumberToObject(p, "max_step_error", r->max_step_error);
	cJSON_AddNumberToObject(p, "relative_error", r->relative_error);
	cJSON_AddNumberToObject(p, "coverage", r->coverage);
	if (r->pruned_elems) {
		bl_json_add_int(p, "pruned_weights", r->pruned_elems);
		bl_json_add_int(p, "zeros", r->zeros);
		cJSON_AddNumberToObject(p, "zero_share", (double)r->zeros / (double)r->pruned_elems);
	}
	cJSON_AddBoolToObject(p, "compared", r->compared);
	bl_json_add_int(j, "linears", r->linears);
	bl_json_add_int(j, "quantized_linears", r->quantized);
	list = cJSON_AddArrayToObject(j, "problems");
	for (int i = 0; i < r->n_findings; i++) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "where", r->findings[i].where);
		cJSON_AddStringToObject(e, "sentence", r->findings[i].sentence);
		cJSON_AddBoolToObject(e, "fatal", r->findings[i].fatal);
		cJSON_AddItemToArray(list, e);
	}
}

static void proof_text(struct bl_cli *c, const struct bl_verify_result *r)
{
	if (r->compared)
		bl_cli_wrapped(c, 8, "proof   %lld tensors compared with the source (%.2f %%): max |w-Q(w)| %.4g, %.2f steps, relative %.3f %%", (long long)r->proved_tensors,
			    100 * r->coverage, r->max_abs_error, r->max_step_error, 100 * r->relative_error);
	else
		bl_cli_wrapped(c, 8, "proof   container, completeness and codes; values were not compared (--base MODEL does)");
	if (r->pruned_elems)
		bl_cli_wrapped(c, 8, "zeros   %.2f %% of the weights of linears that were pruned; they are stored like the others", 100 * (double)r->zeros / (double)r->pruned_elems);
	for (int i = 0; i < r->n_findings; i++)
		bl_cli_wrapped(c, 4, "  %s %s: %s", r->findings[i].fatal ? "x" : "!", r->findings[i].where, r->findings[i].sentence);
}

static void config_text(struct bl_cli *c, const char *edits)
{
	for (size_t n; *edits; edits += n + (edits[n] == '\n')) {
		n = strcspn(edits, "\n");
		bl_cli_wrapped(c, 8, "config  %.*s", (int)n, edits);
	}
}

/* ---- export ---- */

struct export_work { struct bl_export_result result; struct bl_export_request rq; };

static enum bl_status export_work(void *ctx, struct bl_err *err)
{
	struct export_work *w = ctx;

	return bl_export_run(&w->result, &w->rq, err);
}

static void export_report(struct bl_cli *c, const struct export_work *w, bool dry)
{
	const struct bl_export_result *r = &w->result;
	char a[32];

	if (c->json) {
		cJSON *files = cJSON_AddArrayToObject(c->json, "files");
		cJSON_AddStringToObject(c->json, "output", w->rq.out);
		cJSON_AddStringToObject(c->json, "format", r->format);
		for (int i = 0; i < r->n_files; i++)
			files_json(files, r->files[i].name, r->files[i].bytes, r->files[i].sha256);
		bl_json_add_int(c->json, "bytes_total", (int64_t)r->bytes_total);
		bl_json_add_int(c->json, "package_bytes", (int64_t)r->package_bytes);
		bl_json_add_int(c->json, "tensors", r->tensors);
		cJSON_AddStringToObject(c->json, "config_edits", bl_str_c((struct bl_str *)&r->edits));
		if (!cJSON_HasObjectItem(c->json, "dry_run"))
			cJSON_AddBoolToObject(c->json, "dry_run", dry);
		proof_json(c->json, &r->proof);
		cJSON *s = cJSON_AddObjectToObject(c->json, "seconds");
		cJSON_AddNumberToObject(s, "write", r->seconds_write);
		cJSON_AddNumberToObject(s, "prove", r->seconds_prove);
		return;
	}
	bl_cli_wrapped(c, 2, "%s %s: %s, %lld tensors%s%s", dry ? "would write" : "wrote", w->rq.out, bl_human_bytes(a, sizeof a, (double)r->package_bytes),
		    (long long)r->tensors, *r->format ? ", " : "", r->format);
	for (int i = 0; i < r->n_files; i++)
		bl_cli_line(c, "  %-32s %12llu  %.16s", r->files[i].name, (unsigned long long)r->files[i].bytes, r->files[i].sha256);
	if (r->edits.len)
		config_text(c, r->edits.s);
	if (!dry) {
		proof_text(c, &r->proof);
		bl_cli_line(c, "time    write %.2f s, proof %.2f s", r->seconds_write, r->seconds_prove);
	}
}

enum bl_status bl_cli_export(struct bl_cli *c, struct bl_session *s, struct bl_err *err)
{
	struct bl_progress progress = {0};
	struct export_work w = {.result = {0}};
	const char *out = c->o.value[BL_OPT_OUT];
	bool dry = bl_given(&c->o, BL_OPT_DRY_RUN);
	uint64_t part = 0;

	if (bl_cli_size(&c->o, BL_OPT_PART_BYTES, BL_PART_LEAST, &part, err))
		return err->status;
	struct bl_solved **units = NULL;
	struct bl_fold *fold = NULL;
	bool taken = !dry && (bl_is_file(out) || bl_is_dir(out));
	w.rq = (struct bl_export_request){.model = s->model, .plan = s->plan, .registry = &s->registry, .target = s->target, .out = out,
					  .overwrite = dry ? bl_given(&c->o, BL_OPT_FORCE) : taken && bl_cli_may_replace(c, out), .ignore_rules = bl_given(&c->o, BL_OPT_IGNORE_RULES),
					  .part_bytes = part, .pool = s->pool, .progress = &progress, .seed = s->seed};
	float *absmax = dry || !bl_session_fold(s, &fold, err) ? bl_session_input_absmax(s) : NULL;
	w.rq.input_absmax = absmax;
	if (!dry && !err->status)
		w.rq.solved = units = bl_session_solved(s, err);
	w.rq.model = fold ? bl_fold_model(fold) : s->model;
	if (!err->status && !(dry ? bl_export_preview(&w.result, &w.rq, err) : bl_cli_work(c, "export", export_work, &w, &progress, err))) {
		export_report(c, &w, dry);
		bl_export_result_free(&w.result);
	}
	bl_session_solved_free(s, units);
	bl_fold_unref(fold);
	bl_free(absmax);
	return err->status;
}

enum bl_status bl_cmd_export(struct bl_cli *c, struct bl_err *err)
{
	struct bl_session *s;

	if (!bl_given(&c->o, BL_OPT_OUT))
		return bl_fail(err, BL_USAGE, "export: -o FOLDER or -o NAME.zip says where to");
	if (bl_cli_open(c, &s, c->o.args[0], err))
		return err->status;
	if (bl_given(&c->o, BL_OPT_DRY_RUN) || !bl_cli_solve(c, s, NULL, NULL, err))
		bl_cli_export(c, s, err);
	bl_session_close(s);
	return err->status;
}

/* ---- verify ---- */

struct verify_work { struct bl_verify_result result; struct bl_verify_request rq; };

static enum bl_status verify_work(void *ctx, struct bl_err *err)
{
	struct verify_work *w = ctx;

	return bl_verify_run(&w->result, &w->rq, err);
}

static void verify_report(struct bl_cli *c, const struct verify_work *w)
{
	const struct bl_verify_result *r = &w->result;
	char a[32];

	if (c->json) {
		cJSON *files = cJSON_AddArrayToObject(c->json, "files");
		for (int i = 0; i < r->n_files; i++)
			files_json(files, r->files[i].name, r->files[i].bytes, r->files[i].sha256);
		bl_json_add_int(c->json, "bytes_total", (int64_t)r->bytes_total);
		bl_json_add_int(c->json, "tensors", r->tensors);
		cJSON_AddStringToObject(c->json, "format", r->format);
		cJSON_AddBoolToObject(c->json, "ok", r->n_fatal == 0 && !r->undecoded);
		proof_json(c->json, r);
		return;
	}
	bl_cli_wrapped(c, 2, "%s: %s, %lld tensors, %lld of %lld linears quantized%s%s", w->rq.path, bl_human_bytes(a, sizeof a, (double)r->bytes_total),
		    (long long)r->tensors, (long long)r->quantized, (long long)r->linears, *r->format ? ", " : "", r->format);
	for (int i = 0; c->verbose && i < r->n_files; i++)
		bl_cli_line(c, "  %-32s %12llu  %s", r->files[i].name, (unsigned long long)r->files[i].bytes, r->files[i].sha256);
	proof_text(c, r);
	bl_cli_line(c, "%s", r->n_fatal || r->undecoded ? "NOT PROVED" : r->n_findings ? "proved, with remarks" : "proved");
}

/* A model, or a plan: then what its stages made of the weights is what was written. */
static enum bl_status open_base(struct bl_cli *c, struct bl_model **base, struct bl_session **plan, struct bl_fold **fold, struct bl_err *err)
{
	struct bl_err none = BL_ERR_INIT;
	const char *what = c->o.value[BL_OPT_BASE];

	if (!bl_plan_is_file(what))
		return bl_model_open(base, what, err);
	if (bl_session_open(plan, what, &c->session, err))
		return err->status;
	if (*bl_plan_stages((*plan)->plan))
		(void)bl_session_adopt_calib(*plan, NULL, &none);
	return bl_session_fold(*plan, fold, err);
}

enum bl_status bl_cmd_verify(struct bl_cli *c, struct bl_err *err)
{
	struct bl_progress progress = {0};
	struct verify_work w = {.result = {0}};
	struct bl_model *base = NULL;
	struct bl_session *plan = NULL;
	struct bl_fold *fold = NULL;
	const char *target = bl_given(&c->o, BL_OPT_TARGET) ? c->o.value[BL_OPT_TARGET] : c->session.new_target;
	int n;

	w.rq = (struct bl_verify_request){.path = c->o.args[0], .progress = &progress, .want_sha256 = true};
	if (target ? bl_target_find(&w.rq.target, target, err) : (w.rq.target = bl_target_rows(&n), BL_OK))
		return err->status;
	if (bl_given(&c->o, BL_OPT_BASE) && open_base(c, &base, &plan, &fold, err)) {
		bl_session_close(plan);
		return err->status;
	}
	w.rq.base = fold ? bl_fold_model(fold) : plan ? plan->model : base;
	w.rq.pool = bl_pool_new(c->session.threads);
	atomic_store(&progress.phase, 1);
	if (bl_cli_work(c, "verify", verify_work, &w, &progress, err) == BL_OK) {
		verify_report(c, &w);
		for (int i = 0; i < w.result.n_findings && !err->status; i++)
			if (w.result.findings[i].fatal)
				bl_fail(err, BL_MISMATCH, "%s: %s: %s", c->o.args[0], w.result.findings[i].where, w.result.findings[i].sentence);
		if (!err->status && w.result.undecoded)
			bl_fail(err, BL_UNSUPPORTED, "%s: %lld linears are stored in a form whose numbers are not read here (%s): nothing is proved of them", c->o.args[0],
				(long long)w.result.undecoded, w.result.format);
		bl_verify_result_free(&w.result);
	}
	bl_pool_free((struct bl_pool *)w.rq.pool);
	bl_fold_unref(fold);
	bl_session_close(plan);
	bl_model_close(base);
	return err->status;
}
