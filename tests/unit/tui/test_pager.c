/* SPDX-License-Identifier: Apache-2.0
 * Text that scrolls: where lines break, wide characters, the end of the text, movement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tui/widgets/pager.h"

static char *drawn(const char *text, int rows, int cols, struct bl_pager *p)
{
	struct bl_grid_s g = { 0 };
	struct bl_str out = { 0 };

	bl_grid_init(&g, rows, cols, false);
	bl_pager_draw(&g, (struct bl_grid_view){ 0, 0, rows, cols }, p, BL_ROLE_TEXT, text);
	bl_grid_dump(&g, &out, false);
	bl_grid_free(&g);
	bl_str_c(&out);
	return bl_str_take(&out);
}

static void expect(const char *text, int rows, int cols, int top, const char *want)
{
	struct bl_pager p = { .top = top };
	char *got = drawn(text, rows, cols, &p);

	assert_string_equal(got, want);
	bl_free(got);
}

static void breaks(void **state)
{
	(void)state;
	expect("one two three", 3, 8, 0, "one two\nthree\n\n");
	expect("abcdefghij", 3, 4, 0, "abcd\nefgh\nij\n");          /* no blank: anywhere */
	expect("a bcdefghijkl", 3, 8, 0, "a bcdefg\nhijkl\n\n");     /* a blank far to the left is no place to break */
	expect("one\n\ntwo\n", 4, 8, 0, "one\n\ntwo\n\n");
	expect("\xea\xb0\x80\xeb\x82\x98\xeb\x8b\xa4", 2, 5, 0, "\xea\xb0\x80\xeb\x82\x98\n\xeb\x8b\xa4\n"); /* two columns each */
	expect("", 2, 5, 0, "\n\n");
}

static void movement(void **state)
{
	struct bl_pager p = { 0 };

	(void)state;
	bl_free(drawn("a\nb\nc\nd\ne", 2, 5, &p));
	assert_int_equal(p.lines, 5);
	assert_int_equal(bl_pager_act(&p, BL_ACT_BOTTOM, "", 2), BL_REACT_REDRAW);
	bl_free(drawn("a\nb\nc\nd\ne", 2, 5, &p));
	assert_int_equal(p.top, 3); /* the last page is full */
	bl_pager_act(&p, BL_ACT_UP, "", 2);
	assert_int_equal(p.top, 2);
	assert_int_equal(bl_pager_act(&p, BL_ACT_UNDO, "", 2), BL_REACT_UNKNOWN);
	expect("a\nb\nc\nd\ne", 2, 5, 100, "d\ne\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(breaks), cmocka_unit_test(movement) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
