/* SPDX-License-Identifier: Apache-2.0
 * The numbers of a fold on disk: CACHE/folds/KEY.bin, so that the same stages on the same calibration are the same bytes wherever libm rounds otherwise. */
#ifndef BL_TRANSFORM_STORE_H
#define BL_TRANSFORM_STORE_H

#include "core/transform/private.h"

#define FOLD_PRODUCER 2 /* counts up when stages come to other numbers: part of the key */

/* ops: [layers], empty before. BL_NOT_FOUND: not there; BL_MISMATCH: damaged, or of something else. */
enum bl_status fold_load(struct bl_ops *ops, const struct bl_model *m, const char *cache_dir, const char *key, struct bl_err *err);
void fold_save(const struct bl_ops *ops, const struct bl_model *m, const char *cache_dir, const char *key); /* what goes wrong is logged */

#endif
