/* SPDX-License-Identifier: Apache-2.0
 * What a unit computes with instead of the checkpoint's own weights: decoded weights for schemes that keep activations in full precision, codes and
 * scales where the server multiplies codes. Host memory, shared by reference; const after it was made.
 * Decoded weights with rounded inputs are what transformers with compressed-tensors computes: every step in the storage type, then an ordinary product. */
#ifndef BL_FORWARD_WEIGHTS_H
#define BL_FORWARD_WEIGHTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum bl_weights_kind { BL_WEIGHTS_DENSE, BL_WEIGHTS_CODES };
enum bl_weights_act { /* what happens to a unit's inputs */
	BL_WEIGHTS_ACT_NONE, BL_WEIGHTS_ACT_INT8_TOKEN, BL_WEIGHTS_ACT_FP8_TOKEN, BL_WEIGHTS_ACT_INT8_STATIC, BL_WEIGHTS_ACT_FP8_STATIC,
	BL_WEIGHTS_ACT_FP8_GROUP, BL_WEIGHTS_ACT_FP4_GROUP /* a scale per `group` columns */
};
/* Codes as the server multiplies them, or every step as transformers with compressed-tensors takes it. */
enum bl_arithmetic { BL_ARITHMETIC_SERVER, BL_ARITHMETIC_TRANSFORMERS };

struct bl_unit_weights {
	atomic_int refs;
	int unit;
	enum bl_weights_kind kind;
	enum bl_weights_act act;   /* CODES: not NONE */
	int64_t rows, cols;        /* fused */
	uint16_t *dense;           /* DENSE: bf16 [rows, cols], what the server multiplies with after decoding */
	int8_t *codes;             /* CODES: int8, or e4m3 bytes, [rows, cols]; FP4's values as e4m3 bytes */
	float *scales;             /* CODES: [rows, scales of a row] */
	float input_scale;         /* static kinds; FP4: what the scales of groups are in units of */
	int64_t group;             /* columns per scale of weights and inputs; 0: one per row */
	uint64_t id;               /* unique in the process: device copies are kept under it */
};
struct bl_unit_weights *bl_unit_weights_new(int unit, enum bl_weights_kind kind, int64_t rows, int64_t cols); /* refs 1; NULL: no memory */
struct bl_unit_weights *bl_unit_weights_grouped(int unit, int64_t rows, int64_t cols, int64_t group); /* CODES with a scale per group, which divides cols */
struct bl_unit_weights *bl_unit_weights_ref(struct bl_unit_weights *w);
void bl_unit_weights_unref(struct bl_unit_weights *w); /* NULL is fine */
static inline int64_t bl_unit_weights_spr(const struct bl_unit_weights *w) { return w->group ? w->cols / w->group : 1; } /* scales per row */
static inline bool bl_act_is_e4m3(enum bl_weights_act a) { return a != BL_WEIGHTS_ACT_NONE && a != BL_WEIGHTS_ACT_INT8_TOKEN && a != BL_WEIGHTS_ACT_INT8_STATIC; }
/* Of a scheme (enum bl_act, group of its weights): NONE too where the forward does not round inputs. */
enum bl_weights_act bl_weights_act_of(int act, bool symmetric, int64_t group);
/* The same weights in transformers' arithmetic (w itself, counted, when they have no codes); NULL: no memory. */
struct bl_unit_weights *bl_unit_weights_transformers(struct bl_unit_weights *w);

/* For each unit its replacement, or NULL: the checkpoint's own. small (may be NULL): another view of the same checkpoint whose norms and biases hold (weights
 * that were changed before they were quantized); of one digest always the same. keep: what keeps `small` alive, the maker's business. */
struct bl_model;
struct bl_weight_set { struct bl_unit_weights **of; int n; const struct bl_model *small; void *keep; };

#endif
