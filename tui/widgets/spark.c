/* SPDX-License-Identifier: Apache-2.0
 * Sparklines. Heights are chosen so that any non-empty bin shows at least the lowest mark. */
#include "tui/widgets/spark.h"

#include <math.h>
#include <string.h>

#define COLS_MAX 512

static const char *const utf8_ramp[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
static const char *const ascii_ramp[] = { " ", ".", ":", "-", "=", "+", "*", "#", "%", "@" };

/* Heights of columns (scaled to their largest) as text. */
static char *paint(char *dst, size_t cap, const double *height, int cols, bool ascii)
{
	const char *const *ramp = ascii ? ascii_ramp : utf8_ramp;
	int levels = ascii ? 9 : 8;
	double top = 0;
	size_t used = 0;

	for (int i = 0; i < cols; i++)
		top = height[i] > top ? height[i] : top;
	for (int i = 0; i < cols; i++) {
		int level = top > 0 ? (int)ceil(height[i] / top * levels) : 0;
		const char *mark = ramp[level < 0 ? 0 : level > levels ? levels : level];
		size_t len = strlen(mark);

		if (used + len + 1 > cap)
			break;
		memcpy(dst + used, mark, len);
		used += len;
	}
	if (cap)
		dst[used] = '\0';
	return dst;
}

static int usable(int64_t n, int cols)
{
	if (cols > COLS_MAX)
		cols = COLS_MAX;
	return n < cols ? (int)n : cols;
}

char *bl_spark(char *dst, size_t cap, const uint64_t *counts, int n, int cols, bool log, bool ascii)
{
	double height[COLS_MAX] = { 0 };

	cols = usable(n, cols);
	for (int i = 0; i < n && cols > 0; i++)
		height[(int64_t)i * cols / n] += (double)counts[i];
	for (int i = 0; i < cols && log; i++)
		height[i] = log1p(height[i]);
	return paint(dst, cap, height, cols, ascii);
}

char *bl_spark_values(char *dst, size_t cap, const float *values, int64_t n, int cols, bool ascii)
{
	double height[COLS_MAX] = { 0 };

	cols = usable(n, cols);
	for (int c = 0; c < cols; c++)
		for (int64_t i = n * c / cols; i < n * (c + 1) / cols; i++)
			if (isfinite(values[i]) && values[i] > height[c])
				height[c] = values[i];
	return paint(dst, cap, height, cols, ascii);
}
