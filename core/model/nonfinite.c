/* SPDX-License-Identifier: Apache-2.0
 * A value is not finite when all its exponent bits are set: whole blocks are tested with one comparison each, without converting anything. */
#include "core/model/nonfinite.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 2048

static bool block16(const void *data, int n, uint16_t mask)
{
	uint16_t v[BLOCK], bad = 0;

	memcpy(v, data, sizeof v[0] * (size_t)n); /* the map gives no alignment */
	for (int i = 0; i < n; i++)
		bad |= (uint16_t)((v[i] & mask) == mask);
	return bad;
}

static bool block32(const void *data, int n)
{
	uint32_t v[BLOCK], bad = 0;

	memcpy(v, data, sizeof v[0] * (size_t)n);
	for (int i = 0; i < n; i++)
		bad |= (v[i] & 0x7f800000u) == 0x7f800000u;
	return bad;
}

static bool bad_block(const uint8_t *data, enum bl_dtype d, int n)
{
	return d == BL_F32 ? block32(data, n) : block16(data, n, d == BL_BF16 ? 0x7f80 : 0x7c00);
}

int64_t bl_first_nonfinite(const void *data, enum bl_dtype d, int64_t n)
{
	const uint8_t *p = data;
	int64_t size = bl_dtype_bytes(d);

	if (d != BL_BF16 && d != BL_F16 && d != BL_F32)
		return -1;
	for (int64_t i = 0; i < n; i += BLOCK) {
		int m = n - i < BLOCK ? (int)(n - i) : BLOCK;
		if (!bad_block(p + i * size, d, m))
			continue;
		for (int k = 0; k < m; k++)
			if (bad_block(p + (i + k) * size, d, 1))
				return i + k;
	}
	return -1;
}

const char *bl_nonfinite_name(const void *data, enum bl_dtype d, int64_t i)
{
	uint32_t v = 0;
	int size = bl_dtype_bytes(d);

	memcpy(&v, (const uint8_t *)data + i * size, (size_t)size);
	uint32_t mantissa = d == BL_F32 ? 0x7fffffu : d == BL_BF16 ? 0x7fu : 0x3ffu;
	return v & mantissa ? "NaN" : v >> (8 * size - 1) ? "-Inf" : "Inf";
}

char *bl_place(char dst[48], const struct bl_tensor *t, int64_t i)
{
	if (t->rank == 2 && t->shape[1] > 0)
		snprintf(dst, 48, "[%lld,%lld]", (long long)(i / t->shape[1]), (long long)(i % t->shape[1]));
	else
		snprintf(dst, 48, "[%lld]", (long long)i);
	return dst;
}

enum bl_status bl_refuse_nonfinite(const struct bl_tensor *t, int64_t at, struct bl_err *err)
{
	char place[48];

	return bl_fail(err, BL_INVALID, "%s: %s at %s; fix the checkpoint or store zeros (allow-nonfinite)", t->name,
		       bl_nonfinite_name(t->data, t->dtype, at), bl_place(place, t, at));
}
