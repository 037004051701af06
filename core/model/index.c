/* SPDX-License-Identifier: Apache-2.0
 * model.safetensors.index.json: metadata and weight_map {tensor: file}. Files must be plain names in the same folder. */
#include "core/model/index.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

#define INDEX_MAX_BYTES (256u << 20)
#define VALUES_MAX 1001000 /* a million tensors, and some metadata */
#define FILES_MAX 10000

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

enum bl_status bl_index_parse(struct bl_file_list *out, const char *text, size_t n, const char *label, struct bl_err *err)
{
	struct bl_file_list l = {0};
	size_t cap = 0;

	if (bl_json_parse(&l.index, text, n, VALUES_MAX, label, err))
		return err->status;
	const cJSON *map = cJSON_GetObjectItemCaseSensitive(l.index, "weight_map");
	if (!cJSON_IsObject(map) || !map->child) {
		bl_fail(err, BL_INVALID, "%s: weight_map: must be an object that names a file for each tensor", label);
		goto fail;
	}
	for (const cJSON *e = map->child; e; e = e->next) {
		if (!cJSON_IsString(e) || !bl_path_is_inside(e->valuestring) || strchr(e->valuestring, '/') || !bl_ends_with(e->valuestring, ".safetensors") ||
		    strlen(e->valuestring) > 255) {
			bl_fail(err, BL_INVALID, "%s: weight_map.%.200s: must be the plain name of a .safetensors file beside the index, is %.200s", label, e->string,
				cJSON_IsString(e) ? e->valuestring : "not text");
			goto fail;
		}
		bl_xgrow(&l.names, &cap, l.n + 1);
		l.names[l.n++] = e->valuestring; /* borrowed until the duplicates are gone */
	}
	qsort(l.names, l.n, sizeof *l.names, by_text);
	size_t kept = 0;
	for (size_t i = 0; i < l.n; i++)
		if (!i || strcmp(l.names[i], l.names[kept - 1]))
			l.names[kept++] = l.names[i];
	for (size_t i = 0; i < kept; i++)
		l.names[i] = bl_xstrdup(l.names[i]);
	l.n = kept;
	if (l.n > FILES_MAX) {
		bl_fail(err, BL_INVALID, "%s: weight_map names %zu files, more than %d", label, l.n, FILES_MAX);
		bl_file_list_free(&l);
		return err->status;
	}
	*out = l;
	return BL_OK;
fail:
	bl_free(l.names);
	cJSON_Delete(l.index);
	return err->status;
}

static enum bl_status one(struct bl_file_list *out, const char *name)
{
	out->names = bl_xalloc(2, sizeof *out->names);
	out->names[0] = bl_xstrdup(name);
	out->n = 1;
	return BL_OK;
}

static enum bl_status find_single(struct bl_file_list *out, const char *dir, struct bl_err *err)
{
	char **names = NULL;
	size_t n = 0, found = 0;
	const char *only = NULL;

	if (bl_list_dir(&names, &n, dir, err))
		return err->status;
	for (size_t i = 0; i < n; i++)
		if (bl_ends_with(names[i], ".safetensors")) {
			only = names[i];
			found++;
		}
	if (found == 1)
		one(out, only);
	else
		bl_fail(err, BL_NOT_FOUND, "%s: %s", dir, found ? "several .safetensors files and no model.safetensors.index.json: which belong together is unknown" :
			"no .safetensors file there (other weight formats are not read)");
	bl_list_free(names);
	return err->status;
}

enum bl_status bl_weight_files(struct bl_file_list *out, const char *dir, const char *only_file, struct bl_err *err)
{
	char *index = bl_path_join(dir, "model.safetensors.index.json"), *single = bl_path_join(dir, "model.safetensors"), *text = NULL;
	size_t n = 0;

	if (only_file && !(bl_is_file(index) && strstr(only_file, "-of-"))) {
		one(out, only_file);
	} else if (bl_is_file(index)) {
		if (bl_read_file(&text, &n, index, INDEX_MAX_BYTES, true, err) == BL_OK && bl_index_parse(out, text, n, index, err) == BL_OK)
			out->index_path = bl_xstrdup(index);
	} else if (bl_is_file(single)) {
		one(out, "model.safetensors");
	} else {
		find_single(out, dir, err);
	}
	bl_free(text);
	bl_free(index);
	bl_free(single);
	return err->status;
}

enum bl_status bl_weight_map_check(const struct bl_file_list *l, struct bl_model *m, struct bl_err *err)
{
	int64_t named = 0;

	if (!l->index)
		return BL_OK;
	const cJSON *map = cJSON_GetObjectItemCaseSensitive(l->index, "weight_map");
	for (const cJSON *e = map->child; e; e = e->next, named++) {
		const struct bl_tensor *t = bl_model_tensor(m, e->string);
		if (!t || strcmp(m->files[t->file].name, e->valuestring))
			return bl_fail(err, BL_INVALID, "%s: weight_map.%.200s: is not in %s", l->index_path, e->string, e->valuestring);
	}
	if (named < m->n_tensors)
		bl_model_problem(m, "%lld tensor%s not named in the index: servers load them all the same", (long long)(m->n_tensors - named),
				 m->n_tensors - named == 1 ? " is" : "s are");
	return BL_OK;
}

void bl_file_list_free(struct bl_file_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		bl_free(l->names[i]);
	bl_free(l->names);
	cJSON_Delete(l->index);
	bl_free(l->index_path);
	*l = (struct bl_file_list){0};
}
