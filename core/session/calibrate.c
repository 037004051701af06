/* SPDX-License-Identifier: Apache-2.0
 * Calibration as a job: what units see appears while it runs; what it ends with becomes the session's. Stored ones are taken up again. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/live.h"

/* ---- inputs of units ---- */

static void *copy(const void *p, size_t bytes)
{
	void *to = p ? bl_xalloc(1, bytes ? bytes : 1) : NULL;

	if (to)
		memcpy(to, p, bytes);
	return to;
}

struct bl_input_stats *bl_live_input_copy(const struct bl_input_stats *s)
{
	struct bl_input_stats *c = copy(s, sizeof *s);
	size_t n = (size_t)s->cols;

	c->channel_absmax = copy(s->channel_absmax, n * sizeof *s->channel_absmax);
	c->channel_mean = copy(s->channel_mean, n * sizeof *s->channel_mean);
	c->channel_rms = copy(s->channel_rms, n * sizeof *s->channel_rms);
	return c;
}

void bl_live_input_free(struct bl_input_stats *s)
{
	if (!s)
		return;
	bl_free(s->channel_absmax);
	bl_free(s->channel_mean);
	bl_free(s->channel_rms);
	bl_free(s);
}

void bl_live_input_store(struct bl_live *l, int unit, const struct bl_input_stats *s)
{
	struct bl_input_stats *old = atomic_exchange(&l->inputs[unit], s ? bl_live_input_copy(s) : NULL);

	if (!old)
		return;
	pthread_mutex_lock(&l->lock); /* the screen may be reading it */
	bl_xgrow(&l->old_inputs, &l->cap_old, l->n_old + 1);
	l->old_inputs[l->n_old++] = old;
	pthread_mutex_unlock(&l->lock);
}

const struct bl_input_stats *bl_session_input(const struct bl_session *s, int unit)
{
	return bl_live_staged_input(s->priv->live, unit, atomic_load(&s->priv->live->inputs[unit]));
}

/* ---- in use ---- */

/* use_lock is held. */
static void use(struct bl_live *l, struct bl_live_calib *c)
{
	for (int i = 0; i < l->s->model->n_units; i++) {
		const struct bl_input_stats *s = bl_calib_stats(c->c, i);
		const struct bl_input_stats *now = atomic_load(&l->inputs[i]);
		if (!s || !now || now->tokens != s->tokens || now->absmax != s->absmax || now->rms != s->rms)
			bl_live_input_store(l, i, s);
	}
	pthread_mutex_lock(&l->lock);
	struct bl_live_calib *old = l->calib;
	l->calib = c;
	l->running_title[0] = '\0';
	l->effect_failed[0] = '\0';
	pthread_mutex_unlock(&l->lock);
	bl_live_calib_unref(old);
	bl_jobs_wake(l->s->jobs);
}

void bl_live_use_calib(struct bl_live *l, struct bl_live_calib *c)
{
	pthread_mutex_lock(&l->use_lock);
	use(l, c);
	pthread_mutex_unlock(&l->use_lock);
}

static struct bl_live_calib *wrap(struct bl_live *l, struct bl_calib *c, const char *title)
{
	struct bl_live_calib *w = bl_xalloc(1, sizeof *w);
	char *path = bl_results_path(l->cache_dir, bl_calib_key_of(c));

	w->refs = 1;
	w->c = c;
	w->results = bl_results_open(path, bl_calib_key_of(c));
	if (title)
		bl_results_set_title(w->results, title);
	bl_results_title(w->results, w->title, sizeof w->title);
	if (!w->title[0])
		snprintf(w->title, sizeof w->title, "%lld×%lld", (long long)(bl_calib_tokens(c) / (bl_calib_window(c) > 0 ? bl_calib_window(c) : 1)),
			 (long long)bl_calib_window(c));
	bl_free(path);
	return w;
}

const char *bl_session_calib_title(const struct bl_session *s)
{
	struct bl_live *l = s->priv->live;

	bl_session_calib(s);
	pthread_mutex_lock(&l->lock);
	snprintf(l->title_shown, sizeof l->title_shown, "%s", l->running_title[0] ? l->running_title : l->calib_shown ? l->calib_shown->title : "");
	pthread_mutex_unlock(&l->lock);
	return l->title_shown;
}

/* ---- taking up a stored one ---- */

static enum bl_status open_stored(struct bl_live *l, const char *key, struct bl_live_calib **out, struct bl_err *err)
{
	struct bl_calib *c;

	if (bl_calib_open(&c, l->s->model, l->cache_dir, key, err))
		return err->status;
	*out = wrap(l, c, NULL);
	return BL_OK;
}

static enum bl_status adopt(struct bl_live *l, const char *key, bool keep_other, struct bl_err *err)
{
	struct bl_live_calib *c = NULL;
	char newest[65];

	if (!key && bl_calib_find(newest, l->s->model, l->cache_dir, err))
		return err->status;
	if (open_stored(l, key ? key : newest, &c, err))
		return err->status;
	pthread_mutex_lock(&l->use_lock);
	pthread_mutex_lock(&l->lock);
	bool other = keep_other && (l->calib || l->running_title[0]);
	pthread_mutex_unlock(&l->lock);
	if (other)
		bl_live_calib_unref(c);
	else
		use(l, c);
	pthread_mutex_unlock(&l->use_lock);
	return BL_OK;
}

enum bl_status bl_live_take_up(struct bl_live *l, const char *key, struct bl_err *err) { return adopt(l, key, false, err); }

enum bl_status bl_session_adopt_calib(struct bl_session *s, const char *key, struct bl_err *err)
{
	const struct bl_calib *have = bl_session_calib(s);

	if (have && (!key || !strcmp(bl_calib_key_of(have), key)))
		return BL_OK;
	return adopt(s->priv->live, key, false, err);
}

static enum bl_status adopt_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct bl_session *s = ctx;
	struct bl_err ignored = BL_ERR_INIT;

	(void)j;
	(void)err;
	adopt(s->priv->live, NULL, true, &ignored);
	return BL_OK;
}

void bl_live_start_adopting(struct bl_session *s)
{
	static const struct bl_job_ops ops = {.name = "stored calibrations", .lane = BL_LANE_LIGHT, .run = adopt_run, .quiet = true};
	char *dir = bl_path_join(s->priv->live->cache_dir, "calib");

	if (bl_is_dir(dir))
		bl_jobs_add(s->jobs, &ops, s, NULL);
	bl_free(dir);
}

/* ---- the job ---- */

struct calib_job {
	struct bl_session *s;
	struct bl_calib_request rq;
	struct bl_live_data *data;
	struct bl_job *job;
	char title[160];
};

/* Between batches: progress, and the place where a pause stands. */
static void report(void *ctx, const struct bl_calib_progress *p)
{
	struct calib_job *c = ctx;
	double per = p->blocks > 0 ? 1.0 / p->blocks : 0, within = p->tokens > 0 ? (double)p->tokens_done / (double)p->tokens : 0;
	char note[48];

	snprintf(note, sizeof note, "block %d/%d", p->block + 1 < p->blocks ? p->block + 1 : p->blocks, p->blocks);
	bl_job_note(c->job, note);
	bl_job_progress(c->job, "calibrate", (double)p->tokens * per * (p->block + within), (double)p->tokens, "tokens");
	bl_job_checkpoint(c->job);
}

static void unit_done(void *ctx, int unit, const struct bl_input_stats *s)
{
	struct calib_job *c = ctx;

	bl_live_input_store(c->s->priv->live, unit, s);
	bl_jobs_wake(c->s->jobs);
}

/* The data of an earlier look at the same request, or read now. */
static enum bl_status get_data(struct calib_job *c, struct bl_err *err)
{
	struct bl_live *l = c->s->priv->live;
	char key[65];

	bl_live_data_key(key, &c->rq);
	pthread_mutex_lock(&l->lock);
	if (l->data && !strcmp(l->data->key, key))
		c->data = bl_live_data_ref(l->data);
	pthread_mutex_unlock(&l->lock);
	if (c->data)
		return BL_OK;
	bl_job_note(c->job, "reading data");
	return bl_live_data_load(&c->data, c->s->model, &c->rq, bl_job_cancel_flag(c->job), err);
}

/* The forward within the bounds of the request. */
static struct bl_forward *bounded_forward(struct calib_job *c, struct bl_err *err)
{
	struct bl_live *l = c->s->priv->live;
	struct bl_calib_options o = {.hessians = c->rq.hessians};
	struct bl_calib_bounds b;

	if (!bl_live_forward(l, c->rq.memory_limit, err) ||
	    bl_calib_bound(&b, c->s->model, &o, l->engine.cuda, c->rq.memory_limit, c->rq.ram_limit, err))
		return NULL;
	if (l->host_bytes != b.host_bytes)
		bl_live_drop_forward(l);
	l->host_bytes = b.host_bytes;
	return bl_live_forward(l, b.device_bytes, err);
}

static enum bl_status calibrate_once(struct calib_job *c, struct bl_calib **out, struct bl_err *err)
{
	struct bl_live *l = c->s->priv->live;
	struct bl_calib_data d = {c->data->ids, c->data->windows, c->data->len, c->data->digest};
	struct bl_forward *f = bounded_forward(c, err);

	if (!f)
		return err->status;
	struct bl_calib_options o = {.hessians = c->rq.hessians, .keep_windows = c->rq.block_inputs ? c->rq.keep_windows : 0,
				     .device = l->engine.cuda ? "cuda" : "cpu", .cancel = bl_job_cancel_flag(c->job)};
	if (!l->weight_bytes && bl_calib_crowded(f, &d, &o)) { /* what weights take is better used otherwise */
		bl_live_drop_forward(l);
		l->weight_bytes = 1;
		f = bounded_forward(c, err);
		if (!f)
			return err->status;
	}
	return bl_calib_run(out, f, &d, l->cache_dir, &o, report, unit_done, c, err);
}

static enum bl_status calibrate_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct calib_job *c = ctx;
	struct bl_live *l = c->s->priv->live;
	struct bl_calib *made = NULL;

	c->job = j;
	bl_live_relax(l);
	if (get_data(c, err))
		return err->status;
	bl_calib_name(c->title, (const char *const *)c->rq.files, (size_t)c->rq.n_files, c->data->windows, c->rq.seqlen);
	pthread_mutex_lock(&l->lock);
	snprintf(l->running_title, sizeof l->running_title, "%s", c->title);
	pthread_mutex_unlock(&l->lock);
	do {
		bl_err_clear(err);
		calibrate_once(c, &made, err);
	} while (err->status && bl_live_failed(l, c->data->len, err)); /* what is stored is not computed again */
	pthread_mutex_lock(&l->lock);
	l->running_title[0] = '\0';
	pthread_mutex_unlock(&l->lock);
	if (err->status)
		return err->status;
	bl_job_keep(j); /* it is stored */
	bl_live_use_calib(l, wrap(l, made, c->title));
	return BL_OK;
}

static void calibrate_drop(void *ctx)
{
	struct calib_job *c = ctx;

	bl_live_data_unref(c->data);
	bl_calib_request_free(&c->rq);
	bl_free(c);
}

uint64_t bl_session_calibrate(struct bl_session *s, const struct bl_calib_request *r)
{
	static const struct bl_job_ops ops = {.name = "calibrate", .lane = BL_LANE_MAIN, .run = calibrate_run, .drop = calibrate_drop, .pausable = true};
	struct calib_job *c = bl_xalloc(1, sizeof *c);
	char title[64];

	c->s = s;
	bl_calib_request_copy(&c->rq, r);
	snprintf(title, sizeof title, "calibrate %lld×%lld", (long long)c->rq.samples, (long long)c->rq.seqlen);
	return s->priv->live->calib_job = bl_jobs_add(s->jobs, &ops, c, title);
}

/* ---- requests ---- */

void bl_calib_request_copy(struct bl_calib_request *dst, const struct bl_calib_request *src)
{
	*dst = *src;
	dst->samples = src->samples > 0 ? src->samples : 512;
	dst->seqlen = src->seqlen > 0 ? src->seqlen : 2048;
	dst->files = bl_xalloc((size_t)src->n_files + 1, sizeof *dst->files);
	for (int i = 0; i < src->n_files; i++)
		dst->files[i] = bl_xstrdup(src->files[i]);
}

void bl_calib_request_free(struct bl_calib_request *r)
{
	for (int i = 0; r->files && i < r->n_files; i++)
		bl_free(r->files[i]);
	bl_free(r->files);
	r->files = NULL;
	r->n_files = 0;
}
