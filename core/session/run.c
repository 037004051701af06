/* SPDX-License-Identifier: Apache-2.0
 * The model that runs, as far as it is known: nothing yet. */
#include "core/session/run.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

void bl_session_device(struct bl_session *s, struct bl_device_view *out)
{
	(void)s;
	*out = (struct bl_device_view){.utilization = -1, .temperature_c = -1, .power_w = -1, .other_processes = -1};
}

void bl_calib_request_copy(struct bl_calib_request *dst, const struct bl_calib_request *src)
{
	*dst = *src;
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

static const char not_here[] = "this build does not run the model";

const struct bl_preflight *bl_session_preflight(struct bl_session *s, const struct bl_calib_request *r)
{
	static struct bl_preflight p;

	(void)s;
	(void)r;
	p.known = BL_KNOWN_REFUSED;
	snprintf(p.why, sizeof p.why, "%s", not_here);
	return &p;
}

void bl_session_data_report(struct bl_session *s, struct bl_str *out)
{
	(void)s;
	(void)out;
}

void bl_session_data_preview(struct bl_session *s, int64_t window, struct bl_str *out)
{
	(void)s;
	(void)window;
	(void)out;
}

static enum bl_status refuse(struct bl_job *j, void *ctx, struct bl_err *err)
{
	(void)j;
	(void)ctx;
	return bl_fail(err, BL_UNSUPPORTED, "%s", not_here);
}

uint64_t bl_session_calibrate(struct bl_session *s, const struct bl_calib_request *r)
{
	static const struct bl_job_ops ops = {.name = "calibrate", .lane = BL_LANE_MAIN, .run = refuse, .pausable = true};

	(void)r;
	return bl_jobs_add(s->jobs, &ops, NULL, NULL);
}

const struct bl_input_stats *bl_session_input(const struct bl_session *s, int unit)
{
	(void)s;
	(void)unit;
	return NULL;
}

const struct bl_calib *bl_session_calib(const struct bl_session *s)
{
	(void)s;
	return NULL;
}

const char *bl_session_calib_title(const struct bl_session *s)
{
	(void)s;
	return "";
}

enum bl_status bl_session_adopt_calib(struct bl_session *s, const char *key, struct bl_err *err)
{
	(void)s;
	(void)key;
	return bl_fail(err, BL_NOT_FOUND, "there is no calibration of this model");
}

enum bl_known bl_session_layer_error(struct bl_session *s, int unit, const struct bl_choice *c, struct bl_layer_error *out, char why[160])
{
	(void)s;
	(void)unit;
	(void)c;
	(void)out;
	(void)why;
	return BL_KNOWN_NO;
}

void bl_session_want_errors(struct bl_session *s, int first_unit, int last_unit)
{
	(void)s;
	(void)first_unit;
	(void)last_unit;
}

void bl_session_effect(struct bl_session *s, struct bl_effect *out)
{
	(void)s;
	*out = (struct bl_effect){.kl = BL_QUANTITY_UNKNOWN("nat"), .top1 = BL_QUANTITY_UNKNOWN("")};
}

struct bl_quantity bl_session_unit_kl(struct bl_session *s, int unit, const struct bl_choice *c, bool want)
{
	(void)s;
	(void)unit;
	(void)c;
	(void)want;
	return BL_QUANTITY_UNKNOWN("nat");
}

void bl_session_wait_live(struct bl_session *s)
{
	(void)s;
}

uint64_t bl_session_evaluate(struct bl_session *s, const struct bl_eval_request *r)
{
	static const struct bl_job_ops ops = {.name = "evaluate", .lane = BL_LANE_MAIN, .run = refuse, .pausable = true};

	(void)r;
	return bl_jobs_add(s->jobs, &ops, NULL, NULL);
}

const struct bl_eval_result *bl_session_evaluation(const struct bl_session *s, bool *stale)
{
	(void)s;
	if (stale)
		*stale = false;
	return NULL;
}
