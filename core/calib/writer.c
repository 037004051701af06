/* SPDX-License-Identifier: Apache-2.0
 * Write-behind. Pieces queue up in order; threads zero what does not count, sum, pwrite, and give the chunk back. Who writes a file's last piece seals its
 * head and renames it. Nothing waits for the disk here: a killed process does not lose what the kernel has, and sums tell the rest. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/turn.h"
#include "core/calib/private.h"

struct piece {
	struct calib_out *out;
	int section;
	int64_t first, rows;
	uint8_t *data;             /* written to: the part of a Hessian that does not count */
	const void *borrowed;      /* or this, only read */
	struct calib_chunk *chunk; /* NULL: borrowed */
	struct piece *next;
};

struct calib_out {
	struct calib_writer *w;
	struct calib_head head;
	struct bl_replace file;
	struct bl_sum *sums[CALIB_SECTIONS]; /* of pieces */
	int64_t left;                        /* pieces; under the writer's lock */
	bool after, failed, finishing;
	struct calib_out *next;              /* unfinished ones in the order they were opened */
};

struct calib_writer {
	char *folder;
	pthread_mutex_t lock;
	pthread_cond_t work, change; /* a piece came or it is over; a chunk came back, a piece was written or writing failed */
	struct piece *head, **tail;
	struct calib_chunk *free_chunks;
	struct calib_out *outs, **outs_tail;
	bool closing;
	int busy, n_threads, hidden;
	struct bl_err err;
	pthread_t *threads;
};

static void clear_upper(uint8_t *data, const struct calib_section *s, int64_t first, int64_t rows)
{
	for (int64_t i = 0; i < rows; i++) {
		int64_t from = (first + i + 1) * 4, to = calib_hessian_row(first + i, s->row_bytes);

		memset(data + i * s->row_bytes + from, 0, (size_t)(to - from));
	}
}

static enum bl_status write_piece(const struct piece *p, struct bl_err *err)
{
	struct calib_out *o = p->out;
	const struct calib_section *s = &o->head.section[p->section];
	const uint8_t *data = p->chunk ? p->data : p->borrowed;
	uint64_t base = s->offset + (uint64_t)(p->first * s->row_bytes);

	if (s->kind == CALIB_HESSIAN)
		clear_upper(p->data, s, p->first, p->rows);
	o->sums[p->section][p->first / calib_piece_rows(s)] = calib_piece_sum(s, data, p->first, p->rows);
	for (struct calib_run r = { 0 }; calib_next_run(s, p->first, p->rows, &r);)
		if (bl_pwrite_all(o->file.fd, data + r.at, (size_t)r.bytes, base + (uint64_t)r.at, o->file.path, err))
			return err->status;
	return BL_OK;
}

static void out_free(struct calib_out *o)
{
	bl_replace_rollback(&o->file);
	for (int i = 0; i < CALIB_SECTIONS; i++)
		bl_free(o->sums[i]);
	bl_free(o);
}

static enum bl_status out_finish(struct calib_out *o, struct bl_err *err)
{
	for (uint32_t i = 0; i < o->head.n_sections; i++) {
		struct calib_section *s = &o->head.section[i];

		s->sum = (struct bl_sum){ 0, 0 };
		for (int64_t k = 0; k < calib_pieces(s); k++)
			s->sum = bl_sum_add(s->sum, &o->sums[i][k], sizeof(struct bl_sum));
	}
	calib_head_seal(&o->head);
	if (bl_pwrite_all(o->file.fd, &o->head, sizeof o->head, 0, o->file.path, err))
		return err->status;
	if (ftruncate(o->file.fd, (off_t)o->head.bytes))
		return bl_fail_sys(err, BL_IO, "%s: cannot be written", o->file.path);
	return bl_replace_rename(&o->file, err);
}

static void unlink_out(struct calib_writer *w, struct calib_out *o)
{
	struct calib_out **at = &w->outs;

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	if (!o->next)
		w->outs_tail = at;
}

/* A newer set of hidden states stands: the older one is of no use. */
static void drop_older_hidden(struct calib_writer *w, int index)
{
	char name[32], *path;

	if (w->hidden >= 0 && w->hidden != index) {
		calib_file_name(name, CALIB_HIDDEN, w->hidden);
		path = bl_path_join(w->folder, name);
		unlink(path);
		bl_free(path);
	}
	w->hidden = index;
}

/* With the lock held, let go for the finishing: files that have everything, and whose turn it is. */
static void finish_ready(struct calib_writer *w)
{
	struct calib_out *o = w->outs;

	while (o) {
		struct bl_err err = BL_ERR_INIT;

		if (o->left || o->finishing || (o->after && w->outs != o && !o->failed)) {
			o = o->next;
			continue;
		}
		o->finishing = true;
		pthread_mutex_unlock(&w->lock);
		if (!o->failed)
			out_finish(o, &err);
		pthread_mutex_lock(&w->lock);
		if (err.status && !w->err.status)
			w->err = err;
		if (!err.status && !o->failed && o->head.kind == CALIB_HIDDEN)
			drop_older_hidden(w, (int)o->head.index);
		unlink_out(w, o);
		out_free(o);
		o = w->outs;
	}
}

static void *writer_main(void *arg)
{
	struct calib_writer *w = arg;
	struct piece *p;

	bl_thread_computes();
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct bl_err err = BL_ERR_INIT;

		while (!w->head && !w->closing)
			pthread_cond_wait(&w->work, &w->lock);
		if (!w->head)
			break;
		p = w->head;
		w->head = p->next;
		if (!w->head)
			w->tail = &w->head;
		w->busy++;
		if (w->err.status) /* what is behind an error is dropped */
			err = w->err;
		pthread_mutex_unlock(&w->lock);
		if (!err.status)
			write_piece(p, &err);
		pthread_mutex_lock(&w->lock);
		if (p->chunk) {
			p->chunk->next = w->free_chunks;
			w->free_chunks = p->chunk;
			pthread_cond_broadcast(&w->change);
		}
		if (err.status && !w->err.status)
			w->err = err;
		p->out->failed |= err.status != BL_OK;
		if (!--p->out->left)
			finish_ready(w);
		w->busy--;
		pthread_cond_broadcast(&w->change);
		bl_free(p);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

struct calib_writer *calib_writer_new(const char *folder, int threads, struct calib_chunk *chunks, int n_chunks, int hidden)
{
	struct calib_writer *w = bl_xalloc(1, sizeof *w);

	w->folder = bl_xstrdup(folder);
	w->hidden = hidden;
	w->tail = &w->head;
	w->outs_tail = &w->outs;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->change, NULL);
	for (int i = 0; i < n_chunks; i++) {
		chunks[i].next = w->free_chunks;
		w->free_chunks = &chunks[i];
	}
	w->threads = bl_xalloc((size_t)threads, sizeof *w->threads);
	for (; w->n_threads < threads; w->n_threads++)
		if (pthread_create(&w->threads[w->n_threads], NULL, writer_main, w))
			break;
	if (!w->n_threads)
		bl_fail(&w->err, BL_NO_MEMORY, "no thread could be started");
	return w;
}

void calib_writer_free(struct calib_writer *w, bool abandon)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	if (abandon && !w->err.status)
		bl_fail(&w->err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
	w->closing = true;
	pthread_cond_broadcast(&w->work);
	pthread_cond_broadcast(&w->change);
	pthread_mutex_unlock(&w->lock);
	for (int i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	for (struct piece *p = w->head, *next; p; p = next) { /* only when there were no threads */
		next = p->next;
		bl_free(p);
	}
	for (struct calib_out *o = w->outs, *next; o; o = next) {
		next = o->next;
		out_free(o);
	}
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->change);
	pthread_mutex_destroy(&w->lock);
	bl_free(w->threads);
	bl_free(w->folder);
	bl_free(w);
}

enum bl_status calib_out_open(struct calib_out **out, struct calib_writer *w, const struct calib_head *h, bool after, struct bl_err *err)
{
	struct calib_out *o = bl_xalloc(1, sizeof *o);
	char name[32], *path;

	o->w = w;
	o->head = *h;
	o->after = after;
	calib_file_name(name, h->kind, (int)h->index);
	path = bl_path_join(w->folder, name);
	if (bl_replace_begin(&o->file, path, 0644, err)) {
		bl_free(path);
		bl_free(o);
		return err->status;
	}
	bl_free(path);
	for (uint32_t i = 0; i < h->n_sections; i++) {
		int64_t n = calib_pieces(&h->section[i]);

		o->sums[i] = bl_xalloc((size_t)n, sizeof(struct bl_sum));
		o->left += n;
	}
	pthread_mutex_lock(&w->lock);
	*w->outs_tail = o;
	w->outs_tail = &o->next;
	pthread_mutex_unlock(&w->lock);
	*out = o;
	return BL_OK;
}

static void push(const struct piece *piece)
{
	struct calib_writer *w = piece->out->w;
	struct piece *p = bl_xalloc(1, sizeof *p);

	*p = *piece;
	pthread_mutex_lock(&w->lock);
	*w->tail = p;
	w->tail = &p->next;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

void calib_out_piece(struct calib_out *o, int section, int64_t first, int64_t rows, struct calib_chunk *c)
{
	struct piece p = { .out = o, .section = section, .first = first, .rows = rows, .data = c->data, .chunk = c };

	push(&p);
}

void calib_out_borrowed(struct calib_out *o, int section, int64_t first, int64_t rows, const void *data)
{
	struct piece p = { .out = o, .section = section, .first = first, .rows = rows, .borrowed = data };

	push(&p);
}

struct calib_chunk *calib_chunk_take(struct calib_writer *w, bool wait)
{
	struct calib_chunk *c;

	pthread_mutex_lock(&w->lock);
	while (wait && !w->free_chunks && !w->err.status)
		pthread_cond_wait(&w->change, &w->lock);
	c = w->free_chunks;
	if (c)
		w->free_chunks = c->next;
	pthread_mutex_unlock(&w->lock);
	return c;
}

void calib_chunk_give(struct calib_writer *w, struct calib_chunk *c)
{
	pthread_mutex_lock(&w->lock);
	c->next = w->free_chunks;
	w->free_chunks = c;
	pthread_mutex_unlock(&w->lock);
}

enum bl_status calib_writer_status(struct calib_writer *w, struct bl_err *err)
{
	pthread_mutex_lock(&w->lock);
	if (w->err.status && !err->status)
		*err = w->err;
	pthread_mutex_unlock(&w->lock);
	return err->status;
}

enum bl_status calib_writer_drain(struct calib_writer *w, struct bl_err *err)
{
	pthread_mutex_lock(&w->lock);
	while ((w->head || w->busy) && w->n_threads)
		pthread_cond_wait(&w->change, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return calib_writer_status(w, err);
}
