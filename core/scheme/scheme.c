/* SPDX-License-Identifier: Apache-2.0
 * Schemes as values: the table of what is offered, and their names both ways. A name is put together from the value's
 * parts, so every legal value has one even when it is not in the table; the parser is a table of whole names plus one rule. */
#include "core/scheme/scheme.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/str.h"

#define PRESET_GROUP 128 /* what the ecosystem's W4A16 means */

#define INT(b, strat, g, sym) { .number = BL_NUM_INT, .bits = (b), .symmetric = (sym), .strategy = (strat), .group = (g) }
#define GROUP(b, g)           INT(b, BL_STRATEGY_GROUP, g, 1)
#define ASYM(b, g)            INT(b, BL_STRATEGY_GROUP, g, 0)
#define CHANNEL(b, sym)       INT(b, BL_STRATEGY_CHANNEL, 0, sym)
#define W8A8 \
	{ .number = BL_NUM_INT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL, .act = BL_ACT_INT8_TOKEN }
#define W8A8_STATIC \
	{ .number = BL_NUM_INT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL, .act = BL_ACT_INT8_TENSOR }
#define FP8(strat) \
	{ .number = BL_NUM_FLOAT, .bits = 8, .symmetric = 1, .strategy = (strat), .act = BL_ACT_FP8_TENSOR }
#define FP8_DYNAMIC \
	{ .number = BL_NUM_FLOAT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL, .act = BL_ACT_FP8_TOKEN }
#define FP8_BLOCK \
	{ .number = BL_NUM_FLOAT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_BLOCK, .group = 128, .act = BL_ACT_FP8_GROUP }
#define NVFP4(a) \
	{ .number = BL_NUM_E2M1, .bits = 4, .symmetric = 1, .strategy = BL_STRATEGY_TENSOR_GROUP, .group = 16, .act = (a) }
#define MXFP4 \
	{ .number = BL_NUM_E2M1, .bits = 4, .symmetric = 1, .strategy = BL_STRATEGY_GROUP, .group = 32 }
#define MXFP8 \
	{ .number = BL_NUM_FLOAT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_GROUP, .group = 32 }
#define NF4(dq) \
	{ .number = BL_NUM_NF4, .bits = 4, .symmetric = 1, .strategy = BL_STRATEGY_GROUP, .group = 64, .nested = (dq) }
#define FP4(dq) \
	{ .number = BL_NUM_BNB_FP4, .bits = 4, .symmetric = 1, .strategy = BL_STRATEGY_GROUP, .group = 64, .nested = (dq) }
#define LLM_INT8 \
	{ .number = BL_NUM_SCB, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_CHANNEL }

#define PRUNED \
	{ .number = BL_NUM_PRUNED, .bits = 16, .symmetric = 1 }

static const struct bl_scheme_row rows[] = {
	{ { .number = BL_NUM_FULL, .bits = 16, .symmetric = 1 }, "b", "Full precision: the weights stay as they are on disk." },
	{ W8A8, "8", "8-bit integers per channel, inputs rounded to 8 bits per token: integer matrix units, the fastest on most cards." },
	{ CHANNEL(8, 1), "", "8-bit weights, one scale per output channel; inputs stay in 16 bits." },
	{ GROUP(8, 128), "", "8-bit weights, one scale per 128 inputs." },
	{ GROUP(4, 128), "4", "4-bit weights, one scale per 128 inputs: the usual choice for small files." },
	{ GROUP(4, 64), "", "4-bit weights, one scale per 64 inputs: a little larger and more accurate." },
	{ GROUP(4, 32), "", "4-bit weights, one scale per 32 inputs: the most accurate symmetric 4-bit form." },
	{ CHANNEL(4, 1), "", "4-bit weights, one scale per output channel: smallest and roughest 4-bit form." },
	{ ASYM(4, 128), "", "4-bit weights with zero points, one pair per 128 inputs: for groups that lean to one side." },
	{ ASYM(4, 64), "", "4-bit weights with zero points, one pair per 64 inputs." },
	{ ASYM(4, 32), "", "4-bit weights with zero points, one pair per 32 inputs." },
	{ CHANNEL(4, 0), "", "4-bit weights with zero points, one pair per output channel." },
	{ GROUP(2, 128), "", "2-bit weights, one scale per 128 inputs; few servers read them." },
	{ GROUP(3, 128), "", "3-bit weights, one scale per 128 inputs; few servers read them." },
	{ GROUP(5, 128), "", "5-bit weights, one scale per 128 inputs; few servers read them." },
	{ GROUP(6, 128), "", "6-bit weights, one scale per 128 inputs; few servers read them." },
	{ GROUP(7, 128), "", "7-bit weights, one scale per 128 inputs; few servers read them." },
	{ FP8_DYNAMIC, "f", "8-bit floats (E4M3) per channel, inputs rounded to 8-bit floats per token." },
	{ W8A8_STATIC, "", "8-bit integers per channel, inputs rounded with one scale that a calibration found: outliers break it." },
	{ FP8(BL_STRATEGY_TENSOR), "", "8-bit floats, one scale per linear for the weights and one for its inputs, found by a calibration." },
	{ FP8(BL_STRATEGY_CHANNEL), "", "8-bit floats per channel, inputs rounded with one scale that a calibration found." },
	{ FP8_BLOCK, "", "8-bit floats, one scale per 128 x 128 block, inputs rounded in groups of 128: the form of some large releases." },
	{ NVFP4(BL_ACT_NONE), "", "4-bit floats in groups of 16, 8-bit scales in units of one number per linear; inputs stay in 16 bits." },
	{ NVFP4(BL_ACT_FP4_GROUP), "", "4-bit floats in groups of 16, inputs rounded the same way where the card has units for it." },
	{ MXFP4, "", "4-bit floats in groups of 32 with powers of two as scales; inputs stay in 16 bits." },
	{ MXFP8, "", "8-bit floats in groups of 32 with powers of two as scales; inputs stay in 16 bits." },
	{ NF4(1), "", "bitsandbytes: 16 values of a normal distribution, one scale per 64 weights, the scales in 8 bits." },
	{ NF4(0), "", "bitsandbytes: 16 values of a normal distribution, one scale per 64 weights." },
	{ FP4(1), "", "bitsandbytes: 4-bit floats as it has them, one scale per 64 weights, the scales in 8 bits; NF4_DQ is nearer." },
	{ FP4(0), "", "bitsandbytes: 4-bit floats as it has them, one scale per 64 weights; NF4 is nearer." },
	{ LLM_INT8, "", "bitsandbytes: 8-bit integers per channel; the client picks outlying inputs out by itself." },
	{ PRUNED, "", "Full precision with weights that sparsegpt or wanda set to 0; the zeros are stored too, so the file is no smaller." },
};

const struct bl_scheme_row *bl_scheme_rows(int *n)
{
	*n = (int)(sizeof(rows) / sizeof(*rows));
	return rows;
}

bool bl_scheme_equal(const struct bl_scheme *a, const struct bl_scheme *b)
{
	return a->number == b->number && a->bits == b->bits && a->symmetric == b->symmetric && a->strategy == b->strategy &&
	       a->act == b->act && a->group == b->group && a->order == b->order && a->nested == b->nested;
}

float bl_act_input_scale(int act, float absmax)
{
	if (!(absmax > 0))
		return 1;
	if (act == BL_ACT_FP4_GROUP) /* as the library stores it: rounded twice on the way */
		return bl_round_bf16(bl_round_bf16(1 / absmax) * 2688);
	return absmax / (bl_act_is_fp8(act) ? 448.0f : 127.0f);
}

int bl_scheme_qmin(const struct bl_scheme *s) { return -(1 << (s->bits - 1)); }
int bl_scheme_qmax(const struct bl_scheme *s) { return (1 << (s->bits - 1)) - 1; }

int64_t bl_scheme_scales_per_row(const struct bl_scheme *s, int64_t cols)
{
	if (s->number == BL_NUM_FULL)
		return 0;
	return s->group ? cols / s->group : 1;
}

/* The group a bare name stands for: 128, but one scale per channel at 8 bits (W8A16 of the ecosystem). */
static bool is_preset_strategy(const struct bl_scheme *s)
{
	if (s->bits == 8 && s->symmetric)
		return s->strategy == BL_STRATEGY_CHANNEL;
	return s->strategy == BL_STRATEGY_GROUP && s->group == PRESET_GROUP;
}

/* Schemes that are no W<bits>A16. */
struct special { const char *name, *brief; };

static const struct special *special(const struct bl_scheme *s)
{
	static const struct special full = { "BF16", "BF16" }, w8a8 = { "W8A8", "W8A8" }, w8a8_static = { "W8A8_STATIC", "W8A8st" },
				    fp8_dynamic = { "FP8_DYNAMIC", "FP8dyn" }, fp8 = { "FP8", "FP8" }, fp8_channel = { "FP8_channel", "FP8ch" },
				    fp8_block = { "FP8_BLOCK", "FP8blk" }, mxfp4 = { "MXFP4A16", "MXFP4" }, mxfp8 = { "MXFP8A16", "MXFP8A16" }, nvfp4a16 = { "NVFP4A16", "NVFP4A16" },
				    nvfp4 = { "NVFP4", "NVFP4" }, nf4 = { "NF4", "NF4" }, nf4_dq = { "NF4_DQ", "NF4dq" }, fp4 = { "FP4", "FP4" }, fp4_dq = { "FP4_DQ", "FP4dq" }, llm_int8 = { "LLM_INT8", "LLMint8" },
				    pruned = { "BF16_SPARSE", "BF16sp" };

	if (s->number == BL_NUM_FULL)
		return &full;
	if (s->number == BL_NUM_PRUNED)
		return &pruned;
	if (s->number == BL_NUM_INT)
		return s->act == BL_ACT_INT8_TENSOR ? &w8a8_static : &w8a8;
	if (s->number == BL_NUM_E2M1)
		return s->strategy == BL_STRATEGY_GROUP ? &mxfp4 : s->act == BL_ACT_NONE ? &nvfp4a16 : &nvfp4;
	if (s->number == BL_NUM_NF4)
		return s->nested ? &nf4_dq : &nf4;
	if (s->number == BL_NUM_BNB_FP4)
		return s->nested ? &fp4_dq : &fp4;
	if (s->number == BL_NUM_SCB)
		return &llm_int8;
	if (s->strategy == BL_STRATEGY_BLOCK)
		return &fp8_block;
	if (bl_scheme_is_mx8(s))
		return &mxfp8;
	if (s->act == BL_ACT_FP8_TENSOR)
		return s->strategy == BL_STRATEGY_TENSOR ? &fp8 : &fp8_channel;
	return &fp8_dynamic;
}

char *bl_scheme_name(char *dst, const struct bl_scheme *s)
{
	const char *order = s->order ? "_actorder" : "";
	int n;

	if (s->number != BL_NUM_INT || s->act != BL_ACT_NONE) {
		snprintf(dst, BL_SCHEME_NAME_MAX, "%s", special(s)->name);
		return dst;
	}
	n = snprintf(dst, BL_SCHEME_NAME_MAX, "W%uA16%s", s->bits, s->symmetric ? "" : "_ASYM");
	if (is_preset_strategy(s))
		snprintf(dst + n, BL_SCHEME_NAME_MAX - (size_t)n, "%s", order);
	else if (s->strategy == BL_STRATEGY_GROUP)
		snprintf(dst + n, BL_SCHEME_NAME_MAX - (size_t)n, "_g%u%s", s->group, order);
	else
		snprintf(dst + n, BL_SCHEME_NAME_MAX - (size_t)n, "%s", s->strategy == BL_STRATEGY_TENSOR ? "_tensor" : "_channel");
	return dst;
}

char *bl_scheme_short(char *dst, const struct bl_scheme *s)
{
	int n;

	if (s->number != BL_NUM_INT || s->act != BL_ACT_NONE) {
		snprintf(dst, BL_SCHEME_NAME_MAX, "%s", special(s)->brief);
		return dst;
	}
	n = snprintf(dst, BL_SCHEME_NAME_MAX, "W%uA16", s->bits);
	if (s->strategy == BL_STRATEGY_GROUP)
		snprintf(dst + n, BL_SCHEME_NAME_MAX - (size_t)n, "%s%u%s", s->symmetric ? "g" : "as", s->group, s->order ? "act" : "");
	else
		snprintf(dst + n, BL_SCHEME_NAME_MAX - (size_t)n, "%s%s", s->symmetric ? "" : "as",
			 s->strategy == BL_STRATEGY_TENSOR ? "t" : "ch");
	return dst;
}

/* Whole names that the rule W<bits>A16[ASYM][group] does not cover. Compared without separators and case. */
static const struct { const char *text; struct bl_scheme scheme; } names[] = {
	{ "bf16", BL_SCHEME_FULL },        { "full", BL_SCHEME_FULL },      { "unquantized", BL_SCHEME_FULL },
	{ "fp16", BL_SCHEME_FULL },        { "w8a8", W8A8 },                { "int8", W8A8 },
	{ "w8a8int8", W8A8 },              { "fp8dynamic", FP8_DYNAMIC },   { "fp8dyn", FP8_DYNAMIC },
	{ "int4", GROUP(4, PRESET_GROUP) }, { "w8a8static", W8A8_STATIC },  { "w8a8st", W8A8_STATIC },
	{ "fp8", FP8(BL_STRATEGY_TENSOR) }, { "fp8static", FP8(BL_STRATEGY_TENSOR) },
	{ "fp8channel", FP8(BL_STRATEGY_CHANNEL) }, { "fp8ch", FP8(BL_STRATEGY_CHANNEL) },
	{ "fp8block", FP8_BLOCK },         { "fp8blk", FP8_BLOCK },         { "nvfp4", NVFP4(BL_ACT_FP4_GROUP) },
	{ "nvfp4a16", NVFP4(BL_ACT_NONE) }, { "mxfp4a16", MXFP4 },          { "mxfp4", MXFP4 },
	{ "mxfp8a16", MXFP8 },
	{ "nf4", NF4(0) },                 { "nf4dq", NF4(1) },
	{ "fp4", FP4(0) },                 { "fp4dq", FP4(1) },                         { "llmint8", LLM_INT8 },
	{ "llm.int8", LLM_INT8 },          { "bnbint8", LLM_INT8 },      { "bf16sparse", PRUNED },
	{ "bf16sp", PRUNED },
};

/* text without separators and in lower case; false when it does not fit. A minus before a digit stays: -1 is no group. */
static bool squeeze(char *dst, size_t cap, const char *text)
{
	size_t n = 0;

	for (; *text; text++) {
		if (*text == '_' || *text == ' ' || *text == ',' || (*text == '-' && !isdigit((unsigned char)text[1])))
			continue;
		if (n + 1 >= cap)
			return false;
		dst[n++] = (char)tolower((unsigned char)*text);
	}
	dst[n] = '\0';
	return true;
}

static bool eat(const char **p, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(*p, word, n) != 0)
		return false;
	*p += n;
	return true;
}

/* Takes "actorder" or "act" off the end. */
static bool cut_order(char *key)
{
	static const char *const words[] = { "actorder", "act" };
	size_t n = strlen(key);

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		size_t len = strlen(words[i]);

		if (n > len && strcmp(key + n - len, words[i]) == 0) {
			key[n - len] = '\0';
			return true;
		}
	}
	return false;
}

/* w<2..8>a16 [asym|as|sym] [channel|ch | [group|gs|g]<n>] */
static bool parse_weight_only(struct bl_scheme *out, const char *p)
{
	struct bl_scheme s = { .number = BL_NUM_INT, .symmetric = 1 };

	if (!eat(&p, "w") || *p < '2' || *p > '8')
		return false;
	s.bits = (uint8_t)(*p++ - '0');
	if (!eat(&p, "a16"))
		return false;
	if (eat(&p, "asym") || eat(&p, "as"))
		s.symmetric = 0;
	else
		(void)eat(&p, "sym");
	if (!*p) {
		s.strategy = s.bits == 8 && s.symmetric ? BL_STRATEGY_CHANNEL : BL_STRATEGY_GROUP;
		s.group = s.strategy == BL_STRATEGY_GROUP ? PRESET_GROUP : 0;
	} else if (strcmp(p, "channel") == 0 || strcmp(p, "ch") == 0) {
		s.strategy = BL_STRATEGY_CHANNEL;
	} else {
		unsigned group = 0;

		(void)(eat(&p, "group") || eat(&p, "gs") || eat(&p, "g"));
		if (*p < '1' || *p > '9')
			return false;
		for (; isdigit((unsigned char)*p) && group <= UINT16_MAX; p++)
			group = group * 10 + (unsigned)(*p - '0');
		if (*p || group > UINT16_MAX)
			return false;
		s.strategy = BL_STRATEGY_GROUP;
		s.group = (uint16_t)group;
	}
	*out = s;
	return true;
}

static enum bl_status unknown(const char *text, struct bl_err *err)
{
	struct bl_str known = { 0 };
	char name[BL_SCHEME_NAME_MAX];
	int n;
	const struct bl_scheme_row *row = bl_scheme_rows(&n);

	for (int i = 0; i < n; i++) {
		bl_str_add(&known, i ? " " : "");
		bl_str_add(&known, bl_scheme_name(name, &row[i].scheme));
	}
	bl_fail(err, BL_USAGE, "scheme \"%.40s\" is not known; known are %s", text, bl_str_c(&known));
	bl_str_free(&known);
	return BL_USAGE;
}

enum bl_status bl_scheme_parse(struct bl_scheme *out, const char *text, struct bl_err *err)
{
	char key[BL_SCHEME_NAME_MAX];

	if (!squeeze(key, sizeof(key), text))
		return unknown(text, err);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(key, names[i].text) == 0) {
			*out = names[i].scheme;
			return BL_OK;
		}
	}
	if (strcmp(key, "mxfp8") == 0)
		return bl_fail(err, BL_UNSUPPORTED, "scheme \"%.40s\": inputs in groups of 32 with powers of two as scales are not known here; MXFP8A16 leaves them in 16 bits, "
			       "FP8_BLOCK and FP8_DYNAMIC round them in another way", text);
	struct bl_scheme s;
	bool order = cut_order(key);

	if (!parse_weight_only(&s, key) || (order && s.strategy != BL_STRATEGY_GROUP))
		return unknown(text, err);
	s.order = order;
	*out = s;
	return BL_OK;
}
