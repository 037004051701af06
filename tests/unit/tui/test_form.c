/* SPDX-License-Identifier: Apache-2.0
 * The forms of calibration and evaluation: words in, words out, refusals, what the workbench remembers per model, completion, and the keys on the screens. */
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
#include "core/base/mem.h"
#include "tui/app_private.h"
#include "tests/unit/tui/support.h"

static int enter(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	if (test_enter_folder(state))
		return -1;
	return bl_write_file("some text.txt", "one two three\n", 14, 0644, &err) || bl_write_file("rows.jsonl", "{\"text\": \"a b\"}\n", 16, 0644, &err) ? -1 : 0;
}

/* ---- words ---- */

static void calibrate_words(void **state)
{
	struct bl_calib_request r = { .samples = 512, .seqlen = 1024, .hessians = true };
	struct bl_str out = { 0 };
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_int_equal(bl_calib_form_parse(&r, "a.jsonl  my\\ text.txt samples=8 hessians=off inputs=on keep=2 seed=7 memory=16G ram=500M", &err), BL_OK);
	assert_int_equal(r.n_files, 2);
	assert_string_equal(r.files[1], "my text.txt");
	assert_int_equal(r.samples, 8);
	assert_int_equal(r.seqlen, 1024);
	assert_false(r.hessians);
	assert_true(r.block_inputs);
	assert_int_equal(r.memory_limit, 16ull << 30);
	assert_int_equal(r.ram_limit, 500ull << 20);
	bl_calib_form_print(&r, &out);
	assert_string_equal(bl_str_c(&out), "a.jsonl my\\ text.txt samples=8 seqlen=1024 hessians=off inputs=on keep=2 seed=7 memory=16G ram=500M");

	/* what was printed reads back the same */
	struct bl_calib_request again = { 0 };
	struct bl_str second = { 0 };

	assert_int_equal(bl_calib_form_parse(&again, out.s, &err), BL_OK);
	bl_calib_form_print(&again, &second);
	assert_string_equal(out.s, bl_str_c(&second));

	/* only values: the files stay; new files replace the old ones */
	assert_int_equal(bl_calib_form_parse(&r, "seqlen=64", &err), BL_OK);
	assert_int_equal(r.n_files, 2);
	assert_int_equal(r.seqlen, 64);
	assert_int_equal(bl_calib_form_parse(&r, "b.txt", &err), BL_OK);
	assert_int_equal(r.n_files, 1);
	bl_str_free(&out);
	bl_str_free(&second);
	bl_calib_request_free(&again);
	bl_calib_request_free(&r);
}

/* Nothing is taken over of a line that is wrong anywhere, and the sentence says what would be right. */
static void refusals(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "a.txt samples=0", "samples: a whole number from 1" }, { "a.txt samples=9x", "samples" },
		{ "seqlen=1", "seqlen: a whole number from 2" },         { "hessians=maybe", "on or off" },
		{ "memory=lots", "16G" },                                { "memory=-1G", "16G" },
		{ "windows=3", "there is no \"windows\"" },              { "samples=99999999999999999999", "samples" },
		{ "keep=-1", "none" },
	};
	struct bl_calib_request r = { .samples = 512, .seqlen = 1024 };
	struct bl_eval_request e = { .seqlen = 1024 };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_err err = BL_ERR_INIT;

		assert_int_equal(bl_calib_form_parse(&r, bad[i].text, &err), BL_USAGE);
		assert_non_null(strstr(err.text, bad[i].says));
		assert_int_equal(r.samples, 512);
		assert_int_equal(r.seqlen, 1024);
		assert_int_equal(r.n_files, 0);
	}
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_eval_form_parse(&e, "kl=a.txt books.txt", &err), BL_USAGE);
	assert_non_null(strstr(err.text, "ppl=FILE"));
	assert_null(e.kl);
	bl_err_clear(&err);
	assert_int_equal(bl_eval_form_parse(&e, "ppl=a\\ b.txt kl=c.txt windows=all items=20", &err), BL_OK);
	assert_string_equal(e.ppl, "a b.txt");
	assert_int_equal(e.windows, 0);
	assert_int_equal(e.items, 20);
	assert_int_equal(bl_eval_form_parse(&e, "kl=", &err), BL_OK);
	assert_null(e.kl);
	bl_eval_form_free(&e);
	bl_calib_request_free(&r);
}

static void steps(void **state)
{
	struct bl_calib_request r = { .samples = 1, .seqlen = 2, .keep_windows = 1 };

	(void)state;
	for (int i = 0; i < 200; i++)
		for (int f = 0; f < BL_CALIB_FIELDS; f++)
			bl_form_step(&bl_calib_fields[f], &r, 1);
	assert_true(r.samples > 1 && r.samples <= 100000000);
	assert_true(r.hessians && r.block_inputs);
	assert_true((int64_t)r.seed > 0 && (int64_t)r.memory_limit > 0);
	for (int i = 0; i < 200; i++)
		for (int f = 0; f < BL_CALIB_FIELDS; f++)
			bl_form_step(&bl_calib_fields[f], &r, -1);
	assert_int_equal(r.samples, 1);
	assert_int_equal(r.seqlen, 2);
	assert_int_equal(r.keep_windows, 0);
	assert_int_equal(r.memory_limit, 0);
	assert_false(r.hessians);
}

/* ---- on the screen ---- */

static struct bl_app *make(bool keep_state)
{
	struct bl_app *app = test_app(24, 80, false);
	struct bl_err err = BL_ERR_INIT;

	if (keep_state)
		bl_app_keep_state(app);
	assert_int_equal(bl_app_open(app, "tiny", &err), BL_OK);
	return app;
}

static void the_form(void **state)
{
	struct bl_app *app = make(false);

	(void)state;
	test_press(app, "c");
	assert_string_equal(bl_app_top(app)->name, "calibrate");
	assert_true(test_shows(app, "a adds a file"));
	test_press(app, "<Enter>"); /* without data nothing starts, and it says what to do */
	assert_true(test_shows(app, "no data to calibrate with"));
	test_press(app, "<Esc> a \"rows.jsonl\" <Enter> j <Space> \"8\" <Enter> j <Left> j <Space>");
	assert_int_equal(bl_app_calib_form(app)->n_files, 1);
	assert_int_equal(bl_app_calib_form(app)->samples, 8);
	assert_int_equal(bl_app_calib_form(app)->seqlen, 512);
	assert_false(bl_app_calib_form(app)->hessians);
	test_press(app, "k <Space> \"x\" <Enter>");
	assert_true(test_shows(app, "a whole number"));
	test_press(app, "<Esc> <Esc>"); /* the message, the screen: the values stay */
	assert_string_equal(bl_app_top(app)->name, "layers");
	test_press(app, "c");
	assert_true(test_shows(app, "rows.jsonl"));
	test_press(app, "d");
	assert_int_equal(bl_app_calib_form(app)->n_files, 0);
	test_press(app, "<Esc> e <Space> \"rows.jsonl\" <Enter>");
	assert_string_equal(bl_app_top(app)->name, "evaluate");
	assert_string_equal(bl_app_eval_form(app)->ppl, "rows.jsonl");
	test_press(app, "d <Enter>");
	assert_true(test_shows(app, "nothing to measure on"));
	test_drop(app);
}

static void remembered(void **state)
{
	struct bl_app *app = make(true);
	char full[256];

	(void)state;
	test_press(app, "c a \"some text.txt\" <Enter> <Esc> e <Space> \"rows.jsonl\" <Enter> <Esc>");
	test_drop(app);
	app = make(false); /* scripts remember nothing */
	assert_int_equal(bl_app_calib_form(app)->n_files, 0);
	test_drop(app);
	app = make(true);
	assert_int_equal(bl_app_calib_form(app)->n_files, 1);
	/* the whole path, so that it is found from another folder too */
	snprintf(full, sizeof full, "%s/some text.txt", test_folder);
	assert_string_equal(bl_app_calib_form(app)->files[0], full);
	assert_non_null(strstr(bl_app_eval_form(app)->ppl, "/rows.jsonl"));
	test_drop(app);
}

/* A job that works until it is told to end. */
static enum bl_status work(struct bl_job *j, void *ctx, struct bl_err *err)
{
	atomic_int *end = ctx;

	(void)err;
	for (double done = 0; !atomic_load(end) && !bl_job_checkpoint(j); done++) {
		bl_job_progress(j, "forward", done, 1e6, "tokens");
		usleep(500);
	}
	return BL_OK;
}

/* Turns of the loop until the screen shows a text, at most ten seconds. */
static bool comes(struct bl_app *app, const char *text)
{
	for (int i = 0; i < 1000; i++) {
		bl_app_tick(app);
		if (test_shows(app, text))
			return true;
		usleep(10000);
	}
	return false;
}

static void pause_and_resume(void **state)
{
	static const struct bl_job_ops ops = { .name = "calibrate", .lane = BL_LANE_MAIN, .run = work, .pausable = true };
	struct bl_app *app = make(false);
	atomic_int end = 0;
	struct bl_job_view j;

	(void)state;
	bl_app_key(app, "P");
	assert_true(test_shows(app, "nothing runs that can be paused"));
	uint64_t id = bl_jobs_add(app->session->jobs, &ops, &end, "calibrate 4x64");
	assert_true(comes(app, "tok/s"));
	bl_app_key(app, "c"); /* a second one is not begun */
	assert_true(test_shows(app, "calibrate 4x64 is running"));
	bl_app_key(app, "<Esc>");
	bl_app_key(app, "P");
	assert_true(comes(app, "paused (P goes on)"));
	assert_true(bl_jobs_view(app->session->jobs, id, &j));
	assert_int_equal(j.state, BL_JOB_PAUSED);
	bl_app_key(app, "J");
	assert_true(test_shows(app, "paused"));
	bl_app_key(app, "P"); /* the same key, on the list, for the row under the cursor */
	for (int i = 0; i < 1000 && j.state == BL_JOB_PAUSED; i++, usleep(10000))
		bl_jobs_view(app->session->jobs, id, &j);
	assert_int_equal(j.state, BL_JOB_RUNNING);
	bl_app_key(app, "C-c");
	assert_true(test_shows(app, "Cancel calibrate 4x64? (y/n)"));
	bl_app_key(app, "n");
	atomic_store(&end, 1);
	assert_true(comes(app, "calibrate 4x64: done"));
	test_drop(app);
}

static void completion(void **state)
{
	struct bl_app *app = make(false);
	struct bl_completion c = { 0 };

	(void)state;
	bl_complete(app, &c, "COMMAND", "calibrate some", 14);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.items[0], "some\\ text.txt");
	bl_complete(app, &c, "COMMAND", "calibrate some\\ text.txt sa", 27);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.items[0], "samples=");
	bl_complete(app, &c, "COMMAND", "calibrate x hessians=", 21);
	assert_int_equal(c.n, 2);
	bl_complete(app, &c, "COMMAND", "evaluate kl=ro", 14);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.items[0], "rows.jsonl");
	assert_int_equal(c.from, 12);
	bl_complete(app, &c, "COMMAND", "budget bytes=60% tr", 19);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.items[0], "trials=");
	assert_int_equal(c.from, 17);
	bl_complete(app, &c, "COMMAND", "budget time=", 12);
	assert_non_null(strstr(c.note, "0.8x"));
	bl_complete(app, &c, "COMMAND", "stages smooth;ro", 16);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.items[0], "rotate");
	bl_complete(app, &c, "COMMAND", "stages smooth:pairs=vo,al", 25);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.items[0], "alpha=");
	assert_int_equal(c.from, 23);
	bl_complete(app, &c, "COMMAND", "stages nothing:al", 17);
	assert_int_equal(c.n, 0);
	bl_complete(app, &c, "COMMAND", "setting theme=da", 16);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.items[0], "dark");
	bl_complete(app, &c, "COMMAND", "setting target=h100", 19);
	assert_int_equal(c.n, 1);
	bl_completion_free(&c);
	test_drop(app);
}

static void budget_takes_whole_numbers(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, ": \"budget bytes=60% trials=abc\" <Enter>");
	assert_true(test_shows(app, "trials: must be a whole number"));
	test_press(app, ": \"budget bytes=60% trials=3x\" <Enter>");
	assert_true(test_shows(app, "trials: must be a whole number"));
	test_drop(app);
}

/* An error stays until it is dismissed, or until what it asked for was done. */
static void what_was_asked_for_is_an_answer(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "c <Enter>");
	assert_true(test_shows(app, "no data to calibrate with"));
	test_press(app, "j");
	assert_true(test_shows(app, "no data to calibrate with"));
	test_press(app, "a \"some text.txt\" <Enter>");
	assert_false(test_shows(app, "no data to calibrate with"));
	test_press(app, "q e <Enter>");
	assert_true(test_shows(app, "nothing to measure on"));
	test_press(app, "<Space> \"some text.txt\" <Enter>");
	assert_false(test_shows(app, "nothing to measure on"));
	test_press(app, "j j j <Space> \"-3\" <Enter>"); /* a refusal is none */
	assert_true(app->priv->message.on && app->priv->message.kind == BL_MSG_ERROR);
	test_drop(app);
}

/* The last line says what the keys do here, on a page of a screen, too. */
static void a_page_has_its_own_keys(void **state)
{
	struct bl_app *app = test_app(24, 80, true);

	(void)state;
	test_press(app, "c a \"some text.txt\" <Enter> wait p wait");
	assert_false(test_shows(app, "Enter start"));
	assert_true(test_shows(app, "Tab next"));
	test_press(app, "q");
	assert_true(test_shows(app, "Enter start"));
	test_drop(app);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calibrate_words), cmocka_unit_test(refusals),   cmocka_unit_test(steps),
		cmocka_unit_test(the_form),        cmocka_unit_test(remembered), cmocka_unit_test(completion),
		cmocka_unit_test(pause_and_resume), cmocka_unit_test(budget_takes_whole_numbers), cmocka_unit_test(what_was_asked_for_is_an_answer),
		cmocka_unit_test(a_page_has_its_own_keys),
	};

	return cmocka_run_group_tests(tests, enter, test_leave_folder);
}
