/* SPDX-License-Identifier: Apache-2.0
 * Products. y = x Wᵀ, the one that models are made of: x becomes float32 rows, W float32 panels, a slab at a time; tiles of the result are items.
 * Codes go the same way: int8 in pieces of 1024 steps, within which float32 holds every partial sum exactly, added up in int32.
 * A few rows (decoding) are plain dot products over W as it lies. Everything else, and Hessians, is OpenBLAS in fixed tiles. */
#include <string.h>

#include <cblas.h>

#include "kernels/run/cpu.h"

#define TILE_M 96
#define TILE_N 256
#define FEW_ROWS 4
#define SLAB_FLOATS ((int64_t)8 << 20)
#define EXACT_STEPS 1024 /* 128 * 128 * 1024 = 2^24 */

struct product {
	struct bk_run *r;
	const struct bk_mat *c, *a, *b;
	const void *bias;
	const float *sa, *sb;   /* codes only */
	int64_t group;          /* codes: so many columns per scale; 0: one per row */
	float alpha, beta;
	float *fa, *fb;         /* rows and panels of the slabs */
	int64_t k, lda, a0, b0, am, bn; /* the slabs: rows a0 .. a0+am of a, b0 .. b0+bn of b */
	int64_t a_rows, tiles_n;
	int exact;
};

static void convert_rows(void *arg, size_t item)
{
	struct product *p = arg;
	int64_t first = (int64_t)item * p->a_rows, last = bk_min(p->am, first + p->a_rows);

	for (int64_t i = first; i < last; i++) {
		p->r->rows->load(p->fa + i * p->lda, bk_at(p->a, p->a0 + i, 0), p->a->dtype, p->k);
		if (p->group)
			p->r->rows->grouped(p->fa + i * p->lda, p->sa + (p->a0 + i) * (p->k / p->group), p->group, p->k);
	}
}

static void pack_panel(void *arg, size_t item)
{
	struct product *p = arg;
	struct bk_desk *d = bk_desk_take(p->r);
	int64_t first = (int64_t)item * BK_PANEL, n = bk_min(BK_PANEL, p->bn - first);

	for (int64_t i = 0; i < n; i++) {
		p->r->rows->load(d->p + i * p->k, bk_at(p->b, p->b0 + first + i, 0), p->b->dtype, p->k);
		if (p->group)
			p->r->rows->grouped(d->p + i * p->k, p->sb + (p->b0 + first + i) * (p->k / p->group), p->group, p->k);
	}
	bk_tile_pack(p->fb + first * p->k, d->p, n, p->k, p->k);
	bk_desk_give(d);
}

/* One row of a tile -> y: scales, alpha and beta, bias, one rounding. */
static void finish_row(const struct product *p, float *t, const int32_t *whole, float *old, int64_t i, int64_t j, int64_t n)
{
	const struct bk_rows *rows = p->r->rows;

	if (p->sa && !p->group)
		for (int64_t q = 0; q < n; q++)
			t[q] = (whole ? (float)whole[q] : t[q]) * p->sb[j + q] * p->sa[i];
	if (p->alpha != 1)
		rows->scale(t, p->alpha, n);
	if (p->beta != 0) {
		rows->load(old, bk_at(p->c, i, j), p->c->dtype, n);
		rows->scale(old, p->beta, n);
		rows->add(t, old, n);
	}
	if (p->bias) {
		rows->load(old, (const char *)p->bias + (size_t)j * bk_elem(p->sa ? p->c->dtype : p->b->dtype), p->sa ? p->c->dtype : p->b->dtype, n);
		rows->add(t, old, n);
	}
	rows->store(bk_at(p->c, i, j), p->c->dtype, t, n);
}

static void product_tile(void *arg, size_t item)
{
	struct product *p = arg;
	struct bk_desk *d = bk_desk_take(p->r);
	int64_t i0 = (int64_t)item / p->tiles_n * TILE_M, j0 = (int64_t)item % p->tiles_n * TILE_N;
	int64_t m = bk_min(TILE_M, p->am - i0), n = bk_min(TILE_N, p->bn - j0);
	float *old = d->p + TILE_M * TILE_N;
	int32_t *whole = p->exact ? (int32_t *)(void *)(old + TILE_N) : NULL;
	struct bk_tile t = { .a = p->fa + i0 * p->lda, .b = p->fb + j0 * p->k, .c = d->p, .m = m, .n = n, .k = p->k, .lda = p->lda,
			     .panel = BK_PANEL * p->k, .step = BK_PANEL, .ldc = TILE_N };

	if (whole)
		memset(whole, 0, (size_t)(TILE_M * TILE_N) * sizeof(*whole));
	for (int64_t k = 0; k < p->k || !k; k += EXACT_STEPS) {
		if (whole) {
			t.k = bk_min(EXACT_STEPS, p->k - k);
			t.a = p->fa + i0 * p->lda + k;
			t.b = p->fb + j0 * p->k + k * BK_PANEL;
		}
		p->r->tile(&t);
		if (!whole)
			break;
		for (int64_t i = 0; i < m; i++)
			for (int64_t j = 0; j < n; j++)
				whole[i * TILE_N + j] += (int32_t)d->p[i * TILE_N + j];
	}
	for (int64_t i = 0; i < m; i++)
		finish_row(p, d->p + i * TILE_N, whole ? whole + i * TILE_N : NULL, old, p->a0 + i0 + i, p->b0 + j0, n);
	bk_desk_give(d);
}

/* a rows x b rows, both k-contiguous */
static int rows_by_rows(struct product *p)
{
	int64_t m = p->c->rows, n = p->c->cols, slab_m, slab_n;

	p->lda = p->k + 16; /* a power of two would put all rows into the same sets of the cache */
	slab_m = bk_min(m, bk_max(TILE_M, SLAB_FLOATS / p->lda / TILE_M * TILE_M));
	slab_n = bk_min(bk_cut(n, BK_PANEL) * BK_PANEL, bk_max(TILE_N, SLAB_FLOATS / bk_max(1, p->k) / TILE_N * TILE_N));
	p->fa = bk_shared(p->r, 0, (size_t)(slab_m * p->lda));
	p->fb = bk_shared(p->r, 1, (size_t)(slab_n * p->k));
	if (!p->fa || !p->fb || bk_desks_need(p->r, (size_t)bk_max(BK_PANEL * p->k, TILE_M * TILE_N * (p->exact ? 2 : 1) + TILE_N)))
		return BK_RUN_NO_MEMORY;
	p->a_rows = bk_rows_per_item(p->k);
	for (p->b0 = 0; p->b0 < n; p->b0 += slab_n) {
		p->bn = bk_min(slab_n, n - p->b0);
		p->tiles_n = bk_cut(p->bn, TILE_N);
		bk_each(p->r, (size_t)bk_cut(p->bn, BK_PANEL), pack_panel, p);
		for (p->a0 = 0; p->a0 < m; p->a0 += slab_m) {
			p->am = bk_min(slab_m, m - p->a0);
			if (slab_m < m || !p->b0)
				bk_each(p->r, (size_t)bk_cut(p->am, p->a_rows), convert_rows, p);
			bk_each(p->r, (size_t)(bk_cut(p->am, TILE_M) * p->tiles_n), product_tile, p);
		}
	}
	return 0;
}

/* --- a few rows --- */

static void few_item(void *arg, size_t item)
{
	struct product *p = arg;
	struct bk_desk *d = bk_desk_take(p->r);
	int64_t first = (int64_t)item * TILE_N, n = bk_min(TILE_N, p->c->cols - first);

	for (int64_t i = 0; i < p->c->rows; i++)
		for (int64_t j = 0; j < n; j++)
			d->p[i * TILE_N + j] = p->r->rows->dot(p->fa + i * p->lda, bk_at(p->b, first + j, 0), p->b->dtype, p->k);
	for (int64_t i = 0; i < p->c->rows; i++)
		finish_row(p, d->p + i * TILE_N, NULL, d->p + FEW_ROWS * TILE_N, i, first, n);
	bk_desk_give(d);
}

static int few_rows(struct product *p)
{
	p->lda = p->k;
	p->am = p->c->rows;
	p->a_rows = p->am;
	p->fa = bk_shared(p->r, 0, (size_t)(p->am * p->k));
	if (!p->fa || bk_desks_need(p->r, (FEW_ROWS + 1) * TILE_N))
		return BK_RUN_NO_MEMORY;
	convert_rows(p, 0);
	bk_each(p->r, (size_t)bk_cut(p->c->cols, TILE_N), few_item, p);
	return 0;
}

/* --- everything else: OpenBLAS --- */

struct general {
	struct product p;
	int ta, tb;
	int64_t ld_a, ld_b, tiles_n;
	int triangle; /* only tiles that touch i >= j */
};

static void general_tile(void *arg, size_t item)
{
	struct general *g = arg;
	struct product *p = &g->p;
	int64_t i0 = (int64_t)item / g->tiles_n * TILE_N, j0 = (int64_t)item % g->tiles_n * TILE_N;
	int64_t m = bk_min(TILE_N, p->c->rows - i0), n = bk_min(TILE_N, p->c->cols - j0);
	const float *a = p->fa + (g->ta ? i0 : i0 * g->ld_a), *b = p->fb + (g->tb ? j0 * g->ld_b : j0);
	struct bk_desk *d;

	if (g->triangle && j0 > i0)
		return;
	if (p->c->dtype == BK_F32 && !p->bias) {
		cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)p->k,
			    p->alpha, a, (blasint)g->ld_a, b, (blasint)g->ld_b, p->beta, bk_at(p->c, i0, j0), (blasint)p->c->ld);
		return;
	}
	d = bk_desk_take(p->r);
	cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)p->k, 1, a,
		    (blasint)g->ld_a, b, (blasint)g->ld_b, 0, d->p, TILE_N);
	for (int64_t i = 0; i < m; i++)
		finish_row(p, d->p + i * TILE_N, NULL, d->p + TILE_N * TILE_N, i0 + i, j0, n);
	bk_desk_give(d);
}

struct whole { struct bk_run *r; const struct bk_mat *m; float *f; int64_t rows; };

static void whole_item(void *arg, size_t item)
{
	struct whole *w = arg;
	int64_t first = (int64_t)item * w->rows, last = bk_min(w->m->rows, first + w->rows);

	for (int64_t i = first; i < last; i++)
		w->r->rows->load(w->f + i * w->m->cols, bk_at(w->m, i, 0), w->m->dtype, w->m->cols);
}

/* m as float32 with its row stride: itself, or a converted copy */
static const float *as_floats(struct bk_run *r, const struct bk_mat *m, int which, int64_t *ld)
{
	struct whole w = { r, m, NULL, bk_rows_per_item(m->cols) };

	*ld = bk_max(1, m->dtype == BK_F32 && m->rows > 1 ? m->ld : m->cols);
	if (m->dtype == BK_F32)
		return m->p;
	w.f = bk_shared(r, which, (size_t)(m->rows * m->cols));
	if (w.f)
		bk_each(r, (size_t)bk_cut(m->rows, w.rows), whole_item, &w);
	return w.f;
}

static int general(struct product *p, int ta, int tb, int triangle)
{
	struct general g = { .ta = ta, .tb = tb, .triangle = triangle, .tiles_n = bk_cut(p->c->cols, TILE_N) };

	p->fa = (float *)as_floats(p->r, p->a, 0, &g.ld_a);
	p->fb = triangle ? p->fa : (float *)as_floats(p->r, p->b, 1, &g.ld_b);
	g.ld_b = triangle ? g.ld_a : g.ld_b;
	if (!p->fa || !p->fb || bk_desks_need(p->r, TILE_N * TILE_N + TILE_N))
		return BK_RUN_NO_MEMORY;
	g.p = *p;
	bk_each(p->r, (size_t)(bk_cut(p->c->rows, TILE_N) * g.tiles_n), general_tile, &g);
	return 0;
}

/* --- the operations --- */

BK_OP(gemm, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta, const void *bias)
{
	int64_t m = ta ? a->cols : a->rows, k = ta ? a->rows : a->cols, n = tb ? b->rows : b->cols;
	struct product p = { .r = r, .c = c, .a = a, .b = b, .bias = bias, .alpha = alpha, .beta = beta, .k = k };

	if (c->rows != m || c->cols != n || (tb ? b->cols : b->rows) != k || a->dtype != b->dtype || !bk_is_float(a->dtype) ||
	    (c->dtype != BK_F32 && c->dtype != BK_BF16) || !bk_shaped(a) || !bk_shaped(b) || !bk_shaped(c))
		return BK_RUN_REFUSED;
	if (!m || !n)
		return 0;
	if (!ta && tb && m <= FEW_ROWS)
		return few_rows(&p);
	if (!ta && tb)
		return rows_by_rows(&p);
	if (m > INT32_MAX || n > INT32_MAX || k > INT32_MAX || a->ld > INT32_MAX || b->ld > INT32_MAX || c->ld > INT32_MAX)
		return BK_RUN_REFUSED;
	return general(&p, ta, tb, 0);
}

BK_OP(gemm_codes, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, const void *bias)
{
	struct product p = { .r = r, .c = y, .a = x, .b = w, .bias = bias, .sa = sx, .sb = sw, .alpha = 1, .k = x->cols, .exact = x->dtype == BK_I8 };

	if (y->rows != x->rows || y->cols != w->rows || w->cols != x->cols || x->dtype != w->dtype || (x->dtype != BK_I8 && x->dtype != BK_F8) ||
	    (y->dtype != BK_F32 && y->dtype != BK_BF16) || !bk_shaped(x) || !bk_shaped(w) || !bk_shaped(y) || x->cols > 1 << 17)
		return BK_RUN_REFUSED;
	return y->rows && y->cols ? rows_by_rows(&p) : 0;
}

BK_OP(gemm_groups, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, int64_t group, const void *bias)
{
	struct product p = { .r = r, .c = y, .a = x, .b = w, .bias = bias, .sa = sx, .sb = sw, .alpha = 1, .k = x->cols, .group = group };

	if (y->rows != x->rows || y->cols != w->rows || w->cols != x->cols || x->dtype != BK_F8 || w->dtype != BK_F8 || group < 1 || x->cols % group ||
	    (y->dtype != BK_F32 && y->dtype != BK_BF16) || !bk_shaped(x) || !bk_shaped(w) || !bk_shaped(y))
		return BK_RUN_REFUSED;
	return y->rows && y->cols ? rows_by_rows(&p) : 0;
}

BK_OP(hessian, const struct bk_mat *h, const struct bk_mat *x)
{
	struct product p = { .r = r, .c = h, .a = x, .b = x, .alpha = 1, .beta = 1, .k = x->rows };

	if (h->rows != h->cols || h->cols != x->cols || h->dtype != BK_F32 || !bk_is_float(x->dtype) || !bk_shaped(h) || !bk_shaped(x) ||
	    x->rows > INT32_MAX || x->cols > INT32_MAX || h->ld > INT32_MAX)
		return BK_RUN_REFUSED;
	return x->rows && x->cols ? general(&p, 1, 0, 1) : 0;
}

#define MIRROR 64
struct mirror { const struct bk_mat *h; };

static void mirror_item(void *arg, size_t item)
{
	const struct bk_mat *h = ((struct mirror *)arg)->h;
	int64_t i0 = (int64_t)item * MIRROR, i1 = bk_min(h->rows, i0 + MIRROR);
	float *p = h->p;

	for (int64_t j0 = 0; j0 < i1; j0 += MIRROR)
		for (int64_t i = i0; i < i1; i++)
			for (int64_t j = j0; j < bk_min(i, j0 + MIRROR); j++)
				p[j * h->ld + i] = p[i * h->ld + j];
}

BK_OP(mirror, const struct bk_mat *h)
{
	struct mirror m = { h };

	if (h->rows != h->cols || h->dtype != BK_F32 || !bk_shaped(h))
		return BK_RUN_REFUSED;
	bk_each(r, (size_t)bk_cut(h->rows, MIRROR), mirror_item, &m);
	return 0;
}
