/* SPDX-License-Identifier: Apache-2.0
 * The vocabulary: tokens by id, by their text in the file and by the bytes they stand for, and the merges by pair. */
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/text/private.h"

#define DIRECT_MAX 64 /* bytes of the tokens that are tried at the start */

/* Printable bytes stand for themselves, the 68 others for U+0100 and on, in order. */
int bl_byte_of_char(uint32_t cp)
{
	if ((cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xac) || (cp >= 0xae && cp <= 0xff))
		return (int)cp;
	if (cp < 0x100 || cp >= 0x144)
		return -1;
	cp -= 0x100;
	return (int)(cp <= 0x20 ? cp : cp <= 0x42 ? cp - 0x21 + 0x7f : 0xad);
}

enum bl_status bl_vocab_add(struct bl_vocab *v, const char *raw, size_t n, int32_t id, struct bl_err *err)
{
	const uint8_t *p = (const uint8_t *)raw;

	if (id < 0 || id >= BL_TOKENS_MAX)
		return bl_fail(err, BL_INVALID, "the id of \"%.*s\" must be in 0 .. %d, is %d", (int)(n < 60 ? n : 60), raw, BL_TOKENS_MAX - 1, id);
	if (n > BL_TOKEN_BYTES)
		return bl_fail(err, BL_INVALID, "token %d has %zu bytes, at most %d are allowed", id, n, BL_TOKEN_BYTES);
	size_t old = v->cap;
	bl_xgrow(&v->t, &v->cap, (size_t)id + 1);
	if (v->cap > old)
		memset(v->t + old, 0, (v->cap - old) * sizeof *v->t);
	struct bl_token *t = &v->t[id];
	if (t->present)
		return bl_fail(err, BL_INVALID, "id %d belongs to both \"%.*s\" and \"%.*s\"", id, (int)(t->raw_n < 60 ? t->raw_n : 60), v->arena.s + t->raw,
			       (int)(n < 60 ? n : 60), raw);
	if (v->arena.len + 2 * n + 2 > UINT32_MAX)
		return bl_fail(err, BL_INVALID, "the tokens have more than 2 GiB of text");
	t->present = true;
	t->raw = (uint32_t)v->arena.len;
	t->raw_n = (uint32_t)n;
	bl_str_addn(&v->arena, raw, n);
	bl_str_addc(&v->arena, '\0');
	t->bytes = (uint32_t)v->arena.len;
	for (size_t at = 0; at < n;) {
		uint32_t cp;
		int len = bl_utf8_next(p + at, n - at, &cp), b = len > 0 ? bl_byte_of_char(cp) : -1;
		if (b < 0) {
			v->arena.len = t->bytes;
			break;
		}
		bl_str_addc(&v->arena, (char)b);
		at += (size_t)len;
	}
	t->n_bytes = (uint32_t)(v->arena.len - t->bytes);
	if (id >= v->size)
		v->size = id + 1;
	return BL_OK;
}

/* ---- tables ---- */

static size_t hash(const void *p, size_t n)
{
	uint64_t h = n * 0x9e3779b97f4a7c15u, a = 0, b = 0;

	if (n > 16)
		return bl_hash64(p, n);
	if (n >= 8) {
		memcpy(&a, p, 8);
		memcpy(&b, (const char *)p + n - 8, 8);
	} else if (n >= 4) {
		uint32_t x, y;
		memcpy(&x, p, 4);
		memcpy(&y, (const char *)p + n - 4, 4);
		a = x, b = y;
	} else if (n) {
		const uint8_t *c = p;
		a = (uint64_t)c[0] << 16 | (uint64_t)c[n / 2] << 8 | c[n - 1];
	}
	h = (h ^ a) * 0xff51afd7ed558ccdu;
	h = (h ^ h >> 32 ^ b) * 0xc4ceb9fe1a85ec53u;
	return (size_t)(h ^ h >> 29);
}

#define CHAIN_MAX 2048 /* honest tables have chains of a few dozen; a file that was made to collide is refused */

static void table_init(struct bl_table *t, size_t n)
{
	size_t slots = 16;

	while (slots < 2 * n)
		slots *= 2;
	bl_free(t->slot);
	t->slot = bl_xalloc(slots, sizeof *t->slot);
	t->mask = slots - 1;
}

/* The id that holds the same text already, -1: it was put in, -2: a chain too long. */
static int32_t table_put(const struct bl_vocab *v, struct bl_table *t, bool raw, int32_t id)
{
	const struct bl_token *mine = &v->t[id];
	const char *text = v->arena.s + (raw ? mine->raw : mine->bytes);
	size_t n = raw ? mine->raw_n : mine->n_bytes, at = hash(text, n) & t->mask;

	for (int i = 0; t->slot[at]; i++, at = (at + 1) & t->mask) {
		const struct bl_token *o = &v->t[t->slot[at] - 1];
		if ((raw ? o->raw_n : o->n_bytes) == n && !memcmp(v->arena.s + (raw ? o->raw : o->bytes), text, n))
			return (int32_t)t->slot[at] - 1;
		if (i == CHAIN_MAX)
			return -2;
	}
	t->slot[at] = (uint32_t)id + 1;
	return -1;
}

enum bl_status bl_vocab_index(struct bl_vocab *v, struct bl_err *err)
{
	size_t n = 0;

	for (int32_t i = 0; i < v->size; i++)
		n += v->t[i].present;
	table_init(&v->by_raw, n);
	table_init(&v->by_bytes, n);
	for (int32_t i = 0; i < v->size; i++) {
		const struct bl_token *t = &v->t[i];
		if (!t->present)
			continue;
		int32_t same = table_put(v, &v->by_raw, true, i);
		if (same >= 0)
			return bl_fail(err, BL_INVALID, "\"%.60s\" has two ids, %d and %d", v->arena.s + t->raw, same, i);
		if (same == -1 && t->model && t->n_bytes)
			same = table_put(v, &v->by_bytes, false, i); /* the alphabet is one to one: not there yet */
		if (same == -2)
			return bl_fail(err, BL_INVALID, "its tokens were made to collide in tables");
	}
	return BL_OK;
}

int32_t bl_vocab_raw(const struct bl_vocab *v, const char *raw, size_t n)
{
	if (!v->by_raw.slot)
		return -1;
	for (size_t at = hash(raw, n) & v->by_raw.mask; v->by_raw.slot[at]; at = (at + 1) & v->by_raw.mask) {
		int32_t id = (int32_t)v->by_raw.slot[at] - 1;
		if (v->t[id].raw_n == n && !memcmp(v->arena.s + v->t[id].raw, raw, n))
			return id;
	}
	return -1;
}

int32_t bl_vocab_bytes(const struct bl_vocab *v, const uint8_t *p, size_t n)
{
	for (size_t at = hash(p, n) & v->by_bytes.mask; v->by_bytes.slot[at]; at = (at + 1) & v->by_bytes.mask) {
		int32_t id = (int32_t)v->by_bytes.slot[at] - 1;
		if (v->t[id].n_bytes == n && !memcmp(v->arena.s + v->t[id].bytes, p, n))
			return id;
	}
	return -1;
}

/* ---- merges ---- */

void bl_vocab_pairs(struct bl_vocab *v, size_t n)
{
	size_t slots = 16;

	while (slots < 2 * n)
		slots *= 2;
	bl_free(v->pairs);
	v->pairs = bl_xalloc(slots, sizeof *v->pairs);
	v->pair_mask = slots - 1;
}

void bl_vocab_merge(struct bl_vocab *v, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
	uint64_t key = bl_pair_key(left, right);
	size_t at = bl_pair_hash(key) & v->pair_mask;

	while (v->pairs[at].key && v->pairs[at].key != key)
		at = (at + 1) & v->pair_mask;
	v->pairs[at] = (struct bl_pair){key, rank, id};
}

void bl_vocab_ready(struct bl_vocab *v)
{
	struct bl_bpe_work w = {0};
	struct bl_ids ids = {0};

	for (int b = 0; b < 256; b++) {
		uint8_t byte = (uint8_t)b;
		v->base[b] = bl_vocab_bytes(v, &byte, 1);
	}
	for (int32_t i = 0; i < v->size; i++) {
		struct bl_token *t = &v->t[i];
		if (!t->model || !t->n_bytes || t->n_bytes > DIRECT_MAX)
			continue;
		ids.n = 0;
		if (!v->ignore_merges) /* else every token is taken as a whole anyway */
			bl_bpe_word(v, &w, (const uint8_t *)v->arena.s + t->bytes, t->n_bytes, &ids);
		t->direct = v->ignore_merges || (ids.n == 1 && ids.ids[0] == i);
	}
	bl_bpe_work_free(&w);
	bl_ids_free(&ids);
}

void bl_vocab_free(struct bl_vocab *v)
{
	bl_free(v->t);
	bl_str_free(&v->arena);
	bl_free(v->by_raw.slot);
	bl_free(v->by_bytes.slot);
	bl_free(v->pairs);
}
