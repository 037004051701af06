/* SPDX-License-Identifier: Apache-2.0
 * Measurements, each beside its baseline in the same run. Seconds are of CLOCK_MONOTONIC; every run is kept, min, median and max are told. All of them stop
 * with BL_CANCELLED when progress->cancel is set. */
#ifndef BL_BENCH_BENCH_H
#define BL_BENCH_BENCH_H

#include <stdint.h>

#include "core/session/session.h"

#define BL_BENCH_RUNS_MAX 32

struct bl_bench_times { double s[BL_BENCH_RUNS_MAX]; int n; };
double bl_bench_median(const struct bl_bench_times *t);
double bl_bench_min(const struct bl_bench_times *t);
double bl_bench_max(const struct bl_bench_times *t);
void bl_bench_add(struct bl_bench_times *t, uint64_t start_ns);

struct bl_bench_row {
	char name[64];
	uint64_t bytes;                 /* that the job moves */
	struct bl_bench_times job, baseline;
	char baseline_name[64];
	double goal;                    /* ratio job/baseline that is aimed at; 0: none */
	uint64_t anon_bytes;            /* peak resident memory beyond mapped files; 0: not sampled */
};

void bl_bench_row_init(struct bl_bench_row *r, const char *name, const char *baseline);

/* All cores read every byte of the mapped files (sums them). */
enum bl_status bl_bench_read(struct bl_bench_row *r, struct bl_session *s, int runs, struct bl_progress *progress, struct bl_err *err);
/* Statistics of all units; baseline: the read above. */
enum bl_status bl_bench_stats(struct bl_bench_row *r, struct bl_session *s, int runs, struct bl_progress *progress, struct bl_err *err);
/* Export of W8A8 round-to-nearest to folder/… ; baseline: one thread reads the source's bytes and writes as many bytes as the export, fsync on both
 * sides. zip: a submit.zip with its proof; else a folder, whose proof is made but not counted. */
enum bl_status bl_bench_export(struct bl_bench_row *r, struct bl_session *s, const char *folder, bool zip, int runs, struct bl_progress *progress,
			       struct bl_err *err);

/* The tokenizer of the checkpoint in `folder` on one thread; file: rows to encode, NULL: a text that is made up. */
enum bl_status bl_bench_tokenizer(struct bl_bench_row *r, const char *folder, const char *file, int runs, struct bl_progress *progress, struct bl_err *err);

/* Kernels, one thread: first checked against the obvious loops (BL_MISMATCH when they differ), then timed; baseline: a copy that moves as many bytes. */
struct bl_bench_kernels;
enum bl_status bl_bench_kernels_new(struct bl_bench_kernels **out, struct bl_err *err);
void bl_bench_kernels_free(struct bl_bench_kernels *k);
int bl_bench_kernels_count(void);
const char *bl_bench_kernels_level(void); /* "avx2": the instructions that are used */
enum bl_status bl_bench_kernel(struct bl_bench_row *r, struct bl_bench_kernels *k, int i, int runs, struct bl_progress *progress, struct bl_err *err);

#endif
