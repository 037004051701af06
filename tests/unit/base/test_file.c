/* SPDX-License-Identifier: Apache-2.0
 * Files: maps and bounded reads refuse what is not a regular file and notice change; replacing a file or folder is all or
 * nothing with a failure injected at every write-side call. */
#include "tests/unit/base/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"

static void expect(const char *path, const char *want)
{
	struct bl_err err = BL_ERR_INIT;
	char *text;
	size_t n;

	if (bl_read_file(&text, &n, path, 1 << 20, true, &err))
		fail_msg("%s", err.text);
	assert_string_equal(text, want);
	assert_int_equal(n, strlen(want));
	bl_free(text);
}

static void reading(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	char *text = (char *)1;
	size_t n = 77;

	put(in(state, "f"), "hello");
	expect(in(state, "f"), "hello");
	put(in(state, "empty"), "");
	expect(in(state, "empty"), "");
	assert_int_equal(bl_read_file(&text, &n, in(state, "f"), 4, true, &err), BL_INVALID);
	assert_ptr_equal(text, (char *)1);
	assert_int_equal(n, 77);
	bl_err_clear(&err);
	assert_int_equal(bl_read_file(&text, &n, *state, 4, true, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_read_file(&text, &n, in(state, "none"), 4, true, &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_equal(mkfifo(in(state, "fifo"), 0600), 0); /* must not wait for a writer */
	assert_int_equal(bl_read_file(&text, &n, in(state, "fifo"), 4, true, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_write_file(in(state, "nul"), "a\0b", 3, 0644, &err), BL_OK);
	assert_int_equal(bl_read_file(&text, &n, in(state, "nul"), 100, true, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "byte 1 is NUL"));
	bl_err_clear(&err);
	assert_int_equal(bl_read_file(&text, &n, in(state, "nul"), 100, false, &err), BL_OK);
	assert_int_equal(n, 3);
	assert_memory_equal(text, "a\0b", 4);
	bl_free(text);
	/* a file whose size says nothing about its content */
	assert_int_equal(bl_read_file(&text, &n, "/proc/self/maps", 1 << 20, true, &err), BL_OK);
	assert_true(n > 200);
	bl_free(text);
	assert_int_equal(bl_read_file(&text, &n, "/proc/self/maps", 50, true, &err), BL_INVALID);
}

static void mapping(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_map m = { 0 };

	bl_map_close(&m); /* safe when never opened */
	put(in(state, "f"), "hello");
	assert_int_equal(symlink("f", in(state, "link")), 0);
	assert_int_equal(bl_map_open(&m, in(state, "link"), &err), BL_OK);
	assert_int_equal(m.bytes, 5);
	assert_memory_equal(m.data, "hello", 5);
	assert_int_equal(bl_map_unchanged(&m, &err), BL_OK);
	assert_int_equal(truncate(in(state, "f"), 2), 0);
	assert_int_equal(bl_map_unchanged(&m, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "link"));
	bl_err_clear(&err);
	bl_map_close(&m);

	put(in(state, "f"), "hello");
	assert_int_equal(bl_map_open(&m, in(state, "f"), &err), BL_OK);
	put(in(state, "g"), "hello");
	assert_int_equal(rename(in(state, "g"), in(state, "f")), 0);
	assert_int_equal(bl_map_unchanged(&m, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "replaced"));
	bl_err_clear(&err);
	assert_int_equal(unlink(in(state, "f")), 0);
	assert_int_equal(bl_map_unchanged(&m, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "vanished"));
	bl_err_clear(&err);
	bl_map_close(&m);

	put(in(state, "f"), "hello");
	assert_int_equal(bl_map_open(&m, in(state, "f"), &err), BL_OK);
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	assert_int_equal(utimensat(AT_FDCWD, in(state, "f"), old, 0), 0);
	assert_int_equal(bl_map_unchanged(&m, &err), BL_INVALID);
	bl_err_clear(&err);
	bl_map_close(&m);

	put(in(state, "empty"), "");
	assert_int_equal(bl_map_open(&m, in(state, "empty"), &err), BL_OK);
	assert_int_equal(m.bytes, 0);
	assert_non_null(m.data);
	bl_map_close(&m);
	assert_int_equal(bl_map_open(&m, *state, &err), BL_INVALID);
	assert_null(m.path);
	bl_err_clear(&err);
	assert_int_equal(bl_map_open(&m, in(state, "none"), &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_equal(bl_map_open(&m, "/dev/zero", &err), BL_INVALID);
}

static void replacing(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_replace r = { 0 };
	struct stat st;
	mode_t old;
	char name[260];

	bl_replace_rollback(&r); /* zeroed: nothing, and stdin stays open */
	assert_int_not_equal(fcntl(0, F_GETFD), -1);
	put(in(state, "f"), "old");
	assert_int_equal(bl_replace_begin(&r, in(state, "f"), 0600, &err), BL_OK);
	assert_true(bl_starts_with(bl_path_base(r.tmp), ".f.bl-"));
	assert_true(bl_ends_with(r.tmp, ".tmp"));
	assert_int_equal(bl_pwrite_all(r.fd, "new", 3, 0, r.path, &err), BL_OK);
	expect(in(state, "f"), "old");
	bl_replace_rollback(&r);
	bl_replace_rollback(&r);
	assert_int_equal(names_in(*state), 1);
	expect(in(state, "f"), "old");
	old = umask(027);
	assert_int_equal(bl_write_file(in(state, "f"), "new", 3, 0666, &err), BL_OK);
	umask(old);
	expect(in(state, "f"), "new");
	assert_int_equal(stat(in(state, "f"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(names_in(*state), 1);
	/* a link is replaced, what it points to is not touched */
	assert_int_equal(symlink("f", in(state, "link")), 0);
	assert_int_equal(bl_write_file(in(state, "link"), "own", 3, 0644, &err), BL_OK);
	expect(in(state, "f"), "new");
	expect(in(state, "link"), "own");
	memset(name, 'n', 255);
	name[255] = '\0';
	assert_int_equal(bl_write_file(in(state, name), "x", 1, 0644, &err), BL_OK); /* the longest name there is */
	expect(in(state, name), "x");
	assert_int_equal(bl_write_file(*state, "x", 1, 0644, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_write_file(in(state, "none/f"), "x", 1, 0644, &err), BL_IO);
	assert_non_null(strstr(err.text, "none/f"));
	assert_int_equal(names_in(*state), 3);
}

static void replacing_fails_cleanly(void **state)
{
	int n = 0;

	for (;; n++) {
		struct bl_err err = BL_ERR_INIT;
		enum bl_status s;

		put(in(state, "f"), "old");
		bl_file_fail_at((uint64_t)n + 1);
		s = bl_write_file(in(state, "f"), "new", 3, 0644, &err);
		bl_file_fail_at(0);
		assert_int_equal(names_in(*state), 1); /* no temporary is left */
		if (s == BL_OK)
			break;
		assert_int_equal(s, BL_NO_SPACE);
		assert_non_null(strstr(err.text, "No space left"));
		/* before the rename the old content, after it (only the folder's fsync is left) the new one: never a mixture */
		expect(in(state, "f"), n < 4 ? "old" : "new");
	}
	expect(in(state, "f"), "new");
	assert_int_equal(n, 5); /* create, write, fsync, rename, fsync of the folder */
}

static void read_only_folder(void **state)
{
	struct bl_err err = BL_ERR_INIT;

	if (geteuid() == 0)
		skip(); /* root may write anywhere */
	assert_int_equal(mkdir(in(state, "ro"), 0555), 0);
	assert_int_equal(bl_write_file(in(state, "ro/f"), "x", 1, 0644, &err), BL_IO);
	assert_non_null(strstr(err.text, "Permission denied"));
}

static void fill(struct bl_replace_dir *d, const char *text)
{
	char *p = bl_path_join(d->tmp, "inner");

	put(p, text);
	bl_free(p);
	p = bl_path_join(d->tmp, "sub");
	assert_int_equal(mkdir(p, 0755), 0);
	bl_free(p);
	p = bl_path_join(d->tmp, "sub/deep");
	put(p, text);
	bl_free(p);
}

static void replacing_folders(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_replace_dir d = { 0 };
	static const char *const bad[] = { "/", ".", "..", "x/..", "" };

	bl_replace_dir_rollback(&d);
	assert_int_equal(bl_replace_dir_begin(&d, in(state, "out///"), false, &err), BL_OK);
	assert_string_equal(d.path, in(state, "out"));
	fill(&d, "one");
	assert_false(bl_is_dir(in(state, "out")));
	assert_int_equal(bl_replace_dir_commit(&d, &err), BL_OK);
	expect(in(state, "out/inner"), "one");
	expect(in(state, "out/sub/deep"), "one");
	assert_int_equal(names_in(*state), 1);

	assert_int_equal(bl_replace_dir_begin(&d, in(state, "out"), false, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "exists already"));
	bl_err_clear(&err);
	assert_int_equal(bl_replace_dir_begin(&d, in(state, "out"), true, &err), BL_OK);
	fill(&d, "two");
	expect(in(state, "out/inner"), "one");
	assert_int_equal(bl_replace_dir_commit(&d, &err), BL_OK);
	expect(in(state, "out/inner"), "two");
	assert_int_equal(names_in(*state), 1);

	assert_int_equal(bl_replace_dir_begin(&d, in(state, "out"), true, &err), BL_OK);
	fill(&d, "three");
	bl_replace_dir_rollback(&d);
	expect(in(state, "out/inner"), "two");
	assert_int_equal(names_in(*state), 1);

	/* somebody else creates the folder while we write */
	assert_int_equal(bl_replace_dir_begin(&d, in(state, "late"), false, &err), BL_OK);
	assert_int_equal(mkdir(in(state, "late"), 0755), 0);
	put(in(state, "late/theirs"), "x");
	assert_int_equal(bl_replace_dir_commit(&d, &err), BL_IO);
	bl_err_clear(&err);
	expect(in(state, "late/theirs"), "x");
	assert_int_equal(names_in(*state), 2);

	put(in(state, "file"), "x");
	assert_int_equal(bl_replace_dir_begin(&d, in(state, "file"), true, &err), BL_INVALID);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		bl_err_clear(&err);
		assert_int_equal(bl_replace_dir_begin(&d, bad[i], true, &err), BL_INVALID);
	}
	assert_null(d.tmp);
}

static void replacing_folders_fails_cleanly(void **state)
{
	int n = 0;

	for (;; n++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_replace_dir d = { 0 };
		enum bl_status s;

		bl_remove_tree(in(state, "out"));
		assert_int_equal(mkdir(in(state, "out"), 0755), 0);
		put(in(state, "out/inner"), "old");
		bl_file_fail_at((uint64_t)n + 1);
		s = bl_replace_dir_begin(&d, in(state, "out"), true, &err);
		if (s == BL_OK) {
			fill(&d, "new");
			s = bl_replace_dir_commit(&d, &err);
		}
		bl_file_fail_at(0);
		assert_int_equal(names_in(*state), 1);
		if (s == BL_OK)
			break;
		assert_int_equal(s, BL_NO_SPACE);
		expect(in(state, "out/inner"), n < 3 ? "old" : "new");
	}
	expect(in(state, "out/inner"), "new");
	assert_int_equal(n, 4); /* mkdir, fsync inside, rename, fsync of the parent */
}

static void large_offsets(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_replace r;

	assert_int_equal(bl_replace_begin(&r, in(state, "f"), 0644, &err), BL_OK);
	assert_int_equal(bl_pwrite_all(r.fd, "end", 3, (uint64_t)5 << 30, r.path, &err), BL_OK); /* sparse */
	assert_int_equal(bl_replace_commit(&r, &err), BL_OK);
	assert_int_equal(bl_file_bytes(in(state, "f")), ((int64_t)5 << 30) + 3);
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {
		ONE(reading), ONE(mapping), ONE(replacing), ONE(replacing_fails_cleanly), ONE(read_only_folder),
		ONE(replacing_folders), ONE(replacing_folders_fails_cleanly), ONE(large_offsets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
