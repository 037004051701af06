/* SPDX-License-Identifier: Apache-2.0
 * Everything that can be timed, as a table: the bench command checks a row, then times run() over one thread's data, and divides by the floor (the
 * bytes that must move, the operations that must happen). */
#ifndef BK_BENCH_H
#define BK_BENCH_H

#include "kernels/common/check.h"
#include "kernels/ops.h"

struct bk_bench_data { /* of one thread; Gaussian weights in bf16 */
	int64_t rows, cols;
	uint16_t *w16;
	float *w, *w_hat, *lo, *hi, *scales, *err;
	int8_t *codes, *zeros;
	uint32_t *counts;
	uint16_t *list;
	uint16_t *row_max, *col_max;
	struct bk_grid grid; /* of the row that was prepared */
};

struct bk_bench_row {
	const char *op;                /* folder: "quant_rows" */
	const char *name;              /* "encode int4 g128" */
	double bytes;                  /* per element, read and written */
	double flops;                  /* per element, at least */
	struct bk_grid grid;           /* .number 0: the row has none */
	int (*check)(const struct bk_ops *ops, struct bk_check *c);
	void (*run)(const struct bk_ops *ops, struct bk_bench_data *d); /* all rows once */
};
const struct bk_bench_row *bk_bench_rows(int *n);

/* NULL when memory is exhausted. cols: a multiple of 128. */
struct bk_bench_data *bk_bench_data_new(int64_t rows, int64_t cols);
/* Fills what a row's run needs (scales, codes) with a table of functions; not timed. */
void bk_bench_prepare(struct bk_bench_data *d, const struct bk_ops *ops, const struct bk_bench_row *row);
void bk_bench_data_free(struct bk_bench_data *d);

#endif
