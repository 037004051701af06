/* SPDX-License-Identifier: Apache-2.0
 * The inner loops of powers and look16 for vectors of W 32-bit lanes and the instruction set TARGET; included by powers_cpu.c once for each.
 * The includer defines HALVES, KEEP and MADD(a, b, c) = a b + c. */
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define vecu  CAT(vecu, W)
#define vecs  CAT(vecs, W)
#define vecf  CAT(vecf, W)
#define anyu  CAT(anyu, W)
#define anyf  CAT(anyf, W)

typedef uint32_t vecu __attribute__((vector_size(4 * W)));
typedef int32_t vecs __attribute__((vector_size(4 * W)));
typedef float vecf __attribute__((vector_size(4 * W)));
typedef float anyf __attribute__((vector_size(4 * W), aligned(1), may_alias));
typedef uint32_t anyu __attribute__((vector_size(4 * W), aligned(1), may_alias));

struct CAT(powers, W) { double s[4][W]; };

/* BK_RUN elements: sums of powers of w * scale (scaled: it is not 1); with a list also what belongs there. */
TARGET BK_BODY uint16_t *CAT(run, W)(struct CAT(powers, W) *restrict acc, uint16_t *restrict list, uint64_t *restrict below, const unsigned char *x,
				     enum bk_dtype dtype, bool scaled, float scale, uint16_t limit, int64_t ahead)
{
	uint64_t under = 0;
	union { vecf v; float f[W]; } s1 = { 0 }, s2 = { 0 }, s3 = { 0 }, s4 = { 0 };

	for (int i = 0; i < BK_RUN / 2; i += W) {
		vecf u, v, q, r;

		if (dtype == BK_F32) {
			__builtin_prefetch(x + 8 * i + ahead);
			u = *(const anyf *)(x + 8 * i);
			v = *(const anyf *)(x + 8 * i + 4 * W);
		} else {
			vecu b = *(const anyu *)(x + 4 * i), a = b << 16;

			__builtin_prefetch(x + 4 * i + ahead);
			b &= 0xffff0000u;
			if (dtype == BK_F16)
				HALVES(a, b, x + 4 * i);
			u = (vecf)a;
			v = (vecf)b;
		}
		if (scaled) {
			u *= scale;
			v *= scale;
		}
		if (list)
			KEEP(list, under, x + 4 * i, limit);
		q = u * u;
		r = v * v;
		s1.v += u + v;
		s2.v += q + r;
		s3.v = MADD(q, u, MADD(r, v, s3.v));
		s4.v = MADD(q, q, MADD(r, r, s4.v));
	}
	if (list)
		*below += under;
	for (int j = 0; j < W; j++) {
		acc->s[0][j] += (double)s1.f[j];
		acc->s[1][j] += (double)s2.f[j];
		acc->s[2][j] += (double)s3.f[j];
		acc->s[3][j] += (double)s4.f[j];
	}
	return list;
}

TARGET BK_BODY int64_t CAT(look, W)(double *sums, uint16_t *list, uint64_t *below, const void *w, enum bk_dtype dtype, int64_t n, int top,
				    uint16_t limit, int odd)
{
	const bool scaled = top > BK_PLAIN_TOP || top < -BK_PLAIN_TOP; /* else fourth powers are far from both ends of float32 as they are */
	const int64_t size = dtype == BK_F32 ? 4 : 2;
	const float scale = bk_bits_f32((uint32_t)(127 + 6 - top) << 23);
	const uint16_t *start = list;
	struct CAT(powers, W) acc = { .s = { { 0 } } };
	union { unsigned char b[4 * BK_RUN]; uint16_t h[BK_RUN]; uint32_t u[BK_RUN]; } own;

	for (int64_t i = 0; i < n; i += BK_RUN) {
		const unsigned char *x = (const unsigned char *)w + i * size;

		if (n - i < BK_RUN || odd) {
			finite_run(&own, x, dtype, n - i < BK_RUN ? n - i : BK_RUN);
			x = own.b;
		}
		list = scaled ? CAT(run, W)(&acc, list, below, x, dtype, true, scale, limit, x == own.b ? 0 : n * size) :
				CAT(run, W)(&acc, list, below, x, dtype, false, 1, limit, x == own.b ? 0 : n * size);
	}
	for (int k = 0; k < 4; k++) {
		double s = 0;

		for (int j = 0; j < W; j++)
			s += acc.s[k][j];
		sums[k] += scaled ? s * power_of_two((k + 1) * (top - 6)) : s;
	}
	return list - start;
}

#undef HALVES
#undef KEEP
#undef MADD
#undef TARGET
#undef vecu
#undef vecs
#undef vecf
#undef anyu
#undef anyf
#undef CAT
#undef CAT_
#undef W
