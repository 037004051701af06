/* SPDX-License-Identifier: Apache-2.0
 * Weights that become 0: SparseGPT (arXiv 2301.00774), which makes up for what it removes, and Wanda (arXiv 2306.11695), which only looks at weight times input.
 * Where the weights are quantized too, the zeros are found first, scales are sought for what is left, and the rounding keeps the zeros while it makes up for
 * both in one go. With nothing to remove, sparsegpt is GPTQ.
 *
 * The share of zeros is kept linear by linear: parts of a unit do not compete. Damping and what happens without a factor are as in GPTQ, and reported. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/methods/hessian.h"

enum { P_SPARSITY, P_STRUCTURE, P_DAMPING, P_ORDER, P_OBSERVER, P_LEAST, P_GRID, P_NORM, P_INPUTS, P_QEP, P_TOKEN, P_BLOCK, P_COUNT };
enum { W_SCORE = P_BLOCK, W_UPDATE, W_COUNT }; /* wanda's own in the place of block_size */
enum { ORDER_STATIC, ORDER_NONE };
enum { OBSERVER_HESSIAN, OBSERVER_MSE, OBSERVER_MINMAX };
enum { SCORE_WANDA, SCORE_MAGNITUDE };
enum { UPDATE_NONE, UPDATE_HESSIAN };

static const struct { int n, m; } structures[] = { { 0, 0 }, { 1, 2 }, { 2, 4 }, { 4, 8 } };

#define COMMON_ROWS                                                                                                                                                   \
	[P_SPARSITY] = { .name = "sparsity", .type = BL_PARAM_REAL, .fallback = "0.5", .min = 0, .max = 0.99,                                                        \
			 .sentence = "mask_structure=0:0: part of the weights of each linear that becomes 0." },                                                   \
	[P_STRUCTURE] = { .name = "mask_structure", .type = BL_PARAM_CHOICE, .fallback = "0:0", .choices = "0:0|1:2|2:4|4:8",                                        \
			  .sentence = "n:m: of every m neighbours in a row n become 0; 0:0: any weights may." },                                                    \
	[P_DAMPING] = { .name = "dampening_frac", .type = BL_PARAM_REAL, .fallback = "0.01", .min = 0, .max = 1,                                                     \
			.sentence = "Part of the mean of the Hessian's diagonal that is added to it." },                                                           \
	[P_ORDER] = { .name = "actorder", .type = BL_PARAM_CHOICE, .fallback = "static", .choices = "static|none",                                                   \
		      .sentence = "static: columns that see the most input come first (with n:m, every m neighbours together); groups stay as they are." },         \
	[P_OBSERVER] = { .name = "observer", .type = BL_PARAM_CHOICE, .fallback = "hessian", .choices = "hessian|mse|minmax",                                        \
			 .sentence = "How scales of what is left are found: least error weighted by the input's energy, least error, or the whole range." },       \
	[P_LEAST] = { .name = "least", .type = BL_PARAM_REAL, .fallback = "0.3", .min = 0.05, .max = 0.99,                                                           \
		      .sentence = "hessian, mse: the smallest part of the range that is tried." },                                                                  \
	[P_GRID] = { .name = "grid", .type = BL_PARAM_INT, .fallback = "70", .min = 2, .max = 1000,                                                                   \
		     .sentence = "hessian, mse: into how many steps the ranges are divided." },                                                                     \
	[P_NORM] = { .name = "norm", .type = BL_PARAM_REAL, .fallback = "2", .min = 1, .max = 8, .sentence = "hessian, mse: errors count with this power." },        \
	[P_INPUTS] = { .name = "inputs", .type = BL_PARAM_CHOICE, .fallback = "base", .choices = "base|quantized",                                                   \
		       .sentence = "Whose inputs count: the base model's, or those of the model as pruned and quantized up to the block." },                         \
	[P_QEP] = { .name = "qep_alpha", .type = BL_PARAM_REAL, .fallback = "0", .min = 0, .max = 1,                                                                  \
		    .sentence = "inputs=quantized: how much of what the inputs have lost the weights make up for before they are pruned." },                         \
	[P_TOKEN] = { .name = "token_weight", .type = BL_PARAM_CHOICE, .fallback = "same", .choices = "same|rms",                                                    \
		      .sentence = "rms: where a norm follows the linear, tokens count by one over the mean square of its output." }

static const struct bl_param sparsegpt_params[P_COUNT] = {
	COMMON_ROWS,
	[P_BLOCK] = { .name = "block_size", .type = BL_PARAM_INT, .fallback = "128", .min = 128, .max = 128,
		      .sentence = "Columns whose weights compete for what is left (mask_structure=0:0)." },
};
static const struct bl_param wanda_params[W_COUNT] = {
	COMMON_ROWS,
	[W_SCORE] = { .name = "score", .type = BL_PARAM_CHOICE, .fallback = "wanda", .choices = "wanda|magnitude",
		      .sentence = "What the smallest of a row are: weight times the root of its input's energy, or the weight alone." },
	[W_UPDATE] = { .name = "update", .type = BL_PARAM_CHOICE, .fallback = "none", .choices = "none|hessian",
		       .sentence = "none: what is left stays, or is rounded to nearest; hessian: it makes up for what was removed and rounded." },
};

static const char *refuses(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	return hessian_refuses(g, rows, cols, 1);
}

struct work {
	const struct bl_method_unit *c;
	const struct bl_device *d;
	struct bl_prune how;
	int wanda, score, update, full; /* full: nothing is quantized */
	int64_t width;
	double mean;             /* of H's diagonal */
	int32_t *order;          /* host */
	void *d_order, *d_group, *d_weight, *d_score;
	struct bl_dm r, wp, e, left, mask, cp; /* all in R's order; left: the weights without those that are removed */
	int failed;              /* no factor */
};

/* energy descending, then index: the order does not depend on how the sort works */
struct rank { float energy; int32_t column; };

static int by_energy(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;

	return x->energy > y->energy ? -1 : x->energy < y->energy ? 1 : x->column - y->column;
}

/* Runs of `together` columns, the strongest first. */
static void make_order(struct work *w, struct rank *rank, int64_t together)
{
	const struct bl_method_unit *c = w->c;
	const int64_t n = c->cols / together;

	for (int64_t i = 0; i < n; i++) {
		rank[i] = (struct rank){ 0, (int32_t)i };
		for (int64_t k = i * together; k < (i + 1) * together; k++)
			rank[i].energy = c->h_diagonal[k] > rank[i].energy ? c->h_diagonal[k] : rank[i].energy;
	}
	if (c->params[P_ORDER] != ORDER_NONE)
		qsort(rank, (size_t)n, sizeof *rank, by_energy);
	for (int64_t i = 0; i < n; i++)
		for (int64_t k = 0; k < together; k++)
			w->order[i * together + k] = (int32_t)(rank[i].column * together + k);
}

static const char *put(struct work *w, void **to, const void *from, size_t bytes)
{
	const char *why = w->d->alloc(w->d, to, bytes);

	return why ? why : w->d->put(w->d, *to, from, bytes);
}

static const char *put_order(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const size_t n = (size_t)c->cols;
	struct rank *rank = malloc(n * sizeof *rank);
	int32_t *group = malloc(n * sizeof *group);
	float *weight = malloc(n * sizeof *weight), *score = malloc(n * sizeof *score);
	const char *why = NULL;

	w->order = malloc(n * sizeof *w->order);
	if (!rank || !group || !weight || !score || !w->order) {
		why = "out of memory";
		goto done;
	}
	for (size_t k = 0; k < n; k++)
		w->mean += c->h_diagonal[k] / (double)n;
	make_order(w, rank, w->how.m ? w->how.m : 1);
	for (size_t k = 0; k < n; k++) {
		const int32_t column = w->order[k];
		const size_t at = c->group_of ? (size_t)column : k; /* of weight k: with groups by an index scales are sought in the new order */

		group[k] = (int32_t)((c->group_of ? (int64_t)k : column) / w->width);
		if (c->group_of)
			c->group_of[column] = group[k];
		weight[k] = c->params[P_OBSERVER] == OBSERVER_HESSIAN && w->mean > 0 ? (float)(c->h_diagonal[at] / w->mean + 1e-6) : 1;
		score[k] = w->score == SCORE_WANDA ? sqrtf(c->h_diagonal[column]) : 1;
	}
	why = put(w, &w->d_order, w->order, n * sizeof *w->order);
	if (!why)
		why = put(w, &w->d_group, group, n * sizeof *group);
	if (!why)
		why = put(w, &w->d_weight, weight, n * sizeof *weight);
	if (!why)
		why = put(w, &w->d_score, score, n * sizeof *score);
done:
	free(rank);
	free(group);
	free(weight);
	free(score);
	return why;
}

static const char *new_matrix(struct work *w, struct bl_dm *m, int64_t rows, int64_t cols, int type)
{
	*m = (struct bl_dm){ NULL, rows, cols, cols, type };
	return w->d->alloc(w->d, &m->p, (size_t)(rows * cols) * (type == BL_DM_F32 ? 4 : type == BL_DM_BF16 ? 2 : 1));
}

static const char *factor(struct work *w)
{
	double part = w->c->params[P_DAMPING];
	const char *why = hessian_factor(w->d, w->c, &w->r, w->d_order, &part, w->mean, w->mean > 0 ? w->mean : 1, &w->failed);

	if (why || !w->failed)
		return why;
	hessian_say(w->c, "pruned by size and rounded plainly: the Hessian has no factor even with damping", part, "");
	return hessian_identity(w->d, &w->r);
}

static struct bl_dm rows_of(const struct bl_dm *m, int64_t row, int64_t rows)
{
	struct bl_dm p = *m;

	p.p = (char *)m->p + (size_t)(row * m->ld) * (m->type == BL_DM_F32 ? 4 : m->type == BL_DM_BF16 ? 2 : 1);
	p.rows = rows;
	return p;
}

/* The mask, and e = what is removed and how the rest moves for it. */
static const char *remove_weights(struct work *w)
{
	const struct bl_grid as_it_is = { .number = BL_GRID_FULL, .bits = 16, .symmetric = 1 };
	const char *why = NULL;
	int64_t row = 0;

	if (w->wanda) {
		why = w->d->select(w->d, &w->mask, &w->wp, w->d_score, &w->how);
		if (!why) /* without an update R is I */
			why = w->d->round_masked(w->d, &w->cp, &w->e, &w->wp, &w->r, NULL, NULL, w->d_group, &as_it_is, &w->mask);
		return why;
	}
	for (int i = 0; i < w->c->n_parts && !why; row += w->c->part_rows[i++]) {
		const int64_t n = w->c->part_rows[i];
		const struct bl_dm mask = rows_of(&w->mask, row, n), e = rows_of(&w->e, row, n), wp = rows_of(&w->wp, row, n);

		why = w->d->prune(w->d, &mask, &e, &wp, &w->r, &w->how);
	}
	return why;
}

/* Scales for what is left: sought in the order in which groups lie. */
static const char *find_scales(struct work *w, int pruned)
{
	const struct bl_method_unit *c = w->c;
	struct bl_scale_search how = { .least = c->params[P_LEAST], .steps = (int)c->params[P_GRID], .full_range = c->grid.number == BL_GRID_E2M1 };
	const struct bl_dm *of = c->group_of ? &w->wp : &c->w;
	const char *why = NULL;

	if (c->params[P_OBSERVER] == OBSERVER_MINMAX)
		how = (struct bl_scale_search){ .least = 1, .steps = 1 };
	if (pruned) {
		why = new_matrix(w, &w->left, c->rows, c->cols, BL_DM_F32);
		if (!why)
			why = w->d->copy(w->d, w->left.p, w->wp.p, (size_t)(c->rows * c->cols) * 4);
		if (!why)
			why = w->d->add_scaled(w->d, &w->left, &w->e, -1);
		if (!why && !c->group_of)
			why = w->d->permute_cols(w->d, &w->e, &w->left, w->d_order, 1);
		of = c->group_of ? &w->left : &w->e;
	}
	return why ? why : w->d->scale_search_norm(w->d, c->scales, c->zeros, of, w->d_weight, &c->grid, &how, c->params[P_NORM]);
}

static const char *solve(struct work *w)
{
	const struct bl_method_unit *c = w->c;
	const int pruned = w->how.m || w->how.ratio > 0, codes = w->full ? BL_DM_BF16 : BL_DM_CODES;
	const char *why = put_order(w);

	if (!why)
		why = new_matrix(w, &w->wp, c->rows, c->cols, BL_DM_F32);
	if (!why)
		why = w->d->permute_cols(w->d, &w->wp, &c->w, w->d_order, 0);
	if (!why)
		why = new_matrix(w, &w->r, c->cols, c->cols, BL_DM_F32);
	if (!why)
		why = w->wanda && w->update == UPDATE_NONE ? hessian_identity(w->d, &w->r) : factor(w);
	if (!why && pruned) {
		why = new_matrix(w, &w->mask, c->rows, c->cols, BL_DM_CODES);
		if (!why)
			why = new_matrix(w, &w->e, c->rows, c->cols, BL_DM_F32);
		if (!why && w->wanda)
			why = new_matrix(w, &w->cp, c->rows, c->cols, BL_DM_BF16);
		if (!why)
			why = remove_weights(w);
	}
	if (!why && !w->full)
		why = find_scales(w, pruned);
	if (!why && w->cp.p)
		w->d->release(w->d, w->cp.p);
	if (!why)
		why = new_matrix(w, &w->cp, c->rows, c->cols, codes);
	if (!why && w->d->cancelled(w->d))
		return "cancelled";
	if (!why && pruned)
		why = w->d->round_masked(w->d, &w->cp, &w->wp, &w->wp, &w->r, c->scales, c->zeros, w->d_group, &c->grid, &w->mask);
	else if (!why)
		why = w->d->round(w->d, &w->cp, &w->wp, &w->wp, &w->r, c->scales, c->zeros, w->d_group, &c->grid);
	return why ? why : w->d->permute_cols(w->d, &c->codes, &w->cp, w->d_order, 1);
}

static const char *run(struct work *w, const struct bl_method_unit *c)
{
	const int structure = (int)c->params[P_STRUCTURE];
	const char *why;

	w->c = c;
	w->d = c->device;
	w->width = c->grid.group ? c->grid.group : c->cols;
	w->full = c->grid.number == BL_GRID_FULL;
	w->how = (struct bl_prune){ structure ? 0 : c->params[P_SPARSITY], structures[structure].n, structures[structure].m };
	if (structure && c->cols % w->how.m)
		return "the number of columns is not a multiple of m in mask_structure=n:m (0:0, with sparsity, fits any number)";
	why = solve(w);
	void *const all[] = { w->d_order, w->d_group, w->d_weight, w->d_score, w->r.p, w->e.p, w->wp.p, w->left.p, w->mask.p, w->cp.p };

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (all[i])
			w->d->release(w->d, all[i]);
	free(w->order);
	return why;
}

static const char *solve_sparsegpt(const struct bl_method_unit *c)
{
	struct work w = { .wanda = 0 };

	return run(&w, c);
}

static const char *solve_wanda(const struct bl_method_unit *c)
{
	struct work w = { .wanda = 1, .score = (int)c->params[W_SCORE], .update = (int)c->params[W_UPDATE] };

	return run(&w, c);
}

static const struct bl_method sparsegpt = {
	.name = "sparsegpt",
	.sentence = "Sets weights to 0 and lets the others make up for it, together with rounding; needs a calibration.",
	.params = sparsegpt_params,
	.n_params = P_COUNT,
	.refuses = refuses,
	.solve_unit = solve_sparsegpt,
};
static const struct bl_method wanda = {
	.name = "wanda",
	.sentence = "Sets the weights to 0 that are smallest times their input, row by row; needs a calibration.",
	.params = wanda_params,
	.n_params = W_COUNT,
	.refuses = refuses,
	.solve_unit = solve_wanda,
};
static const struct bl_method *const methods[] = { &sparsegpt, &wanda, NULL };
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "sparse",
	.version = "1",
	.sentence = "Pruning with and without an update, any weights or n of m.",
	.methods = methods,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
