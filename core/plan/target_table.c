/* SPDX-License-Identifier: Apache-2.0
 * Serving targets: GPU x server. Bandwidth and peaks are the vendors' dense figures.
 *
 * The last columns feed the time model. RTX 4090: decode of EXAONE-4.0-1.2B at batch 8 took 3.880 ms as BF16 (2558 MB read), 2.199 ms as W4A16
 * (971 MB), which gives bandwidth and intercept, and 2.881 ms as W8A8 (1490 MB), which leaves 1.1 us per linear for the inputs; FP8 (2.836 ms) lies
 * within 2 % of that. No step was measured on the others: they take nine tenths of their bandwidth and the intercept of the two-parameter fit.
 *
 * Prompts: 600 of 12.9 thousand tokens went through the same model on the 4090 at 32012 tokens a second as BF16, 38881 as W8A8 and 36570 as FP8. With 2.14 GFLOP a
 * token in the linears and 1.6 in attention, BF16 reaches 0.72 of its peak, and the time that is left for the linears makes 0.26 of the int8 and 0.47 of the
 * FP8 peak, reading, rounding and writing of the inputs included. Weight-only 4 bits ran at 1.005 of BF16: the BF16 units do the work. The others are taken at the same
 * share for BF16 and with the same gain over it (1.46 for int8, 1.29 for FP8: the 4090's own peaks lie further apart than theirs), the L4 at four fifths of that
 * because its power limit holds its clocks down. */
#include "core/plan/target.h"

#include <string.h>

#define COMPETITION_ZIP 10000000000ull
#define COMPETITION_FILES 32000000000ull

#define FITTED 0.937, 1170, 1.1, "kernel-time model fitted to measured decode of EXAONE-4.0-1.2B at batch 8 on this kind of card"
#define SCALED 0.90, 1380, 2.0, "kernel-time model fitted to decode of EXAONE-4.0-1.2B on a 4090-class card, scaled by bandwidth"
#define FITTED_PREFILL 0.72, 0.26, 0.47, "kernel-time model fitted to measured prefill of EXAONE-4.0-1.2B (12.9 thousand tokens) on this kind of card"
#define SCALED_PREFILL 0.72, 0.53, 0.47, "kernel-time model fitted to prefill of EXAONE-4.0-1.2B on a 4090-class card, scaled by the peaks"
#define CAPPED_PREFILL 0.58, 0.42, 0.37, "kernel-time model fitted to prefill of EXAONE-4.0-1.2B on a 4090-class card, scaled by the peaks under a power limit"

#define L4 {"L4", "L4", 89, 22.4, 300, 121, 242, 242, "vendor sheet; 22.4 GiB usable as vLLM reports it", SCALED, CAPPED_PREFILL}
#define RTX4090 {"RTX4090", "RTX 4090", 89, 23.5, 1008, 165, 660, 330, "vendor sheet", FITTED, FITTED_PREFILL}
#define A10 {"A10", "A10", 86, 22.0, 600, 125, 250, 0, "vendor sheet", SCALED, SCALED_PREFILL}
#define A100 {"A100", "A100 80 GB", 80, 79.0, 2039, 312, 624, 0, "vendor sheet", SCALED, SCALED_PREFILL}
#define H100 {"H100", "H100 SXM", 90, 79.0, 3350, 989, 1979, 1979, "vendor sheet", SCALED, SCALED_PREFILL}

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
