/* SPDX-License-Identifier: Apache-2.0
 * Quantized checkpoints of every format with damages: the first byte chooses the format, the next ones are damages (place, place, value) to the weight
 * file of a small model, or, with the top bit, the rest is the quantization_config. What opens is read and decoded to the last row. link: bl_format */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/format/format.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char head[] = "{\"model_type\":\"exaone4\",\"architectures\":[\"Exaone4ForCausalLM\"],\"num_hidden_layers\":2,\"hidden_size\":64,"
	"\"intermediate_size\":128,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":16,\"vocab_size\":32,\"tie_word_embeddings\":true,"
	"\"layer_types\":[\"full_attention\",\"full_attention\"],\"max_position_embeddings\":65536,\"torch_dtype\":\"bfloat16\",\"quantization_config\":";

#define CT(format, weights) "{\"quant_method\":\"compressed-tensors\",\"quantization_status\":\"compressed\",\"format\":\"" format "\",\"ignore\":[\"lm_head\"]," \
	"\"config_groups\":{\"g\":{\"targets\":[\"Linear\"],\"weights\":" weights "}}}"

/* Tensors of a linear of n x k in groups of 32 (64 for NF4): name, type, bytes an element, rows, columns (0: a vector). */
struct part { const char *suffix; enum bl_dtype dtype; int rank; int64_t a, b; };
enum { KINDS = 6, PARTS = 6 };

static int parts_of(struct part p[PARTS], int kind, int64_t n, int64_t k)
{
	const struct part all[KINDS][PARTS] = { /* the rest of a row is empty */
		{{"qweight", BL_I32, 2, k / 8, n}, {"qzeros", BL_I32, 2, k / 32, n / 8}, {"scales", BL_F16, 2, k / 32, n}, {"g_idx", BL_I32, 1, k, 0}},
		{{"qweight", BL_I32, 2, k, n / 8}, {"qzeros", BL_I32, 2, k / 32, n / 8}, {"scales", BL_F16, 2, k / 32, n}},
		{{"weight", BL_U8, 2, n * k / 2, 1}, {"weight.absmax", BL_U8, 1, n * k / 64, 0}, {"weight.quant_map", BL_F32, 1, 16, 0},
		 {"weight.nested_absmax", BL_F32, 1, (n * k / 64 + 255) / 256, 0}, {"weight.nested_quant_map", BL_F32, 1, 256, 0},
		 {"weight.quant_state.bitsandbytes__nf4", BL_U8, 1, 200, 0}},
		{{"weight_packed", BL_U8, 2, n, k / 2}, {"weight_scale", BL_F8_E4M3, 2, n, k / 16}, {"weight_global_scale", BL_F32, 1, 1, 0}},
		{{"weight_packed", BL_I32, 2, n, k * 3 / 32}, {"weight_scale", BL_BF16, 2, n, k / 32}, {"weight_shape", BL_I64, 1, 2, 0},
		 {"weight_zero_point", BL_I32, 2, n * 3 / 32, k / 32}, {"weight_g_idx", BL_I32, 1, k, 0}},
		{{"weight", BL_I8, 2, n, k}, {"SCB", BL_F32, 1, n, 0}, {"weight_format", BL_U8, 0, 0, 0}},
	};
	int count = 0;

	for (; count < PARTS && all[kind][count].suffix; count++)
		p[count] = all[kind][count];
	return count;
}

static const char *const configs[KINDS] = {
	"{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"sym\":false,\"desc_act\":true,\"checkpoint_format\":\"gptq\",\"dynamic\":{}}",
	"{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32,\"zero_point\":true,\"version\":\"gemm\",\"modules_to_not_convert\":[\"lm_head\"]}",
	"{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true,\"bnb_4bit_quant_type\":\"nf4\",\"bnb_4bit_use_double_quant\":true}",
	CT("nvfp4-pack-quantized", "{\"num_bits\":4,\"type\":\"float\",\"strategy\":\"tensor_group\",\"group_size\":16}"),
	CT("pack-quantized", "{\"num_bits\":3,\"strategy\":\"group\",\"group_size\":32,\"symmetric\":false,\"actorder\":\"group\"}"),
	"{\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":true}",
};

/* Contents that are right where something is checked. */
static void fill(uint8_t *dst, const struct part *p, uint64_t bytes, int64_t n, int64_t k)
{
	const struct bl_scheme nf4 = {.number = BL_NUM_NF4};
	char state[300];

	for (uint64_t i = 0; i < bytes; i++)
		dst[i] = p->dtype == BL_F16 || p->dtype == BL_BF16 ? (i % 2 ? 0x3c : (uint8_t)(i * 7)) : (uint8_t)(i * 37 + 11);
	if (strstr(p->suffix, "g_idx"))
		for (int64_t i = 0; i < k; i++)
			memcpy(dst + 4 * i, &(uint32_t){(uint32_t)((i * 5) % (k / 32))}, 4);
	else if (!strcmp(p->suffix, "weight.quant_map"))
		for (int i = 0; i < 16; i++)
			memcpy(dst + 4 * i, &(float){bl_scheme_value(&nf4, (int8_t)i)}, 4);
	else if (!strcmp(p->suffix, "weight.nested_quant_map"))
		memcpy(dst, bl_nest_map(), 1024);
	else if (!strcmp(p->suffix, "weight_shape"))
		memcpy(dst, (const int64_t[2]){n, k}, 16);
	else if (!strcmp(p->suffix, "weight_format"))
		*dst = 0;
	else if (strstr(p->suffix, "quant_state")) {
		memset(dst, ' ', bytes);
		int len = snprintf(state, sizeof state, "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [%d, %d], \"nested_blocksize\": 256, "
				   "\"nested_dtype\": \"float32\", \"nested_offset\": 0.01}", (int)n, (int)k);
		memcpy(dst, state, (size_t)len);
	}
}

/* The demo model in a format; kept. */
static struct bl_str weights_of(int kind)
{
	const struct bl_model *m = fuzz_model();
	static char names[160][128];
	struct bl_tensor t[160];
	struct part part_of[160];
	struct bl_str out = {0};
	int n = 0;

	for (int64_t i = 0; i < m->n_tensors; i++) {
		struct part p[PARTS];
		const struct bl_tensor *from = m->tensors[i];
		const bool linear = strstr(from->name, "_proj.weight") != NULL;
		const int count = linear ? parts_of(p, kind, from->shape[0], from->shape[1]) : 1;
		for (int k = 0; k < count; k++, n++) {
			t[n] = *from;
			part_of[n] = (struct part){"", from->dtype, 0, 0, 0};
			snprintf(names[n], sizeof names[n], "%s", from->name);
			if (linear) {
				snprintf(names[n], sizeof names[n], "%.*s%s", (int)(strlen(from->name) - 6), from->name, p[k].suffix);
				const int64_t elems = p[k].rank == 0 ? 1 : p[k].a * (p[k].rank == 2 ? p[k].b : 1);
				t[n] = (struct bl_tensor){.dtype = p[k].dtype, .rank = p[k].rank, .shape = {p[k].a, p[k].b}, .n_elems = elems,
							  .bytes = (uint64_t)(elems * bl_dtype_bytes(p[k].dtype))};
				part_of[n] = p[k];
				part_of[n].a = from->shape[0]; /* of the linear */
				part_of[n].b = from->shape[1];
			}
			t[n].name = names[n];
			t[n].file = n;
		}
	}
	const uint64_t total = bl_st_layout(t, n, &out);
	while (out.len < total)
		bl_str_addc(&out, 0x3c);
	for (int i = 0; i < n; i++)
		if (part_of[t[i].file].suffix[0])
			fill((uint8_t *)out.s + t[i].offset, &part_of[t[i].file], t[i].bytes, part_of[t[i].file].a, part_of[t[i].file].b);
	return out;
}

static enum bl_status read_all(void *ctx, struct bl_err *err)
{
	const struct bl_source *s = ctx;

	(void)err;
	for (int i = 0; i < s->n; i++) {
		const struct bl_linear *l = &s->linears[i];
		if (!l->format)
			continue;
		const int64_t n = l->member->rows, k = l->member->cols, spr = bl_scheme_scales_per_row(&l->scheme, k);
		int8_t *codes = bl_xalloc((size_t)(n * k), 1), *zeros = bl_xalloc((size_t)(n * spr), 1);
		float *scales = bl_xalloc((size_t)(n * spr), sizeof *scales), *w = bl_xalloc((size_t)(n * k), sizeof *w);
		int32_t *order = bl_xalloc((size_t)k, sizeof *order);
		if (bl_linear_order(l))
			memcpy(order, bl_linear_order(l)->data, (size_t)(4 * k));
		bl_linear_rows(l, 0, n, codes, scales, zeros);
		bl_scheme_decode(w, &l->scheme, &(struct bl_coded){codes, scales, l->scheme.symmetric ? NULL : zeros, bl_linear_order(l) ? order : NULL}, n, k);
		bl_free(codes);
		bl_free(zeros);
		bl_free(scales);
		bl_free(order);
		bl_free(w);
	}
	return BL_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct bl_str kept[KINDS];
	struct bl_str w = {0}, config = {0};
	struct bl_model *m = NULL;
	struct bl_source *s = NULL;
	struct bl_err err = BL_ERR_INIT;

	if (n < 1)
		return 0;
	const int kind = (data[0] & 0x7f) % KINDS;
	const bool in_config = data[0] & 0x80;
	if (!kept[kind].len)
		kept[kind] = weights_of(kind);
	bl_str_addn(&w, kept[kind].s, kept[kind].len);
	for (size_t i = 1; !in_config && i + 3 < n; i += 4)
		w.s[((size_t)data[i] << 16 | (size_t)data[i + 1] << 8 | data[i + 2]) % w.len] = (char)data[i + 3];
	bl_str_add(&config, head);
	if (in_config)
		bl_str_addn(&config, data + 1, n - 1);
	else
		bl_str_add(&config, configs[kind]);
	bl_str_add(&config, "}");
	struct bl_model_part part = {"model.safetensors", w.s, w.len};
	if (bl_model_open_parts(&m, "fuzz", config.s, config.len, &part, 1, &err) == BL_OK && m->config.quantized && bl_source_open(&s, m, true, &err) == BL_OK)
		bl_guard_run(read_all, s, &err);
	if (n == 1 && err.status) {
		fprintf(stderr, "kind %d: %s\n", kind, err.text); /* undamaged ones open */
		abort();
	}
	bl_source_close(s);
	bl_model_close(m);
	bl_str_free(&w);
	bl_str_free(&config);
	return 0;
}
