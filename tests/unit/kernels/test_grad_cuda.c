/* SPDX-License-Identifier: Apache-2.0
 * The CUDA module's tuning operations beside the obvious loops and the CPU's, and the same bits twice. Skipped, saying why, without the module or a device.
 * BL_TEST_SMALL=1: small shapes only (for memory checkers); BL_TEST_ONLY: names of parts; BL_TEST_ROUNDS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/grad/grad_check.h"
#include "tests/unit/kernels/grad_rates.h"
#include "tests/unit/kernels/support.h"

static void *handle;
static struct bk_grad_side cpu, ref, gpu;

static int open_all(void **state)
{
	const struct bk_run_options o = { .threads = 1 };
	const struct bk_cuda_ops *ops = test_open_module(&handle);
	int n = 0, e;

	(void)state;
	if (!ops)
		return 0;
	assert_int_equal(ops->version, BK_CUDA_VERSION);
	assert_int_equal(ops->size, sizeof(*ops));
	assert_non_null(ops->grad);
	assert_int_equal(ops->grad->size, sizeof(*ops->grad));
	for (size_t at = offsetof(struct bk_grad_ops, name); at < sizeof(*ops->grad); at += sizeof(void *)) {
		void *p;

		memcpy(&p, (const char *)ops->grad + at, sizeof(p));
		assert_non_null(p); /* every operation is there */
	}
	e = ops->device_count(&n);
	if (e || !n) {
		print_message("there is no CUDA device: %s\n", ops->error_text(e));
		return 0;
	}
	gpu = (struct bk_grad_side){ { ops->run, NULL }, ops->grad };
	cpu = (struct bk_grad_side){ { bk_run_cpu(), NULL }, bk_grad_cpu() };
	ref = (struct bk_grad_side){ { bk_run_ref(), NULL }, bk_grad_ref() };
	e = gpu.side.ops->open(&gpu.side.run, &o);
	if (e) {
		print_message("the CUDA run cannot be opened: %s\n", gpu.side.ops->error_text(e));
		return gpu.side.ops->is_lost(e) ? -1 : 0;
	}
	return cpu.side.ops->open(&cpu.side.run, &o) || ref.side.ops->open(&ref.side.run, &o);
}

static int close_all(void **state)
{
	struct bk_grad_side *const all[] = { &gpu, &cpu, &ref };

	(void)state;
	for (size_t i = 0; i < 3; i++)
		if (all[i]->side.run)
			all[i]->side.ops->close(all[i]->side.run);
	return 0;
}

static void agrees_with_cpu(void **state)
{
	static const char *const parts[] = { "norm", "heads", "attention", "elements", "losses", "fake", "tokens", "steps" };
	const char *rounds = getenv("BL_TEST_ROUNDS"), *small = getenv("BL_TEST_SMALL"), *only = getenv("BL_TEST_ONLY");
	const int n = rounds ? atoi(rounds) : 40;
	int bad = 0;

	(void)state;
	if (!gpu.side.run)
		skip();
	for (int seed = 1; seed <= n && bad < 12; seed++)
		for (size_t k = 0; k < sizeof(parts) / sizeof(*parts) && bad < 12; k++) {
			struct bk_check c = { .state = (uint64_t)seed };

			if (only && !strstr(only, parts[k]))
				continue;
			/* small shapes beside the obvious loops, large ones beside the CPU, which is checked with those loops */
			if (bk_grad_check(seed % 2 ? &ref : &cpu, &gpu, &c, !small && seed % 2 == 0, parts[k])) {
				print_message("seed %d %s: %s\n", seed, parts[k], c.why);
				bad++;
			}
		}
	assert_int_equal(bad, 0);
}

/* Attention's backward as a tuned block has it, three times: no order of blocks shows. */
static void same_bits(void **state)
{
	enum { T = 600, HEADS = 8, KV = 2, DIM = 64, Q = T * HEADS * DIM, K = T * KV * DIM };
	static const int32_t starts[] = { 0, 250, T };
	struct bk_check c = { .state = 7 };
	const struct bk_run_ops *ops = gpu.side.ops;
	struct bk_run *run = gpu.side.run;
	void *p[11]; /* q, k, v, out, dout, dq, dk, dv, lse, starts, dw */
	static const size_t bytes[11] = { Q * 2, K * 2, K * 2, Q * 2, Q * 2, Q * 2, K * 2, K * 2, T * HEADS * 4, sizeof(starts), HEADS * DIM * 4 };
	unsigned char *first, *again;
	uint16_t *raw;

	(void)state;
	if (!gpu.side.run || getenv("BL_TEST_SMALL"))
		skip();
	first = malloc(Q * 2 + 2 * K * 2 + HEADS * DIM * 4);
	again = malloc(Q * 2 + 2 * K * 2 + HEADS * DIM * 4);
	raw = malloc(Q * 2);
	for (int i = 0; i < 11; i++)
		assert_int_equal(ops->alloc(run, &p[i], bytes[i]), 0);
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < Q; k++)
			raw[k] = (uint16_t)(0x3c00 + (bk_check_bits(&c) & 0x83ff));
		assert_int_equal(ops->put(run, p[i], raw, bytes[i]), 0);
	}
	assert_int_equal(ops->put(run, p[9], starts, sizeof(starts)), 0);
	for (int round = 0; round < 3; round++) {
		const struct bk_mat q = { p[0], T, HEADS * DIM, HEADS * DIM, BK_BF16 }, k = { p[1], T, KV * DIM, KV * DIM, BK_BF16 };
		struct bk_mat v = k, out = q, dout = q, dq = q, dk = k, dv = k;
		const struct bk_attention a = { HEADS, KV, DIM, 0.125, 0, 0, { 2, p[9], p[9], 350, 350 } };
		const struct bk_norm n = { p[0], BK_BF16, 1e-5, 0 };

		v.p = p[2], out.p = p[3], dout.p = p[4], dq.p = p[5], dk.p = p[6], dv.p = p[7];
		assert_int_equal(ops->zero(run, p[10], bytes[10]), 0);
		assert_int_equal(gpu.ops->attention_lse(run, &out, p[8], &q, &k, &v, &a), 0);
		assert_int_equal(gpu.ops->attention_back(run, &dq, &dk, &dv, &q, &k, &v, &out, p[8], &dout, &a), 0);
		assert_int_equal(gpu.ops->rmsnorm_back(run, &dq, p[10], &q, &n, &dq, 0), 0);
		assert_int_equal(ops->get(run, again, p[5], Q * 2), 0);
		assert_int_equal(ops->get(run, again + Q * 2, p[6], K * 2), 0);
		assert_int_equal(ops->get(run, again + Q * 2 + K * 2, p[7], K * 2), 0);
		assert_int_equal(ops->get(run, again + Q * 2 + 2 * K * 2, p[10], HEADS * DIM * 4), 0);
		if (round)
			assert_memory_equal(first, again, Q * 2 + 2 * K * 2 + HEADS * DIM * 4);
		memcpy(first, again, Q * 2 + 2 * K * 2 + HEADS * DIM * 4);
	}
	for (int i = 0; i < 11; i++)
		ops->release(run, p[i]);
	free(first), free(again), free(raw);
}

/* dW = dyᵀ x added to float32, dx = dy W: the products that grad.h leaves to the run */
static void products(void **state)
{
	enum { T = 130, N = 40, K = 72 };
	struct bk_check c = { .state = 3 };
	const struct bk_run_ops *ops = gpu.side.ops;
	struct bk_run *run = gpu.side.run;
	uint16_t dy[T * N], x[T * K];
	float dw[N * K];
	void *p[3];

	(void)state;
	if (!gpu.side.run)
		skip();
	for (int i = 0; i < T * N; i++)
		dy[i] = (uint16_t)(0x3e00 + (bk_check_bits(&c) & 0x81ff));
	for (int i = 0; i < T * K; i++)
		x[i] = (uint16_t)(0x3e00 + (bk_check_bits(&c) & 0x81ff));
	assert_int_equal(ops->alloc(run, &p[0], sizeof(dy)), 0);
	assert_int_equal(ops->alloc(run, &p[1], sizeof(x)), 0);
	assert_int_equal(ops->alloc(run, &p[2], sizeof(dw)), 0);
	assert_int_equal(ops->put(run, p[0], dy, sizeof(dy)), 0);
	assert_int_equal(ops->put(run, p[1], x, sizeof(x)), 0);
	assert_int_equal(ops->zero(run, p[2], sizeof(dw)), 0);
	{
		const struct bk_mat my = { p[0], T, N, N, BK_BF16 }, mx = { p[1], T, K, K, BK_BF16 }, mw = { p[2], N, K, K, BK_F32 };

		assert_int_equal(ops->gemm(run, &mw, &my, 1, &mx, 0, 1, 1, NULL), 0);
		assert_int_equal(ops->gemm(run, &mw, &my, 1, &mx, 0, 1, 1, NULL), 0);
	}
	assert_int_equal(ops->get(run, dw, p[2], sizeof(dw)), 0);
	for (int n = 0; n < N; n++)
		for (int k = 0; k < K; k++) {
			double s = 0;

			for (int t = 0; t < T; t++) {
				const uint32_t a = (uint32_t)dy[t * N + n] << 16, b = (uint32_t)x[t * K + k] << 16;
				float fa, fb;

				memcpy(&fa, &a, 4);
				memcpy(&fb, &b, 4);
				s += 2 * (double)fa * (double)fb;
			}
			if (!(fabs(s - (double)dw[n * K + k]) < 1e-4))
				fail_msg("dW (%d, %d): %g instead of %g", n, k, (double)dw[n * K + k], s);
		}
	for (int i = 0; i < 3; i++)
		ops->release(run, p[i]);
}

static void rates(void **state)
{
	(void)state;
	if (!gpu.side.run || !getenv("BL_TEST_RATES"))
		skip();
	test_grad_rates(&gpu, atoi(getenv("BL_TEST_RATES")));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(agrees_with_cpu), cmocka_unit_test(same_bits), cmocka_unit_test(products),
					    cmocka_unit_test(rates) };

	return cmocka_run_group_tests(tests, open_all, close_all);
}
