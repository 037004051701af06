/* SPDX-License-Identifier: Apache-2.0
 * Packing: words worked out by hand, every width and odd lengths both ways, neighbours of the words left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/scheme/pack.h"

static void known_words(void **state)
{
	const int8_t four[8] = { -8, -1, 0, 1, 2, 3, 7, 4 }, eight[4] = { -128, -1, 0, 127 };
	const int8_t zeros[8] = { -3, 0, 7, -8, 1, 2, 3, 4 }, three[11] = { -4, -3, -2, -1, 0, 1, 2, 3, -4, 3, 3 };
	uint32_t w[2] = { 0xdeadbeef, 0xdeadbeef };

	(void)state;
	bl_pack_row(w, four, 8, 4);
	assert_int_equal(w[0], 0xCFBA9870);
	assert_int_equal(w[1], 0xdeadbeef);
	bl_pack_row(w, eight, 4, 8);
	assert_int_equal(w[0], 0xFF807F00);
	bl_pack_zeros(w, zeros, 8, 1, 4);
	assert_int_equal(w[0], 0xCBA90F85);
	assert_int_equal(w[1], 0xdeadbeef);
	/* 0..7, 0, 7, 7 in 3 bits: the last code starts at bit 30 and crosses into the second word */
	bl_pack_row(w, three, 11, 3);
	assert_int_equal(w[0], 0xF8FAC688);
	assert_int_equal(w[1], 0x1);
}

static void sizes(void **state)
{
	(void)state;
	assert_int_equal(bl_pack_words(0, 4), 0);
	assert_int_equal(bl_pack_words(1, 4), 1);
	assert_int_equal(bl_pack_words(8, 4), 1);
	assert_int_equal(bl_pack_words(9, 4), 2);
	assert_int_equal(bl_pack_words(32, 3), 3);
	assert_int_equal(bl_pack_words(33, 3), 4);
	assert_int_equal(bl_pack_words(256, 7), 56);
	assert_int_equal(bl_pack_words(INT64_C(1) << 40, 8), INT64_C(1) << 38);
}

/* The obvious packing: bit by bit. */
static void slow_pack(uint32_t *words, const int8_t *codes, int64_t n, int bits)
{
	for (int64_t i = 0; i < n; i++)
		for (int b = 0; b < bits; b++) {
			int64_t at = i * bits + b;

			if ((unsigned)(codes[i] + (1 << (bits - 1))) >> b & 1)
				words[at / 32] |= 1u << at % 32;
		}
}

static void all_widths_and_lengths(void **state)
{
	(void)state;
	srand(3);
	for (int bits = 2; bits <= 8; bits++)
		for (int n = 0; n <= 130; n++) {
			int8_t codes[132], back[132];
			uint32_t words[40], slow[40] = { 0 };
			int64_t used = bl_pack_words(n, bits);

			for (int i = 0; i < n; i++)
				codes[i] = (int8_t)(rand() % (1 << bits) - (1 << (bits - 1)));
			memset(words, 0x77, sizeof(words));
			memset(back, 0x55, sizeof(back));
			bl_pack_row(words, codes, n, bits);
			slow_pack(slow, codes, n, bits);
			assert_int_equal(used, (n * bits + 31) / 32);
			assert_memory_equal(words, slow, (size_t)used * 4);
			assert_int_equal(words[used], 0x77777777);
			bl_unpack_row(back, words, n, bits);
			if (n)
				assert_memory_equal(back, codes, (size_t)n);
			assert_int_equal(back[n], 0x55);
		}
}

static void zero_points_of_odd_shapes(void **state)
{
	(void)state;
	srand(5);
	for (int bits = 2; bits <= 8; bits++)
		for (int rows = 1; rows <= 70; rows += 3)
			for (int groups = 1; groups <= 5; groups++) {
				int8_t zp[70 * 5], back[70 * 5], column[70];
				uint32_t words[18 * 5], slow[18];
				int64_t used = bl_pack_words(rows, bits);

				for (int i = 0; i < rows * groups; i++)
					zp[i] = (int8_t)(rand() % (1 << bits) - (1 << (bits - 1)));
				bl_pack_zeros(words, zp, rows, groups, bits);
				for (int g = 0; g < groups; g++) {
					memset(slow, 0, sizeof(slow));
					for (int r = 0; r < rows; r++)
						column[r] = zp[r * groups + g];
					slow_pack(slow, column, rows, bits);
					for (int64_t k = 0; k < used; k++)
						assert_int_equal(words[k * groups + g], slow[k]);
				}
				bl_unpack_zeros(back, words, rows, groups, bits);
				assert_memory_equal(back, zp, (size_t)(rows * groups));
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_words),
		cmocka_unit_test(sizes),
		cmocka_unit_test(all_widths_and_lengths),
		cmocka_unit_test(zero_points_of_odd_shapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
