/* SPDX-License-Identifier: Apache-2.0
 * The solvers on the CPU: tiles of rows over threads, each tile with its own matrix products, so that no result depends on how many threads there are. Here:
 * the loss that they lower. */
#include "kernels/solve/solve_cpu.h"

#include <stdlib.h>

struct loss_args { double *loss; const struct bk_mat *d, *h; int no_memory; };

static void loss_tile(void *arg, size_t tile)
{
	struct loss_args *a = arg;
	const int64_t row0 = (int64_t)tile * TILE, n = a->d->rows - row0 < TILE ? a->d->rows - row0 : TILE, cols = a->d->cols;
	float *c = malloc((size_t)(TILE * cols) * sizeof *c);

	if (!c) {
		__atomic_store_n(&a->no_memory, 1, __ATOMIC_RELAXED);
		return;
	}
	bk_cpu_product(c, cols, row_f(a->d, row0), a->d->ld, row_f(a->h, 0), a->h->ld, n, cols, cols, 1, 0);
	for (int64_t i = 0; i < n; i++) {
		double sum = 0;

		for (int64_t k = 0; k < cols; k++)
			sum += (double)c[i * cols + k] * row_f(a->d, row0 + i)[k];
		a->loss[row0 + i] = sum;
	}
	free(c);
}

static int loss(const struct bk_solve *s, double *out, const struct bk_mat *d, const struct bk_mat *h)
{
	struct loss_args a = { out, d, h, 0 };

	if (h->rows != d->cols || h->cols != d->cols)
		return BK_RUN_REFUSED;
	run(s, tiles_of(d->rows), loss_tile, &a);
	return a.no_memory ? BK_RUN_NO_MEMORY : 0;
}

static const struct bk_solve_ops ops = {
	.size = sizeof(struct bk_solve_ops),
	.permute_sym = bk_cpu_solve_permute_sym,
	.factor = bk_cpu_solve_factor,
	.permute_cols = bk_cpu_solve_permute_cols,
	.scale_search = bk_cpu_solve_scale_search,
	.round = bk_cpu_solve_round,
	.descend = bk_cpu_solve_descend,
	.refit = bk_cpu_solve_refit,
	.loss = loss,
	.diff = bk_cpu_solve_diff,
	.nonfinite = bk_cpu_solve_nonfinite,
	.diagonal = bk_cpu_solve_diagonal,
	.solve_rows = bk_cpu_solve_solve_rows,
	.over_rms = bk_cpu_solve_over_rms,
	.add_scaled = bk_cpu_solve_add_scaled,
	.prune = bk_cpu_solve_prune,
	.select = bk_cpu_solve_select,
	.absmax = bk_cpu_solve_absmax,
	.difference = bk_cpu_solve_difference,
	.feed = bk_cpu_solve_feed,
};

const struct bk_solve_ops *bk_solve_cpu(void) { return &ops; }
