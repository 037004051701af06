/* SPDX-License-Identifier: Apache-2.0
 * What the check of every operation needs: random numbers that are the same everywhere, memory whose end is guarded, and a place for the
 * sentence that says what differs. A check compares a table of functions with the obvious loops on random odd shapes and unaligned
 * addresses; it returns 0 when they agree, else 1 with a sentence in why. */
#ifndef BK_COMMON_CHECK_H
#define BK_COMMON_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

struct bk_check {
	uint64_t state; /* of the random numbers */
	char why[256];
};

uint64_t bk_check_bits(struct bk_check *c);
int64_t bk_check_int(struct bk_check *c, int64_t lo, int64_t hi); /* inclusive */
double bk_check_unit(struct bk_check *c);                         /* [0, 1) */
double bk_check_gauss(struct bk_check *c);
int bk_check_fail(struct bk_check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* n bytes that start at an odd multiple of `align` and end at a guard; free with bk_check_free, which returns 0 when the
 * guard was written over. */
void *bk_check_alloc(size_t n, size_t align);
int bk_check_free(void *p);

/* ulp-free comparison: |a - b| <= rel * max(|a|, |b|) + abs; two NaNs are equal */
int bk_check_near(double a, double b, double rel, double abs);

int bk_load_rows_check(const struct bk_ops *ops, struct bk_check *c);
int bk_quant_rows_check(const struct bk_ops *ops, struct bk_check *c);
int bk_weight_stats_check(const struct bk_ops *ops, struct bk_check *c);

#endif
