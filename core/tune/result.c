/* SPDX-License-Identifier: Apache-2.0
 * What came out of a unit: codes, scales, and how far its output is from the full-precision unit's over the calibration set. */
#include <math.h>

#include "core/base/clock.h"
#include "core/base/str.h"
#include "core/tune/private.h"

static enum bl_status sum_losses(struct tune *t, const struct bk_mat *d, const struct bk_mat *h, void *work, double *sum, struct bl_err *err)
{
	const struct bk_solve solve = { .ops = t->e->ops, .run = t->e->run, .parallel = bl_engine_parallel, .parallel_ctx = t->e };
	double *rows = bl_xalloc((size_t)d->rows, sizeof *rows);

	*sum = 0;
	if (!bl_engine_check(t->e, t->e->solve->loss(&solve, work, d, h), "summing losses", err) &&
	    !TUNE_OP(t, err, "fetching losses", get(t->e->run, rows, work, (size_t)d->rows * sizeof *rows)))
		for (int64_t i = 0; i < d->rows; i++)
			*sum += rows[i];
	bl_free(rows);
	return err->status;
}

static enum bl_status measure(struct tune *t, struct tune_state *s, const float *h, double *rel, struct bl_err *err)
{
	const struct bk_solve solve = { .ops = t->e->ops, .run = t->e->run, .parallel = bl_engine_parallel, .parallel_ctx = t->e };
	const struct bk_mat codes = tune_mat(s->best, s->rows, s->cols, s->grid.number == BK_INT ? BK_I8 : BK_F8);
	const size_t n = (size_t)(s->rows * s->cols), k = (size_t)s->cols;
	struct bk_mat w = tune_mat(NULL, s->rows, s->cols, BK_F32), q = w, hm = tune_mat(NULL, s->cols, s->cols, BK_F32);
	void *work = NULL;
	double base, loss;

	if (bl_engine_alloc(t->e, &w.p, n * 4, "weights", err) || bl_engine_alloc(t->e, &q.p, n * 4, "weights", err) || bl_engine_alloc(t->e, &hm.p, k * k * 4, "the Hessian", err) ||
	    bl_engine_alloc(t->e, &work, (size_t)s->rows * sizeof(double), "losses", err))
		goto done;
	if (TUNE_OP(t, err, "sending the Hessian", put(t->e->run, hm.p, h, k * k * 4)) ||
	    bl_engine_check(t->e, t->e->solve->permute_sym(&solve, &hm, &hm, NULL, 0, 0), "mirroring the Hessian", err) ||
	    TUNE_OP(t, err, "weights", convert(t->e->run, &w, &s->w)) || sum_losses(t, &w, &hm, work, &base, err) ||
	    TUNE_GRAD(t, err, "decoding", codes_value(t->e->run, &q, &codes, s->best_scale, s->zero, &s->grid)) ||
	    TUNE_GRAD(t, err, "differences", axpy(t->e->run, w.p, -1, q.p, (int64_t)n)) || sum_losses(t, &w, &hm, work, &loss, err))
		goto done;
	*rel = base > 0 ? loss / base : 0;
	if (!isfinite(*rel))
		bl_fail(err, BL_INVALID, "%s: the Hessian is not finite: the calibration saw overflowing activations", t->m->units[s->unit].name);
done:
	bl_engine_release(t->e, w.p);
	bl_engine_release(t->e, q.p);
	bl_engine_release(t->e, hm.p);
	bl_engine_release(t->e, work);
	return err->status;
}

enum bl_status tune_result(struct tune *t, int unit, struct bl_err *err)
{
	struct tune_state *s = &t->states[unit];
	const size_t n = (size_t)(s->rows * s->cols), g = (size_t)(s->rows * s->spr);
	struct bl_solved *out = bl_xalloc(1, sizeof *out);
	const float *h = NULL;

	out->unit = unit;
	out->rows = s->rows;
	out->cols = s->cols;
	out->spr = s->spr;
	out->code_bytes = 1;
	out->report = bl_xstrdup(t->report);
	if (bl_try_alloc(&out->codes, n, 1, "codes", err) || bl_try_alloc(&out->scales, g, sizeof(float), "scales", err) ||
	    (s->zero && bl_try_alloc(&out->zeros, g, 1, "zero points", err)) || TUNE_OP(t, err, "fetching codes", get(t->e->run, out->codes, s->best, n)) ||
	    TUNE_OP(t, err, "fetching scales", get(t->e->run, out->scales, s->best_scale, g * sizeof(float))) ||
	    (s->zero && TUNE_OP(t, err, "fetching zero points", get(t->e->run, out->zeros, s->zero, g))))
		goto failed;
	for (size_t i = 0; i < g; i++)
		if (!isfinite(out->scales[i]) || out->scales[i] == 0) {
			bl_fail(err, BL_FAILED, "%s: tuning gave a scale that cannot be stored (row %lld)", t->m->units[unit].name, (long long)(i / (size_t)s->spr));
			goto failed;
		}
	if ((t->rq->hessian && t->rq->hessian(t->rq->ctx, unit, &h, err)) || (h && measure(t, s, h, &out->rel, err)))
		goto failed;
	out->seconds = (double)(bl_now_ns() - t->start_ns) * 1e-9 / (t->together > 0 ? t->together : 1); /* its share */
	return t->rq->done(t->rq->ctx, out, err);
failed:
	bl_solved_free(out);
	return err->status;
}
