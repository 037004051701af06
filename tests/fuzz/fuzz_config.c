/* SPDX-License-Identifier: Apache-2.0
 * Any text as config.json, with the family look-up and the rewriting into the 4.57 spelling. link: bl_model */
#include <stddef.h>
#include <stdint.h>

#include "core/base/json.h"
#include "core/base/str.h"
#include "core/model/arch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct bl_err err = BL_ERR_INIT;
	struct bl_config c;
	const struct bl_arch *arch;
	struct bl_str edits = {0};

	if (bl_config_parse(&c, (const char *)data, n, "fuzz", &err))
		return 0;
	bl_arch_find(&arch, &c, &err);
	cJSON_Delete(bl_config_v457(&c, &edits));
	bl_str_free(&edits);
	bl_config_fini(&c);
	return 0;
}
