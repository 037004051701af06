/* SPDX-License-Identifier: Apache-2.0
 * What the CPU back end promises beyond being close: the same bits from every instruction set of row work, on any number of threads, and for a row
 * wherever it stands; exact integer products; limits and refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/common/check.h"
#include "kernels/common/num.h"
#include "kernels/run/rows.h"
#include "kernels/run/run.h"
#include "kernels/run/tile.h"

static struct bk_check c = { .state = 11 };
static const struct bk_run_ops *ops;
static struct bk_run *run;

static float *floats(int64_t n)
{
	float *f = malloc((size_t)n * sizeof(*f));

	assert_non_null(f);
	for (int64_t i = 0; i < n; i++)
		f[i] = (float)bk_check_gauss(&c);
	return f;
}

static uint16_t *halves(int64_t n)
{
	uint16_t *h = malloc((size_t)n * sizeof(*h));

	assert_non_null(h);
	for (int64_t i = 0; i < n; i++)
		h[i] = (uint16_t)(bk_f32_bits(bk_round_bf16((float)bk_check_gauss(&c))) >> 16);
	return h;
}

/* --- rows --- */

static void rows_are_the_same(void **state)
{
	enum { N = 733 };
	const struct bk_rows *first = bk_rows_level(0), *r;
	float *x = floats(N), *w = floats(N), *a = malloc(N * 4), *b = malloc(N * 4);

	(void)state;
	x[3] = -200; /* exp runs out on both sides */
	x[4] = 200;
	for (int level = 1; (r = bk_rows_level(level)) != NULL; level++) {
		struct bk_row_kl_sums p, q;
		int64_t i, j;

		for (int round = 0; round < 2; round++) {
			first->norm(a, x, w, N, 1e-5, 0, round);
			r->norm(b, x, w, N, 1e-5, 0, round);
			assert_memory_equal(a, b, N * 4);
			first->gate(a, x, w, N, BK_GATE_SILU, round);
			r->gate(b, x, w, N, BK_GATE_SILU, round);
			assert_memory_equal(a, b, N * 4);
			memcpy(a, x, N * 4);
			memcpy(b, x, N * 4);
			assert_true(first->weights(a, 200, N, round) == r->weights(b, 200, N, round));
			assert_memory_equal(a, b, N * 4);
		}
		for (int kind = BK_TOKEN_INT8; kind <= BK_TOKEN_E2M1; kind++)
			for (int round = 0; round < 2; round++) {
				memcpy(a, x, N * 4);
				memcpy(b, x, N * 4);
				first->rounded(a, 0.013f, kind, round, N);
				r->rounded(b, 0.013f, kind, round, N);
				assert_memory_equal(a, b, N * 4);
			}
		memcpy(a, x, N * 4);
		memcpy(b, x, N * 4);
		first->grouped(a, w, 1, N);
		r->grouped(b, w, 1, N);
		assert_memory_equal(a, b, N * 4);
		first->e2m1_codes((uint8_t *)a, x, 2.5f, N);
		r->e2m1_codes((uint8_t *)b, x, 2.5f, N);
		assert_memory_equal(a, b, N);
		assert_true(first->dot(x, w, BK_F32, N) == r->dot(x, w, BK_F32, N));
		assert_true(first->log_sum(x, N, &i) == r->log_sum(x, N, &j) && i == 4 && j == 4);
		first->kl(&p, x, w, N);
		r->kl(&q, x, w, N);
		assert_memory_equal(&p, &q, sizeof(p));
		for (int type = BK_BF16; type <= BK_F32; type++) {
			first->store(a, type, x, N);
			r->store(b, type, x, N);
			assert_memory_equal(a, b, type == BK_F32 ? N * 4 : N * 2);
		}
	}
	free(x), free(w), free(a), free(b);
}

static void exponential(void **state)
{
	const struct bk_rows *r = bk_rows_best();

	(void)state;
	for (double x = -90; x <= 88; x += 0.00137) {
		float f = (float)x, want = expf(f);

		r->weights(&f, 0, 1, 0);
		if (x < -87.33 ? f != 0 : fabsf(f - want) > 3e-7f * want)
			fail_msg("exp(%.9g): %.9g instead of %.9g", x, (double)f, (double)want);
	}
}

/* --- products --- */

static void a_row_is_the_same_anywhere(void **state)
{
	const int64_t n = 203, k = 301, most = 230;
	uint16_t *x = halves(most * k), *w = halves(n * k);
	float *all = malloc((size_t)(most * n) * 4), *part = malloc((size_t)(most * n) * 4);
	const struct bk_mat b = { w, n, k, k, BK_BF16 }, whole = { x, most, k, k, BK_BF16 }, y = { all, most, n, n, BK_F32 };

	(void)state;
	assert_int_equal(ops->gemm(run, &y, &whole, 0, &b, 1, 1, 0, NULL), 0);
	for (int i = 0; i < 40; i++) {
		const int64_t first = bk_check_int(&c, 0, most - 5), rows = bk_check_int(&c, 5, most - first);
		const struct bk_mat a = { x + first * k, rows, k, k, BK_BF16 }, z = { part, rows, n, n, BK_F32 };

		assert_int_equal(ops->gemm(run, &z, &a, 0, &b, 1, 1, 0, NULL), 0);
		assert_memory_equal(part, all + first * n, (size_t)(rows * n) * 4);
	}
	free(x), free(w), free(all), free(part);
}

/* The largest products of the longest rows: float32 alone would lose the last bits. */
static void integers_are_exact(void **state)
{
	enum { M = 7, N = 19, K = 27392 };
	int8_t *x = malloc(M * K), *w = malloc(N * K);
	float *y = malloc(M * N * 4), one[64];

	(void)state;
	for (int i = 0; i < 64; i++)
		one[i] = 1;
	for (int i = 0; i < M * K; i++)
		x[i] = i % 3 ? -128 : (int8_t)bk_check_bits(&c);
	for (int i = 0; i < N * K; i++)
		w[i] = i % 5 ? -128 : (int8_t)bk_check_bits(&c);
	const struct bk_mat a = { x, M, K, K, BK_I8 }, b = { w, N, K, K, BK_I8 }, r = { y, M, N, N, BK_F32 };
	assert_int_equal(ops->gemm_codes(run, &r, &a, one, &b, one, NULL), 0);
	for (int i = 0; i < M; i++)
		for (int j = 0; j < N; j++) {
			int64_t s = 0;

			for (int k = 0; k < K; k++)
				s += x[i * K + k] * w[j * K + k];
			assert_true(y[i * N + j] == (float)s);
		}
	free(x), free(w), free(y);
}

static void the_plain_tile_agrees(void **state)
{
	bk_tile_fn *const fns[2] = { bk_tile_base, bk_tile_best() };
	const int64_t m = 29, n = 45, k = 517;
	float *a = floats(m * k), *b = floats(n * k), *panels = malloc((size_t)(48 * k) * 4), *r[2];

	(void)state;
	bk_tile_pack(panels, b, n, k, k);
	for (int i = 0; i < 2; i++) {
		r[i] = calloc((size_t)m * 48, 4);
		fns[i](&(struct bk_tile){ .a = a, .b = panels, .c = r[i], .m = m, .n = n, .k = k, .lda = k, .panel = 16 * k, .step = 16, .ldc = 48 });
	}
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++)
			assert_true(bk_check_near((double)r[0][i * 48 + j], (double)r[1][i * 48 + j], 1e-5, 1e-4));
	free(a), free(b), free(panels), free(r[0]), free(r[1]);
}

/* --- threads --- */

struct crew { bk_parallel_fn *fn; void *arg; size_t n; atomic_size_t next; };

static void *work(void *arg)
{
	struct crew *w = arg;

	for (size_t i; (i = atomic_fetch_add(&w->next, 1)) < w->n;)
		w->fn(w->arg, i);
	return NULL;
}

static void three_threads(void *ctx, size_t n, bk_parallel_fn *fn, void *arg)
{
	struct crew w = { fn, arg, n, 0 };
	pthread_t t[2];

	(void)ctx;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, work, &w), 0);
	work(&w);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

static void threads_change_nothing(void **state)
{
	const struct bk_run_options o = { .threads = 3, .parallel = three_threads };
	const int32_t start[] = { 0, 130, 131, 300 };
	const int64_t rows = 300, cols = 320;
	uint16_t *x = halves(rows * cols), *w = halves(500 * cols), *out[2];
	double sums[2][2] = { { 0 } };
	float *h[2];
	struct bk_run *other, *both[2];

	(void)state;
	assert_int_equal(ops->open(&other, &o), 0);
	both[0] = run;
	both[1] = other;
	for (int i = 0; i < 2; i++) {
		out[i] = calloc((size_t)(rows * 500), 2);
		h[i] = calloc((size_t)(cols * cols), 4);
		const struct bk_mat a = { x, rows, cols, cols, BK_BF16 }, b = { w, 500, cols, cols, BK_BF16 }, y = { out[i], rows, 500, 500, BK_BF16 },
				    hm = { h[i], cols, cols, cols, BK_F32 }, q = { x, rows, 128, cols, BK_BF16 }, k = { x + 128, rows, 64, cols, BK_BF16 },
				    v = { x + 192, rows, 64, cols, BK_BF16 }, z = { out[i], rows, 128, 500, BK_BF16 };
		const struct bk_attention at = { 4, 2, 32, 0.2, 0, 40, { 3, start, start, 169, 169 } };

		assert_int_equal(ops->gemm(both[i], &y, &a, 0, &b, 1, 1, 0, NULL), 0);
		assert_int_equal(ops->attention(both[i], &z, &q, &k, &v, &at), 0);
		assert_int_equal(ops->hessian(both[i], &hm, &a), 0);
		assert_int_equal(ops->mirror(both[i], &hm), 0);
		assert_int_equal(ops->diff_sums(both[i], sums[i], &q, &q), 0);
	}
	assert_memory_equal(out[0], out[1], (size_t)(rows * 500) * 2);
	assert_memory_equal(h[0], h[1], (size_t)(cols * cols) * 4);
	assert_memory_equal(sums[0], sums[1], sizeof(sums[0]));
	ops->close(other);
	for (int i = 0; i < 2; i++)
		free(out[i]), free(h[i]);
	free(x), free(w);
}

/* --- limits, refusals --- */

static void limits(void **state)
{
	const struct bk_run_options o = { .memory_limit = 1 << 20 };
	struct bk_run *r;
	uint64_t used, left;
	void *a, *b;

	(void)state;
	assert_int_equal(ops->open(&r, &o), 0);
	assert_int_equal(ops->alloc(r, &a, 1 << 19), 0);
	assert_int_equal((uintptr_t)a % 256, 0);
	assert_true(ops->is_no_memory(ops->alloc(r, &b, (1 << 19) + 1)));
	assert_int_equal(ops->memory(r, &used, &left), 0);
	assert_int_equal(used, 1 << 19);
	assert_int_equal(left, 1 << 19);
	ops->release(r, a);
	ops->release(r, NULL);
	assert_int_equal(ops->alloc(r, &b, 1 << 20), 0);
	assert_true(ops->is_no_memory(ops->alloc(r, &a, SIZE_MAX - 100)));
	ops->close(r); /* with b still there */
}

static void refusals(void **state)
{
	float f[64] = { 0 };
	const int32_t q[] = { 0, 4 }, kv[] = { 0, 3 };
	const struct bk_mat a = { f, 4, 4, 4, BK_F32 }, wide = { f, 4, 8, 8, BK_F32 }, half = { f, 4, 4, 4, BK_BF16 }, tight = { f, 4, 4, 3, BK_F32 };
	const struct bk_attention at = { 1, 1, 4, 1, 0, 0, { 1, q, kv, 4, 3 } };

	(void)state;
	assert_int_equal(ops->gemm(run, &a, &a, 0, &wide, 1, 1, 0, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->gemm(run, &a, &a, 0, &half, 1, 1, 0, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->gemm(run, &tight, &a, 0, &a, 1, 1, 0, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->gemm_codes(run, &a, &a, f, &a, f, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->add(run, &a, &wide), BK_RUN_REFUSED);
	assert_int_equal(ops->quant_static(run, &a, f, &a, BK_TOKEN_INT8, 0), BK_RUN_REFUSED);
	assert_int_equal(ops->attention(run, &a, &a, &a, &a, &at), BK_RUN_REFUSED); /* fewer keys than queries */
	assert_int_equal(ops->head_norm_rope(run, &a, 3, 4, NULL, NULL), BK_RUN_REFUSED);
	assert_int_equal(ops->hessian(run, &wide, &a), BK_RUN_REFUSED);
	assert_non_null(ops->error_text(BK_RUN_REFUSED));
}

static int open_run(void **state)
{
	const struct bk_run_options o = { .threads = 1 };

	(void)state;
	ops = bk_run_cpu();
	return ops->open(&run, &o);
}

static int close_run(void **state)
{
	(void)state;
	ops->close(run);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_the_same), cmocka_unit_test(exponential),	       cmocka_unit_test(a_row_is_the_same_anywhere),
		cmocka_unit_test(integers_are_exact), cmocka_unit_test(the_plain_tile_agrees), cmocka_unit_test(threads_change_nothing),
		cmocka_unit_test(limits),	     cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, open_run, close_run);
}
