/* SPDX-License-Identifier: Apache-2.0
 * What forward and generate share. */
#ifndef BL_SESSION_RUN_PRIVATE_H
#define BL_SESSION_RUN_PRIVATE_H

#include "core/session/measure.h"
#include "core/session/run.h"
#include "core/session/run_model.h"

struct bl_place { /* an engine with the session's model and plan on it */
	struct bl_session *s;
	struct bl_backend backend;
	struct bl_engine engine;
	bool opened;
	struct bl_weight_set set, own; /* own: of a quantized checkpoint, in another arithmetic than the server's */
	struct bl_forward *f;
};
enum bl_status bl_place_open(struct bl_place *p, struct bl_session *s, const struct bl_run_place *at, bool fp32, struct bl_err *err);
void bl_place_close(struct bl_place *p); /* also after a failed open */

enum bl_status bl_ids_read(int32_t **out, int64_t *rows, int64_t *cols, const char *path, struct bl_err *err); /* bl_free */

#endif
