/* SPDX-License-Identifier: Apache-2.0
 * A tensor: a named, shaped, typed view of bytes that somebody else keeps alive. Row-major, little-endian. */
#ifndef BL_MODEL_TENSOR_H
#define BL_MODEL_TENSOR_H

#include <stdint.h>

#define BL_RANK_MAX 8

/* Rank order of the official safetensors writer: higher values are written first. */
enum bl_dtype {
	BL_BOOL, BL_U8, BL_I8, BL_F8_E5M2, BL_F8_E4M3, BL_F8_E8M0, BL_I16, BL_U16, BL_F16, BL_BF16,
	BL_I32, BL_U32, BL_F32, BL_C64, BL_F64, BL_I64, BL_U64, BL_DTYPE_COUNT
};
const char *bl_dtype_name(enum bl_dtype d); /* "BF16" */
int bl_dtype_bytes(enum bl_dtype d);
int bl_dtype_from(const char *name);        /* -1: unknown */

struct bl_tensor {
	const char *name;      /* borrowed */
	enum bl_dtype dtype;
	int rank;
	int64_t shape[BL_RANK_MAX];
	int64_t n_elems;       /* product of shape; 1 for rank 0 */
	uint64_t bytes;
	const void *data;      /* into the map; alignment not guaranteed beyond the element size, and not even that */
	int file;              /* index into bl_model.files, or 0 */
	uint64_t offset;       /* from the start of that file */
};

#endif
