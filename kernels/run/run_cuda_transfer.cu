/* SPDX-License-Identifier: Apache-2.0
 * Copies beside the operations. Uploads come from pageable memory, mapped files above all: a few threads copy pieces into pinned buffers, two each, and
 * queue them on the upload stream, so that page faults, host copies and the bus overlap. A source that is pinned already is queued whole.
 * Order: an upload waits (on the device) for what was issued before it; join makes later work wait for the copies. Pieces are independent. */
#include <stdlib.h>
#include <string.h>

#include "kernels/run/run_cuda.cuh"

#define THREADS_MAX 4
#define PIECE       ((size_t)4 << 20)

struct job { char *dst; const char *src; size_t bytes, at; };
struct span { const char *p; size_t bytes; };
struct spans { struct span *all; size_t n, cap; bool lost; }; /* of the device; lost: some are not listed */

struct worker {
	struct bk_transfer *t;
	pthread_t thread;
	bool started;
	char *buffer[2];
	cudaEvent_t ready[2]; /* the copy out of a buffer is done */
	int next;
};

struct bk_transfer {
	int device, n_workers, error; /* error: the first one, told by a join */
	cudaStream_t up, down;
	cudaEvent_t mark;             /* records and waits are in one thread: one event serves all */
	int (*read)(void *dst, const void *src, size_t bytes);
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct job *jobs;             /* [n_jobs], those from `first` on have pieces left */
	size_t n_jobs, cap_jobs, first;
	size_t in_hand;               /* pieces being copied */
	bool stop, uploads, pinned, downloads; /* since the last join */
	struct spans up_to, down_from;         /* of those */
	struct worker workers[THREADS_MAX];
};

static int plain_read(void *dst, const void *src, size_t bytes)
{
	memcpy(dst, src, bytes);
	return 0;
}

static int piece(struct worker *w, char *dst, const char *src, size_t bytes)
{
	struct bk_transfer *t = w->t;
	const int i = w->next;
	cudaError_t e = cudaEventSynchronize(w->ready[i]);

	w->next = !i;
	if (e == cudaSuccess && t->read(w->buffer[i], src, bytes))
		return BK_RUN_UNREADABLE;
	if (e == cudaSuccess)
		e = cudaMemcpyAsync(dst, w->buffer[i], bytes, cudaMemcpyHostToDevice, t->up);
	if (e == cudaSuccess)
		e = cudaEventRecord(w->ready[i], t->up);
	if (e != cudaSuccess)
		(void)cudaGetLastError();
	return (int)e;
}

static void *work(void *arg)
{
	struct worker *w = (struct worker *)arg;
	struct bk_transfer *t = w->t;

	(void)cudaSetDevice(t->device);
	pthread_mutex_lock(&t->lock);
	for (;;) {
		struct job *j;
		struct job mine;
		int e;

		while (!t->stop && t->first == t->n_jobs)
			pthread_cond_wait(&t->work, &t->lock);
		if (t->stop)
			break;
		j = &t->jobs[t->first];
		mine = (struct job){ j->dst + j->at, j->src + j->at, j->bytes - j->at < PIECE ? j->bytes - j->at : PIECE, 0 };
		j->at += mine.bytes;
		if (j->at == j->bytes)
			t->first++;
		t->in_hand++;
		e = t->error;
		pthread_mutex_unlock(&t->lock);
		if (!e)
			e = piece(w, mine.dst, mine.src, mine.bytes);
		pthread_mutex_lock(&t->lock);
		if (e && !t->error)
			t->error = e;
		t->in_hand--;
		if (!t->in_hand && t->first == t->n_jobs) {
			t->first = t->n_jobs = 0;
			pthread_cond_broadcast(&t->idle);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int bk_transfer_open(struct bk_run *r, const struct bk_run_options *o)
{
	struct bk_transfer *t = (struct bk_transfer *)calloc(1, sizeof(*t));
	cudaError_t e;

	if (!t)
		return BK_RUN_NO_MEMORY;
	t->device = r->device;
	t->read = o->read ? o->read : plain_read;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->idle, NULL);
	r->transfer = t;
	e = cudaStreamCreateWithFlags(&t->up, cudaStreamNonBlocking);
	if (e == cudaSuccess)
		e = cudaStreamCreateWithFlags(&t->down, cudaStreamNonBlocking);
	if (e == cudaSuccess)
		e = cudaEventCreateWithFlags(&t->mark, cudaEventDisableTiming);
	if (e != cudaSuccess)
		(void)cudaGetLastError();
	return (int)e;
}

/* Threads and their buffers, at the first upload that needs them. */
static int start(struct bk_transfer *t)
{
	while (t->n_workers < THREADS_MAX) {
		struct worker *w = &t->workers[t->n_workers];
		cudaError_t e = cudaSuccess;

		w->t = t;
		for (int i = 0; i < 2 && e == cudaSuccess; i++) {
			if (!w->buffer[i])
				e = cudaHostAlloc((void **)&w->buffer[i], PIECE, cudaHostAllocPortable);
			if (e == cudaSuccess && !w->ready[i])
				e = cudaEventCreateWithFlags(&w->ready[i], cudaEventDisableTiming);
		}
		if (e != cudaSuccess) {
			(void)cudaGetLastError();
			return t->n_workers ? 0 : e == cudaErrorMemoryAllocation ? BK_RUN_NO_MEMORY : (int)e;
		}
		if (pthread_create(&w->thread, NULL, work, w))
			return t->n_workers ? 0 : BK_RUN_NO_MEMORY;
		w->started = true;
		t->n_workers++;
	}
	return 0;
}

void bk_transfer_close(struct bk_run *r)
{
	struct bk_transfer *t = r->transfer;

	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	for (int i = 0; i < THREADS_MAX; i++)
		if (t->workers[i].started)
			pthread_join(t->workers[i].thread, NULL);
	if (t->up)
		(void)cudaStreamSynchronize(t->up);
	if (t->down)
		(void)cudaStreamSynchronize(t->down);
	for (int i = 0; i < THREADS_MAX; i++)
		for (int k = 0; k < 2; k++) {
			if (t->workers[i].ready[k])
				(void)cudaEventDestroy(t->workers[i].ready[k]);
			if (t->workers[i].buffer[k])
				(void)cudaFreeHost(t->workers[i].buffer[k]);
		}
	if (t->mark)
		(void)cudaEventDestroy(t->mark);
	if (t->up)
		(void)cudaStreamDestroy(t->up);
	if (t->down)
		(void)cudaStreamDestroy(t->down);
	(void)cudaGetLastError();
	pthread_cond_destroy(&t->idle);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t->jobs);
	free(t->up_to.all);
	free(t->down_from.all);
	free(t);
	r->transfer = NULL;
}

static void note(struct spans *s, const void *p, size_t bytes)
{
	if (s->n == s->cap) {
		const size_t cap = s->cap ? 2 * s->cap : 64;
		struct span *more = (struct span *)realloc(s->all, cap * sizeof(*more));

		if (!more) {
			s->lost = true;
			return;
		}
		s->all = more;
		s->cap = cap;
	}
	s->all[s->n++] = (struct span){ (const char *)p, bytes };
}

static bool meets(const struct spans *s, const void *p, size_t bytes)
{
	const char *from = (const char *)p;

	for (size_t i = 0; i < s->n; i++)
		if (from < s->all[i].p + s->all[i].bytes && s->all[i].p < from + bytes)
			return true;
	return s->lost;
}

bool bk_transfer_meets(const struct bk_run *r, const void *p, size_t bytes)
{
	const struct bk_transfer *t = r->transfer;

	return t && ((t->uploads && meets(&t->up_to, p, bytes)) || (t->downloads && meets(&t->down_from, p, bytes)));
}

/* `later` waits for what `now` has been given. */
static cudaError_t after(struct bk_transfer *t, cudaStream_t now, cudaStream_t later)
{
	cudaError_t e = cudaEventRecord(t->mark, now);

	if (e == cudaSuccess)
		e = cudaStreamWaitEvent(later, t->mark, 0);
	if (e != cudaSuccess)
		(void)cudaGetLastError();
	return e;
}

bool bk_is_pinned(const void *p)
{
	struct cudaPointerAttributes a;

	if (cudaPointerGetAttributes(&a, p) != cudaSuccess) {
		(void)cudaGetLastError();
		return false;
	}
	return a.type == cudaMemoryTypeHost;
}

int bk_run_upload(struct bk_run *r, void *dst, const void *src, size_t bytes)
{
	struct bk_transfer *t = r->transfer;
	int e = 0;

	if (!bytes)
		return 0;
	e = (int)after(t, r->stream, t->up);
	if (e)
		return e;
	t->uploads = true;
	note(&t->up_to, dst, bytes);
	if (bk_is_pinned(src)) {
		t->pinned = true;
		e = (int)cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, t->up);
		if (e)
			(void)cudaGetLastError();
		return e;
	}
	e = start(t);
	if (e)
		return e;
	pthread_mutex_lock(&t->lock);
	if (t->n_jobs == t->cap_jobs) {
		const size_t cap = t->cap_jobs ? 2 * t->cap_jobs : 64;
		struct job *more = (struct job *)realloc(t->jobs, cap * sizeof(*more));

		if (more) {
			t->jobs = more;
			t->cap_jobs = cap;
		} else {
			e = BK_RUN_NO_MEMORY;
		}
	}
	if (!e) {
		t->jobs[t->n_jobs++] = (struct job){ (char *)dst, (const char *)src, bytes, 0 };
		pthread_cond_broadcast(&t->work);
	}
	pthread_mutex_unlock(&t->lock);
	return e;
}

int bk_run_upload_join(struct bk_run *r)
{
	struct bk_transfer *t = r->transfer;
	int e;

	if (!t->uploads)
		return 0;
	pthread_mutex_lock(&t->lock);
	while (t->in_hand || t->first < t->n_jobs)
		pthread_cond_wait(&t->idle, &t->lock);
	e = t->error;
	t->error = 0;
	pthread_mutex_unlock(&t->lock);
	t->uploads = false;
	t->up_to.n = 0;
	t->up_to.lost = false;
	if (!e)
		e = (int)after(t, t->up, r->stream);
	if (t->pinned && !e) { /* the sources are the caller's again */
		e = (int)cudaStreamSynchronize(t->up);
		if (e)
			(void)cudaGetLastError();
	}
	t->pinned = false;
	return e;
}

int bk_run_download(struct bk_run *r, void *dst, const void *src, size_t bytes)
{
	struct bk_transfer *t = r->transfer;
	int e;

	if (!bytes)
		return 0;
	e = (int)after(t, r->stream, t->down);
	t->downloads = true;
	note(&t->down_from, src, bytes);
	if (!e)
		e = (int)cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, t->down);
	if (e)
		(void)cudaGetLastError();
	return e;
}

int bk_run_download_join(struct bk_run *r)
{
	struct bk_transfer *t = r->transfer;
	int e;

	if (!t->downloads)
		return 0;
	e = (int)cudaStreamSynchronize(t->down);
	if (e)
		(void)cudaGetLastError();
	t->downloads = false;
	t->down_from.n = 0;
	t->down_from.lost = false;
	return e;
}

int bk_run_join(struct bk_run *r)
{
	struct bk_transfer *t = r->transfer;
	int e = bk_run_upload_join(r);

	if (!e && t->downloads)
		e = (int)after(t, t->down, r->stream);
	return e;
}
