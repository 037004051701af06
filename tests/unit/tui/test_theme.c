/* SPDX-License-Identifier: Apache-2.0
 * Themes: what a file may say, what it may not, fallbacks, reducing colours, and the themes that ship. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tui/theme.h"

static struct bl_theme parse(const char *text, struct bl_str *warnings)
{
	struct bl_theme t = { .name = "x" };
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_theme_parse(&t, text, strlen(text), "x.theme", warnings, &err), BL_OK);
	return t;
}

static void test_looks(void **state)
{
	struct bl_str w = { 0 };
	struct bl_theme t = parse("sentence = For tests\n# a comment\n\n title = 17 on #102030 bold "
				  "underline\ngood=brightgreen\nwarn = on red\n",
				  &w);

	(void)state;
	assert_string_equal(t.sentence, "For tests");
	assert_int_equal(w.len, 0);
	assert_int_equal(t.look[BL_ROLE_TITLE].fg_index, 17);
	assert_int_equal(t.look[BL_ROLE_TITLE].bg, 0x102030);
	assert_int_equal(t.look[BL_ROLE_TITLE].bg_index, -1);
	assert_int_equal(t.look[BL_ROLE_TITLE].attr, BL_ATTR_BOLD | BL_ATTR_UNDERLINE);
	assert_int_equal(t.look[BL_ROLE_GOOD].fg_index, 10);
	assert_int_equal(t.look[BL_ROLE_WARN].fg, BL_COLOR_DEFAULT);
	assert_int_equal(t.look[BL_ROLE_WARN].bg_index, 1);
	bl_str_free(&w);
}

static void test_fallback(void **state)
{
	struct bl_theme t = parse("ramp1 = 33\ntext = 7\n", NULL);

	(void)state;
	assert_int_equal(t.look[BL_ROLE_RAMP4].fg_index, 33);  /* 4 -> 3 -> 2 -> 1 */
	assert_int_equal(t.look[BL_ROLE_RAMP0].fg_index, 7);   /* 0 -> text */
	assert_int_equal(t.look[BL_ROLE_KEYTEXT].fg_index, 7); /* keytext -> dim -> text */
}

static void test_bad_lines_are_warnings(void **state)
{
	static const char *const bad[] = { "title",
					   "title = 256",
					   "title = #12345",
					   "title = #12345g",
					   "title = red blue",
					   "title = on",
					   "no.role = red",
					   "title = on red on",
					   "title = -1",
					   "title = \x1b[31m",
					   "title = 99999999999999999999" };
	struct bl_str w = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_theme t;

		bl_str_clear(&w);
		t = parse(bad[i], &w);
		assert_true(w.len > 0);
		assert_non_null(strstr(w.s, "x.theme, line 1: "));
		assert_null(strchr(w.s, 0x1b));
		assert_int_equal(t.look[BL_ROLE_TITLE].fg, BL_COLOR_DEFAULT);
	}
	bl_str_free(&w);
}

static void test_too_long(void **state)
{
	static char big[65 * 1024 + 1];
	struct bl_theme t = { .name = "x" };
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	memset(big, '#', sizeof big - 1);
	assert_int_equal(bl_theme_parse(&t, big, sizeof big - 1, "x.theme", NULL, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "x.theme"));
}

static void test_reduce(void **state)
{
	struct bl_theme t = parse("title = #ff0000 on #000000\ngood = #01fe02\nwarn = 200\nerror = #808080\nkey = "
				  "#000010 on #000000\n",
				  NULL),
			k = t;

	(void)state;
	bl_theme_reduce(&k, 256);
	assert_int_equal(k.look[BL_ROLE_TITLE].fg_index, 196);
	assert_int_equal(k.look[BL_ROLE_TITLE].bg_index, 16);
	assert_int_equal(k.look[BL_ROLE_GOOD].fg_index, 46);
	assert_int_equal(k.look[BL_ROLE_WARN].fg_index, 200);
	assert_int_equal(k.look[BL_ROLE_ERROR].fg_index, 244);
	k = t;
	bl_theme_reduce(&k, 8);
	assert_int_equal(k.look[BL_ROLE_TITLE].fg_index, 1);
	assert_int_equal(k.look[BL_ROLE_TITLE].bg_index, 0);
	assert_true(k.look[BL_ROLE_WARN].fg_index < 8);
	assert_true(k.look[BL_ROLE_KEY].attr & BL_ATTR_REVERSE); /* both would be black: still to be read */
	k = t;
	bl_theme_reduce(&k, 0);
	for (int r = 0; r < BL_ROLE_COUNT; r++)
		assert_int_equal(k.look[r].fg, BL_COLOR_DEFAULT);
	assert_int_equal(k.look[BL_ROLE_SELECTED].attr, BL_ATTR_REVERSE);
}

static void test_names_stay_inside(void **state)
{
	static const char *const bad[] = { "../dark", "/etc/passwd", "a/b", "", ".." };
	struct bl_theme t;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_err err = BL_ERR_INIT;

		assert_int_equal(bl_theme_load(&t, bad[i], BL_SOURCE_DIR, NULL, &err), BL_NOT_FOUND);
	}
}

/* Every theme that ships: no warnings, has its sentence, and what must differ differs (selected, error, tagged against
 * text). */
static void test_shipped(void **state)
{
	struct bl_str list = { 0 }, w = { 0 };
	int n = 0;

	(void)state;
	bl_theme_list(&list, BL_SOURCE_DIR);
	for (char *save = NULL, *l = strtok_r(list.s, "\n", &save); l; l = strtok_r(NULL, "\n", &save), n++) {
		struct bl_theme t;
		struct bl_err err = BL_ERR_INIT;
		static const enum bl_role must[] = { BL_ROLE_SELECTED, BL_ROLE_ERROR, BL_ROLE_TAGGED,
						     BL_ROLE_KEY,      BL_ROLE_TITLE, BL_ROLE_WARN };

		*strchr(l, '\t') = '\0';
		assert_int_equal(bl_theme_load(&t, l, BL_SOURCE_DIR, &w, &err), BL_OK);
		assert_int_equal(w.len, 0);
		assert_true(strlen(t.sentence) > 10);
		for (int colors = 0; colors <= 256; colors = colors ? colors * 2 : 8)
			for (size_t i = 0; i < sizeof must / sizeof must[0]; i++) {
				struct bl_theme k = t;

				bl_theme_reduce(&k, colors);
				assert_memory_not_equal(&k.look[must[i]], &k.look[BL_ROLE_TEXT], sizeof k.look[0]);
			}
	}
	assert_true(n >= 5);
	bl_str_free(&list);
	bl_str_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_looks),
		cmocka_unit_test(test_fallback),
		cmocka_unit_test(test_bad_lines_are_warnings),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_reduce),
		cmocka_unit_test(test_names_stay_inside),
		cmocka_unit_test(test_shipped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
