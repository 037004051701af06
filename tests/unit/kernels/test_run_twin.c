/* SPDX-License-Identifier: Apache-2.0
 * The CPU's operations agree with the obvious loops; the check notices an operation that is slightly wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "kernels/run/twin_check.h"

static struct bk_run_ops broken;

static int no_add(struct bk_run *r, const struct bk_mat *x, const struct bk_mat *a) { return (void)r, (void)x, (void)a, 0; }

static int one_key_less(struct bk_run *r, const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
			const struct bk_attention *a)
{
	struct bk_attention b = *a;

	b.window = a->window > 1 ? a->window - 1 : 50;
	return bk_run_cpu()->attention(r, out, q, k, v, &b);
}

static int beside(struct bk_run *r, const struct bk_mat *dst, const struct bk_mat *src)
{
	const int e = bk_run_cpu()->convert(r, dst, src);

	memset((char *)dst->p + dst->ld * dst->rows * (dst->dtype == BK_F32 ? 4 : 2), 1, 2);
	return e;
}

static int round_up(struct bk_run *r, const struct bk_mat *h, const struct bk_mat *x)
{
	const int e = bk_run_cpu()->hessian(r, h, x);

	((float *)h->p)[0] *= 1.001f;
	return e;
}

/* another scale than the row's own */
static int other_scale(struct bk_run *r, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how)
{
	struct bk_rounding other = *how;

	if (how->kind == BK_TOKEN_INT8 && !how->group && how->scale == 0)
		other.scale = 0.05f;
	return bk_run_cpu()->round_inputs(r, y, x, &other);
}

static int one_scale(struct bk_run *r, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how)
{
	const int e = bk_run_cpu()->quant_groups(r, codes, scales, x, how);

	for (int64_t g = 1; g < x->rows * (x->cols / how->group); g++)
		scales[g] = scales[0];
	return e;
}

static int check(const struct bk_run_ops *ops, int rounds, const char *only)
{
	const struct bk_run_options o = { .threads = 1 };
	struct bk_side want = { .ops = bk_run_ref() }, got = { .ops = ops };
	int bad = 0;

	assert_int_equal(want.ops->open(&want.run, &o), 0);
	assert_int_equal(ops->open(&got.run, &o), 0);
	for (int seed = 1; seed <= rounds && !bad; seed++) {
		struct bk_check c = { .state = (uint64_t)seed };

		bad = bk_run_twin_check(&want, &got, &c, 0, only);
		if (bad)
			print_message("%s\n", c.why);
	}
	want.ops->close(want.run);
	ops->close(got.run);
	return bad;
}

static void agrees_with_the_loops(void **state)
{
	(void)state;
	assert_int_equal(check(bk_run_cpu(), 60, NULL), 0);
}

static void notices(void **state)
{
	(void)state;
	broken = *bk_run_cpu();
	broken.add = no_add;
	assert_true(check(&broken, 3, "elements"));
	broken = *bk_run_cpu();
	broken.attention = one_key_less;
	assert_true(check(&broken, 20, "attention"));
	broken = *bk_run_cpu();
	broken.convert = beside;
	assert_true(check(&broken, 20, "elements"));
	broken = *bk_run_cpu();
	broken.hessian = round_up;
	assert_true(check(&broken, 3, "sums"));
	broken = *bk_run_cpu();
	broken.round_inputs = other_scale;
	assert_true(check(&broken, 20, "rounding"));
	broken = *bk_run_cpu();
	broken.quant_groups = one_scale;
	assert_true(check(&broken, 3, "groups"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(agrees_with_the_loops), cmocka_unit_test(notices) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
