/* SPDX-License-Identifier: Apache-2.0
 * What people write as a budget. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/session/search.h"

static enum bl_status bytes_from(double *out, const char *text, struct bl_session *s, struct bl_err *err)
{
	char *end;
	double v = strtod(text, &end);

	while (*end == ' ')
		end++;
	if (end != text && v > 0 && isfinite(v) && !strcmp(end, "%")) {
		*out = v / 100 * (double)bl_session_estimate(s)->base_bytes;
		return BL_OK;
	}
	if (bl_parse_bytes(text, &v) && v > 0) {
		*out = v;
		return BL_OK;
	}
	return bl_fail(err, BL_USAGE, "\"%s\" is no size: as 6.5MB, 1.2GiB, 60%% (of the model) or plan (as it is now)", text);
}

static enum bl_status time_from(double *out, const char *text, struct bl_session *s, struct bl_err *err)
{
	const struct bl_plan_estimate *e = bl_session_estimate(s);
	char *end;
	double v = strtod(text, &end);

	if (end == text || !(v > 0) || v > 1e9)
		return bl_fail(err, BL_USAGE, "\"%s\" is no time: as 2.9ms a step, 0.8x of the model's, or plan (as it is now)", text);
	while (*end == ' ')
		end++;
	if (!strcmp(end, "ms"))
		*out = v;
	else if (!strcmp(end, "x"))
		*out = v * e->step_ms.value / e->time_ratio.value;
	else
		return bl_fail(err, BL_USAGE, "\"%s\" is no time: as 2.9ms a step, 0.8x of the model's, or plan (as it is now)", text);
	return BL_OK;
}

static enum bl_status score_from(double *out, const char *text, struct bl_err *err)
{
	char *end;
	double v = strtod(text, &end);

	*out = 0;
	if (!strcmp(text, "best"))
		return BL_OK;
	if (end == text || *end || !(v > 0 && v < 1))
		return bl_fail(err, BL_USAGE, "\"%s\" is no score: best, or a number between 0 and 1 that has to be reached", text);
	*out = v;
	return BL_OK;
}

enum bl_status bl_search_budget(struct bl_search_request *rq, enum bl_budget budget, const char *text, struct bl_session *s, struct bl_err *err)
{
	const struct bl_plan_estimate *e = bl_session_estimate(s);

	rq->budget = budget;
	if (!strcmp(text, "plan") && budget != BL_BUDGET_SCORE) {
		rq->value = budget == BL_BUDGET_BYTES ? (double)e->bytes : e->step_ms.value;
		return BL_OK;
	}
	if (budget == BL_BUDGET_BYTES)
		return bytes_from(&rq->value, text, s, err);
	return budget == BL_BUDGET_TIME ? time_from(&rq->value, text, s, err) : score_from(&rq->value, text, err);
}
