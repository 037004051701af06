/* SPDX-License-Identifier: Apache-2.0
 * Scheme names both ways, and the table of offered schemes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/scheme/scheme.h"

static struct bl_scheme parsed(const char *text)
{
	struct bl_scheme s;
	struct bl_err err = BL_ERR_INIT;

	if (bl_scheme_parse(&s, text, &err) != BL_OK)
		fail_msg("%s: %s", text, err.text);
	return s;
}

static void assert_round_trip(const struct bl_scheme *s)
{
	char name[BL_SCHEME_NAME_MAX], brief[BL_SCHEME_NAME_MAX];
	struct bl_scheme back;

	bl_scheme_name(name, s);
	bl_scheme_short(brief, s);
	back = parsed(name);
	if (!bl_scheme_equal(s, &back))
		fail_msg("%s comes back as another scheme", name);
	back = parsed(brief);
	if (!bl_scheme_equal(s, &back))
		fail_msg("%s comes back as another scheme", brief);
}

static void names_go_round(void **state)
{
	static const uint16_t groups[] = { 1, 16, 32, 64, 128, 256, 1024, 4096, 65535 };
	int n;
	const struct bl_scheme_row *row = bl_scheme_rows(&n);

	(void)state;
	assert_true(n >= 10);
	for (int i = 0; i < n; i++)
		assert_round_trip(&row[i].scheme);
	for (int bits = 2; bits <= 8; bits++)
		for (int sym = 0; sym < 2; sym++) {
			struct bl_scheme s = { .number = BL_NUM_INT, .bits = (uint8_t)bits, .symmetric = (uint8_t)sym };

			s.strategy = BL_STRATEGY_CHANNEL;
			assert_round_trip(&s);
			s.strategy = BL_STRATEGY_GROUP;
			for (size_t g = 0; g < sizeof(groups) / sizeof(*groups); g++) {
				s.group = groups[g];
				assert_round_trip(&s);
				s.order = 1;
				assert_round_trip(&s);
				s.order = 0;
			}
		}
}

static void names_are_the_usual_ones(void **state)
{
	static const struct { const char *text, *name, *brief; } rows[] = {
		{ "bf16", "BF16", "BF16" },
		{ "UNQUANTIZED", "BF16", "BF16" },
		{ "full", "BF16", "BF16" },
		{ "INT8", "W8A8", "W8A8" },
		{ "w8a8", "W8A8", "W8A8" },
		{ "W8A16", "W8A16", "W8A16ch" },
		{ "W8A16_channel", "W8A16", "W8A16ch" },
		{ "W8A16_g128", "W8A16_g128", "W8A16g128" },
		{ "W4A16", "W4A16", "W4A16g128" },
		{ "W4A16g32", "W4A16_g32", "W4A16g32" },
		{ "W4A16 g128", "W4A16", "W4A16g128" },
		{ "W4A16 channel", "W4A16_channel", "W4A16ch" },
		{ "W4A16_ASYM", "W4A16_ASYM", "W4A16as128" },
		{ "w4a16-asym-g64", "W4A16_ASYM_g64", "W4A16as64" },
		{ "W4A16_ASYM_channel", "W4A16_ASYM_channel", "W4A16asch" },
		{ "W3A16", "W3A16", "W3A16g128" },
		{ "FP8-DYNAMIC", "FP8_DYNAMIC", "FP8dyn" },
		{ "fp8dyn", "FP8_DYNAMIC", "FP8dyn" },
		{ "W8A8_STATIC", "W8A8_STATIC", "W8A8st" },
		{ "w8a8-static", "W8A8_STATIC", "W8A8st" },
		{ "fp8", "FP8", "FP8" },
		{ "FP8_STATIC", "FP8", "FP8" },
		{ "FP8_channel", "FP8_channel", "FP8ch" },
		{ "fp8-block", "FP8_BLOCK", "FP8blk" },
		{ "nvfp4", "NVFP4", "NVFP4" },
		{ "NVFP4A16", "NVFP4A16", "NVFP4A16" },
		{ "MXFP4", "MXFP4A16", "MXFP4" },
		{ "mxfp8-a16", "MXFP8A16", "MXFP8A16" },
		{ "nf4", "NF4", "NF4" },
		{ "NF4_DQ", "NF4_DQ", "NF4dq" },
		{ "fp4", "FP4", "FP4" },
		{ "FP4_DQ", "FP4_DQ", "FP4dq" },
		{ "LLM.int8", "LLM_INT8", "LLMint8" },
		{ "W4A16 actorder", "W4A16_actorder", "W4A16g128act" },
		{ "W4A16_ASYM_g32_actorder", "W4A16_ASYM_g32_actorder", "W4A16as32act" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bl_scheme s = parsed(rows[i].text);
		char name[BL_SCHEME_NAME_MAX];

		assert_string_equal(bl_scheme_name(name, &s), rows[i].name);
		assert_string_equal(bl_scheme_short(name, &s), rows[i].brief);
	}
}

static void nonsense_is_refused(void **state)
{
	static const char *const bad[] = { "", "W", "W4", "W4A8", "W9A16", "W1A16", "W4A16_g0", "W4A16_g65536", "W4A16_g-1",
					   "W4A16_g99999999999999999999", "W4A16_g12x", "W4A16_gg", "W4A16x", "FP5", "W4A16_channel_actorder",
					   "W44A16", "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww", "\x1b[31m" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct bl_scheme s, before;
		struct bl_err err = BL_ERR_INIT;

		memset(&s, 0x5a, sizeof(s));
		before = s;
		if (bl_scheme_parse(&s, bad[i], &err) != BL_USAGE)
			fail_msg("\"%s\" is accepted", bad[i]);
		assert_memory_equal(&s, &before, sizeof(s));
		assert_non_null(strstr(err.text, "W4A16"));
		assert_null(strchr(err.text, '\x1b'));
	}
}

static void keys_and_numbers(void **state)
{
	char seen[8] = "";
	int n;
	const struct bl_scheme_row *row = bl_scheme_rows(&n);
	struct bl_scheme s = parsed("W4A16_g32");

	(void)state;
	for (int i = 0; i < n; i++) {
		assert_true(strlen(row[i].sentence) > 10);
		assert_true(strlen(row[i].key) <= 1);
		for (int j = 0; j < i; j++)
			assert_false(bl_scheme_equal(&row[i].scheme, &row[j].scheme));
		if (*row[i].key) {
			assert_null(strchr(seen, *row[i].key));
			strcat(seen, row[i].key);
		}
	}
	assert_string_equal(seen, "b84f");
	assert_int_equal(bl_scheme_scales_per_row(&s, 256), 8);
	assert_int_equal(bl_scheme_qmin(&s), -8);
	assert_int_equal(bl_scheme_qmax(&s), 7);
	s = parsed("W8A8");
	assert_int_equal(bl_scheme_scales_per_row(&s, 256), 1);
	assert_int_equal(bl_scheme_qmin(&s), -128);
	s = parsed("BF16");
	assert_int_equal(bl_scheme_scales_per_row(&s, 256), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_go_round),
		cmocka_unit_test(names_are_the_usual_ones),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(keys_and_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
