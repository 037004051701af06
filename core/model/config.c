/* SPDX-License-Identifier: Apache-2.0
 * config.json: the numbers of a decoder, in the spelling of transformers 4.57 or 5.x. */
#include "core/model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/model/arch.h"

#define CONFIG_VALUES_MAX 200000

static const struct bl_arch unknown_family = {.missing = {.rms_eps = 1e-6, .max_positions = 2048}};

struct reader { const cJSON *root; const char *label; struct bl_err *err; const struct bl_arch *family; };

/* Absent, not null: the library's default applies to the one, "none" is meant by the other. */
static bool absent(const struct reader *r, const char *key)
{
	return !cJSON_GetObjectItemCaseSensitive(r->root, key);
}

static enum bl_status size_field(const struct reader *r, const char *key, int64_t max, bool required, int64_t *out)
{
	return bl_json_int(r->root, key, 1, max, required, out, r->label, r->err);
}

static enum bl_status text_field(const struct reader *r, const char *key, bool required, char *dst, size_t cap)
{
	const char *s = NULL;

	if (bl_json_str(r->root, key, cap - 1, required, &s, r->label, r->err))
		return r->err->status;
	if (s)
		snprintf(dst, cap, "%s", s);
	return BL_OK;
}

/* Clients look it up among their types; an export carries it on. */
static enum bl_status check_dtype(const struct bl_config *c, const struct reader *r)
{
	static const char *const known[] = {"bfloat16", "float16", "float32", "float64", "half", "float", "double", "auto"};
	const char *name = bl_starts_with(c->dtype, "torch.") ? c->dtype + 6 : c->dtype;

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(known[i], name))
			return BL_OK;
	return bl_fail(r->err, BL_INVALID, "%s: dtype: \"%s\" is no type of weights (bfloat16, float16, float32 are)", r->label, c->dtype);
}

static enum bl_status read_identity(struct bl_config *c, const struct reader *r)
{
	const cJSON *a = cJSON_GetObjectItemCaseSensitive(r->root, "architectures");

	if (text_field(r, "model_type", true, c->model_type, sizeof c->model_type))
		return r->err->status;
	if (a && !cJSON_IsNull(a)) {
		if (!cJSON_IsArray(a) || !cJSON_IsString(a->child) || strlen(a->child->valuestring) >= sizeof c->architecture)
			return bl_fail(r->err, BL_INVALID, "%s: architectures: must be a list with one name", r->label);
		snprintf(c->architecture, sizeof c->architecture, "%s", a->child->valuestring);
	}
	const cJSON *q = cJSON_GetObjectItemCaseSensitive(r->root, "quantization_config");
	if (q && !cJSON_IsNull(q)) {
		const char *method = NULL;
		if (!cJSON_IsObject(q))
			return bl_fail(r->err, BL_INVALID, "%s: quantization_config: must be an object", r->label);
		if (bl_json_str(q, "quant_method", sizeof c->quant_method - 1, false, &method, r->label, r->err))
			return r->err->status;
		c->quantized = true;
		snprintf(c->quant_method, sizeof c->quant_method, "%s", method ? method : "unknown");
	}
	/* both libraries let a rope_scaling that is not null win */
	c->v5_spelling = !bl_json_is_null_or_missing(r->root, "rope_parameters") && bl_json_is_null_or_missing(r->root, "rope_scaling");
	snprintf(c->dtype, sizeof c->dtype, "float32");
	if (text_field(r, "torch_dtype", false, c->dtype, sizeof c->dtype) || text_field(r, "dtype", false, c->dtype, sizeof c->dtype))
		return r->err->status;
	return check_dtype(c, r);
}

static enum bl_status read_sizes(struct bl_config *c, const struct reader *r)
{
	if (size_field(r, "num_hidden_layers", BL_LAYERS_MAX, true, &c->layers) || size_field(r, "hidden_size", 1 << 20, true, &c->hidden) ||
	    size_field(r, "intermediate_size", 1 << 22, true, &c->ffn) || size_field(r, "num_attention_heads", 1 << 14, true, &c->heads) ||
	    size_field(r, "vocab_size", 1 << 26, true, &c->vocab))
		return r->err->status;
	const struct bl_arch_missing *d = &r->family->missing;
	c->kv_heads = absent(r, "num_key_value_heads") && d->kv_heads ? d->kv_heads : c->heads;
	c->head_dim = absent(r, "head_dim") && d->head_dim ? d->head_dim : c->hidden / c->heads;
	c->max_positions = d->max_positions;
	if (size_field(r, "num_key_value_heads", 1 << 14, false, &c->kv_heads) || size_field(r, "head_dim", 1 << 16, false, &c->head_dim) ||
	    size_field(r, "max_position_embeddings", (int64_t)1 << 40, false, &c->max_positions))
		return r->err->status;
	if (c->heads % c->kv_heads)
		return bl_fail(r->err, BL_INVALID, "%s: num_key_value_heads: %lld%s does not divide num_attention_heads %lld", r->label,
			       (long long)c->kv_heads, absent(r, "num_key_value_heads") ? " (the default, it is missing)" : "",
			       (long long)c->heads);
	if (c->head_dim < 1)
		return bl_fail(r->err, BL_INVALID, "%s: head_dim: missing, and hidden_size %lld / num_attention_heads %lld is not one", r->label,
			       (long long)c->hidden, (long long)c->heads);
	c->rms_eps = d->rms_eps;
	c->tied = d->tied;
	if (bl_json_num(r->root, "rms_norm_eps", 0, 1, false, &c->rms_eps, r->label, r->err) ||
	    bl_json_bool(r->root, "tie_word_embeddings", false, &c->tied, r->label, r->err) ||
	    bl_json_bool(r->root, "attention_bias", false, &c->attention_bias, r->label, r->err) ||
	    bl_json_bool(r->root, "mlp_bias", false, &c->mlp_bias, r->label, r->err))
		return r->err->status;
	c->attention_bias = c->attention_bias && r->family->reads_attention_bias;
	c->mlp_bias = c->mlp_bias && r->family->reads_mlp_bias;
	snprintf(c->activation, sizeof c->activation, r->family->gelu ? "gelu_pytorch_tanh" : "silu");
	c->bos = c->pad = -1;
	if (text_field(r, r->family->gelu ? "hidden_activation" : "hidden_act", false, c->activation, sizeof c->activation) ||
	    bl_json_int(r->root, "bos_token_id", 0, c->vocab, false, &c->bos, r->label, r->err) ||
	    bl_json_int(r->root, "pad_token_id", -1, c->vocab, false, &c->pad, r->label, r->err))
		return r->err->status;
	return BL_OK;
}

/* A number that is missing, or null for none. */
static enum bl_status optional(const struct reader *r, const char *key, double missing, double *out)
{
	*out = absent(r, key) ? missing : 0;
	return bl_json_num(r->root, key, 1e-6, 1e9, false, out, r->label, r->err);
}

static enum bl_status read_caps(struct bl_config *c, const struct reader *r)
{
	const struct bl_arch_missing *d = &r->family->missing;

	if (!d->attn_scalar) /* these keys mean nothing here */
		return BL_OK;
	if (optional(r, "query_pre_attn_scalar", d->attn_scalar, &c->attn_scalar) || optional(r, "attn_logit_softcapping", d->attn_cap, &c->attn_cap))
		return r->err->status;
	return optional(r, "final_logit_softcapping", d->final_cap, &c->final_cap);
}

static enum bl_status read_rope_object(struct bl_rope *rope, const struct reader *r, const char *key, const cJSON *o)
{
	const char *type = NULL;

	if (!cJSON_IsObject(o))
		return bl_fail(r->err, BL_INVALID, "%s: %s: must be an object or null", r->label, key);
	if (bl_json_str(o, "rope_type", 40, false, &type, r->label, r->err) || (!type && bl_json_str(o, "type", 40, false, &type, r->label, r->err)))
		return r->err->status;
	if (!type || !strcmp(type, "default"))
		return BL_OK;
	if (strcmp(type, "linear") && strcmp(type, "llama3"))
		return bl_fail(r->err, BL_UNSUPPORTED, "%s: %s: rope_type %s is not supported (default, linear, llama3 are)", r->label, key, type);
	rope->kind = !strcmp(type, "linear") ? BL_ROPE_LINEAR : BL_ROPE_LLAMA3;
	if (bl_json_num(o, "factor", 1e-6, 1e9, true, &rope->factor, r->label, r->err))
		return r->err->status;
	if (rope->kind == BL_ROPE_LLAMA3 &&
	    (bl_json_num(o, "low_freq_factor", 1e-6, 1e9, true, &rope->low_freq_factor, r->label, r->err) ||
	     bl_json_num(o, "high_freq_factor", 1e-6, 1e9, true, &rope->high_freq_factor, r->label, r->err) ||
	     bl_json_int(o, "original_max_position_embeddings", 1, (int64_t)1 << 40, true, &rope->original_positions, r->label, r->err)))
		return r->err->status;
	if (rope->kind == BL_ROPE_LLAMA3 && rope->high_freq_factor <= rope->low_freq_factor)
		return bl_fail(r->err, BL_INVALID, "%s: %s: high_freq_factor %g must be above low_freq_factor %g", r->label, key,
			       rope->high_freq_factor, rope->low_freq_factor);
	return BL_OK;
}

/* Two bases: one object per type of layer in the newer spelling, rope_local_base_freq in the older. */
static enum bl_status read_rope_local(struct bl_config *c, const struct reader *r, const cJSON *params)
{
	const cJSON *local = cJSON_GetObjectItemCaseSensitive(params, "sliding_attention");

	c->has_rope_local = true;
	c->rope_local = (struct bl_rope){.kind = BL_ROPE_DEFAULT, .theta = r->family->missing.rope_local, .factor = 1, .low_freq_factor = 1, .high_freq_factor = 4};
	if (bl_json_num(r->root, "rope_local_base_freq", 1e-3, 1e15, false, &c->rope_local.theta, r->label, r->err))
		return r->err->status;
	if (!c->v5_spelling || !local)
		return BL_OK;
	if (bl_json_num(local, "rope_theta", 1e-3, 1e15, false, &c->rope_local.theta, r->label, r->err))
		return r->err->status;
	return read_rope_object(&c->rope_local, r, "rope_parameters.sliding_attention", local);
}

static enum bl_status read_rope(struct bl_config *c, const struct reader *r)
{
	const cJSON *params = cJSON_GetObjectItemCaseSensitive(r->root, "rope_parameters");
	const cJSON *full = cJSON_GetObjectItemCaseSensitive(params, "full_attention");
	const cJSON *o = !c->v5_spelling ? cJSON_GetObjectItemCaseSensitive(r->root, "rope_scaling") : r->family->missing.rope_local && full ? full : params;
	const char *key = !c->v5_spelling ? "rope_scaling" : o == full ? "rope_parameters.full_attention" : "rope_parameters";
	const double base = r->family->missing.rope_theta;
	double turned = 1; /* the part of a head that RoPE turns */

	c->rope = (struct bl_rope){.kind = BL_ROPE_DEFAULT, .theta = base ? base : 10000, .factor = 1, .low_freq_factor = 1, .high_freq_factor = 4};
	if (bl_json_num(r->root, "rope_theta", 1e-3, 1e15, false, &c->rope.theta, r->label, r->err) ||
	    bl_json_num(r->root, "partial_rotary_factor", 0, 1, false, &turned, r->label, r->err) ||
	    (cJSON_IsObject(o) && c->v5_spelling &&
	     (bl_json_num(o, "rope_theta", 1e-3, 1e15, false, &c->rope.theta, r->label, r->err) ||
	      bl_json_num(o, "partial_rotary_factor", 0, 1, false, &turned, r->label, r->err))))
		return r->err->status;
	if (turned != 1)
		return bl_fail(r->err, BL_UNSUPPORTED, "%s: partial_rotary_factor: %g is not supported (1 is)", r->label, turned);
	if (r->family->missing.rope_local && read_rope_local(c, r, params))
		return r->err->status;
	return !o || cJSON_IsNull(o) ? BL_OK : read_rope_object(&c->rope, r, key, o);
}

static enum bl_status read_layer_types(struct bl_config *c, const struct reader *r, const cJSON *types)
{
	int64_t i = 0;

	if (!cJSON_IsArray(types) || cJSON_GetArraySize(types) != c->layers)
		return bl_fail(r->err, BL_INVALID, "%s: layer_types: must list one type for each of the %lld layers", r->label,
			       (long long)c->layers);
	for (const cJSON *t = types->child; t; t = t->next, i++) {
		if (!cJSON_IsString(t) || (strcmp(t->valuestring, "sliding_attention") && strcmp(t->valuestring, "full_attention")))
			return bl_fail(r->err, BL_UNSUPPORTED, "%s: layer_types[%lld]: must be sliding_attention or full_attention",
				       r->label, (long long)i);
		c->sliding[i] = t->valuestring[0] == 's';
		if (c->sliding[i] && !c->sliding_window)
			return bl_fail(r->err, BL_INVALID, "%s: layer_types[%lld]: is sliding_attention but sliding_window is not set",
				       r->label, (long long)i);
	}
	return BL_OK;
}

/* sliding_window_pattern: a number p (every p-th layer is global), a text such as "LLLG" that repeats, null or 0 for none. */
static enum bl_status read_pattern(struct bl_config *c, const struct reader *r)
{
	const cJSON *p = cJSON_GetObjectItemCaseSensitive(r->root, "sliding_window_pattern");
	int64_t every = p ? 0 : 4;
	const char *letters = NULL;

	if (cJSON_IsString(p) ? bl_json_str(r->root, "sliding_window_pattern", BL_LAYERS_MAX, false, &letters, r->label, r->err)
			      : bl_json_int(r->root, "sliding_window_pattern", 0, BL_LAYERS_MAX, false, &every, r->label, r->err))
		return r->err->status;
	if (letters && (!*letters || letters[strspn(letters, "LG")]))
		return bl_fail(r->err, BL_INVALID, "%s: sliding_window_pattern: must be a number or of the letters L and G, is \"%.40s\"",
			       r->label, letters);
	for (int64_t i = 0; i < c->layers; i++)
		c->sliding[i] = letters ? letters[(size_t)i % strlen(letters)] == 'L' : every && (i + 1) % every;
	return BL_OK;
}

/* Which layers attend through the window: layer_types when present, else the family's older keys. */
static enum bl_status read_windows(struct bl_config *c, const struct reader *r)
{
	const cJSON *types = cJSON_GetObjectItemCaseSensitive(r->root, "layer_types");
	bool use = r->family->windows != BL_WINDOW_UPPER;
	int64_t upper = 28, every = 6;

	c->sliding_window = absent(r, "sliding_window") ? r->family->missing.window : 0;
	if (size_field(r, "sliding_window", (int64_t)1 << 40, false, &c->sliding_window) ||
	    (!use && (bl_json_bool(r->root, "use_sliding_window", false, &use, r->label, r->err) ||
		      bl_json_int(r->root, "max_window_layers", 0, 1 << 20, false, &upper, r->label, r->err))))
		return r->err->status;
	if (!use)
		c->sliding_window = 0;
	if (types && !cJSON_IsNull(types))
		return read_layer_types(c, r, types);
	if (!c->sliding_window)
		return BL_OK;
	if (r->family->windows == BL_WINDOW_PATTERN)
		return read_pattern(c, r);
	if (r->family->windows == BL_WINDOW_EVERY && (bl_json_int(r->root, "sliding_window_pattern", 1, BL_LAYERS_MAX, false, &every, r->label, r->err) ||
						      bl_json_int(r->root, "_sliding_window_pattern", 1, BL_LAYERS_MAX, false, &every, r->label, r->err)))
		return r->err->status;
	for (int64_t i = 0; i < c->layers; i++)
		c->sliding[i] = r->family->windows == BL_WINDOW_ALWAYS || (r->family->windows == BL_WINDOW_UPPER && i >= upper) ||
				(r->family->windows == BL_WINDOW_ODD && i % 2 == 0) || (r->family->windows == BL_WINDOW_EVERY && (i + 1) % every);
	return BL_OK;
}

enum bl_status bl_config_parse(struct bl_config *c, const char *text, size_t n, const char *label, struct bl_err *err)
{
	struct bl_config made = {0};

	if (bl_json_parse(&made.json, text, n, CONFIG_VALUES_MAX, label, err))
		return err->status;
	struct reader r = {made.json, label, err, &unknown_family};
	if (read_identity(&made, &r))
		goto fail;
	if (bl_arch_row_of(made.model_type))
		r.family = bl_arch_row_of(made.model_type);
	if (read_sizes(&made, &r) || read_caps(&made, &r) || read_rope(&made, &r) || read_windows(&made, &r)) {
		/* a family that is refused anyway has other keys: the reason to tell is the family */
		struct bl_err refusal = BL_ERR_INIT;
		const struct bl_arch *row = NULL;
		if (bl_arch_family(&row, made.model_type, &refusal)) {
			bl_err_prefix(&refusal, "%s", label);
			*err = refusal;
		}
		goto fail;
	}
	*c = made;
	return BL_OK;
fail:
	bl_config_fini(&made);
	return err->status;
}

void bl_config_fini(struct bl_config *c)
{
	cJSON_Delete(c->json);
	c->json = NULL;
}

/* Small things do not fail: a config that silently lost a key would be worse than no config. */
static cJSON *must(cJSON *v)
{
	if (!v)
		bl_fatal(6, "bitlathe: not enough memory; close other programs or open a smaller model");
	return v;
}

static void put(cJSON *o, const char *key, cJSON *v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(o, key);
	if (!cJSON_AddItemToObject(o, key, must(v)))
		must(NULL);
}

static void rope_v457(cJSON *o, const struct bl_config *c, struct bl_str *edits)
{
	const cJSON *params = cJSON_GetObjectItemCaseSensitive(o, "rope_parameters");

	if (!cJSON_IsObject(params))
		return;
	if (!c->v5_spelling) {
		cJSON_DeleteItemFromObjectCaseSensitive(o, "rope_parameters");
		bl_str_add(edits, "rope_parameters -> (removed): rope_scaling is there too and is what counts\n");
		return;
	}
	const cJSON *local = cJSON_GetObjectItemCaseSensitive(params, "sliding_attention");
	if (c->has_rope_local && local) {
		const cJSON *base = cJSON_GetObjectItemCaseSensitive(local, "rope_theta");
		put(o, "rope_local_base_freq", cJSON_IsNumber(base) ? cJSON_Duplicate(base, true) : cJSON_CreateNumber(c->rope_local.theta));
		params = cJSON_GetObjectItemCaseSensitive(params, "full_attention");
		if (!cJSON_IsObject(params))
			params = cJSON_AddObjectToObject(o, "rope_scaling");
	}
	cJSON *scaling = must(cJSON_Duplicate(params, true));
	cJSON *theta = cJSON_DetachItemFromObjectCaseSensitive(scaling, "rope_theta");
	if (cJSON_IsNumber(theta)) /* a copy: the detached item is already named */
		put(o, "rope_theta", cJSON_Duplicate(theta, true));
	else
		put(o, "rope_theta", cJSON_CreateNumber(c->rope.theta));
	cJSON_Delete(theta);
	if (c->rope.kind == BL_ROPE_DEFAULT) {
		cJSON_Delete(scaling);
		scaling = cJSON_CreateNull();
	}
	put(o, "rope_scaling", scaling);
	cJSON_DeleteItemFromObjectCaseSensitive(o, "rope_parameters");
	bl_str_add(edits, "rope_parameters -> rope_theta, rope_scaling (transformers 4.57 ignores the newer key)\n");
}

cJSON *bl_config_v457(const struct bl_config *c, struct bl_str *edits)
{
	cJSON *o = must(cJSON_Duplicate(c->json, true));
	const struct bl_arch *family = bl_arch_row_of(c->model_type);

	rope_v457(o, c, edits);
	if (family && family->windows == BL_WINDOW_PATTERN) {
		const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(o, "sliding_window_pattern");
		if (cJSON_IsNumber(pattern) && pattern->valuedouble == 0) {
			put(o, "sliding_window_pattern", cJSON_CreateNull());
			bl_str_add(edits, "sliding_window_pattern 0 -> null\n");
		}
	}
	if (family && family->writes_layer_types && bl_json_is_null_or_missing(o, "layer_types")) {
		cJSON *types = must(cJSON_CreateArray());
		for (int64_t i = 0; i < c->layers; i++)
			cJSON_AddItemToArray(types, must(cJSON_CreateString(c->sliding[i] ? "sliding_attention" : "full_attention")));
		put(o, "layer_types", types);
		bl_str_add(edits, "layer_types written out (the server needs them)\n");
	}
	return o;
}
