/* SPDX-License-Identifier: Apache-2.0
 * Which tensors a block's operations change, and their bytes: read as float32, through all operations, rounded once to the type they are stored in. */
#include "core/transform/tensors.h"

#include <stdio.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/mem.h"

#define PIECE_ELEMS (1 << 18)

/* ---- which ---- */

static struct fold_tensor *add(struct fold_tensor **all, int *n, size_t *cap, const struct bl_tensor *from, int block, const struct bl_ops *ops)
{
	bl_xgrow(all, cap, (size_t)*n + 1);
	struct fold_tensor *t = &(*all)[(*n)++];

	*t = (struct fold_tensor){ .from = from, .t = *from, .block = block, .ops = ops, .columns = -1 };
	t->t.data = NULL;
	return t;
}

static void made_rows(struct fold_tensor *t, const struct bl_ops *ops, enum bl_fold_pair pair, int64_t row0, int64_t n, bool scaled)
{
	if (scaled ? bl_ops_touch(ops, pair) : bl_ops_reorder(ops, pair))
		t->rows[t->n_rows++] = (struct fold_rows){ row0, n, pair, scaled };
}

/* Rows of member i of a unit that are channels of a pair. */
static void rows_of(struct fold_tensor *t, const struct bl_model *m, const struct bl_unit *u, int i, const struct bl_ops *ops)
{
	const struct bl_config *c = &m->config;
	const int64_t kv = c->kv_heads * c->head_dim, all = u->members[i].rows;

	if (u->kind == BL_UNIT_QKV && i == u->n_members - 1)
		made_rows(t, ops, BL_FOLD_VO, all - kv, kv, true); /* v is last, alone or in a fused tensor */
	if (u->kind != BL_UNIT_GATE_UP)
		return;
	if (i == 0)
		made_rows(t, ops, BL_FOLD_UP_DOWN, 0, c->ffn, false);
	if (i == u->n_members - 1)
		made_rows(t, ops, BL_FOLD_UP_DOWN, all - c->ffn, c->ffn, true);
}

static void add_norm(struct fold_tensor **all, int *n, size_t *cap, const struct bl_model *m, int block, const struct bl_ops *ops, enum bl_fold_pair pair)
{
	const struct bl_unit *u = &m->units[block * BL_UNIT_KIND_COUNT + (int)bl_channels_of(m, pair).reader];
	const char *norm = bl_arch_norm_before(m->arch, u->kind), *member = u->members[0].name, *below = m->arch->units[u->kind].member[0];
	char name[1200];

	if (!norm || strlen(member) < strlen(below))
		return;
	snprintf(name, sizeof name, "%.*s%s", (int)(strlen(member) - strlen(below)), member, norm);
	const struct bl_tensor *t = bl_model_tensor(m, name);
	if (!t)
		return; /* such a model cannot run, and says so there */
	struct fold_tensor *f = add(all, n, cap, t, block, ops);
	f->norm = true;
	f->plus_one = m->arch->norm_plus_one;
	f->columns = (int)pair;
}

void fold_tensors_of(struct fold_tensor **all, int *n, size_t *cap, const struct bl_model *m, int block, const struct bl_ops *ops)
{
	for (int k = 0; k < BL_UNIT_KIND_COUNT; k++) {
		const struct bl_unit *u = &m->units[block * BL_UNIT_KIND_COUNT + k];
		enum bl_fold_pair pair;
		const bool columns = bl_pair_read_by(m, u->kind, &pair) && bl_ops_touch(ops, pair);

		for (int i = 0; i < u->n_members; i++) {
			struct fold_tensor probe = { .n_rows = 0 };

			rows_of(&probe, m, u, i, ops);
			if (!columns && !probe.n_rows)
				continue;
			struct fold_tensor *t = add(all, n, cap, u->members[i].weight, block, ops);
			memcpy(t->rows, probe.rows, sizeof t->rows);
			t->n_rows = probe.n_rows;
			t->columns = columns ? (int)pair : -1;
			if (!u->members[i].bias || !probe.n_rows)
				continue;
			t = add(all, n, cap, u->members[i].bias, block, ops);
			memcpy(t->rows, probe.rows, sizeof t->rows);
			t->n_rows = probe.n_rows;
		}
	}
	for (int p = BL_FOLD_NORM_QKV; p < BL_FOLD_LEGAL; p++)
		if (bl_ops_touch(ops, (enum bl_fold_pair)p))
			add_norm(all, n, cap, m, block, ops, (enum bl_fold_pair)p);
}

/* ---- their bytes ---- */

struct piece { int tensor; int64_t row0, n; int rows; }; /* rows: index of the segment that is made as a whole (a head), -1: row by row */
struct making { struct fold_tensor *all; const struct bl_model *m; struct piece *pieces; int n; size_t cap; };

static int64_t cols_of(const struct bl_tensor *t) { return t->rank > 1 ? t->shape[t->rank - 1] : 1; }

static void store_row(const struct fold_tensor *t, int64_t row, const float *v)
{
	const int64_t cols = cols_of(&t->t);
	char *to = (char *)(uintptr_t)t->t.data + row * cols * bl_dtype_bytes(t->t.dtype);

	if (t->t.dtype == BL_F32) {
		memcpy(to, v, (size_t)cols * 4);
		return;
	}
	for (int64_t i = 0; i < cols; i++) {
		uint16_t h = t->t.dtype == BL_BF16 ? bl_f32_bf16(v[i]) : bl_f32_f16(v[i]);

		memcpy(to + 2 * i, &h, 2);
	}
}

static void through_columns(const struct making *k, const struct fold_tensor *t, float *row, float *tmp)
{
	if (t->columns < 0)
		return;
	const struct bl_channels c = bl_channels_of(k->m, (enum bl_fold_pair)t->columns);
	bl_ops_reader_row(t->ops, &c, row, tmp, cols_of(&t->t));
}

static void plain_rows(const struct making *k, const struct fold_tensor *t, const struct piece *p, float *row)
{
	const int64_t cols = cols_of(&t->t);

	for (int64_t i = p->row0; i < p->row0 + p->n; i++) {
		int64_t from = i;
		double mul = 1;

		for (int s = 0; s < t->n_rows; s++)
			if (i >= t->rows[s].row0 && i < t->rows[s].row0 + t->rows[s].n) {
				const struct bl_channels c = bl_channels_of(k->m, t->rows[s].pair);

				bl_ops_maker_row(t->ops, &c, i - t->rows[s].row0, t->rows[s].scaled, &from, &mul);
				from += t->rows[s].row0;
			}
		fold_load_row(row, t->from, from, cols);
		for (int64_t j = 0; mul != 1 && j < cols; j++)
			row[j] = (float)(row[j] * mul);
		through_columns(k, t, row, row + cols);
		store_row(t, i, row);
	}
}

static enum bl_status mixed_rows(const struct making *k, const struct fold_tensor *t, const struct piece *p, struct bl_err *err)
{
	const struct fold_rows *s = &t->rows[p->rows];
	const struct bl_channels c = bl_channels_of(k->m, s->pair);
	const int64_t cols = cols_of(&t->t);
	float *rows;

	if (bl_try_alloc(&rows, (size_t)(2 * p->n * cols), sizeof *rows, "rows of a head", err))
		return err->status;
	for (int64_t i = 0; i < p->n; i++)
		fold_load_row(rows + i * cols, t->from, p->row0 + i, cols);
	bl_ops_maker_head(t->ops, &c, (p->row0 - s->row0) / c.head, rows, rows + p->n * cols, cols);
	for (int64_t i = 0; i < p->n; i++) {
		through_columns(k, t, rows + i * cols, rows + p->n * cols);
		store_row(t, p->row0 + i, rows + i * cols);
	}
	bl_free(rows);
	return BL_OK;
}

static void norm_vector(const struct making *k, const struct fold_tensor *t, float *v)
{
	const struct bl_channels c = bl_channels_of(k->m, (enum bl_fold_pair)t->columns);
	const float one = t->plus_one ? 1 : 0;

	for (int64_t i = 0; i < t->t.n_elems; i++) {
		int64_t from;
		double mul;

		fold_load_row(v, t->from, i, 1);
		bl_ops_maker_row(t->ops, &c, i, true, &from, &mul);
		*v = (float)((*v + one) * mul - one);
		store_row(t, i, v);
	}
}

static enum bl_status make_piece(void *ctx, size_t item, struct bl_err *err)
{
	const struct making *k = ctx;
	const struct piece *p = &k->pieces[item];
	const struct fold_tensor *t = &k->all[p->tensor];
	float *row;

	if (p->rows >= 0)
		return mixed_rows(k, t, p, err);
	row = bl_xalloc(2 * (size_t)cols_of(&t->t), sizeof *row);
	if (t->norm)
		norm_vector(k, t, row);
	else
		plain_rows(k, t, p, row);
	bl_free(row);
	return BL_OK;
}

static void add_piece(struct making *k, int tensor, int64_t row0, int64_t n, int rows)
{
	bl_xgrow(&k->pieces, &k->cap, (size_t)k->n + 1);
	k->pieces[k->n++] = (struct piece){ tensor, row0, n, rows };
}

static void cut(struct making *k, int tensor)
{
	const struct fold_tensor *t = &k->all[tensor];
	const int64_t cols = cols_of(&t->t), rows = t->t.n_elems / (cols > 0 ? cols : 1), step = cols >= PIECE_ELEMS ? 1 : PIECE_ELEMS / cols;
	int64_t at = 0;

	if (t->norm) {
		add_piece(k, tensor, 0, rows, -1);
		return;
	}
	for (int s = 0; s < t->n_rows; s++) {
		const int64_t head = bl_channels_of(k->m, t->rows[s].pair).head;

		if (!bl_ops_mix(t->ops, t->rows[s].pair))
			continue;
		for (; at < t->rows[s].row0; at += step)
			add_piece(k, tensor, at, t->rows[s].row0 - at < step ? t->rows[s].row0 - at : step, -1);
		for (at = t->rows[s].row0; at < t->rows[s].row0 + t->rows[s].n; at += head)
			add_piece(k, tensor, at, head, s);
	}
	for (; at < rows; at += step)
		add_piece(k, tensor, at, rows - at < step ? rows - at : step, -1);
}

enum bl_status fold_tensors_make(struct fold_tensor *all, int n, const struct bl_model *m, struct bl_pool *pool, const atomic_int *cancel, struct bl_err *err)
{
	struct making k = { .all = all, .m = m };

	for (int i = 0; i < n; i++) {
		void *data;

		if (bl_try_alloc(&data, (size_t)all[i].t.bytes + 1, 1, "weights after the plan's stages", err))
			goto done;
		all[i].t.data = data;
		cut(&k, i);
	}
	bl_pool_run(pool, (size_t)k.n, make_piece, &k, cancel, err);
done:
	bl_free(k.pieces);
	return err->status;
}
