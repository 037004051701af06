/* SPDX-License-Identifier: Apache-2.0
 * What quantization_config says for GPTQ, AWQ and AutoRound, checked before any of it is used: a value of another kind is refused, not passed over. */
#include <stdio.h>
#include <string.h>

#include "core/format/private.h"

static const char where[] = "config.json: quantization_config";

static enum bl_status check_numbers(const cJSON *o, bool whole, const char *label, struct bl_err *err)
{
	int64_t bits = 0, group = -1;
	bool flag;

	if (bl_json_int(o, "bits", 1, 32, whole, &bits, label, err) || bl_json_int(o, "group_size", -1, 65535, false, &group, label, err) ||
	    bl_json_bool(o, "sym", false, &flag, label, err) || bl_json_bool(o, "desc_act", false, &flag, label, err))
		return err->status;
	return group ? BL_OK : bl_fail(err, BL_INVALID, "%s: group_size: 0 columns are no group (-1: one scale for a whole row)", label);
}

/* An object of objects, one for each pattern. */
static enum bl_status check_patterns(const cJSON *o, const char *key, struct bl_err *err)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
	char name[64], label[200];

	if (!v || cJSON_IsNull(v))
		return BL_OK;
	if (!cJSON_IsObject(v))
		return bl_fail(err, BL_INVALID, "%s: %s: must be an object of patterns", where, key);
	for (const cJSON *e = v->child; e; e = e->next) {
		snprintf(label, sizeof label, "%s: %s: %s", where, key, bl_printable(name, sizeof name, e->string));
		if (!cJSON_IsObject(e))
			return bl_fail(err, BL_INVALID, "%s: must be an object", label);
		if (check_numbers(e, false, label, err))
			return err->status;
	}
	return BL_OK;
}

static enum bl_status check_names(const cJSON *o, const char *key, struct bl_err *err)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	if (!v || cJSON_IsNull(v))
		return BL_OK;
	if (!cJSON_IsArray(v))
		return bl_fail(err, BL_INVALID, "%s: %s: must be a list of names", where, key);
	for (const cJSON *e = v->child; e; e = e->next)
		if (!cJSON_IsString(e))
			return bl_fail(err, BL_INVALID, "%s: %s: must hold names", where, key);
	return BL_OK;
}

/* The word under a key is one of those, or not there. */
static enum bl_status check_word(const cJSON *o, const char *key, const char *const *words, struct bl_err *err)
{
	const char *text = NULL;
	char list[200] = "";
	size_t n = 0;

	if (bl_json_str(o, key, 60, false, &text, where, err) || !text)
		return err->status;
	for (int i = 0; words[i]; i++) {
		if (bl_ieq(words[i], text))
			return BL_OK;
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", words[i]);
	}
	return bl_fail(err, BL_UNSUPPORTED, "%s: %s: %s is not read here (%s)", where, key, text, list);
}

enum bl_status bl_gptq_open(struct bl_quant *q, struct bl_err *err)
{
	static const char *const versions[] = {"gptq", "gptq_v2", NULL}, *const words[] = {"int32", NULL};
	bool flag = false;
	double damp = 0.5;

	if (check_numbers(q->config, true, where, err) || bl_json_num(q->config, "damp_percent", 1e-12, 1 - 1e-12, false, &damp, where, err) ||
	    check_patterns(q->config, "dynamic", err) || check_word(q->config, "checkpoint_format", versions, err) ||
	    (bl_json_is_null_or_missing(q->config, "checkpoint_format") && check_word(q->config, "format", versions, err)) ||
	    check_word(q->config, "pack_dtype", words, err) || bl_json_bool(q->config, "is_marlin_format", false, &flag, where, err))
		return err->status;
	return flag ? bl_fail(err, BL_UNSUPPORTED, "%s: is_marlin_format: weights in the order of one kernel are not read here", where) : BL_OK;
}

enum bl_status bl_awq_open(struct bl_quant *q, struct bl_err *err)
{
	static const char *const versions[] = {"gemm", "gemv", "gemv_fast", "exllama", "ipex", NULL};
	bool flag;

	if (check_numbers(q->config, true, where, err) || bl_json_bool(q->config, "zero_point", false, &flag, where, err) ||
	    check_names(q->config, "modules_to_not_convert", err))
		return err->status;
	return check_word(q->config, "version", versions, err);
}

enum bl_status bl_auto_round_open(struct bl_quant *q, struct bl_err *err)
{
	const char *text;

	if (check_numbers(q->config, true, where, err) || check_patterns(q->config, "extra_config", err) ||
	    bl_json_str(q->config, "packing_format", 60, false, &text, where, err))
		return err->status;
	return bl_json_str(q->config, "data_type", 60, false, &text, where, err);
}
