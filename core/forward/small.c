/* SPDX-License-Identifier: Apache-2.0
 * Norm weights and biases: small, so they are copied into one piece of the run's memory, in the storage type, when the model is opened. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/forward/private.h"

#define NAME_MAX_BYTES 1200

static const char *norm_name(const struct bl_arch *a, enum fw_norm_at at)
{
	static const char *const in[] = { "input_layernorm.weight", "post_attention_layernorm.weight", "pre_feedforward_layernorm.weight",
					  "post_feedforward_layernorm.weight" };

	switch (at) {
	case FW_Q: return a->qk_norm ? "self_attn.q_norm.weight" : NULL;
	case FW_K: return a->qk_norm ? "self_attn.k_norm.weight" : NULL;
	case FW_ATTN_IN: return a->norms != BL_NORM_POST ? in[0] : NULL;
	case FW_ATTN_OUT: return a->norms != BL_NORM_PRE ? in[1] : NULL;
	case FW_MLP_IN: return a->norms == BL_NORM_BOTH ? in[2] : a->norms == BL_NORM_PRE ? in[1] : NULL;
	case FW_MLP_OUT: return a->norms != BL_NORM_PRE ? in[3] : NULL;
	default: return NULL;
	}
}

struct filling { const struct bl_forward *f; const struct bl_model *m; struct fw_block *blocks; const void *final_norm; char *host; uint64_t at; struct bl_err *err; char *device; };

static float element(const struct bl_tensor *t, int64_t i)
{
	uint16_t h;
	float v = 0;

	if (t->dtype == BL_F32) {
		memcpy(&v, (const char *)t->data + 4 * i, 4);
		return v;
	}
	memcpy(&h, (const char *)t->data + 2 * i, 2);
	return t->dtype == BL_BF16 ? bl_bf16_f32(h) : bl_f16_f32(h);
}

/* Elements of t at the filling's end; the first pass (host NULL) only counts. */
static void append(struct filling *w, const struct bl_tensor *t, int64_t n)
{
	for (int64_t i = 0; w->host && i < n; i++) {
		char *to = w->host + w->at + (size_t)i * w->f->elem;
		float v = t ? element(t, i) : 0;
		uint16_t h = bl_f32_bf16(v);

		memcpy(to, w->f->elem == 4 ? (void *)&v : (void *)&h, w->f->elem);
	}
	w->at += (uint64_t)n * w->f->elem;
}

static const void *here(struct filling *w)
{
	w->at = (w->at + 255) & ~(uint64_t)255;
	return w->host ? w->device + w->at : NULL;
}

static enum bl_status add_vector(struct filling *w, const void **out, const char *name, int64_t n)
{
	const struct bl_tensor *t = bl_model_tensor(w->m, name);

	if (!t)
		return bl_fail(w->err, BL_INVALID, "%s: is missing, the model cannot run without it", name);
	if (!fw_dtype_of(t->dtype))
		return bl_fail(w->err, BL_UNSUPPORTED, "%s: a norm of type %s is not supported", name, bl_dtype_name(t->dtype));
	if (t->n_elems != n)
		return bl_fail(w->err, BL_INVALID, "%s: has %lld elements, must have %lld", name, (long long)t->n_elems, (long long)n);
	*out = here(w);
	append(w, t, n);
	return BL_OK;
}

static int64_t norm_size(const struct bl_forward *f, int at)
{
	if (at == FW_Q || at == FW_K)
		return !f->a->qk_norm_whole ? f->c->head_dim : at == FW_Q ? f->q_cols : f->kv_cols;
	return f->c->hidden;
}

static enum bl_status one_block(struct filling *w, int block)
{
	const struct bl_forward *f = w->f;
	const struct bl_unit *units = w->m->units + block * BL_UNIT_KIND_COUNT;
	size_t below = strlen(f->a->units[BL_UNIT_QKV].member[0]), all = strlen(units[BL_UNIT_QKV].members[0].name);
	char name[NAME_MAX_BYTES];

	for (int at = 0; at < FW_NORMS; at++) {
		const char *n = norm_name(f->a, (enum fw_norm_at)at);

		if (!n)
			continue;
		snprintf(name, sizeof(name), "%.*s%s", (int)(all - below), units[BL_UNIT_QKV].members[0].name, n);
		if (add_vector(w, &w->blocks[block].norm[at], name, norm_size(f, at)))
			return w->err->status;
	}
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++) {
		bool any = false;

		for (int i = 0; i < units[k].n_members; i++)
			any = any || units[k].members[i].bias;
		if (!any)
			continue;
		w->blocks[block].bias[k] = here(w);
		for (int i = 0; i < units[k].n_members; i++) {
			const struct bl_tensor *b = units[k].members[i].bias;

			if (b && (!fw_dtype_of(b->dtype) || b->n_elems != units[k].members[i].rows))
				return bl_fail(w->err, BL_UNSUPPORTED, "%s: a bias of this type or size is not supported", b->name);
			append(w, b, units[k].members[i].rows);
		}
	}
	return BL_OK;
}

static enum bl_status fill(void *ctx, struct bl_err *err)
{
	struct filling *w = ctx;
	const struct bl_forward *f = w->f;
	const char *embed = f->m->embed->name, *last = strstr(embed, "embed_tokens.weight");
	char name[NAME_MAX_BYTES];

	w->at = 0;
	w->err = err;
	for (int b = 0; b < f->c->layers; b++)
		if (one_block(w, b))
			return err->status;
	snprintf(name, sizeof(name), "%.*snorm.weight", last ? (int)(last - embed) : 6, last ? embed : "model.");
	return add_vector(w, &w->final_norm, name, f->c->hidden);
}

/* Norms and biases of m into *small; *blocks: where each is. */
static enum bl_status open_small(struct bl_forward *f, const struct bl_model *m, char **small, struct fw_block **blocks, const void **final_norm, struct bl_err *err)
{
	struct filling w = { .f = f, .m = m };
	char *host = NULL;

	*blocks = w.blocks = bl_xalloc((size_t)f->c->layers, sizeof(*w.blocks));
	if (fill(&w, err) || bl_try_alloc(&host, (size_t)w.at, 1, "norms and biases", err))
		return err->status;
	if (bl_engine_alloc(f->e, (void **)small, (size_t)w.at, "norms and biases", err) == BL_OK) {
		w.host = host;
		w.device = *small;
		if (bl_guard_run(fill, &w, err) == BL_OK)
			FW_OP(f, err, "norms and biases", put(FW_RUN(f), *small, host, (size_t)w.at));
	}
	*final_norm = w.final_norm;
	bl_free(host);
	return err->status;
}

enum bl_status fw_small_open(struct bl_forward *f, struct bl_err *err)
{
	return open_small(f, f->m, &f->small, &f->blocks, &f->final_norm, err);
}

static void drop_other(struct bl_forward *f)
{
	bl_engine_release(f->e, f->other.small);
	bl_free(f->other.blocks);
	f->other = (struct fw_other){ .small = NULL };
}

void fw_small_close(struct bl_forward *f)
{
	drop_other(f);
	bl_engine_release(f->e, f->small);
	bl_free(f->blocks);
}

enum bl_status fw_small_begin(struct bl_forward *f, const struct bl_weight_set *set, struct bl_err *err)
{
	const void *final_norm; /* no stage changes it */

	if (!set || !set->small || !strcmp(f->other.digest, set->small->digest))
		return BL_OK;
	drop_other(f);
	if (open_small(f, set->small, &f->other.small, &f->other.blocks, &final_norm, err))
		drop_other(f);
	else
		memcpy(f->other.digest, set->small->digest, sizeof f->other.digest);
	return err->status;
}
