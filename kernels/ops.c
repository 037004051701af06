/* SPDX-License-Identifier: Apache-2.0
 * The tables of kernels/ops.h and the choice between them. */
#include "kernels/ops.h"

#include "kernels/load_rows/load_rows.h"
#include "kernels/quant_rows/quant_rows.h"
#include "kernels/weight_stats/weight_stats.h"

#define OPS(level)                                                                                       \
	.size = sizeof(struct bk_ops), .load_rows = bk_load_rows_##level, .range = bk_range_##level,      \
	.scales = bk_scales_##level, .encode = bk_encode_##level, .decode = bk_decode_##level,            \
	.error = bk_error_##level, .sum_squares = bk_sum_squares_##level, .count16 = bk_count16_##level, \
	.pass32 = bk_pass32_##level, .pass32_central = bk_pass32_central_##level

static const struct bk_ops ops_ref = { .name = "ref", OPS(ref) };
static const struct bk_ops ops_base = { .name = "base", OPS(base) };
#ifdef BK_HAVE_X86
static const struct bk_ops ops_v3 = { .name = "avx2", OPS(v3) };
static const struct bk_ops ops_v4 = { .name = "avx512", OPS(v4) };
#endif

const struct bk_ops *bk_ops_ref(void) { return &ops_ref; }

#ifdef BK_HAVE_X86
static int runs_v3(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
	       __builtin_cpu_supports("popcnt");
}

static int runs_v4(void)
{
	return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
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
#endif
	return NULL;
}

const struct bk_ops *bk_ops_cpu(void)
{
#ifdef BK_HAVE_X86
	if (runs_v4())
		return &ops_v4;
	if (runs_v3())
		return &ops_v3;
#endif
	return &ops_base;
}
