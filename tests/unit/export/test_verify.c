/* SPDX-License-Identifier: Apache-2.0
 * The proof must notice. Every tensor of finished exports in turn is removed, renamed, doubled, retyped, reshaped, emptied, filled; single bits are turned in
 * weights, headers and packages; and each time something has to be found that was not found before. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/export/verify_private.h"
#include "core/model/safetensors.h"

struct weights { /* a weight file in memory, to be changed and written again */
	struct bl_tensor *t;
	int64_t n;
	char (*names)[128];
};

static void weights_take(struct weights *w, const struct bl_st *st)
{
	w->n = st->n_tensors;
	w->t = bl_xalloc((size_t)w->n + 1, sizeof *w->t);
	w->names = bl_xalloc((size_t)w->n + 1, sizeof *w->names);
	for (int64_t i = 0; i < w->n; i++) {
		w->t[i] = st->tensors[i];
		snprintf(w->names[i], sizeof w->names[0], "%s", st->tensors[i].name);
		w->t[i].name = w->names[i];
	}
}

static void weights_put(struct weights *w, const char *path)
{
	struct bl_str out = {0};

	bl_st_layout(w->t, w->n, &out);
	for (int64_t i = 0; i < w->n; i++)
		bl_str_addn(&out, w->t[i].data, w->t[i].bytes);
	put_file(path, out.s, out.len);
	bl_str_free(&out);
	bl_free(w->t);
	bl_free(w->names);
}

enum damage { REMOVE, RENAME, DOUBLE, RETYPE, RESHAPE, ZEROS, ONES, DAMAGES };
static const char *const damage_names[] = {"removed", "renamed", "doubled", "retyped", "reshaped", "all zero", "all ones"};

static enum bl_dtype other_type(enum bl_dtype d)
{
	switch (d) {
	case BL_I8: return BL_U8;
	case BL_F8_E4M3: return BL_I8;
	case BL_BF16: return BL_F16;
	case BL_I32: return BL_F32;
	default: return BL_F64;
	}
}

/* False when this tensor cannot be damaged this way. */
static bool damage(struct weights *w, int64_t i, enum damage how, uint8_t *fill)
{
	struct bl_tensor *t = &w->t[i];
	int64_t rows = t->shape[0];

	switch (how) {
	case REMOVE: w->t[i] = w->t[--w->n]; return true;
	case RENAME: w->names[i][strlen(w->names[i]) - 1] ^= 1; return true;
	case DOUBLE:
		w->t[w->n] = *t;
		snprintf(w->names[w->n], sizeof w->names[0], "%.120s_too", t->name);
		w->t[w->n].name = w->names[w->n];
		w->n++;
		return true;
	case RETYPE: t->dtype = other_type(t->dtype); return true;
	case RESHAPE:
		if (t->rank == 2 && t->shape[0] != t->shape[1]) {
			t->shape[0] = t->shape[1];
			t->shape[1] = rows;
		} else {
			t->rank++;
			t->shape[t->rank - 1] = 1;
		}
		return true;
	case ZEROS:
	case ONES:
		memset(fill, how == ZEROS ? 0 : 0xff, t->bytes);
		t->data = fill;
		return true;
	default: return false;
	}
}

/* Whether the package has a finding (beyond those of the untouched one), or cannot be examined at all. */
static bool noticed(struct fix *f, const char *path, bool strict, int clean_findings, char why[300])
{
	struct bl_verify_request rq = {.path = path, .base = f->model, .target = NULL, .pool = f->pool, .strict = strict, .max_step = strict ? 2 : 0};
	struct bl_verify_result v;
	struct bl_err err = BL_ERR_INIT;

	if (bl_verify_run(&v, &rq, &err)) {
		snprintf(why, 300, "%s", err.text);
		return err.status == BL_INVALID || err.status == BL_UNSUPPORTED || err.status == BL_NOT_FOUND;
	}
	bool found = v.n_fatal > 0 || (!strict && v.n_findings > clean_findings);
	snprintf(why, 300, "%s", v.n_findings ? v.findings[0].sentence : "nothing");
	bl_verify_result_free(&v);
	return found;
}

/* What a reader for running or converting says: it may not take what is not right, and names file and tensor. */
static void read_damaged(const char *path, const char *name, enum damage how)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_model *m;
	struct bl_source *s = NULL;

	if (bl_model_open(&m, path, &err))
		return;
	enum bl_status status = m->config.quantized ? bl_source_open(&s, m, true, &err) : BL_OK;
	if (!status && (how == REMOVE || how == RENAME || how == RETYPE || how == RESHAPE) && !bl_ends_with(name, "input_scale"))
		fail_msg("%s %s is read", name, damage_names[how]);
	if (status && (!strstr(err.text, "model.layers.3") || (how == RESHAPE && !strstr(err.text, "model.safetensors: "))))
		fail_msg("%s %s: \"%s\" does not say where", name, damage_names[how], err.text);
	bl_source_close(s);
	bl_model_close(m);
}

static bool is_zero(const struct bl_tensor *t)
{
	for (uint64_t i = 0; i < t->bytes; i++)
		if (((const uint8_t *)t->data)[i])
			return false;
	return true;
}

static void every_tensor(void **state)
{
	static const struct { const char *plan, *format, *only; } plans[] = {
		{"W8A8 3.down=BF16", "compressed-tensors", ".layers.3."}, {"W4A16", "compressed-tensors", ".layers.3."}, {"W4A16_ASYM", "compressed-tensors", ".layers.3."},
		{"FP8_DYNAMIC", "compressed-tensors", ".layers.3."}, {"W3A16", "compressed-tensors", ".layers.3."},
		{"W4A16", "gptq", ".layers.3.self_attn.k_proj."}, {"W8A16_g128", "gptq_v2", ".layers.3.self_attn.k_proj."}, {"W4A16_ASYM", "awq", ".layers.3.self_attn.k_proj."},
		{"NF4", "bitsandbytes", ".layers.3.self_attn.k_proj."}, {"NF4_DQ", "bitsandbytes", ".layers.3.self_attn.k_proj."},
		{"FP4_DQ", "bitsandbytes", ".layers.3.self_attn.k_proj."},
		{"LLM_INT8", "bitsandbytes", ".layers.3.self_attn.k_proj."}, {"NVFP4A16", "compressed-tensors", ".layers.3.self_attn.k_proj."},
		{"MXFP4A16", "compressed-tensors", ".layers.3.self_attn.k_proj."}, {"MXFP8A16", "compressed-tensors", ".layers.3.self_attn.k_proj."}, {"FP8_BLOCK", "compressed-tensors", ".layers.3.self_attn.k_proj."},
	};
	uint8_t *fill = bl_xalloc(4 << 20, 1);
	char why[300];
	struct fix f;
	int tried = 0;

	(void)state;
	fix_open(&f, TINY, 2);
	for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++) {
		struct bl_export_result r;
		struct bl_verify_result v;
		struct bl_st st;
		char path[600];

		fix_plan(&f, plans[p].plan);
		bl_plan_set_format(f.plan, plans[p].format);
		fix_export(&f, scratch("good"), &r);
		bl_export_result_free(&r);
		copy_tree(scratch("good"), scratch("bad"));
		snprintf(path, sizeof path, "%s/model.safetensors", scratch("bad"));
		fix_verify(&f, scratch("bad"), true, &v);
		int clean = v.n_findings;
		assert_string_equal(first_fatal(&v), "");
		bl_verify_result_free(&v);
		snprintf(why, sizeof why, "%s/model.safetensors", scratch("good"));
		OK(bl_st_open(&st, why, &err));
		for (int64_t i = 0; i < st.n_tensors; i++) {
			const char *name = st.tensors[i].name;
			if ((strstr(name, "model.layers.") || strcmp(plans[p].only, ".layers.3.")) && !strstr(name, plans[p].only))
				continue;
			for (int how = 0; how < DAMAGES; how++) {
				struct weights w;
				bool loud = how == REMOVE || how == RENAME || how == DOUBLE || how == RESHAPE;
				weights_take(&w, &st);
				if (how == ZEROS && is_zero(&st.tensors[i])) {
					bl_free(w.t);
					bl_free(w.names);
					continue;
				}
				damage(&w, i, (enum damage)how, fill);
				weights_put(&w, path);
				if (strstr(name, "_proj.") && !(how == RETYPE && st.tensors[i].dtype == BL_BF16)) /* any float will do */
					read_damaged(scratch("bad"), name, (enum damage)how);
				/* numbers that changed are only visible against the base; the rest without it, too */
				if (!noticed(&f, scratch("bad"), false, clean, why))
					fail_msg("%s: %s %s was not noticed: %s", plans[p].plan, name, damage_names[how], why);
				struct bl_model *base = f.model;
				f.model = NULL;
				if (loud && !noticed(&f, scratch("bad"), false, clean, why))
					fail_msg("%s: %s %s was not noticed without the base: %s", plans[p].plan, name, damage_names[how], why);
				f.model = base;
				tried++;
			}
		}
		bl_st_close(&st);
	}
	assert_true(tried > 700);
	bl_free(fill);
	fix_close(&f);
}

/* One bit in what was only copied, the top bits of codes, the exponent of scales: an own export that was damaged does not prove. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { BITS = 20 }; /* each is a whole proof, which takes ten times as long there */
#else
enum { BITS = 150 };
#endif

static void single_bits(void **state)
{
	static const char *const plans[] = {"W8A8", "W4A16_ASYM", "W5A16"};
	struct bl_rng rng;
	char why[300], path[600];
	struct fix f;

	(void)state;
	bl_rng_seed(&rng, 17);
	fix_open(&f, TINY, 2);
	for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++) {
		struct bl_export_result r;
		struct bl_st st;
		char *text;
		size_t n;

		fix_plan(&f, plans[p]);
		fix_export(&f, scratch("good"), &r);
		bl_export_result_free(&r);
		copy_tree(scratch("good"), scratch("bad"));
		snprintf(path, sizeof path, "%s/model.safetensors", scratch("good"));
		OK(bl_st_open(&st, path, &err));
		snprintf(path, sizeof path, "%s/model.safetensors", scratch("bad"));
		OK(bl_read_file(&text, &n, path, 1u << 30, false, &err));
		for (int k = 0; k < BITS; k++) {
			const struct bl_tensor *t = &st.tensors[bl_rng_u64(&rng) % (uint64_t)st.n_tensors];
			uint64_t at = t->offset + bl_rng_u64(&rng) % t->bytes;
			int bit = (int)(bl_rng_u64(&rng) % 8);
			bool quantized = t->dtype == BL_I8 || t->dtype == BL_I32 || bl_ends_with(t->name, "weight_scale");
			if (t->dtype == BL_I8)
				bit = 5 + bit % 3;
			else if (t->dtype == BL_I32 && bl_ends_with(t->name, "_packed")) { /* the top bit of some code of its row */
				uint64_t bits = p == 1 ? 4 : 5, row = (at - t->offset) / (4 * (uint64_t)t->shape[1]), code = bl_rng_u64(&rng) % 256;
				at = t->offset + row * 4 * (uint64_t)t->shape[1] + (code * bits + bits - 1) / 8;
				bit = (int)((code * bits + bits - 1) % 8);
			} else if (bl_ends_with(t->name, "_zero_point")) {
				bit = bit & 4 ? 7 : 3;
			} else if (quantized && t->dtype == BL_BF16) {
				at = at / 2 * 2 + 1 - t->offset % 2;
				bit = 3;
			}
			text[at] ^= (char)(1 << bit);
			put_file(path, text, n);
			if (!noticed(&f, scratch("bad"), true, 0, why))
				fail_msg("%s: %s, byte %llu, bit %d was not noticed", plans[p], t->name, (unsigned long long)(at - t->offset), bit);
			text[at] ^= (char)(1 << bit);
		}
		/* the header: anything but the padding */
		size_t head = (size_t)st.header_bytes;
		while (text[8 + head - 1] == ' ')
			head--;
		for (int k = 0; k < 200; k++) {
			size_t at = bl_rng_u64(&rng) % (8 + head);
			int bit = (int)(bl_rng_u64(&rng) % 8);
			if (at >= 8 && at < 8 + 33) /* the metadata's own words mean nothing to anybody */
				continue;
			text[at] ^= (char)(1 << bit);
			put_file(path, text, n);
			if (!noticed(&f, scratch("bad"), true, 0, why))
				fail_msg("%s: header byte %d, bit %d was not noticed: %.30s", plans[p], (int)at, bit, text + (at > 40 ? at - 10 : 8));
			text[at] ^= (char)(1 << bit);
		}
		bl_free(text);
		bl_st_close(&st);
	}
	fix_close(&f);
}

/* In a zip every single byte is under a checksum or a rule. */
static void zip_bits(void **state)
{
	struct bl_export_result r;
	struct bl_rng rng;
	char why[300], *text;
	struct fix f;
	size_t n;

	(void)state;
	bl_rng_seed(&rng, 23);
	fix_open(&f, TINY, 2);
	fix_plan(&f, "W8A8");
	fix_export(&f, scratch("a.zip"), &r);
	bl_export_result_free(&r);
	OK(bl_read_file(&text, &n, scratch("a.zip"), 1u << 30, false, &err));
	for (int k = 0; k < BITS; k++) {
		size_t at = k < 100 ? bl_rng_u64(&rng) % n : n - 1 - bl_rng_u64(&rng) % 800; /* anywhere, and in the directory */
		text[at] ^= 0x55;
		put_file(scratch("b.zip"), text, n);
		bool found = noticed(&f, scratch("b.zip"), true, 0, why);
		text[at] ^= 0x55;
		if (!found && at < n - 800)
			fail_msg("byte %zu of %zu was not noticed", at, n);
	}
	for (size_t cut = 1; cut < n; cut = cut * 3 + 7) {
		put_file(scratch("b.zip"), text, n - cut);
		assert_true(noticed(&f, scratch("b.zip"), true, 0, why));
	}
	bl_free(text);
	fix_close(&f);
}

/* ---- the configuration: who gets which group ---- */

static int resolve(const char *groups, const char *ignore, const char *module, int *vllm, const struct bl_unit *u)
{
	struct bl_str b = {0};
	struct bl_ct_config c;
	cJSON *o;
	char why[300];

	bl_str_addf(&b, "{\"format\":\"pack-quantized\",\"ignore\":[%s],\"config_groups\":{%s}}", ignore, groups);
	OK(bl_json_parse(&o, b.s, b.len, 10000, "q", &err));
	OK(bl_ct_config_parse(&c, o, &err));
	int g = bl_ct_resolve(&c, module);
	*vllm = bl_ct_resolve_vllm(&c, u, why);
	bl_ct_config_fini(&c);
	cJSON_Delete(o);
	bl_str_free(&b);
	return g;
}

#define W "\"weights\":{\"num_bits\":4,\"group_size\":128}"
#define L0 "model.layers.0.self_attn."

/* The table of traps: what transformers picks for a module, what vLLM picks for the unit that it is part of. */
static void precedence(void **state)
{
	static const struct { const char *a, *b, *ignore, *module; int hf, vllm; } rows[] = {
		{"\"Linear\"", "\"" L0 "q_proj\",\"" L0 "k_proj\",\"" L0 "v_proj\"", "", L0 "q_proj", 1, 0},
		{"\"" L0 "q_proj\",\"" L0 "k_proj\",\"" L0 "v_proj\"", "\"Linear\"", "", L0 "q_proj", 0, 1},
		{"\"Linear\"", "\"" L0 "o_proj\"", "", L0 "o_proj", 1, 1},
		{"\"" L0 "q_proj\"", "\"" L0 "k_proj\",\"" L0 "v_proj\"", "", L0 "k_proj", 1, 0},
		{"\"re:.*q_proj$\",\"re:.*k_proj$\"", "\"re:.*v_proj$\"", "", L0 "q_proj", 0, 1},
		{"\"re:.*self_attn.*\"", "\"Linear\"", "", L0 "k_proj", 0, 0},
		{"\"" L0 "q_proj\",\"" L0 "k_proj\"", "\"nothing\"", "", L0 "q_proj", 0, -2},
		{"\"Linear\"", "\"x\"", "\"re:self_attn\"", L0 "q_proj", 0, 0},
		{"\"Linear\"", "\"x\"", "\"re:.*self_attn.*\"", L0 "q_proj", -1, -1},
		{"\"Linear\"", "\"x\"", "\"" L0 "q_proj\"", L0 "q_proj", -1, -2},
		{"\"Linear\"", "\"x\"", "\"Linear\"", L0 "q_proj", -1, 0},
		{"\"re:^model\\\\.layers\\\\.(0|3)\\\\.self_attn\\\\.(q|k|v)_proj$\"", "\"x\"", "", L0 "v_proj", 0, 0},
	};
	struct fix f;

	(void)state;
	fix_open(&f, TINY, 1);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char groups[1000];
		int vllm, hf;
		snprintf(groups, sizeof groups, "\"a\":{\"targets\":[%s]," W "},\"b\":{\"targets\":[%s]," W "}", rows[i].a, rows[i].b);
		hf = resolve(groups, rows[i].ignore, rows[i].module, &vllm, &f.model->units[bl_model_unit(f.model, rows[i].module)]);
		if (hf != rows[i].hf || vllm != rows[i].vllm)
			fail_msg("row %zu: transformers %d (expected %d), vLLM %d (expected %d)", i, hf, rows[i].hf, vllm, rows[i].vllm);
	}
	fix_close(&f);
}

/* A pattern that would take forever is given up, as no match. */
static void slow_pattern(void **state)
{
	struct fix f;
	int vllm;

	(void)state;
	fix_open(&f, TINY, 1);
	assert_int_equal(resolve("\"a\":{\"targets\":[\"re:(([a-z_.0-9]+)+)+!\"]," W "}", "", L0 "q_proj", &vllm, &f.model->units[0]), -1);
	assert_int_equal(vllm, -2);
	fix_close(&f);
}

/* Formats that are not decoded here: completeness is still checked, and the share that was compared says so. */
static void not_decoded(void **state)
{
	struct bl_verify_result v;
	struct bl_export_result r;
	struct fix f;
	char *text, why[300];
	size_t n;
	static uint8_t zeros[512];

	(void)state;
	fix_open(&f, TINY, 2);
	fix_plan(&f, "FP8_DYNAMIC");
	fix_export(&f, scratch("out"), &r);
	bl_export_result_free(&r);
	/* the same bytes called FP8 without activations: a checkpoint that loads, in a scheme that is not offered here */
	OK(bl_read_file(&text, &n, scratch("out/config.json"), 1 << 20, true, &err));
	cJSON *c;
	OK(bl_json_parse(&c, text, n, 100000, "config", &err));
	cJSON *g = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(c, "quantization_config"), "config_groups"), "group_0");
	cJSON_ReplaceItemInObject(g, "input_activations", cJSON_CreateNull());
	cJSON_ReplaceItemInObject(g, "format", cJSON_CreateString("naive-quantized"));
	struct bl_str b = {0};
	bl_json_print(&b, c, 2, true);
	put_file(scratch("out/config.json"), b.s, b.len);
	fix_verify(&f, scratch("out"), true, &v);
	assert_string_equal(first_fatal(&v), "");
	assert_true(v.coverage > 0.05 && v.coverage < 0.5);
	assert_true(v.n_findings >= 56);
	assert_string_equal(v.unit_schemes[0], "?");
	int clean = v.n_findings;
	bl_verify_result_free(&v);
	struct bl_st st;
	snprintf(why, sizeof why, "%s/model.safetensors", scratch("out"));
	OK(bl_st_open(&st, why, &err));
	struct weights w;
	weights_take(&w, &st);
	for (int64_t i = 0; i < w.n; i++)
		if (bl_ends_with(w.names[i], "1.mlp.down_proj.weight_scale"))
			damage(&w, i, ZEROS, zeros);
	char *copy = bl_xstrdup(why);
	/* written from the map of the same file: go through a second name */
	weights_put(&w, scratch("w"));
	bl_st_close(&st);
	assert_int_equal(rename(scratch("w"), copy), 0);
	bl_free(copy);
	assert_true(noticed(&f, scratch("out"), false, clean, why));
	cJSON_Delete(c);
	bl_str_free(&b);
	bl_free(text);
	fix_close(&f);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {T(every_tensor), T(single_bits), T(zip_bits), T(precedence), T(slow_pattern), T(not_decoded)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
