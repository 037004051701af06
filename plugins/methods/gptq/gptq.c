/* SPDX-License-Identifier: Apache-2.0
 * GPTQ (arXiv 2210.17323) and what improves on it without changing the file format: scales chosen by the loss that counts, coordinate descent after the
 * rounding, and scales refitted to the codes. All of them lower tr(D H D^T), the error of the unit's output over the calibration set.
 *
 * GPTAQ (arXiv 2504.02692) and Qronos (arXiv 2505.11695) weigh the inputs that the unit has in the quantized model against those it has in the base model. Both
 * are rounded like GPTQ's, over H of the quantized inputs: GPTAQ moves the columns to come by a part of what each column's inputs have lost; Qronos gives the
 * first column its best value beside all others as they are, then all others theirs (least squares), and goes on from there. */
#include "plugins/methods/gptq/engine.h"

#define NUMBER(key, kind, usual, least, most, text) { .name = key, .type = BL_PARAM_##kind, .fallback = usual, .min = least, .max = most, .sentence = text }
#define CHOICE(key, usual, list, text) { .name = key, .type = BL_PARAM_CHOICE, .fallback = usual, .choices = list, .sentence = text }
#define DAMPING(usual) NUMBER("dampening_frac", REAL, usual, 0, 1, "Part of the mean of the Hessian's diagonal that is added to it.")
#define ORDER \
	CHOICE("actorder", "static", "static|none|groups", \
	       "static: columns that see the most input are rounded first; groups: the same within groups, which come by their strongest; groups stay as they are.")
#define OBSERVER \
	CHOICE("observer", "hessian", "hessian|mse|minmax", "How scales are found: least error weighted by the input's energy, least error, or the whole range (always, where rows share a scale).")
#define LEAST NUMBER("least", REAL, "0.3", 0.05, 0.99, "hessian, mse: the smallest part of the range that is tried.")
#define GRID NUMBER("grid", INT, "70", 2, 1000, "hessian, mse: into how many steps the ranges are divided.")
#define NORM NUMBER("norm", REAL, "2", 1, 8, "hessian, mse: errors count with this power.")
#define ROUNDS NUMBER("rounds", INT, "0", 0, 20, "How often scales are refitted to the codes (not where rows share them), each time followed by descent.")
#define SWEEPS NUMBER("sweeps", INT, "2", 0, 20, "Sweeps of coordinate descent in each round.")
#define FULL { .name = "full_range", .type = BL_PARAM_BOOL, .fallback = "false", \
	       .sentence = "Also try scales whose grid ends at the largest weight on either side (they may be negative); 4-bit floats always try the largest at 4." }
#define INPUTS CHOICE("inputs", "base", "base|quantized", "Whose inputs count: the base model's, or those of the model as quantized up to the block.")
#define TOKEN \
	CHOICE("token_weight", "same", "same|rms", "rms: where a norm follows the linear, tokens count by one over the mean square of its output.")

/* rows that the methods share, in the places that settings_of looks at; P_ALPHA: of gptaq and qronos alone */
enum { P_DAMPING, P_ORDER, P_OBSERVER, P_LEAST, P_GRID, P_NORM, P_ROUNDS, P_SWEEPS, P_FULL, P_ALPHA };

static struct gptq_settings settings_of(const double *p, enum gptq_aim aim)
{
	return (struct gptq_settings){
		.aim = aim, .damping = p[P_DAMPING], .order = (enum gptq_order)p[P_ORDER], .observer = (enum gptq_observer)p[P_OBSERVER], .least = p[P_LEAST],
		.grid = (int)p[P_GRID], .norm = p[P_NORM], .rounds = (int)p[P_ROUNDS], .sweeps = (int)p[P_SWEEPS], .full_range = p[P_FULL] != 0,
	};
}

/* ---- gptq ---- */

static const struct bl_param gptq_params[] = {
	DAMPING("0.01"), ORDER, OBSERVER, LEAST, GRID, NORM, ROUNDS, SWEEPS, FULL, INPUTS,
	NUMBER("qep_alpha", REAL, "0", 0, 1, "inputs=quantized: how much of what the inputs have lost the weights make up for before they are rounded."),
	TOKEN,
	NUMBER("block_size", INT, "128", 1, 65536, "Known from recipes: columns between two matrix products; it changes no result and is not used."),
};

static const char *gptq_unit(const struct bl_method_unit *c)
{
	const struct gptq_settings s = settings_of(c->params, AIM_WEIGHTS);

	return gptq_solve(c, &s);
}

static const struct bl_method gptq = {
	.name = "gptq",
	.sentence = "Rounds column by column and makes up for each error in the columns to come; needs a calibration.",
	.params = gptq_params,
	.n_params = sizeof gptq_params / sizeof gptq_params[0],
	.refuses = gptq_refuses,
	.solve_unit = gptq_unit,
};

/* ---- gptaq ---- */

static const struct bl_param gptaq_params[] = {
	DAMPING("0.01"), ORDER, OBSERVER, LEAST, GRID, NORM, ROUNDS, SWEEPS, FULL,
	NUMBER("alpha", REAL, "0.25", 0, 1, "How much of what a column's inputs have lost the columns to come make up for."),
	TOKEN,
};

static const char *gptaq_unit(const struct bl_method_unit *c)
{
	struct gptq_settings s = settings_of(c->params, AIM_FED);

	s.alpha = c->params[P_ALPHA];
	return gptq_solve(c, &s);
}

static const struct bl_method gptaq = {
	.name = "gptaq",
	.sentence = "GPTQ on the quantized model's inputs, where each column also makes up for what its inputs have lost; needs a calibration.",
	.params = gptaq_params,
	.n_params = sizeof gptaq_params / sizeof gptaq_params[0],
	.refuses = gptq_refuses,
	.solve_unit = gptaq_unit,
	.flags = BL_METHOD_CROSS,
};

/* ---- qronos ---- */

static const struct bl_param qronos_params[] = {
	NUMBER("dampening_frac", REAL, "0.000001", 0, 1, "Part of the Hessian's largest eigenvalue that is added to its diagonal."),
	ORDER, OBSERVER, LEAST, GRID, NORM, ROUNDS, SWEEPS, FULL,
	NUMBER("alpha", REAL, "1", 0, 1, "How much of the way to the weights that do best on the quantized inputs is gone; 0.5 where data are few."),
	TOKEN,
};

static const char *qronos_unit(const struct bl_method_unit *c)
{
	struct gptq_settings s = settings_of(c->params, AIM_TARGET);

	s.alpha = c->params[P_ALPHA];
	return gptq_solve(c, &s);
}

static const struct bl_method qronos = {
	.name = "qronos",
	.sentence = "Rounds against the base model's outputs on the quantized model's inputs: all columns to come take their best values; needs a calibration.",
	.params = qronos_params,
	.n_params = sizeof qronos_params / sizeof qronos_params[0],
	.refuses = gptq_refuses,
	.solve_unit = qronos_unit,
	.flags = BL_METHOD_CROSS,
};

static const struct bl_method *const methods[] = { &gptq, &gptaq, &qronos, NULL };
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "gptq",
	.version = "2",
	.sentence = "GPTQ, with scales by the Hessian, descent and refit; GPTAQ and Qronos.",
	.methods = methods,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
