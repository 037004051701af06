/* SPDX-License-Identifier: Apache-2.0
 * Background work: one thread runs queued jobs in order (the thread that will own the device), a second one runs light ones (statistics, weight errors) so that an export does not
 * starve the screen's columns. Jobs publish state under a lock and wake the screen with at most one byte. Readers take a copy. */
#ifndef BL_JOB_JOB_H
#define BL_JOB_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

enum bl_job_state { BL_JOB_QUEUED, BL_JOB_RUNNING, BL_JOB_PAUSED, BL_JOB_DONE, BL_JOB_FAILED, BL_JOB_CANCELLED };
enum bl_job_lane { BL_LANE_LIGHT, BL_LANE_MAIN, BL_LANE_COUNT };

struct bl_job_view { /* copy for readers */
	uint64_t id;
	char name[64];            /* "export submit.zip" */
	char phase[32];           /* "write", "prove" */
	char note[48];            /* "block 21/30", "" */
	enum bl_job_state state;
	double done, total;       /* in `unit`; total 0: unknown */
	char unit[16];            /* "bytes", "units" */
	double rate;              /* unit per second, smoothed; 0: unknown */
	double seconds, seconds_left; /* of work, without pauses; left < 0: unknown */
	bool pausable;            /* it can be paused while it runs; any job can while it is queued */
	bool pausing;             /* asked to pause, still at work until its next checkpoint */
	bool cancelling;          /* asked to end, still at work until it notices */
	bool quiet;               /* upkeep of what the screen shows: not news, no job line */
	struct bl_err err;        /* when failed */
};

struct bl_job; /* handle inside the running function */
struct bl_job_ops {
	const char *name;
	enum bl_job_lane lane;
	enum bl_status (*run)(struct bl_job *j, void *ctx, struct bl_err *err); /* on the lane's thread */
	void (*drop)(void *ctx);                                               /* frees ctx, always called once */
	bool pausable;            /* run calls bl_job_checkpoint often */
	bool brief;               /* forgotten when it ended without an error: what it did is on the screen */
	bool quiet;               /* runs when no other job of its lane wants to, should make room when one does, and is forgotten when it ended */
};

struct bl_jobs;
struct bl_jobs *bl_jobs_new(void);
void bl_jobs_free(struct bl_jobs *js);              /* cancels, waits; nobody may be inside bl_jobs_wait */
uint64_t bl_jobs_add(struct bl_jobs *js, const struct bl_job_ops *ops, void *ctx, const char *title);
void bl_jobs_cancel(struct bl_jobs *js, uint64_t id);
/* A queued job is held back until it is resumed; one that runs and is pausable stops at its next checkpoint, keeping its lane. False: it cannot. */
bool bl_jobs_pause(struct bl_jobs *js, uint64_t id);
void bl_jobs_resume(struct bl_jobs *js, uint64_t id);
int bl_jobs_wake_fd(const struct bl_jobs *js);      /* readable when something changed; drain with bl_jobs_drain */
void bl_jobs_drain(struct bl_jobs *js);
void bl_jobs_wake(struct bl_jobs *js);
/* A copy of one job; false when it is not known (any more). */
bool bl_jobs_view(struct bl_jobs *js, uint64_t id, struct bl_job_view *out);
/* Newest first; fills at most cap, returns the number that exist (the last 64 ended ones are kept). */
int bl_jobs_list(struct bl_jobs *js, struct bl_job_view *out, int cap);
bool bl_jobs_busy(struct bl_jobs *js);              /* queued or running in any lane */
bool bl_jobs_lane_busy(struct bl_jobs *js, enum bl_job_lane lane);
enum bl_status bl_jobs_wait(struct bl_jobs *js, uint64_t id, struct bl_err *err); /* outcome of the job */

/* inside run; a job that ends with the cancel flag set is CANCELLED, whatever it returned */
uint64_t bl_job_id(const struct bl_job *j);
const atomic_int *bl_job_cancel_flag(struct bl_job *j);
/* Blocks while the job is paused; true: it is cancelled. From the thread of `run`. */
bool bl_job_checkpoint(struct bl_job *j);
/* A job that is not quiet waits for the lane. */
bool bl_job_wanted(struct bl_job *j);
/* The work stands: a cancel that came too late is forgotten, later ones are not taken. */
void bl_job_keep(struct bl_job *j);
/* From any thread of the job. Within a phase `done` only grows: the report of a slower thread changes nothing. */
void bl_job_progress(struct bl_job *j, const char *phase, double done, double total, const char *unit);
void bl_job_note(struct bl_job *j, const char *note);

#endif
