/* SPDX-License-Identifier: Apache-2.0
 * Reading quantization_config. */
#include "core/format/ct_config.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/format/private.h"

#define GROUPS_MAX 1000

static const char where[] = "config.json: quantization_config";

static bool name_matches(const char *target, const char *name)
{
	return bl_starts_with(target, "re:") ? bl_pattern_at_start(target + 3, name) : !strcmp(target, name);
}

/* ---- parsing ---- */

static enum bl_status string_list(const cJSON *v, const char *key, struct bl_err *err)
{
	if (!cJSON_IsArray(v))
		return bl_fail(err, BL_INVALID, "%s: %s: must be a list of names", where, key);
	for (const cJSON *t = v->child; t; t = t->next)
		if (!cJSON_IsString(t) || strlen(t->valuestring) > 1024)
			return bl_fail(err, BL_INVALID, "%s: %s: must hold names", where, key);
	return BL_OK;
}

/* How to name a part of a group in sentences. */
static const char *part_of(char *buf, size_t n, const struct bl_ct_scheme *s, const char *part)
{
	snprintf(buf, n, "%s: config_groups: %s: %s", where, s->name, part);
	return buf;
}

static enum bl_status parse_weights(struct bl_ct_scheme *s, const cJSON *w, struct bl_err *err)
{
	char label[160];
	struct bl_ct_args a;

	if (bl_ct_args_parse(&a, w, part_of(label, sizeof label, s, "weights"), err))
		return err->status;
	if (a.dynamic || a.strategy == BL_CT_TOKEN || a.strategy == BL_CT_ATTN_HEAD)
		return bl_fail(err, BL_UNSUPPORTED, "%s: %s: not how weights in a file are quantized", label, a.dynamic ? "dynamic" : bl_ct_strategy_name(a.strategy));
	s->bits = a.bits;
	s->is_float = a.is_float;
	s->symmetric = a.symmetric;
	s->strategy = a.strategy;
	s->group = a.strategy == BL_CT_GROUP || a.strategy == BL_CT_TENSOR_GROUP ? a.group : 0;
	s->actorder_group = a.by_index;
	memcpy(s->block, a.block, sizeof s->block);
	return BL_OK;
}

static enum bl_status parse_activations(struct bl_ct_scheme *s, const cJSON *o, struct bl_err *err)
{
	char label[160];
	struct bl_ct_args a;

	if (!o || cJSON_IsNull(o))
		return BL_OK;
	if (bl_ct_args_parse(&a, o, part_of(label, sizeof label, s, "input_activations"), err))
		return err->status;
	if (a.ordered || a.strategy == BL_CT_CHANNEL || a.strategy == BL_CT_BLOCK)
		return bl_fail(err, BL_INVALID, "%s: %s: not of inputs", label, a.ordered ? "actorder" : bl_ct_strategy_name(a.strategy));
	s->has_act = true;
	s->act_dynamic = a.dynamic;
	s->act_symmetric = a.symmetric;
	s->act_group = a.group > 0 ? a.group : 0;
	s->act_bits = a.bits;
	s->act_float = a.is_float;
	s->act_tensor = a.strategy == BL_CT_TENSOR;
	return BL_OK;
}

/* Outputs that are rounded would have to be rounded here, too. */
static enum bl_status parse_outputs(const struct bl_ct_scheme *s, const cJSON *o, struct bl_err *err)
{
	char label[160];
	struct bl_ct_args a;

	if (!o || cJSON_IsNull(o))
		return BL_OK;
	if (bl_ct_args_parse(&a, o, part_of(label, sizeof label, s, "output_activations"), err))
		return err->status;
	return bl_fail(err, BL_UNSUPPORTED, "%s: outputs that are rounded are not supported (null is)", label);
}

static enum bl_status parse_group(struct bl_ct_config *c, const cJSON *g, struct bl_err *err)
{
	static const char *const keys[] = {"targets", "weights", "input_activations", "output_activations", "format", NULL};
	struct bl_ct_scheme *s = &c->groups[c->n_groups];
	const char *format = c->format;

	bl_printable(s->name, sizeof s->name, g->string);
	if (!cJSON_IsObject(g))
		return bl_fail(err, BL_INVALID, "%s: config_groups.%s: must be an object", where, s->name);
	s->targets = cJSON_GetObjectItemCaseSensitive(g, "targets");
	if (bl_ct_known_keys(g, keys, where, err) || string_list(s->targets, "targets", err) || bl_json_str(g, "format", sizeof s->format - 1, false, &format, where, err) ||
	    parse_weights(s, cJSON_GetObjectItemCaseSensitive(g, "weights"), err) ||
	    parse_activations(s, cJSON_GetObjectItemCaseSensitive(g, "input_activations"), err) ||
	    parse_outputs(s, cJSON_GetObjectItemCaseSensitive(g, "output_activations"), err))
		return err->status;
	snprintf(s->format, sizeof s->format, "%s", format);
	c->n_groups++;
	return BL_OK;
}

/* What stands beside the groups: sparse storage, transforms at run time, the key-value cache. */
static enum bl_status check_beside(const cJSON *o, struct bl_err *err)
{
	const cJSON *sparse = cJSON_GetObjectItemCaseSensitive(o, "sparsity_config"), *turn = cJSON_GetObjectItemCaseSensitive(o, "transform_config"),
		    *cache = cJSON_GetObjectItemCaseSensitive(o, "kv_cache_scheme");
	const char *format = NULL;
	struct bl_ct_args a;
	double ratio;

	if (bl_json_num(o, "global_compression_ratio", -1e300, 1e300, false, &ratio, where, err))
		return err->status;
	if (sparse && !cJSON_IsNull(sparse) && !cJSON_IsObject(sparse))
		return bl_fail(err, BL_INVALID, "%s: sparsity_config: must be an object or null", where);
	if (cJSON_IsObject(sparse) && sparse->child) {
		if (bl_json_str(sparse, "format", 60, true, &format, "config.json: quantization_config: sparsity_config", err))
			return err->status;
		if (strcmp(format, "dense"))
			return bl_fail(err, BL_UNSUPPORTED, "%s: sparsity_config: format: weights stored as %s are not read here (dense is)", where, format);
	}
	if (turn && !cJSON_IsNull(turn) && !cJSON_IsObject(turn))
		return bl_fail(err, BL_INVALID, "%s: transform_config: must be an object or null", where);
	if (cJSON_IsObject(turn) && turn->child) {
		const cJSON *groups = cJSON_GetObjectItemCaseSensitive(turn, "config_groups");

		if (!cJSON_IsObject(groups) || groups->child)
			return bl_fail(err, BL_UNSUPPORTED, "%s: transform_config: transforms at run time are not supported ({} is)", where);
	}
	return cache && !cJSON_IsNull(cache) ? bl_ct_args_parse(&a, cache, "config.json: quantization_config: kv_cache_scheme", err) : BL_OK;
}

static enum bl_status check_status(const char *status, struct bl_err *err)
{
	static const char *const known[] = {"", "initialized", "calibration", "frozen", "compressed"};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(known[i], status))
			return BL_OK;
	return bl_fail(err, BL_INVALID, "%s: quantization_status: \"%s\" is not known to clients (compressed is what a file is)", where, status);
}

enum bl_status bl_ct_config_parse(struct bl_ct_config *c, const cJSON *o, struct bl_err *err)
{
	const cJSON *groups = cJSON_GetObjectItemCaseSensitive(o, "config_groups"), *ignore = cJSON_GetObjectItemCaseSensitive(o, "ignore");
	const char *format = "", *status = "";
	int n = cJSON_GetArraySize(groups);

	memset(c, 0, sizeof *c);
	if (!cJSON_IsObject(groups) || n > GROUPS_MAX)
		return bl_fail(err, BL_INVALID, "%s: config_groups: must be an object of at most %d groups", where, GROUPS_MAX);
	if (bl_json_str(o, "format", sizeof c->format - 1, false, &format, where, err) || bl_json_str(o, "quantization_status", 40, false, &status, where, err) ||
	    (ignore && !cJSON_IsNull(ignore) && string_list(ignore, "ignore", err)) || check_beside(o, err) || check_status(status, err))
		return err->status;
	snprintf(c->format, sizeof c->format, "%s", format);
	c->compressed = !strcmp(status, "compressed");
	c->ignore = cJSON_IsArray(ignore) ? ignore : NULL;
	c->groups = bl_xalloc((size_t)n + 1, sizeof *c->groups);
	for (const cJSON *g = groups->child; g; g = g->next)
		if (parse_group(c, g, err)) {
			bl_ct_config_fini(c);
			return err->status;
		}
	return BL_OK;
}

void bl_ct_config_fini(struct bl_ct_config *c)
{
	bl_free(c->groups);
	memset(c, 0, sizeof *c);
}

/* ---- resolving ---- */

static bool ignored(const struct bl_ct_config *c, const char *name, bool classes)
{
	for (const cJSON *t = c->ignore ? c->ignore->child : NULL; t; t = t->next)
		if (name_matches(t->valuestring, name) || (classes && !strcmp(t->valuestring, "Linear")))
			return true;
	return false;
}

int bl_ct_resolve(const struct bl_ct_config *c, const char *module)
{
	int best = -1, best_rank = 3;
	const char *best_target = NULL;

	if (ignored(c, module, true))
		return -1;
	for (int g = c->n_groups - 1; g >= 0; g--)
		for (const cJSON *t = c->groups[g].targets->child; t; t = t->next) {
			const char *s = t->valuestring;
			int rank = !strcmp(s, module) ? 0 : bl_starts_with(s, "re:") && bl_pattern_at_start(s + 3, module) ? 1 : !strcmp(s, "Linear") ? 2 : 3;
			if (rank < best_rank || (rank == best_rank && rank < 3 && strcmp(s, best_target) < 0)) {
				best = g;
				best_rank = rank;
				best_target = s;
			}
		}
	return best;
}

/* First target in JSON order that matches the name; -1: none. */
static int first_match(const struct bl_ct_config *c, const char *name)
{
	for (int g = 0; g < c->n_groups; g++)
		for (const cJSON *t = c->groups[g].targets->child; t; t = t->next)
			if (name_matches(t->valuestring, name))
				return g;
	return -1;
}

static int class_match(const struct bl_ct_config *c, const struct bl_unit *u)
{
	static const char *const classes[BL_UNIT_KIND_COUNT] = {"QKVParallelLinear", "RowParallelLinear", "MergedColumnParallelLinear", "RowParallelLinear"};

	for (int g = 0; g < c->n_groups; g++)
		for (const cJSON *t = c->groups[g].targets->child; t; t = t->next)
			if (*t->valuestring && strcasestr(classes[u->kind], t->valuestring))
				return g;
	return -1;
}

int bl_ct_resolve_vllm(const struct bl_ct_config *c, const struct bl_unit *u, char why[300])
{
	int n_ignored = 0, g;

	for (int j = 0; j < u->n_members; j++)
		n_ignored += ignored(c, u->members[j].name, false);
	if (ignored(c, u->name, false) || n_ignored == u->n_members)
		return -1;
	if (n_ignored) {
		snprintf(why, 300, "Found a different quantization schemes for the parts of %s. vLLM requires all to use the same scheme.", u->name);
		return -2;
	}
	if ((g = first_match(c, u->name)) >= 0 || (g = class_match(c, u)) >= 0)
		return g;
	for (int j = 0; j < u->n_members; j++)
		if (first_match(c, u->members[j].name) < 0) {
			snprintf(why, 300, "Unable to find matching target for %s in the compressed-tensors config.", u->name);
			return -2;
		}
	return first_match(c, u->members[0].name);
}

/* Groups of inputs: what goes with 8-bit blocks and with FP4. */
static bool grouped_act(const struct bl_ct_scheme *s, struct bl_scheme *r)
{
	const bool fp8 = s->strategy == BL_CT_BLOCK;

	if (!s->act_float || !s->act_dynamic || !s->act_symmetric || s->act_bits != (fp8 ? 8 : 4) || s->act_group != r->group)
		return false;
	r->act = fp8 ? BL_ACT_FP8_GROUP : BL_ACT_FP4_GROUP;
	return true;
}

/* 4-bit floats and blocks of 8-bit ones. */
static bool float_scheme(const struct bl_ct_scheme *s, struct bl_scheme *r)
{
	const bool block = s->strategy == BL_CT_BLOCK, nv = s->strategy == BL_CT_TENSOR_GROUP;

	if (!s->symmetric || s->actorder_group)
		return false;
	if (block) {
		if (s->bits != 8 || s->block[0] != 128 || s->block[1] != 128 || !s->has_act)
			return false;
		*r = (struct bl_scheme){.number = BL_NUM_FLOAT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_BLOCK, .group = 128};
		return grouped_act(s, r);
	}
	if (s->bits == 8) { /* MX */
		*r = (struct bl_scheme){.number = BL_NUM_FLOAT, .bits = 8, .symmetric = 1, .strategy = BL_STRATEGY_GROUP, .group = 32};
		return s->strategy == BL_CT_GROUP && s->group == 32 && !s->has_act && !strcmp(s->format, "mxfp8-quantized");
	}
	if (s->bits != 4 || strcmp(s->format, nv ? "nvfp4-pack-quantized" : "mxfp4-pack-quantized") || s->group != (nv ? 16 : 32) || (!nv && s->strategy != BL_CT_GROUP))
		return false;
	*r = (struct bl_scheme){.number = BL_NUM_E2M1, .bits = 4, .symmetric = 1, .strategy = nv ? BL_STRATEGY_TENSOR_GROUP : BL_STRATEGY_GROUP, .group = nv ? 16 : 32};
	return !s->has_act || (nv && grouped_act(s, r));
}

bool bl_ct_as_scheme(const struct bl_ct_scheme *s, struct bl_scheme *out)
{
	struct bl_scheme r = {.bits = (uint8_t)s->bits, .symmetric = s->symmetric, .order = s->actorder_group && s->strategy == BL_CT_GROUP};

	if (s->is_float && (s->bits == 4 || s->strategy == BL_CT_BLOCK || !strcmp(s->format, "mxfp8-quantized")))
		return float_scheme(s, out);
	if (s->strategy != BL_CT_CHANNEL && s->strategy != BL_CT_GROUP && !(s->strategy == BL_CT_TENSOR && s->is_float && s->has_act && !s->act_dynamic))
		return false;
	if (s->group > 65535 || (s->has_act && (s->act_bits != 8 || !s->act_symmetric || s->act_tensor == s->act_dynamic || s->act_group)))
		return false;
	r.number = s->is_float ? BL_NUM_FLOAT : BL_NUM_INT;
	r.strategy = s->strategy == BL_CT_GROUP ? BL_STRATEGY_GROUP : s->strategy == BL_CT_TENSOR ? BL_STRATEGY_TENSOR : BL_STRATEGY_CHANNEL;
	r.group = (uint16_t)s->group;
	if (s->has_act && s->act_dynamic)
		r.act = s->act_float ? BL_ACT_FP8_TOKEN : BL_ACT_INT8_TOKEN;
	else if (s->has_act)
		r.act = s->act_float ? BL_ACT_FP8_TENSOR : BL_ACT_INT8_TENSOR;
	if (r.order && (s->is_float || s->has_act))
		return false;
	if (s->is_float ? s->bits != 8 || !bl_act_is_fp8(r.act) || s->strategy == BL_CT_GROUP : s->bits < 2 || s->bits > 8 || bl_act_is_fp8(r.act))
		return false;
	*out = r;
	return true;
}
