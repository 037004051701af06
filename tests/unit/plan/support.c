/* SPDX-License-Identifier: Apache-2.0
 * Shared by the tests of core/plan, see support.h. */
#include "tests/unit/plan/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/str.h"

const struct shape tiny_shape = {2, 64, 128, 4, 2, 16, 32, true, "tiny"};
const struct shape exaone_1b = {30, 2048, 4096, 32, 8, 64, 102400, true, "EXAONE-4.0-1.2B"};
const struct shape exaone_32b = {64, 5120, 27392, 40, 8, 128, 102400, false, "EXAONE-4.0-32B"};

static struct { struct bl_model *m; void *map; size_t bytes; } made[16];

struct list { struct bl_tensor *t; int n, cap; };

static void add(struct list *l, int block, const char *name, int64_t rows, int64_t cols)
{
	struct bl_str b = {0};

	if (l->n == l->cap)
		l->t = realloc(l->t, sizeof *l->t * (size_t)(l->cap = 2 * l->cap + 16));
	if (block >= 0)
		bl_str_addf(&b, "model.layers.%d.%s.weight", block, name);
	else
		bl_str_addf(&b, "%s.weight", name);
	int64_t n = rows * (cols ? cols : 1);
	l->t[l->n++] = (struct bl_tensor){.name = bl_str_take(&b), .dtype = BL_BF16, .rank = cols ? 2 : 1, .shape = {rows, cols}, .n_elems = n, .bytes = 2 * (uint64_t)n};
}

static struct list tensors_of(const struct shape *s)
{
	struct list l = {0};
	int64_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;

	for (int b = 0; b < s->layers; b++) {
		add(&l, b, "self_attn.q_proj", q, s->hidden);
		add(&l, b, "self_attn.k_proj", kv, s->hidden);
		add(&l, b, "self_attn.v_proj", kv, s->hidden);
		add(&l, b, "self_attn.o_proj", s->hidden, q);
		add(&l, b, "mlp.gate_proj", s->ffn, s->hidden);
		add(&l, b, "mlp.up_proj", s->ffn, s->hidden);
		add(&l, b, "mlp.down_proj", s->hidden, s->ffn);
		add(&l, b, "post_attention_layernorm", s->hidden, 0);
		add(&l, b, "post_feedforward_layernorm", s->hidden, 0);
		add(&l, b, "self_attn.q_norm", s->head_dim, 0);
		add(&l, b, "self_attn.k_norm", s->head_dim, 0);
	}
	add(&l, -1, "model.embed_tokens", s->vocab, s->hidden);
	add(&l, -1, "model.norm", s->hidden, 0);
	if (!s->tied)
		add(&l, -1, "lm_head", s->vocab, s->hidden);
	return l;
}

struct bl_model *model_make(const struct shape *s)
{
	struct list l = tensors_of(s);
	struct bl_str head = {0}, config = {0};
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m = NULL;
	size_t slot = 0;
	uint64_t total = bl_st_layout(l.t, l.n, &head);
	/* address space only: no page behind the header is ever touched */
	uint8_t *map = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(map != MAP_FAILED);
	memcpy(map, head.s, head.len);
	bl_str_addf(&config, "{\"model_type\":\"exaone4\",\"architectures\":[\"Exaone4ForCausalLM\"],\"num_hidden_layers\":%d,\"hidden_size\":%lld,"
		    "\"intermediate_size\":%lld,\"num_attention_heads\":%lld,\"num_key_value_heads\":%lld,\"head_dim\":%lld,\"vocab_size\":%lld,"
		    "\"tie_word_embeddings\":%s,\"max_position_embeddings\":65536,\"torch_dtype\":\"bfloat16\"}", s->layers, (long long)s->hidden, (long long)s->ffn,
		    (long long)s->heads, (long long)s->kv_heads, (long long)s->head_dim, (long long)s->vocab, s->tied ? "true" : "false");
	struct bl_model_part part = {"model.safetensors", map, total};
	if (bl_model_open_parts(&m, s->name, config.s, config.len, &part, 1, &err))
		fail_msg("%s", err.text);
	for (int i = 0; i < l.n; i++)
		bl_free((char *)(uintptr_t)l.t[i].name);
	free(l.t);
	bl_str_free(&head);
	bl_str_free(&config);
	while (made[slot].m)
		assert_true(++slot < sizeof made / sizeof made[0]);
	made[slot].m = m;
	made[slot].map = map;
	made[slot].bytes = total;
	return m;
}

void model_drop(struct bl_model *m)
{
	for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
		if (made[i].m == m) {
			bl_model_close(m);
			munmap(made[i].map, made[i].bytes);
			made[i].m = NULL;
			return;
		}
	fail_msg("not a model of model_make");
}

const char *scheme_of(const struct bl_plan *p, int unit)
{
	static char text[4][BL_SCHEME_NAME_MAX];
	static unsigned next;

	return bl_scheme_name(text[next++ % 4], &bl_plan_choice(p, unit)->scheme);
}

int scratch_make(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char name[4096];

	snprintf(name, sizeof name, "%s/bl-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(name))
		return -1;
	*state = strdup(name);
	return 0;
}

int scratch_drop(void **state)
{
	bl_remove_tree(*state);
	free(*state);
	return 0;
}

const char *in(void **state, const char *name)
{
	static char text[4][4096];
	static unsigned next;
	char *t = text[next++ % 4];

	snprintf(t, sizeof text[0], "%s/%s", (char *)*state, name);
	return t;
}
