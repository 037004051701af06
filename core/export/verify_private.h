/* SPDX-License-Identifier: Apache-2.0
 * Shared by the parts of the proof. */
#ifndef BL_EXPORT_VERIFY_PRIVATE_H
#define BL_EXPORT_VERIFY_PRIVATE_H

#include "core/export/package.h"
#include "core/export/verify.h"
#include "core/format/format.h"

/* How one linear is stored and where its parts are. */
struct bl_stored {
	const struct bl_member *member;      /* of the checkpoint's own model (names, sizes) */
	const struct bl_member *base;        /* NULL without a base */
	const struct bl_linear *base_coded;  /* where the base is quantized itself */
	struct bl_linear l;                  /* format NULL: full precision */
	bool understood;                     /* values can be decoded here */
	const struct bl_tensor *codes, *scale, *input; /* what findings name; input: scale of a static one */
	/* results, filled by row pieces under the lock of bl_values_run */
	double w2, e2, max_abs, max_step;
	int code_min, code_max;
	bool bad;                            /* a finding was made */
	double claim; int claim_n, claim_m;  /* part of the weights that is promised to be 0, and n of how many neighbours; 0: nothing */
	int64_t zeros, astray;               /* how many are; groups of neighbours that have too few */
};

struct bl_verifier {
	const struct bl_verify_request *rq;
	struct bl_verify_result *r;
	struct bl_package package;
	struct bl_model *model;              /* the checkpoint itself, opened from the package */
	struct bl_source *base_source;       /* of a base that is quantized itself; else NULL */
	struct bl_quant q;                   /* format NULL: not quantized, or by a method that is not known */
	bool is_ct, comparable;              /* comparable: there is a base, and it has the same shape */
	struct bl_stored *stored; int n_stored;
	int *unit_of;                        /* stored index -> unit */
};

void bl_finding_add(struct bl_verify_result *r, bool fatal, const char *where, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* verify_tensors.c: the tensor set of every linear and of the rest; fills v->stored. */
void bl_check_tensors(struct bl_verifier *v);
/* verify_claims.c: what config.json promises of zeros, into v->stored; what was found of it */
void bl_claims_read(struct bl_verifier *v);
void bl_claims_check(struct bl_verifier *v);
/* zero [n]: whether a weight is 0; n: whole groups of neighbours. Adds to both. */
void bl_claims_count(const struct bl_stored *s, const bool *zero, int64_t n, int64_t *zeros, int64_t *astray);
/* verify_values.c: hashes, checksums, values; one pool run. */
enum bl_status bl_values_run(struct bl_verifier *v, struct bl_err *err);

#endif
