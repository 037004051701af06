/* SPDX-License-Identifier: Apache-2.0
 * llm-compressor recipes (recipe.yaml), in and out. Read: any stage name (default_stage, quant_stage, DEFAULT_stage …) holding modifiers
 * QuantizationModifier and GPTQModifier with targets, ignore, scheme (name or mapping), config_groups, block_size, dampening_frac, actorder, observer, …
 * Whatever cannot be honoured is listed in `notes`, one sentence a line; nothing is dropped in silence. YAML through libyaml events with bounds: 1 MB, depth 32,
 * 100,000 nodes, anchors and aliases refused (alias bombs). */
#ifndef BL_PLAN_RECIPE_H
#define BL_PLAN_RECIPE_H

#include "core/base/str.h"
#include "core/plan/plan.h"

/* Which methods can be used is known above this part. NULL, or known NULL: round-to-nearest alone. */
struct bl_recipe_methods { bool (*known)(const void *ctx, const char *name); const void *ctx; };

/* Applies to the plan as one undo step; the recipe describes the whole model: what it does not target or ignores is full precision. notes: appended. */
enum bl_status bl_recipe_apply(struct bl_plan *p, const struct bl_model *m, const char *text, size_t n, const char *label, const struct bl_recipe_methods *methods,
			       struct bl_str *notes, struct bl_err *err);
enum bl_status bl_recipe_load(struct bl_plan *p, const struct bl_model *m, const char *path, const struct bl_recipe_methods *methods, struct bl_str *notes,
			      struct bl_err *err);
/* A recipe that describes the plan (exact names in QuantizationModifier and, for gptq, GPTQModifier: reading it gives the same choices) plus provenance comments: tool version, seed, model digest, plan digest. Deterministic. */
void bl_recipe_print(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, const char *tool);

#endif
