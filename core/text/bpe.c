/* SPDX-License-Identifier: Apache-2.0
 * One word into ids: the merge of the lowest rank first, the leftmost of equals. Short words are scanned; long ones keep a queue, so that a word
 * of n bytes costs n log n at most. */
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/text/private.h"

#define SCAN_MAX 32 /* symbols up to which scanning is quicker than a queue */
#define NO_RANK  UINT32_MAX

void bl_ids_add(struct bl_ids *v, int32_t id)
{
	bl_xgrow(&v->ids, &v->cap, v->n + 1);
	v->ids[v->n++] = id;
}

void bl_ids_free(struct bl_ids *v)
{
	bl_free(v->ids);
	*v = (struct bl_ids){0};
}

void bl_bpe_work_free(struct bl_bpe_work *w)
{
	bl_free(w->s);
	bl_free(w->q);
	bl_free(w->cache);
	*w = (struct bl_bpe_work){0};
}

static inline const struct bl_pair *find_pair(const struct bl_vocab *v, int32_t left, int32_t right)
{
	uint64_t key = bl_pair_key(left, right);

	for (size_t at = bl_pair_hash(key) & v->pair_mask; v->pairs[at].key; at = (at + 1) & v->pair_mask)
		if (v->pairs[at].key == key)
			return &v->pairs[at];
	return NULL;
}

/* The next first symbol of the word; false: the byte at *at has none and is passed over. */
static bool first_symbol(const struct bl_vocab *v, const uint8_t *p, size_t n, size_t *at, int32_t *id)
{
	*id = v->base[p[(*at)++]];
	if (*id >= 0)
		return true;
	*id = v->unk;
	while (*id >= 0 && v->fuse_unk && *at < n && v->base[p[*at]] < 0)
		++*at;
	return *id >= 0;
}

static void scan_word(const struct bl_vocab *v, int32_t *id, int n, struct bl_ids *out)
{
	uint32_t rank[SCAN_MAX];
	int32_t made[SCAN_MAX];

#define LOOK(i) do { \
		const struct bl_pair *pair_ = find_pair(v, id[i], id[(i) + 1]); \
		rank[i] = pair_ ? pair_->rank : NO_RANK; \
		made[i] = pair_ ? pair_->id : -1; \
	} while (0)
	for (int i = 0; i + 1 < n; i++)
		LOOK(i);
	while (n > 1) {
		int best = 0;
		for (int i = 1; i + 1 < n; i++)
			best = rank[i] < rank[best] ? i : best;
		if (rank[best] == NO_RANK)
			break;
		id[best] = made[best];
		for (int i = best + 1; i + 1 < n; i++)
			id[i] = id[i + 1];
		for (int i = best + 1; i + 2 < n; i++) {
			rank[i] = rank[i + 1];
			made[i] = made[i + 1];
		}
		n--;
		if (best + 1 < n)
			LOOK(best);
		if (best)
			LOOK(best - 1);
	}
#undef LOOK
	for (int i = 0; i < n; i++)
		bl_ids_add(out, id[i]);
}

/* ---- the queue: least rank, then leftmost ---- */

static bool before(const struct bl_queued *a, const struct bl_queued *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void push(const struct bl_vocab *v, struct bl_bpe_work *w, int32_t pos)
{
	const struct bl_pair *pair = w->s[pos].next < 0 ? NULL : find_pair(v, w->s[pos].id, w->s[w->s[pos].next].id);

	if (!pair)
		return;
	bl_xgrow(&w->q, &w->cap_q, w->n_q + 1);
	struct bl_queued e = {pair->rank, pos, pair->id};
	size_t i = w->n_q++;
	while (i && before(&e, &w->q[(i - 1) / 2])) {
		w->q[i] = w->q[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->q[i] = e;
}

static struct bl_queued pop(struct bl_bpe_work *w)
{
	struct bl_queued top = w->q[0], e = w->q[--w->n_q];
	size_t i = 0;

	for (size_t c; (c = 2 * i + 1) < w->n_q; i = c) {
		if (c + 1 < w->n_q && before(&w->q[c + 1], &w->q[c]))
			c++;
		if (!before(&w->q[c], &e))
			break;
		w->q[i] = w->q[c];
	}
	if (w->n_q)
		w->q[i] = e;
	return top;
}

static void queue_word(const struct bl_vocab *v, struct bl_bpe_work *w, int32_t n, struct bl_ids *out)
{
	w->n_q = 0;
	for (int32_t i = 0; i < n; i++) {
		w->s[i].prev = i - 1;
		w->s[i].next = i + 1 < n ? i + 1 : -1;
		w->s[i].live = 1;
	}
	for (int32_t i = 0; i < n; i++)
		push(v, w, i);
	while (w->n_q) {
		struct bl_queued e = pop(w);
		struct bl_symbol *s = &w->s[e.pos];
		if (!s->live || s->next < 0)
			continue;
		const struct bl_pair *pair = find_pair(v, s->id, w->s[s->next].id);
		if (!pair || pair->id != e.id)
			continue; /* what was queued is no longer there */
		struct bl_symbol *right = &w->s[s->next];
		right->live = 0;
		s->id = e.id;
		s->next = right->next;
		if (s->next >= 0)
			w->s[s->next].prev = e.pos;
		if (s->prev >= 0)
			push(v, w, s->prev);
		push(v, w, e.pos);
	}
	for (int32_t i = 0; i >= 0 && i < n; i = w->s[i].next)
		bl_ids_add(out, w->s[i].id);
}

static void merge_word(const struct bl_vocab *v, struct bl_bpe_work *w, const uint8_t *p, size_t n, struct bl_ids *out)
{
	int32_t small[SCAN_MAX], id, count = 0;
	size_t at = 0;

	if (n <= SCAN_MAX) {
		while (at < n)
			if (first_symbol(v, p, n, &at, &id))
				small[count++] = id;
		scan_word(v, small, count, out);
		return;
	}
	bl_xgrow(&w->s, &w->cap_s, n);
	while (at < n)
		if (first_symbol(v, p, n, &at, &id))
			w->s[count++].id = id;
	queue_word(v, w, count, out);
}

void bl_bpe_word(const struct bl_vocab *v, struct bl_bpe_work *w, const uint8_t *p, size_t n, struct bl_ids *out)
{
	int32_t whole = bl_vocab_bytes(v, p, n);

	if (whole >= 0 && (v->t[whole].direct || v->ignore_merges)) {
		bl_ids_add(out, whole);
		return;
	}
	if (!w->cache || n > BL_CACHE_KEY) {
		merge_word(v, w, p, n, out);
		return;
	}
	struct bl_cached *c = &w->cache[bl_hash64(p, n) % BL_CACHE_SLOTS];
	if (c->n_key == n && !memcmp(c->key, p, n)) {
		bl_xgrow(&out->ids, &out->cap, out->n + BL_CACHE_IDS);
		memcpy(out->ids + out->n, c->ids, sizeof c->ids);
		out->n += c->n_ids;
		return;
	}
	size_t from = out->n;
	merge_word(v, w, p, n, out);
	if (out->n > from && out->n - from <= BL_CACHE_IDS) {
		c->n_key = (uint8_t)n;
		c->n_ids = (uint8_t)(out->n - from);
		memcpy(c->key, p, n);
		memcpy(c->ids, out->ids + from, c->n_ids * sizeof *c->ids);
	}
}
