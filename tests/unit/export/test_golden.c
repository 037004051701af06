/* SPDX-License-Identifier: Apache-2.0
 * Files of the real libraries, both ways: their tensors are read and decoded to the bits that the real clients decode to, packed again to the same bytes,
 * and made from the weights where plain rounding is the rule. Skipped without ../shared. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/hash.h"
#include "core/format/format.h"
#include "core/model/safetensors.h"

#define LAYER "model.layers.0."

struct golden { /* one folder */
	struct bl_model m;                 /* config and tensors, by hand: it is no whole checkpoint */
	struct bl_st st, dequant;
	struct bl_model_file file;
	struct bl_quant q;
	cJSON *made;
};

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct bl_tensor *const *)a)->name, (*(const struct bl_tensor *const *)b)->name);
}

static bool golden_open(struct golden *g, const char *folder)
{
	char rest[200], *text;
	size_t n;

	memset(g, 0, sizeof *g);
	snprintf(rest, sizeof rest, "golden/formats/%s/config.json", folder);
	if (!shared_path(rest))
		return false;
	OK(bl_read_file(&text, &n, shared_path(rest), 1 << 20, true, &err));
	OK(bl_config_parse(&g->m.config, text, n, rest, &err));
	bl_free(text);
	snprintf(rest, sizeof rest, "golden/formats/%s/layer0.safetensors", folder);
	OK(bl_st_open(&g->st, shared_path(rest), &err));
	snprintf(rest, sizeof rest, "golden/formats/%s/dequant.safetensors", folder);
	OK(bl_st_open(&g->dequant, shared_path(rest), &err));
	snprintf(rest, sizeof rest, "golden/formats/%s/made.json", folder);
	OK(bl_json_load(&g->made, shared_path(rest), 1 << 20, 100000, &err));
	g->file.name = (char *)"layer0.safetensors";
	g->m.files = &g->file;
	g->m.n_files = 1;
	g->m.title = (char *)"golden";
	g->m.tensors = bl_xalloc((size_t)g->st.n_tensors + 1, sizeof *g->m.tensors);
	for (int64_t i = 0; i < g->st.n_tensors; i++)
		g->m.tensors[g->m.n_tensors++] = &g->st.tensors[i];
	qsort(g->m.tensors, (size_t)g->m.n_tensors, sizeof *g->m.tensors, by_name);
	OK(bl_quant_open(&g->q, &g->m, &err));
	return true;
}

static void golden_close(struct golden *g)
{
	bl_quant_close(&g->q);
	bl_free(g->m.tensors);
	cJSON_Delete(g->made);
	bl_st_close(&g->st);
	bl_st_close(&g->dequant);
	bl_config_fini(&g->m.config);
}

struct linear { struct bl_member m; struct bl_linear l; int8_t *codes, *zeros; float *scales; int32_t *order; int64_t spr; };

static void linear_read(struct linear *x, struct golden *g, const char *name, int64_t rows, int64_t cols)
{
	*x = (struct linear){.m = {.name = (char *)(uintptr_t)name, .rows = rows, .cols = cols}};
	bl_linear_describe(&x->l, &g->q, &x->m);
	assert_non_null(x->l.format);
	if (!x->l.understood)
		fail_msg("%s (%s) is not understood: %s", name, x->l.name, x->l.why ? x->l.why : "?");
	OK(bl_linear_bind(&x->l, &g->m, &err));
	OK(bl_linear_check(&x->l, &g->m, &err));
	x->spr = bl_scheme_scales_per_row(&x->l.scheme, cols);
	x->codes = bl_xalloc((size_t)(rows * cols), 1);
	x->zeros = bl_xalloc((size_t)(rows * x->spr), 1);
	x->scales = bl_xalloc((size_t)(rows * x->spr), sizeof *x->scales);
	for (int64_t at = 0, n; at < rows; at += n) { /* pieces of uneven size */
		n = rows - at < 37 ? rows - at : 37;
		bl_linear_rows(&x->l, at, n, x->codes + at * cols, x->scales + at * x->spr, x->zeros + at * x->spr);
	}
	const struct bl_tensor *order = bl_linear_order(&x->l);
	if (order) {
		x->order = bl_xalloc((size_t)cols, sizeof *x->order);
		memcpy(x->order, order->data, (size_t)(4 * cols));
	}
}

static void linear_free(struct linear *x)
{
	bl_free(x->codes);
	bl_free(x->zeros);
	bl_free(x->scales);
	bl_free(x->order);
}

static const char *crc_of(const struct golden *g, const char *module, const char *dtype)
{
	const cJSON *all = cJSON_GetObjectItem(cJSON_GetObjectItem(g->made, "dequantized"), "crc32_of_whole_linears");
	const cJSON *v = cJSON_GetObjectItem(cJSON_GetObjectItem(all, module), dtype);

	return v ? v->valuestring : NULL;
}

static int compared;

static void expect_crc(const struct golden *g, const char *folder, const char *module, const char *dtype, const void *data, size_t n)
{
	const char *want = crc_of(g, module, dtype);
	char have[16];

	if (!want)
		return;
	snprintf(have, sizeof have, "%08x", bl_crc32(0, data, n));
	if (strcmp(have, want))
		fail_msg("%s: %s decoded as %s has checksum %s, the client's is %s", folder, module, dtype, have, want);
	compared++;
}

/* In the three types that clients load in. */
static void decode(const struct golden *g, const char *folder, const char *module, struct linear *x)
{
	const size_t n = (size_t)(x->m.rows * x->m.cols);
	float *f = bl_xalloc(n, sizeof *f);
	uint16_t *h = bl_xalloc(n, sizeof *h);
	struct bl_coded c = {x->codes, x->scales, x->l.scheme.symmetric ? NULL : x->zeros, x->order};

	bl_scheme_decode(f, &x->l.scheme, &c, x->m.rows, x->m.cols);
	expect_crc(g, folder, module, "F32", f, n * 4);
	for (size_t i = 0; i < n; i++)
		h[i] = bl_f32_f16(f[i]);
	expect_crc(g, folder, module, "F16", h, n * 2);
	for (int64_t i = 0; i < x->m.rows * x->spr && x->l.scheme.number == BL_NUM_INT; i++)
		x->scales[i] = bl_round_bf16(x->scales[i]); /* such a client holds them in its own type */
	bl_scheme_decode_bf16(h, &x->l.scheme, &c, x->m.rows, x->m.cols);
	expect_crc(g, folder, module, "BF16", h, n * 2);
	bl_free(f);
	bl_free(h);
}

static const char *const folders[] = {
	"ct_int_w8a8", "ct_pack_w8a16_channel", "ct_pack_w8a16_g128", "ct_pack_w4a16_g128", "ct_pack_w4a16_g32", "ct_pack_w4a16_channel", "ct_pack_w4a16_asym_g128",
	"ct_pack_w2a16_g128", "ct_pack_w3a16_g128", "ct_pack_w5a16_g128", "ct_pack_w6a16_g128", "ct_pack_w7a16_g128", "ct_naive_w3a16_g128", "ct_pack_w4a16_actorder_group",
	"ct_float_fp8_dynamic", "ct_float_fp8_static", "ct_fp8_block", "ct_nvfp4a16", "ct_nvfp4", "ct_mxfp4a16", "ct_mixed", "gptq_v1_w4_g128", "gptq_v1_w4_g128_desc_act",
	"gptq_w8", "awq_w4_g128", "bnb_nf4", "bnb_nf4_dq", "bnb_int8",
};

static void decoded(void **state)
{
	struct golden g;

	(void)state;
	if (!shared_path("golden/formats"))
		skip();
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		struct linear x;
		const int before = compared;

		assert_true(golden_open(&g, folders[i]));
		linear_read(&x, &g, LAYER "self_attn.k_proj", 128, 256);
		decode(&g, folders[i], "self_attn.k_proj", &x);
		if (compared == before)
			fail_msg("%s: nothing was compared", folders[i]);
		linear_free(&x);
		golden_close(&g);
	}
	assert_true(compared >= 50);
}

/* ---- packed again ---- */

static void packed_again(void **state)
{
	static const struct { const char *folder, *format; } pairs[] = {
		{"gptq_v1_w4_g128", "gptq"}, {"gptq_v1_w4_g128_desc_act", "gptq"}, {"gptq_w8", "gptq"}, {"awq_w4_g128", "awq"}, {"bnb_nf4", "bitsandbytes"},
		{"bnb_int8", "bitsandbytes"}, {"ct_pack_w4a16_actorder_group", "compressed-tensors"}, {"ct_nvfp4", "compressed-tensors"},
		{"ct_mxfp4a16", "compressed-tensors"}, {"ct_fp8_block", "compressed-tensors"}, {"ct_pack_w3a16_g128", "compressed-tensors"},
		{"ct_pack_w4a16_asym_g128", "compressed-tensors"},
	};
	struct golden g;
	struct fix f;

	(void)state;
	if (!shared_path("golden/formats"))
		skip();
	fix_open(&f, TINY, 1);
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		struct linear x;
		struct bl_x_tensor t[8];
		const struct bl_exporter *e = bl_registry_exporter(&f.registry, pairs[i].format);

		assert_non_null(e);
		assert_true(golden_open(&g, pairs[i].folder));
		linear_read(&x, &g, LAYER "self_attn.k_proj", 128, 256);
		struct bl_x_module m = {.name = x.m.name, .unit = "u", .rows = 128, .cols = 256, .quantized = 1, .grid = bl_grid_of(&x.l.scheme),
					.flags = BL_X_EXACT | (x.order ? BL_X_ORDERED : 0)};
		struct bl_x_rows r = {.n = 128, .codes = x.codes, .scales = x.scales, .zeros = x.zeros, .global = bl_linear_global(&x.l), .group_of = x.order,
				      .input_scale = bl_linear_input(&x.l), .host = &f.registry.host};
		assert_null(e->refuses(&m));
		const int n = e->tensors(&m, t, 8);
		assert_true(n >= 2);
		for (int k = 0; k < n; k++) {
			char name[128];
			const char *why;

			snprintf(name, sizeof name, "%s.%s", x.m.name, t[k].suffix);
			const struct bl_tensor *s = bl_st_find(&g.st, name);
			if (!s)
				fail_msg("%s: %s is not stored", pairs[i].folder, name);
			uint8_t *bytes = bl_xalloc(s->bytes + 4096, 1);
			if ((why = e->pack(&m, k, &r, bytes)) != NULL)
				fail_msg("%s: %s: %s", pairs[i].folder, name, why);
			assert_string_equal(bl_dtype_name(s->dtype), t[k].dtype);
			if (memcmp(bytes, s->data, s->bytes))
				fail_msg("%s: %s is packed differently", pairs[i].folder, name);
			bl_free(bytes);
			compared++;
		}
		linear_free(&x);
		golden_close(&g);
	}
	fix_close(&f);
}

/* ---- made from the weights ---- */

static void expect_stored(const char *folder, const struct bl_st *ours, const struct bl_tensor *s)
{
	const struct bl_tensor *t = bl_st_find(ours, s->name);
	uint64_t n = s->bytes;

	if (!bl_starts_with(s->name, LAYER) || strstr(s->name, "input_global_scale") || strstr(s->name, "input_scale"))
		return; /* of a calibration */
	if (!t)
		fail_msg("%s: %s was not written", folder, s->name);
	assert_int_equal(t->dtype, s->dtype);
	if (strstr(s->name, "quant_state")) /* ends in blanks here */
		assert_true(t->bytes >= n);
	else
		assert_int_equal(t->bytes, n);
	for (uint64_t i = n; i < t->bytes; i++)
		assert_int_equal(((const char *)t->data)[i], ' ');
	if (memcmp(t->data, s->data, n))
		fail_msg("%s: %s differs from the library's", folder, s->name);
	compared++;
}

static void made(void **state)
{
	static const struct { const char *folder, *scheme, *format; } rows[] = {
		{"ct_fp8_block", "FP8_BLOCK", "compressed-tensors"}, {"ct_nvfp4a16", "NVFP4A16", "compressed-tensors"}, {"ct_nvfp4", "NVFP4", "compressed-tensors"},
		{"ct_mxfp4a16", "MXFP4A16", "compressed-tensors"},   {"bnb_nf4", "NF4", "bitsandbytes"},		  {"bnb_nf4_dq", "NF4_DQ", "bitsandbytes"},
		{"bnb_int8", "LLM_INT8", "bitsandbytes"},	      {"ct_float_fp8_static", "FP8", "compressed-tensors"},
	};
	struct fix f;

	(void)state;
	if (!shared_path("golden/formats"))
		skip();
	fix_open(&f, TINY, 2);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct bl_export_result r;
		struct golden g;
		struct bl_st ours;
		char path[600];

		fix_plan(&f, rows[i].scheme);
		bl_plan_set_format(f.plan, rows[i].format);
		fix_export(&f, scratch("out"), &r);
		bl_export_result_free(&r);
		snprintf(path, sizeof path, "%s/model.safetensors", scratch("out"));
		OK(bl_st_open(&ours, path, &err));
		assert_true(golden_open(&g, rows[i].folder));
		for (int64_t k = 0; k < g.st.n_tensors; k++)
			expect_stored(rows[i].folder, &ours, &g.st.tensors[k]);
		const cJSON *rest = cJSON_GetObjectItem(g.made, "not_stored");
		for (const cJSON *e = rest->child; e; e = e->next) {
			const struct bl_tensor *t = bl_st_find(&ours, e->string);
			char crc[16];
			if (!t)
				fail_msg("%s: %s was not written", rows[i].folder, e->string);
			snprintf(crc, sizeof crc, "%08x", bl_crc32(0, t->data, t->bytes));
			if (strcmp(crc, cJSON_GetObjectItem(e, "crc32")->valuestring))
				fail_msg("%s: %s differs from the library's", rows[i].folder, e->string);
			compared++;
		}
		golden_close(&g);
		bl_st_close(&ours);
	}
	fix_close(&f);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {T(decoded), T(packed_again), T(made)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
