/* SPDX-License-Identifier: Apache-2.0
 * Round to nearest: every weight goes to the grid point next to it. What can be chosen is the scale: from the whole range of the group
 * (minmax), or from the shrunk range that loses least (mse). Also the example of a whole plugin.
 *
 * mse tries ranges p * (lo, hi) for p = 1, 1 - 1/grid, ... and keeps, for each group, the one with the smallest sum |w - Q(w)|^norm. Tools
 * that stop early ("patience") count tries without gain over a whole tensor, so a group's scale would depend on rows elsewhere;
 * here rows are independent by contract, and every group gets all tries. */
#include <string.h>

#include "core/plugin/plugin_api.h"

enum { P_OBSERVER, P_MAXSHRINK, P_GRID, P_NORM, P_QUOTIENT, P_COUNT };

static const struct bl_param params[P_COUNT] = {
	[P_OBSERVER] = { .name = "observer", .type = BL_PARAM_CHOICE, .fallback = "minmax", .choices = "minmax|mse",
			 .sentence = "How a scale is found: from the whole range, or from the shrunk range with the smallest error." },
	[P_MAXSHRINK] = { .name = "maxshrink", .type = BL_PARAM_REAL, .fallback = "0.2", .min = 0.01, .max = 0.99,
			  .sentence = "mse: the largest part of the range that may be cut off." },
	[P_GRID] = { .name = "grid", .type = BL_PARAM_INT, .fallback = "100", .min = 2, .max = 1000,
		     .sentence = "mse: the range shrinks in steps of 1/grid." },
	[P_NORM] = { .name = "norm", .type = BL_PARAM_REAL, .fallback = "2.4", .min = 1, .max = 8,
		     .sentence = "mse: errors count with this power; larger values protect the large weights." },
	[P_QUOTIENT] = { .name = "quotient", .type = BL_PARAM_CHOICE, .fallback = "bf16", .choices = "bf16|f32",
			 .sentence = "Whether weight/scale is rounded to bfloat16 before it is rounded to a code, as compressed-tensors does on a CPU." },
};

static int64_t scales_of(const struct bl_grid *g, int64_t n_rows, int64_t cols)
{
	return n_rows * (g->group ? cols / g->group : 1);
}

static const char *refuses(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	if (rows < 1 || cols < 1)
		return "the matrix is empty";
	if (g->number == BL_GRID_INT ? g->bits < 2 || g->bits > 8 : g->number > BL_GRID_SCB && g->number != BL_GRID_MX_E4M3 && g->number != BL_GRID_BNB_FP4 && g->number != BL_GRID_BNB_FP4_NESTED)
		return "only integers of 2 to 8 bits, E4M3 and E2M1 floats, NF4 and bitsandbytes' 8-bit integers are known";
	if (g->group < 0 || (g->number == BL_GRID_E4M3 && g->group) || g->number == BL_GRID_NF4_NESTED || g->number == BL_GRID_BNB_FP4_NESTED || (g->number == BL_GRID_E2M1 && g->group != 32))
		return "scales over more than a row are found by the program itself";
	if ( (g->group && cols % g->group))
		return "the number of columns is not a multiple of the group size";
	return NULL;
}

/* lo, hi, and for mse the scales and errors on trial, the best error, and zero points on trial */
static size_t scratch_bytes(const struct bl_grid *g, int64_t n_rows, int64_t cols)
{
	return (size_t)scales_of(g, n_rows, cols) * (5 * sizeof(float) + 1);
}

struct scratch {
	float *lo, *hi, *scales, *err, *best;
	int8_t *zeros;
};

static void search(const struct bl_method_rows *c, const struct scratch *s, int64_t n, enum bl_quotient quotient)
{
	const struct bl_host *h = c->host;
	int steps = (int)(c->params[P_MAXSHRINK] * c->params[P_GRID]);

	h->error(s->best, c->w, c->scales, c->zeros, c->n_rows, c->cols, &c->grid, quotient, c->params[P_NORM]);
	for (int step = 1; step < steps; step++) {
		h->scales(s->scales, s->zeros, s->lo, s->hi, n, 1 - step / c->params[P_GRID], &c->grid);
		h->error(s->err, c->w, s->scales, s->zeros, c->n_rows, c->cols, &c->grid, quotient, c->params[P_NORM]);
		for (int64_t i = 0; i < n; i++) {
			if (!(s->err[i] < s->best[i]))
				continue;
			s->best[i] = s->err[i];
			c->scales[i] = s->scales[i];
			if (c->zeros)
				c->zeros[i] = s->zeros[i];
		}
	}
}

static const char *solve_rows(const struct bl_method_rows *c)
{
	const struct bl_host *h = c->host;
	enum bl_quotient quotient = c->params[P_QUOTIENT] == 1 ? BL_QUOTIENT_F32 : BL_QUOTIENT_BF16;
	int64_t n = scales_of(&c->grid, c->n_rows, c->cols);
	float *f = c->scratch;
	struct scratch s = { .lo = f, .hi = f + n, .scales = f + 2 * n, .err = f + 3 * n, .best = f + 4 * n, .zeros = (int8_t *)(f + 5 * n) };

	h->range(s.lo, s.hi, c->w, c->n_rows, c->cols, &c->grid);
	h->scales(c->scales, c->zeros, s.lo, s.hi, n, 1, &c->grid);
	if (c->params[P_OBSERVER] == 1)
		search(c, &s, n, quotient);
	h->encode(c->codes, c->w, c->scales, c->zeros, c->n_rows, c->cols, &c->grid, quotient);
	return NULL;
}

static const struct bl_method rtn = {
	.name = "rtn",
	.sentence = "Round to nearest: fast, needs no data.",
	.params = params,
	.n_params = P_COUNT,
	.refuses = refuses,
	.scratch_bytes = scratch_bytes,
	.solve_rows = solve_rows,
};
static const struct bl_method *const methods[] = { &rtn, NULL };
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "rtn",
	.version = "1",
	.sentence = "Plain rounding of weights.",
	.methods = methods,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
