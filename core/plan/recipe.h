/* SPDX-License-Identifier: Apache-2.0
 * llm-compressor recipes (recipe.yaml), in and out. Read: any stage name (default_stage, quant_stage, DEFAULT_stage …) holding modifiers
 * QuantizationModifier and GPTQModifier with targets, ignore, scheme (name or mapping), config_groups, block_size, dampening_frac, actorder, observer, …
 * Whatever cannot be honoured is listed in `notes`, one sentence a line; nothing is dropped in silence. YAML through libyaml events with bounds: 1 MB, depth 32,
 * 100,000 nodes, anchors and aliases refused (alias bombs). */
#ifndef BL_PLAN_RECIPE_H
#define BL_PLAN_RECIPE_H

#include "core/plan/plan.h"

/* Applies to the plan as one undo step. notes: appended. */
enum bl_status bl_recipe_apply(struct bl_plan *p, const struct bl_model *m, const char *text, size_t n, const char *label, struct bl_str *notes, struct bl_err *err);
enum bl_status bl_recipe_load(struct bl_plan *p, const struct bl_model *m, const char *path, struct bl_str *notes, struct bl_err *err);
/* A recipe that describes the plan (QuantizationModifier per scheme with exact names) plus provenance comments: tool version, seed, model digest, plan digest. Deterministic. */
void bl_recipe_print(struct bl_str *out, const struct bl_plan *p, const struct bl_model *m, const char *tool);

#endif
