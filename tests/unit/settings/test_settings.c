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
#include <sys/stat.h>
#include <unistd.h>

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
	static const char *const bad[][2] = {{"esc_ms", "-1"}, {"esc_ms", "2x"}, {"esc_ms", ""}, {"mouse", "maybe"}, {"color", "17"}, {"theme", "a\033b"}, {"none", "1"},
					 {"theme", "\xc2\x9b" "31m"}, {"theme", "\xff\xfe"}, {"esc_ms", "99999999999999999999"}, {"color", ""}, {"color", "auto|never"}};
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

static void load_text(const char *path, struct bl_settings *s, const char *text, size_t n, struct bl_str *warnings)
{
	struct bl_err err = BL_ERR_INIT;

	assert_int_equal(bl_write_file(path, text, n, 0600, &err), BL_OK);
	bl_settings_load(s, path, warnings);
}

/* The longest file of nonsense costs neither memory nor patience; good lines in it still count. */
static void hostile_files(void **state)
{
	char *path = bl_path_join(dir, "hostile");
	struct bl_settings *s = bl_settings_new();
	struct bl_str text = {0}, warnings = {0};
	struct bl_err err = BL_ERR_INIT;
	int n = 0;

	(void)state;
	while (text.len < (1 << 20) - 20)
		bl_str_add(&text, "x\n");
	bl_str_add(&text, "mouse=true\n");
	load_text(path, s, text.s, text.len, &warnings);
	assert_true(bl_settings_bool(s, BL_SET_MOUSE));
	for (const char *c = bl_str_c(&warnings); *c; c++)
		n += *c == '\n';
	assert_int_equal(n, 21);
	assert_non_null(strstr(bl_str_c(&warnings), " more lines like these"));

	bl_str_clear(&text);
	bl_str_clear(&warnings);
	bl_str_add(&text, "theme=light");
	for (int i = 0; i < 2000; i++)
		bl_str_addc(&text, ' ');
	bl_str_add(&text, "\n#");
	for (int i = 0; i < 2000; i++)
		bl_str_addc(&text, 'c');
	load_text(path, s, text.s, text.len, &warnings);
	assert_string_equal(bl_settings_text(s, BL_SET_THEME), "dark");
	assert_non_null(strstr(bl_str_c(&warnings), "line 1 is longer than 1024 bytes"));
	assert_null(strstr(bl_str_c(&warnings), "line 2")); /* a comment may be as long as it likes */

	while (text.len <= 1 << 20)
		bl_str_addc(&text, '#');
	bl_str_clear(&warnings);
	load_text(path, s, text.s, text.len, &warnings);
	assert_non_null(strstr(bl_str_c(&warnings), path));
	assert_int_not_equal(bl_settings_save(s, path, &err), BL_OK); /* what could not be read is not replaced */
	assert_int_equal(bl_file_bytes(path), text.len);

	bl_str_clear(&warnings);
	load_text(path, s, "mouse=false\0\n", 13, &warnings);
	assert_true(bl_settings_bool(s, BL_SET_MOUSE));
	assert_true(warnings.len > 0);
	bl_str_clear(&warnings);
	bl_settings_load(s, dir, &warnings); /* a folder */
	assert_true(warnings.len > 0);
	bl_str_clear(&warnings);
	bl_settings_load(s, "/nowhere/at/all", &warnings);
	assert_int_equal(warnings.len, 0);
	bl_str_free(&text);
	bl_str_free(&warnings);
	bl_settings_free(s);
	bl_free(path);
}

static void the_file_behind_a_link_is_replaced(void **state)
{
	char *folder = bl_path_join(dir, "dots"), *real = bl_path_join(folder, "config"), *link = bl_path_join(dir, "link"), *text;
	struct bl_settings *s = bl_settings_new();
	struct bl_err err = BL_ERR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(bl_mkdirs(folder, 0700, &err), BL_OK);
	assert_int_equal(bl_write_file(real, "# kept\n", 7, 0644, &err), BL_OK);
	assert_int_equal(symlink("dots/config", link), 0);
	assert_int_equal(bl_settings_set(s, "mouse", "true", &err), BL_OK);
	assert_int_equal(bl_settings_save(s, link, &err), BL_OK);
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(real, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(bl_read_file(&text, NULL, real, 1 << 20, true, &err), BL_OK);
	assert_string_equal(text, "# kept\nmouse = true\n");
	bl_free(text);
	bl_settings_free(s);
	bl_free(folder);
	bl_free(real);
	bl_free(link);
}

/* What the writer wrote is what the reader reads, and writing again changes no byte. */
static void written_is_read(void **state)
{
	char *path = bl_path_join(dir, "round"), *first, *second;
	struct bl_rng r;

	(void)state;
	bl_rng_seed(&r, 7);
	for (int round = 0; round < 200; round++) {
		static const char *const values[] = {"true", "false", "0", "17", "1000", "16", "never", "ascii", "a = b", "# no comment", "\xe2\x96\x81", "", "x,y"};
		struct bl_settings *a = bl_settings_new(), *b = bl_settings_new();
		struct bl_str warnings = {0};
		struct bl_err err = BL_ERR_INIT;
		for (int i = 0; i < 20; i++) {
			const struct bl_setting_row *row = bl_setting_row((enum bl_setting_id)(bl_rng_u64(&r) % BL_SETTING_COUNT));
			bl_err_clear(&err);
			bl_settings_set(a, row->name, values[bl_rng_u64(&r) % (sizeof values / sizeof values[0])], &err);
		}
		bl_err_clear(&err);
		if (round % 2)
			unlink(path); /* else: over what the last round left */
		assert_int_equal(bl_settings_save(a, path, &err), BL_OK);
		bl_settings_load(b, path, &warnings);
		assert_string_equal(bl_str_c(&warnings), "");
		for (int i = 0; i < BL_SETTING_COUNT; i++)
			assert_string_equal(bl_settings_text(a, (enum bl_setting_id)i), bl_settings_text(b, (enum bl_setting_id)i));
		assert_int_equal(bl_read_file(&first, NULL, path, 1 << 20, true, &err), BL_OK);
		assert_int_equal(bl_settings_save(b, path, &err), BL_OK);
		assert_int_equal(bl_read_file(&second, NULL, path, 1 << 20, true, &err), BL_OK);
		assert_string_equal(first, second);
		bl_free(first);
		bl_free(second);
		bl_str_free(&warnings);
		bl_settings_free(a);
		bl_settings_free(b);
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
	const struct CMUnitTest tests[] = {cmocka_unit_test(defaults_and_bounds), cmocka_unit_test(files), cmocka_unit_test(noise),
					   cmocka_unit_test(hostile_files), cmocka_unit_test(the_file_behind_a_link_is_replaced),
					   cmocka_unit_test(written_is_read)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
