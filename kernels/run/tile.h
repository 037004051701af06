/* SPDX-License-Identifier: Apache-2.0
 * The product under everything on the CPU: c [m, n] (+)= a [m, k] b, float32, a's rows k-contiguous, b in panels of 16 columns (zeros beyond the last).
 * Each element is one chain of additions in order of k, whatever its place in the tile: the same row gives the same bits in any batch.
 * (OpenBLAS rounds the same row differently at different places; it serves where that does not matter.) */
#ifndef BK_RUN_TILE_H
#define BK_RUN_TILE_H

#include <stdint.h>

#define BK_PANEL 16

struct bk_tile { /* element (k, j) of b: b[(j / 16) * panel + k * step + j % 16]; c's rows hold a multiple of 16 floats */
	const float *a, *b;
	float *c;
	int64_t m, n, k, lda, panel, step, ldc;
	int add; /* c += instead of c = */
};
typedef void bk_tile_fn(const struct bk_tile *t);
bk_tile_fn *bk_tile_best(void);
bk_tile_fn bk_tile_base;
/* b [n, k] with rows of ld floats -> panels of k * 16 floats each */
void bk_tile_pack(float *dst, const float *src, int64_t n, int64_t k, int64_t ld);

#endif
