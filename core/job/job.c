/* SPDX-License-Identifier: Apache-2.0
 * Two lanes of background work. All state lives under one mutex that is never held while a job works; readers copy. A wake is one byte
 * in a pipe, and no second one until the first was drained. */
#include "core/job/job.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/str.h"
#include "core/base/turn.h"

#define ENDED_KEPT 64
#define SMOOTH 0.3 /* weight of the newest rate */

struct bl_job {
	struct bl_job *next;      /* newest first */
	struct bl_jobs *all;
	struct bl_job_ops ops;
	void *ctx;
	struct bl_job_view view;
	atomic_int cancel;
	bool kept;                /* cancels are not taken any more */
	bool pause;               /* wanted */
	uint64_t paused_ns;       /* since when it stands still, 0: it does not */
	int waiters;              /* while there are any it is not forgotten */
	uint64_t ended;           /* number in the order of ending, 0: not yet */
	uint64_t started_ns, rate_ns;
	double rate_done;
};

struct bl_jobs {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t lanes[BL_LANE_COUNT];
	bool has_lane[BL_LANE_COUNT], closing;
	struct bl_job *jobs;
	uint64_t next_id, n_ended;
	int pipe[2];
	atomic_bool awake;
};

struct lane_arg { struct bl_jobs *js; enum bl_job_lane lane; };

void bl_jobs_wake(struct bl_jobs *js)
{
	if (!atomic_exchange(&js->awake, true))
		(void)!write(js->pipe[1], "", 1); /* full pipe: the reader is awake anyway */
}

/* First the byte, then the flag: the other way round a wake between the two would lose its byte and leave the flag set, and nobody
 * would ever be woken again. Now a wake between the two writes nothing, and its change is seen by whoever looks after this. */
void bl_jobs_drain(struct bl_jobs *js)
{
	char buf[16];

	while (read(js->pipe[0], buf, sizeof buf) > 0)
		;
	atomic_exchange(&js->awake, false);
}

int bl_jobs_wake_fd(const struct bl_jobs *js)
{
	return js->pipe[0];
}

/* The oldest queued job of a lane; quiet ones only when there is no other. */
static struct bl_job *next_queued(struct bl_jobs *js, enum bl_job_lane lane)
{
	struct bl_job *found = NULL, *quiet = NULL;

	for (struct bl_job *j = js->jobs; j; j = j->next)
		if (j->ops.lane == lane && j->view.state == BL_JOB_QUEUED)
			*(j->ops.quiet ? &quiet : &found) = j;
	return found ? found : quiet;
}

/* Not even begun: queued, or held back before its turn. */
static bool waits(const struct bl_job *j)
{
	return j->view.state < BL_JOB_DONE && !j->started_ns;
}

/* Keeps the jobs that ended last: a long one that was added before many short ones is news when it ends. */
static void forget_old(struct bl_jobs *js)
{
	for (;;) {
		struct bl_job **oldest = NULL;
		int ended = 0;
		bool at_once = false;
		for (struct bl_job **at = &js->jobs; *at && !at_once; at = &(*at)->next) {
			ended += (*at)->ended > 0;
			if (!(*at)->ended || (*at)->waiters)
				continue;
			at_once = (*at)->ops.quiet || ((*at)->ops.brief && (*at)->view.state != BL_JOB_FAILED);
			if (at_once || !oldest || (*at)->ended < (*oldest)->ended)
				oldest = at;
		}
		if (!at_once && (ended <= ENDED_KEPT || !oldest))
			return;
		struct bl_job *j = *oldest;
		*oldest = j->next;
		bl_free(j);
	}
}

static void end(struct bl_job *j, enum bl_job_state state)
{
	j->view.state = state;
	j->view.seconds_left = 0;
	j->view.pausing = false;
	j->ended = ++j->all->n_ended;
	pthread_cond_broadcast(&j->all->changed);
	forget_old(j->all); /* this one only when it is quiet or brief and nobody waits: it is not looked at again */
}

static void finish(struct bl_job *j, enum bl_status status, const struct bl_err *err)
{
	bool cancelled = status == BL_CANCELLED || atomic_load(&j->cancel);

	j->view.seconds = (double)(bl_now_ns() - j->started_ns) / 1e9;
	j->view.err = *err;
	end(j, cancelled ? BL_JOB_CANCELLED : status == BL_OK ? BL_JOB_DONE : BL_JOB_FAILED);
}

static void run_one(struct bl_jobs *js, struct bl_job *j)
{
	struct bl_err err = BL_ERR_INIT;

	j->view.state = BL_JOB_RUNNING;
	j->started_ns = j->rate_ns = bl_now_ns();
	pthread_mutex_unlock(&js->lock);
	bl_jobs_wake(js);
	enum bl_status status = j->ops.run(j, j->ctx, &err);
	if (status && !err.status)
		bl_fail(&err, status, "%s", bl_status_text(status));
	if (j->ops.drop)
		j->ops.drop(j->ctx);
	pthread_mutex_lock(&js->lock);
	finish(j, status, &err);
}

static void *lane_main(void *arg)
{
	struct lane_arg a = *(struct lane_arg *)arg;
	struct bl_jobs *js = a.js;

	bl_free(arg);
	bl_thread_computes();
	pthread_mutex_lock(&js->lock);
	while (!js->closing) {
		struct bl_job *j = next_queued(js, a.lane);
		if (!j) {
			pthread_cond_wait(&js->changed, &js->lock);
			continue;
		}
		run_one(js, j);
		bl_jobs_wake(js);
	}
	pthread_mutex_unlock(&js->lock);
	return NULL;
}

struct bl_jobs *bl_jobs_new(void)
{
	struct bl_jobs *js = bl_xalloc(1, sizeof *js);

	pthread_mutex_init(&js->lock, NULL);
	pthread_cond_init(&js->changed, NULL);
	js->pipe[0] = js->pipe[1] = -1;
	if (pipe2(js->pipe, O_NONBLOCK | O_CLOEXEC))
		bl_fatal(bl_status_exit(BL_FAILED), "no pipe could be made: too many open files");
	for (int i = 0; i < BL_LANE_COUNT; i++) {
		struct lane_arg *a = bl_xalloc(1, sizeof *a);
		*a = (struct lane_arg){js, (enum bl_job_lane)i};
		js->has_lane[i] = pthread_create(&js->lanes[i], NULL, lane_main, a) == 0;
		if (!js->has_lane[i])
			bl_fatal(bl_status_exit(BL_NO_MEMORY), "no thread could be started for background work");
	}
	return js;
}

void bl_jobs_free(struct bl_jobs *js)
{
	if (!js)
		return;
	pthread_mutex_lock(&js->lock);
	js->closing = true;
	for (struct bl_job *j = js->jobs; j; j = j->next)
		atomic_store(&j->cancel, 1);
	pthread_cond_broadcast(&js->changed);
	pthread_mutex_unlock(&js->lock);
	for (int i = 0; i < BL_LANE_COUNT; i++)
		if (js->has_lane[i])
			pthread_join(js->lanes[i], NULL);
	while (js->jobs) {
		struct bl_job *j = js->jobs;
		js->jobs = j->next;
		if (waits(j) && j->ops.drop)
			j->ops.drop(j->ctx);
		bl_free(j);
	}
	close(js->pipe[0]);
	close(js->pipe[1]);
	pthread_cond_destroy(&js->changed);
	pthread_mutex_destroy(&js->lock);
	bl_free(js);
}

uint64_t bl_jobs_add(struct bl_jobs *js, const struct bl_job_ops *ops, void *ctx, const char *title)
{
	struct bl_job *j = bl_xalloc(1, sizeof *j);

	j->all = js;
	j->ops = *ops;
	j->ctx = ctx;
	j->view.seconds_left = -1;
	j->view.pausable = ops->pausable;
	j->view.quiet = ops->quiet;
	bl_printable(j->view.name, sizeof j->view.name, title ? title : ops->name);
	pthread_mutex_lock(&js->lock);
	uint64_t id = j->view.id = ++js->next_id;
	j->next = js->jobs;
	js->jobs = j;
	pthread_cond_broadcast(&js->changed);
	pthread_mutex_unlock(&js->lock);
	bl_jobs_wake(js);
	return id;
}

static struct bl_job *find(struct bl_jobs *js, uint64_t id)
{
	for (struct bl_job *j = js->jobs; j; j = j->next)
		if (j->view.id == id)
			return j;
	return NULL;
}

void bl_jobs_cancel(struct bl_jobs *js, uint64_t id)
{
	void (*drop)(void *ctx) = NULL;
	void *ctx = NULL;

	pthread_mutex_lock(&js->lock);
	struct bl_job *j = find(js, id);
	if (j && j->view.state < BL_JOB_DONE && !j->kept) {
		atomic_store(&j->cancel, 1);
		if (waits(j)) {
			drop = j->ops.drop;
			ctx = j->ctx;
			end(j, BL_JOB_CANCELLED);
		} else {
			pthread_cond_broadcast(&js->changed); /* it may stand at a checkpoint */
		}
	}
	pthread_mutex_unlock(&js->lock);
	if (drop)
		drop(ctx);
	bl_jobs_wake(js);
}

bool bl_jobs_pause(struct bl_jobs *js, uint64_t id)
{
	pthread_mutex_lock(&js->lock);
	struct bl_job *j = find(js, id);
	bool can = j && j->view.state < BL_JOB_DONE && (waits(j) || j->ops.pausable) && !j->kept;
	if (can) {
		j->pause = true;
		if (waits(j))
			j->view.state = BL_JOB_PAUSED;
		j->view.pausing = j->view.state == BL_JOB_RUNNING;
	}
	pthread_mutex_unlock(&js->lock);
	bl_jobs_wake(js);
	return can;
}

void bl_jobs_resume(struct bl_jobs *js, uint64_t id)
{
	pthread_mutex_lock(&js->lock);
	struct bl_job *j = find(js, id);
	if (j) {
		j->pause = j->view.pausing = false;
		if (waits(j))
			j->view.state = BL_JOB_QUEUED;
		pthread_cond_broadcast(&js->changed);
	}
	pthread_mutex_unlock(&js->lock);
	bl_jobs_wake(js);
}

/* Time stands still meanwhile: what is measured from before the pause moves with it. */
static void stand_still(struct bl_job *j)
{
	j->paused_ns = bl_now_ns();
	j->view.state = BL_JOB_PAUSED;
	j->view.pausing = false;
	bl_jobs_wake(j->all);
	while (j->pause && !atomic_load(&j->cancel))
		pthread_cond_wait(&j->all->changed, &j->all->lock);
	uint64_t pause = bl_now_ns() - j->paused_ns;
	j->paused_ns = 0;
	j->started_ns += pause;
	j->rate_ns += pause;
	j->view.state = BL_JOB_RUNNING;
	bl_jobs_wake(j->all);
}

bool bl_job_checkpoint(struct bl_job *j)
{
	pthread_mutex_lock(&j->all->lock);
	if (j->pause && !atomic_load(&j->cancel))
		stand_still(j);
	pthread_mutex_unlock(&j->all->lock);
	return atomic_load(&j->cancel) != 0;
}

bool bl_job_wanted(struct bl_job *j)
{
	pthread_mutex_lock(&j->all->lock);
	struct bl_job *next = next_queued(j->all, j->ops.lane);
	bool wanted = next && !next->ops.quiet;
	pthread_mutex_unlock(&j->all->lock);
	return wanted;
}

static void look(const struct bl_job *j, struct bl_job_view *out)
{
	*out = j->view;
	out->cancelling = j->started_ns && !j->ended && atomic_load(&j->cancel);
	if (j->started_ns && !j->ended)
		out->seconds = (double)((j->paused_ns ? j->paused_ns : bl_now_ns()) - j->started_ns) / 1e9;
}

bool bl_jobs_view(struct bl_jobs *js, uint64_t id, struct bl_job_view *out)
{
	pthread_mutex_lock(&js->lock);
	const struct bl_job *j = find(js, id);
	if (j)
		look(j, out);
	pthread_mutex_unlock(&js->lock);
	return j != NULL;
}

int bl_jobs_list(struct bl_jobs *js, struct bl_job_view *out, int cap)
{
	int n = 0;

	pthread_mutex_lock(&js->lock);
	for (struct bl_job *j = js->jobs; j; j = j->next, n++)
		if (n < cap)
			look(j, &out[n]);
	pthread_mutex_unlock(&js->lock);
	return n;
}

static bool busy(struct bl_jobs *js, int lane)
{
	bool any = false;

	pthread_mutex_lock(&js->lock);
	for (struct bl_job *j = js->jobs; j; j = j->next)
		any |= j->view.state < BL_JOB_DONE && (lane < 0 || (int)j->ops.lane == lane);
	pthread_mutex_unlock(&js->lock);
	return any;
}

bool bl_jobs_busy(struct bl_jobs *js)
{
	return busy(js, -1);
}

bool bl_jobs_lane_busy(struct bl_jobs *js, enum bl_job_lane lane)
{
	return busy(js, (int)lane);
}

enum bl_status bl_jobs_wait(struct bl_jobs *js, uint64_t id, struct bl_err *err)
{
	enum bl_status status = BL_OK;

	pthread_mutex_lock(&js->lock);
	struct bl_job *j = find(js, id);
	if (!j) {
		pthread_mutex_unlock(&js->lock);
		return bl_fail(err, BL_NOT_FOUND, "job %llu is not known any more", (unsigned long long)id);
	}
	j->waiters++;
	while (j->view.state < BL_JOB_DONE)
		pthread_cond_wait(&js->changed, &js->lock);
	j->waiters--;
	if (j->view.state == BL_JOB_FAILED) {
		if (!err->status)
			*err = j->view.err;
		status = j->view.err.status;
	} else if (j->view.state == BL_JOB_CANCELLED) {
		status = bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
	}
	forget_old(js);
	pthread_mutex_unlock(&js->lock);
	return status;
}

uint64_t bl_job_id(const struct bl_job *j)
{
	return j->view.id;
}

const atomic_int *bl_job_cancel_flag(struct bl_job *j)
{
	return &j->cancel;
}

void bl_job_keep(struct bl_job *j)
{
	pthread_mutex_lock(&j->all->lock);
	j->kept = true;
	atomic_store(&j->cancel, 0);
	pthread_mutex_unlock(&j->all->lock);
}

/* A new phase starts anew: its amounts and speed have nothing to do with those before. */
static void enter_phase(struct bl_job *j, const char *phase, double done, uint64_t now)
{
	memcpy(j->view.phase, phase, sizeof j->view.phase);
	j->view.rate = 0;
	j->view.done = done;
	j->rate_ns = now;
	j->rate_done = done;
}

void bl_job_progress(struct bl_job *j, const char *phase, double done, double total, const char *unit)
{
	struct bl_jobs *js = j->all;
	struct bl_job_view *v = &j->view;
	uint64_t now = bl_now_ns();
	char name[sizeof v->phase] = "";

	bl_printable(name, sizeof name, phase);
	pthread_mutex_lock(&js->lock);
	if (strcmp(v->phase, name) != 0)
		enter_phase(j, name, done, now);
	if (done > v->done)
		v->done = done;
	v->total = total;
	bl_printable(v->unit, sizeof v->unit, unit);
	double dt = now > j->rate_ns ? (double)(now - j->rate_ns) / 1e9 : 0;
	if (dt > 0.1) {
		double rate = (v->done - j->rate_done) / dt;
		v->rate = v->rate > 0 ? (1 - SMOOTH) * v->rate + SMOOTH * rate : rate;
		j->rate_ns = now;
		j->rate_done = v->done;
	}
	v->seconds_left = !(v->rate > 0) || !(total > 0) ? -1 : total > v->done ? (total - v->done) / v->rate : 0;
	pthread_mutex_unlock(&js->lock);
	bl_jobs_wake(js);
}

void bl_job_note(struct bl_job *j, const char *note)
{
	pthread_mutex_lock(&j->all->lock);
	bl_printable(j->view.note, sizeof j->view.note, note);
	pthread_mutex_unlock(&j->all->lock);
}
