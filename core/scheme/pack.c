/* SPDX-License-Identifier: Apache-2.0
 * Codes to 32-bit words and back. 2, 4 and 8 bits divide a word, so "32/bits a word" and "dense" are the same bits there;
 * 4 and 8 have their own loops because nearly every export uses them. */
#include "core/scheme/pack.h"

#include <stddef.h>
#include <string.h>

int64_t bl_pack_words(int64_t n_codes, int bits)
{
	/* the product cannot overflow before n_codes itself is absurd */
	return n_codes / 32 * bits + (n_codes % 32 * bits + 31) / 32;
}

/* n codes, stride apart, into words, stride apart */
static void pack(uint32_t *words, const int8_t *codes, int64_t n, int64_t stride, int bits)
{
	uint64_t held = 0;
	int n_held = 0;
	unsigned offset = 1u << (bits - 1), mask = (1u << bits) - 1;

	for (int64_t i = 0; i < n; i++) {
		held |= (uint64_t)(((unsigned)(int)codes[i * stride] + offset) & mask) << n_held;
		n_held += bits;
		if (n_held >= 32) {
			*words = (uint32_t)held;
			words += stride;
			held >>= 32;
			n_held -= 32;
		}
	}
	if (n_held)
		*words = (uint32_t)held;
}

static void unpack(int8_t *codes, const uint32_t *words, int64_t n, int64_t stride, int bits)
{
	uint64_t held = 0;
	int n_held = 0, offset = 1 << (bits - 1);
	unsigned mask = (1u << bits) - 1;

	for (int64_t i = 0; i < n; i++) {
		if (n_held < bits) {
			held |= (uint64_t)*words << n_held;
			words += stride;
			n_held += 32;
		}
		codes[i * stride] = (int8_t)((int)(held & mask) - offset);
		held >>= bits;
		n_held -= bits;
	}
}

/* Whole words only; vector code. Flipping the top bit of a two's complement code adds the offset. */
static void pack4(uint32_t *restrict words, const int8_t *restrict codes, int64_t n_words)
{
	for (int64_t i = 0; i < n_words; i++) {
		uint32_t w = 0;

		for (int j = 0; j < 8; j++)
			w |= ((uint32_t)(uint8_t)codes[8 * i + j] & 15) << (4 * j);
		words[i] = w ^ 0x88888888u;
	}
}

void bl_pack_row(uint32_t *words, const int8_t *codes, int64_t n, int bits)
{
	int64_t done = 0;

	if (bits == 4) {
		pack4(words, codes, n / 8);
		done = n / 8 * 8;
	} else if (bits == 8) {
		for (; done + 4 <= n; done += 4) {
			uint32_t w = 0;

			for (int j = 0; j < 4; j++)
				w |= (uint32_t)(uint8_t)codes[done + j] << (8 * j);
			words[done / 4] = w ^ 0x80808080u;
		}
	}
	pack(words + bl_pack_words(done, bits), codes + done, n - done, 1, bits);
}

void bl_unpack_row(int8_t *codes, const uint32_t *words, int64_t n, int bits)
{
	int64_t done = 0;

	if (bits == 4) {
		for (; done + 8 <= n; done += 8)
			for (int j = 0; j < 8; j++)
				codes[done + j] = (int8_t)((int)(words[done / 8] >> (4 * j) & 15) - 8);
	} else if (bits == 8) {
		for (; done + 4 <= n; done += 4)
			for (int j = 0; j < 4; j++)
				codes[done + j] = (int8_t)((int)(words[done / 4] >> (8 * j) & 255) - 128);
	}
	unpack(codes + done, words + bl_pack_words(done, bits), n - done, 1, bits);
}

void bl_pack_zeros(uint32_t *words, const int8_t *zp, int64_t rows, int64_t groups, int bits)
{
	for (int64_t g = 0; g < groups; g++)
		pack(words + g, zp + g, rows, groups, bits);
}

void bl_unpack_zeros(int8_t *zp, const uint32_t *words, int64_t rows, int64_t groups, int bits)
{
	for (int64_t g = 0; g < groups; g++)
		unpack(zp + g, words + g, rows, groups, bits);
}
