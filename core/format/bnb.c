/* SPDX-License-Identifier: Apache-2.0
 * bitsandbytes: NF4 and FP4 with plain or nested scales, and LLM.int8. A linear is described by a JSON text in a tensor of its own. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/format/private.h"

#define STATE_MAX 4096
#define STATE "weight.quant_state.bitsandbytes__"

#define BLOCK 64

static const char *type_of(const struct bl_linear *l) { return l->scheme.number == BL_NUM_NF4 ? "nf4" : "fp4"; }
static const char *state_of(const struct bl_linear *l) { return l->scheme.number == BL_NUM_NF4 ? STATE "nf4" : STATE "fp4"; }

static bool config_true(const struct bl_quant *q, const char *key)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(q->config, key));
}

static bool stored(const struct bl_quant *q, const struct bl_linear *l, const char *suffix)
{
	char name[512];

	snprintf(name, sizeof name, "%s.%s", l->member->name, suffix);
	return bl_model_tensor(q->m, name) != NULL;
}

static enum bl_status bnb_open(struct bl_quant *q, struct bl_err *err)
{
	static const char where[] = "config.json: quantization_config";
	static const char *const flags[] = {"load_in_4bit", "_load_in_4bit", "load_in_8bit", "_load_in_8bit", "bnb_4bit_use_double_quant", "llm_int8_enable_fp32_cpu_offload",
					    "llm_int8_has_fp16_weight"}, *const texts[] = {"bnb_4bit_quant_type", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"};
	const cJSON *skipped = cJSON_GetObjectItemCaseSensitive(q->config, "llm_int8_skip_modules");
	bool flag[7] = {false};
	const char *text;
	double outlier;

	for (int i = 0; i < 7; i++) {
		const cJSON *v = cJSON_GetObjectItemCaseSensitive(q->config, flags[i]);

		if (v && !cJSON_IsBool(v))
			return bl_fail(err, BL_INVALID, "%s: %s: must be true or false", where, flags[i]);
		flag[i] = cJSON_IsTrue(v);
	}
	for (int i = 0; i < 3; i++)
		if (bl_json_str(q->config, texts[i], 20, false, &text, where, err))
			return err->status;
	if (bl_json_num(q->config, "llm_int8_threshold", -1e300, 1e300, false, &outlier, where, err))
		return err->status;
	if (skipped && !cJSON_IsNull(skipped) && !cJSON_IsArray(skipped))
		return bl_fail(err, BL_INVALID, "%s: llm_int8_skip_modules: must be a list of names", where);
	if ((flag[0] || flag[1]) == (flag[2] || flag[3]))
		return bl_fail(err, BL_INVALID, "%s: load_in_4bit, load_in_8bit: one of them has to be true, %s", where, flag[0] || flag[1] ? "both are" : "none is");
	return BL_OK;
}

static void int8_wants(struct bl_linear *l)
{
	snprintf(l->name, sizeof l->name, "int8");
	l->scheme = (struct bl_scheme){.number = BL_NUM_SCB, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL};
	l->understood = true;
	bl_want_add(l, "weight", "I8", 2, l->member->rows, l->member->cols);
	bl_want_add(l, "SCB", "F32", 1, l->member->rows, 0);
	bl_want_add(l, "weight_format", "U8", 0, 0, 0);
}

static void four_wants(struct bl_linear *l, int number, bool nested)
{
	const int64_t n = l->member->rows * l->member->cols, blocks = (n + BLOCK - 1) / BLOCK;

	l->scheme = (struct bl_scheme){.number = (uint8_t)number, .bits = 4, .symmetric = 1, .strategy = BL_STRATEGY_GROUP, .group = BLOCK, .nested = nested};
	snprintf(l->name, sizeof l->name, "%s", type_of(l));
	l->understood = l->member->cols % BLOCK == 0;
	l->why = l->understood ? NULL : "its blocks go over the ends of rows";
	bl_want_add(l, "weight", "U8", 2, (n + 1) / 2, 1);
	bl_want_add(l, "weight.absmax", nested ? "U8" : "F32", 1, blocks, 0);
	bl_want_add(l, "weight.quant_map", "F32", 1, 16, 0);
	bl_want_add(l, state_of(l), "U8", 1, -1, 0);
	if (nested) {
		bl_want_add(l, "weight.nested_absmax", "F32", 1, (blocks + BL_NEST_BLOCK - 1) / BL_NEST_BLOCK, 0);
		bl_want_add(l, "weight.nested_quant_map", "F32", 1, 256, 0);
	}
}

static void bnb_describe(struct bl_linear *l, const struct bl_quant *q)
{
	const bool eight = config_true(q, "load_in_8bit") || config_true(q, "_load_in_8bit");
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(q->config, "bnb_4bit_quant_type");

	if (l->member->weight) /* plain numbers: left alone, whatever the list of skipped ones says */
		return;
	l->format = &bl_format_bnb;
	if (eight) {
		int8_wants(l);
		return;
	}
	const char *name = cJSON_IsString(type) ? type->valuestring : "fp4"; /* what the library takes without a word */
	four_wants(l, strcmp(name, "nf4") ? BL_NUM_BNB_FP4 : BL_NUM_NF4, stored(q, l, "weight.nested_absmax"));
	if (strcmp(name, "nf4") && strcmp(name, "fp4")) {
		l->n_want = 0;
		l->understood = false;
		snprintf(l->name, sizeof l->name, "%.20s", name);
		l->why = "of 4 bits only nf4 and fp4 are read here";
	}
}

/* ---- contents ---- */

static enum bl_status check_state(struct bl_linear *l, const struct bl_model *m, const struct bl_tensor *t, struct bl_err *err)
{
	const char *type = "";
	int64_t block = 0, nested_block = 0;
	double offset = 0;
	cJSON *o = NULL;
	char label[600];

	snprintf(label, sizeof label, "%s", t->name);
	if (t->bytes > STATE_MAX)
		return bl_part_fail(err, m, t, "%llu bytes are too many for what it says", (unsigned long long)t->bytes);
	if (bl_json_parse(&o, t->data, t->bytes, 200, label, err))
		return err->status;
	const cJSON *shape = cJSON_GetObjectItemCaseSensitive(o, "shape"), *rows = cJSON_GetArrayItem(shape, 0), *cols = cJSON_GetArrayItem(shape, 1);
	if (!cJSON_IsNumber(rows) || !cJSON_IsNumber(cols) || rows->valuedouble != (double)l->member->rows || cols->valuedouble != (double)l->member->cols)
		bl_part_fail(err, m, t, "says another shape than [%lld,%lld]", (long long)l->member->rows, (long long)l->member->cols);
	else if (bl_json_str(o, "quant_type", 16, true, &type, label, err) || bl_json_int(o, "blocksize", 1, 1 << 20, true, &block, label, err) ||
		 (l->scheme.nested && (bl_json_int(o, "nested_blocksize", 1, 1 << 20, true, &nested_block, label, err) ||
				       bl_json_num(o, "nested_offset", -1e30, 1e30, true, &offset, label, err))))
		(void)0;
	else if (strcmp(type, type_of(l)) || block != BLOCK || (l->scheme.nested && nested_block != BL_NEST_BLOCK))
		bl_part_fail(err, m, t, "%s in blocks of %lld (%lld): only %s in blocks of %d (%d) is read", type, (long long)block, (long long)nested_block, type_of(l), BLOCK,
			     BL_NEST_BLOCK);
	l->offset = (float)offset;
	cJSON_Delete(o);
	return err->status;
}

static enum bl_status bnb_check(struct bl_linear *l, const struct bl_model *m, struct bl_err *err)
{
	const struct bl_tensor *map = bl_part(l, "weight.quant_map"), *state = bl_part(l, state_of(l)), *nested = bl_part(l, "weight.nested_quant_map");
	const struct bl_tensor *format = bl_part(l, "weight_format");

	if (format && *(const uint8_t *)format->data)
		return bl_part_fail(err, m, format, "is %d: only rows one after the other (0) are read", *(const uint8_t *)format->data);
	for (int i = 0; map && i < 16; i++)
		if (bl_float_at(map, i) != bl_scheme_value(&l->scheme, (int8_t)i))
			return bl_part_fail(err, m, map, "entry %d is %g, %s has %g", i, (double)bl_float_at(map, i), type_of(l), (double)bl_scheme_value(&l->scheme, (int8_t)i));
	for (int i = 0; nested && i < 256; i++) /* the library's differ in the last place between versions */
		if (!(fabsf(bl_float_at(nested, i) - bl_nest_map()[i]) <= 1e-6f))
			return bl_part_fail(err, m, nested, "entry %d is %g, the map of the library has %g", i, (double)bl_float_at(nested, i), (double)bl_nest_map()[i]);
	const struct bl_tensor *largest = bl_part(l, nested ? "weight.nested_absmax" : "weight.absmax");
	bool any = !largest;
	for (int64_t i = 0; !any && i < largest->n_elems; i++)
		any = bl_float_at(largest, i) != 0;
	if (!any)
		return bl_part_fail(err, m, largest, "all of it is zero");
	return state ? check_state(l, m, state, err) : BL_OK;
}

static void bnb_rows(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes, float *scales, int8_t *zeros)
{
	const struct bl_tensor *w = bl_part(l, "weight"), *scale = bl_part(l, l->scheme.number == BL_NUM_SCB ? "SCB" : "weight.absmax");
	const struct bl_tensor *block = bl_part(l, "weight.nested_absmax"), *map = bl_part(l, "weight.nested_quant_map");
	const int64_t k = l->member->cols, spr = bl_scheme_scales_per_row(&l->scheme, k);
	const uint8_t *data = w->data;

	(void)zeros;
	if (l->scheme.number == BL_NUM_SCB)
		memcpy(codes, data + row0 * k, (size_t)(n * k));
	else
		for (int64_t i = 0; i < n * k; i++) /* the first of a pair is the high nibble */
			codes[i] = (int8_t)(data[(row0 * k + i) / 2] >> ((row0 * k + i) % 2 ? 0 : 4) & 15);
	for (int64_t i = 0; i < n * spr; i++) {
		const int64_t at = row0 * spr + i;

		scales[i] = !block ? bl_float_at(scale, at) :
				     bl_float_at(map, ((const uint8_t *)scale->data)[at]) * bl_float_at(block, at / BL_NEST_BLOCK) + l->offset;
	}
}

const struct bl_format bl_format_bnb = {"bitsandbytes", bnb_open, bnb_describe, bnb_check, bnb_rows};
