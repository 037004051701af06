/* SPDX-License-Identifier: Apache-2.0
 * The bytes: digests and checksums of the files, scales that are finite and not zero, codes that vary, decoded weights against the base. One run of the
 * pool; the digest of the largest file comes first because it is the longest single piece. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/export/export.h"
#include "core/export/verify_private.h"
#include "core/model/nonfinite.h"
#include "core/scheme/codec.h"

#define PIECE_ELEMS (512 * 1024)
#define CHUNK_BYTES (8u << 20)
#define LANES 16
#define TINY_SCALE 1e-30f /* below, bfloat16 has too few bits left for steps to mean anything */

enum kind { PIECE_SHA, PIECE_CRC, PIECE_ROWS, PIECE_SAME, PIECE_RAW };
struct piece { enum kind kind; int64_t index; uint64_t from, n; uint32_t crc; struct bl_sha256 sha; };

struct run {
	struct bl_verifier *v;
	struct piece *pieces; size_t n, cap;
	pthread_mutex_t lock;
	uint64_t compared_elems;
	struct rowbuf *idle, *all; /* all: those of pieces that were left by a jump are freed, too */
};

static void add(struct run *r, enum kind kind, int64_t index, uint64_t from, uint64_t n)
{
	bl_xgrow(&r->pieces, &r->cap, r->n + 1);
	r->pieces[r->n++] = (struct piece){kind, index, from, n, 0, {NULL}};
}

/* ---- numbers of any plain float type ---- */

static float get_float(const void *data, enum bl_dtype d, int64_t i)
{
	uint16_t h;
	float f;

	if (d == BL_F32) {
		memcpy(&f, (const uint8_t *)data + 4 * i, 4);
		return f;
	}
	memcpy(&h, (const uint8_t *)data + 2 * i, 2);
	return d == BL_BF16 ? bl_bf16_f32(h) : bl_f16_f32(h);
}

static bool plain_float(const struct bl_tensor *t)
{
	return t->dtype == BL_BF16 || t->dtype == BL_F16 || t->dtype == BL_F32;
}

static void get_row(float *dst, const void *data, enum bl_dtype d, int64_t from, int64_t n)
{
	if (d == BL_BF16) {
		const uint8_t *p = (const uint8_t *)data + 2 * from;
		for (int64_t i = 0; i < n; i++) {
			uint16_t h;
			memcpy(&h, p + 2 * i, 2);
			dst[i] = bl_bf16_f32(h);
		}
		return;
	}
	for (int64_t i = 0; i < n; i++)
		dst[i] = get_float(data, d, from + i);
}

/* ---- one row of a quantized linear ---- */

#define BATCH 32 /* rows at once: formats that store the matrix transposed have many rows in one line of cache */

struct rowbuf {
	float *w, *q, *scales, table[256];
	int8_t *codes, *zeros;      /* [BATCH] rows */
	bool *zero;                 /* which of a row are 0, in the order of columns */
	int32_t *group;             /* of the columns of a base that is quantized */
	int32_t *column, *start;    /* with an index of groups: columns group by group, and where each begins; else as they are */
	int64_t cols;
	struct rowbuf *next, *link;
};

static void rowbuf_empty(struct rowbuf *b)
{
	bl_free(b->w);
	bl_free(b->q);
	bl_free(b->scales);
	bl_free(b->codes);
	bl_free(b->zeros);
	bl_free(b->column);
	bl_free(b->group);
	bl_free(b->start);
	bl_free(b->zero);
	b->zero = NULL;
	b->w = b->q = b->scales = NULL;
	b->codes = b->zeros = NULL;
	b->column = b->start = b->group = NULL;
	b->cols = 0;
}

/* Buffers for rows of `cols`; NULL with the error recorded. */
static struct rowbuf *rowbuf_borrow(struct run *r, int64_t cols, struct bl_err *err)
{
	pthread_mutex_lock(&r->lock);
	struct rowbuf *b = r->idle;
	if (b) {
		r->idle = b->next;
	} else {
		b = bl_xalloc(1, sizeof *b);
		b->link = r->all;
		r->all = b;
	}
	pthread_mutex_unlock(&r->lock);
	if (b->cols >= cols && cols)
		return b;
	rowbuf_empty(b);
	const size_t n = (size_t)cols; /* at most as many groups as columns */
	if (bl_try_alloc(&b->w, n + LANES, sizeof *b->w, "a row", err) || bl_try_alloc(&b->q, n + LANES, sizeof *b->q, "a row", err) ||
	    bl_try_alloc(&b->scales, BATCH * n, sizeof *b->scales, "rows", err) || bl_try_alloc(&b->codes, BATCH * n + 64, 1, "rows", err) ||
	    bl_try_alloc(&b->zeros, BATCH * n, 1, "rows", err) || bl_try_alloc(&b->column, n, sizeof *b->column, "a row", err) ||
	    bl_try_alloc(&b->group, n, sizeof *b->group, "a row", err) || bl_try_alloc(&b->start, n + 1, sizeof *b->start, "a row", err) ||
	    bl_try_alloc(&b->zero, n, sizeof *b->zero, "a row", err))
		return NULL;
	b->cols = cols;
	return b;
}

/* Columns of each group; the index was looked at before: every value is a group. */
static void sort_columns(const struct bl_stored *s, struct rowbuf *b, int64_t spr)
{
	const struct bl_tensor *order = bl_linear_order(&s->l);
	const int64_t k = s->member->cols;
	int32_t at = 0;

	for (int64_t g = 0; g < spr; g++) {
		b->start[g] = at;
		if (!order)
			at += (int32_t)(k / spr);
		for (int64_t i = 0; order && i < k; i++) {
			int32_t of;
			memcpy(&of, (const uint8_t *)order->data + 4 * i, 4);
			if (of == g)
				b->column[at++] = (int32_t)i;
		}
	}
	b->start[spr] = at;
	for (int64_t i = 0; !order && i < k; i++)
		b->column[i] = (int32_t)i;
}

struct sums { double w2, e2, max_abs, max_step; int64_t zeros, astray; };

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
static void compare(const float *w, const float *q, int64_t n, float scale, float zero, struct sums *out)
{
	float w2[LANES] = {0}, e2[LANES] = {0}, top[LANES] = {0};
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int l = 0; l < LANES; l++) {
			float x = w[i + l], d = fabsf(x - (q[i + l] - zero) * scale);
			w2[l] += x * x;
			e2[l] += d * d;
			top[l] = d > top[l] ? d : top[l];
		}
	for (int l = 0; i < n; i++, l++) {
		float x = w[i], d = fabsf(x - (q[i] - zero) * scale);
		w2[l] += x * x;
		e2[l] += d * d;
		top[l] = d > top[l] ? d : top[l];
	}
	for (int l = 0; l < LANES; l++) {
		out->w2 += (double)w2[l];
		out->e2 += (double)e2[l];
		out->max_abs = fmax(out->max_abs, (double)top[l]);
		if (scale != 0)
			out->max_step = fmax(out->max_step, (double)(top[l] / fabsf(scale)));
	}
}

static void finding_once(struct run *r, struct bl_stored *s, const char *where, const char *fmt, long long a, long long b)
{
	pthread_mutex_lock(&r->lock);
	if (!s->bad) {
		char text[200];
		s->bad = true;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof text, fmt, a, b);
#pragma GCC diagnostic pop
		bl_finding_add(r->v->r, true, where, "%s", text);
	}
	pthread_mutex_unlock(&r->lock);
}

struct row {
	struct run *r;
	const struct piece *p;
	struct bl_stored *s;
	struct rowbuf *b, *other;        /* other: of a base that is quantized */
	const struct bl_tensor *base;    /* its plain weights, or NULL */
	bool compares, ordered;
	int64_t spr;
	int low, high;
	struct sums sum;
};

/* A row of the base into b->w. */
static void base_row(struct row *c, int64_t row)
{
	const struct bl_linear *l = c->s->base_coded;
	struct rowbuf *b = c->b, *o = c->other;
	const int64_t k = c->s->member->cols;
	float *to = c->base || !c->ordered ? b->w : o->w;

	if (c->base && c->ordered) {
		for (int64_t j = 0; j < k; j++)
			b->w[j] = get_float(c->base->data, c->base->dtype, row * k + b->column[j]);
	} else if (c->base) {
		get_row(b->w, c->base->data, c->base->dtype, row * k, k);
	} else {
		bl_linear_rows(l, row, 1, o->codes, o->scales, o->zeros);
		const struct bl_coded coded = {o->codes, o->scales, l->scheme.symmetric ? NULL : o->zeros, l->scheme.order ? o->group : NULL};
		bl_scheme_decode(to, &l->scheme, &coded, 1, k);
		for (int64_t j = 0; c->ordered && j < k; j++)
			b->w[j] = to[b->column[j]];
	}
	for (int64_t j = 0; j < k; j++)
		b->w[j] = isfinite(b->w[j]) ? b->w[j] : 0; /* stored as zero, or the export would have been refused */
}


/* Row `row` of the linear, the i-th of the batch. */
static void one_row(struct row *c, int64_t row, int64_t i)
{
	struct bl_stored *s = c->s;
	struct rowbuf *b = c->b;
	const int64_t k = s->member->cols;
	const int8_t *codes = b->codes + i * k;
	const double bound = s->l.scheme.number == BL_NUM_INT ? c->r->v->rq->max_step : 0;
	const bool may_be_zero = bl_scheme_is_bnb4(&s->l.scheme); /* a block of zeros has no range */

	for (int64_t j = 0; j < k; j++) {
		c->low = codes[j] < c->low ? codes[j] : c->low;
		c->high = codes[j] > c->high ? codes[j] : c->high;
		if (s->l.scheme.number == BL_NUM_FLOAT && ((uint8_t)codes[j] & 0x7f) == 0x7f)
			finding_once(c->r, s, s->codes->name, "NaN code at [%lld,%lld]", (long long)row, (long long)j);
	}
	for (int64_t j = 0; j < k; j++)
		b->q[j] = b->table[(uint8_t)codes[c->ordered ? b->column[j] : j]];
	if (c->compares)
		base_row(c, row);
	for (int64_t g = 0; g < c->spr; g++) {
		const float scale = bl_scheme_step(&s->l.scheme, b->scales[i * c->spr + g]), zero = s->l.scheme.symmetric ? 0 : (float)b->zeros[i * c->spr + g];
		const int64_t from = b->start[g], n = b->start[g + 1] - from;
		if (!isfinite(scale) || (scale == 0 && !may_be_zero))
			finding_once(c->r, s, s->scale->name, isfinite(scale) ? "zero scale at [%lld,%lld]" : "scale that is not finite at [%lld,%lld]", (long long)row, (long long)g);
		else if (scale < 0 && s->l.scheme.number == BL_NUM_E2M1)
			finding_once(c->r, s, s->scale->name, "negative scale at [%lld,%lld]: servers' kernels for 4-bit floats take it for a positive one", (long long)row, (long long)g);
		else if (c->compares)
			compare(b->w + from, b->q + from, n, scale, zero, &c->sum);
		for (int64_t j = from; s->claim > 0 && j < from + n; j++)
			b->zero[b->column[j]] = b->q[j] - zero == 0;
		if (bound > 0 && c->sum.max_step > bound && fabsf(scale) >= TINY_SCALE)
			finding_once(c->r, s, s->codes->name, "a code in row %lld, group %lld is too far from its weight for rounding to nearest", (long long)row, (long long)g);
	}
	if (s->claim > 0)
		bl_claims_count(s, b->zero, k, &c->sum.zeros, &c->sum.astray);
}

static enum bl_status rows_piece(struct run *r, const struct piece *p, struct bl_err *err)
{
	struct bl_stored *s = &r->v->stored[p->index];
	const int64_t k = s->member->cols;
	struct row c = {.r = r, .p = p, .s = s, .base = s->base ? s->base->weight : NULL, .compares = s->base && (s->base->weight || s->base_coded),
			.spr = bl_scheme_scales_per_row(&s->l.scheme, k), .ordered = s->l.scheme.order, .low = 255, .high = -256};
	struct rowbuf *b = c.b = rowbuf_borrow(r, k, err);

	if (!b)
		return err->status;
	for (int i = 0; i < 256; i++)
		b->table[i] = bl_scheme_value(&s->l.scheme, (int8_t)(uint8_t)i);
	if (c.compares && !c.base) {
		if (!(c.other = rowbuf_borrow(r, k, err)))
			return err->status;
		if (bl_linear_order(s->base_coded))
			memcpy(c.other->group, bl_linear_order(s->base_coded)->data, (size_t)(4 * k));
	}
	sort_columns(s, b, c.spr);
	for (int64_t at = 0; at < (int64_t)p->n; at += BATCH) {
		const int64_t n = (int64_t)p->n - at < BATCH ? (int64_t)p->n - at : BATCH;
		bl_linear_rows(&s->l, (int64_t)p->from + at, n, b->codes, b->scales, b->zeros);
		for (int64_t i = 0; i < n; i++)
			one_row(&c, (int64_t)p->from + at + i, i);
	}
	if (c.other && r->v->rq->strict && c.sum.max_abs > 0)
		finding_once(r, s, s->codes->name, "rows %lld to %lld differ from the source's: the conversion is not lossless", (long long)p->from, (long long)(p->from + p->n - 1));
	pthread_mutex_lock(&r->lock);
	b->next = r->idle;
	r->idle = b;
	if (c.other) {
		c.other->next = r->idle;
		r->idle = c.other;
	}
	s->zeros += c.sum.zeros;
	s->astray += c.sum.astray;
	s->w2 += c.sum.w2;
	s->e2 += c.sum.e2;
	s->max_abs = fmax(s->max_abs, c.sum.max_abs);
	s->max_step = fmax(s->max_step, c.sum.max_step);
	s->code_min = c.low < s->code_min ? c.low : s->code_min;
	s->code_max = c.high > s->code_max ? c.high : s->code_max;
	r->compared_elems += c.compares ? p->n * (uint64_t)k : 0;
	pthread_mutex_unlock(&r->lock);
	return BL_OK;
}

/* ---- tensors that are stored for a scheme that is not decoded here ---- */

static void raw_piece(struct run *r, const struct piece *p)
{
	const struct bl_tensor *t = r->v->model->tensors[p->index];
	const uint8_t *data = t->data;
	const char *why = NULL;
	char place[48];
	int64_t at = bl_first_nonfinite(data, t->dtype, t->n_elems);
	bool scale = bl_ends_with(t->name, "scale"), codes = bl_ends_with(t->name, ".weight") || bl_ends_with(t->name, ".weight_packed");

	if (at >= 0)
		why = bl_nonfinite_name(data, t->dtype, at);
	if (t->dtype == BL_F8_E4M3)
		for (int64_t i = 0; i < t->n_elems && !why; i++)
			if ((data[i] & 0x7f) == 0x7f)
				why = "NaN", at = i;
	if (scale && plain_float(t))
		for (int64_t i = 0; i < t->n_elems && !why; i++)
			if (get_float(data, t->dtype, i) == 0)
				why = "zero scale", at = i;
	pthread_mutex_lock(&r->lock);
	if (why)
		bl_finding_add(r->v->r, true, t->name, "%s at %s", why, bl_place(place, t, at));
	if (codes && t->bytes > 1 && !memcmp(data, data + 1, t->bytes - 1))
		bl_finding_add(r->v->r, true, t->name, "all codes are equal (%d)", data[0]);
	pthread_mutex_unlock(&r->lock);
}

/* ---- tensors in full precision ---- */

/* False where nothing is promised. Chunks are whole groups of neighbours. */
static bool count_zeros(struct run *r, const struct bl_tensor *t, int64_t first, int64_t n)
{
	struct bl_verifier *v = r->v;
	int64_t zeros = 0, astray = 0;
	bool zero[4096];

	for (int k = 0; k < v->n_stored; k++) {
		struct bl_stored *s = &v->stored[k];

		if (!(s->claim > 0) || s->member->weight != t || !plain_float(t))
			continue;
		for (int64_t at = 0; at < n; at += (int64_t)sizeof zero) {
			const int64_t m = n - at < (int64_t)sizeof zero ? n - at : (int64_t)sizeof zero;

			for (int64_t i = 0; i < m; i++)
				zero[i] = get_float(t->data, t->dtype, first + at + i) == 0;
			bl_claims_count(s, zero, m, &zeros, &astray);
		}
		pthread_mutex_lock(&r->lock);
		s->zeros += zeros;
		s->astray += astray;
		pthread_mutex_unlock(&r->lock);
		return true;
	}
	return false;
}

static void same_piece(struct run *r, const struct piece *p)
{
	struct bl_verifier *v = r->v;
	const struct bl_tensor *t = v->model->tensors[p->index], *b = v->rq->base ? bl_model_tensor(v->rq->base, t->name) : NULL;
	int64_t size = bl_dtype_bytes(t->dtype), n = (int64_t)p->n / size, first = (int64_t)p->from / size;
	bool differs = false;

	int64_t bad = bl_first_nonfinite((const uint8_t *)t->data + p->from, t->dtype, n);
	if (bad >= 0) {
		char place[48];
		pthread_mutex_lock(&r->lock);
		bl_finding_add(v->r, !v->rq->allow_nonfinite, t->name, "%s at %s", bl_nonfinite_name((const uint8_t *)t->data + p->from, t->dtype, bad),
			       bl_place(place, t, first + bad));
		pthread_mutex_unlock(&r->lock);
	}
	const bool pruned = count_zeros(r, t, first, n);
	if (b && v->rq->instead)
		b = v->rq->instead(v->rq->instead_ctx, b);
	if (!b || b->n_elems != t->n_elems)
		return;
	if (b->dtype == t->dtype)
		differs = memcmp((const uint8_t *)t->data + p->from, (const uint8_t *)b->data + p->from, p->n) != 0;
	else
		for (int64_t i = 0; i < n && !differs && plain_float(t) && plain_float(b); i++) {
			float x = get_float(t->data, t->dtype, first + i), y = get_float(b->data, b->dtype, first + i);
			differs = x != y && !(isnan(x) && isnan(y));
		}
	pthread_mutex_lock(&r->lock);
	r->compared_elems += (uint64_t)n;
	if (differs && (!pruned || v->rq->strict))
		bl_finding_add(v->r, v->rq->strict, t->name, pruned ? "differs from what was to be written" : "differs from the base's although it is not quantized");
	pthread_mutex_unlock(&r->lock);
}

/* ---- all pieces ---- */

static enum bl_status run_piece(void *ctx, size_t item, struct bl_err *err)
{
	struct run *r = ctx;
	struct piece *p = &r->pieces[item];
	const atomic_int *cancel = bl_progress_cancel(r->v->rq->progress);
	const struct bl_package_entry *e = p->kind <= PIECE_CRC ? &r->v->package.entries[p->index] : NULL;

	switch (p->kind) {
	case PIECE_SHA: {
		bl_sha256_init(&p->sha);
		for (uint64_t at = 0; at < e->bytes; at += CHUNK_BYTES) {
			if (cancel && atomic_load(cancel))
				break;
			bl_sha256_add(&p->sha, e->data + at, e->bytes - at < CHUNK_BYTES ? e->bytes - at : CHUNK_BYTES);
		}
		bl_sha256_hex(&p->sha, r->v->r->files[p->index].sha256);
		return BL_OK;
	}
	case PIECE_CRC: p->crc = bl_crc32(0, e->data + p->from, p->n); return BL_OK;
	case PIECE_ROWS: rows_piece(r, p, err); break;
	case PIECE_SAME: same_piece(r, p); break;
	case PIECE_RAW: raw_piece(r, p); return BL_OK;
	}
	if (r->v->rq->progress)
		atomic_fetch_add(&r->v->rq->progress->done_bytes,
				 p->kind == PIECE_SAME ? p->n : p->n * (r->v->stored[p->index].codes->bytes / (uint64_t)r->v->stored[p->index].member->rows));
	return err->status;
}

static int larger_first(const void *a, const void *b, void *ctx)
{
	const struct bl_package *p = ctx;
	uint64_t x = p->entries[((const struct piece *)a)->index].bytes, y = p->entries[((const struct piece *)b)->index].bytes;

	return x > y ? -1 : x < y;
}

/* The quantized linear whose codes, scales … a tensor holds; NULL: full precision. */
static const struct bl_stored *quantized_owner(const struct bl_verifier *v, const struct bl_tensor *t)
{
	if (bl_ends_with(t->name, ".bias"))
		return NULL;
	for (int k = 0; k < v->n_stored; k++) {
		size_t len = strlen(v->stored[k].member->name);
		if (v->stored[k].l.format && !strncmp(t->name, v->stored[k].member->name, len) && t->name[len] == '.')
			return &v->stored[k];
	}
	return NULL;
}

static void cut(struct run *r)
{
	struct bl_verifier *v = r->v;

	for (int i = 0; i < v->package.n; i++)
		if (v->rq->want_sha256)
			add(r, PIECE_SHA, i, 0, v->package.entries[i].bytes);
	if (r->n)
		qsort_r(r->pieces, r->n, sizeof *r->pieces, larger_first, &v->package);
	for (int i = 0; i < v->package.n; i++)
		for (uint64_t at = 0; v->package.entries[i].has_crc && at < v->package.entries[i].bytes; at += CHUNK_BYTES) {
			uint64_t left = v->package.entries[i].bytes - at;
			add(r, PIECE_CRC, i, at, left < CHUNK_BYTES ? left : CHUNK_BYTES);
		}
	for (int i = 0; v->model && i < v->n_stored; i++) {
		const struct bl_stored *s = &v->stored[i];
		int64_t rows = PIECE_ELEMS / (s->member->cols > 0 ? s->member->cols : 1);
		for (int64_t at = 0; s->understood && at < s->member->rows; at += rows > 0 ? rows : 1)
			add(r, PIECE_ROWS, i, (uint64_t)at, (uint64_t)(s->member->rows - at < (rows > 0 ? rows : 1) ? s->member->rows - at : (rows > 0 ? rows : 1)));
	}
	for (int64_t i = 0; v->model && i < v->model->n_tensors; i++) {
		const struct bl_tensor *t = v->model->tensors[i];
		const struct bl_stored *s = quantized_owner(v, t);
		if (s && !s->understood)
			add(r, PIECE_RAW, i, 0, t->bytes);
		for (uint64_t at = 0; !s && at < t->bytes; at += CHUNK_BYTES)
			add(r, PIECE_SAME, i, at, t->bytes - at < CHUNK_BYTES ? t->bytes - at : CHUNK_BYTES);
	}
}

/* ---- what the sums say ---- */

static void check_crcs(struct run *r)
{
	struct bl_package *p = &r->v->package;

	for (int i = 0; i < p->n; i++) {
		uint32_t crc = 0;
		if (!p->entries[i].has_crc)
			continue;
		for (size_t k = 0; k < r->n; k++)
			if (r->pieces[k].kind == PIECE_CRC && r->pieces[k].index == i)
				crc = bl_crc32_combine(crc, r->pieces[k].crc, r->pieces[k].n);
		if (crc != p->entries[i].crc)
			bl_finding_add(r->v->r, true, p->entries[i].name, "its data does not match the zip's checksum");
	}
}

static void sum_up(struct run *r)
{
	struct bl_verifier *v = r->v;
	struct bl_verify_result *out = v->r;
	double w2 = 0, e2 = 0;

	for (int i = 0; i < v->n_stored; i++) {
		const struct bl_stored *s = &v->stored[i];
		if (!s->understood) {
			if (s->l.format && !s->bad && ++out->undecoded)
				bl_finding_add(out, false, s->member->name, "its values (%.40s) are not decoded here: completeness was checked, numbers were not", s->l.name);
			continue;
		}
		if (s->code_min == s->code_max)
			bl_finding_add(out, true, s->codes->name, "all codes are equal (%d)", s->code_min);
		if (!s->base || (!s->base->weight && !s->base_coded))
			continue;
		out->proved_tensors++;
		w2 += s->w2;
		e2 += s->e2;
		out->max_abs_error = fmax(out->max_abs_error, s->max_abs);
		out->max_step_error = fmax(out->max_step_error, s->max_step);
		/* of other weights of the same size: 2; two and three bits that make up for each other's errors come above 1 */
		if (s->e2 > (s->l.scheme.bits >= 4 ? 1 : 1.6) * s->w2)
			bl_finding_add(out, true, s->member->name, "its weights have nothing to do with the base's: |W-W^|/|W| = %.2f", sqrt(s->e2 / (s->w2 > 0 ? s->w2 : 1)));
		else if (s->l.scheme.bits >= 4 && s->e2 > 0.25 * s->w2)
			bl_finding_add(out, false, s->member->name, "large error: |W-W^|/|W| = %.2f", sqrt(s->e2 / s->w2));
	}
	out->relative_error = w2 > 0 ? sqrt(e2 / w2) : 0;
	if (v->comparable) {
		uint64_t all = v->rq->base->parameters - (v->rq->base->head_stored_and_tied ? (uint64_t)v->rq->base->head->n_elems : 0);
		out->compared = true;
		out->coverage = all ? fmin(1, (double)r->compared_elems / (double)all) : 0;
	}
}

enum bl_status bl_values_run(struct bl_verifier *v, struct bl_err *err)
{
	struct run r = {.v = v};

	pthread_mutex_init(&r.lock, NULL);
	cut(&r);
	if (bl_pool_run(v->rq->pool, r.n, run_piece, &r, bl_progress_cancel(v->rq->progress), err) == BL_OK) {
		check_crcs(&r);
		if (v->model) {
			sum_up(&r);
			bl_claims_check(v);
		}
		for (size_t i = 0; i < r.n && v->rq->base; i++)
			if (r.pieces[i].kind == PIECE_SAME && !r.pieces[i].from && bl_model_tensor(v->rq->base, v->model->tensors[r.pieces[i].index]->name))
				v->r->proved_tensors++;
	}
	for (size_t i = 0; i < r.n; i++)
		bl_sha256_drop(&r.pieces[i].sha);
	while (r.all) {
		struct rowbuf *b = r.all;
		r.all = b->link;
		rowbuf_empty(b);
		bl_free(b);
	}
	bl_free(r.pieces);
	pthread_mutex_destroy(&r.lock);
	return err->status;
}
