/* SPDX-License-Identifier: Apache-2.0
 * One unit solved with several methods, as a job: what each takes and what it reaches, row after row as it goes. Nothing of the plan changes. */
#ifndef BL_SESSION_TRYOUT_H
#define BL_SESSION_TRYOUT_H

#include "core/session/run.h"

#define BL_TRY_MAX 48

struct bl_try {
	struct bl_choice choice;     /* params borrowed until the next tryout starts */
	enum bl_known known;         /* NO: waits */
	double seconds;              /* of the solver; NaN: unknown yet */
	double rel;                  /* layer error, without a calibration that of the weights alone; NaN: unknown yet */
	double kl;                   /* of the model with this unit alone changed; NaN: unknown */
	bool with_activations, weights_only;
	char why[160];               /* REFUSED */
	char report[160];            /* what the solver had to say */
};

/* The rows that are worth a look for a unit under a scheme: every method that takes it, with the settings of a comparison; the plan's own choice first.
 * Returns how many (<= cap); params are borrowed from the session's tryout and stay until the next call. */
int bl_session_try_list(struct bl_session *s, int unit, const struct bl_scheme *scheme, struct bl_choice *out, int cap);
/* Starts it, in this order; a running one is cancelled. choices are copied. Job id. */
uint64_t bl_session_try(struct bl_session *s, int unit, const struct bl_choice *c, int n);
/* One of several rows ends for another job that waits; true: the newest did, and can be started again when that one is over (what it knew comes from the cache). */
bool bl_session_try_made_room(struct bl_session *s);
/* What is known of the newest one: fills at most cap, returns how many rows it has; *unit -1: there is none. */
int bl_session_tried(struct bl_session *s, int *unit, struct bl_try *out, int cap);

#endif
