/* SPDX-License-Identifier: Apache-2.0
 * weight_stats, fast: sums of powers, and lists of what is not small. */
#include <stdbool.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "kernels/common/num.h"
#include "kernels/weight_stats/weight_stats.h"

BK_BODY double power_of_two(int e)
{
	uint64_t bits = (uint64_t)(1023 + e) << 52;
	double d;

	memcpy(&d, &bits, sizeof(d));
	return d;
}

/* n <= BK_RUN elements to `own`, zeros where they are not finite and behind them. */
BK_BODY void finite_run(void *own, const void *x, enum bk_dtype dtype, int64_t n)
{
	if (dtype == BK_F32) {
		uint32_t *to = own;
		const bk_u32_any *from = x;

		for (int64_t i = 0; i < BK_RUN; i++) {
			uint32_t u = i < n ? from[i] : 0;

			to[i] = (u & 0x7fffffffu) >= 0x7f800000u ? 0 : u;
		}
	} else {
		uint16_t *to = own, inf = dtype == BK_BF16 ? 0x7f80 : 0x7c00;
		const bk_u16_any *from = x;

		for (int64_t i = 0; i < BK_RUN; i++) {
			uint16_t u = i < n ? from[i] : 0;

			to[i] = (u & 0x7fff) >= inf ? 0 : u;
		}
	}
}

/* lanes with a finite f16 in the upper half -> float32 bits, as bk_f16_f32 */
#define HALF_TO_FLOAT(x)                                                                          \
	do {                                                                                      \
		vecu normal_ = ((x) >> 3 & 0x0fffe000u) + (112u << 23);                           \
		vecu tiny_ = (vecu)((vecf)(normal_ + (1u << 23)) - 0x1p-14f);                     \
		vecu pick_ = (vecu)((vecs)((x) & 0x7fffffffu) < (vecs)((x) * 0 + 0x04000000u));   \
		(x) = ((x) & 0x80000000u) | (pick_ & tiny_) | (~pick_ & normal_);                 \
	} while (0)

#define KEEP_PLAINLY(list, under, p, limit)                  \
	for (int j_ = 0; j_ < 2 * W; j_++) {                 \
		uint16_t x_ = ((const bk_u16_any *)(p))[j_]; \
                                                             \
		*(list) = x_;                                \
		(list) += (x_ & 0x7fff) >= (limit);          \
		(under) += x_ > 0x8000;                      \
	}

/* HALVES(a, b, p): 2 W f16 at p to float32 bits; a and b hold them already in the upper halves of their lanes.
 * KEEP(list, under, p, limit): 2 W 16-bit elements at p; limit >= 1. */
#define W      4
#define TARGET
#define HALVES(a, b, p)       \
	do {                  \
		HALF_TO_FLOAT(a); \
		HALF_TO_FLOAT(b); \
	} while (0)
#define KEEP(list, under, p, limit) KEEP_PLAINLY(list, under, p, limit)
#define MADD(a, b, c)               ((a) * (b) + (c))
#include "kernels/weight_stats/powers_body.h"

#ifdef BK_HAVE_X86
/* Which of 8 elements a mask of 8 bits keeps. */
static uint8_t kept[256][8];

__attribute__((constructor)) static void fill_table(void)
{
	for (int m = 0; m < 256; m++)
		for (int j = 0, k = 0; j < 8; j++)
			if (m >> j & 1)
				kept[m][k++] = (uint8_t)j;
}

#define W      8
#define TARGET BK_TARGET_V3
#define HALVES(a, b, p)                                                                        \
	do {                                                                                   \
		(a) = (vecu)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)));            \
		(b) = (vecu)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((p) + 16)));     \
	} while (0)
#define KEEP(list, under, p, limit) KEEP_PLAINLY(list, under, p, limit)
#define MADD(a, b, c)               ((vecf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#include "kernels/weight_stats/powers_body.h"

#define W      16
#define TARGET BK_TARGET_VBMI2
#define HALVES(a, b, p)                                                                           \
	do {                                                                                      \
		(a) = (vecu)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)));            \
		(b) = (vecu)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((p) + 32)));     \
	} while (0)
#define KEEP(list, under, p, limit)                                                                                        \
	do {                                                                                                               \
		__m512i x_ = _mm512_loadu_si512(p);                                                                        \
		__m512i a_ = _mm512_and_si512(x_, _mm512_set1_epi16(0x7fff));                                              \
		__mmask32 b_ = _mm512_cmpge_epu16_mask(a_, _mm512_set1_epi16((short)(limit)));                             \
		__mmask32 n_ = _mm512_cmpgt_epu16_mask(x_, _mm512_set1_epi16((short)0x8000));                              \
                                                                                                                           \
		_mm512_storeu_si512(list, _mm512_maskz_compress_epi16(b_, x_));                                            \
		(list) += __builtin_popcount((uint32_t)b_);                                                                \
		(under) += (uint64_t)__builtin_popcount((uint32_t)n_);                                                     \
	} while (0)
#define MADD(a, b, c) ((vecf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#include "kernels/weight_stats/powers_body.h"
#endif

/* the type a constant, so that each has a loop of its own */
#define POWERS(lanes)                                                                                  \
	do {                                                                                           \
		if (dtype == BK_BF16)                                                                  \
			(void)look##lanes(sums, NULL, NULL, w, BK_BF16, n, top, 0, odd);               \
		else if (dtype == BK_F16)                                                              \
			(void)look##lanes(sums, NULL, NULL, w, BK_F16, n, top, 0, odd);                \
		else                                                                                   \
			(void)look##lanes(sums, NULL, NULL, w, BK_F32, n, top, 0, odd);                \
	} while (0)
#define LOOK16(lanes)                                                                                  \
	(dtype == BK_BF16 ? look##lanes(sums, list, below, w, BK_BF16, n, top, limit, odd)             \
			  : look##lanes(sums, list, below, w, BK_F16, n, top, limit, odd))

void bk_powers_base BK_POWERS_PARAMS { POWERS(4); }
int64_t bk_look16_base BK_LOOK16_PARAMS { return LOOK16(4); }

BK_BODY int64_t list_plainly(uint32_t *list, int64_t m, uint64_t *below, const void *w, int64_t from, int64_t n, uint32_t limit)
{
	const bk_u32_any *x = w;

	for (int64_t i = from; i < n; i++) {
		if ((x[i] & 0x7fffffffu) >= limit)
			list[m++] = x[i];
		*below += x[i] > 0x80000000u;
	}
	return m;
}

int64_t bk_list32_base BK_LIST32_PARAMS { return list_plainly(list, 0, below, w, 0, n, limit); }

#ifdef BK_HAVE_X86
BK_TARGET_V3 void bk_powers_v3 BK_POWERS_PARAMS { POWERS(8); }
BK_TARGET_V3 int64_t bk_look16_v3 BK_LOOK16_PARAMS { return LOOK16(8); }
/* Processors that can compress 16-bit lanes have a table of their own. */
void bk_powers_v4 BK_POWERS_PARAMS { bk_powers_v3(sums, w, dtype, n, top, odd); }
int64_t bk_look16_v4 BK_LOOK16_PARAMS { return bk_look16_v3(sums, list, below, w, dtype, n, top, limit, odd); }
BK_TARGET_VBMI2 static uint16_t largest(__m512i x)
{
	__m256i a = _mm256_max_epu16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
	__m128i b = _mm_max_epu16(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));

	return (uint16_t)~_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(b, _mm_set1_epi16(-1))));
}

BK_TARGET_VBMI2 static void add_up(double *sum, __m512 x) { *sum += _mm512_reduce_add_pd(_mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)))); }

/* One pass: what elements cost is the number of instructions, and loading and masking them is a good part of it. */
BK_TARGET_VBMI2 int64_t bk_sweep16_vbmi2 BK_SWEEP16_PARAMS
{
	const __m512i any = _mm512_set1_epi16(0x7fff), inf = _mm512_set1_epi16(0x7f80), zero = _mm512_set1_epi16((short)0x8000),
		      from = _mm512_set1_epi16((short)limit), high = _mm512_set1_epi32((int)0xffff0000);
	const int64_t ahead = 2 * n_rows * cols;
	const uint16_t *start = list;
	double sum[4] = { 0 };
	uint64_t under = 0;
	uint16_t top = 0;

	for (int64_t r = 0; r < n_rows; r++) {
		const char *x = (const char *)w + 2 * r * cols;
		__m512i most = _mm512_setzero_si512();

		for (int64_t c = 0; c < cols;) {
			__m512 s1 = _mm512_setzero_ps(), s2 = s1, s3 = s1, s4 = s1;

			for (int64_t end = c + BK_RUN; c < end; c += 32) {
				__m512i v = _mm512_loadu_si512(x + 2 * c), a = _mm512_and_si512(v, any), col = _mm512_loadu_si512(col_max + c);
				__mmask32 big = _mm512_cmpge_epu16_mask(a, from), neg = _mm512_cmpgt_epu16_mask(v, zero);
				__m512 t = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)), u = _mm512_castsi512_ps(_mm512_and_si512(v, high));
				__m512 q = _mm512_mul_ps(t, t), p = _mm512_mul_ps(u, u);

				_mm_prefetch(x + 2 * c + ahead, _MM_HINT_T0);
				most = _mm512_max_epu16(most, a);
				_mm512_storeu_si512(col_max + c, _mm512_mask_max_epu16(col, _mm512_cmplt_epu16_mask(a, inf), col, a));
				_mm512_storeu_si512(list, _mm512_maskz_compress_epi16(big, v));
				list += __builtin_popcount((uint32_t)big);
				under += (uint64_t)__builtin_popcount((uint32_t)neg);
				s1 = _mm512_add_ps(s1, _mm512_add_ps(t, u));
				s2 = _mm512_add_ps(s2, _mm512_add_ps(q, p));
				s3 = _mm512_fmadd_ps(q, t, _mm512_fmadd_ps(p, u, s3));
				s4 = _mm512_fmadd_ps(q, q, _mm512_fmadd_ps(p, p, s4));
			}
			add_up(&sum[0], s1);
			add_up(&sum[1], s2);
			add_up(&sum[2], s3);
			add_up(&sum[3], s4);
		}
		row_max[r] = largest(most);
		top = row_max[r] > top ? row_max[r] : top;
	}
	if (top >= (127 + BK_PLAIN_TOP) << 7 || top < (127 - BK_PLAIN_TOP) << 7)
		return -1;
	for (int k = 0; k < 4; k++)
		sums[k] += sum[k];
	*below += under;
	return list - start;
}

BK_TARGET_VBMI2 void bk_powers_vbmi2 BK_POWERS_PARAMS { POWERS(16); }
BK_TARGET_VBMI2 int64_t bk_look16_vbmi2 BK_LOOK16_PARAMS { return LOOK16(16); }

BK_TARGET_V3 int64_t bk_list32_v3 BK_LIST32_PARAMS
{
	const __m256i any = _mm256_set1_epi32(0x7fffffff), from = _mm256_set1_epi32((int)(limit - 1)), zero = _mm256_set1_epi32(INT32_MIN);
	int64_t i = 0, m = 0;

	for (; i + 8 <= n; i += 8) {
		__m256i x = _mm256_loadu_si256((const __m256i *)((const char *)w + 4 * i));
		__m256i big = _mm256_cmpgt_epi32(_mm256_and_si256(x, any), from);
		unsigned bits = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(big));
		__m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)kept[bits]));

		_mm256_storeu_si256((__m256i *)(list + m), _mm256_permutevar8x32_epi32(x, order));
		m += __builtin_popcount(bits);
		x = _mm256_andnot_si256(_mm256_cmpeq_epi32(x, zero), x);
		*below += (unsigned)__builtin_popcount((unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(x)));
	}
	return list_plainly(list, m, below, w, i, n, limit);
}

BK_TARGET_V4 int64_t bk_list32_v4 BK_LIST32_PARAMS
{
	const __m512i any = _mm512_set1_epi32(0x7fffffff), from = _mm512_set1_epi32((int)limit), zero = _mm512_set1_epi32(INT32_MIN);
	int64_t i = 0, m = 0;

	for (; i + 16 <= n; i += 16) {
		__m512i x = _mm512_loadu_si512((const char *)w + 4 * i);
		__mmask16 big = _mm512_cmpge_epu32_mask(_mm512_and_si512(x, any), from), under = _mm512_cmpgt_epu32_mask(x, zero);

		_mm512_storeu_si512(list + m, _mm512_maskz_compress_epi32(big, x));
		m += __builtin_popcount((unsigned)big);
		*below += (unsigned)__builtin_popcount((unsigned)under);
	}
	return list_plainly(list, m, below, w, i, n, limit);
}
#endif
