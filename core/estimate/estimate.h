/* SPDX-License-Identifier: Apache-2.0
 * What a plan amounts to: bytes (exact: from the layout the exporter would write), time per token and of a prompt on the target (modelled: bytes over
 * bandwidth and operations over peak per linear, launches, quantization of inputs, head; the fit and its source are in the table), memory at the server, and,
 * once somebody measured what the plan does to the model, performance and score. */
#ifndef BL_ESTIMATE_ESTIMATE_H
#define BL_ESTIMATE_ESTIMATE_H

#include "core/estimate/quantity.h"
#include "core/plan/plan.h"
#include "core/plan/target.h"

/* Bytes of the unit's tensors as stored under the scheme (codes, scales, zero points, shapes; BF16 as on disk). */
uint64_t bl_unit_bytes(const struct bl_unit *u, const struct bl_scheme *s);
/* Microseconds per decoded token of this unit on the target at batch `m_tokens` (modelled), launch and activation quantization included. */
struct bl_quantity bl_unit_time(const struct bl_unit *u, const struct bl_scheme *s, const struct bl_target *t, int m_tokens);

/* Milliseconds of a prompt of so many tokens, alone (modelled): linears in chunks, attention, head for the last token. p NULL: everything BF16. */
struct bl_quantity bl_prefill_time(const struct bl_model *m, const struct bl_plan *p, const struct bl_target *t, int64_t tokens);

struct bl_plan_estimate {
	uint64_t base_bytes, bytes;          /* all tensors, before and after (redundant tied head dropped) */
	struct bl_quantity time_ratio;       /* time per token over the BF16 base: modelled */
	struct bl_quantity step_ms;          /* one decode step */
	struct bl_quantity prefill_ms;       /* a prompt of BL_PREFILL_TOKENS, alone */
	struct bl_quantity prefill_ratio;    /* over the BF16 base */
	struct bl_quantity server_gib;       /* the four below: modelled */
	struct bl_quantity weights_gib, kv_gib, activations_gib, overhead_gib; /* KV cache of one request at max_model_len; one prefill chunk; context and graphs */
	struct bl_quantity perf_ratio;       /* unknown until bl_estimate_quality */
	struct bl_quantity score;            /* unknown while perf is; spread of both */
};
#define BL_PREFILL_TOKENS 4096
/* What is known of a plan's effect on the model. */
struct bl_quality {
	bool has_mcq;                        /* measured on exactly this plan, beside the base: accuracies, share of answers that changed, questions */
	double base_acc, plan_acc, flips;
	int64_t n;
	struct bl_quantity kl;               /* to the base, nats per token: measured, modelled or unknown */
};
/* Fills perf_ratio and score. Performance over the base's: the ratio of accuracies when multiple choice was measured, with the spread of paired answers; else
 * modelled from the divergence as 1 / (1 + 0.4 KL^1.5), good to a factor of two of the loss; else unknown.
 * Score = 0.5 x performance ratio + 0.5 x (1 - time ratio); its spread is that of both. */
void bl_estimate_quality(struct bl_plan_estimate *e, const struct bl_quality *q);

void bl_plan_estimate(struct bl_plan_estimate *e, const struct bl_model *m, const struct bl_plan *p, const struct bl_target *t);

#endif
