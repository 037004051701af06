/* SPDX-License-Identifier: Apache-2.0
 * The log ring. Two locks: one for the ring (held for a copy), one for the sink (held while it writes),
 * so that a slow sink never blocks the screen that reads the ring. */
#include "core/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/str.h"

#define RING 1000

static struct bl_log_line ring[RING];
static size_t count;
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t sink_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP; /* a sink may fail and log that */
static void (*sink)(const struct bl_log_line *, void *);
static void *sink_ctx;
static int sink_depth;

void bl_log(enum bl_log_level level, const char *fmt, ...)
{
	char raw[sizeof ring[0].text];
	struct bl_log_line line = { .wall_s = bl_wall_s(), .level = level };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(raw, sizeof raw, fmt, ap);
	va_end(ap);
	bl_printable(line.text, sizeof line.text, raw);

	pthread_mutex_lock(&ring_lock);
	ring[count++ % RING] = line;
	pthread_mutex_unlock(&ring_lock);

	pthread_mutex_lock(&sink_lock);
	if (sink && !sink_depth) {
		sink_depth++;
		sink(&line, sink_ctx);
		sink_depth--;
	}
	pthread_mutex_unlock(&sink_lock);
}

size_t bl_log_count(void)
{
	size_t n;

	pthread_mutex_lock(&ring_lock);
	n = count;
	pthread_mutex_unlock(&ring_lock);
	return n;
}

int bl_log_get(size_t index, struct bl_log_line *out)
{
	int found;

	pthread_mutex_lock(&ring_lock);
	found = index < count && count - index <= RING;
	if (found)
		*out = ring[index % RING];
	pthread_mutex_unlock(&ring_lock);
	return found;
}

void bl_log_sink(void (*fn)(const struct bl_log_line *, void *), void *ctx)
{
	pthread_mutex_lock(&sink_lock);
	sink = fn;
	sink_ctx = ctx;
	pthread_mutex_unlock(&sink_lock);
}
