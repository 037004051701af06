/* SPDX-License-Identifier: Apache-2.0
 * Actions about the model that runs: calibrate, evaluate, take up what is stored, pause. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "tui/app_private.h"

#define JOBS_SHOWN 64

bool bl_app_find_job(const struct bl_app *app, const char *kind, struct bl_job_view *out)
{
	struct bl_job_view jobs[JOBS_SHOWN];
	int n = app->session ? bl_jobs_list(app->session->jobs, jobs, JOBS_SHOWN) : 0;

	for (int i = 0; i < n && i < JOBS_SHOWN; i++)
		if (jobs[i].state < BL_JOB_DONE && !jobs[i].quiet && bl_starts_with(jobs[i].name, kind)) {
			*out = jobs[i];
			return true;
		}
	return false;
}

/* One of a kind at a time: a second one would only wait and then do the same again. */
bool bl_job_in_the_way(struct bl_app *app, const char *kind)
{
	struct bl_job_view j;

	if (!bl_app_find_job(app, kind, &j))
		return false;
	bl_app_message(app, BL_MSG_WARN, "%s is %s already · C-c cancels it, P pauses it and lets it go on", j.name,
		       j.state == BL_JOB_PAUSED ? "paused" : j.state == BL_JOB_QUEUED ? "queued" : "running");
	return true;
}

bool bl_start_calibration(struct bl_app *app)
{
	struct bl_calib_request *r = bl_app_calib_form(app);
	const struct bl_preflight *p;

	if (!r->n_files) {
		bl_app_message(app, BL_MSG_ERROR, "no data to calibrate with · a adds a file on the form (c), or :calibrate FILE");
		return false;
	}
	if (bl_job_in_the_way(app, "calibrate"))
		return false;
	p = bl_session_preflight(app->session, r);
	if (p->known == BL_KNOWN_REFUSED) {
		bl_app_message(app, BL_MSG_ERROR, "calibrate: %s", p->why);
		return false;
	}
	bl_app_save_forms(app);
	bl_app_answered(app);
	bl_session_calibrate(app->session, r);
	return true;
}

bool bl_start_evaluation(struct bl_app *app)
{
	struct bl_eval_request *r = bl_app_eval_form(app);

	if (!r->ppl && !r->kl && !r->mcq) {
		bl_app_message(app, BL_MSG_ERROR, "nothing to measure on · Space on ppl, kl or mcq names a file, or :evaluate ppl=FILE");
		return false;
	}
	if (bl_job_in_the_way(app, "evaluate"))
		return false;
	bl_app_save_forms(app);
	bl_app_answered(app);
	bl_session_evaluate(app->session, r);
	return true;
}

unsigned bl_do_calibrate(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;

	if (!*arg)
		bl_app_push(app, "calibrate", NULL);
	else if (bl_calib_form_parse(bl_app_calib_form(app), arg, &err))
		bl_app_message_err(app, &err);
	else if (bl_start_calibration(app))
		bl_app_message(app, BL_MSG_INFO, "calibration queued: the line above shows how far it is, C-c asks to cancel");
	return BL_REACT_REDRAW;
}

unsigned bl_do_evaluate(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;

	if (!*arg)
		bl_app_push(app, "evaluate", NULL);
	else if (bl_eval_form_parse(bl_app_eval_form(app), arg, &err))
		bl_app_message_err(app, &err);
	else if (bl_start_evaluation(app))
		bl_app_message(app, BL_MSG_INFO, "evaluation queued: e shows the result when it is there");
	return BL_REACT_REDRAW;
}

unsigned bl_do_adopt(struct bl_app *app, const char *arg)
{
	struct bl_err err = BL_ERR_INIT;

	if (bl_session_adopt_calib(app->session, *arg ? arg : NULL, &err) == BL_OK)
		bl_app_message(app, BL_MSG_INFO, "calibration %s taken up: layer errors are true ones now", bl_session_calib_title(app->session));
	else if (err.status == BL_NOT_FOUND)
		bl_app_message(app, BL_MSG_WARN, "%s · c makes one", err.text);
	else
		bl_app_message_err(app, &err);
	return BL_REACT_REDRAW;
}

/* The job that pausing is about: the paused one, else the longest that runs or waits. */
static bool job_to_pause(const struct bl_app *app, bool paused, struct bl_job_view *out)
{
	struct bl_job_view jobs[JOBS_SHOWN];
	int n = bl_jobs_list(app->session->jobs, jobs, JOBS_SHOWN), found = -1;

	for (int i = (n < JOBS_SHOWN ? n : JOBS_SHOWN) - 1; i >= 0; i--) {
		bool is = paused ? jobs[i].state == BL_JOB_PAUSED || jobs[i].pausing
				 : jobs[i].pausable && jobs[i].state < BL_JOB_PAUSED; /* others on the list of jobs, while they wait */

		if (is && !jobs[i].quiet && (found < 0 || jobs[i].state > jobs[found].state))
			found = i;
	}
	if (found >= 0)
		*out = jobs[found];
	return found >= 0;
}

unsigned bl_do_resume(struct bl_app *app, const char *arg)
{
	struct bl_job_view j;

	(void)arg;
	if (!job_to_pause(app, true, &j)) {
		bl_app_message(app, BL_MSG_INFO, "nothing is paused · J lists the jobs");
	} else {
		bl_jobs_resume(app->session->jobs, j.id);
		bl_app_message(app, BL_MSG_INFO, "%s goes on", j.name);
	}
	return BL_REACT_REDRAW;
}

unsigned bl_do_pause(struct bl_app *app, const char *arg)
{
	struct bl_job_view j;

	if (job_to_pause(app, true, &j))
		return bl_do_resume(app, arg);
	if (!job_to_pause(app, false, &j))
		bl_app_message(app, BL_MSG_INFO, "nothing runs that can be paused · J lists the jobs");
	else if (bl_jobs_pause(app->session->jobs, j.id))
		bl_app_message(app, BL_MSG_INFO, "%s: pausing (P goes on)", j.name);
	else
		bl_app_message(app, BL_MSG_WARN, "%s cannot be paused now · C-c cancels it", j.name);
	return BL_REACT_REDRAW;
}
