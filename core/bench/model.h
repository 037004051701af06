/* SPDX-License-Identifier: Apache-2.0
 * The model as a whole on its device: a forward over many windows and its Hessians, as a share of what one large product reaches there in the same minute;
 * and what a person waits for after an edit, through the session as the screens use it. */
#ifndef BL_BENCH_MODEL_H
#define BL_BENCH_MODEL_H

#include "core/bench/bench.h"

enum { BL_BENCH_FORWARD = 1, BL_BENCH_HESSIAN = 2, BL_BENCH_LIVE_ERROR = 4, BL_BENCH_LIVE_KL = 8 };

struct bl_bench_model_row {
	const char *name;
	struct bl_bench_times times; /* of one */
	double flops, peak;          /* operations that one has to do; of a large product, per second */
	double goal;                 /* share of the peak, or (seconds) the longest wait */
	bool seconds;
	char what[160];
};

struct bl_bench_model {
	const char *program_dir, *device; /* NULL: auto */
	const char *model;                /* folder of the checkpoint */
	const char *folder;               /* where calibrations may be kept for a while */
	int threads, runs;
	unsigned which;
	void (*named)(void *ctx, const char *device, double peak);
	void (*row)(void *ctx, const struct bl_bench_model_row *r);
	void *ctx;
};
/* Tokens are random numbers: no tokenizer is needed. On a GPU 512 windows of 1024 for the forward and 16 kept ones for edits; few and short ones on a CPU. */
enum bl_status bl_bench_model(const struct bl_bench_model *b, struct bl_progress *progress, struct bl_err *err);

#endif
