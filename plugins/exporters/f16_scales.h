/* SPDX-License-Identifier: Apache-2.0
 * What exporters of float16 scales share: GPTQ's and AWQ's layouts hold them as [groups, rows]. */
#ifndef BL_EXPORTERS_F16_SCALES_H
#define BL_EXPORTERS_F16_SCALES_H

#include <math.h>
#include <stdint.h>

#include "core/plugin/plugin_api.h"

static inline int64_t f16_groups(const struct bl_x_module *m) { return m->grid.group ? m->cols / m->grid.group : 1; }

/* x as float16, to nearest even; *exact: whether it is; never 0 when x is not. */
static inline uint16_t f16_of(float x, int *exact)
{
	const uint16_t sign = signbit(x) ? 0x8000 : 0;
	const float a = fabsf(x);
	float back;
	int e;
	uint16_t code;

	if (!(a < 65520)) {
		*exact = 0;
		return sign | 0x7bff;
	}
	if (a < 0x1p-14f) { /* units of 2^-24 */
		code = (uint16_t)rintf(a * 0x1p24f);
		code = a > 0 && !code ? 1 : code;
		back = (float)code * 0x1p-24f;
	} else {
		const float f = frexpf(a, &e); /* a = f 2^e, f in [0.5, 1) */
		const int m = (int)rintf(f * 2048); /* 1024 .. 2048 */

		code = (uint16_t)((e + 14) * 1024 + m - 1024);
		back = ldexpf((float)m, e - 11);
	}
	*exact = back == a;
	return sign | code;
}

/* All scales of a module; NULL, or why they cannot be stored. */
static inline const char *f16_put_scales(const struct bl_x_module *m, const struct bl_x_rows *r, uint8_t *dst)
{
	const int64_t groups = f16_groups(m);

	for (int64_t g = 0; g < groups; g++)
		for (int64_t n = 0; n < m->rows; n++) {
			int exact;
			const float s = r->scales[n * groups + g];
			const uint16_t h = f16_of(s, &exact);

			if (!exact && (m->flags & BL_X_EXACT || fabsf(s) > 1))
				return "a scale is no float16 number: compressed-tensors can hold it";
			dst[2 * (g * m->rows + n)] = (uint8_t)h;
			dst[2 * (g * m->rows + n) + 1] = (uint8_t)(h >> 8);
		}
	return NULL;
}

#endif
