/* SPDX-License-Identifier: Apache-2.0
 * A calibration as it runs. While a block computes, what the block before left on the device comes down in pieces, between two batches, and writer threads
 * take the pieces to files; two sets of accumulators take turns (one, when the device has no room for two: then each block waits for its copies). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/calib/private.h"

#define CHECKPOINT_BYTES (1u << 30) /* hidden states up to here are kept while it runs, where running the blocks again costs more */
#define CHECKPOINT_BLOCKS 4
#define FLYING_MAX 32

struct flight { struct calib_chunk *chunk; int section; int64_t first, rows; };

struct running {
	struct bl_forward *f;
	struct bl_engine *e;
	struct bl_pass *pass;
	struct calib_shape shape;
	const struct bl_calib_data *data;
	const struct bl_calib_options *o;
	char *folder;
	int blocks;
	/* what is stored, what is to be done */
	bool *need, *need_input, need_ids;
	int64_t *batch;      /* [blocks]: tokens at once, of blocks that are stored or done; 0: not yet */
	int64_t batch_now;
	int hidden;          /* the stored set of hidden states: the input of this block; -1: none */
	/* the device's side */
	void *set[2];
	int n_sets;
	struct calib_chunk *chunks;
	int n_chunks;
	struct calib_writer *w;
	/* the block that is leaving the device */
	struct calib_out *out;
	struct calib_head head;
	void *from;
	int section;         /* next piece; section == n_sections: all issued */
	int64_t row;
	struct flight flying[FLYING_MAX];
	int n_flying;
	/* the block that computes */
	int block, inputs_seen, batches;
	int64_t tokens_seen;
	void *acc;
	uint64_t sampled_ns;
	double hessian_s, io_s;
	struct bl_err tap_err;
	bl_calib_report *report;
	void (*unit_done)(void *ctx, int unit, const struct bl_input_stats *s);
	void *ctx;
};

static void progress(const struct running *r, int block, int64_t done, const char *phase)
{
	int64_t tokens = r->shape.windows * r->shape.len;
	struct bl_calib_progress p = { .block = block, .blocks = r->blocks, .tokens_done = done, .tokens = tokens, .phase = phase };

	if (r->report)
		r->report(r->ctx, &p);
}

static bool cancelled(const struct running *r)
{
	return r->o->cancel && atomic_load(r->o->cancel);
}

static enum bl_status stop_if_cancelled(const struct running *r, struct bl_err *err)
{
	return cancelled(r) ? bl_fail(err, BL_CANCELLED, "%s", bl_status_text(BL_CANCELLED)) : BL_OK;
}

/* --- from the device to the writers --- */

/* Where a section's accumulators are in a set: statistics of the four units, then Hessians, each from a multiple of 256 on. */
static uint8_t *in_set(void *set, const struct calib_head *h, uint32_t section)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < section; i++)
		at += ((uint64_t)(h->section[i].rows * h->section[i].row_bytes) + 255) / 256 * 256;
	return (uint8_t *)set + at;
}

static enum bl_status announce(struct running *r, const struct calib_section *s, const uint8_t *data, struct bl_err *err)
{
	struct bl_input_stats stats;
	int unit = (int)s->unit;

	if (calib_stats_make(&stats, data, r->shape.m->units[unit].cols, r->shape.windows * r->shape.len, r->shape.m->units[unit].name, err))
		return err->status;
	if (r->unit_done)
		r->unit_done(r->ctx, unit, &stats);
	calib_stats_free(&stats);
	return BL_OK;
}

/* What was on its way has arrived: to the writers with it. */
static enum bl_status land(struct running *r, struct bl_err *err)
{
	if (!r->n_flying)
		return BL_OK;
	if (bl_engine_check(r->e, r->e->ops->download_join(r->e->run), "copying statistics from the device", err))
		return err->status;
	for (int i = 0; i < r->n_flying; i++) {
		struct flight *x = &r->flying[i];
		const struct calib_section *s = &r->head.section[x->section];

		if (s->kind == CALIB_STATS && !err->status)
			announce(r, s, x->chunk->data, err);
		calib_out_piece(r->out, x->section, x->first, x->rows, x->chunk);
	}
	r->n_flying = 0;
	return err->status;
}

static bool leaving(const struct running *r)
{
	return r->out && r->section < (int)r->head.n_sections;
}

static enum bl_status issue(struct running *r, struct calib_chunk *c, struct bl_err *err)
{
	const struct calib_section *s = &r->head.section[r->section];
	int64_t n = calib_piece_rows(s);
	uint8_t *src = in_set(r->from, &r->head, (uint32_t)r->section) + r->row * s->row_bytes;

	n = s->rows - r->row < n ? s->rows - r->row : n;
	if (bl_engine_check(r->e, r->e->ops->download(r->e->run, c->data, src, (size_t)(n * s->row_bytes)), "copying statistics from the device", err)) {
		calib_chunk_give(r->w, c);
		return err->status;
	}
	r->flying[r->n_flying++] = (struct flight){ c, r->section, r->row, n };
	r->row += n;
	if (r->row == s->rows) {
		r->section++;
		r->row = 0;
	}
	return BL_OK;
}

static struct calib_chunk *chunk(struct running *r, bool wait, struct bl_err *err)
{
	uint64_t start = bl_now_ns();
	struct calib_chunk *c = calib_chunk_take(r->w, wait);

	r->io_s += (double)(bl_now_ns() - start) / 1e9;
	if (!c && wait)
		calib_writer_status(r->w, err);
	return c;
}

/* Hands on what arrived and starts further copies; all: until nothing of the block is left on the device. */
static enum bl_status pump(struct running *r, bool all, struct bl_err *err)
{
	do {
		if (land(r, err))
			return err->status;
		while (leaving(r) && r->n_flying < FLYING_MAX) {
			struct calib_chunk *c = chunk(r, all && !r->n_flying, err);

			if (err->status)
				return err->status;
			if (!c)
				break;
			if (issue(r, c, err))
				return err->status;
		}
	} while (all && (leaving(r) || r->n_flying));
	if (all)
		r->out = NULL;
	return calib_writer_status(r->w, err);
}

static enum bl_status leave(struct running *r, int block, void *set, struct bl_err *err)
{
	calib_head_make(&r->head, &r->shape, CALIB_BLOCK, block);
	r->head.batch = r->batch[block];
	if (calib_out_open(&r->out, r->w, &r->head, false, err))
		return err->status;
	r->from = set;
	r->section = 0;
	r->row = 0;
	return pump(r, r->n_sets < 2, err);
}

/* --- the tap --- */

static enum bl_status tap_input(void *ctx, int unit, int64_t first_token, const struct bk_mat *x, struct bl_err *err)
{
	struct running *r = ctx;
	const struct bk_run_ops *ops = r->e->ops;
	int slot = unit - r->block * CALIB_UNITS;
	int64_t k = r->shape.m->units[unit].cols;
	struct calib_acc a = calib_acc_of(k);
	struct calib_head h;
	bool sample = r->batches == (x->rows < r->shape.windows * r->shape.len);
	uint64_t start = 0;
	uint8_t *s;

	(void)first_token;
	if (stop_if_cancelled(r, err))
		return err->status;
	if (r->tap_err.status) {
		*err = r->tap_err;
		return err->status;
	}
	if (slot < 0 || slot >= CALIB_UNITS || x->cols != k)
		return bl_fail(err, BL_FAILED, "calibration: input of unit %d while block %d runs", unit, r->block);
	calib_head_make(&h, &r->shape, CALIB_BLOCK, r->block);
	s = in_set(r->acc, &h, (uint32_t)slot);
	struct bk_input_acc acc = { .absmax = (float *)(void *)s, .sum = (double *)(void *)(s + a.sum), .sum2 = (double *)(void *)(s + a.sum2),
				    .bins = (uint64_t *)(void *)(s + a.bins), .token_bins = (uint64_t *)(void *)(s + a.token_bins),
				    .nonfinite = (uint64_t *)(void *)(s + a.nonfinite) };
	r->inputs_seen++;
	if (bl_engine_check(r->e, ops->input_stats(r->e->run, &acc, x), "statistics of inputs", err) || !r->shape.hessians)
		return err->status;
	struct bk_mat hm = { .p = in_set(r->acc, &h, (uint32_t)(CALIB_UNITS + slot)), .rows = k, .cols = k, .ld = k, .dtype = BK_F32 };
	if (sample && bl_engine_check(r->e, ops->wait(r->e->run), "Hessians", err))
		return err->status;
	start = bl_now_ns();
	if (bl_engine_check(r->e, ops->hessian(r->e->run, &hm, x), "Hessians", err))
		return err->status;
	if (sample && !bl_engine_check(r->e, ops->wait(r->e->run), "Hessians", err))
		r->hessian_s += (double)(bl_now_ns() - start) / 1e9 * (double)(r->shape.windows * r->shape.len) / (double)x->rows;
	return err->status;
}

static void tap_batch(void *ctx, int block, int64_t tokens_done)
{
	struct running *r = ctx;

	r->batches++;
	r->tokens_seen = tokens_done;
	if (!r->tap_err.status)
		pump(r, false, &r->tap_err);
	progress(r, block, tokens_done, "forward");
}

static void replay_batch(void *ctx, int block, int64_t tokens_done)
{
	progress(ctx, block, tokens_done, "forward");
}

static enum bl_status replay_input(void *ctx, int unit, int64_t first_token, const struct bk_mat *x, struct bl_err *err)
{
	(void)unit;
	(void)first_token;
	(void)x;
	return stop_if_cancelled(ctx, err);
}

/* --- blocks --- */

static enum bl_status set_batch(struct running *r, int64_t tokens, struct bl_err *err)
{
	if (tokens == bl_pass_batch_tokens(r->pass))
		return BL_OK;
	return bl_pass_set_batch(r->pass, tokens, err);
}

/* Runs blocks that need no statistics, with the batches they were run with before. */
static enum bl_status replay(struct running *r, int first, int end, struct bl_err *err)
{
	struct bl_tap tap = { .ctx = r, .input = replay_input, .batch_done = replay_batch };

	for (int b = first; b < end; b++)
		if (set_batch(r, r->batch[b] ? r->batch[b] : r->batch_now, err) || bl_pass_block(r->pass, b, NULL, &tap, err))
			return err->status;
	return BL_OK;
}

/* Half the tokens at once; false when a batch is one window already. */
static bool smaller(struct running *r)
{
	int64_t windows = r->batch_now / r->shape.len;

	if (windows > r->shape.windows)
		windows = r->shape.windows;
	if (windows < 2)
		return false;
	r->batch_now = windows / 2 * r->shape.len;
	bl_log(BL_LOG_WARN, "calibration: the device is short of memory; going on with %lld tokens at once", (long long)r->batch_now);
	return true;
}

static enum bl_status zero_set(struct running *r, void *set, struct bl_err *err)
{
	return bl_engine_check(r->e, r->e->ops->zero(r->e->run, set, calib_set_bytes(r->shape.m, r->shape.hessians, NULL)), "clearing Hessians", err);
}

static enum bl_status run_block(struct running *r, int b, struct bl_err *err)
{
	struct bl_tap tap = { .ctx = r, .input = tap_input, .batch_done = tap_batch };
	double hessian_s = r->hessian_s;

	r->acc = r->set[b % r->n_sets];
	r->block = b;
	/* after blocks that were only replayed, the set may be the one that an earlier block is still leaving from */
	if (r->acc == r->from && pump(r, true, err))
		return err->status;
	for (;;) {
		r->inputs_seen = r->batches = 0;
		r->tokens_seen = 0;
		r->hessian_s = hessian_s;
		bl_err_clear(&r->tap_err);
		if (!zero_set(r, r->acc, err) && !set_batch(r, r->batch_now, err))
			r->batch_now = bl_pass_batch_tokens(r->pass); /* less when memory was short */
		if (err->status || bl_pass_block(r->pass, b, NULL, &tap, err)) {
			if (err->status != BL_NO_MEMORY || !smaller(r))
				return err->status;
			bl_err_clear(err);
			if (r->tokens_seen && (bl_pass_embed(r->pass, err) || replay(r, 0, b, err))) /* part of the states are the block's outputs by now */
				return err->status;
			continue;
		}
		break;
	}
	if (r->tap_err.status) {
		*err = r->tap_err;
		return err->status;
	}
	if (r->tokens_seen != r->shape.windows * r->shape.len || r->inputs_seen != CALIB_UNITS * r->batches)
		return bl_fail(err, BL_FAILED, "calibration: block %d showed %d inputs of %lld tokens", b, r->inputs_seen, (long long)r->tokens_seen);
	r->batch[b] = r->batch_now;
	if (pump(r, true, err)) /* the block before, long gone as a rule */
		return err->status;
	return leave(r, b, r->acc, err);
}

/* Hidden states as they are now, rows 0 .. n-1, to a file. */
static enum bl_status keep_rows(struct running *r, enum calib_file_kind kind, int block, struct bl_err *err)
{
	struct calib_head h;
	struct calib_out *out;
	const struct calib_section *s = &h.section[0];

	calib_head_make(&h, &r->shape, kind, block);
	if (land(r, err) || calib_out_open(&out, r->w, &h, kind == CALIB_HIDDEN, err))
		return err->status;
	for (int64_t row = 0, n; row < s->rows; row += n) {
		struct calib_chunk *c = chunk(r, true, err);

		n = s->rows - row < calib_piece_rows(s) ? s->rows - row : calib_piece_rows(s);
		if (!c)
			return err->status;
		if (bl_pass_read(r->pass, row, n, c->data, err)) {
			calib_chunk_give(r->w, c);
			return err->status;
		}
		calib_out_piece(out, 0, row, n, c);
	}
	return BL_OK;
}

static enum bl_status keep_ids(struct running *r, struct bl_err *err)
{
	struct calib_head h;
	struct calib_out *out;
	const struct calib_section *s = &h.section[0];

	calib_head_make(&h, &r->shape, CALIB_IDS, 0);
	if (calib_out_open(&out, r->w, &h, false, err))
		return err->status;
	for (int64_t row = 0, step = calib_piece_rows(s); row < s->rows; row += step)
		calib_out_borrowed(out, 0, row, s->rows - row < step ? s->rows - row : step, r->data->ids + row * r->shape.len);
	return BL_OK;
}

/* The states at the entry of block `from` come from the file. */
static enum bl_status load_hidden(struct running *r, int from, struct bl_err *err)
{
	struct calib_head h;
	struct bl_map map;

	calib_head_make(&h, &r->shape, CALIB_HIDDEN, from);
	if (calib_map_file(&map, &h, r->folder, err))
		return err->status;
	bl_pass_write(r->pass, 0, h.section[0].rows, map.data + h.section[0].offset, err);
	bl_map_close(&map);
	return err->status;
}

static enum bl_status each_block(struct running *r, struct bl_err *err)
{
	bool checkpoints = r->e->ops->unified && (uint64_t)bl_pass_tokens(r->pass) * bl_pass_row_bytes(r->pass) <= CHECKPOINT_BYTES;
	int from = r->hidden > 0 ? r->hidden : 0, end = 0;

	for (int b = 0; b <= r->blocks; b++)
		end = r->need_input[b] ? b : end;
	for (int b = 0; b < r->blocks; b++)
		end = r->need[b] && b + 1 > end ? b + 1 : end;
	for (int b = 0; b < from; b++) /* something before the stored states is missing */
		from = r->need[b] || r->need_input[b] ? 0 : from;
	if (r->need_ids && keep_ids(r, err))
		return err->status;
	if (from ? load_hidden(r, from, err) : bl_pass_embed(r->pass, err))
		return err->status;
	for (int b = from; b <= end; b++) {
		if (stop_if_cancelled(r, err) || calib_writer_status(r->w, err))
			return err->status;
		if (r->need_input[b] && keep_rows(r, CALIB_INPUTS, b, err))
			return err->status;
		if (b == end)
			break;
		if (checkpoints && b > from && b % CHECKPOINT_BLOCKS == 0 && keep_rows(r, CALIB_HIDDEN, b, err))
			return err->status;
		if (r->need[b] ? run_block(r, b, err) : replay(r, b, b + 1, err))
			return err->status;
	}
	return pump(r, true, err);
}

static enum bl_status blocks(struct running *r, struct bl_err *err)
{
	struct bl_err none = BL_ERR_INIT;

	if (each_block(r, err) == BL_CANCELLED) /* the block before is whole: what still leaves the device of it need not be done again */
		pump(r, true, &none);
	return err->status;
}

/* --- begin and end --- */

static enum bl_status make_memory(struct running *r, struct bl_err *err)
{
	uint64_t set = calib_set_bytes(r->shape.m, r->shape.hessians, NULL), bytes = calib_chunk_bytes(r->shape.m, r->shape.hessians, &r->n_chunks);
	struct bl_err ignored = BL_ERR_INIT;

	if (bl_engine_alloc(r->e, &r->set[0], set, r->shape.hessians ? "Hessians of a block" : "statistics of a block", err))
		return err->status;
	r->n_sets = 1;
	if (calib_second_set(r->shape.m, r->shape.windows * r->shape.len, r->shape.fp32, set, bl_engine_available(r->e)) &&
	    !bl_engine_alloc(r->e, &r->set[1], set, "Hessians of a block", &ignored))
		r->n_sets = 2;
	r->chunks = bl_xalloc((size_t)r->n_chunks, sizeof *r->chunks);
	for (int i = 0; i < r->n_chunks; i++) {
		int bad = r->e->ops->host_alloc(r->e->run, &r->chunks[i].data, bytes);

		if (bad && i >= 2) { /* two are enough */
			r->n_chunks = i;
			break;
		}
		if (bl_engine_check(r->e, bad, "host memory for copies", err)) {
			r->n_chunks = i;
			return err->status;
		}
	}
	return BL_OK;
}

static void drop_memory(struct running *r)
{
	for (int i = 0; i < r->n_chunks && r->chunks; i++)
		r->e->ops->host_release(r->e->run, r->chunks[i].data);
	bl_engine_release(r->e, r->set[0]);
	bl_engine_release(r->e, r->set[1]);
}

static enum bl_status make_pass(struct running *r, struct bl_err *err)
{
	int64_t *start = bl_xalloc((size_t)r->shape.windows + 1, sizeof *start);
	struct bl_sequences seq = { .ids = r->data->ids, .start = start, .n = r->shape.windows };
	int64_t before = 0;

	for (int64_t i = 0; i <= r->shape.windows; i++)
		start[i] = i * r->shape.len;
	if (!bl_pass_new(&r->pass, r->f, &seq, err)) {
		if (bl_pass_row_bytes(r->pass) != (size_t)(r->shape.fp32 ? 4 : 2) * (size_t)r->shape.m->config.hidden)
			bl_fail(err, BL_INVALID, "calibration: the forward was not made for %s", r->shape.fp32 ? "float32" : "bf16");
		for (int b = 0; b < r->blocks; b++) /* whoever goes on does as it was begun */
			before = r->batch[b] ? r->batch[b] : before;
		r->batch_now = before ? before : bl_pass_batch_tokens(r->pass);
	}
	if (!err->status) {
		blocks(r, err);
		if (err->status && err->status != BL_NO_DEVICE && leaving(r)) { /* what the device has already is not lost */
			struct bl_err ignored = BL_ERR_INIT;

			pump(r, true, &ignored);
		}
	}
	bl_pass_free(r->pass);
	bl_free(start); /* borrowed for the pass */
	return err->status;
}

static int writer_threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 4 ? 2 : n > 16 ? 8 : (int)n / 2;
}

bool calib_work_left(const struct calib_job *j)
{
	bool any = j->need_ids;

	for (int b = 0; b <= j->shape.m->config.layers; b++)
		any |= j->need_input[b] || (b < j->shape.m->config.layers && j->need[b]);
	return any;
}

enum bl_status calib_compute(const struct calib_job *j, struct bl_calib_seconds *seconds, struct bl_err *err)
{
	struct running r = { .f = j->f, .e = bl_forward_engine(j->f), .shape = j->shape, .data = j->data, .o = j->o, .folder = j->folder,
			     .blocks = (int)j->shape.m->config.layers, .need = j->need, .need_input = j->need_input, .need_ids = j->need_ids, .batch = j->batch,
			     .hidden = j->hidden, .report = j->report, .unit_done = j->unit_done, .ctx = j->ctx };
	uint64_t start;

	if (!calib_work_left(j))
		return BL_OK;
	if (!make_memory(&r, err)) {
		r.w = calib_writer_new(r.folder, writer_threads(), r.chunks, r.n_chunks, r.hidden);
		make_pass(&r, err);
		start = bl_now_ns();
		progress(&r, r.blocks, 0, "write");
		calib_writer_drain(r.w, err);
		r.io_s += (double)(bl_now_ns() - start) / 1e9;
		calib_writer_free(r.w, false);
	}
	if (err->status != BL_NO_DEVICE) /* of a lost one only closing is left, which releases everything */
		drop_memory(&r);
	bl_free(r.chunks);
	seconds->hessian = r.hessian_s;
	seconds->io = r.io_s;
	return err->status;
}
