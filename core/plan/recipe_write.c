/* SPDX-License-Identifier: Apache-2.0
 * A plan as recipe.yaml: config groups with exact module names, so that reading it again gives the same choices, and where it came from as
 * comments. Each set of GPTQ parameters is a stage of its own, because a GPTQModifier has them once for all its groups; everything else goes into
 * one QuantizationModifier. What the recipe's words cannot say (a plugin's method, odd parameters) rides in observer_kwargs, a free map. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/base/str.h"
#include "core/plan/recipe_scheme.h"

static bool same(const struct bl_choice *a, const struct bl_choice *b)
{
	return bl_scheme_equal(&a->scheme, &b->scheme) && !strcmp(a->method, b->method) && !strcmp(a->params, b->params);
}

/* One parameter of a text "a=1,b=2": its key and value; NULL at the end, else where the next one starts. */
struct param { const char *key, *value; size_t key_len, value_len; };

static const char *next_param(struct param *out, const char *at)
{
	size_t whole = strcspn(at, ","), key = strcspn(at, "=,");

	if (!*at)
		return NULL;
	*out = (struct param){at, at + key + (key < whole), key, whole - key - (key < whole)};
	return at + whole + (at[whole] == ',');
}

static bool is_text(const char *s, size_t n, const char *text)
{
	return n == strlen(text) && !strncmp(s, text, n);
}

static bool is_plain(const char *s, size_t n)
{
	if (!n || n > 60 || !isalnum((unsigned char)*s) || (n == 4 && !strncasecmp(s, "null", n)))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("._+-", s[i]))
			return false;
	return true;
}

/* Other values of actorder are read as another spelling of these, or as a scheme's. */
static bool is_order(const struct param *a)
{
	return !is_text(a->key, a->key_len, "actorder") || is_text(a->value, a->value_len, "static") || is_text(a->value, a->value_len, "none") ||
	       is_text(a->value, a->value_len, "groups");
}

/* Whether each parameter can stand as "key: value": plain words, each key once and, when there is a list, on it. */
static bool is_sayable(const char *params, const char *const *keys)
{
	static const char *const own[] = {BL_RECIPE_METHOD_KEY, BL_RECIPE_PARAMS_KEY, NULL};
	struct param a, b;
	size_t n = strlen(params);

	if (n > 500 || (n && params[n - 1] == ','))
		return false;
	for (const char *c = next_param(&a, params); c; c = next_param(&a, c)) {
		if (!is_plain(a.key, a.key_len) || !is_plain(a.value, a.value_len) || bl_recipe_is_key(a.key, a.key_len, own) ||
		    (keys && !bl_recipe_is_key(a.key, a.key_len, keys)) || (keys == bl_recipe_gptq_keys && !is_order(&a)))
			return false;
		for (const char *d = next_param(&b, c); d; d = next_param(&b, d))
			if (a.key_len == b.key_len && !strncmp(a.key, b.key, a.key_len))
				return false;
	}
	return true;
}

#define PRUNES (-2)

/* The modifiers of the recipe: -1 is the one that rounds, PRUNES those that only prune, others are the first unit with these GPTQ parameters. */
static int modifier_of(const struct bl_plan *p, int unit)
{
	const struct bl_choice *c = bl_plan_choice(p, unit);

	if (c->scheme.number == BL_NUM_PRUNED)
		return PRUNES;
	if (c->scheme.number == BL_NUM_FULL || strcmp(c->method, "gptq") || !is_sayable(c->params, bl_recipe_gptq_keys))
		return -1;
	for (int i = 0; i < unit; i++) {
		const struct bl_choice *d = bl_plan_choice(p, i);
		if (d->scheme.number != BL_NUM_FULL && !strcmp(d->method, "gptq") && !strcmp(d->params, c->params))
			return i;
	}
	return unit;
}

static bool leads(const struct bl_plan *p, int unit)
{
	const struct bl_choice *c = bl_plan_choice(p, unit);

	if (c->scheme.number == BL_NUM_FULL)
		return false;
	for (int i = 0; i < unit; i++)
		if (same(c, bl_plan_choice(p, i)))
			return false;
	return true;
}

/* "a=1,b=2" as "a: 1<between>b: 2". null: whether no order of columns is said as recipes say it. */
static void print_params(struct bl_str *out, const char *params, const char *between, bool null)
{
	struct param a;

	for (const char *c = next_param(&a, params), *first = c; c; c = next_param(&a, c)) {
		const bool none = null && is_text(a.key, a.key_len, "actorder") && is_text(a.value, a.value_len, "none");
		bl_str_addf(out, "%s%.*s: %.*s", c == first ? "" : between, (int)a.key_len, a.key, none ? 4 : (int)a.value_len, none ? "null" : a.value);
	}
}

/* observer and observer_kwargs: the parameters of a choice that is rounded, or another method by name. */
static void print_observer(struct bl_str *out, const struct bl_choice *c)
{
	static const char mse[] = "observer=mse";
	const char *rest = c->params;
	bool rtn = !strcmp(c->method, "rtn"), has_mse = rtn && bl_starts_with(rest, mse) && (!rest[sizeof mse - 1] || rest[sizeof mse - 1] == ',');

	if (has_mse)
		rest += sizeof mse - 1 + (rest[sizeof mse - 1] == ',');
	bool sayable = is_sayable(rest, rtn ? bl_recipe_rtn_keys : NULL) && (!has_mse || *rest || !strcmp(c->params, mse));
	if (has_mse && sayable)
		bl_str_add(out, ", observer: mse");
	if (rtn && sayable && !*rest)
		return;
	bl_str_add(out, ", observer_kwargs: {");
	if (!rtn) {
		bl_str_add(out, BL_RECIPE_METHOD_KEY ": ");
		bl_str_add_json(out, c->method); /* a JSON string is a YAML string */
		bl_str_add(out, *rest ? ", " : "");
	}
	if (sayable) {
		print_params(out, rest, ", ", false);
	} else {
		bl_str_add(out, BL_RECIPE_PARAMS_KEY ": ");
		bl_str_add_json(out, c->params);
	}
	bl_str_add(out, "}");
}

static void print_args(struct bl_str *out, const struct bl_choice *c, int modifier)
{
	const struct bl_scheme *s = &c->scheme;

	static const char *const strategies[] = {"channel", "tensor", "channel", "group", "block", "tensor_group"};
	char name[BL_SCHEME_NAME_MAX];

	if (bl_scheme_is_bnb(s)) /* of other tools: by name */
		bl_str_addf(out, "          scheme: %s\n", bl_scheme_name(name, s));
	bl_str_addf(out, "          weights: {num_bits: %d, type: %s, symmetric: %s, strategy: %s, dynamic: false", s->bits,
		    s->number == BL_NUM_FLOAT || s->number == BL_NUM_E2M1 ? "float" : "int", s->symmetric ? "true" : "false", strategies[s->strategy]);
	if (s->strategy == BL_STRATEGY_BLOCK)
		bl_str_addf(out, ", block_structure: [%d, %d]", s->group, s->group);
	else if (s->group)
		bl_str_addf(out, ", group_size: %d%s", s->group, s->order ? ", actorder: group" : "");
	if (modifier < 0)
		print_observer(out, c);
	bl_str_add(out, "}\n");
	if (s->act == BL_ACT_NONE)
		bl_str_add(out, "          input_activations: null\n");
	else if (s->act == BL_ACT_FP8_GROUP)
		bl_str_addf(out, "          input_activations: {num_bits: 8, type: float, symmetric: true, strategy: group, group_size: %d, dynamic: true}\n", s->group);
	else if (s->act == BL_ACT_FP4_GROUP)
		bl_str_addf(out, "          input_activations: {num_bits: 4, type: float, symmetric: true, strategy: tensor_group, group_size: %d, dynamic: local}\n", s->group);
	else
		bl_str_addf(out, "          input_activations: {num_bits: 8, type: %s, symmetric: true, strategy: %s, dynamic: %s}\n",
			    bl_act_is_fp8(s->act) ? "float" : "int", bl_act_is_static(s->act) ? "tensor" : "token", bl_act_is_static(s->act) ? "false" : "true");
}

static void print_group(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, int lead, int modifier, int number)
{
	const struct bl_choice *c = bl_plan_choice(p, lead);
	char name[BL_SCHEME_NAME_MAX], shown[256];

	bl_str_addf(out, "        group_%d: # %s %s", number, bl_scheme_name(name, &c->scheme), bl_printable(shown, sizeof shown, c->method));
	bl_str_addf(out, "%s%s\n          targets:\n", *c->params ? " " : "", bl_printable(shown, sizeof shown, c->params));
	for (int i = 0; i < m->n_units; i++)
		for (int j = 0; same(bl_plan_choice(p, i), c) && j < m->units[i].n_members; j++)
			bl_str_addf(out, "          - %s\n", m->units[i].members[j].name);
	print_args(out, c, modifier);
}

static void print_modifier(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, int modifier, int *number)
{
	bool any = false;

	bl_str_addf(out, "    %s:\n      ignore: [lm_head]\n", modifier < 0 ? "QuantizationModifier" : "GPTQModifier");
	if (modifier >= 0 && *bl_plan_choice(p, modifier)->params) {
		bl_str_add(out, "      ");
		print_params(out, bl_plan_choice(p, modifier)->params, "\n      ", true);
		bl_str_add(out, "\n");
	}
	for (int i = 0; i < m->n_units; i++) {
		if (!leads(p, i) || modifier_of(p, i) != modifier)
			continue;
		if (!any)
			bl_str_add(out, "      config_groups:\n");
		any = true;
		print_group(out, p, m, i, modifier, (*number)++);
	}
	if (!any)
		bl_str_add(out, "      targets: []\n");
}

/* Units that are pruned and not quantized, led by this one. */
static void print_pruning(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, int lead)
{
	const struct bl_choice *c = bl_plan_choice(p, lead);
	const bool wanda = !strcmp(c->method, "wanda");
	struct param a;

	bl_str_addf(out, "    %s:\n      ignore: [lm_head]\n", wanda ? "WandaPruningModifier" : "SparseGPTModifier");
	if (!wanda && strcmp(c->method, "sparsegpt")) {
		bl_str_add(out, "      " BL_RECIPE_METHOD_KEY ": ");
		bl_str_add_json(out, c->method);
		bl_str_add(out, "\n");
	}
	for (const char *t = next_param(&a, c->params); t; t = next_param(&a, t)) /* 2:4 without quotes is a number to some readers */
		bl_str_addf(out, "      %.*s: \"%.*s\"\n", (int)a.key_len, a.key, (int)a.value_len, a.value);
	bl_str_add(out, "      targets:\n");
	for (int i = 0; i < m->n_units; i++)
		for (int j = 0; same(bl_plan_choice(p, i), c) && j < m->units[i].n_members; j++)
			bl_str_addf(out, "      - %s\n", m->units[i].members[j].name);
}

static void print_provenance(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, const char *tool)
{
	char digest[65], shown[256];

	bl_plan_digest(p, digest);
	bl_str_addf(out, "# Made by %s. Nothing reads this to serve the model: it records how the weights were made.\n", tool);
	bl_str_addf(out, "# model: %s\n# model digest: %s\n# plan digest: %s\n", bl_printable(shown, sizeof shown, m->title), m->digest, digest);
	bl_str_addf(out, "# target: %s\n# seed: 42\n", bl_printable(shown, sizeof shown, bl_plan_target(p)));
	for (int i = 0; i < bl_plan_n_edits(p); i++) {
		const struct bl_config_edit *e = bl_plan_edit(p, i);
		bl_str_addf(out, "# config.json: %s = %s\n", e->key, *e->value ? bl_printable(shown, sizeof shown, e->value) : "(removed)");
	}
}

/* Characters that YAML takes for line ends (a comment would end there) or does not accept at all, as escapes. They can only stand in comments
 * and in quoted text, where the escape means the same. */
static void escape_for_yaml(struct bl_str *out, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		unsigned code = 0, len = 0;
		if (*c == 0xc2 && c[1] < 0xa0) { /* C1 with NEL */
			code = c[1];
			len = 2;
		} else if ((*c == 0xe2 && c[1] == 0x80 && (c[2] & 0xfe) == 0xa8) || /* line and paragraph separator */
			   (*c == 0xef && ((c[1] == 0xbb && c[2] == 0xbf) || (c[1] == 0xbf && c[2] >= 0xbe)))) { /* byte order mark, no characters */
			code = (*c & 15u) << 12 | (c[1] & 63u) << 6 | (c[2] & 63u);
			len = 3;
		}
		if (len)
			bl_str_addf(out, "\\u%04x", code);
		else
			bl_str_addc(out, (char)*c);
		c += len ? len - 1 : 0;
	}
}

static void print_all(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, const char *tool)
{
	int number = 0, stage = 0;
	bool rounds = false, any = false;

	print_provenance(out, p, m, tool);
	for (int i = 0; i < m->n_units; i++) {
		bool quantized = bl_plan_choice(p, i)->scheme.number != BL_NUM_FULL;
		any |= quantized;
		rounds |= quantized && modifier_of(p, i) == -1;
	}
	if (rounds || !any) {
		bl_str_add(out, "default_stage:\n  default_modifiers:\n");
		print_modifier(out, p, m, -1, &number);
	}
	for (int i = 0; i < m->n_units; i++)
		if (modifier_of(p, i) == i) {
			bl_str_addf(out, "gptq_stage_%d:\n  gptq_modifiers:\n", stage++);
			print_modifier(out, p, m, i, &number);
		}
	for (int i = 0; i < m->n_units; i++)
		if (modifier_of(p, i) == PRUNES && leads(p, i)) {
			bl_str_addf(out, "sparsity_stage_%d:\n  sparsity_modifiers:\n", stage++);
			print_pruning(out, p, m, i);
		}
}

void bl_recipe_print(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, const char *tool)
{
	struct bl_str raw = {0};

	print_all(&raw, p, m, tool);
	escape_for_yaml(out, bl_str_c(&raw));
	bl_str_free(&raw);
}
