/* SPDX-License-Identifier: Apache-2.0
 * The taped block. Forwards it is block.c's, step by step, with every operand of a later gradient in a place of its own. */
#include "core/forward/tape.h"

#include <math.h>
#include <string.h>

#include "core/forward/pass.h"
#include "core/forward/tape_private.h"

static uint64_t piece(int64_t rows, int64_t cols, size_t elem) { return ((uint64_t)(rows * cols) * elem + 255) & ~(uint64_t)255; }

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

struct place { char *p; uint64_t at; }; /* p NULL: only counted */

static struct bk_mat put_mat(struct place *w, int64_t rows, int64_t cols, int dtype)
{
	struct bk_mat m = fw_mat(w->p ? w->p + w->at : NULL, rows, cols, dtype);

	w->at += piece(rows, cols, dtype == BK_F32 ? 4 : 2);
	return m;
}

/* All buffers of a batch, one after the other. */
static uint64_t lay_out(struct bl_tape *t, const struct bl_model *m, int dtype, int64_t n, char *p)
{
	const struct bl_config *c = &m->config;
	const int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	struct place w = { p, 0 };
	int64_t largest = 0;

	for (int i = 0; i < m->n_units; i++)
		largest = most(largest, m->units[i].rows * m->units[i].cols);
	t->attn_x = put_mat(&w, n, c->hidden, dtype);
	t->qkv = put_mat(&w, n, q + 2 * kv, dtype);
	t->qk = put_mat(&w, n, q + kv, dtype);
	t->lse = put_mat(&w, n, c->heads, BK_F32);
	t->heads = put_mat(&w, n, q, dtype);
	t->heads_x = put_mat(&w, n, q, dtype);
	t->attn_y = put_mat(&w, n, c->hidden, dtype);
	t->mid = put_mat(&w, n, c->hidden, dtype);
	t->mlp_x = put_mat(&w, n, c->hidden, dtype);
	t->both = put_mat(&w, n, 2 * c->ffn, dtype);
	t->act = put_mat(&w, n, c->ffn, dtype);
	t->mlp_y = put_mat(&w, n, c->hidden, dtype);
	t->d_one = put_mat(&w, n, c->hidden, dtype);
	t->d_wide = put_mat(&w, n, most(q + 2 * kv, 2 * c->ffn), dtype);
	t->d_in = put_mat(&w, n, most(q, c->ffn), dtype);
	t->dw = put_mat(&w, 1, largest, BK_F32);
	return w.at;
}

uint64_t bl_tape_bytes(const struct bl_model *m, bool fp32, int64_t tokens)
{
	struct bl_tape t;

	return lay_out(&t, m, fp32 ? BK_F32 : BK_BF16, tokens, NULL);
}

int64_t bl_tape_tokens(const struct bl_tape *t) { return t->tokens; }

static enum bl_status make_index(struct bl_tape *t, int64_t windows, int64_t len, struct bl_err *err)
{
	struct bl_forward *f = t->f;
	const int64_t n = t->tokens + windows + 1;
	int32_t *host;

	if (bl_try_alloc(&host, (size_t)n, sizeof *host, "positions", err))
		return err->status;
	for (int64_t i = 0; i < t->tokens; i++)
		host[i] = (int32_t)(i % len);
	for (int64_t i = 0; i <= windows; i++)
		host[t->tokens + i] = (int32_t)(i * len);
	if (!bl_engine_alloc(f->e, (void **)&t->index, (size_t)n * sizeof *host, "positions", err))
		FW_OP(f, err, "positions", put(FW_RUN(f), t->index, host, (size_t)n * sizeof *host));
	bl_free(host);
	t->seq = (struct bk_sequences){ (int)windows, t->index + t->tokens, t->index + t->tokens, len, len };
	return err->status ? err->status : fw_rope_need(f, len, err);
}

enum bl_status bl_tape_new(struct bl_tape **out, struct bl_forward *f, int64_t windows, int64_t len, struct bl_err *err)
{
	struct bl_tape *t = bl_xalloc(1, sizeof *t);

	t->f = f;
	t->len = len;
	t->tokens = windows * len;
	if (!f->e->grad)
		bl_fail(err, BL_NO_DEVICE, "this device cannot tune: the CUDA module belongs to another build of bitlathe");
	else if (windows < 1 || len < 1 || t->tokens > INT32_MAX / 2)
		bl_fail(err, BL_INVALID, "%lld windows of %lld tokens cannot be tuned on at once", (long long)windows, (long long)len);
	else if (!bl_engine_alloc(f->e, (void **)&t->base, (size_t)lay_out(t, f->m, f->dtype, t->tokens, NULL), "what a block keeps for the way back", err)) {
		lay_out(t, f->m, f->dtype, t->tokens, t->base);
		make_index(t, windows, len, err);
	}
	if (err->status)
		bl_tape_free(t);
	else
		*out = t;
	return err->status;
}

void bl_tape_free(struct bl_tape *t)
{
	if (!t)
		return;
	t->f->e->ops->wait(t->f->e->run);
	bl_engine_release(t->f->e, t->base);
	bl_engine_release(t->f->e, t->index);
	bl_engine_release(t->f->e, t->head_base);
	bl_free(t);
}

/* --- forwards --- */

static struct bk_norm norm_at(const struct bl_tape *t, int block, enum fw_norm_at at)
{
	return (struct bk_norm){ t->f->blocks[block].norm[at], (enum bk_dtype)t->f->dtype, t->f->c->rms_eps, t->f->a->norm_plus_one };
}

/* What the unit multiplies with: x, or x rounded, in `rounded`. */
static enum bl_status input(struct bl_tape *t, const struct bl_tape_weight *w, const struct bk_mat *rounded, const struct bk_mat *x, struct bk_mat *out, struct bl_err *err)
{
	const bool fp8 = w->act == BL_WEIGHTS_ACT_FP8_TOKEN || w->act == BL_WEIGHTS_ACT_FP8_STATIC, fixed = w->act == BL_WEIGHTS_ACT_INT8_STATIC || w->act == BL_WEIGHTS_ACT_FP8_STATIC;

	*out = *x;
	if (w->act == BL_WEIGHTS_ACT_NONE)
		return BL_OK;
	*out = *rounded;
	return TAPE_GRAD(t, err, "rounding inputs", fake_tokens(FW_RUN(t->f), rounded, x, fp8 ? BK_TOKEN_E4M3 : BK_TOKEN_INT8, fixed ? w->input_scale : 0));
}

static enum bl_status linear(struct bl_tape *t, int block, enum bl_unit_kind kind, const struct bl_tape_weight *w, const struct bk_mat *y, const struct bk_mat *x,
			     struct bl_err *err)
{
	return FW_OP(t->f, err, "a product", gemm(FW_RUN(t->f), y, x, 0, &w[kind].w, 1, 1, 0, t->f->blocks[block].bias[kind]));
}

static bool slides(const struct bl_tape *t, int block) { return t->f->c->sliding_window > 0 && t->f->c->sliding[block]; }

bool fw_tape_rope(const struct bl_tape *t, int block, struct bk_rope *rope)
{
	const struct bl_forward *f = t->f;
	const struct fw_rope *table = f->c->has_rope_local && slides(t, block) ? &f->rope_local : &f->rope;

	*rope = (struct bk_rope){ table->cos, table->sin, t->index, table->n };
	return !(f->a->rope_only_sliding && f->hybrid) || slides(t, block);
}

struct bk_attention fw_tape_attention(const struct bl_tape *t, int block)
{
	const struct bl_config *c = t->f->c;

	return (struct bk_attention){ .heads = (int)c->heads, .kv_heads = (int)c->kv_heads, .head_dim = (int)c->head_dim,
				      .scale = 1 / sqrt(c->attn_scalar > 0 ? c->attn_scalar : (double)c->head_dim), .softcap = c->attn_cap,
				      .window = slides(t, block) ? c->sliding_window : 0, .seq = t->seq };
}

static enum bl_status turn_heads(struct bl_tape *t, int block, const struct bk_mat *y, const struct bk_mat *x, int64_t heads, enum fw_norm_at at, struct bl_err *err)
{
	struct bl_forward *f = t->f;
	struct bk_norm n = norm_at(t, block, at);
	struct bk_rope rope;
	const bool turned = fw_tape_rope(t, block, &rope), whole = n.weight && f->a->qk_norm_whole;

	if (whole && FW_OP(f, err, "a norm", rmsnorm(FW_RUN(f), y, x, &n)))
		return err->status;
	return TAPE_GRAD(t, err, "heads", head_norm_rope(FW_RUN(f), y, whole ? y : x, (int)heads, (int)f->c->head_dim, n.weight && !whole ? &n : NULL, turned ? &rope : NULL));
}

static enum bl_status attention_part(struct bl_tape *t, int block, const struct bl_tape_weight *w, struct bl_err *err)
{
	struct bl_forward *f = t->f;
	const struct bk_mat q = fw_cols(&t->qkv, 0, f->q_cols), k = fw_cols(&t->qkv, f->q_cols, f->kv_cols), v = fw_cols(&t->qkv, f->q_cols + f->kv_cols, f->kv_cols),
			    qr = fw_cols(&t->qk, 0, f->q_cols), kr = fw_cols(&t->qk, f->q_cols, f->kv_cols);
	const struct bk_attention a = fw_tape_attention(t, block);

	if (linear(t, block, BL_UNIT_QKV, w, &t->qkv, &t->in[BL_UNIT_QKV], err) || turn_heads(t, block, &qr, &q, f->c->heads, FW_Q, err) ||
	    turn_heads(t, block, &kr, &k, f->c->kv_heads, FW_K, err) ||
	    TAPE_GRAD(t, err, "attention", attention_lse(FW_RUN(f), &t->heads, t->lse.p, &qr, &kr, &v, &a)) ||
	    input(t, &w[BL_UNIT_O], &t->heads_x, &t->heads, &t->in[BL_UNIT_O], err))
		return err->status;
	return linear(t, block, BL_UNIT_O, w, &t->attn_y, &t->in[BL_UNIT_O], err);
}

static enum bl_status mlp_part(struct bl_tape *t, int block, const struct bl_tape_weight *w, struct bl_err *err)
{
	struct bl_forward *f = t->f;
	const struct bk_mat g = fw_cols(&t->both, 0, f->c->ffn), u = fw_cols(&t->both, f->c->ffn, f->c->ffn);

	if (linear(t, block, BL_UNIT_GATE_UP, w, &t->both, &t->in[BL_UNIT_GATE_UP], err) ||
	    FW_OP(f, err, "the gate", gate(FW_RUN(f), &t->act, &g, &u, f->a->gelu ? BK_GATE_GELU_TANH : BK_GATE_SILU)) ||
	    input(t, &w[BL_UNIT_DOWN], &t->act, &t->act, &t->in[BL_UNIT_DOWN], err)) /* the gradient of the gate does not look at what it gave */
		return err->status;
	return linear(t, block, BL_UNIT_DOWN, w, &t->mlp_y, &t->in[BL_UNIT_DOWN], err);
}

/* y = x + a, or x + norm(a) */
static enum bl_status join(struct bl_tape *t, const struct bk_mat *y, const struct bk_mat *x, const struct bk_mat *a, const struct bk_norm *n, struct bl_err *err)
{
	struct bl_forward *f = t->f;

	if (FW_OP(f, err, "a sum", copy(FW_RUN(f), y->p, x->p, (size_t)(x->rows * x->cols) * f->elem)))
		return err->status;
	if (n->weight)
		return FW_OP(f, err, "a norm", rmsnorm_add(FW_RUN(f), y, a, n));
	return FW_OP(f, err, "a sum", add(FW_RUN(f), y, a));
}

/* The input of qkv or gate_up from the residual: normed where the family does, rounded where the server does. */
static enum bl_status enter(struct bl_tape *t, const struct bl_tape_weight *w, enum bl_unit_kind kind, const struct bk_mat *to, const struct bk_mat *x, const struct bk_norm *n,
			    struct bl_err *err)
{
	if (!n->weight)
		return input(t, &w[kind], to, x, &t->in[kind], err);
	if (FW_OP(t->f, err, "a norm", rmsnorm(FW_RUN(t->f), to, x, n)))
		return err->status;
	return input(t, &w[kind], to, to, &t->in[kind], err);
}

enum bl_status bl_tape_block(struct bl_tape *t, int block, const struct bl_tape_weight *w, const struct bk_mat *x, const struct bk_mat *y, struct bl_err *err)
{
	const struct bk_norm attn_in = norm_at(t, block, FW_ATTN_IN), attn_out = norm_at(t, block, FW_ATTN_OUT), mlp_in = norm_at(t, block, FW_MLP_IN),
			     mlp_out = norm_at(t, block, FW_MLP_OUT);

	if (fw_cancelled(t->f, err) || enter(t, w, BL_UNIT_QKV, &t->attn_x, x, &attn_in, err) || attention_part(t, block, w, err) ||
	    join(t, &t->mid, x, &t->attn_y, &attn_out, err) || enter(t, w, BL_UNIT_GATE_UP, &t->mlp_x, &t->mid, &mlp_in, err) || mlp_part(t, block, w, err))
		return err->status;
	return join(t, y, &t->mid, &t->mlp_y, &mlp_out, err);
}
