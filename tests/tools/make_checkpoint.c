/* SPDX-License-Identifier: Apache-2.0
 * Random checkpoints of real shapes: make_checkpoint SHAPE DIR [--seed N] [--blocks N] [--shards N] [--dtype bf16|f16|f32]. Weights are normal with a standard
 * deviation of 0.02, every 97th input channel eight times as large. Files are as save_pretrained would write them (official tensor order, 4.57 spelling). */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/pool.h"
#include "core/base/rng.h"
#include "core/model/arch.h"
#include "core/model/safetensors.h"

struct shape { const char *name, *family; int hidden, ffn, layers, heads, kv_heads, head_dim, vocab, positions; bool tied; int window; };

static const struct shape shapes[] = {
	{"exaone4-1.2b", "exaone4", 2048, 4096, 30, 32, 8, 64, 102400, 65536, true, 0},
	{"exaone4-32b", "exaone4", 5120, 27392, 64, 40, 8, 128, 102400, 131072, false, 4096},
	{"exaone4-tiny", "exaone4", 256, 512, 4, 4, 2, 64, 1024, 65536, true, 0},
	{"llama-tiny", "llama", 256, 640, 3, 4, 2, 64, 1024, 32768, false, 0},
	{"qwen2-tiny", "qwen2", 256, 640, 3, 4, 2, 64, 1024, 32768, true, 0},
	{"qwen3-tiny", "qwen3", 256, 640, 3, 4, 2, 128, 1024, 40960, true, 0},
	{"mistral-tiny", "mistral", 256, 640, 3, 4, 2, 64, 1024, 32768, false, 4096},
};

struct maker {
	const struct shape *s;
	const struct bl_arch *arch;
	int layers, parts;
	enum bl_dtype dtype;
	uint64_t seed;
	struct bl_tensor *t; int64_t n; size_t cap; char **names;
	int *part_fd;
	struct { int64_t tensor; uint64_t from, n; } *pieces; size_t n_pieces, cap_pieces;
};

static void add(struct maker *m, const char *name, int64_t rows, int64_t cols)
{
	size_t cap = m->cap;

	bl_xgrow(&m->t, &cap, (size_t)m->n + 1);
	bl_xgrow(&m->names, &m->cap, (size_t)m->n + 1);
	m->names[m->n] = bl_xstrdup(name);
	m->t[m->n] = (struct bl_tensor){.name = m->names[m->n], .dtype = m->dtype, .rank = cols ? 2 : 1, .shape = {rows, cols}, .n_elems = rows * (cols ? cols : 1)};
	m->t[m->n].bytes = (uint64_t)(m->t[m->n].n_elems * bl_dtype_bytes(m->dtype));
	m->n++;
}

static void add_block(struct maker *m, int b)
{
	const struct shape *s = m->s;
	int64_t q = (int64_t)s->heads * s->head_dim, kv = (int64_t)s->kv_heads * s->head_dim;
	char name[128];

	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
		for (int j = 0; j < BL_MEMBERS_MAX && m->arch->units[k].member[j]; j++) {
			int64_t rows = k == BL_UNIT_QKV ? (j ? kv : q) : k == BL_UNIT_GATE_UP ? s->ffn : s->hidden;
			int64_t cols = k == BL_UNIT_O ? q : k == BL_UNIT_DOWN ? s->ffn : s->hidden;
			snprintf(name, sizeof name, "model.layers.%d.%s.weight", b, m->arch->units[k].member[j]);
			add(m, name, rows, cols);
			snprintf(name, sizeof name, "model.layers.%d.%s.bias", b, m->arch->units[k].member[j]);
			if (m->arch->units[k].bias[j])
				add(m, name, rows, 0);
		}
	for (int i = 0; i < 8 && m->arch->block_tensors[i]; i++) {
		snprintf(name, sizeof name, "model.layers.%d.%s", b, m->arch->block_tensors[i]);
		add(m, name, strstr(name, "layernorm") ? s->hidden : s->head_dim, 0);
	}
}

/* A piece depends on the seed, its tensor and its place only: any number of threads writes the same bytes. */
static enum bl_status fill(void *ctx, size_t item, struct bl_err *err)
{
	struct maker *m = ctx;
	const struct bl_tensor *t = &m->t[m->pieces[item].tensor];
	int64_t size = bl_dtype_bytes(t->dtype), n = (int64_t)m->pieces[item].n / size, first = (int64_t)m->pieces[item].from / size;
	uint8_t *buf;
	struct bl_rng r;

	if (bl_try_alloc(&buf, (size_t)n, (size_t)size, "a piece", err))
		return err->status;
	bl_rng_seed(&r, m->seed * 1000003u + (uint64_t)m->pieces[item].tensor * 7919u + m->pieces[item].from);
	for (int64_t i = 0; i < n; i++) {
		uint64_t u = bl_rng_u64(&r); /* the sum of four uniform 16-bit numbers is normal enough, and fast */
		float x = (float)(int)((u & 0xffff) + (u >> 16 & 0xffff) + (u >> 32 & 0xffff) + (u >> 48) - 131070) * (0.02f / 37837.0f);
		int64_t col = t->rank == 2 ? (first + i) % t->shape[1] : 1;
		if (t->rank == 1)
			x += 1;
		else if (col % 97 == 0)
			x *= 8;
		uint16_t h = t->dtype == BL_BF16 ? bl_f32_bf16(x) : t->dtype == BL_F16 ? bl_f32_f16(x) : 0;
		if (t->dtype == BL_F32)
			memcpy(buf + 4 * i, &x, 4);
		else
			memcpy(buf + 2 * i, &h, 2);
	}
	bl_pwrite_all(m->part_fd[t->file], buf, (size_t)(n * size), t->offset + m->pieces[item].from, t->name, err);
	bl_free(buf);
	return err->status;
}

static enum bl_status write_text(const char *dir, const char *name, const char *text, struct bl_err *err)
{
	char *path = bl_path_join(dir, name);
	enum bl_status s = bl_write_file(path, text, strlen(text), 0644, err);

	bl_free(path);
	return s;
}

static enum bl_status write_config(const struct maker *m, const char *dir, struct bl_err *err)
{
	const struct shape *s = m->s;
	struct bl_str b = {0};
	static const char *const dtypes[] = {[BL_BF16] = "bfloat16", [BL_F16] = "float16", [BL_F32] = "float32"};

	bl_str_addf(&b, "{\n  \"architectures\": [\"%s\"],\n  \"bos_token_id\": 1,\n  \"eos_token_id\": 361,\n  \"head_dim\": %d,\n  \"hidden_act\": \"silu\",\n"
		    "  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n", m->arch->architecture, s->head_dim, s->hidden, s->ffn);
	if (m->arch->writes_layer_types) {
		bl_str_add(&b, "  \"layer_types\": [");
		for (int i = 0; i < m->layers; i++)
			bl_str_addf(&b, "%s\"%s_attention\"", i ? ", " : "", s->window && (i + 1) % 4 ? "sliding" : "full");
		bl_str_add(&b, "],\n");
	}
	bl_str_addf(&b, "  \"max_position_embeddings\": %d,\n  \"model_type\": \"%s\",\n  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n"
		    "  \"num_key_value_heads\": %d,\n  \"pad_token_id\": 0,\n  \"rms_norm_eps\": 1e-05,\n", s->positions, s->family, s->heads, m->layers, s->kv_heads);
	if (m->arch->writes_layer_types)
		bl_str_add(&b, "  \"rope_scaling\": {\"factor\": 16.0, \"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0, \"original_max_position_embeddings\": 8192, "
			       "\"rope_type\": \"llama3\"},\n");
	bl_str_add(&b, "  \"rope_theta\": 1000000.0,\n");
	if (s->window)
		bl_str_addf(&b, "  \"sliding_window\": %d,\n", s->window);
	else
		bl_str_add(&b, "  \"sliding_window\": null,\n");
	if (m->arch->windows == BL_WINDOW_PATTERN)
		bl_str_addf(&b, "  \"sliding_window_pattern\": %s,\n", s->window ? "\"LLLG\"" : "null");
	bl_str_addf(&b, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n  \"transformers_version\": \"4.57.3\",\n  \"vocab_size\": %d\n}\n",
		    s->tied ? "true" : "false", dtypes[m->dtype], s->vocab);
	write_text(dir, "config.json", bl_str_c(&b), err);
	bl_str_free(&b);
	if (!err->status)
		write_text(dir, "generation_config.json", "{\"_from_model_config\": true, \"bos_token_id\": 1, \"eos_token_id\": 361, \"pad_token_id\": 0}\n", err);
	if (!err->status)
		write_text(dir, "tokenizer.json", "{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}\n", err);
	return err->status ? err->status : write_text(dir, "tokenizer_config.json", "{}\n", err);
}

static enum bl_status write_part(struct maker *m, const char *dir, int part, cJSON *map, struct bl_err *err)
{
	int64_t from = m->n * part / m->parts, to = m->n * (part + 1) / m->parts;
	struct bl_str head = {0};
	char name[64];

	snprintf(name, sizeof name, m->parts == 1 ? "model.safetensors" : "model-%05d-of-%05d.safetensors", part + 1, m->parts);
	uint64_t bytes = bl_st_layout(m->t + from, to - from, &head);
	char *path = bl_path_join(dir, name);
	unlink(path);
	m->part_fd[part] = bl_create_file(path, 0644, err);
	if (m->part_fd[part] >= 0) {
		if (ftruncate(m->part_fd[part], (off_t)bytes))
			bl_fail_sys(err, BL_IO, "%s", path);
		bl_pwrite_all(m->part_fd[part], head.s, head.len, 0, path, err);
	}
	for (int64_t i = from; i < to; i++) {
		m->t[i].file = part;
		cJSON_AddStringToObject(map, m->t[i].name, name);
		for (uint64_t at = 0; at < m->t[i].bytes; at += 1u << 20) {
			bl_xgrow(&m->pieces, &m->cap_pieces, m->n_pieces + 1);
			m->pieces[m->n_pieces].tensor = i;
			m->pieces[m->n_pieces].from = at;
			m->pieces[m->n_pieces++].n = m->t[i].bytes - at < 1u << 20 ? m->t[i].bytes - at : 1u << 20;
		}
	}
	bl_free(path);
	bl_str_free(&head);
	return err->status;
}

static enum bl_status make(struct maker *m, const char *dir, struct bl_err *err)
{
	cJSON *index = cJSON_CreateObject(), *metadata = cJSON_AddObjectToObject(index, "metadata");
	cJSON *map = cJSON_AddObjectToObject(index, "weight_map");
	int64_t elems = 0, bytes = 0;
	struct bl_str text = {0};
	struct bl_pool *pool = bl_pool_new(0);

	add(m, "model.embed_tokens.weight", m->s->vocab, m->s->hidden);
	for (int b = 0; b < m->layers; b++)
		add_block(m, b);
	add(m, "model.norm.weight", m->s->hidden, 0);
	if (!m->s->tied)
		add(m, "lm_head.weight", m->s->vocab, m->s->hidden);
	m->part_fd = bl_xalloc((size_t)m->parts, sizeof *m->part_fd);
	bl_mkdirs(dir, 0755, err);
	if (!err->status)
		write_config(m, dir, err);
	for (int p = 0; p < m->parts && !err->status; p++)
		write_part(m, dir, p, map, err);
	if (!err->status)
		bl_pool_run(pool, m->n_pieces, fill, m, NULL, err);
	if (!err->status && m->parts > 1) {
		for (int64_t i = 0; i < m->n; i++) {
			elems += m->t[i].n_elems;
			bytes += (int64_t)m->t[i].bytes;
		}
		bl_json_add_int(metadata, "total_parameters", elems);
		bl_json_add_int(metadata, "total_size", bytes);
		bl_json_print(&text, index, 2, true);
		write_text(dir, "model.safetensors.index.json", bl_str_c(&text), err);
	}
	for (int p = 0; p < m->parts; p++)
		if (m->part_fd[p] > 0)
			close(m->part_fd[p]);
	bl_pool_free(pool);
	bl_str_free(&text);
	cJSON_Delete(index);
	return err->status;
}

static int usage(const char *why, const char *what)
{
	fprintf(stderr, "make_checkpoint: %s%s\nusage: make_checkpoint SHAPE DIR [--seed N] [--blocks N] [--shards N] [--dtype bf16|f16|f32]\nshapes:", why, what);
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		fprintf(stderr, " %s", shapes[i].name);
	fputc('\n', stderr);
	return 2;
}

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	*out = strtoull(text, &end, 10);
	return !*end && *out >= min && *out <= max;
}

int main(int argc, char **argv)
{
	static const struct { const char *name; enum bl_dtype dtype; } dtypes[] = {{"bf16", BL_BF16}, {"f16", BL_F16}, {"f32", BL_F32}};
	struct maker m = {.parts = 1, .dtype = BL_BF16, .seed = 42};
	struct bl_err err = BL_ERR_INIT;
	uint64_t v = 0;

	if (argc < 3)
		return usage("a shape and a folder are needed", "");
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		if (!strcmp(shapes[i].name, argv[1]))
			m.s = &shapes[i];
	if (!m.s)
		return usage("unknown shape ", argv[1]);
	m.layers = m.s->layers;
	m.arch = bl_arch_row_of(m.s->family);
	for (int i = 3; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		bool ok = false;
		if (!strcmp(argv[i], "--seed") && (ok = number(value, 0, UINT64_MAX, &v)))
			m.seed = v;
		else if (!strcmp(argv[i], "--blocks") && (ok = number(value, 1, BL_LAYERS_MAX, &v)))
			m.layers = (int)v;
		else if ((!strcmp(argv[i], "--shards") || !strcmp(argv[i], "--parts")) && (ok = number(value, 1, 99, &v)))
			m.parts = (int)v;
		for (size_t d = 0; d < 3 && !strcmp(argv[i], "--dtype"); d++)
			if (!strcmp(value, dtypes[d].name)) {
				m.dtype = dtypes[d].dtype;
				ok = true;
			}
		if (!ok)
			return usage("wrong option or value: ", argv[i]);
	}
	if (make(&m, argv[2], &err)) {
		fprintf(stderr, "make_checkpoint: %s\n", err.text);
		return 1;
	}
	return 0;
}
