/* SPDX-License-Identifier: Apache-2.0
 * The session owns model, plan, caches, jobs, plugins; it is the only thing the front ends edit. All functions are called from one thread (the
 * screen's or the command line's) unless said otherwise. Results of background work appear through the getters, which never block on work. */
#ifndef BL_SESSION_SESSION_H
#define BL_SESSION_SESSION_H

#include "core/estimate/estimate.h"
#include "core/export/export.h"
#include "core/job/job.h"
#include "core/plan/plan_file.h"
#include "core/plugin/method_run.h"
#include "core/stats/weight_stats.h"

struct bl_session_options {
	int threads;                 /* 0: all */
	int64_t seed;                /* 42 */
	const char *target;          /* NULL: the plan's, else that of new plans */
	const char *new_target;      /* of new plans; NULL: the first of the table */
	const char *program_dir;     /* for plugins */
	bool autosave;               /* workbench: yes; one-shot commands: no */
	const char *device;          /* "auto" (NULL), "cpu", "cuda", "cuda:N": where the model runs; opened when it first runs */
	const char *cache_dir;       /* of calibrations and results; NULL: the user's cache folder */
	uint64_t memory_limit;       /* of the device, bytes; 0: none */
};

struct bl_session {
	struct bl_model *model;
	struct bl_plan *plan;
	const struct bl_target *target;
	struct bl_registry registry;
	struct bl_pool *pool;
	struct bl_jobs *jobs;
	char *plan_path;             /* NULL: never saved */
	char *notice;                /* one sentence for the user from open (recovered autosave, changed model …), or NULL */
	int64_t seed;
	struct bl_session_private *priv;
};

/* what: a MODEL or a plan file. */
enum bl_status bl_session_open(struct bl_session **out, const char *what, const struct bl_session_options *o, struct bl_err *err);
void bl_session_close(struct bl_session *s); /* cancels jobs, removes the autosave when the plan is saved or unchanged */

/* Call after any edit of s->plan: re-reads the target, wakes weight-error work for what changed, schedules the autosave. Cheap. */
void bl_session_edited(struct bl_session *s);
char *bl_session_plan_file(const struct bl_session *s); /* where it is saved when nobody says where (below); bl_free */
enum bl_status bl_session_save(struct bl_session *s, const char *path, struct bl_err *err); /* path NULL: plan_path, else <model title>.plan.json in the current folder */
/* Called once per loop turn: does the due autosave (at most one per second). Never blocks longer than writing a small file. */
void bl_session_tick(struct bl_session *s);

/* --- what is known per unit --- */
/* Starts (or goes on with) weight statistics of all units; the wanted range comes first (visible rows; call freely, also while running). */
void bl_session_want(struct bl_session *s, int first_unit, int last_unit);
void bl_session_start_stats(struct bl_session *s);
/* NULL while unknown. The pointer stays valid until the session closes. */
const struct bl_weight_stats *bl_session_stats(const struct bl_session *s, int unit);
bool bl_session_stats_running(const struct bl_session *s);

/* Weight-only error of a unit under a scheme/method/params: ||W-W^||^2/||W||^2. Computed in the background on first request, cached for the session. */
enum bl_known { BL_KNOWN_NO, BL_KNOWN_COMPUTING, BL_KNOWN_YES, BL_KNOWN_REFUSED, BL_KNOWN_UNSOLVED /* known when a job has solved it */ };
enum bl_known bl_session_weight_error(struct bl_session *s, int unit, const struct bl_choice *c, double *rel, char why[160]); /* why: when REFUSED */
void bl_session_wait_errors(struct bl_session *s); /* blocks (command line): all requested errors are known */

/* A recipe onto the plan, with the methods that the plugins bring. notes: appended. */
enum bl_status bl_session_recipe(struct bl_session *s, const char *path, struct bl_str *notes, struct bl_err *err);

/* What a unit is on the way to the server: the plan's choice, or, of a unit that stays as it is in a checkpoint that is quantized, what the file stores.
 * Never NULL. format (may be NULL): of the file ("pack-quantized", "gptq"), NULL when it is the plan's; "?" with BF16 when its parts are not understood. */
const struct bl_scheme *bl_session_scheme(const struct bl_session *s, int unit, const char **format);

/* Legality and totals of the current plan; recomputed when the revision changed. Borrowed until the next edit. */
const struct bl_verdict *bl_session_verdict(struct bl_session *s, int unit);
const struct bl_problem *bl_session_problems(struct bl_session *s, int *n, int *n_fatal);
const struct bl_plan_estimate *bl_session_estimate(struct bl_session *s);

/* --- export as a job --- */
uint64_t bl_session_export(struct bl_session *s, const char *out, bool overwrite, bool ignore_rules); /* job id; works on a copy of the plan */
const struct bl_export_result *bl_session_export_result(const struct bl_session *s); /* of the last finished one; NULL */

#endif
