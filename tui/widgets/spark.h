/* SPDX-License-Identifier: Apache-2.0
 * Sparklines: counts as one line of eight heights (ASCII: a ramp of nine characters). Empty bins are blanks, so gaps show. */
#ifndef BL_TUI_SPARK_H
#define BL_TUI_SPARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* counts[n] summed into `cols` columns, scaled to the largest (log: of log(1 + count)). Never cuts a character; dst gets
 * at most 3 * cols + 1 bytes. Returns dst. */
char *bl_spark(char *dst, size_t cap, const uint64_t *counts, int n, int cols, bool log, bool ascii);
/* Same for values >= 0 (not finite counts as 0), each column the largest of its values. */
char *bl_spark_values(char *dst, size_t cap, const float *values, int64_t n, int cols, bool ascii);

#endif
