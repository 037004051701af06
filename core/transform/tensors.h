/* SPDX-License-Identifier: Apache-2.0
 * Tensors of a block after its operations. */
#ifndef BL_TRANSFORM_TENSORS_H
#define BL_TRANSFORM_TENSORS_H

#include "core/base/pool.h"
#include "core/transform/private.h"

struct fold_rows { int64_t row0, n; enum bl_fold_pair pair; bool scaled; }; /* of a tensor: made by a pair, which scales them or only orders them */
struct fold_tensor {
	const struct bl_tensor *from;
	struct bl_tensor t;           /* the same with other bytes; data owned */
	int block;
	const struct bl_ops *ops;
	bool norm, plus_one;          /* a norm's weights: n elements that scale the reader's input */
	int columns;                  /* enum bl_fold_pair read by its columns, -1: none */
	struct fold_rows rows[2]; int n_rows;
};
/* The tensors of a block that its operations change, appended. */
void fold_tensors_of(struct fold_tensor **all, int *n, size_t *cap, const struct bl_model *m, int block, const struct bl_ops *ops);
enum bl_status fold_tensors_make(struct fold_tensor *all, int n, const struct bl_model *m, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err);

#endif
