/* SPDX-License-Identifier: Apache-2.0
 * Digests and the name table. The table's hash is keyed with random bits per process: names come from files, and a
 * file must not be able to choose names that all fall into one slot. */
#include "core/base/hash.h"

#include <openssl/evp.h>
#include <string.h>
#include <sys/random.h>
#include <zlib.h>

#include "core/base/clock.h"
#include "core/base/mem.h"

void bl_sha256_init(struct bl_sha256 *h)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (!c || EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1)
		bl_fatal(6, "bitlathe: SHA-256 is not available (libcrypto refused it, or not enough memory)");
	h->ctx = c;
}

void bl_sha256_add(struct bl_sha256 *h, const void *data, size_t n)
{
	if (n)
		EVP_DigestUpdate(h->ctx, data, n);
}

void bl_sha256_hex(struct bl_sha256 *h, char out[65])
{
	static const char digit[] = "0123456789abcdef";
	unsigned char d[EVP_MAX_MD_SIZE];
	unsigned n = 0, i;

	EVP_DigestFinal_ex(h->ctx, d, &n);
	bl_sha256_drop(h);
	for (i = 0; i < 32; i++) {
		out[2 * i] = digit[d[i] >> 4];
		out[2 * i + 1] = digit[d[i] & 15];
	}
	out[64] = '\0';
}

void bl_sha256_drop(struct bl_sha256 *h)
{
	EVP_MD_CTX_free(h->ctx);
	h->ctx = NULL;
}

void bl_sha256_of(const void *data, size_t n, char out[65])
{
	struct bl_sha256 h;

	bl_sha256_init(&h);
	bl_sha256_add(&h, data, n);
	bl_sha256_hex(&h, out);
}

uint32_t bl_crc32(uint32_t crc, const void *data, size_t n)
{
	return n ? (uint32_t)crc32_z(crc, data, n) : crc; /* zlib resets on a NULL pointer */
}

uint32_t bl_crc32_combine(uint32_t a, uint32_t b, uint64_t b_bytes)
{
	return (uint32_t)crc32_combine64(a, b, (z_off64_t)b_bytes);
}

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t hash_keyed(const void *data, size_t n, uint64_t key)
{
	const unsigned char *p = data;
	uint64_t h = key ^ fold(n ^ 0x9e3779b97f4a7c15u, key ^ 0xd6e8feb86659fd93u);

	for (; n >= 16; p += 16, n -= 16) {
		uint64_t a, b;

		memcpy(&a, p, 8);
		memcpy(&b, p + 8, 8);
		h = fold(a ^ 0xa0761d6478bd642fu ^ key, b ^ h);
	}
	if (n) {
		uint64_t w[2] = { 0, 0 };

		memcpy(w, p, n);
		h = fold(w[0] ^ 0xe7037ed1a0b428dbu ^ key, w[1] ^ h);
	}
	return fold(h ^ 0x8ebc6af09c88c6e3u, key ^ 0x589965cc75374cc3u);
}

uint64_t bl_hash64(const void *data, size_t n)
{
	return hash_keyed(data, n, 0x2d358dccaa6c78a5u);
}

/* Eight lanes of 64 x 64 -> 128 bit products, so that the multiplier is never waited for. */
struct bl_sum bl_sum_add(struct bl_sum before, const void *data, size_t n)
{
	static const uint64_t key[8] = { 0xa0761d6478bd642fu, 0xe7037ed1a0b428dbu, 0x8ebc6af09c88c6e3u, 0x589965cc75374cc3u,
					 0x1d8e4e27c47d124fu, 0xeb44accab455d165u, 0x9c6e6877736c46e3u, 0x2d358dccaa6c78a5u };
	const unsigned char *p = data;
	unsigned char last[128];
	uint64_t lane[8], left = n;
	struct bl_sum s = { before.a ^ n, before.b ^ 0x9e3779b97f4a7c15u };

	for (int i = 0; i < 8; i++)
		lane[i] = fold(before.a ^ key[i], before.b + key[7 - i] + 1) ^ key[i];
	for (; left;) {
		if (left < 128) {
			memset(last, 0, sizeof last);
			memcpy(last, p, left);
			p = last;
		}
		for (int i = 0; i < 8; i++) {
			uint64_t x, y;

			memcpy(&x, p + 16 * i, 8);
			memcpy(&y, p + 16 * i + 8, 8);
			lane[i] = fold(x ^ lane[i], y ^ key[i]) + key[7 - i];
		}
		p += 128;
		left = left < 128 ? 0 : left - 128;
	}
	for (int i = 0; i < 8; i++) {
		s.a = fold(s.a ^ lane[i], key[i] ^ s.b);
		s.b = fold(s.b ^ key[7 - i], lane[i] ^ (uint64_t)i) + s.a;
	}
	return s;
}

static uint64_t process_key;

__attribute__((constructor)) static void draw_key(void)
{
	if (getrandom(&process_key, sizeof process_key, GRND_NONBLOCK) != sizeof process_key)
		process_key = bl_now_ns() * 0x9e3779b97f4a7c15u;
}

/* Slots hold index + 1; never more than half are used. */
static size_t slot_of(const struct bl_names *t, const char *name)
{
	size_t mask = t->n_slots - 1, i = hash_keyed(name, strlen(name), process_key) & mask;

	while (t->slot[i] && strcmp(t->names[t->slot[i] - 1], name))
		i = (i + 1) & mask;
	return i;
}

static void resize(struct bl_names *t, size_t n_slots)
{
	size_t i;

	bl_free(t->slot);
	t->slot = bl_xalloc(n_slots, sizeof *t->slot);
	t->n_slots = n_slots;
	t->names = bl_xrealloc(t->names, n_slots / 2, sizeof *t->names);
	for (i = 0; i < t->n; i++)
		t->slot[slot_of(t, t->names[i])] = (uint32_t)i + 1;
}

void bl_names_init(struct bl_names *t, size_t expected)
{
	size_t n = 16;

	while (n / 2 < expected && n < (size_t)1 << 31)
		n *= 2;
	*t = (struct bl_names){0};
	resize(t, n);
}

int64_t bl_names_add(struct bl_names *t, const char *name)
{
	size_t i;

	if (!t->n_slots)
		bl_names_init(t, 0);
	i = slot_of(t, name);
	if (t->slot[i])
		return -1 - (int64_t)(t->slot[i] - 1);
	if (t->n + 1 > t->n_slots / 2) {
		if (t->n_slots >= (size_t)1 << 32)
			bl_fatal(6, "bitlathe: a table of names has outgrown 2^31 entries");
		resize(t, t->n_slots * 2);
		i = slot_of(t, name);
	}
	t->names[t->n] = name;
	t->slot[i] = (uint32_t)++t->n;
	return (int64_t)t->n - 1;
}

int64_t bl_names_find(const struct bl_names *t, const char *name)
{
	return t->n_slots ? (int64_t)t->slot[slot_of(t, name)] - 1 : -1;
}

void bl_names_free(struct bl_names *t)
{
	bl_free(t->slot);
	bl_free(t->names);
	*t = (struct bl_names){0};
}
