/* SPDX-License-Identifier: Apache-2.0
 * Data files as the model will see them, read once per request by a light job, and what a calibration of them will need. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/session/live.h"
#include "core/session/machine.h"
#include "core/text/dataset.h"

#define PREVIEW_BYTES 1200
#define REPORT_BYTES  (1u << 20)

struct bl_live_data *bl_live_data_ref(struct bl_live_data *d)
{
	atomic_fetch_add(&d->refs, 1);
	return d;
}

void bl_live_data_unref(struct bl_live_data *d)
{
	if (!d || atomic_fetch_sub(&d->refs, 1) > 1)
		return;
	bl_tokenizer_free(d->tokenizer);
	bl_free(d->ids);
	bl_free(d->report);
	bl_free(d);
}

/* Files by name, size and time; what the windows depend on beside them. */
void bl_live_data_key(char key[65], const struct bl_calib_request *r)
{
	struct bl_sha256 h;
	char line[128];

	bl_sha256_init(&h);
	for (int i = 0; i < r->n_files; i++) {
		struct stat st = {0};
		int missing = stat(r->files[i], &st);
		int n = snprintf(line, sizeof line, "%d %lld %lld.%ld", missing, (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
		bl_sha256_add(&h, r->files[i], strlen(r->files[i]) + 1);
		bl_sha256_add(&h, line, (size_t)n);
	}
	int n = snprintf(line, sizeof line, "%lld %lld %llu", (long long)r->samples, (long long)r->seqlen, (unsigned long long)r->seed);
	bl_sha256_add(&h, line, (size_t)n);
	bl_sha256_hex(&h, key);
}

/* ---- reading ---- */

/* Which windows are taken: in file order when all fit; else the first of a shuffled order (seed 0: of the files' own). */
static void pick(struct bl_live_data *d, const struct bl_windows *w, uint64_t seed, int64_t samples)
{
	int64_t *order = bl_xalloc((size_t)w->n + 1, sizeof *order);
	size_t bytes = (size_t)w->len * sizeof *d->ids;
	struct bl_rng rng;

	for (int64_t i = 0; i < w->n; i++)
		order[i] = i;
	bl_rng_seed(&rng, seed);
	for (int64_t i = 0; seed && w->n > samples && i < samples; i++) {
		int64_t j = i + (int64_t)(bl_rng_u64(&rng) % (uint64_t)(w->n - i)), t = order[i];
		order[i] = order[j];
		order[j] = t;
	}
	for (int64_t i = 0; i < d->windows; i++)
		memcpy(d->ids + i * w->len, w->ids + order[i] * w->len, bytes);
	bl_free(order);
}

static void count_rows(struct bl_live_data *d, const struct bl_dataset *set)
{
	struct bl_preflight *p = &d->seen;

	p->rows_read = set->read;
	p->rows_used = set->used;
	p->rows_dropped = set->dropped;
	p->rows_cut = set->cut;
	p->tokens = d->windows * d->len;
	p->windows = d->windows;
	p->n_files = (int)(set->n_files < 8 ? set->n_files : 8);
	for (int f = 0; f < p->n_files; f++) {
		const char *name = set->files[f];
		bl_printable(p->file[f].file, sizeof p->file[f].file, bl_path_base(name));
		for (size_t i = 0; i < set->n_rows; i++)
			if (set->rows[i].file == name) {
				p->file[f].rows++;
				if (!p->file[f].layout[0])
					snprintf(p->file[f].layout, sizeof p->file[f].layout, "%s", set->rows[i].layout);
			}
		for (size_t i = 0; i < set->n_drops; i++)
			if (set->drops[i].file == name && p->file[f].dropped++ == 0)
				bl_printable(p->file[f].why, sizeof p->file[f].why, set->drops[i].why);
	}
}

static char *report_of(const struct bl_dataset *set)
{
	struct bl_str out = {0};

	for (size_t i = 0; i < set->n_drops && out.len < REPORT_BYTES; i++)
		bl_str_addf(&out, "%s:%lld: %s\n", bl_path_base(set->drops[i].file), (long long)set->drops[i].line, set->drops[i].why);
	if (set->dropped > (int64_t)set->n_drops)
		bl_str_addf(&out, "… and %lld more\n", (long long)(set->dropped - (int64_t)set->n_drops));
	return bl_str_take(&out);
}

/* What stands for characters that would move a line; NULL: shown as it is. */
static const char *mark_of(char c)
{
	return c == '\n' ? "⏎" : c == '\t' ? "⇥" : c == '\r' ? "␍" : c == '\0' ? "\\x00" : NULL;
}

/* The window as text, special tokens as they are written; characters that several tokens make up are put together first. */
static void pieces(struct bl_live_data *d, int64_t window, size_t limit, struct bl_str *out)
{
	struct bl_str raw = {0};
	struct bl_err err = BL_ERR_INIT;

	for (int64_t i = 0; i < d->len && raw.len < limit; i++)
		if (bl_tokenizer_decode(d->tokenizer, &d->ids[window * d->len + i], 1, false, &raw, &err))
			bl_tokenizer_piece(d->tokenizer, d->ids[window * d->len + i], &raw);
	for (size_t at = 0; at < raw.len;) {
		size_t n = 0;
		while (at + n < raw.len && !mark_of(raw.s[at + n]))
			n++;
		char *part = bl_xstrndup(raw.s + at, n), *shown = bl_xalloc(4 * n + 1, 1);
		bl_str_add(out, bl_printable(shown, 4 * n + 1, part));
		bl_free(shown);
		bl_free(part);
		at += n;
		if (at < raw.len)
			bl_str_add(out, mark_of(raw.s[at++]));
	}
	bl_str_free(&raw);
}

static void preview(struct bl_live_data *d)
{
	struct bl_str text = {0};

	if (d->windows > 0)
		pieces(d, 0, PREVIEW_BYTES, &text);
	bl_str_c(&text);
	while (text.len >= sizeof d->seen.preview || (text.len && !bl_utf8_valid(text.s, text.len)))
		text.s[--text.len] = '\0';
	memcpy(d->seen.preview, bl_str_c(&text), text.len + 1);
	bl_str_free(&text);
}

static void digest(struct bl_live_data *d)
{
	struct bl_sha256 h;

	bl_sha256_init(&h);
	bl_sha256_add(&h, &d->windows, sizeof d->windows);
	bl_sha256_add(&h, d->ids, (size_t)(d->windows * d->len) * sizeof *d->ids);
	bl_sha256_hex(&h, d->digest);
}

static enum bl_status fill(struct bl_live_data *d, const struct bl_dataset *set, const struct bl_calib_request *r, struct bl_err *err)
{
	struct bl_windows w;

	bl_dataset_windows(&w, set, r->seqlen, 0);
	if (w.n < 1)
		return bl_fail(err, BL_INVALID, "the data have %zu tokens, which do not fill one window of %lld: choose shorter windows or more data", set->ids.n,
			       (long long)r->seqlen);
	d->len = w.len;
	d->windows = w.n < r->samples ? w.n : r->samples;
	if (bl_try_alloc(&d->ids, (size_t)(d->windows * d->len), sizeof *d->ids, "the windows of the data", err))
		return err->status;
	pick(d, &w, r->seed, r->samples);
	count_rows(d, set);
	d->report = report_of(set);
	preview(d);
	digest(d);
	return BL_OK;
}

enum bl_status bl_live_data_load(struct bl_live_data **out, const struct bl_model *m, const struct bl_calib_request *r, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_live_data *d;
	struct bl_chat *chat = NULL;
	struct bl_dataset *set = NULL;
	struct bl_err no_chat = BL_ERR_INIT;
	struct bl_dataset_options o = {.max_tokens = r->seed ? 0 : r->samples * r->seqlen, .cancel = cancel};

	if (r->n_files < 1)
		return bl_fail(err, BL_USAGE, "no data file was given (.jsonl or .txt)");
	if (r->samples < 1 || r->seqlen < 2 || r->samples > (1 << 24) || r->seqlen > m->config.max_positions)
		return bl_fail(err, BL_USAGE, "%lld windows of %lld tokens: the model takes 2 to %lld tokens at once", (long long)r->samples, (long long)r->seqlen,
			       (long long)m->config.max_positions);
	d = bl_xalloc(1, sizeof *d);
	d->refs = 1;
	bl_live_data_key(d->key, r);
	bl_chat_open(&chat, m->dir, &no_chat);
	snprintf(d->template_name, sizeof d->template_name, "%s", chat ? bl_chat_name(chat) : "");
	if (bl_tokenizer_open(&d->tokenizer, m->dir, err) == BL_OK &&
	    bl_dataset_load(&set, (const char *const *)r->files, (size_t)r->n_files, d->tokenizer, chat, chat ? NULL : no_chat.text, &o, err) == BL_OK)
		fill(d, set, r, err);
	bl_dataset_free(set);
	bl_chat_free(chat);
	if (err->status) {
		bl_live_data_unref(d);
		return err->status;
	}
	*out = d;
	return BL_OK;
}

/* ---- in the background ---- */

struct data_job { struct bl_session *s; struct bl_calib_request rq; char key[65]; };

static enum bl_status data_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct data_job *d = ctx;
	struct bl_live *l = d->s->priv->live;
	struct bl_err why = BL_ERR_INIT;
	struct bl_live_data *data = NULL;

	bl_live_data_load(&data, d->s->model, &d->rq, bl_job_cancel_flag(j), &why);
	if (why.status == BL_CANCELLED)
		return bl_fail(err, BL_CANCELLED, "%s", why.text);
	pthread_mutex_lock(&l->lock);
	struct bl_live_data *old = NULL;
	if (data) {
		old = l->data;
		l->data = data;
	} else {
		memcpy(l->data_failed, d->key, sizeof l->data_failed);
		snprintf(l->data_why, sizeof l->data_why, "%.199s", why.text);
	}
	pthread_mutex_unlock(&l->lock);
	bl_live_data_unref(old);
	return BL_OK;
}

static void data_drop(void *ctx)
{
	struct data_job *d = ctx;

	bl_calib_request_free(&d->rq);
	bl_free(d);
}

static void start(struct bl_session *s, const struct bl_calib_request *rq, const char *key)
{
	static const struct bl_job_ops ops = {.name = "reading data", .lane = BL_LANE_LIGHT, .run = data_run, .drop = data_drop, .quiet = true};
	struct bl_live *l = s->priv->live;

	if (!bl_session_job_over(s, l->data_job)) {
		if (!strcmp(l->data_wanted, key))
			return;
		bl_jobs_cancel(s->jobs, l->data_job); /* another request by now */
	}
	struct data_job *d = bl_xalloc(1, sizeof *d);
	d->s = s;
	bl_calib_request_copy(&d->rq, rq);
	memcpy(d->key, key, sizeof d->key);
	memcpy(l->data_wanted, key, sizeof l->data_wanted);
	l->data_job = bl_jobs_add(s->jobs, &ops, d, NULL);
}

/* ---- preflight ---- */

/* Speed of a bare forward, tokens times parameters per second: what is usual on such devices. */
#define FLOPS_CPU  5e10
#define FLOPS_CUDA 3e14

static int64_t batch_of(const struct bl_live_data *d, int64_t most)
{
	int64_t tokens = d->windows * d->len;

	return tokens < most ? tokens : most > d->len ? most : d->len;
}

static void needs(struct bl_session *s, const struct bl_calib_request *r, const struct bl_live_data *d, struct bl_preflight *p)
{
	struct bl_live *l = s->priv->live;
	const struct bl_model *m = s->model;
	struct bl_calib_data data = {d->ids, d->windows, d->len, d->digest};
	struct bl_device_view dev;
	uint64_t total, device = 0, host = 0, least = 0, best = 0, host2 = 0, weights = m->bytes;
	char key[65];

	bl_session_device(s, &dev);
	struct bl_calib_options o = {.hessians = r->hessians, .keep_windows = r->block_inputs ? r->keep_windows : 0, .device = dev.cuda ? "cuda" : "cpu"};
	bl_calib_need(m, &o, &least, &best, &host2);
	bl_ram_look(&total, &p->ram_free);
	if (r->ram_limit && r->ram_limit < p->ram_free)
		p->ram_free = r->ram_limit;
	p->disk_need = bl_calib_disk_bytes(m, &data, &o);
	p->disk_free = bl_free_bytes(l->cache_dir);
	uint64_t free_bytes = dev.cuda ? (uint64_t)((dev.total_gib - dev.used_gib) * (1ull << 30)) : p->ram_free;
	uint64_t limit = r->memory_limit ? r->memory_limit : l->memory_limit;
	p->gpu_free = limit && limit < free_bytes ? limit : free_bytes;
	p->batch_tokens = batch_of(d, dev.cuda ? 32768 : 16384);
	bl_forward_need(m, false, p->tokens, p->batch_tokens, &device, &host);
	p->streams_weights = dev.cuda && weights + best + device + host > p->gpu_free;
	weights = p->streams_weights ? 2 * (weights / (uint64_t)(m->config.layers + 1)) : weights;
	for (int64_t most = 16384; dev.cuda && most > 2048 && weights + best + device + host > p->gpu_free; most /= 2) {
		p->batch_tokens = batch_of(d, most);
		bl_forward_need(m, false, p->tokens, p->batch_tokens, &device, &host);
		p->offloads_hidden = most < 8192;
		host = p->offloads_hidden ? 0 : host;
	}
	p->gpu_need = weights + best + device + (p->offloads_hidden ? 0 : host);
	bl_forward_need(m, false, p->tokens, p->batch_tokens, &device, &host);
	p->spills_hidden = r->ram_limit && (p->offloads_hidden || !dev.cuda) && host + host2 > r->ram_limit;
	p->ram_need = host2 + (p->offloads_hidden && !p->spills_hidden ? host : 0);
	if (!dev.cuda) { /* one memory */
		p->ram_need += p->gpu_need - (p->spills_hidden ? host : 0);
		p->gpu_need = p->gpu_free = 0;
	}
	bl_calib_key(key, m, &data, &o);
	p->reuse_from_block = bl_calib_stored(m, l->cache_dir, key, &p->complete);
	double share = p->complete ? 0 : 1 - (double)p->reuse_from_block / (double)m->config.layers;
	double seconds = share * 2 * (double)m->parameters * (double)p->tokens * (r->hessians ? 1.5 : 1.1) / (dev.cuda ? FLOPS_CUDA : FLOPS_CPU);
	p->seconds = (struct bl_quantity){.value = seconds, .spread = seconds, .origin = BL_MODELLED, .unit = "s", .from = "operations over a usual speed"};
	if (p->disk_need > p->disk_free && !p->complete) {
		p->known = BL_KNOWN_REFUSED;
		snprintf(p->why, sizeof p->why, "the calibration needs %.1f GB of disk in %.80s and %.1f GB are free: fewer samples kept, or another --cache",
			 (double)p->disk_need / 1e9, l->cache_dir, (double)p->disk_free / 1e9);
	}
}

static void preflight_key(char key[65], const char *data, const struct bl_calib_request *r)
{
	char text[200];
	int n = snprintf(text, sizeof text, "%s %d %d %lld %llu %llu", data, r->hessians, r->block_inputs, (long long)r->keep_windows,
			 (unsigned long long)r->memory_limit, (unsigned long long)r->ram_limit);

	bl_sha256_of(text, (size_t)n, key);
}

const struct bl_preflight *bl_session_preflight(struct bl_session *s, const struct bl_calib_request *rq)
{
	struct bl_live *l = s->priv->live;
	struct bl_preflight *p = &l->preflight;
	struct bl_live_data *d = NULL;
	struct bl_calib_request r;
	char key[65], all[65];

	bl_calib_request_copy(&r, rq);
	bl_live_data_key(key, &r);
	preflight_key(all, key, &r);
	pthread_mutex_lock(&l->lock);
	if (l->data && !strcmp(l->data->key, key))
		d = bl_live_data_ref(l->data);
	bool failed = !d && !strcmp(l->data_failed, key);
	if (failed)
		*p = (struct bl_preflight){.known = BL_KNOWN_REFUSED};
	if (failed)
		memcpy(p->why, l->data_why, sizeof p->why);
	pthread_mutex_unlock(&l->lock);
	if (d && strcmp(l->preflight_key, all) != 0) {
		*p = d->seen;
		p->known = BL_KNOWN_YES;
		p->template_name = d->template_name[0] ? d->template_name : NULL;
		needs(s, &r, d, p);
		memcpy(l->preflight_key, all, sizeof all);
	} else if (!d) {
		l->preflight_key[0] = '\0';
		if (!failed) {
			*p = (struct bl_preflight){.known = BL_KNOWN_COMPUTING};
			start(s, &r, key);
		}
	}
	bl_live_data_unref(d);
	bl_calib_request_free(&r);
	return p;
}

void bl_session_data_report(struct bl_session *s, struct bl_str *out)
{
	struct bl_live *l = s->priv->live;

	pthread_mutex_lock(&l->lock);
	if (l->data && l->data->report)
		bl_str_add(out, l->data->report);
	pthread_mutex_unlock(&l->lock);
}

void bl_session_data_preview(struct bl_session *s, int64_t window, struct bl_str *out)
{
	struct bl_live *l = s->priv->live;
	struct bl_live_data *d = NULL;

	pthread_mutex_lock(&l->lock);
	if (l->data && window >= 0 && window < l->data->windows)
		d = bl_live_data_ref(l->data);
	pthread_mutex_unlock(&l->lock);
	if (d)
		pieces(d, window, SIZE_MAX, out);
	bl_live_data_unref(d);
}
