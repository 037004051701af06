/* SPDX-License-Identifier: Apache-2.0
 * The front against trying everything, on small random cases; against the plain table of budgets on larger ones; what thinning promises; what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/plan/knapsack.h"

#define MOST 5

struct problem { int n_items, n_options[64], n; struct bl_knapsack_option o[64 * MOST]; };

static void make(struct problem *p, struct bl_rng *rng, int n_items, int options, uint64_t largest)
{
	p->n_items = n_items;
	p->n = 0;
	for (int i = 0; i < n_items; i++) {
		p->n_options[i] = 1 + (int)(bl_rng_u64(rng) % (uint64_t)options);
		for (int j = 0; j < p->n_options[i]; j++)
			p->o[p->n++] = (struct bl_knapsack_option){bl_rng_u64(rng) % largest, (double)(bl_rng_u64(rng) % 1000) / 999.0};
	}
}

/* Of a choice; checks that each option exists. */
static struct bl_knapsack_option sum(const struct problem *p, const int *choice)
{
	struct bl_knapsack_option all = {0, 0};
	const struct bl_knapsack_option *o = p->o;

	for (int i = 0; i < p->n_items; o += p->n_options[i++]) {
		assert_in_range(choice[i], 0, p->n_options[i] - 1);
		all.cost += o[choice[i]].cost;
		all.loss += o[choice[i]].loss;
	}
	return all;
}

static double try_all(const struct problem *p, uint64_t budget)
{
	int choice[8] = {0};
	double best = INFINITY;

	for (;;) {
		struct bl_knapsack_option s = sum(p, choice);
		int i = 0;
		if (s.cost <= budget && s.loss < best)
			best = s.loss;
		while (i < p->n_items && ++choice[i] == p->n_options[i])
			choice[i++] = 0;
		if (i == p->n_items)
			return best;
	}
}

static double found(const struct problem *p, const struct bl_knapsack *k, uint64_t budget)
{
	int choice[64], at = bl_knapsack_within(k, budget);

	if (at < 0)
		return INFINITY;
	bl_knapsack_choice(k, at, choice);
	struct bl_knapsack_option s = sum(p, choice), said = bl_knapsack_at(k, at);
	assert_true(s.cost == said.cost && s.cost <= budget);
	assert_true(fabs(s.loss - said.loss) < 1e-9);
	return s.loss;
}

static void against_all(void **state)
{
	struct bl_rng rng;
	struct bl_err err = BL_ERR_INIT;
	struct problem p;
	struct bl_knapsack *k;

	(void)state;
	bl_rng_seed(&rng, 11);
	for (int turn = 0; turn < 300; turn++) {
		make(&p, &rng, 1 + turn % 7, MOST, turn % 2 ? 12 : 1000);
		assert_int_equal(bl_knapsack_solve(&k, p.o, p.n_options, p.n_items, 0, &err), BL_OK);
		assert_true(bl_knapsack_exact(k));
		for (uint64_t budget = 0; budget < 7000; budget = budget < 90 ? budget + 1 : budget * 2) {
			double want = try_all(&p, budget), got = found(&p, k, budget);
			if (!(got == want || fabs(got - want) < 1e-9))
				fail_msg("turn %d, budget %d: %g, not %g", turn, (int)budget, got, want);
		}
		for (int i = 1; i < bl_knapsack_n(k); i++)
			assert_true(bl_knapsack_at(k, i).cost > bl_knapsack_at(k, i - 1).cost && bl_knapsack_at(k, i).loss < bl_knapsack_at(k, i - 1).loss);
		bl_knapsack_free(k);
	}
}

/* table[b]: the least loss that costs at most b. */
static double by_table(const struct problem *p, int budget)
{
	static double table[2][40001];
	const struct bl_knapsack_option *o = p->o;
	int now = 0;

	for (int b = 0; b <= budget; b++)
		table[0][b] = 0;
	for (int i = 0; i < p->n_items; o += p->n_options[i++], now = !now)
		for (int b = 0; b <= budget; b++) {
			table[!now][b] = INFINITY;
			for (int j = 0; j < p->n_options[i]; j++)
				if ((int)o[j].cost <= b)
					table[!now][b] = fmin(table[!now][b], table[now][b - (int)o[j].cost] + o[j].loss);
		}
	return table[now][budget];
}

static void against_the_table(void **state)
{
	struct bl_rng rng;
	struct bl_err err = BL_ERR_INIT;
	struct problem p;
	struct bl_knapsack *k;

	(void)state;
	bl_rng_seed(&rng, 12);
	make(&p, &rng, 64, MOST, 1200);
	assert_int_equal(bl_knapsack_solve(&k, p.o, p.n_options, p.n_items, 0, &err), BL_OK);
	assert_true(bl_knapsack_exact(k)); /* whole costs below 77000: every front fits */
	for (int budget = 10000; budget <= 40000; budget += 7500) {
		double want = by_table(&p, budget), got = found(&p, k, (uint64_t)budget);
		if (!(got == want || fabs(got - want) < 1e-9))
			fail_msg("budget %d: %g, not %g", budget, got, want);
	}
	bl_knapsack_free(k);
}

/* Too many points: feasible still, no better than the optimum and no worse than that of a budget smaller by items x grain. */
static void thinned(void **state)
{
	struct bl_rng rng;
	struct bl_err err = BL_ERR_INIT;
	struct problem p;
	struct bl_knapsack *exact, *k;

	(void)state;
	bl_rng_seed(&rng, 13);
	make(&p, &rng, 40, MOST, 900);
	assert_int_equal(bl_knapsack_solve(&exact, p.o, p.n_options, p.n_items, 0, &err), BL_OK);
	assert_true(bl_knapsack_exact(exact));
	assert_int_equal(bl_knapsack_solve(&k, p.o, p.n_options, p.n_items, 60, &err), BL_OK);
	assert_false(bl_knapsack_exact(k));
	assert_true(bl_knapsack_n(k) <= 62);
	uint64_t slack = bl_knapsack_grain(k) * (uint64_t)p.n_items;
	for (uint64_t budget = bl_knapsack_at(exact, 0).cost + slack; budget < 36000; budget += 977) {
		double got = found(&p, k, budget);
		assert_true(got >= found(&p, exact, budget) - 1e-9);
		assert_true(got <= found(&p, exact, budget - slack) + 1e-9);
	}
	assert_true(bl_knapsack_at(k, 0).cost == bl_knapsack_at(exact, 0).cost); /* the cheapest is never lost */
	bl_knapsack_free(exact);
	bl_knapsack_free(k);
}

static void refused(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_knapsack_option o[2] = {{UINT64_MAX / 2, 0}, {UINT64_MAX / 2, 0}};
	struct bl_knapsack *k = NULL;
	int one[2] = {1, 1}, none[1] = {0};

	(void)state;
	assert_int_equal(bl_knapsack_solve(&k, o, none, 1, 0, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_knapsack_solve(&k, o, one, 2, 0, &err), BL_INVALID);
	bl_err_clear(&err);
	o[0] = (struct bl_knapsack_option){1, NAN};
	assert_int_equal(bl_knapsack_solve(&k, o, one, 1, 0, &err), BL_INVALID);
	bl_err_clear(&err);
	assert_int_equal(bl_knapsack_solve(&k, o, one, 0, 0, &err), BL_OK); /* nothing to choose */
	assert_int_equal(bl_knapsack_within(k, 0), 0);
	bl_knapsack_free(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(against_all), cmocka_unit_test(against_the_table), cmocka_unit_test(thinned), cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
