/* SPDX-License-Identifier: Apache-2.0
 * Numbers of snapshots as JSON; reading takes nothing for granted. */
#include "core/plan/snapshot_results.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/mem.h"

static const struct { const char *name; size_t offset; } rows[] = {
#define ROW(field) {#field, offsetof(struct bl_snapshot_results, field)}
	ROW(bytes), ROW(time_ratio), ROW(score), ROW(kl), ROW(top1), ROW(ppl), ROW(base_ppl), ROW(mcq), ROW(base_mcq), ROW(eval_kl),
#undef ROW
};
#define N_ROWS (sizeof rows / sizeof *rows)

static double *field(struct bl_snapshot_results *r, size_t i)
{
	return (double *)(void *)((char *)r + rows[i].offset);
}

struct bl_snapshot_results *bl_snapshot_results_new(int n_units)
{
	struct bl_snapshot_results *r = bl_xalloc(1, sizeof *r);

	for (size_t i = 0; i < N_ROWS; i++)
		*field(r, i) = NAN;
	r->n = n_units;
	r->error = bl_xalloc((size_t)n_units + 1, sizeof *r->error);
	for (int i = 0; i < n_units; i++)
		r->error[i] = NAN;
	return r;
}

struct bl_snapshot_results *bl_snapshot_results_copy(const struct bl_snapshot_results *r)
{
	if (!r)
		return NULL;
	struct bl_snapshot_results *c = bl_snapshot_results_new(r->n);
	double *error = c->error;
	memcpy(error, r->error, (size_t)r->n * sizeof *error);
	*c = *r;
	c->error = error;
	return c;
}

void bl_snapshot_results_free(struct bl_snapshot_results *r)
{
	if (!r)
		return;
	bl_free(r->error);
	bl_free(r);
}

/* The shortest text that reads back as the same number. */
static void add_number(struct bl_str *out, double v)
{
	cJSON *n = cJSON_CreateNumber(v);

	bl_json_print(out, n, 0, false);
	cJSON_Delete(n);
}

void bl_snapshot_results_print(struct bl_str *out, const struct bl_snapshot_results *r, const struct bl_model *m, const char *indent)
{
	bool first = true;

	bl_str_addf(out, "{\"time\": %lld", (long long)r->wall_s);
	if (r->calib[0])
		bl_str_addf(out, ", \"calibration\": \"%s\"", r->calib);
	if (r->mcq_n > 0)
		bl_str_addf(out, ", \"mcq_n\": %lld", (long long)r->mcq_n);
	for (size_t i = 0; i < N_ROWS; i++) {
		double v = *field((struct bl_snapshot_results *)(uintptr_t)r, i);
		if (!isfinite(v))
			continue;
		bl_str_addf(out, ", \"%s\": ", rows[i].name);
		add_number(out, v);
	}
	for (int i = 0; i < r->n && i < m->n_units; i++) {
		if (!isfinite(r->error[i]))
			continue;
		bl_str_addf(out, "%s\n%s  ", first ? ", \"errors\": {" : ",", indent);
		bl_str_add_json(out, m->units[i].name);
		bl_str_add(out, ": ");
		add_number(out, r->error[i]);
		first = false;
	}
	if (!first)
		bl_str_addf(out, "\n%s}", indent);
	bl_str_addc(out, '}');
}

static bool is_hex(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

enum bl_status bl_snapshot_results_read(struct bl_snapshot_results **out, const cJSON *o, const struct bl_model *m, int64_t (*unit)(void *ctx, const char *name),
					void *ctx, const char *where, struct bl_err *err)
{
	struct bl_snapshot_results *r;
	const char *calib = NULL;
	const cJSON *errors, *e;

	if (!cJSON_IsObject(o))
		return bl_fail(err, BL_INVALID, "%s: results: must be an object", where);
	r = bl_snapshot_results_new(m->n_units);
	bl_json_int(o, "time", 0, (int64_t)1 << 48, false, &r->wall_s, where, err);
	bl_json_int(o, "mcq_n", 0, (int64_t)1 << 40, false, &r->mcq_n, where, err);
	bl_json_str(o, "calibration", 64, false, &calib, where, err);
	for (size_t i = 0; i < N_ROWS && !err->status; i++)
		bl_json_num(o, rows[i].name, -1e300, 1e300, false, field(r, i), where, err);
	if (!err->status && calib && *calib && !is_hex(calib))
		bl_fail(err, BL_INVALID, "%s: results: calibration: must be 64 hex digits", where);
	if (!err->status && calib)
		memcpy(r->calib, calib, strlen(calib));
	errors = cJSON_GetObjectItemCaseSensitive(o, "errors");
	cJSON_ArrayForEach(e, errors) {
		int64_t i = e->string ? unit(ctx, e->string) : -1;
		if (i >= 0 && i < r->n && cJSON_IsNumber(e) && isfinite(e->valuedouble) && e->valuedouble >= 0)
			r->error[i] = e->valuedouble;
	}
	if (err->status)
		bl_snapshot_results_free(r);
	else
		*out = r;
	return err->status;
}
