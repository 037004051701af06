/* SPDX-License-Identifier: Apache-2.0
 * Applying an llm-compressor recipe. Stages are any map of maps; QuantizationModifier, GPTQModifier, SparseGPTModifier and
 * WandaPruningModifier are understood, everything else is listed. What is pruned and then quantized is one choice: a scheme, and the method that prunes.
 * Targets go by linear and are weighed as compressed-tensors weighs them: an exact name beats an expression, that beats the class "Linear"; among
 * expressions the first of the alphabet, else the later one. A later modifier beats an earlier one. The plan goes by unit, so a unit whose
 * linears would disagree stays in full precision, and that is listed. */
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/plan/recipe_scheme.h"
#include "core/plan/regex.h"

#define RECIPE_MAX_BYTES (1u << 20)
#define NOT_TARGETED (-1)
#define IGNORED (-2)

enum rank { RANK_NONE, RANK_CLASS, RANK_REGEX, RANK_EXACT };
struct pick { int scheme; enum rank rank; const char *text; }; /* text: of the target that won */

struct reader {
	struct bl_plan *p;
	const struct bl_model *m;
	const char *label;
	struct bl_recipe_notes notes;
	const struct bl_recipe_methods *methods;
	struct bl_recipe_scheme *schemes; size_t n_schemes, cap_schemes;
	size_t n_linears;                /* units * BL_MEMBERS_MAX: linear j of unit i is number i * BL_MEMBERS_MAX + j */
	int *of;                         /* per linear: scheme index, NOT_TARGETED, IGNORED */
	struct pick *picks;              /* per linear: what the modifier at hand says */
	int n_modifiers, n_overridden;
	int64_t regex_ns;                /* time left for expressions */
};

/* ---- matching ---- */

static void pick(struct pick *old, struct pick new)
{
	bool wins = new.rank > old->rank || (new.rank == old->rank && (new.rank != RANK_REGEX || strcmp(new.text, old->text) <= 0));

	if (old->scheme != IGNORED && (new.scheme == IGNORED || wins))
		*old = new;
}

/* Calls pick for every linear that the target means; *hits of them. */
static enum bl_status match(struct reader *r, const struct bl_yaml *t, int value, int *hits, struct bl_err *err)
{
	struct bl_regex *re = NULL;
	struct pick p = {value, RANK_EXACT, t->text};
	char where[300];

	snprintf(where, sizeof where, "%.200s: line %d: ", r->label, t->line);
	if (bl_starts_with(t->text, "re:")) {
		p.rank = RANK_REGEX;
		if (bl_regex_open(&re, t->text + 3, where, BL_INVALID, err))
			return err->status;
	} else if (!strcmp(t->text, "Linear")) {
		p.rank = RANK_CLASS;
	}
	for (int i = 0; i < r->m->n_units && !err->status; i++)
		for (int j = 0; j < r->m->units[i].n_members && !err->status; j++) {
			const char *name = r->m->units[i].members[j].name;
			if (re ? bl_regex_match(re, name, &r->regex_ns, err) : p.rank == RANK_CLASS || !strcmp(t->text, name)) {
				pick(&r->picks[i * BL_MEMBERS_MAX + j], p);
				++*hits;
			}
		}
	bl_regex_free(re);
	return err->status;
}

static enum bl_status mark(struct reader *r, const struct bl_yaml *t, int value, struct bl_err *err)
{
	int hits = 0;

	if (t->kind != BL_YAML_SCALAR)
		return bl_fail(err, BL_INVALID, "%s: line %d: a target must be a name", r->label, t->line);
	if (match(r, t, value, &hits, err))
		return err->status;
	bool outside = strstr(t->text, "lm_head") || strstr(t->text, "embed");
	if (value >= 0 && outside)
		bl_recipe_note(&r->notes, t->line, "%s: embedding and head stay in full precision", t->text);
	else if (!hits && !outside)
		bl_recipe_note(&r->notes, t->line, "%s matches no linear of this model", t->text);
	return BL_OK;
}

static enum bl_status mark_all(struct reader *r, const struct bl_yaml *list, int value, struct bl_err *err)
{
	if (!list || bl_yaml_is_null(list))
		return BL_OK;
	if (list->kind == BL_YAML_SCALAR)
		return mark(r, list, value, err);
	if (list->kind == BL_YAML_MAP)
		return bl_fail(err, BL_INVALID, "%s: line %d: %s must be a list of names", r->label, list->line, list->key ? list->key : "targets");
	for (const struct bl_yaml *t = list->child; t; t = t->next)
		if (mark(r, t, value, err))
			return err->status;
	return BL_OK;
}

/* ---- modifiers ---- */

static int add_scheme(struct reader *r, const struct bl_recipe_scheme *s)
{
	for (size_t i = 0; i < r->n_schemes; i++) {
		const struct bl_recipe_scheme *o = &r->schemes[i];
		if (bl_scheme_equal(&o->scheme, &s->scheme) && !strcmp(o->method, s->method) && !strcmp(o->params, s->params))
			return (int)i;
	}
	bl_xgrow(&r->schemes, &r->cap_schemes, r->n_schemes + 1);
	r->schemes[r->n_schemes] = *s;
	return (int)r->n_schemes++;
}

static enum bl_status read_groups(struct reader *r, const struct bl_yaml *m, const struct bl_recipe_scheme *base, struct bl_err *err)
{
	const struct bl_yaml *groups = bl_yaml_get(m, "config_groups"), *scheme = bl_yaml_get(m, "scheme"), *targets = bl_yaml_get(m, "targets");
	struct bl_yaml all = {.kind = BL_YAML_SCALAR, .text = (char *)(uintptr_t)"Linear", .line = m->line};
	struct bl_recipe_scheme s;

	if (groups && groups->kind != BL_YAML_MAP)
		return bl_fail(err, BL_INVALID, "%s: line %d: config_groups must be a map", r->label, groups->line);
	for (const struct bl_yaml *g = groups ? groups->child : NULL; g; g = g->next) {
		if (g->kind == BL_YAML_SCALAR) { /* the preset's name as key or as value */
			if (bl_recipe_scheme_named(&s, base, g->text, g, &r->notes) && mark(r, &all, add_scheme(r, &s), err))
				return err->status;
			continue;
		}
		if (g->kind != BL_YAML_MAP)
			return bl_fail(err, BL_INVALID, "%s: line %d: %s must be a map", r->label, g->line, g->key);
		if (bl_recipe_scheme_group(&s, base, g, r->methods, &r->notes) && mark_all(r, bl_yaml_get(g, "targets"), add_scheme(r, &s), err))
			return err->status;
	}
	if (scheme && scheme->kind == BL_YAML_LIST)
		return bl_fail(err, BL_INVALID, "%s: line %d: scheme must be a name or a map", r->label, scheme->line);
	if (scheme && scheme->kind == BL_YAML_SCALAR && bl_recipe_scheme_named(&s, base, scheme->text, scheme, &r->notes))
		return mark_all(r, targets ? targets : &all, add_scheme(r, &s), err);
	for (const struct bl_yaml *n = scheme && scheme->kind == BL_YAML_MAP ? scheme->child : NULL; n; n = n->next)
		if (bl_recipe_scheme_named(&s, base, n->key, n, &r->notes) && mark_all(r, n, add_scheme(r, &s), err))
			return err->status;
	if (!groups && !scheme && targets && (targets->kind != BL_YAML_LIST || targets->child))
		bl_recipe_note(&r->notes, targets->line, "targets without a scheme: nothing is quantized");
	return BL_OK;
}

/* What a modifier says once for all of its groups. */
static struct bl_recipe_scheme read_base(struct reader *r, const struct bl_yaml *m)
{
	static const char *const known[] = {"targets", "ignore", "scheme", "config_groups", NULL};
	struct bl_recipe_scheme base = {.method = "rtn"};
	const struct bl_yaml *observer = NULL;
	bool gptq = !strcmp(m->key, "GPTQModifier"), usable = gptq && bl_recipe_knows(r->methods, "gptq");

	if (usable)
		snprintf(base.method, sizeof base.method, "gptq");
	else if (gptq)
		bl_recipe_note(&r->notes, m->line, "method gptq is not available, rtn is used: the schemes are taken over, nothing is calibrated");
	for (const struct bl_yaml *f = m->child; f; f = f->next) {
		const bool order = usable && !strcmp(f->key, "actorder"); /* null is a value of it */
		if (bl_recipe_is_key(f->key, strlen(f->key), known) || (bl_yaml_is_null(f) && !order))
			continue;
		if (order)
			bl_recipe_actorder(&base, f, &r->notes);
		else if (!strcmp(f->key, "observer") || !strcmp(f->key, "weight_observer"))
			observer = f;
		else if (usable && bl_recipe_is_key(f->key, strlen(f->key), bl_recipe_gptq_keys))
			bl_recipe_param(&base, f->key, f, &r->notes);
		else
			bl_recipe_note(&r->notes, f->line, "%s.%s has no effect here", m->key, f->key);
	}
	bl_recipe_observer(&base, observer, NULL, r->methods, &r->notes);
	return base;
}

/* Keeps full precision, with zeros. */
static enum bl_status read_pruning(struct reader *r, const struct bl_yaml *m, struct bl_err *err)
{
	static const char *const known[] = {"targets", "ignore", "block_size", BL_RECIPE_METHOD_KEY, NULL};
	struct bl_yaml all = {.kind = BL_YAML_SCALAR, .text = (char *)(uintptr_t)"Linear", .line = m->line};
	const struct bl_yaml *targets = bl_yaml_get(m, "targets"), *named = bl_yaml_get(m, BL_RECIPE_METHOD_KEY);
	struct bl_recipe_scheme s = {.scheme = {.number = BL_NUM_PRUNED, .bits = 16, .symmetric = 1}};

	snprintf(s.method, sizeof s.method, "%s", named && named->kind == BL_YAML_SCALAR ? named->text : !strcmp(m->key, "SparseGPTModifier") ? "sparsegpt" : "wanda");
	if (!bl_recipe_knows(r->methods, s.method)) {
		bl_recipe_note(&r->notes, m->line, "method %s is not available: nothing is pruned", s.method);
		return BL_OK;
	}
	for (const struct bl_yaml *f = m->child; f; f = f->next) {
		if (bl_recipe_is_key(f->key, strlen(f->key), known) || bl_yaml_is_null(f))
			continue;
		if (bl_recipe_is_key(f->key, strlen(f->key), bl_recipe_prune_keys))
			bl_recipe_param(&s, f->key, f, &r->notes);
		else
			bl_recipe_note(&r->notes, f->line, "%s.%s has no effect here", m->key, f->key);
	}
	return mark_all(r, targets ? targets : &all, add_scheme(r, &s), err);
}

/* What is pruned by one modifier and quantized by a later one. */
static int both(struct reader *r, int pruned, int quantized)
{
	struct bl_recipe_scheme s = r->schemes[pruned];

	s.scheme = r->schemes[quantized].scheme;
	if (r->schemes[quantized].params[0])
		bl_recipe_note(&r->notes, 0, "%s rounds what it prunes with its own settings: \"%s\" is left out", s.method, r->schemes[quantized].params);
	return add_scheme(r, &s);
}

static enum bl_status read_modifier(struct reader *r, const struct bl_yaml *m, struct bl_err *err)
{
	r->n_modifiers++;
	const bool prunes = !strcmp(m->key, "SparseGPTModifier") || !strcmp(m->key, "WandaPruningModifier");
	if (!prunes && strcmp(m->key, "GPTQModifier") && strcmp(m->key, "QuantizationModifier")) {
		bl_recipe_note(&r->notes, m->line, "%s is not in this version; it is left out", m->key);
		return BL_OK;
	}
	if (m->kind != BL_YAML_MAP)
		return bl_fail(err, BL_INVALID, "%s: line %d: %s must hold settings", r->label, m->line, m->key);
	struct bl_recipe_scheme base = {.method = ""};
	if (!prunes)
		base = read_base(r, m);
	for (size_t i = 0; i < r->n_linears; i++)
		r->picks[i] = (struct pick){.scheme = NOT_TARGETED};
	if ((prunes ? read_pruning(r, m, err) : read_groups(r, m, &base, err)) || mark_all(r, bl_yaml_get(m, "ignore"), IGNORED, err))
		return err->status;
	for (size_t i = 0; i < r->n_linears; i++) {
		int new = r->picks[i].scheme;
		if (new >= 0 && r->of[i] >= 0 && r->schemes[r->of[i]].scheme.number == BL_NUM_PRUNED && !bl_scheme_is_full(&r->schemes[new].scheme))
			r->of[i] = new = both(r, r->of[i], new);
		r->n_overridden += new >= 0 && r->of[i] >= 0 && new != r->of[i];
		if (new >= 0 || (new == IGNORED && r->of[i] == NOT_TARGETED)) /* what one modifier ignores another may have done */
			r->of[i] = new;
	}
	return BL_OK;
}

/* Stages hold "...modifiers" maps; older files put modifiers into the stage itself. */
static enum bl_status walk(struct reader *r, const struct bl_yaml *map, int depth, struct bl_err *err)
{
	for (const struct bl_yaml *c = map->child; c; c = c->next) {
		bool modifier = bl_ends_with(c->key, "Modifier");
		if (modifier ? read_modifier(r, c, err) : c->kind == BL_YAML_MAP && depth < 3 ? walk(r, c, depth + 1, err) : BL_OK)
			return err->status;
		if (!modifier && (c->kind != BL_YAML_MAP || depth >= 3) && !bl_yaml_is_null(c))
			bl_recipe_note(&r->notes, c->line, "%s has no effect here", c->key);
	}
	return BL_OK;
}

/* ---- applying ---- */

static bool agree(struct reader *r, int unit)
{
	const struct bl_unit *u = &r->m->units[unit];
	const int *of = &r->of[unit * BL_MEMBERS_MAX];
	int other = 1;

	while (other < u->n_members && (of[other] == of[0] || (of[other] < 0 && of[0] < 0)))
		other++;
	if (other >= u->n_members)
		return true;
	char a[BL_SCHEME_NAME_MAX] = "full precision", b[BL_SCHEME_NAME_MAX] = "full precision";
	if (of[0] >= 0)
		bl_scheme_name(a, &r->schemes[of[0]].scheme);
	if (of[other] >= 0)
		bl_scheme_name(b, &r->schemes[of[other]].scheme);
	bl_recipe_note(&r->notes, 0, "%s: the server fuses its linears into one, but %s would be %s and %s %s%s: it stays in full precision", u->name,
		       strrchr(u->members[0].name, '.') + 1, a, strrchr(u->members[other].name, '.') + 1, b, strcmp(a, b) ? "" : " otherwise made");
	return false;
}

static void apply(struct reader *r)
{
	const struct bl_scheme full = BL_SCHEME_FULL;
	int n_untargeted = 0;

	for (int i = 0; i < r->m->n_units; i++) {
		int of = r->of[i * BL_MEMBERS_MAX];
		if (!agree(r, i))
			of = IGNORED;
		n_untargeted += of == NOT_TARGETED && bl_plan_choice(r->p, i)->scheme.number != BL_NUM_FULL && !bl_plan_choice(r->p, i)->locked;
		if (!bl_plan_set_scheme(r->p, i, of < 0 ? &full : &r->schemes[of].scheme))
			bl_recipe_note(&r->notes, 0, "%s is locked and kept", r->m->units[i].name);
		else if (of >= 0)
			bl_plan_set_method(r->p, i, r->schemes[of].method, r->schemes[of].params);
	}
	if (n_untargeted)
		bl_recipe_note(&r->notes, 0, "%d unit%s that the recipe does not target went to full precision", n_untargeted, n_untargeted == 1 ? "" : "s");
	if (r->n_overridden)
		bl_recipe_note(&r->notes, 0, "%d linear%s targeted by several modifiers: the last one counts", r->n_overridden, r->n_overridden == 1 ? " is" : "s are");
}

enum bl_status bl_recipe_apply(struct bl_plan *p, const struct bl_model *m, const char *text, size_t n, const char *label, const struct bl_recipe_methods *methods,
			       struct bl_str *notes, struct bl_err *err)
{
	struct reader r = {.p = p, .m = m, .label = label, .notes = {notes, label, 0}, .methods = methods, .regex_ns = BL_REGEX_BUDGET_NS};
	struct bl_yaml *root = NULL;

	if (bl_yaml_parse(&root, text, n, label, err))
		return err->status;
	r.n_linears = (size_t)m->n_units * BL_MEMBERS_MAX;
	r.of = bl_xalloc(r.n_linears + 1, sizeof *r.of);
	r.picks = bl_xalloc(r.n_linears + 1, sizeof *r.picks);
	for (size_t i = 0; i < r.n_linears; i++)
		r.of[i] = NOT_TARGETED;
	if (root->kind != BL_YAML_MAP)
		bl_fail(err, BL_INVALID, "%s: must be a map of stages", label);
	else if (walk(&r, root, 0, err) == BL_OK && !r.n_modifiers)
		bl_fail(err, BL_INVALID, "%s: is no recipe: none of its stages holds a modifier", label);
	if (!err->status) {
		bl_plan_begin(p, "recipe");
		apply(&r);
		bl_plan_end(p);
		bl_recipe_notes_end(&r.notes);
	}
	bl_free(r.of);
	bl_free(r.picks);
	bl_free(r.schemes);
	bl_yaml_free(root);
	return err->status;
}

enum bl_status bl_recipe_load(struct bl_plan *p, const struct bl_model *m, const char *path, const struct bl_recipe_methods *methods, struct bl_str *notes,
			      struct bl_err *err)
{
	char *text = NULL;
	size_t n = 0;

	if (bl_read_file(&text, &n, path, RECIPE_MAX_BYTES, true, err))
		return err->status;
	bl_recipe_apply(p, m, text, n, path, methods, notes, err);
	bl_free(text);
	return err->status;
}
