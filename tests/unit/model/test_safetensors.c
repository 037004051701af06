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

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/model/safetensors.h"

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
	static const size_t cuts[] = {0, 7, 8, 12};
	for (size_t i = 0; i < 4; i++) {
		bl_err_clear(&err);
		assert_int_not_equal(bl_st_parse(&st, "\xff\xff\xff\xff\xff\xff\xff\x7f{}  ", cuts[i], "x", &err), BL_OK);
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
	uint64_t start;

	(void)state;
	bl_str_add(&h, "{");
	for (int i = 0; i < 200000; i++)
		bl_str_addf(&h, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i, i, i + 1);
	bl_str_add(&h, "}");
	struct bl_str b = container(bl_str_c(&h), 200000);
	start = bl_now_ns();
	assert_int_equal(bl_st_parse(&st, b.s, b.len, "x", &err), BL_OK);
	assert_true(bl_now_ns() - start < 10000000000u); /* linear: about a second; quadratic would take minutes */
	assert_non_null(bl_st_find(&st, "t199999"));
	bl_st_close(&st);
	bl_str_free(&b);
	bl_str_clear(&h);
	for (int i = 0; i < 50000000; i++)
		bl_str_addc(&h, '[');
	b = container("", 0);
	bl_str_free(&b);
	b = (struct bl_str){0};
	for (int i = 0; i < 8; i++)
		bl_str_addc(&b, (char)((uint64_t)(h.len + 5) >> 8 * i));
	bl_str_add(&b, "{\"a\":");
	bl_str_addn(&b, h.s, h.len);
	start = bl_now_ns();
	assert_int_not_equal(bl_st_parse(&st, b.s, b.len, "x", &err), BL_OK);
	assert_true(bl_now_ns() - start < 5000000000u);
	bl_str_free(&b);
	bl_str_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(containers), cmocka_unit_test(containers_that_are_right), cmocka_unit_test(layout), cmocka_unit_test(many_tensors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
