/* SPDX-License-Identifier: Apache-2.0
 * Evaluations in the cache: one small JSON file each, {"bitlathe_eval": 1, "key": KEY, ...}. What is damaged, too large or of another key counts as not there. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/compare.h"

#define FILE_MAX 16384

static const struct { const char *name; size_t at; } numbers[] = {
#define N(field) {#field, offsetof(struct bl_eval_result, field)}
	N(base_ppl.value), N(base_ppl.stderr_), N(base_ppl.nll), N(plan_ppl.value), N(plan_ppl.stderr_), N(plan_ppl.nll), N(kl.mean), N(kl.stderr_), N(kl.median),
	N(kl.p99), N(kl.max), N(kl.top1), N(kl.top1_stderr), N(base_mcq.acc), N(base_mcq.stderr_), N(plan_mcq.acc), N(plan_mcq.stderr_), N(plan_mcq.flips), N(seconds),
#undef N
};
static const struct { const char *name; size_t at; } counts[] = {
#define N(field) {#field, offsetof(struct bl_eval_result, field)}
	N(base_ppl.tokens), N(base_ppl.windows), N(plan_ppl.tokens), N(plan_ppl.windows), N(kl.tokens), N(base_mcq.n), N(plan_mcq.n), N(wall_s),
#undef N
};
static const struct { const char *name; size_t at; } flags[] = {
#define N(field) {#field, offsetof(struct bl_eval_result, field)}
	N(has_ppl), N(has_kl), N(has_mcq), N(has_plan),
#undef N
};
#define COUNT(t) (sizeof(t) / sizeof(t)[0])

static char *path_of(const char *cache_dir, const char *key)
{
	struct bl_str s = {0};

	bl_str_addf(&s, "%s/evals/%s.json", cache_dir, key);
	return bl_str_take(&s);
}

static bool read_all(struct bl_eval_result *r, double *solve_s, const cJSON *o, const char *key, const char *file)
{
	struct bl_err err = BL_ERR_INIT;
	const char *text[3];
	int64_t version;
	char *at = (char *)r;

	if (bl_json_int(o, "bitlathe_eval", 1, 1, true, &version, file, &err) || bl_json_str(o, "key", 64, true, &text[0], file, &err) || strcmp(text[0], key) != 0 ||
	    bl_json_str(o, "device", sizeof r->device - 1, true, &text[1], file, &err) || bl_json_str(o, "protocol", sizeof r->protocol - 1, true, &text[2], file, &err) ||
	    bl_json_num(o, "solve_s", 0, 1e12, true, solve_s, file, &err))
		return false;
	for (size_t i = 0; i < COUNT(numbers); i++)
		if (bl_json_num(o, numbers[i].name, -1e300, 1e300, true, (double *)(void *)(at + numbers[i].at), file, &err))
			return false;
	for (size_t i = 0; i < COUNT(counts); i++)
		if (bl_json_int(o, counts[i].name, 0, 1ll << 52, true, (int64_t *)(void *)(at + counts[i].at), file, &err))
			return false;
	for (size_t i = 0; i < COUNT(flags); i++)
		if (bl_json_bool(o, flags[i].name, true, (bool *)(at + flags[i].at), file, &err))
			return false;
	snprintf(r->device, sizeof r->device, "%s", text[1]);
	snprintf(r->protocol, sizeof r->protocol, "%s", text[2]);
	return true;
}

bool bl_eval_stored(struct bl_eval_result *out, double *solve_s, const char *cache_dir, const char *key)
{
	struct bl_eval_result r = {.seconds = 0};
	struct bl_err err = BL_ERR_INIT;
	char *path = path_of(cache_dir, key);
	cJSON *o = NULL;
	bool found = false;

	if (bl_is_file(path) && !bl_json_load(&o, path, FILE_MAX, 200, &err) && read_all(&r, solve_s, o, key, path)) {
		*out = r;
		found = true;
	}
	cJSON_Delete(o);
	bl_free(path);
	return found;
}

void bl_eval_store(const struct bl_eval_result *r, double solve_s, const char *cache_dir, const char *key)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str text = {0};
	char *path = path_of(cache_dir, key), *folder = bl_path_join(cache_dir, "evals");
	cJSON *o = cJSON_CreateObject();
	const char *at = (const char *)r;
	bool finite = true;

	cJSON_AddNumberToObject(o, "bitlathe_eval", 1);
	cJSON_AddStringToObject(o, "key", key);
	cJSON_AddStringToObject(o, "device", r->device);
	cJSON_AddStringToObject(o, "protocol", r->protocol);
	cJSON_AddNumberToObject(o, "solve_s", solve_s);
	for (size_t i = 0; i < COUNT(numbers); i++) {
		double v = *(const double *)(const void *)(at + numbers[i].at);
		finite &= isfinite(v) != 0;
		cJSON_AddNumberToObject(o, numbers[i].name, v);
	}
	for (size_t i = 0; i < COUNT(counts); i++)
		bl_json_add_int(o, counts[i].name, *(const int64_t *)(const void *)(at + counts[i].at));
	for (size_t i = 0; i < COUNT(flags); i++)
		cJSON_AddBoolToObject(o, flags[i].name, *(const bool *)(at + flags[i].at));
	bl_json_print(&text, o, 1, false);
	/* numbers that JSON does not have are measured again: such a plan is broken anyway */
	if (finite && (bl_mkdirs(folder, 0755, &err) || bl_write_file(path, bl_str_c(&text), text.len, 0644, &err)))
		bl_log(BL_LOG_WARN, "an evaluation is not kept: %s", err.text);
	bl_str_free(&text);
	cJSON_Delete(o);
	bl_free(folder);
	bl_free(path);
}
