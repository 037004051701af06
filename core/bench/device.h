/* SPDX-License-Identifier: Apache-2.0
 * Operations of a device at the shapes of real models, against what the device itself can do. */
#ifndef BL_BENCH_DEVICE_H
#define BL_BENCH_DEVICE_H

#include "core/backend/engine.h"
#include "core/bench/bench.h"

struct bl_bench_device_row {
	const char *name;
	double bytes, flops;         /* that must move, must happen; hessian: of one triangle */
	struct bl_bench_times times; /* of one call */
	double floor;                /* seconds: the longer of both at the rates of the first two rows (a copy, a large product) */
	bool of_flops;               /* the floor is arithmetic */
};
typedef void bl_bench_device_fn(void *ctx, const struct bl_bench_device_row *r);
/* Checks the operations beside the CPU's, then times them. only: rows whose names contain it (and the first two); NULL: all. progress may be NULL.
 * BL_MISMATCH: an operation is wrong. Needs about 2.5 GiB of device memory. */
enum bl_status bl_bench_device(struct bl_engine *e, const char *only, int runs, bl_bench_device_fn *row, void *ctx, struct bl_progress *progress, struct bl_err *err);

#endif
