/* SPDX-License-Identifier: Apache-2.0
 * Applying an llm-compressor recipe. Stages are any map of maps; QuantizationModifier and GPTQModifier are understood, everything else is listed.
 * Targets go by linear (exact name, class "Linear", re: as Python's re.match); the plan goes by unit, so a unit whose linears would disagree keeps what
 * it has, and that is listed too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/plan/recipe.h"
#include "core/plan/yaml_tree.h"

#define RECIPE_MAX_BYTES (1u << 20)
#define NOT_TARGETED (-1)
#define IGNORED (-2)

struct target_scheme { struct bl_scheme scheme; char params[128]; };

struct reader {
	struct bl_plan *p;
	const struct bl_model *m;
	const char *label;
	struct bl_str *notes;
	struct target_scheme *schemes; int n_schemes;
	int *of;                         /* per linear (unit * members + j): scheme index, NOT_TARGETED, IGNORED */
};

static void note(struct reader *r, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void note(struct reader *r, int line, const char *fmt, ...)
{
	struct bl_str b = {0};
	char shown[400];
	va_list ap;

	va_start(ap, fmt);
	bl_str_vaddf(&b, fmt, ap);
	va_end(ap);
	bl_str_addf(r->notes, "%s: line %d: %s\n", r->label, line, bl_printable(shown, sizeof shown, bl_str_c(&b)));
	bl_str_free(&b);
}

/* ---- matching ---- */

static enum bl_status mark(struct reader *r, const struct bl_yaml *t, int value, struct bl_err *err)
{
	int code = 0, hits = 0;
	PCRE2_SIZE at = 0;
	pcre2_code *re = NULL;
	const char *s = t->text;

	if (t->kind != BL_YAML_SCALAR)
		return bl_fail(err, BL_INVALID, "%s: line %d: a target must be a name", r->label, t->line);
	if (bl_starts_with(s, "re:") && !(re = pcre2_compile((PCRE2_SPTR)s + 3, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &code, &at, NULL)))
		return bl_fail(err, BL_INVALID, "%s: line %d: %s: not a regular expression (at byte %zu)", r->label, t->line, s, (size_t)at);
	pcre2_match_context *mc = pcre2_match_context_create(NULL);
	pcre2_match_data *md = re ? pcre2_match_data_create_from_pattern(re, NULL) : NULL;
	pcre2_set_match_limit(mc, 100000);
	pcre2_set_depth_limit(mc, 1000);
	for (int i = 0; i < r->m->n_units && !err->status; i++)
		for (int j = 0; j < r->m->units[i].n_members; j++) {
			const char *name = r->m->units[i].members[j].name;
			int rc = re ? pcre2_match(re, (PCRE2_SPTR)name, strlen(name), 0, 0, md, mc) : 0;
			if (re && rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
				bl_fail(err, BL_INVALID, "%s: line %d: %s: takes too long to match", r->label, t->line, s);
				break;
			}
			if (re ? rc >= 0 : !strcmp(s, name) || !strcmp(s, "Linear")) {
				r->of[i * BL_MEMBERS_MAX + j] = value;
				hits++;
			}
		}
	pcre2_match_data_free(md);
	pcre2_match_context_free(mc);
	pcre2_code_free(re);
	bool outside = strstr(s, "lm_head") || strstr(s, "embed");
	if (!hits && !err->status && !outside)
		note(r, t->line, "%s matches no linear of this model", s);
	if (value >= 0 && outside)
		note(r, t->line, "%s: embedding and head stay in full precision", s);
	return err->status;
}

static enum bl_status mark_all(struct reader *r, const struct bl_yaml *list, int value, struct bl_err *err)
{
	if (!list)
		return BL_OK;
	if (list->kind == BL_YAML_SCALAR)
		return mark(r, list, value, err);
	for (const struct bl_yaml *t = list->kind == BL_YAML_LIST ? list->child : NULL; t; t = t->next)
		if (mark(r, t, value, err))
			return err->status;
	return BL_OK;
}

/* ---- schemes ---- */

static const char *text_of(const struct bl_yaml *map, const char *key, const char *fallback)
{
	const struct bl_yaml *v = bl_yaml_get(map, key);

	return v && v->kind == BL_YAML_SCALAR ? v->text : fallback;
}

/* weights + input_activations as a scheme of ours; false with a note when it is none. */
static bool scheme_from_args(struct reader *r, const struct bl_yaml *g, struct target_scheme *out)
{
	const struct bl_yaml *w = bl_yaml_get(g, "weights"), *a = bl_yaml_get(g, "input_activations");
	struct bl_scheme s = {.number = BL_NUM_INT, .symmetric = 1};

	if (!w || w->kind != BL_YAML_MAP) {
		note(r, g->line, "a group without weights is left out");
		return false;
	}
	long bits = strtol(text_of(w, "num_bits", "8"), NULL, 10), group = strtol(text_of(w, "group_size", "0"), NULL, 10);
	const char *strategy = text_of(w, "strategy", group > 0 ? "group" : "channel"), *observer = text_of(w, "observer", "minmax");
	if (!strcmp(text_of(w, "type", "int"), "float"))
		s.number = BL_NUM_FLOAT;
	s.bits = (uint8_t)(bits < 0 || bits > 16 ? 0 : bits);
	s.symmetric = strcmp(text_of(w, "symmetric", "true"), "false") != 0;
	s.strategy = !strcmp(strategy, "group") ? BL_STRATEGY_GROUP : BL_STRATEGY_CHANNEL;
	s.group = s.strategy == BL_STRATEGY_GROUP && group > 0 && group < 65536 ? (uint16_t)group : 0;
	if (a && a->kind == BL_YAML_MAP) {
		if (strcmp(text_of(a, "dynamic", "false"), "true") || strcmp(text_of(a, "strategy", "token"), "token") || strcmp(text_of(a, "num_bits", "8"), "8")) {
			note(r, a->line, "only dynamic 8-bit activations per token can be honoured; the group is left out");
			return false;
		}
		s.act = !strcmp(text_of(a, "type", "int"), "float") ? BL_ACT_FP8_TOKEN : BL_ACT_INT8_TOKEN;
	}
	bool known = strcmp(strategy, "group") ? !strcmp(strategy, "channel") : s.group > 0;
	if (!known || s.bits < 2 || s.bits > 8 || (s.number == BL_NUM_FLOAT) != (s.act == BL_ACT_FP8_TOKEN)) {
		note(r, w->line, "strategy %s with %ld bits, type %s has no scheme here; the group is left out", strategy, bits, text_of(w, "type", "int"));
		return false;
	}
	snprintf(out->params, sizeof out->params, "%s", strstr(observer, "mse") ? "observer=mse" : "");
	if (!strstr(observer, "mse") && !strstr(observer, "minmax"))
		note(r, w->line, "observer %s is not known; minmax is used", observer);
	if (bl_yaml_get(w, "actorder"))
		note(r, w->line, "actorder has no meaning for round-to-nearest; the files are the same without it");
	out->scheme = s;
	return true;
}

static int add_scheme(struct reader *r, const struct target_scheme *s)
{
	r->schemes = bl_xrealloc(r->schemes, (size_t)r->n_schemes + 1, sizeof *r->schemes);
	r->schemes[r->n_schemes] = *s;
	return r->n_schemes++;
}

static bool named_scheme(struct reader *r, const struct bl_yaml *at, const char *name, struct target_scheme *out)
{
	struct bl_err ignored = BL_ERR_INIT;

	memset(out, 0, sizeof *out);
	if (bl_scheme_parse(&out->scheme, name, &ignored) == BL_OK)
		return true;
	note(r, at->line, "scheme %s is not offered; it is left out", name);
	return false;
}

/* ---- modifiers ---- */

static enum bl_status read_groups(struct reader *r, const struct bl_yaml *m, struct bl_err *err)
{
	const struct bl_yaml *groups = bl_yaml_get(m, "config_groups"), *scheme = bl_yaml_get(m, "scheme"), *targets = bl_yaml_get(m, "targets");
	struct target_scheme s;

	for (const struct bl_yaml *g = groups && groups->kind == BL_YAML_MAP ? groups->child : NULL; g; g = g->next)
		if (g->kind == BL_YAML_MAP && (memset(&s, 0, sizeof s), scheme_from_args(r, g, &s)) && mark_all(r, bl_yaml_get(g, "targets"), add_scheme(r, &s), err))
			return err->status;
	if (scheme && scheme->kind == BL_YAML_SCALAR && named_scheme(r, scheme, scheme->text, &s)) {
		struct bl_yaml all = {.kind = BL_YAML_SCALAR, .text = (char *)(uintptr_t)"Linear", .line = scheme->line};
		return mark_all(r, targets ? targets : &all, add_scheme(r, &s), err);
	}
	for (const struct bl_yaml *n = scheme && scheme->kind == BL_YAML_MAP ? scheme->child : NULL; n; n = n->next)
		if (named_scheme(r, n, n->key, &s) && mark_all(r, n, add_scheme(r, &s), err))
			return err->status;
	return BL_OK;
}

static enum bl_status read_modifier(struct reader *r, const struct bl_yaml *m, struct bl_err *err)
{
	static const char *const known[] = {"targets", "ignore", "scheme", "config_groups", NULL};
	bool gptq = !strcmp(m->key, "GPTQModifier");

	if (!gptq && strcmp(m->key, "QuantizationModifier")) {
		note(r, m->line, "%s is not in this version; it is left out", m->key);
		return BL_OK;
	}
	if (m->kind != BL_YAML_MAP)
		return bl_fail(err, BL_INVALID, "%s: line %d: %s must hold settings", r->label, m->line, m->key);
	if (gptq)
		note(r, m->line, "GPTQ needs calibration, which is not in this version: the schemes are taken over with round-to-nearest");
	for (const struct bl_yaml *f = m->child; f; f = f->next) {
		int k = 0;
		while (known[k] && strcmp(known[k], f->key))
			k++;
		if (!known[k])
			note(r, f->line, "%s.%s has no effect here", m->key, f->key);
	}
	if (read_groups(r, m, err))
		return err->status;
	return mark_all(r, bl_yaml_get(m, "ignore"), IGNORED, err);
}

/* Stages hold "…modifiers" maps; older files put modifiers into the stage itself. */
static enum bl_status walk(struct reader *r, const struct bl_yaml *map, int depth, struct bl_err *err)
{
	for (const struct bl_yaml *c = map->child; c; c = c->next) {
		bool modifier = bl_ends_with(c->key, "Modifier");
		if (modifier ? read_modifier(r, c, err) : c->kind == BL_YAML_MAP && depth < 3 ? walk(r, c, depth + 1, err) : BL_OK)
			return err->status;
		if (!modifier && c->kind != BL_YAML_MAP)
			note(r, c->line, "%s has no effect here", c->key);
	}
	return BL_OK;
}

/* ---- applying ---- */

static void apply_unit(struct reader *r, int unit)
{
	const struct bl_unit *u = &r->m->units[unit];
	const int *of = &r->of[unit * BL_MEMBERS_MAX];
	struct bl_scheme full = BL_SCHEME_FULL;

	for (int j = 1; j < u->n_members; j++)
		if (of[j] != of[0]) {
			bl_str_addf(r->notes, "%s: %s: its linears would get different schemes, but the server fuses them: left as it is\n", r->label, u->name);
			return;
		}
	if (of[0] == NOT_TARGETED)
		return;
	const struct bl_scheme *s = of[0] == IGNORED ? &full : &r->schemes[of[0]].scheme;
	if (!bl_plan_set_scheme(r->p, unit, s))
		bl_str_addf(r->notes, "%s: %s is locked and kept\n", r->label, u->name);
	else if (s->number != BL_NUM_FULL)
		bl_plan_set_method(r->p, unit, "rtn", r->schemes[of[0]].params);
}

enum bl_status bl_recipe_apply(struct bl_plan *p, const struct bl_model *m, const char *text, size_t n, const char *label, struct bl_str *notes, struct bl_err *err)
{
	struct reader r = {.p = p, .m = m, .label = label, .notes = notes};
	struct bl_yaml *root = NULL;

	if (bl_yaml_parse(&root, text, n, label, err))
		return err->status;
	size_t linears = (size_t)m->n_units * BL_MEMBERS_MAX;
	r.of = bl_xalloc(linears + 1, sizeof *r.of);
	for (size_t i = 0; i < linears; i++)
		r.of[i] = NOT_TARGETED;
	if (root->kind != BL_YAML_MAP)
		bl_fail(err, BL_INVALID, "%s: must be a map of stages", label);
	else if (walk(&r, root, 0, err) == BL_OK) {
		bl_plan_begin(p, "recipe");
		for (int i = 0; i < m->n_units; i++)
			apply_unit(&r, i);
		bl_plan_end(p);
	}
	bl_free(r.of);
	bl_free(r.schemes);
	bl_yaml_free(root);
	return err->status;
}

enum bl_status bl_recipe_load(struct bl_plan *p, const struct bl_model *m, const char *path, struct bl_str *notes, struct bl_err *err)
{
	char *text = NULL;
	size_t n = 0;

	if (bl_read_file(&text, &n, path, RECIPE_MAX_BYTES, true, err))
		return err->status;
	bl_recipe_apply(p, m, text, n, path, notes, err);
	bl_free(text);
	return err->status;
}
