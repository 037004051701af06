/* SPDX-License-Identifier: Apache-2.0
 * Random numbers: xoshiro256** (Blackman and Vigna), seeded by splitmix64 so that nearby seeds give unrelated streams. */
#include "core/base/rng.h"

#include <math.h>

static uint64_t splitmix(uint64_t *x)
{
	uint64_t z = *x += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void bl_rng_seed(struct bl_rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		r->s[i] = splitmix(&seed);
}

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

uint64_t bl_rng_u64(struct bl_rng *r)
{
	uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

float bl_rng_unit(struct bl_rng *r)
{
	return (float)(bl_rng_u64(r) >> 40) * 0x1p-24f;
}

float bl_rng_normal(struct bl_rng *r)
{
	/* Box-Muller in double; the second value is thrown away so that the state stays four words */
	double u = (double)((bl_rng_u64(r) >> 11) + 1) * 0x1p-53, v = (double)(bl_rng_u64(r) >> 11) * 0x1p-53;

	return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}
