/* SPDX-License-Identifier: Apache-2.0
 * Quantization arguments -> scheme. Everything that is said and means something else than what will be done becomes a note. */
#include "core/plan/recipe_scheme.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"
#include "core/plan/state.h"

#define NOTES_MAX 200

void bl_recipe_note(struct bl_recipe_notes *n, int line, const char *fmt, ...)
{
	struct bl_str b = {0};
	char shown[400];
	va_list ap;

	if (n->n++ >= NOTES_MAX)
		return;
	va_start(ap, fmt);
	bl_str_vaddf(&b, fmt, ap);
	va_end(ap);
	bl_printable(shown, sizeof shown, bl_str_c(&b));
	if (line)
		bl_str_addf(n->out, "%s: line %d: %s\n", n->label, line, shown);
	else
		bl_str_addf(n->out, "%s: %s\n", n->label, shown);
	bl_str_free(&b);
}

void bl_recipe_notes_end(struct bl_recipe_notes *n)
{
	if (n->n > NOTES_MAX)
		bl_str_addf(n->out, "%s: %d more remarks like these\n", n->label, n->n - NOTES_MAX);
}

bool bl_recipe_knows(const struct bl_recipe_methods *methods, const char *name)
{
	return methods && methods->known ? methods->known(methods->ctx, name) : !strcmp(name, "rtn");
}

/* ---- parameters ---- */

void bl_recipe_param(struct bl_recipe_scheme *s, const char *key, const struct bl_yaml *value, struct bl_recipe_notes *notes)
{
	size_t n = strlen(s->params);

	if (value->kind != BL_YAML_SCALAR || strlen(key) > 60 || strlen(value->text) > 60 || strpbrk(value->text, ",= \t\n") || !*value->text)
		bl_recipe_note(notes, value->line, "%.60s has a value that no parameter can hold; it is left out", key);
	else if (n + strlen(key) + strlen(value->text) + 3 > sizeof s->params)
		bl_recipe_note(notes, value->line, "%.60s is one parameter too many; it is left out", key);
	else
		snprintf(s->params + n, sizeof s->params - n, "%s%s=%s", n ? "," : "", key, value->text);
}

void bl_recipe_actorder(struct bl_recipe_scheme *s, const struct bl_yaml *v, struct bl_recipe_notes *notes)
{
	struct bl_yaml said = *v;

	switch (bl_recipe_order(v)) {
	case BL_RECIPE_BY_INDEX:
		s->by_index = true;
		return;
	case BL_RECIPE_STATIC:
		said.text = (char *)(uintptr_t)"static";
		break;
	case BL_RECIPE_UNORDERED:
		said.text = (char *)(uintptr_t)"none";
		said.kind = BL_YAML_SCALAR;
		break;
	case BL_RECIPE_OTHER: /* the method knows whether it is one of its own */
		break;
	}
	bl_recipe_param(s, "actorder", &said, notes);
}

const char *const bl_recipe_rtn_keys[] = {"maxshrink", "grid", "norm", "quotient", NULL};
const char *const bl_recipe_prune_keys[] = {"sparsity", "mask_structure", "dampening_frac", "actorder", "observer", "least", "grid", "norm", "inputs", "qep_alpha",
						"token_weight", "score", "update", NULL};
const char *const bl_recipe_gptq_keys[] = {"block_size", "dampening_frac", "actorder", NULL};

bool bl_recipe_is_key(const char *key, size_t n, const char *const *list)
{
	while (*list && (strncmp(*list, key, n) || (*list)[n]))
		list++;
	return *list != NULL;
}

static bool is_one_of(const char *key, const char *const *list)
{
	return bl_recipe_is_key(key, strlen(key), list);
}

static bool text_fits(const struct bl_yaml *v, size_t cap)
{
	return v->kind == BL_YAML_SCALAR && bl_text_is_plain(v->text, cap - 1);
}

void bl_recipe_observer(struct bl_recipe_scheme *s, const struct bl_yaml *observer, const struct bl_yaml *kwargs, const struct bl_recipe_methods *methods,
			struct bl_recipe_notes *notes)
{
	const struct bl_yaml *method = bl_yaml_get(kwargs, BL_RECIPE_METHOD_KEY), *whole = bl_yaml_get(kwargs, BL_RECIPE_PARAMS_KEY);
	struct bl_yaml mse = {.kind = BL_YAML_SCALAR, .text = (char *)(uintptr_t)"mse"};

	if (method && text_fits(method, sizeof s->method) && *method->text && bl_recipe_knows(methods, method->text)) {
		snprintf(s->method, sizeof s->method, "%s", method->text);
	} else if (method) {
		bl_recipe_note(notes, method->line, "its method is not available; rtn is used, without the method's parameters");
		return;
	}
	if (whole && text_fits(whole, sizeof s->params)) {
		snprintf(s->params, sizeof s->params, "%s", whole->text);
		return;
	}
	if (whole)
		bl_recipe_note(notes, whole->line, BL_RECIPE_PARAMS_KEY " is no text of at most %zu bytes; it is left out", sizeof s->params - 1);
	bool named = strcmp(s->method, "rtn") != 0;
	if (observer && observer->kind == BL_YAML_SCALAR && !named) {
		mse.line = observer->line;
		if (strstr(observer->text, "mse"))
			bl_recipe_param(s, "observer", &mse, notes);
		else if (!strstr(observer->text, "minmax"))
			bl_recipe_note(notes, observer->line, "observer %.60s is not known; minmax is used", observer->text);
	}
	for (const struct bl_yaml *k = kwargs && kwargs->kind == BL_YAML_MAP ? kwargs->child : NULL; k; k = k->next) {
		if (k == method || k == whole)
			continue;
		if (named ? !method : !is_one_of(k->key, bl_recipe_rtn_keys))
			bl_recipe_note(notes, k->line, "observer_kwargs.%.60s has no effect here", k->key);
		else
			bl_recipe_param(s, k->key, k, notes);
	}
}

/* ---- schemes ---- */

enum bl_recipe_order bl_recipe_order(const struct bl_yaml *v)
{
	static const struct { const char *text; enum bl_recipe_order means; } words[] = {
		{"group", BL_RECIPE_BY_INDEX}, {"dynamic", BL_RECIPE_BY_INDEX}, {"static", BL_RECIPE_STATIC}, {"weight", BL_RECIPE_STATIC},
	};
	bool on;

	if (!v || v->kind != BL_YAML_SCALAR || bl_yaml_is_null(v))
		return BL_RECIPE_UNORDERED;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (!strcmp(v->text, words[i].text))
			return words[i].means;
	return bl_yaml_bool(v, &on) ? on ? BL_RECIPE_BY_INDEX : BL_RECIPE_UNORDERED : BL_RECIPE_OTHER;
}

static void by_index(struct bl_recipe_scheme *s, const struct bl_yaml *at, struct bl_recipe_notes *notes)
{
	if (s->scheme.number == BL_NUM_INT && s->scheme.strategy == BL_STRATEGY_GROUP)
		s->scheme.order = 1;
	else
		bl_recipe_note(notes, at->line, "actorder group has no effect on a scheme without groups");
}

bool bl_recipe_scheme_named(struct bl_recipe_scheme *out, const struct bl_recipe_scheme *base, const char *name, const struct bl_yaml *at,
			    struct bl_recipe_notes *notes)
{
	struct bl_err ignored = BL_ERR_INIT;

	*out = *base;
	if (bl_scheme_parse(&out->scheme, name, &ignored) == BL_OK) {
		if (base->by_index)
			by_index(out, at, notes);
		return true;
	}
	bl_recipe_note(notes, at->line, "scheme %.60s is not offered; it is left out", name);
	return false;
}

struct args { int64_t bits, group; bool symmetric, is_float, dynamic, is_set; char strategy[16]; };

static const struct bl_yaml *scalar(const struct bl_yaml *map, const char *key)
{
	const struct bl_yaml *v = bl_yaml_get(map, key);

	return v && v->kind == BL_YAML_SCALAR ? v : NULL;
}

/* The arguments of weights or activations; false with a note when one of them cannot be read or is not known. */
static bool read_args(struct args *a, const struct bl_yaml *map, struct bl_recipe_notes *notes)
{
	static const char *const known[] = {"num_bits", "type", "symmetric", "strategy", "group_size", "dynamic", "block_structure", "actorder", "observer", "observer_kwargs", NULL};
	const struct bl_yaml *v;

	*a = (struct args){.bits = 8, .symmetric = true};
	if (!map)
		return true;
	a->is_set = true;
	for (const struct bl_yaml *c = map->child; c; c = c->next) {
		if (bl_yaml_is_null(c))
			continue;
		bool empty = c->kind != BL_YAML_SCALAR && !c->child; /* observer_kwargs: {} */
		if (!empty && !is_one_of(c->key, known))
			bl_recipe_note(notes, c->line, "%.60s has no effect here", c->key);
	}
	if (((v = bl_yaml_get(map, "num_bits")) && !bl_yaml_int(v, &a->bits)) || ((v = bl_yaml_get(map, "group_size")) && !bl_yaml_int(v, &a->group))) {
		bl_recipe_note(notes, v->line, "%.60s is not a whole number; the group is left out", v->key);
		return false;
	}
	if (((v = bl_yaml_get(map, "symmetric")) && !bl_yaml_bool(v, &a->symmetric)) || ((v = bl_yaml_get(map, "dynamic")) && !(a->dynamic = v->kind == BL_YAML_SCALAR && !strcmp(v->text, "local")) && !bl_yaml_bool(v, &a->dynamic))) {
		bl_recipe_note(notes, v->line, "%.60s is neither true nor false; the group is left out", v->key);
		return false;
	}
	if ((v = bl_yaml_get(map, "type")) && (v->kind != BL_YAML_SCALAR || (!(a->is_float = bl_ieq(v->text, "float")) && !bl_ieq(v->text, "int")))) {
		bl_recipe_note(notes, v->line, "type is neither int nor float; the group is left out");
		return false;
	}
	v = scalar(map, "strategy");
	snprintf(a->strategy, sizeof a->strategy, "%s", v ? v->text : a->group > 0 ? "group" : a->group < 0 ? "channel" : "tensor");
	return true;
}

static bool read_activations(struct bl_scheme *s, const struct bl_yaml *map, struct bl_recipe_notes *notes)
{
	struct args a;

	if (!map)
		return true;
	if (map->kind != BL_YAML_MAP || !read_args(&a, map, notes))
		return false;
	if (a.symmetric && a.is_float && a.dynamic && ((a.bits == 8 && !strcmp(a.strategy, "group") && a.group == 128) ||
						       (a.bits == 4 && !strcmp(a.strategy, "tensor_group") && a.group == 16))) {
		s->act = a.bits == 8 ? BL_ACT_FP8_GROUP : BL_ACT_FP4_GROUP;
		return true;
	}
	if (!a.symmetric || a.bits != 8 || strcmp(a.strategy, a.dynamic ? "token" : "tensor")) {
		bl_recipe_note(notes, map->line,
			       "inputs: only 8 bits, symmetric, dynamic with one scale per token or static with one per tensor can be honoured; the group is left out");
		return false;
	}
	if (a.dynamic)
		s->act = a.is_float ? BL_ACT_FP8_TOKEN : BL_ACT_INT8_TOKEN;
	else
		s->act = a.is_float ? BL_ACT_FP8_TENSOR : BL_ACT_INT8_TENSOR;
	return true;
}

/* Only what has a name is offered, and only what its name says. */
static bool is_offered(const struct bl_scheme *s)
{
	char name[BL_SCHEME_NAME_MAX];
	struct bl_err ignored = BL_ERR_INIT;
	struct bl_scheme back;

	return bl_scheme_parse(&back, bl_scheme_name(name, s), &ignored) == BL_OK && bl_scheme_equal(&back, s);
}

/* Blocks of 8-bit floats and both forms of 4-bit ones. */
static bool float_groups(struct bl_scheme *s, const struct args *a)
{
	const bool block = !strcmp(a->strategy, "block"), nv = !strcmp(a->strategy, "tensor_group"), mx = !strcmp(a->strategy, "group") && a->group == 32;

	if (!a->is_float || !a->symmetric || a->dynamic || !(block ? a->bits == 8 : (a->bits == 4 && nv && a->group == 16) || (mx && (a->bits == 4 || a->bits == 8))))
		return false;
	if (block ? s->act != BL_ACT_FP8_GROUP : s->act != BL_ACT_NONE && !(nv && s->act == BL_ACT_FP4_GROUP))
		return false;
	s->number = a->bits == 8 ? BL_NUM_FLOAT : BL_NUM_E2M1;
	s->bits = (uint8_t)a->bits;
	s->symmetric = 1;
	s->strategy = block ? BL_STRATEGY_BLOCK : nv ? BL_STRATEGY_TENSOR_GROUP : BL_STRATEGY_GROUP;
	s->group = block ? 128 : (uint16_t)a->group;
	return true;
}

bool bl_recipe_scheme_group(struct bl_recipe_scheme *out, const struct bl_recipe_scheme *base, const struct bl_yaml *group,
			    const struct bl_recipe_methods *methods, struct bl_recipe_notes *notes)
{
	const struct bl_yaml *w = bl_yaml_get(group, "weights"), *observer = bl_yaml_get(w, "observer"), *kwargs = bl_yaml_get(w, "observer_kwargs");
	const struct bl_yaml *order = bl_yaml_get(w, "actorder");
	struct args a;

	*out = *base;
	for (const struct bl_yaml *c = group->child; c; c = c->next)
		if (strcmp(c->key, "weights") && strcmp(c->key, "input_activations") && strcmp(c->key, "targets") && strcmp(c->key, "format") && strcmp(c->key, "scheme") && !bl_yaml_is_null(c))
			bl_recipe_note(notes, c->line, "%.60s has no effect here", c->key);
	if (!w || w->kind != BL_YAML_MAP) {
		bl_recipe_note(notes, group->line, "a group without weights is left out");
		return false;
	}
	const struct bl_yaml *named = scalar(group, "scheme");
	if (named)
		return bl_recipe_scheme_named(out, base, named->text, named, notes);
	if (!read_args(&a, w, notes) || !read_activations(&out->scheme, bl_yaml_get(group, "input_activations"), notes))
		return false;
	if (float_groups(&out->scheme, &a))
		goto known;
	bool grouped = !strcmp(a.strategy, "group"), fits = a.bits >= 2 && a.bits <= 8 && a.group < 65536 && grouped == (a.group > 0);
	out->scheme.number = a.is_float ? BL_NUM_FLOAT : BL_NUM_INT;
	out->scheme.bits = fits ? (uint8_t)a.bits : 0;
	out->scheme.symmetric = a.symmetric;
	bool whole = !strcmp(a.strategy, "tensor");
	out->scheme.strategy = grouped ? BL_STRATEGY_GROUP : whole ? BL_STRATEGY_TENSOR : BL_STRATEGY_CHANNEL;
	out->scheme.group = grouped && fits ? (uint16_t)a.group : 0;
	if (!fits || a.dynamic || (!grouped && !whole && strcmp(a.strategy, "channel")) || !is_offered(&out->scheme)) {
		bl_recipe_note(notes, w->line, "%s%lld-bit %s weights, %s, strategy %s %lld%s: not offered; the group is left out", a.dynamic ? "dynamic " : "",
			       (long long)a.bits, a.is_float ? "float" : "int", a.symmetric ? "symmetric" : "with zero points", a.strategy, (long long)a.group,
			       out->scheme.act == BL_ACT_NONE ? "" : " with 8-bit inputs");
		return false;
	}
known:;
	bool rtn = !strcmp(out->method, "rtn");
	if (rtn && (observer || kwargs))
		out->params[0] = '\0'; /* the group's own observer, not the modifier's */
	bl_recipe_observer(out, observer, kwargs, methods, notes);
	const enum bl_recipe_order sorted = bl_recipe_order(order);
	if (sorted == BL_RECIPE_BY_INDEX || out->by_index)
		by_index(out, sorted == BL_RECIPE_BY_INDEX ? order : w, notes);
	else if (sorted != BL_RECIPE_UNORDERED && rtn)
		bl_recipe_note(notes, order->line, "actorder has no meaning for round-to-nearest; the files are the same without it");
	else if (sorted != BL_RECIPE_UNORDERED && !strstr(out->params, "actorder="))
		bl_recipe_actorder(out, order, notes);
	return true;
}
