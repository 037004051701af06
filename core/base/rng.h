/* SPDX-License-Identifier: Apache-2.0
 * xoshiro256** seeded by splitmix64: one seed (42 by default) makes every run the same. */
#ifndef BL_BASE_RNG_H
#define BL_BASE_RNG_H
#include <stdint.h>
struct bl_rng { uint64_t s[4]; };
void bl_rng_seed(struct bl_rng *r, uint64_t seed);
uint64_t bl_rng_u64(struct bl_rng *r);
float bl_rng_unit(struct bl_rng *r);   /* [0,1) */
float bl_rng_normal(struct bl_rng *r); /* mean 0, variance 1 */
#endif
