/* SPDX-License-Identifier: Apache-2.0
 * Weight-only errors on request. The screen's thread owns the table of requests; a light job takes the newest request from the queue, sums over
 * row tiles in a fixed order, and publishes by one atomic store. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/pool.h"
#include "core/base/str.h"
#include "core/session/live.h"

#define TILE_ELEMS (1 << 20) /* rows per tile: about this many weights */

static uint64_t key_of(int unit, const struct bl_choice *c, bool zero)
{
	char text[512];
	int n = snprintf(text, sizeof text, "%d %d %d %d %d %d %d %d %s %s", unit, c->scheme.number + 16 * (c->scheme.nested + 2 * c->scheme.order), c->scheme.bits, c->scheme.symmetric, c->scheme.strategy,
			 c->scheme.act, c->scheme.group, zero, c->method, c->params);

	return bl_hash64(text, (size_t)(n < (int)sizeof text ? n : (int)sizeof text - 1)) ^ bl_hash64(bl_choice_stages(c), strlen(bl_choice_stages(c)));
}

static struct bl_error_request *find(struct bl_session_private *p, int unit, const struct bl_choice *c, bool zero)
{
	for (struct bl_error_request *r = p->buckets[key_of(unit, c, zero) % BL_ERROR_BUCKETS]; r; r = r->next_hash)
		if (r->unit == unit && bl_scheme_equal(&r->scheme, &c->scheme) && r->zero_nonfinite == zero && !strcmp(r->method, c->method) &&
		    !strcmp(r->params, c->params) && !strcmp(r->stages, bl_choice_stages(c)))
			return r;
	return NULL;
}

/* ---- the job ---- */

struct tile { const struct bl_member *m; int64_t row0, n; };
struct sums { double w2, e2; };
struct work { const struct bl_solver *solver; const struct tile *tiles; struct sums *sums; };

static enum bl_status solve_tile(void *ctx, size_t item, struct bl_err *err)
{
	struct work *w = ctx;
	struct bl_rows_buf buf = {0};
	const struct tile *t = &w->tiles[item];
	enum bl_status s = bl_solve_rows_error(w->solver, t->m, t->row0, t->n, &buf, &w->sums[item].w2, &w->sums[item].e2, err);

	bl_rows_buf_free(&buf);
	return s;
}

static enum bl_status compute_on(struct bl_session *s, const struct bl_unit *u, struct bl_error_request *r, const atomic_int *cancel, struct bl_err *err)
{
	struct bl_solver solver;
	int64_t rows = TILE_ELEMS / (u->cols > 0 ? u->cols : 1);
	size_t n = 0, cap = 0;
	struct tile *tiles = NULL;
	double w2 = 0, e2 = 0;

	if (!u->members[0].weight)
		return bl_fail(err, BL_UNSUPPORTED, "the checkpoint is already quantized");
	if (bl_solver_init(&solver, &s->registry, &r->scheme, r->method, r->params, r->zero_nonfinite, err))
		return err->status;
	rows = rows < 64 ? 64 : rows / 64 * 64;
	for (int j = 0; j < u->n_members; j++)
		for (int64_t row = 0; row < u->members[j].rows; row += rows) {
			int64_t left = u->members[j].rows - row;
			bl_xgrow(&tiles, &cap, n + 1);
			tiles[n++] = (struct tile){&u->members[j], row, left < rows ? left : rows};
		}
	struct sums *sums = bl_xalloc(n + 1, sizeof *sums);
	struct work w = {&solver, tiles, sums};
	if (bl_pool_run(s->pool, n, solve_tile, &w, cancel, err) == BL_OK) {
		for (size_t i = 0; i < n; i++) {
			w2 += sums[i].w2;
			e2 += sums[i].e2;
		}
		if (isfinite(w2) && isfinite(e2))
			r->rel = w2 > 0 ? e2 / w2 : 0;
		else
			bl_fail(err, BL_INVALID, "%s: %s gives values that are not finite", u->name, r->method);
	}
	bl_free(sums);
	bl_free(tiles);
	bl_solver_fini(&solver);
	return err->status;
}

static enum bl_status compute(struct bl_session *s, struct bl_error_request *r, const atomic_int *cancel, struct bl_err *err)
{
	const struct bl_choice c = {.stages = r->stages};
	struct bl_fold *f = NULL;

	if (!bl_live_fold(s->priv->live, &c, &f, err))
		compute_on(s, bl_live_unit(s->priv->live, f, r->unit), r, cancel, err);
	bl_fold_unref(f);
	return err->status;
}

struct errors_job { struct bl_session *s; bool emptied; };

/* NULL: the queue is empty, and whoever asks from now on starts another job. */
static struct bl_error_request *take_newest(struct errors_job *e)
{
	struct bl_session_private *p = e->s->priv;
	struct bl_error_request *r = NULL;

	pthread_mutex_lock(&p->lock);
	if (p->n_queue) {
		r = p->queue[--p->n_queue];
	} else {
		p->errors_running = false;
		e->emptied = true;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

static enum bl_status errors_run(struct bl_job *j, void *ctx, struct bl_err *err)
{
	struct errors_job *e = ctx;
	int done = 0;

	for (struct bl_error_request *r; (r = take_newest(e));) {
		struct bl_err one = BL_ERR_INIT;
		enum bl_status status = compute(e->s, r, bl_job_cancel_flag(j), &one);
		if (status == BL_CANCELLED) {
			atomic_store(&r->state, BL_KNOWN_NO);
			return bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED));
		}
		if (status)
			bl_printable(r->why, sizeof r->why, one.text);
		atomic_store(&r->state, status ? BL_KNOWN_REFUSED : BL_KNOWN_YES);
		bl_job_progress(j, "errors", ++done, 0, "units");
	}
	return BL_OK;
}

/* Also for a job that never ran: what it leaves in the queue is forgotten, or nobody would ever compute it. */
static void errors_drop(void *ctx)
{
	struct errors_job *e = ctx;
	struct bl_session_private *p = e->s->priv;

	pthread_mutex_lock(&p->lock);
	if (!e->emptied) {
		while (p->n_queue)
			atomic_store(&p->queue[--p->n_queue]->state, BL_KNOWN_NO);
		p->errors_running = false;
	}
	pthread_mutex_unlock(&p->lock);
	bl_free(e);
}

/* ---- asking ---- */

enum bl_known bl_session_weight_error(struct bl_session *s, int unit, const struct bl_choice *c, double *rel, char why[160])
{
	static const struct bl_job_ops ops = {.name = "weight-only errors", .lane = BL_LANE_LIGHT, .run = errors_run, .drop = errors_drop, .brief = true};
	struct bl_session_private *p = s->priv;
	bool zero = bl_plan_zero_nonfinite(s->plan);
	struct bl_error_request *r = find(p, unit, c, zero);

	if (c->scheme.number == BL_NUM_FULL || bl_session_choice_whole(s, c)) /* what data decide about is not to be had from weights alone */
		return BL_KNOWN_NO;
	if (!r) {
		uint64_t bucket = key_of(unit, c, zero) % BL_ERROR_BUCKETS;
		r = bl_xalloc(1, sizeof *r);
		r->unit = unit;
		r->scheme = c->scheme;
		memcpy(r->method, c->method, sizeof r->method);
		r->params = bl_xstrdup(c->params);
		r->stages = bl_xstrdup(bl_choice_stages(c));
		r->zero_nonfinite = zero;
		r->next_hash = p->buckets[bucket];
		p->buckets[bucket] = r;
	}
	enum bl_known known = (enum bl_known)atomic_load(&r->state);
	if (known == BL_KNOWN_YES)
		*rel = r->rel;
	if (known == BL_KNOWN_REFUSED)
		memcpy(why, r->why, sizeof r->why);
	if (known != BL_KNOWN_NO)
		return known;
	atomic_store(&r->state, BL_KNOWN_COMPUTING);
	pthread_mutex_lock(&p->lock);
	bl_xgrow(&p->queue, &p->cap_queue, p->n_queue + 1);
	p->queue[p->n_queue++] = r;
	bool start = !p->errors_running;
	p->errors_running = true;
	pthread_mutex_unlock(&p->lock);
	if (start) {
		struct errors_job *e = bl_xalloc(1, sizeof *e);
		e->s = s;
		p->errors_job = bl_jobs_add(s->jobs, &ops, e, NULL);
	}
	return BL_KNOWN_COMPUTING;
}

void bl_session_wait_errors(struct bl_session *s)
{
	struct bl_err ignored = BL_ERR_INIT;

	if (s->priv->errors_job) /* what an earlier job was to compute is done, or this one has it */
		bl_jobs_wait(s->jobs, s->priv->errors_job, &ignored);
}

void bl_session_errors_fini(struct bl_session *s)
{
	struct bl_session_private *p = s->priv;

	for (int i = 0; i < BL_ERROR_BUCKETS; i++)
		while (p->buckets[i]) {
			struct bl_error_request *r = p->buckets[i];
			p->buckets[i] = r->next_hash;
			bl_free(r->params);
			bl_free(r->stages);
			bl_free(r);
		}
	bl_free(p->queue);
}
