/* SPDX-License-Identifier: Apache-2.0
 * Shared by the tests of this part. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/plugin/host.h"

void open_registry(struct bl_registry *r)
{
	unsetenv("BITLATHE_PLUGINS");
	setenv("XDG_DATA_HOME", "/nonexistent", 1);
	bl_registry_open(r, BL_BUILD_DIR);
	if (!bl_registry_method(r, "rtn"))
		fail_msg("the rtn plugin is not loaded: %s", r->n && r->entries[0].problem ? r->entries[0].problem : "no file");
}

const char *shared_path(const char *rest)
{
	static char path[4096];
	const char *root = getenv("BL_SHARED");

	if (root && *root)
		snprintf(path, sizeof(path), "%s/%s", root, rest);
	else
		snprintf(path, sizeof(path), "%s/../shared/%s", BL_SOURCE_DIR, rest);
	return bl_is_dir(path) || bl_is_file(path) ? path : NULL;
}

void open_demo(struct bl_st *st) { OK(bl_st_open(st, BL_SOURCE_DIR "/tests/models/tiny-exaone4/model.safetensors", &err)); }

struct bl_member member_of(const struct bl_st *st, const char *module, char name[128])
{
	char weight[160];
	const struct bl_tensor *t;

	snprintf(name, 128, "model.layers.0.%s", module);
	snprintf(weight, sizeof(weight), "%s.weight", name);
	t = bl_st_find(st, weight);
	assert_non_null(t);
	return (struct bl_member){ .name = name, .weight = t, .rows = t->shape[0], .cols = t->shape[1] };
}

void solve_all(struct solved *out, const struct bl_solver *s, const struct bl_member *m, int64_t step)
{
	struct bl_rows_buf b = { 0 };

	out->rows = m->rows;
	out->cols = m->cols;
	out->spr = s->grid.group > 0 ? m->cols / s->grid.group : 1;
	out->codes = bl_xalloc((size_t)(m->rows * m->cols), 1);
	out->scales = bl_xalloc((size_t)(m->rows * out->spr), sizeof(float));
	out->zeros = s->grid.symmetric ? NULL : bl_xalloc((size_t)(m->rows * out->spr), 1);
	for (int64_t row = 0; row < m->rows; row += step) {
		int64_t n = m->rows - row < step ? m->rows - row : step;

		OK(bl_solve_rows(s, m, row, n, &b, &err));
		memcpy(out->codes + row * m->cols, b.codes, (size_t)(n * m->cols));
		memcpy(out->scales + row * out->spr, b.scales, (size_t)(n * out->spr) * sizeof(float));
		if (out->zeros)
			memcpy(out->zeros + row * out->spr, b.zeros, (size_t)(n * out->spr));
	}
	bl_rows_buf_free(&b);
}

void solved_free(struct solved *s)
{
	bl_free(s->codes);
	bl_free(s->scales);
	bl_free(s->zeros);
}

void same_as_library(const struct bl_grid *g, int64_t rows, int64_t cols, const uint16_t *weights, const uint32_t *scale_bits, const uint8_t *codes, const uint16_t *decoded)
{
	static float w[512], lo[512], hi[512], scales[512], back[512];
	static int8_t found[512];
	const struct bl_host h = bl_host_make();
	const int64_t n = rows * cols, n_scales = n / g->group;

	assert_true(n <= 512);
	for (int64_t i = 0; i < n; i++)
		w[i] = bl_bf16_f32(weights[i]);
	h.range(lo, hi, w, rows, cols, g);
	h.scales(scales, NULL, lo, hi, n_scales, 1, g);
	for (int64_t i = 0; scale_bits && i < n_scales; i++)
		assert_int_equal(bl_f32_bits(scales[i]), scale_bits[i]);
	h.encode(found, w, scales, NULL, rows, cols, g, BL_QUOTIENT_BF16);
	for (int64_t i = 0; i < n; i++)
		assert_int_equal((uint8_t)found[i], codes[i]);
	h.decode(back, found, scales, NULL, rows, cols, g);
	for (int64_t i = 0; i < n; i++)
		assert_int_equal(bl_f32_bf16(back[i]), decoded[i]);
}
