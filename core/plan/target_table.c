/* SPDX-License-Identifier: Apache-2.0
 * Serving targets: GPU x server. Bandwidth and peaks are the vendors' dense figures.
 *
 * The last columns feed the time model. RTX 4090: decode of EXAONE-4.0-1.2B at batch 8 took 3.880 ms as BF16 (2558 MB read), 2.199 ms as W4A16
 * (971 MB), which gives bandwidth and intercept, and 2.881 ms as W8A8 (1490 MB), which leaves 1.1 us per linear for the inputs; FP8 (2.836 ms) lies
 * within 2 % of that. No step was measured on the others: they take nine tenths of their bandwidth and the intercept of the two-parameter fit. */
#include "core/plan/target.h"

#include <string.h>

#define COMPETITION_ZIP 10000000000ull
#define COMPETITION_FILES 32000000000ull

#define FITTED 0.937, 1170, 1.1, "kernel-time model fitted to measured decode of EXAONE-4.0-1.2B at batch 8 on this kind of card"
#define SCALED 0.90, 1380, 2.0, "kernel-time model fitted to decode of EXAONE-4.0-1.2B on a 4090-class card, scaled by bandwidth"

#define L4 {"L4", "L4", 89, 22.4, 300, 121, 242, 242, "vendor sheet; 22.4 GiB usable as vLLM reports it", SCALED}
#define RTX4090 {"RTX4090", "RTX 4090", 89, 23.5, 1008, 165, 660, 330, "vendor sheet", FITTED}
#define A10 {"A10", "A10", 86, 22.0, 600, 125, 250, 0, "vendor sheet", SCALED}
#define A100 {"A100", "A100 80 GB", 80, 79.0, 2039, 312, 624, 0, "vendor sheet", SCALED}
#define H100 {"H100", "H100 SXM", 90, 79.0, 3350, 989, 1979, 1979, "vendor sheet", SCALED}

static const struct bl_target targets[] = {
	{"l4-vllm-0.14.1", "L4 · vLLM 0.14.1", "vllm", "0.14.1", L4, 16384, COMPETITION_ZIP, COMPETITION_FILES},
	{"rtx4090-vllm-0.14.1", "RTX 4090 · vLLM 0.14.1", "vllm", "0.14.1", RTX4090, 0, 0, 0},
	{"a10-vllm-0.14.1", "A10 · vLLM 0.14.1", "vllm", "0.14.1", A10, 0, 0, 0},
	{"a100-vllm-0.14.1", "A100 · vLLM 0.14.1", "vllm", "0.14.1", A100, 0, 0, 0},
	{"h100-vllm-0.14.1", "H100 · vLLM 0.14.1", "vllm", "0.14.1", H100, 0, 0, 0},
};
#define N_TARGETS ((int)(sizeof targets / sizeof targets[0]))

const struct bl_target *bl_target_rows(int *n)
{
	*n = N_TARGETS;
	return targets;
}

enum bl_status bl_target_find(const struct bl_target **out, const char *name, struct bl_err *err)
{
	for (int i = 0; i < N_TARGETS; i++)
		if (!strcmp(targets[i].name, name)) {
			*out = &targets[i];
			return BL_OK;
		}
	return bl_fail(err, BL_USAGE, "target %s is not known: `bitlathe targets` lists them (%s is the default)", name, targets[0].name);
}
