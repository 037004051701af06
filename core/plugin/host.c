/* SPDX-License-Identifier: Apache-2.0
 * What a plugin can call. The public header and the kernels describe a grid in their own words, so that either can change alone;
 * this file is where the two meet. */
#include "core/plugin/host.h"

#include "core/backend/backend.h"
#include "core/base/log.h"
#include "core/base/str.h"

struct bk_grid bl_grid_of_plugin(const struct bl_grid *g)
{
	return (struct bk_grid){ .number = g->number == BL_GRID_E4M3 ? BK_E4M3 : BK_INT,
				 .bits = (int)g->bits,
				 .symmetric = g->symmetric || g->number == BL_GRID_E4M3,
				 .group = g->group > 0 ? g->group : 0 };
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

	bl_cpu_ops()->scales(scales, zeros, lo, hi, n, shrink, &k);
}

static void host_encode(int8_t *codes, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
			const struct bl_grid *g, enum bl_quotient quotient)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	bl_cpu_ops()->encode(codes, w, scales, zeros, n_rows, cols, &k, quotient_of(quotient));
}

static void host_decode(float *w_hat, const int8_t *codes, const float *scales, const int8_t *zeros, int64_t n_rows,
			int64_t cols, const struct bl_grid *g)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	bl_cpu_ops()->decode(w_hat, codes, scales, zeros, n_rows, cols, &k);
}

static void host_error(float *err, const float *w, const float *scales, const int8_t *zeros, int64_t n_rows, int64_t cols,
		       const struct bl_grid *g, enum bl_quotient quotient, double norm)
{
	struct bk_grid k = bl_grid_of_plugin(g);

	bl_cpu_ops()->error(err, w, scales, zeros, n_rows, cols, &k, quotient_of(quotient), norm);
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
	};
}
