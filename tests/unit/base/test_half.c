/* SPDX-License-Identifier: Apache-2.0
 * Small floats, exhaustively: every code survives the round trip, and every float near a rounding boundary goes to the
 * nearest value (ties to the even code) according to a search over all codes in double. */
#include "tests/unit/base/support.h"

#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/rng.h"

/* The obvious decoder: any exponent and mantissa width. */
static double decode(unsigned v, int ebits, int mbits, int bias)
{
	unsigned m = v & ((1u << mbits) - 1), e = v >> mbits & ((1u << ebits) - 1);
	double x = e ? ldexp(1.0 + ldexp(m, -mbits), (int)e - bias) : ldexp(m, 1 - bias - mbits);

	return v >> (ebits + mbits) & 1 ? -x : x;
}

/* Nearest of the magnitudes 0..top (monotone in the code); ties to the even code. */
static unsigned nearest(double a, unsigned top, int ebits, int mbits, int bias)
{
	unsigned lo = 0, hi = top;
	double dl, dh;

	while (hi - lo > 1) {
		unsigned mid = (lo + hi) / 2;

		if (decode(mid, ebits, mbits, bias) <= a)
			lo = mid;
		else
			hi = mid;
	}
	dl = a - decode(lo, ebits, mbits, bias);
	dh = decode(hi, ebits, mbits, bias) - a;
	return dl < dh || (dl == dh && lo % 2 == 0) ? lo : hi;
}

static void f16_every_code(void **state)
{
	(void)state;
	for (unsigned v = 0; v < 65536; v++) {
		float f = bl_f16_f32((uint16_t)v);

		if ((v & 0x7fff) > 0x7c00) {
			assert_true(isnan(f));
			assert_true((bl_f32_f16(f) & 0x7fff) > 0x7c00);
			assert_int_equal(bl_f32_f16(f) & 0x8000, v & 0x8000);
			continue;
		}
		if ((v & 0x7fff) == 0x7c00)
			assert_true(isinf(f));
		else
			assert_true((double)f == decode(v, 5, 10, 15));
		assert_int_equal(bl_f32_f16(f), v);
	}
}

static void check_f16(float f)
{
	unsigned want = fabsf(f) >= 65520.0f ? 0x7c00 : nearest(fabs((double)f), 0x7c00, 5, 10, 15);

	if (bl_f32_bits(f) >> 31)
		want |= 0x8000;
	if (bl_f32_f16(f) != want)
		fail_msg("%a: 0x%04x, not 0x%04x", (double)f, bl_f32_f16(f), want);
}

static void f16_boundaries(void **state)
{
	struct bl_rng r;

	(void)state;
	for (unsigned v = 0; v < 0x7c00; v++) {
		float mid = (float)((decode(v, 5, 10, 15) + decode(v + 1, 5, 10, 15)) / 2);

		check_f16(mid);
		check_f16(nextafterf(mid, 0));
		check_f16(nextafterf(mid, INFINITY));
		check_f16(-mid);
	}
	bl_rng_seed(&r, 1);
	for (int i = 0; i < 200000; i++) {
		float f = bl_bits_f32((uint32_t)bl_rng_u64(&r));

		if (isfinite(f))
			check_f16(f);
	}
	assert_int_equal(bl_f32_f16(INFINITY), 0x7c00);
	assert_int_equal(bl_f32_f16(-INFINITY), 0xfc00);
	assert_int_equal(bl_f32_f16(65519.996f), 0x7bff);
	assert_int_equal(bl_f32_f16(65520.0f), 0x7c00);
}

static void bf16_every_code(void **state)
{
	(void)state;
	for (unsigned v = 0; v < 65536; v++) {
		float f = bl_bf16_f32((uint16_t)v);

		if (isnan(f)) {
			assert_int_equal(bl_f32_bf16(f), v | 0x40);
			continue;
		}
		assert_int_equal(bl_f32_bf16(f), v);
		if ((v & 0x7fff) < 0x7f80) { /* the tie to the next code goes to the even one, its neighbours do not tie */
			uint32_t tie = v << 16 | 0x8000;

			assert_int_equal(bl_f32_bf16(bl_bits_f32(tie)), v + (v & 1));
			assert_int_equal(bl_f32_bf16(bl_bits_f32(tie - 1)), v);
			assert_int_equal(bl_f32_bf16(bl_bits_f32(tie + 1)), v + 1);
		}
	}
	assert_true(isnan(bl_round_bf16(bl_bits_f32(0x7f800001))));
	assert_true(bl_round_bf16(1.0f / 448) == 0.002227783203125f);
	assert_int_equal(bl_f32_bf16(1.0f / 448), 0x3b12);
}

static void e4m3_every_code(void **state)
{
	static const struct { float f; uint8_t v; } check[] = {
		{ 1.0f, 0x38 }, { 0.5f, 0x30 }, { -2.0f, 0xc0 }, { 448.0f, 0x7e }, { 0x1p-6f, 0x08 }, { 0x1p-9f, 0x01 },
		{ 448.88f, 0x7e }, { -224.44f, 0xf6 }, { 134.66f, 0x70 }, { 4.489f, 0x49 }, { 1e30f, 0x7e }, { -1e30f, 0xfe },
		{ 0.0f, 0x00 }, { -0.0f, 0x80 }, { 0x1p-10f, 0x00 }, { -0x1p-10f, 0x80 },
	};

	(void)state;
	for (unsigned v = 0; v < 256; v++) {
		float f = bl_e4m3_f32((uint8_t)v);

		if ((v & 0x7f) == 0x7f) {
			assert_true(isnan(f));
			continue;
		}
		assert_true((double)f == decode(v, 4, 3, 7));
		assert_int_equal(bl_f32_e4m3(f), v);
	}
	for (size_t i = 0; i < sizeof check / sizeof *check; i++)
		assert_int_equal(bl_f32_e4m3(check[i].f), check[i].v);
	assert_int_equal(bl_f32_e4m3(NAN), 0x7f);
	assert_int_equal(bl_f32_e4m3(-NAN), 0x7f);
	assert_int_equal(bl_f32_e4m3(INFINITY), 0x7e);
	assert_int_equal(bl_f32_e4m3(-INFINITY), 0xfe);
}

static void check_e4m3(float f)
{
	unsigned want = fabsf(f) >= 448.0f ? 0x7e : nearest(fabs((double)f), 0x7e, 4, 3, 7);

	if (bl_f32_bits(f) >> 31)
		want |= 0x80;
	if (bl_f32_e4m3(f) != want)
		fail_msg("%a: 0x%02x, not 0x%02x", (double)f, bl_f32_e4m3(f), want);
}

static void e4m3_boundaries(void **state)
{
	struct bl_rng r;

	(void)state;
	for (unsigned v = 0; v < 0x7e; v++) {
		float mid = (float)((decode(v, 4, 3, 7) + decode(v + 1, 4, 3, 7)) / 2);

		check_e4m3(mid);
		check_e4m3(-mid);
		check_e4m3(nextafterf(mid, 0));
		check_e4m3(nextafterf(mid, INFINITY));
	}
	bl_rng_seed(&r, 2);
	for (int i = 0; i < 300000; i++) {
		/* exponents around the format's range, any mantissa, any sign */
		uint32_t u = (uint32_t)bl_rng_u64(&r);

		check_e4m3(bl_bits_f32((u & 0x807fffffu) | (105u + (u >> 23 & 31)) << 23));
	}
}

static void e2m1_rules(void **state)
{
	static const float value[8] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };
	static const float last[7] = { 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f }; /* boundary above each code */
	static const float block[8] = { 0, 0.5f, -1, 1.5f, 2, -3, 4, 6 };
	static const uint8_t codes[8] = { 0, 1, 0xa, 3, 4, 0xd, 6, 7 };

	(void)state;
	for (unsigned v = 0; v < 8; v++) {
		assert_true(bl_e2m1_f32((uint8_t)v) == value[v]);
		assert_true(bl_e2m1_f32((uint8_t)(v | 8)) == -value[v]);
		assert_int_equal(bl_f32_e2m1(value[v]), v);
		assert_int_equal(bl_f32_e2m1(-value[v]), v | 8);
		assert_int_equal(bl_f32_e2m1(block[v]), codes[v]);
	}
	for (unsigned v = 0; v < 7; v++) {
		assert_int_equal(bl_f32_e2m1(nextafterf(last[v], 0)), v);
		assert_int_equal(bl_f32_e2m1(last[v]), v % 2 ? v + 1 : v); /* a tie goes to the even code */
		assert_int_equal(bl_f32_e2m1(-last[v]), (v % 2 ? v + 1 : v) | 8);
		assert_int_equal(bl_f32_e2m1(nextafterf(last[v], 9)), v + 1);
	}
	assert_int_equal(bl_f32_e2m1(1e30f), 7);
	assert_int_equal(bl_f32_e2m1(-INFINITY), 15);
	assert_int_equal(bl_f32_e2m1(NAN) & 7, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(f16_every_code), cmocka_unit_test(f16_boundaries), cmocka_unit_test(bf16_every_code),
		cmocka_unit_test(e4m3_every_code), cmocka_unit_test(e4m3_boundaries), cmocka_unit_test(e2m1_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
