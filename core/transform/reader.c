/* SPDX-License-Identifier: Apache-2.0
 * The reader of a pair as a stage finds it: read once, row by row, through the operations that earlier stages decided on. */
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/transform/private.h"

void fold_load_row(float *out, const struct bl_tensor *t, int64_t row, int64_t cols)
{
	const char *from = (const char *)t->data + row * cols * bl_dtype_bytes(t->dtype);

	if (t->dtype == BL_F32) {
		memcpy(out, from, (size_t)cols * 4);
		return;
	}
	for (int64_t i = 0; i < cols; i++) {
		uint16_t h;

		memcpy(&h, from + 2 * i, 2);
		out[i] = t->dtype == BL_BF16 ? bl_bf16_f32(h) : bl_f16_f32(h);
	}
}

void fold_reader_free(struct fold_reader *r)
{
	bl_free(r->absmax);
	bl_free(r->w);
	bl_free(r->x);
	bl_free(r->weight);
	bl_free(r->by_column);
	*r = (struct fold_reader){ .absmax = NULL };
}

static enum bl_status inputs(struct fold_reader *r, const struct fold_block *b, struct bl_err *err)
{
	const int unit = b->block * BL_UNIT_KIND_COUNT + (int)r->c.reader;
	const struct bl_input_stats *in = bl_calib_stats(b->calib, unit);
	double *moments = bl_xalloc(2 * (size_t)r->cols + 1, sizeof *moments);
	bool known = in && !in->nonfinite;

	if (known) {
		memcpy(r->absmax, in->channel_absmax, (size_t)r->cols * sizeof *r->absmax);
		memcpy(moments, in->channel_mean, (size_t)r->cols * sizeof *moments);
		memcpy(moments + r->cols, in->channel_rms, (size_t)r->cols * sizeof *moments);
		known = bl_ops_absmax(b->ops, &r->c, r->absmax, r->cols) && bl_ops_moments(b->ops, &r->c, moments, moments + r->cols, r->cols);
		for (int64_t j = 0; j < r->cols; j++)
			r->energy[j] = (float)(moments[r->cols + j] * moments[r->cols + j]);
	}
	bl_free(moments);
	if (!known)
		return bl_fail(err, BL_INVALID, "%s: its inputs are not known: %s", r->u->name,
			       in && !in->nonfinite ? "an earlier stage rotates them; put the rotation last" : "the calibration saw NaN or Inf");
	return BL_OK;
}

static enum bl_status weights(struct fold_reader *r, const struct fold_block *b, int64_t most_rows, struct bl_err *err)
{
	const int64_t cols = r->cols, step = most_rows && r->u->rows > most_rows ? (r->u->rows + most_rows - 1) / most_rows : 1;
	float *row = bl_xalloc(2 * (size_t)cols + 1, sizeof *row);
	int64_t at = 0;

	if (most_rows)
		bl_try_alloc(&r->w, (size_t)(((r->u->rows + step - 1) / step) * cols), sizeof *r->w, "rows of a linear", err);
	for (int m = 0; m < r->u->n_members && !err->status; m++)
		for (int64_t i = 0; i < r->u->members[m].rows; i++, at++) {
			fold_load_row(row, r->u->members[m].weight, i, cols);
			bl_ops_reader_row(b->ops, &r->c, row, row + cols, cols);
			for (int64_t j = 0; j < cols; j++) {
				float v = isfinite(row[j]) ? row[j] : 0;

				r->wmax[j] = fabsf(v) > r->wmax[j] ? fabsf(v) : r->wmax[j];
				r->wsum[j] += v * v;
				row[j] = v;
			}
			if (most_rows && at % step == 0)
				memcpy(r->w + r->rows++ * cols, row, (size_t)cols * sizeof *row);
		}
	bl_free(row);
	return err->status;
}

/* Outputs from the rows that are kept. Energies are those of the weighted tokens from here on. */
static void weigh(struct fold_reader *r, bool normed)
{
	double sum = 0;

	r->weight = bl_xalloc((size_t)r->tokens + 1, sizeof *r->weight);
	for (int64_t t = 0; t < r->tokens; t++) {
		double size = 0;

		for (int64_t n = 0; normed && n < r->rows; n++) {
			const float *w = r->w + n * r->cols, *x = r->x + t * r->cols;
			float y = 0;

			for (int64_t j = 0; j < r->cols; j++)
				y += w[j] * x[j];
			size += (double)y * y;
		}
		r->weight[t] = (float)(1 / (size > 1e-30 ? size : 1e-30));
		if (!normed)
			r->weight[t] = 1;
		sum += r->weight[t];
	}
	if (normed)
		memset(r->energy, 0, (size_t)r->cols * sizeof *r->energy);
	for (int64_t t = 0; t < r->tokens; t++) {
		r->weight[t] = (float)(r->weight[t] * (double)r->tokens / sum);
		for (int64_t j = 0; normed && j < r->cols; j++)
			r->energy[j] += r->weight[t] * r->x[t * r->cols + j] * r->x[t * r->cols + j] / (float)r->tokens;
	}
}

static enum bl_status samples(struct fold_reader *r, const struct fold_block *b, struct bl_err *err)
{
	const struct fold_sample *s = &b->sample[r->c.reader];

	if (!s->x)
		return BL_OK;
	if (bl_try_alloc(&r->x, (size_t)(s->tokens * r->cols), sizeof *r->x, "sampled inputs", err))
		return err->status;
	memcpy(r->x, s->x, (size_t)(s->tokens * r->cols) * sizeof *r->x);
	for (int64_t t = 0; t < s->tokens; t++)
		bl_ops_absmax(b->ops, &r->c, r->x + t * r->cols, r->cols);
	r->tokens = s->tokens;
	if (bl_try_alloc(&r->by_column, (size_t)(s->tokens * r->cols), sizeof *r->by_column, "sampled inputs", err))
		return err->status;
	for (int64_t t = 0; t < s->tokens; t++)
		for (int64_t j = 0; j < r->cols; j++)
			r->by_column[j * s->tokens + t] = r->x[t * r->cols + j];
	weigh(r, b->m->arch->norms != BL_NORM_PRE && (r->c.reader == BL_UNIT_O || r->c.reader == BL_UNIT_DOWN));
	return BL_OK;
}

enum bl_status fold_reader_open(struct fold_reader *r, const struct fold_block *b, enum bl_fold_pair pair, int64_t most_rows, struct bl_err *err)
{
	*r = (struct fold_reader){ .c = bl_channels_of(b->m, pair) };
	r->u = &b->m->units[b->block * BL_UNIT_KIND_COUNT + (int)r->c.reader];
	r->cols = r->u->cols;
	r->absmax = bl_xalloc(4 * (size_t)r->cols + 1, sizeof *r->absmax);
	r->energy = r->absmax + r->cols;
	r->wmax = r->energy + r->cols;
	r->wsum = r->wmax + r->cols;
	if (inputs(r, b, err) || weights(r, b, most_rows, err) || samples(r, b, err))
		fold_reader_free(r);
	return err->status;
}
