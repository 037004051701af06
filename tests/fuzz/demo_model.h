/* SPDX-License-Identifier: Apache-2.0
 * A small model in memory for targets that need one: the shape of exaone4 with two blocks, opened once. */
#ifndef FUZZ_DEMO_MODEL_H
#define FUZZ_DEMO_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/str.h"
#include "core/model/model.h"

static inline struct bl_model *fuzz_model(void)
{
	static struct bl_model *m;
	static struct bl_str bytes;
	static const char config[] = "{\"model_type\":\"exaone4\",\"architectures\":[\"Exaone4ForCausalLM\"],\"num_hidden_layers\":2,\"hidden_size\":64,"
		"\"intermediate_size\":128,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":32,\"tie_word_embeddings\":true,"
		"\"max_position_embeddings\":65536,\"torch_dtype\":\"bfloat16\"}";
	static const struct { const char *name; int64_t rows, cols; } rows[] = {
		{"self_attn.q_proj.weight", 64, 64}, {"self_attn.k_proj.weight", 32, 64}, {"self_attn.v_proj.weight", 32, 64}, {"self_attn.o_proj.weight", 64, 64},
		{"mlp.gate_proj.weight", 128, 64}, {"mlp.up_proj.weight", 128, 64}, {"mlp.down_proj.weight", 64, 128}, {"post_attention_layernorm.weight", 64, 0},
		{"post_feedforward_layernorm.weight", 64, 0}, {"self_attn.q_norm.weight", 16, 0}, {"self_attn.k_norm.weight", 16, 0},
	};
	struct bl_tensor t[32];
	char names[32][96];
	int n = 0;
	struct bl_err err = BL_ERR_INIT;

	if (m)
		return m;
#define ADD(r, c) (t[n] = (struct bl_tensor){.name = names[n], .dtype = BL_BF16, .rank = (c) ? 2 : 1, .shape = {(r), (c)}, .n_elems = (r) * ((c) ? (c) : 1), \
		.bytes = (uint64_t)(2 * (r) * ((c) ? (c) : 1))}, n++)
	for (int b = 0; b < 2; b++)
		for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
			snprintf(names[n], sizeof names[n], "model.layers.%d.%s", b, rows[i].name);
			ADD(rows[i].rows, rows[i].cols);
		}
	snprintf(names[n], sizeof names[n], "model.embed_tokens.weight");
	ADD((int64_t)32, (int64_t)64);
	snprintf(names[n], sizeof names[n], "model.norm.weight");
	ADD((int64_t)64, (int64_t)0);
#undef ADD
	uint64_t total = bl_st_layout(t, n, &bytes);
	while (bytes.len < total) /* values that vary and are finite: 0x3c00 .. 0x3cff as bf16 */
		bl_str_addc(&bytes, bytes.len % 2 ? 0x3c : (char)(bytes.len * 7 % 251));
	struct bl_model_part part = {"model.safetensors", bytes.s, bytes.len};
	if (bl_model_open_parts(&m, "fuzz", config, sizeof config - 1, &part, 1, &err)) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return m;
}

#endif
