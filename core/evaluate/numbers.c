/* SPDX-License-Identifier: Apache-2.0
 * Means, standard errors, quantiles. Sums are in double, in the order of the tokens. */
#include "core/evaluate/numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct moments { double mean, error; }; /* error: standard error of the mean */

/* value(i) of [windows, per]; with one window its tokens stand for themselves. */
static struct moments moments(double (*value)(const void *v, int64_t i), const void *v, int64_t windows, int64_t per)
{
	int64_t n = windows > 1 ? windows : per, each = windows > 1 ? per : 1;
	double sum = 0, squares = 0, mean;

	for (int64_t i = 0; i < n * each; i++)
		sum += value(v, i);
	mean = n * each > 0 ? sum / (double)(n * each) : 0;
	for (int64_t w = 0; w < n; w++) {
		double s = 0;
		for (int64_t i = 0; i < each; i++)
			s += value(v, w * each + i);
		squares += (s / (double)each - mean) * (s / (double)each - mean);
	}
	return (struct moments){mean, n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0};
}

static double of_float(const void *v, int64_t i) { return (double)((const float *)v)[i]; }
static double of_flag(const void *v, int64_t i) { return ((const int32_t *)v)[i] ? 1 : 0; }

void bl_eval_ppl_of(struct bl_eval_ppl *out, const float *nll, int64_t windows, int64_t per)
{
	struct moments m = moments(of_float, nll, windows, per);
	double value = exp(m.mean);

	*out = (struct bl_eval_ppl){.value = value, .stderr_ = value * m.error, .nll = m.mean, .tokens = windows * per, .windows = windows};
}

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	if (isnan(x) || isnan(y)) /* at the end, where they show */
		return isnan(x) ? !isnan(y) : -1;
	return x < y ? -1 : x > y;
}

double bl_eval_quantile(const float *sorted, int64_t n, double q)
{
	double at = q * (double)(n - 1);
	int64_t low = (int64_t)floor(at);

	if (n < 1)
		return 0;
	if (low >= n - 1)
		return (double)sorted[n - 1];
	return (double)sorted[low] + (at - (double)low) * ((double)sorted[low + 1] - (double)sorted[low]);
}

void bl_eval_kl_of(struct bl_eval_kl *out, float *kl, const int32_t *same, int64_t windows, int64_t per)
{
	struct moments m = moments(of_float, kl, windows, per), top = moments(of_flag, same, windows, per);
	int64_t n = windows * per;

	if (n)
		qsort(kl, (size_t)n, sizeof *kl, ascending);
	*out = (struct bl_eval_kl){.mean = m.mean, .stderr_ = m.error, .median = bl_eval_quantile(kl, n, 0.5), .p99 = bl_eval_quantile(kl, n, 0.99),
				   .max = n ? (double)kl[n - 1] : 0, .top1 = top.mean, .top1_stderr = top.error, .tokens = n};
}

void bl_eval_mcq_of(struct bl_eval_mcq *out, const uint8_t *right, const uint8_t *base_right, int64_t n)
{
	int64_t good = 0, flips = 0;

	for (int64_t i = 0; i < n; i++) {
		good += right[i] != 0;
		flips += base_right && (right[i] != 0) != (base_right[i] != 0);
	}
	double p = n ? (double)good / (double)n : 0;
	*out = (struct bl_eval_mcq){.acc = p, .stderr_ = n ? sqrt(p * (1 - p) / (double)n) : 0, .flips = n ? (double)flips / (double)n : 0, .n = n};
}

int bl_eval_best(const double *score, int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (score[i] > score[best] || (isnan(score[best]) && !isnan(score[i])))
			best = i;
	return best;
}
