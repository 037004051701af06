/* SPDX-License-Identifier: Apache-2.0
 * A checkpoint on an engine, block by block. bl_forward owns the device copies of weights (all of them when they fit, else one block and the next,
 * streamed); bl_pass is a set of sequences on its way through the blocks, its hidden states on the device or, when they do not fit, in host memory.
 * The same sequences on the same engine with the same options give the same bits, whatever else ran. Everything returns with the device idle or with
 * work queued in order; errors leave pass and forward fit for bl_*_free. */
#ifndef BL_FORWARD_FORWARD_H
#define BL_FORWARD_FORWARD_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/backend/engine.h"
#include "core/forward/weights.h"
#include "core/model/model.h"

struct bl_forward_options {
	bool fp32;               /* everything in float32 (to compare with references); else bf16 storage, fp32 accumulation */
	int64_t batch_tokens;    /* at most so many tokens go through a block at once (whole sequences; one longer sequence goes alone); 0: chosen from memory */
	uint64_t weight_bytes;   /* device memory that weights may keep; 0: chosen (all of them, if three quarters of what is free hold them) */
	bool bf16_frequencies;   /* RoPE frequencies rounded to bfloat16, as in a model object that was cast as a whole (only to compare with what such a one gave) */
	const atomic_int *cancel; /* looked at between batches; may be NULL */
	uint64_t host_bytes;     /* host memory that hidden states of a pass may take; 0: whatever there is */
	const char *spill_dir;   /* folder for a file with those that take more (mapped, gone with the pass); NULL: then there is no pass. Borrowed */
	const struct bl_weight_set *own; /* of a checkpoint that is quantized: what its units compute with (NULL entries: plain weights); borrowed. NULL: it is not */
};
struct bl_forward;
enum bl_status bl_forward_new(struct bl_forward **out, const struct bl_model *m, struct bl_engine *e, const struct bl_forward_options *o, struct bl_err *err);
void bl_forward_free(struct bl_forward *f);
const struct bl_model *bl_forward_model(const struct bl_forward *f);
struct bl_engine *bl_forward_engine(const struct bl_forward *f);
/* Host and device bytes that a pass over so many tokens needs beside weights (for the preflight). */
void bl_forward_need(const struct bl_model *m, bool fp32, int64_t tokens, int64_t batch_tokens, uint64_t *device, uint64_t *host);

/* What a unit multiplies with, in the run's memory: the checkpoint's own weights (w NULL) or a replacement's, members side by side or one fused matrix.
 * Brought in when they are not there; a replacement's copy stays for the next pass. Valid until another block, or another replacement, is asked for. */
struct bl_operand { int n; struct bk_mat w[BL_MEMBERS_MAX]; const float *scales; };
enum bl_status bl_forward_operand(struct bl_forward *f, int unit, const struct bl_unit_weights *w, struct bl_operand *out, struct bl_err *err);

/* y = x wᵀ over codes, x rounded as the server does it; codes [tokens, cols] bytes, scales [tokens, bl_forward_scales_most(cols)], in the run's memory. */
struct bl_codes_product { const struct bk_mat *w; const float *scales; enum bl_weights_act act; float input_scale; int64_t group; const void *bias; };
enum bl_status bl_forward_codes_product(struct bl_engine *e, const struct bl_codes_product *p, const struct bk_mat *y, const struct bk_mat *x, void *codes, float *scales,
					struct bl_err *err);
int64_t bl_forward_scales_most(int64_t cols);

struct bl_sequences { const int32_t *ids; const int64_t *start; int64_t n; }; /* sequence s: ids[start[s]] .. ids[start[s+1]-1]; start[0] = 0; borrowed for the pass */
struct bl_pass;
enum bl_status bl_pass_new(struct bl_pass **out, struct bl_forward *f, const struct bl_sequences *s, struct bl_err *err); /* ids checked against the vocabulary */
void bl_pass_free(struct bl_pass *p);
int64_t bl_pass_tokens(const struct bl_pass *p);
int bl_pass_batches(const struct bl_pass *p);
uint64_t bl_pass_spilled(const struct bl_pass *p); /* bytes of hidden states in a file; 0: none */
int64_t bl_pass_batch_tokens(const struct bl_pass *p); /* of the largest batch; given to set_batch it makes the same batches */
/* At most so many tokens at once from the next block on (fewer when memory is short: ask again); hidden states stay. */
enum bl_status bl_pass_set_batch(struct bl_pass *p, int64_t batch_tokens, struct bl_err *err);

/* Sees the inputs of linears while a block runs: the four distinct ones (qkv, o, gate_up, down), one call per batch, x [tokens of the batch, K] in the
 * run's memory, valid during the call; it may issue operations on the engine. output (may be NULL): what the linear gave. */
struct bl_tap {
	void *ctx;
	enum bl_status (*input)(void *ctx, int unit, int64_t first_token, const struct bk_mat *x, struct bl_err *err);
	enum bl_status (*output)(void *ctx, int unit, int64_t first_token, const struct bk_mat *y, struct bl_err *err);
	void (*batch_done)(void *ctx, int block, int64_t tokens_done); /* progress; may be NULL */
};

enum bl_status bl_pass_embed(struct bl_pass *p, struct bl_err *err);                          /* hidden := embedding */
enum bl_status bl_pass_block(struct bl_pass *p, int block, const struct bl_weight_set *set /* may be NULL */, const struct bl_tap *tap /* may be NULL */,
			     struct bl_err *err);                                             /* hidden := block(hidden), all batches */
/* One batch of it, for passes that go side by side; every batch once, in any order. */
enum bl_status bl_pass_step(struct bl_pass *p, int block, int batch, const struct bl_weight_set *set, const struct bl_tap *tap, struct bl_err *err);
/* All blocks from `first` on (hidden = the input of `first`). */
enum bl_status bl_pass_run(struct bl_pass *p, int first, const struct bl_weight_set *set, const struct bl_tap *tap, struct bl_err *err);
/* Hidden states of tokens first .. first+n-1, [n, hidden] in the pass's storage type (bf16, or float32 with fp32), to and from the host. */
enum bl_status bl_pass_read(struct bl_pass *p, int64_t first, int64_t n, void *host, struct bl_err *err);
enum bl_status bl_pass_write(struct bl_pass *p, int64_t first, int64_t n, const void *host, struct bl_err *err);
size_t bl_pass_row_bytes(const struct bl_pass *p);
/* dst gets src's hidden states (same sequences, same forward). */
enum bl_status bl_pass_copy(struct bl_pass *dst, struct bl_pass *src, struct bl_err *err);
/* Begins to bring a block's weights in while others run; only a hint. */
void bl_forward_prefetch(struct bl_forward *f, int block, const struct bl_weight_set *set);

/* Final norm and head for chosen tokens (indices into the pass, ascending; NULL: all), in chunks: `rows` gets [n, vocab] logits in the run's memory (bf16, or
 * float32 with fp32; final cap applied), valid during the call. max_rows: rows per chunk, 0: chosen. */
struct bl_head_sink { void *ctx; enum bl_status (*rows)(void *ctx, int64_t first, const struct bk_mat *logits, struct bl_err *err); };
enum bl_status bl_pass_head(struct bl_pass *p, const int64_t *tokens, int64_t n, int64_t max_rows, const struct bl_head_sink *sink, struct bl_err *err);
/* Logits of base and other side by side, for the same tokens of two passes over the same sequences. kept (may be NULL): base's logits stay there from one
 * call to the next, which must be for the same tokens in the same chunks; rows are the bits that a call without it makes. */
struct bl_head_kept { char *logits; int64_t rows; bool filled; };
void bl_head_keep(struct bl_head_kept *k, struct bl_forward *f, int64_t n); /* of n tokens, when a quarter of what is free holds them; else nothing is kept */
void bl_head_drop(struct bl_head_kept *k, struct bl_forward *f);
struct bl_head_pair { void *ctx; enum bl_status (*rows)(void *ctx, int64_t first, const struct bk_mat *p, const struct bk_mat *q, struct bl_err *err); };
enum bl_status bl_pass_head_pair(struct bl_pass *base, struct bl_pass *other, const int64_t *tokens, int64_t n, int64_t max_rows, const struct bl_head_pair *sink,
				 struct bl_head_kept *kept, struct bl_err *err);
/* The final norm alone on all hidden states, in place (to write hidden states as references do). */
enum bl_status bl_pass_final_norm(struct bl_pass *p, struct bl_err *err);

/* KV-cached decoding, greedy or sampled (temperature > 0: softmax sampling with top_p, from `seed`). Ends at n tokens or at one of `stop`. next: called with each new id; false ends. */
struct bl_generate_options { int64_t n; double temperature, top_p; uint64_t seed; const int32_t *stop; int n_stop; };
enum bl_status bl_generate(struct bl_forward *f, const struct bl_weight_set *set, const int32_t *prompt, int64_t n_prompt, const struct bl_generate_options *o,
			   bool (*next)(void *ctx, int32_t id), void *ctx, struct bl_err *err);

#endif
