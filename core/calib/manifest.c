/* SPDX-License-Identifier: Apache-2.0
 * manifest.json: what a calibration is of and which files it has. No times in it: an interrupted and an uninterrupted run end with the same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/calib/private.h"

#define MANIFEST_MAX (4u << 20)
#define VALUES_MAX 20000
#define FILES_MAX (2 * BL_LAYERS_MAX + 2)

bool calib_key_ok(const char *key)
{
	return strlen(key) == 64 && strspn(key, "0123456789abcdef") == 64;
}

char *calib_folder(const char *cache_dir, const char *key)
{
	char *calib = bl_path_join(cache_dir, "calib"), *s = bl_path_join(calib, key);

	bl_free(calib);
	return s;
}

int calib_lock(const char *folder, struct bl_err *err)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0) {
		bl_fail_sys(err, errno == ENOENT ? BL_NOT_FOUND : BL_IO, "%s: cannot be opened", folder);
		return -1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) { /* file systems without locks: nobody is kept out */
		bl_fail(err, BL_FAILED, "%s: another process is working on this calibration; wait for it, or end it", folder);
		close(fd);
		return -1;
	}
	return fd;
}

void calib_manifest_print(struct bl_str *out, const struct calib_manifest *m)
{
	cJSON *j = cJSON_CreateObject(), *model, *data, *collected, *files;

	bl_json_add_int(j, "schema", 1);
	cJSON_AddStringToObject(j, "kind", "calibration");
	bl_json_add_int(j, "producer", CALIB_PRODUCER);
	cJSON_AddStringToObject(j, "key", m->key);
	cJSON_AddBoolToObject(j, "complete", m->complete);
	model = cJSON_AddObjectToObject(j, "model");
	cJSON_AddStringToObject(model, "title", m->title);
	cJSON_AddStringToObject(model, "digest", m->model_digest);
	bl_json_add_int(model, "blocks", m->blocks);
	bl_json_add_int(model, "hidden", m->hidden);
	data = cJSON_AddObjectToObject(j, "data");
	cJSON_AddStringToObject(data, "ids", m->ids_digest);
	bl_json_add_int(data, "windows", m->windows);
	bl_json_add_int(data, "window", m->len);
	collected = cJSON_AddObjectToObject(j, "collected");
	cJSON_AddBoolToObject(collected, "hessians", m->hessians);
	bl_json_add_int(collected, "keep_windows", m->keep);
	cJSON_AddBoolToObject(collected, "fp32", m->fp32);
	cJSON_AddStringToObject(j, "device", m->device);
	files = cJSON_AddArrayToObject(j, "files");
	for (size_t i = 0; i < m->n_files; i++) {
		cJSON *f = cJSON_CreateObject();

		cJSON_AddStringToObject(f, "name", m->files[i].name);
		bl_json_add_int(f, "bytes", (int64_t)m->files[i].bytes);
		cJSON_AddStringToObject(f, "digest", m->files[i].digest);
		cJSON_AddItemToArray(files, f);
	}
	bl_json_print(out, j, 1, false);
	bl_str_addc(out, '\n');
	cJSON_Delete(j);
}

static enum bl_status text_field(char *dst, size_t cap, const cJSON *o, const char *key, const char *label, struct bl_err *err)
{
	const char *s;

	if (bl_json_str(o, key, cap - 1, true, &s, label, err))
		return err->status;
	snprintf(dst, cap, "%s", s);
	return BL_OK;
}

static enum bl_status parse_files(struct calib_manifest *m, const cJSON *list, const char *label, struct bl_err *err)
{
	int n = cJSON_GetArraySize(list);
	const cJSON *f;
	int64_t bytes;

	if (!cJSON_IsArray(list) || n > FILES_MAX)
		return bl_fail(err, BL_INVALID, "%s: files: must be a list of at most %d", label, FILES_MAX);
	m->files = bl_xalloc((size_t)n + 1, sizeof *m->files);
	cJSON_ArrayForEach(f, list)
	{
		struct calib_entry *e = &m->files[m->n_files++];

		if (!cJSON_IsObject(f))
			return bl_fail(err, BL_INVALID, "%s: files[%zu]: must be an object", label, m->n_files - 1);
		if (text_field(e->name, sizeof e->name, f, "name", label, err) || text_field(e->digest, sizeof e->digest, f, "digest", label, err) ||
		    bl_json_int(f, "bytes", 0, INT64_MAX / 2, true, &bytes, label, err))
			return err->status;
		e->bytes = (uint64_t)bytes;
	}
	return BL_OK;
}

static enum bl_status parse_parts(struct calib_manifest *m, const cJSON *j, const char *label, struct bl_err *err)
{
	const cJSON *model = cJSON_GetObjectItemCaseSensitive(j, "model"), *data = cJSON_GetObjectItemCaseSensitive(j, "data");
	const cJSON *collected = cJSON_GetObjectItemCaseSensitive(j, "collected");

	if (!cJSON_IsObject(model) || !cJSON_IsObject(data) || !cJSON_IsObject(collected))
		return bl_fail(err, BL_INVALID, "%s: model, data and collected must be objects", label);
	if (text_field(m->title, sizeof m->title, model, "title", label, err) || text_field(m->model_digest, sizeof m->model_digest, model, "digest", label, err) ||
	    bl_json_int(model, "blocks", 1, BL_LAYERS_MAX, true, &m->blocks, label, err) || bl_json_int(model, "hidden", 1, 1 << 24, true, &m->hidden, label, err))
		return err->status;
	if (text_field(m->ids_digest, sizeof m->ids_digest, data, "ids", label, err) ||
	    bl_json_int(data, "windows", 1, (int64_t)1 << 32, true, &m->windows, label, err) ||
	    bl_json_int(data, "window", 1, (int64_t)1 << 32, true, &m->len, label, err))
		return err->status;
	if (bl_json_bool(collected, "hessians", true, &m->hessians, label, err) || bl_json_bool(collected, "fp32", true, &m->fp32, label, err) ||
	    bl_json_int(collected, "keep_windows", 0, m->windows, true, &m->keep, label, err))
		return err->status;
	return BL_OK;
}

enum bl_status calib_manifest_parse(struct calib_manifest *out, const char *text, size_t n, const char *label, struct bl_err *err)
{
	struct calib_manifest m = { 0 };
	cJSON *j = NULL;
	int64_t producer;
	const char *kind;

	if (n > MANIFEST_MAX)
		return bl_fail(err, BL_INVALID, "%s: has %zu bytes, more than a manifest has", label, n);
	if (bl_json_parse(&j, text, n, VALUES_MAX, label, err))
		return err->status;
	if (bl_json_str(j, "kind", 64, true, &kind, label, err) || bl_json_int(j, "producer", 0, INT32_MAX, true, &producer, label, err))
		goto done;
	if (strcmp(kind, "calibration") || producer != CALIB_PRODUCER) {
		bl_fail(err, BL_INVALID, "%s: is not of a calibration of this version", label);
		goto done;
	}
	if (text_field(m.key, sizeof m.key, j, "key", label, err) || bl_json_bool(j, "complete", true, &m.complete, label, err) ||
	    text_field(m.device, sizeof m.device, j, "device", label, err) || parse_parts(&m, j, label, err) ||
	    parse_files(&m, cJSON_GetObjectItemCaseSensitive(j, "files"), label, err))
		goto done;
	if (!calib_key_ok(m.key))
		bl_fail(err, BL_INVALID, "%s: key: must be 64 hexadecimal digits", label);
done:
	cJSON_Delete(j);
	if (err->status)
		calib_manifest_free(&m);
	else
		*out = m;
	return err->status;
}

enum bl_status calib_manifest_load(struct calib_manifest *m, const char *folder, struct bl_err *err)
{
	char *path = bl_path_join(folder, "manifest.json"), *text = NULL;
	size_t n = 0;

	if (!bl_read_file(&text, &n, path, MANIFEST_MAX, true, err))
		calib_manifest_parse(m, text, n, path, err);
	bl_free(text);
	bl_free(path);
	return err->status;
}

void calib_manifest_free(struct calib_manifest *m)
{
	bl_free(m->files);
	*m = (struct calib_manifest){ 0 };
}

void calib_digest_of(char digest[65], const struct calib_manifest *m)
{
	struct bl_str s = { 0 };

	for (size_t i = 0; i < m->n_files; i++)
		bl_str_addf(&s, "%s %" PRIu64 " %s\n", m->files[i].name, m->files[i].bytes, m->files[i].digest);
	bl_sha256_of(bl_str_c(&s), s.len, digest);
	bl_str_free(&s);
}
