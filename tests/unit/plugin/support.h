/* SPDX-License-Identifier: Apache-2.0
 * What the tests of this part share: a registry that sees only the plugins of this build, the golden folder, the demo model's linears. */
#ifndef TEST_PLUGIN_SUPPORT_H
#define TEST_PLUGIN_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "core/model/safetensors.h"
#include "core/plugin/method_run.h"
#include "core/plugin/registry.h"

#define OK(call)                                           \
	do {                                               \
		struct bl_err err = BL_ERR_INIT;           \
		if ((call) != BL_OK)                       \
			fail_msg("%s: %s", #call, err.text); \
	} while (0)

/* Only the plugins of this build: the user's folders are pointed elsewhere. */
void open_registry(struct bl_registry *r);
/* Path below ../shared ($BL_SHARED), or NULL when it is not there. Static buffer. */
const char *shared_path(const char *rest);
void open_demo(struct bl_st *st);
struct bl_member member_of(const struct bl_st *st, const char *module, char name[128]);

struct solved { /* a whole linear */
	int64_t rows, cols, spr;
	int8_t *codes, *zeros; /* zeros NULL when symmetric */
	float *scales;
};
/* In steps of `step` rows. */
void solve_all(struct solved *out, const struct bl_solver *s, const struct bl_member *m, int64_t step);
void solved_free(struct solved *s);

/* Weights (bfloat16) rounded to a grid that is a table, bit by bit what its library made of them: scales (float32; NULL: not looked at), codes, and what is
 * decoded from them (bfloat16). At most 512. */
void same_as_library(const struct bl_grid *g, int64_t rows, int64_t cols, const uint16_t *weights, const uint32_t *scale_bits, const uint8_t *codes, const uint16_t *decoded);

#endif
