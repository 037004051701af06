/* SPDX-License-Identifier: Apache-2.0
 * Histograms several rows high: eighths of a row per step (ASCII: '#'), coloured by height with the ramp roles as well. */
#ifndef BL_TUI_HISTOGRAM_H
#define BL_TUI_HISTOGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "tui/grid.h"

/* counts[n] spread over the columns of v (largest of its bins each), bars v.rows high, scaled to the largest count; a count that is
 * not zero always shows at least the lowest step. log: of log(1 + count). */
void bl_histogram(struct bl_grid_s *g, struct bl_grid_view v, const uint64_t *counts, int n, bool log);

#endif
