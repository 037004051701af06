/* SPDX-License-Identifier: Apache-2.0
 * Logits of chosen tokens of one pass, or of two side by side, in chunks of rows: the whole matrix of logits would be larger than the model. */
#include "core/forward/pass.h"

#define ROWS_MOST 2048

struct chunk { /* buffers in the run's memory */
	int64_t rows;
	char *x, *logits[2];
	int32_t *index;
};

static enum bl_status chunk_new(struct chunk *c, struct bl_forward *f, int64_t n, int64_t max_rows, int sides, struct bl_err *err)
{
	uint64_t row = (uint64_t)f->c->vocab * f->elem * (uint64_t)sides + (uint64_t)f->c->hidden * f->elem;

	*c = (struct chunk){ .rows = max_rows };
	if (c->rows < 1) {
		c->rows = ROWS_MOST;
		while (c->rows > 16 && (uint64_t)c->rows * row > bl_engine_available(f->e) / 4)
			c->rows /= 2;
	}
	c->rows = c->rows < n ? c->rows : n;
	if (bl_engine_alloc(f->e, (void **)&c->x, (size_t)c->rows * (size_t)f->c->hidden * f->elem, "hidden states before the head", err) ||
	    bl_engine_alloc(f->e, (void **)&c->index, (size_t)c->rows * sizeof(int32_t), "token numbers", err))
		return err->status;
	for (int i = 0; i < sides; i++)
		if (bl_engine_alloc(f->e, (void **)&c->logits[i], (size_t)c->rows * (size_t)f->c->vocab * f->elem, "logits", err))
			return err->status;
	return BL_OK;
}

static void chunk_free(struct chunk *c, struct bl_forward *f)
{
	bl_engine_release(f->e, c->x);
	bl_engine_release(f->e, c->index);
	bl_engine_release(f->e, c->logits[0]);
	bl_engine_release(f->e, c->logits[1]);
}

/* Hidden states of tokens[0..n) (or of first..first+n) into x. */
static enum bl_status pick(struct bl_pass *p, struct chunk *c, const int64_t *tokens, int64_t first, int64_t n, const struct bk_mat *x, struct bl_err *err)
{
	struct bl_forward *f = p->f;
	struct bk_mat all = fw_mat(p->hidden, p->tokens, f->c->hidden, f->dtype);
	int32_t *list;

	if (!tokens || tokens[n - 1] - tokens[0] == n - 1)
		return fw_pass_rows(p, tokens ? tokens[0] : first, n, x, err);
	if (!p->hidden) {
		for (int64_t i = 0; i < n; i++) {
			struct bk_mat row = fw_rows(x, i, 1);

			if (fw_pass_rows(p, tokens[i], 1, &row, err))
				return err->status;
		}
		return BL_OK;
	}
	if (bl_try_alloc(&list, (size_t)n, sizeof(*list), "token numbers", err))
		return err->status;
	for (int64_t i = 0; i < n; i++)
		list[i] = (int32_t)tokens[i];
	if (FW_OP(f, err, "hidden states", put(FW_RUN(f), c->index, list, (size_t)n * sizeof(*list))) == BL_OK)
		FW_OP(f, err, "hidden states", gather(FW_RUN(f), x, &all, c->index, 1));
	bl_free(list);
	return err->status;
}

static enum bl_status logits_of(struct bl_pass *p, struct chunk *c, int side, const int64_t *tokens, int64_t first, int64_t n, struct bk_mat *out,
				struct bl_err *err)
{
	struct bl_forward *f = p->f;
	struct bk_mat x = fw_mat(c->x, n, f->c->hidden, f->dtype);

	*out = fw_mat(c->logits[side], n, f->c->vocab, f->dtype);
	if (pick(p, c, tokens ? tokens + first : NULL, first, n, &x, err) || fw_final_norm(f, &x, &x, err))
		return err->status;
	return fw_head(f, out, &x, err);
}

static enum bl_status check_tokens(const struct bl_pass *p, const int64_t *tokens, int64_t n, struct bl_err *err)
{
	if (p->tokens > INT32_MAX)
		return bl_fail(err, BL_UNSUPPORTED, "%lld tokens at once are more than the head takes", (long long)p->tokens);
	if (!tokens && n > p->tokens)
		return bl_fail(err, BL_FAILED, "logits of %lld tokens, there are %lld", (long long)n, (long long)p->tokens);
	for (int64_t i = 0; tokens && i < n; i++)
		if (tokens[i] < 0 || tokens[i] >= p->tokens || (i && tokens[i] <= tokens[i - 1]))
			return bl_fail(err, BL_FAILED, "logits of token %lld: there are %lld, in ascending order", (long long)tokens[i], (long long)p->tokens);
	return BL_OK;
}

struct sides { struct bl_pass *a, *b; const struct bl_head_sink *one; const struct bl_head_pair *two; struct bl_head_kept *kept; };

/* Logits of a's rows first .. first+n: kept ones, or made now and kept. */
static enum bl_status first_side(const struct sides *s, struct chunk *c, const int64_t *tokens, int64_t first, int64_t n, struct bk_mat *out, struct bl_err *err)
{
	struct bl_forward *f = s->a->f;
	size_t row = (size_t)f->c->vocab * f->elem;
	char *own = c->logits[0];

	if (!s->kept || !s->kept->logits)
		return logits_of(s->a, c, 0, tokens, first, n, out, err);
	c->logits[0] = s->kept->logits + (size_t)first * row;
	if (s->kept->filled)
		*out = fw_mat(c->logits[0], n, f->c->vocab, f->dtype);
	else
		logits_of(s->a, c, 0, tokens, first, n, out, err);
	c->logits[0] = own;
	return err->status;
}

void bl_head_keep(struct bl_head_kept *k, struct bl_forward *f, int64_t n)
{
	uint64_t row = (uint64_t)f->c->vocab * f->elem, bytes = (uint64_t)n * row;
	struct bl_err ignored = BL_ERR_INIT;

	*k = (struct bl_head_kept){ .rows = n };
	/* places of rows as aligned as a buffer of their own, or the same products might come from other kernels */
	if (f->e->ops->unified || row % 256 || bytes > bl_engine_available(f->e) / 4 || bl_engine_alloc(f->e, (void **)&k->logits, (size_t)bytes, "logits", &ignored))
		k->logits = NULL;
}

void bl_head_drop(struct bl_head_kept *k, struct bl_forward *f)
{
	if (k->logits)
		bl_engine_release(f->e, k->logits);
	*k = (struct bl_head_kept){ 0 };
}

static enum bl_status run(const struct sides *s, const int64_t *tokens, int64_t n, int64_t max_rows, struct bl_err *err)
{
	struct bl_forward *f = s->a->f;
	struct chunk c = { 0 };
	struct bk_mat p, q;

	if (!tokens && n <= 0)
		n = s->a->tokens;
	if (check_tokens(s->a, tokens, n, err) || n < 1)
		return err->status;
	if (chunk_new(&c, f, n, max_rows, s->b ? 2 : 1, err) == BL_OK)
		for (int64_t i = 0; i < n; i += c.rows) {
			int64_t rows = n - i < c.rows ? n - i : c.rows;

			if (fw_cancelled(f, err) || first_side(s, &c, tokens, i, rows, &p, err) ||
			    (s->b && logits_of(s->b, &c, 1, tokens, i, rows, &q, err)) ||
			    (s->b ? s->two->rows(s->two->ctx, i, &p, &q, err) : s->one->rows(s->one->ctx, i, &p, err)))
				break;
		}
	chunk_free(&c, f);
	return err->status;
}

enum bl_status bl_pass_head(struct bl_pass *p, const int64_t *tokens, int64_t n, int64_t max_rows, const struct bl_head_sink *sink, struct bl_err *err)
{
	return run(&(struct sides){ .a = p, .one = sink }, tokens, n, max_rows, err);
}

enum bl_status bl_pass_head_pair(struct bl_pass *base, struct bl_pass *other, const int64_t *tokens, int64_t n, int64_t max_rows, const struct bl_head_pair *sink,
				 struct bl_head_kept *kept, struct bl_err *err)
{
	if (kept && kept->logits && kept->rows != n)
		return bl_fail(err, BL_FAILED, "logits of %lld tokens were kept, %lld are asked for", (long long)kept->rows, (long long)n);
	if (base->f != other->f || base->tokens != other->tokens)
		return bl_fail(err, BL_FAILED, "logits of different sequences cannot be compared");
	if (run(&(struct sides){ .a = base, .b = other, .two = sink, .kept = kept }, tokens, n, max_rows, err) == BL_OK && kept && kept->logits)
		kept->filled = true;
	return err->status;
}
