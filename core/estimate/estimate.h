/* SPDX-License-Identifier: Apache-2.0
 * What a plan amounts to: bytes (exact: from the layout the exporter would write), time per token on the target (modelled: bytes over bandwidth and
 * operations over peak per linear, launch cost; the fit and its source are in the table), memory at the server, score. */
#ifndef BL_ESTIMATE_ESTIMATE_H
#define BL_ESTIMATE_ESTIMATE_H

#include "core/estimate/quantity.h"
#include "core/plan/plan.h"
#include "core/plan/target.h"

/* Bytes of the unit's tensors as stored under the scheme (codes, scales, zero points, shapes; BF16 as on disk). */
uint64_t bl_unit_bytes(const struct bl_unit *u, const struct bl_scheme *s);
/* Microseconds per decoded token of this unit on the target at batch `m_tokens` (modelled), launch and activation quantization included. */
struct bl_quantity bl_unit_time(const struct bl_unit *u, const struct bl_scheme *s, const struct bl_target *t, int m_tokens);

struct bl_plan_estimate {
	uint64_t base_bytes, bytes;          /* all tensors, before and after (redundant tied head dropped) */
	struct bl_quantity time_ratio;       /* time per token over the BF16 base: modelled */
	struct bl_quantity step_ms;          /* one decode step */
	struct bl_quantity server_gib;       /* weights + KV cache of one request at max_model_len + activations: modelled */
	struct bl_quantity perf_ratio;       /* unknown until measured */
	struct bl_quantity score;            /* unknown while perf is; spread of both */
};
void bl_plan_estimate(struct bl_plan_estimate *e, const struct bl_model *m, const struct bl_plan *p, const struct bl_target *t);

#endif
