/* SPDX-License-Identifier: Apache-2.0
 * The serving rules: which scheme runs on which shape, as a table; plans as wholes; what else loads an export. */
#include "tests/unit/plan/support.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/plan/target.h"

static const struct bl_target *target(const char *name)
{
	const struct bl_target *t = NULL;
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_target_find(&t, name, &err), BL_OK);
	return t;
}

#define L4 "l4-vllm-0.14.1"
#define H100 "h100-vllm-0.14.1"
#define A100 "a100-vllm-0.14.1"
#define A10 "a10-vllm-0.14.1"

/* rows, cols of one linear; kernel NULL: illegal, and the sentence holds `says`; else `says` (may be NULL) is the warning. */
static const struct { const char *target, *scheme; int64_t rows, cols; const char *kernel, *says; } rows[] = {
	{L4, "BF16", 7, 3, "cuBLAS BF16", NULL},
	{L4, "W8A8", 3072, 2048, "Cutlass INT8", NULL},
	{L4, "W8A8", 16, 16, "Cutlass INT8", NULL},
	{L4, "W8A8", 24, 2048, "Triton INT8", "N = 24"},
	{L4, "W8A8", 16, 24, "Triton INT8", "K = 24"},
	{L4, "FP8_DYNAMIC", 3072, 2048, "Cutlass FP8", NULL},
	{L4, "FP8_DYNAMIC", 8, 2048, "Triton FP8", "slower"},
	{L4, "W4A16", 3072, 2048, "Marlin", NULL},
	{L4, "W4A16_g64", 64, 128, "Marlin", NULL},
	{L4, "W4A16_g32", 64, 128, "Marlin", NULL},
	{L4, "W4A16_channel", 64, 128, "Marlin", NULL},
	{L4, "W4A16_ASYM", 64, 128, "Marlin", NULL},
	{L4, "W4A16_ASYM_g32", 64, 128, "Marlin", NULL},
	{L4, "W4A16_ASYM_channel", 64, 128, "Marlin", NULL},
	{L4, "W4A16", 96, 128, NULL, "Failed to find a kernel that can implement the WNA16 linear layer: Marlin needs N to be a multiple of 64, it is 96"},
	{L4, "W4A16_g32", 64, 96, NULL, "K to be a multiple of 128, it is 96"},
	{L4, "W4A16_g64", 64, 192, NULL, "K to be a multiple of 128, it is 192"},
	{L4, "W4A16", 64, 192, NULL, "K = 192 is not a multiple of the group size 128"},
	{L4, "W4A16_g16", 64, 128, NULL, "group size 16"},
	{L4, "W4A16_g256", 64, 256, NULL, "group size 256"},
	{L4, "W8A16", 3072, 2048, "AllSpark", NULL},
	{L4, "W8A16", 16, 16, "AllSpark", NULL},
	{L4, "W8A16", 24, 128, NULL, "AllSpark needs N to be a multiple of 16, it is 24"},
	{L4, "W8A16_g128", 3072, 2048, "Marlin", NULL},
	{L4, "W8A16_g32", 64, 128, "Marlin", NULL},
	{L4, "W8A16_g128", 16, 128, NULL, "multiple of 64"},
	{L4, "W8A16_ASYM_channel", 3072, 2048, NULL, "Failed to find a kernel that can implement the WNA16 linear layer: 8-bit weights with zero points"},
	{L4, "W8A16_ASYM_g128", 3072, 2048, NULL, "8-bit weights with zero points"},
	{L4, "W2A16", 3072, 2048, NULL, "2-bit"},
	{L4, "W3A16", 3072, 2048, NULL, "No compressed-tensors compatible scheme was found: 3-bit"},
	{L4, "W5A16", 3072, 2048, NULL, "5-bit"},
	{L4, "W6A16", 3072, 2048, NULL, "6-bit"},
	{L4, "W7A16", 3072, 2048, NULL, "7-bit"},
	{A10, "FP8_DYNAMIC", 3072, 2048, "Marlin FP8", "no FP8 units"},
	{A10, "FP8_DYNAMIC", 3080, 2048, NULL, "3080"},
	{A100, "FP8_DYNAMIC", 64, 192, NULL, "192"},
	{A100, "W8A16", 16, 16, "AllSpark", NULL},
	{A100, "W4A16_ASYM", 64, 128, "Marlin", NULL},
	{A100, "W8A16_ASYM_g128", 128, 128, NULL, "zero points"},
	{H100, "FP8_DYNAMIC", 3072, 2048, "Cutlass FP8", NULL},
	{H100, "W4A16", 3072, 2048, "Machete", NULL},
	{H100, "W4A16_channel", 128, 64, "Machete", NULL},
	{H100, "W4A16_g32", 128, 128, "Marlin", NULL},
	{H100, "W4A16", 192, 128, "Marlin", NULL},
	{H100, "W8A16", 128, 128, "Machete", NULL},
	{H100, "W8A16", 16, 16, NULL, "Marlin needs N to be a multiple of 64"},
	{H100, "W8A16_ASYM_g128", 128, 128, "Machete", NULL},
	{H100, "W8A16_ASYM_channel", 128, 64, "Machete", NULL},
	{H100, "W8A16_ASYM_g32", 128, 128, NULL, "8-bit weights with zero points in groups of 32"},
	{H100, "W8A16_ASYM_g128", 192, 128, NULL, "Machete needs N to be a multiple of 128, it is 192"},
	{H100, "W4A16_ASYM_g32", 64, 128, "Marlin", NULL},
};

static void one_linear(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_unit u = {.n_members = 1, .rows = rows[i].rows, .cols = rows[i].cols, .dtype = BL_BF16};
		struct bl_model m = {.units = &u, .n_units = 1};
		struct bl_err err = BL_ERR_INIT;
		struct bl_scheme s;
		struct bl_verdict v;
		if (bl_scheme_parse(&s, rows[i].scheme, &err))
			fail_msg("%s", err.text);
		bl_target_check_unit(&v, target(rows[i].target), &m, 0, &s);
		if (v.legal != (rows[i].kernel != NULL) || strcmp(v.kernel, rows[i].kernel ? rows[i].kernel : "none") ||
		    (rows[i].says ? !strstr(v.sentence, rows[i].says) || !v.rule : v.sentence[0] || v.rule))
			fail_msg("%s %s [%lld,%lld]: %s, %s, rule %s: \"%s\"", rows[i].target, rows[i].scheme, (long long)rows[i].rows, (long long)rows[i].cols,
				 v.legal ? "legal" : "illegal", v.kernel, v.rule ? v.rule : "-", v.sentence);
	}
}

static void act_on_four_bits_is_refused(void **state)
{
	struct bl_unit u = {.n_members = 1, .rows = 128, .cols = 128, .dtype = BL_F16};
	struct bl_model m = {.units = &u, .n_units = 1};
	struct bl_scheme s = {.number = BL_NUM_INT, .bits = 4, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL, .act = BL_ACT_INT8_TOKEN}, full = BL_SCHEME_FULL;
	struct bl_verdict v;

	(void)state;
	bl_target_check_unit(&v, target(L4), &m, 0, &s);
	assert_false(v.legal);
	bl_target_check_unit(&v, target(L4), &m, 0, &full);
	assert_string_equal(v.kernel, "cuBLAS FP16");
}

/* Both EXAONE-4 models: every scheme that can be legal on an L4 at all is legal for every unit. */
static void exaone_on_l4(void **state)
{
	static const char *const legal[] = {"BF16", "W8A8", "W8A16", "W8A16_g128", "W8A16_g32", "W4A16", "W4A16_g64", "W4A16_g32", "W4A16_channel", "W4A16_ASYM",
		"W4A16_ASYM_g32", "W4A16_ASYM_channel", "FP8_DYNAMIC"};
	static const char *const illegal[] = {"W8A16_ASYM_g128", "W8A16_ASYM_channel", "W2A16", "W3A16", "W5A16", "W6A16", "W7A16", "W4A16_g16"};
	static const struct { const struct shape *s; int64_t qkv, gate_up; } models[] = {{&exaone_1b, 3072, 8192}, {&exaone_32b, 7168, 54784}};

	(void)state;
	for (size_t k = 0; k < 2; k++) {
		struct bl_model *m = model_make(models[k].s);
		struct bl_plan *p = bl_plan_new(m, L4);
		struct bl_err err = BL_ERR_INIT;
		struct bl_problem *problems = NULL;
		int n_fatal = -1;
		assert_int_equal(m->units[0].rows, models[k].qkv);
		assert_int_equal(m->units[2].rows, models[k].gate_up);
		for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++) {
			assert_int_equal(bl_plan_preset(p, m, legal[i], &err), BL_OK);
			if (bl_target_check_plan(&problems, &n_fatal, target(L4), m, p))
				fail_msg("%s %s: %s", models[k].s->name, legal[i], problems[0].sentence);
			assert_int_equal(n_fatal, 0);
			bl_free(problems);
		}
		for (size_t i = 0; i < sizeof illegal / sizeof illegal[0]; i++) {
			assert_int_equal(bl_plan_preset(p, m, illegal[i], &err), BL_OK);
			assert_int_equal(bl_target_check_plan(&problems, &n_fatal, target(L4), m, p), m->n_units);
			assert_int_equal(n_fatal, m->n_units);
			assert_int_equal(problems[1].unit, 1);
			assert_non_null(strstr(problems[1].sentence, "0 o "));
			bl_free(problems);
		}
		bl_plan_free(p);
		model_drop(m);
	}
}

static void the_config(void **state)
{
	static const struct { const char *value; int n, n_fatal; const char *says; } edits[] = {
		{NULL, 0, 0, NULL},
		{"16384", 0, 0, NULL},
		{"65536", 0, 0, NULL},
		{"16383", 1, 1, "max_model_len (16384) is greater than the derived max_model_len (max_position_embeddings=16383)"},
		{"65537", 1, 0, "more than the model was made for"},
		{"0", 1, 1, "whole number"}, {"-5", 1, 1, "whole number"}, {"16384.0", 1, 1, "whole number"}, {"1e5", 1, 1, "whole number"}, {"\"16384\"", 1, 1, "whole number"},
		{"null", 1, 1, "whole number"}, {"", 1, 1, "removed"}, {"99999999999999999999", 1, 1, "whole number"},
	};
	struct bl_model *m = model_make(&tiny_shape);

	(void)state;
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
		struct bl_plan *p = bl_plan_new(m, L4);
		struct bl_err err = BL_ERR_INIT;
		struct bl_problem *problems = NULL;
		int n_fatal = 0;
		if (edits[i].value)
			assert_int_equal(bl_plan_set_edit(p, "max_position_embeddings", edits[i].value, &err), BL_OK);
		int n = bl_target_check_plan(&problems, &n_fatal, target(L4), m, p);
		if (n != edits[i].n || n_fatal != edits[i].n_fatal || (n && (problems[0].unit != -1 || !strstr(problems[0].sentence, edits[i].says))))
			fail_msg("%s: %d problems, %d fatal: %s", edits[i].value, n, n_fatal, n ? problems[0].sentence : "");
		bl_free(problems);
		bl_plan_free(p);
	}
	/* a model that is short by itself cannot be helped here: a warning */
	struct bl_plan *p = bl_plan_new(m, L4);
	struct bl_problem *problems = NULL;
	int n_fatal = 0;
	m->config.max_positions = 2048;
	assert_int_equal(bl_target_check_plan(&problems, &n_fatal, target(L4), m, p), 1);
	assert_int_equal(n_fatal, 0);
	bl_free(problems);
	m->config.max_positions = 65536;
	/* a checkpoint that is quantized already */
	struct bl_err err = BL_ERR_INIT;
	m->config.quantized = true;
	assert_int_equal(bl_target_check_plan(&problems, &n_fatal, target(L4), m, p), 0);
	bl_free(problems);
	assert_int_equal(bl_plan_set_text(p, m, "first.qkv=W8A8", NULL, NULL, &err), BL_OK);
	assert_int_equal(bl_target_check_plan(&problems, &n_fatal, target(L4), m, p), 1);
	assert_int_equal(n_fatal, 1);
	bl_free(problems);
	bl_plan_free(p);
	model_drop(m);
}

static void also_in_transformers(void **state)
{
	static const struct { const char *down, *o; bool loads; } plans[] = {
		{"BF16", "BF16", true}, {"W8A8", "W8A8", true}, {"W8A8", "BF16", true}, {"W4A16", "W8A16", true}, {"W4A16_g32", "W4A16_channel", true}, {"FP8_DYNAMIC", "BF16", true},
		{"W2A16", "BF16", true}, {"W8A8", "W4A16", false}, {"FP8_DYNAMIC", "W8A8", false}, {"FP8_DYNAMIC", "W8A16", false}, {"W4A16_ASYM", "BF16", false},
		{"W3A16", "BF16", false}, {"W6A16", "BF16", false},
	};
	struct bl_model *m = model_make(&tiny_shape);

	(void)state;
	for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
		struct bl_plan *p = bl_plan_new(m, L4);
		struct bl_err err = BL_ERR_INIT;
		char text[64], why[240];
		snprintf(text, sizeof text, "down=%s", plans[i].down);
		assert_int_equal(bl_plan_set_text(p, m, text, NULL, NULL, &err), BL_OK);
		snprintf(text, sizeof text, "o=%s", plans[i].o);
		assert_int_equal(bl_plan_set_text(p, m, text, NULL, NULL, &err), BL_OK);
		if (bl_target_loads_in_transformers(m, p, why) != plans[i].loads || (why[0] == '\0') != plans[i].loads)
			fail_msg("down %s, o %s: %s", plans[i].down, plans[i].o, why);
		bl_plan_free(p);
	}
	model_drop(m);
}

static void the_table(void **state)
{
	const struct bl_target *t;
	struct bl_err err = BL_ERR_INIT;
	int n;

	(void)state;
	const struct bl_target *row = bl_target_rows(&n);
	assert_true(n >= 5);
	assert_string_equal(row[0].name, L4); /* the default */
	assert_int_equal(row[0].max_model_len, 16384);
	for (int i = 0; i < n; i++) {
		t = NULL;
		assert_int_equal(bl_target_find(&t, row[i].name, &err), BL_OK);
		assert_ptr_equal(t, &row[i]); /* names are unique */
		assert_true(row[i].gpu.bw_gb_s > 0 && row[i].gpu.bw_share > 0 && row[i].gpu.step_us > 0 && row[i].gpu.bf16_tflop_s > 0 && row[i].gpu.fit && row[i].gpu.source);
	}
	assert_int_equal(bl_target_find(&t, "nowhere", &err), BL_USAGE);
	assert_non_null(strstr(err.text, "nowhere"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_linear), cmocka_unit_test(act_on_four_bits_is_refused), cmocka_unit_test(exaone_on_l4),
		cmocka_unit_test(the_config), cmocka_unit_test(also_in_transformers),      cmocka_unit_test(the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
