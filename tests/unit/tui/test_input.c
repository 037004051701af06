/* SPDX-License-Identifier: Apache-2.0
 * The decoder: every cut of every sequence gives the same keys, torn ones give none, replies and pastes never become
 * keys. Also the line editor, which eats what comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tui/input.h"
#include "tui/line_edit.h"

static void collect(void *ctx, const struct bl_input_event *e)
{
	struct bl_str *out = ctx;

	if (e->kind == BL_INPUT_KEY)
		bl_str_addf(out, "%s ", e->text);
	else if (e->kind == BL_INPUT_PASTE)
		bl_str_addf(out, "paste(%s) ", e->text);
	else
		bl_str_addf(out, "mouse(%d,%d,%d) ", (int)e->mouse, e->row, e->col);
}

static const struct {
	const char *bytes, *keys;
} table[] = {
	{ "jk", "j k " },
	{ "\x04\x15", "C-d C-u " },
	{ "\r\n\t \x7f\x08", "<Enter> <Enter> <Tab> <Space> <Backspace> <Backspace> " },
	{ "\x1b[A\x1b[B\x1b[C\x1b[D", "<Up> <Down> <Right> <Left> " },
	{ "\x1bOA\x1bOP\x1bOR", "<Up> <F1> <F3> " },
	{ "\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[5~\x1b[6~\x1b[3~",
	  "<Home> <End> <Home> <End> <PageUp> <PageDown> <Delete> " },
	{ "\x1b[Z\x1b[1;5A\x1b[1;3C\x1b[1;2B", "<S-Tab> C-<Up> M-<Right> <Down> " },
	{ "\x1b[15~\x1b[24~\x1b[[A", "<F5> <F12> <F1> " },
	{ "\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80", "é 日 😀 " },
	{ "\xff\x80\xc3(\xe6\x97j", "( j " }, /* broken UTF-8 */
	{ "\xc2\x9b"
	  "A",
	  "A " }, /* C1 as UTF-8 is no key */
	{ "\x1bx\x1b\r", "M-x M-<Enter> " },
	{ "\x1b[8;24;80tq", "q " },                             /* size report */
	{ "\x1b[?1;2cq\x1b[>0;136;0cq\x1b[24;80Rq", "q q q " }, /* who are you, where is the cursor */
	{ "\x1b[?2026;2$yq\x1b[Iq\x1b[Oq", "q q q " },
	{ "\x1b]11;rgb:0000/0000/0000\x07q\x1b]4;1;x\x1b\\q\x1bP1$r0m\x1b\\q", "q q q " },
	{ "\x1b[200~j d\x1b[201~k", "paste(j d) k " },
	{ "\x1b[200~a\x1b[Ab\x1b[201~", "paste(a\x1b[Ab) " },
	{ "\x1b[200~\x1b[201~k", "k " },
	{ "\x1b[<0;5;3M\x1b[<0;5;3m\x1b[<64;1;1M\x1b[<65;1;1M\x1b[<2;1;1M", "mouse(0,2,4) mouse(1,0,0) mouse(2,0,0) " },
	{ "\x1b[M !!q", "q " }, /* the old report */
	{ "\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17;18~q", "q " },
	{ "\x1b[27;5;9~q", "q " },
	{ "\x1b[A\x18j", "<Up> C-x j " },
	{ "\x1b[1\x18j", "j " },
	{ "\x1b[1\x1b[B", "<Down> " },
	{ "\x1b\x1b[A", "<Esc> <Up> " },
	{ "\x1b[38;5;1mq", "q " },
	{ "\x1b[5Pq", "q " },
};

static void test_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct bl_input in;
		struct bl_str out = { 0 };

		bl_input_init(&in, 25);
		bl_input_feed(&in, table[i].bytes, strlen(table[i].bytes), 1000, collect, &out);
		assert_string_equal(bl_str_c(&out), table[i].keys);
		bl_str_free(&out);
		bl_input_free(&in);
	}
}

static void test_any_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		for (size_t cut = 0; cut <= strlen(table[i].bytes); cut++) {
			struct bl_input in;
			struct bl_str out = { 0 };

			bl_input_init(&in, 25);
			bl_input_feed(&in, table[i].bytes, cut, 1000, collect, &out);
			bl_input_feed(&in, table[i].bytes + cut, strlen(table[i].bytes) - cut, 1010, collect, &out);
			assert_string_equal(bl_str_c(&out), table[i].keys);
			bl_str_free(&out);
			bl_input_free(&in);
		}
}

static void test_escape_alone(void **state)
{
	struct bl_input in;
	struct bl_str out = { 0 };

	(void)state;
	bl_input_init(&in, 25);
	assert_int_equal(bl_input_timeout_ms(&in, 0), -1);
	bl_input_feed(&in, "\x1b", 1, 1000, collect, &out);
	assert_int_equal(out.len, 0);
	assert_int_equal(bl_input_timeout_ms(&in, 1000), 25);
	bl_input_expire(&in, 1010, collect, &out);
	assert_int_equal(out.len, 0);
	bl_input_expire(&in, 1025, collect, &out);
	assert_string_equal(bl_str_c(&out), "<Esc> ");
	/* its rest comes late, as over a slow line: [ and A are no keys */
	bl_input_feed(&in, "[A", 2, 1100, collect, &out);
	bl_input_feed(&in, "j", 1, 1110, collect, &out);
	assert_string_equal(bl_str_c(&out), "<Esc> j ");
	bl_str_free(&out);
	bl_input_free(&in);
}

static void test_torn(void **state)
{
	static const char *const torn[] = { "\x1b[",           "\x1b[1;",  "\x1bO",  "\x1b]11;rgb",
					    "\x1b[200~rm -rf", "\xe6\x97", "\x1b[M!" };

	(void)state;
	for (size_t i = 0; i < sizeof torn / sizeof torn[0]; i++) {
		struct bl_input in;
		struct bl_str out = { 0 };

		bl_input_init(&in, 25);
		bl_input_feed(&in, torn[i], strlen(torn[i]), 1000, collect, &out);
		bl_input_expire(&in, 1100, collect, &out);
		assert_true(bl_input_timeout_ms(&in, 1100) > 0);
		bl_input_expire(&in, 2100, collect, &out);
		assert_int_equal(out.len, 0);
		bl_input_feed(&in, "j", 1, 3000, collect, &out);
		assert_string_equal(bl_str_c(&out), "j ");
		bl_str_free(&out);
		bl_input_free(&in);
	}
}

static void test_paste_is_bounded(void **state)
{
	struct bl_input in;
	struct bl_str out = { 0 };

	(void)state;
	bl_input_init(&in, 25);
	bl_input_feed(&in, "\x1b[200~", 6, 1000, collect, &out);
	for (int i = 0; i < 200000; i++)
		bl_input_feed(&in, "x", 1, 1000, collect, &out);
	assert_true(in.n_paste <= 64 * 1024);
	bl_str_free(&out);
	bl_input_free(&in);
}

static void press(struct bl_line *l, const char *keys)
{
	char copy[256];

	snprintf(copy, sizeof copy, "%s", keys);
	for (char *save = NULL, *k = strtok_r(copy, " ", &save); k; k = strtok_r(NULL, " ", &save))
		assert_true(bl_line_key(l, k));
}

static void test_line_edit(void **state)
{
	struct bl_line *l = bl_xalloc(1, sizeof *l);

	(void)state;
	press(l, "a b <Space> é 日 <Left> x");
	assert_string_equal(l->text, "ab éx日");
	press(l, "<Home> <Delete> <End> <Backspace>");
	assert_string_equal(l->text, "b éx");
	press(l, "C-w");
	assert_string_equal(l->text, "b ");
	press(l, "C-y C-y");
	assert_string_equal(l->text, "b éxéx");
	press(l, "M-b C-k");
	assert_string_equal(l->text, "b ");
	bl_line_set(l, "e\xcc\x81z"); /* a letter with a mark goes as one */
	press(l, "<Backspace> <Backspace>");
	assert_string_equal(l->text, "");
	press(l, "<Backspace> <Delete> C-w C-u C-k <Left> <Right> M-f M-b");
	assert_int_equal(l->len, 0);
	assert_false(bl_line_key(l, "<F5>"));
	for (int i = 0; i < 3000; i++)
		bl_line_insert(l, "日");
	assert_true(l->len < BL_LINE_MAX && l->len % 3 == 0); /* full, and no half character */
	bl_line_set(l, "one\ttwo\x1b[2J");
	assert_string_equal(l->text, "one two [2J");
	bl_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_any_cut),
		cmocka_unit_test(test_escape_alone),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_paste_is_bounded),
		cmocka_unit_test(test_line_edit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
