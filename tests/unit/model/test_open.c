/* SPDX-License-Identifier: Apache-2.0
 * Opening checkpoints: the families in both spellings, what a folder may have wrong, the cache, the index. */
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
#include <unistd.h>

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
		{"exaone4_full", 12}, {"exaone4_hybrid", 16}, {"gemma2", 12}, {"gemma3_text", 16}, {"phi3", 12}, {"olmo2", 12}, {"qwen3_moe", 0}, {"exaone_moe", 0}};
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
		/* the same numbers as in the published file, and units of the same shape */
		struct bl_config again;
		struct bl_str printed = {0};
		bl_json_print(&printed, out, 2, true);
		if (bl_config_parse(&again, printed.s, printed.len, "rewritten", &err))
			fail_msg("%s", err.text);
		assert_false(again.v5_spelling);
		cJSON *kept = again.json;
		again.json = a->config.json; /* the rest is plain data and must be equal to the byte */
		struct bl_config published = a->config;
		assert_memory_equal(&again, &published, sizeof again);
		again.json = kept;
		static const char *const keys[] = {"rope_theta", "rope_scaling", "sliding_window_pattern"};
		for (size_t k = 0; k < 3; k++) {
			const cJSON *x = cJSON_GetObjectItemCaseSensitive(out, keys[k]), *y = cJSON_GetObjectItemCaseSensitive(a->config.json, keys[k]);
			if (bl_json_is_null_or_missing(out, keys[k]) && bl_json_is_null_or_missing(a->config.json, keys[k]))
				continue;
			struct bl_str xs = {0}, ys = {0};
			bl_json_print(&xs, x, 0, true);
			bl_json_print(&ys, y, 0, true);
			assert_string_equal(bl_str_c(&xs), bl_str_c(&ys));
			bl_str_free(&xs);
			bl_str_free(&ys);
		}
		for (int u = 0; u < a->n_units; u++) {
			assert_string_equal(a->units[u].name, b->units[u].name);
			assert_int_equal(a->units[u].rows, b->units[u].rows);
			assert_int_equal(a->units[u].cols, b->units[u].cols);
			assert_int_equal(a->units[u].bytes, b->units[u].bytes);
		}
		bl_config_fini(&again);
		bl_str_free(&printed);
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
	static const char *const bad_refs[] = {"../../../etc", "/etc", "..", "", "abc123/../abc123", "\033[2J", "abc", "abc123x\n"};
	for (size_t i = 0; i < sizeof bad_refs / sizeof bad_refs[0]; i++) {
		bl_err_clear(&err);
		assert_int_equal(bl_write_file(main_ref, bad_refs[i], strlen(bad_refs[i]), 0644, &err), BL_OK);
		enum bl_status s = bl_model_open(&m, "LGAI/Tiny", &err);
		if (s != (i < 6 ? BL_INVALID : BL_NOT_FOUND) || strchr(err.text, '\033'))
			fail_msg("ref %zu: %s", i, err.text);
	}
	/* no refs/main: the only snapshot, by its path as well */
	unlink(main_ref);
	bl_err_clear(&err);
	if (bl_model_open(&m, "LGAI/Tiny", &err))
		fail_msg("%s", err.text);
	bl_model_close(m);
	if (bl_model_open(&m, snap, &err))
		fail_msg("%s", err.text);
	assert_string_equal(m->title, "Tiny");
	bl_model_close(m);
	char *second = bl_path_join(repo, "snapshots/def456");
	assert_int_equal(bl_mkdirs(second, 0755, &err), BL_OK);
	bl_free(second);
	assert_int_equal(bl_model_open(&m, "LGAI/Tiny", &err), BL_NOT_FOUND);
	/* a link into nothing */
	bl_err_clear(&err);
	assert_int_equal(bl_write_file(main_ref, "abc123", 6, 0644, &err), BL_OK);
	char *blob = bl_path_join(blobs, "model.safetensors");
	unlink(blob);
	bl_free(blob);
	assert_int_equal(bl_model_open(&m, "LGAI/Tiny", &err), BL_NOT_FOUND);
	static const char *const bad_ids[] = {"LGAI/../Tiny", "../LGAI/Tiny", "LGAI/.Tiny", "LGAI/Ti\033ny", "LGAI/", "/Tiny", "a/b/c"};
	for (size_t i = 0; i < sizeof bad_ids / sizeof bad_ids[0]; i++) {
		bl_err_clear(&err);
		assert_int_equal(bl_model_open(&m, bad_ids[i], &err), BL_NOT_FOUND);
		assert_null(strchr(err.text, '\033'));
	}
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
		cmocka_unit_test(families), cmocka_unit_test(demo), cmocka_unit_test(indices),
		cmocka_unit_test(cache),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
