/* SPDX-License-Identifier: Apache-2.0
 * Matrices that live on two back ends, for the checks of one with the other. */
#ifndef BK_RUN_TWIN_H
#define BK_RUN_TWIN_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/common/num.h"
#include "kernels/run/twin_check.h"

#define KEPT 48

struct twin {
	const struct bk_side *side[2];
	struct bk_check *c;
	int big, bad;
	int plain; /* all rows start at multiples of 16 bytes */
	void *kept[2][KEPT];
	int n_kept;
};

struct dual { struct bk_mat m[2]; size_t bytes; void *base[2]; unsigned char *before; };

static inline void tell(struct twin *t, int side, int e, const char *doing)
{
	if (e && !t->bad)
		t->bad = bk_check_fail(t->c, "%s: %s: %s", t->side[side]->ops->name, doing, t->side[side]->ops->error_text(e));
}

static inline void *keep(struct twin *t, int side, size_t bytes)
{
	void *p = NULL;

	tell(t, side, t->side[side]->ops->alloc(t->side[side]->run, &p, bytes), "alloc");
	t->kept[side][t->n_kept] = p;
	return p;
}

/* The same bytes on both sides. */
static inline void put_both(struct twin *t, void *out[2], const void *src, size_t bytes)
{
	for (int s = 0; s < 2; s++) {
		out[s] = keep(t, s, bytes);
		if (!t->bad)
			tell(t, s, t->side[s]->ops->put(t->side[s]->run, out[s], src, bytes), "put");
	}
	t->n_kept++;
}

static inline size_t size_of(int dtype) { return dtype == BK_F32 ? 4 : dtype == BK_I8 || dtype == BK_F8 ? 1 : 2; }

static inline float one(struct bk_check *c, float size)
{
	const float x = (float)bk_check_gauss(c) * size;

	return bk_check_bits(c) % 61 == 0 ? 8 * x : x;
}

static inline struct dual dual_new(struct twin *t, int64_t rows, int64_t cols, int dtype, float size)
{
	struct dual d = { .bytes = 0 };
	const size_t w = size_of(dtype);
	/* half of the time rows start at multiples of 16 bytes, as real ones do */
	const int plain = bk_check_int(t->c, 0, 1) == 0 || t->plain;
	const int64_t ld = plain ? (cols + 15) / 16 * 16 : cols + bk_check_int(t->c, 0, 5);
	const size_t shift = plain ? 0 : (size_t)bk_check_int(t->c, 0, 3) * w;
	unsigned char *p;
	void *base[2];

	d.bytes = shift + (size_t)(rows * ld) * w + 32;
	p = calloc(1, d.bytes);
	if (!p) {
		t->bad = bk_check_fail(t->c, "no memory");
		return d;
	}
	for (size_t i = 0; i + w <= d.bytes; i += w) {
		const float x = one(t->c, size);
		const uint32_t u = bk_f32_bits(bk_round_bf16(x));
		const uint16_t h = (uint16_t)(u >> 16), f16 = (uint16_t)(bk_check_bits(t->c) & 0xbbff);
		uint8_t code = (uint8_t)bk_check_bits(t->c);

		if (dtype == BK_F32)
			memcpy(p + i, &x, 4);
		else if (dtype == BK_BF16)
			memcpy(p + i, &h, 2);
		else if (dtype == BK_F16)
			memcpy(p + i, &f16, 2);
		else {
			if (dtype == BK_F8 && (code & 0x7f) == 0x7f)
				code &= 0x80;
			p[i] = code;
		}
	}
	put_both(t, base, p, d.bytes);
	for (int s = 0; s < 2; s++) {
		d.base[s] = base[s];
		d.m[s] = (struct bk_mat){ (char *)base[s] + shift, rows, cols, ld, dtype };
	}
	d.before = p;
	return d;
}

static inline float value(const unsigned char *p, int dtype)
{
	uint16_t h;
	float f;

	if (dtype == BK_F32) {
		memcpy(&f, p, 4);
		return f;
	}
	if (dtype == BK_I8)
		return (float)*(const int8_t *)p;
	if (dtype == BK_F8)
		return bk_e4m3_f32(*p);
	memcpy(&h, p, 2);
	return dtype == BK_BF16 ? bk_bf16_f32(h) : bk_f16_f32(h);
}

/* rel: of the value; abs: of the root mean square. lower: only the lower triangle counts. */
static inline void compare(struct twin *t, struct dual *d, const char *what, double rel, double abs, int lower)
{
	const size_t w = size_of(d->m[0].dtype), shift = (size_t)((char *)d->m[0].p - (char *)d->base[0]);
	unsigned char *r[2] = { malloc(d->bytes), malloc(d->bytes) };
	double square = 0;
	int64_t n = 0;

	for (int s = 0; s < 2 && !t->bad; s++)
		tell(t, s, t->side[s]->ops->get(t->side[s]->run, r[s], d->base[s], d->bytes), what);
	for (int64_t i = 0; i < d->m[0].rows && !t->bad; i++)
		for (int64_t j = 0; j < (lower ? i + 1 : d->m[0].cols); j++, n++) {
			const double x = value(r[0] + shift + (size_t)(i * d->m[0].ld + j) * w, d->m[0].dtype);

			square += isfinite(x) ? x * x : 0;
		}
	abs *= n ? sqrt(square / (double)n) : 0;
	for (size_t at = 0; at + w <= d->bytes && !t->bad; at += w) {
		const int64_t k = at < shift ? -1 : (int64_t)((at - shift) / w), i = k < 0 ? -1 : k / d->m[0].ld, j = k < 0 ? 0 : k % d->m[0].ld;

		if (i < 0 || i >= d->m[0].rows || j >= d->m[0].cols) {
			if (memcmp(r[1] + at, d->before + at, w))
				t->bad = bk_check_fail(t->c, "%s: written beside the result (byte %lld)", what, (long long)at);
		} else if (!(lower && j > i)) {
			const double x = value(r[0] + at, d->m[0].dtype), y = value(r[1] + at, d->m[0].dtype);

			if (!bk_check_near(x, y, rel, abs))
				t->bad = bk_check_fail(t->c, "%s [%lld x %lld, type %d] (%lld, %lld): %.9g instead of %.9g", what, (long long)d->m[0].rows,
						       (long long)d->m[0].cols, d->m[0].dtype, (long long)i, (long long)j, y, x);
		}
	}
	free(r[0]);
	free(r[1]);
}

static inline void unchanged(struct twin *t, struct dual *d, const char *what)
{
	unsigned char *r = malloc(d->bytes);

	if (!t->bad)
		tell(t, 1, t->side[1]->ops->get(t->side[1]->run, r, d->base[1], d->bytes), what);
	if (!t->bad && memcmp(r, d->before, d->bytes))
		t->bad = bk_check_fail(t->c, "%s: an input was written over", what);
	free(r);
}

static inline int64_t size(struct twin *t, int64_t most) { return bk_check_int(t->c, 1, t->big ? most * 8 : most); }
static inline int io_type(struct twin *t) { return bk_check_int(t->c, 0, 2) ? BK_BF16 : BK_F32; }
static inline double place(int dtype) { return dtype == BK_BF16 ? 1.0 / 100 : 1e-5; }

#define BOTH(t, what, call)                                                     \
	for (int s = 0; s < 2 && !(t)->bad; s++) {                              \
		const struct bk_run_ops *ops = (t)->side[s]->ops;               \
		struct bk_run *run = (t)->side[s]->run;                         \
		tell(t, s, ops->call, what);                                    \
	}

#endif
