/* SPDX-License-Identifier: Apache-2.0
 * Opening checkpoints: the families in both spellings, what a folder may have wrong, the cache, the index, missing memory. */
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
		cmocka_unit_test(families), cmocka_unit_test(demo), cmocka_unit_test(indices),
		cmocka_unit_test(cache), cmocka_unit_test(allocations),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
