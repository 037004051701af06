/* SPDX-License-Identifier: Apache-2.0
 * Tokens into a tree: statements and expressions with the precedence of Jinja2. Tags, filters and tests that are not known are refused here. */
#include "core/text/jinja.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

struct parser {
	struct jj_tokens t;
	size_t at;
	int depth, loops;
	struct jj_arena *arena;
	struct bl_err *err;
};
typedef struct jj_node node;

static node *expression(struct parser *p);
static node *unary(struct parser *p, bool filters);
static node *body(struct parser *p, const char *const *ends, int n_ends);

static struct jj_token *now(struct parser *p) { return &p->t.t[p->at]; }

static void *unsupported(struct parser *p, const char *what, const char *name)
{
	bl_fail(p->err, BL_UNSUPPORTED, "line %d: %s%s%.60s%s is not supported", now(p)->line, what, *name ? " \"" : "", name, *name ? "\"" : "");
	return NULL;
}

static void *expected(struct parser *p, const char *what)
{
	const struct jj_token *t = now(p);
	int n = t->n < 40 ? (int)t->n : 40;

	bl_fail(p->err, BL_INVALID, "line %d: %s is expected, not %s%.*s%s", t->line, what,
		t->kind == JJ_EOF ? "the end" : t->kind == JJ_BLOCK_END || t->kind == JJ_VAR_END ? "the end of the tag" : "\"", n, t->n ? t->s : "",
		t->kind == JJ_EOF || t->kind == JJ_BLOCK_END || t->kind == JJ_VAR_END ? "" : "\"");
	return NULL;
}

static node *make(struct parser *p, enum jj_node_kind kind)
{
	node *n = jj_alloc(p->arena, 1, sizeof *n);

	if (!n) {
		bl_fail(p->err, BL_INVALID, "line %d: the template is too large", now(p)->line);
		return NULL;
	}
	n->kind = kind;
	n->line = now(p)->line;
	return n;
}

static bool is_op(struct parser *p, const char *op)
{
	const struct jj_token *t = now(p);

	return t->kind == JJ_OP && t->n == strlen(op) && !memcmp(t->s, op, t->n);
}

static bool is_name(struct parser *p, const char *name)
{
	const struct jj_token *t = now(p);

	return t->kind == JJ_NAME && t->n == strlen(name) && !memcmp(t->s, name, t->n);
}

static bool take_op(struct parser *p, const char *op) { return is_op(p, op) && ++p->at; }
static bool take_name(struct parser *p, const char *name) { return is_name(p, name) && ++p->at; }

static bool need_op(struct parser *p, const char *op)
{
	if (p->err->status)
		return false;
	char text[8];
	snprintf(text, sizeof text, "\"%s\"", op);
	return take_op(p, op) || expected(p, text);
}

static bool need_end(struct parser *p)
{
	if (p->err->status)
		return false;
	if (now(p)->kind != JJ_BLOCK_END)
		return expected(p, "the end of the tag");
	p->at++;
	return true;
}

static const char *copy(struct parser *p, const struct jj_token *t)
{
	char *s = jj_alloc(p->arena, t->n + 1, 1);

	if (s)
		memcpy(s, t->s, t->n);
	return s ? s : "";
}

static const char *name(struct parser *p)
{
	if (p->err->status)
		return NULL;
	if (now(p)->kind != JJ_NAME)
		return expected(p, "a name");
	return copy(p, &p->t.t[p->at++]);
}

static void child(node *parent, node ***tail, node *c)
{
	if (!c)
		return;
	**tail = c;
	*tail = &c->next;
	parent->n++;
}

static node *constant(struct parser *p, struct jj_value v)
{
	node *n = make(p, JN_CONST);

	if (n && (n->value = jj_alloc(p->arena, 1, sizeof v)))
		*n->value = v;
	else
		bl_fail(p->err, BL_INVALID, "the template is too large");
	return p->err->status ? NULL : n;
}

/* ---- expressions ---- */

static bool deeper(struct parser *p)
{
	if (++p->depth <= JJ_DEPTH_MAX)
		return true;
	bl_fail(p->err, BL_INVALID, "line %d: nested deeper than %d", now(p)->line, JJ_DEPTH_MAX);
	return false;
}

/* Values up to `close`, which is taken; keywords only where a call is. A keyword is JN_KEYWORD with its value in a. */
static node *list_until(struct parser *p, node *parent, node **tail, const char *close, bool keywords)
{
	while (!p->err->status && !take_op(p, close)) {
		if (parent->n && tail != &parent->first && !need_op(p, ","))
			return NULL;
		if (take_op(p, close))
			break;
		const struct jj_token *second = &p->t.t[p->at + (now(p)->kind != JJ_EOF)];
		if (keywords && now(p)->kind == JJ_NAME && second->kind == JJ_OP && second->n == 1 && *second->s == '=') {
			node *k = make(p, JN_KEYWORD);
			if (!k)
				return NULL;
			k->name = name(p);
			p->at++;
			k->a = expression(p);
			child(parent, &tail, k);
		} else if (is_op(p, "*") || is_op(p, "**")) {
			return unsupported(p, "unpacking of arguments", "");
		} else {
			child(parent, &tail, expression(p));
		}
	}
	return p->err->status ? NULL : parent;
}

static node *dict(struct parser *p)
{
	node *d = make(p, JN_DICT), **tail = d ? &d->first : NULL;

	while (d && !p->err->status && !take_op(p, "}")) {
		if (d->n && !need_op(p, ","))
			return NULL;
		if (take_op(p, "}"))
			break;
		child(d, &tail, expression(p));
		if (need_op(p, ":"))
			child(d, &tail, expression(p));
	}
	return p->err->status ? NULL : d;
}

/* Behind "(": a value in brackets, or a tuple. */
static node *brackets(struct parser *p)
{
	node *t = make(p, JN_TUPLE), **tail = t ? &t->first : NULL;

	if (!t || take_op(p, ")"))
		return t;
	node *first = expression(p);
	if (!first || take_op(p, ")"))
		return first;
	child(t, &tail, first);
	return list_until(p, t, tail, ")", false);
}

static node *primary(struct parser *p)
{
	struct jj_token *t = now(p);
	node *n;

	if (t->kind == JJ_STRING) {
		p->at++;
		if (now(p)->kind != JJ_STRING)
			return constant(p, JJ_STR(t->s, t->n));
		return unsupported(p, "two strings without an operator", "");
	}
	if (t->kind == JJ_INT || t->kind == JJ_FLOAT) {
		p->at++;
		return constant(p, t->kind == JJ_INT ? JJ_INT(t->i) : (struct jj_value){.type = JT_FLOAT, .d = t->d});
	}
	if (t->kind == JJ_NAME) {
		if (take_name(p, "true") || take_name(p, "True"))
			return constant(p, JJ_BOOL(true));
		if (take_name(p, "false") || take_name(p, "False"))
			return constant(p, JJ_BOOL(false));
		if (take_name(p, "none") || take_name(p, "None"))
			return constant(p, JJ_NONE);
		if ((n = make(p, JN_NAME)))
			n->name = name(p);
		return p->err->status ? NULL : n;
	}
	if (take_op(p, "("))
		return brackets(p);
	if (take_op(p, "[")) {
		n = make(p, JN_LIST);
		return n ? list_until(p, n, &n->first, "]", false) : NULL;
	}
	if (take_op(p, "{"))
		return dict(p);
	return expected(p, "a value");
}

/* Behind "[": an index or a slice. */
static node *subscript(struct parser *p, node *of)
{
	node *from = NULL, *n;

	if (!is_op(p, ":"))
		from = expression(p);
	if (p->err->status)
		return NULL;
	if (!is_op(p, ":")) {
		if ((n = make(p, JN_ITEM))) {
			n->a = of;
			n->b = from;
		}
		if (is_op(p, ","))
			return unsupported(p, "a tuple as an index", "");
		return need_op(p, "]") ? n : NULL;
	}
	if (!(n = make(p, JN_SLICE)))
		return NULL;
	n->a = of;
	n->b = from;
	p->at++;
	if (!is_op(p, ":") && !is_op(p, "]"))
		n->c = expression(p);
	if (!p->err->status && take_op(p, ":") && !is_op(p, "]"))
		n->d = expression(p);
	return need_op(p, "]") ? n : NULL;
}

static node *call(struct parser *p, node *of)
{
	node *n = make(p, JN_CALL);

	if (!n)
		return NULL;
	n->a = of;
	return list_until(p, n, &n->first, ")", true);
}

static node *postfix(struct parser *p, node *n)
{
	int length = 0;

	while (n && !p->err->status) {
		if (take_op(p, ".")) {
			if (now(p)->kind == JJ_INT)
				return unsupported(p, "a number behind a point", "");
			node *a = make(p, JN_ATTR);
			if (!a)
				return NULL;
			a->a = n;
			a->name = name(p);
			n = a;
		} else if (take_op(p, "[")) {
			n = subscript(p, n);
		} else if (take_op(p, "(")) {
			n = call(p, n);
		} else {
			break;
		}
		if (++length > JJ_DEPTH_MAX)
			return expected(p, "a shorter chain");
	}
	return p->err->status ? NULL : n;
}

static node *filter(struct parser *p, node *of)
{
	node *f = make(p, JN_FILTER);

	if (!f)
		return NULL;
	f->a = of;
	f->name = name(p);
	if (f->name && !jj_known_filter(f->name))
		return unsupported(p, "the filter", f->name);
	if (take_op(p, "("))
		return list_until(p, f, &f->first, ")", true);
	return p->err->status ? NULL : f;
}

static node *test(struct parser *p, node *of)
{
	node *t = make(p, JN_TEST), **tail = t ? &t->first : NULL;

	if (!t)
		return NULL;
	t->a = of;
	t->op = take_name(p, "not") ? 'n' : 'y';
	t->name = name(p);
	if (t->name && !jj_known_test(t->name))
		return unsupported(p, "the test", t->name);
	if (take_op(p, "("))
		return list_until(p, t, tail, ")", true);
	const struct jj_token *k = now(p);
	bool starts = k->kind == JJ_STRING || k->kind == JJ_INT || k->kind == JJ_FLOAT || is_op(p, "[") || is_op(p, "{") ||
		      (k->kind == JJ_NAME && !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and") && !is_name(p, "is") && !is_name(p, "if") && !is_name(p, "in") && !is_name(p, "not"));
	if (starts)
		child(t, &tail, postfix(p, primary(p)));
	return p->err->status ? NULL : t;
}

static node *filters_and_tests(struct parser *p, node *n)
{
	int length = 0;

	while (n && !p->err->status) {
		if (take_op(p, "|"))
			n = filter(p, n);
		else if (take_name(p, "is"))
			n = test(p, n);
		else if (take_op(p, "("))
			n = call(p, n);
		else
			break;
		if (++length > JJ_DEPTH_MAX)
			return expected(p, "a shorter chain");
	}
	return p->err->status ? NULL : n;
}

static node *unary(struct parser *p, bool filters)
{
	node *n;

	if (!deeper(p))
		return NULL;
	if (take_op(p, "-")) {
		if ((n = make(p, JN_NEG)))
			n->a = unary(p, false);
	} else if (take_op(p, "+")) {
		n = unary(p, false);
	} else {
		n = postfix(p, primary(p));
	}
	if (filters)
		n = filters_and_tests(p, n);
	if (is_op(p, "**"))
		return unsupported(p, "the operator", "**");
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *two(struct parser *p, enum jj_node_kind kind, char op, node *a, node *b)
{
	node *n = a && b ? make(p, kind) : NULL;

	if (n) {
		n->a = a;
		n->b = b;
		n->op = op;
	}
	return n;
}

/* Operators of one level, from the loosest: + -, then ~, then * / // %. */
static node *arithmetic(struct parser *p, int level)
{
	static const char *const ops[3][5] = {{"+", "-"}, {"~"}, {"*", "/", "//", "%"}};
	node *n = level == 2 ? unary(p, true) : arithmetic(p, level + 1);

	for (int length = 0; n && !p->err->status; length++) {
		int i = 0;
		while (ops[level][i] && !is_op(p, ops[level][i]))
			i++;
		if (!ops[level][i])
			break;
		if (length > JJ_CHAIN_MAX)
			return expected(p, "a shorter chain");
		p->at++;
		n = two(p, JN_BINARY, level == 2 && i == 2 ? 'd' : *ops[level][i], n, level == 2 ? unary(p, true) : arithmetic(p, level + 1));
	}
	return p->err->status ? NULL : n;
}

/* a < b <= c …: the first value in a, each further one a child with its operator: < > = ! l (<=) g (>=) i (in) n (not in). */
static node *comparison(struct parser *p)
{
	static const struct { const char *text; char op; } ops[] = {{"==", '='}, {"!=", '!'}, {"<=", 'l'}, {">=", 'g'}, {"<", '<'}, {">", '>'}};
	node *first = arithmetic(p, 0), *n = NULL, **tail = NULL;

	while (first && !p->err->status) {
		char op = 0;
		for (size_t i = 0; i < sizeof ops / sizeof ops[0] && !op; i++)
			op = take_op(p, ops[i].text) ? ops[i].op : 0;
		if (!op && take_name(p, "in")) {
			op = 'i';
		} else if (!op && is_name(p, "not") && p->t.t[p->at + 1].kind == JJ_NAME && p->t.t[p->at + 1].n == 2 && !memcmp(p->t.t[p->at + 1].s, "in", 2)) {
			p->at += 2;
			op = 'n';
		}
		if (!op)
			break;
		if (!n && !(n = make(p, JN_COMPARE)))
			return NULL;
		tail = n->first ? tail : &n->first;
		node *k = make(p, JN_KEYWORD);
		if (!k)
			return NULL;
		k->op = op;
		k->a = arithmetic(p, 0);
		child(n, &tail, k);
	}
	if (n)
		n->a = first;
	return p->err->status ? NULL : n ? n : first;
}

static node *negation(struct parser *p)
{
	if (!take_name(p, "not"))
		return comparison(p);
	node *n = make(p, JN_NOT);
	if (n && deeper(p))
		n->a = negation(p);
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *both(struct parser *p)
{
	node *n = negation(p);

	for (int length = 0; n && take_name(p, "and"); length++)
		n = length > JJ_CHAIN_MAX ? expected(p, "a shorter chain") : two(p, JN_AND, 0, n, negation(p));
	return p->err->status ? NULL : n;
}

static node *either(struct parser *p)
{
	node *n = both(p);

	for (int length = 0; n && take_name(p, "or"); length++)
		n = length > JJ_CHAIN_MAX ? expected(p, "a shorter chain") : two(p, JN_OR, 0, n, both(p));
	return p->err->status ? NULL : n;
}

static node *expression(struct parser *p)
{
	if (p->err->status || !deeper(p))
		return NULL;
	node *n = either(p);
	for (int length = 0; n && !p->err->status && take_name(p, "if"); length++) {
		node *c = make(p, JN_CONDITION);
		if (!c || length > JJ_DEPTH_MAX)
			return expected(p, "a shorter chain");
		c->b = n;
		c->a = either(p);
		c->c = take_name(p, "else") ? expression(p) : NULL;
		n = c;
	}
	p->depth--;
	return p->err->status ? NULL : n;
}

/* a, b: a tuple without brackets */
static node *expressions(struct parser *p)
{
	node *first = expression(p);

	if (!first || !is_op(p, ","))
		return first;
	node *t = make(p, JN_TUPLE), **tail = t ? &t->first : NULL;
	if (t)
		child(t, &tail, first);
	while (t && take_op(p, ",") && now(p)->kind != JJ_BLOCK_END && now(p)->kind != JJ_VAR_END)
		child(t, &tail, expression(p));
	return p->err->status ? NULL : t;
}

/* ---- statements ---- */

static const char *const end_if[] = {"elif", "else", "endif"}, *const end_else[] = {"endif"}, *const end_for[] = {"else", "endfor"}, *const end_for_else[] = {"endfor"},
			 *const end_set[] = {"endset"}, *const end_macro[] = {"endmacro"};

/* The name of the tag that ended a body. */
static bool ended_by(struct parser *p, const char *tag)
{
	return !p->err->status && take_name(p, tag);
}

static node *if_tag(struct parser *p)
{
	node *n = make(p, JN_IF);

	if (!n || !deeper(p))
		return NULL;
	n->a = expressions(p);
	if (!need_end(p))
		return NULL;
	n->b = body(p, end_if, 3);
	if (ended_by(p, "elif")) {
		n->c = if_tag(p);
	} else if (ended_by(p, "else")) {
		if (need_end(p))
			n->c = body(p, end_else, 1);
		if (ended_by(p, "endif"))
			need_end(p);
	} else if (ended_by(p, "endif")) {
		need_end(p);
	}
	p->depth--;
	return p->err->status ? NULL : n;
}

/* a, b (in brackets or not): names as children */
static node *targets(struct parser *p)
{
	node *t = make(p, JN_TUPLE), **tail = t ? &t->first : NULL;
	bool open = take_op(p, "(");

	do {
		node *n = t ? make(p, JN_NAME) : NULL;
		if (!n)
			return NULL;
		n->name = name(p);
		child(t, &tail, n);
	} while (!p->err->status && take_op(p, ","));
	if (open)
		need_op(p, ")");
	return p->err->status ? NULL : t;
}

static node *for_tag(struct parser *p)
{
	node *n = make(p, JN_FOR);

	if (!n || !deeper(p))
		return NULL;
	n->a = targets(p);
	if (!p->err->status && !take_name(p, "in"))
		return expected(p, "\"in\"");
	n->b = p->err->status ? NULL : either(p);
	if (!p->err->status && take_name(p, "if"))
		n->d = expression(p);
	if (is_name(p, "recursive"))
		return unsupported(p, "a recursive loop", "");
	if (!need_end(p))
		return NULL;
	p->loops++;
	n->first = body(p, end_for, 2);
	p->loops--;
	if (ended_by(p, "else") && need_end(p))
		n->c = body(p, end_for_else, 1);
	if (ended_by(p, "endfor"))
		need_end(p);
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *set_tag(struct parser *p)
{
	node *n = make(p, JN_SET);

	if (!n)
		return NULL;
	n->a = targets(p);
	if (!n->a)
		return NULL;
	if (n->a->n == 1 && take_op(p, ".")) {
		n->name = name(p); /* of a namespace */
	} else if (is_op(p, "|")) {
		return unsupported(p, "a filter on a block", "");
	}
	if (!p->err->status && now(p)->kind == JJ_BLOCK_END && !n->name && n->a->n == 1) {
		p->at++;
		n->kind = JN_SET_BLOCK;
		n->b = body(p, end_set, 1);
		if (ended_by(p, "endset"))
			need_end(p);
		return p->err->status ? NULL : n;
	}
	if (need_op(p, "="))
		n->b = expressions(p);
	need_end(p);
	return p->err->status ? NULL : n;
}

static node *macro_tag(struct parser *p)
{
	node *n = make(p, JN_MACRO), **tail = n ? &n->first : NULL;

	if (!n || !deeper(p))
		return NULL;
	n->name = name(p);
	need_op(p, "(");
	while (!p->err->status && !take_op(p, ")")) {
		if (n->n && (!need_op(p, ",") || take_op(p, ")")))
			break;
		node *k = make(p, JN_KEYWORD);
		if (!k)
			return NULL;
		k->name = name(p);
		if (take_op(p, "="))
			k->a = expression(p);
		child(n, &tail, k);
	}
	if (!need_end(p))
		return NULL;
	int loops = p->loops;
	p->loops = 0;
	n->b = body(p, end_macro, 1);
	p->loops = loops;
	if (ended_by(p, "endmacro"))
		need_end(p);
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *statement(struct parser *p)
{
	if (take_name(p, "if"))
		return if_tag(p);
	if (take_name(p, "for"))
		return for_tag(p);
	if (take_name(p, "set"))
		return set_tag(p);
	if (take_name(p, "macro"))
		return macro_tag(p);
	if (take_name(p, "generation") || take_name(p, "endgeneration")) { /* marks what the assistant said; nothing is shown */
		node *n = make(p, JN_BODY);
		return need_end(p) ? n : NULL;
	}
	bool leave = is_name(p, "break");
	if (p->loops && (take_name(p, "break") || take_name(p, "continue"))) {
		node *n = make(p, leave ? JN_BREAK : JN_CONTINUE);
		return need_end(p) ? n : NULL;
	}
	if (now(p)->kind != JJ_NAME)
		return expected(p, "the name of a tag");
	return unsupported(p, "the tag", copy(p, now(p)));
}

/* Up to a tag of that name (its name comes next), or, without names, to the end. */
static node *body(struct parser *p, const char *const *ends, int n_ends)
{
	node *b = make(p, JN_BODY), **tail = b ? &b->first : NULL, *n;

	while (b && !p->err->status) {
		struct jj_token *t = now(p);
		if (t->kind == JJ_EOF) {
			if (n_ends)
				return expected(p, ends[n_ends - 1]);
			break;
		}
		p->at++;
		if (t->kind == JJ_DATA) {
			n = constant(p, JJ_STR(t->s, t->n));
			if (n)
				n->kind = JN_DATA;
		} else if (t->kind == JJ_VAR_BEGIN) {
			n = make(p, JN_OUTPUT);
			if (n)
				n->a = expressions(p);
			if (!p->err->status && now(p)->kind != JJ_VAR_END)
				return expected(p, "the end of the expression");
			p->at++;
		} else {
			for (int i = 0; i < n_ends; i++)
				if (is_name(p, ends[i]))
					return b;
			n = statement(p);
		}
		child(b, &tail, n);
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
	if (n > JJ_SOURCE_MAX || memchr(source, '\0', n) || !bl_utf8_valid(source, n))
		return bl_fail(err, BL_INVALID, n > JJ_SOURCE_MAX ? "has %zu bytes, at most %u are allowed" : "is not UTF-8 text (%zu bytes, %u at most)", n, JJ_SOURCE_MAX);
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
