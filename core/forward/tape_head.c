/* SPDX-License-Identifier: Apache-2.0
 * Both ends of a taped model: embedding rows in, the divergence from the base model out, with its gradient. Logits exist for a chunk of rows at a time. */
#include "core/forward/pass.h"
#include "core/forward/tape_private.h"

#define ROWS_MOST 2048

static uint64_t padded(uint64_t bytes) { return (bytes + 255) & ~(uint64_t)255; }

static enum bl_status need_head(struct bl_tape *t, struct bl_err *err)
{
	struct bl_forward *f = t->f;
	const uint64_t hidden = (uint64_t)f->c->hidden * f->elem, vocab = (uint64_t)f->c->vocab * f->elem;
	int64_t rows = t->tokens < ROWS_MOST ? t->tokens : ROWS_MOST;
	char *p;

	if (t->head_base)
		return BL_OK;
	if (!f->head.p)
		return bl_fail(err, BL_NO_MEMORY, "the model's head does not fit the device's memory; tuning needs it there");
	while (rows > 64 && (uint64_t)rows * 2 * vocab > bl_engine_available(f->e) / 4)
		rows /= 2;
	if (bl_engine_alloc(f->e, (void **)&t->head_base, (size_t)(2 * padded((uint64_t)rows * vocab) + 3 * padded((uint64_t)rows * hidden) + padded((uint64_t)t->tokens * 4)),
			    "logits", err))
		return err->status;
	p = t->head_base;
	t->head_rows = rows;
	t->logits = fw_mat(p, rows, f->c->vocab, f->dtype);
	t->base_logits = fw_mat(p += padded((uint64_t)rows * vocab), rows, f->c->vocab, f->dtype);
	t->head_n = fw_mat(p += padded((uint64_t)rows * vocab), rows, f->c->hidden, f->dtype);
	t->d_n = fw_mat(p += padded((uint64_t)rows * hidden), rows, f->c->hidden, f->dtype);
	t->kl = (float *)(void *)(p + padded((uint64_t)rows * hidden));
	return BL_OK;
}

static enum bl_status logits_of(struct bl_tape *t, const struct bk_mat *x, const struct bk_mat *n, const struct bk_mat *out, struct bl_err *err)
{
	return fw_final_norm(t->f, n, x, err) ? err->status : fw_head(t->f, out, n, err);
}

static enum bl_status chunk(struct bl_tape *t, const struct bk_mat *y, const struct bk_mat *base, const struct bk_mat *d, float *kl, struct bl_err *err)
{
	struct bl_forward *f = t->f;
	const struct bk_norm final = { f->final_norm, (enum bk_dtype)f->dtype, f->c->rms_eps, f->a->norm_plus_one };
	const struct bk_mat n = fw_rows(&t->head_n, 0, y->rows), dn = fw_rows(&t->d_n, 0, y->rows), q = fw_rows(&t->logits, 0, y->rows), p = fw_rows(&t->base_logits, 0, y->rows);

	if (logits_of(t, base, &n, &p, err) || logits_of(t, y, &n, &q, err) ||
	    TAPE_GRAD(t, err, "the divergence", kl_back(FW_RUN(f), &p, kl, &p, &q, 1 / (float)t->tokens)) || !d)
		return err->status;
	if (f->c->final_cap > 0 && TAPE_GRAD(t, err, "the cap's gradient", softcap_back(FW_RUN(f), &p, &q, &p, f->c->final_cap)))
		return err->status;
	if (FW_OP(f, err, "the head's gradient", gemm(FW_RUN(f), &dn, &p, 0, &f->head, 0, 1, 0, NULL)))
		return err->status;
	return TAPE_GRAD(t, err, "the final norm's gradient", rmsnorm_back(FW_RUN(f), d, NULL, y, &final, &dn, BK_GRAD_SET));
}

enum bl_status bl_tape_kl(struct bl_tape *t, const struct bk_mat *y, const struct bk_mat *base, const struct bk_mat *d, double *kl, struct bl_err *err)
{
	struct bl_forward *f = t->f;
	float *host;

	if (need_head(t, err) || bl_try_alloc(&host, (size_t)t->tokens, sizeof *host, "divergences", err))
		return err->status;
	for (int64_t i = 0; i < t->tokens && !err->status; i += t->head_rows) {
		const int64_t n = t->tokens - i < t->head_rows ? t->tokens - i : t->head_rows;
		const struct bk_mat yn = fw_rows(y, i, n), bn = fw_rows(base, i, n);
		struct bk_mat dn;

		if (d)
			dn = fw_rows(d, i, n);
		chunk(t, &yn, &bn, d ? &dn : NULL, t->kl + i, err);
	}
	if (!err->status && !FW_OP(f, err, "divergences", get(FW_RUN(f), host, t->kl, (size_t)t->tokens * sizeof *host)))
		for (int64_t i = 0; i < t->tokens; i++)
			*kl += host[i];
	bl_free(host);
	return err->status;
}

enum bl_status bl_tape_take(struct bl_tape *t, struct bl_pass *p, int64_t from, const struct bk_mat *to, int64_t window, struct bl_err *err)
{
	const struct bk_mat rows = fw_rows(to, window * t->len, t->len);

	return fw_pass_rows(p, from * t->len, t->len, &rows, err);
}

enum bl_status bl_tape_give(struct bl_tape *t, struct bl_pass *p, int64_t to, const struct bk_mat *from, int64_t window, struct bl_err *err)
{
	const struct bk_mat rows = fw_rows(from, window * t->len, t->len);
	const size_t row = bl_pass_row_bytes(p), at = (size_t)(to * t->len) * row, bytes = (size_t)t->len * row;

	if (p->hidden)
		return FW_OP(t->f, err, "hidden states", copy(FW_RUN(t->f), p->hidden + at, rows.p, bytes));
	return FW_OP(t->f, err, "hidden states", get(FW_RUN(t->f), p->host + at, rows.p, bytes));
}

enum bl_status bl_tape_embed(struct bl_tape *t, const int32_t *ids, const struct bk_mat *to, struct bl_err *err) { return fw_embed(t->f, to, ids, err); }
