/* SPDX-License-Identifier: Apache-2.0
 * A block forwards with all that the way back needs, and back, for one batch of windows of one length. The block's linears multiply with weights that the
 * caller gives (in the forward's storage type, in the run's memory) and may round their inputs as a server would; everything else is the checkpoint's.
 * Gradients pass straight through roundings. What is kept is of one block at a time: who wants more runs a block again before it goes back through it.
 * The same calls give the same bits. */
#ifndef BL_FORWARD_TAPE_H
#define BL_FORWARD_TAPE_H

#include "core/forward/forward.h"

struct bl_tape_weight { struct bk_mat w; enum bl_weights_act act; float input_scale; }; /* [rows, cols] of the fused unit; act: what happens to its input */

/* Sees dL/dW of a block's units on the way back, float32 [rows, cols] without gaps, valid during the call, during which it may be overwritten. */
struct bl_tape_sink {
	void *ctx;
	bool (*wants)(void *ctx, int unit); /* NULL: all */
	enum bl_status (*gradient)(void *ctx, int unit, const struct bk_mat *g, struct bl_err *err);
};

struct bl_tape;
enum bl_status bl_tape_new(struct bl_tape **out, struct bl_forward *f, int64_t windows, int64_t len, struct bl_err *err);
void bl_tape_free(struct bl_tape *t);
uint64_t bl_tape_bytes(const struct bl_model *m, bool fp32, int64_t tokens);
int64_t bl_tape_tokens(const struct bl_tape *t);

/* y = block(x), both [tokens, hidden]; y may not be x: the way back looks at x again. w: of the block's four units, in the order of their kinds. */
enum bl_status bl_tape_block(struct bl_tape *t, int block, const struct bl_tape_weight *w, const struct bk_mat *x, const struct bk_mat *y, struct bl_err *err);
/* d: dL/dy on entry, dL/dx on return (unless !through: then it is garbage); of the block that bl_tape_block ran last, with the same w and x. */
enum bl_status bl_tape_back(struct bl_tape *t, int block, const struct bl_tape_weight *w, const struct bk_mat *x, const struct bk_mat *d, bool through,
			    const struct bl_tape_sink *sink, struct bl_err *err);

/* Mean over the tokens of KL(base || this) in nats from what came out of the last block of either, y and base [tokens, hidden]; the last token of each window
 * counts as the others do. d [tokens, hidden] (NULL: not wanted): its gradient with respect to y. The sum over tokens is added to *kl. */
enum bl_status bl_tape_kl(struct bl_tape *t, const struct bk_mat *y, const struct bk_mat *base, const struct bk_mat *d, double *kl, struct bl_err *err);

/* Of a pass over windows of the tape's length: hidden states of window `from` into row window * len of `to`. */
enum bl_status bl_tape_take(struct bl_tape *t, struct bl_pass *p, int64_t from, const struct bk_mat *to, int64_t window, struct bl_err *err);
/* The other way. */
enum bl_status bl_tape_give(struct bl_tape *t, struct bl_pass *p, int64_t to, const struct bk_mat *from, int64_t window, struct bl_err *err);
/* Embedding rows of ids [tokens] (host). */
enum bl_status bl_tape_embed(struct bl_tape *t, const int32_t *ids, const struct bk_mat *to, struct bl_err *err);

#endif
