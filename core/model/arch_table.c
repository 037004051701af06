/* SPDX-License-Identifier: Apache-2.0
 * The model families. Names and block order are those of the published checkpoints; which linears a server fuses is vLLM's mapping. */
#include "core/model/arch.h"

#include <string.h>

#define QKV {BL_UNIT_QKV, "self_attn.qkv_proj", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, {false, false, false}}
#define QKV_BIAS {BL_UNIT_QKV, "self_attn.qkv_proj", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}, {true, true, true}}
#define O {BL_UNIT_O, "self_attn.o_proj", {"self_attn.o_proj"}, {false}}
#define GATE_UP {BL_UNIT_GATE_UP, "mlp.gate_up_proj", {"mlp.gate_proj", "mlp.up_proj"}, {false, false}}
#define DOWN {BL_UNIT_DOWN, "mlp.down_proj", {"mlp.down_proj"}, {false}}
#define FUSED_QKV {BL_UNIT_QKV, "self_attn.qkv_proj", {"self_attn.qkv_proj"}, {false}}
#define FUSED_GATE_UP {BL_UNIT_GATE_UP, "mlp.gate_up_proj", {"mlp.gate_up_proj"}, {false}}
#define FOLDS_INNER (1u << BL_FOLD_VO | 1u << BL_FOLD_UP_DOWN)
#define FOLDS_PRE (FOLDS_INNER | 1u << BL_FOLD_NORM_QKV | 1u << BL_FOLD_NORM_GATE_UP)
#define REFUSED(type, why) {.model_type = type, .refused = why}

#define PRE_NORMS "input_layernorm.weight", "post_attention_layernorm.weight"
#define FOUR_NORMS PRE_NORMS, "pre_feedforward_layernorm.weight", "post_feedforward_layernorm.weight"
#define HEAD_NORMS "self_attn.q_norm.weight", "self_attn.k_norm.weight"

static const struct bl_arch families[] = {
	{.model_type = "exaone4", .architecture = "Exaone4ForCausalLM", .norms = BL_NORM_POST, .qk_norm = true,
	 .rope_only_sliding = true, .writes_layer_types = true, .windows = BL_WINDOW_PATTERN,
	 .missing = {.rms_eps = 1e-5, .max_positions = 2048, .kv_heads = 32, .window = 4096},
	 .folds = FOLDS_INNER, .block_tensors = {"post_attention_layernorm.weight", "post_feedforward_layernorm.weight", HEAD_NORMS},
	 .units = {QKV, O, GATE_UP, DOWN}},
	{.model_type = "llama", .architecture = "LlamaForCausalLM", .norms = BL_NORM_PRE,
	 .reads_attention_bias = true, .reads_mlp_bias = true, .missing = {.rms_eps = 1e-6, .max_positions = 2048},
	 .folds = FOLDS_PRE, .block_tensors = {PRE_NORMS}, .units = {QKV, O, GATE_UP, DOWN}},
	{.model_type = "qwen2", .architecture = "Qwen2ForCausalLM", .norms = BL_NORM_PRE, .qkv_bias = true,
	 .windows = BL_WINDOW_UPPER,
	 .missing = {.rms_eps = 1e-6, .max_positions = 32768, .kv_heads = 32, .window = 4096},
	 .folds = FOLDS_PRE, .block_tensors = {PRE_NORMS}, .units = {QKV_BIAS, O, GATE_UP, DOWN}},
	{.model_type = "qwen3", .architecture = "Qwen3ForCausalLM", .norms = BL_NORM_PRE, .qk_norm = true,
	 .reads_attention_bias = true, .windows = BL_WINDOW_UPPER,
	 .missing = {.rms_eps = 1e-6, .max_positions = 32768, .kv_heads = 32, .head_dim = 128, .window = 4096},
	 .folds = FOLDS_PRE, .block_tensors = {PRE_NORMS, HEAD_NORMS}, .units = {QKV, O, GATE_UP, DOWN}},
	{.model_type = "mistral", .architecture = "MistralForCausalLM", .norms = BL_NORM_PRE, .windows = BL_WINDOW_ALWAYS,
	 .missing = {.rms_eps = 1e-6, .max_positions = 131072, .kv_heads = 8, .window = 4096},
	 .folds = FOLDS_PRE, .block_tensors = {PRE_NORMS}, .units = {QKV, O, GATE_UP, DOWN}},
	REFUSED("gemma", "Gemma needs scaled embeddings and (1+w) norms"),
	{.model_type = "gemma2", .architecture = "Gemma2ForCausalLM", .norms = BL_NORM_BOTH, .norm_plus_one = true, .embed_scaled = true, .gelu = true,
	 .reads_attention_bias = true, .windows = BL_WINDOW_ODD,
	 .missing = {.rms_eps = 1e-6, .max_positions = 8192, .kv_heads = 4, .head_dim = 256, .window = 4096, .tied = true, .attn_scalar = 256, .attn_cap = 50,
		     .final_cap = 30},
	 .folds = FOLDS_PRE, .block_tensors = {FOUR_NORMS}, .units = {QKV, O, GATE_UP, DOWN}},
	{.model_type = "gemma3_text", .architecture = "Gemma3ForCausalLM", .norms = BL_NORM_BOTH, .qk_norm = true, .norm_plus_one = true, .embed_scaled = true,
	 .gelu = true, .reads_attention_bias = true, .windows = BL_WINDOW_EVERY,
	 .missing = {.rms_eps = 1e-6, .max_positions = 131072, .kv_heads = 4, .head_dim = 256, .window = 4096, .tied = true, .rope_theta = 1e6,
		     .rope_local = 1e4, .attn_scalar = 256},
	 .folds = FOLDS_PRE, .block_tensors = {FOUR_NORMS, HEAD_NORMS}, .units = {QKV, O, GATE_UP, DOWN}},
	{.model_type = "phi3", .architecture = "Phi3ForCausalLM", .norms = BL_NORM_PRE, .windows = BL_WINDOW_ALWAYS,
	 .missing = {.rms_eps = 1e-5, .max_positions = 4096}, .folds = FOLDS_PRE, .block_tensors = {PRE_NORMS}, .units = {FUSED_QKV, O, FUSED_GATE_UP, DOWN}},
	{.model_type = "olmo2", .architecture = "Olmo2ForCausalLM", .norms = BL_NORM_POST, .qk_norm = true, .qk_norm_whole = true,
	 .reads_attention_bias = true, .missing = {.rms_eps = 1e-5, .max_positions = 2048},
	 .folds = FOLDS_INNER, .block_tensors = {"post_attention_layernorm.weight", "post_feedforward_layernorm.weight", HEAD_NORMS}, .units = {QKV, O, GATE_UP, DOWN}},
	REFUSED("gemma3", "Gemma 3 checkpoints with vision are not decoders alone"),
	REFUSED("exaone", "EXAONE 3.x has other tensor names"),
	REFUSED("exaone_moe", "mixture-of-experts blocks"),
	REFUSED("mixtral", "mixture-of-experts blocks"),
	REFUSED("qwen2_moe", "mixture-of-experts blocks"),
	REFUSED("qwen3_moe", "mixture-of-experts blocks"),
	REFUSED("deepseek_v3", "mixture-of-experts blocks and latent attention"),
	REFUSED("granite", "Granite scales residuals and attention"),
	REFUSED("glm4", "GLM-4 has other norms and fused gates"),
	REFUSED("internlm2", "InternLM2 stores wqkv fused"),
};
#define N_FAMILIES ((int)(sizeof families / sizeof families[0]))

const char *bl_unit_kind_name(enum bl_unit_kind k)
{
	static const char *const names[BL_UNIT_KIND_COUNT] = {"qkv", "o", "gate_up", "down"};

	return (unsigned)k < BL_UNIT_KIND_COUNT ? names[k] : "?";
}

const char *bl_fold_pair_name(enum bl_fold_pair p)
{
	static const char *const names[BL_FOLD_PAIR_COUNT] = {"vo", "updown", "norm_qkv", "norm_gate_up", "gate_down", "o_norm", "down_norm", "qk"};

	return (unsigned)p < BL_FOLD_PAIR_COUNT ? names[p] : "?";
}

const char *bl_arch_norm_before(const struct bl_arch *a, enum bl_unit_kind k)
{
	if (a->norms == BL_NORM_POST)
		return NULL;
	if (k == BL_UNIT_QKV)
		return "input_layernorm.weight";
	if (k == BL_UNIT_GATE_UP)
		return a->norms == BL_NORM_BOTH ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight";
	return NULL;
}

const char *bl_arch_fold_refused(const struct bl_arch *a, enum bl_fold_pair p)
{
	if (p < BL_FOLD_LEGAL && a->folds >> p & 1)
		return NULL;
	switch (p) {
	case BL_FOLD_NORM_QKV:
	case BL_FOLD_NORM_GATE_UP: return "there is no norm before it: it reads the residual stream, and the norm that stands behind scales something else";
	case BL_FOLD_GATE_DOWN: return "the gate goes through its activation, and act(g / s) * s is not act(g)";
	case BL_FOLD_O_NORM:
	case BL_FOLD_DOWN_NORM: return "a norm between them divides by the size of the whole row, which such factors change";
	case BL_FOLD_Q_K: return "rotary embedding mixes channels i and i + half, and a norm of the head sees all of them";
	default: return "this family does not list the pair as exact";
	}
}

const struct bl_arch *bl_arch_row(int i)
{
	return i >= 0 && i < N_FAMILIES ? &families[i] : NULL;
}

const struct bl_arch *bl_arch_row_of(const char *model_type)
{
	for (int i = 0; i < N_FAMILIES; i++)
		if (!strcmp(families[i].model_type, model_type))
			return &families[i];
	return NULL;
}

enum bl_status bl_arch_family(const struct bl_arch **out, const char *model_type, struct bl_err *err)
{
	const struct bl_arch *row = bl_arch_row_of(model_type);

	if (!row)
		return bl_fail(err, BL_UNSUPPORTED, "model_type %s is not known (exaone4, llama, qwen2, qwen3, mistral, gemma2, gemma3_text, phi3, olmo2 are)",
			       model_type);
	if (row->refused)
		return bl_fail(err, BL_UNSUPPORTED, "model_type %s is not supported yet: %s", model_type, row->refused);
	*out = row;
	return BL_OK;
}

enum bl_status bl_arch_find(const struct bl_arch **out, const struct bl_config *c, struct bl_err *err)
{
	const struct bl_arch *row = NULL;

	if (bl_arch_family(&row, c->model_type, err))
		return err->status;
	if (strcmp(c->activation, row->gelu ? "gelu_pytorch_tanh" : "silu"))
		return bl_fail(err, BL_UNSUPPORTED, "%s: %s is not supported for %s (%s is)", row->gelu ? "hidden_activation" : "hidden_act", c->activation,
			       c->model_type, row->gelu ? "gelu_pytorch_tanh" : "silu");
	*out = row;
	return BL_OK;
}
