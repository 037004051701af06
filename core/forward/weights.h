/* SPDX-License-Identifier: Apache-2.0
 * What a unit computes with instead of the checkpoint's own weights: decoded weights for schemes that keep activations in full precision, codes and
 * scales where the server multiplies codes. Host memory, shared by reference; const after it was made. */
#ifndef BL_FORWARD_WEIGHTS_H
#define BL_FORWARD_WEIGHTS_H

#include <stdatomic.h>
#include <stdint.h>

enum bl_weights_kind { BL_WEIGHTS_DENSE, BL_WEIGHTS_CODES };
enum bl_weights_act { BL_WEIGHTS_ACT_NONE, BL_WEIGHTS_ACT_INT8_TOKEN, BL_WEIGHTS_ACT_FP8_TOKEN, BL_WEIGHTS_ACT_INT8_STATIC, BL_WEIGHTS_ACT_FP8_STATIC };

struct bl_unit_weights {
	atomic_int refs;
	int unit;
	enum bl_weights_kind kind;
	enum bl_weights_act act;   /* CODES only */
	int64_t rows, cols;        /* fused */
	uint16_t *dense;           /* DENSE: bf16 [rows, cols], what the server multiplies with after decoding */
	int8_t *codes;             /* CODES: int8, or e4m3 bytes, [rows, cols] */
	float *scales;             /* CODES: [rows] */
	float input_scale;         /* static kinds */
	uint64_t id;               /* unique in the process: device copies are kept under it */
};
struct bl_unit_weights *bl_unit_weights_new(int unit, enum bl_weights_kind kind, int64_t rows, int64_t cols); /* refs 1; NULL: no memory */
struct bl_unit_weights *bl_unit_weights_ref(struct bl_unit_weights *w);
void bl_unit_weights_unref(struct bl_unit_weights *w); /* NULL is fine */

/* For each unit its replacement, or NULL: the checkpoint's own. small (may be NULL): another view of the same checkpoint whose norms and biases hold (weights
 * that were changed before they were quantized); of one digest always the same. keep: what keeps `small` alive, the maker's business. */
struct bl_model;
struct bl_weight_set { struct bl_unit_weights **of; int n; const struct bl_model *small; void *keep; };

#endif
