/* SPDX-License-Identifier: Apache-2.0
 * Calibration from files to store, on a device that is opened for it. */
#include "core/session/collect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/text/dataset.h"

#define WHY_SHOWN 20
#define LOOK_BATCH 16384

struct collecting {
	const struct bl_model *m;
	const struct bl_collect_request *rq;
	struct bl_collect_result *r;
	struct bl_dataset *set;
	struct bl_calib_data data;
	struct bl_pool *pool;
	struct bl_backend backend;
	struct bl_engine engine;
	uint64_t host_bytes;
	bl_calib_report *report;
	void *ctx;
};

static void count(struct bl_collect_result *r, const struct bl_dataset *set)
{
	r->read = set->read;
	r->used = set->used;
	r->dropped = set->dropped;
	r->cut = set->cut;
	r->why = bl_xalloc(WHY_SHOWN, sizeof *r->why);
	for (size_t i = 0; i < set->n_drops && r->n_why < WHY_SHOWN; i++) {
		struct bl_str line = { 0 };

		bl_str_addf(&line, "%s:%" PRId64 ": %s", bl_path_base(set->drops[i].file), set->drops[i].line, set->drops[i].why);
		r->why[r->n_why++] = bl_str_take(&line);
	}
}

static enum bl_status read_data(struct collecting *c, struct bl_err *err)
{
	const struct bl_collect_request *rq = c->rq;
	struct bl_dataset_options o = { .max_tokens = rq->samples * rq->seqlen, .cancel = rq->cancel };
	struct bl_err no_chat = BL_ERR_INIT;
	struct bl_tokenizer *t = NULL;
	struct bl_chat *chat = NULL;
	struct bl_windows w;

	if (!rq->n_files)
		return bl_fail(err, BL_USAGE, "calibrate: --data FILE says on what (.jsonl or plain text)");
	if (rq->seqlen > c->m->config.max_positions)
		return bl_fail(err, BL_USAGE, "--seqlen %" PRId64 ": %s takes %" PRId64 " tokens at once", rq->seqlen, c->m->title, c->m->config.max_positions);
	if (bl_tokenizer_open(&t, c->m->dir, err))
		return err->status;
	bl_chat_open(&chat, c->m->dir, &no_chat); /* only rows of messages need it; they say what is wrong with it */
	if (!bl_dataset_load(&c->set, rq->files, rq->n_files, t, chat, chat ? NULL : no_chat.text, &o, err)) {
		count(c->r, c->set);
		bl_dataset_windows(&w, c->set, rq->seqlen, rq->samples);
		c->data = (struct bl_calib_data){ w.ids, w.n, w.len, c->set->digest };
		c->r->windows = w.n;
		c->r->tokens = w.n * w.len;
		if (w.n < 1)
			bl_fail(err, BL_INVALID, "the data have %zu tokens, less than one window of %" PRId64 ": give more of them or a smaller --seqlen",
				c->set->ids.n, rq->seqlen);
	}
	bl_chat_free(chat);
	bl_tokenizer_free(t);
	return err->status;
}

static enum bl_status open_device(struct collecting *c, struct bl_err *err)
{
	const struct bl_collect_request *rq = c->rq;
	struct bl_calib_options o = { .hessians = rq->hessians };
	struct bl_calib_bounds b;

	c->pool = bl_pool_new(rq->threads);
	bl_backend_open(&c->backend, rq->program_dir);
	if (bl_engine_open(&c->engine, &c->backend, rq->device, c->pool, rq->memory_limit, err) ||
	    bl_calib_bound(&b, c->m, &o, c->engine.cuda, rq->memory_limit, rq->ram_limit, err))
		return err->status;
	c->host_bytes = b.host_bytes;
	if (b.device_bytes != rq->memory_limit) { /* one memory */
		bl_engine_close(&c->engine);
		if (bl_engine_open(&c->engine, &c->backend, rq->device, c->pool, b.device_bytes, err))
			return err->status;
	}
	snprintf(c->r->device, sizeof c->r->device, "%s", c->engine.name);
	return BL_OK;
}

static void look_ahead(struct collecting *c, const struct bl_calib_options *o)
{
	struct bl_collect_result *r = c->r;
	int64_t batch = r->tokens < LOOK_BATCH ? r->tokens : c->data.len > LOOK_BATCH ? c->data.len : LOOK_BATCH;
	uint64_t least, best, host, device, hidden;

	bl_calib_key(r->key, c->m, &c->data, o);
	r->stored = bl_calib_stored(c->m, c->rq->cache_dir, r->key, &r->complete);
	bl_calib_need(c->m, o, &least, &best, &host);
	bl_forward_need(c->m, false, r->tokens, batch, &device, &hidden);
	r->device_need = best + device;
	r->device_free = bl_engine_available(&c->engine);
	r->host_need = host + hidden;
	r->disk_need = bl_calib_disk_bytes(c->m, &c->data, o);
	r->disk_free = bl_free_bytes(c->rq->cache_dir);
}

/* The name under which the workbench shows it. */
static void name(const struct collecting *c)
{
	const char *key = bl_calib_key_of(c->r->calib);
	char *path = bl_results_path(c->rq->cache_dir, key), title[160], old[160];
	struct bl_results *r = bl_results_open(path, key);

	bl_calib_name(title, c->rq->files, c->rq->n_files, c->r->windows, c->rq->seqlen);
	bl_results_title(r, old, sizeof old);
	if (strcmp(old, title) != 0)
		bl_results_set_title(r, title);
	bl_results_free(r);
	bl_free(path);
}

static enum bl_status run(struct collecting *c, const struct bl_calib_options *o, struct bl_err *err)
{
	struct bl_forward_options fo = { .cancel = c->rq->cancel, .host_bytes = c->host_bytes, .spill_dir = c->rq->cache_dir };
	struct bl_forward *f = NULL;

	if (!c->r->complete && !c->r->stored && c->r->disk_need > c->r->disk_free)
		return bl_fail(err, BL_NO_SPACE, "%s: the calibration takes %.1f GB and %.1f GB are free; --no-hessians and a smaller --keep-windows take less, --cache DIR is elsewhere",
			       c->rq->cache_dir, (double)c->r->disk_need / 1e9, (double)c->r->disk_free / 1e9);
	if (bl_forward_new(&f, c->m, &c->engine, &fo, err))
		return err->status;
	if (bl_calib_crowded(f, &c->data, o)) {
		bl_forward_free(f);
		fo.weight_bytes = 1;
		if (bl_forward_new(&f, c->m, &c->engine, &fo, err))
			return err->status;
	}
	bl_calib_run(&c->r->calib, f, &c->data, c->rq->cache_dir, o, c->report, NULL, c->ctx, err);
	bl_forward_free(f);
	if (!err->status)
		name(c);
	return err->status;
}

enum bl_status bl_collect(struct bl_collect_result *out, const struct bl_model *m, const struct bl_collect_request *rq, bool look, bl_calib_report *report, void *ctx,
			  struct bl_err *err)
{
	struct bl_collect_result r = { .calib = NULL };
	struct collecting c = { .m = m, .rq = rq, .r = &r, .report = report, .ctx = ctx };

	if (!read_data(&c, err) && !open_device(&c, err)) {
		struct bl_calib_options o = { .hessians = rq->hessians, .keep_windows = rq->keep_windows, .device = c.engine.cuda ? "cuda" : "cpu",
					      .cancel = rq->cancel };

		look_ahead(&c, &o);
		if (!look)
			run(&c, &o, err);
	}
	bl_dataset_free(c.set);
	bl_engine_close(&c.engine);
	if (c.pool)
		bl_backend_close(&c.backend);
	bl_pool_free(c.pool);
	if (err->status)
		bl_collect_free(&r);
	else
		*out = r;
	return err->status;
}

void bl_collect_free(struct bl_collect_result *r)
{
	for (size_t i = 0; i < r->n_why; i++)
		bl_free(r->why[i]);
	bl_free(r->why);
	bl_calib_free(r->calib);
	*r = (struct bl_collect_result){ .calib = NULL };
}
