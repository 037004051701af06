/* SPDX-License-Identifier: Apache-2.0
 * Any text as recipe.yaml, and as a pattern and a --set text; whatever plan comes of it must survive being written as a recipe and as
 * a plan file. link: bl_plan */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/plan/plan_file.h"
#include "core/plan/recipe.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool any_method(const void *ctx, const char *name)
{
	(void)ctx;
	return *name != '\0';
}

static void must(bool ok, const char *what, const struct bl_err *err)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, err->text);
	abort();
}

/* The same choices after writing and reading. */
static void survives(const struct bl_plan *p, const struct bl_model *m, const struct bl_recipe_methods *methods)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_str recipe = {0}, again = {0}, file = {0}, notes = {0};
	struct bl_plan *q = bl_plan_new(m, bl_plan_target(p)), *f = NULL;

	bl_recipe_print(&recipe, p, m, "fuzz");
	must(bl_recipe_apply(q, m, bl_str_c(&recipe), recipe.len, "again", methods, &notes, &err) == BL_OK, "recipe", &err);
	for (int i = 0; i < m->n_units; i++) {
		const struct bl_choice *a = bl_plan_choice(p, i), *b = bl_plan_choice(q, i);
		must(bl_scheme_equal(&a->scheme, &b->scheme), "scheme", &err);
		must(!strcmp(a->method, b->method), "method", &err);
		must(!strcmp(a->params, b->params) || strlen(a->params) > 500, "params", &err);
	}
	bl_plan_print(&file, p);
	must(bl_plan_parse(&f, m, bl_str_c(&file), file.len, "file", NULL, &err) == BL_OK, "file", &err);
	bl_plan_print(&again, f);
	must(again.len == file.len && !memcmp(again.s, file.s, file.len), "file changed", &err);
	bl_str_free(&recipe);
	bl_str_free(&again);
	bl_str_free(&file);
	bl_str_free(&notes);
	bl_plan_free(q);
	bl_plan_free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct bl_model *m = fuzz_model();
	struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
	struct bl_recipe_methods all = {any_method, NULL};
	struct bl_err err = BL_ERR_INIT;
	struct bl_str notes = {0};
	char *text = bl_xstrndup((const char *)data, n < 4096 ? n : 4096);

	if (bl_recipe_apply(p, m, (const char *)data, n, "fuzz", n % 2 ? &all : NULL, &notes, &err) == BL_OK)
		survives(p, m, &all);
	else if (bl_plan_undo_label(p))
		abort(); /* refused, and yet something changed */
	bl_err_clear(&err);
	if (bl_plan_set_text(p, m, text, NULL, NULL, &err) == BL_OK)
		survives(p, m, &all);
	bl_free(text);
	bl_str_free(&notes);
	bl_plan_free(p);
	return 0;
}
