/* SPDX-License-Identifier: Apache-2.0
 * JSON: what is refused (with the line in the message), bounds in time and memory, getters, printing that round-trips. */
#include "tests/unit/base/support.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "tests/unit/processor_ns.h"

static enum bl_status parse(const char *text, struct bl_err *err)
{
	cJSON *root = (cJSON *)1;
	enum bl_status s;

	*err = BL_ERR_INIT;
	s = bl_json_parse(&root, text, strlen(text), 1000, "f.json", err);
	if (s == BL_OK)
		cJSON_Delete(root);
	else
		assert_ptr_equal(root, (cJSON *)1);
	assert_int_equal(s, err->status);
	return s;
}

static void accepted(void **state)
{
	static const char *const row[] = {
		"{}", " \n\t\r{ } \n", "{\"a\":1}", "\xef\xbb\xbf{\"a\":1}", "{\"a\":[]}", "{\"a\":[[],{},[1,2]],\"b\":{\"a\":null}}",
		"{\"\":0}", "{\"a\":-0,\"b\":-1.5e-3,\"c\":1E+2,\"d\":0.1}", "{\"k\":\"\\u00e9\\ud83d\\ude00\\/\\\\\\\"\\b\\f\\n\\r\\t\"}",
		"{\"k\":\"\xf0\x9f\x98\x80\x7f\"}", "{\"a\":true , \"b\" : false}", "{\"a\":1e-400}",
	};
	struct bl_err err;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++)
		if (parse(row[i], &err))
			fail_msg("%s: %s", row[i], err.text);
}

static void refused(void **state)
{
	static const struct { const char *text, *say; } row[] = {
		{ "", "empty" }, { "  \n", "empty" }, { "[]", "one JSON object" }, { "1", "one JSON object" }, { "{", "key" },
		{ "{\"a\"", "':'" }, { "{\"a\":", "ends where a value" }, { "{\"a\":1", "ends inside" }, { "{\"a\":1}}", "follows" },
		{ "{} {}", "follows" }, { "{}x", "follows" }, { "{\"a\":1,}", "key in quotes" }, { "{,}", "key in quotes" },
		{ "{\"a\":[1,]}", "a value was expected" }, { "{\"a\":[1 2]}", "','" }, { "{\"a\":[1}", "','" },
		{ "{\"a\":1]", "','" }, { "{\"a\":[", "ends where" }, { "{a:1}", "key in quotes" }, { "{'a':1}", "key in quotes" },
		{ "{\"a\":01}", "','" }, { "{\"a\":1.}", "not a number" }, { "{\"a\":.5}", "value was expected" },
		{ "{\"a\":+1}", "value was expected" }, { "{\"a\":-}", "not a number" }, { "{\"a\":1e}", "not a number" },
		{ "{\"a\":1e999}", "too large" }, { "{\"a\":NaN}", "value was expected" }, { "{\"a\":Infinity}", "value was expected" },
		{ "{\"a\":-Infinity}", "not a number" }, { "{\"a\":0x10}", "','" }, { "{\"a\":tru}", "not JSON" },
		{ "{\"a\":nul", "not JSON" }, { "{\"a\":\"x}", "not closed" }, { "{\"a\":\"x\\", "ends inside a string" },
		{ "{\"a\":\"\\x\"}", "unknown escape" }, { "{\"a\":\"\\u12\"}", "four hex" }, { "{\"a\":\"\\u12g4\"}", "four hex" },
		{ "{\"a\":\"\\u0000\"}", "NUL" }, { "{\"a\\u0000b\":1}", "NUL" }, { "{\"a\":\"\\ud800\"}", "surrogate" },
		{ "{\"a\":\"\\ud800\\u0041\"}", "surrogate" }, { "{\"a\":\"\\udc00\"}", "surrogate" }, { "{\"a\":\"\\ud800\\u\"}", "surrogate" },
		{ "{\"a\":\"\n\"}", "control character" }, { "{\"a\":\"\033\"}", "control character" },
		{ "{\"a\":\"\xff\"}", "UTF-8" }, { "{\"a\":\"\xed\xa0\x80\"}", "UTF-8" }, { "{\"\xc0\x80\":1}", "UTF-8" },
		{ "{\"a\":1 /* c */}", "','" }, { "// c\n{}", "one JSON object" }, { "{\"a\":\xc3\xa9}", "value was expected" },
		{ "{\"a\":1,\"a\":2}", "\"a\" stands twice" }, { "{\"a\":1,\"\\u0061\":2}", "\"a\" stands twice" },
		{ "{\"o\":[{\"b\":1,\"c\":1,\"b\":1}]}", "\"b\" stands twice" },
		{ "{\"a\":1111111111111111111111111111111111111111111111111111111111111}", "longer than 60" },
	};
	struct bl_err err;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		if (parse(row[i].text, &err) != BL_INVALID)
			fail_msg("accepted: %s", row[i].text);
		assert_true(bl_starts_with(err.text, "f.json: "));
		if (!strstr(err.text, row[i].say))
			fail_msg("%s: \"%s\" does not say \"%s\"", row[i].text, err.text, row[i].say);
	}
	parse("{\n \"a\": 1,\n  \"b\": x}", &err);
	assert_non_null(strstr(err.text, "line 3, column 8"));
	cJSON *root;
	bl_err_clear(&err); /* a NUL in the text is not its end */
	assert_int_equal(bl_json_parse(&root, "{}\0{}", 5, 10, "f.json", &err), BL_INVALID);
	bl_err_clear(&err); /* nor are bytes behind the given length read */
	assert_int_equal(bl_json_parse(&root, "{\"a\":12345}", 8, 10, "f.json", &err), BL_INVALID);
}

static char *nested(int depth, char open, char close)
{
	struct bl_str b = { 0 };

	bl_str_add(&b, "{\"a\":");
	for (int i = 1; i < depth; i++)
		bl_str_add(&b, open == '{' ? "{\"a\":" : "[");
	bl_str_add(&b, "1");
	for (int i = 1; i < depth; i++)
		bl_str_addc(&b, close);
	bl_str_add(&b, "}");
	return bl_str_take(&b);
}

static void depth(void **state)
{
	struct bl_err err;

	(void)state;
	for (int i = 0; i < 2; i++) {
		char *ok = nested(64, i ? '{' : '[', i ? '}' : ']'), *deep = nested(65, i ? '{' : '[', i ? '}' : ']');

		assert_int_equal(parse(ok, &err), BL_OK);
		assert_int_equal(parse(deep, &err), BL_INVALID);
		assert_non_null(strstr(err.text, "64 levels"));
		bl_free(ok);
		bl_free(deep);
	}
}

static long peak_kib(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

static void hundred_megabytes(void **state)
{
	const size_t n = 100u << 20;
	char *text = malloc(n);
	struct bl_err err = BL_ERR_INIT;
	cJSON *root;
	uint64_t t, allocations;
	long before;

	(void)state;
	memset(text, '[', n);
	before = peak_kib();
	t = processor_ns();
	allocations = bl_mem_count();
	assert_int_equal(bl_json_parse(&root, text, n, 1000000, "brackets", &err), BL_INVALID);
	bl_err_clear(&err);
	memcpy(text, "{\"a\":", 5);
	assert_int_equal(bl_json_parse(&root, text, n, 1000000, "brackets", &err), BL_INVALID);
	assert_non_null(strstr(err.text, "64 levels"));
	bl_err_clear(&err);
	for (size_t i = 6; i + 1 < n; i += 2) { /* "{"a":[0,0,0, ..." */
		text[i] = '0';
		text[i + 1] = ',';
	}
	assert_int_equal(bl_json_parse(&root, text, n, 1000000, "zeros", &err), BL_INVALID);
	assert_non_null(strstr(err.text, "more than 1000000 values"));
	assert_true(processor_ns() - t < SLOWER * 2000000000ull);
	assert_int_equal(bl_mem_count(), allocations);
	assert_true(peak_kib() - before < 8192);
	free(text);
}

static void many_keys(void **state)
{
	struct bl_str b = { 0 };
	struct bl_err err = BL_ERR_INIT;
	cJSON *root = NULL;
	uint64_t t;

	(void)state;
	bl_str_add(&b, "{");
	for (int i = 0; i < 200000; i++)
		bl_str_addf(&b, "%s\"layers.%d.weight\":%d", i ? "," : "", i, i);
	bl_str_add(&b, "}");
	t = processor_ns();
	assert_int_equal(bl_json_parse(&root, b.s, b.len, 1000000, "keys", &err), BL_OK);
	assert_true(processor_ns() - t < SLOWER * 5000000000ull); /* two nested loops would need minutes */
	cJSON_Delete(root);
	b.len--;
	bl_str_add(&b, ",\"layers.777.weight\":1}");
	assert_int_equal(bl_json_parse(&root, b.s, b.len, 1000000, "keys", &err), BL_INVALID);
	assert_string_equal(err.text, "keys: the key \"layers.777.weight\" stands twice in one object");
	bl_str_free(&b);
}

static void value_limit(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	cJSON *root;
	const char *text = "{\"a\":[1,2,3]}"; /* the object, the array, three numbers */

	(void)state;
	assert_int_equal(bl_json_parse(&root, text, strlen(text), 5, "f", &err), BL_OK);
	cJSON_Delete(root);
	assert_int_equal(bl_json_parse(&root, text, strlen(text), 4, "f", &err), BL_INVALID);
}

static void allocation_failures(void **state)
{
	const char *text = "{\"a\":[1,\"text\",{\"b\":null}],\"c\":true}";
	cJSON *root;
	int n = 0;

	(void)state;
	for (;; n++) {
		struct bl_err err = BL_ERR_INIT;
		enum bl_status s;

		bl_mem_fail_at((uint64_t)n + 1);
		s = bl_json_parse(&root, text, strlen(text), 100, "f", &err);
		bl_mem_fail_at(0);
		if (s == BL_OK)
			break;
		assert_int_equal(s, BL_NO_MEMORY);
	}
	assert_true(n >= 10); /* cJSON really goes through our allocator */
	cJSON_Delete(root);
}

static void getters(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	cJSON *o;
	int64_t i = -7;
	double d = -7;
	bool b = true;
	const char *s = "kept";
	const char *text = "{\"n\":-3,\"half\":0.5,\"big\":9007199254740993,\"huge\":1e300,\"no\":false,\"s\":\"word\",\"e\":\"a\\u001b\","
			   "\"c1\":\"\\u009b\",\"null\":null,\"list\":[1]}";

	(void)state;
	assert_int_equal(bl_json_parse(&o, text, strlen(text), 100, "c.json", &err), BL_OK);
	assert_int_equal(bl_json_int(o, "n", -10, 10, true, &i, "c.json", &err), BL_OK);
	assert_int_equal(i, -3);
	assert_int_equal(bl_json_int(o, "n", 1, 1048576, true, &i, "c.json", &err), BL_INVALID);
	assert_string_equal(err.text, "c.json: n: must be an integer in 1 .. 1048576, is -3");
	assert_int_equal(i, -3);
	static const char *const not_int[] = { "half", "huge", "no", "s", "list" };
	for (size_t k = 0; k < 5; k++) {
		bl_err_clear(&err);
		assert_int_equal(bl_json_int(o, not_int[k], INT64_MIN, INT64_MAX, true, &i, "c.json", &err), BL_INVALID);
		assert_int_equal(i, -3);
	}
	bl_err_clear(&err);
	assert_int_equal(bl_json_int(o, "null", 0, 1, false, &i, "c.json", &err), BL_OK);
	assert_int_equal(bl_json_int(o, "absent", 0, 1, false, &i, "c.json", &err), BL_OK);
	assert_int_equal(i, -3);
	assert_int_equal(bl_json_int(o, "absent", 0, 1, true, &i, "c.json", &err), BL_INVALID);
	assert_string_equal(err.text, "c.json: absent: is missing");
	bl_err_clear(&err);
	assert_int_equal(bl_json_num(o, "half", 0, 1, true, &d, "c.json", &err), BL_OK);
	assert_true(d == 0.5);
	assert_int_equal(bl_json_num(o, "huge", 0, 1, true, &d, "c.json", &err), BL_INVALID);
	assert_true(d == 0.5);
	bl_err_clear(&err);
	assert_int_equal(bl_json_bool(o, "no", true, &b, "c.json", &err), BL_OK);
	assert_false(b);
	assert_int_equal(bl_json_bool(o, "n", true, &b, "c.json", &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_json_str(o, "s", 4, true, &s, "c.json", &err), BL_OK);
	assert_string_equal(s, "word");
	assert_int_equal(bl_json_str(o, "s", 3, true, &s, "c.json", &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_json_str(o, "e", 9, true, &s, "c.json", &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_json_str(o, "c1", 9, true, &s, "c.json", &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_json_str(o, "list", 9, true, &s, "c.json", &err), BL_INVALID);
	assert_string_equal(s, "word");
	bl_err_clear(&err);
	assert_int_equal(bl_json_int(cJSON_GetObjectItem(o, "list"), "x", 0, 1, false, &i, "c.json", &err), BL_INVALID);
	assert_true(bl_json_is_null_or_missing(o, "null"));
	assert_true(bl_json_is_null_or_missing(o, "absent"));
	assert_false(bl_json_is_null_or_missing(o, "no"));
	cJSON_Delete(o);
}

static void printing(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str b = { 0 };
	cJSON *o;
	const char *text = "{\"b\":[1,-2.5,1e-05,1e+20,0.1,123456789012,true,null,{}],\"a\":{\"z\":[],\"\\u00e9\":\"x\\ny\"}}";

	(void)state;
	assert_int_equal(bl_json_parse(&o, text, strlen(text), 100, "f", &err), BL_OK);
	bl_json_print(&b, o, 0, false);
	assert_string_equal(b.s, "{\"b\":[1,-2.5,1e-05,1e+20,0.1,123456789012,true,null,{}],\"a\":{\"z\":[],\"\xc3\xa9\":\"x\\ny\"}}");
	bl_str_clear(&b);
	bl_json_print(&b, o, 2, true);
	assert_string_equal(b.s, "{\n  \"a\": {\n    \"z\": [],\n    \"\xc3\xa9\": \"x\\ny\"\n  },\n  \"b\": [\n    1,\n    -2.5,\n    1e-05,\n"
				 "    1e+20,\n    0.1,\n    123456789012,\n    true,\n    null,\n    {}\n  ]\n}");
	cJSON_Delete(o);
	o = cJSON_CreateObject();
	bl_json_add_int(o, "small", -42);
	bl_json_add_int(o, "exact", (int64_t)1 << 53);
	bl_json_add_int(o, "large", INT64_MAX);
	bl_json_add_int(o, "least", INT64_MIN);
	cJSON_AddNumberToObject(o, "inf", INFINITY);
	cJSON_AddNumberToObject(o, "nzero", -0.0);
	bl_str_clear(&b);
	bl_json_print(&b, o, 0, false);
	assert_string_equal(b.s, "{\"small\":-42,\"exact\":9007199254740992,\"large\":9223372036854775807,"
				 "\"least\":-9223372036854775808,\"inf\":null,\"nzero\":-0.0}");
	cJSON_Delete(o);
	bl_str_free(&b);
}

/* 16.0 is not 16 for a reader of config.json that asks for a float. */
static void spelling_is_kept(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str b = { 0 };
	cJSON *o, *copy;
	const char *text = "{\"a \\\" 1.5\":16.0,\"b\":[0.0,-1e3,1,{\"c\":2.50},10000000000000000001],\"d 7.0\":\"3.0\",\"e\":1E6,\"f\":[],\"g\":8.0}";

	(void)state;
	assert_int_equal(bl_json_parse(&o, text, strlen(text), 100, "f", &err), BL_OK);
	copy = cJSON_Duplicate(o, true);
	cJSON_Delete(o);
	bl_json_print(&b, copy, 0, false);
	assert_string_equal(b.s, "{\"a \\\" 1.5\":16.0,\"b\":[0.0,-1e3,1,{\"c\":2.5},10000000000000000001],\"d 7.0\":\"3.0\",\"e\":1E6,\"f\":[],\"g\":8.0}");
	cJSON_Delete(copy);
	bl_str_free(&b);
}

static void numbers_round_trip(void **state)
{
	struct bl_rng r;
	struct bl_str b = { 0 };
	static const double special[] = { DBL_MAX, DBL_MIN, 5e-324, 0.1 + 0.2, 1e17, 1e16, 123456789.125, 1e22, -1e-7, 4503599627370497.5 };

	(void)state;
	bl_rng_seed(&r, 9);
	for (int i = 0; i < 20000; i++) {
		uint64_t u = bl_rng_u64(&r);
		double d;
		cJSON *v;

		memcpy(&d, &u, sizeof d);
		if (i < (int)(sizeof special / sizeof *special))
			d = special[i];
		if (!isfinite(d))
			continue;
		v = cJSON_CreateNumber(d);
		bl_str_clear(&b);
		bl_json_print(&b, v, 0, false);
		cJSON_Delete(v);
		if (strtod(b.s, NULL) != d)
			fail_msg("%a printed as %s", d, b.s);
	}
	bl_str_free(&b);
}

static void loading(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	cJSON *o = NULL;

	put(in(state, "good.json"), "{\"a\":1}");
	put(in(state, "bad.json"), "{\"a\":1");
	assert_int_equal(bl_json_load(&o, in(state, "good.json"), 100, 100, &err), BL_OK);
	cJSON_Delete(o);
	assert_int_equal(bl_json_load(&o, in(state, "good.json"), 6, 100, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "good.json"));
	bl_err_clear(&err);
	assert_int_equal(bl_json_load(&o, in(state, "bad.json"), 100, 100, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "bad.json: line 1"));
	bl_err_clear(&err);
	assert_int_equal(bl_json_load(&o, in(state, "none.json"), 100, 100, &err), BL_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted), cmocka_unit_test(refused), cmocka_unit_test(depth), cmocka_unit_test(hundred_megabytes),
		cmocka_unit_test(many_keys), cmocka_unit_test(value_limit), cmocka_unit_test(allocation_failures),
		cmocka_unit_test(getters), cmocka_unit_test(printing), cmocka_unit_test(spelling_is_kept), cmocka_unit_test(numbers_round_trip),
		cmocka_unit_test_setup_teardown(loading, scratch_make, scratch_drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
