/* SPDX-License-Identifier: Apache-2.0
 * What methods that train have in common: the grids that core/tune can train. */
#ifndef BL_METHODS_TRAINED_H
#define BL_METHODS_TRAINED_H

#include "core/plugin/plugin_api.h"

static inline const char *trained_refuses(const struct bl_grid *g, int64_t rows, int64_t cols)
{
	if (rows < 1 || cols < 1)
		return "the matrix is empty";
	if (g->number == BL_GRID_INT ? g->bits < 2 || g->bits > 8 : g->number != BL_GRID_E4M3)
		return "only integers of 2 to 8 bits and E4M3 floats are known";
	if (g->group < 0 || (g->group && cols % g->group))
		return "the number of columns is not a multiple of the group size";
	return NULL;
}

#endif
