/* SPDX-License-Identifier: Apache-2.0
 * Any text as model.safetensors.index.json. link: bl_model */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/model/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_file_list l = {0};

	if (bl_index_parse(&l, (const char *)data, n, "fuzz", &err))
		return 0;
	for (size_t i = 0; i < l.n; i++)
		if (!bl_path_is_inside(l.names[i]) || strchr(l.names[i], '/'))
			abort(); /* a name that leads out of the folder got through */
	bl_file_list_free(&l);
	return 0;
}
