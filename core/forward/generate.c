/* SPDX-License-Identifier: Apache-2.0
 * Decoding with a cache of keys and values: the prompt goes through in chunks, then one token at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/rng.h"
#include "core/forward/private.h"

#define PROMPT_CHUNK 2048

struct decoder {
	struct bl_forward *f;
	const struct bl_weight_set *set;
	const struct bl_generate_options *o;
	struct bl_rng rng;
	int64_t room, at;     /* rows of the cache, filled rows */
	char *cache;          /* [layers][2][room, kv_cols] */
	char *h, *logits;
	int32_t *index;       /* positions of a chunk, then q_start and kv_start */
	char *raw;            /* one row of logits, as it came */
	float *row;
	int32_t *order;
};

static void decoder_free(struct decoder *d)
{
	bl_engine_release(d->f->e, d->cache);
	bl_engine_release(d->f->e, d->h);
	bl_engine_release(d->f->e, d->logits);
	bl_engine_release(d->f->e, d->index);
	bl_free(d->raw);
	bl_free(d->row);
	bl_free(d->order);
}

static enum bl_status decoder_new(struct decoder *d, int64_t n_prompt, struct bl_err *err)
{
	struct bl_forward *f = d->f;
	int64_t chunk = n_prompt < PROMPT_CHUNK ? n_prompt : PROMPT_CHUNK;
	size_t vocab = (size_t)f->c->vocab;

	d->room = n_prompt + d->o->n;
	if (bl_engine_alloc(f->e, (void **)&d->cache, (size_t)(f->c->layers * 2 * d->room * f->kv_cols) * f->elem, "keys and values", err) ||
	    bl_engine_alloc(f->e, (void **)&d->h, (size_t)(chunk * f->c->hidden) * f->elem, "hidden states", err) ||
	    bl_engine_alloc(f->e, (void **)&d->logits, vocab * f->elem, "logits", err) ||
	    bl_engine_alloc(f->e, (void **)&d->index, (size_t)(chunk + 4) * sizeof(int32_t), "positions", err) ||
	    bl_try_alloc(&d->raw, vocab, f->elem, "logits", err) || bl_try_alloc(&d->row, vocab, sizeof(float), "logits", err) ||
	    bl_try_alloc(&d->order, vocab, sizeof(int32_t), "an order of logits", err) || fw_work_need(f, chunk, err))
		return err->status;
	return fw_rope_need(f, d->room, err);
}

/* ids through all blocks; the last row's hidden state stays in h's row n-1 */
static enum bl_status feed(struct decoder *d, const int32_t *ids, int64_t n, struct bl_err *err)
{
	struct bl_forward *f = d->f;
	size_t part = (size_t)(d->room * f->kv_cols) * f->elem;
	struct fw_span s = { .h = fw_mat(d->h, n, f->c->hidden, f->dtype), .position = d->index, .cache_rows = d->room, .cache_at = d->at,
			     .seq = { .n = 1, .q_start = d->index + n, .kv_start = d->index + n + 2, .max_q = n, .max_kv = d->at + n } };
	int32_t *host = bl_xalloc((size_t)n + 4, sizeof(*host));

	for (int64_t i = 0; i < n; i++)
		host[i] = (int32_t)(d->at + i);
	host[n + 1] = (int32_t)n;
	host[n + 3] = (int32_t)(d->at + n);
	if (FW_OP(f, err, "positions", put(FW_RUN(f), d->index, host, (size_t)(n + 4) * sizeof(*host))) == BL_OK)
		fw_embed(f, &s.h, ids, err);
	bl_free(host);
	for (int b = 0; b < f->c->layers && err->status == BL_OK; b++) {
		s.cache_k = d->cache + (size_t)(2 * b) * part;
		s.cache_v = s.cache_k + part;
		if (fw_cancelled(f, err) == BL_OK && fw_block_begin(f, b, d->set, err) == BL_OK) {
			bl_forward_prefetch(f, (b + 1) % (int)f->c->layers, d->set);
			fw_block_run(f, b, d->set, NULL, &s, err);
		}
	}
	d->at += n;
	return err->status;
}

static enum bl_status read_logits(struct decoder *d, int64_t row, struct bl_err *err)
{
	struct bl_forward *f = d->f;
	struct bk_mat h = fw_mat(d->h, row + 1, f->c->hidden, f->dtype), x = fw_rows(&h, row, 1), logits = fw_mat(d->logits, 1, f->c->vocab, f->dtype);
	uint16_t half;

	if (fw_final_norm(f, &x, &x, err) || fw_head(f, &logits, &x, err) ||
	    FW_OP(f, err, "logits", get(FW_RUN(f), d->raw, d->logits, (size_t)f->c->vocab * f->elem)))
		return err->status;
	for (int64_t i = 0; i < f->c->vocab; i++) {
		memcpy(f->elem == 4 ? (void *)&d->row[i] : (void *)&half, d->raw + (size_t)i * f->elem, f->elem);
		if (f->elem == 2)
			d->row[i] = bl_bf16_f32(half);
	}
	return BL_OK;
}

/* --- the next token --- */

static int32_t largest(const float *x, int64_t n)
{
	int32_t best = 0;

	for (int64_t i = 1; i < n; i++)
		if (x[i] > x[best])
			best = (int32_t)i;
	return best;
}

static int by_logit(const void *a, const void *b, void *ctx)
{
	const float *x = ctx;
	int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;

	return x[i] != x[j] ? (x[i] < x[j] ? 1 : -1) : i - j;
}

static int32_t sample(struct decoder *d)
{
	int64_t n = d->f->c->vocab, kept = 0;
	double sum = 0, cut, at;
	float top;

	for (int64_t i = 0; i < n; i++) {
		d->order[i] = (int32_t)i;
		d->row[i] = isfinite(d->row[i]) ? d->row[i] : -INFINITY;
	}
	qsort_r(d->order, (size_t)n, sizeof(*d->order), by_logit, d->row);
	top = d->row[d->order[0]];
	for (int64_t i = 0; i < n; i++) {
		d->row[i] = (float)exp(((double)d->row[i] - (double)top) / d->o->temperature);
		sum += (double)d->row[i];
	}
	cut = d->o->top_p > 0 && d->o->top_p < 1 ? d->o->top_p * sum : sum;
	for (sum = 0; kept < n && (!kept || sum < cut); kept++)
		sum += (double)d->row[d->order[kept]];
	at = (double)bl_rng_unit(&d->rng) * sum;
	for (int64_t i = 0; i < kept; i++) {
		at -= (double)d->row[d->order[i]];
		if (at < 0)
			return d->order[i];
	}
	return d->order[kept - 1];
}

static bool is_stop(const struct bl_generate_options *o, int32_t id)
{
	for (int i = 0; i < o->n_stop; i++)
		if (o->stop[i] == id)
			return true;
	return false;
}

static enum bl_status decode(struct decoder *d, const int32_t *prompt, int64_t n_prompt, bool (*next)(void *ctx, int32_t id), void *ctx, struct bl_err *err)
{
	int64_t last = 0;

	for (int64_t i = 0; i < n_prompt; i += PROMPT_CHUNK) {
		int64_t n = n_prompt - i < PROMPT_CHUNK ? n_prompt - i : PROMPT_CHUNK;

		if (feed(d, prompt + i, n, err))
			return err->status;
		last = n - 1;
	}
	for (int64_t i = 0; i < d->o->n; i++) {
		int32_t id;

		if (read_logits(d, last, err))
			return err->status;
		id = d->o->temperature > 0 ? sample(d) : largest(d->row, d->f->c->vocab);
		if (!next(ctx, id) || is_stop(d->o, id) || i + 1 == d->o->n)
			return BL_OK;
		if (feed(d, &id, 1, err))
			return err->status;
		last = 0;
	}
	return BL_OK;
}

enum bl_status bl_generate(struct bl_forward *f, const struct bl_weight_set *set, const int32_t *prompt, int64_t n_prompt, const struct bl_generate_options *o,
			   bool (*next)(void *ctx, int32_t id), void *ctx, struct bl_err *err)
{
	struct decoder d = { .f = f, .set = set, .o = o };

	if (n_prompt < 1 || o->n < 0 || n_prompt > 1 << 24 || o->n > 1 << 24)
		return bl_fail(err, BL_INVALID, "the prompt has no tokens");
	for (int64_t i = 0; i < n_prompt; i++)
		if (prompt[i] < 0 || prompt[i] >= f->c->vocab)
			return bl_fail(err, BL_INVALID, "prompt: id %d is outside the vocabulary of %lld", prompt[i], (long long)f->c->vocab);
	bl_rng_seed(&d.rng, o->seed);
	if (decoder_new(&d, n_prompt, err) == BL_OK)
		decode(&d, prompt, n_prompt, next, ctx, err);
	decoder_free(&d);
	return err->status;
}
