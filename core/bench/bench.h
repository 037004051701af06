/* SPDX-License-Identifier: Apache-2.0
 * Measurements of whole jobs, each beside its baseline in the same run. Seconds are of CLOCK_MONOTONIC; every run is kept, min, median and max are told. */
#ifndef BL_BENCH_BENCH_H
#define BL_BENCH_BENCH_H

#include <stdint.h>

#include "core/session/session.h"

#define BL_BENCH_RUNS_MAX 32

struct bl_bench_times { double s[BL_BENCH_RUNS_MAX]; int n; };
double bl_bench_median(const struct bl_bench_times *t);
double bl_bench_min(const struct bl_bench_times *t);
double bl_bench_max(const struct bl_bench_times *t);

struct bl_bench_row {
	char name[32];
	uint64_t bytes;                 /* that the job moves */
	struct bl_bench_times job, baseline;
	char baseline_name[64];
	double goal;                    /* ratio job/baseline that is aimed at; 0: none */
	uint64_t anon_bytes;            /* peak resident memory beyond mapped files; 0: not sampled */
};

/* All cores read every byte of the mapped files (sums them). */
enum bl_status bl_bench_read(struct bl_bench_row *r, struct bl_session *s, int runs, struct bl_err *err);
/* Statistics of all units; baseline: the read above. */
enum bl_status bl_bench_stats(struct bl_bench_row *r, struct bl_session *s, int runs, struct bl_err *err);
/* Export of W8A8 round-to-nearest to folder/… ; baseline: one thread reads the source's bytes and writes as many bytes as the export, fsync on both
 * sides. zip: a submit.zip with its proof, else a folder without. */
enum bl_status bl_bench_export(struct bl_bench_row *r, struct bl_session *s, const char *folder, bool zip, int runs, struct bl_err *err);

#endif
