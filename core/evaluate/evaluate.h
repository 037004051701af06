/* SPDX-License-Identifier: Apache-2.0
 * Measures a model and a plan beside it: perplexity, distance to the base model, multiple choice. Protocols (windows, what is predicted, how choices are
 * scored) are stated in the result and on the screen; standard errors with every number. Logits are bf16 as a server's, softmax and sums float32/double. */
#ifndef BL_EVALUATE_EVALUATE_H
#define BL_EVALUATE_EVALUATE_H

#include "core/forward/forward.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

struct bl_eval_ppl { double value, stderr_, nll; int64_t tokens, windows; };
struct bl_eval_kl { double mean, stderr_, median, p99, max, top1; int64_t tokens; };
struct bl_eval_mcq { double acc, stderr_, flips; int64_t n; }; /* flips: share of items whose correctness differs from the base */

struct bl_eval_windows { const int32_t *ids; int64_t n, len; }; /* non-overlapping; tokens 2 .. len of each are predicted */
typedef void bl_eval_report(void *ctx, const char *phase, double done, double total, const char *unit);

/* Perplexity and KL in one go over the same windows: base is run once; set NULL: the base alone (ppl of it, kl untouched). Any of the three outputs may be NULL. */
enum bl_status bl_evaluate_windows(struct bl_forward *f, const struct bl_weight_set *set, const struct bl_eval_windows *w, struct bl_eval_ppl *base,
				   struct bl_eval_ppl *plan, struct bl_eval_kl *kl, bl_eval_report *report, void *ctx, struct bl_err *err);

/* Reads a file of text rows as the book protocol does: encode each row without special tokens, join, cut into windows of len, at most max_windows (0: all). */
enum bl_status bl_eval_windows_load(int32_t **ids, struct bl_eval_windows *w, const char *file, const struct bl_tokenizer *t, const struct bl_chat *chat, int64_t len,
				    int64_t max_windows, struct bl_err *err);

struct bl_mcq_item { char *question; char *choices[16]; int n_choices, answer; };
enum bl_status bl_mcq_load(struct bl_mcq_item **out, size_t *n, const char *file, struct bl_err *err); /* jsonl: question, choices, answer (index or letter) */
void bl_mcq_free(struct bl_mcq_item *items, size_t n);
/* Context = the question as the user's turn through the chat template with generation prompt; a choice's score = sum of log p of its tokens and then of `end` (id). */
enum bl_status bl_evaluate_mcq(struct bl_forward *f, const struct bl_weight_set *set, const struct bl_mcq_item *items, size_t n, const struct bl_tokenizer *t,
			       const struct bl_chat *chat, int32_t end, struct bl_eval_mcq *base, struct bl_eval_mcq *plan, bl_eval_report *report, void *ctx,
			       struct bl_err *err);

#endif
