/* SPDX-License-Identifier: Apache-2.0
 * Reading the safetensors directory. The header is a stranger's: nothing is believed before it was compared with the file. */
#include "core/model/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/str.h"

#define HEADER_MAX 100000000u
#define TENSORS_MAX 1000000
#define NAME_MAX_BYTES 1024
#define METADATA_MAX 100000 /* entries */
#define FIELDS_MAX 3        /* dtype, shape, data_offsets */

static enum bl_status read_shape(struct bl_tensor *t, const cJSON *shape, const char *label, struct bl_err *err)
{
	int rank = 0;

	if (!cJSON_IsArray(shape))
		return bl_fail(err, BL_INVALID, "%s: %s: shape must be a list of sizes", label, t->name);
	t->n_elems = 1;
	for (const cJSON *d = shape->child; d; d = d->next, rank++) {
		if (rank == BL_RANK_MAX)
			return bl_fail(err, BL_INVALID, "%s: %s: shape has more than %d dimensions", label, t->name, BL_RANK_MAX);
		if (!cJSON_IsNumber(d) || !(d->valuedouble >= 0) || d->valuedouble > 9007199254740992.0 ||
		    d->valuedouble != (double)(int64_t)d->valuedouble)
			return bl_fail(err, BL_INVALID, "%s: %s: shape[%d] must be a whole number", label, t->name, rank);
		t->shape[rank] = (int64_t)d->valuedouble;
		if (__builtin_mul_overflow(t->n_elems, t->shape[rank], &t->n_elems))
			return bl_fail(err, BL_INVALID, "%s: %s: the product of its shape overflows", label, t->name);
	}
	t->rank = rank;
	return BL_OK;
}

static enum bl_status read_offset(uint64_t *out, const cJSON *v, const struct bl_tensor *t, int which, const char *label, struct bl_err *err)
{
	if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0) || v->valuedouble > 9007199254740992.0 ||
	    v->valuedouble != (double)(uint64_t)v->valuedouble)
		return bl_fail(err, BL_INVALID, "%s: %s: data_offsets[%d] must be a whole number", label, t->name, which);
	*out = (uint64_t)v->valuedouble;
	return BL_OK;
}

static enum bl_status read_tensor(struct bl_tensor *t, const cJSON *o, uint64_t data_bytes, const char *label, struct bl_err *err)
{
	const cJSON *dtype = NULL, *shape = NULL, *offsets = NULL;
	uint64_t begin = 0, end = 0, want = 0;

	if (!cJSON_IsObject(o))
		return bl_fail(err, BL_INVALID, "%s: %s: must be an object with dtype, shape and data_offsets", label, t->name);
	for (const cJSON *f = o->child; f; f = f->next) {
		if (!strcmp(f->string, "dtype"))
			dtype = f;
		else if (!strcmp(f->string, "shape"))
			shape = f;
		else if (!strcmp(f->string, "data_offsets"))
			offsets = f;
		else
			return bl_fail(err, BL_INVALID, "%s: %s: unknown field %s", label, t->name, f->string);
	}
	if (!cJSON_IsString(dtype))
		return bl_fail(err, BL_INVALID, "%s: %s: dtype is missing", label, t->name);
	if (bl_dtype_from(dtype->valuestring) < 0)
		return bl_fail(err, BL_UNSUPPORTED, "%s: %s: dtype %.40s is not known", label, t->name, dtype->valuestring);
	t->dtype = (enum bl_dtype)bl_dtype_from(dtype->valuestring);
	if (!shape || read_shape(t, shape, label, err))
		return shape ? err->status : bl_fail(err, BL_INVALID, "%s: %s: shape is missing", label, t->name);
	if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2)
		return bl_fail(err, BL_INVALID, "%s: %s: data_offsets must be two numbers", label, t->name);
	if (read_offset(&begin, offsets->child, t, 0, label, err) || read_offset(&end, offsets->child->next, t, 1, label, err))
		return err->status;
	if (__builtin_mul_overflow((uint64_t)t->n_elems, (uint64_t)bl_dtype_bytes(t->dtype), &want))
		return bl_fail(err, BL_INVALID, "%s: %s: its size in bytes overflows", label, t->name);
	if (end < begin || end > data_bytes)
		return bl_fail(err, BL_INVALID, "%s: %s: data_offsets [%" PRIu64 ",%" PRIu64 "] reach outside the %" PRIu64 " data bytes", label, t->name, begin, end, data_bytes);
	if (end - begin != want)
		return bl_fail(err, BL_INVALID, "%s: %s: data_offsets span %" PRIu64 " bytes, its shape and dtype need %" PRIu64, label, t->name, end - begin, want);
	t->offset = begin;
	t->bytes = want;
	return BL_OK;
}

static int by_offset(const void *a, const void *b)
{
	const struct bl_tensor *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static enum bl_status read_metadata(struct bl_st *st, const cJSON *o, const char *label, struct bl_err *err)
{
	if (!cJSON_IsObject(o))
		return bl_fail(err, BL_INVALID, "%s: __metadata__ must be an object of strings", label);
	for (const cJSON *m = o->child; m; m = m->next) {
		if (!cJSON_IsString(m))
			return bl_fail(err, BL_INVALID, "%s: __metadata__.%s must be a string", label, m->string);
		st->n_metadata++;
		if (!strcmp(m->string, "format") && !st->format)
			st->format = bl_xstrdup(m->valuestring);
	}
	return BL_OK;
}

/* No control characters (C0, DEL, C1) and nothing that turns the direction of text: names are printed. */
static bool printable_name(const char *name)
{
	for (const unsigned char *s = (const unsigned char *)name; *s; s++) {
		if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0))
			return false;
		if (*s == 0xe2 && ((s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae) || (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9)))
			return false;
	}
	return true;
}

static enum bl_status collect(struct bl_st *st, const cJSON *root, const uint8_t *base, uint64_t data_at, uint64_t data_bytes, const char *label,
			      struct bl_err *err)
{
	size_t n = 0;

	for (const cJSON *o = root->child; o; o = o->next)
		n += strcmp(o->string, "__metadata__") != 0;
	if (n > TENSORS_MAX)
		return bl_fail(err, BL_INVALID, "%s: lists %zu tensors, more than %d", label, n, TENSORS_MAX);
	if (bl_try_alloc(&st->tensors, n + 1, sizeof *st->tensors, "the tensor directory", err))
		return err->status;
	for (const cJSON *o = root->child; o; o = o->next) {
		struct bl_tensor *t = &st->tensors[st->n_tensors];

		if (!strcmp(o->string, "__metadata__")) {
			if (read_metadata(st, o, label, err))
				return err->status;
			continue;
		}
		size_t len = strlen(o->string);
		if (!len || len > NAME_MAX_BYTES || !printable_name(o->string))
			return bl_fail(err, BL_INVALID, "%s: tensor %lld: its name is empty, longer than %d bytes or has control characters: %.60s", label,
				       (long long)st->n_tensors, NAME_MAX_BYTES, o->string);
		t->name = o->string; /* borrowed from the JSON until it is known to be right */
		if (read_tensor(t, o, data_bytes, label, err))
			return err->status;
		t->name = bl_xstrdup(o->string);
		st->n_tensors++;
	}
	qsort(st->tensors, (size_t)st->n_tensors, sizeof *st->tensors, by_offset);
	uint64_t at = 0;
	for (int64_t i = 0; i < st->n_tensors; i++) {
		struct bl_tensor *t = &st->tensors[i];
		if (t->offset != at)
			return bl_fail(err, BL_INVALID, "%s: %s: begins at %" PRIu64 " where %" PRIu64 " is expected: a %s", label, t->name, t->offset, at,
				       t->offset < at ? "overlap with the tensor before" : "gap");
		at += t->bytes;
		t->data = base + data_at + t->offset;
		t->offset += data_at;
	}
	if (at != data_bytes)
		return bl_fail(err, BL_INVALID, "%s: the header accounts for %" PRIu64 " data bytes, the file has %" PRIu64, label, at, data_bytes);
	return BL_OK;
}

/* One pass over the brackets before a tree is built: a header of 100 MB can hold tens of millions of values, each a hundred bytes as a
 * tree, and none of that is a directory of tensors. Text that is not JSON passes here and is refused by the parser. */
static enum bl_status check_outline(const char *s, size_t n, const char *label, struct bl_err *err)
{
	size_t commas[4] = {0}, wide = 0, name = 0;
	int depth = 0, shown = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '"') {
			size_t start = ++i;
			while (i < n && s[i] != '"')
				i += s[i] == '\\' ? 2 : 1;
			if (depth == 1) {
				name = start;
				shown = i < n ? (int)(i - start < 200 ? i - start : 200) : 0;
			}
		} else if (s[i] == '{' || s[i] == '[') {
			if (++depth > 3)
				return bl_fail(err, BL_INVALID, "%s: %.*s: nested deeper than a list of sizes", label, shown, s + name);
			commas[depth] = 0;
		} else if (s[i] == '}' || s[i] == ']') {
			if (--depth < 0)
				return BL_OK;
		} else if (s[i] == ',' && depth) {
			size_t entries = ++commas[depth] + 1;
			if (depth == 1 && entries > TENSORS_MAX + 1)
				return bl_fail(err, BL_INVALID, "%s: lists more than %d tensors", label, TENSORS_MAX);
			if (depth == 2 && entries == FIELDS_MAX + 1)
				wide++;
			if (depth == 2 && (wide > 1 || entries > METADATA_MAX))
				return bl_fail(err, BL_INVALID, "%s: %.*s: has %s", label, shown, s + name,
					       entries > METADATA_MAX ? "more than 100000 entries" : "fields besides dtype, shape and data_offsets");
			if (depth == 3 && entries > BL_RANK_MAX)
				return bl_fail(err, BL_INVALID, "%s: %.*s: a list has more than %d numbers", label, shown, s + name, BL_RANK_MAX);
		}
	}
	return BL_OK;
}

struct parse_call { struct bl_st *st; const uint8_t *data; uint64_t bytes; const char *label; };

static enum bl_status parse_guarded(void *ctx, struct bl_err *err)
{
	struct parse_call *c = ctx;
	struct bl_st *st = c->st;
	const char *label = c->label;
	uint64_t header = 0;
	cJSON *root = NULL;

	if (c->bytes < 8)
		return bl_fail(err, BL_INVALID, "%s: has %" PRIu64 " bytes, too short for a safetensors file", label, c->bytes);
	for (int i = 0; i < 8; i++)
		header |= (uint64_t)c->data[i] << 8 * i;
	if (header > HEADER_MAX)
		return bl_fail(err, BL_INVALID, "%s: header length %" PRIu64 " exceeds %u", label, header, HEADER_MAX);
	if (header < 2 || header > c->bytes - 8)
		return bl_fail(err, BL_INVALID, "%s: header length %" PRIu64 " does not fit the file of %" PRIu64 " bytes", label, header, c->bytes);
	if (c->data[8] != '{')
		return bl_fail(err, BL_INVALID, "%s: the header does not begin with {", label);
	if (check_outline((const char *)c->data + 8, header, label, err) ||
	    bl_json_parse(&root, (const char *)c->data + 8, header, 20u * TENSORS_MAX, label, err))
		return err->status;
	st->header_bytes = header;
	enum bl_status s = collect(st, root, c->data, 8 + header, c->bytes - 8 - header, label, err);
	cJSON_Delete(root);
	if (s)
		return s;
	struct bl_names *names = bl_xalloc(1, sizeof *names);
	bl_names_init(names, (size_t)st->n_tensors);
	st->names = names;
	for (int64_t i = 0; i < st->n_tensors; i++)
		if (bl_names_add(names, st->tensors[i].name) < 0)
			return bl_fail(err, BL_INVALID, "%s: %s: is listed twice", label, st->tensors[i].name);
	return BL_OK;
}

enum bl_status bl_st_parse(struct bl_st *st, const void *data, uint64_t bytes, const char *label, struct bl_err *err)
{
	struct bl_st made = {.map.fd = -1};
	struct parse_call call = {&made, data, bytes, label};
	enum bl_status s = bl_guard_run(parse_guarded, &call, err);

	if (s)
		bl_st_close(&made);
	else
		*st = made;
	return s;
}

enum bl_status bl_st_open(struct bl_st *st, const char *path, struct bl_err *err)
{
	struct bl_map map;

	if (bl_map_open(&map, path, err))
		return err->status;
	if (bl_st_parse(st, map.data, map.bytes, path, err)) {
		bl_map_close(&map);
		return err->status;
	}
	st->map = map;
	return BL_OK;
}

void bl_st_close(struct bl_st *st)
{
	for (int64_t i = 0; i < st->n_tensors; i++)
		bl_free((char *)(uintptr_t)st->tensors[i].name);
	bl_free(st->tensors);
	bl_free(st->format);
	if (st->names)
		bl_names_free(st->names);
	bl_free(st->names);
	if (st->map.path)
		bl_map_close(&st->map);
	*st = (struct bl_st){.map.fd = -1};
}

const struct bl_tensor *bl_st_find(const struct bl_st *st, const char *name)
{
	int64_t i = st->names ? bl_names_find(st->names, name) : -1;

	return i < 0 ? NULL : &st->tensors[i];
}

static int official_order(const void *a, const void *b)
{
	const struct bl_tensor *x = a, *y = b;

	return x->dtype != y->dtype ? (x->dtype > y->dtype ? -1 : 1) : strcmp(x->name, y->name);
}

uint64_t bl_st_layout(struct bl_tensor *t, int64_t n, struct bl_str *out)
{
	uint64_t at = 0;
	struct bl_str json = {0};
	uint8_t length[8];

	qsort(t, (size_t)n, sizeof *t, official_order);
	bl_str_add(&json, "{\"__metadata__\":{\"format\":\"pt\"}");
	for (int64_t i = 0; i < n; i++) {
		bl_str_addc(&json, ',');
		bl_str_add_json(&json, t[i].name);
		bl_str_addf(&json, ":{\"dtype\":\"%s\",\"shape\":[", bl_dtype_name(t[i].dtype));
		for (int d = 0; d < t[i].rank; d++)
			bl_str_addf(&json, "%s%" PRId64, d ? "," : "", t[i].shape[d]);
		bl_str_addf(&json, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t[i].bytes);
		t[i].offset = at;
		at += t[i].bytes;
	}
	bl_str_addc(&json, '}');
	while (json.len % 8)
		bl_str_addc(&json, ' ');
	for (int i = 0; i < 8; i++)
		length[i] = (uint8_t)((uint64_t)json.len >> 8 * i);
	bl_str_addn(out, length, 8);
	bl_str_addn(out, json.s, json.len);
	for (int64_t i = 0; i < n; i++)
		t[i].offset += 8 + json.len;
	at += 8 + json.len;
	bl_str_free(&json);
	return at;
}
