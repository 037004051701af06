/* SPDX-License-Identifier: Apache-2.0
 * Many plans of one model measured one after the other: each row's units are solved (or taken from the cache), the base runs once, what was measured is
 * kept in the cache, so that the same comparison goes on where it was stopped. */
#ifndef BL_SESSION_COMPARE_H
#define BL_SESSION_COMPARE_H

#include "core/session/run.h"

/* A row is words separated by blanks. A word that begins with the name of a scheme, SCHEME[:METHOD[,key=value...]], is for every unit; any other is
 * PATTERN=SCHEME[:METHOD...] for those that match; stage=TRANSFORM[:key=value,...] (in order), recommended (methods for the schemes so far), or a plan file (*.json),
 * which replaces what came before. Later words win. */
struct bl_compare_row {
	char *text;
	uint64_t bytes;              /* of all tensors */
	double time_ratio;           /* modelled, on the session's target */
	bool legal, needs_calibration;
	/* once done: */
	bool done, stored;           /* stored: measured before, nothing was run */
	double solve_s;              /* until the plan's weights were there, when that was done: solving, and making them */
	struct bl_eval_result r;
	char why[240];               /* not "": it could not be measured */
};
struct bl_compare { struct bl_compare_row *row; int n; struct bl_eval_result base; bool has_base; };

/* The session's plan becomes that of the row: everything in full precision, then the words. BL_USAGE names the row. */
enum bl_status bl_compare_plan(struct bl_session *s, const char *row, struct bl_err *err);
/* Looks at every row (the session's plan changes) before anything runs. *out: bl_compare_free. */
enum bl_status bl_compare_new(struct bl_compare **out, struct bl_session *s, const char *const *rows, int n, struct bl_err *err);
void bl_compare_free(struct bl_compare *c); /* NULL is fine */
/* Every method that is loaded, with the settings that are worth a look, as far as it takes the scheme: appended to *rows (bl_xgrow). with_more: stages and what is
 * recommended too. */
void bl_compare_all_methods(const struct bl_session *s, const char *scheme, bool with_more, char ***rows, size_t *n, size_t *cap);
/* Row after row, by jobs of the session, which it waits for; nobody else may use the session meanwhile, and its plan is the last row's afterwards. A row that fails
 * leaves its reason and the others go on, except when the device is gone or memory does not suffice. progress: cancel is looked at. */
enum bl_status bl_compare_run(struct bl_session *s, struct bl_compare *c, const struct bl_eval_request *rq, struct bl_progress *progress, struct bl_err *err);

/* Evaluations on disk, CACHE/evals/KEY.json. What cannot be read is not there. */
bool bl_eval_stored(struct bl_eval_result *out, double *solve_s, const char *cache_dir, const char *key);
void bl_eval_store(const struct bl_eval_result *r, double solve_s, const char *cache_dir, const char *key);

#endif
