/* SPDX-License-Identifier: Apache-2.0
 * config.json of a Hugging Face checkpoint: the numbers a decoder needs, from the spelling of transformers 4.57 and of 5.x alike.
 * The parsed JSON is kept for export. Missing keys take the family's defaults where the library defines one, else they are errors. */
#ifndef BL_MODEL_CONFIG_H
#define BL_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/json.h"

enum bl_rope_kind { BL_ROPE_DEFAULT, BL_ROPE_LINEAR, BL_ROPE_LLAMA3 };

struct bl_rope {
	enum bl_rope_kind kind;
	double theta, factor, low_freq_factor, high_freq_factor;
	int64_t original_positions;
};

#define BL_LAYERS_MAX 1024

struct bl_config {
	char model_type[64];
	char architecture[96];        /* architectures[0] */
	int64_t layers, hidden, ffn, heads, kv_heads, head_dim, vocab, max_positions;
	double rms_eps;
	bool tied;                    /* tie_word_embeddings */
	bool attention_bias, mlp_bias; /* false in families that do not read these keys */
	char activation[32];          /* hidden_act */
	char dtype[16];               /* "bfloat16" as declared */
	struct bl_rope rope;
	struct bl_rope rope_local;    /* of layers with a window, where the family has two bases (has_rope_local) */
	bool has_rope_local;
	double attn_scalar;           /* scores are multiplied by its -1/2 power; 0: head_dim's */
	double attn_cap, final_cap;   /* soft caps of scores and logits; 0: none */
	int64_t sliding_window;       /* 0: none */
	uint8_t sliding[BL_LAYERS_MAX]; /* 1: that layer attends through the window */
	int64_t bos, pad;             /* -1: none */
	bool v5_spelling;             /* what rope_parameters says counts, and transformers 4.57 would ignore it */
	bool quantized;               /* has quantization_config */
	char quant_method[64];
	cJSON *json;                  /* the whole file, as read */
};

/* label: file name for messages. On success free with bl_config_fini. */
enum bl_status bl_config_parse(struct bl_config *c, const char *text, size_t n, const char *label, struct bl_err *err);
void bl_config_fini(struct bl_config *c);

/* A copy of the JSON in the 4.57 spelling (rope_theta + rope_scaling, layer_types written out where the family has them, no 5.x
 * keys); each change appends a line to `edits` ("rope_parameters -> rope_theta, rope_scaling"). Caller frees with cJSON_Delete. */
cJSON *bl_config_v457(const struct bl_config *c, struct bl_str *edits);

#endif
