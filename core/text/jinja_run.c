/* SPDX-License-Identifier: Apache-2.0
 * Walks the tree of a template. A loop's pass and a macro's call have variables of their own; what they set is gone behind them, except in
 * namespaces. */
#include "core/text/jinja.h"

#include <string.h>

#include "core/base/mem.h"

typedef struct jj_node node;

static struct jj_value eval(struct jj_run *r, const node *n);
static void run(struct jj_run *r, const node *n);

static struct jj_value name(struct jj_run *r, const char *text)
{
	static const char *const functions[] = {"namespace", "range", "raise_exception", "strftime_now", "dict"};

	for (const struct jj_frame *f = r->frame; f; f = f->up)
		for (size_t i = 0; i < f->n; i++)
			if (!strcmp(f->vars[i].name, text))
				return f->vars[i].value;
	for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
		if (!strcmp(functions[i], text))
			return (struct jj_value){.type = JT_FUNCTION, .name = functions[i]};
	return JJ_UNDEFINED(text);
}

/* Children as positional and named arguments. */
static struct jj_args arguments(struct jj_run *r, const node *n)
{
	struct jj_args a = {0};
	size_t many = (size_t)n->n;

	a.v = jj_list_new(r, many)->v;
	a.named = many ? jj_alloc(&r->arena, many, sizeof *a.named) : NULL;
	for (const node *c = n->first; c && !r->err->status; c = c->next) {
		if (!a.v || !a.named) {
			jj_fail(r, BL_INVALID, "the template needs more than %d MiB", JJ_MEMORY_MAX >> 20);
			break;
		}
		struct jj_value v = eval(r, c->kind == JN_KEYWORD ? c->a : c);
		if (c->kind == JN_KEYWORD)
			a.named[a.n_named++] = (struct jj_pair){JJ_STR(c->name, strlen(c->name)), v};
		else
			a.v[a.n++] = v;
	}
	return a;
}

static struct jj_value captured(struct jj_run *r, const node *body)
{
	struct bl_str own = {0}, *out = r->out;
	size_t start = r->out_start;

	r->out = &own;
	r->out_start = 0;
	run(r, body);
	r->out = out;
	r->out_start = start;
	struct jj_value v = jj_string(r, bl_str_c(&own), own.len);
	bl_str_free(&own);
	return v;
}

static struct jj_value call_macro(struct jj_run *r, const node *m, const struct jj_args *args)
{
	struct jj_frame frame = {.up = r->top}, *was = r->frame;
	size_t at = 0, named = 0;

	if (++r->calls > JJ_CALLS_MAX)
		return jj_fail(r, BL_INVALID, "macros call each other deeper than %d", JJ_CALLS_MAX);
	for (const node *k = m->first; k && !r->err->status; k = k->next, at++) {
		const struct jj_value *given = at < args->n ? &args->v[at] : NULL;
		for (size_t i = 0; i < args->n_named && !given; i++)
			if (!strcmp(args->named[i].key.s, k->name)) {
				given = &args->named[i].value;
				named++;
			}
		r->frame = &frame;
		jj_frame_set(r, &frame, k->name, given ? *given : k->a ? eval(r, k->a) : JJ_UNDEFINED(k->name));
		r->frame = was;
	}
	if (args->n > at || named < args->n_named)
		return jj_fail(r, BL_INVALID, "the macro %s takes other arguments", m->name);
	r->frame = &frame;
	struct jj_value v = captured(r, m->b);
	r->frame = was;
	r->calls--;
	return v;
}

static struct jj_value call(struct jj_run *r, const node *n)
{
	if (n->a->kind == JN_ATTR) { /* a method, or a macro in a namespace */
		struct jj_value v = eval(r, n->a->a);
		if (r->err->status)
			return v;
		struct jj_args args = arguments(r, n);
		return r->err->status ? v : jj_method(r, v, n->a->name, &args);
	}
	struct jj_value f = eval(r, n->a);
	struct jj_args args = arguments(r, n);
	r->line = n->line;
	if (r->err->status)
		return f;
	if (f.type == JT_MACRO)
		return call_macro(r, f.macro, &args);
	if (f.type == JT_FUNCTION)
		return jj_function(r, f.name, &args);
	if (f.type == JT_UNDEFINED)
		return jj_fail(r, BL_UNSUPPORTED, "the function \"%.60s\" is not known", f.name);
	return jj_fail(r, BL_INVALID, "%s cannot be called", jj_type_name(f));
}

static struct jj_value compare(struct jj_run *r, const node *n)
{
	struct jj_value left = eval(r, n->a);
	bool holds = true;

	for (const node *k = n->first; k && holds && !r->err->status; k = k->next) {
		struct jj_value right = eval(r, k->a);
		if (r->err->status)
			break;
		switch (k->op) {
		case '=': holds = jj_equal(r, left, right); break;
		case '!': holds = !jj_equal(r, left, right); break;
		case '<': holds = jj_compare(r, left, right) < 0; break;
		case '>': holds = jj_compare(r, left, right) > 0; break;
		case 'l': holds = jj_compare(r, left, right) <= 0; break;
		case 'g': holds = jj_compare(r, left, right) >= 0; break;
		default: holds = jj_true(jj_in(r, left, right)) == (k->op == 'i');
		}
		left = right;
	}
	return JJ_BOOL(holds);
}

static struct jj_value collect(struct jj_run *r, const node *n)
{
	struct jj_value v;
	const node *c = n->first;

	if (n->kind == JN_DICT) {
		v = (struct jj_value){.type = JT_DICT, .dict = jj_dict_new(r)};
		for (; c && c->next && !r->err->status; c = c->next->next) {
			struct jj_value key = eval(r, c);
			jj_dict_set(r, v.dict, key, eval(r, c->next));
		}
		return v.dict ? v : JJ_UNDEFINED("");
	}
	v = (struct jj_value){.type = JT_LIST, .list = jj_list_new(r, (size_t)n->n)};
	for (size_t i = 0; i < v.list->n && c; i++, c = c->next)
		v.list->v[i] = eval(r, c);
	return v;
}

static struct jj_value eval_kind(struct jj_run *r, const node *n)
{
	struct jj_value v, w;

	switch (n->kind) {
	case JN_CONST: return *n->value;
	case JN_NAME: return name(r, n->name);
	case JN_LIST: case JN_TUPLE: case JN_DICT: return collect(r, n);
	case JN_ATTR: return v = eval(r, n->a), r->err->status ? v : jj_attr(r, v, n->name);
	case JN_ITEM: return v = eval(r, n->a), w = eval(r, n->b), r->err->status ? v : jj_item(r, v, w);
	case JN_SLICE: {
		struct jj_value from = n->b ? eval(r, n->b) : JJ_NONE, to = n->c ? eval(r, n->c) : JJ_NONE, step = n->d ? eval(r, n->d) : JJ_NONE;
		v = eval(r, n->a);
		return r->err->status ? v : jj_slice(r, v, from, to, step);
	}
	case JN_CALL: return call(r, n);
	case JN_FILTER: case JN_TEST: {
		v = eval(r, n->a);
		struct jj_args args = arguments(r, n);
		r->line = n->line;
		if (r->err->status)
			return v;
		return n->kind == JN_FILTER ? jj_filter(r, n->name, v, &args) : JJ_BOOL(jj_test(r, n->name, v, &args) == (n->op == 'y'));
	}
	case JN_NOT: return JJ_BOOL(!jj_true(eval(r, n->a)));
	case JN_NEG: return v = eval(r, n->a), r->err->status ? v : jj_binary(r, '*', JJ_INT(-1), v.type == JT_STRING ? JJ_NONE : v);
	case JN_AND: return v = eval(r, n->a), jj_true(v) ? eval(r, n->b) : v;
	case JN_OR: return v = eval(r, n->a), jj_true(v) ? v : eval(r, n->b);
	case JN_COMPARE: return compare(r, n);
	case JN_BINARY: return v = eval(r, n->a), w = eval(r, n->b), r->line = n->line, r->err->status ? v : jj_binary(r, n->op, v, w);
	case JN_CONDITION: return jj_true(eval(r, n->a)) ? eval(r, n->b) : n->c ? eval(r, n->c) : JJ_UNDEFINED("the other side of an if");
	default: return jj_fail(r, BL_FAILED, "this cannot be a value");
	}
}

static struct jj_value eval(struct jj_run *r, const node *n)
{
	if (r->err->status || !n || !jj_spend(r, 0))
		return JJ_UNDEFINED("");
	r->line = n->line;
	if (++r->nest > JJ_NEST_MAX)
		return jj_fail(r, BL_INVALID, "nested deeper than %d", JJ_NEST_MAX);
	struct jj_value v = eval_kind(r, n);
	r->nest--;
	return v;
}

/* ---- statements ---- */

static void assign(struct jj_run *r, const node *targets, struct jj_value v)
{
	if (targets->n == 1) {
		jj_frame_set(r, r->frame, targets->first->name, v);
		return;
	}
	struct jj_list *l = jj_iterate(r, v);
	if (!r->err->status && l->n != (size_t)targets->n)
		jj_fail(r, BL_INVALID, "%zu values for %d names", l->n, targets->n);
	size_t i = 0;
	for (const node *t = targets->first; t && !r->err->status; t = t->next)
		jj_frame_set(r, r->frame, t->name, l->v[i++]);
}

static void set(struct jj_run *r, const node *n)
{
	if (n->kind == JN_SET_BLOCK) {
		struct jj_frame frame = {.up = r->frame}, *was = r->frame;
		r->frame = &frame;
		struct jj_value v = captured(r, n->b);
		r->frame = was;
		assign(r, n->a, v);
		return;
	}
	struct jj_value v = eval(r, n->b);
	if (r->err->status)
		return;
	if (!n->name) {
		assign(r, n->a, v);
		return;
	}
	struct jj_value space = name(r, n->a->first->name);
	if (space.type != JT_NAMESPACE)
		jj_fail(r, BL_INVALID, "%s is not a namespace: nothing can be set in it", n->a->first->name);
	else
		jj_dict_set(r, space.dict, JJ_STR(n->name, strlen(n->name)), v);
}

/* The items for which the loop's own condition holds. */
static struct jj_list *chosen(struct jj_run *r, const node *n, struct jj_list *all)
{
	struct jj_list *some;
	size_t kept = 0;

	if (!n->d)
		return all;
	some = jj_list_new(r, all->n);
	for (size_t i = 0; i < some->n && !r->err->status; i++) {
		struct jj_frame frame = {.up = r->frame}, *was = r->frame;
		r->frame = &frame;
		assign(r, n->a, all->v[i]);
		bool keep = jj_true(eval(r, n->d));
		r->frame = was;
		if (keep)
			some->v[kept++] = all->v[i];
	}
	if (some->v)
		some->n = kept;
	return some;
}

static void loop(struct jj_run *r, const node *n)
{
	struct jj_value of = eval(r, n->b);
	struct jj_list *items = r->err->status ? NULL : jj_iterate(r, of);

	if (!items || r->err->status)
		return;
	items = chosen(r, n, items);
	struct jj_loop l = {.items = items};
	bool to_the_end = false; /* else also runs when every pass was left by break or continue: so Jinja2 does it */
	for (; l.at < items->n && !r->err->status; l.at++) {
		struct jj_frame frame = {.up = r->frame}, *was = r->frame;
		r->frame = &frame;
		jj_frame_set(r, &frame, "loop", (struct jj_value){.type = JT_LOOP, .loop = &l});
		assign(r, n->a, items->v[l.at]);
		run(r, n->first);
		r->frame = was;
		bool leave = r->flow == JJ_LEAVE;
		to_the_end |= r->flow == JJ_GO;
		r->flow = JJ_GO;
		if (leave)
			break;
	}
	if (!to_the_end && n->c)
		run(r, n->c);
}

static void run(struct jj_run *r, const node *n)
{
	if (r->err->status || !n || !jj_spend(r, 0))
		return;
	r->line = n->line;
	if (++r->nest > JJ_NEST_MAX) {
		jj_fail(r, BL_INVALID, "nested deeper than %d", JJ_NEST_MAX);
		return;
	}
	switch (n->kind) {
	case JN_BODY:
		for (const node *c = n->first; c && !r->err->status && r->flow == JJ_GO; c = c->next)
			run(r, c);
		break;
	case JN_DATA: jj_print(r, r->out, *n->value); break;
	case JN_OUTPUT: {
		struct jj_value v = eval(r, n->a);
		r->line = n->line;
		if (!r->err->status)
			jj_print(r, r->out, v);
		break;
	}
	case JN_IF: run(r, jj_true(eval(r, n->a)) ? n->b : n->c); break;
	case JN_FOR: loop(r, n); break;
	case JN_SET: case JN_SET_BLOCK: set(r, n); break;
	case JN_MACRO: jj_frame_set(r, r->frame, n->name, (struct jj_value){.type = JT_MACRO, .macro = n}); break;
	case JN_BREAK: r->flow = JJ_LEAVE; break;
	case JN_CONTINUE: r->flow = JJ_AGAIN; break;
	default: jj_fail(r, BL_FAILED, "this cannot be a statement");
	}
	r->nest--;
}

enum bl_status jj_render(struct jj_run *r, const struct jj_template *t)
{
	r->frame = r->top;
	r->out_start = r->out->len;
	run(r, t->body);
	return r->err->status;
}
