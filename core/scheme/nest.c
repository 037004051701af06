/* SPDX-License-Identifier: Apache-2.0
 * Double quantization as bitsandbytes does it on a CPU: the mean goes off, blocks of 256 become bytes of a map that is dense near 0. The library
 * snaps each value to a grid of 65,536 points before it looks for the nearest entry; so does this. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/base/half.h"
#include "core/scheme/codec.h"

static float map[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int ascending(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

/* 0, 1, and for i = 0 .. 6 the midpoints of 2^i + 1 points from 0.1 to 1, times 10^(i-6), with both signs. Each point is rounded once, from the nearer end. */
static void make_map(void)
{
	int at = 0;

	map[at++] = 0;
	map[at++] = 1;
	for (int i = 0; i < 7; i++) {
		const int n = (1 << i) + 1;
		const double step = (double)((1 - 0.1f) / (float)(n - 1));
		const float power = (float)pow(10, i - 6);
		float before = 0;

		for (int k = 0; k < n; k++) {
			const float point = (float)(k < n / 2 ? (double)0.1f + step * k : 1.0 - step * (n - 1 - k));

			if (k) {
				const float mid = (before + point) / 2;

				map[at++] = power * mid;
				map[at++] = power * -mid;
			}
			before = point;
		}
	}
	qsort(map, 256, sizeof *map, ascending);
}

const float *bl_nest_map(void)
{
	pthread_once(&once, make_map);
	return map;
}

/* A midpoint goes to the lower entry. */
static uint8_t nearest(float y)
{
	int lo = 0, hi = 255;

	while (lo < hi) {
		const int mid = (lo + hi) / 2;

		if ((map[mid] + map[mid + 1]) / 2 < y)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (uint8_t)lo;
}

static float snap(float y)
{
	const float k = (float)(int64_t)(float)((double)(y + 1.0f) * 0.5 * 65535 + 0.5);

	return (float)(-1.0 + (double)(2.0f * k / 65535.0f));
}

void bl_nest(uint8_t *q, float *block_max, float *offset, const float *absmax, int64_t n)
{
	double sum = 0;

	pthread_once(&once, make_map);
	for (int64_t i = 0; i < n; i++)
		sum += (double)absmax[i];
	*offset = n ? (float)(sum / (double)n) : 0;
	for (int64_t b = 0; b * BL_NEST_BLOCK < n; b++) {
		const int64_t from = b * BL_NEST_BLOCK, to = n - from < BL_NEST_BLOCK ? n : from + BL_NEST_BLOCK;
		float top = 0;

		for (int64_t i = from; i < to; i++)
			top = fmaxf(top, fabsf(absmax[i] - *offset));
		block_max[b] = top;
		const float inv = top > 0 ? 1 / top : 0;
		for (int64_t i = from; i < to; i++) {
			const float y = (absmax[i] - *offset) * inv;

			q[i] = nearest(snap(y < -1 ? -1 : y > 1 ? 1 : y));
		}
	}
}

void bl_unnest(float *absmax, const uint8_t *q, const float *block_max, const float *with, float offset, int64_t from, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		absmax[i] = with[q[from + i]] * block_max[(from + i) / BL_NEST_BLOCK] + offset;
}
