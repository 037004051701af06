/* SPDX-License-Identifier: Apache-2.0
 * Support of the operations' checks. */
#include "kernels/common/check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 64

struct block { /* lies before the memory that is handed out */
	size_t n;
	char *base;
};

uint64_t bk_check_bits(struct bk_check *c)
{
	uint64_t z = c->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

int64_t bk_check_int(struct bk_check *c, int64_t lo, int64_t hi)
{
	return lo + (int64_t)(bk_check_bits(c) % (uint64_t)(hi - lo + 1));
}

double bk_check_unit(struct bk_check *c) { return (double)(bk_check_bits(c) >> 11) * 0x1p-53; }

double bk_check_gauss(struct bk_check *c)
{
	double u = 1 - bk_check_unit(c), v = bk_check_unit(c);

	return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

int bk_check_fail(struct bk_check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	return 1;
}

void *bk_check_alloc(size_t n, size_t align)
{
	char *base = malloc(n + 2 * GUARD + sizeof(struct block) + 64), *p;
	struct block b = { .n = n, .base = base };

	if (!base)
		abort(); /* a check, not the program */
	p = base + sizeof(struct block);
	p += 64 - (uintptr_t)p % 64 + align; /* aligned to `align` and to no more */
	memcpy(p - sizeof(b), &b, sizeof(b));
	memset(p, 0xa5, n + GUARD);
	return p;
}

int bk_check_free(void *p)
{
	struct block b;
	int intact = 1;

	if (!p)
		return 1;
	memcpy(&b, (char *)p - sizeof(b), sizeof(b));
	for (size_t i = 0; i < GUARD; i++)
		intact = intact && ((unsigned char *)p)[b.n + i] == 0xa5;
	free(b.base);
	return intact;
}

int bk_check_near(double a, double b, double rel, double abs)
{
	if (isnan(a) || isnan(b))
		return isnan(a) && isnan(b);
	if (a == b)
		return 1;
	return fabs(a - b) <= rel * fmax(fabs(a), fabs(b)) + abs;
}
