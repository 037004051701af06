/* SPDX-License-Identifier: Apache-2.0
 * What methods that are solved on a Hessian have in common: its factor, with damping as a ladder, and what stands in for it where there is none. */
#ifndef BL_METHODS_HESSIAN_H
#define BL_METHODS_HESSIAN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/plugin/plugin_api.h"

/* Why these methods cannot round to a grid, or NULL; full: weights that stay in full precision are one. */
static inline const char *hessian_refuses(const struct bl_grid *g, int64_t rows, int64_t cols, int full)
{
	const int is_float = g->number == BL_GRID_E4M3 || g->number == BL_GRID_E2M1 || g->number == BL_GRID_MX_E4M3;

	if (rows < 1 || cols < 1 || cols > INT32_MAX / 2)
		return "the matrix is empty or too wide";
	if (g->number == BL_GRID_INT ? g->bits < 2 || g->bits > 8 : !is_float && !(full && g->number == BL_GRID_FULL))
		return full ? "only full precision, integers of 2 to 8 bits, E4M3 and E2M1 floats are known" : "only integers of 2 to 8 bits, E4M3 and E2M1 floats are known";
	if (g->group < 0 || (g->group && cols % g->group))
		return "the number of columns is not a multiple of the group size";
	return NULL;
}

static inline void hessian_say(const struct bl_method_unit *c, const char *before, double part, const char *after)
{
	char text[200];

	snprintf(text, sizeof text, "%s: %s %.3g%s", c->module, before, part, after);
	c->report(c->ctx, text);
}

/* R = I: no feedback */
static inline const char *hessian_identity(const struct bl_device *d, const struct bl_dm *r)
{
	const int64_t n = r->rows;
	float *one = calloc((size_t)(n * n), sizeof *one);
	const char *why;

	if (!one)
		return "out of memory";
	for (int64_t k = 0; k < n; k++)
		one[k * n + k] = 1;
	why = d->put(d, r->p, one, (size_t)(n * n) * sizeof *one);
	free(one);
	return why;
}

/* R of the permuted Hessian with *part * unit on its diagonal; dead: what stands on it where nothing does. The ladder: *part doubles until the factor exists, up
 * to 1. *failed: it never did, and r means nothing. NULL, or why the device gave up. */
static inline const char *hessian_factor(const struct bl_device *d, const struct bl_method_unit *c, const struct bl_dm *r, const int32_t *order, double *part, double unit,
					 double dead, int *failed)
{
	const double asked = *part;

	for (;;) {
		const char *why = d->permute_sym(d, r, &c->h, order, *part * unit, dead);

		if (!why)
			why = d->factor(d, r, failed);
		if (why)
			return why;
		if (!*failed) {
			if (*part != asked)
				hessian_say(c, "damping raised to", *part, ": the Hessian was not positive definite with less");
			return NULL;
		}
		if (*part >= 1)
			return NULL;
		*part = *part > 0 ? 2 * *part : 0.001;
		*part = *part > 1 ? 1 : *part;
	}
}

#endif
