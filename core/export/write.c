/* SPDX-License-Identifier: Apache-2.0
 * Writing a layout. The work is cut into pieces of about a quarter of a million weights (or 4 MiB to copy), in the order of the source, so that
 * reading is sequential; each worker borrows one set of buffers. CRCs are made piece by piece and combined in file order at the end. */
#include "core/export/write.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/model/nonfinite.h"

#define PIECE_ELEMS (256 * 1024)
#define COPY_BYTES (4u << 20)
#define EARLY_BYTES (128u << 10) /* smaller pieces are left to the last fsync */

struct piece { int64_t index; bool module; int64_t from, n; }; /* module: rows of it; else bytes of tensor `index` */
struct crc_piece { int file; uint64_t at, n; uint32_t crc; };

/* next: among the idle ones; link: among all, so that those are freed whose piece was left by a jump (a source that was cut short) */
struct buffers {
	struct bl_rows_buf rows;
	struct coded { int8_t *codes, *zeros; float *scales; int32_t *order; size_t cap_codes, cap_scales, cap_cols; } coded; /* of a linear that is converted */
	uint8_t *packed; size_t cap;
	struct buffers *next, *link;
};

struct writer {
	const struct bl_layout *l;
	struct bl_sink *sinks;
	const struct bl_export_request *rq;
	struct piece *pieces; size_t n_pieces, cap_pieces;
	pthread_mutex_t lock;
	struct buffers *idle, *all;
	struct crc_piece *crcs; size_t n_crcs, cap_crcs;
};

/* ---- buffers and CRC bookkeeping ---- */

static struct buffers *borrow(struct writer *w)
{
	pthread_mutex_lock(&w->lock);
	struct buffers *b = w->idle;
	if (b) {
		w->idle = b->next;
	} else {
		b = bl_xalloc(1, sizeof *b);
		b->link = w->all;
		w->all = b;
	}
	pthread_mutex_unlock(&w->lock);
	return b;
}

static void give_back(struct writer *w, struct buffers *b)
{
	pthread_mutex_lock(&w->lock);
	b->next = w->idle;
	w->idle = b;
	pthread_mutex_unlock(&w->lock);
}

static enum bl_status put(struct writer *w, int file, uint64_t at, const void *data, uint64_t n, struct bl_err *err)
{
	struct bl_sink *s = &w->sinks[file];

	if (bl_pwrite_all(s->fd, data, n, s->base + at, s->path, err))
		return err->status;
	if (n >= EARLY_BYTES) { /* start its way to the disk now, so that the fsync at the end finds little to do; only a hint */
		int held = errno;
		(void)sync_file_range(s->fd, (off_t)(s->base + at), (off_t)n, SYNC_FILE_RANGE_WRITE);
		errno = held;
	}
	if (s->want_crc && n) {
		uint32_t crc = bl_crc32(0, data, n);
		pthread_mutex_lock(&w->lock);
		bl_xgrow(&w->crcs, &w->cap_crcs, w->n_crcs + 1);
		w->crcs[w->n_crcs++] = (struct crc_piece){file, at, n, crc};
		pthread_mutex_unlock(&w->lock);
	}
	if (w->rq->progress)
		atomic_fetch_add(&w->rq->progress->done_bytes, n);
	return BL_OK;
}

static int by_place(const void *a, const void *b)
{
	const struct crc_piece *x = a, *y = b;

	if (x->file != y->file)
		return x->file - y->file;
	return x->at < y->at ? -1 : x->at > y->at;
}

static void combine(struct writer *w)
{
	if (w->n_crcs)
		qsort(w->crcs, w->n_crcs, sizeof *w->crcs, by_place);
	for (size_t i = 0; i < w->n_crcs; i++) {
		uint32_t *crc = &w->sinks[w->crcs[i].file].crc;
		*crc = bl_crc32_combine(*crc, w->crcs[i].crc, w->crcs[i].n);
	}
}

/* ---- pieces ---- */

static enum bl_status copy_piece(struct writer *w, const struct piece *p, struct bl_err *err)
{
	const struct bl_out_tensor *o = &w->l->tensors[p->index];
	int64_t size = bl_dtype_bytes(o->t.dtype), bad = -1;
	const uint8_t *data = (const uint8_t *)o->copy->data + p->from;

	if (!bl_plan_zero_nonfinite(w->rq->plan))
		bad = bl_first_nonfinite(data, o->t.dtype, p->n / size);
	if (bad >= 0)
		return bl_refuse_nonfinite(o->copy, p->from / size + bad, err);
	if (put(w, o->file, o->t.offset + (uint64_t)p->from, data, (uint64_t)p->n, err) && err->sys == EFAULT) {
		struct bl_err why = BL_ERR_INIT; /* the kernel met the end of a source that was cut short: say that, not "bad address" */
		if (bl_map_unchanged(&w->rq->model->files[o->copy->file].st.map, &why))
			*err = why;
	}
	return err->status;
}

static enum bl_status need(struct buffers *b, size_t bytes, struct bl_err *err)
{
	if (bytes <= b->cap)
		return BL_OK;
	bl_free(b->packed);
	b->packed = NULL;
	b->cap = 0;
	if (bl_try_alloc(&b->packed, bytes, 1, "the buffer of packed rows", err))
		return err->status;
	b->cap = bytes;
	return BL_OK;
}

static void coded_free(struct coded *c)
{
	bl_free(c->codes);
	bl_free(c->zeros);
	bl_free(c->scales);
	bl_free(c->order);
	*c = (struct coded){0};
}

/* Rows of a linear as the source stores them. */
static enum bl_status read_coded(struct bl_x_rows *rows, const struct bl_linear *l, struct coded *c, struct bl_err *err)
{
	const size_t cols = (size_t)l->member->cols, n = (size_t)rows->n * cols, ns = (size_t)(rows->n * bl_scheme_scales_per_row(&l->scheme, l->member->cols));
	const struct bl_tensor *order = bl_linear_order(l);

	if (n > c->cap_codes || ns > c->cap_scales || cols > c->cap_cols) {
		coded_free(c);
		if (bl_try_alloc(&c->codes, n, 1, "codes", err) || bl_try_alloc(&c->zeros, ns, 1, "zero points", err) ||
		    bl_try_alloc(&c->scales, ns, sizeof *c->scales, "scales", err) || bl_try_alloc(&c->order, cols, sizeof *c->order, "groups of columns", err))
			return err->status;
		c->cap_codes = n;
		c->cap_scales = ns;
		c->cap_cols = cols;
	}
	bl_linear_rows(l, rows->row0, rows->n, c->codes, c->scales, c->zeros);
	if (order)
		memcpy(c->order, order->data, 4 * cols);
	rows->codes = c->codes;
	rows->scales = c->scales;
	rows->zeros = l->scheme.symmetric ? NULL : c->zeros;
	rows->group_of = order ? c->order : NULL;
	rows->global = bl_linear_global(l);
	return BL_OK;
}

static enum bl_status pack_piece(struct writer *w, const struct piece *p, struct buffers *b, struct bl_err *err)
{
	const struct bl_out_module *m = &w->l->modules[p->index];
	const struct bl_exporter *x = bl_registry_exporter(w->rq->registry, w->rq->format ? w->rq->format : bl_plan_format(w->rq->plan));

	struct bl_x_rows rows = {.row0 = p->from, .n = p->n, .input_scale = m->input_scale, .host = &w->rq->registry->host};
	if (m->coded) {
		if (read_coded(&rows, m->coded, &b->coded, err))
			return err->status;
	} else if (m->solved) {
		const int64_t at = m->row0 + p->from;
		rows.codes = m->solved->codes + at * m->solved->cols;
		rows.scales = m->solved->scales + at * m->solved->spr;
		rows.zeros = m->solved->zeros ? m->solved->zeros + at * m->solved->spr : NULL;
		rows.group_of = m->solved->group_of;
		rows.global = m->solved->global;
	} else {
		if (bl_solve_rows(&w->l->solvers[m->solver], m->member, p->from, p->n, &b->rows, err))
			return err->status;
		rows.codes = b->rows.codes;
		rows.scales = w->l->solvers[m->solver].scheme.nested ? b->rows.raw : b->rows.scales;
		rows.zeros = m->x.grid.symmetric ? NULL : b->rows.zeros;
		rows.global = b->rows.global;
	}
	for (int k = 0; k < m->n_tensors; k++) {
		const struct bl_x_tensor *t = &m->tensors[k];
		const struct bl_out_tensor *o = &w->l->tensors[m->tensor_at[k]];
		uint64_t at = 0, bytes = o->t.bytes, room = bytes;

		if (t->rows_per_step <= 0 && p->from)
			continue; /* independent of rows: once */
		if (t->rows_per_step > 0) {
			at = (uint64_t)(p->from / t->rows_per_step * t->bytes_per_step);
			room = bytes = (uint64_t)((p->n + t->rows_per_step - 1) / t->rows_per_step * t->bytes_per_step);
			if (at + bytes > o->t.bytes)
				bytes = o->t.bytes - at; /* a last step that is not full */
		}
		if (need(b, room, err))
			return err->status;
		const char *why = x->pack(&m->x, k, &rows, b->packed);
		if (why)
			return bl_fail(err, BL_FAILED, "%s: exporter %s: %s", o->t.name, x->name, why);
		if (put(w, o->file, o->t.offset + at, b->packed, bytes, err))
			return err->status;
	}
	return BL_OK;
}

static enum bl_status run_piece(void *ctx, size_t item, struct bl_err *err)
{
	struct writer *w = ctx;
	const struct piece *p = &w->pieces[item];

	if (!p->module)
		return copy_piece(w, p, err);
	struct buffers *b = borrow(w);
	enum bl_status s = pack_piece(w, p, b, err);
	give_back(w, b);
	return s;
}

static void add_piece(struct writer *w, int64_t index, bool module, int64_t from, int64_t n)
{
	bl_xgrow(&w->pieces, &w->cap_pieces, w->n_pieces + 1);
	w->pieces[w->n_pieces++] = (struct piece){index, module, from, n};
}

/* What the source bytes of a piece are: to read it from front to back. */
static const uint8_t *source_of(const struct writer *w, const struct piece *p)
{
	if (!p->module)
		return (const uint8_t *)w->l->tensors[p->index].copy->data + p->from;
	const struct bl_tensor *t = w->l->modules[p->index].member->weight;
	if (!t) /* converted: in the order of its first tensor */
		return (const uint8_t *)w->l->modules[p->index].coded->part[0]->data + p->from;
	return (const uint8_t *)t->data + p->from * w->l->modules[p->index].x.cols * bl_dtype_bytes(t->dtype);
}

static int by_source(const void *a, const void *b, void *ctx)
{
	const uint8_t *x = source_of(ctx, a), *y = source_of(ctx, b);

	return x < y ? -1 : x > y;
}

static void cut(struct writer *w)
{
	for (int64_t i = 0; i < w->l->n_tensors; i++) {
		const struct bl_out_tensor *o = &w->l->tensors[i];
		for (uint64_t at = 0; o->copy && at < o->t.bytes; at += COPY_BYTES)
			add_piece(w, i, false, (int64_t)at, (int64_t)(o->t.bytes - at < COPY_BYTES ? o->t.bytes - at : COPY_BYTES));
	}
	for (int64_t i = 0; i < w->l->n_modules; i++) {
		const struct bl_out_module *m = &w->l->modules[i];
		int64_t rows = m->whole ? m->x.rows : PIECE_ELEMS / (m->x.cols > 0 ? m->x.cols : 1) / 64 * 64;
		for (int64_t r = 0; m->x.quantized && r < m->x.rows; r += rows > 0 ? rows : 64) {
			int64_t n = rows > 0 ? rows : 64;
			add_piece(w, i, true, r, m->x.rows - r < n ? m->x.rows - r : n);
		}
	}
	if (w->n_pieces)
		qsort_r(w->pieces, w->n_pieces, sizeof *w->pieces, by_source, w);
}

enum bl_status bl_layout_write(const struct bl_layout *l, struct bl_sink *sinks, const struct bl_export_request *rq, struct bl_err *err)
{
	struct writer w = {.l = l, .sinks = sinks, .rq = rq};

	pthread_mutex_init(&w.lock, NULL);
	for (int f = 0; f < l->n_files && !err->status; f++)
		put(&w, f, 0, l->files[f].head.s, l->files[f].head.len, err);
	cut(&w);
	if (!err->status)
		bl_pool_run(rq->pool, w.n_pieces, run_piece, &w, bl_progress_cancel(rq->progress), err);
	if (!err->status)
		combine(&w);
	while (w.all) {
		struct buffers *b = w.all;
		w.all = b->link;
		bl_rows_buf_free(&b->rows);
		coded_free(&b->coded);
		bl_free(b->packed);
		bl_free(b);
	}
	bl_free(w.pieces);
	bl_free(w.crcs);
	pthread_mutex_destroy(&w.lock);
	return err->status;
}
