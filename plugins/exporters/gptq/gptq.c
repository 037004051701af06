/* SPDX-License-Identifier: Apache-2.0
 * GPTQ checkpoints (v1, which nearly every client reads; v2, which can hold every zero point) and AutoRound's form of them. The matrix is stored
 * transposed: words along the inputs, scales and zero points per group and output. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plugins/exporters/f16_scales.h"
#include "plugins/exporters/gptq/gptq.h"

static const char *refuses_all(const struct bl_x_module *m)
{
	const struct bl_grid *g = &m->grid;

	if (!m->quantized)
		return NULL;
	if (g->number != BL_GRID_INT || g->act != BL_GRID_ACT_NONE)
		return "it holds integer weights with inputs in full precision, and nothing else";
	if (g->bits != 2 && g->bits != 4 && g->bits != 8)
		return "weights have 2, 4 or 8 bits in it";
	if (g->group < 0 || (g->group && m->cols % g->group))
		return "the columns are not a multiple of the group size";
	if (m->cols % 32 || m->rows % 32)
		return "rows and columns have to be multiples of 32";
	if (m->flags & BL_X_EXACT && m->flags & BL_X_SCALE_NOT_F16)
		return "some of its scales are no float16 numbers: the conversion would not be lossless";
	return NULL;
}

static const char *refuses_auto_round(const struct bl_x_module *m)
{
	if (m->quantized && m->flags & BL_X_ORDERED)
		return "it has no place for groups by an index (format gptq has)";
	if (m->quantized && !m->grid.symmetric)
		return "with zero points it is written as AWQ (format awq)";
	return refuses_all(m);
}

static void tensor(struct bl_x_tensor *t, const char *suffix, const char *dtype, int64_t rows, int64_t cols, int64_t per_step)
{
	*t = (struct bl_x_tensor){.rank = cols ? 2 : 1, .shape = {rows, cols}, .rows_per_step = per_step};
	snprintf(t->suffix, sizeof t->suffix, "%s", suffix);
	snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
}

enum { CODES, ZEROS, SCALES, INDEX };

static int tensors_all(const struct bl_x_module *m, struct bl_x_tensor *out, int cap)
{
	const int64_t per = 32 / m->grid.bits;

	if (cap < 4)
		return 0;
	tensor(&out[CODES], "qweight", "I32", m->cols / per, m->rows, BL_X_WHOLE);
	tensor(&out[ZEROS], "qzeros", "I32", f16_groups(m), m->rows / per, BL_X_WHOLE);
	tensor(&out[SCALES], "scales", "F16", f16_groups(m), m->rows, BL_X_WHOLE);
	tensor(&out[INDEX], "g_idx", "I32", m->cols, 0, 0);
	return 4;
}

static int tensors_auto_round(const struct bl_x_module *m, struct bl_x_tensor *out, int cap)
{
	return tensors_all(m, out, cap) ? 3 : 0;
}

/* ---- bytes ---- */

static void put32(uint8_t *dst, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		dst[i] = (uint8_t)(v >> 8 * i);
}

/* Word (w, n) holds inputs w * per .. of output n. Sixteen outputs at a time share a line of cache on either side. */
static void put_codes(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst)
{
	const int bits = (int)m->grid.bits, per = 32 / bits, half = 1 << (bits - 1);

	for (int64_t n0 = 0; n0 < m->rows; n0 += 16)
		for (int64_t w = 0; w < m->cols / per; w++)
			for (int64_t n = n0; n < n0 + 16 && n < m->rows; n++) {
				const int8_t *q = r->codes + n * m->cols + w * per;
				uint32_t word = 0;

				for (int j = 0; j < per; j++)
					word |= (uint32_t)(q[j] + half) << bits * j;
				put32(dst + 4 * (w * m->rows + n), word);
			}
}

const char *gptq_stored_zero(int zero, uint32_t bits, enum gptq_kind kind, uint32_t *out)
{
	if (kind == GPTQ_V2)
		*out = (uint32_t)zero;
	else if (zero == 0)
		return "a zero point of 0 cannot be stored in the first version of the format: gptq_v2, awq or compressed-tensors can";
	else
		*out = (uint32_t)(zero - 1);
	return *out >> bits ? "a zero point is outside of its bits" : NULL;
}

static const char *put_zeros(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst, enum gptq_kind kind)
{
	const uint32_t bits = m->grid.bits, half = 1u << (bits - 1);
	const int64_t per = 32 / bits, groups = f16_groups(m);

	for (int64_t g = 0; g < groups; g++)
		for (int64_t w = 0; w < m->rows / per; w++) {
			uint32_t word = 0;

			for (int64_t j = 0; j < per; j++) {
				const int zero = (int)half + (m->grid.symmetric ? 0 : r->zeros[(w * per + j) * groups + g]);
				uint32_t stored = 0;
				const char *why = gptq_stored_zero(zero, bits, kind, &stored);

				if (why)
					return why;
				word |= stored << bits * (uint32_t)j;
			}
			put32(dst + 4 * (g * (m->rows / per) + w), word);
		}
	return NULL;
}

static const char *pack(const struct bl_x_module *m, int t, const struct bl_x_rows *r, void *dst, enum gptq_kind kind)
{
	switch (t) {
	case CODES: put_codes(m, r, dst); return NULL;
	case ZEROS: return put_zeros(m, r, dst, kind);
	case SCALES: return f16_put_scales(m, r, dst);
	case INDEX:
		for (int64_t k = 0; k < m->cols; k++)
			put32((uint8_t *)dst + 4 * k, (uint32_t)(m->flags & BL_X_ORDERED ? r->group_of[k] : m->grid.group ? k / m->grid.group : 0));
		return NULL;
	default: return "no such tensor";
	}
}

static const char *pack_v1(const struct bl_x_module *m, int t, const struct bl_x_rows *r, void *dst) { return pack(m, t, r, dst, GPTQ_V1); }
static const char *pack_v2(const struct bl_x_module *m, int t, const struct bl_x_rows *r, void *dst) { return pack(m, t, r, dst, GPTQ_V2); }
static const char *config_v1(const struct bl_x_plan *p, const struct bl_host *h, void *out) { return gptq_config(p, h, out, GPTQ_V1); }
static const char *config_v2(const struct bl_x_plan *p, const struct bl_host *h, void *out) { return gptq_config(p, h, out, GPTQ_V2); }
static const char *config_auto_round(const struct bl_x_plan *p, const struct bl_host *h, void *out) { return gptq_config(p, h, out, GPTQ_AUTO_ROUND); }

static const char *format_of(const struct bl_x_plan *p, const char *name)
{
	for (int64_t i = 0; i < p->n_modules; i++)
		if (p->modules[i].quantized)
			return name;
	return "";
}

static const char *format_v1(const struct bl_x_plan *p) { return format_of(p, "gptq"); }
static const char *format_v2(const struct bl_x_plan *p) { return format_of(p, "gptq_v2"); }
static const char *format_auto_round(const struct bl_x_plan *p) { return format_of(p, "auto_round:auto_gptq"); }

static const struct bl_exporter v1 = {
	.name = "gptq",
	.sentence = "GPTQ, first version of the format: integer weights, for the widest choice of clients.",
	.refuses = refuses_all, .tensors = tensors_all, .pack = pack_v1, .config = config_v1, .format = format_v1,
};
static const struct bl_exporter v2 = {
	.name = "gptq_v2",
	.sentence = "GPTQ, second version: zero points as they are, for clients that read it.",
	.refuses = refuses_all, .tensors = tensors_all, .pack = pack_v2, .config = config_v2, .format = format_v2,
};
static const struct bl_exporter auto_round = {
	.name = "auto_round",
	.sentence = "AutoRound's own configuration with GPTQ packing.",
	.refuses = refuses_auto_round, .tensors = tensors_auto_round, .pack = pack_v1, .config = config_auto_round, .format = format_auto_round,
};
static const struct bl_exporter *const exporters[] = {&v1, &v2, &auto_round, NULL};
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "gptq_format",
	.version = "1.0",
	.sentence = "Exports in the GPTQ formats.",
	.exporters = exporters,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void)
{
	return &plugin;
}
