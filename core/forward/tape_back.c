/* SPDX-License-Identifier: Apache-2.0
 * The way back through a taped block: the halves in reverse, each linear giving the gradient of its weight and of its input. */
#include <math.h>
#include <string.h>

#include "core/forward/tape_private.h"

struct back {
	struct bl_tape *t;
	struct bl_forward *f;
	int block;
	const struct bl_tape_weight *w;
	const struct bl_tape_sink *sink;
	struct bl_err *err;
};

static struct bk_norm norm_at(const struct back *b, enum fw_norm_at at)
{
	return (struct bk_norm){ b->f->blocks[b->block].norm[at], (enum bk_dtype)b->f->dtype, b->f->c->rms_eps, b->f->a->norm_plus_one };
}

static enum bl_status weight_gradient(struct back *b, enum bl_unit_kind kind, const struct bk_mat *dy)
{
	const int unit = b->block * BL_UNIT_KIND_COUNT + (int)kind;
	const struct bk_mat *w = &b->w[kind].w, g = fw_mat(b->t->dw.p, w->rows, w->cols, BK_F32);

	if (!b->sink || (b->sink->wants && !b->sink->wants(b->sink->ctx, unit)))
		return BL_OK;
	if (FW_OP(b->f, b->err, "a weight's gradient", gemm(FW_RUN(b->f), &g, dy, 1, &b->t->in[kind], 0, 1, 0, NULL)))
		return b->err->status;
	return b->sink->gradient(b->sink->ctx, unit, &g, b->err);
}

/* dx (=, +=) dy W */
static enum bl_status input_gradient(struct back *b, enum bl_unit_kind kind, const struct bk_mat *dx, const struct bk_mat *dy, bool add)
{
	return FW_OP(b->f, b->err, "an input's gradient", gemm(FW_RUN(b->f), dx, dy, 0, &b->w[kind].w, 0, 1, add ? 1 : 0, NULL));
}

/* From d, the gradient of x + (norm of) a: that of a, which is d itself or in d_one. */
static enum bl_status part(struct back *b, const struct bk_mat *d, const struct bk_mat *a, enum fw_norm_at at, struct bk_mat *da)
{
	const struct bk_norm n = norm_at(b, at);

	*da = n.weight ? b->t->d_one : *d;
	return n.weight ? TAPE_GRAD(b->t, b->err, "a norm's gradient", rmsnorm_back(FW_RUN(b->f), da, NULL, a, &n, d, BK_GRAD_SET)) : BL_OK;
}

/* d += the gradient of x, of what entered the half through (a norm and) the unit. */
static enum bl_status leave(struct back *b, const struct bk_mat *d, const struct bk_mat *x, enum bl_unit_kind kind, enum fw_norm_at at, const struct bk_mat *dy)
{
	const struct bk_norm n = norm_at(b, at);

	if (!n.weight)
		return input_gradient(b, kind, d, dy, true);
	if (input_gradient(b, kind, &b->t->d_one, dy, false))
		return b->err->status;
	return TAPE_GRAD(b->t, b->err, "a norm's gradient", rmsnorm_back(FW_RUN(b->f), d, NULL, x, &n, &b->t->d_one, BK_GRAD_ADD));
}

static enum bl_status mlp_back(struct back *b, const struct bk_mat *d)
{
	struct bl_tape *t = b->t;
	const int64_t ffn = b->f->c->ffn;
	const struct bk_mat g = fw_cols(&t->both, 0, ffn), u = fw_cols(&t->both, ffn, ffn), wide = fw_mat(t->d_wide.p, t->tokens, 2 * ffn, b->f->dtype),
			    dg = fw_cols(&wide, 0, ffn), du = fw_cols(&wide, ffn, ffn), dact = fw_mat(t->d_in.p, t->tokens, ffn, b->f->dtype);
	struct bk_mat da;

	if (part(b, d, &t->mlp_y, FW_MLP_OUT, &da) || weight_gradient(b, BL_UNIT_DOWN, &da) || input_gradient(b, BL_UNIT_DOWN, &dact, &da, false) ||
	    TAPE_GRAD(t, b->err, "the gate's gradient",
		      gate_back(FW_RUN(b->f), &dg, &du, &g, &u, &dact, b->f->a->gelu ? BK_GATE_GELU_TANH : BK_GATE_SILU)) ||
	    weight_gradient(b, BL_UNIT_GATE_UP, &wide))
		return b->err->status;
	return leave(b, d, &t->mid, BL_UNIT_GATE_UP, FW_MLP_IN, &wide);
}

static enum bl_status heads_back(struct back *b, const struct bk_mat *d, const struct bk_mat *x, int64_t heads, enum fw_norm_at at)
{
	struct bl_forward *f = b->f;
	struct bk_norm n = norm_at(b, at);
	struct bk_rope rope;
	const bool turned = fw_tape_rope(b->t, b->block, &rope), whole = n.weight && f->a->qk_norm_whole;

	if (TAPE_GRAD(b->t, b->err, "the heads' gradient", head_norm_rope_back(FW_RUN(f), d, NULL, n.weight && !whole ? x : NULL, (int)heads, (int)f->c->head_dim,
									       n.weight && !whole ? &n : NULL, turned ? &rope : NULL, d)))
		return b->err->status;
	return whole ? TAPE_GRAD(b->t, b->err, "a norm's gradient", rmsnorm_back(FW_RUN(f), d, NULL, x, &n, d, BK_GRAD_SET)) : BL_OK;
}

static enum bl_status attention_back(struct back *b, const struct bk_mat *d, const struct bk_mat *x, bool through)
{
	struct bl_tape *t = b->t;
	struct bl_forward *f = b->f;
	const int64_t q = f->q_cols, kv = f->kv_cols;
	const struct bk_mat qr = fw_cols(&t->qk, 0, q), kr = fw_cols(&t->qk, q, kv), v = fw_cols(&t->qkv, q + kv, kv), raw_q = fw_cols(&t->qkv, 0, q),
			    raw_k = fw_cols(&t->qkv, q, kv), wide = fw_mat(t->d_wide.p, t->tokens, q + 2 * kv, f->dtype), dq = fw_cols(&wide, 0, q),
			    dk = fw_cols(&wide, q, kv), dv = fw_cols(&wide, q + kv, kv), dout = fw_mat(t->d_in.p, t->tokens, q, f->dtype);
	const struct bk_attention a = fw_tape_attention(t, b->block);
	struct bk_mat da;

	if (part(b, d, &t->attn_y, FW_ATTN_OUT, &da) || weight_gradient(b, BL_UNIT_O, &da) || input_gradient(b, BL_UNIT_O, &dout, &da, false) ||
	    TAPE_GRAD(t, b->err, "attention's gradient", attention_back(FW_RUN(f), &dq, &dk, &dv, &qr, &kr, &v, &t->heads, t->lse.p, &dout, &a)) ||
	    heads_back(b, &dq, &raw_q, f->c->heads, FW_Q) || heads_back(b, &dk, &raw_k, f->c->kv_heads, FW_K) || weight_gradient(b, BL_UNIT_QKV, &wide))
		return b->err->status;
	return through ? leave(b, d, x, BL_UNIT_QKV, FW_ATTN_IN, &wide) : BL_OK;
}

enum bl_status bl_tape_back(struct bl_tape *t, int block, const struct bl_tape_weight *w, const struct bk_mat *x, const struct bk_mat *d, bool through,
			    const struct bl_tape_sink *sink, struct bl_err *err)
{
	struct back b = { t, t->f, block, w, sink, err };

	if (fw_cancelled(t->f, err) || mlp_back(&b, d))
		return err->status;
	return attention_back(&b, d, x, through);
}
