/* SPDX-License-Identifier: Apache-2.0
 * A plan as recipe.yaml: one QuantizationModifier per scheme with exact module names, so that reading it again gives the same plan, and where it
 * came from as comments. */
#include <stdio.h>
#include <string.h>

#include "core/base/str.h"
#include "core/plan/recipe.h"

static bool leads(const struct bl_plan *p, int unit)
{
	const struct bl_choice *c = bl_plan_choice(p, unit);

	if (c->scheme.number == BL_NUM_FULL)
		return false;
	for (int i = 0; i < unit; i++) {
		const struct bl_choice *d = bl_plan_choice(p, i);
		if (bl_scheme_equal(&c->scheme, &d->scheme) && !strcmp(c->method, d->method) && !strcmp(c->params, d->params))
			return false;
	}
	return true;
}

static bool same(const struct bl_choice *a, const struct bl_choice *b)
{
	return bl_scheme_equal(&a->scheme, &b->scheme) && !strcmp(a->method, b->method) && !strcmp(a->params, b->params);
}

static void print_args(struct bl_str *out, const struct bl_scheme *s)
{
	bl_str_addf(out, "          weights: {num_bits: %d, type: %s, symmetric: %s, strategy: %s, dynamic: false", s->bits,
		    s->number == BL_NUM_FLOAT ? "float" : "int", s->symmetric ? "true" : "false", s->group ? "group" : "channel");
	if (s->group)
		bl_str_addf(out, ", group_size: %d", s->group);
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
	char name[BL_SCHEME_NAME_MAX];

	bl_str_addf(out, "        group_%d: # %s %s%s%s\n          targets:\n", number, bl_scheme_name(name, &c->scheme), c->method, *c->params ? " " : "",
		    c->params);
	for (int i = 0; i < m->n_units; i++)
		for (int j = 0; same(bl_plan_choice(p, i), c) && j < m->units[i].n_members; j++)
			bl_str_addf(out, "          - %s\n", m->units[i].members[j].name);
	print_args(out, &c->scheme);
}

void bl_recipe_print(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, const char *tool)
{
	char digest[65], title[256];
	int number = 0;

	bl_plan_digest(p, digest);
	bl_str_addf(out, "# Made by %s. Nothing reads this to serve the model: it records how the weights were made.\n", tool);
	bl_str_addf(out, "# model: %s\n# model digest: %s\n# plan digest: %s\n# target: %s\n# seed: 42\n", bl_printable(title, sizeof title, m->title), m->digest,
		    digest, bl_plan_target(p));
	for (int i = 0; i < bl_plan_n_edits(p); i++)
		bl_str_addf(out, "# config.json: %s = %s\n", bl_plan_edit(p, i)->key, *bl_plan_edit(p, i)->value ? bl_plan_edit(p, i)->value : "(removed)");
	bl_str_add(out, "default_stage:\n  default_modifiers:\n    QuantizationModifier:\n      ignore: [lm_head]\n");
	for (int i = 0; i < m->n_units; i++)
		number += leads(p, i);
	bl_str_add(out, number ? "      config_groups:\n" : "      targets: []\n");
	number = 0;
	for (int i = 0; i < m->n_units; i++)
		if (leads(p, i))
			print_group(out, p, m, i, number++);
}
