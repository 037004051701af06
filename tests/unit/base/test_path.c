/* SPDX-License-Identifier: Apache-2.0
 * Names of files and folders. */
#include "tests/unit/base/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"

static void is(char *got, const char *want)
{
	assert_string_equal(got, want);
	bl_free(got);
}

static void parts(void **state)
{
	(void)state;
	is(bl_path_join("a", "b"), "a/b");
	is(bl_path_join("a/", "b"), "a/b");
	is(bl_path_join("/", "b"), "/b");
	is(bl_path_join("", "b"), "b");
	is(bl_path_dir("a/b"), "a");
	is(bl_path_dir("b"), ".");
	is(bl_path_dir("/b"), "/");
	is(bl_path_dir("/a/b"), "/a");
	assert_string_equal(bl_path_base("a/b"), "b");
	assert_string_equal(bl_path_base("b"), "b");
	assert_string_equal(bl_path_base("a/"), "");
}

static void inside(void **state)
{
	static const char *const yes[] = { "a", "a/b.c", "a..b", "..a", "a/...", "model-00001-of-00003.safetensors", "\xc3\xa9", "a//b", "./a" };
	static const char *const no[] = { "", "/a", "..", "../a", "a/..", "a/../b", "a\nb", "a\033[2J", "a\x7f", "a//../b" };

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		if (!bl_path_is_inside(yes[i]))
			fail_msg("refused: %s", yes[i]);
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		if (bl_path_is_inside(no[i]))
			fail_msg("accepted: row %zu", i);
}

static void folders(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	char **names;
	size_t n = 0;

	assert_int_equal(bl_mkdirs(in(state, "a/b//c/"), 0755, &err), BL_OK);
	assert_int_equal(bl_mkdirs(in(state, "a/b/c"), 0755, &err), BL_OK);
	assert_true(bl_is_dir(in(state, "a/b/c")));
	put(in(state, "a/file"), "12345");
	assert_int_equal(bl_mkdirs(in(state, "a/file/x"), 0755, &err), BL_IO);
	assert_non_null(strstr(err.text, "a/file"));
	bl_err_clear(&err);
	assert_true(bl_is_file(in(state, "a/file")));
	assert_false(bl_is_dir(in(state, "a/file")));
	assert_false(bl_is_file(in(state, "a")));
	assert_int_equal(bl_file_bytes(in(state, "a/file")), 5);
	assert_int_equal(bl_file_bytes(in(state, "a")), -1);
	assert_int_equal(bl_file_bytes(in(state, "none")), -1);
	put(in(state, "a/.hidden"), "");
	put(in(state, "a/Z"), "");
	assert_int_equal(bl_list_dir(&names, &n, in(state, "a"), &err), BL_OK);
	assert_int_equal(n, 4);
	assert_string_equal(names[0], ".hidden");
	assert_string_equal(names[1], "Z");
	assert_string_equal(names[2], "b");
	assert_string_equal(names[3], "file");
	assert_null(names[4]);
	bl_list_free(names);
	names = (char **)1;
	assert_int_equal(bl_list_dir(&names, &n, in(state, "none"), &err), BL_NOT_FOUND);
	assert_ptr_equal(names, (char **)1);
	bl_list_free(NULL);
	assert_true(bl_free_bytes(in(state, "not/yet/there")) > 0);
	assert_int_equal(bl_free_bytes("a/relative/one"), bl_free_bytes("."));
}

static void removing(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	put(in(state, "kept"), "x");
	assert_int_equal(bl_mkdirs(in(state, "t/u"), 0755, &err), BL_OK);
	put(in(state, "t/u/f"), "x");
	assert_int_equal(symlink("../kept", in(state, "t/link")), 0);
	assert_int_equal(symlink("..", in(state, "t/up")), 0);
	bl_remove_tree(in(state, "t"));
	bl_remove_tree(in(state, "none"));
	assert_int_equal(names_in(*state), 1);
	assert_true(bl_is_file(in(state, "kept")));
}

static void xdg(void **state)
{
	(void)state;
	setenv("HOME", "/home/u", 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_STATE_HOME");
	setenv("XDG_CACHE_HOME", "/fast", 1);
	is(bl_xdg_dir("CONFIG"), "/home/u/.config/bitlathe");
	is(bl_xdg_dir("STATE"), "/home/u/.local/state/bitlathe");
	is(bl_xdg_dir("CACHE"), "/fast/bitlathe");
	setenv("XDG_CACHE_HOME", "relative", 1); /* to be ignored, says the specification */
	is(bl_xdg_dir("CACHE"), "/home/u/.cache/bitlathe");
	unsetenv("HOME");
	char *dir = bl_xdg_dir("CONFIG");
	assert_int_equal(dir[0], '/');
	bl_free(dir);
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = { ONE(parts), ONE(inside), ONE(folders), ONE(removing), ONE(xdg) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
