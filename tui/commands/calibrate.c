/* SPDX-License-Identifier: Apache-2.0
 * calibrate: run the model over data, keep what flows into its units. */
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/collect.h"
#include "core/session/machine.h"
#include "tui/cli.h"

struct calibrate_work {
	struct bl_model *m;
	struct bl_collect_request rq;
	struct bl_collect_result r;
	struct bl_progress progress;
	bool look;
	uint64_t resident; /* the most that was seen of it beyond mapped files */
	double settle_s; /* until it was on the disk, behind the run */
};

/* In tokens that are through the whole model. */
static void report(void *ctx, const struct bl_calib_progress *p)
{
	struct calibrate_work *w = ctx;
	double through = p->blocks > 0 ? ((double)p->block + (p->tokens > 0 ? (double)p->tokens_done / (double)p->tokens : 0)) / p->blocks : 0;

	uint64_t now = bl_resident_bytes();

	w->resident = now > w->resident ? now : w->resident;
	atomic_store(&w->progress.total_bytes, (uint64_t)p->tokens);
	atomic_store(&w->progress.done_bytes, (uint64_t)(through * (double)p->tokens));
}

static enum bl_status calibrate_work(void *ctx, struct bl_err *err)
{
	struct calibrate_work *w = ctx;

	if (!bl_collect(&w->r, w->m, &w->rq, w->look, report, w, err) && w->r.calib) {
		uint64_t start = bl_now_ns();
		bl_calib_settle(w->r.calib, err);
		w->settle_s = (double)(bl_now_ns() - start) / 1e9;
	}
	return err->status;
}

static enum bl_status request(struct calibrate_work *w, const struct bl_cli *c, const char **files, char *cache, struct bl_err *err)
{
	const struct bl_options *o = &c->o;
	long long samples, seqlen, keep;
	int n;

	if (bl_option_data(o, files, &n, err) || bl_option_int(o, BL_OPT_SAMPLES, 1, 1ll << 24, 512, &samples, err) || bl_option_int(o, BL_OPT_SEQLEN, 2, 1 << 24, 2048, &seqlen, err) ||
	    bl_option_int(o, BL_OPT_KEEP_WINDOWS, 0, 1 << 24, 16, &keep, err))
		return err->status;
	w->rq = (struct bl_collect_request){.files = files, .n_files = (size_t)n, .samples = samples, .seqlen = seqlen, .keep_windows = keep, .hessians = !bl_given(o, BL_OPT_NO_HESSIANS),
					    .threads = c->session.threads, .device = bl_given(o, BL_OPT_DEVICE) ? o->value[BL_OPT_DEVICE] : "auto",
					    .program_dir = c->program_dir, .cache_dir = cache, .cancel = &w->progress.cancel};
	w->look = bl_given(o, BL_OPT_DRY_RUN);
	if (bl_cli_size(o, BL_OPT_RAM_LIMIT, 1, &w->rq.ram_limit, err))
		return err->status;
	return bl_cli_size(o, BL_OPT_MEMORY_LIMIT, 1, &w->rq.memory_limit, err);
}

static void data_json(cJSON *o, const struct bl_collect_result *r)
{
	cJSON *s = cJSON_AddObjectToObject(o, "samples"), *why;

	bl_json_add_int(o, "tokens", r->tokens);
	bl_json_add_int(o, "windows", r->windows);
	bl_json_add_int(s, "read", r->read);
	bl_json_add_int(s, "used", r->used);
	bl_json_add_int(s, "dropped", r->dropped);
	bl_json_add_int(s, "truncated", r->cut);
	why = cJSON_AddArrayToObject(o, "dropped");
	for (size_t i = 0; i < r->n_why; i++)
		cJSON_AddItemToArray(why, cJSON_CreateString(r->why[i]));
	cJSON_AddStringToObject(o, "device", r->device);
	cJSON_AddStringToObject(o, "key", r->key);
	bl_json_add_int(o, "stored_blocks", r->stored);
	cJSON_AddBoolToObject(o, "stored", r->complete);
}

static void to_json(cJSON *o, const struct calibrate_work *w)
{
	const struct bl_collect_result *r = &w->r;

	data_json(o, r);
	if (r->calib) {
		struct bl_calib_seconds s = bl_calib_seconds(r->calib);
		cJSON *seconds = cJSON_AddObjectToObject(o, "seconds");
		cJSON_AddNumberToObject(seconds, "total", s.total);
		cJSON_AddNumberToObject(seconds, "forward", s.forward);
		cJSON_AddNumberToObject(seconds, "hessian", s.hessian);
		cJSON_AddNumberToObject(seconds, "io", s.io);
		cJSON_AddNumberToObject(seconds, "settle", w->settle_s);
		bl_json_add_int(o, "resident_bytes", (int64_t)w->resident);
		cJSON_AddStringToObject(o, "digest", bl_calib_digest(r->calib));
		cJSON_AddBoolToObject(o, "hessians", bl_calib_has_hessians(r->calib));
		bl_json_add_int(o, "kept_windows", bl_calib_kept_windows(r->calib));
	} else {
		cJSON *need = cJSON_AddObjectToObject(o, "needs");
		bl_json_add_int(need, "device_bytes", (int64_t)r->device_need);
		bl_json_add_int(need, "device_free", (int64_t)r->device_free);
		bl_json_add_int(need, "host_bytes", (int64_t)r->host_need);
		bl_json_add_int(need, "disk_bytes", (int64_t)r->disk_need);
		bl_json_add_int(need, "disk_free", (int64_t)r->disk_free);
	}
}

static void to_text(struct bl_cli *c, const struct calibrate_work *w)
{
	const struct bl_collect_result *r = &w->r;
	char a[16], b[16], d[16];

	bl_cli_line(c, "data    %lld rows read, %lld used, %lld dropped, %lld cut", (long long)r->read, (long long)r->used, (long long)r->dropped, (long long)r->cut);
	for (size_t i = 0; i < r->n_why && (c->verbose || i < 3); i++)
		bl_cli_wrapped(c, 8, "        %s", r->why[i]);
	bl_cli_line(c, "tokens  %lld x %lld = %lld", (long long)r->windows, (long long)w->rq.seqlen, (long long)r->tokens);
	bl_cli_line(c, "device  %s", r->device);
	if (!r->calib) {
		bl_cli_line(c, "needs   %s there beside weights (%s free), %s of host memory,", bl_human_bytes(a, sizeof a, (double)r->device_need),
			    bl_human_bytes(b, sizeof b, (double)r->device_free), bl_human_bytes(d, sizeof d, (double)r->host_need));
		bl_cli_line(c, "        %s of disk (%s free)", bl_human_bytes(a, sizeof a, (double)r->disk_need), bl_human_bytes(b, sizeof b, (double)r->disk_free));
	}
	if (r->complete)
		bl_cli_line(c, "stored  all of it, before this run");
	else if (r->stored)
		bl_cli_line(c, "stored  %d of %lld blocks, before this run", r->stored, (long long)w->m->config.layers);
	if (r->calib) {
		struct bl_calib_seconds s = bl_calib_seconds(r->calib);
		bl_cli_line(c, "seconds %.2f: forward %.2f, Hessians %.2f, files %.2f; then %.2f to the disk", s.total, s.forward, s.hessian, s.io,
			    w->settle_s);
		bl_cli_line(c, "memory  %s of the host's beyond mapped files at most", bl_human_bytes(a, sizeof a, (double)w->resident));
		bl_cli_line(c, "digest  %s", bl_calib_digest(r->calib));
	}
	bl_cli_line(c, "key     %s", r->key);
}

enum bl_status bl_cmd_calibrate(struct bl_cli *c, struct bl_err *err)
{
	const char *files[BL_MANY_MAX + 16];
	struct calibrate_work w = {.look = false};
	char *cache = bl_cli_cache(c);

	if (request(&w, c, files, cache, err) || bl_model_open(&w.m, c->o.args[0], err))
		goto done;
	if (bl_cli_work(c, "calibrate", calibrate_work, &w, &w.progress, err) == BL_OK) {
		if (c->json)
			to_json(c->json, &w);
		else
			to_text(c, &w);
	}
	bl_collect_free(&w.r);
	bl_model_close(w.m);
done:
	bl_free(cache);
	return err->status;
}
