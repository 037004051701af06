/* SPDX-License-Identifier: Apache-2.0
 * Exports that are made: equal to those of the real libraries, provable in every scheme, the same bytes from any number of threads, and nothing left when
 * something goes wrong. */
#include "support.h"

#include <pthread.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/rng.h"

/* Every tensor of the library's export is in ours with the same bytes, and no other. */
static void same_tensors(const char *ours, const char *theirs)
{
	struct bl_model *a, *b;

	OK(bl_model_open(&a, ours, &err));
	OK(bl_model_open(&b, theirs, &err));
	assert_int_equal(a->n_tensors, b->n_tensors);
	for (int64_t i = 0; i < a->n_tensors; i++) {
		const struct bl_tensor *x = a->tensors[i], *y = b->tensors[i];
		assert_string_equal(x->name, y->name);
		if (x->dtype != y->dtype || x->rank != y->rank || memcmp(x->shape, y->shape, sizeof x->shape[0] * (size_t)x->rank) || memcmp(x->data, y->data, x->bytes))
			fail_msg("%s differs from the library's", x->name);
	}
	bl_model_close(a);
	bl_model_close(b);
}

static cJSON *config_of(const char *dir)
{
	char *path = bl_path_join(dir, "config.json");
	cJSON *c = NULL;

	OK(bl_json_load(&c, path, 1 << 20, 100000, &err));
	bl_free(path);
	return c;
}

/* The library's observer has another name and the version is what servers pin; all else must be equal, numbers as they are spelled. */
static void same_config(const char *ours, const char *theirs)
{
	cJSON *a = config_of(ours), *b = config_of(theirs);
	struct bl_str x = {0}, y = {0};

	cJSON *q = cJSON_GetObjectItem(b, "quantization_config");
	cJSON_ReplaceItemInObject(q, "version", cJSON_CreateString("0.13.0"));
	for (cJSON *g = cJSON_GetObjectItem(q, "config_groups")->child; g; g = g->next)
		cJSON_ReplaceItemInObject(cJSON_GetObjectItem(g, "weights"), "observer", cJSON_CreateString("minmax"));
	bl_json_print(&x, a, 2, true);
	bl_json_print(&y, b, 2, true);
	assert_string_equal(bl_str_c(&x), bl_str_c(&y));
	bl_str_free(&x);
	bl_str_free(&y);
	cJSON_Delete(a);
	cJSON_Delete(b);
}

static void equal_to_the_libraries(void **state)
{
	static const struct { const char *plan, *golden; } rows[] = {{"W8A8", "w8a8"}, {"W4A16", "w4a16_g128"}};
	struct bl_export_result r;
	struct fix f;

	(void)state;
	if (!shared_path("golden/formats/full")) {
		print_message("../shared/golden/formats is not there\n");
		skip();
	}
	fix_open(&f, TINY, 2);
	for (size_t i = 0; i < 2; i++) {
		char golden[64];
		snprintf(golden, sizeof golden, "golden/formats/full/%s", rows[i].golden);
		fix_plan(&f, rows[i].plan);
		fix_export(&f, scratch("out"), &r);
		bl_export_result_free(&r);
		same_tensors(scratch("out"), shared_path(golden));
		same_config(scratch("out"), shared_path(golden));
	}
	fix_close(&f);
}

/* What the real libraries wrote proves, without and with the base; a plain copy of it does, too. */
static void libraries_prove(void **state)
{
	static const char *const names[] = {"golden/formats/full/w8a8", "golden/formats/full/w4a16_g128"};
	struct bl_verify_result v;
	struct bl_export_result r;
	struct fix f, g;

	(void)state;
	if (!shared_path(names[0])) {
		print_message("../shared/golden/formats is not there\n");
		skip();
	}
	fix_open(&f, TINY, 2);
	for (int i = 0; i < 2; i++)
		for (int base = 0; base < 2; base++) {
			fix_verify(&f, shared_path(names[i]), base, &v);
			assert_string_equal(first_fatal(&v), "");
			assert_int_equal(v.quantized, 56);
			assert_string_equal(v.unit_schemes[5], i ? "W4A16" : "W8A8");
			assert_int_equal(v.compared, base);
			if (base) {
				assert_true(v.coverage == 1);
				assert_true(v.relative_error > 0.001 && v.relative_error < (i ? 0.2 : 0.02));
			}
			bl_verify_result_free(&v);
		}
	fix_open(&g, shared_path(names[0]), 2); /* already quantized: copied whole, its quantization_config with it */
	struct bl_export_request rq = fix_request(&g, scratch("again"));
	rq.format = "compressed-tensors";
	OK(bl_export_run(&r, &rq, &err));
	bl_export_result_free(&r);
	same_tensors(scratch("again"), shared_path(names[0]));
	fix_verify(&f, scratch("again"), true, &v);
	assert_string_equal(first_fatal(&v), "");
	bl_verify_result_free(&v);
	fix_close(&g);
	fix_close(&f);
}

static void every_scheme(void **state)
{
	int n;
	const struct bl_scheme_row *rows = bl_scheme_rows(&n);
	struct bl_export_result r;
	struct bl_verify_result v;
	struct fix f;
	char text[64], name[BL_SCHEME_NAME_MAX];

	(void)state;
	fix_open(&f, TINY, 2);
	for (int i = 0; i < n; i++) {
		if (rows[i].scheme.number == BL_NUM_PRUNED) /* test_pruned.c */
			continue;
		snprintf(text, sizeof text, "%s", bl_scheme_name(name, &rows[i].scheme));
		fix_plan(&f, text);
		bl_plan_set_format(f.plan, bl_scheme_is_bnb4(&rows[i].scheme) || rows[i].scheme.number == BL_NUM_SCB ? "bitsandbytes" : "compressed-tensors");
		fix_export(&f, scratch("out"), &r);
		assert_true(r.proof.coverage == 1 && r.proof.n_fatal == 0);
		for (int u = 0; u < f.model->n_units; u++)
			assert_string_equal(r.proof.unit_schemes[u], text);
		assert_int_equal(r.proof.quantized, rows[i].scheme.number == BL_NUM_FULL ? 0 : 56);
		assert_int_equal(r.proof.proved_tensors, f.model->n_tensors);
		if (rows[i].scheme.number == BL_NUM_INT)
			assert_true(r.proof.max_step_error >= 0.49 && r.proof.max_step_error < 1.01);
		if (rows[i].scheme.number == BL_NUM_FULL)
			assert_true(r.proof.max_abs_error == 0);
		bl_export_result_free(&r);
	}
	bl_plan_set_format(f.plan, "compressed-tensors");
	fix_plan(&f, "W8A8 gate_up=W4A16_ASYM_g64 0.down=BF16 1.down=FP8_DYNAMIC 2.down=W3A16 5=W8A16_g32");
	fix_export(&f, scratch("mixed.zip"), &r);
	assert_string_equal(r.format, "mixed-precision");
	assert_true(r.proof.coverage == 1 && r.proof.n_fatal == 0);
	assert_int_equal(r.package_bytes, bl_file_bytes(scratch("mixed.zip")));
	bl_export_result_free(&r);
	fix_verify(&f, scratch("mixed.zip"), true, &v);
	assert_string_equal(first_fatal(&v), "");
	assert_string_equal(v.unit_schemes[2], "W4A16_ASYM_g64");
	assert_string_equal(v.unit_schemes[7], "FP8_DYNAMIC");
	bl_verify_result_free(&v);
	fix_close(&f);
}

static float input_scale_of(const char *path, const char *module)
{
	struct bl_model *m;
	char name[160];
	float x = 0;

	OK(bl_model_open(&m, path, &err));
	snprintf(name, sizeof name, "%s.input_scale", module);
	const struct bl_tensor *t = bl_model_tensor(m, name);
	assert_non_null(t);
	assert_int_equal(t->dtype, BL_F32);
	assert_int_equal(t->rank, 1);
	memcpy(&x, t->data, 4);
	bl_model_close(m);
	return x;
}

/* Static activations: the scale of the calibration is what is stored, the same for all parts of a unit; none without a calibration. */
static void static_inputs(void **state)
{
	static const char *const plans[] = {"W8A8_STATIC", "FP8_channel", "FP8"};
	struct bl_export_result r;
	struct bl_verify_result v;
	struct bl_err why = BL_ERR_INIT;
	struct fix f;
	float unknown[32];

	(void)state;
	fix_open(&f, TINY, 2);
	for (int i = 0; i < 3; i++) {
		fix_plan(&f, plans[i]);
		struct bl_export_request rq = fix_request(&f, scratch("out"));
		OK(bl_export_run(&r, &rq, &err));
		assert_string_equal(r.format, i ? "float-quantized" : "int-quantized");
		bl_export_result_free(&r);
		float top = i ? 448 : 127, qkv = rq.input_absmax[0] / top;
		assert_true(input_scale_of(scratch("out"), "model.layers.0.self_attn.q_proj") == qkv);
		assert_true(input_scale_of(scratch("out"), "model.layers.0.self_attn.v_proj") == qkv);
		assert_true(input_scale_of(scratch("out"), "model.layers.0.mlp.down_proj") == rq.input_absmax[3] / top);
		fix_verify(&f, scratch("out"), true, &v);
		assert_string_equal(first_fatal(&v), "");
		assert_string_equal(v.unit_schemes[0], plans[i]);
		bl_verify_result_free(&v);
		rq.input_absmax = NULL;
		assert_int_equal(bl_export_run(&r, &rq, &why), BL_RULE);
		assert_non_null(strstr(why.text, "calibrat"));
		assert_non_null(strstr(why.text, i ? "FP8_DYNAMIC" : "W8A8"));
		bl_err_clear(&why);
		for (int u = 0; u < 32; u++)
			unknown[u] = u == 9 ? NAN : 1;
		rq.input_absmax = unknown;
		assert_int_equal(bl_export_run(&r, &rq, &why), BL_INVALID);
		assert_non_null(strstr(why.text, f.model->units[9].name));
		bl_err_clear(&why);
	}
	fix_close(&f);
}

/* What a server would take silently: scales of one unit that differ, or that are zero. */
static void wrong_inputs(void **state)
{
	static const struct { const char *plan; float value; const char *says; } rows[] = {
		{"W8A8_STATIC", 3, "keeps the last one"}, {"W8A8_STATIC", 0, "above zero"}, {"FP8_channel", -1, "above zero"}, {"FP8_channel", NAN, "not finite"}};
	struct bl_export_result r;
	struct bl_verify_result v;
	struct fix f;

	(void)state;
	fix_open(&f, TINY, 2);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_model *m;
		char *bytes;
		size_t n, at;
		fix_plan(&f, rows[i].plan);
		fix_export(&f, scratch("out"), &r);
		bl_export_result_free(&r);
		OK(bl_model_open(&m, scratch("out"), &err));
		const struct bl_tensor *t = bl_model_tensor(m, "model.layers.2.self_attn.v_proj.input_scale");
		at = (size_t)((const uint8_t *)t->data - m->files[t->file].st.map.data);
		bl_model_close(m);
		OK(bl_read_file(&bytes, &n, scratch("out/model.safetensors"), 1u << 30, false, &err));
		memcpy(bytes + at, &rows[i].value, 4);
		put_file(scratch("out/model.safetensors"), bytes, n);
		bl_free(bytes);
		fix_verify(&f, scratch("out"), true, &v);
		bool said = false;
		for (int k = 0; k < v.n_findings; k++)
			said |= v.findings[k].fatal && strstr(v.findings[k].where, "v_proj.input_scale") && strstr(v.findings[k].sentence, rows[i].says);
		if (!said)
			fail_msg("row %zu: %s", i, first_fatal(&v));
		bl_verify_result_free(&v);
	}
	fix_close(&f);
}

/* Folder and zip: bytes depend on the plan, not on threads, time or file parts' timing. */
static void reproducible(void **state)
{
	static const char *const outs[] = {"a", "a.zip", "p"};
	char first[3][65], again[65];
	struct bl_export_result r;

	(void)state;
	for (int threads = 1; threads <= 5; threads += 2)
		for (int i = 0; i < 3; i++) {
			struct fix f;
			fix_open(&f, TINY, threads);
			fix_plan(&f, "W8A8 gate_up=W4A16_ASYM down=W5A16");
			struct bl_export_request rq = fix_request(&f, scratch(outs[i]));
			if (i == 2)
				rq.part_bytes = 1000000;
			OK(bl_export_run(&r, &rq, &err));
			bl_export_result_free(&r);
			digest_of(scratch(outs[i]), threads == 1 ? first[i] : again);
			if (threads > 1)
				assert_string_equal(first[i], again);
			fix_close(&f);
		}
	assert_true(bl_is_file(scratch("p/model.safetensors.index.json")));
	assert_true(scratch_is_clean());
}

/* Companions byte for byte, never code; digests in the result are those of the files. */
static void companions(void **state)
{
	struct bl_export_result r;
	struct fix f;
	char a[65], b[65], path[600];
	int n = 0;

	(void)state;
	copy_tree(TINY, scratch("src"));
	put_file(scratch("src/modeling_evil.py"), "x", 1);
	put_file(scratch("src/README.md"), "x", 1);
	put_file(scratch("src/merges.txt"), "\0\xff binary", 9);
	fix_open(&f, scratch("src"), 2);
	fix_plan(&f, "W8A8");
	fix_export(&f, scratch("out"), &r);
	assert_false(bl_is_file(scratch("out/modeling_evil.py")));
	assert_false(bl_is_file(scratch("out/README.md")));
	assert_true(bl_is_file(scratch("out/recipe.yaml")));
	for (int i = 0; i < r.n_files; i++) {
		snprintf(path, sizeof path, "%s/%s", scratch("out"), r.files[i].name);
		digest_of(path, a);
		assert_string_equal(a, r.files[i].sha256);
		assert_int_equal(r.files[i].bytes, bl_file_bytes(path));
		snprintf(path, sizeof path, "%s/%s", scratch("src"), r.files[i].name);
		if (!bl_starts_with(r.files[i].name, "model") && strcmp(r.files[i].name, "config.json") && strcmp(r.files[i].name, "recipe.yaml")) {
			digest_of(path, b);
			assert_string_equal(a, b);
			n++;
		}
	}
	assert_true(n >= 6);
	bl_export_result_free(&r);
	fix_close(&f);
}

/* ---- what goes wrong ---- */

struct canceller { struct bl_progress *p; unsigned us; };

static void *cancel_later(void *arg)
{
	struct canceller *c = arg;

	usleep(c->us);
	atomic_store(&c->p->cancel, 1);
	return NULL;
}

static void cancelled(void **state)
{
	struct fix f;
	struct bl_rng rng;
	char want[2][65], got[65];
	int stopped = 0;

	(void)state;
	fix_open(&f, TINY, 2);
	fix_plan(&f, "W4A16");
	for (int i = 0; i < 2; i++) {
		struct bl_export_result r;
		fix_export(&f, scratch(i ? "w.zip" : "w"), &r);
		bl_export_result_free(&r);
		digest_of(scratch(i ? "w.zip" : "w"), want[i]);
	}
	bl_rng_seed(&rng, 5);
	for (int i = 0; i < 60 || (stopped <= 3 && i < 600); i++) {
		const char *out = scratch(i % 2 ? "c.zip" : "c");
		struct bl_progress p = {0};
		struct canceller c = {&p, (unsigned)(bl_rng_u64(&rng) % 30000)};
		struct bl_export_request rq = fix_request(&f, out);
		struct bl_export_result r;
		struct bl_err why = BL_ERR_INIT;
		pthread_t t;

		rq.progress = &p;
		assert_int_equal(pthread_create(&t, NULL, cancel_later, &c), 0);
		enum bl_status s = bl_export_run(&r, &rq, &why);
		pthread_join(t, NULL);
		if (s == BL_OK) {
			bl_export_result_free(&r);
			digest_of(out, got);
			assert_string_equal(got, want[i % 2]);
			bl_remove_tree(out);
			unlink(out);
		} else {
			assert_int_equal(s, BL_CANCELLED);
			assert_false(bl_is_dir(out) || bl_is_file(out));
			stopped++;
		}
		assert_true(scratch_is_clean());
	}
	assert_true(stopped > 3);
	fix_close(&f);
}

/* The n-th write-side call fails for every n: an error, no result, no leftovers, and what stood there before still stands. */
static void every_write_fails(void **state)
{
	struct fix f;
	char before[65], got[65], want[65];

	(void)state;
	fix_open(&f, TINY, 1);
	for (int zip = 0; zip < 2; zip++) {
		const char *out = scratch(zip ? "o.zip" : "o");
		struct bl_export_result r;
		fix_plan(&f, "W8A8");
		fix_export(&f, out, &r);
		bl_export_result_free(&r);
		digest_of(out, before);
		fix_plan(&f, "W8A16");
		fix_export(&f, scratch(zip ? "n.zip" : "n"), &r);
		bl_export_result_free(&r);
		digest_of(scratch(zip ? "n.zip" : "n"), want);
		uint64_t n = 1, failed = 0;
		for (;; n += n < 60 ? 1 : 13, failed++) {
			struct bl_err why = BL_ERR_INIT;
			struct bl_export_request rq = fix_request(&f, out);
			bl_file_fail_at(n);
			enum bl_status s = bl_export_run(&r, &rq, &why);
			bl_file_fail_at(0);
			assert_true(scratch_is_clean());
			digest_of(out, got);
			if (s == BL_OK)
				break;
			assert_int_equal(s, BL_NO_SPACE);
			if (strcmp(got, before) && strcmp(got, want)) /* the last fsync of the folder may fail when the new one stands */
				fail_msg("write %d: neither the old nor the new result", (int)n);
		}
		bl_export_result_free(&r);
		assert_string_equal(got, want);
		assert_true(failed > 60);
	}
	fix_close(&f);
}

/* In a child, because running out of small memory ends the process by design. */
static int child_export(struct fix *f, const char *out, uint64_t nth)
{
	pid_t pid = fork();

	if (!pid) {
		struct bl_export_request rq = fix_request(f, out);
		struct bl_export_result r;
		struct bl_err why = BL_ERR_INIT;
		if (!freopen("/dev/null", "w", stderr))
			_exit(99);
		rq.pool = bl_pool_new(1); /* threads do not survive a fork */
		bl_mem_fail_at(nth);
		enum bl_status s = bl_export_run(&r, &rq, &why);
		_exit(s == BL_OK ? 0 : bl_status_exit(s));
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status))
		fail_msg("allocation %d: died of signal %d", (int)nth, WTERMSIG(status));
	return WEXITSTATUS(status);
}

static void every_allocation_fails(void **state)
{
	struct fix f;
	char want[65], got[65];
	struct bl_export_result r;
	int tried = 0;

	(void)state;
	fix_open(&f, TINY, 1);
	fix_plan(&f, "W8A8 down=W4A16");
	fix_export(&f, scratch("w.zip"), &r);
	bl_export_result_free(&r);
	digest_of(scratch("w.zip"), want);
	for (uint64_t n = 1;; n += n < 200 ? 1 : 97, tried++) {
		int code = child_export(&f, scratch("o.zip"), n);
		if (!code)
			break;
		if (code != 6)
			fail_msg("allocation %d: exit %d", (int)n, code);
		assert_false(bl_is_file(scratch("o.zip")));
	}
	assert_true(tried > 200);
	digest_of(scratch("o.zip"), got);
	assert_string_equal(got, want);
	assert_true(scratch_is_clean()); /* the run that went through has cleared what the dead left */
	fix_close(&f);
}

static void killed(void **state)
{
	struct fix f;
	struct bl_rng rng;
	char want[2][65], got[65];
	int left = 0;

	(void)state;
	fix_open(&f, TINY, 1);
	fix_plan(&f, "W8A8");
	for (int i = 0; i < 2; i++) {
		struct bl_export_result r;
		fix_export(&f, scratch(i ? "w.zip" : "w"), &r);
		bl_export_result_free(&r);
		digest_of(scratch(i ? "w.zip" : "w"), want[i]);
	}
	bl_rng_seed(&rng, 11);
	for (int i = 0; i < 24 || (!left && i < 400); i++) { /* on a busy machine the child may be late every time */
		const char *out = scratch(i % 2 ? "k.zip" : "k");
		pid_t pid = fork();
		if (!pid) {
			struct bl_export_request rq = fix_request(&f, out);
			struct bl_export_result r;
			struct bl_err why = BL_ERR_INIT;
			rq.pool = bl_pool_new(2);
			bl_export_run(&r, &rq, &why);
			_exit(0);
		}
		usleep((unsigned)(bl_rng_u64(&rng) % (i < 24 ? 25000 : 250000)));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		left += !scratch_is_clean();
		if (bl_is_dir(out) || bl_is_file(out)) {
			digest_of(out, got);
			assert_string_equal(got, want[i % 2]);
		}
		struct bl_export_result r;
		fix_export(&f, out, &r);
		bl_export_result_free(&r);
		digest_of(out, got);
		assert_string_equal(got, want[i % 2]);
		assert_true(scratch_is_clean());
		bl_remove_tree(out);
		unlink(out);
	}
	assert_true(left > 0); /* else nothing was interrupted */
	fix_close(&f);
}

/* The source is cut short, touched or replaced after it was opened. */
static void source_changes(void **state)
{
	struct bl_export_result r;

	(void)state;
	for (int what = 0; what < 3; what++) {
		struct bl_err why = BL_ERR_INIT;
		struct fix f;
		copy_tree(TINY, scratch("src"));
		fix_open(&f, scratch("src"), 2);
		fix_plan(&f, "W8A8 down=BF16");
		struct bl_export_request rq = fix_request(&f, scratch("out"));
		if (what == 0) {
			assert_int_equal(truncate(scratch("src/model.safetensors"), 3000000), 0);
		} else if (what == 1) {
			struct timespec times[2] = {{1, 0}, {1, 0}};
			assert_int_equal(utimensat(0, scratch("src/model.safetensors"), times, 0), 0);
		} else {
			copy_tree(TINY, scratch("other"));
			assert_int_equal(rename(scratch("other/model.safetensors"), scratch("src/model.safetensors")), 0);
		}
		enum bl_status s = bl_export_run(&r, &rq, &why);
		if (s != BL_INVALID && s != BL_IO)
			fail_msg("change %d: status %s: %s", what, bl_status_name(s), why.text);
		assert_non_null(strstr(why.text, "model.safetensors"));
		assert_false(bl_is_dir(scratch("out")));
		assert_true(scratch_is_clean());
		fix_close(&f);
	}
}

/* NaN in what is quantized and in what is only copied: refused with the place; kept or made zero only when the plan says so. */
static void not_finite(void **state)
{
	static const struct { const char *tensor, *plan; } rows[] = {
		{"model.layers.3.mlp.down_proj.weight", "W8A8"},
		{"model.layers.3.mlp.down_proj.weight", "W8A8 3.down=BF16"},
		{"model.norm.weight", "W8A8"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct bl_err why = BL_ERR_INIT;
		struct bl_export_result r;
		struct fix f;
		char *text;
		size_t n;
		copy_tree(TINY, scratch("src"));
		fix_open(&f, scratch("src"), 2);
		uint64_t at = bl_model_tensor(f.model, rows[i].tensor)->offset;
		fix_close(&f);
		OK(bl_read_file(&text, &n, scratch("src/model.safetensors"), 1u << 30, false, &err));
		memcpy(text + at + 2 * 130, "\x80\xff", 2); /* -Inf */
		put_file(scratch("src/model.safetensors"), text, n);
		bl_free(text);
		fix_open(&f, scratch("src"), 2);
		fix_plan(&f, rows[i].plan);
		struct bl_export_request rq = fix_request(&f, scratch("out"));
		assert_int_equal(bl_export_run(&r, &rq, &why), BL_INVALID);
		assert_non_null(strstr(why.text, rows[i].tensor));
		assert_non_null(strstr(why.text, "130"));
		assert_false(bl_is_dir(scratch("out")));
		bl_plan_set_zero_nonfinite(f.plan, true);
		OK(bl_export_run(&r, &rq, &err));
		bl_export_result_free(&r);
		fix_close(&f);
		bl_remove_tree(scratch("out"));
	}
}

static void places(void **state)
{
	struct bl_export_result r;
	struct bl_err why = BL_ERR_INIT;
	struct fix f;

	(void)state;
	fix_open(&f, TINY, 2);
	fix_plan(&f, "W8A8");
	fix_export(&f, scratch("slash/"), &r); /* as completion writes it */
	bl_export_result_free(&r);
	assert_true(bl_is_file(scratch("slash/config.json")));
	fix_export(&f, scratch("slash/"), &r); /* and again, over it */
	bl_export_result_free(&r);
	struct bl_export_request rq = fix_request(&f, scratch("no/such/folder/out"));
	enum bl_status s = bl_export_run(&r, &rq, &why);
	assert_true(s == BL_IO || s == BL_NOT_FOUND);
	if (geteuid()) {
		bl_err_clear(&why);
		OK(bl_mkdirs(scratch("locked"), 0555, &err));
		rq = fix_request(&f, scratch("locked/out"));
		assert_int_equal(bl_export_run(&r, &rq, &why), BL_IO);
	}
	assert_true(scratch_is_clean());
	fix_close(&f);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {
		T(equal_to_the_libraries), T(libraries_prove), T(every_scheme), T(static_inputs), T(wrong_inputs), T(reproducible), T(companions), T(cancelled), T(every_write_fails),
		T(every_allocation_fails), T(killed), T(source_changes), T(not_finite), T(places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
