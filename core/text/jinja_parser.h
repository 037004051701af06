/* SPDX-License-Identifier: Apache-2.0
 * What the two halves of the parser share: expressions (jinja_expr.c) and statements (jinja_parse.c). */
#ifndef BL_TEXT_JINJA_PARSER_H
#define BL_TEXT_JINJA_PARSER_H

#include "core/text/jinja.h"

struct parser {
	struct jj_tokens t;
	size_t at;
	int depth, loops;
	struct jj_arena *arena;
	struct bl_err *err;
};
typedef struct jj_node node;

struct jj_token *jp_now(struct parser *p);
void *jp_unsupported(struct parser *p, const char *what, const char *name);
void *jp_expected(struct parser *p, const char *what);
node *jp_make(struct parser *p, enum jj_node_kind kind);
bool jp_is_op(struct parser *p, const char *op);
bool jp_is_name(struct parser *p, const char *name);
bool jp_take_op(struct parser *p, const char *op);
bool jp_take_name(struct parser *p, const char *name);
bool jp_need_op(struct parser *p, const char *op);
bool jp_need_end(struct parser *p);
const char *jp_copy(struct parser *p, const struct jj_token *t);
const char *jp_name(struct parser *p);
void jp_child(node *parent, node ***tail, node *c);
node *jp_constant(struct parser *p, struct jj_value v);
bool jp_deeper(struct parser *p);
node *jp_expression(struct parser *p);
node *jp_expressions(struct parser *p);
node *jp_either(struct parser *p);

#endif
