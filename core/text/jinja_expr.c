/* SPDX-License-Identifier: Apache-2.0
 * Expressions into a tree, with the precedence of Jinja2. Filters and tests that are not known are refused here. */
#include "core/text/jinja_parser.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

static node *unary(struct parser *p, bool filters);

struct jj_token *jp_now(struct parser *p) { return &p->t.t[p->at]; }

void *jp_unsupported(struct parser *p, const char *what, const char *name)
{
	bl_fail(p->err, BL_UNSUPPORTED, "line %d: %s%s%.60s%s is not supported", jp_now(p)->line, what, *name ? " \"" : "", name, *name ? "\"" : "");
	return NULL;
}

void *jp_expected(struct parser *p, const char *what)
{
	const struct jj_token *t = jp_now(p);
	int n = t->n < 40 ? (int)t->n : 40;

	bl_fail(p->err, BL_INVALID, "line %d: %s is expected, not %s%.*s%s", t->line, what,
		t->kind == JJ_EOF ? "the end" : t->kind == JJ_BLOCK_END || t->kind == JJ_VAR_END ? "the end of the tag" : "\"", n, t->n ? t->s : "",
		t->kind == JJ_EOF || t->kind == JJ_BLOCK_END || t->kind == JJ_VAR_END ? "" : "\"");
	return NULL;
}

node *jp_make(struct parser *p, enum jj_node_kind kind)
{
	node *n = jj_alloc(p->arena, 1, sizeof *n);

	if (!n) {
		bl_fail(p->err, BL_INVALID, "line %d: the template is too large", jp_now(p)->line);
		return NULL;
	}
	n->kind = kind;
	n->line = jp_now(p)->line;
	return n;
}

bool jp_is_op(struct parser *p, const char *op)
{
	const struct jj_token *t = jp_now(p);

	return t->kind == JJ_OP && t->n == strlen(op) && !memcmp(t->s, op, t->n);
}

bool jp_is_name(struct parser *p, const char *name)
{
	const struct jj_token *t = jp_now(p);

	return t->kind == JJ_NAME && t->n == strlen(name) && !memcmp(t->s, name, t->n);
}

bool jp_take_op(struct parser *p, const char *op) { return jp_is_op(p, op) && ++p->at; }
bool jp_take_name(struct parser *p, const char *name) { return jp_is_name(p, name) && ++p->at; }

bool jp_need_op(struct parser *p, const char *op)
{
	if (p->err->status)
		return false;
	char text[8];
	snprintf(text, sizeof text, "\"%s\"", op);
	return jp_take_op(p, op) || jp_expected(p, text);
}

bool jp_need_end(struct parser *p)
{
	if (p->err->status)
		return false;
	if (jp_now(p)->kind != JJ_BLOCK_END)
		return jp_expected(p, "the end of the tag");
	p->at++;
	return true;
}

const char *jp_copy(struct parser *p, const struct jj_token *t)
{
	char *s = jj_alloc(p->arena, t->n + 1, 1);

	if (s)
		memcpy(s, t->s, t->n);
	return s ? s : "";
}

const char *jp_name(struct parser *p)
{
	if (p->err->status)
		return NULL;
	if (jp_now(p)->kind != JJ_NAME)
		return jp_expected(p, "a name");
	return jp_copy(p, &p->t.t[p->at++]);
}

void jp_child(node *parent, node ***tail, node *c)
{
	if (!c)
		return;
	**tail = c;
	*tail = &c->next;
	parent->n++;
}

node *jp_constant(struct parser *p, struct jj_value v)
{
	node *n = jp_make(p, JN_CONST);

	if (n && (n->value = jj_alloc(p->arena, 1, sizeof v)))
		*n->value = v;
	else
		bl_fail(p->err, BL_INVALID, "the template is too large");
	return p->err->status ? NULL : n;
}

/* ---- expressions ---- */

bool jp_deeper(struct parser *p)
{
	if (++p->depth <= JJ_DEPTH_MAX)
		return true;
	bl_fail(p->err, BL_INVALID, "line %d: nested deeper than %d", jp_now(p)->line, JJ_DEPTH_MAX);
	return false;
}

/* Values up to `close`, which is taken; keywords only where a call is. A keyword is JN_KEYWORD with its value in a. */
static node *list_until(struct parser *p, node *parent, node **tail, const char *close, bool keywords)
{
	while (!p->err->status && !jp_take_op(p, close)) {
		if (parent->n && tail != &parent->first && !jp_need_op(p, ","))
			return NULL;
		if (jp_take_op(p, close))
			break;
		const struct jj_token *second = &p->t.t[p->at + (jp_now(p)->kind != JJ_EOF)];
		if (keywords && jp_now(p)->kind == JJ_NAME && second->kind == JJ_OP && second->n == 1 && *second->s == '=') {
			node *k = jp_make(p, JN_KEYWORD);
			if (!k)
				return NULL;
			k->name = jp_name(p);
			p->at++;
			k->a = jp_expression(p);
			jp_child(parent, &tail, k);
		} else if (jp_is_op(p, "*") || jp_is_op(p, "**")) {
			return jp_unsupported(p, "unpacking of arguments", "");
		} else {
			jp_child(parent, &tail, jp_expression(p));
		}
	}
	return p->err->status ? NULL : parent;
}

static node *dict(struct parser *p)
{
	node *d = jp_make(p, JN_DICT), **tail = d ? &d->first : NULL;

	while (d && !p->err->status && !jp_take_op(p, "}")) {
		if (d->n && !jp_need_op(p, ","))
			return NULL;
		if (jp_take_op(p, "}"))
			break;
		jp_child(d, &tail, jp_expression(p));
		if (jp_need_op(p, ":"))
			jp_child(d, &tail, jp_expression(p));
	}
	return p->err->status ? NULL : d;
}

/* Behind "(": a value in brackets, or a tuple. */
static node *brackets(struct parser *p)
{
	node *t = jp_make(p, JN_TUPLE), **tail = t ? &t->first : NULL;

	if (!t || jp_take_op(p, ")"))
		return t;
	node *first = jp_expression(p);
	if (!first || jp_take_op(p, ")"))
		return first;
	jp_child(t, &tail, first);
	return list_until(p, t, tail, ")", false);
}

static node *primary(struct parser *p)
{
	struct jj_token *t = jp_now(p);
	node *n;

	if (t->kind == JJ_STRING) {
		p->at++;
		if (jp_now(p)->kind != JJ_STRING)
			return jp_constant(p, JJ_STR(t->s, t->n));
		return jp_unsupported(p, "two strings without an operator", "");
	}
	if (t->kind == JJ_INT || t->kind == JJ_FLOAT) {
		p->at++;
		return jp_constant(p, t->kind == JJ_INT ? JJ_INT(t->i) : (struct jj_value){.type = JT_FLOAT, .d = t->d});
	}
	if (t->kind == JJ_NAME) {
		if (jp_take_name(p, "true") || jp_take_name(p, "True"))
			return jp_constant(p, JJ_BOOL(true));
		if (jp_take_name(p, "false") || jp_take_name(p, "False"))
			return jp_constant(p, JJ_BOOL(false));
		if (jp_take_name(p, "none") || jp_take_name(p, "None"))
			return jp_constant(p, JJ_NONE);
		if ((n = jp_make(p, JN_NAME)))
			n->name = jp_name(p);
		return p->err->status ? NULL : n;
	}
	if (jp_take_op(p, "("))
		return brackets(p);
	if (jp_take_op(p, "[")) {
		n = jp_make(p, JN_LIST);
		return n ? list_until(p, n, &n->first, "]", false) : NULL;
	}
	if (jp_take_op(p, "{"))
		return dict(p);
	return jp_expected(p, "a value");
}

/* Behind "[": an index or a slice. */
static node *subscript(struct parser *p, node *of)
{
	node *from = NULL, *n;

	if (!jp_is_op(p, ":"))
		from = jp_expression(p);
	if (p->err->status)
		return NULL;
	if (!jp_is_op(p, ":")) {
		if ((n = jp_make(p, JN_ITEM))) {
			n->a = of;
			n->b = from;
		}
		if (jp_is_op(p, ","))
			return jp_unsupported(p, "a tuple as an index", "");
		return jp_need_op(p, "]") ? n : NULL;
	}
	if (!(n = jp_make(p, JN_SLICE)))
		return NULL;
	n->a = of;
	n->b = from;
	p->at++;
	if (!jp_is_op(p, ":") && !jp_is_op(p, "]"))
		n->c = jp_expression(p);
	if (!p->err->status && jp_take_op(p, ":") && !jp_is_op(p, "]"))
		n->d = jp_expression(p);
	return jp_need_op(p, "]") ? n : NULL;
}

static node *call(struct parser *p, node *of)
{
	node *n = jp_make(p, JN_CALL);

	if (!n)
		return NULL;
	n->a = of;
	return list_until(p, n, &n->first, ")", true);
}

static node *postfix(struct parser *p, node *n)
{
	int length = 0;

	while (n && !p->err->status) {
		if (jp_take_op(p, ".")) {
			if (jp_now(p)->kind == JJ_INT)
				return jp_unsupported(p, "a number behind a point", "");
			node *a = jp_make(p, JN_ATTR);
			if (!a)
				return NULL;
			a->a = n;
			a->name = jp_name(p);
			n = a;
		} else if (jp_take_op(p, "[")) {
			n = subscript(p, n);
		} else if (jp_take_op(p, "(")) {
			n = call(p, n);
		} else {
			break;
		}
		if (++length > JJ_DEPTH_MAX)
			return jp_expected(p, "a shorter chain");
	}
	return p->err->status ? NULL : n;
}

static node *filter(struct parser *p, node *of)
{
	node *f = jp_make(p, JN_FILTER);

	if (!f)
		return NULL;
	f->a = of;
	f->name = jp_name(p);
	if (f->name && !jj_known_filter(f->name))
		return jp_unsupported(p, "the filter", f->name);
	if (jp_take_op(p, "("))
		return list_until(p, f, &f->first, ")", true);
	return p->err->status ? NULL : f;
}

static node *test(struct parser *p, node *of)
{
	node *t = jp_make(p, JN_TEST), **tail = t ? &t->first : NULL;

	if (!t)
		return NULL;
	t->a = of;
	t->op = jp_take_name(p, "not") ? 'n' : 'y';
	t->name = jp_name(p);
	if (t->name && !jj_known_test(t->name))
		return jp_unsupported(p, "the test", t->name);
	if (jp_take_op(p, "("))
		return list_until(p, t, tail, ")", true);
	const struct jj_token *k = jp_now(p);
	bool starts = k->kind == JJ_STRING || k->kind == JJ_INT || k->kind == JJ_FLOAT || jp_is_op(p, "[") || jp_is_op(p, "{") ||
		      (k->kind == JJ_NAME && !jp_is_name(p, "else") && !jp_is_name(p, "or") && !jp_is_name(p, "and") && !jp_is_name(p, "is") &&
		       !jp_is_name(p, "if") && !jp_is_name(p, "in") && !jp_is_name(p, "not"));
	if (starts)
		jp_child(t, &tail, postfix(p, primary(p)));
	return p->err->status ? NULL : t;
}

static node *filters_and_tests(struct parser *p, node *n)
{
	int length = 0;

	while (n && !p->err->status) {
		if (jp_take_op(p, "|"))
			n = filter(p, n);
		else if (jp_take_name(p, "is"))
			n = test(p, n);
		else if (jp_take_op(p, "("))
			n = call(p, n);
		else
			break;
		if (++length > JJ_DEPTH_MAX)
			return jp_expected(p, "a shorter chain");
	}
	return p->err->status ? NULL : n;
}

static node *unary(struct parser *p, bool filters)
{
	node *n;

	if (!jp_deeper(p))
		return NULL;
	if (jp_take_op(p, "-")) {
		if ((n = jp_make(p, JN_NEG)))
			n->a = unary(p, false);
	} else if (jp_take_op(p, "+")) {
		n = unary(p, false);
	} else {
		n = postfix(p, primary(p));
	}
	if (filters)
		n = filters_and_tests(p, n);
	if (jp_is_op(p, "**"))
		return jp_unsupported(p, "the operator", "**");
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *two(struct parser *p, enum jj_node_kind kind, char op, node *a, node *b)
{
	node *n = a && b ? jp_make(p, kind) : NULL;

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
		while (ops[level][i] && !jp_is_op(p, ops[level][i]))
			i++;
		if (!ops[level][i])
			break;
		if (length > JJ_CHAIN_MAX)
			return jp_expected(p, "a shorter chain");
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
			op = jp_take_op(p, ops[i].text) ? ops[i].op : 0;
		if (!op && jp_take_name(p, "in")) {
			op = 'i';
		} else if (!op && jp_is_name(p, "not") && p->t.t[p->at + 1].kind == JJ_NAME && p->t.t[p->at + 1].n == 2 && !memcmp(p->t.t[p->at + 1].s, "in", 2)) {
			p->at += 2;
			op = 'n';
		}
		if (!op)
			break;
		if (!n && !(n = jp_make(p, JN_COMPARE)))
			return NULL;
		tail = n->first ? tail : &n->first;
		node *k = jp_make(p, JN_KEYWORD);
		if (!k)
			return NULL;
		k->op = op;
		k->a = arithmetic(p, 0);
		jp_child(n, &tail, k);
	}
	if (n)
		n->a = first;
	return p->err->status ? NULL : n ? n : first;
}

static node *negation(struct parser *p)
{
	if (!jp_take_name(p, "not"))
		return comparison(p);
	node *n = jp_make(p, JN_NOT);
	if (n && jp_deeper(p))
		n->a = negation(p);
	p->depth--;
	return p->err->status ? NULL : n;
}

static node *both(struct parser *p)
{
	node *n = negation(p);

	for (int length = 0; n && jp_take_name(p, "and"); length++)
		n = length > JJ_CHAIN_MAX ? jp_expected(p, "a shorter chain") : two(p, JN_AND, 0, n, negation(p));
	return p->err->status ? NULL : n;
}

node *jp_either(struct parser *p)
{
	node *n = both(p);

	for (int length = 0; n && jp_take_name(p, "or"); length++)
		n = length > JJ_CHAIN_MAX ? jp_expected(p, "a shorter chain") : two(p, JN_OR, 0, n, both(p));
	return p->err->status ? NULL : n;
}

node *jp_expression(struct parser *p)
{
	if (p->err->status || !jp_deeper(p))
		return NULL;
	node *n = jp_either(p);
	for (int length = 0; n && !p->err->status && jp_take_name(p, "if"); length++) {
		node *c = jp_make(p, JN_CONDITION);
		if (!c || length > JJ_DEPTH_MAX)
			return jp_expected(p, "a shorter chain");
		c->b = n;
		c->a = jp_either(p);
		c->c = jp_take_name(p, "else") ? jp_expression(p) : NULL;
		n = c;
	}
	p->depth--;
	return p->err->status ? NULL : n;
}

/* a, b: a tuple without brackets */
node *jp_expressions(struct parser *p)
{
	node *first = jp_expression(p);

	if (!first || !jp_is_op(p, ","))
		return first;
	node *t = jp_make(p, JN_TUPLE), **tail = t ? &t->first : NULL;
	if (t)
		jp_child(t, &tail, first);
	while (t && jp_take_op(p, ",") && jp_now(p)->kind != JJ_BLOCK_END && jp_now(p)->kind != JJ_VAR_END)
		jp_child(t, &tail, jp_expression(p));
	return p->err->status ? NULL : t;
}
