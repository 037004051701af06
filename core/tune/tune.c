/* SPDX-License-Identifier: Apache-2.0
 * A tuning run: what is asked for is looked at, the forward and what all ways share are made, and one of the two loops runs. */
#include "core/tune/tune.h"

#include <math.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/tune/private.h"

#define STEPS_MOST 10000000

/* --- the order of windows --- */

static void shuffle(struct tune_order *o)
{
	struct bl_rng rng;

	memcpy(rng.s, o->state, sizeof rng.s);
	for (int64_t i = o->n - 1; i > 0; i--) {
		const int64_t j = (int64_t)(bl_rng_u64(&rng) % (uint64_t)(i + 1)), other = o->of[j];

		o->of[j] = o->of[i];
		o->of[i] = other;
	}
	memcpy(o->state, rng.s, sizeof o->state);
	o->at = 0;
}

void tune_order_init(struct tune_order *o, const int64_t *windows, int64_t n, uint64_t seed)
{
	struct bl_rng rng;

	bl_rng_seed(&rng, seed);
	*o = (struct tune_order){ .of = bl_xalloc((size_t)n, sizeof *o->of), .n = n };
	memcpy(o->of, windows, (size_t)n * sizeof *o->of);
	memcpy(o->state, rng.s, sizeof o->state);
	shuffle(o);
}

int64_t tune_order_next(struct tune_order *o)
{
	if (o->at == o->n)
		shuffle(o);
	return o->of[o->at++];
}

uint64_t tune_order_draw(struct tune_order *o, uint64_t below)
{
	struct bl_rng rng;
	uint64_t v;

	memcpy(rng.s, o->state, sizeof rng.s);
	v = bl_rng_u64(&rng) % below;
	memcpy(o->state, rng.s, sizeof o->state);
	return v;
}

void tune_order_free(struct tune_order *o)
{
	bl_free(o->of);
	*o = (struct tune_order){ 0 };
}

/* --- the run --- */

static bool within(double v, double least, double most) { return v >= least && v <= most; } /* NaN: not */

enum bl_status bl_tuning_check(const struct bl_tuning *h, const char *owner, struct bl_err *err)
{
	const char *why = NULL;

	if (h->scope != BL_TUNING_BLOCK && h->scope != BL_TUNING_MODEL)
		why = "a scope that is not known";
	else if (h->start < BL_TUNING_RANGE || h->start > BL_TUNING_CODES || (h->start != BL_TUNING_RANGE && !memchr(h->start_method, 0, sizeof h->start_method)) ||
		 !memchr(h->start_params, 0, sizeof h->start_params))
		why = "a start that is not known";
	else if (h->step != BL_TUNING_SIGN && h->step != BL_TUNING_ADAM)
		why = "a kind of step that is not known";
	else if (!within(h->offset_rate, 0, 100) || !within(h->factor_rate, 0, 100) || !within(h->offset_growth, 0, 4))
		why = "a learning rate outside 0 .. 100";
	else if (!within(h->factor_least, 1e-6, 1) || !within(h->factor_most, 1, 1e6) || h->factor_least >= h->factor_most)
		why = "limits of scales that make no sense";
	else if (h->step == BL_TUNING_ADAM && (!within(h->beta1, 0, 0.999999) || !within(h->beta2, 0, 0.999999)))
		why = "moments outside 0 .. 1";
	else if (h->batch < 1 || h->batch > 1 << 20 || h->windows < 0)
		why = "a batch that is empty or too large";
	else if (h->scope == BL_TUNING_BLOCK ? h->iterations < 1 || h->iterations > STEPS_MOST : !within(h->epochs, 1e-6, 1e6))
		why = "a number of steps that makes no sense";
	else if (h->scope == BL_TUNING_MODEL && (!within(h->held_out, 0, 0.95) || h->looks < 1 || h->looks > STEPS_MOST || h->tries < 1 || h->tries > 16 ||
						       (h->tries > 1 && (!within(h->try_factor, 1.01, 100) || h->held_out <= 0))))
		why = "held-out windows that make no sense";
	else if (h->pieces < 0 || h->pieces > 1 << 20 || !within(h->noise, 0, 1) || !within(h->features, 0, 1e6))
		why = "pieces, noise or features outside their range";
	return why ? bl_fail(err, BL_INVALID, "method %s asks for %s", owner, why) : BL_OK;
}

static enum bl_status make_buffers(struct tune *t, struct bl_err *err)
{
	const size_t elem = t->dtype == BK_F32 ? 4 : 2;

	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++) {
		size_t most = 0;

		for (int i = k; i < t->m->n_units; i += BL_UNIT_KIND_COUNT) {
			const size_t n = (size_t)(t->m->units[i].rows * t->m->units[i].cols);
			most = n > most ? n : most;
		}
		if (bl_engine_alloc(t->e, &t->w_hat[k], most * elem, "a block's rounded weights", err))
			return err->status;
	}
	return BL_OK;
}

static enum bl_status run(struct tune *t, struct bl_err *err)
{
	const struct bl_forward_options o = { .fp32 = !t->e->cuda, .cancel = t->rq->cancel };

	t->tokens = t->batch * t->rq->len;
	t->states = bl_xalloc((size_t)t->m->n_units + 1, sizeof *t->states);
	if (!bl_forward_new(&t->f, t->m, t->e, &o, err) && !bl_tape_new(&t->tape, t->f, t->batch, t->rq->len, err) && !make_buffers(t, err))
		t->how->scope == BL_TUNING_BLOCK ? tune_blocks(t, err) : tune_model(t, err);
	bl_tape_free(t->tape);
	bl_forward_free(t->f);
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++)
		bl_engine_release(t->e, t->w_hat[k]);
	bl_free(t->states);
	return err->status;
}

enum bl_status bl_tune_run(struct bl_engine *e, const struct bl_tune_request *rq, struct bl_err *err)
{
	const struct tune start = { .rq = rq, .how = &rq->how, .e = e, .m = rq->model, .dtype = e->cuda ? BK_BF16 : BK_F32, .hidden = rq->model->config.hidden,
				    .start_ns = bl_now_ns(), .windows = rq->how.windows && rq->how.windows < rq->windows ? rq->how.windows : rq->windows };
	struct tune t = start;
	int64_t batch = rq->how.batch < t.windows ? rq->how.batch : t.windows;

	if (t.windows < 1)
		return bl_fail(err, BL_INVALID, "there are no windows to tune on");
	while (rq->how.scope == BL_TUNING_MODEL && batch > 1 && batch * 4 > t.windows)
		batch /= 2;
	for (;; batch /= 2) { /* end to end nothing has been handed over when memory does not suffice */
		t = start;
		t.batch = batch;
		if (run(&t, err) != BL_NO_MEMORY || rq->how.scope != BL_TUNING_MODEL || batch < 2 || t.step)
			return err->status;
		bl_log(BL_LOG_WARN, "tuning goes on in batches of %lld windows: %s", (long long)batch / 2, err->text);
		bl_err_clear(err);
	}
}
