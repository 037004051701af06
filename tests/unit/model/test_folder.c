/* SPDX-License-Identifier: Apache-2.0
 * What a folder may have wrong: a one-block Llama written here, with one thing changed per row. What is refused names the tensor, what is
 * tolerated says what follows. */
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

#include "core/base/mem.h"
#include "core/model/model.h"

static char tmp[64];

#define CONFIG(more) "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":8," \
	"\"intermediate_size\":16,\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":6" more "}"
#define UNTIED CONFIG("")
#define TIED CONFIG(",\"tie_word_embeddings\":true")
#define QUANTIZED CONFIG(",\"quantization_config\":{\"quant_method\":\"gptq\"}")

static const struct bl_tensor plain[] = {
	{.name = "model.embed_tokens.weight", .rank = 2, .shape = {6, 8}},
	{.name = "model.layers.0.self_attn.q_proj.weight", .rank = 2, .shape = {8, 8}},
	{.name = "model.layers.0.self_attn.k_proj.weight", .rank = 2, .shape = {4, 8}},
	{.name = "model.layers.0.self_attn.v_proj.weight", .rank = 2, .shape = {4, 8}},
	{.name = "model.layers.0.self_attn.o_proj.weight", .rank = 2, .shape = {8, 8}},
	{.name = "model.layers.0.mlp.gate_proj.weight", .rank = 2, .shape = {16, 8}},
	{.name = "model.layers.0.mlp.up_proj.weight", .rank = 2, .shape = {16, 8}},
	{.name = "model.layers.0.mlp.down_proj.weight", .rank = 2, .shape = {8, 16}},
	{.name = "model.layers.0.input_layernorm.weight", .rank = 1, .shape = {8}},
	{.name = "model.layers.0.post_attention_layernorm.weight", .rank = 1, .shape = {8}},
	{.name = "model.norm.weight", .rank = 1, .shape = {8}},
	{.name = "lm_head.weight", .rank = 2, .shape = {6, 8}},
};
#define N_PLAIN (sizeof plain / sizeof plain[0])

static void put(const char *name, const void *data, size_t n)
{
	struct bl_err err = BL_ERR_INIT;
	char *path = bl_path_join(tmp, name);

	if (bl_write_file(path, data, n, 0644, &err))
		fail_msg("%s", err.text);
	bl_free(path);
}

static void text(const char *name, const char *s)
{
	put(name, s, strlen(s));
}

static void drop(const char *name)
{
	char *path = bl_path_join(tmp, name);

	unlink(path);
	bl_free(path);
}

static void write_tensors(const char *file, const struct bl_tensor *list, size_t n)
{
	struct bl_tensor t[N_PLAIN + 4];
	struct bl_str b = {0};
	uint64_t total;

	memcpy(t, list, n * sizeof *t);
	for (size_t i = 0; i < n; i++) {
		t[i].n_elems = 1;
		for (int d = 0; d < t[i].rank; d++)
			t[i].n_elems *= t[i].shape[d];
		t[i].bytes = (uint64_t)(t[i].n_elems * bl_dtype_bytes(t[i].dtype));
	}
	total = bl_st_layout(t, (int64_t)n, &b);
	while (b.len < total)
		bl_str_addc(&b, 0);
	put(file, b.s, b.len);
	bl_str_free(&b);
}

/* The plain list with one tensor changed (same name), dropped (rank -1) or added. */
static size_t changed(struct bl_tensor *out, enum bl_dtype dtype, const struct bl_tensor *change)
{
	size_t n = 0;
	bool found = false;

	for (size_t i = 0; i < N_PLAIN; i++) {
		struct bl_tensor t = plain[i];
		t.dtype = dtype;
		if (change && change->name && !strcmp(change->name, t.name)) {
			found = true;
			if (change->rank < 0)
				continue;
			t = *change;
		}
		out[n++] = t;
	}
	if (change && change->name && !found)
		out[n++] = *change;
	return n;
}

static bool any_problem(const struct bl_model *m, const char *says)
{
	for (int i = 0; i < m->n_problems; i++)
		if (strstr(m->problems[i], says))
			return true;
	return false;
}

struct row { const char *what, *config; enum bl_dtype dtype; struct bl_tensor change; enum bl_status status; const char *says; };

static void one_thing_wrong(void **state)
{
	static const struct row rows[] = {
		{"right", UNTIED, BL_BF16, {0}, BL_OK, NULL},
		{"half floats", UNTIED, BL_F16, {0}, BL_OK, NULL},
		{"floats", UNTIED, BL_F32, {0}, BL_OK, NULL},
		{"doubles", UNTIED, BL_F64, {0}, BL_UNSUPPORTED, "q_proj.weight: dtype F64"},
		{"tied, no head", TIED, BL_BF16, {.name = "lm_head.weight", .rank = -1}, BL_OK, NULL},
		{"tied, with a head", TIED, BL_BF16, {0}, BL_OK, "96 bytes for nothing"},
		{"untied, no head", UNTIED, BL_BF16, {.name = "lm_head.weight", .rank = -1}, BL_INVALID, "lm_head.weight: missing"},
		{"no embedding", UNTIED, BL_BF16, {.name = "model.embed_tokens.weight", .rank = -1}, BL_INVALID, "model.embed_tokens.weight: missing"},
		{"no norm", UNTIED, BL_BF16, {.name = "model.layers.0.input_layernorm.weight", .rank = -1}, BL_INVALID, "input_layernorm.weight: missing"},
		{"no up", UNTIED, BL_BF16, {.name = "model.layers.0.mlp.up_proj.weight", .rank = -1}, BL_INVALID, "mlp.up_proj.weight: missing"},
		{"codes without a quantization_config", UNTIED, BL_BF16,
		 {.name = "model.layers.0.mlp.up_proj.weight", .dtype = BL_I8, .rank = 2, .shape = {16, 8}}, BL_UNSUPPORTED, "up_proj.weight: dtype I8"},
		{"a norm of bytes", UNTIED, BL_BF16, {.name = "model.norm.weight", .dtype = BL_U8, .rank = 1, .shape = {8}}, BL_UNSUPPORTED,
		 "model.norm.weight: dtype U8"},
		{"an embedding of bytes", QUANTIZED, BL_BF16, {.name = "model.embed_tokens.weight", .dtype = BL_I8, .rank = 2, .shape = {6, 8}},
		 BL_UNSUPPORTED, "model.embed_tokens.weight: dtype I8"},
		{"turned", UNTIED, BL_BF16, {.name = "model.layers.0.mlp.up_proj.weight", .dtype = BL_BF16, .rank = 2, .shape = {8, 16}}, BL_INVALID,
		 "has shape [8,16], config.json says [16,8]"},
		{"flat", UNTIED, BL_BF16, {.name = "model.layers.0.mlp.up_proj.weight", .dtype = BL_BF16, .rank = 1, .shape = {128}}, BL_INVALID,
		 "has shape [128], config.json says [16,8]"},
		{"three dimensions", UNTIED, BL_BF16, {.name = "model.norm.weight", .dtype = BL_BF16, .rank = 3, .shape = {8, 1, 1}}, BL_INVALID,
		 "has shape [8,1,1], config.json says [8]"},
		{"one number", UNTIED, BL_BF16, {.name = "model.norm.weight", .dtype = BL_BF16, .rank = 0}, BL_INVALID, "has shape [], config.json says [8]"},
		{"two dtypes in a fused unit", UNTIED, BL_BF16, {.name = "model.layers.0.self_attn.k_proj.weight", .dtype = BL_F32, .rank = 2, .shape = {4, 8}},
		 BL_UNSUPPORTED, "k_proj.weight: is F32"},
		{"inv_freq", UNTIED, BL_BF16, {.name = "model.layers.0.self_attn.rotary_emb.inv_freq", .dtype = BL_F32, .rank = 1, .shape = {2}}, BL_OK, NULL},
		{"a bias that nobody reads", UNTIED, BL_BF16, {.name = "model.layers.0.self_attn.q_proj.bias", .dtype = BL_BF16, .rank = 1, .shape = {8}}, BL_OK,
		 "1 tensor not understood (model.layers.0.self_attn.q_proj.bias)"},
		{"a bias that is missing", CONFIG(",\"attention_bias\":true"), BL_BF16, {0}, BL_INVALID, "q_proj.bias: missing"},
		{"a block too many", UNTIED, BL_BF16, {.name = "model.layers.1.mlp.up_proj.weight", .dtype = BL_BF16, .rank = 2, .shape = {16, 8}}, BL_OK,
		 "model.layers.1.mlp.up_proj.weight"},
		{"another spelling of block 0", UNTIED, BL_BF16, {.name = "model.layers.00.input_layernorm.weight", .dtype = BL_BF16, .rank = 1, .shape = {8}},
		 BL_OK, "model.layers.00.input_layernorm.weight"},
		{"a block number beyond all", UNTIED, BL_BF16, {.name = "model.layers.99999999999999999999.x", .dtype = BL_U8, .rank = 1, .shape = {1}}, BL_OK,
		 "model.layers.99999999999999999999.x"},
		{"a path for a name", UNTIED, BL_BF16, {.name = "../../etc/passwd", .dtype = BL_U8, .rank = 1, .shape = {1}}, BL_OK, "../../etc/passwd"},
		{"another class", "{\"architectures\":[\"GPT2LMHeadModel\"]," , BL_BF16, {0}, BL_OK, "GPT2LMHeadModel"},
		{"no class", "{", BL_BF16, {0}, BL_OK, "names no architectures"},
		{"the newer spelling", CONFIG(",\"rope_parameters\":{\"rope_theta\":5}"), BL_BF16, {0}, BL_OK, "transformers 5"},
		{"quantized: codes", QUANTIZED, BL_BF16, {.name = "model.layers.0.mlp.up_proj.weight", .dtype = BL_I8, .rank = 2, .shape = {16, 8}}, BL_OK,
		 "already quantized (gptq)"},
		{"quantized: no weight", QUANTIZED, BL_BF16, {.name = "model.layers.0.mlp.up_proj.weight", .rank = -1}, BL_OK, "already quantized (gptq)"},
		{"quantized: a plain weight of another shape", QUANTIZED, BL_BF16,
		 {.name = "model.layers.0.mlp.up_proj.weight", .dtype = BL_BF16, .rank = 2, .shape = {16, 4}}, BL_INVALID, "[16,4]"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_tensor t[N_PLAIN + 4];
		struct bl_err err = BL_ERR_INIT;
		struct bl_model *m = NULL;
		size_t n = changed(t, rows[i].dtype, &rows[i].change), len = strlen(rows[i].config);
		if (rows[i].config[len - 1] == '}') {
			text("config.json", rows[i].config);
		} else {
			char whole[600];
			snprintf(whole, sizeof whole, "%s%s", rows[i].config, strstr(UNTIED, "\"model_type\""));
			text("config.json", whole);
		}
		write_tensors("model.safetensors", t, n);
		enum bl_status s = bl_model_open(&m, tmp, &err);
		if (s != rows[i].status)
			fail_msg("%s: status %s: %s", rows[i].what, bl_status_name(s), err.text);
		if (s) {
			assert_null(m);
			if (!strstr(err.text, rows[i].says))
				fail_msg("%s: says %s", rows[i].what, err.text);
			continue;
		}
		if (rows[i].says ? m->n_problems != 1 || !any_problem(m, rows[i].says) : m->n_problems != 0)
			fail_msg("%s: %d problems, first %s", rows[i].what, m->n_problems, m->n_problems ? m->problems[0] : "none");
		bl_model_close(m);
	}
}

/* In a checkpoint that is already quantized the linears have no plain weight; their sizes come from the config. */
static void quantized(void **state)
{
	struct bl_tensor t[N_PLAIN + 4];
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m;
	size_t n = changed(t, BL_BF16, &(struct bl_tensor){.name = "model.layers.0.mlp.down_proj.weight", .rank = -1});

	(void)state;
	t[n++] = (struct bl_tensor){.name = "model.layers.0.mlp.down_proj.qweight", .dtype = BL_I32, .rank = 2, .shape = {2, 8}};
	t[n++] = (struct bl_tensor){.name = "model.layers.0.mlp.down_proj.scales", .dtype = BL_F16, .rank = 2, .shape = {1, 8}};
	text("config.json", QUANTIZED);
	write_tensors("model.safetensors", t, n);
	if (bl_model_open(&m, tmp, &err))
		fail_msg("%s", err.text);
	const struct bl_unit *down = &m->units[bl_model_unit(m, "0.down")];
	assert_null(down->members[0].weight);
	assert_int_equal(down->rows, 8);
	assert_int_equal(down->cols, 16);
	assert_non_null(m->units[bl_model_unit(m, "0.qkv")].members[2].weight);
	assert_int_equal(m->n_problems, 1);
	bl_model_close(m);
}

static void shards(void **state)
{
#define A "\"model.layers.0.mlp.up_proj.weight\":"
	static const struct { const char *what, *from, *to; enum bl_status status; const char *says; } rows[] = {
		{"right", "", "", BL_OK, NULL},
		{"in the other file", A "\"b.safetensors\"", A "\"a.safetensors\"", BL_INVALID, "weight_map.model.layers.0.mlp.up_proj.weight: is not in a.safetensors"},
		{"in no file", A, "\"ghost\":\"a.safetensors\"," A, BL_INVALID, "weight_map.ghost: is not in a.safetensors"},
		{"a file that is not there", A "\"b.safetensors\"", A "\"c.safetensors\"", BL_NOT_FOUND, "c.safetensors"},
		{"named twice", A, A "\"a.safetensors\"," A, BL_INVALID, "twice"},
		{"not named", A "\"b.safetensors\",", "", BL_OK, "1 tensor is not named in the index"},
		{"out of the folder", A "\"b.safetensors\"", A "\"../b.safetensors\"", BL_INVALID, "plain name"},
		{"absolute", A "\"b.safetensors\"", A "\"/etc/b.safetensors\"", BL_INVALID, "plain name"},
		{"an escape", A "\"b.safetensors\"", A "\"\\u001b[2Jb.safetensors\"", BL_INVALID, "plain name"},
		{"a dot", A "\"b.safetensors\"", A "\"..\"", BL_INVALID, "plain name"},
	};
	struct bl_tensor t[N_PLAIN + 4];
	struct bl_str index = {0};

	(void)state;
	changed(t, BL_BF16, NULL);
	text("config.json", UNTIED);
	drop("model.safetensors");
	write_tensors("a.safetensors", t, 5);
	write_tensors("b.safetensors", t + 5, N_PLAIN - 5);
	bl_str_add(&index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
	for (size_t i = 0; i < N_PLAIN; i++)
		bl_str_addf(&index, "%s\"%s\":\"%s.safetensors\"", i ? "," : "", plain[i].name, i < 5 ? "a" : "b");
	bl_str_add(&index, "}}");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_model *m = NULL;
		struct bl_str b = {0};
		const char *at = strstr(bl_str_c(&index), rows[i].from);
		assert_non_null(at);
		bl_str_addn(&b, index.s, (size_t)(at - index.s));
		bl_str_add(&b, rows[i].to);
		bl_str_add(&b, at + strlen(rows[i].from));
		put("model.safetensors.index.json", b.s, b.len);
		bl_str_free(&b);
		enum bl_status s = bl_model_open(&m, tmp, &err);
		if (s != rows[i].status || (s && !strstr(err.text, rows[i].says)) || strchr(err.text, '\033'))
			fail_msg("%s: status %s: %s", rows[i].what, bl_status_name(s), err.text);
		if (s)
			continue;
		if (rows[i].says ? !any_problem(m, rows[i].says) : m->n_problems)
			fail_msg("%s: %s", rows[i].what, m->n_problems ? m->problems[0] : "no problem");
		assert_int_equal(m->n_files, 2);
		bl_model_close(m);
	}
	/* one tensor in both files */
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m = NULL;
	put("model.safetensors.index.json", index.s, index.len);
	write_tensors("b.safetensors", t + 4, N_PLAIN - 4);
	assert_int_equal(bl_model_open(&m, tmp, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "o_proj.weight: stored in a.safetensors and in b.safetensors"));
	/* a file that the index does not name */
	write_tensors("b.safetensors", t + 5, N_PLAIN - 5);
	write_tensors("consolidated.safetensors", t, 1);
	bl_err_clear(&err);
	assert_int_equal(bl_model_open(&m, tmp, &err), BL_OK);
	assert_true(any_problem(m, "consolidated.safetensors"));
	bl_model_close(m);
	drop("consolidated.safetensors");
	/* without the index nobody knows what belongs together */
	drop("model.safetensors.index.json");
	assert_int_equal(bl_model_open(&m, tmp, &err), BL_NOT_FOUND);
	drop("a.safetensors");
	drop("b.safetensors");
	bl_err_clear(&err);
	assert_int_equal(bl_model_open(&m, tmp, &err), BL_NOT_FOUND);
	bl_str_free(&index);
}

/* Names come from strangers: what a folder is called must not reach the terminal as it is. */
static void titles(void **state)
{
	static const struct { const char *folder, *title; } rows[] = {
		{"plain-name", "plain-name"},
		{"\033[2Jred", "\\x1B[2Jred"},
		{"models--ORG--Tiny-1B/snapshots/0123abc", "Tiny-1B"},
		{"other/snapshots/0123abc", "0123abc"},
	};
	struct bl_tensor t[N_PLAIN + 4];
	char root[sizeof tmp];

	(void)state;
	changed(t, BL_BF16, NULL);
	memcpy(root, tmp, sizeof root);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_model *m = NULL;
		char *dir = bl_path_join(root, rows[i].folder);
		assert_true(strlen(dir) < 200);
		assert_int_equal(bl_mkdirs(dir, 0755, &err), BL_OK);
		char *config = bl_path_join(dir, "config.json"), *from = bl_path_join(root, "model.safetensors"), *to = bl_path_join(dir, "model.safetensors");
		assert_int_equal(bl_write_file(config, UNTIED, strlen(UNTIED), 0644, &err), BL_OK);
		write_tensors("model.safetensors", t, N_PLAIN);
		assert_int_equal(rename(from, to), 0);
		if (bl_model_open(&m, dir, &err))
			fail_msg("%s", err.text);
		if (strcasecmp(m->title, rows[i].title))
			fail_msg("%s: %s", rows[i].title, m->title);
		bl_model_close(m);
		bl_free(config);
		bl_free(from);
		bl_free(to);
		bl_free(dir);
	}
}

/* Not a regular file, not a folder, not there, empty: an error with the name, and no waiting. */
static void odd_files(void **state)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m = NULL;
	char *fifo = bl_path_join(tmp, "model.safetensors");

	(void)state;
	text("config.json", UNTIED);
	unlink(fifo);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_not_equal(bl_model_open(&m, tmp, &err), BL_OK);
	unlink(fifo);
	text("model.safetensors", "");
	bl_err_clear(&err);
	assert_int_equal(bl_model_open(&m, tmp, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "too short"));
	bl_err_clear(&err);
	text("config.json", "");
	assert_int_equal(bl_model_open(&m, tmp, &err), BL_INVALID);
	assert_non_null(strstr(err.text, "config.json"));
	drop("config.json");
	bl_err_clear(&err);
	assert_int_equal(bl_model_open(&m, tmp, &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_equal(bl_model_open(&m, "/nowhere/at/all", &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_equal(bl_model_open(&m, "", &err), BL_NOT_FOUND);
	bl_err_clear(&err);
	assert_int_not_equal(bl_model_open(&m, "/dev/null", &err), BL_OK);
	bl_free(fifo);
}

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
#define LEAKS() __lsan_do_recoverable_leak_check()
#else
#define LEAKS() 0
#endif

/* In a child: allocation n of an open fails. 0 opened, 6 no memory, 20 + what else went wrong. */
static int open_with_failure(uint64_t n)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct bl_err err = BL_ERR_INIT;
		struct bl_model *m = NULL;
		if (!freopen("/dev/null", "w", stderr))
			_exit(21);
		bl_mem_fail_at(n);
		enum bl_status s = bl_model_open(&m, tmp, &err);
		bl_mem_fail_at(0);
		if (s && (m || s != err.status || !err.text[0]))
			_exit(22);
		bl_model_close(m);
		_exit(LEAKS() ? 23 : bl_status_exit(s));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/* Every allocation of an open fails once: a clean error with nothing lost, or the small family's exit code 6. */
static void allocations(void **state)
{
	struct bl_tensor t[N_PLAIN + 4];
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m;
	struct bl_str index = {0};

	(void)state;
	size_t n = changed(t, BL_BF16, &(struct bl_tensor){.name = "surplus", .dtype = BL_U8, .rank = 1, .shape = {1}});
	text("config.json", CONFIG(",\"rope_parameters\":{\"rope_theta\":5.0,\"rope_type\":\"linear\",\"factor\":2.5}"));
	write_tensors("a.safetensors", t, 5);
	write_tensors("b.safetensors", t + 5, n - 5);
	drop("model.safetensors");
	bl_str_add(&index, "{\"weight_map\":{");
	for (size_t i = 0; i < N_PLAIN; i++)
		bl_str_addf(&index, "%s\"%s\":\"%s.safetensors\"", i ? "," : "", plain[i].name, i < 5 ? "a" : "b");
	bl_str_add(&index, "}}");
	put("model.safetensors.index.json", index.s, index.len);
	bl_str_free(&index);
	uint64_t before = bl_mem_count();
	if (bl_model_open(&m, tmp, &err))
		fail_msg("%s", err.text);
	uint64_t total = bl_mem_count() - before;
	assert_int_equal(m->n_problems, 3); /* spelling, surplus, not in the index: their sentences are allocations too */
	bl_model_close(m);
	assert_true(total > 100);
	for (uint64_t i = 1; i <= total; i++) {
		int got = open_with_failure(i);
		if (got != 6)
			fail_msg("allocation %" PRIu64 " of %" PRIu64 ": %d", i, total, got);
	}
	assert_int_equal(open_with_failure(total + 1), 0);
	drop("model.safetensors.index.json");
	drop("a.safetensors");
	drop("b.safetensors");
}

static int setup(void **state)
{
	(void)state;
	snprintf(tmp, sizeof tmp, "/tmp/bl-folder-XXXXXX");
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
		cmocka_unit_test(one_thing_wrong), cmocka_unit_test(quantized), cmocka_unit_test(shards), cmocka_unit_test(titles),
		cmocka_unit_test(odd_files), cmocka_unit_test(allocations),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
