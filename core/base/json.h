/* SPDX-License-Identifier: Apache-2.0
 * JSON through cJSON, behind bounds: before cJSON sees the text, one pass checks UTF-8, nesting (<= 64), the number of
 * values (<= max_values) and that it is one object with nothing behind it; duplicate keys inside any object are
 * refused by name. Getters name file and field in their error
 * ("config.json: hidden_size: must be an integer in 1 .. 1048576, is -3"). */
#ifndef BL_BASE_JSON_H
#define BL_BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/str.h"

/* file: only for messages. *out is freed with cJSON_Delete. */
enum bl_status bl_json_parse(cJSON **out, const char *text, size_t n, size_t max_values, const char *file,
			     struct bl_err *err);
enum bl_status bl_json_load(cJSON **out, const char *path, size_t max_bytes, size_t max_values, struct bl_err *err);

/* Typed getters. A missing or null key gives `fallback` when it is allowed, else BL_INVALID. */
enum bl_status bl_json_int(const cJSON *o, const char *key, int64_t min, int64_t max, bool required, int64_t *out,
			   const char *file, struct bl_err *err);
enum bl_status bl_json_num(const cJSON *o, const char *key, double min, double max, bool required, double *out,
			   const char *file, struct bl_err *err);
enum bl_status bl_json_bool(const cJSON *o, const char *key, bool required, bool *out, const char *file,
			    struct bl_err *err);
/* Borrowed string, at most max_bytes long, no control characters. */
enum bl_status bl_json_str(const cJSON *o, const char *key, size_t max_bytes, bool required, const char **out,
			   const char *file, struct bl_err *err);
bool bl_json_is_null_or_missing(const cJSON *o, const char *key);

/* Deterministic printing: indent spaces (0 = compact), keys in stored order or sorted; numbers as shortest round trip,
 * integers without exponent; whole numbers that were read as 16.0 stay 16.0. Appends to b. */
void bl_json_print(struct bl_str *b, const cJSON *v, int indent, bool sort_keys);
/* Exact integers above 2^53 are not representable in cJSON; use this for byte counts when building output. */
cJSON *bl_json_add_int(cJSON *o, const char *key, int64_t v);

#endif
