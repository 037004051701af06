/* SPDX-License-Identifier: Apache-2.0
 * forward: hidden states, logits and ranges of inputs of given token numbers, for comparison with other runtimes. generate: text. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/session/run_model.h"
#include "tui/cli.h"

static enum bl_status place(struct bl_run_place *at, const struct bl_cli *c, struct bl_progress *p, struct bl_err *err)
{
	bool transformers;

	if (bl_cli_arithmetic(c, &transformers, err))
		return err->status;
	*at = (struct bl_run_place){.device = bl_given(&c->o, BL_OPT_DEVICE) ? c->o.value[BL_OPT_DEVICE] : "auto", .program_dir = c->program_dir, .progress = p,
				    .arithmetic = transformers ? BL_ARITHMETIC_TRANSFORMERS : BL_ARITHMETIC_SERVER};
	return BL_OK;
}

static void arithmetic_json(cJSON *o, const struct bl_run_place *at)
{
	cJSON_AddStringToObject(o, "arithmetic", at->arithmetic == BL_ARITHMETIC_TRANSFORMERS ? "transformers" : "server");
}

struct forward_work { struct bl_session *s; struct bl_forward_request rq; struct bl_forward_report report; };

static enum bl_status forward_work(void *ctx, struct bl_err *err)
{
	struct forward_work *w = ctx;

	return bl_session_forward(w->s, &w->rq, &w->report, err);
}

/* "last:24" */
static enum bl_status last_of(const struct bl_options *o, int64_t *out, struct bl_err *err)
{
	const char *v = o->value[BL_OPT_LOGITS];
	char *end = NULL;
	long long n;

	*out = 0;
	if (!v || !strcmp(v, "all"))
		return BL_OK;
	n = strncmp(v, "last:", 5) ? 0 : strtoll(v + 5, &end, 10);
	if (n < 1 || !end || *end || n > 1 << 28)
		return bl_fail(err, BL_USAGE, "--logits: must be all or last:N, is %s", v);
	*out = n;
	return BL_OK;
}

enum bl_status bl_cmd_forward(struct bl_cli *c, struct bl_err *err)
{
	struct bl_progress progress = {0};
	struct forward_work w = {.s = NULL};

	w.rq = (struct bl_forward_request){.ids = c->o.value[BL_OPT_IDS], .out = c->o.value[BL_OPT_OUT],
					   .fp32 = bl_given(&c->o, BL_OPT_FP32)};
	if (!w.rq.ids || !w.rq.out)
		return bl_fail(err, BL_USAGE, "forward: --ids FILE.safetensors says what runs through, -o FILE.safetensors where results go");
	if (place(&w.rq.at, c, &progress, err) || last_of(&c->o, &w.rq.last, err))
		return err->status;
	if (bl_given(&c->o, BL_OPT_DRY_RUN) && !bl_is_file(w.rq.ids))
		return bl_fail(err, BL_NOT_FOUND, "--ids %s: no such file", w.rq.ids);
	if (!bl_given(&c->o, BL_OPT_DRY_RUN) && bl_is_file(w.rq.out) && !bl_cli_may_replace(c, w.rq.out))
		return bl_fail(err, BL_USAGE, "%s: is there already; --force replaces it", w.rq.out);
	if (bl_cli_open(c, &w.s, c->o.args[0], err))
		return err->status;
	if (bl_given(&c->o, BL_OPT_DRY_RUN)) {
		bl_cli_wrapped(c, 2, "would run %s through %s and write %s", w.rq.ids, w.s->model->title, w.rq.out);
		if (c->json)
			cJSON_AddBoolToObject(c->json, "dry_run", true);
	} else if (bl_cli_work(c, "forward", forward_work, &w, &progress, err) == BL_OK) {
		const struct bl_forward_report *r = &w.report;
		if (c->json) {
			cJSON_AddStringToObject(c->json, "output", w.rq.out);
			bl_json_add_int(c->json, "sequences", r->sequences);
			bl_json_add_int(c->json, "tokens", r->tokens);
			bl_json_add_int(c->json, "tensors", r->tensors);
			bl_json_add_int(c->json, "bytes", (int64_t)r->bytes);
			cJSON_AddNumberToObject(c->json, "seconds", r->seconds);
			cJSON_AddStringToObject(c->json, "device", r->device);
			arithmetic_json(c->json, &w.rq.at);
		} else {
			bl_cli_wrapped(c, 2, "wrote %s: %lld tensors of %lld tokens in %lld sequences, %.2f s on %s", w.rq.out, (long long)r->tensors,
				       (long long)r->tokens, (long long)r->sequences, r->seconds, r->device);
		}
	}
	bl_session_close(w.s);
	return err->status;
}

/* ---- generate ---- */

struct generate_work { struct bl_session *s; struct bl_text_request rq; struct bl_text_report report; };

static enum bl_status generate_work(void *ctx, struct bl_err *err)
{
	struct generate_work *w = ctx;

	return bl_session_generate(w->s, &w->rq, &w->report, err);
}

static enum bl_status number(const struct bl_options *o, enum bl_option k, double most, double fallback, double *out, struct bl_err *err)
{
	const char *v = o->value[k];
	char *end;

	*out = fallback;
	if (!v)
		return BL_OK;
	*out = strtod(v, &end);
	if (end == v || *end || !(*out >= 0 && *out <= most))
		return bl_fail(err, BL_USAGE, "--%s: must be a number in 0 .. %g, is %s", bl_option_row(k)->name, most, v);
	return BL_OK;
}

static void generate_report(struct bl_cli *c, const struct bl_run_place *at, const struct bl_text_report *r)
{
	if (c->json) {
		cJSON *list = cJSON_AddArrayToObject(c->json, "ids");
		for (int64_t i = 0; i < r->n; i++)
			cJSON_AddItemToArray(list, cJSON_CreateNumber(r->ids[i]));
		if (r->text)
			cJSON_AddStringToObject(c->json, "text", r->text);
		bl_json_add_int(c->json, "prompt_tokens", r->n_prompt);
		bl_json_add_int(c->json, "tokens", r->n);
		cJSON_AddNumberToObject(c->json, "seconds", r->seconds);
		cJSON_AddStringToObject(c->json, "device", r->device);
		arithmetic_json(c->json, at);
		return;
	}
	if (r->text) {
		bl_cli_line(c, "%s", r->text);
	} else {
		struct bl_str line = {0};
		for (int64_t i = 0; i < r->n; i++)
			bl_str_addf(&line, "%s%d", i ? " " : "", r->ids[i]);
		bl_cli_line(c, "%s", bl_str_c(&line));
		bl_str_free(&line);
	}
	bl_str_addf(&c->remarks, "%lld tokens after %lld of prompt, %.2f s on %s\n", (long long)r->n, (long long)r->n_prompt, r->seconds, r->device);
}

enum bl_status bl_cmd_generate(struct bl_cli *c, struct bl_err *err)
{
	struct bl_progress progress = {0};
	struct generate_work w = {.s = NULL};
	long long tokens;

	w.rq = (struct bl_text_request){.prompt = c->o.value[BL_OPT_PROMPT], .ids = c->o.value[BL_OPT_IDS],
					.fp32 = bl_given(&c->o, BL_OPT_FP32), .past_end = bl_given(&c->o, BL_OPT_PAST_END), .seed = (uint64_t)c->session.seed};
	if (!w.rq.prompt == !w.rq.ids)
		return bl_fail(err, BL_USAGE, "generate: --prompt TEXT or --ids FILE.safetensors says what it goes on from");
	if (place(&w.rq.at, c, &progress, err) || bl_option_int(&c->o, BL_OPT_TOKENS, 1, 1 << 20, 64, &tokens, err) || number(&c->o, BL_OPT_TEMPERATURE, 100, 0, &w.rq.temperature, err) ||
	    number(&c->o, BL_OPT_TOP_P, 1, 1, &w.rq.top_p, err))
		return err->status;
	w.rq.tokens = tokens;
	if (bl_cli_open(c, &w.s, c->o.args[0], err))
		return err->status;
	if (bl_cli_work(c, "generate", generate_work, &w, &progress, err) == BL_OK)
		generate_report(c, &w.rq.at, &w.report);
	bl_free(w.report.ids);
	bl_free(w.report.text);
	bl_session_close(w.s);
	return err->status;
}
