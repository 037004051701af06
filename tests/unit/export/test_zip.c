/* SPDX-License-Identifier: Apache-2.0
 * The zip container both ways: layouts with 64-bit sizes, offsets and counts are read back by libzip; packages made to harm are refused. */
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "core/base/hash.h"
#include "core/export/package.h"
#include "core/export/zip_write.h"

/* Writes the structure around holes; returns the total size. */
static uint64_t write_hollow(const char *path, struct bl_zip_entry *e, int n)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	uint64_t directory = bl_zip_layout(e, n), total = directory + bl_zip_tail_bytes(e, n, directory);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)total), 0);
	OK(bl_zip_finish(fd, path, e, n, directory, &err));
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, total); /* the tail had exactly the size that was foretold */
	close(fd);
	return total;
}

static zip_t *read_back(const char *path)
{
	int code = 0;
	zip_t *z = zip_open(path, ZIP_RDONLY | ZIP_CHECKCONS, &code);

	if (!z)
		fail_msg("libzip refuses %s (%d)", path, code);
	return z;
}

static void wide_sizes(void **state)
{
	static const uint64_t sizes[] = {5, 0xFFFFFFFFull - 1, 0xFFFFFFFFull, 6000000000ull, 0, 77};
	struct bl_zip_entry e[6] = {{0}};
	char names[6][32];

	(void)state;
	for (int i = 0; i < 6; i++) {
		snprintf(names[i], sizeof names[i], "model/\xc3\xa9%d.bin", i);
		e[i] = (struct bl_zip_entry){.name = names[i], .bytes = sizes[i], .crc = 1000u + (uint32_t)i};
	}
	write_hollow(scratch("wide.zip"), e, 6);
	zip_t *z = read_back(scratch("wide.zip"));
	assert_int_equal(zip_get_num_entries(z, 0), 6);
	for (int i = 0; i < 6; i++) {
		zip_stat_t st;
		zip_uint8_t system;
		zip_uint32_t attributes;
		assert_int_equal(zip_stat_index(z, (zip_uint64_t)i, ZIP_FL_ENC_STRICT, &st), 0);
		assert_string_equal(st.name, names[i]);
		assert_int_equal(st.size, sizes[i]);
		assert_int_equal(st.comp_size, sizes[i]);
		assert_int_equal(st.crc, 1000 + i);
		assert_int_equal(st.comp_method, ZIP_CM_STORE);
		assert_int_equal(zip_file_get_external_attributes(z, (zip_uint64_t)i, 0, &system, &attributes), 0);
		assert_int_equal(attributes >> 16, 0100644);
	}
	zip_discard(z);
	struct bl_package p;
	OK(bl_package_open(&p, scratch("wide.zip"), true, &err));
	assert_int_equal(p.n, 6);
	for (int i = 0; i < 6; i++) {
		const struct bl_package_entry *x = bl_package_find(&p, names[i] + 6);
		assert_true(x && x->bytes == sizes[i]);
		assert_true(!x->bytes || x->data == p.zip.data + e[i].data_at);
	}
	bl_package_close(&p);
}

static void many_entries(void **state)
{
	enum { N = 70000 };
	struct bl_zip_entry *e = bl_xalloc(N, sizeof *e);
	struct bl_package p;
	struct bl_err why = BL_ERR_INIT;

	(void)state;
	for (int i = 0; i < N; i++) {
		struct bl_str b = {0};
		bl_str_addf(&b, "model/%d", i);
		e[i].name = bl_str_take(&b);
	}
	write_hollow(scratch("many.zip"), e, N);
	zip_t *z = read_back(scratch("many.zip"));
	assert_int_equal(zip_get_num_entries(z, 0), N);
	zip_discard(z);
	assert_int_equal(bl_package_open(&p, scratch("many.zip"), true, &why), BL_INVALID); /* more than any checkpoint has */
	for (int i = 0; i < N; i++)
		bl_free(e[i].name);
	bl_free(e);
}

/* The date is the one that reproducible builds ask for, else the first that a zip can hold; never the clock. */
static void dates(void **state)
{
	static const struct { const char *epoch; uint32_t word; } rows[] = {
		{NULL, 0x00210000u}, {"0", 0x00210000u}, {"1700000000", 0x576eb1aau} /* 2023-11-14 22:13:20 */,
	};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct bl_zip_entry e = {.name = (char *)(uintptr_t)"model/a"};
		char *text;
		size_t n;
		uint32_t word;
		if (rows[i].epoch)
			setenv("SOURCE_DATE_EPOCH", rows[i].epoch, 1);
		else
			unsetenv("SOURCE_DATE_EPOCH");
		write_hollow(scratch("d.zip"), &e, 1);
		OK(bl_read_file(&text, &n, scratch("d.zip"), 1000, false, &err));
		memcpy(&word, text + 10, 4);
		assert_int_equal(word, rows[i].word);
		bl_free(text);
	}
	unsetenv("SOURCE_DATE_EPOCH");
}

/* ---- packages of others ---- */

struct item { const char *name; const void *data; size_t bytes; bool deflate, link; };

static void make_zip(const char *path, const struct item *items, int n)
{
	int code = 0;
	zip_t *z = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);

	assert_non_null(z);
	for (int i = 0; i < n; i++) {
		bool folder = bl_ends_with(items[i].name, "/");
		zip_source_t *s = folder ? NULL : zip_source_buffer(z, items[i].data, items[i].bytes, 0);
		zip_int64_t at = folder ? zip_dir_add(z, items[i].name, 0) : zip_file_add(z, items[i].name, s, 0);
		if (at < 0)
			fail_msg("%s: %s", items[i].name, zip_strerror(z));
		if (folder)
			continue;
		zip_set_file_compression(z, (zip_uint64_t)at, items[i].deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 1);
		zip_file_set_external_attributes(z, (zip_uint64_t)at, 0, ZIP_OPSYS_UNIX, (items[i].link ? 0120777u : 0100644u) << 16);
	}
	assert_int_equal(zip_close(z), 0);
}

static void opens(const char *path, enum bl_status want, const char *word)
{
	struct bl_package p;
	struct bl_err why = BL_ERR_INIT;
	enum bl_status s = bl_package_open(&p, path, true, &why);

	if (s == BL_OK)
		bl_package_close(&p);
	if (s != want || !strstr(why.text, word))
		fail_msg("%s: status %s, expected %s with \"%s\": %s", path, bl_status_name(s), bl_status_name(want), word, why.text);
}

static void hostile(void **state)
{
	static const struct item rows[] = {
		{"../evil", "x", 1, false, false}, {"/etc/evil", "x", 1, false, false}, {"model/../../evil", "x", 1, false, false},
		{"model/..\\evil", "x", 1, false, false}, {"model/link", "/etc/passwd", 11, false, true}, {"model/sub/a", "x", 1, false, false},
		{"other/a", "x", 1, false, false}, {"config.json", "{}", 2, false, false}, {"model/\033[31m", "x", 1, false, false},
		{"model//a", "x", 1, false, false}, {"model/./a", "x", 1, false, false}, {"model/sub/", "", 0, false, false},
	};
	static char zeros[100 << 20];
	char path[64];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct item items[] = {{"model/config.json", "{}", 2, false, false}, rows[i]};
		snprintf(path, sizeof path, "h%zu.zip", i);
		make_zip(scratch(path), items, 2);
		opens(scratch(path), BL_INVALID, "entry 1");
	}
	const struct item bomb[] = {{"model/config.json", zeros, sizeof zeros, true, false}};
	make_zip(scratch("bomb.zip"), bomb, 1);
	opens(scratch("bomb.zip"), BL_INVALID, "times its size");
	const struct item folder[] = {{"model/", "", 0, false, false}, {"model/config.json", "{}", 2, true, false}};
	make_zip(scratch("folder.zip"), folder, 2);
	opens(scratch("folder.zip"), BL_OK, "");
	put_file(scratch("none.zip"), "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
	opens(scratch("none.zip"), BL_INVALID, "0 entries");
	put_file(scratch("text.zip"), "nothing", 7);
	opens(scratch("text.zip"), BL_INVALID, "consistent");
}

/* Several directory records for the same bytes, and twice the same name. */
static void overlapping(void **state)
{
	struct bl_zip_entry e[3];
	static char data[4096];
	char names[3][20];

	(void)state;
	for (int same_name = 0; same_name < 2; same_name++) {
		int fd = open(scratch("o.zip"), O_RDWR | O_CREAT | O_TRUNC, 0644);
		memset(data, 'x', sizeof data);
		for (int i = 0; i < 3; i++) {
			snprintf(names[i], sizeof names[i], "model/%c", same_name ? 'a' : 'a' + i);
			e[i] = (struct bl_zip_entry){.name = names[i], .bytes = sizeof data, .crc = bl_crc32(0, data, sizeof data)};
		}
		uint64_t directory = bl_zip_layout(e, 3);
		if (!same_name) {
			for (int i = 1; i < 3; i++)
				e[i].header_at = e[0].header_at, e[i].data_at = e[0].data_at;
			directory = e[0].data_at + sizeof data;
		}
		for (int i = 0; i < 3; i++)
			OK(bl_pwrite_all(fd, data, sizeof data, e[i].data_at, "o.zip", &err));
		OK(bl_zip_finish(fd, "o.zip", e, 3, directory, &err));
		close(fd);
		opens(scratch("o.zip"), BL_INVALID, "");
	}
}

/* What other tools make of the same folder: deflated, in another order, with a folder entry. */
static void by_others(void **state)
{
	struct bl_export_result r;
	struct bl_verify_result v;
	struct fix f;
	struct item items[20];
	struct bl_map maps[20];
	char **names = NULL, full[20][80];
	size_t n = 0;

	(void)state;
	fix_open(&f, TINY, 2);
	fix_plan(&f, "W4A16");
	fix_export(&f, scratch("out"), &r);
	OK(bl_list_dir(&names, &n, scratch("out"), &err));
	assert_true(n < 20);
	for (int deflate = 0; deflate < 2; deflate++) {
		for (size_t i = 0; i < n; i++) {
			char *path = bl_path_join(scratch("out"), names[n - 1 - i]);
			OK(bl_map_open(&maps[i], path, &err));
			snprintf(full[i], sizeof full[i], "model/%s", names[n - 1 - i]);
			items[i] = (struct item){full[i], maps[i].data, maps[i].bytes, deflate, false};
			bl_free(path);
		}
		make_zip(scratch("z.zip"), items, (int)n);
		fix_verify(&f, scratch("z.zip"), true, &v);
		assert_string_equal(first_fatal(&v), "");
		assert_true(v.coverage == 1);
		for (int k = 0; k < v.n_files; k++)
			for (int i = 0; i < r.n_files; i++)
				if (!strcmp(v.files[k].name, r.files[i].name))
					assert_string_equal(v.files[k].sha256, r.files[i].sha256);
		bl_verify_result_free(&v);
		for (size_t i = 0; i < n; i++)
			bl_map_close(&maps[i]);
	}
	bl_list_free(names);
	bl_export_result_free(&r);
	fix_close(&f);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {T(wide_sizes), T(many_entries), T(dates), T(hostile), T(overlapping), T(by_others)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
