/* SPDX-License-Identifier: Apache-2.0
 * Measures a model and a plan beside it: perplexity, distance to the base model, multiple choice. Protocols (windows, what is predicted, how choices are
 * scored) are stated in the result and on the screen; standard errors with every number. Logits are bf16 as a server's, softmax and sums float32/double. */
#ifndef BL_EVALUATE_EVALUATE_H
#define BL_EVALUATE_EVALUATE_H

#include "core/evaluate/numbers.h"
#include "core/forward/forward.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

#define BL_EVAL_SEQLEN 1024 /* of a window, when nothing else is said */
struct bl_eval_windows { const int32_t *ids; int64_t n, len; }; /* non-overlapping; tokens 2 .. len of each are predicted */
/* done and total count tokens, those of the base and of the plan alike. */
typedef void bl_eval_report(void *ctx, const char *phase, double done, double total, const char *unit);

/* Perplexity and KL in one go over the same windows: base is run once, and the plan from the first block it changes on; set NULL: the base alone (ppl of it,
 * kl untouched). Any of the three outputs may be NULL. Windows go through in passes of about a quarter of a million tokens. */
enum bl_status bl_evaluate_windows(struct bl_forward *f, const struct bl_weight_set *set, const struct bl_eval_windows *w, struct bl_eval_ppl *base,
				   struct bl_eval_ppl *plan, struct bl_eval_kl *kl, bl_eval_report *report, void *ctx, struct bl_err *err);

/* What the base's last block gave, kept in host memory between measurements over the same sequences, as far as `cap` bytes reach: further plans then run alone.
 * The numbers stay what they are, bit for bit. One for each set of sequences; not for sequences that change. */
struct bl_eval_base;
struct bl_eval_base *bl_eval_base_new(uint64_t cap);
void bl_eval_base_free(struct bl_eval_base *b); /* NULL is fine */
enum bl_status bl_evaluate_windows_again(struct bl_eval_base *kept, struct bl_forward *f, const struct bl_weight_set *set, const struct bl_eval_windows *w,
					 struct bl_eval_ppl *base, struct bl_eval_ppl *plan, struct bl_eval_kl *kl, bl_eval_report *report, void *ctx,
					 struct bl_err *err);

/* Reads a file of text rows as the book protocol does: encode each row without special tokens, join, cut into windows of len, at most max_windows (0: all).
 * *ids: bl_free. A file shorter than one window is BL_INVALID. */
enum bl_status bl_eval_windows_load(int32_t **ids, struct bl_eval_windows *w, const char *file, const struct bl_tokenizer *t, const struct bl_chat *chat, int64_t len,
				    int64_t max_windows, struct bl_err *err);

#define BL_MCQ_CHOICES_MAX 16
struct bl_mcq_item { char *question; char *choices[BL_MCQ_CHOICES_MAX]; int n_choices, answer; };
/* jsonl: question, choices, answer (index from 0, a letter from A, or the text of a choice). Every fault names file and line. */
enum bl_status bl_mcq_load(struct bl_mcq_item **out, size_t *n, const char *file, struct bl_err *err);
void bl_mcq_free(struct bl_mcq_item *items, size_t n);

/* Items as sequences: one per choice, context and choice and `end` in one. */
struct bl_mcq_sequences {
	int32_t *ids; int64_t *start, *from; /* start [n + 1]; from: place (from the sequence's start) of the first token that counts */
	int64_t n;
};
/* Context = the question as the user's turn through the chat template with generation prompt (chat NULL: the question alone); context and choice are encoded
 * as one text, and what comes after the context's own tokens is the choice. Sequences of items first .. first + n_items - 1. */
enum bl_status bl_mcq_encode(struct bl_mcq_sequences *s, const struct bl_mcq_item *items, size_t n, const struct bl_tokenizer *t, const struct bl_chat *chat,
			     int32_t end, struct bl_err *err);
void bl_mcq_sequences_free(struct bl_mcq_sequences *s);

/* A choice's score = sum of log p of its tokens and then of `end` (id); the largest wins, the first of equal ones. set NULL: the base alone. */
enum bl_status bl_evaluate_mcq(struct bl_forward *f, const struct bl_weight_set *set, const struct bl_mcq_item *items, size_t n, const struct bl_tokenizer *t,
			       const struct bl_chat *chat, int32_t end, struct bl_eval_mcq *base, struct bl_eval_mcq *plan, bl_eval_report *report, void *ctx,
			       struct bl_err *err);

enum bl_status bl_evaluate_mcq_again(struct bl_eval_base *kept, struct bl_forward *f, const struct bl_weight_set *set, const struct bl_mcq_item *items, size_t n,
				     const struct bl_tokenizer *t, const struct bl_chat *chat, int32_t end, struct bl_eval_mcq *base, struct bl_eval_mcq *plan,
				     bl_eval_report *report, void *ctx, struct bl_err *err);

/* Largest |input| of every unit over the windows, into absmax [n_units]: all that static activations need. */
enum bl_status bl_eval_ranges(float *absmax, struct bl_forward *f, const struct bl_weight_set *set /* may be NULL */, const struct bl_eval_windows *w, bl_eval_report *report, void *ctx, struct bl_err *err);

/* First block in which the set replaces anything; the number of blocks when it is nowhere (or NULL). */
int bl_eval_first_block(const struct bl_model *m, const struct bl_weight_set *set);

#endif
