/* SPDX-License-Identifier: Apache-2.0
 * AutoRound (SignRound, arXiv 2309.05516): block by block, rounding offsets and scales follow the sign of their gradients so that the block's output comes
 * close to the full-precision block's. The defaults are those of the paper's tool (200 steps, rate 1/steps, batches of 8, inputs from the quantized blocks
 * before); `start=scales` begins from scales that the inputs' energy has chosen instead of the whole range. */
#include <stdio.h>

#include "plugins/methods/trained.h"

enum { P_ITERS, P_WINDOWS, P_BATCH, P_LR, P_SCALE_LR, P_START, P_QUANTIZED, P_SEED, P_COUNT };

static const struct bl_param params[P_COUNT] = {
	[P_ITERS] = { .name = "iters", .type = BL_PARAM_INT, .fallback = "200", .min = 1, .max = 100000, .sentence = "Steps for each block." },
	[P_WINDOWS] = { .name = "windows", .type = BL_PARAM_INT, .fallback = "128", .min = 0, .max = 1e9,
			.sentence = "How many windows of the calibration are used, from the first on; 0: all." },
	[P_BATCH] = { .name = "batch", .type = BL_PARAM_INT, .fallback = "8", .min = 1, .max = 4096, .sentence = "Windows in a step." },
	[P_LR] = { .name = "lr", .type = BL_PARAM_REAL, .fallback = "0", .min = 0, .max = 1, .sentence = "How far an offset moves in the first step, in steps of the grid; 0: 1/iters." },
	[P_SCALE_LR] = { .name = "scale_lr", .type = BL_PARAM_REAL, .fallback = "0", .min = 0, .max = 1, .sentence = "The same for a scale, as a part of it; 0: as lr." },
	[P_START] = { .name = "start", .type = BL_PARAM_CHOICE, .fallback = "range", .choices = "range|scales|gptq",
		      .sentence = "range: the whole range, as AutoRound does; scales: chosen by the inputs' energy; gptq: from its codes." },
	[P_QUANTIZED] = { .name = "quantized_inputs", .type = BL_PARAM_BOOL, .fallback = "true", .sentence = "A block sees what the quantized blocks before it give." },
	[P_SEED] = { .name = "seed", .type = BL_PARAM_INT, .fallback = "42", .min = 0, .max = 2147483647, .sentence = "Of the order of the windows." },
};

static const char *tuning(struct bl_tuning *out, bl_param_values v)
{
	const double lr = v[P_LR] > 0 ? v[P_LR] : 1 / v[P_ITERS];

	out->scope = BL_TUNING_BLOCK;
	out->start = v[P_START] == 0 ? BL_TUNING_RANGE : v[P_START] == 1 ? BL_TUNING_SCALES : BL_TUNING_CODES;
	out->step = BL_TUNING_SIGN;
	snprintf(out->start_method, sizeof out->start_method, "gptq");
	out->offset_rate = lr;
	out->factor_rate = v[P_SCALE_LR] > 0 ? v[P_SCALE_LR] : lr;
	out->factor_least = v[P_START] == 0 ? 1e-3 : 0.5;
	out->factor_most = v[P_START] == 0 ? 1 : 2;
	out->windows = (int64_t)v[P_WINDOWS];
	out->batch = (int64_t)v[P_BATCH];
	out->iterations = (int64_t)v[P_ITERS];
	out->quantized_inputs = v[P_QUANTIZED] != 0;
	out->seed = (uint64_t)v[P_SEED];
	return NULL;
}

static const struct bl_method autoround = {
	.name = "autoround",
	.sentence = "Trains offsets and scales block by block against the full-precision block's output; needs a calibration.",
	.params = params,
	.n_params = P_COUNT,
	.refuses = trained_refuses,
	.tuning = tuning,
};
static const struct bl_method *const methods[] = { &autoround, NULL };
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "autoround",
	.version = "1",
	.sentence = "AutoRound.",
	.methods = methods,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
