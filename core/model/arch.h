/* SPDX-License-Identifier: Apache-2.0
 * Model families as a table: what the tensors of a block are called, which linears a server fuses into one unit, and the quirks.
 * Adding a family = one row (and a fixture). Families known by name but not supported are rows too: they are refused with the reason. */
#ifndef BL_MODEL_ARCH_H
#define BL_MODEL_ARCH_H

#include <stdbool.h>

#include "core/model/config.h"

enum bl_unit_kind { BL_UNIT_QKV, BL_UNIT_O, BL_UNIT_GATE_UP, BL_UNIT_DOWN, BL_UNIT_KIND_COUNT };
const char *bl_unit_kind_name(enum bl_unit_kind k); /* "qkv" */

enum bl_norm_place { BL_NORM_PRE, BL_NORM_POST, BL_NORM_BOTH };

/* Which layers attend through the window when config.json has no layer_types. */
enum bl_window_rule {
	BL_WINDOW_NEVER,
	BL_WINDOW_ALWAYS,  /* Mistral: all, when there is a window */
	BL_WINDOW_PATTERN, /* EXAONE-4: sliding_window_pattern */
	BL_WINDOW_UPPER,   /* Qwen: from max_window_layers on, and only if use_sliding_window */
	BL_WINDOW_ODD,     /* Gemma 2: the first, third … */
	BL_WINDOW_EVERY    /* Gemma 3: all but every sixth (sliding_window_pattern) */
};

/* What the family's library assumes for keys that are not in the file. 0: see the comment. */
struct bl_arch_missing {
	double rms_eps;
	int64_t max_positions;
	int64_t kv_heads; /* 0: as many as heads */
	int64_t head_dim; /* 0: hidden / heads */
	int64_t window;   /* 0: none */
	bool tied;
	double rope_theta; /* 0: 10000 */
	double rope_local; /* base of layers with a window; 0: as the others */
	double attn_scalar, attn_cap, final_cap; /* query_pre_attn_scalar, attn_logit_softcapping, final_logit_softcapping; 0: the family has none */
};

/* Linears between which a factor per channel may be moved without changing what the model computes: a bit per pair. What a family does not list it refuses
 * (bl_arch_fold_refused says why); pairs past BL_FOLD_LEGAL are known mistakes, named so that they can be refused with the reason. */
enum bl_fold_pair {
	BL_FOLD_VO,           /* rows of v, columns of o of every query head that reads the same key-value head */
	BL_FOLD_UP_DOWN,      /* rows of up, columns of down */
	BL_FOLD_NORM_QKV,     /* the norm before attention, columns of q, k, v */
	BL_FOLD_NORM_GATE_UP, /* the norm before the MLP, columns of gate and up */
	BL_FOLD_LEGAL,
	BL_FOLD_GATE_DOWN = BL_FOLD_LEGAL, /* rows of gate, columns of down */
	BL_FOLD_O_NORM,       /* rows of o, the norm behind attention */
	BL_FOLD_DOWN_NORM,    /* rows of down, the norm behind the MLP */
	BL_FOLD_Q_K,          /* rows of q and k, channel by channel */
	BL_FOLD_PAIR_COUNT
};
const char *bl_fold_pair_name(enum bl_fold_pair p); /* "vo" */

#define BL_MEMBERS_MAX 3

struct bl_arch_unit {
	enum bl_unit_kind kind;
	const char *fused;                   /* name in the server, below the block: "self_attn.qkv_proj" */
	const char *member[BL_MEMBERS_MAX];  /* on disk, below the block: "self_attn.q_proj" …; NULL-padded */
	bool bias[BL_MEMBERS_MAX];           /* the member has a bias tensor (quirk of the family or config) */
};

struct bl_arch {
	const char *model_type;              /* "exaone4" */
	const char *architecture;            /* "Exaone4ForCausalLM": what servers look up */
	const char *refused;                 /* not NULL: known, not supported; the sentence to say */
	enum bl_norm_place norms;
	bool qk_norm;                        /* q_norm/k_norm over head_dim before RoPE */
	bool qk_norm_whole;                  /* … over the whole row, before it is cut into heads (OLMo-2) */
	bool norm_plus_one;                  /* norms multiply by 1 + w (Gemma) */
	bool embed_scaled;                   /* the embedding is multiplied by the root of hidden (Gemma) */
	bool gelu;                           /* hidden_activation is tanh-GELU, instead of hidden_act silu (Gemma) */
	bool rope_only_sliding;              /* hybrid EXAONE-4: global layers have no RoPE */
	bool qkv_bias;                       /* Qwen2 */
	bool writes_layer_types;             /* config needs layer_types spelled out */
	bool reads_attention_bias, reads_mlp_bias; /* the config's keys of these names mean something here */
	enum bl_window_rule windows;
	struct bl_arch_missing missing;
	unsigned folds;                      /* 1 << enum bl_fold_pair */
	const char *block_tensors[8];        /* norms and other non-linear tensors below the block, NULL-terminated: "input_layernorm.weight" */
	struct bl_arch_unit units[BL_UNIT_KIND_COUNT];
};

/* NULL: the fold is exact in this family; else why not. */
const char *bl_arch_fold_refused(const struct bl_arch *a, enum bl_fold_pair p);
/* The norm whose output a unit reads, below the block; NULL: it reads the residual stream itself, or no norm. */
const char *bl_arch_norm_before(const struct bl_arch *a, enum bl_unit_kind k);

/* The row of a model_type, refused ones included; NULL: unknown. */
const struct bl_arch *bl_arch_row_of(const char *model_type);
/* BL_UNSUPPORTED with a sentence when the family is unknown or refused. */
enum bl_status bl_arch_family(const struct bl_arch **out, const char *model_type, struct bl_err *err);
/* The row for a config; BL_UNSUPPORTED with a sentence when the family is unknown or refused. */
enum bl_status bl_arch_find(const struct bl_arch **out, const struct bl_config *c, struct bl_err *err);
const struct bl_arch *bl_arch_row(int i); /* NULL past the end */

#endif
