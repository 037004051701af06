/* SPDX-License-Identifier: Apache-2.0
 * Solved weights of units, kept for the choice they were last asked for, as far as memory allows: the newest stay. */
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/session/live.h"
#include "core/session/machine.h"

struct bl_live_weights {
	struct { uint64_t hash; struct bl_unit_weights *w; uint64_t bytes, used; } *of; /* [n_units] */
	uint64_t bytes, limit, turn;
};

uint64_t bl_live_choice_hash(const struct bl_choice *c, bool zero)
{
	char text[600];
	int n;

	if (c->scheme.number == BL_NUM_FULL && !*bl_choice_stages(c))
		return 0;
	n = snprintf(text, sizeof text, "%d %d %d %d %d %d %d %s ", c->scheme.number + 16 * (c->scheme.nested + 2 * c->scheme.order), c->scheme.bits, c->scheme.symmetric, c->scheme.strategy, c->scheme.act,
		     c->scheme.group, zero, c->method);
	uint64_t h = bl_hash64(text, (size_t)(n < (int)sizeof text ? n : (int)sizeof text - 1)) ^ bl_hash64(c->params, strlen(c->params)) * 0x9e3779b97f4a7c15u;
	if (*bl_choice_stages(c))
		h ^= bl_hash64(bl_choice_stages(c), strlen(bl_choice_stages(c))) * 0xff51afd7ed558ccdu;
	return h ? h : 1;
}

static struct bl_live_weights *state(struct bl_live *l)
{
	uint64_t total, available;

	if (l->weights)
		return l->weights;
	l->weights = bl_xalloc(1, sizeof *l->weights);
	l->weights->of = bl_xalloc((size_t)l->s->model->n_units + 1, sizeof *l->weights->of);
	bl_ram_look(&total, &available);
	l->weights->limit = available / 3;
	return l->weights;
}

static void forget(struct bl_live_weights *w, int unit)
{
	bl_unit_weights_unref(w->of[unit].w);
	w->bytes -= w->of[unit].bytes;
	w->of[unit].w = NULL;
	w->of[unit].bytes = 0;
	w->of[unit].hash = 0;
}

static void make_room(struct bl_live *l, struct bl_live_weights *w, uint64_t bytes)
{
	while (w->bytes && w->bytes + bytes > w->limit) {
		int oldest = -1;
		for (int i = 0; i < l->s->model->n_units; i++)
			if (w->of[i].w && (oldest < 0 || w->of[i].used < w->of[oldest].used))
				oldest = i;
		if (oldest < 0)
			return;
		forget(w, oldest);
	}
}

enum bl_status bl_live_solve(struct bl_live *l, int unit, const struct bl_choice *c, bool zero, struct bl_unit_weights **out, struct bl_err *err)
{
	struct bl_live_weights *w = state(l);
	uint64_t hash = bl_live_choice_hash(c, zero);

	*out = NULL;
	if (!hash)
		return BL_OK;
	if (bl_act_is_static(c->scheme.act)) { /* the scale is the calibration's */
		float absmax = bl_live_absmax(l, unit, c, true);
		hash ^= bl_hash64(&absmax, sizeof absmax) | 1;
	}
	if (bl_session_choice_whole(l->s, c) || *bl_choice_stages(c)) { /* and so are the Hessians */
		struct bl_live_calib *calib = bl_live_get_calib(l);
		if (calib)
			hash ^= bl_hash64(bl_calib_key_of(calib->c), 64) | 1;
		bl_live_calib_unref(calib);
	}
	char chain[65];
	if (bl_live_chain_of(l, unit, c, chain))
		hash ^= bl_hash64(chain, 64) | 1;
	if (w->of[unit].hash != hash) {
		struct bl_unit_weights *made = NULL;
		struct bl_solved *u = NULL;
		forget(w, unit);
		if (!bl_session_choice_whole(l->s, c) || !bl_live_solved_unit(l, unit, c, zero, NULL, &u, err))
			bl_live_unit_weights(l->s, unit, c, zero, u, &made, err);
		bl_solved_free(u);
		if (err->status || !made)
			return err->status;
		uint64_t elems = (uint64_t)(made->rows * made->cols), bytes = made->kind == BL_WEIGHTS_DENSE ? elems * 2 : elems + 4 * (uint64_t)(made->rows * bl_unit_weights_spr(made));
		make_room(l, w, bytes);
		w->of[unit].w = made;
		w->of[unit].hash = hash;
		w->of[unit].bytes = bytes;
		w->bytes += bytes;
	}
	w->of[unit].used = ++w->turn;
	*out = w->of[unit].w;
	return BL_OK;
}

void bl_live_weights_free(struct bl_live *l)
{
	if (!l->weights)
		return;
	for (int i = 0; i < l->s->model->n_units; i++)
		forget(l->weights, i);
	bl_free(l->weights->of);
	bl_free(l->weights);
	l->weights = NULL;
}
