/* SPDX-License-Identifier: Apache-2.0
 * YAML as a small tree, read through libyaml's events with bounds: 1 MB, depth 32, 100,000 nodes, 1000 keys in a map; anchors and
 * aliases are refused. */
#ifndef BL_PLAN_YAML_TREE_H
#define BL_PLAN_YAML_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum bl_yaml_kind { BL_YAML_SCALAR, BL_YAML_LIST, BL_YAML_MAP };
struct bl_yaml {
	enum bl_yaml_kind kind;
	char *text;                      /* scalar */
	int plain;                       /* scalar without quotes: may be null, true, a number */
	char *key;                       /* within a map */
	int line;
	struct bl_yaml *child, *next, *last_child;
};
enum bl_status bl_yaml_parse(struct bl_yaml **out, const char *text, size_t n, const char *label, struct bl_err *err);
void bl_yaml_free(struct bl_yaml *y);
bool bl_yaml_is_null(const struct bl_yaml *y); /* null, ~ or nothing, without quotes */
/* A scalar as a number or truth value in YAML 1.1's spellings (the recipes' writers use that); false when it is none. */
bool bl_yaml_int(const struct bl_yaml *y, int64_t *out);
bool bl_yaml_bool(const struct bl_yaml *y, bool *out);
const struct bl_yaml *bl_yaml_get(const struct bl_yaml *map, const char *key); /* NULL: none or null */

#endif
