/* SPDX-License-Identifier: Apache-2.0
 * Codes as weights, for every scheme, and the grids that are tables: FP4 (E2M1), NF4, the 8-bit integers of bitsandbytes. Everything is float32 in the order
 * in which the ecosystem's clients compute, so that decoded weights have their bits. Codes are bytes: signed values of integers, else the stored pattern;
 * scales are [rows, scales per row], zero points signed. */
#ifndef BL_SCHEME_CODEC_H
#define BL_SCHEME_CODEC_H

#include "core/scheme/scheme.h"

struct bl_coded { /* rows of a linear */
	const int8_t *codes;     /* [rows, cols] */
	const float *scales;     /* [rows, spr] */
	const int8_t *zeros;     /* [rows, spr]; NULL: none */
	const int32_t *group_of; /* [cols]: the group of a column; NULL: by its place. Values below spr */
};
void bl_scheme_decode(float *w, const struct bl_scheme *s, const struct bl_coded *c, int64_t rows, int64_t cols);
/* The same rounded to bfloat16, as a client of that type holds them (zero points and scales are as they are stored). */
void bl_scheme_decode_bf16(uint16_t *w, const struct bl_scheme *s, const struct bl_coded *c, int64_t rows, int64_t cols);
/* What a code stands for, in units of its scale. */
float bl_scheme_value(const struct bl_scheme *s, int8_t code);
float bl_scheme_step(const struct bl_scheme *s, float scale); /* what one unit of such values is worth */

/* ---- grids that are tables: number E2M1, NF4, BNB_FP4 or SCB; `group` columns per scale, 0: one per row ---- */

/* From the largest |w| of each group: E2M1 in groups of 32 a power of two, NF4 and SCB the value itself. 0 gives what the libraries store. */
void bl_book_scales(float *scales, const float *absmax, int64_t n, int number);
void bl_book_encode(int8_t *codes, const float *w, const float *scales, int64_t rows, int64_t cols, int number, int64_t group);
void bl_book_decode(float *w, const int8_t *codes, const float *scales, int64_t rows, int64_t cols, int number, int64_t group);

/* ---- MXFP8: E4M3 values in groups of 32 ---- */

float bl_mx8_scale(float group_absmax); /* a power of two */

/* ---- NVFP4: scales are E4M3 values over one number of the unit ---- */

float bl_nvfp4_global(float unit_absmax);             /* 448 x 6 / absmax, rounded as the library does */
float bl_nvfp4_scale(float group_absmax, float global); /* effective: the E4M3 value over the number */

/* ---- bitsandbytes' double quantization of n absmax: bytes in blocks of 256 around their mean ---- */

#define BL_NEST_BLOCK 256
const float *bl_nest_map(void); /* [256], ascending */
/* q [n], block_max [(n + 255) / 256] */
void bl_nest(uint8_t *q, float *block_max, float *offset, const float *absmax, int64_t n);
void bl_unnest(float *absmax, const uint8_t *q, const float *block_max, const float *map, float offset, int64_t from, int64_t n); /* elements from .. from + n */

#endif
