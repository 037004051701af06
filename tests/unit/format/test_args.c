/* SPDX-License-Identifier: Apache-2.0
 * What clients refuse in a quantization_config is refused here, by its place: a table of single changes to configs that load. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/format/ct_config.h"

#define W8 "\"num_bits\":8,\"type\":\"int\",\"symmetric\":true,\"strategy\":\"channel\",\"group_size\":null,\"block_structure\":null,\"dynamic\":false," \
	   "\"actorder\":null,\"scale_dtype\":null,\"zp_dtype\":null,\"observer\":\"minmax\",\"observer_kwargs\":{}"
#define A8 "{\"num_bits\":8,\"type\":\"int\",\"symmetric\":true,\"strategy\":\"token\",\"dynamic\":true}"
#define GROUP(weights, inputs, more) "{\"targets\":[\"Linear\"],\"format\":\"int-quantized\",\"weights\":{" weights "},\"input_activations\":" inputs more "}"
#define CONFIG(group, more) "{\"quant_method\":\"compressed-tensors\",\"format\":\"int-quantized\",\"quantization_status\":\"compressed\"," \
			    "\"ignore\":[\"lm_head\"],\"config_groups\":{\"group_0\":" group "}" more "}"

static char said[1000];

static bool taken(const char *text)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_ct_config c;
	cJSON *o = NULL;

	assert_int_equal(bl_json_parse(&o, text, strlen(text), 10000, "config", &err), BL_OK);
	const bool ok = bl_ct_config_parse(&c, o, &err) == BL_OK;
	snprintf(said, sizeof said, "%s", err.text);
	if (ok)
		bl_ct_config_fini(&c);
	cJSON_Delete(o);
	return ok;
}

static void weights(void **state)
{
	static const struct { const char *text, *names; } cases[] = { /* names NULL: it loads */
		{W8, NULL},
		{"\"num_bits\":8,\"strategy\":\"CHANNEL\",\"type\":\"Int\"", NULL},
		{"\"num_bits\":4,\"group_size\":32", NULL},
		{"\"num_bits\":4,\"group_size\":32,\"actorder\":\"Weight\",\"scale_dtype\":\"torch.bfloat16\"", NULL},
		{W8 ",\"weird\":1", "weird"},
		{"\"num_bits\":null", "num_bits"},
		{"\"num_bits\":8.5", "num_bits"},
		{"\"type\":\"x\"", "type"},
		{"\"type\":null", "type"},
		{"\"symmetric\":null", "symmetric"},
		{"\"strategy\":\"rows\"", "strategy"},
		{"\"strategy\":\"group\"", "group_size"},
		{"\"strategy\":\"channel\",\"group_size\":32", "group_size"},
		{"\"group_size\":0", "group_size"},
		{"\"group_size\":-2", "group_size"},
		{"\"strategy\":\"block\"", "block_structure"},
		{"\"strategy\":\"block\",\"block_structure\":[128,0]", "block_structure[1]"},
		{"\"strategy\":\"block\",\"block_structure\":[128]", "block_structure"},
		{"\"strategy\":\"channel\",\"block_structure\":[128,128]", "block_structure"},
		{"\"strategy\":\"channel\",\"dynamic\":null", "dynamic"},
		{"\"strategy\":\"channel\",\"dynamic\":true", "dynamic"},
		{"\"strategy\":\"channel\",\"dynamic\":\"x\"", "dynamic"},
		{"\"strategy\":\"group\",\"group_size\":32,\"dynamic\":true", "dynamic"},
		{"\"strategy\":\"token\",\"dynamic\":true", "dynamic"},
		{"\"strategy\":\"channel\",\"actorder\":\"group\"", "actorder"},
		{"\"group_size\":32,\"actorder\":\"first\"", "actorder"},
		{"\"group_size\":32,\"actorder\":7", "actorder"},
		{"\"observer\":7", "observer"},
		{"\"observer_kwargs\":[]", "observer_kwargs"},
		{"\"scale_dtype\":\"x\"", "scale_dtype"},
		{"\"zp_dtype\":{}", "zp_dtype"},
	};
	char text[2000];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(text, sizeof text, CONFIG(GROUP("%s", A8, ""), ""), cases[i].text);
		if (taken(text) != !cases[i].names)
			fail_msg("weights {%s}: %s", cases[i].text, said[0] ? said : "taken");
		if (cases[i].names && (!strstr(said, "group_0: weights") || !strstr(said, cases[i].names)))
			fail_msg("weights {%s}: %s", cases[i].text, said);
	}
}

static void around(void **state)
{
	static const struct { const char *text, *names; } cases[] = {
		{CONFIG(GROUP(W8, "null", ""), ""), NULL},
		{CONFIG(GROUP(W8, A8, ",\"output_activations\":null"), ",\"sparsity_config\":{},\"transform_config\":{},\"kv_cache_scheme\":null"), NULL},
		{CONFIG(GROUP(W8, A8, ""), ",\"sparsity_config\":{\"format\":\"dense\"},\"kv_cache_scheme\":{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"tensor\"}"), NULL},
		{CONFIG(GROUP(W8, "{\"strategy\":\"token\"}", ""), ""), "input_activations: dynamic"},
		{CONFIG(GROUP(W8, "{\"strategy\":\"channel\"}", ""), ""), "input_activations: channel"},
		{CONFIG(GROUP(W8, "{\"group_size\":32,\"actorder\":\"group\"}", ""), ""), "input_activations: actorder"},
		{CONFIG(GROUP(W8, "{\"dynamic\":\"local\"}", ""), ""), "input_activations: dynamic"},
		{CONFIG(GROUP(W8, A8, ",\"output_activations\":7"), ""), "output_activations"},
		{CONFIG(GROUP(W8, A8, ",\"output_activations\":" A8), ""), "output_activations"},
		{CONFIG(GROUP(W8, A8, ",\"weird\":1"), ""), "weird"},
		{CONFIG(GROUP(W8, A8, ""), ",\"kv_cache_scheme\":\"x\""), "kv_cache_scheme"},
		{CONFIG(GROUP(W8, A8, ""), ",\"kv_cache_scheme\":{\"num_bits\":\"x\"}"), "kv_cache_scheme: num_bits"},
		{CONFIG(GROUP(W8, A8, ""), ",\"global_compression_ratio\":\"x\""), "global_compression_ratio"},
		{CONFIG(GROUP(W8, A8, ""), ",\"sparsity_config\":[1]"), "sparsity_config"},
		{CONFIG(GROUP(W8, A8, ""), ",\"sparsity_config\":{\"a\":1}"), "sparsity_config: format"},
		{CONFIG(GROUP(W8, A8, ""), ",\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}"), "sparse-24-bitmask"},
		{CONFIG(GROUP(W8, A8, ""), ",\"transform_config\":{\"config_groups\":{\"R1\":{}}}"), "transform_config"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (taken(cases[i].text) != !cases[i].names || (cases[i].names && !strstr(said, cases[i].names)))
			fail_msg("%s\n%s", cases[i].text, said[0] ? said : "taken");
}

/* One scale for all tokens is what a client infers from nothing said. */
static void inferred(void **state)
{
	static const char text[] = CONFIG(GROUP(W8, "{\"dynamic\":true}", ""), "");
	struct bl_err err = BL_ERR_INIT;
	struct bl_ct_config c;
	struct bl_scheme s;
	cJSON *o = NULL;

	(void)state;
	assert_int_equal(bl_json_parse(&o, text, strlen(text), 10000, "config", &err), BL_OK);
	assert_int_equal(bl_ct_config_parse(&c, o, &err), BL_OK);
	assert_true(c.groups[0].act_tensor && c.groups[0].act_dynamic);
	assert_false(bl_ct_as_scheme(&c.groups[0], &s));
	bl_ct_config_fini(&c);
	cJSON_Delete(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(weights), cmocka_unit_test(around), cmocka_unit_test(inferred)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
