/* SPDX-License-Identifier: Apache-2.0
 * Clock, random numbers, log. */
#include "tests/unit/base/support.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/rng.h"

static void frozen_clock(void **state)
{
	char hhmm[6], iso[21];
	uint64_t a;

	(void)state;
	setenv("BL_TEST_CLOCK", "1769868131", 1);
	assert_int_equal(bl_wall_s(), 1769868131);
	setenv("TZ", "UTC-9", 1);
	tzset();
	bl_wall_hhmm(1769868131, hhmm);
	assert_string_equal(hhmm, "23:02");
	bl_wall_iso(1769868131, iso);
	assert_string_equal(iso, "2026-01-31T14:02:11Z");
	bl_wall_iso(INT64_MAX, iso); /* absurd, but no overrun */
	assert_int_equal(strlen(iso), 20);
	setenv("BL_TEST_CLOCK", "soon", 1);
	assert_true(bl_wall_s() > 1769868131 - 1000000000 && llabs(bl_wall_s() - (int64_t)time(NULL)) <= 1);
	unsetenv("BL_TEST_CLOCK");
	setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
	assert_int_equal(bl_package_s(), 1700000000);
	unsetenv("SOURCE_DATE_EPOCH");
	assert_int_equal(bl_package_s(), 315532800);
	a = bl_now_ns();
	assert_true(bl_now_ns() >= a);
}

static void random_numbers(void **state)
{
	struct bl_rng r = { { 1, 2, 3, 4 } }, q;
	double sum = 0, squares = 0, fourth = 0, lowest = 1, highest = 0;
	const int n = 400000;

	(void)state;
	/* the reference implementation's first outputs from the state 1, 2, 3, 4 */
	assert_true(bl_rng_u64(&r) == 11520u);
	assert_true(bl_rng_u64(&r) == 0u);
	assert_true(bl_rng_u64(&r) == 1509978240u);
	assert_true(bl_rng_u64(&r) == 1215971899390074240u);
	bl_rng_seed(&q, 0); /* splitmix64's first output from seed 0 */
	assert_true(q.s[0] == 0xe220a8397b1dcdafu);
	bl_rng_seed(&r, 42);
	bl_rng_seed(&q, 42);
	for (int i = 0; i < n; i++) {
		double x = (double)bl_rng_normal(&r), u;

		assert_true(x == (double)bl_rng_normal(&q));
		sum += x;
		squares += x * x;
		fourth += x * x * x * x;
		u = (double)bl_rng_unit(&r);
		bl_rng_unit(&q);
		lowest = u < lowest ? u : lowest;
		highest = u > highest ? u : highest;
	}
	assert_true(fabs(sum / n) < 0.008);
	assert_true(fabs(squares / n - 1) < 0.012);
	assert_true(fabs(fourth / n - 3) < 0.1);
	assert_true(lowest >= 0 && lowest < 1e-4 && highest < 1 && highest > 0.9999);
}

struct seen {
	size_t lines;
	char last[400];
};

static void remember(const struct bl_log_line *line, void *ctx)
{
	struct seen *s = ctx;

	s->lines++;
	snprintf(s->last, sizeof s->last, "%s", line->text);
	bl_log(BL_LOG_DEBUG, "from inside the sink"); /* must neither deadlock nor recurse */
}

static void ring(void **state)
{
	struct seen seen = { 0 };
	struct bl_log_line line;
	size_t first = bl_log_count();

	(void)state;
	bl_log(BL_LOG_WARN, "odd name %s", "a\033[2J");
	assert_int_equal(bl_log_count(), first + 1);
	assert_true(bl_log_get(first, &line));
	assert_string_equal(line.text, "odd name a\\x1b[2J");
	assert_int_equal(line.level, BL_LOG_WARN);
	assert_false(bl_log_get(first + 1, &line));
	for (int i = 0; i < 1000; i++)
		bl_log(BL_LOG_INFO, "%d", i);
	assert_false(bl_log_get(first, &line));
	assert_true(bl_log_get(first + 1, &line));
	assert_string_equal(line.text, "0");
	assert_true(bl_log_get(first + 1000, &line));
	assert_string_equal(line.text, "999");
	bl_log_sink(remember, &seen);
	bl_log(BL_LOG_ERROR, "to the sink");
	bl_log_sink(NULL, NULL);
	bl_log(BL_LOG_ERROR, "not to the sink");
	assert_int_equal(seen.lines, 1);
	assert_string_equal(seen.last, "to the sink");
}

static void *log_much(void *arg)
{
	struct bl_log_line line;

	for (int i = 0; i < 2000; i++) {
		bl_log(BL_LOG_INFO, "%s %d", (char *)arg, i);
		if (bl_log_get(bl_log_count() - 1, &line) && strlen(line.text) == 0)
			return arg;
	}
	return NULL;
}

static void log_from_threads(void **state)
{
	pthread_t t[4];
	size_t first = bl_log_count();

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, log_much, "thread"), 0);
	for (int i = 0; i < 4; i++) {
		void *bad;

		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(bl_log_count(), first + 8000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frozen_clock), cmocka_unit_test(random_numbers), cmocka_unit_test(ring),
		cmocka_unit_test(log_from_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
