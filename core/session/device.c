/* SPDX-License-Identifier: Apache-2.0
 * Where the model runs: opened by the main lane when it first has to, watched by a thread of its own (asking a driver may take long), shown as a copy. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/backend/nvml.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/stored.h"

#define WATCH_S 1

/* ---- what there is ---- */

/* Opened once; the driver may take its time. */
static struct bl_backend *backend(struct bl_live *l)
{
	pthread_mutex_lock(&l->backend_lock);
	if (!l->backend_open)
		bl_backend_open(&l->backend, l->program_dir);
	l->backend_open = true;
	pthread_mutex_unlock(&l->backend_lock);
	return &l->backend;
}

static int wanted_ordinal(const char *device)
{
	int n = 0;

	return sscanf(device, "cuda:%d", &n) == 1 ? n : 0;
}

static void short_name(char dst[64], const char *name)
{
	const char *at = bl_starts_with(name, "NVIDIA ") ? name + 7 : name;

	bl_printable(dst, 64, at);
}

#define GIB ((double)(1ull << 30))

/* What the management library tells; what it does not tell stays. */
static void look_closer(const struct bl_nvml *nvml, int n, struct bl_device_view *v)
{
	struct bl_nvml_look k;

	if (!nvml || !bl_nvml_look(nvml, n, &k))
		return;
	if (k.has_memory) {
		v->used_gib = (double)k.used_bytes / GIB;
		v->total_gib = (double)k.total_bytes / GIB;
	}
	v->utilization = k.has_use ? k.use_percent : -1;
	v->temperature_c = k.has_temperature ? k.temperature : -1;
	v->power_w = k.has_power ? (int)(k.watts + 0.5) : -1;
	v->other_processes = k.has_others ? k.others : -1;
}

/* The device that is wanted, also before it is opened. */
static void look(const struct bl_backend *b, const struct bl_nvml *nvml, const char *device, struct bl_device_view *v)
{
	int n = wanted_ordinal(device);

	if (!strcmp(device, "cpu") || !b->cuda || n >= b->n_devices) {
		snprintf(v->name, sizeof v->name, "%s", "CPU");
		v->cuda = false;
		return;
	}
	short_name(v->name, b->devices[n].name);
	v->cuda = true;
	v->total_gib = (double)b->devices[n].total_bytes / GIB;
	if (!nvml)
		v->used_gib = v->total_gib - (double)b->devices[n].free_bytes / GIB;
	look_closer(nvml, n, v);
}

static void *watch(void *arg)
{
	struct bl_live *l = arg;
	struct bl_backend *b = backend(l);
	char why[200];
	struct bl_nvml *nvml = b->cuda ? bl_nvml_open(NULL, why, sizeof why) : NULL;

	if (b->cuda && !nvml)
		bl_log(BL_LOG_INFO, "the status line knows little of the GPU: %s", why);
	pthread_mutex_lock(&l->lock);
	while (!l->watch_stop) {
		char device[32];
		struct bl_device_view v = l->view;
		bool lost = l->lost;
		snprintf(device, sizeof device, "%s", l->device);
		pthread_mutex_unlock(&l->lock);
		if (!lost)
			look(b, nvml, device, &v);
		pthread_mutex_lock(&l->lock);
		bool changed = memcmp(&v, &l->view, sizeof v) != 0;
		if (!strcmp(device, l->device) && lost == l->lost)
			l->view = v;
		if (changed)
			bl_jobs_wake(l->s->jobs);
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += WATCH_S;
		while (!l->watch_stop && pthread_cond_timedwait(&l->watch_change, &l->lock, &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&l->lock);
	bl_nvml_close(nvml);
	return NULL;
}

void bl_session_device(struct bl_session *s, struct bl_device_view *out)
{
	struct bl_live *l = s->priv->live;

	pthread_mutex_lock(&l->lock);
	if (!l->has_watcher && !l->watch_stop && strcmp(l->device, "cpu") != 0)
		l->has_watcher = pthread_create(&l->watcher, NULL, watch, l) == 0;
	*out = l->view;
	out->lost = l->lost;
	pthread_mutex_unlock(&l->lock);
}

enum bl_status bl_session_set_device(struct bl_session *s, const char *device, struct bl_err *err)
{
	struct bl_live *l = s->priv->live;
	int n;
	char rest;

	if (strcmp(device, "auto") != 0 && strcmp(device, "cpu") != 0 && strcmp(device, "cuda") != 0 && sscanf(device, "cuda:%d%c", &n, &rest) != 1)
		return bl_fail(err, BL_USAGE, "\"%s\" is no device: auto, cpu, cuda, cuda:N", device);
	pthread_mutex_lock(&l->lock);
	bl_free(l->device);
	l->device = bl_xstrdup(device);
	l->device_wish++;
	l->lost = false;
	l->view = (struct bl_device_view){.utilization = -1, .temperature_c = -1, .power_w = -1, .other_processes = -1};
	if (!strcmp(device, "cpu"))
		snprintf(l->view.name, sizeof l->view.name, "%s", "CPU");
	pthread_mutex_unlock(&l->lock);
	bl_live_ask_again(l); /* what could not be had there */
	return BL_OK;
}

/* ---- the main lane ---- */

void bl_live_drop_forward(struct bl_live *l)
{
	bl_live_states_free(l);
	bl_live_hessians_free(l);
	bl_forward_free(l->forward);
	l->forward = NULL;
}

static void drop_engine(struct bl_live *l)
{
	bl_live_drop_forward(l);
	if (l->engine_open)
		bl_engine_close(&l->engine);
	l->engine_open = false;
}

static enum bl_status open_engine(struct bl_live *l, uint64_t limit, struct bl_err *err)
{
	char device[32];
	uint64_t wish;

	pthread_mutex_lock(&l->lock);
	bool lost = l->lost;
	snprintf(device, sizeof device, "%s", l->device);
	wish = l->device_wish;
	pthread_mutex_unlock(&l->lock);
	if (lost)
		return bl_fail(err, BL_NO_DEVICE, "the GPU was lost: go on with the processor (device cpu), or choose the GPU again");
	if (l->engine_open && (l->engine_wish != wish || l->engine_limit != limit))
		drop_engine(l);
	if (l->engine_open)
		return BL_OK;
	if (bl_engine_open(&l->engine, backend(l), device, l->s->pool, limit, err))
		return err->status;
	l->engine_open = true;
	l->engine_wish = wish;
	l->engine_limit = limit;
	pthread_mutex_lock(&l->lock);
	if (wish == l->device_wish) {
		l->view.cuda = l->engine.cuda;
		if (l->engine.cuda)
			short_name(l->view.name, l->engine.name);
		else
			snprintf(l->view.name, sizeof l->view.name, "%s", "CPU");
	}
	pthread_mutex_unlock(&l->lock);
	bl_log(BL_LOG_INFO, "the model runs on %s", l->engine.name);
	return BL_OK;
}

bool bl_live_engine(struct bl_live *l, uint64_t limit, struct bl_err *err) { return open_engine(l, limit ? limit : l->memory_limit, err) == BL_OK; }

struct bl_forward *bl_live_forward(struct bl_live *l, uint64_t limit, struct bl_err *err)
{
	struct bl_forward_options o = {.batch_tokens = l->batch_tokens, .weight_bytes = l->weight_bytes, .host_bytes = l->host_bytes,
				       .spill_dir = l->cache_dir, .cancel = &l->cancel};

	atomic_store(&l->cancel, 0);
	if (open_engine(l, limit ? limit : l->memory_limit, err))
		return NULL;
	if (!l->forward && (bl_session_stored(l->s, &o.own, err) || bl_forward_new(&l->forward, l->s->model, &l->engine, &o, err))) {
		l->forward = NULL;
		return NULL;
	}
	return l->forward;
}

void bl_live_relax(struct bl_live *l)
{
	if (l->batch_tokens || l->weight_bytes || l->host_bytes)
		bl_live_drop_forward(l);
	l->batch_tokens = 0;
	l->host_bytes = 0;
	l->weight_bytes = 0;
}

#define FIRST_SMALLER 16384 /* tokens of a batch after the first failure */

bool bl_live_failed(struct bl_live *l, int64_t longest, struct bl_err *err)
{
	if (err->status == BL_NO_DEVICE && l->engine_open && l->engine.cuda) {
		drop_engine(l);
		pthread_mutex_lock(&l->lock);
		l->lost = true;
		pthread_mutex_unlock(&l->lock);
		bl_err_prefix(err, "the GPU was lost (what is stored stays; device cpu goes on with the processor)");
		return false;
	}
	if (err->status != BL_NO_MEMORY || !l->engine_open)
		return false;
	longest = longest > 0 ? longest : 1;
	if (!l->weight_bytes || !l->batch_tokens) {
		l->weight_bytes = 1; /* one block at a time */
		l->batch_tokens = FIRST_SMALLER > longest ? FIRST_SMALLER : longest;
	} else if (l->batch_tokens > longest) {
		l->batch_tokens = l->batch_tokens / 4 > longest ? l->batch_tokens / 4 : longest;
	} else {
		return false;
	}
	bl_log(BL_LOG_WARN, "%s: going on with batches of %lld tokens and weights brought in block by block", err->text, (long long)l->batch_tokens);
	bl_live_drop_forward(l);
	bl_err_clear(err);
	return true;
}

void bl_live_unwatch(struct bl_live *l)
{
	pthread_mutex_lock(&l->lock);
	l->watch_stop = true;
	pthread_cond_broadcast(&l->watch_change);
	pthread_mutex_unlock(&l->lock);
	if (l->has_watcher)
		pthread_join(l->watcher, NULL);
	l->has_watcher = false;
}

void bl_live_device_close(struct bl_live *l)
{
	bl_live_unwatch(l);
	drop_engine(l);
	if (l->backend_open)
		bl_backend_close(&l->backend);
}
