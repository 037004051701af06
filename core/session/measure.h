/* SPDX-License-Identifier: Apache-2.0
 * One evaluation from request to result: files read, the plan's weights solved, base and plan run side by side. Called from the thread that owns the
 * device (a job of the session, or the command line's worker). */
#ifndef BL_SESSION_MEASURE_H
#define BL_SESSION_MEASURE_H

#include "core/session/run.h"

/* The plan's choices as weights to run with: solved by all threads. Entries of units that stay as they are are NULL. */
enum bl_status bl_measure_weights(struct bl_weight_set *out, struct bl_session *s, const struct bl_plan *plan, const atomic_int *cancel, struct bl_err *err);
void bl_measure_weights_free(struct bl_weight_set *w);
/* Every unit of it in transformers' arithmetic: out, freed like w, which may go first. */
enum bl_status bl_weights_transformers(struct bl_weight_set *out, const struct bl_weight_set *w, struct bl_pool *pool, struct bl_err *err);

/* plan NULL, or one that changes nothing: the base alone (has_plan false). KL is then left out. */
enum bl_status bl_measure_run(struct bl_eval_result *out, struct bl_session *s, struct bl_forward *f, const struct bl_plan *plan, const struct bl_eval_request *rq,
			      bl_eval_report *report, void *ctx, struct bl_err *err);

/* The same for plan after plan: files are read once, and the base runs once as far as `cap` bytes of host memory keep what it gave. The forward may be another
 * one each time, on the same device. */
struct bl_measure;
enum bl_status bl_measure_open(struct bl_measure **out, struct bl_session *s, const struct bl_eval_request *rq, uint64_t cap, struct bl_err *err);
enum bl_status bl_measure_one(struct bl_eval_result *out, struct bl_measure *m, struct bl_forward *f, const struct bl_plan *plan, bl_eval_report *report, void *ctx,
			      struct bl_err *err);
/* Digest of what is measured and how: files as they were read, windows, questions, the token that ends an answer (64 hex). */
void bl_measure_digest(const struct bl_measure *m, char hex[65]);
void bl_measure_close(struct bl_measure *m); /* NULL is fine */

/* Largest |input| of every unit over the windows of the files, into absmax [n_units]: what static activations need when there is no calibration. */
enum bl_status bl_measure_ranges(float *absmax, struct bl_session *s, struct bl_forward *f, const char *const *files, size_t n_files, int64_t windows, int64_t len,
				 bl_eval_report *report, void *ctx, struct bl_err *err);

/* All of it with a device of its own, for one-shot commands. data: ranges for static activations (n_data 0: those of a stored calibration). */
struct bl_measure_request {
	struct bl_eval_request eval;
	const char *device;                        /* "auto", "cpu", "cuda:N" */
	const char *program_dir;
	const char *const *data; size_t n_data; int64_t samples, seqlen;
	const char *quantized;                     /* NULL, or a quantized checkpoint that takes the place of the plan */
};
enum bl_status bl_measure_alone(struct bl_eval_result *out, struct bl_session *s, const struct bl_measure_request *rq, const atomic_int *cancel,
				bl_eval_report *report, void *ctx, struct bl_err *err);

#endif
