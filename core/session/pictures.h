/* SPDX-License-Identifier: Apache-2.0
 * Pictures of one unit that take a look at all of its weights: made in the background when a screen asks, the newest of each kind kept. */
#ifndef BL_SESSION_PICTURES_H
#define BL_SESSION_PICTURES_H

#include "core/session/run.h"

#define BL_MAP_ROWS 64
#define BL_MAP_COLS 128

/* Relative error of every output channel under a choice, [unit's rows]: of the output when there are Hessians, else of the weights alone (methods that solve rows).
 * NULL unless YES. */
enum bl_known bl_session_row_errors(struct bl_session *s, int unit, const struct bl_choice *c, const float **rel, bool *weights_only, char why[160]);
/* rms of W in *rows x *cols blocks of equal size (the last ones may be smaller), row-major, outputs downwards. NULL unless YES. */
enum bl_known bl_session_weight_map(struct bl_session *s, int unit, const float **rms, int *rows, int *cols, char why[160]);

#endif
