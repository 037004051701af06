/* SPDX-License-Identifier: Apache-2.0
 * One unit through a method: what it needs goes up as it lies in the files, is converted and looked at there; codes come back. */
#include "core/solve/solve.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/model/nonfinite.h"
#include "core/plugin/host.h"
#include "core/solve/device.h"
#include "core/solve/shared.h"

void bl_solved_free(struct bl_solved *s)
{
	if (!s)
		return;
	if (s->map.path) {
		bl_map_close(&s->map);
	} else {
		bl_free(s->group_of);
		bl_free(s->borrowed ? NULL : s->codes);
		bl_free(s->borrowed ? NULL : s->scales);
		bl_free(s->borrowed ? NULL : s->zeros);
	}
	bl_free(s->report);
	bl_free(s);
}

struct bl_solve_job {
	struct bl_solve_request rq;
	const struct bl_unit *u;
	struct bl_engine *e;
	const struct bl_method *method;
	double *params;
	float *diagonal;
	int32_t *group_of; /* scheme.order: what the method says */
	struct bl_str report;
	struct bl_solve_device dev;
	void *raw, *w, *h, *codes, *scales, *zeros, *found, *d_diagonal, *loss, *d_group;
	struct bl_grid grid;
	int64_t spr;
	double base;     /* tr(W H W^T) */
	uint64_t spent;  /* ns of earlier steps */
};

static void note(void *ctx, const char *sentence)
{
	struct bl_solve_job *k = ctx;

	if (k->report.len < 4000)
		bl_str_addf(&k->report, "%s%.300s", k->report.len ? "\n" : "", sentence);
}

static struct bk_mat weights(const struct bl_solve_job *k) { return (struct bk_mat){ k->w, k->u->rows, k->u->cols, k->u->cols, BK_F32 }; }
static struct bk_mat hessian(const struct bl_solve_job *k) { return (struct bk_mat){ k->h, k->u->cols, k->u->cols, k->u->cols, BK_F32 }; }
static int dtype_of(const struct bl_tensor *t) { return t->dtype == BL_BF16 ? BK_BF16 : t->dtype == BL_F16 ? BK_F16 : BK_F32; }
static size_t size_of(const struct bl_tensor *t) { return t->dtype == BL_F32 ? 4 : 2; }

/* ---- before anything moves ---- */

static enum bl_status check(struct bl_solve_job *k, struct bl_err *err)
{
	const struct bl_solve_request *rq = &k->rq;
	const int64_t n = k->u->cols;
	char name[BL_SCHEME_NAME_MAX];
	const char *why;

	if (rq->scheme.number == BL_NUM_FULL)
		return bl_fail(err, BL_INVALID, "%s is kept as it is: there is nothing to solve", bl_scheme_name(name, &rq->scheme));
	k->method = bl_registry_method(rq->registry, rq->method);
	if (!k->method || !bl_method_whole(rq->registry, k->method) || bl_method_trains(rq->registry, k->method))
		return bl_fail(err, BL_NOT_FOUND, "method \"%s\" does not solve whole units, or is not among the plugins", rq->method);
	k->grid = bl_grid_of(&rq->scheme);
	k->grid.group = k->grid.group > 0 ? k->grid.group : 0; /* one scale for a linear: every row has it */
	for (int m = 0; m < k->u->n_members && rq->scheme.number == BL_NUM_PRUNED; m++)
		if (k->u->members[m].weight && k->u->members[m].weight->dtype != BL_BF16)
			return bl_fail(err, BL_UNSUPPORTED, "%s: only bfloat16 weights are pruned without quantizing them", k->u->members[m].name);
	if (k->grid.group && n % k->grid.group)
		return bl_fail(err, BL_INVALID, "%s: %lld columns cannot be divided into groups of %lld", k->u->name, (long long)n, (long long)k->grid.group);
	k->spr = bl_scheme_scales_per_row(&rq->scheme, n);
	if (bl_method_crosses(rq->registry, k->method) && !rq->cross_device)
		return bl_fail(err, BL_INVALID, "%s: %s needs the base model's inputs beside those of the quantized one, block after block", k->u->name, rq->method);
	why = k->method->refuses(&k->grid, k->u->rows, n);
	if (why)
		return bl_fail(err, BL_UNSUPPORTED, "%s: %s cannot do this: %s", k->u->name, rq->method, why);
	if (bl_params_parse(&k->params, k->method->params, k->method->n_params, rq->params, k->method->name, err))
		return err->status;
	for (int m = 0; m < k->u->n_members; m++)
		if (!k->u->members[m].weight)
			return bl_fail(err, BL_INVALID, "%s: there is no full-precision weight to quantize", k->u->members[m].name);
	return BL_OK;
}

/* ---- up ---- */

static enum bl_status upload(struct bl_solve_job *k, struct bl_err *err)
{
	const size_t n = (size_t)k->u->rows, cols = (size_t)k->u->cols;
	size_t bytes = 0;

	for (int m = 0; m < k->u->n_members; m++)
		bytes += ((size_t)(k->u->members[m].rows * k->u->cols) * size_of(k->u->members[m].weight) + 255) / 256 * 256;
	if (bl_engine_alloc(k->e, &k->raw, bytes, "weights", err) || bl_engine_alloc(k->e, &k->w, n * cols * 4, "weights", err))
		return err->status;
	bytes = 0;
	for (int m = 0; m < k->u->n_members; m++) {
		const struct bl_tensor *t = k->u->members[m].weight;
		const size_t part = (size_t)(k->u->members[m].rows * k->u->cols) * size_of(t);

		if (bl_engine_check(k->e, k->e->ops->upload(k->e->run, (char *)k->raw + bytes, t->data, part), "sending weights", err))
			return err->status;
		bytes += (part + 255) / 256 * 256;
	}
	if (k->rq.h_device) {
		k->h = k->rq.h_device;
		return BL_OK;
	}
	if (bl_engine_alloc(k->e, &k->h, cols * cols * 4, "the Hessian", err))
		return err->status;
	return bl_engine_check(k->e, k->e->ops->upload(k->e->run, k->h, k->rq.h, cols * cols * 4), "sending the Hessian", err);
}

enum bl_status bl_solve_begin(struct bl_solve_job **out, struct bl_engine *e, const struct bl_solve_request *rq, struct bl_err *err)
{
	struct bl_solve_job *k = bl_xalloc(1, sizeof *k);
	const uint64_t start = bl_now_ns();

	k->rq = *rq;
	k->u = &rq->model->units[rq->unit];
	k->e = e;
	bl_solve_device_init(&k->dev, e, rq->cancel);
	if (check(k, err) || upload(k, err)) {
		bl_solve_drop(k);
		return err->status;
	}
	k->spent = bl_now_ns() - start;
	*out = k;
	return BL_OK;
}

void bl_solve_drop(struct bl_solve_job *k)
{
	if (!k)
		return;
	void *const all[] = { k->raw, k->w, k->rq.h_device ? NULL : k->h, k->codes, k->scales, k->zeros, k->found, k->d_diagonal, k->loss, k->d_group, k->dev.given };

	(void)k->e->ops->upload_join(k->e->run);
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		bl_engine_release(k->e, all[i]);
	bl_free(k->params);
	bl_free(k->diagonal);
	bl_free(k->group_of);
	bl_str_free(&k->report);
	bl_free(k);
}

/* ---- ready ---- */

/* There are no scales, which is a scale of 1. */
static enum bl_status put_ones(struct bl_solve_job *k, struct bl_err *err)
{
	const size_t n = (size_t)(k->u->rows * k->spr);
	float *one = bl_xalloc(n, sizeof *one);

	for (size_t i = 0; i < n; i++)
		one[i] = 1;
	bl_engine_check(k->e, k->e->ops->put(k->e->run, k->scales, one, n * sizeof *one), "scales", err);
	bl_free(one);
	return err->status;
}

static enum bl_status allocate(struct bl_solve_job *k, struct bl_err *err)
{
	const size_t n = (size_t)k->u->rows, cols = (size_t)k->u->cols;

	if (bl_engine_alloc(k->e, &k->codes, n * cols * bl_scheme_code_bytes(&k->rq.scheme), "codes", err) || bl_engine_alloc(k->e, &k->scales, n * (size_t)k->spr * 4, "scales", err) ||
	    bl_engine_alloc(k->e, &k->loss, n * 8, "losses", err) || bl_engine_alloc(k->e, &k->found, 16, "counters", err) ||
	    bl_engine_alloc(k->e, &k->d_diagonal, cols * 4, "the Hessian's diagonal", err))
		return err->status;
	if (!k->grid.symmetric && bl_engine_alloc(k->e, &k->zeros, n * (size_t)k->spr, "zero points", err))
		return err->status;
	if (k->grid.number == BL_GRID_FULL && put_ones(k, err))
		return err->status;
	if (!k->rq.scheme.order)
		return BL_OK;
	k->group_of = bl_xalloc(cols, sizeof *k->group_of);
	for (size_t i = 0; i < cols; i++)
		k->group_of[i] = -1;
	return bl_engine_alloc(k->e, &k->d_group, cols * 4, "groups of columns", err);
}

static enum bl_status convert(struct bl_solve_job *k, struct bl_err *err)
{
	const int64_t cols = k->u->cols;
	size_t bytes = 0;
	int64_t at = 0;

	for (int m = 0; m < k->u->n_members; at += k->u->members[m++].rows) {
		const struct bl_tensor *t = k->u->members[m].weight;
		const struct bk_mat src = { (char *)k->raw + bytes, k->u->members[m].rows, cols, cols, dtype_of(t) };
		const struct bk_mat dst = { (float *)k->w + at * cols, src.rows, cols, cols, BK_F32 };

		if (bl_engine_check(k->e, k->e->ops->convert(k->e->run, &dst, &src), "converting weights", err))
			return err->status;
		bytes += ((size_t)(src.rows * cols) * size_of(t) + 255) / 256 * 256;
	}
	bl_engine_release(k->e, k->raw);
	k->raw = NULL;
	return BL_OK;
}

/* Names the element that is `index` from the unit's start. */
static enum bl_status say_nonfinite(const struct bl_solve_job *k, int64_t index, struct bl_err *err)
{
	const int64_t cols = k->u->cols;
	int64_t row = index / cols;
	int m = 0;

	for (; m + 1 < k->u->n_members && row >= k->u->members[m].rows; m++)
		row -= k->u->members[m].rows;
	return bl_refuse_nonfinite(k->u->members[m].weight, row * cols + index % cols, err);
}

static enum bl_status sum_losses(struct bl_solve_job *k, double *sum, struct bl_err *err)
{
	const struct bk_mat d = weights(k), h = hessian(k);
	double *rows = bl_xalloc((size_t)d.rows, sizeof *rows);

	*sum = 0;
	if (!bl_engine_check(k->e, k->e->solve->loss(&k->dev.solve, k->loss, &d, &h), "summing losses", err) &&
	    !bl_engine_check(k->e, k->e->ops->get(k->e->run, rows, k->loss, (size_t)d.rows * sizeof *rows), "fetching losses", err))
		for (int64_t i = 0; i < d.rows; i++)
			*sum += rows[i];
	bl_free(rows);
	return err->status;
}

/* The loss of the weights themselves is not a number: the Hessian has such elements, or the weights are too large for float32 sums. */
static enum bl_status say_overflow(struct bl_solve_job *k, struct bl_err *err)
{
	const struct bk_mat h = hessian(k);
	uint64_t found[2];

	if (bl_engine_check(k->e, k->e->ops->zero(k->e->run, k->found, sizeof found), "counting", err) ||
	    bl_engine_check(k->e, k->e->solve->nonfinite(&k->dev.solve, k->found, &h), "counting", err) ||
	    bl_engine_check(k->e, k->e->ops->get(k->e->run, found, k->found, sizeof found), "counting", err))
		return err->status;
	if (!found[0])
		return bl_fail(err, BL_INVALID, "%s: products of its weights and inputs overflow float32; rtn rounds it without them", k->u->name);
	return bl_fail(err, BL_INVALID, "%s: the Hessian is not finite at channel %lld: the calibration saw overflowing activations", k->u->name,
		       (long long)((int64_t)(1 + (uint64_t)(h.rows * h.cols) - found[1]) / h.cols));
}

/* What is not finite is found here, once, wherever it came from. */
static enum bl_status look(struct bl_solve_job *k, struct bl_err *err)
{
	const struct bk_mat w = weights(k), h = hessian(k);
	const struct bk_solve_ops *ops = k->e->solve;
	const int64_t cols = k->u->cols;
	uint64_t found[2];

	if (bl_engine_check(k->e, k->e->ops->zero(k->e->run, k->found, sizeof found), "counting", err) ||
	    bl_engine_check(k->e, ops->nonfinite(&k->dev.solve, k->found, &w), "counting", err) ||
	    bl_engine_check(k->e, ops->permute_sym(&k->dev.solve, &h, &h, NULL, 0, 0), "mirroring the Hessian", err) ||
	    bl_engine_check(k->e, ops->diagonal(&k->dev.solve, k->d_diagonal, &h), "the Hessian's diagonal", err) || sum_losses(k, &k->base, err) ||
	    bl_engine_check(k->e, k->e->ops->get(k->e->run, found, k->found, sizeof found), "counting", err) ||
	    bl_engine_check(k->e, k->e->ops->get(k->e->run, k->diagonal, k->d_diagonal, (size_t)cols * sizeof *k->diagonal), "the Hessian's diagonal", err))
		return err->status;
	if (found[0] && !k->rq.zero_nonfinite)
		return say_nonfinite(k, (int64_t)(1 + (uint64_t)(k->u->rows * cols) - found[1]), err);
	for (int64_t i = 0; i < cols; i++)
		if (!isfinite(k->diagonal[i]) || k->diagonal[i] < 0)
			return bl_fail(err, BL_INVALID, "%s: the Hessian is not finite at channel %lld: the calibration saw overflowing activations", k->u->name,
				       (long long)i);
	return isfinite(k->base) ? BL_OK : say_overflow(k, err);
}

/* W := W + a W (G - H) (H + damp)^-1, G = sum x y^T, in two products and two triangles. */
static enum bl_status correct(struct bl_solve_job *k, struct bl_err *err)
{
	const struct bk_mat w = weights(k), h = hessian(k);
	struct bk_mat g = { k->rq.cross_device, h.rows, h.cols, h.cols, BK_F32 }, y = w;
	double mean = 0;
	int failed = 0;

	for (int64_t i = 0; i < h.cols; i++)
		mean += k->diagonal[i] / (double)h.cols;
	if (bl_engine_alloc(k->e, &y.p, (size_t)(w.rows * w.cols) * 4, "corrected weights", err))
		return err->status;
	/* y = W G - W H */
	if (!bl_engine_check(k->e, k->e->ops->gemm(k->e->run, &y, &w, 0, &g, 0, 1, 0, NULL), "correcting weights", err) &&
	    !bl_engine_check(k->e, k->e->ops->gemm(k->e->run, &y, &w, 0, &h, 0, -1, 1, NULL), "correcting weights", err) &&
	    !bl_engine_check(k->e, k->e->solve->permute_sym(&k->dev.solve, &g, &h, NULL, 0.01 * mean, mean > 0 ? mean : 1), "correcting weights", err) &&
	    !bl_engine_check(k->e, k->e->solve->factor(&k->dev.solve, &g, &failed), "correcting weights", err)) {
		if (failed)
			note(k, "the weights were not corrected: the Hessian has no factor with damping 0.01");
		else if (!bl_engine_check(k->e, k->e->solve->solve_rows(&k->dev.solve, &y, &g), "correcting weights", err))
			bl_engine_check(k->e, k->e->solve->add_scaled(&k->dev.solve, &w, &y, (float)k->rq.correct), "correcting weights", err);
	}
	bl_engine_release(k->e, y.p);
	return err->status;
}

static enum bl_status share(struct bl_solve_job *k, struct bl_err *err)
{
	const struct bk_mat w = weights(k);

	return bl_shared_find(&k->dev, &k->rq.scheme, k->u, &w, err);
}

enum bl_status bl_solve_ready(struct bl_solve_job *k, struct bl_err *err)
{
	const uint64_t start = bl_now_ns();

	k->diagonal = bl_xalloc((size_t)k->u->cols, sizeof *k->diagonal);
	if (bl_engine_check(k->e, k->e->ops->upload_join(k->e->run), "sending weights", err) || allocate(k, err) || convert(k, err) || look(k, err))
		return err->status;
	if (k->rq.cross_device && k->rq.correct > 0)
		correct(k, err);
	if (!err->status)
		share(k, err);
	k->spent += bl_now_ns() - start;
	return err->status;
}

/* ---- solved, and down ---- */

size_t bl_solve_host_bytes(const struct bl_unit *u, const struct bl_scheme *s)
{
	const size_t scales = (size_t)(u->rows * bl_scheme_scales_per_row(s, u->cols));

	return scales * sizeof(float) + (size_t)(u->rows * u->cols) * bl_scheme_code_bytes(s) + scales;
}

static enum bl_status place(struct bl_solve_job *k, struct bl_solved *s, void *host, struct bl_err *err)
{
	const size_t n = (size_t)(k->u->rows * k->u->cols) * bl_scheme_code_bytes(&k->rq.scheme), scales = (size_t)(k->u->rows * k->spr);

	if (host) {
		s->borrowed = true;
		s->scales = host;
		s->codes = (int8_t *)(s->scales + scales);
		s->zeros = k->grid.symmetric ? NULL : s->codes + n;
		return BL_OK;
	}
	if (bl_try_alloc(&s->codes, n, 1, "codes", err) || bl_try_alloc(&s->scales, scales, sizeof(float), "scales", err) ||
	    (!k->grid.symmetric && bl_try_alloc(&s->zeros, scales, 1, "zero points", err)))
		return err->status;
	return BL_OK;
}

/* Every group has as many columns as it must. */
static enum bl_status check_groups(struct bl_solve_job *k, struct bl_err *err)
{
	const int64_t cols = k->u->cols;
	int64_t *n = bl_xalloc((size_t)k->spr, sizeof *n);
	bool fine = true;

	for (int64_t i = 0; i < cols && fine; i++) {
		fine = k->group_of[i] >= 0 && k->group_of[i] < k->spr;
		if (fine)
			n[k->group_of[i]]++;
	}
	for (int64_t i = 0; i < k->spr && fine; i++)
		fine = n[i] == cols / k->spr;
	bl_free(n);
	if (!fine)
		return bl_fail(err, BL_FAILED, "%s: %s does not say which group a column belongs to", k->u->name, k->rq.method);
	return bl_engine_check(k->e, k->e->ops->put(k->e->run, k->d_group, k->group_of, (size_t)cols * sizeof *k->group_of), "groups of columns", err);
}

/* Codes, scales and zeros to the host; beside that the relative error from them: what the plugin computed on the way is not trusted. */
static enum bl_status fetch(struct bl_solve_job *k, struct bl_solved *s, void *host, struct bl_err *err)
{
	const int64_t n = k->u->rows, cols = k->u->cols;
	const struct bk_run_ops *ops = k->e->ops;
	const size_t code_bytes = bl_scheme_code_bytes(&k->rq.scheme);
	const struct bk_mat w = weights(k), codes = { k->codes, n, cols, cols, code_bytes == 2 ? BK_BF16 : BK_I8 };
	const struct bk_grid g = bl_grid_of_plugin(&k->grid);
	double loss = 0;

	if (k->group_of && check_groups(k, err))
		return err->status;
	if (place(k, s, host, err) || bl_engine_check(k->e, ops->download(k->e->run, s->codes, k->codes, (size_t)(n * cols) * code_bytes), "fetching codes", err) ||
	    bl_engine_check(k->e, ops->download(k->e->run, s->scales, k->scales, (size_t)(n * k->spr) * sizeof(float)), "fetching scales", err) ||
	    (s->zeros && bl_engine_check(k->e, ops->download(k->e->run, s->zeros, k->zeros, (size_t)(n * k->spr)), "fetching zero points", err)))
		return err->status;
	if (!bl_engine_check(k->e, k->e->solve->diff(&k->dev.solve, &w, &w, &codes, k->scales, k->zeros, (const int32_t *)k->d_group, &g), "differences", err))
		sum_losses(k, &loss, err);
	if (bl_engine_check(k->e, ops->download_join(k->e->run), "fetching codes", err))
		return err->status;
	s->rel = k->base > 0 ? fmax(0, loss / k->base) : 0;
	s->group_of = k->group_of;
	k->group_of = NULL;
	for (int64_t i = 0; i < n * k->spr; i++)
		if (!isfinite(s->scales[i]) || s->scales[i] == 0)
			return bl_fail(err, BL_FAILED, "%s: %s gave a scale that cannot be stored (row %lld)", k->u->name, k->rq.method, (long long)(i / k->spr));
	return BL_OK;
}

static enum bl_status solve(struct bl_solve_job *k, struct bl_solved *s, void *host, struct bl_err *err)
{
	const int64_t n = k->u->rows, cols = k->u->cols;
	int64_t part_rows[BL_MEMBERS_MAX];

	for (int m = 0; m < k->u->n_members; m++)
		part_rows[m] = k->u->members[m].rows;
	const struct bl_method_unit call = {
		.host = &k->rq.registry->host, .device = &k->dev.device, .module = k->u->name, .grid = k->grid, .params = k->params, .rows = n, .cols = cols,
		.tokens = k->rq.tokens, .w = { k->w, n, cols, cols, BL_DM_F32 }, .h = { k->h, cols, cols, cols, BL_DM_F32 }, .h_diagonal = k->diagonal,
		.codes = { k->codes, n, cols, cols, k->grid.number == BL_GRID_FULL ? BL_DM_BF16 : BL_DM_CODES }, .scales = k->scales, .zeros = k->zeros, .report = note, .ctx = k, .group_of = k->group_of,
		.part_rows = part_rows, .n_parts = k->u->n_members,
		.cross = { k->rq.correct > 0 ? NULL : k->rq.cross_device, cols, cols, cols, BL_DM_F32 },
	};
	const char *why = k->method->solve_unit(&call);

	bl_solve_device_fini(&k->dev);
	if (k->dev.refit_asked)
		note(k, "scales that rows share are those of the whole range: they are not refitted");
	if (k->rq.cancel && atomic_load(k->rq.cancel))
		return bl_fail(err, BL_CANCELLED, "cancelled");
	if (k->dev.error)
		return bl_engine_check(k->e, k->dev.error, k->u->name, err);
	if (why) /* the device has no part in it: what it was asked for is refused */
		return bl_fail(err, !strcmp(why, "out of memory") ? BL_NO_MEMORY : BL_UNSUPPORTED, "%s: %s: %s", k->u->name, k->rq.method, why);
	return fetch(k, s, host, err);
}

enum bl_status bl_solve_run(struct bl_solved **out, struct bl_solve_job *k, void *host, struct bl_err *err)
{
	struct bl_solved *s = bl_xalloc(1, sizeof *s);
	const uint64_t start = bl_now_ns();

	solve(k, s, host, err);
	s->unit = k->rq.unit;
	s->rows = k->u->rows;
	s->cols = k->u->cols;
	s->spr = k->spr;
	s->global = k->dev.global;
	s->code_bytes = (int)bl_scheme_code_bytes(&k->rq.scheme);
	s->seconds = (double)(bl_now_ns() - start + k->spent) * 1e-9;
	s->report = k->report.len ? bl_str_take(&k->report) : bl_xstrdup("");
	bl_solve_drop(k);
	if (err->status)
		bl_solved_free(s);
	else
		*out = s;
	return err->status;
}

enum bl_status bl_solve_unit(struct bl_solved **out, struct bl_engine *e, const struct bl_solve_request *rq, struct bl_err *err)
{
	struct bl_solve_job *k = NULL;

	if (bl_solve_begin(&k, e, rq, err))
		return err->status;
	if (bl_solve_ready(k, err)) {
		bl_solve_drop(k);
		return err->status;
	}
	return bl_solve_run(out, k, NULL, err);
}

/* ---- what it takes ---- */

void bl_solve_need(const struct bl_unit *u, const struct bl_scheme *s, bool rounds, bool crosses, uint64_t *waiting, uint64_t *working)
{
	const uint64_t n = (uint64_t)u->rows, k = (uint64_t)u->cols, spr = (uint64_t)bl_scheme_scales_per_row(s, u->cols), nk = n * k, h = 4 * k * k;
	uint64_t raw = 0, refit = 0;

	for (int m = 0; m < u->n_members; m++)
		raw += u->members[m].weight ? (uint64_t)(u->members[m].rows * u->cols) * size_of(u->members[m].weight) : 0;
	*waiting = raw + 4 * nk + h;
	/* weights, codes, scales; beside them either a copy in R's order, its codes and a block of products, or a product of the size of the weights; with refits
	 * differences, their gradient, and the normal equations */
	refit = 4 * nk + 4 * nk + 8 * nk + (256u << 20);
	*working = 4 * nk + 2 * nk + 9 * n * spr + h + h + 4 * nk + nk + (rounds ? refit : 512 * n) + (16u << 20);
	if (crosses) /* differences in R's order, what is rounded, a target */
		*working += h + 4 * nk + 4 * nk;
	if (*working < *waiting + 4 * nk)
		*working = *waiting + 4 * nk;
}

/* ---- names that the host knows ---- */

bool bl_method_sparsity(const struct bl_registry *r, const char *method, const char *params, struct bl_sparsity *out)
{
	const struct bl_method *m = bl_registry_method(r, method);
	struct bl_err ignored = BL_ERR_INIT;
	struct bl_sparsity s = { 0 };
	double *v = NULL;

	if (!m || !bl_method_whole(r, m) || bl_params_parse(&v, m->params, m->n_params, params, m->name, &ignored))
		return false;
	for (int i = 0; i < m->n_params; i++) {
		const char *choice = m->params[i].choices;

		if (!strcmp(m->params[i].name, "sparsity") && m->params[i].type == BL_PARAM_REAL)
			s.ratio = v[i];
		if (strcmp(m->params[i].name, "mask_structure") || m->params[i].type != BL_PARAM_CHOICE || !choice)
			continue;
		for (int skip = (int)v[i]; choice && skip > 0; skip--)
			choice = strchr(choice, '|') ? strchr(choice, '|') + 1 : NULL;
		if (choice && sscanf(choice, "%d:%d", &s.n, &s.m) == 2 && s.m > 0)
			s.ratio = (double)s.n / s.m;
	}
	bl_free(v);
	if (!(s.ratio > 0))
		return false;
	*out = s;
	return true;
}

struct bl_solve_inputs bl_solve_inputs_of(const struct bl_registry *r, const char *method, const char *params)
{
	const struct bl_method *m = bl_registry_method(r, method);
	struct bl_solve_inputs in = { .quantized = false };
	struct bl_err ignored = BL_ERR_INIT;
	double *v = NULL;

	if (!m || !bl_method_whole(r, m) || bl_params_parse(&v, m->params, m->n_params, params, m->name, &ignored))
		return in;
	for (int i = 0; i < m->n_params; i++) {
		if (!strcmp(m->params[i].name, "inputs") && m->params[i].type == BL_PARAM_CHOICE && m->params[i].choices && !strcmp(m->params[i].choices, "base|quantized"))
			in.quantized = v[i] == 1;
		if (!strcmp(m->params[i].name, "token_weight") && m->params[i].type == BL_PARAM_CHOICE && m->params[i].choices && !strcmp(m->params[i].choices, "same|rms"))
			in.by_rms = v[i] == 1;
		if (!strcmp(m->params[i].name, "qep_alpha") && m->params[i].type == BL_PARAM_REAL)
			in.correct = v[i];
	}
	bl_free(v);
	in.cross = bl_method_crosses(r, m);
	in.quantized |= in.cross;
	if (!in.quantized || in.cross)
		in.correct = 0;
	return in;
}
