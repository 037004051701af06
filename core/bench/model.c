/* SPDX-License-Identifier: Apache-2.0
 * Floors, for the 1.2B shape (hidden 2048, ffn 4096, 30 blocks, vocabulary 102400) and 16 kept windows of 1024 tokens, T = 16384:
 *   an edit's error where activations are quantized too: the block runs on its kept input, 2 T 35.7M = 1.17 TFLOP and attention 0.07, then both products of
 *   the unit, gate_up the largest: 0.55 TFLOP in bf16 and as much in int8 at twice the rate; 2.1 TFLOP in all, 3 ms at 700 TFLOP/s. Over the bus goes the
 *   block's input, 67 MB (5 ms at 14 GB/s; the first time its sum is checked, about as long), and the codes, 17 MB. On the host 17 M weights are rounded,
 *   which takes 40 ms of one core, 2.5 on 16: moving that to the device would save a tenth. Weights of the model are on the device already.
 *   weights alone: tr(D H Dᵀ) with D [8192, 2048] is 69 GFLOP in float32, 1.5 ms; H, 17 or 67 MB, comes over the bus once.
 *   the effect of an edit in block 15: 15 blocks of 1.24 TFLOP, a head of 6.9 TFLOP (the base's logits, 3.4 GB, stay on the device) and one reading of both
 *   sets of logits, 6.7 GB: 26 TFLOP and 2 ms, 39 ms at 700 TFLOP/s; and the 40 ms that are waited for further edits. */
#include "core/bench/model.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/backend/engine.h"
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/calib/calib.h"
#include "core/forward/forward.h"
#include "core/session/run.h"

#define CACHE      "bench-calibration"
#define EDITS      12
#define PATIENCE_S 120
#define MS         20 /* at least so long between two looks at the clock */

struct shape { int64_t windows, len, keep, keep_len, batch, product; };

struct bench {
	const struct bl_bench_model *b;
	struct bl_progress *progress;
	struct bl_model *m;
	struct bl_pool *pool;
	struct bl_backend backend;
	struct bl_engine e;
	struct bl_forward *f;
	struct shape s;
	double peak;
};

static bool wanted(const struct bench *b, unsigned which)
{
	return (b->b->which & which) != 0;
}

static enum bl_status stopped(const struct bench *b, struct bl_err *err)
{
	return atomic_load(&b->progress->cancel) ? bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED)) : BL_OK;
}

/* ---- operations ---- */

/* Pairs of query and key that count in a window. */
static double pairs(const struct bl_config *c, int64_t layer, int64_t len)
{
	int64_t w = c->sliding_window > 0 && c->sliding[layer] && c->sliding_window < len ? c->sliding_window : len;

	return (double)w * (double)(w + 1) / 2 + (double)(len - w) * (double)w;
}

static double block_flops(const struct bl_model *m, int block, int64_t windows, int64_t len)
{
	const struct bl_config *c = &m->config;
	double params = 0;

	for (int i = 0; i < m->n_units; i++)
		if (m->units[i].block == block)
			params += (double)m->units[i].rows * (double)m->units[i].cols;
	return 2 * params * (double)(windows * len) + 4 * (double)(c->heads * c->head_dim) * pairs(c, block, len) * (double)windows;
}

static double blocks_flops(const struct bl_model *m, int from, int64_t windows, int64_t len)
{
	double sum = 0;

	for (int b = from; b < m->config.layers; b++)
		sum += block_flops(m, b, windows, len);
	return sum;
}

/* ---- memory with something in it ---- */

static enum bl_status noise(struct bench *b, void **out, size_t bytes, struct bl_err *err)
{
	size_t n = (size_t)4 << 20, part = bytes < n ? bytes : n;
	const struct bk_run_ops *o = b->e.ops;
	struct bl_rng r;
	uint16_t *host;
	int error;

	if (bl_engine_alloc(&b->e, out, bytes, "measurements", err) || bl_try_alloc(&host, n / 2, 2, "noise", err))
		return err->status;
	bl_rng_seed(&r, 5);
	for (size_t i = 0; i < part / 2; i++)
		host[i] = bl_f32_bf16(bl_rng_unit(&r) * 2 - 1);
	error = o->put(b->e.run, *out, host, part);
	for (size_t have = part; have < bytes && !error; have *= 2)
		error = o->copy(b->e.run, (char *)*out + have, *out, bytes - have < have ? bytes - have : have);
	bl_free(host);
	return bl_engine_check(&b->e, error, "filling memory for measurements", err);
}

static struct bk_mat mat(void *p, int64_t rows, int64_t cols, int dtype)
{
	return (struct bk_mat){p, rows, cols, cols, dtype};
}

/* Seconds of one call, each of at least MS: runs of them into t. */
static enum bl_status time_calls(struct bench *b, int (*call)(struct bench *b, void *ctx), void *ctx, struct bl_bench_times *t, struct bl_err *err)
{
	const struct bk_run_ops *o = b->e.ops;
	int error = call(b, ctx), n = 1;
	uint64_t start;

	if (!error)
		error = o->wait(b->e.run);
	start = bl_now_ns();
	if (!error)
		error = call(b, ctx);
	if (!error)
		error = o->wait(b->e.run);
	double once = (double)(bl_now_ns() - start) / 1e6;
	n = once > MS ? 1 : (int)(MS / (once > 0.01 ? once : 0.01)) + 1;
	for (int i = 0; i < b->b->runs && !error && !stopped(b, err); i++) {
		start = bl_now_ns();
		for (int k = 0; k < n && !error; k++)
			error = call(b, ctx);
		if (!error)
			error = o->wait(b->e.run);
		bl_bench_add(t, start);
		t->s[t->n - 1] /= n;
	}
	return err->status ? err->status : bl_engine_check(&b->e, error, "a measurement", err);
}

struct product { void *a, *b, *c; };

static int product(struct bench *b, void *ctx)
{
	struct product *p = ctx;
	int64_t n = b->s.product;
	struct bk_mat x = mat(p->a, n, n, BK_BF16), w = mat(p->b, n, n, BK_BF16), y = mat(p->c, n, n, BK_BF16);

	return b->e.ops->gemm(b->e.run, &y, &x, 0, &w, 1, 1, 0, NULL);
}

static enum bl_status find_peak(struct bench *b, struct bl_err *err)
{
	size_t bytes = (size_t)(b->s.product * b->s.product) * 2;
	struct product p = {NULL, NULL, NULL};
	struct bl_bench_times t = {.n = 0};

	if (noise(b, &p.a, bytes, err) == BL_OK && noise(b, &p.b, bytes, err) == BL_OK && bl_engine_alloc(&b->e, &p.c, bytes, "a product", err) == BL_OK &&
	    time_calls(b, product, &p, &t, err) == BL_OK && t.n)
		b->peak = 2 * (double)b->s.product * (double)b->s.product * (double)b->s.product / bl_bench_median(&t);
	bl_engine_release(&b->e, p.a);
	bl_engine_release(&b->e, p.b);
	bl_engine_release(&b->e, p.c);
	return err->status;
}

/* ---- forward ---- */

static int32_t *random_ids(const struct bench *b, int64_t n)
{
	int32_t *ids = bl_xalloc((size_t)n + 1, sizeof *ids);
	struct bl_rng r;

	bl_rng_seed(&r, 11);
	for (int64_t i = 0; i < n; i++)
		ids[i] = (int32_t)(bl_rng_u64(&r) % (uint64_t)b->m->config.vocab);
	return ids;
}

static enum bl_status pass_over(struct bench *b, const int32_t *ids, int64_t windows, int64_t len, struct bl_bench_times *t, int runs, struct bl_err *err)
{
	int64_t *start = bl_xalloc((size_t)windows + 1, sizeof *start);
	struct bl_sequences seq = {ids, start, windows};
	struct bl_pass *p = NULL;

	for (int64_t i = 0; i <= windows; i++)
		start[i] = i * len;
	bl_pass_new(&p, b->f, &seq, err);
	if (!err->status && bl_pass_embed(p, err) == BL_OK)
		bl_pass_block(p, 0, NULL, NULL, err); /* loads what batches of this size run with */
	for (int i = 0; i < runs && !err->status && !stopped(b, err); i++) {
		bl_engine_check(&b->e, b->e.ops->wait(b->e.run), "a forward", err);
		uint64_t at = bl_now_ns();
		if (!err->status && bl_pass_embed(p, err) == BL_OK && bl_pass_run(p, 0, NULL, NULL, err) == BL_OK &&
		    bl_engine_check(&b->e, b->e.ops->wait(b->e.run), "a forward", err) == BL_OK && t)
			bl_bench_add(t, at);
	}
	bl_pass_free(p);
	bl_free(start);
	return err->status;
}

static enum bl_status forward(struct bench *b, struct bl_err *err)
{
	struct bl_bench_model_row r = {.name = "forward", .flops = blocks_flops(b->m, 0, b->s.windows, b->s.len), .peak = b->peak, .goal = 0.45};
	int32_t *ids = random_ids(b, b->s.windows * b->s.len);

	snprintf(r.what, sizeof r.what, "%lld windows of %lld tokens through all blocks", (long long)b->s.windows, (long long)b->s.len);
	if (pass_over(b, ids, 1, b->s.len, NULL, 1, err) == BL_OK && pass_over(b, ids, b->s.windows, b->s.len, &r.times, b->b->runs, err) == BL_OK)
		b->b->row(b->b->ctx, &r);
	bl_free(ids);
	return err->status;
}

/* ---- Hessians ---- */

struct hessians { void *x, *h; int64_t k[16]; int n; };

static int hessians_of_block(struct bench *b, void *ctx)
{
	struct hessians *w = ctx;
	int error = 0;

	for (int i = 0; i < w->n && !error; i++) {
		struct bk_mat x = mat(w->x, b->s.batch, w->k[i], BK_BF16), h = mat(w->h, w->k[i], w->k[i], BK_F32);
		error = b->e.ops->hessian(b->e.run, &h, &x);
	}
	return error;
}

static enum bl_status hessian(struct bench *b, struct bl_err *err)
{
	struct bl_bench_model_row r = {.name = "hessian", .peak = b->peak, .goal = 0.60};
	struct hessians w = {.n = 0};
	int64_t most = 0;

	for (int i = 0; i < b->m->n_units && b->m->units[i].block == 0 && w.n < 16; i++) {
		int64_t k = b->m->units[i].cols;
		w.k[w.n++] = k;
		most = k > most ? k : most;
		r.flops += (double)b->s.batch * (double)k * (double)(k + 1);
	}
	snprintf(r.what, sizeof r.what, "one triangle of all inputs of a block, %lld tokens", (long long)b->s.batch);
	if (noise(b, &w.x, (size_t)(b->s.batch * most) * 2, err) == BL_OK && bl_engine_alloc(&b->e, &w.h, (size_t)(most * most) * 4, "Hessians", err) == BL_OK &&
	    bl_engine_check(&b->e, b->e.ops->zero(b->e.run, w.h, (size_t)(most * most) * 4), "Hessians", err) == BL_OK &&
	    time_calls(b, hessians_of_block, &w, &r.times, err) == BL_OK)
		b->b->row(b->b->ctx, &r);
	bl_engine_release(&b->e, w.x);
	bl_engine_release(&b->e, w.h);
	return err->status;
}

/* ---- edits ---- */

static enum bl_status calibrate(struct bench *b, const char *cache, struct bl_err *err)
{
	int64_t n = b->s.keep * b->s.keep_len;
	int32_t *ids = random_ids(b, n);
	struct bl_calib_data d = {ids, b->s.keep, b->s.keep_len, "random"};
	struct bl_calib_options o = {.hessians = true, .keep_windows = b->s.keep, .device = b->e.cuda ? "cuda" : "cpu", .cancel = &b->progress->cancel};
	struct bl_calib *c = NULL;

	if (bl_calib_run(&c, b->f, &d, cache, &o, NULL, NULL, NULL, err) == BL_OK)
		bl_calib_settle(c, err);
	bl_calib_free(c);
	bl_free(ids);
	return err->status;
}

static void nap(void)
{
	nanosleep(&(struct timespec){0, 100000}, NULL);
}

static enum bl_status too_long(const struct bench *b, uint64_t since, const char *what, struct bl_err *err)
{
	if (bl_now_ns() - since > PATIENCE_S * 1000000000ull)
		return bl_fail(err, BL_FAILED, "%s did not come within %d seconds", what, PATIENCE_S);
	return stopped(b, err);
}

static enum bl_status scheme(struct bl_choice *c, const char *name, struct bl_err *err)
{
	*c = (struct bl_choice){.params = (char *)(uintptr_t)""};
	snprintf(c->method, sizeof c->method, "rtn");
	return bl_scheme_parse(&c->scheme, name, err);
}

static enum bl_status wait_error(struct bench *b, struct bl_session *s, int unit, const struct bl_choice *c, struct bl_bench_times *t, struct bl_err *err)
{
	uint64_t start = bl_now_ns();
	struct bl_layer_error e;
	char why[160] = "";

	for (enum bl_known k; (k = bl_session_layer_error(s, unit, c, &e, why)) != BL_KNOWN_YES && !too_long(b, start, "a layer error", err); nap())
		if (k == BL_KNOWN_REFUSED)
			return bl_fail(err, BL_FAILED, "a layer error: %s", why);
	if (!err->status && t)
		bl_bench_add(t, start);
	return err->status;
}

/* Which unit the i-th of n edits is in: all kinds, blocks spread over the model. */
static int nth_unit(const struct bl_model *m, int i, int n)
{
	int per = m->n_units / (int)m->config.layers, block = (int)(m->config.layers * (2 * i + 1) / (2 * n));

	return block * per + i % per;
}

/* One edit of every kind before those that count: what they run with is loaded then. */
static enum bl_status warm(struct bench *b, struct bl_session *s, const struct bl_choice *c, int n, struct bl_err *err)
{
	int per = b->m->n_units / (int)b->m->config.layers;

	for (int kind = 0; kind < per && !err->status; kind++) {
		int unit = kind;
		for (int i = 0; i < n; i++)
			if (nth_unit(b->m, i, n) == unit) {
				unit += per;
				i = -1;
			}
		if (unit < b->m->n_units)
			wait_error(b, s, unit, c, NULL, err);
	}
	return err->status;
}

static enum bl_status live_error(struct bench *b, struct bl_session *s, const char *name, const char *scheme_name, bool activations, struct bl_err *err)
{
	struct bl_bench_model_row r = {.name = name, .peak = b->peak, .goal = 0.05, .seconds = true};
	int n = EDITS < b->m->config.layers ? EDITS : (int)b->m->config.layers;
	const struct bl_unit *u;
	struct bl_choice c;

	if (scheme(&c, scheme_name, err) || warm(b, s, &c, n, err))
		return err->status;
	for (int i = 0; i < n && !err->status; i++) {
		u = &b->m->units[nth_unit(b->m, i, n)];
		double tokens = (double)(b->s.keep * b->s.keep_len), nk = (double)u->rows * (double)u->cols;
		r.flops += (activations ? block_flops(b->m, (int)u->block, b->s.keep, b->s.keep_len) + 3 * tokens * nk : 2 * nk * (double)u->cols) / n;
		wait_error(b, s, nth_unit(b->m, i, n), &c, &r.times, err);
	}
	snprintf(r.what, sizeof r.what, "from an edit to the unit's true error, %s, %d units of different blocks", scheme_name, n);
	if (!err->status)
		b->b->row(b->b->ctx, &r);
	return err->status;
}

static enum bl_status wait_effect(struct bench *b, struct bl_session *s, int unit, const struct bl_choice *c, struct bl_bench_times *t, struct bl_err *err)
{
	uint64_t start = bl_now_ns();
	struct bl_layer_error e;
	struct bl_effect effect;
	char why[160];

	bl_plan_set_scheme(s->plan, unit, &c->scheme);
	bl_session_edited(s);
	bl_session_layer_error(s, unit, c, &e, why); /* as the row on the screen does */
	for (;; nap()) {
		bl_session_effect(s, &effect);
		if (effect.kl.origin == BL_MEASURED && !effect.stale && !effect.computing)
			break;
		if (too_long(b, start, "the effect of an edit", err))
			return err->status;
	}
	if (t)
		bl_bench_add(t, start);
	return BL_OK;
}

static enum bl_status live_kl(struct bench *b, struct bl_session *s, struct bl_err *err)
{
	struct bl_bench_model_row r = {.name = "live-kl", .peak = b->peak, .goal = 0.3, .seconds = true};
	const struct bl_model *m = b->m;
	int middle = (int)m->config.layers / 2, per = m->n_units / (int)m->config.layers, n = per * 2 < EDITS ? per * 2 : EDITS;
	double tokens = (double)(b->s.keep * b->s.keep_len);
	struct bl_choice w8, w4;

	if (scheme(&w8, "W8A8", err) || scheme(&w4, "W4A16", err) || wait_effect(b, s, 0, &w4, NULL, err) || wait_effect(b, s, middle * per, &w4, NULL, err))
		return err->status;
	for (int i = 0; i < n && !err->status; i++)
		wait_effect(b, s, middle * per + i % per, i < per ? &w8 : &w4, &r.times, err);
	r.flops = blocks_flops(m, middle, b->s.keep, b->s.keep_len) + 2 * tokens * (double)m->config.vocab * (double)m->config.hidden;
	snprintf(r.what, sizeof r.what, "from an edit in block %d to the plan's KL on %lld windows of %lld tokens, W8A8 and W4A16, %d edits", middle, (long long)b->s.keep,
		 (long long)b->s.keep_len, n);
	if (!err->status)
		b->b->row(b->b->ctx, &r);
	return err->status;
}

static enum bl_status edits(struct bench *b, const char *cache, struct bl_err *err)
{
	struct bl_session_options o = {.threads = b->b->threads, .seed = 42, .program_dir = b->b->program_dir, .device = b->b->device, .cache_dir = cache};
	struct bl_session *s = NULL;

	if (bl_session_open(&s, b->b->model, &o, err) == BL_OK && bl_session_adopt_calib(s, NULL, err) == BL_OK) {
		if (wanted(b, BL_BENCH_LIVE_ERROR) && live_error(b, s, "live-error", "W8A8", true, err) == BL_OK)
			live_error(b, s, "live-error-weights", "W4A16", false, err);
		if (!err->status && wanted(b, BL_BENCH_LIVE_KL))
			live_kl(b, s, err);
	}
	bl_session_close(s);
	return err->status;
}

/* ---- all of it ---- */

static void close_device(struct bench *b)
{
	bl_forward_free(b->f);
	b->f = NULL;
	bl_engine_close(&b->e);
}

static enum bl_status open_device(struct bench *b, struct bl_err *err)
{
	struct bl_forward_options o = {.cancel = &b->progress->cancel};
	int64_t most;

	b->pool = bl_pool_new(b->b->threads);
	bl_backend_open(&b->backend, b->b->program_dir);
	if (bl_engine_open(&b->e, &b->backend, b->b->device ? b->b->device : "auto", b->pool, 0, err) || bl_model_open(&b->m, b->b->model, err) ||
	    bl_forward_new(&b->f, b->m, &b->e, &o, err))
		return err->status;
	b->s = b->e.cuda ? (struct shape){512, 1024, 16, 1024, 32768, 8192} : (struct shape){4, 256, 4, 64, 1024, 768};
	most = b->m->config.max_positions;
	b->s.len = b->s.len < most ? b->s.len : most;
	b->s.keep_len = b->s.keep_len < most ? b->s.keep_len : most;
	if (find_peak(b, err) == BL_OK && b->b->named)
		b->b->named(b->b->ctx, b->e.name, b->peak);
	return err->status;
}

enum bl_status bl_bench_model(const struct bl_bench_model *what, struct bl_progress *progress, struct bl_err *err)
{
	struct bench b = {.b = what, .progress = progress};
	char *cache = bl_path_join(what->folder, CACHE);

	if (open_device(&b, err) == BL_OK) {
		if (wanted(&b, BL_BENCH_FORWARD))
			forward(&b, err);
		if (!err->status && wanted(&b, BL_BENCH_HESSIAN))
			hessian(&b, err);
		if (!err->status && wanted(&b, BL_BENCH_LIVE_ERROR | BL_BENCH_LIVE_KL) && calibrate(&b, cache, err) == BL_OK) {
			close_device(&b); /* the session opens its own */
			edits(&b, cache, err);
		}
	}
	close_device(&b);
	bl_model_close(b.m);
	if (b.pool)
		bl_backend_close(&b.backend);
	bl_pool_free(b.pool);
	bl_remove_tree(cache);
	bl_free(cache);
	return err->status;
}
