/* SPDX-License-Identifier: Apache-2.0
 * Inside of the tokenizer: the vocabulary with its merges, the split steps, normalization, added tokens. Text travels as UTF-8; the byte-level
 * alphabet (a printable character for each byte) is undone when the file is read, so that tokens are compared as the bytes they stand for. */
#ifndef BL_TEXT_PRIVATE_H
#define BL_TEXT_PRIVATE_H

#include "core/text/tokenizer.h"

#define BL_TOKENS_MAX (1 << 22)  /* ids are below this */
#define BL_MERGES_MAX (1 << 23)
#define BL_TOKEN_BYTES 65536     /* of one token's text */
#define BL_STEPS_MAX  16         /* split steps, normalizers, post-processors */

/* ---- characters (unicode.c) ---- */
/* Bytes of the character at p (n > 0 left), its code point in *cp; what is not UTF-8 gives 0xfffd and the bytes that one U+FFFD stands for,
 * negated. */
int bl_utf8_next(const uint8_t *p, size_t n, uint32_t *cp);
void bl_utf8_add(struct bl_str *b, uint32_t cp);
bool bl_is_space(uint32_t cp); /* White_Space */
bool bl_is_word(uint32_t cp);  /* \w of Unicode */
/* Appends text with everything that is not UTF-8 replaced. */
void bl_utf8_repair(struct bl_str *out, const char *text, size_t n);

enum bl_form { BL_NFC, BL_NFD, BL_NFKC, BL_NFKD };
bool bl_normal_quick(enum bl_form form, uint32_t cp); /* always stands for itself, whatever is beside it */
/* Appends the normal form. Returns false when text was already in it (then nothing was appended). */
bool bl_normalize(enum bl_form form, struct bl_str *out, const char *text, size_t n);

/* ---- tokens by text ---- */
struct bl_table { uint32_t *slot; size_t mask; }; /* id + 1 */
struct bl_token {
	uint32_t raw, raw_n;     /* the text in the file, in the arena */
	uint32_t bytes, n_bytes; /* what it stands for; n_bytes 0: not of the byte-level alphabet */
	bool present, model, added, special; /* model: stands in model.vocab */
	bool direct;             /* these bytes as a word give this one id */
};
struct bl_pair { uint64_t key; uint32_t rank; int32_t id; }; /* key 0: free, else (left + 1) << 32 | right + 1 */

struct bl_vocab {
	struct bl_token *t;
	int32_t size;            /* largest id + 1 */
	size_t cap;
	int32_t n_model;         /* how many stand in model.vocab */
	struct bl_str arena;
	struct bl_table by_raw, by_bytes;
	struct bl_pair *pairs; size_t pair_mask;
	int32_t base[256];       /* id of each byte, -1: none */
	int32_t unk;             /* -1: none */
	bool fuse_unk, ignore_merges;
};

static inline const char *bl_token_raw(const struct bl_vocab *v, int32_t id) { return v->arena.s + v->t[id].raw; }
static inline const char *bl_token_bytes(const struct bl_vocab *v, int32_t id) { return v->arena.s + v->t[id].bytes; }

static inline uint64_t bl_pair_key(int32_t left, int32_t right) { return (uint64_t)(uint32_t)(left + 1) << 32 | (uint32_t)(right + 1); }
static inline size_t bl_pair_hash(uint64_t key)
{
	key *= 0x9e3779b97f4a7c15u;
	key = (key ^ key >> 32) * 0xd6e8feb86659fd93u;
	return (size_t)(key ^ key >> 32);
}

int bl_byte_of_char(uint32_t cp); /* of the byte-level alphabet; -1: not in it */
/* BL_INVALID without the file's name: "model.vocab: …". */
enum bl_status bl_vocab_add(struct bl_vocab *v, const char *raw, size_t n, int32_t id, struct bl_err *err);
enum bl_status bl_vocab_index(struct bl_vocab *v, struct bl_err *err); /* the tables; again after more were added */
int32_t bl_vocab_raw(const struct bl_vocab *v, const char *raw, size_t n);     /* -1: none */
int32_t bl_vocab_bytes(const struct bl_vocab *v, const uint8_t *p, size_t n);
void bl_vocab_pairs(struct bl_vocab *v, size_t n); /* room for n merges */
void bl_vocab_merge(struct bl_vocab *v, int32_t left, int32_t right, uint32_t rank, int32_t id); /* a second rank of a pair replaces the first */
void bl_vocab_ready(struct bl_vocab *v); /* base, direct */
void bl_vocab_free(struct bl_vocab *v);

/* ---- merging (bpe.c) ---- */
struct bl_symbol { int32_t id, prev, next; uint32_t live; };
struct bl_queued { uint32_t rank; int32_t pos, id; };
#define BL_CACHE_KEY 24
#define BL_CACHE_IDS 7
struct bl_cached { uint8_t n_key, n_ids; char key[BL_CACHE_KEY]; int32_t ids[BL_CACHE_IDS]; };
#define BL_CACHE_SLOTS 8192
struct bl_bpe_work { /* of one thread */
	struct bl_symbol *s; size_t cap_s;
	struct bl_queued *q; size_t n_q, cap_q;
	struct bl_cached *cache; /* BL_CACHE_SLOTS, or NULL */
};
void bl_bpe_word(const struct bl_vocab *v, struct bl_bpe_work *w, const uint8_t *p, size_t n, struct bl_ids *out);
void bl_bpe_work_free(struct bl_bpe_work *w);
void bl_ids_add(struct bl_ids *v, int32_t id);

/* ---- added tokens (added.c) ---- */
struct bl_added { int32_t id; bool single_word, lstrip, rstrip, normalized; };
struct bl_trie {
	struct bl_trie_edge { uint64_t key; int32_t to; } *edge; size_t n_edges, mask; /* key = node << 8 | byte, + 1 */
	int32_t *added;      /* of each node: index of the added token that ends there, -1 */
	size_t n_nodes, cap_nodes;
	bool first[256];     /* bytes that a token begins with */
	bool any;
};
void bl_trie_add(struct bl_trie *t, const char *text, size_t n, int32_t added);
void bl_trie_free(struct bl_trie *t);
struct bl_found { size_t start, end; int32_t id; }; /* id -1: text between */
struct bl_found_list { struct bl_found *f; size_t n, cap; };
void bl_added_split(const struct bl_trie *t, const struct bl_added *added, const char *text, size_t n, struct bl_found_list *out);

/* ---- splitting (pattern.c, split.c) ---- */
/* Rewrites an expression of Oniguruma (Ruby syntax) into one of PCRE2 that matches the same; refuses what has no such. */
enum bl_status bl_pattern_translate(struct bl_str *out, const char *pattern, size_t n, struct bl_err *err);
extern const char bl_pattern_gpt2[];

enum bl_behavior { BL_REMOVED, BL_ISOLATED, BL_MERGED_PREVIOUS, BL_MERGED_NEXT, BL_CONTIGUOUS };
struct bl_step {
	void *code;              /* pcre2_code; NULL: only the prefix space */
	enum bl_behavior behavior;
	bool invert, prefix_space;
};
/* where: the field, for messages. */
enum bl_status bl_step_compile(struct bl_step *s, const char *pattern, size_t n, const char *where, struct bl_err *err);
void bl_step_free(struct bl_step *s);

struct bl_split_work { /* of one thread */
	void *data[BL_STEPS_MAX]; /* pcre2_match_data */
	void *context, *stack;
	struct bl_str prefixed[BL_STEPS_MAX];
	uint64_t started_ns; size_t pieces, bytes;
};
void bl_split_work_free(struct bl_split_work *w);
typedef void bl_piece_fn(void *ctx, const char *piece, size_t n);
enum bl_status bl_split(const struct bl_step *steps, int n_steps, struct bl_split_work *w, const char *text, size_t n, bl_piece_fn *fn, void *ctx,
			struct bl_err *err);

/* ---- the file (tokenizer_file.c) ---- */
struct bl_work { struct bl_bpe_work bpe; struct bl_split_work split; struct bl_str repaired, normal, other; struct bl_found_list raw, normalized; };
#define BL_WORKS 16
struct bl_tokenizer {
	char digest[65];
	struct bl_vocab vocab;
	enum bl_form forms[BL_STEPS_MAX]; int n_forms;
	struct bl_step steps[BL_STEPS_MAX]; int n_steps;
	bool byte_level;         /* the last step was seen */
	struct bl_added *added; size_t n_added;
	struct bl_trie raw, normalized; /* added tokens looked for before and after normalization */
	int32_t *before, *after; size_t n_before, n_after; /* what special adds around a text */
	_Atomic(struct bl_work *) *works; /* BL_WORKS idle ones, for whoever comes first */
};
enum bl_status bl_tokenizer_read(struct bl_tokenizer *t, const char *text, size_t n, const char *file, struct bl_err *err);

#endif
