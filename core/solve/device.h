/* SPDX-License-Identifier: Apache-2.0
 * The functions of plugin_api.h's struct bl_device, on an engine. */
#ifndef BL_SOLVE_DEVICE_H
#define BL_SOLVE_DEVICE_H

#include "core/backend/engine.h"
#include "core/plugin/plugin_api.h"
#include "kernels/solve/solve.h"

#define BL_DEVICE_BLOCKS 256 /* allocations a plugin may hold at once */

struct bl_solve_device {
	struct bl_device device;  /* handed to the plugin; device.host points here */
	struct bl_engine *engine;
	struct bk_solve solve;
	const struct bk_solve_ops *ops;
	const atomic_int *cancel;
	float global;             /* what the unit's scales are in units of; 0: they are what they are */
	void *given;              /* [rows, spr] scales that rows share, in the engine's memory: they are neither sought nor refitted. NULL: none */
	size_t given_bytes;
	bool refit_asked;         /* of scales that are given */
	void *blocks[BL_DEVICE_BLOCKS];
	int error;                /* the first that an operation gave; 0 */
	char why[200];
};
void bl_solve_device_init(struct bl_solve_device *d, struct bl_engine *e, const atomic_int *cancel);
void bl_solve_device_fini(struct bl_solve_device *d); /* releases what the plugin left */

#endif
