/* SPDX-License-Identifier: Apache-2.0
 * config.json: hostile values, defaults, windows, families by name, and the rewriting into the 4.57 spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/str.h"
#include "core/model/arch.h"
#include "core/model/config.h"

static enum bl_status parse(const char *text, struct bl_err *err)
{
	struct bl_config c;
	enum bl_status s = bl_config_parse(&c, text, strlen(text), "config.json", err);

	if (!s)
		bl_config_fini(&c);
	return s;
}

#define GOOD "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":128,\"num_attention_heads\":4,\"vocab_size\":32"

#define EIGHT(family) "{\"model_type\":\"" family "\",\"num_hidden_layers\":8,\"hidden_size\":64,\"intermediate_size\":8," \
	"\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":9"

static void configs(void **state)
{
	static const struct { const char *text, *says; } rows[] = {
		{"{}", "model_type"},
		{"{\"model_type\":7}", "model_type"},
		{"{\"model_type\":\"llama\",\"num_hidden_layers\":-3}", "num_hidden_layers"},
		{"{\"model_type\":\"llama\",\"num_hidden_layers\":1e300}", "num_hidden_layers"},
		{"{\"model_type\":\"llama\",\"num_hidden_layers\":2.5}", "num_hidden_layers"},
		{"{" GOOD ",\"num_key_value_heads\":3}", "num_key_value_heads"},
		{"{" GOOD ",\"rope_scaling\":{\"rope_type\":\"yarn\"}}", "yarn"},
		{"{" GOOD ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", "low_freq_factor"},
		{"{" GOOD ",\"layer_types\":[\"full_attention\"]}", "layer_types"},
		{"{" GOOD ",\"layer_types\":[\"full_attention\",\"sideways\"]}", "layer_types[1]"},
		{"{" GOOD ",\"layer_types\":[\"sliding_attention\",\"full_attention\"]}", "sliding_window"},
		{"{" GOOD ",\"tie_word_embeddings\":\"yes\"}", "tie_word_embeddings"},
		{"{" GOOD ",\"quantization_config\":[]}", "quantization_config"},
		{"{" GOOD ",\"hidden_size\":65}", "hidden_size"},
		{"{" GOOD ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4,"
		 "\"original_max_position_embeddings\":64}}", "high_freq_factor"},
		{"{" GOOD ",\"rope_scaling\":\"linear\"}", "rope_scaling"},
		{"{" GOOD ",\"rope_parameters\":[1]}", "rope_parameters"},
		{"{" GOOD ",\"rope_theta\":-1}", "rope_theta"},
		{"{" GOOD ",\"rope_theta\":\"10000\"}", "rope_theta"},
		{"{" GOOD ",\"partial_rotary_factor\":0.5}", "partial_rotary_factor"},
		{"{" GOOD ",\"head_dim\":1e18}", "head_dim"},
		{"{" GOOD ",\"max_position_embeddings\":0}", "max_position_embeddings"},
		{"{" GOOD ",\"rms_norm_eps\":\"small\"}", "rms_norm_eps"},
		{"{" GOOD ",\"torch_dtype\":\"\\u001b[2J\"}", "torch_dtype"},
		{"{" GOOD ",\"torch_dtype\":\"x\"}", "dtype"},
		{"{" GOOD ",\"dtype\":\"\"}", "dtype"},
		{"{" GOOD ",\"architectures\":\"LlamaForCausalLM\"}", "architectures"},
		{"{\"model_type\":\"llama\",\"num_hidden_layers\":1025}", "num_hidden_layers"},
		{EIGHT("exaone4") ",\"sliding_window_pattern\":1e300}", "sliding_window_pattern"},
		{EIGHT("exaone4") ",\"sliding_window_pattern\":-4}", "sliding_window_pattern"},
		{EIGHT("exaone4") ",\"sliding_window_pattern\":\"LLXG\"}", "sliding_window_pattern"},
		{EIGHT("exaone4") ",\"sliding_window_pattern\":\"\"}", "sliding_window_pattern"},
		{EIGHT("exaone4") ",\"sliding_window_pattern\":[4]}", "sliding_window_pattern"},
		{EIGHT("exaone4") ",\"sliding_window\":-1}", "sliding_window"},
		{EIGHT("qwen3") ",\"max_window_layers\":-1}", "max_window_layers"},
		{"{\"model_type\":\"mistral\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":4,\"vocab_size\":9}",
		 "missing"},
		{"[]", "config.json"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		if (!parse(rows[i].text, &err) || !strstr(err.text, rows[i].says) || bl_status_exit(err.status) != 3)
			fail_msg("%s: %s", rows[i].text, err.text);
	}
	struct bl_err err = BL_ERR_INIT;
	assert_int_equal(parse("{" GOOD "}", &err), BL_OK);
}

/* Where the library says so itself, the expected layers are what transformers 4.57.3 and 5.17.0 made of the same keys. */
static void windows(void **state)
{
	static const struct { const char *text; const char *slides; int64_t window; } rows[] = {
		{EIGHT("exaone4") ",\"sliding_window\":4096,\"sliding_window_pattern\":4}", "11101110", 4096},
		{EIGHT("exaone4") ",\"sliding_window\":4096,\"sliding_window_pattern\":\"LLLG\"}", "11101110", 4096},
		{EIGHT("exaone4") ",\"sliding_window\":16,\"sliding_window_pattern\":3}", "11011011", 16},
		{EIGHT("exaone4") ",\"sliding_window\":16,\"sliding_window_pattern\":1}", "00000000", 16},
		{EIGHT("exaone4") ",\"sliding_window\":16}", "11101110", 16},
		{EIGHT("exaone4") "}", "11101110", 4096},
		{EIGHT("exaone4") ",\"sliding_window\":null,\"sliding_window_pattern\":0}", "00000000", 0},
		{EIGHT("exaone4") ",\"sliding_window\":16,\"sliding_window_pattern\":null}", "00000000", 16},
		{EIGHT("exaone4") ",\"sliding_window\":16,\"sliding_window_pattern\":4,\"layer_types\":[\"full_attention\",\"sliding_attention\","
		 "\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\"]}", "01000000", 16},
		{EIGHT("mistral") ",\"sliding_window\":64}", "11111111", 64},
		{EIGHT("mistral") "}", "11111111", 4096},
		{EIGHT("mistral") ",\"sliding_window\":null}", "00000000", 0},
		{EIGHT("qwen2") ",\"sliding_window\":32,\"use_sliding_window\":false}", "00000000", 0},
		{EIGHT("qwen2") ",\"sliding_window\":32}", "00000000", 0},
		{EIGHT("qwen2") ",\"use_sliding_window\":true,\"sliding_window\":32,\"max_window_layers\":3}", "00011111", 32},
		{EIGHT("qwen2") ",\"use_sliding_window\":true,\"sliding_window\":32}", "00000000", 32},
		{EIGHT("qwen3") ",\"sliding_window\":32}", "00000000", 0},
		{EIGHT("qwen3") ",\"use_sliding_window\":true,\"max_window_layers\":5}", "00000111", 4096},
		{EIGHT("llama") ",\"sliding_window\":16,\"sliding_window_pattern\":4}", "00000000", 16},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_config c;
		if (bl_config_parse(&c, rows[i].text, strlen(rows[i].text), "c", &err))
			fail_msg("row %zu: %s", i, err.text);
		assert_int_equal(c.sliding_window, rows[i].window);
		for (int64_t l = 0; l < c.layers; l++)
			if (c.sliding[l] != (rows[i].slides[l] == '1'))
				fail_msg("row %zu, layer %" PRId64 ": %d", i, l, c.sliding[l]);
		bl_config_fini(&c);
	}
}

/* Keys that are not there: what the libraries assume; keys that a family does not read: nothing. */
static void defaults(void **state)
{
	static const struct { const char *text; int64_t kv, head_dim, positions; double eps, theta; bool bias, mlp_bias; } rows[] = {
		{"{" GOOD ",\"attention_bias\":true,\"mlp_bias\":true}", 4, 16, 2048, 1e-6, 10000, true, true},
		{EIGHT("qwen3") ",\"attention_bias\":true,\"mlp_bias\":true}", 2, 128, 32768, 1e-6, 10000, true, false},
		{EIGHT("qwen2") ",\"attention_bias\":true}", 2, 16, 32768, 1e-6, 10000, false, false},
		{EIGHT("exaone4") ",\"attention_bias\":true}", 2, 16, 2048, 1e-5, 10000, false, false},
		{EIGHT("mistral") ",\"head_dim\":null}", 2, 16, 131072, 1e-6, 10000, false, false},
		{"{\"model_type\":\"mistral\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":16,\"vocab_size\":9}",
		 8, 4, 131072, 1e-6, 10000, false, false},
		{"{" GOOD ",\"rope_theta\":5e5,\"rope_parameters\":{\"rope_type\":\"default\"}}", 4, 16, 2048, 1e-6, 5e5, false, false},
		{"{" GOOD ",\"rope_theta\":5e5,\"rope_parameters\":{\"rope_theta\":7e5}}", 4, 16, 2048, 1e-6, 7e5, false, false},
		{"{" GOOD ",\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{\"rope_theta\":7e5}}",
		 4, 16, 2048, 1e-6, 5e5, false, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_config c;
		if (bl_config_parse(&c, rows[i].text, strlen(rows[i].text), "c", &err))
			fail_msg("row %zu: %s", i, err.text);
		if (c.kv_heads != rows[i].kv || c.head_dim != rows[i].head_dim || c.max_positions != rows[i].positions || c.rms_eps != rows[i].eps ||
		    c.rope.theta != rows[i].theta || c.attention_bias != rows[i].bias || c.mlp_bias != rows[i].mlp_bias)
			fail_msg("row %zu: kv %" PRId64 ", head_dim %" PRId64 ", positions %" PRId64 ", eps %g, theta %g, biases %d %d", i, c.kv_heads,
				 c.head_dim, c.max_positions, c.rms_eps, c.rope.theta, c.attention_bias, c.mlp_bias);
		bl_config_fini(&c);
	}
}

/* A family that is not supported is refused by its name and a reason, also when its config has none of the usual keys. */
static void refusals(void **state)
{
	static const char *const names[] = {"gemma", "gemma3", "mixtral", "qwen2_moe", "qwen3_moe", "exaone",
		"exaone_moe", "glm4", "internlm2", "granite"};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		char text[200];
		snprintf(text, sizeof text, "{\"model_type\":\"%s\",\"text_config\":{}}", names[i]);
		assert_int_equal(parse(text, &err), BL_UNSUPPORTED);
		snprintf(text, sizeof text, "config.json: model_type %s is not supported yet: ", names[i]);
		if (strncmp(err.text, text, strlen(text)) || strlen(err.text) < strlen(text) + 10)
			fail_msg("%s: %s", names[i], err.text);
	}
	struct bl_err err = BL_ERR_INIT;
	assert_int_equal(parse("{\"model_type\":\"gpt2\",\"n_layer\":12}", &err), BL_UNSUPPORTED);
	assert_non_null(strstr(err.text, "gpt2"));
}

/* The rewriting into the 4.57 spelling: what it changes, what it leaves, what it says. */
static void rewriting(void **state)
{
	static const struct { const char *text, *becomes, *edits; } rows[] = {
		{"{\"model_type\":\"exaone4\",\"sliding_window\":null,\"sliding_window_pattern\":0,\"num_hidden_layers\":2,\"hidden_size\":64,"
		 "\"intermediate_size\":8,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":9,\"dtype\":\"bfloat16\","
		 "\"rope_parameters\":{\"rope_theta\":1000000.0,\"rope_type\":\"llama3\",\"factor\":16.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
		 "\"original_max_position_embeddings\":8192}}",
		 "{\"dtype\":\"bfloat16\",\"hidden_size\":64,\"intermediate_size\":8,\"layer_types\":[\"full_attention\",\"full_attention\"],"
		 "\"model_type\":\"exaone4\",\"num_attention_heads\":4,\"num_hidden_layers\":2,\"num_key_value_heads\":2,"
		 "\"rope_scaling\":{\"factor\":16.0,\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,\"original_max_position_embeddings\":8192,"
		 "\"rope_type\":\"llama3\"},\"rope_theta\":1000000.0,\"sliding_window\":null,\"sliding_window_pattern\":null,\"vocab_size\":9}",
		 "rope_parameters|sliding_window_pattern|layer_types"},
		{"{" GOOD ",\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"default\"}}",
		 "{\"hidden_size\":64,\"intermediate_size\":128,\"model_type\":\"llama\",\"num_attention_heads\":4,\"num_hidden_layers\":2,"
		 "\"rope_scaling\":null,\"rope_theta\":500000.0,\"vocab_size\":32}", "rope_parameters"},
		{"{" GOOD ",\"rope_theta\":5,\"rope_parameters\":null,\"sliding_window_pattern\":0}",
		 "{\"hidden_size\":64,\"intermediate_size\":128,\"model_type\":\"llama\",\"num_attention_heads\":4,\"num_hidden_layers\":2,"
		 "\"rope_parameters\":null,\"rope_theta\":5,\"sliding_window_pattern\":0,\"vocab_size\":32}", ""},
		{"{" GOOD ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{\"rope_theta\":7}}",
		 "{\"hidden_size\":64,\"intermediate_size\":128,\"model_type\":\"llama\",\"num_attention_heads\":4,\"num_hidden_layers\":2,"
		 "\"rope_scaling\":{\"factor\":2,\"type\":\"linear\"},\"vocab_size\":32}", "rope_parameters"},
		{"{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":4,\"vocab_size\":9,"
		 "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1000000.0,\"rope_type\":\"linear\",\"factor\":8.0},"
		 "\"sliding_attention\":{\"rope_theta\":10000.0,\"rope_type\":\"default\"}}}",
		 "{\"hidden_size\":64,\"intermediate_size\":8,\"model_type\":\"gemma3_text\",\"num_attention_heads\":4,\"num_hidden_layers\":2,"
		 "\"rope_local_base_freq\":10000.0,\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},\"rope_theta\":1000000.0,\"vocab_size\":9}",
		 "rope_parameters"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_config c;
		struct bl_str edits = {0}, text = {0};
		if (bl_config_parse(&c, rows[i].text, strlen(rows[i].text), "c", &err))
			fail_msg("row %zu: %s", i, err.text);
		cJSON *o = bl_config_v457(&c, &edits);
		bl_json_print(&text, o, 0, true);
		assert_string_equal(bl_str_c(&text), rows[i].becomes);
		int lines = 0, wanted = *rows[i].edits != 0;
		for (size_t k = 0; k < edits.len; k++)
			lines += edits.s[k] == '\n';
		for (const char *p = rows[i].edits; *p; p++)
			wanted += *p == '|';
		assert_int_equal(lines, wanted);
		cJSON_Delete(o);
		bl_str_free(&edits);
		bl_str_free(&text);
		bl_config_fini(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configs), cmocka_unit_test(defaults), cmocka_unit_test(refusals), cmocka_unit_test(rewriting), cmocka_unit_test(windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
