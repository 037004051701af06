/* SPDX-License-Identifier: Apache-2.0
 * tokenizer.json of a Hugging Face checkpoint: byte-level BPE with NFC, split patterns through PCRE2, added tokens. Gives the ids that the
 * `tokenizers` library gives. What the file asks for and this does not do is refused with the field's name (BL_UNSUPPORTED), never guessed.
 * Const after open: usable from many threads. */
#ifndef BL_TEXT_TOKENIZER_H
#define BL_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/str.h"

struct bl_ids { int32_t *ids; size_t n, cap; }; /* zero-initialise; bl_ids_free */
void bl_ids_free(struct bl_ids *v);

struct bl_tokenizer;
/* folder: of the checkpoint; reads tokenizer.json (at most 256 MiB). */
enum bl_status bl_tokenizer_open(struct bl_tokenizer **out, const char *folder, struct bl_err *err);
/* The same from text in memory; file: for messages. */
enum bl_status bl_tokenizer_parse(struct bl_tokenizer **out, const char *text, size_t n, const char *file, struct bl_err *err);
void bl_tokenizer_free(struct bl_tokenizer *t);
int32_t bl_tokenizer_size(const struct bl_tokenizer *t); /* largest id + 1 */
const char *bl_tokenizer_digest(const struct bl_tokenizer *t); /* SHA-256 of the file, 64 hex */

/* Appends the ids of text. special: also what the post-processor adds (bos); added tokens inside the text are always recognised.
 * Bytes that are not UTF-8 become U+FFFD first, as Python does with errors="replace". */
enum bl_status bl_tokenizer_encode(const struct bl_tokenizer *t, const char *text, size_t n, bool special, struct bl_ids *out, struct bl_err *err);
/* Appends the bytes of the ids; unknown ids are BL_INVALID. skip_special: special added tokens are left out. */
enum bl_status bl_tokenizer_decode(const struct bl_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, struct bl_str *out,
			struct bl_err *err);
/* Appends the token as a person reads it: "[BOS]", " the", "⏎" for a newline, "\x00" for bytes that are not text. */
void bl_tokenizer_piece(const struct bl_tokenizer *t, int32_t id, struct bl_str *out);
int32_t bl_tokenizer_id(const struct bl_tokenizer *t, const char *token); /* of an added or plain token by its exact text; -1: none */
bool bl_tokenizer_is_special(const struct bl_tokenizer *t, int32_t id);

#endif
