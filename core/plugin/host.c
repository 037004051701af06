/* SPDX-License-Identifier: Apache-2.0
 * What a plugin can call. The public header and the kernels describe a grid in their own words, so that either can change alone;
 * this file is where the two meet. */
#include "core/plugin/host.h"

#include <math.h>

#include "core/backend/backend.h"
#include "core/base/log.h"
#include "core/base/str.h"
#include "core/scheme/codec.h"

struct bk_grid bl_grid_of_plugin(const struct bl_grid *g)
{
	const bool mx8 = g->number == BL_GRID_MX_E4M3, e4m3 = mx8 || g->number == BL_GRID_E4M3, e2m1 = g->number == BL_GRID_E2M1, full = g->number == BL_GRID_FULL;

	return (struct bk_grid){ .number = e4m3 ? BK_E4M3 : e2m1 ? BK_E2M1 : full ? BK_FULL : BK_INT,
				 .bits = (int)g->bits,
				 .symmetric = g->symmetric || e4m3 || e2m1,
				 .group = g->group > 0 ? g->group : 0,
				 .scale = mx8 ? BK_SCALE_POW2 : e4m3 && g->group ? BK_SCALE_GIVEN : !e2m1 ? BK_SCALE_BF16 : g->group == 16 ? BK_SCALE_E4M3 : BK_SCALE_POW2 };
}

/* The number of a grid that is a table, 0: the kernels know it. */
static int book_of(const struct bl_grid *g)
{
	switch (g->number) {
	case BL_GRID_E2M1: return BL_NUM_E2M1;
	case BL_GRID_NF4:
	case BL_GRID_NF4_NESTED: return BL_NUM_NF4;
	case BL_GRID_BNB_FP4:
	case BL_GRID_BNB_FP4_NESTED: return BL_NUM_BNB_FP4;
	case BL_GRID_SCB: return BL_NUM_SCB;
	default: return 0;
	}
}

static enum bk_quotient quotient_of(enum bl_quotient q) { return q == BL_QUOTIENT_F32 ? BK_QUOTIENT_F32 : BK_QUOTIENT_BF16; }

static void host_log(int level, const char *text)
{
	bl_log(level < BL_LOG_DEBUG ? BL_LOG_DEBUG : level > BL_LOG_ERROR ? BL_LOG_ERROR : (enum bl_log_level)level, "%s", text);
}

static void host_range(float *lo, float *hi, const float *w, int64_t n_rows, int64_t cols, const struct bl_grid *g)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	bl_cpu_ops()->range(lo, hi, w, n_rows, cols, &k);
}

static void host_scales(float *scales, int8_t *zeros, const float *lo, const float *hi, int64_t n, double shrink,
			const struct bl_grid *g)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	if (book_of(g)) {
		for (int64_t i = 0; i < n; i++) {
			const float top = (float)shrink * fmaxf(fabsf(lo[i]), fabsf(hi[i]));

			bl_book_scales(&scales[i], &top, 1, book_of(g));
		}
		return;
	}
	if (g->number == BL_GRID_MX_E4M3) {
		for (int64_t i = 0; i < n; i++)
			scales[i] = bl_mx8_scale((float)shrink * fmaxf(fabsf(lo[i]), fabsf(hi[i])));
		return;
	}
	bl_cpu_ops()->scales(scales, zeros, lo, hi, n, shrink, &k);
}

static void host_encode(int8_t *codes, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
			const struct bl_grid *g, enum bl_quotient quotient)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	if (book_of(g))
		bl_book_encode(codes, w, scales, n_rows, cols, book_of(g), g->group);
	else
		bl_cpu_ops()->encode(codes, w, scales, zeros, n_rows, cols, &k, quotient_of(quotient));
}

static void host_decode(float *w_hat, const int8_t *codes, const float *scales, const int8_t *zeros, int64_t n_rows,
			int64_t cols, const struct bl_grid *g)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	if (book_of(g))
		bl_book_decode(w_hat, codes, scales, n_rows, cols, book_of(g), g->group);
	else
		bl_cpu_ops()->decode(w_hat, codes, scales, zeros, n_rows, cols, &k);
}

static void book_error(float *err, const float *w, const float *scales, int64_t n_rows, int64_t cols, const struct bl_grid *g, double norm)
{
	enum { PIECE = 64 };
	const int64_t width = g->group > 0 ? g->group : cols, n = n_rows * (cols / width);
	int8_t codes[PIECE];
	float back[PIECE];

	for (int64_t i = 0; i < n; i++) {
		double sum = 0;

		for (int64_t k = 0; k < width; k += PIECE) { /* pieces of a row have its scale; a group of 32 is one */
			const int64_t c = width - k < PIECE ? width - k : PIECE;

			bl_book_encode(codes, w + i * width + k, &scales[i], 1, c, book_of(g), 0);
			bl_book_decode(back, codes, &scales[i], 1, c, book_of(g), 0);
			for (int64_t j = 0; j < c; j++)
				sum += pow(fabs((double)(w[i * width + k + j] - back[j])), norm);
		}
		err[i] = (float)sum;
	}
}

static void host_error(float *err, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		       const struct bl_grid *g, enum bl_quotient quotient, double norm)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	if (book_of(g))
		book_error(err, w, scales, n_rows, cols, g, norm);
	else
		bl_cpu_ops()->error(err, w, scales, zeros, n_rows, cols, &k, quotient_of(quotient), norm);
}

static void host_nest(uint8_t *q, float *block_max, float *offset, const float **map, const float *values, int64_t n)
{
	bl_nest(q, block_max, offset, values, n);
	*map = bl_nest_map();
}

static void host_text(void *out, const char *text) { bl_str_add(out, text); }

struct bl_host bl_host_make(void)
{
	return (struct bl_host){
		.size = sizeof(struct bl_host),
		.log = host_log,
		.range = host_range,
		.scales = host_scales,
		.encode = host_encode,
		.decode = host_decode,
		.error = host_error,
		.text = host_text,
		.nest = host_nest,
	};
}
