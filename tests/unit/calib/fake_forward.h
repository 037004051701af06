/* SPDX-License-Identifier: Apache-2.0
 * A forward that is quick and does what a test tells it: embedding and blocks are small functions of each row, so what flows into a unit can be computed
 * again by the test in double. Included by one test file; its functions stand in for core/forward. */
#ifndef BL_TESTS_UNIT_CALIB_FAKE_FORWARD_H
#define BL_TESTS_UNIT_CALIB_FAKE_FORWARD_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/forward/forward.h"

struct bl_forward {
	struct bl_model *m;
	struct bl_engine *e;
	int64_t batch;
	bool fp32;
	unsigned sleep_us;        /* per batch */
	int64_t no_memory_beyond; /* batches of more tokens than that fail; 0: none do */
	bool no_memory_late;      /* … after some of them are done */
	int fail_block;           /* that block ends with BL_NO_DEVICE; -1: none */
	int blocks_run;
};
struct bl_pass { struct bl_forward *f; int64_t batch, tokens, len; uint16_t *x; const int32_t *ids; };

const struct bl_model *bl_forward_model(const struct bl_forward *f) { return f->m; }
struct bl_engine *bl_forward_engine(const struct bl_forward *f) { return f->e; }
void bl_forward_need(const struct bl_model *m, bool fp32, int64_t tokens, int64_t batch_tokens, uint64_t *device, uint64_t *host)
{
	*host = (uint64_t)(tokens * m->config.hidden) * (fp32 ? 4 : 2);
	*device = 16 * (uint64_t)(batch_tokens * m->config.hidden);
}
int64_t bl_pass_tokens(const struct bl_pass *p) { return p->tokens; }
size_t bl_pass_row_bytes(const struct bl_pass *p) { return (size_t)p->f->m->config.hidden * (p->f->fp32 ? 4 : 2); }
int64_t bl_pass_batch_tokens(const struct bl_pass *p) { return p->batch; }

enum bl_status bl_pass_set_batch(struct bl_pass *p, int64_t batch_tokens, struct bl_err *err)
{
	(void)err;
	p->batch = batch_tokens;
	return BL_OK;
}

enum bl_status bl_pass_new(struct bl_pass **out, struct bl_forward *f, const struct bl_sequences *s, struct bl_err *err)
{
	struct bl_pass *p = bl_xalloc(1, sizeof *p);

	(void)err;
	p->f = f;
	p->batch = f->batch;
	p->tokens = s->start[s->n];
	p->len = s->start[1];
	p->ids = s->ids;
	p->x = bl_xalloc((size_t)(p->tokens * f->m->config.hidden), 2);
	*out = p;
	return BL_OK;
}

void bl_pass_free(struct bl_pass *p)
{
	if (p)
		bl_free(p->x);
	bl_free(p);
}

enum bl_status bl_pass_embed(struct bl_pass *p, struct bl_err *err)
{
	int64_t h = p->f->m->config.hidden;

	(void)err;
	for (int64_t t = 0; t < p->tokens; t++) {
		struct bl_rng r;

		bl_rng_seed(&r, (uint64_t)p->ids[t]);
		for (int64_t i = 0; i < h; i++)
			p->x[t * h + i] = bl_f32_bf16(bl_rng_normal(&r) * (i == 3 ? 40.f : 1.f));
	}
	return BL_OK;
}

/* What flows into a unit for a row whose hidden state is x. */
static inline void fake_input(const struct bl_model *m, int unit, const uint16_t *x, uint16_t *out)
{
	int64_t h = m->config.hidden;
	float scale = 0.5f + 0.25f * (float)(unit % 7);

	for (int64_t i = 0; i < m->units[unit].cols; i++) {
		int64_t from = (i * 7 + unit) % h;

		out[i] = bl_f32_bf16(scale * bl_bf16_f32(x[from]) + (float)(i / h) * 0.125f);
	}
}

static inline void fake_step(const struct bl_model *m, int block, uint16_t *x)
{
	int64_t h = m->config.hidden;

	for (int64_t i = 0; i < h; i++) /* rotates a little, stays bounded */
		x[i] = bl_f32_bf16(0.8f * bl_bf16_f32(x[i]) + 0.3f * bl_bf16_f32(x[(i + 1 + block) % h]));
}

static inline enum bl_status fake_batch(struct bl_pass *p, int block, int64_t first, int64_t n, const struct bl_tap *tap, uint16_t *buf, struct bl_err *err)
{
	const struct bl_model *m = p->f->m;
	int64_t h = m->config.hidden;

	for (int u = 4 * block; u < 4 * block + 4 && tap && tap->input; u++) {
		int64_t k = m->units[u].cols;
		struct bk_mat x = { .p = buf, .rows = n, .cols = k, .ld = k, .dtype = BK_BF16 };

		for (int64_t t = 0; t < n; t++)
			fake_input(m, u, p->x + (first + t) * h, buf + t * k);
		if (tap->input(tap->ctx, u, first, &x, err))
			return err->status;
	}
	for (int64_t t = first; t < first + n; t++)
		fake_step(m, block, p->x + t * h);
	if (p->f->sleep_us)
		usleep(p->f->sleep_us);
	if (tap && tap->batch_done)
		tap->batch_done(tap->ctx, block, first + n);
	return BL_OK;
}

enum bl_status bl_pass_block(struct bl_pass *p, int block, const struct bl_weight_set *set, const struct bl_tap *tap, struct bl_err *err)
{
	int64_t windows = p->batch / p->len < 1 ? 1 : p->batch / p->len, step = windows * p->len, most = 1;
	uint16_t *buf;

	(void)set;
	p->f->blocks_run++;
	if (block == p->f->fail_block)
		return bl_fail(err, BL_NO_DEVICE, "the fake device is gone");
	for (int u = 4 * block; u < 4 * block + 4; u++)
		most = p->f->m->units[u].cols > most ? p->f->m->units[u].cols : most;
	buf = bl_xalloc((size_t)(step * most), 2);
	for (int64_t first = 0; first < p->tokens && !err->status; first += step) {
		int64_t n = p->tokens - first < step ? p->tokens - first : step;

		if (p->f->no_memory_beyond && n > p->f->no_memory_beyond && (first || !p->f->no_memory_late))
			bl_fail(err, BL_NO_MEMORY, "the fake device is full");
		else
			fake_batch(p, block, first, n, tap, buf, err);
	}
	bl_free(buf);
	return err->status;
}

enum bl_status bl_pass_read(struct bl_pass *p, int64_t first, int64_t n, void *host, struct bl_err *err)
{
	(void)err;
	memcpy(host, p->x + first * p->f->m->config.hidden, (size_t)n * bl_pass_row_bytes(p));
	return BL_OK;
}

enum bl_status bl_pass_write(struct bl_pass *p, int64_t first, int64_t n, const void *host, struct bl_err *err)
{
	(void)err;
	memcpy(p->x + first * p->f->m->config.hidden, host, (size_t)n * bl_pass_row_bytes(p));
	return BL_OK;
}

#endif
