/* SPDX-License-Identifier: Apache-2.0
 * Numbers that were known when a snapshot was taken; kept in the plan file, so that restoring it brings them back. */
#ifndef BL_PLAN_SNAPSHOT_RESULTS_H
#define BL_PLAN_SNAPSHOT_RESULTS_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/str.h"
#include "core/model/model.h"

struct bl_snapshot_results { /* NaN: unknown */
	double bytes, time_ratio, score;
	double kl, top1;                      /* on the kept windows of the calibration */
	double ppl, base_ppl, mcq, base_mcq, eval_kl;
	int64_t wall_s, mcq_n;                /* when; questions */
	char calib[65];                       /* key of the calibration; "" when none was in use */
	int n; double *error;                 /* [n units] relative layer errors */
};
struct bl_snapshot_results *bl_snapshot_results_new(int n_units); /* nothing known */
struct bl_snapshot_results *bl_snapshot_results_copy(const struct bl_snapshot_results *r); /* NULL gives NULL */
void bl_snapshot_results_free(struct bl_snapshot_results *r);
/* As the value of the key "results"; indent is put before each further line. */
void bl_snapshot_results_print(struct bl_str *out, const struct bl_snapshot_results *r, const struct bl_model *m, const char *indent);
/* o: that value. Errors of units that the model does not have are left out: the numbers are no part of the document. */
enum bl_status bl_snapshot_results_read(struct bl_snapshot_results **out, const cJSON *o, const struct bl_model *m, int64_t (*unit)(void *ctx, const char *name),
					void *ctx, const char *where, struct bl_err *err);

#endif
