/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a safetensors file: refused or understood, never out of bounds. link: bl_model */
#include <stddef.h>
#include <stdint.h>

#include "core/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_st st;
	uint64_t sum = 0;

	if (bl_st_parse(&st, data, n, "fuzz", &err))
		return 0;
	for (int64_t i = 0; i < st.n_tensors; i++) /* every byte handed out must be ours */
		for (uint64_t k = 0; k < st.tensors[i].bytes; k++)
			sum += ((const uint8_t *)st.tensors[i].data)[k];
	bl_st_close(&st);
	return sum == UINT64_MAX;
}
