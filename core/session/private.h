/* SPDX-License-Identifier: Apache-2.0
 * Inside of the session: what background work publishes. */
#ifndef BL_SESSION_PRIVATE_H
#define BL_SESSION_PRIVATE_H

#include <pthread.h>

#include "core/forward/weights.h"
#include "core/session/session.h"

/* One weight-only error: asked for by the screen's thread, filled by a job. Requests are never freed before the session. */
struct bl_error_request {
	int unit;
	struct bl_scheme scheme;
	char method[BL_METHOD_NAME_MAX];
	char *params, *stages;
	bool zero_nonfinite;
	double rel;
	char why[160];
	atomic_int state;                      /* enum bl_known */
	struct bl_error_request *next_hash;
};

#define BL_ERROR_BUCKETS 4096

struct bl_session_private {
	/* statistics: one pointer per unit, stored once by the job, read by anyone */
	_Atomic(struct bl_weight_stats *) *stats;
	atomic_bool *no_stats;                 /* units that cannot be read, or hold no full-precision weights: not tried again */
	atomic_int want_first, want_last;
	uint64_t stats_job;                    /* newest, 0: none */

	/* weight errors; the table is the screen thread's, the queue is shared */
	struct bl_error_request *buckets[BL_ERROR_BUCKETS];
	pthread_mutex_t lock;
	struct bl_error_request **queue; size_t n_queue, cap_queue; /* newest last; done ones are removed */
	bool errors_running;                   /* a job is queued or running that will empty the queue */
	uint64_t errors_job;                   /* newest, 0: none; the screen thread's */

	/* caches by plan revision */
	uint64_t verdicts_at, problems_at, estimate_at; /* revision + 1; 0: never */
	struct bl_verdict *verdicts;
	struct bl_problem *problems; int n_problems, n_fatal;
	struct bl_plan_estimate estimate;

	float *ranges; /* largest |input| of every unit, from elsewhere than a calibration; NULL: none */

	/* autosave */
	bool autosave;
	char *autosave_path;
	uint64_t autosaved_at, edited_ns;
	pthread_t saver; bool has_saver;       /* writes `saving`; sets `saved` when it has */
	struct bl_str saving;
	atomic_bool saved, save_failed;

	struct bl_live *live;                    /* the model that runs (live.h) */
	atomic_bool zero_nonfinite;              /* the plan's, for other threads */

	pthread_mutex_t stored_lock;
	struct bl_weight_set stored;             /* of a quantized checkpoint: what it computes with (stored.h) */
	struct bl_stored_unit { struct bl_scheme scheme; char format[40]; } *stored_units; /* what its file says of units, from the headers; NULL: it is not one */

	/* export */
	pthread_mutex_t result_lock;
	struct bl_export_result *result, *shown; /* newest made; the one handed to the screen */
	uint64_t result_job;                     /* that made `result` */
};

void bl_session_stored_look(struct bl_session *s);    /* fills stored_units */
bool bl_session_job_over(const struct bl_session *s, uint64_t id); /* ended, or 0 */
void bl_session_notice(struct bl_session *s, char *sentence);     /* taken over; an earlier one goes to the log */
void bl_session_errors_fini(struct bl_session *s);
void bl_session_export_fini(struct bl_session *s);
void bl_session_autosave_drop(struct bl_session *s);  /* the plan is saved: removes it */
void bl_session_autosave_close(struct bl_session *s); /* removes it, or writes what is unsaved, and waits */
void bl_session_recover(struct bl_session *s);        /* takes the autosave of an earlier run up, or says why not */

#endif
