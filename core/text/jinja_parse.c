/* SPDX-License-Identifier: Apache-2.0
 * Statements into a tree; expressions are in jinja_expr.c. Tags that are not known are refused here. */
#include <string.h>

#include "core/base/mem.h"
#include "core/text/jinja_parser.h"

static node *body(struct parser *p, const char *const *ends, int n_ends);

static const char *const end_if[] = {"elif", "else", "endif"}, *const end_else[] = {"endif"}, *const end_for[] = {"else", "endfor"},
			*const end_for_else[] = {"endfor"},
			 *const end_set[] = {"endset"}, *const end_macro[] = {"endmacro"};

/* The name of the tag that ended a body. */
static bool ended_by(struct parser *p, const char *tag)
{
	return !p->err->status && jp_take_name(p, tag);
}

static node *if_tag(struct parser *p)
{
	node *n = jp_make(p, JN_IF);

	if (!n || !jp_deeper(p))
		return NULL;
	n->a = jp_expressions(p);
	if (!jp_need_end(p))
		return NULL;
	n->b = body(p, end_if, 3);
	if (ended_by(p, "elif")) {
		n->c = if_tag(p);
	} else if (ended_by(p, "else")) {
		if (jp_need_end(p))
			n->c = body(p, end_else, 1);
		if (ended_by(p, "endif"))
			jp_need_end(p);
	} else if (ended_by(p, "endif")) {
		jp_need_end(p);
	}
	p->depth--;
	return p->err->status ? NULL : n;
}

/* a, b (in brackets or not): names as children */
static node *targets(struct parser *p)
{
	node *t = jp_make(p, JN_TUPLE), **tail = t ? &t->first : NULL;
	bool open = jp_take_op(p, "(");

	do {
		node *n = t ? jp_make(p, JN_NAME) : NULL;
		if (!n)
			return NULL;
		n->name = jp_name(p);
		jp_child(t, &tail, n);
	} while (!p->err->status && jp_take_op(p, ","));
	if (open)
		jp_need_op(p, ")");
	return p->err->status ? NULL : t;
}

static node *for_tag(struct parser *p)
{
	node *n = jp_make(p, JN_FOR);

	if (!n || !jp_deeper(p))
		return NULL;
	n->a = targets(p);
	if (!p->err->status && !jp_take_name(p, "in"))
		return jp_expected(p, "\"in\"");
	n->b = p->err->status ? NULL : jp_either(p);
	if (!p->err->status && jp_take_name(p, "if"))
		n->d = jp_expression(p);
	if (jp_is_name(p, "recursive"))
		return jp_unsupported(p, "a recursive loop", "");
	if (!jp_need_end(p))
		return NULL;
	p->loops++;
	n->first = body(p, end_for, 2);
	p->loops--;
	if (ended_by(p, "else") && jp_need_end(p))
		n->c = body(p, end_for_else, 1);
	if (ended_by(p, "endfor"))
		jp_need_end(p);
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *set_tag(struct parser *p)
{
	node *n = jp_make(p, JN_SET);

	if (!n)
		return NULL;
	n->a = targets(p);
	if (!n->a)
		return NULL;
	if (n->a->n == 1 && jp_take_op(p, ".")) {
		n->name = jp_name(p); /* of a namespace */
	} else if (jp_is_op(p, "|")) {
		return jp_unsupported(p, "a filter on a block", "");
	}
	if (!p->err->status && jp_now(p)->kind == JJ_BLOCK_END && !n->name && n->a->n == 1) {
		p->at++;
		n->kind = JN_SET_BLOCK;
		n->b = body(p, end_set, 1);
		if (ended_by(p, "endset"))
			jp_need_end(p);
		return p->err->status ? NULL : n;
	}
	if (jp_need_op(p, "="))
		n->b = jp_expressions(p);
	jp_need_end(p);
	return p->err->status ? NULL : n;
}

static node *macro_tag(struct parser *p)
{
	node *n = jp_make(p, JN_MACRO), **tail = n ? &n->first : NULL;

	if (!n || !jp_deeper(p))
		return NULL;
	n->name = jp_name(p);
	jp_need_op(p, "(");
	while (!p->err->status && !jp_take_op(p, ")")) {
		if (n->n && (!jp_need_op(p, ",") || jp_take_op(p, ")")))
			break;
		node *k = jp_make(p, JN_KEYWORD);
		if (!k)
			return NULL;
		k->name = jp_name(p);
		if (jp_take_op(p, "="))
			k->a = jp_expression(p);
		jp_child(n, &tail, k);
	}
	if (!jp_need_end(p))
		return NULL;
	int loops = p->loops;
	p->loops = 0;
	n->b = body(p, end_macro, 1);
	p->loops = loops;
	if (ended_by(p, "endmacro"))
		jp_need_end(p);
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *statement(struct parser *p)
{
	if (jp_take_name(p, "if"))
		return if_tag(p);
	if (jp_take_name(p, "for"))
		return for_tag(p);
	if (jp_take_name(p, "set"))
		return set_tag(p);
	if (jp_take_name(p, "macro"))
		return macro_tag(p);
	if (jp_take_name(p, "generation") || jp_take_name(p, "endgeneration")) { /* marks what the assistant said; nothing is shown */
		node *n = jp_make(p, JN_BODY);
		return jp_need_end(p) ? n : NULL;
	}
	bool leave = jp_is_name(p, "break");
	if (p->loops && (jp_take_name(p, "break") || jp_take_name(p, "continue"))) {
		node *n = jp_make(p, leave ? JN_BREAK : JN_CONTINUE);
		return jp_need_end(p) ? n : NULL;
	}
	if (jp_now(p)->kind != JJ_NAME)
		return jp_expected(p, "the name of a tag");
	return jp_unsupported(p, "the tag", jp_copy(p, jp_now(p)));
}

/* Up to a tag of that name (its name comes next), or, without names, to the end. */
static node *body(struct parser *p, const char *const *ends, int n_ends)
{
	node *b = jp_make(p, JN_BODY), **tail = b ? &b->first : NULL, *n;

	while (b && !p->err->status) {
		struct jj_token *t = jp_now(p);
		if (t->kind == JJ_EOF) {
			if (n_ends)
				return jp_expected(p, ends[n_ends - 1]);
			break;
		}
		p->at++;
		if (t->kind == JJ_DATA) {
			n = jp_constant(p, JJ_STR(t->s, t->n));
			if (n)
				n->kind = JN_DATA;
		} else if (t->kind == JJ_VAR_BEGIN) {
			n = jp_make(p, JN_OUTPUT);
			if (n)
				n->a = jp_expressions(p);
			if (!p->err->status && jp_now(p)->kind != JJ_VAR_END)
				return jp_expected(p, "the end of the expression");
			p->at++;
		} else {
			for (int i = 0; i < n_ends; i++)
				if (jp_is_name(p, ends[i]))
					return b;
			n = statement(p);
		}
		jp_child(b, &tail, n);
	}
	return p->err->status ? NULL : b;
}

void jj_template_free(struct jj_template *t)
{
	if (t)
		jj_arena_free(&t->arena);
}

enum bl_status jj_parse(struct jj_template *t, const char *source, size_t n, struct bl_err *err)
{
	struct parser p = {.arena = &t->arena, .err = err};
	size_t used = 0;
	char *text;

	*t = (struct jj_template){.arena = {.max = 64u << 20}};
	if (n > JJ_SOURCE_MAX || (n && memchr(source, '\0', n)) || !bl_utf8_valid(source, n))
		return bl_fail(err, BL_INVALID, n > JJ_SOURCE_MAX ? "has %zu bytes, at most %u are allowed" : "is not UTF-8 text (%zu bytes, %u at most)", n,
				JJ_SOURCE_MAX);
	text = jj_alloc(&t->arena, n + 1, 1);
	for (size_t i = 0; text && i < n; i++) /* newlines become one character, and the last one goes */
		if (source[i] != '\r')
			text[used++] = source[i];
		else if (i + 1 == n || source[i + 1] != '\n')
			text[used++] = '\n';
	if (used && text[used - 1] == '\n')
		used--;
	if (text && jj_lex(&p.t, &t->arena, text, used, err) == BL_OK)
		t->body = body(&p, NULL, 0);
	bl_free(p.t.t);
	if (!err->status && !t->body)
		bl_fail(err, BL_INVALID, "the template is too large");
	if (err->status)
		jj_arena_free(&t->arena);
	return err->status;
}
