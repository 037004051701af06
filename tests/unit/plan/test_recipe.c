/* SPDX-License-Identifier: Apache-2.0
 * Recipes in and out: what tools write, what people write, what nobody should write. */
#include "tests/unit/plan/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/plan/recipe.h"
#include "core/plan/regex.h"
#include "tests/unit/processor_ns.h"

static struct bl_model *m; /* 4 blocks: units 4b .. 4b+3 are qkv, o, gate_up, down */

static int open_model(void **state)
{
	struct shape s = tiny_shape;

	(void)state;
	s.layers = 4;
	m = model_make(&s);
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	model_drop(m);
	return 0;
}

static bool all_known(const void *ctx, const char *name)
{
	(void)ctx;
	return strcmp(name, "unheard-of") != 0;
}

static const struct bl_recipe_methods everything = {all_known, NULL};

static struct bl_plan *apply(const char *text, const struct bl_recipe_methods *methods, struct bl_str *notes)
{
	struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
	struct bl_err err = BL_ERR_INIT;

	if (bl_recipe_apply(p, m, text, strlen(text), "recipe.yaml", methods, notes, &err))
		fail_msg("%s\n%s", err.text, text);
	bl_str_c(notes);
	return p;
}

/* Schemes of the units qkv, o, gate_up, down of one block. */
static void expect(const struct bl_plan *p, int block, const char *qkv, const char *o, const char *gate_up, const char *down)
{
	const char *want[] = {qkv, o, gate_up, down};

	for (int i = 0; i < 4; i++)
		if (strcmp(scheme_of(p, 4 * block + i), want[i]))
			fail_msg("%s is %s, not %s", m->units[4 * block + i].name, scheme_of(p, 4 * block + i), want[i]);
}

static void expect_notes(struct bl_str *notes, const char *const *says)
{
	for (; *says; says++)
		if (!strstr(bl_str_c(notes), *says))
			fail_msg("no note about %s in:\n%s", *says, bl_str_c(notes));
}

#define STAGE "default_stage:\n  default_modifiers:\n"

/* What tools save beside a model, and the older spellings of the stages. */
static void as_tools_write_them(void **state)
{
	static const char *const stages[] = {"default_stage:\n  default_modifiers:\n", "DEFAULT_stage:\n  DEFAULT_modifiers:\n", "quant_stage:\n  quant_modifiers:\n", "my_stage:\n"};
	struct bl_str notes = {0};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct bl_str text = {0};
		bl_str_addf(&text, "%s    SmoothQuantModifier: {smoothing_strength: 0.8}\n    GPTQModifier:\n      targets: [Linear]\n"
			    "      ignore: [embed_tokens, lm_head, 're:.*layers[.](0|3)[.].*']\n      scheme: W8A8\n      block_size: 128\n      dampening_frac: 0.01\n"
			    "      actorder: static\n      offload_hessians: false\n", stages[i]);
		struct bl_plan *p = apply(bl_str_c(&text), NULL, &notes);
		expect(p, 0, "BF16", "BF16", "BF16", "BF16");
		expect(p, 1, "W8A8", "W8A8", "W8A8", "W8A8");
		expect(p, 3, "BF16", "BF16", "BF16", "BF16");
		assert_string_equal(bl_plan_choice(p, 4)->method, "rtn");
		assert_string_equal(bl_plan_undo_label(p), "recipe");
		bl_plan_undo(p);
		expect(p, 1, "BF16", "BF16", "BF16", "BF16");
		assert_false(bl_plan_undo(p)); /* one step */
		expect_notes(&notes, (const char *const[]){"SmoothQuantModifier", "line", "method gptq is not available, rtn is used", "block_size", "dampening_frac", "actorder",
			"offload_hessians", NULL});
		assert_null(strstr(notes.s, "lm_head"));
		assert_null(strstr(notes.s, "embed_tokens"));
		bl_plan_free(p);
		bl_str_free(&text);
		bl_str_clear(&notes);
	}
	bl_str_free(&notes);
}

static void gptq_where_it_is(void **state)
{
	struct bl_str notes = {0};
	struct bl_plan *p = apply(STAGE "    GPTQModifier: {targets: Linear, ignore: [lm_head], scheme: W4A16, block_size: 64, dampening_frac: 0.05, actorder: static,"
				  " offload_hessians: true, sequential_targets: null}\n", &everything, &notes);

	(void)state;
	assert_string_equal(bl_plan_choice(p, 0)->method, "gptq");
	assert_string_equal(bl_plan_choice(p, 0)->params, "block_size=64,dampening_frac=0.05,actorder=static");
	expect_notes(&notes, (const char *const[]){"offload_hessians", NULL});
	assert_null(strstr(notes.s, "block_size"));
	assert_null(strstr(notes.s, "sequential_targets")); /* null says nothing */
	bl_plan_free(p);
	bl_str_free(&notes);
}

/* Recipes say one word for the order of rounding, which is the method's, and for groups by an index, which are in the files. */
static void actorder_of_a_modifier(void **state)
{
	static const struct { const char *said, *scheme, *params; } rows[] = {
		{"group", "W4A16_actorder", ""}, {"dynamic", "W4A16_actorder", ""}, {"static", "W4A16", "actorder=static"},
		{"weight", "W4A16", "actorder=static"}, {"null", "W4A16", "actorder=none"}, {"false", "W4A16", "actorder=none"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[256], name[BL_SCHEME_NAME_MAX];
		struct bl_str notes = {0};
		snprintf(text, sizeof text, STAGE "    GPTQModifier: {targets: Linear, ignore: [lm_head], scheme: W4A16, actorder: %s}\n", rows[i].said);
		struct bl_plan *p = apply(text, &everything, &notes);
		assert_string_equal(bl_scheme_name(name, &bl_plan_choice(p, 0)->scheme), rows[i].scheme);
		assert_string_equal(bl_plan_choice(p, 0)->params, rows[i].params);
		assert_string_equal(bl_str_c(&notes), "");
		bl_plan_free(p);
		bl_str_free(&notes);
	}
	struct bl_str notes = {0};
	struct bl_plan *p = apply(STAGE "    GPTQModifier: {targets: Linear, ignore: [lm_head], scheme: W8A8, actorder: group}\n", &everything, &notes);
	expect(p, 0, "W8A8", "W8A8", "W8A8", "W8A8");
	expect_notes(&notes, (const char *const[]){"actorder group has no effect", NULL});
	bl_plan_free(p);
	bl_str_free(&notes);
}

/* One group with these weights and inputs for everything; scheme NULL: left out with a note that holds `says`. */
static const struct { const char *weights, *inputs, *scheme, *params, *says; } groups[] = {
	{"{num_bits: 8, type: int, symmetric: true, strategy: channel, dynamic: false}", "{num_bits: 8, type: int, symmetric: true, strategy: token, dynamic: true}", "W8A8", "", NULL},
	{"{num_bits: 8, type: int, symmetric: True, strategy: channel}", "{num_bits: 8, strategy: token, dynamic: True}", "W8A8", "", NULL},
	{"{num_bits: 8, type: float, symmetric: true, strategy: channel}", "{num_bits: 8, type: float, symmetric: true, strategy: token, dynamic: true}", "FP8_DYNAMIC", "", NULL},
	{"{num_bits: 4, type: int, symmetric: true, strategy: group, group_size: 128}", "null", "W4A16", "", NULL},
	{"{num_bits: 4, group_size: 64}", "null", "W4A16_g64", "", NULL},
	{"{num_bits: 4, group_size: -1}", "null", "W4A16_channel", "", "strategy channel"}, /* -1 with channel is a spelling of none */
	{"{num_bits: 4, symmetric: false, strategy: group, group_size: 32}", "~", "W4A16_ASYM_g32", "", NULL},
	{"{num_bits: 4, symmetric: False, group_size: 32}", "null", "W4A16_ASYM_g32", "", NULL},
	{"{num_bits: 4, symmetric: no, group_size: 32}", "null", "W4A16_ASYM_g32", "", NULL},
	{"{num_bits: 8, strategy: channel}", "null", "W8A16", "", NULL},
	{"{num_bits: 3, strategy: group, group_size: 128}", "null", "W3A16", "", NULL},
	{"{num_bits: 4, group_size: 128, observer: mse}", "null", "W4A16", "observer=mse", NULL},
	{"{num_bits: 4, group_size: 128, observer: memoryless_minmax, observer_kwargs: {}}", "null", "W4A16", "", NULL},
	{"{num_bits: 4, group_size: 128, observer: mse, observer_kwargs: {maxshrink: 0.3, grid: 50, patience: 5}}", "null", "W4A16", "observer=mse,maxshrink=0.3,grid=50", "patience"},
	{"{num_bits: 4, group_size: 128, observer: imatrix}", "null", "W4A16", "", "imatrix"},
	{"{num_bits: 4, group_size: 128, actorder: static}", "null", "W4A16", "", "actorder"},
	{"{num_bits: 4, group_size: 128, actorder: group}", "null", "W4A16_actorder", "", NULL},
	{"{num_bits: 4, symmetric: false, group_size: 64, actorder: dynamic}", "null", "W4A16_ASYM_g64_actorder", "", NULL},
	{"{num_bits: 4, group_size: 128, actorder: true}", "null", "W4A16_actorder", "", NULL},
	{"{num_bits: 4, group_size: 128, actorder: false}", "null", "W4A16", "", NULL},
	{"{num_bits: 8, strategy: channel, actorder: group}", "null", "W8A16", "", "actorder group has no effect on a scheme without groups"},
	{"{num_bits: 4, group_size: 128, scale_dtype: null, zp_dtype: null, block_structure: null}", "null", "W4A16", "", NULL},
	{"{num_bits: 4, group_size: 128, scale_dtype: torch.float8_e4m3fn}", "null", "W4A16", "", "scale_dtype"},
	{"{num_bits: 4, group_size: 128, invented: 3}", "null", "W4A16", "", "invented"},
	{"{num_bits: 8, type: int, strategy: tensor}", "null", NULL, NULL, "strategy tensor"},
	{"{num_bits: 8}", "null", NULL, NULL, "strategy tensor"}, /* what an absent strategy means */
	{"{num_bits: 4, type: float, strategy: tensor_group, group_size: 16}", "null", "NVFP4A16", "", NULL},
	{"{num_bits: 4, type: float, strategy: tensor_group, group_size: 16}", "{num_bits: 4, type: float, strategy: tensor_group, group_size: 16, dynamic: local}", "NVFP4", "", NULL},
	{"{num_bits: 4, type: float, strategy: group, group_size: 32}", "null", "MXFP4A16", "", NULL},
	{"{num_bits: 8, type: float, strategy: group, group_size: 32}", "null", "MXFP8A16", "", NULL},
	{"{num_bits: 8, type: float, strategy: group, group_size: 64}", "null", NULL, NULL, "not offered"},
	{"{num_bits: 8, type: float, strategy: block, block_structure: [128, 128]}", "{num_bits: 8, type: float, strategy: group, group_size: 128, dynamic: true}", "FP8_BLOCK", "", NULL},
	{"{num_bits: 4, type: float, strategy: tensor_group, group_size: 32}", "null", NULL, NULL, "tensor_group"},
	{"{num_bits: 8, type: float, strategy: channel}", "null", NULL, NULL, "float"},
	{"{num_bits: 4, strategy: group, group_size: 128}", "{num_bits: 8, type: int, strategy: token, dynamic: true}", NULL, NULL, "with 8-bit inputs"},
	{"{num_bits: 8, strategy: channel, symmetric: false}", "{num_bits: 8, type: int, strategy: token, dynamic: true}", NULL, NULL, "zero points"},
	{"{num_bits: 8, strategy: channel}", "{num_bits: 8, type: int, strategy: token, dynamic: true, symmetric: false}", NULL, NULL, "inputs"},
	{"{num_bits: 8, strategy: channel}", "{num_bits: 8, type: int, strategy: tensor, dynamic: false}", "W8A8_STATIC", NULL, NULL},
	{"{num_bits: 8, type: float, strategy: tensor}", "{num_bits: 8, type: float, strategy: tensor, dynamic: false}", "FP8", NULL, NULL},
	{"{num_bits: 8, type: float, strategy: channel}", "{num_bits: 8, type: float, strategy: tensor, dynamic: false}", "FP8_channel", NULL, NULL},
	{"{num_bits: 8, type: float, strategy: tensor}", "{num_bits: 8, type: float, strategy: token, dynamic: true}", NULL, NULL, "strategy tensor"},
	{"{num_bits: 8, strategy: channel}", "{num_bits: 8, type: int, strategy: tensor, dynamic: true}", NULL, NULL, "inputs"},
	{"{num_bits: 8, strategy: channel}", "{num_bits: 8, type: int, strategy: token, dynamic: false}", NULL, NULL, "inputs"},
	{"{num_bits: 8, strategy: channel}", "{num_bits: 4, type: int, strategy: token, dynamic: true}", NULL, NULL, "inputs"},
	{"{num_bits: 8, strategy: channel, dynamic: true}", "null", NULL, NULL, "dynamic"},
	{"{num_bits: 4, strategy: group}", "null", NULL, NULL, "strategy group 0"},
	{"{num_bits: 4, strategy: channel, group_size: 128}", "null", NULL, NULL, "strategy channel 128"},
	{"{num_bits: 4, group_size: 70000}", "null", NULL, NULL, "70000"},
	{"{num_bits: 4.5, group_size: 128}", "null", NULL, NULL, "num_bits is not a whole number"},
	{"{num_bits: four, group_size: 128}", "null", NULL, NULL, "num_bits"},
	{"{num_bits: 9, group_size: 128}", "null", NULL, NULL, "9-bit"},
	{"{num_bits: -4, group_size: 128}", "null", NULL, NULL, "-4-bit"},
	{"{num_bits: 260, group_size: 128}", "null", NULL, NULL, "260-bit"},
	{"{num_bits: 99999999999999999999, group_size: 128}", "null", NULL, NULL, "num_bits"},
	{"{num_bits: [4], group_size: 128}", "null", NULL, NULL, "num_bits"},
	{"{num_bits: 4, symmetric: maybe, group_size: 128}", "null", NULL, NULL, "symmetric is neither true nor false"},
	{"{num_bits: 4, type: complex, group_size: 128}", "null", NULL, NULL, "type"},
	{"null", "null", NULL, NULL, "without weights"},
	{"[4]", "null", NULL, NULL, "without weights"},
};

static void config_groups(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
		struct bl_str text = {0}, notes = {0};
		bl_str_addf(&text, STAGE "    QuantizationModifier:\n      ignore: [lm_head]\n      config_groups:\n        group_0:\n          targets: [Linear]\n"
			    "          weights: %s\n          input_activations: %s\n          output_activations: null\n", groups[i].weights, groups[i].inputs);
		struct bl_plan *p = apply(bl_str_c(&text), NULL, &notes);
		const char *want = groups[i].scheme ? groups[i].scheme : "BF16";
		bool channel_of_minus_one = groups[i].says && groups[i].scheme && strstr(groups[i].says, "strategy channel");
		expect(p, 2, want, want, want, want);
		if (groups[i].params)
			assert_string_equal(bl_plan_choice(p, 8)->params, groups[i].params);
		if (groups[i].says && !channel_of_minus_one ? !strstr(notes.s, groups[i].says) : notes.len != 0)
			fail_msg("%s: notes \"%s\"", groups[i].weights, notes.s);
		bl_plan_free(p);
		bl_str_free(&text);
		bl_str_free(&notes);
	}
}

/* An exact name beats an expression, that beats the class, whatever the order; among expressions the first of the alphabet. */
static void who_wins(void **state)
{
	static const char text[] = STAGE
		"    QuantizationModifier:\n      config_groups:\n"
		"        a: {targets: ['model.layers.1.mlp.down_proj'], weights: {num_bits: 4, group_size: 32}}\n"
		"        b: {targets: ['re:.*down_proj$', 're:model.layers.2.*o_proj'], weights: {num_bits: 4, group_size: 64}}\n"
		"        c: {targets: ['re:model.*down_proj', 're:a.*|.*o_proj'], weights: {num_bits: 4, group_size: 128}}\n"
		"        d: {targets: [Linear], weights: {num_bits: 8, strategy: channel}}\n"
		"      ignore: ['re:.*layers\\.3\\..*', lm_head]\n";
	struct bl_str notes = {0};
	struct bl_plan *p = apply(text, NULL, &notes);

	(void)state;
	expect(p, 0, "W8A16", "W4A16", "W8A16", "W4A16_g64");
	expect(p, 1, "W8A16", "W4A16", "W8A16", "W4A16_g32");
	expect(p, 2, "W8A16", "W4A16", "W8A16", "W4A16_g64");
	expect(p, 3, "BF16", "BF16", "BF16", "BF16"); /* ignore beats them all */
	assert_string_equal(notes.s, "");
	bl_plan_free(p);
	bl_str_free(&notes);
}

/* What one modifier ignores is left to the others; what two want goes to the later one, and that is said. */
static void several_modifiers(void **state)
{
	struct bl_str notes = {0};
	struct bl_plan *p = apply("a_stage:\n  a_modifiers:\n    QuantizationModifier: {scheme: {W8A8: ['re:.*mlp.*'], W8A16: ['re:.*o_proj']}, ignore: ['re:.*[qkv]_proj']}\n"
				  "b_stage:\n  b_modifiers:\n    QuantizationModifier: {targets: ['re:.*self_attn.*'], scheme: W4A16, ignore: ['re:.*mlp.*', lm_head]}\n", NULL, &notes);

	(void)state;
	expect(p, 1, "W4A16", "W4A16", "W8A8", "W8A8");
	expect_notes(&notes, (const char *const[]){"4 linears are targeted by several modifiers", NULL});
	bl_plan_free(p);
	bl_str_free(&notes);
}

static void fused_units(void **state)
{
	struct bl_str notes = {0};
	/* a part of a unit, two halves that agree, two that do not */
	struct bl_plan *p = apply(STAGE "    QuantizationModifier:\n      config_groups:\n"
				  "        a: {targets: ['re:.*layers.0.*q_proj', 're:.*layers.1.*q_proj', 're:.*gate_proj'], weights: {num_bits: 4, group_size: 128}}\n"
				  "        b: {targets: ['re:.*layers.1.*[kv]_proj'], weights: {num_bits: 4, group_size: 128}}\n"
				  "        c: {targets: ['re:.*up_proj'], weights: {num_bits: 8, strategy: channel}}\n", NULL, &notes);

	(void)state;
	expect(p, 0, "BF16", "BF16", "BF16", "BF16");
	expect(p, 1, "W4A16", "BF16", "BF16", "BF16");
	expect_notes(&notes, (const char *const[]){"model.layers.0.self_attn.qkv_proj: the server fuses", "q_proj would be W4A16 and k_proj full precision", "stays in full precision",
		"gate_proj would be W4A16 and up_proj W8A16", NULL});
	assert_null(strstr(notes.s, "layers.1.self_attn"));
	bl_plan_free(p);
	bl_str_clear(&notes);
	/* half of a unit ignored */
	p = apply(STAGE "    QuantizationModifier: {targets: [Linear], scheme: W8A8, ignore: ['re:.*k_proj']}\n", NULL, &notes);
	expect(p, 2, "BF16", "W8A8", "W8A8", "W8A8");
	expect_notes(&notes, (const char *const[]){"k_proj full precision", NULL});
	bl_plan_free(p);
	bl_str_free(&notes);
}

/* A recipe is about the whole model: what it leaves out goes back, locked units stay, and both are said. */
static void on_a_plan_with_history(void **state)
{
	struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
	struct bl_err err = BL_ERR_INIT;
	struct bl_str notes = {0};
	static const char text[] = STAGE "    QuantizationModifier: {targets: ['re:.*down_proj'], scheme: W4A16}\n";

	(void)state;
	assert_int_equal(bl_plan_preset(p, m, "W8A8", &err), BL_OK);
	bl_plan_set_lock(p, 0, true);
	assert_int_equal(bl_recipe_apply(p, m, text, strlen(text), "recipe.yaml", NULL, &notes, &err), BL_OK);
	expect(p, 0, "W8A8", "BF16", "BF16", "W4A16");
	expect(p, 1, "BF16", "BF16", "BF16", "W4A16");
	expect_notes(&notes, (const char *const[]){"qkv_proj is locked", "11 units that the recipe does not target", NULL});
	bl_plan_undo(p);
	expect(p, 1, "W8A8", "W8A8", "W8A8", "W8A8");
	bl_plan_free(p);
	bl_str_free(&notes);
}

static void nothing_in_silence(void **state)
{
	static const struct { const char *text, *says; } rows[] = {
		{STAGE "    QuantizationModifier: {targets: [Linear], scheme: W4A4}\n", "W4A4 is not offered"},
		{STAGE "    QuantizationModifier: {targets: [Linear], scheme: W4A4}\n", "W4A4"},
		{STAGE "    QuantizationModifier: {targets: ['LlamaRMSNorm'], scheme: W8A8}\n", "LlamaRMSNorm matches no linear"},
		{STAGE "    QuantizationModifier: {targets: [lm_head], scheme: W8A8}\n", "embedding and head stay in full precision"},
		{STAGE "    QuantizationModifier: {targets: [Linear], scheme: W8A8, kv_cache_scheme: {num_bits: 8}}\n", "kv_cache_scheme"},
		{STAGE "    QuantizationModifier: {targets: [Linear], scheme: W8A8, ignore: ['re:.*nothing.*']}\n", "nothing.* matches no linear"},
		{STAGE "    QuantizationModifier: {targets: [Linear]}\n", "without a scheme"},
		{STAGE "    AWQModifier: {targets: [Linear], scheme: W4A16}\n", "AWQModifier is not in this version"},
		{STAGE "    QuantizationModifier: {scheme: W8A8}\n  run_type: oneshot\n", "run_type"},
		{"version: 3\n" STAGE "    QuantizationModifier: {scheme: W8A8}\n", "version has no effect"},
		{STAGE "    QuantizationModifier: {config_groups: {W4A16: {targets: [Linear], weights: {num_bits: 4, group_size: 128}, output_activations: {num_bits: 8}}}}\n", "output_activations"},
		{STAGE "    QuantizationModifier: {config_groups: {g: {targets: [Linear], weights: {num_bits: 4, group_size: 128, observer_kwargs: {bitlathe_method: unheard-of, a: 1}}}}}\n",
			"not available"},
		{STAGE "    \"Evil\\e[31mModifier\": {targets: [Linear]}\n", "\\x1b[31m"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_str notes = {0};
		struct bl_plan *p = apply(rows[i].text, &everything, &notes);
		if (!strstr(notes.s, rows[i].says) || strchr(notes.s, '\x1b'))
			fail_msg("%s: \"%s\"", rows[i].text, notes.s);
		bl_plan_free(p);
		bl_str_free(&notes);
	}
}

/* ---- out and in ---- */

static void out_and_in(void **state)
{
	static const char *const edits[][6] = {
		{NULL},
		{"all=W8A8", NULL},
		{"all=FP8_DYNAMIC:rtn,observer=mse", NULL},
		{"qkv=W8A8", "o=W4A16_ASYM_g64:rtn,observer=mse,maxshrink=0.3,grid=50", "1.down=W3A16", "2.down=W8A16:rtn,norm=2", NULL},
		{"down=W4A16:gptq,block_size=64", "o=W4A16:gptq,block_size=64", "qkv=W8A8:gptq,block_size=128,actorder=static", "gate_up=W8A8", NULL},
		{"down=W4A16:gptq", "o=W8A8:gptq,block_size=1,block_size=2", NULL},
		{"down=W4A16:mine", "o=W8A8:mine,alpha=0.5,mode=fast", "qkv=W8A16_ASYM_channel:mine,x", NULL},
		{"down=W4A16_act:gptq,dampening_frac=0.02", "o=W4A16:gptq,actorder=none", "qkv=W4A16_ASYM_g64_act:gptq,actorder=group", "gate_up=W4A16_act:rtn", NULL},
		{"down=W4A16:gptq,actorder=weight", "o=W4A16:gptq,actorder=null", "qkv=W4A16:gptq,block_size=Null", "gate_up=W4A16:gptq,actorder=groups", NULL},
		{"down=W4A16:rtn,observer=minmax", "o=W8A8:rtn,observer=mse,", "qkv=W4A16:rtn,=,=\"{}[] #: '", "gate_up=W2A16:rtn,grid=1,observer=mse", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
		struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
		struct bl_str first = {0}, second = {0}, notes = {0};
		struct bl_err err = BL_ERR_INIT;
		char a[65], b[65];
		for (int k = 0; edits[i][k]; k++)
			if (bl_plan_set_text(p, m, edits[i][k], NULL, NULL, &err))
				fail_msg("%s", err.text);
		bl_recipe_print(&first, p, m, "bitlathe test");
		struct bl_plan *q = apply(bl_str_c(&first), &everything, &notes);
		bl_plan_digest(p, a);
		bl_plan_digest(q, b);
		if (strcmp(a, b))
			fail_msg("another plan came back from:\n%s", first.s);
		assert_string_equal(bl_str_c(&notes), "");
		bl_recipe_print(&second, q, m, "bitlathe test");
		assert_string_equal(first.s, second.s);
		bl_plan_free(p);
		bl_plan_free(q);
		bl_str_free(&first);
		bl_str_free(&second);
		bl_str_free(&notes);
	}
}

static void provenance(void **state)
{
	struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
	struct bl_err err = BL_ERR_INIT;
	struct bl_str out = {0}, notes = {0};
	char digest[65];

	(void)state;
	bl_plan_set_text(p, m, "down=W4A16", NULL, NULL, &err);
	bl_plan_set_text(p, m, "o=W4A16:rtn,x \xe2\x80\xa8 y: b\xef\xbb\xbf", NULL, NULL, &err); /* blanks around a line end would go */
	bl_plan_set_edit(p, "x", "\"\xe2\x80\xa9 evil: 1\"", &err);
	bl_plan_set_edit(p, "note", "[1,\n\"x: y\"]", &err); /* one line, or it would be YAML */
	bl_plan_set_edit(p, "gone", "", &err);
	bl_plan_digest(p, digest);
	bl_recipe_print(&out, p, m, "bitlathe 1.2.3");
	expect_notes(&out, (const char *const[]){"bitlathe 1.2.3", m->digest, digest, "seed: 42", "l4-vllm-0.14.1", "note = [1,\"x: y\"]", "gone = (removed)", "- model.layers.3.mlp.down_proj", NULL});
	assert_null(strstr(out.s, "- model.layers.3.self_attn.q_proj"));
	struct bl_plan *q = apply(out.s, NULL, &notes);
	assert_string_equal(bl_str_c(&notes), "");
	assert_string_equal(bl_plan_choice(q, 1)->params, "x \xe2\x80\xa8 y: b\xef\xbb\xbf");
	bl_plan_free(q);
	bl_plan_free(p);
	bl_str_free(&out);
	bl_str_free(&notes);
}

/* ---- hostile ---- */

static void refused(const char *text, size_t n, const char *says)
{
	struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
	struct bl_err err = BL_ERR_INIT;
	struct bl_str notes = {0};
	uint64_t start = processor_ns();

	if (bl_recipe_apply(p, m, text, n, "recipe.yaml", NULL, &notes, &err) != BL_INVALID)
		fail_msg("accepted, or something else than invalid (%s): %.200s", err.text, text);
	if ((says && !strstr(err.text, says)) || !strstr(err.text, "recipe.yaml") || strchr(err.text, '\x1b'))
		fail_msg("\"%s\" does not name %s", err.text, says);
	assert_null(bl_plan_undo_label(p));
	assert_true(processor_ns() - start < 30000000000ull);
	bl_plan_free(p);
	bl_str_free(&notes);
}

static void hostile(void **state)
{
	static const struct { const char *text, *says; } rows[] = {
		{"", "empty"}, {"# nothing\n", "empty"}, {"just text", "map"}, {"[1, 2]", "map"}, {"a: 1\n", "no recipe"}, {"a: {b: {c: 1}}\n", "no recipe"},
		{"a: &a [x,x]\nb: [*a,*a]\n", "aliases"}, {"a: &a b\n", "aliases"}, {"a: *b\n", NULL}, {"a: 1\na: 2\n", "twice"}, {"? [a]\n: b\n", "keys must be plain text"},
		{"---\na: 1\n---\nb: 2\n", "more than one document"}, {"a: [1, 2\n", "line"}, {"a: \"\n", "line"}, {"\t- x", NULL}, {"a: \xff\xfe\n", NULL}, {"%YAML 9.9\n---\na: 1", NULL},
		{STAGE "    QuantizationModifier: 3\n", "must hold settings"},
		{STAGE "    QuantizationModifier: {targets: {a: b}, scheme: W8A8}\n", "list of names"},
		{STAGE "    QuantizationModifier: {targets: [[a]], scheme: W8A8}\n", "target must be a name"},
		{STAGE "    QuantizationModifier: {scheme: [W8A8]}\n", "scheme must be"},
		{STAGE "    QuantizationModifier: {config_groups: [a]}\n", "config_groups must be a map"},
		{STAGE "    QuantizationModifier: {config_groups: {a: [1]}}\n", "must be a map"},
		{STAGE "    QuantizationModifier: {targets: ['re:('], scheme: W8A8}\n", "line 3: re:(: at byte"},
		{STAGE "    QuantizationModifier: {targets: ['re:(.*)*(.*)*(.*)*(.*)*[!?]'], scheme: W8A8}\n", "too long"},
		{STAGE "    QuantizationModifier: {targets: [\"re:\\e[31m(\"], scheme: W8A8}\n", "line 3"},
	};
	struct bl_str b = {0};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		refused(rows[i].text, strlen(rows[i].text), rows[i].says);
	refused("a: b\0c", 6, NULL);
	/* deep nesting, in both styles */
	for (int i = 0; i < 100000; i++)
		bl_str_addc(&b, '[');
	refused(b.s, b.len, "nested deeper");
	bl_str_clear(&b);
	for (int i = 0; i < 200; i++)
		bl_str_addf(&b, "%*sa:\n", i, "");
	refused(b.s, b.len, "nested deeper");
	bl_str_clear(&b);
	for (int i = 0; i < 100000; i++)
		bl_str_add(&b, "{a: ");
	refused(b.s, b.len, "nested deeper");
	/* more than a megabyte, more than 100,000 values, more than 1000 keys */
	bl_str_clear(&b);
	while (b.len <= 1u << 20)
		bl_str_add(&b, "# comment\n");
	refused(b.s, b.len, "bytes");
	bl_str_clear(&b);
	bl_str_add(&b, "a: [");
	for (int i = 0; i < 200000; i++)
		bl_str_add(&b, "1,");
	bl_str_add(&b, "]\n");
	refused(b.s, b.len, "more than 100000 values");
	bl_str_clear(&b);
	for (int i = 0; i < 1500; i++)
		bl_str_addf(&b, "k%d: 1\n", i);
	refused(b.s, b.len, "more than 1000 keys");
	bl_str_free(&b);
}

static void large_but_legal(void **state)
{
	struct bl_str b = {0}, notes = {0};
	uint64_t start = processor_ns();

	(void)state;
	/* a key of almost a megabyte */
	bl_str_add(&b, "? ");
	while (b.len < (1u << 20) - 200)
		bl_str_add(&b, "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk");
	bl_str_add(&b, "\n: 1\n" STAGE "    QuantizationModifier: {scheme: W8A8}\n");
	struct bl_plan *p = apply(bl_str_c(&b), NULL, &notes);
	expect(p, 0, "W8A8", "W8A8", "W8A8", "W8A8");
	assert_true(notes.len > 0 && notes.len < 1000);
	bl_plan_free(p);
	/* thousands of remarks: the first two hundred, and how many more */
	bl_str_clear(&b);
	bl_str_clear(&notes);
	bl_str_add(&b, STAGE "    QuantizationModifier:\n      scheme: W8A8\n      ignore:\n");
	for (int i = 0; i < 20000; i++)
		bl_str_addf(&b, "      - 're:nothing%d'\n", i);
	p = apply(bl_str_c(&b), NULL, &notes);
	expect_notes(&notes, (const char *const[]){"19800 more remarks", NULL});
	assert_true(notes.len < 200 * 200);
	bl_plan_free(p);
	bl_str_free(&b);
	bl_str_free(&notes);
	assert_true(processor_ns() - start < 30000000000ull);
}

/* Many expressions that are each just cheap enough run into the limit that they share. */
static void the_shared_budget(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_regex *r = NULL;
	int64_t budget = 1;

	(void)state;
	assert_int_equal(bl_regex_open(&r, ".*proj", "recipe.yaml: ", BL_INVALID, &err), BL_OK);
	assert_false(bl_regex_match(r, "model.layers.0.mlp.down_proj", &budget, &err));
	assert_int_equal(err.status, BL_INVALID);
	assert_non_null(strstr(err.text, "recipe.yaml: re:.*proj"));
	bl_err_clear(&err);
	budget = BL_REGEX_BUDGET_NS;
	assert_true(bl_regex_match(r, "model.layers.0.mlp.down_proj", &budget, &err));
	assert_true(budget < BL_REGEX_BUDGET_NS);
	bl_regex_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_tools_write_them), cmocka_unit_test(gptq_where_it_is),
		cmocka_unit_test(actorder_of_a_modifier), cmocka_unit_test(config_groups),   cmocka_unit_test(who_wins),
		cmocka_unit_test(several_modifiers),   cmocka_unit_test(fused_units),      cmocka_unit_test(on_a_plan_with_history),
		cmocka_unit_test(nothing_in_silence),  cmocka_unit_test(out_and_in),       cmocka_unit_test(provenance),      cmocka_unit_test(hostile),
		cmocka_unit_test(large_but_legal),     cmocka_unit_test(the_shared_budget),
	};

	return cmocka_run_group_tests(tests, open_model, close_model);
}
