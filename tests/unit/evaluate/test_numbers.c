/* SPDX-License-Identifier: Apache-2.0
 * From values per token to reported numbers: known distributions, standard errors against their definition, quantiles, ties. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/evaluate/numbers.h"

#define NEAR(a, b, tol) assert_true(fabs((a) - (b)) <= (tol))

static void test_uniform_model(void **state)
{
	float nll[12];
	struct bl_eval_ppl p;

	(void)state;
	for (int i = 0; i < 12; i++)
		nll[i] = (float)log(4096); /* every token equally likely */
	bl_eval_ppl_of(&p, nll, 3, 4);
	NEAR(p.value, 4096, 0.01);
	NEAR(p.nll, log(4096), 1e-6);
	assert_int_equal(p.tokens, 12);
	assert_int_equal(p.windows, 3);
	NEAR(p.stderr_, 0, 1e-6);
}

static void test_error_is_of_windows(void **state)
{
	/* Tokens of a window are equal: what looks like 8 samples is 2. */
	static const float nll[8] = {1, 1, 1, 1, 3, 3, 3, 3};
	struct bl_eval_ppl p;

	(void)state;
	bl_eval_ppl_of(&p, nll, 2, 4);
	NEAR(p.nll, 2, 1e-12);
	NEAR(p.stderr_, exp(2) * 1.0, 1e-9); /* sd of {1, 3} = sqrt 2, over sqrt 2 */
	bl_eval_ppl_of(&p, nll, 1, 8);       /* one window: its tokens stand for themselves */
	NEAR(p.stderr_, exp(2) * sqrt(8.0 / 7 / 8), 1e-9);
	bl_eval_ppl_of(&p, nll, 1, 1);
	assert_true(p.stderr_ == 0);
}

static void test_kl_summary(void **state)
{
	float kl[200];
	int32_t same[200];
	struct bl_eval_kl k;

	(void)state;
	for (int i = 0; i < 200; i++) {
		kl[i] = (float)((i * 77) % 200); /* 0 .. 199 in some order */
		same[i] = i % 4 != 0;
	}
	bl_eval_kl_of(&k, kl, same, 20, 10);
	NEAR(k.mean, 99.5, 1e-9);
	NEAR(k.median, 99.5, 1e-9);
	NEAR(k.p99, 0.99 * 199, 1e-4);
	NEAR(k.max, 199, 0);
	NEAR(k.top1, 0.75, 1e-12);
	assert_int_equal(k.tokens, 200);
	assert_true(k.stderr_ > 0 && k.top1_stderr > 0);
}

static void test_kl_of_the_same_model_is_zero(void **state)
{
	float kl[6] = {0};
	int32_t same[6] = {1, 1, 1, 1, 1, 1};
	struct bl_eval_kl k;

	(void)state;
	bl_eval_kl_of(&k, kl, same, 2, 3);
	assert_true(k.mean == 0 && k.median == 0 && k.p99 == 0 && k.max == 0 && k.top1 == 1 && k.stderr_ == 0 && k.top1_stderr == 0);
}

static void test_nan_shows(void **state)
{
	float kl[4] = {0.5f, NAN, 0.1f, 0.2f};
	int32_t same[4] = {1, 0, 1, 1};
	struct bl_eval_kl k;

	(void)state;
	bl_eval_kl_of(&k, kl, same, 1, 4);
	assert_true(isnan(k.mean) && isnan(k.max) && !isnan(k.median));
}

static void test_quantiles(void **state)
{
	static const float v[5] = {10, 20, 30, 40, 50};

	(void)state;
	NEAR(bl_eval_quantile(v, 5, 0), 10, 0);
	NEAR(bl_eval_quantile(v, 5, 1), 50, 0);
	NEAR(bl_eval_quantile(v, 5, 0.5), 30, 0);
	NEAR(bl_eval_quantile(v, 5, 0.125), 15, 1e-9);
	NEAR(bl_eval_quantile(v, 1, 0.99), 10, 0);
	NEAR(bl_eval_quantile(v, 0, 0.5), 0, 0);
}

/* The reported error covers the truth about two times out of three. */
static void test_errors_are_honest(void **state)
{
	struct bl_rng r;
	int inside = 0;

	(void)state;
	bl_rng_seed(&r, 7);
	for (int run = 0; run < 400; run++) {
		float nll[64 * 4];
		struct bl_eval_ppl p;
		for (int w = 0; w < 64; w++) {
			float shared = (float)(bl_rng_unit(&r) - 0.5);
			for (int i = 0; i < 4; i++)
				nll[w * 4 + i] = 2 + shared + (float)(bl_rng_unit(&r) - 0.5);
		}
		bl_eval_ppl_of(&p, nll, 64, 4);
		inside += fabs(p.value - exp(2)) <= p.stderr_;
	}
	assert_in_range(inside, 240, 300); /* 68 % of 400 is 273 */
}

static void test_choices(void **state)
{
	static const double plain[4] = {-3, -1, -2, -9}, tie[3] = {-2, -1, -1}, bad[3] = {NAN, -5, NAN};
	static const uint8_t base[4] = {1, 1, 0, 1}, plan[4] = {1, 0, 1, 1};
	struct bl_eval_mcq m;

	(void)state;
	assert_int_equal(bl_eval_best(plain, 4), 1);
	assert_int_equal(bl_eval_best(tie, 3), 1); /* the first of equal ones */
	assert_int_equal(bl_eval_best(bad, 3), 1);
	bl_eval_mcq_of(&m, plan, base, 4);
	NEAR(m.acc, 0.75, 0);
	NEAR(m.stderr_, sqrt(0.75 * 0.25 / 4), 1e-12);
	NEAR(m.flips, 0.5, 0); /* equal accuracy, and half of the answers changed */
	assert_int_equal(m.n, 4);
	bl_eval_mcq_of(&m, base, NULL, 4);
	NEAR(m.flips, 0, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uniform_model),
		cmocka_unit_test(test_error_is_of_windows),
		cmocka_unit_test(test_kl_summary),
		cmocka_unit_test(test_kl_of_the_same_model_is_zero),
		cmocka_unit_test(test_nan_shows),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_errors_are_honest),
		cmocka_unit_test(test_choices),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
