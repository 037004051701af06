/* SPDX-License-Identifier: Apache-2.0
 * Histograms several rows high. */
#include "tui/widgets/histogram.h"

#include <math.h>

static double height_of(uint64_t count, bool log)
{
	return log ? log1p((double)count) : (double)count;
}

void bl_histogram(struct bl_grid_s *g, struct bl_grid_view v, const uint64_t *counts, int n, bool log)
{
	static const char *const steps[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	double top = 0;

	if (n < 1 || v.rows < 1 || v.cols < 1)
		return;
	for (int i = 0; i < n; i++)
		top = fmax(top, height_of(counts[i], log));
	for (int x = 0; x < v.cols && top > 0; x++) {
		int from = (int)((int64_t)x * n / v.cols), to = (int)((int64_t)(x + 1) * n / v.cols);
		double h = 0;

		for (int i = from; i < (to > from ? to : from + 1); i++)
			h = fmax(h, height_of(counts[i], log));
		int eighths = (int)lrint(h / top * v.rows * 8);
		if (h > 0 && !eighths)
			eighths = 1;
		enum bl_role role = BL_ROLE_RAMP0 + (eighths * 5 - 1) / (v.rows * 8);
		for (int y = 0; eighths > 0 && y < v.rows; y++, eighths -= 8) {
			const char *glyph = g->ascii ? (eighths >= 4 || (y == 0 && eighths > 0) ? "#" : "") : steps[(eighths > 8 ? 8 : eighths) - 1];
			bl_grid_text(g, v.row + v.rows - 1 - y, v.col + x, 1, role > BL_ROLE_RAMP4 ? BL_ROLE_RAMP4 : role, 0, glyph);
		}
	}
}
