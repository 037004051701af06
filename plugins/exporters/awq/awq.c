/* SPDX-License-Identifier: Apache-2.0
 * AWQ checkpoints (gemm layout): 4-bit weights with zero points, transposed, eight outputs a word in an order of their own. */
#include <stdio.h>
#include <string.h>

#include "plugins/exporters/f16_scales.h"

static const char *refuses(const struct bl_x_module *m)
{
	const struct bl_grid *g = &m->grid;

	if (!m->quantized)
		return NULL;
	if (g->number != BL_GRID_INT || g->act != BL_GRID_ACT_NONE || g->bits != 4)
		return "it holds 4-bit integer weights with inputs in full precision, and nothing else";
	if (m->flags & BL_X_ORDERED)
		return "it has no place for groups by an index (format gptq has)";
	if (g->group < 0 || (g->group && m->cols % g->group))
		return "the columns are not a multiple of the group size";
	if (m->rows % 8)
		return "rows have to be a multiple of 8";
	if (m->flags & BL_X_EXACT && m->flags & BL_X_SCALE_NOT_F16)
		return "some of its scales are no float16 numbers: the conversion would not be lossless";
	return NULL;
}

enum { CODES, ZEROS, SCALES };

static void tensor(struct bl_x_tensor *t, const char *suffix, const char *dtype, int64_t rows, int64_t cols)
{
	*t = (struct bl_x_tensor){.rank = 2, .shape = {rows, cols}, .rows_per_step = BL_X_WHOLE};
	snprintf(t->suffix, sizeof t->suffix, "%s", suffix);
	snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
}

static int tensors(const struct bl_x_module *m, struct bl_x_tensor *out, int cap)
{
	if (cap < 3)
		return 0;
	tensor(&out[CODES], "qweight", "I32", m->cols, m->rows / 8);
	tensor(&out[ZEROS], "qzeros", "I32", f16_groups(m), m->rows / 8);
	tensor(&out[SCALES], "scales", "F16", f16_groups(m), m->rows);
	return 3;
}

/* Eight values, `stride` apart, into one word. */
static void put_word(uint8_t *dst, const int8_t *q, int64_t stride)
{
	static const int place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
	uint32_t word = 0;

	for (int j = 0; j < 8; j++)
		word |= (uint32_t)((q ? q[j * stride] : 0) + 8) << 4 * place[j];
	for (int i = 0; i < 4; i++)
		dst[i] = (uint8_t)(word >> 8 * i);
}

static const char *pack(const struct bl_x_module *m, int t, const struct bl_x_rows *r, void *dst)
{
	const int64_t groups = f16_groups(m), words = m->rows / 8;
	uint8_t *out = dst;

	if (t == SCALES)
		return f16_put_scales(m, r, dst);
	if (t != CODES && t != ZEROS)
		return "no such tensor";
	for (int64_t w = 0; w < words; w++)
		for (int64_t k = 0; k < (t == CODES ? m->cols : groups); k++) {
			if (t == CODES)
				put_word(out + 4 * (k * words + w), r->codes + 8 * w * m->cols + k, m->cols);
			else
				put_word(out + 4 * (k * words + w), m->grid.symmetric ? NULL : r->zeros + 8 * w * groups + k, groups);
		}
	return NULL;
}

static const char *config(const struct bl_x_plan *p, const struct bl_host *h, void *out)
{
	const struct bl_x_module *lead = NULL;
	char line[200];
	int n = 0;

	for (int64_t i = 0; i < p->n_modules; i++) {
		if (!p->modules[i].quantized)
			continue;
		if (lead && lead->grid.group != p->modules[i].grid.group)
			return "it has one group size for all linears: choose one, or format gptq or compressed-tensors";
		lead = lead ? lead : &p->modules[i];
	}
	if (!lead)
		return NULL;
	snprintf(line, sizeof line, "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":%lld,\"zero_point\":true,\"version\":\"gemm\",\"modules_to_not_convert\":[",
		 lead->grid.group ? (long long)lead->grid.group : -1ll);
	h->text(out, line);
	for (int64_t i = 0; i < p->n_modules; i++)
		if (!p->modules[i].quantized) {
			h->text(out, n++ ? ",\"" : "\"");
			h->text(out, p->modules[i].name);
			h->text(out, "\"");
		}
	for (int i = 0; i < p->n_keep; i++) {
		h->text(out, n++ ? ",\"" : "\"");
		h->text(out, p->keep[i]);
		h->text(out, "\"");
	}
	h->text(out, "]}");
	return NULL;
}

static const char *format(const struct bl_x_plan *p)
{
	for (int64_t i = 0; i < p->n_modules; i++)
		if (p->modules[i].quantized)
			return "awq";
	return "";
}

static const struct bl_exporter exporter = {
	.name = "awq",
	.sentence = "AWQ, gemm layout: 4-bit weights with zero points.",
	.refuses = refuses, .tensors = tensors, .pack = pack, .config = config, .format = format,
};
static const struct bl_exporter *const exporters[] = {&exporter, NULL};
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "awq_format",
	.version = "1.0",
	.sentence = "Exports in the AWQ format.",
	.exporters = exporters,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void)
{
	return &plugin;
}
