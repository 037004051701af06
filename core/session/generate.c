/* SPDX-License-Identifier: Apache-2.0
 * Text from a prompt. Pieces are handed on as soon as they end at a character. */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/session/run_private.h"
#include "core/text/tokenizer.h"

#define ENDS_MOST 16

struct talk {
	const struct bl_text_request *r;
	struct bl_tokenizer *t;   /* NULL: only numbers */
	int32_t ends[ENDS_MOST]; int n_ends;
	int32_t *ids; int64_t n;  /* new ones */
	struct bl_str text; size_t told;
	struct bl_err err;
};

/* eos_token_id of config.json: one number or several */
static void read_ends(struct talk *k, const struct bl_model *m)
{
	const cJSON *e = cJSON_GetObjectItemCaseSensitive(m->config.json, "eos_token_id");

	for (const cJSON *x = cJSON_IsArray(e) ? e->child : e; x && k->n_ends < ENDS_MOST; x = cJSON_IsArray(e) ? x->next : NULL)
		if (cJSON_IsNumber(x) && x->valuedouble >= 0 && x->valuedouble < INT32_MAX)
			k->ends[k->n_ends++] = (int32_t)x->valuedouble;
}

/* Bytes of text that end at a whole character. */
static size_t whole(const struct bl_str *text)
{
	size_t n = text->len, back = 0;

	while (back < 3 && back < n && ((unsigned char)text->s[n - 1 - back] & 0xc0) == 0x80)
		back++;
	if (back < n) {
		unsigned char lead = (unsigned char)text->s[n - 1 - back];
		size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
		if (need > back + 1)
			return n - 1 - back;
	}
	return n;
}

static bool hear(void *ctx, int32_t id)
{
	struct talk *k = ctx;
	bool end = false;

	for (int i = 0; i < k->n_ends; i++)
		end = end || k->ends[i] == id;
	k->ids[k->n++] = id;
	if (k->t && bl_tokenizer_decode(k->t, &id, 1, true, &k->text, &k->err))
		return false;
	if (k->t && k->r->piece && whole(&k->text) > k->told) {
		k->r->piece(k->r->ctx, k->text.s + k->told, whole(&k->text) - k->told);
		k->told = whole(&k->text);
	}
	if (k->r->at.progress)
		atomic_fetch_add(&k->r->at.progress->done_bytes, 1);
	return k->r->past_end || !end;
}

static enum bl_status prompt_ids(struct talk *k, const struct bl_model *m, struct bl_ids *ids, struct bl_err *err)
{
	int64_t rows, cols;
	struct bl_err ignored = BL_ERR_INIT;

	if (k->r->prompt) {
		if (bl_tokenizer_open(&k->t, m->dir, err))
			return err->status;
		return bl_tokenizer_encode(k->t, k->r->prompt, strlen(k->r->prompt), true, ids, err);
	}
	if (bl_ids_read(&ids->ids, &rows, &cols, k->r->ids, err))
		return err->status;
	if (rows != 1)
		return bl_fail(err, BL_INVALID, "%s: input_ids has %lld rows, generate goes on from one", k->r->ids, (long long)rows);
	ids->n = ids->cap = (size_t)cols;
	bl_tokenizer_open(&k->t, m->dir, &ignored); /* numbers are enough */
	return BL_OK;
}

enum bl_status bl_session_generate(struct bl_session *s, const struct bl_text_request *r, struct bl_text_report *out, struct bl_err *err)
{
	struct talk k = {.r = r};
	struct bl_place place = {.s = s};
	struct bl_ids ids = {NULL, 0, 0};
	uint64_t t0 = bl_now_ns();

	read_ends(&k, s->model);
	if (prompt_ids(&k, s->model, &ids, err) == BL_OK && bl_place_open(&place, s, &r->at, r->fp32, err) == BL_OK &&
	    bl_try_alloc(&k.ids, (size_t)r->tokens + 1, sizeof *k.ids, "new tokens", err) == BL_OK) {
		struct bl_generate_options o = {.n = r->tokens, .temperature = r->temperature, .top_p = r->top_p, .seed = r->seed};
		if (r->at.progress)
			atomic_store(&r->at.progress->total_bytes, (uint64_t)r->tokens);
		if (bl_generate(place.f, place.set.of ? &place.set : NULL, ids.ids, (int64_t)ids.n, &o, hear, &k, err) == BL_OK && k.err.status)
			*err = k.err;
	}
	if (err->status == BL_OK) {
		if (k.t && r->piece && k.text.len > k.told)
			r->piece(r->ctx, k.text.s + k.told, k.text.len - k.told);
		*out = (struct bl_text_report){.n_prompt = (int64_t)ids.n, .n = k.n, .ids = k.ids, .text = k.t ? bl_xstrdup(bl_str_c(&k.text)) : NULL,
					       .seconds = (double)(bl_now_ns() - t0) * 1e-9};
		snprintf(out->device, sizeof out->device, "%s", place.engine.name);
		k.ids = NULL;
	}
	bl_place_close(&place);
	bl_free(k.ids);
	bl_str_free(&k.text);
	bl_ids_free(&ids);
	bl_tokenizer_free(k.t);
	return err->status;
}
