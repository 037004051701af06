/* SPDX-License-Identifier: Apache-2.0
 * The queue ahead holds two requests, the one behind as many results as there are buffers. One lock for both; the engine is the caller's thread's alone. */
#include "core/solve/batch.h"

#include <pthread.h>

#include "core/base/clock.h"
#include "core/base/mem.h"

#define AHEAD   2
#define WRITERS 2
#define BUFFERS 4

struct result { size_t i; struct bl_solved *s; int buffer; };

struct many {
	const struct bl_solve_batch *b;
	struct bl_solve_seconds *seconds;
	pthread_mutex_t lock;
	pthread_cond_t change;
	pthread_t ahead, writers[WRITERS];
	int n_writers;
	bool has_ahead, stop, closed;
	/* ahead */
	struct bl_solve_request rq[AHEAD];
	size_t made, taken;
	struct bl_err ahead_err;
	/* behind */
	void *buffer[BUFFERS];
	bool busy[BUFFERS];
	int n_buffers;
	struct result queue[BUFFERS];
	int n_queue;
	struct bl_err write_err;
	uint64_t files_ns;
};

/* ---- the thread ahead ---- */

static void *look_ahead(void *arg)
{
	struct many *m = arg;

	for (size_t i = 0; i < m->b->n; i++) {
		struct bl_solve_request rq = { .unit = -1 };
		struct bl_err err = BL_ERR_INIT;

		pthread_mutex_lock(&m->lock);
		while (!m->stop && m->made - m->taken == AHEAD)
			pthread_cond_wait(&m->change, &m->lock);
		const bool stop = m->stop;
		pthread_mutex_unlock(&m->lock);
		if (stop)
			return NULL;
		m->b->prepare(m->b->ctx, i, &rq, &err);
		pthread_mutex_lock(&m->lock);
		m->rq[i % AHEAD] = rq;
		m->ahead_err = err;
		m->made++;
		pthread_cond_broadcast(&m->change);
		pthread_mutex_unlock(&m->lock);
		if (err.status)
			return NULL;
	}
	return NULL;
}

static enum bl_status next_request(struct many *m, struct bl_solve_request *rq, struct bl_err *err)
{
	const uint64_t start = bl_now_ns();

	pthread_mutex_lock(&m->lock);
	while (m->made == m->taken)
		pthread_cond_wait(&m->change, &m->lock);
	*rq = m->rq[m->taken % AHEAD];
	m->taken++;
	if (m->made == m->taken && m->ahead_err.status)
		*err = m->ahead_err;
	pthread_cond_broadcast(&m->change);
	pthread_mutex_unlock(&m->lock);
	m->seconds->prepare += (double)(bl_now_ns() - start) * 1e-9;
	return err->status;
}

/* ---- writers ---- */

static void *write_results(void *arg)
{
	struct many *m = arg;

	pthread_mutex_lock(&m->lock);
	for (;;) {
		struct bl_err err = BL_ERR_INIT;
		struct result r;

		while (!m->n_queue && !m->closed)
			pthread_cond_wait(&m->change, &m->lock);
		if (!m->n_queue)
			break;
		r = m->queue[0];
		for (int i = 1; i < m->n_queue; i++)
			m->queue[i - 1] = m->queue[i];
		m->n_queue--;
		pthread_mutex_unlock(&m->lock);
		const uint64_t start = bl_now_ns();
		m->b->done(m->b->ctx, r.i, r.s, &err);
		bl_solved_free(r.s);
		pthread_mutex_lock(&m->lock);
		m->files_ns += bl_now_ns() - start;
		m->busy[r.buffer] = false;
		if (err.status && !m->write_err.status)
			m->write_err = err;
		pthread_cond_broadcast(&m->change);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* A buffer that nobody writes from; a new one while there are few. */
static int take_buffer(struct many *m, struct bl_err *err)
{
	const uint64_t start = bl_now_ns();
	int found = -1;

	pthread_mutex_lock(&m->lock);
	while (found < 0) {
		for (int i = 0; i < m->n_buffers && found < 0; i++)
			found = m->busy[i] ? -1 : i;
		if (found < 0 && m->n_buffers < BUFFERS) {
			struct bl_engine *e = m->b->e;

			if (!e->ops->host_alloc(e->run, &m->buffer[m->n_buffers], m->b->host_bytes)) {
				found = m->n_buffers++;
			} else if (!m->n_buffers) {
				bl_fail(err, BL_NO_MEMORY, "memory: no room for the codes of a unit");
				break;
			}
		}
		if (found < 0)
			pthread_cond_wait(&m->change, &m->lock);
	}
	if (found >= 0)
		m->busy[found] = true;
	if (m->write_err.status && !err->status)
		*err = m->write_err;
	pthread_mutex_unlock(&m->lock);
	m->seconds->out += (double)(bl_now_ns() - start) * 1e-9;
	return found;
}

static void hand_on(struct many *m, size_t i, struct bl_solved *s, int buffer)
{
	pthread_mutex_lock(&m->lock);
	m->queue[m->n_queue++] = (struct result){ i, s, buffer };
	pthread_cond_broadcast(&m->change);
	pthread_mutex_unlock(&m->lock);
}

/* ---- the caller's thread ---- */

static bool crosses(const struct bl_solve_request *rq) { return rq->cross_device && !(rq->correct > 0); }

/* Whether the next unit can wait on the device while this one is worked on. */
static bool room_for_both(struct many *m, const struct bl_solve_request *now, const struct bl_solve_request *next)
{
	uint64_t waiting, working, unused;

	if (m->b->e->ops->unified)
		return false;
	bl_solve_need(&now->model->units[now->unit], &now->scheme, true, crosses(now), &unused, &working);
	bl_solve_need(&next->model->units[next->unit], &next->scheme, true, false, &waiting, &unused);
	return waiting + working <= bl_engine_available(m->b->e);
}

static enum bl_status begin_early(struct many *m, size_t i, const struct bl_solve_request *now, struct bl_solve_request *next, struct bl_solve_job **job,
				  struct bl_err *err)
{
	if (!room_for_both(m, now, next))
		return BL_OK;
	if (m->b->moments && (m->b->moments(m->b->ctx, i, next, true, err) || !next->h_device))
		return err->status;
	return bl_solve_begin(job, m->b->e, next, err);
}

static enum bl_status one(struct many *m, size_t i, struct bl_solve_job **job, struct bl_solve_request *rq, struct bl_err *err)
{
	struct bl_solve_request next = { .unit = -1 };
	struct bl_solve_job *waiting = NULL;
	struct bl_solved *s = NULL;
	uint64_t start = bl_now_ns();
	int buffer = -1;

	if (!*job && m->b->moments && m->b->moments(m->b->ctx, i, rq, false, err))
		return err->status;
	m->seconds->moments += (double)(bl_now_ns() - start) * 1e-9;
	start = bl_now_ns();
	if ((!*job && bl_solve_begin(job, m->b->e, rq, err)) || bl_solve_ready(*job, err))
		return err->status;
	m->seconds->up += (double)(bl_now_ns() - start) * 1e-9;
	if (i + 1 < m->b->n && next_request(m, &next, err))
		return err->status;
	if (next.unit >= 0 && begin_early(m, i + 1, rq, &next, &waiting, err))
		return err->status;
	buffer = take_buffer(m, err);
	start = bl_now_ns();
	if (!err->status) {
		struct bl_solve_job *mine = *job;

		*job = NULL;
		bl_solve_run(&s, mine, m->buffer[buffer], err);
	}
	m->seconds->solve += (double)(bl_now_ns() - start) * 1e-9;
	if (!err->status) {
		m->seconds->units++;
		hand_on(m, i, s, buffer);
	}
	bl_solve_drop(*job);
	*job = waiting;
	*rq = next;
	return err->status;
}

static void close_all(struct many *m, struct bl_err *err)
{
	const uint64_t start = bl_now_ns();

	pthread_mutex_lock(&m->lock);
	m->stop = m->closed = true;
	pthread_cond_broadcast(&m->change);
	pthread_mutex_unlock(&m->lock);
	if (m->has_ahead)
		pthread_join(m->ahead, NULL);
	for (int i = 0; i < m->n_writers; i++)
		pthread_join(m->writers[i], NULL);
	for (int i = 0; i < m->n_buffers; i++)
		m->b->e->ops->host_release(m->b->e->run, m->buffer[i]);
	if (m->write_err.status && !err->status)
		*err = m->write_err;
	m->seconds->out += (double)(bl_now_ns() - start) * 1e-9;
	m->seconds->files += (double)m->files_ns * 1e-9;
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->change);
}

enum bl_status bl_solve_many(const struct bl_solve_batch *b, struct bl_solve_seconds *seconds, struct bl_err *err)
{
	struct many m = { .b = b, .seconds = seconds };
	struct bl_solve_job *job = NULL;
	struct bl_solve_request rq = { .unit = -1 };
	const uint64_t start = bl_now_ns();

	if (!b->n)
		return BL_OK;
	pthread_mutex_init(&m.lock, NULL);
	pthread_cond_init(&m.change, NULL);
	m.has_ahead = !pthread_create(&m.ahead, NULL, look_ahead, &m);
	while (m.n_writers < WRITERS && !pthread_create(&m.writers[m.n_writers], NULL, write_results, &m))
		m.n_writers++;
	if (!m.has_ahead || !m.n_writers)
		bl_fail(err, BL_NO_MEMORY, "no thread could be started");
	else if (!next_request(&m, &rq, err))
		for (size_t i = 0; i < b->n && !err->status; i++) {
			if (b->stop && b->stop(b->ctx))
				bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
			else
				one(&m, i, &job, &rq, err);
		}
	bl_solve_drop(job);
	close_all(&m, err);
	seconds->total += (double)(bl_now_ns() - start) * 1e-9;
	return err->status;
}
