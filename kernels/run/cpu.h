/* SPDX-License-Identifier: Apache-2.0
 * Inside of the CPU back end: its memory is the host's, every operation is done when it returns. Work is cut into items whose size depends on
 * shapes only, so that results do not depend on the number of threads. */
#ifndef BK_RUN_CPU_H
#define BK_RUN_CPU_H

#include <stdatomic.h>

#include "kernels/run/rows.h"
#include "kernels/run/run.h"
#include "kernels/run/tile.h"


struct bk_block;
struct bk_desk { atomic_flag taken; float *p; size_t bytes; }; /* scratch of one item */

struct bk_run {
	struct bk_run_options o;
	const struct bk_rows *rows;
	bk_tile_fn *tile;
	struct bk_block *blocks, *host_blocks;
	uint64_t used;
	struct bk_desk shared[3]; /* scratch of one operation */
	struct bk_desk *desks;    /* of its items */
	int n_desks;
};

static inline int64_t bk_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t bk_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t bk_cut(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline size_t bk_elem(int dtype) { return dtype == BK_F32 ? 4 : dtype == BK_BF16 || dtype == BK_F16 ? 2 : 1; }
static inline int bk_is_float(int dtype) { return dtype == BK_F32 || dtype == BK_BF16 || dtype == BK_F16; }
static inline void *bk_at(const struct bk_mat *m, int64_t i, int64_t j) { return (char *)m->p + (size_t)(i * m->ld + j) * bk_elem(m->dtype); }
static inline int bk_same_shape(const struct bk_mat *a, const struct bk_mat *b) { return a->rows == b->rows && a->cols == b->cols; }
static inline int bk_shaped(const struct bk_mat *m) { return m->rows >= 0 && m->cols >= 0 && (m->rows < 2 || m->ld >= m->cols); }

/* Runs fn(arg, 0..n-1). */
void bk_each(struct bk_run *r, size_t n, bk_parallel_fn *fn, void *arg);
/* Rows per item so that an item has about 32 Ki elements. */
static inline int64_t bk_rows_per_item(int64_t cols) { return bk_max(1, 32768 / bk_max(1, cols)); }
float *bk_shared(struct bk_run *r, int which, size_t floats); /* NULL: no memory. Contents do not last. */
/* Makes sure that every item can have so many floats, then each takes and gives back. */
int bk_desks_need(struct bk_run *r, size_t floats);
struct bk_desk *bk_desk_take(struct bk_run *r);
void bk_desk_give(struct bk_desk *d);

#define BK_OP(name, ...) int bk_cpu_##name(struct bk_run *r, __VA_ARGS__)
BK_OP(gemm, const struct bk_mat *c, const struct bk_mat *a, int ta, const struct bk_mat *b, int tb, float alpha, float beta, const void *bias);
BK_OP(gemm_codes, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, const void *bias);
BK_OP(quant_tokens, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind);
BK_OP(quant_static, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float scale);
BK_OP(quant_groups, const struct bk_mat *codes, float *scales, const struct bk_mat *x, const struct bk_rounding *how);
BK_OP(gemm_groups, const struct bk_mat *y, const struct bk_mat *x, const float *sx, const struct bk_mat *w, const float *sw, int64_t group, const void *bias);
BK_OP(round_inputs, const struct bk_mat *y, const struct bk_mat *x, const struct bk_rounding *how);
BK_OP(hessian, const struct bk_mat *h, const struct bk_mat *x);
BK_OP(mirror, const struct bk_mat *h);
BK_OP(gather, const struct bk_mat *y, const struct bk_mat *e, const int32_t *ids, float scale);
BK_OP(convert, const struct bk_mat *dst, const struct bk_mat *src);
BK_OP(rmsnorm, const struct bk_mat *y, const struct bk_mat *x, const struct bk_norm *n);
BK_OP(add, const struct bk_mat *x, const struct bk_mat *a);
BK_OP(add_rmsnorm, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n);
BK_OP(rmsnorm_add, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n);
BK_OP(head_norm_rope, const struct bk_mat *x, int heads, int head_dim, const struct bk_norm *n, const struct bk_rope *rope);
BK_OP(attention, const struct bk_mat *out, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v, const struct bk_attention *a);
BK_OP(attention_lse, const struct bk_mat *out, float *lse, const struct bk_mat *q, const struct bk_mat *k, const struct bk_mat *v,
      const struct bk_attention *a);
BK_OP(gate, const struct bk_mat *h, const struct bk_mat *g, const struct bk_mat *u, enum bk_gate kind);
BK_OP(softcap, const struct bk_mat *x, double cap);
BK_OP(input_stats, const struct bk_input_acc *acc, const struct bk_mat *x);
BK_OP(diff_sums, double *sums, const struct bk_mat *a, const struct bk_mat *b);
BK_OP(dot, double *sum, const struct bk_mat *a, const struct bk_mat *b);
BK_OP(row_loss, const struct bk_row_loss *out, const struct bk_mat *logits, const int32_t *targets);
BK_OP(row_kl, const struct bk_row_kl *out, const struct bk_mat *p, const struct bk_mat *q, const int32_t *targets);

#endif
