/* SPDX-License-Identifier: Apache-2.0
 * One block over one batch. The order of norms and sums is the family's; what is stored between steps is in the storage type, as in the runtimes that
 * results are compared with. */
#include <math.h>

#include "core/forward/private.h"

/* --- workspace --- */

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

#define LEAST_GROUP 16

struct sizes { int64_t wide, behind, codes, scales; }; /* elements of a row */

static struct sizes sizes_of(const struct bl_config *c)
{
	int64_t q = c->heads * c->head_dim, qkv = q + 2 * c->kv_heads * c->head_dim;

	int64_t widest = most(most(c->hidden, q), c->ffn);

	return (struct sizes){ most(qkv, 2 * c->ffn), widest, widest, widest / LEAST_GROUP + 1 };
}

static uint64_t piece(int64_t rows, int64_t cols, size_t elem) { return ((uint64_t)(rows * cols) * elem + 255) & ~(uint64_t)255; }

uint64_t fw_work_bytes(const struct bl_model *m, size_t elem, int64_t tokens)
{
	struct sizes s = sizes_of(&m->config);

	return 2 * piece(tokens, m->config.hidden, elem) + piece(tokens, s.wide, elem) + piece(tokens, s.behind, elem) + piece(tokens, s.codes, 1) +
	       piece(tokens, s.scales, 4);
}

enum bl_status fw_work_need(struct bl_forward *f, int64_t tokens, struct bl_err *err)
{
	struct fw_work *w = &f->work;
	struct sizes s = sizes_of(f->c);
	char *p;

	if (tokens <= w->tokens)
		return BL_OK;
	bl_engine_release(f->e, w->base);
	*w = (struct fw_work){ 0 };
	if (bl_engine_alloc(f->e, (void **)&w->base, (size_t)fw_work_bytes(f->m, f->elem, tokens), "one batch", err))
		return err->status;
	p = w->base;
	w->x = p;
	w->y = p += piece(tokens, f->c->hidden, f->elem);
	w->wide = p += piece(tokens, f->c->hidden, f->elem);
	w->out = p += piece(tokens, s.wide, f->elem);
	w->codes = p += piece(tokens, s.behind, f->elem);
	w->scales = (float *)(void *)(p + piece(tokens, s.codes, 1));
	w->tokens = tokens;
	return BL_OK;
}

/* --- pieces --- */

struct run { /* a block on its way */
	struct bl_forward *f;
	int block;
	const struct bl_weight_set *set;
	const struct bl_tap *tap;
	const struct fw_span *s;
	struct bl_err *err;
};

enum bl_status bl_forward_codes_product(struct bl_engine *e, const struct bl_codes_product *p, const struct bk_mat *y, const struct bk_mat *x, void *codes, float *scales,
				       struct bl_err *err)
{
	enum bk_token_codes kind = !bl_act_is_e4m3(p->act) ? BK_TOKEN_INT8 : p->act == BL_WEIGHTS_ACT_FP4_GROUP ? BK_TOKEN_E2M1 : BK_TOKEN_E4M3;
	struct bk_mat c = fw_mat(codes, x->rows, x->cols, kind == BK_TOKEN_INT8 ? BK_I8 : BK_F8);
	int error;

	if (p->group) {
		const struct bk_rounding how = { kind, p->group, kind == BK_TOKEN_E2M1 ? p->input_scale : 0 };

		error = p->group < LEAST_GROUP ? BK_RUN_REFUSED : e->ops->quant_groups(e->run, &c, scales, x, &how);
		if (!error)
			error = e->ops->gemm_groups(e->run, y, &c, scales, p->w, p->scales, p->group, p->bias);
		return bl_engine_check(e, error, "a product of codes", err);
	}
	if (p->act == BL_WEIGHTS_ACT_INT8_STATIC || p->act == BL_WEIGHTS_ACT_FP8_STATIC)
		error = e->ops->quant_static(e->run, &c, scales, x, kind, p->input_scale);
	else
		error = e->ops->quant_tokens(e->run, &c, scales, x, kind);
	if (!error)
		error = e->ops->gemm_codes(e->run, y, &c, scales, p->w, p->scales, p->bias);
	return bl_engine_check(e, error, "a product of codes", err);
}

int64_t bl_forward_scales_most(int64_t cols) { return cols / LEAST_GROUP + 1; }

static enum bl_status codes_product(struct run *r, const struct fw_operand *o, const struct bk_mat *y, const struct bk_mat *x)
{
	struct bl_forward *f = r->f;
	const struct bl_codes_product p = { &o->w[0], o->scales, o->act, o->input_scale, o->group, o->bias };

	return bl_forward_codes_product(f->e, &p, y, x, f->work.codes, f->work.scales, r->err);
}

/* What transformers multiplies with: x rounded, over what the block needs no more. */
static enum bl_status rounded_input(struct run *r, const struct fw_operand *o, struct bk_mat *x)
{
	struct bl_forward *f = r->f;
	bool fixed = o->act == BL_WEIGHTS_ACT_INT8_STATIC || o->act == BL_WEIGHTS_ACT_FP8_STATIC || o->act == BL_WEIGHTS_ACT_FP4_GROUP;
	const struct bk_rounding how = { !bl_act_is_e4m3(o->act) ? BK_TOKEN_INT8 : o->act == BL_WEIGHTS_ACT_FP4_GROUP ? BK_TOKEN_E2M1 : BK_TOKEN_E4M3, o->group,
					 fixed ? o->input_scale : 0 };
	const struct bk_mat from = *x;

	*x = fw_mat(f->work.out, from.rows, from.cols, f->dtype);
	return FW_OP(f, r->err, "rounding inputs", round_inputs(FW_RUN(f), x, &from, &how));
}

/* y = x Wᵀ + bias of a unit, seen by the tap */
static enum bl_status linear(struct run *r, enum bl_unit_kind kind, const struct bk_mat *y, const struct bk_mat *x)
{
	struct bl_forward *f = r->f;
	int unit = r->block * BL_UNIT_KIND_COUNT + (int)kind;
	struct bk_mat in = *x;
	struct fw_operand o;
	int64_t row = 0;

	if (r->tap && r->tap->input && r->tap->input(r->tap->ctx, unit, r->s->first_token, x, r->err))
		return r->err->status;
	if (fw_operand(f, unit, r->set, &o, r->err))
		return r->err->status;
	if (o.scales) {
		if (codes_product(r, &o, y, x))
			return r->err->status;
	} else {
		if (o.act != BL_WEIGHTS_ACT_NONE && rounded_input(r, &o, &in))
			return r->err->status;
		for (int i = 0; i < o.n; row += o.w[i++].rows) {
			struct bk_mat part = fw_cols(y, row, o.w[i].rows);
			const char *bias = o.bias ? (const char *)o.bias + (size_t)row * f->elem : NULL;

			if (FW_OP(f, r->err, "a product", gemm(FW_RUN(f), &part, &in, 0, &o.w[i], 1, 1, 0, bias)))
				return r->err->status;
		}
	}
	if (r->tap && r->tap->output)
		return r->tap->output(r->tap->ctx, unit, r->s->first_token, y, r->err);
	return BL_OK;
}

static struct bk_norm norm_at(const struct run *r, enum fw_norm_at at)
{
	return (struct bk_norm){ fw_block_of(r->f, r->set, r->block)->norm[at], (enum bk_dtype)r->f->dtype, r->f->c->rms_eps, r->f->a->norm_plus_one };
}

static bool slides(const struct run *r) { return r->f->c->sliding_window > 0 && r->f->c->sliding[r->block]; }

static enum bl_status turn_heads(struct run *r, const struct bk_mat *x, int64_t heads, enum fw_norm_at at)
{
	struct bl_forward *f = r->f;
	struct bk_norm n = norm_at(r, at);
	const struct fw_rope *table = f->c->has_rope_local && slides(r) ? &f->rope_local : &f->rope;
	struct bk_rope rope = { table->cos, table->sin, r->s->position, table->n };
	bool turned = !(f->a->rope_only_sliding && f->hybrid) || slides(r);

	if (n.weight && f->a->qk_norm_whole) {
		if (FW_OP(f, r->err, "a norm", rmsnorm(FW_RUN(f), x, x, &n)))
			return r->err->status;
		n.weight = NULL;
	}
	return FW_OP(f, r->err, "heads", head_norm_rope(FW_RUN(f), x, (int)heads, (int)f->c->head_dim, n.weight ? &n : NULL, turned ? &rope : NULL));
}

/* out = attention of qkv; keys and values of these rows go to the cache, when there is one */
static enum bl_status attend(struct run *r, const struct bk_mat *out, const struct bk_mat *qkv)
{
	struct bl_forward *f = r->f;
	struct bk_mat q = fw_cols(qkv, 0, f->q_cols), k = fw_cols(qkv, f->q_cols, f->kv_cols), v = fw_cols(qkv, f->q_cols + f->kv_cols, f->kv_cols);
	struct bk_attention a = { .heads = (int)f->c->heads, .kv_heads = (int)f->c->kv_heads, .head_dim = (int)f->c->head_dim,
				  .scale = 1 / sqrt(f->c->attn_scalar > 0 ? f->c->attn_scalar : (double)f->c->head_dim), .softcap = f->c->attn_cap,
				  .window = slides(r) ? f->c->sliding_window : 0, .seq = r->s->seq };

	if (turn_heads(r, &q, f->c->heads, FW_Q) || turn_heads(r, &k, f->c->kv_heads, FW_K))
		return r->err->status;
	if (r->s->cache_k) {
		struct bk_mat keys = fw_mat(r->s->cache_k, r->s->cache_rows, f->kv_cols, f->dtype), values = fw_mat(r->s->cache_v, r->s->cache_rows, f->kv_cols, f->dtype);
		struct bk_mat new_k = fw_rows(&keys, r->s->cache_at, k.rows), new_v = fw_rows(&values, r->s->cache_at, v.rows);

		if (FW_OP(f, r->err, "the cache", convert(FW_RUN(f), &new_k, &k)) || FW_OP(f, r->err, "the cache", convert(FW_RUN(f), &new_v, &v)))
			return r->err->status;
		k = fw_rows(&keys, 0, r->s->cache_at + k.rows);
		v = fw_rows(&values, 0, r->s->cache_at + v.rows);
		return FW_OP(f, r->err, "attention", attention(FW_RUN(f), out, &q, &k, &v, &a));
	}
	return FW_OP(f, r->err, "attention", attention(FW_RUN(f), out, &q, &k, &v, &a));
}

static enum bl_status attention_part(struct run *r, const struct bk_mat *y, const struct bk_mat *x)
{
	struct bl_forward *f = r->f;
	struct bk_mat qkv = fw_mat(f->work.wide, x->rows, f->q_cols + 2 * f->kv_cols, f->dtype), out = fw_mat(f->work.out, x->rows, f->q_cols, f->dtype);

	if (linear(r, BL_UNIT_QKV, &qkv, x) || attend(r, &out, &qkv))
		return r->err->status;
	return linear(r, BL_UNIT_O, y, &out);
}

static enum bl_status mlp_part(struct run *r, const struct bk_mat *y, const struct bk_mat *x)
{
	struct bl_forward *f = r->f;
	struct bk_mat both = fw_mat(f->work.wide, x->rows, 2 * f->c->ffn, f->dtype), act = fw_mat(f->work.out, x->rows, f->c->ffn, f->dtype);
	struct bk_mat g = fw_cols(&both, 0, f->c->ffn), u = fw_cols(&both, f->c->ffn, f->c->ffn);

	if (linear(r, BL_UNIT_GATE_UP, &both, x) || FW_OP(f, r->err, "the gate", gate(FW_RUN(f), &act, &g, &u, f->a->gelu ? BK_GATE_GELU_TANH : BK_GATE_SILU)))
		return r->err->status;
	return linear(r, BL_UNIT_DOWN, y, &act);
}

enum bl_status fw_block_run(struct bl_forward *f, int block, const struct bl_weight_set *set, const struct bl_tap *tap, const struct fw_span *s, struct bl_err *err)
{
	struct run r = { f, block, set, tap, s, err };
	struct bk_norm attn_in = norm_at(&r, FW_ATTN_IN), attn_out = norm_at(&r, FW_ATTN_OUT), mlp_in = norm_at(&r, FW_MLP_IN), mlp_out = norm_at(&r, FW_MLP_OUT);
	struct bk_mat x = fw_mat(f->work.x, s->h.rows, f->c->hidden, f->dtype), y = fw_mat(f->work.y, s->h.rows, f->c->hidden, f->dtype);
	const struct bk_mat *h = &s->h, *in = attn_in.weight ? &x : h;

	if (attn_in.weight && FW_OP(f, err, "a norm", rmsnorm(FW_RUN(f), &x, h, &attn_in)))
		return err->status;
	if (attention_part(&r, &y, in))
		return err->status;
	if (attn_out.weight) {
		if (FW_OP(f, err, "a norm", rmsnorm_add(FW_RUN(f), h, &y, &attn_out)) ||
		    (mlp_in.weight && FW_OP(f, err, "a norm", rmsnorm(FW_RUN(f), &x, h, &mlp_in))))
			return err->status;
	} else if (FW_OP(f, err, "a norm", add_rmsnorm(FW_RUN(f), &x, h, &y, &mlp_in))) {
		return err->status;
	}
	if (mlp_part(&r, &y, mlp_in.weight ? &x : h))
		return err->status;
	if (mlp_out.weight)
		return FW_OP(f, err, "a norm", rmsnorm_add(FW_RUN(f), h, &y, &mlp_out));
	return FW_OP(f, err, "a sum", add(FW_RUN(f), h, &y));
}
