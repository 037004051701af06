/* SPDX-License-Identifier: Apache-2.0
 * One body, several instruction sets. A CPU kernel is written once as an always-inlined body of plain loops;
 * BK_VARIANTS makes from it name_base, name_v3 (AVX2) and name_v4 (AVX-512), which differ only in what the compiler may emit
 * (contraction is off, so all give the same bits, but where a header says otherwise). The ops tables in kernels/ops.c choose. Explicit functions
 * instead of target_clones: those need ifunc resolvers, which run before the sanitizers are ready and do not exist in every libc. */
#ifndef BK_COMMON_VARIANTS_H
#define BK_COMMON_VARIANTS_H

#define BK_BODY static inline __attribute__((always_inline))

#if defined(__x86_64__) && !defined(BK_PORTABLE) /* BK_PORTABLE: as on other processors */
#define BK_HAVE_X86 1
#define BK_TARGET_V3 __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt")))
#define BK_TARGET_V4 __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2,popcnt")))
/* for the few kernels that compress 16-bit lanes: Ice Lake, Zen 4 and later */
#define BK_TARGET_VBMI2 __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi2,avx2,fma,f16c,bmi,bmi2,popcnt")))
#define BK_DECLARE(ret, name, params) \
	ret name##_base params;       \
	ret name##_v3 params;         \
	ret name##_v4 params
#define BK_VARIANTS(ret, name, params, args)                        \
	ret name##_base params { return name##_body args; }         \
	BK_TARGET_V3 ret name##_v3 params { return name##_body args; } \
	BK_TARGET_V4 ret name##_v4 params { return name##_body args; }
#else
#define BK_DECLARE(ret, name, params) ret name##_base params
#define BK_VARIANTS(ret, name, params, args) \
	ret name##_base params { return name##_body args; }
#endif

#endif
