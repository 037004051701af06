/* SPDX-License-Identifier: Apache-2.0
 * Every row of the table of timings runs, does its work, and has a check and a floor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "kernels/bench.h"

static void rows_run(void **state)
{
	int n;
	const struct bk_bench_row *row = bk_bench_rows(&n);
	struct bk_bench_data *d = bk_bench_data_new(3, 256);
	const struct bk_ops *ops = bk_ops_cpu();

	(void)state;
	assert_non_null(d);
	assert_true(n >= 10);
	for (int i = 0; i < n; i++) {
		struct bk_check c = { .state = 1 };

		assert_true(row[i].bytes > 0 && row[i].flops >= 0 && row[i].op && row[i].name);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(row[i].name, row[j].name);
		assert_int_equal(row[i].check(ops, &c), 0);
		bk_bench_prepare(d, ops, &row[i]);
		row[i].run(ops, d);
		row[i].run(ops, d);
	}
	/* what the last rows left behind shows that they did something */
	{
		uint64_t counted = 0;

		for (int i = 0; i < 65536; i++)
			counted += d->counts[i];
		if (ops->lists) /* small ones are not counted */
			assert_in_range(counted, 1, 3 * 256);
		else
			assert_int_equal(counted, 3 * 256);
		assert_true(d->row_max[2] > 0 && d->col_max[255] > 0 && d->err[0] > 0);
	}
	bk_bench_data_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(rows_run) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
