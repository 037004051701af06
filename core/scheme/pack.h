/* SPDX-License-Identifier: Apache-2.0
 * Packing of codes into 32-bit words as compressed-tensors stores them (formats: "pack-quantized"), both ways.
 * Codes are signed grid values (-8..7 for 4 bits), one int8 each; on disk they are offset by 2^(bits-1). 4 and 8 bits: 32/bits codes a
 * word, lowest bits first; 2,3,5,6,7 bits: dense, 32 codes in `bits` words (code j occupies bits j*bits .. of the little-endian bit string). */
#ifndef BL_SCHEME_PACK_H
#define BL_SCHEME_PACK_H

#include <stdint.h>

int64_t bl_pack_words(int64_t n_codes, int bits); /* words needed for one row */
void bl_pack_row(uint32_t *words, const int8_t *codes, int64_t n, int bits);
void bl_unpack_row(int8_t *codes, const uint32_t *words, int64_t n, int bits);
/* Zero points: [rows, groups] signed codes -> [bl_pack_words(rows), groups] words packed along rows. rows0 = first row must be a multiple of 32. */
void bl_pack_zeros(uint32_t *words, const int8_t *zp, int64_t rows, int64_t groups, int bits);
void bl_unpack_zeros(int8_t *zp, const uint32_t *words, int64_t rows, int64_t groups, int bits);

#endif
