/* SPDX-License-Identifier: Apache-2.0
 * Sequences on their way through the blocks, batch by batch. Hidden states that do not fit the run's memory stay with the host and travel through
 * three buffers: while one batch is computed, the one before goes out and the one after comes in. */
#include "core/forward/pass.h"

#include <string.h>

#define CPU_BATCH  4096
#define GPU_BATCH  32768
#define LEAST_BATCH 256
#define STEP_BATCH  1024
#define CPU_GOOD    1024 /* tokens at once that make products large enough: with fewer, hidden states rather go to the host */
#define GPU_GOOD    8192

static size_t row_bytes(const struct bl_forward *f) { return (size_t)f->c->hidden * f->elem; }

size_t bl_pass_row_bytes(const struct bl_pass *p) { return row_bytes(p->f); }
int64_t bl_pass_tokens(const struct bl_pass *p) { return p->tokens; }
uint64_t bl_pass_spilled(const struct bl_pass *p) { return p->spilled; }
int bl_pass_batches(const struct bl_pass *p) { return p->n_batches; }
int64_t bl_pass_batch_tokens(const struct bl_pass *p) { return p->batch_tokens; }

/* The largest batch beside which all hidden states stay in the run's memory; when none of a good size does, the largest that half of the memory holds with
 * its three turns. An eighth is left for others. */
static int64_t choose_batch(struct bl_pass *p)
{
	const struct bl_forward *f = p->f;
	int64_t most = f->e->cuda ? GPU_BATCH : CPU_BATCH, good = f->e->cuda ? GPU_GOOD : CPU_GOOD, batch;
	uint64_t there = bl_engine_available(f->e) + (f->work.tokens ? fw_work_bytes(f->m, f->elem, f->work.tokens) : 0);

	p->reserve = there / 8;
	if (f->o.batch_tokens > 0)
		return f->o.batch_tokens;
	for (batch = most; batch >= good; batch /= 2)
		if (fw_work_bytes(f->m, f->elem, batch) + (uint64_t)p->tokens * row_bytes(f) <= there - p->reserve)
			return batch;
	for (batch = most; batch > LEAST_BATCH; batch /= 2)
		if (fw_work_bytes(f->m, f->elem, batch) + 3 * (uint64_t)batch * row_bytes(f) <= there / 2)
			break;
	for (int64_t more = 2 * batch - STEP_BATCH; batch < most && more > batch; more -= STEP_BATCH)
		if (fw_work_bytes(f->m, f->elem, more) + 3 * (uint64_t)more * row_bytes(f) <= there / 4 * 3)
			return more;
	return batch;
}

static enum bl_status check_ids(const struct bl_pass *p, struct bl_err *err)
{
	const struct bl_sequences *s = &p->s;
	int64_t vocab = p->f->c->vocab;

	if (s->n < 1 || s->n > 1 << 24 || s->start[0] != 0)
		return bl_fail(err, BL_INVALID, "there are no sequences to run");
	for (int64_t i = 0; i < s->n; i++)
		if (s->start[i + 1] <= s->start[i] || s->start[i + 1] - s->start[i] > (1 << 28))
			return bl_fail(err, BL_INVALID, "sequence %lld is empty or too long", (long long)i);
	for (int64_t i = 0; i < s->start[s->n]; i++)
		if (s->ids[i] < 0 || s->ids[i] >= vocab)
			return bl_fail(err, BL_INVALID, "token %lld: id %d is outside the vocabulary of %lld", (long long)i, s->ids[i], (long long)vocab);
	return BL_OK;
}

static void cut(struct bl_pass *p, int64_t batch)
{
	const struct bl_sequences *s = &p->s;

	bl_free(p->batches);
	p->batches = bl_xalloc((size_t)s->n, sizeof(*p->batches));
	p->n_batches = 0;
	p->batch_tokens = 0;
	for (int64_t i = 0; i < s->n; i++) {
		struct fw_batch *b = p->n_batches ? &p->batches[p->n_batches - 1] : NULL;
		int64_t n = s->start[i + 1] - s->start[i];

		if (!b || b->tokens + n > batch) {
			b = &p->batches[p->n_batches++];
			b->first = s->start[i];
		}
		b->tokens += n;
		b->n++;
		b->longest = n > b->longest ? n : b->longest;
		p->batch_tokens = b->tokens > p->batch_tokens ? b->tokens : p->batch_tokens;
	}
}

/* Positions and starts of all batches, in one piece. */
static enum bl_status make_index(struct bl_pass *p, struct bl_err *err)
{
	struct bl_forward *f = p->f;
	const struct bl_sequences *s = &p->s;
	int64_t n = p->tokens + s->n + p->n_batches, at = p->tokens, seq = 0, longest = 0;
	int32_t *host;

	if (bl_try_alloc(&host, (size_t)n, sizeof(*host), "positions", err))
		return err->status;
	for (int64_t i = 0; i < s->n; i++)
		for (int64_t t = s->start[i]; t < s->start[i + 1]; t++)
			host[t] = (int32_t)(t - s->start[i]);
	if (bl_engine_alloc(f->e, (void **)&p->index, (size_t)n * sizeof(*host), "positions", err) == BL_OK) {
		for (int b = 0; b < p->n_batches; b++) {
			struct fw_batch *x = &p->batches[b];

			x->starts = p->index + at;
			for (int i = 0; i <= x->n; i++)
				host[at++] = (int32_t)(s->start[seq + i] - x->first);
			seq += x->n;
			longest = x->longest > longest ? x->longest : longest;
		}
		FW_OP(f, err, "positions", put(FW_RUN(f), p->index, host, (size_t)n * sizeof(*host)));
	}
	bl_free(host);
	return err->status ? err->status : fw_rope_need(f, longest, err);
}

static void drop_turn(struct bl_pass *p)
{
	bl_engine_release(p->f->e, p->turn);
	p->turn = NULL;
	for (int i = 0; i < 2; i++) {
		p->f->e->ops->host_release(FW_RUN(p->f), p->bounce[i]);
		p->bounce[i] = NULL;
	}
}

static enum bl_status make_turn(struct bl_pass *p, struct bl_err *err)
{
	struct bl_forward *f = p->f;
	size_t batch = (size_t)p->batch_tokens * row_bytes(f);

	if (bl_engine_alloc(f->e, (void **)&p->turn, 3 * batch, "hidden states of three batches", err))
		return err->status;
	for (int i = 0; i < 2 && p->spilled && !f->e->ops->unified; i++)
		if (f->e->ops->host_alloc(FW_RUN(f), (void **)&p->bounce[i], batch)) {
			p->bounce[i] = NULL;
			return bl_fail(err, BL_NO_MEMORY, "memory: %zu MiB asked for a batch of hidden states on its way to a file", batch >> 20);
		}
	return BL_OK;
}

/* In the run's memory when it leaves the reserve there; else in host memory, within its bound; else in a file. */
static enum bl_status make_hidden(struct bl_pass *p, struct bl_err *err)
{
	struct bl_forward *f = p->f;
	uint64_t bytes = (uint64_t)p->tokens * row_bytes(f);
	bool bound = f->o.host_bytes && bytes > f->o.host_bytes;

	if (bytes + p->reserve <= bl_engine_available(f->e) && f->e->ops->alloc(FW_RUN(f), (void **)&p->hidden, (size_t)bytes) == 0)
		return BL_OK;
	p->hidden = NULL;
	if (bound || f->e->ops->host_alloc(FW_RUN(f), (void **)&p->host, (size_t)bytes)) {
		p->host = NULL;
		if (!f->o.spill_dir)
			return bl_fail(err, BL_NO_MEMORY, "memory: %.1f GiB asked for hidden states of %lld tokens; fewer samples need less",
				       (double)bytes / (1024.0 * 1024 * 1024), (long long)p->tokens);
		if (bl_scratch_open((void **)&p->host, bytes, f->o.spill_dir, err))
			return err->status;
		p->spilled = bytes;
	}
	return make_turn(p, err);
}

/* The workspace of a batch; where memory is short, smaller batches instead, down to one sequence. */
static enum bl_status make_batches(struct bl_pass *p, int64_t batch, struct bl_err *err)
{
	for (;;) {
		cut(p, batch);
		if (fw_work_need(p->f, p->batch_tokens, err) == BL_OK || err->status != BL_NO_MEMORY || p->n_batches == p->s.n)
			return err->status;
		batch = p->batch_tokens / 2;
		bl_err_clear(err);
	}
}

enum bl_status bl_pass_set_batch(struct bl_pass *p, int64_t batch_tokens, struct bl_err *err)
{
	struct bl_forward *f = p->f;

	if (f->work.tokens > batch_tokens) { /* it is to need less from now on */
		bl_engine_release(f->e, f->work.base);
		f->work = (struct fw_work){ 0 };
	}
	bl_engine_release(f->e, p->index);
	p->index = NULL;
	drop_turn(p);
	if (make_batches(p, batch_tokens, err) || make_index(p, err))
		return err->status;
	return p->hidden ? BL_OK : make_turn(p, err);
}

enum bl_status bl_pass_new(struct bl_pass **out, struct bl_forward *f, const struct bl_sequences *s, struct bl_err *err)
{
	struct bl_pass *p = bl_xalloc(1, sizeof(*p));

	p->f = f;
	p->s = *s;
	if (check_ids(p, err) == BL_OK) {
		p->tokens = s->start[s->n];
		if (make_batches(p, choose_batch(p), err) == BL_OK && make_index(p, err) == BL_OK)
			make_hidden(p, err);
	}
	if (err->status) {
		bl_pass_free(p);
		return err->status;
	}
	*out = p;
	return BL_OK;
}

void bl_pass_free(struct bl_pass *p)
{
	struct bl_engine *e;

	if (!p)
		return;
	e = p->f->e;
	e->ops->wait(e->run); /* copies to or from the host may be on their way */
	e->ops->download_join(e->run);
	bl_engine_release(e, p->hidden);
	drop_turn(p);
	bl_engine_release(e, p->index);
	if (p->spilled)
		bl_scratch_close(p->host, p->spilled);
	else
		e->ops->host_release(e->run, p->host);
	bl_free(p->batches);
	bl_free(p);
}

/* --- rows in and out --- */

static enum bl_status check_rows(const struct bl_pass *p, int64_t first, int64_t n, struct bl_err *err)
{
	if (first < 0 || n < 0 || first > p->tokens - n)
		return bl_fail(err, BL_FAILED, "hidden states %lld .. %lld of %lld", (long long)first, (long long)(first + n), (long long)p->tokens);
	return BL_OK;
}

enum bl_status bl_pass_read(struct bl_pass *p, int64_t first, int64_t n, void *host, struct bl_err *err)
{
	size_t at = (size_t)first * row_bytes(p->f), bytes = (size_t)n * row_bytes(p->f);

	if (check_rows(p, first, n, err))
		return err->status;
	if (p->hidden)
		return FW_OP(p->f, err, "hidden states", get(FW_RUN(p->f), host, p->hidden + at, bytes));
	memcpy(host, p->host + at, bytes);
	return BL_OK;
}

enum bl_status bl_pass_write(struct bl_pass *p, int64_t first, int64_t n, const void *host, struct bl_err *err)
{
	size_t at = (size_t)first * row_bytes(p->f), bytes = (size_t)n * row_bytes(p->f);

	if (check_rows(p, first, n, err))
		return err->status;
	if (!p->hidden) {
		memcpy(p->host + at, host, bytes);
		return BL_OK;
	}
	p->f->joined = false; /* uploads are faster than put from memory that is not pinned, and take a mapped file that shrank */
	if (FW_OP(p->f, err, "hidden states", upload(FW_RUN(p->f), p->hidden + at, host, bytes)))
		return err->status;
	return fw_join(p->f, err);
}

enum bl_status fw_pass_rows(struct bl_pass *p, int64_t first, int64_t n, const struct bk_mat *dst, struct bl_err *err)
{
	size_t at = (size_t)first * row_bytes(p->f), bytes = (size_t)n * row_bytes(p->f);

	if (p->hidden)
		return FW_OP(p->f, err, "hidden states", copy(FW_RUN(p->f), dst->p, p->hidden + at, bytes));
	return FW_OP(p->f, err, "hidden states", put(FW_RUN(p->f), dst->p, p->host + at, bytes));
}

enum bl_status bl_pass_copy(struct bl_pass *dst, struct bl_pass *src, struct bl_err *err)
{
	size_t bytes = (size_t)src->tokens * row_bytes(src->f);

	if (dst->tokens != src->tokens || dst->f != src->f)
		return bl_fail(err, BL_FAILED, "hidden states of different sequences");
	if (dst->hidden)
		return fw_pass_rows(src, 0, src->tokens, &(struct bk_mat){ .p = dst->hidden }, err);
	if (src->hidden)
		return bl_pass_read(src, 0, src->tokens, dst->host, err);
	memcpy(dst->host, src->host, bytes);
	return BL_OK;
}

/* --- through the blocks --- */

struct step { /* what is done to every batch */
	const struct bl_weight_set *set;
	const struct bl_tap *tap;
	int block;
	enum bl_status (*fn)(struct bl_pass *p, const struct step *s, int batch, const struct bk_mat *h, struct bl_err *err);
};

static char *turn_of(const struct bl_pass *p, int batch) { return p->turn + (size_t)(batch % 3) * (size_t)p->batch_tokens * row_bytes(p->f); }

static enum bl_status bring_batch(struct bl_pass *p, int b, struct bl_err *err)
{
	const struct fw_batch *x = &p->batches[b];

	if (b >= p->n_batches)
		return BL_OK;
	p->f->joined = false;
	return FW_OP(p->f, err, "hidden states",
		     upload(FW_RUN(p->f), turn_of(p, b), p->host + (size_t)x->first * row_bytes(p->f), (size_t)x->tokens * row_bytes(p->f)));
}

/* Where batch b goes to from the device: its place, or a pinned buffer before it. */
static char *way_out(const struct bl_pass *p, int b)
{
	return p->bounce[0] ? p->bounce[b % 2] : p->host + (size_t)p->batches[b].first * row_bytes(p->f);
}

/* Batch b has arrived at the host. */
static enum bl_status arrived(struct bl_pass *p, int b, struct bl_err *err)
{
	if (FW_OP(p->f, err, "hidden states", download_join(FW_RUN(p->f))))
		return err->status;
	if (b >= 0 && p->bounce[0])
		memcpy(p->host + (size_t)p->batches[b].first * row_bytes(p->f), p->bounce[b % 2], (size_t)p->batches[b].tokens * row_bytes(p->f));
	return BL_OK;
}

/* b+1 starts to come in before b is issued, or it would wait for b; b-1 goes out while b is computed, and must be out before b+2 takes its buffer. */
static enum bl_status offloaded(struct bl_pass *p, const struct step *s, struct bl_err *err)
{
	struct bl_forward *f = p->f;
	enum bl_status st = bring_batch(p, 0, err);
	int out = -1;

	for (int b = 0; b < p->n_batches && !st; b++) {
		const struct fw_batch *x = &p->batches[b];
		struct bk_mat h = fw_mat(turn_of(p, b), x->tokens, f->c->hidden, f->dtype);

		if ((st = fw_cancelled(f, err)) || (st = fw_join(f, err)) || (st = bring_batch(p, b + 1, err)) || (st = s->fn(p, s, b, &h, err)) ||
		    (st = arrived(p, out, err)))
			break;
		if (s->tap && s->tap->batch_done) /* before the copy is queued: who waits for copies there shall not wait for this batch */
			s->tap->batch_done(s->tap->ctx, s->block, x->first + x->tokens);
		st = FW_OP(f, err, "hidden states", download(FW_RUN(f), way_out(p, b), h.p, (size_t)x->tokens * row_bytes(f)));
		if (!st)
			out = b;
	}
	struct bl_err late = BL_ERR_INIT;
	if (arrived(p, out, &late) && !st) {
		*err = late;
		st = err->status;
	}
	return st;
}

static enum bl_status every_batch(struct bl_pass *p, const struct step *s, struct bl_err *err)
{
	struct bl_forward *f = p->f;

	if (!p->hidden)
		return offloaded(p, s, err);
	for (int b = 0; b < p->n_batches; b++) {
		const struct fw_batch *x = &p->batches[b];
		struct bk_mat h = fw_mat(p->hidden + (size_t)x->first * row_bytes(f), x->tokens, f->c->hidden, f->dtype);

		if (fw_cancelled(f, err) || s->fn(p, s, b, &h, err))
			return err->status;
		if (s->tap && s->tap->batch_done)
			s->tap->batch_done(s->tap->ctx, s->block, x->first + x->tokens);
	}
	return BL_OK;
}

static enum bl_status embed_batch(struct bl_pass *p, const struct step *s, int batch, const struct bk_mat *h, struct bl_err *err)
{
	(void)s;
	return fw_embed(p->f, h, p->s.ids + p->batches[batch].first, err);
}

enum bl_status bl_pass_embed(struct bl_pass *p, struct bl_err *err)
{
	bool borrowed;

	if (!p->hidden && !p->f->embed.p)
		return fw_embed_host(p->f, p->host, p->s.ids, p->tokens, err);
	borrowed = fw_embed_borrow(p->f);
	every_batch(p, &(struct step){ .fn = embed_batch }, err);
	if (borrowed)
		fw_embed_return(p->f);
	return err->status;
}

static enum bl_status norm_batch(struct bl_pass *p, const struct step *s, int batch, const struct bk_mat *h, struct bl_err *err)
{
	(void)s;
	(void)batch;
	return fw_final_norm(p->f, h, h, err);
}

enum bl_status bl_pass_final_norm(struct bl_pass *p, struct bl_err *err)
{
	return every_batch(p, &(struct step){ .fn = norm_batch }, err);
}

static enum bl_status block_batch(struct bl_pass *p, const struct step *s, int batch, const struct bk_mat *h, struct bl_err *err)
{
	const struct fw_batch *x = &p->batches[batch];
	struct fw_span span = { .h = *h, .first_token = x->first, .position = p->index + x->first,
				.seq = { .n = x->n, .q_start = x->starts, .kv_start = x->starts, .max_q = x->longest, .max_kv = x->longest } };

	return fw_block_run(p->f, s->block, s->set, s->tap, &span, err);
}

enum bl_status bl_pass_block(struct bl_pass *p, int block, const struct bl_weight_set *set, const struct bl_tap *tap, struct bl_err *err)
{
	if (block < 0 || block >= p->f->c->layers)
		return bl_fail(err, BL_FAILED, "there is no block %d", block);
	if (fw_work_need(p->f, p->batch_tokens, err) || fw_block_begin(p->f, block, set, err))
		return err->status;
	bl_forward_prefetch(p->f, block + 1, set);
	return every_batch(p, &(struct step){ .set = set, .tap = tap, .block = block, .fn = block_batch }, err);
}

enum bl_status bl_pass_step(struct bl_pass *p, int block, int batch, const struct bl_weight_set *set, const struct bl_tap *tap, struct bl_err *err)
{
	const struct step s = { .set = set, .tap = tap, .block = block };
	struct bl_forward *f = p->f;
	const struct fw_batch *x;
	struct bk_mat h;

	if (block < 0 || block >= f->c->layers || batch < 0 || batch >= p->n_batches)
		return bl_fail(err, BL_FAILED, "there is no block %d, or no batch %d", block, batch);
	if (fw_work_need(f, p->batch_tokens, err) || fw_block_begin(f, block, set, err) || fw_cancelled(f, err))
		return err->status;
	x = &p->batches[batch];
	if (p->hidden) {
		h = fw_mat(p->hidden + (size_t)x->first * row_bytes(f), x->tokens, f->c->hidden, f->dtype);
		return block_batch(p, &s, batch, &h, err);
	}
	h = fw_mat(turn_of(p, batch), x->tokens, f->c->hidden, f->dtype);
	if (bring_batch(p, batch, err) || fw_join(f, err) || block_batch(p, &s, batch, &h, err))
		return err->status;
	return FW_OP(f, err, "hidden states", get(FW_RUN(f), p->host + (size_t)x->first * row_bytes(f), h.p, (size_t)x->tokens * row_bytes(f)));
}

enum bl_status bl_pass_run(struct bl_pass *p, int first, const struct bl_weight_set *set, const struct bl_tap *tap, struct bl_err *err)
{
	for (int b = first; b < p->f->c->layers; b++)
		if (bl_pass_block(p, b, set, tap, err))
			return err->status;
	return BL_OK;
}
