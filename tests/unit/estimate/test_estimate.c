/* SPDX-License-Identifier: Apache-2.0
 * Sizes to the byte (the ledger of real exports of EXAONE-4.0-1.2B), times within what was measured, and honesty: what
 * nobody measured says so. */
#include "tests/unit/plan/support.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/estimate/estimate.h"

static const struct bl_target *target(const char *name)
{
	const struct bl_target *t = NULL;
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_target_find(&t, name, &err), BL_OK);
	return t;
}

static struct bl_plan_estimate estimate(const struct bl_model *m, const char *preset, const char *target_name)
{
	struct bl_plan *p = bl_plan_new(m, target_name);
	struct bl_err err = BL_ERR_INIT;
	struct bl_plan_estimate e;

	assert_int_equal(bl_plan_preset(p, m, preset, &err), BL_OK);
	bl_plan_estimate(&e, m, p, target(target_name));
	bl_plan_free(p);
	return e;
}

static struct bl_scheme scheme(const char *name)
{
	struct bl_scheme s = {0};
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_scheme_parse(&s, name, &err), BL_OK);
	return s;
}

/* Files of real exports: bytes of the file less its header. */
static void ledger(void **state)
{
	static const struct { const char *scheme; uint64_t file, header; } rows[] = {
		{"BF16", 2558821288, 38304}, {"W8A8", 1490219184, 62120}, {"W4A16", 971261368, 84624}, {"FP8_DYNAMIC", 1490219184, 62120},
	};
	struct bl_model *m = model_make(&exaone_1b);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_plan_estimate e = estimate(m, rows[i].scheme, "l4-vllm-0.14.1");
		assert_int_equal(e.base_bytes, 2558821288 - 8 - 38304);
		assert_int_equal(e.bytes, rows[i].file - 8 - rows[i].header);
	}
	/* a head that is tied and stored all the same is not written */
	struct bl_tensor head = {.bytes = 419430400, .dtype = BL_BF16};
	m->head = &head;
	m->head_stored_and_tied = true;
	m->bytes += head.bytes;
	struct bl_plan_estimate e = estimate(m, "W8A8", "l4-vllm-0.14.1");
	assert_int_equal(e.bytes, 1490219184 - 8 - 62120);
	assert_int_equal(e.base_bytes, 2558821288 - 8 - 38304 + 419430400);
	m->head = NULL;
	m->bytes -= head.bytes;
	model_drop(m);
}

/* One linear of 40 x 256 with and without a bias, counted by hand. */
static void one_linear(void **state)
{
	static const struct { const char *scheme; uint64_t bytes; } rows[] = {
		{"BF16", 2 * 40 * 256},
		{"W8A8", 40 * 256 + 2 * 40},
		{"FP8_DYNAMIC", 40 * 256 + 2 * 40},
		{"W4A16", 40 * 32 * 4 + 2 * 40 * 2 + 16},
		{"W4A16_g32", 40 * 32 * 4 + 2 * 40 * 8 + 16},
		{"W4A16_channel", 40 * 32 * 4 + 2 * 40 + 16},
		{"W4A16_ASYM", 40 * 32 * 4 + 2 * 40 * 2 + 16 + 4 * 5 * 2},      /* 40 rows of zero points in 5 words */
		{"W4A16_ASYM_channel", 40 * 32 * 4 + 2 * 40 + 16 + 4 * 5},
		{"W8A16", 40 * 64 * 4 + 2 * 40 + 16},
		{"W8A16_g128", 40 * 64 * 4 + 2 * 40 * 2 + 16},
		{"W8A16_ASYM_g128", 40 * 64 * 4 + 2 * 40 * 2 + 16 + 4 * 10 * 2},
		{"W2A16", 40 * 16 * 4 + 2 * 40 * 2 + 16},
		{"W3A16", 40 * 24 * 4 + 2 * 40 * 2 + 16},                       /* 32 codes in 3 words */
		{"W6A16", 40 * 48 * 4 + 2 * 40 * 2 + 16},
	};
	struct bl_tensor weight = {.bytes = 2 * 40 * 256}, bias = {.bytes = 80};
	struct bl_unit u = {.n_members = 1, .rows = 40, .cols = 256, .dtype = BL_BF16, .members = {{.weight = &weight, .rows = 40, .cols = 256}}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_scheme s = scheme(rows[i].scheme);
		u.members[0].bias = NULL;
		if (bl_unit_bytes(&u, &s) != rows[i].bytes)
			fail_msg("%s: %llu bytes, not %llu", rows[i].scheme, (unsigned long long)bl_unit_bytes(&u, &s), (unsigned long long)rows[i].bytes);
		u.members[0].bias = &bias; /* stays as it is on disk */
		assert_int_equal(bl_unit_bytes(&u, &s), rows[i].bytes + 80);
	}
	/* full precision is what is on disk, whatever its type */
	struct bl_scheme full = BL_SCHEME_FULL;
	weight.bytes = 4 * 40 * 256;
	u.members[0].bias = NULL;
	assert_int_equal(bl_unit_bytes(&u, &full), 4 * 40 * 256);
	/* a fused unit is its members, each with its own shape tensor */
	u.n_members = 2;
	u.members[1] = u.members[0];
	struct bl_scheme w4 = scheme("W4A16");
	assert_int_equal(bl_unit_bytes(&u, &w4), 2 * (40 * 32 * 4 + 2 * 40 * 2 + 16));
}

/* Decode steps measured at batch 8 on the card the model was fitted to, and the prediction for an L4 from the two-parameter fit. */
static void steps(void **state)
{
	static const struct { const char *target, *scheme; double ms, within; } rows[] = {
		{"rtx4090-vllm-0.14.1", "BF16", 3.880, 0.01}, {"rtx4090-vllm-0.14.1", "W8A8", 2.881, 0.02}, {"rtx4090-vllm-0.14.1", "FP8_DYNAMIC", 2.836, 0.03},
		{"rtx4090-vllm-0.14.1", "W4A16", 2.199, 0.02}, {"l4-vllm-0.14.1", "BF16", 10.9, 0.03}, {"l4-vllm-0.14.1", "W8A8", 6.9, 0.06}, {"l4-vllm-0.14.1", "W4A16", 5.0, 0.04},
	};
	struct bl_model *m = model_make(&exaone_1b);

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_plan_estimate e = estimate(m, rows[i].scheme, rows[i].target);
		if (fabs(e.step_ms.value / rows[i].ms - 1) > rows[i].within)
			fail_msg("%s on %s: %.3f ms, measured or predicted %.3f", rows[i].scheme, rows[i].target, e.step_ms.value, rows[i].ms);
	}
	model_drop(m);
}

static struct bl_model *full_attention(void)
{
	struct bl_model *m = model_make(&exaone_1b);

	memset(m->config.sliding, 0, sizeof m->config.sliding); /* the real one's config says so; that of this one leaves it to the family */
	return m;
}

/* Rates of prompts of 12.9 thousand tokens, measured on the card the model was fitted to. */
static void prompts(void **state)
{
	static const struct { const char *scheme; double rate; } rows[] = {{"BF16", 32012}, {"W8A8", 38881}, {"FP8_DYNAMIC", 36570}, {"W4A16", 32166}};
	struct bl_model *m = full_attention();

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_plan *p = bl_plan_new(m, "rtx4090-vllm-0.14.1");
		struct bl_err err = BL_ERR_INIT;
		assert_int_equal(bl_plan_preset(p, m, rows[i].scheme, &err), BL_OK);
		struct bl_quantity q = bl_prefill_time(m, p, target("rtx4090-vllm-0.14.1"), 12900);
		if (fabs(12900 / q.value * 1000 / rows[i].rate - 1) > 0.05)
			fail_msg("%s: %.0f tokens a second, measured were %.0f", rows[i].scheme, 12900 / q.value * 1000, rows[i].rate);
		assert_int_equal(q.origin, BL_MODELLED);
		assert_true(q.spread > 0 && strstr(q.from, "prefill"));
		bl_plan_free(p);
	}
	struct bl_plan_estimate full = estimate(m, "BF16", "l4-vllm-0.14.1"), w8 = estimate(m, "W8A8", "l4-vllm-0.14.1");
	assert_true(full.prefill_ratio.value == 1 && w8.prefill_ratio.value < 0.9 && w8.prefill_ms.value < full.prefill_ms.value);
	model_drop(m);
}

static void memory_parts(void **state)
{
	struct bl_model *m = full_attention();
	struct bl_plan_estimate e = estimate(m, "W8A8", "l4-vllm-0.14.1");

	(void)state;
	assert_true(fabs(e.weights_gib.value - (double)e.bytes / 1073741824) < 1e-9);
	const struct bl_config *c = &m->config; /* keys and values, 16 bits, 16384 positions */
	assert_true(fabs(e.kv_gib.value - (double)(c->layers * c->kv_heads * c->head_dim) * 2 * 2 * 16384 / 1073741824) < 1e-9);
	assert_true(fabs(e.server_gib.value - e.weights_gib.value - e.kv_gib.value - e.activations_gib.value - e.overhead_gib.value) < 1e-9);
	assert_true(e.server_gib.spread > 0 && e.activations_gib.origin == BL_MODELLED);
	model_drop(m);
}

static void quality(void **state)
{
	struct bl_model *m = model_make(&exaone_1b);
	struct bl_plan_estimate e = estimate(m, "W8A8", "l4-vllm-0.14.1");
	struct bl_quality q = {.has_mcq = true, .base_acc = 0.8, .plan_acc = 0.76, .flips = 0.06, .n = 1000, .kl = {0.02, 0.001, BL_MEASURED, "nat", ""}};

	(void)state;
	bl_estimate_quality(&e, &q);
	assert_int_equal(e.perf_ratio.origin, BL_MEASURED);
	assert_true(fabs(e.perf_ratio.value - 0.95) < 1e-12);
	assert_true(fabs(e.perf_ratio.spread - sqrt((0.06 + 0.001 - 0.0016) / 1000) / 0.8) < 1e-12);
	assert_int_equal(e.score.origin, BL_MODELLED); /* the time is */
	assert_true(fabs(e.score.value - (0.475 + 0.5 * (1 - e.time_ratio.value))) < 1e-12);
	assert_true(fabs(e.score.spread - 0.5 * hypot(e.perf_ratio.spread, e.time_ratio.spread)) < 1e-12);
	q.flips = 0;
	q.plan_acc = q.base_acc; /* no answer changed: still no certainty */
	bl_estimate_quality(&e, &q);
	assert_true(e.perf_ratio.value == 1 && e.perf_ratio.spread > 0);
	q.has_mcq = false;
	bl_estimate_quality(&e, &q);
	assert_int_equal(e.perf_ratio.origin, BL_MODELLED);
	assert_true(e.perf_ratio.value < 1 && e.perf_ratio.value > 0.99);
	struct bl_quantity near = e.perf_ratio;
	q.kl.value = 0.9;
	bl_estimate_quality(&e, &q);
	assert_true(e.perf_ratio.value < 0.8 && e.perf_ratio.value > 0.65 && e.perf_ratio.spread > near.spread);
	q.kl = BL_QUANTITY_UNKNOWN("nat");
	bl_estimate_quality(&e, &q);
	assert_int_equal(e.perf_ratio.origin, BL_UNKNOWN);
	assert_int_equal(e.score.origin, BL_UNKNOWN);
	model_drop(m);
}

static void origins(void **state)
{
	struct bl_model *m = model_make(&exaone_1b);
	struct bl_plan_estimate e = estimate(m, "W8A8", "l4-vllm-0.14.1"), full = estimate(m, "BF16", "l4-vllm-0.14.1");
	struct bl_scheme w8 = scheme("W8A8"), bf16 = BL_SCHEME_FULL;
	struct bl_quantity small = bl_unit_time(&m->units[0], &w8, target("l4-vllm-0.14.1"), 1), large = bl_unit_time(&m->units[0], &w8, target("l4-vllm-0.14.1"), 4096);

	(void)state;
	assert_int_equal(e.step_ms.origin, BL_MODELLED);
	assert_int_equal(e.time_ratio.origin, BL_MODELLED);
	assert_int_equal(e.server_gib.origin, BL_MODELLED);
	assert_int_equal(small.origin, BL_MODELLED);
	assert_true(strlen(e.step_ms.from) > 0 && strlen(e.server_gib.from) > 0 && e.step_ms.spread > 0);
	assert_int_equal(e.perf_ratio.origin, BL_UNKNOWN); /* nobody ran it */
	assert_int_equal(e.score.origin, BL_UNKNOWN);
	assert_string_equal(bl_origin_name(BL_MODELLED), "modelled");
	/* what must hold whatever the constants are */
	assert_true(full.time_ratio.value == 1 && e.time_ratio.value < 1 && full.time_ratio.spread == 0);
	assert_true(large.value > 4 * small.value); /* many tokens: bound by operations */
	assert_true(bl_unit_time(&m->units[0], &w8, target("l4-vllm-0.14.1"), 4096).value < bl_unit_time(&m->units[0], &bf16, target("l4-vllm-0.14.1"), 4096).value);
	assert_true(e.server_gib.value < full.server_gib.value);
	assert_true(full.server_gib.value > 2558821288.0 / 1073741824);
	model_drop(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ledger), cmocka_unit_test(one_linear), cmocka_unit_test(steps), cmocka_unit_test(prompts), cmocka_unit_test(memory_parts),
					    cmocka_unit_test(quality), cmocka_unit_test(origins)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
