/* SPDX-License-Identifier: Apache-2.0
 * The proof: an independent reader of a finished checkpoint (folder or zip), whoever wrote it. It shares no code with the exporters. Checks: container rules,
 * package (one top folder model/, no links, no slip names, limits), config, the tensor set that the quantization config promises for every linear (complete, nothing
 * surplus), dtypes, shapes, finite scales, no zero scales, codes not constant, tied head, zeros that config.json promises, target rules; with a base model it dequantizes everything
 * and compares. */
#ifndef BL_EXPORT_VERIFY_H
#define BL_EXPORT_VERIFY_H

#include <stdatomic.h>

#include "core/base/pool.h"
#include "core/model/model.h"
#include "core/plan/target.h"

struct bl_progress;
struct bl_verify_file { char *name; uint64_t bytes; char sha256[65]; };
struct bl_finding { bool fatal; char *where; char *sentence; }; /* where: file, module or tensor */

struct bl_verify_result {
	int64_t tensors;                 /* in the checkpoint */
	int64_t linears, quantized;      /* linears of the model; of them quantized */
	uint64_t bytes_total;
	struct bl_verify_file *files; int n_files;
	struct bl_finding *findings; int n_findings, n_fatal;
	char format[64];
	char **unit_schemes; int n_units; /* canonical scheme names as found, "?" when not understood; order of the model's units */
	int64_t undecoded;               /* quantized linears whose numbers are not read here: nothing is proved of them */
	bool compared;                   /* a base was given */
	int64_t proved_tensors;          /* compared with the base */
	double max_abs_error;            /* max |w - w^| over quantized linears */
	double max_step_error;           /* max |w - w^| / scale */
	double relative_error;           /* ||W - W^|| / ||W|| over quantized linears */
	int64_t pruned_elems, zeros;     /* weights of linears that config.json says were pruned; how many are 0 */
	double coverage;                 /* share of the base's elements that were compared, 0..1 */
};

struct bl_verify_request {
	const char *path;                /* folder or .zip */
	const struct bl_model *base;     /* may be NULL */
	const struct bl_target *target;  /* may be NULL: no target rules */
	struct bl_pool *pool;
	struct bl_progress *progress;    /* may be NULL */
	bool want_sha256;
	bool strict;                     /* what is not quantized must be the base's bytes (our own exports) */
	bool allow_nonfinite;            /* full-precision values that are not finite are no mismatch */
	double max_step;                 /* > 0: an integer code further than this many steps from its weight is a mismatch */
	/* Where full precision was meant to change: the values that were meant, in the place of the base's. NULL: nowhere. */
	const struct bl_tensor *(*instead)(void *ctx, const struct bl_tensor *base);
	void *instead_ctx;
	bool as_zip;                     /* treat path as a zip whatever it is called (else: by its first bytes) */
};
/* BL_OK when it could be examined (look at n_fatal), an error when not even that (missing, not a checkpoint, hostile). */
enum bl_status bl_verify_run(struct bl_verify_result *out, const struct bl_verify_request *rq, struct bl_err *err);
void bl_verify_result_free(struct bl_verify_result *r);

#endif
