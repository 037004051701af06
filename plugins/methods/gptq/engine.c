/* SPDX-License-Identifier: Apache-2.0
 * One unit: order, scales, factor, rounding, refits with descent. With H = sum y y^T of the inputs y that the quantized model has, G = sum x y^T, x those of the
 * base model, and C = G - H, |Q y - W x|^2 is tr((Q - W*) H (Q - W*)^T) and a constant, W* = W + W C H^-1: what makes up for the inputs is a step towards W*.
 *
 * Damping: when the factor fails it is doubled, up to 1 of its unit; when that fails too, the unit is rounded plainly. Both are reported. A channel that never
 * fired keeps its weights, rounded like the others. */
#include "plugins/methods/gptq/engine.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/methods/hessian.h"

#define LOOKS 64  /* rows that tell how far a target is */
#define FAR 0.75 /* of the square of the size of the weights: what 3 bits need on many data stays below */

const char *gptq_refuses(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	return hessian_refuses(g, rows, cols, 0);
}

struct work {
	const struct bl_method_unit *c;
	const struct bl_device *d;
	const struct gptq_settings *s;
	int64_t width;
	double mean;                 /* of H's diagonal */
	double part;                 /* of its unit that is added to it */
	double damp;                 /* what that was */
	int32_t *order;              /* host */
	void *d_order, *d_group, *d_weight;
	struct bl_dm r, e, wp, cp;   /* wp: the weights, then what is left of them */
	struct bl_dm aim;            /* what the codes are to come near to: c->w, or t */
	struct bl_dm t, y, v, feed;  /* y: what W* has beside W, in R's order; feed, v: of the rounding */
	struct bl_dm first;          /* [rows, 1] */
	int failed;                  /* no factor: plain rounding */
};

/* energy descending, then index: the order does not depend on how the sort works */
struct rank { float group, energy; int32_t column; };

static int by_energy(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;

	if (x->group != y->group)
		return x->group > y->group ? -1 : 1;
	return x->energy > y->energy ? -1 : x->energy < y->energy ? 1 : x->column - y->column;
}

static const char *put_order(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const size_t n = (size_t)c->cols;
	struct rank *rank = malloc(n * sizeof *rank);
	int32_t *group = malloc(n * sizeof *group);
	float *weight = malloc(n * sizeof *weight);
	const char *why = !rank || !group || !weight ? "out of memory" : NULL;

	w->order = malloc(n * sizeof *w->order);
	if (!w->order)
		why = "out of memory";
	for (size_t k = 0; k < n && !why; k++) {
		rank[k] = (struct rank){ 0, c->h_diagonal[k], (int32_t)k };
		w->mean += c->h_diagonal[k] / (double)n;
		weight[k] = 1;
	}
	for (int64_t g = 0; !why && w->s->order == ORDER_GROUPS && g < c->cols / w->width; g++) {
		float most = 0;

		for (int64_t k = g * w->width; k < (g + 1) * w->width; k++)
			most = c->h_diagonal[k] > most ? c->h_diagonal[k] : most;
		for (int64_t k = g * w->width; k < (g + 1) * w->width; k++)
			rank[k].group = most;
	}
	if (!why && w->s->order != ORDER_NONE)
		qsort(rank, n, sizeof *rank, by_energy);
	for (size_t k = 0; k < n && !why; k++) {
		const size_t column = c->group_of ? (size_t)rank[k].column : k; /* of weight k: with groups by an index scales are sought in the new order */

		w->order[k] = rank[k].column;
		group[k] = (int32_t)((c->group_of ? (int64_t)k : rank[k].column) / w->width);
		if (c->group_of)
			c->group_of[rank[k].column] = group[k];
		/* a channel that never fired still has a say: its weights are used at inference */
		if (w->s->observer == OBSERVER_HESSIAN && w->mean > 0)
			weight[k] = (float)(c->h_diagonal[column] / w->mean + 1e-6);
	}
	if (!why)
		why = w->d->alloc(w->d, &w->d_order, n * sizeof *w->order);
	if (!why)
		why = w->d->alloc(w->d, &w->d_group, n * sizeof *group);
	if (!why)
		why = w->d->alloc(w->d, &w->d_weight, n * sizeof *weight);
	if (!why)
		why = w->d->put(w->d, w->d_order, w->order, n * sizeof *w->order);
	if (!why)
		why = w->d->put(w->d, w->d_group, group, n * sizeof *group);
	if (!why)
		why = w->d->put(w->d, w->d_weight, weight, n * sizeof *weight);
	free(rank);
	free(group);
	free(weight);
	return why;
}

static const char *new_matrix(struct work *w, struct bl_dm *m, int64_t rows, int64_t cols, int type)
{
	*m = (struct bl_dm){ NULL, rows, cols, cols, type };
	return w->d->alloc(w->d, &m->p, (size_t)(rows * cols) * (type == BL_DM_F32 ? 4 : 1));
}

static void drop(struct work *w, struct bl_dm *m)
{
	if (m->p)
		w->d->release(w->d, m->p);
	m->p = NULL;
}

/* The largest eigenvalue of H by thirty multiplications, as Qronos' authors do it. */
static const char *largest(struct work *w, double *value)
{
	const size_t n = (size_t)w->c->cols;
	float *x = malloc(n * sizeof *x);
	struct bl_dm from = { 0 }, to = { 0 };
	const char *why = x ? new_matrix(w, &from, 1, w->c->cols, BL_DM_F32) : "out of memory";
	double size = 0;

	if (!why)
		why = new_matrix(w, &to, 1, w->c->cols, BL_DM_F32);
	for (size_t k = 0; k < n && !why; k++)
		x[k] = (float)sqrt(1 / (double)n);
	for (int i = 0; i < 30 && !why; i++) {
		why = w->d->put(w->d, from.p, x, n * sizeof *x);
		if (!why)
			why = w->d->gemm(w->d, &to, &from, 0, &w->c->h, 0, 1, 0);
		if (!why)
			why = w->d->get(w->d, x, to.p, n * sizeof *x);
		size = 0;
		for (size_t k = 0; k < n; k++)
			size += (double)x[k] * x[k];
		size = sqrt(size);
		for (size_t k = 0; k < n && size > 0; k++)
			x[k] = (float)(x[k] / size);
		if (!(size > 0))
			break;
	}
	*value = size;
	drop(w, &from);
	drop(w, &to);
	free(x);
	return why;
}

static const char *factor(struct work *w)
{
	double unit = w->mean;
	const char *why = w->s->aim == AIM_TARGET ? largest(w, &unit) : NULL;

	if (!why)
		why = hessian_factor(w->d, w->c, &w->r, w->d_order, &w->part, unit, w->mean > 0 ? w->mean : 1, &w->failed);
	w->damp = w->part * unit;
	if (!why && w->failed)
		hessian_say(w->c, "rounded plainly: the Hessian has no factor even with damping", w->part, "");
	return why;
}

/* ---- what inputs have lost ---- */

/* Of Qronos: where the first column does best while all others stay as they are, w + (W C) / H there. */
static const char *first_column(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const float seen = c->h_diagonal[w->order[0]];
	const double h = (seen > 0 ? seen : w->mean > 0 ? w->mean : 1) + w->damp;
	const struct bl_dm y = { w->y.p, c->rows, 1, w->y.ld, BL_DM_F32 }, x = { w->wp.p, c->rows, 1, w->wp.ld, BL_DM_F32 };
	float *zero = calloc((size_t)c->rows, sizeof *zero);
	const char *why = zero ? new_matrix(w, &w->first, c->rows, 1, BL_DM_F32) : "out of memory";

	if (!why)
		why = w->d->put(w->d, w->first.p, zero, (size_t)c->rows * sizeof *zero);
	if (!why)
		why = w->d->add_scaled(w->d, &w->first, &x, 1);
	if (!why)
		why = w->d->add_scaled(w->d, &w->first, &y, (float)(1 / h));
	free(zero);
	return why;
}

/* t = W + alpha W C (H + damp)^-1 becomes what the codes are to come near to; y is its second term, in R's order. */
static const char *make_target(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const char *why = new_matrix(w, &w->t, c->rows, c->cols, BL_DM_F32);

	if (!why)
		why = new_matrix(w, &w->y, c->rows, c->cols, BL_DM_F32);
	if (!why)
		why = w->d->gemm(w->d, &w->t, &c->w, 0, &c->cross, 0, (float)w->s->alpha, 0);
	if (!why)
		why = w->d->gemm(w->d, &w->t, &c->w, 0, &c->h, 0, (float)-w->s->alpha, 1);
	if (!why)
		why = w->d->permute_cols(w->d, &w->y, &w->t, w->d_order, 0);
	if (!why && w->s->aim == AIM_TARGET)
		why = first_column(w);
	if (!why)
		why = w->d->solve_rows(w->d, &w->y, &w->r);
	if (!why)
		why = w->d->permute_cols(w->d, &w->t, &w->y, w->d_order, 1);
	if (!why)
		why = w->d->add_scaled(w->d, &w->t, &c->w, 1);
	w->aim = w->t;
	return why;
}

/* |y|^2 / |W|^2 of some rows, evenly spread: how far the target is from the weights. */
static const char *distance(struct work *w, double *out)
{
	const int64_t rows = w->y.rows, looks = rows < LOOKS ? rows : LOOKS;
	const size_t n = (size_t)w->y.cols;
	float *row = malloc(2 * n * sizeof *row);
	double y2 = 0, w2 = 0;
	const char *why = row ? NULL : "out of memory";

	for (int64_t i = 0; i < looks && !why; i++) {
		const int64_t r = i * rows / looks;

		why = w->d->get(w->d, row, (const float *)w->y.p + r * w->y.ld, n * sizeof *row);
		if (!why)
			why = w->d->get(w->d, row + n, (const float *)w->wp.p + r * w->wp.ld, n * sizeof *row);
		for (size_t k = 0; k < n && !why; k++) {
			y2 += (double)row[k] * row[k];
			w2 += (double)row[n + k] * row[n + k];
		}
	}
	free(row);
	*out = w2 > 0 ? y2 / w2 : 0;
	return why;
}

/* Where data are few H is near to singular, and weights that do best on them are far from those of the model and do worst on all others: then more damping. */
static const char *make_near_target(struct work *w)
{
	for (;;) {
		const char *why = make_target(w);
		double far = 0;

		if (!why)
			why = distance(w, &far);
		if (why)
			return why;
		if (!(far > FAR) || w->part >= 1) {
			if (w->part > w->s->damping && !(far > FAR))
				hessian_say(w->c, "damping raised to", w->part, ": with less the weights that do best on these data are far from the model's (more data help)");
			return NULL;
		}
		drop(w, &w->t);
		drop(w, &w->y);
		drop(w, &w->first);
		w->part = w->part > 0 ? 10 * w->part : 1e-6;
		w->part = w->part > 1 ? 1 : w->part;
		why = factor(w);
		if (why || w->failed)
			return why;
	}
}

static const char *make_feed(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const char *why = new_matrix(w, &w->feed, c->cols, c->cols, BL_DM_F32);

	if (!why)
		why = new_matrix(w, &w->v, c->rows, c->cols, BL_DM_F32);
	if (!why)
		why = w->d->difference(w->d, &w->feed, &c->cross, &c->h, w->d_order);
	if (!why)
		why = w->d->feed(w->d, &w->feed, &w->r, (float)w->s->alpha);
	return why;
}

/* ---- the unit ---- */

static const char *round_all(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const char *why = NULL;

	if (w->failed)
		why = hessian_identity(w->d, &w->r);
	else if (w->s->aim == AIM_FED)
		why = make_feed(w);
	if (why)
		return why;
	if (w->failed || w->s->aim == AIM_WEIGHTS)
		return w->d->round(w->d, &w->cp, &w->wp, &w->wp, &w->r, c->scales, c->zeros, w->d_group, &c->grid);
	return w->d->round_fed(w->d, &w->cp, &w->wp, &w->wp, &w->r, c->scales, c->zeros, w->d_group, &c->grid, w->feed.p ? &w->feed : NULL,
			       w->v.p ? &w->v : NULL, w->first.p);
}

/* Where groups are formed in the order of the rounding everything stays in it, else everything goes back first. */
static const char *improve(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const struct bl_dm *codes = c->group_of ? &w->cp : &c->codes, *aim = c->group_of ? &w->e : &w->aim, *rest = c->group_of ? &w->wp : &w->e;
	const char *why = NULL;

	drop(w, &w->feed);
	drop(w, &w->v);
	if (w->s->aim == AIM_FED)
		why = make_target(w);
	drop(w, &w->y);
	if (!why)
		why = new_matrix(w, &w->e, c->rows, c->cols, BL_DM_F32);
	if (!why)
		why = c->group_of ? w->d->permute_cols(w->d, &w->e, &w->aim, w->d_order, 0) : w->d->permute_cols(w->d, &w->e, &w->wp, w->d_order, 1);
	if (!why && w->s->aim == AIM_FED)
		why = w->d->remainder(w->d, rest, aim, codes, c->scales, c->zeros, &c->grid);
	if (!why)
		why = w->d->permute_sym(w->d, &w->r, &c->h, c->group_of ? w->d_order : NULL, w->damp, w->mean > 0 ? w->mean : 1); /* R has done its work */
	for (int i = 0; i < w->s->rounds && !why; i++) {
		if (w->d->cancelled(w->d))
			return "cancelled";
		why = w->d->refit(w->d, c->scales, rest, codes, aim, &w->r, c->zeros, &c->grid);
		if (!why && w->s->sweeps)
			why = w->d->descend(w->d, codes, rest, &w->r, c->scales, c->zeros, &c->grid, w->s->sweeps);
	}
	return why;
}

static const char *solve(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const bool better = w->s->rounds > 0;
	struct bl_scale_search how = { .least = w->s->least, .steps = w->s->grid, .full_range = w->s->full_range };
	const char *why = put_order(w);

	w->aim = c->w;
	w->part = w->s->damping;
	if (c->grid.number == BL_GRID_E2M1) /* a largest weight at 4 has nearer neighbours than one at 6 */
		how.full_range = 1;
	if (w->s->observer == OBSERVER_MINMAX)
		how = (struct bl_scale_search){ .least = 1, .steps = 1 };
	if (!why)
		why = new_matrix(w, &w->wp, c->rows, c->cols, BL_DM_F32);
	if (!why)
		why = w->d->permute_cols(w->d, &w->wp, &c->w, w->d_order, 0);
	if (!why)
		why = new_matrix(w, &w->r, c->cols, c->cols, BL_DM_F32);
	if (!why)
		why = factor(w);
	if (!why && w->s->aim == AIM_TARGET && !w->failed) {
		why = make_near_target(w);
		if (!why && !w->failed)
			why = w->d->add_scaled(w->d, &w->wp, &w->y, 1);
		drop(w, &w->y);
	}
	if (!why)
		why = w->d->scale_search_norm(w->d, c->scales, c->zeros, c->group_of ? &w->wp : &w->aim, w->d_weight, &c->grid, &how, w->s->norm);
	if (!why)
		why = new_matrix(w, &w->cp, c->rows, c->cols, BL_DM_CODES);
	if (!why)
		why = round_all(w);
	if (!why && c->group_of && better && !w->failed)
		why = improve(w);
	if (!why)
		why = w->d->permute_cols(w->d, &c->codes, &w->cp, w->d_order, 1);
	if (!why && !c->group_of && better && !w->failed)
		why = improve(w);
	return why;
}

const char *gptq_solve(const struct bl_method_unit *c, const struct gptq_settings *s)
{
	struct work w = { .c = c, .d = c->device, .s = s, .width = c->grid.group ? c->grid.group : c->cols };
	const char *why = solve(&w);
	void *const all[] = { w.d_order, w.d_group, w.d_weight, w.r.p, w.e.p, w.wp.p, w.cp.p, w.t.p, w.y.p, w.v.p, w.feed.p, w.first.p };

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (all[i])
			w.d->release(w.d, all[i]);
	free(w.order);
	return why;
}
