/* SPDX-License-Identifier: Apache-2.0
 * Shared by the files of this plugin. */
#ifndef GPTQ_H
#define GPTQ_H

#include "core/plugin/plugin_api.h"

enum gptq_kind { GPTQ_V1, GPTQ_V2, GPTQ_AUTO_ROUND };

const char *gptq_config(const struct bl_x_plan *p, const struct bl_host *host, void *out, enum gptq_kind kind);
/* An unsigned code's zero point as it is stored; NULL, or why it cannot be. */
const char *gptq_stored_zero(int zero, uint32_t bits, enum gptq_kind kind, uint32_t *out);

#endif
