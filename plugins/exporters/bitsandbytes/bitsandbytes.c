/* SPDX-License-Identifier: Apache-2.0
 * bitsandbytes checkpoints as transformers saves them: NF4 or FP4 with plain or nested scales, or LLM.int8. One of them for the whole model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plugin/plugin_api.h"

#define NEST 256
#define NUMBER_MAX 24 /* of a number in the state: the text ends in blanks, so that its length does not depend on it */

static int is_nf4(const struct bl_x_module *m) { return m->grid.number == BL_GRID_NF4 || m->grid.number == BL_GRID_NF4_NESTED; }
static int is_fp4(const struct bl_x_module *m) { return m->grid.number == BL_GRID_BNB_FP4 || m->grid.number == BL_GRID_BNB_FP4_NESTED; }
static int is_four(const struct bl_x_module *m) { return is_nf4(m) || is_fp4(m); }
static const char *type_of(const struct bl_x_module *m) { return is_nf4(m) ? "nf4" : "fp4"; } /* fp4 also of what is not in 4 bits */
static int is_nested(const struct bl_x_module *m) { return m->grid.number == BL_GRID_NF4_NESTED || m->grid.number == BL_GRID_BNB_FP4_NESTED; }
static int64_t blocks_of(const struct bl_x_module *m) { return m->rows * (m->cols / m->grid.group); }

static const char *refuses(const struct bl_x_module *m)
{
	if (!m->quantized)
		return NULL;
	if (m->grid.number == BL_GRID_SCB)
		return NULL;
	if (!is_four(m))
		return "it holds NF4, FP4 (each also with _DQ) or LLM_INT8, and nothing else";
	return m->grid.group != 64 || m->cols % 64 ? "its blocks are 64 weights of a row: the columns are no multiple of that" : NULL;
}

/* ---- tensors ---- */

static struct bl_x_tensor *tensor(struct bl_x_tensor *t, const char *suffix, const char *dtype, int rank, int64_t a, int64_t b)
{
	*t = (struct bl_x_tensor){.rank = rank, .shape = {a, b}};
	snprintf(t->suffix, sizeof t->suffix, "%s", suffix);
	snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
	return t;
}

static void by_rows(struct bl_x_tensor *t, int64_t bytes)
{
	t->rows_per_step = 1;
	t->bytes_per_step = bytes;
}

/* The shortest text that reads back as the same number, as the library prints it. */
static void number_text(char *dst, size_t cap, double v)
{
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(dst, cap, "%.*g", digits, v);
		if (strtod(dst, NULL) == v)
			break;
	}
}

static void state_text(char *dst, size_t cap, const struct bl_x_module *m, double offset)
{
	char number[NUMBER_MAX + 8], tail[200] = "}";

	number_text(number, sizeof number, offset);
	if (is_nested(m))
		snprintf(tail, sizeof tail, ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\", \"nested_offset\": %s}%*s", NEST, number,
			 NUMBER_MAX - (int)strlen(number), "");
	snprintf(dst, cap, "{\"quant_type\": \"%s\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [%lld, %lld]%s", type_of(m), (long long)m->rows, (long long)m->cols, tail);
}

enum { CODES, ABSMAX, MAP, STATE, NESTED_ABSMAX, NESTED_MAP, SCB = ABSMAX, FORMAT = MAP };

static int tensors(const struct bl_x_module *m, struct bl_x_tensor *out, int cap)
{
	char state[400];

	if (cap < 6)
		return 0;
	if (!is_four(m)) {
		by_rows(tensor(&out[CODES], "weight", "I8", 2, m->rows, m->cols), m->cols);
		by_rows(tensor(&out[SCB], "SCB", "F32", 1, m->rows, 0), 4);
		tensor(&out[FORMAT], "weight_format", "U8", 0, 0, 0);
		return 3;
	}
	state_text(state, sizeof state, m, 0);
	by_rows(tensor(&out[CODES], "weight", "U8", 2, m->rows * m->cols / 2, 1), m->cols / 2);
	if (is_nested(m))
		tensor(&out[ABSMAX], "weight.absmax", "U8", 1, blocks_of(m), 0)->rows_per_step = BL_X_WHOLE;
	else
		by_rows(tensor(&out[ABSMAX], "weight.absmax", "F32", 1, blocks_of(m), 0), 4 * (m->cols / m->grid.group));
	tensor(&out[MAP], "weight.quant_map", "F32", 1, 16, 0);
	tensor(&out[STATE], is_nf4(m) ? "weight.quant_state.bitsandbytes__nf4" : "weight.quant_state.bitsandbytes__fp4", "U8", 1, (int64_t)strlen(state), 0)->rows_per_step = is_nested(m) ? BL_X_WHOLE : 0;
	if (!is_nested(m))
		return 4;
	tensor(&out[NESTED_ABSMAX], "weight.nested_absmax", "F32", 1, (blocks_of(m) + NEST - 1) / NEST, 0)->rows_per_step = BL_X_WHOLE;
	tensor(&out[NESTED_MAP], "weight.nested_quant_map", "F32", 1, 256, 0)->rows_per_step = BL_X_WHOLE;
	return 6;
}

/* ---- bytes ---- */

static void put_floats(uint8_t *dst, const float *f, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		uint32_t u;

		memcpy(&u, &f[i], 4);
		for (int b = 0; b < 4; b++)
			dst[4 * i + b] = (uint8_t)(u >> 8 * b);
	}
}

static const char *put_nested(const struct bl_x_module *m, int t, const struct bl_x_rows *r, uint8_t *dst)
{
	const int64_t n = blocks_of(m), blocks = (n + NEST - 1) / NEST;
	uint8_t *q = malloc((size_t)n + 1);
	float *block_max = malloc(((size_t)blocks + 1) * sizeof *block_max), offset = 0;
	const float *map = NULL;
	char state[400];

	if (q && block_max) {
		r->host->nest(q, block_max, &offset, &map, r->scales, n);
		state_text(state, sizeof state, m, (double)offset);
		if (t == ABSMAX)
			memcpy(dst, q, (size_t)n);
		else if (t == NESTED_ABSMAX)
			put_floats(dst, block_max, blocks);
		else if (t == NESTED_MAP)
			put_floats(dst, map, 256);
		else
			memcpy(dst, state, strlen(state));
	}
	const char *why = q && block_max ? NULL : "not enough memory for its scales";
	free(q);
	free(block_max);
	return why;
}

static const char *pack(const struct bl_x_module *m, int t, const struct bl_x_rows *r, void *dst)
{
	static const float nf4[16] = {
		-1.f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.f,
		0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.f,
	};
	static const float fp4[16] = { 0, 0x1.555556p-8f, 0x1.555556p-1f, 1, 0x1.555556p-2f, .5f, 0x1.555556p-3f, .25f,
				       0, -0x1.555556p-8f, -0x1.555556p-1f, -1, -0x1.555556p-2f, -.5f, -0x1.555556p-3f, -.25f };
	uint8_t *out = dst;
	char state[400];

	if (!is_four(m)) {
		if (t == CODES)
			memcpy(dst, r->codes, (size_t)(r->n * m->cols));
		else if (t == SCB)
			put_floats(dst, r->scales, r->n);
		else
			*out = 0; /* rows one after the other */
		return NULL;
	}
	if (t == CODES) {
		for (int64_t i = 0; i < r->n * m->cols / 2; i++) /* the first of a pair is the high nibble */
			out[i] = (uint8_t)((r->codes[2 * i] & 15) << 4 | (r->codes[2 * i + 1] & 15));
		return NULL;
	}
	if (t == MAP) {
		put_floats(out, is_nf4(m) ? nf4 : fp4, 16);
		return NULL;
	}
	if (is_nested(m))
		return put_nested(m, t, r, out);
	if (t == ABSMAX) {
		put_floats(out, r->scales, r->n * (m->cols / m->grid.group));
		return NULL;
	}
	state_text(state, sizeof state, m, 0);
	memcpy(out, state, strlen(state));
	return NULL;
}

/* ---- config ---- */

static void skipped(const struct bl_x_plan *p, const struct bl_host *h, void *out)
{
	int n = 0;

	for (int64_t i = 0; i < p->n_modules; i++) {
		const struct bl_x_module *m = &p->modules[i];

		if (m->quantized)
			continue;
		if (strcmp(m->unit, m->name) && (!i || strcmp(p->modules[i - 1].unit, m->unit))) { /* servers look for the fused name */
			h->text(out, n++ ? ",\"" : "[\"");
			h->text(out, m->unit);
			h->text(out, "\"");
		}
		h->text(out, n++ ? ",\"" : "[\"");
		h->text(out, m->name);
		h->text(out, "\"");
	}
	for (int i = 0; n && i < p->n_keep; i++) {
		h->text(out, ",\"");
		h->text(out, p->keep[i]);
		h->text(out, "\"");
	}
	h->text(out, n ? "]" : "null");
}

static const char *config(const struct bl_x_plan *p, const struct bl_host *h, void *out)
{
	const struct bl_x_module *lead = NULL;
	char line[700];

	for (int64_t i = 0; i < p->n_modules; i++) {
		if (!p->modules[i].quantized)
			continue;
		if (lead && lead->grid.number != p->modules[i].grid.number)
			return "it has one scheme for all linears: NF4, NF4_DQ, FP4, FP4_DQ or LLM_INT8 (others stay in full precision)";
		lead = lead ? lead : &p->modules[i];
	}
	if (!lead)
		return NULL;
	const char *four = is_four(lead) ? "true" : "false", *eight = is_four(lead) ? "false" : "true";
	snprintf(line, sizeof line,
		 "{\"_load_in_4bit\":%s,\"_load_in_8bit\":%s,\"bnb_4bit_compute_dtype\":\"bfloat16\",\"bnb_4bit_quant_storage\":\"uint8\",\"bnb_4bit_quant_type\":\"%s\","
		 "\"bnb_4bit_use_double_quant\":%s,\"llm_int8_enable_fp32_cpu_offload\":false,\"llm_int8_has_fp16_weight\":false,\"llm_int8_threshold\":6.0,"
		 "\"load_in_4bit\":%s,\"load_in_8bit\":%s,\"quant_method\":\"bitsandbytes\",\"llm_int8_skip_modules\":",
		 four, eight, type_of(lead), is_nested(lead) ? "true" : "false", four, eight);
	h->text(out, line);
	skipped(p, h, out);
	h->text(out, "}");
	return NULL;
}

static const char *format(const struct bl_x_plan *p)
{
	for (int64_t i = 0; i < p->n_modules; i++)
		if (p->modules[i].quantized)
			return is_nf4(&p->modules[i]) ? "bitsandbytes nf4" : is_fp4(&p->modules[i]) ? "bitsandbytes fp4" : "bitsandbytes int8";
	return "";
}

static const struct bl_exporter exporter = {
	.name = "bitsandbytes",
	.sentence = "What transformers loads with bitsandbytes: NF4 or FP4 (with double quantization) or LLM.int8.",
	.refuses = refuses, .tensors = tensors, .pack = pack, .config = config, .format = format,
};
static const struct bl_exporter *const exporters[] = {&exporter, NULL};
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "bitsandbytes",
	.version = "1.0",
	.sentence = "Exports for bitsandbytes.",
	.exporters = exporters,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void)
{
	return &plugin;
}
