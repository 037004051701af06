/* SPDX-License-Identifier: Apache-2.0
 * Sizes against the ledger of real EXAONE-4.0-1.2B exports; what is not known stays unknown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/estimate/estimate.h"
#include "tests/fuzz/demo_model.h"

/* Units of the 1.2B shape without any bytes behind them. */
static uint64_t linears(const char *scheme)
{
	static const struct { int n; int64_t rows[3], cols; } kinds[] = {{3, {2048, 512, 512}, 2048}, {1, {2048}, 2048}, {2, {4096, 4096}, 2048}, {1, {2048}, 4096}};
	struct bl_err err = BL_ERR_INIT;
	struct bl_scheme s;
	uint64_t bytes = 0;

	assert_int_equal(bl_scheme_parse(&s, scheme, &err), BL_OK);
	for (int k = 0; k < 4; k++) {
		struct bl_unit u = {.n_members = kinds[k].n, .cols = kinds[k].cols, .dtype = BL_BF16};
		for (int j = 0; j < kinds[k].n; j++) {
			u.members[j] = (struct bl_member){.rows = kinds[k].rows[j], .cols = kinds[k].cols};
			u.rows += kinds[k].rows[j];
		}
		bytes += bl_unit_bytes(&u, &s);
	}
	return 30 * bytes;
}

static void ledger(void **state)
{
	uint64_t rest = 2ull * (102400 * 2048 + 2048 + 30 * (2 * 2048 + 2 * 64));

	(void)state;
	assert_int_equal(rest + linears("BF16") + 8 + 38304, 2558821288);
	assert_int_equal(rest + linears("W8A8") + 8 + 62120, 1490219184);
	assert_int_equal(rest + linears("W4A16") + 8 + 84624, 971261368);
	assert_int_equal(linears("FP8_DYNAMIC"), linears("W8A8"));
	assert_true(linears("W4A16_ASYM") > linears("W4A16") && linears("W4A16_g32") > linears("W4A16_g64"));
	assert_true(linears("W3A16") < linears("W4A16_channel") && linears("W8A16") > linears("W8A8")); /* the shape tensors */
}

static void origins(void **state)
{
	struct bl_model *m = fuzz_model();
	struct bl_err err = BL_ERR_INIT;
	const struct bl_target *t;
	struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
	struct bl_plan_estimate base, quantized;

	(void)state;
	assert_int_equal(bl_target_find(&t, "l4-vllm-0.14.1", &err), BL_OK);
	bl_plan_estimate(&base, m, p, t);
	assert_int_equal(base.bytes, m->bytes);
	assert_true(base.time_ratio.value == 1 && base.time_ratio.origin == BL_MODELLED);
	assert_int_equal(base.perf_ratio.origin, BL_UNKNOWN);
	assert_int_equal(base.score.origin, BL_UNKNOWN);
	assert_int_equal(bl_plan_preset(p, m, "W4A16", &err), BL_OK);
	bl_plan_estimate(&quantized, m, p, t);
	assert_true(quantized.bytes < base.bytes);
	assert_int_equal(quantized.score.origin, BL_UNKNOWN);
	assert_string_equal(bl_origin_name(BL_MODELLED), "modelled");
	bl_plan_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ledger), cmocka_unit_test(origins)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
