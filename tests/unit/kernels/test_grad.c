/* SPDX-License-Identifier: Apache-2.0
 * Tuning on the CPU: agrees with the obvious loops on random shapes, those agree with differences of the forward's
 * operations, the same bits for any number of threads, and the check notices an operation that is slightly wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/grad/grad_check.h"
#include "kernels/grad/grad_rows.h"
#include "tests/unit/kernels/grad_rates.h"

static struct bk_grad_side ref, cpu;

static int open_both(void **state)
{
	const struct bk_run_options o = { .threads = 1 };

	(void)state;
	ref = (struct bk_grad_side){ { bk_run_ref(), NULL }, bk_grad_ref() };
	cpu = (struct bk_grad_side){ { bk_run_cpu(), NULL }, bk_grad_cpu() };
	return ref.side.ops->open(&ref.side.run, &o) || cpu.side.ops->open(&cpu.side.run, &o);
}

static int close_both(void **state)
{
	(void)state;
	ref.side.ops->close(ref.side.run);
	cpu.side.ops->close(cpu.side.run);
	return 0;
}

static int check(const struct bk_grad_ops *ops, int rounds, const char *only)
{
	const struct bk_grad_side got = { cpu.side, ops };
	int bad = 0;

	for (int seed = 1; seed <= rounds && !bad; seed++) {
		struct bk_check c = { .state = (uint64_t)seed };

		bad = bk_grad_check(&ref, &got, &c, 0, only);
		if (bad)
			print_message("seed %d: %s\n", seed, c.why);
	}
	return bad;
}

static void agrees_with_the_loops(void **state)
{
	(void)state;
	assert_int_equal(check(bk_grad_cpu(), 40, NULL), 0);
}

/* ---- what the check must notice ---- */

static int other_eps(struct bk_run *r, const struct bk_mat *dx, float *dw, const struct bk_mat *x, const struct bk_norm *n, const struct bk_mat *dy,
		     int add)
{
	struct bk_norm other = *n;

	other.eps *= 30000;
	return bk_grad_cpu()->rmsnorm_back(r, dx, dw, x, &other, dy, add);
}

static int other_window(struct bk_run *r, const struct bk_mat *dq, const struct bk_mat *dk, const struct bk_mat *dv, const struct bk_mat *q,
			const struct bk_mat *k, const struct bk_mat *v, const struct bk_mat *out, const float *lse, const struct bk_mat *dout,
			const struct bk_attention *a)
{
	struct bk_attention b = *a;

	b.window = a->window > 1 ? a->window - 1 : 0;
	return bk_grad_cpu()->attention_back(r, dq, dk, dv, q, k, v, out, lse, dout, &b);
}

static int clamped_too(struct bk_run *r, float *dv, float *dscale, const struct bk_mat *g, const struct bk_fake *f)
{
	struct bk_fake wide = *f;

	wide.grid.bits = f->grid.bits < 8 && f->grid.number == BK_INT ? f->grid.bits + 1 : f->grid.bits;
	return bk_grad_cpu()->fake_quant_back(r, dv, dscale, g, &wide);
}

static int more_decay(struct bk_run *r, float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *adam)
{
	struct bk_adam a = *adam;

	a.decay += 0.1f;
	return bk_grad_cpu()->adam_step(r, p, m, v, g, n, &a);
}

static void notices(void **state)
{
	struct bk_grad_ops broken = *bk_grad_cpu();

	(void)state;
	broken.rmsnorm_back = other_eps;
	assert_true(check(&broken, 5, "norm"));
	broken.attention_back = other_window;
	assert_true(check(&broken, 20, "attention"));
	broken.fake_quant_back = clamped_too;
	assert_true(check(&broken, 5, "fake"));
	broken.adam_step = more_decay;
	assert_true(check(&broken, 5, "steps"));
}

/* ---- differences: L = sum c y of the forward's float32 operations against what the obvious loops say ---- */

enum { ROWS = 9, HEADS = 4, KV = 2, DIM = 6, COLS = HEADS * DIM };
static float x[3][ROWS * COLS], out[2][ROWS * COLS], c[ROWS * COLS], d[3][ROWS * COLS], weight[COLS], dw[COLS], lse[ROWS * HEADS],
	angle[2][ROWS * DIM];
static int32_t position[ROWS], starts[3] = { 0, 4, ROWS };

static struct bk_mat mat(float *p, int64_t cols) { return (struct bk_mat){ p, ROWS, cols, cols, BK_F32 }; }
#define NORM      ((struct bk_norm){ weight, BK_F32, 1e-5, which & 1 })
#define ROPE      ((struct bk_rope){ angle[0], angle[1], position, ROWS })
#define ATTENTION ((struct bk_attention){ HEADS, KV, DIM, 0.4, which & 1 ? 3.0 : 0, which & 2 ? 3 : 0, { 2, starts, starts, 5, 5 } })

static void fresh(void)
{
	struct bk_check rng = { .state = 99 };
	float *const all[] = { x[0], x[1], x[2], c };

	for (size_t k = 0; k < 4; k++)
		for (int i = 0; i < ROWS * COLS; i++)
			all[k][i] = (float)bk_check_gauss(&rng);
	for (int i = 0; i < COLS; i++)
		weight[i] = (float)(0.5 + bk_check_unit(&rng));
	for (int i = 0; i < ROWS * DIM; i++) {
		const double a = 6 * bk_check_unit(&rng);

		angle[0][i] = (float)cos(a);
		angle[1][i] = (float)sin(a);
	}
	for (int i = 0; i < ROWS; i++)
		position[i] = ROWS - 1 - i;
}

static double weighted(const float *y, int n)
{
	double s = 0;

	for (int i = 0; i < n; i++)
		s += (double)c[i] * (double)y[i];
	return s;
}

enum forward { F_NORM, F_HEADS, F_ATTENTION, F_GATE, F_SOFTCAP, F_KL };

static double loss(enum forward f, int which)
{
	const struct bk_grad_ops *ops = ref.ops;
	struct bk_run *run = ref.side.run;
	const struct bk_norm norm = NORM;
	const struct bk_rope rope = ROPE;
	const struct bk_attention a = ATTENTION;
	const struct bk_mat y = mat(out[0], COLS), x0 = mat(x[0], COLS), x1 = mat(x[1], COLS), k = mat(x[1], KV * DIM), v = mat(x[2], KV * DIM);
	float kl[ROWS], nll[2][ROWS];
	int32_t same[ROWS], targets[ROWS] = { 0 };
	double s = 0;

	switch (f) {
	case F_NORM:
		assert_int_equal(ref.side.ops->rmsnorm(run, &y, &x0, &norm), 0);
		break;
	case F_HEADS:
		assert_int_equal(ops->head_norm_rope(run, &y, &x0, HEADS, DIM, which & 2 ? &norm : NULL, which & 4 ? &rope : NULL), 0);
		break;
	case F_ATTENTION:
		assert_int_equal(ops->attention_lse(run, &y, lse, &x0, &k, &v, &a), 0);
		break;
	case F_GATE:
		assert_int_equal(ref.side.ops->gate(run, &y, &x0, &x1, which ? BK_GATE_GELU_TANH : BK_GATE_SILU), 0);
		break;
	case F_SOFTCAP:
		memcpy(out[0], x[0], sizeof(x[0]));
		assert_int_equal(ref.side.ops->softcap(run, &y, 2.0), 0);
		break;
	case F_KL:
		assert_int_equal(ref.side.ops->row_kl(run, &(struct bk_row_kl){ kl, nll[0], nll[1], same }, &x1, &x0, targets), 0);
		for (int i = 0; i < ROWS; i++)
			s += 0.25 * (double)kl[i];
		return s;
	}
	return weighted(out[0], ROWS * COLS);
}

static void backward(enum forward f, int which)
{
	const struct bk_grad_ops *ops = ref.ops;
	struct bk_run *run = ref.side.run;
	const struct bk_norm norm = NORM;
	const struct bk_rope rope = ROPE;
	const struct bk_attention a = ATTENTION;
	const struct bk_mat y = mat(out[0], COLS), dy = mat(c, COLS), x0 = mat(x[0], COLS), x1 = mat(x[1], COLS), k = mat(x[1], KV * DIM),
			    v = mat(x[2], KV * DIM), d0 = mat(d[0], COLS), d1 = mat(d[1], COLS), dk = mat(d[1], KV * DIM), dv = mat(d[2], KV * DIM);

	memset(dw, 0, sizeof(dw));
	memset(d, 0, sizeof(d));
	loss(f, which);
	switch (f) {
	case F_NORM:
		assert_int_equal(ops->rmsnorm_back(run, &d0, dw, &x0, &norm, &dy, BK_GRAD_ADD), 0);
		break;
	case F_HEADS:
		assert_int_equal(ops->head_norm_rope_back(run, &d0, dw, &x0, HEADS, DIM, which & 2 ? &norm : NULL, which & 4 ? &rope : NULL, &dy), 0);
		break;
	case F_ATTENTION:
		assert_int_equal(ops->attention_back(run, &d0, &dk, &dv, &x0, &k, &v, &y, lse, &dy, &a), 0);
		break;
	case F_GATE:
		assert_int_equal(ops->gate_back(run, &d0, &d1, &x0, &x1, &dy, which ? BK_GATE_GELU_TANH : BK_GATE_SILU), 0);
		break;
	case F_SOFTCAP:
		assert_int_equal(ops->softcap_back(run, &d0, &y, &dy, 2.0), 0);
		break;
	case F_KL:
		assert_int_equal(ops->kl_back(run, &d0, NULL, &x1, &x0, 0.25f), 0);
		break;
	}
}

/* Central differences of every `each`-th element. Float32 results leave about 1e-7 * sqrt(elements) / h of noise. */
static void by_differences(enum forward f, int which, float *p, int n, const float *grad, const char *what)
{
	const float h = 1e-2f;
	double worst = 0, most = 0;

	for (int i = 0; i < n; i++) {
		const float o = p[i];
		double up, down, slope;

		p[i] = o + h;
		up = loss(f, which);
		p[i] = o - h;
		down = loss(f, which);
		slope = (up - down) / ((double)(o + h) - (double)(o - h));
		p[i] = o;
		worst = fmax(worst, fabs(slope - (double)grad[i]));
		most = fmax(most, fabs(slope));
	}
	if (!(worst <= 2e-3 * most && most > 1e-3))
		fail_msg("%s, variant %d: off by %g where slopes are up to %g", what, which, worst, most);
}

static void by_differences_of_the_forward(void **state)
{
	(void)state;
	fresh();
	for (int which = 0; which < 2; which++) {
		backward(F_NORM, which);
		by_differences(F_NORM, which, x[0], ROWS * COLS, d[0], "rmsnorm");
		by_differences(F_NORM, which, weight, COLS, dw, "rmsnorm's weight");
		backward(F_GATE, which);
		by_differences(F_GATE, which, x[0], ROWS * COLS, d[0], "gate");
		by_differences(F_GATE, which, x[1], ROWS * COLS, d[1], "gate's other");
	}
	for (int which = 2; which < 8; which++) {
		backward(F_HEADS, which);
		by_differences(F_HEADS, which, x[0], ROWS * COLS, d[0], "head_norm_rope");
		if (which & 2)
			by_differences(F_HEADS, which, weight, DIM, dw, "head_norm_rope's weight");
	}
	for (int which = 0; which < 4; which++) {
		backward(F_ATTENTION, which);
		by_differences(F_ATTENTION, which, x[0], ROWS * COLS, d[0], "attention's q");
		by_differences(F_ATTENTION, which, x[1], ROWS * KV * DIM, d[1], "attention's k");
		by_differences(F_ATTENTION, which, x[2], ROWS * KV * DIM, d[2], "attention's v");
	}
	backward(F_SOFTCAP, 0);
	by_differences(F_SOFTCAP, 0, x[0], ROWS * COLS, d[0], "softcap");
	backward(F_KL, 0);
	by_differences(F_KL, 0, x[0], ROWS * COLS, d[0], "kl");
}

/* ---- fake quantization by hand ---- */

static void fake_quantization(void **state)
{
	/* scale 0.5, bits 3: -4 .. 3. 0.2 -> 0 | 0.26 + 0.3 of a step -> 1 | 9 -> clamped at 3 | -1.9 -> -4 | row 2:
	 * negative scale, zero 1 */
	float w[8] = { 0.2f, 0.26f, 9, -1.9f, 0.2f, 0.26f, 9, -1.9f }, v[8] = { 0, 0.3f, 0, 0, 0, 0, 0, 0 }, scale[2] = { 0.5f, -0.5f }, hat[8],
	      g[8] = { 1, 2, 3, 4, 1, 2, 3, 4 };
	float dv[8], ds[2] = { 10, 0 };
	int8_t codes[8], zero[2] = { 0, 1 };
	const struct bk_mat mw = { w, 2, 4, 4, BK_F32 }, mh = { hat, 2, 4, 4, BK_F32 }, mc = { codes, 2, 4, 4, BK_I8 }, mg = { g, 2, 4, 4, BK_F32 };
	const struct bk_fake f = { &mw, v, scale, zero, { .number = BK_INT, .bits = 3, .group = 4 } };
	static const float want_hat[8] = { 0, 0.5f, 1.5f, -2, 0, 0.5f, 2.5f, -1 }, want_dv[8] = { 0.5f, 1, 0, 2, -0.5f, -1, 0, 0 };
	static const int8_t want_codes[8] = { 0, 1, 3, -4, 1, 0, -4, 3 };

	(void)state;
	for (int side = 0; side < 2; side++) {
		const struct bk_grad_side *s = side ? &ref : &cpu;

		ds[0] = 10, ds[1] = 0;
		assert_int_equal(s->ops->fake_quant(s->side.run, &mh, &mc, &f), 0);
		assert_memory_equal(codes, want_codes, 8);
		for (int i = 0; i < 8; i++)
			assert_true(hat[i] == want_hat[i]);
		assert_int_equal(s->ops->fake_quant_back(s->side.run, dv, ds, &mg, &f), 0);
		for (int i = 0; i < 8; i++)
			assert_true(dv[i] == want_dv[i]);
		/* 1 (0 - 0.4) + 2 (1 - 0.52) + 3 * 3 + 4 (-4 + 3.8) */
		assert_true(fabs((double)ds[0] - (10 - 0.4 + 0.96 + 9 - 0.8)) < 1e-5);
		/* 1 (0 + 0.4) + 2 (-1 + 0.52) + 3 * -5 + 4 * 2 */
		assert_true(fabs((double)ds[1] - (0.4 - 0.96 - 15 + 8)) < 1e-5);
		ds[0] = ds[1] = 0;
		assert_int_equal(s->ops->codes_back(s->side.run, ds, &mg, &mc, zero, &f.grid), 0);
		assert_true(ds[0] == 0 + 2 + 9 - 16 && ds[1] == 0 - 2 - 15 + 8);
	}
}

/* ---- threads ---- */

static void backwards(void *ctx, size_t n, bk_parallel_fn *fn, void *arg)
{
	(void)ctx;
	for (size_t i = n; i-- > 0;)
		fn(arg, i);
}

/* Items run in the other order, as threads may: no item may see what another leaves. */
static void any_order_of_items(void **state)
{
	const struct bk_run_options o = { .threads = 3, .parallel = backwards };
	struct bk_grad_side other = { { bk_run_cpu(), NULL }, bk_grad_cpu() };

	(void)state;
	assert_int_equal(other.side.ops->open(&other.side.run, &o), 0);
	for (int seed = 1; seed <= 4; seed++) {
		struct bk_check k = { .state = (uint64_t)seed };

		if (bk_grad_check(&cpu, &other, &k, 1, NULL))
			fail_msg("seed %d: %s", seed, k.why);
	}
	other.side.ops->close(other.side.run);
}

/* Every variant of the loops gives the bits of the plainest. */
static void same_bits_on_any_processor(void **state)
{
	enum { N = 75 };
	const struct bk_grad_rows *base = bk_grad_rows_level(0), *rows;
	const struct bk_point point = { 0.13f, 1, -8, 7, BK_INT };
	struct bk_check rng = { .state = 5 };
	float in[4][N], want[6][N], got[6][N];

	(void)state;
	for (int k = 0; k < 4; k++)
		for (int i = 0; i < N; i++)
			in[k][i] = (float)bk_check_gauss(&rng);
	for (int level = 0; (rows = bk_grad_rows_level(level)); level++) {
		float(*to)[N] = level ? got : want;

		memset(to, 0, sizeof(want));
		rows->norm_back(to[0], to[1], in[0], in[1], in[2], N, 1e-5, 0);
		rows->gate_back(to[2], to[3], in[0], in[1], in[2], N, BK_GATE_SILU);
		rows->soft_diff(to[4], in[0], 2.5f, in[1], 3.0f, 0.5f, N);
		to[5][0] = rows->fake_back(to[5] + 1, in[0], in[1] + 1, in[2], N - 1, &point);
		if (level)
			assert_memory_equal(want, got, sizeof(want));
	}
	assert_non_null(base);
}

static void refusals(void **state)
{
	float p[64] = { 0 };
	int8_t z[8] = { 0 };
	const struct bk_mat a = { p, 4, 8, 8, BK_F32 }, b = { p, 4, 7, 8, BK_F32 }, half = { p, 4, 8, 8, BK_BF16 }, codes = { z, 1, 8, 8, BK_I8 },
			    row = { p, 1, 8, 8, BK_F32 };
	const struct bk_norm n = { p, BK_F32, 1e-5, 0 };
	struct bk_fake f = { &row, NULL, p, NULL, { .number = BK_INT, .bits = 4 } };
	const struct bk_grad_ops *ops = cpu.ops;
	struct bk_run *r = cpu.side.run;
	const struct bk_adam never = { .step = 0 };

	(void)state;
	assert_int_equal(ops->rmsnorm_back(r, &a, NULL, &b, &n, &a, 0), BK_RUN_REFUSED);
	assert_int_equal(ops->rmsnorm_back(r, &a, NULL, &half, &n, &a, 0), BK_RUN_REFUSED);
	assert_int_equal(ops->head_norm_rope(r, &a, &a, 3, 3, &n, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->softcap_back(r, &a, &a, &a, 0), BK_RUN_REFUSED);
	assert_int_equal(ops->fake_quant(r, &row, NULL, &f), BK_RUN_REFUSED); /* no zeros */
	f.zero = z;
	assert_int_equal(ops->fake_quant(r, &row, NULL, &f), 0);
	f.grid.group = 3;
	assert_int_equal(ops->fake_quant(r, &row, NULL, &f), BK_RUN_REFUSED);
	f.grid = (struct bk_grid){ .number = BK_E4M3, .bits = 8, .symmetric = 1 };
	f.zero = NULL;
	assert_int_equal(ops->fake_quant(r, &row, &codes, &f), BK_RUN_REFUSED); /* codes of another type */
	assert_int_equal(ops->fake_tokens(r, &a, &a, BK_TOKEN_INT8, NAN), BK_RUN_REFUSED);
	assert_int_equal(ops->adam_step(r, p, p, p, p, 1, &never), BK_RUN_REFUSED);
	assert_int_equal(ops->sign_step(r, p, p, -1, 1, NULL), BK_RUN_REFUSED);
}

static void rates(void **state)
{
	(void)state;
	if (!getenv("BL_TEST_RATES"))
		skip();
	test_grad_rates(&cpu, atoi(getenv("BL_TEST_RATES")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_loops),
		cmocka_unit_test(notices),
		cmocka_unit_test(by_differences_of_the_forward),
		cmocka_unit_test(fake_quantization),
		cmocka_unit_test(any_order_of_items),
		cmocka_unit_test(same_bits_on_any_processor),
		cmocka_unit_test(refusals),
		cmocka_unit_test(rates),
	};

	return cmocka_run_group_tests(tests, open_both, close_both);
}
