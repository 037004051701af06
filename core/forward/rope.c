/* SPDX-License-Identifier: Apache-2.0
 * Tables of cosines and sines. Frequencies and angles are float32 products, as the library's are: at position 30,000 the rounding of the angle is
 * visible in the result. */
#include <math.h>

#include "core/base/half.h"
#include "core/forward/private.h"

static float llama3(const struct bl_rope *r, float f)
{
	float wave = 6.2831853f / f, length = (float)r->original_positions, low = (float)r->low_freq_factor, high = (float)r->high_freq_factor;
	float factor = (float)r->factor, smooth;

	if (wave > length / low)
		return f / factor;
	if (wave < length / high)
		return f;
	smooth = (length / wave - low) / (high - low);
	return (1 - smooth) * f / factor + smooth * f;
}

void fw_rope_frequencies(const struct bl_rope *r, int64_t head_dim, float *inv_freq)
{
	for (int64_t i = 0; i < head_dim / 2; i++) {
		float exponent = (float)(2 * i) / (float)head_dim;
		float f = 1.0f / (float)pow((double)(float)r->theta, (double)exponent);

		if (r->kind == BL_ROPE_LINEAR)
			f = f / (float)r->factor;
		else if (r->kind == BL_ROPE_LLAMA3)
			f = llama3(r, f);
		inv_freq[i] = f;
	}
}

static enum bl_status make(struct bl_forward *f, struct fw_rope *t, const struct bl_rope *r, int64_t n, struct bl_err *err)
{
	int64_t half = f->c->head_dim / 2;
	size_t bytes = (size_t)(n * half) * sizeof(float);
	float *inv, *table = NULL;

	if (bl_try_alloc(&table, 2 * (size_t)(n * half), sizeof(float), "positions", err))
		return err->status;
	inv = bl_xalloc((size_t)half, sizeof(*inv));
	fw_rope_frequencies(r, f->c->head_dim, inv);
	for (int64_t i = 0; f->o.bf16_frequencies && i < half; i++)
		inv[i] = bl_round_bf16(inv[i]);
	for (int64_t p = 0; p < n; p++)
		for (int64_t i = 0; i < half; i++) {
			float angle = (float)p * inv[i];

			table[p * half + i] = (float)cos((double)angle);
			table[n * half + p * half + i] = (float)sin((double)angle);
		}
	bl_engine_release(f->e, t->cos);
	*t = (struct fw_rope){ 0 };
	if (bl_engine_alloc(f->e, (void **)&t->cos, 2 * bytes, "positions", err) == BL_OK &&
	    FW_OP(f, err, "positions", put(FW_RUN(f), t->cos, table, 2 * bytes)) == BL_OK) {
		t->sin = t->cos + n * half;
		t->n = n;
	}
	bl_free(inv);
	bl_free(table);
	return err->status;
}

enum bl_status fw_rope_need(struct bl_forward *f, int64_t positions, struct bl_err *err)
{
	int64_t n = 256;

	if (positions <= f->rope.n && (!f->c->has_rope_local || positions <= f->rope_local.n))
		return BL_OK;
	while (n < positions)
		n *= 2;
	if (f->c->head_dim % 2)
		return bl_fail(err, BL_UNSUPPORTED, "head_dim %lld: must be even", (long long)f->c->head_dim);
	if (make(f, &f->rope, &f->c->rope, n, err))
		return err->status;
	return f->c->has_rope_local ? make(f, &f->rope_local, &f->c->rope_local, n, err) : BL_OK;
}
