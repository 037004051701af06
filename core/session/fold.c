/* SPDX-License-Identifier: Apache-2.0
 * The model after a plan's stages: made once per stages and calibration, the last two kept. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/measure.h"
#include "core/transform/stages.h"

#define N_FOLDS ((int)(sizeof((struct bl_live *)0)->folds / sizeof((struct bl_live *)0)->folds[0]))

/* Under fold_lock. */
static struct bl_fold *look(struct bl_live *l, const char *stages, const char *calib)
{
	for (int i = 0; i < N_FOLDS; i++)
		if (l->folds[i].f && !strcmp(l->folds[i].stages, stages) && !strcmp(l->folds[i].calib, calib))
			return bl_fold_ref(l->folds[i].f);
	return NULL;
}

static struct bl_fold *stored(struct bl_live *l, const char *stages, const char *calib, struct bl_err *err)
{
	pthread_mutex_lock(&l->fold_lock);
	struct bl_fold *f = look(l, stages, calib);
	if (!f && l->fold_failed && !strcmp(l->fold_failed, stages) && !strcmp(l->fold_failed_calib, calib))
		*err = l->fold_err;
	pthread_mutex_unlock(&l->fold_lock);
	return f;
}

static void keep(struct bl_live *l, struct bl_fold *f, const char *stages, const char *calib)
{
	const int last = N_FOLDS - 1;

	pthread_mutex_lock(&l->fold_lock);
	struct bl_fold *old = l->folds[last].f;
	bl_free(l->folds[last].stages);
	memmove(&l->folds[1], &l->folds[0], (size_t)last * sizeof l->folds[0]);
	l->folds[0].f = bl_fold_ref(f);
	l->folds[0].stages = bl_xstrdup(stages);
	snprintf(l->folds[0].calib, sizeof l->folds[0].calib, "%s", calib);
	pthread_mutex_unlock(&l->fold_lock);
	bl_fold_unref(old);
}

static void remember_failure(struct bl_live *l, const struct bl_err *err, const char *stages, const char *calib)
{
	if (err->status == BL_NO_MEMORY || err->status == BL_CANCELLED)
		return;
	pthread_mutex_lock(&l->fold_lock);
	bl_free(l->fold_failed);
	l->fold_failed = bl_xstrdup(stages);
	snprintf(l->fold_failed_calib, sizeof l->fold_failed_calib, "%s", calib);
	l->fold_err = *err;
	pthread_mutex_unlock(&l->fold_lock);
}

enum bl_status bl_live_fold(struct bl_live *l, const struct bl_choice *c, struct bl_fold **out, struct bl_err *err)
{
	const char *stages = bl_choice_stages(c);

	*out = NULL;
	if (!*stages)
		return BL_OK;
	struct bl_live_calib *calib = bl_live_get_calib(l);
	const char *key = calib ? bl_calib_key_of(calib->c) : "";
	*out = stored(l, stages, key, err);
	if (!*out && !err->status) {
		const struct bl_fold_request rq = {.model = l->s->model, .stages = stages, .calib = calib ? calib->c : NULL, .pool = l->s->pool, .cache_dir = l->cache_dir};
		pthread_mutex_lock(&l->fold_build); /* whoever comes second finds it made */
		*out = stored(l, stages, key, err);
		if (!*out && !err->status) {
			if (bl_fold_new(out, &rq, err))
				remember_failure(l, err, stages, key);
			else
				keep(l, *out, stages, key);
		}
		pthread_mutex_unlock(&l->fold_build);
	}
	bl_live_calib_unref(calib);
	return err->status;
}

/* Totals and outliers from the channels, as a calibration has them. */
static void sum_up(struct bl_input_stats *s)
{
	double mean = 0, squares = 0;
	const int most = (int)(sizeof s->outlier / sizeof s->outlier[0]);
	int n = 0;

	s->absmax = 0;
	for (int64_t i = 0; i < s->cols; i++) {
		s->absmax = s->channel_absmax[i] > s->absmax ? s->channel_absmax[i] : s->absmax;
		mean += s->channel_mean[i] / (double)s->cols;
		squares += s->channel_rms[i] * s->channel_rms[i] / (double)s->cols;
	}
	s->mean = mean;
	s->rms = sqrt(squares);
	s->n_outlier_channels = 0;
	memset(s->outlier, 0, sizeof s->outlier);
	memset(s->bins, 0, sizeof s->bins);
	memset(s->token_bins, 0, sizeof s->token_bins);
	for (int64_t i = 0; i < s->cols; i++) {
		const float a = s->channel_absmax[i];
		int at;

		if (!(a > 8 * s->rms))
			continue;
		s->n_outlier_channels++;
		for (at = n < most ? n++ : most; at > 0 && s->outlier[at - 1].absmax < a; at--)
			if (at < most)
				s->outlier[at] = s->outlier[at - 1];
		if (at < most) {
			s->outlier[at].channel = (int)i;
			s->outlier[at].absmax = a;
		}
	}
}

const struct bl_input_stats *bl_live_staged_input(struct bl_live *l, int unit, const struct bl_input_stats *base)
{
	const char *stages = bl_plan_stages(l->s->plan);
	struct bl_live_calib *calib = base && *stages ? bl_live_get_calib(l) : NULL;
	struct bl_fold *f = NULL;

	if (!calib)
		return base;
	pthread_mutex_lock(&l->fold_lock);
	f = look(l, stages, bl_calib_key_of(calib->c));
	pthread_mutex_unlock(&l->fold_lock);
	bl_live_calib_unref(calib);
	if (!f || !bl_fold_changes_input(f, unit)) {
		bl_fold_unref(f);
		return base;
	}
	if (!l->staged)
		l->staged = bl_xalloc((size_t)l->s->model->n_units + 1, sizeof *l->staged);
	if (l->staged[unit].id != bl_live_fold_id(f) || l->staged[unit].of != base) {
		struct bl_input_stats *s = bl_live_input_copy(base);

		bl_live_input_free(l->staged[unit].s);
		if (bl_fold_channels(f, unit, s->channel_absmax, s->channel_mean, s->channel_rms)) {
			sum_up(s);
		} else {
			bl_live_input_free(s);
			s = NULL;
		}
		l->staged[unit].id = bl_live_fold_id(f);
		l->staged[unit].of = base;
		l->staged[unit].s = s;
	}
	bl_fold_unref(f);
	return l->staged[unit].s;
}

void bl_live_folds_free(struct bl_live *l)
{
	for (int i = 0; l->staged && i < l->s->model->n_units; i++)
		bl_live_input_free(l->staged[i].s);
	bl_free(l->staged);
	l->staged = NULL;
	for (int i = 0; i < N_FOLDS; i++) {
		bl_fold_unref(l->folds[i].f);
		bl_free(l->folds[i].stages);
		l->folds[i].f = NULL;
		l->folds[i].stages = NULL;
	}
	bl_free(l->fold_failed);
	l->fold_failed = NULL;
	pthread_mutex_destroy(&l->fold_lock);
	pthread_mutex_destroy(&l->fold_build);
}

uint64_t bl_live_fold_id(const struct bl_fold *f)
{
	return f ? bl_hash64(bl_fold_model(f)->digest, 64) | 1 : 0;
}

enum bl_status bl_live_folded_weights(const struct bl_fold *f, int unit, struct bl_unit_weights **out, struct bl_err *err)
{
	const struct bl_unit *u = &bl_fold_model(f)->units[unit];
	struct bl_unit_weights *w;
	int64_t at = 0;

	*out = NULL;
	if (!bl_fold_changes(f, unit))
		return BL_OK;
	w = bl_unit_weights_new(unit, BL_WEIGHTS_DENSE, u->rows, u->cols);
	if (!w)
		return bl_fail(err, BL_NO_MEMORY, "memory: %.1f MiB asked for the weights of %s", (double)(u->rows * u->cols) / (1 << 19), u->name);
	for (int m = 0; m < u->n_members; m++) {
		const struct bl_tensor *t = u->members[m].weight;

		for (int64_t i = 0; i < t->n_elems; i++, at++) {
			float v;
			uint16_t h = 0;

			if (t->dtype == BL_F32)
				memcpy(&v, (const char *)t->data + 4 * i, 4);
			else
				memcpy(&h, (const char *)t->data + 2 * i, 2);
			w->dense[at] = t->dtype == BL_BF16 ? h : bl_f32_bf16(t->dtype == BL_F32 ? v : bl_f16_f32(h));
		}
	}
	*out = w;
	return BL_OK;
}

enum bl_status bl_live_stage_set(struct bl_weight_set *out, struct bl_fold *f, const struct bl_model *m, int block, struct bl_err *err)
{
	struct bl_weight_set set = {.n = m->n_units, .small = f && bl_fold_changes_small(f) ? bl_fold_model(f) : NULL, .keep = bl_fold_ref(f)};

	*out = (struct bl_weight_set){.of = NULL};
	if (!f)
		return BL_OK;
	set.of = bl_xalloc((size_t)set.n + 1, sizeof *set.of);
	for (int i = 0; i < set.n && !err->status; i++)
		if (block < 0 || m->units[i].block == block)
			bl_live_folded_weights(f, i, &set.of[i], err);
	if (err->status)
		bl_measure_weights_free(&set);
	else
		*out = set;
	return err->status;
}

float bl_live_absmax(struct bl_live *l, int unit, const struct bl_choice *c, bool wait)
{
	struct bl_err ignored = BL_ERR_INIT;
	struct bl_fold *f = NULL;
	float absmax = NAN;

	if (l->s->priv->ranges) /* measured on this plan's weights */
		return l->s->priv->ranges[unit];
	struct bl_live_calib *calib = bl_live_get_calib(l);
	const struct bl_input_stats *in = calib ? bl_calib_stats(calib->c, unit) : NULL;
	if (!wait && in && *bl_choice_stages(c)) {
		pthread_mutex_lock(&l->fold_lock);
		f = look(l, bl_choice_stages(c), bl_calib_key_of(calib->c));
		pthread_mutex_unlock(&l->fold_lock);
	}
	if (in && !in->nonfinite && (f || !wait || !bl_live_fold(l, c, &f, &ignored)))
		absmax = f ? bl_fold_absmax(f, calib->c, unit) : in->absmax;
	bl_fold_unref(f);
	bl_live_calib_unref(calib);
	return absmax;
}

enum bl_status bl_session_fold(struct bl_session *s, struct bl_fold **out, struct bl_err *err)
{
	*out = NULL;
	return s->model->n_units ? bl_live_fold(s->priv->live, bl_plan_choice(s->plan, 0), out, err) : BL_OK;
}

enum bl_status bl_session_set_stages(struct bl_session *s, const char *text, struct bl_err *err)
{
	struct bl_str canonical = {0};

	if (!bl_stages_canonical(&canonical, s->model, text, err)) {
		if (canonical.len > BL_STAGES_TEXT_MAX)
			bl_fail(err, BL_USAGE, "stages: more than %d bytes", BL_STAGES_TEXT_MAX);
		else
			bl_plan_set_stages(s->plan, bl_str_c(&canonical));
	}
	bl_str_free(&canonical);
	return err->status;
}
