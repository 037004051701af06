/* SPDX-License-Identifier: Apache-2.0
 * Mixed precision under a budget. What each unit loses under each option is measured: the divergence of the model with that unit alone changed, on the kept windows
 * of the calibration (without kept windows: the unit's layer error, and everything is labelled modelled). Sums of losses are minimised exactly within the budget
 * (core/plan/knapsack.h); then the whole plan is measured, beside it the usual rule of thumb at the same cost (blocks at the ends in the larger format), and
 * exchanges of two units one after the other, each kept when it helps. The result is an ordinary edit of the plan. */
#ifndef BL_SESSION_SEARCH_H
#define BL_SESSION_SEARCH_H

#include "core/session/run.h"

enum bl_budget { BL_BUDGET_BYTES, BL_BUDGET_TIME, BL_BUDGET_SCORE };
struct bl_search_request {
	enum bl_budget budget;
	double value;                /* bytes of all tensors; milliseconds of a decode step on the target (modelled); least score, 0: the highest that can be had */
	const char *options;         /* SCHEME[:METHOD[,key=value...]] separated by ; or blanks. NULL: 4, 8 and 16 bits */
	int trials;                  /* measured exchanges; 0: none */
	bool ignore_rules;           /* else only what the target has kernels for */
};
/* "6.5MB", "1.2GiB", "60%" of the model, "plan": as the plan is now; time also "2.9ms", "0.8x" of the model's; score "best", or a number. */
enum bl_status bl_search_budget(struct bl_search_request *rq, enum bl_budget budget, const char *text, struct bl_session *s, struct bl_err *err);

struct bl_search_trial { char what[96]; double kl; uint64_t bytes; double step_ms; bool kept; };
struct bl_search_result {
	enum bl_budget budget; double value;
	int n; struct bl_choice *choice;      /* [n units], params owned */
	double *loss;                         /* [n] what each loses alone: nats above the rounding that any change brings, or layer error */
	bool measured;                        /* losses are; else they are layer errors and there was nothing to measure the plan with */
	double loss_sum, kl, top1;            /* kl, top1: of the plan, NaN: not measured */
	uint64_t bytes; struct bl_plan_estimate estimate; /* with score, as far as it is known */
	int options, points; bool exact; uint64_t grain; /* of the front; grain in bytes or nanoseconds */
	int changed;                          /* units that differ from the plan the search began with */
	int measurements;                     /* of units alone, that were made now */
	struct bl_search_trial *trial; int n_trials;
	char speed[600];                      /* which rows of the speed model the times are from */
	double seconds;
};
/* Job id; 0 with err when the request cannot be met at all (options, budget below the smallest plan, no calibration). */
uint64_t bl_session_search(struct bl_session *s, const struct bl_search_request *rq, struct bl_err *err);
const struct bl_search_result *bl_session_searched(struct bl_session *s); /* newest finished; NULL: none. Valid until the next call. */
bool bl_session_search_take(struct bl_session *s); /* into the plan, one undo step; false: there is none, or it changes nothing */
void bl_search_result_free(struct bl_search_result *r); /* NULL is fine */

#endif
