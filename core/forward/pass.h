/* SPDX-License-Identifier: Apache-2.0
 * A pass, for the files that work on it. */
#ifndef BL_FORWARD_PASS_H
#define BL_FORWARD_PASS_H

#include "core/forward/private.h"

struct fw_batch { int64_t first, tokens, longest; int n; int32_t *starts; }; /* starts [n + 1], from 0, in the run's memory */

struct bl_pass {
	struct bl_forward *f;
	struct bl_sequences s;
	int64_t tokens, batch_tokens; /* of the largest batch */
	struct fw_batch *batches; int n_batches;
	char *hidden;                 /* [tokens, hidden] in the run's memory, or */
	char *host;                   /* in the host's, or */
	uint64_t spilled;             /* in a mapped file: then `host` is its map, so long */
	char *bounce[2];              /* spilled: batches on their way out, pinned */
	char *turn;                   /* host: three batches in the run's memory */
	uint64_t reserve;             /* of the run's memory, for what comes beside it */
	int32_t *index;               /* positions [tokens], then the batches' starts; in the run's memory */
};

/* Hidden states first .. first+n-1 into the run's memory. */
enum bl_status fw_pass_rows(struct bl_pass *p, int64_t first, int64_t n, const struct bk_mat *dst, struct bl_err *err);

#endif
