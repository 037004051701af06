/* SPDX-License-Identifier: Apache-2.0
 * Operations of the CUDA run at the shapes of real models, each against the floor that the same device sets in the same minute: a copy that moves as many
 * bytes, a large product that does as many operations. Checked beside the CPU first. Many calls are queued between two looks at the clock. */
#include <stdio.h>
#include <string.h>

#include "core/backend/engine.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/bench/device.h"
#include "kernels/run/twin_check.h"

#define T      32768 /* tokens: 32 windows of 1024 */
#define WINDOW 1024
#define VOCAB  102400
#define ROWS_V 2048  /* rows of logits */
#define MS     20    /* at least so long between two looks */

enum { SLOT_A, SLOT_B, SLOT_C, SLOT_D, SLOTS };

struct bench {
	struct bl_engine *e;
	void *slot[SLOTS]; /* random bf16, sizes below */
	void *acc;         /* float32 and counters */
	int32_t *starts, *positions;
	float *cos, *sin;
	double copy_rate, flop_rate;
};

static const size_t slot_bytes[SLOTS] = { (size_t)T * 8192 * 2, (size_t)T * 8192 * 2, (size_t)VOCAB * 5120, (size_t)256 << 20 };
#define ACC_BYTES ((size_t)128 << 20)

struct row {
	const char *name;
	double bytes, flops;
	int (*run)(struct bench *b, const struct row *r);
	int64_t m, n, k;      /* whatever run makes of them */
	double peak;          /* of flop_rate: 2 for int8 */
};

static struct bk_mat mat(void *p, int64_t rows, int64_t cols, int dtype) { return (struct bk_mat){ p, rows, cols, cols, dtype }; }

static int run_gemm(struct bench *b, const struct row *r)
{
	const struct bk_mat x = mat(b->slot[SLOT_A], r->m, r->k, BK_BF16), w = mat(b->slot[SLOT_C], r->n, r->k, BK_BF16), y = mat(b->slot[SLOT_B], r->m, r->n, BK_BF16);

	return b->e->ops->gemm(b->e->run, &y, &x, 0, &w, 1, 1, 0, NULL);
}

static int run_copy(struct bench *b, const struct row *r) { return b->e->ops->copy(b->e->run, b->slot[SLOT_B], b->slot[SLOT_A], (size_t)r->bytes / 2); }

static int run_codes(struct bench *b, const struct row *r)
{
	const int type = r->peak > 1 ? BK_I8 : BK_F8;
	const struct bk_mat x = mat(b->slot[SLOT_A], r->m, r->k, type), w = mat(b->slot[SLOT_D], r->n, r->k, type), y = mat(b->slot[SLOT_B], r->m, r->n, BK_BF16);

	return b->e->ops->gemm_codes(b->e->run, &y, &x, b->cos, &w, b->sin, NULL);
}

static int run_quant(struct bench *b, const struct row *r)
{
	const struct bk_mat x = mat(b->slot[SLOT_A], T, r->k, BK_BF16), q = mat(b->slot[SLOT_B], T, r->k, BK_I8);

	return b->e->ops->quant_tokens(b->e->run, &q, b->acc, &x, BK_TOKEN_INT8);
}

/* m: heads, n: key heads, k: their size */
static int run_attention(struct bench *b, const struct row *r)
{
	const int64_t d = r->k, wide = (r->m + 2 * r->n) * d;
	const struct bk_attention a = { (int)r->m, (int)r->n, (int)d, 0.1, 0, 0, { T / WINDOW, b->starts, b->starts, WINDOW, WINDOW } };
	struct bk_mat q = { b->slot[SLOT_A], T, r->m * d, wide, BK_BF16 }, k = { (uint16_t *)q.p + r->m * d, T, r->n * d, wide, BK_BF16 }, v = k;
	const struct bk_mat out = mat(b->slot[SLOT_B], T, r->m * d, BK_BF16);

	v.p = (uint16_t *)k.p + r->n * d;
	return b->e->ops->attention(b->e->run, &out, &q, &k, &v, &a);
}

/* n: which */
static int run_norm(struct bench *b, const struct row *r)
{
	const struct bk_mat x = mat(b->slot[SLOT_A], T, r->k, BK_BF16), y = mat(b->slot[SLOT_B], T, r->k, BK_BF16), a = mat(b->slot[SLOT_C], T, r->k, BK_BF16);
	const struct bk_norm n = { b->slot[SLOT_D], BK_BF16, 1e-5, 0 };

	if (r->n == 0)
		return b->e->ops->rmsnorm(b->e->run, &y, &x, &n);
	if (r->n == 1)
		return b->e->ops->add_rmsnorm(b->e->run, &y, &x, &a, &n);
	if (r->n == 2)
		return b->e->ops->rmsnorm_add(b->e->run, &x, &a, &n);
	return b->e->ops->add(b->e->run, &x, &a);
}

static int run_rope(struct bench *b, const struct row *r)
{
	const struct bk_mat x = mat(b->slot[SLOT_A], T, r->m * r->k, BK_BF16);
	const struct bk_norm n = { b->slot[SLOT_D], BK_BF16, 1e-5, 0 };
	const struct bk_rope rope = { b->cos, b->sin, b->positions, WINDOW };

	return b->e->ops->head_norm_rope(b->e->run, &x, (int)r->m, (int)r->k, &n, &rope);
}

static int run_gate(struct bench *b, const struct row *r)
{
	const struct bk_mat g = { b->slot[SLOT_A], T, r->k, 2 * r->k, BK_BF16 }, u = { (uint16_t *)g.p + r->k, T, r->k, 2 * r->k, BK_BF16 };
	const struct bk_mat h = mat(b->slot[SLOT_B], T, r->k, BK_BF16);

	return b->e->ops->gate(b->e->run, &h, &g, &u, BK_GATE_SILU);
}

static int run_stats(struct bench *b, const struct row *r)
{
	const struct bk_mat x = mat(b->slot[SLOT_A], T, r->k, BK_BF16);
	char *p = b->acc;
	const struct bk_input_acc acc = { (float *)p, (double *)(p + 65536), (double *)(p + 131072), (uint64_t *)(p + 262144), (uint64_t *)(p + 327680),
					  (uint64_t *)(p + 393216) };

	return b->e->ops->input_stats(b->e->run, &acc, &x);
}

static int run_hessian(struct bench *b, const struct row *r)
{
	const struct bk_mat x = mat(b->slot[SLOT_A], T, r->k, BK_BF16), h = mat(b->acc, r->k, r->k, BK_F32);

	return b->e->ops->hessian(b->e->run, &h, &x);
}

static int run_loss(struct bench *b, const struct row *r)
{
	const struct bk_mat p = mat(b->slot[SLOT_A], ROWS_V, VOCAB, BK_BF16), q = mat(b->slot[SLOT_B], ROWS_V, VOCAB, BK_BF16);
	float *f = b->acc;
	const struct bk_row_kl kl = { f, f + ROWS_V, f + 2 * ROWS_V, (int32_t *)f + 3 * ROWS_V };
	const struct bk_row_loss loss = { f, (int32_t *)f + ROWS_V };

	return r->n ? b->e->ops->row_kl(b->e->run, &kl, &p, &q, b->positions) : b->e->ops->row_loss(b->e->run, &loss, &p, b->positions);
}

static int run_diff(struct bench *b, const struct row *r)
{
	const struct bk_mat x = mat(b->slot[SLOT_A], T, r->k, BK_BF16), y = mat(b->slot[SLOT_B], T, r->k, BK_BF16);

	return b->e->ops->diff_sums(b->e->run, b->acc, &x, &y);
}

#define GEMM(name_, m_, n_, k_) { .name = name_, .bytes = 2.0 * ((double)(m_) * (k_) + (double)(n_) * (k_) + (double)(m_) * (n_)), \
				  .flops = 2.0 * (m_) * (n_) * (k_), .run = run_gemm, .m = m_, .n = n_, .k = k_ }
#define CODES(name_, n_, k_, peak_) { .name = name_, .bytes = (double)T * (k_) + (double)(n_) * (k_) + 2.0 * T * (n_), .flops = 2.0 * T * (n_) * (k_), \
				      .run = run_codes, .m = T, .n = n_, .k = k_, .peak = peak_ }
#define ATTENTION(name_, h_, kv_, d_) { .name = name_, .bytes = 2.0 * T * (2 * (h_) + 2 * (kv_)) * (d_), .flops = 4.0 * T * ((WINDOW + 1) / 2.0) * (h_) * (d_), \
					.run = run_attention, .m = h_, .n = kv_, .k = d_ }
#define ROWS(name_, fn_, k_, n_, passes_) { .name = name_, .bytes = 2.0 * T * (k_) * (passes_), .run = fn_, .k = k_, .n = n_ }
#define HESSIAN(name_, k_) { .name = name_, .bytes = 2.0 * T * (k_) + 4.0 * (k_) * (k_), .flops = (double)T * (k_) * (k_), .run = run_hessian, .k = k_ }

static const struct row rows[] = {
	{ .name = "copy 256 MiB", .bytes = 512.0 * 1048576, .run = run_copy },
	GEMM("product 8192 x 8192 x 8192", 8192, 8192, 8192),
	GEMM("qkv 2048 to 3072", T, 3072, 2048),
	GEMM("o 2048 to 2048", T, 2048, 2048),
	GEMM("gate_up 2048 to 8192", T, 8192, 2048),
	GEMM("down 4096 to 2048", T, 2048, 4096),
	GEMM("head 2048 to 102400", ROWS_V, VOCAB, 2048),
	CODES("int8 gate_up 2048 to 8192", 8192, 2048, 2),
	CODES("e4m3 gate_up 2048 to 8192", 8192, 2048, 1),
	ATTENTION("attention 32/8 x 64", 32, 8, 64),
	ATTENTION("attention 40/8 x 128", 40, 8, 128),
	ROWS("quant_tokens int8 2048", run_quant, 2048, 0, 1.5),
	ROWS("rmsnorm 2048", run_norm, 2048, 0, 2),
	ROWS("add_rmsnorm 2048", run_norm, 2048, 1, 4),
	ROWS("rmsnorm_add 2048", run_norm, 2048, 2, 3),
	ROWS("rmsnorm_add 5120", run_norm, 5120, 2, 3),
	ROWS("add 2048", run_norm, 2048, 3, 3),
	{ .name = "head_norm_rope 32 x 64", .bytes = 4.0 * T * 2048, .run = run_rope, .m = 32, .k = 64 },
	{ .name = "head_norm_rope 40 x 128", .bytes = 4.0 * T * 5120, .run = run_rope, .m = 40, .k = 128 },
	ROWS("gate silu 4096", run_gate, 4096, 0, 3),
	ROWS("input_stats 2048", run_stats, 2048, 0, 1),
	ROWS("input_stats 4096", run_stats, 4096, 0, 1),
	HESSIAN("hessian 2048", 2048),
	HESSIAN("hessian 4096", 4096),
	HESSIAN("hessian 5120", 5120),
	{ .name = "row_loss 102400", .bytes = 2.0 * ROWS_V * VOCAB, .run = run_loss, .n = 0 },
	{ .name = "row_kl 102400", .bytes = 4.0 * ROWS_V * VOCAB, .run = run_loss, .n = 1 },
	ROWS("diff_sums 2048", run_diff, 2048, 0, 2),
};
#define N_ROWS ((int)(sizeof(rows) / sizeof(*rows)))

static void device_close(struct bench *b)
{
	for (int i = 0; i < SLOTS; i++)
		bl_engine_release(b->e, b->slot[i]);
	bl_engine_release(b->e, b->acc);
	bl_engine_release(b->e, b->starts);
	bl_engine_release(b->e, b->positions);
	bl_engine_release(b->e, b->cos);
	bl_engine_release(b->e, b->sin);
}

/* Noise in every slot: 16 MiB of it, then copies. Zeros would run faster than anything real. */
static enum bl_status fill(struct bench *b, void *slot, size_t bytes, struct bl_err *err)
{
	const size_t n = (size_t)16 << 20;
	uint16_t *noise;
	struct bk_check random = { .state = 3 };
	int e;

	if (bl_try_alloc(&noise, n / 2, 2, "noise", err))
		return err->status;
	for (size_t i = 0; i < n / 2; i++) { /* bf16 of +-(0.06 .. 4): sign, two bits of exponent, mantissa */
		const uint64_t bits = bk_check_bits(&random);

		noise[i] = (uint16_t)(0x3d80 + (bits & 0x1ff) + (bits >> 20 & 1) * 0x8000);
	}
	e = b->e->ops->put(b->e->run, slot, noise, bytes < n ? bytes : n);
	for (size_t have = n; have < bytes && !e; have *= 2)
		e = b->e->ops->copy(b->e->run, (char *)slot + have, slot, bytes - have < have ? bytes - have : have);
	bl_free(noise);
	return bl_engine_check(b->e, e, "filling memory for measurements", err);
}

static enum bl_status device_open(struct bench *b, struct bl_err *err)
{
	static int32_t starts[T / WINDOW + 1], positions[T];
	float turn[2][64];

	for (int i = 0; i <= T / WINDOW; i++)
		starts[i] = i * WINDOW;
	for (int i = 0; i < T; i++)
		positions[i] = i % WINDOW;
	for (int i = 0; i < 64; i++)
		turn[0][i] = 0.6f, turn[1][i] = 0.8f;
	for (int i = 0; i < SLOTS; i++)
		if (bl_engine_alloc(b->e, &b->slot[i], slot_bytes[i], "measurements", err) || fill(b, b->slot[i], slot_bytes[i], err))
			return err->status;
	if (bl_engine_alloc(b->e, &b->acc, ACC_BYTES, "measurements", err) || bl_engine_alloc(b->e, (void **)&b->starts, sizeof(starts), "measurements", err) ||
	    bl_engine_alloc(b->e, (void **)&b->positions, sizeof(positions), "measurements", err) ||
	    bl_engine_alloc(b->e, (void **)&b->cos, (size_t)T * 4 * 8, "measurements", err) ||
	    bl_engine_alloc(b->e, (void **)&b->sin, (size_t)T * 4 * 8, "measurements", err))
		return err->status;
	if (bl_engine_check(b->e, b->e->ops->put(b->e->run, b->starts, starts, sizeof(starts)), "measurements", err) ||
	    bl_engine_check(b->e, b->e->ops->put(b->e->run, b->positions, positions, sizeof(positions)), "measurements", err))
		return err->status;
	for (size_t at = 0; at < WINDOW * 64; at += 64)
		if (bl_engine_check(b->e, b->e->ops->put(b->e->run, b->cos + at, turn[0], sizeof(turn[0])), "measurements", err) ||
		    bl_engine_check(b->e, b->e->ops->put(b->e->run, b->sin + at, turn[1], sizeof(turn[1])), "measurements", err))
			return err->status;
	return bl_engine_check(b->e, b->e->ops->zero(b->e->run, b->acc, ACC_BYTES), "measurements", err);
}

static enum bl_status time_row(struct bench *b, const struct row *r, int runs, struct bl_bench_times *out, struct bl_progress *progress, struct bl_err *err)
{
	const struct bk_run_ops *ops = b->e->ops;
	int e = r->run(b, r), n = 1;
	double once;
	uint64_t start;

	if (!e)
		e = ops->wait(b->e->run); /* loads the kernel */
	start = bl_now_ns();
	if (!e)
		e = r->run(b, r);
	if (!e)
		e = ops->wait(b->e->run);
	once = (double)(bl_now_ns() - start) / 1e6;
	n = once > MS ? 1 : (int)(MS / (once > 0.01 ? once : 0.01)) + 1;
	for (int i = 0; i < runs && !e; i++) {
		if (progress && atomic_load(&progress->cancel))
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		start = bl_now_ns();
		for (int k = 0; k < n && !e; k++)
			e = r->run(b, r);
		if (!e)
			e = ops->wait(b->e->run);
		if (out->n < BL_BENCH_RUNS_MAX)
			out->s[out->n++] = (double)(bl_now_ns() - start) / 1e9 / n;
	}
	return bl_engine_check(b->e, e, r->name, err);
}

static enum bl_status check(struct bl_engine *e, struct bl_err *err)
{
	const struct bk_run_options o = { .threads = 1 };
	struct bk_side cpu = { .ops = bk_run_cpu() }, gpu = { e->ops, e->run };
	int bad = 0;

	if (cpu.ops->open(&cpu.run, &o))
		return bl_fail(err, BL_NO_MEMORY, "the CPU run cannot be opened to check with");
	for (uint64_t seed = 1; seed <= 6 && !bad; seed++) {
		struct bk_check c = { .state = seed };

		bad = bk_run_twin_check(&cpu, &gpu, &c, seed % 3 == 0, NULL);
		if (bad)
			bl_fail(err, BL_MISMATCH, "%s against the CPU: %s", e->name, c.why);
	}
	cpu.ops->close(cpu.run);
	return err->status;
}

static void time_rows(struct bench *b, const struct bl_bench_device *d, struct bl_progress *progress, struct bl_err *err)
{
	for (int i = 0; i < N_ROWS && !err->status; i++) {
		const struct row *r = &rows[i];
		struct bl_bench_device_row out = { .name = r->name, .bytes = r->bytes, .flops = r->flops };
		double by_bytes, by_flops;

		if (i > 1 && d->only && !strstr(r->name, d->only))
			continue;
		if (time_row(b, r, d->runs, &out.times, progress, err))
			break;
		if (i == 0)
			b->copy_rate = r->bytes / bl_bench_median(&out.times);
		if (i == 1)
			b->flop_rate = r->flops / bl_bench_median(&out.times);
		by_bytes = r->bytes / b->copy_rate;
		by_flops = b->flop_rate > 0 ? r->flops / b->flop_rate / (r->peak > 0 ? r->peak : 1) : 0;
		out.floor = by_bytes > by_flops ? by_bytes : by_flops;
		out.of_flops = by_flops >= by_bytes;
		d->row(d->ctx, &out);
	}
}

enum bl_status bl_bench_device(const struct bl_bench_device *d, struct bl_progress *progress, struct bl_err *err)
{
	struct bl_backend backend;
	struct bl_engine e = { 0 };
	struct bench b = { .e = &e };

	bl_backend_open(&backend, d->program_dir);
	if (bl_engine_open(&e, &backend, d->device ? d->device : "cuda", NULL, 0, err) == BL_OK) {
		if (d->named)
			d->named(d->ctx, e.name);
		if (check(&e, err) == BL_OK && device_open(&b, err) == BL_OK)
			time_rows(&b, d, progress, err);
		device_close(&b);
	}
	bl_engine_close(&e);
	bl_backend_close(&backend);
	return err->status;
}
