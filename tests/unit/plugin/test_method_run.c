/* SPDX-License-Identifier: Apache-2.0
 * Solving rows: any split gives the same bytes, the non-finite policy names the place, the weight error is the plain double sum, all
 * three types on disk work, wrong requests are refused, and the mse observer does what it promises. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"

struct linear { /* of any type, at an odd address */
	struct bl_tensor t;
	struct bl_member m;
	char bytes[4 * 64 * 256 + 1];
};

static struct bl_member *linear_of(struct linear *l, enum bl_dtype d, const float *w, int64_t rows, int64_t cols)
{
	char *p = l->bytes + 1;

	for (int64_t i = 0; i < rows * cols; i++) {
		uint16_t h = d == BL_BF16 ? bl_f32_bf16(w[i]) : bl_f32_f16(w[i]);

		if (d == BL_F32)
			memcpy(p + 4 * i, &w[i], 4);
		else
			memcpy(p + 2 * i, &h, 2);
	}
	l->t = (struct bl_tensor){ .name = "blk.weight", .dtype = d, .rank = 2, .shape = { rows, cols }, .n_elems = rows * cols, .data = p };
	l->m = (struct bl_member){ .name = (char *)"blk", .weight = &l->t, .rows = rows, .cols = cols };
	return &l->m;
}

static void init(struct bl_solver *s, const struct bl_registry *r, const char *scheme, const char *params, bool zero)
{
	struct bl_scheme sc;

	OK(bl_scheme_parse(&sc, scheme, &err));
	OK(bl_solver_init(s, r, &sc, "rtn", params, zero, &err));
}

static void splits_do_not_matter(void **state)
{
	static const char *const rows[][2] = { { "W8A8", "" }, { "W4A16_g32", "observer=mse" }, { "W4A16_ASYM", "observer=mse,maxshrink=0.5" },
					       { "FP8_DYNAMIC", "" }, { "W3A16", "observer=mse,norm=2" } };
	struct bl_registry r;
	struct bl_st demo;
	char name[128];
	struct bl_member m;

	(void)state;
	open_registry(&r);
	open_demo(&demo);
	m = member_of(&demo, "mlp.down_proj", name);
	for (size_t i = 0; i < 5; i++) {
		struct bl_solver s;
		struct solved a, b;

		init(&s, &r, rows[i][0], rows[i][1], false);
		solve_all(&a, &s, &m, m.rows);
		for (int64_t step = 1; step < m.rows; step = step * 5 + 2) {
			solve_all(&b, &s, &m, step);
			assert_memory_equal(a.codes, b.codes, (size_t)(a.rows * a.cols));
			assert_memory_equal(a.scales, b.scales, (size_t)(a.rows * a.spr) * 4);
			if (a.zeros)
				assert_memory_equal(a.zeros, b.zeros, (size_t)(a.rows * a.spr));
			solved_free(&b);
		}
		solved_free(&a);
		bl_solver_fini(&s);
	}
	bl_st_close(&demo);
	bl_registry_close(&r);
}

static void nonfinite_is_named_or_zeroed(void **state)
{
	enum { ROWS = 40, COLS = 128 };
	static const enum bl_dtype types[] = { BL_BF16, BL_F16, BL_F32 };
	static float w[ROWS * COLS];
	static struct linear l;
	struct bl_registry r;

	(void)state;
	open_registry(&r);
	for (int t = 0; t < 3; t++) {
		struct bl_solver strict, lenient;
		struct bl_rows_buf b = { 0 };
		struct bl_err refusal = BL_ERR_INIT;
		struct bl_member *m;

		for (int i = 0; i < ROWS * COLS; i++)
			w[i] = (float)(i % 17 - 8);
		w[17 * COLS + 100] = NAN;
		w[17 * COLS + 101] = -INFINITY;
		m = linear_of(&l, types[t], w, ROWS, COLS);
		init(&strict, &r, "W4A16", "", false);
		init(&lenient, &r, "W4A16", "", true);
		assert_int_equal(bl_solve_rows(&strict, m, 10, 30, &b, &refusal), BL_INVALID);
		assert_string_equal(refusal.text, "blk.weight: NaN at [17,100]; fix the checkpoint or store zeros (allow-nonfinite)");
		OK(bl_solve_rows(&strict, m, 18, 22, &b, &err));
		OK(bl_solve_rows(&lenient, m, 17, 1, &b, &err));
		assert_int_equal(b.codes[100], 0);
		assert_int_equal(b.codes[101], 0);
		assert_int_equal(b.codes[102], (int)rintf((float)((17 * COLS + 102) % 17 - 8) / b.scales[0]));
		w[17 * COLS + 100] = 0;
		bl_err_clear(&refusal);
		assert_int_equal(bl_solve_rows(&strict, linear_of(&l, types[t], w, ROWS, COLS), 0, ROWS, &b, &refusal), BL_INVALID);
		assert_string_equal(refusal.text, "blk.weight: -Inf at [17,101]; fix the checkpoint or store zeros (allow-nonfinite)");
		bl_rows_buf_free(&b);
		bl_solver_fini(&strict);
		bl_solver_fini(&lenient);
	}
	bl_registry_close(&r);
}

static void error_is_the_double_sum(void **state)
{
	enum { ROWS = 50, COLS = 256 };
	static const enum bl_dtype types[] = { BL_BF16, BL_F16, BL_F32 };
	static float w[ROWS * COLS], y[ROWS * COLS];
	static struct linear l;
	struct bl_registry r;

	(void)state;
	open_registry(&r);
	for (int i = 0; i < ROWS * COLS; i++)
		w[i] = bl_round_bf16(0.02f * sinf((float)i * 0.7f) + 0.001f * (float)(i % 13)); /* exact in all three but F16 */
	for (int t = 0; t < 3; t++) {
		struct bl_solver s;
		struct bl_rows_buf b = { 0 };
		struct bl_member *m = linear_of(&l, types[t], w, ROWS, COLS);
		double w2 = -1, e2 = -1, want_w = 0, want_e = 0;

		init(&s, &r, "W4A16_ASYM_g64", "", false);
		OK(bl_solve_rows_error(&s, m, 3, 41, &b, &w2, &e2, &err));
		r.host.decode(y, b.codes, b.scales, b.zeros, 41, COLS, &s.grid);
		for (int i = 0; i < 41 * COLS; i++) {
			float x = w[3 * COLS + i];
			double d;

			x = types[t] == BL_F16 ? bl_f16_f32(bl_f32_f16(x)) : x;
			d = (double)x - y[i];
			want_w += (double)x * x;
			want_e += d * d;
		}
		assert_true(fabs(w2 - want_w) <= 1e-12 * want_w);
		assert_true(fabs(e2 - want_e) <= 1e-12 * want_e);
		assert_true(e2 > 0 && e2 < 0.02 * w2);
		bl_rows_buf_free(&b);
		bl_solver_fini(&s);
	}
	bl_registry_close(&r);
}

/* For norm 2 the search must not lose against minmax, and must find what trying all ranges finds. */
static void mse_finds_the_best_range(void **state)
{
	struct bl_registry r;
	struct bl_st demo;
	char name[128];
	struct bl_member m;
	struct bl_solver plain, mse;
	struct bl_rows_buf a = { 0 }, b = { 0 };
	int better = 0;

	(void)state;
	open_registry(&r);
	open_demo(&demo);
	m = member_of(&demo, "self_attn.q_proj", name);
	init(&plain, &r, "W4A16_g64", "", false);
	init(&mse, &r, "W4A16_g64", "observer=mse,norm=2,maxshrink=0.3,grid=50", false);
	for (int64_t row = 0; row < 64; row++) {
		double w2, e_plain, e_mse;
		float w[256], lo[4], hi[4], s[4], e[4], best[4] = { INFINITY, INFINITY, INFINITY, INFINITY }, best_s[4] = { 0 };

		OK(bl_solve_rows_error(&plain, &m, row, 1, &a, &w2, &e_plain, &err));
		OK(bl_solve_rows_error(&mse, &m, row, 1, &b, &w2, &e_mse, &err));
		assert_true(e_mse <= e_plain * (1 + 1e-6));
		better += e_mse < e_plain * 0.99;
		for (int k = 0; k < 256; k++) {
			uint16_t h;

			memcpy(&h, (const char *)m.weight->data + 2 * (row * 256 + k), 2);
			w[k] = bl_bf16_f32(h);
		}
		r.host.range(lo, hi, w, 1, 256, &plain.grid);
		for (int i = 0; i < 15; i++) {
			r.host.scales(s, NULL, lo, hi, 4, 1 - i / 50.0, &plain.grid);
			r.host.error(e, w, s, NULL, 1, 256, &plain.grid, BL_QUOTIENT_BF16, 2);
			for (int g = 0; g < 4; g++)
				if (e[g] < best[g]) {
					best[g] = e[g];
					best_s[g] = s[g];
				}
		}
		assert_memory_equal(best_s, b.scales, sizeof(best_s));
	}
	assert_true(better > 10);
	bl_rows_buf_free(&a);
	bl_rows_buf_free(&b);
	bl_solver_fini(&plain);
	bl_solver_fini(&mse);
	bl_st_close(&demo);
	bl_registry_close(&r);
}

static void wrong_requests(void **state)
{
	static float w[8 * 48];
	static struct linear l;
	struct bl_registry r;
	struct bl_scheme sc = BL_SCHEME_FULL;
	struct bl_solver s = { 0 };
	struct bl_rows_buf b = { 0 };
	struct bl_member *m = linear_of(&l, BL_BF16, w, 8, 48), none;
	struct bl_err refusal = BL_ERR_INIT;

	(void)state;
	open_registry(&r);
	assert_int_equal(bl_solver_init(&s, &r, &sc, "rtn", "", false, &refusal), BL_INVALID);
	assert_null(s.method);
	bl_err_clear(&refusal);
	OK(bl_scheme_parse(&sc, "W4A16", &err));
	assert_int_equal(bl_solver_init(&s, &r, &sc, "magic", "", false, &refusal), BL_NOT_FOUND);
	assert_non_null(strstr(refusal.text, "rtn"));
	bl_err_clear(&refusal);
	assert_int_equal(bl_solver_init(&s, &r, &sc, "rtn", "norm=99", false, &refusal), BL_USAGE);
	bl_err_clear(&refusal);
	init(&s, &r, "W4A16", "", false);
	assert_int_equal(bl_solve_rows(&s, m, 0, 8, &b, &refusal), BL_INVALID); /* 48 % 128 */
	assert_non_null(strstr(refusal.text, "48 columns"));
	bl_solver_fini(&s);
	init(&s, &r, "W4A16_g16", "", false);
	for (int i = 0; i < 3; i++) {
		static const int64_t bad[3][2] = { { -1, 2 }, { 7, 2 }, { 0, INT64_MAX } };

		bl_err_clear(&refusal);
		assert_int_equal(bl_solve_rows(&s, m, bad[i][0], bad[i][1], &b, &refusal), BL_INVALID);
	}
	OK(bl_solve_rows(&s, m, 8, 0, &b, &err));
	none = *m;
	none.weight = NULL;
	bl_err_clear(&refusal);
	assert_int_equal(bl_solve_rows(&s, &none, 0, 1, &b, &refusal), BL_INVALID);
	l.t.dtype = BL_I8;
	bl_err_clear(&refusal);
	assert_int_equal(bl_solve_rows(&s, m, 0, 1, &b, &refusal), BL_UNSUPPORTED);
	l.t.dtype = BL_BF16;
	/* memory runs out: a status, and the buffers are still usable */
	bl_rows_buf_free(&b);
	for (uint64_t nth = 1; nth <= 4; nth++) {
		bl_err_clear(&refusal);
		bl_mem_fail_at(nth);
		assert_int_equal(bl_solve_rows(&s, m, 0, 8, &b, &refusal), BL_NO_MEMORY);
		bl_mem_fail_at(0);
		bl_rows_buf_free(&b);
	}
	OK(bl_solve_rows(&s, m, 0, 8, &b, &err));
	bl_rows_buf_free(&b);
	bl_solver_fini(&s);
	bl_registry_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_do_not_matter),
		cmocka_unit_test(nonfinite_is_named_or_zeroed),
		cmocka_unit_test(error_is_the_double_sum),
		cmocka_unit_test(mse_finds_the_best_range),
		cmocka_unit_test(wrong_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
