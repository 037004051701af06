/* SPDX-License-Identifier: Apache-2.0
 * Tuning end to end: from AutoRound's codes on (which come from GPTQ's), rounding offsets and scales of all units are trained together so that the model's
 * next-token distribution comes close to the base model's on the calibration windows. A few windows are kept back; the state that does best on them wins, the
 * start included, so that tuning too long costs time alone. Blocks first, because an output vector of a block says more per token than one divergence does.
 * The text to train on is put together anew for every step: what is learnt from is the base model's answer, which any text has, and what limits the result is
 * that there is little text (the same windows over and over are learnt by heart). The numbers are those that did best on two small models of other shapes at 3,
 * 4 and 8 bits; README.md says how well. */
#include <stdio.h>

#include "plugins/methods/trained.h"

enum { P_EPOCHS, P_BATCH, P_LR, P_GROWTH, P_SCALE_LR, P_STEP, P_START, P_ITERS, P_HELD, P_LOOKS, P_TRIES, P_PIECES, P_NOISE, P_FEATURES, P_WINDOWS, P_SEED, P_COUNT };

static const struct bl_param params[P_COUNT] = {
	[P_EPOCHS] = { .name = "epochs", .type = BL_PARAM_REAL, .fallback = "60", .min = 0.01, .max = 1000, .sentence = "How often all windows are passed through." },
	[P_BATCH] = { .name = "batch", .type = BL_PARAM_INT, .fallback = "8", .min = 1, .max = 4096, .sentence = "Windows in a step." },
	[P_LR] = { .name = "lr", .type = BL_PARAM_REAL, .fallback = "0.003", .min = 0, .max = 10,
		   .sentence = "Learning rate of rounding offsets at first, in steps of the grid; it falls to 0 in a straight line." },
	[P_GROWTH] = { .name = "growth", .type = BL_PARAM_REAL, .fallback = "0", .min = 0, .max = 2,
		       .sentence = "Above 4 bits lr is multiplied by 2^(growth * (bits - 4)): the grid's steps are short there." },
	[P_SCALE_LR] = { .name = "scale_lr", .type = BL_PARAM_REAL, .fallback = "0.0003", .min = 0, .max = 1, .sentence = "The same of scales, as a part of each." },
	[P_STEP] = { .name = "step", .type = BL_PARAM_CHOICE, .fallback = "adam", .choices = "adam|sign", .sentence = "How gradients become steps." },
	[P_START] = { .name = "start", .type = BL_PARAM_CHOICE, .fallback = "autoround", .choices = "autoround|gptq|scales",
		      .sentence = "autoround: from its codes, which it reaches from GPTQ's; gptq: from its codes; scales: rounding to nearest with the scales it chooses." },
	[P_ITERS] = { .name = "start_iters", .type = BL_PARAM_INT, .fallback = "200", .min = 1, .max = 100000, .sentence = "start=autoround: steps for each block." },
	[P_HELD] = { .name = "held_out", .type = BL_PARAM_REAL, .fallback = "0.05", .min = 0, .max = 0.9,
		     .sentence = "Part of the windows that is not trained on and decides which state is kept; 0: the last one is." },
	[P_LOOKS] = { .name = "looks", .type = BL_PARAM_INT, .fallback = "8", .min = 1, .max = 10000, .sentence = "How often the windows that were held out are looked at." },
	[P_TRIES] = { .name = "tries", .type = BL_PARAM_INT, .fallback = "1", .min = 1, .max = 16,
		      .sentence = "Runs with rates times 1, 3, 1/3, 9 ...; the windows that were held out choose among them." },
	[P_PIECES] = { .name = "pieces", .type = BL_PARAM_INT, .fallback = "16", .min = 1, .max = 1024,
		       .sentence = "A window to train on is put together from 1 to so many pieces of windows: more text than there is; 1: as they are." },
	[P_NOISE] = { .name = "noise", .type = BL_PARAM_REAL, .fallback = "0.1", .min = 0, .max = 1, .sentence = "Part of the tokens to train on that others take the place of: the mean over windows, of which some have none." },
	[P_FEATURES] = { .name = "features", .type = BL_PARAM_REAL, .fallback = "0", .min = 0, .max = 1e6,
			 .sentence = "Weight of the relative square differences of the blocks' outputs, beside the divergence." },
	[P_WINDOWS] = { .name = "windows", .type = BL_PARAM_INT, .fallback = "0", .min = 0, .max = 1e9,
			.sentence = "How many windows of the calibration are used, from the first on; 0: all." },
	[P_SEED] = { .name = "seed", .type = BL_PARAM_INT, .fallback = "42", .min = 0, .max = 2147483647, .sentence = "Of the order of the windows." },
};

static const char *tuning(struct bl_tuning *out, bl_param_values v)
{
	out->scope = BL_TUNING_MODEL;
	out->start = v[P_START] <= 1 ? BL_TUNING_CODES : BL_TUNING_SCALES;
	out->step = v[P_STEP] == 0 ? BL_TUNING_ADAM : BL_TUNING_SIGN;
	snprintf(out->start_method, sizeof out->start_method, v[P_START] == 0 ? "autoround" : "gptq");
	if (v[P_START] == 0)
		snprintf(out->start_params, sizeof out->start_params, "start=gptq,windows=0,iters=%d", (int)v[P_ITERS]);
	out->offset_rate = v[P_LR];
	out->offset_growth = v[P_GROWTH];
	out->factor_rate = v[P_SCALE_LR];
	out->factor_least = 0.5;
	out->factor_most = 2;
	out->beta1 = 0.9;
	out->beta2 = 0.99;
	out->windows = (int64_t)v[P_WINDOWS];
	out->batch = (int64_t)v[P_BATCH];
	out->epochs = v[P_EPOCHS];
	out->held_out = v[P_HELD];
	out->looks = (int64_t)v[P_LOOKS];
	out->tries = v[P_HELD] > 0 ? (int64_t)v[P_TRIES] : 1;
	out->try_factor = 3;
	out->pieces = (int64_t)v[P_PIECES];
	out->noise = v[P_NOISE];
	out->features = v[P_FEATURES];
	out->seed = (uint64_t)v[P_SEED];
	return NULL;
}

static const struct bl_method tune = {
	.name = "tune",
	.sentence = "Trains offsets and scales of all units together, from AutoRound and GPTQ on, by divergence from the base model; needs a calibration.",
	.params = params,
	.n_params = P_COUNT,
	.refuses = trained_refuses,
	.tuning = tuning,
};
static const struct bl_method *const methods[] = { &tune, NULL };
static const struct bl_plugin_v1 plugin = {
	.api_version = BL_PLUGIN_API_VERSION,
	.name = "tune",
	.version = "1",
	.sentence = "Tuning end to end.",
	.methods = methods,
};

BL_PLUGIN_EXPORT const struct bl_plugin_v1 *bl_plugin_v1(void) { return &plugin; }
