/* SPDX-License-Identifier: Apache-2.0
 * compressed-tensors: int-quantized (W8A8), pack-quantized (2 to 8 bit weights alone), float-quantized (FP8), 4-bit floats in both forms, 8-bit ones in groups
 * (mxfp8-quantized, of compressed-tensors 0.19), and mixed-precision when a plan holds more than one of them. Layouts as vLLM 0.14.1 / compressed-tensors 0.13.0 load
 * them; the config text is in config.c. */
#include <stdio.h>
#include <string.h>

#include "plugins/exporters/compressed_tensors/ct.h"

const char *ct_format(const struct bl_grid *g)
{
	if (g->number == BL_GRID_E4M3)
		return "float-quantized";
	if (g->number == BL_GRID_MX_E4M3)
		return "mxfp8-quantized";
	if (g->number == BL_GRID_E2M1)
		return g->group == 16 ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized";
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

int ct_is_block(const struct bl_grid *g)
{
	return g->number == BL_GRID_E4M3 && g->group > 0;
}

/* Scales are the exponents of powers of two. */
static int is_mx(const struct bl_grid *g)
{
	return g->number == BL_GRID_MX_E4M3 || (g->number == BL_GRID_E2M1 && g->group == 32);
}

static int is_packed(const struct bl_x_module *m)
{
	return !strcmp(ct_format(&m->grid), "pack-quantized");
}

static int64_t scales_per_row(const struct bl_x_module *m)
{
	return m->grid.group > 0 ? m->cols / m->grid.group : 1;
}

static const char *refuses_float(const struct bl_grid *g)
{
	if (g->number == BL_GRID_E2M1) {
		if (g->group == 32 ? g->act != BL_GRID_ACT_NONE : g->group != 16 || (g->act != BL_GRID_ACT_NONE && g->act != BL_GRID_ACT_FP4_GROUP))
			return "4-bit floats are written in groups of 32, or of 16 with 4-bit inputs or none";
		return NULL;
	}
	if (g->number == BL_GRID_MX_E4M3)
		return g->group == 32 && g->act == BL_GRID_ACT_NONE ? NULL : "8-bit floats with powers of two as scales are written in groups of 32, with inputs in 16 bits";
	if (ct_is_block(g))
		return g->group == 128 && g->act == BL_GRID_ACT_FP8_GROUP ? NULL : "blocks of FP8 are 128 x 128, with inputs in groups of 128";
	if ((g->act != BL_GRID_ACT_FP8_TOKEN && g->act != BL_GRID_ACT_FP8_TENSOR) || (g->group < 0 && g->act != BL_GRID_ACT_FP8_TENSOR))
		return "FP8 is written per channel, or per tensor with static activations, and with FP8 activations";
	return NULL;
}

static const char *refuses(const struct bl_x_module *m)
{
	const struct bl_grid *g = &m->grid;

	if (g->group > 0 && m->cols % g->group)
		return "the columns are not a multiple of the group size";
	if (g->number == BL_GRID_E4M3 || g->number == BL_GRID_E2M1 || g->number == BL_GRID_MX_E4M3)
		return m->flags & BL_X_ORDERED ? "groups by an index go with integers" : refuses_float(g);
	if (g->number != BL_GRID_INT)
		return "it is a form of bitsandbytes (format bitsandbytes writes it)";
	if (g->act > BL_GRID_ACT_FP8_TENSOR)
		return "what it does with activations is not known to this exporter";
	if (g->act == BL_GRID_ACT_FP8_TOKEN || g->act == BL_GRID_ACT_FP8_TENSOR)
		return "integer weights with FP8 activations have no format";
	if (ct_is_int8(g) && (g->bits != 8 || g->group || !g->symmetric))
		return "int8 activations go with symmetric 8-bit weights per channel";
	return g->bits < 2 || g->bits > 8 ? "only 2 to 8 bits pack" : NULL;
}

/* ---- which tensors ---- */

static struct bl_x_tensor *tensor(struct bl_x_tensor *out, int *n, const char *suffix, const char *dtype, int64_t rows, int64_t cols)
{
	struct bl_x_tensor *t = &out[(*n)++];

	*t = (struct bl_x_tensor){.rank = cols ? 2 : 1, .shape = {rows, cols}};
	snprintf(t->suffix, sizeof t->suffix, "%s", suffix);
	snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
	return t;
}

static void by_rows(struct bl_x_tensor *t, int64_t per_step, int64_t bytes)
{
	t->rows_per_step = per_step;
	t->bytes_per_step = bytes;
}

static const char *scale_type(const struct bl_x_module *m)
{
	if (is_mx(&m->grid))
		return "U8";
	if (m->grid.number == BL_GRID_E2M1)
		return "F8_E4M3";
	return m->flags & BL_X_SCALE_F32 ? "F32" : m->flags & BL_X_SCALE_F16 ? "F16" : "BF16";
}

static int64_t scale_bytes(const struct bl_x_module *m)
{
	return m->grid.number == BL_GRID_E2M1 || is_mx(&m->grid) ? 1 : m->flags & BL_X_SCALE_F32 ? 4 : 2;
}

int64_t ct_gcd32(uint32_t bits)
{
	int64_t g = 1;

	while (g < 32 && bits % (2 * g) == 0)
		g *= 2;
	return g;
}

static int tensors(const struct bl_x_module *m, struct bl_x_tensor *out, int cap)
{
	const int64_t spr = scales_per_row(m), words = (m->cols * m->grid.bits + 31) / 32, gcd = ct_gcd32(m->grid.bits);
	struct bl_x_tensor *t;
	int n = 0;

	if (cap < 5)
		return 0;
	if (m->grid.number == BL_GRID_E2M1)
		by_rows(tensor(out, &n, "weight_packed", "U8", m->rows, m->cols / 2), 1, m->cols / 2);
	else if (is_packed(m))
		by_rows(tensor(out, &n, "weight_packed", "I32", m->rows, words), 1, 4 * words);
	else
		by_rows(tensor(out, &n, "weight", m->grid.number == BL_GRID_E4M3 || is_mx(&m->grid) ? "F8_E4M3" : "I8", m->rows, m->cols), 1, m->cols);
	if (m->grid.group < 0) {
		tensor(out, &n, "weight_scale", scale_type(m), 1, 0);
	} else if (ct_is_block(&m->grid)) {
		t = tensor(out, &n, "weight_scale", scale_type(m), (m->rows + m->grid.group - 1) / m->grid.group, spr);
		t->rows_per_step = BL_X_WHOLE;
	} else {
		by_rows(tensor(out, &n, "weight_scale", scale_type(m), m->rows, spr), 1, scale_bytes(m) * spr);
	}
	if (m->grid.number == BL_GRID_E2M1 && m->grid.group == 16)
		tensor(out, &n, "weight_global_scale", "F32", 1, 0);
	if (m->grid.act == BL_GRID_ACT_FP4_GROUP)
		tensor(out, &n, "input_global_scale", "F32", 1, 0);
	if (ct_is_static(&m->grid))
		tensor(out, &n, "input_scale", "F32", 1, 0);
	if (is_packed(m))
		tensor(out, &n, "weight_shape", "I64", 2, 0);
	if (is_packed(m) && !m->grid.symmetric) /* zero points pack along rows: 32 rows make `bits` words, for every width */
		by_rows(tensor(out, &n, "weight_zero_point", "I32", (m->rows * m->grid.bits + 31) / 32, spr), 32 / gcd, 4 * spr * m->grid.bits / gcd);
	if (m->flags & BL_X_ORDERED)
		tensor(out, &n, "weight_g_idx", "I32", m->cols, 0);
	return n;
}

/* ---- their bytes ---- */

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

	if (m->grid.number == BL_GRID_E2M1) { /* the even column is the low nibble */
		for (int64_t i = 0; i < r->n * m->cols / 2; i++)
			dst[i] = (uint8_t)((r->codes[2 * i] & 15) | (r->codes[2 * i + 1] & 15) << 4);
		return;
	}
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

static void put_number(uint8_t *dst, uint64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		dst[i] = (uint8_t)(v >> 8 * i);
}

static void put_float(uint8_t *dst, float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	put_number(dst, u, 4);
}

/* Scale number `from` of the rows into `to`, in the type that scale_type names; its value is exact there by contract. */
static const char *put_scale(const struct bl_x_module *m, const struct bl_x_rows *r, int64_t from, uint8_t *dst, int64_t to)
{
	const float s = r->scales[from];
	uint32_t u;

	memcpy(&u, &s, 4);
	if (m->grid.number == BL_GRID_E2M1 && m->grid.group == 16)
		return ct_e4m3_of(s * r->global, &dst[to]);
	if (is_mx(&m->grid))
		dst[to] = (uint8_t)(u >> 23);
	else if (m->flags & BL_X_SCALE_F32)
		put_number(dst + 4 * to, u, 4);
	else if (m->flags & BL_X_SCALE_F16)
		put_number(dst + 2 * to, ct_f16_of(s), 2);
	else
		put_number(dst + 2 * to, u >> 16, 2); /* the upper half is the number */
	return NULL;
}

static const char *put_scales(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst)
{
	const int64_t spr = scales_per_row(m), step = ct_is_block(&m->grid) ? m->grid.group : 1, n = m->grid.group < 0 ? 1 : (r->n + step - 1) / step * spr;
	const char *why = NULL;

	for (int64_t i = 0; i < n && !why; i++)
		why = put_scale(m, r, i / spr * step * spr + i % spr, dst, i);
	return why;
}

static const char *put_zeros(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst)
{
	int64_t spr = scales_per_row(m), words = (r->n * m->grid.bits + 31) / 32;
	enum { PIECE = 256 }; /* rows that end with a whole word at every width */
	uint8_t column[PIECE];

	for (int64_t g = 0; g < spr; g++)
		for (int64_t at = 0; at < r->n; at += PIECE) {
			const int64_t n = r->n - at < PIECE ? r->n - at : PIECE, first = at * m->grid.bits / 32;

			pack_words(column, r->zeros + at * spr + g, n, spr, m->grid.bits);
			for (int64_t w = 0; first + w < words && w < (n * m->grid.bits + 31) / 32; w++)
				memcpy(dst + 4 * ((first + w) * spr + g), column + 4 * w, 4);
		}
	return NULL;
}

static const char *pack(const struct bl_x_module *m, int t, const struct bl_x_rows *r, void *dst)
{
	struct bl_x_tensor all[8];

	if (t >= tensors(m, all, 8))
		return "no such tensor";
	const char *name = all[t].suffix;
	if (!strcmp(name, "weight") || !strcmp(name, "weight_packed"))
		put_codes(m, r, dst);
	else if (!strcmp(name, "weight_scale"))
		return put_scales(m, r, dst);
	else if (!strcmp(name, "weight_zero_point"))
		return put_zeros(m, r, dst);
	else if (!strcmp(name, "weight_global_scale"))
		put_float(dst, r->global);
	else if (!strcmp(name, "weight_shape"))
		put_number(dst, (uint64_t)m->rows, 8), put_number((uint8_t *)dst + 8, (uint64_t)m->cols, 8);
	else if (!strcmp(name, "weight_g_idx"))
		for (int64_t k = 0; k < m->cols; k++)
			put_number((uint8_t *)dst + 4 * k, (uint32_t)r->group_of[k], 4);
	else /* input_scale, input_global_scale */
		put_float(dst, r->input_scale);
	return NULL;
}

static const struct bl_exporter exporter = {
	.name = "compressed-tensors",
	.sentence = "What vLLM and transformers load: int-quantized, pack-quantized, float-quantized, nvfp4, mxfp4, mxfp8, mixed-precision.",
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
	.version = "1.1",
	.sentence = "Exports in the compressed-tensors formats.",
	.exporters = exporters,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void)
{
	return &plugin;
}
