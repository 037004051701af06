/* SPDX-License-Identifier: Apache-2.0
 * The thread pool. A batch lives on its caller's stack and is linked into the pool while items are left; the caller
 * works on its own batch too, so a batch finishes even when every worker is busy elsewhere, and a batch started from
 * inside an item cannot deadlock. Items are claimed in order by an atomic counter; after item k failed only items below k
 * still run, which makes the reported error the same for any number of threads. */
#include "core/base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/turn.h"

struct batch {
	enum bl_status (*fn)(void *ctx, size_t item, struct bl_err *err);
	void *ctx;
	const atomic_int *cancel;
	size_t n;
	atomic_size_t next; /* first unclaimed item */
	atomic_size_t stop; /* items from here on are skipped: n, or the lowest item that failed */
	atomic_bool cancelled;
	int helpers; /* workers inside; under the pool's lock, like everything below */
	struct bl_err err;
	struct batch *link;
};

struct bl_pool {
	pthread_mutex_t lock;
	pthread_cond_t work, left; /* a batch arrived; a helper left a batch */
	struct batch *batches;
	bool closing;
	int n_workers;
	pthread_t workers[];
};

struct call {
	struct batch *b;
	size_t item;
};

static enum bl_status run_item(void *ctx, struct bl_err *err)
{
	struct call *c = ctx;

	return c->b->fn(c->b->ctx, c->item, err);
}

static void work_on(struct bl_pool *p, struct batch *b)
{
	for (;;) {
		size_t item = atomic_fetch_add(&b->next, 1);
		struct call call = { b, item };
		struct bl_err err = BL_ERR_INIT;
		enum bl_status status;

		if (item >= atomic_load(&b->stop))
			return;
		if (b->cancel && atomic_load(b->cancel)) {
			atomic_store(&b->cancelled, true);
			return;
		}
		status = bl_guard_run(run_item, &call, &err);
		if (status == BL_OK)
			continue;
		if (err.status == BL_OK)
			bl_fail(&err, status, "%s", bl_status_text(status));
		pthread_mutex_lock(&p->lock);
		if (item < atomic_load(&b->stop)) {
			atomic_store(&b->stop, item);
			b->err = err;
		}
		pthread_mutex_unlock(&p->lock);
	}
}

static bool has_items(const struct batch *b)
{
	return atomic_load(&b->next) < atomic_load(&b->stop) && !atomic_load(&b->cancelled);
}

static void *worker(void *arg)
{
	struct bl_pool *p = arg;

	bl_thread_computes();
	pthread_mutex_lock(&p->lock);
	while (!p->closing) {
		struct batch *b = p->batches;

		while (b && !has_items(b))
			b = b->link;
		if (!b) {
			pthread_cond_wait(&p->work, &p->lock);
			continue;
		}
		b->helpers++;
		pthread_mutex_unlock(&p->lock);
		work_on(p, b);
		pthread_mutex_lock(&p->lock);
		b->helpers--;
		pthread_cond_broadcast(&p->left);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int usable_processors(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		return CPU_COUNT(&set);
	return (int)sysconf(_SC_NPROCESSORS_ONLN); /* more processors than a cpu_set_t holds */
}

struct bl_pool *bl_pool_new(int n_threads)
{
	struct bl_pool *p;
	int i;

	if (n_threads <= 0)
		n_threads = usable_processors();
	if (n_threads < 1)
		n_threads = 1;
	if (n_threads > 1024)
		n_threads = 1024;
	p = bl_xalloc(1, sizeof *p + (size_t)(n_threads - 1) * sizeof *p->workers);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->left, NULL);
	for (i = 0; i < n_threads - 1; i++) {
		if (pthread_create(&p->workers[i], NULL, worker, p)) {
			bl_log(BL_LOG_WARN, "only %d of %d threads could be started", i + 1, n_threads);
			break;
		}
	}
	p->n_workers = i;
	return p;
}

void bl_pool_free(struct bl_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (int i = 0; i < p->n_workers; i++)
		pthread_join(p->workers[i], NULL);
	pthread_cond_destroy(&p->left);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	bl_free(p);
}

int bl_pool_threads(const struct bl_pool *p)
{
	return p->n_workers + 1;
}

enum bl_status bl_pool_run(struct bl_pool *p, size_t n_items, enum bl_status (*fn)(void *ctx, size_t item, struct bl_err *err),
			   void *ctx, const atomic_int *cancel, struct bl_err *err)
{
	struct batch b = { .fn = fn, .ctx = ctx, .cancel = cancel, .n = n_items, .err = BL_ERR_INIT };
	struct batch **at;

	atomic_init(&b.next, 0);
	atomic_init(&b.stop, n_items);
	atomic_init(&b.cancelled, false);
	pthread_mutex_lock(&p->lock);
	for (at = &p->batches; *at; at = &(*at)->link) /* at the end: older batches are helped first */
		;
	*at = &b;
	if (n_items > 1)
		pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);

	work_on(p, &b);

	pthread_mutex_lock(&p->lock);
	for (at = &p->batches; *at != &b; at = &(*at)->link)
		;
	*at = b.link;
	while (b.helpers)
		pthread_cond_wait(&p->left, &p->lock);
	pthread_mutex_unlock(&p->lock);

	if (b.err.status != BL_OK) {
		if (err->status == BL_OK)
			*err = b.err;
		return b.err.status;
	}
	if (atomic_load(&b.cancelled))
		return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
	return BL_OK;
}
