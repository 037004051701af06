/* SPDX-License-Identifier: Apache-2.0
 * The CUDA kernels against the CPU reference: codes must be the same bytes, sums close. Shapes are odd, some rows hold what breaks
 * rounding. Needs a device; the caller has opened the module. */
#include "kernels/cuda/cuda_check.h"

#include <math.h>
#include <string.h>

#include "kernels/common/num.h"

struct gpu {
	const struct bk_cuda_ops *ops;
	struct bk_check *c;
	void *stream;
	void *d[8];
	int n;
	int error; /* the first one */
};

static void *gpu_alloc(struct gpu *g, size_t bytes)
{
	void *d = NULL;

	if (!g->error)
		g->error = g->ops->alloc(&d, bytes ? bytes : 1);
	if (!g->error)
		g->d[g->n++] = d;
	return d;
}

static void *gpu_in(struct gpu *g, const void *src, size_t bytes)
{
	void *d = gpu_alloc(g, bytes);

	if (!g->error && bytes)
		g->error = g->ops->copy_in(d, src, bytes, g->stream);
	return d;
}

static void gpu_out(struct gpu *g, void *dst, const void *d, size_t bytes)
{
	if (!g->error && bytes)
		g->error = g->ops->copy_out(dst, d, bytes, g->stream);
	if (!g->error)
		g->error = g->ops->wait(g->stream);
}

static int gpu_close(struct gpu *g, int bad)
{
	for (int i = 0; i < g->n; i++)
		g->ops->release(g->d[i]);
	if (g->stream)
		g->ops->stream_free(g->stream);
	return g->error ? bk_check_fail(g->c, "CUDA: %s", g->ops->error_text(g->error)) : bad;
}

static void fill(struct bk_check *c, unsigned char *raw, enum bk_dtype dtype, int64_t n, int odd)
{
	float size = ldexpf(1, (int)bk_check_int(c, -10, 2));

	if (bk_check_int(c, 0, 3) == 0)
		size = bk_check_int(c, 0, 1) ? 0x1p-128f : 0x1p120f;
	for (int64_t i = 0; i < n; i++) {
		float x = (float)bk_check_gauss(c) * size;
		uint32_t u;
		uint16_t h;

		if (bk_check_int(c, 0, 9) == 0)
			x = bk_check_int(c, 0, 1) ? -0.0f : size / 2;
		if (odd && bk_check_int(c, 0, 99) == 0)
			x = bk_check_int(c, 0, 1) ? NAN : -INFINITY;
		u = bk_f32_bits(x);
		h = (uint16_t)(u >> 16);
		if (dtype == BK_F16) /* any finite half; non-finite ones where asked for */
			h = isfinite(x) ? (uint16_t)(bk_check_bits(c) & 0xbbff) : 0x7c01;
		if (dtype == BK_F32)
			memcpy(raw + 4 * i, &u, 4);
		else
			memcpy(raw + 2 * i, &h, 2);
	}
}

static int encode_once(const struct bk_cuda_ops *ops, struct bk_check *c, struct bk_grid grid, enum bk_dtype dtype)
{
	static const int64_t widths[] = { 1, 3, 4, 16, 30, 32, 128 };
	struct gpu g = { .ops = ops, .c = c };
	int64_t rows = bk_check_int(c, 1, 9), spr = bk_check_int(c, 1, 5), width = widths[bk_check_int(c, 0, 6)], cols, n, ns;
	enum bk_quotient quotient = bk_check_int(c, 0, 1) ? BK_QUOTIENT_F32 : BK_QUOTIENT_BF16;
	unsigned char *raw;
	float *w, *lo, *hi, *s;
	int8_t *z, *q, *q_ref;
	const struct bk_ops *ref = bk_ops_ref();
	size_t size = dtype == BK_F32 ? 4 : 2;
	void *d_w, *d_s, *d_z, *d_q;
	int bad = 0;

	grid.group = bk_check_int(c, 0, 1) ? width : 0;
	cols = grid.group ? width * spr : bk_check_int(c, 1, 5000);
	n = rows * cols;
	ns = rows * (grid.group ? spr : 1);
	raw = bk_check_alloc((size_t)n * size, 0);
	w = bk_check_alloc((size_t)n * 4, 4);
	lo = bk_check_alloc((size_t)ns * 4, 4);
	hi = bk_check_alloc((size_t)ns * 4, 4);
	s = bk_check_alloc((size_t)ns * 4, 4);
	z = bk_check_alloc((size_t)ns, 1);
	q = bk_check_alloc((size_t)n, 1);
	q_ref = bk_check_alloc((size_t)n, 1);
	fill(c, raw, dtype, n, 0);
	(void)ref->load_rows(w, raw, dtype, n);
	ref->range(lo, hi, w, rows, cols, &grid);
	ref->scales(s, grid.symmetric ? NULL : z, lo, hi, ns, 1, &grid);
	ref->encode(q_ref, w, s, grid.symmetric ? NULL : z, rows, cols, &grid, quotient);
	g.error = ops->stream_new(&g.stream);
	d_w = gpu_in(&g, raw, (size_t)n * size);
	d_s = gpu_in(&g, s, (size_t)ns * 4);
	d_z = gpu_in(&g, z, (size_t)ns);
	d_q = gpu_alloc(&g, (size_t)n);
	if (!g.error)
		g.error = ops->encode(d_q, d_w, dtype, d_s, grid.symmetric ? NULL : d_z, rows, cols, &grid, quotient, g.stream);
	gpu_out(&g, q, d_q, (size_t)n);
	for (int64_t i = 0; i < n && !g.error && !bad; i++)
		if (q[i] != q_ref[i])
			bad = bk_check_fail(c, "CUDA encode: code %lld of %g is %d instead of %d (%d bits, type %d)", (long long)i, (double)w[i], q[i],
					    q_ref[i], grid.bits, (int)dtype);
	bk_check_free(raw);
	bk_check_free(w);
	bk_check_free(lo);
	bk_check_free(hi);
	bk_check_free(s);
	bk_check_free(z);
	bk_check_free(q);
	bk_check_free(q_ref);
	return gpu_close(&g, bad);
}

static int moments_once(const struct bk_cuda_ops *ops, struct bk_check *c, enum bk_dtype dtype)
{
	struct gpu g = { .ops = ops, .c = c };
	int64_t n = bk_check_int(c, 0, 3) ? bk_check_int(c, 0, 3000) : bk_check_int(c, 0, 3000000);
	size_t size = dtype == BK_F32 ? 4 : 2;
	unsigned char *raw = bk_check_alloc((size_t)n * size, 0);
	float *w = bk_check_alloc((size_t)n * 4, 4);
	struct bk_moments want = { .min = INFINITY, .max = -INFINITY }, got = { 0 };
	void *d_w, *d_work, *d_out;
	int bad = 0;

	fill(c, raw, dtype, n, 1);
	(void)bk_ops_ref()->load_rows(w, raw, dtype, n);
	for (int64_t i = 0; i < n; i++) {
		if (!isfinite(w[i])) {
			want.n_nonfinite++;
			continue;
		}
		want.sum += w[i];
		want.sum2 += (double)w[i] * w[i];
		want.min = fminf(want.min, w[i]);
		want.max = fmaxf(want.max, w[i]);
	}
	g.error = ops->stream_new(&g.stream);
	d_w = gpu_in(&g, raw, (size_t)n * size);
	d_work = gpu_alloc(&g, ops->moments_work_bytes);
	d_out = gpu_alloc(&g, sizeof(got));
	if (!g.error)
		g.error = ops->moments(d_out, d_work, d_w, dtype, n, g.stream);
	gpu_out(&g, &got, d_out, sizeof(got));
	if (!g.error && (got.n_nonfinite != want.n_nonfinite || got.min != want.min || got.max != want.max ||
			 !bk_check_near(got.sum2, want.sum2, 1e-6, 0) ||
			 !bk_check_near(got.sum, want.sum, 0, 1e-6 * sqrt(want.sum2 * (double)(n + 1)))))
		bad = bk_check_fail(c, "CUDA moments of %lld: %g, %g, %g .. %g, %llu instead of %g, %g, %g .. %g, %llu", (long long)n, got.sum,
				    got.sum2, (double)got.min, (double)got.max, (unsigned long long)got.n_nonfinite, want.sum, want.sum2,
				    (double)want.min, (double)want.max, (unsigned long long)want.n_nonfinite);
	bk_check_free(raw);
	bk_check_free(w);
	return gpu_close(&g, bad);
}

/* What is outside the contract must be refused, not launched. */
static int refusals(const struct bk_cuda_ops *ops, struct bk_check *c)
{
	struct bk_grid g = { .number = BK_INT, .bits = 4, .symmetric = 1, .group = 48 }, asym = { .number = BK_INT, .bits = 4 };

	if (ops->encode(NULL, NULL, BK_BF16, NULL, NULL, 1, 100, &g, BK_QUOTIENT_BF16, NULL) != BK_CUDA_REFUSED ||
	    ops->encode(NULL, NULL, BK_BF16, NULL, NULL, 1, 100, &asym, BK_QUOTIENT_BF16, NULL) != BK_CUDA_REFUSED ||
	    ops->moments(NULL, NULL, (void *)2, BK_BF16, 10, NULL) != BK_CUDA_REFUSED)
		return bk_check_fail(c, "CUDA: a call outside the contract was not refused");
	return 0;
}

int bk_cuda_check(const struct bk_cuda_ops *ops, struct bk_check *c)
{
	if (refusals(ops, c))
		return 1;
	for (int dtype = BK_BF16; dtype <= BK_F32; dtype++) {
		for (int bits = 2; bits <= 8; bits++)
			for (int symmetric = 0; symmetric < 2; symmetric++)
				if (encode_once(ops, c, (struct bk_grid){ .number = BK_INT, .bits = bits, .symmetric = symmetric }, dtype))
					return 1;
		for (int i = 0; i < 4; i++)
			if (encode_once(ops, c, (struct bk_grid){ .number = BK_E4M3, .bits = 8, .symmetric = 1 }, dtype))
				return 1;
		for (int i = 0; i < 4; i++)
			if (moments_once(ops, c, dtype))
				return 1;
	}
	return 0;
}
