/* SPDX-License-Identifier: Apache-2.0
 * Serving targets as data: a GPU (compute capability, memory, peaks) times a server version (which schemes have which kernel). One row = one target.
 * Rules checked here are those of the server: one scheme per fused unit, shapes per kernel, package limits. Sentences are what that server would say. */
#ifndef BL_PLAN_TARGET_H
#define BL_PLAN_TARGET_H

#include "core/plan/plan.h"

struct bl_gpu {
	const char *name, *title;
	int cc;                     /* compute capability, 89 = 8.9 */
	double mem_gib, bw_gb_s, bf16_tflop_s, int8_tflop_s, fp8_tflop_s; /* the vendor's, dense */
	const char *source;
	/* What a decode step reaches of them: share of the bandwidth, time of a step that no weight accounts for, time to quantize the inputs of one linear. */
	double bw_share, step_us, quant_us;
	const char *fit;            /* where these three are from: a sentence for people */
	/* What products over many tokens reach of the peaks, quantization of the inputs included. */
	double bf16_share, int8_share, fp8_share;
	const char *prefill_fit;
};
struct bl_target {
	const char *name;           /* "l4-vllm-0.14.1" */
	const char *title;          /* "L4 · vLLM 0.14.1" (UTF-8) */
	const char *server, *server_version;
	struct bl_gpu gpu;
	int64_t max_model_len;      /* the server's; max_position_embeddings below it is refused; 0: unknown */
	uint64_t zip_limit, unzipped_limit; /* bytes; 0: none */
};
const struct bl_target *bl_target_rows(int *n);
enum bl_status bl_target_find(const struct bl_target **out, const char *name, struct bl_err *err);

struct bl_verdict {
	bool legal;
	const char *kernel;         /* "Cutlass INT8", "Marlin", "AllSpark", "none": static */
	const char *rule;           /* "R3": short id, static; NULL when legal and nothing to say */
	char sentence[240];         /* the server's words when illegal; a warning when legal but slow; "" */
};
/* One scheme on one unit (N of the fused unit, K, dtype of the model). */
void bl_target_check_unit(struct bl_verdict *v, const struct bl_target *t, const struct bl_model *m, int unit, const struct bl_scheme *s);

struct bl_problem { int unit; const char *rule; char sentence[300]; bool fatal; }; /* unit -1: the whole plan; fatal 0: a warning */
/* All rules on a plan: units, config edits (max_position_embeddings), format (exporter name is not judged here). *out: bl_free. Returns the number of problems; *n_fatal may be NULL. */
int bl_target_check_plan(struct bl_problem **out, int *n_fatal, const struct bl_target *t, const struct bl_model *m, const struct bl_plan *p);
/* Badge: does the same export also load in transformers 4.57 + compressed-tensors 0.13? sentence says why not. */
bool bl_target_loads_in_transformers(const struct bl_model *m, const struct bl_plan *p, char sentence[240]);

#endif
