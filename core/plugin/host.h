/* SPDX-License-Identifier: Apache-2.0
 * The table of functions that plugins get: thin covers over the CPU kernels, the log and byte strings. */
#ifndef BL_PLUGIN_HOST_H
#define BL_PLUGIN_HOST_H

#include "core/backend/backend.h"
#include "core/plugin/plugin_api.h"

struct bl_host bl_host_make(void);
struct bk_grid bl_grid_of_plugin(const struct bl_grid *g); /* the kernels' words for a plugin's grid */

#endif
