/* SPDX-License-Identifier: Apache-2.0
 * A Hessian and its factor on the CPU, and matrices with their columns in another order. The factor is made in double (float32 beyond 16384 columns, where
 * double would not fit beside the rest). */
#include "kernels/solve/solve_cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DOUBLE_MAX_COLS 16384

void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void spotrf_(const char *uplo, const int *n, float *a, const int *lda, int *info);

struct permute_args { const struct bk_mat *dst, *h; const int32_t *order; double damp, dead; };

static void permute_rows(void *arg, size_t tile)
{
	const struct permute_args *a = arg;
	const int64_t k = a->h->cols;

	for (int64_t i = (int64_t)tile * TILE; i < k && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t j = 0; j <= i; j++) {
			const int64_t p = a->order ? a->order[i] : i, q = a->order ? a->order[j] : j;
			float v = p >= q ? row_f(a->h, p)[q] : row_f(a->h, q)[p];

			if (i == j)
				v = (float)((v == 0 ? a->dead : (double)v) + a->damp);
			row_f(a->dst, i)[j] = v;
		}
}

static void mirror_rows(void *arg, size_t tile)
{
	const struct permute_args *a = arg;
	const int64_t k = a->dst->cols;

	for (int64_t i = (int64_t)tile * TILE; i < k && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t j = i + 1; j < k; j++)
			row_f(a->dst, i)[j] = row_f(a->dst, j)[i];
}

int bk_cpu_solve_permute_sym(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *h, const int32_t *order, double damp, double dead)
{
	struct permute_args a = { dst, h, order, damp, dead };

	if (h->rows != h->cols || dst->rows != h->rows || dst->cols != h->cols || (order && dst->p == h->p))
		return BK_RUN_REFUSED;
	run(s, tiles_of(h->rows), permute_rows, &a);
	run(s, tiles_of(h->rows), mirror_rows, &a);
	return 0;
}

/* With J the reversal of indices, J h J = L Lᵀ and R = J L J. */
static void flip(float *p, int64_t k, int64_t ld)
{
	for (int64_t i = 0; i < (k + 1) / 2; i++)
		for (int64_t j = 0; j < k && (i != k - 1 - i || j < k - 1 - j); j++) {
			float *a = p + i * ld + j, *b = p + (k - 1 - i) * ld + (k - 1 - j), t = *a;

			*a = *b;
			*b = t;
		}
}

/* column-major "U" is the row-major lower triangle */
static int factor_wide(const struct bk_mat *h, int *info)
{
	const int64_t k = h->cols;
	const int n = (int)k;
	double *d = malloc((size_t)(k * k) * sizeof *d);

	if (!d)
		return BK_RUN_NO_MEMORY;
	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j <= i; j++)
			d[i * k + j] = row_f(h, k - 1 - i)[k - 1 - j];
	dpotrf_("U", &n, d, &n, info);
	for (int64_t i = 0; i < k && !*info; i++)
		for (int64_t j = 0; j < k; j++)
			row_f(h, i)[j] = j < i ? 0 : (float)d[(k - 1 - i) * k + (k - 1 - j)];
	free(d);
	return 0;
}

static void factor_in_place(const struct bk_mat *h, int *info)
{
	const int64_t k = h->cols;
	const int n = (int)k, ld = (int)h->ld;

	flip(row_f(h, 0), k, h->ld);
	spotrf_("U", &n, row_f(h, 0), &ld, info);
	flip(row_f(h, 0), k, h->ld);
	for (int64_t i = 1; i < k; i++)
		memset(row_f(h, i), 0, (size_t)i * sizeof(float));
}

int bk_cpu_solve_factor(const struct bk_solve *s, const struct bk_mat *h, int *failed)
{
	const int64_t k = h->cols;
	int info = 0, error = 0;

	(void)s;
	if (h->rows != k || k < 1 || k > INT32_MAX / 2)
		return BK_RUN_REFUSED;
	if (k <= DOUBLE_MAX_COLS)
		error = factor_wide(h, &info);
	else
		factor_in_place(h, &info);
	if (error)
		return error;
	*failed = info != 0;
	for (int64_t i = 0; i < k && !*failed; i++)
		*failed = !(row_f(h, i)[i] > 0 && isfinite(row_f(h, i)[i]));
	return 0;
}

struct cols_args { const struct bk_mat *dst, *src; const int32_t *order; int back; };

static void move_cols(void *arg, size_t tile)
{
	const struct cols_args *a = arg;
	const bool f32 = a->dst->dtype == BK_F32;

	for (int64_t i = (int64_t)tile * TILE; i < a->dst->rows && i < (int64_t)(tile + 1) * TILE; i++)
		for (int64_t j = 0; j < a->dst->cols; j++) {
			const int64_t to = a->back ? a->order[j] : j, from = a->back ? j : a->order[j];

			if (f32)
				row_f(a->dst, i)[to] = row_f(a->src, i)[from];
			else if (a->dst->dtype == BK_BF16)
				row_h(a->dst, i)[to] = row_h(a->src, i)[from];
			else
				row_c(a->dst, i)[to] = row_c(a->src, i)[from];
		}
}

int bk_cpu_solve_permute_cols(const struct bk_solve *s, const struct bk_mat *dst, const struct bk_mat *src, const int32_t *order, int back)
{
	struct cols_args a = { dst, src, order, back };

	if (dst->rows != src->rows || dst->cols != src->cols || dst->dtype != src->dtype || dst->p == src->p || !order)
		return BK_RUN_REFUSED;
	run(s, tiles_of(dst->rows), move_cols, &a);
	return 0;
}
