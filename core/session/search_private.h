/* SPDX-License-Identifier: Apache-2.0
 * Inside of a search: units with their options, and a plan as one option number for each unit. */
#ifndef BL_SESSION_SEARCH_PRIVATE_H
#define BL_SESSION_SEARCH_PRIVATE_H

#include "core/session/live.h"
#include "core/session/search.h"

#define BL_SEARCH_OPTIONS 16

struct bl_search_option { struct bl_choice c; uint64_t bytes, ns; double loss, rel; }; /* params borrowed from the run's texts; rel: layer error, NaN unknown */
struct bl_search_unit { int n; struct bl_search_option o[BL_SEARCH_OPTIONS + 1]; };

struct bl_search_run {
	struct bl_session *s;
	const struct bl_target *target;   /* the plan's when the search was asked for */
	struct bl_search_request rq;      /* options: NULL, they are in `unit` */
	struct bl_search_unit *unit; int n;
	struct bl_choice *before;         /* [n] the plan's, params borrowed from `params` */
	char **params; size_t n_params, cap_params;
	bool zero_nonfinite;
	char *stages;                     /* the plan's: a search keeps them; in `params` */
	uint64_t rest_bytes, rest_ns;     /* of everything that no unit's option changes */
	struct bl_plan_estimate full;     /* of the model as it is */
	struct bl_job *job;
	struct bl_live_turn turn;
	int made;                         /* measurements */
	struct bl_search_result *out;
	size_t cap_trials;
};

/* What a plan costs in what the budget is of (bytes, nanoseconds), and all of it. at [n]: options. */
uint64_t bl_search_cost(const struct bl_search_run *k, const int *at);
uint64_t bl_search_bytes(const struct bl_search_run *k, const int *at);
double bl_search_step_ms(const struct bl_search_run *k, const int *at);
double bl_search_loss(const struct bl_search_run *k, const int *at);
double bl_search_score(const struct bl_search_run *k, double step_ms, double kl); /* by the estimate of core/estimate */
uint64_t bl_search_limit(const struct bl_search_run *k); /* of the cost; UINT64_MAX under a budget of score */

/* KL of a whole plan on the kept windows, from the cache when it was measured before. */
enum bl_status bl_search_measure(struct bl_search_run *k, const int *at, double *kl, double *top1, struct bl_err *err);
/* Measures the plan, rules of thumb and exchanges; at becomes the best of them. Fills trials, kl and top1 of the result. */
enum bl_status bl_search_improve(struct bl_search_run *k, int *at, struct bl_err *err);

#endif
