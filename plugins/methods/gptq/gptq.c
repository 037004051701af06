/* SPDX-License-Identifier: Apache-2.0
 * GPTQ (arXiv 2210.17323) and what improves on it without changing the file format: scales chosen by the loss that counts, coordinate descent after the
 * rounding, and scales refitted to the codes. All of them lower tr(D H D^T), the error of the unit's output over the calibration set.
 *
 * Damping: mean(diag H) * damping is added to the diagonal. When the factor fails it is doubled, up to 1; when that fails too, the unit is rounded plainly. Both
 * are reported. A channel that never fired keeps its weights, rounded like the others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plugin/plugin_api.h"

enum { P_DAMPING, P_ORDER, P_OBSERVER, P_LEAST, P_GRID, P_NORM, P_ROUNDS, P_SWEEPS, P_FULL, P_INPUTS, P_QEP, P_TOKEN, P_BLOCK, P_COUNT };
enum { ORDER_STATIC, ORDER_NONE, ORDER_GROUPS };
enum { OBSERVER_HESSIAN, OBSERVER_MSE, OBSERVER_MINMAX };

static const struct bl_param params[P_COUNT] = {
	[P_DAMPING] = { .name = "dampening_frac", .type = BL_PARAM_REAL, .fallback = "0.01", .min = 0, .max = 1,
			.sentence = "Part of the mean of the Hessian's diagonal that is added to it." },
	[P_ORDER] = { .name = "actorder", .type = BL_PARAM_CHOICE, .fallback = "static", .choices = "static|none|groups",
		      .sentence = "static: columns that see the most input are rounded first; groups: the same within groups, which come by their strongest; groups stay as they are." },
	[P_OBSERVER] = { .name = "observer", .type = BL_PARAM_CHOICE, .fallback = "hessian", .choices = "hessian|mse|minmax",
			 .sentence = "How scales are found: least error weighted by the input's energy, least error, or the whole range (always, where rows share a scale)." },
	[P_LEAST] = { .name = "least", .type = BL_PARAM_REAL, .fallback = "0.3", .min = 0.05, .max = 0.99,
		      .sentence = "hessian, mse: the smallest part of the range that is tried." },
	[P_GRID] = { .name = "grid", .type = BL_PARAM_INT, .fallback = "70", .min = 2, .max = 1000,
		     .sentence = "hessian, mse: into how many steps the ranges are divided." },
	[P_NORM] = { .name = "norm", .type = BL_PARAM_REAL, .fallback = "2", .min = 1, .max = 8,
		     .sentence = "hessian, mse: errors count with this power." },
	[P_ROUNDS] = { .name = "rounds", .type = BL_PARAM_INT, .fallback = "0", .min = 0, .max = 20,
		       .sentence = "How often scales are refitted to the codes (not where rows share them), each time followed by descent." },
	[P_SWEEPS] = { .name = "sweeps", .type = BL_PARAM_INT, .fallback = "2", .min = 0, .max = 20,
		       .sentence = "Sweeps of coordinate descent in each round." },
	[P_FULL] = { .name = "full_range", .type = BL_PARAM_BOOL, .fallback = "false",
		     .sentence = "Also try scales whose grid ends at the largest weight on either side (they may be negative); 4-bit floats always try the largest at 4." },
	[P_INPUTS] = { .name = "inputs", .type = BL_PARAM_CHOICE, .fallback = "base", .choices = "base|quantized",
		       .sentence = "Whose inputs count: the base model's, or those of the model as quantized up to the block." },
	[P_QEP] = { .name = "qep_alpha", .type = BL_PARAM_REAL, .fallback = "0", .min = 0, .max = 1,
		    .sentence = "inputs=quantized: how much of what the inputs have lost the weights make up for before they are rounded." },
	[P_TOKEN] = { .name = "token_weight", .type = BL_PARAM_CHOICE, .fallback = "same", .choices = "same|rms",
		      .sentence = "rms: where a norm follows the linear, tokens count by one over the mean square of its output." },
	[P_BLOCK] = { .name = "block_size", .type = BL_PARAM_INT, .fallback = "128", .min = 1, .max = 65536,
		      .sentence = "Known from recipes: columns between two matrix products; it changes no result and is not used." },
};

static const char *refuses(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	if (rows < 1 || cols < 1 || cols > INT32_MAX / 2)
		return "the matrix is empty or too wide";
	if (g->number == BL_GRID_INT ? g->bits < 2 || g->bits > 8 : g->number != BL_GRID_E4M3 && g->number != BL_GRID_E2M1)
		return "only integers of 2 to 8 bits, E4M3 and E2M1 floats are known";
	if (g->group < 0 || (g->group && cols % g->group))
		return "the number of columns is not a multiple of the group size";
	return NULL;
}

struct work {
	const struct bl_method_unit *c;
	const struct bl_device *d;
	int64_t width;
	double mean;                 /* of H's diagonal */
	int32_t *order;              /* host */
	void *d_order, *d_group, *d_weight;
	struct bl_dm r, e, wp, cp; /* wp: the weights, then what is left of them */
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
	for (int64_t g = 0; !why && c->params[P_ORDER] == ORDER_GROUPS && g < c->cols / w->width; g++) {
		float most = 0;

		for (int64_t k = g * w->width; k < (g + 1) * w->width; k++)
			most = c->h_diagonal[k] > most ? c->h_diagonal[k] : most;
		for (int64_t k = g * w->width; k < (g + 1) * w->width; k++)
			rank[k].group = most;
	}
	if (!why && c->params[P_ORDER] != ORDER_NONE)
		qsort(rank, n, sizeof *rank, by_energy);
	for (size_t k = 0; k < n && !why; k++) {
		const size_t column = c->group_of ? (size_t)rank[k].column : k; /* of weight k: with groups by an index scales are sought in the new order */

		w->order[k] = rank[k].column;
		group[k] = (int32_t)((c->group_of ? (int64_t)k : rank[k].column) / w->width);
		if (c->group_of)
			c->group_of[rank[k].column] = group[k];
		/* a channel that never fired still has a say: its weights are used at inference */
		if (c->params[P_OBSERVER] == OBSERVER_HESSIAN && w->mean > 0)
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

static void say(const struct work *w, const char *before, double part, const char *after)
{
	char text[200];

	snprintf(text, sizeof text, "%s: %s %.3g%s", w->c->module, before, part, after);
	w->c->report(w->c->ctx, text);
}

/* R of the permuted, damped Hessian. The ladder: damping doubles until the factor exists. */
static const char *factor(struct work *w, double *damp)
{
	const double asked = w->c->params[P_DAMPING];
	double part = asked;

	for (;;) {
		const char *why;

		*damp = part * w->mean;
		why = w->d->permute_sym(w->d, &w->r, &w->c->h, w->d_order, *damp, w->mean > 0 ? w->mean : 1);
		if (!why)
			why = w->d->factor(w->d, &w->r, &w->failed);
		if (why)
			return why;
		if (!w->failed) {
			if (part != asked)
				say(w, "damping raised to", part, ": the Hessian was not positive definite with less");
			return NULL;
		}
		if (part >= 1)
			break;
		part = part > 0 ? 2 * part : 0.001;
		part = part > 1 ? 1 : part;
	}
	say(w, "rounded plainly: the Hessian has no factor even with damping", part, "");
	return NULL;
}

static const char *plain(struct work *w)
{
	/* R = I: no feedback */
	const int64_t n = w->c->cols;
	float *one = calloc((size_t)(n * n), sizeof *one);
	const char *why;

	if (!one)
		return "out of memory";
	for (int64_t k = 0; k < n; k++)
		one[k * n + k] = 1;
	why = w->d->put(w->d, w->r.p, one, (size_t)(n * n) * sizeof *one);
	free(one);
	return why;
}

static const char *improve(struct work *w, double damp)
{
	const struct bl_method_unit *c = w->c;
	const int rounds = (int)c->params[P_ROUNDS], sweeps = (int)c->params[P_SWEEPS];
	const char *why = new_matrix(w, &w->e, c->rows, c->cols, BL_DM_F32);

	if (!why)
		why = w->d->permute_cols(w->d, &w->e, &w->wp, w->d_order, 1);
	if (!why)
		why = w->d->permute_sym(w->d, &w->r, &c->h, NULL, damp, w->mean > 0 ? w->mean : 1); /* R has done its work */
	for (int i = 0; i < rounds && !why; i++) {
		if (w->d->cancelled(w->d))
			return "cancelled";
		why = w->d->refit(w->d, c->scales, &w->e, &c->codes, &c->w, &w->r, c->zeros, &c->grid);
		if (!why && sweeps)
			why = w->d->descend(w->d, &c->codes, &w->e, &w->r, c->scales, c->zeros, &c->grid, sweeps);
	}
	return why;
}

/* The same where groups are formed in the new order: everything stays in it. */
static const char *improve_ordered(struct work *w, double damp)
{
	const struct bl_method_unit *c = w->c;
	const int rounds = (int)c->params[P_ROUNDS], sweeps = (int)c->params[P_SWEEPS];
	const char *why = new_matrix(w, &w->e, c->rows, c->cols, BL_DM_F32); /* the weights again */

	if (!why)
		why = w->d->permute_cols(w->d, &w->e, &c->w, w->d_order, 0);
	if (!why)
		why = w->d->permute_sym(w->d, &w->r, &c->h, w->d_order, damp, w->mean > 0 ? w->mean : 1);
	for (int i = 0; i < rounds && !why; i++) {
		if (w->d->cancelled(w->d))
			return "cancelled";
		why = w->d->refit(w->d, c->scales, &w->wp, &w->cp, &w->e, &w->r, c->zeros, &c->grid);
		if (!why && sweeps)
			why = w->d->descend(w->d, &w->cp, &w->wp, &w->r, c->scales, c->zeros, &c->grid, sweeps);
	}
	return why;
}

static const char *solve(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	struct bl_scale_search how = { .least = c->params[P_LEAST], .steps = (int)c->params[P_GRID], .full_range = c->params[P_FULL] != 0 };
	const char *why = put_order(w);
	double damp = 0;

	if (c->grid.number == BL_GRID_E2M1) /* a largest weight at 4 has nearer neighbours than one at 6 */
		how.full_range = 1;
	if (c->params[P_OBSERVER] == OBSERVER_MINMAX)
		how = (struct bl_scale_search){ .least = 1, .steps = 1 };
	if (!why)
		why = new_matrix(w, &w->wp, c->rows, c->cols, BL_DM_F32);
	if (!why)
		why = w->d->permute_cols(w->d, &w->wp, &c->w, w->d_order, 0);
	if (!why)
		why = w->d->scale_search_norm(w->d, c->scales, c->zeros, c->group_of ? &w->wp : &c->w, w->d_weight, &c->grid, &how, c->params[P_NORM]);
	if (!why)
		why = new_matrix(w, &w->r, c->cols, c->cols, BL_DM_F32);
	if (!why)
		why = new_matrix(w, &w->cp, c->rows, c->cols, BL_DM_CODES);
	if (!why)
		why = factor(w, &damp);
	if (!why && w->failed)
		why = plain(w);
	if (!why)
		why = w->d->round(w->d, &w->cp, &w->wp, &w->wp, &w->r, c->scales, c->zeros, w->d_group, &c->grid);
	if (!why && c->group_of && c->params[P_ROUNDS] > 0 && !w->failed)
		why = improve_ordered(w, damp);
	if (!why)
		why = w->d->permute_cols(w->d, &c->codes, &w->cp, w->d_order, 1);
	if (!why && !c->group_of && c->params[P_ROUNDS] > 0 && !w->failed)
		why = improve(w, damp);
	return why;
}

static const char *solve_unit(const struct bl_method_unit *c)
{
	struct work w = { .c = c, .d = c->device, .width = c->grid.group ? c->grid.group : c->cols };
	const char *why = solve(&w);
	void *const all[] = { w.d_order, w.d_group, w.d_weight, w.r.p, w.e.p, w.wp.p, w.cp.p };

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (all[i])
			w.d->release(w.d, all[i]);
	free(w.order);
	return why;
}

static const struct bl_method gptq = {
	.name = "gptq",
	.sentence = "Rounds column by column and makes up for each error in the columns to come; needs a calibration.",
	.params = params,
	.n_params = P_COUNT,
	.refuses = refuses,
	.solve_unit = solve_unit,
};
static const struct bl_method *const methods[] = { &gptq, NULL };
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "gptq",
	.version = "2",
	.sentence = "GPTQ, with scales by the Hessian, descent and refit.",
	.methods = methods,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
