/* SPDX-License-Identifier: Apache-2.0
 * One option for each item, the least loss within a cost: what mixed precision under a budget comes down to. Dynamic programming over the front of (cost, loss)
 * points that no other one beats. Exact, and costs are whole numbers (bytes, nanoseconds), until a front holds more than BL_KNAPSACK_POINTS; from then on of all points
 * whose costs lie within `grain` of each other the best one is kept: no loss is found then that is worse than the optimum for a budget smaller by items x grain. */
#ifndef BL_PLAN_KNAPSACK_H
#define BL_PLAN_KNAPSACK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

#define BL_KNAPSACK_POINTS 65536

struct bl_knapsack_option { uint64_t cost; double loss; }; /* loss: finite, any sign */
struct bl_knapsack;

/* option: those of item 0, then those of item 1, ...; n_options [n_items], at least one and at most 255 each. points 0: BL_KNAPSACK_POINTS. */
enum bl_status bl_knapsack_solve(struct bl_knapsack **out, const struct bl_knapsack_option *option, const int *n_options, int n_items, int points, struct bl_err *err);
void bl_knapsack_free(struct bl_knapsack *k); /* NULL is fine */

/* The front by ascending cost, and so by descending loss. */
int bl_knapsack_n(const struct bl_knapsack *k);
struct bl_knapsack_option bl_knapsack_at(const struct bl_knapsack *k, int point);
bool bl_knapsack_exact(const struct bl_knapsack *k);
uint64_t bl_knapsack_grain(const struct bl_knapsack *k); /* 0 when exact */
/* The point of the least loss within the budget; -1: the cheapest of all costs more. */
int bl_knapsack_within(const struct bl_knapsack *k, uint64_t budget);
/* Which option each item has there, into choice [n_items]. */
void bl_knapsack_choice(const struct bl_knapsack *k, int point, int *choice);

#endif
