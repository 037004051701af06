/* SPDX-License-Identifier: Apache-2.0
 * YAML as a small tree. */
#include "core/plan/yaml_tree.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/base/mem.h"
#include "core/base/str.h"

#define BYTES_MAX (1u << 20)
#define DEPTH_MAX 32
#define NODES_MAX 100000
#define KEYS_MAX 1000 /* of one map: looking for duplicates is quadratic */

struct builder { struct bl_yaml *stack[DEPTH_MAX]; int depth; struct bl_yaml *root; char *key; int n; const char *label; };

void bl_yaml_free(struct bl_yaml *y)
{
	while (y) {
		struct bl_yaml *next = y->next;
		bl_yaml_free(y->child); /* depth is bounded by the reader */
		bl_free(y->text);
		bl_free(y->key);
		bl_free(y);
		y = next;
	}
}

bool bl_yaml_is_null(const struct bl_yaml *y)
{
	return y->kind == BL_YAML_SCALAR && y->plain && (bl_ieq(y->text, "null") || !strcmp(y->text, "~") || !*y->text);
}

bool bl_yaml_int(const struct bl_yaml *y, int64_t *out)
{
	char *end;

	if (y->kind != BL_YAML_SCALAR || !*y->text || strlen(y->text) > 18 || isspace((unsigned char)*y->text))
		return false;
	long long v = strtoll(y->text, &end, 10);
	if (*end || end == y->text)
		return false;
	*out = v;
	return true;
}

bool bl_yaml_bool(const struct bl_yaml *y, bool *out)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};

	for (size_t i = 0; y->kind == BL_YAML_SCALAR && i < sizeof words / sizeof words[0]; i++)
		if (bl_ieq(y->text, words[i])) {
			*out = i % 2;
			return true;
		}
	return false;
}

const struct bl_yaml *bl_yaml_get(const struct bl_yaml *map, const char *key)
{
	if (!map || map->kind != BL_YAML_MAP)
		return NULL;
	for (const struct bl_yaml *c = map->child; c; c = c->next)
		if (!strcmp(c->key, key))
			return bl_yaml_is_null(c) ? NULL : c;
	return NULL;
}

static enum bl_status attach(struct builder *b, struct bl_yaml *y, struct bl_err *err)
{
	struct bl_yaml *parent = b->depth ? b->stack[b->depth - 1] : NULL;

	if (!parent) {
		if (b->root) {
			bl_fail(err, BL_INVALID, "%s: line %d: more than one document", b->label, y->line);
			bl_yaml_free(y);
			return err->status;
		}
		b->root = y;
		return BL_OK;
	}
	if (parent->kind == BL_YAML_MAP) {
		int n = 0;
		for (const struct bl_yaml *c = parent->child; c; c = c->next, n++)
			if (n >= KEYS_MAX || !strcmp(c->key, b->key)) {
				if (n >= KEYS_MAX)
					bl_fail(err, BL_INVALID, "%s: line %d: more than %d keys in one map", b->label, y->line, KEYS_MAX);
				bl_fail(err, BL_INVALID, "%s: line %d: key %.100s is there twice", b->label, y->line, b->key);
				bl_yaml_free(y);
				return err->status;
			}
		y->key = b->key;
		b->key = NULL;
	}
	if (parent->last_child)
		parent->last_child->next = y;
	else
		parent->child = y;
	parent->last_child = y;
	return BL_OK;
}

static enum bl_status node(struct builder *b, enum bl_yaml_kind kind, const yaml_event_t *e, struct bl_err *err)
{
	int line = (int)e->start_mark.line + 1;
	struct bl_yaml *parent = b->depth ? b->stack[b->depth - 1] : NULL;

	if (++b->n > NODES_MAX)
		return bl_fail(err, BL_INVALID, "%s: line %d: more than %d values", b->label, line, NODES_MAX);
	if (parent && parent->kind == BL_YAML_MAP && !b->key) {
		if (kind != BL_YAML_SCALAR)
			return bl_fail(err, BL_INVALID, "%s: line %d: keys must be plain text", b->label, line);
		b->key = bl_xstrndup((const char *)e->data.scalar.value, e->data.scalar.length);
		return BL_OK;
	}
	struct bl_yaml *y = bl_xalloc(1, sizeof *y);
	y->kind = kind;
	y->line = line;
	if (kind == BL_YAML_SCALAR) {
		y->text = bl_xstrndup((const char *)e->data.scalar.value, e->data.scalar.length);
		y->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	}
	if (attach(b, y, err))
		return err->status;
	if (kind != BL_YAML_SCALAR) {
		if (b->depth == DEPTH_MAX)
			return bl_fail(err, BL_INVALID, "%s: line %d: nested deeper than %d", b->label, line, DEPTH_MAX);
		b->stack[b->depth++] = y;
	}
	return BL_OK;
}

static enum bl_status on_event(struct builder *b, const yaml_event_t *e, struct bl_err *err)
{
	const yaml_char_t *anchor = e->type == YAML_SCALAR_EVENT ? e->data.scalar.anchor : e->type == YAML_SEQUENCE_START_EVENT ? e->data.sequence_start.anchor :
				    e->type == YAML_MAPPING_START_EVENT ? e->data.mapping_start.anchor : NULL;

	if (e->type == YAML_ALIAS_EVENT || anchor)
		return bl_fail(err, BL_INVALID, "%s: line %d: anchors and aliases are not accepted", b->label, (int)e->start_mark.line + 1);
	switch (e->type) {
	case YAML_SCALAR_EVENT: return node(b, BL_YAML_SCALAR, e, err);
	case YAML_SEQUENCE_START_EVENT: return node(b, BL_YAML_LIST, e, err);
	case YAML_MAPPING_START_EVENT: return node(b, BL_YAML_MAP, e, err);
	case YAML_SEQUENCE_END_EVENT: case YAML_MAPPING_END_EVENT: b->depth--; return BL_OK;
	default: return BL_OK;
	}
}

enum bl_status bl_yaml_parse(struct bl_yaml **out, const char *text, size_t n, const char *label, struct bl_err *err)
{
	struct builder b = {.label = label};
	yaml_parser_t parser;
	yaml_event_t e;
	bool done = false;

	if (n > BYTES_MAX)
		return bl_fail(err, BL_INVALID, "%s: has %zu bytes, more than %u", label, n, BYTES_MAX);
	if (!yaml_parser_initialize(&parser))
		return bl_fail(err, BL_NO_MEMORY, "%s: not enough memory", label);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
	while (!done && !err->status) {
		if (!yaml_parser_parse(&parser, &e)) {
			bl_fail(err, BL_INVALID, "%s: line %zu: %s", label, (size_t)parser.problem_mark.line + 1, parser.problem ? parser.problem : "not YAML");
			break;
		}
		done = e.type == YAML_STREAM_END_EVENT;
		on_event(&b, &e, err);
		yaml_event_delete(&e);
	}
	yaml_parser_delete(&parser);
	bl_free(b.key);
	if (!err->status && !b.root)
		bl_fail(err, BL_INVALID, "%s: is empty", label);
	if (err->status)
		bl_yaml_free(b.root);
	else
		*out = b.root;
	return err->status;
}
