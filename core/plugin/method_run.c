/* SPDX-License-Identifier: Apache-2.0
 * Runs a method over rows of a linear. A call is cut into slices of a few rows whose float32 copy stays in the second-level cache; methods
 * promise that this does not change a byte. */
#include "core/plugin/method_run.h"

#include <math.h>
#include <string.h>

#include "core/backend/backend.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/model/nonfinite.h"
#include "core/scheme/codec.h"

#define SLICE_ELEMS 32768

static enum bl_status no_such_method(const struct bl_registry *r, const char *method, struct bl_err *err)
{
	struct bl_str known = { 0 };
	const struct bl_method *m;

	for (int i = 0; (m = bl_registry_method_at(r, i)) != NULL; i++)
		bl_str_addf(&known, "%s%s", i ? ", " : "", m->name);
	bl_fail(err, BL_NOT_FOUND, "method \"%s\" is not among the loaded plugins (%s)", method,
		known.len ? bl_str_c(&known) : "there are none: is the folder \"plugins\" beside the program?");
	bl_str_free(&known);
	return BL_NOT_FOUND;
}

enum bl_status bl_solver_init(struct bl_solver *s, const struct bl_registry *r, const struct bl_scheme *scheme, const char *method,
			      const char *params, bool zero_nonfinite, struct bl_err *err)
{
	struct bl_solver n = { .registry = r, .scheme = *scheme, .zero_nonfinite = zero_nonfinite };
	char name[BL_SCHEME_NAME_MAX];
	enum bl_status st;

	if (scheme->number == BL_NUM_FULL)
		return bl_fail(err, BL_INVALID, "%s is kept as it is: there is nothing to solve", bl_scheme_name(name, scheme));
	if (scheme->strategy == BL_STRATEGY_TENSOR && scheme->number != BL_NUM_FLOAT)
		return bl_fail(err, BL_UNSUPPORTED, "%s: one scale for a whole linear goes with 8-bit floats alone", bl_scheme_name(name, scheme));
	n.method = bl_registry_method(r, method);
	if (!n.method)
		return no_such_method(r, method, err);
	if (bl_scheme_is_shared(scheme) && (bl_method_trains(r, n.method) || (!bl_method_whole(r, n.method) && (strcmp(method, "rtn") || (params && *params)))))
		return bl_fail(err, BL_UNSUPPORTED, "%s: its scales are found over more than a row, which goes with plain rtn and with methods that see whole units",
			       bl_scheme_name(name, scheme));
	if (scheme->order && !bl_method_whole(r, n.method))
		return bl_fail(err, BL_UNSUPPORTED, "%s: groups by an index come from methods that see what flows into a unit (gptq), not from %s", bl_scheme_name(name, scheme),
			       method);
	n.grid = bl_grid_of(scheme);
	st = bl_params_parse(&n.params, n.method->params, n.method->n_params, params, n.method->name, err);
	if (st != BL_OK)
		return st;
	*s = n;
	return BL_OK;
}

void bl_solver_fini(struct bl_solver *s)
{
	bl_free(s->params);
	*s = (struct bl_solver){ 0 };
}

void bl_rows_buf_free(struct bl_rows_buf *b)
{
	bl_free(b->scales);
	bl_free(b->codes);
	bl_free(b->zeros_store);
	bl_free(b->w);
	bl_free(b->w_hat);
	bl_free(b->scratch);
	bl_free(b->shared);
	bl_free(b->raw);
	*b = (struct bl_rows_buf){ 0 };
}

/* p: the address of a pointer. Content is not kept. */
static enum bl_status grow(void *p, size_t *cap, size_t n, size_t size, const char *what, struct bl_err *err)
{
	void *fresh, *old;
	enum bl_status st;

	if (n <= *cap)
		return BL_OK;
	memcpy(&old, p, sizeof(old));
	bl_free(old);
	fresh = NULL;
	memcpy(p, &fresh, sizeof(fresh));
	*cap = 0;
	st = bl_try_alloc(&fresh, n, size, what, err);
	if (st != BL_OK)
		return st;
	memcpy(p, &fresh, sizeof(fresh));
	*cap = n;
	return BL_OK;
}

static enum bk_dtype dtype_of(const struct bl_tensor *t) { return t->dtype == BL_BF16 ? BK_BF16 : t->dtype == BL_F16 ? BK_F16 : BK_F32; }

struct work { /* a call after its checks */
	const struct bl_solver *s;
	const struct bl_member *m;
	struct bl_rows_buf *b;
	enum bk_dtype dtype;
	size_t elem_bytes;
	int64_t row0, n, slice, spr;
};

static enum bl_status check(struct work *k, bool decoded, struct bl_err *err)
{
	const struct bl_tensor *t = k->m->weight;
	const struct bl_grid *g = &k->s->grid;
	int64_t cols = k->m->cols;
	struct bl_rows_buf *b = k->b;
	const char *why;
	enum bl_status st;

	if (!k->s->method->solve_rows)
		return bl_fail(err, BL_UNSUPPORTED, "%s needs what flows into the unit: calibrate first (c, or `bitlathe calibrate`)", k->s->method->name);
	if (!t)
		return bl_fail(err, BL_INVALID, "%s: there is no full-precision weight to quantize", k->m->name);
	if (t->dtype != BL_BF16 && t->dtype != BL_F16 && t->dtype != BL_F32)
		return bl_fail(err, BL_UNSUPPORTED, "%s: weights of this type cannot be quantized", t->name);
	if (k->row0 < 0 || k->n < 0 || k->row0 > k->m->rows - k->n || cols < 1)
		return bl_fail(err, BL_INVALID, "%s: rows %lld .. %lld are not inside %lld", k->m->name, (long long)k->row0,
			       (long long)(k->row0 + k->n), (long long)k->m->rows);
	if (g->group > 0 && cols % g->group)
		return bl_fail(err, BL_INVALID, "%s: %lld columns cannot be divided into groups of %lld", k->m->name, (long long)cols,
			       (long long)g->group);
	why = bl_scheme_is_shared(&k->s->scheme) ? NULL : k->s->method->refuses(g, k->m->rows, cols);
	if (why)
		return bl_fail(err, BL_UNSUPPORTED, "%s: %s cannot do this: %s", k->m->name, k->s->method->name, why);
	k->dtype = dtype_of(t);
	k->elem_bytes = t->dtype == BL_F32 ? 4 : 2;
	k->spr = g->group > 0 ? cols / g->group : 1;
	k->slice = cols >= SLICE_ELEMS ? 1 : SLICE_ELEMS / cols;
	if (k->slice > k->n)
		k->slice = k->n;
	/* n * cols elements lie in a file, so the products fit */
	st = grow(&b->codes, &b->cap_codes, (size_t)(k->n * cols), 1, "codes", err);
	if (st == BL_OK)
		st = grow(&b->scales, &b->cap_scales, (size_t)(k->n * k->spr), sizeof(float), "scales", err);
	if (st == BL_OK && !g->symmetric)
		st = grow(&b->zeros_store, &b->cap_zeros, (size_t)(k->n * k->spr), 1, "zero points", err);
	if (st == BL_OK)
		st = grow(&b->w, &b->cap_w, (size_t)(k->slice * cols), sizeof(float), "weight rows", err);
	if (st == BL_OK && decoded)
		st = grow(&b->w_hat, &b->cap_w_hat, (size_t)(k->slice * cols), sizeof(float), "decoded rows", err);
	if (st == BL_OK && k->s->scheme.nested)
		st = grow(&b->raw, &b->cap_raw, (size_t)(k->n * k->spr), sizeof(float), "scales", err);
	if (st == BL_OK && !bl_scheme_is_shared(&k->s->scheme))
		st = grow(&b->scratch, &b->cap_scratch, k->s->method->scratch_bytes(g, k->slice, cols), 1, "the method's scratch", err);
	b->zeros = g->symmetric ? NULL : b->zeros_store;
	return st;
}

static enum bl_status nonfinite(struct work *k, int64_t row, int64_t n, struct bl_err *err)
{
	float *w = k->b->w;

	for (int64_t i = 0; i < n * k->m->cols; i++) {
		if (isfinite(w[i]))
			continue;
		if (!k->s->zero_nonfinite)
			return bl_refuse_nonfinite(k->m->weight, row * k->m->cols + i, err);
		w[i] = 0;
	}
	return BL_OK;
}

/* One row as float32. Elements that are not finite are told of when their rows are solved; here they count as 0. */
static void load_row(float *w, const struct bl_member *m, int64_t row)
{
	const struct bl_tensor *t = m->weight;
	const size_t bytes = t->dtype == BL_F32 ? 4 : 2;

	if (bl_cpu_ops()->load_rows(w, (const char *)t->data + (size_t)(row * m->cols) * bytes, dtype_of(t), m->cols))
		for (int64_t i = 0; i < m->cols; i++)
			w[i] = isfinite(w[i]) ? w[i] : 0;
}

static float absmax_of(const float *w, int64_t n)
{
	float top = 0;

	for (int64_t i = 0; i < n; i++)
		top = fabsf(w[i]) > top ? fabsf(w[i]) : top;
	return top;
}

static float absmax_of_linear(float *row_buffer, const struct bl_member *m)
{
	float top = 0;

	for (int64_t row = 0; row < m->rows; row++) {
		load_row(row_buffer, m, row);
		top = fmaxf(top, absmax_of(row_buffer, m->cols));
	}
	return top;
}

/* [rows / group, cols / group] largest |w| of squares; the last row of squares may be cut off. */
static void absmax_of_blocks(float *out, float *row_buffer, const struct bl_member *m, int64_t group)
{
	const int64_t n = m->cols / group;

	for (int64_t row = 0; row < m->rows; row++) {
		load_row(row_buffer, m, row);
		for (int64_t i = 0; i < n; i++) {
			float *to = &out[row / group * n + i];

			*to = fmaxf(row % group ? *to : 0, absmax_of(row_buffer + i * group, group));
		}
	}
}

/* Scales of NF4 as a client has them after they were quantized again. q and the blocks' numbers lie behind the scales. */
static void nested_scales(float *out, float *row_buffer, const struct bl_member *m, int64_t spr)
{
	const int64_t n = m->rows * spr, width = m->cols / spr;
	float *block_max = out + n, offset;
	uint8_t *q = (uint8_t *)(block_max + (n + BL_NEST_BLOCK - 1) / BL_NEST_BLOCK);

	for (int64_t row = 0; row < m->rows; row++) {
		load_row(row_buffer, m, row);
		for (int64_t i = 0; i < spr; i++)
			out[row * spr + i] = absmax_of(row_buffer + i * width, width);
	}
	bl_nest(q, block_max, &offset, out, n);
	bl_unnest(out, q, block_max, bl_nest_map(), offset, 0, n);
}

/* What rows have in common, kept while the same linear is worked on. */
static enum bl_status find_shared(struct work *k, struct bl_err *err)
{
	struct bl_rows_buf *b = k->b;
	const struct bl_scheme *s = &k->s->scheme;
	const struct bl_member *m = k->m;
	const struct bl_unit *u = m->unit;
	const int64_t n = m->rows * k->spr;
	size_t need = 1;
	float top = 0;

	if (b->shared_of == m && bl_scheme_equal(&b->shared_scheme, s))
		return BL_OK;
	if (s->strategy == BL_STRATEGY_BLOCK)
		need = (size_t)((m->rows + s->group - 1) / s->group * k->spr);
	else if (s->nested)
		need = (size_t)(n + (n + BL_NEST_BLOCK - 1) / BL_NEST_BLOCK + n / 4 + 1);
	b->shared_of = NULL;
	if (grow(&b->shared, &b->cap_shared, need, sizeof(float), "scales of a whole linear", err))
		return err->status;
	b->global = 0;
	if (s->strategy == BL_STRATEGY_BLOCK) {
		absmax_of_blocks(b->shared, b->w, m, s->group);
	} else if (s->nested) {
		nested_scales(b->shared, b->w, m, k->spr);
	} else if (s->strategy == BL_STRATEGY_TENSOR) {
		b->shared[0] = absmax_of_linear(b->w, m);
	} else { /* one number for all parts that the server fuses */
		for (int i = 0; u && i < u->n_members; i++)
			top = fmaxf(top, u->members[i].weight && u->members[i].cols == m->cols ? absmax_of_linear(b->w, &u->members[i]) : 0);
		b->global = bl_nvfp4_global(u ? top : absmax_of_linear(b->w, m));
	}
	b->shared_of = m;
	b->shared_scheme = *s;
	return BL_OK;
}

/* Plain rounding with scales over more than a row; row: the call's first one. */
static void solve_shared(struct work *k, const struct bl_method_rows *call, int64_t row)
{
	const struct bl_host *h = call->host;
	const struct bl_scheme *s = &k->s->scheme;
	const struct bl_rows_buf *b = k->b;
	struct bl_grid g = call->grid;
	const int64_t width = call->cols / k->spr;

	if (s->strategy == BL_STRATEGY_TENSOR)
		g.group = 0;
	for (int64_t i = 0; i < call->n_rows * k->spr; i++) {
		const int64_t r = row + i / k->spr, c = i % k->spr;
		const float top = s->strategy == BL_STRATEGY_BLOCK    ? b->shared[r / s->group * k->spr + c] :
				  s->strategy == BL_STRATEGY_TENSOR ? b->shared[0] :
								      absmax_of(call->w + i * width, width);
		const float lo = -top;

		if (s->strategy == BL_STRATEGY_TENSOR_GROUP)
			call->scales[i] = bl_nvfp4_scale(top, b->global);
		else if (s->nested)
			call->scales[i] = top;
		else
			h->scales(&call->scales[i], NULL, &lo, &top, 1, 1, &g);
	}
	h->encode(call->codes, call->w, call->scales, NULL, call->n_rows, call->cols, &g, BL_QUOTIENT_BF16);
	if (!s->nested)
		return;
	float *raw = b->raw + (call->scales - b->scales);
	memcpy(raw, call->scales, (size_t)(call->n_rows * k->spr) * sizeof *raw);
	memcpy(call->scales, b->shared + row * k->spr, (size_t)(call->n_rows * k->spr) * sizeof *raw);
}

/* Rows at .. at+n of the call. */
static enum bl_status slice(struct work *k, int64_t at, int64_t n, struct bl_err *err)
{
	struct bl_rows_buf *b = k->b;
	int64_t cols = k->m->cols, row = k->row0 + at;
	const char *src = (const char *)k->m->weight->data + (size_t)(row * cols) * k->elem_bytes, *why;
	struct bl_method_rows call = {
		.host = &k->s->registry->host,
		.module = k->m->name,
		.grid = k->s->grid,
		.params = k->s->params,
		.n_rows = n,
		.cols = cols,
		.w = b->w,
		.scratch = b->scratch,
		.codes = b->codes + at * cols,
		.scales = b->scales + at * k->spr,
		.zeros = b->zeros ? b->zeros + at * k->spr : NULL,
	};

	if (bl_cpu_ops()->load_rows(b->w, src, k->dtype, n * cols) && nonfinite(k, row, n, err) != BL_OK)
		return err->status;
	if (bl_scheme_is_shared(&k->s->scheme)) {
		solve_shared(k, &call, row);
		return BL_OK;
	}
	why = k->s->method->solve_rows(&call);
	if (why)
		return bl_fail(err, BL_FAILED, "%s: %s: %s", k->m->name, k->s->method->name, why);
	return BL_OK;
}

static enum bl_status run(const struct bl_solver *s, const struct bl_member *m, int64_t row0, int64_t n, struct bl_rows_buf *b,
			  double *w2, double *e2, struct bl_err *err)
{
	struct work k = { .s = s, .m = m, .b = b, .row0 = row0, .n = n };
	double sum_w = 0, sum_e = 0;
	enum bl_status st = check(&k, w2 != NULL, err);

	if (st == BL_OK && bl_scheme_is_shared(&s->scheme) && n)
		st = find_shared(&k, err);
	for (int64_t at = 0; at < n && st == BL_OK; at += k.slice) {
		int64_t rows = n - at < k.slice ? n - at : k.slice;

		st = slice(&k, at, rows, err);
		if (st != BL_OK || !w2)
			continue;
		s->registry->host.decode(b->w_hat, b->codes + at * m->cols, b->scales + at * k.spr,
					 b->zeros ? b->zeros + at * k.spr : NULL, rows, m->cols, &s->grid);
		bl_cpu_ops()->sum_squares(&sum_w, &sum_e, b->w, b->w_hat, rows * m->cols);
	}
	if (st == BL_OK && w2) {
		*w2 = sum_w;
		*e2 = sum_e;
	}
	return st;
}

enum bl_status bl_solve_rows(const struct bl_solver *s, const struct bl_member *m, int64_t row0, int64_t n, struct bl_rows_buf *b,
			     struct bl_err *err)
{
	return run(s, m, row0, n, b, NULL, NULL, err);
}

enum bl_status bl_solve_rows_error(const struct bl_solver *s, const struct bl_member *m, int64_t row0, int64_t n,
				   struct bl_rows_buf *b, double *w2, double *e2, struct bl_err *err)
{
	return run(s, m, row0, n, b, w2, e2, err);
}
