/* SPDX-License-Identifier: Apache-2.0
 * HQQ: in its own norm no group is worse than rounded plainly, and most are better; without iterations it is plain rounding; rows do not depend on how they are
 * split; zero points stay on the grid; what has no integers is refused. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"

static struct bl_registry r;
static struct bl_st demo;

static int set_up(void **state)
{
	(void)state;
	open_registry(&r);
	open_demo(&demo);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	bl_st_close(&demo);
	bl_registry_close(&r);
	return 0;
}

static void solve(struct solved *out, const struct bl_member *m, const char *scheme, const char *method, const char *params, int64_t step)
{
	struct bl_solver s;
	struct bl_scheme sc;

	OK(bl_scheme_parse(&sc, scheme, &err));
	OK(bl_solver_init(&s, &r, &sc, method, params, false, &err));
	solve_all(out, &s, m, step);
	bl_solver_fini(&s);
}

static double error_of(const struct bl_member *m, const struct solved *s, int64_t group, double p)
{
	const int64_t width = s->cols / s->spr;
	double sum = 0;

	for (int64_t k = group * width; k < (group + 1) * width; k++) {
		const double w = bl_bf16_f32(((const uint16_t *)m->weight->data)[k]), z = s->zeros ? s->zeros[group] : 0;
		const double d = fabs(w - (s->codes[k] - z) * s->scales[group]);

		sum += d > 0 ? pow(d, p) : 0;
	}
	return sum;
}

static const char *const schemes[] = { "W4A16", "W3A16", "W4A16_ASYM", "W4A16_ASYM_g32", "W8A16_channel", "W2A16_ASYM" };
#define SCHEMES ((int)(sizeof schemes / sizeof schemes[0]))

static void no_group_is_worse_than_plain(void **state)
{
	static const struct { const char *params; double p; } rows[] = { { "", 0.7 }, { "lp_norm=1,beta=1", 1 }, { "moves=zero", 0.7 }, { "moves=scale", 0.7 }, { "lp_norm=2,starts=4", 2 } };
	char name[128];
	const struct bl_member m = member_of(&demo, "self_attn.o_proj", name);

	(void)state;
	for (int i = 0; i < SCHEMES; i++)
		for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
			struct solved plain, s;
			double all = 0, all_plain = 0;
			int64_t n;

			solve(&plain, &m, schemes[i], "rtn", "quotient=f32", m.rows);
			solve(&s, &m, schemes[i], "hqq", rows[k].params, m.rows);
			n = s.rows * s.spr;
			for (int64_t g = 0; g < n; g++) {
				const double e = error_of(&m, &s, g, rows[k].p), e0 = error_of(&m, &plain, g, rows[k].p);

				assert_true(e <= e0 * (1 + 1e-5));
				assert_true(s.scales[g] > 0 && bl_bf16_f32(bl_f32_bf16(s.scales[g])) == s.scales[g]);
				all += e;
				all_plain += e0;
			}
			if (k == 0 && i != 4) /* with 8 bits there is nothing to gain */
				assert_true(all < 0.995 * all_plain);
			solved_free(&plain);
			solved_free(&s);
		}
}

static void without_iterations_it_is_plain(void **state)
{
	char name[128];
	const struct bl_member m = member_of(&demo, "mlp.down_proj", name);

	(void)state;
	for (int i = 0; i < SCHEMES; i++) {
		struct solved plain, s;

		solve(&plain, &m, schemes[i], "rtn", "quotient=f32", m.rows);
		solve(&s, &m, schemes[i], "hqq", "iters=0", m.rows);
		assert_memory_equal(plain.codes, s.codes, (size_t)(s.rows * s.cols));
		assert_memory_equal(plain.scales, s.scales, (size_t)(s.rows * s.spr) * 4);
		if (s.zeros)
			assert_memory_equal(plain.zeros, s.zeros, (size_t)(s.rows * s.spr));
		solved_free(&plain);
		solved_free(&s);
	}
}

static void splits_do_not_matter(void **state)
{
	char name[128];
	const struct bl_member m = member_of(&demo, "self_attn.k_proj", name);

	(void)state;
	for (int i = 0; i < SCHEMES; i++) {
		struct solved a, b;

		solve(&a, &m, schemes[i], "hqq", "starts=3", m.rows);
		for (int64_t step = 1; step < m.rows; step = step * 9 + 2) {
			solve(&b, &m, schemes[i], "hqq", "starts=3", step);
			assert_memory_equal(a.codes, b.codes, (size_t)(a.rows * a.cols));
			assert_memory_equal(a.scales, b.scales, (size_t)(a.rows * a.spr) * 4);
			if (a.zeros)
				assert_memory_equal(a.zeros, b.zeros, (size_t)(a.rows * a.spr));
			solved_free(&b);
		}
		solved_free(&a);
	}
}

/* Zeros, one value, an outlier, the largest numbers: finite scales, zero points on the grid. */
static void extremes(void **state)
{
	enum { ROWS = 5, COLS = 128 };
	uint16_t w[ROWS * COLS];
	struct bl_tensor t = { .name = "blk.weight", .dtype = BL_BF16, .rank = 2, .shape = { ROWS, COLS }, .n_elems = ROWS * COLS, .data = w };
	const struct bl_member m = { .name = (char *)"blk", .weight = &t, .rows = ROWS, .cols = COLS };

	(void)state;
	for (int k = 0; k < COLS; k++) {
		w[k] = 0;
		w[COLS + k] = bl_f32_bf16(0.25f);
		w[2 * COLS + k] = bl_f32_bf16(k == 9 ? 1e4f : 0.01f * (float)(k % 9 - 4));
		w[3 * COLS + k] = bl_f32_bf16(k % 2 ? 3e38f : -1e38f);
		w[4 * COLS + k] = bl_f32_bf16(k % 2 ? 1e-38f : -3e-39f);
	}
	for (int i = 0; i < SCHEMES; i++) {
		struct solved s;

		solve(&s, &m, schemes[i], "hqq", "starts=4", ROWS);
		for (int64_t g = 0; g < s.rows * s.spr; g++) {
			assert_true(isfinite(s.scales[g]) && s.scales[g] > 0);
			if (s.zeros)
				assert_true(s.zeros[g] >= -8 && s.zeros[g] <= 7);
		}
		for (int k = 0; k < COLS; k++)
			assert_true(s.zeros ? s.codes[k] == s.zeros[k / (COLS / s.spr)] : s.codes[k] == 0);
		solved_free(&s);
	}
}

static void integers_alone(void **state)
{
	const struct bl_method *m = bl_registry_method(&r, "hqq");
	struct bl_grid g = { .number = BL_GRID_E4M3, .bits = 8, .symmetric = 1 };

	(void)state;
	assert_non_null(m);
	assert_non_null(m->refuses(&g, 8, 8));
	g.number = BL_GRID_INT;
	assert_null(m->refuses(&g, 8, 8));
	g.group = 3;
	assert_non_null(m->refuses(&g, 8, 8));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_group_is_worse_than_plain), cmocka_unit_test(without_iterations_it_is_plain), cmocka_unit_test(splits_do_not_matter),
		cmocka_unit_test(extremes),                     cmocka_unit_test(integers_alone),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
