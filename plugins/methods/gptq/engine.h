/* SPDX-License-Identifier: Apache-2.0
 * What the methods of this plugin share: columns rounded one after the other with feedback, and what improves on that. They differ in what the codes are to come
 * near to, and in what flows from one column into the next. */
#ifndef GPTQ_ENGINE_H
#define GPTQ_ENGINE_H

#include "core/plugin/plugin_api.h"

enum gptq_order { ORDER_STATIC, ORDER_NONE, ORDER_GROUPS };
enum gptq_observer { OBSERVER_HESSIAN, OBSERVER_MSE, OBSERVER_MINMAX };
enum gptq_aim {
	AIM_WEIGHTS, /* the weights (GPTQ) */
	AIM_FED,     /* the weights, each column of which makes up for its part of what inputs have lost in the columns to come (GPTAQ) */
	AIM_TARGET,  /* the weights that do best on the quantized inputs, from a first column that takes all others for fixed (Qronos) */
};
struct gptq_settings {
	enum gptq_aim aim;
	enum gptq_order order;
	enum gptq_observer observer;
	double damping;  /* AIM_TARGET: of H's largest eigenvalue; else of its diagonal's mean */
	double alpha;    /* AIM_FED, AIM_TARGET: how much is made up for */
	double least, norm;
	int grid, rounds, sweeps, full_range;
};

const char *gptq_refuses(const struct bl_grid *g, int64_t rows, int64_t cols);
const char *gptq_solve(const struct bl_method_unit *c, const struct gptq_settings *s);

#endif
