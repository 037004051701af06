/* SPDX-License-Identifier: Apache-2.0
 * A table of solvers against the CPU's on a random layer: what is plain arithmetic must agree to float32, what rounds step by step may part at ties and must
 * then be as good. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/common/check.h"
#include "kernels/common/num.h"
#include "kernels/solve/solve.h"
#include "kernels/solve/solve_grid.h"

struct bench { /* a layer, and a copy of every result in host memory */
	const struct bk_solve *s;
	const struct bk_solve_ops *ops;
	struct bk_check *c;
	int64_t n, k, spr;
	struct bk_grid g;
	float *w, *h, *weight, *scales, *d, *r;
	int8_t *codes, *zeros;
	int32_t *order, *group_of;
	void *dw, *dh, *dhp, *dr, *dweight, *dscales, *dzeros, *dcodes, *dcp, *dd, *ddp, *dwp, *dorder, *dgroup, *dloss;
};

static int bad(const struct bench *b, const char *what, int error)
{
	return error ? bk_check_fail(b->c, "solve %s: %s (n %d, k %d, %d bits, group %d)", what, error == 1 ? "differs" : b->s->ops->error_text(error), (int)b->n, (int)b->k,
				     b->g.bits, (int)b->g.group)
		     : 0;
}

static struct bk_mat f32(void *p, int64_t rows, int64_t cols) { return (struct bk_mat){ p, rows, cols, cols, BK_F32 }; }
static struct bk_mat i8(void *p, int64_t rows, int64_t cols) { return (struct bk_mat){ p, rows, cols, cols, BK_I8 }; }

static int fresh(struct bench *b)
{
	const int64_t t = b->k * 3;
	float *x = malloc((size_t)(t * b->k) * sizeof *x);

	if (!x)
		return 1;
	for (int64_t i = 0; i < t; i++) {
		const double common = bk_check_gauss(b->c);

		for (int64_t k = 0; k < b->k; k++)
			x[i * b->k + k] = (float)((common * (double)(k % 5) + bk_check_gauss(b->c)) * (k % 37 == 3 ? 12 : 1));
	}
	for (int64_t i = 0; i < b->k; i++)
		for (int64_t j = 0; j < b->k; j++) {
			double sum = 0;

			for (int64_t q = 0; q < t && j <= i; q++)
				sum += (double)x[q * b->k + i] * x[q * b->k + j];
			b->h[i * b->k + j] = j <= i ? (float)sum : NAN; /* the other triangle must not be read */
		}
	for (int64_t i = 0; i < b->n * b->k; i++)
		b->w[i] = bk_round_bf16((float)(0.05 * bk_check_gauss(b->c)));
	for (int64_t i = 0; i < b->k; i++) {
		b->order[i] = (int32_t)i;
		b->weight[i] = b->h[i * b->k + i];
	}
	for (int64_t i = b->k - 1; i > 0; i--) { /* any order will do */
		const int64_t j = bk_check_int(b->c, 0, i);
		const int32_t o = b->order[i];

		b->order[i] = b->order[j];
		b->order[j] = o;
	}
	for (int64_t i = 0; i < b->k; i++)
		b->group_of[i] = (int32_t)(b->order[i] / (b->k / b->spr));
	free(x);
	return 0;
}

/* Runs everything on one table; the losses after rounding, refit and descent go to loss[3]. */
static int walk(struct bench *b, const struct bk_solve *s, const struct bk_solve_ops *ops, double loss[3])
{
	const struct bk_run_ops *o = s->ops;
	const size_t nk = (size_t)(b->n * b->k), kk = (size_t)(b->k * b->k), ns = (size_t)(b->n * b->spr), k = (size_t)b->k;
	const struct { void **p; const void *from; size_t bytes; } all[] = {
		{ &b->dw, b->w, nk * 4 }, { &b->dh, b->h, kk * 4 }, { &b->dhp, NULL, kk * 4 }, { &b->dr, NULL, kk * 4 }, { &b->dweight, b->weight, k * 4 },
		{ &b->dscales, NULL, ns * 4 }, { &b->dzeros, NULL, ns }, { &b->dcodes, NULL, nk }, { &b->dcp, NULL, nk }, { &b->dd, NULL, nk * 4 },
		{ &b->ddp, NULL, nk * 4 }, { &b->dwp, NULL, nk * 4 }, { &b->dorder, b->order, k * 4 }, { &b->dgroup, b->group_of, k * 4 },
		{ &b->dloss, NULL, (size_t)b->n * 8 },
	};
	const struct bk_search how = { .least = 0.4, .steps = 20, .norm = b->g.bits == 3 ? 2.4 : 0 };
	double *rows = malloc((size_t)b->n * sizeof *rows), damp = 0;
	int error = 0, failed = 1;

	for (size_t i = 0; i < sizeof all / sizeof all[0] && !error; i++) {
		error = o->alloc(s->run, all[i].p, all[i].bytes);
		if (!error && all[i].from)
			error = o->put(s->run, *all[i].p, all[i].from, all[i].bytes);
	}
	for (int64_t i = 0; i < b->k; i++)
		damp += 0.01 * b->weight[i] / (double)b->k;
	const struct bk_mat w = f32(b->dw, b->n, b->k), h = f32(b->dh, b->k, b->k), hp = f32(b->dhp, b->k, b->k), r = f32(b->dr, b->k, b->k), wp = f32(b->dwp, b->n, b->k),
			    d = f32(b->dd, b->n, b->k), dp = f32(b->ddp, b->n, b->k), codes = i8(b->dcodes, b->n, b->k), cp = i8(b->dcp, b->n, b->k);
	int8_t *zeros = b->g.symmetric ? NULL : b->dzeros;

#define DO(call)                  \
	do {                      \
		if (!error)       \
			error = call; \
	} while (0)
	DO(ops->scale_search(s, b->dscales, zeros, &w, b->dweight, &b->g, &how));
	DO(ops->permute_sym(s, &r, &h, b->dorder, damp, 1));
	DO(ops->factor(s, &r, &failed));
	DO(o->get(s->run, b->scales, b->dscales, ns * 4));
	DO(o->get(s->run, b->zeros, b->dzeros, zeros ? ns : 0));
	DO(o->get(s->run, b->r, b->dr, kk * 4));
	DO(ops->permute_sym(s, &hp, &h, NULL, damp, 1));
	DO(ops->permute_cols(s, &wp, &w, b->dorder, 0));
	DO(ops->round(s, &cp, b->g.bits == 8 ? &wp : &dp, &wp, &r, b->dscales, zeros, b->dgroup, &b->g, NULL, NULL)); /* d may be w */
	if (b->g.bits == 8)
		DO(o->copy(s->run, b->ddp, b->dwp, nk * 4));
	DO(ops->permute_cols(s, &codes, &cp, b->dorder, 1));
	DO(ops->permute_cols(s, &d, &dp, b->dorder, 1));
	for (int stage = 0; stage < 3; stage++) {
		if (stage == 1)
			DO(ops->refit(s, b->dscales, &d, &codes, &w, &hp, zeros, &b->g));
		if (stage == 2)
			DO(ops->descend(s, &codes, &d, &hp, b->dscales, zeros, &b->g, 2));
		DO(ops->loss(s, b->dloss, &d, &hp));
		DO(o->get(s->run, rows, b->dloss, (size_t)b->n * 8));
		loss[stage] = 0;
		for (int64_t i = 0; i < b->n; i++)
			loss[stage] += rows[i];
	}
	DO(o->get(s->run, b->codes, b->dcodes, nk));
	DO(o->get(s->run, b->d, b->dd, nk * 4));
#undef DO
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		o->release(s->run, *all[i].p);
		*all[i].p = NULL;
	}
	free(rows);
	return error ? error : failed;
}

static int compare(struct bench *b, struct bench *ref, const struct bk_solve *cpu)
{
	double mine[3] = { 0 }, theirs[3] = { 0 };
	int error = walk(ref, cpu, bk_solve_cpu(), theirs);
	int64_t other = 0;

	if (error)
		return bad(b, "reference", error);
	error = walk(b, b->s, b->ops, mine);
	if (error)
		return bad(b, "run", error);
	for (int64_t i = 0; i < b->n * b->spr; i++)
		other += b->scales[i] != ref->scales[i] || (!b->g.symmetric && b->zeros[i] != ref->zeros[i]);
	if (other > b->n * b->spr / 50 + 1)
		return bad(b, "scale_search", 1);
	for (int64_t i = 0; i < b->k * b->k; i++)
		if (!(fabs((double)b->r[i] - ref->r[i]) <= 2e-3 * ref->r[i / b->k * (b->k + 1)] + 1e-6))
			return bad(b, "factor", 1);
	for (int i = 0; i < 3; i++)
		if (!(fabs(mine[i] - theirs[i]) <= 0.02 * theirs[i]))
			return bad(b, i == 0 ? "round" : i == 1 ? "refit" : "descend", 1);
	if (!(mine[1] <= mine[0] * 1.0001 && mine[2] <= mine[1] * 1.0001))
		return bad(b, "order of losses", 1);
	return 0;
}

/* ---- zeros ---- */

struct zeros { int8_t *mask; float *d; int8_t *codes; double loss; };

/* Prunes (or selects) and rounds with the mask on one table. */
static int run_zeros(struct bench *b, const struct bk_solve *s, const struct bk_solve_ops *ops, const struct bk_prune *how, int selects, struct zeros *out)
{
	const struct bk_run_ops *o = s->ops;
	const size_t nk = (size_t)(b->n * b->k), kk = (size_t)(b->k * b->k), ns = (size_t)(b->n * b->spr), k = (size_t)b->k;
	void *dw = NULL, *dh = NULL, *dr = NULL, *dd = NULL, *dmask = NULL, *dcodes = NULL, *dscales = NULL, *dweight = NULL, *dgroup = NULL, *dloss = NULL, *dtop = NULL;
	const struct { void **p; const void *from; size_t bytes; } all[] = {
		{ &dw, b->w, nk * 4 }, { &dh, b->h, kk * 4 }, { &dr, NULL, kk * 4 }, { &dd, NULL, nk * 4 }, { &dmask, NULL, nk }, { &dcodes, NULL, nk },
		{ &dscales, NULL, ns * 4 }, { &dweight, b->weight, k * 4 }, { &dgroup, b->group_of, k * 4 }, { &dloss, NULL, (size_t)b->n * 8 }, { &dtop, NULL, ns * 4 },
	};
	const struct bk_search search = { .least = 0.999, .steps = 1 };
	double *rows = calloc((size_t)b->n, sizeof *rows), damp = 0;
	int32_t *group = malloc(k * sizeof *group);
	int error = rows && group ? 0 : BK_RUN_NO_MEMORY, failed = 1;

	for (int64_t i = 0; i < b->k; i++)
		damp += 0.01 * b->weight[i] / (double)b->k;
	for (int64_t i = 0; i < b->k && group; i++)
		group[i] = (int32_t)(i / (b->k / b->spr));
	for (size_t i = 0; i < sizeof all / sizeof all[0] && !error; i++) {
		error = o->alloc(s->run, all[i].p, all[i].bytes);
		if (!error && all[i].from)
			error = o->put(s->run, *all[i].p, all[i].from, all[i].bytes);
	}
	const struct bk_mat w = f32(dw, b->n, b->k), h = f32(dh, b->k, b->k), r = f32(dr, b->k, b->k), d = f32(dd, b->n, b->k), mask = i8(dmask, b->n, b->k),
			    codes = i8(dcodes, b->n, b->k);
#define DO(call)                      \
	do {                          \
		if (!error)           \
			error = call; \
	} while (0)
	DO(o->put(s->run, dgroup, group, k * sizeof *group));
	DO(ops->permute_sym(s, &r, &h, NULL, damp, 1));
	DO(ops->factor(s, &r, &failed));
	if (selects)
		DO(ops->select(s, &mask, &w, dweight, how));
	else
		DO(ops->prune(s, &mask, &d, &w, &r, how));
	DO(o->get(s->run, out->mask, dmask, nk));
	DO(o->get(s->run, out->d, dd, selects ? 0 : nk * 4));
	DO(ops->scale_search(s, dscales, NULL, &w, dweight, &b->g, &search));
	DO(ops->round(s, &codes, &d, &w, &r, dscales, NULL, dgroup, &b->g, NULL, &mask));
	DO(o->get(s->run, out->codes, dcodes, nk));
	DO(ops->permute_sym(s, &h, &h, NULL, damp, 1));
	DO(ops->loss(s, dloss, &d, &h));
	DO(o->get(s->run, rows, dloss, (size_t)b->n * 8));
	DO(ops->absmax(s, dtop, &w, b->k / b->spr));
	DO(o->get(s->run, b->scales, dtop, ns * 4));
#undef DO
	for (int64_t i = 0; i < b->n && rows; i++)
		out->loss += rows[i];
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		o->release(s->run, *all[i].p);
	free(rows);
	free(group);
	return error ? error : failed;
}

/* Masks agree but for scores next to each other; what is masked is 0; the losses are as good. */
static int compare_zeros(struct bench *b, const struct bk_solve *cpu)
{
	static const struct bk_prune hows[] = { { 0.5, 0, 0 }, { 0, 2, 4 }, { 0.3, 0, 0 }, { 0, 4, 8 }, { 0, 0, 0 } };
	const size_t nk = (size_t)(b->n * b->k);
	struct zeros mine = { malloc(nk), calloc(nk, 4), malloc(nk), 0 }, theirs = { malloc(nk), calloc(nk, 4), malloc(nk), 0 };
	int failed = mine.mask && mine.d && mine.codes && theirs.mask && theirs.d && theirs.codes ? 0 : bk_check_fail(b->c, "out of memory");

	for (size_t i = 0; i < 2 * sizeof hows / sizeof hows[0] && !failed; i++) {
		const struct bk_prune *how = &hows[i / 2];
		int64_t differ = 0, wrong = 0;

		if (how->m && b->k % how->m)
			continue;
		mine.loss = theirs.loss = 0;
		int error = run_zeros(b, cpu, bk_solve_cpu(), how, i % 2, &theirs);

		if (!error)
			error = run_zeros(b, b->s, b->ops, how, i % 2, &mine);
		for (size_t k = 0; k < nk; k++) {
			differ += mine.mask[k] != theirs.mask[k];
			wrong += mine.mask[k] && (mine.codes[k] || (i % 2 == 0 && mine.d[k] != b->w[k]));
		}
		for (int64_t k = 0; k < b->n * b->spr; k++) {
			float top = 0;

			for (int64_t j = 0; j < b->k / b->spr; j++)
				top = fmaxf(top, fabsf(b->w[k * (b->k / b->spr) + j]));
			wrong += b->scales[k] != top;
		}
		if (error)
			failed = bad(b, i % 2 ? "select" : "prune", error);
		else if (wrong || (i % 2 ? differ : differ > (int64_t)nk / 50 + 2))
			failed = bad(b, i % 2 ? "select's mask" : "prune's mask", 1);
		else if (!(fabs(mine.loss - theirs.loss) <= 0.02 * theirs.loss))
			failed = bad(b, "round with a mask", 1);
	}
	free(mine.mask);
	free(mine.d);
	free(mine.codes);
	free(theirs.mask);
	free(theirs.d);
	free(theirs.codes);
	return failed;
}

/* ---- the small operations ---- */

/* y (R R^T) against w, relative to w; in double */
static double residual(const struct bench *b, const float *y)
{
	double off = 0, size = 0;

	for (int64_t n = 0; n < b->n; n++) {
		double v[400];

		for (int64_t j = 0; j < b->k; j++) { /* y R */
			v[j] = 0;
			for (int64_t i = 0; i <= j; i++)
				v[j] += (double)y[n * b->k + i] * b->r[i * b->k + j];
		}
		for (int64_t i = 0; i < b->k; i++) {
			double s = 0;

			for (int64_t j = i; j < b->k; j++)
				s += v[j] * b->r[i * b->k + j];
			off += (s - b->w[n * b->k + i]) * (s - b->w[n * b->k + i]);
			size += (double)b->w[n * b->k + i] * b->w[n * b->k + i];
		}
	}
	return size > 0 ? sqrt(off / size) : 0;
}

/* got: w over the root mean squares of d's rows */
static int wrong_rms(const struct bench *b, const float *got, const float *d)
{
	for (int64_t n = 0; n < b->n; n++) {
		double sum = 0;

		for (int64_t k = 0; k < b->k; k++)
			sum += (double)d[n * b->k + k] * d[n * b->k + k];
		sum = sum > 0 ? sqrt(sum / (double)b->k) : 1;
		for (int64_t k = 0; k < b->k; k++)
			if (!(fabs(got[n * b->k + k] * sum - b->w[n * b->k + k]) <= 1e-6 * fabs(b->w[n * b->k + k])))
				return 1;
	}
	return 0;
}

static int compare_small(struct bench *b, const float *y, const float *d, const float *diagonal, const uint64_t found[2], int64_t odd)
{
	const int64_t width = b->k / b->spr; /* with an odd place the groups are others than those of the codes, which is all the same here */

	for (int64_t i = 0; i < b->k; i++)
		if (diagonal[i] != b->h[i * b->k + i])
			return bad(b, "diagonal", 1);
	if (!(residual(b, y) < 2e-3))
		return bad(b, "solve_rows", 1);
	for (int64_t i = 0; i < b->n * b->k; i++) {
		const int64_t at = i / b->k * b->spr + (odd % 2 ? b->group_of[i % b->k] : i % b->k / width);
		const float v = bk_grid_value(b->codes[i], b->scales[at], b->g.symmetric ? 0 : (float)b->zeros[at], b->g.number);

		if (!(fabsf(b->w[i] - v - d[i]) <= 1e-6f))
			return bad(b, "diff", 1);
	}
	return found[0] != 2 || found[1] != 1 + (uint64_t)(b->n * b->k - odd) ? bad(b, "nonfinite", 1) : 0;
}

/* After walk: codes, scales, zeros and r are those of this table. */
static int small(struct bench *b)
{
	const struct bk_run_ops *o = b->s->ops;
	const int64_t nk = b->n * b->k, odd = bk_check_int(b->c, 0, nk - 2);
	float *y = malloc((size_t)nk * 4), *d = malloc((size_t)nk * 4), *w = malloc((size_t)nk * 4), *diagonal = malloc((size_t)b->k * 4);
	void *dy = NULL, *dd = NULL, *dw = NULL, *dr = NULL, *dh = NULL, *dcodes = NULL, *dscales = NULL, *dzeros = NULL, *dfound = NULL, *ddiag = NULL, *dgroup = NULL;
	const struct { void **p; const void *from; size_t bytes; } all[] = {
		{ &dy, b->w, (size_t)nk * 4 }, { &dd, NULL, (size_t)nk * 4 }, { &dw, b->w, (size_t)nk * 4 }, { &dr, b->r, (size_t)(b->k * b->k) * 4 },
		{ &dh, b->h, (size_t)(b->k * b->k) * 4 }, { &dcodes, b->codes, (size_t)nk }, { &dscales, b->scales, (size_t)(b->n * b->spr) * 4 },
		{ &dzeros, b->zeros, (size_t)(b->n * b->spr) }, { &dgroup, b->group_of, (size_t)b->k * 4 }, { &dfound, NULL, 16 }, { &ddiag, NULL, (size_t)b->k * 4 },
	};
	uint64_t found[2] = { 0 };
	int error = y && d && w && diagonal ? 0 : BK_RUN_NO_MEMORY;

	for (size_t i = 0; i < sizeof all / sizeof all[0] && !error; i++) {
		error = o->alloc(b->s->run, all[i].p, all[i].bytes);
		if (!error && all[i].from)
			error = o->put(b->s->run, *all[i].p, all[i].from, all[i].bytes);
	}
	const struct bk_mat my = f32(dy, b->n, b->k), md = f32(dd, b->n, b->k), mw = f32(dw, b->n, b->k), mr = f32(dr, b->k, b->k), mh = f32(dh, b->k, b->k),
			    mc = i8(dcodes, b->n, b->k);
#define DO(call)                      \
	do {                          \
		if (!error)           \
			error = call; \
	} while (0)
	DO(b->ops->diagonal(b->s, ddiag, &mh));
	DO(o->get(b->s->run, diagonal, ddiag, (size_t)b->k * 4));
	DO(b->ops->solve_rows(b->s, &my, &mr));
	DO(o->get(b->s->run, y, dy, (size_t)nk * 4));
	DO(b->ops->diff(b->s, &md, &mw, &mc, dscales, b->g.symmetric ? NULL : dzeros, odd % 2 ? dgroup : NULL, &b->g));
	DO(b->ops->add_scaled(b->s, &md, &mw, 0.5f));
	DO(b->ops->add_scaled(b->s, &md, &mw, -0.5f));
	DO(o->get(b->s->run, d, dd, (size_t)nk * 4));
	DO(b->ops->over_rms(b->s, &my, &mw, &md));
	DO(o->get(b->s->run, w, dy, (size_t)nk * 4));
	if (!error && wrong_rms(b, w, d))
		error = 1;
	memcpy(w, b->w, (size_t)nk * 4);
	w[odd] = INFINITY;
	w[nk - 1] = NAN;
	DO(o->put(b->s->run, dw, w, (size_t)nk * 4));
	DO(o->zero(b->s->run, dfound, 16));
	DO(b->ops->nonfinite(b->s, dfound, &mw));
	DO(o->get(b->s->run, found, dfound, 16));
	DO(o->get(b->s->run, w, dw, (size_t)nk * 4));
#undef DO
	int failed = error ? bad(b, "small", error) : compare_small(b, y, d, diagonal, found, odd);

	if (!failed && (w[odd] != 0 || w[nk - 1] != 0))
		failed = bad(b, "nonfinite", 1);
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		o->release(b->s->run, *all[i].p);
	free(y);
	free(d);
	free(w);
	free(diagonal);
	return failed;
}

/* ---- rounding with more flowing in ---- */

struct fed { float *g, *c, *s, *v, *first; int8_t *codes; }; /* host; c: what feed must be of, in R's order */

/* S Rᵀ and C agree above the diagonal, where a is 1/2, and below it there is nothing: row by row, from the right. */
static int wrong_feed(const struct bench *b, const struct fed *f)
{
	for (int64_t i = 0; i < b->k; i++) {
		double full[400], size = 0;

		for (int64_t j = b->k - 1; j >= 0; j--) { /* row i of C R⁻ᵀ, in double */
			double v = f->c[i * b->k + j];

			for (int64_t q = j + 1; q < b->k; q++)
				v -= full[q] * b->r[j * b->k + q];
			full[j] = v / b->r[j * b->k + j];
			size = fabs(full[j]) > size ? fabs(full[j]) : size;
		}
		for (int64_t j = 0; j < b->k; j++)
			if (!(fabs(f->s[i * b->k + j] - (j > i ? 0.5 * full[j] : 0)) <= 2e-3 * size + 1e-30))
				return 1;
	}
	return 0;
}

/* Every code is next to where the codes before it and the values rounded before it send its column, which is also what v says. */
static int wrong_round(const struct bench *b, const struct fed *f)
{
	const float lo = bk_grid_lo(&b->g), hi = bk_grid_hi(&b->g);

	for (int64_t n = 0; n < b->n; n++)
		for (int64_t k = 0; k < b->k; k++) {
			const int64_t at = n * b->spr + b->group_of[k];
			const float zero = b->g.symmetric ? 0 : (float)b->zeros[at], scale = b->scales[at];
			double x = 0, size = 0;

			for (int64_t j = 0; j < k; j++) {
				const float w = b->w[n * b->k + b->order[j]], q = bk_grid_value(f->codes[n * b->k + j], b->scales[n * b->spr + b->group_of[j]],
											       b->g.symmetric ? 0 : (float)b->zeros[n * b->spr + b->group_of[j]], b->g.number);
				const double a = ((double)w - q) * b->r[j * b->k + k], v = (double)f->v[n * b->k + j] * f->s[j * b->k + k];

				x += a + v;
				size += fabs(a) + fabs(v);
			}
			x = b->w[n * b->k + b->order[k]] + x / b->r[k * b->k + k];
			size = fabs(x) + size / b->r[k * b->k + k];
			if (k == 0)
				x = f->first[n];
			const struct bk_code q = bk_grid_round((float)x, scale, zero, b->g.number, lo, hi);
			const double got = bk_grid_value(f->codes[n * b->k + k], scale, zero, b->g.number);

			if (!(fabs(f->v[n * b->k + k] - x) <= 1e-4 * size + 1e-7) || !(fabs(x - got) <= fabs(x - q.value) + 2e-4 * size + 1e-3 * fabsf(scale)))
				return 1;
		}
	return 0;
}

static int run_fed(struct bench *b, struct fed *f)
{
	const struct bk_run_ops *o = b->s->ops;
	const size_t nk = (size_t)(b->n * b->k), kk = (size_t)(b->k * b->k);
	void *dh = NULL, *dg = NULL, *ds = NULL, *dr = NULL, *dw = NULL, *dwp = NULL, *dv = NULL, *dc = NULL, *dscales = NULL, *dzeros = NULL, *dorder = NULL, *dgroup = NULL, *dfirst = NULL;
	const struct { void **p; const void *from; size_t bytes; } all[] = {
		{ &dh, b->h, kk * 4 }, { &dg, f->g, kk * 4 }, { &ds, NULL, kk * 4 }, { &dr, b->r, kk * 4 }, { &dw, b->w, nk * 4 }, { &dwp, NULL, nk * 4 }, { &dv, NULL, nk * 4 },
		{ &dc, NULL, nk }, { &dscales, b->scales, (size_t)(b->n * b->spr) * 4 }, { &dzeros, b->zeros, (size_t)(b->n * b->spr) }, { &dorder, b->order, (size_t)b->k * 4 },
		{ &dgroup, b->group_of, (size_t)b->k * 4 }, { &dfirst, f->first, (size_t)b->n * 4 },
	};
	int error = 0;

	for (size_t i = 0; i < sizeof all / sizeof all[0] && !error; i++) {
		error = o->alloc(b->s->run, all[i].p, all[i].bytes);
		if (!error && all[i].from)
			error = o->put(b->s->run, *all[i].p, all[i].from, all[i].bytes);
	}
	const struct bk_mat h = f32(dh, b->k, b->k), g = f32(dg, b->k, b->k), s = f32(ds, b->k, b->k), r = f32(dr, b->k, b->k), w = f32(dw, b->n, b->k), wp = f32(dwp, b->n, b->k),
			    v = f32(dv, b->n, b->k), codes = i8(dc, b->n, b->k);
	const struct bk_feed feed = { &s, &v, dfirst };
#define DO(call)                      \
	do {                          \
		if (!error)           \
			error = call; \
	} while (0)
	DO(b->ops->permute_sym(b->s, &h, &h, NULL, 0, 0));
	DO(b->ops->difference(b->s, &s, &g, &h, dorder));
	DO(o->get(b->s->run, f->c, ds, kk * 4));
	DO(b->ops->feed(b->s, &s, &r, 0.5f));
	DO(o->get(b->s->run, f->s, ds, kk * 4));
	DO(b->ops->permute_cols(b->s, &wp, &w, dorder, 0));
	DO(b->ops->round(b->s, &codes, &wp, &wp, &r, dscales, b->g.symmetric ? NULL : dzeros, dgroup, &b->g, &feed, NULL));
	DO(o->get(b->s->run, f->codes, dc, nk));
	DO(o->get(b->s->run, f->v, dv, nk * 4));
#undef DO
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		o->release(b->s->run, *all[i].p);
	return error;
}

/* After walk. */
static int fed(struct bench *b)
{
	const size_t nk = (size_t)(b->n * b->k), kk = (size_t)(b->k * b->k);
	struct fed f = { malloc(kk * 4), malloc(kk * 4), malloc(kk * 4), malloc(nk * 4), malloc((size_t)b->n * 4), malloc(nk) };
	int error = f.g && f.c && f.s && f.v && f.first && f.codes ? 0 : BK_RUN_NO_MEMORY;

	for (int64_t i = 0; i < b->k && !error; i++)
		for (int64_t j = 0; j < b->k; j++) {
			const float h = b->h[(i >= j ? i * b->k + j : j * b->k + i)], size = sqrtf(b->h[i * b->k + i] * b->h[j * b->k + j]);

			f.g[i * b->k + j] = h * 1.02f + (float)(0.01 * bk_check_gauss(b->c)) * size;
		}
	for (int64_t n = 0; n < b->n && !error; n++)
		f.first[n] = 1.5f * b->w[n * b->k + b->order[0]];
	if (!error)
		error = run_fed(b, &f);
	for (int64_t i = 0; i < b->k && !error; i++)
		for (int64_t j = 0; j < b->k; j++) {
			const int64_t p = b->order[i], q = b->order[j];

			error |= f.c[i * b->k + j] != f.g[p * b->k + q] - (p >= q ? b->h[p * b->k + q] : b->h[q * b->k + p]);
		}
	int failed = error ? bad(b, "difference", error) : wrong_feed(b, &f) ? bad(b, "feed", 1) : wrong_round(b, &f) ? bad(b, "round with a feed", 1) : 0;
	void *const all[] = { f.g, f.c, f.s, f.v, f.first, f.codes };

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		free(all[i]);
	return failed;
}

static void bench_free(struct bench *b)
{
	void *const all[] = { b->w, b->h, b->weight, b->scales, b->d, b->r, b->codes, b->zeros, b->order, b->group_of };

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		free(all[i]);
}

static int bench_new(struct bench *b)
{
	const size_t nk = (size_t)(b->n * b->k), kk = (size_t)(b->k * b->k), ns = (size_t)(b->n * b->spr), k = (size_t)b->k;

	b->w = malloc(nk * 4);
	b->d = malloc(nk * 4);
	b->codes = malloc(nk);
	b->h = malloc(kk * 4);
	b->r = malloc(kk * 4);
	b->scales = malloc(ns * 4);
	b->zeros = calloc(ns, 1);
	b->weight = malloc(k * 4);
	b->order = malloc(k * 4);
	b->group_of = malloc(k * 4);
	return b->w && b->d && b->codes && b->h && b->r && b->scales && b->zeros && b->weight && b->order && b->group_of ? 0 : 1;
}

int bk_solve_check(const struct bk_solve *s, const struct bk_solve_ops *ops, struct bk_check *c)
{
	static const struct bk_grid grids[] = { { BK_INT, 4, 1, 32, BK_SCALE_BF16, 0 }, { BK_INT, 3, 1, 0, BK_SCALE_BF16, 0 }, { BK_INT, 4, 0, 64, BK_SCALE_BF16, 0 },
						{ BK_INT, 8, 1, 0, BK_SCALE_BF16, 0 }, { BK_E4M3, 8, 1, 0, BK_SCALE_BF16, 0 }, { BK_E2M1, 4, 1, 32, BK_SCALE_POW2, 0 },
						{ BK_E4M3, 8, 1, 32, BK_SCALE_POW2, 0 },
						{ BK_E2M1, 4, 1, 16, BK_SCALE_E4M3, 13440 } };
	const struct bk_run_options o = { .threads = 1 };
	struct bk_solve cpu = { .ops = bk_run_cpu() };
	int failed = cpu.ops->open(&cpu.run, &o) ? bk_check_fail(c, "the CPU's run does not open") : 0;

	for (size_t i = 0; i < sizeof grids / sizeof grids[0] && !failed; i++) {
		struct bench b = { .s = s, .ops = ops, .c = c, .n = bk_check_int(c, 1, 150), .g = grids[i] }, ref;

		b.k = grids[i].group ? grids[i].group * bk_check_int(c, 1, 6) : bk_check_int(c, 1, 300);
		b.spr = grids[i].group ? b.k / grids[i].group : 1;
		ref = b;
		failed = bench_new(&b) | bench_new(&ref) ? bk_check_fail(c, "out of memory") : 0;
		if (!failed && fresh(&b))
			failed = bk_check_fail(c, "out of memory");
		if (!failed) {
			memcpy(ref.w, b.w, (size_t)(b.n * b.k) * 4);
			memcpy(ref.h, b.h, (size_t)(b.k * b.k) * 4);
			memcpy(ref.weight, b.weight, (size_t)b.k * 4);
			memcpy(ref.order, b.order, (size_t)b.k * 4);
			memcpy(ref.group_of, b.group_of, (size_t)b.k * 4);
			failed = compare(&b, &ref, &cpu) || (b.n * b.k > 1 && small(&b)) || fed(&b) || (b.g.symmetric && compare_zeros(&b, &cpu));
		}
		bench_free(&b);
		bench_free(&ref);
	}
	if (cpu.run)
		cpu.ops->close(cpu.run);
	return failed;
}
