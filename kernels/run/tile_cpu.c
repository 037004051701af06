/* SPDX-License-Identifier: Apache-2.0
 * 6 x 16 elements of c live in registers while k runs over at most 256 steps, so that a panel's part stays in the first-level cache. */
#include "kernels/run/tile.h"

#include "kernels/common/variants.h"

#define ROWS 6
#define K_STEPS 256

static inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

/* plain loops: other processors, and x86 without FMA */
static void micro_base(int64_t rows, const float *a, int64_t lda, const float *b, int64_t step, float *c, int64_t ldc, int64_t k, int add)
{
	for (int64_t r = 0; r < rows; r++) {
		float acc[BK_PANEL] = { 0 };

		for (int j = 0; add && j < BK_PANEL; j++)
			acc[j] = c[r * ldc + j];
		for (int64_t i = 0; i < k; i++)
			for (int j = 0; j < BK_PANEL; j++)
				acc[j] += a[r * lda + i] * b[i * step + j];
		for (int j = 0; j < BK_PANEL; j++)
			c[r * ldc + j] = acc[j];
	}
}

#define WALK(micro)                                                                                                                          \
	for (int64_t k = 0; k < t->k || (!t->k && !k); k += K_STEPS)                                                                         \
		for (int64_t j = 0; j < t->n; j += BK_PANEL)                                                                                 \
			for (int64_t i = 0; i < t->m; i += ROWS)                                                                             \
				micro(at_most(ROWS, t->m - i), t->a + i * t->lda + k, t->lda, t->b + j / BK_PANEL * t->panel + k * t->step, \
				      t->step, t->c + i * t->ldc + j, t->ldc, at_most(K_STEPS, t->k - k), t->add || k)

void bk_tile_base(const struct bk_tile *t) { WALK(micro_base); }

#ifdef BK_HAVE_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))

/* Named accumulators: an array would be kept in memory. `rows` is a constant in each copy. */
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define START(r)                                                                                             \
	__m256 lo##r = add && r < rows ? _mm256_loadu_ps(c + r * ldc) : _mm256_setzero_ps();                 \
	__m256 hi##r = add && r < rows ? _mm256_loadu_ps(c + r * ldc + 8) : _mm256_setzero_ps();
#define STEP(r)                                                     \
	if (r < rows) {                                             \
		__m256 x = _mm256_broadcast_ss(a + r * lda + i);    \
		lo##r = _mm256_fmadd_ps(x, b0, lo##r);              \
		hi##r = _mm256_fmadd_ps(x, b1, hi##r);              \
	}
#define STOP(r)                                                     \
	if (r < rows) {                                             \
		_mm256_storeu_ps(c + r * ldc, lo##r);               \
		_mm256_storeu_ps(c + r * ldc + 8, hi##r);           \
	}

TARGET static inline __attribute__((always_inline)) void micro_rows(const int rows, const float *a, int64_t lda, const float *b, int64_t step, float *c,
								    int64_t ldc, int64_t k, int add)
{
	EACH_ROW(START)
	for (int64_t i = 0; i < k; i++, b += step) {
		__m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);

		EACH_ROW(STEP)
	}
	EACH_ROW(STOP)
}

TARGET static void micro_fma(int64_t rows, const float *a, int64_t lda, const float *b, int64_t step, float *c, int64_t ldc, int64_t k, int add)
{
	switch (rows) {
	case 6: micro_rows(6, a, lda, b, step, c, ldc, k, add); break;
	case 5: micro_rows(5, a, lda, b, step, c, ldc, k, add); break;
	case 4: micro_rows(4, a, lda, b, step, c, ldc, k, add); break;
	case 3: micro_rows(3, a, lda, b, step, c, ldc, k, add); break;
	case 2: micro_rows(2, a, lda, b, step, c, ldc, k, add); break;
	default: micro_rows(1, a, lda, b, step, c, ldc, k, add); break;
	}
}

static void tile_fma(const struct bk_tile *t) { WALK(micro_fma); }
#endif

bk_tile_fn *bk_tile_best(void)
{
#ifdef BK_HAVE_X86
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return tile_fma;
#endif
	return bk_tile_base;
}

void bk_tile_pack(float *dst, const float *src, int64_t n, int64_t k, int64_t ld)
{
	for (int64_t j = 0; j < n; j += BK_PANEL) {
		int64_t rows = at_most(BK_PANEL, n - j);
		float *d = dst + j * k;

		for (int64_t i = 0; i < k; i++)
			for (int64_t r = 0; r < BK_PANEL; r++)
				d[i * BK_PANEL + r] = r < rows ? src[(j + r) * ld + i] : 0.0f;
	}
}
