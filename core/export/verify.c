/* SPDX-License-Identifier: Apache-2.0
 * The proof, from package to verdict. */
#include "core/export/verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/export/verify_private.h"
#include "core/model/index.h"

#define FINDINGS_MAX 1000
#define CONFIG_MAX_BYTES (16u << 20)

void bl_finding_add(struct bl_verify_result *r, bool fatal, const char *where, const char *fmt, ...)
{
	struct bl_str b = {0};
	va_list ap;

	r->n_fatal += fatal;
	if (r->n_findings >= FINDINGS_MAX)
		return;
	va_start(ap, fmt);
	bl_str_vaddf(&b, fmt, ap);
	va_end(ap);
	r->findings = bl_xrealloc(r->findings, (size_t)r->n_findings + 1, sizeof *r->findings);
	struct bl_finding *f = &r->findings[r->n_findings++];
	size_t where_cap = 4 * strlen(where) + 1, cap = 4 * b.len + 1;
	f->fatal = fatal;
	f->where = bl_printable(bl_xalloc(where_cap, 1), where_cap, where);
	f->sentence = bl_printable(bl_xalloc(cap, 1), cap, bl_str_c(&b));
	bl_str_free(&b);
}

/* ---- which files hold weights ---- */

static bool in_list(char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

static enum bl_status weight_parts(struct bl_verifier *v, struct bl_model_part **out, int *n_out, struct bl_file_list *list, struct bl_err *err)
{
	const struct bl_package_entry *index = bl_package_find(&v->package, "model.safetensors.index.json");
	struct bl_model_part *parts = bl_xalloc((size_t)v->package.n + 1, sizeof *parts);
	int n = 0;

	if (index && bl_index_parse(list, (const char *)index->data, index->bytes, "model.safetensors.index.json", err)) {
		bl_free(parts);
		return err->status;
	}
	for (int i = 0; i < v->package.n; i++) {
		const struct bl_package_entry *e = &v->package.entries[i];
		if (!bl_ends_with(e->name, ".safetensors"))
			continue;
		if (index ? !in_list(list->names, list->n, e->name) : strcmp(e->name, "model.safetensors") != 0) {
			bl_finding_add(v->r, true, e->name, "a weight file that %s: servers would load it too", index ? "the index does not name" : "is not model.safetensors");
			continue;
		}
		parts[n++] = (struct bl_model_part){e->name, e->data, e->bytes};
	}
	for (size_t i = 0; i < list->n; i++)
		if (!bl_package_find(&v->package, list->names[i]))
			bl_finding_add(v->r, true, list->names[i], "named by the index and not there");
	if (!n)
		bl_finding_add(v->r, true, "model.safetensors", "missing");
	*out = parts;
	*n_out = n;
	return BL_OK;
}

static void check_index(struct bl_verifier *v, const struct bl_file_list *list)
{
	const cJSON *map = list->index ? cJSON_GetObjectItemCaseSensitive(list->index, "weight_map") : NULL;
	int64_t named = 0;

	for (const cJSON *e = map ? map->child : NULL; e; e = e->next, named++) {
		const struct bl_tensor *t = bl_model_tensor(v->model, e->string);
		if (!t || strcmp(v->model->files[t->file].name, e->valuestring))
			bl_finding_add(v->r, true, e->string, "the index says it is in %s, it is not", e->valuestring);
	}
	if (map && named != v->model->n_tensors)
		bl_finding_add(v->r, true, "model.safetensors.index.json", "names %lld tensors, the files hold %lld", (long long)named, (long long)v->model->n_tensors);
}

/* ---- package, config, head ---- */

static void check_package(struct bl_verifier *v)
{
	const struct bl_target *t = v->rq->target;
	uint64_t total = 0;

	for (int i = 0; i < v->package.n; i++) {
		const char *name = v->package.entries[i].name;
		total += v->package.entries[i].bytes;
		if (bl_starts_with(name, "consolidated") && bl_ends_with(name, ".safetensors"))
			bl_finding_add(v->r, true, name, "makes vLLM read the folder in another format");
		if (!strcmp(name, ".DS_Store") || bl_starts_with(name, "._"))
			bl_finding_add(v->r, false, name, "does not belong into a submission");
	}
	v->r->bytes_total = total;
	if (v->package.is_zip && t && t->zip_limit && v->package.package_bytes > t->zip_limit)
		bl_finding_add(v->r, true, "package", "%llu bytes, the limit is %llu", (unsigned long long)v->package.package_bytes, (unsigned long long)t->zip_limit);
	if (v->package.is_zip && t && t->unzipped_limit && total > t->unzipped_limit)
		bl_finding_add(v->r, true, "package", "%llu bytes unpacked, the limit is %llu", (unsigned long long)total, (unsigned long long)t->unzipped_limit);
	if (!bl_package_find(&v->package, "tokenizer.json") && !bl_package_find(&v->package, "tokenizer.model"))
		bl_finding_add(v->r, false, "tokenizer.json", "missing: a server cannot tokenize without it");
	if (!bl_package_find(&v->package, "tokenizer_config.json"))
		bl_finding_add(v->r, false, "tokenizer_config.json", "missing");
}

/* What the server's readers of other formats will not do without, though this program and transformers have defaults. */
static void check_keys(struct bl_verifier *v)
{
	static const struct { const char *method, *keys[5]; } needed[] = {
		{"gptq", {"bits", "group_size", "desc_act", "sym"}},
		{"awq", {"bits", "group_size", "zero_point"}},
		{"auto-round", {"bits", "group_size", "sym"}},
		{"intel/auto-round", {"bits", "group_size", "sym"}},
	};
	const cJSON *q = cJSON_GetObjectItemCaseSensitive(v->model->config.json, "quantization_config");

	for (size_t i = 0; i < sizeof needed / sizeof *needed && v->rq->target && v->q.format; i++)
		for (int k = 0; needed[i].keys[k] && !strcmp(needed[i].method, bl_quant_method(&v->q)); k++)
			if (bl_json_is_null_or_missing(q, needed[i].keys[k]))
				bl_finding_add(v->r, true, "config.json", "quantization_config.%s: missing: the server refuses the checkpoint without it", needed[i].keys[k]);
}

static void check_config(struct bl_verifier *v)
{
	const struct bl_config *c = &v->model->config;
	const struct bl_target *t = v->rq->target;

	if (c->v5_spelling)
		bl_finding_add(v->r, t != NULL, "config.json", "rope_parameters: the server's transformers 4.57 ignores it in silence and computes something else");
	if (!c->architecture[0])
		bl_finding_add(v->r, true, "config.json", "architectures: missing, a server cannot choose the model class");
	else if (strcmp(c->architecture, v->model->arch->architecture))
		bl_finding_add(v->r, true, "config.json", "architectures: %s, a %s model needs %s", c->architecture, c->model_type, v->model->arch->architecture);
	if (v->model->arch->writes_layer_types && bl_json_is_null_or_missing(c->json, "layer_types"))
		bl_finding_add(v->r, true, "config.json", "layer_types: missing, the server needs it");
	if (t && t->max_model_len && c->max_positions < t->max_model_len)
		bl_finding_add(v->r, false, "config.json", "max_position_embeddings: %lld is below the server's max_model_len %lld", (long long)c->max_positions,
			       (long long)t->max_model_len);
	check_keys(v);
	if (v->is_ct && !v->q.ct.compressed)
		bl_finding_add(v->r, true, "config.json", "quantization_config.quantization_status: must be \"compressed\"");
	if (v->is_ct && !v->q.ct.format[0])
		bl_finding_add(v->r, true, "config.json", "quantization_config.format: missing");
	if (v->is_ct && bl_ct_resolve(&v->q.ct, "lm_head") >= 0)
		bl_finding_add(v->r, true, "config.json", "quantization_config.ignore: lm_head is not in it: transformers looks for a quantized head and leaves it random");
	for (int i = 0; i < v->q.ct.n_groups; i++)
		if (!strcmp(v->q.ct.groups[i].format, "mixed-precision") || !v->q.ct.groups[i].format[0])
			bl_finding_add(v->r, true, "config.json", "quantization_config.config_groups.%s.format: each group needs its own in a mixed checkpoint", v->q.ct.groups[i].name);
	snprintf(v->r->format, sizeof v->r->format, "%s", v->is_ct ? v->q.ct.format : c->quantized ? c->quant_method : "");
}

static void check_head(struct bl_verifier *v)
{
	const struct bl_model *m = v->model;

	if (!m->head_stored_and_tied)
		return;
	bool same = m->head->bytes == m->embed->bytes && m->head->dtype == m->embed->dtype && !memcmp(m->head->data, m->embed->data, m->head->bytes);
	bl_finding_add(v->r, !same, "lm_head.weight", same ? "stored although the embedding is tied: bytes for nothing" :
		       "stored, tied and different from the embedding: servers take one or the other");
}

/* Whether a tensor is a part of a linear that the base itself has quantized (its bias is none). */
static bool is_coded_part(const struct bl_model *b, const char *name)
{
	for (int i = 0; b->config.quantized && i < b->n_units; i++)
		for (int j = 0; j < b->units[i].n_members; j++) {
			const struct bl_member *m = &b->units[i].members[j];
			const size_t n = strlen(m->name);

			if (!m->weight && !strncmp(name, m->name, n) && name[n] == '.' && (!m->bias || strcmp(name, m->bias->name)))
				return true;
		}
	return false;
}

static void check_base(struct bl_verifier *v)
{
	const struct bl_model *a = v->model, *b = v->rq->base;
	struct bl_err inner = BL_ERR_INIT;

	if (!b)
		return;
	bool same = a->n_units == b->n_units && !strcmp(a->config.model_type, b->config.model_type) && a->config.tied == b->config.tied;
	for (int i = 0; same && i < a->n_units; i++)
		for (int j = 0; same && j < a->units[i].n_members; j++)
			same = a->units[i].members[j].rows == b->units[i].members[j].rows && a->units[i].members[j].cols == b->units[i].members[j].cols;
	if (!same)
		bl_finding_add(v->r, true, "config.json", "the checkpoint is not of the base's shape (%s): nothing can be compared", b->title);
	v->comparable = same;
	if (same && b->config.quantized && bl_source_open(&v->base_source, b, true, &inner))
		bl_finding_add(v->r, false, "config.json", "the base is quantized and could not be read, so values were not compared: %s", inner.text);
	for (int64_t i = 0; same && i < b->n_tensors; i++) { /* biases, norms, embedding: nothing of the base may be lost */
		const char *name = b->tensors[i]->name;
		char *module = bl_ends_with(name, ".weight") ? bl_xstrndup(name, strlen(name) - 7) : NULL;
		bool linear = module && bl_model_unit(b, module) >= 0; /* its own check says what is missing */
		bool redundant = b->head_stored_and_tied && b->tensors[i] == b->head;

		if (!linear && !redundant && !is_coded_part(b, name) && !bl_model_tensor(a, name))
			bl_finding_add(v->r, true, name, "in the base and not in the checkpoint");
		bl_free(module);
	}
}

/* ---- the run ---- */

/* Findings name their file themselves. */
static const char *without_file(const char *sentence)
{
	static const char file[] = "config.json: ";

	return bl_starts_with(sentence, file) ? sentence + sizeof file - 1 : sentence;
}

static enum bl_status examine(struct bl_verifier *v, struct bl_err *err)
{
	const struct bl_package_entry *config = bl_package_find(&v->package, "config.json");
	struct bl_model_part *parts = NULL;
	struct bl_file_list list = {0};
	struct bl_err inner = BL_ERR_INIT;
	int n = 0;

	if (!config)
		return bl_fail(err, BL_INVALID, "%s: no config.json: not a checkpoint", v->rq->path);
	if (config->bytes > CONFIG_MAX_BYTES)
		return bl_fail(err, BL_INVALID, "config.json: %llu bytes are too many", (unsigned long long)config->bytes);
	check_package(v);
	if (weight_parts(v, &parts, &n, &list, &inner))
		bl_finding_add(v->r, true, "model.safetensors.index.json", "%s", inner.text);
	else if (n && bl_model_open_parts(&v->model, v->rq->path, (const char *)config->data, config->bytes, parts, n, &inner))
		bl_finding_add(v->r, true, "model", "%s", inner.text);
	bl_free(parts);
	if (inner.status && inner.status != BL_INVALID && inner.status != BL_UNSUPPORTED && inner.status != BL_NOT_FOUND) {
		bl_file_list_free(&list); /* not the checkpoint's fault: no memory, a failing disk */
		*err = inner;
		return err->status;
	}
	if (v->model) {
		v->r->tensors = v->model->n_tensors;
		v->is_ct = v->model->config.quantized && !strcmp(v->model->config.quant_method, "compressed-tensors");
		if (v->model->config.quantized && bl_quant_open(&v->q, v->model, &inner) && (v->is_ct || inner.status != BL_UNSUPPORTED)) {
			bl_finding_add(v->r, true, "config.json", "%s", without_file(inner.text));
			v->is_ct = false;
		} else {
			check_index(v, &list);
			check_config(v);
			check_head(v);
			check_base(v);
			bl_check_tensors(v);
			bl_claims_read(v);
		}
	}
	bl_file_list_free(&list);
	return bl_values_run(v, err);
}

struct guarded { struct bl_verifier *v; };

static enum bl_status examine_guarded(void *ctx, struct bl_err *err)
{
	return examine(((struct guarded *)ctx)->v, err);
}

enum bl_status bl_verify_run(struct bl_verify_result *out, const struct bl_verify_request *rq, struct bl_err *err)
{
	struct bl_verify_result made = {0};
	struct bl_verifier v = {.rq = rq, .r = &made};
	struct guarded g = {&v};

	if (bl_package_open(&v.package, rq->path, rq->as_zip, err))
		return err->status;
	made.n_files = v.package.n;
	made.files = bl_xalloc((size_t)v.package.n + 1, sizeof *made.files);
	for (int i = 0; i < v.package.n; i++) {
		made.files[i].name = bl_xstrdup(v.package.entries[i].name);
		made.files[i].bytes = v.package.entries[i].bytes;
	}
	bl_guard_run(examine_guarded, &g, err);
	bl_quant_close(&v.q);
	bl_source_close(v.base_source);
	bl_free(v.stored);
	bl_free(v.unit_of);
	bl_model_close(v.model);
	bl_package_close(&v.package);
	if (err->status)
		bl_verify_result_free(&made);
	else
		*out = made;
	return err->status;
}

void bl_verify_result_free(struct bl_verify_result *r)
{
	for (int i = 0; i < r->n_files; i++)
		bl_free(r->files[i].name);
	for (int i = 0; i < r->n_findings; i++) {
		bl_free(r->findings[i].where);
		bl_free(r->findings[i].sentence);
	}
	for (int i = 0; i < r->n_units; i++)
		bl_free(r->unit_schemes[i]);
	bl_free(r->files);
	bl_free(r->findings);
	bl_free(r->unit_schemes);
	memset(r, 0, sizeof *r);
}
