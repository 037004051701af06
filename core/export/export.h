/* SPDX-License-Identifier: Apache-2.0
 * From plan to files: a folder or a submit.zip (model/ at its root, stored entries, zip64 when needed). Streaming: rows are read from the map, solved, packed
 * and written at their final offset by all cores; memory is a few buffers per thread. Everything is written under a hidden temporary name, read back and
 * proved, and only then renamed. The same plan gives the same bytes. Rerunning after a kill gives the same bytes too; leftovers of dead runs are removed. */
#ifndef BL_EXPORT_EXPORT_H
#define BL_EXPORT_EXPORT_H

#include <stdatomic.h>

#include "core/base/pool.h"
#include "core/export/verify.h"
#include "core/plan/plan.h"
#include "core/plan/target.h"
#include "core/plugin/registry.h"
#include "core/solve/solve.h"

struct bl_progress { /* written by the job, read by the screen */
	atomic_uint_fast64_t done_bytes, total_bytes; /* of the current phase */
	atomic_int phase;                             /* 0 write, 1 prove */
	atomic_int cancel;                            /* set by the reader */
	const atomic_int *cancel_from;                 /* NULL, or the flag that is looked at instead: that of a job */
};

/* What the work looks at before every piece; NULL: it cannot be cancelled. */
static inline const atomic_int *bl_progress_cancel(const struct bl_progress *p)
{
	return !p ? NULL : p->cancel_from ? p->cancel_from : &p->cancel;
}

struct bl_export_request {
	const struct bl_model *model;
	const struct bl_plan *plan;           /* a copy owned by the job */
	const struct bl_registry *registry;
	const struct bl_target *target;
	const char *out;                      /* folder, or file ending in .zip */
	const char *format;                   /* NULL: the plan's */
	bool overwrite;                       /* an existing result may be replaced (by rename, after the proof) */
	bool ignore_rules;                    /* write although the target refuses (warned, exit code stays 0) */
	uint64_t part_bytes;                  /* split into file parts beyond this; 0: 5 GB like the hub */
	struct bl_pool *pool;
	struct bl_progress *progress;         /* may be NULL */
	int64_t seed;
	struct bl_solved *const *solved;      /* [n_units], for methods that solve whole units; NULL: that one is not solved yet. NULL: none is */
	const float *input_absmax;            /* [n_units], for static activations: largest |input| of the calibration; NaN: unknown. NULL: no calibration */
};

struct bl_export_file { char *name; uint64_t bytes; char sha256[65]; }; /* name as inside model/ */
struct bl_export_result {
	struct bl_export_file *files; int n_files;
	uint64_t bytes_total, package_bytes;  /* sum of files; size of the zip or the same */
	int64_t tensors;
	int n_unsolved;                       /* units that must be solved before this can be written */
	char format[64];
	struct bl_str edits;                  /* config edits, one per line */
	struct bl_verify_result proof;
	double seconds_write, seconds_prove;
};
/* What would be written and whether it can be: names, sizes, space, legality; touches nothing. BL_RULE when the target refuses. */
enum bl_status bl_export_preview(struct bl_export_result *out, const struct bl_export_request *rq, struct bl_err *err);
enum bl_status bl_export_run(struct bl_export_result *out, const struct bl_export_request *rq, struct bl_err *err);
void bl_export_result_free(struct bl_export_result *r);

#endif
