/* SPDX-License-Identifier: Apache-2.0
 * What a quantized checkpoint computes with: its codes decoded as a client does, or the codes themselves where the client multiplies those. */
#ifndef BL_SESSION_STORED_H
#define BL_SESSION_STORED_H

#include "core/forward/weights.h"
#include "core/session/session.h"

/* One entry per unit, NULL for units in full precision; freed with bl_measure_weights_free. */
enum bl_status bl_stored_weights(struct bl_weight_set *out, const struct bl_model *m, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err);
/* Those of the session's model, made when they are first asked for and kept; *out NULL: it is not quantized. From any thread. */
enum bl_status bl_session_stored(struct bl_session *s, const struct bl_weight_set **out, struct bl_err *err);
/* The same in an arithmetic, `room` freed with bl_measure_weights_free once nothing runs with it. */
enum bl_status bl_session_own(struct bl_session *s, enum bl_arithmetic a, struct bl_weight_set *room, const struct bl_weight_set **out, struct bl_err *err);
/* n codes of a scheme, the first at element `at`, as the run multiplies them (in place too: w->codes + at). */
void bl_codes_to_run(struct bl_unit_weights *w, const struct bl_scheme *s, const int8_t *codes, int64_t at, int64_t n);
void bl_session_stored_fini(struct bl_session *s);
/* Whether two checkpoints of one shape have the same norms, embedding and head, so that one's quantized units can stand in for the other's; BL_INVALID names what differs. */
enum bl_status bl_same_rest(const struct bl_model *base, const struct bl_model *quantized, struct bl_err *err);

#endif
