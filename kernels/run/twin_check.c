/* SPDX-License-Identifier: Apache-2.0
 * Checks one back end with another. Every matrix lives twice, byte for byte the same before an operation, gaps between rows included; afterwards the gaps
 * must be untouched. Outputs start as noise. Tolerances: of bf16 results one place (two roundings that may fall apart), of sums what float32 leaves. */
#include "kernels/run/twin.h"

static void do_gemm(struct twin *t)
{
	const int type = io_type(t), ta = bk_check_int(t->c, 0, 1), tb = bk_check_int(t->c, 0, 2) > 0, out = bk_check_int(t->c, 0, 1) ? type : BK_F32;
	const int64_t m = size(t, 40), n = size(t, 40), k = size(t, 60);
	const float alpha = bk_check_int(t->c, 0, 1) ? 1 : 0.5f, beta = bk_check_int(t->c, 0, 1) ? 0 : 1;
	struct dual a = dual_new(t, ta ? k : m, ta ? m : k, type, 1), b = dual_new(t, tb ? n : k, tb ? k : n, type, 1), c = dual_new(t, m, n, out, 1),
		    bias = dual_new(t, 1, n, type, 1);
	const int with = bk_check_int(t->c, 0, 2) == 0;

	BOTH(t, "gemm", gemm(run, &c.m[s], &a.m[s], ta, &b.m[s], tb, alpha, beta, with ? bias.m[s].p : NULL));
	compare(t, &c, "gemm", place(out), out == BK_BF16 ? 0.01 : 2e-6 * sqrt((double)k), 0);
	unchanged(t, &a, "gemm");
	free(a.before), free(b.before), free(c.before), free(bias.before);
}

static void do_codes(struct twin *t)
{
	const int kind = (int)bk_check_int(t->c, BK_TOKEN_INT8, BK_TOKEN_E4M3), code = kind == BK_TOKEN_INT8 ? BK_I8 : BK_F8, type = io_type(t), out = io_type(t);
	const int64_t rows = size(t, 30), n = size(t, 40), k = bk_check_int(t->c, 0, 3) ? size(t, 70) : 16 * size(t, 6);
	struct dual x = dual_new(t, rows, k, type, 1), q = dual_new(t, rows, k, code, 1), sx = dual_new(t, 1, rows, BK_F32, 1), w = dual_new(t, n, k, code, 1),
		    sw = dual_new(t, 1, n, BK_F32, 0.01f), y = dual_new(t, rows, n, out, 1), bias = dual_new(t, 1, n, out, 1);
	const int fixed = bk_check_int(t->c, 0, 2) == 0;

	if (fixed)
		BOTH(t, "quant_static", quant_static(run, &q.m[s], sx.m[s].p, &x.m[s], kind, 0.03f))
	else
		BOTH(t, "quant_tokens", quant_tokens(run, &q.m[s], sx.m[s].p, &x.m[s], kind));
	compare(t, &q, fixed ? "quant_static" : "quant_tokens", 0, 0, 0);
	compare(t, &sx, "scales", 1e-7, 0, 0);
	BOTH(t, "gemm_codes", gemm_codes(run, &y.m[s], &q.m[s], sx.m[s].p, &w.m[s], sw.m[s].p, kind % 2 ? bias.m[s].p : NULL));
	compare(t, &y, "gemm_codes", place(out), out == BK_BF16 ? 0.01 : 1e-5, 0);
	free(x.before), free(q.before), free(sx.before), free(w.before), free(sw.before), free(y.before), free(bias.before);
}

/* Codes are the same on both sides: quotients and products are rounded once, whoever computes them. */
static void do_groups(struct twin *t)
{
	static const int64_t widths[] = { 16, 16, 32, 128, 8, 40 };
	const int kind = (int)bk_check_int(t->c, BK_TOKEN_E4M3, BK_TOKEN_E2M1), type = io_type(t), out = io_type(t);
	const int64_t group = widths[bk_check_int(t->c, 0, 5)], groups = size(t, 5), k = group * groups, rows = size(t, 30), n = size(t, 40);
	struct dual x = dual_new(t, rows, k, type, 1), q = dual_new(t, rows, k, BK_F8, 1), sx = dual_new(t, 1, rows * groups, BK_F32, 1), w = dual_new(t, n, k, BK_F8, 1),
		    sw = dual_new(t, 1, n * groups, BK_F32, 0.01f), y = dual_new(t, rows, n, out, 1), bias = dual_new(t, 1, n, out, 1);
	const struct bk_rounding how = { (enum bk_token_codes)kind, group, kind == BK_TOKEN_E2M1 ? 2688.0f / 17 : 0 };

	BOTH(t, "quant_groups", quant_groups(run, &q.m[s], sx.m[s].p, &x.m[s], &how));
	compare(t, &q, "quant_groups", 0, 0, 0);
	compare(t, &sx, "scales of groups", 1e-7, 0, 0);
	unchanged(t, &x, "quant_groups");
	BOTH(t, "gemm_groups", gemm_groups(run, &y.m[s], &q.m[s], sx.m[s].p, &w.m[s], sw.m[s].p, group, kind % 2 ? bias.m[s].p : NULL));
	compare(t, &y, "gemm_groups", place(out), out == BK_BF16 ? 0.01 : 2e-6 * sqrt((double)k), 0);
	free(x.before), free(q.before), free(sx.before), free(w.before), free(sw.before), free(y.before), free(bias.before);
}

static void do_rounding(struct twin *t)
{
	static const int64_t widths[] = { 16, 32, 128, 40 };
	const int kind = (int)bk_check_int(t->c, BK_TOKEN_INT8, BK_TOKEN_E2M1), type = io_type(t), grouped = kind == BK_TOKEN_E2M1 || bk_check_int(t->c, 0, 1);
	const int64_t group = grouped ? widths[bk_check_int(t->c, 0, 3)] : 0, k = grouped ? group * size(t, 5) : size(t, 300), rows = size(t, 30);
	const int fixed = !grouped && bk_check_int(t->c, 0, 1), in_place = bk_check_int(t->c, 0, 1) != 0;
	const struct bk_rounding how = { (enum bk_token_codes)kind, group, kind == BK_TOKEN_E2M1 ? 2688.0f / 17 : fixed ? 0.03f : 0 };
	struct dual x = dual_new(t, rows, k, type, 1), y = dual_new(t, rows, k, type, 1);

	BOTH(t, "round_inputs", round_inputs(run, in_place ? &x.m[s] : &y.m[s], &x.m[s], &how));
	compare(t, in_place ? &x : &y, "round_inputs", 0, 0, 0);
	if (!in_place)
		unchanged(t, &x, "round_inputs");
	free(x.before), free(y.before);
}

static void do_rows(struct twin *t)
{
	const int type = io_type(t), wide = bk_check_int(t->c, 0, 5) == 0, which = (int)bk_check_int(t->c, 0, 2);
	const int64_t rows = size(t, 12), cols = wide ? bk_check_int(t->c, 2000, t->big ? 20000 : 2500) : size(t, 300);
	struct dual x = dual_new(t, rows, cols, type, 2), a = dual_new(t, rows, cols, type, 2), y = dual_new(t, rows, cols, type, 2),
		    w = dual_new(t, 1, cols, (int)bk_check_int(t->c, BK_BF16, BK_F32), 1);
	const int plus_one = bk_check_int(t->c, 0, 2) == 0;
	struct bk_norm n[2];

	for (int s = 0; s < 2; s++)
		n[s] = (struct bk_norm){ w.m[s].p, (enum bk_dtype)w.m[s].dtype, 1e-5, plus_one };
	if (which == 0) {
		BOTH(t, "rmsnorm", rmsnorm(run, &y.m[s], &x.m[s], &n[s]));
		unchanged(t, &x, "rmsnorm");
	} else if (which == 1) {
		BOTH(t, "add_rmsnorm", add_rmsnorm(run, &y.m[s], &x.m[s], &a.m[s], &n[s]));
		compare(t, &x, "add_rmsnorm's sum", 0, 0, 0);
	} else {
		BOTH(t, "rmsnorm_add", rmsnorm_add(run, &x.m[s], &a.m[s], &n[s]));
		compare(t, &x, "rmsnorm_add", place(type), type == BK_BF16 ? 0.02 : 1e-5, 0);
	}
	compare(t, &y, "norm", place(type) * 2, 1e-6, 0);
	free(x.before), free(a.before), free(y.before), free(w.before);
}

static void do_elements(struct twin *t)
{
	const int type = io_type(t), kind = (int)bk_check_int(t->c, 0, 1);
	const int from = (int)bk_check_int(t->c, BK_BF16, BK_F32), to = (int)bk_check_int(t->c, BK_BF16, BK_F32);
	const int64_t rows = size(t, 20), cols = size(t, 200);
	struct dual x = dual_new(t, rows, cols, type, 3), a = dual_new(t, rows, cols, type, 3), u = dual_new(t, rows, cols, type, 1),
		    e = dual_new(t, rows + 3, cols, from, 1), y = dual_new(t, rows, cols, to, 1), z = dual_new(t, rows, cols, to, 1),
		    v = dual_new(t, rows, cols, from, 1);
	int32_t *ids = calloc((size_t)rows, sizeof(*ids));
	void *p[2] = { NULL, NULL };

	BOTH(t, "add", add(run, &x.m[s], &a.m[s]));
	compare(t, &x, "add", 0, 0, 0);
	BOTH(t, "softcap", softcap(run, &x.m[s], 3.0));
	compare(t, &x, "softcap", place(type), 1e-6, 0);
	BOTH(t, "gate", gate(run, &a.m[s], &a.m[s], &u.m[s], kind ? BK_GATE_GELU_TANH : BK_GATE_SILU));
	compare(t, &a, "gate", 1.5 * place(type), type == BK_BF16 ? 1e-5 : 1e-6, 0);
	for (int64_t i = 0; ids && i < rows; i++)
		ids[i] = (int32_t)bk_check_int(t->c, 0, rows + 2);
	put_both(t, p, ids, (size_t)rows * sizeof(*ids));
	BOTH(t, "gather", gather(run, &y.m[s], &e.m[s], p[s], kind ? 1 : 45.25f));
	compare(t, &y, "gather", 0, 0, 0);
	BOTH(t, "convert", convert(run, &z.m[s], &v.m[s]));
	compare(t, &z, "convert", 0, 0, 0);
	free(ids);
	free(x.before), free(a.before), free(u.before), free(e.before), free(y.before), free(z.before), free(v.before);
}

static void do_rope(struct twin *t)
{
	static const int dims[] = { 16, 24, 32, 64, 80, 128, 192, 256 };
	const int type = io_type(t), dim = dims[bk_check_int(t->c, 0, 7)], heads = (int)bk_check_int(t->c, 1, 9);
	const int64_t rows = size(t, 10), n_positions = 40;
	struct dual x = dual_new(t, rows, (int64_t)heads * dim, type, 1), w = dual_new(t, 1, dim, (int)bk_check_int(t->c, BK_BF16, BK_F32), 1);
	const size_t bytes = (size_t)(n_positions * dim / 2) * 4;
	float *table = calloc(2, bytes);
	int32_t *at = calloc((size_t)rows, 4);
	void *c[2], *sn[2], *p[2];
	const int what = (int)bk_check_int(t->c, 1, 3), plus_one = bk_check_int(t->c, 0, 2) == 0;

	for (size_t i = 0; i < bytes / 4; i++) {
		const double angle = 10 * bk_check_unit(t->c);

		table[i] = (float)cos(angle);
		table[bytes / 4 + i] = (float)sin(angle);
	}
	for (int64_t i = 0; i < rows; i++)
		at[i] = (int32_t)bk_check_int(t->c, 0, n_positions - 1);
	put_both(t, c, table, bytes);
	put_both(t, sn, table + bytes / 4, bytes);
	put_both(t, p, at, (size_t)rows * 4);
	for (int s = 0; s < 2 && !t->bad; s++) {
		const struct bk_norm n = { w.m[s].p, (enum bk_dtype)w.m[s].dtype, 1e-6, plus_one };
		const struct bk_rope rope = { c[s], sn[s], p[s], n_positions };

		tell(t, s, t->side[s]->ops->head_norm_rope(t->side[s]->run, &x.m[s], heads, dim, what & 1 ? &n : NULL, what & 2 ? &rope : NULL), "head_norm_rope");
	}
	compare(t, &x, "head_norm_rope", 2 * place(type), type == BK_BF16 ? 0.02 : 2e-6, 0);
	free(table);
	free(at);
	free(x.before), free(w.before);
}

static void do_attention(struct twin *t)
{
	static const int dims[] = { 24, 32, 64, 64, 80, 128, 128, 192, 256 };
	const int type = io_type(t), dim = dims[bk_check_int(t->c, 0, 8)], kv_heads = (int)bk_check_int(t->c, 1, 3);
	const int heads = kv_heads * (int)bk_check_int(t->c, 1, 3);
	const int n = (int)bk_check_int(t->c, 1, 4), decode = bk_check_int(t->c, 0, 3) == 0;
	int32_t start[2][5] = { { 0 } };
	int64_t max_q = 0, max_kv = 0;
	void *qs[2], *ks[2];

	for (int i = 0; i < n; i++) {
		const int32_t q = (int32_t)(decode ? 1 : size(t, 70)), kv = q + (int32_t)(bk_check_int(t->c, 0, 1) ? size(t, 50) : 0);

		start[0][i + 1] = start[0][i] + q;
		start[1][i + 1] = start[1][i] + kv;
		max_q = q > max_q ? q : max_q;
		max_kv = kv > max_kv ? kv : max_kv;
	}
	{
		struct dual q = dual_new(t, start[0][n], (int64_t)heads * dim, type, 1), k = dual_new(t, start[1][n], (int64_t)kv_heads * dim, type, 1),
			    v = dual_new(t, start[1][n], (int64_t)kv_heads * dim, type, 1), o = dual_new(t, start[0][n], (int64_t)heads * dim, type, 1);
		struct bk_attention a = { heads, kv_heads, dim, 1 / sqrt((double)dim), bk_check_int(t->c, 0, 2) ? 0 : 4.0,
					  bk_check_int(t->c, 0, 1) ? 0 : bk_check_int(t->c, 1, 90), { n, NULL, NULL, max_q, max_kv } };

		put_both(t, qs, start[0], sizeof(start[0]));
		put_both(t, ks, start[1], sizeof(start[1]));
		for (int s = 0; s < 2 && !t->bad; s++) {
			a.seq.q_start = qs[s];
			a.seq.kv_start = ks[s];
			tell(t, s, t->side[s]->ops->attention(t->side[s]->run, &o.m[s], &q.m[s], &k.m[s], &v.m[s], &a), "attention");
		}
		compare(t, &o, "attention", place(type), type == BK_BF16 ? 0.02 : 1e-5, 0);
		if (t->bad) {
			char more[80];
			const size_t have = strlen(t->c->why);

			snprintf(more, sizeof(more), " (head %d, %d:%d, n %d, window %d, cap %g)", dim, heads, kv_heads, n, (int)a.window, a.softcap);
			snprintf(t->c->why + have, sizeof(t->c->why) - have, "%s", more);
		}
		free(q.before), free(k.before), free(v.before), free(o.before);
	}
}

static void do_stats(struct twin *t)
{
	const int type = io_type(t);
	const int64_t rows = size(t, 60), cols = size(t, 120);
	const size_t bytes[6] = { (size_t)cols * 4, (size_t)cols * 8, (size_t)cols * 8, BK_INPUT_BINS * 8, BK_INPUT_BINS * 8, 8 };
	struct dual x = dual_new(t, rows, cols, type, 1), y = dual_new(t, rows, cols, type, 1);
	void *p[6][2], *zero = calloc(1, BK_INPUT_BINS * 8 + (size_t)cols * 8);
	unsigned char *r[2] = { malloc(BK_INPUT_BINS * 8 + (size_t)cols * 8), malloc(BK_INPUT_BINS * 8 + (size_t)cols * 8) };

	if (bk_check_int(t->c, 0, 1)) { /* some that are not finite */
		const float odd[3] = { NAN, INFINITY, -INFINITY };

		for (int s = 0; s < 2 && !t->bad; s++)
			for (int64_t k = 0; k < 3 && k < rows; k++) {
				const uint16_t h = (uint16_t)(bk_f32_bits(odd[k]) >> 16);

				tell(t, s, t->side[s]->ops->put(t->side[s]->run, (char *)x.m[s].p + (size_t)(k * x.m[s].ld + k % cols) * size_of(type),
								type == BK_F32 ? (const void *)&odd[k] : (const void *)&h, size_of(type)), "put");
			}
	}
	for (int i = 0; i < 6; i++)
		put_both(t, p[i], zero, bytes[i]);
	for (int pass = 0; pass < 2; pass++)
		for (int s = 0; s < 2 && !t->bad; s++) {
			const struct bk_input_acc acc = { p[0][s], p[1][s], p[2][s], p[3][s], p[4][s], p[5][s] };

			tell(t, s, t->side[s]->ops->input_stats(t->side[s]->run, &acc, pass ? &y.m[s] : &x.m[s]), "input_stats");
		}
	for (int i = 0; i < 6 && !t->bad; i++) {
		for (int s = 0; s < 2; s++)
			tell(t, s, t->side[s]->ops->get(t->side[s]->run, r[s], p[i][s], bytes[i]), "get");
		if (i == 1 || i == 2) {
			for (int64_t j = 0; j < cols && !t->bad; j++) {
				double a, b;

				memcpy(&a, r[0] + 8 * j, 8);
				memcpy(&b, r[1] + 8 * j, 8);
				if (!bk_check_near(a, b, 1e-6, 1e-6 * sqrt((double)rows)))
					t->bad = bk_check_fail(t->c, "input_stats: sum %d of channel %lld: %.12g instead of %.12g", i, (long long)j, b, a);
			}
		} else if (memcmp(r[0], r[1], bytes[i])) {
			t->bad = bk_check_fail(t->c, "input_stats: result %d differs (%lld x %lld, type %d)", i, (long long)rows, (long long)cols, type);
		}
	}
	free(zero), free(r[0]), free(r[1]);
	free(x.before), free(y.before);
}

static void do_sums(struct twin *t)
{
	const int type = io_type(t);
	const int64_t rows = size(t, 50), cols = size(t, 90);
	struct dual a = dual_new(t, rows, cols, type, 1), b = dual_new(t, rows, cols, type, 1),
		    x = dual_new(t, size(t, 80), cols, type, 1), h = dual_new(t, cols, cols, BK_F32, 1);
	const double start[3] = { 1, 2, 3 };
	double sums[2][3] = { { 0 } };
	void *p[2];

	put_both(t, p, start, sizeof(start));
	BOTH(t, "diff_sums", diff_sums(run, p[s], &a.m[s], &b.m[s]));
	BOTH(t, "dot", dot(run, (double *)p[s] + 2, &a.m[s], &b.m[s]));
	for (int s = 0; s < 2 && !t->bad; s++)
		tell(t, s, t->side[s]->ops->get(t->side[s]->run, sums[s], p[s], sizeof(sums[s])), "get");
	for (int i = 0; i < 3 && !t->bad; i++)
		if (!bk_check_near(sums[0][i], sums[1][i], 1e-12, 1e-9 * (double)(i == 2 ? rows * cols : 0)))
			t->bad = bk_check_fail(t->c, "sum %d: %.17g instead of %.17g", i, sums[1][i], sums[0][i]);
	BOTH(t, "hessian", hessian(run, &h.m[s], &x.m[s]));
	compare(t, &h, "hessian", 1e-5, 2e-6 * sqrt((double)x.m[0].rows), 1);
	BOTH(t, "mirror", mirror(run, &h.m[s]));
	compare(t, &h, "mirror", 1e-5, 2e-6 * sqrt((double)x.m[0].rows), 0);
	free(a.before), free(b.before), free(x.before), free(h.before);
}

static void do_losses(struct twin *t)
{
	const int type = io_type(t);
	const int64_t rows = size(t, 8), cols = t->big ? bk_check_int(t->c, 1, 30000) : size(t, 600);
	struct dual p = dual_new(t, rows, cols, type, 3), q = dual_new(t, rows, cols, type, 3);
	struct dual out[7];
	int32_t *targets = calloc((size_t)rows, 4);
	void *at[2];
	static const char *const names[] = { "row_loss nll", "row_loss argmax", "row_kl", "row_kl nll p", "row_kl nll q", "row_kl same" };

	for (int i = 0; i < 6; i++)
		out[i] = dual_new(t, 1, rows, BK_F32, 1);
	for (int64_t i = 0; i < rows; i++)
		targets[i] = (int32_t)bk_check_int(t->c, -1, cols - 1);
	put_both(t, at, targets, (size_t)rows * 4);
	for (int s = 0; s < 2 && !t->bad; s++) {
		const struct bk_row_loss l = { out[0].m[s].p, out[1].m[s].p };
		const struct bk_row_kl k = { out[2].m[s].p, out[3].m[s].p, out[4].m[s].p, out[5].m[s].p };

		tell(t, s, t->side[s]->ops->row_loss(t->side[s]->run, &l, &p.m[s], at[s]), "row_loss");
		tell(t, s, t->side[s]->ops->row_kl(t->side[s]->run, &k, &p.m[s], &q.m[s], at[s]), "row_kl");
	}
	for (int i = 0; i < 6; i++) /* integers seen as floats: equal bits are equal values */
		compare(t, &out[i], names[i], i == 1 || i == 5 ? 0 : 1e-5, i == 1 || i == 5 ? 0 : 1e-6, 0);
	free(targets);
	for (int i = 0; i < 6; i++)
		free(out[i].before);
	free(p.before), free(q.before);
}

/* Copies of all kinds end where they should, also while operations run. */
static void do_copies(struct twin *t)
{
	const struct bk_run_ops *ops = t->side[1]->ops;
	struct bk_run *run = t->side[1]->run;
	const size_t n = (size_t)(t->big ? bk_check_int(t->c, 1, 30 << 20) : bk_check_int(t->c, 1, 100000));
	unsigned char *src = malloc(n), *back = calloc(1, n);
	void *d = NULL, *e = NULL, *pinned = NULL;

	for (size_t i = 0; i < n; i++)
		src[i] = (unsigned char)((i * 2654435761u >> 13) ^ t->c->state);
	tell(t, 1, ops->alloc(run, &d, n), "alloc");
	tell(t, 1, ops->alloc(run, &e, n), "alloc");
	tell(t, 1, ops->host_alloc(run, &pinned, n), "host_alloc");
	if (!t->bad) {
		tell(t, 1, ops->zero(run, d, n), "zero");
		tell(t, 1, ops->upload(run, d, src, n), "upload");
		tell(t, 1, ops->upload_join(run), "upload_join");
		tell(t, 1, ops->copy(run, e, d, n), "copy");
		tell(t, 1, ops->zero(run, d, n), "zero");
		tell(t, 1, ops->download(run, pinned, e, n), "download");
		tell(t, 1, ops->download_join(run), "download_join");
		if (!t->bad && memcmp(src, pinned, n))
			t->bad = bk_check_fail(t->c, "%zu bytes up and down are not the same", n);
		tell(t, 1, ops->upload(run, d, pinned, n), "upload");
		tell(t, 1, ops->upload_join(run), "upload_join");
		tell(t, 1, ops->get(run, back, d, n), "get");
		if (!t->bad && memcmp(src, back, n))
			t->bad = bk_check_fail(t->c, "%zu bytes from pinned memory are not the same", n);
		/* memory comes and goes beside copies that are still on their way, both ways */
		void *other = NULL;

		memset(back, 0, n);
		tell(t, 1, ops->zero(run, e, n), "zero");
		tell(t, 1, ops->upload(run, e, src, n), "upload");
		tell(t, 1, ops->download(run, pinned, d, n), "download");
		for (int i = 0; i < 4; i++) {
			tell(t, 1, ops->alloc(run, &other, n), "alloc");
			tell(t, 1, ops->zero(run, other, n), "zero");
			ops->release(run, other);
			other = NULL;
		}
		ops->release(run, d); /* the download comes from here */
		d = NULL;
		tell(t, 1, ops->download_join(run), "download_join");
		tell(t, 1, ops->upload_join(run), "upload_join");
		tell(t, 1, ops->get(run, back, e, n), "get");
		if (!t->bad && (memcmp(src, pinned, n) || memcmp(src, back, n)))
			t->bad = bk_check_fail(t->c, "%zu bytes beside what was given back are not the same", n);
	}
	ops->release(run, d);
	ops->release(run, e);
	ops->host_release(run, pinned);
	free(src);
	free(back);
}

static const struct { const char *name; void (*run)(struct twin *t); } parts[] = {
	{ "copies", do_copies }, { "gemm", do_gemm }, { "codes", do_codes }, { "groups", do_groups }, { "rounding", do_rounding },
	{ "rows", do_rows }, { "elements", do_elements }, { "rope", do_rope },
	{ "attention", do_attention }, { "stats", do_stats }, { "sums", do_sums }, { "losses", do_losses },
};

int bk_run_twin_check(const struct bk_side *want, const struct bk_side *got, struct bk_check *c, int big, const char *only)
{
	struct twin t = { .side = { want, got }, .c = c, .big = big };

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && !t.bad; i++) {
		if (only && !strstr(parts[i].name, only))
			continue;
		parts[i].run(&t);
		for (int k = 0; k < t.n_kept; k++)
			for (int s = 0; s < 2; s++)
				t.side[s]->ops->release(t.side[s]->run, t.kept[s][k]);
		t.n_kept = 0;
	}
	return t.bad;
}
