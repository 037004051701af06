/* SPDX-License-Identifier: Apache-2.0
 * Inputs of linears, sampled: the calibration's kept block inputs through each block once, on the processor. Only searches over token scales need them. */
#include <string.h>

#include "core/base/half.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/transform/sample.h"

#define WINDOWS 8
#define ELEMS   (4ll << 20) /* at most so many numbers of a unit, if that leaves LEAST tokens of each window */
#define LEAST   32
#define MOST    256

struct tap { struct fold_sample *all; struct bl_engine *e; int64_t tokens; unsigned readers; };

static enum bl_status see(void *ctx, int unit, int64_t first, const struct bk_mat *x, struct bl_err *err)
{
	const struct tap *t = ctx;
	struct fold_sample *s = &t->all[unit];

	if (!(t->readers >> unit % BL_UNIT_KIND_COUNT & 1))
		return BL_OK;
	if (!s->x) {
		if (bl_try_alloc(&s->x, (size_t)(t->tokens * x->cols), sizeof *s->x, "sampled inputs", err))
			return err->status;
		s->tokens = t->tokens;
		s->cols = x->cols;
	}
	if (bl_engine_check(t->e, t->e->ops->wait(t->e->run), "sampled inputs", err))
		return err->status;
	for (int64_t i = 0; i < x->rows; i++)
		for (int64_t j = 0; j < x->cols; j++) {
			uint16_t h;

			memcpy(&h, (const char *)x->p + 2 * (i * x->ld + j), 2);
			s->x[(first + i) * x->cols + j] = bl_bf16_f32(h);
		}
	return BL_OK;
}

static enum bl_status run(struct tap *t, struct bl_forward *f, const struct bl_calib *c, int64_t windows, int64_t len, struct bl_err *err)
{
	const int64_t whole = bl_calib_window(c), apart = bl_calib_kept_windows(c) / windows;
	const struct bl_model *m = bl_forward_model(f);
	struct bl_tap look = { .ctx = t, .input = see };
	int64_t start[WINDOWS + 1] = { 0 };
	int32_t *ids = bl_xalloc((size_t)(windows * len), sizeof *ids);
	struct bl_pass *p = NULL;

	for (int64_t w = 0; w < windows; w++) {
		memcpy(ids + w * len, bl_calib_ids(c) + w * apart * whole, (size_t)len * sizeof *ids);
		start[w + 1] = start[w] + len;
	}
	struct bl_sequences seq = { ids, start, windows };
	if (!bl_pass_new(&p, f, &seq, err))
		for (int b = 0; b < m->config.layers && !err->status; b++) {
			const uint16_t *x;

			if (bl_calib_block_input(c, b, &x, err))
				break;
			for (int64_t w = 0; w < windows && !err->status; w++)
				bl_pass_write(p, w * len, len, x + w * apart * whole * m->config.hidden, err);
			if (!err->status)
				bl_pass_block(p, b, NULL, &look, err);
		}
	bl_pass_free(p);
	bl_free(ids);
	return err->status;
}

static int64_t length(const struct bl_model *m, const struct bl_calib *c, int64_t windows, unsigned readers)
{
	const int64_t whole = bl_calib_window(c);
	int64_t widest = 1, len;

	for (int i = 0; i < m->n_units; i++)
		if (readers >> m->units[i].kind & 1 && m->units[i].cols > widest)
			widest = m->units[i].cols;
	len = ELEMS / widest / (windows > 0 ? windows : 1);
	len = len < LEAST ? LEAST : len > MOST ? MOST : len;
	return len < whole ? len : whole;
}

enum bl_status fold_samples(struct fold_sample *all, const struct bl_model *m, const struct bl_calib *c, unsigned readers, struct bl_pool *pool, const atomic_int *cancel,
			    struct bl_err *err)
{
	const int64_t kept = bl_calib_kept_windows(c), windows = kept < WINDOWS ? kept : WINDOWS, len = length(m, c, windows, readers);
	struct bl_forward_options o = { .cancel = cancel };
	struct bl_forward *f = NULL;
	struct bl_backend backend;
	struct bl_engine e = { .run = NULL };
	struct tap t = { .all = all, .e = &e, .tokens = windows * len, .readers = readers };

	if (windows < 1) {
		bl_log(BL_LOG_WARN, "smooth: no search, alpha alone: the calibration keeps no windows to look at (--keep-windows)");
		return BL_OK;
	}
	bl_backend_open(&backend, NULL);
	if (!bl_engine_open(&e, &backend, "cpu", pool, 0, err) && !bl_forward_new(&f, m, &e, &o, err))
		run(&t, f, c, windows, len, err);
	bl_forward_free(f);
	bl_engine_close(&e);
	bl_backend_close(&backend);
	return err->status;
}
