/* SPDX-License-Identifier: Apache-2.0
 * The CUDA run beside the CPU's: every operation on random shapes, the same bits twice, memory limits, refusals. Skipped, saying why, without the module, a
 * device, or cuBLASLt. BL_TEST_SMALL=1: small shapes only (for memory checkers); BL_TEST_ONLY: names of parts; BL_TEST_ROUNDS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/run/twin_check.h"
#include "kernels/solve/solve.h"
#include "tests/unit/kernels/support.h"

static void *handle;
static struct bk_side cpu, ref, gpu;
static const struct bk_solve_ops *solve;

/* NULL: no device; then the caller skips. */
static const struct bk_run_ops *cuda_run(void)
{
	const struct bk_cuda_ops *ops = test_open_module(&handle);
	int n = 0, e;

	if (!ops)
		return NULL;
	assert_int_equal(ops->version, BK_CUDA_VERSION);
	assert_int_equal(ops->size, sizeof(*ops));
	assert_non_null(ops->run);
	solve = ops->solve;
	assert_int_equal(ops->run->version, BK_RUN_VERSION);
	assert_int_equal(ops->run->size, sizeof(*ops->run));
	for (size_t at = offsetof(struct bk_run_ops, error_text); at < sizeof(*ops->run); at += sizeof(void *)) {
		void *p;

		memcpy(&p, (const char *)ops->run + at, sizeof(p));
		assert_non_null(p); /* every operation is there */
	}
	e = ops->device_count(&n);
	if (e || !n) {
		print_message("there is no CUDA device: %s\n", ops->error_text(e));
		return NULL;
	}
	return ops->run;
}

static int open_both(void **state)
{
	const struct bk_run_options o = { .threads = 1 };
	int e;

	(void)state;
	gpu.ops = cuda_run();
	cpu.ops = bk_run_cpu();
	ref.ops = bk_run_ref();
	if (!gpu.ops)
		return 0;
	e = gpu.ops->open(&gpu.run, &o);
	if (e) {
		print_message("the CUDA run cannot be opened: %s\n", gpu.ops->error_text(e));
		return gpu.ops->is_lost(e) ? -1 : 0;
	}
	return cpu.ops->open(&cpu.run, &o) || ref.ops->open(&ref.run, &o);
}

static int close_both(void **state)
{
	(void)state;
	if (gpu.run)
		gpu.ops->close(gpu.run);
	if (cpu.run)
		cpu.ops->close(cpu.run);
	if (ref.run)
		ref.ops->close(ref.run);
	return 0;
}

static void agrees_with_cpu(void **state)
{
	const char *rounds = getenv("BL_TEST_ROUNDS"), *small = getenv("BL_TEST_SMALL");
	const int n = rounds ? atoi(rounds) : 60;
	int bad = 0;

	(void)state;
	if (!gpu.run)
		skip();
	for (int seed = 1; seed <= n && bad < 12; seed++) {
		static const char *const parts[] = { "copies", "gemm", "codes", "groups", "rounding", "rows", "elements", "rope", "attention", "stats", "sums", "losses" };

		for (size_t k = 0; k < sizeof(parts) / sizeof(*parts) && bad < 12; k++) {
			struct bk_check c = { .state = (uint64_t)seed };

			if (getenv("BL_TEST_ONLY") && !strstr(getenv("BL_TEST_ONLY"), parts[k]))
				continue;
			/* small shapes beside the obvious loops, large ones beside the CPU, which is checked with those loops */
			if (bk_run_twin_check(seed % 2 ? &ref : &cpu, &gpu, &c, !small && seed % 2 == 0, parts[k])) {
				print_message("seed %d %s: %s\n", seed, parts[k], c.why);
				bad++;
			}
		}
	}
	assert_int_equal(bad, 0);
}

static void solvers(void **state)
{
	const struct bk_solve s = { .ops = gpu.ops, .run = gpu.run };
	const int n = getenv("BL_TEST_SMALL") ? 1 : 6;

	(void)state;
	if (!gpu.run || !solve)
		skip();
	for (int seed = 1; seed <= n; seed++) {
		struct bk_check c = { .state = (uint64_t)seed };

		if (bk_solve_check(&s, solve, &c))
			fail_msg("seed %d: %s", seed, c.why);
	}
}

/* The same call on the same shapes gives the same bits: a forward-sized product, statistics and a Hessian, three times. */
static void same_bits(void **state)
{
	enum { T = 700, K = 640, N = 384 };
	const struct bk_run_ops *ops = gpu.ops;
	void *x, *w, *y, *h, *sums;
	unsigned char *first, *again;
	uint16_t *raw;
	struct bk_check c = { .state = 7 };

	(void)state;
	if (!gpu.run || getenv("BL_TEST_SMALL"))
		skip();
	first = malloc((size_t)K * K * 4);
	again = malloc((size_t)K * K * 4);
	raw = malloc((size_t)T * K * 2);
	for (int i = 0; i < T * K; i++)
		raw[i] = (uint16_t)(0x3c00 + (bk_check_bits(&c) & 0x83ff));
	assert_int_equal(ops->alloc(gpu.run, &x, (size_t)T * K * 2), 0);
	assert_int_equal(ops->alloc(gpu.run, &w, (size_t)T * K * 2), 0);
	assert_int_equal(ops->alloc(gpu.run, &y, (size_t)T * N * 2), 0);
	assert_int_equal(ops->alloc(gpu.run, &h, (size_t)K * K * 4), 0);
	assert_int_equal(ops->alloc(gpu.run, &sums, 64), 0);
	assert_int_equal(ops->put(gpu.run, x, raw, (size_t)T * K * 2), 0);
	assert_int_equal(ops->put(gpu.run, w, raw, (size_t)T * K * 2), 0);
	for (int round = 0; round < 3; round++) {
		const struct bk_mat mx = { x, T, K, K, BK_BF16 }, mw = { w, N, K, K, BK_BF16 }, my = { y, T, N, N, BK_BF16 }, mh = { h, K, K, K, BK_F32 };

		assert_int_equal(ops->zero(gpu.run, h, (size_t)K * K * 4), 0);
		assert_int_equal(ops->gemm(gpu.run, &my, &mx, 0, &mw, 1, 1, 0, NULL), 0);
		assert_int_equal(ops->hessian(gpu.run, &mh, &mx), 0);
		assert_int_equal(ops->mirror(gpu.run, &mh), 0);
		assert_int_equal(ops->get(gpu.run, again, h, (size_t)K * K * 4), 0);
		if (round)
			assert_memory_equal(first, again, (size_t)K * K * 4);
		memcpy(first, again, (size_t)K * K * 4);
	}
	ops->release(gpu.run, x);
	ops->release(gpu.run, w);
	ops->release(gpu.run, y);
	ops->release(gpu.run, h);
	ops->release(gpu.run, sums);
	free(first), free(again), free(raw);
}

/* Many tokens and strips, beside the library's whole square. */
static void large_hessian(void **state)
{
	enum { T = 9001, K = 2712 };
	const struct bk_run_ops *ops = gpu.ops;
	const size_t bytes = (size_t)K * K * 4;
	struct bk_check c = { .state = 11 };
	uint16_t *raw;
	float *got, *want;
	void *x, *h, *g;
	double worst = 0, diagonal = 0;

	(void)state;
	if (!gpu.run || getenv("BL_TEST_SMALL"))
		skip();
	raw = malloc((size_t)T * K * 2);
	got = malloc(bytes);
	want = malloc(bytes);
	for (size_t i = 0; i < (size_t)T * K; i++)
		raw[i] = (uint16_t)(0x3d80 + (bk_check_bits(&c) & 0x81ff));
	assert_int_equal(ops->alloc(gpu.run, &x, (size_t)T * K * 2), 0);
	assert_int_equal(ops->alloc(gpu.run, &h, bytes), 0);
	assert_int_equal(ops->alloc(gpu.run, &g, bytes), 0);
	assert_int_equal(ops->put(gpu.run, x, raw, (size_t)T * K * 2), 0);
	{
		const struct bk_mat mx = { x, T, K, K, BK_BF16 }, mh = { h, K, K, K, BK_F32 }, mg = { g, K, K, K, BK_F32 };

		assert_int_equal(ops->zero(gpu.run, h, bytes), 0);
		assert_int_equal(ops->hessian(gpu.run, &mh, &mx), 0);
		assert_int_equal(ops->gemm(gpu.run, &mg, &mx, 1, &mx, 0, 1, 0, NULL), 0);
		assert_int_equal(ops->get(gpu.run, got, h, bytes), 0);
		assert_int_equal(ops->get(gpu.run, want, g, bytes), 0);
	}
	for (int64_t i = 0; i < K; i++)
		for (int64_t j = 0; j <= i; j++) {
			const double d = fabs((double)got[i * K + j] - (double)want[i * K + j]);

			worst = d > worst || d != d ? d : worst;
			diagonal += i == j ? (double)want[i * K + j] / K : 0;
		}
	if (!(worst < 3e-5 * diagonal))
		fail_msg("worst %g, diagonal %g", worst, diagonal);
	ops->release(gpu.run, x);
	ops->release(gpu.run, h);
	ops->release(gpu.run, g);
	free(raw), free(got), free(want);
}

static int unreadable(void *dst, const void *src, size_t bytes)
{
	(void)dst, (void)src, (void)bytes;
	return 1;
}

static void limits_and_refusals(void **state)
{
	const struct bk_run_options o = { .memory_limit = 8 << 20, .read = unreadable };
	struct bk_run *run = NULL;
	uint64_t used, available;
	void *p = NULL, *q = NULL;
	const struct bk_mat none = { NULL, 3, 3, 3, BK_BF16 };
	char some[64] = { 0 };

	(void)state;
	if (!gpu.run)
		skip();
	assert_int_equal(gpu.ops->open(&run, &o), 0);
	assert_int_equal(gpu.ops->memory(run, &used, &available), 0);
	assert_int_equal(used, 0);
	assert_int_equal(available, 8 << 20);
	assert_true(gpu.ops->is_no_memory(gpu.ops->alloc(run, &p, (8 << 20) + 1)));
	assert_true(gpu.ops->is_no_memory(gpu.ops->alloc(run, &p, SIZE_MAX)));
	assert_int_equal(gpu.ops->alloc(run, &p, 6 << 20), 0);
	assert_true(gpu.ops->is_no_memory(gpu.ops->alloc(run, &q, 3 << 20)));
	gpu.ops->release(run, p);
	assert_int_equal(gpu.ops->alloc(run, &q, 8 << 20), 0);
	assert_int_equal((uintptr_t)q % 256, 0);
	assert_int_equal(gpu.ops->add(run, &none, &none), BK_RUN_REFUSED);
	assert_int_equal(gpu.ops->gemm(run, &none, &none, 0, &none, 0, 1, 0, NULL), BK_RUN_REFUSED);
	assert_int_equal(gpu.ops->upload(run, q, some, sizeof(some)), 0);
	assert_int_equal(gpu.ops->upload_join(run), BK_RUN_UNREADABLE); /* and the run lives on */
	assert_int_equal(gpu.ops->upload_join(run), 0);
	assert_int_equal(gpu.ops->zero(run, q, 100), 0);
	assert_int_equal(gpu.ops->wait(run), 0);
	assert_true(strlen(gpu.ops->error_text(BK_RUN_NO_MEMORY)) > 4);
	gpu.ops->close(run);
	assert_true(gpu.ops->is_no_memory(gpu.ops->alloc(gpu.run, &p, (size_t)1 << 46)));
	assert_false(gpu.ops->is_lost(BK_RUN_NO_MEMORY));
	assert_true(gpu.ops->is_lost(700) && gpu.ops->is_lost(719));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_cpu), cmocka_unit_test(solvers), cmocka_unit_test(same_bits), cmocka_unit_test(large_hessian),
		cmocka_unit_test(limits_and_refusals),
	};


	return cmocka_run_group_tests(tests, open_both, close_both);
}
