/* SPDX-License-Identifier: Apache-2.0
 * The container: what a reader must refuse, row by row, what it must take, how it is laid out, and its limits in time and memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/model/safetensors.h"
#include "tests/unit/processor_ns.h"

static struct bl_str container(const char *header, size_t data_bytes)
{
	struct bl_str b = {0};
	uint64_t n = strlen(header);

	for (int i = 0; i < 8; i++)
		bl_str_addc(&b, (char)(n >> 8 * i));
	bl_str_add(&b, header);
	for (size_t i = 0; i < data_bytes; i++)
		bl_str_addc(&b, (char)i);
	return b;
}

static const struct { const char *what, *header; size_t data; const char *says; } bad[] = {
	{"gap at the start", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "gap"},
	{"gap between", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}", 3, "gap"},
	{"overlap", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "overlap"},
	{"trailing bytes", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 3, "accounts for"},
	{"past the end", "{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]}}", 3, "outside"},
	{"size and shape", "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,3]}}", 3, "need"},
	{"product overflows", "{\"a\":{\"dtype\":\"U8\",\"shape\":[9007199254740992,9007199254740992],\"data_offsets\":[0,3]}}", 3, "overflows"},
	{"negative size", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,3]}}", 3, "whole number"},
	{"backwards", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[3,0]}}", 3, "outside"},
	{"twice", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "a"},
	{"unknown dtype", "{\"a\":{\"dtype\":\"F4096\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "dtype"},
	{"unknown field", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3],\"x\":1}}", 3, "unknown field"},
	{"metadata not text", "{\"__metadata__\":{\"n\":1},\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "__metadata__"},
	{"escape in name", "{\"\\u001b[31m\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "control characters"},
	{"C1 control in name", "{\"a\xc2\x9b" "31m\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "control characters"},
	{"text turned around", "{\"a\\u202eb\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "control characters"},
	{"a NUL in the name", "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "NUL"},
	{"an empty name", "{\"\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "empty"},
	{"not UTF-8", "{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "UTF-8"},
	{"twice, one escaped", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
	 3, "\"a\""},
	{"a field twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "twice"},
	{"no dtype", "{\"a\":{\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "dtype is missing"},
	{"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,3]}}", 3, "shape is missing"},
	{"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3]}}", 3, "data_offsets"},
	{"a number for a tensor", "{\"a\":7}", 3, "must be an object"},
	{"dtype is a number", "{\"a\":{\"dtype\":7,\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "dtype"},
	{"shape is text", "{\"a\":{\"dtype\":\"U8\",\"shape\":\"3\",\"data_offsets\":[0,3]}}", 3, "list of sizes"},
	{"shape holds text", "{\"a\":{\"dtype\":\"U8\",\"shape\":[\"3\"],\"data_offsets\":[0,3]}}", 3, "shape[0]"},
	{"half a row", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5,2],\"data_offsets\":[0,3]}}", 3, "shape[0]"},
	{"a size beyond exact numbers", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1e300],\"data_offsets\":[0,3]}}", 3, "shape[0]"},
	{"nine dimensions", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,3],\"data_offsets\":[0,3]}}", 3, "a: a list has more than 8"},
	{"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3,3]}}", 3, "two numbers"},
	{"one offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[3]}}", 3, "two numbers"},
	{"a negative offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[-1,2]}}", 3, "data_offsets[0]"},
	{"an offset beyond 64 bits", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,1e30]}}", 3, "data_offsets[1]"},
	{"bytes overflow", "{\"a\":{\"dtype\":\"I64\",\"shape\":[4611686018427387,4096],\"data_offsets\":[0,3]}}", 3, "a: "},
	{"zero times huge", "{\"a\":{\"dtype\":\"U8\",\"shape\":[9007199254740992,9007199254740992,0],\"data_offsets\":[0,0]}}", 0, "overflows"},
	{"empty, in the wrong place", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3,
	 "overlap"},
	{"the same bytes twice", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "overlap"},
	{"metadata is a list", "{\"__metadata__\":[\"pt\"]}", 0, "__metadata__"},
	{"metadata is nested", "{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "__metadata__.a"},
	{"a comma too many", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},}", 3, "key in quotes"},
	{"something behind", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}} x", 3, "follows"},
	{"cut short", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}", 3, "ends"},
	{"a string that does not end", "{\"a", 0, "not closed"},
	{"an escape at the end", "{\"a\\", 0, "string"},
	{"closed too often", "{}}", 0, "follows"},
	{"not an object", "[1,2,3]", 0, "{"},
	{"offsets as text", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[\"0\",\"3\"]}}", 3, "whole number"},
};

static void containers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_st st;
		struct bl_str b = container(bad[i].header, bad[i].data);
		enum bl_status s = bl_st_parse(&st, b.s, b.len, "x.safetensors", &err);
		if (!s || !strstr(err.text, bad[i].says) || strchr(err.text, '\033'))
			fail_msg("%s: status %d, says: %s", bad[i].what, s, err.text);
		assert_int_equal(bl_status_exit(s), 3);
		bl_str_free(&b);
	}
}

static void containers_that_are_right(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_st st;
	struct bl_str b = container("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[0,4]},"
				    "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[4,5]}}", 5);

	(void)state;
	assert_int_equal(bl_st_parse(&st, b.s, b.len, "x", &err), BL_OK);
	assert_int_equal(st.n_tensors, 3);
	assert_string_equal(st.format, "pt");
	assert_non_null(bl_st_find(&st, "none"));
	assert_int_equal(bl_st_find(&st, "s")->n_elems, 1);
	assert_null(bl_st_find(&st, "S"));
	bl_st_close(&st);
	bl_str_free(&b);
	/* an empty directory is a file of no tensors */
	assert_int_equal(bl_st_parse(&st, "\2\0\0\0\0\0\0\0{}", 10, "x", &err), BL_OK);
	assert_int_equal(st.n_tensors, 0);
	bl_st_close(&st);
}

static void lengths(void **state)
{
	static const struct { const char *what, *bytes; size_t n; const char *says; } rows[] = {
		{"nothing", "", 0, "too short"},
		{"seven bytes", "\2\0\0\0\0\0\0", 7, "too short"},
		{"no header", "\2\0\0\0\0\0\0\0", 8, "does not fit"},
		{"header of 0", "\0\0\0\0\0\0\0\0{}", 10, "does not fit"},
		{"header of 1", "\1\0\0\0\0\0\0\0{}", 10, "does not fit"},
		{"one byte short", "\3\0\0\0\0\0\0\0{}", 10, "does not fit"},
		{"100,000,001", "\1\xe1\xf5\5\0\0\0\0{}", 10, "exceeds"},
		{"2^63 - 1", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, "exceeds"},
		{"2^64 - 1", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "exceeds"},
		{"2^64 - 8, so that adding 8 wraps", "\xf8\xff\xff\xff\xff\xff\xff\xff{}", 10, "exceeds"},
		{"a space first", "\3\0\0\0\0\0\0\0 {}", 11, "does not begin"},
		{"a byte behind", "\2\0\0\0\0\0\0\0{}x", 11, "accounts for"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_st st;
		char *exact = bl_xalloc(rows[i].n, 1); /* so that a sanitizer sees one byte too far */
		memcpy(exact, rows[i].bytes, rows[i].n);
		if (bl_st_parse(&st, exact, rows[i].n, "x", &err) != BL_INVALID || !strstr(err.text, rows[i].says))
			fail_msg("%s: %s", rows[i].what, err.text);
		bl_free(exact);
	}
}

/* The hundred bytes of the format's own example come out of the writer. */
static void layout(void **state)
{
	struct bl_tensor t[] = {{.name = "b", .dtype = BL_U8, .rank = 1, .shape = {3}, .n_elems = 3, .bytes = 3},
				{.name = "c", .dtype = BL_I64, .rank = 1, .shape = {2}, .n_elems = 2, .bytes = 16},
				{.name = "a", .dtype = BL_U8, .rank = 1, .shape = {1}, .n_elems = 1, .bytes = 1}};
	struct bl_tensor one = {.name = "a", .dtype = BL_I32, .rank = 2, .shape = {1, 1}, .n_elems = 1, .bytes = 4};
	struct bl_str head = {0};

	(void)state;
	assert_int_equal(bl_st_layout(&one, 1, &head), 100);
	assert_int_equal(head.len, 96);
	assert_memory_equal(head.s, "X\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[0,4]}} ", 96);
	bl_str_clear(&head);
	uint64_t total = bl_st_layout(t, 3, &head);
	assert_string_equal(t[0].name, "c"); /* wider types first, then by name */
	assert_string_equal(t[1].name, "a");
	assert_int_equal(t[0].offset, head.len);
	assert_int_equal(total, head.len + 20);
	bl_str_free(&head);
}

static void many_tensors(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_st st;
	struct bl_str h = {0};
	struct rusage before, after;

	(void)state;
	bl_str_add(&h, "{");
	for (int i = 0; i < 200000; i++)
		bl_str_addf(&h, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i, i, i + 1);
	bl_str_add(&h, "}");
	struct bl_str b = container(bl_str_c(&h), 200000);
	getrusage(RUSAGE_SELF, &before);
	uint64_t start = processor_ns();
	assert_int_equal(bl_st_parse(&st, b.s, b.len, "x", &err), BL_OK);
	assert_true(processor_ns() - start < SLOWER * 2000000000ull);
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_maxrss - before.ru_maxrss < (long)SLOWER * 1000000); /* KiB */
	assert_int_equal(st.n_tensors, 200000);
	assert_non_null(bl_st_find(&st, "t199999"));
	assert_null(bl_st_find(&st, "t200000"));
	bl_st_close(&st);
	bl_str_free(&b);
	bl_str_free(&h);
}

/* 98 MB of header that is no directory: refused in a second, without a tree in memory. */
static void huge_nonsense(void **state)
{
	static const struct { const char *what, *start, *unit; } rows[] = {
		{"brackets", "{\"a\":", "["},
		{"braces", "{\"a\":", "{\"a\":"},
		{"a long shape", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0", ",0"},
		{"many fields", "{\"a\":{\"x\":0", ",\"y\":0"},
		{"many tensors", "{\"a\":0", ",\"y\":0"},
		{"many metadata", "{\"__metadata__\":{\"a\":\"\"", ",\"y\":\"\""},
		{"many wide tensors", "{\"a\":0", ",\"b\":{\"x\":0,\"x\":0,\"x\":0,\"x\":0}"},
		{"one string", "{\"a", "aaaaaaaa"},
		{"commas", "{", ","},
	};
	size_t n = 98000000;
	char *b = bl_xalloc(n + 8, 1);

	(void)state;
	for (int i = 0; i < 8; i++)
		b[i] = (char)((uint64_t)n >> 8 * i);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_st st;
		struct rusage before, after;
		size_t at = 8 + strlen(rows[i].start), unit = strlen(rows[i].unit);
		memcpy(b + 8, rows[i].start, at - 8);
		for (; at + unit <= n + 8; at += unit)
			memcpy(b + at, rows[i].unit, unit);
		memset(b + at, ' ', n + 8 - at);
		getrusage(RUSAGE_SELF, &before);
		uint64_t start = processor_ns();
		assert_int_equal(bl_st_parse(&st, b, n + 8, "x", &err), BL_INVALID);
		uint64_t took = processor_ns() - start;
		getrusage(RUSAGE_SELF, &after);
		if (took > SLOWER * 2000000000ull || after.ru_maxrss - before.ru_maxrss > 100000)
			fail_msg("%s: %g s, %ld KiB, %s", rows[i].what, (double)took / 1e9, after.ru_maxrss - before.ru_maxrss, err.text);
	}
	bl_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(containers), cmocka_unit_test(containers_that_are_right), cmocka_unit_test(lengths), cmocka_unit_test(layout), cmocka_unit_test(many_tensors),
		cmocka_unit_test(huge_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
