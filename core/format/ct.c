/* SPDX-License-Identifier: Apache-2.0
 * compressed-tensors: int-, float-, naive-, pack-quantized, nvfp4- and mxfp4-pack-quantized, mxfp8-quantized. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/format/private.h"
#include "core/scheme/pack.h"

static enum bl_status ct_open(struct bl_quant *q, struct bl_err *err)
{
	return bl_ct_config_parse(&q->ct, q->config, err);
}

static void want_scale(struct bl_linear *l, const struct bl_ct_scheme *s, int64_t n, int64_t k)
{
	const char *dtypes = !strcmp(s->format, "nvfp4-pack-quantized") ? "F8_E4M3" : !strcmp(s->format, "mxfp4-pack-quantized") || !strcmp(s->format, "mxfp8-quantized") ? "U8 F8_E8M0" : bl_floats;
	int64_t rows = n, cols = s->strategy == BL_CT_GROUP || s->strategy == BL_CT_TENSOR_GROUP ? k / s->group : 1;

	if (s->strategy == BL_CT_BLOCK) {
		rows = (n + s->block[0] - 1) / s->block[0];
		cols = (k + s->block[1] - 1) / s->block[1];
	}
	bl_want_add(l, "weight_scale", dtypes, s->strategy == BL_CT_TENSOR ? 1 : 2, s->strategy == BL_CT_TENSOR ? 1 : rows, cols);
}

/* What a group promises for a linear of n x k. */
static void promise(struct bl_linear *l, const struct bl_ct_scheme *s, int64_t n, int64_t k)
{
	const int64_t cols = s->group > 0 ? k / s->group : 1;

	want_scale(l, s, n, k);
	if (!strcmp(s->format, "pack-quantized")) {
		bl_want_add(l, "weight_packed", "I32", 2, n, bl_pack_words(k, s->bits));
		bl_want_add(l, "weight_shape", "I64 I32", 1, 2, 0);
		if (!s->symmetric)
			bl_want_add(l, "weight_zero_point", "I32", 2, bl_pack_words(n, s->bits), cols);
		if (s->actorder_group)
			bl_want_add(l, "weight_g_idx", "I32", 1, k, 0);
	} else if (!strcmp(s->format, "int-quantized") || !strcmp(s->format, "float-quantized") || !strcmp(s->format, "naive-quantized") ||
		   !strcmp(s->format, "mxfp8-quantized")) {
		bl_want_add(l, "weight", s->is_float ? "F8_E4M3" : "I8", 2, n, k);
		if (s->actorder_group)
			bl_want_add(l, "weight_g_idx", "I32", 1, k, 0);
	} else if (!strcmp(s->format, "nvfp4-pack-quantized")) {
		bl_want_add(l, "weight_packed", "U8", 2, n, k / 2);
		bl_want_add(l, "weight_global_scale", "F32", 1, 1, 0);
		if (s->has_act)
			bl_want_add(l, "input_global_scale", "F32", 1, 1, 0);
	} else if (!strcmp(s->format, "mxfp4-pack-quantized")) {
		bl_want_add(l, "weight_packed", "U8", 2, n, k / 2);
	} else {
		l->why = "its format is not known here";
		l->understood = false;
	}
	if (s->has_act && !s->act_dynamic) {
		bl_want_add(l, "input_scale", bl_floats, 1, 1, 0);
		if (!s->act_symmetric)
			bl_want_add(l, "input_zero_point", "I8", 1, 1, 0);
	}
}

static void ct_describe(struct bl_linear *l, const struct bl_quant *q)
{
	const int g = bl_ct_resolve(&q->ct, l->member->name);

	if (g < 0)
		return;
	const struct bl_ct_scheme *s = &q->ct.groups[g];
	l->format = &bl_format_ct;
	l->group_no = g;
	snprintf(l->name, sizeof l->name, "%s", s->format);
	l->understood = bl_ct_as_scheme(s, &l->scheme);
	promise(l, s, l->member->rows, l->member->cols);
	if (l->understood && l->scheme.number == BL_NUM_E2M1 && l->member->cols % 2)
		l->understood = false;
}

/* weight_shape says what the packed words unpack to. */
static enum bl_status check_shape(const struct bl_linear *l, const struct bl_model *m, const struct bl_tensor *t, struct bl_err *err)
{
	int64_t shape[2] = {0, 0};
	const size_t size = (size_t)bl_dtype_bytes(t->dtype);

	for (size_t i = 0; i < 2; i++)
		memcpy(&shape[i], (const uint8_t *)t->data + i * size, size); /* little-endian, and never negative */
	if (shape[0] != l->member->rows || shape[1] != l->member->cols)
		return bl_part_fail(err, m, t, "says [%" PRId64 ",%" PRId64 "], the linear is [%" PRId64 ",%" PRId64 "]", shape[0], shape[1], l->member->rows, l->member->cols);
	return BL_OK;
}

static enum bl_status ct_check(struct bl_linear *l, const struct bl_model *m, struct bl_err *err)
{
	const struct bl_tensor *shape = bl_part(l, "weight_shape"), *order = bl_part(l, "weight_g_idx");

	if (shape && check_shape(l, m, shape, err))
		return err->status;
	return order && l->scheme.order ? bl_check_order(m, order, bl_scheme_scales_per_row(&l->scheme, l->member->cols), err) : BL_OK;
}

/* ---- rows ---- */

/* Words of a row, which may not be aligned in the file, a few at a time. */
static void unpack_row(int8_t *codes, const uint8_t *row, int64_t k, int bits)
{
	enum { CODES = 256 }; /* of any width end with a whole word */
	uint32_t words[CODES * 8 / 32];

	for (int64_t at = 0; at < k; at += CODES) {
		const int64_t n = k - at < CODES ? k - at : CODES;

		memcpy(words, row + at * bits / 8, (size_t)(4 * bl_pack_words(n, bits)));
		bl_unpack_row(codes + at, words, n, bits);
	}
}

static void codes_of(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes)
{
	const struct bl_tensor *packed = bl_part(l, "weight_packed"), *plain = bl_part(l, "weight");
	const int64_t k = l->member->cols;

	if (plain) {
		memcpy(codes, (const uint8_t *)plain->data + row0 * k, (size_t)(n * k));
		return;
	}
	const uint8_t *data = packed->data;
	for (int64_t r = 0; r < n; r++) {
		if (l->scheme.number == BL_NUM_INT) {
			unpack_row(codes + r * k, data + 4 * (row0 + r) * packed->shape[1], k, l->scheme.bits);
			continue;
		}
		const uint8_t *pairs = data + (row0 + r) * (k / 2);
		for (int64_t i = 0; i < k / 2; i++) { /* the even column is the low nibble */
			codes[r * k + 2 * i] = (int8_t)(pairs[i] & 15);
			codes[r * k + 2 * i + 1] = (int8_t)(pairs[i] >> 4);
		}
	}
}

static int8_t zero_of(const struct bl_tensor *t, int bits, int64_t row, int64_t g)
{
	const int64_t groups = t->shape[1], bit = row * bits, word = bit / 32;
	const uint64_t low = bl_word_at(t, word * groups + g), high = word + 1 < t->shape[0] ? bl_word_at(t, (word + 1) * groups + g) : 0;

	return (int8_t)((int)((high << 32 | low) >> bit % 32 & ((1u << bits) - 1)) - (1 << (bits - 1)));
}

static float scale_of(const struct bl_linear *l, const struct bl_tensor *t, float global, int64_t row, int64_t g, int64_t spr)
{
	switch (l->scheme.strategy) {
	case BL_STRATEGY_TENSOR: return bl_float_at(t, 0);
	case BL_STRATEGY_BLOCK: return bl_float_at(t, row / l->scheme.group * spr + g);
	case BL_STRATEGY_TENSOR_GROUP: return bl_e4m3_f32(((const uint8_t *)t->data)[row * spr + g]) / global;
	default: break;
	}
	if (l->scheme.number == BL_NUM_E2M1 || bl_scheme_is_mx8(&l->scheme)) {
		const uint8_t e = ((const uint8_t *)t->data)[row * spr + g];

		return e == 255 ? bl_bits_f32(0x7fc00000u) : e ? bl_bits_f32((uint32_t)e << 23) : 0x1p-127f;
	}
	return bl_float_at(t, row * spr + g);
}

static void ct_rows(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes, float *scales, int8_t *zeros)
{
	const struct bl_tensor *scale = bl_part(l, "weight_scale"), *zero = bl_part(l, "weight_zero_point");
	const int64_t spr = bl_scheme_scales_per_row(&l->scheme, l->member->cols);
	const float global = bl_linear_global(l);

	codes_of(l, row0, n, codes);
	for (int64_t r = 0; r < n; r++)
		for (int64_t g = 0; g < spr; g++) {
			scales[r * spr + g] = scale_of(l, scale, global, row0 + r, g, spr);
			if (zero)
				zeros[r * spr + g] = zero_of(zero, l->scheme.bits, row0 + r, g);
		}
}

const struct bl_format bl_format_ct = {"compressed-tensors", ct_open, ct_describe, ct_check, ct_rows};
