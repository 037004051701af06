/* SPDX-License-Identifier: Apache-2.0
 * Operations of a CUDA device at the shapes of real models, against what the device itself can do. */
#ifndef BL_BENCH_DEVICE_H
#define BL_BENCH_DEVICE_H

#include <stdbool.h>

#include "core/bench/bench.h"

struct bl_bench_device_row {
	const char *name;
	double bytes, flops;         /* that must move, must happen; hessian: of one triangle */
	struct bl_bench_times times; /* of one call */
	double floor;                /* seconds: the longer of both at the rates of the first two rows (a copy, a large product) */
	bool of_flops;               /* the floor is arithmetic */
};

struct bl_bench_device {
	const char *program_dir; /* where the module is */
	const char *device;      /* NULL: "cuda" */
	const char *only;        /* rows whose names contain it, and the first two; NULL: all */
	int runs;
	void (*named)(void *ctx, const char *device); /* once it is open; may be NULL */
	void (*row)(void *ctx, const struct bl_bench_device_row *r);
	void *ctx;
};
/* Checks the operations beside the CPU's, then times them. progress may be NULL. BL_NO_DEVICE: there is none; BL_MISMATCH: an operation is wrong. Needs
 * about 2.5 GiB of device memory. */
enum bl_status bl_bench_device(const struct bl_bench_device *d, struct bl_progress *progress, struct bl_err *err);

#endif
