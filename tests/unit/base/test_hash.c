/* SPDX-License-Identifier: Apache-2.0
 * Digests against published vectors, CRC combination against one pass, the name table against itself. */
#include "tests/unit/base/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/rng.h"

static void sha256_vectors(void **state)
{
	static const struct { const char *text, *hex; } row[] = { /* FIPS 180-4 */
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	char hex[65], *million = malloc(1000000);
	struct bl_sha256 h, unused = { 0 };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		bl_sha256_of(row[i].text, strlen(row[i].text), hex);
		assert_string_equal(hex, row[i].hex);
	}
	memset(million, 'a', 1000000);
	bl_sha256_init(&h);
	for (size_t at = 0, n = 1; at < 1000000; at += n, n = n * 3 + 1) /* in pieces of many sizes */
		bl_sha256_add(&h, million + at, at + n > 1000000 ? 1000000 - at : n);
	bl_sha256_hex(&h, hex);
	assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
	bl_sha256_drop(&unused);
	bl_sha256_init(&h);
	bl_sha256_drop(&h);
}

static void crc(void **state)
{
	unsigned char data[5000];
	struct bl_rng r;
	uint32_t whole;

	(void)state;
	assert_int_equal(bl_crc32(0, "123456789", 9), 0xcbf43926u);
	assert_int_equal(bl_crc32(0x1234, NULL, 0), 0x1234);
	bl_rng_seed(&r, 3);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (unsigned char)bl_rng_u64(&r);
	whole = bl_crc32(0, data, sizeof data);
	for (size_t cut = 0; cut <= sizeof data; cut += 619) {
		uint32_t a = bl_crc32(0, data, cut), b = bl_crc32(0, data + cut, sizeof data - cut);

		assert_int_equal(bl_crc32(a, data + cut, sizeof data - cut), whole);
		assert_int_equal(bl_crc32_combine(a, b, sizeof data - cut), whole);
	}
	/* 5 GiB of zeros behind "a": beyond what 32-bit lengths hold */
	uint32_t z = bl_crc32(0, "\0", 1);
	uint64_t len = 1;
	for (int i = 0; i < 32; i++, len *= 2)
		z = bl_crc32_combine(z, z, len);
	uint32_t one_step = bl_crc32_combine(bl_crc32(0, "a", 1), z, len);
	uint32_t half = bl_crc32(0, "\0", 1);
	for (uint64_t l = 1; l < len / 2; l *= 2)
		half = bl_crc32_combine(half, half, l);
	assert_int_equal(bl_crc32_combine(bl_crc32_combine(bl_crc32(0, "a", 1), half, len / 2), half, len / 2), one_step);
}

static void fast_hash(void **state)
{
	char data[64] = { 0 };
	uint64_t seen[64];

	(void)state;
	for (size_t n = 0; n < 64; n++) { /* zeros of every length differ */
		seen[n] = bl_hash64(data, n);
		for (size_t k = 0; k < n; k++)
			assert_true(seen[k] != seen[n]);
	}
	for (size_t n = 1; n < 64; n++) /* every byte counts */
		for (size_t k = 0; k < n; k++) {
			data[k] = 1;
			assert_true(bl_hash64(data, n) != seen[n]);
			data[k] = 0;
		}
}

static void names(void **state)
{
	enum { N = 200000 };
	struct bl_names t, zero = { 0 };
	char (*text)[24] = calloc(N, sizeof *text);

	(void)state;
	bl_names_init(&t, 10); /* grows from there */
	for (int i = 0; i < N; i++) {
		snprintf(text[i], sizeof text[i], "layers.%d.w", i);
		assert_int_equal(bl_names_add(&t, text[i]), i);
	}
	for (int i = 0; i < N; i += 17) {
		assert_int_equal(bl_names_find(&t, text[i]), i);
		assert_int_equal(bl_names_add(&t, text[i]), -1 - i);
		assert_string_equal(t.names[i], text[i]);
	}
	assert_int_equal(t.n, N);
	assert_int_equal(bl_names_find(&t, "layers"), -1);
	assert_int_equal(bl_names_find(&zero, "x"), -1);
	assert_int_equal(bl_names_add(&zero, "x"), 0);
	assert_int_equal(bl_names_add(&zero, ""), 1);
	assert_int_equal(bl_names_find(&zero, ""), 1);
	bl_names_free(&t);
	bl_names_free(&zero);
	bl_names_free(&zero);
	free(text);
}

/* Stored in files: these values may never change. Every byte, the length and where pieces end count. */
static void sums(void **state)
{
	enum { N = 1000 };
	uint8_t data[N];
	struct bl_sum zero = { 0, 0 }, whole, s;

	(void)state;
	for (int i = 0; i < N; i++)
		data[i] = (uint8_t)(i * 37 + i / 100);
	whole = bl_sum_add(zero, data, N);
	assert_int_equal(whole.a, 0x1d7587c09cfff762u);
	assert_int_equal(whole.b, 0xd2dc18f4f6fa17cau);
	for (int i = 0; i < N; i++)
		for (int bit = 0; bit < 8; bit += 5) {
			data[i] ^= (uint8_t)(1u << bit);
			s = bl_sum_add(zero, data, N);
			assert_true(s.a != whole.a && s.b != whole.b);
			data[i] ^= (uint8_t)(1u << bit);
		}
	memset(data, 0, N);
	for (size_t n = 1; n < N; n++) {
		struct bl_sum longer = bl_sum_add(zero, data, n);

		s = bl_sum_add(zero, data, n - 1);
		assert_true(s.a != longer.a && s.b != longer.b);
	}
	s = bl_sum_add(bl_sum_add(zero, data, 10), data + 10, 10);
	whole = bl_sum_add(zero, data, 20);
	assert_true(s.a != whole.a && s.b != whole.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sha256_vectors), cmocka_unit_test(crc), cmocka_unit_test(fast_hash), cmocka_unit_test(sums), cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
