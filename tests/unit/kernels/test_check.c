/* SPDX-License-Identifier: Apache-2.0
 * Every operation's own check, for every table that this processor can run; and proof that the checks notice wrong kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/common/check.h"

static int (*const checks[])(const struct bk_ops *, struct bk_check *) = {
	bk_load_rows_check,
	bk_quant_rows_check,
	bk_weight_stats_check,
};

static void agrees_with_reference(void **state)
{
	const struct bk_ops *ops;
	int n_tables = 0;

	(void)state;
	for (int level = 0; (ops = bk_ops_level(level)) != NULL; level++, n_tables++)
		for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++)
			for (uint64_t seed = 1; seed <= 20; seed++) {
				struct bk_check c = { .state = seed };

				if (checks[i](ops, &c))
					fail_msg("%s, seed %d: %s", ops->name, (int)seed, c.why);
			}
	assert_true(n_tables >= 1);
	assert_ptr_equal(bk_ops_cpu(), bk_ops_level(n_tables - 1));
	assert_int_equal(bk_ops_cpu()->size, sizeof(struct bk_ops));
}

/* --- wrong kernels, one per operation --- */

static int load_without_flag(float *dst, const void *src, enum bk_dtype dtype, int64_t n)
{
	(void)bk_ops_ref()->load_rows(dst, src, dtype, n);
	return 0;
}

static void encode_away_from_zero(int8_t *codes, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
				  const struct bk_grid *g, enum bk_quotient quotient)
{
	bk_ops_ref()->encode(codes, w, scales, zeros, n_rows, cols, g, quotient);
	for (int64_t i = 0; i < n_rows * cols; i++)
		if (g->number == BK_INT && codes[i] == 2 && w[i] == 2.5f * scales[g->group ? i / g->group : i / cols])
			codes[i] = 3;
}

static void scales_by_127(float *scales, int8_t *zeros, const float *lo, const float *hi, int64_t n, double shrink, const struct bk_grid *g)
{
	bk_ops_ref()->scales(scales, zeros, lo, hi, n, shrink, g);
	for (int64_t i = 0; i < n; i++)
		scales[i] *= 1.00390625f;
}

static uint64_t tops_with_nan(uint16_t *row_max, uint16_t *col_max, const void *w, int64_t n_rows, int64_t cols, uint16_t inf)
{
	(void)inf;
	return bk_ops_ref()->tops16(row_max, col_max, w, n_rows, cols, 0x7fff);
}

static int64_t look_without_tail(double *sums, uint16_t *list, uint64_t *below, const void *w, enum bk_dtype dtype, int64_t n, int top,
				 uint16_t limit, int odd)
{
	return bk_ops_ref()->look16(sums, list, below, w, dtype, n / 512 * 512, top, limit, odd);
}

static int64_t list_above(uint32_t *list, uint64_t *below, const void *w, int64_t n, uint32_t limit)
{
	return bk_ops_ref()->list32(list, below, w, n, limit + 1);
}

static void checks_notice(void **state)
{
	struct bk_ops wrong[6];
	const int which[6] = { 0, 1, 1, 2, 2, 2 };

	(void)state;
	for (int i = 0; i < 6; i++)
		wrong[i] = *bk_ops_ref();
	wrong[0].load_rows = load_without_flag;
	wrong[1].encode = encode_away_from_zero;
	wrong[2].scales = scales_by_127;
	wrong[3].tops16 = tops_with_nan;
	wrong[4].look16 = look_without_tail;
	wrong[5].list32 = list_above;
	for (int i = 0; i < 6; i++) {
		int noticed = 0;

		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct bk_check c = { .state = seed };

			noticed += checks[which[i]](&wrong[i], &c);
		}
		if (!noticed)
			fail_msg("wrong kernel %d passes its check", i);
	}
}

/* The same bits from every table, for the sums too: a plan's codes may not depend on the processor. */
static void tables_give_the_same_error_bits(void **state)
{
	enum { ROWS = 3, COLS = 384 };
	static float w[ROWS * COLS], lo[ROWS * 3], hi[ROWS * 3], s[ROWS * 3], first[ROWS * 3], e[ROWS * 3];
	struct bk_check c = { .state = 7 };
	struct bk_grid g = { .number = BK_INT, .bits = 4, .symmetric = 1, .group = 128 };
	const struct bk_ops *ops;

	(void)state;
	for (int i = 0; i < ROWS * COLS; i++)
		w[i] = (float)bk_check_gauss(&c);
	for (int level = 0; (ops = bk_ops_level(level)) != NULL; level++) {
		ops->range(lo, hi, w, ROWS, COLS, &g);
		ops->scales(s, NULL, lo, hi, ROWS * 3, 0.9, &g);
		ops->error(level ? e : first, w, s, NULL, ROWS, COLS, &g, BK_QUOTIENT_BF16, 2.4);
		if (level)
			assert_memory_equal(e, first, sizeof(e));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_reference),
		cmocka_unit_test(checks_notice),
		cmocka_unit_test(tables_give_the_same_error_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
