/* SPDX-License-Identifier: Apache-2.0
 * A plan as recipe.yaml: config groups with exact module names, so that reading it again gives the same choices, and where it came from as
 * comments. Everything rounded to nearest goes into one QuantizationModifier; each set of GPTQ parameters is a stage of its own,
 * because a GPTQModifier has them once for all its groups. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"
#include "core/plan/recipe_scheme.h"

static bool same(const struct bl_choice *a, const struct bl_choice *b)
{
	return bl_scheme_equal(&a->scheme, &b->scheme) && !strcmp(a->method, b->method) && !strcmp(a->params, b->params);
}

/* The modifiers of the recipe: -1 is the one that rounds, others are the first unit with these GPTQ parameters. */
static int modifier_of(const struct bl_plan *p, int unit)
{
	const struct bl_choice *c = bl_plan_choice(p, unit);

	if (c->scheme.number == BL_NUM_FULL || strcmp(c->method, "gptq"))
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

/* One value of a parameter text: plain when YAML takes it for what it is, else quoted (a JSON string is a YAML string). */
static void print_value(struct bl_str *out, const char *s, size_t n)
{
	struct bl_str v = {0};
	bool plain = n > 0 && isalnum((unsigned char)*s);

	bl_str_addn(&v, s, n);
	for (size_t i = 0; i < n; i++)
		plain &= isalnum((unsigned char)s[i]) || strchr("._+-", s[i]);
	if (plain)
		bl_str_add(out, bl_str_c(&v));
	else
		bl_str_add_json(out, bl_str_c(&v));
	bl_str_free(&v);
}

/* "a=1,b=2" as "a: 1<between>b: 2"; leaves `but` out. Returns how many it printed. */
static int print_params(struct bl_str *out, const char *params, const char *between, const char *but)
{
	int n = 0;

	for (const char *c = params; *c;) {
		size_t key = strcspn(c, "=,"), whole = strcspn(c, ",");
		if (key < whole && !(strlen(but) == key && !strncmp(c, but, key))) {
			bl_str_add(out, n++ ? between : "");
			print_value(out, c, key);
			bl_str_add(out, ": ");
			print_value(out, c + key + 1, whole - key - 1);
		}
		c += whole + (c[whole] == ',');
	}
	return n;
}

/* observer and observer_kwargs: what a choice that is rounded has as parameters, or another method by name. */
static void print_observer(struct bl_str *out, const struct bl_choice *c)
{
	static const char mse[] = "observer=mse";
	bool rtn = !strcmp(c->method, "rtn"), has_mse = rtn && bl_starts_with(c->params, mse) && (c->params[sizeof mse - 1] == ',' || !c->params[sizeof mse - 1]);
	struct bl_str rest = {0};

	if (!rtn) {
		bl_str_add(&rest, BL_RECIPE_METHOD_KEY ": ");
		print_value(&rest, c->method, strlen(c->method));
		bl_str_add(&rest, *c->params ? ", " : "");
	}
	print_params(&rest, c->params, ", ", rtn ? "observer" : "");
	if (has_mse)
		bl_str_add(out, ", observer: mse");
	if (rest.len)
		bl_str_addf(out, ", observer_kwargs: {%s}", bl_str_c(&rest));
	bl_str_free(&rest);
}

static void print_args(struct bl_str *out, const struct bl_choice *c)
{
	const struct bl_scheme *s = &c->scheme;

	bl_str_addf(out, "          weights: {num_bits: %d, type: %s, symmetric: %s, strategy: %s, dynamic: false", s->bits,
		    s->number == BL_NUM_FLOAT ? "float" : "int", s->symmetric ? "true" : "false", s->group ? "group" : "channel");
	if (s->group)
		bl_str_addf(out, ", group_size: %d", s->group);
	if (strcmp(c->method, "gptq"))
		print_observer(out, c);
	bl_str_add(out, "}\n");
	if (s->act == BL_ACT_NONE)
		bl_str_add(out, "          input_activations: null\n");
	else
		bl_str_addf(out, "          input_activations: {num_bits: 8, type: %s, symmetric: true, strategy: token, dynamic: true}\n",
			    s->act == BL_ACT_FP8_TOKEN ? "float" : "int");
}

static void print_group(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, int lead, int number)
{
	const struct bl_choice *c = bl_plan_choice(p, lead);
	char name[BL_SCHEME_NAME_MAX], shown[256];

	bl_str_addf(out, "        group_%d: # %s %s", number, bl_scheme_name(name, &c->scheme), bl_printable(shown, sizeof shown, c->method));
	bl_str_addf(out, "%s%s\n          targets:\n", *c->params ? " " : "", bl_printable(shown, sizeof shown, c->params));
	for (int i = 0; i < m->n_units; i++)
		for (int j = 0; same(bl_plan_choice(p, i), c) && j < m->units[i].n_members; j++)
			bl_str_addf(out, "          - %s\n", m->units[i].members[j].name);
	print_args(out, c);
}

static void print_modifier(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, int modifier, int *number)
{
	bool any = false;

	bl_str_addf(out, "    %s:\n      ignore: [lm_head]\n", modifier < 0 ? "QuantizationModifier" : "GPTQModifier");
	if (modifier >= 0 && *bl_plan_choice(p, modifier)->params) {
		bl_str_add(out, "      ");
		print_params(out, bl_plan_choice(p, modifier)->params, "\n      ", "");
		bl_str_add(out, "\n");
	}
	for (int i = 0; i < m->n_units; i++) {
		if (!leads(p, i) || modifier_of(p, i) != modifier)
			continue;
		if (!any)
			bl_str_add(out, "      config_groups:\n");
		any = true;
		print_group(out, p, m, i, (*number)++);
	}
	if (!any)
		bl_str_add(out, "      targets: []\n");
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

void bl_recipe_print(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, const char *tool)
{
	int number = 0, stage = 0;
	bool rounds = false, any = false;

	print_provenance(out, p, m, tool);
	for (int i = 0; i < m->n_units; i++) {
		bool quantized = bl_plan_choice(p, i)->scheme.number != BL_NUM_FULL;
		any |= quantized;
		rounds |= quantized && modifier_of(p, i) < 0;
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
}
