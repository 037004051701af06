/* SPDX-License-Identifier: Apache-2.0
 * A model on an engine: opened, closed, and what it will need. */
#include <math.h>

#include "core/base/half.h"
#include "core/forward/private.h"

static enum bl_status open_all(struct bl_forward *f, struct bl_err *err)
{
	bool some = false, all = true;

	for (int64_t i = 0; i < f->c->layers; i++) {
		bool slides = f->c->sliding_window > 0 && f->c->sliding[i];

		some = some || slides;
		all = all && slides;
	}
	f->hybrid = some;
	if (f->c->head_dim > 1 << 12 || f->c->heads > 1 << 14)
		return bl_fail(err, BL_UNSUPPORTED, "%s: heads of %lld channels cannot be run", f->m->title, (long long)f->c->head_dim);
	if (fw_weights_open(f, err))
		return err->status;
	return fw_small_open(f, err);
}

enum bl_status bl_forward_new(struct bl_forward **out, const struct bl_model *m, struct bl_engine *e, const struct bl_forward_options *o, struct bl_err *err)
{
	struct bl_forward *f = bl_xalloc(1, sizeof(*f));

	f->m = m;
	f->c = &m->config;
	f->a = m->arch;
	f->e = e;
	f->o = o ? *o : (struct bl_forward_options){ 0 };
	f->dtype = f->o.fp32 ? BK_F32 : BK_BF16;
	f->elem = f->o.fp32 ? 4 : 2;
	f->q_cols = f->c->heads * f->c->head_dim;
	f->kv_cols = f->c->kv_heads * f->c->head_dim;
	f->embed_scale = f->a->embed_scaled ? (float)sqrt((double)f->c->hidden) : 1;
	if (!f->o.fp32)
		f->embed_scale = bl_round_bf16(f->embed_scale);
	if (open_all(f, err)) {
		bl_forward_free(f);
		return err->status;
	}
	*out = f;
	return BL_OK;
}

void bl_forward_free(struct bl_forward *f)
{
	if (!f)
		return;
	fw_weights_close(f);
	fw_small_close(f);
	bl_engine_release(f->e, f->rope.cos);
	bl_engine_release(f->e, f->rope_local.cos);
	bl_engine_release(f->e, f->work.base);
	bl_free(f);
}

const struct bl_model *bl_forward_model(const struct bl_forward *f) { return f->m; }
struct bl_engine *bl_forward_engine(const struct bl_forward *f) { return f->e; }

void bl_forward_need(const struct bl_model *m, bool fp32, int64_t tokens, int64_t batch_tokens, uint64_t *device, uint64_t *host)
{
	size_t elem = fp32 ? 4 : 2;
	uint64_t row = (uint64_t)m->config.hidden * elem;

	*device = fw_work_bytes(m, elem, batch_tokens) + 3 * (uint64_t)batch_tokens * row + (uint64_t)tokens * 8;
	*host = (uint64_t)tokens * row;
}

enum bl_status fw_cancelled(const struct bl_forward *f, struct bl_err *err)
{
	if (f->o.cancel && atomic_load_explicit(f->o.cancel, memory_order_relaxed))
		return bl_fail(err, BL_CANCELLED, "interrupted");
	return BL_OK;
}
