/* SPDX-License-Identifier: Apache-2.0
 * The log: a ring of the last 1000 lines (the log screen reads it) and an optional sink. Core logs, it never prints.
 * Thread-safe. */
#ifndef BL_BASE_LOG_H
#define BL_BASE_LOG_H
#include <stddef.h>
#include <stdint.h>
enum bl_log_level { BL_LOG_DEBUG, BL_LOG_INFO, BL_LOG_WARN, BL_LOG_ERROR };
struct bl_log_line { int64_t wall_s; enum bl_log_level level; char text[400]; };
void bl_log(enum bl_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t bl_log_count(void);                                  /* lines ever logged */
int bl_log_get(size_t index, struct bl_log_line *out);      /* 0 when it has left the ring */
void bl_log_sink(void (*fn)(const struct bl_log_line *, void *), void *ctx);
#endif
