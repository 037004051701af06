/* SPDX-License-Identifier: Apache-2.0
 * compressed-tensors: int-quantized (W8A8), pack-quantized (2 to 8 bit weights alone), float-quantized (FP8), and mixed-precision when a plan
 * holds more than one of them. Layouts as vLLM 0.14.1 / compressed-tensors 0.13.0 load them; the config text is in config.c. */
#include <stdio.h>
#include <string.h>

#include "plugins/exporters/compressed_tensors/ct.h"

const char *ct_format(const struct bl_grid *g)
{
	if (g->number == BL_GRID_E4M3)
		return "float-quantized";
	return ct_is_int8(g) ? "int-quantized" : "pack-quantized";
}

int ct_is_int8(const struct bl_grid *g)
{
	return g->act == BL_GRID_ACT_INT8_TOKEN || g->act == BL_GRID_ACT_INT8_TENSOR;
}

int ct_is_static(const struct bl_grid *g)
{
	return g->act == BL_GRID_ACT_INT8_TENSOR || g->act == BL_GRID_ACT_FP8_TENSOR;
}

static int is_packed(const struct bl_x_module *m)
{
	return !strcmp(ct_format(&m->grid), "pack-quantized");
}

static int64_t scales_per_row(const struct bl_x_module *m)
{
	return m->grid.group > 0 ? m->cols / m->grid.group : 1;
}

static const char *refuses(const struct bl_x_module *m)
{
	const struct bl_grid *g = &m->grid;

	if (g->group > 0 && m->cols % g->group)
		return "the columns are not a multiple of the group size";
	int fp8 = g->act == BL_GRID_ACT_FP8_TOKEN || g->act == BL_GRID_ACT_FP8_TENSOR;

	if (g->act > BL_GRID_ACT_FP8_TENSOR)
		return "what it does with activations is not known to this exporter";
	if (g->number == BL_GRID_E4M3)
		return g->group > 0 || !fp8 || (g->group < 0 && g->act != BL_GRID_ACT_FP8_TENSOR) ?
			       "FP8 is written per channel, or per tensor with static activations, and with FP8 activations" : NULL;
	if (fp8)
		return "integer weights with FP8 activations have no format";
	if (ct_is_int8(g) && (g->bits != 8 || g->group || !g->symmetric))
		return "int8 activations go with symmetric 8-bit weights per channel";
	return g->bits < 2 || g->bits > 8 ? "only 2 to 8 bits pack" : NULL;
}

static void tensor(struct bl_x_tensor *t, const char *suffix, const char *dtype, int64_t rows, int64_t cols, int64_t per_step, int64_t bytes)
{
	*t = (struct bl_x_tensor){.rank = 2, .shape = {rows, cols}, .rows_per_step = per_step, .bytes_per_step = bytes};
	snprintf(t->suffix, sizeof t->suffix, "%s", suffix);
	snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
}

enum { CODES, SCALE, SHAPE, ZERO, INPUT = SHAPE }; /* INPUT: of those that are not packed */

static int tensors(const struct bl_x_module *m, struct bl_x_tensor *out, int cap)
{
	int64_t spr = scales_per_row(m), words = (m->cols * m->grid.bits + 31) / 32;
	int n = is_packed(m) ? (m->grid.symmetric ? 3 : 4) : ct_is_static(&m->grid) ? 3 : 2;

	if (n > cap)
		return 0;
	if (is_packed(m))
		tensor(&out[CODES], "weight_packed", "I32", m->rows, words, 1, 4 * words);
	else
		tensor(&out[CODES], "weight", m->grid.number == BL_GRID_E4M3 ? "F8_E4M3" : "I8", m->rows, m->cols, 1, m->cols);
	tensor(&out[SCALE], "weight_scale", "BF16", m->rows, spr, 1, 2 * spr);
	if (m->grid.group < 0) {
		tensor(&out[SCALE], "weight_scale", "BF16", 1, 0, 0, 0);
		out[SCALE].rank = 1;
	}
	if (n > INPUT && !is_packed(m)) {
		tensor(&out[INPUT], "input_scale", "F32", 1, 0, 0, 0);
		out[INPUT].rank = 1;
	} else if (n > SHAPE) {
		tensor(&out[SHAPE], "weight_shape", "I64", 2, 0, 0, 0);
		out[SHAPE].rank = 1;
	}
	if (n > ZERO) /* zero points pack along rows: 32 rows make `bits` words, for every width */
		tensor(&out[ZERO], "weight_zero_point", "I32", (m->rows * m->grid.bits + 31) / 32, spr, 32 / ct_gcd32(m->grid.bits),
		       4 * spr * m->grid.bits / ct_gcd32(m->grid.bits));
	return n;
}

int64_t ct_gcd32(uint32_t bits)
{
	int64_t g = 1;

	while (g < 32 && bits % (2 * g) == 0)
		g *= 2;
	return g;
}

/* n unsigned codes of `bits` bits, dense, lowest bits first, into little-endian words. */
static void pack_words(uint8_t *dst, const int8_t *codes, int64_t n, int64_t stride, uint32_t bits)
{
	uint64_t held = 0;
	uint32_t have = 0, bias = 1u << (bits - 1);
	int64_t at = 0;

	for (int64_t i = 0; i < n; i++) {
		held |= (uint64_t)((uint32_t)(codes[i * stride] + (int32_t)bias) & ((1u << bits) - 1)) << have;
		have += bits;
		for (; have >= 8; have -= 8, held >>= 8)
			dst[at++] = (uint8_t)held;
	}
	while (have || at % 4) {
		dst[at++] = (uint8_t)held;
		held >>= 8;
		have = have > 8 ? have - 8 : 0;
	}
}

/* The common width, without the bit cursor: two codes a byte. */
static void pack4(uint8_t *dst, const int8_t *codes, int64_t n)
{
	for (int64_t i = 0; i < n / 2; i++)
		dst[i] = (uint8_t)(((codes[2 * i] + 8) & 15) | ((codes[2 * i + 1] + 8) & 15) << 4);
}

static void pack8(uint8_t *dst, const int8_t *codes, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		dst[i] = (uint8_t)(codes[i] ^ 0x80);
}

static void put_codes(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst)
{
	int64_t row_bytes = (m->cols * m->grid.bits + 31) / 32 * 4;

	if (!is_packed(m)) {
		memcpy(dst, r->codes, (size_t)(r->n * m->cols));
		return;
	}
	for (int64_t i = 0; i < r->n; i++) {
		const int8_t *codes = r->codes + i * m->cols;
		if (m->grid.bits == 4 && m->cols % 8 == 0)
			pack4(dst + i * row_bytes, codes, m->cols);
		else if (m->grid.bits == 8 && m->cols % 4 == 0)
			pack8(dst + i * row_bytes, codes, m->cols);
		else
			pack_words(dst + i * row_bytes, codes, m->cols, 1, m->grid.bits);
	}
}

static void put_scales(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst)
{
	int64_t n = m->grid.group < 0 ? 1 : r->n * scales_per_row(m);

	for (int64_t i = 0; i < n; i++) { /* representable in bfloat16 by contract: the upper half is the number */
		uint32_t u;
		memcpy(&u, &r->scales[i], 4);
		dst[2 * i] = (uint8_t)(u >> 16);
		dst[2 * i + 1] = (uint8_t)(u >> 24);
	}
}

static const char *put_zeros(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst)
{
	int64_t spr = scales_per_row(m), words = (r->n * m->grid.bits + 31) / 32;
	uint8_t column[4 * 1024];

	if (words * 4 > (int64_t)sizeof column)
		return "too many rows in one piece";
	for (int64_t g = 0; g < spr; g++) {
		pack_words(column, r->zeros + g, r->n, spr, m->grid.bits);
		for (int64_t w = 0; w < words; w++)
			memcpy(dst + 4 * (w * spr + g), column + 4 * w, 4);
	}
	return NULL;
}

static const char *pack(const struct bl_x_module *m, int t, const struct bl_x_rows *r, void *dst)
{
	if (t == INPUT && !is_packed(m)) {
		uint32_t u;
		memcpy(&u, &r->input_scale, 4);
		for (int i = 0; i < 4; i++)
			((uint8_t *)dst)[i] = (uint8_t)(u >> 8 * i);
		return NULL;
	}
	switch (t) {
	case CODES: put_codes(m, r, dst); return NULL;
	case SCALE: put_scales(m, r, dst); return NULL;
	case ZERO: return put_zeros(m, r, dst);
	case SHAPE: {
		int64_t shape[2] = {m->rows, m->cols};
		for (int i = 0; i < 16; i++)
			((uint8_t *)dst)[i] = (uint8_t)((uint64_t)shape[i / 8] >> 8 * (i % 8));
		return NULL;
	}
	default: return "no such tensor";
	}
}

static const struct bl_exporter exporter = {
	.name = "compressed-tensors",
	.sentence = "What vLLM and transformers load: int-quantized, pack-quantized, float-quantized, mixed-precision.",
	.refuses = refuses,
	.tensors = tensors,
	.pack = pack,
	.config = ct_config,
	.format = ct_plan_format,
};
static const struct bl_exporter *const exporters[] = {&exporter, NULL};
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "compressed_tensors",
	.version = "1.0",
	.sentence = "Exports in the compressed-tensors formats.",
	.exporters = exporters,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void)
{
	return &plugin;
}
