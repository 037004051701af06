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
#include "core/export/nonfinite.h"
#include "core/export/verify_private.h"
#include "core/scheme/pack.h"

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

struct rowbuf { float *w, *q, e4m3[256]; int8_t *codes; uint32_t *words; int64_t cols; struct rowbuf *next, *link; };

static void rowbuf_empty(struct rowbuf *b)
{
	bl_free(b->w);
	bl_free(b->q);
	bl_free(b->codes);
	bl_free(b->words);
	b->w = b->q = NULL;
	b->codes = NULL;
	b->words = NULL;
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
	for (int i = 0; i < 256; i++)
		b->e4m3[i] = bl_e4m3_f32((uint8_t)i);
	if (bl_try_alloc(&b->w, (size_t)cols + LANES, sizeof *b->w, "a row", err) || bl_try_alloc(&b->q, (size_t)cols + LANES, sizeof *b->q, "a row", err) ||
	    bl_try_alloc(&b->codes, (size_t)cols + 64, 1, "a row", err) || bl_try_alloc(&b->words, (size_t)cols + 8, 4, "a row", err))
		return NULL;
	b->cols = cols;
	return b;
}

/* Stored codes of a row as numbers on the grid. */
static void row_codes(const struct bl_stored *s, struct rowbuf *b, int64_t row)
{
	int64_t k = s->member->cols;
	const uint8_t *data = s->codes->data;

	if (s->scheme.number == BL_NUM_FLOAT) {
		for (int64_t i = 0; i < k; i++)
			b->q[i] = b->e4m3[data[row * k + i]];
		memcpy(b->codes, data + row * k, (size_t)k);
		return;
	}
	if (s->codes->dtype == BL_I8) {
		memcpy(b->codes, data + row * k, (size_t)k);
	} else {
		int64_t words = s->codes->shape[1];
		memcpy(b->words, data + 4 * row * words, (size_t)(4 * words));
		bl_unpack_row(b->codes, b->words, k, s->scheme.bits);
	}
	for (int64_t i = 0; i < k; i++)
		b->q[i] = (float)b->codes[i];
}

static int zero_of(const struct bl_stored *s, int64_t row, int64_t g)
{
	int64_t groups = s->zero->shape[1], bit = row * s->scheme.bits, word = bit / 32;
	uint32_t w[2] = {0, 0};

	memcpy(&w[0], (const uint8_t *)s->zero->data + 4 * (word * groups + g), 4);
	if (word + 1 < s->zero->shape[0])
		memcpy(&w[1], (const uint8_t *)s->zero->data + 4 * ((word + 1) * groups + g), 4);
	uint64_t both = (uint64_t)w[1] << 32 | w[0];
	return (int)(both >> bit % 32 & ((1u << s->scheme.bits) - 1)) - (1 << (s->scheme.bits - 1));
}

struct sums { double w2, e2, max_abs, max_step; };

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

static enum bl_status rows_piece(struct run *r, const struct piece *p, struct bl_err *err)
{
	struct bl_stored *s = &r->v->stored[p->index];
	const struct bl_tensor *base = s->base ? s->base->weight : NULL;
	int64_t k = s->member->cols, spr = s->scheme.group ? k / s->scheme.group : 1, per = k / spr;
	int low = 255, high = -256;
	double bound = s->scheme.number == BL_NUM_INT ? r->v->rq->max_step : 0;
	struct sums sum = {0};
	struct rowbuf *b = rowbuf_borrow(r, k, err);

	if (!b)
		return err->status;
	for (int64_t row = (int64_t)p->from; row < (int64_t)(p->from + p->n); row++) {
		row_codes(s, b, row);
		for (int64_t i = 0; i < k; i++) {
			low = b->codes[i] < low ? b->codes[i] : low;
			high = b->codes[i] > high ? b->codes[i] : high;
			if (s->scheme.number == BL_NUM_FLOAT && ((uint8_t)b->codes[i] & 0x7f) == 0x7f)
				finding_once(r, s, s->codes->name, "NaN code at [%lld,%lld]", (long long)row, (long long)i);
		}
		if (base) {
			get_row(b->w, base->data, base->dtype, row * k, k);
			for (int64_t i = 0; i < k; i++)
				b->w[i] = isfinite(b->w[i]) ? b->w[i] : 0; /* stored as zero, or the export would have been refused */
		}
		for (int64_t g = 0; g < spr; g++) {
			float scale = get_float(s->scale->data, s->scale->dtype, s->scheme.strategy == BL_STRATEGY_TENSOR ? 0 : row * spr + g);
			if (!isfinite(scale) || scale == 0)
				finding_once(r, s, s->scale->name, isfinite(scale) ? "zero scale at [%lld,%lld]" : "scale that is not finite at [%lld,%lld]", (long long)row,
					     (long long)g);
			else if (base)
				compare(b->w + g * per, b->q + g * per, per, scale, s->zero ? (float)zero_of(s, row, g) : 0, &sum);
			if (bound > 0 && sum.max_step > bound && fabsf(scale) >= TINY_SCALE)
				finding_once(r, s, s->codes->name, "a code in row %lld, group %lld is too far from its weight for rounding to nearest", (long long)row,
					     (long long)g);
		}
	}
	pthread_mutex_lock(&r->lock);
	b->next = r->idle;
	r->idle = b;
	s->w2 += sum.w2;
	s->e2 += sum.e2;
	s->max_abs = fmax(s->max_abs, sum.max_abs);
	s->max_step = fmax(s->max_step, sum.max_step);
	s->code_min = low < s->code_min ? low : s->code_min;
	s->code_max = high > s->code_max ? high : s->code_max;
	r->compared_elems += base ? p->n * (uint64_t)k : 0;
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
	if (differs)
		bl_finding_add(v->r, v->rq->strict, t->name, "differs from the base's although it is not quantized");
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
		if (v->stored[k].ct && !strncmp(t->name, v->stored[k].member->name, len) && t->name[len] == '.')
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
			if (s->ct && !s->bad)
				bl_finding_add(out, false, s->member->name, "its values (%.40s) are not decoded here: completeness was checked, numbers were not", s->ct->format);
			continue;
		}
		if (s->code_min == s->code_max)
			bl_finding_add(out, true, s->codes->name, "all codes are equal (%d)", s->code_min);
		if (!s->base || !s->base->weight)
			continue;
		out->proved_tensors++;
		w2 += s->w2;
		e2 += s->e2;
		out->max_abs_error = fmax(out->max_abs_error, s->max_abs);
		out->max_step_error = fmax(out->max_step_error, s->max_step);
		if (s->e2 > s->w2)
			bl_finding_add(out, true, s->member->name, "its weights have nothing to do with the base's: |W-W^|/|W| = %.2f", sqrt(s->e2 / (s->w2 > 0 ? s->w2 : 1)));
		else if (s->scheme.bits >= 4 && s->e2 > 0.25 * s->w2)
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
		if (v->model)
			sum_up(&r);
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
