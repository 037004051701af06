/* SPDX-License-Identifier: Apache-2.0
 * Scales that are found over more than a row: one per linear, one per square of rows and columns, or the number that a unit's small scales are in units of. They
 * are what plain rounding takes, from the weights as they lie in the engine's memory; methods get them where they ask for scales. */
#ifndef BL_SOLVE_SHARED_H
#define BL_SOLVE_SHARED_H

#include "core/model/model.h"
#include "core/scheme/scheme.h"
#include "core/solve/device.h"

/* Sets d->global or d->given (engine memory, the caller's to release); neither for a scheme whose scales are of rows. w: all rows of the unit, finite. */
enum bl_status bl_shared_find(struct bl_solve_device *d, const struct bl_scheme *s, const struct bl_unit *u, const struct bk_mat *w, struct bl_err *err);

#endif
