/* SPDX-License-Identifier: Apache-2.0
 * config.json as it is exported: the source's in the 4.57 spelling, the plan's edits, the exporter's quantization_config. Sorted keys, indent 2. */
#ifndef BL_EXPORT_CONFIG_OUT_H
#define BL_EXPORT_CONFIG_OUT_H

#include "core/base/str.h"
#include "core/export/export.h"

enum bl_status bl_config_out(struct bl_str *out, struct bl_str *edits, const struct bl_export_request *rq, const struct bl_exporter *x,
			     const struct bl_x_plan *plan, struct bl_err *err);

#endif
