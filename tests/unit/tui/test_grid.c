/* SPDX-License-Identifier: Apache-2.0
 * The cell grid: clipping on every side, widths, what may never be stored, the ASCII form of everything, widgets at
 * every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tui/grid.h"
#include "tui/widgets/bar.h"
#include "tui/widgets/spark.h"

static const char *dump(const struct bl_grid_s *g, struct bl_str *s)
{
	bl_str_clear(s);
	bl_grid_dump(g, s, false);
	return bl_str_c(s);
}

static void check_row(int rows, int cols, int row, int col, int max, const char *text, const char *expected, bool ascii)
{
	struct bl_grid_s g;
	struct bl_str s = { 0 };

	bl_grid_init(&g, rows, cols, ascii);
	bl_grid_text(&g, row, col, max, BL_ROLE_TEXT, 0, text);
	assert_string_equal(dump(&g, &s), expected);
	bl_str_free(&s);
	bl_grid_free(&g);
}

static void test_clipping(void **state)
{
	(void)state;
	check_row(1, 5, 0, 0, 5, "hello world", "hell…\n", false);
	check_row(1, 5, 0, 0, 5, "hello", "hello\n", false);
	check_row(1, 5, 0, 0, 3, "hello", "hel\n", false);
	check_row(1, 5, 0, -2, 5, "abcde", "cde\n", false);
	check_row(1, 5, 0, 3, 5, "abcde", "   ab\n", false);
	check_row(1, 5, 1, 0, 5, "abc", "\n", false);
	check_row(1, 5, -1, 0, 5, "abc", "\n", false);
	check_row(1, 5, 0, 99, 5, "abc", "\n", false);
	check_row(1, 5, 0, -99, 5, "abc", "\n", false);
	check_row(1, 5, 0, 0, 0, "abc", "\n", false);
	check_row(1, 5, 0, 0, -1, "abc", "\n", false);
}

static void test_width(void **state)
{
	(void)state;
	assert_int_equal(bl_text_width("abc"), 3);
	assert_int_equal(bl_text_width("é"), 1);
	assert_int_equal(bl_text_width("e\xcc\x81"), 1); /* combining acute */
	assert_int_equal(bl_text_width("日本"), 4);
	assert_int_equal(bl_text_width("\xff"), 1);
	assert_int_equal(bl_text_width("\xe2\x80\x8b"), 0); /* zero width space */
	assert_int_equal(bl_text_width("·│▁█"), 4);
	check_row(1, 4, 0, 0, 4, "日本", "日本\n", false);
	check_row(1, 4, 0, 0, 3, "日本", "日\n", false); /* the second does not fit: nothing instead of half */
	check_row(1, 3, 0, 2, 4, "日", "\n", false);     /* half outside: blank */
}

static void test_cutting(void **state)
{
	char text[16];

	(void)state;
	for (int cols = 0; cols < 8; cols++) {
		snprintf(text, sizeof text, "%s", "두번째ab");
		bl_text_cut(text, sizeof text, cols);
		assert_true(bl_text_width(text) <= cols);
		assert_true(cols < 1 || strstr(text, "…"));
	}
	snprintf(text, sizeof text, "%s", "두번째ab");
	bl_text_cut(text, sizeof text, 8);
	assert_string_equal(text, "두번째ab");
	bl_text_cut(text, sizeof text, 6);
	assert_string_equal(text, "두번…");
	memcpy(text, "abcd", 5);
	bl_text_cut(text, 5, 3); /* no room for the ellipsis beyond that memory */
	assert_string_equal(text, "a…");
}

static void test_overwriting_half_of_a_wide_character(void **state)
{
	struct bl_grid_s g;
	struct bl_str s = { 0 };

	(void)state;
	bl_grid_init(&g, 1, 4, false);
	bl_grid_text(&g, 0, 0, 4, BL_ROLE_TEXT, 0, "日本");
	bl_grid_text(&g, 0, 1, 1, BL_ROLE_TEXT, 0, "x");
	assert_string_equal(dump(&g, &s), " x本\n");
	bl_grid_text(&g, 0, 2, 1, BL_ROLE_TEXT, 0, "y");
	assert_string_equal(dump(&g, &s), " xy\n");
	for (int i = 0; i < 4; i++)
		assert_int_equal(g.cells[i].width, 1);
	bl_str_free(&s);
	bl_grid_free(&g);
}

static void test_nothing_dangerous_is_stored(void **state)
{
	struct bl_grid_s g;
	char text[] = "a?b";

	(void)state;
	bl_grid_init(&g, 1, 40, false);
	for (int c = 1; c < 256; c++) {
		text[1] = (char)c;
		bl_grid_clear(&g);
		bl_grid_text(&g, 0, 0, 40, BL_ROLE_TEXT, 0, text);
		for (int i = 0; i < 40; i++) {
			uint32_t ch = g.cells[i].ch;

			assert_false(ch < 0x20 || (ch >= 0x7f && ch < 0xa0));
		}
	}
	/* C1 as UTF-8, right-to-left override, line separator */
	bl_grid_text(&g, 0, 0, 40, BL_ROLE_TEXT, 0,
		     "\xc2\x9b"
		     "31m\xe2\x80\xae\xe2\x80\xa8");
	for (int i = 0; i < 40; i++)
		assert_false(g.cells[i].ch == 0x9b || g.cells[i].ch == 0x202e || g.cells[i].ch == 0x2028);
	bl_grid_free(&g);
}

static void test_ascii_has_a_form_for_everything(void **state)
{
	struct bl_grid_s g;
	char utf8[8];

	(void)state;
	bl_grid_init(&g, 1, 4, true);
	for (uint32_t c = 0x20; c < 0x30000; c++) {
		size_t n = 0;

		if (c >= 0xd800 && c < 0xe000)
			continue;
		if (c < 0x80) {
			utf8[n++] = (char)c;
		} else if (c < 0x800) {
			utf8[n++] = (char)(0xc0 | c >> 6);
		} else if (c < 0x10000) {
			utf8[n++] = (char)(0xe0 | c >> 12);
			utf8[n++] = (char)(0x80 | (c >> 6 & 63));
		} else {
			utf8[n++] = (char)(0xf0 | c >> 18);
			utf8[n++] = (char)(0x80 | (c >> 12 & 63));
			utf8[n++] = (char)(0x80 | (c >> 6 & 63));
		}
		if (c >= 0x80)
			utf8[n++] = (char)(0x80 | (c & 63));
		utf8[n] = '\0';
		bl_grid_clear(&g);
		bl_grid_text(&g, 0, 0, 4, BL_ROLE_TEXT, 0, utf8);
		for (int i = 0; i < 4; i++)
			assert_in_range(g.cells[i].ch, 0x20, 0x7e);
	}
	bl_grid_free(&g);
	check_row(1, 20, 0, 0, 20, "│─✓✗·▁▃▇█é±", "|-+x..-%#e+\n", true);
	check_row(1, 5, 0, 0, 5, "hello world", "hell~\n", true);
	check_row(1, 5, 0, 0, 5, "日本", "????\n", true);
}

static void test_dump_shows_roles(void **state)
{
	struct bl_grid_s g;
	struct bl_str s = { 0 };

	(void)state;
	bl_grid_init(&g, 1, 10, false);
	bl_grid_text(&g, 0, 0, 10, BL_ROLE_TEXT, 0, "ab");
	bl_grid_text(&g, 0, 2, 10, BL_ROLE_GOOD, BL_ATTR_BOLD, "cd");
	bl_grid_dump(&g, &s, true);
	assert_string_equal(bl_str_c(&s), "abcd\n    2-3 good/b\n");
	bl_str_free(&s);
	bl_grid_free(&g);
}

static void test_every_size(void **state)
{
	struct bl_grid_s g;

	(void)state;
	for (int rows = 1; rows <= 100; rows += rows < 12 ? 1 : 11)
		for (int cols = 1; cols <= 300; cols += cols < 30 ? 1 : 17) {
			bl_grid_init(&g, rows, cols, cols & 1);
			for (int r = -2; r < rows + 2; r += 1 + rows / 8) {
				bl_grid_text(&g, r, -3, cols + 9, BL_ROLE_TEXT, 0, "日本 text that goes on and on ▁▂▃");
				bl_grid_text_right(&g, r, cols + 2, cols, BL_ROLE_TEXT, 0, "right 日本");
				bl_grid_hline(&g, r, -5, cols + 10, BL_ROLE_RULE);
				bl_bar_draw(&g, r, cols / 2, cols, BL_ROLE_BAR, 0.37);
				bl_grid_paint(&g, r, -1, cols + 5, BL_ROLE_SELECTED, 0);
				bl_grid_fill(&g, r, -1, cols + 5, BL_ROLE_TEXT, 0, 0x65e5);
			}
			bl_grid_free(&g);
		}
}

static void test_spark(void **state)
{
	const uint64_t counts[] = { 0, 1, 4, 8, 8, 4, 1, 0 };
	const float values[] = { 0, 1, 2, 4 };
	char s[64];

	(void)state;
	assert_string_equal(bl_spark(s, sizeof s, counts, 8, 8, false, false), " ▁▄██▄▁ ");
	assert_string_equal(bl_spark(s, sizeof s, counts, 8, 4, false, false), "▁██▁");
	assert_string_equal(bl_spark(s, sizeof s, counts, 8, 8, false, true), " :+@@+: ");
	assert_string_equal(bl_spark(s, 5, counts, 8, 8, false, false), " ▁"); /* never half a character */
	assert_string_equal(bl_spark(s, sizeof s, counts, 0, 8, true, false), "");
	assert_string_equal(bl_spark_values(s, sizeof s, values, 4, 4, false), " ▂▄█");
}

static void test_bar(void **state)
{
	struct bl_grid_s g;
	struct bl_str s = { 0 };

	(void)state;
	bl_grid_init(&g, 1, 10, false);
	bl_bar_draw(&g, 0, 0, 4, BL_ROLE_BAR, 0.625);
	assert_string_equal(dump(&g, &s), "██▌░\n");
	bl_bar_draw(&g, 0, 0, 4, BL_ROLE_BAR, 7);
	assert_string_equal(dump(&g, &s), "████\n");
	bl_bar_draw(&g, 0, 0, 4, BL_ROLE_BAR, 0.0 / 0.0);
	assert_string_equal(dump(&g, &s), "░░░░\n");
	bl_str_free(&s);
	bl_grid_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clipping),
		cmocka_unit_test(test_width),
		cmocka_unit_test(test_cutting),
		cmocka_unit_test(test_overwriting_half_of_a_wide_character),
		cmocka_unit_test(test_nothing_dangerous_is_stored),
		cmocka_unit_test(test_ascii_has_a_form_for_everything),
		cmocka_unit_test(test_dump_shows_roles),
		cmocka_unit_test(test_every_size),
		cmocka_unit_test(test_spark),
		cmocka_unit_test(test_bar),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
