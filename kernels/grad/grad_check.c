/* SPDX-License-Identifier: Apache-2.0
 * Checks the tuning operations of one back end with another's. Results may take the place of an input where grad.h says so: half of the time they
 * do. */
#include "kernels/grad/grad_check.h"

#include "kernels/run/twin.h"

struct pair {
	struct twin t;
	const struct bk_grad_ops *ops[2];
};

#define GRAD(p, what, call)                                                                                                                          \
	for (int s = 0; s < 2 && !(p)->t.bad; s++) {                                                                                                 \
		struct bk_run *run = (p)->t.side[s]->run;                                                                                            \
		tell(&(p)->t, s, (p)->ops[s]->call, what);                                                                                           \
	}
#define CHANCE(t, n) (bk_check_int((t)->c, 1, n) == 1)

/* Row sums compare with the root mean square of all: they cancel. */
static double near_sum(int type) { return type == BK_BF16 ? 1e-4 : 2e-5; }
static double near_abs(int type) { return type == BK_BF16 ? 4e-3 : 1e-5; }

static void do_norm(struct pair *p)
{
	struct twin *t = &p->t;
	const int type = io_type(t), wide = CHANCE(t, 6), add = CHANCE(t, 2), in_place = !add && CHANCE(t, 2), with = !CHANCE(t, 3),
		  plus_one = CHANCE(t, 3);
	const int64_t rows = size(t, 40), cols = wide ? bk_check_int(t->c, 2000, t->big ? 9000 : 2300) : size(t, 200);
	struct dual x = dual_new(t, rows, cols, type, 2), dy = dual_new(t, rows, cols, type, 1), out = dual_new(t, rows, cols, type, 1),
		    w = dual_new(t, 1, cols, (int)bk_check_int(t->c, BK_BF16, BK_F32), 1), dw = dual_new(t, 1, cols, BK_F32, 1),
		    *dx = in_place ? &dy : &out;
	struct bk_norm n[2];

	for (int s = 0; s < 2; s++)
		n[s] = (struct bk_norm){ w.m[s].p, (enum bk_dtype)w.m[s].dtype, 1e-5, plus_one };
	GRAD(p, "rmsnorm_back", rmsnorm_back(run, &dx->m[s], with ? dw.m[s].p : NULL, &x.m[s], &n[s], &dy.m[s], add));
	compare(t, dx, "rmsnorm_back", place(type), near_abs(type), 0);
	compare(t, &dw, "rmsnorm_back's weight", 1e-5, near_sum(type), 0);
	unchanged(t, &x, "rmsnorm_back");
	free(x.before), free(dy.before), free(out.before), free(w.before), free(dw.before);
}

static void do_heads(struct pair *p)
{
	static const int dims[] = { 16, 24, 32, 64, 80, 128, 192, 256 };
	struct twin *t = &p->t;
	const int type = io_type(t), dim = dims[bk_check_int(t->c, 0, 7)], heads = (int)bk_check_int(t->c, 1, 9),
		  what = (int)bk_check_int(t->c, 0, 3);
	const int in_place = CHANCE(t, 2), plus_one = CHANCE(t, 3), n_positions = 40;
	const int64_t rows = size(t, 14), cols = (int64_t)heads * dim;
	struct dual x = dual_new(t, rows, cols, type, 1), y = dual_new(t, rows, cols, type, 1), dy = dual_new(t, rows, cols, type, 1),
		    out = dual_new(t, rows, cols, type, 1), w = dual_new(t, 1, dim, (int)bk_check_int(t->c, BK_BF16, BK_F32), 1),
		    dw = dual_new(t, 1, dim, BK_F32, 1), *dx = in_place ? &dy : &out;
	const size_t n = (size_t)(n_positions * dim / 2);
	float *table = calloc(2 * n, sizeof(*table));
	int32_t *at = calloc((size_t)rows, sizeof(*at));
	void *c[2], *sn[2], *pos[2];
	struct bk_norm norm[2];
	struct bk_rope rope[2];

	for (size_t i = 0; i < n; i++) {
		const double angle = 10 * bk_check_unit(t->c);

		table[i] = (float)cos(angle);
		table[n + i] = (float)sin(angle);
	}
	for (int64_t i = 0; i < rows; i++)
		at[i] = (int32_t)bk_check_int(t->c, 0, n_positions - 1);
	put_both(t, c, table, n * 4);
	put_both(t, sn, table + n, n * 4);
	put_both(t, pos, at, (size_t)rows * 4);
	for (int s = 0; s < 2; s++) {
		norm[s] = (struct bk_norm){ w.m[s].p, (enum bk_dtype)w.m[s].dtype, 1e-6, plus_one };
		rope[s] = (struct bk_rope){ c[s], sn[s], pos[s], n_positions };
	}
	GRAD(p, "head_norm_rope", head_norm_rope(run, &y.m[s], &x.m[s], heads, dim, what & 1 ? &norm[s] : NULL, what & 2 ? &rope[s] : NULL));
	compare(t, &y, "head_norm_rope", 2 * place(type), type == BK_BF16 ? 0.02 : 2e-6, 0);
	GRAD(p, "head_norm_rope_back",
	     head_norm_rope_back(run, &dx->m[s], what & 1 ? dw.m[s].p : NULL, what & 1 ? &x.m[s] : NULL, heads, dim, what & 1 ? &norm[s] : NULL,
				 what & 2 ? &rope[s] : NULL, &dy.m[s]));
	compare(t, dx, "head_norm_rope_back", place(type), near_abs(type), 0);
	compare(t, &dw, "head_norm_rope_back's weight", 1e-5, near_sum(type), 0);
	unchanged(t, &x, "head_norm_rope_back");
	free(table), free(at);
	free(x.before), free(y.before), free(dy.before), free(out.before), free(w.before), free(dw.before);
}

/* The other side goes on from the same numbers. */
static void hand_over(struct twin *t, const struct dual *d)
{
	void *bytes = malloc(d->bytes);

	tell(t, 0, t->side[0]->ops->get(t->side[0]->run, bytes, d->base[0], d->bytes), "get");
	if (!t->bad)
		tell(t, 1, t->side[1]->ops->put(t->side[1]->run, d->base[1], bytes, d->bytes), "put");
	free(bytes);
}

static void attention_of(struct pair *p, const int32_t start[2][5], struct bk_attention *a, int type)
{
	struct twin *t = &p->t;
	const int64_t n_q = start[0][a->seq.n], n_k = start[1][a->seq.n], gap = bk_check_int(t->c, 0, 3);
	const int64_t cq = (int64_t)a->heads * a->head_dim, ck = (int64_t)a->kv_heads * a->head_dim;
	struct dual q = dual_new(t, n_q, cq, type, 1), k = dual_new(t, n_k + gap, ck, type, 1), v = dual_new(t, n_k + gap, ck, type, 1),
		    o = dual_new(t, n_q, cq, type, 1), lse = dual_new(t, 1, n_q * a->heads, BK_F32, 1), d_o = dual_new(t, n_q, cq, type, 1),
		    dq = dual_new(t, n_q, cq, type, 1), dk = dual_new(t, n_k + gap, ck, type, 1), dv = dual_new(t, n_k + gap, ck, type, 1);
	const double near = type == BK_BF16 ? 0.05 : 2e-4; /* sums of what cancels, outliers among it */
	const int in_place = CHANCE(t, 2);
	struct bk_attention at[2] = { *a, *a };
	void *qs[2], *ks[2];

	put_both(t, qs, start[0], sizeof(start[0]));
	put_both(t, ks, start[1], sizeof(start[1]));
	for (int s = 0; s < 2; s++)
		at[s].seq.q_start = qs[s], at[s].seq.kv_start = ks[s];
	GRAD(p, "attention_lse", attention_lse(run, &o.m[s], lse.m[s].p, &q.m[s], &k.m[s], &v.m[s], &at[s]));
	compare(t, &o, "attention_lse", place(type), type == BK_BF16 ? 0.02 : 5e-5, 0);
	compare(t, &lse, "log-sum-exp", 1e-5, type == BK_BF16 ? 1e-3 : 1e-5, 0);
	hand_over(t, &o);
	hand_over(t, &lse);
	GRAD(p, "attention_back",
	     attention_back(run, in_place ? &d_o.m[s] : &dq.m[s], &dk.m[s], &dv.m[s], &q.m[s], &k.m[s], &v.m[s], &o.m[s], lse.m[s].p, &d_o.m[s],
			    &at[s]));
	compare(t, in_place ? &d_o : &dq, "dq", near, near, 0);
	compare(t, &dk, "dk", near, near, 0);
	compare(t, &dv, "dv", near, near, 0);
	unchanged(t, &q, "attention_back");
	unchanged(t, &k, "attention_back");
	free(q.before), free(k.before), free(v.before), free(o.before), free(lse.before), free(d_o.before), free(dq.before), free(dk.before),
		free(dv.before);
}

static void do_attention(struct pair *p)
{
	static const int dims[] = { 8, 24, 32, 64, 64, 80, 128, 128, 256 };
	struct twin *t = &p->t;
	const int kv_heads = (int)bk_check_int(t->c, 1, 2), n = (int)bk_check_int(t->c, 1, 4), odd = CHANCE(t, 4), type = io_type(t);
	int32_t start[2][5] = { { 0 } };
	struct bk_attention a = { kv_heads * (int)bk_check_int(t->c, 1, 3),
				  kv_heads,
				  dims[bk_check_int(t->c, 0, 8)],
				  0,
				  CHANCE(t, 4) ? 4.0 : 0,
				  CHANCE(t, 2) ? bk_check_int(t->c, 2, 60) : 0,
				  { n, NULL, NULL, 0, 0 } };

	a.scale = 1 / sqrt((double)a.head_dim);
	for (int i = 0; i < n; i++) { /* some sequences are empty, some have keys before their queries */
		const int32_t q = CHANCE(t, 9) ? 0 : (int32_t)bk_check_int(t->c, 2, t->big ? 330 : 50),
			      kv = q + (int32_t)(odd ? bk_check_int(t->c, 0, 40) : 0);

		start[0][i + 1] = start[0][i] + q;
		start[1][i + 1] = start[1][i] + kv;
		a.seq.max_q = q > a.seq.max_q ? q : a.seq.max_q;
		a.seq.max_kv = kv > a.seq.max_kv ? kv : a.seq.max_kv;
	}
	t->plain = CHANCE(t, 2); /* what the fast kernels want of all */
	if (start[0][n])
		attention_of(p, (const int32_t(*)[5])start, &a, type);
	if (t->bad) {
		const size_t have = strlen(t->c->why);

		snprintf(t->c->why + have, sizeof(t->c->why) - have, " (head %d, %d:%d, n %d, window %d, cap %g)", a.head_dim, a.heads, kv_heads, n,
			 (int)a.window, a.softcap);
	}
}

static void do_elements(struct pair *p)
{
	struct twin *t = &p->t;
	const int type = io_type(t), alias = (int)bk_check_int(t->c, 0, 3), kind = CHANCE(t, 2) ? BK_GATE_GELU_TANH : BK_GATE_SILU;
	const int64_t rows = size(t, 20), cols = size(t, 200);
	struct dual g = dual_new(t, rows, cols, type, 3), u = dual_new(t, rows, cols, type, 1), dh = dual_new(t, rows, cols, type, 1),
		    o1 = dual_new(t, rows, cols, type, 1), o2 = dual_new(t, rows, cols, type, 1), y = dual_new(t, rows, cols, type, 1),
		    *dg = alias == 1   ? &g
			  : alias == 2 ? &dh
				       : &o1,
		    *du = alias == 1   ? &u
			  : alias == 3 ? &dh
				       : &o2;

	GRAD(p, "gate_back", gate_back(run, &dg->m[s], &du->m[s], &g.m[s], &u.m[s], &dh.m[s], kind));
	compare(t, dg, "gate_back", place(type), 1e-5, 0);
	compare(t, du, "gate_back's second", place(type), 1e-5, 0);
	hand_over(t, dg);
	GRAD(p, "softcap_back", softcap_back(run, &y.m[s], &y.m[s], &dg->m[s], 30.0));
	compare(t, &y, "softcap_back", place(type), 1e-6, 0);
	free(g.before), free(u.before), free(dh.before), free(o1.before), free(o2.before), free(y.before);
}

static void do_losses(struct pair *p)
{
	struct twin *t = &p->t;
	const int type = io_type(t), type2 = io_type(t), alias = (int)bk_check_int(t->c, 0, 2), with = !CHANCE(t, 4);
	const int64_t rows = size(t, 9), cols = CHANCE(t, 4) ? bk_check_int(t->c, 3000, t->big ? 40000 : 3100) : size(t, 150);
	struct dual b = dual_new(t, rows, cols, alias == 2 ? type : type2, 3), q = dual_new(t, rows, cols, type, 3),
		    o = dual_new(t, rows, cols, type, 1), kl = dual_new(t, 1, rows, BK_F32, 1), x = dual_new(t, rows, cols, type, 1),
		    y = dual_new(t, rows, cols, type2, 1),
		    *d = alias == 0   ? &o
			 : alias == 1 ? &q
				      : &b;
	double sums[2] = { 1.5, 1.5 };
	void *at[2];

	GRAD(p, "kl_back", kl_back(run, &d->m[s], with ? kl.m[s].p : NULL, &b.m[s], &q.m[s], 0.125f));
	compare(t, d, "kl_back", place(type), 1e-5, 0);
	compare(t, &kl, "kl_back's loss", 1e-5, 1e-6, 0);
	put_both(t, at, sums, sizeof(*sums));
	GRAD(p, "mse_back", mse_back(run, alias ? &x.m[s] : &o.m[s], with ? at[s] : NULL, &x.m[s], &y.m[s], 0.25f));
	compare(t, alias ? &x : &o, "mse_back", place(type), 1e-6, 0);
	for (int s = 0; s < 2 && !t->bad; s++)
		tell(t, s, t->side[s]->ops->get(t->side[s]->run, sums + s, at[s], sizeof(*sums)), "get");
	if (!t->bad && !bk_check_near(sums[0], sums[1], 1e-6, 0))
		t->bad = bk_check_fail(t->c, "mse_back's sum: %.17g instead of %.17g", sums[1], sums[0]);
	free(b.before), free(q.before), free(o.before), free(kl.before), free(x.before), free(y.before);
}

/* scales of weights of about 1: most clamp nothing, some much, some are negative, too small, 0 or not finite */
static void put_scales(struct twin *t, void *scale[2], void *zero[2], int64_t n, const struct bk_grid *g)
{
	float *f = malloc((size_t)n * 4);
	int8_t *z = malloc((size_t)n);

	for (int64_t i = 0; i < n; i++) {
		const double full = g->number == BK_INT ? 3.0 / (1 << (g->bits - 1)) : 0.004;

		f[i] = (float)(full * (0.3 + bk_check_unit(t->c)) * (CHANCE(t, 8) ? -1 : 1));
		if (CHANCE(t, 30))
			f[i] = CHANCE(t, 3) ? 0.0f : CHANCE(t, 2) ? INFINITY : 1e-30f;
		z[i] = (int8_t)bk_check_int(t->c, -(1 << (g->bits - 1)), (1 << (g->bits - 1)) - 1);
	}
	put_both(t, scale, f, (size_t)n * 4);
	put_both(t, zero, z, (size_t)n);
	free(f), free(z);
}

static void do_fake(struct pair *p)
{
	struct twin *t = &p->t;
	static const int bits[] = { 2, 3, 4, 4, 4, 8 };
	const struct bk_grid grid = { CHANCE(t, 5) ? BK_E4M3 : BK_INT, bits[bk_check_int(t->c, 0, 5)], CHANCE(t, 2),
				      CHANCE(t, 3) ? 0 : 8 * bk_check_int(t->c, 1, 16), BK_SCALE_BF16, 0 };
	const int fp8 = grid.number != BK_INT, type = io_type(t), type2 = io_type(t), code = fp8 ? BK_F8 : BK_I8, with_v = !fp8 && CHANCE(t, 2),
		  alias = CHANCE(t, 2);
	const int64_t n = size(t, 20), k = grid.group ? grid.group * size(t, 3) : size(t, 160), spr = grid.group ? k / grid.group : 1;
	struct dual w = dual_new(t, n, k, type, 1), v = dual_new(t, 1, n * k, BK_F32, 0.3f), w_hat = dual_new(t, n, k, type2, 1),
		    codes = dual_new(t, n, k, code, 1), g = dual_new(t, n, k, type2, 1), flat = dual_new(t, 1, n * k, BK_F32, 1),
		    dv = dual_new(t, 1, n * k, BK_F32, 1), ds = dual_new(t, 1, n * spr, BK_F32, 1);
	struct bk_grid of = grid;
	struct bk_fake f[2];
	struct bk_mat gs[2];
	void *scale[2], *zero[2];

	of.symmetric = fp8 ? 1 : grid.symmetric;
	put_scales(t, scale, zero, n * spr, &of);
	for (int s = 0; s < 2; s++) {
		f[s] = (struct bk_fake){ &w.m[s], with_v ? v.m[s].p : NULL, scale[s], of.symmetric ? NULL : zero[s], of };
		gs[s] = alias ? (struct bk_mat){ flat.m[s].p, n, k, k, BK_F32 } : g.m[s];
	}
	if (alias) {
		GRAD(p, "fake_quant", fake_quant(run, &w_hat.m[s], NULL, &f[s]));
		GRAD(p, "fake_quant", fake_quant(run, NULL, &codes.m[s], &f[s]));
	} else {
		GRAD(p, "fake_quant", fake_quant(run, &w_hat.m[s], &codes.m[s], &f[s]));
	}
	compare(t, &codes, "fake_quant's codes", 0, 0, 0);
	compare(t, &w_hat, "fake_quant", 0, 0, 0);
	unchanged(t, &w, "fake_quant");
	GRAD(p, "fake_quant_back", fake_quant_back(run, alias ? flat.m[s].p : dv.m[s].p, ds.m[s].p, &gs[s], &f[s]));
	compare(t, alias ? &flat : &dv, "fake_quant_back", 1e-6, 0, 0);
	compare(t, &ds, "fake_quant_back's scale", 1e-5, 1e-5, 0);
	GRAD(p, "codes_value", codes_value(run, &w_hat.m[s], &codes.m[s], scale[s], f[s].zero, &of));
	compare(t, &w_hat, "codes_value", 0, 0, 0);
	GRAD(p, "codes_back", codes_back(run, ds.m[s].p, &g.m[s], &codes.m[s], f[s].zero, &of));
	compare(t, &ds, "codes_back", 1e-5, 1e-5, 0);
	free(w.before), free(v.before), free(w_hat.before), free(codes.before), free(g.before), free(flat.before), free(dv.before), free(ds.before);
}

static void do_tokens(struct pair *p)
{
	struct twin *t = &p->t;
	const int type = io_type(t), kind = CHANCE(t, 2) ? BK_TOKEN_INT8 : BK_TOKEN_E4M3, alias = CHANCE(t, 2);
	const float fixed = CHANCE(t, 3) ? 0.03f : 0;
	const int64_t rows = size(t, 30), cols = CHANCE(t, 5) ? bk_check_int(t->c, 2000, 5000) : size(t, 100);
	struct dual x = dual_new(t, rows, cols, type, 1), y = dual_new(t, rows, cols, type, 1), *to = alias ? &x : &y;

	GRAD(p, "fake_tokens", fake_tokens(run, &to->m[s], &x.m[s], kind, fixed));
	compare(t, to, "fake_tokens", type == BK_BF16 ? 0 : 1e-7, 0, 0);
	free(x.before), free(y.before);
}

static void do_steps(struct pair *p)
{
	struct twin *t = &p->t;
	const int64_t n = size(t, 5000);
	const int with = CHANCE(t, 2);
	struct dual x = dual_new(t, 1, n, BK_F32, 1), m = dual_new(t, 1, n, BK_F32, 0.1f), v = dual_new(t, 1, n, BK_F32, 0),
		    g = dual_new(t, 1, n, BK_F32, 1);
	const struct bk_limits limits = { -0.9f, CHANCE(t, 2) ? 0.8f : -1 };
	const struct bk_adam adam = { 0.01f, 0.9f, 0.95f, 1e-8f, CHANCE(t, 2) ? 0.1f : 0, bk_check_int(t->c, 1, 2000), limits };

	GRAD(p, "sign_step", sign_step(run, x.m[s].p, g.m[s].p, n, 0.125f, with ? &limits : NULL));
	compare(t, &x, "sign_step", 1e-7, 0, 0);
	GRAD(p, "adam_step", adam_step(run, x.m[s].p, m.m[s].p, v.m[s].p, g.m[s].p, n, &adam));
	compare(t, &x, "adam_step", 1e-5, 1e-6, 0);
	compare(t, &m, "adam_step's mean", 1e-6, 1e-6, 0);
	compare(t, &v, "adam_step's square", 1e-6, 1e-6, 0);
	hand_over(t, &x);
	GRAD(p, "axpy", axpy(run, x.m[s].p, -0.3f, g.m[s].p, n));
	compare(t, &x, "axpy", 1e-6, 1e-6, 0);
	hand_over(t, &x);
	GRAD(p, "product", product(run, x.m[s].p, x.m[s].p, g.m[s].p, n));
	compare(t, &x, "product", 0, 0, 0);
	unchanged(t, &g, "steps");
	free(x.before), free(m.before), free(v.before), free(g.before);
}

static const struct {
	const char *name;
	void (*run)(struct pair *p);
} parts[] = {
	{ "norm", do_norm },     { "heads", do_heads }, { "attention", do_attention }, { "elements", do_elements },
	{ "losses", do_losses }, { "fake", do_fake },   { "tokens", do_tokens },       { "steps", do_steps },
};

int bk_grad_check(const struct bk_grad_side *want, const struct bk_grad_side *got, struct bk_check *c, int big, const char *only)
{
	struct pair p = { { .side = { &want->side, &got->side }, .c = c, .big = big }, { want->ops, got->ops } };

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && !p.t.bad; i++) {
		if (only && !strstr(parts[i].name, only))
			continue;
		p.t.plain = 0;
		parts[i].run(&p);
		for (int k = 0; k < p.t.n_kept; k++)
			for (int s = 0; s < 2; s++)
				p.t.side[s]->ops->release(p.t.side[s]->run, p.t.kept[s][k]);
		p.t.n_kept = 0;
	}
	return p.t.bad;
}
