/* SPDX-License-Identifier: Apache-2.0
 * config.json as it is exported. */
#include "core/export/config_out.h"

#include <stdio.h>
#include <string.h>

#include "core/base/json.h"

static void put(cJSON *o, const char *key, cJSON *v)
{
	cJSON_DeleteItemFromObjectCaseSensitive(o, key);
	if (v)
		cJSON_AddItemToObject(o, key, v);
}

static enum bl_status apply_edit(cJSON *o, struct bl_str *edits, const struct bl_config_edit *e, struct bl_err *err)
{
	struct bl_str wrapped = {0}, was = {0};
	cJSON *root = NULL;
	const cJSON *old = cJSON_GetObjectItemCaseSensitive(o, e->key);

	if (old)
		bl_json_print(&was, old, 0, false);
	else
		bl_str_add(&was, "(absent)");
	bl_str_addf(edits, "%s: %s -> %s\n", e->key, bl_str_c(&was), *e->value ? e->value : "(removed)");
	bl_str_free(&was);
	if (!*e->value) {
		put(o, e->key, NULL);
		return BL_OK;
	}
	bl_str_addf(&wrapped, "{\"v\":%s}", e->value);
	if (bl_json_parse(&root, bl_str_c(&wrapped), wrapped.len, 10000, e->key, err) == BL_OK)
		put(o, e->key, cJSON_DetachItemFromObjectCaseSensitive(root, "v"));
	bl_str_free(&wrapped);
	cJSON_Delete(root);
	return err->status;
}

#define KV_KEY "kv_cache_scheme" /* an edit that goes into quantization_config */

static bool is_kv(const struct bl_config_edit *e)
{
	return !strcmp(e->key, KV_KEY);
}

/* What compressed-tensors says of a key-value cache in 8-bit floats: one scale per tensor, which is 1 where none is stored. */
static enum bl_status put_kv(cJSON *q, struct bl_str *edits, const char *exporter, struct bl_err *err)
{
	static const char text[] = "{\"actorder\":null,\"block_structure\":null,\"dynamic\":false,\"group_size\":null,\"num_bits\":8,\"observer\":\"minmax\","
		"\"observer_kwargs\":{},\"scale_dtype\":null,\"strategy\":\"tensor\",\"symmetric\":true,\"type\":\"float\",\"zp_dtype\":null}";
	cJSON *v = NULL;

	if (!q || !cJSON_HasObjectItem(q, KV_KEY))
		return bl_fail(err, BL_RULE, "config key " KV_KEY ": format %s has no place for it (compressed-tensors has, when something is quantized)", exporter);
	if (bl_json_parse(&v, text, sizeof text - 1, 100, KV_KEY, err))
		return err->status;
	put(q, KV_KEY, v);
	bl_str_add(edits, "quantization_config." KV_KEY ": null -> 8-bit floats per tensor\n");
	return BL_OK;
}

/* The entry of one kind of sparsity. */
static cJSON *entry_of(cJSON *list, const struct bl_sparsity *s)
{
	char structure[16];
	cJSON *e;

	snprintf(structure, sizeof structure, "%d:%d", s->n, s->m);
	for (e = list->child; e; e = e->next)
		if (!strcmp(cJSON_GetObjectItem(e, "mask_structure")->valuestring, structure) && cJSON_GetObjectItem(e, "sparsity")->valuedouble == s->ratio)
			return cJSON_GetObjectItem(e, "modules");
	e = cJSON_CreateObject();
	cJSON_AddStringToObject(e, "mask_structure", structure);
	cJSON_AddNumberToObject(e, "sparsity", s->ratio);
	cJSON_AddItemToArray(list, e);
	return cJSON_AddArrayToObject(e, "modules");
}

/* What was pruned, where the proof looks for it (verify_claims.c). compressed-tensors' own sparsity_config stays empty: with anything in it servers look for
 * a packed form that they no longer load. */
static void add_sparsity(cJSON *o, const struct bl_export_request *rq)
{
	cJSON *list = cJSON_CreateArray();
	struct bl_sparsity s;

	for (int i = 0; i < rq->model->n_units; i++) {
		const struct bl_choice *c = bl_plan_choice(rq->plan, i);

		if (c->scheme.number == BL_NUM_FULL || !bl_method_sparsity(rq->registry, c->method, c->params, &s))
			continue;
		for (int j = 0; j < rq->model->units[i].n_members; j++)
			cJSON_AddItemToArray(entry_of(list, &s), cJSON_CreateString(rq->model->units[i].members[j].name));
	}
	if (list->child) {
		cJSON *own = cJSON_CreateObject();

		cJSON_AddItemToObject(own, "sparsity", list);
		put(o, "bitlathe", own);
	} else {
		cJSON_Delete(list);
	}
}

enum bl_status bl_config_out(struct bl_str *out, struct bl_str *edits, const struct bl_export_request *rq, const struct bl_exporter *x,
			     const struct bl_x_plan *plan, struct bl_err *err)
{
	cJSON *o = bl_config_v457(&rq->model->config, edits), *q = NULL;
	struct bl_str text = {0};
	bool quantized = rq->model->config.quantized;

	if (!o)
		return bl_fail(err, BL_NO_MEMORY, "config.json: not enough memory");
	for (int i = 0; i < bl_plan_n_edits(rq->plan); i++)
		if (!is_kv(bl_plan_edit(rq->plan, i)) && apply_edit(o, edits, bl_plan_edit(rq->plan, i), err))
			goto done;
	const char *why = x->config(plan, &rq->registry->host, &text);
	if (why) {
		bl_fail(err, BL_FAILED, "config.json: exporter %s: %s", x->name, why);
		goto done;
	}
	if (text.len) {
		if (bl_json_parse(&q, bl_str_c(&text), text.len, 1000000, "quantization_config", err))
			goto done;
		put(o, "quantization_config", q);
	} else if (!quantized) {
		put(o, "quantization_config", NULL);
	}
	for (int i = 0; i < bl_plan_n_edits(rq->plan); i++)
		if (is_kv(bl_plan_edit(rq->plan, i)) && *bl_plan_edit(rq->plan, i)->value && put_kv(q, edits, x->name, err))
			goto done;
	add_sparsity(o, rq);
	bl_json_print(out, o, 2, true);
	bl_str_addc(out, '\n');
done:
	bl_str_free(&text);
	cJSON_Delete(o);
	return err->status;
}
