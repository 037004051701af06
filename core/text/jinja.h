/* SPDX-License-Identifier: Apache-2.0
 * The part of Jinja2 that chat templates are written in, as transformers sets it up (trim_blocks, lstrip_blocks, immutable values, tojson without
 * ASCII).
 * jinja_lex.c and jinja_parse.c make a tree of the text, jinja_run.c walks it, jinja_value.c and jinja_filter.c know the values. What is not known is
 * refused with its line while parsing where that is possible. Steps, memory, depth and output of a run are bounded. */
#ifndef BL_TEXT_JINJA_H
#define BL_TEXT_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/str.h"

#define JJ_SOURCE_MAX (1u << 20)
#define JJ_DEPTH_MAX  100         /* of the tree */
#define JJ_CALLS_MAX  64          /* macros in macros */
#define JJ_NEST_MAX   1000        /* values and statements in each other while it runs */
#define JJ_CHAIN_MAX  300         /* a + b + c … */
#define JJ_STEPS_MAX  5000000
#define JJ_MEMORY_MAX (256 << 20)
#define JJ_OUTPUT_MAX (64 << 20)

/* ---- memory that is freed as a whole ---- */
struct jj_arena { struct jj_block *blocks; size_t used, cap, total, max; };
void *jj_alloc(struct jj_arena *a, size_t n, size_t size); /* zeroed; NULL beyond max */
void jj_arena_free(struct jj_arena *a);

/* ---- tokens ---- */
enum jj_kind {
	JJ_DATA, JJ_VAR_BEGIN, JJ_VAR_END, JJ_BLOCK_BEGIN, JJ_BLOCK_END, JJ_NAME, JJ_STRING, JJ_INT, JJ_FLOAT, JJ_OP, JJ_EOF
};
struct jj_token { enum jj_kind kind; int line; const char *s; size_t n; int64_t i; double d; };
struct jj_tokens { struct jj_token *t; size_t n, cap; };
enum bl_status jj_lex(struct jj_tokens *out, struct jj_arena *a, const char *source, size_t n, struct bl_err *err);

/* ---- tree ---- */
enum jj_node_kind {
	JN_DATA, JN_OUTPUT, JN_IF, JN_FOR, JN_SET, JN_SET_BLOCK, JN_MACRO, JN_BREAK, JN_CONTINUE, JN_BODY, /* statements */
	JN_CONST, JN_NAME, JN_LIST, JN_TUPLE, JN_DICT, JN_ATTR, JN_ITEM, JN_SLICE, JN_CALL, JN_FILTER, JN_TEST, JN_NOT, JN_NEG, JN_AND, JN_OR, JN_COMPARE,
	JN_BINARY, JN_CONDITION, JN_KEYWORD
};
struct jj_value;
struct jj_node {
	enum jj_node_kind kind;
	int line;
	char op;                  /* of BINARY: + - * / % ~ and d (//); of TEST: n for "is not" */
	const char *name;         /* of NAME, ATTR, FILTER, TEST, MACRO, KEYWORD */
	struct jj_value *value;   /* of CONST, DATA */
	struct jj_node *a, *b, *c, *d;
	struct jj_node *first, *next; /* children, and the next child of the parent */
	int n;
};
struct jj_template { struct jj_arena arena; struct jj_node *body; };
enum bl_status jj_parse(struct jj_template *t, const char *source, size_t n, struct bl_err *err);
void jj_template_free(struct jj_template *t);
bool jj_known_filter(const char *name);
bool jj_known_test(const char *name);

/* ---- values ---- */
enum jj_type { JT_UNDEFINED, JT_NONE, JT_BOOL, JT_INT, JT_FLOAT, JT_STRING, JT_LIST, JT_DICT, JT_NAMESPACE, JT_MACRO, JT_FUNCTION, JT_LOOP };
struct jj_value {
	enum jj_type type;
	union {
		bool b; int64_t i; double d;
		struct { const char *s; size_t n; };
		struct jj_list *list;
		struct jj_dict *dict;       /* DICT, NAMESPACE */
		const struct jj_node *macro;
		struct jj_loop *loop;
		const char *name;           /* UNDEFINED, FUNCTION */
	};
};
struct jj_list { struct jj_value *v; size_t n; };
struct jj_pair { struct jj_value key, value; };
struct jj_dict { struct jj_pair *p; size_t n, cap; };
struct jj_loop { const struct jj_list *items; size_t at; };
struct jj_args { struct jj_value *v; size_t n; struct jj_pair *named; size_t n_named; };

struct jj_var { const char *name; struct jj_value value; };
struct jj_frame { struct jj_frame *up; struct jj_var *vars; size_t n, cap; };
struct jj_run {
	struct jj_arena arena;
	struct bl_str *out;
	size_t out_start, steps;
	struct jj_frame *top, *frame; /* the template's own, the current one */
	int depth, calls, nest, line;
	enum { JJ_GO, JJ_LEAVE, JJ_AGAIN } flow; /* break and continue on their way out */
	struct bl_err *err;
};

#define JJ_UNDEFINED(what) ((struct jj_value){.type = JT_UNDEFINED, .name = (what)})
#define JJ_NONE ((struct jj_value){.type = JT_NONE})
#define JJ_BOOL(v) ((struct jj_value){.type = JT_BOOL, .b = (v)})
#define JJ_INT(v) ((struct jj_value){.type = JT_INT, .i = (v)})
#define JJ_STR(text, len) ((struct jj_value){.type = JT_STRING, .s = (text), .n = (len)})

/* All of these record an error in r->err and return something harmless when they cannot. */
struct jj_value jj_fail(struct jj_run *r, enum bl_status s, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool jj_spend(struct jj_run *r, size_t bytes); /* false: no steps left */
struct jj_value jj_string(struct jj_run *r, const char *s, size_t n); /* a copy */
struct jj_list *jj_list_new(struct jj_run *r, size_t n);
struct jj_dict *jj_dict_new(struct jj_run *r);
void jj_dict_set(struct jj_run *r, struct jj_dict *d, struct jj_value key, struct jj_value value);
const struct jj_value *jj_dict_get(const struct jj_dict *d, const char *key, size_t n);
void jj_frame_set(struct jj_run *r, struct jj_frame *f, const char *name, struct jj_value v);
bool jj_true(struct jj_value v);
bool jj_equal(struct jj_run *r, struct jj_value a, struct jj_value b);
int jj_compare(struct jj_run *r, struct jj_value a, struct jj_value b); /* < 0, 0, > 0 */
struct jj_value jj_in(struct jj_run *r, struct jj_value needle, struct jj_value hay);
const char *jj_type_name(struct jj_value v);
/* Appends what {{ v }} shows. */
void jj_print(struct jj_run *r, struct bl_str *out, struct jj_value v);
struct jj_value jj_to_string(struct jj_run *r, struct jj_value v);
struct jj_list *jj_iterate(struct jj_run *r, struct jj_value v); /* characters, keys, items */
size_t jj_chars(struct jj_value s); /* of a string */
struct jj_value jj_attr(struct jj_run *r, struct jj_value v, const char *name);
struct jj_value jj_item(struct jj_run *r, struct jj_value v, struct jj_value key);
struct jj_value jj_slice(struct jj_run *r, struct jj_value v, struct jj_value from, struct jj_value to, struct jj_value step);
struct jj_value jj_binary(struct jj_run *r, char op, struct jj_value a, struct jj_value b);
struct jj_value jj_method(struct jj_run *r, struct jj_value v, const char *name, const struct jj_args *args);
struct jj_value jj_filter(struct jj_run *r, const char *name, struct jj_value v, const struct jj_args *args);
bool jj_test(struct jj_run *r, const char *name, struct jj_value v, const struct jj_args *args);
struct jj_value jj_function(struct jj_run *r, const char *name, const struct jj_args *args);
const struct jj_value *jj_arg(const struct jj_args *a, size_t at, const char *name); /* NULL: not given */

/* Runs with the variables of r->top; appends to r->out. */
enum bl_status jj_render(struct jj_run *r, const struct jj_template *t);

#endif
