/* SPDX-License-Identifier: Apache-2.0
 * Rows of the table of formats. */
#ifndef BL_FORMAT_PRIVATE_H
#define BL_FORMAT_PRIVATE_H

#include "core/format/format.h"

struct bl_format {
	const char *method;      /* quant_method in config.json */
	enum bl_status (*open)(struct bl_quant *q, struct bl_err *err); /* NULL: nothing to do */
	/* Fills format, name, scheme, understood or why, wants. What is left in full precision stays as it is. */
	void (*describe)(struct bl_linear *l, const struct bl_quant *q);
	enum bl_status (*check)(struct bl_linear *l, const struct bl_model *m, struct bl_err *err); /* NULL: nothing to look at */
	void (*rows)(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes, float *scales, int8_t *zeros);
};

extern const struct bl_format bl_format_ct, bl_format_gptq, bl_format_auto_round, bl_format_auto_round_2, bl_format_awq, bl_format_bnb;

extern const char bl_floats[]; /* "BF16 F16 F32" */
void bl_want_add(struct bl_linear *l, const char *suffix, const char *dtypes, int rank, int64_t a, int64_t b);
const struct bl_tensor *bl_part(const struct bl_linear *l, const char *suffix); /* NULL: not there */
float bl_float_at(const struct bl_tensor *t, int64_t i); /* of BF16, F16, F32 */
uint32_t bl_word_at(const struct bl_tensor *t, int64_t i); /* of 32-bit ones */
/* BL_INVALID "FILE: NAME: sentence" */
enum bl_status bl_part_fail(struct bl_err *err, const struct bl_model *m, const struct bl_tensor *t, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Every value is a group below n, and every group has as many columns. */
enum bl_status bl_check_order(const struct bl_model *m, const struct bl_tensor *t, int64_t n, struct bl_err *err);
/* Whether `text` matches like Python's re.match: from the start, the end is free. A pattern that takes too long or is none does not match. */
bool bl_pattern_at_start(const char *pattern, const char *text);

/* quantization_config of the three, checked (gptq_config.c). */
enum bl_status bl_gptq_open(struct bl_quant *q, struct bl_err *err);
enum bl_status bl_awq_open(struct bl_quant *q, struct bl_err *err);
enum bl_status bl_auto_round_open(struct bl_quant *q, struct bl_err *err);

#endif
