/* SPDX-License-Identifier: Apache-2.0
 * Any text as recipe.yaml, and as a pattern and a --set text. link: bl_plan */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/plan/recipe.h"
#include "tests/fuzz/demo_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct bl_model *m = fuzz_model();
	struct bl_plan *p = bl_plan_new(m, "l4-vllm-0.14.1");
	struct bl_err err = BL_ERR_INIT;
	struct bl_str notes = {0};
	char *text = bl_xstrndup((const char *)data, n < 4096 ? n : 4096);

	bl_recipe_apply(p, m, (const char *)data, n, "fuzz", NULL, &notes, &err);
	bl_err_clear(&err);
	bl_plan_set_text(p, m, text, NULL, NULL, &err);
	bl_free(text);
	bl_str_free(&notes);
	bl_plan_free(p);
	return 0;
}
