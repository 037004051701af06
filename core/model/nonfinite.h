/* SPDX-License-Identifier: Apache-2.0
 * Where the first NaN or infinity stands. */
#ifndef BL_MODEL_NONFINITE_H
#define BL_MODEL_NONFINITE_H

#include "core/base/err.h"
#include "core/model/tensor.h"

/* Index of the first value that is not finite among n of them, -1: none, or not a plain float type. */
int64_t bl_first_nonfinite(const void *data, enum bl_dtype d, int64_t n);
/* "NaN", "Inf" or "-Inf": what value i is. */
const char *bl_nonfinite_name(const void *data, enum bl_dtype d, int64_t i);
/* "[17,204]": place i of the tensor as people count it; dst >= 48 bytes. */
char *bl_place(char dst[48], const struct bl_tensor *t, int64_t i);
/* The refusal of value `at` of the tensor: what it is, where, and what to do. BL_INVALID. */
enum bl_status bl_refuse_nonfinite(const struct bl_tensor *t, int64_t at, struct bl_err *err);

#endif
