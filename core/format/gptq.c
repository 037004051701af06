/* SPDX-License-Identifier: Apache-2.0
 * GPTQ (v1 and v2), AWQ, and AutoRound's packings of both. All three store the matrix transposed, codes unsigned. Which linears are quantized is what the
 * tensors say when the config does not: servers do the same. Symmetric files take 2^(b-1) as zero point whatever their words say, because labels of real files lie. */
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/half.h"
#include "core/format/private.h"

#define PATTERNS_MAX 100000

struct settings { int64_t bits, group; bool symmetric, ordered, quantized; };

bool bl_pattern_at_start(const char *pattern, const char *text)
{
	int code = 0;
	PCRE2_SIZE at = 0;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &code, &at, NULL);

	if (!re)
		return false;
	pcre2_match_context *mc = pcre2_match_context_create(NULL);
	pcre2_match_data *md = pcre2_match_data_create_from_pattern(re, NULL);
	pcre2_set_match_limit(mc, 20000);
	pcre2_set_depth_limit(mc, 500);
	const bool yes = pcre2_match(re, (PCRE2_SPTR)text, strlen(text), 0, 0, md, mc) >= 0;
	pcre2_match_data_free(md);
	pcre2_match_context_free(mc);
	pcre2_code_free(re);
	return yes;
}

static void take(struct settings *s, const cJSON *o)
{
	const cJSON *bits = cJSON_GetObjectItemCaseSensitive(o, "bits"), *group = cJSON_GetObjectItemCaseSensitive(o, "group_size");
	const cJSON *sym = cJSON_GetObjectItemCaseSensitive(o, "sym"), *order = cJSON_GetObjectItemCaseSensitive(o, "desc_act");

	if (cJSON_IsNumber(bits) && bits->valuedouble >= 1 && bits->valuedouble <= 32)
		s->bits = (int64_t)bits->valuedouble;
	if (cJSON_IsNumber(group) && group->valuedouble >= -1 && group->valuedouble <= 65535)
		s->group = (int64_t)group->valuedouble;
	if (cJSON_IsBool(sym))
		s->symmetric = cJSON_IsTrue(sym);
	if (cJSON_IsBool(order))
		s->ordered = cJSON_IsTrue(order);
}

/* GPTQ's "dynamic": the first pattern that matches counts; "-:" leaves a linear alone. */
static void dynamic(struct settings *s, const cJSON *config, const char *module)
{
	const cJSON *o = cJSON_GetObjectItemCaseSensitive(config, "dynamic");

	for (const cJSON *e = cJSON_IsObject(o) ? o->child : NULL; e; e = e->next) {
		const char *pattern = e->string;
		const bool minus = bl_starts_with(pattern, "-:");

		if (minus || bl_starts_with(pattern, "+:"))
			pattern += 2;
		if (!bl_pattern_at_start(pattern, module))
			continue;
		s->quantized = !minus;
		take(s, e);
		return;
	}
}

/* AutoRound's: a name, or a pattern. */
static void extra(struct settings *s, const cJSON *config, const char *module)
{
	const cJSON *o = cJSON_GetObjectItemCaseSensitive(config, "extra_config");

	for (const cJSON *e = cJSON_IsObject(o) ? o->child : NULL; e; e = e->next)
		if (!strcmp(e->string, module) || bl_pattern_at_start(e->string, module)) {
			take(s, e);
			if (!strcmp(e->string, module))
				break;
		}
	s->quantized = s->quantized && s->bits < 16;
}

static bool skipped(const cJSON *list, const char *module)
{
	for (const cJSON *e = cJSON_IsArray(list) ? list->child : NULL; e; e = e->next)
		if (cJSON_IsString(e) && *e->valuestring && strstr(module, e->valuestring))
			return true;
	return false;
}

/* Packed codes, or plain weights although the config does not say so. */
static bool is_stored_plain(const struct bl_linear *l, const struct bl_quant *q)
{
	char name[512];

	snprintf(name, sizeof name, "%s.qweight", l->member->name);
	return l->member->weight && !bl_model_tensor(q->m, name);
}

static const char *config_text(const struct bl_quant *q, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(q->config, key);

	return cJSON_IsString(v) ? v->valuestring : "";
}

static void name_scheme(struct bl_linear *l, const struct settings *s, const char *name)
{
	const int64_t k = l->member->cols;

	snprintf(l->name, sizeof l->name, "%s", name);
	l->scheme = (struct bl_scheme){.number = BL_NUM_INT, .bits = (uint8_t)s->bits, .symmetric = s->symmetric, .strategy = BL_STRATEGY_CHANNEL};
	if (s->group > 0 && (s->group < k || s->ordered)) {
		l->scheme.strategy = BL_STRATEGY_GROUP;
		l->scheme.group = (uint16_t)s->group;
	}
	l->understood = s->bits == 2 || s->bits == 4 || s->bits == 8;
	l->why = l->understood ? NULL : "only 2, 4 and 8 bits are packed in a way that is read here";
}

/* ---- GPTQ ---- */

enum { CODES, ZEROS, SCALES, INDEX };

static void gptq_wants(struct bl_linear *l, int64_t bits, bool index)
{
	const int64_t n = l->member->rows, k = l->member->cols, groups = l->scheme.group ? k / l->scheme.group : 1;
	struct bl_want *w;

	bl_want_add(l, "qweight", "I32", 2, k * bits / 32, n);
	bl_want_add(l, "qzeros", "I32", 2, groups, n * bits / 32);
	bl_want_add(l, "scales", bl_floats, 2, groups, n);
	bl_want_add(l, "g_idx", "I32", 1, k, 0);
	w = &l->want[INDEX];
	w->optional = !index;
	if (k * bits % 32 || n * bits % 32) {
		l->understood = false;
		l->why = "rows or columns do not fill whole words";
	}
}

static void gptq_describe(struct bl_linear *l, const struct bl_quant *q)
{
	struct settings s = {.bits = 4, .group = 128, .symmetric = true, .quantized = true};
	const char *version = config_text(q, "checkpoint_format");

	take(&s, q->config);
	dynamic(&s, q->config, l->member->name);
	if (!s.quantized || is_stored_plain(l, q))
		return;
	l->format = &bl_format_gptq;
	name_scheme(l, &s, "gptq");
	l->zeros_off_by_one = strcmp(*version ? version : config_text(q, "format"), "gptq_v2") != 0;
	l->scheme.order = s.ordered && l->scheme.strategy == BL_STRATEGY_GROUP;
	gptq_wants(l, s.bits, true);
}

/* Symmetric files hold one zero point everywhere, in either spelling. Clients that read it would shift every weight by another one. */
static enum bl_status check_zeros(const struct bl_linear *l, const struct bl_model *m, struct bl_err *err)
{
	const struct bl_tensor *t = l->part[ZEROS];
	const int bits = l->scheme.bits;
	uint32_t word = 0;

	for (int at = 0; at < 32; at += bits)
		word |= (uint32_t)(1 << (bits - 1)) << at;
	const uint32_t one_less = word - (bits == 2 ? 0x55555555u : bits == 4 ? 0x11111111u : 0x01010101u);
	for (int64_t i = 0; i < t->n_elems; i++)
		if (bl_word_at(t, i) != word && bl_word_at(t, i) != one_less)
			return bl_part_fail(err, m, t, "word %lld is %08x, a symmetric file has %08x or %08x", (long long)i, bl_word_at(t, i), one_less, word);
	return BL_OK;
}

/* An index that is k / group is none, whatever desc_act says; any other is one, and has to be announced, because servers look for it only then. */
static enum bl_status gptq_check(struct bl_linear *l, const struct bl_model *m, struct bl_err *err)
{
	const struct bl_tensor *t = bl_part(l, "g_idx");
	const int64_t groups = bl_scheme_scales_per_row(&l->scheme, l->member->cols);
	bool plain = true;

	if (l->scheme.symmetric && check_zeros(l, m, err))
		return err->status;
	if (!t) {
		l->scheme.order = 0;
		return BL_OK;
	}
	if (bl_check_order(m, t, groups, err))
		return err->status;
	for (int64_t k = 0; k < t->n_elems && plain; k++)
		plain = bl_word_at(t, k) == (uint64_t)(l->scheme.group ? k / l->scheme.group : 0);
	if (!plain && !l->scheme.order)
		return bl_part_fail(err, m, t, "puts columns into groups by an index, and desc_act is false: servers would not look at it");
	l->scheme.order = !plain;
	return BL_OK;
}

static void gptq_rows(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes, float *scales, int8_t *zeros)
{
	const struct bl_tensor *qw = l->part[CODES], *qz = l->part[ZEROS], *sc = l->part[SCALES];
	const int bits = l->scheme.bits, per = 32 / bits, half = 1 << (bits - 1), mask = (1 << bits) - 1;
	const int64_t rows = l->member->rows, k = l->member->cols, spr = bl_scheme_scales_per_row(&l->scheme, k);

	for (int64_t w = 0; w < k / per; w++)
		for (int64_t r = 0; r < n; r++) {
			const uint32_t word = bl_word_at(qw, w * rows + row0 + r);

			for (int j = 0; j < per; j++)
				codes[r * k + w * per + j] = (int8_t)((int)(word >> bits * j & (uint32_t)mask) - half);
		}
	for (int64_t g = 0; g < spr; g++)
		for (int64_t r = 0; r < n; r++) {
			const int64_t row = row0 + r;

			scales[r * spr + g] = bl_float_at(sc, g * rows + row);
			if (l->scheme.symmetric)
				continue;
			const uint32_t word = bl_word_at(qz, g * (rows / per) + row / per);
			zeros[r * spr + g] = (int8_t)((((int)(word >> bits * (row % per)) + (l->zeros_off_by_one ? 1 : 0)) & mask) - half);
		}
}

/* ---- AWQ ---- */

static int awq_shift(int64_t column)
{
	static const int place[8] = {0, 4, 1, 5, 2, 6, 3, 7};

	return 4 * place[column % 8];
}

static void awq_wants(struct bl_linear *l)
{
	const int64_t n = l->member->rows, k = l->member->cols, groups = l->scheme.group ? k / l->scheme.group : 1;

	bl_want_add(l, "qweight", "I32", 2, k, n / 8);
	bl_want_add(l, "qzeros", "I32", 2, groups, n / 8);
	bl_want_add(l, "scales", bl_floats, 2, groups, n);
	if (l->scheme.bits != 4 || n % 8) {
		l->understood = false;
		l->why = l->scheme.bits != 4 ? "only 4 bits are packed this way" : "rows do not fill whole words";
	}
}

static void awq_describe(struct bl_linear *l, const struct bl_quant *q)
{
	struct settings s = {.bits = 4, .group = 128, .symmetric = true, .quantized = true};
	const cJSON *zero = cJSON_GetObjectItemCaseSensitive(q->config, "zero_point");
	const char *version = config_text(q, "version");

	take(&s, q->config);
	s.symmetric = cJSON_IsFalse(zero);
	if (skipped(cJSON_GetObjectItemCaseSensitive(q->config, "modules_to_not_convert"), l->member->name) || is_stored_plain(l, q))
		return;
	l->format = &bl_format_awq;
	name_scheme(l, &s, "awq");
	awq_wants(l);
	if (*version && !bl_ieq(version, "gemm")) {
		l->understood = false;
		l->why = "only the gemm layout is read here";
	}
}

static void awq_rows(const struct bl_linear *l, int64_t row0, int64_t n, int8_t *codes, float *scales, int8_t *zeros)
{
	const struct bl_tensor *qw = l->part[CODES], *qz = l->part[ZEROS], *sc = l->part[SCALES];
	const int64_t rows = l->member->rows, k = l->member->cols, spr = bl_scheme_scales_per_row(&l->scheme, k);

	for (int64_t c = 0; c < k; c++)
		for (int64_t r = 0; r < n; r++)
			codes[r * k + c] = (int8_t)((int)(bl_word_at(qw, c * (rows / 8) + (row0 + r) / 8) >> awq_shift(row0 + r) & 15) - 8);
	for (int64_t g = 0; g < spr; g++)
		for (int64_t r = 0; r < n; r++) {
			scales[r * spr + g] = bl_float_at(sc, g * rows + row0 + r);
			if (!l->scheme.symmetric)
				zeros[r * spr + g] = (int8_t)((int)(bl_word_at(qz, g * (rows / 8) + (row0 + r) / 8) >> awq_shift(row0 + r) & 15) - 8);
		}
}

/* ---- AutoRound ---- */

static void auto_round_describe(struct bl_linear *l, const struct bl_quant *q)
{
	struct settings s = {.bits = 4, .group = 128, .symmetric = true, .quantized = true};
	const char *packing = config_text(q, "packing_format");
	const bool awq = strstr(packing, "awq") != NULL, v2 = strstr(packing, "gptqmodel") != NULL;

	take(&s, q->config);
	extra(&s, q->config, l->member->name);
	s.ordered = false;
	if (!s.quantized || is_stored_plain(l, q))
		return;
	l->format = awq ? &bl_format_awq : &bl_format_gptq;
	name_scheme(l, &s, *packing ? packing : "auto_round");
	l->zeros_off_by_one = !v2;
	if (awq)
		awq_wants(l);
	else
		gptq_wants(l, s.bits, false);
	if (*config_text(q, "data_type") && strcmp(config_text(q, "data_type"), "int")) {
		l->understood = false;
		l->why = "only integers are read of this method";
	}
}

const struct bl_format bl_format_gptq = {"gptq", bl_gptq_open, gptq_describe, gptq_check, gptq_rows};
const struct bl_format bl_format_awq = {"awq", bl_awq_open, awq_describe, NULL, awq_rows};
const struct bl_format bl_format_auto_round = {"auto-round", bl_auto_round_open, auto_round_describe, NULL, NULL}; /* its linears belong to one of the two above */
const struct bl_format bl_format_auto_round_2 = {"intel/auto-round", bl_auto_round_open, auto_round_describe, NULL, NULL};
