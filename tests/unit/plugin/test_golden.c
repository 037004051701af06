/* SPDX-License-Identifier: Apache-2.0
 * Round to nearest against the real libraries, bit for bit: codes, scales, zero points, packed words and decoded weights of block 0 of the
 * demo model in every integer and FP8 form, by checksum (golden_crc.h) and, where ../shared is there, tensor by tensor. */
#include "support.h"

#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/scheme/pack.h"

enum layout { PLAIN, PACKED };

struct form { const char *folder, *scheme; enum layout layout; };
static const struct form forms[] = {
	{ "ct_int_w8a8", "W8A8", PLAIN },
	{ "ct_pack_w8a16_channel", "W8A16", PACKED },
	{ "ct_pack_w8a16_g128", "W8A16_g128", PACKED },
	{ "ct_pack_w4a16_g128", "W4A16", PACKED },
	{ "ct_pack_w4a16_g32", "W4A16_g32", PACKED },
	{ "ct_pack_w4a16_channel", "W4A16_channel", PACKED },
	{ "ct_pack_w4a16_asym_g128", "W4A16_ASYM", PACKED },
	{ "ct_pack_w2a16_g128", "W2A16", PACKED },
	{ "ct_pack_w3a16_g128", "W3A16", PACKED },
	{ "ct_pack_w5a16_g128", "W5A16", PACKED },
	{ "ct_pack_w6a16_g128", "W6A16", PACKED },
	{ "ct_pack_w7a16_g128", "W7A16", PACKED },
	{ "ct_naive_w3a16_g128", "W3A16", PLAIN },
	{ "ct_float_fp8_dynamic", "FP8_DYNAMIC", PLAIN },
	{ "ct_float_fp8_static", "FP8", PLAIN },
	{ "ct_mixed", NULL, PLAIN }, /* attention W8A8, mlp W4A16 */
};

static const char *const modules[] = { "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
				       "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj" };

static const struct { const char *folder, *module, *tensor; uint32_t crc; } golden[] = {
#define GOLDEN(folder, module, tensor, crc) { folder, module, tensor, crc },
#include "golden_crc.h"
#undef GOLDEN
};

struct tally { const struct bl_st *stored; /* NULL: only checksums */ int by_crc, by_bytes; };

static void expect(struct tally *t, const char *folder, const char *module, const char *tensor, const void *data, size_t n)
{
	char name[160];
	const struct bl_tensor *s;

	for (size_t i = 0; i < sizeof(golden) / sizeof(*golden); i++) {
		if (strcmp(golden[i].folder, folder) || strcmp(golden[i].module, module) || strcmp(golden[i].tensor, tensor))
			continue;
		if (bl_crc32(0, data, n) != golden[i].crc)
			fail_msg("%s: %s.%s differs from the library's", folder, module, tensor);
		t->by_crc++;
	}
	snprintf(name, sizeof(name), "model.layers.0.%s.%s", module, tensor);
	s = t->stored ? bl_st_find(t->stored, name) : NULL;
	if (!s)
		return;
	if (s->bytes != n || memcmp(s->data, data, n) != 0)
		fail_msg("%s: stored %s differs", folder, name);
	t->by_bytes++;
}

static void compare_module(struct tally *t, const struct bl_registry *r, const struct form *f, const char *scheme, enum layout layout,
			   const struct bl_st *demo, const char *module)
{
	struct bl_scheme sc;
	struct bl_solver s;
	struct solved x;
	char name[128];
	struct bl_member m = member_of(demo, module, name);
	int64_t n, ns, words;
	uint16_t *half;
	float *full;

	OK(bl_scheme_parse(&sc, scheme, &err));
	OK(bl_solver_init(&s, r, &sc, "rtn", "", false, &err));
	solve_all(&x, &s, &m, 96);
	n = x.rows * x.cols;
	ns = x.rows * x.spr;
	words = bl_pack_words(x.cols, sc.bits);
	half = bl_xalloc((size_t)n, sizeof(*half));
	full = bl_xalloc((size_t)n, sizeof(*full));
	if (layout == PACKED) {
		uint32_t *packed = bl_xalloc((size_t)(x.rows * words), sizeof(*packed));
		int8_t *back = bl_xalloc((size_t)x.cols, 1);

		for (int64_t row = 0; row < x.rows; row++) {
			bl_pack_row(packed + row * words, x.codes + row * x.cols, x.cols, sc.bits);
			bl_unpack_row(back, packed + row * words, x.cols, sc.bits);
			assert_memory_equal(back, x.codes + row * x.cols, (size_t)x.cols);
		}
		expect(t, f->folder, module, "weight_packed", packed, (size_t)(x.rows * words) * 4);
		bl_free(packed);
		bl_free(back);
	} else {
		expect(t, f->folder, module, "weight", x.codes, (size_t)n);
	}
	if (x.zeros) {
		uint32_t *packed = bl_xalloc((size_t)(bl_pack_words(x.rows, sc.bits) * x.spr), sizeof(*packed));

		bl_pack_zeros(packed, x.zeros, x.rows, x.spr, sc.bits);
		expect(t, f->folder, module, "weight_zero_point", packed, (size_t)(bl_pack_words(x.rows, sc.bits) * x.spr) * 4);
		bl_free(packed);
	}
	for (int64_t i = 0; i < ns; i++) {
		assert_true(bl_round_bf16(x.scales[i]) == x.scales[i]);
		half[i] = bl_f32_bf16(x.scales[i]);
	}
	for (int64_t i = 1; i < ns && sc.strategy == BL_STRATEGY_TENSOR; i++)
		assert_int_equal(half[i], half[0]);
	expect(t, f->folder, module, "weight_scale", half, (size_t)(sc.strategy == BL_STRATEGY_TENSOR ? 1 : ns) * 2);
	r->host.decode(full, x.codes, x.scales, x.zeros, x.rows, x.cols, &s.grid);
	for (int64_t i = 0; i < n; i++)
		half[i] = bl_f32_bf16(full[i]);
	expect(t, f->folder, module, "bf16", half, (size_t)n * 2);
	expect(t, f->folder, module, "f32", full, (size_t)n * 4);
	bl_free(half);
	bl_free(full);
	solved_free(&x);
	bl_solver_fini(&s);
}

static int run(bool with_files)
{
	struct bl_registry r;
	struct bl_st demo, stored;
	struct tally t = { 0 };

	open_registry(&r);
	open_demo(&demo);
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		if (with_files) {
			char rest[128];

			snprintf(rest, sizeof(rest), "golden/formats/%s/layer0.safetensors", forms[i].folder);
			OK(bl_st_open(&stored, shared_path(rest), &err));
			t.stored = &stored;
		}
		for (size_t k = 0; k < sizeof(modules) / sizeof(*modules); k++) {
			bool mlp = strncmp(modules[k], "mlp", 3) == 0;

			compare_module(&t, &r, &forms[i], forms[i].scheme ? forms[i].scheme : mlp ? "W4A16" : "W8A8",
				       forms[i].scheme ? forms[i].layout : mlp ? PACKED : PLAIN, &demo, modules[k]);
		}
		if (with_files)
			bl_st_close(&stored);
	}
	bl_st_close(&demo);
	bl_registry_close(&r);
	assert_int_equal(t.by_crc, sizeof(golden) / sizeof(*golden));
	return t.by_bytes;
}

static void checksums(void **state)
{
	(void)state;
	assert_int_equal(run(false), 0);
}

static void stored_tensors(void **state)
{
	(void)state;
	if (!shared_path("golden/formats")) {
		print_message("../shared/golden/formats is not there; only the checksums were compared\n");
		skip();
	}
	/* per folder: one weight of k_proj, the scales of 7 linears; zero points of 7 in one; minus what is stored by checksum only */
	assert_true(run(true) >= 15 * 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksums),
		cmocka_unit_test(stored_tensors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
