/* SPDX-License-Identifier: Apache-2.0
 * Where weights are. On a unified back end tensors of the storage type are used where they lie in the mapped file. Everything else needs a copy in the
 * run's memory: all of it when it fits, else the first blocks stay and the others take turns in two slots, one being filled while the other is used. */
#include "core/forward/private.h"

#include <string.h>

#define STAGING_BYTES ((uint64_t)64 << 20)
#define KEEP_PER_UNIT 2 /* copies of replacements: the plan's and a candidate's */

int fw_dtype_of(enum bl_dtype d) { return d == BL_BF16 ? BK_BF16 : d == BL_F16 ? BK_F16 : d == BL_F32 ? BK_F32 : 0; }

static uint64_t padded(uint64_t bytes) { return (bytes + 255) & ~(uint64_t)255; }

static const struct bl_unit *unit_of(const struct bl_forward *f, int block, int kind) { return &f->m->units[block * BL_UNIT_KIND_COUNT + kind]; }

static bool tensor_in_place(const struct bl_forward *f, const struct bl_tensor *t) { return f->e->ops->unified && fw_dtype_of(t->dtype) == f->dtype; }

/* What a unit of a quantized checkpoint computes with; NULL: plain weights. */
static const struct bl_unit_weights *own_of(const struct bl_forward *f, int unit) { return f->o.own ? f->o.own->of[unit] : NULL; }

static const struct bl_unit_weights *replacement_of(const struct bl_forward *f, const struct bl_weight_set *set, int unit)
{
	return set && set->of[unit] ? set->of[unit] : own_of(f, unit);
}

static bool unit_in_place(const struct bl_forward *f, const struct bl_unit *u)
{
	if (own_of(f, (int)(u - f->m->units)))
		return true; /* nothing of it is copied here */
	for (int i = 0; i < u->n_members; i++)
		if (!tensor_in_place(f, u->members[i].weight))
			return false;
	return true;
}

/* Bytes of the copies of a block's units before `kind`; of all with BL_UNIT_KIND_COUNT. */
static uint64_t copies_before(const struct bl_forward *f, int block, int kind)
{
	uint64_t at = 0;

	for (int k = 0; k < kind; k++) {
		const struct bl_unit *u = unit_of(f, block, k);

		at += unit_in_place(f, u) ? 0 : padded((uint64_t)(u->rows * u->cols) * f->elem);
	}
	return at;
}

static enum bl_status check_units(const struct bl_forward *f, struct bl_err *err)
{
	if (f->m->n_units != f->c->layers * BL_UNIT_KIND_COUNT)
		return bl_fail(err, BL_UNSUPPORTED, "%s: has %d units in %lld blocks: this model cannot be run", f->m->title, f->m->n_units, (long long)f->c->layers);
	for (int i = 0; i < f->m->n_units; i++)
		for (int j = 0; j < f->m->units[i].n_members; j++) {
			const struct bl_tensor *t = f->m->units[i].members[j].weight;

			if (own_of(f, i))
				continue;
			if (!t)
				return bl_fail(err, BL_UNSUPPORTED, "%s: is already quantized (%s) and cannot be run; open the model it was made from", f->m->title,
					       f->c->quant_method);
			if (!fw_dtype_of(t->dtype))
				return bl_fail(err, BL_UNSUPPORTED, "%s: weights of type %s cannot be run", t->name, bl_dtype_name(t->dtype));
		}
	return BL_OK;
}

/* --- copying in --- */

enum bl_status fw_join(struct bl_forward *f, struct bl_err *err)
{
	if (f->joined)
		return BL_OK;
	f->joined = true;
	return FW_OP(f, err, "weights", upload_join(FW_RUN(f)));
}

/* One buffer for values on their way to another type, taken before weights share out what memory there is; larger matrices pass through it in pieces. */
static enum bl_status open_staging(struct bl_forward *f, uint64_t budget, struct bl_err *err)
{
	uint64_t least = (uint64_t)f->c->hidden * 4 > 256 << 10 ? (uint64_t)f->c->hidden * 4 : 256 << 10, most = 0;
	const struct bl_tensor *two[2] = { f->m->embed, f->m->head };

	if (f->e->ops->unified)
		return BL_OK;
	for (int i = 0; i < f->m->n_units; i++)
		for (int j = 0; j < f->m->units[i].n_members; j++) {
			const struct bl_tensor *t = f->m->units[i].members[j].weight;

			least = (uint64_t)f->m->units[i].cols * 4 > least ? (uint64_t)f->m->units[i].cols * 4 : least;
			if (t && fw_dtype_of(t->dtype) != f->dtype && t->bytes > most)
				most = t->bytes;
		}
	for (int i = 0; i < 2; i++)
		if (two[i] && fw_dtype_of(two[i]->dtype) != f->dtype && two[i]->bytes > most)
			most = two[i]->bytes;
	if (f->dtype != BK_BF16 && !most) /* replacements are BF16 */
		most = STAGING_BYTES;
	if (!most)
		return BL_OK;
	most = most < STAGING_BYTES ? most : STAGING_BYTES;
	most = most < budget / 8 ? most : budget / 8;
	f->staging_bytes = most > least ? most : least;
	return bl_engine_alloc(f->e, (void **)&f->staging, (size_t)f->staging_bytes, "weights on their way to another type", err);
}

/* rows of at most a staging buffer */
static enum bl_status bring_piece(struct bl_forward *f, void *dst, const void *src, int src_dtype, int64_t rows, int64_t cols, struct bl_err *err)
{
	struct bk_mat to = fw_mat(dst, rows, cols, f->dtype), from = fw_mat((void *)src, rows, cols, src_dtype);

	if (!f->e->ops->unified) {
		from.p = f->staging;
		f->joined = false;
		if (FW_OP(f, err, "weights", upload(FW_RUN(f), f->staging, src, (size_t)(rows * cols) * (src_dtype == BK_F32 ? 4 : 2))) || fw_join(f, err))
			return err->status;
	}
	return FW_OP(f, err, "weights", convert(FW_RUN(f), &to, &from));
}

enum bl_status fw_bring(struct bl_forward *f, void *dst, const void *src, int src_dtype, int64_t rows, int64_t cols, struct bl_err *err)
{
	size_t row = (size_t)cols * (src_dtype == BK_F32 ? 4 : 2);
	int64_t most = rows;

	if (src_dtype == f->dtype) {
		f->joined = false;
		return FW_OP(f, err, "weights", upload(FW_RUN(f), dst, src, (size_t)rows * row));
	}
	if (!f->e->ops->unified)
		most = (int64_t)(f->staging_bytes / row);
	if (most < 1)
		return bl_fail(err, BL_NO_MEMORY, "GPU memory: %zu bytes of one row of weights do not fit the %llu there for another type", row, (unsigned long long)f->staging_bytes);
	for (int64_t i = 0; i < rows; i += most)
		if (bring_piece(f, (char *)dst + (size_t)(i * cols) * f->elem, (const char *)src + (size_t)i * row, src_dtype, rows - i < most ? rows - i : most, cols, err))
			return err->status;
	return BL_OK;
}

static enum bl_status fill_place(struct bl_forward *f, struct fw_place *at, int block, const struct bl_weight_set *set, struct bl_err *err)
{
	if (at->block != block) {
		at->block = block;
		at->there = 0;
	}
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++) {
		const struct bl_unit *u = unit_of(f, block, k);
		char *p = at->p + copies_before(f, block, k);
		int64_t row = 0;

		if (at->there >> k & 1 || unit_in_place(f, u) || (set && set->of[u - f->m->units]))
			continue;
		for (int i = 0; i < u->n_members; row += u->members[i++].rows) {
			const struct bl_tensor *t = u->members[i].weight;

			if (fw_bring(f, p + (size_t)(row * u->cols) * f->elem, t->data, fw_dtype_of(t->dtype), u->members[i].rows, u->cols, err))
				return err->status;
		}
		at->there |= (uint8_t)(1u << k);
	}
	return BL_OK;
}

/* The block's own place, or the slot that has it, or the one that the block being run does not use. */
static struct fw_place *place_of(struct bl_forward *f, int block)
{
	if (f->resident[block].p)
		return &f->resident[block];
	for (int i = 0; i < 2; i++)
		if (f->slot[i].block == block)
			return &f->slot[i];
	return f->current >= 0 && f->slot[0].block == f->current ? &f->slot[1] : &f->slot[0];
}

void bl_forward_prefetch(struct bl_forward *f, int block, const struct bl_weight_set *set)
{
	struct bl_err err = BL_ERR_INIT;

	if (f->block_bytes && block >= 0 && block < f->c->layers)
		fill_place(f, place_of(f, block), block, set, &err); /* what failed here fails again when it is needed */
}

/* --- replacements --- */

static void drop_copy(struct bl_forward *f, int i)
{
	bl_engine_release(f->e, f->copies[i].p);
	f->copies[i] = f->copies[--f->n_copies];
}

/* Frees the copy that was used longest ago, but not in this tick. */
static bool drop_oldest(struct bl_forward *f, int unit)
{
	int old = -1, same = 0;

	for (int i = 0; i < f->n_copies; i++) {
		if (unit >= 0 && f->copies[i].unit != unit)
			continue;
		same++;
		if (f->copies[i].used_at != f->tick && (old < 0 || f->copies[i].used_at < f->copies[old].used_at))
			old = i;
	}
	if (old < 0 || (unit >= 0 && same < KEEP_PER_UNIT))
		return false;
	drop_copy(f, old);
	return true;
}

static enum bl_status new_copy(struct bl_forward *f, const struct bl_unit_weights *w, struct bl_err *err)
{
	uint64_t values = (uint64_t)(w->rows * w->cols) * (w->kind == BL_WEIGHTS_CODES ? 1 : f->elem), scales = w->kind == BL_WEIGHTS_CODES ? (uint64_t)(w->rows * bl_unit_weights_spr(w)) * 4 : 0;
	struct fw_copy c = { .id = w->id, .unit = w->unit, .bytes = padded(values) + scales, .used_at = f->tick };

	drop_oldest(f, w->unit);
	while (bl_engine_alloc(f->e, (void **)&c.p, (size_t)c.bytes, "quantized weights", err)) {
		if (err->status != BL_NO_MEMORY || !drop_oldest(f, -1))
			return err->status;
		bl_err_clear(err);
	}
	c.scales = c.p + padded(values);
	bl_xgrow(&f->copies, &f->cap_copies, (size_t)f->n_copies + 1);
	f->copies[f->n_copies++] = c;
	if (w->kind == BL_WEIGHTS_DENSE) {
		fw_bring(f, c.p, w->dense, BK_BF16, w->rows, w->cols, err);
	} else {
		f->joined = false;
		if (FW_OP(f, err, "quantized weights", upload(FW_RUN(f), c.p, w->codes, (size_t)values)) == BL_OK)
			FW_OP(f, err, "quantized weights", upload(FW_RUN(f), c.scales, w->scales, (size_t)scales));
	}
	if (err->status)
		drop_copy(f, f->n_copies - 1);
	return err->status;
}

static bool replacement_in_place(const struct bl_forward *f, const struct bl_unit_weights *w)
{
	return f->e->ops->unified && (w->kind == BL_WEIGHTS_CODES || f->dtype == BK_BF16);
}

static struct fw_copy *find_copy(struct bl_forward *f, uint64_t id)
{
	for (int i = 0; i < f->n_copies; i++)
		if (f->copies[i].id == id)
			return &f->copies[i];
	return NULL;
}

static enum bl_status bring_replacement(struct bl_forward *f, const struct bl_unit *u, const struct bl_unit_weights *w, struct bl_err *err)
{
	struct fw_copy *c;

	if (w->rows != u->rows || w->cols != u->cols)
		return bl_fail(err, BL_INVALID, "%s: its replacement has another shape", u->name);
	if (replacement_in_place(f, w))
		return BL_OK;
	c = find_copy(f, w->id);
	if (!c)
		return new_copy(f, w, err);
	c->used_at = f->tick;
	return BL_OK;
}

static enum bl_status bring_replacements(struct bl_forward *f, int block, const struct bl_weight_set *set, struct bl_err *err)
{
	f->tick++;
	for (int k = 0; (set || f->o.own) && k < BL_UNIT_KIND_COUNT; k++) {
		const struct bl_unit_weights *w = replacement_of(f, set, block * BL_UNIT_KIND_COUNT + k);

		if (w && bring_replacement(f, unit_of(f, block, k), w, err))
			return err->status;
	}
	return BL_OK;
}

/* --- what blocks ask for --- */

enum bl_status fw_block_begin(struct bl_forward *f, int block, const struct bl_weight_set *set, struct bl_err *err)
{
	if (set && set->n != f->m->n_units)
		return bl_fail(err, BL_INVALID, "weights for %d units, the model has %d", set->n, f->m->n_units);
	if (fw_small_begin(f, set, err) || bring_replacements(f, block, set, err) || (f->block_bytes && fill_place(f, place_of(f, block), block, set, err)))
		return err->status;
	f->current = block;
	return fw_join(f, err);
}

static enum bl_status operand(struct bl_forward *f, int unit, const struct bl_unit_weights *w, const struct bl_weight_set *set, struct fw_operand *out, struct bl_err *err)
{
	const struct bl_unit *u = &f->m->units[unit];
	const struct fw_copy *c = w ? find_copy(f, w->id) : NULL;

	*out = (struct fw_operand){ .n = 1, .bias = fw_block_of(f, set, u->block)->bias[u->kind] };
	if (w) {
		out->act = w->act;
		out->input_scale = w->input_scale;
		out->group = w->group;
	}
	if (w && !c && !replacement_in_place(f, w))
		return bl_fail(err, BL_FAILED, "%s: its weights are not there", u->name);
	if (w && w->kind == BL_WEIGHTS_CODES) {
		out->w[0] = fw_mat(c ? (void *)c->p : (void *)w->codes, w->rows, w->cols, bl_act_is_e4m3(w->act) ? BK_F8 : BK_I8);
		out->scales = c ? (const float *)(const void *)c->scales : w->scales;
	} else if (w) {
		out->w[0] = fw_mat(c ? (void *)c->p : (void *)w->dense, w->rows, w->cols, f->dtype);
	} else if (unit_in_place(f, u)) {
		out->n = u->n_members;
		for (int i = 0; i < u->n_members; i++)
			out->w[i] = fw_mat((void *)u->members[i].weight->data, u->members[i].rows, u->cols, f->dtype);
	} else {
		out->w[0] = fw_mat(place_of(f, u->block)->p + copies_before(f, u->block, (int)u->kind), u->rows, u->cols, f->dtype);
	}
	return BL_OK;
}

enum bl_status fw_operand(struct bl_forward *f, int unit, const struct bl_weight_set *set, struct fw_operand *out, struct bl_err *err)
{
	return operand(f, unit, replacement_of(f, set, unit), set, out, err);
}

enum bl_status bl_forward_operand(struct bl_forward *f, int unit, const struct bl_unit_weights *w, struct bl_operand *out, struct bl_err *err)
{
	const struct bl_unit *u = &f->m->units[unit];
	struct fw_operand o;

	if (!w) {
		if (fw_block_begin(f, u->block, NULL, err))
			return err->status;
	} else {
		f->tick++;
		if (bring_replacement(f, u, w, err) || fw_join(f, err))
			return err->status;
	}
	if (operand(f, unit, w ? w : replacement_of(f, NULL, unit), NULL, &o, err))
		return err->status;
	*out = (struct bl_operand){ .n = o.n, .scales = o.scales };
	memcpy(out->w, o.w, (size_t)o.n * sizeof(*o.w));
	return BL_OK;
}

/* --- the plan of memory --- */

static enum bl_status table_copy(struct bl_forward *f, struct bk_mat *m, char **copy, const struct bl_tensor *t, const char *what, struct bl_err *err)
{
	if (tensor_in_place(f, t)) {
		*m = fw_mat((void *)t->data, t->shape[0], t->shape[1], f->dtype);
		return BL_OK;
	}
	if (bl_engine_alloc(f->e, (void **)copy, (size_t)t->n_elems * f->elem, what, err) ||
	    fw_bring(f, *copy, t->data, fw_dtype_of(t->dtype), t->shape[0], t->shape[1], err))
		return err->status;
	*m = fw_mat(*copy, t->shape[0], t->shape[1], f->dtype);
	return BL_OK;
}

static enum bl_status open_tables(struct bl_forward *f, uint64_t *left, bool all, struct bl_err *err)
{
	const struct bl_tensor *embed = f->m->embed, *head = f->m->head && !f->c->tied ? f->m->head : embed;
	uint64_t head_bytes = tensor_in_place(f, head) ? 0 : (uint64_t)head->n_elems * f->elem;
	uint64_t embed_bytes = embed == head || tensor_in_place(f, embed) ? 0 : (uint64_t)embed->n_elems * f->elem;

	if (all || head_bytes <= *left / 4) {
		if (table_copy(f, &f->head, &f->head_copy, head, "the head", err))
			return err->status;
		*left -= head_bytes < *left ? head_bytes : *left;
	}
	if (embed == head) {
		f->embed = f->head;
	} else if (all || !embed_bytes) {
		if (table_copy(f, &f->embed, &f->embed_copy, embed, "the embedding", err))
			return err->status;
		*left -= embed_bytes < *left ? embed_bytes : *left;
	}
	return fw_join(f, err);
}

enum bl_status fw_weights_open(struct bl_forward *f, struct bl_err *err)
{
	uint64_t budget = f->o.weight_bytes ? f->o.weight_bytes : bl_engine_available(f->e) / 4 * 3, total = 0, tables = 0, left = budget;
	const struct bl_tensor *two[2] = { f->m->embed, f->m->head && !f->c->tied ? f->m->head : NULL };
	int layers = (int)f->c->layers, n_resident;

	f->current = -1;
	f->joined = true;
	f->slot[0].block = f->slot[1].block = -1;
	f->resident = bl_xalloc((size_t)layers, sizeof(*f->resident));
	if (check_units(f, err))
		return err->status;
	for (int i = 0; i < 2; i++) {
		if (two[i] && (!fw_dtype_of(two[i]->dtype) || two[i]->rank != 2 || two[i]->shape[0] != f->c->vocab || two[i]->shape[1] != f->c->hidden))
			return bl_fail(err, BL_UNSUPPORTED, "%s: type or shape are not what the model needs", two[i]->name);
		tables += two[i] && !tensor_in_place(f, two[i]) ? (uint64_t)two[i]->n_elems * f->elem : 0;
	}
	for (int b = 0; b < layers; b++) {
		uint64_t bytes = copies_before(f, b, BL_UNIT_KIND_COUNT);

		total += bytes;
		f->block_bytes = bytes > f->block_bytes ? bytes : f->block_bytes;
	}
	if (open_staging(f, budget, err))
		return err->status;
	left -= f->staging_bytes < left ? f->staging_bytes : left;
	if (open_tables(f, &left, total + tables <= left, err) || !f->block_bytes)
		return err->status;
	n_resident = total <= left ? layers : left / f->block_bytes > 2 ? (int)(left / f->block_bytes) - 2 : 0;
	for (int b = 0; b < n_resident && b < layers; b++) {
		uint64_t bytes = copies_before(f, b, BL_UNIT_KIND_COUNT);

		f->resident[b].block = -1;
		if (bytes && bl_engine_alloc(f->e, (void **)&f->resident[b].p, (size_t)bytes, "weights", err))
			return err->status;
	}
	for (int i = 0; i < 2 && n_resident < layers; i++)
		if (bl_engine_alloc(f->e, (void **)&f->slot[i].p, (size_t)f->block_bytes, "weights of two blocks", err))
			return err->status;
	return BL_OK;
}

void fw_weights_close(struct bl_forward *f)
{
	while (f->n_copies)
		drop_copy(f, f->n_copies - 1);
	for (int b = 0; f->resident && b < f->c->layers; b++)
		bl_engine_release(f->e, f->resident[b].p);
	bl_engine_release(f->e, f->slot[0].p);
	bl_engine_release(f->e, f->slot[1].p);
	bl_engine_release(f->e, f->staging);
	bl_engine_release(f->e, f->embed_copy);
	bl_engine_release(f->e, f->head_copy);
	bl_free(f->resident);
	bl_free(f->copies);
}
