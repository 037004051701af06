/* SPDX-License-Identifier: Apache-2.0
 * Digests: SHA-256 (through OpenSSL's libcrypto, which uses the processor's instructions) for what users compare,
 * CRC-32 (zlib) for zip, a fast 64-bit hash for tables (not stable across versions, never stored), and fast 128-bit sums for large files of our own. */
#ifndef BL_BASE_HASH_H
#define BL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct bl_sha256 { void *ctx; };
void bl_sha256_init(struct bl_sha256 *h);
void bl_sha256_add(struct bl_sha256 *h, const void *data, size_t n);
void bl_sha256_hex(struct bl_sha256 *h, char out[65]); /* finishes and frees */
void bl_sha256_drop(struct bl_sha256 *h);              /* frees without finishing; safe on zero */
void bl_sha256_of(const void *data, size_t n, char out[65]);

uint32_t bl_crc32(uint32_t crc, const void *data, size_t n); /* start with 0 */
uint32_t bl_crc32_combine(uint32_t a, uint32_t b, uint64_t b_bytes);

uint64_t bl_hash64(const void *data, size_t n);

/* 128 bits over what a store of ours holds, as fast as memory is read: finds damage, not forgery. The same in every version and process; stored.
 * A sum goes on from an earlier one (zero: none), and where the pieces end counts: add(add(0, "a"), "b") is not add(0, "ab"). */
struct bl_sum { uint64_t a, b; };
struct bl_sum bl_sum_add(struct bl_sum before, const void *data, size_t n);

/* name -> index table over names owned by the caller; insertion refuses duplicates */
struct bl_names { uint32_t *slot; size_t n_slots, n; const char **names; };
void bl_names_init(struct bl_names *t, size_t expected);
int64_t bl_names_add(struct bl_names *t, const char *name); /* new index, or -1 - (index of the equal one) */
int64_t bl_names_find(const struct bl_names *t, const char *name); /* -1: none */
void bl_names_free(struct bl_names *t);

#endif
