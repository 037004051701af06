/* SPDX-License-Identifier: Apache-2.0
 * What is written without being asked, and what is made of it at the next start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "support.h"

/* As a crash leaves it: the text of a plan as the autosave of a model. */
static void leave_behind(struct bl_session *s, const char *text, size_t n)
{
	char *path = state_file(s), *folder = bl_path_dir(path);
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_mkdirs(folder, 0700, &err), BL_OK);
	assert_int_equal(bl_write_file(path, text, n, 0600, &err), BL_OK);
	bl_free(path);
	bl_free(folder);
}

static void leave_plan(struct bl_session *s)
{
	struct bl_str text = { 0 };

	bl_plan_print(&text, s->plan);
	leave_behind(s, text.s, text.len);
	bl_str_free(&text);
}

static void set_age(const char *path, long seconds)
{
	struct timespec t[2];

	clock_gettime(CLOCK_REALTIME, &t[0]);
	t[0].tv_sec -= seconds;
	t[1] = t[0];
	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void forget(const struct bl_session *s)
{
	char *path = state_file(s);
	struct bl_str old = { 0 };

	bl_str_addf(&old, "%s.old", path);
	unlink(path);
	unlink(bl_str_c(&old));
	bl_str_free(&old);
	bl_free(path);
}

static bool kept_aside(const struct bl_session *s)
{
	char *path = state_file(s);
	struct bl_str old = { 0 };

	bl_str_addf(&old, "%s.old", path);
	bool is = bl_is_file(bl_str_c(&old));
	bl_str_free(&old);
	bl_free(path);
	return is;
}

static const char *summary(const struct bl_session *s)
{
	static char name[BL_SCHEME_NAME_MAX];

	return bl_plan_summary(name, s->plan);
}

static void until_written(const char *path, struct bl_session *s)
{
	for (int i = 0; i < 6000 && !bl_is_file(path); i++) {
		bl_session_tick(s);
		usleep(10000);
	}
	assert_true(bl_is_file(path));
}

static void written_in_private_and_removed_when_saved(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, true, 1);
	char *path = state_file(s), *folder = bl_path_dir(path), *plan = bl_path_join(test_dir, "saved.plan.json");
	struct bl_err err = BL_ERR_INIT;
	struct stat st;

	(void)state;
	bl_session_tick(s);
	usleep(50000);
	assert_false(bl_is_file(path)); /* nothing was edited */
	uint64_t edited = bl_now_ns();
	set_all(s, "W8A8");
	bl_session_tick(s);
	bool early = bl_now_ns() - edited < 1000000000; /* else this thread has slept through the second */
	usleep(50000);
	assert_false(early && bl_is_file(path)); /* at most one a second */
	until_written(path, s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(stat(folder, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(bl_session_save(s, plan, &err), BL_OK);
	assert_false(bl_is_file(path));
	set_all(s, "W4A16");
	until_written(path, s);
	assert_true(bl_plan_undo(s->plan));
	bl_session_edited(s);
	bl_session_close(s); /* as it was saved: nothing to keep */
	assert_false(bl_is_file(path));
	bl_free(path);
	bl_free(folder);
	bl_free(plan);
}

/* A disk that was full for a moment does not make the autosave give up. */
static void a_failed_write_is_tried_again(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, true, 1);
	char *path = state_file(s);

	(void)state;
	set_all(s, "W8A8");
	usleep(1050000);
	size_t lines = bl_log_count();
	bl_file_fail_at(1);
	bl_session_tick(s);
	for (int i = 0; i < 6000 && bl_log_count() == lines; i++) /* the failure is logged by the thread that writes */
		usleep(10000);
	assert_true(bl_log_count() > lines);
	bl_file_fail_at(0);
	assert_false(bl_is_file(path));
	until_written(path, s);
	forget(s);
	bl_session_close(s);
	unlink(path);
	bl_free(path);
}

/* The file of the plan is edited by hand, or by a command, after the crash: it wins, and nothing is lost. */
static void an_older_autosave_is_put_aside(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 1);
	char *path = state_file(s), *plan = bl_path_join(test_dir, "older.plan.json");
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	set_all(s, "W4A16");
	leave_plan(s);
	set_age(path, 100);
	set_all(s, "W8A8");
	assert_int_equal(bl_session_save(s, plan, &err), BL_OK);
	bl_session_close(s);

	s = open_with(plan, true, 1);
	assert_string_equal(summary(s), "W8A8");
	assert_null(s->notice);
	assert_null(bl_plan_undo_label(s->plan));
	assert_true(kept_aside(s));
	bl_session_close(s);

	s = open_with(plan, false, 1);
	set_all(s, "W4A16");
	leave_plan(s); /* now it is newer */
	set_age(plan, 100);
	bl_session_close(s);
	s = open_with(plan, true, 1);
	assert_string_equal(summary(s), "W4A16");
	assert_string_equal(bl_plan_undo_label(s->plan), "recovered autosave");
	assert_non_null(s->notice);
	assert_true(bl_plan_undo(s->plan));
	assert_string_equal(summary(s), "W8A8");
	assert_false(bl_plan_undo(s->plan));
	forget(s);
	bl_session_close(s);
	bl_free(path);
	bl_free(plan);
}

static void check_snapshot(struct bl_plan *p, const char *name, const char *scheme)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_scheme want;
	int i = bl_plan_find_snapshot(p, name);

	if (i < 0)
		fail_msg("no snapshot called %s", name);
	assert_int_equal(bl_scheme_parse(&want, scheme, &err), BL_OK);
	for (int u = 0; u < bl_plan_n_units(p); u++)
		assert_true(bl_scheme_equal(&bl_snapshot_choice(bl_plan_snapshot(p, i), u)->scheme, &want));
}

/* Locks, config edits and snapshots come back too; snapshots of both sides are there; all of it is one step. */
static void the_whole_document_is_one_step(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 1);
	char *plan = bl_path_join(test_dir, "snaps.plan.json");
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	set_all(s, "W8A8");
	assert_int_equal(bl_plan_snapshot_save(s->plan, "both", "", &err), BL_OK);
	assert_int_equal(bl_plan_snapshot_save(s->plan, "best", "of the file", &err), BL_OK);
	assert_int_equal(bl_plan_snapshot_save(s->plan, "dropped later", "", &err), BL_OK);
	assert_int_equal(bl_plan_set_edit(s->plan, "max_position_embeddings", "4096", &err), BL_OK);
	assert_int_equal(bl_session_save(s, plan, &err), BL_OK);
	set_age(plan, 100);

	bl_plan_snapshot_drop(s->plan, bl_plan_find_snapshot(s->plan, "dropped later"));
	bl_plan_snapshot_drop(s->plan, bl_plan_find_snapshot(s->plan, "best"));
	set_all(s, "W4A16");
	assert_int_equal(bl_plan_snapshot_save(s->plan, "best", "of the crash", &err), BL_OK);
	set_all(s, "W8A16");
	assert_int_equal(bl_plan_snapshot_save(s->plan, "new", "a note", &err), BL_OK);
	assert_int_equal(bl_plan_set_edit(s->plan, "max_position_embeddings", NULL, &err), BL_OK);
	assert_int_equal(bl_plan_set_edit(s->plan, "rope_theta", "5", &err), BL_OK);
	bl_plan_set_lock(s->plan, 3, true);
	leave_plan(s);
	bl_session_close(s);

	s = open_with(plan, true, 1);
	assert_string_equal(summary(s), "W8A16");
	assert_true(bl_plan_choice(s->plan, 3)->locked);
	assert_int_equal(bl_plan_n_edits(s->plan), 1);
	assert_string_equal(bl_plan_edit(s->plan, 0)->key, "rope_theta");
	assert_int_equal(bl_plan_n_snapshots(s->plan), 5);
	check_snapshot(s->plan, "both", "W8A8");
	check_snapshot(s->plan, "best", "W8A8");
	check_snapshot(s->plan, "best (recovered 1)", "W4A16");
	check_snapshot(s->plan, "dropped later", "W8A8");
	check_snapshot(s->plan, "new", "W8A16");
	assert_string_equal(bl_plan_snapshot(s->plan, bl_plan_find_snapshot(s->plan, "new"))->note, "a note");
	assert_true(bl_plan_undo(s->plan));
	assert_false(bl_plan_undo(s->plan));
	assert_false(bl_plan_dirty(s->plan));
	assert_string_equal(summary(s), "W8A8");
	assert_int_equal(bl_plan_n_snapshots(s->plan), 3);
	forget(s);
	bl_session_close(s);
	bl_free(plan);
}

static void locks_alone_are_worth_recovering(void **state)
{
	struct bl_session *s = open_with(DEMO_MODEL, false, 1);

	(void)state;
	bl_plan_set_lock(s->plan, 5, true);
	leave_plan(s);
	bl_session_close(s);
	s = open_with(DEMO_MODEL, true, 1);
	assert_true(bl_plan_choice(s->plan, 5)->locked);
	forget(s);
	assert_true(bl_plan_undo(s->plan));
	bl_session_close(s);
}

/* Whatever lies there, the model opens; what cannot be read is said and kept. */
static void hostile_autosaves(void **state)
{
	static const char *const texts[] = { "", "{", "[[[[[[[[[[", "{\"bitlathe_plan\": 1}", "{\"bitlathe_plan\": 99, \"units\": []}", "\033[2J", "{\"bitlathe_plan\": \"\033\"}" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct bl_session *s = open_with(DEMO_MODEL, false, 1);
		forget(s);
		leave_behind(s, texts[i], strlen(texts[i]));
		bl_session_close(s);
		s = open_with(DEMO_MODEL, true, 1);
		assert_string_equal(summary(s), "BF16");
		assert_non_null(s->notice);
		assert_null(strchr(s->notice, '\033'));
		assert_true(kept_aside(s));
		forget(s);
		bl_session_close(s);
	}
}

/* Nobody can write where the state belongs: work goes on. */
static void no_place_for_state(void **state)
{
	char *file = bl_path_join(test_dir, "a-file");
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	assert_int_equal(bl_write_file(file, "x", 1, 0600, &err), BL_OK);
	setenv("XDG_STATE_HOME", file, 1);
	struct bl_session *s = open_with(DEMO_MODEL, true, 1);
	set_all(s, "W8A8");
	usleep(1050000);
	bl_session_tick(s);
	assert_string_equal(summary(s), "W8A8");
	bl_session_close(s);
	setenv("XDG_STATE_HOME", test_dir, 1);
	bl_free(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(written_in_private_and_removed_when_saved),
		cmocka_unit_test(a_failed_write_is_tried_again),
		cmocka_unit_test(an_older_autosave_is_put_aside),
		cmocka_unit_test(the_whole_document_is_one_step),
		cmocka_unit_test(locks_alone_are_worth_recovering),
		cmocka_unit_test(hostile_autosaves),
		cmocka_unit_test(no_place_for_state),
	};

	return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
