/* SPDX-License-Identifier: Apache-2.0
 * Strings: growth, escaping for JSON and for terminals, UTF-8 judged at every boundary, sizes and times for people. */
#include "tests/unit/base/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"

static void building(void **state)
{
	struct bl_str b = { 0 };
	char *s;

	(void)state;
	assert_string_equal(bl_str_c(&b), "");
	for (int i = 0; i < 1000; i++)
		bl_str_addf(&b, "%d,", i);
	assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_int_equal(strlen(b.s), b.len);
	bl_str_clear(&b);
	assert_string_equal(bl_str_c(&b), "");
	bl_str_add(&b, "a");
	bl_str_addc(&b, '\0');
	bl_str_addn(&b, "bc", 2);
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.s, "a\0bc", 5);
	s = bl_str_take(&b);
	assert_null(b.s);
	bl_free(s);
	bl_str_addf(&b, "%0300d", 5); /* longer than what is there at first */
	assert_int_equal(b.len, 300);
	assert_int_equal(b.s[299], '5');
	bl_str_free(&b);
	bl_str_free(&b);
}

static void json_strings(void **state)
{
	struct bl_str b = { 0 };

	(void)state;
	bl_str_add_json(&b, "a\"\\\b\f\n\r\t\x01\x1f/\x7f \xc3\xa9 \xff");
	assert_string_equal(bl_str_c(&b), "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/\\u007f \xc3\xa9 \xef\xbf\xbd\"");
	bl_str_free(&b);
}

static void utf8(void **state)
{
	static const struct { const char *s; size_t n; bool ok; } row[] = {
		{ "", 0, true }, { "plain", 5, true }, { "\0", 1, true }, { "\xc2\x80", 2, true }, { "\xc1\xbf", 2, false },
		{ "\xdf\xbf", 2, true }, { "\xe0\x9f\xbf", 3, false }, { "\xe0\xa0\x80", 3, true }, { "\xed\x9f\xbf", 3, true },
		{ "\xed\xa0\x80", 3, false }, { "\xed\xbf\xbf", 3, false }, { "\xee\x80\x80", 3, true }, { "\xef\xbf\xbf", 3, true },
		{ "\xf0\x8f\xbf\xbf", 4, false }, { "\xf0\x90\x80\x80", 4, true }, { "\xf4\x8f\xbf\xbf", 4, true },
		{ "\xf4\x90\x80\x80", 4, false }, { "\xf5\x80\x80\x80", 4, false }, { "\x80", 1, false }, { "\xff", 1, false },
		{ "\xe2\x82", 2, false }, { "\xe2\x28\xa1", 3, false }, { "ab\xf0\x9f\x98", 5, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++)
		if (bl_utf8_valid(row[i].s, row[i].n) != row[i].ok)
			fail_msg("row %zu", i);
}

static void printable(void **state)
{
	char out[64], small[8];

	(void)state;
	assert_string_equal(bl_printable(out, sizeof out, "caf\xc3\xa9 \xed\x95\x9c"), "caf\xc3\xa9 \xed\x95\x9c");
	assert_string_equal(bl_printable(out, sizeof out, "\033]0;x\007"), "\\x1b]0;x\\x07");
	assert_string_equal(bl_printable(out, sizeof out, "a\xe2\x80\xae" "b"), "a\\xe2\\x80\\xaeb"); /* right-to-left override */
	assert_string_equal(bl_printable(small, sizeof small, "abcdef\xed\x95\x9c"), "abcdef");
	assert_string_equal(bl_printable(small, sizeof small, "abcd\x01"), "abcd");
	assert_string_equal(bl_printable(small, sizeof small, "abc\x01"), "abc\\x01");
	assert_string_equal(bl_printable(small, 1, "abc"), "");
	small[0] = 'k';
	bl_printable(small, 0, "abc");
	assert_int_equal(small[0], 'k');
}

static void comparing(void **state)
{
	(void)state;
	assert_true(bl_starts_with("model.x", "model."));
	assert_false(bl_starts_with("mod", "model"));
	assert_true(bl_ends_with("a.weight", ".weight"));
	assert_false(bl_ends_with("t", ".weight"));
	assert_true(bl_ieq("W8a8", "w8A8"));
	assert_false(bl_ieq("W8A8", "W8A"));
	assert_false(bl_ieq("W8A", "W8A8"));
	assert_false(bl_ieq("\xc3\x84", "\xc3\xa4"));
}

static void for_people(void **state)
{
	static const struct { double v; const char *text; } bytes[] = {
		{ 0, "0 B" }, { 999, "999 B" }, { 999.4, "999 B" }, { 999.6, "1.00 kB" }, { 1310000000, "1.31 GB" },
		{ 12345678, "12.3 MB" }, { 131072, "131 kB" }, { 9994, "9.99 kB" }, { 9996, "10.0 kB" }, { 99960, "100 kB" },
		{ 999600, "1.00 MB" }, { -2500, "-2.50 kB" }, { 1.5e18, "1.50 EB" }, { 1e24, "1000000 EB" },
	}, secs[] = {
		{ 0, "0:00" }, { 1.6, "0:02" }, { 59.6, "1:00" }, { 61, "1:01" }, { 3800, "1:03:20" }, { 360000, "100:00:00" },
		{ -1, "?" }, { 1e300, "?" },
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
		assert_string_equal(bl_human_bytes(out, sizeof out, bytes[i].v), bytes[i].text);
	for (size_t i = 0; i < sizeof secs / sizeof *secs; i++)
		assert_string_equal(bl_human_secs(out, sizeof out, secs[i].v), secs[i].text);
	assert_string_equal(bl_human_bytes(out, sizeof out, NAN), "?");
	assert_string_equal(bl_human_secs(out, sizeof out, NAN), "?");
}

static void sizes(void **state)
{
	static const struct { const char *text; double v; } good[] = {
		{ "0", 0 }, { "1500", 1500 }, { "12B", 12 }, { "6.5MB", 6.5e6 }, { "6.5 mb", 6.5e6 }, { "2kB", 2000 }, { "2KiB", 2048 }, { "2k", 2048 },
		{ "10G", 10737418240.0 }, { "10GiB", 10737418240.0 }, { "1Ti", 1099511627776.0 }, { "1e6", 1e6 },
	};
	static const char *const bad[] = { "", "G", "-1", "-1G", "1X", "10GiBs", "1 G B", "nan", "inf", "1e30", "10%", "1iB", "3x" };
	double v;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		v = -1;
		assert_true(bl_parse_bytes(good[i].text, &v));
		assert_true(v == good[i].v);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		v = -1;
		assert_false(bl_parse_bytes(bad[i], &v));
		assert_true(v == -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(building), cmocka_unit_test(json_strings), cmocka_unit_test(utf8),
		cmocka_unit_test(printable), cmocka_unit_test(comparing), cmocka_unit_test(for_people),
		cmocka_unit_test(sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
