/* SPDX-License-Identifier: Apache-2.0
 * stats: weight ranges of every unit; with a stored calibration also those of what flows into it. */
#include <math.h>
#include <stdio.h>

#include "core/base/mem.h"
#include "core/calib/calib.h"
#include "tui/cli.h"

static void number(cJSON *o, const char *key, double v)
{
	if (isfinite(v))
		cJSON_AddNumberToObject(o, key, v);
	else
		cJSON_AddNullToObject(o, key);
}

static void input_json(cJSON *o, const struct bl_input_stats *in)
{
	cJSON *x = cJSON_AddObjectToObject(o, "input"), *list;

	number(x, "absmax", (double)in->absmax);
	number(x, "mean", in->mean);
	number(x, "rms", in->rms);
	bl_json_add_int(x, "tokens", in->tokens);
	bl_json_add_int(x, "nonfinite", (int64_t)in->nonfinite);
	list = cJSON_AddArrayToObject(x, "channel_absmax");
	for (int64_t i = 0; i < in->cols; i++)
		cJSON_AddItemToArray(list, cJSON_CreateNumber((double)in->channel_absmax[i]));
	bl_json_add_int(x, "outlier_channels", in->n_outlier_channels);
	list = cJSON_AddArrayToObject(x, "outliers");
	for (int i = 0; i < in->n_outlier_channels && i < 16; i++) {
		cJSON *c = cJSON_CreateObject();
		bl_json_add_int(c, "channel", in->outlier[i].channel);
		number(c, "absmax", (double)in->outlier[i].absmax);
		cJSON_AddItemToArray(list, c);
	}
}

static void to_json(cJSON *list, const struct bl_unit *u, const struct bl_weight_stats *s, const struct bl_input_stats *in)
{
	cJSON *e = cJSON_CreateObject(), *w, *ch, *h;

	cJSON_AddItemToArray(list, e);
	cJSON_AddStringToObject(e, "name", u->name);
	bl_json_add_int(e, "block", u->block);
	cJSON_AddStringToObject(e, "kind", bl_unit_kind_name(u->kind));
	w = cJSON_AddObjectToObject(e, "weight");
	bl_json_add_int(w, "elements", (int64_t)s->n_elems);
	number(w, "min", (double)s->min);
	number(w, "max", (double)s->max);
	number(w, "absmax", (double)s->absmax);
	number(w, "mean", s->mean);
	number(w, "rms", s->rms);
	number(w, "kurtosis", s->kurtosis);
	number(w, "outlier_share", s->outlier_share);
	bl_json_add_int(w, "nonfinite", (int64_t)s->n_nonfinite);
	ch = cJSON_AddObjectToObject(w, "channel_absmax");
	number(ch, "min", (double)s->channel.min);
	number(ch, "median", (double)s->channel.median);
	number(ch, "max", (double)s->channel.max);
	h = cJSON_AddArrayToObject(w, "histogram");
	for (int i = 0; i < BL_STATS_BINS; i++)
		cJSON_AddItemToArray(h, cJSON_CreateNumber((double)s->histogram[i]));
	if (s->n_first) {
		cJSON *first = cJSON_AddArrayToObject(w, "first_nonfinite");
		for (int i = 0; i < s->n_first; i++) {
			cJSON *f = cJSON_CreateObject();
			cJSON_AddStringToObject(f, "tensor", s->first_nonfinite[i].tensor);
			bl_json_add_int(f, "row", s->first_nonfinite[i].row);
			bl_json_add_int(f, "col", s->first_nonfinite[i].col);
			cJSON_AddItemToArray(first, f);
		}
	}
	if (in)
		input_json(e, in);
	else
		cJSON_AddNullToObject(e, "input");
}

static void to_text(struct bl_cli *c, const struct bl_unit *u, const struct bl_weight_stats *s, const struct bl_input_stats *in)
{
	char range[12] = "";

	if (in)
		snprintf(range, sizeof range, "%7.4g", (double)in->absmax);
	bl_cli_line(c, "%4d %-8s %9.4g %9.4g %9.4g %9.4g %6.1f %6.3f %5.1f%s", u->block, bl_unit_kind_name(u->kind), (double)s->min, (double)s->max,
		    (double)s->absmax, s->rms, s->kurtosis, 100 * s->outlier_share, s->channel.median > 0 ? (double)(s->channel.max / s->channel.median) : 0.0,
		    range);
	for (int i = 0; i < s->n_first; i++)
		bl_cli_line(c, "       ! %s: not finite at [%lld,%lld]", s->first_nonfinite[i].tensor, (long long)s->first_nonfinite[i].row,
			    (long long)s->first_nonfinite[i].col);
	if (s->n_nonfinite > (uint64_t)s->n_first)
		bl_cli_line(c, "       ! %llu NaN or Inf in all", (unsigned long long)s->n_nonfinite);
}

struct stats_work {
	const struct bl_model *m;
	struct bl_pool *pool;
	struct bl_progress progress;
	struct bl_weight_stats **stats; /* [n_units] */
	int *units; size_t n;
	struct bl_calib *calib;         /* NULL: none is stored */
	struct bl_err why;              /* of the first unit that has none */
	atomic_flag said;
};

static void keep(void *ctx, int unit, struct bl_weight_stats *s, const struct bl_err *why)
{
	struct stats_work *w = ctx;

	w->stats[unit] = s; /* one thread per unit */
	atomic_fetch_add(&w->progress.done_bytes, w->m->units[unit].bytes);
	if (!s && why && !atomic_flag_test_and_set(&w->said))
		w->why = *why;
}

static enum bl_status stats_work(void *ctx, struct bl_err *err)
{
	struct stats_work *w = ctx;

	return bl_weight_stats_each(w->m, w->units, w->n, w->pool, keep, w, &w->progress.cancel, err);
}

static void report(struct bl_cli *c, const struct stats_work *w)
{
	cJSON *list = c->json ? cJSON_AddArrayToObject(c->json, "units") : NULL;

	if (!list)
		bl_cli_line(c, " blk unit           min       max    |w|max       rms   kurt  outl%%  sprd%s", w->calib ? " |x|max" : "");
	for (size_t k = 0; k < w->n; k++) {
		const struct bl_unit *u = &w->m->units[w->units[k]];
		const struct bl_weight_stats *s = w->stats[w->units[k]];
		const struct bl_input_stats *in = w->calib ? bl_calib_stats(w->calib, w->units[k]) : NULL;
		if (s && list)
			to_json(list, u, s, in);
		else if (s)
			to_text(c, u, s, in);
	}
}

/* The one that is asked for, else the newest one of this model; then one that is damaged is told, none is nothing to tell. */
static struct bl_calib *stored(struct bl_cli *c, const struct bl_model *m, struct bl_err *err)
{
	struct bl_err why = BL_ERR_INIT;
	struct bl_calib *calib = NULL;
	char key[65], *dir = bl_cli_cache(c);

	if (bl_given(&c->o, BL_OPT_CALIBRATION)) {
		if (!bl_cli_calib_key(c, key, err))
			bl_calib_open(&calib, m, dir, key, err);
	} else if (!bl_calib_find(key, m, dir, &why) && bl_calib_open(&calib, m, dir, key, &why))
		bl_str_addf(&c->remarks, "%s\n", why.text);
	bl_free(dir);
	return calib;
}

enum bl_status bl_cmd_stats(struct bl_cli *c, struct bl_err *err)
{
	struct bl_model *m;
	uint8_t *sel = NULL;
	struct stats_work w = {.said = ATOMIC_FLAG_INIT};

	if (bl_model_open(&m, c->o.args[0], err))
		return err->status;
	sel = bl_xalloc((size_t)m->n_units + 1, 1);
	if (bl_pattern_match(m, bl_given(&c->o, BL_OPT_UNIT) ? c->o.value[BL_OPT_UNIT] : "all", sel, NULL, err))
		goto done;
	if (m->n_units && !m->units[0].members[0].weight) {
		bl_fail(err, BL_UNSUPPORTED, "%s: is already quantized (%s): it has no plain weights to look at", m->title, m->config.quant_method);
		goto done;
	}
	w.m = m;
	w.pool = bl_pool_new(c->session.threads);
	w.stats = bl_xalloc((size_t)m->n_units + 1, sizeof *w.stats);
	w.units = bl_xalloc((size_t)m->n_units + 1, sizeof *w.units);
	for (int i = 0; i < m->n_units; i++)
		if (sel[i]) {
			w.units[w.n++] = i;
			atomic_fetch_add(&w.progress.total_bytes, m->units[i].bytes);
		}
	w.calib = stored(c, m, err);
	if (!err->status && bl_cli_work(c, "stats", stats_work, &w, &w.progress, err) == BL_OK) {
		report(c, &w);
		if (w.why.status)
			*err = w.why;
	}
	for (size_t k = 0; k < w.n; k++)
		bl_weight_stats_free(w.stats[w.units[k]]);
	bl_calib_free(w.calib);
	bl_free(w.stats);
	bl_free(w.units);
done:
	bl_pool_free(w.pool);
	bl_free(sel);
	bl_model_close(m);
	return err->status;
}
