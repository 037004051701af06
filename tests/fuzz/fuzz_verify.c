/* SPDX-License-Identifier: Apache-2.0
 * Any bytes through the proof. The first byte chooses what they are: a zip; a config and a weight file; the quantization_config of an otherwise right
 * W8A8 export; damages (place, value) done to that export's weight file. link: bl_export */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/export/verify.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put(const char *dir, const char *name, const void *data, size_t n)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "wb");
	if (f) {
		fwrite(data, 1, n, f);
		fclose(f);
	}
}

/* The demo model as W8A8 with the config's tail left open for a quantization_config. */
static struct bl_str quantized_weights(void)
{
	const struct bl_model *m = fuzz_model();
	struct bl_tensor t[64];
	static char names[64][128];
	struct bl_str out = {0};
	int n = 0;

	for (int64_t i = 0; i < m->n_tensors; i++) {
		t[n] = *m->tensors[i];
		snprintf(names[n], sizeof names[n], "%s", t[n].name);
		if (strstr(names[n], "_proj.weight")) {
			t[n].dtype = BL_I8;
			t[n].bytes = (uint64_t)t[n].n_elems;
			t[n + 1] = (struct bl_tensor){.name = names[n + 1], .dtype = BL_BF16, .rank = 2, .shape = {t[n].shape[0], 1}, .n_elems = t[n].shape[0],
						      .bytes = 2 * (uint64_t)t[n].shape[0]};
			snprintf(names[n + 1], sizeof names[n + 1], "%s_scale", t[n].name);
			t[n].name = names[n];
			n++;
		}
		t[n].name = names[n];
		n++;
	}
	uint64_t total = bl_st_layout(t, n, &out);
	while (out.len < total)
		bl_str_addc(&out, out.len % 2 ? 0x3c : (char)(out.len * 7 % 251));
	return out;
}

static const char config_head[] = "{\"model_type\":\"exaone4\",\"architectures\":[\"Exaone4ForCausalLM\"],\"num_hidden_layers\":2,\"hidden_size\":64,"
	"\"intermediate_size\":128,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":32,\"tie_word_embeddings\":true,"
	"\"layer_types\":[\"full_attention\",\"full_attention\"],\"max_position_embeddings\":65536,\"torch_dtype\":\"bfloat16\",\"quantization_config\":";
static const char config_w8a8[] = "{\"quant_method\":\"compressed-tensors\",\"quantization_status\":\"compressed\",\"format\":\"int-quantized\",\"ignore\":[\"lm_head\"],"
	"\"config_groups\":{\"g\":{\"format\":\"int-quantized\",\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":8,\"strategy\":\"channel\"},"
	"\"input_activations\":{\"num_bits\":8,\"strategy\":\"token\",\"dynamic\":true}}}}";

/* Writes the folder: kind 2 takes the input as quantization_config, kind 3 as damages to the weights. */
static void near_miss(const char *folder, int kind, const uint8_t *data, size_t n)
{
	static struct bl_str weights;
	struct bl_str config = {0}, w = {0};

	if (!weights.len)
		weights = quantized_weights();
	bl_str_add(&config, config_head);
	bl_str_addn(&config, kind == 2 ? (const char *)data : config_w8a8, kind == 2 ? n : sizeof config_w8a8 - 1);
	bl_str_add(&config, "}");
	bl_str_addn(&w, weights.s, weights.len);
	for (size_t i = 0; kind == 3 && i + 2 < n; i += 3)
		w.s[(data[i] << 8 | data[i + 1]) % (w.len < 8192 ? w.len : 8192)] = (char)data[i + 2];
	put(folder, "config.json", config.s, config.len);
	put(folder, "model.safetensors", w.s, w.len);
	bl_str_free(&config);
	bl_str_free(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static char dir[64];
	static struct bl_pool *pool;
	struct bl_err err = BL_ERR_INIT;
	struct bl_verify_result r;
	struct bl_verify_request rq = {.base = fuzz_model(), .want_sha256 = true};
	char path[300];
	int tables;

	if (n < 3)
		return 0;
	if (!pool) {
		pool = bl_pool_new(1);
		snprintf(dir, sizeof dir, "/tmp/bl-fuzz-XXXXXX");
		if (!mkdtemp(dir))
			abort();
	}
	rq.pool = pool;
	rq.target = bl_target_rows(&tables);
	if (data[0] % 4 >= 2) {
		snprintf(path, sizeof path, "%s/folder", dir);
		if (bl_mkdirs(path, 0700, &err))
			abort();
		near_miss(path, data[0] % 4, data + 1, n - 1);
	} else if (data[0] & 1) {
		put(dir, "p.zip", data + 1, n - 1);
		snprintf(path, sizeof path, "%s/p.zip", dir);
	} else { /* second byte: how much of the rest is config */
		size_t split = (n - 2) * data[1] / 256;
		snprintf(path, sizeof path, "%s/folder", dir);
		if (bl_mkdirs(path, 0700, &err))
			abort();
		put(path, "config.json", data + 2, split);
		put(path, "model.safetensors", data + 2 + split, n - 2 - split);
	}
	rq.path = path;
	if (bl_verify_run(&r, &rq, &err) == BL_OK)
		bl_verify_result_free(&r);
	return 0;
}
