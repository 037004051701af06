/* SPDX-License-Identifier: Apache-2.0
 * Jobs of the session, from the command line. */
#include <string.h>
#include <time.h>

#include "core/session/run.h"
#include "tui/cli.h"

struct job_work { struct bl_session *s; uint64_t job; struct bl_progress progress; };

/* An interruption becomes the job's cancel. */
static enum bl_status wait_work(void *ctx, struct bl_err *err)
{
	struct job_work *w = ctx;
	struct bl_job_view v;
	char phase[sizeof v.phase] = "";

	while (bl_jobs_view(w->s->jobs, w->job, &v) && v.state < BL_JOB_DONE) {
		if (atomic_load(&w->progress.cancel))
			bl_jobs_cancel(w->s->jobs, w->job);
		if (strcmp(phase, v.phase) != 0) {
			atomic_fetch_add(&w->progress.phase, *phase != '\0');
			memcpy(phase, v.phase, sizeof phase);
		}
		atomic_store(&w->progress.total_bytes, (uint64_t)v.total);
		atomic_store(&w->progress.done_bytes, (uint64_t)v.done);
		nanosleep(&(struct timespec){0, 20000000}, NULL);
	}
	return bl_jobs_wait(w->s->jobs, w->job, err);
}

enum bl_status bl_cli_job(struct bl_cli *c, struct bl_session *s, const char *name, uint64_t job, struct bl_err *err)
{
	struct job_work w = {.s = s, .job = job};

	return bl_cli_work(c, name, wait_work, &w, &w.progress, err);
}

enum bl_status bl_cli_calibration(struct bl_cli *c, struct bl_session *s, bool needed, long long seqlen, struct bl_err *err)
{
	const char *files[BL_MANY_MAX + 16];
	struct bl_calib_request rq = {.files = (char **)(uintptr_t)files, .hessians = true, .block_inputs = true, .keep_windows = 16};
	const struct bl_options *o = &c->o;
	struct bl_err none = BL_ERR_INIT;
	long long samples, keep;

	if (bl_option_data(o, files, &rq.n_files, err))
		return err->status;
	if (!needed)
		return BL_OK;
	if (!rq.n_files) {
		if (bl_session_adopt_calib(s, NULL, &none))
			bl_fail(err, none.status == BL_NOT_FOUND ? BL_INVALID : none.status, "this needs a calibration: --data FILE... makes one (%s)", none.text);
		return err->status;
	}
	if (bl_option_int(o, BL_OPT_SAMPLES, 1, 1ll << 24, 512, &samples, err) || bl_option_int(o, BL_OPT_SEQLEN, 2, 1 << 20, seqlen, &seqlen, err) ||
	    bl_option_int(o, BL_OPT_KEEP_WINDOWS, 0, 1 << 24, 16, &keep, err) || bl_cli_size(o, BL_OPT_MEMORY_LIMIT, 1, &rq.memory_limit, err))
		return err->status;
	rq.samples = samples;
	rq.seqlen = seqlen;
	rq.keep_windows = keep;
	rq.block_inputs = keep > 0;
	return bl_cli_job(c, s, "calibrate", bl_session_calibrate(s, &rq), err);
}
