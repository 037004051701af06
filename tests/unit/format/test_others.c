/* SPDX-License-Identifier: Apache-2.0
 * quantization_config of GPTQ, AWQ, AutoRound and bitsandbytes: values of another kind are refused by their name before any linear is described. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/format/format.h"

#define GPTQ "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128,\"sym\":true,\"desc_act\":false"
#define AWQ "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":128,\"zero_point\":true"
#define ROUND "{\"quant_method\":\"auto-round\",\"bits\":4,\"group_size\":128,\"sym\":true"
#define BNB "{\"quant_method\":\"bitsandbytes\""

static void kinds(void **state)
{
	static const struct { const char *text, *names; } cases[] = { /* names NULL: it is taken */
		{GPTQ "}", NULL},
		{GPTQ ",\"checkpoint_format\":\"gptq_v2\",\"damp_percent\":0.01,\"dynamic\":{\"+:.*down\":{\"bits\":8},\"-:.*up\":{}}}", NULL},
		{GPTQ ",\"checkpoint_format\":\"marlin\"}", "checkpoint_format"},
		{GPTQ ",\"format\":7}", "format"},
		{GPTQ ",\"is_marlin_format\":true}", "is_marlin_format"},
		{GPTQ ",\"pack_dtype\":\"int64\"}", "pack_dtype"},
		{GPTQ ",\"damp_percent\":1}", "damp_percent"},
		{GPTQ ",\"dynamic\":[]}", "dynamic"},
		{GPTQ ",\"dynamic\":{\"+:a\":7}}", "+:a"},
		{GPTQ ",\"dynamic\":{\"+:a\":{\"bits\":\"4\"}}}", "+:a: bits"},
		{"{\"quant_method\":\"gptq\"}", "bits"},
		{"{\"quant_method\":\"gptq\",\"bits\":4.5}", "bits"},
		{"{\"quant_method\":\"gptq\",\"bits\":\"4\"}", "bits"},
		{"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":0}", "group_size"},
		{"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":-7}", "group_size"},
		{"{\"quant_method\":\"gptq\",\"bits\":4,\"sym\":1}", "sym"},
		{"{\"quant_method\":\"gptq\",\"bits\":4,\"desc_act\":\"false\"}", "desc_act"},
		{AWQ ",\"version\":\"GEMM\",\"modules_to_not_convert\":[\"lm_head\"]}", NULL},
		{AWQ ",\"version\":\"other\"}", "version"},
		{AWQ ",\"modules_to_not_convert\":\"lm_head\"}", "modules_to_not_convert"},
		{"{\"quant_method\":\"awq\",\"bits\":4,\"zero_point\":\"true\"}", "zero_point"},
		{ROUND ",\"packing_format\":\"auto_round:auto_gptq\",\"extra_config\":{\"a\":{\"bits\":16}}}", NULL},
		{ROUND ",\"packing_format\":7}", "packing_format"},
		{ROUND ",\"extra_config\":{\"a\":{\"bits\":null,\"group_size\":\"x\"}}}", "a: group_size"},
		{BNB ",\"load_in_4bit\":true,\"load_in_8bit\":false,\"bnb_4bit_quant_type\":\"nf4\",\"llm_int8_threshold\":6.0}", NULL},
		{BNB ",\"load_in_8bit\":true}", NULL},
		{BNB "}", "none is"},
		{BNB ",\"load_in_4bit\":true,\"load_in_8bit\":true}", "both are"},
		{BNB ",\"load_in_4bit\":1}", "load_in_4bit"},
		{BNB ",\"load_in_4bit\":true,\"bnb_4bit_use_double_quant\":null}", "bnb_4bit_use_double_quant"},
		{BNB ",\"load_in_4bit\":true,\"bnb_4bit_quant_type\":4}", "bnb_4bit_quant_type"},
		{BNB ",\"load_in_8bit\":true,\"llm_int8_threshold\":\"6\"}", "llm_int8_threshold"},
		{BNB ",\"load_in_8bit\":true,\"llm_int8_skip_modules\":\"lm_head\"}", "llm_int8_skip_modules"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_model m = {0};
		struct bl_quant q = {0};
		cJSON *o = NULL;

		assert_int_equal(bl_json_parse(&o, cases[i].text, strlen(cases[i].text), 1000, "config", &err), BL_OK);
		snprintf(m.config.quant_method, sizeof m.config.quant_method, "%s", cJSON_GetStringValue(cJSON_GetObjectItem(o, "quant_method")));
		m.config.json = cJSON_CreateObject();
		cJSON_AddItemToObject(m.config.json, "quantization_config", o);
		const bool taken = bl_quant_open(&q, &m, &err) == BL_OK;
		if (taken != !cases[i].names || (cases[i].names && !strstr(err.text, cases[i].names)))
			fail_msg("%s: %s", cases[i].text, taken ? "taken" : err.text);
		bl_quant_close(&q);
		cJSON_Delete(m.config.json);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(kinds)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
