/* SPDX-License-Identifier: Apache-2.0
 * Inside of forward: what a block is made of, where its weights are, and the workspace of one batch. */
#ifndef BL_FORWARD_PRIVATE_H
#define BL_FORWARD_PRIVATE_H

#include "core/base/mem.h"
#include "core/forward/forward.h"

enum fw_norm_at { FW_ATTN_IN, FW_ATTN_OUT, FW_MLP_IN, FW_MLP_OUT, FW_Q, FW_K, FW_NORMS };

struct fw_block { /* small things, in the storage type, in the run's memory */
	const void *norm[FW_NORMS];           /* NULL: the family has none there */
	const void *bias[BL_UNIT_KIND_COUNT]; /* [rows of the fused unit]; NULL: none */
};

struct fw_operand { /* what a unit multiplies with: members side by side, or one fused matrix */
	int n;
	struct bk_mat w[BL_MEMBERS_MAX];
	const void *bias;
	const float *scales; /* not NULL: codes */
	enum bl_weights_act act;
	float input_scale;
	int64_t group;
};

struct fw_place { /* device copies of one block's weights */
	char *p;
	int block;           /* -1: empty */
	uint8_t there;       /* bit per unit kind */
};

struct fw_copy { /* of a replacement */
	uint64_t id, bytes, used_at;
	int unit;
	char *p, *scales;
};

struct fw_rope { float *cos, *sin; int64_t n; };

struct fw_work { /* of one batch, in the run's memory */
	int64_t tokens;
	char *base, *x, *y, *wide, *out, *codes; /* out: behind the qkv or gate_up part of wide */
	float *scales;
};

struct bl_forward {
	const struct bl_model *m;
	const struct bl_config *c;
	const struct bl_arch *a;
	struct bl_engine *e;
	struct bl_forward_options o;
	int dtype;                 /* storage: BK_BF16 or BK_F32 */
	size_t elem;
	int64_t q_cols, kv_cols;   /* heads * head_dim, kv_heads * head_dim */
	bool hybrid;               /* some layers slide, some do not */

	char *small;               /* norms and biases of all blocks */
	struct fw_block *blocks;
	const void *final_norm;
	struct fw_other { char *small; struct fw_block *blocks; char digest[65]; } other; /* those of the last set that brought its own */
	struct fw_rope rope, rope_local;
	float embed_scale;
	struct fw_work work;

	/* weights.c */
	uint64_t block_bytes;      /* copies of the largest block; 0: everything is used in place */
	struct fw_place *resident; /* [layers]; p NULL: streamed */
	struct fw_place slot[2];
	int current;               /* block last begun, -1 */
	char *staging; uint64_t staging_bytes; /* raw tensors on their way to another type */
	struct bk_mat embed, head; /* p NULL: not in the run's memory */
	char *embed_copy, *head_copy;
	bool joined;               /* nothing is on its way */
	struct fw_copy *copies; int n_copies; size_t cap_copies;
	uint64_t tick;
};

#define FW_OP(f, err, doing, call) bl_engine_check((f)->e, (f)->e->ops->call, doing, err)
#define FW_RUN(f) (f)->e->run

static inline struct bk_mat fw_mat(void *p, int64_t rows, int64_t cols, int dtype) { return (struct bk_mat){ p, rows, cols, cols, dtype }; }
/* columns first .. first+n of m */
static inline struct bk_mat fw_cols(const struct bk_mat *m, int64_t first, int64_t n)
{
	size_t elem = m->dtype == BK_F32 ? 4 : 2;

	return (struct bk_mat){ (char *)m->p + (size_t)first * elem, m->rows, n, m->ld, m->dtype };
}
static inline struct bk_mat fw_rows(const struct bk_mat *m, int64_t first, int64_t n)
{
	size_t elem = m->dtype == BK_F32 ? 4 : 2;

	return (struct bk_mat){ (char *)m->p + (size_t)(first * m->ld) * elem, n, m->cols, m->ld, m->dtype };
}

/* weights.c */
enum bl_status fw_weights_open(struct bl_forward *f, struct bl_err *err);
void fw_weights_close(struct bl_forward *f);
/* Everything the block needs is there, or will be before operations issued from now on. */
enum bl_status fw_block_begin(struct bl_forward *f, int block, const struct bl_weight_set *set, struct bl_err *err);
enum bl_status fw_operand(struct bl_forward *f, int unit, const struct bl_weight_set *set, struct fw_operand *out, struct bl_err *err);
enum bl_status fw_join(struct bl_forward *f, struct bl_err *err);
/* Rows of a host matrix into the run's memory, in the storage type. */
enum bl_status fw_bring(struct bl_forward *f, void *dst, const void *src, int src_dtype, int64_t rows, int64_t cols, struct bl_err *err);
int fw_dtype_of(enum bl_dtype d); /* enum bk_dtype, or 0 */

/* small.c */
enum bl_status fw_small_open(struct bl_forward *f, struct bl_err *err);
void fw_small_close(struct bl_forward *f);
/* Those of the set, when it has its own, are there from now on. */
enum bl_status fw_small_begin(struct bl_forward *f, const struct bl_weight_set *set, struct bl_err *err);
static inline const struct fw_block *fw_block_of(const struct bl_forward *f, const struct bl_weight_set *set, int block)
{
	return set && set->small ? &f->other.blocks[block] : &f->blocks[block];
}

/* rope.c */
enum bl_status fw_rope_need(struct bl_forward *f, int64_t positions, struct bl_err *err);
void fw_rope_frequencies(const struct bl_rope *r, int64_t head_dim, float *inv_freq); /* [head_dim / 2] */

/* block.c */
struct fw_span { /* rows that go through a block together */
	struct bk_mat h;          /* [tokens, hidden], in place */
	int64_t first_token;      /* for taps */
	const int32_t *position;
	struct bk_sequences seq;
	char *cache_k, *cache_v;  /* of this block, [cache_rows, kv_cols]; NULL: none. Keys and values of h go to rows cache_at ... */
	int64_t cache_rows, cache_at;
};
enum bl_status fw_work_need(struct bl_forward *f, int64_t tokens, struct bl_err *err);
uint64_t fw_work_bytes(const struct bl_model *m, size_t elem, int64_t tokens);
enum bl_status fw_block_run(struct bl_forward *f, int block, const struct bl_weight_set *set, const struct bl_tap *tap, const struct fw_span *s, struct bl_err *err);

/* head.c */
enum bl_status fw_head(struct bl_forward *f, const struct bk_mat *logits, const struct bk_mat *x, struct bl_err *err); /* x after the final norm */
enum bl_status fw_final_norm(struct bl_forward *f, const struct bk_mat *y, const struct bk_mat *x, struct bl_err *err);
/* Embedding rows of ids (host) into y (the run's memory), n of them. */
enum bl_status fw_embed(struct bl_forward *f, const struct bk_mat *y, const int32_t *ids, struct bl_err *err);
/* The same into host memory, from the table in the file. */
enum bl_status fw_embed_host(struct bl_forward *f, char *host, const int32_t *ids, int64_t n, struct bl_err *err);
bool fw_embed_borrow(struct bl_forward *f); /* true: the whole table is there, for fw_embed_return to give back */
void fw_embed_return(struct bl_forward *f);
enum bl_status fw_cancelled(const struct bl_forward *f, struct bl_err *err);

#endif
