/* SPDX-License-Identifier: Apache-2.0
 * The document: undo against a list of states, locks, snapshots, patterns, the file and its damages, recipes, rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/plan/plan_file.h"
#include "core/plan/recipe.h"
#include "core/plan/target.h"
#include "tests/fuzz/demo_model.h"
#include "tests/unit/processor_ns.h"

static struct bl_model *m;
static char dir[64];

static char *text_of(const struct bl_plan *p)
{
	struct bl_str b = {0};

	bl_plan_print(&b, p);
	return bl_str_take(&b);
}

static struct bl_plan *fresh(void)
{
	return bl_plan_new(m, "l4-vllm-0.14.1");
}

/* ---- undo ---- */

static void random_edit(struct bl_plan *p, struct bl_rng *r)
{
	static const char *const sets[] = {"all=W8A8", "down=W4A16", "0=BF16", "1.qkv=W4A16_ASYM_g64:rtn,observer=mse", "o=FP8_DYNAMIC", "last=W3A16"};
	struct bl_err err = BL_ERR_INIT;
	char name[32];
	int n = bl_plan_n_snapshots(p), unit = (int)(bl_rng_u64(r) % (uint64_t)m->n_units);

	switch (bl_rng_u64(r) % 9) {
	case 0: case 1: case 2: bl_plan_set_text(p, m, sets[bl_rng_u64(r) % 6], NULL, NULL, &err); break;
	case 3: bl_plan_set_lock(p, unit, bl_rng_u64(r) % 2); break;
	case 4: bl_plan_set_edit(p, "max_position_embeddings", bl_rng_u64(r) % 2 ? "16384" : NULL, &err); break;
	case 5:
		snprintf(name, sizeof name, "s%d", (int)(bl_rng_u64(r) % 1000));
		bl_plan_snapshot_save(p, name, "", &err);
		break;
	case 6:
		if (n)
			bl_plan_snapshot_restore(p, (int)(bl_rng_u64(r) % (uint64_t)n), &err);
		break;
	case 7:
		if (n)
			bl_plan_snapshot_drop(p, (int)(bl_rng_u64(r) % (uint64_t)n));
		break;
	case 8: bl_plan_set_zero_nonfinite(p, bl_rng_u64(r) % 2); break;
	}
}

static void undo_is_a_walk_through_states(void **state)
{
	struct bl_rng r;
	char *states[400];
	int at = 0, top = 0;
	struct bl_plan *p = fresh();

	(void)state;
	setenv("BL_TEST_CLOCK", "1000000", 1);
	bl_rng_seed(&r, 42);
	states[0] = text_of(p);
	for (int i = 0; i < 3000; i++) {
		uint64_t what = bl_rng_u64(&r) % 10;
		if (what < 5 && at < 398) {
			random_edit(p, &r);
			char *now = text_of(p);
			if (strcmp(now, states[at])) {
				while (top > at)
					bl_free(states[top--]);
				states[++at] = now;
				top = at;
			} else {
				bl_free(now); /* changed nothing: no step */
			}
		} else if (what < 8) {
			assert_int_equal(bl_plan_undo(p), at > 0);
			at -= at > 0;
		} else {
			assert_int_equal(bl_plan_redo(p), at < top);
			at += at < top;
		}
		char *now = text_of(p);
		assert_string_equal(now, states[at]);
		bl_free(now);
	}
	while (top >= 0)
		bl_free(states[top--]);
	bl_plan_free(p);
}

static void steps_locks_digests(void **state)
{
	struct bl_plan *p = fresh(), *copy;
	struct bl_err err = BL_ERR_INIT;
	char a[65], b[65], name[BL_SCHEME_NAME_MAX];
	int changed, locked;

	(void)state;
	bl_plan_digest(p, a);
	bl_plan_set_lock(p, 1, true);
	bl_plan_digest(p, b);
	assert_string_equal(a, b); /* a lock is not part of what is made */
	assert_int_equal(bl_plan_set_text(p, m, "all=W8A8", &changed, &locked, &err), BL_OK);
	assert_int_equal(locked, 1);
	assert_int_equal(changed, m->n_units - 1);
	assert_int_equal(bl_plan_choice(p, 1)->scheme.number, BL_NUM_FULL);
	assert_string_equal(bl_plan_choice(p, 0)->method, "rtn");
	bl_plan_digest(p, b);
	assert_string_not_equal(a, b);
	assert_string_equal(bl_plan_undo_label(p), "all=W8A8");
	copy = bl_plan_copy(p);
	bl_plan_undo(p);
	assert_string_equal(bl_plan_summary(name, p), "BF16");
	assert_string_equal(bl_plan_summary(name, copy), "mixed");
	assert_null(bl_plan_undo_label(copy));
	bl_plan_free(copy);
	bl_plan_begin(p, "outer");
	bl_plan_begin(p, "inner");
	bl_plan_set_zero_nonfinite(p, true);
	bl_plan_end(p);
	bl_plan_set_zero_nonfinite(p, false);
	assert_false(bl_plan_end(p)); /* back where it was */
	static const char *const refused[] = {"vocab_size", "quantization_config", "model_type", "", "a b", "x\n"};
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		bl_err_clear(&err);
		assert_int_equal(bl_plan_set_edit(p, refused[i], "1", &err), BL_USAGE);
	}
	static const char *const not_json[] = {"{", "1,\"y\":2", "nul", "[1", "\"\\u0000\""};
	for (size_t i = 0; i < sizeof not_json / sizeof not_json[0]; i++) {
		bl_err_clear(&err);
		assert_int_equal(bl_plan_set_edit(p, "key", not_json[i], &err), BL_USAGE);
	}
	assert_int_equal(bl_plan_n_edits(p), 0);
	bl_err_clear(&err);
	assert_int_equal(bl_plan_snapshot_save(p, "one", NULL, &err), BL_OK);
	assert_int_equal(bl_plan_snapshot_save(p, "one", NULL, &err), BL_USAGE);
	bl_err_clear(&err);
	assert_int_equal(bl_plan_snapshot_save(p, "esc\033", NULL, &err), BL_USAGE);
	bl_err_clear(&err);
	assert_int_equal(bl_plan_snapshot_rename(p, 0, "two", &err), BL_OK);
	assert_int_equal(bl_plan_find_snapshot(p, "two"), 0);
	bl_plan_undo(p);
	assert_int_equal(bl_plan_find_snapshot(p, "one"), 0);
	bl_plan_free(p);
}

/* ---- patterns ---- */

static void patterns(void **state)
{
	static const struct { const char *pattern; int n, first; } rows[] = {
		{"all", 8, 0}, {"down", 2, 3}, {"qkv", 2, 0}, {"1", 4, 4}, {"0-1", 8, 0}, {"0-1.down", 2, 3}, {"first", 4, 0}, {"last.o", 1, 5}, {"1.gate_up", 1, 6},
		{"model.layers.1.self_attn.qkv_proj", 1, 4}, {"model.layers.1.self_attn.k_proj", 1, 4}, {"re:.*down_proj", 2, 3}, {"re:.*k_proj", 2, 0},
		{"re:model\\.layers\\.0\\.", 4, 0}, {"re:.*layers.1", 4, 4}, {"nothing", 0, 0}, {"re:down_proj", 0, 0}, {"re:(", 0, 0}, {"9", 0, 0}, {"", 0, 0}, {"1.", 0, 0},
		{"re:(.+)+x$", 0, 0},
	};
	uint8_t sel[64];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		int n = 0, first = -1;
		uint64_t start = processor_ns();
		memset(sel, 0, sizeof sel);
		enum bl_status s = bl_pattern_match(m, rows[i].pattern, sel, &n, &err);
		assert_true(processor_ns() - start < SLOWER * 3000000000ull);
		if ((s == BL_OK) != (rows[i].n > 0) || (s && s != BL_USAGE))
			fail_msg("%s: %d %s", rows[i].pattern, s, err.text);
		for (int k = m->n_units - 1; k >= 0; k--)
			first = sel[k] ? k : first;
		if (!s && (n != rows[i].n || first != rows[i].first))
			fail_msg("%s: %d units from %d", rows[i].pattern, n, first);
	}
	struct bl_plan *p = fresh();
	struct bl_err err = BL_ERR_INIT;
	assert_int_equal(bl_plan_set_text(p, m, "re:(?=model)model.*down_proj=W4A16", NULL, NULL, &err), BL_OK); /* '=' inside the expression */
	assert_int_equal(bl_plan_choice(p, 3)->scheme.bits, 4);
	bl_plan_free(p);
}

/* ---- the file ---- */

static char *sample(void)
{
	struct bl_plan *p = fresh();
	struct bl_err err = BL_ERR_INIT;

	bl_plan_set_text(p, m, "down=W4A16_g64:rtn,observer=mse", NULL, NULL, &err);
	bl_plan_snapshot_save(p, "one", "note", &err);
	bl_plan_set_text(p, m, "qkv=W8A8", NULL, NULL, &err);
	bl_plan_set_edit(p, "max_position_embeddings", "16384", &err);
	bl_plan_set_lock(p, 2, true);
	char *t = text_of(p);
	bl_plan_free(p);
	return t;
}

static enum bl_status parse(const char *text, size_t n, struct bl_err *err)
{
	struct bl_plan *p = NULL;
	enum bl_status s = bl_plan_parse(&p, m, text, n, "p.json", NULL, err);

	bl_plan_free(p);
	return s;
}

static void file_round_trip_and_damages(void **state)
{
	char *text = sample();
	size_t n = strlen(text);
	struct bl_err err = BL_ERR_INIT;
	struct bl_plan *p = NULL;
	struct bl_rng r;

	(void)state;
	assert_int_equal(bl_plan_parse(&p, m, text, n, "p.json", NULL, &err), BL_OK);
	assert_false(bl_plan_dirty(p));
	char *again = text_of(p);
	assert_string_equal(text, again);
	bl_free(again);
	bl_plan_free(p);
	for (size_t i = 0; i + 2 < n; i++) { /* without its last bytes (a newline may go) */
		bl_err_clear(&err);
		if (!parse(text, i, &err))
			fail_msg("accepted after %zu of %zu bytes", i, n);
		assert_int_equal(bl_status_exit(err.status), 3);
	}
	bl_rng_seed(&r, 1);
	for (int i = 0; i < 3000; i++) {
		char *damaged = bl_xstrdup(text);
		damaged[bl_rng_u64(&r) % n] = (char)(bl_rng_u64(&r) % 255 + 1);
		bl_err_clear(&err);
		parse(damaged, n, &err);
		bl_free(damaged);
	}
	static const struct { const char *from, *to, *says; } edits[] = {
		{"\"bitlathe_plan\": 1", "\"bitlathe_plan\": 2", "bitlathe_plan"},
		{"\"zero_nonfinite\": false", "\"zero_nonfinite\": 3", "zero_nonfinite"},
		{"model.layers.1.self_attn.o_proj", "model.layers.7.self_attn.o_proj", "units[5]"},
		{"model.layers.1.self_attn.o_proj", "model.layers.0.self_attn.o_proj", "twice"},
		{"\"scheme\": \"W8A8\"", "\"scheme\": \"W9A9\"", "units[0]"},
		{"\"locked\": true", "\"locked\": \"x\"", "locked"},
		{"\"method\": \"rtn\"", "\"method\": []", "method"},
		{"\"16384\"", "16384", "config_edits.max_position_embeddings"},
		{"max_position_embeddings", "vocab_size", "vocab_size"},
		{"\"snapshots\": [", "\"snapshots\": 7, \"units\": [", "units"},
		{"\"name\": \"one\"", "\"name\": 1", "name"},
	};
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
		struct bl_str b = {0};
		const char *at = strstr(text, edits[i].from);
		assert_non_null(at);
		bl_str_addn(&b, text, (size_t)(at - text));
		bl_str_add(&b, edits[i].to);
		bl_str_add(&b, at + strlen(edits[i].from));
		bl_err_clear(&err);
		if (!parse(b.s, b.len, &err) || !strstr(err.text, edits[i].says) || !strstr(err.text, "p.json"))
			fail_msg("%s: %s", edits[i].to, err.text);
		bl_str_free(&b);
	}
	bl_free(text);
}

static void saving_survives_a_failing_disk(void **state)
{
	struct bl_plan *p = fresh();
	struct bl_err err = BL_ERR_INIT;
	char *path = bl_path_join(dir, "p.json"), *before, *after, **names;
	size_t n;

	(void)state;
	assert_int_equal(bl_plan_save(p, path, &err), BL_OK);
	assert_true(bl_plan_is_file(path));
	assert_int_equal(bl_read_file(&before, NULL, path, 1 << 20, true, &err), BL_OK);
	assert_int_equal(bl_plan_preset(p, m, "W8A8", &err), BL_OK);
	for (uint64_t k = 1; k < 5; k++) { /* open, write, fsync, rename; the fifth call is the folder's fsync, after the rename */
		bl_err_clear(&err);
		bl_file_fail_at(k);
		assert_int_not_equal(bl_plan_save(p, path, &err), BL_OK);
		bl_file_fail_at(0);
		bl_err_clear(&err);
		assert_true(bl_plan_dirty(p));
		assert_int_equal(bl_read_file(&after, NULL, path, 1 << 20, true, &err), BL_OK);
		assert_string_equal(before, after);
		bl_free(after);
		assert_int_equal(bl_list_dir(&names, &n, dir, &err), BL_OK);
		assert_int_equal(n, 1);
		bl_list_free(names);
	}
	assert_int_equal(bl_plan_save(p, path, &err), BL_OK);
	assert_false(bl_plan_dirty(p));
	bl_free(before);
	bl_free(path);
	bl_plan_free(p);
}

/* ---- recipes ---- */

static enum bl_status apply(struct bl_plan *p, const char *text, struct bl_str *notes, struct bl_err *err)
{
	bl_err_clear(err);
	bl_str_clear(notes);
	return bl_recipe_apply(p, m, text, strlen(text), "r.yaml", NULL, notes, err);
}

static void recipes(void **state)
{
	struct bl_plan *p = fresh();
	struct bl_err err = BL_ERR_INIT;
	struct bl_str notes = {0}, out = {0}, big = {0};
	char name[BL_SCHEME_NAME_MAX], a[65], b[65];

	(void)state;
	static const char *const stages[] = {"default_stage:\n  default_modifiers:\n", "DEFAULT_stage:\n  DEFAULT_modifiers:\n", "quant_stage:\n  quant_modifiers:\n", ""};
	for (int i = 0; i < 4; i++) {
		struct bl_str t = {0};
		bl_str_addf(&t, "%s    QuantizationModifier:\n      targets: [Linear]\n      ignore: [lm_head]\n      scheme: W8A8\n", stages[i]);
		assert_int_equal(bl_plan_preset(p, m, "BF16", &err), BL_OK);
		if (apply(p, bl_str_c(&t), &notes, &err))
			fail_msg("%s", err.text);
		assert_string_equal(bl_plan_summary(name, p), "W8A8");
		assert_string_equal(bl_str_c(&notes), "");
		bl_str_free(&t);
	}
	bl_plan_undo(p);
	assert_string_equal(bl_plan_summary(name, p), "BF16"); /* one step */
	assert_int_equal(apply(p, "s:\n  m:\n    GPTQModifier:\n      ignore: ['re:.*layers[.]0[.].*']\n      block_size: 128\n      config_groups:\n        g:\n          targets: "
				  "['re:.*proj$']\n          weights: {num_bits: 4, type: int, symmetric: false, strategy: group, group_size: 32, observer: mse}\n", &notes, &err), BL_OK);
	assert_int_equal(bl_plan_choice(p, 0)->scheme.number, BL_NUM_FULL);
	assert_string_equal(bl_scheme_name(name, &bl_plan_choice(p, 4)->scheme), "W4A16_ASYM_g32");
	assert_string_equal(bl_plan_choice(p, 4)->params, "observer=mse");
	assert_non_null(strstr(bl_str_c(&notes), "block_size"));
	assert_non_null(strstr(bl_str_c(&notes), "GPTQ"));
	/* what comes out goes in again */
	bl_plan_set_text(p, m, "o=FP8_DYNAMIC", NULL, NULL, &err);
	bl_plan_set_text(p, m, "0.down=W3A16", NULL, NULL, &err);
	bl_plan_set_text(p, m, "4-9.x=W8A8", NULL, NULL, &err);
	bl_err_clear(&err);
	for (int i = 0; i < m->n_units; i++)
		if (bl_plan_choice(p, i)->scheme.number != BL_NUM_FULL)
			bl_plan_set_method(p, i, "rtn", "");
	bl_plan_digest(p, a);
	bl_recipe_print(&out, p, m, "test");
	struct bl_plan *q = fresh();
	if (apply(q, bl_str_c(&out), &notes, &err))
		fail_msg("%s", err.text);
	bl_plan_digest(q, b);
	assert_string_equal(a, b);
	bl_plan_free(q);
	/* fused linears that would disagree */
	bl_plan_preset(p, m, "BF16", &err);
	assert_int_equal(apply(p, "a:\n  b:\n    QuantizationModifier: {targets: ['re:.*[qk]_proj$'], scheme: W8A8}\n", &notes, &err), BL_OK);
	assert_string_equal(bl_plan_summary(name, p), "BF16");
	assert_non_null(strstr(bl_str_c(&notes), "fuses"));
	/* hostile */
	assert_int_equal(apply(p, "a: &x [1]\nb: *x\n", &notes, &err), BL_INVALID);
	assert_int_equal(apply(p, "a: [\n", &notes, &err), BL_INVALID);
	assert_int_equal(apply(p, "", &notes, &err), BL_INVALID);
	assert_int_equal(apply(p, "- 1\n", &notes, &err), BL_INVALID);
	for (int i = 0; i < 5000; i++)
		bl_str_addc(&big, '[');
	assert_int_equal(apply(p, bl_str_c(&big), &notes, &err), BL_INVALID);
	while (big.len < (2u << 20))
		bl_str_add(&big, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ");
	assert_int_equal(apply(p, bl_str_c(&big), &notes, &err), BL_INVALID);
	assert_int_equal(apply(p, "a:\n  b:\n    QuantizationModifier: {targets: ['re:('], scheme: W8A8}\n", &notes, &err), BL_INVALID);
	bl_str_free(&big);
	bl_str_free(&out);
	bl_str_free(&notes);
	bl_plan_free(p);
}

/* ---- rules ---- */

static void rules(void **state)
{
	static const struct { const char *target, *scheme; int64_t n, k; int legal; const char *kernel; } rows[] = {
		{"l4-vllm-0.14.1", "BF16", 5, 7, 1, "cuBLAS BF16"},
		{"l4-vllm-0.14.1", "W8A8", 3072, 2048, 1, "Cutlass INT8"},
		{"l4-vllm-0.14.1", "W8A8", 3071, 2048, 1, "Triton INT8"},
		{"l4-vllm-0.14.1", "W4A16", 8192, 2048, 1, "Marlin"},
		{"l4-vllm-0.14.1", "W4A16", 54784, 5120, 1, "Marlin"},
		{"l4-vllm-0.14.1", "W4A16", 5120, 27392, 1, "Marlin"},
		{"l4-vllm-0.14.1", "W4A16", 100, 2048, 0, "none"},
		{"l4-vllm-0.14.1", "W4A16", 64, 64, 0, "none"},
		{"l4-vllm-0.14.1", "W4A16_g16", 64, 128, 0, "none"},
		{"l4-vllm-0.14.1", "W4A16_ASYM_channel", 64, 128, 1, "Marlin"},
		{"l4-vllm-0.14.1", "W8A16", 3072, 2048, 1, "AllSpark"},
		{"l4-vllm-0.14.1", "W8A16", 3072, 24, 0, "none"},
		{"l4-vllm-0.14.1", "W8A16_g128", 3072, 2048, 1, "Marlin"},
		{"l4-vllm-0.14.1", "W8A16_ASYM_g128", 3072, 2048, 0, "none"},
		{"l4-vllm-0.14.1", "W3A16", 3072, 2048, 0, "none"},
		{"l4-vllm-0.14.1", "FP8_DYNAMIC", 3072, 2048, 1, "Cutlass FP8"},
		{"a100-vllm-0.14.1", "FP8_DYNAMIC", 3072, 2048, 1, "Marlin FP8"},
		{"h100-vllm-0.14.1", "W4A16", 3072, 2048, 1, "Machete"},
		{"h100-vllm-0.14.1", "W4A16_g32", 3072, 2048, 1, "Marlin"},
		{"h100-vllm-0.14.1", "W8A16", 3072, 2048, 1, "Machete"},
	};
	struct bl_unit unit = {.name = (char *)(uintptr_t)"u", .dtype = BL_BF16};
	struct bl_model one = {.units = &unit, .n_units = 1};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		const struct bl_target *t;
		struct bl_scheme s;
		struct bl_verdict v;
		assert_int_equal(bl_target_find(&t, rows[i].target, &err), BL_OK);
		if (bl_scheme_parse(&s, rows[i].scheme, &err))
			fail_msg("%s", err.text);
		unit.rows = rows[i].n;
		unit.cols = rows[i].k;
		bl_target_check_unit(&v, t, &one, 0, &s);
		if (v.legal != rows[i].legal || strcmp(v.kernel, rows[i].kernel) || (!v.legal && !v.sentence[0]))
			fail_msg("%s %s %lldx%lld: legal %d, %s, %s", rows[i].target, rows[i].scheme, (long long)rows[i].n, (long long)rows[i].k, v.legal, v.kernel, v.sentence);
	}
	struct bl_plan *p = fresh();
	struct bl_err err = BL_ERR_INIT;
	const struct bl_target *t;
	struct bl_problem *problems;
	int fatal;
	char why[240];
	assert_int_equal(bl_target_find(&t, "l4-vllm-0.14.1", &err), BL_OK);
	bl_plan_set_edit(p, "max_position_embeddings", "16384", &err);
	assert_int_equal(bl_target_check_plan(&problems, &fatal, t, m, p), 0);
	bl_free(problems);
	bl_plan_set_edit(p, "max_position_embeddings", "8192", &err);
	assert_int_equal(bl_target_check_plan(&problems, &fatal, t, m, p), 1);
	assert_int_equal(fatal, 1);
	assert_non_null(strstr(problems[0].sentence, "8192"));
	bl_free(problems);
	assert_true(bl_target_loads_in_transformers(m, p, why));
	bl_plan_preset(p, m, "W8A16", &err);
	bl_plan_set_text(p, m, "down=W4A16", NULL, NULL, &err);
	assert_true(bl_target_loads_in_transformers(m, p, why)); /* both pack-quantized */
	bl_plan_set_text(p, m, "o=W8A8", NULL, NULL, &err);
	assert_false(bl_target_loads_in_transformers(m, p, why));
	bl_plan_preset(p, m, "W4A16_ASYM", &err);
	assert_false(bl_target_loads_in_transformers(m, p, why));
	bl_plan_free(p);
}

static int setup(void **state)
{
	(void)state;
	m = fuzz_model();
	snprintf(dir, sizeof dir, "/tmp/bl-plan-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	bl_remove_tree(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(undo_is_a_walk_through_states), cmocka_unit_test(steps_locks_digests), cmocka_unit_test(patterns),
		cmocka_unit_test(file_round_trip_and_damages), cmocka_unit_test(saving_survives_a_failing_disk), cmocka_unit_test(recipes), cmocka_unit_test(rules),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
