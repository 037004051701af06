/* SPDX-License-Identifier: Apache-2.0
 * The bench command's two files: what is measured in this process (bench.c), and the program itself in a pseudo-terminal (bench_keys.c). */
#ifndef BL_TUI_BENCH_H
#define BL_TUI_BENCH_H

#include <stdatomic.h>

#include "core/bench/bench.h"
#include "tui/cli.h"

struct bench {
	struct bl_cli *c;
	struct bl_session *s;
	const char *model, *folder;
	char home[64];                  /* of the programs that are started: their settings and state */
	int runs;
	struct bl_progress progress;
	cJSON *list;
};

static inline bool bl_bench_stopped(const struct bench *b)
{
	return atomic_load(&b->progress.cancel) != 0;
}

enum bl_status bl_bench_report(struct bench *b, const struct bl_bench_row *r, struct bl_err *err);

/* First frame; key to frame while statistics, an export, a calibration run. */
enum bl_status bl_bench_frame(struct bench *b, struct bl_err *err);
enum bl_status bl_bench_keys_stats(struct bench *b, struct bl_err *err);
enum bl_status bl_bench_keys_export(struct bench *b, struct bl_err *err);
enum bl_status bl_bench_keys_calibrate(struct bench *b, struct bl_err *err);

#endif
