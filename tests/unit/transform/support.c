/* SPDX-License-Identifier: Apache-2.0
 * Support of the tests of transforms. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/rng.h"

static int32_t ids[SEQUENCES * TOKENS];

static void add(struct toy *t, struct bl_rng *r, const char *name, int64_t rows, int64_t cols, double spread, double middle)
{
	struct toy_tensor *n;

	bl_xgrow(&t->t, &t->cap, (size_t)t->n + 1);
	n = &t->t[t->n++];
	*n = (struct toy_tensor){ .rows = rows, .cols = cols, .v = bl_xalloc((size_t)(rows * (cols ? cols : 1)), sizeof(float)) };
	snprintf(n->name, sizeof n->name, "%s", name);
	for (int64_t i = 0; i < rows * (cols ? cols : 1); i++)
		n->v[i] = cols ? (float)(spread * (double)bl_rng_normal(r)) : (float)(middle + spread * (bl_rng_unit(r) - .5));
}

static int64_t rows_of(const struct bl_arch *a, int kind, int member)
{
	const int64_t q = HEADS * HEAD_DIM, kv = KV_HEADS * HEAD_DIM;

	if (kind == BL_UNIT_QKV)
		return !a->units[kind].member[1] ? q + 2 * kv : member ? kv : q;
	return kind == BL_UNIT_GATE_UP ? !a->units[kind].member[1] ? 2 * FFN : FFN : HIDDEN;
}

void toy_make(struct toy *t, const char *model_type)
{
	const struct bl_arch *a = bl_arch_row_of(model_type);
	struct bl_rng r;
	char name[128];

	*t = (struct toy){ .n = 0 };
	bl_rng_seed(&r, 42);
	snprintf(t->config, sizeof t->config,
		 "{\"model_type\": \"%s\", \"architectures\": [\"%s\"], \"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, "
		 "\"intermediate_size\": %d, \"num_hidden_layers\": %d, \"vocab_size\": %d, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"max_position_embeddings\": 512, "
		 "\"hidden_act\": \"silu\", \"hidden_activation\": \"gelu_pytorch_tanh\", \"tie_word_embeddings\": %s, \"torch_dtype\": \"float32\", \"query_pre_attn_scalar\": %d, "
		 "\"sliding_window\": null}",
		 a->model_type, a->architecture, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, LAYERS, VOCAB, a->gelu || !strcmp(model_type, "exaone4") ? "true" : "false", HEAD_DIM);
	add(t, &r, "model.embed_tokens.weight", VOCAB, HIDDEN, .8, 0);
	if (!a->gelu && strcmp(model_type, "exaone4"))
		add(t, &r, "lm_head.weight", VOCAB, HIDDEN, .3, 0);
	add(t, &r, "model.norm.weight", HIDDEN, 0, 1, a->norm_plus_one ? 0 : 1);
	for (int b = 0; b < LAYERS; b++) {
		for (int i = 0; i < 8 && a->block_tensors[i]; i++) {
			bool head = strstr(a->block_tensors[i], "q_norm") || strstr(a->block_tensors[i], "k_norm"), q = strstr(a->block_tensors[i], "q_norm");
			snprintf(name, sizeof name, "model.layers.%d.%s", b, a->block_tensors[i]);
			add(t, &r, name, !head ? HIDDEN : !a->qk_norm_whole ? HEAD_DIM : (q ? HEADS : KV_HEADS) * HEAD_DIM, 0, 1, a->norm_plus_one ? 0 : 1);
		}
		for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
			for (int i = 0; i < BL_MEMBERS_MAX && a->units[k].member[i]; i++) {
				snprintf(name, sizeof name, "model.layers.%d.%s.weight", b, a->units[k].member[i]);
				add(t, &r, name, rows_of(a, k, i), k == BL_UNIT_O ? HEADS * HEAD_DIM : k == BL_UNIT_DOWN ? FFN : HIDDEN, .15, 0);
				snprintf(name, sizeof name, "model.layers.%d.%s.bias", b, a->units[k].member[i]);
				if (a->units[k].bias[i])
					add(t, &r, name, rows_of(a, k, i), 0, .5, 0);
			}
	}
	for (int i = 0; i < SEQUENCES * TOKENS; i++)
		ids[i] = (int32_t)(bl_rng_unit(&r) * VOCAB);
}

void toy_free(struct toy *t)
{
	if (t->model)
		bl_model_close(t->model);
	for (int i = 0; i < t->n; i++)
		bl_free(t->t[i].v);
	bl_free(t->t);
	bl_free(t->bytes);
	*t = (struct toy){ .n = 0 };
}

float *toy_find(struct toy *t, int block, const char *below)
{
	char name[128];

	if (block < 0)
		snprintf(name, sizeof name, "%s", below);
	else
		snprintf(name, sizeof name, "model.layers.%d.%s", block, below);
	for (int i = 0; i < t->n; i++)
		if (!strcmp(t->t[i].name, name))
			return t->t[i].v;
	fail_msg("%s is not in the toy", name);
	return NULL;
}

struct bl_model *toy_open(struct toy *t)
{
	struct bl_tensor *list = bl_xalloc((size_t)t->n, sizeof *list);
	struct bl_err err = BL_ERR_INIT;
	struct bl_str head = { 0 };
	uint64_t bytes;

	if (t->model)
		bl_model_close(t->model);
	bl_free(t->bytes);
	t->model = NULL;
	for (int i = 0; i < t->n; i++) {
		const struct toy_tensor *from = &t->t[i];
		list[i] = (struct bl_tensor){ .name = from->name, .dtype = t->bf16 ? BL_BF16 : BL_F32, .rank = from->cols ? 2 : 1, .shape = { from->rows, from->cols },
					      .n_elems = from->rows * (from->cols ? from->cols : 1), .data = from->v };
		list[i].bytes = (uint64_t)list[i].n_elems * (t->bf16 ? 2 : 4);
	}
	bytes = bl_st_layout(list, t->n, &head);
	t->bytes = bl_xalloc((size_t)bytes, 1);
	memcpy(t->bytes, head.s, head.len);
	for (int i = 0; i < t->n; i++)
		for (int64_t k = 0; k < list[i].n_elems; k++) {
			float v = ((const float *)list[i].data)[k];
			uint16_t h = bl_f32_bf16(v);
			memcpy(t->bytes + list[i].offset + (uint64_t)k * (t->bf16 ? 2 : 4), t->bf16 ? (void *)&h : (void *)&v, t->bf16 ? 2 : 4);
		}
	bl_str_free(&head);
	bl_free(list);
	struct bl_model_part part = { "model.safetensors", t->bytes, bytes };
	if (bl_model_open_parts(&t->model, "toy", t->config, strlen(t->config), &part, 1, &err))
		fail_msg("%s", err.text);
	return t->model;
}

void ground_open(struct ground *g)
{
	struct bl_err err = BL_ERR_INIT;
	char folder[] = "/tmp/bl-transform-XXXXXX";

	g->pool = bl_pool_new(2);
	bl_backend_open(&g->backend, NULL);
	if (bl_engine_open(&g->engine, &g->backend, "cpu", g->pool, 0, &err) || !mkdtemp(folder))
		fail_msg("%s", err.text);
	g->cache = bl_xstrdup(folder);
}

void ground_close(struct ground *g)
{
	bl_engine_close(&g->engine);
	bl_backend_close(&g->backend);
	bl_pool_free(g->pool);
	bl_remove_tree(g->cache);
	bl_free(g->cache);
}

struct sink { float *out; bool fp32; };

static enum bl_status take(void *ctx, int64_t first, const struct bk_mat *l, struct bl_err *err)
{
	const struct sink *s = ctx;

	(void)err;
	for (int64_t i = 0; i < l->rows * l->cols; i++)
		s->out[first * l->cols + i] = s->fp32 ? ((const float *)l->p)[i] : bl_bf16_f32(((const uint16_t *)l->p)[i]);
	return BL_OK;
}

float *logits(struct ground *g, const struct bl_model *m, const struct bl_weight_set *set, bool fp32)
{
	struct bl_forward_options o = { .fp32 = fp32 };
	int64_t start[SEQUENCES + 1];
	struct bl_sequences s = { ids, start, SEQUENCES };
	struct bl_err err = BL_ERR_INIT;
	struct bl_forward *f = NULL;
	struct bl_pass *p = NULL;
	struct sink sink = { bl_xalloc(SEQUENCES * TOKENS * VOCAB, sizeof(float)), fp32 };

	for (int i = 0; i <= SEQUENCES; i++)
		start[i] = i * TOKENS;
	if (bl_forward_new(&f, m, &g->engine, &o, &err) || bl_pass_new(&p, f, &s, &err) || bl_pass_embed(p, &err) || bl_pass_run(p, 0, set, NULL, &err) ||
	    bl_pass_head(p, NULL, SEQUENCES * TOKENS, 0, &(struct bl_head_sink){ &sink, take }, &err))
		fail_msg("%s", err.text);
	bl_pass_free(p);
	bl_forward_free(f);
	return sink.out;
}

double worst(const float *a, const float *b)
{
	double d = 0, most = 0;

	for (int i = 0; i < SEQUENCES * TOKENS * VOCAB; i++) {
		d = fmax(d, fabs((double)a[i] - b[i]));
		most = fmax(most, fabs((double)b[i]));
		if (!isfinite(a[i]))
			return INFINITY;
	}
	return d / most;
}

struct bl_calib *calibration(struct ground *g, const struct bl_model *m)
{
	struct bl_forward_options o = { .fp32 = false };
	struct bl_calib_options how = { .hessians = true, .keep_windows = 2, .device = "cpu" };
	struct bl_calib_data data = { ids, SEQUENCES, TOKENS, "toy" };
	struct bl_err err = BL_ERR_INIT;
	struct bl_forward *f = NULL;
	struct bl_calib *c = NULL;
	struct bl_str cache = { 0 };
	static int n; /* models from memory are told apart by their shapes alone: each calibration has a place of its own */

	bl_str_addf(&cache, "%s/%d", g->cache, n++);
	if (bl_forward_new(&f, m, &g->engine, &o, &err) || bl_calib_run(&c, f, &data, bl_str_c(&cache), &how, NULL, NULL, NULL, &err))
		fail_msg("%s", err.text);
	bl_forward_free(f);
	bl_str_free(&cache);
	return c;
}

struct bl_fold *fold_of(struct ground *g, const struct bl_model *m, const struct bl_calib *c, const char *stages)
{
	struct bl_fold_request rq = { .model = m, .stages = stages, .calib = c, .pool = g->pool, .cache_dir = g->cache };
	struct bl_err err = BL_ERR_INIT;
	struct bl_fold *f = NULL;

	if (bl_fold_new(&f, &rq, &err))
		fail_msg("%s: %s", stages, err.text);
	return f;
}
