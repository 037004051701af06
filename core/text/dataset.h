/* SPDX-License-Identifier: Apache-2.0
 * Data files for calibration and evaluation: .jsonl (.ndjson, .json) whose rows, one object a line, hold `text`, `messages`, `conversations` (role/content or from/value), `prompt`
 * or `input_ids`; .txt and anything else is plain text, one row. Rows keep file order; every row is accounted for: used, dropped (why), cut. */
#ifndef BL_TEXT_DATASET_H
#define BL_TEXT_DATASET_H

#include <stdatomic.h>

#include "core/text/chat.h"
#include "core/text/tokenizer.h"

struct bl_dataset_row {
	char *file; /* borrowed: base name of the file */
	int64_t line;           /* from 1 */
	const char *layout;     /* "text", "messages", "conversations", "prompt", "input_ids" */
	size_t first, n;        /* its ids in bl_dataset.ids */
	char *text;             /* what was tokenized, with keep_text; NULL for input_ids */
	size_t text_n;
};
struct bl_dataset_drop { char *file; int64_t line; char why[120]; };

struct bl_dataset {
	struct bl_ids ids;                        /* of all used rows, one after the other */
	struct bl_dataset_row *rows; size_t n_rows;
	struct bl_dataset_drop *drops; size_t n_drops; /* the first 1000 */
	int64_t read, used, dropped, cut;
	char **files; size_t n_files;
	char digest[65];                          /* over ids and row lengths */
};

struct bl_dataset_options {
	bool special;            /* let the tokenizer add bos/eos to each row */
	int64_t max_row_tokens;  /* longer rows are cut (counted); 0: no limit */
	int64_t max_tokens;      /* stop reading when so many ids are there; 0: all */
	const atomic_int *cancel; /* may be NULL */
	bool keep_text;          /* rows keep what was tokenized: templates rendered */
	bool generation;         /* conversations end with the prompt for the assistant's turn */
};

/* chat may be NULL: rows of messages are then dropped with the reason `chat_why` (may be NULL); a plain `prompt` is then
 * text, else a user's turn, with `response` or `completion` as the assistant's. t may be NULL: then only input_ids can be used. A file that cannot
 * be read or has no usable row is an error. */
enum bl_status bl_dataset_load(struct bl_dataset **out, const char *const *files, size_t n_files, const struct bl_tokenizer *t,
			       const struct bl_chat *chat, const char *chat_why, const struct bl_dataset_options *o, struct bl_err *err);
void bl_dataset_free(struct bl_dataset *d);

/* Rows joined without separators and cut into windows of `len` ids, the tail dropped: [n, len] ids inside d->ids (borrowed). Packing without
 * padding. */
struct bl_windows { const int32_t *ids; int64_t n, len; };
void bl_dataset_windows(struct bl_windows *w, const struct bl_dataset *d, int64_t len, int64_t max_windows /* 0: all */);

#endif
