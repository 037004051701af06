/* SPDX-License-Identifier: Apache-2.0
 * What the two measurements share: a base pass and a plan pass over the same sequences, progress, and values of rows brought to the host. */
#ifndef BL_EVALUATE_RUN_H
#define BL_EVALUATE_RUN_H

#include "core/evaluate/evaluate.h"

struct bl_eval_run {
	struct bl_forward *f;
	const struct bl_weight_set *set;  /* NULL: the base alone */
	bl_eval_report *report; void *report_ctx;
	const char *phase;
	int blocks, first;                /* first block that the set changes */
	double done, total;               /* tokens x blocks; the head counts as one block more */
	double tokens;                    /* what total stands for, in tokens of one model */
	struct bl_eval_base *kept;        /* may be NULL */
	int part;                         /* of the sequences that runs now */
};
void bl_eval_run_init(struct bl_eval_run *r, struct bl_forward *f, const struct bl_weight_set *set, int64_t tokens, const char *phase, bl_eval_report *report, void *ctx);

/* running: of what is going on, beyond r->done. */
void bl_eval_tell(const struct bl_eval_run *r, double running);

/* Of a part of the sequences: NULL when it is not kept. */
const void *bl_eval_base_of(const struct bl_eval_base *b, int part, size_t bytes);
/* Room for it, or NULL: too much, or out of memory. */
void *bl_eval_base_room(struct bl_eval_base *b, int part, size_t bytes);
void bl_eval_base_forget(struct bl_eval_base *b, int part);

/* Both passes up to the last block. base is NULL when it is not wanted; plan stays NULL without a set. */
struct bl_eval_passes { struct bl_pass *base, *plan; struct bl_head_kept *kept; /* may be NULL */ };
enum bl_status bl_eval_passes_run(struct bl_eval_passes *p, struct bl_eval_run *r, const struct bl_sequences *s, struct bl_err *err);
void bl_eval_passes_free(struct bl_eval_passes *p);

/* Per chosen token: NLL of its target under base and plan, KL, same argmax. What is NULL is not wanted; [n] each. kl and same need both passes. */
struct bl_eval_rows { float *nll_base, *nll_plan, *kl; int32_t *same; };
enum bl_status bl_eval_rows_run(struct bl_eval_rows *out, struct bl_eval_run *r, struct bl_eval_passes *p, const int64_t *tokens, const int32_t *targets, int64_t n,
				struct bl_err *err);

#endif
