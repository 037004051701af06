/* SPDX-License-Identifier: Apache-2.0
 * From values per token to what is reported. Tokens of one window depend on each other, so standard errors come from the means of the windows (of the
 * tokens when there is one window); quantiles interpolate between neighbours. */
#ifndef BL_EVALUATE_NUMBERS_H
#define BL_EVALUATE_NUMBERS_H

#include <stdint.h>

struct bl_eval_ppl { double value, stderr_, nll; int64_t tokens, windows; };
struct bl_eval_kl { double mean, stderr_, median, p99, max, top1, top1_stderr; int64_t tokens; };
struct bl_eval_mcq { double acc, stderr_, flips; int64_t n; }; /* flips: share of items whose correctness differs from the base */

/* [windows, per] values. */
void bl_eval_ppl_of(struct bl_eval_ppl *out, const float *nll, int64_t windows, int64_t per);
/* kl is sorted by the call. */
void bl_eval_kl_of(struct bl_eval_kl *out, float *kl, const int32_t *same, int64_t windows, int64_t per);
/* right [n]: 1 where the choice was the answer; base_right NULL: flips 0. */
void bl_eval_mcq_of(struct bl_eval_mcq *out, const uint8_t *right, const uint8_t *base_right, int64_t n);
/* Index of the largest; of equal ones the first. NaN never wins. */
int bl_eval_best(const double *score, int n);
/* q in 0..1 of ascending values: linear between neighbours. */
double bl_eval_quantile(const float *sorted, int64_t n, double q);

#endif
