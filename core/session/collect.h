/* SPDX-License-Identifier: Apache-2.0
 * A calibration for one-shot commands: data files become windows, a device of its own runs them. The workbench does the same as a job. */
#ifndef BL_SESSION_COLLECT_H
#define BL_SESSION_COLLECT_H

#include "core/calib/calib.h"

struct bl_collect_request {
	const char *const *files; size_t n_files;
	int64_t samples, seqlen;      /* windows in the order of the files, at most so many, of so many tokens */
	bool hessians;
	int64_t keep_windows;
	uint64_t memory_limit;        /* of the device; 0: none */
	uint64_t ram_limit;           /* host memory beside mapped files; 0: none. What hidden states take beyond it goes to a file in cache_dir */
	int threads;
	const char *device;           /* "auto", "cpu", "cuda:N" */
	const char *program_dir, *cache_dir;
	const atomic_int *cancel;
};
struct bl_collect_result {
	int64_t read, used, dropped, cut, windows, tokens;
	char device[160], key[65];
	char **why; size_t n_why;     /* of dropped rows, "file:line: sentence", the first twenty */
	uint64_t device_need, device_free, host_need, disk_need, disk_free; /* beside what the model's weights take */
	int stored; bool complete;    /* blocks that were in the store before */
	struct bl_calib *calib;       /* NULL after a look */
};
/* look: everything but the run. */
enum bl_status bl_collect(struct bl_collect_result *out, const struct bl_model *m, const struct bl_collect_request *rq, bool look, bl_calib_report *report, void *ctx,
			  struct bl_err *err);
void bl_collect_free(struct bl_collect_result *r);

#endif
