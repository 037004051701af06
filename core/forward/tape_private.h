/* SPDX-License-Identifier: Apache-2.0
 * A tape, for the files that work on it. */
#ifndef BL_FORWARD_TAPE_PRIVATE_H
#define BL_FORWARD_TAPE_PRIVATE_H

#include "core/forward/private.h"
#include "core/forward/tape.h"
#include "kernels/grad/grad.h"

struct bl_tape {
	struct bl_forward *f;
	int64_t tokens, len;
	struct bk_sequences seq;
	int32_t *index;       /* positions [tokens], starts [windows + 1]; in the run's memory */
	char *base;
	/* of the block that ran last */
	struct bk_mat in[BL_UNIT_KIND_COUNT]; /* what its units multiplied; views of these: */
	struct bk_mat attn_x, heads_x, mlp_x; /* normed or rounded inputs */
	struct bk_mat qkv, qk;                /* as the product gave them; queries and keys normed and turned */
	struct bk_mat lse, heads;             /* attention's */
	struct bk_mat attn_y, mid;            /* what o gave; the residual between the halves */
	struct bk_mat both, act, mlp_y;
	/* gradients */
	struct bk_mat d_one, d_wide, d_in, dw;
	/* the head's, of a chunk of rows */
	char *head_base;
	int64_t head_rows;
	struct bk_mat head_n, logits, base_logits, d_n;
	float *kl;
};

bool fw_tape_rope(const struct bl_tape *t, int block, struct bk_rope *rope); /* false: this block's heads do not turn */
struct bk_attention fw_tape_attention(const struct bl_tape *t, int block);

#define TAPE_GRAD(t, err, doing, call) bl_engine_check((t)->f->e, (t)->f->e->grad->call, doing, err)

#endif
