/* SPDX-License-Identifier: Apache-2.0
 * Fake quantization of weights and tokens, and optimizer steps, on the CPU. */
#include <math.h>
#include <string.h>

#include "kernels/common/num.h"
#include "kernels/grad/grad_cpu.h"

/* --- weights --- */

struct fake {
	struct bk_run *r;
	const struct bk_grad_rows *rows;
	const struct bk_mat *w_hat, *codes, *g; /* what is asked for, or known */
	const struct bk_mat *w;                 /* NULL: codes stay as they are */
	const float *v, *scale;
	const int8_t *zero;
	struct bk_grid grid;
	float *dv, *dscale;
	int64_t n, k, width, spr, per_item;
};

static struct bk_point point_of(const struct fake *f, int64_t at)
{
	const float hi = (float)((1 << (f->grid.bits - 1)) - 1), s = f->scale ? bk_round_bf16(f->scale[at]) : 0;

	return (struct bk_point){ isfinite(s) ? s : 0, f->zero ? (float)f->zero[at] : 0, -hi - 1, hi, f->grid.number };
}

static void codes_row(const struct fake *f, int64_t i, const float *q)
{
	if (f->codes->dtype == BK_I8)
		f->rows->to_i8(bk_at(f->codes, i, 0), q, f->k);
	else
		f->rows->to_e4m3(bk_at(f->codes, i, 0), q, f->k);
}

/* desk: w, zeros, g or w_hat, q or dv, each a row */
static void fake_row(const struct fake *f, int64_t i, float *desk)
{
	const struct bk_rows *rows = f->r->rows;
	float *w = desk, *zeros = w + f->k, *g = zeros + f->k, *q = g + f->k;
	const float *v = f->v ? f->v + i * f->k : NULL;

	if (f->w)
		rows->load(w, bk_at(f->w, i, 0), f->w->dtype, f->k);
	else
		rows->load(q, bk_at(f->codes, i, 0), f->codes->dtype, f->k);
	if (f->g)
		rows->load(g, bk_at(f->g, i, 0), f->g->dtype, f->k);
	for (int64_t j = 0; j < f->spr; j++) {
		const int64_t at = i * f->spr + j, k = j * f->width;
		const struct bk_point p = point_of(f, at);
		float sum;

		if (!f->g && f->w) {
			f->rows->fake(g + k, q + k, w + k, v ? v + k : NULL, f->width, &p);
		} else if (!f->g) {
			f->rows->code_value(g + k, q + k, f->width, &p);
		} else {
			sum = f->w ? f->rows->fake_back(q + k, g + k, w + k, v ? v + k : zeros + k, f->width, &p)
				   : f->rows->code_back(g + k, q + k, f->width, p.z);
			if (f->dscale)
				f->dscale[at] += sum;
		}
	}
	if (f->dv)
		memcpy(f->dv + i * f->k, q, (size_t)f->k * sizeof(*q));
	if (f->w_hat)
		rows->store(bk_at(f->w_hat, i, 0), f->w_hat->dtype, g, f->k);
	if (f->w && f->codes)
		codes_row(f, i, q);
}

static void fake_item(void *arg, size_t item)
{
	const struct fake *f = arg;
	const int64_t first = (int64_t)item * f->per_item, last = bk_min(f->n, first + f->per_item);
	struct bk_desk *d = bk_desk_take(f->r);

	memset(d->p + f->k, 0, (size_t)f->k * sizeof(float));
	for (int64_t i = first; i < last; i++)
		fake_row(f, i, d->p);
	bk_desk_give(d);
}

static int go(struct fake f)
{
	const struct bk_grid *g = &f.grid;
	const struct bk_mat *all[] = { f.w_hat, f.codes, f.g, f.w };

	f.n = f.w ? f.w->rows : f.codes->rows;
	f.k = f.w ? f.w->cols : f.codes->cols;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (all[i] && (all[i]->rows != f.n || all[i]->cols != f.k || !bk_shaped(all[i]) || (all[i] != f.codes && !bk_is_io(all[i]->dtype))))
			return BK_RUN_REFUSED;
	if (g->number == BK_INT ? g->bits < 2 || g->bits > 8 || (!g->symmetric && !f.zero) : g->number != BK_E4M3 || f.v || f.zero)
		return BK_RUN_REFUSED;
	f.width = g->group ? g->group : f.k;
	if (g->group < 0 || (f.width && f.k % f.width) || (f.codes && f.codes->dtype != (g->number == BK_INT ? BK_I8 : BK_F8)))
		return BK_RUN_REFUSED;
	if (!f.n || !f.k)
		return 0;
	f.spr = f.k / f.width;
	f.rows = bk_grad_rows_best();
	f.per_item = bk_rows_per_item(f.k);
	if (bk_desks_need(f.r, (size_t)(4 * f.k)))
		return BK_RUN_NO_MEMORY;
	bk_each(f.r, (size_t)bk_cut(f.n, f.per_item), fake_item, &f);
	return 0;
}

BK_GRAD_OP(fake_quant, const struct bk_mat *w_hat, const struct bk_mat *codes, const struct bk_fake *f)
{
	if (!f->w || !f->scale)
		return BK_RUN_REFUSED;
	return go((struct fake){ .r = r, .w_hat = w_hat, .codes = codes, .w = f->w, .v = f->v, .scale = f->scale, .zero = f->zero, .grid = f->grid });
}

BK_GRAD_OP(fake_quant_back, float *dv, float *dscale, const struct bk_mat *g, const struct bk_fake *f)
{
	if (!f->w || !f->scale || !g)
		return BK_RUN_REFUSED;
	return go((struct fake){
		.r = r, .g = g, .dv = dv, .dscale = dscale, .w = f->w, .v = f->v, .scale = f->scale, .zero = f->zero, .grid = f->grid });
}

BK_GRAD_OP(codes_value, const struct bk_mat *w_hat, const struct bk_mat *codes, const float *scale, const int8_t *zero, const struct bk_grid *grid)
{
	if (!w_hat || !codes || !scale)
		return BK_RUN_REFUSED;
	return go((struct fake){ .r = r, .w_hat = w_hat, .codes = codes, .scale = scale, .zero = zero, .grid = *grid });
}

BK_GRAD_OP(codes_back, float *dscale, const struct bk_mat *g, const struct bk_mat *codes, const int8_t *zero, const struct bk_grid *grid)
{
	if (!dscale || !g || !codes)
		return BK_RUN_REFUSED;
	return go((struct fake){ .r = r, .g = g, .dscale = dscale, .codes = codes, .zero = zero, .grid = *grid });
}

/* --- tokens --- */

struct tokens {
	struct bk_run *r;
	const struct bk_mat *y, *x;
	enum bk_token_codes kind;
	float fixed;
	int64_t rows;
};

static void tokens_item(void *arg, size_t item)
{
	const struct tokens *t = arg;
	const struct bk_rows *rows = t->r->rows;
	const int64_t first = (int64_t)item * t->rows, last = bk_min(t->x->rows, first + t->rows), n = t->x->cols;
	const int int8 = t->kind == BK_TOKEN_INT8;
	struct bk_desk *d = bk_desk_take(t->r);
	void *codes = d->p + n;

	for (int64_t i = first; i < last; i++) {
		float s = t->fixed, top;

		rows->load(d->p, bk_at(t->x, i, 0), t->x->dtype, n);
		top = s > 0 ? 0 : rows->absmax(d->p, n);
		if (!(s > 0)) /* as quant_tokens has it */
			s = int8 ? top / 127.0f : top / 448.0f > 1.0f / (448.0f * 512.0f) ? top / 448.0f : 1.0f / (448.0f * 512.0f);
		if (int8 && !(t->fixed > 0))
			rows->int8_codes(codes, d->p, top > 0 ? 127.0f / top : 0.0f, 0, n);
		else if (int8)
			rows->int8_codes(codes, d->p, s, 1, n);
		else
			rows->e4m3_codes(codes, d->p, s, n);
		rows->load(d->p, codes, int8 ? BK_I8 : BK_F8, n);
		rows->scale(d->p, s, n);
		rows->store(bk_at(t->y, i, 0), t->y->dtype, d->p, n);
	}
	bk_desk_give(d);
}

BK_GRAD_OP(fake_tokens, const struct bk_mat *y, const struct bk_mat *x, enum bk_token_codes kind, float scale)
{
	struct tokens t = { r, y, x, kind, scale, bk_rows_per_item(x->cols) };

	if (!bk_same_shape(y, x) || y->dtype != x->dtype || !bk_is_io(x->dtype) || !bk_shaped(y) || !bk_shaped(x) || !(scale >= 0) ||
	    !isfinite(scale) || (kind != BK_TOKEN_INT8 && kind != BK_TOKEN_E4M3))
		return BK_RUN_REFUSED;
	if (bk_desks_need(r, 2 * (size_t)x->cols))
		return BK_RUN_NO_MEMORY;
	bk_each(r, (size_t)bk_cut(x->rows, t.rows), tokens_item, &t);
	return 0;
}

/* --- steps --- */

#define STEP_FLOATS 32768

enum step_op { STEP_SIGN, STEP_ADAM, STEP_AXPY, STEP_PRODUCT };

struct step {
	const struct bk_grad_rows *rows;
	enum step_op op;
	float *p, *m, *v;
	const float *a, *b;
	int64_t n;
	float f, c1, c2;
	const struct bk_adam *adam;
	const struct bk_limits *limits;
};

static void step_item(void *arg, size_t item)
{
	const struct step *s = arg;
	const int64_t at = (int64_t)item * STEP_FLOATS, n = bk_min(STEP_FLOATS, s->n - at);

	switch (s->op) {
	case STEP_SIGN:
		s->rows->sign(s->p + at, s->a + at, n, s->f);
		break;
	case STEP_ADAM:
		s->rows->adam(s->p + at, s->m + at, s->v + at, s->a + at, n, s->adam, s->c1, s->c2);
		break;
	case STEP_AXPY:
		s->rows->axpy(s->p + at, s->f, s->a + at, n);
		break;
	case STEP_PRODUCT:
		s->rows->product(s->p + at, s->a + at, s->b + at, n);
		break;
	}
	if (s->limits && s->limits->lo < s->limits->hi)
		s->rows->limit(s->p + at, n, s->limits->lo, s->limits->hi);
}

static int step(struct bk_run *r, struct step s)
{
	if (s.n < 0)
		return BK_RUN_REFUSED;
	s.rows = bk_grad_rows_best();
	bk_each(r, (size_t)bk_cut(s.n, STEP_FLOATS), step_item, &s);
	return 0;
}

BK_GRAD_OP(sign_step, float *p, const float *g, int64_t n, float lr, const struct bk_limits *limits)
{
	return step(r, (struct step){ .op = STEP_SIGN, .p = p, .a = g, .n = n, .f = lr, .limits = limits });
}

BK_GRAD_OP(adam_step, float *p, float *m, float *v, const float *g, int64_t n, const struct bk_adam *adam)
{
	if (adam->step < 1)
		return BK_RUN_REFUSED;
	return step(r, (struct step){ .op = STEP_ADAM,
				      .p = p,
				      .m = m,
				      .v = v,
				      .a = g,
				      .n = n,
				      .adam = adam,
				      .limits = &adam->limits,
				      .c1 = (float)(1 / (1 - pow((double)adam->beta1, (double)adam->step))),
				      .c2 = (float)(1 / (1 - pow((double)adam->beta2, (double)adam->step))) });
}

BK_GRAD_OP(axpy, float *y, float a, const float *x, int64_t n) { return step(r, (struct step){ .op = STEP_AXPY, .p = y, .f = a, .a = x, .n = n }); }

BK_GRAD_OP(product, float *y, const float *a, const float *b, int64_t n)
{
	return step(r, (struct step){ .op = STEP_PRODUCT, .p = y, .a = a, .b = b, .n = n });
}
