/* SPDX-License-Identifier: Apache-2.0
 * Time, with the one switch that makes screens and files reproducible. */
#include "core/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t read_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bl_now_ns(void) { return read_ns(CLOCK_MONOTONIC); }
uint64_t bl_thread_ns(void) { return read_ns(CLOCK_THREAD_CPUTIME_ID); }

static int env_seconds(const char *name, int64_t *out)
{
	const char *s = getenv(name);
	char *end;
	long long v;

	if (!s || *s < '0' || *s > '9')
		return 0;
	v = strtoll(s, &end, 10);
	if (*end || v > 253402300799) /* the end of the year 9999 */
		return 0;
	*out = v;
	return 1;
}

int64_t bl_wall_s(void)
{
	int64_t t;

	return env_seconds("BL_TEST_CLOCK", &t) ? t : (int64_t)time(NULL);
}

int64_t bl_package_s(void)
{
	int64_t t;

	return env_seconds("SOURCE_DATE_EPOCH", &t) ? t : 315532800; /* 1980-01-01, where zip's calendar begins */
}

void bl_wall_hhmm(int64_t t, char out[6])
{
	time_t s = (time_t)t;
	struct tm tm = { 0 };

	localtime_r(&s, &tm);
	snprintf(out, 6, "%02u:%02u", (unsigned)tm.tm_hour % 24, (unsigned)tm.tm_min % 60);
}

void bl_wall_iso(int64_t t, char out[21])
{
	time_t s = (time_t)t;
	struct tm tm = { 0 };

	gmtime_r(&s, &tm);
	if (strftime(out, 21, "%Y-%m-%dT%H:%M:%SZ", &tm) != 20)
		snprintf(out, 21, "0000-00-00T00:00:00Z");
}
