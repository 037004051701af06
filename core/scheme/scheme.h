/* SPDX-License-Identifier: Apache-2.0
 * How the numbers of a unit are stored, as a value. Names are the ecosystem's (compressed-tensors presets) with a suffix where the
 * preset's group is not meant: BF16 · W8A8 · W8A8_STATIC · W8A16 (channel) · W8A16_g128 · W4A16 (= g128) · W4A16_g32 · W4A16_channel ·
 * W4A16_ASYM · W4A16_ASYM_g64 · W2A16 … W7A16 · W4A16_actorder (groups by an index over the columns) · FP8_DYNAMIC · FP8 (one scale per tensor) ·
 * FP8_channel · FP8_BLOCK · NVFP4 · NVFP4A16 · MXFP4A16 · MXFP8A16 · NF4 · NF4_DQ (its scales are quantized again) · FP4 · FP4_DQ · LLM_INT8 · BF16_SPARSE. Equal text = equal scheme. */
#ifndef BL_SCHEME_SCHEME_H
#define BL_SCHEME_SCHEME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* FULL: kept as it is on disk; FLOAT: E4M3; E2M1: 4-bit floats; NF4, BNB_FP4: the 16 values of bitsandbytes; SCB: 8-bit integers in units of the row's largest / 127;
 * PRUNED: bfloat16 as FULL, but a method has set some of them to 0 */
enum bl_number { BL_NUM_FULL, BL_NUM_INT, BL_NUM_FLOAT, BL_NUM_E2M1, BL_NUM_NF4, BL_NUM_SCB, BL_NUM_PRUNED, BL_NUM_BNB_FP4 };
/* BLOCK: one scale per square of `group` rows and columns; TENSOR_GROUP: small scales per group, in units of one number of the unit */
enum bl_strategy { BL_STRATEGY_NONE, BL_STRATEGY_TENSOR, BL_STRATEGY_CHANNEL, BL_STRATEGY_GROUP, BL_STRATEGY_BLOCK, BL_STRATEGY_TENSOR_GROUP };
/* Activations: untouched; dynamic, one scale per token; static, one scale per unit that a calibration found; dynamic in groups of columns. */
enum bl_act { BL_ACT_NONE, BL_ACT_INT8_TOKEN, BL_ACT_FP8_TOKEN, BL_ACT_INT8_TENSOR, BL_ACT_FP8_TENSOR, BL_ACT_FP8_GROUP, BL_ACT_FP4_GROUP };

struct bl_scheme {
	uint8_t number;    /* enum bl_number */
	uint8_t bits;      /* 2..8; 16 for FULL and PRUNED */
	uint8_t symmetric; /* 1, or 0 with a zero point per scale */
	uint8_t strategy;  /* enum bl_strategy */
	uint8_t act;       /* enum bl_act */
	uint16_t group;    /* columns per scale when strategy is GROUP, BLOCK or TENSOR_GROUP, else 0 */
	uint8_t order;     /* GROUP: 1 when columns belong to groups by an index and not by their place */
	uint8_t nested;    /* NF4, BNB_FP4: 1 when the scales are quantized again */
};

#define BL_SCHEME_FULL ((struct bl_scheme){.number = BL_NUM_FULL, .bits = 16, .symmetric = 1})
#define BL_SCHEME_NAME_MAX 32

static inline bool bl_act_is_int8(int act) { return act == BL_ACT_INT8_TOKEN || act == BL_ACT_INT8_TENSOR; }
static inline bool bl_act_is_fp8(int act) { return act == BL_ACT_FP8_TOKEN || act == BL_ACT_FP8_TENSOR || act == BL_ACT_FP8_GROUP; }
/* A client rounds its inputs in a way that the forward does not (it picks outlying ones out): errors and KL are of the weights alone. */
static inline bool bl_scheme_weights_alone(const struct bl_scheme *s) { return s->number == BL_NUM_SCB; }
static inline bool bl_scheme_rounds_inputs(const struct bl_scheme *s) { return s->act != BL_ACT_NONE || bl_scheme_weights_alone(s); }
/* Needs the range of its inputs from a calibration (FP4: for the number that the groups' scales are in units of). */
static inline bool bl_act_is_static(int act) { return act == BL_ACT_INT8_TENSOR || act == BL_ACT_FP8_TENSOR || act == BL_ACT_FP4_GROUP; }
/* Whether it is stored in full precision, by whatever values. */
static inline bool bl_scheme_is_full(const struct bl_scheme *s) { return s->number == BL_NUM_FULL || s->number == BL_NUM_PRUNED; }
/* The 4-bit forms of bitsandbytes; all of its forms. */
static inline bool bl_scheme_is_bnb4(const struct bl_scheme *s) { return s->number == BL_NUM_NF4 || s->number == BL_NUM_BNB_FP4; }
static inline bool bl_scheme_is_bnb(const struct bl_scheme *s) { return bl_scheme_is_bnb4(s) || s->number == BL_NUM_SCB; }
/* E4M3 values in groups with powers of two as scales. */
static inline bool bl_scheme_is_mx8(const struct bl_scheme *s) { return s->number == BL_NUM_FLOAT && s->strategy == BL_STRATEGY_GROUP; }
/* Bytes of a code. */
static inline size_t bl_scheme_code_bytes(const struct bl_scheme *s) { return s->number == BL_NUM_PRUNED ? 2 : 1; }
/* Whether scales are found over more than a row, so that only plain rounding knows how. */
static inline bool bl_scheme_is_shared(const struct bl_scheme *s)
{
	return s->strategy == BL_STRATEGY_TENSOR || s->strategy == BL_STRATEGY_BLOCK || s->strategy == BL_STRATEGY_TENSOR_GROUP || s->nested;
}
/* What a static scale is, from the largest |input| of the calibration: absmax / 127 or / 448, for FP4 448 x 6 / absmax; a range of zero gives 1. */
float bl_act_input_scale(int act, float absmax);

bool bl_scheme_equal(const struct bl_scheme *a, const struct bl_scheme *b);
/* Canonical text into dst (>= BL_SCHEME_NAME_MAX). Returns dst. */
char *bl_scheme_name(char *dst, const struct bl_scheme *s);
/* Short text for narrow columns: "W4A16g128", "W4A16ch", "W4A16as128", "FP8dyn". */
char *bl_scheme_short(char *dst, const struct bl_scheme *s);
/* Accepts canonical, short, and usual spellings in any case (UNQUANTIZED, FULL, INT8, FP8-DYNAMIC, W4A16g32, "W4A16 channel").
 * BL_USAGE with the known names otherwise. */
enum bl_status bl_scheme_parse(struct bl_scheme *out, const char *text, struct bl_err *err);

/* The table the user picks from (`bitlathe schemes`): one row per offered scheme. */
struct bl_scheme_row { struct bl_scheme scheme; const char *key; const char *sentence; }; /* key: the key that sets it ("8"), "" when none */
const struct bl_scheme_row *bl_scheme_rows(int *n);

/* Scales per row of K columns; K must be divisible by the group (BL_INVALID otherwise: checked by legality first). */
int64_t bl_scheme_scales_per_row(const struct bl_scheme *s, int64_t cols);
/* Smallest and largest code of the signed grid: -8, 7 for 4 bits. Only for BL_NUM_INT. */
int bl_scheme_qmin(const struct bl_scheme *s);
int bl_scheme_qmax(const struct bl_scheme *s);

#endif
