/* SPDX-License-Identifier: Apache-2.0
 * Both ends of the model: embedding rows in, logits out. A head that does not fit the run's memory is brought in slab by slab. */
#include <string.h>

#include "core/base/file.h"
#include "core/base/half.h"
#include "core/forward/private.h"

#define SLAB_BYTES ((uint64_t)256 << 20)

enum bl_status fw_final_norm(struct bl_forward *f, const struct bk_mat *y, const struct bk_mat *x, struct bl_err *err)
{
	struct bk_norm n = { f->final_norm, (enum bk_dtype)f->dtype, f->c->rms_eps, f->a->norm_plus_one };

	return FW_OP(f, err, "the final norm", rmsnorm(FW_RUN(f), y, x, &n));
}

static const struct bl_tensor *head_tensor(const struct bl_forward *f) { return f->m->head && !f->c->tied ? f->m->head : f->m->embed; }

static enum bl_status head_in_slabs(struct bl_forward *f, const struct bk_mat *logits, const struct bk_mat *x, struct bl_err *err)
{
	const struct bl_tensor *t = head_tensor(f);
	uint64_t row = (uint64_t)f->c->hidden * f->elem, there = bl_engine_available(f->e) / 2;
	int64_t rows = (int64_t)((there < SLAB_BYTES ? there : SLAB_BYTES) / row) + 1, from = fw_dtype_of(t->dtype) == BK_F32 ? 4 : 2;
	void *slab;

	rows = rows < f->c->vocab ? rows : f->c->vocab;
	if (bl_engine_alloc(f->e, &slab, (size_t)((uint64_t)rows * row), "a part of the head", err))
		return err->status;
	for (int64_t i = 0; i < f->c->vocab && err->status == BL_OK; i += rows) {
		int64_t n = f->c->vocab - i < rows ? f->c->vocab - i : rows;
		struct bk_mat w = fw_mat(slab, n, f->c->hidden, f->dtype), part = fw_cols(logits, i, n);

		if (fw_bring(f, slab, (const char *)t->data + i * f->c->hidden * from, fw_dtype_of(t->dtype), n, f->c->hidden, err) == BL_OK &&
		    fw_join(f, err) == BL_OK)
			FW_OP(f, err, "the head", gemm(FW_RUN(f), &part, x, 0, &w, 1, 1, 0, NULL));
	}
	bl_engine_release(f->e, slab);
	return err->status;
}

enum bl_status fw_head(struct bl_forward *f, const struct bk_mat *logits, const struct bk_mat *x, struct bl_err *err)
{
	if (f->head.p)
		FW_OP(f, err, "the head", gemm(FW_RUN(f), logits, x, 0, &f->head, 1, 1, 0, NULL));
	else
		head_in_slabs(f, logits, x, err);
	if (err->status || !(f->c->final_cap > 0))
		return err->status;
	return FW_OP(f, err, "the head", softcap(FW_RUN(f), logits, f->c->final_cap));
}

/* --- embedding --- */

#define ROWS_EACH 256 /* of a piece of work */

struct lookup { const struct bl_forward *f; const int32_t *ids; int64_t n; char *host; };

static enum bl_status host_rows(void *ctx, size_t item, struct bl_err *err)
{
	struct lookup *w = ctx;
	const struct bl_tensor *t = w->f->m->embed;
	int64_t h = w->f->c->hidden, first = (int64_t)item * ROWS_EACH, last = first + ROWS_EACH < w->n ? first + ROWS_EACH : w->n;
	size_t row = (size_t)h * w->f->elem, from = t->dtype == BL_F32 ? 4 : 2;

	(void)err;
	for (int64_t i = first; i < last; i++) {
		const char *src = (const char *)t->data + (size_t)w->ids[i] * (size_t)h * from;
		char *dst = w->host + (size_t)i * row;

		if (fw_dtype_of(t->dtype) == w->f->dtype && w->f->embed_scale == 1) {
			memcpy(dst, src, row);
			continue;
		}
		for (int64_t j = 0; j < h; j++) {
			uint16_t half;
			float v;

			if (from == 4) {
				memcpy(&v, src + 4 * j, 4);
			} else {
				memcpy(&half, src + 2 * j, 2);
				v = t->dtype == BL_BF16 ? bl_bf16_f32(half) : bl_f16_f32(half);
			}
			v *= w->f->embed_scale;
			half = bl_f32_bf16(v);
			memcpy(dst + (size_t)j * w->f->elem, w->f->elem == 4 ? (void *)&v : (void *)&half, w->f->elem);
		}
	}
	return BL_OK;
}

static enum bl_status host_rows_all(void *ctx, struct bl_err *err)
{
	struct lookup *w = ctx;
	size_t items = (size_t)((w->n + ROWS_EACH - 1) / ROWS_EACH);

	for (size_t i = 0; i < items; i++)
		host_rows(w, i, err);
	return BL_OK;
}

static enum bl_status look_up(struct lookup *w, struct bl_err *err)
{
	struct bl_pool *pool = w->f->e->pool;

	return pool ? bl_pool_run(pool, (size_t)((w->n + ROWS_EACH - 1) / ROWS_EACH), host_rows, w, NULL, err) : bl_guard_run(host_rows_all, w, err);
}

enum bl_status fw_embed_host(struct bl_forward *f, char *host, const int32_t *ids, int64_t n, struct bl_err *err)
{
	struct lookup w = { .f = f, .ids = ids, .n = n, .host = host };

	return look_up(&w, err);
}

/* The table comes along for one embedding, when the run's memory has room for it. */
bool fw_embed_borrow(struct bl_forward *f)
{
	const struct bl_tensor *t = f->m->embed;
	struct bl_err ignored = BL_ERR_INIT;
	uint64_t bytes = (uint64_t)t->n_elems * f->elem;
	void *p;

	if (f->embed.p || f->e->ops->unified || fw_dtype_of(t->dtype) != f->dtype || bytes + bytes / 8 > bl_engine_available(f->e) ||
	    bl_engine_alloc(f->e, &p, (size_t)bytes, "the embedding", &ignored))
		return false;
	if (fw_bring(f, p, t->data, f->dtype, t->shape[0], t->shape[1], &ignored) || fw_join(f, &ignored)) { /* what failed here fails again */
		bl_engine_release(f->e, p);
		return false;
	}
	f->embed = fw_mat(p, t->shape[0], t->shape[1], f->dtype);
	return true;
}

void fw_embed_return(struct bl_forward *f)
{
	bl_engine_release(f->e, f->embed.p);
	f->embed = (struct bk_mat){ 0 };
}

enum bl_status fw_embed(struct bl_forward *f, const struct bk_mat *y, const int32_t *ids, struct bl_err *err)
{
	struct lookup w = { .f = f, .ids = ids, .n = y->rows };
	size_t bytes = (size_t)y->rows * (size_t)f->c->hidden * f->elem;
	int32_t *list = NULL;

	if (f->embed.p && f->e->ops->unified)
		return FW_OP(f, err, "the embedding", gather(FW_RUN(f), y, &f->embed, ids, f->embed_scale));
	if (f->embed.p) {
		if (bl_engine_alloc(f->e, (void **)&list, (size_t)y->rows * sizeof(*list), "token numbers", err) == BL_OK &&
		    FW_OP(f, err, "the embedding", put(FW_RUN(f), list, ids, (size_t)y->rows * sizeof(*list))) == BL_OK)
			FW_OP(f, err, "the embedding", gather(FW_RUN(f), y, &f->embed, list, f->embed_scale));
		bl_engine_release(f->e, list);
		return err->status;
	}
	if (bl_try_alloc(&w.host, bytes, 1, "embedding rows", err))
		return err->status;
	f->joined = false;
	if (look_up(&w, err) == BL_OK && FW_OP(f, err, "the embedding", upload(FW_RUN(f), y->p, w.host, bytes)) == BL_OK)
		fw_join(f, err);
	bl_free(w.host);
	return err->status;
}

