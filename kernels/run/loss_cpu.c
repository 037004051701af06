/* SPDX-License-Identifier: Apache-2.0
 * Operations that take rows and give numbers: codes of activations, statistics of inputs, differences, losses. Sums are in double and in an order that
 * depends on shapes only. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/common/num.h"
#include "kernels/run/cpu.h"

/* --- activation codes --- */

struct codes { struct bk_run *r; const struct bk_mat *c, *x; float *scales; enum bk_token_codes kind; float fixed; int64_t rows; };

static void codes_item(void *arg, size_t item)
{
	struct codes *w = arg;
	const struct bk_rows *rows = w->r->rows;
	struct bk_desk *d = bk_desk_take(w->r);
	int64_t first = (int64_t)item * w->rows, last = bk_min(w->x->rows, first + w->rows), n = w->x->cols;

	for (int64_t i = first; i < last; i++) {
		float top, s = w->fixed;

		rows->load(d->p, bk_at(w->x, i, 0), w->x->dtype, n);
		if (w->kind == BK_TOKEN_INT8 && !(s > 0)) {
			top = rows->absmax(d->p, n);
			w->scales[i] = top / 127.0f;
			rows->int8_codes(bk_at(w->c, i, 0), d->p, top > 0 ? 127.0f / top : 0.0f, 0, n);
			continue;
		}
		if (w->kind == BK_TOKEN_INT8) {
			rows->int8_codes(bk_at(w->c, i, 0), d->p, s, 1, n);
		} else {
			if (!(s > 0)) {
				s = rows->absmax(d->p, n) / 448.0f;
				s = s > 1.0f / (448.0f * 512.0f) ? s : 1.0f / (448.0f * 512.0f);
			}
			rows->e4m3_codes(bk_at(w->c, i, 0), d->p, s, n);
		}
		w->scales[i] = s;
	}
	bk_desk_give(d);
}

static int quantize(struct codes w)
{
	if (!bk_same_shape(w.c, w.x) || !bk_is_float(w.x->dtype) || !bk_shaped(w.c) || !bk_shaped(w.x) ||
	    (w.kind == BK_TOKEN_INT8 ? w.c->dtype != BK_I8 : w.kind != BK_TOKEN_E4M3 || w.c->dtype != BK_F8))
		return BK_RUN_REFUSED;
	w.rows = bk_rows_per_item(w.x->cols);
	if (bk_desks_need(w.r, (size_t)w.x->cols))
		return BK_RUN_NO_MEMORY;
	bk_each(w.r, (size_t)bk_cut(w.x->rows, w.rows), codes_item, &w);
	return 0;
}

BK_OP(quant_tokens, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind)
{
	return quantize((struct codes){ .r = r, .c = codes, .x = x, .scales = scales, .kind = kind });
}

BK_OP(quant_static, const struct bk_mat *codes, float *scales, const struct bk_mat *x, enum bk_token_codes kind, float scale)
{
	if (!(scale > 0) || !isfinite(scale))
		return BK_RUN_REFUSED;
	return quantize((struct codes){ .r = r, .c = codes, .x = x, .scales = scales, .kind = kind, .fixed = scale });
}

/* --- statistics of inputs --- */

#define STAT_COLS 256
#define STAT_ITEMS 16

struct stats {
	struct bk_run *r;
	const struct bk_input_acc *acc;
	const struct bk_mat *x;
	uint64_t *bins; /* [STAT_ITEMS][2 * BK_INPUT_BINS + 1] */
	int64_t rows;
};

static void columns_item(void *arg, size_t item)
{
	struct stats *w = arg;
	int64_t j = (int64_t)item * STAT_COLS, n = bk_min(STAT_COLS, w->x->cols - j);
	float x[STAT_COLS];

	for (int64_t i = 0; i < w->x->rows; i++) {
		w->r->rows->load(x, bk_at(w->x, i, j), w->x->dtype, n);
		w->r->rows->moments(w->acc->absmax + j, w->acc->sum + j, w->acc->sum2 + j, x, n);
	}
}

static inline uint16_t bits_bf16(float f)
{
	uint32_t u = bk_f32_bits(f);

	return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static void bins_item(void *arg, size_t item)
{
	struct stats *w = arg;
	uint64_t *bins = w->bins + item * (2 * BK_INPUT_BINS + 1), *tokens = bins + BK_INPUT_BINS, *odd = tokens + BK_INPUT_BINS;
	int64_t first = (int64_t)item * w->rows, last = bk_min(w->x->rows, first + w->rows), n = w->x->cols;
	struct bk_desk *d = bk_desk_take(w->r);

	for (int64_t i = first; i < last; i++) {
		float top = 0;

		w->r->rows->load(d->p, bk_at(w->x, i, 0), w->x->dtype, n);
		for (int64_t j = 0; j < n; j++) {
			float f = d->p[j], a = fabsf(f);

			if (!isfinite(f)) {
				odd[0]++;
				continue;
			}
			bins[bits_bf16(f) >> 4 & (BK_INPUT_BINS - 1)]++;
			top = a > top ? a : top;
		}
		tokens[bits_bf16(top) >> 4 & (BK_INPUT_BINS - 1)]++;
	}
	bk_desk_give(d);
}

BK_OP(input_stats, const struct bk_input_acc *acc, const struct bk_mat *x)
{
	struct stats w = { .r = r, .acc = acc, .x = x, .rows = bk_max(1, bk_cut(x->rows, STAT_ITEMS)) };
	size_t each = 2 * BK_INPUT_BINS + 1;

	if (!bk_is_float(x->dtype) || !bk_shaped(x))
		return BK_RUN_REFUSED;
	w.bins = calloc(STAT_ITEMS * each, sizeof(*w.bins));
	if (!w.bins || bk_desks_need(r, (size_t)x->cols)) {
		free(w.bins);
		return BK_RUN_NO_MEMORY;
	}
	bk_each(r, (size_t)bk_cut(x->cols, STAT_COLS), columns_item, &w);
	bk_each(r, (size_t)bk_cut(x->rows, w.rows), bins_item, &w);
	for (size_t i = 0; i < STAT_ITEMS; i++) {
		for (size_t b = 0; b < BK_INPUT_BINS; b++) {
			acc->bins[b] += w.bins[i * each + b];
			acc->token_bins[b] += w.bins[i * each + BK_INPUT_BINS + b];
		}
		acc->nonfinite[0] += w.bins[i * each + 2 * BK_INPUT_BINS];
	}
	free(w.bins);
	return 0;
}

/* --- sums over two matrices --- */

struct sums { struct bk_run *r; const struct bk_mat *a, *b; double *part; int64_t rows; };

static void sums_item(void *arg, size_t item)
{
	struct sums *w = arg;
	int64_t first = (int64_t)item * w->rows, last = bk_min(w->a->rows, first + w->rows), n = w->a->cols;
	struct bk_desk *d = bk_desk_take(w->r);
	double *p = w->part + 3 * item;

	for (int64_t i = first; i < last; i++) {
		w->r->rows->load(d->p, bk_at(w->a, i, 0), w->a->dtype, n);
		w->r->rows->load(d->p + n, bk_at(w->b, i, 0), w->b->dtype, n);
		w->r->rows->squares(p, p + 1, p + 2, d->p, d->p + n, n);
	}
	bk_desk_give(d);
}

static int pair_sums(struct bk_run *r, const struct bk_mat *a, const struct bk_mat *b, double total[3])
{
	struct sums w = { .r = r, .a = a, .b = b, .rows = bk_rows_per_item(a->cols) };
	size_t n = (size_t)bk_cut(a->rows, w.rows);

	if (!bk_same_shape(a, b) || !bk_is_float(a->dtype) || !bk_is_float(b->dtype) || !bk_shaped(a) || !bk_shaped(b))
		return BK_RUN_REFUSED;
	w.part = calloc(n ? n : 1, 3 * sizeof(*w.part));
	if (!w.part || bk_desks_need(r, 2 * (size_t)a->cols)) {
		free(w.part);
		return BK_RUN_NO_MEMORY;
	}
	bk_each(r, n, sums_item, &w);
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 3; k++)
			total[k] += w.part[3 * i + (size_t)k];
	free(w.part);
	return 0;
}

BK_OP(diff_sums, double *sums, const struct bk_mat *a, const struct bk_mat *b)
{
	double t[3] = { 0 };
	int error = pair_sums(r, a, b, t);

	if (error)
		return error;
	sums[0] += t[0];
	sums[1] += t[1];
	return 0;
}

BK_OP(dot, double *sum, const struct bk_mat *a, const struct bk_mat *b)
{
	double t[3] = { 0 };
	int error = pair_sums(r, a, b, t);

	if (!error)
		*sum += t[2];
	return error;
}

/* --- losses --- */

struct losses {
	struct bk_run *r;
	const struct bk_mat *p, *q;
	const struct bk_row_loss *loss;
	const struct bk_row_kl *kl;
	const int32_t *targets;
	int64_t rows;
};

static void loss_row(const struct losses *w, int64_t i, float *x)
{
	int64_t n = w->p->cols, best;
	int32_t t = w->targets ? w->targets[i] : -1;
	float lse;

	w->r->rows->load(x, bk_at(w->p, i, 0), w->p->dtype, n);
	lse = w->r->rows->log_sum(x, n, &best);
	w->loss->nll[i] = t >= 0 && t < n ? lse - x[t] : 0.0f;
	w->loss->argmax[i] = (int32_t)best;
}

static void kl_row(const struct losses *w, int64_t i, float *p, float *q)
{
	int64_t n = w->p->cols;
	int32_t t = w->targets ? w->targets[i] : -1;
	struct bk_row_kl_sums s;

	w->r->rows->load(p, bk_at(w->p, i, 0), w->p->dtype, n);
	w->r->rows->load(q, bk_at(w->q, i, 0), w->q->dtype, n);
	w->r->rows->kl(&s, p, q, n);
	w->kl->kl[i] = (float)s.kl;
	w->kl->nll_p[i] = t >= 0 && t < n ? s.lse_p - p[t] : 0.0f;
	w->kl->nll_q[i] = t >= 0 && t < n ? s.lse_q - q[t] : 0.0f;
	w->kl->same[i] = s.best_p == s.best_q;
}

static void losses_item(void *arg, size_t item)
{
	struct losses *w = arg;
	int64_t first = (int64_t)item * w->rows, last = bk_min(w->p->rows, first + w->rows);
	struct bk_desk *d = bk_desk_take(w->r);

	for (int64_t i = first; i < last; i++)
		if (w->loss)
			loss_row(w, i, d->p);
		else
			kl_row(w, i, d->p, d->p + w->p->cols);
	bk_desk_give(d);
}

static int losses(struct losses w)
{
	if (!bk_is_float(w.p->dtype) || !bk_shaped(w.p) || w.p->cols < 1 || w.p->cols > INT32_MAX ||
	    (w.q && (!bk_same_shape(w.p, w.q) || !bk_is_float(w.q->dtype) || !bk_shaped(w.q))))
		return BK_RUN_REFUSED;
	w.rows = bk_rows_per_item(w.p->cols);
	if (bk_desks_need(w.r, 2 * (size_t)w.p->cols))
		return BK_RUN_NO_MEMORY;
	bk_each(w.r, (size_t)bk_cut(w.p->rows, w.rows), losses_item, &w);
	return 0;
}

BK_OP(row_loss, const struct bk_row_loss *out, const struct bk_mat *logits, const int32_t *targets)
{
	return losses((struct losses){ .r = r, .p = logits, .loss = out, .targets = targets });
}

BK_OP(row_kl, const struct bk_row_kl *out, const struct bk_mat *p, const struct bk_mat *q, const int32_t *targets)
{
	return losses((struct losses){ .r = r, .p = p, .q = q, .kl = out, .targets = targets });
}
