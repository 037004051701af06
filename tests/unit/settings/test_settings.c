/* SPDX-License-Identifier: Apache-2.0
 * Settings: bounds, hostile files, what the writer keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/settings/settings.h"

static char dir[64];

static void defaults_and_bounds(void **state)
{
	struct bl_settings *s = bl_settings_new();
	struct bl_err err = BL_ERR_INIT;

	(void)state;
	for (int i = 0; i < BL_SETTING_COUNT; i++) { /* every default passes its own check */
		const struct bl_setting_row *r = bl_setting_row((enum bl_setting_id)i);
		assert_int_equal(bl_settings_set(s, r->name, r->fallback, &err), BL_OK);
		assert_true(strlen(r->sentence) > 10);
	}
	assert_int_equal(bl_settings_int(s, BL_SET_ESC_MS), 25);
	assert_int_equal(bl_settings_set(s, "esc_ms", "1001", &err), BL_USAGE);
	assert_non_null(strstr(err.text, "esc_ms"));
	assert_int_equal(bl_settings_int(s, BL_SET_ESC_MS), 25);
	static const char *const bad[][2] = {{"esc_ms", "-1"}, {"esc_ms", "2x"}, {"esc_ms", ""}, {"mouse", "maybe"}, {"color", "17"}, {"theme", "a\033b"}, {"none", "1"}};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		bl_err_clear(&err);
		assert_int_equal(bl_settings_set(s, bad[i][0], bad[i][1], &err), BL_USAGE);
	}
	bl_settings_free(s);
}

static void files(void **state)
{
	struct bl_settings *s = bl_settings_new();
	struct bl_err err = BL_ERR_INIT;
	struct bl_str warnings = {0};
	char *path = bl_path_join(dir, "deep/config"), *text;
	static const char before[] = "# mine\nmouse = true\nfuture = 3\n\nesc_ms = many\n  theme=light  \nnonsense\n";

	(void)state;
	char *folder = bl_path_dir(path);
	assert_int_equal(bl_mkdirs(folder, 0700, &err), BL_OK);
	assert_int_equal(bl_write_file(path, before, sizeof before - 1, 0600, &err), BL_OK);
	bl_settings_load(s, path, &warnings);
	assert_true(bl_settings_bool(s, BL_SET_MOUSE));
	assert_string_equal(bl_settings_text(s, BL_SET_THEME), "light");
	assert_int_equal(bl_settings_int(s, BL_SET_ESC_MS), 25); /* the bad line changed nothing */
	assert_non_null(strstr(bl_str_c(&warnings), "line 3"));
	assert_non_null(strstr(bl_str_c(&warnings), "line 5"));
	assert_non_null(strstr(bl_str_c(&warnings), "line 7"));
	assert_int_equal(bl_settings_set(s, "columns", "block,unit", &err), BL_OK);
	assert_int_equal(bl_settings_save(s, path, &err), BL_OK);
	assert_int_equal(bl_read_file(&text, NULL, path, 1 << 20, true, &err), BL_OK);
	assert_non_null(strstr(text, "# mine\nmouse = true\nfuture = 3\n"));
	assert_non_null(strstr(text, "theme = light\n"));
	assert_non_null(strstr(text, "columns = block,unit\n"));
	assert_null(strstr(text, "glyphs")); /* defaults are not written */
	for (uint64_t n = 1; n < 20; n++) {  /* a failing disk leaves the old file */
		char *after;
		bl_file_fail_at(n);
		enum bl_status st = bl_settings_save(s, path, &err);
		bl_file_fail_at(0);
		bl_err_clear(&err);
		assert_int_equal(bl_read_file(&after, NULL, path, 1 << 20, true, &err), BL_OK);
		assert_string_equal(after, text);
		bl_free(after);
		if (!st)
			break;
	}
	bl_free(text);
	bl_free(folder);
	bl_free(path);
	bl_str_free(&warnings);
	bl_settings_free(s);
}

static void noise(void **state)
{
	struct bl_rng r;
	char *path = bl_path_join(dir, "noise");

	(void)state;
	bl_rng_seed(&r, 42);
	for (int round = 0; round < 300; round++) {
		struct bl_settings *s = bl_settings_new();
		struct bl_err err = BL_ERR_INIT;
		struct bl_str text = {0}, warnings = {0};
		static const char *const words[] = {"theme", "=", " ", "\n", "esc_ms", "99999999999999999999", "#", "\t", "true", "\xff", "\033[2J", "mouse", "==", "color=16"};
		for (int i = 0; i < 60; i++)
			bl_str_add(&text, words[bl_rng_u64(&r) % (sizeof words / sizeof words[0])]);
		assert_int_equal(bl_write_file(path, bl_str_c(&text), text.len, 0600, &err), BL_OK);
		bl_settings_load(s, path, &warnings);
		assert_null(strchr(bl_str_c(&warnings), '\033'));
		assert_true(bl_settings_int(s, BL_SET_ESC_MS) <= 1000);
		bl_str_free(&text);
		bl_str_free(&warnings);
		bl_settings_free(s);
	}
	bl_free(path);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/bl-settings-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	bl_remove_tree(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(defaults_and_bounds), cmocka_unit_test(files), cmocka_unit_test(noise)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
