/* SPDX-License-Identifier: Apache-2.0
 * One unit through a method: what it needs goes up, codes come back. */
#include "core/solve/solve.h"

#include <math.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/solve/device.h"

void bl_solved_free(struct bl_solved *s)
{
	if (!s)
		return;
	if (s->map.path) {
		bl_map_close(&s->map);
	} else {
		bl_free(s->codes);
		bl_free(s->scales);
		bl_free(s->zeros);
	}
	bl_free(s->report);
	bl_free(s);
}

struct work {
	const struct bl_solve_request *rq;
	const struct bl_unit *u;
	struct bl_engine *e;
	const struct bl_method *method;
	double *params;
	float *diagonal, *rows; /* rows: the weights, on the host */
	struct bl_str report;
	struct bl_solve_device dev;
	void *w, *h, *codes, *scales, *zeros, *work;
	struct bl_grid grid;
	int64_t spr;
};

static void note(void *ctx, const char *sentence)
{
	struct work *k = ctx;

	if (k->report.len < 4000)
		bl_str_addf(&k->report, "%s%.300s", k->report.len ? "\n" : "", sentence);
}

static enum bl_status check(struct work *k, struct bl_err *err)
{
	const struct bl_solve_request *rq = k->rq;
	const int64_t n = k->u->cols;
	char name[BL_SCHEME_NAME_MAX];
	const char *why;

	if (rq->scheme.number == BL_NUM_FULL)
		return bl_fail(err, BL_INVALID, "%s is kept as it is: there is nothing to solve", bl_scheme_name(name, &rq->scheme));
	k->method = bl_registry_method(rq->registry, rq->method);
	if (!k->method || !bl_method_whole(rq->registry, k->method) || bl_method_trains(rq->registry, k->method))
		return bl_fail(err, BL_NOT_FOUND, "method \"%s\" does not solve whole units, or is not among the plugins", rq->method);
	k->grid = bl_grid_of(&rq->scheme);
	if (k->grid.group && n % k->grid.group)
		return bl_fail(err, BL_INVALID, "%s: %lld columns cannot be divided into groups of %lld", k->u->name, (long long)n, (long long)k->grid.group);
	k->spr = bl_scheme_scales_per_row(&rq->scheme, n);
	why = k->method->refuses(&k->grid, k->u->rows, n);
	if (why)
		return bl_fail(err, BL_UNSUPPORTED, "%s: %s cannot do this: %s", k->u->name, rq->method, why);
	if (bl_params_parse(&k->params, k->method->params, k->method->n_params, rq->params, k->method->name, err))
		return err->status;
	k->diagonal = bl_xalloc((size_t)n, sizeof *k->diagonal);
	for (int64_t i = 0; i < n; i++) {
		k->diagonal[i] = rq->h[i * n + i];
		if (!isfinite(k->diagonal[i]) || k->diagonal[i] < 0)
			return bl_fail(err, BL_INVALID, "%s: the Hessian is not finite at channel %lld: the calibration saw overflowing activations", k->u->name,
				       (long long)i);
	}
	for (int m = 0; m < k->u->n_members; m++)
		if (!k->u->members[m].weight)
			return bl_fail(err, BL_INVALID, "%s: there is no full-precision weight to quantize", k->u->members[m].name);
	return BL_OK;
}

/* The members' weights as float32, one after the other, on the device. */
static enum bl_status put_weights(struct work *k, struct bl_err *err)
{
	const int64_t cols = k->u->cols;
	int64_t at = 0;

	if (bl_try_alloc(&k->rows, (size_t)(k->u->rows * cols), sizeof *k->rows, "the unit's weights", err))
		return err->status;
	for (int m = 0; m < k->u->n_members; at += k->u->members[m++].rows) {
		const struct bl_tensor *t = k->u->members[m].weight;
		const int64_t n = k->u->members[m].rows * cols;
		float *x = k->rows + at * cols;

		if (!bl_cpu_ops()->load_rows(x, t->data, t->dtype == BL_BF16 ? BK_BF16 : t->dtype == BL_F16 ? BK_F16 : BK_F32, n))
			continue;
		for (int64_t i = 0; i < n; i++) {
			if (isfinite(x[i]))
				continue;
			if (!k->rq->zero_nonfinite)
				return bl_fail(err, BL_INVALID, "%s: %s at [%lld,%lld]", t->name, isnan(x[i]) ? "NaN" : x[i] > 0 ? "Inf" : "-Inf",
					       (long long)(i / cols), (long long)(i % cols));
			x[i] = 0;
		}
	}
	return bl_engine_check(k->e, k->e->ops->put(k->e->run, k->w, k->rows, (size_t)(k->u->rows * cols) * sizeof *k->rows), "sending weights", err);
}

static enum bl_status allocate(struct work *k, struct bl_err *err)
{
	const size_t n = (size_t)k->u->rows, cols = (size_t)k->u->cols;

	if (bl_engine_alloc(k->e, &k->w, n * cols * 4, "weights", err) || bl_engine_alloc(k->e, &k->h, cols * cols * 4, "the Hessian", err) ||
	    bl_engine_alloc(k->e, &k->codes, n * cols, "codes", err) || bl_engine_alloc(k->e, &k->scales, n * (size_t)k->spr * 4, "scales", err) ||
	    bl_engine_alloc(k->e, &k->work, n * 8, "losses", err))
		return err->status;
	if (!k->grid.symmetric && bl_engine_alloc(k->e, &k->zeros, n * (size_t)k->spr, "zero points", err))
		return err->status;
	return bl_engine_check(k->e, k->e->ops->put(k->e->run, k->h, k->rq->h, cols * cols * 4), "sending the Hessian", err);
}

static enum bl_status sum_losses(struct work *k, const struct bk_mat *d, const struct bk_mat *h, double *sum, struct bl_err *err)
{
	double *rows = bl_xalloc((size_t)d->rows, sizeof *rows);

	*sum = 0;
	if (!bl_engine_check(k->e, k->e->solve->loss(&k->dev.solve, k->work, d, h), "summing losses", err) &&
	    !bl_engine_check(k->e, k->e->ops->get(k->e->run, rows, k->work, (size_t)d->rows * sizeof *rows), "fetching losses", err))
		for (int64_t i = 0; i < d->rows; i++)
			*sum += rows[i];
	bl_free(rows);
	return err->status;
}

/* codes, scales and zeros to the host, and the relative error from them: what the plugin computed on the way is not trusted. */
static enum bl_status fetch(struct work *k, struct bl_solved *s, struct bl_err *err)
{
	const int64_t n = k->u->rows, cols = k->u->cols;
	const struct bk_run_ops *ops = k->e->ops;
	const struct bl_host *host = &k->rq->registry->host;
	struct bk_mat w = { k->w, n, cols, cols, BK_F32 }, h = { k->h, cols, cols, cols, BK_F32 };
	float *w_hat = NULL;
	double base, loss;

	if (bl_try_alloc(&s->codes, (size_t)(n * cols), 1, "codes", err) || bl_try_alloc(&s->scales, (size_t)(n * k->spr), sizeof(float), "scales", err) ||
	    (!k->grid.symmetric && bl_try_alloc(&s->zeros, (size_t)(n * k->spr), 1, "zero points", err)))
		return err->status;
	if (bl_engine_check(k->e, ops->get(k->e->run, s->codes, k->codes, (size_t)(n * cols)), "fetching codes", err) ||
	    bl_engine_check(k->e, ops->get(k->e->run, s->scales, k->scales, (size_t)(n * k->spr) * sizeof(float)), "fetching scales", err) ||
	    (s->zeros && bl_engine_check(k->e, ops->get(k->e->run, s->zeros, k->zeros, (size_t)(n * k->spr)), "fetching zero points", err)))
		return err->status;
	for (int64_t i = 0; i < n * k->spr; i++)
		if (!isfinite(s->scales[i]) || s->scales[i] == 0)
			return bl_fail(err, BL_FAILED, "%s: %s gave a scale that cannot be stored (row %lld)", k->u->name, k->rq->method, (long long)(i / k->spr));
	if (bl_engine_check(k->e, k->e->solve->permute_sym(&k->dev.solve, &h, &h, NULL, 0, 0), "mirroring the Hessian", err) ||
	    sum_losses(k, &w, &h, &base, err) || bl_try_alloc(&w_hat, (size_t)(n * cols), sizeof *w_hat, "decoded weights", err))
		return err->status;
	host->decode(w_hat, s->codes, s->scales, s->zeros, n, cols, &k->grid);
	for (int64_t i = 0; i < n * cols; i++)
		w_hat[i] = k->rows[i] - w_hat[i];
	if (!bl_engine_check(k->e, ops->put(k->e->run, k->w, w_hat, (size_t)(n * cols) * sizeof *w_hat), "sending differences", err) &&
	    !sum_losses(k, &w, &h, &loss, err))
		s->rel = base > 0 ? loss / base : 0;
	bl_free(w_hat);
	return err->status;
}

static enum bl_status solve(struct work *k, struct bl_solved *s, struct bl_err *err)
{
	const int64_t n = k->u->rows, cols = k->u->cols;
	const struct bl_method_unit call = {
		.host = &k->rq->registry->host, .device = &k->dev.device, .module = k->u->name, .grid = k->grid, .params = k->params, .rows = n, .cols = cols,
		.tokens = k->rq->tokens, .w = { k->w, n, cols, cols, BL_DM_F32 }, .h = { k->h, cols, cols, cols, BL_DM_F32 }, .h_diagonal = k->diagonal,
		.codes = { k->codes, n, cols, cols, BL_DM_CODES }, .scales = k->scales, .zeros = k->zeros, .report = note, .ctx = k,
	};
	const char *why = k->method->solve_unit(&call);

	bl_solve_device_fini(&k->dev);
	if (k->rq->cancel && atomic_load(k->rq->cancel))
		return bl_fail(err, BL_CANCELLED, "cancelled");
	if (k->dev.error)
		return bl_engine_check(k->e, k->dev.error, k->u->name, err);
	if (why)
		return bl_fail(err, BL_FAILED, "%s: %s: %s", k->u->name, k->rq->method, why);
	return fetch(k, s, err);
}

enum bl_status bl_solve_unit(struct bl_solved **out, struct bl_engine *e, const struct bl_solve_request *rq, struct bl_err *err)
{
	struct work k = { .rq = rq, .u = &rq->model->units[rq->unit], .e = e };
	struct bl_solved *s = bl_xalloc(1, sizeof *s);
	const uint64_t start = bl_now_ns();

	bl_solve_device_init(&k.dev, e, rq->cancel);
	if (!check(&k, err) && !allocate(&k, err) && !put_weights(&k, err))
		solve(&k, s, err);
	void *const all[] = { k.w, k.h, k.codes, k.scales, k.zeros, k.work };
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		bl_engine_release(e, all[i]);
	bl_free(k.params);
	bl_free(k.diagonal);
	bl_free(k.rows);
	s->unit = rq->unit;
	s->rows = k.u->rows;
	s->cols = k.u->cols;
	s->spr = k.spr;
	s->seconds = (double)(bl_now_ns() - start) * 1e-9;
	s->report = k.report.len ? bl_str_take(&k.report) : bl_xstrdup("");
	bl_str_free(&k.report);
	if (err->status)
		bl_solved_free(s);
	else
		*out = s;
	return err->status;
}
