/* SPDX-License-Identifier: Apache-2.0
 * One body, several instruction sets. A CPU kernel is written once as an always-inlined body of plain loops;
 * BK_VARIANTS makes from it name_base, name_v3 (AVX2) and name_v4 (AVX-512), which differ only in what the compiler may emit
 * (contraction is off, so all give the same bits, but where a header says otherwise). The ops tables in kernels/ops.c choose. Explicit functions
 * instead of target_clones: those need ifunc resolvers, which run before the sanitizers are ready and do not exist in every libc. */
#ifndef BK_COMMON_VARIANTS_H
#define BK_COMMON_VARIANTS_H

#include <stddef.h>

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

/* A table "struct TABLE" of functions, listed by LIST(X) with rows X(name, result, parameters, arguments), at each level of kernels/ops.h: TABLE_level(i), NULL
 * beyond the last that this processor runs, and TABLE_best(). Each name has a name_body; LIST's header declares the two functions. */
#define BK_FUNCTION_BASE(name, ret, params, args) static ret name##_base params { return name##_body args; }
#define BK_FUNCTION_V3(name, ret, params, args) BK_TARGET_V3 static ret name##_v3 params { return name##_body args; }
#define BK_FUNCTION_V4(name, ret, params, args) BK_TARGET_V4 static ret name##_v4 params { return name##_body args; }
#define BK_FIELD_BASE(name, ret, params, args) .name = name##_base,
#define BK_FIELD_V3(name, ret, params, args) .name = name##_v3,
#define BK_FIELD_V4(name, ret, params, args) .name = name##_v4,
#define BK_FIELD(name, ret, params, args) ret(*name) params;
#ifdef BK_HAVE_X86
#define BK_LEVELS(table, LIST)                                                                                                        \
	LIST(BK_FUNCTION_BASE) LIST(BK_FUNCTION_V3) LIST(BK_FUNCTION_V4)                                                              \
	static const struct table table##_levels[] = { { LIST(BK_FIELD_BASE) }, { LIST(BK_FIELD_V3) }, { LIST(BK_FIELD_V4) } };      \
	BK_LEVELS_CHOICE(table)
#else
#define BK_LEVELS(table, LIST)                                                     \
	LIST(BK_FUNCTION_BASE)                                                     \
	static const struct table table##_levels[] = { { LIST(BK_FIELD_BASE) } }; \
	BK_LEVELS_CHOICE(table)
#endif
#define BK_LEVELS_CHOICE(table)                                               \
	const struct table *table##_level(int i)                              \
	{                                                                     \
		return bk_ops_level(i) ? &table##_levels[i] : NULL;           \
	}                                                                     \
	const struct table *table##_best(void)                                \
	{                                                                     \
		int i = 0;                                                    \
                                                                              \
		while (bk_ops_level(i + 1))                                   \
			i++;                                                  \
		return &table##_levels[i];                                    \
	}

#endif
