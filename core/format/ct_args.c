/* SPDX-License-Identifier: Apache-2.0
 * QuantizationArgs of compressed-tensors, as its own model checks them: keys it does not know and values of another kind are refused there, with them the whole
 * checkpoint, so that nothing of the kind may pass for readable here. */
#include "core/format/ct_args.h"

#include <string.h>
#include <strings.h>

#include "core/base/str.h"

enum bl_status bl_ct_known_keys(const cJSON *o, const char *const *keys, const char *where, struct bl_err *err)
{
	for (const cJSON *e = o->child; e; e = e->next) {
		char name[64];
		int k = 0;

		while (keys[k] && strcmp(keys[k], e->string))
			k++;
		if (!keys[k])
			return bl_fail(err, BL_INVALID, "%s: %s: clients refuse a key that they do not know: remove it", where, bl_printable(name, sizeof name, e->string));
	}
	return BL_OK;
}

/* Which of the words it is, as the client compares them: any case. -1: none, or not there; an error where there is another. */
static enum bl_status word(const cJSON *o, const char *key, const char *const *words, int *out, const char *where, struct bl_err *err)
{
	const char *text = NULL;

	*out = -1;
	if (bl_json_str(o, key, 20, false, &text, where, err) || !text)
		return err->status;
	for (int i = 0; words[i]; i++)
		if (!strcasecmp(words[i], text))
			*out = i;
	return *out < 0 ? bl_fail(err, BL_INVALID, "%s: %s: \"%s\" is not known to clients", where, key, text) : BL_OK;
}

static enum bl_status read_block(struct bl_ct_args *a, const cJSON *o, const char *where, struct bl_err *err)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, "block_structure"), *e;

	if (!v || cJSON_IsNull(v))
		return BL_OK;
	if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 2)
		return bl_fail(err, BL_INVALID, "%s: block_structure: must be two sizes", where);
	e = v->child;
	for (int i = 0; i < 2; i++, e = e->next) {
		if (!cJSON_IsNumber(e) || !(e->valuedouble >= 1 && e->valuedouble <= 1 << 20) || e->valuedouble != (double)(int64_t)e->valuedouble)
			return bl_fail(err, BL_INVALID, "%s: block_structure[%d]: must be an integer in 1 .. %d", where, i, 1 << 20);
		a->block[i] = (int64_t)e->valuedouble;
	}
	return BL_OK;
}

static enum bl_status read_dynamic(struct bl_ct_args *a, const cJSON *o, const char *where, struct bl_err *err)
{
	static const char *const words[] = {"local", NULL};
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, "dynamic");
	int k;

	if (!cJSON_IsString(v))
		return bl_json_bool(o, "dynamic", false, &a->dynamic, where, err);
	a->dynamic = a->local = true;
	return word(o, "dynamic", words, &k, where, err);
}

static enum bl_status read_order(struct bl_ct_args *a, const cJSON *o, const char *where, struct bl_err *err)
{
	static const char *const words[] = {"group", "dynamic", "weight", "static", NULL};
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, "actorder");
	int k;

	if (cJSON_IsBool(v)) {
		a->ordered = a->by_index = cJSON_IsTrue(v);
		return BL_OK;
	}
	if (word(o, "actorder", words, &k, where, err))
		return err->status;
	a->ordered = k >= 0;
	a->by_index = k == 0 || k == 1;
	return BL_OK;
}

/* What says nothing about the numbers, and is checked by clients all the same. */
static enum bl_status check_rest(const cJSON *o, const char *where, struct bl_err *err)
{
	static const char *const never_null[] = {"num_bits", "type", "symmetric", "dynamic", "observer_kwargs"}, *const types[] = {"scale_dtype", "zp_dtype"},
				*const begins[] = {"float", "bfloat", "int", "uint", "half", "double"};
	const cJSON *kwargs = cJSON_GetObjectItemCaseSensitive(o, "observer_kwargs");
	const char *text = NULL;

	for (size_t i = 0; i < sizeof never_null / sizeof *never_null; i++)
		if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(o, never_null[i])))
			return bl_fail(err, BL_INVALID, "%s: %s: must not be null", where, never_null[i]);
	if (kwargs && !cJSON_IsObject(kwargs))
		return bl_fail(err, BL_INVALID, "%s: observer_kwargs: must be an object", where);
	for (size_t i = 0; i < 2; i++) {
		bool number = false;

		if (bl_json_str(o, types[i], 40, false, &text, where, err))
			return err->status;
		if (bl_json_is_null_or_missing(o, types[i]))
			continue;
		const char *name = bl_starts_with(text, "torch.") ? text + 6 : text;
		for (size_t k = 0; k < sizeof begins / sizeof *begins; k++)
			number |= bl_starts_with(name, begins[k]);
		if (!number)
			return bl_fail(err, BL_INVALID, "%s: %s: \"%s\" is not a type of numbers", where, types[i], text);
	}
	return bl_json_str(o, "observer", 200, false, &text, where, err);
}

/* What has to go together. */
static enum bl_status check_whole(const struct bl_ct_args *a, const cJSON *o, const char *where, struct bl_err *err)
{
	const bool grouped = a->strategy == BL_CT_GROUP || a->strategy == BL_CT_TENSOR_GROUP, block = a->strategy == BL_CT_BLOCK;

	if (grouped && a->group < 1)
		return bl_fail(err, BL_INVALID, "%s: group_size: strategy %s needs it to be at least 1", where, bl_ct_strategy_name(a->strategy));
	if (!grouped && a->group > 0)
		return bl_fail(err, BL_INVALID, "%s: group_size: strategy %s has no groups, %lld is said", where, bl_ct_strategy_name(a->strategy), (long long)a->group);
	if (block != (a->block[0] > 0))
		return bl_fail(err, BL_INVALID, "%s: block_structure: %s", where, block ? "strategy block needs two sizes" : "only strategy block has one");
	if (a->ordered && a->strategy != BL_CT_GROUP)
		return bl_fail(err, BL_INVALID, "%s: actorder: only strategy group has an order of columns", where);
	if (a->strategy == BL_CT_TOKEN && !a->dynamic)
		return bl_fail(err, BL_INVALID, "%s: dynamic: scales for each token are found at run time, it must be true", where);
	if (a->dynamic && (block || a->strategy == BL_CT_CHANNEL || a->strategy == BL_CT_ATTN_HEAD))
		return bl_fail(err, BL_INVALID, "%s: dynamic: not with strategy %s", where, bl_ct_strategy_name(a->strategy));
	if (a->local && a->strategy != BL_CT_TENSOR_GROUP)
		return bl_fail(err, BL_INVALID, "%s: dynamic: local goes with strategy tensor_group alone", where);
	if (a->is_float && a->bits != 8 && (a->bits != 4) && bl_json_is_null_or_missing(o, "zp_dtype"))
		return bl_fail(err, BL_UNSUPPORTED, "%s: num_bits: floats of %d bits are not read by clients (4 and 8 are)", where, a->bits);
	return BL_OK;
}

static const char *const strategies[] = {"tensor", "channel", "group", "block", "tensor_group", "token", "attn_head", NULL};

const char *bl_ct_strategy_name(enum bl_ct_strategy s)
{
	return strategies[s];
}

enum bl_status bl_ct_args_parse(struct bl_ct_args *a, const cJSON *o, const char *where, struct bl_err *err)
{
	static const char *const keys[] = {"num_bits", "type", "symmetric", "group_size", "strategy", "block_structure", "dynamic", "actorder", "scale_dtype", "zp_dtype",
					   "observer", "observer_kwargs", NULL}, *const types[] = {"int", "float", NULL};
	int64_t bits = 8;
	int type, strategy;

	*a = (struct bl_ct_args){.symmetric = true};
	if (!cJSON_IsObject(o))
		return bl_fail(err, BL_INVALID, "%s: must be an object", where);
	if (bl_ct_known_keys(o, keys, where, err) || check_rest(o, where, err) || bl_json_int(o, "num_bits", 1, 16, false, &bits, where, err) ||
	    word(o, "type", types, &type, where, err) || word(o, "strategy", strategies, &strategy, where, err) ||
	    bl_json_int(o, "group_size", -1, 1 << 20, false, &a->group, where, err) || bl_json_bool(o, "symmetric", false, &a->symmetric, where, err) ||
	    read_block(a, o, where, err) || read_dynamic(a, o, where, err) || read_order(a, o, where, err))
		return err->status;
	a->bits = (int)bits;
	a->is_float = type == 1;
	if (strategy < 0 && !a->group && !bl_json_is_null_or_missing(o, "group_size"))
		return bl_fail(err, BL_INVALID, "%s: group_size: 0 says nothing without a strategy", where);
	a->strategy = strategy >= 0 ? (enum bl_ct_strategy)strategy : a->group > 0 ? BL_CT_GROUP : a->group < 0 ? BL_CT_CHANNEL : BL_CT_TENSOR;
	return check_whole(a, o, where, err);
}
