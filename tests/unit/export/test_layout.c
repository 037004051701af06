/* SPDX-License-Identifier: Apache-2.0
 * What an export consists of, before a byte is written: the ledger of known sizes, parts, the tied head, biases, config text. The checkpoints of real
 * shapes are headers with a hole behind them. */
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/export/zip_write.h"
#include "core/model/safetensors.h"

struct shape { const char *type, *architecture; int layers, hidden, ffn, heads, kv, head_dim, vocab; bool tied, head, qkv_bias, post_norms; };

static const struct shape exaone_1b2 = {"exaone4", "Exaone4ForCausalLM", 30, 2048, 4096, 32, 8, 64, 102400, true, false, false, true};
static const struct shape exaone_32b = {"exaone4", "Exaone4ForCausalLM", 64, 5120, 27392, 40, 8, 128, 102400, false, true, false, true};

struct list { struct bl_tensor *t; char (*names)[96]; int64_t n; };

static void add(struct list *l, int64_t rows, int64_t cols, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void add(struct list *l, int64_t rows, int64_t cols, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(l->names[l->n], sizeof l->names[0], fmt, ap);
	va_end(ap);
	struct bl_tensor *t = &l->t[l->n];
	*t = (struct bl_tensor){.name = l->names[l->n], .dtype = BL_BF16, .rank = cols ? 2 : 1, .shape = {rows, cols}, .n_elems = rows * (cols ? cols : 1)};
	t->bytes = 2 * (uint64_t)t->n_elems;
	l->n++;
}

/* A checkpoint of this shape whose weights are a hole. Returns the header's length. */
static uint64_t make_hollow(const char *dir, const struct shape *s, uint64_t *bytes)
{
	static const char *const qkv[] = {"q_proj", "k_proj", "v_proj"};
	struct list l = {bl_xalloc(4096, sizeof(struct bl_tensor)), bl_xalloc(4096, 96), 0};
	int64_t q = (int64_t)s->heads * s->head_dim, kv = (int64_t)s->kv * s->head_dim;
	struct bl_str head = {0}, config = {0};
	char path[600];

	add(&l, s->vocab, s->hidden, "model.embed_tokens.weight");
	add(&l, s->hidden, 0, "model.norm.weight");
	if (s->head)
		add(&l, s->vocab, s->hidden, "lm_head.weight");
	for (int b = 0; b < s->layers; b++) {
		for (int j = 0; j < 3; j++) {
			add(&l, j ? kv : q, s->hidden, "model.layers.%d.self_attn.%s.weight", b, qkv[j]);
			if (s->qkv_bias)
				add(&l, j ? kv : q, 0, "model.layers.%d.self_attn.%s.bias", b, qkv[j]);
		}
		add(&l, s->hidden, q, "model.layers.%d.self_attn.o_proj.weight", b);
		add(&l, s->ffn, s->hidden, "model.layers.%d.mlp.gate_proj.weight", b);
		add(&l, s->ffn, s->hidden, "model.layers.%d.mlp.up_proj.weight", b);
		add(&l, s->hidden, s->ffn, "model.layers.%d.mlp.down_proj.weight", b);
		add(&l, s->hidden, 0, "model.layers.%d.post_attention_layernorm.weight", b);
		add(&l, s->hidden, 0, "model.layers.%d.%s.weight", b, s->post_norms ? "post_feedforward_layernorm" : "input_layernorm");
		if (s->post_norms) {
			add(&l, s->head_dim, 0, "model.layers.%d.self_attn.q_norm.weight", b);
			add(&l, s->head_dim, 0, "model.layers.%d.self_attn.k_norm.weight", b);
		}
	}
	*bytes = bl_st_layout(l.t, l.n, &head);
	OK(bl_mkdirs(dir, 0755, &err));
	snprintf(path, sizeof path, "%s/model.safetensors", dir);
	put_file(path, head.s, head.len);
	assert_int_equal(truncate(path, (off_t)*bytes), 0);
	bl_str_addf(&config, "{\"architectures\":[\"%s\"],\"attention_dropout\":0.0,\"head_dim\":%d,\"hidden_act\":\"silu\",\"hidden_size\":%d,\"intermediate_size\":%d,"
		    "\"max_position_embeddings\":65536,\"model_type\":\"%s\",\"num_attention_heads\":%d,\"num_hidden_layers\":%d,\"num_key_value_heads\":%d,"
		    "\"rms_norm_eps\":1e-05,\"rope_theta\":1000000.0,\"tie_word_embeddings\":%s,\"torch_dtype\":\"bfloat16\",\"vocab_size\":%d}",
		    s->architecture, s->head_dim, s->hidden, s->ffn, s->type, s->heads, s->layers, s->kv, s->tied ? "true" : "false", s->vocab);
	snprintf(path, sizeof path, "%s/config.json", dir);
	put_file(path, config.s, config.len);
	uint64_t h = head.len - 8;
	bl_str_free(&head);
	bl_str_free(&config);
	bl_free(l.t);
	bl_free(l.names);
	return h;
}

static const struct bl_out_file *file_named(const struct bl_layout *l, const char *name)
{
	for (int i = 0; i < l->n_files; i++)
		if (!strcmp(l->files[i].name, name))
			return &l->files[i];
	return NULL;
}

static const struct bl_out_tensor *tensor_named(const struct bl_layout *l, const char *name)
{
	for (int64_t i = 0; i < l->n_tensors; i++)
		if (!strcmp(l->tensors[i].t.name, name))
			return &l->tensors[i];
	return NULL;
}

/* Sizes that were measured on real exports of EXAONE-4.0-1.2B (the BF16 row, W8A8), or follow from the same rules. */
static void ledger(void **state)
{
	static const struct { const char *plan, *format; int64_t tensors; uint64_t header, bytes; } rows[] = {
		{"", "", 332, 38304, 2558821288},
		{"W8A8", "int-quantized", 542, 62120, 1490219184},
		{"W4A16", "pack-quantized", 752, 84624, 971261368},
	};
	struct fix f;
	uint64_t bytes;

	(void)state;
	assert_int_equal(make_hollow(scratch("1b2"), &exaone_1b2, &bytes), 38304);
	assert_int_equal(bytes, 2558821288);
	fix_open(&f, scratch("1b2"), 1);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_layout l;
		struct bl_export_request rq = fix_request(&f, scratch("out"));
		fix_plan(&f, rows[i].plan);
		OK(bl_layout_make(&l, &rq, &err));
		assert_int_equal(l.n_tensors, rows[i].tensors);
		assert_string_equal(l.format, rows[i].format);
		const struct bl_out_file *w = file_named(&l, "model.safetensors");
		assert_non_null(w);
		assert_int_equal(w->head.len - 8, rows[i].header);
		assert_int_equal(w->bytes, rows[i].bytes);
		assert_null(tensor_named(&l, "lm_head.weight"));
		bl_layout_free(&l);
		struct bl_export_result r;
		OK(bl_export_preview(&r, &rq, &err));
		assert_int_equal(r.tensors, rows[i].tensors);
		assert_true(r.bytes_total > rows[i].bytes && r.bytes_total < rows[i].bytes + 100000);
		assert_string_equal(r.files[0].name, "model.safetensors");
		bl_export_result_free(&r);
		assert_false(bl_is_dir(scratch("out")));
	}
	fix_close(&f);
}

/* A head that is stored although it is tied costs 419,430,400 bytes and is left out. */
static void redundant_head(void **state)
{
	struct shape s = exaone_1b2;
	struct bl_layout l;
	struct fix f;
	uint64_t bytes;

	(void)state;
	s.head = true;
	make_hollow(scratch("head"), &s, &bytes);
	fix_open(&f, scratch("head"), 1);
	assert_true(f.model->head_stored_and_tied);
	fix_plan(&f, "W8A8");
	struct bl_export_request rq = fix_request(&f, scratch("out"));
	OK(bl_layout_make(&l, &rq, &err));
	assert_int_equal(l.n_tensors, 542);
	assert_int_equal(file_named(&l, "model.safetensors")->bytes, 1490219184);
	bl_layout_free(&l);
	fix_close(&f);
}

/* 32B: parts like the hub's, an index that names everything, the untied head kept, modules whole. */
static void parts(void **state)
{
	struct bl_layout l;
	struct fix f;
	uint64_t bytes;
	cJSON *index;

	(void)state;
	make_hollow(scratch("32b"), &exaone_32b, &bytes);
	fix_open(&f, scratch("32b"), 1);
	fix_plan(&f, "W4A16");
	struct bl_export_request rq = fix_request(&f, scratch("out"));
	OK(bl_layout_make(&l, &rq, &err));
	const struct bl_out_file *ix = file_named(&l, "model.safetensors.index.json");
	assert_non_null(ix);
	OK(bl_json_parse(&index, ix->head.s, ix->head.len, 100000, "index", &err));
	const cJSON *map = cJSON_GetObjectItem(index, "weight_map"), *meta = cJSON_GetObjectItem(index, "metadata");
	uint64_t sum = 0, elems = 0;
	int n_parts = 0;
	for (int64_t i = 0; i < l.n_tensors; i++) {
		const struct bl_out_tensor *o = &l.tensors[i];
		sum += o->t.bytes;
		elems += (uint64_t)o->t.n_elems;
		assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(map, o->t.name)), l.files[o->file].name);
		if (o->module >= 0)
			assert_int_equal(o->file, l.tensors[l.modules[o->module].tensor_at[0]].file);
	}
	assert_int_equal(cJSON_GetArraySize(map), l.n_tensors);
	assert_true(cJSON_GetObjectItem(meta, "total_size")->valuedouble == (double)sum);
	assert_true(cJSON_GetObjectItem(meta, "total_parameters")->valuedouble == (double)elems);
	for (int i = 0; i < l.n_files; i++)
		if (l.files[i].weights) {
			char name[64];
			n_parts++;
			snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", n_parts, 4);
			assert_string_equal(l.files[i].name, name);
			assert_true(l.files[i].bytes <= 5000000000u + 1000000u);
		}
	assert_int_equal(n_parts, 4);
	assert_non_null(tensor_named(&l, "lm_head.weight"));
	cJSON_Delete(index);
	bl_layout_free(&l);

	/* as a zip this needs 64-bit offsets; the limit of the target is a refusal unless rules are ignored */
	struct bl_export_result r;
	struct bl_err why = BL_ERR_INIT;
	rq.out = scratch("a.zip");
	OK(bl_export_preview(&r, &rq, &err));
	assert_true(r.package_bytes > r.bytes_total && r.package_bytes < r.bytes_total + 10000);
	bl_export_result_free(&r);
	rq.ignore_rules = false;
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_RULE);
	assert_non_null(strstr(why.text, "limit"));
	fix_close(&f);
}

/* Biases and norms stay as they are; only the weights of quantized linears are replaced. */
static void biases(void **state)
{
	const struct shape s = {"qwen2", "Qwen2ForCausalLM", 2, 256, 512, 4, 2, 64, 1000, false, true, true, false};
	struct bl_layout l;
	struct fix f;
	uint64_t bytes;

	(void)state;
	make_hollow(scratch("qwen"), &s, &bytes);
	fix_open(&f, scratch("qwen"), 1);
	fix_plan(&f, "W8A8 last.down=BF16");
	struct bl_export_request rq = fix_request(&f, scratch("out"));
	OK(bl_layout_make(&l, &rq, &err));
	const struct bl_out_tensor *b = tensor_named(&l, "model.layers.1.self_attn.k_proj.bias"), *w = tensor_named(&l, "model.layers.1.self_attn.k_proj.weight");
	const struct bl_out_tensor *full = tensor_named(&l, "model.layers.1.mlp.down_proj.weight");
	assert_true(b && b->copy && b->t.dtype == BL_BF16);
	assert_true(w && !w->copy && w->t.dtype == BL_I8);
	assert_true(full && full->copy);
	assert_null(tensor_named(&l, "model.layers.1.mlp.down_proj.weight_scale"));
	assert_non_null(tensor_named(&l, "lm_head.weight"));
	const char *text = file_named(&l, "config.json")->head.s;
	assert_non_null(strstr(text, "\"ignore\": [\n      \"model.layers.1.mlp.down_proj\",\n      \"lm_head\"\n    ]"));
	assert_non_null(strstr(text, "\"targets\": [\n          \"Linear\"\n        ]"));
	assert_non_null(strstr(text, "\"rope_theta\": 1000000.0"));
	assert_non_null(strstr(text, "\"attention_dropout\": 0.0"));
	bl_layout_free(&l);
	fix_close(&f);
}

/* Several schemes: exact names, every module in one group, each group with its format, sorted targets. */
static void mixed_config(void **state)
{
	struct bl_layout l;
	struct fix f;
	cJSON *c;
	int named = 0;

	(void)state;
	fix_open(&f, TINY, 1);
	fix_plan(&f, "W8A8 gate_up=W4A16_ASYM_g64 0.down=BF16 1.down=FP8_DYNAMIC 2.down=W8A16");
	struct bl_export_request rq = fix_request(&f, scratch("out"));
	OK(bl_layout_make(&l, &rq, &err));
	assert_string_equal(l.format, "mixed-precision");
	const struct bl_out_file *file = file_named(&l, "config.json");
	OK(bl_json_parse(&c, file->head.s, file->head.len, 100000, "config", &err));
	const cJSON *q = cJSON_GetObjectItem(c, "quantization_config"), *groups = cJSON_GetObjectItem(q, "config_groups");
	static const char *const formats[] = {"int-quantized", "pack-quantized", "float-quantized", "pack-quantized"};
	assert_int_equal(cJSON_GetArraySize(groups), 4);
	int k = 0;
	for (const cJSON *g = groups->child; g; g = g->next, k++) {
		char name[16];
		const cJSON *w = cJSON_GetObjectItem(g, "weights"), *a = cJSON_GetObjectItem(g, "input_activations");
		snprintf(name, sizeof name, "group_%d", k);
		assert_string_equal(g->string, name);
		assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(g, "format")), formats[k]);
		assert_int_equal(cJSON_GetArraySize(g), 5);
		assert_int_equal(cJSON_GetArraySize(w), 12);
		assert_true(cJSON_IsNull(a) || cJSON_GetArraySize(a) == 12);
		const char *before = "";
		for (const cJSON *t = cJSON_GetObjectItem(g, "targets")->child; t; t = t->next, named++) {
			assert_true(bl_starts_with(t->valuestring, "model.layers."));
			assert_true(strcmp(before, t->valuestring) < 0);
			before = t->valuestring;
		}
		bool sym = cJSON_IsTrue(cJSON_GetObjectItem(w, "symmetric"));
		assert_int_equal(sym, k != 1);
		assert_true(sym ? cJSON_IsNull(cJSON_GetObjectItem(w, "zp_dtype")) : !strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(w, "zp_dtype")), "torch.int8"));
	}
	assert_int_equal(named, 8 * 7 - 1);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(q, "ignore")), 2);
	cJSON_Delete(c);
	bl_layout_free(&l);
	/* widths of one format have that format globally: older clients load it */
	fix_plan(&f, "W4A16 down=W8A16 qkv=W8A16_g128");
	OK(bl_layout_make(&l, &rq, &err));
	assert_string_equal(l.format, "pack-quantized");
	bl_layout_free(&l);
	fix_close(&f);
}

static void refusals(void **state)
{
	struct bl_err why = BL_ERR_INIT;
	struct bl_export_result r;
	struct fix f;

	(void)state;
	fix_open(&f, TINY, 1);
	fix_plan(&f, "W8A8");
	struct bl_export_request rq = fix_request(&f, scratch("out"));
	rq.format = "bf16";
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_RULE);
	bl_err_clear(&why);
	rq.format = "nothing";
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_USAGE);
	bl_err_clear(&why);
	rq.format = NULL;
	fix_plan(&f, "W3A16");
	rq.ignore_rules = false;
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_RULE);
	bl_err_clear(&why);
	fix_plan(&f, "W8A8");
	put_file(scratch("file"), "x", 1);
	rq.out = scratch("file");
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_USAGE);
	bl_err_clear(&why);
	rq.out = TINY;
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_USAGE);
	bl_err_clear(&why);
	OK(bl_mkdirs(scratch("dir.zip"), 0755, &err));
	rq.out = scratch("dir.zip");
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_USAGE);
	bl_err_clear(&why);
	rq.out = scratch("file");
	rq.overwrite = false;
	assert_int_equal(bl_export_preview(&r, &rq, &why), BL_USAGE);
	assert_non_null(strstr(why.text, "exists"));
	fix_close(&f);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {T(ledger), T(redundant_head), T(parts), T(biases), T(mixed_config), T(refusals)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
