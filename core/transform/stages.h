/* SPDX-License-Identifier: Apache-2.0
 * Model-level stages: what may be done to a model's weights without changing what it computes, as a table of transforms with parameter rows, and the text
 * that a plan carries: "smooth:alpha=0.5,pairs=vo+updown;permute". Stages act in order; each sees the weights and ranges that the ones before it left. */
#ifndef BL_TRANSFORM_STAGES_H
#define BL_TRANSFORM_STAGES_H

#include "core/model/model.h"
#include "core/plugin/registry.h"

#define BL_STAGES_MAX 16

enum bl_transform_kind { BL_TRANSFORM_SMOOTH, BL_TRANSFORM_AWQ, BL_TRANSFORM_ROTATE, BL_TRANSFORM_PERMUTE };
struct bl_transform {
	enum bl_transform_kind kind;
	const char *name, *sentence;
	const struct bl_param *params; int n_params;
	bool needs_calibration;
};
const struct bl_transform *bl_transform_at(int i); /* NULL past the end */
const struct bl_transform *bl_transform_find(const char *name);
const struct bl_param *bl_transform_params(const char *name, int *n); /* NULL: no such transform */

struct bl_stage {
	const struct bl_transform *transform;
	double *v;       /* in the order of the rows */
	unsigned pairs;  /* 1 << enum bl_fold_pair */
};
struct bl_stages { struct bl_stage at[BL_STAGES_MAX]; int n; };
/* BL_USAGE: a name or parameter that is not known; BL_UNSUPPORTED: a fold that is not exact in this family, with the reason. */
enum bl_status bl_stages_parse(struct bl_stages *out, const struct bl_model *m, const char *text, struct bl_err *err);
void bl_stages_free(struct bl_stages *s);
/* The same, as canonical text (appended). */
enum bl_status bl_stages_canonical(struct bl_str *out, const struct bl_model *m, const char *text, struct bl_err *err);
/* Value of a row by name. */
double bl_stage_value(const struct bl_stage *s, const char *name);

#endif
