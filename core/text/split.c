/* SPDX-License-Identifier: Apache-2.0
 * Text into pieces: each step splits what the one before it gave, and nothing is kept: pieces go through one by one. Expressions run in PCRE2 with
 * its compiler, with bounds on steps, memory and time. */
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/text/private.h"

#define MATCH_LIMIT 10000000
#define HEAP_KIB    65536
#define STACK_BYTES (8u << 20)
#define PATTERN_BYTES 16384
#define GRACE_NS    2000000000u /* of the thread's own time; after this a text must go on with SLOWEST bytes per second */
#define SLOWEST     20000

enum bl_status bl_step_compile(struct bl_step *s, const char *pattern, size_t n, const char *where, struct bl_err *err)
{
	int code = 0;
	PCRE2_SIZE at = 0;
	PCRE2_UCHAR why[160];
	struct bl_str translated = {0};

	if (n > PATTERN_BYTES)
		return bl_fail(err, BL_INVALID, "%s: the pattern has %zu bytes, at most %d are allowed", where, n, PATTERN_BYTES);
	if (bl_pattern_translate(&translated, pattern, n, err)) {
		bl_str_free(&translated);
		return bl_err_prefix(err, "%s", where);
	}
	pcre2_compile_context *c = pcre2_compile_context_create(NULL);
	if (c) {
		pcre2_set_newline(c, PCRE2_NEWLINE_LF);
		pcre2_set_parens_nest_limit(c, 100);
		pcre2_set_max_pattern_length(c, 16 * PATTERN_BYTES);
	}
	s->code = pcre2_compile((PCRE2_SPTR)bl_str_c(&translated), translated.len, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
			&code, &at, c);
	pcre2_compile_context_free(c);
	bl_str_free(&translated);
	if (!s->code) {
		pcre2_get_error_message(code, why, sizeof why);
		return bl_fail(err, BL_INVALID, "%s: the pattern cannot be used: %s", where, (char *)why);
	}
	pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* without it the same comes out, only later */
	return BL_OK;
}

void bl_step_free(struct bl_step *s)
{
	pcre2_code_free(s->code);
	s->code = NULL;
}

void bl_split_work_free(struct bl_split_work *w)
{
	for (int i = 0; i < BL_STEPS_MAX; i++) {
		pcre2_match_data_free(w->data[i]);
		bl_str_free(&w->prefixed[i]);
	}
	pcre2_match_context_free(w->context);
	pcre2_jit_stack_free(w->stack);
	*w = (struct bl_split_work){0};
}

static enum bl_status prepare(const struct bl_step *steps, int n_steps, struct bl_split_work *w, struct bl_err *err)
{
	if (!w->context) {
		w->context = pcre2_match_context_create(NULL);
		w->stack = pcre2_jit_stack_create(32768, STACK_BYTES, NULL);
		if (!w->context || !w->stack)
			return bl_fail(err, BL_NO_MEMORY, "not enough memory for splitting text");
		pcre2_set_match_limit(w->context, MATCH_LIMIT);
		pcre2_set_heap_limit(w->context, HEAP_KIB);
		pcre2_jit_stack_assign(w->context, NULL, w->stack);
	}
	for (int i = 0; i < n_steps; i++)
		if (steps[i].code && !w->data[i] && !(w->data[i] = pcre2_match_data_create(1, NULL)))
			return bl_fail(err, BL_NO_MEMORY, "not enough memory for splitting text");
	w->started_ns = bl_thread_ns();
	w->pieces = w->bytes = 0;
	return BL_OK;
}

struct run {
	const struct bl_step *steps; int n_steps;
	struct bl_split_work *w;
	bl_piece_fn *fn; void *ctx;
	struct bl_err *err;
};

static void go(struct run *r, int at, const char *text, size_t n);

/* Elements come in order, matches and what is between them; the last one waits, because the next may join it. */
struct joiner { enum bl_behavior behavior; bool have, was_match; const char *text; size_t start, end; };

static void emit(struct run *r, int next, const struct joiner *j, size_t start, size_t end)
{
	if (end > start && !r->err->status)
		go(r, next, j->text + start, end - start);
}

static void element(struct run *r, int next, struct joiner *j, size_t start, size_t end, bool match)
{
	bool join = false;

	if (j->behavior == BL_REMOVED || j->behavior == BL_ISOLATED) {
		if (!match || j->behavior == BL_ISOLATED)
			emit(r, next, j, start, end);
		return;
	}
	if (j->have && j->behavior == BL_MERGED_PREVIOUS)
		join = match && !j->was_match;
	else if (j->have && j->behavior == BL_MERGED_NEXT)
		join = !match && j->was_match;
	else if (j->have)
		join = match == j->was_match;
	j->was_match = match;
	if (join) {
		j->end = end;
		return;
	}
	if (j->have)
		emit(r, next, j, j->start, j->end);
	j->have = true;
	j->start = start;
	j->end = end;
}

/* One more match for every few dozen bytes is honest; much time for little text is not. */
static bool too_slow(struct run *r, size_t bytes)
{
	struct bl_split_work *w = r->w;

	w->bytes += bytes;
	if (++w->pieces % 32)
		return false;
	uint64_t ns = bl_thread_ns() - w->started_ns;
	if (ns < GRACE_NS || (double)w->bytes > SLOWEST * ((double)ns / 1e9))
		return false;
	bl_fail(r->err, BL_INVALID, "the split pattern takes too long on this text");
	return true;
}

static void split_step(struct run *r, int at, const char *text, size_t n)
{
	const struct bl_step *s = &r->steps[at];
	pcre2_match_data *data = r->w->data[at];
	struct joiner j = {.behavior = s->behavior, .text = text};
	size_t prev = 0, from = 0;
	bool have_last = false;

	while (from <= n && !r->err->status) {
		int rc = pcre2_match(s->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, data, r->w->context);
		if (rc == PCRE2_ERROR_NOMATCH)
			break;
		if (rc < 0) {
			bl_fail(r->err, BL_INVALID, "the split pattern takes too long or too much memory on this text (PCRE2: %d)", rc);
			return;
		}
		const PCRE2_SIZE *range = pcre2_get_ovector_pointer(data);
		size_t start = range[0], end = range[1];
		if (start == end && have_last && end == prev) { /* nothing, right behind a match: one character further */
			uint32_t cp;
			from += from < n ? (size_t)bl_utf8_next((const uint8_t *)text + from, n - from, &cp) : 1;
			continue;
		}
		have_last = true;
		if (start > prev)
			element(r, at + 1, &j, prev, start, s->invert);
		element(r, at + 1, &j, start, end, !s->invert);
		if (too_slow(r, end - prev))
			return;
		prev = from = end;
	}
	if (prev < n)
		element(r, at + 1, &j, prev, n, s->invert);
	if (j.have)
		emit(r, at + 1, &j, j.start, j.end);
}

static void go(struct run *r, int at, const char *text, size_t n)
{
	if (at == r->n_steps) {
		r->fn(r->ctx, text, n);
		return;
	}
	if (r->steps[at].prefix_space && text[0] != ' ') {
		struct bl_str *b = &r->w->prefixed[at];
		bl_str_clear(b);
		bl_str_addc(b, ' ');
		bl_str_addn(b, text, n);
		text = b->s;
		n++;
	}
	if (r->steps[at].code)
		split_step(r, at, text, n);
	else
		go(r, at + 1, text, n);
}

enum bl_status bl_split(const struct bl_step *steps, int n_steps, struct bl_split_work *w, const char *text, size_t n, bl_piece_fn *fn, void *ctx,
			struct bl_err *err)
{
	struct run r = {steps, n_steps, w, fn, ctx, err};

	if (n && prepare(steps, n_steps, w, err) == BL_OK)
		go(&r, 0, text, n);
	return err->status;
}
