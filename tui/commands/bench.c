/* SPDX-License-Identifier: Apache-2.0
 * bench: check what can be checked, then measure, and print each with its baseline. */
#include "tui/commands/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/bench/device.h"
#include "core/bench/model.h"
#include "core/session/machine.h"

static const char *const names[] = {"read", "stats", "export-folder", "export-zip", "frame", "keys", "keys-calibrate", "kernels", "tokenizer", "cuda", "forward", "hessian",
				    "live-error", "live-kl"};

/* ---- rows ---- */

enum bl_status bl_bench_report(struct bench *b, const struct bl_bench_row *r, struct bl_err *err)
{
	double job = bl_bench_median(&r->job), base = bl_bench_median(&r->baseline), ratio = base > 0 ? job / base : 0;
	char bytes[32];

	if (b->list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", r->name);
		bl_json_add_int(e, "bytes", (int64_t)r->bytes);
		cJSON_AddNumberToObject(e, "seconds", job);
		cJSON_AddNumberToObject(e, "seconds_min", bl_bench_min(&r->job));
		cJSON_AddNumberToObject(e, "seconds_max", bl_bench_max(&r->job));
		cJSON_AddStringToObject(e, "baseline", r->baseline_name);
		cJSON_AddNumberToObject(e, "baseline_seconds", base);
		cJSON_AddNumberToObject(e, "ratio", ratio);
		cJSON_AddNumberToObject(e, "goal", r->goal);
		bl_json_add_int(e, "anon_bytes", (int64_t)r->anon_bytes);
		cJSON_AddItemToArray(b->list, e);
		return BL_OK;
	}
	double speed = job > 0 ? (double)r->bytes / job : 0;
	bl_cli_line(b->c, "%-24s %8s  %8.4f s (%.4f .. %.4f)  %6.2f %s", r->name, bl_human_bytes(bytes, sizeof bytes, (double)r->bytes), job,
		    bl_bench_min(&r->job), bl_bench_max(&r->job), speed / (speed < 1e8 ? 1e6 : 1e9), speed < 1e8 ? "MB/s" : "GB/s");
	if (base > 0 && r->goal > 0)
		bl_cli_wrapped(b->c, 4, "    ratio %.2f, aim %.2f, to %.4f s: %s", ratio, r->goal, base, r->baseline_name);
	else if (base > 0)
		bl_cli_wrapped(b->c, 4, "    ratio %.2f to %.4f s: %s", ratio, base, r->baseline_name);
	if (r->anon_bytes)
		bl_cli_line(b->c, "    %s resident beyond mapped files at most", bl_human_bytes(bytes, sizeof bytes, (double)r->anon_bytes));
	return bl_cli_flush(b->c, err);
}

/* ---- the command ---- */

static bool named(const struct bl_cli *c, const char *name)
{
	for (int i = 0; i < c->o.n_args; i++)
		if (!strcmp(c->o.args[i], name))
			return true;
	return false;
}

static bool wanted(const struct bl_cli *c, const char *name)
{
	return !c->o.n_args || named(c, name);
}

static enum bl_status kernels(struct bench *b, struct bl_err *err)
{
	struct bl_bench_kernels *k;
	struct bl_bench_row r;

	if (bl_bench_kernels_new(&k, err))
		return err->status;
	if (!b->list)
		bl_cli_line(b->c, "kernels, one thread, %s; checked first", bl_bench_kernels_level());
	for (int i = 0; i < bl_bench_kernels_count() && !err->status; i++)
		if (bl_bench_kernel(&r, k, i, b->runs, &b->progress, err) == BL_OK)
			bl_bench_report(b, &r, err);
	bl_bench_kernels_free(k);
	return err->status;
}

/* One operation: its time, rates, and the share of what the device itself reached in the same run. */
static void device_row(void *ctx, const struct bl_bench_device_row *r)
{
	struct bench *b = ctx;
	double s = bl_bench_median(&r->times), share = s > 0 ? r->floor / s : 0;

	if (b->list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", r->name);
		cJSON_AddNumberToObject(e, "bytes", r->bytes);
		cJSON_AddNumberToObject(e, "flops", r->flops);
		cJSON_AddNumberToObject(e, "seconds", s);
		cJSON_AddNumberToObject(e, "seconds_min", bl_bench_min(&r->times));
		cJSON_AddNumberToObject(e, "seconds_max", bl_bench_max(&r->times));
		cJSON_AddNumberToObject(e, "floor_seconds", r->floor);
		cJSON_AddStringToObject(e, "floor", r->of_flops ? "flops" : "bytes");
		cJSON_AddNumberToObject(e, "share", share);
		cJSON_AddItemToArray(b->list, e);
		return;
	}
	bl_cli_line(b->c, "%-28s %9.1f us (%.1f .. %.1f)  %7.1f GB/s  %6.1f TFLOP/s  %5.1f %% of the %s floor", r->name, 1e6 * s, 1e6 * bl_bench_min(&r->times),
		    1e6 * bl_bench_max(&r->times), s > 0 ? r->bytes / s / 1e9 : 0, s > 0 ? r->flops / s / 1e12 : 0, 100 * share, r->of_flops ? "FLOP" : "byte");
}

static void device_name(void *ctx, const char *name)
{
	struct bench *b = ctx;

	if (b->list)
		cJSON_AddStringToObject(b->c->json, "device", name);
	else
		bl_cli_line(b->c, "cuda, %s; checked beside the CPU first", name);
}

/* Asked for by name it must be there; among all rows its absence is told. */
static enum bl_status cuda(struct bench *b, struct bl_err *err)
{
	struct bl_bench_device d = {.program_dir = b->c->program_dir, .runs = b->runs, .named = device_name, .row = device_row, .ctx = b};

	bl_bench_device(&d, &b->progress, err);
	if (err->status == BL_NO_DEVICE && !b->c->o.n_args) {
		if (!b->list)
			bl_cli_wrapped(b->c, 4, "cuda: skipped: %s", err->text);
		bl_err_clear(err);
	}
	return err->status;
}

static const char *flop_rate(char dst[32], double per_second)
{
	snprintf(dst, 32, per_second < 1e12 ? "%.1f GFLOP/s" : "%.1f TFLOP/s", per_second / (per_second < 1e12 ? 1e9 : 1e12));
	return dst;
}

static void model_device(void *ctx, const char *name, double peak)
{
	struct bench *b = ctx;
	char rate[32];

	if (!b->list)
		bl_cli_line(b->c, "the model on %s; a large product there, the peak: %s", name, flop_rate(rate, peak));
}

/* Of the whole model: the share of the device's own peak, or seconds, beside what is aimed at. */
static void model_row(void *ctx, const struct bl_bench_model_row *r)
{
	struct bench *b = ctx;
	double s = bl_bench_median(&r->times), floor = r->peak > 0 ? r->flops / r->peak : 0, share = s > 0 ? floor / s : 0;
	char rate[32];

	if (b->list) {
		cJSON *e = cJSON_CreateObject();
		cJSON_AddStringToObject(e, "name", r->name);
		cJSON_AddStringToObject(e, "what", r->what);
		cJSON_AddNumberToObject(e, "flops", r->flops);
		cJSON_AddNumberToObject(e, "peak", r->peak);
		cJSON_AddNumberToObject(e, "seconds", s);
		cJSON_AddNumberToObject(e, "seconds_min", bl_bench_min(&r->times));
		cJSON_AddNumberToObject(e, "seconds_max", bl_bench_max(&r->times));
		cJSON_AddNumberToObject(e, "floor_seconds", floor);
		cJSON_AddNumberToObject(e, "share", share);
		cJSON_AddNumberToObject(e, r->seconds ? "goal_seconds" : "goal_share", r->goal);
		cJSON_AddItemToArray(b->list, e);
		return;
	}
	if (r->seconds)
		bl_cli_line(b->c, "%-24s %8.1f ms (%.1f .. %.1f), aim %.0f ms, floor %.1f ms", r->name, 1e3 * s, 1e3 * bl_bench_min(&r->times), 1e3 * bl_bench_max(&r->times),
			    1e3 * r->goal, 1e3 * floor);
	else
		bl_cli_line(b->c, "%-24s %8.4f s (%.4f .. %.4f)  %s, %.1f %% of the peak, aim %.0f %%", r->name, s, bl_bench_min(&r->times),
			    bl_bench_max(&r->times), flop_rate(rate, s > 0 ? r->flops / s : 0), 100 * share, 100 * r->goal);
	bl_cli_wrapped(b->c, 4, "    %s", r->what);
}

/* By name alone: they take long where there is no GPU. */
static enum bl_status model(struct bench *b, struct bl_err *err)
{
	struct bl_cli *c = b->c;
	struct bl_bench_model m = {.program_dir = c->program_dir, .device = bl_given(&c->o, BL_OPT_DEVICE) ? c->o.value[BL_OPT_DEVICE] : NULL, .model = b->model,
				   .folder = b->home, .threads = c->session.threads, .runs = b->runs, .named = model_device, .row = model_row, .ctx = b};

	m.which = (named(c, "forward") ? BL_BENCH_FORWARD : 0) | (named(c, "hessian") ? BL_BENCH_HESSIAN : 0) | (named(c, "live-error") ? BL_BENCH_LIVE_ERROR : 0) |
		  (named(c, "live-kl") ? BL_BENCH_LIVE_KL : 0);
	return m.which ? bl_bench_model(&m, &b->progress, err) : BL_OK;
}

static enum bl_status run(void *ctx, struct bl_err *err)
{
	struct bench *b = ctx;
	struct bl_cli *c = b->c;
	struct bl_bench_row r;

	if (wanted(c, "read") && bl_bench_read(&r, b->s, b->runs, &b->progress, err) == BL_OK)
		bl_bench_report(b, &r, err);
	if (!err->status && wanted(c, "stats") && bl_bench_stats(&r, b->s, b->runs, &b->progress, err) == BL_OK)
		bl_bench_report(b, &r, err);
	for (int zip = 0; zip < 2 && !err->status; zip++)
		if (wanted(c, zip ? "export-zip" : "export-folder") && bl_bench_export(&r, b->s, b->folder, zip, b->runs, &b->progress, err) == BL_OK)
			bl_bench_report(b, &r, err);
	atomic_store(&b->progress.total_bytes, 0); /* nothing below has a bar */
	if (!err->status && wanted(c, "frame"))
		bl_bench_frame(b, err);
	if (!err->status && wanted(c, "keys") && bl_bench_keys_stats(b, err) == BL_OK)
		bl_bench_keys_export(b, err);
	if (!err->status && named(c, "keys-calibrate"))
		bl_bench_keys_calibrate(b, err);
	if (!err->status && wanted(c, "kernels"))
		kernels(b, err);
	if (!err->status && wanted(c, "cuda"))
		cuda(b, err);
	if (!err->status)
		model(b, err);
	if (!err->status && wanted(c, "tokenizer") &&
	    bl_bench_tokenizer(&r, b->s->model->dir, bl_given(&c->o, BL_OPT_TEXT) ? c->o.value[BL_OPT_TEXT] : NULL, b->runs, &b->progress, err) == BL_OK)
		bl_bench_report(b, &r, err);
	if (!err->status && bl_bench_stopped(b))
		bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
	return err->status;
}

/* The one that comes with the source, when the program stands where it was built. */
static char *demo_model(const struct bl_cli *c)
{
	char *path = bl_path_join(c->program_dir ? c->program_dir : ".", "../tests/models/tiny-exaone4");

	if (bl_is_dir(path))
		return path;
	bl_free(path);
	return NULL;
}

static void heading(struct bench *b)
{
	struct bl_cli *c = b->c;
	struct bl_machine machine;

	bl_machine_look(&machine, c->program_dir);
	if (c->json) {
		cJSON_AddStringToObject(c->json, "processor", machine.cpu);
		bl_json_add_int(c->json, "threads", bl_pool_threads(b->s->pool));
		cJSON_AddStringToObject(c->json, "gpu", machine.gpu);
		cJSON_AddStringToObject(c->json, "model", b->s->model->title);
		b->list = cJSON_AddArrayToObject(c->json, "rows");
	} else {
		bl_cli_wrapped(c, 2, "%s, %d threads; gpu: %s", machine.cpu, bl_pool_threads(b->s->pool), machine.gpu);
		bl_cli_wrapped(c, 2, "model %s, median of %d runs (least .. most)", b->s->model->title, b->runs);
	}
	bl_machine_free(&machine);
}

static enum bl_status check_names(const struct bl_cli *c, struct bl_err *err)
{
	for (int i = 0; i < c->o.n_args; i++) {
		size_t k = 0;
		while (k < sizeof names / sizeof names[0] && strcmp(names[k], c->o.args[i]))
			k++;
		if (k == sizeof names / sizeof names[0])
			return bl_fail(err, BL_USAGE, "bench %s: must be read, stats, export-folder, export-zip, frame, keys, keys-calibrate, kernels, tokenizer, cuda, forward, hessian, "
				       "live-error or live-kl (a checkpoint goes to --model)",
				       c->o.args[i]);
	}
	return BL_OK;
}

/* By name alone: what runs whole models. */
static bool only_named(const char *name)
{
	return !strcmp(name, "keys-calibrate") || !strcmp(name, "forward") || !strcmp(name, "hessian") || bl_starts_with(name, "live-");
}

static void dry(struct bl_cli *c, const char *model, int runs)
{
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "would_measure") : NULL;

	if (!list)
		bl_cli_wrapped(c, 2, "would measure %d times on %s:", runs, model ? model : "no model (--model)");
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (only_named(names[i]) ? !named(c, names[i]) : !wanted(c, names[i]))
			continue;
		if (list)
			cJSON_AddItemToArray(list, cJSON_CreateString(names[i]));
		else
			bl_cli_line(c, "  %s", names[i]);
	}
}

enum bl_status bl_cmd_bench(struct bl_cli *c, struct bl_err *err)
{
	char *demo = demo_model(c);
	struct bench b = {.c = c, .model = bl_given(&c->o, BL_OPT_MODEL) ? c->o.value[BL_OPT_MODEL] : demo,
			  .folder = bl_given(&c->o, BL_OPT_OUT) ? c->o.value[BL_OPT_OUT] : "."};
	const char *tmp = getenv("TMPDIR");
	long long runs;

	if (bl_given(&c->o, BL_OPT_TEXT) && !wanted(c, "tokenizer")) {
		bl_fail(err, BL_USAGE, "--text goes with bench tokenizer");
		goto done;
	}
	if (check_names(c, err) || bl_option_int(&c->o, BL_OPT_RUNS, 1, BL_BENCH_RUNS_MAX, 3, &runs, err))
		goto done;
	b.runs = (int)runs;
	if (bl_given(&c->o, BL_OPT_DRY_RUN)) {
		dry(c, b.model, b.runs);
		goto done;
	}
	if (!b.model) {
		bl_fail(err, BL_USAGE, "bench: --model says on what (the demo model is not beside this program)");
		goto done;
	}
	if (!bl_is_dir(b.folder)) {
		bl_fail(err, BL_NOT_FOUND, "--output %s: must be a folder to write in", b.folder);
		goto done;
	}
	if (bl_session_open(&b.s, b.model, &c->session, err))
		goto done;
	snprintf(b.home, sizeof b.home, "%s/bitlathe-bench-XXXXXX", tmp && *tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	if (!mkdtemp(b.home)) {
		bl_fail_sys(err, BL_IO, "%s: cannot be made", b.home);
		goto done;
	}
	heading(&b);
	if (bl_cli_flush(c, err) == BL_OK)
		bl_cli_work(c, "bench", run, &b, &b.progress, err);
	bl_remove_tree(b.home);
done:
	bl_session_close(b.s);
	bl_free(demo);
	return err->status;
}
