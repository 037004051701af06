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

static enum bl_status parse_weights(struct bl_ct_scheme *s, const cJSON *w, struct bl_err *err)
{
	static const char *const names[] = {"tensor", "channel", "group", "block", "tensor_group"};
	const char *type = "int", *strategy = NULL;
	int64_t bits = 8, group = 0;
	const cJSON *order = cJSON_GetObjectItemCaseSensitive(w, "actorder"), *block = cJSON_GetObjectItemCaseSensitive(w, "block_structure");

	s->symmetric = true;
	if (!cJSON_IsObject(w))
		return bl_fail(err, BL_INVALID, "%s: %s: weights: must be an object", where, s->name);
	if (bl_json_int(w, "num_bits", 1, 16, false, &bits, where, err) || bl_json_str(w, "type", 16, false, &type, where, err) ||
	    bl_json_str(w, "strategy", 20, false, &strategy, where, err) || bl_json_int(w, "group_size", -1, 1 << 20, false, &group, where, err) ||
	    bl_json_bool(w, "symmetric", false, &s->symmetric, where, err))
		return err->status;
	s->bits = (int)bits;
	s->is_float = !strcmp(type, "float");
	if (!strategy)
		strategy = group > 0 ? "group" : group < 0 ? "channel" : "tensor";
	int k = 0;
	while (k < 5 && strcmp(names[k], strategy))
		k++;
	if (k == 5)
		return bl_fail(err, BL_UNSUPPORTED, "%s: %s: weights: strategy %s is not known", where, s->name, strategy);
	s->strategy = (enum bl_ct_strategy)k;
	s->group = s->strategy == BL_CT_GROUP || s->strategy == BL_CT_TENSOR_GROUP ? group : 0;
	if ((s->strategy == BL_CT_GROUP || s->strategy == BL_CT_TENSOR_GROUP) && group < 1)
		return bl_fail(err, BL_INVALID, "%s: %s: weights: strategy %s needs a group_size", where, s->name, strategy);
	s->actorder_group = cJSON_IsTrue(order) || (cJSON_IsString(order) && (!strcmp(order->valuestring, "group") || !strcmp(order->valuestring, "dynamic")));
	if (s->strategy == BL_CT_BLOCK) {
		if (!cJSON_IsArray(block) || cJSON_GetArraySize(block) != 2 || !cJSON_IsNumber(block->child) || !cJSON_IsNumber(block->child->next) ||
		    block->child->valuedouble < 1 || block->child->next->valuedouble < 1 || block->child->valuedouble > 1 << 20 ||
		    block->child->next->valuedouble > 1 << 20)
			return bl_fail(err, BL_INVALID, "%s: %s: weights: block_structure must be two sizes", where, s->name);
		s->block[0] = (int64_t)block->child->valuedouble;
		s->block[1] = (int64_t)block->child->next->valuedouble;
	}
	return BL_OK;
}

static enum bl_status parse_activations(struct bl_ct_scheme *s, const cJSON *a, struct bl_err *err)
{
	const char *type = "int", *strategy = NULL;
	int64_t bits = 8, group = 0;
	const cJSON *dynamic = cJSON_GetObjectItemCaseSensitive(a, "dynamic");

	if (!a || cJSON_IsNull(a))
		return BL_OK;
	if (!cJSON_IsObject(a))
		return bl_fail(err, BL_INVALID, "%s: %s: input_activations: must be an object or null", where, s->name);
	s->has_act = s->act_symmetric = true;
	s->act_dynamic = cJSON_IsTrue(dynamic) || cJSON_IsString(dynamic);
	if (bl_json_int(a, "num_bits", 1, 16, false, &bits, where, err) || bl_json_str(a, "type", 16, false, &type, where, err) ||
	    bl_json_bool(a, "symmetric", false, &s->act_symmetric, where, err) || bl_json_str(a, "strategy", 20, false, &strategy, where, err) ||
	    bl_json_int(a, "group_size", -1, 65535, false, &group, where, err))
		return err->status;
	s->act_group = group > 0 ? group : 0;
	s->act_bits = (int)bits;
	s->act_float = !strcmp(type, "float");
	s->act_tensor = strategy ? !strcmp(strategy, "tensor") : !s->act_dynamic;
	return BL_OK;
}

static enum bl_status parse_group(struct bl_ct_config *c, const cJSON *g, struct bl_err *err)
{
	struct bl_ct_scheme *s = &c->groups[c->n_groups];
	const char *format = c->format;

	bl_printable(s->name, sizeof s->name, g->string);
	if (!cJSON_IsObject(g))
		return bl_fail(err, BL_INVALID, "%s: config_groups.%s: must be an object", where, s->name);
	s->targets = cJSON_GetObjectItemCaseSensitive(g, "targets");
	if (string_list(s->targets, "targets", err) || bl_json_str(g, "format", sizeof s->format - 1, false, &format, where, err) ||
	    parse_weights(s, cJSON_GetObjectItemCaseSensitive(g, "weights"), err) ||
	    parse_activations(s, cJSON_GetObjectItemCaseSensitive(g, "input_activations"), err))
		return err->status;
	snprintf(s->format, sizeof s->format, "%s", format);
	c->n_groups++;
	return BL_OK;
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
	    (ignore && !cJSON_IsNull(ignore) && string_list(ignore, "ignore", err)))
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
