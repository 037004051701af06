/* SPDX-License-Identifier: Apache-2.0
 * The table of what can be timed. */
#include "kernels/bench.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/common/num.h"

#define BK_BENCH_FEW 8192 /* elements looked at together */

static void run_load(const struct bk_ops *ops, struct bk_bench_data *d)
{
	(void)ops->load_rows(d->w, d->w16, BK_BF16, d->rows * d->cols);
}

static void run_range(const struct bk_ops *ops, struct bk_bench_data *d) { ops->range(d->lo, d->hi, d->w, d->rows, d->cols, &d->grid); }

static void run_encode(const struct bk_ops *ops, struct bk_bench_data *d)
{
	ops->encode(d->codes, d->w, d->scales, d->zeros, d->rows, d->cols, &d->grid, BK_QUOTIENT_BF16);
}

static void run_decode(const struct bk_ops *ops, struct bk_bench_data *d)
{
	ops->decode(d->w_hat, d->codes, d->scales, d->zeros, d->rows, d->cols, &d->grid);
}

static void run_error(const struct bk_ops *ops, struct bk_bench_data *d)
{
	ops->error(d->err, d->w, d->scales, d->zeros, d->rows, d->cols, &d->grid, BK_QUOTIENT_BF16, 2.4);
}

static void run_sum_squares(const struct bk_ops *ops, struct bk_bench_data *d)
{
	double w2 = 0, e2 = 0;

	ops->sum_squares(&w2, &e2, d->w, d->w_hat, d->rows * d->cols);
}

/* As statistics do it: a few rows at a time. */
static void run_look16(const struct bk_ops *ops, struct bk_bench_data *d)
{
	double sums[4] = { 0 };
	uint64_t below = 0;
	int64_t few = BK_BENCH_FEW / d->cols > 1 ? BK_BENCH_FEW / d->cols : 1;

	memset(d->counts, 0, 65536 * sizeof(*d->counts)); /* so that no number of runs overflows */
	for (int64_t r = 0; r < d->rows; r += few) {
		int64_t n = d->rows - r < few ? d->rows - r : few;
		const uint16_t *w = d->w16 + r * d->cols;

		if (ops->sweep16 && d->cols % BK_RUN == 0) {
			n = ops->sweep16(d->row_max + r, d->col_max, sums, d->list, &below, w, n, d->cols, 0x3b00); /* 0x3b00: 2^-9 */
			ops->tally16(d->counts, d->list, n < 0 ? 0 : n, 0);
			continue;
		}
		(void)ops->tops16(d->row_max + r, d->col_max, w, n, d->cols, 0x7f80);
		if (ops->lists) {
			n = ops->look16(sums, d->list, &below, w, BK_BF16, n * d->cols, 0, 0x3b00, 0);
			ops->tally16(d->counts, d->list, n, 0);
		} else {
			ops->tally16(d->counts, w, n * d->cols, 2 * n * d->cols);
		}
	}
}

#define NONE   { .number = 0 }
#define INT8   { .number = BK_INT, .bits = 8, .symmetric = 1 }
#define INT4   { .number = BK_INT, .bits = 4, .symmetric = 1, .group = 128 }
#define ASYM4  { .number = BK_INT, .bits = 4, .group = 128 }
#define E4M3   { .number = BK_E4M3, .bits = 8, .symmetric = 1 }
#define Q(what, b, f, g, fn) { .op = "quant_rows", .name = what, .bytes = b, .flops = f, .grid = g, .check = bk_quant_rows_check, .run = fn }

static const struct bk_bench_row rows[] = {
	{ .op = "load_rows", .name = "load bf16", .bytes = 6, .flops = 0, .grid = NONE, .check = bk_load_rows_check, .run = run_load },
	Q("range channel", 4, 2, INT8, run_range),
	Q("range g128", 4, 2, INT4, run_range),
	Q("encode int8 channel", 5, 4, INT8, run_encode),
	Q("encode int4 g128", 5, 4, INT4, run_encode),
	Q("encode int4 asym g128", 5, 5, ASYM4, run_encode),
	Q("encode e4m3 channel", 5, 4, E4M3, run_encode),
	Q("decode int4 g128", 5, 1, INT4, run_decode),
	Q("decode e4m3 channel", 5, 1, E4M3, run_decode),
	Q("error int4 g128 norm 2.4", 4, 30, INT4, run_error),
	Q("sum of squares", 8, 5, INT4, run_sum_squares),
	{ .op = "weight_stats", .name = "look bf16", .bytes = 2, .flops = 8, .grid = NONE, .check = bk_weight_stats_check, .run = run_look16 },
};

const struct bk_bench_row *bk_bench_rows(int *n)
{
	*n = (int)(sizeof(rows) / sizeof(*rows));
	return rows;
}

struct bk_bench_data *bk_bench_data_new(int64_t n_rows, int64_t cols)
{
	struct bk_bench_data *d = calloc(1, sizeof(*d));
	struct bk_check random = { .state = 1 };
	size_t n = (size_t)(n_rows * cols), ns = (size_t)(n_rows * (cols / 128 + 1));

	if (!d)
		return NULL;
	d->rows = n_rows;
	d->cols = cols;
	d->w16 = calloc(n, sizeof(*d->w16));
	d->w = calloc(n, sizeof(*d->w));
	d->w_hat = calloc(n, sizeof(*d->w_hat));
	d->lo = calloc(ns, sizeof(*d->lo));
	d->hi = calloc(ns, sizeof(*d->hi));
	d->scales = calloc(ns, sizeof(*d->scales));
	d->err = calloc(ns, sizeof(*d->err));
	d->codes = calloc(n, 1);
	d->zeros = calloc(ns, 1);
	d->list = calloc((size_t)(n_rows * cols) + BK_LIST_ROOM, sizeof(*d->list));
	d->counts = calloc(65536, sizeof(*d->counts));
	d->row_max = calloc((size_t)n_rows, sizeof(*d->row_max));
	d->col_max = calloc((size_t)cols, sizeof(*d->col_max));
	if (!d->w16 || !d->w || !d->w_hat || !d->lo || !d->hi || !d->scales || !d->err || !d->codes || !d->zeros || !d->list || !d->counts ||
	    !d->row_max || !d->col_max) {
		bk_bench_data_free(d);
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		d->w16[i] = (uint16_t)(bk_f32_bits(bk_round_bf16(0.02f * (float)bk_check_gauss(&random))) >> 16);
	return d;
}

void bk_bench_prepare(struct bk_bench_data *d, const struct bk_ops *ops, const struct bk_bench_row *row)
{
	d->grid = row->grid;
	(void)ops->load_rows(d->w, d->w16, BK_BF16, d->rows * d->cols);
	if (!d->grid.number)
		return;
	ops->range(d->lo, d->hi, d->w, d->rows, d->cols, &d->grid);
	ops->scales(d->scales, d->zeros, d->lo, d->hi, d->rows * (d->grid.group ? d->cols / d->grid.group : 1), 1, &d->grid);
	ops->encode(d->codes, d->w, d->scales, d->zeros, d->rows, d->cols, &d->grid, BK_QUOTIENT_BF16);
	ops->decode(d->w_hat, d->codes, d->scales, d->zeros, d->rows, d->cols, &d->grid);
}

void bk_bench_data_free(struct bk_bench_data *d)
{
	if (!d)
		return;
	free(d->w16);
	free(d->w);
	free(d->w_hat);
	free(d->lo);
	free(d->hi);
	free(d->scales);
	free(d->err);
	free(d->codes);
	free(d->zeros);
	free(d->list);
	free(d->counts);
	free(d->row_max);
	free(d->col_max);
	free(d);
}
