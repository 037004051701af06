/* SPDX-License-Identifier: Apache-2.0
 * Opening checkpoints: the families in both spellings, hostile containers row by row, the cache, the index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/model/index.h"
#include "core/model/model.h"

static char tmp[64];

static char *shared(const char *name)
{
	const char *env = getenv("BL_SHARED");
	char *root = bl_path_join(BL_SOURCE_DIR, "../shared"), *path = bl_path_join(env ? env : root, name);

	bl_free(root);
	return path;
}

static void write_file(const char *name, const void *data, size_t n)
{
	struct bl_err err = BL_ERR_INIT;
	char *path = bl_path_join(tmp, name);

	unlink(path);
	assert_int_equal(bl_write_file(path, data, n, 0644, &err), BL_OK);
	bl_free(path);
}

/* ---- containers ---- */

static struct bl_str container(const char *header, size_t data_bytes)
{
	struct bl_str b = {0};
	uint64_t n = strlen(header);

	for (int i = 0; i < 8; i++)
		bl_str_addc(&b, (char)(n >> 8 * i));
	bl_str_add(&b, header);
	for (size_t i = 0; i < data_bytes; i++)
		bl_str_addc(&b, (char)i);
	return b;
}

static const struct { const char *what, *header; size_t data; const char *says; } bad[] = {
	{"gap at the start", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "gap"},
	{"gap between", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}", 3, "gap"},
	{"overlap", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "overlap"},
	{"trailing bytes", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 3, "accounts for"},
	{"past the end", "{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]}}", 3, "outside"},
	{"size and shape", "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,3]}}", 3, "need"},
	{"product overflows", "{\"a\":{\"dtype\":\"U8\",\"shape\":[9007199254740992,9007199254740992],\"data_offsets\":[0,3]}}", 3, "overflows"},
	{"negative size", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,3]}}", 3, "whole number"},
	{"backwards", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[3,0]}}", 3, "outside"},
	{"twice", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "a"},
	{"unknown dtype", "{\"a\":{\"dtype\":\"F4096\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "dtype"},
	{"unknown field", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3],\"x\":1}}", 3, "unknown field"},
	{"metadata not text", "{\"__metadata__\":{\"n\":1},\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "__metadata__"},
	{"escape in name", "{\"\\u001b[31m\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, "control characters"},
	{"not an object", "[1,2,3]", 0, "{"},
	{"offsets as text", "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[\"0\",\"3\"]}}", 3, "whole number"},
};

static void containers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_st st;
		struct bl_str b = container(bad[i].header, bad[i].data);
		enum bl_status s = bl_st_parse(&st, b.s, b.len, "x.safetensors", &err);
		if (!s || !strstr(err.text, bad[i].says) || strchr(err.text, '\033'))
			fail_msg("%s: status %d, says: %s", bad[i].what, s, err.text);
		assert_int_equal(bl_status_exit(s), 3);
		bl_str_free(&b);
	}
}

static void containers_that_are_right(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_st st;
	struct bl_str b = container("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[0,4]},"
				    "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[4,5]}}", 5);

	(void)state;
	assert_int_equal(bl_st_parse(&st, b.s, b.len, "x", &err), BL_OK);
	assert_int_equal(st.n_tensors, 3);
	assert_string_equal(st.format, "pt");
	assert_non_null(bl_st_find(&st, "none"));
	assert_int_equal(bl_st_find(&st, "s")->n_elems, 1);
	assert_null(bl_st_find(&st, "S"));
	bl_st_close(&st);
	bl_str_free(&b);
	static const size_t cuts[] = {0, 7, 8, 12};
	for (size_t i = 0; i < 4; i++) {
		bl_err_clear(&err);
		assert_int_not_equal(bl_st_parse(&st, "\xff\xff\xff\xff\xff\xff\xff\x7f{}  ", cuts[i], "x", &err), BL_OK);
	}
}

/* The hundred bytes of the format's own example come out of the writer. */
static void layout(void **state)
{
	struct bl_tensor t[] = {{.name = "b", .dtype = BL_U8, .rank = 1, .shape = {3}, .n_elems = 3, .bytes = 3},
				{.name = "c", .dtype = BL_I64, .rank = 1, .shape = {2}, .n_elems = 2, .bytes = 16},
				{.name = "a", .dtype = BL_U8, .rank = 1, .shape = {1}, .n_elems = 1, .bytes = 1}};
	struct bl_tensor one = {.name = "a", .dtype = BL_I32, .rank = 2, .shape = {1, 1}, .n_elems = 1, .bytes = 4};
	struct bl_str head = {0};

	(void)state;
	assert_int_equal(bl_st_layout(&one, 1, &head), 100);
	assert_int_equal(head.len, 96);
	assert_memory_equal(head.s, "X\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[0,4]}} ", 96);
	bl_str_clear(&head);
	uint64_t total = bl_st_layout(t, 3, &head);
	assert_string_equal(t[0].name, "c"); /* wider types first, then by name */
	assert_string_equal(t[1].name, "a");
	assert_int_equal(t[0].offset, head.len);
	assert_int_equal(total, head.len + 20);
	bl_str_free(&head);
}

static void many_tensors(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_st st;
	struct bl_str h = {0};
	uint64_t start;

	(void)state;
	bl_str_add(&h, "{");
	for (int i = 0; i < 200000; i++)
		bl_str_addf(&h, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i, i, i + 1);
	bl_str_add(&h, "}");
	struct bl_str b = container(bl_str_c(&h), 200000);
	start = bl_now_ns();
	assert_int_equal(bl_st_parse(&st, b.s, b.len, "x", &err), BL_OK);
	assert_true(bl_now_ns() - start < 10000000000u); /* linear: about a second; quadratic would take minutes */
	assert_non_null(bl_st_find(&st, "t199999"));
	bl_st_close(&st);
	bl_str_free(&b);
	bl_str_clear(&h);
	for (int i = 0; i < 50000000; i++)
		bl_str_addc(&h, '[');
	b = container("", 0);
	bl_str_free(&b);
	b = (struct bl_str){0};
	for (int i = 0; i < 8; i++)
		bl_str_addc(&b, (char)((uint64_t)(h.len + 5) >> 8 * i));
	bl_str_add(&b, "{\"a\":");
	bl_str_addn(&b, h.s, h.len);
	start = bl_now_ns();
	assert_int_not_equal(bl_st_parse(&st, b.s, b.len, "x", &err), BL_OK);
	assert_true(bl_now_ns() - start < 5000000000u);
	bl_str_free(&b);
	bl_str_free(&h);
}

/* ---- configs ---- */

static enum bl_status parse(const char *text, struct bl_err *err)
{
	struct bl_config c;
	enum bl_status s = bl_config_parse(&c, text, strlen(text), "config.json", err);

	if (!s)
		bl_config_fini(&c);
	return s;
}

#define GOOD "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":128,\"num_attention_heads\":4,\"vocab_size\":32"

static void configs(void **state)
{
	static const struct { const char *text, *says; } rows[] = {
		{"{}", "model_type"},
		{"{\"model_type\":7}", "model_type"},
		{"{\"model_type\":\"llama\",\"num_hidden_layers\":-3}", "num_hidden_layers"},
		{"{\"model_type\":\"llama\",\"num_hidden_layers\":1e300}", "num_hidden_layers"},
		{"{\"model_type\":\"llama\",\"num_hidden_layers\":2.5}", "num_hidden_layers"},
		{"{" GOOD ",\"num_key_value_heads\":3}", "num_key_value_heads"},
		{"{" GOOD ",\"rope_scaling\":{\"rope_type\":\"yarn\"}}", "yarn"},
		{"{" GOOD ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", "low_freq_factor"},
		{"{" GOOD ",\"layer_types\":[\"full_attention\"]}", "layer_types"},
		{"{" GOOD ",\"layer_types\":[\"full_attention\",\"sideways\"]}", "layer_types[1]"},
		{"{" GOOD ",\"layer_types\":[\"sliding_attention\",\"full_attention\"]}", "sliding_window"},
		{"{" GOOD ",\"tie_word_embeddings\":\"yes\"}", "tie_word_embeddings"},
		{"{" GOOD ",\"quantization_config\":[]}", "quantization_config"},
		{"{" GOOD ",\"hidden_size\":65}", "hidden_size"},
		{"[]", "config.json"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		if (!parse(rows[i].text, &err) || !strstr(err.text, rows[i].says) || bl_status_exit(err.status) != 3)
			fail_msg("%s: %s", rows[i].text, err.text);
	}
	struct bl_err err = BL_ERR_INIT;
	assert_int_equal(parse("{" GOOD "}", &err), BL_OK);
}

static void windows(void **state)
{
	static const struct { const char *text; const char *slides; } rows[] = {
		{"{\"model_type\":\"exaone4\",\"num_hidden_layers\":8,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":4,\"vocab_size\":9,"
		 "\"sliding_window\":4096,\"sliding_window_pattern\":4}", "11101110"},
		{"{\"model_type\":\"exaone4\",\"num_hidden_layers\":8,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":4,\"vocab_size\":9,"
		 "\"sliding_window\":4096,\"sliding_window_pattern\":\"LLLG\"}", "11101110"},
		{"{\"model_type\":\"exaone4\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":4,\"vocab_size\":9,"
		 "\"sliding_window\":null,\"sliding_window_pattern\":0}", "00"},
		{"{\"model_type\":\"mistral\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":4,\"vocab_size\":9,"
		 "\"sliding_window\":64}", "11"},
		{"{\"model_type\":\"qwen2\",\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":8,\"num_attention_heads\":4,\"vocab_size\":9,"
		 "\"sliding_window\":32,\"use_sliding_window\":false}", "00"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_config c;
		assert_int_equal(bl_config_parse(&c, rows[i].text, strlen(rows[i].text), "c", &err), BL_OK);
		for (int64_t l = 0; l < c.layers; l++)
			if (c.sliding[l] != (rows[i].slides[l] == '1'))
				fail_msg("row %zu, layer %" PRId64 ": %d", i, l, c.sliding[l]);
		bl_config_fini(&c);
	}
}

/* ---- real folders ---- */

static void copy(const char *from, const char *name)
{
	struct bl_err err = BL_ERR_INIT;
	char *text, *path = bl_path_join(from, name);
	size_t n;

	assert_int_equal(bl_read_file(&text, &n, path, 1u << 30, false, &err), BL_OK);
	write_file(name, text, n);
	bl_free(text);
	bl_free(path);
}

static void families(void **state)
{
	static const struct { const char *name; int units; } rows[] = {{"llama", 12}, {"llama_linear", 8}, {"qwen2", 12}, {"qwen3", 12}, {"mistral", 12},
		{"exaone4_full", 12}, {"exaone4_hybrid", 16}, {"gemma2", 0}, {"gemma3_text", 0}, {"phi3", 0}, {"olmo2", 0}, {"qwen3_moe", 0}, {"exaone_moe", 0}};
	char *root = shared("golden/arch");

	(void)state;
	if (!bl_is_dir(root)) {
		bl_free(root);
		print_message("skipped: no ../shared/golden/arch\n");
		skip();
	}
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char *dir = bl_path_join(root, rows[i].name);
		struct bl_err err = BL_ERR_INIT;
		struct bl_model *a = NULL, *b = NULL;
		enum bl_status s = bl_model_open(&a, dir, &err);
		if (!rows[i].units) {
			assert_int_equal(s, BL_UNSUPPORTED);
			assert_non_null(strstr(err.text, "model_type"));
			bl_free(dir);
			continue;
		}
		if (s)
			fail_msg("%s: %s", rows[i].name, err.text);
		assert_int_equal(a->n_units, rows[i].units);
		assert_int_equal(a->n_problems, 0);
		copy(dir, "model.safetensors");
		char *v5 = bl_path_join(dir, "config.v5.json"), *text;
		size_t n;
		assert_int_equal(bl_read_file(&text, &n, v5, 1u << 20, true, &err), BL_OK);
		write_file("config.json", text, n);
		if (bl_model_open(&b, tmp, &err))
			fail_msg("%s in the newer spelling: %s", rows[i].name, err.text);
		assert_memory_equal(a->config.sliding, b->config.sliding, sizeof a->config.sliding);
		assert_memory_equal(&a->config.rope, &b->config.rope, sizeof a->config.rope);
		assert_int_equal(a->config.head_dim, b->config.head_dim);
		assert_int_equal(a->config.tied, b->config.tied);
		assert_int_equal(b->n_problems, 1);
		struct bl_str edits = {0};
		cJSON *out = bl_config_v457(&b->config, &edits);
		assert_true(bl_json_is_null_or_missing(out, "rope_parameters"));
		assert_true(cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(out, "rope_theta")));
		assert_true(edits.len > 0);
		cJSON_Delete(out);
		bl_str_free(&edits);
		bl_free(text);
		bl_free(v5);
		bl_model_close(a);
		bl_model_close(b);
		bl_free(dir);
	}
	bl_free(root);
}

static void demo(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m;

	(void)state;
	assert_int_equal(bl_model_open(&m, BL_SOURCE_DIR "/tests/models/tiny-exaone4", &err), BL_OK);
	assert_int_equal(m->n_units, 32);
	assert_string_equal(m->units[5].name, "model.layers.1.self_attn.o_proj");
	assert_int_equal(bl_model_unit(m, "model.layers.1.self_attn.k_proj"), 4);
	assert_int_equal(bl_model_unit(m, "7.down"), 31);
	assert_int_equal(bl_model_unit(m, "8.down"), -1);
	assert_int_equal(m->units[0].rows, 512);
	bl_model_close(m);
	/* a tensor that config.json contradicts, one that is missing, one too many */
	copy(BL_SOURCE_DIR "/tests/models/tiny-exaone4", "model.safetensors");
	copy(BL_SOURCE_DIR "/tests/models/tiny-exaone4", "config.json");
	char *path = bl_path_join(tmp, "config.json"), *text;
	size_t n;
	static const struct { const char *from, *to, *says; } edits[] = {
		{"\"intermediate_size\": 512", "\"intermediate_size\": 513", "mlp.gate_proj.weight"},
		{"\"num_hidden_layers\": 8", "\"num_hidden_layers\": 9", "layer_types"},
		{"\"vocab_size\": 4096", "\"vocab_size\": 4095", "embed_tokens"},
		{"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "lm_head.weight"},
		{"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act"},
	};
	assert_int_equal(bl_read_file(&text, &n, path, 1u << 20, true, &err), BL_OK);
	for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
		struct bl_str b = {0};
		const char *at = strstr(text, edits[i].from);
		assert_non_null(at);
		bl_str_addn(&b, text, (size_t)(at - text));
		bl_str_add(&b, edits[i].to);
		bl_str_add(&b, at + strlen(edits[i].from));
		write_file("config.json", b.s, b.len);
		bl_err_clear(&err);
		if (!bl_model_open(&m, tmp, &err) || !strstr(err.text, edits[i].says))
			fail_msg("%s: %s", edits[i].to, err.text);
		bl_str_free(&b);
	}
	bl_free(text);
	bl_free(path);
}

static void indices(void **state)
{
	static const struct { const char *text, *says; } rows[] = {
		{"{}", "weight_map"},
		{"{\"weight_map\":{}}", "weight_map"},
		{"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "weight_map.a"},
		{"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "weight_map.a"},
		{"{\"weight_map\":{\"a\":\"sub/x.safetensors\"}}", "weight_map.a"},
		{"{\"weight_map\":{\"a\":7}}", "weight_map.a"},
		{"{\"weight_map\":{\"a\":\"x.bin\"}}", "weight_map.a"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_file_list l = {0};
		if (!bl_index_parse(&l, rows[i].text, strlen(rows[i].text), "index", &err) || !strstr(err.text, rows[i].says))
			fail_msg("%s: %s", rows[i].text, err.text);
	}
}

static void cache(void **state)
{
	char *repo = bl_path_join(tmp, "hub/models--LGAI--Tiny"), *snap = bl_path_join(repo, "snapshots/abc123"), *blobs = bl_path_join(repo, "blobs");
	char *refs = bl_path_join(repo, "refs"), *hub = bl_path_join(tmp, "hub"), *link;
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m;

	(void)state;
	assert_int_equal(bl_mkdirs(snap, 0755, &err), BL_OK);
	assert_int_equal(bl_mkdirs(blobs, 0755, &err), BL_OK);
	assert_int_equal(bl_mkdirs(refs, 0755, &err), BL_OK);
	static const char *const names[] = {"config.json", "model.safetensors"};
	for (int i = 0; i < 2; i++) {
		char *from = bl_path_join(BL_SOURCE_DIR "/tests/models/tiny-exaone4", names[i]), *text, *blob = bl_path_join(blobs, names[i]);
		size_t n;
		assert_int_equal(bl_read_file(&text, &n, from, 1u << 30, false, &err), BL_OK);
		assert_int_equal(bl_write_file(blob, text, n, 0644, &err), BL_OK);
		link = bl_path_join(snap, names[i]);
		assert_int_equal(symlink(blob, link), 0);
		bl_free(link);
		bl_free(blob);
		bl_free(text);
		bl_free(from);
	}
	setenv("HF_HUB_CACHE", hub, 1);
	char *main_ref = bl_path_join(refs, "main");
	assert_int_equal(bl_write_file(main_ref, "abc123\n", 7, 0644, &err), BL_OK);
	if (bl_model_open(&m, "LGAI/Tiny", &err))
		fail_msg("%s", err.text);
	assert_string_equal(m->title, "Tiny");
	bl_model_close(m);
	struct bl_found *found;
	size_t n = 0, hits = 0;
	bl_model_discover(&found, &n, NULL, 0);
	for (size_t i = 0; i < n; i++)
		hits += !strcmp(found[i].id, "LGAI/Tiny");
	assert_int_equal(hits, 1);
	bl_found_free(found, n);
	assert_int_equal(bl_write_file(main_ref, "../../../etc", 12, 0644, &err), BL_OK);
	assert_int_not_equal(bl_model_open(&m, "LGAI/Tiny", &err), BL_OK);
	bl_err_clear(&err);
	assert_int_equal(bl_model_open(&m, "LGAI/Other", &err), BL_NOT_FOUND);
	unsetenv("HF_HUB_CACHE");
	bl_free(main_ref);
	bl_free(repo);
	bl_free(snap);
	bl_free(blobs);
	bl_free(refs);
	bl_free(hub);
}

/* Every allocation of an open fails once: a clean error or the program's last words, never a crash. */
static void allocations(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 100000; n += n < 200 ? 1 : 37) {
		int status;
		pid_t pid = fork();
		if (!pid) {
			struct bl_err err = BL_ERR_INIT;
			struct bl_model *m;
			if (!freopen("/dev/null", "w", stderr))
				_exit(9);
			bl_mem_fail_at(n);
			enum bl_status s = bl_model_open(&m, BL_SOURCE_DIR "/tests/models/tiny-exaone4", &err);
			_exit(s ? bl_status_exit(s) : 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 6 && WEXITSTATUS(status) != 3))
			fail_msg("allocation %" PRIu64 ": status %x", n, (unsigned)status);
		if (WIFEXITED(status) && !WEXITSTATUS(status))
			return; /* past the last allocation */
	}
	fail_msg("open never came to an end");
}

static int setup(void **state)
{
	(void)state;
	snprintf(tmp, sizeof tmp, "/tmp/bl-model-XXXXXX");
	return mkdtemp(tmp) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	bl_remove_tree(tmp);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(containers), cmocka_unit_test(containers_that_are_right), cmocka_unit_test(layout), cmocka_unit_test(many_tensors),
		cmocka_unit_test(configs), cmocka_unit_test(windows), cmocka_unit_test(families), cmocka_unit_test(demo), cmocka_unit_test(indices),
		cmocka_unit_test(cache), cmocka_unit_test(allocations),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
