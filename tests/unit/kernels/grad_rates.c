/* SPDX-License-Identifier: Apache-2.0
 * Rates of tuning operations on shapes of a 1.2B decoder: 2048 channels, 32 heads of 64 reading 8, 8192 in the middle, weights in groups of 128. */
#include "tests/unit/kernels/grad_rates.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { H = 2048, F = 4096, HEADS = 32, KV = 8, DIM = 64, VOCAB = 102400, GROUP = 128, SEQUENCE = 2048 };

struct rates {
	const struct bk_grad_side *s;
	int64_t t;
	void *buf[6], *w, *w_hat, *v, *dw, *scale, *parts, *positions, *angles, *lse, *starts;
	struct bk_attention a;
};

static struct bk_mat mat(void *p, int64_t rows, int64_t cols, int dtype) { return (struct bk_mat){ p, rows, cols, cols, dtype }; }

/* of this process where it does the work itself, so that others on the machine do not count */
static double seconds(const struct rates *r)
{
	struct timespec t;

	clock_gettime(r->s->side.ops->unified ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *fresh(struct rates *r, size_t bytes, int noise)
{
	struct bk_check c = { .state = 1 };
	void *p = NULL;

	assert_int_equal(r->s->side.ops->alloc(r->s->side.run, &p, bytes), 0);
	if (noise) { /* bf16 of both signs around 1, or float32 around 1 */
		uint32_t *raw = malloc(bytes);

		assert_non_null(raw);
		for (size_t i = 0; i < bytes / 4; i++)
			raw[i] = 0x3c803c80u + ((uint32_t)bk_check_bits(&c) & 0x80ff80ffu);
		assert_int_equal(r->s->side.ops->put(r->s->side.run, p, raw, bytes), 0);
		free(raw);
	} else {
		assert_int_equal(r->s->side.ops->zero(r->s->side.run, p, bytes), 0);
	}
	return p;
}

/* gb: bytes that must move, in 1e9; gflop: what a product is worth */
#define RATE(of, name, gb, gflop, call)                                                                                                              \
	do {                                                                                                                                         \
		struct bk_run *run = (of)->s->side.run;                                                                                              \
		double best = 1e9;                                                                                                                   \
		for (int round = 0; round < 4; round++) {                                                                                            \
			const double t0 = seconds(of);                                                                                               \
			assert_int_equal(call, 0);                                                                                                   \
			assert_int_equal((of)->s->side.ops->wait(run), 0);                                                                           \
			best = seconds(of) - t0 < best ? seconds(of) - t0 : best;                                                                    \
		}                                                                                                                                    \
		print_message("%-22s %9.3f ms %8.1f GB/s %9.1f GFLOP/s\n", name, 1e3 * best, (gb) / best, (gflop) / best);                           \
	} while (0)

static void sequences(struct rates *r)
{
	const int64_t n = (r->t + SEQUENCE - 1) / SEQUENCE;
	int32_t *start = malloc(((size_t)n + 1) * 4), *position = malloc((size_t)r->t * 4);

	for (int64_t i = 0; i <= n; i++)
		start[i] = (int32_t)(i * SEQUENCE < r->t ? i * SEQUENCE : r->t);
	for (int64_t i = 0; i < r->t; i++)
		position[i] = (int32_t)(i % SEQUENCE);
	r->starts = fresh(r, ((size_t)n + 1) * 4, 0);
	r->positions = fresh(r, (size_t)r->t * 4, 0);
	assert_int_equal(r->s->side.ops->put(r->s->side.run, r->starts, start, ((size_t)n + 1) * 4), 0);
	assert_int_equal(r->s->side.ops->put(r->s->side.run, r->positions, position, (size_t)r->t * 4), 0);
	r->a = (struct bk_attention){
		HEADS, KV, DIM, 0.125, 0, 0, { (int)n, r->starts, r->starts, r->t < SEQUENCE ? r->t : SEQUENCE, r->t < SEQUENCE ? r->t : SEQUENCE }
	};
	free(start), free(position);
}

static void of_rows(struct rates *r)
{
	const struct bk_grad_ops *ops = r->s->ops;
	const double n = 1e-9 * (double)r->t;
	const struct bk_mat x = mat(r->buf[0], r->t, H, BK_BF16), dy = mat(r->buf[1], r->t, H, BK_BF16), dx = mat(r->buf[2], r->t, H, BK_BF16),
			    g = mat(r->buf[0], r->t, F, BK_BF16), u = mat(r->buf[1], r->t, F, BK_BF16), dh = mat(r->buf[2], r->t, F, BK_BF16),
			    dg = mat(r->buf[3], r->t, F, BK_BF16), du = mat(r->buf[4], r->t, F, BK_BF16);
	const struct bk_norm norm = { r->w, BK_BF16, 1e-5, 0 };
	const struct bk_rope rope = { r->angles, r->angles, r->positions, SEQUENCE };

	RATE(r, "rmsnorm_back", n * H * 6, 0, ops->rmsnorm_back(run, &dx, r->parts, &x, &norm, &dy, 0));
	RATE(r, "head_norm_rope", n * H * 4, 0, ops->head_norm_rope(run, &dx, &x, HEADS, DIM, &norm, &rope));
	RATE(r, "head_norm_rope_back", n * H * 6, 0, ops->head_norm_rope_back(run, &dx, r->parts, &x, HEADS, DIM, &norm, &rope, &dy));
	RATE(r, "gate_back", n * F * 10, 0, ops->gate_back(run, &dg, &du, &g, &u, &dh, BK_GATE_SILU));
	RATE(r, "mse_back", n * H * 6, 0, ops->mse_back(run, &dx, r->parts, &x, &dy, 1));
	RATE(r, "fake_tokens", n * H * 4, 0, ops->fake_tokens(run, &dx, &x, BK_TOKEN_INT8, 0));
}

static void of_products(struct rates *r)
{
	const struct bk_run_ops *ops = r->s->side.ops;
	const struct bk_mat q = mat(r->buf[0], r->t, H, BK_BF16), k = mat(r->buf[1], r->t, KV * DIM, BK_BF16),
			    v = mat(r->buf[2], r->t, KV * DIM, BK_BF16), o = mat(r->buf[3], r->t, H, BK_BF16), d_o = mat(r->buf[4], r->t, H, BK_BF16),
			    dk = mat(r->buf[5], r->t, KV * DIM, BK_BF16);
	const struct bk_mat w = mat(r->w_hat, F, H, BK_BF16), dw = mat(r->dw, F, H, BK_F32), dy = mat(r->buf[1], r->t, F, BK_BF16);
	const double pairs = (double)r->t * (double)r->a.seq.max_q / 2, flop = 2e-9 * (double)r->t * H * F;
	struct bk_mat dv = dk;

	dv.p = (char *)r->buf[5] + (size_t)r->t * KV * DIM * 2;
	RATE(r, "attention_lse", 0, 4e-9 * pairs * HEADS * DIM, r->s->ops->attention_lse(run, &o, r->lse, &q, &k, &v, &r->a));
	RATE(r, "attention_back", 0, 10e-9 * pairs * HEADS * DIM,
	     r->s->ops->attention_back(run, &d_o, &dk, &dv, &q, &k, &v, &o, r->lse, &d_o, &r->a));
	RATE(r, "gemm dx = dy W", 0, flop, ops->gemm(run, &q, &dy, 0, &w, 0, 1, 0, NULL));
	RATE(r, "gemm dW += dy' x", 0, flop, ops->gemm(run, &dw, &dy, 1, &q, 0, 1, 1, NULL));
}

static void of_weights(struct rates *r)
{
	const struct bk_grad_ops *ops = r->s->ops;
	const double n = 1e-9 * F * H;
	const struct bk_mat w = mat(r->w, F, H, BK_BF16), hat = mat(r->w_hat, F, H, BK_BF16), g = mat(r->dw, F, H, BK_F32);
	const struct bk_fake f = { &w, r->v, r->scale, NULL, { BK_INT, 4, 1, GROUP, BK_SCALE_BF16, 0 } };
	const struct bk_adam adam = { 1e-3f, 0.9f, 0.95f, 1e-8f, 0, 1, { 0, 0 } };
	float *const p = r->v;

	RATE(r, "fake_quant", n * 8, 0, ops->fake_quant(run, &hat, NULL, &f));
	RATE(r, "fake_quant_back", n * 14, 0, ops->fake_quant_back(run, r->dw, r->scale, &g, &f));
	RATE(r, "sign_step", n * 12, 0, ops->sign_step(run, p, r->dw, (int64_t)F * H, 1e-3f, NULL));
	RATE(r, "adam_step", n / 4 * 28, 0, ops->adam_step(run, p, p + F * H / 4, p + F * H / 2, r->dw, (int64_t)F * H / 4, &adam));
}

void test_grad_rates(const struct bk_grad_side *s, int tokens)
{
	struct rates r = { .s = s, .t = tokens < 64 ? 64 : tokens };
	const int64_t rows = r.t * F / VOCAB;
	const struct rates *of = &r;
	struct bk_mat p, q;

	for (int i = 0; i < 6; i++)
		r.buf[i] = fresh(&r, (size_t)r.t * F * 2, 1);
	r.w = fresh(&r, (size_t)F * H * 2, 1), r.w_hat = fresh(&r, (size_t)F * H * 2, 1), r.v = fresh(&r, (size_t)F * H * 4, 0);
	r.dw = fresh(&r, (size_t)F * H * 4, 0), r.scale = fresh(&r, (size_t)F * H / GROUP * 4, 1), r.parts = fresh(&r, (size_t)H * 4, 0);
	r.angles = fresh(&r, SEQUENCE * DIM / 2 * 4, 1), r.lse = fresh(&r, (size_t)r.t * HEADS * 4, 0);
	sequences(&r);
	p = mat(r.buf[0], rows, VOCAB, BK_BF16), q = mat(r.buf[1], rows, VOCAB, BK_BF16);
	of_rows(&r);
	if (rows)
		RATE(of, "kl_back", 6e-9 * VOCAB * (double)rows, 0, s->ops->kl_back(run, &q, NULL, &p, &q, 1));
	of_products(&r);
	of_weights(&r);
	{
		void *const all[] = { r.w, r.w_hat, r.v, r.dw, r.scale, r.parts, r.angles, r.lse, r.starts, r.positions };

		for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
			s->side.ops->release(s->side.run, all[i]);
		for (int i = 0; i < 6; i++)
			s->side.ops->release(s->side.run, r.buf[i]);
	}
}
