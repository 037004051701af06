/* SPDX-License-Identifier: Apache-2.0
 * Names and sizes of the element types, in the rank order of the official writer. */
#include "core/model/tensor.h"

#include <string.h>

static const struct { const char *name; int bytes; } dtypes[BL_DTYPE_COUNT] = {
	[BL_BOOL] = {"BOOL", 1}, [BL_U8] = {"U8", 1}, [BL_I8] = {"I8", 1}, [BL_F8_E5M2] = {"F8_E5M2", 1},
	[BL_F8_E4M3] = {"F8_E4M3", 1}, [BL_F8_E8M0] = {"F8_E8M0", 1}, [BL_I16] = {"I16", 2}, [BL_U16] = {"U16", 2},
	[BL_F16] = {"F16", 2}, [BL_BF16] = {"BF16", 2}, [BL_I32] = {"I32", 4}, [BL_U32] = {"U32", 4}, [BL_F32] = {"F32", 4},
	[BL_C64] = {"C64", 8}, [BL_F64] = {"F64", 8}, [BL_I64] = {"I64", 8}, [BL_U64] = {"U64", 8},
};

const char *bl_dtype_name(enum bl_dtype d)
{
	return (unsigned)d < BL_DTYPE_COUNT ? dtypes[d].name : "?";
}

int bl_dtype_bytes(enum bl_dtype d)
{
	return (unsigned)d < BL_DTYPE_COUNT ? dtypes[d].bytes : 0;
}

int bl_dtype_from(const char *name)
{
	for (int i = 0; i < BL_DTYPE_COUNT; i++)
		if (!strcmp(dtypes[i].name, name))
			return i;
	return -1;
}
