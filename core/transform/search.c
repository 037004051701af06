/* SPDX-License-Identifier: Apache-2.0
 * Factors between a maker and its reader. The reader's columns are multiplied by s, its inputs divided. Rounding makes errors that are taken as independent, so
 * that the output error to expect is a sum of
 *   weights  step(row, group)^2 / 12 * sum over the group of E[x_k^2] / s_k^2,   step = 2 max |w_k s_k| / (2^bits - 1)
 *   inputs   E[sum over columns of |w_k|^2 (x_k - s_k Q(x_k / s_k))^2]           on sampled tokens, with the steps that they get, max |x_k / s_k| / 127
 * Most inputs are small against the largest of their token, and what rounds to zero loses itself, not a twelfth of a step: hence the samples.
 * The maker itself loses nothing: a scale per row follows its factor. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/transform/private.h"

#define SWEEPS 6
#define LEAST_GAIN 1e-3

/* One value per channel: the largest over its columns. */
static void by_channel(double *out, const struct fold_reader *r, const float *v)
{
	memset(out, 0, (size_t)r->c.n * sizeof *out);
	for (int64_t j = 0; j < r->cols; j++) {
		int64_t c = bl_channel_of(&r->c, j);

		out[c] = v[j] > out[c] ? v[j] : out[c];
	}
}

void fold_start(double *s, const struct fold_reader *r, double alpha)
{
	double *w = bl_xalloc((size_t)r->c.n + 1, sizeof *w);

	by_channel(s, r, r->absmax);
	by_channel(w, r, r->wmax);
	for (int64_t c = 0; c < r->c.n; c++) {
		/* nothing flows, or nothing reads: left alone */
		if (s[c] < 1e-8 || w[c] < 1e-8)
			s[c] = 0;
		else
			s[c] = pow(s[c], alpha) / pow(w[c], 1 - alpha);
	}
	bl_free(w);
}

/* Centred on 1 in the middle of the logarithms; what has no factor gets 1. */
void fold_finish(double *s, int64_t n, bool pow2)
{
	double sum = 0;
	int64_t known = 0;

	for (int64_t c = 0; c < n; c++)
		if (s[c] > 0 && isfinite(s[c])) {
			sum += log2(s[c]);
			known++;
		}
	const double middle = known ? sum / (double)known : 0;
	for (int64_t c = 0; c < n; c++) {
		double e = s[c] > 0 && isfinite(s[c]) ? log2(s[c]) - middle : 0;

		e = e > 30 ? 30 : e < -30 ? -30 : e;
		s[c] = exp2(pow2 ? nearbyint(e) : e);
	}
}

/* ---- the loss, kept up to date while single factors change ---- */

struct state {
	const struct fold_reader *r;
	const struct fold_goal *g;
	double *s;                       /* [channels] */
	float *factor, *inverse;         /* [cols]: the same, by column */
	int64_t group, n_groups;
	float *by_column;                /* the weights, [cols, rows] */
	float *top; int32_t *top_at;     /* [groups, rows]: largest |w s| and its column */
	double *squares, *energy;        /* [groups]: sum of top^2 over rows; sum of energy / s^2 */
	float *peak; int32_t *peak_at;   /* [tokens] (one for all: [1]): largest |x / s| and its column */
	double *lost;                    /* [tokens]: sum over columns of wsum (x - s Q(x / s))^2 */
	double inputs, held;             /* sums of them: of the tokens that decide, and of those that only judge */
	int64_t deciding;                /* tokens before this one decide */
	uint8_t *moved;                  /* [tokens] */
	float *step, *per_step, *counts, *change; /* [tokens], of an exchange: scale of x / s and its inverse; weight, 0 where the scale moved; difference */
	double cw;
};

static double s_at(const struct state *k, int64_t j) { return k->s[bl_channel_of(&k->r->c, j)]; }

static void scan_group(const struct state *k, int64_t row, int64_t group, float *top, int32_t *at)
{
	const float *w = k->r->w + row * k->r->cols;

	*top = 0;
	*at = (int32_t)(group * k->group);
	for (int64_t j = group * k->group; j < (group + 1) * k->group; j++) {
		float v = (float)(fabs((double)w[j]) * s_at(k, j));

		if (v > *top) {
			*top = v;
			*at = (int32_t)j;
		}
	}
}

static const float *inputs_of(const struct state *k, int64_t t)
{
	return k->r->x && k->g->activations == 0 ? k->r->x + t * k->r->cols : k->r->absmax;
}

static void scan_token(const struct state *k, int64_t t, float *peak, int32_t *at)
{
	const float *x = inputs_of(k, t);

	*peak = 0;
	*at = 0;
	for (int64_t j = 0; j < k->r->cols; j++) {
		float v = (float)(fabs((double)x[j]) / s_at(k, j));

		if (v > *peak) {
			*peak = v;
			*at = (int32_t)j;
		}
	}
}

/* Scales of inputs: one per token, or one, which is the largest of the calibration. */
static int64_t scales_of(const struct state *k)
{
	return k->g->activations == 2 || !k->r->x ? 0 : k->g->activations == 1 ? 1 : k->r->tokens;
}

/* To the nearest integer, ties to even, for what is small: without a call, so that loops become vectors. */
static inline float nearest(float v)
{
	const float big = 12582912.f; /* 1.5 * 2^23 */

	return (v + big) - big;
}

/* What column x loses at the given step of its own scale. */
static inline float lost(float x, float step, float inverse)
{
	const float d = x - step * nearest(x * inverse);

	return d * d;
}

static double lost_of(const struct state *k, int64_t t)
{
	const float *x = k->r->x + t * k->r->cols, peak = k->peak[k->g->activations == 1 ? 0 : t] / 127;
	float sum = 0;

	if (peak <= 0)
		return 0;
	for (int64_t j = 0; j < k->r->cols; j++)
		sum += k->r->wsum[j] * lost(x[j], peak * k->factor[j], k->inverse[j] / peak);
	return (double)k->r->weight[t] * (double)sum;
}

static void open_state(struct state *k, double *s, const struct fold_reader *r, const struct fold_goal *g, int64_t deciding)
{
	*k = (struct state){ .r = r, .g = g, .s = s };
	k->group = g->group > 0 && r->cols % g->group == 0 ? g->group : r->cols;
	k->n_groups = r->cols / k->group;
	k->by_column = bl_xalloc((size_t)(r->rows * r->cols) + 1, sizeof *k->by_column);
	for (int64_t n = 0; n < r->rows; n++)
		for (int64_t j = 0; j < r->cols; j++)
			k->by_column[j * r->rows + n] = r->w[n * r->cols + j];
	k->top = bl_xalloc((size_t)(r->rows * k->n_groups) + 1, sizeof *k->top);
	k->top_at = bl_xalloc((size_t)(r->rows * k->n_groups) + 1, sizeof *k->top_at);
	k->squares = bl_xalloc(2 * (size_t)k->n_groups, sizeof *k->squares);
	k->energy = k->squares + k->n_groups;
	k->peak = bl_xalloc((size_t)scales_of(k) + 1, sizeof *k->peak);
	k->peak_at = bl_xalloc((size_t)scales_of(k) + 1, sizeof *k->peak_at);
	k->lost = bl_xalloc((size_t)r->tokens + 1, sizeof *k->lost);
	k->moved = bl_xalloc((size_t)r->tokens + 1, 1);
	k->step = bl_xalloc(4 * (size_t)r->tokens + 1, sizeof *k->step);
	k->per_step = k->step + r->tokens;
	k->counts = k->per_step + r->tokens;
	k->change = k->counts + r->tokens;
	k->factor = bl_xalloc(2 * (size_t)r->cols + 1, sizeof *k->factor);
	k->inverse = k->factor + r->cols;
	k->deciding = deciding;
	for (int64_t j = 0; j < r->cols; j++) {
		k->factor[j] = (float)s_at(k, j);
		k->inverse[j] = 1 / k->factor[j];
	}
	for (int64_t n = 0; n < r->rows; n++)
		for (int64_t i = 0; i < k->n_groups; i++) {
			float *top = &k->top[i * r->rows + n];

			scan_group(k, n, i, top, &k->top_at[i * r->rows + n]);
			k->squares[i] += (double)*top * *top;
		}
	for (int64_t j = 0; j < r->cols; j++) {
		double f = s_at(k, j);

		k->energy[j / k->group] += r->energy[j] / (f * f);
	}
	for (int64_t t = 0; t < scales_of(k); t++)
		scan_token(k, t, &k->peak[t], &k->peak_at[t]);
	for (int64_t t = 0; scales_of(k) && t < r->tokens; t++) {
		k->lost[t] = lost_of(k, t);
		*(t < deciding ? &k->inputs : &k->held) += k->lost[t];
	}
	const double levels = exp2(g->bits) - 1;
	k->cw = r->rows ? 4 / (levels * levels * 12) * (double)r->u->rows / (double)r->rows : 0;
}

static void close_state(struct state *k)
{
	bl_free(k->by_column);
	bl_free(k->top);
	bl_free(k->top_at);
	bl_free(k->squares);
	bl_free(k->peak);
	bl_free(k->peak_at);
	bl_free(k->lost);
	bl_free(k->moved);
	bl_free(k->step);
	bl_free(k->factor);
}

/* judged: by the tokens that did not decide. */
static double loss_of(const struct state *k, bool judged)
{
	const int64_t n = judged ? k->r->tokens - k->deciding : k->deciding;
	double w = 0;

	for (int64_t i = 0; i < k->n_groups; i++)
		w += k->squares[i] * k->energy[i];
	return k->cw * w + (n ? (judged ? k->held : k->inputs) / (double)n : 0);
}

double fold_loss(const double *s, const struct fold_reader *r, const struct fold_goal *g)
{
	struct state k;
	double loss;

	open_state(&k, (double *)(uintptr_t)s, r, g, r->tokens);
	loss = loss_of(&k, false);
	close_state(&k);
	return loss;
}

/* ---- one channel ---- */

/* The columns of a channel: first, first + head, ... (copies). */
static int64_t first_column(const struct bl_channels *c, int64_t channel)
{
	return c->head ? channel / c->head * c->copies * c->head + channel % c->head : channel;
}

static void follow_weights(struct state *k, int64_t j, double old, double f)
{
	const struct fold_reader *r = k->r;
	const int64_t i = j / k->group;

	k->energy[i] += r->energy[j] / (f * f) - r->energy[j] / (old * old);
	for (int64_t n = 0; n < r->rows; n++) {
		float *top = &k->top[i * r->rows + n], was = *top;
		int32_t *at = &k->top_at[i * r->rows + n];

		if (*at == j && f < old) {
			scan_group(k, n, i, top, at);
		} else {
			float v = (float)(fabs((double)k->by_column[j * r->rows + n]) * f);
			if (v > *top || *at == j) {
				*top = v;
				*at = (int32_t)j;
			}
		}
		if (*top != was)
			k->squares[i] += (double)*top * *top - (double)was * was;
	}
}

/* Whether the scale moved. */
static bool follow_peak(struct state *k, int64_t t, int64_t j, double old, double f)
{
	const float x = k->g->activations == 1 ? k->r->absmax[j] : k->r->by_column[j * k->r->tokens + t];
	const float was = k->peak[t], v = (float)(fabs((double)x) / f);

	if (k->peak_at[t] == j && f > old) {
		scan_token(k, t, &k->peak[t], &k->peak_at[t]);
	} else if (v > k->peak[t] || k->peak_at[t] == j) {
		k->peak[t] = v;
		k->peak_at[t] = (int32_t)j;
	}
	return k->peak[t] != was;
}

static void prepare_exchange(struct state *k)
{
	const bool one = k->g->activations == 1;

	for (int64_t t = 0; t < k->r->tokens; t++) {
		const float peak = k->peak[one ? 0 : t] / 127;

		k->step[t] = peak;
		k->per_step[t] = peak > 0 ? 1 / peak : 0;
		k->counts[t] = k->moved[t] ? 0 : k->r->weight[t];
	}
}

/* What column j lost with the old factor goes, what it loses with the new one comes; tokens whose scale moved are left to be summed anew. */
static void exchange(struct state *k, int64_t j, float old, float f)
{
	const struct fold_reader *r = k->r;
	const float *restrict x = r->by_column + j * r->tokens, *restrict step = k->step, *restrict per_step = k->per_step, *restrict counts = k->counts;
	const float w = r->wsum[j], per_f = 1 / f, per_old = 1 / old;
	float *restrict change = k->change;
	double sums[2] = { 0, 0 };

	for (int64_t t = 0; t < r->tokens; t++)
		change[t] = w * counts[t] * (lost(x[t], step[t] * f, per_step[t] * per_f) - lost(x[t], step[t] * old, per_step[t] * per_old));
	for (int64_t t = 0; t < r->tokens; t++)
		k->lost[t] += (double)change[t];
	for (int64_t t = 0; t < k->deciding; t++)
		sums[0] += (double)change[t];
	for (int64_t t = k->deciding; t < r->tokens; t++)
		sums[1] += (double)change[t];
	k->inputs += sums[0];
	k->held += sums[1];
}

/* Sets the factor of a channel; everything follows. */
static void set_factor(struct state *k, int64_t channel, double f)
{
	const struct fold_reader *r = k->r;
	const double old = k->s[channel];
	const int64_t first = first_column(&r->c, channel), stride = r->c.head ? r->c.head : 1, n_scales = scales_of(k);

	k->s[channel] = f;
	for (int64_t copy = 0; copy < r->c.copies; copy++) {
		const int64_t j = first + copy * stride;

		follow_weights(k, j, old, f);
		k->factor[j] = (float)f;
		k->inverse[j] = 1 / (float)f;
	}
	memset(k->moved, 0, (size_t)r->tokens);
	for (int64_t copy = 0; copy < r->c.copies; copy++) {
		const int64_t j = first + copy * stride;

		if (n_scales == 1 && follow_peak(k, 0, j, old, f))
			memset(k->moved, 1, (size_t)r->tokens);
		for (int64_t t = 0; n_scales > 1 && t < n_scales; t++)
			if (follow_peak(k, t, j, old, f))
				k->moved[t] = 1;
	}
	if (n_scales)
		prepare_exchange(k);
	for (int64_t copy = 0; n_scales && copy < r->c.copies; copy++)
		exchange(k, first + copy * stride, (float)old, (float)f);
	for (int64_t t = 0; n_scales && t < r->tokens; t++) {
		if (!k->moved[t])
			continue;
		double was = k->lost[t];
		k->lost[t] = lost_of(k, t);
		*(t < k->deciding ? &k->inputs : &k->held) += k->lost[t] - was;
	}
}

/* One pass over the channels; the loss then. */
static double sweep(struct state *k, double move, double best)
{
	for (int64_t c = 0; c < k->r->c.n; c++) {
		const double old = k->s[c];

		for (int way = 0; way < 2; way++) {
			set_factor(k, c, way ? old / move : old * move);
			double now = loss_of(k, false);
			if (now < best) {
				best = now;
				break;
			}
			set_factor(k, c, old);
		}
	}
	return best;
}

/* A quarter of the tokens only judges: the factors that lose least there are the answer. */
void fold_search_channels(double *s, const struct fold_reader *r, const struct fold_goal *g)
{
	static const double moves[] = { 2, 1.4142135623730951, 1.189207115002721 };
	double *kept = bl_xalloc((size_t)r->c.n + 1, sizeof *kept);
	struct state k;

	fold_finish(s, r->c.n, g->pow2);
	open_state(&k, s, r, g, r->tokens - r->tokens / 4);
	double best = loss_of(&k, false), judged = loss_of(&k, true);
	memcpy(kept, s, (size_t)r->c.n * sizeof *s);
	for (int m = 0; m < (g->pow2 ? 1 : 3); m++)
		for (int i = 0; i < SWEEPS; i++) {
			const double before = best;

			best = sweep(&k, moves[m], best);
			if (loss_of(&k, true) < judged) {
				judged = loss_of(&k, true);
				memcpy(kept, s, (size_t)r->c.n * sizeof *s);
			}
			if (!(best < before * (1 - LEAST_GAIN)))
				break;
		}
	close_state(&k);
	memcpy(s, kept, (size_t)r->c.n * sizeof *s);
	bl_free(kept);
}

double fold_search_alpha(double *s, const struct fold_reader *r, const struct fold_goal *g)
{
	double *try = bl_xalloc((size_t)r->c.n + 1, sizeof *try), least, found = -1;

	for (int64_t c = 0; c < r->c.n; c++)
		s[c] = 1;
	least = fold_loss(s, r, g);
	for (int i = 0; i <= 20; i++) {
		fold_start(try, r, i / 20.0);
		fold_finish(try, r->c.n, g->pow2);
		double loss = fold_loss(try, r, g);
		if (loss < least) {
			least = loss;
			found = i / 20.0;
			memcpy(s, try, (size_t)r->c.n * sizeof *s);
		}
	}
	bl_free(try);
	return found;
}
