/* SPDX-License-Identifier: Apache-2.0
 * The workbench without a terminal, on the demo model: keys, sequences, prompts, questions, messages, every screen at
 * every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tests/unit/tui/support.h"
#include "tui/script.h"

static void test_stack(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	assert_string_equal(bl_app_top(app)->name, "layers");
	test_press(app, "S");
	assert_string_equal(bl_app_top(app)->name, "snapshots");
	test_press(app, "L");
	assert_string_equal(bl_app_top(app)->name, "log");
	test_press(app, "?");
	assert_string_equal(bl_app_top(app)->name, "help");
	test_press(app, "q q <Esc>");
	assert_string_equal(bl_app_top(app)->name, "layers");
	test_press(app, "<Esc> <Esc>"); /* home: stays */
	assert_string_equal(bl_app_top(app)->name, "layers");
	assert_false(bl_app_should_quit(app));
	for (int i = 0; i < 40; i++) /* round and round: no end of the stack */
		test_press(app, "L J");
	test_press(app, "<Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> <Esc> "
		   "<Esc> <Esc> <Esc> <Esc>");
	assert_string_equal(bl_app_top(app)->name, "layers");
	test_drop(app);
}

static void test_back_keeps_the_row(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "j j j");
	assert_true(test_shows(app, "▶  0 down"));
	test_press(app, "<Enter> <Tab> <Esc>");
	assert_true(test_shows(app, "▶  0 down"));
	test_drop(app);
}

static void test_sequences(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "G g");
	assert_true(test_shows(app, "g … (Esc drops it)"));
	test_press(app, "<Esc> g g");
	assert_true(test_shows(app, "▶  0 qkv"));
	test_press(app, "j g x j"); /* "g x" is nothing: x does not export */
	assert_string_equal(bl_app_top(app)->name, "layers");
	assert_true(test_shows(app, "▶  0 gate_up"));
	test_drop(app);
}

static void test_edit_undo(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "8");
	assert_true(test_shows(app, "mixed*"));
	test_press(app, "u");
	assert_true(test_shows(app, "│ BF16"));
	assert_true(test_shows(app, "undone"));
	test_press(app, "C-r");
	assert_true(test_shows(app, "mixed*"));
	test_press(app, ": \"preset W8A8\" <Enter>");
	assert_true(test_shows(app, "│ W8A8*"));
	test_press(app, "u u");
	assert_true(test_shows(app, "│ BF16"));
	test_press(app, "u");
	assert_true(test_shows(app, "nothing to undo"));
	test_drop(app);
}

static void test_prompt(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, ": \"set re:.*mlp.*=\"");
	assert_true(test_shows(app, "16 units"));
	test_press(app, "\"W8A8\"");
	bl_app_resize(app, 6, 20);
	bl_app_draw(app);
	bl_app_resize(app, 1, 1);
	bl_app_draw(app);
	bl_app_resize(app, 24, 80);
	assert_true(test_shows(app, ":set re:.*mlp.*=W8A8"));
	test_press(app, "<Enter>");
	assert_true(test_shows(app, "16 units changed"));
	test_press(app, ": <Up>"); /* history */
	assert_true(test_shows(app, ":set re:.*mlp.*=W8A8"));
	test_press(app, "<Esc>");
	assert_false(app->priv->prompt.on);
	test_press(app, ": \"snapsho\" <Tab>");
	assert_true(test_shows(app, ":snapshot"));
	test_press(app, "C-u \"preset W8\" <Esc> : <Up>"); /* Esc loses nothing either */
	assert_true(test_shows(app, ":preset W8"));
	test_press(app, "C-u \"setting hin\" <Tab> <Tab> <Tab>");
	assert_true(test_shows(app, ":setting hints=true") || test_shows(app, ":setting hints=false"));
	test_press(app, "C-g");
	assert_false(app->priv->prompt.on);
	/* the target of a pattern that matches nothing is said before Enter */
	test_press(app, ": \"set re:nothing=W8A8\"");
	assert_true(test_shows(app, "nothing") && app->priv->prompt.completion.bad);
	test_press(app, "<Enter>");
	assert_true(app->priv->message.on && app->priv->message.kind == BL_MSG_ERROR);
	test_drop(app);
}

static void test_live_filter(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "f \"down\"");
	assert_false(test_shows(app, " qkv "));
	test_press(app, "<Esc>");
	assert_true(test_shows(app, " qkv "));
	test_press(app, "f \"MLP\""); /* no pattern, but part of names */
	assert_true(!test_shows(app, " qkv ") && test_shows(app, " gate_up ") && test_shows(app, " down "));
	test_press(app, "\"zz\""); /* of none: stays as it was */
	assert_true(!test_shows(app, " qkv ") && test_shows(app, " gate_up ") && test_shows(app, " down "));
	test_press(app, "<Esc>");
	assert_true(test_shows(app, " qkv "));
	test_press(app, "f \"down\" <Enter> f \"x\" <Esc>"); /* giving up goes back to the filter there was */
	assert_false(test_shows(app, " qkv "));
	test_drop(app);
}

static void test_messages(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, ": \"nonsense\" <Enter>");
	assert_true(test_shows(app, "there is no command :nonsense"));
	test_press(app, "j k"); /* errors stay */
	assert_true(test_shows(app, "there is no command :nonsense"));
	assert_true(test_shows(app, "C-g dismiss"));
	bl_app_key(app, "<F9>"); /* whatever else happens */
	assert_true(test_shows(app, "there is no command :nonsense"));
	test_press(app, "8 wait u"); /* until there is news of what was done next */
	assert_true(test_shows(app, "undone"));
	test_press(app, ": \"nonsense\" <Enter>");
	assert_true(test_shows(app, "there is no command :nonsense"));
	test_press(app, "<Esc>");
	assert_false(test_shows(app, "there is no command :nonsense"));
	test_press(app, ": \"p\" <Enter>");
	assert_true(test_shows(app, "could be"));
	test_press(app, "C-g L");
	assert_true(test_shows(app, "there is no command :nonsense")); /* and are in the log */
	test_press(app, "q");
	bl_app_message(app, BL_MSG_ERROR,
		       "a\x1b[31m sentence that is long enough to need more than one row of eighty columns, with the "
		       "next step at its very end: do this");
	assert_true(test_shows(app, "\\x1b[31m sentence"));
	assert_true(test_shows(app, "do this"));
	test_press(app, ": \"rename x\" <Enter>"); /* not here */
	assert_true(test_shows(app, "works on: snapshots"));
	test_drop(app);
}

/* A key that does nothing says so; so does a sequence; the next key takes the sentence away. */
static void test_keys_that_do_nothing(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	size_t lines = bl_log_count();
	assert_true(bl_app_key(app, "<F9>") & BL_REACT_UNKNOWN);
	assert_true(test_shows(app, "F9 does nothing here"));
	assert_false(test_shows(app, "C-g dismiss"));
	test_press(app, "j");
	assert_false(test_shows(app, "does nothing here"));
	test_press(app, "g");
	assert_false(test_shows(app, "does nothing here"));
	assert_true(bl_app_key(app, "<F9>") & BL_REACT_UNKNOWN);
	assert_true(test_shows(app, "g F9 does nothing here"));
	assert_int_equal(bl_log_count(), lines);
	test_drop(app);
}

static void test_questions(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "8 Q");
	assert_true(test_shows(app, "not saved"));
	test_press(app, "j 8 x Q : <Enter>"); /* a question takes no other keys */
	assert_true(app->priv->ask.on);
	test_press(app, "n");
	assert_false(app->priv->ask.on || bl_app_should_quit(app));
	test_press(app, "Q <Esc>");
	assert_false(bl_app_should_quit(app));
	test_press(app, "Q y");
	assert_true(bl_app_should_quit(app));
	test_drop(app);
	app = test_app(24, 80, true);
	test_press(app, "q"); /* nothing to lose: no question */
	assert_true(bl_app_should_quit(app));
	test_drop(app);
}

/* What lies there may be somebody's work: only the plan's own file is replaced without a question. */
static void test_saving_asks(void **state)
{
	struct bl_app *app = test_app(24, 80, true);
	struct bl_err err = BL_ERR_INIT;
	char *text = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(bl_write_file("notes.txt", "mine", 4, 0644, &err), BL_OK);
	test_press(app, "8 : \"save notes.txt\" <Enter>");
	assert_true(test_shows(app, "notes.txt exists. Replace it? (y/n)"));
	test_press(app, "n : \"write-recipe notes.txt\" <Enter>");
	assert_true(app->priv->ask.on);
	test_press(app, "n : \"dump-screen notes.txt\" <Enter>");
	assert_true(app->priv->ask.on);
	test_press(app, "n");
	assert_int_equal(bl_read_file(&text, &n, "notes.txt", 1000, true, &err), BL_OK);
	assert_string_equal(text, "mine");
	bl_free(text);
	test_press(app, "w"); /* a new file, then the plan's own */
	assert_true(test_shows(app, "plan saved as"));
	test_press(app, "4 w");
	assert_true(test_shows(app, "plan saved as"));
	test_drop(app);
	app = test_app(24, 80, true); /* the next sitting begins with the checkpoint, not with that plan */
	assert_true(test_shows(app, "a saved plan is here"));
	test_press(app, "b 8 w");
	assert_true(test_shows(app, ".plan.json exists. Replace it? (y/n)"));
	test_press(app, "y");
	assert_true(test_shows(app, "plan saved as"));
	assert_false(bl_plan_dirty(app->session->plan));
	test_press(app, ": \"save notes.txt\" <Enter> y");
	assert_true(test_shows(app, "plan saved as notes.txt"));
	unlink("notes.txt");
	unlink("tiny-exaone4.plan.json");
	test_drop(app);
}

static void test_paste_and_mouse(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	bl_app_paste(app, "Q\ny\n8");
	assert_false(app->priv->ask.on || bl_app_should_quit(app) || bl_plan_dirty(app->session->plan));
	test_press(app, ":");
	bl_app_paste(app, "snapshot a\nb");
	assert_true(app->priv->prompt.on); /* the line end is no Enter */
	assert_true(test_shows(app, ":snapshot a b"));
	test_press(app, "<Esc>");
	bl_app_draw(app);
	bl_app_mouse(app, BL_MOUSE_CLICK, 4, 10);
	assert_true(test_shows(app, "▶  0 gate_up"));
	bl_app_mouse(app, BL_MOUSE_CLICK, 4, 10);
	assert_string_equal(bl_app_top(app)->name, "unit");
	test_press(app, "<Esc>");
	bl_app_draw(app);
	bl_app_mouse(app, BL_MOUSE_WHEEL_DOWN, 4, 10);
	assert_true(test_shows(app, "▶  1 o"));
	bl_app_mouse(app, BL_MOUSE_CLICK, 400, 10);
	bl_app_mouse(app, BL_MOUSE_CLICK, 0, 0);
	test_drop(app);
}

static void test_welcome(void **state)
{
	struct bl_app *app = test_app(24, 80, false);
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_string_equal(bl_app_top(app)->name, "welcome");
	assert_true(test_shows(app, "tiny"));
	test_press(app, "8 u S x m"); /* nothing of this has a meaning yet */
	assert_string_equal(bl_app_top(app)->name, "welcome");
	assert_int_not_equal(bl_app_open(app, "no-such-folder", &err), BL_OK);
	assert_true(test_shows(app, "no-such-folder"));
	test_press(app, "<Esc> <Enter>");
	assert_string_equal(bl_app_top(app)->name, "layers");
	test_drop(app);
}

static void test_copy(void **state)
{
	struct bl_app *app = test_app(24, 80, true);
	char *text;

	(void)state;
	test_press(app, "y");
	text = bl_app_take_clipboard(app);
	assert_non_null(text);
	assert_true(strlen(text) > 3);
	assert_null(bl_app_take_clipboard(app));
	bl_free(text);
	test_drop(app);
}

static void test_quantities(void **state)
{
	struct bl_app *app = test_app(24, 80, false);
	struct bl_quantity q = { .value = 0.414, .origin = BL_MEASURED };
	char s[24];

	(void)state;
	assert_string_equal(bl_app_quantity(app, s, &q, 2), "0.41");
	assert_string_equal(bl_app_quantity_marked(app, s, &q, 2, BL_MARK_STALE), "0.41?");
	assert_string_equal(bl_app_quantity_marked(app, s, &q, 2, BL_MARK_COMPUTING), "0.41…");
	q.origin = BL_MODELLED;
	assert_string_equal(bl_app_quantity(app, s, &q, 2), "~0.41");
	q.value = 1e300;
	assert_true(strlen(bl_app_quantity(app, s, &q, 2)) < 24);
	q.origin = BL_UNKNOWN;
	assert_string_equal(bl_app_quantity(app, s, &q, 2), "·");
	app->grid.ascii = true;
	assert_string_equal(bl_app_quantity(app, s, &q, 2), ".");
	test_drop(app);
}

/* Every screen, prompt and question, from 1x1 up: drawing neither crashes nor leaves the grid. */
static void test_every_size(void **state)
{
	static const char *const scripts[] = {
		"wait",         "<Enter>", "<Enter> <Tab>",     "S", "C", "p", "J", "L", "?", "c", "c p", "e", "B", "8 m", "8 R", "x", "x <Tab>",
		": \"set do\"", "8 Q",     ": \"zzz\" <Enter>", "G", "g"
	};
	static const int sizes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 20, 24, 40, 79, 80, 81, 120, 200, 300 };

	(void)state;
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
		struct bl_app *app = test_app(24, 80, true);

		test_press(app, scripts[i]);
		for (size_t r = 0; r < sizeof sizes / sizeof sizes[0]; r++)
			for (size_t c = 0; c < sizeof sizes / sizeof sizes[0]; c++) {
				if (sizes[r] > 100)
					continue;
				app->grid.ascii = (r + c) & 1;
				bl_app_resize(app, sizes[r], sizes[c]);
				bl_app_draw(app);
			}
		test_press(app, "<Esc> <Esc> j");
		test_drop(app);
	}
}

static void test_script_errors(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "j\nk\nfoo", "line 3" },     { "\"open", "not closed" }, { "resize", "COLSxROWS" },
		{ "resize 0x0", "COLSxROWS" }, { "<Nope>", "<Nope>" },
	};
	int rows, cols;
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_app *app = test_app(24, 80, false);
		struct bl_script s = { .keys_path = "test" };
		struct bl_str out = { 0 };
		struct bl_err e = BL_ERR_INIT;

		assert_int_equal(bl_script_play(app, &s, bad[i].text, strlen(bad[i].text), &out, &e), BL_INVALID);
		assert_non_null(strstr(e.text, bad[i].says));
		bl_str_free(&out);
		test_drop(app);
	}
	assert_int_equal(bl_script_size("80x24", &rows, &cols, &err), BL_OK);
	assert_true(rows == 24 && cols == 80);
	assert_int_equal(bl_script_size("80x24x", &rows, &cols, &err), BL_USAGE);
	bl_err_clear(&err);
	assert_int_equal(bl_script_size("999999x24", &rows, &cols, &err), BL_USAGE);
}

static void test_history_text(void **state)
{
	struct bl_history h = { 0 };
	struct bl_str s = { 0 };

	(void)state;
	bl_history_parse(&h, "COMMAND\tsave\nbroken "
			     "line\nCOMMAND\tundo\nKINDTHATISFARTOOLONG\tx\nCOMMAND\tsave\nSEARCH\t\xff\nSEARCH\tqkv");
	bl_history_print(&h, &s);
	assert_string_equal(bl_str_c(&s), "COMMAND\tundo\nCOMMAND\tsave\nSEARCH\tqkv\n");
	for (int i = 0; i < 2000; i++) {
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		bl_history_add(&h, "COMMAND", text);
	}
	assert_true(h.n <= 500);
	bl_str_free(&s);
	bl_history_free(&h);
}

static void test_state_lasts(void **state)
{
	struct bl_app *app = test_app(24, 80, false);
	struct bl_err err = BL_ERR_INIT;
	size_t n;

	(void)state;
	bl_app_keep_state(app);
	assert_int_equal(bl_app_open(app, "tiny", &err), BL_OK);
	test_press(app, ": \"snapshot kept\" <Enter> ");
	test_drop(app);
	app = test_app(24, 80, false);
	bl_app_keep_state(app);
	assert_non_null(strstr(bl_app_recent(app, &n)[0], "tiny"));
	assert_int_equal(n, 1);
	test_press(app, ": <Up>");
	assert_true(test_shows(app, ":snapshot kept"));
	assert_true(app->priv->hint_done[BL_ACT_SNAPSHOT_SAVE]);
	test_drop(app);
}

static void test_bad_user_keys_are_told(void **state)
{
	struct bl_app *app;
	struct bl_err err = BL_ERR_INIT;
	char *dir = bl_xdg_dir("CONFIG"), *path = bl_path_join(dir, "keys");
	static const char keys[] = "[layers]\nj = none\nX = w8a8\nz = no-such-thing\n";

	(void)state;
	assert_int_equal(bl_mkdirs(dir, 0700, &err), BL_OK);
	assert_int_equal(bl_write_file(path, keys, strlen(keys), 0600, &err), BL_OK);
	app = test_app(24, 80, true);
	assert_true(test_shows(app, "no such command"));
	test_press(app, "<Esc> j");
	assert_true(test_shows(app, "▶  0 qkv")); /* j was taken away */
	test_press(app, "X");
	assert_true(test_shows(app, "mixed*"));
	test_drop(app);
	unlink(path);
	bl_free(path);
	bl_free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_back_keeps_the_row),
		cmocka_unit_test(test_sequences),
		cmocka_unit_test(test_edit_undo),
		cmocka_unit_test(test_prompt),
		cmocka_unit_test(test_live_filter),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_saving_asks),
		cmocka_unit_test(test_paste_and_mouse),
		cmocka_unit_test(test_welcome),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_quantities),
		cmocka_unit_test(test_every_size),
		cmocka_unit_test(test_script_errors),
		cmocka_unit_test(test_keys_that_do_nothing),
		cmocka_unit_test(test_history_text),
		cmocka_unit_test(test_state_lasts),
		cmocka_unit_test(test_bad_user_keys_are_told),
	};

	return cmocka_run_group_tests(tests, test_enter_folder, test_leave_folder);
}
