/* SPDX-License-Identifier: Apache-2.0
 * The tokenizer as a whole: added tokens out of the text, normal form, split, merge; and back. What one call needs as room is kept for the next one,
 * so that many short rows cost no more than one long text. */
#include "core/text/tokenizer.h"

#include <stdatomic.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/text/private.h"

#define FILE_MAX (256u << 20)
#define TEXT_MAX (1u << 30)

static void work_free(struct bl_work *w)
{
	if (!w)
		return;
	bl_bpe_work_free(&w->bpe);
	bl_split_work_free(&w->split);
	bl_str_free(&w->repaired);
	bl_str_free(&w->normal);
	bl_str_free(&w->other);
	bl_free(w->raw.f);
	bl_free(w->normalized.f);
	bl_free(w);
}

static struct bl_work *take_work(const struct bl_tokenizer *t)
{
	for (int i = 0; i < BL_WORKS; i++) {
		struct bl_work *w = atomic_exchange(&t->works[i], NULL);
		if (w)
			return w;
	}
	struct bl_work *w = bl_xalloc(1, sizeof *w);
	w->bpe.cache = bl_xalloc(BL_CACHE_SLOTS, sizeof *w->bpe.cache);
	return w;
}

static void give_work(const struct bl_tokenizer *t, struct bl_work *w)
{
	for (int i = 0; i < BL_WORKS; i++) {
		struct bl_work *none = NULL;
		if (atomic_compare_exchange_strong(&t->works[i], &none, w))
			return;
	}
	work_free(w);
}

void bl_tokenizer_free(struct bl_tokenizer *t)
{
	if (!t)
		return;
	for (int i = 0; i < BL_WORKS; i++)
		work_free(atomic_load(&t->works[i]));
	bl_free(t->works);
	bl_vocab_free(&t->vocab);
	for (int i = 0; i < BL_STEPS_MAX; i++)
		bl_step_free(&t->steps[i]);
	bl_free(t->added);
	bl_trie_free(&t->raw);
	bl_trie_free(&t->normalized);
	bl_free(t->before);
	bl_free(t->after);
	bl_free(t);
}

enum bl_status bl_tokenizer_parse(struct bl_tokenizer **out, const char *text, size_t n, const char *file, struct bl_err *err)
{
	struct bl_tokenizer *t = bl_xalloc(1, sizeof *t);

	t->works = bl_xalloc(BL_WORKS, sizeof *t->works);
	t->vocab.unk = -1;
	bl_sha256_of(text, n, t->digest);
	if (bl_tokenizer_read(t, text, n, file, err)) {
		bl_tokenizer_free(t);
		return err->status;
	}
	*out = t;
	return BL_OK;
}

enum bl_status bl_tokenizer_open(struct bl_tokenizer **out, const char *folder, struct bl_err *err)
{
	char *path = bl_path_join(folder, "tokenizer.json"), *text = NULL;
	size_t n;

	if (!bl_is_file(path))
		bl_fail(err, BL_NOT_FOUND, "%s: is not there; text can only be read with the tokenizer.json of the checkpoint (rows of input_ids need none)", path);
	else if (bl_read_file(&text, &n, path, FILE_MAX, true, err) == BL_OK)
		bl_tokenizer_parse(out, text, n, path, err);
	bl_free(text);
	bl_free(path);
	return err->status;
}

int32_t bl_tokenizer_size(const struct bl_tokenizer *t) { return t->vocab.size; }
const char *bl_tokenizer_digest(const struct bl_tokenizer *t) { return t->digest; }

/* ---- text to ids ---- */

struct pieces { const struct bl_tokenizer *t; struct bl_work *w; struct bl_ids *out; };

static void piece(void *ctx, const char *text, size_t n)
{
	struct pieces *p = ctx;

	bl_bpe_word(&p->t->vocab, &p->w->bpe, (const uint8_t *)text, n, p->out);
}

/* Text between added tokens, in its normal form. */
static enum bl_status plain(const struct bl_tokenizer *t, struct bl_work *w, const char *text, size_t n, struct bl_ids *out, struct bl_err *err)
{
	struct pieces p = {t, w, out};

	bl_added_split(&t->normalized, t->added, text, n, &w->normalized);
	for (size_t i = 0; i < w->normalized.n && !err->status; i++) {
		const struct bl_found *f = &w->normalized.f[i];
		if (f->id >= 0)
			bl_ids_add(out, f->id);
		else
			bl_split(t->steps, t->n_steps, &w->split, text + f->start, f->end - f->start, piece, &p, err);
	}
	return err->status;
}

static enum bl_status encode(const struct bl_tokenizer *t, struct bl_work *w, const char *text, size_t n, struct bl_ids *out, struct bl_err *err)
{
	if (!bl_utf8_valid(text, n)) {
		bl_str_clear(&w->repaired);
		bl_utf8_repair(&w->repaired, text, n);
		text = w->repaired.s;
		n = w->repaired.len;
	}
	bl_added_split(&t->raw, t->added, text, n, &w->raw);
	for (size_t i = 0; i < w->raw.n && !err->status; i++) {
		const struct bl_found *f = &w->raw.f[i];
		if (f->id >= 0) {
			bl_ids_add(out, f->id);
			continue;
		}
		const char *at = text + f->start;
		size_t left = f->end - f->start;
		for (int k = 0; k < t->n_forms; k++) {
			bl_str_clear(&w->other);
			if (bl_normalize(t->forms[k], &w->other, at, left)) {
				struct bl_str swap = w->normal;
				w->normal = w->other;
				w->other = swap;
				at = w->normal.s;
				left = w->normal.len;
			}
		}
		plain(t, w, at, left, out, err);
	}
	return err->status;
}

enum bl_status bl_tokenizer_encode(const struct bl_tokenizer *t, const char *text, size_t n, bool special, struct bl_ids *out, struct bl_err *err)
{
	size_t was = out->n;

	if (n > TEXT_MAX)
		return bl_fail(err, BL_INVALID, "a text of %zu bytes is too long: at most %u", n, TEXT_MAX);
	for (size_t i = 0; special && i < t->n_before; i++)
		bl_ids_add(out, t->before[i]);
	struct bl_work *w = take_work(t);
	encode(t, w, text, n, out, err);
	give_work(t, w);
	for (size_t i = 0; special && i < t->n_after; i++)
		bl_ids_add(out, t->after[i]);
	if (err->status)
		out->n = was;
	return err->status;
}

/* ---- ids to text ---- */

static bool known(const struct bl_tokenizer *t, int32_t id)
{
	return id >= 0 && id < t->vocab.size && t->vocab.t[id].present;
}

enum bl_status bl_tokenizer_decode(const struct bl_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, struct bl_str *out,
			struct bl_err *err)
{
	for (size_t i = 0; i < n; i++)
		if (!known(t, ids[i]))
			return bl_fail(err, BL_INVALID, "id %d (at %zu) is not in the vocabulary of %d", ids[i], i, t->vocab.size);
	for (size_t i = 0; i < n; i++) {
		const struct bl_token *k = &t->vocab.t[ids[i]];
		if (skip_special && k->special)
			continue;
		if (k->n_bytes)
			bl_str_addn(out, bl_token_bytes(&t->vocab, ids[i]), k->n_bytes);
		else
			bl_str_addn(out, bl_token_raw(&t->vocab, ids[i]), k->raw_n);
	}
	return BL_OK;
}

void bl_tokenizer_piece(const struct bl_tokenizer *t, int32_t id, struct bl_str *out)
{
	if (!known(t, id)) {
		bl_str_addf(out, "<%d?>", id);
		return;
	}
	const struct bl_token *k = &t->vocab.t[id];
	const uint8_t *p = (const uint8_t *)(k->n_bytes && !k->added ? bl_token_bytes(&t->vocab, id) : bl_token_raw(&t->vocab, id));
	size_t n = k->n_bytes && !k->added ? k->n_bytes : k->raw_n;
	char shown[20];
	for (size_t at = 0; at < n;) {
		uint32_t cp;
		int len = bl_utf8_next(p + at, n - at, &cp), size = len < 0 ? -len : len;
		char raw[5] = {0};
		memcpy(raw, p + at, (size_t)size);
		if (len < 0) /* a part of a character */
			for (int i = 0; i < size; i++)
				bl_str_addf(out, "\\x%02x", p[at + (size_t)i]);
		else if (cp == '\n' || cp == '\t' || cp == '\r')
			bl_str_add(out, cp == '\n' ? "⏎" : cp == '\t' ? "⇥" : "␍");
		else
			bl_str_add(out, cp ? bl_printable(shown, sizeof shown, raw) : "\\x00");
		at += (size_t)size;
	}
}

int32_t bl_tokenizer_id(const struct bl_tokenizer *t, const char *token) { return bl_vocab_raw(&t->vocab, token, strlen(token)); }

bool bl_tokenizer_is_special(const struct bl_tokenizer *t, int32_t id) { return known(t, id) && t->vocab.t[id].special; }
