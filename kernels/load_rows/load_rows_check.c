/* SPDX-License-Identifier: Apache-2.0
 * load_rows against the reference: bits must be equal (any NaN for a NaN), over random lengths and all 65536 patterns. */
#include <math.h>
#include <string.h>

#include "kernels/common/check.h"
#include "kernels/load_rows/load_rows.h"

static int one(const struct bk_ops *ops, struct bk_check *c, enum bk_dtype d, int64_t n, int all_patterns)
{
	size_t bytes = d == BK_F32 ? 4 : 2;
	unsigned char *src = bk_check_alloc((size_t)n * bytes, 1);
	float *a = bk_check_alloc((size_t)n * 4, 4), *b = bk_check_alloc((size_t)n * 4, 4);
	int odd_a, odd_b, bad = 0;

	for (int64_t i = 0; i < n; i++) {
		uint32_t u = all_patterns ? (uint32_t)i : (uint32_t)bk_check_bits(c);

		if (!all_patterns && d == BK_BF16 && (u & 0x7f80) == 0x7f80)
			u &= 0xbfff; /* mostly finite input, else the flag is never seen to be 0 */
		if (!all_patterns && d == BK_F16 && (u & 0x7c00) == 0x7c00)
			u &= 0xbfff;
		memcpy(src + (size_t)i * bytes, &u, bytes);
	}
	odd_a = ops->load_rows(a, src, d, n);
	odd_b = bk_load_rows_ref(b, src, d, n);
	if (!odd_a != !odd_b)
		bad = bk_check_fail(c, "load_rows: non-finite flag %d instead of %d", odd_a, odd_b);
	for (int64_t i = 0; i < n && !bad; i++)
		if (memcmp(&a[i], &b[i], 4) != 0 && !(isnan(a[i]) && isnan(b[i])))
			bad = bk_check_fail(c, "load_rows type %d: element %lld is %g instead of %g", (int)d, (long long)i, (double)a[i], (double)b[i]);
	if (!bk_check_free(a))
		bad = bk_check_fail(c, "load_rows wrote behind its end");
	bk_check_free(b);
	bk_check_free(src);
	return bad;
}

int bk_load_rows_check(const struct bk_ops *ops, struct bk_check *c)
{
	for (int d = BK_BF16; d <= BK_F32; d++) {
		if (d != BK_F32 && one(ops, c, d, 65536, 1))
			return 1;
		for (int i = 0; i < 20; i++)
			if (one(ops, c, d, bk_check_int(c, 0, 300), 0))
				return 1;
	}
	return 0;
}
