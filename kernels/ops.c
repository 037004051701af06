/* SPDX-License-Identifier: Apache-2.0
 * The tables of kernels/ops.h and the choice between them. */
#include "kernels/ops.h"

#include "kernels/load_rows/load_rows.h"
#include "kernels/quant_rows/quant_rows.h"
#include "kernels/weight_stats/weight_stats.h"

#define MOST(level)                                                                                             \
	.size = sizeof(struct bk_ops), .load_rows = bk_load_rows_##level, .range = bk_range_##level,             \
	.scales = bk_scales_##level, .encode = bk_encode_##level, .decode = bk_decode_##level,                   \
	.error = bk_error_##level, .sum_squares = bk_sum_squares_##level, .tops16 = bk_tops16_##level,           \
	.ends16 = bk_ends16_##level, .extremes32 = bk_extremes32_##level,                                        \
	.list32 = bk_list32_##level, .bins32 = bk_bins32_##level, .above = bk_above_##level,                     \
	.central = bk_central_##level
#define OPS(level) MOST(level), .tally16 = bk_tally16_##level, .powers = bk_powers_##level, .look16 = bk_look16_##level

static const struct bk_ops ops_ref = { .name = "ref", OPS(ref) };
static const struct bk_ops ops_base = { .name = "base", OPS(base) };
#ifdef BK_HAVE_X86
static const struct bk_ops ops_v3 = { .name = "avx2", OPS(v3) };
static const struct bk_ops ops_v4 = { .name = "avx512", OPS(v4) };
static const struct bk_ops ops_vbmi2 = { .name = "avx512vbmi2", MOST(v4), .lists = 1, .tally16 = bk_tally16_loads, .powers = bk_powers_vbmi2,
					 .look16 = bk_look16_vbmi2, .sweep16 = bk_sweep16_vbmi2 };
#endif

const struct bk_ops *bk_ops_ref(void) { return &ops_ref; }

#ifdef BK_HAVE_X86
static int runs_v3(void)
{
	__builtin_cpu_init();
	/* f16c is older than avx2 and comes with fma; not every compiler can ask for it */
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
	       __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

static int runs_v4(void)
{
	return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static int runs_vbmi2(void) { return runs_v4() && __builtin_cpu_supports("avx512vbmi2"); }
#endif

const struct bk_ops *bk_ops_level(int i)
{
	if (i == 0)
		return &ops_base;
#ifdef BK_HAVE_X86
	if (i == 1 && runs_v3())
		return &ops_v3;
	if (i == 2 && runs_v4())
		return &ops_v4;
	if (i == 3 && runs_vbmi2())
		return &ops_vbmi2;
#endif
	return NULL;
}

const struct bk_ops *bk_ops_cpu(void)
{
#ifdef BK_HAVE_X86
	if (runs_vbmi2())
		return &ops_vbmi2;
	if (runs_v4())
		return &ops_v4;
	if (runs_v3())
		return &ops_v3;
#endif
	return &ops_base;
}
